"""A visit for the patient's own calendar (RFC 5545), by the icalendar library.

Times are UTC: a calendar shows them on its owner's clock, rightly in every hour. A local time with its zone cannot tell
the two hours of an autumn night apart, and the library's VTIMEZONE began daylight time an hour late when tried.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from icalendar import STATUS, Calendar, Event, vCalAddress


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

    `sender` is the clinic's e-mail address, whose domain makes the visit's name one that nobody else gives.
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

    @property
    def uid(self) -> str:
        return f"{self.visit_id.hex}@{self.sender.partition('@')[2]}"


def write(entry: Entry, invitation: Invitation | None, *, now: datetime) -> str:
    """One visit as a calendar of its own."""
    event = Event.new(
        uid=entry.uid,
        sequence=entry.sequence,
        stamp=now,
        start=entry.starts_at,
        end=entry.ends_at,
        summary=entry.summary,
        location=f"{entry.place}, {entry.address}",
        description=f"{entry.clinic}, {entry.phone}",
        status=STATUS.CANCELLED if invitation is not None and invitation.cancelled else STATUS.CONFIRMED,
    )
    calendar = Calendar()
    calendar.add("prodid", "-//Scheduler//visits//EN")
    calendar.add("version", "2.0")
    if invitation is not None:
        calendar.add("method", invitation.method)
        event.add("organizer", vCalAddress.new(invitation.organizer, cn=invitation.organizer_name))
        event.add("attendee", vCalAddress.new(invitation.attendee, partstat="ACCEPTED", rsvp=False))
    calendar.add_component(event)
    return str(calendar.to_ical().decode())
