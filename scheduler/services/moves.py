"""Moving a visit to another time, therapist or place that offers its kind. The caller owns the transaction.

All of it happens or nothing does: for everybody else the old time is free and the new one taken at the same moment
(docs/decisions/0021-moving-a-visit.md).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from scheduler.errors import Invalid, SlotTaken, VisitClosed
from scheduler.keys import Keyring
from scheduler.models import Appointment, Patient, Status
from scheduler.services import (
    audit,
    availability,
    booking,
    holds,
    licensing,
    limits,
    notices,
    practice,
    reminders,
    slots,
)
from scheduler.services.audit import PATIENT, Actor
from scheduler.services.availability import Bookable, SlotName
from scheduler.services.booking import Visit
from scheduler.services.holds import Keeper
from scheduler.timeline import local_date, zone_of


@dataclass(frozen=True, slots=True)
class MoveVisit:
    """A patient's request. `address` is of the network, hashed already; None where moves are not limited."""

    slot_id: str
    address: str | None = None
    keeper: Keeper = holds.NOBODY


def move(session: Session, token: str, request: MoveVisit, *, keys: Keyring, now: datetime) -> Visit:
    """Give the visit of a link another start; one that it has already changes nothing. The link stays the same.

    What the patient held is given up for it. Raises Invalid for an unknown slot, a NotBookable when the rules or the
    race say no, VisitClosed for a visit that is not to come, TooMany for an address that moves without end.
    """
    visit = booking.view(session, token, keys=keys)
    if _moved(session, visit.appointment, request.slot_id, request.keeper, by=PATIENT, now=now):
        _tell(session, visit.appointment, by=PATIENT, now=now)
        if request.address is not None:  # last, since it locks the address's row until the end
            limits.count_booking(session, request.address, now=now)
    return visit


def move_for(
    session: Session, appointment: Appointment, slot_id: str, *, by: Actor, keys: Keyring, now: datetime
) -> Visit:
    """The same by staff: inside the notice too, at places not open online too, by the same claim.

    Where the patient is mailed of it they get a new link, and the old one says so; else theirs stays as it is.
    """
    if _moved(session, appointment, slot_id, holds.NOBODY, by=by, now=now):
        _renew_link(session, appointment, keys)
        _tell(session, appointment, by=by, now=now)
    return booking.of(session, appointment, keys=keys)


def bring_back(session: Session, appointment: Appointment, *, by: Actor, keys: Keyring, now: datetime) -> Visit:
    """Take back that a visit was cancelled, if its time is still free; one that is booked already stays as it is.

    It is told like a new booking, with a new link where that is mailed. Raises VisitClosed where `can_bring_back` says
    no, a NotBookable when the rules or the race do.
    """
    booking.lock(session, appointment)
    if appointment.status == Status.BOOKED:
        return booking.of(session, appointment, keys=keys)
    if not can_bring_back(appointment, now=now):
        raise VisitClosed("A cancellation can be taken back on its own day, before the visit would begin.")
    slot_id = str(SlotName(appointment.therapist_id, appointment.location_id, appointment.starts_at))
    with session.begin_nested():
        holds.take(session, slot_id, holds.NOBODY, now=now)
        try:
            start = _bookable(session, appointment, slot_id, None, by_staff=True, now=now)
        except Invalid as error:  # it has left the plan, or never was in it
            raise SlotTaken("This time is not in the calendar any more.") from error
        appointment.status, appointment.cancelled_at, appointment.cancelled_late = Status.BOOKED, None, False
        appointment.cancel_reason_sealed = None
        _take(session, appointment, start, now)
    _renew_link(session, appointment, keys)
    patient = session.get_one(Patient, appointment.patient_id)
    reminders.brought_back(session, appointment, patient, start.policy, now=now)
    if not reminders.silent(session, appointment):
        notices.day_changed(session, appointment, by=by, now=now)
    audit.record(session, "appointment.brought_back", appointment, by=by, now=now)
    return booking.of(session, appointment, keys=keys)


