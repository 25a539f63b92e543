"""Every rule of the schema refuses a write that breaks it, by its own name, on both databases.

Each case first stores a valid row, then tries the same again with one thing wrong. What it stores stays, in a database
of this module's own, and no two rows share a key unless a case wants them to.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Engine,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    delete,
    insert,
    null,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from uuid6 import uuid7

import config
from scheduler import cli
from scheduler.clock import FixedClock
from scheduler.db import Base, constraint_name, insert_into, make_engine, reading, transaction
from scheduler.errors import ConstraintViolated, SlotTaken
from scheduler.models import (
    AccessDay,
    AccessQuestion,
    AccessRequest,
    AccessSample,
    AccessWatch,
    AccessWord,
    Account,
    AccountLocation,
    Appointment,
    AppointmentType,
    AppointmentTypeLocation,
    AppointmentTypeTherapist,
    Attempt,
    AuditEvent,
    BookingCount,
    CalendarFeed,
    CalendarPlan,
    ChannelState,
    ClaimChange,
    ClinicPolicy,
    Closure,
    ContactRequest,
    ExplainerVersion,
    Heartbeat,
    Hold,
    IdempotencyKey,
    LetGoDay,
    LeverUse,
    License,
    Location,
    ManageLink,
    OutboxMessage,
    Override,
    Passkey,
    Patient,
    ProtectionLevel,
    RecoveryCode,
    SeriesVisit,
    SignInAttempt,
    Slot,
    StaffSession,
    StandbyOpening,
    StateRule,
    Therapist,
    TherapistLanguage,
    TimeOff,
    Told,
    UsedChallenge,
    VisitsRequest,
    WorkingHours,
)
from scheduler.models.messaging import TO_STAFF
from tests import postgres
from tests.clinic import at
from tests.conftest import BACKENDS, worker_name

Values = dict[str, Any]
NOON = at("2027-03-15T12:00+00:00")
QUARTER = timedelta(minutes=15)
NOBODY = 999_999_999
NO_ID = UUID(int=1)
DAY = date(2027, 3, 15)
HOURS = ("next_available_hours", "third_next_available_hours")
numbers = count(1)


@pytest.fixture(scope="module", params=BACKENDS)
def database(request: pytest.FixtureRequest, settings: config.Settings) -> Iterator[Engine]:
    """A migrated database that the cases of this module share."""
    if request.param == "sqlite":
        folder: Path = request.getfixturevalue("tmp_path_factory").mktemp("constraints")
        url = f"sqlite:///{shutil.copy(request.getfixturevalue('migrated_sqlite'), folder / 'scheduler.db')}"
    else:
        url = config.driver_url(postgres.fresh_database(f"constraints_{worker_name()}"))
    engine = make_engine(url)
    cli.prepare(settings, engine, FixedClock(NOON))
    yield engine
    engine.dispose()


# --- valid rows


def valid(session: Session, model: type[Base]) -> Values:
    """A row that every rule accepts, its parents stored; no key of it was ever used before."""
    return VALID[model](session, next(numbers))


def stored(session: Session, model: type[Base], **changes: Any) -> Values:  # noqa: ANN401 columns of the model
    """Store a valid row; return it with its key."""
    values = valid(session, model) | changes
    if model is ClinicPolicy:
        session.execute(delete(ClinicPolicy))  # there is only ever one
    key = session.connection().execute(insert(model).values(**values)).inserted_primary_key
    assert key is not None
    names = (column.name for column in model.__table__.primary_key)
    return values | dict(zip(names, key, strict=True))


def a_location(_session: Session, n: int) -> Values:
    return {"name": f"L{n}", "area": "", "address": "", "state": "IL", "time_zone": "America/Chicago", "phone": ""}


def a_therapist(_session: Session, n: int) -> Values:
    return {"name": f"T{n}", "credentials": "PT", "active": True}


def a_language(session: Session, _n: int) -> Values:
    return {"therapist_id": stored(session, Therapist)["id"], "language": "en"}


def a_license(session: Session, n: int) -> Values:
    whose = {"therapist_id": stored(session, Therapist)["id"], "kind": "pt", "state": "IL", "number": f"{n}"}
    return whose | {"valid_from": DAY, "valid_until": DAY}


def a_state_rule(_session: Session, n: int) -> Values:
    day = DAY + timedelta(days=n)
    return {"state": "IL", "valid_from": day, "needling": "silent", "source": "law", "review_on": day}


def a_kind(_session: Session, n: int) -> Values:
    visit = {"minutes": 480, "buffer_minutes": 240, "new_patient": True, "includes_needling": True}
    return {"name": f"K{n}", "position": n} | visit


def a_kind_s_therapist(session: Session, _n: int) -> Values:
    return {
        "appointment_type_id": stored(session, AppointmentType)["id"],
        "therapist_id": stored(session, Therapist)["id"],
    }


def a_kind_s_location(session: Session, _n: int) -> Values:
    return {
        "appointment_type_id": stored(session, AppointmentType)["id"],
        "location_id": stored(session, Location)["id"],
    }


def a_policy(_session: Session, _n: int) -> Values:
    goal = {"access_goal_hours": 1, "access_target": 1, "hold_minutes": 1, "reminders": ""}
    return goal | {"id": 1, "clinic_name": "C", "booking_notice_minutes": 0, "booking_horizon_days": 1}


def hours(session: Session, _n: int) -> Values:
    where = {"therapist_id": stored(session, Therapist)["id"], "location_id": stored(session, Location)["id"]}
    when = {"weekday": 6, "opens_minute": 1425, "closes_minute": 1425 + 1440}
    return where | when | {"valid_from": DAY, "valid_until": DAY}


def a_range() -> Values:
    return {"starts_on": DAY, "starts_minute": 1425, "ends_on": DAY, "ends_minute": 1440}


def a_closure(session: Session, _n: int) -> Values:
    return a_range() | {"location_id": stored(session, Location)["id"], "reason": "R" * 200}


def time_off(session: Session, n: int) -> Values:
    whose = {"therapist_id": stored(session, Therapist)["id"], "status": "declined", "asked_at": NOON}
    return a_range() | whose | {"note": "N" * 200, "imported_as": f"{n}"}


def an_explainer(_session: Session, n: int) -> Values:
    words = {"title": "Dry needling", "sections": [], "source": "clinic", "content_sha256": "a" * 64}
    return {"version": f"{n}", "language": "en", "published_at": NOON} | words


def a_patient(_session: Session, n: int) -> Values:
    wishes = {"language": "en", "remind_by_email": True, "remind_by_sms": False}
    return {"id": uuid7(), "name": f"P{n}", "email": None, "phone": "+15550100", "created_at": NOON} | wishes


def a_visit(session: Session, _n: int) -> Values:
    parents = {
        "patient_id": stored(session, Patient)["id"],
        "therapist_id": stored(session, Therapist)["id"],
        "location_id": stored(session, Location)["id"],
        "appointment_type_id": stored(session, AppointmentType)["id"],
        "explainer_version_id": stored(session, ExplainerVersion)["id"],
    }
    times = {"starts_at": NOON, "ends_at": NOON + QUARTER, "buffer_minutes": 0, "booked_at": NOON}
    state = {"status": "booked", "needling": "none", "visit_version": 1, "link_generation": 1, "cancelled_at": None}
    return {"id": uuid7()} | parents | times | state


def a_held_time(session: Session, n: int) -> Values:
    """A start that is kept for nobody who is known."""
    nobody = {"patient_id": None, "needling": None, "explainer_version_id": None}
    return a_visit(session, n) | nobody | {"status": "held", "expires_at": NOON}


def a_hold(session: Session, n: int) -> Values:
    held = a_held_time(session, next(numbers))
    session.execute(insert(Appointment).values(**held))
    return {"appointment_id": held["id"], "token_sha256": f"{n}", "address_hash": "a", "holder_sha256": "h"}


def a_link(session: Session, n: int) -> Values:
    visit = stored(session, Appointment)["id"]
    return {"appointment_id": visit, "generation": 1, "key_id": "k", "token_sha256": f"{n}"}


def an_idempotency_key(session: Session, n: int) -> Values:
    visit = stored(session, Appointment)["id"]
    return {"key": f"{n:08d}", "body_sha256": "b", "appointment_id": visit, "created_at": NOON}


def a_slot(session: Session, _n: int) -> Values:
    """A cell taken by a visit of its therapist at its location."""
    visit = stored(session, Appointment)
    where = {"therapist_id": visit["therapist_id"], "location_id": visit["location_id"], "starts_at": NOON}
    return where | {"appointment_id": visit["id"], "fit": 0, "fit_open": 0, "needling": True}


def a_level(session: Session, _n: int) -> Values:
    day = date(2026, 11, 23)
    counts = {"least": 0, "most": 4, "suggested": 2, "days": 0, "level": 2}
    return {"location_id": stored(session, Location)["id"], **counts, "decided_on": day, "since": day}


def a_message(session: Session, _n: int) -> Values:
    what = {"appointment_id": stored(session, Appointment)["id"], "kind": "reminder", "channel": "email"}
    when = {"offset_minutes": 60, "visit_version": 1, "due_at": NOON, "created_at": NOON}
    return {"id": uuid7()} | what | when | {"status": "sent", "sent_at": NOON, "reason": None}


def a_message_to_staff(session: Session, n: int) -> Values:
    who = {"appointment_id": None, "visit_version": None, "account_id": stored(session, Account)["id"]}
    return a_message(session, n) | who | {"kind": "day-changed", "about": "2027-03-15", "offset_minutes": 0}


def a_visits_request(_session: Session, n: int) -> Values:
    return {"id": uuid7(), "address_sealed": b"x", "address_hash": f"{n}", "language": "en", "asked_at": NOON}


def a_message_with_visits(session: Session, n: int) -> Values:
    who = {"appointment_id": None, "visit_version": None, "visits_request_id": stored(session, VisitsRequest)["id"]}
    return a_message(session, n) | who | {"kind": "my-visits", "offset_minutes": 0}


def an_attempt(session: Session, _n: int) -> Values:
    message = stored(session, OutboxMessage)["id"]
    times = {"started_at": NOON, "finished_at": NOON, "outcome": "sent"}
    return {"id": uuid7(), "message_id": message, "number": 1} | times


def a_question(session: Session, n: int) -> Values:
    who = {"name": "P", "email": "p@example.com", "phone": "+15550100", "language": "en", "form_sha256": f"{n}"}
    of = {"location_id": stored(session, Location)["id"], "therapist_id": stored(session, Therapist)["id"]}
    answer = {"answered_at": NOON, "answered_by": stored(session, Account)["id"], "answered_how": "email"}
    texts = {"message_sealed": b"m", "answer_sealed": b"a"}
    return {"id": uuid7(), "asked_at": NOON, "reminded_at": None} | who | of | answer | texts


def a_message_to_who_asked(session: Session, n: int) -> Values:
    what = {"appointment_id": None, "visit_version": None, "contact_request_id": stored(session, ContactRequest)["id"]}
    return a_message(session, n) | what | {"kind": "question-received", "offset_minutes": 0}


def an_event(_session: Session, _n: int) -> Values:
    what = {"actor": "patient", "action": "appointment.booked", "entity": "appointment", "entity_id": "1"}
    return {"id": uuid7(), "happened_at": NOON, "detail": {}} | what


def a_count(_session: Session, n: int) -> Values:
    return {"address_hash": f"{n}", "hour": NOON, "booked": 0, "asked": 0}


def a_channel_state(_session: Session, n: int) -> Values:
    return {"channel": f"{n}", "failures": 0, "paused_until": None}


def a_beat(_session: Session, n: int) -> Values:
    return {"name": f"{n}", "beat_at": NOON}


def a_sample(session: Session, _n: int) -> Values:
    where = {
        "appointment_type_id": stored(session, AppointmentType)["id"],
        "location_id": stored(session, Location)["id"],
    }
    hours = {"next_available_hours": 48.0, "third_next_available_hours": 48.0, "goal_hours": 48, "within_goal": True}
    return where | hours | {"quarter": NOON, "possible": True, "within_open_days": True}


def an_access_day(session: Session, _n: int) -> Values:
    where = {
        "appointment_type_id": stored(session, AppointmentType)["id"],
        "location_id": stored(session, Location)["id"],
    }
    counts = {"measured": 96, "kept": 80, "possible": 90, "within_open_days": 85}
    return where | counts | {"day": NOON.date(), "goal_hours": 48}


def a_request(session: Session, n: int) -> Values:
    visit = stored(session, Appointment)
    hours = {"here_hours": 20.0, "anywhere_hours": 20.0, "taken_hours": 20.0, "goal_hours": 48}
    where = {name: visit[name] for name in ("appointment_type_id", "location_id")}
    return {"appointment_id": visit["id"], "asked_at": NOON} | where | hours


def an_access_question(session: Session, _n: int) -> Values:
    where = {
        "appointment_type_id": stored(session, AppointmentType)["id"],
        "location_id": stored(session, Location)["id"],
    }
    return where | {"id": uuid7(), "asked_at": NOON, "here_hours": 20.0, "anywhere_hours": 20.0, "goal_hours": 48}


def a_watch(session: Session, _n: int) -> Values:
    where = {
        "appointment_type_id": stored(session, AppointmentType)["id"],
        "location_id": stored(session, Location)["id"],
    }
    no, since = ("missed", "missed_told", "foreseen", "foreseen_told"), ("missed_since", "foreseen_since")
    turning = ("missed_turning", "foreseen_turning")
    told = {"plan_sha256": "", "gaps_told": ["goal-missed 0"]}
    return where | dict.fromkeys(no, False) | dict.fromkeys(since, NOON) | dict.fromkeys(turning) | told


def a_word(session: Session, _n: int) -> Values:
    what = {"kind": "goal-missed", "day": DAY, "at": NOON, "reason": "capacity", "goal_hours": 48, "said_at": NOON}
    return {"location_id": stored(session, Location)["id"]} | what


def a_claim_change(_session: Session, n: int) -> Values:
    return {"claim": "licensed", "number": n, "since": NOON, "says": "fails", "breaches": [{"what": "nobody"}]}


def a_lever_use(session: Session, _n: int) -> Values:
    where = {"location_id": stored(session, Location)["id"], "place_id": stored(session, Location)["id"]}
    who = {"therapist_id": stored(session, Therapist)["id"], "used_at": NOON, "used_by": "worker", "day": DAY}
    what = {"lever": "standby", "promise": "missed", "cells": 1, "closed_at": None}
    return where | who | what | {"starts_at": NOON, "ends_at": NOON + QUARTER}


def a_day_let_go(session: Session, _n: int) -> Values:
    return {"location_id": stored(session, Location)["id"], "day": DAY, "let_go_by": "account:1", "let_go_at": NOON}


def an_opening(session: Session, _n: int) -> Values:
    keys = {"working_hours_id": stored(session, WorkingHours)["id"], "lever_use_id": stored(session, LeverUse)["id"]}
    return keys | {"day": DAY}


def an_account(session: Session, n: int) -> Values:
    who = {
        "email": f"a{n}@example.com",
        "name": "A",
        "language": "en",
        "therapist_id": stored(session, Therapist)["id"],
    }
    may = {"role": "therapist", "everywhere": True, "active": True, "needs_second_factor": False}
    return who | may | {"password_hash": None, "generation": 1, "created_at": NOON}


def an_account_location(session: Session, _n: int) -> Values:
    return {"account_id": stored(session, Account)["id"], "location_id": stored(session, Location)["id"]}


def a_passkey(session: Session, n: int) -> Values:
    key = {"credential_id": b"%d" % n, "public_key": b"k", "sign_count": 0, "name": "Phone"}
    return {"account_id": stored(session, Account)["id"], "created_at": NOON} | key


def a_recovery_code(session: Session, n: int) -> Values:
    return {"code_sha256": f"{n}", "account_id": stored(session, Account)["id"], "used_at": None}


def a_session(session: Session, n: int) -> Values:
    whose = {"token_sha256": f"{n}", "account_id": stored(session, Account)["id"]}
    return whose | {"full": True, "created_at": NOON, "seen_at": NOON, "proved_at": NOON}


def a_sign_in_attempt(_session: Session, n: int) -> Values:
    return {"subject": f"{n}", "tried_at": NOON}


def a_used_challenge(_session: Session, n: int) -> Values:
    return {"challenge_sha256": f"{n}", "used_at": NOON}


def a_feed(session: Session, n: int) -> Values:
    whose = {"account_id": stored(session, Account)["id"], "token_sha256": f"{n}"}
    return whose | {"detailed": False, "created_at": NOON, "revoked_at": None}


def a_plan(session: Session, _n: int) -> Values:
    whose = {"therapist_id": stored(session, Therapist)["id"]}
    return whose | {"basis": "all rows", "until": NOON, "compared_at": NOON}


def a_series_visit(session: Session, _n: int) -> Values:
    return {"appointment_id": stored(session, Appointment)["id"], "first_id": stored(session, Appointment)["id"]}


def an_override(session: Session, _n: int) -> Values:
    visit = stored(session, Appointment)["id"]
    return {"appointment_id": visit, "rule": "outside-hours", "reason_sealed": b"sealed", "used_by": "account:1"}


def a_word_told(session: Session, _n: int) -> Values:
    what = {"appointment_id": stored(session, Appointment)["id"], "visit_version": 1, "status": "cancelled"}
    return what | {"account_id": stored(session, Account)["id"], "told_at": NOON}


VALID: dict[type[Base], Callable[[Session, int], Values]] = {
    AccessSample: a_sample,
    AccessQuestion: an_access_question,
    AccessRequest: a_request,
    AccessDay: an_access_day,
    AccessWatch: a_watch,
    AccessWord: a_word,
    Account: an_account,
    AccountLocation: an_account_location,
    Appointment: a_visit,
    AppointmentType: a_kind,
    AppointmentTypeLocation: a_kind_s_location,
    AppointmentTypeTherapist: a_kind_s_therapist,
    Attempt: an_attempt,
    AuditEvent: an_event,
    BookingCount: a_count,
    CalendarFeed: a_feed,
    CalendarPlan: a_plan,
    ChannelState: a_channel_state,
    ClaimChange: a_claim_change,
    ClinicPolicy: a_policy,
    ContactRequest: a_question,
    Closure: a_closure,
    ExplainerVersion: an_explainer,
    Heartbeat: a_beat,
    Hold: a_hold,
    IdempotencyKey: an_idempotency_key,
    LetGoDay: a_day_let_go,
    LeverUse: a_lever_use,
    License: a_license,
    Location: a_location,
    ManageLink: a_link,
    OutboxMessage: a_message,
    Override: an_override,
    Passkey: a_passkey,
    Patient: a_patient,
    ProtectionLevel: a_level,
    RecoveryCode: a_recovery_code,
    SeriesVisit: a_series_visit,
    SignInAttempt: a_sign_in_attempt,
    Slot: a_slot,
    StaffSession: a_session,
    StandbyOpening: an_opening,
    StateRule: a_state_rule,
    Therapist: a_therapist,
    TherapistLanguage: a_language,
    TimeOff: time_off,
    Told: a_word_told,
    UsedChallenge: a_used_challenge,
    VisitsRequest: a_visits_request,
    WorkingHours: hours,
}


# --- writes that break one rule

Write = Callable[[Session, type[Base], Values], None]


@dataclass(frozen=True)
class Case:
    """The name of a rule, a table, and a write to it that only this rule refuses; the write gets a valid row."""

    rule: str
    model: type[Base]
    write: Write

    def __str__(self) -> str:
        return self.rule


def adding(**changes: Any) -> Write:  # noqa: ANN401 columns of the model
    """Insert another row that is valid but for these values."""

    def write(session: Session, model: type[Base], _good: Values) -> None:
        session.execute(insert(model).values(**(valid(session, model) | changes)))

    return write


def held(**changes: Any) -> Write:  # noqa: ANN401 columns of the model
    """Insert a held time that is valid but for these values."""

    def write(session: Session, model: type[Base], _good: Values) -> None:
        session.execute(insert(model).values(**(a_held_time(session, next(numbers)) | changes)))

    return write


def to_staff(**changes: Any) -> Write:  # noqa: ANN401
    """Insert a message to staff that is valid but for these values."""

    def write(session: Session, model: type[Base], _good: Values) -> None:
        session.execute(insert(model).values(**(a_message_to_staff(session, next(numbers)) | changes)))

    return write


def with_visits(**changes: Any) -> Write:  # noqa: ANN401
    """Insert a message to whoever asked for their visits that is valid but for these values."""

    def write(session: Session, model: type[Base], _good: Values) -> None:
        session.execute(insert(model).values(**(a_message_with_visits(session, next(numbers)) | changes)))

    return write


def to_who_asked(**changes: Any) -> Write:  # noqa: ANN401
    """Insert a message to who asked a question that is valid but for these values."""

    def write(session: Session, model: type[Base], _good: Values) -> None:
        session.execute(insert(model).values(**(a_message_to_who_asked(session, next(numbers)) | changes)))

    return write


def asking_once_for_two(session: Session, model: type[Base], _good: Values) -> None:
    """Owe two messages for one wish."""
    one = a_message_with_visits(session, next(numbers))
    session.execute(insert(model).values(**one))
    session.execute(insert(model).values(**(one | {"id": uuid7()})))


def telling_twice(session: Session, model: type[Base], _good: Values) -> None:
    """Owe who asked a question the same again."""
    same = a_message_to_who_asked(session, next(numbers))
    session.execute(insert(model).values(**same))
    session.execute(insert(model).values(**(same | {"id": uuid7()})))


def to_both(session: Session, model: type[Base], good: Values) -> None:
    """Insert a message to staff that is about a patient's visit too."""
    visit = {"appointment_id": good["appointment_id"], "visit_version": 2}
    to_staff(**visit)(session, model, good)


