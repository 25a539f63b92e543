"""What a change of the calendar does to the access goal: when it would be missed that is kept now.

As bookings stand at this moment: times that are free now may be taken later, and visits cancelled.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.models import Location, WorkingHours
from scheduler.services import access_rules, availability, practice
from scheduler.services.windows import Times
from scheduler.timeline import DAY

LOOKED_AHEAD = 28 * DAY


@dataclass(frozen=True, slots=True)
class Reach:
    """When nothing is within reach of a location's new patients in the weeks ahead, by location; those open online."""

    places: Mapping[int, Location]
    missed: Mapping[int, Sequence[Times]]


@dataclass(frozen=True, slots=True)
class NewlyMissed:
    """A location misses the goal in these times, each [start, end), once a change is saved."""

    location: str
    time_zone: str
    times: Sequence[Times]

    @property
    def hours(self) -> float:
        return sum((end - start for start, end in self.times), timedelta()) / timedelta(hours=1)


def where(session: Session, therapist_ids: Collection[int]) -> frozenset[int]:
    """The locations at which these therapists have hours, to be asked before a change takes them away."""
    hours = select(WorkingHours.location_id).where(WorkingHours.therapist_id.in_(therapist_ids))
    return frozenset(session.scalars(hours.distinct()))


def reach(session: Session, place_ids: Collection[int], *, now: datetime) -> Reach:
    """The misses ahead at these locations, of the kind of visit that the goal is about. Few queries at any size."""
    kind = practice.goal_type(practice.appointment_types(session))
    places = {place.id: place for place in practice.online_locations(session) if place.id in place_ids}
    if kind is None or not places:
        return Reach(places, {})
    terms, starts = availability.starts_ahead(session, kind.id, places, now + LOOKED_AHEAD, now=now)
    earliest, latest = availability.bookable_within(terms.policy, terms.kind, now, by_staff=False)
    goal = min(timedelta(hours=terms.policy.access_goal_hours), latest - now)
    period = now, min(now + LOOKED_AHEAD, latest) - goal
    return Reach(
        places,
        {
            place_id: access_rules.misses(starts.get(place_id, ()), period, notice=earliest - now, goal=goal)
            for place_id in places
        },
    )


def newly_missed(before: Reach, after: Reach) -> list[NewlyMissed]:
    """What is missed after a change and was not before it, at places that are open at both times; by name."""
    found = [
        NewlyMissed(place.name, place.time_zone, times)
        for place_id, missed in after.missed.items()
        if (place := before.places.get(place_id)) is not None
        and (times := access_rules.apart(missed, before.missed.get(place_id, ())))
    ]
    return sorted(found, key=lambda one: one.location)
