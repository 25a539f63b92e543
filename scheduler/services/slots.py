"""The cells of the booking grid: planned from weekly hours, claimed by visits, freed again.

Whoever writes cells locks the therapist first (several: in id order), writes, and refits. The lock keeps PostgreSQL
free of deadlocks; the condition in the UPDATE, the key and the trigger decide who wins (docs/decisions/0003-slots.md).
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import groupby, pairwise
from typing import Any

from sqlalchemy import (
    BindParameter,
    CursorResult,
    Delete,
    TextClause,
    Update,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Session

from scheduler.db import UtcDateTime
from scheduler.errors import SlotTaken
from scheduler.models import Appointment, AppointmentType, ClinicPolicy, Slot, Therapist
from scheduler.services.planned import Rows, planned_time
from scheduler.timeline import CELL, DAY, Stretch, next_cell

CELLS_A_STATEMENT = 500
WINDOW = 21 * DAY  # some 800 cells: under 20 ms on SQLite, so no booking waits long behind the job

# `{cell}` is the length of a cell: microseconds on SQLite, an interval on PostgreSQL, and `{until_protected}` how many
# cells there are until the next protected one. The planned stretches come as one
# JSON document, so that the database makes the cells itself; every statement touches only what differs.
CELL_LENGTH = {"sqlite": "900000000", "postgresql": "INTERVAL '15 minutes'"}
UNTIL_PROTECTED = {
    "sqlite": "(next_protected - starts_at) / 900000000",
    "postgresql": "CAST(EXTRACT(epoch FROM next_protected - starts_at) / 900 AS integer)",
}
STRETCHES = {
    "sqlite": """
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') * 1000000,
            json_extract(value, '$[3]'), json_extract(value, '$[4]') FROM json_each(:stretches)""",
    "postgresql": """
        SELECT (value->>0)::int, (value->>1)::int, to_timestamp((value->>2)::bigint),
            (value->>3)::int, (value->>4)::int = 1 FROM json_array_elements(CAST(:stretches AS json))""",
}
PLANNED = """
    WITH RECURSIVE step(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM step WHERE i + 1 < :longest),
    stretch(therapist_id, location_id, starts_at, cells, needling) AS ({stretches}),
    planned AS MATERIALIZED (
        SELECT therapist_id, location_id, starts_at + i * {cell} AS starts_at, needling,
            CASE WHEN cells - i < :cap THEN cells - i ELSE :cap END AS fit
        FROM stretch JOIN step ON i < cells)
"""
DELETE_UNPLANNED = (
    PLANNED
    + """
    DELETE FROM slot WHERE therapist_id IN :therapists AND starts_at >= :start AND starts_at < :end
        AND appointment_id IS NULL AND (therapist_id, starts_at, location_id, needling) NOT IN (
            SELECT therapist_id, starts_at, location_id, needling FROM planned)
"""
)
INSERT_MISSING = (
    PLANNED
    + """
    INSERT INTO slot (therapist_id, starts_at, location_id, needling, fit, fit_open, protected)
    SELECT therapist_id, starts_at, location_id, needling, fit, fit, false FROM planned WHERE true
    ON CONFLICT (therapist_id, starts_at) DO NOTHING
"""
)
COUNT_UNPLANNED = (
    PLANNED
    + """
    SELECT count(*) FROM slot WHERE starts_at >= :start AND appointment_id IS NULL
        AND (therapist_id, starts_at, location_id, needling) NOT IN (
            SELECT therapist_id, starts_at, location_id, needling FROM planned)
"""
)
# Free cells that follow each other share an island: their start less as many cells as come before them is the same.
FITTING = """
    free AS (
        SELECT therapist_id, starts_at, location_id, protected, starts_at - {cell} * row_number()
            OVER (PARTITION BY therapist_id, location_id ORDER BY starts_at) AS island
        FROM slot WHERE appointment_id IS NULL AND {where}),
    run AS (
        SELECT therapist_id, starts_at, row_number() OVER from_the_end AS cells,
            min(CASE WHEN protected THEN starts_at END) OVER from_the_end AS next_protected
        FROM free WINDOW from_the_end AS (PARTITION BY therapist_id, location_id, island ORDER BY starts_at DESC)),
    counted AS (
        SELECT therapist_id, starts_at, cells,
            CASE WHEN next_protected IS NULL THEN cells ELSE {until_protected} END AS open_cells FROM run),
    fitting AS (
        SELECT therapist_id, starts_at, CASE WHEN cells < :cap THEN cells ELSE :cap END AS fit,
            CASE WHEN open_cells < :cap THEN open_cells ELSE :cap END AS fit_open FROM counted)
