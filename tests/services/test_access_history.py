"""What the weeks say of the goal, beside a plain recount of random histories and of random clinics."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from datetime import date, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import Base, reading, transaction
from scheduler.errors import ConstraintViolated
from scheduler.keys import Keyring
from scheduler.models import AccessDay, AccessSample, Closure, Location
from scheduler.services import access_goal, access_history, access_hours, access_rules, practice
from scheduler.services.access_goal import Weeks
from scheduler.services.access_history import Day, History
from scheduler.services.access_rules import Cause, Miss
from scheduler.timeline import CELL, DAY, cell_of, first_instant, local_date, zone_of
from tests.clinic import KINDS, Clinic, at
from tests.conftest import MONDAY_MORNING
from tests.server import at_once
from tests.services.test_access_goal import (
    HORIZON_DAYS,
    PLACES,
    QUARTER,
    a_plan,
    book_all,
    bounded,
    build_unbooked,
    listed,
    on_sqlite,
    samples,
)
from tests.services.test_queries import statements

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NOW = (  # one after either change of the clocks, one on the day itself, and a plain one
    at("2027-03-20T10:07:00+00:00"),
    at("2027-03-14T18:00:00+00:00"),
    at("2027-11-29T05:31:00+00:00"),
    at("2026-11-23T15:00:00+00:00"),
)
SIZES = [pytest.param(range(8), id="small"), pytest.param(range(8, 5000), id="full", marks=pytest.mark.drill)]
CLINICS = [pytest.param(range(20), id="small"), pytest.param(range(20, 5020), id="full", marks=pytest.mark.drill)]


class Quarter(NamedTuple):
    """One sample; `possible` and `open_days` are None where it does not know."""

    place: int
    at: datetime
    kept: bool
    possible: bool | None
    open_days: bool | None


def a_history(random: Random, now: datetime, places: int) -> list[Quarter]:
    """Weeks of samples with gaps and long misses, some older than it was measured what was possible."""
    rows = []
    newest = cell_of(now)
    for place in range(1, places + 1):
        length = random.choice((0, 90, 90, 96 * 6, 96 * 6, 96 * 9, 96 * 20, 96 * 31))
        unknown_before = newest - random.choice((0, 0, 5, 40)) * DAY if random.random() < 0.3 else newest - 60 * DAY
        state, left = random.choice("kcs"), 0
        for number in range(length):
            if left == 0:
                state, left = random.choice("kkcs-"), random.choice((1, 3, 30, 200))
            left -= 1
            quarter = newest - number * CELL
            if state == "-":
                continue
            known = quarter >= unknown_before
            rows.append(
                Quarter(
                    place,
                    quarter,
                    state == "k",
                    state != "s" if known else None,
                    random.random() < 0.5 if known else None,
                )
            )
    return rows


def stored(engine: Engine, rows: Iterable[Quarter], goal: int = 48, kind: int = 1) -> None:
    found = [
        {
            "appointment_type_id": kind,
            "location_id": row.place,
            "quarter": row.at,
            "next_available_hours": goal if row.kept else goal + 0.25,
            "goal_hours": goal,
            "within_goal": row.kept,
            "possible": row.possible,
            "within_open_days": row.open_days,
        }
        for row in rows
    ]
    if found:
        with transaction(engine) as session:
            session.execute(insert(Base.metadata.tables[AccessSample.__tablename__]), found)


def forgotten(engine: Engine) -> None:
    """Nothing was measured."""
    with transaction(engine) as session:
        for table in (AccessSample, AccessDay):
            session.execute(delete(table))


def open_first(engine: Engine, places: int) -> None:
    """Only the first locations are open: a clinic made anew for each history would take as long as all the rest."""
    with transaction(engine) as session:
        session.execute(update(Location).values(active=Location.id <= places))


def together(rows: list[Quarter]) -> list[Quarter]:
    """The quarter hours anywhere: what one place kept was kept; nothing is known where one place does not know."""
    by_time: dict[datetime, list[Quarter]] = {}
    for row in rows:
        by_time.setdefault(row.at, []).append(row)
    found = []
    for quarter, here in by_time.items():
        all_know = all(row.possible is not None for row in here)
        possible = any(row.possible for row in here) or (False if all_know else None)
        open_days = any(row.open_days for row in here) if all_know else None
        found.append(Quarter(0, quarter, any(row.kept for row in here), possible, open_days))
    return found


def known(rows: list[Quarter]) -> bool:
    """Whether all of them know what was possible; of a quarter hour anywhere `open_days` says it."""
    return all(row.open_days is not None for row in rows)


def recounted_days(rows: list[Quarter], zone: Any, now: datetime) -> list[Day]:  # noqa: ANN401 a zone
    """One by one, by the local date of each quarter hour."""
    today, by_date = local_date(now, zone), defaultdict[date, list[Quarter]](list)
    for row in rows:
        if row.at <= now:
            by_date[local_date(row.at, zone)].append(row)
    found = []
    for on in (today - number * DAY for number in range(27, -1, -1)):
        here = by_date[on]
        counted = bool(here) and known(here)
        found.append(
            Day(
                on,
                len(here),
                sum(row.kept for row in here),
                sum(row.possible or False for row in here) if counted else None,
                sum(row.open_days or False for row in here) if counted else None,
                48 if here and here[0].place else None,
            )
        )
    return found


def recounted_misses(rows: list[Quarter], place: int | None, now: datetime) -> list[Miss]:
    causes = {True: Cause.CAPACITY, False: Cause.STRUCTURAL, None: None}
    missed = sorted((row for row in rows if not row.kept and now - 28 * DAY < row.at <= now), key=lambda row: row.at)
    found: list[Miss] = []
    for row in missed:
        cause, last = causes[row.possible], found[-1] if found else None
        if last is not None and last.ends_at == row.at and last.cause is cause:
            found[-1] = replace(last, ends_at=row.at + CELL)
        else:
            found.append(Miss(place, cause, row.at, row.at + CELL))
    return found


def history(engine: Engine, now: datetime, places: list[int] | None = None) -> dict[int | None, History]:
    with reading(engine) as session:
        chosen = [place for place in practice.online_locations(session) if places is None or place.id in places]
        return access_history.histories(session, 1, chosen, zone_of(PLACES[0][1]), now=now)


def weeks(engine: Engine, now: datetime) -> dict[int | None, Weeks]:
    with reading(engine) as session:
        measured = access_goal.measure(session, now=now, appointment_type_id=1)
        return {None: measured.overall.weeks} | {place.location.id: place.weeks for place in measured.locations}


def roll_up(engine: Engine, now: datetime) -> int:
    """What a worker's tick does."""
    with reading(engine) as session:
        rows = access_history.days_over(session, now=now)
    with transaction(engine) as session:
        access_history.keep_days(session, rows)
    return len(rows)


