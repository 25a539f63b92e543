"""The front desk's questions and deeds, on both databases: its day, its patients, its calls, and nothing foreign."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, update
from uuid6 import uuid7

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import ClinicError, NotFound, SlotTaken, TooSoon
from scheduler.models import (
    Appointment,
    Attempt,
    AuditEvent,
    Fate,
    Kind,
    Location,
    Needling,
    OutboxMessage,
    Patient,
    Role,
    Status,
    Told,
)
from scheduler.services import accounts, booking, desk, letters, outbox
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.services.booking import BookForPatient, PatientDetails, Repeatable, Visit
from scheduler.services.desk import PATIENTS_A_PAGE, ChangedMeanwhile, Places
from scheduler.services.letters import Letter
from scheduler.services.outbox import MOST_TRIES, Lease, NotWorthSending
from scheduler.timeline import CELL, DAY
from tests.clinic import HOUR, Clinic, rows
from tests.server import at_once
from tests.services.test_queries import statements

SETUP = Actor("test")
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@dataclass
class Desk:
    """Somebody at the front desk of some places; each method is one transaction."""

    clinic: Clinic
    account_id: int
    places: Places

    @property
    def now(self) -> datetime:
        return self.clinic.clock.now()

    @property
    def actor(self) -> Actor:
        return Actor.of(self.account_id, "192.0.2.7")

    def ask(self, question: Callable[..., Any], *words: Any, **more: Any) -> Any:  # noqa: ANN401 one of desk's
        with reading(self.clinic.engine) as session:
            return question(session, *words, self.places, **more)

    def request(self, slot_id: str, kind: str = "Evaluation", patient: Any = None, **changes: Any) -> BookForPatient:  # noqa: ANN401
        values: dict[str, Any] = {
            "slot_id": slot_id,
            "appointment_type_id": self.clinic.kinds[kind],
            "patient": patient or details(),
            "needling": Needling.TALK_FIRST,
            "note": None,
            "repeatable": Repeatable(uuid4().hex, uuid4().hex * 2),
        }
        return BookForPatient(**(values | changes))

    def book(self, slot_id: str, kind: str = "Evaluation", patient: Any = None, **changes: Any) -> Visit:  # noqa: ANN401
        request = self.request(slot_id, kind, patient, **changes)
        with transaction(self.clinic.engine) as session:
            return desk.book(session, request, self.places, by=self.actor, keys=self.clinic.keys, now=self.now)

    def soonest(self, kind: str = "Evaluation", **find: Any) -> str:  # noqa: ANN401 fields of Find
        return str(self.clinic.offers(kind, by_staff=True, **find)[0].slot)

    def cancel(self, visit: Visit, by: Actor | None = None) -> None:
        with transaction(self.clinic.engine) as session:
            found = desk.visit(session, visit.appointment.id, self.places)
            booking.call_off(session, found, None, by=by or self.actor, keys=self.clinic.keys, now=self.now)

    def calls(self) -> list[tuple[UUID, bool]]:
        """The call list: each visit, and whether its patient was told."""
        return [(call.visit.id, call.told is not None) for call in self.ask(desk.calls, now=self.now)]

    def tell(self, visit: Visit, stands: str | None = None) -> None:
        with transaction(self.clinic.engine) as session:
            found = desk.visit(session, visit.appointment.id, self.places)
            expected = stands or desk.standing(found)
            desk.tell(session, found, expected, account_id=self.account_id, by=self.actor, now=self.now)

    def untell(self, visit: Visit) -> None:
        with transaction(self.clinic.engine) as session:
            desk.untell(session, desk.visit(session, visit.appointment.id, self.places), by=self.actor, now=self.now)

    def try_again(self, message_id: UUID) -> None:
        with transaction(self.clinic.engine) as session:
            desk.try_again(session, message_id, self.places, by=self.actor, keys=self.clinic.keys, now=self.now)

    def names(self, asked: str) -> list[str]:
        return sorted(one.name for one in self.ask(desk.find_patients, asked).patients)


def details(name: str = "Pat Doe", email: str | None = "pat@example.com", phone: str | None = None) -> PatientDetails:
    return PatientDetails(name, email, phone, None, "en", email is not None, False)


UNREACHABLE = details(email=None, phone="+12175550142")


def account(clinic: Clinic, email: str, places: Places = None) -> int:
    new = AccountDetails(email, "Fay Front", Role.FRONT_DESK, everywhere=places is None, location_ids=places or ())
    with transaction(clinic.engine) as session:
        return accounts.add(session, new, by=SETUP, now=clinic.clock.now()).id


@pytest.fixture
def springfield(clinic: Clinic) -> Desk:
    """The front desk of location 1."""
    return Desk(clinic, account(clinic, "front@example.com", frozenset({1})), frozenset({1}))


@pytest.fixture
def elsewhere(clinic: Clinic) -> Desk:
    """The front desk of another location with a therapist of its own."""
    place = clinic.add_location("Denver", "America/Denver", "CO")
    clinic.add_hours(clinic.add_therapist("Cal Castillo", "CO"), place)
    clinic.plan()
    return Desk(clinic, account(clinic, "denver@example.com", frozenset({place})), frozenset({place}))


def audited(clinic: Clinic) -> list[tuple[str, str, str | None]]:
    """What of the desk's stands in the audit, in order."""
    with reading(clinic.engine) as session:
        events = session.execute(
            select(AuditEvent.action, AuditEvent.actor, AuditEvent.address).order_by(AuditEvent.id)
        )
        return [(one.action, one.actor, one.address) for one in events if one.actor.startswith("account:")]


