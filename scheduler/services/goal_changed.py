"""What a change does to the access goal: when it would be missed that is kept now.

As bookings stand at this moment: times that are free now may be taken later, and visits cancelled.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.models import AppointmentType, Location, WorkingHours
from scheduler.services import access_rules, availability, availability_sql, practice
from scheduler.services.availability_sql import Shape
from scheduler.services.windows import Times
from scheduler.timeline import DAY, HOUR

PREVIEWED = 28 * DAY


@dataclass(frozen=True, slots=True)
class Reach:
    """When nothing is within reach of a location's new patients from now until `until`, by location; those open online.

    Without a kind of visit for new patients there is no goal, and nothing is missed anywhere.
    """

    places: Mapping[int, Location]
    missed: Mapping[int, Sequence[Times]]
    goal_hours: int
    until: datetime


@dataclass(frozen=True, slots=True)
class NewlyMissed:
    """A location misses the goal of so many hours in these times, each [start, end), once a change is saved."""

    location: str
    time_zone: str
    goal_hours: int
    times: Sequence[Times]

    @property
    def hours(self) -> float:
        return sum((end - start for start, end in self.times), timedelta()) / HOUR


def where(session: Session, therapist_ids: Collection[int]) -> frozenset[int]:
    """The locations at which these therapists have hours, to be asked before a change takes them away."""
    hours = select(WorkingHours.location_id).where(WorkingHours.therapist_id.in_(therapist_ids))
    return frozenset(session.scalars(hours.distinct()))


def everywhere(session: Session) -> frozenset[int]:
    """The locations that a change of the goal, or of what it is about, concerns."""
    return frozenset(place.id for place in practice.online_locations(session))


def reach(session: Session, place_ids: Collection[int], *, now: datetime) -> Reach:
    """The misses ahead at these locations, of the kind of visit that the goal is about. Few queries at any size.

    A moment ahead is judged by the starts that can be booked at that moment: by notice and horizon as they are then.
    It is looked no further ahead than the calendar is planned.
    """
    kind, policy = practice.goal_type(practice.appointment_types(session)), practice.policy(session)
    places = {place.id: place for place in practice.online_locations(session) if place.id in place_ids}
    planned = min(now + PREVIEWED, now + policy.booking_horizon_days * DAY)
    until = planned - policy.access_goal_hours * HOUR
    if kind is None or not places:
        return Reach(places, {}, policy.access_goal_hours, until)
    earliest, latest = availability.bookable_within(policy, kind, now, by_staff=False)
    goal = min(policy.access_goal_hours * HOUR, latest - now)
    starts = _starts(session, kind, places, earliest, planned)
    missed = {
        place_id: access_rules.misses(starts[place_id], (now, until), notice=earliest - now, goal=goal)
        for place_id in places
    }
    return Reach(places, missed, policy.access_goal_hours, until)


def newly_missed(before: Reach, after: Reach) -> list[NewlyMissed]:
    """What is missed after a change and was not before it, at places that are open at both times; by name.

    It is told of the time that both know of.
    """
    until = min(before.until, after.until)
    found = [
        NewlyMissed(place.name, place.time_zone, after.goal_hours, times)
        for place_id, missed in after.missed.items()
        if (place := before.places.get(place_id)) is not None
        and (was := before.missed.get(place_id)) is not None
        and (times := access_rules.apart(_before(until, missed), was))
    ]
    return sorted(found, key=lambda one: one.location)


def _before(until: datetime, times: Iterable[Times]) -> list[Times]:
    return [(begin, min(end, until)) for begin, end in times if begin < until]


def _starts(
    session: Session, kind: AppointmentType, places: Collection[int], earliest: datetime, latest: datetime
) -> Mapping[int, Sequence[datetime]]:
    """The free starts of a kind of visit at these locations, in order, each once; those too that are kept back."""
    offering = practice.offering(session)
    limited = {"people": offering.people, "places": offering.places}
    limits = frozenset(name for name, of in limited.items() if kind.id in of)
    statement = availability_sql.starts_ahead(Shape(kind.cells, kind.includes_needling, limits))
    values = {"type": kind.id, "earliest": earliest, "latest": latest, "places": list(places)}
    found = defaultdict[int, list[datetime]](list)
    for place_id, starts_at in session.execute(statement, values):
        found[place_id].append(starts_at)
    return found
