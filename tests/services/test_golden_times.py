"""Golden days: what search offers around changes of the clocks, on leap days, past midnight, and where a zone changes.

Every start is written out as it is shown, in local time with its offset. Visits last an hour and begin each quarter of
one: the last start is an hour before the end of what is worked. tests/test_timeline.py has the cells below.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update

from scheduler import words
from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.keys import Keyring
from scheduler.models import Appointment, Kind, License, OutboxMessage
from scheduler.services import booking, consequences, hours, letters, reasons, time_away
from scheduler.services.availability import SlotName
from scheduler.services.consequences import Hit, NotAgreed, Why
from scheduler.services.hours import HoursClash, HoursDetails
from scheduler.services.letters import Letter
from scheduler.services.reasons import Question, Reason
from scheduler.services.time_away import ClosureDetails, OffDetails
from scheduler.timeline import DAY
from tests.clinic import Clinic, at
from tests.services.test_clinic import change_place
from tests.services.test_hours import ADMIN

SATURDAY, SUNDAY = 5, 6
SPRING = date(2027, 3, 14)  # a Sunday: in Chicago 2:00 becomes 3:00
AUTUMN = date(2027, 11, 7)  # a Sunday: in Chicago 2:00 becomes 1:00
LEAP_DAY = date(2028, 2, 29)  # a Tuesday
Opened = Callable[..., Clinic]


@pytest.fixture
def opened(engine: Engine, clock: FixedClock, keys: Keyring) -> Opened:
    """Makes a clinic of one place and one therapist, some days before a day that matters."""

    def make(day: date, zone: str = "America/Chicago") -> Clinic:
        clock.at = datetime.combine(day - 4 * DAY, datetime.min.time(), UTC)
        clinic = Clinic(engine, clock, keys)
        clinic.policy(booking_horizon_days=60)
        clinic.add_kinds()
        clinic.add_location(zone=zone)
        clinic.add_therapist()
        return clinic

    return make


def works(clinic: Clinic, weekdays: Any, opens: str, closes: str, **more: Any) -> None:  # noqa: ANN401 see add_hours
    """Hours of the one therapist, at the one place unless another is named; 26:00 is two o'clock the next morning."""
    clinic.add_hours(1, more.pop("place", 1), weekdays, minutes(opens), minutes(closes), **more)
    clinic.plan()


def minutes(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)


def closed(clinic: Clinic, first: date, from_: str, last: date, until: str) -> None:
    details = ClosureDetails(first, minutes(from_), last, minutes(until), "Inventory")
    with transaction(clinic.engine) as session:
        time_away.close(session, [1], details, agreed=None, by=ADMIN, now=clinic.clock.now())


def off(clinic: Clinic, first: date, from_: str, last: date, until: str) -> None:
    details = OffDetails(first, minutes(from_), last, minutes(until))
    with transaction(clinic.engine) as session:
        time_away.give(session, 1, details, agreed=None, by=ADMIN, now=clinic.clock.now())


def offered(clinic: Clinic, first: date, last: date | None = None, **find: Any) -> list[str]:  # noqa: ANN401 fields of Find
    """What search lists from the midnight that begins a day to the one that ends it, or another."""
    offers = clinic.offers(from_=first, to=(last or first) + DAY, limit=5000, **find)
    assert clinic.violations() == {}
    return [shown(offer.slot.starts_at, offer.time_zone) for offer in offers]


def shown(instant: datetime, zone: str) -> str:
    return instant.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")


def on(day: str, starts: str) -> list[str]:
    """Starts of one day: "09:00-06:00 09:15-06:00"."""
    return [f"{day}T{start}" for start in starts.split()]


# --- nights in which clocks change


@pytest.mark.parametrize(
    ("opens", "closes", "starts"),
    [
        (
            "00:15",
            "04:00",
            "00:15-06:00 00:30-06:00 00:45-06:00 01:00-06:00 01:15-06:00 01:30-06:00 01:45-06:00 03:00-05:00",
        ),
        ("02:30", "04:15", "03:00-05:00 03:15-05:00"),
        ("01:00", "02:30", "01:00-06:00"),
        ("02:00", "03:00", ""),
        ("03:00", "04:15", "03:00-05:00 03:15-05:00"),
    ],
    ids=["around", "from within", "until within", "all of it", "from its end"],
)
def test_the_hour_that_the_clock_skips_is_not_offered(opened: Opened, opens: str, closes: str, starts: str) -> None:
    clinic = opened(SPRING)
    works(clinic, [SUNDAY], opens, closes)
    assert offered(clinic, SPRING) == on("2027-03-14", starts)


