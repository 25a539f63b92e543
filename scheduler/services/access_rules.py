"""The access goal as arithmetic: which moments a start is within reach of, what to keep back, how one day's queue runs.

Pure functions over plain values, so that page, report, alert and simulator say the same. Instants are aware; hours are
clock hours, nights and closed days included. A start within reach of a moment lies from `notice` after it to `goal`
after it, both ends included, as search and `access_goal.figures` have it; `goal` is the nearer of goal and horizon.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import accumulate, pairwise, takewhile
from math import exp, floor, lgamma, log
from zoneinfo import ZoneInfo

from scheduler.services.availability import SlotName
from scheduler.services.windows import Times
from scheduler.timeline import CELL, DAY, EPOCH, HOUR, Stretch, first_instant, local_date, next_cell

GOAL_DAY_HOURS = 24
WORKING_DAYS_A_WEEK = 5
# Before a location has history: so large a share of a day's visits is taken to be wanted at short notice. A guess, no
# finding: one visit in seven is a first one where an episode of care has seven.
USUAL_SHARE = 0.15
FORESEEN = 3 * DAY  # so far ahead are misses told: a Monday's from Friday on
LEAST_DAYS = 20  # four weeks of five days: fewer say little of what happens on one day in ten
NEGLIGIBLE = 1e-12
NEARLY = 1e-9


class Cause(StrEnum):
    """Why the goal was missed: no start would have been in reach with nothing booked, or all were taken."""

    STRUCTURAL = "structural"
    CAPACITY = "capacity"


@dataclass(frozen=True, slots=True)
class Miss:
    """The goal was missed at a location in [begins_at, ends_at), for one cause; `location_id` is None for anywhere.

    The cause is None where it was not measured what the hours alone would have made of it.
    """

    location_id: int | None
    cause: Cause | None
    begins_at: datetime
    ends_at: datetime

    @property
    def hours(self) -> float:
        return (self.ends_at - self.begins_at) / HOUR


@dataclass(frozen=True, slots=True)
class Range:
    """Starts of one therapist at one place: one a cell from `first` to `last`, both included."""

    therapist_id: int
    location_id: int
    first: datetime
    last: datetime


def empty_plan_starts(stretches: Iterable[Stretch], cells: int, *, needling: bool = False) -> list[SlotName]:
    """Every start of a visit of so many cells, its buffer included, if nothing were booked: by time and therapist.

    Stretches of a therapist at one place that touch are one, as for `slot.fit`; a visit with needling begins where it
    is allowed, and may end where it is not, as search has it. Of each therapist stretches do not overlap.
    """
    return in_order(
        SlotName(one.therapist_id, one.location_id, one.first + number * CELL)
        for one in start_ranges(stretches, cells, needling=needling)
        for number in range((one.last - one.first) // CELL + 1)
    )


def start_ranges(stretches: Iterable[Stretch], cells: int, *, needling: bool = False) -> Iterator[Range]:
    """The starts of `empty_plan_starts`, those of a stretch as one range; for many therapists much less to handle."""
    for run in _runs(stretches):
        latest = run[-1].ends_at - cells * CELL
        for stretch in run:
            last = min(stretch.ends_at - CELL, latest)
            if stretch.starts_at <= last and (stretch.needling or not needling):
                yield Range(stretch.therapist_id, stretch.location_id, stretch.starts_at, last)


def first_start(ranges: Iterable[Range], earliest: datetime) -> datetime | None:
    """The soonest of these starts from a moment on."""
    soonest = next_cell(earliest)
    return min((max(one.first, soonest) for one in ranges if one.last >= soonest), default=None)


def range_dates(ranges: Iterable[Range], zone: ZoneInfo) -> list[date]:
    """The `open_dates` of ranges of which none is longer than a day, as planned time has them."""
    return open_dates((edge for one in ranges for edge in (one.first, one.last)), zone)


def in_order(starts: Iterable[SlotName]) -> list[SlotName]:
    """Starts in the order of search."""
    return sorted(starts, key=lambda start: (start.starts_at, start.therapist_id))


def _runs(stretches: Iterable[Stretch]) -> list[list[Stretch]]:
    """Stretches that one visit can run across: of one therapist at one place, each beginning where the last ended."""
    runs: list[list[Stretch]] = []
    for stretch in sorted(stretches, key=lambda s: (s.therapist_id, s.location_id, s.starts_at)):
        last = runs[-1][-1] if runs else None
        here = (stretch.therapist_id, stretch.location_id, stretch.starts_at)
        if last is not None and (last.therapist_id, last.location_id, last.ends_at) == here:
            runs[-1].append(stretch)
        else:
            runs.append([stretch])
    return runs


def misses(starts: Iterable[datetime], period: Times, *, notice: timedelta, goal: timedelta) -> list[Times]:
    """When in a period no start is within reach, exactly: intervals in order, each a miss at every moment inside.

    Starts are sorted and count as offered throughout; with those of an empty plan the misses are structural. A start
    `s` is in reach of [s - goal, s - notice], so that what is left over is open at both ends.
    """
    return _uncovered(((start - goal, start - notice) for start in starts if notice <= goal), period)


def _uncovered(times: Iterable[Times], period: Times) -> list[Times]:
    """What of a period no interval holds; they come by their beginnings, and may overlap."""
    begin, end = period
    gaps, reached = [], begin
    for since, until in times:
        if since >= end:
            break
        if since > reached:
            gaps.append((reached, since))
        reached = max(reached, until)
    return [*gaps, (reached, end)] if reached < end else gaps


def foreseen(
    location_id: int,
    starts: Iterable[SlotName],
    empty: Sequence[datetime],
    cells: int,
    *,
    pace: float,
    now: datetime,
    notice: timedelta,
    goal: timedelta,
) -> list[Miss]:
    """The misses of the FORESEEN after a moment at a location, by cause: what letters and the page of levers tell.

    `starts` are those on offer there, `empty` those with nothing booked, sorted. New patients go on to ask for `pace`
    visits a day, at even distances from midnight on (UTC, so that what is foreseen does not recede with the clock), and
    each takes the soonest that fits beside the others (`cells` each); with it go its starts.
    """
    period = now, now + FORESEEN
    visits = [*back_to_back_starts(starts, cells)]
    midnight = now - (now - EPOCH) % DAY
    asked = (midnight + number * DAY / pace for number in range(1, int(pace * (FORESEEN / DAY + 1)) + 1))
    gone = _taken(visits, (at for at in asked if at > now), notice)
    offered = (
        (start - goal, min(start - notice, gone.get(number, start)))
        for start, number in sorted((start, number) for number, visit in enumerate(visits) for start in visit)
    )
    missed = _uncovered((times for times in offered if times[0] <= times[1]), period)
    return split(location_id, missed, misses(empty, period, notice=notice, goal=goal))


def _taken(visits: Sequence[Sequence[datetime]], asked: Iterable[datetime], notice: timedelta) -> dict[int, datetime]:
    """When which of these visits, by number, is taken by those who ask at these moments, in order."""
    left, gone = sorted(range(len(visits)), key=lambda number: visits[number][0]), dict[int, datetime]()
    for at in asked:
        left = [number for number in left if visits[number][-1] >= at + notice]
        if left:
            gone[left.pop(0)] = at
    return gone


def back_to_back_starts(starts: Iterable[SlotName], cells: int) -> Iterator[list[datetime]]:
    """These starts by the visits that fit beside each other, each visit with those that lie in it."""
    by_post = defaultdict[tuple[int, int], list[datetime]](list)
    for start in starts:
        by_post[start.therapist_id, start.location_id].append(start.starts_at)
    for own in by_post.values():
        first = visit = None
        for at in sorted(own):
            if visit and first is not None and at < first + cells * CELL:
                visit.append(at)
                continue
            if visit:
                yield visit
            first, visit = at, [at]
        if visit:
            yield visit


def cut(share: float, digits: int = 3) -> float:
    """A share with so many digits, cut rather than rounded: so that nothing short of a goal shows it.

    What is left of a whole digit by binary fractions is no digit less.
    """
    parts = 10.0**digits
    return floor(share * parts + NEARLY) / parts


def share(times: Iterable[Times], period: Times) -> float:
    """How much of a period these disjoint intervals in it take, 0 to 1."""
    return sum((end - begin for begin, end in times), timedelta()) / (period[1] - period[0])


def ceiling(starts: Iterable[datetime], period: Times, *, notice: timedelta, goal: timedelta) -> float:
    """The share of the quarter hours of a period that keep the goal with these starts, sorted.

    With those of an empty plan it is the most that can be attained. Attainment is measured once a quarter hour, so its
    ceiling counts quarter hours too, each at its beginning. A gap has one of them less than its length: the ceiling
    lies up to a quarter hour a gap above one less the share of time.
    """
    first, end = _quarter(next_cell(period[0])), _quarter(next_cell(period[1]))
    kept, reached = 0, first
    for start in starts if notice <= goal else ():
        since = max(_quarter(next_cell(start - goal)), reached)
        until = min(_quarter(start - notice) + 1, end)
        kept += max(until - since, 0)
        reached = max(reached, until)
    return kept / (end - first)


def _quarter(instant: datetime) -> int:
    return (instant - EPOCH) // CELL


def joined(quarters: Iterable[datetime]) -> list[Times]:
    """Quarter hours, sorted, as the intervals they fill."""
    found: list[Times] = []
    for quarter in quarters:
        if found and found[-1][1] == quarter:
            found[-1] = (found[-1][0], quarter + CELL)
        else:
            found.append((quarter, quarter + CELL))
    return found


def apart(times: Iterable[Times], others: Sequence[Times]) -> list[Times]:
    """What of these intervals lies in none of the others; both are disjoint and in order, and so is the answer."""
    left = []
    for begin, end in times:
        at = begin
        for since, until in others:
            if since < end and until > at:
                if since > at:
                    left.append((at, since))
                at = until
        if at < end:
            left.append((at, end))
    return left


def split(location_id: int, missed: Iterable[Times], structural: Sequence[Times]) -> list[Miss]:
    """Tell misses apart by their cause; both lists are disjoint and in order, and so is the answer.

    What both hold is structural: nobody could have offered a time then. The rest is capacity.
    """
    found = []
    for begin, end in missed:
        edges = {begin, end}
        inside = [(max(begin, since), min(end, until)) for since, until in structural if since < end and until > begin]
        edges.update(edge for times in inside for edge in times)
        for since, until in pairwise(sorted(edges)):
            cause = Cause.STRUCTURAL if (since, until) in inside else Cause.CAPACITY
            found.append(Miss(location_id, cause, since, until))
    return found


def open_dates(starts: Iterable[datetime], zone: ZoneInfo) -> list[date]:
    """The local dates on which an empty plan has a start, in order: the days that a location is open."""
    return sorted({local_date(start, zone) for start in starts})


def working_days(goal_hours: int) -> int:
    """How many working days the goal is when only those are counted: 48 hours are two."""
    return -(-goal_hours // GOAL_DAY_HOURS)


def days_ahead(goal_hours: int) -> int:
    """Within how many days of the calendar the goal's working days must lie: a week for each five of them.

    A location that is closed for weeks, or opens one day a week, has no wait that readers would call two working days.
    """
    return 7 * -(-working_days(goal_hours) // WORKING_DAYS_A_WEEK)


def open_days_deadline(now: datetime, dates: Sequence[date], zone: ZoneInfo, *, goal_hours: int) -> datetime | None:
    """Until when (exclusive) a start keeps the goal if only open days count; None where too few lie in `days_ahead`.

    The end of the n-th open local date after today's, with n the goal's `working_days`. It is told beside the strict
    clock hours, never instead of them; board and claims go by it.
    """
    today = local_date(now, zone)
    nth = bisect_right(dates, today) + working_days(goal_hours) - 1
    if nth >= len(dates) or dates[nth] > today + days_ahead(goal_hours) * DAY:
        return None
    return first_instant(dates[nth] + DAY, 0, zone)


def within_open_days(start: datetime | None, deadline: datetime | None) -> bool:
    """Whether the soonest start keeps the goal if only open days count; not where there are too few of them."""
    return start is not None and deadline is not None and start < deadline


def protection_level(demand: Collection[int], *, target: float, usual: float, least: int, most: int) -> int:
    """How many visits of a day to keep back for those who come at short notice: the newsvendor rule, within bounds.

    The smallest number that short-notice demand is above with a probability of at most 1 - target. `demand` is how many
    such visits were wanted on each of the last open days of a location; before LEAST_DAYS of them it is taken to be
    Poisson with the mean `usual` (USUAL_SHARE of the day's visits). The rule is Littlewood's, for two classes of demand
    (Talluri and van Ryzin, "The Theory and Practice of Revenue Management", 2004, section 2.2).
    """
    if len(demand) >= LEAST_DAYS:
        days = Counter(demand)
        below = accumulate(days[visits] / len(demand) for visits in range(most))
    else:
        below = accumulate(poisson(usual, visits) for visits in range(most))
    level = sum(1 for _ in takewhile(lambda reached: reached < target - NEGLIGIBLE, below))
    return max(least, min(level, most))


def keep_back(free: Iterable[SlotName], visits: int, cells: int, kept: Iterable[SlotName] = ()) -> list[SlotName]:
    """Choose what to keep back of a day's free starts for so many visits, spread over the day and the therapists.

    Each stands for `cells` cells, and no two of a therapist overlap; all there are, if they are fewer. Every therapist
    keeps back equally many as far as they have them, at even distances over their own time, and one after the other's.
    The same starts give the same choice. What is `kept` back already counts when it is dealt to therapists.
    """
    of_therapist = defaultdict[int, list[SlotName]](list)
    for place in back_to_back(free, cells):
        of_therapist[place.therapist_id].append(place)
    had = Counter(place.therapist_id for place in kept)
    counts = _dealt({therapist: len(places) for therapist, places in of_therapist.items()}, visits, had)
    return in_order(
        of_therapist[therapist][int((number + (turn + 0.5) / len(counts)) * len(of_therapist[therapist]) / count)]
        for turn, (therapist, count) in enumerate(sorted(counts.items()))
        for number in range(count)
    )


def _dealt(room: Mapping[int, int], wanted: int, had: Counter[int]) -> Counter[int]:
    """Deal a number out by one and one: the next to whoever has the least and room for more, then to the most room.

    What they `had` before counts for who has the least.
    """
    dealt = Counter[int]()
    for _ in range(min(wanted, sum(room.values()))):
        least = min((had[one] + dealt[one], -places, one) for one, places in room.items() if dealt[one] < places)
        dealt[least[2]] += 1
    return dealt


def back_to_back(free: Iterable[SlotName], cells: int) -> list[SlotName]:
    """As many of these starts as can all be visited, earliest first: no two of a therapist overlap. In order."""
    places, busy_until = [], dict[int, datetime]()
    for start in in_order(free):
        if start.starts_at >= busy_until.get(start.therapist_id, EPOCH):
            places.append(start)
            busy_until[start.therapist_id] = start.starts_at + cells * CELL
    return places


def poisson(mean: float, visits: int) -> float:
    """The probability of exactly so many where so many are the mean; below no visits there are none."""
    if mean == 0:
        return float(visits == 0)
    return exp(visits * log(mean) - mean - lgamma(visits + 1)) if visits >= 0 else 0.0


def same_or_next_day(visits: int, load: float) -> float:
    """The probability to be seen on the day one asks or the next, where a day has room for so many visits; exact.

    Demand of a day is Poisson with the mean load * visits, load < 1, all days are alike and it is first come, first
    served. Who waits at the start of a day is the chain B' = max(B + A - visits, 0) in its steady state. Spitzer's
    identity ("A combinatorial lemma and its application to probability theory", 1956) gives its distribution up to a
    factor from the chances that the sum of n days lies k above what n days have room for; the factor follows from the
    idle visits of a day, (1 - load) * visits.
    """
    if load == 0:
        return 1.0
    mean, room = load * visits, 2 * visits
    above = [0.0, *(_above(mean, visits, k) for k in range(1, room))]
    waiting = [1.0]
    for k in range(1, room):
        waiting.append(sum(j * above[j] * waiting[k - j] for j in range(1, k + 1)) / k)
    arrivals = [poisson(mean, asked) for asked in range(room)]
    idle = sum(
        (visits - held - asked) * waiting[held] * arrivals[asked]
        for held in range(visits)
        for asked in range(visits - held)
    )
    seen = sum(held * _seen(arrivals, room - at) for at, held in enumerate(waiting))
    return seen * (visits - mean) / idle / mean


def _seen(arrivals: Sequence[float], room: int) -> float:
    """The expected number of a day's patients who find room, of whom so many can."""
    return room - sum((room - asked) * arrivals[asked] for asked in range(room))


def _above(mean: float, visits: int, k: int) -> float:
    """The sum over all n of the chance that n days ask for k more than they have room for, each by n.

    Most likely it takes k / (visits - mean) days to get there; well beyond, the terms fall by a factor.
    """
    total, n = 0.0, 0
    while True:
        n += 1
        added = poisson(n * mean, n * visits + k) / n
        total += added
        if n * (visits - mean) > k and added <= NEGLIGIBLE * total:
            return total