# --- the day


def test_a_day_has_the_visits_that_begin_between_its_own_midnights(springfield: Desk) -> None:
    clinic = springfield.clinic
    late = clinic.add_therapist("Lu Late")
    clinic.add_hours(late, 1, range(7), opens=22 * 60, closes=26 * 60)
    clinic.plan()
    for hour in range(22, 26):
        start = datetime.fromisoformat("2026-11-24T00:00:00-06:00") + hour * HOUR
        clinic.book(str(clinic.offers(therapist_id=late, from_=start)[0].slot))
    with reading(clinic.engine) as session:
        place = session.get_one(Location, 1)
        days = {on: len(desk.day(session, place, date(2026, 11, on))) for on in (23, 24, 25, 26)}
    assert days == {23: 0, 24: 2, 25: 2, 26: 0}


def test_a_day_tells_of_every_status_and_of_no_other_place(springfield: Desk, elsewhere: Desk) -> None:
    first, second = (springfield.book(springfield.soonest(location_id=1)) for _ in range(2))
    elsewhere.book(elsewhere.soonest(location_id=2))
    springfield.cancel(second)
    with reading(springfield.clinic.engine) as session:
        shown = desk.day(session, session.get_one(Location, 1), date(2026, 11, 23))
        assert [(one.id, one.status) for one in shown] == [
            (first.appointment.id, Status.BOOKED),
            (second.appointment.id, Status.CANCELLED),
        ]
        one = shown[0]
        assert (one.patient.name, one.therapist.name, one.appointment_type.name) == (
            "Pat Doe",
            "Ana Abbott",
            "Evaluation",
        )


def test_free_times_are_what_nobody_has_from_the_quarter_hour_that_runs(springfield: Desk, clock: FixedClock) -> None:
    clock.at += timedelta(minutes=7)  # 9:07 in Chicago
    clinic = springfield.clinic
    noon = datetime.fromisoformat("2026-11-23T12:00:00-06:00")
    clinic.book(str(clinic.offers(from_=noon)[0].slot))
    with reading(clinic.engine) as session:
        place = session.get_one(Location, 1)
        today = desk.free_times(session, place, date(2026, 11, 23), now=clock.now())
        yesterday = desk.free_times(session, place, date(2026, 11, 20), now=clock.now())
    nine, five = clock.now() - timedelta(minutes=7), datetime.fromisoformat("2026-11-23T17:00:00-06:00")
    assert [(free.therapist.name, free.starts_at, free.ends_at) for free in today] == [
        ("Ana Abbott", nine, noon),
        ("Ana Abbott", noon + HOUR, five),
    ]
    assert yesterday == []


