"""Hours on standby: approved in advance, without cells but on days that are opened, until those are closed again.

Closures, time off and the ends of licences win over what is opened, as over any hours.
"""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scheduler.errors import Invalid
from scheduler.models import Lever, LeverUse, Location, Promise, Slot, StandbyOpening, WorkingHours
from scheduler.services import audit, consequences, edits, hours, notices
from scheduler.services.audit import Actor
from scheduler.services.hours import Shift
from scheduler.timeline import CELL, DAY, local_date, worked_days, working_time, zone_of


@dataclass(frozen=True, slots=True)
class StandbyDay:
    """A local day of hours on standby, with the times of its work in UTC, and whether it is opened."""

    shift: Shift
    day: date
    starts_at: datetime
    ends_at: datetime
    opened: bool


def open_day(session: Session, hours_id: int, day: date, promise: Promise, *, by: Actor, now: datetime) -> LeverUse:
    """Let a day of hours on standby be booked at once; a day that is open stays as it is.

    `promise` is how the goal stands there. Raises NotFound; Invalid for hours that are not on standby, a day on which
    they are not worked or that is over, and one of which nothing can be booked.
    """
    consequences.alone(session)
    row = edits.locked(session, WorkingHours, hours_id)
    starts_at, ends_at = _times(session, row, day, now)
    known = _opening(session, hours_id, day)
    if known is not None:
        return session.get_one(LeverUse, known.lever_use_id)
    use = LeverUse(
        lever=Lever.STANDBY,
        promise=promise,
        location_id=row.location_id,
        place_id=row.location_id,
        therapist_id=row.therapist_id,
        used_at=now,
        used_by=by.name,
        starts_at=starts_at,
        ends_at=ends_at,
        day=day,
        cells=(ends_at - starts_at) // CELL,
    )
    with consequences.weighed(session, [row.therapist_id], agreed=None, now=now):
        session.add(use)
        session.flush()
        session.add(StandbyOpening(working_hours_id=row.id, day=day, lever_use_id=use.id))
    use.cells = _free_cells(session, use)
    if not use.cells:
        raise Invalid("day", "Nothing could be booked then: it is over, closed, taken, or the therapist may not work.")
    notices.standby_changed(session, row.therapist_id, day, by=by, now=now)
    audit.record(session, "working_hours.opened", row, by=by, now=now, day=day.isoformat())
    return use


def close_day(session: Session, hours_id: int, day: date, *, agreed: str | None, by: Actor, now: datetime) -> None:
    """Take a day that was opened off the calendar again; visits booked then stay booked and are listed.

    Raises NotFound, Invalid for a day that is not open or is over, NotAgreed.
    """
    consequences.alone(session)
    row = edits.locked(session, WorkingHours, hours_id)
    _times(session, row, day, now)
    opening = _opening(session, hours_id, day)
    if opening is None:
        raise Invalid("day", "This day is not open.")
    with consequences.weighed(session, [row.therapist_id], agreed=agreed, now=now):
        session.get_one(LeverUse, opening.lever_use_id).closed_at = now
        session.delete(opening)
    notices.standby_changed(session, row.therapist_id, day, by=by, now=now)
    audit.record(session, "working_hours.closed", row, by=by, now=now, day=day.isoformat())


def days_of(session: Session, shifts: list[Shift], *, since: datetime, until: datetime) -> list[StandbyDay]:
    """The days of those of these hours that are on standby whose work touches [since, until), in order. One query."""
    ids = [shift.id for shift in shifts if shift.standby]
    opened = {
        (hours_id, day)
        for hours_id, day in session.execute(
            select(StandbyOpening.working_hours_id, StandbyOpening.day).where(
                StandbyOpening.working_hours_id.in_(ids), StandbyOpening.day >= since.date() - 3 * DAY
            )
        )
    }
    found = []
    for shift in shifts:
        zone = zone_of(shift.time_zone)
        first, last = local_date(since, zone) - DAY, local_date(until, zone)
        for day in worked_days(shift, first, last) if shift.standby else ():
            starts_at, ends_at = working_time(shift, day, zone)
            if max(starts_at, since) < min(ends_at, until):
                found.append(StandbyDay(shift, day, starts_at, ends_at, (shift.id, day) in opened))
    return sorted(found, key=lambda one: (one.starts_at, one.shift.therapist_id, one.shift.id))


def of_therapist(session: Session, therapist_id: int, first: date, count: int) -> dict[date, list[StandbyDay]]:
    """A therapist's own hours on standby on `count` days from `first` on, opened or not. At most two queries."""
    shifts = hours.shifts(session, WorkingHours.therapist_id == therapist_id, WorkingHours.standby, Location.active)
    days = (first + number * DAY for number in range(count))
    if not shifts:
        return {}
    midnight = datetime.combine(first, datetime.min.time(), tzinfo=zone_of("UTC"))
    near = days_of(session, shifts, since=midnight - DAY, until=midnight + (count + 1) * DAY)
    return {day: [one for one in near if one.day == day] for day in days}


def _times(session: Session, row: WorkingHours, day: date, now: datetime) -> tuple[datetime, datetime]:
    """When these hours are worked on a day; raises Invalid where they are not, or where that is over."""
    if not row.standby:
        raise Invalid("hours", "These hours are not on standby.")
    if not any(worked_days(row, day, day)):
        raise Invalid("day", "These hours are not worked on this day.")
    starts_at, ends_at = working_time(row, day, zone_of(session.get_one(Location, row.location_id).time_zone))
    if ends_at <= now or starts_at == ends_at:
        raise Invalid("day", "This day has passed.")
    return starts_at, ends_at


def _opening(session: Session, hours_id: int, day: date) -> StandbyOpening | None:
    return session.get(StandbyOpening, (hours_id, day), populate_existing=True)


def _free_cells(session: Session, use: LeverUse) -> int:
    free = select(func.count()).where(
        Slot.therapist_id == use.therapist_id,
        Slot.location_id == use.place_id,
        Slot.starts_at >= use.starts_at,
        Slot.starts_at < use.ends_at,
        Slot.appointment_id.is_(None),
    )
    return session.execute(free).scalar_one()
