"""Whole rounds of sending, against both databases: what is open while a message is under way, and what goes wrong."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Timer
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, select, update

from scheduler import db
from scheduler.channels import Deferred, Down, NotDelivered, Parcel, Refused
from scheduler.clock import FixedClock
from scheduler.db import make_engine, reading, transaction
from scheduler.delivery import Delivery
from scheduler.keys import Keyring
from scheduler.models import (
    Appointment,
    Attempt,
    ChannelState,
    Fate,
    Kind,
    Location,
    OutboxMessage,
    Patient,
    Role,
)
from scheduler.services import accounts, notices
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.services.booking import PatientDetails, Visit
from scheduler.services.letters import AnyLetter
from scheduler.timeline import DAY
from tests import postgres
from tests.clinic import HOUR, Clinic

# What no database decides is asked of one; the rest runs on both.
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


class PlainWriter:
    """Writes a letter as Python shows it; breaks over recipients who are called so."""

    def write(self, letter: AnyLetter, *, now: datetime) -> Parcel:  # noqa: ARG002 the protocol's
        if letter.recipient.startswith("broken"):
            raise ZeroDivisionError
        if letter.recipient.startswith("refused"):
            raise Refused("the address cannot be written in a header")
        return Parcel(letter.message_id, "us@example.com", letter.recipient, repr(letter).encode())


@dataclass
class Post:
    """A way to people that keeps what it takes; `before` is done at each send, `failure` told instead of taking."""

    taken: list[Parcel] = field(default_factory=list)
    connections: int = 0
    opened: int = 0
    closed: int = 0
    before: Callable[[Parcel], None] = lambda _parcel: None
    at_open: Callable[[], None] = lambda: None
    failure: Callable[[Parcel], NotDelivered | None] = lambda _parcel: None

    def connect(self) -> "Post":
        self.connections += 1
        return self

    def open(self) -> None:
        self.opened += 1
        self.at_open()

    def send(self, parcel: Parcel) -> None:
        self.before(parcel)
        failure = self.failure(parcel)
        if failure is not None:
            raise failure
        self.taken.append(parcel)

    def close(self) -> None:
        self.closed += 1

    def recipients(self) -> list[str]:
        return [parcel.recipient for parcel in self.taken]


@pytest.fixture
def day(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    """A clinic whose calendar is one long day, nine days ahead."""
    clinic = Clinic(engine, clock, keys)
    clinic.policy(booking_horizon_days=12)
    clinic.add_kinds()
    clinic.add_hours(clinic.add_therapist(), clinic.add_location(), weekdays=[3], opens=6 * 60, closes=24 * 60)
    clinic.plan()
    return clinic


def book(clinic: Clinic, *names: str) -> list[Visit]:
    """One visit for each name; each owes a confirmation at once."""
    slots = [offer.slot for offer in clinic.offers("Needling", from_=clinic.clock.now() + 9 * DAY)][::2]
    people = [PatientDetails(name, f"{name}@example.com", None, None, "en", True, False) for name in names]
    return [clinic.book(str(slot), "Needling", patient=person) for slot, person in zip(slots, people, strict=False)]


def delivery(clinic: Clinic, post: Post) -> Delivery:
    return Delivery(clinic.engine, clinic.clock, clinic.keys, PlainWriter(), post.connect, 10)


def confirmations(engine: Engine) -> list[tuple[str, str | None, int, UUID | None]]:
    """Fate, reason, tries and lease of every confirmation, in the order of booking."""
    columns = (OutboxMessage.status, OutboxMessage.reason, OutboxMessage.tries, OutboxMessage.lease)
    with reading(engine) as session:
        found = session.execute(
            select(*columns).where(OutboxMessage.kind == Kind.CONFIRMATION).order_by(OutboxMessage.id)
        )
        return [(status, reason, tries, lease) for status, reason, tries, lease in found]


def fates(engine: Engine) -> list[str]:
    return [status for status, *_ in confirmations(engine)]


# --- one transaction a step


def other_connection(engine: Engine) -> psycopg.Connection[Any]:
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(url, autocommit=True)


def open_transactions(engine: Engine) -> int:
    """How many sessions of this database stand in a transaction, seen from a connection of its own."""
    if engine.dialect.name == "postgresql":
        with other_connection(engine) as connection:
            idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
            found = connection.execute(idle).fetchone()
            assert found is not None
            return int(found[0])
    with closing(sqlite3.connect(str(engine.url.database), timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            held = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]  # 1 if a reader is in its way
        except sqlite3.OperationalError:
            return 1
        return int(held)


def test_no_transaction_is_open_while_a_message_is_under_way(day: Clinic) -> None:
    book(day, "ann", "bob", "eve")
    counted: list[int] = []
    post = Post(before=lambda _: counted.append(open_transactions(day.engine)))
    delivery(day, post).deliver()
    assert counted == [0, 0, 0]


@on_sqlite
def test_no_transaction_is_open_while_a_connection_is_made(day: Clinic) -> None:
    book(day, "ann")
    counted: list[int] = []
    delivery(day, Post(at_open=lambda: counted.append(open_transactions(day.engine)))).deliver()
    assert set(counted) == {0}


def test_an_open_transaction_would_be_seen(day: Clinic) -> None:
    """The control."""
    with transaction(day.engine) as session:
        session.execute(update(Location).values(phone="+1 555 0101"))
        assert open_transactions(day.engine) == 1
    with reading(day.engine) as session:
        session.execute(select(Location)).all()
        with transaction(day.engine) as writer:
            writer.execute(update(Location).values(phone="+1 555 0102"))
        assert open_transactions(day.engine) == 1
    assert open_transactions(day.engine) == 0


def test_a_try_is_on_record_before_the_message_leaves_and_its_end_before_the_next(day: Clinic) -> None:
    book(day, "ann", "bob")
    seen: list[list[str | None]] = []

    def look(_parcel: Parcel) -> None:
        with reading(day.engine) as session:
            seen.append(list(session.scalars(select(Attempt.outcome).order_by(Attempt.started_at))))

    delivery(day, Post(before=look)).deliver()
    assert seen == [[None], ["sent", None]]


# --- a round


def test_a_round_sends_all_that_is_due_over_one_connection(day: Clinic) -> None:
    names = [f"pat{number}" for number in range(23)]
    book(day, *names)
    post = Post()
    delivery(day, post).deliver()
    assert post.recipients() == [f"{name}@example.com" for name in names]
    assert (post.connections, post.closed) == (1, 1)
    assert set(fates(day.engine)) == {Fate.SENT}


@on_sqlite
def test_staff_and_patients_are_written_to_in_one_round(day: Clinic) -> None:
    """Whoever of them cannot be written to stops nobody else."""
    book(day, "ann")
    kinds = (Kind.SET_PASSWORD, Kind.LOCKED_OUT, Kind.DAY_CHANGED)
    owe_to_staff(day, "ben@example.com", *kinds)
    owe_to_staff(day, "broken@example.com", Kind.DAY_CHANGED)
    owe_to_staff(day, "refused@example.com", Kind.DAY_CHANGED)
    post = Post()
    delivery(day, post).deliver()
    assert sorted(post.recipients()) == ["ann@example.com", *["ben@example.com"] * 3]
    assert post.connections == 1
    of_staff = (OutboxMessage.kind, OutboxMessage.status, OutboxMessage.tries)
    with reading(day.engine) as session:
        found = session.execute(select(*of_staff).where(OutboxMessage.account_id.is_not(None)))
        told = sorted((kind, status, tries) for kind, status, tries in found)
    sent = [(kind, Fate.SENT, 1) for kind in kinds]
    assert told == sorted([*sent, (Kind.DAY_CHANGED, Fate.OWED, 1), (Kind.DAY_CHANGED, Fate.FAILED, 1)])
    assert fates(day.engine) == [Fate.SENT]


def owe_to_staff(clinic: Clinic, email: str, *kinds: Kind) -> None:
    now = clinic.clock.now()
    with transaction(clinic.engine) as session:
        new = AccountDetails(email, "Somebody", Role.FRONT_DESK)
        account = accounts.add(session, new, by=Actor("account:99"), now=now)
        for kind in kinds:
            about = str(account.generation) if kind == Kind.SET_PASSWORD else "2026-11-23"
            notices.owe(session, account.id, kind, about, now=now)


def test_nobody_is_called_where_nothing_is_due(day: Clinic) -> None:
    book(day, "ann")
    post = Post()
    for _ in range(2):
        delivery(day, post).deliver()
        assert (post.connections, len(post.taken)) == (1, 1)


@on_sqlite
def test_reminders_go_when_their_hour_comes(day: Clinic, clock: FixedClock) -> None:
    """The clock walks in hours; so long before the visit something went out."""
    (visit,) = book(day, "ann")
    post, found = Post(), []
    working = delivery(day, post)
    while clock.at < visit.appointment.starts_at + HOUR:
        before = len(post.taken)
        working.deliver()
        found += [visit.appointment.starts_at - clock.at] * (len(post.taken) - before)
        clock.at += HOUR
    assert [round(ahead / HOUR) for ahead in found[1:]] == [48, 24]


def test_a_stop_between_messages_gives_the_rest_back(day: Clinic) -> None:
    book(day, "ann", "bob", "eve")
    post = Post()
    working = delivery(day, post)
    post.before = lambda _: working.stopping.set()
    working.deliver()
    assert post.recipients() == ["ann@example.com"]
    assert [(status, tries, lease) for status, _, tries, lease in confirmations(day.engine)] == [
        (Fate.SENT, 1, None),
        (Fate.OWED, 0, None),
        (Fate.OWED, 0, None),
    ]
    delivery(day, post).deliver()
    assert len(post.taken) == 3


@on_sqlite
def test_a_channel_that_breaks_gives_the_rest_back(day: Clinic) -> None:
    """Even by a mistake that nobody foresaw."""
    book(day, "ann", "bob")

    def stumble() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        delivery(day, Post(at_open=stumble)).deliver()
    assert [lease for *_, lease in confirmations(day.engine)] == [None, None]


# --- the newest words


def test_a_letter_that_changed_since_it_was_claimed_goes_in_its_newest_form(day: Clinic) -> None:
    """The channel is opened between the claim and the try."""
    book(day, "ann", "bob")
    later = day.clock.now() + 10 * DAY

    def change() -> None:
        with transaction(day.engine) as session:
            session.execute(update(Location).values(address="2 Side Street"))
            session.execute(update(Patient).values(email=Patient.name + "@new.example.com"))
            session.execute(update(Appointment).values(starts_at=later, ends_at=later + HOUR))

    post = Post(at_open=change)
    delivery(day, post).deliver()
    assert post.recipients() == ["ann@new.example.com", "bob@new.example.com"]
    for parcel in post.taken:
        assert b"2 Side Street" in parcel.content
        assert repr(later).encode() in parcel.content


def test_a_visit_cancelled_since_it_was_claimed_is_only_told_as_cancelled(day: Clinic) -> None:
    first, _ = book(day, "ann", "bob")
    cancelled: list[int] = []

    def cancel() -> None:
        if not cancelled:
            cancelled.append(1)
            day.cancel(first.token)

    post = Post(at_open=cancel)
    delivery(day, post).deliver()
    told = [(parcel.recipient, b"Kind.CANCELLATION" in parcel.content) for parcel in post.taken]
    assert sorted(told) == [("ann@example.com", True), ("bob@example.com", False)]
    assert confirmations(day.engine)[0][:3] == (Fate.SUPPRESSED, "cancelled", 0)


@on_sqlite
def test_a_visit_moved_since_it_was_claimed_is_not_told_of(day: Clinic) -> None:
    book(day, "ann")

    def move() -> None:
        with transaction(day.engine) as session:
            session.execute(update(Appointment).values(visit_version=2))

    post = Post(at_open=move)
    delivery(day, post).deliver()
    assert post.taken == []
    assert confirmations(day.engine)[0][:3] == (Fate.SUPPRESSED, "moved", 0)


# --- messages that cannot be written


@on_sqlite
def test_a_message_that_cannot_be_written_stops_nobody_else_and_fails_in_the_end(
    day: Clinic, clock: FixedClock
) -> None:
    book(day, "ann", "broken", "bob")
    post = Post()
    for number in range(1, 9):
        delivery(day, post).deliver()
        assert post.recipients() == ["ann@example.com", "bob@example.com"]
        assert confirmations(day.engine)[1][2] == number
        clock.at += timedelta(minutes=40)
    status, reason, tries, _ = confirmations(day.engine)[1]
    assert (status, tries) == (Fate.FAILED, 8)
    assert reason is not None
    assert "ZeroDivisionError" in reason
    with reading(day.engine) as session:  # a mistake of ours is none of the mail server's
        state = session.scalars(select(ChannelState)).first()
    assert state is None or state.failures == 0


@on_sqlite
def test_an_address_that_no_header_can_hold_fails_at_once(day: Clinic) -> None:
    book(day, "refused", "ann")
    post = Post()
    delivery(day, post).deliver()
    assert post.recipients() == ["ann@example.com"]
    assert [(status, tries) for status, _, tries, _ in confirmations(day.engine)] == [(Fate.FAILED, 1), (Fate.SENT, 1)]


# --- a channel that fails


@on_sqlite
def test_one_refused_address_stops_nobody_else(day: Clinic) -> None:
    book(day, "ann", "nobody", "bob")

    def refuse(parcel: Parcel) -> NotDelivered | None:
        return Refused("550 no such user") if parcel.recipient.startswith("nobody") else None

    post = Post(failure=refuse)
    delivery(day, post).deliver()
    assert post.recipients() == ["ann@example.com", "bob@example.com"]
    assert confirmations(day.engine)[1][:3] == (Fate.FAILED, "550 no such user", 1)


@on_sqlite
def test_a_server_in_trouble_is_left_alone_and_then_asked_with_one_message(day: Clinic, clock: FixedClock) -> None:
    book(day, *[f"pat{number}" for number in range(12)])
    asked: list[Parcel] = []
    post = Post(before=asked.append, failure=lambda _: Deferred("451 later"))
    working = delivery(day, post)
    for _ in range(3):
        working.deliver()
    assert len(asked) == 5
    clock.at += timedelta(seconds=16)
    working.deliver()
    assert len(asked) == 6
    post.failure = lambda _: None
    clock.at += timedelta(seconds=31)
    working.deliver()
    assert len(post.taken) == 12
    assert set(fates(day.engine)) == {Fate.SENT}


@on_sqlite
def test_a_server_that_is_away_costs_no_message_a_try(day: Clinic, clock: FixedClock) -> None:
    book(day, "ann", "bob")

    def away() -> None:
        raise Down("ConnectionRefusedError")

    post = Post(at_open=away)
    working = delivery(day, post)
    for _ in range(10):
        working.deliver()
        clock.at += timedelta(minutes=4)
    assert post.opened == 10
    assert [(status, tries, lease) for status, _, tries, lease in confirmations(day.engine)] == [
        (Fate.OWED, 0, None)
    ] * 2
    post.at_open = lambda: None
    working.deliver()
    assert len(post.taken) == 2


# --- a database that goes away while a message is under way


@pytest.fixture
def hasty(day: Clinic, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clinic]:
    """The same clinic over an engine that does not wait long for SQLite's lock."""
    monkeypatch.setattr(db, "SQLITE_WAIT_SECONDS", 0.1)
    engine = make_engine(day.engine.url.render_as_string(hide_password=False))
    yield Clinic(engine, day.clock, day.keys, day.kinds)
    engine.dispose()
    day.engine.dispose()  # its connections were thrown out as well


