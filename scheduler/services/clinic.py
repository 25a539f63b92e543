"""The clinic itself: its policy, its places, what it offers, and what the states ask for.

Nothing is deleted that visits name: a place or a kind of visit stops being active, a new rule begins on a day.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from scheduler.errors import Invalid
from scheduler.models import (
    AppointmentType,
    AppointmentTypeLocation,
    AppointmentTypeTherapist,
    ClinicPolicy,
    Location,
    StateRule,
)
from scheduler.services import (
    audit,
    availability,
    consequences,
    edits,
    goal_changed,
    hours,
    opening,
    practice,
    slots,
    starts_changed,
)
from scheduler.services.audit import Actor
from scheduler.services.consequences import UNSEEN
from scheduler.services.goal_changed import NewlyMissed, Reach
from scheduler.services.starts_changed import KindTerms, StartsChanged
from scheduler.timeline import CELL, MINUTE, local_date, zone_of


@dataclass(frozen=True, slots=True)
class PolicyDetails:
    """How the clinic wants to be booked; `access_target` is a share, `reminders` as the setting has them."""

    clinic_name: str
    access_goal_hours: int
    access_target: float
    booking_notice_minutes: int
    booking_horizon_days: int
    hold_minutes: int
    reminders: str
    cancel_notice_hours: int
    retention_months: int | None = None


@dataclass(frozen=True, slots=True)
class LocationDetails:
    """What of a place can be changed; whether patients book there online is asked of `opening`."""

    name: str
    area: str
    address: str
    state: str
    time_zone: str
    phone: str
    directions: str | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class TypeDetails:
    """A kind of visit; `place` is where it stands in the list, from 1 on.

    None for notice or horizon is the clinic's; no therapist is everybody, no location everywhere. Ids are in order.
    """

    name: str
    minutes: int
    buffer_minutes: int
    new_patient: bool
    includes_needling: bool
    place: int
    active: bool = True
    notice_minutes: int | None = None
    horizon_days: int | None = None
    therapist_ids: tuple[int, ...] = ()
    location_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleDetails:
    """What a state asks for from a day on; `qualification` is a kind of licence beside `pt`."""

    state: str
    valid_from: date
    needling: str
    qualification: str | None
    training_hours: int | None
    source: str
    review_on: date


def change_policy(
    session: Session, details: PolicyDetails, *, seal: str, agreed: str | None = None, by: Actor, now: datetime
) -> None:
    """Raises ChangedMeanwhile, NotAgreed. Further days are planned by the worker, within a quarter of an hour."""
    policy = edits.locked(session, ClinicPolicy, 1)
    before = edits.read_off(PolicyDetails, policy)
    edits.require_seen(before, seal)
    reached = _reached(session, agreed, now, concerned=_goal_terms(before) != _goal_terms(details))
    edits.write(policy, details)
    session.flush()
    consequences.require_agreed([], agreed, missed=_newly_missed(session, reached, now))
    edits.note(session, "clinic_policy.changed", policy, before, details, by=by, now=now)


def add_location(session: Session, details: LocationDetails, *, by: Actor, now: datetime) -> Location:
    """Raises Invalid for a name that another place has. Patients book there once it is opened for them."""
    consequences.alone(session)
    _require_free(session, Location, details.name, but=None)
    location = Location(**asdict(details), online=False)
    session.add(location)
    session.flush()
    audit.record(session, "location.added", location, by=by, now=now, **edits.plain(details))
    return location


def change_location(
    session: Session,
    location_id: int,
    details: LocationDetails,
    *,
    seal: str,
    agreed: str | None,
    by: Actor,
    now: datetime,
) -> None:
    """Change a place; hours there follow its clock, and a place that is not active has no times.

    One that closes is closed to patients too, until `opening.open_online` finds it ready anew.

    Raises NotFound, ChangedMeanwhile, Invalid for a name that another has, NotAgreed, and HoursClash when somebody
    would work there and elsewhere at once.
    """
    consequences.alone(session)
    location = edits.locked(session, Location, location_id)
    before = edits.read_off(LocationDetails, location)
    edits.require_seen(before, seal)
    _require_free(session, Location, details.name, but=location_id)
    planned_by = (before.state, before.time_zone, before.active)
    concerned: set[int] = set()
    if planned_by != (details.state, details.time_zone, details.active):
        concerned = consequences.therapists_at(session, [location_id], now=now)
    with consequences.weighed(session, concerned, agreed=agreed, now=now):
        edits.write(location, details)
        session.flush()
        if concerned:
            hours.require_none_elsewhere(session, location_id, now=now)
    edits.note(session, "location.changed", location, before, details, by=by, now=now)
    if not location.active:
        opening.set_online(session, location, online=False, by=by, now=now)


def add_type(
    session: Session, details: TypeDetails, *, agreed: str | None = None, by: Actor, now: datetime
) -> AppointmentType:
    """Raises Invalid for a name that another kind has, and for a horizon beyond the clinic's; NotAgreed."""
    consequences.alone(session)
    _require_free(session, AppointmentType, details.name, but=None)
    _require_within_plan(session, details)
    longest = slots.longest_visit(session)
    reached = _reached(session, agreed, now, concerned=details.new_patient)
    kind = AppointmentType(position=_last_position(session) + 1)
    edits.write(kind, details)
    session.add(kind)
    session.flush()
    _offer_by(session, kind, details)
    _arrange(session, kind, details.place)
    starts = _refitted(session, longest, None, details, agreed, now)
    consequences.require_agreed([], agreed, starts, _newly_missed(session, reached, now))
    audit.record(session, "appointment_type.added", kind, by=by, now=now, **edits.plain(details))
    return kind


