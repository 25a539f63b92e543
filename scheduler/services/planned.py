"""Who is to work where and when: weekly hours, less closures, less time off, on days with a valid licence."""

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.models import Closure, Location, StandbyOpening, Therapist, TimeOff, Wish, WorkingHours
from scheduler.services import licensing
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


@dataclass(frozen=True, slots=True)
class Away:
    """The closures of places and the approved time off of therapists that some window may touch."""

    closures: dict[int, list[Closure]]
    off: dict[int, list[TimeOff]]

    @classmethod
    def near(cls, session: Session, therapist_ids: Collection[int], start: datetime, end: datetime) -> "Away":
        """What may touch [start, end), of these therapists and of every place. Two queries."""
        first, last = start.date() - DAY, end.date() + DAY  # no zone is further than a day from UTC
        closures, off = defaultdict[int, list[Closure]](list), defaultdict[int, list[TimeOff]](list)
        for closure in session.scalars(select(Closure).where(Closure.ends_on >= first, Closure.starts_on <= last)):
            closures[closure.location_id].append(closure)
        asked = select(TimeOff).where(TimeOff.ends_on >= first, TimeOff.starts_on <= last)
        approved = asked.where(TimeOff.therapist_id.in_(therapist_ids), TimeOff.status == Wish.APPROVED)
        for absence in session.scalars(approved):
            off[absence.therapist_id].append(absence)
        return cls(closures, off)

    def closed(self, location_id: int, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
        return _times(self.closures.get(location_id, ()), zone)

    def absent(self, therapist_id: int, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
        """When a therapist is off, by the clock of a place."""
        return _times(self.off.get(therapist_id, ()), zone)


def planned_time(
    session: Session, therapist_ids: Collection[int], start: datetime, end: datetime, *, all_standby: bool = False
) -> list[Stretch]:
    """The working time of active, licensed therapists at active places in [start, end), cut at local midnights.

    Of hours on standby only days that are opened; all of them with `all_standby`, for who asks what opening would give.
    """
    licences = licensing.licences_of(session, therapist_ids)
    away = Away.near(session, therapist_ids, start - 3 * DAY, end)
    rows = session.execute(
        select(WorkingHours, Location.state, Location.time_zone)
        .join(Location, Location.id == WorkingHours.location_id)
        .join(Therapist, Therapist.id == WorkingHours.therapist_id)
        .where(Therapist.active, Location.active, Therapist.id.in_(therapist_ids))
        .order_by(WorkingHours.id)
    ).all()
    standby = {hours.id for hours, *_ in rows if hours.standby}
    opened = _opened(session, standby, start) if standby and not all_standby else None
    pieces = (
        Stretch(
            hours.therapist_id,
            hours.location_id,
            from_,
            until,
            licences.may_needle(hours.therapist_id, state, local_date(from_, zone_of(time_zone))),
        )
        for hours, state, time_zone in rows
        for from_, until in _daily_pieces(hours, zone_of(time_zone), start, end, opened)
        if licences.may_treat(hours.therapist_id, state, local_date(from_, zone_of(time_zone)))
    )
    zones = {hours.location_id: zone_of(time_zone) for hours, _, time_zone in rows}
    worked = (
        rest
        for piece in disjoint(pieces)
        for rest in without(
            piece,
            away.closed(piece.location_id, zones[piece.location_id])
            + away.absent(piece.therapist_id, zones[piece.location_id]),
        )
    )
    in_window = (clipped(piece, start, end) for piece in worked)
    return [piece for piece in in_window if piece is not None]


def _daily_pieces(
    hours: WorkingHours,
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


def _opened(session: Session, hours_ids: Collection[int], start: datetime) -> set[tuple[int, date]]:
    """The days on which hours on standby were opened, as (hours, day), that may touch what begins at `start`."""
    days = select(StandbyOpening.working_hours_id, StandbyOpening.day).where(
        StandbyOpening.working_hours_id.in_(hours_ids), StandbyOpening.day >= start.date() - 4 * DAY
    )
    return {(hours_id, day) for hours_id, day in session.execute(days)}


def _times(ranges: Iterable[WallRange], zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """When these ranges are where a clock hangs; one that it skips, all of it, is at no time."""
    times = (instants_of(one, zone) for one in ranges)
    return [(starts_at, ends_at) for starts_at, ends_at in times if starts_at < ends_at]
