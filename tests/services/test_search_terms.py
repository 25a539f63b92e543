"""A search begins with the terms of the last one like it; whatever has changed since, it goes by what holds now."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Engine, delete

from scheduler.clock import FixedClock
from scheduler.db import Base, transaction
from scheduler.errors import Invalid
from scheduler.keys import Keyring
from scheduler.models import (
    AppointmentType,
    AppointmentTypeLocation,
    AppointmentTypeTherapist,
    ClinicPolicy,
    Location,
    TherapistLanguage,
)
from scheduler.services import availability
from scheduler.services.availability import Find, Page
from scheduler.services.windows import DayPart, LocalWish
from tests.clinic import Clinic

KIND = 1
FINDS = (
    Find(KIND),
    Find(KIND, location_id=1),
    Find(KIND, location_id=2, therapist_id=2),
    Find(KIND, language="en"),
    Find(KIND, from_=date(2026, 11, 24), to=date(2026, 11, 26)),
    Find(KIND, location_id=1, to=date(2026, 11, 25)),
    Find(KIND, local=LocalWish(DayPart.MORNING)),
)
Change = Callable[[Any], None]


def changed(table: type[Base], **values: object) -> Change:
    """Another policy, or another row with the id 1."""

    def change(session: Any) -> None:  # noqa: ANN401 a session
        for name, value in values.items():
            setattr(session.get_one(table, 1), name, value)

    return change


def added(*rows: Callable[[], Base]) -> Change:
    return lambda session: session.add_all([row() for row in rows])


CHANGES: dict[str, Change] = {
    "the clinic's notice": changed(ClinicPolicy, booking_notice_minutes=60 * 26),
    "the clinic's horizon": changed(ClinicPolicy, booking_horizon_days=1),
    "the kind's own notice": changed(AppointmentType, notice_minutes=60 * 26),
    "the kind's own horizon": changed(AppointmentType, horizon_days=1),
    "its length": changed(AppointmentType, minutes=30),
    "its buffer": changed(AppointmentType, buffer_minutes=60),
    "a place that is not open online": changed(Location, online=False),
    "the zone of a place": changed(Location, time_zone="Asia/Tokyo"),
    "therapists of its own": added(lambda: AppointmentTypeTherapist(appointment_type_id=KIND, therapist_id=2)),
    "places of its own": added(lambda: AppointmentTypeLocation(appointment_type_id=KIND, location_id=2)),
    "a language that nobody speaks": lambda session: session.execute(delete(TherapistLanguage)),
}


@pytest.fixture
def clinic(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    clinic = Clinic(engine, clock, keys)
    clinic.policy(booking_horizon_days=4)
    clinic.add_kinds()
    for number in (1, 2):
        clinic.add_hours(clinic.add_therapist(f"T{number}"), clinic.add_location(f"L{number}"), range(7))
    clinic.plan()
    return clinic


def searched(clinic: Clinic, find: Find) -> Page:
    return availability.search(clinic.engine, find, now=clinic.clock.now())


@pytest.mark.parametrize("what", CHANGES)
def test_a_search_goes_by_the_terms_of_its_own_moment(clinic: Clinic, what: str) -> None:
    before = [searched(clinic, find) for find in FINDS]
    with transaction(clinic.engine) as session:
        CHANGES[what](session)
    after = [searched(clinic, find) for find in FINDS]
    availability._kept.clear()
    assert after == [searched(clinic, find) for find in FINDS]
    assert after != before


def test_what_is_gone_is_unknown_at_once(clinic: Clinic) -> None:
    assert searched(clinic, FINDS[0]).offers
    with transaction(clinic.engine) as session:
        changed(AppointmentType, active=False)(session)
    with pytest.raises(Invalid):
        searched(clinic, FINDS[0])


def test_what_was_not_offered_is_found_once_it_is(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.add(AppointmentTypeLocation(appointment_type_id=KIND, location_id=2))
    assert searched(clinic, FINDS[1]).offers == []
    with transaction(clinic.engine) as session:
        session.execute(delete(AppointmentTypeLocation))
    assert searched(clinic, FINDS[1]).offers
