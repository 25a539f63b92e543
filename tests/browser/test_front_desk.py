"""An hour at the front desk: somebody walks in, somebody calls, somebody calls off, and some have to be called."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import Engine, select

from scheduler.db import transaction
from scheduler.models import Appointment, Fate, Kind, OutboxMessage, Patient
from scheduler.services import demo
from tests.browser.test_axe import found
from tests.browser.test_flow import follows_by_keyboard, goes, tabs_to
from tests.browser.visitor import Visitor, visiting
from tests.server import Server

DESK = "desk@demo.example"
SOME_TIME = r"(Today|Tomorrow|\w+day), .*"


@dataclass
class Desk(Visitor):
    """Somebody at work there; `looked` are the pages that axe has seen, each in each of its states."""

    looked: set[str] = field(default_factory=set)
    javascript: bool = True


@contextmanager
def at_the_desk(browser: Browser, server: Server, width: int = 1280, *, javascript: bool = True) -> Iterator[Desk]:
    with visiting(browser, server, width=width, javascript=javascript) as somebody:
        fay = Desk(somebody.page, server, "en", width, javascript=javascript)
        fay.opens("/staff/desk")
        fay.types("E-mail", DESK)
        fay.types("Password", demo.PASSWORD)
        fay.presses("Sign in")
        reads(fay, "·")
        yield fay


def reads(fay: Desk, heading: str) -> None:
    """The page has this in its heading, and axe, when it sees it for the first time, has nothing to say about it."""
    expect(fay.page.get_by_role("heading", level=1)).to_contain_text(heading)
    said = fay.page.locator("main").get_by_role("status").or_(fay.page.locator("main").get_by_role("alert")).count()
    state = f"{re.sub(r'[0-9a-f-]{5,}', '', urlsplit(fay.page.url).path)} {heading} {said}"
    if fay.javascript and state not in fay.looked:
        assert found(fay) == {}, fay.page.url
        fay.looked.add(state)


def takes_a_time(fay: Desk) -> str:
    """Of those on the page the last, which is ahead for sure; return its words."""
    offered = fay.page.locator(".moments a").last
    label = offered.inner_text()
    fay.follows(offered)
    return label


def books_for_who_walks_in(fay: Desk, name: str, **typed: str) -> None:
    fay.presses("Front desk")
    fay.presses("Walk-in or booking")
    reads(fay, "Find a time")
    takes_a_time(fay)
    reads(fay, "Who comes?")
    fay.page.get_by_role("searchbox").fill(name)
    fay.presses("Search")
    reads(fay, "Who comes?")
    fay.presses("New patient")
    reads(fay, "New patient")
    expect(fay.field("Name")).to_have_value(name)
    fay.presses("Continue")
    expect(fay.page.get_by_role("alert")).to_contain_text("Write an e-mail address or a phone number.")
    reads(fay, "New patient")
    for name_of, text in typed.items():
        fay.types({"email": "E-mail", "phone": "Phone", "note": "What hurts? (optional)"}[name_of], text)
    fay.presses("Continue")
    reads(fay, "Is this right?")
    fay.presses("Book this visit")
    expect(fay.page.get_by_role("status")).to_contain_text("The visit is booked")
    expect(fay.page.locator("main")).to_contain_text(name)
    reads(fay, "·")


def books_for_who_calls(fay: Desk, name: str) -> None:
    fay.presses("Patients")
    reads(fay, "Find a patient")
    fay.page.get_by_role("searchbox").fill(name.rsplit(maxsplit=1)[-1].lower())
    fay.presses("Search")
    reads(fay, "Find a patient")
    fay.presses(name)
    reads(fay, name)
    fay.presses("Book a visit")
    reads(fay, "Find a time")
    takes_a_time(fay)
    reads(fay, name)
    fay.presses("Continue")
    reads(fay, "Is this right?")
    fay.presses("Book this visit")
    expect(fay.page.get_by_role("status")).to_contain_text("The confirmation is on its way by e-mail.")


def calls_off(fay: Desk, name: str) -> None:
    fay.opens(f"/staff/desk/patients?q={name.rsplit(maxsplit=1)[-1]}")
    fay.presses(name)
    fay.follows(fay.page.get_by_role("link", name=re.compile("^Cancel")).first)
    reads(fay, "Cancel this visit?")
    fay.types("Reason (optional)", "Has the flu")
    fay.presses("Yes, cancel it")
    expect(fay.page.get_by_role("status")).to_contain_text("Its time is free again.")
    reads(fay, "·")


def makes_a_call(fay: Desk, name: str) -> None:
    fay.presses("Calls")
    reads(fay, "Calls")
    fay.follows(fay.page.get_by_role("button", name=re.compile(f"Told.*{name}")))
    undo = fay.page.get_by_role("button", name=re.compile(f"Undo.*{name}"))
    expect(undo).to_be_visible()
    reads(fay, "Calls")
    fay.follows(undo)
    fay.follows(fay.page.get_by_role("button", name=re.compile(f"Told.*{name}")))
    expect(undo).to_be_visible()


def tries_a_message_again(fay: Desk, name: str) -> None:
    fay.presses("Calls")
    expect(fay.page.locator("main")).to_contain_text("550 no such user")
    reads(fay, "Calls")
    fay.follows(fay.page.get_by_role("button", name=re.compile(f"^Try again.*{name}")).first)
    expect(fay.page.get_by_role("status")).to_contain_text("goes out again")


def let_fail(engine: Engine, name: str) -> None:
    """The confirmation of somebody's visit was refused for good."""
    with transaction(engine) as session:
        of_them = (
            select(OutboxMessage)
            .join(Appointment, Appointment.id == OutboxMessage.appointment_id)
            .join(Patient, Patient.id == Appointment.patient_id)
            .where(Patient.name == name, OutboxMessage.kind == Kind.CONFIRMATION)
        )
        for message in session.scalars(of_them):
            message.status, message.reason, message.sent_at = Fate.FAILED, "550 no such user", None
            message.lease = message.leased_until = None


