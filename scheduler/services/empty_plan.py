"""When visits could start if nothing were booked: the plan of all who offer a kind of visit, location by location."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from sqlalchemy.orm import Session

from scheduler.models import AppointmentType
from scheduler.services import access_rules, planned, practice
from scheduler.services.practice import Offering
from scheduler.timeline import Stretch


def starts(session: Session, kind: AppointmentType, since: datetime, until: datetime) -> dict[int, list[datetime]]:
    """The moments in [since, until) at which a visit of this kind could start, in order, by location.

    As many queries at any size. A visit must end before `until`, so ask for a little more than is looked at.
    """
    people = [person.id for person in practice.active_therapists(session)]
    stretches = planned.planned_time(session, people, since, until)
    return moments(stretches, kind, practice.offering(session))


def moments(stretches: Iterable[Stretch], kind: AppointmentType, offering: Offering) -> dict[int, list[datetime]]:
    """Every moment at which somebody could begin such a visit; those who work the same hours are looked at once."""
    of_each = defaultdict[tuple[int, int], list[Stretch]](list)
    for stretch in stretches:
        if offering.allows(kind.id, stretch.therapist_id, stretch.location_id):
            of_each[stretch.location_id, stretch.therapist_id].append(replace(stretch, therapist_id=0))
    plans = {(place, frozenset(own)) for (place, _), own in of_each.items()}
    found = defaultdict[int, set[datetime]](set)
    for place, plan in plans:
        empty = access_rules.empty_plan_starts(plan, kind.cells, needling=kind.includes_needling)
        found[place].update(start.starts_at for start in empty)
    return {place: sorted(moments) for place, moments in found.items()}