def once(act: Callable[[], None]) -> Callable[[Parcel], None]:
    """Do it at the first message only."""
    acts = [act]
    return lambda _parcel: acts.pop()() if acts else None


@on_sqlite
def test_what_came_of_a_message_is_noted_when_sqlites_lock_is_free_again(hasty: Clinic) -> None:
    book(hasty, "ann", "bob")
    path = str(hasty.engine.url.database)
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def lock() -> None:
        writer.execute("BEGIN IMMEDIATE")
        Timer(1.0, lambda: writer.execute("ROLLBACK")).start()

    post = Post(before=once(lock))
    delivery(hasty, post).deliver()
    writer.close()
    assert post.recipients() == ["ann@example.com", "bob@example.com"]
    assert [(status, tries) for status, _, tries, _ in confirmations(hasty.engine)] == [(Fate.SENT, 1)] * 2


@on_postgresql
def test_what_came_of_a_message_is_noted_when_postgresql_is_back(hasty: Clinic) -> None:
    """Nobody is let in for a second, and who was in is thrown out."""
    book(hasty, "ann", "bob")
    name = str(hasty.engine.url.database)
    admin = psycopg.connect(server_url(), autocommit=True)

    def let_in(*, allowed: bool) -> None:
        word = sql.SQL("true" if allowed else "false")
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), word))

    def throw_out() -> None:
        let_in(allowed=False)
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        Timer(1.0, let_in, kwargs={"allowed": True}).start()

    post = Post(before=once(throw_out))
    try:
        delivery(hasty, post).deliver()
    finally:
        with suppress(psycopg.Error):
            let_in(allowed=True)
        admin.close()
    assert post.recipients() == ["ann@example.com", "bob@example.com"]
    assert [(status, tries) for status, _, tries, _ in confirmations(hasty.engine)] == [(Fate.SENT, 1)] * 2


def server_url() -> str:
    return os.environ[postgres.URL]


# --- several workers


def test_rounds_at_once_double_nothing_and_leave_nothing(day: Clinic) -> None:
    names = [f"pat{number}" for number in range(30)]
    book(day, *names)
    posts = [Post() for _ in range(3)]
    threads = [threading.Thread(target=delivery(day, post).deliver) for post in posts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(one for post in posts for one in post.recipients()) == sorted(f"{name}@example.com" for name in names)
    assert set(fates(day.engine)) == {Fate.SENT}


@on_sqlite
def test_a_message_that_hangs_holds_up_no_other_round(day: Clinic) -> None:
    book(day, *[f"pat{number}" for number in range(14)])
    over, hanging = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        over.wait(30)

    slow, quick = Post(before=once(hang)), Post()
    thread = threading.Thread(target=delivery(day, slow).deliver)
    thread.start()
    assert hanging.wait(10)
    delivery(day, quick).deliver()
    assert len(quick.taken) == 4  # all but the batch of the round that hangs
    over.set()
    thread.join(30)
    assert len(slow.taken) == 10
    assert set(fates(day.engine)) == {Fate.SENT}
