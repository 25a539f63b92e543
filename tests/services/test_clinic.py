"""The clinic as an administrator changes it: policy, places, kinds of visit, state rules."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotFound
from scheduler.models import AppointmentType, ClinicPolicy, Location, StateRule
from scheduler.services import clinic as changes
from scheduler.services import consequences, edits, opening, practice
from scheduler.services.clinic import LocationDetails, PolicyDetails, RuleDetails, TypeDetails
from scheduler.services.consequences import NotAgreed, Why
from scheduler.services.edits import ChangedMeanwhile
from scheduler.services.hours import HoursClash
from scheduler.timeline import DAY
from tests.clinic import FAR_AHEAD, LONG_AGO, Clinic
from tests.services.test_hours import ADMIN, audited, days_offered
from tests.services.test_queries import statements

TODAY = date(2026, 11, 23)
HERE = LocationDetails("Denver", "Denver", "2 Main Street", "CO", "America/Denver", "+1 555 0101", "Second floor")
LONG_VISIT = TypeDetails("Whole morning", 240, 15, new_patient=False, includes_needling=False, place=1)
NEW_RULE = RuleDetails("IL", TODAY, "forbidden", None, None, "a statute", FAR_AHEAD)


def place(clinic: Clinic, location_id: int = 1) -> LocationDetails:
    with reading(clinic.engine) as session:
        return edits.read_off(LocationDetails, session.get_one(Location, location_id))


def kind(clinic: Clinic, type_id: int) -> TypeDetails:
    with reading(clinic.engine) as session:
        return changes.type_details(session, session.get_one(AppointmentType, type_id))


def change_place(clinic: Clinic, agreed: str | None = None, location_id: int = 1, **new: Any) -> None:  # noqa: ANN401
    before = place(clinic, location_id)
    with transaction(clinic.engine) as session:
        changes.change_location(
            session, location_id, replace(before, **new), seal=edits.seal_of(before), agreed=agreed, by=ADMIN,
            now=clinic.clock.now(),
        )  # fmt: skip


def change_kind(clinic: Clinic, type_id: int, agreed: str | None = None, **new: Any) -> None:  # noqa: ANN401
    before = kind(clinic, type_id)
    with transaction(clinic.engine) as session:
        changes.change_type(
            session, type_id, replace(before, **new), seal=edits.seal_of(before), agreed=agreed, by=ADMIN,
            now=clinic.clock.now(),
        )  # fmt: skip


def add_rule(clinic: Clinic, rule: RuleDetails, agreed: str | None = None) -> int:
    with transaction(clinic.engine) as session:
        return changes.add_rule(session, rule, agreed=agreed, by=ADMIN, now=clinic.clock.now()).id


def agreeing(change: Callable[[str | None], object]) -> NotAgreed:
    """Do what hits visits; first it must be refused."""
    with pytest.raises(NotAgreed) as told:
        change(None)
    change(told.value.agreement)
    return told.value


def test_the_policy_is_changed_and_the_record_has_both_values(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        before = edits.read_off(PolicyDetails, practice.policy(session))
        new = replace(before, access_goal_hours=24, access_target=0.8)
        changes.change_policy(session, new, seal=edits.seal_of(before), by=ADMIN, now=clinic.clock.now())
    with reading(engine) as session:
        assert edits.read_off(PolicyDetails, session.get_one(ClinicPolicy, 1)) == new
    assert audited(engine) == [
        ("clinic_policy.changed", "1", {"access_goal_hours": [48, 24], "access_target": [0.9, 0.8]})
    ]
    with pytest.raises(ChangedMeanwhile) as refused, transaction(engine) as session:
        changes.change_policy(session, before, seal=edits.seal_of(before), by=ADMIN, now=clinic.clock.now())
    assert refused.value.stored == new


def test_a_place_is_added_and_its_name_is_its_own(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        location = changes.add_location(session, HERE, by=ADMIN, now=clinic.clock.now())
    assert place(clinic, location.id) == HERE
    assert audited(engine)[0][:2] == ("location.added", str(location.id))
    with pytest.raises(Invalid, match="name"), transaction(engine) as session:
        changes.add_location(session, HERE, by=ADMIN, now=clinic.clock.now())
    with pytest.raises(Invalid, match="name"):
        change_place(clinic, name="Denver")


def test_a_place_s_new_clock_moves_its_hours_and_leaves_visits_where_they_are(clinic: Clinic, engine: Engine) -> None:
    visit = clinic.book(str(clinic.offers(from_=TODAY + DAY)[0].slot)).appointment  # at eight
    told = agreeing(lambda agreed: change_place(clinic, agreed, time_zone="America/Denver"))
    assert [(hit.visit_id, hit.why, hit.time_zone) for hit in told.hits] == [
        (visit.id, Why.OUTSIDE_HOURS, "America/Denver")
    ]
    first = clinic.offers(from_=TODAY + DAY)[0]
    assert (first.slot.starts_at.hour, first.time_zone) == (15, "America/Denver")  # eight o'clock there
    assert clinic.violations() == {}
    assert audited(engine)[-1][2] == {"time_zone": ["America/Chicago", "America/Denver"]}


def test_a_place_s_new_state_asks_for_its_own_licences(clinic: Clinic) -> None:
    clinic.book(str(clinic.offers()[0].slot))
    told = agreeing(lambda agreed: change_place(clinic, agreed, state="CO"))
    assert [hit.why for hit in told.hits] == [Why.NOT_LICENSED]
    assert clinic.offers() == []
    assert clinic.violations() == {"visits ahead that the therapist is not licensed for": 1}
    change_place(clinic, state="IL")
    assert clinic.violations() == {}


def test_a_place_that_closes_has_no_times_and_tells_of_its_visits(clinic: Clinic) -> None:
    clinic.book(str(clinic.offers()[0].slot))
    told = agreeing(lambda agreed: change_place(clinic, agreed, active=False))
    assert [hit.why for hit in told.hits] == [Why.LOCATION_CLOSED]
    assert clinic.offers() == []
    change_place(clinic, active=True)
    assert clinic.offers(by_staff=True)
    assert clinic.offers() == []
    assert clinic.violations() == {}
    assert ("location.changed", "1", {"online": [True, False]}) in audited(clinic.engine)


def test_a_place_that_is_not_online_keeps_its_times_for_the_staff(clinic: Clinic) -> None:
    clinic.book(str(clinic.offers()[0].slot))
    with transaction(clinic.engine) as session:
        opening.close_online(session, 1, by=ADMIN, now=clinic.clock.now())
    assert clinic.offers() == []
    assert clinic.offers(by_staff=True)
    assert clinic.violations() == {}


def test_a_clock_that_lets_hours_overlap_elsewhere_is_refused(clinic: Clinic) -> None:
    denver = clinic.add_location("Denver", "America/Denver")
    clinic.add_hours(1, denver, opens=16 * 60, closes=18 * 60)  # from five on in Chicago
    with pytest.raises(HoursClash) as refused:
        change_place(clinic, location_id=denver, time_zone="America/New_York")
    assert {refused.value.asked.location, refused.value.kept.location} == {"Denver", "Springfield"}
    assert place(clinic, denver).time_zone == "America/Denver"
    change_place(clinic, location_id=denver, active=False)
    change_place(clinic, location_id=denver, time_zone="America/New_York")
    with pytest.raises(HoursClash):
        change_place(clinic, location_id=denver, active=True)
    assert clinic.violations() == {}


def test_words_about_a_place_change_without_a_look_at_its_calendar(clinic: Clinic) -> None:
    clinic.book(str(clinic.offers()[0].slot))
    change_place(clinic, phone="+1 555 0199", directions="Round the corner")
    assert (place(clinic).phone, place(clinic).directions) == ("+1 555 0199", "Round the corner")


def test_what_somebody_else_changed_is_refused_for_each_kind_of_row(clinic: Clinic, engine: Engine) -> None:
    old_place, old_kind = place(clinic), kind(clinic, 1)
    change_place(clinic, area="Sangamon")
    change_kind(clinic, 1, name="First visit")
    now = clinic.clock.now()
    with pytest.raises(ChangedMeanwhile) as refused, transaction(engine) as session:
        changes.change_location(session, 1, old_place, seal=edits.seal_of(old_place), agreed=None, by=ADMIN, now=now)
    assert refused.value.stored == replace(old_place, area="Sangamon")
    with pytest.raises(ChangedMeanwhile) as refused, transaction(engine) as session:
        changes.change_type(session, 1, old_kind, seal=edits.seal_of(old_kind), agreed=None, by=ADMIN, now=now)
    assert refused.value.stored == replace(old_kind, name="First visit")
    assert (place(clinic).area, kind(clinic, 1).name) == ("Sangamon", "First visit")


def test_kinds_of_visit_stand_in_the_order_that_is_asked_for(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        new = changes.add_type(session, replace(LONG_VISIT, place=2), by=ADMIN, now=clinic.clock.now())
    assert names(engine) == ["Evaluation", "Whole morning", "Follow-up", "Needling"]
    change_kind(clinic, new.id, place=4)
    assert names(engine) == ["Evaluation", "Follow-up", "Needling", "Whole morning"]
    change_kind(clinic, new.id, place=1)
    assert names(engine) == ["Whole morning", "Evaluation", "Follow-up", "Needling"]
    assert audited(engine)[-1][2] == {"place": [4, 1]}
    change_kind(clinic, new.id, active=False)
    assert names(engine) == ["Evaluation", "Follow-up", "Needling"]


def names(engine: Engine) -> list[str]:
    with reading(engine) as session:
        return [one.name for one in practice.appointment_types(session)]


@pytest.mark.parametrize("longer", [True, False])
def test_the_longest_visit_decides_what_fits_at_once(clinic: Clinic, clock: FixedClock, longer: bool) -> None:
    clock.at += 2 * DAY  # there is a past, too
    if longer:
        with transaction(clinic.engine) as session:
            new = changes.add_type(session, LONG_VISIT, by=ADMIN, now=clock.now())
        clinic.kinds["Whole morning"] = new.id
        assert clinic.offers("Whole morning")
        change_kind(clinic, new.id, minutes=480, buffer_minutes=60)
        assert {offer.slot.starts_at.hour for offer in clinic.offers("Whole morning")} == {14}
    else:
        change_kind(clinic, 1, minutes=30)
    assert clinic.violations() == {}


def test_visits_that_are_booked_keep_their_length(clinic: Clinic) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot)).appointment
    told = agreeing(lambda agreed: change_kind(clinic, 1, agreed, minutes=45))
    assert [(hit.visit_id, hit.why, hit.ends_at) for hit in told.hits] == [(visit.id, Why.KEEPS_LENGTH, visit.ends_at)]
    assert clinic.violations() == {}


def test_a_kind_that_is_to_include_needling_tells_of_whom_may_not(clinic: Clinic) -> None:
    ben = clinic.add_therapist("Ben Becker", kinds=("pt",))
    clinic.add_hours(ben, 1)
    clinic.plan()
    clinic.book(str(clinic.offers(therapist_id=1)[0].slot))
    visit = clinic.book(str(clinic.offers(therapist_id=ben)[0].slot)).appointment
    told = agreeing(lambda agreed: change_kind(clinic, 1, agreed, includes_needling=True))
    assert [(hit.visit_id, hit.why) for hit in told.hits] == [(visit.id, Why.NOT_LICENSED)]


def test_a_rule_holds_from_its_day_on_and_the_one_before_stays(clinic: Clinic, engine: Engine) -> None:
    begins = TODAY + 7 * DAY
    visit = clinic.book(str(clinic.offers("Needling", from_=begins)[0].slot), "Needling").appointment
    told = agreeing(lambda agreed: add_rule(clinic, replace(NEW_RULE, valid_from=begins), agreed))
    assert [(hit.visit_id, hit.why) for hit in told.hits] == [(visit.id, Why.NOT_LICENSED)]
    assert max(offer.slot.starts_at.date() for offer in clinic.offers("Needling", limit=5000)) < begins
    assert begins in {day for day, _ in days_offered(clinic)}
    assert clinic.violations() == {"visits ahead that the therapist is not licensed for": 1}
    with reading(engine) as session:
        rules = session.scalars(select(StateRule).order_by(StateRule.valid_from)).all()
    assert [(rule.valid_from, rule.needling) for rule in rules] == [(LONG_AGO, "permitted"), (begins, "forbidden")]


@pytest.mark.parametrize("day", [LONG_AGO, LONG_AGO - DAY, TODAY - DAY])
def test_a_rule_changes_no_past(clinic: Clinic, day: date) -> None:
    with pytest.raises(Invalid, match="valid_from"):
        add_rule(clinic, replace(NEW_RULE, valid_from=day))


def test_the_first_rule_of_a_state_may_have_begun(clinic: Clinic) -> None:
    add_rule(clinic, replace(NEW_RULE, state="TX", valid_from=LONG_AGO))
    assert clinic.violations() == {}


def test_a_rule_that_has_not_begun_can_be_taken_back(clinic: Clinic, engine: Engine) -> None:
    before = clinic.offers("Needling", limit=5000)
    rule_id = add_rule(clinic, replace(NEW_RULE, valid_from=TODAY + 7 * DAY))
    assert clinic.offers("Needling", limit=5000) != before
    with transaction(engine) as session:
        changes.remove_rule(session, rule_id, agreed=None, by=ADMIN, now=clinic.clock.now())
    assert clinic.offers("Needling", limit=5000) == before
    assert clinic.violations() == {}
    with pytest.raises(Invalid), transaction(engine) as session:
        changes.remove_rule(session, 1, agreed=None, by=ADMIN, now=clinic.clock.now())
    with pytest.raises(NotFound), transaction(engine) as session:
        changes.remove_rule(session, 9, agreed=None, by=ADMIN, now=clinic.clock.now())


def test_a_review_is_noted_even_when_nothing_changed(clinic: Clinic, engine: Engine) -> None:
    for next_review in (FAR_AHEAD, TODAY + 365 * DAY):
        with transaction(engine) as session:
            rule = session.get_one(StateRule, 1)
            seal = edits.seal_of(edits.read_off(RuleDetails, rule))
            changes.review_rule(session, 1, "test", next_review, seal=seal, by=ADMIN, now=clinic.clock.now())
    assert [(action, detail) for action, _, detail in audited(engine)] == [
        ("state_rule.reviewed", {}),
        ("state_rule.reviewed", {"review_on": [FAR_AHEAD.isoformat(), (TODAY + 365 * DAY).isoformat()]}),
    ]


def test_visits_that_do_not_fit_are_found_in_as_many_queries_however_many(clinic: Clinic, engine: Engine) -> None:
    found = []
    for offers in ([clinic.offers()[0]], clinic.offers(from_=TODAY + DAY, limit=99)[::4]):
        for offer in offers:
            clinic.book(str(offer.slot))
        with reading(engine) as session, statements(engine) as sent:
            assert consequences.unfit(session, now=clinic.clock.now()) == []
        found.append(len(sent))
    assert found[0] == found[1]
