"""What the hours alone would make of the access goal: planned time, as if nothing were booked in it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from scheduler.models import AppointmentType
from scheduler.services import access_rules, planned, practice
from scheduler.services.access_rules import Range
from scheduler.services.practice import Offering
from scheduler.timeline import DAY, Stretch, cell_of

# So far beyond the goal open days are looked for: longer than any clinic closes, and a start after that is not soon.
LOOKED_AHEAD = 14 * DAY


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


def hours(session: Session, *, goal_hours: int, now: datetime) -> Hours:
    """Read them as they are planned now. Seven queries at any size."""
    since, until = cell_of(now), cell_of(now) + timedelta(hours=goal_hours) + LOOKED_AHEAD
    people = [person.id for person in practice.active_therapists(session)]
    return Hours(until, planned.planned_time(session, people, since, until), practice.offering(session))