def owing_twice(session: Session, model: type[Base], _good: Values) -> None:
    """Owe one of the staff the same again, while it is owed."""
    same = a_message_to_staff(session, next(numbers)) | OWED
    session.execute(insert(model).values(**same))
    session.execute(insert(model).values(**(same | {"id": uuid7()})))


def repeating(*columns: str) -> Write:
    """Insert another row that is valid but shares these columns with the stored one."""

    def write(session: Session, model: type[Base], good: Values) -> None:
        shared = {column: good[column] for column in columns}
        session.execute(insert(model).values(**(valid(session, model) | shared)))

    return write


def asking_again(session: Session, model: type[Base], good: Values) -> None:
    """Note twice that a therapist was asked for one day at one location."""
    same = {name: good[name] for name in ("location_id", "therapist_id", "day")}
    for _ in range(2):
        session.execute(insert(model).values(**(valid(session, model) | same | {"lever": "ask"})))


def changing(**changes: Any) -> Write:  # noqa: ANN401
    """Change the stored row."""

    def write(session: Session, model: type[Base], good: Values) -> None:
        session.execute(update(model).where(*_is(model, good)).values(**changes))

    return write


def removing(session: Session, model: type[Base], good: Values) -> None:
    session.execute(delete(model).where(*_is(model, good)))