"""
MISFIT = "(slot.fit <> fitting.fit OR slot.fit_open <> fitting.fit_open)"
FITTING_NEAR = FITTING.replace("{where}", "therapist_id IN :therapists AND starts_at >= :before AND starts_at < :after")
REFIT = f"""
    WITH {FITTING_NEAR}
    UPDATE slot SET fit = fitting.fit, fit_open = fitting.fit_open FROM fitting
    WHERE slot.therapist_id = fitting.therapist_id AND slot.starts_at = fitting.starts_at
        AND slot.starts_at < :end AND {MISFIT}
"""
COUNT_MISFITS = f"""
    WITH {FITTING.replace("{where}", "true")}
    SELECT count(*) FROM slot JOIN fitting
        ON slot.therapist_id = fitting.therapist_id AND slot.starts_at = fitting.starts_at
    WHERE {MISFIT}
"""
# What is planned and missing, free and not planned, or free with a `fit` that the longest visit has outgrown.
DIFFERENCES = f"""
    {PLANNED}, {FITTING_NEAR}
    SELECT min(starts_at) AS first, max(starts_at) AS last FROM (
        SELECT p.starts_at FROM planned p
            LEFT JOIN slot s ON s.therapist_id = p.therapist_id AND s.starts_at = p.starts_at
        WHERE s.therapist_id IS NULL
        UNION ALL
        SELECT starts_at FROM slot WHERE therapist_id IN :therapists AND starts_at >= :start AND starts_at < :end
            AND appointment_id IS NULL AND (therapist_id, starts_at, location_id, needling) NOT IN (
                SELECT therapist_id, starts_at, location_id, needling FROM planned)
        UNION ALL
        SELECT slot.starts_at FROM slot JOIN fitting
            ON slot.therapist_id = fitting.therapist_id AND slot.starts_at = fitting.starts_at
        WHERE slot.starts_at < :end AND {MISFIT}) AS difference
"""


@dataclass(frozen=True, slots=True)
class Changes:
    """How many cells a plan added and removed."""

    added: int = 0
    removed: int = 0

    def __add__(self, other: "Changes") -> "Changes":
        return Changes(self.added + other.added, self.removed + other.removed)


def lock(session: Session, therapist_ids: Collection[int]) -> None:
    """Take the therapists' rows, in id order; on SQLite the whole database is ours already (BEGIN IMMEDIATE)."""
    rows = select(Therapist.id).where(Therapist.id.in_(therapist_ids)).order_by(Therapist.id)
    session.execute(rows.with_for_update(key_share=True)).all()


def therapists(session: Session) -> Sequence[int]:
    """Everybody who has, had or may have cells, in id order."""
    return session.scalars(select(Therapist.id).order_by(Therapist.id)).all()


def claim(session: Session, appointment: Appointment, *, release: datetime) -> None:
    """Take the cells of a new visit or raise SlotTaken. The therapist must be locked; the database decides.

    A visit that begins by `release` may have protected cells, too.
    """
    cells = (
        update(Slot)
        .where(
            Slot.therapist_id == appointment.therapist_id,
            Slot.location_id == appointment.location_id,
            Slot.starts_at >= appointment.starts_at,
            Slot.starts_at < appointment.slots_end,
            Slot.appointment_id.is_(None),
            true() if appointment.starts_at <= release else Slot.protected.is_(False),
        )
        .values(appointment_id=appointment.id, fit=0, fit_open=0)
    )
    if _rows_changed(session, cells) != (appointment.slots_end - appointment.starts_at) // CELL:
        raise SlotTaken("Somebody else has just taken this time.")
    refit(session, [appointment.therapist_id], appointment.starts_at, appointment.slots_end)


