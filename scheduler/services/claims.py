"""The clinic's public claims: each is bound to a query over present rows, and is told only while that is true.

The rules are pure functions over one reading of the rows, so that every page tells the same. Each says what is told of
its claim, in one of the wordings that the explainer's row carries, and what stands against it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from scheduler.models import (
    AppointmentType,
    ClinicPolicy,
    Location,
    Saying,
    Slot,
    StandbyOpening,
    Therapist,
    WorkingHours,
)
from scheduler.services import access_goal, access_rules, licensing, practice
from scheduler.services.access_goal import Access, AtLocation
from scheduler.services.licensing import Licences
from scheduler.services.practice import Offering
from scheduler.timeline import DAY, local_date, zone_of


class What(StrEnum):
    """What stands against a claim."""

    NOBODY = "nobody"
    UNLICENSED = "unlicensed"
    NO_PLACE = "no-place"
    NO_NEEDLING_KIND = "no-needling-kind"
    NOBODY_WORKS = "nobody-works"
    NOBODY_LICENSED = "nobody-licensed"
    NOBODY_OFFERS = "nobody-offers"
    NO_NEW_PATIENT_KIND = "no-new-patient-kind"
    NOT_ONLINE = "not-online"
    BELOW_TARGET = "below-target"
    TOO_LATE = "too-late"
    NOTHING_FREE = "nothing-free"


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that stands against a claim, by the ids of whom and where.

    UNLICENSED tells what a therapist is `lacking` (Licences.lacking) at a location, or nowhere in particular while they
    have no hours. BELOW_TARGET has the `share` of 28 days that kept the goal there and the `target`; TOO_LATE, of a
    location without a week of history, the `hours` until its soonest start and the `target` in hours.
    """

    what: What
    therapist_id: int | None = None
    location_id: int | None = None
    lacking: str | None = None
    share: float | None = None
    hours: float | None = None
    target: float | None = None

    def as_data(self) -> dict[str, Any]:
        """What is known of it, as the ledger keeps it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Breach":
        return cls(**{**data, "what": What(data["what"])})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is told of a claim, and what stands against its telling as it is meant: nothing exactly when it holds."""

    says: Saying
    breaches: Sequence[Breach] = ()

    @property
    def holds(self) -> bool:
        return self.says == Saying.HOLDS


@dataclass(frozen=True, slots=True)
class Present:
    """The rows that claims are asked of, read at one moment.

    `posts` has every active therapist with the ids of the locations where their weekly hours are in force today, or
    none; `today` is each location's own date; `access` how the goal stands, None where no visit is for new patients.
    `working_days_end` says of locations until when (exclusive) a start is within as many working days as the goal has
    days, None where too few are ahead; it is only read while the goal is missed.
    """

    policy: ClinicPolicy
    kinds: Sequence[AppointmentType]
    offering: Offering
    places: Mapping[int, Location]
    today: Mapping[int, date]
    posts: Mapping[int, frozenset[int]]
    licences: Licences
    access: Access | None
    working_days_end: Mapping[int, datetime | None]

    def lacking(self, therapist_id: int, place_id: int) -> str | None:
        return self.licences.lacking(therapist_id, self.places[place_id].state, self.today[place_id])


def licensed(present: Present) -> Verdict:
    """Every active therapist may needle today: wherever they work, or anywhere while they have no hours."""
    if not present.posts:
        return Verdict(Saying.FAILS, [Breach(What.NOBODY)])
    return _plain([breach for therapist, at in present.posts.items() for breach in _unlicensed(present, therapist, at)])


def _unlicensed(present: Present, therapist: int, at: frozenset[int]) -> list[Breach]:
    if at:
        lacking = {place: present.lacking(therapist, place) for place in sorted(at)}
        return [Breach(What.UNLICENSED, therapist, place, what) for place, what in lacking.items() if what]
    anywhere = [present.lacking(therapist, place) for place in present.places]
    if None in anywhere:
        return []
    return [Breach(What.UNLICENSED, therapist, lacking=anywhere[0] if anywhere else licensing.PT)]


def everywhere(present: Present) -> Verdict:
    """At each location somebody works who may and does give a visit with needling there today."""
    if not present.places:
        return Verdict(Saying.FAILS, [Breach(What.NO_PLACE)])
    needled = [kind.id for kind in present.kinds if kind.includes_needling]
    if not needled:
        return Verdict(Saying.FAILS, [Breach(What.NO_NEEDLING_KIND)])
    against = ((place, _not_needled(present, place, needled)) for place in present.places)
    return _plain([Breach(what, location_id=place) for place, what in against if what])


def _not_needled(present: Present, place: int, needled: Sequence[int]) -> What | None:
    working = [therapist for therapist, at in present.posts.items() if place in at]
    able = [therapist for therapist in working if present.lacking(therapist, place) is None]
    if any(present.offering.allows(kind, therapist, place) for therapist in able for kind in needled):
        return None
    if able:
        return What.NOBODY_OFFERS
    return What.NOBODY_LICENSED if working else What.NOBODY_WORKS