def emptying(session: Session, model: type[Base], _good: Values) -> None:
    """At one stroke; SQLite has no other word for it than DELETE."""
    word = "TRUNCATE" if session.get_bind().dialect.name == "postgresql" else "DELETE FROM"
    session.execute(text(f"{word} {model.__tablename__}"))


def overwriting(session: Session, _model: type[Base], good: Values) -> None:
    """Give a taken cell to another visit of the same therapist at the same location."""
    same = {column: good[column] for column in ("therapist_id", "location_id")}
    other = stored(session, Appointment, **same)
    changing(appointment_id=other["id"])(session, Slot, good)


def of_another(*columns: str) -> Write:
    """Give a cell to a visit of another therapist, or at another location."""

    def write(session: Session, model: type[Base], good: Values) -> None:
        other = stored(session, Appointment)
        same = {column: good[column] for column in ("therapist_id", "location_id") if column not in columns}
        there = {column: other[column] for column in columns}
        cell = same | there | {"appointment_id": good["appointment_id"], "starts_at": NOON + QUARTER}
        session.execute(insert(model).values(**(valid(session, model) | cell)))

    return write


def having_patient(session: Session, model: type[Base], good: Values) -> None:
    """Insert a held time of a patient who is known."""
    held(patient_id=good["patient_id"])(session, model, good)


def having_been_shown(session: Session, model: type[Base], good: Values) -> None:
    """Insert a held time whose keeper was shown an explainer."""
    held(explainer_version_id=good["explainer_version_id"])(session, model, good)


def importing_twice(session: Session, model: type[Base], good: Values) -> None:
    """Store another visit under the name that the stored one had elsewhere."""
    changing(imported_as="their 7")(session, model, good)
    adding(imported_as="their 7")(session, model, good)


def _is(model: type[Base], good: Values) -> list[Any]:
    return [column == good[column.name] for column in model.__table__.primary_key]


