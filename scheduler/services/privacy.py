"""All that is kept of one patient: to be handed over, and to be erased. Visits stay, as rows that name nobody."""

from calendar import monthrange
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, delete, exists, func, literal, or_, select, update
from sqlalchemy.orm import Session, aliased, joinedload

from scheduler.db import Base, database_now
from scheduler.errors import Conflict, NotFound
from scheduler.keys import Keyring
from scheduler.models import (
    Appointment,
    Attempt,
    AuditEvent,
    ClinicPolicy,
    ContactRequest,
    Fate,
    IdempotencyKey,
    OutboxMessage,
    Override,
    Patient,
    Status,
    Told,
)
from scheduler.services import audit
from scheduler.services.audit import Actor
from scheduler.words import DEFAULT_LANGUAGE

ERASED = "erased"
ERASED_A_TICK = 100
UNSAID = {
    "reason_sealed",
    "message_sealed",
    "answer_sealed",
    "note_sealed",
    "cancel_reason_sealed",
    "form_sha256",
    "lease",
}


class VisitsAhead(Conflict):
    """A patient who still comes: their visits are to be cancelled first."""

    code = "visits-ahead"


def export(session: Session, patient_id: UUID, *, keys: Keyring) -> dict[str, Any]:
    """Everything that is stored of a patient, sealed texts opened, in words that JSON has. As many queries at any size.

    Raises NotFound.
    """
    patient = session.get(Patient, patient_id)
    if patient is None:
        raise NotFound("There is no such patient.")
    visits = _visits(session, patient_id)
    asked = session.scalars(select(ContactRequest).where(_questions_of(patient)).order_by(ContactRequest.id)).all()
    visit_ids, asked_ids = [one.id for one in visits], [one.id for one in asked]
    about = or_(OutboxMessage.appointment_id.in_(visit_ids), OutboxMessage.contact_request_id.in_(asked_ids))
    messages = session.scalars(select(OutboxMessage).where(about).order_by(OutboxMessage.id)).all()
    tries = select(Attempt).where(Attempt.message_id.in_([one.id for one in messages])).order_by(Attempt.id)
    against = select(Override).where(Override.appointment_id.in_(visit_ids)).order_by(Override.appointment_id)
    told = select(Told).where(Told.appointment_id.in_(visit_ids)).order_by(Told.told_at)
    named = [audit.id_of(one) for one in (patient, *visits, *asked)]
    events = select(AuditEvent).where(AuditEvent.entity_id.in_(named)).order_by(AuditEvent.happened_at, AuditEvent.id)
    return {
        "patient": _plain(patient),
        "visits": [_visit(one, keys) for one in visits],
        "against_rules": [_plain(one) | {"reason": keys.open(one.reason_sealed)} for one in session.scalars(against)],
        "questions": [
            _plain(one) | {"message": keys.open(one.message_sealed), "answer": keys.open(one.answer_sealed)}
            for one in asked
        ],
        "messages": [_plain(one) for one in messages],
        "tries": [_plain(one) for one in session.scalars(tries)],
        "told_by_staff": [_plain(one) for one in session.scalars(told)],
        "record": [_plain(one) for one in session.scalars(events)],
    }


def erase(session: Session, patient_id: UUID, *, by: Actor, now: datetime) -> None:
    """Forget who a patient is: their visits stay as bare rows, nothing says any more whose they were.

    Doing it twice changes nothing more. Raises NotFound, and VisitsAhead while they still come.
    """
    patient = session.get(Patient, patient_id, with_for_update=True, populate_existing=True)
    if patient is None:
        raise NotFound("There is no such patient.")
    if patient.erased_at is not None:
        return
    locked = select(Appointment).where(Appointment.patient_id == patient_id).order_by(Appointment.id)
    visits = session.scalars(locked.with_for_update().execution_options(populate_existing=True)).all()
    if any(one.status in {Status.BOOKED, Status.ARRIVED} and one.ends_at > now for one in visits):
        raise VisitsAhead("Cancel the visits ahead first.")
    _forget_questions(session, _questions_of(patient))
    _clear_visits(session, [one.id for one in visits])
    _clear_messages(session, [one.id for one in visits])
    patient.name, patient.language = ERASED, DEFAULT_LANGUAGE
    patient.email = patient.phone = patient.birth_date = None
    patient.remind_by_email = patient.remind_by_sms = False
    patient.erased_at = now
    session.flush()
    audit.record(session, "patient.erased", patient, by=by, now=now, visits=len(visits))


def due(session: Session, *, now: datetime) -> Sequence[UUID]:
    """Whom the clinic's policy erases by now, as many as one tick should: their last visit is so many months ago."""
    since = _kept_since(session, now)
    if since is None:
        return []
    lately = exists().where(Appointment.patient_id == Patient.id, Appointment.ends_at >= since)
    long_ago = select(Patient.id).where(Patient.erased_at.is_(None), Patient.created_at < since, ~lately)
    return session.scalars(long_ago.order_by(Patient.created_at).limit(ERASED_A_TICK)).all()


