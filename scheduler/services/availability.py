"""What can be booked. One definition, `_rules`, that search asks of all cells and booking of one."""

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
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
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.orm import Session, aliased

from scheduler.db import MICROSECOND, Span, UtcDateTime
from scheduler.errors import Invalid, NotBookable, NotLicensed, NotOffered, SlotHeld, SlotTaken, TooLate, TooSoon
from scheduler.models import (
    Appointment,
    AppointmentType,
    AppointmentTypeLocation,
    AppointmentTypeTherapist,
    ClinicPolicy,
    Location,
    Slot,
    Therapist,
    TherapistLanguage,
)
from scheduler.timeline import CELL, EPOCH, cell_of, first_instant, zone_of

# Seven digits of quarter hours since 1970 reach the year 2255; nine digits of an id fit every integer column.
SLOT_ID = re.compile(r"([1-9][0-9]{0,8})-([1-9][0-9]{0,8})-([1-9][0-9]{0,6})")
LONGEST_PLAN = timedelta(days=800)  # further than any clinic plans
CURSOR = re.compile(r"([1-9][0-9]{0,6})-([1-9][0-9]{0,8})")
REFUSALS: dict[type[NotBookable], str] = {
    TooSoon: "This time has begun or is too soon to book online.",
    TooLate: "This time is further ahead than can be booked yet.",
    NotLicensed: "Dry needling is not offered with this therapist at this location on that day.",
    NotOffered: "This therapist does not offer this kind of visit, or not at this location.",
    SlotTaken: "This time, or part of it, is taken.",
    SlotHeld: "Somebody is booking this time at this moment. It may be free again in some minutes.",
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


class Shape(NamedTuple):
    """What the rules are written for: the cells of a visit, whether it includes needling, and who or where limits it.

    `limits` has "people" for a kind of visit that only some therapists offer, "places" for one only at some locations.
    """

    cells: int
    needling: bool
    limits: frozenset[str]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a search depends on beside the cells. The zones, by location, are only fetched for bounds that are dates.

    `all_online` says that every location can be booked online, so that a search need not ask each; `offered`, whether
    the therapist and the location that are looked for offer the kind of visit.
    """

    policy: ClinicPolicy
    kind: AppointmentType
    limits: frozenset[str]
    zones: dict[int, ZoneInfo]
    language_spoken: bool
    all_online: bool
    offered: bool

    @property
    def shape(self) -> Shape:
        return Shape(self.kind.cells, self.kind.includes_needling, self.limits)


@dataclass(frozen=True, slots=True)
class Bookable:
    """A start that passed every rule of `_rules` at this moment; only the claim decides."""

    slot: SlotName
    kind: AppointmentType
    policy: ClinicPolicy
    location: Location
    therapist: Therapist
    limits: frozenset[str] = frozenset()

    @property
    def shape(self) -> Shape:
        return Shape(self.kind.cells, self.kind.includes_needling, self.limits)

    @property
    def local_date(self) -> date:
        return self.slot.starts_at.astimezone(zone_of(self.location.time_zone)).date()

    @property
    def ends_at(self) -> datetime:
        """When the visit ends; the buffer after it is not part of it."""
        return self.slot.starts_at + timedelta(minutes=self.kind.minutes)


def search(session: Session, find: Find, *, now: datetime) -> Page:
    """Return the soonest bookable starts, by start and therapist. Two queries at any size.

    Every bound on the start becomes one of the two that the index seeks by: what is tested row by row is read in vain.
    """
    terms = _terms(session, find)
    if not terms.offered or (find.language is not None and not terms.language_spoken):
        return Page([], None)
    kind, (earliest, latest) = terms.kind, _bounds(terms.policy, terms.kind, now, by_staff=find.by_staff)
    from_, to = _instants(find.from_, terms.zones), _instants(find.to, terms.zones)
    after, after_therapist = find.after or (EPOCH, 0)
    values = {
        "type": kind.id,
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
    found = _found(terms.shape, frozenset(wish for wish in WISHES if values[wish] is not None))
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
    earliest, latest = _bounds(terms.policy, terms.kind, now, by_staff=False)
    statement = _soonest(terms.shape, count, session.get_bind().dialect.name)
    values = {"type": appointment_type_id, "earliest": earliest, "latest": latest}
    openings: dict[int, Openings] = {}
    for location, therapist_id, starts_at in session.execute(statement, values):
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
    session: Session,
    slot_id: str,
    appointment_type_id: int,
    *,
    now: datetime,
    by_staff: bool = False,
    held: Appointment | None = None,
) -> Bookable:
    """Find a known start and ask the rules of search of it; raise Invalid for an unknown, NotBookable for a refused.

    To patients a start at a place that is not open online is unknown. Whoever asks has `held` this very start, if so:
    its cells are theirs, and the notice counts from when it was held, until the visit would begin.
    """
    name = SlotName.parse(slot_id)
    terms = _terms(session, Find(appointment_type_id))
    kind = terms.kind
    earliest, latest = _bounds(terms.policy, kind, now, by_staff=by_staff)
    if held is not None:
        earliest = max(now, _bounds(terms.policy, kind, held.booked_at, by_staff=by_staff)[0])
    values = {
        "type": appointment_type_id,
        "earliest": earliest,
        "latest": latest,
        "therapist": name.therapist_id,
        "location": name.location_id,
        "start": name.starts_at,
    }
    row = session.execute(_asked(terms.shape), values).one_or_none()
    if row is None or not (by_staff or row[0].open_online):
        raise Invalid("slot", "There is no time with this id.")
    location, therapist, *kept = row
    for rule, rule_kept in zip(_rules(terms.shape), kept, strict=True):
        refusal = rule if rule_kept or rule is not SlotTaken else _in_the_way(session, name, kind.cells, held, now)
        if not rule_kept and refusal is not None:
            raise refusal(REFUSALS[refusal])
    return Bookable(name, kind, terms.policy, location, therapist, terms.limits)


def _in_the_way(
    session: Session, name: SlotName, cells: int, held: Appointment | None, now: datetime
) -> type[NotBookable] | None:
    """What keeps a visit of so many cells from a start that search does not offer: nothing, where a hold has expired.

    That one is swept before the cells are claimed. Nor is one's own in the way, unless it is too short.
    """
    end = name.starts_at + cells * CELL
    if held is not None and held.slots_end >= end:
        return None
    live = case((Appointment.expires_at > now, 1))
    cell = select(func.count(), func.count(Appointment.id), func.count(live)).select_from(Slot)
    free_or_held = cell.outerjoin(Appointment, Appointment.id == Slot.appointment_id).where(
        Slot.therapist_id == name.therapist_id,
        Slot.location_id == name.location_id,
        Slot.starts_at >= name.starts_at,
        Slot.starts_at < end,
        or_(Slot.appointment_id.is_(None), Appointment.expires_at.is_not(None)),
    )
    usable, held_cells, held_still = session.execute(free_or_held).one()
    if usable < cells or not held_cells:
        return SlotTaken
    return SlotHeld if held_still else None


def open_starts(session: Session, like: Bookable, until: datetime, *, now: datetime) -> int:
    """How many starts of this kind this location would have, as late as `until`, if no time were held."""
    kind = like.kind
    earliest, latest = _bounds(like.policy, kind, now, by_staff=False)
    values = {
        "type": kind.id,
        "location": like.location.id,
        "earliest": earliest,
        "latest": min(latest, until),
        "end": until + kind.cells * CELL,
        "now": now,
    }
    return int(session.execute(_open_starts(like.shape), values).scalar_one())


@cache
def _open_starts(shape: Shape) -> Select[Any]:
    """Count the cells from which so many follow each other, each of them free or held."""
    bounds = {name: bindparam(name, type_=UtcDateTime()) for name in ("earliest", "latest", "end", "now")}
    there = (WISHES["location"], Slot.starts_at >= bounds["earliest"], Slot.starts_at < bounds["end"], _limited(shape))
    columns = (Slot.therapist_id, Slot.starts_at, Slot.needling)
    free = select(*columns).where(Slot.fit > literal_column("0"), *there)
    live = select(Appointment.id).where(Appointment.expires_at > bounds["now"])
    kept = select(*columns).where(Slot.appointment_id.is_not(None), Slot.appointment_id.in_(live), *there)
    cell = union_all(free, kept).subquery()
    last = func.lead(cell.c.starts_at, shape.cells - 1, type_=UtcDateTime()).over(
        partition_by=cell.c.therapist_id, order_by=cell.c.starts_at
    )
    start = select(cell, last.label("last")).subquery()
    return select(func.count()).where(
        start.c.last == start.c.starts_at + literal((shape.cells - 1) * CELL, Span()),
        start.c.starts_at <= bounds["latest"],
        start.c.needling.is_(true()) if shape.needling else true(),
    )


# Statements are put together once for each shape of question: that costs more than asking them.
@cache
def _rules(shape: Shape) -> dict[type[NotBookable], ColumnElement[bool]]:
    """The definition of bookable: every rule, with the refusal that tells of it, in the order they are told.

    The number of cells stands as a literal and `fit > 0` as that very term: PostgreSQL's generic plan needs both to
    use the partial index.
    """
    enough: ColumnElement[int] = literal_column(str(shape.cells))
    return {
        TooSoon: Slot.starts_at >= bindparam("earliest", type_=UtcDateTime()),
        TooLate: Slot.starts_at <= bindparam("latest", type_=UtcDateTime()),
        NotLicensed: Slot.needling.is_(true()) if shape.needling else true(),
        **({NotOffered: _limited(shape)} if shape.limits else {}),
        SlotTaken: and_(Slot.fit > literal_column("0"), Slot.fit >= enough),
    }


def _limited(shape: Shape) -> ColumnElement[bool]:
    """Whether who has a cell offers the kind of visit, and where it is."""
    return and_(true(), *(LIMITS[limit] for limit in sorted(shape.limits)))


def _bounds(policy: ClinicPolicy, kind: AppointmentType, now: datetime, *, by_staff: bool) -> tuple[datetime, datetime]:
    """The first and the last start that patients may book now; staff, from the quarter hour that is running on.

    A kind of visit may have its own notice, and a nearer horizon than the clinic's.
    """
    if by_staff:
        return cell_of(now), now + LONGEST_PLAN
    notice = policy.booking_notice_minutes if kind.notice_minutes is None else kind.notice_minutes
    days = min(policy.booking_horizon_days, kind.horizon_days or policy.booking_horizon_days)
    return now + timedelta(minutes=notice), now + timedelta(days=days)


@cache
def _asked(shape: Shape) -> Select[*tuple[Any, ...]]:
    """One start, with what each rule says of it."""
    return (
        select(Location, Therapist, *_rules(shape).values())
        .select_from(Slot)
        .join(Location, Location.id == Slot.location_id)
        .join(Therapist, Therapist.id == Slot.therapist_id)
        .where(WISHES["therapist"], WISHES["location"], Slot.starts_at == bindparam("start", type_=UtcDateTime()))
    )


@cache
def _found(shape: Shape, wishes: frozenset[str]) -> Select[int, int, datetime]:
    """The starts that keep every rule and wish, soonest first."""
    return (
        select(Slot.therapist_id, Slot.location_id, Slot.starts_at)
        .where(*_rules(shape).values(), *(WISHES[wish] for wish in sorted(wishes)))
        .order_by(Slot.starts_at, Slot.therapist_id)
        .limit(bindparam("rows"))
    )


@cache
def _soonest(shape: Shape, count: int, dialect: str) -> Select[*tuple[Any, ...]]:
    """Every location with each of its first starts that keep every rule.

    Each location's index range is read until `count` are found; a location that does not offer the kind of visit has
    no number to seek by, so nothing of it is read. SQLite knows no LATERAL; it seeks the few keys of a correlated IN
    instead, which PostgreSQL would work out anew for every cell.
    """
    limited = "places" in shape.limits
    within = _rules(shape._replace(limits=shape.limits - {"places"}))
    first = (
        select(Slot.therapist_id, Slot.starts_at)
        .where(Slot.location_id == (OFFERED_AT if limited else Location.id), *within.values())
        .order_by(Slot.starts_at, Slot.therapist_id)
        .limit(literal_column(str(count)))
        .correlate(Location, AppointmentTypeLocation)
    )
    cell: Any
    joined: ColumnElement[bool]
    if dialect == "sqlite":
        cell = aliased(Slot)
        start, joined = cell, tuple_(cell.therapist_id, cell.starts_at).in_(first)
    else:
        cell = first.lateral()
        start, joined = cell.c, true()
    found = select(Location, start.therapist_id, start.starts_at)
    if limited:
        offered = and_(Location.id == OFFERED_AT, AppointmentTypeLocation.appointment_type_id == bindparam("type"))
        found = found.outerjoin(AppointmentTypeLocation, offered)
    found = found.outerjoin(cell, joined).where(*OPEN_ONLINE)
    return found.order_by(Location.name, start.starts_at, start.therapist_id)


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
OFFERED_BY, OFFERED_AT = AppointmentTypeTherapist.therapist_id, AppointmentTypeLocation.location_id


def _offered(
    table: type[AppointmentTypeTherapist | AppointmentTypeLocation], *named: ColumnElement[bool]
) -> ColumnElement[bool]:
    """Whether a kind of visit has therapists, or locations, of its own, or this one among them."""
    return exists().where(table.appointment_type_id == bindparam("type"), *named)


# In words that no index is chosen by and no join is made of: the cells are walked in the order of their starts.
LIMITS: dict[str, ColumnElement[bool]] = {
    "people": case((_offered(AppointmentTypeTherapist, Slot.therapist_id == OFFERED_BY), true()), else_=false()),
    "places": case((_offered(AppointmentTypeLocation, Slot.location_id == OFFERED_AT), true()), else_=false()),
}
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
    policy, kind, location_known, therapist_known, language_spoken, some_offline, zones, *offering = row
    if find.location_id is not None and not location_known:
        raise Invalid("location", "There is no location with this id.")
    if find.therapist_id is not None and not therapist_known:
        raise Invalid("therapist", "There is no therapist with this id.")
    pairs = (pair.split(" ", 1) for pair in (zones or "").split(",") if pair)
    limits, offered = _limits(find, *offering)
    return Terms(
        policy,
        kind,
        limits=limits,
        zones={int(place): zone_of(zone) for place, zone in pairs if find.location_id in {None, int(place)}},
        language_spoken=bool(language_spoken),
        all_online=not some_offline,
        offered=offered,
    )


def _limits(
    find: Find, some_people: bool, some_places: bool, by_therapist: bool, by_location: bool
) -> tuple[frozenset[str], bool]:
    """What limits a kind of visit, and whether it is offered at all: who is looked for by name settles their own."""
    of_people, of_places = (some_people, find.therapist_id, by_therapist), (some_places, find.location_id, by_location)
    asked = {"people": of_people, "places": of_places}
    limits = frozenset(name for name, (limited, wanted, _) in asked.items() if limited and wanted is None)
    refused = any(limited and wanted is not None and not offers for limited, wanted, offers in asked.values())
    return limits, not refused


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
        _offered(AppointmentTypeTherapist),
        _offered(AppointmentTypeLocation),
        _offered(AppointmentTypeTherapist, bindparam("therapist") == OFFERED_BY),
        _offered(AppointmentTypeLocation, bindparam("location") == OFFERED_AT),
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
