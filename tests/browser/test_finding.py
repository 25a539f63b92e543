"""Finding a time by what one wishes: filters and the days with times, with a script and without, narrow and wide."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no-javascript"])
def test_times_are_found_by_part_of_the_day_weekday_and_day(visit: Visit, width: int, javascript: bool) -> None:
    with visit(width=width, javascript=javascript) as patient:
        patient.opens("/book")
        patient.page.locator("summary").click()
        patient.page.get_by_label("Time of day").select_option("afternoon")
        patient.page.get_by_label("Tuesday", exact=True).check()
        patient.page.get_by_label("Friday", exact=True).check()
        patient.presses("Show times")
        patient.reads("Choose a time")
        asked = {"day_part": ["afternoon"], "weekday": ["tuesday", "friday"]}
        assert wished(patient) == asked
        assert patient.page.get_by_label("Friday", exact=True).is_checked()
        assert {at.split(":")[0] for at in hours(patient)} <= {"12", "1", "2", "3", "4"}
        table = patient.page.locator("table.strip")
        (day, says) = table.locator("a").last.inner_text().split("\n")[0], table.locator("a").last.text_content() or ""
        assert says.endswith(": has times")
        assert "Friday" in says or "Tuesday" in says
        patient.follows(table.locator("a").last)
        patient.reads("Choose a time")
        assert {name: value for name, value in wished(patient).items() if name != "from"} == asked
        first = patient.page.locator(".day h2").first.inner_text()
        assert first in says
        assert day.split()[-1] in first
        assert patient.page.locator("table.strip a[aria-current=date]").count() == 1


def test_days_without_times_are_told_and_lead_nowhere(visit: Visit) -> None:
    with visit() as patient:
        patient.opens("/book?weekday=sunday")
        table = patient.page.locator("table.strip")
        assert table.locator("a").count() == 0
        assert table.locator(".none", has_text="no times").count() > 20
        patient.presses("Later days")
        patient.reads("Choose a time")
        assert wished(patient)["weekday"] == ["sunday"]


def wished(patient: Visitor) -> dict[str, list[str]]:
    """The filters in the address."""
    return {name: value for name, value in parse_qs(urlsplit(patient.page.url).query).items() if name not in FIXED}


def hours(patient: Visitor) -> list[str]:
    return patient.page.locator(".times time").all_inner_texts()


FIXED = {"type", "location", "therapist", "lang"}
