"""Counts violations of every invariant, from the rows alone, without trusting the code that wrote them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, func, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from scheduler.db import Base, UtcDateTime
from scheduler.models import (
    Appointment,
    AppointmentType,
    Attempt,
    AuditEvent,
    ExplainerVersion,
    Fate,
    Hold,
    IdempotencyKey,
    Kind,
    Location,
    ManageLink,
    OutboxMessage,
    Patient,
    Slot,
    Status,
)
from scheduler.services import audit, explainer, licensing, slots
from scheduler.timeline import CELL, DAY, cell_of, local_date, next_cell, zone_of

Rows = Select[Any]
LIVE = Appointment.status != Status.CANCELLED
VISIT = Appointment.status != Status.HELD
MOVED = Appointment.visit_version > 1
OWED = OutboxMessage.status == Fate.OWED


@dataclass(frozen=True, slots=True)
class Finding:
    """How many rows break one rule."""

    rule: str
    violations: int


def verify(session: Session, *, now: datetime) -> Iterator[Finding]:
    """Yield one finding for each rule, in the order of the invariants (docs/architecture.md); 0 is the promise."""
    yield Finding("visits that overlap another visit of the same therapist", _overlapping(session))
    yield Finding("visits that do not hold exactly their own slots", _without_their_slots(session))
    yield Finding("holds that no token finds, and tokens of what is not held", _half_holds(session))
    yield Finding("slots held by a cancelled visit", _count(session, _held_by_cancelled()))
    yield Finding("visits ahead that the therapist is not licensed for", _unlicensed(session, now))
    yield Finding("free slots ahead that are not in the plan", slots.count_unplanned(session, now=now))
    yield Finding("free slots whose fit is not what a recount gives", slots.count_misfits(session))
    yield Finding("visits without a link", _count(session, _visits_without(ManageLink.appointment_id)))
    yield Finding("visits without an audit row of their booking", _count(session, _unaudited(VISIT, "booked")))
    yield Finding("cancelled visits without an audit row of it", _count(session, _unaudited(~LIVE, "cancelled")))
    yield Finding("idempotency keys without their visit", _count(session, _orphaned_keys()))
    yield Finding(
        "reachable visits that owe no confirmation", _count(session, _owing_nothing(Kind.CONFIRMATION, true()))
    )
    yield Finding("cancelled visits that owe no word of it", _count(session, _owing_nothing(Kind.CANCELLATION, ~LIVE)))
    yield Finding("messages still owed for a cancelled visit", _count(session, _owed_for_cancelled()))
    yield Finding("messages still owed for a visit as it was before a move", _count(session, _owed_for_earlier()))
    yield Finding(
        "moved visits without an audit row of it", _count(session, _unaudited(MOVED, "moved", "brought_back"))
    )
    yield Finding("messages owed past the day of their visit", _count(session, _forgotten(now)))
    yield Finding("messages begun to be sent after they were withdrawn", _count(session, _begun_too_late()))
    yield Finding("messages sent without a try that says so, or with several", _count(session, _sent_not_once()))
    yield Finding("instants not stored as UTC", _not_utc(session))
    yield Finding("explainer versions that no longer match their hash", _changed_explainers(session))
    yield Finding("visits booked by patients who were shown nothing", _count(session, _shown_nothing()))
    yield Finding("patients shared by several public bookings", _count(session, _shared_patients()))


def _count(session: Session, rows: Rows) -> int:
    return session.execute(select(func.count()).select_from(rows.subquery())).scalar_one()


def _overlapping(session: Session) -> int:
    """Live visits that begin before an earlier one of the same therapist has ended, wherever they are."""
    earlier_end = func.max(Appointment.ends_at).over(
        partition_by=Appointment.therapist_id, order_by=(Appointment.starts_at, Appointment.id), rows=(None, -1)
    )
    visits = select(Appointment.starts_at, earlier_end.label("earlier_end")).where(LIVE).subquery()
    return _count(session, select(visits.c.starts_at).where(visits.c.starts_at < visits.c.earlier_end))


def _without_their_slots(session: Session) -> int:
    """Live visits that hold other cells than every one from their start to their end plus buffer."""
    held = (
        select(
            Slot.appointment_id,
            Slot.therapist_id,
            Slot.location_id,
            func.count().label("cells"),
            func.min(Slot.starts_at).label("first"),
            func.max(Slot.starts_at).label("last"),
        )
        .where(Slot.appointment_id.is_not(None))
        .group_by(Slot.appointment_id, Slot.therapist_id, Slot.location_id)
        .subquery()
    )
    rows = session.execute(
        select(
            Appointment.starts_at,
            Appointment.ends_at,
            Appointment.buffer_minutes,
            held.c.cells,
            held.c.first,
            held.c.last,
        )
        .outerjoin(
            held,
            (held.c.appointment_id == Appointment.id)
            & (held.c.therapist_id == Appointment.therapist_id)
            & (held.c.location_id == Appointment.location_id),
        )
        .where(LIVE)
    )
    broken = 0
    for starts_at, ends_at, buffer_minutes, *held_cells in rows:
        start, end = cell_of(starts_at), next_cell(ends_at + timedelta(minutes=buffer_minutes))
        broken += held_cells != [(end - start) // CELL, start, end - CELL]
    return broken


def _half_holds(session: Session) -> int:
    """That one outlived its expiry is no violation: without a worker it stays until its therapist's time is claimed."""
    found = exists().where(Hold.appointment_id == Appointment.id)
    held = exists().where(Appointment.id == Hold.appointment_id, ~VISIT)
    lost = _count(session, select(Appointment.id).where(~VISIT, ~found))
    return lost + _count(session, select(Hold.appointment_id).where(~held))