@pytest.mark.parametrize(
    ("opens", "closes", "starts"),
    [
        (
            "00:30",
            "02:15",
            "00:30-05:00 00:45-05:00 01:00-05:00 01:15-05:00 01:30-05:00 01:45-05:00 01:00-06:00 01:15-06:00",
        ),
        ("01:30", "02:15", "01:30-05:00 01:45-05:00 01:00-06:00 01:15-06:00"),
        ("00:00", "01:30", "00:00-05:00 00:15-05:00 00:30-05:00"),
        ("01:00", "02:00", "01:00-05:00 01:15-05:00 01:30-05:00 01:45-05:00 01:00-06:00"),
        ("02:00", "03:15", "02:00-06:00 02:15-06:00"),
    ],
    ids=["around", "from within", "until within", "all of it", "from its end"],
)
def test_the_hour_that_the_clock_shows_twice_is_offered_twice(
    opened: Opened, opens: str, closes: str, starts: str
) -> None:
    clinic = opened(AUTUMN)
    works(clinic, [SUNDAY], opens, closes)
    assert offered(clinic, AUTUMN) == on("2027-11-07", starts)


def test_the_same_time_on_the_wall_is_two_times_to_book(opened: Opened) -> None:
    clinic = opened(AUTUMN)
    works(clinic, [SUNDAY], "01:00", "02:00")
    first, *_, last = clinic.offers(from_=AUTUMN, to=AUTUMN + DAY)
    assert shown(clinic.book(str(last.slot)).appointment.starts_at, last.time_zone) == "2027-11-07T01:00-06:00"
    assert offered(clinic, AUTUMN) == on("2027-11-07", "01:00-05:00")
    assert shown(clinic.book(str(first.slot)).appointment.starts_at, first.time_zone) == "2027-11-07T01:00-05:00"
    assert offered(clinic, AUTUMN) == []


# --- hours past midnight


@pytest.mark.parametrize(
    ("evening", "closes", "before", "after"),
    [
        (
            date(2027, 3, 12),
            "25:00",
            on("2027-03-12", "23:30-06:00 23:45-06:00"),
            on("2027-03-13", "00:00-06:00"),
        ),
        (
            SPRING - DAY,
            "27:45",  # into the night that loses an hour
            on("2027-03-13", "23:30-06:00 23:45-06:00"),
            on(
                "2027-03-14",
                "00:00-06:00 00:15-06:00 00:30-06:00 00:45-06:00 01:00-06:00 01:15-06:00 01:30-06:00 01:45-06:00",
            ),
        ),
        (
            SPRING - DAY,
            "26:30",  # until a time that the clock skips
            on("2027-03-13", "23:30-06:00 23:45-06:00"),
            on("2027-03-14", "00:00-06:00 00:15-06:00 00:30-06:00 00:45-06:00 01:00-06:00"),
        ),
        (
            AUTUMN - DAY,
            "26:15",  # into the night that has an hour more
            on("2027-11-06", "23:30-05:00 23:45-05:00"),
            on(
                "2027-11-07",
                "00:00-05:00 00:15-05:00 00:30-05:00 00:45-05:00 01:00-05:00 01:15-05:00 01:30-05:00 01:45-05:00 "
                "01:00-06:00 01:15-06:00",
            ),
        ),
        (
            AUTUMN - DAY,
            "25:30",  # until the first of two half past ones
            on("2027-11-06", "23:30-05:00 23:45-05:00"),
            on("2027-11-07", "00:00-05:00 00:15-05:00 00:30-05:00"),
        ),
        (
            date(2028, 2, 28),
            "25:00",  # into a leap day
            on("2028-02-28", "23:30-06:00 23:45-06:00"),
            on("2028-02-29", "00:00-06:00"),
        ),
    ],
    ids=["any night", "spring", "until the skipped", "autumn", "until the first of two", "leap day"],
)
def test_hours_past_midnight_belong_to_the_days_that_the_wall_shows(
    opened: Opened, evening: date, closes: str, before: list[str], after: list[str]
) -> None:
    clinic = opened(evening)
    works(clinic, [evening.weekday()], "23:30", closes)
    assert offered(clinic, evening) == before
    assert offered(clinic, evening + DAY) == after


