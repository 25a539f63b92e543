"""Bookings of staff against a rule of the calendar: which rules yield to a reason, and the record of who and why.

Hours, closures, time off, what is kept back for short notice, and how far the calendar is made yield. Licences, state
rules, who offers what, other visits and the past do not (docs/decisions/0023-series.md).
"""

from datetime import datetime

from sqlalchemy import String, cast, exists, literal, or_, select
from sqlalchemy.orm import Session

from scheduler.errors import Invalid, NotBookable, NotLicensed, NotOffered, SlotHeld, SlotTaken, TooLate, TooSoon
from scheduler.keys import Keyring
from scheduler.models import Account, Appointment, AppointmentType, Location, Override, Slot, Therapist
from scheduler.services import audit, availability, practice, reasons
from scheduler.services.audit import Actor
from scheduler.services.availability import REFUSALS, Bookable, SlotName
from scheduler.services.reasons import Question, Reason, Verdict

YIELDING = frozenset({
    Reason.OUTSIDE_HOURS,
    Reason.HOURS_TOO_SHORT,
    Reason.CLOSED_THEN,
    Reason.THERAPIST_OFF,
    Reason.NOT_PLANNED,
    Reason.PROTECTED,
})  # fmt: skip
UNYIELDING: dict[Reason, type[NotBookable]] = {
    Reason.THERAPIST_GONE: NotOffered,
    Reason.LOCATION_CLOSED: NotOffered,
    Reason.NOT_OFFERED: NotOffered,
    Reason.NOT_LICENSED: NotLicensed,
    Reason.TOO_SOON: TooSoon,
    Reason.TOO_LATE: TooLate,
    Reason.HELD: SlotHeld,
    Reason.TAKEN: SlotTaken,
    Reason.TAKEN_SOON: SlotTaken,
}


def require(
    session: Session, slot_id: str, appointment_type_id: int, *, now: datetime
) -> tuple[Bookable, Verdict | None]:
    """A start that staff may book with a reason, and the rule that it is against; None for one that is against none.

    Any start on the grid has an id, whether it is in the plan or not. Raises a NotBookable for what no reason helps
    against, Invalid for an unknown slot, type, therapist or location.
    """
    name = SlotName.parse(slot_id)
    verdict = reasons.why(session, Question(name, appointment_type_id, by_staff=True), now=now)
    kind = session.get_one(AppointmentType, appointment_type_id)
    if not kind.active:
        raise Invalid("appointment_type", "There is no appointment type with this id.")
    policy = practice.policy(session)
    earliest, latest = availability.bookable_within(policy, kind, now, by_staff=True)
    refusal = UNYIELDING.get(verdict.reason)
    if refusal is None and not earliest <= name.starts_at <= latest:
        refusal = TooSoon if name.starts_at < earliest else TooLate
    if refusal is None and not practice.offering(session).allows(kind.id, name.therapist_id, name.location_id):
        refusal = NotOffered
    if refusal is None and _meets_another(session, name, verdict.needed_until, now):
        refusal = SlotTaken
    if refusal is not None:
        raise refusal(REFUSALS[refusal])
    therapist, location = session.get_one(Therapist, name.therapist_id), session.get_one(Location, name.location_id)
    return Bookable(name, kind, policy, location, therapist), verdict if verdict.reason in YIELDING else None


def note(
    session: Session, visit: Appointment, rule: Reason, reason: str, *, by: Actor, keys: Keyring, now: datetime
) -> None:
    """Keep that a visit was booked against a rule, by whom and why. The audit names the rule, never the words."""
    sealed = keys.seal(reason)
    assert sealed is not None  # noqa: S101 there is a reason
    session.add(Override(appointment_id=visit.id, rule=rule, reason_sealed=sealed, used_by=by.name))
    audit.record(session, "appointment.overridden", visit, by=by, now=now, rule=rule, fields="reason")


def of(session: Session, visit: Appointment) -> tuple[Override, str | None] | None:
    """Which rule a visit was booked against and why, with the name of whoever did it; None for most visits."""
    account = Override.used_by == literal("account:") + cast(Account.id, String)
    found = select(Override, Account.name).outerjoin(Account, account).where(Override.appointment_id == visit.id)
    row = session.execute(found).one_or_none()
    return None if row is None else (row[0], row[1])


def _meets_another(session: Session, name: SlotName, until: datetime, now: datetime) -> bool:
    """Whether anybody else has any of the time, at whichever location; a hold that has expired has none."""
    other = exists().where(
        Slot.therapist_id == name.therapist_id,
        Slot.starts_at >= name.starts_at,
        Slot.starts_at < until,
        Slot.appointment_id == Appointment.id,
        or_(Appointment.expires_at.is_(None), Appointment.expires_at > now),
    )
    return session.execute(select(other)).scalar_one()