def claim_anyhow(session: Session, appointments: Sequence[Appointment]) -> None:
    """Take every cell that visits made elsewhere touch, planned or not, or raise SlotTaken where one is taken.

    A cell that the plan lacks there is made as a taken one; when its visit frees it, it is in the plan or it goes
    (`free`). So is one where the plan has the therapist at another location. The therapists must be locked; the key
    decides, since only free cells are put away first.
    """
    for therapist_id, own in groupby(sorted(appointments, key=_therapist_and_start), key=lambda one: one.therapist_id):
        visits = list(own)
        touched = {cell: visit for visit in visits for cell in _cells(visit)}
        if len(touched) != sum(1 for visit in visits for _ in _cells(visit)):
            raise SlotTaken("Two of these visits touch the same quarter of an hour.")
        free_there = (Slot.therapist_id == therapist_id, Slot.appointment_id.is_(None))
        in_order = list(touched)
        for first in range(0, len(in_order), CELLS_A_STATEMENT):
            some = in_order[first : first + CELLS_A_STATEMENT]
            _rows_changed(session, delete(Slot).where(*free_there, Slot.starts_at.in_(some)))
        rows = [
            {
                "therapist_id": therapist_id,
                "starts_at": cell,
                "location_id": visit.location_id,
                "appointment_id": visit.id,
                "fit": 0,
                "fit_open": 0,
                "needling": False,
            }
            for cell, visit in touched.items()
        ]
        session.execute(insert(Slot), rows)
        refit(session, [therapist_id], visits[0].slots_start, max(visit.slots_end for visit in visits))


def free(session: Session, appointment: Appointment, *, now: datetime) -> None:
    """Give back all cells of a visit; those still ahead and in the plan are on offer again at once.

    The therapist must be locked.
    """
    freed = update(Slot).where(Slot.appointment_id == appointment.id)
    _rows_changed(session, freed.values(appointment_id=None, fit=1, fit_open=case((Slot.protected, 0), else_=1)))
    replan(session, [appointment.therapist_id], appointment.slots_start, appointment.slots_end, now=now)


def replan(
    session: Session,
    therapist_ids: Collection[int],
    start: datetime,
    end: datetime,
    *,
    now: datetime,
    stretches: Sequence[Stretch] | None = None,
) -> Changes:
    """Bring the cells of locked therapists in [start, end) in line with hours and licences; taken cells stay.

    Whoever knows already what is planned in all of the window gives it as `stretches`.
    """
    changes = plan_cells(session, therapist_ids, start, end, now=now, stretches=stretches)
    refit(session, therapist_ids, start, end)
    return changes


def fill(
    session: Session, therapist_ids: Collection[int], stretches: Sequence[Stretch], start: datetime, end: datetime
) -> Changes | None:
    """Make the cells of [start, end) where locked therapists have none there yet; None, and nothing done, if one has.

    `stretches` are all that is planned there. Much quicker than `replan`: nothing can differ, and what fits follows
    from the stretches, but where a neighbour goes on.
    """
    there = select(Slot.starts_at).where(
        Slot.therapist_id.in_(therapist_ids), Slot.starts_at >= start, Slot.starts_at < end
    )
    if session.execute(there.limit(1)).first():
        return None
    added = _changed(session, INSERT_MISSING, **_bound(session, stretches))
    if any(one.ends_at == other.starts_at for one, other in pairwise(stretches)):
        refit(session, therapist_ids, start, end)
    else:
        for edge in (start, end):
            if any(edge in {one.starts_at, one.ends_at} for one in stretches):
                refit(session, therapist_ids, edge, edge)
    return Changes(added)


def plan_cells(
    session: Session,
    therapist_ids: Collection[int],
    start: datetime,
    end: datetime,
    *,
    now: datetime,
    stretches: Sequence[Stretch] | None = None,
) -> Changes:
    """Delete free cells that are no longer planned and insert those that are missing; the caller refits.

    Cells that have begun are history: they are neither added nor removed.
    """
    plan_from = next_cell(max(start, now))
    if stretches is None:
        stretches = planned_time(session, therapist_ids, plan_from, end)
    plan = _bound(session, stretches)
    removed = _changed(session, DELETE_UNPLANNED, therapists=list(therapist_ids), start=plan_from, end=end, **plan)
    added = _changed(session, INSERT_MISSING, **plan)
    return Changes(added, removed)


def _bound(session: Session, stretches: Sequence[Stretch]) -> dict[str, Any]:
    """What the statements over PLANNED bind: one document of stretches, and two bounds of their cells."""
    rows = [(s.therapist_id, s.location_id, int(s.starts_at.timestamp()), s.cells, int(s.needling)) for s in stretches]
    longest = max((s.cells for s in stretches), default=0)
    return {"stretches": json.dumps(rows), "longest": longest, "cap": longest_visit(session)}


