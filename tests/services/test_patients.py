"""Likely twins and making one of two, on both databases: shown, never joined by themselves, once, with a record."""

from dataclasses import replace
from datetime import date
from threading import Barrier
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from scheduler.db import reading, transaction
from scheduler.errors import ClinicError, Invalid, NotFound
from scheduler.models import Appointment, AuditEvent, Fate, Kind, OutboxMessage, Patient
from scheduler.services import booking, desk, patients
from scheduler.services.audit import Actor
from scheduler.services.booking import PatientDetails, Visit
from scheduler.services.patients import Alike, CannotMerge
from scheduler.words import folded
from tests.clinic import Clinic, rows
from tests.server import at_once
from tests.services.test_desk import Desk
from tests.services.test_queries import statements

STAFF = Actor("account:1", "192.0.2.7")
PAT = PatientDetails("Pat Doe", "pat@example.com", None, None, "en", True, False)
BORN = date(1980, 1, 31)
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def book(clinic: Clinic, at: int = -1, **changes: object) -> Visit:
    """A public booking of somebody like Pat."""
    person = replace(PAT, **changes)  # type: ignore[arg-type]
    return clinic.book(str(clinic.offers()[at].slot), patient=person)


def merge(clinic: Clinic, kept: UUID, other: UUID, **take: UUID) -> None:
    with transaction(clinic.engine) as session:
        patients.merge(session, kept, other, None, take=take, by=STAFF, now=clinic.clock.now())


def stored(clinic: Clinic) -> list[Patient]:
    with reading(clinic.engine) as session:
        return rows(session, Patient)


def a_patient(name: str = "Pat Doe", **changes: object) -> Patient:
    return Patient(
        name=name, folded_name=folded(name), **({"email": None, "phone": None, "birth_date": None} | changes)
    )


MAIL, PHONE = {"email": "pat@example.com"}, {"phone": "+12175550142"}


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (a_patient(birth_date=BORN), a_patient("PAT  Döe", birth_date=BORN), Alike.NAME_AND_BIRTH),
        (a_patient(birth_date=BORN), a_patient("Sam Roe", birth_date=BORN), None),
        (a_patient(birth_date=BORN), a_patient(), None),
        (a_patient(**MAIL), a_patient("Pat Doe", email="Pat@Example.com"), Alike.EMAIL_AND_NAME),
        (a_patient(**MAIL), a_patient("Pat M. Doe", **MAIL), Alike.EMAIL_AND_NAME),
        (a_patient(**MAIL), a_patient("Pat Deo", **MAIL), Alike.EMAIL_AND_NAME),
        (a_patient(**MAIL), a_patient("Kim Doe", **MAIL), None),
        (a_patient(**PHONE), a_patient("Kim Doe", **PHONE), Alike.PHONE),
        (a_patient(**PHONE, birth_date=BORN), a_patient(**PHONE, birth_date=date(2015, 1, 1)), None),
        (a_patient(**MAIL), a_patient(**PHONE), None),
        (a_patient(), a_patient(), None),
    ],
)
def test_who_is_alike_and_why(one: Patient, other: Patient, why: Alike | None) -> None:
    assert patients.alike(one, other) == patients.alike(other, one) == why


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_name_is_like_itself_and_like_itself_with_another_word(name: str, more: str) -> None:
    plain, longer = folded(name), folded(f"{name} {more}")
    assert patients.similar(plain, plain)
    assert not plain or patients.similar(plain, longer) or plain not in longer.split()


