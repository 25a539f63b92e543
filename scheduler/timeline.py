"""Pure arithmetic of time: the booking grid, local hours on a real calendar, stretches of work.

Everything is walked in UTC. A local day of 23 or 25 hours is therefore nothing special, and an hour that the clock
skips or repeats is neither offered nor lost (measured: docs/decisions/0002-time.md).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Protocol
from zoneinfo import ZoneInfo

CELL = timedelta(minutes=15)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DAY_MINUTES = 24 * 60  # on the wall, from midnight to midnight
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WEEKS_COMPARED = 110  # in two years every change of the clocks that two zones have comes by
CLOCKS_DRIFT = timedelta(hours=4)  # more than the distance between two zones changes over a year


@dataclass(frozen=True, slots=True)
class Stretch:
    """Uninterrupted working time of one therapist at one location, [starts_at, ends_at) in UTC, on the grid.

    `needling` says whether a visit that includes dry needling may start in it.
    """

    therapist_id: int
    location_id: int
    starts_at: datetime
    ends_at: datetime
    needling: bool

    @property
    def cells(self) -> int:
        return (self.ends_at - self.starts_at) // CELL


class WeeklyHours(Protocol):
    """Local hours of one weekday; minutes count from local midnight and may run past 24 * 60 into the next day.

    They are worked in the week of `valid_from`, from Monday on, and in every so many weeks after it.
    """

    @property
    def weekday(self) -> int: ...
    @property
    def opens_minute(self) -> int: ...
    @property
    def closes_minute(self) -> int: ...
    @property
    def valid_from(self) -> date: ...
    @property
    def valid_until(self) -> date | None: ...
    @property
    def every_weeks(self) -> int: ...


class WallRange(Protocol):
    """From a minute of one day on the wall until a minute of another; 24 * 60 is the end of a day."""

    @property
    def starts_on(self) -> date: ...
    @property
    def starts_minute(self) -> int: ...
    @property
    def ends_on(self) -> date: ...
    @property
    def ends_minute(self) -> int: ...


@lru_cache(maxsize=512)
def zone_of(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@lru_cache(maxsize=65536)
def first_instant(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """Return the first instant (UTC) at which the clock on the wall has reached `minutes` after midnight of `day`.

    A time that the clock skips is reached when it jumps over it; one that comes twice is reached the first time.
    """
    wall = datetime.combine(day, time()) + timedelta(minutes=minutes)
    instant = min(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    while instant.astimezone(zone).replace(tzinfo=None) < wall:
        instant += CELL
    return instant


def local_date(instant: datetime, zone: ZoneInfo) -> date:
    return instant.astimezone(zone).date()


def worked_days(hours: WeeklyHours, first: date, last: date) -> Iterator[date]:
    """Every day from `first` to `last`, both included, on which these hours are worked."""
    anchor = hours.valid_from + (hours.weekday - hours.valid_from.weekday()) * DAY
    step = 7 * hours.every_weeks * DAY
    day = anchor - (anchor - max(first, hours.valid_from)) // step * step
    until = min(last, hours.valid_until or last)
    while day <= until:
        yield day
        day += step


def working_time(hours: WeeklyHours, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Start and end (UTC) of these hours when they are worked on local `day`; equal when the clock skips all of it."""
    return first_instant(day, hours.opens_minute, zone), first_instant(day, hours.closes_minute, zone)


def instants_of(wall: WallRange, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Start and end (UTC) of a range where this clock hangs."""
    return first_instant(wall.starts_on, wall.starts_minute, zone), first_instant(wall.ends_on, wall.ends_minute, zone)


def never_began(hours: WeeklyHours, zone: ZoneInfo, now: datetime) -> bool:
    """Whether no day of these hours has begun to be worked."""
    first = next(worked_days(hours, hours.valid_from, hours.valid_from + 7 * hours.every_weeks * DAY), None)
    return first is None or working_time(hours, first, zone)[0] > now


def first_clash(
    one: WeeklyHours, one_zone: ZoneInfo, other: WeeklyHours, other_zone: ZoneInfo, since: datetime
) -> date | None:
    """The first local day of `one` on which both are worked at the same moment, after `since`; None for never.

    Looks WEEKS_COMPARED ahead from where both hold.
    """
    days = ((other.weekday - one.weekday + 3) % 7 - 3) * DAY  # from a day of `one` to the near day of `other`
    first = max(one.valid_from, other.valid_from - days, local_date(since, one_zone) - 3 * DAY)
    last = min(one.valid_until or date.max, (other.valid_until or date.max - 3 * DAY) - days)
    for day in worked_days(one, first, min(last, first + WEEKS_COMPARED * 7 * DAY)):
        if other.every_weeks > 1 and not any(worked_days(other, day + days, day + days)):
            continue
        mine, theirs = working_time(one, day, one_zone), working_time(other, day + days, other_zone)
        begins, ends = max(mine[0], theirs[0]), min(mine[1], theirs[1])
        if begins < ends and ends > since:
            return day
        if begins - ends >= CLOCKS_DRIFT:
            return None
    return None


def clipped(stretch: Stretch, start: datetime, end: datetime) -> Stretch | None:
    """The part of a stretch within [start, end), or None."""
    starts_at, ends_at = max(stretch.starts_at, start), min(stretch.ends_at, end)
    if starts_at >= ends_at:
        return None
    return Stretch(stretch.therapist_id, stretch.location_id, starts_at, ends_at, stretch.needling)


def without(stretch: Stretch, times: Iterable[tuple[datetime, datetime]]) -> list[Stretch]:
    """What is left of a stretch outside these times, each [start, end)."""
    left = [stretch]
    for start, end in times:
        parts = ((clipped(one, EPOCH, start), clipped(one, end, one.ends_at)) for one in left)
        left = [part for both in parts for part in both if part is not None]
    return left


def disjoint(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same working time with nothing twice: where stretches of a therapist overlap, the earlier one keeps it."""
    result: list[Stretch] = []
    in_order = sorted(stretches, key=lambda s: (s.therapist_id, s.starts_at, s.location_id, s.ends_at))
    for _, of_therapist in groupby(in_order, key=lambda s: s.therapist_id):
        covered = EPOCH
        for stretch in of_therapist:
            rest = clipped(stretch, covered, stretch.ends_at)
            if rest is not None:
                result.append(rest)
                covered = rest.ends_at
    return result


def next_cell(instant: datetime) -> datetime:
    """The first grid point at or after an instant."""
    return instant + (EPOCH - instant) % CELL


def cell_of(instant: datetime) -> datetime:
    """The start of the grid cell that an instant lies in."""
    return instant - (instant - EPOCH) % CELL
