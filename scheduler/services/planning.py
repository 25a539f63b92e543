"""Planning ahead: every calendar up to the horizon, in steps so short that no booking waits long behind one.

A note for each therapist tells from what their cells were last made. Where that still holds, nothing of them is looked
at; where only the horizon has moved, its new days are made; all else is compared with the plan. Once a day everything
is compared, whatever the notes say (docs/decisions/0018-planner.md).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from scheduler.db import insert_into
from scheduler.models import CalendarPlan, Slot, Therapist
from scheduler.services import practice, slots
from scheduler.services.planned import Rows
from scheduler.services.slots import Changes
from scheduler.timeline import DAY, Stretch, next_cell

COMPARED_EVERY = DAY
THERAPISTS_A_CHUNK = 36
# Some 2,000 cells at most: under 20 ms on SQLite. Of many people on a few days rather than of few on many, since those
# of one time stand beside each other in two of the indices: fewer pages are written.
THERAPIST_DAYS_A_STEP, DAYS_A_STEP = 63, 7


@dataclass(frozen=True, slots=True)
class Due:
    """A calendar to be planned until then: made from `since` on or, where that is None, all of it compared.

    `basis` is what it follows from now, `compared_at` when all of it will have been compared last.
    """

    therapist_id: int
    basis: str
    since: datetime | None
    until: datetime
    compared_at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """A window [start, end) of some calendars, one short transaction, with what is planned there by their bases."""

    calendars: Sequence[Due]
    start: datetime
    end: datetime
    stretches: Sequence[Stretch]


def due(session: Session, *, now: datetime) -> list[Sequence[Due]]:
    """The calendars that may differ from their plan, those that are planned alike together. Few queries at any size."""
    until = slots.horizon_end(practice.policy(session), now)
    everybody = slots.therapists(session)
    bases = _bases(session, everybody, until, now)
    notes = {note.therapist_id: note for note in session.scalars(select(CalendarPlan))}
    has_cells = exists().where(Slot.therapist_id == Therapist.id)
    empty = set(session.scalars(select(Therapist.id).where(~has_cells)))
    found = []
    for whose in everybody:
        note = notes.get(whose)
        if note and note.basis == bases[whose] and now - note.compared_at < COMPARED_EVERY:
            if note.until < until:
                found.append(Due(whose, bases[whose], max(note.until, next_cell(now)), until, note.compared_at))
        else:
            found.append(Due(whose, bases[whose], next_cell(now) if whose in empty else None, until, now))
    alike = groupby(sorted(found, key=_order), key=_order)
    return [chunk for _, each in alike for chunk in _in_groups(list(each), THERAPISTS_A_CHUNK)]


def _in_groups(calendars: Sequence[Due], size: int) -> Iterator[Sequence[Due]]:
    return (calendars[first : first + size] for first in range(0, len(calendars), size))


def _order(calendar: Due) -> tuple[bool, datetime]:
    """What is to be made comes before what is only compared."""
    return calendar.since is None, calendar.since or calendar.until


def steps(session: Session, calendars: Sequence[Due], *, now: datetime) -> tuple[Sequence[Due], list[Step]]:
    """What is to be done for calendars that `due` named together. Reads only: most often there is nothing.

    The calendars come with it by what they follow from now, which is what their steps are made from.
    """
    until, people = calendars[0].until, [one.therapist_id for one in calendars]
    rows = Rows.read(session, people, now, until)
    bases = _named(rows, people, slots.longest_visit(session))
    calendars = [replace(one, basis=bases[one.therapist_id]) for one in calendars]
    return calendars, [
        Step(some, start, end, stretches)
        for some, (start, end) in _windows(session, calendars, rows, now)
        if (stretches := rows.time([one.therapist_id for one in some], start, end)) or some[0].since is None
    ]


def _windows(
    session: Session, calendars: Sequence[Due], rows: Rows, now: datetime
) -> Iterator[tuple[Sequence[Due], tuple[datetime, datetime]]]:
    since, until = calendars[0].since, calendars[0].until
    if since is None:
        for one in calendars:
            for window in slots.work_ahead(session, one.therapist_id, rows=rows, until=until, now=now):
                yield [one], window
        return
    days = min(-(-(until - since) // DAY), DAYS_A_STEP)
    start = since
    while start < until:
        end = min(start + days * DAY, until)
        for some in _in_groups(calendars, THERAPIST_DAYS_A_STEP // days):
            yield some, (start, end)
        start = end


def do(session: Session, step: Step, *, now: datetime) -> Changes:
    """Bring the cells of a step in line with the plan; doing it twice changes nothing more."""
    people = [one.therapist_id for one in step.calendars]
    slots.lock(session, people)
    bases = _bases(session, people, step.calendars[0].until, now)
    if all(one.basis == bases[one.therapist_id] for one in step.calendars) and step.start >= now:
        made = slots.fill(session, people, step.stretches, step.start, step.end)
        return made or slots.replan(session, people, step.start, step.end, now=now, stretches=step.stretches)
    return slots.replan(session, people, step.start, step.end, now=now)


def note(session: Session, calendars: Collection[Due]) -> None:
    """Note what the calendars were made from, once their steps are done."""
    insert = insert_into(session, CalendarPlan)
    replaced = {name: insert.excluded[name] for name in ("basis", "until", "compared_at")}
    rows = [
        {
            "therapist_id": one.therapist_id,
            "basis": one.basis,
            "until": one.until,
            "compared_at": one.compared_at,
        }
        for one in calendars
    ]
    session.execute(insert.on_conflict_do_update(index_elements=["therapist_id"], set_=replaced), rows)


def _bases(session: Session, therapist_ids: Collection[int], until: datetime, now: datetime) -> dict[int, str]:
    """What each calendar follows from: its rows, and how many cells `fit` counts."""
    return _named(Rows.read(session, therapist_ids, now, until), therapist_ids, slots.longest_visit(session))


def _named(rows: Rows, therapist_ids: Collection[int], cap: int) -> dict[int, str]:
    return {whose: f"{basis}-{cap}" for whose, basis in rows.bases(therapist_ids).items()}
