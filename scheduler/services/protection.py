"""Times kept back for short notice: how many of a day at each location, and which.

A rule suggests a number from the location's own history, at most once a local day; somebody may pin another. The cells
that are kept back carry a mark, and the definition of bookable lets whoever wants them have them in the last hours of
the access goal: nothing has to release them (docs/decisions/0016-protected.md).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from itertools import groupby
from typing import NamedTuple, Protocol, TypeVar

from sqlalchemy import Select, TextClause, bindparam, case, func, literal_column, select, text, update
from sqlalchemy.orm import Session

from scheduler.db import UtcDateTime, insert_into
from scheduler.errors import Invalid
from scheduler.models import (
    Appointment,
    AppointmentType,
    ClinicPolicy,
    LetGoDay,
    Location,
    ProtectionLevel,
    Slot,
    Status,
    WorkingHours,
)
from scheduler.services import access_rules, audit, availability, edits, practice, slots
from scheduler.services.audit import Actor
from scheduler.services.availability import SlotName
from scheduler.services.planned import planned_time
from scheduler.services.practice import Offering
from scheduler.timeline import CELL, DAY, HOUR, first_instant, local_date, next_cell, zone_of

LEAST, MOST = 0, 4  # of a location that nobody has given bounds: four did where the plain rule says seven (access.md)
HIGHEST = 100
ONE_IN = 4  # never is more than this part of a day's visits kept back, so that no small clinic is closed by it
HISTORY = 56 * DAY
PLANNED = 28 * DAY  # the weeks ahead that say how many visits a day has
DAYS_A_STEP = 3
WORKER = Actor("worker")
# `{k}` is the number of cells of a visit, a literal for the sake of the partial index. A free cell of which nothing is
# open is protected.
KEPT_BY_DAY = """
    WITH day(location_id, number, begins, ends) AS ({days})
    SELECT location_id, number,
        (SELECT count(*) FROM slot WHERE fit > 0 AND fit_open = 0 AND slot.location_id = day.location_id
            AND starts_at >= begins AND starts_at < ends) AS kept,
        EXISTS (SELECT 1 FROM slot WHERE fit > 0 AND fit_open >= {k} AND slot.location_id = day.location_id
            AND starts_at >= begins AND starts_at < ends) AS room
    FROM day ORDER BY location_id, number
"""
DAYS = {
    "sqlite": """
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') * 1000000,
            json_extract(value, '$[3]') * 1000000 FROM json_each(:days)""",
    "postgresql": """
        SELECT (value->>0)::int, (value->>1)::int, to_timestamp((value->>2)::bigint),
            to_timestamp((value->>3)::bigint) FROM json_array_elements(CAST(:days AS json))""",
}


@dataclass(frozen=True, slots=True)
class ProtectionDetails:
    """What somebody can change at a location: the bounds of the rule's number, and one that is pinned instead."""

    least: int
    most: int
    pinned: int | None

    @classmethod
    def of(cls, row: ProtectionLevel) -> "ProtectionDetails":
        return cls(row.least, row.most, row.level if row.pinned else None)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What the rule says of a location: visits a day, by so many open days of history, and visits that a day has."""

    level: int
    days: int
    visits_a_day: int


class KeptAhead(NamedTuple):
    """How many visits of each day are kept back, and how many of all days cannot be booked yet, from `first` on."""

    level: int
    visits: int
    first: datetime | None


class Cell(NamedTuple):
    """A cell of a day at one location, where a visit of the goal's kind may be."""

    therapist_id: int
    starts_at: datetime
    free: bool
    protected: bool


class Somewhere(Protocol):
    """A cell of a therapist."""

    @property
    def therapist_id(self) -> int: ...
    @property
    def starts_at(self) -> datetime: ...


C = TypeVar("C", bound=Somewhere)


class Astray(NamedTuple):
    """Cells of somebody at a place that are kept back, although no visit of the goal's kind may be there."""

    therapist_id: int
    location_id: int
    needling: bool


class Step(NamedTuple):
    """Some days at a location on which other cells than now are to be kept back: one short transaction."""

    location_id: int
    days: tuple[date, ...]


def due(session: Session, *, now: datetime) -> list[int]:
    """The locations whose number has not been decided today, by their own calendar. Two queries at any size."""
    decided = {row.location_id: row.decided_on for row in session.scalars(select(ProtectionLevel))}
    return [
        place.id
        for place in practice.locations(session)
        if decided.get(place.id, date.min) < local_date(now, zone_of(place.time_zone))
    ]


