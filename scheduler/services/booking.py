"""Booking a visit, looking at it, cancelling it. The caller owns the transaction."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, select
from sqlalchemy.orm import Session, joinedload
from sqlalchemy.orm.attributes import set_committed_value
from uuid6 import uuid7

from scheduler.db import insert_into
from scheduler.errors import Conflict, Invalid, LinkReplaced, NotBookable, NotFound, SlotTaken, VisitClosed
from scheduler.keys import Keyring, fingerprint
from scheduler.models import (
    Appointment,
    ClinicPolicy,
    ExplainerVersion,
    IdempotencyKey,
    Location,
    ManageLink,
    Needling,
    Patient,
    SeriesVisit,
    Status,
    Therapist,
)
from scheduler.services import (
    access_requests,
    audit,
    availability,
    explainer,
    holds,
    licensing,
    limits,
    notices,
    override,
    reminders,
    slots,
)
from scheduler.services.audit import PATIENT, Actor
from scheduler.services.availability import Bookable, SlotName
from scheduler.services.holds import Keeper
from scheduler.services.reasons import Reason
from scheduler.timeline import DAY

KEYS_KEPT = timedelta(days=7)
MOST_OF_A_SERIES = 130  # five a week for half a year
TOLD_BY_THE_FIRST = timedelta(minutes=15)  # so long the other visits of a series leave it to the first to tell of all


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
    keeper: Keeper = holds.NOBODY  # who keeps the start, if anybody does


@dataclass(frozen=True, slots=True)
class BookForPatient:
    """Staff book for somebody whom they know or who is new; the explainer is not shown.

    `override` is the reason why, where they book against a rule of the calendar.
    """

    slot_id: str
    appointment_type_id: int
    patient: UUID | PatientDetails
    needling: Needling
    note: str | None
    repeatable: Repeatable
    override: str | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit with the token of its newest link."""

    appointment: Appointment
    token: str


def book(session: Session, request: BookVisit, *, keys: Keyring, now: datetime) -> Visit:
    """Store a visit that nobody else can have, with its link, its messages owed and its audit row.

    The same key and body gives the same visit as it then stands. What the patient held is given up for it; a hold that
    is unknown or expired counts as none. Raises Invalid for the key with another body and for
    an unknown slot, type or explainer; a NotBookable when the rules or the race say no; TooMany for an address that
    books without end.
    """
    appointment_id = uuid7()
    earlier = _claim_key(session, request.repeatable, appointment_id, now)
    if earlier is not None:
        return _with_token(_visits(session, Appointment.id == earlier), keys)
    shown = explainer.shown(session, request.explainer_version, request.explainer_language, now=now)
    held = holds.take(session, request.slot_id, request.keeper, now=now)
    start = availability.require_bookable(session, request.slot_id, request.appointment_type_id, now=now, held=held)
    patient = _new_patient(request.patient, now)
    visit = _store(session, appointment_id, request, start, patient, shown, by=PATIENT, keys=keys, now=now)
    if request.address is not None:  # last, since it locks the address's row until the end
        limits.count_booking(session, request.address, now=now)
    return visit


def book_for(session: Session, request: BookForPatient, *, by: Actor, keys: Keyring, now: datetime) -> Visit:
    """Store a visit that staff book: inside the notice too, at places not open online too, by the same claim.

    With a reason also where a rule of the calendar says no, as far as rules yield to one (`override`).
    Raises Invalid for an unknown patient, slot or type, and a NotBookable as `book` does.
    """
    appointment_id = uuid7()
    earlier = _claim_key(session, request.repeatable, appointment_id, now)
    if earlier is not None:
        return _with_token(_visits(session, Appointment.id == earlier), keys)
    holds.sweep(session, [SlotName.parse(request.slot_id).therapist_id], now=now)
    slot_id, kind_id, against = request.slot_id, request.appointment_type_id, None
    if request.override is None:
        start = availability.require_bookable(session, slot_id, kind_id, now=now, by_staff=True)
    else:
        start, against = override.require(session, slot_id, kind_id, now=now)
    if isinstance(request.patient, PatientDetails):
        patient = _new_patient(request.patient, now)
        audit.record(session, "patient.added", patient, by=by, now=now)
    else:
        known = session.get(Patient, request.patient)
        if known is None:
            raise Invalid("patient", "There is no patient with this id.")
        patient = known
    rule = against.reason if against else None
    visit = _store(session, appointment_id, request, start, patient, None, by=by, keys=keys, now=now, against=rule)
    if rule is not None and request.override is not None:
        override.note(session, visit.appointment, rule, request.override, by=by, keys=keys, now=now)
    return visit


