"""Weekly hours as an administrator changes them: what becomes bookable, what is refused, what stays."""

from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotFound
from scheduler.models import AuditEvent, Location, Slot
from scheduler.services import consequences, edits, hours
from scheduler.services.audit import Actor
from scheduler.services.consequences import NotAgreed, Why
from scheduler.services.edits import ChangedMeanwhile
from scheduler.services.hours import HoursClash, HoursDetails, Shift
from scheduler.timeline import DAY, zone_of
from tests.clinic import HOUR, LONG_AGO, Clinic
from tests.services.test_queries import statements

ADMIN = Actor("account:1", "192.0.2.1")
MONDAY = date(2026, 11, 23)
SATURDAY = 5
MORNING = HoursDetails(9 * 60, 12 * 60, MONDAY, None)


def rows(clinic: Clinic) -> list[Shift]:
    with reading(clinic.engine) as session:
        return hours.shifts(session)


def row_of(clinic: Clinic, weekday: int) -> Shift:
    (found,) = [shift for shift in rows(clinic) if shift.weekday == weekday]
    return found


def details(shift: Shift) -> HoursDetails:
    when = shift.valid_from, shift.valid_until, shift.every_weeks, shift.standby, shift.opens_by_rule
    return HoursDetails(shift.opens_minute, shift.closes_minute, *when)


def add(
    clinic: Clinic, weekdays: list[int], new: HoursDetails = MORNING, *, therapist: int = 1, place: int = 1
) -> None:
    with transaction(clinic.engine) as session:
        hours.add(session, therapist, place, weekdays, new, by=ADMIN, now=clinic.clock.now())


def change(clinic: Clinic, shift: Shift, agreed: str | None = None, **changes: Any) -> None:  # noqa: ANN401
    new = replace(details(shift), **{"valid_from": MONDAY} | changes)
    with transaction(clinic.engine) as session:
        seal = edits.seal_of(details(shift))
        hours.change(session, shift.id, new, seal=seal, agreed=agreed, by=ADMIN, now=clinic.clock.now())


def days_offered(clinic: Clinic, **find: Any) -> set[tuple[date, int]]:  # noqa: ANN401 fields of Find
    """Each local day with its weekday on which an evaluation can be booked."""
    zone = zone_of("America/Chicago")
    starts = (offer.slot.starts_at.astimezone(zone) for offer in clinic.offers(limit=5000, **find))
    return {(start.date(), start.weekday()) for start in starts}


def audited(engine: Engine) -> list[tuple[str, str, dict[str, object]]]:
    with reading(engine) as session:
        events = session.scalars(select(AuditEvent).where(AuditEvent.actor == ADMIN.name).order_by(AuditEvent.id))
        return [(event.action, event.entity_id, event.detail) for event in events]


def test_hours_that_are_added_can_be_booked_at_once(clinic: Clinic, engine: Engine) -> None:
    assert SATURDAY not in {weekday for _, weekday in days_offered(clinic)}
    add(clinic, [SATURDAY, 6])
    assert {5, 6} <= {weekday for _, weekday in days_offered(clinic)}
    assert clinic.violations() == {}
    added = [detail for action, _, detail in audited(engine) if action == "working_hours.added"]
    assert [detail["weekday"] for detail in added] == [5, 6]
    assert added[0] | {"valid_from": "2026-11-23", "opens_minute": 540, "location_id": 1} == added[0]


def test_hours_hold_from_their_first_day_to_their_last(clinic: Clinic) -> None:
    first, last = MONDAY + 12 * DAY, MONDAY + 26 * DAY
    add(clinic, [SATURDAY], replace(MORNING, valid_from=first, valid_until=last))
    assert sorted(day for day, weekday in days_offered(clinic) if weekday == SATURDAY) == [first, first + 7 * DAY, last]
    assert clinic.violations() == {}


def test_a_therapist_is_at_two_places_in_turn(clinic: Clinic) -> None:
    """Saturdays of one week here, of the next there; the same week twice is refused."""
    denver, fortnightly = clinic.add_location("Denver", "America/Denver", "IL"), replace(MORNING, every_weeks=2)
    add(clinic, [SATURDAY], fortnightly)
    add(clinic, [SATURDAY], replace(fortnightly, valid_from=MONDAY + 7 * DAY), place=denver)
    first = MONDAY + SATURDAY * DAY
    for place, weeks in ((1, (0, 2, 4)), (denver, (1, 3, 5))):
        found = sorted(day for day, weekday in days_offered(clinic, location_id=place) if weekday == SATURDAY)
        assert found[:3] == [first + week * 7 * DAY for week in weeks]
    with pytest.raises(HoursClash):
        add(clinic, [SATURDAY], replace(fortnightly, valid_from=MONDAY + 14 * DAY), place=denver)
    assert clinic.violations() == {}


