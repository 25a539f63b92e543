"""Hours on standby give no times until a day of them is opened, and what is booked then stays when it is closed."""

from collections.abc import Callable
from datetime import date

import pytest
from sqlalchemy import Engine, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotFound
from scheduler.models import (
    Appointment,
    Kind,
    LeverUse,
    License,
    OutboxMessage,
    Promise,
    Role,
    StandbyOpening,
    Status,
    WorkingHours,
)
from scheduler.services import hours, standby, time_away
from scheduler.services.consequences import NotAgreed, Why
from scheduler.services.time_away import ClosureDetails, OffDetails
from scheduler.timeline import DAY, DAY_MINUTES
from tests.clinic import HOUR, Clinic, at
from tests.services.test_hours import ADMIN, audited, change, row_of, rows
from tests.web.staff import an_account

SATURDAY = date(2026, 11, 28)
ON_SATURDAYS = 6  # the first number after those of five weekdays


@pytest.fixture
def clinic(clinic: Clinic) -> Clinic:
    """With Saturday from 9 to 12 on standby."""
    clinic.add_hours(1, 1, [5], 9 * 60, 12 * 60, standby=True)
    clinic.plan()
    return clinic


def open_day(clinic: Clinic, day: date = SATURDAY, hours_id: int = ON_SATURDAYS) -> LeverUse:
    with transaction(clinic.engine) as session:
        return standby.open_day(session, hours_id, day, Promise.MISSED, by=ADMIN, now=clinic.clock.now())


def close_day(clinic: Clinic, agreed: str | None = None, day: date = SATURDAY) -> None:
    with transaction(clinic.engine) as session:
        standby.close_day(session, ON_SATURDAYS, day, agreed=agreed, by=ADMIN, now=clinic.clock.now())


def offered(clinic: Clinic, day: date = SATURDAY) -> list[str]:
    """What an evaluation may start at on a day, in Chicago's winter."""
    return [f"{one.slot.starts_at - 6 * HOUR:%H:%M}" for one in clinic.offers(from_=day, to=day + DAY)]


HOURLY = [f"{hour:02}:{quarter:02}" for hour in (9, 10) for quarter in (0, 15, 30, 45)] + ["11:00"]


def test_a_day_on_standby_can_be_booked_when_it_is_opened_and_no_other_day(clinic: Clinic, engine: Engine) -> None:
    assert offered(clinic) == []
    assert clinic.plan().added == 0
    use = open_day(clinic)
    assert offered(clinic) == HOURLY
    assert offered(clinic, SATURDAY + 7 * DAY) == []
    assert (use.cells, use.starts_at, use.ends_at) == (12, at("2026-11-28T15:00+00:00"), at("2026-11-28T18:00+00:00"))
    assert clinic.plan() == type(clinic.plan())()  # the worker finds the calendar as the opening left it
    assert ("working_hours.opened", str(ON_SATURDAYS), {"day": "2026-11-28"}) in audited(engine)
    assert clinic.violations() == {}


def test_opening_twice_is_opening_once(clinic: Clinic, engine: Engine) -> None:
    assert open_day(clinic).id == open_day(clinic).id
    with reading(engine) as session:
        assert len(session.scalars(select(LeverUse)).all()) == len(session.scalars(select(StandbyOpening)).all()) == 1


