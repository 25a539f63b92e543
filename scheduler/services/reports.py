"""How the clinic does, counted from rows: what is booked, how far ahead, who comes, what is called off, what was sent.

Everything is counted by location, therapist and month, in one query a report, and summed up from there. A month is that
of the location's own calendar; a visit belongs to the month in which it starts, and so do its messages. Shares are None
where there is nothing to share.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    String,
    and_,
    case,
    column,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    true,
    type_coerce,
    values,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from scheduler.db import Span, UtcDateTime
from scheduler.errors import NotFound
from scheduler.models import (
    Appointment,
    Attempt,
    AuditEvent,
    Fate,
    Kind,
    Location,
    OutboxMessage,
    Slot,
    Status,
    Therapist,
    WorkingHours,
)
from scheduler.services import audit, outbox
from scheduler.timeline import DAY, HOUR, first_instant, local_date, zone_of

Key = TypeVar("Key")
Asked = ColumnElement[Any] | InstrumentedAttribute[Any]


class Group(NamedTuple):
    """A range of lengths of time: those below `below` that no group before it holds; None is without end."""

    name: str
    below: timedelta | None


# Days are whole days of 24 hours between booking and start: a visit 47 hours ahead is in "0–1".
LEADS = (
    Group("0–1", 2 * DAY),
    Group("2–3", 4 * DAY),
    Group("4–7", 8 * DAY),
    Group("8–14", 15 * DAY),
    Group("15–28", 29 * DAY),
    Group("> 28", None),
)
# How long before its start a visit was called off.
WARNINGS = (
    Group("< 2 h", 2 * HOUR),
    Group("2–24 h", DAY),
    Group("24–48 h", 2 * DAY),
    Group("2–7 d", 7 * DAY),
    Group("> 7 d", None),
)
CAME_DUE = (Status.FULFILLED, Status.ARRIVED, Status.NOSHOW)
UNMARKED = "unmarked"  # begun, and nobody has said whether the patient came
UNKNOWN = "unknown"  # the visit moved in from another program, which knew when it was booked


class Canceller(StrEnum):
    """Who called a visit off, as its audit row says; `unknown` where there is none."""

    PATIENT = "patient"
    STAFF = "staff"
    PROGRAM = "program"
    UNKNOWN = "unknown"


class Trouble(StrEnum):
    """Why a reminder failed. What mail servers say word for word may name a patient, so it is only put into kinds."""

    REFUSED = "refused"
    GAVE_UP = "gave-up"
    BROKE_OFF = "broke-off"


class Reminded(NamedTuple):
    """What became of a reminder, and why where it did not go; `twice` when it may have gone more than once."""

    fate: str
    reason: str | None
    twice: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a report is about: these locations, all therapists or one, and the months from `first` to `last`.

    Months are named by their first days; both count.
    """

    places: Sequence[Location]
    first: date
    last: date
    therapist_id: int | None = None

    @property
    def months(self) -> list[date]:
        found = [self.first]
        while found[-1] < self.last:
            found.append(month_after(found[-1]))
        return found


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """One therapist's month at one location: what everything is counted by."""

    location_id: int
    therapist_id: int
    month: date


@dataclass(frozen=True, slots=True)
class Cells:
    """Planned quarter hours, and those of them that a visit takes (its buffer too)."""

    planned: int = 0
    taken: int = 0

    def __add__(self, other: "Cells") -> "Cells":
        return Cells(self.planned + other.planned, self.taken + other.taken)

    @property
    def share(self) -> float | None:
        return share(self.taken, self.planned)


class Visit(NamedTuple):
    """How far ahead a visit was booked (a group of LEADS, or UNKNOWN), and its status (or UNMARKED)."""

    lead: str
    status: str


@dataclass(frozen=True, slots=True)
class Kept:
    """Visits of one lead: those not cancelled, of them those that came due, and of these those that were missed."""

    visits: int
    came_due: int
    missed: int

    @property
    def share(self) -> float | None:
        return share(self.missed, self.came_due)


@dataclass(frozen=True, slots=True)
class Ahead:
    """How far ahead visits were booked: half of them at most `median`, nine in ten at most `p90`."""

    visits: int
    median: timedelta
    p90: timedelta


def share(part: int, whole: int) -> float | None:
    """None where there is nothing to share."""
    return part / whole if whole else None


