"""A public claim holds only while the rows say so: each rule, broken in every way that rows can break it."""

from collections.abc import Callable
from datetime import date, timedelta

import pytest
from sqlalchemy import Engine, delete, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.keys import Keyring
from scheduler.models import AppointmentType, License, Promise, StateRule, Therapist, WorkingHours
from scheduler.services import availability, claims, standby
from scheduler.services.audit import Actor
from scheduler.services.availability import Find
from tests.clinic import HOUR, Clinic, at

TODAY = date(2026, 11, 23)
DAY = timedelta(days=1)
ALL = {"licensed", "everywhere", "within_goal"}
NEEDLING_LOST = {"within_goal"}  # what is left when nobody may needle: a first visit needs no needle
WEEKDAYS_AHEAD = range(2, 5)


@pytest.fixture
def empty(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    return Clinic(engine, clock, keys)


def held(clinic: Clinic) -> set[str]:
    with reading(clinic.engine) as session:
        present = claims.present(session, now=clinic.clock.now())
        return {claim for claim in claims.RULES if claims.judged(claim, present).holds}


def end_licences(clinic: Clinic, kind: str, last_day: date) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(License).where(License.kind == kind).values(valid_until=last_day))


def set_active(clinic: Clinic, therapist_id: int, active: bool) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(Therapist).where(Therapist.id == therapist_id).values(active=active))


def set_hours(clinic: Clinic, location_id: int, first: date, last: date | None) -> None:
    with transaction(clinic.engine) as session:
        hours = update(WorkingHours).where(WorkingHours.location_id == location_id)
        session.execute(hours.values(valid_from=first, valid_until=last))


def add_rule(clinic: Clinic, needling: str, valid_from: date, qualification: str | None = "dry_needling") -> None:
    with transaction(clinic.engine) as session:
        rule = clinic.rule("IL", needling, valid_from)
        rule.qualification = qualification
        session.add(rule)


def test_a_clinic_that_keeps_its_promises_holds_every_claim(clinic: Clinic) -> None:
    assert held(clinic) == ALL


def test_a_clinic_without_anything_claims_nothing(empty: Clinic) -> None:
    assert held(empty) == set()
    empty.add_kinds()
    assert held(empty) == set()


def test_a_clinic_without_locations_or_without_therapists_claims_nothing(empty: Clinic) -> None:
    empty.add_kinds()
    therapist = empty.add_therapist()
    assert held(empty) == set()
    set_active(empty, therapist, active=False)
    empty.add_location()
    assert held(empty) == set()


def test_a_claim_without_a_rule_does_not_hold(clinic: Clinic) -> None:
    with reading(clinic.engine) as session:
        assert not claims.judged("best_in_town", claims.present(session, now=clinic.clock.now())).holds


@pytest.mark.parametrize("kind", ["pt", "dry_needling"])
def test_a_licence_counts_to_its_last_day_and_no_longer(clinic: Clinic, kind: str) -> None:
    end_licences(clinic, kind, TODAY)
    assert held(clinic) == ALL
    end_licences(clinic, kind, TODAY - DAY)
    assert held(clinic) == NEEDLING_LOST  # the cells still stand until they are planned again


def test_the_last_day_of_a_licence_ends_at_the_locations_midnight(clinic: Clinic, clock: FixedClock) -> None:
    end_licences(clinic, "dry_needling", TODAY)
    clock.at = at("2026-11-24T05:59:59+00:00")  # 23:59:59 in Chicago
    assert held(clinic) == ALL
    clock.at += timedelta(seconds=1)
    assert held(clinic) == NEEDLING_LOST


def test_a_licence_of_another_state_counts_for_nothing(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(License).where(License.kind == "dry_needling").values(state="CO"))
    assert held(clinic) == NEEDLING_LOST


def test_one_colleague_without_the_qualification_breaks_licensed_only(clinic: Clinic) -> None:
    clinic.add_hours(clinic.add_therapist("Ben Brown", kinds=("pt",)), 1)
    assert held(clinic) == ALL - {"licensed"}


