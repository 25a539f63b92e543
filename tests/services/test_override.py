"""What staff may book against a rule, with a reason; what no reason helps against; and what is left of it: nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotBookable, NotLicensed, NotOffered, SlotHeld, SlotTaken, TooLate, TooSoon
from scheduler.models import (
    Appointment,
    AppointmentType,
    AppointmentTypeTherapist,
    AuditEvent,
    License,
    Location,
    Override,
    Slot,
    StateRule,
    Therapist,
)
from scheduler.services import booking, consequences, override, slots, time_away
from scheduler.services.availability import SlotName
from scheduler.services.booking import Visit
from scheduler.services.reasons import Reason
from scheduler.services.time_away import ClosureDetails, OffDetails
from scheduler.timeline import DAY, first_instant, zone_of
from tests.clinic import FAR_AHEAD, HOUR, Clinic
from tests.server import at_once
from tests.services.test_booking_by_staff import DESK, book_for, wish

TUESDAY = date(2026, 11, 24)
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def slot(day: date = TUESDAY, minute: int = 10 * 60, therapist: int = 1, location: int = 1) -> str:
    return str(SlotName(therapist, location, first_instant(day, minute, zone_of("America/Chicago"))))


def against(clinic: Clinic, slot_id: str, kind: str = "Evaluation", reason: str = "she flies at noon") -> Visit:
    return book_for(clinic, replace(wish(clinic, slot_id, kind), override=reason))


def closed_on(clinic: Clinic, day: date) -> None:
    with transaction(clinic.engine) as session:
        details = ClosureDetails(day, 0, day, 24 * 60, "Floor")
        time_away.close(session, [1], details, agreed=None, by=DESK, now=clinic.clock.now())


def off_on(clinic: Clinic, day: date) -> None:
    with transaction(clinic.engine) as session:
        details = OffDetails(day, 0, day, 24 * 60)
        time_away.give(session, 1, details, agreed=None, by=DESK, now=clinic.clock.now())


def kept_back(clinic: Clinic, _day: date) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(Slot).values(protected=True, fit_open=0))


def nothing(_clinic: Clinic, _day: date) -> None:
    """The calendar as it is."""


def cells(clinic: Clinic) -> list[tuple[Any, ...]]:
    with reading(clinic.engine) as session:
        wanted = select(Slot.starts_at, Slot.location_id, Slot.appointment_id, Slot.fit, Slot.needling)
        return [tuple(row) for row in session.execute(wanted.order_by(Slot.starts_at))]


FRIDAY = TUESDAY + 3 * DAY
RULES = [
    pytest.param(Reason.OUTSIDE_HOURS, nothing, slot(TUESDAY, 18 * 60), id="in the evening"),
    pytest.param(Reason.OUTSIDE_HOURS, nothing, slot(TUESDAY, 7 * 60 + 30), id="partly before the hours"),
    pytest.param(Reason.OUTSIDE_HOURS, nothing, slot(TUESDAY + 4 * DAY), id="on a Saturday"),
    pytest.param(Reason.HOURS_TOO_SHORT, nothing, slot(TUESDAY, 16 * 60 + 30), id="running past the hours"),
    pytest.param(Reason.CLOSED_THEN, closed_on, slot(FRIDAY), id="closed"),
    pytest.param(Reason.THERAPIST_OFF, off_on, slot(FRIDAY), id="off"),
    pytest.param(Reason.PROTECTED, kept_back, slot(FRIDAY), id="kept back"),
    pytest.param(Reason.NOT_PLANNED, nothing, slot(TUESDAY + 140 * DAY), id="beyond the calendar"),
]


@pytest.mark.parametrize(("rule", "prepare", "wanted"), RULES)
def test_a_rule_yields_to_a_reason_and_nothing_is_left_of_it(
    clinic: Clinic, rule: Reason, prepare: Callable[[Clinic, date], None], wanted: str
) -> None:
    prepare(clinic, FRIDAY)
    before = cells(clinic)
    with pytest.raises((NotBookable, Invalid)):
        book_for(clinic, wish(clinic, wanted))
    visit = against(clinic, wanted)
    assert visit.appointment.starts_at == SlotName.parse(wanted).starts_at
    assert clinic.violations() == {}
    with reading(clinic.engine) as session:
        kept, _name = override.of(session, visit.appointment) or (None, None)
        assert kept is not None
        assert (kept.rule, kept.used_by) == (rule, DESK.name)
        assert clinic.keys.open(kept.reason_sealed) == "she flies at noon"
        assert consequences.unfit(session, now=clinic.clock.now()) == []
        told = select(AuditEvent.detail).where(AuditEvent.action == "appointment.overridden")
        assert session.scalars(told).all() == [{"rule": rule, "fields": "reason"}]
    with pytest.raises(SlotTaken):
        against(clinic, wanted)
    clinic.cancel(visit.token)
    assert clinic.violations() == {}
    if rule is not Reason.NOT_PLANNED:  # there the hours are worked, so what is freed is in the plan
        assert cells(clinic) == before


def test_a_start_that_is_against_no_rule_is_booked_like_any_other(clinic: Clinic) -> None:
    visit = against(clinic, str(clinic.offers()[0].slot))
    with reading(clinic.engine) as session:
        assert override.of(session, visit.appointment) is None
        assert session.scalars(select(Override)).all() == []
    assert clinic.violations() == {}


def test_another_rule_that_comes_later_is_told(clinic: Clinic) -> None:
    """Whoever books in the evening knows of the hours, not of the day off that is given afterwards."""
    against(clinic, slot(FRIDAY, 18 * 60))
    with transaction(clinic.engine) as session:
        (row,) = session.scalars(select(Therapist)).all()
        assert consequences.unfit(session, now=clinic.clock.now()) == []
        row.active = False
        session.flush()
        assert [hit.why for hit in consequences.unfit(session, now=clinic.clock.now())] == ["therapist-gone"]


# --- what does not yield


def require_refused(clinic: Clinic, wanted: str, refusal: type[Exception], kind: str = "Evaluation") -> None:
    with pytest.raises(refusal):
        against(clinic, wanted, kind)
    with reading(clinic.engine) as session:
        assert session.execute(select(func.count()).select_from(Override)).scalar_one() == 0


@pytest.mark.parametrize("minute", [10 * 60, 18 * 60])
def test_nobody_without_a_licence_is_booked(clinic: Clinic, minute: int) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(License).where(License.kind == "pt").values(valid_until=TUESDAY - DAY))
    require_refused(clinic, slot(TUESDAY, minute), NotLicensed)


@pytest.mark.parametrize("minute", [10 * 60, 18 * 60])
def test_no_needling_without_its_qualification(clinic: Clinic, minute: int) -> None:
    with transaction(clinic.engine) as session:
        session.execute(delete(License).where(License.kind == "dry_needling"))
    require_refused(clinic, slot(TUESDAY, minute), NotLicensed, "Needling")


@pytest.mark.parametrize("minute", [10 * 60, 18 * 60])
def test_no_needling_where_the_state_forbids_it(clinic: Clinic, minute: int) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(StateRule).values(needling="forbidden"))
    require_refused(clinic, slot(TUESDAY, minute), NotLicensed, "Needling")


def test_the_licence_is_asked_again_in_the_transaction_that_books(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consequences, "misfit", lambda _session, _visit: consequences.Why.OUTSIDE_HOURS)
    with transaction(clinic.engine) as session:
        session.execute(update(License).values(valid_until=TUESDAY - DAY))
    require_refused(clinic, slot(TUESDAY, 18 * 60), NotLicensed)


@on_sqlite
@pytest.mark.parametrize("minute", [10 * 60, 18 * 60])
def test_nobody_is_booked_for_what_they_do_not_offer(clinic: Clinic, minute: int) -> None:
    other = clinic.add_therapist("Ben Becker")
    with transaction(clinic.engine) as session:
        session.add(AppointmentTypeTherapist(appointment_type_id=clinic.kinds["Evaluation"], therapist_id=other))
    require_refused(clinic, slot(TUESDAY, minute), NotOffered)


@on_sqlite
def test_nobody_who_left_and_no_place_that_closed_for_good_is_booked(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(Location).values(active=False))
    require_refused(clinic, slot(TUESDAY, 18 * 60), NotOffered)
    with transaction(clinic.engine) as session:
        session.execute(update(Therapist).values(active=False))
    require_refused(clinic, slot(TUESDAY, 18 * 60), NotOffered)


@on_sqlite
@pytest.mark.parametrize(
    ("wanted", "refusal"),
    [
        (slot(TUESDAY - DAY, 8 * 60), TooSoon),
        (slot(TUESDAY - 2 * DAY), TooSoon),
        (slot(TUESDAY + 900 * DAY, 18 * 60), TooLate),
        ("nothing", Invalid),
        (slot(TUESDAY, therapist=9), Invalid),
        (slot(TUESDAY, location=9), Invalid),
    ],
)
def test_the_past_and_what_is_unknown_do_not_yield(clinic: Clinic, wanted: str, refusal: type[Exception]) -> None:
    require_refused(clinic, wanted, refusal)


@on_sqlite
def test_a_kind_of_visit_that_is_not_offered_any_more_is_not_booked(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).values(active=False))
    require_refused(clinic, slot(TUESDAY, 18 * 60), Invalid)


def test_another_visit_does_not_yield_wherever_it_is(clinic: Clinic) -> None:
    """In the hours, across their end, and at another location."""
    there = clinic.add_location("Chatham")
    clinic.book(slot(TUESDAY, 16 * 60))
    for wanted in (slot(TUESDAY, 16 * 60), slot(TUESDAY, 16 * 60 + 45), slot(TUESDAY, 15 * 60 + 15, location=there)):
        require_refused(clinic, wanted, SlotTaken)


def test_a_time_that_somebody_holds_does_not_yield(clinic: Clinic) -> None:
    held = str(clinic.offers(from_=TUESDAY)[0].slot)
    clinic.hold(held)
    require_refused(clinic, held, SlotHeld)


def test_the_hours_at_another_location_yield_and_come_back(clinic: Clinic) -> None:
    there, before = clinic.add_location("Chatham"), cells(clinic)
    visit = against(clinic, slot(FRIDAY, location=there))
    assert clinic.violations() == {}
    clinic.cancel(visit.token)
    assert (clinic.violations(), cells(clinic)) == ({}, before)


def test_a_licence_that_ends_later_still_shows_the_visit(clinic: Clinic) -> None:
    against(clinic, slot(FRIDAY, 18 * 60))
    with transaction(clinic.engine) as session:
        session.execute(update(License).values(valid_until=FRIDAY - DAY))
    with reading(clinic.engine) as session:
        assert [hit.why for hit in consequences.unfit(session, now=clinic.clock.now())] == ["not-licensed"]
    assert FAR_AHEAD > FRIDAY


# --- races


def race(clinic: Clinic, wanted: list[str]) -> list[str]:
    def act(place: int, together: Barrier) -> str:
        together.wait()
        try:
            against(clinic, wanted[place])
        except SlotTaken:
            return "taken"
        return "booked"

    return sorted(at_once(len(wanted), act))


EVENING = [slot(TUESDAY, 18 * 60), slot(TUESDAY, 18 * 60 + 15), slot(TUESDAY, 18 * 60 + 30), slot(TUESDAY, 18 * 60)]


def test_of_four_who_override_one_evening_one_wins(clinic: Clinic) -> None:
    assert race(clinic, EVENING) == ["booked"] + ["taken"] * 3
    assert clinic.violations() == {}


def test_the_race_is_real_without_the_guards(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lock, the look at other visits, and the key over cells."""
    monkeypatch.setattr(slots, "lock", lambda _session, _ids: None)
    monkeypatch.setattr(override, "_meets_another", lambda *_about: False)
    monkeypatch.setattr(slots, "claim_anyhow", lambda _session, _appointments: None)
    assert race(clinic, EVENING) == ["booked"] * 4
    assert clinic.violations()["visits that overlap another visit of the same therapist"] == 3


