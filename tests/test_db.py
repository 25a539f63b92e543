"""The ground: instants in tables, transactions that are whole or nothing, refusals with the same name everywhere."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Event
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, bindparam, event, func, insert, literal, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError, StatementError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from scheduler.db import Base, UtcDateTime, ask, constraint_name, database_now, make_engine, reading, transaction
from scheduler.errors import ConstraintViolated, SlotTaken, Unavailable
from scheduler.models import BookingCount, Heartbeat, IdempotencyKey, Location, Slot, TherapistLanguage
from tests.clinic import Clinic, at, rows

NOON = at("2027-03-14T12:00:00.123456+00:00")
NOBODY = UUID(int=1)


@pytest.fixture
def sqlite(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Engine]:
    path = tmp_path / "copy.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    engine = make_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def beat(name: str = "worker", beat_at: datetime = NOON) -> Heartbeat:
    return Heartbeat(name=name, beat_at=beat_at)


def store(engine: Engine, *new: Base) -> None:
    with transaction(engine) as session:
        session.add_all(new)


def beats(engine: Engine) -> list[str]:
    with reading(engine) as session:
        return sorted(found.name for found in rows(session, Heartbeat))


SessionOf = Callable[[Engine], AbstractContextManager[Session]]  # reading or transaction


def use(engine: Engine, session_of: SessionOf) -> None:
    with session_of(engine) as session:
        rows(session, Heartbeat)
        session.add(beat())
        session.flush()


def unusable_for(engine: Engine, session_of: SessionOf) -> None:
    with pytest.raises(Unavailable):
        use(engine, session_of)


# --- instants


@pytest.mark.parametrize(
    "instant",
    [
        NOON,
        at("1970-01-01T00:00:00+00:00"),
        at("1969-12-31T23:59:59.999999+00:00"),
        at("1890-06-15T12:00:00.000001+00:00"),
        at("9999-12-31T23:59:59.999999+00:00"),
        at("2027-03-14T01:59:59.999999-05:00"),
        datetime(2027, 11, 7, 1, 30, tzinfo=ZoneInfo("America/New_York"), fold=0),
        datetime(2027, 11, 7, 1, 30, tzinfo=ZoneInfo("America/New_York"), fold=1),
        datetime(2027, 6, 1, 12, 0, tzinfo=ZoneInfo("Asia/Kathmandu")),
    ],
)
def test_an_instant_comes_back_as_itself_in_utc(engine: Engine, instant: datetime) -> None:
    store(engine, beat(beat_at=instant))
    with reading(engine) as session:
        found = session.get_one(Heartbeat, "worker").beat_at
    # Python compares an instant in the repeated hour with another zone's as unequal (PEP 495), hence in UTC.
    assert (found, found.tzinfo) == (instant.astimezone(UTC), UTC)


def test_instants_come_back_exactly_and_in_their_order(engine: Engine) -> None:
    dice = random.Random(1)
    instants = [NOON + timedelta(microseconds=dice.randrange(-(10**16), 10**16)) for _ in range(300)]
    store(engine, *(beat(f"{n}", instant) for n, instant in enumerate(instants)))
    with reading(engine) as session:
        assert list(session.scalars(select(Heartbeat.beat_at).order_by(Heartbeat.beat_at))) == sorted(instants)


def test_a_naive_instant_is_refused_when_stored(engine: Engine) -> None:
    with pytest.raises(StatementError, match="naive"):
        store(engine, beat(beat_at=datetime(2027, 3, 14, 12)))  # noqa: DTZ001 the point
    assert beats(engine) == []


def test_a_naive_instant_is_refused_when_compared(engine: Engine) -> None:
    with pytest.raises(StatementError, match="naive"), reading(engine) as session:
        session.scalars(select(Heartbeat).where(Heartbeat.beat_at > datetime(2027, 3, 14))).all()  # noqa: DTZ001


def test_no_instant_is_none(engine: Engine) -> None:
    with reading(engine) as session:
        assert session.scalar(select(func.max(Heartbeat.beat_at))) is None


@pytest.mark.parametrize("span", [timedelta(hours=1), timedelta(days=-400, microseconds=1), timedelta(microseconds=-1)])
def test_a_length_of_time_can_be_added_in_sql(engine: Engine, span: timedelta) -> None:
    store(engine, beat())
    with reading(engine) as session:
        sums = session.execute(select(Heartbeat.beat_at + span, Heartbeat.beat_at - span)).one()
        assert tuple(sums) == (NOON + span, NOON - span)
        assert session.scalars(select(Heartbeat.name).where(Heartbeat.beat_at + span == NOON + span)).all()
        assert not session.scalars(select(Heartbeat.name).where(Heartbeat.beat_at + span > NOON + span)).all()


def test_a_length_of_time_can_be_added_to_the_databases_clock(engine: Engine) -> None:
    store(engine, beat(beat_at=datetime.now(UTC)))
    with reading(engine) as session:
        now = database_now()
        fresh = select(Heartbeat.name).where(Heartbeat.beat_at > now - timedelta(minutes=1))
        ahead = select(Heartbeat.name).where(Heartbeat.beat_at > now + timedelta(minutes=1))
        assert (session.scalars(fresh).all(), session.scalars(ahead).all()) == (["worker"], [])


def test_the_databases_clock_is_close_to_real_time(engine: Engine) -> None:
    before = datetime.now(UTC)
    with reading(engine) as session:
        found = session.execute(select(database_now())).scalar_one()
    # SQLite's clock counts milliseconds.
    assert before - timedelta(milliseconds=1) <= found <= datetime.now(UTC) + timedelta(milliseconds=1)


def test_the_databases_clock_moves_within_a_transaction(engine: Engine) -> None:
    with reading(engine) as session:
        first = session.execute(select(database_now())).scalar_one()
        while (later := session.execute(select(database_now())).scalar_one()) == first:
            pass
    assert later > first


# --- transactions


def test_a_transaction_keeps_what_it_wrote(engine: Engine) -> None:
    store(engine, beat("one"), beat("two"))
    assert beats(engine) == ["one", "two"]


def test_a_transaction_that_fails_keeps_nothing(engine: Engine) -> None:
    def fail_half_way() -> None:
        with transaction(engine) as session:
            session.add(beat())
            session.flush()
            raise LookupError

    with pytest.raises(LookupError):
        fail_half_way()
    assert beats(engine) == []


def test_a_transaction_that_a_constraint_refuses_keeps_nothing(engine: Engine) -> None:
    with pytest.raises(ConstraintViolated):
        store(engine, beat(), BookingCount(address_hash="a", hour=NOON, booked=-1))
    assert beats(engine) == []


def test_a_transaction_that_is_refused_at_its_very_end_keeps_nothing(engine: Engine) -> None:
    flushed = []

    def name_a_visit_that_is_not_there() -> None:
        with transaction(engine) as session:
            key = IdempotencyKey(key="a" * 8, body_sha256="b" * 64, appointment_id=NOBODY, created_at=NOON)
            session.add_all([beat(), key])
            session.flush()
            flushed.append(key)  # the foreign key is deferred: only the commit asks for the visit

    with pytest.raises(ConstraintViolated):
        name_a_visit_that_is_not_there()
    assert flushed
    assert beats(engine) == []


def test_rows_can_be_read_after_their_transaction(engine: Engine) -> None:
    found = beat()
    store(engine, found)
    assert (found.name, found.beat_at) == ("worker", NOON)


def test_reading_keeps_nothing(engine: Engine) -> None:
    with suppress(Unavailable), reading(engine) as session:  # PostgreSQL refuses it at once
        session.add(beat())
        session.flush()
    assert beats(engine) == []


def test_reading_on_postgresql_refuses_every_write(migrated_postgresql: Engine) -> None:
    unusable_for(migrated_postgresql, reading)


def test_reading_does_not_wait_for_a_writer_nor_see_what_is_not_kept_yet(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(beat())
        session.flush()
        assert beats(engine) == []
    assert beats(engine) == ["worker"]


def test_one_statement_by_itself_gives_the_rows_that_a_session_gives(engine: Engine) -> None:
    columns = (BookingCount.address_hash, BookingCount.hour, BookingCount.booked)
    statement = select(*columns, literal("a").label("word")).where(
        BookingCount.hour >= bindparam("since", type_=UtcDateTime())
    )
    store(engine, *(BookingCount(address_hash=name, hour=NOON, booked=len(name)) for name in ("a", "bb")))
    for since in (NOON, NOON + timedelta(seconds=1)):
        with reading(engine) as session:
            in_session = [tuple(row) for row in ask(session, statement, {"since": since})]
        assert [tuple(row) for row in ask(engine, statement, {"since": since})] == in_session
        assert len(in_session) == (2 if since == NOON else 0)


def test_one_statement_by_itself_leaves_nothing_open_and_holds_up_nobody(engine: Engine) -> None:
    statement = select(Heartbeat.name)
    assert ask(engine, statement, {}) == []
    store(engine, beat())
    assert [tuple(row) for row in ask(engine, statement, {})] == [("worker",)]
    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.checkedout() == 0


def test_one_statement_by_itself_is_asked_again_where_the_connection_was_cut(migrated_postgresql: Engine) -> None:
    ((pid,),) = ask(migrated_postgresql, select(func.pg_backend_pid()), {})
    other = make_engine(migrated_postgresql.url.render_as_string(hide_password=False))
    with other.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    other.dispose()
    assert ask(migrated_postgresql, select(func.count()).select_from(Heartbeat), {})[0][0] is not None
    ((anew,),) = ask(migrated_postgresql, select(func.pg_backend_pid()), {})
    assert anew != pid


def test_one_statement_by_itself_to_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        ask(make_engine(f"postgresql+psycopg://nobody@/nothing?host={tmp_path}"), select(Heartbeat.name), {})


def test_a_writer_does_not_wait_for_a_reader(engine: Engine) -> None:
    with reading(engine) as session:
        assert rows(session, Heartbeat) == []
        store(engine, beat())
    assert beats(engine) == ["worker"]


# --- SQLite under several writers, and how both are set up


def test_two_writers_on_sqlite_wait_for_each_other(sqlite: Engine) -> None:
    writing = Event()
    done: list[str] = []

    def first() -> None:
        with transaction(sqlite) as session:
            session.add(beat("first"))
            session.flush()
            writing.set()
            time.sleep(0.3)  # the second writer stands at the door meanwhile
            done.append("first")

    def second() -> None:
        writing.wait(10)
        store(sqlite, beat("second"))
        done.append("second")

    with ThreadPoolExecutor(2) as threads:
        for running in [threads.submit(second), threads.submit(first)]:
            running.result()
    assert done == ["first", "second"]
    assert beats(sqlite) == ["first", "second"]


def test_many_writers_on_sqlite_lose_no_count(sqlite: Engine) -> None:
    store(sqlite, BookingCount(address_hash="a", hour=NOON, booked=0))
    together = Barrier(4)

    def count(_: int) -> None:
        together.wait()
        for _round in range(10):
            with transaction(sqlite) as session:
                session.get_one(BookingCount, ("a", NOON)).booked += 1

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(4)))
    with reading(sqlite) as session:
        assert session.get_one(BookingCount, ("a", NOON)).booked == 40


def test_every_connection_to_sqlite_is_durable_and_keeps_foreign_keys(sqlite: Engine) -> None:
    with sqlite.connect() as first, sqlite.connect() as second:
        for connection in (first, second):
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5_000


@pytest.mark.parametrize(
    ("setting", "value"), [("timezone", "UTC"), ("lock_timeout", "10s"), ("statement_timeout", "1min")]
)
def test_every_connection_to_postgresql_has_its_limits(migrated_postgresql: Engine, setting: str, value: str) -> None:
    with migrated_postgresql.connect() as connection:
        assert connection.execute(text("SELECT current_setting(:name)"), {"name": setting}).scalar() == value


# --- databases that cannot be used now


def test_a_sqlite_file_that_may_only_be_read_is_unavailable_to_writers(sqlite: Engine) -> None:
    store(sqlite, beat())
    read_only = make_engine(f"sqlite:///file:{sqlite.url.database}?mode=ro&uri=true")
    unusable_for(read_only, transaction)
    assert beats(read_only) == ["worker"]
    read_only.dispose()


def test_a_sqlite_file_that_cannot_grow_is_unavailable_and_stays_whole(sqlite: Engine) -> None:
    full = make_engine(str(sqlite.url))
    event.listen(full, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
    with pytest.raises(Unavailable):
        store(full, *(beat(f"{n:040d}") for n in range(1000)))
    full.dispose()
    assert beats(sqlite) == []


@pytest.mark.parametrize("session_of", [reading, transaction])
@pytest.mark.parametrize("where", ["missing/folder/scheduler.db", "."])
def test_a_sqlite_file_that_cannot_be_opened_is_unavailable(session_of: SessionOf, where: str, tmp_path: Path) -> None:
    unusable_for(make_engine(f"sqlite:///{tmp_path / where}"), session_of)


@pytest.mark.parametrize("session_of", [reading, transaction])
def test_a_postgresql_server_that_is_not_there_is_unavailable(session_of: SessionOf, tmp_path: Path) -> None:
    unusable_for(make_engine(f"postgresql+psycopg://nobody@/nothing?host={tmp_path}"), session_of)


def test_a_postgresql_database_that_may_only_be_read_is_unavailable_to_writers(migrated_postgresql: Engine) -> None:
    unusable_for(migrated_postgresql.execution_options(postgresql_readonly=True), transaction)


def test_a_connection_that_postgresql_ends_is_unavailable_once(migrated_postgresql: Engine) -> None:
    def lose_the_connection() -> None:
        with transaction(migrated_postgresql) as session:
            own = session.scalar(text("SELECT pg_backend_pid()"))
            with migrated_postgresql.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": own})
            rows(session, Heartbeat)

    with pytest.raises(Unavailable):
        lose_the_connection()
    with reading(migrated_postgresql) as session:
        assert session.scalar(select(func.count()).select_from(Heartbeat)) is not None


def test_a_writer_that_waits_too_long_on_sqlite_is_told_unavailable(sqlite: Engine) -> None:
    hasty = make_engine(str(sqlite.url))
    event.listen(hasty, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 20"))
    with transaction(sqlite) as session:
        session.add(beat())
        session.flush()
        unusable_for(hasty, transaction)
    hasty.dispose()
    assert beats(sqlite) == ["worker"]


def test_a_writer_that_waits_too_long_on_postgresql_is_told_unavailable(migrated_postgresql: Engine) -> None:
    def write_in_haste() -> None:
        with transaction(migrated_postgresql) as session:
            session.execute(text("SET LOCAL lock_timeout = '20ms'"))
            session.execute(text("LOCK TABLE heartbeat"))

    with migrated_postgresql.begin() as holder:
        holder.execute(text("LOCK TABLE heartbeat"))
        with pytest.raises(Unavailable):
            write_in_haste()


def test_when_every_connection_is_in_use_the_database_is_unavailable(sqlite: Engine) -> None:
    sqlite.pool._timeout = 0.05  # type: ignore[attr-defined] # instead of half a minute
    with ExitStack() as held:
        for _ in range(15):
            held.enter_context(sqlite.connect())
        unusable_for(sqlite, reading)
    assert beats(sqlite) == []


# --- refusals

PLACE = {"name": "Springfield", "area": "", "address": "", "state": "IL", "time_zone": "America/Chicago", "phone": ""}
BEAT = {"name": "worker", "beat_at": NOON}
COUNT = {"address_hash": "a", "hour": NOON, "booked": 0}
REFUSED = [
    (Location, [PLACE, PLACE], "uq_location_name"),
    (Location, [PLACE | {"state": "il"}], "ck_location_state_known"),
    (Heartbeat, [BEAT, BEAT], "pk_heartbeat"),
    (Heartbeat, [BEAT | {"beat_at": None}], "nn_heartbeat_beat_at"),
    (BookingCount, [COUNT, COUNT], "pk_booking_count"),
    (BookingCount, [COUNT | {"booked": -1}], "ck_booking_count_booked_not_negative"),
]


@pytest.mark.parametrize(("table", "new", "name"), REFUSED)
def test_a_refusal_has_the_same_name_on_both_databases(
    engine: Engine, table: type[Base], new: list[dict[str, Any]], name: str
) -> None:
    def insert_all() -> None:
        with transaction(engine) as session:
            for values in new:
                session.execute(insert(table).values(**values))

    with pytest.raises(ConstraintViolated) as refused:
        insert_all()
    assert refused.value.name == name
    assert isinstance(refused.value.__cause__, IntegrityError)
    assert constraint_name(refused.value.__cause__) == name


def test_a_foreign_key_has_its_name_where_the_database_tells_it(engine: Engine) -> None:
    with pytest.raises(ConstraintViolated) as refused, transaction(engine) as session:
        session.execute(insert(TherapistLanguage).values(therapist_id=1, language="en"))
    assert refused.value.name == {"sqlite": "fk", "postgresql": "fk_therapist_language_therapist_id"}[engine.name]


def test_a_slot_that_is_overwritten_is_a_slot_taken(engine: Engine, clinic: Clinic) -> None:
    first, second = clinic.offers()[0], clinic.offers()[8]
    clinic.book(str(first.slot))
    other = clinic.book(str(second.slot)).appointment
    overwritten = update(Slot).where(Slot.starts_at == first.slot.starts_at).values(appointment_id=other.id)
    with pytest.raises(SlotTaken), transaction(engine) as session:
        session.execute(overwritten)


def test_a_slot_that_exists_already_is_a_slot_taken(engine: Engine, clinic: Clinic) -> None:
    name = clinic.offers()[0].slot
    again = insert(Slot).values(
        therapist_id=name.therapist_id,
        location_id=name.location_id,
        starts_at=name.starts_at,
        fit=1,
        fit_open=1,
        needling=True,
    )
    with pytest.raises(SlotTaken), transaction(engine) as session:
        session.execute(again)


def test_any_other_error_stays_what_it_is(migrated_postgresql: Engine) -> None:
    with pytest.raises(ProgrammingError, match="no_such_function"), reading(migrated_postgresql) as session:
        session.execute(text("SELECT no_such_function()"))


def test_a_mistake_in_a_statement_is_no_outage(engine: Engine) -> None:
    with pytest.raises(DBAPIError), reading(engine) as session:
        session.execute(text("SELEC 1"))


def test_reading_sees_one_moment(engine: Engine) -> None:
    count = select(func.count()).select_from(Heartbeat)
    with reading(engine) as session:
        before = session.scalar(count)
        with transaction(engine) as writer:
            writer.add(Heartbeat(name="later", beat_at=datetime(2026, 11, 23, tzinfo=UTC)))
        assert session.scalar(count) == before


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # PostgreSQL has no INSERT OR REPLACE
def test_replacing_does_not_slip_past_the_triggers(engine: Engine) -> None:
    columns = "version, language, title, sections, source, content_sha256, published_at"
    with pytest.raises(ConstraintViolated), transaction(engine) as session:
        session.execute(
            text(f"INSERT OR REPLACE INTO explainer_version (id, {columns}) SELECT * FROM explainer_version")
        )
