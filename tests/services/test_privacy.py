"""Handing over and erasing what is kept of one patient, on both databases: all of it, and nothing of anybody else's."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import Engine, LargeBinary, select, text, update

from scheduler.clock import FixedClock
from scheduler.db import Base, reading, transaction
from scheduler.errors import ClinicError, NotFound
from scheduler.models import (
    Account,
    Appointment,
    Attempt,
    AuditEvent,
    ClinicPolicy,
    ContactRequest,
    Fate,
    OutboxMessage,
    Override,
    Patient,
    Role,
    Status,
)
from scheduler.services import booking, desk, patients, privacy, questions
from scheduler.services.audit import Actor
from scheduler.services.booking import PatientDetails, Visit
from scheduler.services.privacy import ERASED, VisitsAhead
from scheduler.timeline import DAY
from tests.clinic import Clinic, rows
from tests.server import at_once
from tests.services.test_desk import Desk
from tests.services.test_questions import ASK, answer, ask
from tests.web.staff import an_account

ADMIN = Actor("account:1", "192.0.2.7")
ZELDA = PatientDetails("Zelda Quux", "zelda@quux.example", "+12175550199", None, "es", True, False)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SECRETS = ("zelda", "quux", "5550199", "lumbago", "snowed", "pacemaker")


@pytest.fixture
def account(engine: Engine, clock: FixedClock, clinic: Clinic) -> Account:
    return an_account(engine, clock, Role.FRONT_DESK)


def visit_of(clinic: Clinic, at: int = 0, **changes: object) -> Visit:
    slot = str(clinic.offers()[at].slot)
    return clinic.book(slot, patient=replace(ZELDA, **changes), note="my lumbago")  # type: ignore[arg-type]


def everything(clinic: Clinic, account: Account) -> UUID:
    """Somebody who came, called a visit off, asked two questions, and whose mail was refused; their id."""
    past, called_off = visit_of(clinic), visit_of(clinic, -1)
    patient_id, again, now = past.appointment.patient_id, called_off.appointment.patient_id, clinic.clock.now()
    with transaction(clinic.engine) as session:
        booking.cancel(session, called_off.token, "snowed in", keys=clinic.keys, now=now)
        patients.merge(session, patient_id, again, None, take={}, by=ADMIN, now=now)
        session.execute(update(Appointment).values(imported_as=Appointment.id))
        why = clinic.keys.seal("her pacemaker man comes at noon")
        session.add(Override(appointment_id=past.appointment.id, rule="closed", reason_sealed=why, used_by=ADMIN.name))
        for number, one in enumerate(rows(session, OutboxMessage)):
            if number == 0:
                one.status, one.reason = Fate.FAILED, "550 zelda@quux.example is unknown"
            session.add(
                Attempt(message_id=one.id, number=1, started_at=LONG_AGO, finished_at=LONG_AGO, outcome="zelda?")
            )
    first = ask(clinic, name="Zelda Quux", email="zelda@quux.example", message="About my lumbago")
    ask(clinic, name="Z. Quux", email=None, phone="+12175550199", form_sha256="by phone")
    answer(clinic, first, "Come in about your lumbago.", account)
    clinic.clock.at += 30 * DAY  # type: ignore[attr-defined]
    return patient_id


def erase(clinic: Clinic, patient_id: UUID) -> None:
    with transaction(clinic.engine) as session:
        privacy.erase(session, patient_id, by=ADMIN, now=clinic.clock.now())


def all_text(clinic: Clinic) -> str:
    """Every value of every row of every table, what is sealed opened."""
    said = []
    with clinic.engine.connect() as connection:
        for name, table in Base.metadata.tables.items():
            sealed = {column.name for column in table.columns if isinstance(column.type, LargeBinary)}
            for row in connection.execute(text(f'SELECT * FROM "{name}"')).mappings():
                for column, value in row.items():
                    opened = column in sealed and column.endswith("_sealed") and value is not None
                    said.append(f"{name}.{column}: " + str(clinic.keys.open(bytes(value)) if opened else value))
    return "\n".join(said).lower()


def test_what_is_handed_over_is_all_that_is_stored(clinic: Clinic, account: Account) -> None:
    patient_id = everything(clinic, account)
    other = visit_of(clinic, 0, name="Kim Roe", email="kim@example.com", phone=None)
    with reading(clinic.engine) as session:
        found = privacy.export(session, patient_id, keys=clinic.keys)
    said = json.dumps(found).lower()
    assert all(secret in said for secret in SECRETS)
    assert {name: len(part) for name, part in found.items() if isinstance(part, list)} == {
        "visits": 2,
        "against_rules": 1,
        "questions": 2,
        "messages": len(found["messages"]),
        "tries": len(found["tries"]),
        "told_by_staff": 0,
        "record": len(found["record"]),
    }
    assert len(found["messages"]) > 4
    assert {one["action"] for one in found["record"]} >= {
        "appointment.booked",
        "appointment.cancelled",
        "contact_request.asked",
        "contact_request.answered",
    }
    assert found["visits"][0]["note"] == "my lumbago"
    assert "kim" not in said
    assert other.appointment.id.hex not in said
    with reading(clinic.engine) as session, pytest.raises(NotFound):
        privacy.export(session, UUID(int=1), keys=clinic.keys)


def test_after_erasing_no_row_and_no_line_of_the_log_says_who_it_was(
    clinic: Clinic, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    patient_id = everything(clinic, account)
    before = all_text(clinic)
    assert all(secret in before for secret in SECRETS)
    with reading(clinic.engine) as session:
        visits = {one.id: (one.starts_at, one.status) for one in rows(session, Appointment)}
    erase(clinic, patient_id)
    after = all_text(clinic)
    assert [line for line in after.splitlines() if any(secret in line for secret in SECRETS)] == []
    logged = "".join(capsys.readouterr()).lower()
    assert [secret for secret in SECRETS if secret in logged] == []
    with reading(clinic.engine) as session:
        assert {one.id: (one.starts_at, one.status) for one in rows(session, Appointment)} == visits
        assert rows(session, ContactRequest) == []
        assert {one.status for one in rows(session, OutboxMessage)} <= {Fate.SUPPRESSED, Fate.FAILED, Fate.OWED}
        (event,) = session.scalars(select(AuditEvent).where(AuditEvent.action == "patient.erased"))
        assert (event.actor, event.entity_id, event.detail) == (ADMIN.name, patient_id.hex, {"visits": 2})
        assert desk.find_patients(session, ERASED, None).patients == []
    assert clinic.violations() == {}


def test_erasing_twice_changes_nothing_more_and_nobody_is_an_error(clinic: Clinic, account: Account) -> None:
    patient_id = everything(clinic, account)
    for _ in range(2):
        erase(clinic, patient_id)
    with reading(clinic.engine) as session:
        assert len(session.scalars(select(AuditEvent).where(AuditEvent.action == "patient.erased")).all()) == 1
    with pytest.raises(NotFound):
        erase(clinic, UUID(int=1))


def test_who_still_comes_is_not_erased_until_that_is_cancelled(clinic: Clinic, clock: FixedClock) -> None:
    visit = visit_of(clinic, -1)
    with pytest.raises(VisitsAhead):
        erase(clinic, visit.appointment.patient_id)
    assert "zelda" in all_text(clinic)
    clinic.cancel(visit.token)
    erase(clinic, visit.appointment.patient_id)
    with reading(clinic.engine) as session:
        assert {one.status for one in rows(session, OutboxMessage)} == {Fate.SUPPRESSED}  # the word of it, too
    assert clinic.violations() == {}


def test_what_others_with_the_same_address_asked_stays(clinic: Clinic, clock: FixedClock) -> None:
    first = visit_of(clinic)
    visit_of(clinic, 10, name="Yara Quux")
    for name in ("Zelda Quux", "Yara Quux", "Somebody"):
        ask(clinic, name=name, email="zelda@quux.example", form_sha256=name)
    clock.at += 30 * DAY
    erase(clinic, first.appointment.patient_id)
    with reading(clinic.engine) as session:
        assert [one.name for one in rows(session, ContactRequest)] == ["Yara Quux", "Somebody"]
        assert sorted(one.name for one in rows(session, Patient)) == ["Yara Quux", ERASED]


def test_nobody_books_for_somebody_who_is_erased_even_at_that_moment(clinic: Clinic, clock: FixedClock) -> None:
    patient_id = visit_of(clinic).appointment.patient_id
    clock.at += 7 * DAY
    clinic.plan()
    slot, at_the_desk = str(clinic.offers()[0].slot), Desk(clinic, 1, None)

    def act(place: int, together: Barrier) -> str:
        together.wait()
        try:
            if place:
                erase(clinic, patient_id)
            else:
                at_the_desk.book(slot, patient=patient_id)
        except (VisitsAhead, NotFound):
            return "refused"
        return "done"

    assert sorted(at_once(2, act)) == ["done", "refused"]
    with reading(clinic.engine) as session:
        (one,) = rows(session, Patient)
        booked = [visit for visit in rows(session, Appointment) if visit.starts_at > clock.now()]
        assert (one.erased_at is None) == (len(booked) == 1)
    if one.erased_at is not None:
        with pytest.raises(ClinicError):
            at_the_desk.book(slot, patient=patient_id)


@pytest.mark.parametrize(
    ("now", "months", "then"),
    [
        ((2026, 11, 23), 12, (2025, 11, 23)),
        ((2026, 1, 31), 2, (2025, 11, 30)),
        ((2028, 2, 29), 12, (2027, 2, 28)),
        ((2026, 12, 1), 12, (2025, 12, 1)),
    ],
)
def test_months_are_the_calendar_s(now: tuple[int, int, int], months: int, then: tuple[int, int, int]) -> None:
    assert privacy.months_before(datetime(*now, tzinfo=UTC), months) == datetime(*then, tzinfo=UTC)


def test_patients_are_erased_when_the_policy_says_so_and_never_without(clinic: Clinic, clock: FixedClock) -> None:
    old = visit_of(clinic).appointment.patient_id
    ask(clinic)
    clock.at += 380 * DAY
    clinic.plan()
    lately = clinic.book(str(clinic.offers()[0].slot)).appointment.patient_id

    def due() -> list[UUID]:
        with reading(clinic.engine) as session:
            return list(privacy.due(session, now=clock.now()))

    assert due() == []
    clinic.policy(retention_months=12)
    assert due() == [old]
    assert lately not in due()
    with transaction(clinic.engine) as session:
        privacy.forget_old_questions(session, now=clock.now())
        assert rows(session, ContactRequest) == []
    erase(clinic, old)
    assert due() == []


def test_a_question_is_forgotten_with_its_messages_only_when_it_is_old(clinic: Clinic, clock: FixedClock) -> None:
    clinic.policy(retention_months=12)
    ask(clinic)
    clock.at += 364 * DAY
    for wait, left in ((timedelta(), 1), (2 * DAY, 0)):
        clock.at += wait
        with transaction(clinic.engine) as session:
            privacy.forget_old_questions(session, now=clock.now())
            assert len(rows(session, ContactRequest)) == len(rows(session, OutboxMessage)) == left


def test_the_policy_keeps_patients_unless_somebody_sets_it(clinic: Clinic) -> None:
    with reading(clinic.engine) as session:
        assert session.get_one(ClinicPolicy, 1).retention_months is None


def test_what_is_counted_stays_countable(clinic: Clinic, account: Account) -> None:
    patient_id = everything(clinic, account)
    erase(clinic, patient_id)
    with reading(clinic.engine) as session:
        kept = session.scalars(select(Appointment).where(Appointment.patient_id == patient_id)).all()
        assert {one.status for one in kept} == {Status.BOOKED, Status.CANCELLED}
        assert {one.imported_as for one in kept} == {f"{ERASED} {one.id.hex}" for one in kept}
        assert questions.promise_kept(session, now=clinic.clock.now())
    assert ASK.name == "Pat Doe"  # whose row nobody made
