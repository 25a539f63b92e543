"""Who did what to which record, and when."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid6 import uuid7

from scheduler.db import Base

KNOWN = text("address IS NOT NULL")


class AuditEvent(Base):
    """One thing that happened, written in the transaction that did it; triggers refuse UPDATE, DELETE and TRUNCATE.

    `actor` is "patient", "demo", "worker" or "account:" and its number; `address` the network address of staff.
    `detail` names fields and ids, never a patient's words.
    """

    __tablename__ = "audit_event"
    __table_args__ = (
        CheckConstraint("length(action) > 0", name="action_given"),
        CheckConstraint("length(actor) > 0", name="actor_given"),
        Index(None, "entity", "entity_id"),
        Index(None, "actor", "happened_at"),
        Index(None, "action", "happened_at"),
        Index("ix_audit_event_address", "address", "happened_at", sqlite_where=KNOWN, postgresql_where=KNOWN),
        Index(None, "happened_at"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    happened_at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    entity: Mapped[str]
    entity_id: Mapped[str]
    address: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