def can_bring_back(appointment: Appointment, *, now: datetime) -> bool:
    """Whether a visit was cancelled on this day of its location, and is still to come."""
    if appointment.cancelled_at is None or appointment.starts_at <= now:
        return False
    zone = zone_of(appointment.location.time_zone)
    return local_date(appointment.cancelled_at, zone) == local_date(now, zone)


def _renew_link(session: Session, appointment: Appointment, keys: Keyring) -> None:
    """Give the visit a new link where the patient is mailed it: the old one says that it was."""
    patient = session.get_one(Patient, appointment.patient_id)
    if patient.email is not None and not reminders.silent(session, appointment):
        appointment.link_generation += 1
        booking.add_link(session, appointment, keys)
        session.flush()


def _moved(
    session: Session, appointment: Appointment, slot_id: str, keeper: Keeper, *, by: Actor, now: datetime
) -> bool:
    """Whether the visit has another start now. Whatever is raised, it keeps the one that it had."""
    name = SlotName.parse(slot_id)
    booking.lock(session, appointment)
    booking.require_ahead(appointment, now=now)
    before = SlotName(appointment.therapist_id, appointment.location_id, appointment.starts_at)
    if name == before:
        return False
    with session.begin_nested():
        held = holds.take(session, slot_id, keeper, beside=[before.therapist_id], now=now)
        if not reminders.silent(session, appointment):
            notices.day_changed(session, appointment, by=by, now=now)
        slots.free(session, appointment, now=now)
        start = _bookable(session, appointment, slot_id, held, by_staff=by != PATIENT, now=now)
        _take(session, appointment, start, now)
    audit.record(session, "appointment.moved", appointment, by=by, now=now, **_told(before, name))
    return True


def _bookable(
    session: Session, appointment: Appointment, slot_id: str, held: Appointment | None, *, by_staff: bool, now: datetime
) -> Bookable:
    """Ask the rules of search for the new start. The visit's own time is free by now, so it may overlap it."""
    kind_id = appointment.appointment_type_id
    try:
        start = availability.require_bookable(session, slot_id, kind_id, now=now, by_staff=by_staff, held=held)
    except Invalid as error:
        if error.field == "appointment_type":
            raise VisitClosed("This kind of visit is not offered any more; please call the clinic.") from error
        raise
    needling = start.kind.includes_needling
    licensing.require_license(session, start.therapist.id, start.location.state, needling=needling, on=start.local_date)
    return start


def _take(session: Session, appointment: Appointment, start: Bookable, now: datetime) -> None:
    """Write the new start and claim its cells: the database decides."""
    appointment.therapist, appointment.therapist_id = start.therapist, start.therapist.id
    appointment.location, appointment.location_id = start.location, start.location.id
    appointment.starts_at, appointment.ends_at = start.slot.starts_at, start.ends_at
    appointment.buffer_minutes = start.kind.buffer_minutes
    appointment.visit_version += 1
    session.flush()
    slots.claim(session, appointment, release=availability.release(start.policy, now))


def _tell(session: Session, appointment: Appointment, *, by: Actor, now: datetime) -> None:
    """Owe the patient, and whoever treats them now, the word of it."""
    patient = session.get_one(Patient, appointment.patient_id)
    session.flush()
    reminders.moved(session, appointment, patient, practice.policy(session), now=now)
    if not reminders.silent(session, appointment):
        notices.day_changed(session, appointment, by=by, now=now)


def _told(before: SlotName, after: SlotName) -> dict[str, Any]:
    """What of the start is another now, before and after, as audit rows keep it."""
    told = {"starts_at": [before.starts_at.isoformat(), after.starts_at.isoformat()]}
    ids = {
        "therapist_id": [before.therapist_id, after.therapist_id],
        "location_id": [before.location_id, after.location_id],
    }
    return told | {field: both for field, both in ids.items() if both[0] != both[1]}
