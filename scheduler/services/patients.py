"""Patients who are likely the same person, and making one of two.

A public booking always adds a row and reads none, so whoever books twice is there twice. What is alike is shown, and
nothing is joined by itself: a family may share an address, a phone and a name.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import combinations
from uuid import UUID

from sqlalchemy import ColumnElement, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from scheduler.errors import Conflict, Invalid, NotFound
from scheduler.models import Appointment, AuditEvent, ClinicPolicy, Patient
from scheduler.services import audit, desk, reminders
from scheduler.services.audit import Actor
from scheduler.services.desk import Places

LIKE_ENOUGH = 0.8  # of the letters of two folded names: a slip, or a name left out
TWINS_LISTED = 200
CHOSEN = ("name", "email", "phone", "birth_date", "language")  # of each the one or the other stays


class Alike(StrEnum):
    """Why two patients are likely one person."""

    NAME_AND_BIRTH = "name-and-birth"
    EMAIL_AND_NAME = "email-and-name"
    PHONE = "phone"


class CannotMerge(Conflict):
    """Two rows that are one already, or whom nothing would reach any more."""

    code = "cannot-merge"


@dataclass(frozen=True, slots=True)
class Twin:
    """Somebody who is likely the same person as another, and why."""

    patient: Patient
    alike: Alike


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows that are likely one person, the older first."""

    older: Patient
    newer: Patient
    alike: Alike


def alike(one: Patient, other: Patient) -> Alike | None:
    """Why two are likely one person; None where nothing says so."""
    if one.birth_date is not None and (one.folded_name, one.birth_date) == (other.folded_name, other.birth_date):
        return Alike.NAME_AND_BIRTH
    if one.birth_date and other.birth_date and one.birth_date != other.birth_date:
        return None
    same_mail = one.email is not None and other.email is not None and one.email.lower() == other.email.lower()
    if same_mail and similar(one.folded_name, other.folded_name):
        return Alike.EMAIL_AND_NAME
    return Alike.PHONE if one.phone is not None and one.phone == other.phone else None


def similar(one: str, other: str) -> bool:
    """Whether two folded names may be one person's: nearly the same letters, or all words of one in the other."""
    words, others = set(one.split()), set(other.split())
    if words and others and (words <= others or others <= words):
        return True
    return SequenceMatcher(None, one, other, autojunk=False).ratio() >= LIKE_ENOUGH


def twins(session: Session, patient: Patient, places: Places) -> list[Twin]:
    """Who of those whom somebody may see is likely this person too, the newest first. One query."""
    same: list[ColumnElement[bool]] = [Patient.folded_name == patient.folded_name]
    if patient.email is not None:
        same.append(Patient.email.in_({patient.email, patient.email.lower()}))
    if patient.phone is not None:
        same.append(Patient.phone == patient.phone)
    others = select(Patient).where(Patient.id != patient.id, Patient.erased_at.is_(None), or_(*same), desk.seen(places))
    found = session.scalars(others.order_by(Patient.created_at.desc(), Patient.id.desc()).limit(TWINS_LISTED))
    return [Twin(other, why) for other in found if (why := alike(patient, other)) is not None]


def all_twins(session: Session, places: Places) -> list[Pair]:
    """Pairs among the newest of those who share something, the newest first. One query."""
    other = aliased(Patient)
    # Each way by itself, so that each is a look into an index.
    ways = (other.folded_name == Patient.folded_name, other.email == Patient.email, other.phone == Patient.phone)
    shares = or_(*(exists().where(other.id != Patient.id, way) for way in ways))
    known = Patient.erased_at.is_(None)
    found = select(Patient).where(known, shares, desk.seen(places))
    newest_first = found.order_by(Patient.created_at.desc(), Patient.id.desc()).limit(TWINS_LISTED)
    pairs = combinations(session.scalars(newest_first).all(), 2)
    return [Pair(older, newer, why) for newer, older in pairs if (why := alike(newer, older)) is not None]


def pair(session: Session, kept_id: UUID, other_id: UUID, places: Places) -> tuple[Patient, Patient]:
    """Two patients whom somebody may see; raises NotFound, or CannotMerge for one and the same."""
    if kept_id == other_id:
        raise CannotMerge("These are the same already.")
    return desk.patient(session, kept_id, places), desk.patient(session, other_id, places)