def test_free_times_of_two_therapists_stay_apart(springfield: Desk) -> None:
    clinic = springfield.clinic
    clinic.add_hours(clinic.add_therapist("Ben Becker"), 1, opens=8 * 60, closes=10 * 60)
    clinic.plan()
    with reading(clinic.engine) as session:
        free = desk.free_times(session, session.get_one(Location, 1), date(2026, 11, 24), now=springfield.now)
    assert [(one.therapist.name, (one.ends_at - one.starts_at) // HOUR) for one in free] == [
        ("Ana Abbott", 9),
        ("Ben Becker", 2),
    ]


# --- booking


def test_staff_book_what_is_free_in_the_quarter_hour_that_runs(springfield: Desk, clock: FixedClock) -> None:
    clock.at += timedelta(minutes=14)
    visit = springfield.book(springfield.soonest())
    assert visit.appointment.starts_at == clock.now() - timedelta(minutes=14)
    assert visit.appointment.explainer_version_id is None
    assert springfield.clinic.violations() == {}


def test_the_quarter_hour_that_is_over_is_too_soon(springfield: Desk, clock: FixedClock) -> None:
    slot = springfield.soonest()
    clock.at += CELL
    with pytest.raises(TooSoon):
        springfield.book(slot)


def test_staff_book_where_patients_cannot(springfield: Desk) -> None:
    with transaction(springfield.clinic.engine) as session:
        session.execute(update(Location).values(online=False))
    assert springfield.clinic.offers() == []
    assert springfield.book(springfield.soonest()).appointment.status == Status.BOOKED


def test_a_known_patient_is_booked_without_another_row(springfield: Desk) -> None:
    known = springfield.book(springfield.soonest()).appointment.patient_id
    again = springfield.book(springfield.soonest("Follow-up"), "Follow-up", known)
    assert again.appointment.patient_id == known
    with reading(springfield.clinic.engine) as session:
        assert len(rows(session, Patient)) == 1
    assert springfield.clinic.violations() == {}


def test_what_staff_book_and_call_off_is_audited_with_who_and_from_where(springfield: Desk) -> None:
    visit = springfield.book(springfield.soonest(from_=springfield.now + HOUR))
    springfield.cancel(visit)
    by = (springfield.actor.name, "192.0.2.7")
    actions = ("patient.added", "appointment.booked", "appointment.cancelled")
    assert audited(springfield.clinic) == [(action, *by) for action in actions]


def test_the_same_key_and_words_book_once(springfield: Desk) -> None:
    request = springfield.request(springfield.soonest())
    ids = set()
    for _ in range(2):
        with transaction(springfield.clinic.engine) as session:
            visit = desk.book(
                session,
                request,
                springfield.places,
                by=springfield.actor,
                keys=springfield.clinic.keys,
                now=springfield.now,
            )
            ids.add(visit.appointment.id)
    with reading(springfield.clinic.engine) as session:
        assert ids == {one.id for one in rows(session, Appointment)}
    assert len(ids) == 1


def test_other_times_are_at_the_same_place_the_next_first_then_earlier(springfield: Desk, elsewhere: Desk) -> None:
    clinic = springfield.clinic
    with reading(clinic.engine) as session:
        slot = springfield.soonest(from_=springfield.now + 2 * HOUR, location_id=1)
        others = desk.other_times(session, slot, clinic.kinds["Evaluation"], now=springfield.now)
        assert str(others[0].slot) == slot
        last_days = clinic.offers(by_staff=True, location_id=1, from_=springfield.now + 89 * DAY)
        late = desk.other_times(session, str(last_days[-2].slot), clinic.kinds["Evaluation"], now=springfield.now)
    assert [offer.slot.location_id for offer in others + late] == [1] * 12
    assert [str(offer.slot) for offer in late][:3] == [
        str(last_days[-2].slot),
        str(last_days[-1].slot),
        springfield.soonest(location_id=1),
    ]


def test_of_a_desk_and_a_patient_who_want_one_time_one_gets_it(springfield: Desk) -> None:
    clinic = springfield.clinic
    for start in [str(offer.slot) for offer in clinic.offers()[:12:4]]:

        def take(place: int, together: Any, start: str = start) -> str:  # noqa: ANN401 a barrier
            together.wait()
            try:
                springfield.book(start) if place % 2 else clinic.book(start)
            except SlotTaken:
                return "taken"
            return "booked"

        assert sorted(at_once(4, take)) == ["booked", "taken", "taken", "taken"]
    assert clinic.violations() == {}


# --- nothing foreign


def test_a_foreign_place_visit_patient_or_message_is_not_found_and_unchanged(
    springfield: Desk, elsewhere: Desk
) -> None:
    visit = springfield.book(springfield.soonest(location_id=1, from_=springfield.now + HOUR), patient=UNREACHABLE)
    patient_id = visit.appointment.patient_id
    soon = springfield.soonest(location_id=1, from_=springfield.now + 2 * HOUR)
    message = fail_first_message(springfield, springfield.book(soon))
    before = contents(springfield.clinic)
    deeds: list[Callable[[], object]] = [
        lambda: elsewhere.ask(desk.location, 1),
        lambda: elsewhere.ask(desk.visit, visit.appointment.id),
        lambda: elsewhere.ask(desk.patient, patient_id),
        lambda: elsewhere.book(springfield.soonest(location_id=1)),
        lambda: elsewhere.book(elsewhere.soonest(location_id=2), patient=patient_id),
        lambda: elsewhere.cancel(visit),
        lambda: elsewhere.tell(visit),
        lambda: elsewhere.untell(visit),
        lambda: elsewhere.try_again(message),
        lambda: springfield.ask(desk.visit, uuid7()),
        lambda: springfield.ask(desk.patient, uuid7()),
        lambda: springfield.try_again(uuid7()),
        lambda: springfield.ask(desk.find_patients, "x", after=uuid7()),
        lambda: elsewhere.ask(desk.find_patients, "x", after=patient_id),
    ]
    for deed in deeds:
        with pytest.raises(NotFound):
            deed()
    assert elsewhere.names("pat") == []
    assert elsewhere.ask(desk.visits_of, patient_id) == []
    assert elsewhere.calls() == []
    assert elsewhere.ask(desk.failed_messages, now=elsewhere.now) == []
    assert contents(springfield.clinic) == before


def contents(clinic: Clinic) -> dict[str, int]:
    """How much is stored of what a foreign desk might change, and how it stands."""
    with reading(clinic.engine) as session:
        counts = {table.__tablename__: len(rows(session, table)) for table in (Appointment, Patient, Told, AuditEvent)}
        counts["booked"] = sum(one.status == Status.BOOKED for one in rows(session, Appointment))
        counts["failed"] = sum(one.status == Fate.FAILED for one in rows(session, OutboxMessage))
        return counts


def test_a_patient_of_two_places_shows_each_its_own_visits(springfield: Desk, elsewhere: Desk) -> None:
    boss = Desk(springfield.clinic, springfield.account_id, None)
    here = springfield.book(springfield.soonest(location_id=1))
    patient_id = here.appointment.patient_id
    there = boss.book(elsewhere.soonest(location_id=2), patient=patient_id)
    assert [one.id for one in springfield.ask(desk.visits_of, patient_id)] == [here.appointment.id]
    assert [one.id for one in elsewhere.ask(desk.visits_of, patient_id)] == [there.appointment.id]
    assert len(boss.ask(desk.visits_of, patient_id)) == 2
    assert elsewhere.names("pat") == ["Pat Doe"]
    assert [one.name for one in springfield.ask(desk.locations)] == ["Springfield"]
    assert [one.name for one in boss.ask(desk.locations)] == ["Denver", "Springfield"]


# --- finding patients

PEOPLE = (
    ("Zoë O’Brien-Núñez", "zoe.OBrien@Example.com", "+12175550142"),
    ("Łukasz Müller", None, "+13125550199"),
    ("Øyvind Ærø", "ov@example.com", None),
    ("ANA MARÍA GARCÍA LÓPEZ", "ana@example.com", "+12175550177"),
    ("100% Real_Name 🦴", "percent@example.com", None),
    ("Иван Петров", "ivan@example.com", None),
    ("Groß Weiß", "gross@example.com", None),
)
SEARCHES = {
    "zoe": ["Zoë O’Brien-Núñez"],
    "ZOË nunez": ["Zoë O’Brien-Núñez"],
    "obrien": ["Zoë O’Brien-Núñez"],
    "O'Brien": ["Zoë O’Brien-Núñez"],
    "Nuñez zo": ["Zoë O’Brien-Núñez"],
    "brien-nunez": ["Zoë O’Brien-Núñez"],
    "zoe.obrien@example.com": ["Zoë O’Brien-Núñez"],
    "OBRIEN@EX": ["Zoë O’Brien-Núñez"],
    "217 555 0142": ["Zoë O’Brien-Núñez"],
    "(217) 555-0142": ["Zoë O’Brien-Núñez"],
    "+1 217 555 0142": ["Zoë O’Brien-Núñez"],
    "0142": ["Zoë O’Brien-Núñez"],
    "217 555": ["ANA MARÍA GARCÍA LÓPEZ", "Zoë O’Brien-Núñez"],
    "lukasz": ["Łukasz Müller"],
    "muller": ["Łukasz Müller"],
    "oyvind aero": ["Øyvind Ærø"],
    "garcia maria": ["ANA MARÍA GARCÍA LÓPEZ"],
    "maria anna": [],
    "ПЕТРОВ": ["Иван Петров"],
    "gross": ["Groß Weiß"],
    "%": ["100% Real_Name 🦴"],
    "_": ["100% Real_Name 🦴"],
    "🦴": ["100% Real_Name 🦴"],
    "100%": ["100% Real_Name 🦴"],
    "real_name": ["100% Real_Name 🦴"],
    "realxname": [],
    "'": [],
    "' OR '1'='1": [],
    "%' OR 1=1 --": [],
    "/": [],
    "\\": [],
    "": [],
    "   ": [],
    "\0": [],
    "ab\0zoe": [],
    "12": [],
    "x" * 500: [],
    "zoe " * 125: [],
    "🦴" * 500: [],
}


@pytest.fixture
def busy(springfield: Desk) -> Desk:
    for name, email, phone in PEOPLE:
        springfield.book(springfield.soonest("Needling"), "Needling", details(name, email, phone))
    return springfield


def test_patients_are_found_however_a_caller_says_it(busy: Desk) -> None:
    assert {asked: busy.names(asked) for asked in SEARCHES} == SEARCHES


@on_sqlite
@hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=st.text(max_size=520) | st.text(alphabet="%_'\\/ zoe\"\0é🦴12", max_size=300))
def test_whatever_is_asked_is_answered_on_sqlite(busy: Desk, asked: str) -> None:
    assert_each_once(busy.names(asked))


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=st.text(max_size=520) | st.text(alphabet="%_'\\/ zoe\"\0é🦴12", max_size=300))
def test_whatever_is_asked_is_answered_on_postgresql(busy: Desk, asked: str) -> None:
    assert_each_once(busy.names(asked))


