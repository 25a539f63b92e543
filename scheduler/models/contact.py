"""What people ask the clinic without booking a visit."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship
from uuid6 import uuid7

from scheduler.db import Base, one_of
from scheduler.models.practice import Location, Therapist

OPEN = text("answered_at IS NULL")


class Answered(StrEnum):
    """How somebody got their answer."""

    EMAIL = "email"
    PHONE = "phone"


class ContactRequest(Base):
    """A question to a location, or to one of its therapists, and the answer once there is one.

    Question and answer are sealed. `form_sha256` tells the same form sent twice. `reminded_at` is when staff was told
    that it waits too long.
    """

    __tablename__ = "contact_request"
    __table_args__ = (
        CheckConstraint("email IS NOT NULL OR phone IS NOT NULL", name="reachable"),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        CheckConstraint("length(email) BETWEEN 3 AND 254", name="email_length"),
        CheckConstraint("length(phone) BETWEEN 3 AND 20", name="phone_length"),
        CheckConstraint("length(language) = 2 AND language = lower(language)", name="language_code"),
        CheckConstraint(f"answered_how IN ({one_of(Answered)})", name="answered_how_known"),
        CheckConstraint("(answered_at IS NULL) = (answered_by IS NULL)", name="answered_by_one"),
        CheckConstraint("(answered_at IS NULL) = (answered_how IS NULL)", name="answered_some_way"),
        CheckConstraint(
            "(answer_sealed IS NOT NULL) = (answered_how IS NOT NULL AND answered_how = 'email')",
            name="answer_goes_with_email",
        ),
        Index("ix_contact_request_open", "asked_at", sqlite_where=OPEN, postgresql_where=OPEN),
        Index(None, "asked_at"),
        Index(None, "email"),
        Index(None, "phone"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    form_sha256: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    email: Mapped[str | None]
    phone: Mapped[str | None]
    language: Mapped[str]
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"))
    therapist_id: Mapped[int | None] = mapped_column(ForeignKey("therapist.id"))
    message_sealed: Mapped[bytes]
    asked_at: Mapped[datetime]
    reminded_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]
    answered_by: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    answered_how: Mapped[str | None]
    answer_sealed: Mapped[bytes | None]

    location: Mapped[Location] = relationship(lazy="raise")
    therapist: Mapped[Therapist | None] = relationship(lazy="raise")
