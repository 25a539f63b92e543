"""The schema's versions: up, down and up again, on databases that are full, shared or damaged."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, MetaData, delete, func, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

import config
from scheduler import cli, schema
from scheduler.clock import FixedClock
from scheduler.db import Base, constraint_name, make_engine, reading, transaction
from scheduler.keys import Keyring, fingerprint
from scheduler.models import (
    AccessDay,
    AccessQuestion,
    AccessWord,
    Account,
    AccountLocation,
    Appointment,
    AppointmentType,
    AppointmentTypeLocation,
    AppointmentTypeTherapist,
    Attempt,
    BookingCount,
    CalendarFeed,
    ChannelState,
    ClinicPolicy,
    Closure,
    ContactRequest,
    Heartbeat,
    Kind,
    LetGoDay,
    LeverUse,
    Location,
    OutboxMessage,
    Override,
    Passkey,
    Patient,
    ProtectionLevel,
    Reason,
    RecoveryCode,
    Role,
    SeriesVisit,
    SignInAttempt,
    StaffSession,
    StandbyOpening,
    TimeOff,
    TimeOffStatus,
    Told,
    UsedChallenge,
    WorkingHours,
)
from scheduler.services import access_goal, access_watch, claim_ledger, claims, moves, my_visits, notices, verify
from scheduler.services.moves import MoveVisit
from scheduler.timeline import DAY
from tests import postgres
from tests.clinic import Clinic
from tests.conftest import BACKENDS, worker_name
from tests.server import command

# What a database holds beside tables: on SQLite's side its definitions are text, on PostgreSQL's they are asked for.
DEFINITIONS = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type <> 'trigger'",
    "postgresql": """
        SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable,
            column_default, character_maximum_length, numeric_precision, numeric_scale)
            FROM information_schema.columns WHERE table_schema = 'public'
    """,
}
ACCOUNT = {
    "email": "ana@example.com",
    "name": "Ana Abbott",
    "language": "en",
    "role": Role.THERAPIST,
    "everywhere": False,
    "needs_second_factor": False,
}
LINE_OR_COLUMN = re.compile(r"\n|, (?=\w+ [A-Z]+)")
LEFT_OVER = {
    "sqlite": "SELECT name FROM sqlite_master WHERE name NOT LIKE '%alembic_version%' AND name <> 'sqlite_sequence'",
    "postgresql": """
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic_version%'
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
            AND typname NOT LIKE '%alembic_version'
    """,
}


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of this test's own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'own.db'}"
    return config.driver_url(postgres.fresh_database(f"migrations_{worker_name()}"))


@pytest.fixture
def empty(url: str) -> Iterator[Engine]:
    engine = make_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path / 'own.db'}")
    yield engine
    engine.dispose()


def up(engine: Engine, revision: str = "head") -> None:
    with schema.alone(engine):
        schema.upgrade(engine, revision)


def down(engine: Engine, revision: str = "base") -> None:
    with schema.alone(engine):
        schema.downgrade(engine, revision)


def filled(engine: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring) -> Clinic:
    """A clinic with a visit, a cancelled visit, an account and at least one row in every table."""
    cli.prepare(settings, engine, clock)
    clinic = Clinic.standard(engine, clock, keys)
    clinic.book(str(clinic.offers()[0].slot))
    clinic.cancel(clinic.book(str(clinic.offers()[0].slot)).token)
    clinic.hold(str(clinic.offers()[-1].slot), holder="a browser session")
    with transaction(engine) as session:
        message = session.scalars(select(OutboxMessage.id)).first()
        session.add_all(
            [
                Attempt(message_id=message, number=1, started_at=clock.now()),
                BookingCount(address_hash="a", hour=clock.now(), booked=1),
                ChannelState(channel="email", failures=1, paused_until=clock.now()),
            ]
        )
        long_ago = {"starts_on": date(2020, 1, 1), "starts_minute": 0, "ends_on": date(2020, 1, 1), "ends_minute": 1440}
        session.add(Closure(location_id=1, reason="Snow", **long_ago))
        session.add(TimeOff(therapist_id=1, status=TimeOffStatus.APPROVED, asked_at=clock.now(), **long_ago))
        if session.get(Heartbeat, "worker") is None:
            session.add(Heartbeat(name="worker", beat_at=clock.now()))
        access_goal.record(session, access_goal.samples(session, now=clock.now()))
        a_day = {"measured": 96, "kept": 80, "possible": 90, "within_open_days": 85, "goal_hours": 48}
        session.add(AccessDay(appointment_type_id=1, location_id=1, day=date(2026, 11, 22), **a_day))
        of_today = {"decided_on": date(2026, 11, 23), "since": date(2026, 11, 23)}
        session.add(ProtectionLevel(location_id=1, least=0, most=4, suggested=2, days=0, level=2, **of_today))
        account = Account(**ACCOUNT, therapist_id=1, created_at=clock.now())
        session.add(account)
        session.add(AppointmentTypeTherapist(appointment_type_id=1, therapist_id=1))
        session.add(AppointmentTypeLocation(appointment_type_id=1, location_id=1))
        session.add(a_lever_use(clock.now()))
        session.add(LetGoDay(location_id=1, day=date(2026, 11, 26), let_go_by="account:1", let_go_at=clock.now()))
        session.flush()
        session.add(StandbyOpening(working_hours_id=1, day=date(2020, 1, 1), lever_use_id=1))
        session.add_all(of_account(account.id, session.scalars(select(Appointment.id)).first(), clock.now()))
        notices.owe(session, account.id, Kind.DAY_CHANGED, "2026-11-23", now=clock.now())
        now = clock.now()
        my_visits.ask(session, "pat@example.com", address_hash="x", language="en", keys=keys, now=now)
        watch(session, account.id, clock.now())
        question(session, clock.now())
        told = session.scalars(select(OutboxMessage.id).where(OutboxMessage.account_id == account.id)).all()
        session.add_all(Attempt(message_id=one, number=1, started_at=clock.now()) for one in told)
    return clinic


def watch(session: Session, account_id: int, now: datetime) -> None:
    """How the claims and the access goal stand, and a word about it."""
    claim_ledger.note(session, claim_ledger.standing(claims.present(session, now=now)), now=now)
    seen = access_watch.look(session, now=now)
    assert seen is not None
    access_watch.note(session, *seen, now=now)
    word = {"location_id": 1, "kind": Kind.GOAL_MISSED, "day": date(2020, 1, 1), "reason": Reason.CAPACITY}
    session.add(AccessWord(at=now, said_at=now, goal_hours=48, **word))
    notices.owe(session, account_id, Kind.GOAL_MISSED, now.isoformat(), now=now)


def question(session: Session, now: datetime) -> None:
    """A question, and the message that tells that it is here."""
    asked = ContactRequest(
        form_sha256="f",
        name="P",
        email="p@example.com",
        language="en",
        location_id=1,
        message_sealed=b"m",
        asked_at=now,
    )
    session.add(asked)
    session.add(AccessQuestion(appointment_type_id=1, location_id=1, asked_at=now, goal_hours=48))
    session.flush()
    kind = Kind.QUESTION_RECEIVED
    session.add(OutboxMessage(contact_request_id=asked.id, kind=kind, channel="email", due_at=now, created_at=now))


def a_lever_use(now: datetime) -> LeverUse:
    where = {"location_id": 1, "place_id": 1, "therapist_id": 1, "starts_at": now, "ends_at": now + DAY}
    return LeverUse(lever="standby", promise="missed", used_at=now, used_by="worker", cells=1, day=now.date(), **where)


def of_account(account_id: int, visit: UUID | None, now: datetime) -> list[Base]:
    """What belongs to an account, one row of each."""
    token = fingerprint("a token")
    return [
        AccountLocation(account_id=account_id, location_id=1),
        Passkey(account_id=account_id, credential_id=b"1", public_key=b"1", sign_count=0, name="Phone", created_at=now),
        RecoveryCode(account_id=account_id, code_sha256=token),
        StaffSession(account_id=account_id, token_sha256=token, full=True, created_at=now, seen_at=now, proved_at=now),
        SignInAttempt(subject="1", tried_at=now),
        UsedChallenge(challenge_sha256="1", used_at=now),
        CalendarFeed(account_id=account_id, token_sha256=token, detailed=False, created_at=now),
        Told(account_id=account_id, appointment_id=visit, visit_version=1, status="booked", told_at=now),
        SeriesVisit(appointment_id=visit, first_id=visit),
        Override(appointment_id=visit, rule="protected", reason_sealed=b"1", used_by=f"account:{account_id}"),
    ]


def rows_by_table(session: Session) -> dict[str, int]:
    counts = {name: select(func.count()).select_from(table) for name, table in Base.metadata.tables.items()}
    return {name: session.execute(rows).scalar_one() for name, rows in counts.items()}


def definitions(engine: Engine) -> dict[str, list[str]]:
    """Every table, constraint and index by name, as a list of parts without order."""
    with engine.connect() as connection:
        found = connection.execute(text(DEFINITIONS[engine.name])).all()
    return {
        name: sorted(filter(None, map(_part, LINE_OR_COLUMN.split(definition))))
        for name, definition in found
        if "alembic_version" not in name
    }


def _part(line: str) -> str:
    """One column or constraint; SQLite writes a column that was added later as ", name TYPE", some before a ")"."""
    part = line.replace('"', "").strip(" ,\t")
    return part.removesuffix(")") if part.count(")") > part.count("(") else part


# --- up and down


def test_the_schema_goes_down_and_up_again_with_data_in_every_table(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    filled(empty, settings, clock, keys)
    with reading(empty) as session:
        assert min(rows_by_table(session).values()) > 0
    before = definitions(empty)
    down(empty)
    with empty.connect() as connection:
        assert connection.execute(text(LEFT_OVER[empty.name])).all() == []
        assert connection.execute(text("SELECT * FROM alembic_version")).all() == []
    up(empty)
    assert definitions(empty) == before
    with reading(empty) as session:
        assert max(rows_by_table(session).values()) == 0


def test_a_clinic_works_after_the_schema_went_down_and_up(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    filled(empty, settings, clock, keys)
    down(empty)
    filled(empty, settings, clock, keys)
    with reading(empty) as session:
        assert {finding.violations for finding in verify.verify(session, now=clock.now())} == {0}


def test_a_clinic_keeps_its_data_when_the_schema_is_upgraded_again(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    filled(empty, settings, clock, keys)
    with transaction(empty) as session:
        session.execute(update(ClinicPolicy).values(clinic_name="Edited by the clinic"))
        before = rows_by_table(session)
    cli.prepare(settings, empty, clock)
    with reading(empty) as session:
        assert rows_by_table(session) == before
        assert session.scalars(select(ClinicPolicy.clinic_name)).one() == "Edited by the clinic"


def test_a_schema_is_current_at_its_newest_version_only(empty: Engine) -> None:
    for step, current in ((lambda _: None, False), (up, True), (down, False)):
        step(empty)
        with empty.connect() as connection:
            assert schema.is_current(connection) is current


# --- one step at a time, with data


Rows = dict[str, list[tuple[tuple[str, str], ...]]]  # by table, each by column


def contents(engine: Engine) -> Rows:
    """Every row of every table as it is stored, whatever columns that has now."""
    found = MetaData()
    with engine.connect() as connection:
        found.reflect(connection)
        return {
            name: sorted(tuple((key, str(value)) for key, value in row._mapping.items()) for row in rows)
            for name, table in found.tables.items()
            if name != "alembic_version"
            for rows in [connection.execute(text(f"SELECT * FROM {table.name}")).all()]
        }


def without(rows: Rows, added: dict[str, set[str]]) -> Rows:
    """The same rows of the tables named, without the columns named."""
    return {
        name: sorted(tuple(sorted((key, value) for key, value in row if key not in columns)) for row in rows[name])
        for name, columns in added.items()
    }


# What later steps added to the tables of 0004.
ADDED = {
    "working_hours": {"every_weeks", "standby", "opens_by_rule"},
    "location": {"online", "active"},
    "appointment_type": {"active", "notice_minutes", "horizon_days"},
    "clinic_policy": {"imported_reminded_at", "cancel_notice_hours", "retention_months"},
    "appointment": {"imported_as", "expires_at", "cancelled_late"},
    "audit_event": {"address"},
    "patient": {"folded_name", "folded_email", "erased_at"},
    "booking_count": {"asked"},
    "outbox_message": {"account_id", "about", "visits_request_id", "contact_request_id"},
    "access_sample": {"possible", "within_open_days"},
    "slot": {"protected", "fit_open"},
}
FORBIDDEN = {
    "tr_audit_event_not_updated": "UPDATE audit_event SET actor = 'somebody else'",
    "tr_audit_event_not_deleted": "DELETE FROM audit_event",
    "tr_explainer_version_not_updated": "UPDATE explainer_version SET title = 'Other words'",
    "tr_explainer_version_not_deleted": "DELETE FROM explainer_version",
    "tr_slot_taken_kept": "DELETE FROM slot WHERE appointment_id IS NOT NULL",
    "tr_slot_taken_once": "UPDATE slot SET appointment_id = '{other}' WHERE appointment_id IS NOT NULL",
}


def refusals(engine: Engine) -> dict[str, str]:
    """What each forbidden write is refused by."""
    other = uuid4()
    words = str(other) if engine.name == "postgresql" else other.hex
    found = {}
    for name, write in FORBIDDEN.items():
        with pytest.raises(IntegrityError) as refused, engine.begin() as connection:
            connection.execute(text(write.format(other=words)))
        found[name] = constraint_name(refused.value)
    return found


def at_0004(engine: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring) -> None:
    """A full clinic as it was before there were accounts."""
    filled(engine, settings, clock, keys)
    down(engine, "0004")


def test_visits_messages_and_the_audit_survive_the_step_to_accounts_and_back(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    at_0004(empty, settings, clock, keys)
    before = contents(empty)
    kept = {name: set[str]() for name in before} | ADDED
    assert all(before[name] for name in before)
    assert refusals(empty) == {name: name for name in FORBIDDEN}
    for _ in range(2):
        up(empty)
        assert without(contents(empty), kept) == without(before, kept)
        assert refusals(empty) == {name: name for name in FORBIDDEN}
        down(empty, "0004")
        assert contents(empty) == before
        assert refusals(empty) == {name: name for name in FORBIDDEN}


def test_what_was_there_before_accounts_is_offered_after(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    at_0004(empty, settings, clock, keys)
    up(empty)
    with reading(empty) as session:
        assert {(place.online, place.active) for place in session.scalars(select(Location))} == {(True, True)}
        assert set(session.scalars(select(AppointmentType.active))) == {True}
        assert session.scalars(select(ClinicPolicy.imported_reminded_at)).all() == [None]
        assert {finding.violations for finding in verify.verify(session, now=clock.now())} == {0}


def test_patients_from_before_accounts_are_found_by_their_names(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    at_0004(empty, settings, clock, keys)
    with empty.begin() as connection:
        connection.execute(text("UPDATE patient SET name = 'Zoë O’Brien-Núñez'"))
    up(empty)
    with reading(empty) as session:
        assert set(session.scalars(select(Patient.folded_name))) == {"zoe obrien nunez"}


def test_only_messages_to_staff_and_about_questions_are_lost_with_those(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    filled(empty, settings, clock, keys)
    before = contents(empty)["outbox_message"]
    down(empty, "0004")
    up(empty)
    after = contents(empty)
    assert after["outbox_message"] == [row for row in before if ("visit_version", "None") not in row]
    assert len(after["attempt"]) == 1
    assert after["account"] == []


def test_samples_from_before_do_not_know_what_was_possible(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    filled(empty, settings, clock, keys)
    known = {"possible", "within_open_days"}
    before = contents(empty)["access_sample"]
    assert {dict(row)["possible"] for row in before} <= {"1", "True"}
    down(empty, "0011")
    old = without({"access_sample": before}, {"access_sample": known})
    assert without(contents(empty), {"access_sample": set()}) == old
    up(empty)
    after = contents(empty)
    assert without(after, {"access_sample": known}) == old
    assert {value for row in after["access_sample"] for key, value in row if key in known} == {"None"}
    assert after["access_day"] == []


def test_the_word_of_a_move_goes_with_its_step_and_the_visit_stays_where_it_is(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    clinic = filled(empty, settings, clock, keys)
    visit, wanted = clinic.book(str(clinic.offers()[0].slot)), clinic.offers()[40].slot
    with transaction(empty) as session:
        moves.move(session, visit.token, MoveVisit(str(wanted)), keys=keys, now=clock.now())
    down(empty, "0016")
    up(empty)
    with reading(empty) as session:
        assert set(session.scalars(select(Patient.folded_email))) == {"pat@example.com"}
        assert session.get_one(Appointment, visit.appointment.id).starts_at == wanted.starts_at
        assert Kind.MOVED not in set(session.scalars(select(OutboxMessage.kind)))
        assert set(session.scalars(select(Appointment.cancelled_late))) == {False}
        assert session.scalars(select(ClinicPolicy.cancel_notice_hours)).all() == [24]


# --- models and migrations say the same


def test_hours_on_standby_go_with_their_step_and_others_stay(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    clinic = filled(empty, settings, clock, keys)
    clinic.add_hours(1, 1, [5], standby=True, opens_by_rule=True)
    down(empty, "0011")
    up(empty)
    with reading(empty) as session:
        left = session.execute(select(WorkingHours.weekday, WorkingHours.standby, WorkingHours.opens_by_rule)).all()
        assert sorted(map(tuple, left)) == [(day, False, False) for day in range(5)]
    clinic.plan()
    with reading(empty) as session:
        assert {finding.violations for finding in verify.verify(session, now=clock.now())} == {0}


def test_uses_from_before_know_their_day_and_who_was_asked_twice_is_asked_once(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    """Evening in Chicago is the next day in UTC; what was let go is no use that the older step knows."""
    filled(empty, settings, clock, keys)
    evening = datetime(2026, 11, 25, 1, 0, tzinfo=UTC)
    where = {"location_id": 1, "place_id": 1, "promise": "missed", "used_by": "account:1", "cells": 4}
    each = [
        ("ask", 1, evening, date(2026, 11, 24)),
        ("ask", 1, evening + timedelta(hours=6), date(2026, 11, 25)),
        ("release", 1, evening, date(2026, 11, 24)),
        ("elsewhere", None, evening, None),
    ]
    with transaction(empty) as session:
        session.execute(delete(StandbyOpening))
        session.execute(delete(LeverUse))
        for lever, who, at, day in each:
            times = {"used_at": at, "starts_at": at, "ends_at": at + timedelta(hours=1)}
            session.add(LeverUse(lever=lever, therapist_id=who, day=day, **times, **where))
    down(empty, "0016")
    again = "INSERT INTO lever_use ({0}) SELECT {0} FROM lever_use WHERE lever = 'ask'".format(
        "lever, promise, location_id, place_id, therapist_id, used_at, used_by, starts_at, ends_at, cells"
    )
    with empty.begin() as connection:
        connection.execute(text(again))
    up(empty)
    with reading(empty) as session:
        left = session.execute(select(LeverUse.lever, LeverUse.day).order_by(LeverUse.id)).all()
        assert sorted(map(tuple, left), key=str) == [
            ("ask", date(2026, 11, 24)),
            ("ask", date(2026, 11, 25)),
            ("elsewhere", None),
        ]
        assert session.scalars(select(LetGoDay)).all() == []


def test_letters_about_the_goal_that_are_owed_become_one_of_their_moment(
    empty: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    clinic = filled(empty, settings, clock, keys)
    second = clinic.add_location("Chatham")
    with transaction(empty) as session:
        word = {"kind": Kind.GOAL_MISSED, "day": date(2020, 1, 1), "reason": Reason.CAPACITY, "goal_hours": 48}
        session.add(AccessWord(location_id=second, at=clock.now(), said_at=clock.now(), **word))

    def letters() -> list[tuple[str | None, str, str | None]]:
        columns = OutboxMessage.about, OutboxMessage.status, OutboxMessage.reason
        with reading(empty) as session:
            found = session.execute(select(*columns).where(OutboxMessage.kind == Kind.GOAL_MISSED)).all()
        return sorted(map(tuple, found))  # type: ignore[arg-type]

    moment = clock.now().isoformat()
    down(empty, "0016")
    assert letters() == [("1 2020-01-01", "owed", None)]
    with transaction(empty) as session:
        (account_id,) = session.scalars(select(Account.id))
        notices.owe(session, account_id, Kind.GOAL_MISSED, f"{second} 2020-01-01", now=clock.now())
    up(empty)
    assert letters() == [
        (f"{second} 2020-01-01", "suppressed", "told in another letter"),
        (moment, "owed", None),
    ]


def test_models_and_migrations_agree(empty: Engine) -> None:
    up(empty)
    with empty.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_models_and_migrations_agree_to_the_letter(empty: Engine) -> None:
    """Alembic compares neither checks nor deferred keys nor SQLite's kind of table: so both are made and compared."""
    up(empty)
    by_migrations = definitions(empty)
    down(empty)
    Base.metadata.create_all(empty)
    assert definitions(empty) == by_migrations


