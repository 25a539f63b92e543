"""Booking a visit, looking at it, cancelling it. The caller owns the transaction."""

from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session, joinedload
from uuid6 import uuid7

from scheduler.db import insert_into
from scheduler.errors import Invalid, NotFound, VisitClosed
from scheduler.keys import Keyring, fingerprint
from scheduler.models import Appointment, ExplainerVersion, IdempotencyKey, ManageLink, Needling, Patient, Status
from scheduler.services import audit, availability, explainer, licensing, limits, reminders, slots
from scheduler.services.availability import Bookable
from scheduler.timeline import DAY

KEYS_KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class PatientDetails:
    name: str
    email: str | None
    phone: str | None
    birth_date: date | None
    language: str
    remind_by_email: bool
    remind_by_sms: bool


@dataclass(frozen=True, slots=True)
class Repeatable:
    """The client's key for one intention, and the hash of the request that it belongs to."""

    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class BookVisit:
    """A patient's request. End, therapist and location are not in it: they follow from the slot and the type."""

    slot_id: str
    appointment_type_id: int
    patient: PatientDetails
    explainer_version: str
    explainer_language: str
    needling: Needling
    note: str | None
    repeatable: Repeatable
    address: str | None = None  # of the network, already hashed; None where bookings are not limited


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit with the token of its newest link."""

    appointment: Appointment
    token: str


def book(session: Session, request: BookVisit, *, keys: Keyring, now: datetime) -> Visit:
    """Store a visit that nobody else can have, with its link, its messages owed and its audit row.

    The same key and body gives the same visit as it then stands. Raises Invalid for the key with another body and for
    an unknown slot, type or explainer; a NotBookable when the rules or the race say no; TooMany for an address that
    books without end.
    """
    appointment_id = uuid7()
    earlier = _claim_key(session, request.repeatable, appointment_id, now)
    if earlier is not None:
        return _with_token(_visits(session, Appointment.id == earlier), keys)
    _require_born(request.patient, now)
    shown = explainer.shown(session, request.explainer_version, request.explainer_language, now=now)
    start = availability.require_bookable(session, request.slot_id, request.appointment_type_id, now=now)
    slots.lock(session, [start.therapist.id])
    needling = start.kind.includes_needling
    licensing.require_license(session, start.therapist.id, start.location.state, needling=needling, on=start.local_date)
    patient = Patient(**asdict(request.patient), id=uuid7(), created_at=now)
    appointment = _visit_of(request, start, patient, shown, keys.seal(request.note))
    appointment.id, appointment.booked_at = appointment_id, now
    slots.claim(session, appointment)
    session.add_all([patient, appointment])
    session.flush()
    token = _add_link(session, appointment, keys)
    reminders.plan(session, appointment, patient, start.policy, now=now)
    if request.address is not None:  # last, since it locks the address's row until the end
        limits.count_booking(session, request.address, now=now)
    audit.record(session, "appointment.booked", appointment, by="patient", now=now)
    return Visit(appointment, token)


def view(session: Session, token: str, *, keys: Keyring) -> Visit:
    """The visit that a link opens; NotFound for any text that is no link's newest token."""
    return _with_token(_visits(session, ManageLink.token_sha256 == fingerprint(token)), keys)


def cancel(session: Session, token: str, reason: str | None, *, keys: Keyring, now: datetime) -> Visit:
    """Cancel a visit before it begins and free its time at once; again changes nothing. Raises VisitClosed later."""
    visit = view(session, token, keys=keys)
    appointment = visit.appointment
    slots.lock(session, [appointment.therapist_id])
    session.refresh(appointment, ["status", "starts_at", "ends_at"], with_for_update=True)
    if appointment.status == Status.CANCELLED:
        return visit
    if appointment.status != Status.BOOKED or appointment.starts_at <= now:
        raise VisitClosed("This visit has begun or is over; please call the clinic.")
    appointment.status = Status.CANCELLED
    appointment.cancelled_at = now
    appointment.cancel_reason_sealed = keys.seal(reason)
    session.flush()
    slots.free(session, appointment, now=now)
    reminders.cancelled(session, appointment, session.get_one(Patient, appointment.patient_id), now=now)
    audit.record(session, "appointment.cancelled", appointment, by="patient", now=now)
    return visit


