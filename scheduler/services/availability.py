"""What can be booked. One definition, `_rules`, that search asks of all cells and booking of one."""

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, String, and_, cast, exists, false, func, literal_column, null, or_, select, true
from sqlalchemy.orm import Session

from scheduler.errors import Invalid, NotBookable, NotLicensed, SlotTaken, TooLate, TooSoon
from scheduler.models import AppointmentType, ClinicPolicy, Location, Slot, Therapist, TherapistLanguage
from scheduler.timeline import CELL, EPOCH, first_instant, zone_of

# Seven digits of quarter hours since 1970 reach the year 2255; nine digits of an id fit every integer column.
SLOT_ID = re.compile(r"([1-9][0-9]{0,8})-([1-9][0-9]{0,8})-([1-9][0-9]{0,6})")
CURSOR = re.compile(r"([1-9][0-9]{0,6})-([1-9][0-9]{0,8})")
REFUSALS: dict[type[NotBookable], str] = {
    TooSoon: "This time has begun or is too soon to book online.",
    TooLate: "This time is further ahead than can be booked yet.",
    NotLicensed: "Dry needling is not offered with this therapist at this location on that day.",
    SlotTaken: "This time, or part of it, is taken.",
}


@dataclass(frozen=True, slots=True)
class SlotName:
    """A start of one therapist at one location; written as an opaque id that stays the same through bookings."""

    therapist_id: int
    location_id: int
    starts_at: datetime

    def __str__(self) -> str:
        return f"{self.therapist_id}-{self.location_id}-{(self.starts_at - EPOCH) // CELL}"

    @classmethod
    def parse(cls, slot_id: str) -> "SlotName":
        """Raise Invalid for a text that no slot ever had."""
        found = SLOT_ID.fullmatch(slot_id)
        if found is None:
            raise Invalid("slot", "There is no time with this id.")
        therapist_id, location_id, cell = map(int, found.groups())
        return cls(therapist_id, location_id, EPOCH + cell * CELL)


@dataclass(frozen=True, slots=True)
class Find:
    """What a patient looks for. `from_` and `to` bound the start: a local date (its midnight) or an instant."""

    appointment_type_id: int
    location_id: int | None = None
    therapist_id: int | None = None
    language: str | None = None
    from_: date | datetime | None = None
    to: date | datetime | None = None
    limit: int = 20
    after: tuple[datetime, int] | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """One start that can be booked."""

    slot: SlotName
    ends_at: datetime
    location_name: str
    time_zone: str
    therapist_name: str
    appointment_type_id: int


@dataclass(frozen=True, slots=True)
class Page:
    offers: list[Offer]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Bookable:
    """A start that passed every rule of `_rules` at this moment; only the claim decides."""

    slot: SlotName
    kind: AppointmentType
    policy: ClinicPolicy
    location: Location
    therapist: Therapist

    @property
    def local_date(self) -> date:
        return self.slot.starts_at.astimezone(zone_of(self.location.time_zone)).date()


def search(session: Session, find: Find, *, now: datetime) -> Page:
    """Return the soonest bookable starts, by start and therapist. Two queries at any size."""
    policy, kind, zones = _terms(session, find)
    found = (
        select(Slot.therapist_id, Slot.location_id, Slot.starts_at)
        .where(*_rules(kind, policy, now).values(), *_wishes(find, zones))
        .order_by(Slot.starts_at, Slot.therapist_id)
        .limit(find.limit + 1)
        .subquery()
    )
    rows = session.execute(
        select(found, Location.name, Location.time_zone, Therapist.name)
        .join(Location, Location.id == found.c.location_id)
        .join(Therapist, Therapist.id == found.c.therapist_id)
        .order_by(found.c.starts_at, found.c.therapist_id)
    ).all()
    offers = [_offer(row, kind) for row in rows[: find.limit]]
    return Page(offers, _cursor(offers[-1].slot) if len(rows) > find.limit else None)


def alternatives(session: Session, slot_id: str, appointment_type_id: int, *, now: datetime) -> list[Offer]:
    """Up to three bookable starts for somebody who cannot have this one: from it on, there first, then anywhere."""
    wanted = SlotName.parse(slot_id)
    near = Find(appointment_type_id, location_id=wanted.location_id, from_=max(wanted.starts_at, now), limit=3)
    offers = search(session, near, now=now).offers
    if len(offers) < near.limit:
        anywhere = search(session, Find(appointment_type_id, limit=2 * near.limit), now=now).offers
        offers += [offer for offer in anywhere if offer not in offers]
    return offers[: near.limit]


def require_bookable(session: Session, slot_id: str, appointment_type_id: int, *, now: datetime) -> Bookable:
    """Find a known start and ask the rules of search of it; raise Invalid for an unknown, NotBookable for a refused."""
    name = SlotName.parse(slot_id)
    policy, kind, _ = _terms(session, Find(appointment_type_id))
    rules = _rules(kind, policy, now)
    row = session.execute(
        select(Location, Therapist, *rules.values())
        .select_from(Slot)
        .join(Location, Location.id == Slot.location_id)
        .join(Therapist, Therapist.id == Slot.therapist_id)
        .where(
            Slot.therapist_id == name.therapist_id,
            Slot.location_id == name.location_id,
            Slot.starts_at == name.starts_at,
        )
    ).one_or_none()
    if row is None:
        raise Invalid("slot", "There is no time with this id.")
    location, therapist, *kept = row
    for refusal, rule_kept in zip(rules, kept, strict=True):
        if not rule_kept:
            raise refusal(REFUSALS[refusal])
    return Bookable(name, kind, policy, location, therapist)