def view(session: Session, token: str, *, keys: Keyring) -> Visit:
    """The visit that a link opens; NotFound for any text that is no link's token, LinkReplaced for an older one's."""
    sha256 = fingerprint(token)
    try:
        return _with_token(_visits(session, ManageLink.token_sha256 == sha256), keys)
    except NotFound:
        known = select(ManageLink.generation).where(ManageLink.token_sha256 == sha256)
        if session.execute(known).first() is None:
            raise
        raise LinkReplaced("This link was replaced: a new one was sent.") from None


def of(session: Session, appointment: Appointment, *, keys: Keyring) -> Visit:
    """A visit with its newest link."""
    return _with_token(_visits(session, Appointment.id == appointment.id), keys)


def cancel(session: Session, token: str, reason: str | None, *, keys: Keyring, now: datetime) -> Visit:
    """Cancel the visit of a link before it begins and free its time at once; again changes nothing.

    Raises VisitClosed once it has begun.
    """
    visit = view(session, token, keys=keys)
    call_off(session, visit.appointment, reason, by=PATIENT, keys=keys, now=now)
    return visit


def call_off(
    session: Session,
    appointment: Appointment,
    reason: str | None,
    *,
    by: Actor,
    keys: Keyring,
    now: datetime,
    for_patient: bool = False,
) -> None:
    """Cancel a visit, whoever wishes it; see `cancel`. Only what a patient does, or staff `for_patient`, is late."""
    lock(session, appointment)
    if appointment.status == Status.CANCELLED:
        return
    require_ahead(appointment, now=now)
    slots.lock(session, [appointment.therapist_id])
    appointment.status = Status.CANCELLED
    appointment.cancelled_at = now
    appointment.cancelled_late = (for_patient or by == PATIENT) and is_late(
        appointment.starts_at, session.get_one(ClinicPolicy, 1), now=now
    )
    appointment.cancel_reason_sealed = keys.seal(reason)
    session.flush()
    slots.free(session, appointment, now=now)
    reminders.cancelled(session, appointment, session.get_one(Patient, appointment.patient_id), now=now)
    if not reminders.silent(session, appointment):
        notices.day_changed(session, appointment, by=by, now=now)
    audit.record(session, "appointment.cancelled", appointment, by=by, now=now)


def lock(session: Session, appointment: Appointment) -> None:
    """Read a visit anew and let nobody else change it until the end.

    Who changes its cells locks the therapists after it: which they are, only the visit's lock makes sure.
    """
    when_and_where = ["starts_at", "ends_at", "therapist_id", "location_id"]
    changing = ["status", "cancelled_at", *when_and_where, "visit_version", "link_generation"]
    session.refresh(appointment, changing, with_for_update=True)
    for name, kind in (("therapist", Therapist), ("location", Location)):  # of a visit that was moved meanwhile
        set_committed_value(appointment, name, session.get_one(kind, getattr(appointment, f"{name}_id")))


def require_ahead(appointment: Appointment, *, now: datetime) -> None:
    """Raise VisitClosed for a visit that is not to come any more."""
    if appointment.status == Status.CANCELLED:
        raise VisitClosed("This visit is canceled; please book another.")
    if appointment.status != Status.BOOKED or appointment.starts_at <= now:
        raise VisitClosed("This visit has begun or is over; please call the clinic.")


def is_late(starts_at: datetime, policy: ClinicPolicy, *, now: datetime) -> bool:
    """Whether to cancel now is later than the clinic asks for; never where it asks for nothing."""
    return starts_at - now < timedelta(hours=policy.cancel_notice_hours)


