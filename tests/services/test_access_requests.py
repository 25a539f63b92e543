"""What new patients were offered and what they took is kept with each booking, and is about that moment only."""

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import AccessRequest, Location, Needling
from scheduler.services import access_requests, booking
from scheduler.services.access_requests import Met
from scheduler.services.availability import Offer
from scheduler.services.booking import BookForPatient, Repeatable
from scheduler.services.holds import Keeper
from scheduler.timeline import DAY
from tests.clinic import Clinic
from tests.services.test_hours import ADMIN
from tests.services.test_schedule import PAT


@pytest.fixture
def wide(clinic: Clinic) -> Clinic:
    """Two places, a therapist at each: Springfield on Mondays only, Denver every weekday."""
    with transaction(clinic.engine) as session:
        session.execute(update(Location).values(name="Springfield"))
    clinic.add_hours(clinic.add_therapist("Ben Becker", "CO"), clinic.add_location("Denver", "America/Denver", "CO"))
    clinic.plan()
    return clinic


def kept(engine: Engine) -> list[AccessRequest]:
    with reading(engine) as session:
        return list(session.scalars(select(AccessRequest).order_by(AccessRequest.asked_at)))


def met(clinic: Clinic, days: int = 28) -> dict[int | None, Met]:
    now = clinic.clock.now()
    with reading(clinic.engine) as session:
        return access_requests.met(session, clinic.kinds["Evaluation"], since=now - days * DAY, until=now)


def hours(clinic: Clinic, offer: Offer) -> float:
    return round((offer.slot.starts_at - clinic.clock.now()) / timedelta(hours=1), 2)


def test_a_booking_keeps_what_was_on_offer_then(wide: Clinic, engine: Engine) -> None:
    here, there = (wide.offers(location_id=place) for place in (1, 2))
    later = next(offer for offer in here if hours(wide, offer) > 48)
    wide.book(str(later.slot))
    (row,) = kept(engine)
    assert (row.here_hours, row.taken_hours) == (hours(wide, here[0]), hours(wide, later))
    assert row.anywhere_hours == min(hours(wide, here[0]), hours(wide, there[0]))
    assert (row.location_id, row.goal_hours, row.asked_at) == (1, 48, wide.clock.now())
    assert met(wide) == {1: Met(1, 1, 0, 1), None: Met(1, 1, 0, 1)}


def test_what_a_full_location_has_not_may_be_on_offer_elsewhere(wide: Clinic, clock: FixedClock) -> None:
    while hours(wide, first := wide.offers(location_id=1)[0]) <= 48:
        wide.book(str(first.slot), "Follow-up")
    wide.book(str(wide.offers(location_id=1)[0].slot))
    found = met(wide)
    assert (found[1], found[None]) == (Met(1, 0, 0, 0), Met(1, 1, 0, 1))
    assert (found[1].offer_rate, found[None].offer_rate, found[None].realised) == (0, 1, 0)
    clock.at += 29 * DAY
    assert met(wide) == {None: Met()}
    assert Met().offer_rate is None


def test_what_one_holds_oneself_is_on_offer(clinic: Clinic, engine: Engine) -> None:
    first = clinic.offers()[0]
    token = clinic.hold(str(first.slot)).token
    clinic.book(str(first.slot), keeper=Keeper(token))
    (row,) = kept(engine)
    assert row.here_hours == row.taken_hours == hours(clinic, first)


def test_a_walk_in_is_on_offer_to_the_staff_who_book_it(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    clock.at = clinic.offers()[0].slot.starts_at + timedelta(minutes=5)
    running = clinic.offers(by_staff=True)[0]
    request = BookForPatient(
        str(running.slot), clinic.kinds["Evaluation"], PAT, Needling.TALK_FIRST, None, Repeatable(uuid4().hex, "0" * 64)
    )
    with transaction(engine) as session:
        booking.book_for(session, request, by=ADMIN, keys=clinic.keys, now=clock.now())
    (row,) = kept(engine)
    assert row.taken_hours == row.here_hours == pytest.approx(-0.08)


def test_only_kinds_for_new_patients_count_and_cancelling_takes_nothing_back(clinic: Clinic, engine: Engine) -> None:
    clinic.book(str(clinic.offers("Follow-up")[0].slot), "Follow-up")
    assert kept(engine) == []
    clinic.cancel(clinic.book(str(clinic.offers()[0].slot)).token)
    assert len(kept(engine)) == 1
