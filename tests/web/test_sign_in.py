"""Signing in: who comes in, who does not, and that nobody can tell why."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from html import unescape
from io import BytesIO
from threading import Event

import argon2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from werkzeug.test import TestResponse

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import NotFound
from scheduler.keys import fingerprint
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


def hidden(answer: TestResponse) -> dict[str, str]:
    """What a page's forms carry."""
    tags = re.findall(r'<input[^>]* type="hidden"[^>]*>', answer.get_data(as_text=True))
    named = (re.findall(r' (name|value)="([^"]*)"', tag) for tag in tags)
    pairs = (dict(attributes) for attributes in named)
    return {pair["name"]: unescape(pair.get("value", "")) for pair in pairs}


def unlocked(client: FlaskClient, locked: TestResponse, **typed: str) -> TestResponse:
    """Send the form of a locked page, and go on where it leads, as browsers do."""
    form = hidden(locked) | typed
    answer = client.post("/staff/unlock", data=form)
    return client.post(answer.headers["Location"], data=form) if answer.status_code == 307 else answer


def test_a_session_locks_after_fifteen_idle_minutes_and_opens_with_what_was_typed(
    app: Flask, at_desk: FlaskClient, clock: FixedClock, clinic: Clinic
) -> None:
    offer = clinic.offers("Follow-up")[0]
    path, token = f"/staff/desk/book/{offer.slot}?new=1", csrf_token(at_desk)
    typed = {"name": "Zoe <b>Secretpatient</b>", "phone": "217 555 0142", "note": "HIV positive"}
    clock.at += 15 * MINUTE
    locked = at_desk.post(path, data=typed | {"csrf_token": token, "step": "check", "password": "hunter2 hunter2"})
    assert locked.status_code == 403
    wrong = unlocked(at_desk, locked, unlock_password=PASSWORD + "!")
    for page in (locked, wrong):
        text = page.get_data(as_text=True)
        assert not [word for word in ("Secretpatient", "555 0142", "HIV positive", "hunter2 hunter2") if word in text]
    back = unlocked(at_desk, wrong, unlock_password=PASSWORD).get_data(as_text=True)
    assert [word for word in ("Zoe &lt;b&gt;Secretpatient", "217", "HIV positive") if word in back] == [
        "Zoe &lt;b&gt;Secretpatient", "217", "HIV positive",
    ]  # fmt: skip
    assert at_desk.get("/staff/account/").status_code == 200


def test_what_one_typed_is_opened_to_nobody_else(
    app: Flask, engine: Engine, at_desk: FlaskClient, clock: FixedClock, clinic: Clinic
) -> None:
    path, token = f"/staff/desk/book/{clinic.offers('Follow-up')[0].slot}?new=1", csrf_token(at_desk)
    clock.at += 15 * MINUTE
    locked = at_desk.post(path, data={"csrf_token": token, "name": "Zoe Secretpatient", "step": "check"})
    sealed = re.search(r'name="unlock_typed" value="([^"]+)"', locked.get_data(as_text=True))
    assert sealed is not None
    other = signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN, email="other@clinic.example"))
    form = {"csrf_token": csrf_token(other), "unlock_typed": sealed[1], "step": "check"}
    assert "Secretpatient" not in other.post(path, data=form).get_data(as_text=True)
    assert other.post(path, data=form | {"unlock_typed": "made up"}).status_code == 400


def test_a_file_that_was_sent_to_a_locked_page_goes_through_with_it(
    app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic
) -> None:
    admin = signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))
    people = "".join(f"Pat {fingerprint(str(n))[:40]},p{n}@example.com\n" for n in range(4000))
    token, path = csrf_token(admin), "/admin/moving-in/patients"
    first = admin.post(path, data={"csrf_token": token, "file": (BytesIO(f"name,email\n{people}".encode()), "p.csv")})
    form = hidden(first) | {"step": "list"}
    assert len(form["file"]) > 100_000
    clock.at += 15 * MINUTE
    answer = unlocked(admin, admin.post(path, data=form), unlock_password=PASSWORD)
    assert answer.status_code == 200
    assert "\r\n4001," in answer.get_data(as_text=True)


