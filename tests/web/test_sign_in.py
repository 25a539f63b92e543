"""Signing in: who comes in, who does not, and that nobody can tell why."""

from collections.abc import Callable
from datetime import timedelta

import argon2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import Account, Kind, OutboxMessage, Role, StaffSession
from scheduler.services import accounts, sign_in
from scheduler.services.audit import Actor
from tests.clinic import Clinic
from tests.web.staff import PASSWORD, an_account, csrf_token, signed_in

MINUTE = timedelta(minutes=1)
EMAIL = "front-desk@clinic.example"


@pytest.fixture
def desk(engine: Engine, clock: FixedClock, clinic: Clinic) -> Account:
    return an_account(engine, clock, Role.FRONT_DESK)


@pytest.fixture
def at_desk(app: Flask, engine: Engine, clock: FixedClock, desk: Account) -> FlaskClient:
    return signed_in(app, engine, clock, desk)


def try_to_sign_in(client: FlaskClient, email: str, password: str, to: str = "") -> tuple[int, str, str]:
    """Status, where it leads, and what the page says."""
    token = csrf_token(client, "/staff/sign-in")
    form = {"csrf_token": token, "email": email, "password": password, "next": to}
    answer = client.post("/staff/sign-in", data=form)
    return answer.status_code, answer.headers.get("Location", ""), answer.get_data(as_text=True)


def test_whoever_knows_the_password_comes_in_and_out_again(client: FlaskClient, desk: Account) -> None:
    assert client.get("/staff/account/").status_code == 303
    assert try_to_sign_in(client, EMAIL.upper(), PASSWORD, "/staff/account/")[:2] == (303, "/staff/account/")
    assert client.get("/staff/account/").status_code == 200
    client.post("/staff/sign-out", data={"csrf_token": csrf_token(client)})
    assert client.get("/staff/account/").headers["Location"].startswith("/staff/sign-in")


def test_an_unknown_address_a_wrong_password_and_a_disabled_account_read_alike(
    client: FlaskClient, engine: Engine, clock: FixedClock, desk: Account
) -> None:
    wrong = try_to_sign_in(client, EMAIL, "wrong password of mine")
    unknown = try_to_sign_in(client, "nobody1234@clinic.exam", PASSWORD)
    with transaction(engine) as session:
        accounts.disable(session, session.get_one(Account, desk.id), by=Actor("test"), now=clock.now())
    disabled = try_to_sign_in(client, EMAIL, PASSWORD)
    pages = [text.replace(EMAIL, "x").replace("nobody1234@clinic.exam", "x") for *_, text in (wrong, unknown, disabled)]
    assert [status for status, *_ in (wrong, unknown, disabled)] == [422] * 3
    assert len({without_tokens(page) for page in pages}) == 1


def without_tokens(page: str) -> str:
    lines = page.splitlines()
    return "\n".join(line for line in lines if "csrf_token" not in line and "data-options" not in line)


