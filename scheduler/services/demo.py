"""An invented clinic to try everything on: filled in bulk, but such that every invariant holds (`flask verify`)."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import JSON, func, insert, literal, select, update
from sqlalchemy.orm import Session
from uuid6 import uuid7

from scheduler.db import Base
from scheduler.errors import Conflict
from scheduler.keys import Keyring, fingerprint
from scheduler.models import (
    Account,
    Appointment,
    AppointmentType,
    AuditEvent,
    Channel,
    ClinicPolicy,
    Fate,
    Kind,
    License,
    Location,
    ManageLink,
    Needling,
    OutboxMessage,
    Patient,
    Role,
    Slot,
    StateRule,
    Status,
    Therapist,
    TherapistLanguage,
    WorkingHours,
)
from scheduler.services import accounts, audit, explainer, planning, practice, slots
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.services.planned import planned_time
from scheduler.timeline import CELL, DAY_MINUTES, Stretch, next_cell

THERAPISTS_A_CHUNK = 10
QUALIFICATION = "dry_needling"
SOURCE = "Secondary sources read in 2026 for a demonstration; to be checked by the clinic's counsel before use"
# State: hours of training that its rule asks for.
RULES = {"AZ": 24, "CO": 50, "DE": 54, "GA": 50, "IL": 130, "MD": 80}
DIRECTIONS = (
    "Parking is behind the building, with a ramp to the back door.\nPlease wear clothes that leave free what hurts.",
    "Second floor, by stairs or elevator; the bus stops outside.\nPlease bring a list of your medicines.",
)
# Town, area, state, zone. The first four are the smallest demo: three states, three zones, one without daylight saving.
TOWNS = (
    ("Springfield", "Springfield", "IL", "America/Chicago"),
    ("Chatham", "Springfield", "IL", "America/Chicago"),
    ("Denver", "Denver", "CO", "America/Denver"),
    ("Phoenix", "Phoenix", "AZ", "America/Phoenix"),
    ("Aurora", "Denver", "CO", "America/Denver"),
    ("Tempe", "Phoenix", "AZ", "America/Phoenix"),
    ("Atlanta", "Atlanta", "GA", "America/New_York"),
    ("Decatur", "Atlanta", "GA", "America/New_York"),
    ("Baltimore", "Baltimore", "MD", "America/New_York"),
    ("Towson", "Baltimore", "MD", "America/New_York"),
    ("Wilmington", "Wilmington", "DE", "America/New_York"),
    ("Evanston", "Chicago", "IL", "America/Chicago"),
)
TYPES = (
    ("New-patient evaluation", 60, True, False),
    ("Follow-up visit", 45, False, False),
    ("Dry-needling session", 30, False, True),
)
FIRST = (
    "Ana", "Ben", "Carla", "Dev", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jamal", "Kim", "Luis", "Maya", "Noah",
    "Olga", "Priya", "Quinn", "Rosa", "Sam", "Tara", "Umar", "Vera", "Will", "Ximena", "Yusuf", "Zoe",
)  # fmt: skip
LAST = (
    "Abbott", "Becker", "Castillo", "Dunn", "Ellis", "Fischer", "Garcia", "Huang", "Iverson", "Johnson", "Khan",
    "Lopez", "Meyer", "Nguyen", "Ortiz", "Patel", "Quist", "Rivera", "Singh", "Torres", "Ueda", "Vargas",
    "Walker", "Young",
)  # fmt: skip
# One of each role; the password is public, so production does not start with such an account.
PEOPLE = (
    ("admin@demo.example", "Alex Admin", Role.ADMIN),
    ("desk@demo.example", "Dana Desk", Role.FRONT_DESK),
    ("therapist@demo.example", "", Role.THERAPIST),
)
PASSWORD = "walk-in-the-park-48"  # noqa: S105 printed at every start
FRIDAY = 4
# Weekdays at 8–12 and 13–18, and for every third therapist an early start instead.
SHIFTS = (((480, 720), (780, 1080)), ((480, 720), (780, 1080)), ((420, 720), (750, 960)))


@dataclass(frozen=True, slots=True)
class DemoClinic:
    """How large the invented clinic is; `booked` is the share of each calendar that is taken."""

    locations: int = 4
    therapists: int = 12
    days: int = 90
    booked: float = 0.3
    seed: int = 1


class NotEmpty(Conflict):
    """The database holds a clinic already; the demo never mixes with real rows."""


Progress = Callable[[int, int], None]


def is_empty(session: Session) -> bool:
    rows = (select(func.count()).select_from(table).scalar_subquery() for table in (Location, Therapist, Patient))
    return not any(session.execute(select(*rows)).one())


def fill(session: Session, clinic: DemoClinic, *, keys: Keyring, now: datetime, progress: Progress) -> None:
    """Fill an empty database with a clinic; raise NotEmpty for any other. `progress` hears (therapists done, of)."""
    if not is_empty(session):
        raise NotEmpty("This database holds a clinic already: the demo fills only one without locations or patients.")
    chance = random.Random(clinic.seed)
    session.execute(update(ClinicPolicy).values(booking_horizon_days=clinic.days))
    _practice(session, clinic, now)
    end = slots.horizon_end(practice.policy(session), now)
    therapist_ids = session.scalars(select(Therapist.id).order_by(Therapist.id)).all()
    for first in range(0, len(therapist_ids), THERAPISTS_A_CHUNK):
        chunk = therapist_ids[first : first + THERAPISTS_A_CHUNK]
        slots.plan_cells(session, chunk, now, end, now=now)
        _book(session, chunk, clinic, chance, keys, now, end)
        slots.refit(session, chunk, now, end)
        progress(min(first + THERAPISTS_A_CHUNK, len(therapist_ids)), len(therapist_ids))
    for calendars in planning.due(session, now=now):
        planning.note(session, calendars)
    _people(session, session.get_one(Therapist, therapist_ids[0]), now)
    session.flush()


def sign_ins(session: Session) -> list[str]:
    """The addresses of the demo's accounts that are there and open."""
    own = select(Account.email).where(Account.email.in_([email for email, *_ in PEOPLE]), Account.active)
    return list(session.scalars(own.order_by(Account.id)))


