"""From an empty database to patients who book for themselves: the first administrator, and what each place lacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from scheduler.db import alone_with
from scheduler.errors import Conflict, Invalid, NotFound
from scheduler.keys import Keyring
from scheduler.models import (
    Account,
    Appointment,
    AuditEvent,
    ClinicPolicy,
    ExplainerVersion,
    Kind,
    Location,
    OutboxMessage,
    Role,
    StateRule,
    Status,
    Therapist,
    WorkingHours,
)
from scheduler.services import accounts, audit, edits, explainer, licensing, notices, practice, reminders
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.services.reminders import Began
from scheduler.timeline import local_date, zone_of
from scheduler.words import DEFAULT_LANGUAGE

SETUP = "setup"  # the purpose of the link, and as the audit names whoever has it
LOOKED_THROUGH = "looked_through"


class Step(StrEnum):
    """What is to be done before patients book for themselves, in a sensible order."""

    POLICY = "policy"
    EXPLAINER = "explainer"
    TYPE = "type"
    REMINDERS = "reminders"
    ADDRESS = "address"
    STATE_RULE = "state-rule"
    THERAPIST = "therapist"


LOOK_THROUGH = (Step.POLICY, Step.EXPLAINER)


@dataclass(frozen=True, slots=True)
class Place:
    """A location, and what is still to be done there."""

    location: Location
    missing: frozenset[Step]


@dataclass(frozen=True, slots=True)
class Checklist:
    """How far the clinic is: what is missing everywhere, and what at each location.

    `silent` counts the imported visits ahead whose patients get no messages yet.
    """

    missing: frozenset[Step]
    places: tuple[Place, ...]
    silent: int
    reminded_since: datetime | None
    test: OutboxMessage | None

    def to_do(self, place: Place) -> list[Step]:
        return [step for step in Step if step in self.missing | place.missing]


class NotReady(Conflict):
    """Patients cannot book at a place yet."""


def setup_token(keys: Keyring) -> str:
    """What the link carries that makes the first administrator."""
    return keys.sign(SETUP, 1)


def needs_admin(session: Session) -> bool:
    return session.scalars(select(Account.id).where(Account.role == Role.ADMIN).limit(1)).first() is None


def require_setup(session: Session, token: str, *, keys: Keyring) -> None:
    """Raise NotFound for any other link, and for this one once there is an administrator."""
    if keys.signed(SETUP, token) is None or not needs_admin(session):
        raise NotFound("This link was used already, or is none of ours.")


def add_first_admin(
    session: Session, token: str, new: AccountDetails, password_hash: str, *, by: Actor, keys: Keyring, now: datetime
) -> Account:
    """Make the first administrator; of two at the same moment one wins. Raises NotFound, or Invalid for the e-mail."""
    alone_with(session, SETUP)
    require_setup(session, token, keys=keys)
    account = accounts.add(session, new, by=by, now=now)
    accounts.set_password(session, account, password_hash, by=by, now=now)
    return account


def require_known(session: Session, new: AccountDetails) -> None:
    """Raise Invalid for a therapist or a location that there is not."""
    if new.therapist_id is not None and session.get(Therapist, new.therapist_id) is None:
        raise Invalid("therapist", f"There is no therapist with the id {new.therapist_id}.")
    for location_id in new.location_ids:
        if session.get(Location, location_id) is None:
            raise Invalid("location", f"There is no location with the id {location_id}.")


def checklist(session: Session, account_id: int, *, now: datetime) -> Checklist:
    """How far the clinic is, in as many queries at any size. The test message is that of this account."""
    policy, places = practice.policy(session), practice.locations(session)
    silent = _silent(session, now) if policy.imported_reminded_at is None else 0
    done = {
        Step.POLICY: _looked_through(session, policy),
        Step.EXPLAINER: _looked_through(session, explainer.current(session, DEFAULT_LANGUAGE)),
        Step.TYPE: bool(practice.appointment_types(session)),
        Step.REMINDERS: not silent,
    }
    tests = select(OutboxMessage).where(OutboxMessage.account_id == account_id, OutboxMessage.kind == Kind.TEST)
    return Checklist(
        missing=frozenset(step for step, is_done in done.items() if not is_done),
        places=tuple(_places(session, places, now)),
        silent=silent,
        reminded_since=policy.imported_reminded_at,
        test=session.scalars(tests.order_by(OutboxMessage.created_at.desc()).limit(1)).first(),
    )


def look_through(session: Session, step: Step, *, by: Actor, now: datetime) -> None:
    """Note that somebody has looked through what cannot be told from the rows: the record keeps who and when."""
    row = practice.policy(session) if step == Step.POLICY else explainer.current(session, DEFAULT_LANGUAGE)
    if not _looked_through(session, row):
        audit.record(session, f"{row.__tablename__}.{LOOKED_THROUGH}", row, by=by, now=now)


def open_online(session: Session, location_id: int, *, by: Actor, now: datetime) -> None:
    """Let patients book at a place. Raises NotFound, or NotReady while something is missing there."""
    location = _place(session, location_id)
    standing = checklist(session, 0, now=now)
    (place,) = (place for place in standing.places if place.location.id == location_id)
    if standing.to_do(place):
        raise NotReady("This location is not ready yet.")
    set_online(session, location, online=True, by=by, now=now)


def close_online(session: Session, location_id: int, *, by: Actor, now: datetime) -> None:
    """Let only staff book at a place, from now on; visits that are booked stay. Raises NotFound."""
    set_online(session, _place(session, location_id), online=False, by=by, now=now)


def set_online(session: Session, location: Location, *, online: bool, by: Actor, now: datetime) -> None:
    """Let patients book at a place or not, whatever is missing there."""
    if location.online != online:
        location.online = online
        audit.record(session, "location.changed", location, by=by, now=now, online=[not online, online])


def start_reminders(session: Session, *, by: Actor, now: datetime) -> Began | None:
    """From now on tell the patients of imported visits what others are told; None when that has begun already."""
    began = reminders.begin_imported(session, now=now)
    if began is not None:
        policy = practice.policy(session)
        audit.record(session, "moving_in.reminders_started", policy, by=by, now=now, visits=began.visits)
    return began


def send_test(session: Session, account_id: int, *, now: datetime) -> None:
    """Owe somebody of the staff a message that only shows that messages arrive."""
    notices.owe(session, account_id, Kind.TEST, "", now=now)


def _place(session: Session, location_id: int) -> Location:
    location = edits.locked(session, Location, location_id)
    if not location.active:
        raise NotFound("There is no such location.")
    return location


def _looked_through(session: Session, row: ClinicPolicy | ExplainerVersion) -> bool:
    noted = select(AuditEvent.id).where(
        AuditEvent.entity == row.__tablename__,
        AuditEvent.entity_id == audit.id_of(row),
        AuditEvent.action == f"{row.__tablename__}.{LOOKED_THROUGH}",
    )
    return session.scalars(noted.limit(1)).first() is not None


def _silent(session: Session, now: datetime) -> int:
    ahead = (Appointment.imported_as.is_not(None), Appointment.status == Status.BOOKED, Appointment.starts_at > now)
    return session.execute(select(func.count()).where(*ahead)).scalar_one()


def _places(session: Session, places: Sequence[Location], now: datetime) -> list[Place]:
    first_rule = select(StateRule.state, func.min(StateRule.valid_from)).group_by(StateRule.state)
    ruled_since = {row[0]: row[1] for row in session.execute(first_rule)}
    today = {place.id: local_date(now, zone_of(place.time_zone)) for place in places}
    staffed = _staffed(session, {place.id: (place.state, today[place.id]) for place in places})
    missing: dict[Step, Callable[[Location], bool]] = {
        Step.ADDRESS: lambda place: not (place.address.strip() and place.phone.strip()),
        Step.STATE_RULE: lambda place: ruled_since.get(place.state, date.max) > today[place.id],
        Step.THERAPIST: lambda place: place.id not in staffed,
    }
    return [Place(place, frozenset(step for step, lacks in missing.items() if lacks(place))) for place in places]


def _staffed(session: Session, places: dict[int, tuple[str, date]]) -> set[int]:
    """Where somebody has hours, now or later and not on standby, who may treat there when they begin."""
    hours = session.execute(
        select(WorkingHours.location_id, WorkingHours.therapist_id, WorkingHours.valid_from)
        .join(Therapist, Therapist.id == WorkingHours.therapist_id)
        .where(
            Therapist.active,
            ~WorkingHours.standby,
            _not_over(min((day for _, day in places.values()), default=date.min)),
        )
        .distinct()
    ).all()
    licences = licensing.licences_of(session, {therapist_id for _, therapist_id, _ in hours})
    return {
        location_id
        for location_id, therapist_id, first in hours
        if location_id in places
        and licences.may_treat(therapist_id, places[location_id][0], max(first, places[location_id][1]))
    }


def _not_over(day: date) -> ColumnElement[bool]:
    return or_(WorkingHours.valid_until.is_(None), WorkingHours.valid_until >= day)
