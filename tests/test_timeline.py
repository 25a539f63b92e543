"""Time on real calendars: golden days, and what zoneinfo says of every quarter hour around every change of the clocks.

The oracle never asks scheduler.timeline: it walks UTC in quarter hours and looks at the clock on the wall. That clock
has reached a time once it has shown it or a later one; working hours are the cells from when it reached their opening
to before it reached their closing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from scheduler import timeline
from scheduler.clock import FixedClock
from scheduler.db import reading
from scheduler.keys import Keyring
from scheduler.models import Slot
from scheduler.services import slots
from scheduler.timeline import Stretch
from tests.clinic import Clinic, at

QUARTER = timedelta(minutes=15)
ONE_DAY = timedelta(days=1)
WHOLE_DAY = 24 * 60
NEW_YORK = ZoneInfo("America/New_York")
SPRING = date(2027, 3, 14)
AUTUMN = date(2027, 11, 7)
FIRST, LAST = datetime(2025, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
# zone.tab's zones of the United States and its territories, and every alias under US/.
AMERICAN = (
    "Adak Anchorage Boise Chicago Denver Detroit Indiana/Indianapolis Indiana/Knox Indiana/Marengo Indiana/Petersburg "
    "Indiana/Tell_City Indiana/Vevay Indiana/Vincennes Indiana/Winamac Juneau Kentucky/Louisville Kentucky/Monticello "
    "Los_Angeles Menominee Metlakatla New_York Nome North_Dakota/Beulah North_Dakota/Center North_Dakota/New_Salem "
    "Phoenix Puerto_Rico Sitka St_Thomas Yakutat"
)
US_ZONES = sorted(
    {zone for zone in available_timezones() if zone.startswith("US/")}
    | {f"America/{city}" for city in AMERICAN.split()}
    | {f"Pacific/{island}" for island in ("Guam", "Honolulu", "Pago_Pago", "Saipan")}
)
FEW_ZONES = ["America/New_York", "America/Phoenix", "US/Aleutian"]


@dataclass(frozen=True)
class Hours:
    """Weekly hours without a table."""

    weekday: int = 0
    opens_minute: int = 0
    closes_minute: int = WHOLE_DAY
    valid_from: date = date(2020, 1, 1)
    valid_until: date | None = None
    every_weeks: int = 1


# --- the oracle


def in_rhythm(hours: Hours, day: date) -> bool:
    """Whether a day is in the first day's week, or in one that so many weeks lie between, by a count of Mondays."""
    week = hours.valid_from - timedelta(days=hours.valid_from.weekday())
    while week + timedelta(days=6) < day:
        week += timedelta(days=7 * hours.every_weeks)
    return week <= day


def quarters(start: datetime, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += QUARTER


@cache
def reached(zone: str, day: date) -> list[tuple[datetime, datetime]]:
    """Every quarter hour near local `day` with the latest time that the wall clock has shown up to then."""
    noon = datetime.combine(day, time(12), UTC)
    walk, latest = [], datetime.min  # noqa: DTZ901 a time on a wall has no zone
    for instant in quarters(noon - 3 * ONE_DAY, noon + 4 * ONE_DAY):
        latest = max(latest, instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None))
        walk.append((instant, latest))
    return walk


def cells_by_the_wall_clock(zone: str, day: date, opens: int, closes: int) -> list[datetime]:
    midnight = datetime.combine(day, time())
    first, last = midnight + timedelta(minutes=opens), midnight + timedelta(minutes=closes)
    return [instant for instant, wall in reached(zone, day) if first <= wall < last]


@cache
def transitions(zone: str) -> list[datetime]:
    """The first quarter hour of every new offset from 2025 to 2035."""
    found, day = [], FIRST
    while day < LAST:
        if _offset(day, zone) != _offset(day + ONE_DAY, zone):
            found.append(next(q for q in quarters(day, day + 2 * ONE_DAY) if _offset(q, zone) != _offset(day, zone)))
        day += ONE_DAY
    return found


def _offset(instant: datetime, zone: str) -> timedelta | None:
    return instant.astimezone(ZoneInfo(zone)).utcoffset()


def planned(zone: str, day: date, opens: int = 0, closes: int = WHOLE_DAY) -> list[datetime]:
    """The cells that scheduler.timeline gives hours worked on this local day."""
    hours = Hours(day.weekday(), opens, closes)
    start, end = timeline.working_time(hours, day, ZoneInfo(zone))
    return list(quarters(start, end))