def test_a_public_booking_adds_a_row_and_its_twins_are_shown_and_stay_two(clinic: Clinic) -> None:
    for name, email in (("Pat Doe", "pat"), ("Pat Doe", "pat"), ("Kim Doe", "pat"), ("Sam Roe", "sam")):
        book(clinic, name=name, email=f"{email}@example.com")
    first, second, child, stranger = stored(clinic)
    with reading(clinic.engine) as session:
        assert [(one.patient.id, one.alike) for one in patients.twins(session, first, None)] == [
            (second.id, Alike.EMAIL_AND_NAME)
        ]
        for other in (child, stranger):
            assert patients.twins(session, other, None) == []
        (pair,) = patients.all_twins(session, None)
        assert (pair.older.id, pair.newer.id, pair.alike) == (first.id, second.id, Alike.EMAIL_AND_NAME)
        assert patients.by_reason([pair]) == {Alike.EMAIL_AND_NAME: [pair]}
    assert len(stored(clinic)) == 4


def test_twins_elsewhere_are_not_shown(clinic: Clinic) -> None:
    book(clinic)
    elsewhere = clinic.add_location("Chatham")
    clinic.add_hours(clinic.add_therapist("Ben Brown"), elsewhere)
    clinic.plan()
    there = clinic.book(str(clinic.offers(location_id=elsewhere)[0].slot), patient=PAT)
    first, _second = stored(clinic)
    with reading(clinic.engine) as session:
        assert patients.twins(session, first, frozenset({1})) == []
        assert patients.all_twins(session, frozenset({1})) == []
    with transaction(clinic.engine) as session, pytest.raises(NotFound):
        patients.merge(
            session, first.id, there.appointment.patient_id, frozenset({1}), take={}, by=STAFF, now=clinic.clock.now()
        )


@on_sqlite
def test_twins_are_found_in_as_many_queries_however_many_there_are(clinic: Clinic) -> None:
    def cost() -> int:
        first = stored(clinic)[0]
        with reading(clinic.engine) as session, statements(clinic.engine) as seen:
            patients.twins(session, first, frozenset({1}))
            patients.all_twins(session, frozenset({1}))
        return len(seen)

    book(clinic)
    book(clinic)
    few = cost()
    for _ in range(6):
        book(clinic)
    assert cost() == few == 2


def test_two_become_one_with_all_visits_and_their_links_work(clinic: Clinic) -> None:
    first = book(clinic, -1)
    second = book(clinic, -1, name="Patricia Doe", email="new@example.com", phone="+12175550142", language="es")
    kept, other = stored(clinic)
    merge(clinic, kept.id, other.id, name=other.id, email=other.id, phone=other.id)
    (one,) = stored(clinic)
    assert one.id == kept.id
    assert (one.name, one.folded_name, one.email, one.phone, one.language) == (
        "Patricia Doe",
        "patricia doe",
        "new@example.com",
        "+12175550142",
        "en",
    )
    with reading(clinic.engine) as session:
        assert set(session.scalars(select(Appointment.patient_id))) == {kept.id}
        for visit in (first, second):
            found = booking.view(session, visit.token, keys=clinic.keys)
            assert found.appointment.id == visit.appointment.id
        events = session.execute(
            select(AuditEvent.action, AuditEvent.entity_id, AuditEvent.actor, AuditEvent.detail).where(
                AuditEvent.entity == "patient"
            )
        ).all()
        assert sorted(events) == [
            ("patient.merged", kept.id.hex, STAFF.name, {"merged": other.id.hex, "visits": 1}),
            ("patient.merged_away", other.id.hex, STAFF.name, {"into": kept.id.hex}),
        ]
    assert clinic.violations() == {}


def test_a_patient_who_is_gone_is_known_by_whom_they_became(clinic: Clinic) -> None:
    for _ in range(2):
        book(clinic)
    kept, other = stored(clinic)
    merge(clinic, kept.id, other.id)
    with reading(clinic.engine) as session:
        assert patients.require_there(session, other.id, None).id == kept.id
        with pytest.raises(NotFound):
            patients.require_there(session, UUID(int=1), None)


