"""What the preview of a change tells of the access goal: when it would be missed that is kept now."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.keys import Keyring
from scheduler.models import AppointmentType, ClinicPolicy, Location, Therapist
from scheduler.services import access_rules, availability, edits, goal_changed, practice, time_away
from scheduler.services import clinic as changes
from scheduler.services.audit import Actor
from scheduler.services.availability import Find
from scheduler.services.clinic import PolicyDetails
from scheduler.services.consequences import UNSEEN, NotAgreed
from scheduler.services.goal_changed import PREVIEWED, NewlyMissed, Reach
from scheduler.services.time_away import ClosureDetails
from scheduler.services.windows import Times
from scheduler.timeline import CELL, DAY, EPOCH, HOUR
from tests.clinic import Clinic
from tests.services.test_access_goal import a_plan, build

ADMIN = Actor("account:1", "192.0.2.1")
MINUTE = timedelta(minutes=1)
Change = Callable[[Session, str | None, datetime], None]
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
    """Its therapist has no hours elsewhere, and nobody misses what patients cannot book."""
    quiet = clinic.add_location("Quiet")
    clinic.add_hours(clinic.add_therapist("Somebody Else"), quiet)
    clinic.plan()
    both = (1, quiet)
    assert [one.location for one in told(clinic, TUESDAY_TO_FRIDAY, both)] == ["Quiet", "Springfield"]
    with transaction(clinic.engine) as session:
        session.get_one(Location, quiet).online = False
    assert [one.location for one in told(clinic, TUESDAY_TO_FRIDAY, both)] == ["Springfield"]


def test_a_place_that_a_change_opens_or_closes_has_nothing_to_compare(clinic: Clinic) -> None:
    now = clinic.clock.now()
    nothing = Reach({}, {}, 48, now + 7 * DAY)
    with reading(clinic.engine) as session:
        kept = goal_changed.reach(session, [1], now=now)
    no_goal = Reach(kept.places, {}, 48, kept.until)
    missed = replace(kept, missed={1: [(now, now + HOUR)]})
    assert goal_changed.newly_missed(replace(kept, missed={1: []}), missed)
    for before, after in ((nothing, missed), (kept, nothing), (no_goal, missed)):
        assert goal_changed.newly_missed(before, after) == []


# --- kinds of visit and the clinic's policy


def of_kind(**new: Any) -> Change:  # noqa: ANN401 fields of TypeDetails
    """Change the goal's kind of visit."""

    def change(session: Session, agreed: str | None, now: datetime) -> None:
        kind = goal_kind(session)
        before = changes.type_details(session, kind)
        seal = edits.seal_of(before)
        changes.change_type(session, kind.id, replace(before, **new), seal=seal, agreed=agreed, by=ADMIN, now=now)

    return change


def of_policy(**new: Any) -> Change:  # noqa: ANN401 fields of PolicyDetails
    def change(session: Session, agreed: str | None, now: datetime) -> None:
        before = edits.read_off(PolicyDetails, practice.policy(session))
        seal = edits.seal_of(before)
        changes.change_policy(session, replace(before, **new), seal=seal, agreed=agreed, by=ADMIN, now=now)

    return change


def goal_kind(session: Session) -> AppointmentType:
    kind = practice.goal_type(practice.appointment_types(session))
    assert kind is not None
    return kind


def known_until(clinic: Clinic) -> datetime:
    """Until when a start within the goal of a moment would be in the calendar, or is within the weeks told of."""
    with reading(clinic.engine) as session:
        policy = session.get_one(ClinicPolicy, 1)
        ahead = min(PREVIEWED, policy.booking_horizon_days * DAY)
        return clinic.clock.now() + ahead - policy.access_goal_hours * HOUR


def kept(clinic: Clinic, place_id: int, moments: Iterable[datetime]) -> set[datetime]:
    """The moments at which a patient who searches then, by the notice and horizon of then, finds a start in time."""
    with reading(clinic.engine) as session:
        goal = session.get_one(ClinicPolicy, 1).access_goal_hours * HOUR
        find = Find(goal_kind(session).id, location_id=place_id, limit=1)
        found = {moment: availability.search(session, find, now=moment).offers for moment in moments}
    return {moment for moment, offers in found.items() if offers and offers[0].slot.starts_at <= moment + goal}


