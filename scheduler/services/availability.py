"""What can be booked. One definition, `_rules`, that search asks of all cells and booking of one."""

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import Session, aliased

from scheduler.db import MICROSECOND, UtcDateTime
from scheduler.errors import Invalid, NotBookable, NotLicensed, SlotTaken, TooLate, TooSoon
from scheduler.models import AppointmentType, ClinicPolicy, Location, Slot, Therapist, TherapistLanguage
from scheduler.timeline import CELL, EPOCH, cell_of, first_instant, zone_of

# Seven digits of quarter hours since 1970 reach the year 2255; nine digits of an id fit every integer column.
SLOT_ID = re.compile(r"([1-9][0-9]{0,8})-([1-9][0-9]{0,8})-([1-9][0-9]{0,6})")
LONGEST_PLAN = timedelta(days=800)  # further than any clinic plans
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
    """What a patient looks for. `from_` and `to` bound the start: a local date (its midnight) or an instant.

    `by_staff` looks where staff may book: at places not open online too, without notice, as far as there are cells.
    """

    appointment_type_id: int
    location_id: int | None = None
    therapist_id: int | None = None
    language: str | None = None
    from_: date | datetime | None = None
    to: date | datetime | None = None
    limit: int = 20
    after: tuple[datetime, int] | None = None
    by_staff: bool = False


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
class Openings:
    """The soonest bookable starts at one location, in the order of search; none where nothing can be booked."""

    location: Location
    starts: list[SlotName]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a search depends on beside the cells. The zones, by location, are only fetched for bounds that are dates.

    `all_online` says that every location can be booked online, so that a search need not ask each.
    """

    policy: ClinicPolicy
    kind: AppointmentType
    zones: dict[int, ZoneInfo]
    language_spoken: bool
    all_online: bool


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
    """Return the soonest bookable starts, by start and therapist. Two queries at any size.

    Every bound on the start becomes one of the two that the index seeks by: what is tested row by row is read in vain.
    """
    terms = _terms(session, find)
    if find.language is not None and not terms.language_spoken:
        return Page([], None)
    kind, (earliest, latest) = terms.kind, _bounds(terms.policy, now, by_staff=find.by_staff)
    from_, to = _instants(find.from_, terms.zones), _instants(find.to, terms.zones)
    after, after_therapist = find.after or (EPOCH, 0)
    values = {
        "earliest": max(earliest, after, min(from_.values(), default=EPOCH)),
        "latest": min(latest, max((instant - MICROSECOND for instant in to.values()), default=latest)),
        "location": find.location_id,
        "therapist": find.therapist_id,
        "language": find.language,
        "after": find.after and after,
        "after_therapist": after_therapist,
        "online": None if terms.all_online or find.by_staff else True,
        "rows": find.limit + 1,
    }
    found = _found(kind.cells, kind.includes_needling, frozenset(wish for wish in WISHES if values[wish] is not None))
    per_place = [*_per_place(operator.ge, from_), *_per_place(operator.lt, to)]
    statement = _named(found.where(*per_place)) if per_place else _named_once(found)
    rows = session.execute(statement, values).all()
    offers = [_offer(row, kind) for row in rows[: find.limit]]
    return Page(offers, _cursor(offers[-1].slot) if len(rows) > find.limit else None)


def soonest(session: Session, appointment_type_id: int, count: int, *, now: datetime) -> tuple[Terms, list[Openings]]:
    """Return the first `count` starts that search would list at each location that is online, by the locations' names.

    Two queries at any size; raises Invalid for an unknown type.
    """
    terms = _terms(session, Find(appointment_type_id))
    kind, (earliest, latest) = terms.kind, _bounds(terms.policy, now, by_staff=False)
    statement = _soonest(kind.cells, kind.includes_needling, count, session.get_bind().dialect.name)
    openings: dict[int, Openings] = {}
    for location, therapist_id, starts_at in session.execute(statement, {"earliest": earliest, "latest": latest}):
        at_location = openings.setdefault(location.id, Openings(location, []))
        if starts_at is not None:
            at_location.starts.append(SlotName(therapist_id, location.id, starts_at))
    return terms, list(openings.values())


def alternatives(session: Session, slot_id: str, appointment_type_id: int, *, now: datetime) -> list[Offer]:
    """Up to three bookable starts for somebody who cannot have this one: from it on, there first, then anywhere."""
    wanted = SlotName.parse(slot_id)
    near = Find(appointment_type_id, location_id=wanted.location_id, from_=max(wanted.starts_at, now), limit=3)
    offers = search(session, near, now=now).offers
    if len(offers) < near.limit:
        anywhere = search(session, Find(appointment_type_id, limit=2 * near.limit), now=now).offers
        offers += [offer for offer in anywhere if offer not in offers]
    return offers[: near.limit]


def require_bookable(
    session: Session, slot_id: str, appointment_type_id: int, *, now: datetime, by_staff: bool = False
) -> Bookable:
    """Find a known start and ask the rules of search of it; raise Invalid for an unknown, NotBookable for a refused.

    To patients a start at a place that is not open online is unknown.
    """
    name = SlotName.parse(slot_id)
    terms = _terms(session, Find(appointment_type_id))
    policy, kind = terms.policy, terms.kind
    rules = _rules(kind.cells, kind.includes_needling)
    earliest, latest = _bounds(policy, now, by_staff=by_staff)
    values = {
        "earliest": earliest,
        "latest": latest,
        "therapist": name.therapist_id,
        "location": name.location_id,
        "start": name.starts_at,
    }
    row = session.execute(_asked(kind.cells, kind.includes_needling), values).one_or_none()
    if row is None or not (by_staff or row[0].open_online):
        raise Invalid("slot", "There is no time with this id.")
    location, therapist, *kept = row
    for refusal, rule_kept in zip(rules, kept, strict=True):
        if not rule_kept:
            raise refusal(REFUSALS[refusal])
    return Bookable(name, kind, policy, location, therapist)


# Statements are put together once for each shape of question: that costs more than asking them.
@cache
def _rules(cells: int, needling: bool) -> dict[type[NotBookable], ColumnElement[bool]]:
    """The definition of bookable: every rule, with the refusal that tells of it, in the order they are told.

    The number of cells stands as a literal and `fit > 0` as that very term: PostgreSQL's generic plan needs both to
    use the partial index.
    """
    enough: ColumnElement[int] = literal_column(str(cells))
    return {
        TooSoon: Slot.starts_at >= bindparam("earliest", type_=UtcDateTime()),
        TooLate: Slot.starts_at <= bindparam("latest", type_=UtcDateTime()),
        NotLicensed: Slot.needling.is_(true()) if needling else true(),
        SlotTaken: and_(Slot.fit > literal_column("0"), Slot.fit >= enough),
    }


def _bounds(policy: ClinicPolicy, now: datetime, *, by_staff: bool) -> tuple[datetime, datetime]:
    """The first and the last start that patients may book now; staff, from the quarter hour that is running on."""
    if by_staff:
        return cell_of(now), now + LONGEST_PLAN
    return (
        now + timedelta(minutes=policy.booking_notice_minutes),
        now + timedelta(days=policy.booking_horizon_days),
    )


@cache
def _asked(cells: int, needling: bool) -> Select[*tuple[Any, ...]]:
    """One start, with what each rule says of it."""
    return (
        select(Location, Therapist, *_rules(cells, needling).values())
        .select_from(Slot)
        .join(Location, Location.id == Slot.location_id)
        .join(Therapist, Therapist.id == Slot.therapist_id)
        .where(WISHES["therapist"], WISHES["location"], Slot.starts_at == bindparam("start", type_=UtcDateTime()))
    )


@cache
def _found(cells: int, needling: bool, wishes: frozenset[str]) -> Select[int, int, datetime]:
    """The starts that keep every rule and wish, soonest first."""
    return (
        select(Slot.therapist_id, Slot.location_id, Slot.starts_at)
        .where(*_rules(cells, needling).values(), *(WISHES[wish] for wish in sorted(wishes)))
        .order_by(Slot.starts_at, Slot.therapist_id)
        .limit(bindparam("rows"))
    )


@cache
def _soonest(cells: int, needling: bool, count: int, dialect: str) -> Select[*tuple[Any, ...]]:
    """Every location with each of its first starts that keep every rule.

    Each location's index range is read until `count` are found. SQLite knows no LATERAL; it seeks the few keys of a
    correlated IN instead, which PostgreSQL would work out anew for every cell.
    """
    first = (
        select(Slot.therapist_id, Slot.starts_at)
        .where(Slot.location_id == Location.id, *_rules(cells, needling).values())
        .order_by(Slot.starts_at, Slot.therapist_id)
        .limit(literal_column(str(count)))
        .correlate(Location)
    )
    if dialect == "sqlite":
        cell = aliased(Slot)
        is_first = tuple_(cell.therapist_id, cell.starts_at).in_(first)
        found = select(Location, cell.therapist_id, cell.starts_at).outerjoin(cell, is_first).where(*OPEN_ONLINE)
        return found.order_by(Location.name, cell.starts_at, cell.therapist_id)
    start = first.lateral()
    found = select(Location, start.c.therapist_id, start.c.starts_at).outerjoin(start, true()).where(*OPEN_ONLINE)
    return found.order_by(Location.name, start.c.starts_at, start.c.therapist_id)


def _named(found: Select[int, int, datetime]) -> Select[Any]:
    """The found starts with the names of place and therapist, joined only after the limit was reached."""
    start = found.subquery()
    return (
        select(start, Location.name, Location.time_zone, Therapist.name)
        .join(Location, Location.id == start.c.location_id)
        .join(Therapist, Therapist.id == start.c.therapist_id)
        .order_by(start.c.starts_at, start.c.therapist_id)
    )


_named_once = cache(_named)
OPEN_ONLINE = (Location.online, Location.active)
WISHES: dict[str, ColumnElement[bool]] = {
    "online": Slot.location_id.in_(select(Location.id).where(*OPEN_ONLINE)),
    "location": Slot.location_id == bindparam("location"),
    "therapist": Slot.therapist_id == bindparam("therapist"),
    "language": exists().where(
        TherapistLanguage.therapist_id == Slot.therapist_id, TherapistLanguage.language == bindparam("language")
    ),
    "after": or_(
        Slot.starts_at > bindparam("after", type_=UtcDateTime()), Slot.therapist_id > bindparam("after_therapist")
    ),
}


def _instants(bound: date | datetime | None, zones: Mapping[int, ZoneInfo]) -> dict[int | None, datetime]:
    """A bound as an instant, or as the midnight of its date at each location; empty for no bound."""
    if bound is None:
        return {}
    if isinstance(bound, datetime):
        return {None: bound}
    return {location_id: first_instant(bound, 0, zone) for location_id, zone in zones.items()}


def _per_place(
    compare: Callable[..., ColumnElement[bool]], instants: Mapping[int | None, datetime]
) -> list[ColumnElement[bool]]:
    """Test each start against its own location's midnight, where they differ, in words that no index is chosen by."""
    places: dict[datetime, list[int | None]] = defaultdict(list)
    for location_id, instant in instants.items():
        places[instant].append(location_id)
    if len(places) < 2:  # noqa: PLR2004 one midnight for all is a bound already
        return []
    midnight = case(*((Slot.location_id.in_(ids), literal(instant, UtcDateTime())) for instant, ids in places.items()))
    return [compare(Slot.starts_at, midnight)]


