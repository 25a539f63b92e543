"""An administrator's first day: from an empty production database to the first visit that a patient books online."""

import os
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import Engine, select

from scheduler.db import make_engine, reading
from scheduler.models import Appointment
from scheduler.services import verify
from tests.browser.test_axe import found
from tests.browser.visitor import NAME, Visitor, visiting
from tests.server import Server, serving
from tests.test_moving_in_start import printed_link
from tests.test_serving import PRODUCTION
from tests.web.staff import PASSWORD

PICTURES = "PICTURES_OF_MOVING_IN"  # a folder, to look at every page on the way


@pytest.fixture
def empty_server(tmp_path: Path) -> Iterator[Server]:
    with serving(f"sqlite:///{tmp_path / 'new.db'}", tmp_path, **PRODUCTION) as server:
        yield server


@pytest.fixture
def new_database(empty_server: Server, tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path / 'new.db'}")
    yield engine
    engine.dispose()


def a_day_ahead(weekday: int) -> date:
    """The second such day from now, so that it is neither over nor too soon."""
    today = datetime.now(UTC).date()
    return today + timedelta(days=(weekday - today.weekday()) % 7 + 7)


def files(folder: Path) -> dict[str, Path]:
    monday = a_day_ahead(0).strftime("%m/%d/%Y")
    texts = {
        "Therapists": 'Provider,Degree,Languages\nAna Abbott,"PT, DPT","English, Spanish"\n',
        "Working hours": "Provider,Day,Start,End\n" + "".join(
            f"Ana Abbott,{day},8:00 AM,5:00 PM\n" for day in ("Mon", "Tue", "Wed", "Thu", "Fri")
        ),
        "Patients": "Name,E-mail,Mobile,DOB\nPat Doe,pat@example.com,,3/4/1980\nAnn Roe,,217 555 0142,\n",
        "Booked visits": (
            "Appt ID,Date,Time,Mins,Provider,Service,Client,E-mail\n"
            f"700,{monday},9:05 AM,40,Ana Abbott,PT re-eval,Pat Doe,\n"
            f"701,{monday},9:20 AM,40,Ana Abbott,Follow-up,Ann Roe,\n"
        ),
    }  # fmt: skip
    written = {}
    for name, text in texts.items():
        written[name] = folder / f"{name}.csv"
        written[name].write_text(text, encoding="utf-8-sig")
    return written


