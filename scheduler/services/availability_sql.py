"""The statements that availability asks, and the rules that they are made of.

They are put together once for each shape of question: that costs more than asking them.
"""

import operator
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
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
    type_coerce,
    union,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from scheduler.db import Span, UtcDateTime
from scheduler.errors import NotBookable, NotLicensed, NotOffered, Protected, SlotTaken, TooLate, TooSoon
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
    WorkingHours,
)
from scheduler.timeline import CELL


class Shape(NamedTuple):
    """What the rules are written for: the cells of a visit, whether it includes needling, and who or where limits it.

    `limits` has "people" for a kind of visit that only some therapists offer, "places" for one only at some locations.
    """

    cells: int
    needling: bool
    limits: frozenset[str]


@cache
def open_starts(shape: Shape) -> Select[int, int]:
    """Count the cells from which so many follow each other, each of them free or held; and those that are all free."""
    bounds = {name: bindparam(name, type_=UtcDateTime()) for name in ("earliest", "latest", "end", "now")}
    there = (WISHES["location"], Slot.starts_at >= bounds["earliest"], Slot.starts_at < bounds["end"], limited(shape))
    columns = (Slot.therapist_id, Slot.starts_at, Slot.needling, Slot.fit)
    free = select(*columns).where(Slot.fit > literal_column("0"), *there)
    live = select(Appointment.id).where(Appointment.expires_at > bounds["now"])
    kept = select(*columns).where(Slot.appointment_id.is_not(None), Slot.appointment_id.in_(live), *there)
    cell = union_all(free, kept).subquery()
    last = func.lead(cell.c.starts_at, shape.cells - 1, type_=UtcDateTime()).over(
        partition_by=cell.c.therapist_id, order_by=cell.c.starts_at
    )
    start = select(cell, last.label("last")).subquery()
    enough = start.c.fit >= literal_column(str(shape.cells))
    return select(func.count(), func.count().filter(enough)).where(
        start.c.last == start.c.starts_at + literal((shape.cells - 1) * CELL, Span()),
        start.c.starts_at <= bounds["latest"],
        start.c.needling.is_(true()) if shape.needling else true(),
    )


ROWS = (21, 61, 121, 201)


# Until when a start may use what is kept back for short notice.
RELEASE = bindparam("release", type_=UtcDateTime())


@cache
def rules(shape: Shape) -> dict[type[NotBookable], ColumnElement[bool]]:
    """The definition of bookable: every rule, with the refusal that tells of it, in the order they are told.

    The number of cells stands as a literal, and `fit > 0` and `fit > 1` as those very terms: PostgreSQL's generic plan
    and SQLite need them to use the partial indices.
    """
    enough: ColumnElement[int] = literal_column(str(shape.cells))
    two = Slot.fit > literal_column("1") if shape.cells > 1 else true()
    return {
        TooSoon: Slot.starts_at >= bindparam("earliest", type_=UtcDateTime()),
        TooLate: Slot.starts_at <= bindparam("latest", type_=UtcDateTime()),
        NotLicensed: Slot.needling.is_(true()) if shape.needling else true(),
        **({NotOffered: limited(shape)} if shape.limits else {}),
        SlotTaken: and_(Slot.fit > literal_column("0"), two, Slot.fit >= enough),
        Protected: or_(Slot.starts_at <= RELEASE, Slot.fit_open >= enough),
    }


def limited(shape: Shape) -> ColumnElement[bool]:
    """Whether who has a cell offers the kind of visit, and where it is."""
    return and_(true(), *(LIMITS[limit] for limit in sorted(shape.limits)))


@cache
def asked(shape: Shape) -> Select[*tuple[Any, ...]]:
    """One start, with what each rule says of it."""
    return (
        select(Location, Therapist, *rules(shape).values())
        .select_from(Slot)
        .join(Location, Location.id == Slot.location_id)
        .join(Therapist, Therapist.id == Slot.therapist_id)
        .where(WISHES["therapist"], WISHES["location"], Slot.starts_at == bindparam("start", type_=UtcDateTime()))
    )