def kept_days(engine: Engine) -> dict[tuple[int, date], Day]:
    with reading(engine) as session:
        rows = session.scalars(select(AccessDay)).all()
        return {
            (row.location_id, row.day): Day(
                row.day, row.measured, row.kept, row.possible, row.within_open_days, row.goal_hours
            )
            for row in rows
        }


def assert_recounted(engine: Engine, rows: list[Quarter], now: datetime, places: int) -> dict[int | None, History]:
    """What was told, and is what counting one by one comes to."""
    found, counted = history(engine, now), weeks(engine, now)
    everywhere = together(rows)
    for place in [None, *range(1, places + 1)]:
        here = everywhere if place is None else [row for row in rows if row.place == place]
        zone = zone_of(PLACES[(place or 1) - 1][1])
        assert found[place].days == recounted_days(here, zone, now)
        assert found[place].misses == recounted_misses(here, place, now)
        lately = [row for row in here if now - 28 * DAY < row.at <= now]
        assert (counted[place].measured, counted[place].kept) == (len(lately), sum(row.kept for row in lately))
        if known(lately):
            assert counted[place].possible == sum(row.possible or False for row in lately)
            assert counted[place].within_open_days == sum(row.open_days or False for row in lately)
            of_cause = {cause: access_history.hours(found[place].missed(cause)) for cause in Cause}
            assert of_cause == {
                Cause.STRUCTURAL: counted[place].without_hours,
                Cause.CAPACITY: counted[place].taken,
            }
        else:
            assert (counted[place].possible, counted[place].within_open_days) == (None, None)
    return found


@pytest.mark.parametrize("seeds", SIZES)
def test_histories_equal_a_recount_of_any_samples(
    engine: Engine, clock: FixedClock, keys: Keyring, seeds: range
) -> None:
    """Before any day was rolled up and after; the clocks change in the weeks that are looked at."""
    causes, clinic = set(), Clinic(engine, clock, keys)
    clinic.add_kinds()
    for place in PLACES[:3]:
        clinic.add_location(*place)
    for seed in seeds:
        random = Random(seed)
        now, places = random.choice(NOW), random.randint(1, 3)
        forgotten(engine)
        open_first(engine, places)
        rows = a_history(random, now, places)
        stored(engine, rows)
        assert_recounted(engine, rows, now, places)
        roll_up(engine, now)
        told = assert_recounted(engine, rows, now, places)
        causes |= {miss.cause for one in told.values() for miss in one.misses}
    assert causes == {None, *Cause}  # so that the histories were not all alike


