"""Who asks at a simulated location: read off its own last weeks, or taken as usual where they say too little."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, func, literal_column, select
from sqlalchemy.orm import Session

from scheduler.models import AccessRequest, Appointment, Slot, Status
from scheduler.services import access_rules
from scheduler.services.reports import CAME_DUE
from scheduler.services.simulated_clinics import BookingTerms, Clinic
from scheduler.services.simulation import Demand
from scheduler.timeline import CELL, DAY, HOUR, cell_of, first_instant, local_date, next_cell

DAYS = 91  # whole weeks, so that no weekday counts more than another
LEAST_VISITS = 100  # of so many, a share of one in ten is known to 6 % to either side (95 %)
LEAST_LEAD_DAYS = 0.1  # what the simulator draws by, as its option has it
MOST_CANCELLED = 0.9


class Source(StrEnum):
    """Where a figure of the demand comes from."""

    HISTORY = "history"
    USUAL = "usual"
    OPTION = "option"


class Visit(NamedTuple):
    """A visit that was booked; `taken` from its booking to its start then, `offered` to the soonest start then.

    `booked_at` and `taken` are None where it moved in, `offered` where nobody noted it.
    """

    starts_at: datetime
    cells: int
    status: str
    booked_at: datetime | None
    taken: timedelta | None
    offered: timedelta | None

    def is_soon(self, goal: timedelta) -> bool:
        """Whether they wanted to come at once: they took a start within the goal, or the soonest that there was."""
        return self.taken is not None and (self.taken <= goal or self.taken == self.offered)


@dataclass(frozen=True, slots=True)
class History:
    """What the last `days` local days of a location say of who asks there, `open_days` of them open.

    The other names are those of `Demand`, as are their units; None where there were too few to tell.
    """

    days: int
    open_days: int
    visits: float | None = None
    soon: float | None = None
    lead_days: float | None = None
    no_shows: float | None = None
    cancelled: float | None = None


def histories(session: Session, clinics: Iterable[Clinic], terms: BookingTerms, *, now: datetime) -> dict[int, History]:
    """The history of each of these locations by id, none where nobody has ever booked. Three queries at any size."""
    places = {clinic.location_id: clinic for clinic in clinics}
    first_booked = dict(session.execute(_first_booked(places)).all())
    periods = {place_id: _period(places[place_id], first, now) for place_id, first in first_booked.items()}
    if not periods:
        return {}
    earliest = min(since for since, _ in periods.values())
    visits = defaultdict[int, list[Visit]](list)
    for row in session.execute(_visits(periods, earliest)):
        visits[row.location_id].append(_visit(row))
    free = defaultdict[int, list[datetime]](list)
    for place_id, starts_at in session.execute(_free(periods, earliest, now)):
        free[place_id].append(starts_at)
    return {
        place_id: history(places[place_id], visits[place_id], free[place_id], period, terms)
        for place_id, period in periods.items()
    }


def history(
    clinic: Clinic,
    visits: Collection[Visit],
    free: Iterable[datetime],
    period: tuple[datetime, datetime],
    terms: BookingTerms,
) -> History:
    """Count these visits, and days with them or with `free` cells, in a period of whole local days.

    Visits a day, no-shows and what is called off are of visits in the period, of all kinds and by their length; when
    people want to come is of visits booked in it, whenever they are, so that no long wait is left out.
    """
    since, until = period
    inside = [visit for visit in visits if since <= visit.starts_at < until]
    kept = [visit for visit in inside if visit.status != Status.CANCELLED]
    instants = [visit.starts_at for visit in kept] + [at for at in free if since <= at < until]
    open_days = len({local_date(at, clinic.zone) for at in instants})
    days = (local_date(until, clinic.zone) - local_date(since, clinic.zone)) // DAY
    if open_days < access_rules.LEAST_DAYS or not kept:
        return History(days, open_days)
    due = [visit for visit in inside if visit.status in CAME_DUE]
    cancelled = _share(len(inside) - len(kept), len(inside))
    asked = [visit for visit in visits if visit.booked_at is not None and since <= visit.booked_at < until]
    soon, lead_days = _wished(asked, terms.goal)
    return History(
        days,
        open_days,
        visits=sum(visit.cells for visit in kept) / terms.cells / open_days,
        soon=soon,
        lead_days=lead_days,
        no_shows=_share(sum(visit.status == Status.NOSHOW for visit in due), len(due)),
        cancelled=None if cancelled is None else min(cancelled, MOST_CANCELLED),
    )


def known(usual: Demand, said: Collection[str], found: History | None) -> tuple[Demand, dict[str, Source]]:
    """Demand by what was said, by history else, and as usual where that is silent; and which of its figures is which.

    `said` are the names of what in `usual` was asked for. Of `load` and `visits` the one that counts is told of.
    """
    demand, sources = usual, dict[str, Source]()
    for name in ("visits", "soon", "lead_days", "no_shows", "cancelled"):
        lived = getattr(found, name) if found is not None else None
        asked = {"load", "visits"} if name == "visits" else {name}
        if asked.isdisjoint(said) and lived is not None:
            demand, sources[name] = replace(demand, **{name: lived}), Source.HISTORY
        else:
            which = "load" if name == "visits" and demand.visits is None else name
            sources[which] = Source.OPTION if which in said else Source.USUAL
    return demand, sources


def _wished(asked: Collection[Visit], goal: timedelta) -> tuple[float | None, float | None]:
    """The share of these that wanted to come at once, and how many days beyond the goal the others came, on average."""
    waits = [(one.taken - goal) / DAY for one in asked if one.taken is not None and not one.is_soon(goal)]
    lead_days = max(sum(waits) / len(waits), LEAST_LEAD_DAYS) if len(waits) >= LEAST_VISITS else None
    return _share(len(asked) - len(waits), len(asked)), lead_days


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole >= LEAST_VISITS else None


def _period(clinic: Clinic, first_booked: datetime, now: datetime) -> tuple[datetime, datetime]:
    """The last DAYS local days, without those before the first booking and its own, which say nothing."""
    today = local_date(now, clinic.zone)
    began: date = max(today - DAYS * DAY, local_date(first_booked, clinic.zone) + DAY)
    return first_instant(min(began, today), 0, clinic.zone), first_instant(today, 0, clinic.zone)


def _first_booked(places: Mapping[int, object]) -> Select[int, datetime]:
    """When somebody first booked at each place, as far as anybody knows."""
    booked = Appointment.location_id.in_(places), Appointment.imported_as.is_(None), Appointment.status != Status.HELD
    return (
        select(Appointment.location_id, func.min(Appointment.booked_at))
        .where(*booked)
        .group_by(Appointment.location_id)
    )


def _visits(places: Mapping[int, object], since: datetime) -> Select[*tuple[Any, ...]]:
    """Visits from a moment on, those ahead too, with what was on offer as they were booked."""
    columns = (
        Appointment.location_id, Appointment.starts_at, Appointment.ends_at, Appointment.buffer_minutes,
        Appointment.status, Appointment.booked_at, Appointment.imported_as, AccessRequest.here_hours,
        AccessRequest.taken_hours,
    )  # fmt: skip
    return (
        select(*columns)
        .outerjoin(AccessRequest, AccessRequest.appointment_id == Appointment.id)
        .where(Appointment.location_id.in_(places), Appointment.starts_at >= since, Appointment.status != Status.HELD)
    )


def _free(places: Mapping[int, object], since: datetime, until: datetime) -> Select[int, datetime]:
    """When there was a free cell at each place."""
    free = Slot.fit > literal_column("0"), Slot.starts_at >= since, Slot.starts_at < until
    return select(Slot.location_id, Slot.starts_at).where(*free, Slot.location_id.in_(places)).distinct()


def _visit(row: Row[Any]) -> Visit:
    cells = (next_cell(row.ends_at + timedelta(minutes=row.buffer_minutes)) - cell_of(row.starts_at)) // CELL
    if row.imported_as is not None:
        return Visit(row.starts_at, cells, row.status, None, None, None)
    if row.taken_hours is None:
        return Visit(row.starts_at, cells, row.status, row.booked_at, row.starts_at - row.booked_at, None)
    taken, offered = row.taken_hours * HOUR, row.here_hours * HOUR
    return Visit(row.starts_at, cells, row.status, row.booked_at, taken, offered)