OWED: Values = {"status": "owed", "sent_at": None}
CASES = [
    # practice
    Case("ck_location_name_length", Location, adding(name="")),
    Case("ck_location_state_known", Location, adding(state="il")),
    *(Case("ck_location_state_known", Location, adding(state=s)) for s in ("I", "12", "éé", "ZZ")),
    Case("ck_location_time_zone_given", Location, adding(time_zone="")),
    *(Case("ck_location_directions_length", Location, adding(directions=text)) for text in ("", "x" * 2001)),
    Case("uq_location_name", Location, repeating("name")),
    Case("pk_location", Location, repeating("id")),
    Case("ck_therapist_name_length", Therapist, adding(name="")),
    Case("pk_therapist", Therapist, repeating("id")),
    Case("ck_therapist_language_language_code", TherapistLanguage, adding(language="EN")),
    Case("ck_therapist_language_language_code", TherapistLanguage, adding(language="e")),
    Case("fk_therapist_language_therapist_id", TherapistLanguage, adding(therapist_id=NOBODY)),
    Case("pk_therapist_language", TherapistLanguage, repeating("therapist_id", "language")),
    Case("ck_license_kind_given", License, adding(kind="")),
    Case("ck_license_number_given", License, adding(number="")),
    Case("ck_license_state_known", License, adding(state="Il")),
    Case("ck_license_dates_in_order", License, adding(valid_until=DAY - timedelta(days=1))),
    Case("fk_license_therapist_id", License, adding(therapist_id=NOBODY)),
    Case("uq_license_therapist_id_kind_state_number", License, repeating("therapist_id", "kind", "state", "number")),
    Case("pk_license", License, repeating("id")),
    Case("ck_state_rule_state_known", StateRule, adding(state="il")),
    Case("ck_state_rule_needling_known", StateRule, adding(needling="perhaps")),
    Case("ck_state_rule_training_hours_not_negative", StateRule, adding(training_hours=-1)),
    Case("ck_state_rule_source_given", StateRule, adding(source="")),
    Case("uq_state_rule_state_valid_from", StateRule, repeating("state", "valid_from")),
    Case("pk_state_rule", StateRule, repeating("id")),
    *(Case("ck_appointment_type_minutes_on_grid", AppointmentType, adding(minutes=m)) for m in (0, -15, 20, 495)),
    *(Case("ck_appointment_type_buffer_on_grid", AppointmentType, adding(buffer_minutes=m)) for m in (-15, 10, 255)),
    Case("ck_appointment_type_name_length", AppointmentType, adding(name="")),
    Case("ck_appointment_type_notice_not_negative", AppointmentType, adding(notice_minutes=-1)),
    Case("ck_appointment_type_horizon_positive", AppointmentType, adding(horizon_days=0)),
    *(
        Case(f"fk_appointment_type_{one}_{column}", table, adding(**{column: NOBODY}))
        for one, table in (("therapist", AppointmentTypeTherapist), ("location", AppointmentTypeLocation))
        for column in ("appointment_type_id", f"{one}_id")
    ),
    Case("pk_appointment_type_therapist", AppointmentTypeTherapist, repeating("appointment_type_id", "therapist_id")),
    Case("pk_appointment_type_location", AppointmentTypeLocation, repeating("appointment_type_id", "location_id")),
    Case("uq_appointment_type_name", AppointmentType, repeating("name")),
    Case("uq_appointment_type_position", AppointmentType, repeating("position")),
    Case("pk_appointment_type", AppointmentType, repeating("id")),
    Case("ck_clinic_policy_single_row", ClinicPolicy, adding(id=2)),
    Case("ck_clinic_policy_clinic_name_length", ClinicPolicy, changing(clinic_name="")),
    Case("ck_clinic_policy_goal_positive", ClinicPolicy, changing(access_goal_hours=0)),
    Case("ck_clinic_policy_target_is_share", ClinicPolicy, changing(access_target=0)),
    Case("ck_clinic_policy_target_is_share", ClinicPolicy, changing(access_target=1.001)),
    Case("ck_clinic_policy_notice_not_negative", ClinicPolicy, changing(booking_notice_minutes=-1)),
    Case("ck_clinic_policy_horizon_positive", ClinicPolicy, changing(booking_horizon_days=0)),
    Case("ck_clinic_policy_hold_positive", ClinicPolicy, changing(hold_minutes=0)),
    *(Case("ck_clinic_policy_cancel_notice_known", ClinicPolicy, changing(cancel_notice_hours=h)) for h in (-1, 337)),
    Case("ck_clinic_policy_retention_positive", ClinicPolicy, changing(retention_months=0)),
    Case("pk_clinic_policy", ClinicPolicy, adding()),
    # calendar
    *(Case("ck_working_hours_weekday_known", WorkingHours, adding(weekday=day)) for day in (-1, 7)),
    *(
        Case("ck_working_hours_opens_on_grid", WorkingHours, adding(opens_minute=opens, closes_minute=60))
        for opens in (-15, 5)
    ),
    Case("ck_working_hours_opens_on_grid", WorkingHours, adding(opens_minute=1440)),
    *(Case("ck_working_hours_closes_on_grid", WorkingHours, adding(closes_minute=m)) for m in (1425, 1440 + 5, 2880)),
    Case("ck_working_hours_dates_in_order", WorkingHours, adding(valid_until=DAY - timedelta(days=1))),
    *(Case("ck_working_hours_every_weeks_few", WorkingHours, adding(every_weeks=weeks)) for weeks in (0, 9)),
    Case("fk_working_hours_therapist_id", WorkingHours, adding(therapist_id=NOBODY)),
    Case("fk_working_hours_location_id", WorkingHours, adding(location_id=NOBODY)),
    Case("pk_working_hours", WorkingHours, repeating("id")),
    Case("ck_working_hours_rule_opens_standby", WorkingHours, adding(opens_by_rule=True)),
    Case("fk_standby_opening_working_hours_id", StandbyOpening, adding(working_hours_id=NOBODY)),
    Case("fk_standby_opening_lever_use_id", StandbyOpening, adding(lever_use_id=NOBODY)),
    Case("uq_standby_opening_lever_use_id", StandbyOpening, repeating("lever_use_id")),
    Case("pk_standby_opening", StandbyOpening, repeating("working_hours_id", "day")),
    # what was done to keep the goal
    Case("ck_lever_use_lever_known", LeverUse, adding(lever="overbook")),
    Case("ck_lever_use_promise_known", LeverUse, adding(promise="broken")),
    Case("ck_lever_use_therapist_named", LeverUse, adding(lever="elsewhere", day=None)),
    Case("ck_lever_use_day_named", LeverUse, adding(day=None)),
    Case("ck_lever_use_day_named", LeverUse, adding(lever="elsewhere", therapist_id=None)),
    Case("ck_lever_use_therapist_named", LeverUse, adding(therapist_id=None)),
    Case("ck_lever_use_times_in_order", LeverUse, adding(ends_at=NOON)),
    Case("ck_lever_use_cells_positive", LeverUse, adding(cells=0)),
    Case("ck_lever_use_only_what_opens_closes", LeverUse, adding(lever="ask", closed_at=NOON)),
    Case("uq_lever_use_asked", LeverUse, asking_again),
    *(Case(f"fk_lever_use_{key}", LeverUse, adding(**{key: NOBODY})) for key in ("location_id", "place_id")),
    Case("fk_lever_use_therapist_id", LeverUse, adding(therapist_id=NOBODY)),
    Case("pk_lever_use", LeverUse, repeating("id")),
    Case("fk_let_go_day_location_id", LetGoDay, adding(location_id=NOBODY)),
    Case("pk_let_go_day", LetGoDay, repeating("location_id", "day")),
    *(
        Case(f"ck_{table.__tablename__}_{rule}", table, adding(**values))
        for table in (Closure, TimeOff)
        for rule, values in (
            ("starts_on_grid", {"starts_minute": -15}),
            ("starts_on_grid", {"starts_minute": 5}),
            ("starts_on_grid", {"starts_minute": 1440, "ends_on": DAY + timedelta(days=1)}),
            ("ends_on_grid", {"ends_minute": 0, "ends_on": DAY + timedelta(days=1)}),
            ("ends_on_grid", {"ends_minute": 1435}),
            ("ends_on_grid", {"ends_minute": 1455}),
            ("range_in_order", {"ends_on": DAY - timedelta(days=1)}),
            ("range_in_order", {"ends_minute": 1425}),
        )
    ),
    *(Case("ck_closure_reason_length", Closure, adding(reason=reason)) for reason in ("", "R" * 201)),
    Case("fk_closure_location_id", Closure, adding(location_id=NOBODY)),
    Case("pk_closure", Closure, repeating("id")),
    *(Case("ck_time_off_note_length", TimeOff, adding(note=note)) for note in ("", "N" * 201)),
    Case("ck_time_off_status_known", TimeOff, adding(status="perhaps")),
    Case("fk_time_off_therapist_id", TimeOff, adding(therapist_id=NOBODY)),
    Case("pk_time_off", TimeOff, repeating("id")),
    Case("uq_time_off_therapist_id_imported_as", TimeOff, repeating("therapist_id", "imported_as")),
    Case("ck_slot_free_fits_something", Slot, adding(appointment_id=None, protected=True)),
    Case("ck_slot_free_fits_something", Slot, adding(fit=1)),
    Case("ck_slot_fit_not_negative", Slot, adding(fit=-1, fit_open=-1)),
    Case("ck_slot_open_unless_protected", Slot, adding(appointment_id=None, fit=1, fit_open=0)),
    Case("ck_slot_open_unless_protected", Slot, adding(appointment_id=None, fit=1, fit_open=1, protected=True)),
    Case("ck_slot_open_within_fit", Slot, adding(appointment_id=None, fit=1, fit_open=2)),
    *(Case("ck_protection_level_bounds_in_order", ProtectionLevel, adding(least=n)) for n in (-1, 5)),
    Case("ck_protection_level_bounds_in_order", ProtectionLevel, adding(most=101)),
    *(Case("ck_protection_level_level_possible", ProtectionLevel, adding(level=n)) for n in (-1, 101)),
    Case("ck_protection_level_suggested_not_negative", ProtectionLevel, adding(suggested=-1)),
    Case("ck_protection_level_days_not_negative", ProtectionLevel, adding(days=-1)),
    Case("ck_protection_level_days_in_order", ProtectionLevel, adding(since=date(2026, 11, 24))),
    Case("ck_protection_level_pinned_by_one", ProtectionLevel, adding(pinned_by="account:1")),
    Case("ck_protection_level_pinned_by_one", ProtectionLevel, adding(pinned_at=NOON)),
    Case("fk_protection_level_location_id", ProtectionLevel, adding(location_id=NOBODY)),
    Case("pk_protection_level", ProtectionLevel, repeating("location_id")),
    *(
        Case("ck_slot_on_grid", Slot, adding(starts_at=NOON + timedelta(**{unit: 1})))
        for unit in ("minutes", "seconds", "microseconds")
    ),
    Case("fk_slot_appointment", Slot, adding(appointment_id=NO_ID)),
    Case("fk_slot_appointment", Slot, of_another("therapist_id")),
    Case("fk_slot_appointment", Slot, of_another("location_id")),
    Case("fk_slot_therapist_id", Slot, adding(therapist_id=NOBODY, appointment_id=None, fit=1, fit_open=1)),
    Case("fk_slot_location_id", Slot, adding(location_id=NOBODY, appointment_id=None, fit=1, fit_open=1)),
    Case("pk_slot", Slot, repeating("therapist_id", "starts_at", "location_id", "appointment_id")),
    Case("tr_slot_taken_once", Slot, overwriting),
    Case("tr_slot_taken_kept", Slot, removing),
    Case("ck_calendar_plan_basis_given", CalendarPlan, adding(basis="")),
    Case("fk_calendar_plan_therapist_id", CalendarPlan, adding(therapist_id=NOBODY)),
    Case("pk_calendar_plan", CalendarPlan, repeating("therapist_id")),
    # visits
    Case("ck_patient_reachable", Patient, adding(phone=None)),
    Case("ck_patient_erased_says_nothing", Patient, adding(erased_at=NOON)),
    Case("ck_patient_name_length", Patient, adding(name="")),
    Case("ck_patient_email_length", Patient, adding(email="a@")),
    Case("ck_patient_phone_length", Patient, adding(phone="91")),
    Case("ck_patient_language_code", Patient, adding(language="EN")),
    Case("ck_patient_language_code", Patient, adding(language="")),
    Case("pk_patient", Patient, repeating("id")),
    Case("ck_appointment_ends_after_start", Appointment, adding(ends_at=NOON)),
    *(Case("ck_appointment_buffer_on_grid", Appointment, adding(buffer_minutes=m)) for m in (-15, 10)),
    Case("ck_appointment_status_known", Appointment, adding(status="proposed")),
    Case("ck_appointment_needling_known", Appointment, adding(needling="perhaps")),
    Case("ck_appointment_cancelled_at_goes_with_status", Appointment, adding(status="cancelled")),
    Case("ck_appointment_cancelled_at_goes_with_status", Appointment, adding(cancelled_at=NOON)),
    Case("ck_appointment_expires_at_goes_with_hold", Appointment, adding(expires_at=NOON)),
    Case("ck_appointment_expires_at_goes_with_hold", Appointment, held(expires_at=None)),
    Case("ck_appointment_patient_goes_with_visit", Appointment, adding(patient_id=None)),
    Case("ck_appointment_patient_goes_with_visit", Appointment, having_patient),
    Case("ck_appointment_needling_goes_with_visit", Appointment, adding(needling=None)),
    Case("ck_appointment_needling_goes_with_visit", Appointment, held(needling="none")),
    *(
        Case("ck_appointment_hold_says_nothing", Appointment, held(**{column: said}))
        for column, said in (("note_sealed", b"x"), ("cancel_reason_sealed", b"x"), ("imported_as", "their 8"))
    ),
    Case("ck_appointment_hold_says_nothing", Appointment, having_been_shown),
    Case("fk_hold_appointment_id", Hold, adding(appointment_id=NO_ID)),
    Case("uq_hold_token_sha256", Hold, repeating("token_sha256")),
    Case("pk_hold", Hold, repeating("appointment_id")),
    Case("ck_appointment_only_cancelled_is_late", Appointment, adding(cancelled_late=True)),
    Case("ck_appointment_visit_version_positive", Appointment, adding(visit_version=0)),
    Case("ck_appointment_link_generation_positive", Appointment, adding(link_generation=0)),
    Case("fk_appointment_patient_id", Appointment, adding(patient_id=NO_ID)),
    Case("fk_appointment_therapist_id", Appointment, adding(therapist_id=NOBODY)),
    Case("fk_appointment_location_id", Appointment, adding(location_id=NOBODY)),
    Case("fk_appointment_appointment_type_id", Appointment, adding(appointment_type_id=NOBODY)),
    Case("fk_appointment_explainer_version_id", Appointment, adding(explainer_version_id=NOBODY)),
    Case("uq_appointment_imported_as", Appointment, importing_twice),
    Case("pk_appointment", Appointment, repeating("id")),
    Case("fk_manage_link_appointment_id", ManageLink, adding(appointment_id=NO_ID)),
    Case("uq_manage_link_token_sha256", ManageLink, repeating("token_sha256")),
    Case("pk_manage_link", ManageLink, repeating("appointment_id", "generation")),
    Case("ck_idempotency_key_key_length", IdempotencyKey, adding(key="seven77")),
    Case("fk_idempotency_key_appointment_id", IdempotencyKey, adding(appointment_id=NO_ID)),
    Case("uq_idempotency_key_appointment_id", IdempotencyKey, repeating("appointment_id")),
    Case("pk_idempotency_key", IdempotencyKey, repeating("key")),
    # messages
    Case("ck_outbox_message_kind_known", OutboxMessage, adding(kind="greeting", offset_minutes=0)),
    Case("ck_outbox_message_channel_known", OutboxMessage, adding(channel="fax")),
    Case("ck_outbox_message_status_known", OutboxMessage, adding(status="lost", sent_at=None)),
    Case("ck_outbox_message_offset_goes_with_reminder", OutboxMessage, adding(offset_minutes=0)),
    Case("ck_outbox_message_offset_goes_with_reminder", OutboxMessage, adding(kind="confirmation")),
    *(
        Case("ck_outbox_message_reason_given", OutboxMessage, adding(status=status, sent_at=None))
        for status in ("suppressed", "failed")
    ),
    Case("ck_outbox_message_sent_at_goes_with_status", OutboxMessage, adding(sent_at=None)),
    Case("ck_outbox_message_sent_at_goes_with_status", OutboxMessage, adding(status="owed")),
    Case("ck_outbox_message_lease_goes_with_its_end", OutboxMessage, adding(**OWED, lease=None, leased_until=NOON)),
    Case("ck_outbox_message_lease_goes_with_its_end", OutboxMessage, adding(**OWED, lease=NO_ID)),
    Case("ck_outbox_message_only_owed_is_leased", OutboxMessage, adding(lease=NO_ID, leased_until=NOON)),
    Case("ck_outbox_message_tries_not_negative", OutboxMessage, adding(tries=-1)),
    *(
        Case("ck_outbox_message_staff_kinds_go_to_staff", OutboxMessage, adding(kind=kind, offset_minutes=0))
        for kind in TO_STAFF
    ),
    *(
        Case("ck_outbox_message_staff_kinds_go_to_staff", OutboxMessage, to_staff(kind=kind))
        for kind in ("confirmation", "cancellation")
    ),
    Case("ck_outbox_message_to_patient_or_staff", OutboxMessage, to_both),
    Case("ck_outbox_message_question_kinds_have_question", OutboxMessage, to_who_asked(kind="confirmation")),
    Case("fk_outbox_message_contact_request_id", OutboxMessage, to_who_asked(contact_request_id=NO_ID)),
    Case("uq_outbox_message_contact_request_id_kind", OutboxMessage, telling_twice),
    # questions
    Case("ck_contact_request_reachable", ContactRequest, adding(email=None, phone=None)),
    *(Case("ck_contact_request_name_length", ContactRequest, adding(name=name)) for name in ("", "P" * 201)),
    *(Case("ck_contact_request_email_length", ContactRequest, adding(email=text)) for text in ("a@", "a" * 255)),
    *(Case("ck_contact_request_phone_length", ContactRequest, adding(phone=text)) for text in ("12", "1" * 21)),
    *(Case("ck_contact_request_language_code", ContactRequest, adding(language=text)) for text in ("e", "EN")),
    Case("ck_contact_request_answered_how_known", ContactRequest, adding(answered_how="fax", answer_sealed=None)),
    Case("ck_contact_request_answered_by_one", ContactRequest, adding(answered_by=None)),
    Case("ck_contact_request_answered_some_way", ContactRequest, adding(answered_how=None, answer_sealed=None)),
    Case("ck_contact_request_answer_goes_with_email", ContactRequest, adding(answer_sealed=None)),
    Case("ck_contact_request_answer_goes_with_email", ContactRequest, adding(answered_how="phone")),
    *(
        Case(f"fk_contact_request_{key}", ContactRequest, adding(**{key: NOBODY}))
        for key in ("location_id", "therapist_id", "answered_by")
    ),
    Case("uq_contact_request_form_sha256", ContactRequest, repeating("form_sha256")),
    Case("pk_contact_request", ContactRequest, repeating("id")),
    Case("ck_outbox_message_to_patient_or_staff", OutboxMessage, adding(appointment_id=None, visit_version=None)),
    Case("ck_outbox_message_request_goes_with_kind", OutboxMessage, adding(kind="my-visits", offset_minutes=0)),
    Case("ck_outbox_message_request_goes_with_kind", OutboxMessage, with_visits(kind="moved")),
    Case("uq_outbox_message_visits_request_id", OutboxMessage, asking_once_for_two),
    Case("fk_outbox_message_visits_request_id", OutboxMessage, with_visits(visits_request_id=NO_ID)),
    *(Case("ck_visits_request_language_code", VisitsRequest, adding(language=code)) for code in ("EN", "eng")),
    Case("pk_visits_request", VisitsRequest, repeating("id")),
    Case("ck_outbox_message_version_goes_with_visit", OutboxMessage, adding(visit_version=None)),
    Case("ck_outbox_message_version_goes_with_visit", OutboxMessage, to_staff(visit_version=1)),
    Case("ck_outbox_message_about_goes_with_staff", OutboxMessage, adding(about="2027-03-15")),
    Case("ck_outbox_message_about_goes_with_staff", OutboxMessage, to_staff(about=None)),
    Case("fk_outbox_message_appointment_id", OutboxMessage, adding(appointment_id=NO_ID)),
    Case("fk_outbox_message_account_id", OutboxMessage, to_staff(account_id=NOBODY)),
    Case("uq_outbox_message_to_staff", OutboxMessage, owing_twice),
    Case(
        "uq_outbox_message_owed_once",
        OutboxMessage,
        repeating("appointment_id", "kind", "channel", "offset_minutes", "visit_version"),
    ),
    Case("pk_outbox_message", OutboxMessage, repeating("id")),
    Case("ck_attempt_number_positive", Attempt, adding(number=0)),
    Case("ck_attempt_outcome_goes_with_end", Attempt, adding(outcome=None)),
    Case("ck_attempt_outcome_goes_with_end", Attempt, adding(finished_at=None)),
    Case("fk_attempt_message_id", Attempt, adding(message_id=NO_ID)),
    Case("uq_attempt_message_id_number", Attempt, repeating("message_id", "number")),
    Case("pk_attempt", Attempt, repeating("id")),
    Case("ck_channel_state_failures_not_negative", ChannelState, changing(failures=-1)),
    Case("pk_channel_state", ChannelState, repeating("channel")),
    Case("fk_series_visit_appointment_id", SeriesVisit, adding(appointment_id=NO_ID)),
    Case("fk_series_visit_first_id", SeriesVisit, adding(first_id=NO_ID)),
    Case("pk_series_visit", SeriesVisit, repeating("appointment_id")),
    Case("ck_booking_override_rule_given", Override, adding(rule="")),
    Case("ck_booking_override_used_by_given", Override, adding(used_by="")),
    Case("fk_booking_override_appointment_id", Override, adding(appointment_id=NO_ID)),
    Case("pk_booking_override", Override, repeating("appointment_id")),
    Case("fk_told_appointment_id", Told, adding(appointment_id=NO_ID)),
    Case("fk_told_account_id", Told, adding(account_id=NOBODY)),
    Case("pk_told", Told, repeating("appointment_id", "visit_version", "status")),
    # the clinic's people
    *(
        Case("ck_account_email_written_small", Account, adding(email=email))
        for email in ("Ana@example.com", "a@", "a" * 255)
    ),
    *(Case("ck_account_name_length", Account, adding(name=name)) for name in ("", "x" * 201)),
    *(Case("ck_account_role_known", Account, adding(role=role)) for role in ("owner", "Admin", "front desk", "")),
    Case("ck_account_generation_positive", Account, adding(generation=0)),
    *(Case("ck_account_language_code", Account, adding(language=code)) for code in ("EN", "e", "eng")),
    Case("fk_account_therapist_id", Account, adding(therapist_id=NOBODY)),
    Case("uq_account_email", Account, repeating("email")),
    Case("uq_account_therapist_id", Account, repeating("therapist_id")),
    Case("pk_account", Account, repeating("id")),
    Case("fk_account_location_account_id", AccountLocation, adding(account_id=NOBODY)),
    Case("fk_account_location_location_id", AccountLocation, adding(location_id=NOBODY)),
    Case("pk_account_location", AccountLocation, repeating("account_id", "location_id")),
    *(Case("ck_passkey_name_length", Passkey, adding(name=name)) for name in ("", "x" * 101)),
    Case("fk_passkey_account_id", Passkey, adding(account_id=NOBODY)),
    Case("uq_passkey_credential_id", Passkey, repeating("credential_id")),
    Case("pk_passkey", Passkey, repeating("id")),
    Case("fk_recovery_code_account_id", RecoveryCode, adding(account_id=NOBODY)),
    Case("pk_recovery_code", RecoveryCode, repeating("code_sha256")),
    Case("fk_staff_session_account_id", StaffSession, adding(account_id=NOBODY)),
    Case("pk_staff_session", StaffSession, repeating("token_sha256")),
    Case("pk_sign_in_attempt", SignInAttempt, repeating("id")),
    Case("pk_used_challenge", UsedChallenge, repeating("challenge_sha256")),
    Case("fk_calendar_feed_account_id", CalendarFeed, adding(account_id=NOBODY)),
    Case("uq_calendar_feed_token_sha256", CalendarFeed, repeating("token_sha256")),
    Case("pk_calendar_feed", CalendarFeed, repeating("id")),
    # what is never changed
    Case("ck_explainer_version_version_given", ExplainerVersion, adding(version="")),
    Case("ck_explainer_version_hash_given", ExplainerVersion, adding(content_sha256="a" * 63)),
    Case("ck_explainer_version_source_given", ExplainerVersion, adding(source="")),
    Case("uq_explainer_version_version_language", ExplainerVersion, repeating("version", "language")),
    Case("pk_explainer_version", ExplainerVersion, repeating("id")),
    Case("tr_explainer_version_not_updated", ExplainerVersion, changing(title="Other words")),
    Case("tr_explainer_version_not_deleted", ExplainerVersion, removing),
    Case("ck_audit_event_action_given", AuditEvent, adding(action="")),
    Case("ck_audit_event_actor_given", AuditEvent, adding(actor="")),
    Case("pk_audit_event", AuditEvent, repeating("id")),
    Case("tr_audit_event_not_updated", AuditEvent, changing(actor="somebody else")),
    Case("tr_audit_event_not_deleted", AuditEvent, removing),
    Case("tr_audit_event_not_truncated", AuditEvent, emptying),
    # the access goal
    *(
        Case("ck_access_sample_on_grid", AccessSample, adding(quarter=NOON + timedelta(**{unit: 1})))
        for unit in ("minutes", "seconds", "microseconds")
    ),
    Case("ck_access_sample_goal_positive", AccessSample, adding(goal_hours=0, within_goal=False)),
    Case("ck_access_sample_hours_not_negative", AccessSample, changing(next_available_hours=-0.01)),
    Case("ck_access_sample_third_not_before_next", AccessSample, adding(third_next_available_hours=47.99)),
    Case(
        "ck_access_sample_third_not_before_next",
        AccessSample,
        adding(next_available_hours=None, within_goal=False, within_open_days=False),
    ),
    Case("ck_access_sample_verdict_follows", AccessSample, adding(within_goal=False)),
    Case("ck_access_sample_verdict_follows", AccessSample, adding(**dict.fromkeys(HOURS, 48.01))),
    Case("ck_access_sample_verdict_follows", AccessSample, adding(**dict.fromkeys(HOURS), within_open_days=False)),
    Case("ck_access_sample_kept_is_possible", AccessSample, adding(possible=False)),
    Case(
        "ck_access_sample_open_days_need_a_start",
        AccessSample,
        adding(**dict.fromkeys(HOURS), within_goal=False),
    ),
    Case("ck_access_sample_known_together", AccessSample, adding(possible=None)),
    Case("ck_access_sample_known_together", AccessSample, adding(within_open_days=None)),
    Case("fk_access_sample_appointment_type_id", AccessSample, adding(appointment_type_id=NOBODY)),
    Case("fk_access_sample_location_id", AccessSample, adding(location_id=NOBODY)),
    Case("pk_access_sample", AccessSample, repeating("appointment_type_id", "location_id", "quarter")),
    Case("ck_access_day_measured_positive", AccessDay, adding(measured=0, kept=0, possible=0, within_open_days=0)),
    Case("ck_access_day_kept_within_measured", AccessDay, adding(kept=-1)),
    Case("ck_access_day_kept_within_measured", AccessDay, adding(kept=97, possible=None, within_open_days=None)),
    Case("ck_access_day_possible_between", AccessDay, adding(possible=79)),
    Case("ck_access_day_possible_between", AccessDay, adding(possible=97)),
    Case("ck_access_day_open_days_within_measured", AccessDay, adding(within_open_days=97)),
    Case("ck_access_day_open_days_within_measured", AccessDay, adding(within_open_days=-1)),
    Case("ck_access_day_known_together", AccessDay, adding(possible=None)),
    Case("ck_access_day_known_together", AccessDay, adding(within_open_days=None)),
    Case("ck_access_day_goal_positive", AccessDay, adding(goal_hours=0)),
    Case("fk_access_day_appointment_type_id", AccessDay, adding(appointment_type_id=NOBODY)),
    Case("fk_access_day_location_id", AccessDay, adding(location_id=NOBODY)),
    Case("pk_access_day", AccessDay, repeating("appointment_type_id", "location_id", "day")),
    Case("ck_access_request_goal_positive", AccessRequest, changing(goal_hours=0)),
    Case("ck_access_request_taken_not_before_here", AccessRequest, changing(taken_hours=19.99)),
    Case("ck_access_request_here_not_before_anywhere", AccessRequest, changing(anywhere_hours=20.01)),
    Case("fk_access_request_appointment_id", AccessRequest, changing(appointment_id=uuid7())),
    Case("fk_access_request_appointment_type_id", AccessRequest, changing(appointment_type_id=NOBODY)),
    Case("fk_access_request_location_id", AccessRequest, changing(location_id=NOBODY)),
    Case("pk_access_request", AccessRequest, repeating("appointment_id")),
    Case("ck_access_question_goal_positive", AccessQuestion, changing(goal_hours=0)),
    Case("ck_access_question_here_not_before_anywhere", AccessQuestion, adding(anywhere_hours=20.01)),
    Case("ck_access_question_here_not_before_anywhere", AccessQuestion, adding(anywhere_hours=None)),
    Case("fk_access_question_appointment_type_id", AccessQuestion, adding(appointment_type_id=NOBODY)),
    Case("fk_access_question_location_id", AccessQuestion, adding(location_id=NOBODY)),
    Case("pk_access_question", AccessQuestion, repeating("id")),
    Case("fk_access_watch_appointment_type_id", AccessWatch, adding(appointment_type_id=NOBODY)),
    Case("fk_access_watch_location_id", AccessWatch, adding(location_id=NOBODY)),
    Case("pk_access_watch", AccessWatch, repeating("appointment_type_id", "location_id")),
    Case("ck_access_word_kind_known", AccessWord, adding(kind="day-changed")),
    Case("ck_access_word_reason_known", AccessWord, adding(reason="weather")),
    Case("ck_access_word_reason_goes_with_miss", AccessWord, adding(reason=None)),
    Case("ck_access_word_reason_goes_with_miss", AccessWord, adding(kind="goal-kept")),
    Case("ck_access_word_goal_positive", AccessWord, adding(goal_hours=0)),
    Case("fk_access_word_location_id", AccessWord, adding(location_id=NOBODY)),
    Case("pk_access_word", AccessWord, repeating("location_id", "kind", "day")),
    # the claims
    Case("ck_claim_change_claim_given", ClaimChange, adding(claim="")),
    Case("ck_claim_change_number_positive", ClaimChange, adding(number=0)),
    Case("ck_claim_change_saying_known", ClaimChange, adding(says="hardly")),
    Case("pk_claim_change", ClaimChange, repeating("claim", "number")),
    # operations
    Case("ck_booking_count_booked_not_negative", BookingCount, changing(booked=-1)),
    Case("ck_booking_count_asked_not_negative", BookingCount, changing(asked=-1)),
    Case("pk_booking_count", BookingCount, repeating("address_hash", "hour")),
    Case("pk_heartbeat", Heartbeat, repeating("name")),
]


