"""Moving a visit: what of it changes and what stays, what is refused, what is owed and told after."""

import threading
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import (
    Invalid,
    LinkReplaced,
    NotBookable,
    NotFound,
    NotLicensed,
    NotOffered,
    Protected,
    SlotHeld,
    SlotTaken,
    TooLate,
    TooMany,
    TooSoon,
    VisitClosed,
)
from scheduler.models import (
    Account,
    Appointment,
    AppointmentType,
    AppointmentTypeTherapist,
    AuditEvent,
    Fate,
    Kind,
    License,
    ManageLink,
    OutboxMessage,
    Role,
    Slot,
    Status,
)
from scheduler.services import booking, desk, limits, moves, slots, visits
from scheduler.services.audit import Actor
from scheduler.services.availability import SlotName
from scheduler.services.booking import PatientDetails, Visit
from scheduler.services.holds import Keeper
from scheduler.services.moves import MoveVisit
from tests.clinic import FAR_AHEAD, HOUR, Clinic, at, rows
from tests.server import at_once

DESK = Actor("account:7", "192.0.2.1")
QUARTER = timedelta(minutes=15)


def move(clinic: Clinic, visit: Visit, slot_id: str, **more: object) -> Visit:
    with transaction(clinic.engine) as session:
        wish = replace(MoveVisit(slot_id), **more)  # type: ignore[arg-type] # its own fields
        return moves.move(session, visit.token, wish, keys=clinic.keys, now=clinic.clock.now())


def move_for(clinic: Clinic, visit: Visit, slot_id: str) -> Visit:
    with transaction(clinic.engine) as session:
        found = visits.find(session, visit.appointment.id)
        return moves.move_for(session, found, slot_id, by=DESK, keys=clinic.keys, now=clinic.clock.now())


def stored(clinic: Clinic, visit: Visit) -> Appointment:
    with reading(clinic.engine) as session:
        return visits.find(session, visit.appointment.id)


def slot_at(start: datetime, therapist: int = 1, location: int = 1) -> str:
    return str(SlotName(therapist, location, start))


def cells(clinic: Clinic, visit: Visit) -> list[tuple[int, int, datetime]]:
    with reading(clinic.engine) as session:
        held = select(Slot).where(Slot.appointment_id == visit.appointment.id).order_by(Slot.starts_at)
        return [(one.therapist_id, one.location_id, one.starts_at) for one in session.scalars(held)]


def replan(session: Session, clinic: Clinic, therapist: int) -> None:
    """What every change of a licence does."""
    session.flush()
    now = clinic.clock.now()
    slots.replan(session, [therapist], now, now + timedelta(days=100), now=now)


def ledger(clinic: Clinic) -> list[tuple[str, int | None, int, str, str | None]]:
    """All that is owed or was: kind, version, minutes before the visit, fate, why."""
    with reading(clinic.engine) as session:
        told = [
            (one.kind, one.visit_version, one.offset_minutes, one.status, one.reason)
            for one in rows(session, OutboxMessage)
            if one.appointment_id is not None
        ]
    return sorted(told, key=str)


def deeds(clinic: Clinic) -> list[tuple[str, str]]:
    with reading(clinic.engine) as session:
        return [(one.action, one.actor) for one in rows(session, AuditEvent)]


@pytest.fixture
def second(clinic: Clinic) -> tuple[int, int]:
    """Another therapist at another location, in another state and zone: their ids."""
    location = clinic.add_location("Denver", "America/Denver", "CO")
    therapist = clinic.add_therapist("Ben Boyd", "CO")
    clinic.add_hours(therapist, location)
    clinic.plan()
    return therapist, location


# --- what becomes of the visit


def test_a_moved_visit_holds_its_new_time_and_frees_the_old(clinic: Clinic) -> None:
    first, later = (offer.slot for offer in (clinic.offers()[0], clinic.offers()[40]))
    visit = clinic.book(str(first))
    moved = move(clinic, visit, str(later))
    assert moved.token == visit.token
    found = stored(clinic, visit)
    assert (found.starts_at, found.ends_at, found.visit_version, found.link_generation) == (
        later.starts_at,
        later.starts_at + HOUR,
        2,
        1,
    )
    assert cells(clinic, visit) == [(1, 1, later.starts_at + i * QUARTER) for i in range(4)]
    assert clinic.offers()[0].slot == first
    assert clinic.violations() == {}


