"""A therapist's days: every visit on the wall clock of its location, at any size by the same few queries."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from scheduler.clock import FixedClock
from scheduler.db import reading
from scheduler.models import Needling, Status
from scheduler.services import schedule
from scheduler.services.booking import PatientDetails
from scheduler.timeline import DAY, zone_of
from tests.clinic import Clinic
from tests.services.test_queries import statements

ANA = 1
PAT = PatientDetails("Pat Doe", "pat@example.com", None, None, "es", True, False)
MONDAY = date(2026, 11, 23)


def days(clinic: Clinic, first: date, count: int = 7, therapist_id: int = ANA) -> list[schedule.Day]:
    with reading(clinic.engine) as session:
        return schedule.days(session, therapist_id, first, count, keys=clinic.keys)


def book_on(clinic: Clinic, day: date, number: int = 0, kind: str = "Follow-up", **changes: Any) -> Any:  # noqa: ANN401 a visit
    """Book the visit that begins as number `number` of that local day."""
    start = clinic.offers(kind, from_=day, to=day + DAY)[number]
    return clinic.book(str(start.slot), kind, **changes).appointment


def test_a_day_says_of_a_visit_what_its_therapist_prepares_by(clinic: Clinic) -> None:
    booked = book_on(clinic, MONDAY + DAY, kind="Evaluation", patient=PAT, note="My left knee", needling=Needling.OPEN)
    (day,) = days(clinic, MONDAY + DAY, 1)
    (visit,) = day.visits
    assert visit == schedule.Planned(
        visit_id=booked.id,
        patient_id=booked.patient_id,
        name="Pat Doe",
        language="es",
        kind="Evaluation",
        new_patient=True,
        place="Springfield",
        time_zone="America/Chicago",
        starts_at=booked.starts_at,
        ends_at=booked.ends_at,
        status=Status.BOOKED,
        needling=Needling.OPEN,
        note="My left knee",
        explained=True,
    )
    assert (visit.minutes, day.live) == (60, 1)


def test_visits_are_listed_in_order_with_the_cancelled_ones(clinic: Clinic) -> None:
    tuesday = MONDAY + DAY
    late, early = book_on(clinic, tuesday, 8), book_on(clinic, tuesday)
    gone = clinic.book(str(clinic.offers("Follow-up", from_=tuesday)[0].slot), "Follow-up")
    clinic.cancel(gone.token)
    (day,) = days(clinic, tuesday, 1)
    assert [visit.visit_id for visit in day.visits] == [early.id, gone.appointment.id, late.id]
    assert (day.visits[1].status, day.live) == (Status.CANCELLED, 2)


def test_a_week_has_seven_days_and_only_its_own_visits(clinic: Clinic) -> None:
    inside = [book_on(clinic, MONDAY + number * DAY) for number in (0, 4)]
    book_on(clinic, MONDAY + 7 * DAY)
    week = days(clinic, MONDAY)
    assert [day.on for day in week] == [MONDAY + number * DAY for number in range(7)]
    assert [visit.visit_id for day in week for visit in day.visits] == [visit.id for visit in inside]


def test_nobody_elses_visits_are_on_it(clinic: Clinic) -> None:
    book_on(clinic, MONDAY)
    assert [day.visits for day in days(clinic, MONDAY, 1, clinic.add_therapist("Ben Brown"))] == [[]]


@pytest.mark.parametrize(
    ("sunday", "before", "after"),
    [(date(2027, 3, 14), "14:00", "13:00"), (date(2026, 11, 1), "13:00", "14:00")],
    ids=["clocks go forward", "clocks go back"],
)
def test_a_week_in_which_the_clocks_change_keeps_its_local_hours(
    engine: Engine, clinic: Clinic, clock: FixedClock, sunday: date, before: str, after: str
) -> None:
    clinic.policy(booking_horizon_days=14)
    clinic.add_hours(ANA, 1, [5, 6])
    clock.at = datetime.combine(sunday - 9 * DAY, datetime.min.time(), UTC)
    clinic.plan()
    zone = zone_of("America/Chicago")
    for day in (sunday - DAY, sunday, sunday + DAY):
        book_on(clinic, day)
    week = days(clinic, sunday - 3 * DAY)
    starts = [visit.starts_at for day in week for visit in day.visits]
    assert [start.astimezone(zone).strftime("%a %H:%M") for start in starts] == ["Sat 08:00", "Sun 08:00", "Mon 08:00"]
    assert [start.strftime("%H:%M") for start in starts] == [before, after, after]
    assert [day.on for day in week if day.visits] == [sunday - DAY, sunday, sunday + DAY]


def test_a_visit_belongs_to_the_day_that_it_is_at_its_location(clinic: Clinic, clock: FixedClock) -> None:
    guam = clinic.add_location("Hagåtña", zone="Pacific/Guam", state="GU")
    ben = clinic.add_therapist("Ben Brown", state="GU")
    clinic.add_hours(ben, guam, range(7), opens=0, closes=23 * 60)
    clinic.plan()
    tuesday = MONDAY + DAY
    starts = clinic.offers("Follow-up", therapist_id=ben, from_=tuesday, to=tuesday + DAY)
    for start in (starts[0], starts[-1]):
        clinic.book(str(start.slot), "Follow-up")
    week = days(clinic, tuesday, 1, ben)
    assert [visit.starts_at for visit in week[0].visits] == [starts[0].slot.starts_at, starts[-1].slot.starts_at]
    assert [len(day.visits) for day in days(clinic, MONDAY, 3, ben)] == [0, 2, 0]


def test_today_is_the_date_where_most_hours_are(clinic: Clinic, clock: FixedClock) -> None:
    clock.at = datetime(2026, 11, 24, 5, 30, tzinfo=UTC)  # half past eleven on Monday night in Chicago
    with reading(clinic.engine) as session:
        assert schedule.today(session, ANA, now=clock.now()) == MONDAY
    denver = clinic.add_location("Denver", zone="America/Denver", state="CO")
    clinic.add_hours(clinic.add_therapist("Ben Brown"), denver)
    clinic.add_hours(ANA, denver, [0])
    with reading(clinic.engine) as session:
        assert schedule.home_zone(session, ANA) == "America/Chicago"
        assert schedule.home_zone(session, ANA + 1) == "America/Denver"


def test_a_clinic_without_locations_has_days_too(engine: Engine, clock: FixedClock) -> None:
    with reading(engine) as session:
        assert schedule.today(session, ANA, now=clock.now()) == MONDAY


def test_a_week_takes_as_many_queries_full_as_empty(clinic: Clinic, clock: FixedClock) -> None:
    counts = []
    for fill in (0, 30):
        for offer in clinic.offers("Needling", to=MONDAY + 5 * DAY)[: 2 * fill : 2]:
            clinic.book(str(offer.slot), "Needling", note="It hurts", patient=replace(PAT, name=str(offer.slot)))
        with statements(clinic.engine) as seen, reading(clinic.engine) as session:
            first = schedule.today(session, ANA, now=clock.now())
            week = schedule.days(session, ANA, first, 7, keys=clinic.keys)
        counts.append((len(seen), sum(day.live for day in week)))
    assert counts == [(2, 0), (2, 30)]


def test_live_visits_between_two_instants_end_before_the_second(clinic: Clinic) -> None:
    first, second = book_on(clinic, MONDAY), book_on(clinic, MONDAY, 5)
    gone = clinic.book(str(clinic.offers("Follow-up")[-1].slot), "Follow-up")
    clinic.cancel(gone.token)
    with reading(clinic.engine) as session:
        found = [
            [row.visit_id for row in schedule.live_between(session, ANA, start, end)]
            for start, end in (
                (first.starts_at, second.starts_at),
                (first.starts_at, second.starts_at + timedelta(seconds=1)),
                (first.starts_at, first.starts_at + 365 * DAY),
            )
        ]
    assert found == [[first.id], [first.id, second.id], [first.id, second.id]]
