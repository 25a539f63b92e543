"""What the front desk works with: a day across therapists, patients by what a caller says, whom to call themselves.

`places` are the locations that somebody may see, None for all: what lies elsewhere is not found.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, delete, exists, false, func, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session, contains_eager, joinedload

from scheduler.db import insert_into
from scheduler.errors import Conflict, NotFound
from scheduler.keys import Keyring
from scheduler.models import (
    Account,
    Appointment,
    AuditEvent,
    Fate,
    Kind,
    Location,
    OutboxMessage,
    Patient,
    Slot,
    Status,
    Therapist,
    Told,
    WorkingHours,
)
from scheduler.services import audit, availability, booking, moves, outbox, practice
from scheduler.services.audit import PATIENT, Actor
from scheduler.services.availability import Find, Offer, SlotName
from scheduler.services.booking import BookForPatient, PatientDetails, Visit
from scheduler.timeline import CELL, DAY, cell_of, first_instant, zone_of
from scheduler.words import folded

Places = frozenset[int] | None
PATIENTS_A_PAGE = 20
VISITS_OF_A_PATIENT = 100
CALLS_A_PAGE = 100
OTHER_TIMES = 6
LONGEST_QUERY = 254  # no name and no address is longer
FEWEST_DIGITS = 3  # fewer are part of nearly every number


class ChangedMeanwhile(Conflict):
    """What somebody was looking at is not how it stands any more."""

    code = "changed-meanwhile"


@dataclass(frozen=True, slots=True)
class FreeTime:
    """Time of one therapist that is free without a gap."""

    therapist: Therapist
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """Some patients, the newest first, each with their latest visit; `after` names the last when there are more."""

    patients: Sequence[Patient]
    latest: dict[UUID, Appointment]
    after: UUID | None


@dataclass(frozen=True, slots=True)
class Call:
    """A visit whose patient no message reaches; `told` and `teller` when somebody of the staff did."""

    visit: Appointment
    told: Told | None
    teller: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A message that will not go by itself any more, and its visit."""

    message: OutboxMessage
    visit: Appointment


@dataclass(frozen=True, slots=True)
class Missed:
    """How often somebody cancelled later than the clinic asked for, and how often they did not come."""

    cancelled_late: int
    no_shows: int


def locations(session: Session, places: Places) -> list[Location]:
    """Where somebody works, by name."""
    return [place for place in practice.locations(session) if places is None or place.id in places]


def location(session: Session, location_id: int, places: Places) -> Location:
    found = session.get(Location, location_id) if places is None or location_id in places else None
    if found is None:
        raise NotFound("There is no such location.")
    return found


def therapists(session: Session, place: Location) -> Sequence[Therapist]:
    """Active therapists who have hours at a location, by name."""
    works_there = exists().where(WorkingHours.therapist_id == Therapist.id, WorkingHours.location_id == place.id)
    return session.scalars(select(Therapist).where(Therapist.active, works_there).order_by(Therapist.name)).all()


def day(session: Session, place: Location, on: date) -> Sequence[Appointment]:
    """All visits that begin on a local day at one location, by time and therapist. One query at any size."""
    first, end = _bounds(place, on)
    visits = _visits().where(
        Appointment.location_id == place.id, Appointment.starts_at >= first, Appointment.starts_at < end
    )
    return session.scalars(visits.order_by(Appointment.starts_at, Therapist.name, Appointment.id)).all()


def free_times(session: Session, place: Location, on: date, *, now: datetime) -> list[FreeTime]:
    """What is left of a local day at one location, by therapist and time, from the quarter hour that is running on.

    Without what is kept back for short notice and not released yet.
    """
    first, end = _bounds(place, on)
    cells = (
        select(Therapist, Slot.starts_at)
        .join(Therapist, Therapist.id == Slot.therapist_id)
        .where(
            Slot.location_id == place.id,
            Slot.fit > 0,
            or_(Slot.fit_open > 0, Slot.starts_at <= availability.release(practice.policy(session), now)),
            Slot.starts_at >= max(first, cell_of(now)),
            Slot.starts_at < end,
        )
        .order_by(Therapist.name, Therapist.id, Slot.starts_at)
    )
    return _without_gaps((therapist, starts_at) for therapist, starts_at in session.execute(cells))