def test_a_visit_moves_onto_time_that_is_partly_its_own(clinic: Clinic) -> None:
    first = clinic.offers()[4].slot
    visit = clinic.book(str(first))
    for step in (QUARTER, -2 * QUARTER, 3 * QUARTER):
        wanted = stored(clinic, visit).starts_at + step
        move(clinic, visit, slot_at(wanted))
        assert cells(clinic, visit) == [(1, 1, wanted + i * QUARTER) for i in range(4)]
    assert clinic.violations() == {}


def test_a_visit_moves_to_another_therapist_and_place(clinic: Clinic, second: tuple[int, int]) -> None:
    therapist, location = second
    visit = clinic.book(str(clinic.offers()[0].slot))
    wanted = clinic.offers(therapist_id=therapist)[3].slot
    moved = move(clinic, visit, str(wanted)).appointment
    assert (moved.therapist.name, moved.location.time_zone) == ("Ben Boyd", "America/Denver")
    found = stored(clinic, visit)
    assert (found.therapist_id, found.location_id, found.starts_at) == (therapist, location, wanted.starts_at)
    assert cells(clinic, visit) == [(therapist, location, wanted.starts_at + i * QUARTER) for i in range(4)]
    assert clinic.violations() == {}


@pytest.mark.parametrize(
    ("now", "before", "after"),
    [
        ("2027-03-12T15:00+00:00", "2027-03-12T10:00-06:00", "2027-03-15T10:00-05:00"),
        ("2027-10-29T14:00+00:00", "2027-11-01T10:00-06:00", "2027-10-29T16:00-05:00"),
    ],
)
def test_a_move_across_a_change_of_the_clocks_keeps_the_length_and_true_reminders(
    clinic: Clinic, clock: FixedClock, now: str, before: str, after: str
) -> None:
    clock.at = at(now)
    clinic.plan()
    visit = clinic.book(slot_at(at(before)))
    move(clinic, visit, slot_at(at(after)))
    found = stored(clinic, visit)
    assert (found.starts_at, found.ends_at - found.starts_at) == (at(after), HOUR)
    with reading(clinic.engine) as session:
        owed = select(OutboxMessage).where(OutboxMessage.kind == Kind.REMINDER, OutboxMessage.status == Fate.OWED)
        for one in session.scalars(owed):
            assert one.due_at == at(after) - timedelta(minutes=one.offset_minutes)
    assert clinic.violations() == {}


def test_the_same_move_again_changes_nothing(clinic: Clinic) -> None:
    visit, wanted = clinic.book(str(clinic.offers()[0].slot)), str(clinic.offers()[30].slot)
    move(clinic, visit, wanted)
    done, owed = deeds(clinic), ledger(clinic)
    assert move(clinic, visit, wanted).appointment.visit_version == 2
    assert move_for(clinic, visit, wanted).appointment.link_generation == 1
    assert (deeds(clinic), ledger(clinic)) == (done, owed)


def test_a_visit_of_another_length_than_its_kind_takes_the_kinds_when_it_moves(clinic: Clinic) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot))
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).where(AppointmentType.id == 1).values(minutes=45, buffer_minutes=15))
    moved = move(clinic, visit, str(clinic.offers()[20].slot)).appointment
    assert (moved.ends_at - moved.starts_at, moved.buffer_minutes) == (3 * QUARTER, 15)
    assert clinic.violations() == {}


# --- what is refused; the old time stays


def refused(clinic: Clinic, visit: Visit, slot_id: str, why: type[Exception]) -> None:
    before = cells(clinic, visit), deeds(clinic), ledger(clinic)
    with pytest.raises(why):
        move(clinic, visit, slot_id)
    assert (cells(clinic, visit), deeds(clinic), ledger(clinic)) == before
    assert clinic.violations() == {}