def merged_into(session: Session, patient_id: UUID) -> UUID | None:
    """Whom a patient who is gone was made one with, if anybody; by the record, which keeps that for good."""
    events = select(AuditEvent.detail).where(
        AuditEvent.entity == Patient.__tablename__,
        AuditEvent.entity_id == patient_id.hex,
        AuditEvent.action == "patient.merged_away",
    )
    detail = session.scalars(events.limit(1)).first()
    return UUID(detail["into"]) if detail is not None else None


def merge(
    session: Session,
    kept_id: UUID,
    other_id: UUID,
    places: Places,
    *,
    take: Mapping[str, UUID],
    by: Actor,
    now: datetime,
) -> Patient:
    """Make one patient of two: all visits are under `kept_id` after it, and the other row is gone.

    `take` names for each field of CHOSEN whose stays; who gave the e-mail address said about reminders too. Doing it
    twice changes nothing more. Raises NotFound for somebody foreign, CannotMerge where nothing would reach them.
    """
    if merged_into(session, other_id) == kept_id:
        return desk.patient(session, kept_id, places)
    ids = sorted((kept_id, other_id))
    # In the order of their ids, so that two who merge the same two the other way round wait and do not lock each other.
    locked = select(Patient).where(Patient.id.in_(ids)).order_by(Patient.id).with_for_update()
    session.scalars(locked.execution_options(populate_existing=True)).all()
    if merged_into(session, other_id) == kept_id:
        return desk.patient(session, kept_id, places)
    kept, other = pair(session, kept_id, other_id, places)
    if kept.erased_at is not None or other.erased_at is not None:
        raise CannotMerge("One of them is erased.")
    fields = _taken(kept, other, take)
    if fields["email"] is None and fields["phone"] is None:
        raise CannotMerge("Nobody could reach them any more.")
    moved = _move_visits(session, kept, other)
    for name, value in fields.items():
        setattr(kept, name, value)
    session.flush()
    _owe_what_is_missing(session, kept, now=now)
    audit.record(session, "patient.merged_away", other, by=by, now=now, into=kept.id.hex)
    audit.record(session, "patient.merged", kept, by=by, now=now, merged=other.id.hex, visits=len(moved))
    session.delete(other)
    session.flush()
    return kept


def _taken(kept: Patient, other: Patient, take: Mapping[str, UUID]) -> dict[str, object]:
    """What the one row says then; raises Invalid for a choice that is neither."""
    either = {kept.id: kept, other.id: other}
    for name in CHOSEN:
        if take.get(name, kept.id) not in either:
            raise Invalid(name, "Choose one of the two.")
    fields: dict[str, object] = {name: getattr(either[take.get(name, kept.id)], name) for name in CHOSEN}
    who = either[take.get("email", kept.id)]
    return fields | {"remind_by_email": who.remind_by_email, "remind_by_sms": kept.remind_by_sms}


def _move_visits(session: Session, kept: Patient, other: Patient) -> Sequence[UUID]:
    visits = update(Appointment).where(Appointment.patient_id == other.id).values(patient_id=kept.id)
    return session.scalars(visits.returning(Appointment.id)).all()


def _owe_what_is_missing(session: Session, kept: Patient, *, now: datetime) -> None:
    """Visits of somebody who had no e-mail address owe what those with one do: reminders of what is ahead."""
    if kept.email is not None:
        visits = session.scalars(select(Appointment).where(Appointment.patient_id == kept.id)).all()
        policy = session.get_one(ClinicPolicy, 1)
        reminders.take_over(session, visits, kept, policy, now=now)


def by_reason(pairs: Sequence[Pair]) -> dict[Alike, list[Pair]]:
    """Pairs by why they are likely one, the surest reason first."""
    found = defaultdict[Alike, list[Pair]](list)
    for one in pairs:
        found[one.alike].append(one)
    return {why: found[why] for why in Alike if found[why]}


def require_there(session: Session, patient_id: UUID, places: Places) -> Patient:
    """A patient, or whom they were made one with; raises NotFound for nobody and for another's."""
    into = merged_into(session, patient_id)
    if into is None:
        raise NotFound("There is no such patient.")
    return desk.patient(session, into, places)