def test_another_rhythm_holds_from_a_day_on_and_the_visits_of_the_weeks_that_go_are_told(clinic: Clinic) -> None:
    monday, from_ = row_of(clinic, 0), MONDAY + 14 * DAY
    visit = clinic.book(str(clinic.offers(from_=from_ + 7 * DAY, to=from_ + 8 * DAY)[0].slot)).appointment
    with pytest.raises(NotAgreed) as told:
        change(clinic, monday, every_weeks=2, valid_from=from_)
    assert [hit.visit_id for hit in told.value.hits] == [visit.id]
    change(clinic, monday, told.value.agreement, every_weeks=2, valid_from=from_)
    mondays = sorted(day for day, weekday in days_offered(clinic) if weekday == 0)
    assert mondays[:4] == [MONDAY, MONDAY + 7 * DAY, from_, from_ + 14 * DAY]
    assert clinic.violations() == {}


def test_hours_for_nobody_or_nowhere_are_not_found(clinic: Clinic) -> None:
    with pytest.raises(NotFound):
        add(clinic, [SATURDAY], therapist=9)
    with pytest.raises(NotFound):
        add(clinic, [SATURDAY], place=9)
    assert len(rows(clinic)) == 5


def test_hours_at_a_closed_place_are_refused(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        session.get_one(Location, 1).active = False
    with pytest.raises(Invalid, match="location"):
        add(clinic, [SATURDAY])


@pytest.mark.parametrize(
    ("zone", "opens", "closes", "clashes"),
    [
        ("America/Chicago", 17 * 60, 18 * 60, False),
        ("America/Chicago", 16 * 60 + 45, 18 * 60, True),
        ("America/Denver", 16 * 60, 17 * 60, False),  # five o'clock in Chicago
        ("America/Denver", 15 * 60 + 45, 17 * 60, True),
        ("America/New_York", 17 * 60, 18 * 60, True),
        ("America/New_York", 18 * 60, 19 * 60, False),
    ],
)
def test_hours_at_two_places_at_once_are_refused_whatever_the_clocks_say(
    clinic: Clinic, zone: str, opens: int, closes: int, clashes: bool
) -> None:
    elsewhere = clinic.add_location("Elsewhere", zone)
    asked = replace(MORNING, opens_minute=opens, closes_minute=closes)
    if not clashes:
        add(clinic, [0], asked, place=elsewhere)
        assert clinic.violations() == {}
        return
    with pytest.raises(HoursClash) as refused:
        add(clinic, [0], asked, place=elsewhere)
    clash = refused.value
    assert (clash.asked.location, clash.kept.location) == ("Elsewhere", "Springfield")
    assert (clash.asked.opens_minute, clash.kept.closes_minute, clash.first) == (opens, 17 * 60, MONDAY)
    assert len(rows(clinic)) == 5


def test_hours_past_midnight_clash_with_those_of_the_next_morning(clinic: Clinic) -> None:
    elsewhere = clinic.add_location("Elsewhere")
    with pytest.raises(HoursClash):
        add(clinic, [6], HoursDetails(22 * 60, 32 * 60 + 15, MONDAY, None), place=elsewhere)
    add(clinic, [6], HoursDetails(22 * 60, 32 * 60, MONDAY, None), place=elsewhere)
    assert clinic.violations() == {}


def test_hours_that_follow_each_other_in_time_do_not_clash(clinic: Clinic, clock: FixedClock) -> None:
    elsewhere = clinic.add_location("Elsewhere")
    change(clinic, row_of(clinic, 1), valid_until=MONDAY + 7 * DAY)
    add(clinic, [1], replace(MORNING, valid_from=MONDAY + 8 * DAY), place=elsewhere)
    assert clinic.violations() == {}
    clock.at += 15 * DAY
    clinic.plan()
    (over,) = [shift for shift in rows(clinic) if shift.over(clock.now())]
    with pytest.raises(Invalid):
        change(clinic, over, valid_until=None)


def test_one_therapist_s_hours_are_no_matter_of_another_s(clinic: Clinic) -> None:
    add(clinic, [0], therapist=clinic.add_therapist("Ben Becker"))
    assert clinic.violations() == {}


def test_new_times_begin_on_a_day_and_what_was_worked_stays(clinic: Clinic, engine: Engine) -> None:
    monday, from_ = row_of(clinic, 0), MONDAY + 14 * DAY
    change(clinic, monday, opens_minute=12 * 60, valid_from=from_, valid_until=None)
    old, new = sorted((shift for shift in rows(clinic) if shift.weekday == 0), key=lambda shift: shift.valid_from)
    assert (old.id, old.opens_minute, old.valid_from, old.valid_until) == (monday.id, 480, LONG_AGO, from_ - DAY)
    assert (new.opens_minute, new.closes_minute, new.valid_from, new.valid_until) == (720, 1020, from_, None)
    mornings = clinic.offers(from_=from_, to=from_ + DAY, limit=99)
    assert min(offer.slot.starts_at.hour for offer in mornings) == 18  # UTC
    assert clinic.violations() == {}
    assert [(action, entity_id) for action, entity_id, _ in audited(engine)] == [
        ("working_hours.changed", str(old.id)),
        ("working_hours.added", str(new.id)),
    ]
    assert audited(engine)[0][2] == {"valid_until": [None, (from_ - DAY).isoformat()]}


def test_hours_end_on_a_day(clinic: Clinic) -> None:
    change(clinic, row_of(clinic, 0), valid_until=MONDAY + 7 * DAY)
    assert sorted(day for day, weekday in days_offered(clinic) if weekday == 0) == [MONDAY, MONDAY + 7 * DAY]
    assert clinic.violations() == {}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"valid_until": MONDAY - 2 * DAY}, "valid_until"),
        ({"opens_minute": 600, "valid_from": MONDAY - DAY}, "valid_from"),
        ({"opens_minute": 600, "valid_from": LONG_AGO}, "valid_from"),
        ({"opens_minute": 600, "valid_from": MONDAY + DAY, "valid_until": MONDAY}, "valid_until"),
    ],
)
def test_what_was_worked_cannot_be_changed(clinic: Clinic, changes: dict[str, Any], field: str) -> None:
    before = rows(clinic)
    with pytest.raises(Invalid) as refused:
        change(clinic, row_of(clinic, 0), **changes)
    assert refused.value.field == field
    assert rows(clinic) == before


