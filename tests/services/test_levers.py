"""What levers promise is what search offers once they are used; the rule opens no more than the goal needs."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.models import (
    AppointmentType,
    AppointmentTypeTherapist,
    Lever,
    LeverUse,
    License,
    Location,
    Promise,
    Reason,
    Role,
    WorkingHours,
)
from scheduler.services import (
    access_requests,
    access_rules,
    access_watch,
    hours,
    lever_uses,
    levers,
    standby,
    time_away,
)
from scheduler.services.access_rules import Cause, Miss
from scheduler.services.hours import HoursDetails
from scheduler.services.lever_uses import Use
from scheduler.services.levers import Levers, Need, Scene
from scheduler.services.time_away import OffDetails
from scheduler.timeline import CELL, DAY, DAY_MINUTES
from tests.clinic import HOUR, Clinic, at
from tests.services.test_hours import ADMIN
from tests.services.test_queries import statements
from tests.web.staff import an_account

TUESDAY = date(2026, 11, 24)
WEDNESDAY = TUESDAY + DAY
MAIN, NEAR, FAR = 1, 2, 3


@pytest.fixture
def clinic(clinic: Clinic, engine: Engine) -> Clinic:
    """Three places, of which two are of one area; Ana Abbott works at the first on weekdays from 8 to 17."""
    clinic.add_location("Chatham")
    clinic.add_location("Decatur")
    with transaction(engine) as session:
        session.execute(update(Location).where(Location.id.in_((MAIN, NEAR))).values(area="Sangamon"))
    return clinic


def fill(clinic: Clinic, until: datetime, place: int = MAIN) -> None:
    """Book every evaluation at a place that may begin before a moment."""
    while offers := clinic.offers(location_id=place, to=until):
        clinic.book(str(offers[0].slot))


def proposed(clinic: Clinic, place: int = MAIN, reach: frozenset[int] | None = None) -> Levers:
    with reading(clinic.engine) as session:
        found = levers.proposed(session, place, reach=reach, now=clinic.clock.now())
    assert found is not None
    return found


def open_standby(clinic: Clinic, hours_id: int, day: date) -> LeverUse:
    now = clinic.clock.now()
    with transaction(clinic.engine) as session:
        return standby.open_day(session, hours_id, day, levers.promise_at(session, MAIN, now=now), by=ADMIN, now=now)


def tick(clinic: Clinic) -> int:
    with transaction(clinic.engine) as session:
        return len(levers.open_due(session, now=clinic.clock.now()))


def uses(clinic: Clinic, place: int = MAIN) -> list[Use]:
    with reading(clinic.engine) as session:
        return lever_uses.of_location(session, place, now=clinic.clock.now())


def within(clinic: Clinic, need: Need, place: int = MAIN) -> list[datetime]:
    """The starts that search lists in the window of a need."""
    first, last = need.window
    found = clinic.offers(location_id=place, from_=first, to=last + CELL, limit=10_000)
    return [one.slot.starts_at for one in found if one.slot.starts_at <= last]


# --- the need


def test_a_location_that_keeps_the_goal_needs_nothing(clinic: Clinic, clock: FixedClock) -> None:
    need = proposed(clinic).need
    assert (need.promise, need.misses) == (Promise.KEPT, [])
    assert need.window == (clock.now() + HOUR, clock.now() + 48 * HOUR)


def test_what_is_booked_out_is_missed_now(clinic: Clinic, clock: FixedClock) -> None:
    """Until Wednesday's first time, at ten, is within 48 hours."""
    fill(clinic, clock.now() + 48 * HOUR + CELL)
    need = proposed(clinic).need
    assert (need.promise, need.misses) == (
        Promise.MISSED,
        [Miss(MAIN, Cause.CAPACITY, clock.now(), clock.now() + HOUR)],
    )


def test_a_miss_is_foreseen_where_a_later_day_is_full(clinic: Clinic, clock: FixedClock) -> None:
    """Today's last start is at four, and Tuesday to Thursday are full: from three on, none is left."""
    for day in range(1, 4):
        while offers := clinic.offers(location_id=MAIN, from_=TUESDAY + (day - 1) * DAY, to=TUESDAY + day * DAY):
            clinic.book(str(offers[0].slot))
    need = proposed(clinic).need
    assert (need.promise, need.misses[0].begins_at) == (Promise.FORESEEN, at("2026-11-23T21:00+00:00"))
    assert need.window == (at("2026-11-23T22:00+00:00"), at("2026-11-25T21:00+00:00"))