class Admin:
    """Somebody who moves in, and every page of theirs held to axe and to its width."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.pictures = 0

    def reads(self, heading: str) -> None:
        self.visitor.reads(heading)
        assert found(self.visitor) == {}, heading
        folder = os.environ.get(PICTURES)
        if folder:
            self.pictures += 1
            words = heading.partition(":")[0].replace(" ", "-").lower()
            name = f"{self.visitor.width}-{self.pictures:02}-{words}.png"
            self.visitor.page.screenshot(path=Path(folder) / name, full_page=True)

    def sees(self, text: str) -> None:
        expect(self.visitor.page.locator("main")).to_contain_text(text)

    def chooses(self, label: str, option: str) -> None:
        self.visitor.page.get_by_label(label, exact=True).select_option(option)

    def brings(self, name: str, file: Path) -> None:
        self.visitor.follows(self.visitor.page.locator("main section").get_by_role("link", name=name, exact=True))
        self.reads(f"Bring along: {name}")
        self.visitor.page.get_by_label("File", exact=True).set_input_files(file)
        self.visitor.presses("Try this file")
        self.reads(f"Try: {name}")


def set_up(admin: Admin, path: str) -> None:
    visitor = admin.visitor
    visitor.opens(path)
    admin.reads("Set up your clinic")
    visitor.presses("Make my account")
    admin.reads("Set up your clinic")
    for label, text in (("Your name", "Olive Owner"), ("E-mail", "olive@clinic.example")):
        visitor.types(label, text)
    visitor.types("New password", PASSWORD)
    visitor.types("The same again", PASSWORD)
    visitor.presses("Make my account")
    admin.reads("Sign in")
    visitor.types("E-mail", "olive@clinic.example")
    visitor.types("Password", PASSWORD)
    visitor.presses("Sign in")
    admin.reads("Make your account safe")
    secret = visitor.page.locator("code").first.inner_text()
    visitor.types("Code", pyotp.TOTP(secret).now())
    visitor.presses("Use this app")
    visitor.presses("I have them")
    admin.reads("Moving in")


LONG_AGO, FAR_AHEAD = "2020-01-01", "2099-12-31"
# What is entered by hand, since somebody must look at it: where, and what is typed or chosen under each label.
BY_HAND: dict[str, dict[str, str | tuple[str]]] = {
    "/admin/types/new": {"Name": "Follow-up", "Minutes": "45"},
    "/admin/locations/new": {
        "Name": "Springfield",
        "Area": "Springfield",
        "Address": "1 Main Street",
        "State": ("IL",),
        "Time zone": ("America/Chicago",),
        "Phone": "+1 217 555 0100",
    },
    "/admin/rules/new": {
        "State": ("IL",),
        "In force from": LONG_AGO,
        "Source": "The statute, looked up by Olive Owner",
        "Look it up again on": FAR_AHEAD,
    },
    "/admin/therapists/1/licenses/new": {
        "License": ("pt",),
        "State": ("IL",),
        "Number": "PT-1",
        "Valid from": LONG_AGO,
        "Valid until": FAR_AHEAD,
    },
}


def enters(admin: Admin, path: str) -> None:
    """Fill in one of the other pages of the administration and save it."""
    page = admin.visitor.page
    admin.visitor.opens(path)
    for label, value in BY_HAND[path].items():
        field = page.get_by_label(label, exact=True)
        field.select_option(value[0]) if isinstance(value, tuple) else field.fill(value)
    if path.startswith("/admin/rules"):
        page.get_by_label("Allowed", exact=True).check()
    admin.visitor.follows(page.locator("main form .btn-primary").first)
    expect(page).not_to_have_url(re.compile(re.escape(path)))


@pytest.mark.parametrize("width", [1280, 375])
def test_a_clinic_moves_in_and_takes_its_first_booking(
    browser: Browser, empty_server: Server, new_database: Engine, tmp_path: Path, width: int
) -> None:
    brought = files(tmp_path)
    _, path = printed_link(empty_server)
    with visiting(browser, empty_server, width=width) as visitor:
        admin = Admin(visitor)
        set_up(admin, path)
        admin.sees("There is no location yet.")
        for page in ("/admin/types/new", "/admin/locations/new", "/admin/rules/new"):
            enters(admin, page)
        visitor.opens("/admin/moving-in")
        admin.sees("Before patients can book here:")
        admin.brings("Therapists", brought["Therapists"])
        visitor.presses("Store 1 line")
        enters(admin, "/admin/therapists/1/licenses/new")
        visitor.opens("/admin/moving-in")
        admin.brings("Working hours", brought["Working hours"])
        visitor.presses("Store 5 lines")
        admin.brings("Patients", brought["Patients"])
        visitor.presses("Store 2 lines")
        admin.brings("Booked visits", brought["Booked visits"])
        admin.sees("there is no kind of visit “PT re-eval”")
        admin.chooses("PT re-eval", "Follow-up")
        visitor.presses("Try again")
        admin.reads("Try: Booked visits")
        admin.sees("this time is taken:")
        visitor.presses("Store 1 line, leave out the rest")
        admin.reads("Moving in")
        admin.sees("1 imported visit is ahead.")
        visitor.presses("Start reminders")
        admin.reads("Start reminders for imported visits")
        visitor.presses("Start reminders")
        admin.sees("Reminders begin")
        unread = visitor.page.get_by_role("button", name="I have read it")
        for left in (1, 0):
            visitor.follows(unread.first)
            expect(unread).to_have_count(left)
        admin.reads("Moving in")
        visitor.follows(visitor.page.get_by_role("button", name="Open online booking"))
        admin.sees("Patients book here online.")
        admin.reads("Moving in")
    first_online_booking(browser, empty_server)
    with reading(new_database) as session:
        assert [finding for finding in verify.verify(session, now=datetime.now(UTC)) if finding.violations] == []
        assert len(session.scalars(select(Appointment)).all()) == 2


def first_online_booking(browser: Browser, server: Server) -> None:
    with visiting(browser, server) as patient:
        patient.opens("/book")
        patient.follows(patient.page.locator(".times a").first)
        patient.reads("Your details")
        patient.introduces_themselves()
        patient.presses("Continue")
        patient.reads("Is this right?")
        expect(patient.page.locator("main")).to_contain_text(NAME)
        patient.presses("Book this visit")
        patient.reads("Your visit is booked")
