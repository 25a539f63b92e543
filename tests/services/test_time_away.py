"""Closures and time off: what leaves the calendar, what comes back, and who is told of visits that are booked then."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.models import Appointment, AuditEvent, Closure, Slot, TimeOff, TimeOffStatus
from scheduler.services import booking, edits, time_away
from scheduler.services.audit import Actor
from scheduler.services.booking import Visit
from scheduler.services.consequences import NotAgreed, Why
from scheduler.services.time_away import ClosureDetails, Decided, OffDetails
from scheduler.timeline import CELL, DAY, Stretch, instants_of, without, zone_of
from tests.clinic import Clinic

ADMIN = Actor("account:1", "192.0.2.1")
MONDAY = date(2026, 11, 23)
TUESDAY = MONDAY + DAY
CHRISTMAS = ClosureDetails(date(2026, 12, 24), 12 * 60, date(2026, 12, 25), 24 * 60, "Christmas")
CHICAGO = zone_of("America/Chicago")


def free(clinic: Clinic, zone: str = "America/Chicago") -> set[datetime]:
    """The free quarter hours, on the wall."""
    with reading(clinic.engine) as session:
        starts = session.scalars(select(Slot.starts_at).where(Slot.appointment_id.is_(None)))
        return {start.astimezone(zone_of(zone)).replace(tzinfo=None) for start in starts}


def on(starts: Iterable[datetime], day: date) -> list[str]:
    """Where the free stretches of a day begin and end."""
    own = sorted(start for start in starts if start.date() == day)
    edges = [one for one in own if one - timedelta(minutes=15) not in own]
    ends = [one + timedelta(minutes=15) for one in own if one + timedelta(minutes=15) not in own]
    return [f"{begins:%H:%M}–{until:%H:%M}" for begins, until in zip(edges, ends, strict=True)]


def close(clinic: Clinic, details: ClosureDetails = CHRISTMAS, agreed: str | None = None, places: Any = (1,)) -> int:  # noqa: ANN401
    with transaction(clinic.engine) as session:
        closures = time_away.close(session, places, details, agreed=agreed, by=ADMIN, now=clinic.clock.now())
        return closures[0].id


def give(clinic: Clinic, details: OffDetails, agreed: str | None = None, therapist: int = 1) -> int:
    with transaction(clinic.engine) as session:
        return time_away.give(session, therapist, details, agreed=agreed, by=ADMIN, now=clinic.clock.now()).id


def ask(clinic: Clinic, details: OffDetails, therapist: int = 1) -> int:
    with transaction(clinic.engine) as session:
        return time_away.ask(session, therapist, details, by=ADMIN, now=clinic.clock.now()).id


def booked(clinic: Clinic, day: date) -> Visit:
    return clinic.book(str(clinic.offers("Follow-up", from_=day)[0].slot), "Follow-up")


def audited(engine: Engine) -> list[str]:
    with reading(engine) as session:
        return list(session.scalars(select(AuditEvent.action).where(AuditEvent.actor == ADMIN.name)))


def test_a_closure_takes_its_times_and_gives_them_back(clinic: Clinic, engine: Engine) -> None:
    before = free(clinic)
    closure = close(clinic)
    after = free(clinic)
    assert on(after, date(2026, 12, 23)) == ["08:00–17:00"]
    assert on(after, date(2026, 12, 24)) == ["08:00–12:00"]
    assert on(after, date(2026, 12, 25)) == []
    assert on(after, date(2026, 12, 28)) == ["08:00–17:00"]
    assert clinic.violations() == {}
    with transaction(engine) as session:
        time_away.open_again(session, closure, by=ADMIN, now=clinic.clock.now())
    assert free(clinic) == before
    assert clinic.violations() == {}
    assert audited(engine) == ["closure.added", "closure.removed"]


def test_one_entry_is_enough_for_three_weeks(clinic: Clinic) -> None:
    give(clinic, OffDetails(date(2026, 12, 7), 0, date(2026, 12, 27), 24 * 60))
    assert not [start for start in free(clinic) if date(2026, 12, 7) <= start.date() <= date(2026, 12, 27)]
    assert on(free(clinic), date(2026, 12, 28)) == ["08:00–17:00"]
    assert clinic.violations() == {}


def test_who_is_off_is_off_everywhere_by_the_clock_that_hangs_there(clinic: Clinic) -> None:
    denver = clinic.add_location("Denver", "America/Denver", "IL")
    clinic.add_hours(1, denver, weekdays=[5], opens=8 * 60, closes=17 * 60)
    clinic.plan()
    saturday = date(2026, 12, 5)
    give(clinic, OffDetails(saturday, 10 * 60, saturday, 12 * 60))
    assert on(free(clinic, "America/Denver"), saturday) == ["08:00–10:00", "12:00–17:00"]
    close(clinic, replace(CHRISTMAS, starts_on=saturday, ends_on=saturday, starts_minute=13 * 60), places=[denver])
    assert on(free(clinic, "America/Denver"), saturday) == ["08:00–10:00", "12:00–13:00"]
    assert on(free(clinic), saturday - DAY) == ["08:00–17:00"]
    assert clinic.violations() == {}


def test_visits_then_are_told_before_anything_is_stored_and_stay_booked(clinic: Clinic, engine: Engine) -> None:
    visit = booked(clinic, date(2026, 12, 24))
    with pytest.raises(NotAgreed) as refused:
        close(clinic, replace(CHRISTMAS, starts_minute=0))
    assert [(hit.visit_id, hit.why) for hit in refused.value.hits] == [(visit.appointment.id, Why.CLOSED_THEN)]
    with reading(engine) as session:
        assert session.scalars(select(Closure)).all() == []
    close(clinic, replace(CHRISTMAS, starts_minute=0), refused.value.agreement)
    other = booked(clinic, date(2026, 12, 23))
    with pytest.raises(NotAgreed) as again:  # the closure is the graver reason, and known: only the other visit is new
        give(clinic, OffDetails(date(2026, 12, 23), 0, date(2026, 12, 25), 24 * 60))
    assert [(hit.visit_id, hit.why) for hit in again.value.hits] == [(other.appointment.id, Why.THERAPIST_OFF)]
    with reading(engine) as session:
        assert session.get_one(Appointment, visit.appointment.id).status == "booked"
    assert clinic.violations() == {}


def test_a_time_freed_while_closed_is_not_on_offer(clinic: Clinic, engine: Engine) -> None:
    visit = booked(clinic, date(2026, 12, 24))
    with pytest.raises(NotAgreed) as refused:
        close(clinic, replace(CHRISTMAS, starts_minute=0))
    close(clinic, replace(CHRISTMAS, starts_minute=0), refused.value.agreement)
    with transaction(engine) as session:
        appointment = session.get_one(Appointment, visit.appointment.id)
        booking.call_off(session, appointment, None, by=ADMIN, keys=clinic.keys, now=clinic.clock.now())
    assert on(free(clinic), date(2026, 12, 24)) == []
    assert clinic.violations() == {}


def test_what_is_asked_for_changes_nothing_until_it_is_approved(clinic: Clinic, engine: Engine) -> None:
    before, now = free(clinic), clinic.clock.now()
    with transaction(engine) as session:
        asked = time_away.ask(session, 1, OffDetails(TUESDAY, 0, TUESDAY, 24 * 60, "A wedding"), by=ADMIN, now=now)
    assert free(clinic) == before
    with transaction(engine) as session:
        time_away.decide(session, asked.id, TimeOffStatus.APPROVED, agreed=None, by=ADMIN, now=now)
    assert on(free(clinic), TUESDAY) == []
    with pytest.raises(Decided), transaction(engine) as session:
        time_away.decide(session, asked.id, TimeOffStatus.DECLINED, agreed=None, by=ADMIN, now=now)
    with transaction(engine) as session:
        time_away.withdraw(session, asked.id, by=ADMIN, now=now)
    assert free(clinic) == before
    assert clinic.violations() == {}
    assert audited(engine) == ["time_off.added", "time_off.approved", "time_off.withdrawn"]


def test_what_has_begun_can_only_end(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    details = replace(CHRISTMAS, starts_on=MONDAY, ends_on=MONDAY + 3 * DAY, starts_minute=0)
    closure = close(clinic, details)
    clock.at += DAY

    def change(**changes: Any) -> None:  # noqa: ANN401
        with transaction(engine) as session:
            seal = edits.seal_of(details)
            new = replace(details, **changes)
            time_away.change_closure(session, closure, new, seal=seal, agreed=None, by=ADMIN, now=clock.now())

    with pytest.raises(Invalid, match="begun"):
        change(starts_on=TUESDAY)
    with pytest.raises(Invalid, match="passed"):
        change(ends_on=MONDAY)
    with pytest.raises(Invalid, match="begun"), transaction(engine) as session:
        time_away.open_again(session, closure, by=ADMIN, now=clock.now())
    change(ends_on=TUESDAY)
    assert on(free(clinic), MONDAY + 2 * DAY) == ["08:00–17:00"]
    assert clinic.violations() == {}


def test_who_is_back_early_can_be_booked_again(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    """Time off that has begun ends sooner or later; where it began, and what was never approved, stays."""
    off = give(clinic, OffDetails(date(2026, 11, 24), 0, date(2026, 12, 11), 24 * 60))
    asked = ask(clinic, OffDetails(date(2026, 12, 28), 0, date(2026, 12, 28), 24 * 60))
    clock.at += 7 * DAY
    assert on(free(clinic), date(2026, 12, 3)) == []

    def change(number: int, **new: Any) -> None:  # noqa: ANN401
        with transaction(engine) as session:
            before = edits.read_off(OffDetails, session.get_one(TimeOff, number))
            after, seal = replace(before, **new), edits.seal_of(before)
            time_away.change_time_off(session, number, after, seal=seal, agreed=None, by=ADMIN, now=clock.at)

    change(off, ends_on=date(2026, 12, 2))
    assert on(free(clinic), date(2026, 12, 2)) == []
    assert on(free(clinic), date(2026, 12, 3)) == ["08:00–17:00"]
    for number, new in ((off, {"starts_on": date(2026, 11, 25)}), (asked, {"ends_on": date(2026, 12, 29)})):
        with pytest.raises(Invalid):
            change(number, **new)
    assert audited(engine)[-1] == "time_off.changed"
    assert clinic.violations() == {}


def test_a_number_is_never_given_again(clinic: Clinic, engine: Engine) -> None:
    """A page that is open still names that row or none: not what somebody else asked for since."""
    first = ask(clinic, OffDetails(TUESDAY, 0, TUESDAY, 24 * 60))
    with transaction(engine) as session:
        time_away.withdraw(session, first, by=ADMIN, now=clinic.clock.now())
    assert ask(clinic, OffDetails(TUESDAY, 0, TUESDAY, 24 * 60)) > first
    closed = close(clinic)
    with transaction(engine) as session:
        time_away.open_again(session, closed, by=ADMIN, now=clinic.clock.now())
    assert close(clinic) > closed


def test_time_off_is_over_and_has_begun_where_the_clock_is_furthest_behind(clinic: Clinic, engine: Engine) -> None:
    """It is nine in Chicago and eight in Denver."""
    denver = clinic.add_location("Denver", "America/Denver", "IL")
    clinic.add_hours(1, denver, weekdays=[5], opens=8 * 60, closes=17 * 60)
    now = clinic.clock.now()
    with transaction(engine) as session:
        time_away.ask(session, 1, OffDetails(MONDAY, 0, MONDAY, 8 * 60 + 15), by=ADMIN, now=now)
    with pytest.raises(Invalid, match="passed"), transaction(engine) as session:
        time_away.ask(session, 1, OffDetails(MONDAY, 0, MONDAY, 8 * 60), by=ADMIN, now=now)
    ahead, begun = (give(clinic, OffDetails(MONDAY, opens, TUESDAY, 24 * 60)) for opens in (8 * 60 + 15, 8 * 60))
    with transaction(engine) as session:
        time_away.withdraw(session, ahead, by=ADMIN, now=now)
    with pytest.raises(Invalid, match="begun"), transaction(engine) as session:
        time_away.withdraw(session, begun, by=ADMIN, now=now)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"ends_on": date(2026, 12, 23)}, "ends_on"),
        ({"ends_on": date(2026, 12, 24), "ends_minute": 12 * 60}, "ends_on"),
        ({"ends_on": date(2028, 1, 1)}, "ends_on"),
        ({"starts_on": date(2026, 11, 1), "ends_on": date(2026, 11, 22)}, "ends_on"),
    ],
)
def test_a_range_out_of_order_or_over_is_refused(clinic: Clinic, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        close(clinic, replace(CHRISTMAS, **changes))
    assert refused.value.field == field


def test_holidays_are_those_of_the_state_with_the_days_they_are_observed_on() -> None:
    year = dict(time_away.holidays_of("IL", date(2027, 1, 1), date(2027, 12, 31)))
    assert year[date(2027, 2, 12)] == "Lincoln's Birthday"
    assert year[date(2027, 7, 5)] == "Independence Day (observed)"  # the fourth is a Sunday
    assert date(2027, 2, 12) not in dict(time_away.holidays_of("AZ", date(2027, 1, 1), date(2027, 12, 31)))
    assert time_away.holidays_of("GU", date(2027, 7, 21), date(2027, 7, 21)) != []  # Liberation Day


@dataclass(frozen=True)
class OnTheWall:
    starts_on: date
    starts_minute: int
    ends_on: date
    ends_minute: int


@st.composite
def away(draw: st.DrawFn) -> OnTheWall:
    """A range of the two weeks around both changes of the clocks in the world's odder zones."""
    first = date(2027, 3, 8) + draw(st.integers(0, 30)) * DAY
    opens, closes = draw(st.integers(0, 95)) * 15, draw(st.integers(1, 96)) * 15
    last = first + draw(st.integers(0, 3)) * DAY
    return OnTheWall(first, opens, last if last > first or closes > opens else last + DAY, closes)


