"""What the access goal was measured as, quarter hour by quarter hour, and whenever somebody new asked for a visit."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.db import Base, one_of

HOURS = Numeric(8, 2, asdecimal=False)


class Lever(StrEnum):
    """What brings starts to a location that misses the goal."""

    ELSEWHERE = "elsewhere"
    STANDBY = "standby"
    ASK = "ask"


class Promise(StrEnum):
    """How the goal stood when a lever was used: kept, missed, or about to be missed."""

    KEPT = "kept"
    MISSED = "missed"
    FORESEEN = "foreseen"


class AccessSample(Base):
    """How soon a visit could start at one location in one quarter hour (UTC), and whether that kept the goal of then.

    Hours count from the moment of measuring, as they were shown; None where nothing, or no third start, could be
    booked. The verdict follows from its own row, so a later goal rewrites nothing. A quarter hour in which no worker
    ran has no rows. `overall` needs none: the goal was kept anywhere when it was kept at some location.
    """

    __tablename__ = "access_sample"
    __table_args__ = (
        CheckConstraint("quarter % 900000000 = 0", name="on_grid").ddl_if(dialect="sqlite"),
        CheckConstraint("EXTRACT(epoch FROM quarter) % 900 = 0", name="on_grid").ddl_if(dialect="postgresql"),
        CheckConstraint("goal_hours > 0", name="goal_positive"),
        CheckConstraint("next_available_hours >= 0", name="hours_not_negative"),
        CheckConstraint(
            "third_next_available_hours IS NULL"
            " OR (next_available_hours IS NOT NULL AND third_next_available_hours >= next_available_hours)",
            name="third_not_before_next",
        ),
        CheckConstraint(
            "within_goal = (next_available_hours IS NOT NULL AND next_available_hours <= goal_hours)",
            name="verdict_follows",
        ),
        Index(None, "appointment_type_id", "quarter", "within_goal"),
        {"sqlite_with_rowid": False},
    )
    appointment_type_id: Mapped[int] = mapped_column(ForeignKey("appointment_type.id"), primary_key=True)
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"), primary_key=True)
    quarter: Mapped[datetime] = mapped_column(primary_key=True)
    next_available_hours: Mapped[float | None] = mapped_column(HOURS)
    third_next_available_hours: Mapped[float | None] = mapped_column(HOURS)
    goal_hours: Mapped[int]
    within_goal: Mapped[bool]


class AccessRequest(Base):
    """A visit that somebody new booked: what was on offer at that moment, and what they took.

    Hours count from `asked_at`: to the soonest start of this kind at the visit's location, to the soonest anywhere, and
    to the start that was taken. The goal is that of then. Nothing of it changes when the visit is moved or cancelled.
    """

    __tablename__ = "access_request"
    __table_args__ = (
        CheckConstraint("goal_hours > 0", name="goal_positive"),
        CheckConstraint("here_hours <= taken_hours", name="taken_not_before_here"),
        CheckConstraint("anywhere_hours <= here_hours", name="here_not_before_anywhere"),
        Index(None, "appointment_type_id", "asked_at"),
    )
    appointment_id: Mapped[UUID] = mapped_column(ForeignKey("appointment.id"), primary_key=True)
    appointment_type_id: Mapped[int] = mapped_column(ForeignKey("appointment_type.id"))
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"))
    asked_at: Mapped[datetime]
    here_hours: Mapped[float] = mapped_column(HOURS)
    anywhere_hours: Mapped[float] = mapped_column(HOURS)
    taken_hours: Mapped[float] = mapped_column(HOURS)
    goal_hours: Mapped[int]


class LeverUse(Base):
    """A lever that somebody used for a location, or the clinic's own worker by rule.

    What it put forward are `cells` free quarter hours in [starts_at, ends_at) at the location `place_id`: standby hours
    of a therapist that were opened, the usual hours of one who was asked, or, of nobody by name, what another location
    had free and was offered. What of it was booked is counted from visits. Only standby hours can be closed again.
    """

    __tablename__ = "lever_use"
    __table_args__ = (
        CheckConstraint(f"lever IN ({one_of(Lever)})", name="lever_known"),
        CheckConstraint(f"promise IN ({one_of(Promise)})", name="promise_known"),
        CheckConstraint("(lever = 'elsewhere') = (therapist_id IS NULL)", name="therapist_named"),
        CheckConstraint("starts_at < ends_at", name="times_in_order"),
        CheckConstraint("cells > 0", name="cells_positive"),
        CheckConstraint("closed_at IS NULL OR lever = 'standby'", name="only_standby_closes"),
        Index(None, "location_id", "used_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    lever: Mapped[str]
    promise: Mapped[str]
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"))
    place_id: Mapped[int] = mapped_column(ForeignKey("location.id"))
    therapist_id: Mapped[int | None] = mapped_column(ForeignKey("therapist.id"))
    used_at: Mapped[datetime]
    used_by: Mapped[str]  # as the record names who does something
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    cells: Mapped[int]
    closed_at: Mapped[datetime | None]
