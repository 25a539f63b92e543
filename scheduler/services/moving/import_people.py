"""Therapists and patients from another program. Whoever is here already is left as they are."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid6 import uuid7

from scheduler.models import Account, Patient, Role, Therapist
from scheduler.services import accounts, audit, staffing
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.services.moving.import_lines import (
    Cells,
    File,
    Line,
    Outcome,
    Trouble,
    birth_date_of,
    email_of,
    language_of,
    languages_of,
    lines,
    name_key,
    phone_of,
    text_of,
)
from scheduler.services.staffing import TherapistDetails
from scheduler.words import DEFAULT_LANGUAGE

LONGEST_CREDENTIALS = 100


@dataclass(frozen=True, slots=True)
class NewTherapist:
    """`account_id` is whose account is theirs already; without it, an e-mail address gives them one."""

    details: TherapistDetails
    email: str | None
    account_id: int | None


@dataclass(frozen=True, slots=True)
class Person:
    """What tells one patient from another; the name as it is compared."""

    name: str
    email: str | None
    phone: str | None
    birth_date: date | None

    @property
    def reachable(self) -> bool:
        return self.email is not None or self.phone is not None

    def could_be(self, other: "Person") -> bool:
        """Whether all that both tell is the same, and one thing beside the name is, unless one tells the name only."""
        pairs = (
            (self.email, other.email),
            (self.phone, other.phone),
            (self.birth_date, other.birth_date),
        )
        told = [one == another for one, another in pairs if one is not None and another is not None]
        return self.name == other.name and all(told) and (bool(told) or not any(one is not None for one, _ in pairs))


@dataclass(frozen=True, slots=True)
class NewPatient:
    id: UUID
    name: str
    email: str | None
    phone: str | None
    birth_date: date | None
    language: str


@dataclass(slots=True)
class Patients:
    """Everybody whom the clinic knows, by name, the first known first."""

    by_name: dict[str, dict[Person, UUID]] = field(default_factory=dict)

    @classmethod
    def all(cls, session: Session) -> "Patients":
        known = cls()
        told = select(Patient.id, Patient.name, Patient.email, Patient.phone, Patient.birth_date)
        told = told.where(Patient.erased_at.is_(None))
        for patient_id, name, email, phone, born in session.execute(told.order_by(Patient.created_at, Patient.id)):
            known.add(Person(name_key(name), email, phone, born), patient_id)
        return known

    def add(self, person: Person, patient_id: UUID) -> None:
        self.by_name.setdefault(person.name, {}).setdefault(person, patient_id)

    def exactly(self, person: Person) -> UUID | None:
        return self.by_name.get(person.name, {}).get(person)

    def like(self, person: Person) -> list[UUID]:
        """Whoever this may be; the very same one only, where there is one."""
        same = self.exactly(person)
        alike = self.by_name.get(person.name, {})
        return [same] if same else [patient_id for other, patient_id in alike.items() if person.could_be(other)]


def therapist_lines(session: Session, file: File) -> Iterator[Line]:
    """Therapists are known by their names."""
    known = {name_key(name): 0 for name in session.scalars(select(Therapist.name))}
    line_of: dict[str, int] = {}
    owners = {account.email: account for account in session.scalars(select(Account))}
    for cells in lines(file):
        name = cells.name("name")
        credentials = cells.read("credentials", text_of(LONGEST_CREDENTIALS)) or ""
        languages = cells.read("languages", languages_of) or (DEFAULT_LANGUAGE,)
        email = cells.read("email", lambda text: email_of(text).lower())
        earlier = known.setdefault(name_key(name), cells.number) if name else cells.number
        if earlier == 0 and not cells.problems:
            yield cells.line(None, Outcome.KNOWN)
            continue
        if earlier not in {0, cells.number}:
            cells.note("name", Trouble.TWICE, str(earlier))
        owner = owners.get(email or "")
        if email and email in line_of:
            cells.note("email", Trouble.TWICE, str(line_of[email]))
        elif email and owner is not None and (owner.therapist_id is not None or not owner.active):
            cells.note("email", Trouble.ACCOUNT, email)
        details = TherapistDetails(name or "", credentials, languages)
        line = cells.line(NewTherapist(details, email, owner.id if owner else None))
        if email and line.row is not None:
            line_of[email] = cells.number
        yield line


def store_therapists(session: Session, new: Iterable[NewTherapist], *, by: Actor, now: datetime) -> None:
    """Store therapists, each with an account where an address was given; nobody gets a message before they are invited.

    An account of this address becomes theirs: one person has one account.
    """
    for one in new:
        therapist = staffing.add_therapist(session, one.details, by=by, now=now)
        if one.account_id is not None:
            account = session.get_one(Account, one.account_id)
            account.therapist_id = therapist.id
            audit.record(session, "account.changed", account, by=by, now=now, therapist_id=therapist.id)
        elif one.email is not None:
            account_of = AccountDetails(one.email, one.details.name, Role.THERAPIST, therapist_id=therapist.id)
            accounts.add(session, account_of, by=by, now=now)


def patient_lines(session: Session, file: File, *, now: datetime) -> Iterator[Line]:
    """Patients are known by name, e-mail, phone and date of birth together: two people may share any of them."""
    known, first = Patients.all(session), dict[Person, int]()
    for cells in lines(file):
        name, person = read_person(cells, "name", now=now)
        language = cells.read("language", language_of) or DEFAULT_LANGUAGE
        if name and not cells.problems and not person.reachable:
            cells.note("email", Trouble.UNREACHABLE)
        earlier = first.setdefault(person, cells.number)
        if earlier != cells.number and not cells.problems:
            cells.note("name", Trouble.TWICE, str(earlier))
        outcome = Outcome.KNOWN if known.exactly(person) else Outcome.NEW
        yield cells.line(new_patient(name, person, language), outcome)


def read_person(cells: Cells, column: str, *, now: datetime) -> tuple[str, Person]:
    """Who a line is about: the name as it is written, and what tells them from others."""
    name = cells.name(column) or ""
    born = cells.read("birth_date", lambda text: birth_date_of(text, day_first=cells.day_first, today=now.date()))
    return name, Person(name_key(name), cells.read("email", email_of), cells.read("phone", phone_of), born)


def new_patient(name: str, person: Person, language: str) -> NewPatient:
    return NewPatient(uuid7(), name, person.email, person.phone, person.birth_date, language)


def store_patients(session: Session, new: Iterable[NewPatient], *, by: Actor, now: datetime) -> None:
    rows = [
        Patient(
            id=one.id,
            name=one.name,
            email=one.email,
            phone=one.phone,
            birth_date=one.birth_date,
            language=one.language,
            remind_by_email=one.email is not None,
            remind_by_sms=False,
            created_at=now,
        )
        for one in new
    ]
    session.add_all(rows)
    session.flush()
    for row in rows:
        audit.record(session, "patient.added", row, by=by, now=now)