def horizon_end(policy: ClinicPolicy, now: datetime) -> datetime:
    """Where the plan ends: the first midnight (UTC) after the last bookable start's day, so it moves once a day."""
    last = now + timedelta(days=policy.booking_horizon_days + 1)
    return last.replace(hour=0, minute=0, second=0, microsecond=0) + DAY


def work_ahead(
    session: Session, therapist_id: int, *, rows: Rows | None = None, until: datetime, now: datetime
) -> list[tuple[datetime, datetime]]:
    """Where a therapist's cells differ from the plan until then, in windows of one short step each.

    Reads only, so that a job which finds nothing to do, as most do, holds up nobody.
    """
    start = next_cell(now)
    rows = rows or Rows.read(session, [therapist_id], start, until)
    values = _bound(session, rows.time([therapist_id], start, until)) | {
        "therapists": [therapist_id],
        "start": start,
        "end": until,
        "before": start,
        "after": until + longest_visit(session) * CELL,
    }
    difference = _statement(DIFFERENCES, session.get_bind().dialect.name).columns(first=UtcDateTime, last=UtcDateTime)
    first, last = session.execute(difference, values).one()
    windows = []
    while first is not None and first <= last:
        ends = min(first + WINDOW, last + CELL)
        windows.append((first, ends))
        first = ends
    return windows


def longest_visit(session: Session) -> int:
    """Cells that the longest appointment type needs, buffer included: the cap of `fit`."""
    longest = func.max(AppointmentType.minutes + AppointmentType.buffer_minutes)
    return (session.execute(select(longest)).scalar_one() or 15) // 15


def count_misfits(session: Session) -> int:
    """Free cells whose `fit` or `fit_open` is not what a recount of the whole calendar gives."""
    return int(_run(session, COUNT_MISFITS, cap=longest_visit(session)).scalar_one())


def count_unplanned(session: Session, *, now: datetime) -> int:
    """Free cells ahead that the hours and licences, as they now stand, do not give."""
    last = session.scalars(select(Slot.starts_at).order_by(Slot.starts_at.desc()).limit(1)).first() or now
    plan = _bound(session, planned_time(session, therapists(session), next_cell(now), max(last, now) + CELL))
    return int(_run(session, COUNT_UNPLANNED, start=next_cell(now), **plan).scalar_one())


def refit(session: Session, therapist_ids: Collection[int], start: datetime, end: datetime) -> None:
    """Recount `fit` and `fit_open` where a change of [start, end) can have changed them."""
    cap = longest_visit(session)
    reach = cap * CELL
    _run(session, REFIT, therapists=list(therapist_ids), before=start - reach, after=end + reach, end=end, cap=cap)


def _therapist_and_start(appointment: Appointment) -> tuple[int, datetime]:
    return appointment.therapist_id, appointment.starts_at


def _cells(appointment: Appointment) -> Iterator[datetime]:
    """Every cell that a visit touches, its buffer included."""
    cell = appointment.slots_start
    while cell < appointment.slots_end:
        yield cell
        cell += CELL


def _rows_changed(session: Session, change: Update | Delete) -> int:
    result = session.execute(change, execution_options={"synchronize_session": False})
    assert isinstance(result, CursorResult)  # noqa: S101 for the type checker: an UPDATE always gives one
    return result.rowcount


def _run(session: Session, sql: str, **values: Any) -> CursorResult[Any]:  # noqa: ANN401 whatever the statement binds
    result = session.execute(_statement(sql, session.get_bind().dialect.name), values)
    assert isinstance(result, CursorResult)  # noqa: S101 for the type checker: text always gives one
    return result


def _changed(session: Session, sql: str, **values: Any) -> int:  # noqa: ANN401
    """Run a change; return its rows, which Python's SQLite driver does not count where a statement begins with WITH."""
    result = _run(session, sql, **values)
    sqlite = session.get_bind().dialect.name == "sqlite"
    return int(session.execute(select(func.changes())).scalar_one()) if sqlite else result.rowcount


@cache
def _statement(sql: str, dialect: str) -> TextClause:
    types: dict[str, BindParameter[Any]] = {"therapists": bindparam("therapists", expanding=True)} | {
        name: bindparam(name, type_=UtcDateTime()) for name in ("start", "end", "before", "after")
    }
    used = [bind for name, bind in types.items() if re.search(rf":{name}\b", sql)]
    parts = {
        "cell": CELL_LENGTH[dialect],
        "stretches": STRETCHES[dialect],
        "until_protected": UNTIL_PROTECTED[dialect],
    }
    return text(sql.format(**parts)).bindparams(*used)
