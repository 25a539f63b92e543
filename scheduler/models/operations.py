"""What running the software needs to remember."""

from datetime import datetime

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.db import Base


class Heartbeat(Base):
    """The last time the workers' scheduler was alive, on the database's clock."""

    __tablename__ = "heartbeat"
    name: Mapped[str] = mapped_column(primary_key=True)
    beat_at: Mapped[datetime]


class BookingCount(Base):
    """How many visits one network address booked in one hour, and how many questions it asked.

    The address is kept as a keyed hash only.
    """

    __tablename__ = "booking_count"
    __table_args__ = (
        CheckConstraint("booked >= 0", name="booked_not_negative"),
        CheckConstraint("asked >= 0", name="asked_not_negative"),
    )
    address_hash: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True, index=True)
    booked: Mapped[int] = mapped_column(default=0)
    asked: Mapped[int] = mapped_column(default=0, server_default="0")