def test_who_is_too_late_for_the_new_time_keeps_the_old_one(clinic: Clinic) -> None:
    visit, wanted = clinic.book(str(clinic.offers()[0].slot)), clinic.offers()[30].slot
    clinic.book(str(wanted))
    refused(clinic, visit, str(wanted), SlotTaken)
    refused(clinic, visit, slot_at(wanted.starts_at + QUARTER), SlotTaken)


def test_a_refused_move_leaves_the_visit_as_it_was_to_whoever_goes_on_in_the_same_transaction(clinic: Clinic) -> None:
    visit, other = clinic.book(str(clinic.offers()[0].slot)), clinic.offers()[30].slot
    taken, wanted = clinic.offers()[50].slot, str(other)
    clinic.book(str(taken))
    with transaction(clinic.engine) as session:
        now = clinic.clock.now()
        with pytest.raises(NotBookable):
            moves.move(session, visit.token, MoveVisit(str(taken)), keys=clinic.keys, now=now)
        found = visits.find(session, visit.appointment.id)
        assert (found.starts_at, found.visit_version) == (visit.appointment.starts_at, 1)
        moves.move(session, visit.token, MoveVisit(wanted), keys=clinic.keys, now=now)
    assert stored(clinic, visit).starts_at == other.starts_at
    assert clinic.violations() == {}


def test_notice_and_horizon_bind_a_patients_move_and_not_that_of_staff(clinic: Clinic, clock: FixedClock) -> None:
    visit = clinic.book(str(clinic.offers()[30].slot))
    soon, far = slot_at(clock.now() + HOUR / 2), str(clinic.offers()[-1].slot)
    clinic.policy(booking_horizon_days=1)
    refused(clinic, visit, soon, TooSoon)
    refused(clinic, visit, far, TooLate)
    assert move_for(clinic, visit, far).appointment.visit_version == 2
    assert move_for(clinic, visit, soon).appointment.visit_version == 3
    assert clinic.violations() == {}


def test_what_is_kept_back_for_short_notice_is_no_new_time(clinic: Clinic, clock: FixedClock) -> None:
    far = clock.now() + timedelta(days=4)
    visit = clinic.book(str(clinic.offers()[0].slot))
    with transaction(clinic.engine) as session:
        session.execute(update(Slot).where(Slot.starts_at >= far).values(protected=True, fit_open=0))
        slots.refit(session, [1], far, far + timedelta(days=90))
    refused(clinic, visit, slot_at(at("2026-11-30T10:00-06:00")), Protected)
    with pytest.raises(Protected):
        move_for(clinic, visit, slot_at(at("2026-11-30T10:00-06:00")))


def test_who_is_not_licensed_or_does_not_offer_the_kind_is_no_choice(clinic: Clinic, second: tuple[int, int]) -> None:
    therapist, _location = second
    visit = clinic.book(str(clinic.offers("Needling")[0].slot), "Needling")
    wanted = str(clinic.offers(therapist_id=therapist)[3].slot)
    with transaction(clinic.engine) as session:
        own = License.therapist_id == therapist, License.kind == "dry_needling"
        session.execute(update(License).where(*own).values(valid_until=date(2026, 1, 1)))
        replan(session, clinic, therapist)
    refused(clinic, visit, wanted, NotLicensed)
    with transaction(clinic.engine) as session:
        session.execute(update(License).where(*own).values(valid_until=FAR_AHEAD))
        replan(session, clinic, therapist)
        session.add(AppointmentTypeTherapist(appointment_type_id=clinic.kinds["Needling"], therapist_id=1))
    refused(clinic, visit, wanted, NotOffered)


def test_a_visit_that_is_not_to_come_is_moved_by_nobody(clinic: Clinic, clock: FixedClock) -> None:
    gone, begun = clinic.book(str(clinic.offers()[0].slot)), clinic.book(str(clinic.offers()[8].slot))
    wanted = str(clinic.offers()[60].slot)
    clinic.cancel(gone.token)
    refused(clinic, gone, wanted, VisitClosed)
    clock.at = begun.appointment.starts_at
    with pytest.raises(VisitClosed):
        move(clinic, begun, wanted)
    with pytest.raises(VisitClosed):
        move_for(clinic, begun, wanted)
    assert clinic.violations() == {}


