"""The database: one engine, two kinds of transaction, one column type for instants, one translation of refusals."""

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from threading import Lock
from time import monotonic, sleep
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Engine,
    Interval,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    UniqueConstraint,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import NullPool, SingletonThreadPool
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from scheduler.errors import ClinicError, ConstraintViolated, SlotTaken, Unavailable
from scheduler.timeline import EPOCH

SQLITE_WAIT_SECONDS, LOOK_AGAIN_SECONDS = 5, 0.001
WRITE = "BEGIN IMMEDIATE"
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "recursive_triggers = ON",  # INSERT OR REPLACE must not slip past the triggers that refuse a DELETE
    "cache_size = -32768",  # in KiB: bulk work spills less
)
POSTGRESQL = {
    "options": "-c timezone=UTC -c lock_timeout=10s -c statement_timeout=60s",
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,  # milliseconds until a lost host counts as gone
}
MICROSECOND = timedelta(microseconds=1)
CHANGES = {"sqlite": "PRAGMA data_version", "postgresql": "SELECT pg_current_snapshot()::text"}
# SQLSTATE classes and codes that mean "not now": connection, resources, operator, deadlock, lock timeout, read only.
NOT_NOW = re.compile(r"08|40|53|57|58|55P03|25006")
SQLITE_NOT_NOW = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}


@lru_cache(maxsize=65536)
def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else EPOCH + timedelta(microseconds=microseconds)


def _in_utc(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.astimezone(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant. Aware in Python, UTC in the table: timestamptz, on SQLite whole microseconds since 1970.

    Naive values are refused. Whole numbers make SQLite compare, index and step through time as exactly as PostgreSQL.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | int | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise TypeError(f"A naive datetime names no instant: {value!r}")
        return (value - EPOCH) // MICROSECOND if dialect.name == "sqlite" else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:  # noqa: ARG002
        """By one call a value, since a search has many of them; process_result_value would take three."""
        return _instant if dialect.name == "sqlite" else _in_utc

    def coerce_compared_value(self, op: Any, value: object) -> TypeEngine[Any]:  # noqa: ANN401, ARG002
        return Span() if isinstance(value, timedelta) else self


class Span(TypeDecorator[timedelta]):
    """A length of time in SQL on both databases: to be added to an instant, or what lies between two."""

    impl = Interval
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else Interval())

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> timedelta | int | None:
        return value // MICROSECOND if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> timedelta | None:  # noqa: ANN401 the driver's
        return value * MICROSECOND if value is not None and dialect.name == "sqlite" else value


class Base(DeclarativeBase):
    """The root of all tables; every constraint has a name that both databases and the error translation know."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime()}


def one_of(words: Iterable[StrEnum]) -> str:
    """Some words of an enumeration as SQL's list, for a CHECK."""
    return ", ".join(f"'{word}'" for word in words)


def make_engine(url: str, **options: Any) -> Engine:  # noqa: ANN401 SQLAlchemy's
    """Make the engine for a database URL; on SQLite with WAL, synchronous=FULL and transactions begun by ourselves.

    `options` are create_engine's, of the pool and of isolation. Statements' parameters are kept out of errors, and so
    out of logs: they hold patients' names.
    """
    if make_url(url).get_backend_name() == "sqlite":
        wait = {"timeout": SQLITE_WAIT_SECONDS}
        engine = create_engine(url, connect_args=wait, hide_parameters=True, **options)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(url, connect_args=POSTGRESQL, hide_parameters=True, **options)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by its own rules
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Any) -> None:  # noqa: ANN401 SQLAlchemy's event passes its own class
    begin = connection.get_execution_options().get("sqlite_begin", "BEGIN")
    if begin == WRITE:
        _wait_to_write(connection.connection.dbapi_connection)
    else:
        connection.exec_driver_sql(begin)


def _wait_to_write(driver: sqlite3.Connection) -> None:
    """Begin to write as soon as nobody else does: SQLite itself would look again after up to a tenth of a second."""
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        until = monotonic() + SQLITE_WAIT_SECONDS
        while True:
            try:
                driver.execute(WRITE)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > until:
                    raise
                sleep(LOOK_AGAIN_SECONDS)
            else:
                return
    finally:
        driver.execute(f"PRAGMA busy_timeout = {SQLITE_WAIT_SECONDS * 1000}")


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """One read transaction: a consistent view, no lock, nothing kept."""
    with _translated(), Session(_readers(engine)) as session:
        yield session


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """One write transaction: all of it is stored when the block ends, nothing when it raises."""
    with _translated(), Session(_writers(engine), expire_on_commit=False) as session, session.begin():
        yield session