@cache
def found(shape: Shape, wishes: frozenset[str], rows: int, dialect: str) -> Select[int, int, datetime]:
    """The starts that keep every rule and wish, soonest first; so many `rows` (see `rows_for`).

    `from_midnights` and `to_midnights` are wishes here, too: the bounds where the midnights of locations differ.
    """
    midnights = {"from_midnights": operator.ge, "to_midnights": operator.lt}
    bounds = [
        compare(Slot.starts_at, _midnight(name, dialect)) for name, compare in midnights.items() if name in wishes
    ]
    return (
        select(Slot.therapist_id, Slot.location_id, Slot.starts_at)
        .where(*rules(shape).values(), *(WISHES[wish] for wish in sorted(wishes - midnights.keys())), *bounds)
        .order_by(Slot.starts_at, Slot.therapist_id)
        .limit(literal_column(str(rows)))
    )


def rows_for(limit: int) -> int:
    """How many rows a statement reads for a page of so many starts and one to tell whether more follow.

    One of a few numbers that stand in the statement: for one that is bound PostgreSQL makes a plan each time it is
    asked, which takes three times as long as to find the starts.
    """
    return next((rows for rows in ROWS if rows > limit), limit + 1)


@cache
def found_within(
    shape: Shape, wishes: frozenset[str], rows: int, zoned: bool, dialect: str
) -> Select[int, int, datetime]:
    """The starts in the segments of `windows` that keep every rule and wish, soonest first; so many `rows`.

    The segments are walked in their order, each by its own index range, until as many starts as wanted are counted;
    so what lies between them is not read, nor what comes after enough. They lie within the bounds that notice and
    horizon set: a second bound below would be the one that SQLite seeks by. `zoned` segments are not wanted everywhere.
    """
    first = literal_column("0", Integer())
    names = ("begins", "ends", "zones")
    walk = select(
        first.label("number"), cast(first, BigInteger).label("found"), *_read(_row(first, dialect), names, dialect)
    ).cte("walk", recursive=True)
    following = walk.c.number + literal_column("1")
    inside = and_(*_timeless(shape), *(WISHES[wish] for wish in sorted(wishes)), *_inside(walk, zoned=zoned))
    wanted: ColumnElement[int] = literal_column(str(rows))
    enough = select(Slot.starts_at).where(inside).limit(wanted).correlate(walk).subquery()
    step = select(
        following,
        walk.c.found + select(func.count()).select_from(enough).scalar_subquery(),
        *_read(_row(following, dialect), names, dialect),
    ).where(walk.c.found < wanted, following < bindparam("windows_count"))
    walk = walk.union_all(step)
    inside = and_(*_timeless(shape), *(WISHES[wish] for wish in sorted(wishes)), *_inside(walk, zoned=zoned))
    here = select(Slot.therapist_id, Slot.location_id, Slot.starts_at).where(inside)
    found: Select[int, int, datetime]
    if dialect == "sqlite":
        found = here.select_from(walk).join(Slot, true())
    else:  # which would rather go through all cells in their order, and look for a segment of each
        first_here = here.order_by(Slot.starts_at, Slot.therapist_id).limit(wanted)
        start = first_here.correlate(walk).lateral("start")
        found = (
            select(start.c.therapist_id, start.c.location_id, start.c.starts_at).select_from(walk).join(start, true())
        )
    return found.where(walk.c.found < wanted).order_by("starts_at", "therapist_id").limit(wanted)


@cache
def days_found(shape: Shape, wishes: frozenset[str], zoned: bool, dialect: str) -> Select[Any]:
    """The days of `windows` that have a start as it is wished, each looked for in index ranges of its own.

    `zoned` ones are of one zone each: its locations are gone through one by one, until one has a start.
    """
    names = ("day", "begins", "ends", "zone")
    rows = func.json_each if dialect == "sqlite" else func.jsonb_array_elements
    each = rows(_windows(dialect)).table_valued("value").alias("each_window")
    window = select(*_read(each.c.value, names, dialect)).subquery()
    inside = and_(*_timeless(shape), *(WISHES[wish] for wish in sorted(wishes)), *_inside(window, zoned=False))
    start: Select[Any] = select(literal_column("1")).select_from(Slot).where(inside)
    if zoned:
        start = start.join(Location, Location.id == Slot.location_id).where(Location.time_zone == window.c.zone)
    free = case((start.correlate(window).exists(), true()), else_=false())  # for PostgreSQL no join, but a look each
    return select(window.c.day).where(free).distinct()