# --- golden days


@pytest.mark.parametrize(
    ("zone", "day", "opens", "closes", "cells"),
    [
        ("America/New_York", SPRING, 0, 6, 20),
        ("America/New_York", AUTUMN, 0, 6, 28),
        ("America/New_York", SPRING - ONE_DAY, 0, 6, 24),
        ("America/New_York", SPRING, 0, 24, 92),
        ("America/New_York", AUTUMN, 0, 24, 100),
        ("America/Phoenix", SPRING, 0, 6, 24),
        ("America/Phoenix", AUTUMN, 0, 6, 24),
        ("Pacific/Honolulu", AUTUMN, 0, 24, 96),
        ("US/Samoa", SPRING, 0, 24, 96),
        ("America/New_York", SPRING, 2, 3, 0),  # the clock skips all of it
        ("America/New_York", AUTUMN, 1, 2, 8),  # the clock shows all of it twice
        ("America/New_York", SPRING - ONE_DAY, 20, 30, 36),  # past midnight into the night that loses an hour
        ("America/New_York", AUTUMN - ONE_DAY, 20, 30, 44),  # and into the one that gains it
        ("America/New_York", date(2028, 2, 29), 8, 17, 36),
    ],
)
def test_hours_of_a_day_have_the_cells_of_the_wall_clock(
    zone: str, day: date, opens: int, closes: int, cells: int
) -> None:
    found = planned(zone, day, opens * 60, closes * 60)
    assert len(found) == cells
    assert found == cells_by_the_wall_clock(zone, day, opens * 60, closes * 60)


@pytest.mark.parametrize(
    ("day", "minutes", "instant"),
    [
        (SPRING, 0, "2027-03-14T05:00+00:00"),
        (SPRING, 1 * 60 + 45, "2027-03-14T06:45+00:00"),
        (SPRING, 2 * 60, "2027-03-14T07:00+00:00"),
        (SPRING, 2 * 60 + 30, "2027-03-14T07:00+00:00"),  # skipped: reached when the clock jumps over it
        (SPRING, 3 * 60, "2027-03-14T07:00+00:00"),
        (SPRING, 3 * 60 + 15, "2027-03-14T07:15+00:00"),
        (AUTUMN, 1 * 60 + 30, "2027-11-07T05:30+00:00"),  # twice: reached the first time
        (AUTUMN, 2 * 60, "2027-11-07T07:00+00:00"),
        (AUTUMN, WHOLE_DAY, "2027-11-08T05:00+00:00"),
        (SPRING - ONE_DAY, WHOLE_DAY + 2 * 60 + 30, "2027-03-14T07:00+00:00"),
        (date(2028, 2, 28), WHOLE_DAY, "2028-02-29T05:00+00:00"),
    ],
)
def test_a_time_on_the_wall_is_reached_at_its_first_instant(day: date, minutes: int, instant: str) -> None:
    assert timeline.first_instant(day, minutes, NEW_YORK) == at(instant)


def test_an_opening_within_the_skipped_hour_begins_when_the_clock_has_jumped() -> None:
    found = planned("America/New_York", SPRING, 2 * 60 + 30, 4 * 60)
    assert [cell.astimezone(NEW_YORK).strftime("%H:%M") for cell in found] == ["03:00", "03:15", "03:30", "03:45"]


def test_hours_either_side_of_a_time_within_the_repeated_hour_share_nothing_and_leave_nothing_out() -> None:
    early = planned("America/New_York", AUTUMN, 0, 90)
    late = planned("America/New_York", AUTUMN, 90, 6 * 60)
    assert early + late == planned("America/New_York", AUTUMN, 0, 6 * 60)
    assert (len(early), len(late)) == (6, 22)


def test_instants_are_utc_whatever_the_zone() -> None:
    assert timeline.first_instant(SPRING, 8 * 60, NEW_YORK).utcoffset() == timedelta()


def test_a_local_date_is_that_of_the_wall_not_of_utc() -> None:
    assert timeline.local_date(at("2028-03-01T04:59+00:00"), NEW_YORK) == date(2028, 2, 29)
    assert timeline.local_date(at("2028-03-01T05:00+00:00"), NEW_YORK) == date(2028, 3, 1)


