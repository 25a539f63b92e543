"""Movers and bookers after one time, and the proof that the guards are needed: the same races with the guards off.

Everybody sees the time free before anybody takes it, so the races are the same on each run.
"""

import threading

from sqlalchemy import Engine, select

from scheduler.db import reading, transaction
from scheduler.errors import NotBookable, VisitClosed
from scheduler.models import Appointment, AuditEvent, Slot
from scheduler.services import moves
from scheduler.services.availability import Offer
from scheduler.services.booking import Visit
from scheduler.services.moves import MoveVisit
from tests.clinic import Clinic
from tests.races.test_guard_controls import (
    LOST_SLOTS,
    OVERLAPS,
    claiming_blindly,
    seen_free,
    trusting,
    wanted,
    without_trigger,
)
from tests.server import at_once

__all__ = ["claiming_blindly", "trusting", "wanted", "without_trigger"]  # fixtures
MOVERS = 6


def movers(clinic: Clinic) -> list[Visit]:
    """Visits that are not in each other's way, nor at the time that all want."""
    return [clinic.book(str(offer.slot)) for offer in clinic.offers()[40::25][:MOVERS]]


def moved(clinic: Clinic, visit: Visit, wanted: Offer) -> str:
    try:
        with transaction(clinic.engine) as session:
            wish = MoveVisit(str(wanted.slot))
            moves.move(session, visit.token, wish, keys=clinic.keys, now=clinic.clock.now())
    except (NotBookable, VisitClosed) as refusal:
        return refusal.code
    return "moved"


def race(clinic: Clinic, visits: list[Visit], wanted: Offer, bookers: int = 0) -> list[str]:
    """Let all see the time free, and only then take it."""

    def somebody(place: int, together: threading.Barrier) -> str:
        assert seen_free(clinic, wanted)
        together.wait()
        if place < len(visits):
            return moved(clinic, visits[place], wanted)
        try:
            clinic.book(str(wanted.slot))
        except NotBookable as refusal:
            return refusal.code
        return "booked"

    return sorted(at_once(len(visits) + bookers, somebody))


def starts(clinic: Clinic) -> dict[str, object]:
    with reading(clinic.engine) as session:
        return {str(one.id): one.starts_at for one in session.scalars(select(Appointment))}


def cells_held(clinic: Clinic) -> int:
    with reading(clinic.engine) as session:
        return len(session.scalars(select(Slot.starts_at).where(Slot.appointment_id.is_not(None))).all())


def test_of_movers_racing_for_one_time_one_wins_and_the_others_keep_theirs(clinic: Clinic, wanted: Offer) -> None:
    visits = movers(clinic)
    before = starts(clinic)
    assert race(clinic, visits, wanted) == ["moved"] + ["slot-taken"] * (MOVERS - 1)
    kept = [visit for visit, start in starts(clinic).items() if before[visit] == start]
    assert (len(kept), cells_held(clinic), clinic.violations()) == (MOVERS - 1, 4 * MOVERS, {})


def test_of_movers_and_bookers_one_wins(clinic: Clinic, wanted: Offer) -> None:
    visits = movers(clinic)
    told = race(clinic, visits, wanted, bookers=4)
    assert told[1:] == ["slot-taken"] * (MOVERS + 3)
    assert told[0] in {"moved", "booked"}
    assert clinic.violations() == {}


def test_the_race_of_movers_is_real_without_the_guards(
    clinic: Clinic, wanted: Offer, trusting: None, claiming_blindly: None, without_trigger: None
) -> None:
    visits = movers(clinic)
    assert race(clinic, visits, wanted) == ["moved"] * MOVERS
    assert clinic.violations() == {OVERLAPS: MOVERS - 1, LOST_SLOTS: MOVERS - 1}


def test_the_claim_alone_decides_among_movers(
    clinic: Clinic, wanted: Offer, trusting: None, without_trigger: None
) -> None:
    visits = movers(clinic)
    assert race(clinic, visits, wanted) == ["moved"] + ["slot-taken"] * (MOVERS - 1)
    assert clinic.violations() == {}


def test_two_who_swap_therapists_never_wait_for_each_other(clinic: Clinic, engine: Engine) -> None:
    """Each locks both therapists: in id order, or they would."""
    other = clinic.add_therapist("Ben Boyd")
    clinic.add_hours(other, 1)
    clinic.plan()
    here, there = clinic.offers(therapist_id=1), clinic.offers(therapist_id=other)
    pairs = [(clinic.book(str(here[40 * n].slot)), there[40 * n + 8]) for n in range(3)]
    pairs += [(clinic.book(str(there[40 * n].slot)), here[40 * n + 8]) for n in range(3)]

    def mover(place: int, together: threading.Barrier) -> str:
        together.wait()
        return moved(clinic, *pairs[place])

    assert at_once(len(pairs), mover) == ["moved"] * len(pairs)
    assert clinic.violations() == {}


def test_of_a_move_and_a_cancel_of_one_visit_the_last_sees_what_the_first_did(clinic: Clinic, wanted: Offer) -> None:
    visit = movers(clinic)[0]

    def somebody(place: int, together: threading.Barrier) -> str:
        together.wait()
        if place:
            return moved(clinic, visit, wanted)
        clinic.cancel(visit.token)
        return "cancelled"

    told = at_once(2, somebody)
    assert told[0] == "cancelled"
    assert told[1] in {"moved", VisitClosed.code}
    assert (cells_held(clinic), clinic.violations()) == (4 * (MOVERS - 1), {})


def test_the_same_move_sent_many_times_at_once_is_one(clinic: Clinic, wanted: Offer) -> None:
    visit = movers(clinic)[0]
    assert race(clinic, [visit] * 6, wanted) == ["moved"] * 6
    with reading(clinic.engine) as session:
        done = select(AuditEvent).where(AuditEvent.action == "appointment.moved")
        assert len(session.scalars(done).all()) == 1
    assert clinic.violations() == {}
