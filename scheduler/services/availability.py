"""What can be booked. One definition, `availability_sql.rules`, that search asks of all cells and booking of one."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from cachetools import LRUCache
from sqlalchemy import (
    Select,
    case,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Session

from scheduler.db import MICROSECOND, Row, Source, ask, dialect_of
from scheduler.errors import (
    Invalid,
    NotBookable,
    NotLicensed,
    NotOffered,
    Protected,
    SlotHeld,
    SlotTaken,
    TooLate,
    TooSoon,
)
from scheduler.models import (
    Appointment,
    AppointmentType,
    ClinicPolicy,
    Location,
    Slot,
    Therapist,
)
from scheduler.services import availability_sql as sql
from scheduler.services.availability_sql import Shape
from scheduler.services.windows import ANY_TIME, LocalWish, Times, days, document, segments
from scheduler.timeline import CELL, DAY, EPOCH, cell_of, first_instant, local_date, next_cell, zone_of

# Seven digits of quarter hours since 1970 reach the year 2255; nine digits of an id fit every integer column.
SLOT_ID = re.compile(r"([1-9][0-9]{0,8})-([1-9][0-9]{0,8})-([1-9][0-9]{0,6})")
LONGEST_PLAN = timedelta(days=800)  # further than any clinic plans
TERMS_KEPT, OFFERS_KEPT = 1024, 16384
CURSOR = re.compile(r"([1-9][0-9]{0,6})-([1-9][0-9]{0,8})")
REFUSALS: dict[type[NotBookable], str] = {
    TooSoon: "This time has begun or is too soon to book online.",
    TooLate: "This time is further ahead than can be booked yet.",
    NotLicensed: "Dry needling is not offered with this therapist at this location on that day.",
    NotOffered: "This therapist does not offer this kind of visit, or not at this location.",
    SlotTaken: "This time, or part of it, is taken.",
    Protected: "This time is kept back for short notice. It can be booked later.",
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
    local: LocalWish = ANY_TIME
    limit: int = 20
    after: tuple[datetime, int] | None = None
    by_staff: bool = False


class Offer(NamedTuple):
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
class Days:
    """Days of a calendar, whole weeks: those that can be booked at all, and of these the ones with a start as wished.

    `first` and `last` are the first and the last day that can be booked, in the calendar or not.
    """

    calendar: Sequence[date]
    bookable: frozenset[date]
    free: frozenset[date]
    first: date
    last: date


class Place(NamedTuple):
    """What of a location those need who read of its starts."""

    id: int
    name: str
    area: str
    time_zone: str
    address: str
    phone: str


@dataclass(frozen=True, slots=True)
class Openings:
    """The soonest bookable starts at one location, in the order of search; none where nothing can be booked.

    `open` are the soonest that need nothing of what is kept back for short notice, released or not.
    """

    location: Place
    starts: list[SlotName]
    open: list[SlotName]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a search depends on beside the cells. The zones, by location, are only fetched for what is local.

    `all_online` says that every location can be booked online, so that a search need not ask each; `offered`, whether
    the therapist and the location that are looked for offer the kind of visit. Read off a `document`, policy and kind
    are no rows, and have only what a search needs (`sql.OF_POLICY`, `sql.OF_KIND`).
    """

    policy: ClinicPolicy
    kind: AppointmentType
    limits: frozenset[str]
    zones: dict[int, ZoneInfo]
    language_spoken: bool
    all_online: bool
    offered: bool
    local: bool = False
    document: str = ""

    @property
    def shape(self) -> Shape:
        return Shape(self.kind.cells, self.kind.includes_needling, self.limits)


class Ahead(Protocol):
    """How far ahead a kind of visit can be booked; None is as far as the clinic can."""

    @property
    def notice_minutes(self) -> int | None: ...
    @property
    def horizon_days(self) -> int | None: ...


_kept: LRUCache[tuple[object, ...], Terms] = LRUCache(TERMS_KEPT)
_lock = Lock()


@dataclass(frozen=True, slots=True)
class Bookable:
    """A start that passed every rule of `availability_sql.rules` at this moment; only the claim decides."""

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


