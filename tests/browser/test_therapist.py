"""A therapist's day on a phone and at a desk: open it, mark who came, take a mark back, book a follow-up."""

import re
from datetime import date, timedelta

import pytest
from playwright.sync_api import Locator, expect
from sqlalchemy import Engine

from scheduler.db import reading
from scheduler.models import Appointment
from tests.browser.conftest import Visit
from tests.browser.staff import a_day, signs_in
from tests.browser.test_axe import found
from tests.browser.test_flow import follows_by_keyboard, goes
from tests.browser.visitor import Visitor

PHONE, DESK = 375, 1280
SMALLEST_TARGET = 44


@pytest.mark.parametrize(("width", "therapist", "javascript"), [(PHONE, 5, True), (DESK, 6, True), (PHONE, 4, False)])
def test_a_day_is_opened_marked_and_followed_up(
    visit: Visit, demo_database: Engine, width: int, therapist: int, javascript: bool
) -> None:
    """Axe is asked wherever it can run, which is with JavaScript only."""
    day = a_day(demo_database, therapist)
    (_, name), (_, other), *_ = day.visits
    complaints = found if javascript else no_complaints
    with visit(width=width, javascript=javascript) as ana:
        signs_in(ana, day.email)
        assert [entry.get_by_role("heading").inner_text() for entry in entries(ana)] == [one for _, one in day.visits]
        assert complaints(ana) == {}
        for button in ana.page.locator(".marks button").all():
            box = button.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= SMALLEST_TARGET
        ana.presses(f"Arrived {name}")
        stands(ana, name, "Arrived")
        ana.presses(f"Undo Arrived, {name}")
        stands(ana, name, "Booked")
        ana.presses(f"Arrived {name}")
        ana.presses(f"Done {name}")
        stands(ana, name, "Done")
        ana.presses(f"No-show {other}")
        stands(ana, other, "No-show")
        assert complaints(ana) == {}
        assert [status_of(demo_database, one) for one, _ in day.visits] == ["fulfilled", "noshow", "booked", "booked"]
        ana.presses(name)
        ana.reads(name)
        assert complaints(ana) == {}
        ana.presses("Book a follow-up")
        ana.reads(f"Follow-up for {name}")
        assert complaints(ana) == {}
        ana.follows(ana.page.locator(".times a").first)
        ana.reads("Book this follow-up?")
        assert complaints(ana) == {}
        ana.presses("Book it")
        expect(ana.page.get_by_role("status")).to_have_text("The follow-up is booked.")
        ana.reads(name)
        assert complaints(ana) == {}


@pytest.mark.parametrize(("width", "therapist"), [(PHONE, 7), (DESK, 8)])
def test_axe_finds_nothing_on_what_else_is_a_therapist_s_own(
    visit: Visit, demo_database: Engine, width: int, therapist: int
) -> None:
    day = a_day(demo_database, therapist)
    with visit(width=width) as ana:
        signs_in(ana, day.email)
        ana.presses("Week")
        expect(ana.page.get_by_role("heading", level=1)).to_contain_text("Week of")
        assert found(ana) == {}
        ana.presses("Next")
        assert found(ana) == {}
        ana.presses("My licenses")
        ana.reads("My licenses")
        assert found(ana) == {}
        ana.opens("/staff/calendar-feed")
        assert found(ana) == {}
        ana.presses("Make a link")
        assert found(ana) == {}
        assert "/feeds/" in ana.field("Private link").input_value()
        ana.presses("Revoke the link")
        assert found(ana) == {}


def test_the_keyboard_alone_marks_and_books(visit: Visit, demo_database: Engine) -> None:
    day = a_day(demo_database, 9)
    name = day.visits[0][1]
    with visit(width=DESK) as ana:
        signs_in(ana, day.email)
        follows_by_keyboard(ana.page, rf"Arrived\s+{re.escape(name)}")
        stands(ana, name, "Arrived")
        follows_by_keyboard(ana.page, rf"Undo\s+Arrived, {re.escape(name)}", "Space")
        stands(ana, name, "Booked")
        goes(ana, name)
        goes(ana, "Book a follow-up")
        follows_by_keyboard(ana.page, r"\d+:\d\d .*")
        ana.reads("Book this follow-up?")
        goes(ana, "Book it")
        expect(ana.page.get_by_role("status")).to_have_text("The follow-up is booked.")


def test_a_week_fits_one_sheet_of_paper(visit: Visit, demo_database: Engine) -> None:
    """A week of the demo's that no other test books in."""
    day, quiet = a_day(demo_database, 10), date.today() + timedelta(days=35)  # noqa: DTZ011 any day of that week
    with visit(width=DESK) as ana:
        signs_in(ana, day.email, "/staff/?view=week")
        ana.opens(f"/staff/?view=week&day={quiet}")
        expect(ana.page.locator(".week .visits li").first).to_be_visible()
        sheets = ana.page.pdf(prefer_css_page_size=True)
        assert re.findall(rb"/Count (\d+)", sheets) == [b"1"]
        assert re.findall(rb"/MediaBox ?\[0 0 (\d+) (\d+)\]", sheets) == [(b"792", b"612")]
        ana.page.emulate_media(media="print")
        for control in (".steps", "header nav", ".own"):
            expect(ana.page.locator(control)).to_be_hidden()


def no_complaints(_ana: Visitor) -> dict[str, list[str]]:
    return {}


def entries(ana: Visitor) -> list[Locator]:
    return ana.page.locator(".visits > li").all()


def stands(ana: Visitor, name: str, status: str) -> None:
    """The visit of this patient says how it stands."""
    entry = ana.page.locator(".visits > li").filter(has=ana.page.get_by_role("heading", name=name, exact=True))
    expect(entry.locator(".status")).to_have_text(status)
    expect(entry).to_be_in_viewport()


def status_of(engine: Engine, visit_id: object) -> str:
    with reading(engine) as session:
        return session.get_one(Appointment, visit_id).status
