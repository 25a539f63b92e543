"""What stands beside a password: an app's codes, codes on paper, and who must have one of them."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Barrier, BrokenBarrierError

import pyotp
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.keys import Keyring
from scheduler.models import Account, AuditEvent, Kind, OutboxMessage, Passkey, RecoveryCode, Role
from scheduler.services import second_factor
from scheduler.services import sign_in as sign_in_service
from scheduler.services.audit import Actor
from tests.clinic import Clinic
from tests.web.staff import PASSWORD, an_account, csrf_token, signed_in

HALF_MINUTE = timedelta(seconds=30)
EMAIL = "admin@clinic.example"


@pytest.fixture
def admin(engine: Engine, clock: FixedClock, clinic: Clinic) -> Account:
    return an_account(engine, clock, Role.ADMIN, second_factor=True)


def sign_in(client: FlaskClient) -> str:
    """Give the password; return where it leads."""
    form = {"csrf_token": csrf_token(client, "/staff/sign-in"), "email": EMAIL, "password": PASSWORD}
    return client.post("/staff/sign-in", data=form | {"next": "/staff/account/"}).headers["Location"]


def enroll(client: FlaskClient, clock: FixedClock) -> tuple[pyotp.TOTP, list[str]]:
    """Sign in and scan the picture with an app; return the app and the codes on paper."""
    sign_in(client)
    page = client.get("/staff/account/second-factor?next=/staff/account/").get_data(as_text=True)
    app = pyotp.TOTP(re.search(r"<code>([A-Z2-7]{32})</code>", page)[1])  # type: ignore[index]
    token = csrf_token(client, "/staff/account/second-factor")
    form = {"csrf_token": token, "code": app.at(clock.now()), "next": "/staff/account/"}
    answer = client.post("/staff/account/app", data=form)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return app, re.findall(r"<code>([0-9a-z-]{14})</code>", answer.get_data(as_text=True))


def asked_for_code(app: Flask) -> FlaskClient:
    """Another browser, where the password has been given and the code has not."""
    other = app.test_client()
    sign_in(other)
    return other


def give_code(client: FlaskClient, code: str) -> int:
    token = csrf_token(client, "/staff/second-factor")
    return client.post("/staff/second-factor", data={"csrf_token": token, "code": code}).status_code


def test_an_admin_with_a_password_alone_sees_nothing_but_how_to_get_a_second_factor(
    client: FlaskClient, admin: Account, clock: FixedClock
) -> None:
    assert sign_in(client) == "/staff/second-factor?next=/staff/account/"
    assert client.get("/staff/account/").headers["Location"].startswith("/staff/second-factor")
    assert client.get("/staff/second-factor").headers["Location"].startswith("/staff/account/second-factor")
    _, paper = enroll(client, clock)
    assert len(set(paper)) == 10
    assert client.get("/staff/account/").status_code == 200


def test_a_code_of_the_app_opens_once(app: Flask, client: FlaskClient, admin: Account, clock: FixedClock) -> None:
    totp, _ = enroll(client, clock)
    clock.at += 10 * HALF_MINUTE
    code = totp.at(clock.now())
    other = asked_for_code(app)
    assert other.get("/staff/account/").status_code == 303
    assert give_code(other, f" {code[:3]} {code[3:]}") == 303
    assert other.get("/staff/account/").status_code == 200
    third = asked_for_code(app)
    assert give_code(third, code) == 422
    assert third.get("/staff/account/").status_code == 303
    clock.at += HALF_MINUTE
    assert give_code(third, totp.at(clock.now())) == 303


@pytest.mark.parametrize(("late", "status"), [(-2, 422), (-1, 303), (0, 303), (1, 303), (2, 422)])
def test_a_phone_s_clock_may_be_half_a_minute_wrong(
    app: Flask, client: FlaskClient, admin: Account, clock: FixedClock, late: int, status: int
) -> None:
    totp, _ = enroll(client, clock)
    clock.at += 20 * HALF_MINUTE
    other = asked_for_code(app)
    assert give_code(other, totp.at(clock.now() + late * HALF_MINUTE)) == status


def test_a_code_on_paper_opens_once_and_only_its_own_account(
    app: Flask, client: FlaskClient, engine: Engine, admin: Account, clock: FixedClock
) -> None:
    _, paper = enroll(client, clock)
    for status in (303, 422):
        other = asked_for_code(app)
        assert give_code(other, paper[0].upper().replace("-", " ")) == status
    stranger = an_account(engine, clock, Role.THERAPIST)
    with transaction(engine) as session:
        other_account = session.get_one(Account, stranger.id)
        words = paper[1].replace("-", "")
        assert not second_factor._takes_paper_code(session, other_account, words, clock.now())


def told(engine: Engine, account: Account, kind: Kind) -> int:
    """How often the owner was told that somebody tried too often, or changed how to sign in."""
    with reading(engine) as session:
        owed = session.scalars(select(OutboxMessage).where(OutboxMessage.account_id == account.id)).all()
    return [message.kind for message in owed].count(kind)


def test_wrong_codes_are_counted_like_wrong_passwords(
    app: Flask, client: FlaskClient, engine: Engine, admin: Account, clock: FixedClock
) -> None:
    totp, _ = enroll(client, clock)
    clock.at += 10 * HALF_MINUTE
    other = asked_for_code(app)
    assert [give_code(other, "000000") for _ in range(5)] == [422] * 5
    assert give_code(other, totp.at(clock.now())) == 429
    assert told(engine, admin, Kind.LOCKED_OUT) == 1
    form = {"csrf_token": csrf_token(other, "/staff/second-factor"), "code": totp.at(clock.now())}
    page = other.post("/staff/second-factor", data=form)
    assert 0 < int(page.headers["Retry-After"]) <= 15 * 60 + 1
    assert "Wait a quarter of an hour" in page.get_data(as_text=True)
    clock.at += 16 * 2 * HALF_MINUTE
    sign_in(other)
    assert give_code(other, totp.at(clock.now())) == 303


def test_what_strangers_type_as_an_address_locks_nobody_s_codes(
    app: Flask, client: FlaskClient, engine: Engine, admin: Account, clock: FixedClock
) -> None:
    totp, _ = enroll(client, clock)
    clock.at += 10 * HALF_MINUTE
    other = app.test_client()
    tried = (f"code of {admin.id}", f"code {admin.id}", sign_in_service.tries_of_codes(admin).subject)
    for email in (tried * 5)[:10]:
        form = {"csrf_token": csrf_token(other, "/staff/sign-in"), "email": email, "password": "wrong password"}
        assert other.post("/staff/sign-in", data=form).status_code == 422
    sign_in(other)
    assert give_code(other, totp.at(clock.now())) == 303


def test_the_last_second_factor_of_an_admin_stays(
    app: Flask, engine: Engine, client: FlaskClient, admin: Account, clock: FixedClock
) -> None:
    enroll(client, clock)
    client.post("/staff/account/app/remove", data={"csrf_token": csrf_token(client)})
    with reading(engine) as session:
        assert session.get_one(Account, admin.id).totp_sealed is not None


def test_the_codes_on_paper_outlast_a_lost_key(
    app: Flask, engine: Engine, client: FlaskClient, admin: Account, clock: FixedClock
) -> None:
    """An app's secret that no key of ours opens is no app."""
    _, paper = enroll(client, clock)
    with transaction(engine) as session:
        session.get_one(Account, admin.id).totp_sealed = b"sealed by a key that is gone"
    other = asked_for_code(app)
    assert give_code(other, "000000") == 422
    assert give_code(other, paper[0]) == 303


