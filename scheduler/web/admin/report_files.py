"""Reports as files: a row for each therapist's month at a location, to be counted further in a spreadsheet."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from flask_babel import gettext
from sqlalchemy.orm import Session

from scheduler.csv_cells import Cell
from scheduler.services import reports
from scheduler.services.reports import Visit, Wanted, Where
from scheduler.timeline import DAY
from scheduler.web.admin import figures
from scheduler.web.admin.figures import CELLS_AN_HOUR, Names

Table = tuple[list[str], Iterator[tuple[Cell, ...]]]


def utilization(session: Session, wanted: Wanted, names: Names) -> Table:
    found = reports.utilization(session, wanted)
    header = [*_where(), gettext("Planned hours"), gettext("Booked hours"), gettext("Booked")]
    rows = ((where, found[where]) for where in names.in_order(found))
    return header, (
        (*names.cells(where), one.planned / CELLS_AN_HOUR, one.taken / CELLS_AN_HOUR, _share(one.share))
        for where, one in rows
    )


def lead_time(session: Session, wanted: Wanted, names: Names) -> Table:
    found = reports.leads(session, wanted)
    header = [
        *_where(),
        gettext("Visits"),
        gettext("Half at most, days"),
        gettext("Nine in ten at most, days"),
    ]
    rows = ((where, reports.ahead(found[where])) for where in names.in_order(found))
    return header, (
        (*names.cells(where), one.visits, _days(one.median), _days(one.p90)) for where, one in rows if one is not None
    )


def no_shows(session: Session, wanted: Wanted, names: Names, now: datetime) -> Table:
    found = reports.visits(session, wanted, now=now)
    header = [*_where(), gettext("Booked ahead"), gettext("Visits"), gettext("Came due"), gettext("No-shows")]
    header.append(gettext("Share"))
    return header, _missed(found, names)


def _missed(found: Mapping[Where, Mapping[Visit, int]], names: Names) -> Iterator[tuple[Cell, ...]]:
    for where in names.in_order(found):
        for name, label in figures.leads().items():
            one = reports.kept(found[where], name)
            if one.visits:
                yield (*names.cells(where), label, one.visits, one.came_due, one.missed, _share(one.share))


def cancellations(session: Session, wanted: Wanted, names: Names) -> Table:
    found = reports.cancellations(session, wanted)
    header = [*_where(), gettext("Before the start"), gettext("By"), gettext("Canceled")]
    return header, (
        (*names.cells(where), str(figures.WARNINGS[warning]), str(figures.WHO[who]), found[where][warning, who])
        for where in names.in_order(found)
        for warning in figures.WARNINGS
        for who in figures.WHO
        if (warning, who) in found[where]
    )


def reminders(session: Session, wanted: Wanted, names: Names) -> Table:
    found = reports.reminders(session, wanted)
    header = [*_where(), gettext("Reminders"), gettext("How many"), gettext("Of these perhaps sent twice")]
    return header, (
        (*names.cells(where), figures.fate_in_words(one.fate, one.reason), count, count if one.twice else 0)
        for where in names.in_order(found)
        for one, count in sorted(found[where].items(), key=str)
    )


def _where() -> list[str]:
    return [gettext("Location"), gettext("Therapist"), gettext("Month")]


def _share(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _days(length: timedelta) -> float:
    return round(length / DAY, 2)