@pytest.mark.parametrize("seeds", CLINICS)
def test_what_the_hours_alone_would_keep_is_what_the_same_clinic_offers_unbooked(
    engine: Engine, clock: FixedClock, keys: Keyring, seeds: range
) -> None:
    """The recount asks search at a clinic that nobody has booked at, and counts its open days one by one."""
    seen = set()
    for seed in seeds:
        plan = a_plan(seed)
        clinic = Clinic(engine, clock, keys)
        build_unbooked(clinic, clock, plan)
        clinic.record_access()
        unbooked = {row.location_id: row for row in samples(clinic)}
        assert [row.location_id for row in unbooked.values() if row.possible != row.within_goal] == []
        clinic.policy(booking_horizon_days=40)  # a day is open whether it can be booked yet or not
        clinic.plan()
        open_on = {place: open_dates(clinic, place) for place in unbooked}
        clinic.policy(booking_horizon_days=HORIZON_DAYS)
        forgotten(engine)
        book_all(clinic, plan)
        clinic.record_access()
        for row in samples(clinic):
            assert row.possible is unbooked[row.location_id].within_goal
            days = [*open_on[row.location_id]]
            assert row.within_open_days is soon_by_open_days(clinic, row.location_id, plan.goal_hours, days)
            seen.add((row.within_goal, row.possible, row.within_open_days))
    assert len(seen) >= 4  # so that the clinics were not all alike


def place_of(session: Session, location_id: int) -> Location:
    return session.get_one(Location, location_id)


def open_dates(clinic: Clinic, place: int) -> set[date]:
    """The local dates with a start, whatever the notice is."""
    with reading(clinic.engine) as session:
        zone = zone_of(place_of(session, place).time_zone)
    offers = clinic.offers(location_id=place, by_staff=True, limit=20_000)
    return {local_date(offer.slot.starts_at, zone) for offer in offers}


