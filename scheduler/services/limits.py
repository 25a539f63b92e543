"""How much one network address may book, counted in the database so that every process counts together."""

from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.orm import Session

from scheduler.db import insert_into
from scheduler.errors import TooMany
from scheduler.models import BookingCount
from scheduler.timeline import HOUR

ASKED_AN_HOUR = 20
BOOKINGS_AN_HOUR = 30  # a family, a ward or a clinic's own desk stays below; a script that fills the calendar does not


def count_booking(session: Session, address: str, *, now: datetime) -> None:
    """Count one more visit for an address, in the booking's own transaction; raise TooMany above the limit."""
    told = "This connection has booked very many visits. Please call the clinic, or try again later."
    _count(session, address, BOOKINGS_AN_HOUR, told, now)


def count_asking(session: Session, address: str, *, now: datetime) -> None:
    """Count one more wish for the link to one's visits, beside the bookings; raise TooMany above the limit."""
    told = "This connection has asked for very many links. Please call the clinic, or try again later."
    _count(session, f"my-visits {address}", ASKED_AN_HOUR, told, now)


def _count(session: Session, address: str, most: int, told: str, now: datetime) -> None:
    hour = now.replace(minute=0, second=0, microsecond=0)
    one = insert_into(session, BookingCount).values(address_hash=address, hour=hour, booked=1)
    counted = one.on_conflict_do_update(
        index_elements=["address_hash", "hour"], set_={"booked": BookingCount.booked + 1}
    ).returning(BookingCount.booked)
    if session.execute(counted).scalar_one() > most:
        raise TooMany(told, retry_after=int((hour + HOUR - now).total_seconds()) + 1)


def forget_old_counts(session: Session, *, now: datetime) -> None:
    session.execute(delete(BookingCount).where(BookingCount.hour < now - 2 * HOUR))
