"""What staff read is noted: every record, once for one look at it."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import change_counter, reading, transaction
from scheduler.models import Appointment, AuditEvent, Patient
from scheduler.services import audit
from scheduler.services.audit import Actor
from tests.clinic import Clinic

DESK, OTHER_DESK = Actor("account:1", "192.0.2.1"), Actor("account:1", "192.0.2.2")
ADMIN = Actor("account:2", "192.0.2.1")
MINUTE = timedelta(minutes=1)


@pytest.fixture
def visits(clinic: Clinic) -> list[Appointment]:
    return [clinic.book(str(clinic.offers()[8 * number].slot)).appointment for number in range(3)]


def look(clinic: Clinic, visits: list[Appointment], by: Actor = DESK, fields: str = "name") -> int:
    """Look at these; return how many reads are noted now."""
    with transaction(clinic.engine) as session:
        audit.read(session, visits, fields=fields, by=by, now=clinic.clock.now())
    with reading(clinic.engine) as session:
        return len(session.scalars(select(AuditEvent).where(AuditEvent.action == "appointment.read")).all())


def test_each_record_is_noted_with_who_what_and_from_where(clinic: Clinic, visits: list[Appointment]) -> None:
    look(clinic, visits)
    with reading(clinic.engine) as session:
        noted = session.scalars(select(AuditEvent).where(AuditEvent.action == "appointment.read")).all()
    assert {event.entity_id for event in noted} == {visit.id.hex for visit in visits}
    assert {(e.actor, e.address, e.entity, e.detail["fields"], e.happened_at) for e in noted} == {
        ("account:1", "192.0.2.1", "appointment", "name", clinic.clock.now())
    }


def test_the_same_look_is_noted_once_and_stores_nothing_more(
    clinic: Clinic, clock: FixedClock, visits: list[Appointment], engine: Engine
) -> None:
    assert look(clinic, visits[:2]) == 2
    before = change_counter(engine)
    assert look(clinic, visits[:2]) == 2
    if engine.name == "sqlite":  # other tests' databases on PostgreSQL share its snapshot
        assert change_counter(engine) == before
    clock.at += 14 * MINUTE
    assert look(clinic, visits) == 3
    clock.at += MINUTE
    assert look(clinic, visits) == 5


def test_another_person_place_or_part_of_the_record_is_another_look(clinic: Clinic, visits: list[Appointment]) -> None:
    assert [look(clinic, visits[:1], by) for by in (DESK, OTHER_DESK, ADMIN)] == [1, 2, 3]
    assert look(clinic, visits[:1], fields="note") == 4


def test_rows_of_several_tables_are_noted_each_under_its_own(clinic: Clinic, visits: list[Appointment]) -> None:
    with transaction(clinic.engine) as session:
        patient = session.get_one(Patient, visits[0].patient_id)
        audit.read(session, [patient, *visits], fields="name", by=DESK, now=clinic.clock.now())
        audit.read(session, [], fields="name", by=DESK, now=clinic.clock.now())
    with reading(clinic.engine) as session:
        actions = [event.action for event in session.scalars(select(AuditEvent)) if event.actor == DESK.name]
    assert sorted(actions) == ["appointment.read"] * 3 + ["patient.read"]