# --- days that are worked


def test_a_friday_on_leap_day_is_worked() -> None:
    worked = timeline.worked_days(Hours(weekday=4), date(2036, 2, 20), date(2036, 3, 10))
    assert list(worked) == [date(2036, 2, 22), date(2036, 2, 29), date(2036, 3, 7)]


@pytest.mark.parametrize(
    ("valid_from", "valid_until", "days"),
    [
        (date(2020, 1, 1), None, [2, 9, 16, 23, 30]),
        (date(2026, 11, 9), date(2026, 11, 16), [9, 16]),  # both ends are worked
        (date(2026, 11, 10), date(2026, 11, 15), []),
        (date(2026, 11, 30), None, [30]),
        (date(2026, 12, 1), None, []),
        (date(2020, 1, 1), date(2026, 10, 31), []),
    ],
)
def test_hours_are_worked_only_while_they_are_valid(
    valid_from: date, valid_until: date | None, days: list[int]
) -> None:
    hours = Hours(valid_from=valid_from, valid_until=valid_until)
    worked = timeline.worked_days(hours, date(2026, 11, 1), date(2026, 11, 30))
    assert list(worked) == [date(2026, 11, day) for day in days]


@settings(deadline=None)
@given(
    weekday=st.integers(0, 6),
    first=st.dates(date(2025, 1, 1), date(2035, 12, 31)),
    length=st.integers(-3, 60),
    begins=st.integers(-70, 70),
    lasts=st.none() | st.integers(0, 70),
    every_weeks=st.integers(1, 8),
)
def test_worked_days_are_those_that_a_calendar_shows(
    weekday: int, first: date, length: int, begins: int, lasts: int | None, every_weeks: int
) -> None:
    valid_from = first + timedelta(days=begins)
    valid_until = None if lasts is None else valid_from + timedelta(days=lasts)
    hours = Hours(weekday=weekday, valid_from=valid_from, valid_until=valid_until, every_weeks=every_weeks)
    calendar = [first + timedelta(days=n) for n in range(length + 1)]
    valid = [day for day in calendar if valid_from <= day <= (valid_until or date.max)]
    worked = timeline.worked_days(hours, first, first + timedelta(days=length))
    assert list(worked) == [day for day in valid if day.weekday() == weekday and in_rhythm(hours, day)]


# --- stretches and cells

MIDNIGHT = at("2027-03-14T00:00+00:00")


def stretch(start: int, end: int, therapist: int = 1, location: int = 1) -> Stretch:
    """A stretch from one quarter hour to another, counted from a midnight."""
    return Stretch(therapist, location, MIDNIGHT + start * QUARTER, MIDNIGHT + end * QUARTER, needling=True)


def test_a_stretch_has_as_many_cells_as_quarter_hours() -> None:
    assert stretch(3, 10).cells == 7


@pytest.mark.parametrize(
    ("window", "part"),
    [
        ((0, 20), (4, 8)),
        ((5, 7), (5, 7)),
        ((0, 6), (4, 6)),
        ((6, 20), (6, 8)),
        ((0, 4), None),
        ((8, 20), None),
        ((6, 6), None),
    ],
)
def test_a_clipped_stretch_is_its_part_in_the_window(window: tuple[int, int], part: tuple[int, int] | None) -> None:
    start, end = (MIDNIGHT + edge * QUARTER for edge in window)
    assert timeline.clipped(stretch(4, 8), start, end) == (part and stretch(*part))


def test_where_stretches_overlap_the_earlier_one_keeps_the_time() -> None:
    given_ = [stretch(6, 12, location=2), stretch(0, 8), stretch(2, 4, location=3), stretch(0, 4, therapist=2)]
    assert timeline.disjoint(given_) == [stretch(0, 8), stretch(8, 12, location=2), stretch(0, 4, therapist=2)]


stretches = st.builds(
    lambda start, length, therapist, location: stretch(start, start + length, therapist, location),
    st.integers(0, 40),
    st.integers(1, 12),
    st.integers(1, 2),
    st.integers(1, 3),
)


def cells_of(stretch: Stretch) -> list[tuple[int, datetime]]:
    return [(stretch.therapist_id, cell) for cell in quarters(stretch.starts_at, stretch.ends_at)]