def _rules(kind: AppointmentType, policy: ClinicPolicy, now: datetime) -> dict[type[NotBookable], ColumnElement[bool]]:
    """The definition of bookable: every rule, with the refusal that tells of it, in the order they are told.

    The number of cells stands as a literal and `fit > 0` as that very term: PostgreSQL's generic plan needs both to
    use the partial index.
    """
    cells: ColumnElement[int] = literal_column(str((kind.minutes + kind.buffer_minutes) // 15))
    return {
        TooSoon: Slot.starts_at >= now + timedelta(minutes=policy.booking_notice_minutes),
        TooLate: Slot.starts_at <= now + timedelta(days=policy.booking_horizon_days),
        NotLicensed: Slot.needling.is_(true()) if kind.includes_needling else true(),
        SlotTaken: and_(Slot.fit > literal_column("0"), Slot.fit >= cells),
    }


def _wishes(find: Find, zones: Mapping[int, ZoneInfo]) -> list[ColumnElement[bool]]:
    wishes: list[ColumnElement[bool]] = []
    if find.location_id is not None:
        wishes.append(Slot.location_id == find.location_id)
    if find.therapist_id is not None:
        wishes.append(Slot.therapist_id == find.therapist_id)
    if find.language is not None:
        spoken = TherapistLanguage.language == find.language
        wishes.append(exists().where(TherapistLanguage.therapist_id == Slot.therapist_id, spoken))
    if find.after is not None:
        starts_at, therapist_id = find.after
        later = or_(Slot.starts_at > starts_at, Slot.therapist_id > therapist_id)
        wishes += [Slot.starts_at >= starts_at, later]
    if find.from_ is not None:
        wishes.append(_bounded(find.from_, zones, operator.ge))
    if find.to is not None:
        wishes.append(_bounded(find.to, zones, operator.lt))
    return wishes


def _bounded(
    bound: date | datetime, zones: Mapping[int, ZoneInfo], compare: Callable[..., ColumnElement[bool]]
) -> ColumnElement[bool]:
    """Compare starts with an instant, or with the midnight of a date in each location's own zone."""
    if isinstance(bound, datetime):
        return compare(Slot.starts_at, bound)
    by_midnight: dict[datetime, list[int]] = defaultdict(list)
    for location_id, zone in zones.items():
        by_midnight[first_instant(bound, 0, zone)].append(location_id)
    return or_(
        false(),
        *(and_(Slot.location_id.in_(ids), compare(Slot.starts_at, limit)) for limit, ids in by_midnight.items()),
    )


def _terms(session: Session, find: Find) -> tuple[ClinicPolicy, AppointmentType, dict[int, ZoneInfo]]:
    """Fetch what the rules depend on, in one query; raise Invalid naming an id that does not exist.

    The zones, by location, are only fetched when a date must become each location's midnight.
    """
    wanted_zones = select(func.aggregate_strings(cast(Location.id, String) + " " + Location.time_zone, ","))
    dated = any(bound is not None and not isinstance(bound, datetime) for bound in (find.from_, find.to))
    row = session.execute(
        select(
            ClinicPolicy,
            AppointmentType,
            exists().where(Location.id == find.location_id) if find.location_id is not None else true(),
            exists().where(Therapist.id == find.therapist_id) if find.therapist_id is not None else true(),
            wanted_zones.scalar_subquery() if dated else null(),
        ).join_from(ClinicPolicy, AppointmentType, AppointmentType.id == find.appointment_type_id)
    ).one_or_none()
    if row is None:
        raise Invalid("appointment_type", "There is no appointment type with this id.")
    policy, kind, location_known, therapist_known, zones = row
    if not location_known:
        raise Invalid("location", "There is no location with this id.")
    if not therapist_known:
        raise Invalid("therapist", "There is no therapist with this id.")
    pairs = (pair.split(" ", 1) for pair in (zones or "").split(",") if pair)
    return policy, kind, {int(location_id): zone_of(zone) for location_id, zone in pairs}


def _offer(row: tuple[Any, ...], kind: AppointmentType) -> Offer:
    therapist_id, location_id, starts_at, location_name, time_zone, therapist_name = row
    return Offer(
        slot=SlotName(therapist_id, location_id, starts_at),
        ends_at=starts_at + timedelta(minutes=kind.minutes),
        location_name=location_name,
        time_zone=time_zone,
        therapist_name=therapist_name,
        appointment_type_id=kind.id,
    )


def _cursor(last: SlotName) -> str:
    return f"{(last.starts_at - EPOCH) // CELL}-{last.therapist_id}"


def parse_cursor(cursor: str) -> tuple[datetime, int]:
    """Return the start and therapist after which the next page begins."""
    found = CURSOR.fullmatch(cursor)
    if found is None:
        raise Invalid("cursor", "This is no cursor of an earlier answer.")
    return EPOCH + int(found[1]) * CELL, int(found[2])