def test_the_key_alone_keeps_an_evening_from_being_booked_twice(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "lock", lambda _session, _ids: None)
    monkeypatch.setattr(override, "_meets_another", lambda *_about: False)
    assert race(clinic, EVENING) == ["booked"] + ["taken"] * 3
    assert clinic.violations() == {}


def test_an_override_and_a_patient_never_share_a_time(clinic: Clinic) -> None:
    last = next(one for one in clinic.offers(limit=200) if one.slot.starts_at == end_of(TUESDAY) - HOUR)
    across = str(SlotName(1, 1, last.slot.starts_at + timedelta(minutes=30)))

    def act(place: int, together: Barrier) -> bool:
        together.wait()
        try:
            against(clinic, across) if place % 2 else clinic.book(str(last.slot))
        except SlotTaken:
            return False
        return True

    assert sum(at_once(4, act)) == 1
    with reading(clinic.engine) as session:
        assert count_visits(session) == 1
    assert clinic.violations() == {}


def end_of(day: date) -> datetime:
    return first_instant(day, 17 * 60, zone_of("America/Chicago"))


def count_visits(session: Session) -> int:
    return session.execute(select(func.count()).select_from(Appointment)).scalar_one()


@on_sqlite
def test_the_same_key_is_the_same_visit(clinic: Clinic) -> None:
    wanted = replace(wish(clinic, slot(TUESDAY, 18 * 60)), override="she flies at noon")
    with transaction(clinic.engine) as session:
        first = booking.book_for(session, wanted, by=DESK, keys=clinic.keys, now=clinic.clock.now())
    assert book_for(clinic, wanted).appointment.id == first.appointment.id
