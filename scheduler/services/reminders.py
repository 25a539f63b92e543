"""Which messages a visit owes, decided in the transaction that changes the visit."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, insert, select, update
from sqlalchemy.orm import Session

from scheduler.db import database_now
from scheduler.models import Appointment, Channel, ClinicPolicy, Fate, Kind, OutboxMessage, Patient, Status
from scheduler.timeline import MINUTE

OFFSET = re.compile(r"(email|sms):([1-9][0-9]{0,3})h")
QUIET_AFTER_CONFIRMATION = timedelta(hours=12)
IMPORTED, TAKEN_OVER = "imported", "merged"  # why somebody was not told


@dataclass(frozen=True, slots=True)
class Began:
    """What came of beginning to remind: of how many visits, and how many messages are owed now."""

    visits: int
    messages: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """What beginning to remind now would come to: how many patients get how many messages, the first of them when."""

    patients: int
    messages: int
    first: datetime | None


def plan(
    session: Session,
    appointment: Appointment,
    patient: Patient,
    policy: ClinicPolicy,
    *,
    now: datetime,
    confirm_after: timedelta = timedelta(),
) -> None:
    """Owe the confirmation, by then, and every reminder that can still be useful.

    A reminder is due a true length of time before the visit, whatever the clocks do in between. One whose time has
    passed, or that would follow the confirmation within 12 hours, is not owed. SMS owes nothing until it is configured.
    """
    if patient.email is None:
        return
    _owe(session, appointment, Kind.CONFIRMATION, due_at=now + confirm_after, now=now)
    _owe_later(session, appointment, patient, policy, now=now)


def moved(session: Session, appointment: Appointment, patient: Patient, policy: ClinicPolicy, *, now: datetime) -> None:
    """Withdraw what the visit owed as it was; owe the word of its new time and the reminders of that.

    Of a silent visit nobody is told: the word is written as suppressed, and its reminders begin with those of others.
    """
    _withdraw(session, appointment, "moved")
    if patient.email is not None and silent(session, appointment):
        _note_unsaid(session, appointment, Kind.MOVED, now)
    elif patient.email is not None:
        _owe(session, appointment, Kind.MOVED, due_at=now, now=now)
        _owe_later(session, appointment, patient, policy, now=now)


def brought_back(
    session: Session, appointment: Appointment, patient: Patient, policy: ClinicPolicy, *, now: datetime
) -> None:
    """Withdraw the word that a visit is cancelled where it has not gone, and owe what a visit that is booked owes."""
    _withdraw(session, appointment, "booked again")
    if patient.email is not None and silent(session, appointment):
        _note_unsaid(session, appointment, Kind.CONFIRMATION, now)
    else:
        plan(session, appointment, patient, policy, now=now)


def _owe_later(
    session: Session, appointment: Appointment, patient: Patient, policy: ClinicPolicy, *, now: datetime
) -> None:
    """Owe the reminders that the patient wants and that do not follow too soon on the message that goes now."""
    if not patient.remind_by_email:
        return
    for channel, offset in offsets(policy.reminders):
        due_at = appointment.starts_at - offset
        if channel == Channel.EMAIL and due_at >= now + QUIET_AFTER_CONFIRMATION:
            _owe(session, appointment, Kind.REMINDER, due_at=due_at, now=now, offset=offset)


def plan_imported(session: Session, visits: Sequence[Appointment], policy: ClinicPolicy, *, now: datetime) -> None:
    """Note that visits from another program are not confirmed; once reminders have begun, owe theirs.

    The confirmation is written as suppressed, so that the rule that every visit owes one has no exception, and the
    record tells why none was sent.
    """
    reachable = select(Patient.id, Patient.remind_by_email).join(Appointment, Appointment.patient_id == Patient.id)
    reachable = reachable.where(Appointment.imported_as.is_not(None), Patient.email.is_not(None))
    wishes = {row.id: row.remind_by_email for row in session.execute(reachable)}
    told = [visit for visit in visits if visit.patient_id in wishes]
    unsaid = {"status": Fate.SUPPRESSED, "reason": IMPORTED}
    if told:
        session.execute(insert(OutboxMessage), [_values(one, Kind.CONFIRMATION, now, now) | unsaid for one in told])
    if policy.imported_reminded_at is not None:
        _owe_reminders(session, [visit for visit in told if wishes[visit.patient_id]], policy, now)


def begin_imported(session: Session, *, now: datetime) -> Began | None:
    """From now on tell patients of imported visits what others are told; owe what reminders can still be useful.

    None when that has begun already. Who cancels such a visit at this moment waits for this, or this for them.
    """
    policy = session.get_one(ClinicPolicy, 1, with_for_update=True, populate_existing=True)
    if policy.imported_reminded_at is not None:
        return None
    policy.imported_reminded_at = now
    visits = session.scalars(_imported_ahead(now).with_for_update(of=Appointment)).all()
    return Began(len(visits), _owe_reminders(session, visits, policy, now))


def imported_ahead(session: Session, *, now: datetime) -> Ahead:
    """What `begin_imported` would owe now."""
    policy = session.get_one(ClinicPolicy, 1)
    visits = session.scalars(_imported_ahead(now)).all()
    owed = [(visit.patient_id, due_at) for visit, due_at, _ in _useful(visits, policy, now)]
    first = min((due_at for _, due_at in owed), default=None)
    return Ahead(len({patient_id for patient_id, _ in owed}), len(owed), first)


def _imported_ahead(now: datetime) -> Select[Appointment]:
    """The visits from another program of which their patients can be reminded."""
    return (
        select(Appointment)
        .join(Patient, Patient.id == Appointment.patient_id)
        .where(Appointment.imported_as.is_not(None), Appointment.status == Status.BOOKED, Appointment.starts_at > now)
        .where(Patient.email.is_not(None), Patient.remind_by_email)
        .order_by(Appointment.id)
    )


def silent(session: Session, appointment: Appointment) -> bool:
    """Whether nobody is told of this visit: it was imported, and reminders of such visits have not begun."""
    begun = select(ClinicPolicy.imported_reminded_at)
    return appointment.imported_as is not None and session.execute(begun).scalar_one() is None


def cancelled(session: Session, appointment: Appointment, patient: Patient, *, now: datetime) -> None:
    """Withdraw what the visit still owed, and owe the word that it is cancelled, unless it is a silent one."""
    _withdraw(session, appointment, "cancelled")
    if patient.email is not None and silent(session, appointment):
        _note_unsaid(session, appointment, Kind.CANCELLATION, now)
    elif patient.email is not None:
        _owe(session, appointment, Kind.CANCELLATION, due_at=now, now=now)


def take_over(
    session: Session, visits: Sequence[Appointment], patient: Patient, policy: ClinicPolicy, *, now: datetime
) -> None:
    """Let visits that nothing was owed for owe what those of somebody with an e-mail address do.

    They were told by other ways, so confirmation and word of a cancellation are written as suppressed; reminders that
    can still be useful are owed.
    """
    of_them = OutboxMessage.appointment_id.in_([visit.id for visit in visits])
    told = session.execute(select(OutboxMessage.appointment_id, OutboxMessage.kind).where(of_them))
    known = {(visit_id, kind) for visit_id, kind in told}
    unsaid = {"status": Fate.SUPPRESSED, "reason": TAKEN_OVER}
    new = [visit for visit in visits if (visit.id, Kind.CONFIRMATION) not in known]
    called_off = [visit for visit in visits if visit.status == Status.CANCELLED]
    called_off = [visit for visit in called_off if (visit.id, Kind.CANCELLATION) not in known]
    words = [(visit, Kind.CONFIRMATION) for visit in new] + [(visit, Kind.CANCELLATION) for visit in called_off]
    if words:
        session.execute(insert(OutboxMessage), [_values(visit, kind, now, now) | unsaid for visit, kind in words])
    ahead = [visit for visit in new if visit.status == Status.BOOKED and not silent(session, visit)]
    if patient.remind_by_email:
        _owe_reminders(session, ahead, policy, now)


def offsets(policy: str) -> list[tuple[Channel, timedelta]]:
    """Read a policy such as `email:48h,email:24h,sms:2h`, each once; raise ValueError for anything else."""
    result: dict[tuple[Channel, timedelta], None] = {}
    for part in filter(None, policy.replace(" ", "").split(",")):
        found = OFFSET.fullmatch(part)
        if found is None:
            raise ValueError(f"REMINDERS: {part!r} is not like email:24h or sms:2h")
        result[Channel(found[1]), timedelta(hours=int(found[2]))] = None
    return list(result)


def _withdraw(session: Session, appointment: Appointment, reason: str) -> None:
    """Take back all that a visit still owes."""
    still_owed = update(OutboxMessage).where(
        OutboxMessage.appointment_id == appointment.id, OutboxMessage.status == Fate.OWED
    )
    withdrawn = {"status": Fate.SUPPRESSED, "reason": reason, "withdrawn_at": database_now()}
    session.execute(still_owed.values(**withdrawn, lease=None, leased_until=None))


def _note_unsaid(session: Session, appointment: Appointment, kind: Kind, now: datetime) -> None:
    unsaid = {"status": Fate.SUPPRESSED, "reason": IMPORTED}
    session.add(OutboxMessage(**_values(appointment, kind, now, now) | unsaid))


def _owe(
    session: Session,
    appointment: Appointment,
    kind: Kind,
    *,
    due_at: datetime,
    now: datetime,
    offset: timedelta = timedelta(),
) -> None:
    session.add(OutboxMessage(**_values(appointment, kind, due_at, now, offset)))


def _values(
    appointment: Appointment, kind: Kind, due_at: datetime, now: datetime, offset: timedelta = timedelta()
) -> dict[str, Any]:
    """The columns of a message about a visit as it stands."""
    return {
        "appointment_id": appointment.id,
        "kind": kind,
        "channel": Channel.EMAIL,
        "offset_minutes": offset // MINUTE,
        "visit_version": appointment.visit_version,
        "due_at": due_at,
        "created_at": now,
    }


def _owe_reminders(session: Session, visits: Sequence[Appointment], policy: ClinicPolicy, now: datetime) -> int:
    """Owe each visit the reminders whose time has not passed; no confirmation comes just before them."""
    values = [
        _values(visit, Kind.REMINDER, due_at, now, offset) for visit, due_at, offset in _useful(visits, policy, now)
    ]
    if values:
        session.execute(insert(OutboxMessage), values)
    return len(values)


def _useful(
    visits: Sequence[Appointment], policy: ClinicPolicy, now: datetime
) -> Iterator[tuple[Appointment, datetime, timedelta]]:
    """The reminders by mail whose time has not passed: of which visit, when, and how long before it."""
    for visit in visits:
        for channel, offset in offsets(policy.reminders):
            if channel == Channel.EMAIL and visit.starts_at - offset > now:
                yield visit, visit.starts_at - offset, offset