def within_goal(present: Present) -> Verdict:
    """The strongest true word of how soon a new patient is seen; of the group only what every open location keeps."""
    if present.access is None:
        return Verdict(Saying.FAILS, [Breach(What.NO_NEW_PATIENT_KIND)])
    if not present.access.locations:
        return Verdict(Saying.FAILS, [Breach(What.NOT_ONLINE)])
    against = wait_breaches(present.access)
    if not against:
        return Verdict(Saying.HOLDS)
    if all(_within(at, present.working_days_end.get(at.location.id)) for at in present.access.locations):
        return Verdict(Saying.WORKING_DAYS, against)
    anything = present.access.overall.figures.next_available_at is not None
    return Verdict(Saying.SOONEST if anything else Saying.FAILS, against)


def typically_kept(access: Access) -> bool:
    """Whether new patients are typically seen within the goal at each location: what the claim means when it holds."""
    return bool(access.locations) and not wait_breaches(access)


def wait_breaches(access: Access) -> list[Breach]:
    """Where the goal is not typically kept, of the locations that patients can book online.

    Typically is by the last 28 days, at least as much of the time as the target; by this moment where there is less
    than a week of history.
    """
    found = ((at, _late(at, access)) for at in access.locations)
    return [breach for _, breach in found if breach is not None]


def _late(at: AtLocation, access: Access) -> Breach | None:
    place, share, hours = at.location.id, at.attainment_28d, at.figures.next_available_hours
    if share is not None:
        kept = share >= access.target
        return None if kept else Breach(What.BELOW_TARGET, location_id=place, share=share, target=access.target)
    if at.figures.within_goal:
        return None
    if hours is None:
        return Breach(What.NOTHING_FREE, location_id=place)
    return Breach(What.TOO_LATE, location_id=place, hours=hours, target=access.goal_hours)


def _within(at: AtLocation, deadline: datetime | None) -> bool:
    return access_rules.within_open_days(at.figures.next_available_at, deadline)


def _plain(breaches: Sequence[Breach]) -> Verdict:
    return Verdict(Saying.FAILS if breaches else Saying.HOLDS, breaches)


RULES: dict[str, Callable[[Present], Verdict]] = {
    "licensed": licensed,
    "everywhere": everywhere,
    "within_goal": within_goal,
}


def judged(claim_id: str, present: Present) -> Verdict:
    """How a claim stands; one without a rule is none that anybody could stand by."""
    rule = RULES.get(claim_id)
    return rule(present) if rule is not None else Verdict(Saying.FAILS)


def present(session: Session, *, now: datetime) -> Present:
    """Read all that claims depend on, in as many queries at any size."""
    policy, kinds = practice.policy(session), practice.appointment_types(session)
    places = {place.id: place for place in practice.locations(session)}
    today = {place.id: local_date(now, zone_of(place.time_zone)) for place in places.values()}
    posts = _posts(session, today)
    licences = licensing.licences_of(session, posts.keys())
    kind = practice.goal_type(kinds)
    access = access_goal.measure(session, now=now, appointment_type_id=kind.id) if kind else None
    missed = kind is not None and access is not None and wait_breaches(access)
    ends = _working_days_end(session, kind, places, policy, now) if kind and missed else {}
    return Present(policy, kinds, practice.offering(session), places, today, posts, licences, access, ends)


def _working_days_end(
    session: Session, kind: AppointmentType, places: Mapping[int, Location], policy: ClinicPolicy, now: datetime
) -> dict[int, datetime | None]:
    """Until when starts are within the goal's working days."""
    goal_hours = policy.access_goal_hours
    cells = _cells(session, kind, now, now + (access_rules.days_ahead(goal_hours) + 2) * DAY)
    ends = {}
    for place in places.values():
        zone = zone_of(place.time_zone)
        dates = access_rules.open_dates(cells[place.id], zone)
        ends[place.id] = access_rules.open_days_deadline(now, dates, zone, goal_hours=goal_hours)
    return ends


def _cells(session: Session, kind: AppointmentType, since: datetime, until: datetime) -> dict[int, list[datetime]]:
    """When somebody who offers this kind of visit is planned at each location, booked or free: the cells are the plan.

    To make the plan anew takes half a second for 500 therapists, and pages wait for this.
    """
    offering = practice.offering(session)
    planned = select(Slot.location_id, Slot.starts_at).where(
        Slot.therapist_id.in_(select(Therapist.id).where(Therapist.active)),
        Slot.starts_at >= since,
        Slot.starts_at < until,
    )
    if kind.id in offering.people:
        planned = planned.where(Slot.therapist_id.in_(offering.people[kind.id]))
    if kind.id in offering.places:
        planned = planned.where(Slot.location_id.in_(offering.places[kind.id]))
    found = defaultdict[int, list[datetime]](list)
    for place, starts_at in session.execute(planned.distinct()):
        found[place].append(starts_at)
    return found


def _posts(session: Session, today: Mapping[int, date]) -> dict[int, frozenset[int]]:
    """Every active therapist, with the locations where they have hours on that location's date.

    Hours on standby count once a day of them is opened that is not over and within a week.
    """
    first_day = min(today.values(), default=date.max - 7 * DAY)
    opened = exists().where(
        StandbyOpening.working_hours_id == WorkingHours.id,
        StandbyOpening.day.between(first_day, first_day + 7 * DAY),
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
