"""A visit for the patient's own calendar (RFC 5545), by the icalendar library.

Times are UTC: a calendar shows them on its owner's clock, rightly in every hour. A local time with its zone cannot tell
the two hours of an autumn night apart, and the library's VTIMEZONE began daylight time an hour late when tried.
"""

from dataclasses import dataclass
from datetime import datetime

from icalendar import STATUS, Calendar, Event, vCalAddress


@dataclass(frozen=True, slots=True)
class Invitation:
    """A visit that somebody is asked to note, or to strike out. `uid` stays; `sequence` rises with every change."""

    uid: str
    sequence: int
    cancelled: bool
    organizer: str
    organizer_name: str
    attendee: str
    starts_at: datetime
    ends_at: datetime
    summary: str
    location: str
    description: str

    @property
    def method(self) -> str:
        return "CANCEL" if self.cancelled else "REQUEST"


def write(invitation: Invitation, *, now: datetime) -> str:
    """One visit as a calendar of its own, to be sent as a message (RFC 5546)."""
    event = Event.new(
        uid=invitation.uid,
        sequence=invitation.sequence,
        stamp=now,
        start=invitation.starts_at,
        end=invitation.ends_at,
        summary=invitation.summary,
        location=invitation.location,
        description=invitation.description,
        status=STATUS.CANCELLED if invitation.cancelled else STATUS.CONFIRMED,
        organizer=vCalAddress.new(invitation.organizer, cn=invitation.organizer_name),
        attendees=[vCalAddress.new(invitation.attendee, partstat="ACCEPTED", rsvp=False)],
    )
    calendar = Calendar()
    for name, value in {"prodid": "-//Scheduler//visits//EN", "version": "2.0", "method": invitation.method}.items():
        calendar.add(name, value)
    calendar.add_component(event)
    return str(calendar.to_ical().decode())