def _terms(session: Session, find: Find) -> Terms:
    """Fetch what the rules depend on, in one query; raise Invalid naming an id that does not exist."""
    values = {
        "type": find.appointment_type_id,
        "location": find.location_id,
        "therapist": find.therapist_id,
        "language": find.language,
    }
    dated = any(bound is not None and not isinstance(bound, datetime) for bound in (find.from_, find.to))
    row = session.execute(_asked_terms(dated), values).one_or_none()
    if row is None:
        raise Invalid("appointment_type", "There is no appointment type with this id.")
    policy, kind, location_known, therapist_known, language_spoken, some_offline, zones = row
    if find.location_id is not None and not location_known:
        raise Invalid("location", "There is no location with this id.")
    if find.therapist_id is not None and not therapist_known:
        raise Invalid("therapist", "There is no therapist with this id.")
    pairs = (pair.split(" ", 1) for pair in (zones or "").split(",") if pair)
    by_place = {int(place): zone_of(zone) for place, zone in pairs if find.location_id in {None, int(place)}}
    return Terms(policy, kind, by_place, language_spoken=bool(language_spoken), all_online=not some_offline)


@cache
def _asked_terms(dated: bool) -> Select[Any]:
    zones = select(func.aggregate_strings(cast(Location.id, String) + " " + Location.time_zone, ","))
    return select(
        ClinicPolicy,
        AppointmentType,
        exists().where(Location.id == bindparam("location")),
        exists().where(Therapist.id == bindparam("therapist")),
        exists().where(TherapistLanguage.language == bindparam("language")),
        exists().where(~and_(*OPEN_ONLINE)),
        zones.scalar_subquery() if dated else null(),
    ).join_from(ClinicPolicy, AppointmentType, (AppointmentType.id == bindparam("type")) & AppointmentType.active)


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
