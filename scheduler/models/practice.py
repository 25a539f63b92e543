"""The practice: where it works, who works there, what they may do, what it offers, how it wants to be booked."""

from datetime import date, datetime

from sqlalchemy import CheckConstraint, ForeignKey, Numeric, UniqueConstraint, true
from sqlalchemy.orm import Mapped, mapped_column, validates

from scheduler.db import Base
from scheduler.timeline import zone_of

NEEDLING_RULES = ("permitted", "silent", "forbidden")
# The states and territories of the United States, by their postal codes.
STATES = (
    "AK", "AL", "AR", "AS", "AZ", "CA", "CO", "CT", "DC", "DE", "FL", "GA", "GU", "HI", "IA", "ID", "IL", "IN", "KS",
    "KY", "LA", "MA", "MD", "ME", "MI", "MN", "MO", "MP", "MS", "MT", "NC", "ND", "NE", "NH", "NJ", "NM", "NV", "NY",
    "OH", "OK", "OR", "PA", "PR", "RI", "SC", "SD", "TN", "TX", "UT", "VA", "VI", "VT", "WA", "WI", "WV", "WY",
)  # fmt: skip
STATE_KNOWN = f"state IN {STATES}"


class Location(Base):
    """A clinic with its own wall clock (an IANA zone), its state's licensing law, and an area of near locations.

    Patients find one that is `online`; staff book at any that is `active`. One that is not has no cells.
    """

    __tablename__ = "location"
    __table_args__ = (
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        CheckConstraint(STATE_KNOWN, name="state_known"),
        CheckConstraint("length(time_zone) > 0", name="time_zone_given"),
        CheckConstraint("length(directions) BETWEEN 1 AND 2000", name="directions_length"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    area: Mapped[str]
    address: Mapped[str]
    state: Mapped[str]
    time_zone: Mapped[str]
    phone: Mapped[str]
    directions: Mapped[str | None]  # how to find it and what to bring, in the clinic's own words
    online: Mapped[bool] = mapped_column(default=True, server_default=true())
    active: Mapped[bool] = mapped_column(default=True, server_default=true())

    @property
    def open_online(self) -> bool:
        """Whether patients find it when they book."""
        return self.online and self.active

    @validates("time_zone")
    def _known_zone(self, _name: str, value: str) -> str:
        """Refuse a zone that no calendar could be made in; raises ZoneInfoNotFoundError."""
        return str(zone_of(value))


class Therapist(Base):
    """A physical therapist. Their row is the lock that every writer of their slots takes first."""

    __tablename__ = "therapist"
    __table_args__ = (CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    credentials: Mapped[str]
    active: Mapped[bool] = mapped_column(default=True)


class TherapistLanguage(Base):
    """A language (ISO 639-1) in which a therapist treats."""

    __tablename__ = "therapist_language"
    __table_args__ = (CheckConstraint("length(language) = 2 AND language = lower(language)", name="language_code"),)
    therapist_id: Mapped[int] = mapped_column(ForeignKey("therapist.id"), primary_key=True)
    language: Mapped[str] = mapped_column(primary_key=True)


class License(Base):
    """What a therapist may do in a state: kind `pt`, or the dry-needling qualification that a state rule names.

    Both dates belong to the licence; they are days on the wall calendar of the location where it is used.
    """

    __tablename__ = "license"
    __table_args__ = (
        UniqueConstraint("therapist_id", "kind", "state", "number"),
        CheckConstraint("length(kind) > 0", name="kind_given"),
        CheckConstraint("length(number) > 0", name="number_given"),
        CheckConstraint(STATE_KNOWN, name="state_known"),
        CheckConstraint("valid_until >= valid_from", name="dates_in_order"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    therapist_id: Mapped[int] = mapped_column(ForeignKey("therapist.id"))
    kind: Mapped[str]
    state: Mapped[str]
    number: Mapped[str]
    valid_from: Mapped[date]
    valid_until: Mapped[date]
    evidence: Mapped[str | None]
    verified_by: Mapped[str | None]
    verified_at: Mapped[datetime | None]

    @property
    def verified(self) -> bool:
        """Whether somebody compared it with its source, on a day that is known."""
        return self.verified_at is not None


class StateRule(Base):
    """What a state asks of physical therapists who needle, from a day on; the newest rule that has begun is in force.

    Data with a source and a day of review, never code and never legal advice. `qualification` names the kind of licence
    needed beside `pt` (None: no other); `training_hours` is for information.
    """

    __tablename__ = "state_rule"
    __table_args__ = (
        UniqueConstraint("state", "valid_from"),
        CheckConstraint(STATE_KNOWN, name="state_known"),
        CheckConstraint(f"needling IN {NEEDLING_RULES}", name="needling_known"),
        CheckConstraint("training_hours >= 0", name="training_hours_not_negative"),
        CheckConstraint("length(source) > 0", name="source_given"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]
    valid_from: Mapped[date]
    needling: Mapped[str]
    qualification: Mapped[str | None]
    training_hours: Mapped[int | None]
    source: Mapped[str]
    review_on: Mapped[date]


class AppointmentType(Base):
    """A kind of visit; minutes and the buffer after it are whole cells of the booking grid.

    One that is not active is not offered any more; visits of it stay what they are. Without an own notice or horizon
    the clinic's holds; without therapists or locations of its own everybody offers it, everywhere.
    """

    __tablename__ = "appointment_type"
    __table_args__ = (
        CheckConstraint("minutes BETWEEN 15 AND 480 AND minutes % 15 = 0", name="minutes_on_grid"),
        CheckConstraint("buffer_minutes BETWEEN 0 AND 240 AND buffer_minutes % 15 = 0", name="buffer_on_grid"),
        CheckConstraint("notice_minutes >= 0", name="notice_not_negative"),
        CheckConstraint("horizon_days > 0", name="horizon_positive"),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    position: Mapped[int] = mapped_column(unique=True)
    minutes: Mapped[int]
    buffer_minutes: Mapped[int] = mapped_column(default=0)
    new_patient: Mapped[bool]
    includes_needling: Mapped[bool]
    notice_minutes: Mapped[int | None]
    horizon_days: Mapped[int | None]
    active: Mapped[bool] = mapped_column(default=True, server_default=true())

    @property
    def cells(self) -> int:
        """How many cells of the grid a visit takes, its buffer included."""
        return (self.minutes + self.buffer_minutes) // 15


class AppointmentTypeTherapist(Base):
    """A therapist who offers a kind of visit that not everybody does."""

    __tablename__ = "appointment_type_therapist"
    appointment_type_id: Mapped[int] = mapped_column(ForeignKey("appointment_type.id"), primary_key=True)
    therapist_id: Mapped[int] = mapped_column(ForeignKey("therapist.id"), primary_key=True)


class AppointmentTypeLocation(Base):
    """A location that offers a kind of visit that not every one does."""

    __tablename__ = "appointment_type_location"
    appointment_type_id: Mapped[int] = mapped_column(ForeignKey("appointment_type.id"), primary_key=True)
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"), primary_key=True)


class ClinicPolicy(Base):
    """How the clinic wants to be booked: one row, started from the environment, then edited by the clinic."""

    __tablename__ = "clinic_policy"
    __table_args__ = (
        CheckConstraint("id = 1", name="single_row"),
        CheckConstraint("length(clinic_name) BETWEEN 1 AND 200", name="clinic_name_length"),
        CheckConstraint("access_goal_hours > 0", name="goal_positive"),
        CheckConstraint("access_target > 0 AND access_target <= 1", name="target_is_share"),
        CheckConstraint("booking_notice_minutes >= 0", name="notice_not_negative"),
        CheckConstraint("booking_horizon_days > 0", name="horizon_positive"),
        CheckConstraint("hold_minutes > 0", name="hold_positive"),
        CheckConstraint("cancel_notice_hours BETWEEN 0 AND 336", name="cancel_notice_known"),
        CheckConstraint("retention_months > 0", name="retention_positive"),
    )
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=1)
    clinic_name: Mapped[str]
    access_goal_hours: Mapped[int]
    access_target: Mapped[float] = mapped_column(Numeric(4, 3, asdecimal=False))
    booking_notice_minutes: Mapped[int]
    booking_horizon_days: Mapped[int]
    hold_minutes: Mapped[int]
    reminders: Mapped[str]
    cancel_notice_hours: Mapped[int] = mapped_column(default=24, server_default="24")  # 0: none is late
    retention_months: Mapped[int | None]  # after their last visit patients are erased; None: never by itself
    imported_reminded_at: Mapped[datetime | None]  # since when patients of imported visits get messages
