"""How much one network address may book, counted in the database so that every process counts together."""

from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.orm import Session

from scheduler.db import insert_into
from scheduler.errors import TooMany
from scheduler.models import BookingCount
from scheduler.timeline import HOUR

BOOKINGS_AN_HOUR = 30  # a family, a ward or a clinic's own desk stays below; a script that fills the calendar does not


def count_booking(session: Session, address: str, *, now: datetime) -> None:
    """Count one more visit for an address, in the booking's own transaction; raise TooMany above the limit."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    one = insert_into(session, BookingCount).values(address_hash=address, hour=hour, booked=1)
    counted = one.on_conflict_do_update(
        index_elements=["address_hash", "hour"], set_={"booked": BookingCount.booked + 1}
    ).returning(BookingCount.booked)
    if session.execute(counted).scalar_one() > BOOKINGS_AN_HOUR:
        raise TooMany(
            "This connection has booked very many visits. Please call the clinic, or try again later.",
            retry_after=int((hour + HOUR - now).total_seconds()) + 1,
        )


def forget_old_counts(session: Session, *, now: datetime) -> None:
    session.execute(delete(BookingCount).where(BookingCount.hour < now - 2 * HOUR))
