"""The schema's version: brought up or down by Alembic, one process at a time."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

__all__ = ["CommandError", "SchemaDamaged", "alone", "downgrade", "head_revisions", "is_current", "upgrade"]

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
ADVISORY_LOCK = 0x5C4ED01E


class SchemaDamaged(Exception):
    """A migration on SQLite left rows that point nowhere; nothing of it was kept."""


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Migrate up; the caller holds `alone`."""
    _migrate(engine, lambda config: command.upgrade(config, revision))


def downgrade(engine: Engine, revision: str) -> None:
    """Migrate down; the caller holds `alone`."""
    _migrate(engine, lambda config: command.downgrade(config, revision))


def is_current(connection: Connection) -> bool:
    """Whether the database is at the version that this code was written for."""
    return MigrationContext.configure(connection).get_current_heads() == head_revisions()


@cache
def head_revisions() -> tuple[str, ...]:
    return tuple(ScriptDirectory(str(MIGRATIONS)).get_heads())


@contextmanager
def alone(engine: Engine) -> Iterator[None]:
    """Wait until no other process sets this database up, and keep others out meanwhile.

    A file lock beside a SQLite database, a session's advisory lock on PostgreSQL; both end with the process.
    """
    if engine.dialect.name == "sqlite":
        Path(str(engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
        with Path(f"{engine.url.database}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET lock_timeout = 0"))
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
            connection.invalidate()  # its timeouts were changed: not for reuse


def _migrate(engine: Engine, step: Callable[[Config], None]) -> None:
    """Run one change of the schema in one transaction, without the limits on time that requests have."""
    begin = engine.execution_options(sqlite_begin="PRAGMA foreign_keys = OFF")  # works outside a transaction only
    with begin.connect() as connection:
        try:
            sqlite = connection.dialect.name == "sqlite"
            connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else "SET LOCAL statement_timeout = 0")
            step(_config(connection))
            if sqlite and (lost := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()):
                raise SchemaDamaged(f"{len(lost)} rows would point nowhere, the first in table {lost[0][0]}")
            connection.commit()
        finally:
            connection.invalidate()  # on SQLite its foreign keys are off: not for reuse


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
