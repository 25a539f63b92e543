"""A therapist who is asked by several at one moment for one day is noted once; and the proof that this is guarded."""

import threading
from collections.abc import Iterator
from datetime import date

import pytest
from sqlalchemy import Engine, select, text

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import ConstraintViolated
from scheduler.models import Lever, LeverUse
from scheduler.services import consequences, levers
from scheduler.services.levers import Levers
from scheduler.timeline import CELL
from tests.clinic import HOUR, Clinic
from tests.keeping import ADMIN
from tests.server import at_once

TOGETHER = 4
TUESDAY = date(2026, 11, 24)
on_postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


@pytest.fixture
def proposed(clinic: Clinic, clock: FixedClock) -> Levers:
    """Booked out for 48 hours; Ben Becker works on no day of them and is proposed."""
    clinic.add_hours(clinic.add_therapist("Ben Becker"), 1, [4], 9 * 60, 17 * 60)
    clinic.plan()
    while offers := clinic.offers(to=clock.now() + 48 * HOUR + CELL):
        clinic.book(str(offers[0].slot))
    with reading(clinic.engine) as session:
        found = levers.proposed(session, 1, now=clock.now())
    assert found is not None
    return found


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for anybody, and all have looked before anybody writes."""
    line, noted = threading.Barrier(TOGETHER), levers._noted

    def note(*args: object, **more: object) -> LeverUse:
        line.wait(timeout=20)
        return noted(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(consequences, "alone", lambda _: None)
    monkeypatch.setattr(levers, "_noted", note)


@pytest.fixture
def without_index(engine: Engine) -> Iterator[None]:
    """The database is shared by tests, so it gets its index back."""
    with engine.begin() as connection:
        made = connection.execute(text("SELECT indexdef FROM pg_indexes WHERE indexname = 'uq_lever_use_asked'"))
        index = made.scalar_one()
        connection.execute(text("DROP INDEX uq_lever_use_asked"))
    yield
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM lever_use"))
        connection.execute(text(index))


def race(clinic: Clinic, proposed: Levers) -> tuple[list[str], int]:
    def act(_place: int, together: threading.Barrier) -> str:
        together.wait()
        try:
            with transaction(clinic.engine) as session:
                levers.asked(session, 1, 2, TUESDAY, proposed, by=ADMIN, now=clinic.clock.now())
        except ConstraintViolated:
            return "refused"
        return "noted"

    outcomes = sorted(at_once(TOGETHER, act))
    with reading(clinic.engine) as session:
        return outcomes, len(session.scalars(select(LeverUse.id).where(LeverUse.lever == Lever.ASK)).all())


def test_of_several_who_asked_at_once_all_find_it_noted_once(clinic: Clinic, proposed: Levers) -> None:
    assert race(clinic, proposed) == (["noted"] * TOGETHER, 1)


@on_postgresql
def test_the_index_alone_lets_one_be_noted(clinic: Clinic, proposed: Levers, unguarded: None) -> None:
    assert race(clinic, proposed) == (["noted"] + ["refused"] * (TOGETHER - 1), 1)


@on_postgresql
def test_without_lock_and_index_it_would_be_noted_by_each(
    clinic: Clinic, proposed: Levers, unguarded: None, without_index: None
) -> None:
    assert race(clinic, proposed) == (["noted"] * TOGETHER, TOGETHER)


def test_asked_again_later_on_the_same_day_is_noted_once(clinic: Clinic, proposed: Levers, clock: FixedClock) -> None:
    """For today what is proposed gets shorter with every quarter hour; it is the same day for all that."""
    today = date(2026, 11, 23)
    for hours in (0, 1):
        clock.at += hours * HOUR
        with reading(clinic.engine) as session:
            now_proposed = levers.proposed(session, 1, now=clock.now())
        with transaction(clinic.engine) as session:
            levers.asked(session, 1, 2, today, now_proposed, by=ADMIN, now=clock.now())
    with reading(clinic.engine) as session:
        assert len(session.scalars(select(LeverUse)).all()) == 1
