"""What a licence allows where, and when its end is near enough to be warned of."""

from datetime import timedelta

import pytest

from scheduler.db import reading, transaction
from scheduler.models import License, StateRule
from scheduler.services import licensing
from scheduler.services.licensing import Allows, Held, Validity
from scheduler.timeline import DAY
from tests.clinic import LONG_AGO, Clinic
from tests.services.test_schedule import ANA, MONDAY


def held(clinic: Clinic) -> list[Held]:
    with reading(clinic.engine) as session:
        return licensing.held_by(session, ANA, on=MONDAY)


@pytest.mark.parametrize(
    ("begins", "ends", "validity"),
    [
        (-DAY, -DAY, Validity.ENDED),
        (-DAY, timedelta(), Validity.ENDS_SOON),
        (timedelta(), 60 * DAY, Validity.ENDS_SOON),
        (timedelta(), 61 * DAY, Validity.VALID),
        (DAY, 400 * DAY, Validity.NOT_YET),
    ],
)
def test_a_licence_stands_by_its_dates(clinic: Clinic, begins: timedelta, ends: timedelta, validity: Validity) -> None:
    with transaction(clinic.engine) as session:
        for own in session.query(License):
            own.valid_from, own.valid_until = MONDAY + begins, MONDAY + ends
    assert {one.validity for one in held(clinic)} == {validity}


@pytest.mark.parametrize(
    ("needling", "qualification", "pt", "dry_needling"),
    [
        ("permitted", "dry_needling", Allows.VISITS, Allows.NEEDLING),
        ("silent", "dry_needling", Allows.VISITS, Allows.NEEDLING),
        ("permitted", None, Allows.NEEDLING_TOO, Allows.NOT_ASKED_FOR),
        ("permitted", "endorsement", Allows.VISITS, Allows.NOT_ASKED_FOR),
        ("forbidden", "dry_needling", Allows.VISITS, Allows.FORBIDDEN),
        ("forbidden", None, Allows.VISITS, Allows.FORBIDDEN),
    ],
)
def test_what_a_licence_allows_follows_the_rule_of_its_state(
    clinic: Clinic, needling: str, qualification: str | None, pt: Allows, dry_needling: Allows
) -> None:
    with transaction(clinic.engine) as session:
        for rule in session.query(StateRule):
            rule.needling, rule.qualification = needling, qualification
    assert [(one.license.kind, one.allows) for one in held(clinic)] == [("pt", pt), ("dry_needling", dry_needling)]


def test_without_a_rule_in_force_needling_is_not_allowed(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        for rule in session.query(StateRule):
            rule.valid_from = MONDAY + DAY
    assert [(one.allows, one.rule) for one in held(clinic)] == [(Allows.VISITS, None), (Allows.NO_RULE, None)]


def test_licences_of_others_are_not_listed(clinic: Clinic) -> None:
    clinic.add_therapist("Ben Brown", state="CO")
    assert {(one.license.therapist_id, one.license.valid_from) for one in held(clinic)} == {(ANA, LONG_AGO)}
