"""What reports say, in words: each figure is bars and the rows of a table, of the very same numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from babel import numbers
from flask_babel import gettext
from flask_babel import lazy_gettext as _

from scheduler import words
from scheduler.csv_cells import Cell
from scheduler.models import Fate, Location, Therapist
from scheduler.services import access_rules, reports
from scheduler.services.reports import Canceller, Cells, Reminded, Trouble, Visit, Wanted, Where
from scheduler.timeline import CELL, DAY, HOUR
from scheduler.web.language import language

CELLS_AN_HOUR = HOUR // CELL
SCALES = (0.1, 0.25, 0.5, 1.0)  # what the full width of a picture may stand for
Key = TypeVar("Key")
WHO = {
    Canceller.PATIENT: _("The patient, online"),
    Canceller.STAFF: _("Staff"),
    Canceller.PROGRAM: _("The program"),
    Canceller.UNKNOWN: _("Not recorded"),
}
USUAL = (Canceller.PATIENT, Canceller.STAFF)
FATES = {
    Fate.SENT: _("Sent"),
    Fate.OWED: _("Still to be sent"),
    Fate.SUPPRESSED: _("Not needed"),
    Fate.FAILED: _("Failed"),
}
REASONS: dict[str, Any] = {
    "cancelled": _("the visit was canceled"),
    "moved": _("the visit was moved"),
    "no e-mail address": _("no e-mail address"),
    "the visit has begun": _("the visit had begun"),
    "reminders are switched off": _("reminders are switched off"),
    "demo patient": _("invented patient"),
    Trouble.REFUSED: _("the mail server refused it"),
    Trouble.GAVE_UP: _("the mail server never took it"),
    Trouble.BROKE_OFF: _("every try broke off"),
}
WARNINGS = {
    "< 2 h": _("Less than 2 hours"),
    "2–24 h": _("2 to 24 hours"),
    "24–48 h": _("24 to 48 hours"),
    "2–7 d": _("2 to 7 days"),
    "> 7 d": _("More than 7 days"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table and its bar: `told` beside it, `length` as a share of what a full one stands for.

    A row that sums up the others has no bar: its length is None.
    """

    label: str
    cells: Sequence[str]
    told: str
    length: float | None


@dataclass(frozen=True, slots=True)
class Figure:
    """`unit` says what the bars measure, `full` what a full one stands for."""

    id: str
    heading: str
    unit: str
    full: str
    columns: Sequence[str]
    rows: Sequence[Row]

    @property
    def bars(self) -> list[Row]:
        return [row for row in self.rows if row.length is not None]

    @property
    def description(self) -> str:
        """The picture in words, for who does not see it."""
        return "; ".join(f"{row.label}: {row.told}" for row in self.bars)


@dataclass(frozen=True, slots=True)
class Names:
    """Locations and therapists by their ids."""

    places: Mapping[int, str]
    people: Mapping[int, str]

    @classmethod
    def of(cls, places: Iterable[Location], people: Iterable[Therapist]) -> "Names":
        return cls({place.id: place.name for place in places}, {person.id: person.name for person in people})

    def cells(self, where: Where) -> tuple[Cell, ...]:
        return self.places[where.location_id], self.people[where.therapist_id], f"{where.month:%Y-%m}"

    def in_order(self, rows: Mapping[Where, Any]) -> list[Where]:
        return sorted(rows, key=self.cells)


def percent(share: float | None) -> str:
    """In percent, with one decimal where there is one; a dash where there is nothing to share."""
    if share is None:
        return "–"
    told = numbers.format_percent(round(share, 3), locale=language(), decimal_quantization=False)
    return " ".join(told.split())


def percent_of_goal(share: float | None) -> str:
    """The same for a share that has a goal to reach: cut rather than rounded, so that nothing short of it shows it."""
    return percent(None if share is None else access_rules.cut(share))


def number(value: float, decimals: int = 1) -> str:
    return numbers.format_decimal(round(value, decimals), locale=language())


def days(length: timedelta) -> str:
    return number(length / DAY)


def leads() -> dict[str, str]:
    """How far ahead in words, by the names of the groups."""
    named = {group.name: gettext("%(days)s days", days=group.name) for group in reports.LEADS}
    return named | {reports.UNKNOWN: gettext("Not known (moved in)")}


def utilization(cells: Mapping[Where, Cells], wanted: Wanted, names: Names) -> list[Figure]:
    """By month, by location and by therapist."""
    months = {month: words.month_in_words(month, language()) for month in wanted.months}
    by_month = dict.fromkeys(wanted.months, Cells()) | reports.by(cells, lambda where: where.month)
    by_place = reports.by(cells, lambda where: where.location_id)
    by_person = reports.by(cells, lambda where: where.therapist_id)
    return [
        _utilization("month", gettext("By month"), gettext("Month"), by_month, months),
        _utilization("location", gettext("By location"), gettext("Location"), by_place, names.places),
        _utilization("therapist", gettext("By therapist"), gettext("Therapist"), by_person, names.people),
    ]