def refused_by(engine: Engine, write: Callable[[Session], None]) -> str:
    """The name of the rule that refuses this write."""
    with pytest.raises((ConstraintViolated, SlotTaken)) as refused:
        _in_a_transaction(engine, write)
    assert isinstance(refused.value.__cause__, IntegrityError)
    return constraint_name(refused.value.__cause__)


def _in_a_transaction(engine: Engine, write: Callable[[Session], None]) -> None:
    with transaction(engine) as session:
        write(session)


def expected(engine: Engine, rule: str) -> str:
    """SQLite does not tell which foreign key was violated, and empties a table by deleting."""
    if engine.name == "sqlite":
        return "fk" if rule.startswith("fk_") else rule.replace("not_truncated", "not_deleted")
    return rule


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_write_that_breaks_one_rule_is_refused_by_its_name(database: Engine, case: Case) -> None:
    with transaction(database) as session:
        good = stored(session, case.model)
    refusal = refused_by(database, lambda session: case.write(session, case.model, good))
    assert refusal == expected(database, case.rule)


# A key goes with what points at it.
WITHOUT = """
    DO $$ BEGIN
        IF EXISTS (SELECT FROM pg_constraint WHERE conname = '{rule}') THEN
            ALTER TABLE {table} DROP CONSTRAINT {rule} CASCADE;
        ELSIF EXISTS (SELECT FROM pg_trigger WHERE tgname = '{rule}') THEN
            DROP TRIGGER {rule} ON {table};
        ELSE
            DROP INDEX {rule};
        END IF;
    END $$
"""


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_write_that_one_rule_refuses_is_allowed_without_that_rule(database: Engine, case: Case) -> None:
    """So that each case is about its rule alone: the rule is taken away for one transaction."""
    with database.connect() as connection, Session(connection) as session:
        good = stored(session, case.model)
        session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))  # the transaction is rolled back, so nothing may wait
        session.execute(text(WITHOUT.format(rule=case.rule, table=case.model.__tablename__)))
        case.write(session, case.model, good)
        session.rollback()


