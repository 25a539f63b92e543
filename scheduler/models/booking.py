"""Patients and their visits, the links that open them, and the keys that make a repeated request one booking."""

from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship, validates
from uuid6 import uuid7

from scheduler.db import Base, one_of
from scheduler.models.explainer import ExplainerVersion
from scheduler.models.practice import AppointmentType, Location, Therapist
from scheduler.timeline import cell_of, next_cell
from scheduler.words import folded

EXPIRES = text("expires_at IS NOT NULL")


class Status(StrEnum):
    """FHIR R4 appointment status words, and `held` for a time that is kept. All but `cancelled` hold their slots."""

    HELD = "held"
    BOOKED = "booked"
    ARRIVED = "arrived"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"
    NOSHOW = "noshow"


class Needling(StrEnum):
    """How the patient feels about needles; asked at booking, never a consent."""

    OPEN = "open"
    TALK_FIRST = "talk_first"
    NONE = "none"


def _folded_name(context: Any) -> str:  # noqa: ANN401 SQLAlchemy's own class
    return folded(context.get_current_parameters().get("name") or "")


def _folded_email(context: Any) -> str | None:  # noqa: ANN401 SQLAlchemy's own class
    email = context.get_current_parameters().get("email")
    return email.lower() if email is not None else None


class Patient(Base):
    """One person as they named themselves in one booking. Public bookings always add a row; only staff may merge.

    `folded_name` is the name as staff look for it, `folded_email` the address as "my visits" does; they follow from
    name and address. Once erased, a row only holds visits together.
    """

    __tablename__ = "patient"
    __table_args__ = (
        CheckConstraint("erased_at IS NOT NULL OR email IS NOT NULL OR phone IS NOT NULL", name="reachable"),
        CheckConstraint(
            "erased_at IS NULL OR (email IS NULL AND phone IS NULL AND birth_date IS NULL)", name="erased_says_nothing"
        ),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        CheckConstraint("length(email) BETWEEN 3 AND 254", name="email_length"),
        CheckConstraint("length(phone) BETWEEN 3 AND 20", name="phone_length"),
        CheckConstraint("length(language) = 2 AND language = lower(language)", name="language_code"),
        Index(None, "folded_name"),
        Index(None, "email"),
        Index(None, "phone"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str]
    folded_name: Mapped[str] = mapped_column(default=_folded_name, server_default=text("''"))
    email: Mapped[str | None]
    folded_email: Mapped[str | None] = mapped_column(default=_folded_email, index=True)
    phone: Mapped[str | None]
    birth_date: Mapped[date | None]
    language: Mapped[str]
    remind_by_email: Mapped[bool]
    remind_by_sms: Mapped[bool]
    created_at: Mapped[datetime]
    erased_at: Mapped[datetime | None]

    @validates("name")
    def _fold(self, _field: str, value: str) -> str:
        self.folded_name = folded(value)
        return value

    @validates("email")
    def _fold_email(self, _field: str, value: str | None) -> str | None:
        self.folded_email = None if value is None else value.lower()
        return value


class Appointment(Base):
    """A visit. It holds exactly the slots from its start to its end plus buffer, and stores no slot's id.

    `visit_version` rises with every move (messages are owed per version); `link_generation` with every new link.
    `explainer_version_id` is what the patient was shown; none means "not shown" (staff booked).
    `imported_as` is the visit's name in the program that the clinic moved in from. `cancelled_late` says that the
    patient cancelled later than the policy of that moment asked for.

    While its status is `held` it is no visit yet but a start that is kept until `expires_at` (`Hold`): it knows nobody
    and says nothing, which is why patient and needling are there for visits only. `booked_at` is then when it was held.
    """

    __tablename__ = "appointment"
    __table_args__ = (
        UniqueConstraint("id", "therapist_id", "location_id"),
        CheckConstraint("ends_at > starts_at", name="ends_after_start"),
        CheckConstraint("buffer_minutes >= 0 AND buffer_minutes % 15 = 0", name="buffer_on_grid"),
        CheckConstraint(f"status IN ({one_of(Status)})", name="status_known"),
        CheckConstraint(f"needling IN ({one_of(Needling)})", name="needling_known"),
        CheckConstraint("(status = 'cancelled') = (cancelled_at IS NOT NULL)", name="cancelled_at_goes_with_status"),
        CheckConstraint("(status = 'held') = (expires_at IS NOT NULL)", name="expires_at_goes_with_hold"),
        CheckConstraint("(status = 'held') = (patient_id IS NULL)", name="patient_goes_with_visit"),
        CheckConstraint("(status = 'held') = (needling IS NULL)", name="needling_goes_with_visit"),
        CheckConstraint(
            "status <> 'held' OR (note_sealed IS NULL AND cancel_reason_sealed IS NULL "
            "AND explainer_version_id IS NULL AND imported_as IS NULL)",
            name="hold_says_nothing",
        ),
        CheckConstraint("status = 'cancelled' OR NOT cancelled_late", name="only_cancelled_is_late"),
        CheckConstraint("visit_version >= 1", name="visit_version_positive"),
        CheckConstraint("link_generation >= 1", name="link_generation_positive"),
        Index(None, "therapist_id", "starts_at"),
        Index(None, "patient_id"),
        Index("uq_appointment_imported_as", "imported_as", unique=True),
        Index(None, "location_id", "starts_at"),
        Index(None, "expires_at", sqlite_where=EXPIRES, postgresql_where=EXPIRES),
        Index(None, "therapist_id", "expires_at", sqlite_where=EXPIRES, postgresql_where=EXPIRES),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    patient_id: Mapped[UUID] = mapped_column(ForeignKey("patient.id"), nullable=True)
    therapist_id: Mapped[int] = mapped_column(ForeignKey("therapist.id"))
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"))
    appointment_type_id: Mapped[int] = mapped_column(ForeignKey("appointment_type.id"))
    explainer_version_id: Mapped[int | None] = mapped_column(ForeignKey("explainer_version.id"))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    buffer_minutes: Mapped[int]
    status: Mapped[str] = mapped_column(default=Status.BOOKED)
    needling: Mapped[str] = mapped_column(nullable=True)
    note_sealed: Mapped[bytes | None]
    visit_version: Mapped[int] = mapped_column(default=1)
    link_generation: Mapped[int] = mapped_column(default=1)
    booked_at: Mapped[datetime]
    cancelled_at: Mapped[datetime | None]
    cancel_reason_sealed: Mapped[bytes | None]
    cancelled_late: Mapped[bool] = mapped_column(default=False, server_default=false())
    imported_as: Mapped[str | None]
    expires_at: Mapped[datetime | None]

    therapist: Mapped[Therapist] = relationship(lazy="raise")
    location: Mapped[Location] = relationship(lazy="raise")
    appointment_type: Mapped[AppointmentType] = relationship(lazy="raise")
    patient: Mapped[Patient] = relationship(lazy="raise")
    explainer_version: Mapped[ExplainerVersion | None] = relationship(lazy="raise")

    @property
    def slots_start(self) -> datetime:
        """The start of the first cell that the visit holds: its own, but for an imported one off the grid."""
        return cell_of(self.starts_at)

    @property
    def slots_end(self) -> datetime:
        """The end of the last cell that the visit holds, of which its own end plus the buffer needs at least a part."""
        return next_cell(self.ends_at + timedelta(minutes=self.buffer_minutes))


class Hold(Base):
    """What a held start is found by: its token, kept as a hash only, and who keeps how many.

    The network address is a keyed hash, `holder_sha256` that of a browser session's random name; neither says who.
    """

    __tablename__ = "hold"
    appointment_id: Mapped[UUID] = mapped_column(ForeignKey("appointment.id"), primary_key=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    address_hash: Mapped[str | None] = mapped_column(index=True)
    holder_sha256: Mapped[str | None] = mapped_column(index=True)


class ManageLink(Base):
    """One generation of a visit's link: enough to find it and to derive its token again, never the token."""

    __tablename__ = "manage_link"
    appointment_id: Mapped[UUID] = mapped_column(ForeignKey("appointment.id"), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    key_id: Mapped[str]
    token_sha256: Mapped[str] = mapped_column(unique=True)


class SeriesVisit(Base):
    """That a visit was booked together with others, all or none; `first_id` is the first of them, which names all.

    One message confirms them: whichever of their confirmations goes first tells of all that still stand.
    """

    __tablename__ = "series_visit"
    appointment_id: Mapped[UUID] = mapped_column(ForeignKey("appointment.id"), primary_key=True)
    first_id: Mapped[UUID] = mapped_column(ForeignKey("appointment.id"), index=True)


class Override(Base):
    """That staff booked a visit against a rule, which one, who and why; the reason is what they wrote, sealed.

    `rule` is a word of `services.reasons.Reason`, `used_by` the account as audit rows name it.
    """

    __tablename__ = "booking_override"
    __table_args__ = (
        CheckConstraint("length(rule) > 0", name="rule_given"),
        CheckConstraint("length(used_by) > 0", name="used_by_given"),
    )
    appointment_id: Mapped[UUID] = mapped_column(ForeignKey("appointment.id"), primary_key=True)
    rule: Mapped[str]
    reason_sealed: Mapped[bytes]
    used_by: Mapped[str]


class IdempotencyKey(Base):
    """A request that was answered with 201: inserted first, so that its repeats wait for it and find its visit."""

    __tablename__ = "idempotency_key"
    __table_args__ = (CheckConstraint("length(key) BETWEEN 8 AND 255", name="key_length"),)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str]
    appointment_id: Mapped[UUID] = mapped_column(
        ForeignKey("appointment.id", deferrable=True, initially="DEFERRED"), unique=True
    )
    created_at: Mapped[datetime] = mapped_column(index=True)