def search(source: Source, find: Find, *, now: datetime) -> Page:
    """Return the soonest bookable starts, by start and therapist. Two queries at any size, most often one.

    Every bound on the start becomes one of the two that the index seeks by: what is tested row by row is read in vain.
    """
    terms = None if find.local else _last_terms(find)
    if terms is None or not _possible(find, terms):
        terms = _searched_terms(source, find, local=_is_local(find))
    return _search(source, find, terms, now)


def search_with_days(session: Session, find: Find, weeks: int, *, now: datetime) -> tuple[Page, Days]:
    """What search returns, and which of the days around have any of it: whole weeks from Sunday on. Three queries.

    The weeks begin with that of the day after whose starts it goes on, or that is asked for, or of the first that can
    be booked; the other bound says nothing of days.
    """
    terms = _searched_terms(session, find, local=True)
    earliest, latest = bookable_within(terms.policy, terms.kind, now, by_staff=find.by_staff)
    zones = set(terms.zones.values()) or {zone_of("UTC")}
    soonest, last = min(local_date(earliest, zone) for zone in zones), max(local_date(latest, zone) for zone in zones)
    shown = find.from_ if find.from_ is not None and not isinstance(find.from_, datetime) else soonest
    if find.after is not None:
        shown = min(local_date(find.after[0], zone) for zone in zones)
    shown = min(max(shown, soonest), last)
    first = shown - (shown.weekday() + 1) % 7 * DAY
    calendar = list(days(first, first + weeks * 7 * DAY - DAY))
    bookable = [day for day in calendar if soonest <= day <= last]
    free = _days_with_times(session, find, terms, bookable, (earliest, latest), release(terms.policy, now))
    return _search(session, find, terms, now), Days(calendar, frozenset(bookable), free, soonest, last)


def _search(source: Source, find: Find, terms: Terms, now: datetime) -> Page:
    """Search by these terms. The answer comes with those that hold at its moment: by others it is asked again."""
    while True:
        if not _possible(find, terms):
            return Page([], None)
        question = _question(source, find, terms, now)
        if question is None:
            return Page([], None)
        rows = ask(source, *question)
        changed, first = rows[0][:2]
        if changed is None:
            found, lasts = rows if first is not None else (), timedelta(minutes=terms.kind.minutes)
            offers = [_offer(*row[1:], lasts, find.appointment_type_id) for row in found[: find.limit]]
            return Page(offers, _cursor(offers[-1].slot) if len(found) > find.limit else None)
        terms = _read(find, changed, terms.local)


def _question(source: Source, find: Find, terms: Terms, now: datetime) -> tuple[Select[Any], dict[str, Any]] | None:
    """The statement of a search with its values; None where nothing can be found, whatever is free."""
    dialect = dialect_of(source)
    earliest, latest = bookable_within(terms.policy, terms.kind, now, by_staff=find.by_staff)
    from_, to = _instants(find.from_, terms.zones), _instants(find.to, terms.zones)
    after, after_therapist = find.after or (EPOCH, 0)
    values = _wished(find, terms) | {
        "earliest": max(earliest, after, min(from_.values(), default=EPOCH)),
        "latest": min(latest, max((instant - MICROSECOND for instant in to.values()), default=latest)),
        "release": release(terms.policy, now),
        "after": find.after and after,
        "after_therapist": after_therapist,
        "from_midnights": _midnights(from_),
        "to_midnights": _midnights(to),
        "kept": terms.document,
    }
    wishes = frozenset(wish for wish in sql.WISHES if values[wish] is not None)
    if not find.local:
        wishes |= {bound for bound in ("from_midnights", "to_midnights") if values[bound] is not None}
        found = sql.found(terms.shape, wishes, sql.rows_for(find.limit), dialect)
    else:
        bounds = {
            zone: (
                max(values["earliest"], from_.get(place, EPOCH)),
                min(values["latest"] + MICROSECOND, to.get(place, latest + DAY)),
            )
            for place, zone in terms.zones.items()
        }
        within = segments(find.local, _on_the_grid(bounds))
        if not within:
            return None
        values |= {"windows": document(within), "windows_count": len(within)}
        found = sql.found_within(terms.shape, wishes, sql.rows_for(find.limit), len(bounds) > 1, dialect)
    return sql.told(found, _names(find), terms.local, dialect), values