def _timeless(shape: Shape) -> list[ColumnElement[bool]]:
    """The rules but for notice and horizon, which bound the segments of a search already."""
    return [rule for refusal, rule in rules(shape).items() if refusal not in {TooSoon, TooLate}]


def _inside(window: FromClause, *, zoned: bool) -> list[ColumnElement[bool]]:
    """Whether a start lies in a segment; `zoned` ones ask where, too, in words that no join is made of."""
    inside = [Slot.starts_at >= window.c.begins, Slot.starts_at < window.c.ends]
    if not zoned:
        return inside
    here = window.c.zones.like(literal("%|") + Location.time_zone + literal("|%"))
    there = exists().where(Location.id == Slot.location_id, here).correlate(Slot, window)
    return [*inside, case((there, true()), else_=false())]


def _windows(dialect: str) -> ColumnElement[Any]:
    """The JSON document that a statement binds."""
    text = bindparam("windows", type_=String())
    return text if dialect == "sqlite" else cast(text, JSONB)


def _row(number: ColumnElement[int], dialect: str) -> ColumnElement[Any]:
    """One row of the document, null after the last."""
    if dialect == "sqlite":
        return func.json_extract(_windows(dialect), literal("$[") + cast(number, String) + literal("]"))
    return func.jsonb_extract_path(_windows(dialect), cast(number, String))


def _read(row: ColumnElement[Any], names: Sequence[str], dialect: str) -> list[ColumnElement[Any]]:
    """The parts of a JSON row by their names; `begins` and `ends` are instants, in seconds since 1970."""
    read: list[ColumnElement[Any]] = []
    for at, name in enumerate(names):
        part: ColumnElement[Any]
        if dialect == "sqlite":
            part = func.json_extract(row, f"$[{at}]")
            part = type_coerce(part * literal_column("1000000"), UtcDateTime()) if name in BOUNDS else part
        else:
            part = func.jsonb_extract_path_text(row, str(at))
            part = func.to_timestamp(cast(part, BigInteger), type_=UtcDateTime()) if name in BOUNDS else part
        read.append(part.label(name))
    return read


@cache
def compared(before: Shape | None, after: Shape | None) -> Select[*tuple[Any, ...]]:
    """For each therapist at each location: how many starts keep the rules of before, those of after, and both."""
    was, will_be = _kept("before", before), _kept("after", after)
    counts = (func.count().filter(kept) for kept in (was, will_be, and_(was, will_be)))
    free = select(Slot.therapist_id, Slot.location_id, *counts).where(Slot.fit > literal_column("0"), or_(was, will_be))
    return free.group_by(Slot.therapist_id, Slot.location_id)


def _kept(name: str, shape: Shape | None) -> ColumnElement[bool]:
    """Whether a start keeps the rules of a shape, within bounds of this name; none does where there is no shape."""
    if shape is None:
        return false()
    earliest, latest = (bindparam(f"{name}_{bound}", type_=UtcDateTime()) for bound in ("earliest", "latest"))
    return and_(*_timeless(shape), Slot.starts_at >= earliest, Slot.starts_at <= latest)


@cache
def free_runs(shape: Shape, *, kept_back: bool) -> Select[int, datetime, int]:
    """Free cells that follow each other, as (location, first cell, cells), wherever a visit of this shape may be.

    Of what is kept back those that are released, and no visit is counted that runs on into those that are not; or all
    that is `kept_back`, too.
    """
    number = func.row_number().over(partition_by=(Slot.therapist_id, Slot.location_id), order_by=Slot.starts_at)
    cell = (
        select(
            Slot.therapist_id,
            Slot.location_id,
            Slot.starts_at,
            (Slot.starts_at - number * literal(CELL, Span())).label("run"),
        )
        .where(
            Slot.fit > literal_column("0"),
            Slot.starts_at >= bindparam("earliest", type_=UtcDateTime()),
            Slot.starts_at < bindparam("end", type_=UtcDateTime()),
            true() if kept_back else or_(Slot.starts_at <= RELEASE, Slot.fit_open > literal_column("0")),
            Slot.needling.is_(true()) if shape.needling else true(),
            limited(shape),
        )
        .subquery()
    )
    runs = select(cell.c.location_id, func.min(cell.c.starts_at), func.count())
    return runs.group_by(cell.c.therapist_id, cell.c.location_id, cell.c.run)


