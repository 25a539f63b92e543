"""The record of who did what, written in the transaction that does it. Never a patient's words, only ids and fields."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, String, cast, func
from sqlalchemy.orm import InstrumentedAttribute, Session

from scheduler.models import Appointment, AuditEvent


def record(
    session: Session,
    action: str,
    appointment: Appointment,
    *,
    by: str,
    now: datetime,
    **detail: Any,  # noqa: ANN401
) -> None:
    """Note that `by` did `action` to a visit; `detail` holds names of fields, ids and instants."""
    session.add(
        AuditEvent(
            happened_at=now,
            actor=by,
            action=action,
            entity="appointment",
            entity_id=appointment.id.hex,
            detail=detail,
        )
    )


def entity_id(column: InstrumentedAttribute[UUID]) -> ColumnElement[str]:
    """An id as audit rows write it, 32 hex digits, as an expression that is the same on both databases."""
    return func.replace(cast(column, String), "-", "")
