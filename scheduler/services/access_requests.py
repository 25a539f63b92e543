"""What somebody new was offered when they booked, and what they took: the goal as patients meet it.

A row is written in the booking's own transaction, and never changed: it is about that moment.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scheduler.models import AccessQuestion, AccessRequest, Appointment
from scheduler.services import availability, practice
from scheduler.services.availability import Bookable
from scheduler.timeline import DAY, HOUR

PACE_DAYS = 28


@dataclass(frozen=True, slots=True)
class OnOffer:
    """Hours from a booking to the soonest start at its location and anywhere, and to the one that is taken."""

    here_hours: float
    anywhere_hours: float
    taken_hours: float
    goal_hours: int


@dataclass(frozen=True, slots=True)
class Met:
    """How new patients' bookings of a time met the goal. Counts; `took_later` were offered sooner and chose later.

    Offered is asked of the booking's own location, and of the whole clinic where it is about all of them.
    """

    booked: int = 0
    offered: int = 0
    took: int = 0
    took_later: int = 0

    def __add__(self, other: "Met") -> "Met":
        return Met(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Met)))

    @property
    def offer_rate(self) -> float | None:
        """The share that had a start within the goal on offer; None without bookings."""
        return self.offered / self.booked if self.booked else None

    @property
    def later_rate(self) -> float | None:
        """The share that was offered a start within the goal and chose a later one; None without bookings."""
        return self.took_later / self.booked if self.booked else None

    @property
    def realised(self) -> float | None:
        """The share that took a start within the goal; None without bookings."""
        return self.took / self.booked if self.booked else None


def on_offer(session: Session, start: Bookable, *, now: datetime) -> OnOffer | None:
    """What is on offer beside a start that is about to be taken; None for a kind that is not for new patients.

    To be asked before its cells are claimed. The start itself is on offer to whoever takes it, held by them or not.
    """
    if not start.kind.new_patient:
        return None
    _, openings = availability.soonest(session, start.kind.id, 1, now=now)
    first = {at.location.id: at.starts[0].starts_at for at in openings if at.starts}
    here = min(first.get(start.location.id, start.slot.starts_at), start.slot.starts_at)
    anywhere = min([here, *first.values()])
    hours = [_hours(instant, now) for instant in (here, anywhere, start.slot.starts_at)]
    return OnOffer(hours[0], hours[1], hours[2], start.policy.access_goal_hours)


def _hours(instant: datetime, now: datetime) -> float:
    """As the goal counts them: from the whole second, with two decimals."""
    return round((instant - now.replace(microsecond=0)) / HOUR, 2)


def note(session: Session, appointment: Appointment, offer: OnOffer | None) -> None:
    """Keep what was on offer when a visit was booked."""
    if offer is None:
        return
    session.add(
        AccessRequest(
            appointment_id=appointment.id,
            appointment_type_id=appointment.appointment_type_id,
            location_id=appointment.location_id,
            asked_at=appointment.booked_at,
            here_hours=offer.here_hours,
            anywhere_hours=offer.anywhere_hours,
            taken_hours=offer.taken_hours,
            goal_hours=offer.goal_hours,
        )
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """How many questions were asked, and at how many of their moments a start within the goal was on offer."""

    asked: int = 0
    offered: int = 0


def note_question(session: Session, location_id: int, *, now: datetime) -> None:
    """Keep what was on offer to somebody new when a question was asked; nothing where no kind of visit is for them."""
    kind = practice.goal_type(practice.appointment_types(session))
    if kind is None:
        return
    _, openings = availability.soonest(session, kind.id, 1, now=now)
    first = {at.location.id: at.starts[0].starts_at for at in openings if at.starts}
    here, anywhere = first.get(location_id), min(first.values(), default=None)
    session.add(
        AccessQuestion(
            appointment_type_id=kind.id,
            location_id=location_id,
            asked_at=now,
            here_hours=None if here is None else _hours(here, now),
            anywhere_hours=None if anywhere is None else _hours(anywhere, now),
            goal_hours=practice.policy(session).access_goal_hours,
        )
    )


def asked(session: Session, appointment_type_id: int, *, since: datetime, until: datetime) -> dict[int | None, Asked]:
    """What questions of (since, until] met, by location and, asked of the whole clinic, under None. One query."""
    row = AccessQuestion
    here, anywhere = (hours <= row.goal_hours for hours in (row.here_hours, row.anywhere_hours))
    counts = (
        select(row.location_id, func.count(), func.count().filter(here), func.count().filter(anywhere))
        .where(row.appointment_type_id == appointment_type_id, row.asked_at > since, row.asked_at <= until)
        .group_by(row.location_id)
    )
    found: dict[int | None, Asked] = {}
    number = offered_anywhere = 0
    for place, count, offered, anywhere_too in session.execute(counts):
        found[place] = Asked(count, offered)
        number, offered_anywhere = number + count, offered_anywhere + anywhere_too
    return found | {None: Asked(number, offered_anywhere)}


def met(session: Session, appointment_type_id: int, *, since: datetime, until: datetime) -> dict[int | None, Met]:
    """How the bookings made in (since, until] met the goal, by location and overall under None. One query."""
    row = AccessRequest
    here, anywhere, took = (hours <= row.goal_hours for hours in (row.here_hours, row.anywhere_hours, row.taken_hours))
    counts = (
        select(
            row.location_id,
            func.count(),
            func.count().filter(here),
            func.count().filter(anywhere),
            func.count().filter(took),
            func.count().filter(here, ~took),
            func.count().filter(anywhere, ~took),
        )
        .where(row.appointment_type_id == appointment_type_id, row.asked_at > since, row.asked_at <= until)
        .group_by(row.location_id)
    )
    found: dict[int | None, Met] = {}
    together = []
    for place, booked, offered, offered_anywhere, taken, later, later_anywhere in session.execute(counts):
        found[place] = Met(booked, offered, taken, later)
        together.append(Met(booked, offered_anywhere, taken, later_anywhere))
    return found | {None: _sum(together)}


def paces(session: Session, appointment_type_id: int, *, now: datetime) -> dict[int | None, float]:
    """How many visits of a kind new patients booked a day in the last PACE_DAYS, by location; 0 where none did."""
    made = met(session, appointment_type_id, since=now - PACE_DAYS * DAY, until=now)
    return defaultdict(float, {place: found.booked / PACE_DAYS for place, found in made.items()})


def _sum(each: Iterable[Met]) -> Met:
    return sum(each, start=Met())
