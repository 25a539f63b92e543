"""The goal's arithmetic against a recount of clinics by chance, minute by minute, and against known figures."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import partial
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.services import access_goal, access_rules
from scheduler.services.access_rules import Cause, Miss
from scheduler.services.availability import SlotName
from scheduler.services.simulated_clinics import OnPaper
from scheduler.services.windows import Times
from scheduler.timeline import DAY, Stretch, first_instant, local_date, working_time

MINUTE, QUARTER, HOUR = timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=1)
CHICAGO, PHOENIX = ZoneInfo("America/Chicago"), ZoneInfo("America/Phoenix")
ORDINARY, SPRING, AUTUMN = date(2027, 5, 3), date(2027, 3, 8), date(2027, 11, 1)  # Mondays; clocks change on Sundays
GOAL = 48 * HOUR
EVERY = range(6)
# What the federal holidays of 2027 close, on the days on which they are kept.
SIX = (date(2027, 1, 1), date(2027, 5, 31), date(2027, 7, 5), date(2027, 9, 6), date(2027, 11, 25), date(2027, 12, 24))
ELEVEN = (*SIX, date(2027, 1, 18), date(2027, 2, 15), date(2027, 6, 18), date(2027, 10, 11), date(2027, 11, 11))


# --- what is foreseen


@given(
    free=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 400)), max_size=25, unique=True),
    pace=st.sampled_from([0, 0.3, 1, 2.5, 9]),
    cells=st.integers(1, 5),
    notice=st.integers(0, 12),
)
def test_what_is_foreseen_is_what_a_walk_through_the_quarter_hours_finds(
    free: list[tuple[int, int]], pace: float, cells: int, notice: int
) -> None:
    """Whoever asks takes the soonest visit that is left; looked at in the middle of each quarter hour."""
    now = datetime(2027, 5, 3, 15, 0, tzinfo=UTC)
    starts = [SlotName(who, 1, now + number * QUARTER) for who, number in free]
    reach = {"notice": notice * QUARTER, "goal": GOAL}
    found = access_rules.foreseen(
        1, starts, sorted(one.starts_at for one in starts), cells, pace=pace, now=now, **reach
    )
    left = list(access_rules.back_to_back_starts(starts, cells))
    assert sorted(at for visit in left for at in visit) == sorted(one.starts_at for one in starts)
    assert all(visit[-1] - visit[0] < cells * QUARTER for visit in left)
    midnight = datetime(2027, 5, 3, tzinfo=UTC)
    asked = [midnight + number * DAY / pace for number in range(1, int(pace * 4) + 1)] if pace else []
    asked = [at for at in asked if at > now]
    for number in range(access_rules.FORESEEN // QUARTER):
        middle = now + number * QUARTER + QUARTER / 2
        while asked and asked[0] <= middle:
            at = asked.pop(0)
            for visit in sorted(left, key=lambda visit: visit[0]):
                if visit[-1] >= at + notice * QUARTER:
                    left.remove(visit)
                    break
        kept = any(middle + notice * QUARTER <= start <= middle + GOAL for visit in left for start in visit)
        if not any(abs(at - middle) < QUARTER for at in asked):
            assert any(miss.begins_at < middle < miss.ends_at for miss in found) == (not kept)


# --- shares


@given(st.integers(1, 3000).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))), st.integers(1, 3))
def test_a_share_is_cut_to_the_digits_that_are_shown(counts: tuple[int, int], digits: int) -> None:
    part, whole = counts
    shown = round(access_rules.cut(part / whole, digits) * 10**digits)
    assert shown == part * 10**digits // whole
    assert access_rules.cut(part / whole, digits) == shown / 10**digits


# --- a clinic, and the recount that knows nothing of intervals


@dataclass(frozen=True)
class AnyClinic:
    """Stretches of work in a period, the cells that are taken of them, and how visits are booked."""

    stretches: list[Stretch]
    taken: frozenset[tuple[int, datetime]]
    period: Times
    cells: int
    needling: bool
    notice: timedelta
    goal: timedelta

    def starts(self, *, booked: bool) -> list[tuple[datetime, int]]:
        """Every start whose cells are all worked at one place and, if asked, free: by time and therapist."""
        place = {
            (one.therapist_id, one.starts_at + number * QUARTER): (one.location_id, one.needling)
            for one in self.stretches
            for number in range(one.cells)
            if not (booked and (one.therapist_id, one.starts_at + number * QUARTER) in self.taken)
        }
        return sorted(
            (start, therapist)
            for (therapist, start), (here, needling) in place.items()
            if (needling or not self.needling)
            and all(place.get((therapist, start + n * QUARTER), (None,))[0] == here for n in range(self.cells))
        )

    def kept(self, starts: Sequence[datetime], moment: datetime) -> bool:
        at = bisect_left(starts, moment + self.notice)
        return at < len(starts) and starts[at] <= moment + self.goal


def a_clinic(seed: int) -> AnyClinic:
    random = Random(seed)
    zone = random.choice((CHICAGO, CHICAGO, PHOENIX))
    monday = random.choice((ORDINARY, SPRING, AUTUMN))
    days = random.sample(range(9), random.randrange(6))
    begin = first_instant(monday + random.randrange(3) * DAY, random.randrange(1440), zone)
    stretches = [
        piece
        for day in days
        for therapist in range(1, random.randrange(2, 4))
        for piece in _pieces(random, therapist, monday + day * DAY, zone)
    ]
    worked = [(one.therapist_id, one.starts_at + n * QUARTER) for one in stretches for n in range(one.cells)]
    return AnyClinic(
        stretches=stretches,
        taken=frozenset(cell for cell in worked if random.random() < 0.5),
        period=(begin, begin + random.randrange(1, 6 * 96) * QUARTER + random.randrange(15) * MINUTE),
        cells=random.randrange(1, 6),
        needling=random.random() < 0.3,
        notice=random.choice((0, 15, 60, 67, 600)) * MINUTE,
        goal=random.choice((4, 24, 48)) * HOUR,
    )


def _pieces(random: Random, therapist: int, day: date, zone: ZoneInfo) -> Iterable[Stretch]:
    """One or two stretches of a day, which may touch, at one place or two."""
    opens = random.randrange(80) * 15
    middle, closes = opens + random.randrange(1, 8) * 15, opens + random.randrange(8, 20) * 15
    resumes = middle + random.choice((0, 0, 30))
    for since, until in ((opens, middle), (resumes, closes)):
        begin, end = working_time(OnPaper(day.weekday(), since, until), day, zone)
        if begin < end:
            yield Stretch(therapist, random.choice((1, 1, 2)), begin, end, random.random() < 0.5)


def times(starts: Iterable[tuple[datetime, int]]) -> list[datetime]:
    return [start for start, _ in starts]


def inside(intervals: Iterable[Times], moments: Sequence[datetime]) -> set[datetime]:
    return {
        moment
        for begin, end in intervals
        for moment in moments[bisect_left(moments, begin) : bisect_left(moments, end)]
    }


def assert_recounted(clinic: AnyClinic) -> set[Cause]:
    """Everything bears on whole minutes, so that the middle of each minute stands for all of it."""
    begin, end = clinic.period
    empty = access_rules.empty_plan_starts(clinic.stretches, clinic.cells, needling=clinic.needling)
    planned, offered = clinic.starts(booked=False), clinic.starts(booked=True)
    assert [(start.starts_at, start.therapist_id) for start in empty] == planned
    assert_ranges(clinic, times(planned))
    reach = partial(access_rules.misses, period=clinic.period, notice=clinic.notice, goal=clinic.goal)
    structural, missed = reach(times(planned)), reach(times(offered))
    middles = [begin + (number + 0.5) * MINUTE for number in range((end - begin) // MINUTE)]
    never = {moment for moment in middles if not clinic.kept(times(planned), moment)}
    not_then = {moment for moment in middles if not clinic.kept(times(offered), moment)}
    assert (inside(structural, middles), inside(missed, middles)) == (never, not_then)
    assert Fraction(len(never), len(middles)) == Fraction(
        access_rules.share(structural, clinic.period)
    ).limit_denominator(len(middles))
    assert_ceiling(clinic, times(planned))
    causes = access_rules.split(7, missed, structural)
    of_cause = {
        cause: inside([(miss.begins_at, miss.ends_at) for miss in causes if miss.cause is cause], middles)
        for cause in Cause
    }
    assert of_cause == {Cause.STRUCTURAL: not_then & never, Cause.CAPACITY: not_then - never}
    assert all(one.ends_at <= other.begins_at for one, other in pairwise(causes))
    assert_figures(clinic, times(offered), middles[:: max(1, len(middles) // 20)])
    return {miss.cause for miss in causes if miss.cause is not None}


def assert_ranges(clinic: AnyClinic, planned: Sequence[datetime]) -> None:
    ranges = list(access_rules.start_ranges(clinic.stretches, clinic.cells, needling=clinic.needling))
    begin, end = clinic.period
    for moment in (begin, begin + MINUTE, begin + (end - begin) / 2, end):
        assert access_rules.first_start(ranges, moment) == min((s for s in planned if s >= moment), default=None)
    zone = CHICAGO
    short = [one for one in ranges if one.last - one.first < DAY]
    dates = {local_date(start, zone) for one in short for start in planned if one.first <= start <= one.last}
    assert access_rules.range_dates(short, zone) == sorted(dates)


def assert_ceiling(clinic: AnyClinic, planned: Sequence[datetime]) -> None:
    begin, end = clinic.period
    first = begin.replace(minute=0, second=0)
    quarters = [first + n * QUARTER for n in range((end - first) // QUARTER + 1)]
    counted = [quarter for quarter in quarters if begin <= quarter < end]
    if counted:
        kept = sum(clinic.kept(planned, quarter) for quarter in counted)
        found = access_rules.ceiling(planned, clinic.period, notice=clinic.notice, goal=clinic.goal)
        assert found == kept / len(counted)


def assert_figures(clinic: AnyClinic, offered: Sequence[datetime], moments: Iterable[datetime]) -> None:
    """The promise and the third next available say the same as the misses, and as counting starts one by one."""
    for moment in moments:
        ahead = [start for start in offered if start >= moment + clinic.notice]
        figures = access_goal.figures(ahead, now=moment, goal_hours=clinic.goal // HOUR)
        assert figures.within_goal == clinic.kept(offered, moment) or abs(ahead[0] - moment - clinic.goal) < MINUTE
        third = round((ahead[2] - moment) / HOUR, 2) if len(ahead) > 2 else None
        assert figures.third_next_available_hours == third


CLINICS = [pytest.param(range(200), id="small"), pytest.param(range(200, 10_000), id="full", marks=pytest.mark.drill)]


@pytest.mark.parametrize("seeds", CLINICS)
def test_reach_ceiling_figures_and_causes_equal_a_recount_of_any_clinic(seeds: range) -> None:
    seen = Counter(cause for seed in seeds for cause in assert_recounted(a_clinic(seed)))
    assert min(seen[cause] for cause in Cause) > len(seeds) / 4  # so that the clinics were not all alike


# --- figures that are known


def week(text: dict[int, tuple[int, int]], monday: date, weeks: int, closed: Sequence[date] = ()) -> list[Stretch]:
    """One therapist's hours by weekday, in Chicago."""
    days = [monday + number * DAY for number in range(weeks * 7)]
    open_days = [day for day in days if day.weekday() in text and day not in closed]
    pieces = [(day, text[day.weekday()]) for day in open_days]
    instants = [
        (first_instant(day, opens * 60, CHICAGO), first_instant(day, closes * 60, CHICAGO))
        for day, (opens, closes) in pieces
    ]
    return [Stretch(1, 1, begin, end, needling=False) for begin, end in instants]


