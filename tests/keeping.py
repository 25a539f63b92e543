"""What is kept back for short notice, as tests ask for it and change it."""

from datetime import date, datetime, timedelta

from sqlalchemy import Engine, select

from scheduler.db import reading, transaction
from scheduler.models import ProtectionLevel, Slot
from scheduler.services import edits, protection
from scheduler.services.audit import Actor
from scheduler.services.availability import SlotName
from scheduler.services.protection import ProtectionDetails
from scheduler.timeline import local_date, zone_of
from tests.clinic import HOUR, Clinic

CHICAGO = zone_of("America/Chicago")
GOAL = 48 * HOUR
INSTANT = timedelta(microseconds=1)
ADMIN = Actor("account:1", "192.0.2.1")
Key = tuple[int, datetime]


def kept(engine: Engine, *, free: bool = True) -> set[Key]:
    """The cells that are kept back; those only that nobody has, unless said."""
    with reading(engine) as session:
        cells = select(Slot.therapist_id, Slot.starts_at).where(Slot.protected)
        cells = cells.where(Slot.appointment_id.is_(None)) if free else cells
        return {(therapist_id, starts_at) for therapist_id, starts_at in session.execute(cells)}


def by_day(cells: set[Key]) -> dict[date, int]:
    days = [local_date(starts_at, CHICAGO) for _, starts_at in cells]
    return {day: days.count(day) for day in days}


def pin(clinic: Clinic, level: int | None, location_id: int = 1, *, least: int = 0, most: int = 4) -> None:
    """Pin a number, or take the pin away, and let the worker follow."""
    with transaction(clinic.engine) as session:
        _, shown = protection.place_and_details(session, location_id)
        details = ProtectionDetails(least, most, level)
        now = clinic.clock.now()
        protection.change(session, location_id, details, seal=edits.seal_of(shown), by=ADMIN, now=now)
    clinic.protect()


def level_of(clinic: Clinic, location_id: int = 1) -> ProtectionLevel:
    with reading(clinic.engine) as session:
        return session.get_one(ProtectionLevel, location_id)


def first_kept(clinic: Clinic) -> SlotName:
    """The first start of which every cell is kept back."""
    therapist_id, starts_at = min(kept(clinic.engine), key=lambda cell: cell[1])
    return SlotName(therapist_id, 1, starts_at)