@lru_cache(maxsize=8)
def _readers(engine: Engine) -> Engine:
    """Reads see one snapshot from their first query on, as they do on SQLite by nature."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


@lru_cache(maxsize=8)
def _writers(engine: Engine) -> Engine:
    return engine.execution_options(sqlite_begin=WRITE)


Source = Session | Engine  # a transaction, or a database to be asked one thing without any
Row = tuple[Any, ...]


def dialect_of(source: Source) -> str:
    return source.dialect.name if isinstance(source, Engine) else source.get_bind().dialect.name


def ask(source: Source, statement: Select[*tuple[Any, ...]], values: Mapping[str, Any]) -> Sequence[Row]:
    """The rows that a statement finds: in the session's transaction, or, of an engine, by itself and quickly.

    One statement sees one state without a transaction. Asked of an engine it goes straight to the driver, compiled once
    and for good: so it must be one of a few that are kept, not put together anew.
    """
    if isinstance(source, Session):
        return source.execute(statement, dict(values)).all()
    try:
        return _asked_alone(source, statement, values)
    except source.dialect.loaded_dbapi.Error:
        with reading(source) as session:  # which has the words for what was wrong, and forgets what was cut
            return ask(session, statement, values)


def _asked_alone(engine: Engine, statement: Select[*tuple[Any, ...]], values: Mapping[str, Any]) -> Sequence[Row]:
    connection = _askers(engine).raw_connection()
    try:
        return _ready(statement, engine.dialect).rows(engine, connection.dbapi_connection, values)
    except engine.dialect.loaded_dbapi.Error:
        connection.invalidate()
        raise
    finally:
        connection.close()


@lru_cache(maxsize=8)
def _askers(engine: Engine) -> Engine:
    """The same database by one connection of each thread that never begins anything, so that nothing is rolled back.

    On PostgreSQL a question is one trip to the server so, instead of three.
    """
    alone = {"poolclass": SingletonThreadPool, "isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
    own = make_engine(engine.url.render_as_string(hide_password=False), **alone)
    event.listen(engine, "engine_disposed", lambda _engine: own.dispose())
    return own


class _Ready(NamedTuple):
    """A statement as the driver takes it, with what turns values into the driver's and columns of its rows back."""

    sql: str
    fixed: dict[str, Any]
    writers: Mapping[str, Callable[[Any], Any] | None]
    readers: Sequence[tuple[int, Callable[[Any], Any]]]
    in_order: Sequence[str] | None

    def rows(self, engine: Engine, driver: Any, values: Mapping[str, Any]) -> Sequence[Row]:  # noqa: ANN401
        given = {**self.fixed, **values}
        bound: Any = {name: write(given[name]) if write else given[name] for name, write in self.writers.items()}
        if self.in_order is not None:
            bound = tuple(bound[name] for name in self.in_order)
        cursor = driver.cursor()
        for listener in engine.dispatch.before_cursor_execute:
            listener(None, cursor, self.sql, bound, None, False)
        found = cursor.execute(self.sql, bound).fetchall()
        if not found or not self.readers:
            return found  # type: ignore[no-any-return]
        columns: list[Any] = list(zip(*found, strict=True))
        for at, read in self.readers:
            columns[at] = map(read, columns[at])
        return list(zip(*columns, strict=True))


@lru_cache(maxsize=512)
def _ready(statement: Select[Any], dialect: Dialect) -> _Ready:
    compiled = statement.compile(dialect=dialect)
    types = {name: bind.type.dialect_impl(dialect) for name, bind in compiled.binds.items()}
    columns = [column.type.dialect_impl(dialect) for column in statement.selected_columns]
    readers = [(at, kind.result_processor(dialect, None)) for at, kind in enumerate(columns)]
    return _Ready(
        compiled.string,
        {name: bind.value for name, bind in compiled.binds.items()},
        {name: kind.bind_processor(dialect) for name, kind in types.items()},
        [(at, read) for at, read in readers if read is not None],
        compiled.positiontup if dialect.positional else None,
    )


def change_counter(engine: Engine) -> str:
    """A text that is another one once anything was committed; equal texts mean equal rows. Raises Unavailable."""
    return _watch(engine).state()


@lru_cache(maxsize=8)
def _watch(engine: Engine) -> "_Watch":
    own = make_engine(engine.url.render_as_string(hide_password=False), poolclass=NullPool)
    watch = _Watch(own, CHANGES[engine.dialect.name])
    event.listen(engine, "engine_disposed", lambda _engine: watch.close())
    return watch