def is_born(birth_date: date, *, now: datetime) -> bool:
    """Whether a day of birth has come, somewhere."""
    return birth_date <= now.date() + DAY


def forget_old_keys(session: Session, *, now: datetime) -> None:
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - KEYS_KEPT))


def _store(
    session: Session,
    appointment_id: UUID,
    request: BookVisit | BookForPatient,
    start: Bookable,
    patient: Patient,
    shown: ExplainerVersion | None,
    *,
    by: Actor,
    keys: Keyring,
    now: datetime,
    confirm_after: timedelta = timedelta(),
    against: Reason | None = None,
) -> Visit:
    """Claim the cells and write all that a visit has. The therapist must be locked."""
    needling = start.kind.includes_needling
    licensing.require_license(session, start.therapist.id, start.location.state, needling=needling, on=start.local_date)
    appointment = _visit_of(request, start, patient, shown, keys.seal(request.note))
    appointment.id, appointment.booked_at = appointment_id, now
    offer = access_requests.on_offer(session, start, now=now)
    if against is None or against is Reason.PROTECTED:  # whose cells are all there
        released = availability.release(start.policy, now) if against is None else appointment.starts_at
        slots.claim(session, appointment, release=released)
    else:
        slots.claim_anyhow(session, [appointment])
    session.add_all([patient, appointment])
    session.flush()
    access_requests.note(session, appointment, offer)
    token = add_link(session, appointment, keys)
    reminders.plan(session, appointment, patient, start.policy, confirm_after=confirm_after, now=now)
    notices.day_changed(session, appointment, by=by, now=now)
    audit.record(session, "appointment.booked", appointment, by=by, now=now)
    return Visit(appointment, token)


def _visit_of(
    request: BookVisit | BookForPatient,
    start: Bookable,
    patient: Patient,
    shown: ExplainerVersion | None,
    note_sealed: bytes | None,
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
        explainer_version_id=shown.id if shown else None,
        explainer_version=shown,
        starts_at=start.slot.starts_at,
        ends_at=start.ends_at,
        buffer_minutes=start.kind.buffer_minutes,
        status=Status.BOOKED,
        needling=request.needling,
        note_sealed=note_sealed,
        visit_version=1,
        link_generation=1,
    )


def _new_patient(details: PatientDetails, now: datetime) -> Patient:
    if details.birth_date is not None and not is_born(details.birth_date, now=now):
        raise Invalid("patient.birth_date", "lies in the future")
    return Patient(**asdict(details), id=uuid7(), created_at=now)


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


def ahead_of(session: Session, email: str, *, keys: Keyring, now: datetime) -> list[Visit]:
    """The visits to come that were booked with an e-mail address, however it was written, soonest first."""
    theirs = Patient.folded_email == email.lower()
    to_come = (Appointment.status == Status.BOOKED, Appointment.starts_at > now)
    rows = session.execute(
        _with_links().join(Patient, Patient.id == Appointment.patient_id).where(theirs, *to_come)
        .order_by(Appointment.starts_at, Appointment.id)
    )  # fmt: skip
    return [_with_token((appointment, link), keys) for appointment, link in rows]


def _visits(session: Session, wanted: ColumnElement[bool]) -> tuple[Appointment, ManageLink]:
    found = session.execute(_with_links().where(wanted)).one_or_none()
    if found is None:
        raise NotFound("There is no visit with this link.")
    return found


def _with_links() -> Select[Appointment, ManageLink]:
    """Visits with their newest links."""
    newest = (ManageLink.appointment_id == Appointment.id) & (ManageLink.generation == Appointment.link_generation)
    return (
        select(Appointment, ManageLink)
        .join(ManageLink, newest)
        .options(
            joinedload(Appointment.location),
            joinedload(Appointment.therapist),
            joinedload(Appointment.explainer_version),
        )
    )


def _with_token(found: tuple[Appointment, ManageLink], keys: Keyring) -> Visit:
    appointment, link = found
    token = keys.link_token(appointment.id, link.generation, link.key_id)
    if token is None:
        raise NotFound("This link's key was retired.")
    return Visit(appointment, token)