def test_what_is_no_time_and_what_is_no_link_is_unknown(clinic: Clinic) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot))
    refused(clinic, visit, "1-1-9999999", Invalid)
    refused(clinic, visit, "tomorrow", Invalid)
    wish = MoveVisit(str(clinic.offers()[9].slot))
    with pytest.raises(NotFound), transaction(clinic.engine) as session:
        moves.move(session, "x" * 43, wish, keys=clinic.keys, now=clinic.clock.now())


def test_a_kind_that_is_offered_no_more_is_moved_by_telephone(clinic: Clinic) -> None:
    visit, wanted = clinic.book(str(clinic.offers()[0].slot)), str(clinic.offers()[30].slot)
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).values(active=False))
    refused(clinic, visit, wanted, VisitClosed)


# --- holds, limits


def test_a_time_that_others_hold_is_not_free_and_ones_own_is(clinic: Clinic) -> None:
    visit, wanted = clinic.book(str(clinic.offers()[0].slot)), str(clinic.offers()[30].slot)
    held = clinic.hold(wanted)
    refused(clinic, visit, wanted, SlotHeld)
    move(clinic, visit, wanted, keeper=Keeper(held.token))
    assert stored(clinic, visit).starts_at == SlotName.parse(wanted).starts_at
    assert clinic.violations() == {}


def test_what_a_mover_held_elsewhere_is_given_up(clinic: Clinic, second: tuple[int, int]) -> None:
    visit, elsewhere = clinic.book(str(clinic.offers()[0].slot)), clinic.offers(therapist_id=second[0])[5].slot
    held = clinic.hold(str(elsewhere))
    move(clinic, visit, str(clinic.offers(therapist_id=1)[30].slot), keeper=Keeper(held.token))
    assert elsewhere in [offer.slot for offer in clinic.offers(therapist_id=second[0])]
    assert clinic.violations() == {}


def test_an_address_that_moves_without_end_is_stopped(clinic: Clinic) -> None:
    visit, wanted = clinic.book(str(clinic.offers()[0].slot)), [str(offer.slot) for offer in clinic.offers()[20:22]]
    for number in range(limits.BOOKINGS_AN_HOUR):
        move(clinic, visit, wanted[number % 2], address="a")
    with pytest.raises(TooMany):
        move(clinic, visit, wanted[0], address="a")
    assert clinic.violations() == {}


# --- what is owed and told


def test_a_move_takes_back_what_was_owed_and_owes_it_of_the_new_time(clinic: Clinic) -> None:
    visit = clinic.book(slot_at(at("2026-11-27T10:00-06:00")))
    assert ledger(clinic) == [
        ("confirmation", 1, 0, "owed", None),
        ("reminder", 1, 1440, "owed", None),
        ("reminder", 1, 2880, "owed", None),
    ]
    move(clinic, visit, slot_at(at("2026-12-01T10:00-06:00")))
    moved = [
        ("moved", 2, 0, "owed", None),
        ("reminder", 2, 1440, "owed", None),
        ("reminder", 2, 2880, "owed", None),
    ]
    gone = [(kind, 1, offset, "suppressed", "moved") for kind, offset in (("confirmation", 0), ("reminder", 1440))]
    assert ledger(clinic) == sorted([*gone, ("reminder", 1, 2880, "suppressed", "moved"), *moved], key=str)
    move(clinic, visit, slot_at(at("2026-11-24T10:00-06:00")))  # too soon for any reminder but the last
    assert [one for one in ledger(clinic) if one[3] == "owed"] == [("moved", 3, 0, "owed", None)]
    clinic.cancel(visit.token)
    assert [one for one in ledger(clinic) if one[3] == "owed"] == [("cancellation", 3, 0, "owed", None)]
    assert clinic.violations() == {}


def test_who_wants_no_reminders_is_told_of_the_move_only(clinic: Clinic) -> None:
    quiet = PatientDetails("Pat Doe", "pat@example.com", None, None, "en", False, False)
    visit = clinic.book(str(clinic.offers()[60].slot), patient=quiet)
    move(clinic, visit, str(clinic.offers()[90].slot))
    assert [one for one in ledger(clinic) if one[3] == "owed"] == [("moved", 2, 0, "owed", None)]


