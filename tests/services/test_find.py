"""Search by part of the day and weekday, and the days that have times: the same as a walk over every offer."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import NotBookable
from scheduler.keys import Keyring
from scheduler.models import TherapistLanguage
from scheduler.services import availability
from scheduler.services.availability import Find, Offer, parse_cursor
from scheduler.services.windows import ANY_TIME, DayPart, LocalWish, segments
from scheduler.timeline import CELL, DAY, next_cell, zone_of
from tests.clinic import Clinic

MANY = 5000
# Half and three quarters of an hour off, half an hour of summer time, none at all, clocks that change at midnight.
ZONES = (
    "America/Chicago", "America/Phoenix", "Australia/Adelaide", "Asia/Kathmandu", "Australia/Lord_Howe",
    "America/Havana", "Africa/Cairo", "Pacific/Kiritimati", "Pacific/Pago_Pago",
)  # fmt: skip
# Mondays before a week in which clocks of these change, here or there.
WEEKS = (date(2026, 10, 26), date(2027, 3, 8), date(2027, 4, 1), date(2026, 11, 23))


def part_of(instant: datetime, zone: str) -> DayPart:
    """By the wall clock itself, with no arithmetic."""
    hour = instant.astimezone(zone_of(zone)).hour
    return DayPart.MORNING if hour < 12 else DayPart.AFTERNOON if hour < 17 else DayPart.EVENING


def wanted(offer: Offer, wish: LocalWish) -> bool:
    there = offer.slot.starts_at.astimezone(zone_of(offer.time_zone))
    on_day = not wish.weekdays or there.weekday() in wish.weekdays
    return on_day and (wish.part is None or part_of(offer.slot.starts_at, offer.time_zone) is wish.part)


def local_day(offer: Offer) -> date:
    return offer.slot.starts_at.astimezone(zone_of(offer.time_zone)).date()


@pytest.fixture
def world(engine: Engine, clock: FixedClock, keys: Keyring) -> Callable[[random.Random], Clinic]:
    """Makes a clinic of three places in zones drawn by lot, open at odd hours of the day and night."""

    def make(chance: random.Random) -> Clinic:
        clock.at = datetime.combine(chance.choice(WEEKS), time(chance.randrange(24), 7), UTC)
        clinic = Clinic(engine, clock, keys)
        clinic.policy(booking_horizon_days=9)
        clinic.add_kinds()
        zones = chance.sample(ZONES, 2)
        places = [clinic.add_location(f"L{n}", zone) for n, zone in enumerate([*zones, chance.choice(zones)])]
        for number in range(4):
            person = clinic.add_therapist(f"T{number}")
            if chance.random() < 0.5:
                with transaction(engine) as session:
                    session.add(TherapistLanguage(therapist_id=person, language="es"))
            opens = 15 * chance.randrange(0, 80)
            weekdays = chance.sample(range(7), chance.randint(2, 6))
            clinic.add_hours(person, chance.choice(places), weekdays, opens, opens + 15 * chance.randint(8, 60))
        clinic.plan()
        for offer in chance.sample(found := clinic.offers(limit=MANY), min(len(found), 8)):
            try:
                clinic.book(str(offer.slot))
            except NotBookable:
                continue
        return clinic

    return make


def a_find(chance: random.Random, clinic: Clinic) -> dict[str, Any]:
    """Any mix of the other wishes."""
    today = clinic.clock.now().date()
    bounds = [None, today + chance.randint(-1, 9) * DAY, clinic.clock.now() + chance.randrange(900) * CELL / 7]
    return {
        "location_id": chance.choice([None, None, 1, 2, 3]),
        "therapist_id": chance.choice([None, None, None, 1, 2]),
        "language": chance.choice([None, None, "es"]),
        "from_": chance.choice(bounds),
        "to": chance.choice([None, *bounds]),
        "by_staff": chance.random() < 0.3,
    }


@pytest.mark.parametrize("seed", range(8))
def test_a_search_finds_what_a_walk_over_all_offers_finds(world: Callable[[random.Random], Clinic], seed: int) -> None:
    chance = random.Random(seed)
    clinic = world(chance)
    seen = 0
    for _ in range(25):
        wish = LocalWish(
            chance.choice([None, *DayPart]), frozenset(chance.sample(range(7), chance.choice([0, 0, 1, 3, 7])))
        )
        find = a_find(chance, clinic)
        expected = [offer for offer in clinic.offers(limit=MANY, **find) if wanted(offer, wish)]
        assert clinic.offers(limit=MANY, local=wish, **find) == expected, (wish, find)
        assert by_pages(clinic, chance.randint(1, 40), local=wish, **find) == expected, (wish, find)
        seen += len(expected)
    assert seen


def by_pages(clinic: Clinic, limit: int, **find: Any) -> list[Offer]:  # noqa: ANN401 fields of Find
    """Everything, page after page."""
    found: list[Offer] = []
    search = Find(clinic.kinds["Evaluation"], limit=limit, **find)
    while True:
        with reading(clinic.engine) as session:
            page = availability.search(session, search, now=clinic.clock.now())
        assert len(page.offers) <= limit
        found += page.offers
        if page.next_cursor is None:
            return found
        search = replace(search, after=parse_cursor(page.next_cursor))


@pytest.mark.parametrize("seed", range(8))
def test_the_days_with_times_are_those_of_a_walk_over_all_offers(
    world: Callable[[random.Random], Clinic], seed: int
) -> None:
    chance = random.Random(100 + seed)
    clinic = world(chance)
    for _ in range(15):
        wish = chance.choice([ANY_TIME, LocalWish(chance.choice(list(DayPart))), LocalWish(None, frozenset({1, 5}))])
        find = a_find(chance, clinic) | {"to": None, "by_staff": False}
        search = Find(clinic.kinds["Evaluation"], limit=3, local=wish, **find)
        with reading(clinic.engine) as session:
            page, days = availability.search_with_days(session, search, 5, now=clinic.clock.now())
        assert page.offers == clinic.offers(limit=3, local=wish, **find)
        every = clinic.offers(limit=MANY, **find | {"from_": None})
        assert days.free == {local_day(offer) for offer in every if wanted(offer, wish)} & set(days.calendar)
        assert days.free <= days.bookable
        assert days.first == min(days.bookable | {days.first})
        assert {day for day in days.calendar if days.first <= day <= days.last} == days.bookable
        assert len(days.calendar) == 35
        assert days.calendar[0].weekday() == 6


@given(
    st.sampled_from(ZONES),
    st.dates(date(2026, 1, 1), date(2030, 12, 31)),
    st.sampled_from([None, *DayPart]),
    st.frozensets(st.integers(0, 6)),
    st.integers(0, 12 * 96),
)
def test_segments_are_what_the_wall_clock_shows(
    zone: str, day: date, part: DayPart | None, weekdays: frozenset[int], cells: int
) -> None:
    start = datetime.combine(day, time(), UTC)
    end = start + cells * CELL
    found = segments(LocalWish(part, weekdays), {zone_of(zone): (start, end)})
    covered = {one.begins + n * CELL for one in found for n in range((one.ends - one.begins) // CELL)}
    instants = [start + n * CELL for n in range(cells)]
    there = {instant: instant.astimezone(zone_of(zone)) for instant in instants}
    assert covered == {
        instant
        for instant in instants
        if (not weekdays or there[instant].weekday() in weekdays) and part in {None, part_of(instant, zone)}
    }
    assert all(one.begins == next_cell(one.begins) and one.zones == {zone} for one in found)
    assert all(one.ends <= other.begins for one, other in pairwise(found))


def test_segments_of_several_zones_lie_beside_each_other() -> None:
    start = datetime(2026, 11, 23, tzinfo=UTC)
    zones = ("America/Chicago", "America/Denver", "America/Phoenix", "Asia/Kathmandu")
    found = segments(LocalWish(DayPart.MORNING), {zone_of(zone): (start, start + 3 * DAY) for zone in zones})
    for cell in range(3 * 96):
        instant = start + cell * CELL
        on = [one.zones for one in found if one.begins <= instant < one.ends]
        morning = {zone for zone in zones if part_of(instant, zone) is DayPart.MORNING}
        assert on == ([morning] if morning else [])
    assert timedelta(0) < sum((one.ends - one.begins for one in found), timedelta())