@settings(deadline=None)
@given(st.lists(stretches, max_size=8))
def test_disjoint_stretches_cover_the_same_cells_and_each_once(several: list[Stretch]) -> None:
    result = [cell for stretch in timeline.disjoint(several) for cell in cells_of(stretch)]
    assert sorted(result) == sorted({cell for stretch in several for cell in cells_of(stretch)})


@settings(deadline=None)
@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 hypothesis asks so
def test_grid_points_lie_around_every_instant(instant: datetime) -> None:
    before, after = timeline.cell_of(instant), timeline.next_cell(instant)
    for point in (before, after):
        assert (point.minute % 15, point.second, point.microsecond) == (0, 0, 0)
    assert before <= instant <= after
    assert after - before == (timedelta() if before == instant else QUARTER)


# --- every change of the clocks: pure

DAY_OPENINGS = (0, 105, 150, 1425)


def check_around(zone: str, transition: datetime) -> None:
    """Hours of 24 hours a day give every quarter hour around a change of the clocks once, whenever the day opens."""
    days = [transition.astimezone(ZoneInfo(zone)).date() + n * ONE_DAY for n in range(-2, 3)]
    for opens in DAY_OPENINGS:
        cells = [cell for day in days for cell in planned(zone, day, opens, opens + WHOLE_DAY)]
        assert cells == list(quarters(cells[0], cells[-1] + QUARTER)), (zone, transition, opens)
        assert cells[0] < transition - ONE_DAY < transition + ONE_DAY < cells[-1], (zone, transition, opens)
        assert cells == [c for day in days for c in cells_by_the_wall_clock(zone, day, opens, opens + WHOLE_DAY)]


def test_zones_change_their_clocks_as_often_as_the_law_says() -> None:
    assert {zone: len(transitions(zone)) for zone in FEW_ZONES} == {
        "America/New_York": 22,
        "America/Phoenix": 0,
        "US/Aleutian": 22,
    }


@pytest.mark.parametrize("zone", FEW_ZONES)
def test_whole_days_lose_and_double_nothing_when_the_clocks_change(zone: str) -> None:
    for transition in transitions(zone)[:4] or transitions("America/Denver")[:4]:
        check_around(zone, transition)


@pytest.mark.drill
@pytest.mark.parametrize("zone", US_ZONES)
def test_whole_days_lose_and_double_nothing_in_any_us_zone_until_2035(zone: str) -> None:
    for transition in transitions(zone) or transitions("America/Denver"):
        check_around(zone, transition)


zones_that_change = st.sampled_from(["America/New_York", "America/Adak", "Australia/Lord_Howe", "America/Nuuk"])
openings = st.integers(0, 95).map(lambda quarter: quarter * 15)
lengths = st.integers(1, 96).map(lambda quarter: quarter * 15)


@settings(max_examples=150, deadline=None)
@given(zones_that_change, st.integers(0, 21), st.integers(-1, 1), openings, lengths)
def test_any_hours_near_a_change_are_those_of_the_wall_clock(
    zone: str, change: int, days: int, opens: int, length: int
) -> None:
    day = transitions(zone)[change].astimezone(ZoneInfo(zone)).date() + days * ONE_DAY
    assert planned(zone, day, opens, opens + length) == cells_by_the_wall_clock(zone, day, opens, opens + length)


# --- every change of the clocks: through the database


@dataclass
class Planner:
    """A clinic with one location and therapist for each zone; both are found by the zone's name."""

    clinic: Clinic
    therapists: dict[str, int]
    clock: FixedClock

    @classmethod
    def of(
        cls, zones: list[str], shift: tuple[int, int], engine: Engine, clock: FixedClock, keys: Keyring
    ) -> "Planner":
        clinic = Clinic(engine, clock, keys)
        clinic.add_kinds()
        clinic.policy(booking_horizon_days=2)
        therapists = {}
        for zone in zones:
            therapists[zone] = clinic.add_therapist(zone)
            location = clinic.add_location(zone, zone)
            clinic.add_hours(therapists[zone], location, range(7), *shift)
        return cls(clinic, therapists, clock)

    def cells(self, now: datetime) -> dict[str, list[datetime]]:
        """Let the worker plan the calendar from `now` on; return each zone's cells of the next three days."""
        self.clock.at = now
        self.clinic.plan()
        found: dict[int, list[datetime]] = {therapist: [] for therapist in self.therapists.values()}
        with reading(self.clinic.engine) as session:
            ahead = Slot.starts_at >= now, Slot.starts_at < now + 3 * ONE_DAY
            near = select(Slot.therapist_id, Slot.starts_at).where(*ahead)
            for therapist, starts_at in session.execute(near.order_by(Slot.starts_at)):
                found[therapist].append(starts_at)
        return {zone: found[therapist] for zone, therapist in self.therapists.items()}


