"""What the preview of a change tells of the access goal: when it would be missed that is kept now."""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from scheduler.db import reading, transaction
from scheduler.models import AppointmentType
from scheduler.services import access_rules, availability, goal_changed, time_away
from scheduler.services.audit import Actor
from scheduler.services.availability import Find
from scheduler.services.consequences import UNSEEN, NotAgreed
from scheduler.services.goal_changed import LOOKED_AHEAD, NewlyMissed, Reach
from scheduler.services.time_away import ClosureDetails
from scheduler.services.windows import Times
from scheduler.timeline import CELL, DAY, EPOCH
from tests.clinic import Clinic

ADMIN = Actor("account:1", "192.0.2.1")
HOUR = timedelta(hours=1)
TUESDAY_TO_FRIDAY = ClosureDetails(date(2026, 11, 24), 0, date(2026, 11, 27), 24 * 60, "Water in the cellar")


def told(clinic: Clinic, details: ClosureDetails, places: tuple[int, ...] = (1,)) -> list[NewlyMissed]:
    with pytest.raises(NotAgreed) as refused, transaction(clinic.engine) as session:
        time_away.close(session, places, details, agreed=UNSEEN, by=ADMIN, now=clinic.clock.now())
    return list(refused.value.missed)


def soonest_from(clinic: Clinic, moment: datetime) -> datetime | None:
    """The soonest start that somebody could book who asked at this moment, by search, notice included."""
    with reading(clinic.engine) as session:
        find = Find(1, from_=moment + timedelta(minutes=60), limit=1)
        offers = availability.search(session, find, now=clinic.clock.now()).offers
        return offers[0].slot.starts_at if offers else None


def missed_by_search(clinic: Clinic, moments: list[datetime]) -> set[datetime]:
    return {
        moment
        for moment in moments
        if (start := soonest_from(clinic, moment)) is None or start > moment + timedelta(hours=48)
    }


def test_a_closure_tells_in_which_hours_the_goal_would_newly_be_missed(clinic: Clinic) -> None:
    moments = [clinic.clock.now() + number * HOUR + timedelta(minutes=7) for number in range(24 * 10)]
    before = missed_by_search(clinic, moments)
    (missed,) = told(clinic, TUESDAY_TO_FRIDAY)
    with transaction(clinic.engine) as session:
        time_away.close(session, [1], TUESDAY_TO_FRIDAY, agreed=None, by=ADMIN, now=clinic.clock.now())
    newly = missed_by_search(clinic, moments) - before
    assert newly
    assert missed.location == "Springfield"
    assert {moment for moment in moments if any(start < moment < end for start, end in missed.times)} == newly
    assert missed.hours == sum((end - start for start, end in missed.times), timedelta()) / HOUR


def test_weekends_that_are_missed_already_are_not_told_again(clinic: Clinic) -> None:
    """Mon–Fri clinics miss every weekend; a closed hour on a working day misses nothing that was kept."""
    lunch = ClosureDetails(date(2026, 11, 25), 12 * 60, date(2026, 11, 25), 13 * 60, "Meeting")
    assert told(clinic, lunch) == []
    with reading(clinic.engine) as session:
        assert goal_changed.reach(session, [1], now=clinic.clock.now()).missed[1]


def test_a_place_where_others_go_on_keeps_the_goal(clinic: Clinic) -> None:
    clinic.add_hours(clinic.add_therapist("Somebody Else"), clinic.add_location("Uptown"))
    clinic.plan()
    assert [one.location for one in told(clinic, TUESDAY_TO_FRIDAY)] == ["Springfield"]


def test_without_a_kind_for_new_patients_there_is_no_goal_to_miss(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        for kind in session.query(AppointmentType):
            kind.new_patient = False
    assert told(clinic, TUESDAY_TO_FRIDAY) == []


def test_a_place_that_is_not_open_online_is_not_looked_at(clinic: Clinic) -> None:
    nothing = Reach({}, {})
    with reading(clinic.engine) as session:
        kept = goal_changed.reach(session, [1], now=clinic.clock.now())
    assert goal_changed.newly_missed(nothing, kept) == []
    assert goal_changed.newly_missed(kept, nothing) == []


def test_many_places_are_asked_of_in_as_few_statements(clinic: Clinic) -> None:
    asked: list[str] = []
    event.listen(clinic.engine, "before_cursor_execute", lambda _c, _cursor, sql, *_: asked.append(sql))

    def count() -> int:
        asked.clear()
        with reading(clinic.engine) as session:
            goal_changed.reach(session, range(1, 9), now=clinic.clock.now())
        return len(asked)

    few = count()
    for number in range(5):
        clinic.add_hours(clinic.add_therapist(f"New {number}"), clinic.add_location(f"Place {number}"))
    clinic.plan()
    assert count() == few


def test_nothing_is_told_of_times_that_nobody_can_book_yet(clinic: Clinic) -> None:
    clinic.policy(booking_horizon_days=7)
    with reading(clinic.engine) as session:
        missed = goal_changed.reach(session, [1], now=clinic.clock.now()).missed[1]
    assert all(end <= clinic.clock.now() + 7 * DAY < clinic.clock.now() + LOOKED_AHEAD for _, end in missed)


INTERVALS = st.lists(st.integers(0, 60), unique=True, max_size=12).map(
    lambda edges: [
        (EPOCH + a * CELL, EPOCH + b * CELL) for a, b in zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False)
    ]
)


def quarters(times: list[Times]) -> set[datetime]:
    return {start + n * CELL for start, end in times for n in range((end - start) // CELL)}


@given(INTERVALS, INTERVALS)
def test_what_lies_apart_is_what_lies_in_no_other(times: list[Times], others: list[Times]) -> None:
    apart = access_rules.apart(times, others)
    assert quarters(apart) == quarters(times) - quarters(others)
    assert apart == sorted(apart)
    assert all(start < end for start, end in apart)