def test_hours_that_never_began_can_be_changed_and_removed(clinic: Clinic, engine: Engine) -> None:
    add(clinic, [SATURDAY], replace(MORNING, valid_from=MONDAY + 7 * DAY))
    change(clinic, row_of(clinic, SATURDAY), valid_from=MONDAY, closes_minute=11 * 60)
    saturday = row_of(clinic, SATURDAY)
    assert (saturday.valid_from, saturday.closes_minute) == (MONDAY, 660)
    with transaction(engine) as session:
        hours.remove(session, saturday.id, agreed=None, by=ADMIN, now=clinic.clock.now())
    assert SATURDAY not in {weekday for _, weekday in days_offered(clinic)}
    assert clinic.violations() == {}
    assert audited(engine)[-1][0] == "working_hours.removed"
    with transaction(engine) as session, pytest.raises(Invalid):
        hours.remove(session, row_of(clinic, 0).id, agreed=None, by=ADMIN, now=clinic.clock.now())


def test_booked_visits_are_told_before_hours_go_and_stay_booked_when_they_do(clinic: Clinic, engine: Engine) -> None:
    offer = clinic.offers(from_=MONDAY + 7 * DAY)[0]
    visit = clinic.book(str(offer.slot)).appointment
    monday = row_of(clinic, 0)
    with pytest.raises(NotAgreed) as told:
        change(clinic, monday, opens_minute=9 * 60)
    (hit,) = told.value.hits
    assert (hit.visit_id, hit.patient, hit.therapist, hit.location, hit.why) == (
        visit.id, "Pat Doe", "Ana Abbott", "Springfield", Why.OUTSIDE_HOURS,
    )  # fmt: skip
    assert rows(clinic)[0] == monday
    assert len(clinic.offers(from_=MONDAY + 7 * DAY, to=MONDAY + 8 * DAY, limit=99)) == 29
    change(clinic, monday, told.value.agreement, opens_minute=9 * 60)
    with reading(engine) as session:
        held = session.scalars(select(Slot).where(Slot.appointment_id == visit.id)).all()
        assert [hit.visit_id for hit in consequences.unfit(session, now=clinic.clock.now())] == [visit.id]
    assert len(held) == 4
    assert clinic.violations() == {}


def test_an_agreement_is_for_the_visits_that_were_shown(clinic: Clinic) -> None:
    first, *_, later = clinic.offers(from_=MONDAY + 7 * DAY, to=MONDAY + 8 * DAY, limit=99)
    clinic.book(str(first.slot))
    with pytest.raises(NotAgreed) as told:
        change(clinic, row_of(clinic, 0), valid_until=MONDAY)
    clinic.book(str(later.slot))  # meanwhile
    with pytest.raises(NotAgreed) as again:
        change(clinic, row_of(clinic, 0), told.value.agreement, valid_until=MONDAY)
    assert len(again.value.hits) == 2
    change(clinic, row_of(clinic, 0), again.value.agreement, valid_until=MONDAY)
    change(clinic, row_of(clinic, 1), closes_minute=16 * 60)  # the visits that do not fit already are not told again
    assert clinic.violations() == {}