def _days_with_times(
    session: Session, find: Find, terms: Terms, wanted: Sequence[date], bounds: Times, released: datetime
) -> frozenset[date]:
    """Which of these days have a start as it is wished; a start belongs to the day on the wall of its location."""
    if not wanted or not _possible(find, terms):
        return frozenset()
    zones = _on_the_grid(dict.fromkeys(terms.zones.values(), (bounds[0], bounds[1] + MICROSECOND)))
    rows = [
        (
            day.toordinal(),
            int(max(times[0], start).timestamp()),
            int(min(times[1], end).timestamp()),
            zone,
        )
        for zone, (start, end) in ((str(zone), times) for zone, times in zones.items())
        for day in wanted
        if (times := find.local.on(day, zone_of(zone))) is not None
    ]
    values = _wished(find, terms) | {"windows": json.dumps(rows, separators=(",", ":")), "release": released}
    wishes = frozenset(wish for wish in sql.WISHES if values.get(wish) is not None)
    statement = sql.days_found(terms.shape, wishes, len(zones) > 1, session.get_bind().dialect.name)
    return frozenset(date.fromordinal(int(day)) for day in session.scalars(statement, values))


def _possible(find: Find, terms: Terms) -> bool:
    """Whether there can be any start for this wish at all."""
    return terms.offered and (find.language is None or terms.language_spoken)


def _wished(find: Find, terms: Terms) -> dict[str, Any]:
    """What WISHES bind, by name; None for what is not wished."""
    return _named(find) | {"online": None if terms.all_online or find.by_staff else True}


def _on_the_grid(bounds: Mapping[int, Times] | Mapping[ZoneInfo, Times]) -> dict[Any, Times]:
    """The same starts within whole cells: all begin on the grid."""
    return {zone: (next_cell(start), next_cell(end)) for zone, (start, end) in bounds.items()}


def soonest(source: Source, appointment_type_id: int, count: int, *, now: datetime) -> tuple[Terms, list[Openings]]:
    """Return the first `count` starts that search would list at each location that is online, by the locations' names.

    Two queries at any size, most often one; raises Invalid for an unknown type.
    """
    find = Find(appointment_type_id)
    terms = _last_terms(find) or _searched_terms(source, find, local=False)
    while True:
        earliest, latest = bookable_within(terms.policy, terms.kind, now, by_staff=False)
        statement = sql.soonest(terms.shape, count, dialect_of(source))
        bounds = {"earliest": earliest, "latest": latest, "release": release(terms.policy, now)}
        rows = ask(source, statement, _named(find) | bounds | {"kept": terms.document})
        if rows[0][0] is None:
            return terms, _openings(rows, count)
        terms = _read(find, rows[0][0], local=False)


def _openings(rows: Iterable[Row], count: int) -> list[Openings]:
    openings: dict[int, Openings] = {}
    for _, therapist_id, starts_at, is_open, *place in rows:
        if place[0] is None:  # no location is online
            continue
        at_location = openings.get(place[0]) or openings.setdefault(place[0], Openings(Place(*place), [], []))
        if starts_at is not None:  # by their order: what comes after `count` is there as an open one
            start = SlotName(therapist_id, place[0], starts_at)
            at_location.starts.extend([start] if len(at_location.starts) < count else [])
            at_location.open.extend([start] if is_open else [])
    return list(openings.values())


