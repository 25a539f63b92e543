"""What is owed to people, and every try to deliver it."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid6 import uuid7

from scheduler.db import Base, one_of

OWED = text("status = 'owed'")
OWED_TO_STAFF = text("status = 'owed' AND account_id IS NOT NULL")


class Kind(StrEnum):
    CONFIRMATION = "confirmation"
    REMINDER = "reminder"
    CANCELLATION = "cancellation"
    MOVED = "moved"
    MY_VISITS = "my-visits"
    SET_PASSWORD = "set-password"  # noqa: S105 a word, no secret
    LOCKED_OUT = "locked-out"
    DAY_CHANGED = "day-changed"
    TEST = "test"
    ADDRESS_CHANGED = "address-changed"
    WAYS_IN_CHANGED = "ways-in-changed"
    LICENSE_ENDS = "license-ends"
    TIME_OFF_DECIDED = "time-off-decided"
    GOAL_FORESEEN = "goal-foreseen"
    GOAL_MISSED = "goal-missed"
    GOAL_KEPT = "goal-kept"
    QUESTION_ASKED = "question-asked"
    QUESTION_WAITS = "question-waits"
    QUESTION_RECEIVED = "question-received"
    QUESTION_ANSWERED = "question-answered"


TO_STAFF = (
    Kind.SET_PASSWORD,
    Kind.LOCKED_OUT,
    Kind.DAY_CHANGED,
    Kind.TEST,
    Kind.ADDRESS_CHANGED,
    Kind.WAYS_IN_CHANGED,
    Kind.LICENSE_ENDS,
    Kind.TIME_OFF_DECIDED,
    Kind.GOAL_FORESEEN,
    Kind.GOAL_MISSED,
    Kind.GOAL_KEPT,
    Kind.QUESTION_ASKED,
    Kind.QUESTION_WAITS,
)
TO_WHO_ASKED = (Kind.QUESTION_RECEIVED, Kind.QUESTION_ANSWERED)


class Channel(StrEnum):
    EMAIL = "email"
    SMS = "sms"


class Fate(StrEnum):
    """`owed` until it ends as one of the others; suppressed and failed say why."""

    OWED = "owed"
    SENT = "sent"
    SUPPRESSED = "suppressed"
    FAILED = "failed"


class VisitsRequest(Base):
    """Somebody asked for a link to the visits of an e-mail address; whether it has any is not known here.

    The address is sealed, and counted by a keyed hash. It is forgotten within days.
    """

    __tablename__ = "visits_request"
    __table_args__ = (
        CheckConstraint("length(language) = 2 AND language = lower(language)", name="language_code"),
        Index(None, "address_hash", "asked_at"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    address_sealed: Mapped[bytes]
    address_hash: Mapped[str]
    language: Mapped[str]
    asked_at: Mapped[datetime] = mapped_column(index=True)


class OutboxMessage(Base):
    """One message owed from `due_at` on: about one version of a visit, to staff, or to whoever asked for something.

    A reminder's offset is part of its name. Of one kind `about` one thing staff is owed only one at a time; for
    DAY_CHANGED that is the day, for ADDRESS_CHANGED the address that the account had, to which it goes.

    A worker that sends it holds a lease until `leased_until`, on the database's clock; after a try that failed it waits
    until `retry_at`. `tries` counts those begun. `withdrawn_at`, on the database's clock too, is when the visit's
    change took it back: nothing may begin to be sent after that.
    """

    __tablename__ = "outbox_message"
    __table_args__ = (
        UniqueConstraint(
            "appointment_id", "kind", "channel", "offset_minutes", "visit_version", name="uq_outbox_message_owed_once"
        ),
        UniqueConstraint("contact_request_id", "kind"),
        CheckConstraint(f"kind IN ({one_of(Kind)})", name="kind_known"),
        CheckConstraint(f"channel IN ({one_of(Channel)})", name="channel_known"),
        CheckConstraint(f"status IN ({one_of(Fate)})", name="status_known"),
        CheckConstraint(f"kind IN ({one_of(TO_STAFF)}) = (account_id IS NOT NULL)", name="staff_kinds_go_to_staff"),
        CheckConstraint(
            "(appointment_id IS NULL) = (account_id IS NOT NULL OR visits_request_id IS NOT NULL "
            "OR contact_request_id IS NOT NULL)",
            name="to_patient_or_staff",
        ),
        CheckConstraint("(kind = 'my-visits') = (visits_request_id IS NOT NULL)", name="request_goes_with_kind"),
        CheckConstraint(
            f"kind IN ({one_of(TO_WHO_ASKED)}) = (contact_request_id IS NOT NULL)", name="question_kinds_have_question"
        ),
        CheckConstraint("(appointment_id IS NULL) = (visit_version IS NULL)", name="version_goes_with_visit"),
        CheckConstraint("(about IS NULL) = (account_id IS NULL)", name="about_goes_with_staff"),
        CheckConstraint("(kind = 'reminder') = (offset_minutes > 0)", name="offset_goes_with_reminder"),
        CheckConstraint("status NOT IN ('suppressed', 'failed') OR reason IS NOT NULL", name="reason_given"),
        CheckConstraint("(status = 'sent') = (sent_at IS NOT NULL)", name="sent_at_goes_with_status"),
        CheckConstraint("(lease IS NULL) = (leased_until IS NULL)", name="lease_goes_with_its_end"),
        CheckConstraint("status = 'owed' OR lease IS NULL", name="only_owed_is_leased"),
        CheckConstraint("tries >= 0", name="tries_not_negative"),
        Index("ix_outbox_message_owed", "due_at", sqlite_where=OWED, postgresql_where=OWED),
        Index(
            "uq_outbox_message_to_staff", "account_id", "kind", "about", unique=True,
            sqlite_where=OWED_TO_STAFF, postgresql_where=OWED_TO_STAFF,
        ),
    )  # fmt: skip
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    appointment_id: Mapped[UUID | None] = mapped_column(ForeignKey("appointment.id"))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    visits_request_id: Mapped[UUID | None] = mapped_column(ForeignKey("visits_request.id"), unique=True)
    contact_request_id: Mapped[UUID | None] = mapped_column(ForeignKey("contact_request.id"))
    about: Mapped[str | None]
    kind: Mapped[str]
    channel: Mapped[str]
    offset_minutes: Mapped[int] = mapped_column(default=0)
    visit_version: Mapped[int | None]
    due_at: Mapped[datetime]
    status: Mapped[str] = mapped_column(default=Fate.OWED)
    reason: Mapped[str | None]
    sent_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    tries: Mapped[int] = mapped_column(default=0, server_default="0")
    retry_at: Mapped[datetime | None]
    lease: Mapped[UUID | None]
    leased_until: Mapped[datetime | None]
    withdrawn_at: Mapped[datetime | None]


class Attempt(Base):
    """One try to deliver a message, on the database's clock; without an end its worker died, or is at it."""

    __tablename__ = "attempt"
    __table_args__ = (
        UniqueConstraint("message_id", "number"),
        CheckConstraint("number >= 1", name="number_positive"),
        CheckConstraint("(finished_at IS NULL) = (outcome IS NULL)", name="outcome_goes_with_end"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    message_id: Mapped[UUID] = mapped_column(ForeignKey("outbox_message.id"))
    number: Mapped[int]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None]


class ChannelState(Base):
    """How a channel does: tries that failed since the last that went well, and until when nothing is tried."""

    __tablename__ = "channel_state"
    __table_args__ = (CheckConstraint("failures >= 0", name="failures_not_negative"),)
    channel: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    paused_until: Mapped[datetime | None]


class Told(Base):
    """Staff told a patient of this version of a visit themselves, where no message could: ticked on the call list."""

    __tablename__ = "told"
    appointment_id: Mapped[UUID] = mapped_column(ForeignKey("appointment.id"), primary_key=True)
    visit_version: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(primary_key=True)  # of the visit then: a cancelled one is told anew
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    told_at: Mapped[datetime]
