"""What staff may book and patients may not, by the same claim; and what neither may."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import ClinicError, Invalid, NotBookable, NotLicensed, SlotTaken, TooSoon
from scheduler.models import (
    Appointment,
    AppointmentType,
    AuditEvent,
    ClinicPolicy,
    Fate,
    IdempotencyKey,
    Kind,
    License,
    Location,
    Needling,
    OutboxMessage,
    Patient,
    Slot,
)
from scheduler.services import booking, letters
from scheduler.services.audit import Actor
from scheduler.services.availability import Offer
from scheduler.services.booking import BookForPatient, PatientDetails, Repeatable, Visit
from tests.clinic import HOUR, Clinic, rows
from tests.server import at_once

QUARTER = timedelta(minutes=15)
DESK = Actor("account:7", "192.0.2.1")
PAT = PatientDetails("Pat Doe", "pat@example.com", None, None, "en", True, False)
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def wish(
    clinic: Clinic, slot_id: str, kind: str = "Evaluation", patient: UUID | PatientDetails = PAT
) -> BookForPatient:
    repeatable = Repeatable(uuid4().hex, uuid4().hex)
    return BookForPatient(slot_id, clinic.kinds[kind], patient, Needling.OPEN, "bad knee", repeatable)


def book_for(clinic: Clinic, wanted: BookForPatient) -> Visit:
    with transaction(clinic.engine) as session:
        return booking.book_for(session, wanted, by=DESK, keys=clinic.keys, now=clinic.clock.now())


def staff_offers(clinic: Clinic, kind: str = "Evaluation") -> list[Offer]:
    return clinic.offers(kind, by_staff=True)


def count(session: Session, table: type[Appointment | Patient | IdempotencyKey | AuditEvent]) -> int:
    return session.execute(select(func.count()).select_from(table)).scalar_one()


# --- what staff may


def test_a_walk_in_is_booked_inside_the_notice(clinic: Clinic) -> None:
    soon, online = staff_offers(clinic)[0], clinic.offers()[0]
    assert clinic.clock.now() <= soon.slot.starts_at < clinic.clock.now() + HOUR <= online.slot.starts_at
    with pytest.raises(TooSoon):
        clinic.book(str(soon.slot))
    visit = book_for(clinic, wish(clinic, str(soon.slot)))
    assert visit.appointment.starts_at == soon.slot.starts_at
    assert clinic.violations() == {}


def test_a_walk_in_is_booked_in_the_running_quarter_hour(clinic: Clinic, clock: FixedClock) -> None:
    clock.at += 14 * QUARTER / 15 + timedelta(seconds=59)
    running = staff_offers(clinic)[0]
    assert running.slot.starts_at <= clock.at < running.slot.starts_at + QUARTER
    visit = book_for(clinic, wish(clinic, str(running.slot)))
    assert visit.appointment.starts_at == running.slot.starts_at
    assert clinic.violations() == {}
    with reading(clinic.engine) as session:
        held = session.scalars(select(Slot.starts_at).where(Slot.appointment_id == visit.appointment.id)).all()
    assert len(held) == 4


def test_a_quarter_hour_that_is_over_is_too_soon_for_staff_too(clinic: Clinic, clock: FixedClock) -> None:
    first = staff_offers(clinic)[0]
    clock.at = first.slot.starts_at + QUARTER
    assert staff_offers(clinic)[0].slot.starts_at == first.slot.starts_at + QUARTER
    with pytest.raises(TooSoon):
        book_for(clinic, wish(clinic, str(first.slot)))


def test_staff_book_as_far_ahead_as_there_are_cells(clinic: Clinic) -> None:
    clinic.policy(booking_horizon_days=3)
    last = clinic.offers()[-1].slot.starts_at
    later = next(offer for offer in staff_offers(clinic) if offer.slot.starts_at > last)
    with pytest.raises(NotBookable):
        clinic.book(str(later.slot))
    assert book_for(clinic, wish(clinic, str(later.slot))).appointment.starts_at == later.slot.starts_at


@pytest.mark.parametrize("online", [True, False])
def test_staff_book_where_patients_may_not(clinic: Clinic, online: bool) -> None:
    slot = str(clinic.offers()[0].slot)
    with transaction(clinic.engine) as session:
        session.execute(update(Location).values(online=online))
    if not online:
        with pytest.raises(Invalid, match="no time"):
            clinic.book(slot)
    assert book_for(clinic, wish(clinic, slot)).appointment.location.online is online
    assert clinic.violations() == {}


def test_a_visit_that_staff_book_is_as_whole_as_a_patients(clinic: Clinic) -> None:
    """But for the explainer, which nobody was shown."""
    offer = clinic.offers("Follow-up")[0]
    visit = book_for(clinic, wish(clinic, str(offer.slot), "Follow-up"))
    with reading(clinic.engine) as session:
        kept = session.get_one(Appointment, visit.appointment.id)
        patient = session.get_one(Patient, kept.patient_id)
        added, event = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
        messages = session.execute(select(OutboxMessage.kind, OutboxMessage.appointment_id)).all()
        opened = booking.view(session, visit.token, keys=clinic.keys).appointment.id
    assert kept.explainer_version_id is None
    assert (kept.starts_at, kept.ends_at) == (offer.slot.starts_at, offer.slot.starts_at + timedelta(minutes=45))
    assert (kept.needling, clinic.keys.open(kept.note_sealed)) == (Needling.OPEN, "bad knee")
    assert (patient.name, patient.email) == ("Pat Doe", "pat@example.com")
    assert (added.action, added.entity_id, added.actor) == ("patient.added", patient.id.hex, DESK.name)
    assert (event.actor, event.address, event.action) == ("account:7", "192.0.2.1", "appointment.booked")
    assert (event.entity_id, event.detail) == (kept.id.hex, {})
    assert messages == [(Kind.CONFIRMATION, kept.id)]
    assert opened == kept.id


def test_a_known_patient_is_booked_again_and_not_stored_again(clinic: Clinic) -> None:
    first = clinic.book(str(clinic.offers()[0].slot))
    patient_id = first.appointment.patient_id
    visit = book_for(clinic, wish(clinic, str(clinic.offers()[0].slot), patient=patient_id))
    assert visit.appointment.patient_id == patient_id
    with reading(clinic.engine) as session:
        assert (count(session, Patient), count(session, Appointment)) == (1, 2)
    assert clinic.violations() == {}


@on_sqlite
def test_a_confirmation_of_a_visit_that_has_begun_is_not_sent(clinic: Clinic, clock: FixedClock) -> None:
    clock.at += timedelta(minutes=5)
    visit = book_for(clinic, wish(clinic, str(staff_offers(clinic)[0].slot)))
    with transaction(clinic.engine) as session:
        (message,) = rows(session, OutboxMessage)
        assert (message.appointment_id, message.status) == (visit.appointment.id, Fate.OWED)
        why = letters.current(session, message.id, keys=clinic.keys, now=clock.at)
    assert why == "the visit has begun"


# --- what staff may not either


def refused(clinic: Clinic, wanted: BookForPatient, error: type[ClinicError]) -> str:
    """The refusal's words; and it left nothing behind."""
    with reading(clinic.engine) as session:
        tables = (Appointment, Patient, IdempotencyKey, AuditEvent)
        before = [count(session, table) for table in tables]
    with pytest.raises(error) as told:
        book_for(clinic, wanted)
    with reading(clinic.engine) as session:
        assert [count(session, table) for table in tables] == before
    return str(told.value)