def test_the_therapists_of_both_times_are_told_when_their_days_change(clinic: Clinic, second: tuple[int, int]) -> None:
    with transaction(clinic.engine) as session:
        for number, name in ((1, "ana"), (second[0], "ben")):
            session.add(
                Account(
                    email=f"{name}@example.com",
                    name=name,
                    language="en",
                    role=Role.THERAPIST,
                    everywhere=False,
                    needs_second_factor=False,
                    created_at=clinic.clock.now(),
                    therapist_id=number,
                )
            )
    visit = clinic.book(str(clinic.offers(therapist_id=1)[60].slot))
    move(clinic, visit, str(clinic.offers(therapist_id=1)[0].slot))
    move(clinic, visit, str(clinic.offers(therapist_id=second[0])[0].slot))
    with reading(clinic.engine) as session:
        told = select(Account.name, OutboxMessage.about).join(Account, Account.id == OutboxMessage.account_id)
        assert sorted(tuple(row) for row in session.execute(told)) == [("ana", "2026-11-23"), ("ben", "2026-11-23")]


def test_a_move_is_on_record_with_who_and_from_where_to_where(clinic: Clinic, second: tuple[int, int]) -> None:
    visit, wanted = clinic.book(slot_at(at("2026-11-24T10:00-06:00"))), slot_at(at("2026-11-24T12:00-06:00"))
    move(clinic, visit, wanted)
    move_for(clinic, visit, slot_at(at("2026-11-24T12:00-06:00"), *second))
    with reading(clinic.engine) as session:
        moved = [one for one in rows(session, AuditEvent) if one.action == "appointment.moved"]
    assert [(one.actor, one.address, one.detail) for one in moved] == [
        ("patient", None, {"starts_at": ["2026-11-24T16:00:00+00:00", "2026-11-24T18:00:00+00:00"]}),
        (
            DESK.name,
            DESK.address,
            {
                "starts_at": ["2026-11-24T18:00:00+00:00", "2026-11-24T18:00:00+00:00"],
                "therapist_id": [1, second[0]],
                "location_id": [1, second[1]],
            },
        ),
    ]


# --- links


def test_a_move_by_staff_makes_a_new_link_and_the_old_one_says_so(clinic: Clinic) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot))
    moved = move_for(clinic, visit, str(clinic.offers()[30].slot))
    assert moved.token != visit.token
    with reading(clinic.engine) as session:
        assert booking.view(session, moved.token, keys=clinic.keys).appointment.id == visit.appointment.id
        with pytest.raises(LinkReplaced):
            booking.view(session, visit.token, keys=clinic.keys)
    with pytest.raises(LinkReplaced):
        clinic.cancel(visit.token)
    refused(clinic, visit, str(clinic.offers()[0].slot), LinkReplaced)
    move(clinic, moved, str(clinic.offers()[0].slot))
    assert clinic.violations() == {}


def test_who_can_be_mailed_nothing_keeps_the_link_that_they_have(clinic: Clinic) -> None:
    by_phone = PatientDetails("Pat Doe", None, "+1 312 555 0142", None, "en", False, False)
    visit = clinic.book(str(clinic.offers()[0].slot), patient=by_phone)
    moved = move_for(clinic, visit, str(clinic.offers()[30].slot))
    assert (moved.token, moved.appointment.link_generation) == (visit.token, 1)
    with reading(clinic.engine) as session:
        assert len(session.scalars(select(ManageLink)).all()) == 1
        assert [call.visit.id for call in desk.calls(session, None, now=clinic.clock.now())] == [visit.appointment.id]
    assert clinic.violations() == {}


def test_a_word_of_a_move_that_fails_makes_a_call(clinic: Clinic) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot))
    move(clinic, visit, str(clinic.offers()[30].slot))
    with transaction(clinic.engine) as session:
        session.execute(
            update(OutboxMessage)
            .where(OutboxMessage.kind == Kind.MOVED)
            .values(status=Fate.FAILED, reason="no such mailbox")
        )
    with reading(clinic.engine) as session:
        now = clinic.clock.now()
        assert [call.visit.id for call in desk.calls(session, None, now=now)] == [visit.appointment.id]
        assert [one.message.kind for one in desk.failed_messages(session, None, now=now)] == [Kind.MOVED]


