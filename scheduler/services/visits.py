"""What happens to a visit on its day: the patient arrives, is treated, or does not come. FHIR's words.

A mark goes out from one status only, so that it can be taken back to the status before without remembering it.
Messages need no word of it: one that is owed re-reads its visit and does not go about one that has begun.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, String, cast, literal, select
from sqlalchemy.orm import Session, joinedload

from scheduler.errors import Conflict, NotFound
from scheduler.models import Account, Appointment, AuditEvent, OutboxMessage, Status
from scheduler.services import audit
from scheduler.services.audit import Actor
from scheduler.timeline import local_date, zone_of

# Each mark with the status that it follows, and goes back to when it is taken back.
FOLLOWS = {
    Status.ARRIVED: Status.BOOKED,
    Status.NOSHOW: Status.BOOKED,
    Status.FULFILLED: Status.ARRIVED,
}


class NotYet(Conflict):
    """The day of the visit has not come at its location."""

    code = "not-yet"


class OtherStatus(Conflict):
    """The visit stands otherwise than whoever marked it saw: somebody was faster, or it is cancelled."""

    code = "other-status"


def find(session: Session, visit_id: UUID) -> Appointment:
    """A visit with everything that staff may see of it; raise NotFound for none."""
    visit = session.scalars(_whole().where(Appointment.id == visit_id)).one_or_none()
    if visit is None:
        raise NotFound("There is no such visit.")
    return visit


def following(status: Status) -> list[Status]:
    """Which marks a visit of this status can be given once its day has come."""
    return [mark for mark, before in FOLLOWS.items() if before == status]


def has_come(starts_at: datetime, time_zone: str, *, now: datetime) -> bool:
    """Whether the local day of a visit has begun, from which on it can be marked."""
    zone = zone_of(time_zone)
    return local_date(starts_at, zone) <= local_date(now, zone)


def marks(visit: Appointment, *, now: datetime) -> list[Status]:
    """Which marks the visit can be given now."""
    return following(Status(visit.status)) if has_come(visit.starts_at, visit.location.time_zone, now=now) else []


def mark(session: Session, visit: Appointment, status: Status, *, by: Actor, now: datetime) -> None:
    """Give a visit of `find` a mark; one that it has already changes nothing.

    Raises OtherStatus when the mark does not follow the status that the visit has by now, NotYet before its local day.
    """
    _lock(session, visit)
    if visit.status == status:
        return
    if FOLLOWS.get(status) != visit.status:
        raise OtherStatus(f"A visit that is {visit.status} cannot become {status}.")
    if not has_come(visit.starts_at, visit.location.time_zone, now=now):
        raise NotYet("A visit can be marked from its own day on.")
    _change(session, visit, status, "appointment.marked", by=by, now=now)


def undo(session: Session, visit: Appointment, status: Status, *, by: Actor, now: datetime) -> None:
    """Take the mark `status` back; where that was done already nothing changes, so that two taps take back one.

    Raises OtherStatus when the visit has another mark by now.
    """
    _lock(session, visit)
    before = FOLLOWS.get(status)
    if visit.status == before:
        return
    if before is None or visit.status != status:
        raise OtherStatus(f"A visit that is {visit.status} was not marked {status}.")
    _change(session, visit, before, "appointment.mark_undone", by=by, now=now)


def history(session: Session, visit: Appointment) -> Sequence[Row[*tuple[Any, ...]]]:
    """What was done to a visit and by whom, in order: happened_at, action, detail, actor, name of the account."""
    of_visit = AuditEvent.entity == Appointment.__tablename__, AuditEvent.entity_id == audit.id_of(visit)
    account = AuditEvent.actor == literal("account:") + cast(Account.id, String)
    return session.execute(
        select(AuditEvent.happened_at, AuditEvent.action, AuditEvent.detail, AuditEvent.actor, Account.name)
        .outerjoin(Account, account)
        .where(*of_visit, AuditEvent.action.not_like("%.read"))
        .order_by(AuditEvent.happened_at, AuditEvent.id)
    ).all()


def messages(session: Session, visit: Appointment) -> Sequence[OutboxMessage]:
    """What the patient was or is to be told of a visit, in order."""
    own = select(OutboxMessage).where(OutboxMessage.appointment_id == visit.id)
    return session.scalars(own.order_by(OutboxMessage.due_at, OutboxMessage.id)).all()


def _change(session: Session, visit: Appointment, status: Status, action: str, *, by: Actor, now: datetime) -> None:
    before, visit.status = visit.status, status
    audit.record(session, action, visit, by=by, now=now, before=before, after=status)


def _lock(session: Session, visit: Appointment) -> None:
    """Read anew what others may have changed, and let nobody change it until the end."""
    session.refresh(visit, ["status", "starts_at"], with_for_update=True)


def _whole() -> Select[Appointment]:
    return select(Appointment).options(
        joinedload(Appointment.location, innerjoin=True),
        joinedload(Appointment.therapist, innerjoin=True),
        joinedload(Appointment.appointment_type, innerjoin=True),
        joinedload(Appointment.patient, innerjoin=True),
        joinedload(Appointment.explainer_version),
    )