@dataclass(slots=True)
class _Watch:
    """One connection of a process, kept: to take one from the pool each time costs more than the question.

    SQLite's data_version compares on one connection only, and only while that writes nothing; so `number` tells the
    answers of one connection from those of the one before it. On PostgreSQL the answer is the snapshot.
    """

    engine: Engine
    question: str
    lock: Lock = field(default_factory=Lock)
    process: int = 0
    number: int = 0
    connection: Any = None
    begun: int = 0
    answer: str = ""

    def state(self) -> str:
        """The state at some moment of this call: threads that wait for each other share the next answer."""
        begun_before = self.begun
        with self.lock:
            if self.begun > begun_before and self.answer:  # asked since this call began, by another thread
                return self.answer
            self.begun, self.answer = self.begun + 1, ""
            try:
                self.answer = self._asked()
            except self.engine.dialect.loaded_dbapi.Error:  # the connection was cut: a new one is asked
                self._leave()
                self.answer = self._asked_anew()
            return self.answer

    def close(self) -> None:
        with self.lock:
            self._leave()

    def _asked(self) -> str:
        if self.process != os.getpid():  # one made before a fork is the parent's
            self.connection, self.process = None, os.getpid()
        if self.connection is None:
            self.number += 1
            self.connection = self.engine.raw_connection()
            if self.engine.dialect.name == "postgresql":
                self.connection.dbapi_connection.autocommit = True
        return f"{self.number} {self.connection.cursor().execute(self.question).fetchone()}"

    def _asked_anew(self) -> str:
        try:
            return self._asked()
        except self.engine.dialect.loaded_dbapi.Error as error:
            self._leave()
            raise Unavailable("The database cannot be reached now.") from error

    def _leave(self) -> None:
        if self.connection is not None:
            self.connection.invalidate()
            self.connection = None


class database_now(FunctionElement[datetime]):  # noqa: N801 reads like the functions of SQL
    """The database's own clock as an expression: what leases and heartbeats are measured by."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite_now(*_: object, **__: object) -> str:
    return "(CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000)"


@compiles(database_now, "postgresql")
def _postgresql_now(*_: object, **__: object) -> str:
    return "clock_timestamp()"


def insert_into(session: Session, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """Begin an INSERT that can say ON CONFLICT; both databases word it alike, SQLAlchemy keeps one class for each."""
    return sqlite.insert(table) if session.get_bind().dialect.name == "sqlite" else postgresql.insert(table)


def alone_with(session: Session, name: str) -> None:
    """Wait until no other transaction is alone with this name; on SQLite every writer is alone already."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise refusal(error) from error
    except (PoolTimeout, sqlite3.OperationalError) as error:  # the second comes bare when connecting
        raise Unavailable("The database cannot be reached now.") from error
    except DBAPIError as error:
        if _lacks_table(error):
            raise Unavailable("The database has no schema of this program yet: run `db upgrade`.") from error
        if _not_now(error):
            raise Unavailable(f"The database cannot do this now ({type(error.orig).__name__}).") from error
        raise


def _lacks_table(error: DBAPIError) -> bool:
    """Whether the schema was not brought up; on SQLite a lost file looks just like this."""
    return getattr(error.orig, "sqlstate", None) == "42P01" or str(error.orig).startswith("no such table")


def _not_now(error: DBAPIError) -> bool:
    """Whether the database refused for a reason that passes, rather than for a mistake of ours."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in SQLITE_NOT_NOW
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(error, OperationalError) if state is None else NOT_NOW.match(state) is not None


def refusal(error: IntegrityError) -> ClinicError:
    """Say in the clinic's words which rule a write broke, the same on both databases."""
    name = constraint_name(error)
    if name in {"tr_slot_taken_once", "pk_slot"}:
        return SlotTaken("Somebody else has just taken this time.")
    return ConstraintViolated(name)


def constraint_name(error: IntegrityError) -> str:
    """Return the name of the violated constraint or trigger.

    PostgreSQL names it. SQLite names a CHECK and a trigger's message, but of a key only the columns, and of a foreign
    key nothing: `fk` stands for those.
    """
    diagnostics = getattr(error.orig, "diag", None)
    if diagnostics is not None:
        return diagnostics.constraint_name or f"nn_{diagnostics.table_name}_{diagnostics.column_name}"
    kind, _, what = str(error.orig).partition(" constraint failed")
    what = what.removeprefix(": ")
    match kind:
        case "CHECK":
            return what
        case "UNIQUE":
            return _key_over(what)
        case "NOT NULL":
            return "nn_" + what.replace(".", "_")
        case "FOREIGN KEY":
            return "fk"
        case _:
            return kind


def _key_over(columns: str) -> str:
    """Find the key of `table.a, table.b` by its columns; a unique index is one too."""
    table_name = columns.partition(".")[0]
    names = {column.strip().partition(".")[2] for column in columns.split(",")}
    table = Base.metadata.tables[table_name]
    constraints = (key for key in table.constraints if isinstance(key, (PrimaryKeyConstraint, UniqueConstraint)))
    keys = [*constraints, *(index for index in table.indexes if index.unique)]
    return next((str(key.name) for key in keys if {column.name for column in key.columns} == names), columns)
