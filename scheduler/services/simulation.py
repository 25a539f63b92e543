"""A clinic's years played through on paper: what keeping visits back for short notice gains, and what it costs.

Seeded, in memory, apart from everything stored. The figures come from the functions that measure the real clinic
(`access_goal.figures`, `access_rules`); what is made up, and what is left out, is in docs/access.md.
"""

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from itertools import accumulate, product
from random import Random
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple
from zoneinfo import ZoneInfo

from scheduler.errors import Invalid
from scheduler.services import access_goal, access_rules
from scheduler.services.access_rules import Cause
from scheduler.services.simulated_clinics import YEAR, BookingTerms, Clinic
from scheduler.services.windows import Times
from scheduler.timeline import CELL, DAY, MINUTE, first_instant, local_date

FIRST_ASKED, LAST_ASKED = 7 * 60, 21 * 60  # patients ask at any minute of every day between these, local time
PATIENCE = 7 * DAY  # how much later than wished a visit may be before the patient goes elsewhere
TRIED = (0.25, 0.5, 0.75, 1.0, 1.25)  # the levels that are tried, as parts of what the newsvendor rule says
CONFIDENCE = 0.95
QUEUE_CONFIDENCE = 0.99  # it checks an exact figure: seldom shall it cast doubt on a right one
RUNS, RUN_DAYS = 20, 10_000  # of the queue of one day's capacity
MANY = 100  # more than the demand of a day ever is above ten times the room


@dataclass(frozen=True, slots=True)
class Demand:
    """Who asks. Shares are 0 to 1.

    `load` is the visits wanted and not called off, of all that there is room for, unless `visits` says how many that
    are on an open day; `soon` the share that wants to come
    as soon as can be; the others wish a day that lies the goal and `lead_days` more ahead, on average, exponentially.
    `cancelled` are called off at any moment before the visit, all alike, and their time is offered again.
    """

    load: float
    soon: float
    lead_days: float
    no_shows: float
    cancelled: float
    visits: float | None = None

    def of_a_day(self, calendar: "Calendar") -> float:
        """How many ask on a day of the year, open or not."""
        wanted = self.load * len(calendar.counted) if self.visits is None else self.visits * calendar.open_days
        return wanted / (YEAR / DAY) / (1 - self.cancelled)


class Request(NamedTuple):
    """A visit wanted: places from `first` to before `last` would do; those from `release` on are not released yet.

    `leaves` is when it is called off, as a share of the time until it begins; None if it is not.
    """

    at: datetime
    soon: bool
    first: int
    last: int
    release: int
    leaves: float | None
    comes: bool


class Quarter(NamedTuple):
    """A moment at which the goal is measured: places from `first` to before `until` are within it."""

    at: datetime
    first: int
    until: int


