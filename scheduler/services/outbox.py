"""Sending what is owed, one step a transaction: claim, begin, and note how it ended.

A lease on the database's clock keeps other workers away while one sends; only the Clock says what is due. A worker that
dies leaves its lease to run out, and then its message is due at once.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import SystemRandom
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Table, bindparam, func, insert, or_, select, update
from sqlalchemy.orm import Session
from uuid6 import uuid7

from scheduler.db import Span, database_now, insert_into
from scheduler.errors import Conflict
from scheduler.keys import Keyring
from scheduler.models import Attempt, Channel, ChannelState, Fate, Kind, OutboxMessage
from scheduler.services import letters
from scheduler.services.letters import AnyLetter

BATCH = 10  # a message that hangs holds up no more than this many others, and only until its timeout
MOST_TRIES = 8
GAVE_UP, BROKE_OFF = "tries; the last:", "every try broke off"  # as reasons of failed messages say it
# Together the waits outlast an hour, and no more than five minutes: so long may a server be in trouble.
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(minutes=29)
JITTER = 0.02  # later by up to this share, never sooner
FORGIVEN = 0.25  # a round that comes late, by up to this share of a wait, does not put off the tries after it
TROUBLE = 5  # so many failures in a row are the mail server's, not the patients'
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=4)
MESSAGES, ATTEMPTS = cast("Table", OutboxMessage.__table__), cast("Table", Attempt.__table__)
C = MESSAGES.c

# The statements of every single message are put together once.
MINE = (C.id == bindparam("the_message"), C.lease == bindparam("the_lease"), C.status == Fate.OWED)
RENEWED = database_now() + bindparam("length", type_=Span())
FREE: dict[str, Any] = {"lease": None, "leased_until": None}
COUNT_TRY = update(MESSAGES).where(*MINE, C.tries < MOST_TRIES).values(leased_until=RENEWED, tries=C.tries + 1)
COUNT_TRY = COUNT_TRY.returning(C.tries, C.retry_at)
TRIES_BEFORE = select(func.coalesce(func.max(ATTEMPTS.c.number), 0)).where(ATTEMPTS.c.message_id == bindparam("of"))
OPEN_TRY = insert(ATTEMPTS).values(started_at=database_now(), number=TRIES_BEFORE.scalar_subquery() + 1)
CLOSE_TRY = (
    update(ATTEMPTS)
    .where(ATTEMPTS.c.id == bindparam("the_try"))
    .values(finished_at=database_now(), outcome=bindparam("how"))
)
END = update(MESSAGES).where(*MINE).values(status=bindparam("fate"), reason=bindparam("why"), retry_at=None, **FREE)
WAIT = update(MESSAGES).where(*MINE).values(retry_at=bindparam("then"), **FREE)
AGAIN = update(MESSAGES).where(C.id == bindparam("the_message"), C.status == Fate.FAILED)
AGAIN = AGAIN.values(status=Fate.OWED, reason=None, tries=0, retry_at=None)
NOTE_SENT = update(MESSAGES).where(C.id == bindparam("the_message"), C.status != Fate.SENT)
NOTE_SENT = NOTE_SENT.values(status=Fate.SENT, reason=None, sent_at=bindparam("now"), retry_at=None, **FREE)


class NotWorthSending(Conflict):
    """A message that would not be sent any more, for a reason that lies in its visit."""

    code = "not-worth-sending"


@dataclass(frozen=True, slots=True)
class Lease:
    """One worker's claim on messages; every step that renews it makes it last `length` from then."""

    id: UUID
    length: timedelta


@dataclass(frozen=True, slots=True)
class Try:
    """One try to send a letter, noted as begun; `planned_for` is when it should have been, None for the first.

    `number` counts from when the message was owed, or was owed anew.
    """

    letter: AnyLetter
    number: int
    lease: Lease
    planned_for: datetime | None = None
    id: UUID = field(default_factory=uuid7, compare=False)


def anything_due(session: Session, *, now: datetime) -> bool:
    """Whether a claim might find something: asked without a write."""
    return session.scalars(select(C.id).where(_due(now)).limit(1)).first() is not None