def test_a_therapist_whose_day_is_opened_by_others_gets_word(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    an_account(engine, clock, Role.ADMIN)  # who opens the day
    ana = an_account(engine, clock, Role.THERAPIST, therapist_id=1)
    open_day(clinic)
    with reading(engine) as session:
        owed = session.execute(select(OutboxMessage.account_id, OutboxMessage.kind, OutboxMessage.about)).all()
    assert owed == [(ana.id, Kind.DAY_CHANGED, "2026-11-28")]


def test_closing_takes_what_is_free_and_lists_what_is_booked(clinic: Clinic, engine: Engine) -> None:
    open_day(clinic)
    visit = clinic.book(str(clinic.offers(from_=SATURDAY)[0].slot)).appointment
    with pytest.raises(NotAgreed) as told:
        close_day(clinic)
    assert [(hit.visit_id, hit.why) for hit in told.value.hits] == [(visit.id, Why.OUTSIDE_HOURS)]
    assert offered(clinic) == HOURLY[4:]
    close_day(clinic, told.value.agreement)
    assert offered(clinic) == []
    with reading(engine) as session:
        assert session.get_one(Appointment, visit.id).status == Status.BOOKED
        assert session.scalars(select(StandbyOpening)).all() == []
        assert session.scalars(select(LeverUse.closed_at)).all() == [clinic.clock.now()]
    assert clinic.violations() == {}
    open_day(clinic)
    assert offered(clinic) == HOURLY[4:]
    with pytest.raises(Invalid):
        close_day(clinic, day=SATURDAY + 7 * DAY)


def closed(clinic: Clinic) -> None:
    details = ClosureDetails(SATURDAY, 0, SATURDAY, DAY_MINUTES, "Snow")
    with transaction(clinic.engine) as session:
        time_away.close(session, [1], details, agreed=None, by=ADMIN, now=clinic.clock.now())


def off(clinic: Clinic) -> None:
    details = OffDetails(SATURDAY, 0, SATURDAY, DAY_MINUTES)
    with transaction(clinic.engine) as session:
        time_away.give(session, 1, details, agreed=None, by=ADMIN, now=clinic.clock.now())


def unlicensed(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(License).values(valid_until=SATURDAY - DAY))
    clinic.plan()


@pytest.mark.parametrize("away", [closed, off, unlicensed])
def test_closures_time_off_and_licences_win_over_what_is_opened(clinic: Clinic, away: Callable[[Clinic], None]) -> None:
    open_day(clinic)
    away(clinic)
    assert offered(clinic) == []
    assert clinic.violations() == {}


@pytest.mark.parametrize("away", [closed, off, unlicensed])
def test_what_would_give_nothing_is_not_opened(clinic: Clinic, engine: Engine, away: Callable[[Clinic], None]) -> None:
    away(clinic)
    with pytest.raises(Invalid):
        open_day(clinic)
    with reading(engine) as session:
        assert session.scalars(select(LeverUse)).all() == []


def test_only_days_of_standby_that_are_ahead_can_be_opened(clinic: Clinic, clock: FixedClock) -> None:
    for day, hours_id in ((SATURDAY + DAY, ON_SATURDAYS), (SATURDAY - 7 * DAY, ON_SATURDAYS), (SATURDAY - DAY, 5)):
        with pytest.raises(Invalid):
            open_day(clinic, day, hours_id)
    with pytest.raises(NotFound):
        open_day(clinic, hours_id=99)
    open_day(clinic)
    clock.at = at("2026-11-28T18:00+00:00")
    with pytest.raises(Invalid):
        close_day(clinic)


def test_other_times_of_standby_keep_the_days_that_are_open(clinic: Clinic) -> None:
    clinic.clock.at += 14 * DAY  # type: ignore[attr-defined] # now they have been worked, as it were
    later = SATURDAY + 21 * DAY
    open_day(clinic, later)
    change(clinic, row_of(clinic, 5), valid_from=later - DAY, closes_minute=13 * 60)
    assert offered(clinic, later)[-1] == "12:00"
    assert offered(clinic, later + 7 * DAY) == []
    with reading(clinic.engine) as session:
        (opening,) = session.scalars(select(StandbyOpening))
        assert opening.working_hours_id == max(shift.id for shift in rows(clinic))
    assert clinic.violations() == {}


@pytest.mark.parametrize("begun", [False, True])
def test_hours_that_are_on_standby_no_more_have_no_opened_days(clinic: Clinic, engine: Engine, begun: bool) -> None:
    """Put on standby again, a day of them is not open before somebody opens it; what was done stays on record."""
    weekday, hours_id, first = (5, ON_SATURDAYS, SATURDAY) if begun else (6, ON_SATURDAYS + 1, SATURDAY + DAY)
    if not begun:
        clinic.add_hours(1, 1, [6], 9 * 60, 12 * 60, standby=True, valid_from=first)
    later = first + 7 * DAY
    for day in (first, later):
        open_day(clinic, day, hours_id)
    change(clinic, row_of(clinic, weekday), valid_from=later - DAY if begun else first, standby=False)
    with reading(engine) as session:
        left = session.scalars(select(StandbyOpening.day)).all()
        assert left == ([first] if begun else [])  # that day is still of the hours that end after it
        assert len(session.scalars(select(LeverUse)).all()) == 2
    assert offered(clinic, later) == HOURLY
    (plain,) = [shift for shift in rows(clinic) if shift.weekday == weekday and not shift.standby]
    change(clinic, plain, valid_from=plain.valid_from, standby=True)
    assert offered(clinic, later) == []
    assert clinic.violations() == {}


def test_hours_become_standby_from_a_day_on_and_can_go_while_a_day_is_open(clinic: Clinic) -> None:
    monday = SATURDAY + 2 * DAY
    change(clinic, row_of(clinic, 0), valid_from=monday, standby=True, opens_by_rule=True)
    assert offered(clinic, SATURDAY - 5 * DAY) != []
    assert offered(clinic, monday) == []
    (shift,) = [one for one in rows(clinic) if one.weekday == 0 and one.standby]
    assert shift.opens_by_rule
    open_day(clinic, monday, shift.id)
    assert offered(clinic, monday) != []
    with transaction(clinic.engine) as session:
        hours.remove(session, shift.id, agreed=None, by=ADMIN, now=clinic.clock.now())
    assert offered(clinic, monday) == []
    assert clinic.violations() == {}


def test_one_s_own_days_tell_what_is_on_standby(clinic: Clinic, engine: Engine) -> None:
    monday = SATURDAY - 5 * DAY
    with reading(engine) as session:
        (one,) = standby.of_therapist(session, 1, monday, 7)[SATURDAY]
        assert (one.day, one.opened) == (SATURDAY, False)
    open_day(clinic)
    with reading(engine) as session:
        week = standby.of_therapist(session, 1, monday, 7)
        assert {day: [one.opened for one in found] for day, found in week.items() if found} == {SATURDAY: [True]}
        assert standby.of_therapist(session, 99, monday, 7) == {}
        assert session.scalars(select(WorkingHours.standby)).all().count(True) == 1