# --- taking a cancellation back


def bring_back(clinic: Clinic, visit: Visit) -> Visit:
    with transaction(clinic.engine) as session:
        found = visits.find(session, visit.appointment.id)
        return moves.bring_back(session, found, by=DESK, keys=clinic.keys, now=clinic.clock.now())


def test_a_cancellation_is_taken_back_by_the_same_claim_and_told_like_a_booking(clinic: Clinic) -> None:
    visit = clinic.book(str(clinic.offers()[60].slot))
    held = cells(clinic, visit)
    clinic.cancel(visit.token)
    back = bring_back(clinic, visit)
    found = stored(clinic, visit)
    assert (found.status, found.cancelled_at, found.cancelled_late, cells(clinic, visit)) == (
        "booked",
        None,
        False,
        held,
    )
    assert back.token != visit.token
    with reading(clinic.engine) as session, pytest.raises(LinkReplaced):
        booking.view(session, visit.token, keys=clinic.keys)
    owed = [one[:3] for one in ledger(clinic) if one[3] == "owed"]
    assert owed == [("confirmation", 2, 0), ("reminder", 2, 1440)]
    assert ("cancellation", 1, 0, "suppressed", "booked again") in ledger(clinic)
    assert deeds(clinic)[-1] == ("appointment.brought_back", DESK.name)
    again = deeds(clinic)
    bring_back(clinic, visit)
    assert deeds(clinic) == again
    assert clinic.violations() == {}


def test_who_can_be_mailed_nothing_has_the_same_link_to_a_visit_that_is_back(clinic: Clinic) -> None:
    by_phone = PatientDetails("Pat Doe", None, "+1 312 555 0142", None, "en", False, False)
    visit = clinic.book(str(clinic.offers()[20].slot), patient=by_phone)
    clinic.cancel(visit.token)
    assert bring_back(clinic, visit).token == visit.token
    assert clinic.violations() == {}


def test_a_cancellation_stays_where_somebody_has_the_time_by_now(clinic: Clinic) -> None:
    visit = clinic.book(str(clinic.offers()[20].slot))
    clinic.cancel(visit.token)
    clinic.book(slot_at(visit.appointment.starts_at + QUARTER))
    before = cells(clinic, visit), deeds(clinic), ledger(clinic)
    with pytest.raises(SlotTaken):
        bring_back(clinic, visit)
    assert (cells(clinic, visit), deeds(clinic), ledger(clinic)) == before
    assert stored(clinic, visit).status == Status.CANCELLED
    assert clinic.violations() == {}


def test_a_cancellation_is_taken_back_on_its_own_local_day_only(clinic: Clinic, clock: FixedClock) -> None:
    later, soon = clinic.book(str(clinic.offers()[60].slot)), clinic.book(str(clinic.offers()[0].slot))
    clinic.cancel(later.token)
    clinic.cancel(soon.token)
    clock.at = soon.appointment.starts_at
    with pytest.raises(VisitClosed):
        bring_back(clinic, soon)
    clock.at = at("2026-11-24T06:00+00:00")  # midnight in Chicago
    with pytest.raises(VisitClosed):
        bring_back(clinic, later)
    clock.at -= timedelta(seconds=1)
    assert bring_back(clinic, later).appointment.status == Status.BOOKED


def test_of_a_cancellation_that_is_taken_back_and_a_booker_one_wins(clinic: Clinic) -> None:
    visit = clinic.book(str(clinic.offers()[20].slot))
    wanted = slot_at(visit.appointment.starts_at)
    clinic.cancel(visit.token)

    def somebody(place: int, together: threading.Barrier) -> str:
        together.wait()
        try:
            if place:
                clinic.book(wanted)
            else:
                bring_back(clinic, visit)
        except SlotTaken:
            return "taken"
        return "has it"

    assert sorted(at_once(4, somebody)) == ["has it"] + ["taken"] * 3
    assert clinic.violations() == {}