def assert_each_once(found: list[str]) -> None:
    assert found == sorted({name for name, *_ in PEOPLE} & set(found))


def test_a_name_that_changes_is_found_by_the_new_one(busy: Desk) -> None:
    with transaction(busy.clinic.engine) as session:
        found = session.scalars(select(Patient).where(Patient.name == "Łukasz Müller")).one()
        found.name = "Łukasz Szymański"
    assert busy.names("szymanski") == ["Łukasz Szymański"]
    assert busy.names("muller") == []


def test_patients_come_newest_first_page_by_page_each_once(springfield: Desk, clock: FixedClock) -> None:
    kinds = springfield.clinic.kinds
    with transaction(springfield.clinic.engine) as session:
        for number in range(2 * PATIENTS_A_PAGE + 5):
            clock.at += timedelta(seconds=number % 2)  # some at one moment
            session.add(
                Patient(
                    name=f"Same Name {number}",
                    email="same@example.com",
                    language="en",
                    remind_by_email=True,
                    remind_by_sms=False,
                    created_at=clock.now(),
                )
            )
    boss = Desk(springfield.clinic, springfield.account_id, None)
    pages: list[list[UUID]] = []
    after = None
    while not pages or after is not None:
        found = boss.ask(desk.find_patients, "same name", after=after)
        pages.append([one.id for one in found.patients])
        after = found.after
    assert [len(page) for page in pages] == [PATIENTS_A_PAGE, PATIENTS_A_PAGE, 5]
    with reading(springfield.clinic.engine) as session:
        newest_first = session.scalars(select(Patient.id).order_by(Patient.created_at.desc(), Patient.id.desc()))
        assert [one for page in pages for one in page] == list(newest_first)
    assert springfield.names("same name") == []  # without a visit they belong to no place
    assert kinds


