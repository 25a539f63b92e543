"""The planner: what it looks at, in which steps, and what it notes of what it did."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import date, datetime, timedelta

import pytest
from sqlalchemy import Engine, delete, event, func, select, text, update
from sqlalchemy.orm import Session

from scheduler import worker
from scheduler.clock import FixedClock
from scheduler.db import LOOK_AGAIN_SECONDS, reading, transaction
from scheduler.models import (
    AppointmentType,
    CalendarPlan,
    ClinicPolicy,
    Closure,
    License,
    Location,
    Slot,
    Therapist,
    TimeOff,
    TimeOffStatus,
    WorkingHours,
)
from scheduler.services import planning, slots
from scheduler.services.planning import Due
from scheduler.services.slots import Changes
from scheduler.timeline import CELL, DAY, Stretch
from tests.clinic import Clinic

NOTHING = Changes()
TOMORROW = date(2026, 11, 24)


def cells(engine: Engine) -> set[tuple[object, ...]]:
    with reading(engine) as session:
        return {tuple(row) for row in session.execute(select(*Slot.__table__.columns))}


def due(clinic: Clinic) -> list[Due]:
    with reading(clinic.engine) as session:
        return [one for chunk in planning.due(session, now=clinic.clock.now()) for one in chunk]


def forget(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(delete(CalendarPlan))


def test_of_a_calendar_that_was_planned_nothing_is_looked_at_again(clinic: Clinic) -> None:
    assert due(clinic) == []
    assert clinic.plan() == NOTHING


def test_a_calendar_is_compared_once_a_day_whatever_its_note_says(clinic: Clinic, clock: FixedClock) -> None:
    with transaction(clinic.engine) as session:
        session.execute(delete(Slot).where(Slot.starts_at >= clock.now() + 7 * DAY))
    assert clinic.plan() == NOTHING
    clock.at += DAY
    assert clinic.plan().added > 0
    assert clinic.violations() == {}
    assert due(clinic) == []


def close(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.add(
            Closure(
                location_id=1, starts_on=TOMORROW, starts_minute=0, ends_on=TOMORROW, ends_minute=720, reason="Paint"
            )
        )


def rest(clinic: Clinic, status: TimeOffStatus = TimeOffStatus.APPROVED) -> None:
    with transaction(clinic.engine) as session:
        session.add(
            TimeOff(
                therapist_id=1, starts_on=TOMORROW, starts_minute=0, ends_on=TOMORROW, ends_minute=720,
                status=status, asked_at=clinic.clock.now(),
            )
        )  # fmt: skip


def set_all(table: type[object], **values: object) -> Callable[[Clinic], None]:
    def change(clinic: Clinic) -> None:
        with transaction(clinic.engine) as session:
            session.execute(update(table).values(**values))

    return change


def allow_longer_visits(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).where(AppointmentType.minutes == 60).values(minutes=75))


def forbid_needling(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.add(clinic.rule("IL", needling="forbidden", valid_from=TOMORROW))


CHANGES = {
    "hours": set_all(WorkingHours, closes_minute=16 * 60),
    "fewer-weeks": set_all(WorkingHours, every_weeks=2),
    "closure": close,
    "time-off": rest,
    "licence": set_all(License, valid_until=TOMORROW),
    "rule": forbid_needling,
    "zone": set_all(Location, time_zone="America/Denver"),
    "place-closed": set_all(Location, active=False),
    "therapist-left": set_all(Therapist, active=False),
    "longest-visit": allow_longer_visits,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_any_row_that_a_calendar_follows_from_is_found(
    clinic: Clinic, engine: Engine, change: Callable[[Clinic], None]
) -> None:
    before = cells(engine)
    change(clinic)
    clinic.plan()
    assert cells(engine) != before
    assert clinic.violations() == {}
    assert due(clinic) == []


def test_time_off_that_is_only_asked_for_changes_nothing(clinic: Clinic) -> None:
    rest(clinic, TimeOffStatus.ASKED)
    assert due(clinic) == []


def test_only_new_days_are_made_when_the_horizon_moves(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    with transaction(engine) as session:
        session.execute(update(ClinicPolicy).values(booking_horizon_days=100))
    calendar = due(clinic)[0]
    assert calendar.since is not None
    assert calendar.until - calendar.since == 10 * DAY
    assert clinic.plan().added > 0
    assert clinic.violations() == {}


@pytest.mark.parametrize("hours", [(0, 24 * 60), (9 * 60, 18 * 60), (18 * 60, 30 * 60)])
def test_calendars_made_at_once_are_those_that_are_compared_and_mended(
    clinic: Clinic, engine: Engine, hours: tuple[int, int]
) -> None:
    with transaction(engine) as session:
        session.execute(delete(WorkingHours))
    place = clinic.add_location("Harbor", "America/Los_Angeles", "CA")
    for number in range(4):
        whose = clinic.add_therapist(f"New {number}")
        with transaction(engine) as session:
            session.add(clinic.license(whose, "pt", "CA"))
        clinic.add_hours(whose, place, range(7), *hours)
    clinic.plan()
    made = cells(engine)
    assert clinic.violations() == {}
    forget(engine)
    assert clinic.plan() == NOTHING
    assert cells(engine) == made


def test_a_step_that_was_planned_before_a_change_follows_the_change(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(delete(Slot))
    forget(engine)
    with reading(engine) as session:
        chunk = planning.due(session, now=clinic.clock.now())[0]
        _, steps = planning.steps(session, chunk, now=clinic.clock.now())
    close(clinic)
    for step in reversed(steps):  # in any order
        with transaction(engine) as session:
            planning.do(session, step, now=clinic.clock.now())
    assert clinic.violations() == {}
    with transaction(engine) as session:
        planning.note(session, chunk)
    assert len(due(clinic)) == 1  # the note is of what was before
    assert clinic.plan() == NOTHING


def test_without_a_second_look_a_step_would_follow_what_was_before(
    clinic: Clinic, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    with transaction(engine) as session:
        session.execute(delete(Slot))
    forget(engine)
    with reading(engine) as session:
        chunk = planning.due(session, now=clinic.clock.now())[0]
        _, steps = planning.steps(session, chunk, now=clinic.clock.now())
    close(clinic)
    monkeypatch.setattr(planning, "_bases", lambda *_: {one.therapist_id: one.basis for one in chunk})
    for step in steps:
        with transaction(engine) as session:
            planning.do(session, step, now=clinic.clock.now())
    assert clinic.violations() != {}


def test_a_step_twice_or_beside_a_visit_changes_nothing_more(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(delete(Slot).where(Slot.starts_at >= clinic.clock.now() + 30 * DAY))
    forget(engine)
    with reading(engine) as session:
        chunk = planning.due(session, now=clinic.clock.now())[0]
        _, steps = planning.steps(session, chunk, now=clinic.clock.now())
    assert all(step.end - step.start <= slots.WINDOW for step in steps)
    for step in [*steps, *steps]:
        with transaction(engine) as session:
            planning.do(session, step, now=clinic.clock.now())
        clinic.book(str(clinic.offers()[-1].slot))
    assert clinic.violations() == {}
    assert clinic.plan() == NOTHING


def test_cells_are_filled_in_only_where_there_are_none(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    start = clock.now() + 30 * DAY
    stretch = Stretch(1, 1, start, start + 4 * CELL, needling=True)
    with transaction(engine) as session:
        assert slots.fill(session, [1], [stretch], clock.now(), clock.now() + DAY) is None
        session.execute(delete(Slot).where(Slot.starts_at >= start, Slot.starts_at < start + 4 * CELL))
        assert slots.fill(session, [1], [stretch], start, start + 4 * CELL) == Changes(4)
        assert slots.count_misfits(session) == 0


def test_looking_for_what_is_due_takes_as_many_statements_for_many(clinic: Clinic, engine: Engine) -> None:
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, sql, *_: asked.append(sql))
    due(clinic)
    few = len(asked)
    for number in range(5):
        clinic.add_hours(clinic.add_therapist(f"New {number}"), 1)
    clinic.plan()
    asked.clear()
    assert due(clinic) == []
    assert len(asked) == few
    assert not any("FROM slot" in sql and "EXISTS" not in sql for sql in asked)


def test_a_calendar_that_cannot_be_planned_is_tried_again_and_stops_no_other(clinic: Clinic, engine: Engine) -> None:
    bad, good = clinic.add_therapist("Lost In Space"), clinic.add_therapist("On Time")
    clinic.add_hours(bad, clinic.add_location("Nowhere"))
    clinic.add_hours(good, clinic.add_location("Somewhere"))
    with transaction(engine) as session:
        session.execute(text("UPDATE location SET time_zone = 'America/Nowhere' WHERE name = 'Nowhere'"))
    clinic.plan()
    with reading(engine) as session:
        counted = dict(session.execute(select(Slot.therapist_id, func.count()).group_by(Slot.therapist_id)).all())
    assert counted.get(bad) is None
    assert counted[good] > 0
    assert [one.therapist_id for one in due(clinic)] == [bad]


def more(clinic: Clinic, therapists: int) -> None:
    for number in range(therapists):
        clinic.add_hours(clinic.add_therapist(f"New {number}"), 1)


def test_no_step_makes_more_than_so_many_days_of_calendars(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    more(clinic, 8)
    with reading(engine) as session:
        steps = [
            step
            for chunk in planning.due(session, now=clock.now())
            for step in planning.steps(session, chunk, now=clock.now())[1]
        ]
    assert steps
    for step in steps:
        assert len(step.calendars) * ((step.end - step.start) / timedelta(days=1)) <= planning.THERAPIST_DAYS_A_STEP


def plan_beside_a_writer(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, someone: ThreadPoolExecutor, patience: float
) -> list[str]:
    """Plan calendars while someone waits for them who began to in the first step; say what happened, in order.

    A pause lasts until the writer is done, or as long as `patience` has it, in seconds.
    """
    told, done, make = list[str](), threading.Event(), planning.do

    def write(therapist_id: int) -> None:
        with transaction(clinic.engine) as session:
            slots.lock(session, [therapist_id])
            told.append("writer")
        done.set()

    def do(session: Session, step: planning.Step, *, now: datetime) -> Changes:
        changed = make(session, step, now=now)
        if not told:
            someone.submit(write, step.calendars[0].therapist_id)
            assert not done.wait(0.05)  # it has to wait for this step
        told.append("step")
        return changed

    monkeypatch.setattr(planning, "do", do)
    monkeypatch.setattr(worker, "sleep", lambda _seconds: done.wait(patience))
    clinic.plan()
    return told


def test_a_writer_that_waits_gets_its_turn_between_two_steps(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held in the pause, which is longer than a writer of SQLite takes to look again."""
    more(clinic, 1)
    with ThreadPoolExecutor(1) as someone:
        told = plan_beside_a_writer(clinic, monkeypatch, someone, 10)
    assert told[:3] == ["step", "writer", "step"]
    assert set(told[3:]) == {"step"}
    assert worker.PAUSE_SECONDS > LOOK_AGAIN_SECONDS
    assert clinic.violations() == {}


def test_a_writer_would_wait_for_all_steps_of_one_transaction(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    more(clinic, 1)
    with ThreadPoolExecutor(1) as someone, transaction(clinic.engine) as session:
        monkeypatch.setattr(worker, "transaction", lambda _engine: nullcontext(session))
        told = plan_beside_a_writer(clinic, monkeypatch, someone, 0.02)
        assert len(told) > 1
        assert set(told) == {"step"}
    assert told[-1] == "writer"
