"""Why a time is offered or is not: each reason, and that the answer is what booking does."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from sqlalchemy import Engine, delete, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotBookable
from scheduler.models import License, Location, Slot, Therapist
from scheduler.services import booking, holds, reasons
from scheduler.services.availability import SlotName
from scheduler.services.holds import HoldTime
from scheduler.services.reasons import Question, Reason, Verdict
from scheduler.services.time_away import OffDetails
from scheduler.timeline import CELL, DAY, first_instant, zone_of
from tests.clinic import Clinic
from tests.services.test_time_away import CHRISTMAS, booked, close, give

WEDNESDAY = date(2026, 12, 2)
CHICAGO = zone_of("America/Chicago")


def start(day: date, hour: int, minute: int = 0) -> SlotName:
    return SlotName(1, 1, first_instant(day, hour * 60 + minute, CHICAGO))


def why(clinic: Clinic, at: SlotName, kind: str = "Evaluation", *, by_staff: bool = False) -> Verdict:
    with reading(clinic.engine) as session:
        return reasons.why(session, Question(at, clinic.kinds[kind], by_staff), now=clinic.clock.now())


def test_a_time_that_can_be_booked(clinic: Clinic) -> None:
    assert why(clinic, start(WEDNESDAY, 9)).reason is Reason.OFFERED


@pytest.mark.parametrize(("hour", "minute"), [(7, 45), (17, 0), (23, 0)])
def test_outside_the_hours(clinic: Clinic, hour: int, minute: int) -> None:
    assert why(clinic, start(WEDNESDAY, hour, minute)).reason is Reason.OUTSIDE_HOURS


def test_hours_that_end_before_the_visit_and_its_buffer_do(clinic: Clinic, engine: Engine) -> None:
    verdict = why(clinic, start(WEDNESDAY, 16, 45))
    assert verdict.reason is Reason.HOURS_TOO_SHORT
    assert verdict.needed_until > first_instant(WEDNESDAY, 17 * 60, CHICAGO)


def test_a_closure_and_time_off(clinic: Clinic) -> None:
    close(
        clinic, replace(CHRISTMAS, starts_on=WEDNESDAY, ends_on=WEDNESDAY, starts_minute=12 * 60, ends_minute=13 * 60)
    )
    give(clinic, OffDetails(WEDNESDAY, 14 * 60, WEDNESDAY, 15 * 60))
    assert why(clinic, start(WEDNESDAY, 12)).reason is Reason.CLOSED_THEN
    assert why(clinic, start(WEDNESDAY, 14)).reason is Reason.THERAPIST_OFF


def test_a_licence_that_is_not_there(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(delete(License).where(License.kind != "pt"))
    assert why(clinic, start(WEDNESDAY, 9), "Needling").reason is Reason.NOT_LICENSED
    assert why(clinic, start(WEDNESDAY, 9)).reason is Reason.OFFERED
    with transaction(engine) as session:
        session.execute(delete(License))
    assert why(clinic, start(WEDNESDAY, 9)).reason is Reason.NOT_LICENSED


@pytest.mark.parametrize(
    ("table", "changes", "reason", "of_staff"),
    [
        (Therapist, {"active": False}, Reason.THERAPIST_GONE, Reason.THERAPIST_GONE),
        (Location, {"active": False}, Reason.LOCATION_CLOSED, Reason.LOCATION_CLOSED),
        (Location, {"online": False}, Reason.NOT_ONLINE, Reason.OFFERED),
    ],
)
def test_who_is_gone_and_what_is_not_open(
    clinic: Clinic, engine: Engine, table: type, changes: dict[str, bool], reason: Reason, of_staff: Reason
) -> None:
    with transaction(engine) as session:
        for name, value in changes.items():
            setattr(session.get_one(table, 1), name, value)
    assert why(clinic, start(WEDNESDAY, 9)).reason is reason
    assert why(clinic, start(WEDNESDAY, 9), by_staff=True).reason is of_staff


def test_notice_and_horizon_bind_patients_only(clinic: Clinic) -> None:
    clinic.policy(booking_notice_minutes=24 * 60, booking_horizon_days=20)
    soon, late = clinic.clock.now() + 2 * timedelta(hours=1), start(WEDNESDAY + 14 * DAY, 9)
    at = SlotName(1, 1, soon.replace(minute=0))
    assert [why(clinic, at, by_staff=by_staff).reason for by_staff in (False, True)] == [
        Reason.TOO_SOON,
        Reason.OFFERED,
    ]
    told = [why(clinic, late, by_staff=by_staff).reason for by_staff in (False, True)]
    assert told == [Reason.TOO_LATE, Reason.OFFERED]
    for day in (date(2027, 3, 3), date(2028, 12, 6)):
        assert why(clinic, start(day, 9)).reason is Reason.TOO_LATE
    assert why(clinic, start(date(2027, 3, 3), 9), by_staff=True).reason is Reason.NOT_PLANNED
    for by_staff in (False, True):
        assert why(clinic, start(WEDNESDAY - 14 * DAY, 9), by_staff=by_staff).reason is Reason.TOO_SOON


def test_a_visit_that_has_the_time_or_begins_too_soon_after(clinic: Clinic) -> None:
    first = booked(clinic, WEDNESDAY)
    visit, token = first.appointment, first.token
    begins, ends = visit.slots_start, visit.slots_end
    taken = why(clinic, SlotName(1, 1, begins + CELL))
    assert (taken.reason, taken.taken_from, taken.taken_until) == (Reason.TAKEN, begins, ends)
    clinic.cancel(token)
    later = clinic.book(str(SlotName(1, 1, begins + 3 * CELL)), "Follow-up").appointment
    short = why(clinic, SlotName(1, 1, begins + CELL))
    assert (short.reason, short.taken_from) == (Reason.TAKEN_SOON, later.slots_start)


def test_a_time_that_somebody_holds_until_they_do_no_more(clinic: Clinic, clock: FixedClock) -> None:
    at = start(WEDNESDAY, 9)
    with transaction(clinic.engine) as session:
        held = holds.hold(session, HoldTime(str(at), clinic.kinds["Evaluation"]), now=clock.now())
    assert why(clinic, at).reason is Reason.HELD
    assert why(clinic, start(WEDNESDAY, 8, 30)).reason is Reason.HELD
    clock.at = held.expires_at
    assert why(clinic, at).reason is Reason.OFFERED
    assert can_be_booked(clinic, at, "Evaluation")


@pytest.mark.parametrize(
    ("at", "kind", "field"),
    [
        (SlotName(9, 1, datetime.fromisoformat("2026-12-02T15:00+00:00")), 1, "therapist"),
        (SlotName(1, 9, datetime.fromisoformat("2026-12-02T15:00+00:00")), 1, "location"),
        (SlotName(1, 1, datetime.fromisoformat("2026-12-02T15:00+00:00")), 99, "type"),
        (SlotName(1, 1, datetime.fromisoformat("2026-12-02T15:10+00:00")), 1, "at"),
    ],
)
def test_what_there_is_not_is_named(clinic: Clinic, at: SlotName, kind: int, field: str) -> None:
    with pytest.raises(Invalid) as refused, reading(clinic.engine) as session:
        reasons.why(session, Question(at, kind), now=clinic.clock.now())
    assert refused.value.field == field


@pytest.mark.parametrize("kind", ["Evaluation", "Needling"])
def test_what_is_said_is_what_booking_does(clinic: Clinic, clock: FixedClock, kind: str) -> None:
    """Every quarter hour of two days, of which a closure, time off and three visits have a part."""
    clinic.policy(booking_notice_minutes=120)
    close(
        clinic, replace(CHRISTMAS, starts_on=WEDNESDAY, ends_on=WEDNESDAY, starts_minute=12 * 60, ends_minute=13 * 60)
    )
    give(clinic, OffDetails(WEDNESDAY, 15 * 60, WEDNESDAY, 16 * 60))
    for hour in (8, 10, 14):
        clinic.book(str(start(WEDNESDAY, hour, 15)), "Follow-up")
    clock.at = first_instant(WEDNESDAY, 6 * 60, CHICAGO)
    said = {}
    with reading(clinic.engine) as session:
        there = set(session.scalars(select(Slot.starts_at)))
    for number in range(4 * 13):
        at = SlotName(1, 1, first_instant(WEDNESDAY, 6 * 60, CHICAGO) + number * CELL)
        reason = said[at] = why(clinic, at, kind).reason
        assert (reason is Reason.OFFERED) == can_be_booked(clinic, at, kind), (at, reason)
        assert at.starts_at in there or reason not in {Reason.OFFERED, Reason.TAKEN, Reason.TAKEN_SOON}, (at, reason)
    expected = {
        Reason.OUTSIDE_HOURS, Reason.TAKEN, Reason.TAKEN_SOON, Reason.CLOSED_THEN, Reason.THERAPIST_OFF,
        Reason.HOURS_TOO_SHORT, Reason.OFFERED,
    }  # fmt: skip
    assert set(said.values()) >= expected


def can_be_booked(clinic: Clinic, at: SlotName, kind: str) -> bool:
    """Whether booking takes it, in a transaction that is taken back."""
    try:
        with transaction(clinic.engine) as session:
            booking.book(session, clinic.request(str(at), kind), keys=clinic.keys, now=clinic.clock.now())
            session.rollback()
    except (NotBookable, Invalid):
        return False
    return True