def suggestions(session: Session, *, now: datetime) -> dict[int, Suggestion]:
    """What the rule says of the locations that are due. Takes longer than a booking should wait for: to be read."""
    return {
        place_id: suggestion(session, session.get_one(Location, place_id), now=now)
        for place_id in due(session, now=now)
    }


def decide(session: Session, location_id: int, said: Suggestion, *, now: datetime) -> None:
    """Put into force what the rule said of a location, unless that was done today or a number is pinned."""
    place = session.get_one(Location, location_id)
    row, today = locked(session, place, now), local_date(now, zone_of(place.time_zone))
    if row.decided_on >= today:
        return
    before = row.level
    _settle(session, row, said, ProtectionDetails.of(row).pinned, today)
    if row.level != before:
        audit.record(session, "protection_level.decided", row, by=WORKER, now=now, level=[before, row.level])


def change(
    session: Session, location_id: int, details: ProtectionDetails, *, seal: str, by: Actor, now: datetime
) -> None:
    """Give a location other bounds, pin a number, or unpin it: then the rule's is in force, at once.

    The worker keeps back more or fewer cells soon after. Raises Invalid naming a field, ChangedMeanwhile, NotFound.
    """
    if details.least > details.most:
        raise Invalid("least", "The floor is above the ceiling.")
    place = edits.found(session, Location, location_id)
    row = locked(session, place, now)
    before = ProtectionDetails.of(row)
    edits.require_seen(before, seal)
    if before == details:
        return
    row.least, row.most = details.least, details.most
    if before.pinned != details.pinned:
        row.pinned_by, row.pinned_at = (None, None) if details.pinned is None else (by.name, now)
    said = suggestion(session, place, now=now)
    _settle(session, row, said, details.pinned, local_date(now, zone_of(place.time_zone)))
    edits.note(session, "protection_level.changed", row, before, ProtectionDetails.of(row), by=by, now=now)


def place_and_details(session: Session, location_id: int) -> tuple[Location, ProtectionDetails]:
    """A location and what a form shows of it, whether anything was decided there yet or not; raises NotFound."""
    place = edits.found(session, Location, location_id)
    row = session.get(ProtectionLevel, location_id)
    return place, ProtectionDetails(LEAST, MOST, None) if row is None else ProtectionDetails.of(row)


def levels(session: Session) -> dict[int, ProtectionLevel]:
    """What is in force, by location."""
    return {row.location_id: row for row in session.scalars(select(ProtectionLevel))}