def test_hours_past_midnight_end_where_a_closure_begins_and_go_on_where_one_ends(opened: Opened) -> None:
    friday = date(2027, 2, 26)
    clinic = opened(friday)
    works(clinic, [friday.weekday()], "22:00", "26:00")
    closed(clinic, friday + DAY, "00:00", friday + DAY, "24:00")
    closed(clinic, friday + 7 * DAY, "00:00", friday + 7 * DAY, "24:00")
    off(clinic, friday + 15 * DAY, "00:00", friday + 15 * DAY, "00:30")
    assert offered(clinic, friday, friday + DAY) == on(
        "2027-02-26", "22:00-06:00 22:15-06:00 22:30-06:00 22:45-06:00 23:00-06:00"
    )
    assert offered(clinic, friday + 7 * DAY, friday + 8 * DAY) == on(
        "2027-03-06", "00:00-06:00 00:15-06:00 00:30-06:00 00:45-06:00 01:00-06:00"
    )
    assert offered(clinic, friday + 14 * DAY, friday + 15 * DAY) == [
        *on("2027-03-12", "22:00-06:00 22:15-06:00 22:30-06:00 22:45-06:00 23:00-06:00"),
        *on("2027-03-13", "00:30-06:00 00:45-06:00 01:00-06:00"),
    ]


@pytest.mark.parametrize(
    ("day", "works_until", "from_", "until", "starts"),
    [
        (SPRING, "04:15", "00:00", "02:30", on("2027-03-14", "03:00-05:00 03:15-05:00")),
        (SPRING, "04:00", "02:30", "24:00", on("2027-03-14", "00:30-06:00 00:45-06:00 01:00-06:00")),
        (
            SPRING,
            "04:00",
            "02:00",  # no moment of that night
            "02:45",
            on(
                "2027-03-14",
                "00:30-06:00 00:45-06:00 01:00-06:00 01:15-06:00 01:30-06:00 01:45-06:00 03:00-05:00",
            ),
        ),
        (
            AUTUMN,
            "02:15",
            "00:00",
            "01:30",
            on("2027-11-07", "01:30-05:00 01:45-05:00 01:00-06:00 01:15-06:00"),
        ),
        (AUTUMN, "02:15", "01:30", "24:00", on("2027-11-07", "00:30-05:00")),
    ],
    ids=["until the skipped", "from the skipped", "the skipped", "until the first of two", "from the first of two"],
)
@pytest.mark.parametrize("away", [closed, off])
def test_who_is_away_in_a_night_of_a_change_is_so_by_the_wall(
    opened: Opened, away: Callable[..., None], day: date, works_until: str, from_: str, until: str, starts: list[str]
) -> None:
    clinic = opened(day)
    works(clinic, [SUNDAY], "00:30", works_until)
    away(clinic, day, from_, day, until)
    assert offered(clinic, day) == starts


def test_a_closure_of_no_moment_hits_no_visit(opened: Opened) -> None:
    clinic = opened(SPRING)
    works(clinic, [SUNDAY], "00:00", "04:00")
    clinic.book(str(SlotName(1, 1, at("2027-03-14T01:30:00-06:00"))))  # until half past three, an hour later
    closed(clinic, SPRING, "02:00", SPRING, "02:45")
    with reading(clinic.engine) as session:
        assert consequences.unfit(session, now=clinic.clock.now()) == []


# --- leap days


@pytest.mark.parametrize(
    ("rhythm", "starts"),
    [
        ({}, ["02-29T09:00-06:00", "03-07T09:00-06:00", "03-14T09:00-05:00", "03-21T09:00-05:00", "03-28T09:00-05:00"]),
        (
            {"every_weeks": 2, "valid_from": date(2028, 2, 15)},
            ["02-29T09:00-06:00", "03-14T09:00-05:00", "03-28T09:00-05:00"],
        ),
        ({"every_weeks": 2, "valid_from": LEAP_DAY}, ["02-29T09:00-06:00", "03-14T09:00-05:00", "03-28T09:00-05:00"]),
        ({"every_weeks": 2, "valid_from": LEAP_DAY + DAY}, ["03-14T09:00-05:00", "03-28T09:00-05:00"]),
        (
            {"every_weeks": 2, "valid_from": date(2024, 2, 27)},  # 209 weeks before, with a leap day between
            ["03-07T09:00-06:00", "03-21T09:00-05:00"],
        ),
        ({"every_weeks": 4, "valid_from": date(2028, 2, 1)}, ["02-29T09:00-06:00", "03-28T09:00-05:00"]),
        ({"valid_until": LEAP_DAY}, ["02-29T09:00-06:00"]),
        ({"valid_until": LEAP_DAY - DAY}, []),
    ],
)
def test_a_leap_day_is_a_day_of_weekly_hours(opened: Opened, rhythm: dict[str, Any], starts: list[str]) -> None:
    clinic = opened(LEAP_DAY)
    works(clinic, [LEAP_DAY.weekday()], "09:00", "10:00", **rhythm)
    assert offered(clinic, LEAP_DAY - DAY, date(2028, 3, 31)) == [f"2028-{start}" for start in starts]


