"""Accounts as an administrator changes them: what they may do, whether they are let in, and who must stay."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyotp
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotFound
from scheduler.keys import Keyring
from scheduler.models import Account, Kind, OutboxMessage, Passkey, Role, StaffSession
from scheduler.services import accounts, edits, second_factor, sign_in
from scheduler.services.accounts import AccountDetails, LastAdmin
from scheduler.services.edits import ChangedMeanwhile
from tests.clinic import Clinic
from tests.conftest import MONDAY_MORNING
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


def owed(engine: Engine) -> list[tuple[str, str | None]]:
    with reading(engine) as session:
        return [(one.kind, one.about) for one in session.scalars(select(OutboxMessage).order_by(OutboxMessage.id))]


def test_a_corrected_address_ends_sessions_and_links_and_the_old_one_is_told(
    admin: Account, engine: Engine, clock: FixedClock, keys: Keyring
) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK)
    link = accounts.password_token(desk, keys=keys, now=clock.now())
    with transaction(engine) as session:
        sign_in.begin(session, session.get_one(Account, desk.id), full=True, now=clock.now())
    change(engine, clock, desk, email="Right@clinic.example")
    assert details(engine, desk).email == "right@clinic.example"
    with reading(engine) as session:
        assert session.scalars(select(StaffSession)).all() == []
        with pytest.raises(NotFound):
            accounts.of_token(session, link, keys=keys, now=clock.now())
        assert session.get_one(Account, desk.id).password_hash == desk.password_hash
    assert owed(engine) == [(Kind.ADDRESS_CHANGED, desk.email)]
    change(engine, clock, desk, email="RIGHT@clinic.example")
    assert len(owed(engine)) == 1
    assert [detail for _, _, detail in audited(engine)] == [{"email": [desk.email, "right@clinic.example"]}]


Deed = Callable[[Session, Account], None]
DEEDS: dict[str, Deed] = {
    "disabled": lambda session, account: accounts.disable(session, account, by=ADMIN, now=MONDAY_MORNING),
    "invited": lambda session, account: accounts.invite_again(session, account, by=ADMIN, now=MONDAY_MORNING),
    "set": lambda session, account: accounts.set_password(session, account, "x", by=ADMIN, now=MONDAY_MORNING),
}


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@pytest.mark.parametrize("deed", sorted(DEEDS))
def test_a_link_that_somebody_makes_at_the_same_moment_dies_too(
    admin: Account, engine: Engine, clock: FixedClock, keys: Keyring, deed: str
) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK)
    with transaction(engine) as session:
        read_before = session.get_one(Account, desk.id)
        with transaction(engine) as other:
            theirs = other.get_one(Account, desk.id)
            accounts.invite_again(other, theirs, by=ADMIN, now=clock.now())
            link = accounts.password_token(theirs, keys=keys, now=clock.now())
        DEEDS[deed](session, read_before)
    with transaction(engine) as session:
        accounts.enable(session, desk.id, by=ADMIN, now=clock.now())
        with pytest.raises(NotFound):
            accounts.of_token(session, link, keys=keys, now=clock.now())


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_an_app_that_is_added_at_the_same_moment_is_forgotten_too(
    admin: Account, engine: Engine, clock: FixedClock, keys: Keyring
) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK)
    secret = second_factor.new_secret()
    with transaction(engine) as session:
        read_before = session.get_one(Account, desk.id)
        with transaction(engine) as other:
            code, theirs = pyotp.TOTP(secret).at(clock.now()), other.get_one(Account, desk.id)
            second_factor.keep_secret(other, theirs, secret, code, by=ADMIN, keys=keys, now=clock.now())
        second_factor.reset(session, read_before, by=ADMIN, now=clock.now())
    with reading(engine) as session:
        assert not second_factor.has_one(session, session.get_one(Account, desk.id))


def test_whoever_has_no_password_yet_is_invited_at_the_corrected_address(
    admin: Account, engine: Engine, clock: FixedClock
) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK, email="tpyo@clinic.example")
    with transaction(engine) as session:
        session.get_one(Account, desk.id).password_hash = None
    change(engine, clock, desk, email="typo@clinic.example")
    assert owed(engine) == [(Kind.SET_PASSWORD, str(desk.generation + 1))]


@pytest.mark.parametrize("taken", ["desk@clinic.example", "Desk@Clinic.example"])
def test_an_address_belongs_to_one_account(admin: Account, engine: Engine, clock: FixedClock, taken: str) -> None:
    an_account(engine, clock, Role.FRONT_DESK, email="desk@clinic.example")
    before = details(engine, admin)
    with pytest.raises(Invalid, match="email"):
        change(engine, clock, admin, email=taken)
    assert (details(engine, admin), owed(engine)) == (before, [])


def test_whoever_lost_phone_and_paper_starts_with_the_password_alone(
    admin: Account, engine: Engine, clock: FixedClock, keys: Keyring
) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK, second_factor=True)
    for one in (admin, desk):
        with transaction(engine) as session:
            account = session.get_one(Account, one.id)
            secret = second_factor.new_secret()
            code = pyotp.TOTP(secret).at(clock.now())
            second_factor.keep_secret(session, account, secret, code, by=ADMIN, keys=keys, now=clock.now())
            second_factor.new_paper_codes(session, account, by=ADMIN, now=clock.now())
            session.add(
                Passkey(
                    account_id=one.id,
                    credential_id=bytes([one.id]),
                    public_key=b"key",
                    sign_count=0,
                    name="phone",
                    created_at=clock.now(),
                )
            )
            sign_in.begin(session, account, full=True, now=clock.now())
    with transaction(engine) as session:
        second_factor.reset(session, session.get_one(Account, desk.id), by=ADMIN, now=clock.now())
    with reading(engine) as session:
        for one, left in ((desk, 0), (admin, 1)):
            account = session.get_one(Account, one.id)
            assert second_factor.has_one(session, account) is bool(left)
            assert second_factor.paper_codes_left(session, account) == 10 * left
            assert len(session.scalars(select(StaffSession).where(StaffSession.account_id == one.id)).all()) == left
        assert session.get_one(Account, desk.id).needs_second_factor
    assert audited(engine)[-1] == ("account.second_factor_reset", str(desk.id), {})


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