def test_a_therapist_who_left_is_not_asked_for_a_licence(clinic: Clinic) -> None:
    left = clinic.add_therapist("Ben Brown", kinds=())
    clinic.add_hours(left, 1)
    set_active(clinic, left, active=False)
    assert held(clinic) == ALL
    set_active(clinic, left, active=True)
    assert held(clinic) == ALL - {"licensed"}


@pytest.mark.parametrize(("kinds", "claimed"), [((), ALL - {"licensed"}), (("pt", "dry_needling"), ALL)])
def test_a_therapist_without_hours_must_be_licensed_too(
    clinic: Clinic, kinds: tuple[str, ...], claimed: set[str]
) -> None:
    clinic.add_therapist("Ben Brown", kinds=kinds)
    assert held(clinic) == claimed


@pytest.mark.parametrize(
    ("first", "last", "claimed"),
    [
        (TODAY - 9 * DAY, TODAY - DAY, ALL),
        (TODAY + DAY, None, ALL),
        (TODAY - 9 * DAY, TODAY, ALL - {"licensed"}),
        (TODAY, None, ALL - {"licensed"}),
    ],
)
def test_a_state_counts_while_hours_there_are_in_force(
    clinic: Clinic, first: date, last: date | None, claimed: set[str]
) -> None:
    second = clinic.add_location("Denver", "America/Denver", "CO")
    clinic.add_hours(1, second)  # Ana has no licence of Colorado
    set_hours(clinic, second, first, last)
    helper = clinic.add_therapist("Ben Brown", "CO")
    clinic.add_hours(helper, second)
    clinic.plan()
    assert held(clinic) == claimed


@pytest.mark.parametrize("needling", ["forbidden", "permitted", "silent"])
def test_a_states_rule_counts_from_its_first_day_on(clinic: Clinic, needling: str) -> None:
    add_rule(clinic, needling, TODAY + DAY)
    assert held(clinic) == ALL
    with transaction(clinic.engine) as session:
        session.execute(update(StateRule).where(StateRule.valid_from == TODAY + DAY).values(valid_from=TODAY))
    assert held(clinic) == (NEEDLING_LOST if needling == "forbidden" else ALL)


def test_a_rule_that_asks_for_another_qualification_breaks_both_claims(clinic: Clinic) -> None:
    add_rule(clinic, "permitted", TODAY, qualification="endorsement")
    assert held(clinic) == NEEDLING_LOST


def test_a_rule_that_asks_for_no_qualification_is_kept_by_the_pt_licence(clinic: Clinic) -> None:
    end_licences(clinic, "dry_needling", TODAY - DAY)
    add_rule(clinic, "permitted", TODAY, qualification=None)
    assert held(clinic) == ALL


def test_a_state_without_a_rule_supports_no_claim(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(delete(StateRule))
    assert held(clinic) == NEEDLING_LOST


def test_a_location_without_therapists_breaks_what_is_said_of_each_location(clinic: Clinic) -> None:
    second = clinic.add_location("Chatham")
    assert held(clinic) == {"licensed"}
    clinic.add_hours(clinic.add_therapist("Ben Brown"), second)
    clinic.plan()
    assert held(clinic) == ALL


@pytest.mark.parametrize("spoil", ["inactive", "hours over", "hours to come", "not qualified"])
def test_a_location_needs_somebody_who_works_there_now_and_may_needle(clinic: Clinic, spoil: str) -> None:
    second = clinic.add_location("Chatham")
    helper = clinic.add_therapist("Ben Brown", kinds=("pt",) if spoil == "not qualified" else ("pt", "dry_needling"))
    clinic.add_hours(helper, second)
    clinic.plan()
    if spoil == "inactive":
        set_active(clinic, helper, active=False)
    if spoil == "hours over":
        set_hours(clinic, second, TODAY - 9 * DAY, TODAY - DAY)
    if spoil == "hours to come":
        set_hours(clinic, second, TODAY + DAY, None)
    assert "everywhere" not in held(clinic)


def test_without_a_visit_that_includes_needling_it_is_offered_nowhere(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).values(includes_needling=False))
    assert held(clinic) == ALL - {"everywhere"}


def test_without_a_visit_for_new_patients_no_wait_is_promised(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).values(new_patient=False))
    assert held(clinic) == ALL - {"within_goal"}


