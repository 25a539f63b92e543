"""Files that are stored at one moment, and beside a patient who books: nobody is stored twice, nobody's time goes."""

import threading

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import NotBookable
from scheduler.models import Account, Appointment, Patient, Therapist, WorkingHours
from scheduler.services import booking, reminders
from scheduler.services.audit import Actor
from scheduler.services.moving import moving_in
from scheduler.services.moving.import_lines import Outcome, What
from tests.clinic import Clinic, at, rows
from tests.server import at_once
from tests.services.test_moving_in import HEADER, VISIT, file_of, stored

FILES = {
    What.THERAPISTS: "name,email\nBen Becker,ben@clinic.example\nCy Dunn,\n",
    What.HOURS: "therapist,weekday,opens,closes\nAna Abbott,Saturday,9:00,12:00\nAna Abbott,Sunday,9:00,12:00\n",
    What.PATIENTS: "name,email\nPat Doe,pat@example.com\nAnn Roe,ann@example.com\n",
    What.VISITS: HEADER + VISIT + VISIT.replace("A1", "A2").replace("9:00", "9:50"),
}
TABLES = (Therapist, Account, WorkingHours, Patient, Appointment)


def counts(clinic: Clinic) -> list[int]:
    with reading(clinic.engine) as session:
        return [len(rows(session, table)) for table in TABLES]


def test_of_several_who_store_the_same_file_one_stores_it(clinic: Clinic) -> None:
    before = counts(clinic)
    for what, text in FILES.items():

        def store(_place: int, together: threading.Barrier, what: What = what, text: str = text) -> list[Outcome]:
            file = file_of(what, text)
            together.wait()
            with transaction(clinic.engine) as session:
                tried = moving_in.store(
                    session, file, whole=True, by=Actor("x"), keys=clinic.keys, now=clinic.clock.now()
                )
            return [line.outcome for line in tried.lines]

        assert sorted(at_once(3, store)) == [[Outcome.KNOWN] * 2] * 2 + [[Outcome.NEW] * 2]
    assert [after - earlier for earlier, after in zip(before, counts(clinic), strict=True)] == [2, 1, 2, 2, 2]
    assert clinic.violations() == {}


def test_a_file_and_a_patient_who_want_the_same_time_do_not_both_get_it(clinic: Clinic) -> None:
    for hour in range(8, 16):
        start = at(f"2026-11-24T{hour:02}:00-06:00")
        slot = next(str(offer.slot) for offer in clinic.offers("Needling") if offer.slot.starts_at == start)
        text = HEADER + VISIT.replace("A1", f"R{hour}").replace("9:00", f"{hour}:05")

        def act(place: int, together: threading.Barrier, slot: str = slot, text: str = text) -> bool:
            together.wait()
            if place:
                (line,) = stored(clinic, What.VISITS, text).lines
                return line.outcome == Outcome.NEW
            try:
                clinic.book(slot, "Needling")
            except NotBookable:
                return False
            return True

        assert sorted(at_once(2, act)) == [False, True]
    assert clinic.violations() == {}


def test_a_visit_cancelled_while_reminders_begin_is_told_once_or_not_at_all(clinic: Clinic, clock: FixedClock) -> None:
    days = range(25, 30)
    stored(clinic, What.VISITS, HEADER + "".join(VISIT.replace("A1", f"C{d}").replace("-24", f"-{d}") for d in days))
    with reading(clinic.engine) as session:
        visits = [visit.id for visit in rows(session, Appointment)]

    def act(place: int, together: threading.Barrier) -> None:
        together.wait()
        with transaction(clinic.engine) as session:
            if place == 0:
                reminders.begin_imported(session, now=clock.now())
                return
            visit = session.get_one(Appointment, visits[place - 1])
            session.refresh(visit, ["location"])
            booking.call_off(session, visit, None, by=Actor("x"), keys=clinic.keys, now=clock.now())

    at_once(4, act)
    assert clinic.violations() == {}
