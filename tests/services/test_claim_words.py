"""Of how soon a new patient is seen, the strongest true word is told, and what stands against a claim is named."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, update

from scheduler.db import reading, transaction
from scheduler.models import AccessSample, AppointmentType, License, Location, Saying, StateRule, Therapist
from scheduler.services import claims
from scheduler.services.access_goal import Access, AtLocation, Standing, Weeks, figures
from scheduler.services.availability import Place, SlotName
from scheduler.services.claims import Breach, Present, Verdict, What
from scheduler.timeline import CELL, DAY
from tests.clinic import HOUR, Clinic, at

NOW = at("2026-11-23T15:00:00+00:00")
TARGET, GOAL = 0.9, 48
LATE = 72  # hours until the end of the second working day
Case = tuple[float | None, float | None, bool]  # share of 28 days, hours until the soonest start, days end ahead
places = st.lists(
    st.tuples(
        st.sampled_from([None, 0.0, 0.5, 0.8999, 0.9, 1.0]),
        st.sampled_from([None, 0.25, 48.0, 48.25, 71.75, 72.0, 500.0]),
        st.booleans(),
    ),
    max_size=4,
)


def at_place(number: int, place: Case) -> AtLocation:
    share, hours, _ = place
    starts = [] if hours is None else [SlotName(number, number, NOW + hours * HOUR)]
    found = figures([start.starts_at for start in starts], now=NOW, goal_hours=GOAL)
    weeks = Weeks() if share is None else Weeks(measured=10_000, kept=round(share * 10_000), old_enough=True)
    return AtLocation(found, "America/Chicago", weeks, Place(number, "A place", "", "America/Chicago", "", ""), starts)


def verdict(all_places: list[Case]) -> Verdict:
    """What is told of the wait at locations that stand like this."""
    locations = [at_place(number, place) for number, place in enumerate(all_places, start=1)]
    soonest = sorted(start.starts_at for one in locations for start in one.starts)
    overall = Standing(figures(soonest, now=NOW, goal_hours=GOAL), None, Weeks())
    access = Access(NOW, GOAL, TARGET, 1, "Evaluation", overall, locations)
    ends = {
        number: NOW + LATE * HOUR if has_end else None for number, (_, _, has_end) in enumerate(all_places, start=1)
    }
    nothing: Any = None
    rows = (nothing, nothing, nothing, nothing, nothing, nothing, nothing)
    return claims.within_goal(Present(*rows, access, ends))


def typical(place: Case) -> bool:
    share, hours, _ = place
    return share >= TARGET if share is not None else hours is not None and hours <= GOAL


def in_two_days(place: Case) -> bool:
    _, hours, has_end = place
    return hours is not None and has_end and hours < LATE


@given(places)
def test_the_strongest_true_word_is_told(all_places: list[Case]) -> None:
    found = verdict(all_places)
    true = {
        Saying.HOLDS: bool(all_places) and all(map(typical, all_places)),
        Saying.WORKING_DAYS: bool(all_places) and all(map(in_two_days, all_places)),
        Saying.SOONEST: any(hours is not None for _, hours, _ in all_places),
        Saying.FAILS: True,
    }
    assert found.says == next(saying for saying, is_true in true.items() if is_true)
    against = [number for number, place in enumerate(all_places, start=1) if not typical(place)]
    assert [breach.location_id for breach in found.breaches if breach.location_id] == against
    assert found.holds == (not found.breaches)


@given(places, places)
def test_no_location_more_makes_the_word_stronger(some: list[Case], more: list[Case]) -> None:
    """Nor does one that breaks it leave it to the others: it is said of all."""
    if some:
        order = list(Saying)
        both = verdict([*some, *more]).says
        assert order.index(both) >= min(order.index(Saying.SOONEST), order.index(verdict(some).says))
        assert (both == Saying.HOLDS) == (verdict(some).holds and all(map(typical, more)))


def test_what_stands_against_the_wait_says_by_how_much() -> None:
    found = verdict([(0.8999, 1.0, True), (None, 48.25, True), (None, None, True), (0.9, None, True)])
    assert found.breaches == [
        Breach(What.BELOW_TARGET, location_id=1, share=0.8999, target=TARGET),
        Breach(What.TOO_LATE, location_id=2, hours=48.25, target=GOAL),
        Breach(What.NOTHING_FREE, location_id=3),
    ]
    assert [Breach.of(breach.as_data()) for breach in found.breaches] == found.breaches
    assert found.breaches[2].as_data() == {"what": "nothing-free", "location_id": 3}


# --- over rows


def judged(clinic: Clinic, claim_id: str) -> Verdict:
    with reading(clinic.engine) as session:
        return claims.judged(claim_id, claims.present(session, now=clinic.clock.now()))


def change(clinic: Clinic, statement: Any) -> None:  # noqa: ANN401 any statement
    with transaction(clinic.engine) as session:
        session.execute(statement)


def sampled(clinic: Clinic, place: int, kept: int, of: int, age: timedelta = 8 * DAY) -> None:
    """A history of quarter hours at a location, so old."""
    with transaction(clinic.engine) as session:
        for number in range(of):
            hours = 20.0 if number < kept else 60.0
            row = AccessSample(
                appointment_type_id=1,
                location_id=place,
                quarter=clinic.clock.now().replace(minute=0) - age + number * CELL,
                next_available_hours=hours,
                goal_hours=GOAL,
                within_goal=hours <= GOAL,
            )
            session.add(row)


def fill(clinic: Clinic, hours: int) -> None:
    while (offer := clinic.offers(limit=1)[0]).slot.starts_at <= clinic.clock.now() + hours * HOUR:
        clinic.book(str(offer.slot))


def test_four_weeks_count_and_not_this_moment_once_there_is_a_week(clinic: Clinic) -> None:
    fill(clinic, 48)
    assert judged(clinic, "within_goal").says == Saying.WORKING_DAYS
    sampled(clinic, 1, kept=9, of=10, age=6 * DAY)
    assert judged(clinic, "within_goal").says == Saying.WORKING_DAYS  # less than a week of it
    change(clinic, delete(AccessSample))
    sampled(clinic, 1, kept=9, of=10)
    assert judged(clinic, "within_goal").says == Saying.HOLDS
    change(clinic, delete(AccessSample))
    sampled(clinic, 1, kept=8, of=10)
    assert judged(clinic, "within_goal").breaches == [Breach(What.BELOW_TARGET, location_id=1, share=0.8, target=0.9)]


def test_a_free_day_does_not_help_who_missed_it_for_four_weeks(clinic: Clinic) -> None:
    sampled(clinic, 1, kept=8, of=10)
    assert judged(clinic, "within_goal").says == Saying.WORKING_DAYS


def test_two_working_days_end_with_the_second_open_day(clinic: Clinic) -> None:
    """On a Monday: Tuesday and Wednesday, all of it and no more."""
    clinic.policy(access_goal_hours=47)
    fill(clinic, 47)
    assert judged(clinic, "within_goal").says == Saying.WORKING_DAYS
    while (offer := clinic.offers(limit=1)[0]).slot.starts_at < at("2026-11-26T06:00:00+00:00"):
        clinic.book(str(offer.slot))
    assert judged(clinic, "within_goal").says == Saying.SOONEST


def test_a_location_with_one_day_a_week_has_no_two_working_days(clinic: Clinic) -> None:
    """Its two next open days are a week apart: nobody would call that two days."""
    second = clinic.add_location("Chatham")
    clinic.add_hours(clinic.add_therapist("Ben Brown"), second, weekdays=[4])
    clinic.plan()
    found = judged(clinic, "within_goal")
    assert (found.says, [breach.location_id for breach in found.breaches]) == (Saying.SOONEST, [second])
    clinic.add_hours(clinic.add_therapist("Cleo Cruz"), second, weekdays=[3])
    clinic.plan()
    assert judged(clinic, "within_goal").says == Saying.WORKING_DAYS  # Thursday is the first of the two


@pytest.mark.parametrize("closed", [{"online": False}, {"active": False}])
def test_a_location_where_nobody_can_book_does_not_count(clinic: Clinic, closed: dict[str, bool]) -> None:
    second = clinic.add_location("Chatham")
    assert judged(clinic, "within_goal").says == Saying.SOONEST
    change(clinic, update(Location).where(Location.id == second).values(**closed))
    assert judged(clinic, "within_goal").says == Saying.HOLDS
    change(clinic, update(Location).values(**closed))
    assert judged(clinic, "within_goal") == Verdict(Saying.FAILS, [Breach(What.NOT_ONLINE)])


@pytest.mark.parametrize(
    ("spoil", "lacking"),
    [
        (delete(License), "pt"),
        (delete(License).where(License.kind == "pt"), "pt"),
        (delete(License).where(License.kind == "dry_needling"), "dry_needling"),
        (delete(StateRule), "no-rule"),
        (update(StateRule).values(needling="forbidden"), "forbidden"),
    ],
)
def test_who_lacks_what_where_is_named_until_it_is_mended(clinic: Clinic, spoil: Any, lacking: str) -> None:  # noqa: ANN401
    change(clinic, spoil)
    assert judged(clinic, "licensed").breaches == [Breach(What.UNLICENSED, 1, 1, lacking)]
    assert judged(clinic, "everywhere").breaches == [Breach(What.NOBODY_LICENSED, location_id=1)]
    with transaction(clinic.engine) as session:
        session.execute(delete(StateRule))
        session.execute(delete(License))
        session.flush()
        session.add_all([clinic.rule("IL"), *(clinic.license(1, kind, "IL") for kind in ("pt", "dry_needling"))])
    assert [judged(clinic, claim).breaches for claim in ("licensed", "everywhere")] == [[], []]


def test_a_therapist_without_hours_lacks_a_license_nowhere_in_particular(clinic: Clinic) -> None:
    helper = clinic.add_therapist("Ben Brown", kinds=("pt",))
    assert judged(clinic, "licensed").breaches == [Breach(What.UNLICENSED, helper, lacking="dry_needling")]


def test_why_a_location_is_not_needled_is_told_apart(clinic: Clinic) -> None:
    second = clinic.add_location("Chatham")
    assert judged(clinic, "everywhere").breaches == [Breach(What.NOBODY_WORKS, location_id=second)]
    helper = clinic.add_therapist("Ben Brown", kinds=("pt",))
    clinic.add_hours(helper, second)
    assert judged(clinic, "everywhere").breaches == [Breach(What.NOBODY_LICENSED, location_id=second)]
    with transaction(clinic.engine) as session:
        session.add(clinic.license(helper, "dry_needling", "IL"))
    assert judged(clinic, "everywhere").holds
    change(clinic, update(AppointmentType).values(includes_needling=False))
    assert judged(clinic, "everywhere").breaches == [Breach(What.NO_NEEDLING_KIND)]


def test_a_clinic_of_nobody_and_nothing_says_so(clinic: Clinic) -> None:
    change(clinic, update(AppointmentType).values(new_patient=False))
    assert judged(clinic, "within_goal") == Verdict(Saying.FAILS, [Breach(What.NO_NEW_PATIENT_KIND)])
    change(clinic, update(Therapist).values(active=False))
    assert judged(clinic, "licensed") == Verdict(Saying.FAILS, [Breach(What.NOBODY)])
    change(clinic, update(Location).values(active=False))
    assert judged(clinic, "everywhere") == Verdict(Saying.FAILS, [Breach(What.NO_PLACE)])
    assert replace(Breach(What.NOBODY)).as_data() == {"what": "nobody"}