@cache
def starts_ahead(shape: Shape) -> Select[int, datetime]:
    """Each (location, start) that somebody offers there, in order; what is kept back too: it is let go in time."""
    here = Slot.location_id.in_(bindparam("places", expanding=True))
    kept = (rule for refusal, rule in rules(shape).items() if refusal is not Protected)
    found = select(Slot.location_id, Slot.starts_at).where(here, *kept).distinct()
    return found.order_by(Slot.location_id, Slot.starts_at)


@cache
def soonest(shape: Shape, count: int, dialect: str) -> Select[*tuple[Any, ...]]:
    """Every location that is online with each of its first starts that keep every rule; a row at least.

    Each row begins with the terms where they are not `kept` any more, else with null.

    Each location's index range is read until `count` are found; a location that does not offer the kind of visit has
    no number to seek by, so nothing of it is read. SQLite knows no LATERAL; it seeks the few keys of a correlated IN
    instead, which PostgreSQL would work out anew for every cell.
    """
    limited = "places" in shape.limits
    place: Any = OFFERED_AT if limited else Location.id
    if "people" in shape.limits:  # where none of them has hours, no free cell is one of theirs
        theirs = select(WorkingHours.id).join(AppointmentTypeTherapist, WorkingHours.therapist_id == OFFERED_BY)
        of_kind = AppointmentTypeTherapist.appointment_type_id == bindparam("type")
        works = theirs.where(of_kind, WorkingHours.location_id == Location.id).correlate(Location).exists()
        place = case((works, place))
    within = rules(shape._replace(limits=shape.limits - {"places"}))
    open_ = Slot.fit_open >= literal_column(str(shape.cells))
    parts = (
        select(Slot.therapist_id, Slot.starts_at, Slot.fit_open)
        .where(Slot.location_id == place, *of_part)
        .order_by(Slot.starts_at, Slot.therapist_id)
        .limit(literal_column(str(count)))
        .correlate(Location, AppointmentTypeLocation)
        .subquery()
        for of_part in (within.values(), (*within.values(), open_))
    )
    columns = ("therapist_id", "starts_at") if dialect == "sqlite" else ("therapist_id", "starts_at", "fit_open")
    first = union(*(select(*(part.c[name] for name in columns)) for part in parts))
    cell: Any
    joined: ColumnElement[bool]
    if dialect == "sqlite":
        cell = aliased(Slot)
        keys = select(first.subquery())  # SQLite seeks keys of a plain SELECT only
        start, joined = cell, tuple_(cell.therapist_id, cell.starts_at).in_(keys)
    else:
        cell = first.lateral()
        start, joined = cell.c, true()
    one = select(literal_column("1").label("one")).subquery()
    is_open = start.fit_open >= literal_column(str(shape.cells))
    told = (start.therapist_id, start.starts_at, is_open, *OF_PLACE)
    found = select(_changed(frozenset(), dialect), *told).select_from(one)
    found = found.outerjoin(Location, and_(*OPEN_ONLINE))
    if limited:
        offered = and_(Location.id == OFFERED_AT, AppointmentTypeLocation.appointment_type_id == bindparam("type"))
        found = found.outerjoin(AppointmentTypeLocation, offered)
    return found.outerjoin(cell, joined).order_by(Location.name, start.starts_at, start.therapist_id)


def _changed(named: frozenset[str], dialect: str, *, local: bool = False) -> ColumnElement[Any]:
    """The terms where they are not `kept` any more, else null."""
    return func.nullif(terms(named, local, dialect).scalar_subquery(), bindparam("kept", type_=String()))


@cache
def told(found: Select[int, int, datetime], named: frozenset[str], local: bool, dialect: str) -> Select[Any]:
    """The found starts with the names of place and therapist, joined only after the limit was reached.

    Each row begins with the terms where they are not `kept` any more, else with null; there is a row at least.
    """
    changed = select(_changed(named, dialect, local=local))
    start, one = found.subquery(), select(literal_column("1").label("one")).subquery()
    return (
        select(changed.scalar_subquery(), *start.c, Location.name, Location.time_zone, Therapist.name)
        .select_from(one)
        .outerjoin(start, true())
        .outerjoin(Location, Location.id == start.c.location_id)
        .outerjoin(Therapist, Therapist.id == start.c.therapist_id)
        .order_by(start.c.starts_at, start.c.therapist_id)
    )


