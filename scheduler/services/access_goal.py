"""The access goal: how soon a visit can start, now and over the last weeks, at each location and anywhere.

One set of pure functions stands behind page, API, report and history. What counts is what search offers at that moment
(`availability.soonest`, the rules of `_rules`); hours are clock hours, nights and closed days included.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Subquery,
    and_,
    bindparam,
    delete,
    exists,
    func,
    select,
)
from sqlalchemy.orm import Session, aliased

from scheduler.db import UtcDateTime, insert_into
from scheduler.errors import Invalid
from scheduler.models import AccessSample, AppointmentType, ClinicPolicy, Location
from scheduler.services import access_hours, access_rules, availability, practice
from scheduler.services.access_hours import Hours
from scheduler.services.access_rules import Range
from scheduler.services.availability import Openings, Place, SlotName, Terms
from scheduler.timeline import CELL, DAY, HOUR, cell_of, zone_of

COUNTED = 3
WINDOW = 28 * DAY
LEAST_HISTORY = 7 * DAY
SAMPLES_KEPT = 400 * DAY
# Some of them may be null, which the types of conditions do not allow for.
VERDICTS: tuple[Any, ...] = (AccessSample.within_goal, AccessSample.possible, AccessSample.within_open_days)
Rows = Select[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Figures:
    """What bookable starts say of the goal at one moment; hours have two decimals, None where no such start is."""

    next_available_at: datetime | None
    next_available_hours: float | None
    third_next_available_hours: float | None
    within_goal: bool


@dataclass(frozen=True, slots=True)
class Weeks:
    """The measured quarter hours of 28 days, and how many of them kept the goal as it then was.

    `possible` would have kept it with nothing booked, `within_open_days` kept it if only open days count; None where
    some of them do not know. `old_enough` says whether there are 7 days of history; before that there are no shares.
    """

    measured: int = 0
    kept: int = 0
    possible: int | None = None
    within_open_days: int | None = None
    old_enough: bool = False

    @property
    def attainment(self) -> float | None:
        return attainment(self.measured, self.kept, old_enough=self.old_enough)

    @property
    def ceiling(self) -> float | None:
        """The share that could have been kept: of the same quarter hours, so never below what was."""
        return None if self.possible is None else attainment(self.measured, self.possible, old_enough=self.old_enough)

    @property
    def without_hours(self) -> float | None:
        """The hours in which it was missed for want of hours in reach (`Cause.STRUCTURAL`)."""
        return None if self.possible is None else (self.measured - self.possible) * CELL / HOUR

    @property
    def taken(self) -> float | None:
        """The hours in which it was missed because all was taken (`Cause.CAPACITY`)."""
        return None if self.possible is None else (self.possible - self.kept) * CELL / HOUR

    @property
    def open_days(self) -> float | None:
        kept = self.within_open_days
        return None if kept is None else attainment(self.measured, kept, old_enough=self.old_enough)


NO_HISTORY = Weeks()


@dataclass(frozen=True, slots=True)
class Standing:
    """How the goal stands. `time_zone` is that of the location of the next start; overall None when there is none."""

    figures: Figures
    time_zone: str | None
    weeks: Weeks

    @property
    def attainment_28d(self) -> float | None:
        return self.weeks.attainment


@dataclass(frozen=True, slots=True)
class AtLocation(Standing):
    """How the goal stands at a location; `starts` are its soonest, COUNTED at most."""

    location: Place
    starts: Sequence[SlotName]


@dataclass(frozen=True, slots=True)
class Access:
    """The goal as it stands for one kind of visit; `overall` is the soonest anywhere, `target` a share of the time."""

    measured_at: datetime
    goal_hours: int
    target: float
    appointment_type_id: int
    appointment_type_name: str
    overall: Standing
    locations: list[AtLocation]

    @property
    def kept_everywhere(self) -> bool:
        """Whether each location has a start within the goal."""
        return bool(self.locations) and all(at.figures.within_goal for at in self.locations)


def figures(
    starts: Sequence[datetime], open_: Sequence[datetime] | None = None, *, now: datetime, goal_hours: int
) -> Figures:
    """Read the figures off the bookable starts, soonest first; three are enough, more change nothing.

    The third counts those of `open_` where it is given: the starts that need nothing of what is kept back.

    The third next available is the third opening, and two therapists free at one moment are two openings: the measure
    counts appointments that could be made, the third because the first two are often chance cancellations (Institute
    for Healthcare Improvement, "Third Next Available Appointment"; every calendar day counts). Within the goal is
    what the hours as shown say, so that number and verdict never contradict each other.
    """
    hours, thirds = (
        [round((start - now) / HOUR, 2) for start in some[:COUNTED]]
        for some in (starts, starts if open_ is None else open_)
    )
    return Figures(
        next_available_at=starts[0] if starts else None,
        next_available_hours=hours[0] if hours else None,
        third_next_available_hours=thirds[COUNTED - 1] if len(thirds) == COUNTED else None,
        within_goal=bool(hours) and hours[0] <= goal_hours,
    )


def attainment(measured: int, kept: int, *, old_enough: bool) -> float | None:
    """The share of measured quarter hours that kept the goal; None without any, or before LEAST_HISTORY of history."""
    return kept / measured if measured and old_enough else None


def measure(session: Session, *, now: datetime, appointment_type_id: int | None = None, history: bool = True) -> Access:
    """Measure the goal as it stands, by default for the first new-patient type. At most five queries at any size.

    Without `history`, for a page that does not show it, every `attainment_28d` is None, and two queries fewer are run.

    Hours count from the whole second that is shown, so that the answer can be recounted from itself. Raises Invalid
    for an unknown type, and for none where the clinic has no new-patient type: then the goal is about nothing yet, and
    any type chosen instead would stand for a promise that nobody made.
    """
    kind_id = _goal_type(session) if appointment_type_id is None else appointment_type_id
    terms, openings = availability.soonest(session, kind_id, COUNTED, now=now)
    weeks = _weeks(session, kind_id, now) if history else {}
    policy, measured_at = terms.policy, now.replace(microsecond=0)
    first, first_open = (
        _soonest_anywhere(starts) for starts in ([at.starts for at in openings], [at.open for at in openings])
    )
    zone = next((at.location.time_zone for at in openings if first and at.location.id == first[0].location_id), None)
    locations = [
        AtLocation(
            _figures(at.starts, at.open, policy, measured_at),
            at.location.time_zone,
            weeks.get(at.location.id, NO_HISTORY),
            at.location,
            at.starts,
        )
        for at in openings
    ]
    return Access(
        measured_at=measured_at,
        goal_hours=policy.access_goal_hours,
        target=policy.access_target,
        appointment_type_id=kind_id,
        appointment_type_name=terms.kind.name,
        overall=Standing(_figures(first, first_open, policy, measured_at), zone, weeks.get(None, NO_HISTORY)),
        locations=locations,
    )


def samples(session: Session, *, now: datetime) -> list[dict[str, Any]]:
    """How the goal stands in this quarter hour, for every new-patient type, unless that was kept already.

    Seven queries for the hours and three for each type, at any size. Reading all hours takes a while at a large clinic
    (docs/performance.md), so it is apart from `record`, which writes.
    """
    due = [kind for kind in practice.new_patient_types(session) if not _is_recorded(session, kind.id, cell_of(now))]
    found: list[dict[str, Any]] = []
    hours: Hours | None = None
    for kind in due:
        terms, openings = availability.soonest(session, kind.id, COUNTED, now=now)
        hours = hours or access_hours.hours(session, goal_hours=terms.policy.access_goal_hours, now=now)
        planned = hours.starts(kind)
        found += [_sample(at, planned.get(at.location.id, ()), terms, now) for at in openings]
    return found


def record(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Keep samples. Any number of workers may do so at once: the key decides who was first, nobody else changes it."""
    if rows:
        session.execute(insert_into(session, AccessSample).on_conflict_do_nothing(), rows)


