"""A plan of care: what is proposed is the best that can be booked; what is missing is explained; one booking."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.delivery import Delivery
from scheduler.errors import Invalid, Protected, SlotTaken
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
    SeriesVisit,
    Slot,
    Therapist,
)
from scheduler.services import availability, booking, letters, series, slots, time_away
from scheduler.services.audit import Actor
from scheduler.services.availability import Bookable, Offer, SlotName
from scheduler.services.booking import BookSeries, Repeatable, SeriesRefused, Visit
from scheduler.services.reasons import Reason
from scheduler.services.series import Plan, Proposed, Unplaced, chosen, day_of, minutes_off
from scheduler.services.time_away import ClosureDetails, OffDetails
from scheduler.timeline import DAY, first_instant, zone_of
from tests.clinic import HOUR, Clinic
from tests.server import at_once
from tests.services.test_queries import statements
from tests.test_delivery import PlainWriter, Post

DESK = Actor("account:7", "192.0.2.1")
CHICAGO, NEW_YORK = "America/Chicago", "America/New_York"
MONDAY = date(2026, 11, 30)
TEN = 10 * 60
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


# --- choosing, over rows alone


def offer(day: date, minute: int, zone: str = CHICAGO) -> Offer:
    starts_at = first_instant(day, minute, zone_of(zone))
    return Offer(SlotName(1, 1 if zone == CHICAGO else 2, starts_at), starts_at + HOUR, "", zone, "", 1)


def plan_of(**changes: Any) -> Plan:  # noqa: ANN401 fields of Plan
    return replace(Plan(1, 1, None, MONDAY, weeks=2, times_a_week=2, minute=TEN), **changes)


def full_days(first: date, weeks: int) -> list[Offer]:
    """Every quarter hour from 8 to 17 on weekdays."""
    dates = [first + number * DAY for number in range(weeks * 7)]
    return [offer(day, minute) for day in dates if day.weekday() < 5 for minute in range(480, 1020, 15)]


def walls(found: dict[date, tuple[Offer, ...]]) -> list[str]:
    local = (one.slot.starts_at.astimezone(zone_of(one.time_zone)) for week in found.values() for one in week)
    return [f"{one:%a %d %H:%M}" for one in local]


def test_an_empty_calendar_gives_the_wished_time_with_days_between() -> None:
    assert walls(chosen(plan_of(), full_days(MONDAY, 2))) == [
        "Mon 30 10:00", "Thu 03 10:00", "Mon 07 10:00", "Thu 10 10:00",
    ]  # fmt: skip


def test_wished_weekdays_are_kept() -> None:
    found = chosen(plan_of(weekdays=frozenset({1, 2})), full_days(MONDAY, 2))
    assert walls(found) == ["Tue 01 10:00", "Wed 02 10:00", "Tue 08 10:00", "Wed 09 10:00"]


def test_a_day_with_a_visit_of_the_patient_is_left_out() -> None:
    found = chosen(plan_of(weeks=1), full_days(MONDAY, 1), {MONDAY})
    assert walls(found) == ["Tue 01 10:00", "Fri 04 10:00"]


def test_five_a_week_are_one_on_each_weekday() -> None:
    assert [len(week) for week in chosen(plan_of(times_a_week=5), full_days(MONDAY, 2)).values()] == [5, 5]


def test_a_week_without_the_therapist_is_left_empty_and_the_next_is_not() -> None:
    found = chosen(plan_of(weeks=3), full_days(MONDAY, 1) + full_days(MONDAY + 14 * DAY, 1))
    assert [len(week) for week in found.values()] == [2, 0, 2]


def test_an_evening_and_the_morning_after_are_not_two_days() -> None:
    late, early = offer(MONDAY, 22 * 60), offer(MONDAY + DAY, 7 * 60)
    assert chosen(plan_of(weeks=1), [late, early]) == {MONDAY: (early,)}


def test_the_wished_time_is_that_of_the_wall_when_the_clocks_change() -> None:
    before = date(2027, 3, 8)
    found = chosen(plan_of(first=before), full_days(before, 2))
    starts = [one.slot.starts_at for week in found.values() for one in week]
    assert [one.astimezone(zone_of(CHICAGO)).hour for one in starts] == [10] * 4
    assert [one.hour for one in starts] == [16, 16, 15, 15]


def test_a_time_that_the_clock_skips_is_proposed_as_near_as_there_is_one() -> None:
    sunday = date(2027, 3, 14)
    found = chosen(plan_of(first=sunday, weeks=1, times_a_week=1, minute=150), [offer(sunday, 90), offer(sunday, 195)])
    assert walls(found) == ["Sun 14 03:15"]


dates = st.integers(0, 20).map(lambda number: date(2027, 3, 1) + number * DAY)  # the clocks change amid them
offers = st.lists(
    st.builds(offer, dates, st.integers(0, 95).map(lambda n: n * 15), st.sampled_from([CHICAGO, NEW_YORK])), max_size=30
)
plans = st.builds(
    Plan,
    st.just(1),
    st.just(1),
    st.none(),
    st.just(date(2027, 3, 1)),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(0, 95).map(lambda n: n * 15),
    st.frozensets(st.integers(0, 6)),
)


def subsets(starts: list[Offer]) -> Iterable[list[Offer]]:
    for mask in range(2 ** len(starts)):
        yield [one for number, one in enumerate(starts) if mask >> number & 1]


def require_best(plan: Plan, starts: list[Offer], busy: frozenset[date]) -> None:
    """Recount by brute force: every subset of the nearest start of each day."""
    last: list[Offer] = []
    found = chosen(plan, starts, busy)
    assert list(found) == [plan.first + week * 7 * DAY for week in range(plan.weeks)]
    for week, got in found.items():
        nearest = []
        for number in range(7):
            day = week + number * DAY
            of_day = [one for one in starts if day_of(one) == day]
            if of_day and day not in busy and (not plan.weekdays or day.weekday() in plan.weekdays):
                of_day.sort(key=lambda one: (minutes_off(plan, one), one.slot.starts_at, one.slot.location_id))
                nearest.append(of_day[0])
        assert all(one in nearest for one in got)
        possible = [
            some for some in subsets(nearest)
            if len(some) <= plan.times_a_week
            and all(b.slot.starts_at - a.slot.starts_at >= 12 * HOUR for a, b in pairwise([*last[-1:], *some]))
        ]  # fmt: skip
        worth = [_worth(plan, some, last[-1:]) for some in possible]
        assert _worth(plan, list(got), last[-1:]) == max(worth)
        last += got
    assert len({day_of(one) for one in last}) == len(last)


def _worth(plan: Plan, some: list[Offer], before: list[Offer]) -> tuple[int, int, int, int]:
    those = [day_of(one).toordinal() for one in [*before, *some]]
    own = [day_of(one).toordinal() for one in some]
    spread = min([b - a for a, b in pairwise(own)] + [7 - own[-1] + own[0]]) if own else 0
    neighbours = [b for a, b in pairwise(those) if b == a + 1]
    return len(some), -len(neighbours), -sum(minutes_off(plan, one) for one in some), spread


@given(plans, offers, st.frozensets(dates, max_size=3))
@hypothesis_settings(max_examples=60)
def test_no_choice_is_better_than_the_one_proposed(plan: Plan, starts: list[Offer], busy: frozenset[date]) -> None:
    require_best(plan, starts, busy)


@pytest.mark.drill
@given(plans, offers, st.frozensets(dates, max_size=3))
@hypothesis_settings(max_examples=5000)
def test_no_choice_is_better_than_the_one_proposed_at_length(
    plan: Plan, starts: list[Offer], busy: frozenset[date]
) -> None:
    require_best(plan, starts, busy)


# --- proposing, from the calendar


@pytest.fixture
def patient(clinic: Clinic) -> UUID:
    details = booking.PatientDetails("Pat Doe", "pat@example.com", None, None, "en", True, False)
    with transaction(clinic.engine) as session:
        known = booking._new_patient(details, clinic.clock.now())
        session.add(known)
        return known.id


def wished(clinic: Clinic, kind: str = "Follow-up", **changes: Any) -> Plan:  # noqa: ANN401 fields of Plan
    return replace(plan_of(appointment_type_id=clinic.kinds[kind], weeks=6), **changes)


def propose(clinic: Clinic, plan: Plan, patient: UUID) -> Proposed:
    with reading(clinic.engine) as session:
        return series.propose(session, plan, patient, None, now=clinic.clock.now())


def request(plan: Plan, proposed: Proposed, patient: UUID, **changes: Any) -> BookSeries:  # noqa: ANN401 its fields
    ids = tuple(str(one.start.slot) for one in proposed.visits)
    repeatable = Repeatable(uuid4().hex, uuid4().hex)
    wanted = BookSeries(ids, plan.appointment_type_id, patient, Needling.OPEN, "shoulder", repeatable)
    return replace(wanted, **changes)


def book(clinic: Clinic, wanted: BookSeries) -> list[Visit]:
    with transaction(clinic.engine) as session:
        return booking.book_series(session, wanted, by=DESK, keys=clinic.keys, now=clinic.clock.now())


def count(session: Session, table: type[Any]) -> int:
    return session.execute(select(func.count()).select_from(table)).scalar_one()


def why(proposed: Proposed) -> dict[int, set[Reason | Unplaced]]:
    """What is said of the days of each week that misses something, by the number of visits missing in all."""
    return {number: set(gap.why.values()) for number, gap in enumerate(proposed.gaps)}


def test_twice_a_week_for_six_weeks_is_proposed_and_booked(clinic: Clinic, patient: UUID) -> None:
    plan = wished(clinic)
    proposed = propose(clinic, plan, patient)
    assert (len(proposed.visits), proposed.gaps) == (12, ())
    assert all(one.start in one.of_day for one in proposed.visits)
    visits = book(clinic, request(plan, proposed, patient))
    assert [one.appointment.starts_at for one in visits] == [one.start.slot.starts_at for one in proposed.visits]
    assert clinic.violations() == {}
    with reading(clinic.engine) as session:
        booked = session.scalars(select(AuditEvent.actor).where(AuditEvent.action == "appointment.booked")).all()
        assert booked == [DESK.name] * 12
        assert set(session.scalars(select(SeriesVisit.first_id))) == {visits[0].appointment.id}
        for one in visits:
            assert booking.view(session, one.token, keys=clinic.keys).appointment.id == one.appointment.id
        reminders = select(OutboxMessage.appointment_id).where(OutboxMessage.kind == Kind.REMINDER)
        assert set(session.scalars(reminders)) == {one.appointment.id for one in visits}


def test_every_proposal_is_the_nearest_that_search_has_of_its_day(clinic: Clinic, patient: UUID) -> None:
    plan = wished(clinic, weeks=3, times_a_week=3)
    for minute in (9 * 60, TEN, 11 * 60):  # what is nearest is taken here and there
        for week in range(3):
            slot = SlotName(1, 1, first_instant(MONDAY + (week * 8) * DAY, minute, zone_of(CHICAGO)))
            if (MONDAY + (week * 8) * DAY).weekday() < 5:
                clinic.book(str(slot))
    proposed = propose(clinic, plan, patient)
    assert len(proposed.visits) == 9
    for one in proposed.visits:
        of_day = clinic.offers("Follow-up", from_=day_of(one.start), to=day_of(one.start) + DAY, by_staff=True)
        assert list(one.of_day) == of_day
        assert minutes_off(plan, one.start) == min(minutes_off(plan, other) for other in of_day)
    assert {minutes_off(plan, one.start) for one in proposed.visits} > {0}
    book(clinic, request(plan, proposed, patient))
    assert clinic.violations() == {}


def test_a_patient_who_has_a_visit_gets_no_second_on_its_day(clinic: Clinic, patient: UUID) -> None:
    plan = wished(clinic, weeks=1, times_a_week=5)
    book(clinic, request(plan, propose(clinic, wished(clinic, weeks=1, times_a_week=1), patient), patient))
    again = propose(clinic, plan, patient)
    assert len(again.visits) == 4
    assert (again.gaps[0].missing, dict(again.gaps[0].why)[MONDAY]) == (1, Unplaced.HAS_VISIT)


def test_each_week_that_misses_something_says_why(clinic: Clinic, patient: UUID) -> None:
    """A week of time off, a closed one, one that is full, one that no licence covers, and one beyond the plan."""
    last_licensed = MONDAY + 27 * DAY
    with transaction(clinic.engine) as session:
        now = clinic.clock.now()
        off = OffDetails(MONDAY, 0, MONDAY + 6 * DAY, 24 * 60)
        time_away.give(session, 1, off, agreed=None, by=DESK, now=now)
        closed = ClosureDetails(MONDAY + 7 * DAY, 0, MONDAY + 13 * DAY, 24 * 60, "Floor")
        time_away.close(session, [1], closed, agreed=None, by=DESK, now=now)
        session.execute(update(License).values(valid_until=last_licensed))
    clinic.plan()
    for number in range(14, 19):
        for hour in range(8, 17):
            slot = SlotName(1, 1, first_instant(MONDAY + number * DAY, hour * 60, zone_of(CHICAGO)))
            clinic.book(str(slot))
    proposed = propose(clinic, wished(clinic, weeks=5), patient)
    hours = Reason.OUTSIDE_HOURS  # of Saturday and Sunday
    assert why(proposed) == {
        0: {Reason.THERAPIST_OFF, hours},
        1: {Reason.CLOSED_THEN, hours},
        2: {Reason.TAKEN, hours},
        3: {Reason.NOT_LICENSED, hours},
    }
    assert [gap.missing for gap in proposed.gaps] == [2] * 4
    assert {one.start.slot.starts_at.date() for one in proposed.visits} <= {MONDAY + n * DAY for n in range(21, 28)}


def test_a_plan_beyond_the_calendar_says_so(clinic: Clinic, patient: UUID) -> None:
    proposed = propose(clinic, wished(clinic, first=MONDAY + 98 * DAY, weeks=1), patient)
    assert why(proposed) == {0: {Reason.NOT_PLANNED, Reason.OUTSIDE_HOURS}}


def test_times_kept_back_are_told_as_such(clinic: Clinic, patient: UUID) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(Slot).values(protected=True, fit_open=0))
    assert why(propose(clinic, wished(clinic, weeks=1), patient))[0] == {Reason.PROTECTED, Reason.OUTSIDE_HOURS}


@on_sqlite
def test_a_day_that_is_over_is_too_soon(clinic: Clinic, patient: UUID) -> None:
    proposed = propose(clinic, wished(clinic, first=date(2026, 11, 20), weeks=1, times_a_week=5), patient)
    assert dict(proposed.gaps[0].why)[date(2026, 11, 20)] is Reason.TOO_SOON


@on_sqlite
def test_hours_too_short_for_the_visit_are_told(clinic: Clinic, patient: UUID) -> None:
    clinic.add_hours(1, 1, weekdays=[5], opens=8 * 60, closes=8 * 60 + 30)
    clinic.plan()
    proposed = propose(clinic, wished(clinic, weeks=1, weekdays=frozenset({5}), times_a_week=1), patient)
    assert why(proposed) == {0: {Reason.HOURS_TOO_SHORT}}


@on_sqlite
def test_a_place_that_the_account_does_not_work_for_is_proposed_to_nobody(clinic: Clinic, patient: UUID) -> None:
    with reading(clinic.engine) as session:
        none = series.propose(session, wished(clinic), patient, frozenset({99}), now=clinic.clock.now())
    assert none.visits == ()


def test_a_long_plan_asks_no_more_than_a_short_one(clinic: Clinic, patient: UUID) -> None:
    asked = []
    for first, weeks in ((0, 1), (0, 11), (91, 1), (91, 26)):
        with statements(clinic.engine) as seen:
            propose(clinic, wished(clinic, first=MONDAY + first * DAY, weeks=weeks), patient)
        asked.append(len(seen))
    assert asked[0] >= asked[1] <= 4  # the first search reads the terms, too
    assert asked[2] == asked[3] <= 22


# --- booking, all or none


def test_the_same_key_is_the_same_series(clinic: Clinic, patient: UUID) -> None:
    plan = wished(clinic)
    wanted = request(plan, propose(clinic, plan, patient), patient)
    first, again = book(clinic, wanted), book(clinic, wanted)
    assert [(one.appointment.id, one.token) for one in again] == [(one.appointment.id, one.token) for one in first]
    with reading(clinic.engine) as session:
        assert (count(session, Appointment), count(session, IdempotencyKey)) == (12, 1)
    with pytest.raises(Invalid):
        book(clinic, replace(wanted, repeatable=replace(wanted.repeatable, body_sha256="other")))


def test_one_time_that_is_gone_books_none_and_is_named(clinic: Clinic, patient: UUID) -> None:
    plan = wished(clinic)
    proposed = propose(clinic, plan, patient)
    wanted = request(plan, proposed, patient)
    gone = wanted.slot_ids[5]
    clinic.book(gone, "Follow-up")
    with pytest.raises(SeriesRefused) as told:
        book(clinic, wanted)
    assert {slot: type(why) for slot, why in told.value.refused.items()} == {gone: SlotTaken}
    with reading(clinic.engine) as session:
        assert (count(session, Appointment), count(session, SeriesVisit)) == (1, 0)
    anew = propose(clinic, plan, patient)
    assert len(book(clinic, request(plan, anew, patient))) == 12
    assert clinic.violations() == {}


def test_a_time_kept_back_meanwhile_books_none(clinic: Clinic, patient: UUID) -> None:
    plan = wished(clinic, weeks=1)
    wanted = request(plan, propose(clinic, plan, patient), patient)
    with transaction(clinic.engine) as session:
        session.execute(update(Slot).values(protected=True, fit_open=0))
    with pytest.raises(SeriesRefused) as told:
        book(clinic, wanted)
    assert {type(why) for why in told.value.refused.values()} == {Protected}


@on_sqlite
def test_times_that_meet_book_none(clinic: Clinic, patient: UUID) -> None:
    first, second = (str(one.slot) for one in clinic.offers("Follow-up", from_=MONDAY)[:2])
    with pytest.raises(SeriesRefused) as told:
        book(clinic, request(wished(clinic), Proposed((), ()), patient, slot_ids=(first, second)))
    assert list(told.value.refused) == [second]
    assert clinic.violations() == {}


@on_sqlite
@pytest.mark.parametrize(
    "ids", [(), ("1-1-1656396",) * 2, ("1-1-1656396", "2-1-1656400"), ("nothing",), tuple("x" * 131)]
)
def test_a_list_that_is_no_series_is_invalid(clinic: Clinic, patient: UUID, ids: tuple[str, ...]) -> None:
    with pytest.raises(Invalid):
        book(clinic, request(wished(clinic), Proposed((), ()), patient, slot_ids=ids))


@on_sqlite
def test_an_unknown_patient_books_none(clinic: Clinic, patient: UUID) -> None:
    plan = wished(clinic, weeks=1)
    with pytest.raises(Invalid, match="patient"):
        book(clinic, request(plan, propose(clinic, plan, patient), uuid4()))


# --- one message of all


@pytest.fixture
def sent(clinic: Clinic) -> Post:
    return Post()


def deliver(clinic: Clinic, post: Post) -> list[str]:
    """What one round sends now."""
    before = len(post.taken)
    Delivery(clinic.engine, clinic.clock, clinic.keys, PlainWriter(), post.connect, timeout_seconds=10).deliver()
    return [parcel.content.decode() for parcel in post.taken[before:]]


def fates(clinic: Clinic) -> list[str]:
    with reading(clinic.engine) as session:
        confirmations = select(OutboxMessage.status).where(OutboxMessage.kind == Kind.CONFIRMATION)
        return sorted(session.scalars(confirmations))


def a_series(clinic: Clinic, patient: UUID, weeks: int = 2) -> list[Visit]:
    plan = wished(clinic, weeks=weeks)
    return book(clinic, request(plan, propose(clinic, plan, patient), patient))


def test_one_message_tells_of_all_visits(clinic: Clinic, clock: FixedClock, patient: UUID, sent: Post) -> None:
    visits = a_series(clinic, patient)
    (message,) = deliver(clinic, sent)
    assert all(one.token in message for one in visits)
    clock.at += 16 * timedelta(minutes=1)
    assert deliver(clinic, sent) == []
    assert fates(clinic) == [Fate.SENT] + [Fate.SUPPRESSED] * 3
    assert clinic.violations() == {}


def test_when_the_first_is_canceled_at_once_the_next_tells_of_the_others(
    clinic: Clinic, clock: FixedClock, patient: UUID, sent: Post
) -> None:
    first, *others = a_series(clinic, patient)
    clinic.cancel(first.token)
    (cancellation,) = deliver(clinic, sent)
    assert "cancellation" in cancellation
    clock.at += 16 * timedelta(minutes=1)
    (message,) = deliver(clinic, sent)
    assert [one.token in message for one in (first, *others)] == [False, True, True, True]
    assert clinic.violations() == {}


def test_while_nothing_can_be_sent_all_stay_owed_and_then_one_goes(
    clinic: Clinic, clock: FixedClock, patient: UUID, sent: Post
) -> None:
    a_series(clinic, patient)
    clock.at += HOUR
    assert len(deliver(clinic, sent)) == 1
    assert fates(clinic) == [Fate.SENT] + [Fate.SUPPRESSED] * 3


@on_sqlite
def test_a_series_of_which_one_is_left_is_told_as_one(clinic: Clinic, patient: UUID) -> None:
    first, *others = a_series(clinic, patient, weeks=1)
    for one in others:
        clinic.cancel(one.token)
    with reading(clinic.engine) as session:
        wanted = select(OutboxMessage.id).where(
            OutboxMessage.appointment_id == first.appointment.id, OutboxMessage.kind == Kind.CONFIRMATION
        )
        found = letters.current(session, session.scalars(wanted).one(), keys=clinic.keys, now=clinic.clock.now())
    assert isinstance(found, letters.Letter)
    assert (found.visit_id, found.series) == (first.appointment.id, ())


# --- races


def race(clinic: Clinic, wanted: list[BookSeries]) -> list[str]:
    """Book each series at the same moment; what each of them got."""

    def act(place: int, together: Barrier) -> str:
        together.wait()
        try:
            book(clinic, wanted[place])
        except (SeriesRefused, SlotTaken):
            return "refused"
        return "booked"

    return sorted(at_once(len(wanted), act))


def rivals(clinic: Clinic, patient: UUID) -> list[BookSeries]:
    """Lists that each have one time of another: of neighbours only one can be booked."""
    times = [str(one.slot) for one in clinic.offers("Follow-up", from_=MONDAY)[::3][:5]]
    return [
        request(wished(clinic), Proposed((), ()), patient, slot_ids=(times[number], times[number + 1]))
        for number in range(4)
    ]


def test_of_series_that_want_one_time_one_is_booked_whole_and_the_other_not_at_all(
    clinic: Clinic, patient: UUID
) -> None:
    won = race(clinic, rivals(clinic, patient)).count("booked")
    assert won in {1, 2}
    with reading(clinic.engine) as session:
        assert count(session, Appointment) == count(session, SeriesVisit) == 2 * won
    assert clinic.violations() == {}


def test_the_race_is_real_without_the_guards(clinic: Clinic, patient: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lock, the look, and the count of cells, every series is booked and none is whole."""
    wanted = rivals(clinic, patient)

    def trust(session: Session, slot_id: str, kind_id: int, **_more: object) -> Bookable:
        name = SlotName.parse(slot_id)
        return Bookable(
            name,
            session.get_one(AppointmentType, kind_id),
            session.get_one(ClinicPolicy, 1),
            session.get_one(Location, name.location_id),
            session.get_one(Therapist, name.therapist_id),
        )

    monkeypatch.setattr(availability, "require_bookable", trust)
    monkeypatch.setattr(slots, "lock", lambda _session, _ids: None)
    monkeypatch.setattr(slots, "claim", lambda _session, _appointment, **_release: None)
    assert race(clinic, wanted) == ["booked"] * 4
    assert clinic.violations()["visits that overlap another visit of the same therapist"] == 3


def test_a_patient_and_a_series_never_share_a_time(clinic: Clinic, patient: UUID) -> None:
    plan = wished(clinic, weeks=1)
    wanted = request(plan, propose(clinic, plan, patient), patient)

    def act(place: int, together: Barrier) -> bool:
        together.wait()
        try:
            book(clinic, wanted) if place else clinic.book(wanted.slot_ids[1], "Follow-up")
        except (SeriesRefused, SlotTaken):
            return False
        return True

    assert sum(at_once(2, act)) == 1
    with reading(clinic.engine) as session:
        assert count(session, Appointment) in {1, 2}
        assert count(session, Patient) <= 2
    assert clinic.violations() == {}


def test_moments_are_utc() -> None:
    assert offer(MONDAY, TEN).slot.starts_at == datetime(2026, 11, 30, 16, tzinfo=UTC)
