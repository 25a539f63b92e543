"""Who is to work where and when: weekly hours, less closures, less time off, on days with a valid licence."""

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from scheduler.models import Closure, Location, StandbyOpening, Therapist, TimeOff, TimeOffStatus, WorkingHours
from scheduler.services import licensing
from scheduler.services.licensing import Licences
from scheduler.timeline import (
    DAY,
    Stretch,
    WallRange,
    clipped,
    disjoint,
    first_instant,
    instants_of,
    local_date,
    without,
    worked_days,
    working_time,
    zone_of,
)


class Hours(NamedTuple):
    """A row of working hours at an active location, with what of the location matters to them."""

    therapist_id: int
    location_id: int
    weekday: int
    opens_minute: int
    closes_minute: int
    valid_from: date
    valid_until: date | None
    every_weeks: int
    id: int
    standby: bool
    state: str
    zone_name: str


class AwayTime(NamedTuple):
    """A closure of a place, or approved time off of a therapist."""

    whose: int
    starts_on: date
    starts_minute: int
    ends_on: date
    ends_minute: int


OF_HOURS = [getattr(WorkingHours, name) for name in Hours._fields[:-2]]
OF_RANGE = AwayTime._fields[1:]


@dataclass(frozen=True, slots=True)
class Away:
    """The closures of places and the approved time off of therapists that some window may touch, in an order."""

    closures: dict[int, list[AwayTime]]
    off: dict[int, list[AwayTime]]

    @classmethod
    def near(cls, session: Session, therapist_ids: Collection[int], start: datetime, end: datetime) -> "Away":
        """What may touch [start, end), of these therapists and of every place. Two queries."""
        approved = TimeOff.therapist_id.in_(therapist_ids) & (TimeOff.status == TimeOffStatus.APPROVED)
        closures = _near(session, Closure, Closure.location_id, true(), start, end)
        return cls(closures, _near(session, TimeOff, TimeOff.therapist_id, approved, start, end))

    def closed(self, location_id: int, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
        return _times(self.closures.get(location_id, ()), zone)

    def absent(self, therapist_id: int, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
        """When a therapist is off, by the clock of a place."""
        return _times(self.off.get(therapist_id, ()), zone)


def _near(
    session: Session,
    table: type[Closure | TimeOff],
    whose: InstrumentedAttribute[int],
    which: ColumnElement[bool],
    start: datetime,
    end: datetime,
) -> dict[int, list[AwayTime]]:
    first, last = start.date() - DAY, end.date() + DAY  # no zone is further than a day from UTC
    columns = [getattr(table, name) for name in OF_RANGE]
    near = select(whose, *columns).where(table.ends_on >= first, table.starts_on <= last, which).order_by(table.id)
    found = defaultdict[int, list[AwayTime]](list)
    for row in session.execute(near):
        found[row[0]].append(AwayTime(*row))
    return found


@dataclass(frozen=True, slots=True)
class Rows:
    """Every row that the working time of some therapists within a window follows from.

    `opened` are the days on which hours on standby are worked, as (hours, day); None for all of them.
    """

    hours: dict[int, list[Hours]]
    licences: Licences
    away: Away
    opened: frozenset[tuple[int, date]] | None

    @classmethod
    def read(
        cls,
        session: Session,
        therapist_ids: Collection[int],
        start: datetime,
        end: datetime,
        *,
        all_standby: bool = False,
    ) -> "Rows":
        """What [start, end) needs. Five queries at any size, six where there are hours on standby."""
        found = session.execute(
            select(*OF_HOURS, Location.state, Location.time_zone)
            .join(Location, Location.id == WorkingHours.location_id)
            .join(Therapist, Therapist.id == WorkingHours.therapist_id)
            .where(Therapist.active, Location.active, Therapist.id.in_(therapist_ids))
            .order_by(WorkingHours.id)
        )
        hours = defaultdict[int, list[Hours]](list)
        for row in found:
            hours[row[0]].append(Hours._make(row))
        states = {one.state for of_one in hours.values() for one in of_one}
        licences = licensing.licences_of(session, therapist_ids, states)
        standby = [one.id for of_one in hours.values() for one in of_one if one.standby]
        opened = None if all_standby else _opened(session, standby, start)
        return cls(hours, licences, Away.near(session, therapist_ids, start - 3 * DAY, end), opened)

    def time(self, therapist_ids: Iterable[int], start: datetime, end: datetime) -> list[Stretch]:
        """The working time of active, licensed therapists at active places in [start, end), cut at local midnights."""
        worked = [hours for therapist_id in therapist_ids for hours in self.hours.get(therapist_id, ())]
        zones = {hours.location_id: zone_of(hours.zone_name) for hours in worked}
        licensed = (piece for hours in worked for piece in self._licensed(hours, start, end))
        left = (
            rest
            for piece in disjoint(licensed)
            for rest in without(
                piece,
                self.away.closed(piece.location_id, zones[piece.location_id])
                + self.away.absent(piece.therapist_id, zones[piece.location_id]),
            )
        )
        in_window = (clipped(piece, start, end) for piece in left)
        return [piece for piece in in_window if piece is not None]

    def _licensed(self, hours: Hours, start: datetime, end: datetime) -> Iterator[Stretch]:
        whose, zone = hours.therapist_id, zone_of(hours.zone_name)
        for from_, until in _daily_pieces(hours, zone, start, end, self.opened):
            day = local_date(from_, zone)
            if self.licences.may_treat(whose, hours.state, day):
                needling = self.licences.may_needle(whose, hours.state, day)
                yield Stretch(whose, hours.location_id, from_, until, needling)

    def bases(self, therapist_ids: Iterable[int]) -> dict[int, str]:
        """For each therapist a text that changes with any of the rows that their working time follows from."""
        held = defaultdict[int, list[object]](list)
        for (whose, kind, state), periods in sorted(self.licences.periods.items()):
            held[whose].append((kind, state, sorted(periods)))
        rules = {
            state: [(rule.valid_from, rule.needling, rule.qualification) for rule in each]
            for state, each in self.licences.rules.items()
        }
        bases = {}
        for whose in therapist_ids:
            hours = self.hours.get(whose, ())
            closures = [self.away.closures.get(place) for place in sorted({one.location_id for one in hours})]
            allowed = [rules.get(state) for state in sorted({one.state for one in hours})]
            own = {one.id for one in hours if one.standby}
            opened = sorted(each for each in self.opened or () if each[0] in own)
            told = repr((hours, closures, self.away.off.get(whose), held[whose], allowed, opened))
            bases[whose] = sha256(told.encode()).hexdigest()
        return bases


def planned_time(
    session: Session, therapist_ids: Collection[int], start: datetime, end: datetime, *, all_standby: bool = False
) -> list[Stretch]:
    """The working time of therapists as the rows now have it; see `Rows.time`.

    Of hours on standby only days that are opened; all of them with `all_standby`, for who asks what opening would give.
    """
    rows = Rows.read(session, therapist_ids, start, end, all_standby=all_standby)
    return rows.time(therapist_ids, start, end)


def _daily_pieces(
    hours: Hours,
    zone: ZoneInfo,
    start: datetime,
    end: datetime,
    opened: Container[tuple[int, date]] | None,
) -> Iterator[tuple[datetime, datetime]]:
    """Yield each worked stretch near [start, end), cut in two where it runs past local midnight.

    Hours on standby are worked on days that are `opened`, as (hours, day), or on all where that is None.
    Stretches whole days before count too: which of two that overlap is worked must not depend on the window asked for.
    """
    for day in worked_days(hours, local_date(start, zone) - 3 * DAY, local_date(end, zone)):
        if hours.standby and opened is not None and (hours.id, day) not in opened:
            continue
        opens, closes = working_time(hours, day, zone)
        midnight = first_instant(day + DAY, 0, zone)
        if opens < min(closes, midnight):
            yield opens, min(closes, midnight)
        if midnight < closes:
            yield midnight, closes


def _opened(session: Session, hours_ids: Collection[int], start: datetime) -> frozenset[tuple[int, date]]:
    """The days on which hours on standby were opened, as (hours, day), that may touch what begins at `start`."""
    if not hours_ids:
        return frozenset()
    days = select(StandbyOpening.working_hours_id, StandbyOpening.day).where(
        StandbyOpening.working_hours_id.in_(hours_ids), StandbyOpening.day >= start.date() - 4 * DAY
    )
    return frozenset((hours_id, day) for hours_id, day in session.execute(days))


def _times(ranges: Iterable[WallRange], zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """When these ranges are where a clock hangs; one that it skips, all of it, is at no time."""
    times = (instants_of(one, zone) for one in ranges)
    return [(starts_at, ends_at) for starts_at, ends_at in times if starts_at < ends_at]
