"""Times kept back for short notice: how many, which, and when they can be booked."""

import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotBookable, Protected, SlotTaken
from scheduler.models import (
    AppointmentType,
    AppointmentTypeLocation,
    AppointmentTypeTherapist,
    AuditEvent,
    ClinicPolicy,
    Location,
    ProtectionLevel,
    Slot,
    Therapist,
)
from scheduler.services import access_goal, availability, booking, desk, edits, outlook, protection
from scheduler.services.availability import Bookable, SlotName
from scheduler.services.booking import BookForPatient
from scheduler.services.edits import ChangedMeanwhile
from scheduler.services.holds import Keeper
from scheduler.services.protection import Cell, ProtectionDetails
from scheduler.services.reasons import Question, Reason, why
from scheduler.timeline import CELL, DAY, first_instant, local_date
from tests.clinic import HOUR, Clinic, rows
from tests.keeping import ADMIN, CHICAGO, GOAL, INSTANT, Key, by_day, first_kept, kept, level_of, pin
from tests.server import at_once
from tests.services.test_queries import LOCATIONS, THERAPISTS, grow, plans, statements, walks_whole

# --- how many


def test_a_location_without_history_goes_by_the_stated_default(clinic: Clinic) -> None:
    """Nine visits a day: 15 % of them, Poisson, ask for three; never more than a quarter of the day is kept."""
    clinic.protect()
    row = level_of(clinic)
    assert (row.level, row.suggested, row.days, row.since) == (2, 3, 0, date(2026, 11, 23))
    assert (row.least, row.most, row.pinned) == (protection.LEAST, protection.MOST, False)


