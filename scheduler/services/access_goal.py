"""The access goal: how soon a visit can start, now and over the last weeks, at each location and anywhere.

One set of pure functions stands behind page, API, report and history. What counts is what search offers at that moment
(`availability.soonest`, the rules of `_rules`); hours are clock hours, nights and closed days included.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import Select, and_, bindparam, delete, distinct, exists, func, select
from sqlalchemy.orm import Session, aliased

from scheduler.db import UtcDateTime, insert_into
from scheduler.errors import Invalid
from scheduler.models import AccessSample, AppointmentType, ClinicPolicy, Location
from scheduler.services import availability, practice
from scheduler.services.availability import Openings, SlotName, Terms
from scheduler.timeline import DAY, cell_of

HOUR = timedelta(hours=1)
COUNTED = 3
WINDOW = 28 * DAY
LEAST_HISTORY = 7 * DAY
SAMPLES_KEPT = 400 * DAY
Rows = Select[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Figures:
    """What bookable starts say of the goal at one moment; hours have two decimals, None where no such start is."""

    next_available_at: datetime | None
    next_available_hours: float | None
    third_next_available_hours: float | None
    within_goal: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How the goal stands. `time_zone` is that of the location of the next start; overall None when there is none.

    `attainment_28d` is the share of measured quarter hours of 28 days with a start within the goal as it then was;
    None before 7 days of history.
    """

    figures: Figures
    time_zone: str | None
    attainment_28d: float | None


@dataclass(frozen=True, slots=True)
class AtLocation(Standing):
    """How the goal stands at a location; `starts` are its soonest, COUNTED at most."""

    location: Location
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
    shares = _attained(session, kind_id, now) if history else {}
    policy, measured_at = terms.policy, now.replace(microsecond=0)
    first, first_open = (
        _soonest_anywhere(starts) for starts in ([at.starts for at in openings], [at.open for at in openings])
    )
    zone = next((at.location.time_zone for at in openings if first and at.location.id == first[0].location_id), None)
    locations = [
        AtLocation(
            _figures(at.starts, at.open, policy, measured_at),
            at.location.time_zone,
            shares.get(at.location.id),
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
        overall=Standing(_figures(first, first_open, policy, measured_at), zone, shares.get(None)),
        locations=locations,
    )


def record(session: Session, *, now: datetime) -> None:
    """Keep how the goal stands in this quarter hour, for every new-patient type, unless that was kept already.

    Any number of workers may do so at once: the key decides who was first, and the others change nothing.
    """
    for kind in practice.new_patient_types(session):
        if _is_recorded(session, kind.id, cell_of(now)):
            continue
        terms, openings = availability.soonest(session, kind.id, COUNTED, now=now)
        rows = [_sample(at, terms, now) for at in openings]
        if rows:
            session.execute(insert_into(session, AccessSample).on_conflict_do_nothing(), rows)


def _sample(at: Openings, terms: Terms, now: datetime) -> dict[str, Any]:
    found = _figures(at.starts, at.open, terms.policy, now.replace(microsecond=0))
    return {
        "appointment_type_id": terms.kind.id,
        "location_id": at.location.id,
        "quarter": cell_of(now),
        "next_available_hours": found.next_available_hours,
        "third_next_available_hours": found.third_next_available_hours,
        "goal_hours": terms.policy.access_goal_hours,
        "within_goal": found.within_goal,
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


def _attained(session: Session, kind_id: int, now: datetime) -> dict[int | None, float | None]:
    """The share of 28 days at each location that was measured, and overall under None, as seen from `now`."""
    values = {"type": kind_id, "since": now - WINDOW, "now": now, "old": now - LEAST_HISTORY}
    at_locations, anywhere = (session.execute(statement, values).all() for statement in _kept())
    shares: dict[int | None, float | None] = {
        location_id: attainment(measured, kept, old_enough=bool(old))
        for location_id, measured, kept, old in at_locations
    }
    (measured, kept), old_enough = anywhere[0], any(old for *_, old in at_locations)
    return shares | {None: attainment(measured, kept, old_enough=old_enough)}


@cache
def _kept() -> tuple[Rows, Rows]:
    """Count the quarter hours measured, and those that kept the goal: at each location, and at any of them.

    The outer join makes SQLite seek each location's weeks by the key, instead of sorting everybody's by location.
    """
    older = aliased(AccessSample)
    in_window = and_(
        AccessSample.appointment_type_id == bindparam("type"),
        AccessSample.quarter > bindparam("since", type_=UtcDateTime()),
        AccessSample.quarter <= bindparam("now", type_=UtcDateTime()),
    )
    begun = exists().where(
        older.appointment_type_id == bindparam("type"),
        older.location_id == Location.id,
        older.quarter <= bindparam("old", type_=UtcDateTime()),
    )
    samples = func.count(AccessSample.quarter)
    at_locations = (
        select(Location.id, samples, samples.filter(AccessSample.within_goal), begun)
        .outerjoin(AccessSample, and_(AccessSample.location_id == Location.id, in_window))
        .group_by(Location.id)
    )
    quarters = func.count(distinct(AccessSample.quarter))
    return at_locations, select(quarters, quarters.filter(AccessSample.within_goal)).where(in_window)
