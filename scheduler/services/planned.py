"""Who is to work where and when: weekly hours, less closures, less time off, on days with a valid licence."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from scheduler.db import Base
from scheduler.models import Closure, Location, Therapist, TimeOff, Wish, WorkingHours
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


class Post(NamedTuple):
    """Hours at an active location, with what of the location matters to them."""

    hours: WorkingHours
    state: str
    zone_name: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Every row that the working time of some therapists within a window follows from."""

    posts: dict[int, list[Post]]
    licences: Licences
    away: Away

    @classmethod
    def read(cls, session: Session, therapist_ids: Collection[int], start: datetime, end: datetime) -> "Rows":
        """What [start, end) needs. As many queries at any size."""
        found = session.execute(
            select(WorkingHours, Location.state, Location.time_zone)
            .join(Location, Location.id == WorkingHours.location_id)
            .join(Therapist, Therapist.id == WorkingHours.therapist_id)
            .where(Therapist.active, Location.active, Therapist.id.in_(therapist_ids))
            .order_by(WorkingHours.id)
        )
        posts = defaultdict[int, list[Post]](list)
        for row in found:
            posts[row[0].therapist_id].append(Post(*row))
        licences = licensing.licences_of(session, therapist_ids)
        return cls(posts, licences, Away.near(session, therapist_ids, start - 3 * DAY, end))

    def time(self, therapist_ids: Iterable[int], start: datetime, end: datetime) -> list[Stretch]:
        """The working time of active, licensed therapists at active places in [start, end), cut at local midnights."""
        posts = [post for therapist_id in therapist_ids for post in self.posts.get(therapist_id, ())]
        zones = {post.hours.location_id: zone_of(post.zone_name) for post in posts}
        licensed = (piece for post in posts for piece in self._licensed(post, start, end))
        worked = (
            rest
            for piece in disjoint(licensed)
            for rest in without(
                piece,
                self.away.closed(piece.location_id, zones[piece.location_id])
                + self.away.absent(piece.therapist_id, zones[piece.location_id]),
            )
        )
        in_window = (clipped(piece, start, end) for piece in worked)
        return [piece for piece in in_window if piece is not None]

    def _licensed(self, post: Post, start: datetime, end: datetime) -> Iterator[Stretch]:
        hours, zone = post.hours, zone_of(post.zone_name)
        for from_, until in _daily_pieces(hours, zone, start, end):
            day = local_date(from_, zone)
            if self.licences.may_treat(hours.therapist_id, post.state, day):
                needling = self.licences.may_needle(hours.therapist_id, post.state, day)
                yield Stretch(hours.therapist_id, hours.location_id, from_, until, needling)

    def bases(self, therapist_ids: Iterable[int]) -> dict[int, str]:
        """For each therapist a text that changes with any of the rows that their working time follows from."""
        closures = {place: _values(each) for place, each in self.away.closures.items()}
        held = defaultdict[int, list[object]](list)
        for (whose, kind, state), periods in self.licences.periods.items():
            held[whose].append((kind, state, sorted(periods)))
        rules = {state: _values(each) for state, each in self.licences.rules.items()}
        return {
            whose: sha256(
                repr((self._at_work(whose, closures, rules), sorted(held[whose], key=repr))).encode()
            ).hexdigest()
            for whose in therapist_ids
        }

    def _at_work(self, whose: int, closures: dict[int, Any], rules: dict[str, Any]) -> object:
        posts = self.posts.get(whose, ())
        places = sorted({post.hours.location_id for post in posts})
        states = sorted({post.state for post in posts})
        return (
            _values(post.hours for post in posts),
            [(post.state, post.zone_name) for post in posts],
            [closures.get(place) for place in places],
            [rules.get(state) for state in states],
            _values(self.away.off.get(whose, ())),
        )


def _values(rows: Iterable[Base]) -> list[tuple[Any, ...]]:
    """The rows' columns, always in the same order of the rows."""
    return sorted(tuple(getattr(row, column.key) for column in inspect(type(row)).columns) for row in rows)


def planned_time(session: Session, therapist_ids: Collection[int], start: datetime, end: datetime) -> list[Stretch]:
    """The working time of therapists as the rows now have it; see `Rows.time`."""
    return Rows.read(session, therapist_ids, start, end).time(therapist_ids, start, end)


def _daily_pieces(
    hours: WorkingHours, zone: ZoneInfo, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Yield each worked stretch near [start, end), cut in two where it runs past local midnight.

    Stretches whole days before count too: which of two that overlap is worked must not depend on the window asked for.
    """
    for day in worked_days(hours, local_date(start, zone) - 3 * DAY, local_date(end, zone)):
        opens, closes = working_time(hours, day, zone)
        midnight = first_instant(day + DAY, 0, zone)
        if opens < min(closes, midnight):
            yield opens, min(closes, midnight)
        if midnight < closes:
            yield midnight, closes


def _times(ranges: Iterable[WallRange], zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """When these ranges are where a clock hangs; one that it skips, all of it, is at no time."""
    times = (instants_of(one, zone) for one in ranges)
    return [(starts_at, ends_at) for starts_at, ends_at in times if starts_at < ends_at]