def test_merging_twice_changes_nothing_more(clinic: Clinic) -> None:
    for _ in range(2):
        book(clinic)
    kept, other = stored(clinic)
    for _ in range(2):
        merge(clinic, kept.id, other.id)
    with reading(clinic.engine) as session:
        assert len(session.scalars(select(AuditEvent).where(AuditEvent.action == "patient.merged")).all()) == 1
    with pytest.raises(NotFound):
        merge(clinic, other.id, kept.id)
    with pytest.raises(CannotMerge):
        merge(clinic, kept.id, kept.id)


def test_nobody_becomes_unreachable_and_no_third_is_chosen(clinic: Clinic) -> None:
    book(clinic)
    book(clinic, email=None, phone="+12175550142", remind_by_email=False)
    with_mail, with_phone = stored(clinic)
    with pytest.raises(CannotMerge):
        merge(clinic, with_mail.id, with_phone.id, email=with_phone.id, phone=with_mail.id)
    with pytest.raises(Invalid):
        merge(clinic, with_mail.id, with_phone.id, name=UUID(int=1))
    assert len(stored(clinic)) == 2


def test_visits_of_somebody_without_an_address_are_reminded_of_from_then_on(clinic: Clinic) -> None:
    book(clinic)
    silent = book(clinic, -1, email=None, phone="+12175550142", remind_by_email=False).appointment
    called_off = book(clinic, -5, email=None, phone="+12175550142", remind_by_email=False)
    clinic.cancel(called_off.token)
    with_mail, *others = stored(clinic)
    for other in others:
        merge(clinic, with_mail.id, other.id)
    with reading(clinic.engine) as session:
        of_it = select(OutboxMessage.kind, OutboxMessage.status, OutboxMessage.reason)
        owed = session.execute(of_it.where(OutboxMessage.appointment_id == silent.id)).all()
        assert (Kind.CONFIRMATION, Fate.SUPPRESSED, "merged") in owed
        assert (Kind.REMINDER, Fate.OWED, None) in owed
        of_that = of_it.where(OutboxMessage.appointment_id == called_off.appointment.id)
        assert {fate for _kind, fate, _why in session.execute(of_that)} == {Fate.SUPPRESSED}
    assert clinic.violations() == {}


def test_two_who_merge_the_same_at_once_either_way_make_one(clinic: Clinic) -> None:
    for _ in range(2):
        book(clinic)
    one, two = (each.id for each in stored(clinic))

    def attempt(place: int, together: Barrier) -> str:
        together.wait()
        try:
            merge(clinic, *((one, two) if place % 2 else (two, one)))
        except NotFound:
            return "gone"
        return "one"

    assert set(at_once(4, attempt)) == {"one", "gone"}
    assert len(stored(clinic)) == 1
    assert clinic.violations() == {}


def test_who_is_booked_for_while_they_are_merged_loses_no_visit(clinic: Clinic) -> None:
    for _ in range(2):
        book(clinic)
    kept, other = (each.id for each in stored(clinic))
    at_the_desk = Desk(clinic, 1, None)
    slots = [str(offer.slot) for offer in clinic.offers()[:12:4]]

    def act(place: int, together: Barrier) -> str:
        together.wait()
        try:
            if place == 0:
                merge(clinic, kept, other)
                return "merged"
            at_the_desk.book(slots[place - 1], patient=other)
        except NotFound:
            return "gone"
        return "booked"

    done = at_once(4, act)
    assert done[0] == "merged"
    with reading(clinic.engine) as session:
        visits = session.scalars(select(Appointment.patient_id)).all()
    assert visits == [kept] * (2 + done.count("booked"))
    assert clinic.violations() == {}


def test_the_desk_cannot_book_for_somebody_who_is_gone(clinic: Clinic) -> None:
    for _ in range(2):
        book(clinic)
    kept, other = (each.id for each in stored(clinic))
    merge(clinic, kept, other)
    with pytest.raises(ClinicError):
        Desk(clinic, 1, None).book(str(clinic.offers()[0].slot), patient=other)
    with reading(clinic.engine) as session:
        assert len(desk.visits_of(session, kept, None)) == 2