def claim(session: Session, lease: Lease, *, now: datetime) -> list[UUID]:
    """Take up to a batch of due messages that nobody is sending: news before reminders, untried before tried.

    None while the channel is paused; a single one while it is in trouble, and any, since the next in line may be those
    who are the trouble.
    """
    state = session.get(ChannelState, Channel.EMAIL)
    if state is not None and _is_to_come(state.paused_until, now, LONGEST_PAUSE):
        return []
    in_trouble = state is not None and state.failures >= TROUBLE
    unclaimed = or_(C.leased_until.is_(None), C.leased_until <= database_now())
    due = _unlocked(_due(now), unclaimed).limit(1 if in_trouble else BATCH)
    order = (func.random(),) if in_trouble else (C.kind == Kind.REMINDER, C.tries, C.due_at, C.id)
    ids = list(session.scalars(due.order_by(*order)))
    if ids:
        leased = {"lease": lease.id, "leased_until": database_now() + lease.length}
        session.execute(update(MESSAGES).where(C.id.in_(ids)).values(leased))
    return ids


def begin(session: Session, message_id: UUID, lease: Lease, *, keys: Keyring, now: datetime) -> Try | None:
    """Renew the lease, count a try, and say what to send as it stands now.

    None when there is nothing to send: somebody else has the message, it is suppressed here with its reason, or workers
    died over it too often.
    """
    letter = letters.current(session, message_id, keys=keys, now=now)
    if isinstance(letter, str):
        session.execute(END, _mine(message_id, lease) | {"fate": Fate.SUPPRESSED, "why": letter})
        return None
    counted = _counted(session, message_id, lease)
    if counted is None:
        return None
    number, planned_for = counted
    tried = Try(letter, number, lease, planned_for)
    session.execute(OPEN_TRY, {"id": tried.id, "message_id": message_id, "of": message_id})
    return tried


def unreadable(session: Session, message_id: UUID, lease: Lease, *, now: datetime) -> None:
    """Note that a message could not even be begun, as a try of its own, so that it does not come up again at once."""
    counted = _counted(session, message_id, lease)
    if counted is not None:
        session.execute(WAIT, _mine(message_id, lease) | {"then": next_try(*counted, now=now)})


def sent(session: Session, tried: Try, *, now: datetime) -> None:
    """Note that a message was taken over: it is sent, whatever became of lease and visit meanwhile."""
    _close(session, tried, Fate.SENT)
    session.execute(NOTE_SENT, {"the_message": tried.letter.message_id, "now": now})


def refused(session: Session, tried: Try, reason: str) -> None:
    """Note that a message will never be taken; staff see it."""
    _close(session, tried, reason)
    session.execute(END, _mine(tried.letter.message_id, tried.lease) | {"fate": Fate.FAILED, "why": reason})


def deferred(session: Session, tried: Try, reason: str, *, now: datetime) -> None:
    """Note that a try failed and when to try again, or that it was the last."""
    if tried.number >= MOST_TRIES:
        refused(session, tried, f"{MOST_TRIES} {GAVE_UP} {reason}")
        return
    _close(session, tried, reason)
    then = next_try(tried.number, tried.planned_for, now=now)
    session.execute(WAIT, _mine(tried.letter.message_id, tried.lease) | {"then": then})


def owe_anew(session: Session, message_id: UUID, *, keys: Keyring, now: datetime) -> None:
    """Owe a failed message once more, with all its tries; one that has not failed stays as it is.

    Its visit is locked until the end, so that none is owed that its visit takes back. Raises NotWorthSending for one
    that would only be suppressed.
    """
    letter = letters.current(session, message_id, keys=keys, now=now)
    if isinstance(letter, str):
        raise NotWorthSending(letter)
    session.execute(AGAIN, {"the_message": message_id})


def release(session: Session, lease: Lease) -> None:
    """Give back what was claimed and not sent."""
    claimed = _unlocked(C.lease == lease.id)
    session.execute(update(MESSAGES).where(C.id.in_(claimed)).values(FREE))