def take_all_before(clinic: Clinic, hours: int) -> list[str]:
    """Book every start within some hours; return the tokens."""
    tokens = []
    while (offer := clinic.offers(limit=1)[0]).slot.starts_at <= clinic.clock.now() + hours * HOUR:
        tokens.append(clinic.book(str(offer.slot)).token)
    return tokens


def test_with_everything_booked_for_two_days_the_wait_is_not_promised(clinic: Clinic) -> None:
    tokens = take_all_before(clinic, 48)
    assert held(clinic) == ALL - {"within_goal"}
    clinic.cancel(tokens[-1])
    assert held(clinic) == ALL


def test_the_goal_counts_hours_to_the_minute(clinic: Clinic, clock: FixedClock) -> None:
    take_all_before(clinic, 71)
    clinic.policy(access_goal_hours=71)
    soonest = clinic.offers(limit=1)[0].slot.starts_at
    clock.at = soonest - 71 * HOUR
    assert "within_goal" in held(clinic)
    clock.at -= timedelta(minutes=1)
    assert "within_goal" not in held(clinic)


def test_one_location_that_is_full_breaks_the_claim_for_all(clinic: Clinic) -> None:
    second = clinic.add_location("Chatham")
    clinic.add_hours(clinic.add_therapist("Ben Brown"), second, WEEKDAYS_AHEAD)  # from Wednesday 8:00 on: 47 hours
    clinic.plan()
    assert "within_goal" in held(clinic)
    clinic.policy(access_goal_hours=46)
    assert held(clinic) == ALL - {"within_goal"}


def shorten_notice(clinic: Clinic) -> None:
    clinic.policy(booking_notice_minutes=49 * 60)


def lengthen_visits(clinic: Clinic) -> None:
    """A first visit longer than a working day fits nowhere."""
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).where(AppointmentType.new_patient).values(buffer_minutes=240))
        session.execute(update(AppointmentType).where(AppointmentType.new_patient).values(minutes=480))


@pytest.mark.parametrize("change", [shorten_notice, lengthen_visits])
def test_only_what_search_offers_counts_for_the_goal(clinic: Clinic, change: Callable[[Clinic], None]) -> None:
    change(clinic)
    clinic.plan()
    assert held(clinic) == ALL - {"within_goal"}


def test_the_soonest_start_is_the_first_that_search_lists_there(clinic: Clinic) -> None:
    second, third = clinic.add_location("Mesa", "America/Phoenix", "AZ"), clinic.add_location("Chatham")
    clinic.add_hours(clinic.add_therapist("Ben Brown", "AZ", kinds=("pt",)), second, [5])
    clinic.plan()
    take_all_before(clinic, 10)
    now = clinic.clock.now()
    with reading(clinic.engine) as session:
        for kind in session.scalars(select(AppointmentType)):
            openings = availability.soonest(session, kind.id, 1, now=now)[1]
            soonest = {at.location.id: at.starts[0].starts_at for at in openings if at.starts}
            for place in (1, second, third):
                listed = availability.search(session, Find(kind.id, location_id=place, limit=1), now=now).offers
                assert soonest.get(place) == next((offer.slot.starts_at for offer in listed), None)


def test_hours_on_standby_bear_a_claim_only_while_a_day_of_them_is_open(clinic: Clinic) -> None:
    """A place where somebody would only come if needed offers nothing; whoever is to come must be licensed there."""
    place = clinic.add_location("Decatur")
    clinic.add_hours(1, place, range(7), 18 * 60, 20 * 60, standby=True)
    assert held(clinic) == {"licensed"}
    with transaction(clinic.engine) as session:
        number = session.scalars(select(WorkingHours.id).where(WorkingHours.standby, WorkingHours.weekday == 1)).one()
        standby.open_day(session, number, TODAY + DAY, Promise.MISSED, by=Actor("test"), now=clinic.clock.now())
    assert held(clinic) == ALL
    denver = clinic.add_location("Denver", "America/Denver", "CO")
    clinic.add_hours(1, denver, [6], 9 * 60, 12 * 60, standby=True)
    assert "licensed" in held(clinic)
