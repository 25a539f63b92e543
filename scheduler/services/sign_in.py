"""Signing in: how often it may be tried, and the sessions that come of it; in the database, for all processes.

A try is counted before the password is looked at and forgotten when it was right, so that tries at the same moment
cannot pass the limit together. While an account is locked the right password does not open it either; a passkey does,
so that nobody can lock another out by guessing.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import String, bindparam, cast, delete, func, select, update
from sqlalchemy.orm import Session

from scheduler.db import alone_with
from scheduler.errors import TooMany
from scheduler.keys import fingerprint
from scheduler.models import Account, AccountLocation, Kind, OutboxMessage, SignInAttempt, StaffSession, UsedChallenge
from scheduler.services import notices

WINDOW = timedelta(minutes=15)
TRIES_OF_ACCOUNT, TRIES_OF_ADDRESS = 5, 50  # wrong ones in a window; many people may share one clinic's address
PROOF_LASTS = timedelta(minutes=15)
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
    proved_at: datetime

    def proved_lately(self, now: datetime) -> bool:
        """Whether they showed who they are just now, as whoever changes the ways in must have."""
        return now < self.proved_at + PROOF_LASTS

    def standing(self, now: datetime) -> Standing:
        """How the session stands by now; one that began later than now was begun by a wrong clock."""
        if not self.created_at <= now < self.created_at + LONGEST:
            return Standing.OVER
        return Standing.OPEN if now < self.seen_at + IDLE else Standing.LOCKED


@dataclass(frozen=True, slots=True)
class Tries:
    """What tries count for, and how many may be wrong in a window; `shared` when it is not one person who tries."""

    subject: str
    limit: int
    shared: bool = False


def tries_of_mail(email: str) -> Tries:
    """Of a password: for an address of mail, whether anybody has an account with it or not."""
    return Tries(f"mail {fingerprint(email.lower())}", TRIES_OF_ACCOUNT)


def tries_of_network(address: str) -> Tries:
    return Tries(f"net {fingerprint(address)}", TRIES_OF_ADDRESS, shared=True)


def tries_of_codes(account: Account) -> Tries:
    """Of a second factor, which nobody can make who has not given the password."""
    return Tries(f"code {fingerprint(str(account.id))}", TRIES_OF_ACCOUNT)


def tries_in_session(token: str) -> Tries:
    """Of a password by whoever sits before an open or locked page: strangers elsewhere cannot use them up."""
    return Tries(f"session {fingerprint(token)}", TRIES_OF_ACCOUNT)


def count_try(session: Session, counted: Collection[Tries], *, now: datetime) -> bool:
    """Count a try; raise TooMany when there were too many already. Whether it is the last that is not too many."""
    last = False
    for tries in sorted(counted, key=lambda one: one.subject):
        alone_with(session, tries.subject)
        tried = _tries(session, tries.subject, now)
        if len(tried) >= tries.limit:
            raise TooMany(
                "Too many wrong tries. Wait a quarter of an hour, or use your passkey.",
                retry_after=int((tried[-tries.limit] + WINDOW - now).total_seconds()) + 1,
            )
        last |= not tries.shared and len(tried) + 1 == tries.limit
    session.add_all(SignInAttempt(subject=tries.subject, tried_at=now) for tries in counted)
    return last


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


def forgive(session: Session, counted: Collection[Tries]) -> None:
    """Forget the tries of an account that was just opened rightly; of a network's only the newest, which was right."""
    for tries in counted:
        own = SignInAttempt.subject == tries.subject
        newest = SignInAttempt.id == select(func.max(SignInAttempt.id)).where(own).scalar_subquery()
        session.execute(delete(SignInAttempt).where(newest if tries.shared else own))


def forget_old_tries(session: Session, *, now: datetime) -> None:
    """Forget tries that count no more, sessions that are over, and questions that are too old to be answered."""
    session.execute(delete(SignInAttempt).where(SignInAttempt.tried_at < now - WINDOW))
    session.execute(delete(StaffSession).where(StaffSession.created_at < now - LONGEST))
    session.execute(delete(UsedChallenge).where(UsedChallenge.used_at < now - LONGEST))


def by_email(session: Session, email: str) -> Account | None:
    """Whose address this is; nobody's is one with signs that no database stores."""
    if not email.isprintable():
        return None
    return session.scalars(select(Account).where(Account.email == email.lower())).one_or_none()


def begin(session: Session, account: Account, *, full: bool, now: datetime) -> str:
    """Begin a session; return its token, of which only the fingerprint is stored."""
    token = secrets.token_urlsafe(32)
    at = {"created_at": now, "seen_at": now, "proved_at": now}
    session.add(StaffSession(token_sha256=fingerprint(token), account_id=account.id, full=full, **at))
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
    return Known(account, locations, own.full, own.created_at, own.seen_at, own.proved_at)


def see(session: Session, token: str, *, proved: bool = False, now: datetime) -> None:
    """Note that somebody is at work in a session; `proved` when they have just shown who they are."""
    values = {"seen_at": now} | ({"proved_at": now} if proved else {})
    session.execute(update(StaffSession).where(StaffSession.token_sha256 == fingerprint(token)).values(values))


def complete(session: Session, token: str, *, now: datetime) -> str:
    """Open all pages to a session whose second factor was shown, under a new token: the one before dies.

    Returns the new token. The session goes on as old as it is.
    """
    fresh = secrets.token_urlsafe(32)
    values = {"token_sha256": fingerprint(fresh), "full": True, "seen_at": now, "proved_at": now}
    session.execute(update(StaffSession).where(StaffSession.token_sha256 == fingerprint(token)).values(values))
    return fresh


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