def test_a_passkey_that_is_none_is_not_there(client: FlaskClient, admin: Account, clock: FixedClock) -> None:
    enroll(client, clock)
    for number in (7, 2**31, 10**30):
        token = csrf_token(client)
        assert client.post(f"/staff/account/passkey/{number}/remove", data={"csrf_token": token}).status_code == 404


def remove_both_at_once(engine: Engine, account: Account, now: datetime) -> list[BaseException | None]:
    """Take the app and the only passkey away in two transactions that overlap; return how each ended."""
    with transaction(engine) as session:
        own = session.get_one(Account, account.id)
        own.totp_sealed = b"sealed"
        passkey = Passkey(
            account_id=own.id, credential_id=b"1", public_key=b"1", sign_count=0, name="Phone", created_at=now
        )
        session.add(passkey)
    begun = Barrier(2)

    def remove(what: Callable[[Session, Account], None]) -> None:
        with transaction(engine) as session:
            own = session.get_one(Account, account.id)
            with suppress(BrokenBarrierError):
                begun.wait(0.5)  # on SQLite the second begins only when the first has ended
            what(session, own)
            time.sleep(0.3)

    by = Actor("test")
    with ThreadPoolExecutor() as pool:
        tried = [
            pool.submit(remove, lambda session, own: second_factor.forget_app(session, own, by=by, now=now)),
            pool.submit(
                remove, lambda session, own: second_factor.remove_passkey(session, own, passkey.id, by=by, now=now)
            ),
        ]
    return [one.exception() for one in tried]