def oracle(zone: str, now: datetime, opens: int, closes: int) -> list[datetime]:
    """Every quarter hour of the next three days in hours that are worked on each weekday."""
    today = now.astimezone(ZoneInfo(zone)).date()
    days = [cells_by_the_wall_clock(zone, today + n * ONE_DAY, opens, closes) for n in range(-2, 5)]
    return sorted({cell for day in days for cell in day if now <= cell < now + 3 * ONE_DAY})


def changing_days(zones: list[str]) -> list[datetime]:
    """Noon (UTC) of the day before each day on which one of these zones changes its clocks."""
    days = {transition.date() for zone in zones for transition in transitions(zone)}
    return [datetime.combine(day - ONE_DAY, time(12), UTC) for day in sorted(days)]


def test_cells_of_whole_days_are_every_quarter_hour_when_the_clocks_change(
    engine: Engine, clock: FixedClock, keys: Keyring
) -> None:
    planner = Planner.of(FEW_ZONES, (0, WHOLE_DAY), engine, clock, keys)
    for now in changing_days(FEW_ZONES)[:2]:
        assert planner.cells(now) == {zone: list(quarters(now, now + 3 * ONE_DAY)) for zone in FEW_ZONES}


@pytest.mark.parametrize("shift", [(0, 150), (90, 120), (135, 1020), (1200, 1200 + 540)])
def test_cells_of_a_shift_are_those_of_the_wall_clock_when_the_clocks_change(
    engine: Engine, clock: FixedClock, keys: Keyring, shift: tuple[int, int]
) -> None:
    planner = Planner.of(FEW_ZONES, shift, engine, clock, keys)
    for now in changing_days(FEW_ZONES)[:2]:
        assert planner.cells(now) == {zone: oracle(zone, now, *shift) for zone in FEW_ZONES}


@pytest.mark.drill
def test_cells_of_whole_days_are_every_quarter_hour_in_every_us_zone_until_2035(
    engine: Engine, clock: FixedClock, keys: Keyring
) -> None:
    planner = Planner.of(US_ZONES, (0, WHOLE_DAY), engine, clock, keys)
    days = changing_days(US_ZONES)
    assert len(days) == 22
    for now in days:
        assert planner.cells(now) == {zone: list(quarters(now, now + 3 * ONE_DAY)) for zone in US_ZONES}, now


@pytest.mark.drill
def test_cells_of_a_shift_are_those_of_the_wall_clock_in_every_us_zone_until_2035(
    engine: Engine, clock: FixedClock, keys: Keyring
) -> None:
    shift = (75, 150)
    planner = Planner.of(US_ZONES, shift, engine, clock, keys)
    for now in changing_days(US_ZONES):
        assert planner.cells(now) == {zone: oracle(zone, now, *shift) for zone in US_ZONES}, now


def test_planning_again_adds_and_removes_nothing_when_the_clocks_change(
    engine: Engine, clock: FixedClock, keys: Keyring
) -> None:
    planner = Planner.of(["America/New_York"], (0, WHOLE_DAY), engine, clock, keys)
    planner.cells(changing_days(["America/New_York"])[0])
    assert planner.clinic.plan() == slots.Changes(0, 0)


CLASH_ZONES = [
    "America/Chicago", "America/Denver", "America/Phoenix", "America/New_York", "Pacific/Guam", "Pacific/Pago_Pago",
]  # fmt: skip
CLASH_BEGINS = datetime(2026, 10, 28, 17, 30, tzinfo=UTC)  # the clocks go back that week


