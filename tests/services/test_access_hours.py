"""The starts of an empty plan are what search lists with nothing booked, and stay when everything is."""

from collections import defaultdict
from datetime import datetime, timedelta

import pytest

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import AppointmentType, AppointmentTypeTherapist
from scheduler.services import access_hours
from scheduler.timeline import DAY
from tests.clinic import Clinic


def planned(clinic: Clinic, kind: str) -> dict[int, list[datetime]]:
    now = clinic.clock.now()
    with reading(clinic.engine) as session:
        one = session.get_one(AppointmentType, clinic.kinds[kind])
        return access_hours.read(session, now + timedelta(hours=1), now + 7 * DAY).moments(one)


def listed(clinic: Clinic, kind: str) -> dict[int, list[datetime]]:
    found = defaultdict[int, set[datetime]](set)
    for offer in clinic.offers(kind, to=clinic.clock.now() + 6 * DAY, limit=10_000):
        found[offer.slot.location_id].add(offer.slot.starts_at)
    return {place: sorted(starts) for place, starts in found.items()}


def test_the_starts_lie_on_the_grid_whenever_they_are_asked_for(clinic: Clinic, clock: FixedClock) -> None:
    before = planned(clinic, "Evaluation")
    clock.at += timedelta(minutes=7, seconds=33)
    assert planned(clinic, "Evaluation") == before


@pytest.mark.parametrize("kind", ["Evaluation", "Needling"])
def test_with_nothing_booked_it_is_what_search_lists(clinic: Clinic, kind: str) -> None:
    denver = clinic.add_location("Denver", "America/Denver", "CO")
    for name, kinds in (("Ben Becker", ("pt", "dry_needling")), ("Cleo Cruz", ("pt",)), ("Dan Diaz", ("pt",))):
        clinic.add_hours(clinic.add_therapist(name, "CO", kinds), denver, opens=13 * 60, closes=25 * 60)
    with transaction(clinic.engine) as session:
        session.add(AppointmentTypeTherapist(appointment_type_id=clinic.kinds["Evaluation"], therapist_id=1))
        session.add(AppointmentTypeTherapist(appointment_type_id=clinic.kinds["Evaluation"], therapist_id=2))
    clinic.plan()
    before = planned(clinic, kind)
    end = clinic.clock.now() + 6 * DAY
    assert {place: [start for start in starts if start < end] for place, starts in before.items()} == listed(
        clinic, kind
    )
    for _ in range(5):
        clinic.book(str(clinic.offers()[0].slot))
    assert planned(clinic, kind) == before