def forget_old_keys(session: Session, *, now: datetime) -> None:
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - KEYS_KEPT))


def _visit_of(
    request: BookVisit, start: Bookable, patient: Patient, shown: ExplainerVersion, note_sealed: bytes | None
) -> Appointment:
    """The row of a new visit: end, therapist and location follow from the start and the type."""
    return Appointment(
        patient_id=patient.id,
        therapist_id=start.therapist.id,
        therapist=start.therapist,
        location_id=start.location.id,
        location=start.location,
        appointment_type_id=start.kind.id,
        appointment_type=start.kind,
        explainer_version_id=shown.id,
        explainer_version=shown,
        starts_at=start.slot.starts_at,
        ends_at=start.slot.starts_at + timedelta(minutes=start.kind.minutes),
        buffer_minutes=start.kind.buffer_minutes,
        status=Status.BOOKED,
        needling=request.needling,
        note_sealed=note_sealed,
        visit_version=1,
        link_generation=1,
    )


def _require_born(patient: PatientDetails, now: datetime) -> None:
    if patient.birth_date is not None and patient.birth_date > now.date() + DAY:  # it may be tomorrow somewhere
        raise Invalid("patient.birth_date", "lies in the future")


def _claim_key(session: Session, repeatable: Repeatable, appointment_id: UUID, now: datetime) -> UUID | None:
    """Insert the key, waiting for a twin that is under way; return the visit of an earlier request with it, if any."""
    new = insert_into(session, IdempotencyKey).values(
        key=repeatable.key, body_sha256=repeatable.body_sha256, appointment_id=appointment_id, created_at=now
    )
    while session.execute(new.on_conflict_do_nothing().returning(IdempotencyKey.key)).first() is None:
        stored = session.get(IdempotencyKey, repeatable.key)
        if stored is not None and stored.created_at >= now - KEYS_KEPT:
            if stored.body_sha256 != repeatable.body_sha256:
                raise Invalid("Idempotency-Key", "This key was used for another request; make a new one.")
            return stored.appointment_id
        too_old = IdempotencyKey.created_at < now - KEYS_KEPT
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.key == repeatable.key, too_old))
        session.expire_all()
    return None


def _visits(session: Session, wanted: ColumnElement[bool]) -> tuple[Appointment, ManageLink]:
    found = session.execute(
        select(Appointment, ManageLink)
        .join(
            ManageLink,
            (ManageLink.appointment_id == Appointment.id) & (ManageLink.generation == Appointment.link_generation),
        )
        .where(wanted)
        .options(
            joinedload(Appointment.location),
            joinedload(Appointment.therapist),
            joinedload(Appointment.explainer_version),
        )
    ).one_or_none()
    if found is None:
        raise NotFound("There is no visit with this link.")
    return found


def _with_token(found: tuple[Appointment, ManageLink], keys: Keyring) -> Visit:
    appointment, link = found
    token = keys.link_token(appointment.id, link.generation, link.key_id)
    if token is None:
        raise NotFound("This link's key was retired.")
    return Visit(appointment, token)


def _add_link(session: Session, appointment: Appointment, keys: Keyring) -> str:
    key_id = keys.newest_link_key_id
    token = keys.link_token(appointment.id, appointment.link_generation, key_id)
    assert token is not None  # noqa: S101 the newest key derives it
    session.add(
        ManageLink(
            appointment_id=appointment.id,
            generation=appointment.link_generation,
            key_id=key_id,
            token_sha256=fingerprint(token),
        )
    )
    return token
