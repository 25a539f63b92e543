"""What is watched over time: how the public claims stood, and how far a miss of the access goal was told."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.db import Base, one_of
from scheduler.models.messaging import Kind


class Saying(StrEnum):
    """What is told of a claim: that it holds, the strongest of what is true in its place, or that it fails.

    The words of the explainer's texts go by these names.
    """

    HOLDS = "holds"
    WORKING_DAYS = "working_days"
    SOONEST = "soonest"
    FAILS = "fails"


class Reason(StrEnum):
    """Why no start is within the goal: no hours there in reach, all times taken, or no hours in the week ahead."""

    STRUCTURAL = "structural"
    CAPACITY = "capacity"
    NONE_OPEN = "none-open"


WORDS = (Kind.GOAL_FORESEEN, Kind.GOAL_MISSED, Kind.GOAL_KEPT)


class ClaimChange(Base):
    """What was told of a claim from a moment on; the next number of the same claim ends it.

    `breaches` is what stood against it at that moment, as ids and figures (`claims.Breach`).
    """

    __tablename__ = "claim_change"
    __table_args__ = (
        CheckConstraint("length(claim) > 0", name="claim_given"),
        CheckConstraint("number >= 1", name="number_positive"),
        CheckConstraint(f"says IN ({one_of(Saying)})", name="saying_known"),
    )
    claim: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    since: Mapped[datetime]
    says: Mapped[str]
    breaches: Mapped[list[dict[str, Any]]] = mapped_column(JSON)


class AccessWatch(Base):
    """Whether the goal counts as missed at a location, and as about to be, and what of it was told.

    Each of the two has turned at `..._since`; `..._turning` is since when the readings say the contrary. `missed_told`
    says that the last word told was of a miss. `gaps_told` names the gaps of the week that were told while
    `plan_sha256`, the weekly hours there, stayed the same.
    """

    __tablename__ = "access_watch"
    appointment_type_id: Mapped[int] = mapped_column(ForeignKey("appointment_type.id"), primary_key=True)
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"), primary_key=True)
    missed: Mapped[bool]
    missed_since: Mapped[datetime]
    missed_turning: Mapped[datetime | None]
    missed_told: Mapped[bool]
    foreseen: Mapped[bool]
    foreseen_since: Mapped[datetime]
    foreseen_turning: Mapped[datetime | None]
    foreseen_told: Mapped[bool]
    plan_sha256: Mapped[str]
    gaps_told: Mapped[list[str]] = mapped_column(JSON)


class AccessWord(Base):
    """One word about the goal at a location to those who administer it; the key lets one of a kind a local day be said.

    `at` is the moment that it is about, and `reason` why it is missed.
    """

    __tablename__ = "access_word"
    __table_args__ = (
        CheckConstraint(f"kind IN ({one_of(WORDS)})", name="kind_known"),
        CheckConstraint(f"reason IN ({one_of(Reason)})", name="reason_known"),
        CheckConstraint("(kind = 'goal-kept') = (reason IS NULL)", name="reason_goes_with_miss"),
        CheckConstraint("goal_hours > 0", name="goal_positive"),
    )
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    reason: Mapped[str | None]
    goal_hours: Mapped[int]
    said_at: Mapped[datetime]