def test_an_unknown_patient_is_invalid(clinic: Clinic) -> None:
    wanted = wish(clinic, str(clinic.offers()[0].slot), patient=uuid4())
    with pytest.raises(Invalid) as error:
        book_for(clinic, wanted)
    assert error.value.field == "patient"
    refused(clinic, wanted, Invalid)


@on_sqlite
@pytest.mark.parametrize("slot", ["", "1", "1-1-1", "x-1-1", "1-2-1656396", "1" * 40, "99-1-1656396"])
def test_an_unknown_time_is_invalid(clinic: Clinic, slot: str) -> None:
    refused(clinic, wish(clinic, slot), Invalid)


@on_sqlite
def test_an_unknown_and_an_inactive_type_are_invalid(clinic: Clinic) -> None:
    slot = str(clinic.offers()[0].slot)
    refused(clinic, replace(wish(clinic, slot), appointment_type_id=999), Invalid)
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).values(active=False))
    refused(clinic, wish(clinic, slot), Invalid)


def test_a_taken_time_is_taken_for_staff_too(clinic: Clinic) -> None:
    slot = str(clinic.offers()[0].slot)
    clinic.book(slot)
    refused(clinic, wish(clinic, slot), SlotTaken)


def test_staff_book_nobody_who_may_not_treat(clinic: Clinic) -> None:
    """The cells are still there, the licence is gone."""
    evaluation, needling = str(clinic.offers()[0].slot), str(clinic.offers("Needling")[0].slot)
    with transaction(clinic.engine) as session:
        lapsed = clinic.clock.now().date() - timedelta(days=1)
        session.execute(update(License).values(valid_until=lapsed))
    refused(clinic, wish(clinic, evaluation), NotLicensed)
    refused(clinic, wish(clinic, needling, "Needling"), NotLicensed)


# --- keys and races


def test_the_same_key_is_the_same_visit(clinic: Clinic) -> None:
    wanted = wish(clinic, str(clinic.offers()[0].slot))
    first, again = book_for(clinic, wanted), book_for(clinic, wanted)
    assert (again.appointment.id, again.token) == (first.appointment.id, first.token)
    with reading(clinic.engine) as session:
        assert [count(session, table) for table in (Appointment, Patient, AuditEvent)] == [1, 1, 2]
    other = replace(wanted, repeatable=replace(wanted.repeatable, body_sha256="other"))
    refused(clinic, other, Invalid)


def test_the_same_key_at_one_moment_is_one_visit(clinic: Clinic) -> None:
    wanted = wish(clinic, str(clinic.offers()[0].slot))

    def act(_place: int, together: Barrier) -> UUID:
        together.wait()
        return book_for(clinic, wanted).appointment.id

    assert len(set(at_once(4, act))) == 1


def test_of_a_patient_and_the_front_desk_one_gets_the_time(clinic: Clinic) -> None:
    for offer in clinic.offers()[:20:4]:
        slot = str(offer.slot)

        def act(place: int, together: Barrier, slot: str = slot) -> bool:
            together.wait()
            try:
                clinic.book(slot) if place % 2 else book_for(clinic, wish(clinic, slot))
            except SlotTaken:
                return False
            return True

        won: Sequence[bool] = at_once(4, act)
        assert sum(won) == 1
    assert clinic.violations() == {}


@on_sqlite
def test_the_notice_still_holds_for_patients(clinic: Clinic) -> None:
    with reading(clinic.engine) as session:
        notice = timedelta(minutes=session.get_one(ClinicPolicy, 1).booking_notice_minutes)
    assert notice == HOUR
    assert all(offer.slot.starts_at >= clinic.clock.now() + notice for offer in clinic.offers())
