"""Starts as pages show them: every word of a time written here, once, for the page's language."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache
from itertools import groupby

from flask_babel import gettext

from scheduler import words
from scheduler.models import Appointment, Location
from scheduler.services import access_goal
from scheduler.services.availability import Offer, Page, Place, SlotName
from scheduler.timeline import DAY_MINUTES, WallRange, zone_of
from scheduler.web.language import language


@dataclass(frozen=True, slots=True)
class Shown:
    """One start. `label` says all of it: weekday, date, time, zone, place; `soon` is "Today", "Tomorrow" or empty.

    `within` marks one that keeps the clinic's goal, where the visit is of a kind that the goal is about.
    """

    slot: SlotName
    place: str
    day: str
    hour: str
    zone: str
    when: str
    soon: str
    iso: str
    now: datetime
    within: bool = False

    @property
    def moment(self) -> str:
        """All but the place."""
        return ", ".join(filter(None, (self.soon, self.when)))

    @property
    def distance(self) -> str:
        """How far ahead it is."""
        return words.distance(self.slot.starts_at, self.now, language())

    @property
    def label(self) -> str:
        return f"{self.moment}, {self.place}"


def shown(slot: SlotName, place: Location | Place, now: datetime) -> Shown:
    return _shown(slot, place.name, place.time_zone, now)


def shown_visit(visit: Appointment, now: datetime) -> Shown:
    return shown(SlotName(visit.therapist_id, visit.location_id, visit.starts_at), visit.location, now)


def shown_offer(offer: Offer, now: datetime, *, goal_hours: int | None = None) -> Shown:
    """An offer; with the goal's hours it is marked where it keeps them."""
    shown_ = _shown(offer.slot, offer.location_name, offer.time_zone, now)
    if goal_hours is None:
        return shown_
    found = access_goal.figures([offer.slot.starts_at], now=now.replace(microsecond=0), goal_hours=goal_hours)
    return replace(shown_, within=found.within_goal)


def _shown(slot: SlotName, place: str, zone: str, now: datetime) -> Shown:
    at = (slot.starts_at, zone, language())
    return Shown(
        slot=slot,
        place=place,
        day=words.day(*at),
        hour=words.unbroken(words.hour(*at)),
        zone=words.zone_name(*at),
        when=words.unbroken(words.when(*at)),
        soon=_soon(words.days_ahead(slot.starts_at, zone, now), language()),
        iso=slot.starts_at.astimezone(zone_of(zone)).isoformat(timespec="minutes"),
        now=now,
    )


@cache
def _soon(days_ahead: int, _language: str) -> str:
    """Kept for each language: a page asks it of every start, and the catalogue answers slowly."""
    match days_ahead:
        case 0:
            return str(gettext("Today"))
        case 1:
            return str(gettext("Tomorrow"))
        case _:
            return ""


def day_heading(on: date, today: date) -> str:
    """A date in words, said first when it is near: "Tomorrow, Tuesday, November 24"."""
    return ", ".join(filter(None, (near(on, today), date_heading(on, today))))


def near(on: date, today: date) -> str:
    """What people call a day that is near; empty for any other."""
    return str({0: gettext("Today"), 1: gettext("Tomorrow"), -1: gettext("Yesterday")}.get((on - today).days, ""))


def date_heading(on: date, today: date) -> str:
    """A date in words, with its year where that is not this one."""
    return words.date_in_words(on, language(), year=on.year != today.year)


def range_in_words(wall: WallRange) -> str:
    """A time away in the reader's language."""
    return words.range_in_words(wall, language())


def hours_on(wall: WallRange, day: date) -> str:
    """The part of a day that a time away takes, as in "12:00 PM to 5:00 PM"; nothing for all of it."""
    opens = wall.starts_minute if wall.starts_on == day else 0
    closes = wall.ends_minute if wall.ends_on == day else DAY_MINUTES
    if (opens, closes) == (0, DAY_MINUTES):
        return ""
    first, last = (words.wall_time(minute, language()) for minute in (opens, closes))
    return str(gettext("%(first)s to %(last)s", first=first, last=last))


def by_day(starts: Iterable[Shown]) -> list[tuple[str, list[tuple[str, str, list[Shown]]]]]:
    """Group starts, soonest first, as (day, [(place, zone, starts)]).

    A day is the location's own: the same moment may be two days.
    """
    days = []
    in_days = sorted(starts, key=lambda start: start.iso[:10])
    for _, of_day in groupby(in_days, key=lambda start: start.iso[:10]):
        on_day = sorted(of_day, key=lambda start: start.place)  # and soonest first, through a night of two zone names
        places = [(place, zone, list(at)) for (place, zone), at in groupby(on_day, key=_where)]
        soon = {start.soon for start in on_day}  # around midnight it is today here and tomorrow there
        days.append((", ".join(filter(None, (soon.pop() if len(soon) == 1 else "", on_day[0].day))), places))
    return days


def _where(start: Shown) -> tuple[str, str]:
    return start.place, start.zone


def whole_moments(page: Page) -> tuple[Sequence[Offer], SlotName | None]:
    """The starts of a page, and after which the next begins: between two moments, lest both show one moment's starts.

    Only where a single moment fills a page and more does the next go on within it.
    """
    if page.next_cursor is None:
        return page.offers, None
    last = page.offers[-1].slot.starts_at
    whole = [offer for offer in page.offers if offer.slot.starts_at < last] or page.offers
    return whole, whole[-1].slot


def once(offers: Iterable[Offer]) -> list[Offer]:
    """Of those at one place and moment only the first: who gives it comes later."""
    seen: dict[tuple[int, datetime], Offer] = {}
    for offer in offers:
        seen.setdefault((offer.slot.location_id, offer.slot.starts_at), offer)
    return list(seen.values())
