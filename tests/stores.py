"""Databases in a state that was kept: a copy is ready sooner than the same rows made anew."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine, Table, event, text

from scheduler.db import Base
from tests import postgres


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
    """The rows of a state are kept in a schema of its name."""

    full: dict[str, list[Table]] = field(default_factory=dict)

    def keep(self, state: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {state}"))
            self.full[state] = []
            for table in Base.metadata.sorted_tables:
                if connection.scalar(text(f"SELECT EXISTS (SELECT FROM {table.name})")):
                    connection.execute(text(f"CREATE TABLE {state}.{table.name} AS TABLE {table.name}"))
                    self.full[state].append(table)

    def restore(self, state: str) -> None:
        with self.engine.begin() as connection:
            postgres.empty(connection, (table.name for table in Base.metadata.sorted_tables))
            # The rows kept every rule when they were first written; nothing is checked again.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            for table in self.full[state]:
                connection.execute(text(f"INSERT INTO {table.name} SELECT * FROM {state}.{table.name}"))
                if (number := table.autoincrement_column) is not None:
                    sequence = f"pg_get_serial_sequence('{table.name}', '{number.name}')"
                    connection.execute(text(f"SELECT setval({sequence}, max({number.name})) FROM {table.name}"))

    @contextmanager
    def lent(self) -> Iterator[Engine]:
        yield self.engine
