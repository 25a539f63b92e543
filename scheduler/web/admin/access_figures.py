"""What the weeks say of the access goal, in words: the verdict, a picture of 28 days with its table, and the misses."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from flask_babel import gettext, ngettext

from scheduler import words
from scheduler.services import access_history, access_rules
from scheduler.services.access_goal import Standing
from scheduler.services.access_history import Day, History
from scheduler.services.access_rules import Cause, Miss
from scheduler.web.admin import figures
from scheduler.web.language import language

HEIGHT = 96  # of the picture's bars, in pixels
LISTED = 12  # misses in the table; a clinic that misses more often looks at its days


@dataclass(frozen=True, slots=True)
class Column:
    """A day of the picture: heights in pixels from the bottom, None where nothing is known; a label on Mondays."""

    kept: float | None
    possible: float | None
    label: str
    cells: Sequence[str]
    told: str


@dataclass(frozen=True, slots=True)
class Picture:
    """`target` is where its line lies, in pixels from the bottom."""

    columns: Sequence[Column]
    target: float

    @property
    def description(self) -> str:
        """The picture in words, for who does not see it."""
        return "; ".join(column.told for column in self.columns if column.kept is not None)


@dataclass(frozen=True, slots=True)
class Listed:
    """A miss as a row of the table."""

    begins: str
    ends: str
    hours: str
    why: str


@dataclass(frozen=True, slots=True)
class Misses:
    """What was missed: a sentence for each cause, the latest ones as rows, and how many more there were."""

    told: Sequence[str]
    listed: Sequence[Listed]
    more: int


def verdict(standing: Standing, target: float) -> str:
    """One sentence: whether it holds, by the last four weeks; by this moment before there is a week of history."""
    share, ceiling = standing.weeks.attainment, standing.weeks.ceiling
    if share is None:
        if standing.figures.within_goal:
            return str(gettext("Holds now. Not yet measured for 7 days."))
        return str(gettext("Does not hold now. Not yet measured for 7 days."))
    told = {
        "share": figures.percent_of_goal(share),
        "target": figures.percent(target),
        "ceiling": figures.percent_of_goal(ceiling),
    }
    if ceiling is None:
        if share >= target:
            return str(gettext("Holds. %(share)s of the last 28 days; the target is %(target)s.", **told))
        return str(gettext("Does not hold. %(share)s of the last 28 days; the target is %(target)s.", **told))
    if share >= target:
        return str(gettext("Holds. %(share)s of the last 28 days; the ceiling is %(ceiling)s.", **told))
    return str(gettext("Does not hold. %(share)s of the last 28 days; the ceiling is %(ceiling)s.", **told))


def ceiling_told(standing: Standing, target: float) -> str:
    """Whether the hours alone keep the goal from holding; nothing where they leave room, or it is not known."""
    ceiling = standing.weeks.ceiling
    if ceiling is None or ceiling >= target:
        return ""
    return str(
        gettext(
            "The hours alone keep it from holding: with nothing booked it would be %(ceiling)s, "
            "and the target is %(target)s. Only hours on other days would mend it.",
            ceiling=figures.percent_of_goal(ceiling),
            target=figures.percent(target),
        )
    )


def open_days(standing: Standing, goal_hours: int) -> str:
    """The same share if only open days count, beside the strict one; nothing before it is known."""
    share, days = standing.weeks.open_days, access_rules.working_days(goal_hours)
    if share is None:
        return ""
    return str(
        ngettext(
            "If only open days counted, within %(num)d working day: %(share)s of the last 28 days.",
            "If only open days counted, within %(num)d working days: %(share)s of the last 28 days.",
            days,
            share=figures.percent_of_goal(share),
        )
    )


def picture(history: History, target: float) -> Picture:
    today = history.days[-1].on
    return Picture([_column(day, today) for day in history.days], target * HEIGHT)


def _column(day: Day, today: date) -> Column:
    name = words.date_in_words(day.on, language(), year=day.on.year != today.year)
    kept, possible = figures.percent_of_goal(day.kept_share), figures.percent_of_goal(day.possible_share)
    open_share = day.within_open_days / day.measured if day.within_open_days is not None else None
    return Column(
        None if day.kept_share is None else day.kept_share * HEIGHT,
        None if day.possible_share is None else day.possible_share * HEIGHT,
        words.short_date(day.on, language()) if day.on.weekday() == 0 else "",
        (name, kept, possible, figures.percent_of_goal(open_share)),
        f"{name}: {kept}",
    )


def misses(history: History) -> Misses:
    """Of all misses the latest first; each cause has its own sentence, and what is not missed none."""
    told = [
        _told(cause, found, history.zone)
        for cause in (Cause.STRUCTURAL, Cause.CAPACITY, None)
        if (found := history.missed(cause))
    ]
    latest = [_listed(miss, history.zone) for miss in reversed(history.misses[-LISTED:])]
    return Misses(told, latest, max(len(history.misses) - LISTED, 0))


def _told(cause: Cause | None, found: Sequence[Miss], zone: ZoneInfo) -> str:
    """How long, how often, and the longest."""
    longest = access_history.longest(found)
    if longest is None:
        return ""
    return str(
        ngettext(
            "%(why)s: %(hours)s hours, once: from %(begins)s to %(ends)s.",
            "%(why)s: %(hours)s hours, %(num)d times; the longest from %(begins)s to %(ends)s.",
            len(found),
            why=_why(cause),
            hours=_hours(access_history.hours(found)),
            begins=_moment(longest.begins_at, zone),
            ends=_moment(longest.ends_at, zone),
        )
    )


def _listed(miss: Miss, zone: ZoneInfo) -> Listed:
    begins, ends = _moment(miss.begins_at, zone), _moment(miss.ends_at, zone)
    return Listed(begins, ends, _hours(miss.hours), _why(miss.cause))


def _hours(count: float) -> str:
    """Whole quarter hours."""
    return figures.number(count, 2)


def _why(cause: Cause | None) -> str:
    match cause:
        case Cause.STRUCTURAL:
            return str(gettext("No hours in reach"))
        case Cause.CAPACITY:
            return str(gettext("All times taken"))
        case None:
            return str(gettext("Cause not recorded"))


def _moment(instant: datetime, zone: ZoneInfo) -> str:
    return f"{words.day(instant, str(zone), language())}, {words.hour(instant, str(zone), language())}"
