"""A kind of visit with its own notice, horizon, therapists and locations: offered, booked and measured by one rule."""

import random
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotBookable, NotOffered, TooLate, TooSoon
from scheduler.keys import Keyring
from scheduler.models import AppointmentType, AppointmentTypeLocation, AppointmentTypeTherapist, Slot, Status
from scheduler.services import availability, claims, practice
from scheduler.services.availability import Offer, SlotName
from scheduler.services.consequences import Why
from scheduler.timeline import DAY, zone_of
from tests.clinic import HOUR, Clinic, body, key, rows
from tests.services.test_booking_by_staff import book_for, staff_offers, wish
from tests.services.test_clinic import TODAY, agreeing, change_kind, kind
from tests.services.test_hours import audited

MANY = 5000


@pytest.fixture
def wide(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    """Three therapists at two locations of different zones, one of them at both; twelve days."""
    clinic = Clinic(engine, clock, keys)
    clinic.policy(booking_horizon_days=12)
    clinic.add_kinds()
    places = clinic.add_location(), clinic.add_location("Mesa", "America/Phoenix", "AZ")
    people = [clinic.add_therapist(name, state) for name, state in (("A", "IL"), ("B", "AZ"), ("C", "IL"))]
    with transaction(engine) as session:
        session.add_all(clinic.license(people[2], one, "AZ") for one in ("pt", "dry_needling"))
    clinic.add_hours(people[0], places[0])
    clinic.add_hours(people[1], places[1])
    clinic.add_hours(people[2], places[0], weekdays=(0, 2), closes=720)
    clinic.add_hours(people[2], places[1], weekdays=(1, 3), opens=600)
    clinic.plan()
    return clinic


def limit(clinic: Clinic, name: str, people: Iterable[int] = (), places: Iterable[int] = (), **own: Any) -> None:  # noqa: ANN401
    """Give a kind of visit limits of its own, row by row."""
    kind_id = clinic.kinds[name]
    with transaction(clinic.engine) as session:
        session.add_all(AppointmentTypeTherapist(appointment_type_id=kind_id, therapist_id=one) for one in people)
        session.add_all(AppointmentTypeLocation(appointment_type_id=kind_id, location_id=one) for one in places)
        for column, value in own.items():
            setattr(session.get_one(AppointmentType, kind_id), column, value)


def bookable(clinic: Clinic, name: str, *, by_staff: bool) -> set[SlotName]:
    """Every cell that booking would take, asked one by one."""
    found = set()
    with reading(clinic.engine) as session:
        for cell in rows(session, Slot):
            slot = SlotName(cell.therapist_id, cell.location_id, cell.starts_at)
            try:
                availability.require_bookable(
                    session, str(slot), clinic.kinds[name], now=clinic.clock.now(), by_staff=by_staff
                )
            except NotBookable:
                continue
            found.add(slot)
    return found


def names(offers: Iterable[Offer]) -> list[SlotName]:
    return [offer.slot for offer in offers]


@pytest.mark.parametrize("seed", range(6))
def test_what_is_offered_is_what_is_booked_measured_and_allowed(wide: Clinic, seed: int) -> None:
    chance = random.Random(seed)
    people = chance.sample([1, 2, 3], chance.randint(0, 3))
    places = chance.sample([1, 2], chance.randint(0, 2))
    notice, horizon = chance.choice([None, 0, 30 * 60]), chance.choice([None, 1, 5, 30])
    own = {"notice_minutes": notice, "horizon_days": horizon}
    every = wide.offers(limit=MANY, by_staff=True)
    limit(wide, "Evaluation", people, places, **own)
    now = wide.clock.now()
    first = now + timedelta(minutes=60 if notice is None else notice)
    last = now + min(horizon or 12, 12) * DAY
    to_staff = [
        slot
        for slot in names(every)
        if (not people or slot.therapist_id in people) and (not places or slot.location_id in places)
    ]
    online = [slot for slot in to_staff if first <= slot.starts_at <= last]
    assert names(wide.offers(limit=MANY, by_staff=True)) == to_staff
    assert names(wide.offers(limit=MANY)) == online
    assert bookable(wide, "Evaluation", by_staff=False) == set(online)
    assert bookable(wide, "Evaluation", by_staff=True) == set(to_staff)
    for field, number in (("location_id", 1), ("location_id", 2), ("therapist_id", 1), ("therapist_id", 3)):
        there = [slot for slot in online if getattr(slot, field) == number]
        find: dict[str, Any] = {field: number}
        assert names(wide.offers(limit=MANY, **find)) == there
    with reading(wide.engine) as session:
        _, openings = availability.soonest(session, wide.kinds["Evaluation"], 3, now=now)
    assert {at.location.id: at.starts for at in openings} == {
        place: [slot for slot in online if slot.location_id == place][:3] for place in (1, 2)
    }


def test_a_start_of_somebody_who_does_not_offer_it_is_refused_to_all_and_others_are_named(
    wide: Clinic, client: FlaskClient
) -> None:
    refused = wide.offers(therapist_id=1)[0].slot
    limit(wide, "Evaluation", people=[2, 3], places=[1])
    answer = client.post("/api/v1/appointments", json=body(str(refused)), headers=key())
    assert answer.status_code == 409
    assert answer.get_json()["type"].endswith("slot-taken")
    named = {(one["therapist"]["id"], one["location"]["id"]) for one in answer.get_json()["alternatives"]}
    assert named == {("3", "1")}
    with pytest.raises(NotOffered):
        book_for(wide, wish(wide, str(refused)))
    wide.book(str(refused), "Follow-up")  # which everybody offers


def test_own_notice_and_horizon_bind_patients_and_not_staff(clinic: Clinic) -> None:
    soon, late = staff_offers(clinic)[0], clinic.offers(limit=MANY)[-1]
    limit(clinic, "Follow-up", notice_minutes=0)
    assert clinic.offers("Follow-up")[0].slot == soon.slot
    limit(clinic, "Evaluation", notice_minutes=24 * 60, horizon_days=3)
    times = [offer.slot.starts_at - clinic.clock.now() for offer in clinic.offers(limit=MANY)]
    assert (min(times), max(times)) == (DAY, 3 * DAY)
    for offer, refusal in ((soon, TooSoon), (late, TooLate)):
        with pytest.raises(refusal):
            clinic.book(str(offer.slot))
        book_for(clinic, wish(clinic, str(offer.slot)))


def test_a_visit_with_its_buffer_ends_before_closing(clinic: Clinic) -> None:
    change_kind(clinic, 2, minutes=30, buffer_minutes=45)
    offers = clinic.offers("Follow-up", from_=TODAY + DAY, to=TODAY + 2 * DAY)
    last = offers[-1].slot
    assert last.starts_at.astimezone(zone_of("America/Chicago")).strftime("%H:%M") == "15:45"  # closed from 17:00 on
    with pytest.raises(NotBookable):
        clinic.book(str(SlotName(last.therapist_id, last.location_id, last.starts_at + HOUR / 4)), "Follow-up")
    visit = clinic.book(str(last), "Follow-up").appointment
    assert visit.slots_end - visit.starts_at == timedelta(minutes=75)
    assert clinic.violations() == {}


def test_visits_that_their_therapist_or_location_no_longer_offers_are_told_and_stay(wide: Clinic) -> None:
    one, other = (wide.book(str(wide.offers(therapist_id=person)[0].slot)).appointment for person in (1, 2))
    wide.book(str(wide.offers("Follow-up", therapist_id=1)[0].slot), "Follow-up")
    told = agreeing(lambda agreed: change_kind(wide, 1, agreed, therapist_ids=(2, 3)))
    assert [(hit.visit_id, hit.why) for hit in told.hits] == [(one.id, Why.NOT_OFFERED)]
    told = agreeing(lambda agreed: change_kind(wide, 1, agreed, location_ids=(1,)))
    assert [(hit.visit_id, hit.why) for hit in told.hits] == [(other.id, Why.NOT_OFFERED)]
    change_kind(wide, 1, therapist_ids=(), location_ids=())  # more may: nobody is hit
    assert {visit.status for visit in (one, other)} == {Status.BOOKED}
    assert wide.violations() == {}
    changes = [detail for action, _, detail in audited(wide.engine) if action == "appointment_type.changed"]
    assert changes == [
        {"therapist_ids": [[], [2, 3]]},
        {"location_ids": [[], [1]]},
        {"therapist_ids": [[2, 3], []], "location_ids": [[1], []]},
    ]


def test_a_horizon_beyond_the_clinics_is_refused_and_a_shorter_one_of_the_clinic_holds(wide: Clinic) -> None:
    with pytest.raises(Invalid, match="horizon_days"):
        change_kind(wide, 1, horizon_days=13)
    change_kind(wide, 1, horizon_days=12)
    assert kind(wide, 1).horizon_days == 12
    wide.policy(booking_horizon_days=2)
    assert wide.offers(limit=MANY)[-1].slot.starts_at <= wide.clock.now() + 2 * DAY


def test_needling_is_promised_everywhere_only_where_somebody_offers_it(wide: Clinic) -> None:
    def promised() -> bool:
        with reading(wide.engine) as session:
            return claims.everywhere(claims.present(session, now=wide.clock.now())).holds

    assert promised()
    limit(wide, "Needling", people=[3])
    assert promised()  # C works at both
    limit(wide, "Needling", people=[1], places=[1])
    assert not promised()


def test_who_offers_what_is_one_question(wide: Clinic) -> None:
    limit(wide, "Needling", people=[3, 1])
    limit(wide, "Follow-up", places=[2])
    with reading(wide.engine) as session:
        offering = practice.offering(session)
    assert (offering.people, offering.places) == ({3: {1, 3}}, {2: {2}})
    assert [offering.allows(3, person, 1) for person in (1, 2, 3)] == [True, False, True]
    assert [offering.allows(2, 1, place) for place in (1, 2)] == [False, True]
    assert offering.allows(1, 2, 2)
