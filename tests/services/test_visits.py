"""What a visit is marked on its day: one step at a time, taken back one step at a time, all of it on record."""

from contextlib import suppress
from datetime import timedelta
from threading import Barrier
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import NotFound, VisitClosed
from scheduler.keys import Keyring
from scheduler.models import Appointment, AuditEvent, Kind, OutboxMessage, Status
from scheduler.services import booking, letters, visits
from scheduler.services.audit import Actor
from tests.clinic import HOUR, Clinic
from tests.server import at_once

ANA = Actor("account:1", "192.0.2.1")
MARKS = (Status.ARRIVED, Status.FULFILLED, Status.NOSHOW)
ALLOWED = {
    (Status.BOOKED, Status.ARRIVED),
    (Status.BOOKED, Status.NOSHOW),
    (Status.ARRIVED, Status.FULFILLED),
}


@pytest.fixture
def visit(clinic: Clinic, clock: FixedClock) -> Appointment:
    """One that begins within the hour."""
    visit = clinic.book(str(clinic.offers()[0].slot)).appointment
    clock.at = visit.starts_at - timedelta(minutes=5)
    return visit


def act(clinic: Clinic, visit: Appointment, verb: str, status: Status) -> Status:
    with transaction(clinic.engine) as session:
        found = visits.find(session, visit.id)
        getattr(visits, verb)(session, found, status, by=ANA, now=clinic.clock.now())
        return Status(found.status)


def status_of(clinic: Clinic, visit: Appointment) -> Status:
    with reading(clinic.engine) as session:
        return Status(visits.find(session, visit.id).status)


def set_status(clinic: Clinic, visit: Appointment, status: Status) -> None:
    with transaction(clinic.engine) as session:
        session.get_one(Appointment, visit.id).status = status


def call_off(clinic: Clinic, visit: Appointment) -> None:
    with transaction(clinic.engine) as session:
        found = visits.find(session, visit.id)
        booking.call_off(session, found, None, by=ANA, keys=clinic.keys, now=clinic.clock.now())


def trail(clinic: Clinic, visit: Appointment) -> list[tuple[str, str, str, str]]:
    """What the record says was done to a visit after its booking: action, from, to, by whom."""
    own = select(AuditEvent).where(AuditEvent.entity_id == visit.id.hex, AuditEvent.action != "appointment.booked")
    with reading(clinic.engine) as session:
        rows = session.scalars(own.order_by(AuditEvent.id)).all()
        return [(row.action, row.detail["before"], row.detail["after"], row.actor) for row in rows]


def test_a_patient_arrives_and_is_treated(clinic: Clinic, visit: Appointment) -> None:
    assert act(clinic, visit, "mark", Status.ARRIVED) == Status.ARRIVED
    assert act(clinic, visit, "mark", Status.FULFILLED) == Status.FULFILLED
    assert trail(clinic, visit) == [
        ("appointment.marked", "booked", "arrived", "account:1"),
        ("appointment.marked", "arrived", "fulfilled", "account:1"),
    ]
    assert clinic.violations() == {}


@pytest.mark.parametrize("before", [status for status in Status if status is not Status.HELD])
@pytest.mark.parametrize("after", MARKS)
def test_a_mark_follows_one_status_only(clinic: Clinic, visit: Appointment, before: Status, after: Status) -> None:
    if before == Status.CANCELLED:
        call_off(clinic, visit)
    else:
        set_status(clinic, visit, before)
    if (before, after) in ALLOWED:
        assert act(clinic, visit, "mark", after) == after
        assert act(clinic, visit, "undo", after) == before
    elif before == after:
        assert act(clinic, visit, "mark", after) == before
        assert "appointment.marked" not in [action for action, *_ in trail(clinic, visit)]
    else:
        with pytest.raises(visits.OtherStatus):
            act(clinic, visit, "mark", after)
        assert status_of(clinic, visit) == before


@pytest.mark.parametrize("status", [Status.BOOKED, Status.CANCELLED])
def test_what_is_no_mark_can_be_neither_given_nor_taken_back(
    clinic: Clinic, visit: Appointment, status: Status
) -> None:
    set_status(clinic, visit, Status.ARRIVED)
    for verb in ("mark", "undo"):
        with pytest.raises(visits.OtherStatus):
            act(clinic, visit, verb, status)
    assert status_of(clinic, visit) == Status.ARRIVED


def test_two_taps_take_back_one_mark(clinic: Clinic, visit: Appointment) -> None:
    act(clinic, visit, "mark", Status.ARRIVED)
    act(clinic, visit, "mark", Status.FULFILLED)
    for _ in range(2):
        assert act(clinic, visit, "undo", Status.FULFILLED) == Status.ARRIVED
    assert [action for action, *_ in trail(clinic, visit)][2:] == ["appointment.mark_undone"]


