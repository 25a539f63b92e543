"""A plan of care: visits so many times a week with one therapist, each proposed near a wished time of day.

`chosen` is pure: it picks from the starts that one search finds for the whole plan, so each can be booked. Booking the
list is `booking.book_series`. Why visits are chosen as they are: docs/decisions/0023-series.md.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import combinations, pairwise
from uuid import UUID

from sqlalchemy import exists, select, true
from sqlalchemy.orm import Session

from scheduler.models import Appointment, AppointmentType, Location, Slot, Status, Therapist, WorkingHours
from scheduler.services import availability, consequences, practice, slots
from scheduler.services.availability import Find, Offer
from scheduler.services.consequences import GRAVEST, Imagined, Why
from scheduler.services.planned import Hours, Rows
from scheduler.services.reasons import Reason
from scheduler.services.windows import days
from scheduler.timeline import CELL, DAY, cell_of, first_instant, local_date, worked_days, working_time, zone_of

MOST_WEEKS, MOST_A_WEEK = 26, 5
WEEK = 7 * DAY
NIGHT = timedelta(hours=12)  # less than that between two starts is no day between them, whatever the calendar says
STARTS_A_DAY = DAY // CELL


class Unplaced(StrEnum):
    """Why a day has no visit of a plan though there is a start on it."""

    HAS_VISIT = "has-visit"
    TOO_NEAR = "too-near"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wished: so many visits in each of so many weeks from the first day on, near `minute` after midnight.

    A week is seven days that begin with the weekday of `first`. `weekdays` are those that suit, Monday is 0; none for
    any. Days and minutes are those of the clock at each start's own location.
    """

    appointment_type_id: int
    therapist_id: int
    location_id: int | None
    first: date
    weeks: int
    times_a_week: int
    minute: int
    weekdays: frozenset[int] = frozenset()

    @property
    def end(self) -> date:
        """The first day after the last week."""
        return self.first + self.weeks * WEEK

    def suits(self, day: date) -> bool:
        return not self.weekdays or day.weekday() in self.weekdays

    def days_of(self, week: date) -> list[date]:
        """The days that suit of the week that begins on this day."""
        return [day for day in days(week, week + 6 * DAY) if self.suits(day)]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A start to be booked, and all of that day that could be booked in its place, itself among them."""

    start: Offer
    of_day: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """How many visits found no place in the week that begins on `week`, and what keeps each day of it."""

    week: date
    missing: int
    why: Mapping[date, Reason | Unplaced]


@dataclass(frozen=True, slots=True)
class Proposed:
    visits: tuple[Proposal, ...]
    gaps: tuple[Gap, ...]


def day_of(start: Offer) -> date:
    """The day of a start where it is."""
    return local_date(start.slot.starts_at, zone_of(start.time_zone))


def minutes_off(plan: Plan, start: Offer) -> int:
    """How far a start is from the wished time of day, by the clock on the wall."""
    wall = start.slot.starts_at.astimezone(zone_of(start.time_zone))
    return abs(wall.hour * 60 + wall.minute - plan.minute)


def chosen(plan: Plan, starts: Iterable[Offer], busy: Collection[date] = ()) -> dict[date, tuple[Offer, ...]]:
    """For each week of the plan, by its first day, the starts to propose in it, in order.

    One of a day at most, none on `busy` days: of each day that suits the start nearest to the wished time, and of these
    as many as are wished. Of several ways to choose them the one with the fewest visits on the day after another, then
    the nearest to the wished time in sum, then the most evenly spread, then the earliest.
    """
    nearest = {day: min(of_day, key=lambda one: _preference(plan, one)) for day, of_day in by_day(starts).items()}
    found: dict[date, tuple[Offer, ...]] = {}
    last: Offer | None = None
    for week in _weeks(plan):
        usable = [nearest[day] for day in plan.days_of(week) if day in nearest and day not in busy]
        found[week] = _best(plan, usable, last)
        last = found[week][-1] if found[week] else last
    return found


def by_day(starts: Iterable[Offer]) -> dict[date, list[Offer]]:
    """Starts by their days, in order."""
    found = defaultdict[date, list[Offer]](list)
    for one in sorted(starts, key=lambda one: one.slot.starts_at):
        found[day_of(one)].append(one)
    return dict(found)


def propose(
    session: Session,
    plan: Plan,
    patient_id: UUID,
    places: frozenset[int] | None,
    *,
    now: datetime,
    settled: Collection[date] = (),
) -> Proposed:
    """The visits that a plan can have now, at these places, and why others found no place.

    A week keeps the days that were `settled` on before, where it has as many as are wished with a start still.
    Three queries at any length, some twenty where something is missing. Raises Invalid for an unknown type, therapist
    or location.
    """
    starts, busy = _starts(session, plan, places, now), _busy(session, patient_id, plan)
    of_day = by_day(starts)
    weeks = chosen(plan, _settled(plan, of_day, settled), busy)
    visits = [Proposal(one, tuple(of_day[day_of(one)])) for week in weeks.values() for one in week]
    short = {week: plan.times_a_week - len(of_week) for week, of_week in weeks.items()}
    empty = {week: [day for day in plan.days_of(week) if day not in map(day_of, weeks[week])] for week in short}
    lacking = [day for week, missing in short.items() if missing for day in empty[week]]
    why = _why(session, plan, [day for day in lacking if day not in busy and day not in of_day], places, now)
    for day in lacking:
        why.setdefault(day, Unplaced.HAS_VISIT if day in busy else Unplaced.TOO_NEAR)
    gaps = [Gap(week, missing, {day: why[day] for day in empty[week]}) for week, missing in short.items() if missing]
    return Proposed(tuple(visits), tuple(gaps))


def _settled(plan: Plan, of_day: Mapping[date, Sequence[Offer]], settled: Collection[date]) -> list[Offer]:
    """The starts without those of other days, in weeks whose days are settled and can still be had."""
    had = Counter((day - plan.first) // WEEK for day in settled if day in of_day)
    kept = {week for week, number in had.items() if number >= plan.times_a_week}
    return [
        one
        for day, starts in of_day.items()
        if day in settled or (day - plan.first) // WEEK not in kept
        for one in starts
    ]


def _weeks(plan: Plan) -> list[date]:
    return [plan.first + number * WEEK for number in range(plan.weeks)]


def _preference(plan: Plan, start: Offer) -> tuple[int, datetime, int]:
    return minutes_off(plan, start), start.slot.starts_at, start.slot.location_id


def _best(plan: Plan, usable: Sequence[Offer], last: Offer | None) -> tuple[Offer, ...]:
    """The best choice of one week: of seven days there are 35 at most."""
    before = [last] if last is not None else []
    for size in range(min(plan.times_a_week, len(usable)), 0, -1):
        apart = [one for one in combinations(usable, size) if _is_apart([*before, *one])]
        if apart:
            return min(apart, key=lambda choice: _badness(plan, choice, before))
    return ()


def _is_apart(starts: Sequence[Offer]) -> bool:
    return all(other.slot.starts_at - one.slot.starts_at >= NIGHT for one, other in pairwise(starts))


def _badness(plan: Plan, choice: Sequence[Offer], before: Sequence[Offer]) -> tuple[int, int, int, list[datetime]]:
    """What `chosen` says of several ways, the gravest first."""
    dates = [day_of(one) for one in choice]
    following = sum(other - one == DAY for one, other in pairwise([*map(day_of, before), *dates]))
    gaps = [(other - one).days for one, other in pairwise([*dates, dates[0] + WEEK])]
    off = sum(minutes_off(plan, one) for one in choice)
    return following, off, -min(gaps), [one.slot.starts_at for one in choice]


def _starts(session: Session, plan: Plan, places: frozenset[int] | None, now: datetime) -> list[Offer]:
    """All that staff may book of the plan's kind, with its therapist, in its weeks: one search."""
    find = Find(
        plan.appointment_type_id,
        location_id=plan.location_id,
        therapist_id=plan.therapist_id,
        from_=plan.first,
        to=plan.end,
        limit=plan.weeks * 7 * STARTS_A_DAY,
        by_staff=True,
    )
    found = availability.search(session, find, now=now).offers
    return [one for one in found if places is None or one.slot.location_id in places]