def required_columns() -> Iterator[Column[Any]]:
    """Every column that must be given; a single whole number as key is given by the database."""
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            numbered = column.primary_key and isinstance(column.type, Integer) and len(table.primary_key) == 1
            if not column.nullable and not numbered:
                yield column


@pytest.mark.parametrize("column", list(required_columns()), ids=str)
def test_a_row_without_a_required_value_is_refused(database: Engine, column: Column[Any]) -> None:
    model = next(model for model in VALID if model.__table__ is column.table)
    nothing: Values = {column.name: null()}
    write = changing(**nothing) if model is ClinicPolicy else adding(**nothing)
    with transaction(database) as session:
        good = stored(session, model)
    refusal = refused_by(database, lambda session: write(session, model, good))
    assert refusal == f"nn_{column.table.name}_{column.name}"


@pytest.mark.parametrize(
    ("parent", "child", "column"),
    [
        (Patient, Appointment, "patient_id"),
        (Therapist, WorkingHours, "therapist_id"),
        (Location, WorkingHours, "location_id"),
        (AppointmentType, Appointment, "appointment_type_id"),
        (Appointment, ManageLink, "appointment_id"),
        (Appointment, IdempotencyKey, "appointment_id"),
        (OutboxMessage, Attempt, "message_id"),
        *((Account, child, "account_id") for child in (AccountLocation, Passkey, RecoveryCode, StaffSession, Told)),
        (Account, CalendarFeed, "account_id"),
        (Location, AccountLocation, "location_id"),
        (Therapist, Account, "therapist_id"),
        (Therapist, CalendarPlan, "therapist_id"),
        (AppointmentType, AppointmentTypeTherapist, "appointment_type_id"),
        (Location, AppointmentTypeLocation, "location_id"),
        (Appointment, Told, "appointment_id"),
        (Appointment, Hold, "appointment_id"),
        (WorkingHours, StandbyOpening, "working_hours_id"),
        (LeverUse, StandbyOpening, "lever_use_id"),
    ],
)
def test_a_row_that_others_need_cannot_be_deleted(
    database: Engine, parent: type[Base], child: type[Base], column: str
) -> None:
    with transaction(database) as session:
        needed = stored(session, child)[column]
    refusal = refused_by(database, lambda session: removing(session, parent, {"id": needed}))
    assert refusal == expected(database, f"fk_{child.__tablename__}_{column}")


