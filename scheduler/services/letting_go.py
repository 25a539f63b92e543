"""Letting go of what a location keeps back on a day: all of it can be booked at once, until somebody takes that back.

Within the goal's hours nothing is kept back, so this brings the goal back on no day: it gives times to those who want
a later one, where short notice will not need them (docs/decisions/0019-letting-go.md).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, literal_column, select, update
from sqlalchemy.orm import Session

from scheduler.errors import Invalid
from scheduler.models import AppointmentType, LetGoDay, Lever, LeverUse, Location, Promise, Slot
from scheduler.services import audit, availability, edits, practice, protection, slots
from scheduler.services.audit import Actor
from scheduler.timeline import CELL, DAY, first_instant, local_date, zone_of

PROPOSED = 7 * DAY  # from the first day on that keeps something back


@dataclass(frozen=True, slots=True)
class KeptDay:
    """A local day that keeps something back which cannot be booked yet: from when on, and what letting go gives.

    `starts` are those of the goal's kind that patients could book at once, `cells` the quarter hours that open.
    """

    day: date
    first: datetime
    cells: int
    starts: int


class Free(NamedTuple):
    """A free cell at a location."""

    therapist_id: int
    starts_at: datetime
    needling: bool
    protected: bool


def days_ahead(session: Session, kind: AppointmentType, place: Location, *, now: datetime) -> list[KeptDay]:
    """What letting go would give on each of the next days. A few queries at any size."""
    first = protection.ahead(session, kind, place.id, now=now).first
    if first is None:
        return []
    policy, zone = practice.policy(session), zone_of(place.time_zone)
    release = availability.release(policy, now)
    earliest, latest = availability.bookable_within(policy, kind, now, by_staff=False)
    begins = first_instant(local_date(first, zone), 0, zone)
    cells = _free(session, place.id, begins - kind.cells * CELL, begins + PROPOSED + kind.cells * CELL)
    offering = practice.offering(session)
    kept = defaultdict[date, set[Free]](set)
    for cell in cells:
        if cell.protected and begins <= cell.starts_at < begins + PROPOSED and cell.starts_at > release:
            kept[local_date(cell.starts_at, zone)].add(cell)

    def can_be_booked(start: Free) -> bool:
        offered = offering.allows(kind.id, start.therapist_id, place.id)
        licensed = start.needling or not kind.includes_needling
        return offered and licensed and max(earliest, release) < start.starts_at <= latest

    before = set(_starts((cell for cell in cells if not cell.protected), kind.cells))
    found = []
    for day, of_day in sorted(kept.items()):
        after = _starts((cell for cell in cells if not cell.protected or cell in of_day), kind.cells)
        gained = sum(can_be_booked(start) for start in after if start not in before)
        found.append(KeptDay(day, min(cell.starts_at for cell in of_day), len(of_day), gained))
    return found


def let_go(
    session: Session, location_id: int, day: date, promise: Promise, *, by: Actor, now: datetime
) -> Sequence[LeverUse]:
    """Keep nothing back at a location on a local day any more; one use for each stretch that opens by it.

    `promise` is how the goal stands there. A day that was let go stays so. Raises NotFound; Invalid for a day that
    keeps nothing back which could not be booked already.
    """
    place = edits.found(session, Location, location_id)
    level = protection.locked(session, place, now)
    if session.get(LetGoDay, (location_id, day), populate_existing=True) is not None:
        return session.scalars(_uses(location_id, day)).all()
    slots.lock(session, protection.people(session, location_id))
    zone, release = zone_of(place.time_zone), availability.release(practice.policy(session), now)
    bounds = first_instant(day, 0, zone), first_instant(day + DAY, 0, zone)
    cells = [one for one in _free(session, location_id, *bounds) if one.protected and one.starts_at > release]
    if not cells:
        raise Invalid("day", "Nothing is kept back on this day that cannot be booked already.")
    protection.mark(session, [protection.Cell(one.therapist_id, one.starts_at, True, True) for one in cells])
    session.add(LetGoDay(location_id=location_id, day=day, let_go_by=by.name, let_go_at=now))
    where = {"location_id": location_id, "place_id": location_id, "day": day}
    what = {"lever": Lever.RELEASE, "promise": promise, "used_at": now, "used_by": by.name}
    for run in protection.runs(cells):
        times = {"starts_at": run[0].starts_at, "ends_at": run[-1].starts_at + CELL}
        session.add(LeverUse(**where, **what, **times, therapist_id=run[0].therapist_id, cells=len(run)))
    session.flush()
    audit.record(session, "protection_level.let_go", level, by=by, now=now, day=day.isoformat())
    return session.scalars(_uses(location_id, day)).all()


def keep_again(session: Session, location_id: int, day: date, *, by: Actor, now: datetime) -> None:
    """Take it back that nothing is kept back on a day: the worker keeps back again what is free, soon after.

    What was booked meanwhile stays booked. Raises NotFound, Invalid for a day that was not let go.
    """
    level = protection.locked(session, edits.found(session, Location, location_id), now)
    row = session.get(LetGoDay, (location_id, day), populate_existing=True)
    if row is None:
        raise Invalid("day", "This day was not let go.")
    session.delete(row)
    uses = update(LeverUse).where(*_of_day(location_id, day)).values(closed_at=now)
    session.execute(uses, execution_options={"synchronize_session": False})
    audit.record(session, "protection_level.kept_again", level, by=by, now=now, day=day.isoformat())


def days_let_go(session: Session, *, now: datetime) -> dict[int, list[LetGoDay]]:
    """The days that were let go and are not over, by location and in order."""
    rows = select(LetGoDay).join(Location, Location.id == LetGoDay.location_id).order_by(LetGoDay.day)
    found = defaultdict[int, list[LetGoDay]](list)
    zones = {place.id: zone_of(place.time_zone) for place in practice.locations(session)}
    for row in session.scalars(rows.where(LetGoDay.day >= now.date() - DAY)):
        if row.location_id in zones and row.day >= local_date(now, zones[row.location_id]):
            found[row.location_id].append(row)
    return found


def _uses(location_id: int, day: date) -> Select[LeverUse]:
    return select(LeverUse).where(*_of_day(location_id, day)).order_by(LeverUse.id)


def _of_day(location_id: int, day: date) -> tuple[ColumnElement[bool], ...]:
    """The uses that let go of a day and were not taken back."""
    use = LeverUse
    return use.lever == Lever.RELEASE, use.location_id == location_id, use.day == day, use.closed_at.is_(None)


def _free(session: Session, location_id: int, start: datetime, end: datetime) -> list[Free]:
    """The free cells of a location, each therapist's in order."""
    cells = select(Slot.therapist_id, Slot.starts_at, Slot.needling, Slot.protected).where(
        Slot.fit > literal_column("0"),
        Slot.location_id == location_id,
        Slot.starts_at >= start,
        Slot.starts_at < end,
    )
    return [Free(*cell) for cell in session.execute(cells.order_by(Slot.therapist_id, Slot.starts_at))]


def _starts(cells: Iterable[Free], needed: int) -> list[Free]:
    """The cells from which so many follow each other."""
    return [cell for run in protection.runs(cells) for cell in run[: max(len(run) - needed + 1, 0)]]