def other_times(session: Session, slot_id: str, appointment_type_id: int, *, now: datetime) -> list[Offer]:
    """What staff may book at the same location when this start is gone: from it on, then from now on."""
    wanted = SlotName.parse(slot_id)
    found: dict[SlotName, Offer] = {}
    for from_ in (wanted.starts_at, cell_of(now)):
        find = Find(appointment_type_id, wanted.location_id, from_=from_, limit=OTHER_TIMES, by_staff=True)
        if len(found) < OTHER_TIMES:
            found |= {offer.slot: offer for offer in availability.search(session, find, now=now).offers}
    return list(found.values())[:OTHER_TIMES]


def book(
    session: Session, request: BookForPatient, places: Places, *, by: Actor, keys: Keyring, now: datetime
) -> Visit:
    """Book for somebody at one of the places, as `booking.book_for` does; NotFound for a foreign place or patient."""
    location(session, SlotName.parse(request.slot_id).location_id, places)
    known = None if isinstance(request.patient, PatientDetails) else request.patient
    if known is not None and patient(session, known, places, lock=True).erased_at is not None:
        raise NotFound("There is no such patient.")
    return booking.book_for(session, request, by=by, keys=keys, now=now)


def move(
    session: Session, appointment: Appointment, slot_id: str, places: Places, *, by: Actor, keys: Keyring, now: datetime
) -> Visit:
    """Move a visit of `visit` to one of the places, as `moves.move_for` does; NotFound for a foreign place."""
    location(session, SlotName.parse(slot_id).location_id, places)
    return moves.move_for(session, appointment, slot_id, by=by, keys=keys, now=now)


def bring_back(
    session: Session, visit_id: UUID, places: Places, *, by: Actor, keys: Keyring, now: datetime
) -> Appointment:
    """Take back that a visit of these places was cancelled, as `moves.bring_back` does."""
    found = visit(session, visit_id, places)
    moves.bring_back(session, found, by=by, keys=keys, now=now)
    return found


def visit(session: Session, visit_id: UUID, places: Places) -> Appointment:
    found = session.scalars(_visits().where(Appointment.id == visit_id, _within(places))).one_or_none()
    if found is None:
        raise NotFound("There is no such visit.")
    return found


def find_patients(session: Session, asked: str, places: Places, *, after: UUID | None = None) -> Found:
    """Patients by parts of their name, e-mail address or phone number, however written; two or three queries.

    Nothing asked finds nobody. NotFound for an `after` that is nobody.
    """
    wanted = select(Patient).where(_matching(asked), seen(places), Patient.erased_at.is_(None))
    if after is not None:
        last = session.scalars(select(Patient).where(Patient.id == after, seen(places))).one_or_none()
        if last is None:
            raise NotFound("There is no such patient.")
        as_old = and_(Patient.created_at == last.created_at, Patient.id < last.id)
        wanted = wanted.where(or_(Patient.created_at < last.created_at, as_old))
    newest_first = wanted.order_by(Patient.created_at.desc(), Patient.id.desc()).limit(PATIENTS_A_PAGE + 1)
    patients = session.scalars(newest_first).all()
    shown = patients[:PATIENTS_A_PAGE]
    latest = _latest_visits(session, [one.id for one in shown], places)
    return Found(shown, latest, shown[-1].id if len(patients) > PATIENTS_A_PAGE else None)


def patient(session: Session, patient_id: UUID, places: Places, *, lock: bool = False) -> Patient:
    """Raises NotFound for none and for another's; locked, nobody merges or erases them until the end."""
    wanted = select(Patient).where(Patient.id == patient_id, seen(places))
    found = session.scalars(wanted.with_for_update(read=True) if lock else wanted).one_or_none()
    if found is None:
        raise NotFound("There is no such patient.")
    return found


def missed_by(session: Session, patient_id: UUID, places: Places) -> Missed:
    """How often a patient cancelled late, or did not come, at these places."""
    counts = select(
        func.count().filter(Appointment.cancelled_late), func.count().filter(Appointment.status == Status.NOSHOW)
    )
    late, no_shows = session.execute(counts.where(Appointment.patient_id == patient_id, _within(places))).one()
    return Missed(late, no_shows)


def visits_of(session: Session, patient_id: UUID, places: Places) -> Sequence[Appointment]:
    """The latest visits of a patient at these places, newest first."""
    of_patient = _visits().where(Appointment.patient_id == patient_id, _within(places))
    return session.scalars(of_patient.order_by(Appointment.starts_at.desc()).limit(VISITS_OF_A_PATIENT)).all()