@pytest.mark.parametrize("away", [closed, off])
@pytest.mark.parametrize(
    ("first", "last", "until", "starts"),
    [
        (
            date(2028, 2, 27),
            LEAP_DAY,
            "12:00",
            on("2028-02-29", "12:00-06:00 12:15-06:00") + on("2028-03-01", "11:45-06:00 12:00-06:00 12:15-06:00"),
        ),
        (date(2028, 2, 27), LEAP_DAY, "24:00", on("2028-03-01", "11:45-06:00 12:00-06:00 12:15-06:00")),
        (
            date(2028, 2, 27),
            date(2028, 2, 28),
            "24:00",
            on("2028-02-29", "11:45-06:00 12:00-06:00 12:15-06:00")
            + on("2028-03-01", "11:45-06:00 12:00-06:00 12:15-06:00"),
        ),
        (
            LEAP_DAY,
            LEAP_DAY,
            "24:00",
            on("2028-02-28", "11:45-06:00 12:00-06:00 12:15-06:00")
            + on("2028-03-01", "11:45-06:00 12:00-06:00 12:15-06:00"),
        ),
    ],
    ids=["until noon of it", "until its end", "until its eve", "all of it"],
)
def test_who_is_away_until_a_leap_day_is_back_when_it_was_said(
    opened: Opened, away: Callable[..., None], first: date, last: date, until: str, starts: list[str]
) -> None:
    clinic = opened(LEAP_DAY)
    works(clinic, range(7), "11:45", "13:15")
    away(clinic, first, "00:00", last, until)
    assert offered(clinic, date(2028, 2, 28), date(2028, 3, 1)) == starts


def test_a_licence_that_ends_on_a_leap_day_is_one_on_that_day(opened: Opened) -> None:
    clinic = opened(LEAP_DAY)
    works(clinic, range(7), "09:00", "10:00")
    with transaction(clinic.engine) as session:
        session.execute(update(License).values(valid_until=LEAP_DAY))
    clinic.plan()
    assert offered(clinic, LEAP_DAY - DAY, LEAP_DAY + 2 * DAY) == ["2028-02-28T09:00-06:00", "2028-02-29T09:00-06:00"]


# --- Arizona, where no clock changes


def beside_arizona(clinic: Clinic) -> None:
    """Mornings in Mesa, afternoons in Durango, on both days of a weekend: in summer one follows the other at once."""
    clinic.add_location("Durango", "America/Denver", "CO")
    with transaction(clinic.engine) as session:
        session.add_all(clinic.license(1, kind, "CO") for kind in ("pt", "dry_needling"))
    works(clinic, [SATURDAY, SUNDAY], "10:30", "12:00")
    works(clinic, [SATURDAY, SUNDAY], "13:00", "14:30", place=2)


@pytest.mark.parametrize(
    ("sunday", "day", "offset"),
    [
        (SPRING, "2027-03-13", "-07:00"),
        (SPRING, "2027-03-14", "-06:00"),
        (AUTUMN, "2027-11-06", "-06:00"),
        (AUTUMN, "2027-11-07", "-07:00"),
    ],
)
def test_a_therapist_in_arizona_and_beside_it_keeps_the_hours_of_both_walls(
    opened: Opened, sunday: date, day: str, offset: str
) -> None:
    clinic = opened(sunday, "America/Phoenix")
    beside_arizona(clinic)
    mesa = on(day, "10:30-07:00 10:45-07:00 11:00-07:00")
    durango = on(day, f"13:00{offset} 13:15{offset} 13:30{offset}")
    assert offered(clinic, date.fromisoformat(day)) == mesa + durango
    assert offered(clinic, date.fromisoformat(day), location_id=2) == durango


