"""What administrators do at the same moment as others: each ends as if one had come after the other."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotBookable
from scheduler.models import Account, Appointment, Role
from scheduler.services import accounts, hours
from scheduler.services.accounts import LastAdmin
from scheduler.services.consequences import NotAgreed
from scheduler.services.hours import HoursClash, HoursDetails
from scheduler.timeline import DAY
from tests.clinic import Clinic
from tests.services.test_hours import ADMIN, change, row_of, rows
from tests.web.staff import an_account

NEXT_MONDAY = date(2026, 11, 30)
TRIES = 50


def together(*deeds: Callable[[], str]) -> list[str]:
    """Do all of it at one moment; return what came of each."""
    line = threading.Barrier(len(deeds))

    def wait_and(do: Callable[[], str]) -> str:
        line.wait(timeout=20)
        return do()

    with ThreadPoolExecutor(len(deeds)) as pool:
        return list(pool.map(wait_and, deeds))


def test_of_two_administrators_who_disable_each_other_one_stays(
    clinic: Clinic, engine: Engine, clock: FixedClock
) -> None:
    both = [an_account(engine, clock, Role.ADMIN, email=f"{name}@clinic.example") for name in ("one", "other")]

    def disable(account: Account) -> str:
        try:
            with transaction(engine) as session:
                accounts.disable(session, session.get_one(Account, account.id), by=ADMIN, now=clock.now())
        except LastAdmin:
            return "refused"
        return "disabled"

    assert sorted(together(*(lambda one=one: disable(one) for one in both))) == ["disabled", "refused"]
    with reading(engine) as session:
        assert sorted(session.scalars(select(Account.active))) == [False, True]


def test_of_two_places_that_want_a_therapist_at_once_one_gets_them(
    clinic: Clinic, engine: Engine, clock: FixedClock
) -> None:
    places: Sequence[int] = [clinic.add_location(name) for name in ("Chatham", "Decatur")]
    wanted = HoursDetails(9 * 60, 12 * 60, date(2026, 11, 23), None)

    def add(place: int) -> str:
        try:
            with transaction(engine) as session:
                hours.add(session, 1, place, [5], wanted, by=ADMIN, now=clock.now())
        except HoursClash:
            return "refused"
        return "added"

    assert sorted(together(*(lambda place=place: add(place) for place in places))) == ["added", "refused"]
    assert len([shift for shift in rows(clinic) if shift.weekday == 5]) == 1
    assert clinic.violations() == {}


def test_every_visit_booked_while_hours_end_was_shown_before_they_did(clinic: Clinic, engine: Engine) -> None:
    offers = clinic.offers(from_=NEXT_MONDAY, to=NEXT_MONDAY + DAY, limit=99)[::4]
    agreed_to: set[object] = set()

    def end() -> str:
        shift, agreed = row_of(clinic, 0), None
        for _ in range(TRIES):
            try:
                change(clinic, shift, agreed, valid_until=NEXT_MONDAY - DAY)
            except NotAgreed as told:
                agreed_to.clear()
                agreed_to.update(hit.visit_id for hit in told.hits)
                agreed = told.agreement
            else:
                return "ended"
        return "never"

    def book(slot: str) -> str:
        try:
            clinic.book(slot)
        except (NotBookable, Invalid):  # taken, or no time of anybody's any more
            return "gone"
        return "booked"

    outcomes = together(end, *(lambda slot=str(offer.slot): book(slot) for offer in offers))
    assert outcomes[0] == "ended"
    with reading(engine) as session:
        booked = set(session.scalars(select(Appointment.id)))
    assert len(booked) == outcomes.count("booked")
    assert booked == agreed_to
    assert clinic.offers(from_=NEXT_MONDAY, to=NEXT_MONDAY + DAY) == []
    assert clinic.violations() == {}


def test_of_two_who_change_the_same_hours_one_is_shown_the_other_s(clinic: Clinic, engine: Engine) -> None:
    shift = row_of(clinic, 0)

    def save(last: date) -> str:
        try:
            change(clinic, shift, valid_until=last)
        except Exception as refusal:  # noqa: BLE001 whatever it is, it is named
            return type(refusal).__name__
        return "saved"

    days = [NEXT_MONDAY + 7 * n * DAY for n in range(4)]
    outcomes = together(*(lambda day=day: save(day) for day in days))
    assert sorted(outcomes) == ["ChangedMeanwhile"] * 3 + ["saved"]
    assert clinic.violations() == {}
