"""Standby that is opened by several at one moment is opened once, and no more of it than the goal needs."""

import threading
from datetime import date

import pytest
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import ConstraintViolated
from scheduler.models import LeverUse, Promise, StandbyOpening
from scheduler.services import consequences, edits, levers, slots, standby
from scheduler.timeline import CELL
from scheduler.worker import Worker
from tests.clinic import HOUR, Clinic
from tests.server import at_once
from tests.services.test_hours import ADMIN
from tests.test_delivery import Post
from tests.test_worker import worker_of

TOGETHER = 6
TUESDAY = date(2026, 11, 24)
FIRST_STANDBY = 6  # after the hours of five weekdays


@pytest.fixture
def full(clinic: Clinic, clock: FixedClock) -> Clinic:
    """Booked out for 48 hours, with every evening on standby, to be opened by rule."""
    clinic.add_hours(1, 1, range(5), 18 * 60, 20 * 60, standby=True, opens_by_rule=True)
    clinic.plan()
    while offers := clinic.offers(to=clock.now() + 48 * HOUR + CELL):
        clinic.book(str(offers[0].slot))
    return clinic


def kept(engine: Engine) -> tuple[int, int]:
    with reading(engine) as session:
        return len(session.scalars(select(StandbyOpening)).all()), len(session.scalars(select(LeverUse)).all())


def race(clinic: Clinic) -> list[str]:
    """Open one day by several at once; each has seen that it is not open."""

    def act(_place: int, together: threading.Barrier) -> str:
        together.wait()
        try:
            with transaction(clinic.engine) as session:
                standby.open_day(session, FIRST_STANDBY + 1, TUESDAY, Promise.MISSED, by=ADMIN, now=clinic.clock.now())
        except ConstraintViolated:
            return "refused"
        return "opened"

    return at_once(TOGETHER, act)


def test_of_many_who_open_a_day_at_once_all_find_it_open_and_one_opened_it(full: Clinic, engine: Engine) -> None:
    assert race(full) == ["opened"] * TOGETHER
    assert kept(engine) == (1, 1)
    assert full.violations() == {}


def test_without_looking_whether_it_is_open_the_key_alone_decides(
    full: Clinic, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same race with its guards off: nobody waits, and nobody looks."""
    monkeypatch.setattr(standby, "_opening", lambda *_: None)
    monkeypatch.setattr(consequences, "alone", lambda _: None)
    monkeypatch.setattr(slots, "lock", lambda *_: None)
    monkeypatch.setattr(edits, "locked", lambda session, table, row_id: session.get_one(table, row_id))
    outcomes = race(full)
    assert outcomes.count("opened") == 1
    assert kept(engine) == (1, 1)


def ticked(clinic: Clinic) -> list[str]:
    """Several workers tick at once; all have seen that the goal is missed before any of them acts."""
    look = standby_due(clinic)
    assert len(look) == 1

    def act(_place: int, together: threading.Barrier) -> str:
        together.wait()
        with transaction(clinic.engine) as session:
            return str(len(levers.open_due(session, now=clinic.clock.now())))

    return at_once(TOGETHER, act)


def standby_due(clinic: Clinic) -> list[tuple[standby.StandbyDay, Promise]]:
    with reading(clinic.engine) as session:
        return levers.due(session, now=clinic.clock.now())


def test_of_many_workers_one_opens_what_the_goal_needs(full: Clinic, engine: Engine) -> None:
    assert sorted(ticked(full)) == ["0"] * (TOGETHER - 1) + ["1"]
    assert kept(engine) == (1, 1)
    assert full.violations() == {}


def test_workers_that_do_not_look_again_all_take_the_deed_for_theirs(
    full: Clinic, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same race without the second look: opening a day that is open keeps the harm small."""
    seen = standby_due(full)
    monkeypatch.setattr(levers, "due", lambda _session, **_now: seen)
    assert ticked(full) == ["1"] * TOGETHER
    assert kept(engine) == (1, 1)


def test_the_worker_s_tick_opens_what_is_due_once(full: Clinic, engine: Engine) -> None:
    ticking: Worker = worker_of(full, Post)
    for _ in range(2):
        ticking.open_standby()
        assert kept(engine) == (1, 1)
    assert full.offers(to=full.clock.now() + 48 * HOUR) != []
