"""Visits as calendars know them (RFC 5545), by the icalendar library: one for a patient, many that a therapist follows.

A patient's visit has its times in UTC: a calendar shows them on its owner's clock, rightly in every hour. A therapist's
are local times with their zone, as calendars of working days are kept; but in the hour that an autumn night repeats, a
local time means the first, so the second is written in UTC. The zone is described here, from the same tables that all
else here uses: the library's own description began daylight time an hour late when tried.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from uuid import UUID

from icalendar import STATUS, Calendar, Event, Timezone, TimezoneDaylight, TimezoneStandard, vCalAddress

from scheduler.timeline import CELL, DAY, local_date, zone_of

REFRESH = timedelta(hours=1)  # how often calendar programs are asked to look; each does as it likes


@dataclass(frozen=True, slots=True)
class Invitation:
    """Who asks whom to note it, when it is sent as a message (RFC 5546): REQUEST, or CANCEL."""

    organizer: str
    organizer_name: str
    attendee: str
    cancelled: bool

    @property
    def method(self) -> str:
        return "CANCEL" if self.cancelled else "REQUEST"


@dataclass(frozen=True, slots=True)
class Entry:
    """A visit as calendars know it, in messages and on pages alike; `sequence` rises with every change of it.

    `sender` is the clinic's e-mail address, whose domain makes the visit's name one that nobody else gives. With a
    `time_zone` its times are local; `url` is a page about it.
    """

    visit_id: UUID
    sender: str
    sequence: int
    starts_at: datetime
    ends_at: datetime
    summary: str
    clinic: str
    place: str
    address: str
    phone: str
    time_zone: str | None = None
    url: str | None = None

    @property
    def uid(self) -> str:
        return f"{self.visit_id.hex}@{self.sender.partition('@')[2]}"


def sequence(visit_version: int, *, cancelled: bool = False) -> int:
    """How often a visit has changed, as calendars count (RFC 5546): two for each version, which may end cancelled."""
    return 2 * (visit_version - 1) + cancelled


def write(entry: Entry, invitation: Invitation | None, *, now: datetime) -> str:
    """One visit as a calendar of its own."""
    event = _event(entry, now, cancelled=invitation is not None and invitation.cancelled)
    calendar = _calendar()
    if invitation is not None:
        calendar.add("method", invitation.method)
        event.add("organizer", vCalAddress.new(invitation.organizer, cn=invitation.organizer_name))
        event.add("attendee", vCalAddress.new(invitation.attendee, partstat="ACCEPTED", rsvp=False))
    calendar.add_component(event)
    return str(calendar.to_ical().decode())


def write_several(entries: Iterable[Entry], *, now: datetime) -> str:
    """Visits that are confirmed together: published, since a request may be of one visit only (RFC 5546, 3.2.2)."""
    calendar = _calendar()
    calendar.add("method", "PUBLISH")
    for entry in entries:
        calendar.add_component(_event(entry, now, cancelled=False))
    return str(calendar.to_ical().decode())


def write_all(entries: Iterable[Entry], name: str, *, now: datetime) -> str:
    """Many visits as one calendar to follow, with every zone that is named in it."""
    calendar = _calendar()
    calendar.add("method", "PUBLISH")
    for title in ("name", "x-wr-calname"):  # RFC 7986, and what programs read that are older than it
        calendar.add(title, name)
    calendar.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    calendar.add("x-published-ttl", "PT1H")
    entries = list(entries)
    for zone in sorted({entry.time_zone for entry in entries if entry.time_zone is not None}):
        days = [local_date(entry.starts_at, zone_of(zone)) for entry in entries if entry.time_zone == zone]
        calendar.add_component(_described(zone, min(days), max(days)))
    for entry in entries:
        calendar.add_component(_event(entry, now, cancelled=False))
    return str(calendar.to_ical().decode())


def _calendar() -> Calendar:
    calendar = Calendar()
    calendar.add("prodid", "-//Scheduler//visits//EN")
    calendar.add("version", "2.0")
    return calendar


def _event(entry: Entry, now: datetime, *, cancelled: bool) -> Event:
    return Event.new(
        uid=entry.uid,
        sequence=entry.sequence,
        stamp=now,
        start=_on_the_wall(entry.starts_at, entry.time_zone),
        end=_on_the_wall(entry.ends_at, entry.time_zone),
        summary=entry.summary,
        location=f"{entry.place}, {entry.address}",
        description=f"{entry.clinic}, {entry.phone}",
        url=entry.url,
        status=STATUS.CANCELLED if cancelled else STATUS.CONFIRMED,
    )


def _on_the_wall(instant: datetime, zone: str | None) -> datetime:
    local = instant if zone is None else instant.astimezone(zone_of(zone))
    return instant if local.fold else local


@lru_cache(maxsize=64)
def _described(zone: str, first: date, last: date) -> Timezone:
    """The zone's rules for some days: how it stands before them, and every change of its clock in them."""
    begins = datetime.combine(first, time(), UTC) - 2 * DAY
    described = Timezone()
    described.add("tzid", zone)
    for instant in [begins, *_changes(zone, begins, datetime.combine(last, time(), UTC) + 2 * DAY)]:
        before, after = (moment.astimezone(zone_of(zone)) for moment in (instant - CELL, instant))
        rule = TimezoneDaylight() if after.dst() else TimezoneStandard()
        rule.add("dtstart", (before + CELL).replace(tzinfo=None))  # on the clock as it was until then
        rule.add("tzoffsetfrom", before.utcoffset())
        rule.add("tzoffsetto", after.utcoffset())
        rule.add("tzname", after.tzname())
        described.add_component(rule)
    return described


def _changes(zone: str, begins: datetime, ends: datetime) -> Iterator[datetime]:
    """Every instant in (begins, ends] from which the zone has another offset: on a whole quarter hour everywhere."""
    while begins < ends:
        if _offset(begins, zone) != _offset(begins + DAY, zone):
            quarters = (begins + number * CELL for number in range(1, DAY // CELL + 1))
            yield from (at for at in quarters if _offset(at, zone) != _offset(at - CELL, zone))
        begins += DAY


def _offset(instant: datetime, zone: str) -> timedelta | None:
    return instant.astimezone(zone_of(zone)).utcoffset()