def worked_cells(hours: Hours, zone: str) -> set[datetime]:
    """Every quarter hour of these hours from CLASH_BEGINS on, by the clock on the wall."""
    first, last = hours.valid_from, hours.valid_until or date(2027, 1, 10)
    days = (first + n * ONE_DAY for n in range((last - first).days + 1))
    worked = (day for day in days if day.weekday() == hours.weekday and in_rhythm(hours, day))
    shifts = (cells_by_the_wall_clock(zone, day, hours.opens_minute, hours.closes_minute) for day in worked)
    return {cell for cells in shifts for cell in cells if cell + QUARTER > CLASH_BEGINS}


@st.composite
def weekly(draw: st.DrawFn) -> Hours:
    opens = draw(st.integers(0, 95))
    first = date(2026, 10, 15) + draw(st.integers(0, 40)) * ONE_DAY
    last = draw(st.one_of(st.none(), st.integers(0, 40)))
    return Hours(
        weekday=draw(st.integers(0, 6)),
        opens_minute=opens * 15,
        closes_minute=(opens + draw(st.integers(1, 96))) * 15,
        valid_from=first,
        valid_until=None if last is None else first + last * ONE_DAY,
        every_weeks=draw(st.integers(1, 3)),
    )


@given(one=weekly(), other=weekly(), zones=st.tuples(*[st.sampled_from(CLASH_ZONES)] * 2))
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
def test_hours_clash_when_they_share_a_quarter_hour_and_only_then(
    one: Hours, other: Hours, zones: tuple[str, str]
) -> None:
    shared = worked_cells(one, zones[0]) & worked_cells(other, zones[1])
    first = timeline.first_clash(one, ZoneInfo(zones[0]), other, ZoneInfo(zones[1]), CLASH_BEGINS)
    if one.valid_until is None and other.valid_until is None and not shared:
        return  # they may meet after the days that the oracle looks at
    assert (first is not None) == bool(shared)
    if first is not None:
        day = cells_by_the_wall_clock(zones[0], first, one.opens_minute, one.closes_minute)
        assert min(shared) in day


def test_hours_that_meet_only_while_one_clock_is_changed_clash_then() -> None:
    phoenix = Hours(0, 12 * 60, 13 * 60, date(2026, 12, 7), None)
    denver = Hours(0, 13 * 60, 14 * 60, date(2026, 12, 7), None)  # in winter both have the same hour, so one follows
    zones = ZoneInfo("America/Phoenix"), ZoneInfo("America/Denver")
    since = datetime(2026, 11, 23, tzinfo=UTC)
    assert timeline.first_clash(phoenix, zones[0], denver, zones[1], since) == date(2027, 3, 15)
    ended = Hours(0, 13 * 60, 14 * 60, date(2026, 12, 7), date(2027, 3, 14))
    assert timeline.first_clash(phoenix, zones[0], ended, zones[1], since) is None


def test_hours_of_alternate_weeks_never_meet() -> None:
    odd = Hours(0, 9 * 60, 12 * 60, date(2026, 11, 23), every_weeks=2)
    even = Hours(0, 9 * 60, 12 * 60, date(2026, 11, 30), every_weeks=2)
    third = Hours(0, 9 * 60, 12 * 60, date(2026, 11, 23), every_weeks=3)
    chicago, since = ZoneInfo("America/Chicago"), datetime(2026, 11, 1, tzinfo=UTC)
    assert timeline.first_clash(odd, chicago, even, chicago, since) is None
    assert timeline.first_clash(even, chicago, third, chicago, since) == date(2026, 12, 14)


def test_hours_that_were_never_worked_are_known() -> None:
    monday = Hours(0, 9 * 60, 10 * 60, date(2026, 11, 17), None)
    chicago = ZoneInfo("America/Chicago")
    assert timeline.never_began(monday, chicago, at("2026-11-23T08:59:00-06:00"))
    assert not timeline.never_began(monday, chicago, at("2026-11-23T09:00:00-06:00"))
    fortnightly = Hours(0, 9 * 60, 10 * 60, date(2026, 11, 17), every_weeks=2)  # a Tuesday: its week's Monday is over
    assert timeline.never_began(fortnightly, chicago, at("2026-11-30T08:59:00-06:00"))
    assert not timeline.never_began(fortnightly, chicago, at("2026-11-30T09:00:00-06:00"))
    nobody_s = Hours(0, 9 * 60, 10 * 60, date(2026, 11, 17), date(2026, 11, 20))
    assert timeline.never_began(nobody_s, chicago, at("2027-11-23T09:00:00-06:00"))