def failed_messages(session: Session, places: Places, *, now: datetime) -> list[Failed]:
    """Messages about visits ahead that failed and would still be of use, by the visits' time."""
    of_use = (OutboxMessage.kind == Kind.CANCELLATION) == (Appointment.status == Status.CANCELLED)
    rows = session.execute(
        _visits()
        .add_columns(OutboxMessage)
        .join(OutboxMessage, OutboxMessage.appointment_id == Appointment.id)
        .where(_within(places), _to_be_told(now), OutboxMessage.status == Fate.FAILED, of_use)
        .where(OutboxMessage.visit_version == Appointment.visit_version)
        .order_by(Appointment.starts_at, OutboxMessage.id)
        .limit(CALLS_A_PAGE)
    )
    return [Failed(message, visit) for visit, message in rows]


def try_again(session: Session, message_id: UUID, places: Places, *, by: Actor, keys: Keyring, now: datetime) -> None:
    """Owe a failed message anew. Raises NotFound for a foreign one, NotWorthSending when its visit changed."""
    visits = select(OutboxMessage).join(Appointment, Appointment.id == OutboxMessage.appointment_id)
    message = session.scalars(visits.where(OutboxMessage.id == message_id, _within(places))).one_or_none()
    if message is None:
        raise NotFound("There is no such message.")
    if message.status == Fate.FAILED:
        outbox.owe_anew(session, message_id, keys=keys, now=now)
        audit.record(session, "outbox_message.tried_again", message, by=by, now=now, fields="status, reason, tries")


def calls(session: Session, places: Places, *, now: datetime) -> list[Call]:
    """Visits ahead whose patients no message tells how they stand, soonest first: the call list. One query."""
    rows = session.execute(_calls(places, now).order_by(Appointment.starts_at, Appointment.id).limit(CALLS_A_PAGE))
    return [Call(visit, told, teller) for visit, told, teller in rows]


def calls_to_make(session: Session, places: Places, *, now: datetime) -> int:
    """How many of the call list nobody has told yet."""
    untold = _calls(places, now).where(Told.appointment_id.is_(None)).with_only_columns(func.count())
    return session.execute(untold).scalar_one()


def tell(session: Session, appointment: Appointment, stands: str, *, account_id: int, by: Actor, now: datetime) -> None:
    """Note that a patient was told how their visit stands; see `standing`. Doing it twice changes nothing more.

    Raises ChangedMeanwhile for a visit that stands otherwise by now.
    """
    session.refresh(appointment, ["status", "visit_version"], with_for_update=True)
    if standing(appointment) != stands:
        raise ChangedMeanwhile("This visit was changed meanwhile.")
    key = {
        "appointment_id": appointment.id,
        "visit_version": appointment.visit_version,
        "status": appointment.status,
    }
    new = insert_into(session, Told).values(**key, account_id=account_id, told_at=now).on_conflict_do_nothing()
    if session.execute(new.returning(Told.told_at)).first() is not None:
        audit.record(session, "appointment.told", appointment, by=by, now=now, version=appointment.visit_version)


def untell(session: Session, appointment: Appointment, *, by: Actor, now: datetime) -> None:
    """Take back that a patient was told how their visit stands now."""
    of_visit = (
        Told.appointment_id == appointment.id,
        Told.visit_version == appointment.visit_version,
        Told.status == appointment.status,
    )
    if session.execute(delete(Told).where(*of_visit).returning(Told.told_at)).first() is not None:
        audit.record(session, "appointment.untold", appointment, by=by, now=now, version=appointment.visit_version)


def standing(appointment: Appointment) -> str:
    """How a visit stands, as a word that changes with whatever its patient has to be told."""
    return f"{appointment.visit_version}-{appointment.status}"


def _visits() -> Select[Appointment]:
    """Visits with all that a line about one says."""
    return (
        select(Appointment)
        .join(Patient, Patient.id == Appointment.patient_id)
        .join(Therapist, Therapist.id == Appointment.therapist_id)
        .options(
            contains_eager(Appointment.patient),
            contains_eager(Appointment.therapist),
            joinedload(Appointment.location),
            joinedload(Appointment.appointment_type),
        )
    )


def _within(places: Places, column: InstrumentedAttribute[int] = Appointment.location_id) -> ColumnElement[bool]:
    return true() if places is None else column.in_(places)


