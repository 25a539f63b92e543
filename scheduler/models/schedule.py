"""The calendar: weekly working hours, and the cells of the booking grid made from them."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.db import Base, one_of
from scheduler.timeline import DAY_MINUTES

FREE, FREE_TWO = text("fit > 0"), text("fit > 1")


class TimeOffStatus(StrEnum):
    """What became of somebody's wish for time off."""

    ASKED = "asked"
    APPROVED = "approved"
    DECLINED = "declined"


# Of rows that can be taken away: what an open page names is that row or none. PostgreSQL gives no number twice anyhow.
NUMBERED_ONCE = {"sqlite_autoincrement": True}


class WorkingHours(Base):
    """Local hours of one therapist at one location, worked on one weekday of every week, or of every so many.

    The week of `valid_from`, which begins on Monday, is one of them. Weekday 0 is Monday. Minutes count from local
    midnight; `closes_minute` may run past 24 * 60 into the next day.

    Hours on `standby` are approved in advance and give no cells, but on days that are opened (StandbyOpening): by hand,
    or where `opens_by_rule`, by the clinic's own worker when the access goal needs them.
    """

    __tablename__ = "working_hours"
    __table_args__ = (
        CheckConstraint("weekday BETWEEN 0 AND 6", name="weekday_known"),
        CheckConstraint("opens_minute BETWEEN 0 AND 1425 AND opens_minute % 15 = 0", name="opens_on_grid"),
        CheckConstraint(
            "closes_minute > opens_minute AND closes_minute <= opens_minute + 1440 AND closes_minute % 15 = 0",
            name="closes_on_grid",
        ),
        CheckConstraint("valid_until IS NULL OR valid_until >= valid_from", name="dates_in_order"),
        CheckConstraint("every_weeks BETWEEN 1 AND 8", name="every_weeks_few"),
        CheckConstraint("standby OR NOT opens_by_rule", name="rule_opens_standby"),
        Index(None, "therapist_id", "location_id"),
        NUMBERED_ONCE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    therapist_id: Mapped[int] = mapped_column(ForeignKey("therapist.id"))
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"))
    weekday: Mapped[int]
    opens_minute: Mapped[int]
    closes_minute: Mapped[int]
    valid_from: Mapped[date]
    valid_until: Mapped[date | None]
    every_weeks: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    standby: Mapped[bool] = mapped_column(default=False, server_default=false())
    opens_by_rule: Mapped[bool] = mapped_column(default=False, server_default=false())


class StandbyOpening(Base):
    """A local day on which hours on standby are worked like others. Who opened it, when and why says its LeverUse."""

    __tablename__ = "standby_opening"
    working_hours_id: Mapped[int] = mapped_column(ForeignKey("working_hours.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    lever_use_id: Mapped[int] = mapped_column(ForeignKey("lever_use.id"), unique=True)


class Range:
    """Columns of a time away, on the wall clock of each place that it touches: 8:00 is 8:00 there, whatever the zone.

    From a minute of the first day until a minute of the last, nights and days between included. Minutes count from
    local midnight; 24 * 60 is the end of the day.
    """

    starts_on: Mapped[date]
    starts_minute: Mapped[int]
    ends_on: Mapped[date]
    ends_minute: Mapped[int]


def _in_order() -> tuple[CheckConstraint, ...]:
    return (
        CheckConstraint(
            f"starts_minute BETWEEN 0 AND {DAY_MINUTES} - 15 AND starts_minute % 15 = 0", name="starts_on_grid"
        ),
        CheckConstraint(f"ends_minute BETWEEN 15 AND {DAY_MINUTES} AND ends_minute % 15 = 0", name="ends_on_grid"),
        CheckConstraint(
            "starts_on < ends_on OR (starts_on = ends_on AND starts_minute < ends_minute)", name="range_in_order"
        ),
    )


class Closure(Range, Base):
    """A time at which a location is closed; `reason` is what the clinic's people read, such as a holiday's name."""

    __tablename__ = "closure"
    __table_args__ = (
        *_in_order(),
        CheckConstraint("length(reason) BETWEEN 1 AND 200", name="reason_length"),
        Index(None, "location_id", "ends_on"),
        NUMBERED_ONCE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"))
    reason: Mapped[str]


class TimeOff(Range, Base):
    """A time at which a therapist works nowhere; nothing of the calendar follows from it until it is approved.

    `imported_as` is its name in the calendar file that it came from.
    """

    __tablename__ = "time_off"
    __table_args__ = (
        *_in_order(),
        CheckConstraint(f"status IN ({one_of(TimeOffStatus)})", name="status_known"),
        CheckConstraint("length(note) BETWEEN 1 AND 200", name="note_length"),
        UniqueConstraint("therapist_id", "imported_as"),
        Index(None, "therapist_id", "ends_on"),
        NUMBERED_ONCE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    therapist_id: Mapped[int] = mapped_column(ForeignKey("therapist.id"))
    status: Mapped[str]
    note: Mapped[str | None]
    imported_as: Mapped[str | None]
    asked_at: Mapped[datetime]


class Slot(Base):
    """One cell of the booking grid in a therapist's working time.

    Its key makes overlap impossible, wherever the therapist works; no appointment means free. `fit` is how many free
    cells follow each other from here on, capped at the longest visit: a hint for search, never trusted by a claim.
    A `protected` one is kept back for short notice: it can be booked in the last hours of the access goal only.
    `fit_open` is `fit` of those that are free and not protected, 0 at all others.
    `needling` says whether a visit with dry needling may start here (licence and state rule on that local day).
    The trigger tr_slot_taken_once is the second lock: a taken cell never passes to another visit unless freed first.
    """

    __tablename__ = "slot"
    __table_args__ = (
        ForeignKeyConstraint(
            ["appointment_id", "therapist_id", "location_id"],
            ["appointment.id", "appointment.therapist_id", "appointment.location_id"],
            name="fk_slot_appointment",
            deferrable=True,
            initially="DEFERRED",
        ),
        CheckConstraint("(appointment_id IS NULL) = (fit > 0)", name="free_fits_something"),
        CheckConstraint("fit >= 0", name="fit_not_negative"),
        CheckConstraint("(fit_open > 0) = (appointment_id IS NULL AND NOT protected)", name="open_unless_protected"),
        CheckConstraint("fit_open <= fit", name="open_within_fit"),
        CheckConstraint("starts_at % 900000000 = 0", name="on_grid").ddl_if(dialect="sqlite"),
        CheckConstraint("EXTRACT(epoch FROM starts_at) % 900 = 0", name="on_grid").ddl_if(dialect="postgresql"),
        Index(
            "ix_slot_free_at", "location_id", "starts_at", "therapist_id", "fit", "needling", "fit_open",
            sqlite_where=FREE, postgresql_where=FREE,
        ),
        Index(
            "ix_slot_free_anywhere", "starts_at", "therapist_id", "location_id", "fit", "needling", "fit_open",
            sqlite_where=FREE, postgresql_where=FREE,
        ),
        Index(  # where a full calendar has gaps of one cell only, hardly any cell is in it
            "ix_slot_free_two_anywhere", "starts_at", "therapist_id", "location_id", "fit", "needling", "fit_open",
            sqlite_where=FREE_TWO, postgresql_where=FREE_TWO,
        ),
        Index(
            "ix_slot_appointment", "appointment_id",
            sqlite_where=text("appointment_id IS NOT NULL"), postgresql_where=text("appointment_id IS NOT NULL"),
        ),
        {"sqlite_with_rowid": False},
    )  # fmt: skip
    therapist_id: Mapped[int] = mapped_column(ForeignKey("therapist.id"), primary_key=True)
    starts_at: Mapped[datetime] = mapped_column(primary_key=True)
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"))
    appointment_id: Mapped[UUID | None]
    fit: Mapped[int]
    needling: Mapped[bool]
    protected: Mapped[bool] = mapped_column(default=False, server_default=false())
    fit_open: Mapped[int]


class CalendarPlan(Base):
    """What a therapist's cells were last made from, until when: a note of the planner, which goes by it.

    `basis` is a hash of all rows that the calendar follows from. All of it was last compared at `compared_at`.
    """

    __tablename__ = "calendar_plan"
    __table_args__ = (CheckConstraint("length(basis) > 0", name="basis_given"),)
    therapist_id: Mapped[int] = mapped_column(ForeignKey("therapist.id"), primary_key=True)
    basis: Mapped[str]
    until: Mapped[datetime]
    compared_at: Mapped[datetime]
