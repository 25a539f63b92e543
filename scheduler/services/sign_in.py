"""Signing in: how often it may be tried, and the sessions that come of it; in the database, for all processes.

A try is counted before the password is looked at and forgotten when it was right, so that tries at the same moment
cannot pass the limit together. While an account is locked the right password does not open it either; a passkey does,
so that nobody can lock another out by guessing.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from sqlalchemy import String, bindparam, cast, delete, func, select, update
from sqlalchemy.orm import Session

from scheduler.db import alone_with
from scheduler.errors import TooMany
from scheduler.keys import fingerprint
from scheduler.models import Account, AccountLocation, Kind, OutboxMessage, SignInAttempt, StaffSession
from scheduler.services import notices

WINDOW = timedelta(minutes=15)
TRIES_OF_ACCOUNT, TRIES_OF_ADDRESS = 5, 50  # wrong ones in a window; many people may share one clinic's address
IDLE, LONGEST = timedelta(minutes=15), timedelta(hours=12)
SEEN_EVERY = timedelta(minutes=1)


class Standing(Enum):
    """How a session stands: as somebody works, locked until they show that it is still they, or over."""

    OPEN = "open"
    LOCKED = "locked"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Known:
    """Who is behind a session, and where they work; `locations` is None for everywhere."""

    account: Account
    locations: frozenset[int] | None
    full: bool
    created_at: datetime
    seen_at: datetime

    def standing(self, now: datetime) -> Standing:
        """How the session stands by now; one that began later than now was begun by a wrong clock."""
        if not self.created_at <= now < self.created_at + LONGEST:
            return Standing.OVER
        return Standing.OPEN if now < self.seen_at + IDLE else Standing.LOCKED


def password_of(email: str) -> str:
    """What tries of a password count for: an address of mail, whether anybody has an account with it or not."""
    return f"mail {fingerprint(email.lower())}"


def codes_of(account: Account) -> str:
    """What tries of a second factor count for, which nobody can make who has not given the password."""
    return f"code {fingerprint(str(account.id))}"


def count_try(session: Session, of: str, address: str, *, now: datetime) -> None:
    """Count a try of a password or of codes, and of a network address; raise TooMany when either has had too many."""
    subjects = {of: TRIES_OF_ACCOUNT, _of_network(address): TRIES_OF_ADDRESS}
    for subject, limit in sorted(subjects.items()):
        alone_with(session, subject)
        tries = _tries(session, subject, now)
        if len(tries) >= limit:
            raise TooMany(
                "Too many wrong tries. Wait a quarter of an hour, or use your passkey.",
                retry_after=int((tries[-limit] + WINDOW - now).total_seconds()) + 1,
            )
    session.add_all(SignInAttempt(subject=subject, tried_at=now) for subject in subjects)


def tell_owner(session: Session, email: str, *, now: datetime) -> None:
    """Owe the owner of a locked account word of it, unless they had it within the same quarter of an hour."""
    account = by_email(session, email)
    if account is None or not account.active:
        return
    told = select(OutboxMessage.id).where(
        OutboxMessage.account_id == account.id,
        OutboxMessage.kind == Kind.LOCKED_OUT,
        OutboxMessage.created_at > now - WINDOW,
    )
    if session.scalars(told).first() is None:
        notices.owe(session, account.id, Kind.LOCKED_OUT, now.isoformat(), now=now)


def forgive(session: Session, of: str, address: str) -> None:
    """Forget the tries of what has just been opened rightly, and that one of the network address."""
    session.execute(delete(SignInAttempt).where(SignInAttempt.subject == of))
    newest = select(func.max(SignInAttempt.id)).where(SignInAttempt.subject == _of_network(address))
    session.execute(delete(SignInAttempt).where(SignInAttempt.id == newest.scalar_subquery()))


def forget_old_tries(session: Session, *, now: datetime) -> None:
    """Forget tries that count no more, and sessions that are over."""
    session.execute(delete(SignInAttempt).where(SignInAttempt.tried_at < now - WINDOW))
    session.execute(delete(StaffSession).where(StaffSession.created_at < now - LONGEST))


def by_email(session: Session, email: str) -> Account | None:
    return session.scalars(select(Account).where(Account.email == email.lower())).one_or_none()


def begin(session: Session, account: Account, *, full: bool, now: datetime) -> str:
    """Begin a session; return its token, of which only the fingerprint is stored."""
    token = secrets.token_urlsafe(32)
    row = StaffSession(token_sha256=fingerprint(token), account_id=account.id, full=full, created_at=now, seen_at=now)
    session.add(row)
    return token


def end(session: Session, token: str) -> None:
    session.execute(delete(StaffSession).where(StaffSession.token_sha256 == fingerprint(token)))


def known(session: Session, token: str) -> Known | None:
    """Who is behind a token, in one query; None for nobody and for whoever is disabled."""
    row = session.execute(_WHO, {"token_sha256": fingerprint(token)}).one_or_none()
    if row is None or not row[0].active:
        return None
    account, own, places = row
    locations = None if account.everywhere else frozenset(map(int, filter(None, (places or "").split(","))))
    return Known(account, locations, own.full, own.created_at, own.seen_at)


def see(session: Session, token: str, *, full: bool | None = None, now: datetime) -> None:
    """Note that somebody is at work in a session; `full` when they have just shown their second factor too."""
    values: dict[str, Any] = {"seen_at": now} | ({} if full is None else {"full": full})
    session.execute(update(StaffSession).where(StaffSession.token_sha256 == fingerprint(token)).values(values))


def _of_network(address: str) -> str:
    return f"net {fingerprint(address)}"


def _tries(session: Session, subject: str, now: datetime) -> Sequence[datetime]:
    own = select(SignInAttempt.tried_at).where(SignInAttempt.subject == subject, SignInAttempt.tried_at > now - WINDOW)
    return session.scalars(own.order_by(SignInAttempt.tried_at)).all()


_PLACES = (
    select(func.aggregate_strings(cast(AccountLocation.location_id, String), ","))
    .where(AccountLocation.account_id == Account.id)
    .scalar_subquery()
)
_WHO = (
    select(Account, StaffSession, _PLACES)
    .join(StaffSession, StaffSession.account_id == Account.id)
    .where(StaffSession.token_sha256 == bindparam("token_sha256"))
)
