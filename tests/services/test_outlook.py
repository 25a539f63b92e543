"""What is left of the next days is what search lists, and what can be booked one beside the other."""

from collections import Counter
from datetime import date, timedelta
from random import Random

import pytest
from sqlalchemy import update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import AppointmentType
from scheduler.services import outlook
from scheduler.services.outlook import Outlook
from scheduler.timeline import DAY, local_date, zone_of
from tests.clinic import Clinic

KINDS = ("Evaluation", "Follow-up", "Needling")


@pytest.fixture
def wide(clinic: Clinic) -> Clinic:
    denver = clinic.add_location("Denver", "America/Denver", "CO")
    for name in ("Ben Becker", "Cleo Cruz"):
        clinic.add_hours(clinic.add_therapist(name, "CO"), denver, weekdays=range(7), opens=13 * 60, closes=25 * 60)
    clinic.plan()
    return clinic


def ahead(clinic: Clinic, kind: str) -> list[Outlook]:
    with reading(clinic.engine) as session:
        return outlook.ahead(session, clinic.kinds[kind], now=clinic.clock.now())


def listed(clinic: Clinic, kind: str, place: Outlook) -> Counter[date]:
    """The starts that search lists on each day of a location."""
    zone = zone_of(place.location.time_zone)
    offers = clinic.offers(kind, location_id=place.location.id, limit=10_000, to=clinic.clock.now() + 9 * DAY)
    return Counter(local_date(offer.slot.starts_at, zone) for offer in offers)


@pytest.mark.parametrize("seed", range(3))
def test_the_starts_left_are_those_of_search(wide: Clinic, clock: FixedClock, seed: int) -> None:
    chance = Random(seed)
    clock.at += timedelta(minutes=chance.randrange(2000))
    for _ in range(25):
        kind = chance.choice(KINDS)
        wide.book(str(chance.choice(wide.offers(kind)).slot), kind)
    for kind in KINDS:
        for place in ahead(wide, kind):
            found, today = listed(wide, kind, place), place.days[0].on
            assert today == local_date(clock.at, zone_of(place.location.time_zone))
            assert {day.on: day.starts for day in place.days} == {day.on: found[day.on] for day in place.days}


def test_as_many_visits_can_be_booked_as_are_left(wide: Clinic, clock: FixedClock) -> None:
    before = ahead(wide, "Evaluation")
    (springfield,) = (place for place in before if place.location.name == "Springfield")
    assert [day.visits for day in springfield.days][1:5] == [9, 9, 9, 9]
    tomorrow = springfield.days[1]
    made = 0
    while offers := wide.offers(location_id=1, from_=tomorrow.on, to=tomorrow.on + DAY):
        wide.book(str(offers[0].slot))
        made += 1
    assert made == tomorrow.visits
    (after,) = (place for place in ahead(wide, "Evaluation") if place.location.name == "Springfield")
    assert (after.days[1].starts, after.days[1].visits) == (0, 0)
    assert after.a_day == pytest.approx(9 / 28)
    assert after.lasts == pytest.approx(after.visits / (9 / 28))
    assert springfield.lasts is None


def test_a_kind_is_counted_by_its_own_notice_and_horizon(wide: Clinic) -> None:
    with transaction(wide.engine) as session:
        session.execute(update(AppointmentType).values(notice_minutes=3 * 1440, horizon_days=5))
    for place in ahead(wide, "Evaluation"):
        assert [day.starts > 0 for day in place.days[:3]] == [False] * 3
        assert place.days[6].starts == 0
