"""Who did what to which record, and when."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column
from uuid6 import uuid7

from scheduler.db import Base


class AuditEvent(Base):
    """One thing that happened, written in the transaction that did it; triggers refuse UPDATE and DELETE.

    `detail` names fields and ids, never a patient's words.
    """

    __tablename__ = "audit_event"
    __table_args__ = (
        CheckConstraint("length(action) > 0", name="action_given"),
        CheckConstraint("length(actor) > 0", name="actor_given"),
        Index(None, "entity", "entity_id"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    happened_at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    entity: Mapped[str]
    entity_id: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
