"""When it is morning, or Tuesday: stretches of UTC in which the wall clocks of some zones show a wanted part of a day.

Databases do not know the wall clock of a location. So the stretches are worked out here, for each zone once, and a
search seeks by them: nothing between them is read.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from scheduler.timeline import DAY, DAY_MINUTES, first_instant, local_date

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")  # as programs name them
Times = tuple[datetime, datetime]  # [begin, end)


class DayPart(StrEnum):
    """A part of the day by the clock on the wall where the visit is."""

    MORNING = "morning"
    AFTERNOON = "afternoon"
    EVENING = "evening"


PARTS = {DayPart.MORNING: (0, 12 * 60), DayPart.AFTERNOON: (12 * 60, 17 * 60), DayPart.EVENING: (17 * 60, DAY_MINUTES)}


@dataclass(frozen=True, slots=True)
class LocalWish:
    """A part of the day, or any for None, on these weekdays (Monday is 0), or on any for none."""

    part: DayPart | None = None
    weekdays: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return self.part is not None or bool(self.weekdays)

    def on(self, day: date, zone: ZoneInfo) -> Times | None:
        """When `day` is as wanted on the wall of a zone; None where it is another weekday, or the clock skips it."""
        if self.weekdays and day.weekday() not in self.weekdays:
            return None
        begins, ends = PARTS[self.part] if self.part else (0, DAY_MINUTES)
        times = first_instant(day, begins, zone), first_instant(day, ends, zone)
        return times if times[0] < times[1] else None

    def within(self, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[Times]:
        """All of it in [start, end), in order; days that follow each other whole are one."""
        begun: Times | None = None
        for day in days(local_date(start, zone), local_date(end, zone)):
            times = self.on(day, zone)
            if times is None or times[1] <= start or times[0] >= end:
                continue
            cut = max(times[0], start), min(times[1], end)
            if begun is not None and begun[1] == cut[0]:
                cut = begun[0], cut[1]
            elif begun is not None:
                yield begun
            begun = cut
        if begun is not None:
            yield begun


ANY_TIME = LocalWish()


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of UTC that is wanted in these zones, and in no other."""

    begins: datetime
    ends: datetime
    zones: frozenset[str]


def segments(wish: LocalWish, bounds: Mapping[ZoneInfo, Times]) -> list[Segment]:
    """What is wanted within the bounds of each zone, in order, none over another."""
    edges: dict[datetime, list[tuple[str, bool]]] = {}
    for zone, (start, end) in bounds.items():
        for begins, ends in wish.within(zone, start, end):
            edges.setdefault(begins, []).append((str(zone), True))
            edges.setdefault(ends, []).append((str(zone), False))
    found, on, since = [], frozenset[str](), None
    for instant in sorted(edges):
        if on and since is not None:
            found.append(Segment(since, instant, on))
        ending, beginning = ({zone for zone, begins in edges[instant] if begins is which} for which in (False, True))
        on, since = (on - ending) | beginning, instant
    return found


def document(found: Iterable[Segment]) -> str:
    """Segments as one JSON text, as statements bind it: [begin and end in seconds since 1970, |zone|zone|]."""
    rows = [
        (int(one.begins.timestamp()), int(one.ends.timestamp()), f"|{'|'.join(sorted(one.zones))}|") for one in found
    ]
    return json.dumps(rows, separators=(",", ":"))


def days(first: date, last: date) -> Iterator[date]:
    """Every day from `first` to `last`, both included."""
    day = first
    while day <= last:
        yield day
        day += DAY