def test_each_patient_found_comes_with_their_latest_visit(springfield: Desk) -> None:
    first = springfield.book(springfield.soonest())
    patient_id = first.appointment.patient_id
    later = springfield.book(springfield.soonest(from_=springfield.now + 3 * DAY), patient=patient_id)
    found = springfield.ask(desk.find_patients, "pat")
    assert found.latest[patient_id].id == later.appointment.id
    springfield.cancel(later)
    assert springfield.ask(desk.find_patients, "pat").latest[patient_id].id == first.appointment.id


# --- messages that failed


def fail_first_message(at: Desk, visit: Visit, kind: Kind = Kind.CONFIRMATION) -> UUID:
    """Let a message of a visit be refused for good, as a worker does it."""
    engine, keys, now = at.clinic.engine, at.clinic.keys, at.now
    lease = Lease(uuid7(), timedelta(seconds=30))
    with transaction(engine) as session:
        wanted = select(OutboxMessage.id).where(
            OutboxMessage.appointment_id == visit.appointment.id, OutboxMessage.kind == kind
        )
        message_id = session.scalars(wanted).one()
        taken = update(OutboxMessage).where(OutboxMessage.id == message_id)
        session.execute(taken.values(lease=lease.id, leased_until=now + DAY))
    with transaction(engine) as session:
        tried = outbox.begin(session, message_id, lease, keys=keys, now=now)
        assert tried is not None
    with transaction(engine) as session:
        outbox.refused(session, tried, "550 no such user")
    return message_id