def forget_old_questions(session: Session, *, now: datetime) -> None:
    """Forget questions that are older than the clinic keeps patients."""
    since = _kept_since(session, now)
    if since is not None:
        _forget_questions(session, ContactRequest.asked_at < since)


def months_before(now: datetime, months: int) -> datetime:
    """The same day and time so many months earlier, or the last day of that month."""
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    return now.replace(year=year, month=month + 1, day=min(now.day, monthrange(year, month + 1)[1]))


def _kept_since(session: Session, now: datetime) -> datetime | None:
    months = session.get_one(ClinicPolicy, 1).retention_months
    return None if months is None else months_before(now, months)


def _visits(session: Session, patient_id: UUID) -> Sequence[Appointment]:
    parents = (Appointment.location, Appointment.therapist, Appointment.appointment_type)
    wanted = select(Appointment).where(Appointment.patient_id == patient_id).order_by(Appointment.starts_at)
    with_parents = wanted.options(*(joinedload(one) for one in parents), joinedload(Appointment.explainer_version))
    return session.scalars(with_parents).all()


def _visit(visit: Appointment, keys: Keyring) -> dict[str, Any]:
    shown = visit.explainer_version
    return _plain(visit) | {
        "note": keys.open(visit.note_sealed),
        "cancel_reason": keys.open(visit.cancel_reason_sealed),
        "location": visit.location.name,
        "therapist": visit.therapist.name,
        "appointment_type": visit.appointment_type.name,
        "explainer": None if shown is None else f"{shown.version} {shown.language}",
    }


def _plain(row: Base) -> dict[str, Any]:
    """A row's columns in words that JSON has, without what is sealed or only a program's."""
    columns = (column.key for column in row.__table__.columns if column.key not in UNSAID)
    return {name: _word(getattr(row, name)) for name in columns}


def _word(value: Any) -> Any:  # noqa: ANN401 whatever a column holds
    return value if value is None or isinstance(value, (bool, int, float, str, dict, list)) else str(value)


def _questions_of(patient: Patient) -> ColumnElement[bool]:
    """What they asked: with their e-mail address or phone number, and their name or nobody else's with the same.

    A family may share an address: another's question is not theirs.
    """
    other = aliased(Patient)
    theirs = []
    for column, value in (("email", patient.email), ("phone", patient.phone)):
        if value is not None:
            shared = exists().where(getattr(other, column) == value, other.id != patient.id)
            named = func.lower(ContactRequest.name) == patient.name.lower()
            theirs.append(and_(getattr(ContactRequest, column) == value, or_(named, ~shared)))
    return or_(ContactRequest.id.is_(None), *theirs)


def _forget_questions(session: Session, which: ColumnElement[bool]) -> None:
    """Delete questions with the messages about them and the tries to send those."""
    asked = session.scalars(select(ContactRequest.id).where(which).order_by(ContactRequest.id).with_for_update()).all()
    messages = select(OutboxMessage.id).where(OutboxMessage.contact_request_id.in_(asked))
    session.execute(delete(Attempt).where(Attempt.message_id.in_(messages)))
    session.execute(delete(OutboxMessage).where(OutboxMessage.contact_request_id.in_(asked)))
    session.execute(delete(ContactRequest).where(ContactRequest.id.in_(asked)))


def _clear_visits(session: Session, visit_ids: Sequence[UUID]) -> None:
    """Forget what was written of visits; one that moved in keeps that it did, without the name that it had there."""
    moved_in = Appointment.imported_as.is_not(None)
    nameless = case((moved_in, literal(f"{ERASED} ").concat(audit.entity_id(Appointment.id))), else_=None)
    cleared = update(Appointment).where(Appointment.id.in_(visit_ids))
    cleared = cleared.values(note_sealed=None, cancel_reason_sealed=None, imported_as=nameless)
    session.execute(cleared.execution_options(synchronize_session=False))
    session.execute(delete(Override).where(Override.appointment_id.in_(visit_ids)))


def _clear_messages(session: Session, visit_ids: Sequence[UUID]) -> None:
    """Take back what is still owed, and forget what mail servers said, who may have named the patient."""
    of_them = OutboxMessage.appointment_id.in_(visit_ids)
    taken_back = {"status": Fate.SUPPRESSED, "reason": ERASED, "withdrawn_at": database_now()}
    still_owed = update(OutboxMessage).where(of_them, OutboxMessage.status == Fate.OWED)
    session.execute(still_owed.values(**taken_back, lease=None, leased_until=None, retry_at=None))
    failed = update(OutboxMessage).where(of_them, OutboxMessage.status == Fate.FAILED)
    session.execute(failed.values(reason=ERASED))
    messages = select(OutboxMessage.id).where(of_them)
    told = update(Attempt).where(Attempt.message_id.in_(messages), Attempt.outcome != Fate.SENT)
    session.execute(told.values(outcome=ERASED))
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.appointment_id.in_(visit_ids)))
