"""One round through the outbox: claim a batch, send each message with no transaction open, note how it ended.

A round has a lease and a connection of its own, so any number may run at once, in one process or in many.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from uuid6 import uuid7

from scheduler.channels import Channel, Deferred, Down, Parcel, Refused
from scheduler.clock import Clock
from scheduler.db import reading, transaction
from scheduler.errors import Unavailable
from scheduler.keys import Keyring
from scheduler.services import letters, outbox
from scheduler.services.letters import AnyLetter, Letter
from scheduler.services.outbox import Lease, Try

LEASE_TIMEOUTS = 3
NOTE_AGAIN_SECONDS = 0.5
log = structlog.get_logger()


class Writer(Protocol):
    def write(self, letter: AnyLetter, *, now: datetime) -> Parcel:
        """Give a letter the form in which it travels; raises Refused when that cannot be done."""


class Unwritten(Deferred):
    """The message could not be written: a mistake of ours, not the channel's."""

    of_channel = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """What every round needs; `timeout_seconds` is how long the channel may take for one answer."""

    engine: Engine
    clock: Clock
    keys: Keyring
    writer: Writer
    connect: Callable[[], Channel]
    timeout_seconds: int
    stopping: Event = field(default_factory=Event)
    under_way: list["_Round"] = field(default_factory=list)

    def deliver(self) -> None:
        """Send until nothing is due, the channel is in trouble, or the worker is to stop.

        Nothing while an earlier round of this worker moves on; beside one that has not moved since the last call, which
        a mail server may have left hanging, this one does its work.
        """
        moved = [going.has_moved() for going in self.under_way]
        if any(moved):
            return
        with reading(self.engine) as session:
            if not outbox.anything_due(session, now=self.clock.now()):
                return
        lease = Lease(uuid7(), timedelta(seconds=LEASE_TIMEOUTS * self.timeout_seconds))
        going = _Round(self, lease, self.connect())
        self.under_way.append(going)
        try:
            while going.batch():
                pass
        finally:
            self.under_way.remove(going)
            going.channel.close()
            with suppress(Unavailable), transaction(self.engine) as session:
                outbox.release(session, lease)


@dataclass(slots=True, eq=False)
class _Round:
    given: Delivery
    lease: Lease
    channel: Channel
    well: bool = False  # the last message was taken over
    steps: int = 0
    steps_seen: int = 0

    def has_moved(self) -> bool:
        """Whether it made a step since it was last asked."""
        moved, self.steps_seen = self.steps != self.steps_seen, self.steps
        return moved

    def batch(self) -> bool:
        """Send one batch; return whether to go on with another."""
        with transaction(self.given.engine) as session:
            claimed = outbox.claim(session, self.lease, now=self.given.clock.now())
            drafts = letters.drafts(session, claimed, keys=self.given.keys)
        written: dict[AnyLetter, Parcel] = {
            draft: parcel for draft in drafts if (parcel := self._written(draft)) is not None
        }
        return bool(claimed) and all(not self.given.stopping.is_set() and self._send(one, written) for one in claimed)

    def _written(self, draft: Letter) -> Parcel | None:
        """Write ahead of the last look at the visit, so that only sending follows it; None for what cannot be."""
        try:
            return self.given.writer.write(draft, now=self.given.clock.now())
        except Exception:  # noqa: BLE001 it fails again, and is told, when its turn comes
            return None

    def _send(self, message_id: UUID, written: Mapping[AnyLetter, Parcel]) -> bool:
        """Send one message as it stands now; return whether the channel is good for another."""
        self.steps += 1
        try:
            self.channel.open()
        except Down as error:
            log.warning("channel_down", reason=str(error))
            return not self._surely(lambda session: self._failing(session, down=True))
        tried = self._begun(message_id)
        if tried is None:
            return True
        failure = self._handed_over(tried, written)
        return not self._surely(lambda session: self._note(session, tried, failure))

    def _begun(self, message_id: UUID) -> Try | None:
        """Begin a try, or set a message aside whose rows nobody can make sense of: it must stop nobody else's."""
        now = self.given.clock.now()
        try:
            with transaction(self.given.engine) as session:
                return outbox.begin(session, message_id, self.lease, keys=self.given.keys, now=now)
        except Unavailable:
            raise
        except Exception:
            log.exception("message_not_begun", message=str(message_id))
            with transaction(self.given.engine) as session:
                outbox.unreadable(session, message_id, self.lease, now=now)
            return None

    def _handed_over(self, tried: Try, written: Mapping[AnyLetter, Parcel]) -> Deferred | Refused | None:
        """Hand the letter over, written anew if it changed; return why it was not taken, or None."""
        try:
            parcel = written.get(tried.letter) or self.given.writer.write(tried.letter, now=self.given.clock.now())
            self.channel.send(parcel)
        except (Deferred, Refused) as failure:
            return failure
        except Exception as error:  # a message that cannot be written must stop nobody else's
            log.exception("message_not_written", message=str(tried.letter.message_id))
            return Unwritten(f"not written: {type(error).__name__}")
        return None

    def _note(self, session: Session, tried: Try, failure: Deferred | Refused | None) -> bool:
        """Note how a try ended; return whether the channel is paused now."""
        now = self.given.clock.now()
        if failure is not None:  # a server's words may name the patient: they are for staff, not for the log
            log.warning("message_not_sent", message=str(tried.letter.message_id), how=type(failure).__name__.lower())
        match failure:
            case None:
                outbox.sent(session, tried, now=now)
                if not self.well:
                    outbox.working(session, now=now)
                self.well = True
            case Refused():
                outbox.refused(session, tried, str(failure))
            case Deferred():
                outbox.deferred(session, tried, str(failure), now=now)
                if failure.of_channel:
                    return self._failing(session, down=isinstance(failure, Down))
        return False

    def _failing(self, session: Session, *, down: bool) -> bool:
        self.well = False
        return outbox.failing(session, now=self.given.clock.now(), down=down)

    def _surely(self, note: Callable[[Session], bool]) -> bool:
        """Store a note even if the database is away for a while: forgotten, a message would be sent again."""
        while True:
            last = self.given.stopping.is_set()  # asked before the try: who is told to stop meanwhile tries once more
            try:
                with transaction(self.given.engine) as session:
                    return note(session)
            except Unavailable as error:
                log.warning("outcome_not_noted", error=str(error))
                if last:
                    raise
            self.given.stopping.wait(NOTE_AGAIN_SECONDS)
