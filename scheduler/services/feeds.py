"""Private addresses at which a therapist's calendar program finds their visits; the address is the only key."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from scheduler.errors import NotFound
from scheduler.keys import fingerprint
from scheduler.models import Account, CalendarFeed
from scheduler.services import audit, schedule
from scheduler.services.audit import Actor

BEHIND, AHEAD = timedelta(days=30), timedelta(days=180)


@dataclass(frozen=True, slots=True)
class Feed:
    """Whose visits an address shows, and the visits as they now stand."""

    feed: CalendarFeed
    account: Account
    visits: list[Row[Any]]


def of_account(session: Session, account_id: int) -> CalendarFeed | None:
    """The address in use of an account, if any; there is one at most."""
    in_use = CalendarFeed.account_id == account_id, CalendarFeed.revoked_at.is_(None)
    return session.scalars(select(CalendarFeed).where(*in_use)).one_or_none()


def make(session: Session, account_id: int, *, detailed: bool, by: Actor, now: datetime) -> str:
    """Make a new address and revoke the one before; return its token, which is stored nowhere."""
    session.get_one(Account, account_id, with_for_update=True)  # two taps at once leave one address in use
    revoke(session, account_id, by=by, now=now)
    token = secrets.token_urlsafe(32)
    feed = CalendarFeed(
        account_id=account_id, token_sha256=fingerprint(token), detailed=detailed, created_at=now, revoked_at=None
    )
    session.add(feed)
    session.flush()
    audit.record(session, "calendar_feed.made", feed, by=by, now=now, detailed=detailed)
    return token


def revoke(session: Session, account_id: int, *, by: Actor, now: datetime) -> None:
    """Make the address in use show nothing from now on; without one nothing changes."""
    feed = of_account(session, account_id)
    if feed is not None:
        feed.revoked_at = now
        session.flush()
        audit.record(session, "calendar_feed.revoked", feed, by=by, now=now)


def show(session: Session, account_id: int, *, detailed: bool, by: Actor, now: datetime) -> None:
    """Let the address in use show first names, or none any more; raise NotFound without one."""
    feed = of_account(session, account_id)
    if feed is None:
        raise NotFound("There is no calendar link.")
    if feed.detailed != detailed:
        feed.detailed = detailed
        audit.record(session, "calendar_feed.changed", feed, by=by, now=now, detailed=detailed)


def opened(session: Session, token: str, *, now: datetime) -> Feed:
    """What an address shows now.

    Raises NotFound for one that is unknown or revoked, and of whoever is disabled or treats nobody.
    """
    found = session.execute(
        select(CalendarFeed, Account)
        .join(Account, Account.id == CalendarFeed.account_id)
        .where(
            CalendarFeed.token_sha256 == fingerprint(token),
            CalendarFeed.revoked_at.is_(None),
            Account.active,
            Account.therapist_id.is_not(None),
        )
    ).one_or_none()
    if found is None:
        raise NotFound("There is no calendar at this address.")
    feed, account = found
    assert account.therapist_id is not None  # noqa: S101 for the type checker: the query asked for it
    visits = schedule.live_between(session, account.therapist_id, now - BEHIND, now + AHEAD)
    return Feed(feed, account, visits)


def first_name(name: str) -> str:
    """What somebody is called by: the first word, or the one after the comma of "Doe, Pat"."""
    words = (name.partition(",")[2].split() or name.split()) + [""]
    return words[0].strip(",")