def of_year(stretches: list[Stretch], minutes: int, notice: int, period: Times) -> tuple[float, float]:
    """The structural share and the ceiling, rounded as they are known."""
    starts = [start.starts_at for start in access_rules.empty_plan_starts(stretches, minutes // 15)]
    gaps = access_rules.misses(starts, period, notice=notice * MINUTE, goal=GOAL)
    share = access_rules.share(gaps, period)
    return round(share, 3), round(access_rules.ceiling(starts, period, notice=notice * MINUTE, goal=GOAL), 3)


MON_FRI = dict.fromkeys(range(5), (8, 18))
SATURDAY = MON_FRI | {5: (8, 12)}
MON_SAT = MON_FRI | {5: (8, 18)}


@pytest.mark.parametrize(("hours", "notice", "share"), [(MON_FRI, 0, 0.088), (MON_SAT, 120, 0.0)])
@pytest.mark.parametrize("monday", [ORDINARY, SPRING, AUTUMN])
def test_the_structural_share_of_a_week_is_the_known_one(
    hours: dict[int, tuple[int, int]], notice: int, share: float, monday: date
) -> None:
    period = (first_instant(monday, 0, CHICAGO), first_instant(monday + 7 * DAY, 0, CHICAGO))
    around_it = week(hours, monday - 7 * DAY, 4)
    found, _ = of_year(around_it, 45, notice, period)
    change = {SPRING: -HOUR, AUTUMN: HOUR}.get(monday, timedelta()) if hours is MON_FRI else timedelta()
    assert found == pytest.approx(share + change / (period[1] - period[0]), abs=0.001)


@pytest.mark.parametrize(
    ("hours", "closed", "ceiling"),
    [(MON_FRI, (), 0.906), (MON_FRI, SIX, 0.893), (MON_FRI, ELEVEN, 0.882), (SATURDAY, SIX, 0.993)],
)
def test_the_ceiling_of_a_year_of_hour_long_visits_with_an_hour_of_notice_is_the_known_one(
    hours: dict[int, tuple[int, int]], closed: Sequence[date], ceiling: float
) -> None:
    """The 52 weeks from Monday 4 January 2027, with the holiday of the Friday before moved into them: 31 December."""
    monday = date(2027, 1, 4)
    kept = [date(2027, 12, 31) if day == SIX[0] else day for day in closed]
    period = (first_instant(monday, 0, CHICAGO), first_instant(monday + 364 * DAY, 0, CHICAGO))
    share, found = of_year(week(hours, monday - 7 * DAY, 55, kept), 60, 60, period)
    assert found == ceiling
    assert 0 < found - (1 - share) < 0.003 or share == 0.0


def test_a_gap_is_open_at_both_ends() -> None:
    start = datetime(2027, 5, 5, 12, tzinfo=UTC)
    period = (start - 60 * HOUR, start + HOUR)
    gaps = access_rules.misses([start], period, notice=HOUR, goal=GOAL)
    assert gaps == [(period[0], start - GOAL), (start - HOUR, period[1])]
    assert access_rules.ceiling([start], period, notice=HOUR, goal=GOAL) == (47 * 4 + 1) / (61 * 4)


def test_nothing_is_in_reach_when_the_notice_is_longer_than_the_goal() -> None:
    start = datetime(2027, 5, 5, 12, tzinfo=UTC)
    period = (start - DAY, start)
    assert access_rules.misses([start], period, notice=49 * HOUR, goal=GOAL) == [period]
    assert access_rules.ceiling([start], period, notice=49 * HOUR, goal=GOAL) == 0


def test_misses_are_told_apart_by_place_cause_and_length() -> None:
    noon = datetime(2027, 5, 5, 12, tzinfo=UTC)
    missed = access_rules.joined([noon + number * QUARTER for number in (0, 1, 2, 3, 8)])
    assert missed == [(noon, noon + HOUR), (noon + 2 * HOUR, noon + 135 * MINUTE)]
    structural = [(noon + 20 * MINUTE, noon + 30 * MINUTE)]
    told = access_rules.split(3, missed, structural)
    assert told == [
        Miss(3, Cause.CAPACITY, noon, noon + 20 * MINUTE),
        Miss(3, Cause.STRUCTURAL, noon + 20 * MINUTE, noon + 30 * MINUTE),
        Miss(3, Cause.CAPACITY, noon + 30 * MINUTE, noon + HOUR),
        Miss(3, Cause.CAPACITY, noon + 2 * HOUR, noon + 135 * MINUTE),
    ]
    assert sum(miss.hours for miss in told) == 1.25


# --- open days


@pytest.mark.parametrize(
    ("zone", "asked", "until"),
    [
        (CHICAGO, "2027-05-06T09:00-05:00", "2027-05-11T00:00-05:00"),  # Thursday: Friday and Monday
        (CHICAGO, "2027-05-08T09:00-05:00", "2027-05-12T00:00-05:00"),  # Saturday: Monday and Tuesday
        (CHICAGO, "2027-05-03T23:30-05:00", "2027-05-06T00:00-05:00"),
        (PHOENIX, "2027-05-03T23:30-05:00", "2027-05-06T00:00-07:00"),
        (PHOENIX, "2027-05-04T01:30-05:00", "2027-05-06T00:00-07:00"),  # still Monday there
        (CHICAGO, "2027-03-11T09:00-06:00", "2027-03-16T00:00-05:00"),  # the clocks change in between
        (CHICAGO, "2027-11-04T09:00-05:00", "2027-11-09T00:00-06:00"),
    ],
)
def test_two_open_days_end_with_the_second_one_after_today(zone: ZoneInfo, asked: str, until: str) -> None:
    now = datetime.fromisoformat(asked)
    monday = (now - 7 * DAY).date()
    dates = [day for day in (monday + n * DAY for n in range(30)) if day.weekday() < 5]
    starts = [first_instant(day, minutes, zone) for day in dates for minutes in (480, 1050)]
    assert access_rules.open_dates(starts, zone) == dates
    assert access_rules.open_days_deadline(now, dates, zone, goal_hours=48) == datetime.fromisoformat(until)
    assert access_rules.open_days_deadline(now, dates[:5], zone, goal_hours=48) is None
    fridays = [day for day in dates if day.weekday() == 4]
    assert access_rules.open_days_deadline(now, fridays, zone, goal_hours=48) is None
    assert access_rules.open_days_deadline(now, fridays, zone, goal_hours=24) is not None


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.integers(0, 20), min_size=8),
    st.integers(0, 12 * 1440),
    st.integers(1, 100),
    st.sampled_from([CHICAGO, PHOENIX]),
)
def test_open_days_are_never_stricter_than_the_clock_but_for_its_change(
    days: set[int], minute: int, goal_hours: int, zone: ZoneInfo
) -> None:
    dates = [SPRING + day * DAY for day in sorted(days)]
    now = first_instant(SPRING, 0, zone) + minute * MINUTE
    until = access_rules.open_days_deadline(now, dates, zone, goal_hours=goal_hours)
    today = now.astimezone(zone).date()
    nth = [day for day in dates if today < day <= today + 7 * DAY]  # five days at most
    if until is None:
        assert len(nth) * 24 < goal_hours
        assert not access_rules.within_open_days(now, None)
    else:
        assert until - now > (goal_hours - 1) * HOUR
        assert (until - MINUTE).astimezone(zone).date() == nth[-(-goal_hours // 24) - 1]


# --- what to keep back


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 12), min_size=20, max_size=60), st.integers(1, 999), st.integers(0, 5), st.integers(5, 15)
)
def test_the_level_is_the_least_that_demand_is_seldom_above(
    demand: list[int], thousandths: int, least: int, most: int
) -> None:
    level = access_rules.protection_level(demand, target=thousandths / 1000, usual=99, least=least, most=most)
    seldom = [n for n in range(most) if 1000 * sum(day > n for day in demand) <= (1000 - thousandths) * len(demand)]
    assert level == max(least, min(seldom, default=most))