def change_type(
    session: Session,
    type_id: int,
    details: TypeDetails,
    *,
    seal: str,
    agreed: str | None,
    by: Actor,
    now: datetime,
) -> None:
    """Change a kind of visit; visits that are booked keep their length.

    Raises NotFound, ChangedMeanwhile, Invalid for a name that another has or a horizon beyond the clinic's, and
    NotAgreed: for those that keep another length than new ones, those whose therapist may not needle, and those whose
    therapist or location no longer offers it.
    """
    consequences.alone(session)
    kind = edits.locked(session, AppointmentType, type_id)
    before = type_details(session, kind)
    edits.require_seen(before, seal)
    _require_free(session, AppointmentType, details.name, but=type_id)
    _require_within_plan(session, details)
    longest = slots.longest_visit(session)
    unfit = {hit.visit_id for hit in _unfit_if_narrower(session, before, details, now)}
    reached = _reached(session, agreed, now, concerned=before.new_patient or details.new_patient)
    edits.write(kind, details)
    session.flush()
    _offer_by(session, kind, details)
    _arrange(session, kind, details.place)
    hits = [hit for hit in _unfit_if_narrower(session, before, details, now) if hit.visit_id not in unfit]
    if (before.minutes, before.buffer_minutes) != (details.minutes, details.buffer_minutes):
        hits += consequences.of_type(session, type_id, now=now)
    starts = _refitted(session, longest, before, details, agreed, now)
    consequences.require_agreed(hits, agreed, starts, _newly_missed(session, reached, now))
    edits.note(session, "appointment_type.changed", kind, before, type_details(session, kind), by=by, now=now)


def type_details(session: Session, kind: AppointmentType) -> TypeDetails:
    offering, place = practice.offering(session), _in_order(session).index(kind) + 1
    people, places = (tuple(sorted(of.get(kind.id, ()))) for of in (offering.people, offering.places))
    return edits.read_off(TypeDetails, kind, place=place, therapist_ids=people, location_ids=places)


def add_rule(session: Session, details: RuleDetails, *, agreed: str | None, by: Actor, now: datetime) -> StateRule:
    """Let a rule of a state hold from a day on; rules that have begun stay as they were.

    Raises Invalid for a day that is not after the newest rule's, or has passed; NotAgreed.
    """
    consequences.alone(session)
    known = session.scalars(select(StateRule.valid_from).where(StateRule.state == details.state)).all()
    if known and details.valid_from <= max(known):
        raise Invalid("valid_from", "A rule of this state begins on this day or later already.")
    if known and details.valid_from < _today(session, now)[details.state]:
        raise Invalid("valid_from", "This day has passed.")
    with consequences.weighed(session, _working_in(session, details.state, now), agreed=agreed, now=now):
        rule = StateRule(**asdict(details))
        session.add(rule)
    audit.record(session, "state_rule.added", rule, by=by, now=now, **edits.plain(details))
    return rule


def review_rule(
    session: Session, rule_id: int, source: str, review_on: date, *, seal: str, by: Actor, now: datetime
) -> None:
    """Note where a rule was looked up again, and when to do so next. Raises NotFound, ChangedMeanwhile."""
    rule = edits.locked(session, StateRule, rule_id)
    before = edits.read_off(RuleDetails, rule)
    edits.require_seen(before, seal)
    rule.source, rule.review_on = source, review_on
    after = replace(before, source=source, review_on=review_on)
    if not edits.note(session, "state_rule.reviewed", rule, before, after, by=by, now=now):
        audit.record(session, "state_rule.reviewed", rule, by=by, now=now)


def remove_rule(session: Session, rule_id: int, *, agreed: str | None, by: Actor, now: datetime) -> None:
    """Take back a rule that has not begun. Raises NotFound, Invalid for one that has, NotAgreed."""
    consequences.alone(session)
    rule = edits.locked(session, StateRule, rule_id)
    if rule.id not in not_begun(session, [rule], now=now):
        raise Invalid("valid_from", "This rule has begun; a new one can follow it.")
    with consequences.weighed(session, _working_in(session, rule.state, now), agreed=agreed, now=now):
        details = edits.plain(edits.read_off(RuleDetails, rule))
        audit.record(session, "state_rule.removed", rule, by=by, now=now, **details)
        session.delete(rule)


def not_begun(session: Session, rules: Iterable[StateRule], *, now: datetime) -> set[int]:
    """Which of these rules hold from a later day on only, wherever in their state one looks at the calendar."""
    today = _today(session, now)
    return {rule.id for rule in rules if rule.valid_from > today[rule.state]}


