"""What the clinic's own people are told of: a day that others changed, once while it is still to be told."""

from datetime import date, datetime, timedelta
from threading import Barrier
from uuid import uuid4

import pytest
from sqlalchemy import Engine, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.keys import Keyring
from scheduler.models import Account, Fate, Kind, Needling, OutboxMessage, Role
from scheduler.services import accounts, audit, booking, notices
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.services.availability import Offer
from scheduler.services.booking import BookForPatient, PatientDetails, Repeatable, Visit
from tests.clinic import HOUR, Clinic, at
from tests.server import at_once

DAY = timedelta(days=1)
DESK = Actor("account:77", "192.0.2.1")
TODAY = "2026-11-23"
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
PAT = PatientDetails("Pat Doe", "pat@example.com", None, None, "en", True, False)
ANA = 1  # the clinic's therapist
Told = list[tuple[int | None, str | None]]


@pytest.fixture
def ana(clinic: Clinic) -> int:
    """The account of the clinic's therapist."""
    return account(clinic, "ana@example.com", ANA)


def account(clinic: Clinic, email: str, therapist_id: int | None = None) -> int:
    role = Role.FRONT_DESK if therapist_id is None else Role.THERAPIST
    with transaction(clinic.engine) as session:
        new = AccountDetails(email, email.partition("@")[0], role, therapist_id=therapist_id)
        return accounts.add(session, new, by=DESK, now=clinic.clock.now()).id


def book_for(clinic: Clinic, offer: Offer, by: Actor) -> Visit:
    repeatable = Repeatable(uuid4().hex, uuid4().hex)
    wanted = BookForPatient(str(offer.slot), offer.appointment_type_id, PAT, Needling.TALK_FIRST, None, repeatable)
    with transaction(clinic.engine) as session:
        return booking.book_for(session, wanted, by=by, keys=clinic.keys, now=clinic.clock.now())


def call_off(clinic: Clinic, visit: Visit, by: Actor) -> None:
    with transaction(clinic.engine) as session:
        appointment = booking.view(session, visit.token, keys=clinic.keys).appointment
        booking.call_off(session, appointment, None, by=by, keys=clinic.keys, now=clinic.clock.now())


def told(engine: Engine, *fates: Fate) -> Told:
    """Who is owed word of which day, in the order of owing."""
    words = select(OutboxMessage.account_id, OutboxMessage.about).where(
        OutboxMessage.kind == Kind.DAY_CHANGED, OutboxMessage.status.in_(fates or [Fate.OWED])
    )
    with reading(engine) as session:
        return [(who, what) for who, what in session.execute(words.order_by(OutboxMessage.id))]


def settle(engine: Engine, fate: Fate, now: datetime) -> None:
    """Let all that is owed to staff end so."""
    ended = {"status": fate, "sent_at": now if fate == Fate.SENT else None, "reason": "so"}
    with transaction(engine) as session:
        session.execute(update(OutboxMessage).where(OutboxMessage.account_id.is_not(None)).values(**ended))


def starting(clinic: Clinic, wait: timedelta) -> Offer:
    """The first start that is so far ahead."""
    return next(offer for offer in clinic.offers() if offer.slot.starts_at >= clinic.clock.now() + wait)


# --- what is told of


def test_a_day_that_a_patient_books_into_within_24_hours_is_told_of(clinic: Clinic, ana: int) -> None:
    clinic.book(str(clinic.offers()[0].slot))
    assert told(clinic.engine) == [(ana, TODAY)]


def test_a_visit_that_a_patient_cancels_within_24_hours_is_told_of(clinic: Clinic, clock: FixedClock, ana: int) -> None:
    visit = clinic.book(str(starting(clinic, 2 * DAY).slot))
    assert told(clinic.engine) == []
    clock.at = visit.appointment.starts_at - HOUR
    clinic.cancel(visit.token)
    clinic.cancel(visit.token)
    assert told(clinic.engine, *Fate) == [(ana, "2026-11-25")]


@on_sqlite
@pytest.mark.parametrize(("before", "owed"), [(DAY, False), (DAY - timedelta(microseconds=1), True), (HOUR, True)])
def test_24_hours_are_24_hours(clinic: Clinic, clock: FixedClock, ana: int, before: timedelta, owed: bool) -> None:
    visit_at = starting(clinic, 2 * DAY)
    clock.at = visit_at.slot.starts_at - before
    visit = clinic.book(str(visit_at.slot))
    assert told(clinic.engine) == [(ana, "2026-11-25")] * owed
    settle(clinic.engine, Fate.SENT, clock.at)
    clinic.cancel(visit.token)
    assert told(clinic.engine) == [(ana, "2026-11-25")] * owed


def test_what_a_therapist_changes_themselves_is_not_told_to_them(clinic: Clinic, ana: int) -> None:
    own = Actor(audit.name_of(ana))
    visit = book_for(clinic, clinic.offers()[0], own)
    call_off(clinic, visit, own)
    assert told(clinic.engine, *Fate) == []


def test_what_the_front_desk_changes_is_told(clinic: Clinic, ana: int) -> None:
    visit = book_for(clinic, clinic.offers()[0], DESK)
    assert told(clinic.engine) == [(ana, TODAY)]
    settle(clinic.engine, Fate.SENT, clinic.clock.now())
    call_off(clinic, visit, DESK)
    assert told(clinic.engine) == [(ana, TODAY)]