def _busy(session: Session, patient_id: UUID, plan: Plan) -> set[date]:
    """The days of the plan on which the patient has a visit, with anybody."""
    first, end = (first_instant(day, 0, zone_of("UTC")) for day in (plan.first - DAY, plan.end + DAY))
    visits = (
        select(Appointment.starts_at, Location.time_zone)
        .join(Location, Location.id == Appointment.location_id)
        .where(Appointment.patient_id == patient_id, Appointment.status != Status.CANCELLED)
        .where(Appointment.starts_at >= first, Appointment.starts_at < end)
    )
    return {local_date(starts_at, zone_of(zone)) for starts_at, zone in session.execute(visits)}


def _why(
    session: Session, plan: Plan, empty: Collection[date], places: frozenset[int] | None, now: datetime
) -> dict[date, Reason | Unplaced]:
    """Why there is no start on these days, by the rules that visits which are booked are asked by.

    Each day's hours are tried at every quarter hour; the reason told is that of the try which came furthest.
    """
    if not empty:
        return {}
    tries = _tries(session, plan, empty, places)
    whys = dict(zip(tries, consequences.misfits(session, [*tries]), strict=True))
    of_day = defaultdict[date, list[Imagined]](list)
    for one in tries:
        of_day[local_date(one.starts_at, zone_of(one.time_zone))].append(one)
    kept_back, end = _kept_back(session, plan), slots.horizon_end(practice.policy(session), now)
    found: dict[date, Reason | Unplaced] = {}
    for day in empty:
        fitting = [one for one in of_day[day] if whys[one] is None]
        if fitting:
            found[day] = _in_the_plan(fitting, kept_back, end, now)
        else:
            reasons = [why for one in of_day[day] if (why := whys[one]) is not None]
            furthest = max(reasons, key=GRAVEST.index, default=None)
            if furthest is None:
                found[day] = Reason.OUTSIDE_HOURS
            else:
                found[day] = Reason.HOURS_TOO_SHORT if furthest is Why.OUTSIDE_HOURS else Reason(furthest)
    return found