def fates(clinic: Clinic, message_id: UUID) -> tuple[str, str | None, int]:
    with reading(clinic.engine) as session:
        message = session.get_one(OutboxMessage, message_id)
        return message.status, message.reason, message.tries


def send_all(at: Desk) -> int:
    """What a worker does while the mail server takes everything; returns how many were sent."""
    lease, sent = Lease(uuid7(), timedelta(seconds=30)), 0
    with transaction(at.clinic.engine) as session:
        ids = outbox.claim(session, lease, now=at.now)
    for one in ids:
        with transaction(at.clinic.engine) as session:
            tried = outbox.begin(session, one, lease, keys=at.clinic.keys, now=at.now)
        if tried is not None:
            with transaction(at.clinic.engine) as session:
                outbox.sent(session, tried, now=at.now)
            sent += 1
    return sent


def test_a_failed_message_is_listed_tried_again_and_sent(springfield: Desk) -> None:
    visit = springfield.book(springfield.soonest(from_=springfield.now + HOUR))
    message_id = fail_first_message(springfield, visit)
    (failed,) = springfield.ask(desk.failed_messages, now=springfield.now)
    assert (failed.message.id, failed.message.reason, failed.visit.id) == (
        message_id,
        "550 no such user",
        visit.appointment.id,
    )
    assert springfield.calls() == [(visit.appointment.id, False)]
    springfield.try_again(message_id)
    assert fates(springfield.clinic, message_id) == (Fate.OWED, None, 0)
    assert springfield.ask(desk.failed_messages, now=springfield.now) == []
    assert springfield.calls() == []
    assert send_all(springfield) == 1
    assert fates(springfield.clinic, message_id)[0] == Fate.SENT
    assert springfield.clinic.violations() == {}
    assert ("outbox_message.tried_again", springfield.actor.name, "192.0.2.7") in audited(springfield.clinic)


def test_a_message_may_fail_and_be_tried_again_any_number_of_times(springfield: Desk) -> None:
    visit = springfield.book(springfield.soonest(from_=springfield.now + HOUR))
    for _ in range(3):
        message_id = fail_first_message(springfield, visit)
        springfield.try_again(message_id)
    assert send_all(springfield) == 1
    with reading(springfield.clinic.engine) as session:
        tries = session.execute(select(Attempt.number, Attempt.outcome).order_by(Attempt.number)).all()
    assert [tuple(one) for one in tries] == [(number, "550 no such user") for number in (1, 2, 3)] + [(4, Fate.SENT)]
    assert springfield.clinic.violations() == {}