def test_every_table_of_the_database_has_a_model(empty: Engine) -> None:
    up(empty)
    assert set(inspect(empty).get_table_names()) == set(Base.metadata.tables) | {"alembic_version"}


# --- several at once


def test_two_processes_that_upgrade_at_once_both_succeed(url: str, empty: Engine) -> None:
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: command(url, "db", "upgrade"), range(2)))
    assert [process.returncode for process in both] == [0, 0], [process.stderr for process in both]
    with reading(empty) as session:
        assert schema.is_current(session.connection())
        assert session.scalars(select(ClinicPolicy.id)).all() == [1]


def test_threads_that_prepare_at_once_all_succeed(empty: Engine, settings: config.Settings, clock: FixedClock) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: cli.prepare(settings, empty, clock), range(4)))
    with reading(empty) as session:
        assert session.scalars(select(ClinicPolicy.id)).all() == [1]


# --- SQLite's own care


def test_foreign_keys_on_sqlite_are_sound_after_a_migration(
    sqlite: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring
) -> None:
    filled(sqlite, settings, clock, keys)
    up(sqlite)
    with sqlite.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_connections_to_sqlite_keep_foreign_keys_after_a_migration(sqlite: Engine) -> None:
    up(sqlite)
    with sqlite.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_migration_on_sqlite_that_would_leave_rows_pointing_nowhere_keeps_nothing(sqlite: Engine) -> None:
    with sqlite.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE place (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("CREATE TABLE person (place_id INTEGER REFERENCES place DEFERRABLE)")
    with sqlite.execution_options(sqlite_begin="PRAGMA foreign_keys = OFF").connect() as connection:
        connection.exec_driver_sql("INSERT INTO person VALUES (7)")
        connection.invalidate()
    with pytest.raises(schema.SchemaDamaged, match="person"):
        up(sqlite)
    assert set(inspect(sqlite).get_table_names()) == {"person", "place"}