# --- what the rules allow


def test_what_was_sent_to_staff_may_be_owed_again(database: Engine) -> None:
    with transaction(database) as session:
        owed = stored(session, Account)["id"]
        for fate in ({}, {}, OWED):
            to_staff(account_id=owed, **fate)(session, OutboxMessage, {})
        to_staff(account_id=owed, about="2027-03-16", **OWED)(session, OutboxMessage, {})
        to_staff(account_id=owed, kind="locked-out", **OWED)(session, OutboxMessage, {})
    with reading(database) as session:
        of_theirs = select(OutboxMessage.id).where(OutboxMessage.account_id == owed)
        assert len(session.scalars(of_theirs).all()) == 5


def test_accounts_without_a_therapist_and_visits_that_did_not_move_in_are_many(database: Engine) -> None:
    with transaction(database) as session:
        for _ in range(2):
            stored(session, Account, therapist_id=None, role="front-desk")
            stored(session, Appointment, imported_as=None)
    with reading(database) as session:
        for empty in (Account.therapist_id, Appointment.imported_as):
            assert len(session.scalars(select(empty).where(empty.is_(None))).all()) >= 2


def test_one_day_of_standby_can_be_opened_twice_and_somebody_asked_for_many_days(database: Engine) -> None:
    with transaction(database) as session:
        good = stored(session, LeverUse)
        again = {name: good[name] for name in ("location_id", "therapist_id")}
        stored(session, LeverUse, **again)
        for day in (DAY, DAY + timedelta(days=1)):
            stored(session, LeverUse, **again, lever="ask", day=day)
    with reading(database) as session:
        whose = LeverUse.therapist_id == good["therapist_id"]
        assert len(session.scalars(select(LeverUse.id).where(whose)).all()) == 4


