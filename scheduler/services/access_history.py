"""What the last weeks say of the access goal: when it was missed, why, how long, and each day. Days are kept for good.

A day belongs to the calendar on the wall of its location; for the clinic as a whole, of the place that one names.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import (
    CTE,
    ColumnElement,
    Integer,
    Select,
    String,
    and_,
    case,
    cast,
    column,
    false,
    func,
    literal,
    null,
    select,
    true,
    values,
)
from sqlalchemy.orm import Session

from scheduler.db import Span, UtcDateTime, insert_into
from scheduler.models import AccessDay, AccessSample, AppointmentType, Location
from scheduler.services import access_goal
from scheduler.services.access_goal import Rows
from scheduler.services.access_rules import Cause, Miss
from scheduler.services.availability import Place
from scheduler.services.windows import days
from scheduler.timeline import CELL, DAY, HOUR, first_instant, local_date, zone_of

DAYS = 28
# So long after midnight a day is over: whoever measured in its last quarter hour has stored it by then.
GRACE = HOUR


@dataclass(frozen=True, slots=True)
class Day:
    """The measured quarter hours of a day, and how many of them kept the goal; see `AccessDay`.

    `goal_hours` is None where nothing was measured, and anywhere: a place's row says it.
    """

    on: date
    measured: int = 0
    kept: int = 0
    possible: int | None = None
    within_open_days: int | None = None
    goal_hours: int | None = None

    @property
    def kept_share(self) -> float | None:
        return self.kept / self.measured if self.measured else None

    @property
    def possible_share(self) -> float | None:
        return None if self.possible is None or not self.measured else self.possible / self.measured


@dataclass(frozen=True, slots=True)
class History:
    """The last DAYS days somewhere, today last and without figures where nothing was measured; misses in order.

    Misses are those of the quarter hours that `Weeks` counts. Of both, times without a measurement are none.
    """

    zone: ZoneInfo
    days: Sequence[Day]
    misses: Sequence[Miss]

    def missed(self, cause: Cause | None) -> list[Miss]:
        return [miss for miss in self.misses if miss.cause is cause]


def hours(misses: Iterable[Miss]) -> float:
    """How long they lasted together."""
    return sum(miss.hours for miss in misses)


def longest(misses: Iterable[Miss]) -> Miss | None:
    """The longest, the latest of those that are as long; None without any."""
    return max(misses, key=lambda miss: (miss.hours, miss.begins_at), default=None)


def histories(
    session: Session, kind_id: int, places: Sequence[Location | Place], zone: ZoneInfo, *, now: datetime
) -> dict[int | None, History]:
    """The history of a kind of visit at these places, and anywhere under None, by the calendar of `zone`.

    Six queries at any size.
    """
    zones = {place.id: zone_of(place.time_zone) for place in places}
    missed, measured = _misses(session, kind_id, now), _days(session, kind_id, zones, zone, now)
    return {
        place: History(there, [measured[place].get(on, Day(on)) for on in _last(DAYS, there, now)], missed[place])
        for place, there in [(None, zone), *zones.items()]
    }


def days_over(session: Session, *, now: datetime) -> list[dict[str, Any]]:
    """The days since those that were kept last which are over at their location, of every kind of visit.

    At most four queries. Reading them is apart from `keep_days`, which writes: the first time it may be a year of them.
    """
    since = _last_kept(session) or _first_measured(session)
    if since is None:
        return []
    zones = {zone_of(name) for name in session.scalars(select(Location.time_zone).distinct())}
    over = _dates({there: (since - DAY, local_date(now - GRACE, there) - DAY) for there in zones})
    if not over:
        return []
    return [
        {"appointment_type_id": kind_id, "location_id": place, **_stored(_day(*counts))}
        for kind_id, place, *counts in session.execute(_counted(over))
    ]


def keep_days(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Keep days that are over. Any number of workers may do so at once, again and again: the first one stands."""
    if rows:
        session.execute(insert_into(session, AccessDay).on_conflict_do_nothing(), rows)


def _misses(session: Session, kind_id: int, now: datetime) -> dict[int | None, list[Miss]]:
    """The misses of 28 days at each location, and anywhere under None; quarter hours that follow each other are one."""
    causes = {True: Cause.CAPACITY, False: Cause.STRUCTURAL, None: None}
    found: dict[int | None, list[Miss]] = defaultdict(list)
    for statement in _missed():
        for place, possible, begins, count in session.execute(statement, access_goal.asked_of(kind_id, now)):
            found[place].append(Miss(place, causes[possible], begins, begins + count * CELL))
    return found


@cache
def _missed() -> tuple[Rows, Rows]:
    """Runs of quarter hours that missed the goal for one cause: (location, possible, first, count), in order."""
    at_locations = select(AccessSample.location_id.label("place"), AccessSample.quarter, AccessSample.possible).where(
        access_goal.in_window(), ~AccessSample.within_goal
    )
    quarter = access_goal.anywhere(access_goal.in_window()).c
    possible = case((quarter.possible, true()), (quarter.known, false()))
    anywhere = select(cast(null(), Integer).label("place"), quarter.quarter, possible.label("possible")).where(
        ~quarter.within_goal
    )
    return _runs(at_locations), _runs(anywhere)


def _runs(missed: Select[int, datetime, bool | None]) -> Rows:
    one = missed.subquery()
    number = func.row_number().over(partition_by=(one.c.place, one.c.possible), order_by=one.c.quarter)
    cell = select(one, (one.c.quarter - number * literal(CELL, Span())).label("run")).subquery()
    first = func.min(cell.c.quarter, type_=UtcDateTime())
    runs = select(cell.c.place, cell.c.possible, first, func.count())
    return runs.group_by(cell.c.place, cell.c.possible, cell.c.run).order_by(cell.c.place, first)