def test_nobody_can_tell_by_the_time_who_has_an_account(
    client: FlaskClient, desk: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one slow thing happens once for everybody, with the same work to do."""
    asked: list[argon2.Parameters] = []
    real = accounts.hasher

    class Watched:
        hash = staticmethod(real.hash)

        def verify(self, password_hash: str, password: str) -> bool:
            asked.append(argon2.extract_parameters(password_hash))
            return real.verify(password_hash, password)

    monkeypatch.setattr(accounts, "hasher", Watched())
    for email in (EMAIL, "nobody@clinic.example"):
        try_to_sign_in(client, email, "wrong password of mine")
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_five_wrong_passwords_lock_even_the_right_one_out_and_tell_the_owner_once(
    client: FlaskClient, engine: Engine, clock: FixedClock, desk: Account
) -> None:
    assert [try_to_sign_in(client, EMAIL, f"wrong password {n}")[0] for n in range(5)] == [422] * 5
    assert [try_to_sign_in(client, EMAIL, PASSWORD)[0] for _ in range(3)] == [429] * 3
    with reading(engine) as session:
        told = session.scalars(select(OutboxMessage).where(OutboxMessage.account_id == desk.id)).all()
    assert [message.kind for message in told] == [Kind.LOCKED_OUT]
    clock.at += 16 * MINUTE
    assert try_to_sign_in(client, EMAIL, PASSWORD)[0] == 303


def test_an_unknown_address_is_locked_out_just_the_same(client: FlaskClient, desk: Account) -> None:
    tries = [try_to_sign_in(client, "nobody@clinic.example", f"wrong password {n}")[0] for n in range(6)]
    assert tries == [422] * 5 + [429]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_busy_clinic_behind_one_address_is_never_locked_out(
    app: Flask, desk: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "TRIES_OF_ADDRESS", 3)
    assert [try_to_sign_in(app.test_client(), EMAIL, PASSWORD)[0] for _ in range(6)] == [303] * 6
    wrong = [try_to_sign_in(app.test_client(), f"x{n}@clinic.example", PASSWORD)[0] for n in range(4)]
    assert wrong == [422] * 3 + [429]


def test_a_session_locks_after_fifteen_idle_minutes_and_opens_with_what_was_typed(
    at_desk: FlaskClient, clock: FixedClock
) -> None:
    token = csrf_token(at_desk)
    clock.at += 15 * MINUTE
    locked = at_desk.post("/staff/account/paper-codes?x=1", data={"csrf_token": token, "note": "typed <b>"})
    page = locked.get_data(as_text=True)
    assert locked.status_code == 403
    assert 'name="note" value="typed &lt;b&gt;"' in page
    form = {
        "csrf_token": token,
        "unlock_path": "/staff/account/paper-codes?x=1",
        "unlock_method": "POST",
        "note": "typed",
    }
    wrong = at_desk.post("/staff/unlock", data=form | {"unlock_password": "wrong password"})
    assert (wrong.status_code, 'name="note" value="typed"' in wrong.get_data(as_text=True)) == (403, True)
    right = at_desk.post("/staff/unlock", data=form | {"unlock_password": PASSWORD})
    assert (right.status_code, right.headers["Location"]) == (307, "/staff/account/paper-codes?x=1")
    assert at_desk.get("/staff/account/").status_code == 200


def test_a_session_ends_after_twelve_hours_however_busy(at_desk: FlaskClient, clock: FixedClock) -> None:
    for _ in range(72):
        assert at_desk.get("/staff/account/").status_code == 200
        clock.at += 10 * MINUTE
    assert at_desk.get("/staff/account/").status_code == 303


@pytest.mark.parametrize("how", ["signed out", "password changed", "disabled", "everywhere"])
def test_a_session_that_was_ended_elsewhere_opens_nothing(
    app: Flask, engine: Engine, clock: FixedClock, desk: Account, at_desk: FlaskClient, how: str
) -> None:
    with reading(engine) as session:
        assert session.scalars(select(StaffSession)).all()
    other = signed_in(app, engine, clock, desk)
    with transaction(engine) as session:
        own = session.get_one(Account, desk.id)
        change: dict[str, Callable[[], None]] = {
            "password changed": lambda: accounts.set_password(session, own, "x", by=Actor("test"), now=clock.now()),
            "disabled": lambda: accounts.disable(session, own, by=Actor("test"), now=clock.now()),
            "everywhere": lambda: accounts.sign_out_everywhere(session, own),
        }
        change.get(how, lambda: None)()
    if how == "signed out":
        at_desk.post("/staff/sign-out", data={"csrf_token": csrf_token(at_desk)})
        assert other.get("/staff/account/").status_code == 200
    assert at_desk.get("/staff/account/").status_code == 303


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.test/",
        "//evil.test",
        "/\\evil.test",
        "/staff\\@evil.test",
        "/book",
        "",
        "javascript:alert(1)",
        "/staff/\r\nX: y",
    ],
)
def test_a_redirect_stays_on_the_staff_s_pages(client: FlaskClient, desk: Account, to: str) -> None:
    assert try_to_sign_in(client, EMAIL, PASSWORD, to)[:2] == (303, "/staff/")


def test_a_form_without_our_token_is_refused(at_desk: FlaskClient) -> None:
    assert at_desk.post("/staff/account/sign-out-everywhere").status_code == 400
    assert at_desk.get("/staff/account/").status_code == 200