def _people(session: Session, therapist: Therapist, now: datetime) -> None:
    """Sign-ins to try each role with; nobody is asked for a second factor."""
    password_hash = accounts.hashed(PASSWORD)
    for email, name, role in PEOPLE:
        own = therapist if role == Role.THERAPIST else None
        new = AccountDetails(email, name or therapist.name, role, therapist_id=own.id if own else None)
        account = accounts.add(session, new, by=Actor("demo"), now=now)
        account.needs_second_factor, account.password_hash = False, password_hash


def _practice(session: Session, clinic: DemoClinic, now: datetime) -> None:
    """Types, rules, locations, and therapists with both licences, languages and weekly hours."""
    today = now.date()
    session.add_all(
        AppointmentType(name=name, position=place, minutes=minutes, new_patient=new, includes_needling=needling)
        for place, (name, minutes, new, needling) in enumerate(TYPES, start=1)
    )
    session.add_all(_rule(state, hours, today) for state, hours in RULES.items())
    locations = [_location(number) for number in range(clinic.locations)]
    therapists = [_therapist(number) for number in range(clinic.therapists)]
    session.add_all([*locations, *therapists])
    session.flush()
    for number, therapist in enumerate(therapists):
        home = locations[number % len(locations)]
        near = [place for place in locations if place.area == home.area and place is not home]
        friday = near[0] if near and number % 4 == 0 else home  # some treat at a second address on Fridays
        session.add_all(_licences(therapist, home.state, today))
        session.add_all(_languages(therapist, number))
        session.add_all(_hours(therapist, home, friday, SHIFTS[number % len(SHIFTS)], today))
    session.flush()


def _location(number: int) -> Location:
    town, area, state, zone = TOWNS[number % len(TOWNS)]
    lap = number // len(TOWNS) + 1
    return Location(
        name=town if lap == 1 else f"{town} {lap}",
        area=area,
        address=f"{100 + 12 * number} Main Street, {town}, {state}",
        state=state,
        time_zone=zone,
        phone=f"+1 555 010 {number:04d}",
        directions=DIRECTIONS[number % len(DIRECTIONS)],
    )


def _therapist(number: int) -> Therapist:
    name = f"{FIRST[number % len(FIRST)]} {LAST[(number + number // len(FIRST)) % len(LAST)]}"
    return Therapist(name=name, credentials="PT, DPT", active=True)


def _rule(state: str, hours: int, today: date) -> StateRule:
    return StateRule(
        state=state,
        valid_from=today - timedelta(days=365),
        needling="permitted",
        qualification=QUALIFICATION,
        training_hours=hours,
        source=SOURCE,
        review_on=today + timedelta(days=180),
    )


def _licences(therapist: Therapist, state: str, today: date) -> Iterator[License]:
    for kind, prefix in (("pt", "PT"), (QUALIFICATION, "DN")):
        yield License(
            therapist_id=therapist.id,
            kind=kind,
            state=state,
            number=f"{prefix}-{state}-{10000 + therapist.id}",
            valid_from=today - timedelta(days=400),
            valid_until=today + timedelta(days=700),
            evidence="Invented for the demonstration",
            verified_by="demo",
            verified_at=datetime.combine(today - timedelta(days=400), time(12), UTC),
        )


def _languages(therapist: Therapist, number: int) -> Iterator[TherapistLanguage]:
    for language in ("en", "es") if number % 3 == 0 else ("en",):
        yield TherapistLanguage(therapist_id=therapist.id, language=language)


def _hours(
    therapist: Therapist, home: Location, friday: Location, shift: Sequence[tuple[int, int]], today: date
) -> Iterator[WorkingHours]:
    for weekday in range(5):
        for opens, closes in shift:
            yield WorkingHours(
                therapist_id=therapist.id,
                location_id=(friday if weekday == FRIDAY else home).id,
                weekday=weekday,
                opens_minute=opens,
                closes_minute=closes,
                valid_from=today - timedelta(days=30),
            )


