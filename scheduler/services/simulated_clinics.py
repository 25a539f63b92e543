"""The clinics that are simulated: the locations in the database as they are planned, or one on paper."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from config import PolicyStart
from scheduler.errors import Invalid
from scheduler.models import AppointmentType, Location
from scheduler.services import availability, planned, practice
from scheduler.services.windows import Times
from scheduler.timeline import (
    CELL,
    DAY,
    DAY_MINUTES,
    HOUR,
    MINUTE,
    Stretch,
    first_instant,
    local_date,
    working_time,
    zone_of,
)

WARM_UP = 56 * DAY  # from an empty calendar to an ordinary one
YEAR = 364 * DAY  # whole weeks, so that no weekday counts more than another
ON_PAPER = ZoneInfo("America/Chicago")
PAPER_MINUTES = 60
A_MONDAY = date(2026, 1, 5)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAYS = re.compile(r"\s*([a-z]{3})\s*(?:-\s*([a-z]{3}))?\s+(\S+)\s*-\s*(\S+)\s*")
CLOCK = re.compile(r"([0-9]{1,2})(?::(00|15|30|45))?")


@dataclass(frozen=True, slots=True)
class OnPaper:
    """Local hours of one weekday, every week; minutes count from local midnight. See `timeline.WeeklyHours`."""

    weekday: int
    opens_minute: int
    closes_minute: int
    valid_from: date = A_MONDAY
    valid_until: date | None = None
    every_weeks: int = 1


@dataclass(frozen=True, slots=True)
class BookingTerms:
    """The goal and how visits are booked; `cells` are those of one visit, its buffer included."""

    goal_hours: int
    target: float
    notice_minutes: int
    horizon_days: int
    cells: int

    @property
    def notice(self) -> timedelta:
        return self.notice_minutes * MINUTE

    @property
    def goal(self) -> timedelta:
        """How far ahead a start keeps the goal; none lies beyond the horizon."""
        return min(self.goal_hours * HOUR, self.horizon_days * DAY)


@dataclass(frozen=True, slots=True)
class Clinic:
    """One location with its working time from `begins` on: WARM_UP, the YEAR that counts, and the horizon after it."""

    name: str
    location_id: int
    zone: ZoneInfo
    begins: datetime
    stretches: Sequence[Stretch]
    needling: bool = False

    @property
    def year(self) -> Times:
        return self.begins + WARM_UP, self.begins + WARM_UP + YEAR


def hours(text: str) -> list[OnPaper]:
    """Read hours written like "Mon-Fri 8-18, Sat 8:30-12"; ValueError for what is none."""
    found = sorted((one for part in text.lower().split(",") for one in _hours(part)), key=_in_the_week)
    if any(later.weekday == one.weekday and later.opens_minute < one.closes_minute for one, later in pairwise(found)):
        raise ValueError("has a time twice")
    return found


def _in_the_week(hours: OnPaper) -> tuple[int, int]:
    return hours.weekday, hours.opens_minute


def _hours(text: str) -> list[OnPaper]:
    match = DAYS.fullmatch(text)
    if match is None or match[1] not in WEEKDAYS or (match[2] or match[1]) not in WEEKDAYS:
        raise ValueError(f"{text.strip()!r} is no weekdays and hours, as in Mon-Fri 8-18")
    first, last = WEEKDAYS.index(match[1]), WEEKDAYS.index(match[2] or match[1])
    opens, closes = _minute(match[3]), _minute(match[4])
    if first > last or opens >= closes:
        raise ValueError(f"{text.strip()!r} ends before it begins")
    return [OnPaper(weekday, opens, closes) for weekday in range(first, last + 1)]


def _minute(text: str) -> int:
    match = CLOCK.fullmatch(text)
    minute = int(match[1]) * 60 + int(match[2] or 0) if match else DAY_MINUTES + 1
    if minute > DAY_MINUTES:
        raise ValueError(f"{text!r} is no quarter hour of a day, as in 8 or 8:30")
    return minute


def terms_on_paper(policy: PolicyStart, minutes: int | None, notice: int | None) -> BookingTerms:
    """As a new clinic books, visits of PAPER_MINUTES."""
    return BookingTerms(
        policy.access_goal_hours,
        policy.access_target,
        policy.booking_notice_minutes if notice is None else notice,
        policy.booking_horizon_days,
        (minutes or PAPER_MINUTES) * MINUTE // CELL,
    )


def on_paper(weekly: Iterable[OnPaper], therapists: int, terms: BookingTerms) -> Clinic:
    """A location of this many therapists who all work the same hours, without holidays, from A_MONDAY in Chicago."""
    begins = first_instant(A_MONDAY, 0, ON_PAPER)
    days = (WARM_UP + YEAR) // DAY + terms.horizon_days
    worked = [
        working_time(hours, A_MONDAY + number * DAY, ON_PAPER)
        for hours in weekly
        for number in range(hours.weekday, days, 7)
    ]
    stretches = [
        Stretch(therapist, 0, since, until, needling=True) for therapist in range(therapists) for since, until in worked
    ]
    return Clinic("On paper", 0, ON_PAPER, begins, stretches)


def clinics(
    session: Session, location_id: int | None, minutes: int | None, notice: int | None, *, now: datetime
) -> tuple[list[Clinic], BookingTerms]:
    """The locations that patients can book online, or one, as planned from tomorrow on for the goal's kind of visit.

    Closures, time off, licences that end and hours that begin later are in it as far as they are known. Raises Invalid
    without such a location, and where no visit is for new patients.
    """
    kind = practice.goal_type(practice.appointment_types(session))
    if kind is None:
        raise Invalid("appointment_type", "There is no new-patient type yet that the goal could be about.")
    places = [place for place in practice.online_locations(session) if location_id in {None, place.id}]
    if not places:
        raise Invalid("location", "There is no such location that patients can book online.")
    terms = _terms(session, kind, minutes, notice, now)
    offering, people = practice.offering(session), [person.id for person in practice.active_therapists(session)]
    until = now + 2 * DAY + WARM_UP + YEAR + terms.horizon_days * DAY
    planned_there = defaultdict[int, list[Stretch]](list)
    for stretch in planned.planned_time(session, people, now, until):
        if offering.allows(kind.id, stretch.therapist_id, stretch.location_id):
            planned_there[stretch.location_id].append(stretch)
    return [_planned(place, planned_there[place.id], kind, now) for place in places], terms


def _terms(
    session: Session, kind: AppointmentType, minutes: int | None, notice: int | None, now: datetime
) -> BookingTerms:
    policy = practice.policy(session)
    earliest, latest = availability.bookable_within(policy, kind, now, by_staff=False)
    return BookingTerms(
        policy.access_goal_hours,
        policy.access_target,
        (earliest - now) // MINUTE if notice is None else notice,
        (latest - now) // DAY,
        kind.cells if minutes is None else minutes * MINUTE // CELL,
    )


def _planned(place: Location, stretches: Iterable[Stretch], kind: AppointmentType, now: datetime) -> Clinic:
    zone = zone_of(place.time_zone)
    begins = first_instant(local_date(now, zone) + DAY, 0, zone)
    after = [one for one in stretches if one.starts_at >= begins]
    return Clinic(place.name, place.id, zone, begins, after, needling=kind.includes_needling)