def test_a_message_that_wore_out_its_tries_has_all_of_them_again(springfield: Desk) -> None:
    visit = springfield.book(springfield.soonest(from_=springfield.now + HOUR))
    message_id = fail_first_message(springfield, visit)
    with transaction(springfield.clinic.engine) as session:
        session.execute(update(OutboxMessage).values(tries=MOST_TRIES))
    springfield.try_again(message_id)
    assert fates(springfield.clinic, message_id)[2] == 0
    assert send_all(springfield) == 1


def test_trying_again_twice_or_what_was_sent_changes_nothing(springfield: Desk) -> None:
    visit = springfield.book(springfield.soonest(from_=springfield.now + HOUR))
    message_id = fail_first_message(springfield, visit)
    springfield.try_again(message_id)
    springfield.try_again(message_id)
    send_all(springfield)
    springfield.try_again(message_id)
    assert fates(springfield.clinic, message_id)[0] == Fate.SENT
    assert [action for action, *_ in audited(springfield.clinic)].count("outbox_message.tried_again") == 1


def test_a_failed_message_of_a_visit_that_changed_is_neither_listed_nor_owed_anew(
    springfield: Desk, clock: FixedClock
) -> None:
    visit = springfield.book(springfield.soonest(from_=springfield.now + HOUR))
    message_id = fail_first_message(springfield, visit)
    springfield.cancel(visit)
    assert springfield.ask(desk.failed_messages, now=springfield.now) == []
    with pytest.raises(NotWorthSending):
        springfield.try_again(message_id)
    begun = springfield.book(springfield.soonest(from_=springfield.now + HOUR))
    late = fail_first_message(springfield, begun)
    clock.at += 3 * HOUR
    assert springfield.ask(desk.failed_messages, now=springfield.now) == []
    with pytest.raises(NotWorthSending):
        springfield.try_again(late)
    assert [fates(springfield.clinic, one)[0] for one in (message_id, late)] == [Fate.FAILED] * 2
    assert springfield.clinic.violations() == {}


def test_trying_again_and_canceling_at_one_moment_owe_nothing_for_the_canceled_visit(springfield: Desk) -> None:
    for _ in range(3):
        visit = springfield.book(springfield.soonest(from_=springfield.now + HOUR))
        message_id = fail_first_message(springfield, visit)

        def act(place: int, together: Any, visit: Visit = visit, message_id: UUID = message_id) -> str:  # noqa: ANN401
            together.wait()
            try:
                springfield.cancel(visit) if place else springfield.try_again(message_id)
            except ClinicError as error:
                return type(error).__name__
            return "done"

        assert at_once(2, act)[1] == "done"
        assert fates(springfield.clinic, message_id)[0] in {Fate.FAILED, Fate.SUPPRESSED}
        assert springfield.clinic.violations() == {}


# --- the call list


def test_who_has_no_address_is_on_the_list_until_told_and_again_when_that_is_taken_back(springfield: Desk) -> None:
    reached = springfield.book(springfield.soonest(from_=springfield.now + HOUR))
    visit = springfield.book(springfield.soonest(from_=springfield.now + HOUR), patient=UNREACHABLE)
    assert springfield.calls() == [(visit.appointment.id, False)]
    springfield.tell(visit)
    springfield.tell(visit)
    assert springfield.calls() == [(visit.appointment.id, True)]
    assert springfield.ask(desk.calls_to_make, now=springfield.now) == 0
    (call,) = springfield.ask(desk.calls, now=springfield.now)
    assert call.teller == "Fay Front"
    springfield.untell(visit)
    springfield.untell(visit)
    assert springfield.calls() == [(visit.appointment.id, False)]
    assert springfield.ask(desk.calls_to_make, now=springfield.now) == 1
    actions = [action for action, *_ in audited(springfield.clinic)]
    assert (actions.count("appointment.told"), actions.count("appointment.untold")) == (1, 1)
    assert reached.appointment.id not in dict(springfield.calls())
    assert springfield.clinic.violations() == {}