def add_link(session: Session, appointment: Appointment, keys: Keyring) -> str:
    """Give a visit the link that opens it; return its token."""
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


@dataclass(frozen=True, slots=True)
class BookSeries:
    """Staff book several starts of one therapist for a known patient, in their order: all of them or none."""

    slot_ids: tuple[str, ...]
    appointment_type_id: int
    patient: UUID
    needling: Needling
    note: str | None
    repeatable: Repeatable

    def one(self, slot_id: str) -> BookForPatient:
        return BookForPatient(
            slot_id, self.appointment_type_id, self.patient, self.needling, self.note, self.repeatable
        )


class SeriesRefused(Conflict):
    """Some starts of a series cannot be booked now, so none was; `refused` says which, and why each."""

    code = "series-refused"

    def __init__(self, refused: dict[str, NotBookable]) -> None:
        super().__init__("Some of these times cannot be booked any more, so none was.")
        self.refused = refused


def book_series(session: Session, request: BookSeries, *, by: Actor, keys: Keyring, now: datetime) -> list[Visit]:
    """Store visits that staff book together, each as `book_for` would, or raise and store none.

    The therapist is locked once. Raises SeriesRefused naming every start that is gone, Invalid for starts of several
    therapists, one that comes twice, none or too many, and for an unknown patient, slot or type.
    """
    first_id = uuid7()
    earlier = _claim_key(session, request.repeatable, first_id, now)
    if earlier is not None:
        return of_series(session, earlier, keys=keys)
    holds.sweep(session, [_one_therapist(request.slot_ids)], now=now)
    patient = session.get(Patient, request.patient)
    if patient is None:
        raise Invalid("patient", "There is no patient with this id.")
    visits: list[Visit] = []
    for slot_id, start in _all_bookable(session, request, now).items():
        number, wait = (uuid7(), TOLD_BY_THE_FIRST) if visits else (first_id, timedelta())
        try:
            visit = _store(
                session, number, request.one(slot_id), start, patient, None,
                by=by, keys=keys, now=now, confirm_after=wait,
            )  # fmt: skip
        except SlotTaken as refusal:  # two of them meet: no other can have come between, under the lock
            raise SeriesRefused({slot_id: refusal}) from refusal
        session.add(SeriesVisit(appointment_id=visit.appointment.id, first_id=first_id))
        visits.append(visit)
    return visits


def of_series(session: Session, first_id: UUID, *, keys: Keyring) -> list[Visit]:
    """The visits that were booked together with this first one, as they stand, by their starts."""
    ids = select(SeriesVisit.appointment_id).where(SeriesVisit.first_id == first_id)
    found = session.execute(_with_links().where(Appointment.id.in_(ids)).order_by(Appointment.starts_at)).all()
    return [_with_token((appointment, link), keys) for appointment, link in found]


def _one_therapist(slot_ids: Sequence[str]) -> int:
    """Whose starts these are; raises Invalid unless they are several of one therapist, each named once."""
    if not 1 <= len(slot_ids) <= MOST_OF_A_SERIES or len(set(slot_ids)) < len(slot_ids):
        raise Invalid("slots", f"Name from one to {MOST_OF_A_SERIES} times, each once.")
    whose = {SlotName.parse(slot_id).therapist_id for slot_id in slot_ids}
    if len(whose) > 1:
        raise Invalid("slots", "All times of a series are of one therapist.")
    return whose.pop()


def _all_bookable(session: Session, request: BookSeries, now: datetime) -> dict[str, Bookable]:
    """Every start by its id, each asked by the rules of search; raises SeriesRefused for all that break one."""
    starts: dict[str, Bookable] = {}
    refused: dict[str, NotBookable] = {}
    for slot_id in request.slot_ids:
        try:
            starts[slot_id] = availability.require_bookable(
                session, slot_id, request.appointment_type_id, now=now, by_staff=True
            )
        except NotBookable as refusal:
            refused[slot_id] = refusal
    if refused:
        raise SeriesRefused(refused)
    return starts