def test_time_off_beside_arizona_is_by_either_wall(opened: Opened) -> None:
    clinic = opened(SPRING, "America/Phoenix")
    beside_arizona(clinic)
    off(clinic, SPRING, "11:45", SPRING, "13:15")
    assert offered(clinic, SPRING) == on("2027-03-14", "10:30-07:00 10:45-07:00 13:15-06:00 13:30-06:00")


def test_the_soonest_comes_first_though_its_clock_shows_a_later_time(opened: Opened) -> None:
    clinic = opened(SPRING, "America/Phoenix")
    durango = clinic.add_location("Durango", "America/Denver", "CO")
    clinic.add_hours(clinic.add_therapist("Ben Becker", "CO"), durango, [SATURDAY, SUNDAY], 9 * 60 + 30, 10 * 60 + 30)
    works(clinic, [SATURDAY, SUNDAY], "09:00", "10:00")
    assert offered(clinic, SPRING - DAY) == on("2027-03-13", "09:00-07:00 09:30-07:00")
    assert offered(clinic, SPRING) == on("2027-03-14", "09:30-06:00 09:00-07:00")


def test_hours_beside_arizona_that_meet_only_in_summer_are_refused_for_its_first_day(opened: Opened) -> None:
    clinic = opened(SPRING, "America/Phoenix")
    beside_arizona(clinic)
    at_noon = HoursDetails(12 * 60, 13 * 60, SPRING - DAY, None)  # in Mesa; an hour before Durango, until Sunday
    with pytest.raises(HoursClash) as refused, transaction(clinic.engine) as session:
        hours.add(session, 1, 1, [SUNDAY], at_noon, by=ADMIN, now=clinic.clock.now())
    assert refused.value.first == SPRING
    with transaction(clinic.engine) as session:
        until_then = replace(at_noon, valid_until=SPRING)
        hours.add(session, 1, 1, [SATURDAY], until_then, by=ADMIN, now=clinic.clock.now())
    assert offered(clinic, SPRING - DAY, location_id=1)[-1] == "2027-03-13T12:00-07:00"
    assert offered(clinic, SPRING, location_id=1)[-1] == "2027-03-14T11:00-07:00"


# --- a place that changes its zone

TUESDAY = date(2026, 11, 24)