def soon_by_open_days(clinic: Clinic, place: int, goal_hours: int, dates: list[date]) -> bool:
    """Whether the first offer is on one of the first open days after today, or today; days of 24 hours, rounded up.

    As many must lie within a week for each five of them: else none of them count.
    """
    offers = listed(clinic, KINDS[0][0], place)
    if not offers:
        return False
    with reading(clinic.engine) as session:
        zone = zone_of(place_of(session, place).time_zone)
    today, day = local_date(clinic.clock.now(), zone), local_date(offers[0].slot.starts_at, zone)
    wanted = -(-goal_hours // 24)
    near = [on for on in dates if today < on <= today + (1 + (wanted - 1) // 5) * 7 * DAY]
    return len(near) >= wanted and len([on for on in dates if today < on <= day]) <= wanted


def test_an_unbooked_clinic_attains_its_ceiling(engine: Engine, clock: FixedClock, keys: Keyring) -> None:
    """Monday to Friday: every miss is structural; the ceiling is what the simulator's function makes of the hours."""
    clinic = Clinic(engine, clock, keys)
    clinic.add_kinds()
    clinic.policy(booking_notice_minutes=0, booking_horizon_days=20)
    here = clinic.add_location("Albany", "America/New_York", "NY")
    clinic.add_hours(clinic.add_therapist(state="NY"), here, range(5), 8 * 60, 18 * 60)
    zone = zone_of("America/New_York")
    begins = first_instant(date(2027, 3, 12), 12 * 60, zone)
    clock.at = begins
    clinic.plan()
    with reading(engine) as session:
        hours = access_hours.hours(session, goal_hours=48, now=begins)
        planned = [
            start.starts_at for start in access_rules.empty_plan_starts(hours.stretches, 4) if start.starts_at >= begins
        ]
    ends = first_instant(date(2027, 3, 13), 18 * 60, zone)
    while clock.at < ends:
        clinic.record_access()
        clock.at += QUARTER
    share = access_rules.ceiling(planned, (begins, ends), notice=timedelta(), goal=timedelta(hours=48))
    found = weeks(engine, ends)[here]
    assert found.measured == 30 * 4
    assert (found.kept / found.measured, found.possible) == (share, found.kept)
    assert found.within_open_days == found.measured
    (miss,) = history(engine, ends)[here].misses
    assert miss.cause is Cause.STRUCTURAL
    assert [edge.astimezone(zone).isoformat() for edge in (miss.begins_at, miss.ends_at)] == [
        "2027-03-12T17:15:00-05:00",
        "2027-03-13T07:00:00-05:00",  # 48 hours before 8:00 on Monday, when the clocks have changed
    ]


@on_sqlite
def test_a_visit_that_takes_the_last_time_makes_a_miss_of_capacity(clinic: Clinic, clock: FixedClock) -> None:
    clinic.policy(access_goal_hours=3)
    clinic.record_access()
    while (first := clinic.offers()[0]).slot.starts_at < MONDAY_MORNING + 4 * HOUR:
        clinic.book(str(first.slot))
    clock.at += QUARTER
    clinic.record_access()
    clock.at += 10 * HOUR
    clinic.record_access()
    told = [(row.within_goal, row.possible, row.within_open_days) for row in samples(clinic)]
    assert told == [(True, True, True), (False, True, True), (False, False, True)]
    found = history(clinic.engine, clock.at, [1])[1]
    assert [(miss.cause, miss.hours) for miss in found.misses] == [(Cause.CAPACITY, 0.25), (Cause.STRUCTURAL, 0.25)]
    assert access_history.longest(found.misses) == found.misses[-1]
    assert access_history.longest([]) is None


@on_sqlite
def test_a_closure_and_time_off_count_as_no_hours_even_where_visits_are_still_booked(
    clinic: Clinic, clock: FixedClock
) -> None:
    """What is still in the calendar of a closed day is no time that could have been offered."""
    visit = clinic.book(str(clinic.offers()[0].slot))
    assert visit.appointment.starts_at < MONDAY_MORNING + DAY
    with transaction(clinic.engine) as session:
        days = {"starts_on": date(2026, 11, 23), "starts_minute": 0, "ends_on": date(2026, 11, 29), "ends_minute": 1440}
        session.add(Closure(location_id=1, reason="Water", **days))
    clinic.plan()
    clinic.record_access()
    (row,) = samples(clinic)
    # The second open day is more than a week away: nobody would call that two working days, the public page neither.
    assert (row.within_goal, row.possible, row.within_open_days) == (False, False, False)


def test_measuring_asks_as_little_for_many_places_and_people(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    counts = []
    for more in (0, 4):
        for number in range(more):
            clinic.add_hours(clinic.add_therapist(f"T{number}"), clinic.add_location(f"Place {number}"))
        clinic.plan()
        clock.at += QUARTER
        clinic.record_access()  # so that the terms are known
        clock.at += QUARTER
        with statements(engine) as seen:
            clinic.record_access()
        counts.append(len([sql for sql, _ in seen if sql.startswith("SELECT")]))
    assert counts == [10, 10]


# --- days that are over


def test_days_are_kept_once_and_the_same_by_any_number_of_workers(clinic: Clinic, engine: Engine) -> None:
    clinic.add_location("Mesa", "America/Phoenix", "AZ")
    now = at("2026-11-23T15:00:00+00:00")
    rows = [
        Quarter(place, now - number * CELL, number % 3 > 0, True, number % 2 > 0)
        for place in (1, 2)
        for number in range(96 * 4)
    ]
    stored(engine, rows)
    assert race(engine, now, 4) == ["done"] * 4
    first = kept_days(engine)
    assert {(place, day.on, day.measured) for (place, _), day in first.items()} == {
        *((1, date(2026, 11, 19), 59), (2, date(2026, 11, 19), 63)),
        *((place, date(2026, 11, day), 96) for place in (1, 2) for day in (20, 21, 22)),
    }
    assert race(engine, now, 4) == ["done"] * 4
    assert kept_days(engine) == first
    stored(engine, [Quarter(1, at("2026-11-20T12:00:00-06:00") - 2 * DAY, True, True, True)])
    roll_up(engine, now)
    assert kept_days(engine) == first  # what is kept stands, and what is measured late of an old day is not looked for


def race(engine: Engine, now: datetime, workers: int) -> list[str]:
    def one(_place: int, together: Callable[[], object]) -> str:
        with reading(engine) as session:
            rows = access_history.days_over(session, now=now)
        together()
        try:
            with transaction(engine) as session:
                access_history.keep_days(session, rows)
        except ConstraintViolated as refused:
            return refused.name
        return "done"

    return at_once(workers, lambda place, barrier: one(place, barrier.wait))


def test_the_race_is_real_without_the_guard(clinic: Clinic, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(engine, [Quarter(1, MONDAY_MORNING - 2 * DAY, True, True, True)])
    plain = SimpleNamespace(on_conflict_do_nothing=lambda: insert(AccessDay))
    monkeypatch.setattr(access_history, "insert_into", lambda *_: plain)
    assert sorted(race(engine, MONDAY_MORNING, 4)) == ["done"] + ["pk_access_day"] * 3


@on_sqlite
def test_a_day_is_over_an_hour_after_its_midnight_on_its_own_wall(clinic: Clinic, engine: Engine) -> None:
    clinic.add_location("Mesa", "America/Phoenix", "AZ")
    stored(engine, [Quarter(place, at("2026-11-22T12:00:00-06:00"), True, None, None) for place in (1, 2)])
    chicago = at("2026-11-23T00:00:00-06:00")
    for now, days in (
        (chicago + HOUR - MINUTE, set()),
        (chicago + HOUR, {1}),
        (chicago + 2 * HOUR - MINUTE, {1}),
        (chicago + 2 * HOUR, {1, 2}),
    ):
        roll_up(engine, now)
        assert {place for place, _ in kept_days(engine)} == days
    assert {(day.measured, day.possible, day.within_open_days) for day in kept_days(engine).values()} == {
        (1, None, None)
    }


@on_sqlite
def test_days_stay_when_their_samples_are_forgotten(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    stored(engine, [Quarter(1, MONDAY_MORNING + number * QUARTER, number > 3, True, True) for number in range(9)])
    clock.at += 2 * DAY
    roll_up(engine, clock.at)
    clock.at += 500 * DAY
    roll_up(engine, clock.at)
    with transaction(engine) as session:
        access_goal.forget_old_samples(session, now=clock.now())
    assert samples(clinic) == []
    assert roll_up(engine, clock.at) == 0
    assert kept_days(engine) == {(1, date(2026, 11, 23)): Day(date(2026, 11, 23), 9, 5, 9, 9, 48)}


@on_sqlite
def test_a_clinic_that_never_measured_has_no_days(clinic: Clinic, engine: Engine) -> None:
    assert roll_up(engine, MONDAY_MORNING) == 0
    found = history(engine, MONDAY_MORNING)
    assert {(day.kept_share, day.possible_share) for one in found.values() for day in one.days} == {(None, None)}
    assert [len(one.days) for one in found.values()] == [28, 28]


def test_histories_ask_as_little_for_many_places_and_days(clinic: Clinic, engine: Engine) -> None:
    counts, now = [], MONDAY_MORNING
    for more in (0, 5):
        for number in range(more):
            clinic.add_location(f"Place {number}", PLACES[number % 4][1], PLACES[number % 4][2])
        with reading(engine) as session:
            places = [place.id for place in practice.online_locations(session)]
        stored(
            engine,
            [Quarter(p, now - n * DAY - CELL * (1 + more), n % 2 > 0, True, True) for p in places for n in range(20)],
        )
        for step in (lambda: history(engine, now), lambda: roll_up(engine, now)):
            with statements(engine) as seen:
                step()
            counts.append(len([sql for sql, _ in seen if sql.startswith(("SELECT", "WITH", "INSERT"))]))
    assert counts == [7, 5, 7, 4]  # six and the places; the first time it is asked when measuring began


# --- shares


@given(measured=st.integers(1, 2688), data=st.data())
@bounded
def test_the_ceiling_is_never_below_what_was_attained(measured: int, data: st.DataObject) -> None:
    possible = data.draw(st.integers(0, measured))
    kept = data.draw(st.integers(0, possible))
    found = Weeks(measured, kept, possible, kept, old_enough=True)
    assert found.attainment is not None
    assert found.ceiling is not None
    assert found.attainment <= found.ceiling <= 1
    young = replace(found, old_enough=False)
    assert (young.attainment, young.ceiling, young.open_days) == (None, None, None)
    unknown = replace(found, possible=None, within_open_days=None)
    assert (unknown.attainment, unknown.ceiling, unknown.open_days) == (found.attainment, None, None)


def test_days_say_what_is_stored_of_them() -> None:
    assert set(asdict(Day(date(2026, 11, 23)))) - {"on"} == {column.key for column in AccessDay.__table__.columns} - {
        "appointment_type_id",
        "location_id",
        "day",
    }