@dataclass(frozen=True, slots=True)
class Year:
    """What one year came to. Shares are 0 to 1, None where there is nothing to share; visits are whole visits a year.

    `attained` is the share of quarter hours with a start within the goal, `full` that of time without one for want of
    room (not of hours); `offered` the share of requests to come soon at whose moment one was on offer; `third` the mean
    of the third next available in hours where there is one, what is kept back left out. `idle` places nobody had
    booked, `absent` those whose patient did not come, `lost` are patients who found nothing in time.
    """

    attained: float
    full: float
    offered: float | None
    third: float | None
    booked: float
    idle: float
    absent: float
    lost: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over years, and how far to either side of it the truth lies, with CONFIDENCE unless said."""

    mean: float
    within: float


@dataclass(frozen=True, slots=True)
class Tried:
    """What keeping back so many visits of each day came to, as the figures of Year by name.

    `more_idle` and `more_lost` are visits a year above those of the same years with nothing kept back.
    """

    level: int
    figures: dict[str, Estimate | None]
    more_idle: Estimate
    more_lost: Estimate


@dataclass(frozen=True, slots=True)
class Verdict:
    """A clinic's policies side by side.

    `rule` is what the newsvendor rule says of a year without protection, `recommended` the least of the tried levels
    that attains the target as far as the confidence goes; None if none does. `in_force` is the level that the location
    really has, None on paper. `ceiling` is what an empty calendar would attain, `places` how many visits there is room
    for in the year, `open_days` on how many days.
    """

    name: str
    ceiling: float
    places: int
    open_days: int
    rule: int
    in_force: int | None
    recommended: int | None
    tried: list[Tried]


@dataclass(frozen=True, slots=True)
class Gap:
    """From one local weekday and time to another there is no start in reach, so many times a year."""

    begins: str
    ends: str
    times: int


@dataclass(frozen=True, slots=True)
class Structural:
    """What an empty calendar says of the goal: the share of a year without a start in reach, and when that is.

    `ceiling` counts quarter hours, see `access_rules.ceiling`; `often` has the gaps by local weekday and time.
    """

    name: str
    share: float
    ceiling: float
    gaps: list[Times]
    often: list[Gap]


class Calendar:
    """A clinic's places, back to back and by time, and when the goal is measured. The same for every policy."""

    def __init__(self, clinic: Clinic, terms: BookingTerms) -> None:
        """Raise Invalid for a clinic without any room in its year."""
        self.clinic, self.terms = clinic, terms
        self.empty = access_rules.empty_plan_starts(clinic.stretches, terms.cells, needling=clinic.needling)
        self.places = access_rules.back_to_back(self.empty, terms.cells)
        self.index = {place: index for index, place in enumerate(self.places)}
        self.starts = [place.starts_at for place in self.places]
        begin, end = clinic.year
        self.counted = range(bisect_left(self.starts, begin), bisect_left(self.starts, end))
        if not self.counted:
            raise Invalid("location", f"{clinic.name} has no time for such a visit in the year that is simulated.")
        self.days: dict[date, list[int]] = defaultdict(list)
        for index, start in enumerate(self.starts):
            self.days[local_date(start, clinic.zone)].append(index)
        self.open_days = len({local_date(self.starts[place], clinic.zone) for place in self.counted})
        empty = [start.starts_at for start in self.empty]
        self.ceiling = access_rules.ceiling(empty, clinic.year, notice=terms.notice, goal=terms.goal)
        self.structural = access_rules.misses(empty, clinic.year, notice=terms.notice, goal=terms.goal)
        moments = (begin + number * CELL for number in range((end - begin) // CELL))
        self.quarters = [Quarter(at, *self.between(at + terms.notice, at + terms.goal)) for at in moments]

    def between(self, earliest: datetime, latest: datetime) -> tuple[int, int]:
        """The places that begin from `earliest` to `latest`, both included: the first, and the first after them."""
        return bisect_left(self.starts, earliest), bisect_right(self.starts, latest)

    def kept_back(self, level: int) -> set[int]:
        """The places that are kept back when each day keeps back so many visits."""
        days = ([self.places[index] for index in of_day] for of_day in self.days.values())
        return {self.index[place] for day in days for place in access_rules.keep_back(day, level, self.terms.cells)}


def requests(calendar: Calendar, demand: Demand, random: Random) -> list[Request]:
    """Whoever asks from the calendar's first day to the end of its year, in order; the same under every policy."""
    clinic, (_, end) = calendar.clinic, calendar.clinic.year
    a_day = demand.of_a_day(calendar)
    asked = []
    for number in range((end - clinic.begins) // DAY):
        day = local_date(clinic.begins, clinic.zone) + number * DAY
        opens = first_instant(day, FIRST_ASKED, clinic.zone)
        minute = random.expovariate(a_day) if a_day else 1.0
        while minute < 1:
            at = opens + minute * (LAST_ASKED - FIRST_ASKED) * MINUTE
            asked.append(_request(calendar, demand, at, random))
            minute += random.expovariate(a_day)
    return asked


def _request(calendar: Calendar, demand: Demand, at: datetime, random: Random) -> Request:
    """Who wishes a day that cannot be booked yet asks later: when it and what they would take instead can be."""
    terms, soon = calendar.terms, random.random() < demand.soon
    ahead = terms.goal + random.expovariate(1 / demand.lead_days) * DAY if not soon else terms.notice
    leaves = random.random() if random.random() < demand.cancelled else None
    comes = random.random() >= demand.no_shows
    horizon = terms.horizon_days * DAY
    wish = min(ahead, max(horizon - PATIENCE, terms.goal))
    first, last = calendar.between(at + wish, at + min(wish + PATIENCE, horizon))
    return Request(at, soon, first, last, calendar.between(at, at + terms.goal)[1], leaves, comes)


class Book:
    """The places that are free as a year goes by: those for everybody, and those kept back until they are released."""

    def __init__(self, calendar: Calendar, level: int) -> None:
        self.starts = calendar.starts
        kept = calendar.kept_back(level)
        self.open = [place for place in range(len(self.starts)) if place not in kept]
        self.kept = sorted(kept)
        self.leaving: list[tuple[datetime, int]] = []
        self.taken: dict[int, bool] = {}  # by place, whether the patient comes

    def offered(self, first: int, last: int, release: int, most: int = access_goal.COUNTED) -> list[int]:
        """The first places on offer from `first` to before `last`, by time: of the kept ones those before `release`."""
        everybodys = self._from(self.open, first, last, most)
        if not self.kept or first >= release:
            return everybodys
        return sorted(everybodys + self._from(self.kept, first, min(last, release), most))

    @staticmethod
    def _from(free: list[int], first: int, last: int, most: int) -> list[int]:
        at = bisect_left(free, first)
        found = free[at : at + most]
        while found and found[-1] >= last:
            found.pop()
        return found

    def ask(self, request: Request) -> bool:
        """Take the first place that would do; False if there is none."""
        found = self.offered(request.first, request.last, request.release, 1)
        if not found:
            return False
        place = found[0]
        for free in (self.open, self.kept):
            at = bisect_left(free, place)
            if at < len(free) and free[at] == place:
                del free[at]
        self.taken[place] = request.comes
        if request.leaves is not None:
            heapq.heappush(self.leaving, (request.at + request.leaves * (self.starts[place] - request.at), place))
        return True

    def call_off(self, until: datetime) -> None:
        """Give back what is called off before a moment: it is free for everybody then."""
        while self.leaving and self.leaving[0][0] <= until:
            _, place = heapq.heappop(self.leaving)
            del self.taken[place]
            insort(self.open, place)


def play(calendar: Calendar, asked: Sequence[Request], level: int) -> Year:
    """Play one year through with so many visits of each day kept back."""
    book, coming = Book(calendar, level), deque(asked)
    missed: list[datetime] = []
    thirds: list[float] = []
    soon, offered, lost = 0, 0, 0
    for quarter in calendar.quarters:
        while coming and coming[0].at <= quarter.at:
            request = coming.popleft()
            book.call_off(request.at)
            counts = request.at >= calendar.clinic.year[0]
            if counts and request.soon:
                soon += 1
                offered += bool(book.offered(request.first, request.release, request.release, 1))
            lost += not book.ask(request) and counts
        book.call_off(quarter.at)
        kept, third = _measured(calendar, book, quarter)
        if not kept:
            missed.append(quarter.at)
        if third is not None:
            thirds.append(third)
    return _year(calendar, book, missed, thirds, (soon, offered, lost))


def _measured(calendar: Calendar, book: Book, quarter: Quarter) -> tuple[bool, float | None]:
    """Whether the goal is kept at a moment, and the third next available start in hours, without what is kept back."""

    def figures(places: Iterable[int]) -> access_goal.Figures:
        starts = [calendar.starts[place] for place in places]
        return access_goal.figures(starts, now=quarter.at, goal_hours=calendar.terms.goal_hours)

    public = figures(book.offered(quarter.first, len(calendar.starts), 0))
    if public.within_goal or not book.kept:
        return public.within_goal, public.third_next_available_hours
    released = figures(book.offered(quarter.first, quarter.until, quarter.until))
    return released.within_goal, public.third_next_available_hours


def _year(
    calendar: Calendar, book: Book, missed: Sequence[datetime], thirds: Sequence[float], counts: tuple[int, int, int]
) -> Year:
    soon, offered, lost = counts
    causes = access_rules.split(calendar.clinic.location_id, access_rules.joined(missed), calendar.structural)
    full = [(miss.begins_at, miss.ends_at) for miss in causes if miss.cause is Cause.CAPACITY]
    booked = [book.taken[place] for place in calendar.counted if place in book.taken]
    return Year(
        attained=1 - len(missed) / len(calendar.quarters),
        full=access_rules.share(full, calendar.clinic.year),
        offered=offered / soon if soon else None,
        third=fmean(thirds) if thirds else None,
        booked=len(booked),
        idle=len(calendar.counted) - len(booked),
        absent=booked.count(False),
        lost=lost,
    )


def compare(
    calendar: Calendar,
    demand: Demand,
    *,
    years: int,
    seed: int,
    levels: Collection[int] = (),
    in_force: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Verdict:
    """Play the same years through under each policy: nothing kept back, what is in force, what the rule says, `levels`.

    Without `levels` some around the rule's are tried. `years` is at least 3; the same seed gives the same answer.
    `progress` is told how many years were played, and of how many.
    """
    played = [
        requests(calendar, demand, Random(f"{seed} {calendar.clinic.location_id} {year}")) for year in range(years)
    ]
    rule = _rule(calendar, played)
    real = set[int]() if in_force is None else {in_force}
    tried_levels = sorted({0, rule, *real, *(levels or (round(part * rule) for part in TRIED))})
    outcomes: dict[int, list[Year]] = {level: [] for level in tried_levels}
    for done, (level, asked) in enumerate(product(tried_levels, played), start=1):
        outcomes[level].append(play(calendar, asked, level))
        progress(done, len(tried_levels) * years)
    tried = [_tried(level, of_level, outcomes[0]) for level, of_level in outcomes.items()]
    return _verdict(calendar, rule, in_force, tried)


def _tried(level: int, outcomes: Sequence[Year], without: Sequence[Year]) -> Tried:
    pairs = list(zip(outcomes, without, strict=True))
    return Tried(
        level,
        {field.name: _over(outcomes, field.name) for field in fields(Year)},
        more_idle=estimate([with_it.idle - plain.idle for with_it, plain in pairs]),
        more_lost=estimate([with_it.lost - plain.lost for with_it, plain in pairs]),
    )


def _verdict(calendar: Calendar, rule: int, in_force: int | None, tried: list[Tried]) -> Verdict:
    return Verdict(
        name=calendar.clinic.name,
        ceiling=calendar.ceiling,
        places=len(calendar.counted),
        open_days=calendar.open_days,
        rule=rule,
        in_force=in_force,
        recommended=next((one.level for one in tried if _attains(one, calendar.terms.target)), None),
        tried=tried,
    )


def _attains(tried: Tried, target: float) -> bool:
    attained = tried.figures["attained"]
    return attained is not None and attained.mean - attained.within >= target


def _rule(calendar: Calendar, played: Iterable[Sequence[Request]]) -> int:
    """What the newsvendor rule says of the demand at short notice that the years had, each on the next open day."""
    days, (begin, end) = sorted(calendar.days), calendar.clinic.year
    zone, visits = calendar.clinic.zone, fmean(len(places) for places in calendar.days.values())
    counted = [day for day in days if local_date(begin, zone) <= day < local_date(end, zone)]
    history = []
    for asked in played:
        wanted = Counter(bisect_left(days, local_date(one.at, zone)) for one in asked if one.soon and one.at >= begin)
        history += [wanted[bisect_left(days, day)] for day in counted]
    usual = access_rules.USUAL_SHARE * visits
    return access_rules.protection_level(
        history, target=calendar.terms.target, usual=usual, least=0, most=round(visits)
    )


def _over(outcomes: Sequence[Year], name: str) -> Estimate | None:
    values = [value for outcome in outcomes if (value := getattr(outcome, name)) is not None]
    return estimate(values) if len(values) == len(outcomes) else None


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The mean of independent values, at least three, and its interval by Student's t."""
    return Estimate(fmean(values), _student(len(values) - 1, confidence) * stdev(values) / len(values) ** 0.5)


def _student(freedom: int, confidence: float) -> float:
    """Student's t, to both sides (Abramowitz and Stegun 26.7.5): to 2 % from 2 degrees of freedom on."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    terms: tuple[float, ...] = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))


def structural(clinic: Clinic, terms: BookingTerms) -> Structural:
    """What the hours alone do to the goal, in a year from the clinic's beginning. Raise Invalid without any hours."""
    empty = access_rules.empty_plan_starts(clinic.stretches, terms.cells, needling=clinic.needling)
    if not empty:
        raise Invalid("location", f"{clinic.name} has no time for such a visit.")
    starts, period = [start.starts_at for start in empty], (clinic.begins, clinic.begins + YEAR)
    gaps = access_rules.misses(starts, period, notice=terms.notice, goal=terms.goal)
    ceiling = access_rules.ceiling(starts, period, notice=terms.notice, goal=terms.goal)
    return Structural(clinic.name, access_rules.share(gaps, period), ceiling, gaps, _often(gaps, clinic.zone))


def _often(gaps: Iterable[Times], zone: ZoneInfo) -> list[Gap]:
    """The gaps by their local times, the most frequent first."""
    times = Counter(tuple(f"{edge.astimezone(zone):%a %H:%M}" for edge in gap) for gap in gaps)
    return [Gap(begins, ends, number) for (begins, ends), number in times.most_common()]


def queue(visits: int, load: float, *, seed: int) -> Estimate:
    """`access_rules.same_or_next_day` found by chance: independent runs of many days, after as many to warm up.

    The interval is that of QUEUE_CONFIDENCE.
    """
    upto = list(accumulate(access_rules.poisson(load * visits, asked) for asked in range(visits * 10 + MANY)))
    return estimate(
        [_seen_soon(visits, upto, Random(f"{seed} {visits} {load} {run}")) for run in range(RUNS)], QUEUE_CONFIDENCE
    )


def _seen_soon(visits: int, upto: Sequence[float], random: Random) -> float:
    waiting = asked = seen = 0
    for day in range(2 * RUN_DAYS):
        today = bisect_left(upto, random.random())
        if day >= RUN_DAYS:
            asked += today
            seen += max(0, min(today, 2 * visits - waiting))
        waiting = max(waiting + today - visits, 0)
    return seen / asked if asked else 1.0