def free_runs(
    session: Session, appointment_type_id: int, until: datetime, *, now: datetime, kept_back: bool = False
) -> tuple[Terms, Sequence[tuple[int, datetime, int]]]:
    """Free cells that follow each other, as (location, first cell, cells), from the notice on and before `until`.

    Those that are kept back for short notice only count once they are released, or where they are asked for. Two
    queries at any size; raises Invalid for an unknown type.
    """
    terms = _terms(session, Find(appointment_type_id))
    earliest, latest = bookable_within(terms.policy, terms.kind, now, by_staff=False)
    end = min(until, latest + terms.kind.cells * CELL)
    values = {"type": appointment_type_id, "earliest": earliest, "end": end, "release": release(terms.policy, now)}
    return terms, session.execute(sql.free_runs(terms.shape, kept_back=kept_back), values).all()


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
    earliest, latest = bookable_within(terms.policy, kind, now, by_staff=by_staff)
    if held is not None:
        earliest = max(now, bookable_within(terms.policy, kind, held.booked_at, by_staff=by_staff)[0])
    released = release(terms.policy, now)
    values = {
        "type": appointment_type_id,
        "earliest": earliest,
        "latest": latest,
        "therapist": name.therapist_id,
        "location": name.location_id,
        "start": name.starts_at,
        "release": released,
    }
    row = session.execute(sql.asked(terms.shape), values).one_or_none()
    if row is None and held is not None:
        raise SlotTaken(REFUSALS[SlotTaken])  # its cells have left the plan since it was held
    if row is None or not (by_staff or row[0].open_online):
        raise Invalid("slot", "There is no time with this id.")
    location, therapist, *kept = row
    refusal = next((rule for rule, rule_kept in zip(sql.rules(terms.shape), kept, strict=True) if not rule_kept), None)
    if refusal is SlotTaken:
        refusal = _in_the_way(session, name, kind.cells, held, released, now)
    if refusal is not None:
        raise refusal(REFUSALS[refusal])
    return Bookable(name, kind, terms.policy, location, therapist, terms.limits)


def _in_the_way(
    session: Session, name: SlotName, cells: int, held: Appointment | None, released: datetime, now: datetime
) -> type[NotBookable] | None:
    """What keeps a visit of so many cells from a start that search does not offer: nothing, where a hold has expired.

    That one is swept before the cells are claimed. Nor is one's own in the way, unless it is too short.
    """
    end = name.starts_at + cells * CELL
    if held is not None and held.slots_end >= end:
        return None
    live = case((Appointment.expires_at > now, 1))
    kept_back = func.count(case((Slot.protected, 1)))
    cell = select(func.count(), func.count(Appointment.id), func.count(live), kept_back).select_from(Slot)
    free_or_held = cell.outerjoin(Appointment, Appointment.id == Slot.appointment_id).where(
        Slot.therapist_id == name.therapist_id,
        Slot.location_id == name.location_id,
        Slot.starts_at >= name.starts_at,
        Slot.starts_at < end,
        or_(Slot.appointment_id.is_(None), Appointment.expires_at.is_not(None)),
    )
    usable, held_cells, held_still, kept_cells = session.execute(free_or_held).one()
    if usable < cells or not held_cells:
        return SlotTaken
    if held_still:
        return SlotHeld
    return Protected if kept_cells and name.starts_at > released else None


def open_starts(session: Session, like: Bookable, until: datetime, *, now: datetime) -> tuple[int, int]:
    """How many starts of this kind this location would have, as late as `until`, if no time were held; and has."""
    kind = like.kind
    earliest, latest = bookable_within(like.policy, kind, now, by_staff=False)
    values = {
        "type": kind.id,
        "location": like.location.id,
        "earliest": earliest,
        "latest": min(latest, until),
        "end": until + kind.cells * CELL,
        "now": now,
    }
    held_too, offered = session.execute(sql.open_starts(like.shape), values).one()
    return held_too, offered


def bookable_within(policy: ClinicPolicy, kind: Ahead, now: datetime, *, by_staff: bool) -> tuple[datetime, datetime]:
    """The first and the last start that patients may book now; staff, from the quarter hour that is running on.

    A kind of visit may have its own notice, and a nearer horizon than the clinic's.
    """
    if by_staff:
        return cell_of(now), now + LONGEST_PLAN
    notice = policy.booking_notice_minutes if kind.notice_minutes is None else kind.notice_minutes
    days = min(policy.booking_horizon_days, kind.horizon_days or policy.booking_horizon_days)
    return now + timedelta(minutes=notice), now + timedelta(days=days)


def release(policy: ClinicPolicy, now: datetime) -> datetime:
    """Until when starts may use what is kept back for short notice: the last moment that is within the access goal.

    It binds staff as it binds patients (docs/decisions/0016-protected.md).
    """
    return now + timedelta(hours=policy.access_goal_hours)


def _instants(bound: date | datetime | None, zones: Mapping[int, ZoneInfo]) -> dict[int | None, datetime]:
    """A bound as an instant, or as the midnight of its date at each location; empty for no bound."""
    if bound is None:
        return {}
    if isinstance(bound, datetime):
        return {None: bound}
    return {location_id: first_instant(bound, 0, zone) for location_id, zone in zones.items()}


