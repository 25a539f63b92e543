"""Databases in a state that was kept: a copy is ready sooner than the same rows made anew."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, event, text

from scheduler.db import Base
from scheduler.models import Slot
from tests import postgres

TABLES = [table.name for table in Base.metadata.sorted_tables]
BIG = Slot.__tablename__  # thousands of rows, to which none refers: emptied sooner than deleted from
MANY = 2000  # dead rows that a table may drag along


@dataclass
class Store(ABC):
    """One database of this process, which tests use one after the other; its statements are compiled once for all."""

    engine: Engine

    @abstractmethod
    def keep(self, state: str) -> None:
        """Remember all rows under this name."""

    @abstractmethod
    def restore(self, state: str) -> None:
        """Hold exactly the rows, and count on from the numbers, that were kept under this name."""

    @abstractmethod
    @contextmanager
    def lent(self) -> Iterator[Engine]:
        """The engine for one test."""


StoreT = TypeVar("StoreT", bound=Store)


class Sqlite(Store):
    def __post_init__(self) -> None:
        """It loses what the machine loses with its power, and nothing else: tests need no fsync."""
        event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))

    @property
    def path(self) -> Path:
        return Path(str(self.engine.url.database))

    def keep(self, state: str) -> None:
        self.engine.dispose()  # the last connection to close leaves everything in the one file
        shutil.copy(self.path, self.path.with_suffix(f".{state}"))

    def restore(self, state: str) -> None:
        """In a new file: who still has the old one open shares nothing with the next test."""
        for file in self.path.parent.glob(f"{self.path.name}*"):
            file.unlink()
        shutil.copy(self.path.with_suffix(f".{state}"), self.path)

    @contextmanager
    def lent(self) -> Iterator[Engine]:
        """An engine of its own, since pages are kept by engine, over the same pool and compiled statements."""
        engine = self.engine.execution_options()
        yield engine
        engine.dispose()


@dataclass
class Postgresql(Store):
    """The rows of a state are kept in a schema of its name.

    Most tests change few tables, and a TRUNCATE of all makes a hundred files anew: only what changed is restored. Rows
    that `restore` wrote name its transaction as theirs (`xmin`); whatever is changed names another, or is missing.
    """

    kept: dict[str, dict[str, int]] = field(default_factory=dict)  # rows of each table that has any, by state
    numbered: dict[str, str] = field(default_factory=dict)  # sets all sequences to where they were, by state
    written: dict[str, tuple[str, int]] = field(default_factory=dict)  # of which state a table is, and by whom
    dead: int = 0  # rows that were deleted since all was emptied

    def keep(self, state: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {state}"))
            rows = {name: connection.scalar(text(f"SELECT count(*) FROM {name}")) or 0 for name in TABLES}
            self.kept[state] = {name: count for name, count in rows.items() if count}
            for name in self.kept[state]:
                connection.execute(text(f"CREATE TABLE {state}.{name} AS TABLE {name}"))
            at = "SELECT format('setval(%L, %s, %L)', sequencename, coalesce(last_value, 1), last_value IS NOT NULL)"
            places = connection.scalars(text(f"{at} FROM pg_sequences WHERE schemaname = 'public'"))
            self.numbered[state] = f"SELECT {', '.join(places)}"

    def restore(self, state: str) -> None:
        with self.engine.begin() as connection:
            # The rows kept every rule when they were first written; nothing is checked again, and the audit may go.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            changed = self._changed(connection, state)
            self.dead += sum(count for name, count in changed.items() if name != BIG)
            if self.dead > MANY:
                postgres.empty(connection, TABLES)
                changed, self.dead = dict.fromkeys(TABLES, 0), 0
            for name in changed:
                connection.execute(text(f"TRUNCATE {name}" if name == BIG else f"DELETE FROM {name}"))
                if name in self.kept[state]:
                    connection.execute(text(f"INSERT INTO {name} SELECT * FROM {state}.{name}"))
            writer = connection.execute(text("SELECT pg_current_xact_id()::xid::text")).scalar_one()
            connection.execute(text(self.numbered[state]))
        self.written |= dict.fromkeys(changed, (state, int(writer)))

    def _changed(self, connection: Connection, state: str) -> dict[str, int]:
        """The tables that do not hold just what was kept, with how many rows they have."""
        asked = []
        for name in TABLES:
            rows, (of, writer) = self.kept[state].get(name, 0), self.written.get(name, ("", 0))
            same = f"count(*) = {rows}"
            if rows:
                same += f" AND count(*) FILTER (WHERE xmin = '{writer}') = {rows} AND '{of}' = '{state}'"
            asked.append(f"SELECT '{name}', count(*) FROM {name} HAVING NOT ({same})")
        return dict(connection.execute(text(" UNION ALL ".join(asked))).all())

    @contextmanager
    def lent(self) -> Iterator[Engine]:
        yield self.engine
