"""The clinic's people as accounts: made, invited, changed, disabled; what a password must be."""

import secrets
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from scheduler.db import alone_with
from scheduler.errors import Conflict, Invalid, NotFound
from scheduler.keys import Keyring
from scheduler.models import Account, AccountLocation, Kind, Role, StaffSession
from scheduler.services import audit, edits, notices
from scheduler.services.audit import Actor
from scheduler.timeline import EPOCH

SHORTEST, LONGEST = 12, 200  # characters; NIST SP 800-63B asks for 8 and for room up to 64 at least
STRONG = 3  # of zxcvbn's 0 to 4: "safely unguessable", so no common password and no simple change of one
LOOKED_AT = 72  # zxcvbn reads no more
LINK_LIVES = timedelta(days=3)
SET_PASSWORD = "set-password"  # noqa: S105 the purpose of a link
hasher = PasswordHasher()


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """Who somebody is here, and what they may do: `location_ids`, in order, count only without `everywhere`."""

    email: str
    name: str
    role: str
    language: str = "en"
    everywhere: bool = True
    location_ids: Collection[int] = ()
    therapist_id: int | None = None
    needs_second_factor: bool = False


class LastAdmin(Conflict):
    """Nobody would be left who may change the clinic."""


def add(session: Session, new: AccountDetails, *, by: Actor, now: datetime) -> Account:
    """Store an account without a password; raise Invalid for an address or a therapist that has one already."""
    account = Account(created_at=now)
    _store(session, account, new)
    audit.record(session, "account.added", account, by=by, now=now, role=new.role)
    return account


def invite(session: Session, account: Account, *, now: datetime) -> None:
    """Owe the account's owner a mail with a link to set their password."""
    notices.owe(session, account.id, Kind.SET_PASSWORD, str(account.generation), now=now)


def invite_again(session: Session, account: Account, *, by: Actor, now: datetime) -> None:
    """Owe a link to set a password anew; the one before it dies."""
    _end_links(session, account)
    session.flush()
    invite(session, account, now=now)
    audit.record(session, "account.invited", account, by=by, now=now)


def password_token(account: Account, *, keys: Keyring, now: datetime) -> str:
    """What a link to set the password carries: good once, and for three days."""
    until = (now + LINK_LIVES - EPOCH) // timedelta(seconds=1)
    return keys.sign(SET_PASSWORD, account.id, account.generation, until)


def of_token(session: Session, token: str, *, keys: Keyring, now: datetime, to_set: bool = False) -> Account:
    """The account whose password a link may set; NotFound for one that is used, too old or none of ours.

    Whoever is `to_set` it keeps the account to themselves: of two with the same link the second finds it used.
    """
    words = keys.signed(SET_PASSWORD, token) or (0, 0, 0)
    account_id, generation, until = words if len(words) == 3 else (0, 0, 0)  # noqa: PLR2004 as password_token wrote
    account = session.get(Account, account_id, with_for_update=to_set, populate_existing=to_set)
    if (
        account is None
        or not account.active
        or account.generation != generation
        or until < (now - EPOCH).total_seconds()
    ):
        raise NotFound("This link was used already or is too old; ask your administrator for a new one.")
    return account


def require_good(password: str, account: Account) -> None:
    """Raise Invalid for a password that is too short, too common, or made of the account's own words."""
    if len(password) < SHORTEST:
        raise Invalid("password", f"Use at least {SHORTEST} characters.")
    if len(password) > LONGEST:
        raise Invalid("password", f"Use at most {LONGEST} characters.")
    from zxcvbn import zxcvbn  # noqa: PLC0415 its word lists are slow to load, and few processes ever need them

    own = [account.email, *account.email.replace("@", ".").split("."), *account.name.split()]
    if zxcvbn(password[:LOOKED_AT], user_inputs=own)["score"] < STRONG:
        raise Invalid("password", "This is too easy to guess: several words that do not belong together are better.")


def hashed(password: str) -> str:
    """Slow by intent: call it with no transaction open."""
    return hasher.hash(password)


@cache
def _nobodys() -> str:
    """A hash that no password opens: unknown people are refused in the time that known ones take."""
    return hasher.hash(secrets.token_urlsafe())


def matches(password: str, password_hash: str | None) -> bool:
    """Slow by intent, and as slow for nobody's hash: call it with no transaction open."""
    nobodys = _nobodys()  # whoever asks first, known or not, waits for it
    try:
        hasher.verify(password_hash or nobodys, password)
    except (VerifyMismatchError, InvalidHashError):
        return False
    return password_hash is not None


def set_password(session: Session, account: Account, password_hash: str, *, by: Actor, now: datetime) -> None:
    """Change a password: every other link to set one dies, and everybody signed in with the old one is signed out."""
    _end_links(session, account)
    account.password_hash = password_hash
    sign_out_everywhere(session, account)
    audit.record(session, "account.password_set", account, by=by, now=now)