@given(
    st.lists(away(), max_size=4),
    st.sampled_from(["America/Chicago", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "Asia/Gaza"]),
)
def test_what_is_left_is_what_a_walk_by_quarter_hours_leaves(ranges: list[OnTheWall], name: str) -> None:
    """The oracle asks each quarter hour of six weeks what the clock on the wall says when it begins."""
    zone = zone_of(name)
    start, end = datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 4, 15, tzinfo=UTC)
    whole = Stretch(1, 1, start, end, True)
    left = [
        piece.starts_at + number * CELL
        for piece in without(whole, [instants_of(one, zone) for one in ranges])
        for number in range(piece.cells)
    ]
    shown = [
        (shown_at(one.starts_on, one.starts_minute, zone), shown_at(one.ends_on, one.ends_minute, zone))
        for one in ranges
    ]
    cells = (start + number * CELL for number in range((end - start) // CELL))
    assert left == [cell for cell in cells if not any(begins <= cell < ends for begins, ends in shown)]


def shown_at(day: date, minute: int, zone: ZoneInfo) -> datetime:
    """When a clock there shows this time, or a later one for the first time, walking by quarter hours."""
    wanted = datetime.combine(day, time()) + timedelta(minutes=minute)
    walked = datetime.combine(day, time(), UTC) - DAY
    while walked.astimezone(zone).replace(tzinfo=None) < wanted:
        walked += CELL
    return walked
