"""Accounts as an administrator changes them: what they may do, whether they are let in, and who must stay."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.models import Account, Role, StaffSession
from scheduler.services import accounts, edits, sign_in
from scheduler.services.accounts import AccountDetails, LastAdmin
from scheduler.services.edits import ChangedMeanwhile
from tests.clinic import Clinic
from tests.services.test_hours import ADMIN, audited
from tests.web.staff import an_account


@pytest.fixture
def admin(clinic: Clinic, engine: Engine, clock: FixedClock) -> Account:
    return an_account(engine, clock, Role.ADMIN)


def details(engine: Engine, account: Account) -> AccountDetails:
    with reading(engine) as session:
        return accounts.details_of(session, session.get_one(Account, account.id))


def change(engine: Engine, clock: FixedClock, account: Account, **new: Any) -> None:  # noqa: ANN401
    before = details(engine, account)
    with transaction(engine) as session:
        seal = edits.seal_of(before)
        accounts.change(session, account.id, replace(before, **new), seal=seal, by=ADMIN, now=clock.now())


def disable(engine: Engine, clock: FixedClock, account: Account) -> None:
    with transaction(engine) as session:
        accounts.disable(session, session.get_one(Account, account.id), by=ADMIN, now=clock.now())


def test_role_and_places_change_and_the_record_has_both(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK)
    change(engine, clock, desk, role="admin", everywhere=False, location_ids=(1,), needs_second_factor=False)
    after = details(engine, desk)
    assert (after.role, after.everywhere, after.location_ids, after.needs_second_factor) == ("admin", False, (1,), True)
    assert audited(engine) == [
        (
            "account.changed",
            str(desk.id),
            {
                "role": ["front-desk", "admin"],
                "everywhere": [True, False],
                "location_ids": [[], [1]],
                "needs_second_factor": [False, True],
            },
        )
    ]


@pytest.mark.parametrize("how", ["disabled", "demoted", "confined"])
def test_the_last_administrator_stays(admin: Account, engine: Engine, clock: FixedClock, how: str) -> None:
    an_account(engine, clock, Role.ADMIN, email="of-one-place@clinic.example", locations=[1])
    gone = an_account(engine, clock, Role.ADMIN, email="gone@clinic.example")
    disable(engine, clock, gone)
    before = details(engine, admin)
    with pytest.raises(LastAdmin):
        do(engine, clock, admin, how)
    assert details(engine, admin) == before
    with transaction(engine) as session:
        accounts.enable(session, gone.id, by=ADMIN, now=clock.now())
    do(engine, clock, admin, how)
    with pytest.raises(LastAdmin):
        do(engine, clock, gone, how)


def do(engine: Engine, clock: FixedClock, account: Account, how: str) -> None:
    match how:
        case "disabled":
            disable(engine, clock, account)
        case "demoted":
            change(engine, clock, account, role="front-desk")
        case _:
            change(engine, clock, account, everywhere=False, location_ids=(1,))


def test_an_administrator_without_a_password_yet_is_not_who_stays(
    admin: Account, engine: Engine, clock: FixedClock
) -> None:
    invited = an_account(engine, clock, Role.ADMIN, email="invited@clinic.example")
    with transaction(engine) as session:
        session.get_one(Account, invited.id).password_hash = None
    with pytest.raises(LastAdmin):
        disable(engine, clock, admin)


def test_whoever_is_disabled_is_out_at_once_and_can_be_let_in_again(
    admin: Account, engine: Engine, clock: FixedClock
) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK)
    with transaction(engine) as session:
        sign_in.begin(session, session.get_one(Account, desk.id), full=True, now=clock.now())
    disable(engine, clock, desk)
    with reading(engine) as session:
        assert session.scalars(select(StaffSession).where(StaffSession.account_id == desk.id)).all() == []
    for _ in range(2):
        with transaction(engine) as session:
            accounts.enable(session, desk.id, by=ADMIN, now=clock.now())
    assert [action for action, *_ in audited(engine)] == ["account.disabled", "account.enabled"]


def test_a_therapist_has_one_account(admin: Account, engine: Engine, clock: FixedClock) -> None:
    an_account(engine, clock, Role.THERAPIST, therapist_id=1)
    with pytest.raises(Invalid, match="therapist_id"):
        an_account(engine, clock, Role.THERAPIST, email="other@clinic.example", therapist_id=1)
    with pytest.raises(Invalid, match="therapist_id"):
        change(engine, clock, admin, therapist_id=1)


def test_a_change_of_what_somebody_else_changed_is_refused(admin: Account, engine: Engine, clock: FixedClock) -> None:
    before = details(engine, admin)
    change(engine, clock, admin, name="Somebody Else")
    with pytest.raises(ChangedMeanwhile), transaction(engine) as session:
        accounts.change(session, admin.id, before, seal=edits.seal_of(before), by=ADMIN, now=clock.now())
