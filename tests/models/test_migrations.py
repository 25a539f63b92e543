"""The schema's versions: up, down and up again, on databases that are full, shared or damaged."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, func, inspect, select, text, update
from sqlalchemy.orm import Session

import config
from scheduler import cli, schema
from scheduler.clock import FixedClock
from scheduler.db import Base, make_engine, reading, transaction
from scheduler.keys import Keyring
from scheduler.models import Attempt, BookingCount, ChannelState, ClinicPolicy, Heartbeat, OutboxMessage
from scheduler.services import access_goal, verify
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
LEFT_OVER = {
    "sqlite": "SELECT name FROM sqlite_master WHERE name NOT LIKE '%alembic_version%'",
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


def up(engine: Engine) -> None:
    with schema.alone(engine):
        schema.upgrade(engine)


def down(engine: Engine) -> None:
    with schema.alone(engine):
        schema.downgrade(engine, "base")


def filled(engine: Engine, settings: config.Settings, clock: FixedClock, keys: Keyring) -> Clinic:
    """A clinic with a visit, a cancelled visit and at least one row in every table."""
    cli.prepare(settings, engine, clock)
    clinic = Clinic.standard(engine, clock, keys)
    clinic.book(str(clinic.offers()[0].slot))
    clinic.cancel(clinic.book(str(clinic.offers()[0].slot)).token)
    with transaction(engine) as session:
        message = session.scalars(select(OutboxMessage.id)).first()
        session.add_all(
            [
                Attempt(message_id=message, number=1, started_at=clock.now()),
                BookingCount(address_hash="a", hour=clock.now(), booked=1),
                ChannelState(channel="email", failures=1, paused_until=clock.now()),
            ]
        )
        if session.get(Heartbeat, "worker") is None:
            session.add(Heartbeat(name="worker", beat_at=clock.now()))
        access_goal.record(session, now=clock.now())
    return clinic


def rows_by_table(session: Session) -> dict[str, int]:
    counts = {name: select(func.count()).select_from(table) for name, table in Base.metadata.tables.items()}
    return {name: session.execute(rows).scalar_one() for name, rows in counts.items()}


def definitions(engine: Engine) -> dict[str, list[str]]:
    """Every table, constraint and index by name, as a list of parts without order."""
    with engine.connect() as connection:
        found = connection.execute(text(DEFINITIONS[engine.name])).all()
    return {
        name: sorted(part.strip().rstrip(",").replace('"', "") for part in re.split(r"\n", definition))
        for name, definition in found
        if "alembic_version" not in name
    }


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


# --- models and migrations say the same


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
