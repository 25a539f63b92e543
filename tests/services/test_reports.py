"""Reports say what a plain recount of the rows says, whatever the rows are, on both databases."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from uuid6 import uuid7

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import NotFound
from scheduler.keys import Keyring
from scheduler.models import (
    Appointment,
    AppointmentType,
    Attempt,
    AuditEvent,
    Location,
    OutboxMessage,
    Patient,
    Slot,
    Therapist,
)
from scheduler.services import reports
from scheduler.services.reports import Canceller, Cells, Reminded, Trouble, Visit, Wanted, Where
from scheduler.timeline import CELL, DAY
from tests.clinic import HOUR, Clinic
from tests.services.test_queries import statements

ZONES = ("America/Chicago", "America/Phoenix", "Pacific/Auckland")
STATUSES = ("booked", "arrived", "fulfilled", "cancelled", "noshow")
FATES = (
    ("owed", None), ("sent", None), ("suppressed", "cancelled"), ("suppressed", "moved"),
    ("failed", "550 pat@example.com is nobody here"), ("failed", "8 tries; the last: 451 later"),
    ("failed", "every try broke off"),
)  # fmt: skip
TROUBLES = {"5": Trouble.REFUSED, "8": Trouble.GAVE_UP, "e": Trouble.BROKE_OFF}
NOW = datetime(2027, 3, 10, 12, tzinfo=UTC)
FIRST, LAST = date(2027, 2, 1), date(2027, 4, 1)


@dataclass
class Small:
    """One random clinic, stored in a transaction that is never committed."""

    places: list[Location] = field(default_factory=list)
    people: list[Therapist] = field(default_factory=list)
    visits: list[Appointment] = field(default_factory=list)
    cells: list[Slot] = field(default_factory=list)
    cancelled_by: dict[UUID, str | None] = field(default_factory=dict)
    messages: list[tuple[Appointment, str, str | None, int]] = field(default_factory=list)


TURNS = [datetime(2027, month, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC) for month in range(1, 7) for zone in ZONES]
EDGES = (2 * HOUR, DAY, *(days * DAY for days in (2, 4, 7, 8, 15, 29)))  # where one group ends and the next begins


def a_start(chance: Random) -> datetime:
    """Often at a midnight at which a month turns, on one of the calendars, or a cell beside it."""
    if chance.random() < 0.5:
        return chance.choice(TURNS) + chance.randint(-1, 1) * CELL
    return NOW + chance.randint(-96 * 40, 96 * 40) * CELL


def a_length(chance: Random) -> timedelta:
    """Often the end of a group, or a microsecond beside it."""
    if chance.random() < 0.5:
        return chance.choice(EDGES) + chance.randint(-1, 1) * timedelta(microseconds=1)
    return chance.uniform(-0.1, 40) * DAY


def a_visit(chance: Random) -> dict[str, Any]:
    return {
        "at": chance.randrange(3),
        "who": chance.randrange(3),
        "start": chance.choice([NOW, a_start(chance), a_start(chance), a_start(chance)]),
        "lead": a_length(chance),
        "status": chance.choice(STATUSES),
        "imported": chance.random() < 0.2,
        "warning": a_length(chance),
        "by": chance.choice(["patient", "account:7", "worker", None]),
        "messages": [(chance.choice(FATES), chance.randrange(4)) for _ in range(chance.randrange(4))],
    }


def drawn_from(chance: Random) -> tuple[list[dict[str, Any]], list[tuple[int, int, datetime]]]:
    """Visits, and free cells; sometimes none."""
    counts = [chance.choice([0, 1, 30, 60]) for _ in range(2)]
    cells = [(chance.randrange(3), chance.randrange(3), a_start(chance)) for _ in range(counts[1])]
    return [a_visit(chance) for _ in range(counts[0])], cells


def a_wish(chance: Random, small: Small) -> Wanted:
    """All of it, or some locations, one therapist, fewer months."""
    first, last = sorted(chance.choices(range(5), k=2)) if chance.random() < 0.5 else (0, 4)
    return Wanted(
        places=[place for place in small.places if chance.random() < chance.choice([0.5, 1])],
        first=reports.month_after(date(2027, 1, 1), first),
        last=reports.month_after(date(2027, 1, 1), last),
        therapist_id=chance.choice([None, None, small.people[0].id]),
    )


def stored(session: Session, drawn: tuple[list[dict[str, Any]], list[tuple[int, int, datetime]]]) -> Small:
    small = Small()
    small.places = [
        Location(name=f"P{n}", area="-", address="-", state="IL", time_zone=zone, phone="-")
        for n, zone in enumerate(ZONES)
    ]
    small.people = [Therapist(name=f"T{n}", credentials="PT") for n in range(3)]
    kind = AppointmentType(name="K", position=99, minutes=15, new_patient=True, includes_needling=False)
    patient = Patient(
        name="P", email="p@example.com", language="en", remind_by_email=True, remind_by_sms=False, created_at=NOW
    )
    session.add_all([*small.places, *small.people, kind, patient])
    session.flush()
    taken: dict[tuple[int, datetime], Slot] = {}
    for visit in drawn[0]:
        _store_visit(session, small, visit, kind, patient, taken)
    for at, who, start in drawn[1]:
        _cell(small, taken, small.places[at].id, small.people[who].id, start, None)
    small.cells = list(taken.values())
    session.add_all(small.cells)
    session.flush()
    return small


def _store_visit(
    session: Session,
    small: Small,
    visit: dict[str, Any],
    kind: AppointmentType,
    patient: Patient,
    taken: dict[tuple[int, datetime], Slot],
) -> None:
    cancelled = visit["status"] == "cancelled"
    row = Appointment(
        id=uuid7(),
        patient_id=patient.id,
        therapist_id=small.people[visit["who"]].id,
        location_id=small.places[visit["at"]].id,
        appointment_type_id=kind.id,
        starts_at=visit["start"],
        ends_at=visit["start"] + CELL,
        buffer_minutes=0,
        status=visit["status"],
        needling="open",
        booked_at=visit["start"] - visit["lead"],
        cancelled_at=visit["start"] - visit["warning"] if cancelled else None,
        imported_as=str(uuid7()) if visit["imported"] else None,
    )
    session.add(row)
    session.flush()
    small.visits.append(row)
    if not cancelled:
        _cell(small, taken, row.location_id, row.therapist_id, row.starts_at, row.id)
    elif visit["by"] is not None:
        small.cancelled_by[row.id] = visit["by"]
        for action, actor in (("booked", "demo"), ("cancelled", visit["by"])):
            session.add(
                AuditEvent(
                    happened_at=NOW,
                    actor=actor,
                    action=f"appointment.{action}",
                    entity="appointment",
                    entity_id=row.id.hex,
                    detail={},
                )
            )
    for number, ((fate, reason), tries) in enumerate(visit["messages"], start=1):
        _store_message(session, row, number, fate, reason, tries)
        small.messages.append((row, fate, reason, tries))


def _store_message(session: Session, row: Appointment, number: int, fate: str, reason: str | None, tries: int) -> None:
    message = OutboxMessage(
        id=uuid7(),
        appointment_id=row.id,
        kind="reminder",
        channel="email",
        offset_minutes=number,
        visit_version=1,
        due_at=NOW,
        status=fate,
        reason=reason,
        sent_at=NOW if fate == "sent" else None,
        created_at=NOW,
    )
    other = OutboxMessage(
        appointment_id=row.id, kind="confirmation", channel="email", visit_version=number, due_at=NOW, created_at=NOW
    )
    session.add_all([message, other])
    session.flush()
    outcomes = ["451 later", "sent", None][:tries]
    session.add_all(
        Attempt(
            message_id=message.id,
            number=n,
            started_at=NOW,
            finished_at=None if outcome is None else NOW,
            outcome=outcome,
        )
        for n, outcome in enumerate(outcomes, start=1)
    )


def _cell(
    small: Small,
    taken: dict[tuple[int, datetime], Slot],
    location_id: int,
    therapist_id: int,
    start: datetime,
    visit: UUID | None,
) -> None:
    if (therapist_id, start) not in taken:
        taken[therapist_id, start] = Slot(
            therapist_id=therapist_id,
            starts_at=start,
            location_id=location_id,
            appointment_id=visit,
            fit=0 if visit else 1,
            fit_open=0 if visit else 1,
            needling=True,
        )


@dataclass(frozen=True)
class Recount:
    """The same figures by hand, one row after the other."""

    small: Small
    wanted: Wanted

    def where(self, location_id: int, therapist_id: int, start: datetime) -> Where | None:
        place = next((place for place in self.wanted.places if place.id == location_id), None)
        if place is None or self.wanted.therapist_id not in {None, therapist_id}:
            return None
        day = start.astimezone(ZoneInfo(place.time_zone)).date()
        month = date(day.year, day.month, 1)
        return Where(location_id, therapist_id, month) if self.wanted.first <= month <= self.wanted.last else None

    def visits(self) -> Iterator[tuple[Where, Appointment]]:
        for visit in self.small.visits:
            where = self.where(visit.location_id, visit.therapist_id, visit.starts_at)
            if where is not None:
                yield where, visit

    def counted(self, key: Callable[[Appointment], Any]) -> dict[Where, dict[Any, int]]:
        found: dict[Where, Counter[Any]] = {}
        for where, visit in self.visits():
            named = key(visit)
            if named is not None:
                found.setdefault(where, Counter())[named] += 1
        return {where: dict(counts) for where, counts in found.items()}

    def cells(self) -> dict[Where, Cells]:
        found: dict[Where, Cells] = {}
        for cell in self.small.cells:
            where = self.where(cell.location_id, cell.therapist_id, cell.starts_at)
            if where is not None:
                found[where] = found.get(where, Cells()) + Cells(1, int(cell.appointment_id is not None))
        return found

    def leads(self) -> dict[Where, list[timedelta]]:
        found: dict[Where, list[timedelta]] = {}
        for where, visit in self.visits():
            if visit.status != "cancelled" and visit.imported_as is None:
                found.setdefault(where, []).append(max(visit.starts_at - visit.booked_at, timedelta()))
        return found

    def visit(self, visit: Appointment) -> Visit:
        days = (visit.starts_at - visit.booked_at) // DAY
        ends = {1: "0–1", 3: "2–3", 7: "4–7", 14: "8–14", 28: "15–28"}
        lead = next((name for last, name in ends.items() if days <= last), "> 28")
        status = "unmarked" if visit.status == "booked" and visit.starts_at <= NOW else visit.status
        return Visit("unknown" if visit.imported_as else lead, status)

    def cancellation(self, visit: Appointment) -> tuple[str, Canceller] | None:
        if visit.cancelled_at is None:
            return None
        hours = (visit.starts_at - visit.cancelled_at) / HOUR
        ends = {2: "< 2 h", 24: "2–24 h", 48: "24–48 h", 168: "2–7 d"}
        warning = next((name for end, name in ends.items() if hours < end), "> 7 d")
        who = {"patient": "patient", "account:7": "staff", "worker": "program", None: "unknown"}
        return warning, Canceller(who[self.small.cancelled_by.get(visit.id)])

    def reminders(self) -> dict[Where, dict[Reminded, int]]:
        found: dict[Where, Counter[Reminded]] = {}
        for visit, fate, reason, tries in self.small.messages:
            where = self.where(visit.location_id, visit.therapist_id, visit.starts_at)
            if where is not None:
                why = TROUBLES[str(reason)[0]] if fate == "failed" else reason
                found.setdefault(where, Counter())[Reminded(fate, why, fate == "sent" and tries == 3)] += 1
        return {where: dict(counts) for where, counts in found.items()}


def test_every_figure_is_what_a_plain_recount_gives(engine: Engine) -> None:
    @given(seed=st.integers(0, 2**32))
    @settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def holds(seed: int) -> None:
        chance = Random(seed)
        with Session(engine) as session:
            small = stored(session, drawn_from(chance))
            for _ in range(3):
                compare(session, small, a_wish(chance, small))

    holds()


def compare(session: Session, small: Small, wanted: Wanted) -> None:
    plain = Recount(small, wanted)
    assert reports.utilization(session, wanted) == plain.cells()
    assert reports.visits(session, wanted, now=NOW) == plain.counted(plain.visit)
    assert reports.cancellations(session, wanted) == plain.counted(plain.cancellation)
    assert reports.reminders(session, wanted) == plain.reminders()
    assert by_length(reports.leads(session, wanted)) == by_length(plain.leads())


def by_length(leads: dict[Where, list[timedelta]]) -> dict[Where, list[timedelta]]:
    return {where: sorted(lengths) for where, lengths in leads.items()}


@given(st.lists(st.timedeltas(timedelta(), 90 * DAY), min_size=1))
def test_half_and_nine_in_ten_were_booked_no_longer_ahead(lengths: list[timedelta]) -> None:
    found = reports.ahead(lengths)
    assert found is not None
    assert found.visits == len(lengths)
    for tenths, length in ((5, found.median), (9, found.p90)):
        assert length == min(
            one for one in lengths if sum(other <= one for other in lengths) * 10 >= tenths * len(lengths)
        )


def test_nothing_was_booked_ahead_where_nothing_was_booked() -> None:
    assert reports.ahead([]) is None


def test_shares_are_told_by_location_therapist_and_month() -> None:
    one, two, three = Where(1, 7, FIRST), Where(1, 8, FIRST), Where(2, 7, LAST)
    rows = {one: Cells(10, 5), two: Cells(10, 0), three: Cells(4, 4)}
    assert reports.by(rows, lambda where: where.location_id) == {1: Cells(20, 5), 2: Cells(4, 4)}
    assert reports.by(rows, lambda where: where.therapist_id) == {7: Cells(14, 9), 8: Cells(10, 0)}
    assert {month: cells.share for month, cells in reports.by(rows, lambda where: where.month).items()} == {
        FIRST: 0.25,
        LAST: 1.0,
    }


def test_no_shows_are_a_share_of_the_visits_that_came_due() -> None:
    counts = {
        Visit("0–1", "fulfilled"): 6, Visit("0–1", "arrived"): 1, Visit("0–1", "noshow"): 1,
        Visit("0–1", "cancelled"): 9, Visit("0–1", "booked"): 3, Visit("0–1", "unmarked"): 2,
        Visit("> 28", "noshow"): 1,
    }  # fmt: skip
    near, far, none = (reports.kept(counts, lead) for lead in ("0–1", "> 28", "2–3"))
    assert (near.visits, near.came_due, near.missed, near.share) == (13, 8, 1, 0.125)
    assert (far.visits, far.share) == (1, 1.0)
    assert (none.visits, none.share) == (0, None)
    assert reports.kept(counts).visits == 14
    assert reports.kept({}).share is None


@pytest.mark.parametrize(
    ("month", "count", "result"),
    [("2027-12", 1, "2028-01"), ("2027-01", -1, "2026-12"), ("2027-01", 0, "2027-01"), ("2026-11", 14, "2028-01")],
)
def test_months_follow_each_other_over_the_turn_of_years(month: str, count: int, result: str) -> None:
    first, then = (date.fromisoformat(f"{text}-01") for text in (month, result))
    assert reports.month_after(first, count) == then


def test_every_month_between_two_is_wanted() -> None:
    months = Wanted([], date(2026, 11, 1), date(2027, 2, 1)).months
    assert [month.month for month in months] == [11, 12, 1, 2]
    assert all(reports.month_after(one) == next_ for one, next_ in pairwise(months))


def test_an_empty_clinic_has_empty_reports(engine: Engine) -> None:
    with reading(engine) as session:
        nowhere = Wanted(reports.places(session, None), FIRST, LAST)
        assert nowhere.places == []
        compare(session, Small(), nowhere)
        assert reports.therapists(session, nowhere.places) == []
    assert Cells().share is None


def test_the_month_is_that_of_the_clinic(clinic: Clinic, engine: Engine) -> None:
    with reading(engine) as session:
        places = reports.places(session, None)
    evening = datetime(2026, 12, 1, 3, tzinfo=UTC)  # still November in Chicago
    assert reports.this_month(places, evening) == date(2026, 11, 1)
    assert reports.this_month([], evening) == date(2026, 12, 1)


def test_an_account_for_some_locations_finds_no_other(engine: Engine, clinic: Clinic) -> None:
    other = clinic.add_location("Chatham")
    elsewhere = clinic.add_therapist("Ben Brown")
    clinic.add_hours(elsewhere, other)
    clinic.add_therapist("Cy Clark")
    with reading(engine) as session:
        own = reports.places(session, frozenset({other}))
        assert [place.name for place in own] == ["Chatham"]
        assert [person.id for person in reports.therapists(session, own)] == [elsewhere]
        assert reports.require_place(own, other) == own
        with pytest.raises(NotFound):
            reports.require_place(own, 1)
        assert reports.places(session, frozenset()) == []


def test_what_the_clinic_did_is_reported(engine: Engine, clinic: Clinic, clock: FixedClock) -> None:
    first, last = clinic.offers()[0], clinic.offers()[-1]
    clinic.book(str(first.slot))
    gone = clinic.book(str(last.slot))
    clinic.cancel(gone.token)
    with reading(engine) as session:
        wanted = Wanted(reports.places(session, None), date(2026, 11, 1), date(2027, 3, 1))
        counts = reports.together(reports.visits(session, wanted, now=clock.now()))
        cells = reports.by(reports.utilization(session, wanted), lambda where: where.location_id)[1]
        assert reports.together(reports.cancellations(session, wanted)).popitem()[0][1] is Canceller.PATIENT
        assert cells.planned == len(session.scalars(select(Slot.starts_at)).all())
        fates = reports.together(reports.reminders(session, wanted))
    assert sum(counts.values()) == 2
    assert cells.taken == 4
    assert {fate.fate for fate in fates} <= {"owed", "suppressed"}


def test_reports_ask_as_often_at_any_size(engine: Engine, clinic: Clinic, clock: FixedClock, keys: Keyring) -> None:
    def asked() -> int:
        with statements(engine) as seen, reading(engine) as session:
            at = reports.places(session, None)
            reports.therapists(session, at)
            wanted = Wanted(at, date(2026, 11, 1), date(2027, 3, 1))
            reports.utilization(session, wanted)
            reports.visits(session, wanted, now=clock.now())
            reports.leads(session, wanted)
            reports.cancellations(session, wanted)
            reports.reminders(session, wanted)
        return len(seen)

    small = asked()
    for name, zone in (("Denver", "America/Denver"), ("Phoenix", "America/Phoenix")):
        clinic.add_hours(clinic.add_therapist(name), clinic.add_location(name, zone))
    for offer in clinic.offers()[:60:6]:
        clinic.book(str(offer.slot))
    assert asked() == small == 7
    with transaction(engine) as session:
        assert session.scalars(select(Appointment)).all()