def failing(session: Session, *, now: datetime, down: bool) -> bool:
    """Note a failure that may be the channel's own; return whether it is now paused.

    A channel that is down pauses at once, else when several tries in a row have failed. Pauses double up to 4 minutes.
    """
    start = insert_into(session, ChannelState).values(channel=Channel.EMAIL, failures=0)
    session.execute(start.on_conflict_do_nothing())
    state = session.get_one(ChannelState, Channel.EMAIL, with_for_update=True)
    state.failures = max(state.failures + 1, TROUBLE if down else 0)
    state.paused_until = now + pause_after(state.failures) if state.failures >= TROUBLE else None
    return state.paused_until is not None


def working(session: Session, *, now: datetime) -> None:
    """Note that the channel works; after a trouble of its own, all that waits for another try is due at once."""
    state = session.get(ChannelState, Channel.EMAIL, with_for_update=True)
    if state is not None and state.failures:
        if state.failures >= TROUBLE:
            waiting = _unlocked(C.status == Fate.OWED, C.retry_at > now)
            session.execute(update(MESSAGES).where(C.id.in_(waiting)).values(retry_at=None))
        state.failures, state.paused_until = 0, None


def next_try(tries: int, planned_for: datetime | None, *, now: datetime) -> datetime:
    """When to try again after so many tries, the last of which was planned for an earlier moment than now."""
    wait = wait_after(tries)
    return max(planned_for or now, now - wait * FORGIVEN) + wait


def wait_after(tries: int) -> timedelta:
    """30 seconds, doubling up to 29 minutes, each a little longer by chance, so that not all come back at once."""
    wait: timedelta = FIRST_WAIT * 2 ** (tries - 1)
    return min(wait, LONGEST_WAIT) * SystemRandom().uniform(1, 1 + JITTER)


def pause_after(failures: int) -> timedelta:
    """15 seconds, doubling up to 4 minutes."""
    pause: timedelta = FIRST_PAUSE * 2 ** min(failures - TROUBLE, 8)
    return min(pause, LONGEST_PAUSE)


def _due(now: datetime) -> ColumnElement[bool]:
    """Owed, and the Clock has come to it. A wait longer than any is a wrong clock's, and no wait."""
    waits = (C.retry_at > now) & (C.retry_at <= now + LONGEST_WAIT * (1 + JITTER))
    owed = (C.status == Fate.OWED) & (C.due_at <= now)
    return owed & or_(C.retry_at.is_(None), ~waits)


def _unlocked(*where: ColumnElement[bool]) -> Select[UUID]:
    """Lock those of these messages that nobody has locked: to wait for one while holding others might never end."""
    return select(C.id).where(*where).with_for_update(skip_locked=True)


def _is_to_come(instant: datetime | None, now: datetime, longest: timedelta) -> bool:
    """Whether to wait for an instant; one further off than any wait was set by a wrong clock."""
    return instant is not None and now < instant <= now + longest


def _mine(message_id: UUID, lease: Lease) -> dict[str, Any]:
    """The parameters by which a statement changes a message only as long as this lease holds it."""
    return {"the_message": message_id, "the_lease": lease.id}


def _counted(session: Session, message_id: UUID, lease: Lease) -> tuple[int, datetime | None] | None:
    """Renew the lease and count a try; return its number and when it was planned for.

    None where the lease is lost or the tries are used up.

    Who comes to a message with its tries used up fails it: workers died over each.
    """
    mine = _mine(message_id, lease)
    row = session.execute(COUNT_TRY, mine | {"length": lease.length}).one_or_none()
    if row is None:
        worn_out = END.where(C.tries >= MOST_TRIES)
        session.execute(worn_out, mine | {"fate": Fate.FAILED, "why": BROKE_OFF})
        return None
    return row.tries, row.retry_at


def _close(session: Session, tried: Try, outcome: str) -> None:
    session.execute(CLOSE_TRY, {"the_try": tried.id, "how": outcome})
