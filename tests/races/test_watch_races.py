"""Two workers that look at the same moment keep a change once and say a word once; and the proof that this is guarded.

On SQLite there is no race to be had: who writes is alone from the start (BEGIN IMMEDIATE).
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import AccessWatch, AccessWord, Account, ClaimChange, Kind, OutboxMessage, Role
from scheduler.services import access_watch, claim_ledger, claims
from scheduler.services.claims import Verdict
from tests.clinic import HOUR, Clinic
from tests.server import at_once
from tests.web.staff import an_account

WORKERS = 2
on_postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


@pytest.fixture
def admin(engine: Engine, clock: FixedClock, clinic: Clinic) -> Account:
    return an_account(engine, clock, Role.ADMIN)


@pytest.fixture
def without_keys(engine: Engine) -> Iterator[None]:
    """Take the keys away that let one row be written; the database is shared by tests, so it gets them back."""
    keys = {"access_word": "location_id, kind, day", "claim_change": "claim, number"}
    with engine.begin() as connection:
        for table in keys:
            connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT pk_{table}"))
    yield
    with engine.begin() as connection:
        for table, columns in keys.items():
            connection.execute(text(f"DELETE FROM {table}"))
            connection.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({columns})"))


def together(do: Callable[[], None]) -> None:
    def worker(_place: int, line: threading.Barrier) -> None:
        line.wait(timeout=20)
        do()

    at_once(WORKERS, worker)


def noted(clinic: Clinic) -> int:
    """Let workers note the same change of the claims at once; return how many rows came of one of them."""
    clinic.add_location("Chatham")
    with reading(clinic.engine) as session:
        found: Mapping[str, Verdict] = claim_ledger.standing(claims.present(session, now=clinic.clock.now()))

    def note() -> None:
        with transaction(clinic.engine) as session:
            claim_ledger.note(session, found, now=clinic.clock.now())

    together(note)
    with reading(clinic.engine) as session:
        return len(session.scalars(select(ClaimChange.since).where(ClaimChange.claim == "everywhere")).all())


def said(clinic: Clinic, clock: FixedClock) -> tuple[int, int]:
    """Let workers say the same word at once; return how many words and how many messages came of it."""
    clinic.policy(booking_notice_minutes=3 * 1440)
    with reading(clinic.engine) as session:
        seen = access_watch.look(session, now=clock.at)
    assert seen is not None
    with transaction(clinic.engine) as session:
        access_watch.note(session, *seen, now=clock.at)
    clock.at += HOUR

    def note() -> None:
        with transaction(clinic.engine) as session:
            access_watch.note(session, *seen, now=clock.at)

    together(note)
    with reading(clinic.engine) as session:
        words = session.execute(select(AccessWord.said_at)).all()
        messages = session.scalars(select(OutboxMessage.id).where(OutboxMessage.kind == Kind.GOAL_MISSED)).all()
        assert session.scalars(select(AccessWatch.missed_told)).all() == [True]
    return len(words), len(messages)


def test_two_workers_keep_a_change_of_a_claim_once(clinic: Clinic) -> None:
    assert noted(clinic) == 1


@on_postgresql
def test_without_its_key_a_change_would_be_kept_twice(
    clinic: Clinic, without_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting_after(monkeypatch, claim_ledger, "_last", calls=WORKERS)
    assert noted(clinic) == 2


def test_two_workers_say_a_word_once(clinic: Clinic, clock: FixedClock, admin: Account) -> None:
    assert said(clinic, clock) == (1, 1)


@on_postgresql
def test_the_key_alone_lets_one_of_two_workers_say_a_word(
    clinic: Clinic, clock: FixedClock, admin: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_lock(monkeypatch)
    assert said(clinic, clock) == (1, 1)


@on_postgresql
def test_without_lock_and_key_a_word_would_be_said_twice(
    clinic: Clinic, clock: FixedClock, admin: Account, without_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_lock(monkeypatch)
    assert said(clinic, clock)[0] == 2


def without_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_watch, "alone_with", lambda _session, _name: None)
    waiting_after(monkeypatch, access_watch, "_said", calls=WORKERS, skip=1)


def waiting_after(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, *, calls: int, skip: int = 0) -> None:  # noqa: ANN401 a module
    """Let everybody who reads wait until all have read; not the first, who is alone. Of each thread once."""
    real, line, read = getattr(module, name), threading.Barrier(calls), threading.local()
    alone = [None] * skip

    def wait_after(session: Session, *more: Any) -> Any:  # noqa: ANN401 as the function that it stands for
        found = real(session, *more)
        if alone:
            alone.pop()
        elif not hasattr(read, "once"):
            read.once = True
            line.wait(timeout=20)
        return found

    monkeypatch.setattr(module, name, wait_after)
