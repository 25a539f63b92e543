"""The access goal: as it was measured, as those met it who asked for a visit, and what is kept back for it."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid6 import uuid7

from scheduler.db import Base, one_of

HOURS = Numeric(8, 2, asdecimal=False)
ASKED = text("lever = 'ask'")


class Lever(StrEnum):
    """What brings starts to a location that misses the goal."""

    ELSEWHERE = "elsewhere"
    RELEASE = "release"
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

    `possible` says whether the goal would have been kept with nothing booked, `within_open_days` whether the soonest
    start kept it if only open days count. Null where that was not yet measured.
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
        CheckConstraint("possible OR NOT within_goal", name="kept_is_possible"),
        CheckConstraint("NOT within_open_days OR next_available_hours IS NOT NULL", name="open_days_need_a_start"),
        CheckConstraint("(possible IS NULL) = (within_open_days IS NULL)", name="known_together"),
        Index(
            "ix_access_sample_quarters", "appointment_type_id", "quarter", "within_goal", "possible",
            "within_open_days",
        ),
        {"sqlite_with_rowid": False},
    )  # fmt: skip
    appointment_type_id: Mapped[int] = mapped_column(ForeignKey("appointment_type.id"), primary_key=True)
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"), primary_key=True)
    quarter: Mapped[datetime] = mapped_column(primary_key=True)
    next_available_hours: Mapped[float | None] = mapped_column(HOURS)
    third_next_available_hours: Mapped[float | None] = mapped_column(HOURS)
    goal_hours: Mapped[int]
    within_goal: Mapped[bool]
    possible: Mapped[bool | None]
    within_open_days: Mapped[bool | None]


class AccessDay(Base):
    """How many quarter hours of one local day were measured at a location, and how many of them kept the goal.

    Written once when the day is over, from its samples, which are forgotten some day. `possible` and
    `within_open_days` count as the samples say it, and are null where one of them does not know. `goal_hours` is the
    widest goal of the day.
    """

    __tablename__ = "access_day"
    __table_args__ = (
        CheckConstraint("measured > 0", name="measured_positive"),
        CheckConstraint("kept BETWEEN 0 AND measured", name="kept_within_measured"),
        CheckConstraint("possible BETWEEN kept AND measured", name="possible_between"),
        CheckConstraint("within_open_days BETWEEN 0 AND measured", name="open_days_within_measured"),
        CheckConstraint("(possible IS NULL) = (within_open_days IS NULL)", name="known_together"),
        CheckConstraint("goal_hours > 0", name="goal_positive"),
        Index(None, "day"),
        {"sqlite_with_rowid": False},
    )
    appointment_type_id: Mapped[int] = mapped_column(ForeignKey("appointment_type.id"), primary_key=True)
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    measured: Mapped[int]
    kept: Mapped[int]
    possible: Mapped[int | None]
    within_open_days: Mapped[int | None]
    goal_hours: Mapped[int]


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


class AccessQuestion(Base):
    """A question that somebody asked a location: what was on offer to somebody new at that moment.

    Hours count from `asked_at` to the soonest start of this kind there and anywhere; None where there was none. It says
    nothing of who asked, and stays when the question is erased.
    """

    __tablename__ = "access_question"
    __table_args__ = (
        CheckConstraint("goal_hours > 0", name="goal_positive"),
        CheckConstraint(
            "here_hours IS NULL OR (anywhere_hours IS NOT NULL AND anywhere_hours <= here_hours)",
            name="here_not_before_anywhere",
        ),
        Index(None, "appointment_type_id", "asked_at"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    appointment_type_id: Mapped[int] = mapped_column(ForeignKey("appointment_type.id"))
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"))
    asked_at: Mapped[datetime]
    here_hours: Mapped[float | None] = mapped_column(HOURS)
    anywhere_hours: Mapped[float | None] = mapped_column(HOURS)
    goal_hours: Mapped[int]


class ProtectionLevel(Base):
    """How many visits of each day a location keeps back for short notice, and why so many.

    `level` is the number in force, `since` the local day on which it came into force. On `decided_on`, a local day too,
    the rule was asked last: it `suggested` a number by so many open `days` of history, 0 where it went by the stated
    default. Within `least` and `most` the suggestion is followed, unless somebody pinned another number.
    """

    __tablename__ = "protection_level"
    __table_args__ = (
        CheckConstraint("(pinned_by IS NULL) = (pinned_at IS NULL)", name="pinned_by_one"),
        CheckConstraint("days >= 0", name="days_not_negative"),
        CheckConstraint("least BETWEEN 0 AND most AND most <= 100", name="bounds_in_order"),
        CheckConstraint("level BETWEEN 0 AND 100", name="level_possible"),
        CheckConstraint("since <= decided_on", name="days_in_order"),
        CheckConstraint("suggested >= 0", name="suggested_not_negative"),
    )
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"), primary_key=True, autoincrement=False)
    least: Mapped[int]
    most: Mapped[int]
    suggested: Mapped[int]
    days: Mapped[int]
    decided_on: Mapped[date]
    level: Mapped[int]
    since: Mapped[date]
    pinned_by: Mapped[str | None]  # as audit rows name them
    pinned_at: Mapped[datetime | None]

    @property
    def pinned(self) -> bool:
        return self.pinned_by is not None


class LetGoDay(Base):
    """A local day on which a location keeps nothing back, and who said so. What that put forward say its LeverUses."""

    __tablename__ = "let_go_day"
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    let_go_by: Mapped[str]  # as audit rows name them
    let_go_at: Mapped[datetime]


class LeverUse(Base):
    """A lever that somebody used for a location, or the clinic's own worker by rule.

    What it put forward are `cells` free quarter hours in [starts_at, ends_at) at the location `place_id`: standby hours
    of a therapist that were opened, the usual hours of one who was asked, what was kept back of somebody's local `day`
    and was let go, or, of nobody by name and no day, what another location had free and was offered. What of it was
    booked is counted from visits. `closed_at` is when standby hours were closed or a day was kept back again.
    """

    __tablename__ = "lever_use"
    __table_args__ = (
        CheckConstraint(f"lever IN ({one_of(Lever)})", name="lever_known"),
        CheckConstraint(f"promise IN ({one_of(Promise)})", name="promise_known"),
        CheckConstraint("(lever = 'elsewhere') = (therapist_id IS NULL)", name="therapist_named"),
        CheckConstraint("(lever = 'elsewhere') = (day IS NULL)", name="day_named"),
        CheckConstraint("starts_at < ends_at", name="times_in_order"),
        CheckConstraint("cells > 0", name="cells_positive"),
        CheckConstraint("closed_at IS NULL OR lever IN ('standby', 'release')", name="only_what_opens_closes"),
        Index(None, "location_id", "used_at"),
        Index(
            "uq_lever_use_asked", "location_id", "therapist_id", "day", unique=True,
            sqlite_where=ASKED, postgresql_where=ASKED,
        ),
    )  # fmt: skip
    id: Mapped[int] = mapped_column(primary_key=True)
    lever: Mapped[str]
    promise: Mapped[str]
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"))
    place_id: Mapped[int] = mapped_column(ForeignKey("location.id"))
    therapist_id: Mapped[int | None] = mapped_column(ForeignKey("therapist.id"))
    used_at: Mapped[datetime]
    used_by: Mapped[str]  # as the record names who does something
    day: Mapped[date | None]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    cells: Mapped[int]
    closed_at: Mapped[datetime | None]
