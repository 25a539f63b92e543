"""Weekly working hours: who works where and when, from a day on. What was worked stays as it was.

Nobody works at two places at once: hours that would are refused, whatever the clocks there say.
"""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from scheduler.errors import Conflict, Invalid
from scheduler.models import Location, StandbyOpening, Therapist, WorkingHours
from scheduler.services import audit, consequences, edits, licensing
from scheduler.services.audit import Actor
from scheduler.timeline import DAY, first_clash, local_date, never_began, worked_days, zone_of

MOST_WEEKS = 8
LONGEST_RHYTHM = MOST_WEEKS * 7 * DAY


@dataclass(frozen=True, slots=True)
class HoursDetails:
    """What of hours can be changed; minutes count from local midnight and may run into the next day.

    The week of the first day, from Monday on, is worked, and every so many weeks after it. Hours on `standby` give no
    times until a day of them is opened: by hand, or where `opens_by_rule`.
    """

    opens_minute: int
    closes_minute: int
    valid_from: date
    valid_until: date | None
    every_weeks: int = 1
    standby: bool = False
    opens_by_rule: bool = False


@dataclass(frozen=True, slots=True)
class Shift:
    """Weekly hours with the names of who works where, as they can be told after their transaction is gone."""

    id: int
    therapist_id: int
    location_id: int
    weekday: int
    opens_minute: int
    closes_minute: int
    valid_from: date
    valid_until: date | None
    every_weeks: int
    standby: bool
    opens_by_rule: bool
    therapist: str
    location: str
    time_zone: str
    location_active: bool

    def over(self, now: datetime) -> bool:
        """Whether the last day of these hours has passed."""
        return self.valid_until is not None and self.valid_until < local_date(now, zone_of(self.time_zone))

    def never_began(self, now: datetime) -> bool:
        return never_began(self, zone_of(self.time_zone), now)


@dataclass(frozen=True, slots=True)
class Unlicensed:
    """Somebody who has hours in a state but no licence there, so that nothing can be booked in them."""

    therapist_id: int
    therapist: str
    state: str


class HoursClash(Conflict):
    """Somebody would work at two places, or twice at one, at the same moment; `first` is the first such day."""

    def __init__(self, asked: Shift, kept: Shift, first: date) -> None:
        super().__init__(f"These hours overlap others, at {asked.location} and at {kept.location}.")
        self.asked, self.kept, self.first = asked, kept, first


def shifts(session: Session, *wanted: ColumnElement[bool] | InstrumentedAttribute[bool]) -> list[Shift]:
    """Weekly hours with their names, by therapist, weekday and opening."""
    own = WorkingHours.__table__.c
    found = (
        select(*own, Therapist.name, Location.name, Location.time_zone, Location.active)
        .join(Therapist, Therapist.id == own.therapist_id)
        .join(Location, Location.id == own.location_id)
        .where(*wanted)
        .order_by(own.therapist_id, own.weekday, own.opens_minute, own.valid_from, own.id)
    )
    return [Shift(*tuple(row)) for row in session.execute(found)]


def unlicensed(session: Session, *wanted: ColumnElement[bool], now: datetime) -> list[Unlicensed]:
    """Whose hours that are not over need a licence of a state of which they have none, for now or later; by name.

    Three queries at any size.
    """
    worked = session.execute(
        select(Therapist.id, Therapist.name, Location.state, Location.time_zone, WorkingHours.valid_from,
            WorkingHours.valid_until)
        .join(Therapist, Therapist.id == WorkingHours.therapist_id)
        .join(Location, Location.id == WorkingHours.location_id)
        .where(Therapist.active, Location.active, *wanted)
        .distinct()
        .order_by(Therapist.name, Therapist.id, Location.state)
    ).all()  # fmt: skip
    licences = licensing.licences_of(session, {row.id for row in worked})
    found: dict[Unlicensed, None] = {}
    for therapist_id, name, state, zone, first, last in worked:
        today = local_date(now, zone_of(zone))
        over = last is not None and last < today
        if not over and not licences.may_treat_from(therapist_id, state, max(first, today)):
            found[Unlicensed(therapist_id, name, state)] = None
    return list(found)


