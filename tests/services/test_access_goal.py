"""The access goal: its figures beside a recount of all that search lists, its history beside a plain list."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from apiflask import APIFlask
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, select

from config import Settings
from scheduler import cli
from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import ConstraintViolated, Invalid
from scheduler.keys import Keyring
from scheduler.models import AccessDay, AccessSample, AppointmentType
from scheduler.services import access_goal, availability
from scheduler.services.access_goal import Access, Figures, attainment, figures
from scheduler.services.availability import Find, Offer
from scheduler.timeline import first_instant, zone_of
from scheduler.web import shapes
from tests.clinic import KINDS, LONG_AGO, Clinic, at
from tests.conftest import MONDAY_MORNING
from tests.server import at_once
from tests.services.test_queries import statements
from tests.services.test_state_machine import empty

QUARTER = timedelta(minutes=15)
DAY = timedelta(days=1)
NOON = at("2027-03-14T12:00:00+00:00")
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
bounded = hypothesis_settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


def measure(clinic: Clinic, kind: str | None = None) -> Access:
    with reading(clinic.engine) as session:
        return access_goal.measure(
            session, now=clinic.clock.now(), appointment_type_id=clinic.kinds[kind] if kind else None
        )


# --- the figures of a list of starts


def counted(starts: list[datetime], now: datetime, goal_hours: int) -> Figures:
    """The same by plain counting, whatever the order; two at one moment are two."""
    first = third = None
    for start in starts:
        sooner = sum(other < start for other in starts)
        same = sum(other == start for other in starts)
        first = start if sooner == 0 else first
        third = start if sooner <= 2 < sooner + same else third
    hours = [None if s is None else round((s - now).total_seconds() / 3600, 2) for s in (first, third)]
    return Figures(first, hours[0], hours[1], within_goal=hours[0] is not None and hours[0] <= goal_hours)


seconds = st.integers(0, 100 * 3600)


@given(after=st.lists(seconds, max_size=8), goal=st.integers(1, 100))
@example(after=[48 * 3600], goal=48)
@example(after=[48 * 3600 + 17], goal=48)  # shown as 48.00, so it counts as 48
@example(after=[48 * 3600 + 19], goal=48)
@example(after=[900, 900, 900], goal=1)
@example(after=[900, 900, 1800, 1800], goal=1)
@bounded
def test_figures_are_what_plain_counting_gives(after: list[int], goal: int) -> None:
    starts = [NOON + timedelta(seconds=s) for s in after]
    assert figures(sorted(starts), now=NOON, goal_hours=goal) == counted(starts, NOON, goal)


@pytest.mark.parametrize(
    ("after", "shown", "within"),
    [
        (timedelta(), 0.0, True),
        (timedelta(hours=48), 48.0, True),
        (timedelta(hours=48, seconds=17), 48.0, True),
        (timedelta(hours=48, seconds=19), 48.01, False),
        (timedelta(minutes=20), 0.33, True),
    ],
)
def test_the_verdict_is_what_the_hours_as_shown_say(after: timedelta, shown: float, *, within: bool) -> None:
    found = figures([NOON + after], now=NOON, goal_hours=48)
    assert (found.next_available_hours, found.within_goal) == (shown, within)


def test_the_third_is_the_third_opening_and_two_at_one_moment_are_two() -> None:
    soon, later = NOON + timedelta(hours=1), NOON + timedelta(hours=5)
    found = [figures(starts, now=NOON, goal_hours=48) for starts in ([soon] * 2, [soon] * 3, [soon, soon, later])]
    assert [one.third_next_available_hours for one in found] == [None, 1.0, 5.0]


def test_where_nothing_can_be_booked_the_goal_is_not_kept() -> None:
    assert figures([], now=NOON, goal_hours=10**6) == Figures(None, None, None, within_goal=False)


def test_hours_are_hours_of_the_clock_that_runs_on_when_clocks_change() -> None:
    noon = {day: first_instant(date.fromisoformat(day), 12 * 60, zone_of("America/New_York")) for day in DAYS_AROUND}
    hours = [
        figures([noon[day]], now=noon[before], goal_hours=48).next_available_hours
        for before, day in pairwise(DAYS_AROUND)
        if before[:7] == day[:7]
    ]
    assert hours == [23.0, 24.0, 25.0, 24.0]


DAYS_AROUND = ("2027-03-13", "2027-03-14", "2027-03-15", "2027-11-06", "2027-11-07", "2027-11-08")


def test_a_share_needs_a_measurement_and_a_week_of_history() -> None:
    assert attainment(0, 0, old_enough=True) is None
    assert attainment(4, 4, old_enough=False) is None
    assert attainment(4, 3, old_enough=True) == 0.75
    assert attainment(4, 0, old_enough=True) == 0.0


# --- the goal as it stands, beside a recount of all that search lists

PLACES = (
    ("Albany", "America/New_York", "NY"),
    ("Springfield", "America/Chicago", "IL"),
    ("Mesa", "America/Phoenix", "AZ"),
    ("Denver", "America/Denver", "CO"),
)
BEGINNINGS = (  # around the days on which clocks change, and a plain week
    *(datetime(2027, 3, day, 9, 59, 59, 999_999, tzinfo=UTC) for day in (11, 13, 14)),
    *(datetime(2027, 11, day, 20, 0, 7, tzinfo=UTC) for day in (4, 6, 7)),
    datetime(2026, 11, 23, 15, 0, tzinfo=UTC),
)
HORIZON_DAYS = 4


class Shift(NamedTuple):
    therapist: int
    place: int
    weekdays: tuple[int, ...]
    opens: int
    closes: int


class Licence(NamedTuple):
    therapist: int
    kind: str
    place: int
    days_left: int


@dataclass(frozen=True)
class Plan:
    """A small clinic; therapists and places by number, from 0."""

    now: datetime
    places: int
    therapists: int
    shifts: tuple[Shift, ...]
    licences: tuple[Licence, ...]
    bookings: tuple[int, ...]
    buffer_minutes: int
    notice_minutes: int
    goal_hours: int


def a_plan(seed: int) -> Plan:
    """Any small clinic, some of it closed, unlicensed or full."""
    chance = Random(seed)
    places, therapists = chance.randint(1, 4), chance.randint(1, 4)
    openings = (0, 2 * 60, 8 * 60, 13 * 60, 22 * 60)
    shifts = (
        (
            someone,
            chance.randrange(places),
            tuple(chance.sample(range(7), chance.randint(1, 7))),
            chance.choice(openings),
        )
        for someone in range(therapists)
        for _ in range(chance.randint(0, 2))
    )
    licences = (
        Licence(someone, kind, place, chance.choice((-1, 1, 2, 400, 400, 400)))
        for someone in range(therapists)
        for place in range(places)
        for kind in ("pt", "dry_needling")
        if chance.random() < 0.9
    )
    return Plan(
        now=chance.choice(BEGINNINGS) + timedelta(minutes=chance.choice((0, 1, 7, 45, 300))),
        places=places,
        therapists=therapists,
        shifts=tuple(Shift(*shift, shift[-1] + chance.choice((60, 180, 480))) for shift in shifts),
        licences=tuple(licences),
        bookings=tuple(chance.randrange(40) for _ in range(chance.choice((0, 3, 8)))),
        buffer_minutes=chance.choice((0, 15)),
        notice_minutes=chance.choice((0, 60, 60 * 26)),
        goal_hours=chance.choice((1, 12, 24, 48, 72)),
    )


def build(clinic: Clinic, clock: FixedClock, plan: Plan) -> None:
    """Make the clinic of a plan in an emptied database, with its visits."""
    build_unbooked(clinic, clock, plan)
    book_all(clinic, plan)


def build_unbooked(clinic: Clinic, clock: FixedClock, plan: Plan) -> None:
    empty(clinic.engine)
    clock.at = plan.now
    clinic.policy(
        access_goal_hours=plan.goal_hours,
        booking_notice_minutes=plan.notice_minutes,
        booking_horizon_days=HORIZON_DAYS,
    )
    clinic.add_kinds(buffer_minutes=plan.buffer_minutes)
    places = [clinic.add_location(*place) for place in PLACES[: plan.places]]
    people = [clinic.add_therapist(f"Therapist {n}", kinds=()) for n in range(plan.therapists)]
    with transaction(clinic.engine) as session:
        for licence in plan.licences:
            until = (plan.now + licence.days_left * DAY).date()
            state = PLACES[licence.place][2]
            session.add(Clinic.license(people[licence.therapist], licence.kind, state, LONG_AGO, until))
    for shift in plan.shifts:
        clinic.add_hours(people[shift.therapist], places[shift.place], shift.weekdays, shift.opens, shift.closes)
    clinic.plan()


def book_all(clinic: Clinic, plan: Plan) -> None:
    """What the soonest offers are at each booking is booked."""
    for place in plan.bookings:
        offers = clinic.offers(limit=place + 1)
        visit = clinic.book(str(offers[-1].slot)) if offers else None
        if visit and place % 4 == 0 and visit.appointment.starts_at > plan.now:
            clinic.cancel(visit.token)


def listed(clinic: Clinic, kind: str, location_id: int | None) -> list[Offer]:
    """All that search lists, page by page to the end."""
    find, offers = Find(clinic.kinds[kind], location_id=location_id, limit=60), list[Offer]()
    with reading(clinic.engine) as session:
        while True:
            page = availability.search(session, find, now=clinic.clock.now())
            offers += page.offers
            if page.next_cursor is None:
                return offers
            after = availability.parse_cursor(page.next_cursor)
            find = Find(clinic.kinds[kind], location_id=location_id, limit=60, after=after)


def assert_measured_as_recounted(clinic: Clinic, plan: Plan, kind: str) -> Access:
    measured = measure(clinic, kind)
    second = plan.now.replace(microsecond=0)
    assert (measured.measured_at, measured.goal_hours, measured.target) == (second, plan.goal_hours, 0.9)
    assert [place.location.name for place in measured.locations] == sorted(name for name, *_ in PLACES[: plan.places])
    for standing, location_id in [
        (measured.overall, None),
        *((place, place.location.id) for place in measured.locations),
    ]:
        offers = listed(clinic, kind, location_id)
        assert standing.figures == counted([o.slot.starts_at for o in offers], second, plan.goal_hours)
        if offers:
            assert standing.time_zone == offers[0].time_zone
    return measured


CLINICS = [pytest.param(range(25), id="small"), pytest.param(range(25, 400), id="full", marks=pytest.mark.drill)]


@pytest.mark.parametrize("seeds", CLINICS)
def test_figures_equal_a_recount_over_any_clinic(
    engine: Engine, clock: FixedClock, keys: Keyring, seeds: range
) -> None:
    seen = set()
    for seed in seeds:
        plan, clinic = a_plan(seed), Clinic(engine, clock, keys)
        build(clinic, clock, plan)
        for kind, *_ in KINDS:
            measured = assert_measured_as_recounted(clinic, plan, kind)
            found = [place.figures for place in measured.locations]
            seen |= {(one.within_goal, one.next_available_at is None) for one in found}
    assert seen == {(True, False), (False, False), (False, True)}  # so that the clinics were not all alike


def test_a_visit_booked_or_cancelled_counts_at_once(clinic: Clinic) -> None:
    first, second = (measure(clinic).overall.figures for _ in range(2))
    assert first == second
    token = clinic.book(str(clinic.offers()[0].slot)).token
    assert measure(clinic).overall.figures.next_available_hours == 2.0
    clinic.cancel(token)
    assert measure(clinic).overall.figures == first


@on_sqlite
def test_the_first_new_patient_type_is_measured_unless_another_is_named(clinic: Clinic) -> None:
    assert shapes.access(measure(clinic)) == shapes.access(measure(clinic, "Evaluation"))
    assert measure(clinic, "Needling").appointment_type_name == "Needling"
    with transaction(clinic.engine) as session:
        session.get_one(AppointmentType, clinic.kinds["Evaluation"]).position = 99
        session.get_one(AppointmentType, clinic.kinds["Needling"]).new_patient = True
    assert shapes.access(measure(clinic)) == shapes.access(measure(clinic, "Needling"))


@on_sqlite
def test_an_unknown_type_is_refused_and_so_is_none_where_no_type_is_for_new_patients(clinic: Clinic) -> None:
    with reading(clinic.engine) as session, pytest.raises(Invalid) as unknown:
        access_goal.measure(session, now=clinic.clock.now(), appointment_type_id=99)
    with transaction(clinic.engine) as session:
        session.get_one(AppointmentType, clinic.kinds["Evaluation"]).new_patient = False
    with pytest.raises(Invalid) as missing:
        measure(clinic)
    clinic.record_access()
    assert (unknown.value.field, missing.value.field) == ("appointment_type", "appointment_type")
    assert measure(clinic, "Evaluation").overall.figures.within_goal
    assert samples(clinic) == []


@on_sqlite
def test_a_clinic_without_locations_keeps_no_goal(engine: Engine, clock: FixedClock, keys: Keyring) -> None:
    clinic = Clinic(engine, clock, keys)
    clinic.add_kinds()
    clinic.record_access()
    measured = measure(clinic)
    assert (measured.overall.figures, measured.locations) == (Figures(None, None, None, within_goal=False), [])
    assert (measured.overall.time_zone, measured.overall.attainment_28d) == (None, None)


def test_what_is_measured_without_history_runs_two_statements_fewer(clinic: Clinic) -> None:
    counts = []
    with reading(clinic.engine) as session:
        access_goal.measure(session, now=clinic.clock.now())  # so that the terms are known
    for history in (True, False):
        with statements(clinic.engine) as seen, reading(clinic.engine) as session:
            access_goal.measure(session, now=clinic.clock.now(), history=history)
        counts.append(len(seen))
    assert counts == [4, 2]


# --- the history


def samples(clinic: Clinic) -> list[AccessSample]:
    with reading(clinic.engine) as session:
        in_order = select(AccessSample).order_by(AccessSample.quarter, AccessSample.location_id)
        return list(session.scalars(in_order.order_by(AccessSample.appointment_type_id)))


@pytest.fixture
def two_places(clinic: Clinic) -> Clinic:
    """Ana in Chicago, planned ahead; nobody yet in Mesa."""
    clinic.add_location("Mesa", "America/Phoenix", "AZ")
    return clinic


def test_a_tick_keeps_how_the_goal_stands_at_each_location(two_places: Clinic, clock: FixedClock) -> None:
    clock.at += timedelta(minutes=7, seconds=12.5)
    measured = {place.location.id: place.figures for place in measure(two_places).locations}
    two_places.record_access()
    kept = samples(two_places)
    assert {row.quarter for row in kept} == {MONDAY_MORNING}
    assert {row.location_id: row.next_available_hours for row in kept} == {1: 1.13, 2: None}
    for row in kept:
        found = measured[row.location_id]
        assert (row.next_available_hours, row.third_next_available_hours) == (
            found.next_available_hours,
            found.third_next_available_hours,
        )
        assert (row.goal_hours, row.within_goal, row.appointment_type_id) == (48, found.within_goal, 1)


def test_every_new_patient_type_has_a_history_of_its_own(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.get_one(AppointmentType, clinic.kinds["Needling"]).new_patient = True
    clinic.record_access()
    assert [row.appointment_type_id for row in samples(clinic)] == [
        clinic.kinds["Evaluation"],
        clinic.kinds["Needling"],
    ]


def test_the_first_tick_of_a_quarter_hour_stands(clinic: Clinic, clock: FixedClock) -> None:
    clinic.record_access()
    first = [row.next_available_hours for row in samples(clinic)]
    for minute in (1, 7, 14):
        clock.at = MONDAY_MORNING + timedelta(minutes=minute, seconds=59)
        with statements(clinic.engine) as seen:
            clinic.record_access()
        assert [sql.split()[0] for sql, _ in seen] == ["SELECT"] * 2
    assert [row.next_available_hours for row in samples(clinic)] == first
    clock.at += timedelta(seconds=1)
    clinic.record_access()
    assert [row.quarter for row in samples(clinic)] == [MONDAY_MORNING, MONDAY_MORNING + QUARTER]


def race(clinic: Clinic, workers: int) -> list[str]:
    """Let workers tick at one moment; say what became of each."""

    def one(_place: int, together: Callable[[], object]) -> str:
        together()
        try:
            clinic.record_access()
        except ConstraintViolated as refused:
            return refused.name
        return "done"

    return at_once(workers, lambda place, barrier: one(place, barrier.wait))


def test_of_workers_that_tick_at_once_one_writes(two_places: Clinic, clock: FixedClock) -> None:
    for quarters in range(1, 6):
        assert race(two_places, 4) == ["done"] * 4
        assert len(samples(two_places)) == 2 * quarters
        clock.at += QUARTER


def test_the_key_decides_who_was_first_not_the_look_before(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_goal, "_is_recorded", lambda *_: False)
    clinic.record_access()
    first = [row.next_available_hours for row in samples(clinic)]
    clinic.book(str(clinic.offers()[0].slot))
    assert race(clinic, 4) == ["done"] * 4
    assert [row.next_available_hours for row in samples(clinic)] == first


def test_the_race_is_real_without_the_guard(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_goal, "_is_recorded", lambda *_: False)
    plain = SimpleNamespace(on_conflict_do_nothing=lambda: insert(AccessSample))
    monkeypatch.setattr(access_goal, "insert_into", lambda *_: plain)
    assert sorted(race(clinic, 4)) == ["done"] + ["pk_access_sample"] * 3


def test_a_worker_measures_what_it_has_planned_and_forgets_what_is_old(
    app: APIFlask, settings: Settings, clinic: Clinic, clock: FixedClock, keys: Keyring
) -> None:
    clinic.add_hours(clinic.add_therapist("Ben Brown"), clinic.add_location("Chatham"), range(7), 0, 24 * 60)
    worker = cli.at_work_on(app, settings, clinic.engine, clock, keys)
    worker.set_up()
    assert [(row.quarter, row.next_available_hours) for row in samples(clinic)] == [(MONDAY_MORNING, 1.0)] * 2
    clock.at += 400 * DAY + QUARTER
    worker.set_up()
    assert [row.quarter for row in samples(clinic)] == [clock.at] * 2
    with reading(clinic.engine) as session:
        kept = session.scalars(select(AccessDay)).all()
    assert {(row.location_id, row.day, row.measured) for row in kept} == {(n, MONDAY_MORNING.date(), 1) for n in (1, 2)}


def test_there_is_no_share_before_seven_days_of_history(clinic: Clinic, clock: FixedClock) -> None:
    def share() -> list[float | None]:
        measured = measure(clinic)
        return [measured.overall.attainment_28d, *(place.attainment_28d for place in measured.locations)]

    assert share() == [None, None]
    clinic.record_access()
    clock.at = MONDAY_MORNING + 7 * DAY - timedelta(seconds=1)
    clinic.record_access()
    assert share() == [None, None]
    clock.at = MONDAY_MORNING + 7 * DAY
    assert share() == [1.0, 1.0]
    clinic.add_location("Mesa", "America/Phoenix", "AZ")  # a new place has to wait for its own week
    clinic.record_access()
    assert share() == [1.0, None, 1.0]


def test_a_later_goal_does_not_rewrite_what_was_kept_before(clinic: Clinic, clock: FixedClock) -> None:
    clinic.policy(booking_notice_minutes=120)
    for days, goal in ((0, 48), (1, 1), (2, 2), (8, 48)):
        clock.at = MONDAY_MORNING + days * DAY
        clinic.policy(access_goal_hours=goal)
        clinic.plan()
        clinic.record_access()
    clinic.policy(access_goal_hours=1)
    kept = [(row.next_available_hours, row.goal_hours, row.within_goal) for row in samples(clinic)]
    assert kept == [(2.0, 48, True), (2.0, 1, False), (2.0, 2, True), (2.0, 48, True)]
    measured = measure(clinic)
    assert (measured.overall.figures.within_goal, measured.overall.attainment_28d) == (False, 0.75)


def test_a_time_without_a_worker_counts_neither_for_nor_against(clinic: Clinic, clock: FixedClock) -> None:
    for days in (0, 1, 20):
        clock.at = MONDAY_MORNING + days * DAY
        clinic.policy(access_goal_hours=48 if days else 1, booking_notice_minutes=90)
        clinic.plan()
        clinic.record_access()
    assert measure(clinic).overall.attainment_28d == 2 / 3


def test_what_was_measured_later_does_not_count_for_an_earlier_moment(clinic: Clinic, clock: FixedClock) -> None:
    for days in (0, 8, 9):
        clock.at = MONDAY_MORNING + days * DAY
        clinic.policy(access_goal_hours=1 if days == 9 else 48, booking_notice_minutes=90)
        clinic.plan()
        clinic.record_access()
    clock.at -= DAY
    assert measure(clinic).overall.attainment_28d == 1.0


@pytest.mark.parametrize(("day", "quarters"), [("2027-03-14", 92), ("2027-11-07", 100), ("2027-11-08", 96)])
@on_sqlite
def test_a_day_on_which_clocks_change_has_as_many_samples_as_quarter_hours(
    engine: Engine, clock: FixedClock, keys: Keyring, day: str, quarters: int
) -> None:
    clinic, zone = Clinic(engine, clock, keys), zone_of("America/New_York")
    clinic.add_kinds()
    clinic.policy(booking_notice_minutes=0, booking_horizon_days=2)
    clinic.add_hours(clinic.add_therapist(state="NY"), clinic.add_location(*PLACES[0]), range(7), 0, 24 * 60)
    clock.at = first_instant(date.fromisoformat(day), 0, zone)
    midnight = first_instant(date.fromisoformat(day) + DAY, 0, zone)
    clinic.plan()
    while clock.at < midnight:
        clinic.record_access()
        clock.at += timedelta(minutes=5)
    kept = samples(clinic)
    assert len(kept) == quarters
    assert {later.quarter - earlier.quarter for earlier, later in pairwise(kept)} == {QUARTER}
    assert {(row.next_available_hours, row.third_next_available_hours) for row in kept} == {(0.0, 0.5)}


def fill(clinic: Clinic, seed: int) -> list[tuple[int, datetime, bool]]:
    """Store samples of two types and some locations over weeks, with gaps; return those of the first type."""
    chance, rows = Random(seed), []
    newest = MONDAY_MORNING + 40 * DAY
    quarters = [newest - i * QUARTER for i in range(40 * 96)]
    for location_id in (1, 2, 3):
        measured = chance.sample(quarters[: chance.choice((300, 96 * 8, 96 * 40))], 250)
        rows += [(1, location_id, quarter, chance.random() < 0.8) for quarter in measured]
    rows += [(2, 1, quarter, True) for quarter in quarters]
    with transaction(clinic.engine) as session:
        session.execute(
            insert(AccessSample),
            [
                {
                    "appointment_type_id": kind_id,
                    "location_id": location_id,
                    "quarter": quarter,
                    "next_available_hours": 48 if kept else 48.25,
                    "goal_hours": 48,
                    "within_goal": kept,
                }
                for kind_id, location_id, quarter, kept in rows
            ],
        )
    return [row[1:] for row in rows if row[0] == 1]


def share(rows: list[tuple[int, datetime, bool]], now: datetime) -> float | None:
    """By plain counting: the rows of one location, or of all."""
    past = [row for row in rows if row[1] <= now]
    measured = {quarter for _, quarter, _ in past if quarter > now - 28 * DAY}
    kept = {quarter for _, quarter, good in past if good and quarter > now - 28 * DAY}
    if not measured or min(quarter for _, quarter, _ in past) > now - 7 * DAY:
        return None
    return len(kept) / len(measured)


def test_shares_equal_a_recount_over_any_history(engine: Engine, clock: FixedClock, keys: Keyring) -> None:
    seen = set()
    for seed in range(12):
        empty(engine)
        clinic = Clinic(engine, clock, keys)
        clinic.add_kinds()
        for place in PLACES:
            clinic.add_location(*place)
        rows = fill(clinic, seed)
        for days in (3, 11.5, 28, 33.3, 40, 44, 70):
            clock.at = MONDAY_MORNING + timedelta(days=days)
            measured = measure(clinic)
            shares = {place.location.id: place.attainment_28d for place in measured.locations}
            assert shares == {n: share([row for row in rows if row[0] == n], clock.at) for n in (1, 2, 3, 4)}
            assert measured.overall.attainment_28d == share(rows, clock.at)
            seen |= {value is None for value in shares.values()}
    assert seen == {True, False}


def test_samples_are_forgotten_after_four_hundred_days(clinic: Clinic, clock: FixedClock) -> None:
    for days in (0, 1):
        clock.at = MONDAY_MORNING + timedelta(days=days)
        clinic.record_access()
    for past, left in ((400, 2), (401, 1), (402, 0)):
        clock.at = MONDAY_MORNING + timedelta(days=past)
        with transaction(clinic.engine) as session:
            access_goal.forget_old_samples(session, now=clock.now())
        assert len(samples(clinic)) == left
