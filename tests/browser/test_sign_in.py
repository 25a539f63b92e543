"""Signing in with a real browser: by password, by a passkey, and back into a page that locked itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from playwright.sync_api import Browser, Page, Request, expect

from scheduler.services import demo
from tests.browser.test_axe import found
from tests.browser.visitor import Visitor, visiting
from tests.server import KEYS, Server

DESK = "desk@demo.example"
MINUTE = 60_000


@pytest.fixture
def named_server(demo_server: Server) -> Server:
    """The same by its name: passkeys belong to names, never to numbers."""
    return replace(demo_server, url=demo_server.url.replace("127.0.0.1", "localhost"))


def with_finger(page: Page) -> None:
    """Give the browser a device that keeps passkeys and whose owner always touches it."""
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": options})


@contextmanager
def at_work(browser: Browser, server: Server, width: int = 1280, *, javascript: bool = True) -> Iterator[Visitor]:
    with visiting(browser, server, width=width, javascript=javascript) as somebody:
        somebody.opens("/staff/account/")
        somebody.types("E-mail", DESK)
        somebody.types("Password", demo.PASSWORD)
        somebody.presses("Sign in")
        somebody.reads("My account")
        yield somebody


@pytest.mark.parametrize("width", [375, 1280])
def test_axe_finds_nothing_on_the_pages_around_signing_in(browser: Browser, named_server: Server, width: int) -> None:
    with visiting(browser, named_server, width=width) as somebody:
        somebody.opens("/staff/sign-in")
        assert found(somebody) == {}
        somebody.presses("Sign in")
        assert found(somebody) == {}
    with at_work(browser, named_server, width) as somebody:
        assert found(somebody) == {}
        somebody.presses("Add a passkey or an app")
        somebody.reads("Make your account safe")
        assert found(somebody) == {}


def sent_again(request: Request, server: Server) -> httpx.Response:
    """What whoever saw this request, cookie and all, is answered when they send it once more."""
    headers = {"Cookie": request.all_headers()["cookie"], "Content-Type": "application/x-www-form-urlencoded"}
    with server.client() as thief:
        return thief.post(urlsplit(request.url).path, content=request.post_data, headers=headers)


def asks_again(page: Page, request: Request) -> None:
    """Put the question of an earlier request into the browser's cookie, as if it had never been answered."""
    clinic = Flask("clinic")
    clinic.secret_key = KEYS["SECRET_KEY"]
    seal = SecureCookieSessionInterface().get_signing_serializer(clinic)
    assert seal is not None
    (now,) = [cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "staff"]
    earlier = SimpleCookie(request.all_headers()["cookie"])["staff"].value
    asked = {"challenge": seal.loads(earlier)["challenge"]}
    page.context.add_cookies([{"name": "staff", "value": seal.dumps(seal.loads(now) | asked), "url": page.url}])


def test_a_passkey_is_made_opens_the_account_and_is_taken_away(browser: Browser, named_server: Server) -> None:
    with at_work(browser, named_server) as somebody:
        page = somebody.page
        with_finger(page)
        somebody.presses("Add a passkey or an app")
        somebody.types("Name of this passkey", "My test phone")
        with page.expect_request("**/account/passkey") as made:
            somebody.presses("Make a passkey")
        somebody.reads("Your recovery codes")
        somebody.presses("I have them")
        somebody.reads("My account")
        somebody.presses("Sign out")
        somebody.reads("Sign in")
        with page.expect_request("**/sign-in/passkey") as sent:
            somebody.presses("Use a passkey")
        page.wait_for_url("**/staff/**")
        again = sent_again(sent.value, named_server)
        assert again.status_code != 303
        assert "The passkey was not accepted" in again.text
        somebody.opens("/staff/account/")
        somebody.reads("My account")
        somebody.follows(page.get_by_role("button", name="Remove My test phone"))
        expect(page.get_by_text("My test phone")).to_have_count(0)
        asks_again(page, made.value)
        form: dict[str, str | float | bool] = {**dict(parse_qsl(made.value.post_data))}
        form["csrf_token"] = page.locator("[name=csrf_token]").first.input_value()
        answer = page.request.post(made.value.url, form=form)
        assert answer.status == 422
        assert "The passkey could not be made" in answer.text()


def test_a_page_that_nobody_uses_warns_locks_and_comes_back_with_what_was_typed(
    browser: Browser, named_server: Server
) -> None:
    with visiting(browser, named_server) as somebody:
        somebody.page.clock.install()
        somebody.opens("/staff/account/")
        somebody.types("E-mail", DESK)
        somebody.types("Password", demo.PASSWORD)
        somebody.presses("Sign in")
        somebody.reads("My account")
        page = somebody.page
        page.get_by_label("New password").fill("typed before lunch")
        page.clock.fast_forward(13 * MINUTE + 6_000)
        expect(page.get_by_role("heading", name="Are you still there?")).to_be_visible()
        assert found(somebody) == {}
        somebody.control("I am here").click()
        expect(page.get_by_role("heading", name="Are you still there?")).to_be_hidden()
        page.clock.fast_forward(13 * MINUTE + 6_000)
        page.clock.fast_forward(2 * MINUTE)
        expect(page.get_by_role("heading", name="This page is locked")).to_be_visible()
        expect(page.locator("main")).to_be_hidden()
        page.keyboard.press("Escape")
        expect(page.get_by_role("heading", name="This page is locked")).to_be_visible()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Password").fill("not the password")
        dialog.get_by_role("button", name="Unlock").click()
        expect(dialog.get_by_text("That was not right. Try again.")).to_be_visible()
        assert found(somebody) == {}
        dialog.get_by_label("Password").fill(demo.PASSWORD)
        dialog.get_by_role("button", name="Unlock").click()
        expect(page.locator("main")).to_be_visible()
        expect(page.get_by_label("New password")).to_have_value("typed before lunch")


def test_signing_in_works_without_javascript(browser: Browser, named_server: Server) -> None:
    with at_work(browser, named_server, 375, javascript=False) as somebody:
        expect(somebody.page.get_by_role("button", name="Use a passkey")).to_be_hidden()
        somebody.presses("Sign out")
        somebody.reads("Sign in")
