"""Looking through the record of who did what. To look is itself put on record (`audit.searched`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from scheduler.db import MICROSECOND
from scheduler.errors import Invalid
from scheduler.models import Account, Appointment, AuditEvent
from scheduler.services import audit
from scheduler.timeline import EPOCH

CURSOR = re.compile(r"([0-9]{1,17})-([0-9a-f]{32})")
RECORD = re.compile(r"([a-z_]{1,40}):([0-9A-Za-z_-]{1,80})")
HEX = re.compile(r"[0-9a-f]{32}")
LOOKS, CHANGES = "looks", "changes"  # instead of one action: all that only looked, all that did something


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a page of the record ends: the next one goes on with what is older."""

    happened_at: datetime
    id: UUID

    def __str__(self) -> str:
        return f"{(self.happened_at - EPOCH) // MICROSECOND}-{self.id.hex}"

    @classmethod
    def parse(cls, cursor: str) -> "Moment":
        """Raise Invalid for a text that no page ended with."""
        found = CURSOR.fullmatch(cursor)
        if found is None:
            raise Invalid("after", "There is no such page.")
        return cls(EPOCH + timedelta(microseconds=int(found[1])), UUID(found[2]))


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a table as audit rows name it."""

    entity: str
    id: str

    def __str__(self) -> str:
        return f"{self.entity}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> "Record":
        """Read `appointment:ID`, with or without the strokes of a UUID; raise Invalid for anything else."""
        found = RECORD.fullmatch(text)
        if found is None:
            raise Invalid("record", "Write it like appointment:ID.")
        entity, id_ = found.groups()
        try:
            return cls(entity, UUID(id_).hex if len(id_) in {32, 36} else id_)
        except ValueError:
            return cls(entity, id_)


@dataclass(frozen=True, slots=True)
class Find:
    """What to look for: all that is not None. `since` counts, `until` does not; `after` goes on where a page ended."""

    actor: str | None = None
    action: str | None = None
    record: Record | None = None
    since: datetime | None = None
    until: datetime | None = None
    address: str | None = None
    after: Moment | None = None
    limit: int = 50

    def in_words(self) -> dict[str, str]:
        """What was looked for, for the record of looking; no page of it, and nothing but names and ids."""
        asked = (("actor", self.actor), ("action", self.action), ("record", self.record), ("address", self.address))
        days = (("since", self.since and self.since.isoformat()), ("until", self.until and self.until.isoformat()))
        return {name: str(value) for name, value in (*asked, *days) if value is not None}


def search(session: Session, find: Find) -> tuple[list[AuditEvent], Moment | None]:
    """The newest first, and where the next page goes on. One query; an index leads to what it finds."""
    newest = AuditEvent.happened_at.desc(), AuditEvent.id.desc()
    rows = session.scalars(select(AuditEvent).where(*_wishes(find)).order_by(*newest).limit(find.limit + 1)).all()
    page = list(rows[: find.limit])
    return page, Moment(page[-1].happened_at, page[-1].id) if len(rows) > find.limit else None


def _wishes(find: Find) -> list[ColumnElement[bool]]:
    wishes: list[ColumnElement[bool]] = []
    if find.actor is not None:
        wishes.append(AuditEvent.actor == find.actor)
    if find.action in {LOOKS, CHANGES}:
        looked = AuditEvent.action.like("%.read")
        wishes.append(looked if find.action == LOOKS else ~looked)
    elif find.action is not None:
        wishes.append(AuditEvent.action == find.action)
    if find.record is not None:
        wishes.append(and_(AuditEvent.entity == find.record.entity, AuditEvent.entity_id == find.record.id))
    if find.since is not None:
        wishes.append(AuditEvent.happened_at >= find.since)
    if find.until is not None:
        wishes.append(AuditEvent.happened_at < find.until)
    if find.address is not None:
        wishes.append(AuditEvent.address == find.address)
    if find.after is not None:
        at = find.after.happened_at
        older = or_(AuditEvent.happened_at < at, AuditEvent.id < find.after.id)
        wishes.append(and_(AuditEvent.happened_at <= at, older))
    return wishes


def accounts(session: Session) -> Mapping[str, str]:
    """Everybody who has or had an account, as audit rows name them, by name."""
    named = select(Account.id, Account.name, Account.email).order_by(Account.name, Account.email)
    return {audit.name_of(id_): f"{name} ({email})" for id_, name, email in session.execute(named)}


def actions(session: Session) -> list[str]:
    """Every action that was ever noted, by name: one step through the index for each, however often it was done."""
    first = select(func.min(AuditEvent.action).label("action")).cte("known", recursive=True)
    following = select(func.min(AuditEvent.action)).where(AuditEvent.action > first.c.action).scalar_subquery()
    known = first.union_all(select(following).where(first.c.action.is_not(None)))
    return list(session.scalars(select(known.c.action).where(known.c.action.is_not(None))))


def patient_of(session: Session, record: Record | None) -> Record | None:
    """The patient of a visit, whose own record tells more of who looked; None for any other record."""
    if record is None or record.entity != Appointment.__tablename__ or not HEX.fullmatch(record.id):
        return None
    visit = session.get(Appointment, UUID(record.id))
    return Record("patient", visit.patient_id.hex) if visit else None