def test_nights_that_no_hours_reach_are_not_foreseen_as_misses(clinic: Clinic, clock: FixedClock) -> None:
    """From Friday afternoon on nobody works within 48 hours: that is no fault of what is booked."""
    clock.at = at("2026-11-26T15:00+00:00")
    assert proposed(clinic).need.promise is Promise.KEPT
    clock.at = friday = at("2026-11-27T23:00+00:00")
    need = proposed(clinic).need
    assert (need.promise, need.misses) == (
        Promise.MISSED,
        [Miss(MAIN, Cause.STRUCTURAL, friday, at("2026-11-28T14:00+00:00"))],
    )


@pytest.mark.parametrize("booked", ["nothing", "all of two days", "half of all"])
@pytest.mark.parametrize("hours", range(0, 7 * 24, 17))
def test_the_page_tells_each_miss_that_a_letter_speaks_of(
    clinic: Clinic, clock: FixedClock, booked: str, hours: int
) -> None:
    """Whatever is booked and whenever: the first one for want of times, and the first for want of hours."""
    clock.at += hours * HOUR + timedelta(minutes=7)
    if booked == "all of two days":
        fill(clinic, clock.at + 72 * HOUR)
    if booked == "half of all":
        for offer in clinic.offers(location_id=MAIN, to=clock.at + 6 * DAY)[::8]:
            clinic.book(str(offer.slot))
    need = proposed(clinic).need
    with reading(clinic.engine) as session:
        seen = access_watch.look(session, now=clock.at)
    assert seen is not None
    (look,) = (one for one in seen[1] if one.location.id == MAIN)
    told = {(miss.cause is Cause.CAPACITY): miss.begins_at for miss in reversed([*need.misses])}
    if need.gap is not None:
        told.setdefault(False, need.gap.begins_at)
    letters = {(miss.reason == Reason.CAPACITY): miss.at for miss in reversed(look.foreseen)}
    assert told == letters
    assert (need.promise is Promise.MISSED) == (look.missed is not None)


