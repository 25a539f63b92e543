"""How much one network address may book or ask, counted in the database so that every process counts together."""

from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.orm import InstrumentedAttribute, Session

from scheduler.db import insert_into
from scheduler.errors import TooMany
from scheduler.models import BookingCount
from scheduler.timeline import HOUR

BOOKINGS_AN_HOUR = 30  # a family, a ward or a clinic's own desk stays below; a script that fills the calendar does not
QUESTIONS_AN_HOUR = 10
ASKED_AN_HOUR = 20  # links to the visits of an address


def count_booking(session: Session, address: str, *, now: datetime) -> None:
    """Count one more visit for an address, in the booking's own transaction; raise TooMany above the limit."""
    if _counted(session, BookingCount.booked, address, now) > BOOKINGS_AN_HOUR:
        raise _too_many("This connection has booked very many visits.", now)


def count_question(session: Session, address: str, *, now: datetime) -> None:
    """Count one more question for an address, in its own transaction; raise TooMany above the limit."""
    if _counted(session, BookingCount.asked, address, now) > QUESTIONS_AN_HOUR:
        raise _too_many("This connection has sent very many questions.", now)


def count_asking(session: Session, address: str, *, now: datetime) -> None:
    """Count one more wish for the link to one's visits, beside the bookings; raise TooMany above the limit."""
    if _counted(session, BookingCount.booked, f"my-visits {address}", now) > ASKED_AN_HOUR:
        raise _too_many("This connection has asked for very many links.", now)


def forget_old_counts(session: Session, *, now: datetime) -> None:
    session.execute(delete(BookingCount).where(BookingCount.hour < now - 2 * HOUR))


def _counted(session: Session, column: InstrumentedAttribute[int], address: str, now: datetime) -> int:
    """Count one more in this hour; how many it were with this one."""
    counts = {"booked": 0, "asked": 0, column.key: 1}
    one = insert_into(session, BookingCount).values(address_hash=address, hour=_hour(now), **counts)
    more = one.on_conflict_do_update(index_elements=["address_hash", "hour"], set_={column.key: column + 1})
    return session.execute(more.returning(column)).scalar_one()


def _too_many(what: str, now: datetime) -> TooMany:
    left = int((_hour(now) + HOUR - now).total_seconds()) + 1
    return TooMany(f"{what} Please call the clinic, or try again later.", retry_after=left)


def _hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)