def seen(places: Places) -> ColumnElement[bool]:
    """Whose patients somebody may see: who ever had a visit at one of the places; everybody's, who may see all."""
    return true() if places is None else exists().where(Appointment.patient_id == Patient.id, _within(places))


def _bounds(place: Location, on: date) -> tuple[datetime, datetime]:
    zone = zone_of(place.time_zone)
    return first_instant(on, 0, zone), first_instant(on + DAY, 0, zone)


def _without_gaps(cells: Iterable[tuple[Therapist, datetime]]) -> list[FreeTime]:
    """Join cells that follow each other; they come by therapist and time."""
    times: list[FreeTime] = []
    for therapist, starts_at in cells:
        last = times[-1] if times else None
        if last is not None and last.therapist is therapist and last.ends_at == starts_at:
            times[-1] = FreeTime(therapist, last.starts_at, starts_at + CELL)
        else:
            times.append(FreeTime(therapist, starts_at, starts_at + CELL))
    return times


def _matching(asked: str) -> ColumnElement[bool]:
    """Every word is part of the name, or the whole of the e-mail address, or its digits of the phone number."""
    plain = "".join(sign if sign.isprintable() else " " for sign in asked).strip()
    if len(plain) > LONGEST_QUERY:
        return false()
    words = dict.fromkeys(folded(plain).split())
    digits = re.sub(r"[^0-9]", "", plain)
    ways: list[ColumnElement[bool]] = []
    if words:
        ways.append(and_(*(Patient.folded_name.contains(word, autoescape=True) for word in words)))
    if plain and " " not in plain:
        ways.append(func.lower(Patient.email).contains(plain.lower(), autoescape=True))
    if len(digits) >= FEWEST_DIGITS and not any(sign.isalpha() for sign in plain):
        ways.append(Patient.phone.contains(digits))
    return or_(false(), *ways)


def _latest_visits(session: Session, patient_ids: Sequence[UUID], places: Places) -> dict[UUID, Appointment]:
    """The latest visit of each at these places, ahead or past, without what was cancelled."""
    of_them = (
        Appointment.patient_id.in_(patient_ids),
        _within(places),
        Appointment.status != Status.CANCELLED,
    )
    latest = (
        select(Appointment.patient_id, func.max(Appointment.starts_at).label("starts_at"))
        .where(*of_them)
        .group_by(Appointment.patient_id)
        .subquery()
    )
    is_latest = and_(Appointment.patient_id == latest.c.patient_id, Appointment.starts_at == latest.c.starts_at)
    rows = session.scalars(_visits().join(latest, is_latest).where(*of_them))
    return {visit.patient_id: visit for visit in rows}


def _to_be_told(now: datetime) -> ColumnElement[bool]:
    """Visits ahead of which their patients have to know."""
    return and_(Appointment.starts_at > now, Appointment.status.in_([Status.BOOKED, Status.CANCELLED]))


def _calls(places: Places, now: datetime) -> Select[Appointment, Told, str]:
    """Visits ahead without an e-mail address, or whose news failed; nobody is told what they did themselves."""
    cancelled = Appointment.status == Status.CANCELLED
    news = or_(
        and_(cancelled, OutboxMessage.kind == Kind.CANCELLATION),
        and_(~cancelled, OutboxMessage.kind.in_([Kind.CONFIRMATION, Kind.MOVED])),
    )
    failed = exists().where(
        OutboxMessage.appointment_id == Appointment.id,
        news,
        OutboxMessage.visit_version == Appointment.visit_version,
        OutboxMessage.status == Fate.FAILED,
    )
    called_off_themselves = exists().where(
        Appointment.status == Status.CANCELLED,
        AuditEvent.entity == Appointment.__tablename__,
        AuditEvent.entity_id == audit.entity_id(Appointment.id),
        AuditEvent.action == "appointment.cancelled",
        AuditEvent.actor == PATIENT.name,
    )
    told = and_(
        Told.appointment_id == Appointment.id,
        Told.visit_version == Appointment.visit_version,
        Told.status == Appointment.status,
    )
    return (
        _visits()
        .add_columns(Told, Account.name)
        .outerjoin(Told, told)
        .outerjoin(Account, Account.id == Told.account_id)
        .where(_within(places), _to_be_told(now), or_(Patient.email.is_(None), failed), ~called_off_themselves)
    )
