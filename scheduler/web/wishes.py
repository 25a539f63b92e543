"""What an address wishes of the time of a visit, alike for patients and staff, and in words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from flask import request, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _

from scheduler import words
from scheduler.errors import Invalid
from scheduler.services.availability import Days, SlotName
from scheduler.services.windows import WEEKDAYS, DayPart, LocalWish
from scheduler.timeline import DAY
from scheduler.web import schemas
from scheduler.web.language import language
from scheduler.web.times import date_heading

SUNDAY_FIRST = (6, 0, 1, 2, 3, 4, 5)
PARTS = {
    DayPart.MORNING: _("Morning, before noon"),
    DayPart.AFTERNOON: _("Afternoon, noon to 5 PM"),
    DayPart.EVENING: _("Evening, from 5 PM"),
}
CHOICE = 2  # so many are one
UNKNOWN = "There is nothing with this number."  # pages name the field only
CARRIED = ("type", "location", "therapist", "language", "day_part", "weekday", "from")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a list, as the pages' macro for choices takes it."""

    id: str
    name: str
    short: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A day of the calendar: `iso` leads to its times, if it has any; `label` says all of it."""

    short: str
    label: str
    iso: str
    free: bool
    bookable: bool


@dataclass(frozen=True, slots=True)
class Strip:
    """Some weeks with the days that have times; `earlier` and `later` name the day that others begin with, if any."""

    first: str
    last: str
    weekdays: Sequence[tuple[str, str]]
    weeks: Sequence[Sequence[Cell]]
    earlier: date | None
    later: date | None


def local_wish() -> LocalWish:
    """The part of the day and the weekdays that the address names; raises Invalid for words that name none."""
    part, *more = request.args.getlist("day_part") or [""]
    if more or part not in {"", *DayPart}:
        raise Invalid("day_part", "There is no such part of the day.")
    named = [name for name in request.args.getlist("weekday") if name]
    if not set(named) <= set(WEEKDAYS):
        raise Invalid("weekday", "There is no such day of the week.")
    return LocalWish(DayPart(part) if part else None, frozenset(WEEKDAYS.index(name) for name in named))


def asked(name: str) -> str:
    """What the address says once under this name, or nothing; raises Invalid for twice."""
    first, *more = request.args.getlist(name) or [""]
    if more:
        raise Invalid(name, UNKNOWN)
    return first


def number(name: str) -> int | None:
    """An id in the address; raises Invalid for a text that is none."""
    text = asked(name)
    if text and not re.fullmatch(schemas.ID, text):
        raise Invalid(name, UNKNOWN)
    return int(text) if text else None


def after() -> tuple[datetime, int] | None:
    """The start after which a page of times begins, named in the address by its slot."""
    text = asked("after")
    try:
        last = SlotName.parse(text) if text else None
    except Invalid as error:
        raise Invalid("after", error.message) from error
    return (last.starts_at, last.therapist_id) if last else None


def spoken() -> str | None:
    """The therapist's language that the address names, if any; raises Invalid for a text that is no code of one."""
    text, *more = request.args.getlist("language") or [""]
    if more or not re.fullmatch("([a-z]{2})?", text):
        raise Invalid("language", "Write it as two letters, like es.")
    return text or None


def day(name: str) -> date | None:
    """The day that the address names, if any; raises Invalid for a text that is none."""
    text, *more = request.args.getlist(name) or [""]
    try:
        return schemas.day("" if more else text) if text or more else None
    except ValueError as error:
        raise Invalid(name, "Write it like 2026-11-23.") from error


def parts() -> list[Choice]:
    return [Choice(part.value, str(label)) for part, label in PARTS.items()]


def weekdays() -> list[Choice]:
    """The days of the week, Sunday first, as calendars here have them."""
    return [
        Choice(WEEKDAYS[number], words.weekday(number, language()), words.weekday_short(number, language()))
        for number in SUNDAY_FIRST
    ]


def languages(codes: Sequence[str], chosen: str | None) -> list[Choice]:
    """The languages to choose among, by name: none where there is but one, unless another is looked for."""
    if len(codes) < CHOICE and chosen is None:
        return []
    found = (Choice(code, words.language_name(code, language())) for code in {*codes, *filter(None, [chosen])})
    return sorted(found, key=lambda one: one.name)


def onward(endpoint: str, **more: object) -> str:
    """The address of another step on the way to a visit: it carries on what this one's wishes, but for `more`."""
    wished = {name: [one for one in request.args.getlist(name) if one] for name in CARRIED}
    return url_for(endpoint, **{**wished, **more})  # type: ignore[arg-type] # as pages name what they wish


def names(wish: LocalWish) -> list[str]:
    """The weekdays of a wish as addresses name them."""
    return [WEEKDAYS[number] for number in sorted(wish.weekdays)]


def strip(days: Days) -> Strip:
    """Days of a calendar in words."""
    cells = [_cell(on, days) for on in days.calendar]
    first, last = days.calendar[0], days.calendar[-1]
    return Strip(
        first=words.month_and_day(first, language()),
        last=words.month_and_day(last, language()),
        weekdays=[(words.weekday_short(one, language()), words.weekday(one, language())) for one in SUNDAY_FIRST],
        weeks=[cells[at : at + 7] for at in range(0, len(cells), 7)],
        earlier=max(first - len(cells) * DAY, days.first) if first > days.first else None,
        later=last + DAY if last < days.last else None,
    )


def _cell(on: date, days: Days) -> Cell:
    free = on in days.free
    says = gettext("has times") if free else gettext("no times")
    short = words.short_date(on, language()) if on.day == 1 or on == days.calendar[0] else str(on.day)
    return Cell(short, f"{date_heading(on, days.first)}: {says}", on.isoformat(), free, on in days.bookable)