@pytest.mark.parametrize(
    ("usual", "target", "level"),
    [(0.0, 0.9, 0), (1.0, 0.9, 2), (2.0, 0.9, 4), (3.6, 0.9, 6), (3.6, 0.5, 3), (2.0, 1.0, 9), (50.0, 0.9, 9)],
)
def test_before_there_is_history_demand_is_taken_to_be_poisson(usual: float, target: float, level: int) -> None:
    """Checked against a table of the Poisson distribution: P(X <= 2 | 1) = .920, P(X <= 4 | 2) = .947 ..."""
    short = [9] * (access_rules.LEAST_DAYS - 1)
    assert access_rules.protection_level(short, target=target, usual=usual, least=0, most=9) == level
    enough = [*short, 9]
    assert access_rules.protection_level(enough, target=target, usual=usual, least=0, most=9) == 9


free_starts = st.builds(
    lambda found: [
        SlotName(therapist, 1, datetime(2027, 5, 3, 13, tzinfo=UTC) + n * QUARTER) for therapist, n in found
    ],
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 39)), unique=True),
)


@settings(max_examples=300)
@given(free_starts, st.integers(0, 20), st.integers(1, 5))
def test_what_is_kept_back_is_free_disjoint_and_as_much_as_was_asked(
    free: list[SlotName], visits: int, cells: int
) -> None:
    kept = access_rules.keep_back(free, visits, cells)
    assert set(kept) <= set(free)
    assert len(kept) == len(set(kept)) == min(visits, len(access_rules.back_to_back(free, cells)))
    for therapist in range(1, 5):
        own = [start.starts_at for start in kept if start.therapist_id == therapist]
        assert all(later - earlier >= cells * QUARTER for earlier, later in pairwise(own))
    assert kept == access_rules.keep_back(reversed(free), visits, cells)