def _sample(at: Openings, planned: Sequence[Range], terms: Terms, now: datetime) -> dict[str, Any]:
    """What was on offer was possible, whatever the plan says meanwhile."""
    policy, measured_at = terms.policy, now.replace(microsecond=0)
    found = _figures(at.starts, at.open, policy, measured_at)
    earliest, latest = availability.bookable_within(policy, terms.kind, now, by_staff=False)
    first = access_rules.first_start(planned, earliest)
    empty = [first] if first is not None and first <= latest else []
    zone = zone_of(at.location.time_zone)
    dates = access_rules.range_dates(planned, zone)
    deadline = access_rules.open_days_deadline(now, dates, zone, goal_hours=policy.access_goal_hours)
    return {
        "appointment_type_id": terms.kind.id,
        "location_id": at.location.id,
        "quarter": cell_of(now),
        "next_available_hours": found.next_available_hours,
        "third_next_available_hours": found.third_next_available_hours,
        "goal_hours": policy.access_goal_hours,
        "within_goal": found.within_goal,
        "possible": found.within_goal
        or figures(empty, now=measured_at, goal_hours=policy.access_goal_hours).within_goal,
        "within_open_days": access_rules.within_open_days(found.next_available_at, deadline),
    }


def forget_old_samples(session: Session, *, now: datetime) -> None:
    """Delete what is older than SAMPLES_KEPT; naming the types lets their index find it."""
    every_type = AccessSample.appointment_type_id.in_(select(AppointmentType.id))
    session.execute(delete(AccessSample).where(every_type, AccessSample.quarter < now - SAMPLES_KEPT))


