"""Who of the clinic's people may sign in, how, and where they are signed in now."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.db import Base, one_of


class Role(StrEnum):
    """What an account may do. Whoever treats is linked to a therapist besides, whatever their role."""

    ADMIN = "admin"
    FRONT_DESK = "front-desk"
    THERAPIST = "therapist"


class Account(Base):
    """One person of the clinic. Accounts are disabled, never deleted: the audit names them.

    `everywhere` gives all locations, else those of AccountLocation; a therapist's account sees its own visits only.
    `generation` rises with every change of the password and with disabling: links to set one die with it.
    """

    __tablename__ = "account"
    __table_args__ = (
        CheckConstraint("length(email) BETWEEN 3 AND 254 AND email = lower(email)", name="email_written_small"),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        CheckConstraint(f"role IN ({one_of(Role)})", name="role_known"),
        CheckConstraint("generation >= 1", name="generation_positive"),
        CheckConstraint("length(language) = 2 AND language = lower(language)", name="language_code"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    language: Mapped[str]  # of messages to them
    role: Mapped[str]
    everywhere: Mapped[bool]
    therapist_id: Mapped[int | None] = mapped_column(ForeignKey("therapist.id"), unique=True)
    active: Mapped[bool] = mapped_column(default=True)
    needs_second_factor: Mapped[bool]
    password_hash: Mapped[str | None]
    generation: Mapped[int] = mapped_column(default=1)
    totp_sealed: Mapped[bytes | None]
    totp_used_step: Mapped[int | None]  # the half minute of the last code taken, so that none is taken twice
    created_at: Mapped[datetime]


class AccountLocation(Base):
    """A location that an account works for."""

    __tablename__ = "account_location"
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), primary_key=True)
    location_id: Mapped[int] = mapped_column(ForeignKey("location.id"), primary_key=True)


class Passkey(Base):
    """A WebAuthn credential: a public key, and how often its owner's device says that it was used."""

    __tablename__ = "passkey"
    __table_args__ = (CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    credential_id: Mapped[bytes] = mapped_column(unique=True)
    public_key: Mapped[bytes]
    sign_count: Mapped[int]
    name: Mapped[str]
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class RecoveryCode(Base):
    """A code on paper that opens an account once when the second factor is lost."""

    __tablename__ = "recovery_code"
    code_sha256: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    used_at: Mapped[datetime | None]


class StaffSession(Base):
    """Somebody signed in at one browser. It ends when its row goes, wherever the cookie is.

    Without `full` only the password was given so far. `proved_at` is when somebody last showed who they are.
    """

    __tablename__ = "staff_session"
    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    full: Mapped[bool]
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    proved_at: Mapped[datetime]


class UsedChallenge(Base):
    """What a passkey has signed: each question is answered once, so that an answer is worth nothing to who saw it."""

    __tablename__ = "used_challenge"
    challenge_sha256: Mapped[str] = mapped_column(primary_key=True)
    used_at: Mapped[datetime] = mapped_column(index=True)


class SignInAttempt(Base):
    """A try to sign in that has not succeeded: counted for what it tried and for its network, by fingerprints."""

    __tablename__ = "sign_in_attempt"
    __table_args__ = (Index(None, "subject", "tried_at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str]
    tried_at: Mapped[datetime] = mapped_column(index=True)


class CalendarFeed(Base):
    """A private address at which a calendar program finds a therapist's visits, until it is revoked.

    `detailed` is the owner's wish to see first names there; without it nothing tells who comes or why.
    """

    __tablename__ = "calendar_feed"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    detailed: Mapped[bool]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
