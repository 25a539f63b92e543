"""What is left to book on each of the next days, and how long it lasts at the pace of the last four weeks."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from scheduler.models import Location
from scheduler.services import access_requests, availability, practice
from scheduler.timeline import CELL, DAY, local_date, zone_of

DAYS = 7


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a day at a location: starts on the grid, and the visits that fit beside each other."""

    on: date
    starts: int
    visits: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """The next DAYS days at a location, today first, on its own calendar.

    `a_day` is how many visits of the kind were booked there a day over the last four weeks; `lasts` how many days what
    is left would last at that pace; None where nothing was booked.
    """

    location: Location
    days: Sequence[Left]
    a_day: float

    @property
    def visits(self) -> int:
        return sum(day.visits for day in self.days)

    @property
    def lasts(self) -> float | None:
        return self.visits / self.a_day if self.a_day else None


def ahead(session: Session, appointment_type_id: int, *, now: datetime) -> list[Outlook]:
    """The outlook of every place that is open online, by name. Four queries at any size; raises Invalid."""
    terms, runs = availability.free_runs(session, appointment_type_id, now + (DAYS + 2) * DAY, now=now)
    places = practice.online_locations(session)
    paces = access_requests.paces(session, appointment_type_id, now=now)
    by_place: dict[int, list[tuple[datetime, int]]] = defaultdict(list)
    for place_id, first, cells in runs:
        by_place[place_id].append((first, cells))
    return [
        Outlook(
            place,
            _left(by_place[place.id], place, terms.kind.cells, now),
            paces[place.id],
        )
        for place in places
    ]


def _left(runs: Sequence[tuple[datetime, int]], place: Location, needed: int, now: datetime) -> list[Left]:
    zone = zone_of(place.time_zone)
    today = local_date(now, zone)
    starts, visits = Counter[date](), Counter[date]()
    for first, cells in runs:
        starts.update(_days(first, cells - needed + 1, CELL, zone))
        visits.update(_days(first, cells // needed, needed * CELL, zone))
    return [Left(day, starts[day], visits[day]) for day in (today + number * DAY for number in range(DAYS))]


def _days(first: datetime, count: int, step: timedelta, zone: ZoneInfo) -> Counter[date]:
    """The local days of so many starts, one step apart."""
    if count < 1:
        return Counter()
    day = local_date(first, zone)
    if local_date(first + (count - 1) * step, zone) == day:
        return Counter({day: count})
    return Counter(local_date(first + number * step, zone) for number in range(count))
