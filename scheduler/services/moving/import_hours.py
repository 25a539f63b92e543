"""Weekly working hours from another program."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, datetime

from sqlalchemy.orm import Session

from scheduler.models import Location, Therapist, WorkingHours
from scheduler.services import audit, consequences, hours
from scheduler.services.audit import Actor
from scheduler.services.hours import MOST_WEEKS, Shift
from scheduler.services.moving import import_places
from scheduler.services.moving.import_lines import (
    GRID,
    Cells,
    File,
    Line,
    Outcome,
    Trouble,
    clock_of,
    lines,
    minutes_of,
    standby_of,
    weekday_of,
    whole_number,
)
from scheduler.timeline import DAY_MINUTES, first_clash, local_date, zone_of


def hours_lines(session: Session, file: File, *, now: datetime) -> Iterator[Line]:
    """Hours are known by who, where, weekday and times; those that would overlap others are refused, naming both."""
    therapists, locations = import_places.therapists(session), import_places.locations(session)
    kept: dict[int, list[tuple[int, Shift]]] = defaultdict(list)  # with the number of the line, 0 for what is here
    for shift in hours.shifts(session, Location.active):
        kept[shift.therapist_id].append((0, shift))
    for cells in lines(file):
        therapist = cells.need("therapist", therapists)
        location = cells.read("location", locations) or locations.only
        if location is None and not cells.given.get("location"):
            cells.note("location", Trouble.MISSING)
        asked = _shift(cells, therapist, location, now)
        if asked is None or cells.problems:
            yield cells.line(None)
            continue
        if any(_same(asked, other, cells, now) for number, other in kept[asked.therapist_id] if number == 0):
            yield cells.line(None, Outcome.KNOWN)
            continue
        _note_clash(cells, asked, kept[asked.therapist_id], now)
        line = cells.line(asked)
        if line.row is not None:
            kept[asked.therapist_id].append((cells.number, asked))
        yield line


def store_hours(session: Session, new: Sequence[Shift], *, by: Actor, now: datetime) -> None:
    """Let people work then; the times can be booked at once. The caller is alone (`consequences.alone`)."""
    rows = [
        WorkingHours(
            therapist_id=shift.therapist_id,
            location_id=shift.location_id,
            weekday=shift.weekday,
            opens_minute=shift.opens_minute,
            closes_minute=shift.closes_minute,
            valid_from=shift.valid_from,
            valid_until=shift.valid_until,
            every_weeks=shift.every_weeks,
            standby=shift.standby,
            opens_by_rule=shift.opens_by_rule,
        )
        for shift in new
    ]
    with consequences.weighed(session, {row.therapist_id for row in rows}, agreed=None, now=now):
        session.add_all(rows)
        session.flush()
    for row in rows:
        audit.record(session, "working_hours.added", row, by=by, now=now, **hours.told(row))


def _shift(cells: Cells, therapist: Therapist | None, location: Location | None, now: datetime) -> Shift | None:
    weekday = cells.need("weekday", weekday_of)
    opens, closes = cells.need("opens", minutes_of), cells.need("closes", minutes_of)
    first, last = cells.date("valid_from"), cells.date("valid_until")
    if therapist is None or location is None or weekday is None or opens is None or closes is None:
        return None
    for column, minutes in (("opens", opens), ("closes", closes)):
        if minutes % GRID:
            cells.note(column, Trouble.OFF_GRID, clock_of(minutes))
    if not opens < closes <= opens + DAY_MINUTES or opens >= DAY_MINUTES:
        cells.note("closes", Trouble.ORDER, clock_of(closes))
    today = local_date(now, zone_of(location.time_zone))
    if last is not None and last < (first or today):
        cells.note("valid_until", Trouble.ORDER, last.isoformat())
    standby, opens_by_rule = cells.read("standby", standby_of) or (False, False)
    return Shift(
        id=0,
        therapist_id=therapist.id,
        location_id=location.id,
        weekday=weekday,
        opens_minute=opens,
        closes_minute=closes,
        valid_from=first or today,
        valid_until=last,
        every_weeks=cells.read("every_weeks", whole_number(1, MOST_WEEKS)) or 1,
        standby=standby,
        opens_by_rule=opens_by_rule,
        therapist=therapist.name,
        location=location.name,
        time_zone=location.time_zone,
        location_active=True,
    )


def _same(shift: Shift, other: Shift, cells: Cells, now: datetime) -> bool:
    """Whether these hours are here already; where the file tells no first day or no standby, whatever theirs is."""
    alike = _times(shift) == _times(other) and (shift.standby == other.standby or "standby" not in _told(cells))
    return alike and (
        shift.valid_from == other.valid_from or ("valid_from" not in _told(cells) and not other.over(now))
    )


def _times(shift: Shift) -> tuple[int, int, int, int, date | None, int]:
    when = shift.weekday, shift.opens_minute, shift.closes_minute
    return shift.location_id, *when, shift.valid_until, shift.every_weeks


def _told(cells: Cells) -> set[str]:
    return {name for name, text in cells.given.items() if text}


def _note_clash(cells: Cells, shift: Shift, kept: Sequence[tuple[int, Shift]], now: datetime) -> None:
    zone = zone_of(shift.time_zone)
    for number, other in kept:
        if first_clash(shift, zone, other, zone_of(other.time_zone), since=now) is not None:
            times = f"{other.location}, {clock_of(other.opens_minute)}–{clock_of(other.closes_minute)}"
            cells.note("opens", Trouble.CLASH, f"{times} (#{number})" if number else times)
            return
