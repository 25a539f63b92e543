"""The one place that reads the time. Leases and heartbeats use the database's own (db.database_now)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Says what time it is, and so what is due: an aware datetime in UTC."""

    def now(self) -> datetime: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class FixedClock:
    """A clock that stands still until it is set: for tests and for `worker --at`."""

    at: datetime

    def now(self) -> datetime:
        return self.at.astimezone(UTC)