def _utilization(id_: str, heading: str, what: str, cells: Mapping[Key, Cells], named: Mapping[Key, str]) -> Figure:
    rows = [(named[key], cells[key]) for key in named if key in cells]
    if len(rows) > 1:
        rows.append((gettext("Together"), sum(cells.values(), Cells())))
    return Figure(
        id=f"by-{id_}",
        heading=heading,
        unit=gettext("Booked share of the planned hours"),
        full=percent(1),
        columns=[what, gettext("Planned hours"), gettext("Booked hours"), gettext("Booked")],
        rows=[
            Row(
                label,
                [number(one.planned / CELLS_AN_HOUR), number(one.taken / CELLS_AN_HOUR), percent(one.share)],
                percent(one.share),
                (one.share or 0) if place < len(cells) else None,
            )
            for place, (label, one) in enumerate(rows)
        ],
    )


def lead_time(counts: Mapping[Visit, int]) -> Figure:
    """Which share of the visits was booked how far ahead."""
    kept = {name: reports.kept(counts, name).visits for name in leads()}
    shown = {label: kept[name] for name, label in leads().items() if kept[name] or name != reports.UNKNOWN}
    columns = [gettext("Booked ahead"), gettext("Visits"), gettext("Share")]
    return _shares("lead-time", gettext("Visits by how far ahead they were booked"), columns, shown)


def no_shows(counts: Mapping[Visit, int]) -> Figure:
    """Which share of the visits that came due was missed, by how far ahead they were booked."""
    kept = {label: reports.kept(counts, name) for name, label in leads().items()}
    shown = {label: one for label, one in kept.items() if one.came_due or label != leads()[reports.UNKNOWN]}
    highest = max((one.share or 0 for one in shown.values()), default=0)
    full = next(scale for scale in SCALES if scale >= highest)
    every = (gettext("Together"), reports.kept(counts))
    return Figure(
        id="no-shows",
        heading=gettext("No-shows by how far ahead the visit was booked"),
        unit=gettext("Missed share of the visits that came due"),
        full=percent(full),
        columns=[gettext("Booked ahead"), gettext("Came due"), gettext("No-shows"), gettext("Share")],
        rows=[
            Row(
                label,
                [number(one.came_due), number(one.missed), percent(one.share)],
                percent(one.share),
                None if place == len(shown) else (one.share or 0) / full,
            )
            for place, (label, one) in enumerate([*shown.items(), every])
        ],
    )


def cancellations(counts: Mapping[tuple[str, Canceller], int]) -> list[Figure]:
    """By how long before the start, and by whom."""
    before = reports.summed((warning, count) for (warning, _who), count in counts.items())
    by_whom = reports.summed((who, count) for (_warning, who), count in counts.items())
    return [
        _shares(
            "cancelled-before",
            gettext("Canceled how long before the start"),
            [gettext("Before the start"), gettext("Canceled"), gettext("Share")],
            {str(label): before.get(name, 0) for name, label in WARNINGS.items()},
        ),
        _shares(
            "cancelled-by",
            gettext("Canceled by whom"),
            [gettext("By"), gettext("Canceled"), gettext("Share")],
            {str(label): by_whom.get(who, 0) for who, label in WHO.items() if by_whom.get(who) or who in USUAL},
        ),
    ]


def reminders(counts: Mapping[Reminded, int]) -> Figure:
    """What became of the reminders; each reason on its own."""
    found = reports.summed(((one.fate, one.reason), count) for one, count in counts.items())
    order = list(FATES)
    in_order = sorted(found, key=lambda one: (order.index(Fate(one[0])), -found[one]))
    shown = {fate_in_words(fate, None): 0 for fate in (Fate.SENT, Fate.OWED)}
    shown |= {fate_in_words(*one): found[one] for one in in_order}
    columns = [gettext("Reminders"), gettext("How many"), gettext("Share")]
    return _shares("reminders", gettext("What became of the reminders"), columns, shown)


def fate_in_words(fate: str, reason: str | None) -> str:
    named = str(FATES[Fate(fate)])
    return f"{named}: {REASONS.get(reason, reason)}" if reason else named


def _shares(id_: str, heading: str, columns: Sequence[str], counts: Mapping[str, int]) -> Figure:
    """Counts and what share of all they are."""
    whole = sum(counts.values())
    rows = []
    for label, count in counts.items():
        share = reports.share(count, whole)
        rows.append(Row(label, [number(count), percent(share)], percent(share), share or 0))
    rows.append(Row(gettext("Together"), [number(whole), percent(reports.share(whole, whole))], "", None))
    return Figure(id_, heading, gettext("Share of all"), percent(1), columns, rows)
