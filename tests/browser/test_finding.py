"""Finding a time by what one wishes: filters and the days with times, with a script and without, narrow and wide."""

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import ViewportSize

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


@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no-javascript"])
def test_the_calendar_is_turned_on_and_back(visit: Visit, javascript: bool) -> None:
    with visit(width=375, javascript=javascript) as patient:
        patient.opens("/book")
        table = patient.page.locator("table.strip")
        first = table.locator("a").first.text_content()
        assert patient.control("Earlier days").count() == 0
        patient.presses("Later days")
        assert table.locator("a").first.text_content() != first
        patient.presses("Earlier days")
        assert table.locator("a").first.text_content() == first
        assert patient.control("Earlier days").count() == 0


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no-javascript"])
def test_a_phone_shows_times_at_once_and_after_each_choice(visit: Visit, language: str, javascript: bool) -> None:
    with visit(language=language, width=375, javascript=javascript) as patient:
        patient.page.set_viewport_size(PHONE)
        patient.opens("/book")
        assert first_time(patient) < PHONE["height"]
        patient.page.locator("summary").click()
        days = [box["y"] for one in patient.page.locator(".weekdays .form-check").all() if (box := one.bounding_box())]
        assert (len(days), len(set(days))) == (7, 2)  # in two rows
        patient.field("Time of day").select_option("morning")
        patient.page.locator("#friday").check()
        patient.presses("Show times")
        patient.reads("Choose a time")
        assert not patient.page.locator("#day_part").is_visible()
        assert first_time(patient) < PHONE["height"] / 3
        patient.follows(patient.page.locator("table.strip a").nth(1))
        patient.reads("Choose a time")
        assert first_time(patient) < PHONE["height"] / 3
        patient.page.evaluate("scrollTo(0, 0)")
        assert first_time(patient) < PHONE["height"] * 1.2  # a short scroll away


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no-javascript"])
def test_who_speaks_a_language_is_found_and_stays_wished(visit: Visit, width: int, javascript: bool) -> None:
    with visit(width=width, javascript=javascript) as patient:
        patient.opens("/book")
        patient.page.locator("summary").click()
        patient.page.get_by_label("Language of the therapist").select_option(label="Spanish")
        patient.presses("Show times")
        patient.reads("Choose a time")
        assert "Spanish" in patient.page.locator("summary").inner_text()
        patient.follows(patient.page.locator(".times a").first)
        patient.reads("Your details")
        patient.presses("another time")
        patient.reads("Choose a time")
        assert wished(patient) == {"language": ["es"]}


def first_time(patient: Visitor) -> float:
    """How far below the upper edge of the screen the first time that can be pressed stands."""
    box = patient.page.locator(".times a").first.bounding_box()
    assert box is not None
    return box["y"]


def wished(patient: Visitor) -> dict[str, list[str]]:
    """The filters in the address."""
    return {name: value for name, value in parse_qs(urlsplit(patient.page.url).query).items() if name not in FIXED}


def hours(patient: Visitor) -> list[str]:
    return patient.page.locator(".times time").all_inner_texts()


PHONE: ViewportSize = {"width": 375, "height": 740}
FIXED = {"type", "location", "therapist", "lang"}