def ahead(session: Session, kind: AppointmentType, location_id: int, *, now: datetime) -> KeptAhead:
    """What a location keeps back that cannot be booked yet."""
    row = session.get(ProtectionLevel, location_id)
    release = availability.release(practice.policy(session), now)
    kept = select(func.count(), func.min(Slot.starts_at)).where(
        Slot.fit > literal_column("0"),
        Slot.fit_open == literal_column("0"),
        Slot.location_id == location_id,
        Slot.starts_at > release,
    )
    cells, first = session.execute(kept).one()
    return KeptAhead(row.level if row else 0, cells // kind.cells, first)


def suggestion(session: Session, place: Location, *, now: datetime) -> Suggestion:
    """Ask the newsvendor rule how many visits of a day to keep back, by the location's own history.

    Without a kind of visit for new patients there is no goal, and nothing is kept back; nor is it where what is let go
    would be too soon to book.
    """
    kind, policy = practice.goal_type(practice.appointment_types(session)), practice.policy(session)
    if kind is None or _too_late(policy, kind, now):
        return Suggestion(0, 0, 0)
    demand, visits = _demand(session, place, kind.cells, now), _visits_a_day(session, place, kind, now)
    level = access_rules.protection_level(
        demand,
        target=policy.access_target,
        usual=access_rules.USUAL_SHARE * visits,
        least=0,
        most=HIGHEST,
    )
    enough = len(demand) >= access_rules.LEAST_DAYS
    return Suggestion(level, len(demand) if enough else 0, round(visits))


def astray(session: Session, *, now: datetime) -> list[Astray]:
    """Whose cells carry the mark where a visit of the goal's kind may not be any more: nobody else lets them go."""
    kind, in_force = practice.goal_type(practice.appointment_types(session)), levels(session)
    offering, release = practice.offering(session), availability.release(practice.policy(session), now)
    marked = select(Slot.therapist_id, Slot.location_id, Slot.needling).where(
        Slot.fit > literal_column("0"), Slot.fit_open == literal_column("0"), Slot.starts_at > release
    )
    return [
        one
        for one in (Astray(*row) for row in session.execute(marked.distinct()))
        if kind is None
        or one.location_id not in in_force
        or not offering.allows(kind.id, one.therapist_id, one.location_id)
        or (kind.includes_needling and not one.needling)
    ]


def let_go(session: Session, one: Astray, *, now: datetime) -> int:
    """Take the mark off what has gone astray; return how many cells. Doing it twice changes nothing more."""
    slots.lock(session, [one.therapist_id])
    kept = select(Slot.starts_at, Slot.protected).where(
        Slot.therapist_id == one.therapist_id,
        Slot.location_id == one.location_id,
        Slot.needling.is_(one.needling),
        Slot.fit > literal_column("0"),
        Slot.fit_open == literal_column("0"),
        Slot.starts_at > availability.release(practice.policy(session), now),
    )
    cells = [Cell(one.therapist_id, starts_at, True, kept_back) for starts_at, kept_back in session.execute(kept)]
    mark(session, cells)
    return len(cells)


def _too_late(policy: ClinicPolicy, kind: AppointmentType, now: datetime) -> bool:
    """Whether what is released could not be booked by patients any more: the notice is longer than the goal."""
    earliest, _ = availability.bookable_within(policy, kind, now, by_staff=False)
    return earliest >= availability.release(policy, now)


def work(session: Session, *, now: datetime) -> list[Step]:
    """Where other cells are to be kept back than are, in short steps. Reads only; one query where all is well.

    A day whose room allows fewer than are in force is looked at each time. One query more for a location, and one for
    some days of it that have not as many as are in force. Days that have begun to be released stay as they are: what is
    taken at short notice is what was kept back for it.
    """
    kind = practice.goal_type(practice.appointment_types(session))
    if kind is None:
        return []
    offering, steps, free = practice.offering(session), list[Step](), days_let_go(session, now=now)
    places = {place.id: place for place in practice.locations(session)}
    for location_id, rows in groupby(_suspects(session, kind, places, free, now), key=lambda row: row[0]):
        days, place = [day for _, day in rows], places[location_id]
        level = session.get_one(ProtectionLevel, location_id).level
        for first in range(0, len(days), DAYS_A_STEP):
            some = days[first : first + DAYS_A_STEP]
            found = _cells(session, place, some, kind, offering)
            differ = tuple(
                day
                for day in some
                for visits in [0 if (place.id, day) in free else level]
                if _differ(found[day], chosen(found[day], place.id, visits, kind.cells))
            )
            if differ:
                steps.append(Step(location_id, differ))
    return steps


def keep_back(session: Session, step: Step, *, now: datetime) -> int:
    """Do one step of `work`; return how many cells changed. Doing it twice changes nothing more.

    Locks the therapists; no taken cell is touched.
    """
    kind = practice.goal_type(practice.appointment_types(session))
    place = session.get_one(Location, step.location_id)
    if kind is None:
        return 0
    slots.lock(session, people(session, place.id))
    level = session.get_one(ProtectionLevel, place.id, populate_existing=True).level
    free = days_let_go(session, now=now)
    zone, release = zone_of(place.time_zone), availability.release(practice.policy(session), now)
    days = [day for day in step.days if first_instant(day, 0, zone) > release]
    found = _cells(session, place, days, kind, practice.offering(session))
    wrong = [
        cell
        for day in days
        for wanted in [chosen(found[day], place.id, 0 if (place.id, day) in free else level, kind.cells)]
        for cell in found[day]
        if _is_wrong(cell, wanted)
    ]
    mark(session, wrong)
    return len(wrong)


def days_let_go(session: Session, *, now: datetime) -> set[tuple[int, date]]:
    """The local days, of those that are not over anywhere, on which a location keeps nothing back."""
    ahead = select(LetGoDay.location_id, LetGoDay.day).where(LetGoDay.day >= now.date() - DAY)
    return {(location_id, day) for location_id, day in session.execute(ahead)}


def chosen(cells: Iterable[Cell], location_id: int, level: int, needed: int) -> set[tuple[int, datetime]]:
    """Which free cells of a day at one location to keep back for so many visits of `needed` cells each.

    Never more than one in ONE_IN of the visits that the day has room for, booked or not. What is kept back already
    stays as far as it can; what is added is spread over the therapists and the day (`access_rules.keep_back`).
    """
    day = sorted(cells)
    room = sum(len(_starts(run, needed)) for run in runs(day))
    wanted = min(level, room // ONE_IN)
    kept = [
        SlotName(start.therapist_id, location_id, start.starts_at)
        for run in runs([cell for cell in day if cell.free and cell.protected])
        for start in _starts(run, needed)
    ]
    if len(kept) > wanted:
        kept = access_rules.keep_back(kept, wanted, needed)
    taken = set(_cells_of(kept, needed))
    left = [cell for cell in day if cell.free and (cell.therapist_id, cell.starts_at) not in taken]
    starts = [
        SlotName(cell.therapist_id, location_id, cell.starts_at)
        for run in runs(left)
        for cell in run[: max(len(run) - needed + 1, 0)]
    ]
    more = access_rules.keep_back(starts, wanted - len(kept), needed, kept=kept)
    return taken | set(_cells_of(more, needed))


def _settle(session: Session, row: ProtectionLevel, said: Suggestion, pinned: int | None, today: date) -> None:
    """Put the rule's number into force, or the one that is pinned."""
    within = min(max(row.least, min(said.level, row.most)), said.visits_a_day // ONE_IN)
    level = within if pinned is None else pinned
    row.suggested, row.days, row.decided_on = said.level, said.days, max(today, row.decided_on)
    if level != row.level:
        row.level, row.since = level, row.decided_on
    session.flush()


def locked(session: Session, place: Location, now: datetime) -> ProtectionLevel:
    """The row of a location, made where it is not there yet, kept from changing until the transaction ends."""
    yesterday = local_date(now, zone_of(place.time_zone)) - DAY  # nothing has been decided yet
    counts = {"least": LEAST, "most": MOST, "suggested": 0, "days": 0, "level": 0}
    new = insert_into(session, ProtectionLevel).values(
        location_id=place.id, **counts, decided_on=yesterday, since=yesterday
    )
    session.execute(new.on_conflict_do_nothing())
    return edits.locked(session, ProtectionLevel, place.id)


def _demand(session: Session, place: Location, needed: int, now: datetime) -> list[int]:
    """How many visits were wanted at short notice for each past open day: in cells, as visits of the goal's kind.

    Of visits that were booked here, cancelled ones too; those that were moved in say nothing of when they were booked,
    nor do the days before the first booking.
    """
    zone, goal = zone_of(place.time_zone), practice.policy(session).access_goal_hours * HOUR
    here = (Appointment.location_id == place.id, Appointment.imported_as.is_(None), Appointment.status != Status.HELD)
    first = session.execute(select(func.min(Appointment.booked_at)).where(*here)).scalar_one()
    if first is None:
        return []
    until = first_instant(local_date(now, zone), 0, zone)
    since = max(until - HISTORY, first_instant(local_date(first, zone) + DAY, 0, zone))
    visits = select(Appointment).where(*here, Appointment.starts_at >= since, Appointment.starts_at < until)
    wanted = Counter[date]()
    for visit in session.scalars(visits):
        short = visit.starts_at - visit.booked_at <= goal
        wanted[local_date(visit.starts_at, zone)] += (visit.slots_end - visit.slots_start) // CELL if short else 0
    free = select(Slot.starts_at).where(Slot.fit > 0, Slot.location_id == place.id)
    left = session.scalars(free.where(Slot.starts_at >= since, Slot.starts_at < until).distinct())
    days = wanted.keys() | {local_date(starts_at, zone) for starts_at in left}
    return [-(-wanted[day] // needed) for day in sorted(days)]


def _visits_a_day(session: Session, place: Location, kind: AppointmentType, now: datetime) -> float:
    """How many visits of a kind an open day has room for, on average of the weeks ahead, booked or not."""
    offering, start = practice.offering(session), next_cell(now)
    stretches = [
        stretch
        for stretch in planned_time(session, people(session, place.id), start, start + PLANNED)
        if stretch.location_id == place.id and offering.allows(kind.id, stretch.therapist_id, place.id)
    ]
    starts = access_rules.empty_plan_starts(stretches, kind.cells, needling=kind.includes_needling)
    zone = zone_of(place.time_zone)
    days = {local_date(one.starts_at, zone) for one in starts}
    return len(access_rules.back_to_back(starts, kind.cells)) / len(days) if days else 0.0


def _suspects(
    session: Session,
    kind: AppointmentType,
    places: dict[int, Location],
    free: Collection[tuple[int, date]],
    now: datetime,
) -> Iterator[tuple[int, date]]:
    """The days that do not keep back as many cells as are in force and could, or keep back more."""
    in_force = {row.location_id: row.level for row in levels(session).values() if row.location_id in places}
    policy = practice.policy(session)
    release, end = availability.release(policy, now), slots.horizon_end(policy, now)
    days = [
        (place_id, day.toordinal(), int(begins.timestamp()), int(ends.timestamp()))
        for place_id in in_force
        for day, begins, ends in _days(places[place_id], release, end)
    ]
    dialect = session.get_bind().dialect.name
    for place_id, number, kept, room in session.execute(_kept_by_day(kind.cells, dialect), {"days": json.dumps(days)}):
        day = date.fromordinal(number)
        wanted = 0 if (place_id, day) in free else in_force[place_id] * kind.cells
        if kept > wanted or kept % kind.cells or (kept < wanted and room):
            yield place_id, day


def _days(place: Location, release: datetime, end: datetime) -> Iterator[tuple[date, datetime, datetime]]:
    """The local days of a place that have not begun to be released, each with its bounds, as far as there are cells."""
    zone = zone_of(place.time_zone)
    day = local_date(release, zone) + DAY
    while (begins := first_instant(day, 0, zone)) < end:
        if begins > release:
            yield day, begins, first_instant(day + DAY, 0, zone)
        day += DAY


@cache
def _kept_by_day(needed: int, dialect: str) -> TextClause:
    return text(KEPT_BY_DAY.format(days=DAYS[dialect], k=needed)).bindparams(bindparam("days"))


def people(session: Session, location_id: int) -> Sequence[int]:
    """Who has hours at a place, and so free cells, if anybody has."""
    there = select(WorkingHours.therapist_id).where(WorkingHours.location_id == location_id)
    return session.scalars(there.distinct().order_by(WorkingHours.therapist_id)).all()


def _cells(
    session: Session, place: Location, days: Sequence[date], kind: AppointmentType, offering: Offering
) -> dict[date, list[Cell]]:
    """The cells of these days where a visit of this kind may be, by local day: two queries."""
    found: dict[date, list[Cell]] = defaultdict(list)
    if not days:
        return found
    zone = zone_of(place.time_zone)
    givers = [one for one in people(session, place.id) if offering.allows(kind.id, one, place.id)]
    for cell in session.execute(_of_people(givers, place.id, kind), _bounds(days, place)):
        day = local_date(cell.starts_at, zone)
        if day in days:
            found[day].append(Cell(*cell))
    return found


def _of_people(givers: Sequence[int], location_id: int, kind: AppointmentType) -> Select[int, datetime, bool, bool]:
    cells = select(Slot.therapist_id, Slot.starts_at, Slot.appointment_id.is_(None), Slot.protected).where(
        Slot.therapist_id.in_(givers),
        Slot.location_id == location_id,
        Slot.starts_at >= bindparam("begins", type_=UtcDateTime()),
        Slot.starts_at < bindparam("ends", type_=UtcDateTime()),
    )
    return cells.where(Slot.needling.is_(True)) if kind.includes_needling else cells


def _bounds(days: Collection[date], place: Location) -> dict[str, datetime]:
    zone = zone_of(place.time_zone)
    return {"begins": first_instant(min(days), 0, zone), "ends": first_instant(max(days) + DAY, 0, zone)}


def runs(cells: Iterable[C]) -> list[list[C]]:
    """Cells of one therapist that follow each other, from sorted ones."""
    found: list[list[C]] = []
    for cell in cells:
        last = found[-1][-1] if found else None
        if last is not None and (last.therapist_id, last.starts_at + CELL) == (cell.therapist_id, cell.starts_at):
            found[-1].append(cell)
        else:
            found.append([cell])
    return found


def _starts(run: Sequence[Cell], needed: int) -> Sequence[Cell]:
    """Where visits begin that fill a run back to back."""
    return run[: len(run) // needed * needed : needed]


def _cells_of(visits: Iterable[SlotName], needed: int) -> Iterator[tuple[int, datetime]]:
    for visit in visits:
        for number in range(needed):
            yield visit.therapist_id, visit.starts_at + number * CELL


def _differ(cells: Iterable[Cell], wanted: set[tuple[int, datetime]]) -> bool:
    return any(_is_wrong(cell, wanted) for cell in cells)


def _is_wrong(cell: Cell, wanted: set[tuple[int, datetime]]) -> bool:
    return cell.free and cell.protected != ((cell.therapist_id, cell.starts_at) in wanted)


def mark(session: Session, wrong: Sequence[Cell]) -> None:
    """Turn the mark of free cells around, and recount what can be booked there."""
    if not wrong:
        return
    marked = update(Slot).values(protected=~Slot.protected, fit_open=case((Slot.protected, 1), else_=0))
    times = defaultdict[int, list[datetime]](list)
    for cell in wrong:
        times[cell.therapist_id].append(cell.starts_at)
    for therapist_id, own in times.items():
        cells = marked.where(Slot.therapist_id == therapist_id, Slot.starts_at.in_(own), Slot.appointment_id.is_(None))
        session.execute(cells, execution_options={"synchronize_session": False})
    starts = [cell.starts_at for cell in wrong]
    slots.refit(session, list(times), min(starts), max(starts) + CELL)
