"""The record of who did what, written in the transaction that does it. Never a patient's words, only ids and fields."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, String, cast, func, insert, inspect, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from scheduler.db import Base
from scheduler.models import Account, AuditEvent


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, as audit rows name them, and from which network address where that is known."""

    name: str
    address: str | None = None

    @classmethod
    def of(cls, account_id: int, address: str) -> "Actor":
        """The owner of an account."""
        return cls(name_of(account_id), address)


PATIENT = Actor("patient")
SAME_LOOK = timedelta(minutes=15)


def name_of(account_id: int) -> str:
    """An account as audit rows name it."""
    return f"account:{account_id}"


def record(
    session: Session,
    action: str,
    row: Base,
    *,
    by: Actor,
    now: datetime,
    **detail: Any,  # noqa: ANN401
) -> None:
    """Note that somebody did `action` to a stored row; `detail` holds names of fields, ids and instants."""
    session.add(_event(action, row.__tablename__, id_of(row), by, now, detail))


def read(session: Session, rows: Iterable[Base], *, fields: str, by: Actor, now: datetime) -> None:
    """Note that somebody of the staff was shown these rows; `fields` names what of them."""
    ids: dict[type[Base], list[str]] = defaultdict(list)
    for row in rows:
        ids[type(row)].append(id_of(row))
    for table, own in ids.items():
        _read(session, table, own, fields, by, now)


def read_many(
    session: Session,
    table: type[Base],
    ids: Iterable[UUID],
    *,
    fields: str,
    by: Actor,
    now: datetime,
    same_look: timedelta = SAME_LOOK,
) -> None:
    """Note the same of rows that are known by their ids only."""
    _read(session, table, [one.hex for one in ids], fields, by, now, same_look)


def _read(
    session: Session,
    table: type[Base],
    ids: Sequence[str],
    fields: str,
    by: Actor,
    now: datetime,
    same_look: timedelta = SAME_LOOK,
) -> None:
    """Note what was not noted just before: two statements however many rows, one where nothing is new.

    Who looks at a record again within a quarter of an hour, from the same place, has not stopped looking at it.
    """
    action, name = f"{table.__tablename__}.read", table.__tablename__
    looking = select(AuditEvent.entity_id).where(
        AuditEvent.actor == by.name,
        AuditEvent.happened_at > now - same_look,
        AuditEvent.happened_at <= now,
        AuditEvent.action == action,
        AuditEvent.address.is_not_distinct_from(by.address),
        AuditEvent.detail["fields"].as_string() == fields,
    )
    noted = set(session.scalars(looking)) if ids else set()
    events = [
        {
            "happened_at": now,
            "actor": by.name,
            "address": by.address,
            "action": action,
            "entity": name,
            "entity_id": one,
            "detail": {"fields": fields},
        }
        for one in dict.fromkeys(ids)
        if one not in noted
    ]
    if events:
        session.connection().execute(insert(AuditEvent), events)


def wrong_password(session: Session, account: Account | None, *, address: str, now: datetime) -> None:
    """Note a wrong password; for an address that nobody has too, so that both take the same time."""
    whose = "unknown" if account is None else id_of(account)
    by = Actor("stranger", address)
    session.add(_event("account.wrong_password", Account.__tablename__, whose, by, now, {}))


def searched(session: Session, wanted: dict[str, str], *, by: Actor, now: datetime) -> None:
    """Note that somebody looked through this record itself, and for what: names and ids only."""
    session.add(_event("audit_event.read", AuditEvent.__tablename__, "search", by, now, wanted))


def id_of(row: Base) -> str:
    """A row's key as audit rows write it: 32 hex digits, or numbers with a stroke between them."""
    key = inspect(row).mapper.primary_key_from_instance(row)
    return "-".join(part.hex if isinstance(part, UUID) else str(part) for part in key)


def _event(action: str, entity: str, entity_id: str, by: Actor, now: datetime, detail: dict[str, Any]) -> AuditEvent:
    return AuditEvent(
        happened_at=now,
        actor=by.name,
        address=by.address,
        action=action,
        entity=entity,
        entity_id=entity_id,
        detail=detail,
    )


def entity_id(column: InstrumentedAttribute[UUID]) -> ColumnElement[str]:
    """An id as audit rows write it, 32 hex digits, as an expression that is the same on both databases."""
    return func.replace(cast(column, String), "-", "")