def _days(
    session: Session, kind_id: int, zones: Mapping[int, ZoneInfo], zone: ZoneInfo, now: datetime
) -> dict[int | None, dict[date, Day]]:
    """Days as they were kept, and as they are counted since: by location, and anywhere under None."""
    found: dict[int | None, dict[date, Day]] = defaultdict(dict)
    calendars = {there: _last(DAYS, there, now) for there in {zone, *zones.values()}}
    first, last_kept = min(days[0] for days in calendars.values()), _last_kept(session)
    for row in session.scalars(
        select(AccessDay).where(AccessDay.appointment_type_id == kind_id, AccessDay.day >= first)
    ):
        found[row.location_id][row.day] = Day(
            row.day, row.measured, row.kept, row.possible, row.within_open_days, row.goal_hours
        )
    since = first if last_kept is None else max(first, last_kept - DAY)
    recent = _dates({there: (min(since, own[-1]), own[-1]) for there, own in calendars.items()})
    rows = session.execute(_counted(recent).where(AppointmentType.id == kind_id)).all()
    for _, place, *counts in rows:
        day = _day(*counts)
        found[place].setdefault(day.on, day)
    own = calendars[zone]
    asked = {"type": kind_id, "since": first_instant(own[0], 0, zone) - CELL, "now": now}
    found[None] = {day.on: day for day in (_day(*row) for row in session.execute(_counted_anywhere(zone, own), asked))}
    return found


def _last(count: int, zone: ZoneInfo, now: datetime) -> list[date]:
    """So many local days, today last."""
    today = local_date(now, zone)
    return [today - number * DAY for number in reversed(range(count))]


def _day(on: str, measured: int, kept: int, possible: int, open_days: int, known: int, goal_hours: int | None) -> Day:
    if known < measured:
        return Day(date.fromisoformat(on), measured, kept, None, None, goal_hours)
    return Day(date.fromisoformat(on), measured, kept, possible, open_days, goal_hours)


def _stored(day: Day) -> dict[str, Any]:
    return {("day" if name == "on" else name): value for name, value in asdict(day).items()}


def _last_kept(session: Session) -> date | None:
    return session.scalar(select(func.max(AccessDay.day)))


def _first_measured(session: Session) -> date | None:
    """The UTC day of the first sample; each kind of visit is asked by its index."""
    of_kind = AccessSample.appointment_type_id == AppointmentType.id
    first = select(func.min(AccessSample.quarter)).where(of_kind).correlate(AppointmentType).scalar_subquery()
    quarter = session.scalar(select(func.min(first, type_=UtcDateTime())).select_from(AppointmentType))
    return quarter and quarter.date()


def _dates(wanted: Mapping[ZoneInfo, tuple[date, date]]) -> list[tuple[ZoneInfo, date]]:
    """The days from one until another, both included, of each calendar."""
    return [(zone, day) for zone, (first, last) in wanted.items() for day in days(first, last)]


def _calendar(wanted: Iterable[tuple[ZoneInfo, date]]) -> CTE:
    """Days on their calendars as a table of instants."""
    rows = [
        (str(zone), day.isoformat(), first_instant(day, 0, zone), first_instant(day + DAY, 0, zone))
        for zone, day in wanted
    ]
    columns = (
        column("zone", String),
        column("day", String),
        column("begins", UtcDateTime()),
        column("ends", UtcDateTime()),
    )
    return values(*columns, name="calendar_day").data(rows).cte()


def _counted(wanted: Iterable[tuple[ZoneInfo, date]]) -> Rows:
    """(type, location, day, counts) of what was measured on these days, each at the locations of its calendar."""
    calendar = _calendar(wanted)
    sample = and_(
        AccessSample.appointment_type_id == AppointmentType.id,
        AccessSample.location_id == Location.id,
        *_on_the_day(AccessSample.quarter, calendar),
    )
    keys = (AccessSample.appointment_type_id, AccessSample.location_id, calendar.c.day)
    known = AccessSample.possible.is_not(None)
    return (
        select(*keys, *_counts(AccessSample, known, func.max(AccessSample.goal_hours)))
        .select_from(calendar)
        .join(Location, Location.time_zone == calendar.c.zone)
        .join(AppointmentType, true())
        .join(AccessSample, sample)
        .group_by(*keys)
    )


def _counted_anywhere(zone: ZoneInfo, wanted: Iterable[date]) -> Rows:
    """(day, counts) of what was measured on these days of one calendar, anywhere."""
    calendar = _calendar((zone, day) for day in wanted)
    quarter = access_goal.anywhere(access_goal.in_window()).c
    counts = select(calendar.c.day, *_counts(quarter, quarter.known, null())).select_from(calendar)
    return counts.join(quarter.quarter.table, and_(*_on_the_day(quarter.quarter, calendar))).group_by(calendar.c.day)


def _on_the_day(quarter: Any, calendar: CTE) -> tuple[ColumnElement[bool], ...]:  # noqa: ANN401 a column
    return quarter >= calendar.c.begins, quarter < calendar.c.ends


def _counts(quarter: Any, known: ColumnElement[bool], goal: ColumnElement[Any]) -> list[ColumnElement[Any]]:  # noqa: ANN401 a table's columns
    """What `_day` is made of."""
    kept = (quarter.within_goal, quarter.possible, quarter.within_open_days, known)
    return [func.count(), *(func.count().filter(each) for each in kept), goal]