@on_sqlite
def test_a_walk_in_of_the_running_quarter_hour_is_told(clinic: Clinic, clock: FixedClock, ana: int) -> None:
    first = clinic.offers(by_staff=True)[0]
    clock.at = first.slot.starts_at + timedelta(minutes=14)
    book_for(clinic, first, DESK)
    assert told(clinic.engine) == [(ana, TODAY)]


@on_sqlite
def test_only_the_visits_own_therapist_is_told(clinic: Clinic, ana: int) -> None:
    ben = clinic.add_therapist("Ben Brown")
    clinic.add_hours(ben, 1)
    clinic.plan()
    bens = account(clinic, "ben@example.com", ben)
    account(clinic, "desk@example.com")
    clinic.book(str(clinic.offers(therapist_id=ben)[0].slot))
    assert told(clinic.engine) == [(bens, TODAY)]
    assert ana != bens


@on_sqlite
def test_a_therapist_without_an_account_or_with_a_disabled_one_is_told_nothing(clinic: Clinic) -> None:
    first, second = clinic.offers()[0], clinic.offers()[8]
    clinic.book(str(first.slot))
    ana = account(clinic, "ana@example.com", ANA)
    with transaction(clinic.engine) as session:
        accounts.disable(session, session.get_one(Account, ana), by=DESK, now=clinic.clock.now())
    clinic.book(str(second.slot))
    assert told(clinic.engine, *Fate) == []


@on_sqlite
def test_a_day_is_the_locations_own(engine: Engine, clock: FixedClock, keys: Keyring) -> None:
    """Eleven in the evening in Honolulu is the next day in UTC, and in Chicago."""
    clinic = Clinic(engine, clock, keys)
    clinic.add_kinds()
    late = clinic.add_therapist("Lani Lee", "HI")
    clinic.add_hours(late, clinic.add_location("Hilo", "Pacific/Honolulu", "HI"), opens=23 * 60, closes=24 * 60)
    clinic.plan()
    lani = account(clinic, "lani@example.com", late)
    clock.at = at("2026-11-24T08:00:00+00:00")  # ten in the evening of the day before
    visit = clinic.book(str(clinic.offers(from_=date(2026, 11, 23))[0].slot))
    assert visit.appointment.starts_at == at("2026-11-24T09:00:00+00:00")
    assert told(engine) == [(lani, TODAY)]


@on_sqlite
def test_a_booking_that_is_repeated_tells_nothing_anew(clinic: Clinic, ana: int) -> None:
    request = clinic.request(str(clinic.offers()[0].slot))
    for _ in range(2):
        with transaction(clinic.engine) as session:
            booking.book(session, request, keys=clinic.keys, now=clinic.clock.now())
        assert told(clinic.engine, *Fate) == [(ana, TODAY)]
        settle(clinic.engine, Fate.SENT, clinic.clock.now())


# --- once while it is owed


def owe(clinic: Clinic, account_id: int, kind: Kind = Kind.DAY_CHANGED, about: str = TODAY) -> None:
    with transaction(clinic.engine) as session:
        notices.owe(session, account_id, kind, about, now=clinic.clock.now())


def test_the_same_is_owed_once_while_it_is_owed(clinic: Clinic, ana: int) -> None:
    owe(clinic, ana)
    owe(clinic, ana)
    assert told(clinic.engine) == [(ana, TODAY)]


def test_several_visits_of_one_day_make_one_message(clinic: Clinic, clock: FixedClock, ana: int) -> None:
    tokens = [clinic.book(str(clinic.offers()[0].slot)).token for _ in range(3)]
    clock.at += timedelta(minutes=1)
    clinic.cancel(tokens[1])
    assert told(clinic.engine, *Fate) == [(ana, TODAY)]


@pytest.mark.parametrize("fate", [Fate.SENT, Fate.SUPPRESSED, Fate.FAILED])
def test_what_has_ended_may_be_owed_again(clinic: Clinic, ana: int, fate: Fate) -> None:
    owe(clinic, ana)
    settle(clinic.engine, fate, clinic.clock.now())
    owe(clinic, ana)
    owe(clinic, ana)
    assert told(clinic.engine) == [(ana, TODAY)]
    assert told(clinic.engine, fate) == [(ana, TODAY)]


@on_sqlite
def test_another_day_another_kind_and_another_account_are_owed_beside_it(clinic: Clinic, ana: int) -> None:
    other = account(clinic, "desk@example.com")
    for who, kind, about in (
        (ana, Kind.DAY_CHANGED, TODAY),
        (ana, Kind.DAY_CHANGED, "2026-11-24"),
        (ana, Kind.LOCKED_OUT, TODAY),
        (other, Kind.DAY_CHANGED, TODAY),
    ):
        owe(clinic, who, kind, about)
    with reading(clinic.engine) as session:
        owed = session.scalars(select(OutboxMessage.id).where(OutboxMessage.account_id.is_not(None))).all()
    assert len(owed) == 4


def test_of_many_who_change_a_day_at_once_one_owes_the_word(clinic: Clinic, ana: int) -> None:
    def change(_place: int, together: Barrier) -> None:
        together.wait()
        owe(clinic, ana)

    at_once(6, change)
    assert told(clinic.engine, *Fate) == [(ana, TODAY)]