def _midnights(instants: Mapping[int | None, datetime]) -> str | None:
    """The midnights of locations as statements bind them; None where one for all is a bound already."""
    if len(set(instants.values())) < 2:  # noqa: PLR2004
        return None
    return json.dumps({place: int(instant.timestamp()) for place, instant in instants.items()})


def _terms(session: Session, find: Find) -> Terms:
    """Fetch what the rules depend on, in one query; raise Invalid naming an id that does not exist."""
    row = session.execute(sql.asked_terms(), _named(find)).one_or_none()
    if row is None:
        raise Invalid("appointment_type", "There is no appointment type with this id.")
    policy, kind, *circumstances = row
    return _terms_of(find, policy, kind, circumstances)


def _searched_terms(source: Source, find: Find, *, local: bool) -> Terms:
    """The same for a search, with the zones for one that is local."""
    ((document,),) = ask(source, sql.terms(_names(find), local, dialect_of(source)), _named(find))
    return _read(find, document, local)


def _read(find: Find, document: str, local: bool) -> Terms:
    """Read the terms off their document; the next search like this one begins with them."""
    values = json.loads(document)
    of_policy, of_kind, circumstances = sql.parts(values)
    if of_kind["id"] is None:
        raise Invalid("appointment_type", "There is no appointment type with this id.")
    policy, kind = ClinicPolicy(**of_policy), AppointmentType(**of_kind)
    terms = replace(_terms_of(find, policy, kind, circumstances), local=local, document=document)
    with _lock:
        _kept[_like(find, local)] = terms
    return terms


def _last_terms(find: Find) -> Terms | None:
    """The terms that the last search like this one went by. They may be out of date: whoever asks by them is told."""
    with _lock:
        return _kept.get(_like(find, _is_local(find)))


def _like(find: Find, local: bool) -> tuple[object, ...]:
    return (*_named(find).values(), local)


def _named(find: Find) -> dict[str, Any]:
    """What a search names, as statements bind it."""
    return {
        "type": find.appointment_type_id,
        "location": find.location_id,
        "therapist": find.therapist_id,
        "language": find.language,
    }


def _names(find: Find) -> frozenset[str]:
    return frozenset(name for name, named in _named(find).items() if named is not None)


def _is_local(find: Find) -> bool:
    """Whether a search depends on the zones of locations."""
    dated = any(bound is not None and not isinstance(bound, datetime) for bound in (find.from_, find.to))
    return dated or bool(find.local)


def _terms_of(find: Find, policy: ClinicPolicy, kind: AppointmentType, circumstances: Sequence[Any]) -> Terms:
    location_known, therapist_known, language_spoken, some_offline, zones, *offering = circumstances
    if find.location_id is not None and not location_known:
        raise Invalid("location", "There is no location with this id.")
    if find.therapist_id is not None and not therapist_known:
        raise Invalid("therapist", "There is no therapist with this id.")
    limits, offered = _limits(find, *offering)
    return Terms(
        policy,
        kind,
        limits=limits,
        zones={int(place): zone_of(zone) for place, zone in (zones or {}).items()},
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


@lru_cache(maxsize=OFFERS_KEPT)
def _offer(
    therapist_id: int,
    location_id: int,
    starts_at: datetime,
    location_name: str,
    time_zone: str,
    therapist_name: str,
    lasts: timedelta,
    kind_id: int,
) -> Offer:
    """Put an offer together, one object for all that find it; that it may be offered the database says each time."""
    name = SlotName(therapist_id, location_id, starts_at)
    return Offer(name, starts_at + lasts, location_name, time_zone, therapist_name, kind_id)


def _cursor(last: SlotName) -> str:
    return f"{(last.starts_at - EPOCH) // CELL}-{last.therapist_id}"


def parse_cursor(cursor: str) -> tuple[datetime, int]:
    """Return the start and therapist after which the next page begins."""
    found = CURSOR.fullmatch(cursor)
    if found is None:
        raise Invalid("cursor", "This is no cursor of an earlier answer.")
    return EPOCH + int(found[1]) * CELL, int(found[2])
