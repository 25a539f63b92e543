"""Therapists and their licences as an administrator changes them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotFound
from scheduler.models import Fate, Kind, License, Location, OutboxMessage, StateRule, Therapist
from scheduler.services import attention, edits, practice, staffing
from scheduler.services.attention import Attention
from scheduler.services.consequences import NotAgreed, Why
from scheduler.services.edits import ChangedMeanwhile
from scheduler.services.staffing import LicenseDetails, TherapistDetails
from scheduler.timeline import DAY
from tests.clinic import FAR_AHEAD, Clinic
from tests.services.test_hours import ADMIN, audited, days_offered
from tests.services.test_queries import statements

TODAY = date(2026, 11, 23)
ZOE = TherapistDetails("Zoe Young", "PT, OCS", ("en", "es"))
PT = LicenseDetails("pt", "IL", "070.012345", TODAY, FAR_AHEAD)


def add(engine: Engine, clock: FixedClock, therapist_id: int, licence: LicenseDetails) -> int:
    with transaction(engine) as session:
        return staffing.add_license(session, therapist_id, licence, by=ADMIN, now=clock.now()).id


def license_of(clinic: Clinic, kind: str) -> License:
    with reading(clinic.engine) as session:
        return session.scalars(select(License).where(License.kind == kind).order_by(License.id)).first() or License()


def change_license(clinic: Clinic, kind: str, agreed: str | None = None, **new: Any) -> None:  # noqa: ANN401
    licence = license_of(clinic, kind)
    before = staffing.license_details(licence)
    with transaction(clinic.engine) as session:
        staffing.change_license(
            session, licence.id, replace(before, **new), seal=edits.seal_of(before), agreed=agreed, by=ADMIN,
            now=clinic.clock.now(),
        )  # fmt: skip


def change_therapist(clinic: Clinic, agreed: str | None = None, **new: Any) -> None:  # noqa: ANN401
    with transaction(clinic.engine) as session:
        before = staffing.therapist_details(session, session.get_one(Therapist, 1))
        staffing.change_therapist(
            session, 1, replace(before, **new), seal=edits.seal_of(before), agreed=agreed, by=ADMIN,
            now=clinic.clock.now(),
        )  # fmt: skip


def agreeing(change: Callable[[str | None], object]) -> list[Why]:
    with pytest.raises(NotAgreed) as told:
        change(None)
    change(told.value.agreement)
    return [hit.why for hit in told.value.hits]


def test_a_new_therapist_can_be_booked_once_there_are_licence_and_hours(
    clinic: Clinic, engine: Engine, clock: FixedClock
) -> None:
    with transaction(engine) as session:
        zoe = staffing.add_therapist(session, ZOE, by=ADMIN, now=clock.now()).id
    clinic.add_hours(zoe, 1, weekdays=[5])
    assert clinic.offers(therapist_id=zoe) == []
    add(engine, clock, zoe, PT)
    assert {weekday for _, weekday in days_offered(clinic, therapist_id=zoe)} == {5}
    assert clinic.offers("Needling", therapist_id=zoe) == []
    add(engine, clock, zoe, replace(PT, kind="dry_needling"))
    assert clinic.offers("Needling", therapist_id=zoe)
    assert clinic.violations() == {}
    with reading(engine) as session:
        assert staffing.therapist_details(session, session.get_one(Therapist, zoe)) == ZOE
    assert [action for action, *_ in audited(engine)] == ["therapist.added", "license.added", "license.added"]


def test_a_therapist_who_goes_works_nowhere_and_their_visits_are_told(clinic: Clinic, engine: Engine) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot)).appointment
    assert agreeing(lambda agreed: change_therapist(clinic, agreed, active=False)) == [Why.THERAPIST_GONE]
    assert clinic.offers() == []
    with reading(engine) as session:
        assert practice.active_therapists(session) == []
        assert session.get_one(type(visit), visit.id).status == "booked"
    assert clinic.violations() == {}
    change_therapist(clinic, active=True)
    assert clinic.offers()
    assert clinic.violations() == {}


def test_languages_and_names_change_and_the_record_has_both(clinic: Clinic, engine: Engine) -> None:
    clinic.book(str(clinic.offers()[0].slot))
    change_therapist(clinic, name="Ana Becker", languages=("en", "es"))
    assert clinic.offers(language="es")
    assert audited(engine) == [
        ("therapist.changed", "1", {"name": ["Ana Abbott", "Ana Becker"], "languages": [["en"], ["en", "es"]]})
    ]


def test_a_licence_that_ends_sooner_tells_of_the_visits_after_it(clinic: Clinic) -> None:
    last = TODAY + 6 * DAY
    clinic.book(str(clinic.offers(from_=last)[0].slot))
    assert agreeing(lambda agreed: change_license(clinic, "pt", agreed, valid_until=last)) == [Why.NOT_LICENSED]
    assert max(day for day, _ in days_offered(clinic)) <= last
    assert clinic.violations() == {"visits ahead that the therapist is not licensed for": 1}
    change_license(clinic, "pt", valid_until=FAR_AHEAD)
    assert clinic.violations() == {}


def test_a_needling_licence_hits_only_visits_with_needling(clinic: Clinic) -> None:
    clinic.book(str(clinic.offers()[0].slot))
    change_license(clinic, "dry_needling", valid_until=TODAY - DAY)
    assert clinic.offers("Needling") == []
    assert clinic.offers()
    assert clinic.violations() == {}


def test_the_same_licence_is_stored_once(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    add(engine, clock, 1, PT)
    with pytest.raises(Invalid, match="number"):
        add(engine, clock, 1, PT)
    with pytest.raises(Invalid, match="number"):
        change_license(clinic, "pt", number=PT.number)
    with pytest.raises(NotFound):
        add(engine, clock, 9, PT)


def test_a_licence_is_verified_by_somebody_and_anew_when_it_changes(clinic: Clinic, engine: Engine) -> None:
    licence = license_of(clinic, "pt")
    seal = edits.seal_of(staffing.license_details(licence))
    with transaction(engine) as session:
        staffing.verify_license(session, licence.id, seal=seal, who="Some admin", by=ADMIN, now=clinic.clock.now())
    verified = license_of(clinic, "pt")
    assert (verified.verified_by, verified.verified_at) == ("Some admin", clinic.clock.now())
    change_license(clinic, "pt", evidence="https://idfpr.example/070.012345")
    assert license_of(clinic, "pt").verified_by == "Some admin"
    change_license(clinic, "pt", number="070.054321")
    assert (license_of(clinic, "pt").verified_by, license_of(clinic, "pt").verified_at) == (None, None)
    with pytest.raises(ChangedMeanwhile), transaction(engine) as session:
        staffing.verify_license(session, licence.id, seal=seal, who="Some admin", by=ADMIN, now=clinic.clock.now())
    assert [action for action, *_ in audited(engine)] == ["license.verified", "license.changed", "license.changed"]


def test_the_kinds_of_licences_are_those_that_rules_name(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(StateRule(**{**vars_of(Clinic.rule("WA")), "qualification": "endorsement"}))
    with reading(engine) as session:
        assert staffing.license_kinds(session) == ["pt", "dry_needling", "endorsement"]


def vars_of(rule: StateRule) -> dict[str, object]:
    return {name: getattr(rule, name) for name in ("state", "valid_from", "needling", "source", "review_on")}


def of_admin(engine: Engine, clock: FixedClock, places: list[int] | None = None) -> Attention:
    with reading(engine) as session:
        return attention.needed(session, places, now=clock.now())


def test_an_administrator_s_attention_is_called_to_what_ends_and_what_is_missing(
    clinic: Clinic, engine: Engine, clock: FixedClock
) -> None:
    assert of_admin(engine, clock) == Attention([], 2, [], [], 0, [], [], 0, 0, 0)
    change_license(clinic, "pt", valid_until=TODAY + 30 * DAY)
    change_license(clinic, "dry_needling", valid_until=TODAY + 90 * DAY)
    clinic.add_location("Dallas", "America/Chicago", "TX")
    with transaction(engine) as session:
        session.scalars(select(StateRule).where(StateRule.state == "IL")).one().review_on = TODAY + 10 * DAY
        session.scalars(select(StateRule).where(StateRule.state == "TX")).one().state = "AZ"
        session.get_one(Location, 2).online = False
    found = of_admin(engine, clock)
    assert [(licence.kind, therapist.name) for licence, therapist in found.ending] == [("pt", "Ana Abbott")]
    assert [rule.state for rule in found.rules_due] == ["IL"]
    assert (found.states_without_rule, [place.name for place in found.not_open]) == (["TX"], ["Dallas"])
    assert of_admin(engine, clock, [2]).ending == []
    assert of_admin(engine, clock, [1]).not_open == []
    with transaction(engine) as session:
        session.get_one(Location, 2).active = False
    assert of_admin(engine, clock).not_open == []


def test_a_licence_that_another_follows_does_not_end(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    change_license(clinic, "pt", valid_until=TODAY + 30 * DAY)
    add(engine, clock, 1, replace(PT, valid_from=TODAY + 31 * DAY))
    assert of_admin(engine, clock).ending == []


def test_messages_that_failed_are_counted_where_their_visits_are(
    clinic: Clinic, engine: Engine, clock: FixedClock
) -> None:
    clinic.book(str(clinic.offers()[0].slot))
    with transaction(engine) as session:
        message = session.scalars(select(OutboxMessage).where(OutboxMessage.kind == Kind.CONFIRMATION)).one()
        message.status, message.reason = Fate.FAILED, "no such mailbox"
    assert [of_admin(engine, clock, places).failed_messages for places in (None, [1], [2])] == [1, 1, 0]
    clock.at += 31 * DAY
    assert of_admin(engine, clock).failed_messages == 0


def test_attention_takes_as_many_queries_at_any_size(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    counts = []
    for number in range(2):
        with reading(engine) as session, statements(engine) as sent:
            attention.needed(session, None, now=clock.now())
        counts.append(len(sent))
        for other in range(3):
            place = clinic.add_location(f"Place {number} {other}")
            clinic.add_hours(clinic.add_therapist(f"Therapist {number} {other}"), place)
    assert counts[0] == counts[1]


def test_whose_therapists_are_whose(clinic: Clinic, engine: Engine) -> None:
    elsewhere = clinic.add_location("Elsewhere")
    both, none, other = (clinic.add_therapist(name) for name in ("Ben Becker", "Carla Dunn", "Dev Ellis"))
    clinic.add_hours(both, 1, weekdays=[0])
    clinic.add_hours(both, elsewhere, weekdays=[1])
    clinic.add_hours(other, elsewhere)

    def found(condition: Any) -> set[int]:  # noqa: ANN401 an expression
        with reading(engine) as session:
            return set(session.scalars(select(Therapist.id).where(condition)))

    assert found(staffing.works_at([1])) == {1, both, none}
    assert found(staffing.works_only_at([1])) == {1, none}
    assert found(staffing.works_at(None)) == found(staffing.works_only_at(None)) == {1, both, none, other}
