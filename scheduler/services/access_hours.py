"""What the hours alone would make of the access goal: planned time, as if nothing were booked in it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from scheduler.models import AppointmentType
from scheduler.services import access_rules, planned, practice
from scheduler.services.access_rules import Range
from scheduler.services.practice import Offering
from scheduler.timeline import CELL, DAY, Stretch, cell_of


@dataclass(frozen=True, slots=True)
class Hours:
    """Everybody's planned time before `until`, and who offers what where."""

    until: datetime
    stretches: Sequence[Stretch]
    offering: Offering

    def starts(self, kind: AppointmentType) -> Mapping[int, Sequence[Range]]:
        """The starts of a kind of visit at each location, if nothing were booked; nothing where there are none."""
        offered = (one for one in self.stretches if self.offering.allows(kind.id, one.therapist_id, one.location_id))
        found = defaultdict[int, list[Range]](list)
        for one in access_rules.start_ranges(offered, kind.cells, needling=kind.includes_needling):
            found[one.location_id].append(one)
        return found

    def moments(self, kind: AppointmentType) -> dict[int, list[datetime]]:
        """Those starts as moments, in order and each once, by location."""
        found = {}
        for place, ranges in self.starts(kind).items():
            spans = {(one.first, (one.last - one.first) // CELL) for one in ranges}  # many work the same hours
            found[place] = sorted({first + number * CELL for first, more in spans for number in range(more + 1)})
        return found


def hours(session: Session, *, goal_hours: int, now: datetime) -> Hours:
    """What the goal of a moment needs: the days that may count as its working days, whatever the zone."""
    return read(session, now, now + (access_rules.days_ahead(goal_hours) + 2) * DAY)


def read(session: Session, since: datetime, until: datetime) -> Hours:
    """Read them as they are planned now, in whole cells. Eight queries at most, at any size.

    A visit must end before `until`, so ask for a little more than is looked at.
    """
    since, until = cell_of(since), cell_of(until)
    people = [person.id for person in practice.active_therapists(session)]
    return Hours(until, planned.planned_time(session, people, since, until), practice.offering(session))
