"""Rows that several people may have open at once: only what was seen is changed, and the record has both values."""

from dataclasses import asdict, fields
from datetime import date, datetime
from hashlib import sha256
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from scheduler.db import Base
from scheduler.errors import Conflict, NotFound
from scheduler.services import audit
from scheduler.services.audit import Actor

NOTHING = "There is nothing with this number."
LARGEST_ID = 2**31 - 1  # that every integer column holds
Details = Any  # a frozen dataclass: what of a row is shown in a form and can be changed there
D = TypeVar("D")
R = TypeVar("R", bound=Base)


class ChangedMeanwhile(Conflict):
    """Somebody else changed this since it was shown; `stored` is how it stands now."""

    def __init__(self, stored: Details) -> None:
        super().__init__("Somebody else changed this meanwhile.")
        self.stored = stored


def read_off(kind: type[D], row: Base, **more: Any) -> D:  # noqa: ANN401 fields that are no columns of the row
    """The details of a row: the columns that have the fields' names."""
    names = [field.name for field in fields(kind) if field.name not in more]  # type: ignore[arg-type] # a dataclass
    return kind(**{name: getattr(row, name) for name in names}, **more)


def seal_of(details: Details) -> str:
    """What a form carries to tell later whether a row still is as it was shown: equal for equal details only."""
    return sha256(repr(sorted(asdict(details).items())).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def require_seen(stored: Details, seal: str) -> None:
    """Raise ChangedMeanwhile unless a row still is as the form with this seal showed it."""
    if seal_of(stored) != seal:
        raise ChangedMeanwhile(stored)


def differences(before: Details, after: Details) -> dict[str, list[Any]]:
    """Each field that differs, with its value before and after, in words that JSON has."""
    old, new = asdict(before), asdict(after)
    return {name: [_plain(old[name]), _plain(new[name])] for name in new if old[name] != new[name]}


def write(row: Base, details: Details) -> None:
    """Put the details into a row's columns of the same names."""
    for name, value in asdict(details).items():
        if hasattr(row, name):
            setattr(row, name, value)


def note(
    session: Session, action: str, row: Base, before: Details, after: Details, *, by: Actor, now: datetime
) -> bool:
    """Record a change with its values before and after; return False, and record nothing, where there is none."""
    changed = differences(before, after)
    if changed:
        audit.record(session, action, row, by=by, now=now, **changed)
    return bool(changed)


def found(session: Session, table: type[R], row_id: int) -> R:
    """A row, to be looked at; raises NotFound."""
    row = session.get(table, row_id) if row_id <= LARGEST_ID else None
    if row is None:
        raise NotFound(NOTHING)
    return row


def locked(session: Session, table: type[R], row_id: int) -> R:
    """A row as it now stands, kept from changing until the transaction ends; raises NotFound."""
    found(session, table, row_id)
    return session.get_one(table, row_id, with_for_update={"key_share": True}, populate_existing=True)


def plain(details: Details) -> dict[str, Any]:
    """All of the details, in words that JSON has."""
    return {name: _plain(value) for name, value in asdict(details).items()}


def _plain(value: Any) -> Any:  # noqa: ANN401 whatever a column holds
    if isinstance(value, date):
        return value.isoformat()
    return list(value) if isinstance(value, (tuple, frozenset)) else value