def test_time_freed_outside_the_hours_is_not_offered_again(clinic: Clinic) -> None:
    visit = clinic.book(str(clinic.offers(from_=MONDAY + 7 * DAY)[0].slot))
    with pytest.raises(NotAgreed) as told:
        change(clinic, row_of(clinic, 0), valid_until=MONDAY)
    change(clinic, row_of(clinic, 0), told.value.agreement, valid_until=MONDAY)
    clinic.cancel(visit.token)
    assert MONDAY + 7 * DAY not in {day for day, _ in days_offered(clinic)}
    assert clinic.violations() == {}


def test_a_change_of_what_somebody_else_changed_is_refused(clinic: Clinic) -> None:
    monday = row_of(clinic, 0)
    change(clinic, monday, valid_until=MONDAY + 70 * DAY)
    with pytest.raises(ChangedMeanwhile) as refused:
        change(clinic, monday, valid_until=MONDAY + 30 * DAY)
    assert refused.value.stored == replace(details(monday), valid_until=MONDAY + 70 * DAY)


def test_hours_beyond_a_horizon_that_was_shortened_are_planned_too(clinic: Clinic) -> None:
    clinic.policy(booking_horizon_days=14)
    change(clinic, row_of(clinic, 0), valid_until=MONDAY)
    assert clinic.violations() == {}


@pytest.mark.parametrize("doing", ["adding", "changing", "removing"])
def test_a_change_takes_as_many_queries_however_many_others_work_here(
    clinic: Clinic, engine: Engine, doing: str
) -> None:
    few = queries_of(clinic, engine, doing, SATURDAY)
    for number in range(3):
        clinic.add_hours(clinic.add_therapist(f"Therapist {number}"), 1)
    clinic.plan()
    assert queries_of(clinic, engine, doing, SATURDAY + 1) == few


def queries_of(clinic: Clinic, engine: Engine, doing: str, weekday: int) -> int:
    """How many statements one kind of change takes, done on a weekday that is free."""
    new = replace(MORNING, valid_from=MONDAY + 7 * DAY)
    with statements(engine) as sent:
        add(clinic, [weekday], new)
    if doing == "adding":
        return len(sent)
    shift = row_of(clinic, weekday)
    with statements(engine) as sent:
        if doing == "changing":
            change(clinic, shift, closes_minute=660)
        else:
            with transaction(engine) as session:
                hours.remove(session, shift.id, agreed=None, by=ADMIN, now=clinic.clock.now())
    return len(sent)


def test_the_day_of_a_shift_that_runs_past_midnight_can_still_end(clinic: Clinic, clock: FixedClock) -> None:
    add(clinic, [6], HoursDetails(22 * 60, 26 * 60, MONDAY, None))
    clock.at = datetime.fromisoformat("2026-11-30T00:30:00-06:00")
    clinic.plan()
    change(clinic, row_of(clinic, 6), valid_until=date(2026, 11, 29))
    tonight = clinic.offers("Needling", to=clock.now() + 3 * HOUR)
    assert [offer.slot.starts_at - clock.now() for offer in tonight] == [HOUR]  # the notice; it ends at two
    assert clinic.violations() == {}


@pytest.mark.parametrize("week", [1, 2])
def test_new_times_of_every_second_week_keep_its_weeks(clinic: Clinic, clock: FixedClock, week: int) -> None:
    """From any day on that is typed, in a week that is worked or in one that is not."""
    first = MONDAY + SATURDAY * DAY
    add(clinic, [SATURDAY], replace(MORNING, every_weeks=2))
    clock.at += 7 * DAY
    shift = row_of(clinic, SATURDAY)
    change(clinic, shift, valid_from=MONDAY + week * 7 * DAY, closes_minute=11 * 60)
    found = sorted(day for day, weekday in days_offered(clinic) if weekday == SATURDAY)
    assert found[:3] == [first + number * 14 * DAY for number in (1, 2, 3)]
    assert clinic.violations() == {}


def test_the_first_clash_is_the_one_that_is_told(clinic: Clinic) -> None:
    """Of two weekdays that are added together the later one may clash sooner."""
    denver = clinic.add_location("Denver", "America/Denver", "IL")
    add(clinic, [SATURDAY], replace(MORNING, valid_from=MONDAY + 28 * DAY))
    add(clinic, [SATURDAY + 1], replace(MORNING, valid_from=MONDAY + 7 * DAY))
    with pytest.raises(HoursClash) as told:
        add(clinic, [SATURDAY, SATURDAY + 1], place=denver)
    assert told.value.first == MONDAY + (7 + SATURDAY + 1) * DAY
