"""Calendars that programs follow: every visit at its instant, whichever tables of zones its reader trusts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import icalendar
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from icalendar import Component

from scheduler import calendars
from scheduler.calendars import Entry
from scheduler.timeline import CELL
from tests.clinic import at

NOW = at("2026-11-23T15:00:00+00:00")
ZONES = ("America/Chicago", "America/Denver", "America/Phoenix", "America/New_York", "Pacific/Guam", "America/Adak")
ENTRY = Entry(
    visit_id=UUID(int=1),
    sender="clinic@example.com",
    sequence=0,
    starts_at=NOW,
    ends_at=NOW + timedelta(hours=1),
    summary="Physical therapy visit",
    clinic="Clinic, a; b",
    place="Springfield",
    address="1 Main Street",
    phone="+1 555 0100",
    time_zone="America/Chicago",
    url="https://clinic.example/staff/visits/1",
)


def parsed(*entries: Entry) -> icalendar.Calendar:
    return icalendar.Calendar.from_ical(calendars.write_all(entries, "Visits", now=NOW))


def by_own_words(calendar: icalendar.Calendar, event: Component, name: str) -> datetime:
    """A time of an event by the zones that the calendar itself describes, whatever else is known of them."""
    written: Any = event[name]
    zone = written.params.get("TZID")
    wall: datetime = written.dt
    described = {str(one["TZID"]): one.to_tz(lookup_tzid=False) for one in calendar.timezones}
    return (wall.replace(tzinfo=described[zone]) if zone in described else wall).astimezone(UTC)


def utc(instant: Any) -> datetime:  # noqa: ANN401 as the library types it
    """Two times of one zone are equal as they stand on the wall, so comparisons need another."""
    result: datetime = instant.astimezone(UTC)
    return result


@pytest.mark.parametrize(
    "start",
    [
        "2027-03-14T07:45:00+00:00",  # a quarter hour before Chicago's clocks go forward
        "2027-03-14T08:00:00+00:00",
        "2027-03-14T08:15:00+00:00",
        "2026-11-01T06:30:00+00:00",  # half past one, the first time
        "2026-11-01T07:30:00+00:00",  # and the second
        "2026-11-01T08:00:00+00:00",
        "2027-07-01T12:00:00+00:00",
    ],
)
def test_a_visit_is_at_its_instant_however_the_clocks_change(start: str) -> None:
    instant = at(start)
    calendar = parsed(replace(ENTRY, starts_at=instant, ends_at=instant + timedelta(hours=1)))
    (event,) = calendar.events
    assert by_own_words(calendar, event, "DTSTART") == utc(event.start) == instant
    assert by_own_words(calendar, event, "DTEND") == utc(event.end) == instant + timedelta(hours=1)


@given(
    quarters=st.lists(st.integers(0, 4 * 24 * 400), min_size=1, max_size=8),
    zones=st.lists(st.sampled_from(ZONES), min_size=8, max_size=8),
)
@hypothesis_settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_every_visit_of_any_calendar_is_at_its_instant(quarters: list[int], zones: list[str]) -> None:
    starts = [NOW + number * CELL for number in quarters]
    entries = [
        replace(ENTRY, visit_id=UUID(int=number), starts_at=start, ends_at=start + timedelta(hours=1), time_zone=zone)
        for number, (start, zone) in enumerate(zip(starts, zones, strict=False))
    ]
    calendar = parsed(*entries)
    assert [by_own_words(calendar, event, "DTSTART") for event in calendar.events] == starts
    assert len(calendar.timezones) == len({entry.time_zone for entry in entries})


def test_times_are_written_on_the_wall_clock_of_their_location() -> None:
    text = calendars.write_all([ENTRY], "Visits", now=NOW)
    assert "DTSTART;TZID=America/Chicago:20261123T090000\r\n" in text
    assert "TZID:America/Chicago\r\nBEGIN:STANDARD\r\n" in text


def test_a_calendar_without_visits_is_one() -> None:
    calendar = parsed()
    assert (calendar.events, calendar.timezones) == ([], [])
    assert calendar["X-WR-CALNAME"] == "Visits"