def _book(
    session: Session,
    therapist_ids: Sequence[int],
    clinic: DemoClinic,
    chance: random.Random,
    keys: Keyring,
    now: datetime,
    end: datetime,
) -> None:
    """Take the wished share of some therapists' cells with visits of every type, and store all that a visit has."""
    kinds = session.scalars(select(AppointmentType)).all()
    shown = explainer.current(session, "en")
    rows: dict[type[Base], list[dict[str, Any]]] = {
        Patient: [],
        Appointment: [],
        ManageLink: [],
    }
    key_id = keys.newest_link_key_id
    stretches = planned_time(session, therapist_ids, next_cell(now), end)
    for stretch, starts_at, kind in _starts(stretches, kinds, clinic.booked, chance):
        booked_at = now - timedelta(minutes=chance.randrange(30, 30 * DAY_MINUTES))
        patient, appointment_id = _patient(chance, booked_at), uuid7()
        token = keys.link_token(appointment_id, 1, key_id)
        rows[Patient].append(patient)
        rows[Appointment].append({
            "id": appointment_id, "patient_id": patient["id"], "therapist_id": stretch.therapist_id,
            "location_id": stretch.location_id,
            "appointment_type_id": kind.id, "explainer_version_id": shown.id, "starts_at": starts_at,
            "ends_at": starts_at + timedelta(minutes=kind.minutes), "buffer_minutes": kind.buffer_minutes,
            "status": Status.BOOKED, "needling": chance.choice(list(Needling)), "note_sealed": None,
            "visit_version": 1, "link_generation": 1, "booked_at": booked_at,
        })  # fmt: skip
        rows[ManageLink].append({
            "appointment_id": appointment_id, "generation": 1, "key_id": key_id,
            "token_sha256": fingerprint(str(token)),
        })  # fmt: skip
    for table, values in rows.items():
        if values:
            session.connection().execute(insert(table), values)  # Core: no unit of work over half a million rows
    _note(session, therapist_ids)
    visit = (Appointment.therapist_id == Slot.therapist_id) & (Appointment.starts_at <= Slot.starts_at)
    taken = update(Slot).where(Slot.therapist_id.in_(therapist_ids), visit, Slot.starts_at < Appointment.ends_at)
    session.execute(
        taken.values(appointment_id=Appointment.id, fit=0, fit_open=0), execution_options={"synchronize_session": False}
    )


def _note(session: Session, therapist_ids: Sequence[int]) -> None:
    """Owe nobody anything: the confirmations are suppressed, with the reason; and record who booked all this."""
    of_chunk = Appointment.therapist_id.in_(therapist_ids)
    message = {
        "id": Appointment.id, "appointment_id": Appointment.id, "kind": literal(Kind.CONFIRMATION.value),
        "channel": literal(Channel.EMAIL.value), "offset_minutes": literal(0), "visit_version": literal(1),
        "due_at": Appointment.booked_at, "status": literal(Fate.SUPPRESSED.value), "reason": literal("demo patient"),
        "created_at": Appointment.booked_at,
    }  # fmt: skip
    event = {
        "id": Appointment.id, "happened_at": Appointment.booked_at, "actor": literal("demo"),
        "action": literal("appointment.booked"), "entity": literal("appointment"),
        "entity_id": audit.entity_id(Appointment.id), "detail": literal({}, JSON()),
    }  # fmt: skip
    for table, columns in ((OutboxMessage, message), (AuditEvent, event)):
        rows = select(*columns.values()).where(of_chunk)
        session.execute(insert(table).from_select(list(columns), rows, include_defaults=False))


def _starts(
    stretches: Sequence[Stretch], kinds: Sequence[AppointmentType], share: float, chance: random.Random
) -> Iterator[tuple[Stretch, datetime, AppointmentType]]:
    """Walk the working time and place visits by chance, more often while less than `share` of it is taken."""
    mean = sum(kind.cells for kind in kinds) / len(kinds)
    placing = share / (share + mean * (1 - share))
    walked = taken = 0
    for stretch in stretches:
        cell, cells = 0, stretch.cells
        while cell < cells:
            fitting = [kind for kind in kinds if kind.cells <= cells - cell]
            odds = 2 * placing if taken <= share * (walked + cell) else placing / 2
            if not fitting or chance.random() >= odds:
                cell += 1
                continue
            kind = chance.choice(fitting)
            yield stretch, stretch.starts_at + cell * CELL, kind
            cell += kind.cells
            taken += kind.cells
        walked += cells


def _patient(chance: random.Random, booked_at: datetime) -> dict[str, Any]:
    first, last = chance.choice(FIRST), chance.choice(LAST)
    address = f"{first}.{last}{chance.randrange(1000)}@example.com".lower()
    return {
        "id": uuid7(), "name": f"{first} {last}", "email": address,
        "phone": f"+1555010{chance.randrange(10000):04d}", "birth_date": date(chance.randrange(1940, 2008), 6, 15),
        "language": chance.choice(("en", "en", "en", "es")), "remind_by_email": False, "remind_by_sms": False,
        "created_at": booked_at,
    }  # fmt: skip