def test_somebody_who_saw_another_mark_changes_nothing(clinic: Clinic, visit: Appointment) -> None:
    act(clinic, visit, "mark", Status.NOSHOW)
    with pytest.raises(visits.OtherStatus):
        act(clinic, visit, "undo", Status.FULFILLED)
    assert status_of(clinic, visit) == Status.NOSHOW


def test_a_visit_is_marked_from_its_local_day_on_and_not_before(clinic: Clinic, clock: FixedClock) -> None:
    """Midnight in Chicago, not in Greenwich: six hours lie between them."""
    visit = clinic.book(str(clinic.offers()[-1].slot)).appointment
    midnight = visit.starts_at.replace(hour=6, minute=0)
    for mark in (Status.ARRIVED, Status.NOSHOW):
        clock.at = midnight - timedelta(seconds=1)
        with reading(clinic.engine) as session:
            assert visits.marks(visits.find(session, visit.id), now=clock.now()) == []
        with pytest.raises(visits.NotYet):
            act(clinic, visit, "mark", mark)
        clock.at = midnight
        with reading(clinic.engine) as session:
            assert mark in visits.marks(visits.find(session, visit.id), now=clock.now())
        act(clinic, visit, "mark", mark)
        act(clinic, visit, "undo", mark)
    clock.at += timedelta(days=90)
    assert act(clinic, visit, "mark", Status.NOSHOW) == Status.NOSHOW


def test_a_marked_visit_keeps_its_time_and_cannot_be_cancelled_until_that_is_undone(
    clinic: Clinic, visit: Appointment
) -> None:
    act(clinic, visit, "mark", Status.ARRIVED)
    with pytest.raises(VisitClosed):
        call_off(clinic, visit)
    act(clinic, visit, "undo", Status.ARRIVED)
    call_off(clinic, visit)
    assert status_of(clinic, visit) == Status.CANCELLED
    assert clinic.violations() == {}


def test_a_visit_that_is_marked_reminds_nobody(clinic: Clinic, clock: FixedClock) -> None:
    visit = clinic.book(str(clinic.offers()[-1].slot)).appointment
    clock.at = visit.starts_at - 2 * HOUR
    act(clinic, visit, "mark", Status.ARRIVED)
    reminders = select(OutboxMessage.id).where(OutboxMessage.kind == Kind.REMINDER)
    with reading(clinic.engine) as session:
        owed = session.scalars(reminders).all()
    with transaction(clinic.engine) as session:
        said = [letters.current(session, message, keys=clinic.keys, now=clock.now()) for message in owed]
    assert said
    assert set(said) == {"the visit has begun"}


def test_there_is_no_visit_that_nobody_booked(clinic: Clinic) -> None:
    with pytest.raises(NotFound), reading(clinic.engine) as session:
        visits.find(session, uuid4())


def test_of_two_marks_at_one_moment_one_is_given(clinic: Clinic, visit: Appointment) -> None:
    def tap(place: int, together: Barrier) -> str:
        status = (Status.ARRIVED, Status.NOSHOW)[place % 2]
        together.wait()
        try:
            return act(clinic, visit, "mark", status)
        except visits.OtherStatus:
            return "refused"

    answers = at_once(8, tap)
    given = status_of(clinic, visit)
    assert sorted(answers) == sorted([given] * 4 + ["refused"] * 4)
    assert [(before, after) for _, before, after, _ in trail(clinic, visit)] == [("booked", given)]


TAPS = st.lists(st.tuples(st.sampled_from(["mark", "undo"]), st.sampled_from(Status)), max_size=12)


def test_any_sequence_of_taps_keeps_every_invariant_and_is_told_by_the_record(
    engine: Engine, clock: FixedClock, keys: Keyring
) -> None:
    """Beside a model of one line: what is allowed moves on, what is not changes nothing."""
    clinic = Clinic.of_one_day(engine, clock, keys)
    visit = clinic.book(str(clinic.offers()[0].slot)).appointment
    clock.at = visit.starts_at

    @given(taps=TAPS)
    @hypothesis_settings(
        max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def holds(taps: list[tuple[str, Status]]) -> None:
        expected, known = status_of(clinic, visit), len(trail(clinic, visit))
        way = []
        for verb, status in taps:
            steps = ALLOWED if verb == "mark" else {(after, before) for before, after in ALLOWED}
            goal = status if verb == "mark" else next((before for before, after in ALLOWED if after == status), None)
            with suppress(visits.OtherStatus):
                act(clinic, visit, verb, status)
            if goal is not None and (expected, goal) in steps and (verb == "mark" or status == expected):
                way.append((expected, goal))
                expected = goal
            assert status_of(clinic, visit) == expected
        assert [(before, after) for _, before, after, _ in trail(clinic, visit)[known:]] == way
        assert clinic.violations() == {}

    holds()