def told_as_search_has_it(clinic: Clinic, change: Change) -> list[NewlyMissed]:
    """Make a change as an administrator does; what was told of the goal must be what becomes of search.

    It is searched every two hours, and a minute to either side of each edge that was told, before and after.
    """
    now, ends, told = clinic.clock.now(), [known_until(clinic)], list[NewlyMissed]()
    with reading(clinic.engine) as session:
        places = {place.name: place.id for place in practice.online_locations(session)}
    moments = {now + number * 2 * HOUR + 7 * MINUTE for number in range((ends[0] - now) // HOUR // 2)}
    before = {name: kept(clinic, place_id, moments) for name, place_id in places.items()}
    try:
        with transaction(clinic.engine) as session:
            change(session, UNSEEN, now)
    except NotAgreed as refusal:
        told = list(refusal.missed)
        edges = {edge + side for one in told for times in one.times for edge in times for side in (-MINUTE, MINUTE)}
        moments |= {edge for edge in edges if edge > now}
        before = {name: kept(clinic, place_id, moments) for name, place_id in places.items()}
        with transaction(clinic.engine) as session:
            change(session, refusal.agreement, now)
    moments = {moment for moment in moments if moment < min(*ends, known_until(clinic))}
    for name, place_id in places.items():
        newly = before[name] - kept(clinic, place_id, moments)
        times = [times for one in told if one.location == name for times in one.times]
        assert {moment for moment in moments if any(start < moment < end for start, end in times)} == newly & moments
    return told


@pytest.fixture
def two_places(clinic: Clinic) -> Clinic:
    """Ana in Springfield, and Ben, who may not needle, on three mornings Uptown; calendars of twelve days."""
    clinic.policy(booking_horizon_days=12)
    clinic.add_hours(
        clinic.add_therapist("Ben Becker", kinds=("pt",)),
        clinic.add_location("Uptown"),
        weekdays=(0, 2, 4),
        opens=9 * 60,
        closes=12 * 60,
    )
    clinic.plan()
    return clinic


MISSED = {
    "minutes": (of_kind(minutes=180), ["Springfield", "Uptown"]),
    "buffer": (of_kind(buffer_minutes=120), ["Springfield", "Uptown"]),
    "notice": (of_kind(notice_minutes=40 * 60), ["Springfield", "Uptown"]),
    "notice-beyond-the-goal": (of_kind(notice_minutes=49 * 60), ["Springfield", "Uptown"]),
    "horizon": (of_kind(horizon_days=1), ["Springfield", "Uptown"]),
    "needling": (of_kind(includes_needling=True), ["Uptown"]),
    "therapists": (of_kind(therapist_ids=(1,)), ["Uptown"]),
    "locations": (of_kind(location_ids=(1,)), ["Uptown"]),
    "policy-notice": (of_policy(booking_notice_minutes=24 * 60), ["Springfield", "Uptown"]),
    "policy-goal": (of_policy(access_goal_hours=12), ["Springfield", "Uptown"]),
    "policy-goal-and-horizon": (of_policy(booking_horizon_days=5, access_goal_hours=24), ["Uptown"]),
}


@pytest.mark.parametrize(("change", "names"), MISSED.values(), ids=MISSED.keys())
def test_a_change_of_the_goals_kind_or_of_the_policy_tells_when_it_would_newly_be_missed(
    two_places: Clinic, change: Change, names: list[str]
) -> None:
    found = told_as_search_has_it(two_places, change)
    assert [one.location for one in found] == names


KEPT = {
    "shorter": of_kind(minutes=30),
    "as-far-as-it-is": of_kind(horizon_days=12),
    "renamed": of_kind(name="First visit"),
    "target": of_policy(access_target=0.5),
    "wider-goal": of_policy(access_goal_hours=72),
    "days-that-are-not-planned-yet": of_policy(booking_horizon_days=60),
}


@pytest.mark.parametrize("change", KEPT.values(), ids=KEPT.keys())
def test_a_change_that_keeps_the_goal_tells_nothing_of_it(two_places: Clinic, change: Change) -> None:
    assert told_as_search_has_it(two_places, change) == []


def of_follow_ups(**new: Any) -> Change:  # noqa: ANN401 fields of TypeDetails
    """Change a kind of visit that is not for new patients."""

    def change(session: Session, agreed: str | None, now: datetime) -> None:
        before = changes.type_details(session, session.get_one(AppointmentType, 2))
        seal = edits.seal_of(before)
        changes.change_type(session, 2, replace(before, **new), seal=seal, agreed=agreed, by=ADMIN, now=now)

    return change


def test_a_kind_that_the_goal_is_not_about_is_not_asked_of_until_it_is(two_places: Clinic) -> None:
    """Follow-ups take Ana only; once they are the first kind for new patients, there is none Uptown."""
    assert told_as_search_has_it(two_places, of_follow_ups(therapist_ids=(1,))) == []
    now_first = of_follow_ups(new_patient=True, place=1)
    assert [one.location for one in told_as_search_has_it(two_places, now_first)] == ["Uptown"]


def test_the_goal_that_is_told_is_the_one_that_would_hold(two_places: Clinic) -> None:
    found = told_as_search_has_it(two_places, of_policy(access_goal_hours=12))
    assert {one.goal_hours for one in found} == {12}


def test_a_policy_that_would_newly_miss_the_goal_is_saved_once_that_is_agreed_to(two_places: Clinic) -> None:
    change, now = of_policy(access_goal_hours=12), two_places.clock.now()
    with pytest.raises(NotAgreed) as refused, transaction(two_places.engine) as session:
        change(session, UNSEEN, now)
    assert (refused.value.hits, refused.value.starts) == ([], ())
    with reading(two_places.engine) as session:
        assert practice.policy(session).access_goal_hours == 48
    with transaction(two_places.engine) as session:
        change(session, refused.value.agreement, now)
        assert practice.policy(session).access_goal_hours == 12


def any_change(chance: Random, people: list[int], places: list[int]) -> Change:
    """One to three of all that the goal depends on, of its kind of visit or of the policy."""
    kind = {
        "minutes": chance.choice((30, 120, 180, 240)),
        "buffer_minutes": chance.choice((0, 60, 120)),
        "includes_needling": True,
        "notice_minutes": chance.choice((0, 600, 1500, 3000)),
        "horizon_days": chance.choice((1, 2, 8)),
        "therapist_ids": tuple(sorted(chance.sample(people, min(1, len(people))))),
        "location_ids": tuple(sorted(chance.sample(places, 1))),
    }
    policy = {
        "access_goal_hours": chance.choice((1, 6, 20, 72)),
        "booking_notice_minutes": chance.choice((0, 600, 1500)),
        "booking_horizon_days": chance.choice((5, 8, 20)),
    }
    make, values = (of_kind, kind) if chance.random() < 0.6 else (of_policy, policy)
    return make(**{name: values[name] for name in chance.sample(sorted(values), chance.randint(1, 3))})


CLINICS = [pytest.param(range(8), id="small"), pytest.param(range(8, 400), id="full", marks=pytest.mark.drill)]


@pytest.mark.parametrize("seeds", CLINICS)
def test_what_is_told_is_what_search_has_before_and_after_for_any_clinic(
    engine: Engine, clock: FixedClock, keys: Keyring, seeds: range
) -> None:
    outcomes = Counter[bool]()
    for seed in seeds:
        clinic = Clinic(engine, clock, keys)
        build(clinic, clock, a_plan(seed))
        clinic.policy(booking_horizon_days=8)
        clinic.plan()
        with reading(engine) as session:
            people, places = (list(session.scalars(select(table.id))) for table in (Therapist, Location))
        outcomes[bool(told_as_search_has_it(clinic, any_change(Random(seed), people, places)))] += 1
    assert min(outcomes[True], outcomes[False]) > len(seeds) / 10, outcomes  # so that they were not all alike


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
    assert all(end <= clinic.clock.now() + 7 * DAY < clinic.clock.now() + PREVIEWED for _, end in missed)


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