def add(
    session: Session,
    therapist_id: int,
    location_id: int,
    weekdays: Iterable[int],
    details: HoursDetails,
    *,
    agreed: str | None = None,
    by: Actor,
    now: datetime,
) -> list[WorkingHours]:
    """Let a therapist work at a place on these weekdays; the times can be booked at once.

    Raises NotFound for an unknown therapist or place, Invalid for a place that is closed and days out of order,
    HoursClash for hours that overlap others, NotAgreed.
    """
    consequences.alone(session)
    if details.valid_until is not None and details.valid_until < details.valid_from:
        raise Invalid("valid_until", "This is before the first day, or has passed.")
    edits.locked(session, Therapist, therapist_id)
    if not edits.locked(session, Location, location_id).active:
        raise Invalid("location_id", "This location is closed.")
    with consequences.weighed(session, [therapist_id], agreed=agreed, now=now):
        added = [
            WorkingHours(therapist_id=therapist_id, location_id=location_id, weekday=weekday, **asdict(details))
            for weekday in sorted(set(weekdays))
        ]
        session.add_all(added)
        session.flush()
        require_no_clash(session, {hours.id for hours in added}, now=now)
    for hours in added:
        audit.record(session, "working_hours.added", hours, by=by, now=now, **told(hours))
    return added


def change(
    session: Session,
    hours_id: int,
    details: HoursDetails,
    *,
    seal: str,
    agreed: str | None,
    by: Actor,
    now: datetime,
) -> None:
    """Change weekly hours from the day `valid_from` on, and the last day they are worked.

    Hours that were worked stay as they were: new times end them the day before and begin others; their first day is
    theirs. Raises Invalid for a day in the past, HoursClash for hours that overlap others, NotAgreed for visits that
    would no longer fit, ChangedMeanwhile.
    """
    consequences.alone(session)
    hours = edits.locked(session, WorkingHours, hours_id)
    before = details_of(hours)
    edits.require_seen(before, seal)
    zone = zone_of(session.get_one(Location, hours.location_id).time_zone)
    unworked, today = never_began(hours, zone, now), local_date(now, zone)
    new_times = _times(before) != _times(details)
    _require_days(before, details, today, unworked=unworked, new_times=new_times)
    rest = None
    with consequences.weighed(session, [hours.therapist_id], agreed=agreed, now=now):
        if unworked or (new_times and details.valid_from <= before.valid_from):
            edits.write(hours, details)
        elif new_times:
            rest = _end_and_go_on(session, hours, details)
        else:
            hours.valid_until, hours.opens_by_rule = details.valid_until, details.opens_by_rule
        session.flush()
        if not details.standby:
            _forget_openings(session, hours if rest is None else rest)
        require_no_clash(session, {hours.id if rest is None else rest.id}, now=now)
    edits.note(session, "working_hours.changed", hours, before, details_of(hours), by=by, now=now)
    if rest is not None:
        audit.record(session, "working_hours.added", rest, by=by, now=now, **told(rest))


def remove(session: Session, hours_id: int, *, agreed: str | None, by: Actor, now: datetime) -> None:
    """Take back hours that never began to be worked. Raises Invalid for others: they can only end."""
    consequences.alone(session)
    hours = edits.locked(session, WorkingHours, hours_id)
    if not never_began(hours, zone_of(session.get_one(Location, hours.location_id).time_zone), now):
        raise Invalid("valid_until", "These hours have been worked, so they can only end.")
    with consequences.weighed(session, [hours.therapist_id], agreed=agreed, now=now):
        audit.record(session, "working_hours.removed", hours, by=by, now=now, **told(hours))
        _forget_openings(session, hours)
        session.delete(hours)