def _held_by_cancelled() -> Rows:
    return select(Slot.starts_at).join(Appointment, Appointment.id == Slot.appointment_id).where(~LIVE)


def _unlicensed(session: Session, now: datetime) -> int:
    rows = session.execute(
        select(
            Appointment.therapist_id,
            Appointment.starts_at,
            Location.state,
            Location.time_zone,
            AppointmentType.includes_needling,
        )
        .join(Location, Location.id == Appointment.location_id)
        .join(AppointmentType, AppointmentType.id == Appointment.appointment_type_id)
        .where(Appointment.status == Status.BOOKED, Appointment.starts_at >= now)
    ).all()
    licences = licensing.licences_of(session, {row.therapist_id for row in rows})
    return sum(
        not (licences.may_needle if needling else licences.may_treat)(
            therapist_id, state, local_date(starts_at, zone_of(time_zone))
        )
        for therapist_id, starts_at, state, time_zone, needling in rows
    )


def _visits_without(column: InstrumentedAttribute[UUID]) -> Rows:
    return select(Appointment.id).where(VISIT, ~exists().where(column == Appointment.id))


def _unaudited(visits: ColumnElement[bool], *verbs: str) -> Rows:
    actions = [f"appointment.{verb}" for verb in verbs]
    noted = select(AuditEvent.entity_id).where(AuditEvent.action.in_(actions))
    return select(Appointment.id).where(visits, audit.entity_id(Appointment.id).not_in(noted))


def _orphaned_keys() -> Rows:
    visit = exists().where(Appointment.id == IdempotencyKey.appointment_id)
    return select(IdempotencyKey.key).where(~visit)


def _owing_nothing(kind: Kind, visits: ColumnElement[bool]) -> Rows:
    owed = exists().where(OutboxMessage.appointment_id == Appointment.id, OutboxMessage.kind == kind)
    reachable = select(Appointment.id).join(Patient, Patient.id == Appointment.patient_id)
    return reachable.where(visits, Patient.email.is_not(None), ~owed)


def _owed_for_cancelled() -> Rows:
    messages = select(OutboxMessage.id).join(Appointment, Appointment.id == OutboxMessage.appointment_id)
    return messages.where(~LIVE, OutboxMessage.kind != Kind.CANCELLATION, OWED)


def _owed_for_earlier() -> Rows:
    messages = select(OutboxMessage.id).join(Appointment, Appointment.id == OutboxMessage.appointment_id)
    return messages.where(OWED, OutboxMessage.visit_version != Appointment.visit_version)


def _forgotten(now: datetime) -> Rows:
    messages = select(OutboxMessage.id).join(Appointment, Appointment.id == OutboxMessage.appointment_id)
    return messages.where(OWED, Appointment.starts_at < now - DAY)


def _begun_too_late() -> Rows:
    """Both instants are the database's own, written under the visit's lock."""
    tries = select(Attempt.id).join(OutboxMessage, OutboxMessage.id == Attempt.message_id)
    return tries.where(Attempt.started_at > OutboxMessage.withdrawn_at)


def _sent_not_once() -> Rows:
    said_so = select(func.count()).where(Attempt.message_id == OutboxMessage.id, Attempt.outcome == Fate.SENT)
    return select(OutboxMessage.id).where(OutboxMessage.status == Fate.SENT, said_so.scalar_subquery() != 1)


def _not_utc(session: Session) -> int:
    """On SQLite an instant is a whole number; PostgreSQL's timestamptz cannot hold anything else."""
    if session.get_bind().dialect.name != "sqlite":
        return 0
    instants = [c for t in Base.metadata.tables.values() for c in t.columns if isinstance(c.type, UtcDateTime)]
    wrong = (select(func.count()).where(func.typeof(instant).not_in(["integer", "null"])) for instant in instants)
    return sum(session.execute(count).scalar_one() for count in wrong)


def _changed_explainers(session: Session) -> int:
    return sum(not explainer.unchanged(version) for version in session.scalars(select(ExplainerVersion)))


def _shown_nothing() -> Rows:
    return select(Appointment.id).where(Appointment.explainer_version_id.is_(None), _booked_by_patient())


def _shared_patients() -> Rows:
    """But for those of whom staff made one."""
    merged = select(AuditEvent.entity_id).where(AuditEvent.action == "patient.merged")
    public = select(Appointment.patient_id).where(
        _booked_by_patient(), audit.entity_id(Appointment.patient_id).not_in(merged)
    )
    return public.group_by(Appointment.patient_id).having(func.count() > 1)


def _booked_by_patient() -> ColumnElement[bool]:
    noted = select(AuditEvent.entity_id).where(AuditEvent.action == "appointment.booked", AuditEvent.actor == "patient")
    return audit.entity_id(Appointment.id).in_(noted)