def test_of_two_who_take_the_last_factors_away_at_once_one_is_refused(
    engine: Engine, admin: Account, clock: FixedClock
) -> None:
    ended = remove_both_at_once(engine, admin, clock.now())
    assert sorted(type(one).__name__ for one in ended) == ["Conflict", "NoneType"]
    with reading(engine) as session:
        assert second_factor.has_one(session, session.get_one(Account, admin.id))


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_without_the_lock_both_would_take_them_away(
    engine: Engine, admin: Account, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(second_factor, "_lock", lambda *_: None)
    assert remove_both_at_once(engine, admin, clock.now()) == [None, None]
    with reading(engine) as session:
        assert not second_factor.has_one(session, session.get_one(Account, admin.id))


def test_whoever_has_a_second_factor_cannot_add_another_with_the_password_alone(
    app: Flask, client: FlaskClient, admin: Account, clock: FixedClock
) -> None:
    enroll(client, clock)
    thief = asked_for_code(app)
    assert thief.get("/staff/account/second-factor").headers["Location"].startswith("/staff/sign-in")
    token = csrf_token(thief, "/staff/second-factor")
    for path in ("app", "passkey"):
        answer = thief.post(f"/staff/account/{path}", data={"csrf_token": token, "code": "1", "name": "x"})
        assert answer.headers["Location"].startswith("/staff/sign-in")


def test_secrets_are_sealed_and_nothing_secret_stands_in_the_audit(
    engine: Engine, client: FlaskClient, admin: Account, clock: FixedClock, keys: Keyring
) -> None:
    totp, paper = enroll(client, clock)
    with reading(engine) as session:
        account = session.get_one(Account, admin.id)
        assert totp.secret.encode() not in (account.totp_sealed or b"")
        assert keys.open(account.totp_sealed) == totp.secret
        stored = {code.code_sha256 for code in session.scalars(select(RecoveryCode))}
        assert not stored & {code.replace("-", "") for code in paper}
        noted = " ".join(str(event.detail) for event in session.scalars(select(AuditEvent)))
    assert totp.secret not in noted


def test_the_owner_is_told_of_every_change_of_the_ways_in_once_a_minute(
    client: FlaskClient, engine: Engine, admin: Account, clock: FixedClock
) -> None:
    enroll(client, clock)
    assert told(engine, admin, Kind.WAYS_IN_CHANGED) == 1  # the app and the codes that come with it
    clock.at += 2 * HALF_MINUTE
    client.post("/staff/account/paper-codes", data={"csrf_token": csrf_token(client)})
    assert told(engine, admin, Kind.WAYS_IN_CHANGED) == 2
    with transaction(engine) as session:
        own = session.get_one(Account, admin.id)
        second_factor.reset(session, own, by=Actor("test"), now=clock.now() + 2 * HALF_MINUTE)
    assert told(engine, admin, Kind.WAYS_IN_CHANGED) == 3


def test_new_codes_on_paper_replace_the_old(app: Flask, client: FlaskClient, admin: Account, clock: FixedClock) -> None:
    _, old = enroll(client, clock)
    client.post("/staff/account/paper-codes", data={"csrf_token": csrf_token(client)})
    other = asked_for_code(app)
    assert give_code(other, old[0]) == 422


def test_the_account_page_changes_the_password_of_whoever_knows_it(
    app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic
) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK)
    client, other = (signed_in(app, engine, clock, desk) for _ in range(2))
    new = "nine green kettles whisper"
    form = {"csrf_token": csrf_token(client), "password": new, "again": new}
    assert client.post("/staff/account/password", data=form | {"current": "wrong password"}).status_code == 422
    assert client.post("/staff/account/password", data=form | {"current": PASSWORD, "again": "x"}).status_code == 422
    assert client.post("/staff/account/password", data=form | {"current": PASSWORD}).status_code == 303
    assert client.get("/staff/account/").status_code == 200
    assert other.get("/staff/account/").status_code == 303


def test_whoever_guesses_the_password_at_an_open_screen_is_stopped_and_the_owner_told(
    app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic
) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK)
    client = signed_in(app, engine, clock, desk)
    form = {"csrf_token": csrf_token(client), "password": "nine green kettles", "again": "nine green kettles"}
    guesses = [client.post("/staff/account/password", data=form | {"current": f"guess {n}"}) for n in range(5)]
    assert [guess.status_code for guess in guesses] == [422] * 5
    page = client.post("/staff/account/password", data=form | {"current": PASSWORD})
    assert page.status_code == 429
    assert "Wait a quarter of an hour" in page.get_data(as_text=True)
    assert told(engine, desk, Kind.LOCKED_OUT) == 1


@pytest.mark.parametrize(
    "weak",
    [
        "short",
        "password1234",
        "qwertyuiop123",
        "Passw0rd!Passw0rd!",
        "front-desk@clinic.example",
        "aaaaaaaaaaaaaaaa",
        "a" * 201,
    ],
)
def test_a_password_that_is_easy_to_guess_is_refused(
    app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic, weak: str
) -> None:
    client = signed_in(app, engine, clock, an_account(engine, clock, Role.FRONT_DESK))
    form = {"csrf_token": csrf_token(client), "current": PASSWORD, "password": weak, "again": weak}
    assert client.post("/staff/account/password", data=form).status_code == 422


def test_the_actor_of_a_second_factor_is_noted(
    engine: Engine, clock: FixedClock, keys: Keyring, clinic: Clinic
) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK)
    secret = second_factor.new_secret()
    code = pyotp.TOTP(secret).at(clock.now())
    with transaction(engine) as session:
        own = session.get_one(Account, desk.id)
        second_factor.keep_secret(
            session, own, secret, code, by=Actor("account:1", "192.0.2.1"), keys=keys, now=clock.now()
        )
    with reading(engine) as session:
        noted = session.scalars(select(AuditEvent).where(AuditEvent.action == "account.app_added")).one()
    assert (noted.actor, noted.address, noted.entity_id) == ("account:1", "192.0.2.1", str(desk.id))