def _in_the_plan(fitting: Sequence[Imagined], kept_back: Collection[datetime], end: datetime, now: datetime) -> Reason:
    """Why none of these can be booked, which hours and licences allow."""
    starts = {one.starts_at for one in fitting}
    if max(starts) < cell_of(now):
        return Reason.TOO_SOON
    if min(starts) >= end:
        return Reason.NOT_PLANNED
    return Reason.PROTECTED if starts & set(kept_back) else Reason.TAKEN


def _tries(
    session: Session, plan: Plan, wanted: Collection[date], places: frozenset[int] | None
) -> dict[Imagined, None]:
    """The visits that the weekly hours of these days have room for, or one at their beginning where it is too long."""
    kind = session.get_one(AppointmentType, plan.appointment_type_id)
    utc = zone_of("UTC")
    start, end = first_instant(plan.first - DAY, 0, utc), first_instant(plan.end + DAY, 0, utc)
    rows = Rows.read(session, [plan.therapist_id], start, end)
    asked = {plan.location_id} if plan.location_id is not None else places
    tries: dict[Imagined, None] = {}
    for hours in rows.hours.get(plan.therapist_id, ()):
        if asked is None or hours.location_id in asked:
            for day in wanted:
                if not hours.standby or (hours.id, day) in (rows.opened or ()):
                    tries.update(dict.fromkeys(_tries_on(hours, day, kind)))
    return tries


def _tries_on(hours: Hours, day: date, kind: AppointmentType) -> Iterator[Imagined]:
    if not any(worked_days(hours, day, day)):
        return
    opens, closes = working_time(hours, day, zone_of(hours.zone_name))
    begins = opens
    while begins == opens or begins + kind.cells * CELL <= closes:
        yield Imagined(
            therapist_id=hours.therapist_id,
            location_id=hours.location_id,
            appointment_type_id=kind.id,
            starts_at=begins,
            ends_at=begins + timedelta(minutes=kind.minutes),
            buffer_minutes=kind.buffer_minutes,
            includes_needling=kind.includes_needling,
            therapist_active=True,  # hours of others are not read
            location_active=True,
            state=hours.state,
            time_zone=hours.zone_name,
        )
        begins += CELL


def _kept_back(session: Session, plan: Plan) -> Sequence[datetime]:
    """The free starts of the plan's weeks, those too that are kept back for short notice."""
    kind, utc = session.get_one(AppointmentType, plan.appointment_type_id), zone_of("UTC")
    free = select(Slot.starts_at).where(
        Slot.therapist_id == plan.therapist_id,
        Slot.starts_at >= first_instant(plan.first - DAY, 0, utc),
        Slot.starts_at < first_instant(plan.end + DAY, 0, utc),
        Slot.fit >= kind.cells,
    )
    return session.scalars(free).all()


def therapists(session: Session, places: frozenset[int] | None) -> Sequence[Therapist]:
    """Active therapists who have hours at any of these places, by name."""
    there = exists().where(
        WorkingHours.therapist_id == Therapist.id,
        true() if places is None else WorkingHours.location_id.in_(places),
    )
    return session.scalars(select(Therapist).where(Therapist.active, there).order_by(Therapist.name)).all()