def test_a_visit_that_is_canceled_has_to_be_told_anew(springfield: Desk) -> None:
    visit = springfield.book(springfield.soonest(from_=springfield.now + HOUR), patient=UNREACHABLE)
    springfield.tell(visit)
    springfield.cancel(visit)
    assert springfield.calls() == [(visit.appointment.id, False)]


def test_what_was_changed_meanwhile_cannot_be_ticked(springfield: Desk) -> None:
    visit = springfield.book(springfield.soonest(from_=springfield.now + HOUR), patient=UNREACHABLE)
    seen = desk.standing(visit.appointment)
    springfield.cancel(visit)
    with pytest.raises(ChangedMeanwhile):
        springfield.tell(visit, seen)
    assert springfield.calls() == [(visit.appointment.id, False)]


def test_nobody_is_called_about_what_they_canceled_themselves(springfield: Desk) -> None:
    clinic = springfield.clinic
    visit = clinic.book(str(clinic.offers()[0].slot), patient=UNREACHABLE)
    assert springfield.calls() == [(visit.appointment.id, False)]
    clinic.cancel(visit.token)
    assert springfield.calls() == []


def test_a_cancellation_that_failed_is_a_call(springfield: Desk) -> None:
    visit = springfield.book(springfield.soonest(from_=springfield.now + HOUR))
    springfield.cancel(visit)
    assert springfield.calls() == []
    fail_first_message(springfield, visit, Kind.CANCELLATION)
    assert springfield.calls() == [(visit.appointment.id, False)]


def test_visits_that_have_begun_are_no_calls(springfield: Desk, clock: FixedClock) -> None:
    springfield.book(springfield.soonest(from_=springfield.now + HOUR), patient=UNREACHABLE)
    clock.at += 2 * HOUR
    assert springfield.calls() == []


# --- at any size


def test_the_desks_questions_run_as_many_statements_at_any_size(springfield: Desk, engine: Engine) -> None:
    clinic = springfield.clinic

    def counts() -> dict[str, int]:
        found = {}
        for name, question in QUESTIONS.items():
            with reading(engine) as session, statements(engine) as seen:
                question(session, springfield.now)
            found[name] = len(seen)
        return found

    springfield.book(springfield.soonest(), patient=UNREACHABLE)
    fail_first_message(springfield, springfield.book(springfield.soonest(from_=springfield.now + HOUR)))
    small = counts()
    for name in ("Ben Becker", "Cy Cole"):
        clinic.add_hours(clinic.add_therapist(name), 1)
    clinic.plan()
    for number in range(12):
        start = springfield.soonest("Needling", from_=springfield.now + HOUR)
        visit = springfield.book(start, "Needling", UNREACHABLE if number % 2 else details(f"Pat {number}"))
        if number % 4 == 0:
            fail_first_message(springfield, visit)
    assert counts() == small
    assert max(small.values()) <= 3


QUESTIONS: dict[str, Callable[..., Any]] = {
    "day": lambda session, _now: desk.day(session, session.get_one(Location, 1), date(2026, 11, 23)),
    "free": lambda session, now: desk.free_times(session, session.get_one(Location, 1), date(2026, 11, 23), now=now),
    "find": lambda session, _now: desk.find_patients(session, "pat", frozenset({1})),
    "calls": lambda session, now: desk.calls(session, frozenset({1}), now=now),
    "failed": lambda session, now: desk.failed_messages(session, frozenset({1}), now=now),
    "to make": lambda session, now: desk.calls_to_make(session, frozenset({1}), now=now),
}


def test_the_confirmation_of_a_visit_booked_by_staff_asks_to_read_the_explainer(springfield: Desk) -> None:
    clinic = springfield.clinic
    springfield.book(springfield.soonest(from_=springfield.now + HOUR))
    clinic.book(str(clinic.offers()[0].slot))
    with reading(clinic.engine) as session:
        ids = session.scalars(
            select(OutboxMessage.id)
            .where(OutboxMessage.kind == Kind.CONFIRMATION)
            .order_by(OutboxMessage.created_at, OutboxMessage.id)
        ).all()
        found: list[Letter] = letters.drafts(session, ids, keys=clinic.keys)
    assert sorted(one.explainer_shown for one in found) == [False, True]
