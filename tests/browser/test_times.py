"""A time is told in the location's zone and the reader's language, in the same words everywhere, whatever the browser.

The words are written out here a second time, from what the API answers.
"""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor

WEEKDAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
}
MONTHS = {
    "en": (
        "January", "February", "March", "April", "May", "June",
        "July", "August", "September", "October", "November", "December",
    ),
    "es": (
        "enero", "febrero", "marzo", "abril", "mayo", "junio",
        "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre",
    ),
}  # fmt: skip
HALVES = {"en": ("AM", "PM"), "es": ("a.\N{NO-BREAK SPACE}m.", "p.\N{NO-BREAK SPACE}m.")}
CLOCKS = {  # by zone and whether it is summer time
    ("America/Chicago", False): {"en": "Central Standard Time", "es": "hora estándar central"},
    ("America/Chicago", True): {"en": "Central Daylight Time", "es": "hora de verano central"},
    ("America/Denver", False): {"en": "Mountain Standard Time", "es": "hora estándar de las Montañas Rocosas"},
    ("America/Denver", True): {"en": "Mountain Daylight Time", "es": "hora de verano de las Montañas Rocosas"},
    ("America/Phoenix", False): {"en": "Mountain Standard Time", "es": "hora estándar de las Montañas Rocosas"},
}


@pytest.mark.parametrize(
    ("zone", "accepts", "language"),
    [
        ("UTC", "en", "en"),
        ("America/Los_Angeles", "fr;q=0.9,es;q=0.5", "es"),
        ("Europe/Berlin", "de", "en"),
        ("Europe/Berlin", "fr;q=0.9,es;q=0.5", "es"),
    ],
)
def test_a_time_reads_the_same_from_the_first_page_to_the_confirmation(
    visit: Visit, zone: str, accepts: str, language: str
) -> None:
    with visit(accepts=accepts, zone=zone, language=language) as patient:
        patient.opens("/")
        patient.reads("How soon can we see you?")
        start = in_api(patient, patient.slot())
        label = words_for(start, language)
        assert patient.time() == label
        patient.presses("Schedule an appointment")
        patient.reads("Choose a time")
        patient.follows(patient.page.locator(".times a", has_text=f"{hour(start, language)}, {label}"))
        patient.reads("Your details")
        assert patient.time() == label
        patient.introduces_themselves()
        patient.presses("Continue")
        patient.reads("Is this right?")
        assert patient.time() == label
        patient.presses("Book this visit")
        patient.reads("Your visit is booked")
        assert patient.time() == label
        assert patient.visit()["start"] == start["start"]


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("location", ["1", "2", "3", "4"])
def test_a_clinic_tells_its_times_in_its_own_zone(visit: Visit, location: str, language: str) -> None:
    with visit(language=language, zone="Europe/Berlin") as patient:
        patient.opens(f"/book?location={location}")
        shown = patient.page.locator(".times a").evaluate_all(
            "links => links.map(link => link.textContent.trim().replace(/[ \\n]+/g, ' '))"
        )
        moments = {item["start"]: item for item in slots(patient, location=location)}.values()
        offered = [f"{hour(start, language)}, {words_for(start, language)}" for start in moments]
        assert len(shown) >= 50
        assert shown == offered[: len(shown)]


def test_nothing_in_the_address_makes_the_link_to_the_other_language_fail(visit: Visit) -> None:
    with visit() as patient:
        for odd in ("endpoint=x", "_method=PUT", "_scheme=javascript&_external=1", "values=1", "lang=xx"):
            assert patient.opens(f"/book?{odd}").status == 200
            address = patient.page.get_by_role("link", name="Español").get_attribute("href") or ""
            assert address.startswith("/book?")
            assert address.endswith("lang=es")


def slots(visitor: Visitor, **wanted: str) -> Any:  # noqa: ANN401 JSON
    with visitor.server.client() as client:
        return client.get("/api/v1/slots", params={"appointment_type": "1", "limit": "200", **wanted}).json()["items"]


def in_api(visitor: Visitor, slot: str) -> dict[str, Any]:
    return next(item for item in slots(visitor) if item["id"] == slot)


def there(start: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(start["start"]).astimezone(ZoneInfo(start["location"]["time_zone"]))


def hour(start: dict[str, Any], language: str) -> str:
    at = there(start)
    return f"{at.hour % 12 or 12}:{at.minute:02d} {HALVES[language][at.hour // 12]}"


def words_for(start: dict[str, Any], language: str) -> str:
    """The label of a start: weekday, date, time, zone and place."""
    at, place = there(start), start["location"]
    weekday, month = WEEKDAYS[language][at.weekday()], MONTHS[language][at.month - 1]
    day = {"en": f"{weekday}, {month} {at.day}", "es": f"{weekday} {at.day} de {month}"}[language]
    clock = CLOCKS[place["time_zone"], bool(at.dst())][language]
    pause = {"en": "", "es": ","}[language]
    return f"{day}, {hour(start, language)}{pause} {clock}, {place['name']}"
