"""Why a time is offered or is not, by the code that decides: the plan, the rules of booking, and who has the time."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from scheduler.errors import Invalid, NotBookable, Protected, SlotHeld, SlotTaken
from scheduler.models import Appointment, AppointmentType, Location, Slot, Status, Therapist
from scheduler.services import availability, consequences, practice
from scheduler.services.availability import SlotName
from scheduler.services.consequences import Imagined, Why
from scheduler.timeline import CELL, cell_of


class Reason(StrEnum):
    """What is said of a time; those of `Why` first, as far as a visit that is not booked can have them."""

    THERAPIST_GONE = Why.THERAPIST_GONE
    LOCATION_CLOSED = Why.LOCATION_CLOSED
    NOT_LICENSED = Why.NOT_LICENSED
    CLOSED_THEN = Why.CLOSED_THEN
    THERAPIST_OFF = Why.THERAPIST_OFF
    OUTSIDE_HOURS = Why.OUTSIDE_HOURS
    NOT_OFFERED = Why.NOT_OFFERED
    HOURS_TOO_SHORT = "hours-too-short"
    NOT_ONLINE = "not-online"
    TOO_SOON = "too-soon"
    TOO_LATE = "too-late"
    HELD = "held"
    TAKEN = "taken"
    TAKEN_SOON = "taken-soon"
    PROTECTED = "protected"
    NOT_PLANNED = "not-planned"
    OFFERED = "offered"


@dataclass(frozen=True, slots=True)
class Question:
    """A start of one therapist at one location, for a kind of visit; `by_staff` asks whether staff may book it."""

    start: SlotName
    appointment_type_id: int
    by_staff: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a time, until when the visit would need it, and what is in its way, if another visit is.

    `opens_at` is from when on a time that is kept back can be booked.
    """

    reason: Reason
    needed_until: datetime
    taken_from: datetime | None = None
    taken_until: datetime | None = None
    opens_at: datetime | None = None


def why(session: Session, question: Question, *, now: datetime) -> Verdict:
    """Say why a time is offered or is not; of several reasons the one that lasts longest.

    Raises Invalid for a kind of visit, a therapist or a location that there is not, and a start off the grid.
    """
    visit = _imagined(session, question)
    until = visit.ends_at + timedelta(minutes=visit.buffer_minutes)
    misfit = consequences.misfit(session, visit)
    if misfit is Why.OUTSIDE_HOURS and consequences.misfit(session, _shortest(visit)) is not Why.OUTSIDE_HOURS:
        return Verdict(Reason.HOURS_TOO_SHORT, until)
    if misfit is not None:
        return Verdict(Reason(misfit), until)
    if not question.by_staff and not session.get_one(Location, visit.location_id).open_online:
        return Verdict(Reason.NOT_ONLINE, until)
    return _too_near_or_far(session, visit, question, until, now) or _booked_or_not(
        session, visit, question, until, now
    )


def _too_near_or_far(
    session: Session, visit: Imagined, question: Question, until: datetime, now: datetime
) -> Verdict | None:
    """Asked before the cells: there are none of what has passed, nor beyond the horizon."""
    kind = session.get_one(AppointmentType, visit.appointment_type_id)
    earliest, latest = availability.bookable_within(practice.policy(session), kind, now, by_staff=question.by_staff)
    if earliest <= visit.starts_at <= latest:
        return None
    return Verdict(Reason.TOO_SOON if visit.starts_at < earliest else Reason.TOO_LATE, until)


def _booked_or_not(session: Session, visit: Imagined, question: Question, until: datetime, now: datetime) -> Verdict:
    """What booking says of a time that the plan has."""
    try:
        availability.require_bookable(
            session, str(question.start), question.appointment_type_id, now=now, by_staff=question.by_staff
        )
    except (SlotTaken, SlotHeld):
        return _taken(session, visit, until, now)
    except Protected:
        opens = visit.starts_at - timedelta(hours=practice.policy(session).access_goal_hours)
        return Verdict(Reason.PROTECTED, until, opens_at=opens)
    except (NotBookable, Invalid):  # no cell is there yet
        return Verdict(Reason.NOT_PLANNED, until)
    return Verdict(Reason.OFFERED, until)


def _taken(session: Session, visit: Imagined, until: datetime, now: datetime) -> Verdict:
    """The first other visit, or time that is held, within the time that this one would need."""
    other = session.scalars(
        select(Appointment)
        .join(Slot, Slot.appointment_id == Appointment.id)
        .where(Slot.therapist_id == visit.therapist_id, Slot.starts_at >= visit.starts_at, Slot.starts_at < until)
        .where(or_(Appointment.expires_at.is_(None), Appointment.expires_at > now))
        .order_by(Slot.starts_at)
        .limit(1)
    ).first()
    if other is None:
        return Verdict(Reason.NOT_PLANNED, until)
    if other.status == Status.HELD:
        return Verdict(Reason.HELD, until)
    reason = Reason.TAKEN if other.slots_start <= visit.starts_at else Reason.TAKEN_SOON
    return Verdict(reason, until, other.slots_start, other.slots_end)


def _imagined(session: Session, question: Question) -> Imagined:
    """The visit that somebody would book then."""
    kind = session.get(AppointmentType, question.appointment_type_id)
    therapist, location = (
        session.get(Therapist, question.start.therapist_id),
        session.get(Location, question.start.location_id),
    )
    for name, row in (("type", kind), ("therapist", therapist), ("location", location)):
        if row is None:
            raise Invalid(name, "There is nothing with this number.")
    if cell_of(question.start.starts_at) != question.start.starts_at:
        raise Invalid("at", "Times begin on the quarter hour, like 09:15.")
    assert kind is not None and therapist is not None and location is not None  # noqa: S101, PT018 see above
    return Imagined(
        therapist_id=therapist.id,
        location_id=location.id,
        appointment_type_id=kind.id,
        starts_at=question.start.starts_at,
        ends_at=question.start.starts_at + timedelta(minutes=kind.minutes),
        buffer_minutes=kind.buffer_minutes,
        includes_needling=kind.includes_needling,
        therapist_active=therapist.active,
        location_active=location.active,
        state=location.state,
        time_zone=location.time_zone,
    )


def _shortest(visit: Imagined) -> Imagined:
    """The same start, with no more than its own quarter hour."""
    return replace(visit, ends_at=visit.starts_at + CELL, buffer_minutes=0)