BOUNDS = ("begins", "ends")


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


def _midnight(name: str, dialect: str) -> ColumnElement[Any]:
    """The instant of a start's own location, of a JSON document by location, in words that no index is chosen by."""
    place = cast(Slot.location_id, String)
    if dialect == "sqlite":
        seconds = func.json_extract(bindparam(name, type_=String()), literal('$."') + place + literal('"'))
        return type_coerce(seconds * literal_column("1000000"), UtcDateTime())
    seconds = func.jsonb_extract_path_text(cast(bindparam(name, type_=String()), JSONB), place)
    return func.to_timestamp(cast(seconds, BigInteger), type_=UtcDateTime())


OF_PLACE = (
    Location.id,
    Location.name,
    Location.area,
    Location.time_zone,
    Location.address,
    Location.phone,
)
OF_POLICY = (
    ClinicPolicy.booking_notice_minutes,
    ClinicPolicy.booking_horizon_days,
    ClinicPolicy.access_goal_hours,
    ClinicPolicy.access_target,
)
OF_KIND = (
    AppointmentType.id,
    AppointmentType.name,
    AppointmentType.minutes,
    AppointmentType.buffer_minutes,
    AppointmentType.includes_needling,
    AppointmentType.notice_minutes,
    AppointmentType.horizon_days,
)
ACTIVE_KIND = (AppointmentType.id == bindparam("type")) & AppointmentType.active


@cache
def asked_terms() -> Select[Any]:
    """Policy, kind of visit, and the circumstances of a search; nothing where there is no such kind."""
    return select(ClinicPolicy, AppointmentType, *_circumstances((), null())).join_from(
        ClinicPolicy, AppointmentType, ACTIVE_KIND
    )


@cache
def terms(named: frozenset[str], local: bool, dialect: str) -> Select[Any]:
    """The same as one text, of what a search that names these needs; a kind that is not there has nulls."""
    here = Location.id == bindparam("location") if "location" in named else true()
    sqlite = dialect == "sqlite"
    array, pairs = (
        (func.json_array, func.json_group_object) if sqlite else (func.json_build_array, func.json_object_agg)
    )
    zones: Any = select(pairs(cast(Location.id, String), Location.time_zone)).where(here).scalar_subquery()
    zones = null() if not local else func.json(zones) if sqlite else zones
    document = array(*OF_POLICY, *OF_KIND, *_circumstances(named, zones))
    return select(cast(document, String)).select_from(ClinicPolicy).outerjoin(AppointmentType, ACTIVE_KIND)


def parts(values: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any], Sequence[Any]]:
    """What `terms` tells: of the policy, of the kind of visit, by column, and the circumstances."""
    policy, kind = len(OF_POLICY), len(OF_POLICY) + len(OF_KIND)
    told = ((OF_POLICY, values[:policy]), (OF_KIND, values[policy:kind]))
    of_policy, of_kind = ({column.key: value for column, value in zip(*part, strict=True)} for part in told)
    return of_policy, of_kind, values[kind:]


def _circumstances(named: Collection[str], zones: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    """Whether what is `named` exists, the zones as given, and what limits the kind of visit.

    Of what is not named nothing is asked: each of these questions costs as much as finding a start.
    """
    asked = {
        "location": exists().where(Location.id == bindparam("location")),
        "therapist": exists().where(Therapist.id == bindparam("therapist")),
        "language": exists().where(TherapistLanguage.language == bindparam("language")),
    }
    offered = {
        "therapist": _offered(AppointmentTypeTherapist, bindparam("therapist") == OFFERED_BY),
        "location": _offered(AppointmentTypeLocation, bindparam("location") == OFFERED_AT),
    }
    return [
        *(known if name in named else false() for name, known in asked.items()),
        exists().where(~and_(*OPEN_ONLINE)),
        zones,
        _offered(AppointmentTypeTherapist),
        _offered(AppointmentTypeLocation),
        *(offers if name in named else false() for name, offers in offered.items()),
    ]