def _goal_type(session: Session) -> int:
    kind = practice.goal_type(practice.appointment_types(session))
    if kind is None:
        raise Invalid("appointment_type", "There is no new-patient type yet: name the type to measure.")
    return kind.id


def _soonest_anywhere(starts: Iterable[Iterable[SlotName]]) -> list[SlotName]:
    """The first starts of all locations together, in the order of search."""
    together = chain.from_iterable(starts)
    return sorted(together, key=lambda start: (start.starts_at, start.therapist_id))[:COUNTED]


def _figures(
    starts: Iterable[SlotName], open_: Iterable[SlotName], policy: ClinicPolicy, measured_at: datetime
) -> Figures:
    return figures(
        [start.starts_at for start in starts],
        [start.starts_at for start in open_],
        now=measured_at,
        goal_hours=policy.access_goal_hours,
    )


def _is_recorded(session: Session, kind_id: int, quarter: datetime) -> bool:
    sample = select(AccessSample.quarter).where(
        AccessSample.appointment_type_id == kind_id, AccessSample.quarter == quarter
    )
    return session.execute(sample.limit(1)).first() is not None


def _weeks(session: Session, kind_id: int, now: datetime) -> dict[int | None, Weeks]:
    """What was measured of 28 days at each location, and overall under None, as seen from `now`."""
    at_locations, anywhere = (session.execute(statement, asked_of(kind_id, now)).all() for statement in _counted())
    weeks: dict[int | None, Weeks] = {
        place: _counts(*counts, old_enough=bool(old)) for place, *counts, old in at_locations
    }
    return weeks | {None: _counts(*anywhere[0], old_enough=any(old for *_, old in at_locations))}


def _counts(measured: int, kept: int, possible: int, open_days: int, known: int, *, old_enough: bool) -> Weeks:
    if known < measured:
        return Weeks(measured, kept, old_enough=old_enough)
    return Weeks(measured, kept, possible, open_days, old_enough=old_enough)


def asked_of(kind_id: int, now: datetime) -> dict[str, Any]:
    """What the statements over the samples of 28 days bind."""
    return {"type": kind_id, "since": now - WINDOW, "now": now, "old": now - LEAST_HISTORY}


def in_window() -> ColumnElement[bool]:
    """Samples of the kind of visit that were taken in (since, now]."""
    return and_(
        AccessSample.appointment_type_id == bindparam("type"),
        AccessSample.quarter > bindparam("since", type_=UtcDateTime()),
        AccessSample.quarter <= bindparam("now", type_=UtcDateTime()),
    )


def anywhere(within: ColumnElement[bool]) -> Subquery:
    """Quarter hours as they were anywhere: what some location kept was kept, and known is what all of them know."""
    number = func.count()
    return (
        select(
            AccessSample.quarter,
            *((number.filter(each) > 0).label(each.key) for each in VERDICTS),
            (func.count(AccessSample.possible) == number).label("known"),
        )
        .where(within)
        .group_by(AccessSample.quarter)
        .subquery()
    )


@cache
def _counted() -> tuple[Rows, Rows]:
    """Count the quarter hours measured, and those that kept the goal: at each location, and at any of them.

    The outer join makes SQLite seek each location's weeks by the key, instead of sorting everybody's by location.
    """
    older = aliased(AccessSample)
    begun = exists().where(
        older.appointment_type_id == bindparam("type"),
        older.location_id == Location.id,
        older.quarter <= bindparam("old", type_=UtcDateTime()),
    )
    number = func.count(AccessSample.quarter)
    at_locations = (
        select(
            Location.id, number, *(number.filter(each) for each in VERDICTS), func.count(AccessSample.possible), begun
        )
        .outerjoin(AccessSample, and_(AccessSample.location_id == Location.id, in_window()))
        .group_by(Location.id)
    )
    quarter = anywhere(in_window()).c
    counts = (quarter.within_goal, quarter.possible, quarter.within_open_days, quarter.known)
    return at_locations, select(func.count(quarter.quarter), *(func.count().filter(each) for each in counts))
