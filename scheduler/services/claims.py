"""The clinic's public claims: each is bound to a query over present rows, and is told only while that is true.

The rules are pure functions over one reading of the rows, so that every page tells the same.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from scheduler.models import AppointmentType, ClinicPolicy, Location, StandbyOpening, Therapist, WorkingHours
from scheduler.services import access_goal, licensing, practice
from scheduler.services.access_goal import Access
from scheduler.services.licensing import Licences
from scheduler.services.practice import Offering
from scheduler.timeline import local_date, zone_of


@dataclass(frozen=True, slots=True)
class Present:
    """The rows that claims are asked of, read at one moment.

    `posts` has every active therapist with the ids of the locations where their weekly hours are in force today, or
    none; `today` is each location's own date; `access` how the goal stands, None where no visit is for new patients.
    """

    policy: ClinicPolicy
    kinds: Sequence[AppointmentType]
    offering: Offering
    places: Mapping[int, Location]
    today: Mapping[int, date]
    posts: Mapping[int, frozenset[int]]
    licences: Licences
    access: Access | None

    def may_needle(self, therapist_id: int, place_id: int) -> bool:
        return self.licences.may_needle(therapist_id, self.places[place_id].state, self.today[place_id])


def licensed(present: Present) -> bool:
    """Whether every active therapist may needle today: wherever they work, or anywhere while they have no hours."""
    return bool(present.posts) and all(
        all(present.may_needle(therapist, place) for place in at)
        if at
        else any(present.may_needle(therapist, place) for place in present.places)
        for therapist, at in present.posts.items()
    )


def everywhere(present: Present) -> bool:
    """Whether at each location somebody works who may and does give a visit with needling there today."""
    needled = [kind.id for kind in present.kinds if kind.includes_needling]
    offered = {
        place
        for therapist, at in present.posts.items()
        for place in at
        if present.may_needle(therapist, place)
        and any(present.offering.allows(kind_id, therapist, place) for kind_id in needled)
    }
    return bool(present.places) and offered == set(present.places)


def within_goal(present: Present) -> bool:
    """Whether each location has a start for a new patient within the goal from now."""
    return present.access is not None and present.access.kept_everywhere


RULES: dict[str, Callable[[Present], bool]] = {
    "licensed": licensed,
    "everywhere": everywhere,
    "within_goal": within_goal,
}


def holds(claim_id: str, present: Present) -> bool:
    """Whether a claim is true; one without a rule is none that anybody could stand by."""
    rule = RULES.get(claim_id)
    return rule is not None and rule(present)


def present(session: Session, *, now: datetime) -> Present:
    """Read all that claims depend on, in as many queries at any size."""
    policy, kinds = practice.policy(session), practice.appointment_types(session)
    places = {place.id: place for place in practice.locations(session)}
    today = {place.id: local_date(now, zone_of(place.time_zone)) for place in places.values()}
    posts = _posts(session, today)
    licences = licensing.licences_of(session, posts.keys())
    kind = practice.goal_type(kinds)
    access = access_goal.measure(session, now=now, appointment_type_id=kind.id, history=False) if kind else None
    return Present(policy, kinds, practice.offering(session), places, today, posts, licences, access)


def _posts(session: Session, today: Mapping[int, date]) -> dict[int, frozenset[int]]:
    """Every active therapist, with the locations where they have hours on that location's date.

    Hours on standby count once a day of them is opened that is not over.
    """
    opened = exists().where(
        StandbyOpening.working_hours_id == WorkingHours.id,
        StandbyOpening.day >= min(today.values(), default=date.max),
    )
    hours = (
        select(Therapist.id, WorkingHours.location_id, WorkingHours.valid_from, WorkingHours.valid_until)
        .outerjoin(WorkingHours, (WorkingHours.therapist_id == Therapist.id) & (~WorkingHours.standby | opened))
        .where(Therapist.active)
        .distinct()
    )
    posts: dict[int, set[int]] = defaultdict(set)
    for therapist, place, first, last in session.execute(hours):
        posts[therapist] |= {place} if place in today and first <= today[place] <= (last or date.max) else set()
    return {therapist: frozenset(at) for therapist, at in posts.items()}