def test_each_day_that_is_not_being_released_keeps_back_as_many_visits(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    days = by_day(kept(clinic.engine))
    release = clock.now() + GOAL
    assert set(days.values()) == {2 * 4}
    assert all(first_instant(day, 0, CHICAGO) > release for day in days)
    with reading(clinic.engine) as session:
        planned = {local_date(at, CHICAGO) for at in session.scalars(select(Slot.starts_at))}
    assert days.keys() == {day for day in planned if first_instant(day, 0, CHICAGO) > release}
    assert clinic.violations() == {}


def test_doing_it_again_changes_nothing(clinic: Clinic) -> None:
    assert clinic.protect() > 0
    before = kept(clinic.engine)
    assert (clinic.protect(), kept(clinic.engine)) == (0, before)


def test_the_rule_goes_by_what_was_wanted_at_short_notice(clinic: Clinic, clock: FixedClock) -> None:
    """One visit a day is booked on its own day, two on every fifth; what is booked long ahead is no such demand."""
    began = clock.now()
    for weekday in range(26):
        clock.at = began + (weekday + weekday // 5 * 2) * DAY
        clinic.plan()
        for _ in range(2 if weekday % 5 == 0 else 1):
            clinic.book(str(clinic.offers(limit=1)[0].slot))
        clinic.book(str(clinic.offers(from_=clock.now() + 3 * DAY, limit=1)[0].slot))
    clock.at += HOUR * 15
    clinic.protect()
    row = level_of(clinic)
    assert (row.suggested, row.days) == (2, 25)  # the day of the first booking itself says nothing


def test_a_day_that_is_decided_stays_so_until_the_next(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    with transaction(clinic.engine) as session:
        session.execute(update(ClinicPolicy).values(access_target=0.5))
    clock.at += 14 * HOUR  # still Monday in Chicago
    clinic.protect()
    assert level_of(clinic).suggested == 3
    clock.at += 2 * HOUR
    clinic.protect()
    row = level_of(clinic)
    assert (row.suggested, row.level, row.since) == (1, 1, date(2026, 11, 24))
    with reading(clinic.engine) as session:
        told = [event.detail for event in rows(session, AuditEvent) if event.action == "protection_level.decided"]
    assert told == [{"level": [0, 2]}, {"level": [2, 1]}]


def test_no_small_clinic_is_closed_by_it(clinic: Clinic) -> None:
    """Whoever has three visits a day keeps none back, whatever is pinned."""
    clinic.add_hours(clinic.add_therapist("Ben", kinds=("pt",)), 1, range(5), 9 * 60, 12 * 60)
    other = clinic.add_location("Chatham")
    clinic.add_hours(clinic.add_therapist("Eva"), other, range(5), 9 * 60, 12 * 60)
    clinic.plan()
    pin(clinic, 50, other)
    pin(clinic, 50)
    with reading(clinic.engine) as session:
        cells = session.scalars(select(Slot).where(Slot.protected)).all()
    assert {cell.location_id for cell in cells} == {1}
    assert set(by_day(kept(clinic.engine)).values()) == {3 * 4}  # twelve visits a day have room there


# --- changing it


def test_a_number_can_be_pinned_and_unpinned(clinic: Clinic, clock: FixedClock) -> None:
    pin(clinic, 1)
    row = level_of(clinic)
    assert (row.level, row.pinned_by, row.pinned_at, row.suggested) == (1, "account:1", clock.now(), 3)
    one = kept(clinic.engine)
    assert set(by_day(one).values()) == {4}
    pin(clinic, 2)
    assert one < kept(clinic.engine)  # what is kept back stays where it is
    pin(clinic, 1)
    assert set(by_day(kept(clinic.engine)).values()) == {4}
    clock.at += DAY
    clinic.protect()
    assert level_of(clinic).level == 1
    pin(clinic, None)
    row = level_of(clinic)
    assert (row.level, row.pinned_by, row.pinned_at) == (2, None, None)
    pin(clinic, 0)
    with reading(clinic.engine) as session:
        noted = [event for event in rows(session, AuditEvent) if event.entity == "protection_level"]
    assert {(event.action, event.actor) for event in noted} == {("protection_level.changed", ADMIN.name)}
    changes = [event.detail for event in noted]
    assert changes == [{"pinned": pair} for pair in ([None, 1], [1, 2], [2, 1], [1, None], [None, 0])]
    assert clinic.violations() == {}


def test_floor_and_ceiling_bind_the_rule(clinic: Clinic) -> None:
    pin(clinic, None, most=1)
    assert level_of(clinic).level == 1
    pin(clinic, None, least=2, most=9)
    assert level_of(clinic).level == 2
    assert level_of(clinic).suggested == 3


def test_what_cannot_be_is_refused(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    seal = edits.seal_of(ProtectionDetails(0, 4, None))
    with pytest.raises(Invalid, match="least"), transaction(clinic.engine) as session:
        protection.change(session, 1, ProtectionDetails(5, 4, None), seal=seal, by=ADMIN, now=clock.now())
    pin(clinic, 1)
    with pytest.raises(ChangedMeanwhile), transaction(clinic.engine) as session:
        protection.change(session, 1, ProtectionDetails(0, 3, None), seal=seal, by=ADMIN, now=clock.now())


# --- when they can be booked


def attempts(clinic: Clinic, slot: SlotName) -> dict[str, Any]:
    """Every way to a time, by name; each undoes what it did."""

    def for_somebody() -> None:
        request = clinic.request(str(slot))
        given = BookForPatient(
            request.slot_id, request.appointment_type_id, request.patient, request.needling, None, request.repeatable
        )
        with transaction(clinic.engine) as session:
            found = booking.book_for(session, given, by=ADMIN, keys=clinic.keys, now=clinic.clock.now())
            booking.call_off(session, found.appointment, None, by=ADMIN, keys=clinic.keys, now=clinic.clock.now())

    def hold_and_book() -> None:
        held = clinic.hold(str(slot))
        clinic.cancel(clinic.book(str(slot), keeper=Keeper(held.token)).token)

    return {
        "book": lambda: clinic.cancel(clinic.book(str(slot)).token),
        "hold": lambda: clinic.release(clinic.hold(str(slot)).token),
        "hold and book": hold_and_book,
        "at the desk": for_somebody,
    }


def test_a_kept_time_can_be_booked_at_48_hours_sharp_and_not_before(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    slot = first_kept(clinic)
    for clock.at, wanted in ((slot.starts_at - GOAL - INSTANT, Protected), (slot.starts_at - GOAL, None)):
        offered = slot in [offer.slot for offer in clinic.offers(from_=slot.starts_at, limit=1)]
        assert offered == (wanted is None)
        assert (slot in [one.slot for one in clinic.offers(from_=slot.starts_at, by_staff=True)]) == offered
        for name, attempt in attempts(clinic, slot).items():
            try:
                attempt()
            except NotBookable as refusal:
                assert type(refusal) is wanted, name  # noqa: PT017 which refusal it is depends on the moment
            else:
                assert wanted is None, name
    assert clinic.violations() == {}


def test_a_visit_that_would_run_into_a_kept_time_waits_with_it(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    first = first_kept(clinic)
    taken = kept(clinic.engine)
    near = SlotName(first.therapist_id, 1, first.starts_at - 2 * CELL)
    assert (near.therapist_id, near.starts_at) not in taken
    with pytest.raises(Protected):
        clinic.book(str(near))
    clinic.book(str(near), "Needling")  # half an hour ends before it
    with reading(clinic.engine) as session:
        assert why(session, Question(first, clinic.kinds["Evaluation"]), now=clock.now()).reason is Reason.PROTECTED


def test_search_offers_exactly_what_needs_nothing_kept_or_is_released(clinic: Clinic, clock: FixedClock) -> None:
    before = {kind: {offer.slot for offer in clinic.offers(kind, limit=5000)} for kind in clinic.kinds}
    clinic.protect()
    cells = kept(clinic.engine)
    for later in (timedelta(), 2 * DAY + 90 * timedelta(minutes=1)):
        clock.at += later
        for kind, needed in (("Evaluation", 4), ("Follow-up", 3), ("Needling", 2)):
            offered = {offer.slot for offer in clinic.offers(kind, limit=5000)}
            expected = {
                slot
                for slot in before[kind]
                if clock.at + HOUR <= slot.starts_at
                and (
                    slot.starts_at <= clock.at + GOAL
                    or not any((slot.therapist_id, slot.starts_at + n * CELL) in cells for n in range(needed))
                )
            }
            assert offered & before[kind] == expected


def test_why_says_from_when_on_a_kept_time_can_be_booked(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    slot = first_kept(clinic)
    with reading(clinic.engine) as session:
        verdict = why(session, Question(slot, clinic.kinds["Evaluation"], by_staff=True), now=clock.now())
    assert (verdict.reason, verdict.opens_at) == (Reason.PROTECTED, slot.starts_at - GOAL)


def test_the_desk_is_shown_no_free_time_that_is_kept_back(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    slot = first_kept(clinic)

    def free() -> bool:
        with reading(clinic.engine) as session:
            day = local_date(slot.starts_at, CHICAGO)
            times = desk.free_times(session, session.get_one(Location, 1), day, now=clock.now())
        return any(time.starts_at <= slot.starts_at < time.ends_at for time in times)

    assert not free()
    clock.at = slot.starts_at - GOAL
    assert free()


def test_the_goal_s_own_hours_release_them(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    slot = first_kept(clinic)
    assert slot not in [offer.slot for offer in clinic.offers(from_=slot.starts_at, limit=1)]
    clinic.policy(access_goal_hours=24 * 30)
    assert slot in [offer.slot for offer in clinic.offers(from_=slot.starts_at, limit=1)]


def test_the_outlook_leaves_out_what_is_not_released(clinic: Clinic, clock: FixedClock) -> None:
    def visits() -> list[int]:
        with reading(clinic.engine) as session:
            (ahead,) = outlook.ahead(session, clinic.kinds["Evaluation"], now=clock.now())
        return [day.visits for day in ahead.days]

    before = visits()
    clinic.protect()
    monday_to_wednesday, beyond = slice(0, 3), slice(3, 7)
    after = visits()
    assert after[monday_to_wednesday] == before[monday_to_wednesday]
    assert [was - now for was, now in zip(before[beyond], after[beyond], strict=True)] == [2, 2, 0, 0]


def test_the_next_available_counts_a_released_time_and_the_third_none(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    slot = first_kept(clinic)
    clock.at = slot.starts_at - 2 * HOUR
    taken = kept(clinic.engine)
    starts = [offer.slot for offer in clinic.offers()]
    open_ = [
        one.starts_at
        for one in starts
        if not any((one.therapist_id, one.starts_at + n * CELL) in taken for n in range(4))
    ]
    with reading(clinic.engine) as session:
        figures = access_goal.measure(session, now=clock.now()).overall.figures
    assert figures.next_available_at == starts[0].starts_at
    assert figures.next_available_hours == round((starts[0].starts_at - clock.at) / HOUR, 2)
    assert figures.third_next_available_hours == round((open_[2] - clock.at) / HOUR, 2)
    assert open_[2] != starts[2].starts_at


# --- what is never touched


def test_turning_it_on_at_a_booked_out_clinic_touches_no_visit(clinic: Clinic, clock: FixedClock) -> None:
    clinic.policy(booking_horizon_days=6)
    while offers := clinic.offers(limit=1):
        clinic.book(str(offers[0].slot))
    held = select(Slot).where(Slot.appointment_id.is_not(None)).order_by(Slot.therapist_id, Slot.starts_at)

    def taken() -> list[tuple[datetime, UUID | None, int, int, bool]]:
        with reading(clinic.engine) as session:
            return [(c.starts_at, c.appointment_id, c.fit, c.fit_open, c.protected) for c in session.scalars(held)]

    before = taken()
    clinic.protect()
    pin(clinic, 4)
    assert taken() == before
    assert set(by_day(kept(clinic.engine))) & {local_date(start[0], CHICAGO) for start in before} == set()
    assert clinic.violations() == {}


@pytest.mark.parametrize("why_", ["no-kind", "not-theirs", "not-there"])
def test_what_no_visit_of_the_goal_may_have_any_more_is_let_go(clinic: Clinic, clock: FixedClock, why_: str) -> None:
    clinic.add_hours(clinic.add_therapist("Ben Becker"), 1)
    other = clinic.add_location("Chatham")
    clinic.plan()
    clinic.protect()
    before = kept(clinic.engine)
    assert {key[0] for key in before} == {1, 2}
    with transaction(clinic.engine) as session:
        if why_ == "no-kind":
            session.execute(update(AppointmentType).values(new_patient=False))
        elif why_ == "not-theirs":
            session.add(AppointmentTypeTherapist(appointment_type_id=clinic.kinds["Evaluation"], therapist_id=2))
        else:
            session.add(AppointmentTypeLocation(appointment_type_id=clinic.kinds["Evaluation"], location_id=other))
    clinic.protect()
    after = kept(clinic.engine)
    assert {key[0] for key in after} == ({2} if why_ == "not-theirs" else set())
    assert clinic.violations() == {}
    assert clinic.protect() == 0


def test_nothing_is_kept_back_where_it_could_not_be_booked_once_it_is_let_go(clinic: Clinic) -> None:
    clinic.policy(booking_notice_minutes=48 * 60)
    clinic.protect()
    assert kept(clinic.engine) == set()


def test_what_is_taken_at_short_notice_is_not_kept_back_a_second_time(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    slot = first_kept(clinic)
    day = local_date(slot.starts_at, CHICAGO)
    clock.at = slot.starts_at - GOAL
    token = clinic.book(str(slot)).token
    clinic.protect()
    assert by_day(kept(clinic.engine))[day] == 4
    clinic.cancel(token)
    assert by_day(kept(clinic.engine))[day] == 8  # what comes back keeps its mark
    assert slot in [offer.slot for offer in clinic.offers(limit=1, from_=slot.starts_at)]
    assert clinic.violations() == {}


def test_cells_that_hours_make_anew_are_kept_back_soon_after(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    before = kept(clinic.engine)
    with transaction(clinic.engine) as session:
        session.execute(update(Therapist).values(active=False))
    clinic.plan()
    assert kept(clinic.engine) == set()
    with transaction(clinic.engine) as session:
        session.execute(update(Therapist).values(active=True))
    clinic.plan()
    clinic.protect()
    assert kept(clinic.engine) == before
    assert clinic.violations() == {}


# --- races


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Book what was seen open a moment ago, without asking the rules again."""

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


def test_the_claim_alone_keeps_a_time_that_was_just_put_aside(clinic: Clinic, trusting: None) -> None:
    clinic.protect()
    slot = first_kept(clinic)
    with pytest.raises(SlotTaken):
        clinic.book(str(slot))
    assert (slot.therapist_id, slot.starts_at) in kept(clinic.engine)


def test_the_race_is_real_without_the_claim_s_condition(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, trusting: None
) -> None:
    """The worker puts the time aside between a patient's look and their booking; nothing else would refuse it."""
    clinic.protect()
    slot = first_kept(clinic)
    monkeypatch.setattr(availability, "release", lambda _policy, now: now + 1000 * DAY)
    clinic.book(str(slot))
    assert (slot.therapist_id, slot.starts_at) in kept(clinic.engine, free=False) - kept(clinic.engine)


def test_of_a_patient_and_the_worker_one_has_the_time(clinic: Clinic) -> None:
    """Whoever comes second finds it taken, or kept back; nobody has it although it is kept back."""
    clinic.protect()
    for turn in range(6):
        pin(clinic, 0)
        now = clinic.clock.now()
        with transaction(clinic.engine) as session:
            session.execute(update(ProtectionLevel).values(level=2))
        with reading(clinic.engine) as session:
            steps = protection.work(session, now=now)
            day = [one for step in steps for one in step.days][turn]
            kind = session.get_one(AppointmentType, 1)
            cells = session.scalars(select(Slot).order_by(Slot.starts_at)).all()
            of_day = [
                Cell(c.therapist_id, c.starts_at, c.appointment_id is None, c.protected)
                for c in cells
                if local_date(c.starts_at, CHICAGO) == day
            ]
            wanted = SlotName(1, 1, min(at for _, at in protection.chosen(of_day, 1, 2, kind.cells)))

        def somebody(place: int, together: threading.Barrier, wanted: SlotName = wanted, day: date = day) -> str:
            together.wait()
            try:
                if place:
                    with transaction(clinic.engine) as session:
                        protection.keep_back(session, protection.Step(1, (day,)), now=clinic.clock.now())
                    return "worked"
                clinic.book(str(wanted))
            except Protected:
                return "kept"
            return "booked"

        found = at_once(2, somebody)
        aside = (1, wanted.starts_at) in kept(clinic.engine)
        assert sorted(found) == sorted(["worked", "kept" if aside else "booked"])
        assert kept(clinic.engine, free=False) == kept(clinic.engine)
    assert clinic.violations() == {}


# --- which


@dataclass(frozen=True)
class Day:
    """A day at one place: of each therapist, quarter by quarter, whether it is planned, free, and kept back."""

    cells: list[Cell]

    @property
    def free(self) -> set[Key]:
        return {(cell.therapist_id, cell.starts_at) for cell in self.cells if cell.free}

    def keeping(self, wanted: set[Key]) -> "Day":
        return Day([c._replace(protected=c.free and (c.therapist_id, c.starts_at) in wanted) for c in self.cells])


MIDNIGHT = datetime(2026, 11, 30, 6, 0, tzinfo=UTC)
MARKS = st.lists(st.sampled_from("ffffffttp."), min_size=0, max_size=40).map("".join)


@st.composite
def days(draw: st.DrawFn) -> Day:
    """F is free, p kept back, t taken, a point not worked."""
    marks = draw(st.lists(MARKS, min_size=1, max_size=4))
    return Day(
        [
            Cell(therapist, MIDNIGHT + quarter * CELL, mark != "t", mark == "p")
            for therapist, of_day in enumerate(marks, start=1)
            for quarter, mark in enumerate(of_day)
            if mark != "."
        ]
    )


def visits_in(cells: set[Key], needed: int) -> int:
    """How many whole visits fill these cells; every one must be of one."""
    left, visits = sorted(cells), 0
    while left:
        therapist, first = left[0]
        own = [(therapist, first + n * CELL) for n in range(needed)]
        assert left[:needed] == own
        left, visits = left[needed:], visits + 1
    return visits


def room(day: Day, needed: int) -> int:
    cells = {(cell.therapist_id, cell.starts_at) for cell in day.cells}
    return places(cells, needed)


def places(cells: set[Key], needed: int) -> int:
    found, left = 0, sorted(cells, reverse=True)
    while left:
        therapist, first = left.pop()
        own = [(therapist, first + n * CELL) for n in range(1, needed)]
        if left[len(left) - len(own) :] == own[::-1]:
            found, left = found + 1, left[: len(left) - len(own)]
    return found


@settings(max_examples=300, deadline=None, database=None)
@given(days(), st.integers(0, 6), st.integers(1, 5))
def test_what_is_kept_back_is_whole_visits_that_nobody_has(day: Day, level: int, needed: int) -> None:
    wanted = protection.chosen(day.cells, 1, level, needed)
    assert wanted <= day.free
    visits = visits_in(wanted, needed)
    most = min(level, room(day, needed) // protection.ONE_IN)
    assert visits <= most
    assert visits == most or places(day.free - wanted, needed) == 0


@settings(max_examples=300, deadline=None, database=None)
@given(days(), st.integers(0, 6), st.integers(1, 5))
def test_what_is_kept_back_stays_where_it_is(day: Day, level: int, needed: int) -> None:
    wanted = protection.chosen(day.cells, 1, level, needed)
    again = day.keeping(wanted)
    assert protection.chosen(again.cells, 1, level, needed) == wanted
    assert protection.chosen(again.cells, 1, level + 1, needed) >= wanted
    assert protection.chosen(again.cells, 1, max(level - 1, 0), needed) <= wanted


@settings(max_examples=100, deadline=None, database=None)
@given(st.integers(1, 5), st.integers(0, 12), st.integers(1, 4))
def test_what_is_kept_back_is_spread_evenly(therapists: int, level: int, needed: int) -> None:
    cells = [Cell(t, MIDNIGHT + n * CELL, True, False) for t in range(1, therapists + 1) for n in range(needed * 9)]
    wanted = protection.chosen(cells, 1, level, needed)
    counts = [sum(1 for who, _ in wanted if who == t) // needed for t in range(1, therapists + 1)]
    assert sum(counts) == min(level, 9 * therapists // protection.ONE_IN)
    assert max(counts) - min(counts) <= 1


# --- what it costs


def test_a_look_runs_as_many_statements_at_any_size(clinic: Clinic, clock: FixedClock) -> None:
    def look() -> int:
        with statements(clinic.engine) as seen, reading(clinic.engine) as session:
            assert protection.work(session, now=clock.now()) == []
        return len(seen)

    clinic.protect()
    small = look()
    grow(clinic)
    for therapist_id in range(2, THERAPISTS + 1):  # whoever has cells has hours there, which `grow` leaves out
        clinic.add_hours(therapist_id, 1 + therapist_id % LOCATIONS, range(7))
    clinic.protect()
    assert look() == small <= 7


def test_a_look_counts_within_the_index_of_free_cells(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    grow(clinic)
    with statements(clinic.engine) as seen, reading(clinic.engine) as session:
        protection.work(session, now=clock.now())
    (counted,) = [one for one in seen if "fit_open = 0" in one[0]]
    for plan in plans(clinic.engine, counted):
        assert "ix_slot_free_at" in plan, plan
        assert not walks_whole(plan, "slot"), plan