def _today(session: Session, now: datetime) -> Mapping[str, date]:
    """The day that it is in each state, by the clock of the place that is furthest on."""
    today: dict[str, date] = defaultdict(now.date)
    for state, zone in session.execute(select(Location.state, Location.time_zone)):
        today[state] = max(today.get(state, date.min), local_date(now, zone_of(zone)))
    return today


def _working_in(session: Session, state: str, now: datetime) -> set[int]:
    places = session.scalars(select(Location.id).where(Location.state == state)).all()
    return consequences.therapists_at(session, places, now=now)


def _unfit_if_narrower(
    session: Session, before: TypeDetails, details: TypeDetails, now: datetime
) -> list[consequences.Hit]:
    """The visits that do not fit; asked only where fewer may give a kind: it is to include needling, or others do."""
    needled = details.includes_needling and not before.includes_needling
    offered_by = (before.therapist_ids, before.location_ids)
    if not needled and offered_by == (details.therapist_ids, details.location_ids):
        return []
    return consequences.unfit(session, now=now)


def _offer_by(session: Session, kind: AppointmentType, details: TypeDetails) -> None:
    """Keep who offers a kind of visit, and where."""
    session.execute(delete(AppointmentTypeTherapist).where(AppointmentTypeTherapist.appointment_type_id == kind.id))
    session.execute(delete(AppointmentTypeLocation).where(AppointmentTypeLocation.appointment_type_id == kind.id))
    people = (AppointmentTypeTherapist(appointment_type_id=kind.id, therapist_id=one) for one in details.therapist_ids)
    places = (AppointmentTypeLocation(appointment_type_id=kind.id, location_id=one) for one in details.location_ids)
    session.add_all([*people, *places])
    session.flush()


def _require_within_plan(session: Session, details: TypeDetails) -> None:
    """There are times as far ahead only as the clinic is booked at all."""
    if details.horizon_days is not None and details.horizon_days > practice.policy(session).booking_horizon_days:
        raise Invalid("horizon_days", "This is further ahead than the clinic is booked at all.")


def _refitted(
    session: Session,
    longest_before: int,
    before: TypeDetails | None,
    after: TypeDetails,
    agreed: str | None,
    now: datetime,
) -> list[StartsChanged]:
    """Recount the free cells where the longest visit is another now; tell what becomes of starts, if unseen.

    That is told while as many cells are counted as the longer of both visits has.
    """
    longest, changed = slots.longest_visit(session), list[StartsChanged]()
    if longest > longest_before:
        consequences.refit(session)
    if agreed == UNSEEN:
        policy = practice.policy(session)
        changed = starts_changed.by_terms(session, after.name, _terms(policy, before, now), _terms(policy, after, now))
    if longest < longest_before:
        consequences.refit(session)
    return changed


def _goal_terms(details: PolicyDetails) -> tuple[int, int, int]:
    """What of the policy the goal is measured by."""
    return details.access_goal_hours, details.booking_notice_minutes, details.booking_horizon_days


def _reached(session: Session, agreed: str | None, now: datetime, *, concerned: bool) -> Reach:
    """When the goal is missed, to be asked before a change of what it is about; nowhere for who has been told."""
    told = concerned and agreed == UNSEEN
    places = goal_changed.everywhere(session) if told else frozenset[int]()
    return goal_changed.reach(session, places, now=now)


def _newly_missed(session: Session, before: Reach, now: datetime) -> list[NewlyMissed]:
    """When it would newly be missed, now that the change is made; nothing is asked where nobody was."""
    after = goal_changed.reach(session, before.places, now=now) if before.places else before
    return goal_changed.newly_missed(before, after)


def _terms(policy: ClinicPolicy, details: TypeDetails | None, now: datetime) -> KindTerms | None:
    """On which terms a kind of visit can be booked."""
    if details is None or not details.active:
        return None
    cells = (details.minutes + details.buffer_minutes) * MINUTE // CELL
    within = availability.bookable_within(policy, details, now, by_staff=False)
    release = availability.release(policy, now)
    return KindTerms(cells, details.includes_needling, *within, release, details.therapist_ids, details.location_ids)


def _in_order(session: Session) -> list[AppointmentType]:
    return list(session.scalars(select(AppointmentType).order_by(AppointmentType.position)))


def _last_position(session: Session) -> int:
    return max((kind.position for kind in _in_order(session)), default=0)


def _arrange(session: Session, kind: AppointmentType, place: int) -> None:
    """Put a kind of visit at its place in the list, from 1 on; one past the end is the last."""
    others = [other for other in _in_order(session) if other is not kind]
    wanted = [*others[: place - 1], kind, *others[place - 1 :]]
    if wanted == _in_order(session):
        return
    for free, each in enumerate(wanted, start=_last_position(session) + 1):  # no two ever share a place
        each.position = free
    session.flush()
    for position, each in enumerate(wanted, start=1):
        each.position = position
    session.flush()


def _require_free(
    session: Session, table: type[Location] | type[AppointmentType], name: str, *, but: int | None
) -> None:
    same = session.scalars(select(table.id).where(table.name == name))
    if any(found != but for found in same):
        raise Invalid("name", "There is one with this name already.")