def summed(counts: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    found: dict[Key, int] = {}
    for key, count in counts:
        found[key] = found.get(key, 0) + count
    return found


def by(rows: Mapping[Where, Cells], key: Callable[[Where], Key]) -> dict[Key, Cells]:
    """The cells of each location, therapist or month, as `key` says."""
    found: dict[Key, Cells] = {}
    for where, cells in rows.items():
        found[key(where)] = found.get(key(where), Cells()) + cells
    return found


def kept(counts: Mapping[Visit, int], lead: str | None = None) -> Kept:
    """Sum up visits of one lead, or all."""
    alike = {visit.status: 0 for visit in counts}
    for visit, count in counts.items():
        alike[visit.status] += count if lead in {None, visit.lead} else 0
    return Kept(
        visits=sum(alike.values()) - alike.get(Status.CANCELLED, 0),
        came_due=sum(alike.get(status, 0) for status in CAME_DUE),
        missed=alike.get(Status.NOSHOW, 0),
    )


def together(rows: Mapping[Where, Mapping[Key, int]]) -> dict[Key, int]:
    """The counts of all locations, therapists and months."""
    return summed(pair for counts in rows.values() for pair in counts.items())


def ahead(lengths: Iterable[timedelta]) -> Ahead | None:
    """Median and 90th percentile by nearest rank: the shortest that this share does not exceed. None without any."""
    ordered = sorted(lengths)
    count = len(ordered)
    return Ahead(count, ordered[(count + 1) // 2 - 1], ordered[(count * 9 + 9) // 10 - 1]) if ordered else None


def month_of(day: date) -> date:
    return day.replace(day=1)


def month_after(month: date, count: int = 1) -> date:
    years, index = divmod(month.month - 1 + count, 12)
    return date(month.year + years, index + 1, 1)


def this_month(places: Sequence[Location], now: datetime) -> date:
    """The month that it is at the first of these locations, or in UTC."""
    return month_of(local_date(now, zone_of(places[0].time_zone if places else "UTC")))


def places(session: Session, allowed: frozenset[int] | None) -> Sequence[Location]:
    """Every location there was, by name; of those `allowed` where that is not None."""
    named = select(Location).order_by(Location.name)
    return session.scalars(named if allowed is None else named.where(Location.id.in_(allowed))).all()


def therapists(session: Session, at: Sequence[Location]) -> Sequence[Therapist]:
    """Everybody who ever had hours at one of these locations, by name."""
    ids = [place.id for place in at]
    had_hours = exists().where(WorkingHours.therapist_id == Therapist.id, WorkingHours.location_id.in_(ids))
    had_cells = exists().where(Slot.therapist_id == Therapist.id, Slot.location_id.in_(ids))
    had_visits = exists().where(Appointment.therapist_id == Therapist.id, Appointment.location_id.in_(ids))
    return session.scalars(
        select(Therapist).where(or_(had_hours, had_visits, had_cells)).order_by(Therapist.name, Therapist.id)
    ).all()


def require_place(among: Sequence[Location], location_id: int) -> list[Location]:
    """The one location; NotFound for one that is none of these."""
    found = [place for place in among if place.id == location_id]
    if not found:
        raise NotFound("There is no such location.")
    return found


def utilization(session: Session, wanted: Wanted) -> dict[Where, Cells]:
    """The cells of the plan and the taken ones. A past cell that nobody took stays planned; ahead, plans may grow."""
    month = _months(wanted)
    cells = and_(Slot.therapist_id == Therapist.id, Slot.starts_at >= month.c.begins, Slot.starts_at < month.c.ends)
    keys = (Slot.location_id, Slot.therapist_id, month.c.named)
    held = select(Appointment.id).where(Appointment.expires_at.is_not(None))
    visited = case((and_(Slot.appointment_id.is_not(None), Slot.appointment_id.not_in(held)), 1))
    counted = (
        select(*keys, func.count(), func.count(visited))
        .select_from(month.join(Therapist, _of_therapist(Therapist.id, wanted)).join(Slot, cells))
        .join(Location, and_(Location.id == Slot.location_id, _at_places(month, wanted)))
        .group_by(*keys)
    )
    return {where: Cells(*counts) for where, counts in _rows(session, counted, wanted)}


def visits(session: Session, wanted: Wanted, *, now: datetime) -> dict[Where, dict[Visit, int]]:
    """How many visits have which lead and status."""
    lead = case((Appointment.imported_as.is_not(None), UNKNOWN), else_=_group(LEADS, Appointment.booked_at))
    begun = and_(Appointment.status == Status.BOOKED, Appointment.starts_at <= now)
    status = case((begun, UNMARKED), else_=Appointment.status)
    return _counts(session, wanted, (lead, status), Visit)


def leads(session: Session, wanted: Wanted) -> dict[Where, list[timedelta]]:
    """How far ahead each visit was booked that is not cancelled and whose booking is known."""
    lead = type_coerce(Appointment.starts_at - Appointment.booked_at, Span())
    known = and_(Appointment.status != Status.CANCELLED, Appointment.imported_as.is_(None))
    found: dict[Where, list[timedelta]] = {}
    for where, (length,) in _rows(session, _visits(wanted, lead).where(known), wanted):
        found.setdefault(where, []).append(max(length, timedelta()))
    return found


def cancellations(session: Session, wanted: Wanted) -> dict[Where, dict[tuple[str, Canceller], int]]:
    """Cancelled visits by how long before their start (a group of WARNINGS), and by whom."""
    actor = (
        select(AuditEvent.actor)
        .where(
            AuditEvent.entity == Appointment.__tablename__,
            AuditEvent.entity_id == audit.entity_id(Appointment.id),
            AuditEvent.action == "appointment.cancelled",
        )
        .order_by(AuditEvent.happened_at.desc(), AuditEvent.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    who = case(
        (actor == audit.PATIENT.name, Canceller.PATIENT.value),
        (actor.startswith("account:"), Canceller.STAFF.value),
        (actor.is_(None), Canceller.UNKNOWN.value),
        else_=Canceller.PROGRAM.value,
    )
    warning = _group(WARNINGS, Appointment.cancelled_at)
    of = Appointment.status == Status.CANCELLED
    return _counts(session, wanted, (warning, who), lambda group, by_whom: (group, Canceller(by_whom)), of)


def reminders(session: Session, wanted: Wanted) -> dict[Where, dict[Reminded, int]]:
    """What became of every reminder ever owed for these visits."""
    reason = case(
        (OutboxMessage.status != Fate.FAILED, OutboxMessage.reason),
        (OutboxMessage.reason == outbox.BROKE_OFF, Trouble.BROKE_OFF.value),
        (OutboxMessage.reason.contains(outbox.GAVE_UP), Trouble.GAVE_UP.value),
        else_=Trouble.REFUSED.value,
    )
    gone = or_(Attempt.outcome == Fate.SENT, Attempt.outcome.is_(None))  # its worker may have died after sending
    tries = select(func.count()).where(Attempt.message_id == OutboxMessage.id, gone).scalar_subquery()
    twice = case((OutboxMessage.status == Fate.SENT, tries > 1), else_=false())
    of = and_(OutboxMessage.appointment_id == Appointment.id, OutboxMessage.kind == Kind.REMINDER)
    fate = (OutboxMessage.status, reason, twice)
    return _counts(session, wanted, fate, lambda status, why, two: Reminded(status, why, bool(two)), of)


def _months(wanted: Wanted) -> CTE:
    """Every wanted month on every calendar that these locations live by, as a table of instants."""
    zones = sorted({place.time_zone for place in wanted.places})
    rows = [
        (name, month.isoformat(), first_instant(month, 0, zone_of(name)), first_instant(next_, 0, zone_of(name)))
        for name in zones
        for month, next_ in ((month, month_after(month)) for month in wanted.months)
    ]
    columns = (
        column("zone", String),
        column("named", String),
        column("begins", UtcDateTime()),
        column("ends", UtcDateTime()),
    )
    return values(*columns, name="calendar_month").data(rows).cte()


def _at_places(month: CTE, wanted: Wanted) -> ColumnElement[bool]:
    ids = [place.id for place in wanted.places]
    return and_(Location.time_zone == month.c.zone, Location.id.in_(ids))


def _of_therapist(therapist: InstrumentedAttribute[int], wanted: Wanted) -> ColumnElement[bool]:
    return true() if wanted.therapist_id is None else therapist == wanted.therapist_id


def _visits(wanted: Wanted, *what: Asked) -> Select[Any]:
    """Each wanted visit: location, therapist, month, and what else is asked of it."""
    month = _months(wanted)
    in_month = and_(
        Appointment.location_id == Location.id,
        Appointment.starts_at >= month.c.begins,
        Appointment.starts_at < month.c.ends,
        Appointment.status != Status.HELD,
        _of_therapist(Appointment.therapist_id, wanted),
    )
    return (
        select(Appointment.location_id, Appointment.therapist_id, month.c.named, *what)
        .select_from(month.join(Location, _at_places(month, wanted)))
        .join(Appointment, in_month)
    )


def _counts(
    session: Session,
    wanted: Wanted,
    what: tuple[Asked, ...],
    named: Callable[..., Key],
    of: ColumnElement[bool] | None = None,
) -> dict[Where, dict[Key, int]]:
    """Count visits, or their messages, by what is asked of each."""
    each = _visits(wanted, *(one.label(f"what_{number}") for number, one in enumerate(what)))
    rows = (each if of is None else each.where(of)).subquery()
    counted = select(*rows.c, func.count()).group_by(*rows.c)
    found: dict[Where, dict[Key, int]] = {}
    for where, (*words, count) in _rows(session, counted, wanted):
        found.setdefault(where, {})[named(*words)] = count
    return found


def _group(groups: Iterable[Group], since: InstrumentedAttribute[Any]) -> ColumnElement[str]:
    """Which of these groups the time from `since` to the visit's start falls into."""
    whens = [
        (Appointment.starts_at < since + literal(group.below, Span()), group.name)
        for group in groups
        if group.below is not None
    ]
    return case(*whens, else_=[group.name for group in groups][-1])


def _rows(session: Session, counted: Select[Any], wanted: Wanted) -> Iterator[tuple[Where, Sequence[Any]]]:
    """Each row by its location, therapist and month; nothing is asked for no locations."""
    if wanted.places:
        for location_id, therapist_id, month, *rest in session.execute(counted):
            yield Where(location_id, therapist_id, date.fromisoformat(month)), rest