@pytest.mark.parametrize(("width", "javascript"), [(375, True), (1280, True), (1280, False)])
def test_an_hour_at_the_front_desk(
    browser: Browser, demo_server: Server, demo_database: Engine, width: int, javascript: bool
) -> None:
    name, unreached = (f"{first} O’Brien-{uuid4().hex[:6]}" for first in ("Zoë", "Ulla"))
    with at_the_desk(browser, demo_server, width, javascript=javascript) as fay:
        books_for_who_walks_in(fay, name, email=fay.email, note="Left knee")
        books_for_who_calls(fay, name)
        let_fail(demo_database, name)
        tries_a_message_again(fay, name)
        calls_off(fay, name)
        books_for_who_walks_in(fay, unreached, phone="217 555 0142")
        makes_a_call(fay, unreached)


def test_the_keyboard_alone_books_for_somebody_new_and_calls_it_off(browser: Browser, demo_server: Server) -> None:
    name = f"Kay Keys-{uuid4().hex[:6]}"
    with at_the_desk(browser, demo_server) as fay:
        page = fay.page
        goes(fay, "Walk-in or booking")
        tabs_to(page, "From")
        page.keyboard.type(f"{datetime.now(UTC) + timedelta(days=7):%m%d%Y}")
        goes(fay, "Show times")
        follows_by_keyboard(page, SOME_TIME)
        expect(page.get_by_role("heading", level=1)).to_have_text("Who comes?")
        goes(fay, "New patient")
        for label, text in (("Name", name), ("E-mail", fay.email), ("What hurts? (optional)", "My back")):
            tabs_to(page, re.escape(label))
            page.keyboard.type(text)
        goes(fay, "Continue")
        goes(fay, "Book this visit")
        expect(page.get_by_role("status")).to_contain_text("The visit is booked")
        goes(fay, "Patients")
        tabs_to(page, "Name, phone number or e-mail address")
        page.keyboard.type(name.rsplit(maxsplit=1)[-1])
        with page.expect_navigation():
            page.keyboard.press("Enter")
        expect(page.locator("main")).to_contain_text(fay.email)
        goes(fay, name)
        follows_by_keyboard(page, "Cancel.*")
        expect(page.get_by_role("heading", level=1)).to_have_text("Cancel this visit?")
        goes(fay, "Yes, cancel it")
        expect(page.get_by_role("status")).to_contain_text("Its time is free again.")


def test_the_day_on_paper_is_its_list_without_anything_to_press(browser: Browser, demo_server: Server) -> None:
    with at_the_desk(browser, demo_server) as fay:
        fay.page.emulate_media(media="print")
        for selector in ("header.site", ".bar", ".deeds", "button"):
            for one in fay.page.locator(selector).all():
                assert not one.is_visible(), selector
        expect(fay.page.get_by_role("heading", level=1)).to_be_visible()