def _forget_openings(session: Session, hours: WorkingHours) -> None:
    """Days that were opened mean nothing to hours that are not on standby any more, or are gone."""
    session.execute(delete(StandbyOpening).where(StandbyOpening.working_hours_id == hours.id))


def details_of(hours: WorkingHours) -> HoursDetails:
    return edits.read_off(HoursDetails, hours)


def require_no_clash(session: Session, hours_ids: Collection[int], *, now: datetime) -> None:
    """Raise HoursClash when one of these hours overlaps others of the same therapist at a place that is open."""
    asked = shifts(session, WorkingHours.id.in_(hours_ids))
    everybody = {shift.therapist_id for shift in asked}
    _require_apart(asked, shifts(session, WorkingHours.therapist_id.in_(everybody), Location.active), now)


def require_none_elsewhere(session: Session, location_id: int, *, now: datetime) -> None:
    """Raise HoursClash when the clock of a place, or its opening again, lets somebody work at two places at once."""
    here = shifts(session, WorkingHours.location_id == location_id, Location.active)
    everybody = {shift.therapist_id for shift in here}
    elsewhere = WorkingHours.location_id != location_id
    _require_apart(here, shifts(session, WorkingHours.therapist_id.in_(everybody), elsewhere, Location.active), now)


def _require_apart(asked: Iterable[Shift], kept: Iterable[Shift], now: datetime) -> None:
    pairs = ((one, other) for one in asked for other in kept if one.therapist_id == other.therapist_id)
    clashes = [
        (first, one, other)
        for one, other in pairs
        if one.id != other.id
        and (first := first_clash(one, zone_of(one.time_zone), other, zone_of(other.time_zone), since=now)) is not None
    ]
    if clashes:
        first, one, other = min(clashes, key=lambda clash: clash[0])
        raise HoursClash(one, other, first)


def _require_days(before: HoursDetails, details: HoursDetails, today: date, *, unworked: bool, new_times: bool) -> None:
    """Raise Invalid for days that would change what has been, or that are out of order."""
    if before.valid_until is not None and before.valid_until < today:
        raise Invalid("valid_until", "These hours are over; add new ones.")
    first = max(before.valid_from, today - DAY)
    if unworked or new_times:
        first = details.valid_from
        if first < today and not (unworked and first == before.valid_from):
            raise Invalid("valid_from", "This day has passed.")
    if details.valid_until is not None and details.valid_until < first:
        raise Invalid("valid_until", "This is before the first day, or has passed.")


def _times(details: HoursDetails) -> tuple[int, int, int, bool]:
    return details.opens_minute, details.closes_minute, details.every_weeks, details.standby


def _end_and_go_on(session: Session, hours: WorkingHours, details: HoursDetails) -> WorkingHours:
    """End weekly hours the day before new ones begin; return the new ones. A rhythm that stays keeps its weeks.

    Days of standby that were opened stay open.
    """
    last, until = details.valid_from - DAY, hours.valid_until
    hours.valid_until = None
    if details.every_weeks == hours.every_weeks > 1:
        first = next(worked_days(hours, details.valid_from, details.valid_from + LONGEST_RHYTHM))
        details = replace(details, valid_from=min(first, details.valid_until or first))
    rest = WorkingHours(
        therapist_id=hours.therapist_id, location_id=hours.location_id, weekday=hours.weekday, **asdict(details)
    )
    hours.valid_until = min(until or last, last)
    session.add(rest)
    session.flush()
    opened = update(StandbyOpening).where(
        StandbyOpening.working_hours_id == hours.id, StandbyOpening.day >= rest.valid_from
    )
    session.execute(opened.values(working_hours_id=rest.id))
    return rest


def told(hours: WorkingHours) -> dict[str, object]:
    """Weekly hours as the record has them."""
    whose = {"therapist_id": hours.therapist_id, "location_id": hours.location_id, "weekday": hours.weekday}
    return whose | edits.plain(details_of(hours))