@pytest.fixture
def springfield(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    """Open from eight to noon, with a visit at either end of Tuesday and one at ten, reminders owed."""
    clock.at = at("2026-11-20T12:00:00+00:00")
    clinic = Clinic(engine, clock, keys)
    clinic.add_kinds()
    clinic.add_location()
    clinic.add_therapist()
    works(clinic, range(7), "08:00", "12:00")
    for hour in ("08", "10", "11"):
        clinic.book(str(SlotName(1, 1, at(f"2026-11-24T{hour}:00:00-06:00"))))
    return clinic


def moved(clinic: Clinic, zone: str) -> list[Hit]:
    with pytest.raises(NotAgreed) as told:
        change_place(clinic, time_zone=zone)
    change_place(clinic, told.value.agreement, time_zone=zone)
    return told.value.hits


@pytest.mark.parametrize(
    ("zone", "stay", "hit", "starts"),
    [
        (
            "America/Denver",
            on("2026-11-24", "07:00-07:00 09:00-07:00 10:00-07:00"),
            on("2026-11-24", "07:00-07:00"),
            on("2026-11-24", "08:00-07:00 11:00-07:00"),
        ),
        (
            "America/New_York",
            on("2026-11-24", "09:00-05:00 11:00-05:00 12:00-05:00"),
            on("2026-11-24", "12:00-05:00"),
            on("2026-11-24", "08:00-05:00 10:00-05:00"),
        ),
        (
            "Pacific/Kiritimati",
            on("2026-11-25", "04:00+14:00 06:00+14:00 07:00+14:00"),
            on("2026-11-25", "04:00+14:00 06:00+14:00 07:00+14:00"),
            on(
                "2026-11-24",
                "08:00+14:00 08:15+14:00 08:30+14:00 08:45+14:00 09:00+14:00 09:15+14:00 09:30+14:00 09:45+14:00 "
                "10:00+14:00 10:15+14:00 10:30+14:00 10:45+14:00 11:00+14:00",
            ),
        ),
    ],
)
def test_a_place_s_new_zone_moves_its_free_times_and_no_visit(
    springfield: Clinic, zone: str, stay: list[str], hit: list[str], starts: list[str]
) -> None:
    before = instants(springfield)
    assert [shown(start, "America/Chicago") for start in before] == on(
        "2026-11-24", "08:00-06:00 10:00-06:00 11:00-06:00"
    )
    told = moved(springfield, zone)
    with reading(springfield.engine) as session:
        assert consequences.unfit(session, now=springfield.clock.now()) == told
    assert [(shown(one.starts_at, one.time_zone), one.why) for one in told] == [
        (start, Why.OUTSIDE_HOURS) for start in hit
    ]
    assert instants(springfield) == before
    assert [shown(start, zone) for start in before] == stay
    assert offered(springfield, TUESDAY) == starts


def instants(clinic: Clinic) -> list[datetime]:
    with reading(clinic.engine) as session:
        return list(session.scalars(select(Appointment.starts_at).order_by(Appointment.starts_at)))


def test_a_time_that_a_visit_outside_the_new_hours_gives_back_is_not_offered(springfield: Clinic) -> None:
    moved(springfield, "America/Denver")
    with transaction(springfield.engine) as session:
        for visit in session.scalars(select(Appointment).order_by(Appointment.starts_at)).all()[:2]:
            booking.call_off(session, visit, None, by=ADMIN, keys=springfield.keys, now=springfield.clock.now())
    assert offered(springfield, TUESDAY) == on(
        "2026-11-24", "08:00-07:00 08:15-07:00 08:30-07:00 08:45-07:00 09:00-07:00 11:00-07:00"
    )


def test_closures_and_time_off_move_with_the_clock_of_their_place(springfield: Clinic) -> None:
    closed(springfield, TUESDAY + DAY, "00:00", TUESDAY + DAY, "10:00")
    off(springfield, TUESDAY + 2 * DAY, "09:15", TUESDAY + 2 * DAY, "24:00")
    moved(springfield, "America/Denver")
    assert offered(springfield, TUESDAY + DAY, TUESDAY + 2 * DAY) == [
        *on("2026-11-25", "10:00-07:00 10:15-07:00 10:30-07:00 10:45-07:00 11:00-07:00"),
        *on("2026-11-26", "08:00-07:00 08:15-07:00"),
    ]
    with reading(springfield.engine) as session:
        nine = Question(SlotName(1, 1, at("2026-11-25T09:00:00-07:00")), springfield.kinds["Evaluation"])
        assert reasons.why(session, nine, now=springfield.clock.now()).reason is Reason.CLOSED_THEN


def test_after_a_change_of_zone_pages_and_letters_say_the_new_local_time(
    springfield: Clinic, client: FlaskClient
) -> None:
    before, due_before = owed(springfield)
    assert {said(letter) for letter in before} == {
        "Tuesday, November 24, 8:00 AM Central Standard Time",
        "Tuesday, November 24, 10:00 AM Central Standard Time",
        "Tuesday, November 24, 11:00 AM Central Standard Time",
    }
    moved(springfield, "America/Denver")
    after, due_after = owed(springfield)
    assert {said(letter) for letter in after} == {
        "Tuesday, November 24, 7:00 AM Mountain Standard Time",
        "Tuesday, November 24, 9:00 AM Mountain Standard Time",
        "Tuesday, November 24, 10:00 AM Mountain Standard Time",
    }
    assert due_after == due_before  # as long before the visit as it was
    for letter in after:
        assert said(letter) in client.get(f"/appointments/{letter.token}").text
    answers = (client.get(f"/api/v1/appointments/{letter.token}").get_json() for letter in after)
    assert {answer["start"] for answer in answers} == {
        "2026-11-24T07:00:00-07:00",
        "2026-11-24T09:00:00-07:00",
        "2026-11-24T10:00:00-07:00",
    }


def owed(clinic: Clinic) -> tuple[list[Letter], list[datetime]]:
    """The confirmations and reminders as they would go now, and when they are due."""
    with reading(clinic.engine) as session:
        messages = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)).all()
        drafts = letters.drafts(session, [message.id for message in messages], keys=clinic.keys)
        assert {draft.kind for draft in drafts} == {Kind.CONFIRMATION, Kind.REMINDER}
        return drafts, [message.due_at for message in messages]


def said(letter: Letter) -> str:
    return words.when(letter.starts_at, letter.time_zone, "en")