def test_strangers_cannot_keep_somebody_out_of_their_own_locked_page(
    app: Flask, at_desk: FlaskClient, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "TRIES_OF_ADDRESS", 8)
    clock.at += 15 * MINUTE
    locked = at_desk.get("/staff/account/")
    strangers = app.test_client()
    assert [try_to_sign_in(strangers, EMAIL, f"wrong {n}")[0] for n in range(6)] == [422] * 5 + [429]
    for n in range(4):
        try_to_sign_in(strangers, f"x{n}@clinic.example", PASSWORD)
    assert unlocked(at_desk, locked, unlock_password=PASSWORD).status_code == 303
    clock.at += 15 * MINUTE
    locked = at_desk.get("/staff/account/")
    wrong = [unlocked(at_desk, locked, unlock_password=f"guess {n}").status_code for n in range(5)]
    assert wrong == [403] * 5
    assert "Too many wrong tries" in unlocked(at_desk, locked, unlock_password=PASSWORD).get_data(as_text=True)


def test_whoever_changes_the_ways_in_shows_first_who_they_are(at_desk: FlaskClient, clock: FixedClock) -> None:
    token = csrf_token(at_desk)
    for _ in range(2):
        clock.at += 8 * MINUTE
        assert at_desk.get("/staff/account/").status_code == 200
    changes = ("passkey", "app", "app/remove", "passkey/1/remove", "paper-codes")
    answers = [at_desk.post(f"/staff/account/{change}", data={"csrf_token": token}) for change in changes]
    assert [answer.status_code for answer in answers] == [403] * len(changes)
    assert at_desk.get("/staff/account/second-factor").status_code == 403
    assert "show that it is still you" in answers[-1].get_data(as_text=True)
    assert "Your recovery codes" in unlocked(at_desk, answers[-1], unlock_password=PASSWORD).get_data(as_text=True)


def test_the_owner_is_told_at_the_last_try_not_only_once_it_is_too_many(
    client: FlaskClient, engine: Engine, clock: FixedClock, desk: Account
) -> None:
    told = []
    for n in range(10):
        try_to_sign_in(client, EMAIL, f"wrong password {n}")
        with reading(engine) as session:
            told.append(len(session.scalars(select(OutboxMessage).where(OutboxMessage.account_id == desk.id)).all()))
        clock.at += 16 * MINUTE if n == 4 else MINUTE
    assert told == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("email", ["a\0b@clinic.example", "\ud800@clinic.example", "a\r\nb@clinic.example"])
def test_an_address_that_no_database_stores_is_nobody_s(client: FlaskClient, desk: Account, email: str) -> None:
    assert try_to_sign_in(client, email.encode("utf-8", "replace").decode(), PASSWORD)[0] == 422


def test_of_two_with_the_same_link_one_sets_the_password(
    app: Flask, engine: Engine, clock: FixedClock, desk: Account
) -> None:
    keys = app.extensions["scheduler"].keys
    token = accounts.password_token(desk, keys=keys, now=clock.now())

    def set_it(own: str) -> str:
        with transaction(engine) as session:
            account = accounts.of_token(session, token, keys=keys, now=clock.now(), to_set=True)
            both.wait(1)  # for as long as both can hold it
            accounts.set_password(session, account, own, by=Actor("test"), now=clock.now())
        return own

    both = Event()
    with ThreadPoolExecutor() as pool:
        tried = [pool.submit(set_it, own) for own in ("one", "other")]
    refused = [isinstance(one.exception(), NotFound) for one in tried]
    assert sorted(refused) == [False, True]
    with reading(engine) as session:
        assert session.get_one(Account, desk.id).password_hash == tried[refused.index(False)].result()


def test_what_somebody_looked_for_stands_in_no_address_of_the_sign_in(client: FlaskClient, desk: Account) -> None:
    to = client.get("/staff/desk/patients?q=Zoe+Secretpatient&after=").headers["Location"]
    assert to == "/staff/sign-in?next=/staff/desk/patients?after%3D"


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
        "/staff/../api/v1/holds",
    ],
)
def test_a_redirect_stays_on_the_staff_s_pages(client: FlaskClient, desk: Account, to: str) -> None:
    assert try_to_sign_in(client, EMAIL, PASSWORD, to)[:2] == (303, "/staff/")


def test_a_form_without_our_token_is_refused(at_desk: FlaskClient) -> None:
    assert at_desk.post("/staff/account/sign-out-everywhere").status_code == 400
    assert at_desk.get("/staff/account/").status_code == 200