def test_new_patients_who_are_expected_are_told_of_and_open_no_hours(
    clinic: Clinic, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.add_hours(1, MAIN, range(5), 18 * 60, 20 * 60, standby=True, opens_by_rule=True)
    clinic.plan()
    clinic.book(str(clinic.offers(location_id=MAIN)[-1].slot))
    assert proposed(clinic).need.promise is Promise.KEPT
    monkeypatch.setattr(access_requests, "PACE_DAYS", 1 / 40)  # as if forty had booked a day
    need = proposed(clinic).need
    assert (need.promise, need.misses[0].cause) == (Promise.FORESEEN, Cause.CAPACITY)
    assert tick(clinic) == 0


# --- each lever gives what it says


def test_the_times_of_the_area_come_first_with_who_has_them(clinic: Clinic, clock: FixedClock) -> None:
    for name, place in (("Ben Becker", NEAR), ("Cleo Cruz", NEAR), ("Dan Diaz", FAR)):
        clinic.add_hours(clinic.add_therapist(name), place, [1], 9 * 60, 11 * 60)
    clinic.plan()
    fill(clinic, clock.now() + 48 * HOUR + CELL)
    found = proposed(clinic)
    (near,) = found.elsewhere
    listed = within(clinic, found.need, NEAR)
    assert (near.location.name, near.soonest, near.starts) == ("Chatham", listed[0], len(listed))
    assert near.therapists == {"Ben Becker": 5, "Cleo Cruz": 5}
    assert near.cells == 16


@pytest.mark.parametrize(("opens", "starts"), [(18, 5), (17, 7)])
def test_opening_a_day_gives_the_very_starts_that_were_told(
    clinic: Clinic, clock: FixedClock, opens: int, starts: int
) -> None:
    """Also where it joins the half hour that is left of the day, in which no visit fits alone."""
    clinic.add_hours(1, MAIN, [1], opens * 60, (opens + 2) * 60, standby=True)
    clinic.plan()
    clinic.book(str(clinic.offers("Needling", from_=TUESDAY)[0].slot), "Needling")
    fill(clinic, clock.now() + 48 * HOUR + CELL)
    found = proposed(clinic)
    (day,) = found.standby
    assert within(clinic, found.need) == []
    open_standby(clinic, day.of.shift.id, day.of.day)
    assert (len(within(clinic, found.need)), day.starts, day.hours) == (starts, starts, 2.0)
    assert proposed(clinic).standby == []
    assert clinic.violations() == {}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_booked_the_told_starts_are_those_that_search_gains(
    clinic: Clinic, clock: FixedClock, seed: int
) -> None:
    chance = Random(seed)
    ben = clinic.add_therapist("Ben Becker", kinds=("pt",))
    clinic.add_hours(ben, MAIN, range(4), 9 * 60, 12 * 60)
    for who, opens in ((1, 17 * 60), (ben, 12 * 60), (ben, 14 * 60)):
        clinic.add_hours(who, MAIN, range(5), opens, opens + 90, standby=True)
    clinic.plan()
    clock.at += timedelta(minutes=chance.randrange(0, 2000, 7))
    for _ in range(25):
        kind = chance.choice(("Evaluation", "Follow-up"))
        clinic.book(str(chance.choice(clinic.offers(kind, to=clock.at + 5 * DAY)).slot), kind)
    for _ in range(3):
        told = proposed(clinic)
        day, before = chance.choice(told.standby), within(clinic, told.need)
        open_standby(clinic, day.of.shift.id, day.of.day)
        assert len(within(clinic, told.need)) - len(before) == day.starts > 0
    assert clinic.violations() == {}


def test_whoever_does_not_work_on_a_day_is_asked_by_name(clinic: Clinic, clock: FixedClock, engine: Engine) -> None:
    ben = clinic.add_therapist("Ben Becker")
    clinic.add_hours(ben, NEAR, [3, 4], 13 * 60, 16 * 60)
    clinic.add_hours(ben, NEAR, [4], 8 * 60, 12 * 60)
    an_account(engine, clock, Role.THERAPIST, email="ben@clinic.example", therapist_id=ben)
    clinic.plan()
    fill(clinic, clock.now() + 48 * HOUR + CELL)
    found = proposed(clinic)
    asks = [(one.therapist, one.email, one.day, one.starts, one.hours) for one in found.ask]
    assert asks == [
        ("Ben Becker", "ben@clinic.example", TUESDAY - DAY, 9, 3.0),
        ("Ben Becker", "ben@clinic.example", TUESDAY, 9, 3.0),
    ]
    told = found.ask[1]
    before = within(clinic, found.need)
    with transaction(engine) as session:
        details = HoursDetails(13 * 60, 16 * 60, told.day, told.day)
        hours.add(session, ben, MAIN, [told.day.weekday()], details, by=ADMIN, now=clock.now())
    assert len(within(clinic, found.need)) - len(before) == told.starts
    assert [one.day for one in proposed(clinic).ask] == [TUESDAY - DAY]


def test_nobody_is_asked_who_may_not_is_away_or_is_not_one_s_own(
    clinic: Clinic, clock: FixedClock, engine: Engine
) -> None:
    people = {
        name: clinic.add_therapist(name) for name in ("Ben Becker", "Cleo Cruz", "Dan Diaz", "Eve Egan", "Fay Fox")
    }
    for who in people.values():
        clinic.add_hours(who, FAR, [5], 9 * 60, 12 * 60)
    clinic.add_hours(people["Eve Egan"], FAR, [0, 1, 2], 18 * 60, 19 * 60, standby=True)
    clinic.add_therapist("Gus Gray")  # has no hours, so nobody knows when they would work
    fill(clinic, clock.now() + 48 * HOUR + CELL)
    with transaction(engine) as session:
        session.execute(update(License).where(License.therapist_id == people["Ben Becker"]).values(state="CO"))
        whole = OffDetails(TUESDAY - DAY, 0, WEDNESDAY, DAY_MINUTES)
        time_away.give(session, people["Cleo Cruz"], whole, agreed=None, by=ADMIN, now=clock.now())
        session.add_all(
            AppointmentTypeTherapist(appointment_type_id=1, therapist_id=one)
            for one in {1, *people.values()} - {people["Dan Diaz"]}
        )
    assert {(one.therapist, one.day) for one in proposed(clinic).ask} == {
        ("Fay Fox", TUESDAY - DAY),
        ("Fay Fox", TUESDAY),
        ("Fay Fox", WEDNESDAY),  # until nine, which is 48 hours from now
    }
    assert proposed(clinic, reach=frozenset({MAIN})).ask == []


def test_where_the_goal_is_about_nothing_there_is_no_lever(clinic: Clinic, engine: Engine) -> None:
    with reading(engine) as session:
        assert levers.proposed(session, 99, now=clinic.clock.now()) is None
    with transaction(engine) as session:
        session.execute(update(AppointmentType).values(new_patient=False))
    with reading(engine) as session:
        assert levers.proposed(session, MAIN, now=clinic.clock.now()) is None
        assert levers.due(session, now=clinic.clock.now()) == []


def test_levers_ask_as_little_of_many(clinic: Clinic, engine: Engine) -> None:
    counts = []
    for more in (1, 6):
        for number in range(more):
            who = clinic.add_therapist(f"T{more}{number}")
            clinic.add_hours(who, NEAR, range(5), 9 * 60, 12 * 60)
            clinic.add_hours(who, MAIN, range(5), 13 * 60, 15 * 60, standby=True, opens_by_rule=True)
        with statements(engine) as seen:
            proposed(clinic)
            tick(clinic)
            uses(clinic)
        counts.append(len(seen))
    assert counts[0] == counts[1]


# --- by rule


def test_the_rule_opens_what_brings_the_goal_back_and_no_more(clinic: Clinic, clock: FixedClock) -> None:
    clinic.add_hours(1, MAIN, range(5), 18 * 60, 20 * 60, standby=True, opens_by_rule=True)
    clinic.add_hours(1, MAIN, range(5), 6 * 60, 8 * 60, standby=True)
    clinic.plan()
    assert tick(clinic) == 0
    fill(clinic, clock.now() + 48 * HOUR + CELL)
    assert tick(clinic) == 1
    assert proposed(clinic).need.promise is Promise.KEPT
    assert tick(clinic) == 0
    (use,) = uses(clinic)
    assert (use.row.used_by, use.row.promise, use.who) == ("worker", Promise.MISSED, None)
    assert clinic.violations() == {}


def test_what_somebody_closed_again_the_rule_leaves_closed(clinic: Clinic, clock: FixedClock) -> None:
    clinic.add_hours(1, MAIN, [1], 18 * 60, 20 * 60, standby=True, opens_by_rule=True)
    clinic.plan()
    fill(clinic, clock.now() + 48 * HOUR + CELL)
    assert tick(clinic) == 1
    with transaction(clinic.engine) as session:
        (hours_id,) = session.scalars(select(WorkingHours.id).where(WorkingHours.standby))
        standby.close_day(session, hours_id, TUESDAY, agreed=None, by=ADMIN, now=clock.now())
    assert proposed(clinic).need.promise is Promise.MISSED
    assert tick(clinic) == 0


def test_the_rule_opens_ahead_of_a_miss_that_is_foreseen(clinic: Clinic, clock: FixedClock) -> None:
    clinic.add_hours(1, MAIN, range(5), 18 * 60, 20 * 60, standby=True, opens_by_rule=True)
    clinic.plan()
    while offers := clinic.offers(location_id=MAIN, from_=TUESDAY, to=TUESDAY + 3 * DAY):
        clinic.book(str(offers[0].slot))
    assert proposed(clinic).need.promise is Promise.FORESEEN
    assert tick(clinic) > 0
    assert proposed(clinic).need.promise is Promise.KEPT
    assert {use.row.promise for use in uses(clinic)} == {Promise.FORESEEN}


def test_the_rule_opens_a_saturday_for_who_asks_on_friday_night(clinic: Clinic, clock: FixedClock) -> None:
    """Nobody works within 48 hours, booked or not: that is a miss from its first moment on, not before."""
    clinic.add_hours(1, MAIN, [5, 6], 9 * 60, 12 * 60, standby=True, opens_by_rule=True)
    clinic.plan()
    clock.at = at("2026-11-27T12:00+00:00")
    assert tick(clinic) == 0
    clock.at = at("2026-11-27T23:00+00:00")
    assert tick(clinic) == 1
    assert proposed(clinic).need.promise is Promise.KEPT


def a_scene(now: datetime) -> Scene:
    """Of nothing but its moment, its notice and its goal."""
    nothing: dict[int, Sequence[tuple[datetime, datetime]]] = {}
    rest = {"kind": AppointmentType(minutes=60, buffer_minutes=0), "places": {}, "offering": None, "shifts": []}
    lists = {"empty": [], "free": [], "standby": [], "offered": {}, "working": nothing, "taken": nothing, "paces": {}}
    return Scene(now, HOUR, 48 * HOUR, now + 90 * DAY, **rest, **lists)  # type: ignore[arg-type]


STARTS = st.lists(st.integers(1, 4 * 96), max_size=5)


@settings(max_examples=150, deadline=None)
@given(free=STARTS, gains=st.lists(STARTS, max_size=5), structural=st.booleans())
def test_nothing_is_opened_in_vain_and_nothing_left_that_could_mend(
    free: list[int], gains: list[list[int]], structural: bool
) -> None:
    now = at("2026-11-23T15:00+00:00")
    scene = a_scene(now)
    starts, added = [now + n * CELL for n in sorted(free)], [[now + n * CELL for n in sorted(one)] for one in gains]
    period = (now, now + access_rules.FORESEEN)
    missed = scene.misses(starts, period)
    cause = Cause.STRUCTURAL if structural else Cause.CAPACITY
    need = Need(Promise.MISSED, [Miss(1, cause, *one) for one in missed if not structural or one[0] == now], period)
    chosen = levers.to_open(scene, need, starts, added)

    def left(numbers: Sequence[int]) -> timedelta:
        """The same, counted quarter hour by quarter hour, each by its middle."""
        offered = [*starts, *(start for number in numbers for start in added[number])]
        wanted = [
            (one.begins_at, one.ends_at if cause is Cause.CAPACITY else min(one.ends_at, now + CELL))
            for one in need.misses
        ]
        middles = (now + n * CELL + CELL / 2 for n in range(access_rules.FORESEEN // CELL))
        bad = (
            moment
            for moment in middles
            if any(begins < moment < ends for begins, ends in wanted)
            and not any(moment + HOUR <= start <= moment + 48 * HOUR for start in offered)
        )
        return sum((CELL for _ in bad), timedelta())

    assert left(chosen) == left(range(len(added)))
    assert all(left([one for one in chosen if one != number]) > left(chosen) for number in chosen)


# --- the record


def test_the_record_counts_what_was_booked_of_what_was_opened(
    clinic: Clinic, clock: FixedClock, engine: Engine
) -> None:
    clinic.add_hours(1, MAIN, [1], 18 * 60, 20 * 60, standby=True)
    clinic.plan()
    an_account(engine, clock, Role.ADMIN)
    open_standby(clinic, 6, TUESDAY)
    evening = at("2026-11-25T00:00+00:00")
    booked = [clinic.book(str(clinic.offers(kind, from_=evening)[0].slot), kind) for kind in ("Evaluation", "Needling")]
    clinic.book(str(clinic.offers()[0].slot))
    (use,) = uses(clinic)
    assert (use.row.lever, use.hours, use.visits, use.booked_hours, use.day) == (Lever.STANDBY, 2.0, 2, 1.5, TUESDAY)
    clinic.cancel(booked[0].token)
    assert [(one.visits, one.booked_hours) for one in uses(clinic)] == [(1, 0.5)]
    clock.at = evening + 2 * HOUR
    assert [(one.visits, one.day) for one in uses(clinic)] == [(1, None)]


def test_asking_and_offering_are_on_record(clinic: Clinic, clock: FixedClock, engine: Engine) -> None:
    ben = clinic.add_therapist("Ben Becker")
    clinic.add_hours(ben, NEAR, [2], 9 * 60, 11 * 60)
    clinic.plan()
    fill(clinic, clock.now() + 48 * HOUR + CELL)
    found = proposed(clinic)
    for _ in range(2):
        with transaction(engine) as session:
            levers.asked(session, MAIN, ben, TUESDAY, found, by=ADMIN, now=clock.now())
    with transaction(engine) as session:
        levers.offered(session, MAIN, NEAR, found, by=ADMIN, now=clock.now())
    clinic.book(str(clinic.offers(location_id=NEAR)[0].slot))
    newest, oldest = uses(clinic)
    assert (newest.row.lever, newest.place.name, newest.therapist, newest.visits) == (
        Lever.ELSEWHERE,
        "Chatham",
        None,
        1,
    )
    assert (oldest.row.lever, oldest.therapist, oldest.hours, oldest.visits) == (Lever.ASK, "Ben Becker", 2.0, 0)
    with pytest.raises(Invalid), transaction(engine) as session:
        levers.asked(session, MAIN, ben, WEDNESDAY, found, by=ADMIN, now=clock.now())
    with pytest.raises(Invalid), transaction(engine) as session:
        levers.offered(session, MAIN, FAR, found, by=ADMIN, now=clock.now())
    assert uses(clinic, NEAR) == []


def test_a_time_that_somebody_is_only_booking_opens_no_hours(clinic: Clinic, clock: FixedClock) -> None:
    """An abandoned form lets go in minutes; a day that was opened is a therapist's."""
    clinic.add_hours(1, MAIN, [1], 18 * 60, 20 * 60, standby=True, opens_by_rule=True)
    clinic.hold(str(clinic.offers(location_id=MAIN, to=clock.now() + 48 * HOUR)[-1].slot))
    fill(clinic, clock.now() + 48 * HOUR + CELL)
    assert tick(clinic) == 0
    clock.at += HOUR
    fill(clinic, clock.now() + 48 * HOUR + CELL)
    assert tick(clinic) == 1