def disable(session: Session, account: Account, *, by: Actor, now: datetime) -> None:
    """Let somebody in no more, from this moment on; what they did stays theirs. Raises LastAdmin."""
    with _an_admin_stays(session):
        _end_links(session, account)
        account.active = False
        sign_out_everywhere(session, account)
    audit.record(session, "account.disabled", account, by=by, now=now)


def _end_links(session: Session, account: Account) -> None:
    """Let every link to set a password die, one too that somebody made since this row was read."""
    session.refresh(account, ["generation"], with_for_update={"key_share": True})
    account.generation += 1


def sign_out_everywhere(session: Session, account: Account) -> None:
    session.execute(delete(StaffSession).where(StaffSession.account_id == account.id))


def details_of(session: Session, account: Account) -> AccountDetails:
    return edits.read_off(AccountDetails, account, location_ids=tuple(sorted(location_ids(session, account))))


def location_ids(session: Session, account: Account) -> frozenset[int]:
    """The places that an account is named for; they count only where it does not work everywhere."""
    named = select(AccountLocation.location_id).where(AccountLocation.account_id == account.id)
    return frozenset(session.scalars(named))


def places_of(session: Session) -> dict[int, frozenset[int]]:
    """The places of every account that is named for some."""
    places: dict[int, set[int]] = defaultdict(set)
    for named in session.scalars(select(AccountLocation)):
        places[named.account_id].add(named.location_id)
    return {account_id: frozenset(own) for account_id, own in places.items()}


def change(
    session: Session, account_id: int, details: AccountDetails, *, seal: str, by: Actor, now: datetime
) -> Account:
    """Change an account, from its next page on.

    At another address, or when a second factor is asked for from now on, its owner signs in anew.
    Raises NotFound, ChangedMeanwhile, LastAdmin, and Invalid for an address or a therapist of another account.
    """
    with _an_admin_stays(session):
        account = edits.locked(session, Account, account_id)
        before = details_of(session, account)
        edits.require_seen(before, seal)
        _store(session, account, details)
        if account.needs_second_factor and not before.needs_second_factor:
            sign_out_everywhere(session, account)  # those sessions were opened by a password alone
        if account.email != before.email:
            _move(session, account, before.email, now)
    edits.note(session, "account.changed", account, before, details_of(session, account), by=by, now=now)
    return account


def enable(session: Session, account_id: int, *, by: Actor, now: datetime) -> None:
    """Let somebody in again, with the password that they had."""
    account = edits.locked(session, Account, account_id)
    if not account.active:
        account.active = True
        audit.record(session, "account.enabled", account, by=by, now=now)


def _store(session: Session, account: Account, details: AccountDetails) -> None:
    email = details.email.lower()
    if _taken(session, Account.email == email, account):
        raise Invalid("email", "Somebody has an account with this address already.")
    if details.therapist_id is not None and _taken(session, Account.therapist_id == details.therapist_id, account):
        raise Invalid("therapist_id", "This therapist has an account already.")
    edits.write(account, details)
    account.email = email
    account.needs_second_factor = details.needs_second_factor or details.role == Role.ADMIN
    session.add(account)
    session.flush()
    session.execute(delete(AccountLocation).where(AccountLocation.account_id == account.id))
    session.add_all(AccountLocation(account_id=account.id, location_id=place) for place in details.location_ids)
    session.flush()


def _taken(session: Session, same: ColumnElement[bool], account: Account) -> bool:
    """Whether another account than this one has the same."""
    return any(found != account.id for found in session.scalars(select(Account.id).where(same)))


def _move(session: Session, account: Account, old: str, now: datetime) -> None:
    """Follow a corrected address: links sent to the old one die, and whoever reads mail there is told, or invited."""
    _end_links(session, account)
    sign_out_everywhere(session, account)
    if account.password_hash is None:
        invite(session, account, now=now)
    else:
        notices.owe(session, account.id, Kind.ADDRESS_CHANGED, old, now=now)


@contextmanager
def _an_admin_stays(session: Session) -> Iterator[None]:
    """Change accounts; raise LastAdmin when no administrator is left, for the whole clinic or with a password."""
    alone_with(session, "who is an administrator")
    before = _admins(session)
    yield
    session.flush()
    after = _admins(session)
    if any(some and not left for some, left in zip(before, after, strict=True)):
        raise LastAdmin("Somebody must stay who may change the whole clinic.")


def _admins(session: Session) -> tuple[int, int, int]:
    """How many administrators are active; of them, for the whole clinic; of those, with a password."""
    columns = (Account.everywhere, Account.password_hash)
    rows = session.execute(select(*columns).where(Account.active, Account.role == Role.ADMIN)).all()
    everywhere = [password_hash for whole, password_hash in rows if whole]
    return len(rows), len(everywhere), sum(password_hash is not None for password_hash in everywhere)