@settings(max_examples=100)
@given(st.integers(1, 4), st.integers(0, 52))
def test_what_is_kept_back_of_a_free_day_is_spread_over_it_and_the_therapists(therapists: int, visits: int) -> None:
    eight = datetime(2027, 5, 3, 13, tzinfo=UTC)
    free = [SlotName(person, 1, eight + n * QUARTER) for person in range(therapists) for n in range(38)]
    kept = access_rules.keep_back(free, visits, 3)
    each = Counter(dict.fromkeys(range(therapists), 0)) + Counter(start.therapist_id for start in kept)
    counts = [each[person] for person in range(therapists)]
    assert max(counts) - min(counts) <= 1
    parts = visits if visits <= therapists else max(counts)
    places = {(start.starts_at - eight) // (45 * MINUTE) for start in kept}
    for part in range(parts):  # each part of the day has its own, which may begin one visit before it
        assert any(13 * part / parts - 1 <= place < 13 * (part + 1) / parts for place in places)


# --- the queue of one day's capacity


@pytest.mark.parametrize(("visits", "load", "seen"), [(8, 0.90, 0.9295), (8, 0.95, 0.7355), (24, 0.95, 0.9748)])
def test_a_days_queue_sees_as_many_the_same_or_the_next_day_as_is_known(visits: int, load: float, seen: float) -> None:
    assert round(access_rules.same_or_next_day(visits, load), 4) == seen


@pytest.mark.parametrize(("visits", "load"), [(1, 0.5), (2, 0.8), (5, 0.85), (13, 0.1)])
def test_a_days_queue_equals_the_chain_walked_until_it_stands_still(visits: int, load: float) -> None:
    demand = [access_rules.poisson(load * visits, asked) for asked in range(60)]
    waiting = {0: 1.0}
    for _ in range(600):
        tomorrow = defaultdict[int, float](float)
        for held, often in waiting.items():
            for asked, chance in enumerate(demand):
                tomorrow[max(held + asked - visits, 0)] += often * chance
        waiting = {held: often for held, often in tomorrow.items() if often > 1e-13}
    seen = sum(
        often * chance * max(0, min(asked, 2 * visits - held))
        for held, often in waiting.items()
        for asked, chance in enumerate(demand)
    )
    assert access_rules.same_or_next_day(visits, load) == pytest.approx(seen / (load * visits), abs=1e-8)


def test_a_clinic_that_nobody_asks_sees_everybody_at_once() -> None:
    assert access_rules.same_or_next_day(8, 0.0) == 1.0
