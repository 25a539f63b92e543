"""Which messages a visit owes, decided in the transaction that changes the visit."""

import re
from datetime import datetime, timedelta

from sqlalchemy import update
from sqlalchemy.orm import Session

from scheduler.db import database_now
from scheduler.models import Appointment, Channel, ClinicPolicy, Fate, Kind, OutboxMessage, Patient

OFFSET = re.compile(r"(email|sms):([1-9][0-9]{0,3})h")
QUIET_AFTER_CONFIRMATION = timedelta(hours=12)


def plan(session: Session, appointment: Appointment, patient: Patient, policy: ClinicPolicy, *, now: datetime) -> None:
    """Owe the confirmation and every reminder that can still be useful.

    A reminder is due a true length of time before the visit, whatever the clocks do in between. One whose time has
    passed, or that would follow the confirmation within 12 hours, is not owed. SMS owes nothing until it is configured.
    """
    if patient.email is None:
        return
    _owe(session, appointment, Kind.CONFIRMATION, due_at=now, now=now)
    if not patient.remind_by_email:
        return
    for channel, offset in offsets(policy.reminders):
        due_at = appointment.starts_at - offset
        if channel == Channel.EMAIL and due_at >= now + QUIET_AFTER_CONFIRMATION:
            _owe(session, appointment, Kind.REMINDER, due_at=due_at, now=now, offset=offset)


def cancelled(session: Session, appointment: Appointment, patient: Patient, *, now: datetime) -> None:
    """Withdraw what the visit still owed, and owe the word that it is cancelled."""
    still_owed = update(OutboxMessage).where(
        OutboxMessage.appointment_id == appointment.id, OutboxMessage.status == Fate.OWED
    )
    withdrawn = {"status": Fate.SUPPRESSED, "reason": "cancelled", "withdrawn_at": database_now()}
    session.execute(still_owed.values(**withdrawn, lease=None, leased_until=None))
    if patient.email is not None:
        _owe(session, appointment, Kind.CANCELLATION, due_at=now, now=now)


def offsets(policy: str) -> list[tuple[Channel, timedelta]]:
    """Read a policy such as `email:48h,email:24h,sms:2h`, each once; raise ValueError for anything else."""
    result: dict[tuple[Channel, timedelta], None] = {}
    for part in filter(None, policy.replace(" ", "").split(",")):
        found = OFFSET.fullmatch(part)
        if found is None:
            raise ValueError(f"REMINDERS: {part!r} is not like email:24h or sms:2h")
        result[Channel(found[1]), timedelta(hours=int(found[2]))] = None
    return list(result)


def _owe(
    session: Session,
    appointment: Appointment,
    kind: Kind,
    *,
    due_at: datetime,
    now: datetime,
    offset: timedelta = timedelta(),
) -> None:
    session.add(
        OutboxMessage(
            appointment_id=appointment.id,
            kind=kind,
            channel=Channel.EMAIL,
            offset_minutes=offset // timedelta(minutes=1),
            visit_version=appointment.visit_version,
            due_at=due_at,
            created_at=now,
        )
    )