# --- what the triggers allow


def test_a_cell_that_is_freed_first_can_be_taken_by_another_visit(database: Engine) -> None:
    with transaction(database) as session:
        good = stored(session, Slot)
        same = {column: good[column] for column in ("therapist_id", "location_id")}
        other = stored(session, Appointment, **same)["id"]
        changing(appointment_id=None, fit=1, fit_open=1)(session, Slot, good)
        changing(appointment_id=other, fit=0, fit_open=0)(session, Slot, good)
    with reading(database) as session:
        assert session.execute(select(Slot.appointment_id).where(*_is(Slot, good))).scalar_one() == other


def test_a_taken_cell_can_be_written_again_for_its_own_visit(database: Engine) -> None:
    with transaction(database) as session:
        good = stored(session, Slot)
        changing(appointment_id=good["appointment_id"], needling=False)(session, Slot, good)
    with reading(database) as session:
        assert session.execute(select(Slot.needling).where(*_is(Slot, good))).scalar_one() is False


# --- what goes around a refused UPDATE or DELETE


def test_no_other_way_of_writing_changes_what_the_audit_holds(database: Engine) -> None:
    with transaction(database) as session:
        good = stored(session, AuditEvent)

    def in_its_place(session: Session) -> None:
        other = good | {"actor": "somebody else"}
        if database.name == "sqlite":
            session.execute(insert(AuditEvent).prefix_with("OR REPLACE").values(other))
            return
        upsert = insert_into(session, AuditEvent).values(other)
        session.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"actor": "somebody else"}))

    def by_its_row(session: Session) -> None:
        row = "SELECT rowid FROM audit_event LIMIT 1"
        columns = "id, happened_at, actor, action, entity, entity_id, detail"
        new = "'x', 1, 'patient', 'a', 'a', 'a', '{}'"
        session.execute(text(f"INSERT OR REPLACE INTO audit_event (rowid, {columns}) VALUES (({row}), {new})"))

    ways = [in_its_place, by_its_row] if database.name == "sqlite" else [in_its_place]
    refused = {refused_by(database, way) for way in ways}
    assert refused == {"tr_audit_event_not_deleted" if database.name == "sqlite" else "tr_audit_event_not_updated"}
    with reading(database) as session:
        assert session.get_one(AuditEvent, good["id"]).actor == good["actor"]


# --- every rule has a case


def keys_contain(table: Table, constraint: UniqueConstraint) -> bool:
    """Whether a key only exists to be pointed at: the primary key refuses first whatever it would."""
    names = {column.name for column in constraint.columns}
    return {column.name for column in table.primary_key} <= names


def named_rules() -> Iterator[str]:
    kinds = (CheckConstraint, UniqueConstraint, ForeignKeyConstraint, PrimaryKeyConstraint)
    for table in Base.metadata.sorted_tables:
        for constraint in table.constraints:
            if isinstance(constraint, UniqueConstraint) and keys_contain(table, constraint):
                continue
            if isinstance(constraint, kinds):
                yield str(constraint.name)
        yield from (str(index.name) for index in table.indexes if index.unique)


def triggers(engine: Engine) -> set[str]:
    found = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    }
    with reading(engine) as session:
        return set(session.scalars(text(found[engine.name])))


def test_every_constraint_of_the_models_has_a_case() -> None:
    assert set(named_rules()) == {case.rule for case in CASES if not case.rule.startswith("tr_")}


def test_every_trigger_of_the_database_has_a_case(database: Engine) -> None:
    assert triggers(database) == {expected(database, case.rule) for case in CASES if case.rule.startswith("tr_")}


def test_every_constraint_of_postgresql_has_a_case(migrated_postgresql: Engine) -> None:
    own = (
        "SELECT conname FROM pg_constraint c JOIN pg_class t ON t.oid = conrelid WHERE contype IN ('c', 'u', 'f', 'p')"
    )
    with reading(migrated_postgresql) as session:
        found = set(session.scalars(text(f"{own} AND relnamespace = 'public'::regnamespace")))
    rules = {case.rule for case in CASES if not case.rule.startswith("tr_")}
    assert found - rules == {"alembic_version_pkc", "uq_appointment_id_therapist_id_location_id"}


def test_every_table_has_a_valid_row() -> None:
    assert {model.__table__ for model in VALID} == set(Base.metadata.tables.values())
