"""What keeps a time from being booked twice, and the proof that it is needed: the same race with the guards off.

Every patient sees the time free before any of them books, so the races below are the same on each run.
"""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session

from scheduler.db import reading
from scheduler.errors import SlotTaken
from scheduler.models import Appointment, AppointmentType, ClinicPolicy, Location, Slot, Therapist
from scheduler.services import availability, slots
from scheduler.services.availability import Bookable, Offer, SlotName
from tests.clinic import Clinic
from tests.server import at_once

PATIENTS = 8
OVERLAPS = "visits that overlap another visit of the same therapist"
LOST_SLOTS = "visits that do not hold exactly their own slots"
TRIGGER = "tr_slot_taken_once"


@pytest.fixture
def wanted(clinic: Clinic) -> Offer:
    return clinic.offers()[0]


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Book what was seen free a moment ago: neither lock the therapist nor ask again, as a naive program does."""

    def trust(session: Session, slot_id: str, appointment_type_id: int, **_now_and_held: object) -> Bookable:
        name = SlotName.parse(slot_id)
        return Bookable(
            name,
            session.get_one(AppointmentType, appointment_type_id),
            session.get_one(ClinicPolicy, 1),
            session.get_one(Location, name.location_id),
            session.get_one(Therapist, name.therapist_id),
        )

    monkeypatch.setattr(availability, "require_bookable", trust)
    monkeypatch.setattr(slots, "lock", lambda _session, _therapist_ids: None)


@pytest.fixture
def claiming_blindly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write over the cells of a visit without asking whether they are free, and without counting them."""

    def claim(session: Session, appointment: Appointment, **_release: object) -> None:
        cells = update(Slot).where(
            Slot.therapist_id == appointment.therapist_id,
            Slot.location_id == appointment.location_id,
            Slot.starts_at >= appointment.starts_at,
            Slot.starts_at < appointment.slots_end,
        )
        session.execute(
            cells.values(appointment_id=appointment.id, fit=0, fit_open=0),
            execution_options={"synchronize_session": False},
        )
        slots.refit(session, [appointment.therapist_id], appointment.starts_at, appointment.slots_end)

    monkeypatch.setattr(slots, "claim", claim)


@pytest.fixture
def without_trigger(engine: Engine) -> Iterator[None]:
    """Take the second lock away; PostgreSQL's database is shared by tests, so it gets it back."""
    sqlite = engine.dialect.name == "sqlite"
    with engine.begin() as connection:
        connection.execute(text(f"DROP TRIGGER {TRIGGER}" if sqlite else f"ALTER TABLE slot DISABLE TRIGGER {TRIGGER}"))
    yield
    if not sqlite:
        with engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE slot ENABLE TRIGGER {TRIGGER}"))


def race(clinic: Clinic, wanted: Offer) -> list[str]:
    """Let all patients see the time free, and only then book it; return what each of them got, in order."""

    def patient(_place: int, together: threading.Barrier) -> str:
        assert seen_free(clinic, wanted)
        together.wait()
        try:
            clinic.book(str(wanted.slot))
        except SlotTaken:
            return "taken"
        return "booked"

    return sorted(at_once(PATIENTS, patient))


def seen_free(clinic: Clinic, wanted: Offer) -> bool:
    """Whether nobody has the first cell, asked of the table itself."""
    key = (wanted.slot.therapist_id, wanted.slot.starts_at)
    with reading(clinic.engine) as session:
        return session.get_one(Slot, key).appointment_id is None


def stored(clinic: Clinic) -> int:
    with reading(clinic.engine) as session:
        return len(session.scalars(select(Appointment.id)).all())


def test_of_eight_patients_racing_for_one_time_one_wins(clinic: Clinic, wanted: Offer) -> None:
    assert race(clinic, wanted) == ["booked"] + ["taken"] * 7
    assert (stored(clinic), clinic.violations()) == (1, {})


def test_the_race_is_real_without_the_guards(
    clinic: Clinic, wanted: Offer, trusting: None, claiming_blindly: None, without_trigger: None
) -> None:
    assert race(clinic, wanted) == ["booked"] * 8
    assert (stored(clinic), clinic.violations()) == (8, {OVERLAPS: 7, LOST_SLOTS: 7})


def test_the_claim_alone_keeps_a_time_from_being_booked_twice(
    clinic: Clinic, wanted: Offer, trusting: None, without_trigger: None
) -> None:
    assert race(clinic, wanted) == ["booked"] + ["taken"] * 7
    assert (stored(clinic), clinic.violations()) == (1, {})


def test_the_trigger_alone_keeps_a_taken_slot_from_another_visit(
    clinic: Clinic, wanted: Offer, trusting: None, claiming_blindly: None
) -> None:
    assert race(clinic, wanted) == ["booked"] + ["taken"] * 7
    assert (stored(clinic), clinic.violations()) == (1, {})
