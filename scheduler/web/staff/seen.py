"""Putting on record whom somebody of the staff was shown."""

from collections.abc import Iterable
from uuid import UUID

from scheduler.db import transaction
from scheduler.models import Patient
from scheduler.services import audit
from scheduler.web.context import context
from scheduler.web.staff.access import staff


def note(patient_ids: Iterable[UUID], fields: str) -> None:
    """Note who was shown, once they are known and before they are; nothing is written of nobody."""
    ids = list(patient_ids)
    if ids:
        now = context().clock.now()
        with transaction(context().engine) as session:
            audit.read_many(session, Patient, ids, fields=fields, by=staff().actor, now=now)
