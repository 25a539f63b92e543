"""An administrator opens a new location with a real browser, up to the first visit that a patient books there."""

from collections.abc import Iterator
from datetime import date, timedelta

import pytest
from playwright.sync_api import Browser, expect

from scheduler.services import demo
from tests.browser.test_axe import found
from tests.browser.visitor import Visitor, visiting
from tests.server import Server, serving

ADMIN, THERAPIST = "admin@demo.example", "therapist@demo.example"
WIDTHS = [375, 1280]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of its own: what is added here would be in the way of other tests."""
    folder = tmp_path_factory.mktemp("admin")
    with serving(f"sqlite:///{folder / 'clinic.db'}", folder) as server:
        yield server


def signs_in(admin: Visitor, to: str, email: str = ADMIN) -> None:
    admin.opens(to)
    admin.types("E-mail", email)
    admin.types("Password", demo.PASSWORD)
    admin.presses("Sign in")


def is_clean(admin: Visitor) -> None:
    assert found(admin) == {}, admin.page.url


def saves(admin: Visitor, heading: str) -> None:
    admin.presses("Save")
    admin.reads(heading)
    expect(admin.page.get_by_text("Saved.")).to_be_visible()


def saves_after_a_look(admin: Visitor, heading: str) -> None:
    """Save what changes which times can be booked: that is told first."""
    admin.presses("Save")
    admin.reads("This changes what can be booked")
    expect(admin.page.get_by_role("table")).to_contain_text("Gained")
    saves(admin, heading)


def chooses(admin: Visitor, label: str, choice: str) -> None:
    admin.field(label).select_option(choice)


def adds_a_location(admin: Visitor, name: str) -> None:
    admin.presses("Locations")
    admin.reads("Locations")
    admin.presses("Add a location")
    admin.reads("New location")
    admin.presses("Save")
    expect(admin.page.get_by_role("alert")).to_contain_text("Write the address in one line of at most 200 characters.")
    for label, text in (
        ("Name", name),
        ("Area", "Springfield"),
        ("Address", "7 Oak Street"),
        ("Phone", "217 555 0142"),
    ):
        admin.types(label, text)
    chooses(admin, "State", "IL")
    chooses(admin, "Time zone", "America/Chicago")
    saves(admin, "Locations")


def adds_a_kind(admin: Visitor, name: str) -> None:
    admin.presses("Kinds of visit")
    admin.presses("Add a kind of visit")
    admin.types("Name", name)
    admin.types("Minutes", "30")
    saves_after_a_look(admin, "Kinds of visit")


def adds_a_therapist(admin: Visitor, name: str, place: str) -> None:
    admin.presses("Therapists")
    admin.presses("Add a therapist")
    admin.types("Name", name)
    admin.types("Letters after the name", "PT, DPT")
    admin.field("Spanish").check()
    saves(admin, f"{name}, PT, DPT")
    admin.presses("Add a license")
    chooses(admin, "State", "IL")
    admin.types("Number", f"070.{admin.width}")
    admin.types("Valid until", f"{date.today().year + 2}-12-31")  # noqa: DTZ011 any day far off
    saves(admin, f"{name}, PT, DPT")
    admin.presses("Add hours")
    chooses(admin, "Location", place)
    for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"):
        admin.field(day).check()
    admin.types("From", "08:00")
    admin.types("Until", "18:00")
    saves_after_a_look(admin, f"{name}, PT, DPT")


def opens_online(admin: Visitor, place: str) -> None:
    admin.presses("Moving in")
    admin.reads("Moving in")
    unread = admin.page.get_by_role("button", name="I have read it")
    for left in reversed(range(unread.count())):
        admin.follows(unread.first)
        expect(unread).to_have_count(left)
    admin.follows(admin.page.get_by_role("button", name=f"Open online booking {place}"))
    expect(admin.page.get_by_text("Patients can book there now.")).to_be_visible()


def would_let_go(admin: Visitor, name: str) -> None:
    """What that would do to the visit is told first, and nothing that was changed is lost."""
    admin.presses("Change name, languages, or whether they work here")
    admin.field("Works here").uncheck()
    admin.presses("Save")
    admin.reads("This changes 1 booked visit")
    expect(admin.page.locator(".hits")).to_contain_text(name)
    admin.presses("Back to the form")
    expect(admin.field("Works here")).not_to_be_checked()


@pytest.mark.parametrize(("width", "javascript"), [(375, False), (1280, True)])
def test_from_a_new_location_to_the_first_visit_booked_there(
    browser: Browser, server: Server, width: int, javascript: bool
) -> None:
    place, kind, therapist = (f"{name} {width}" for name in ("Oakville", "Check-up", "Nell North"))
    with visiting(browser, server, width=width, javascript=javascript) as admin:
        signs_in(admin, "/admin/")
        admin.reads("Administration")
        adds_a_location(admin, place)
        adds_a_kind(admin, kind)
        adds_a_therapist(admin, therapist, place)
        opens_online(admin, place)
        with visiting(browser, server, width=width, javascript=javascript) as patient:
            patient.opens("/book")
            patient.page.locator("summary").click()
            for label, choice in (("Kind of visit", kind), ("Clinic", place)):
                option = patient.field(label).locator("option").filter(has_text=choice).first
                patient.field(label).select_option(option.get_attribute("value"))
            patient.presses("Show times")
            patient.follows(patient.page.locator(".times a").first)
            patient.reads("Your details")
            patient.introduces_themselves()
            patient.presses("Continue")
            patient.presses("Book this visit")
            patient.reads("Your visit is booked")
            visit = patient.visit()
            assert (visit["location"]["name"], visit["therapist"]["name"]) == (place, therapist)
        admin.opens("/admin/therapists")
        admin.presses(f"{therapist}, PT, DPT")
        would_let_go(admin, therapist)


PAGES = (
    "", "policy", "locations", "locations/1", "types", "types/1", "rules", "rules/new", "rules/1", "therapists",
    "therapists/1", "therapists/1/hours/new", "licenses/1", "hours/1", "accounts", "accounts/new", "accounts/2",
    "visits-to-move", "closures", "closures/new", "closures/holidays", "time-off", "time-off/new",
)  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_on_any_page_of_the_administrators(browser: Browser, server: Server, width: int) -> None:
    with visiting(browser, server, width=width) as admin:
        signs_in(admin, "/admin/")
        admin.reads("Administration")
        for path in PAGES:
            assert admin.opens(f"/admin/{path}").status == 200
            is_clean(admin)


def asks_for_time_off(ana: Visitor, day: str) -> None:
    ana.presses("My time off")
    ana.reads("My time off")
    ana.types("First day", day)
    ana.types("Last day", day)
    ana.types("Note (optional)", f"A wedding {ana.width}")
    ana.presses("Ask")
    expect(ana.page.get_by_text("Asked. An administrator decides.")).to_be_visible()


@pytest.mark.parametrize(("width", "javascript"), [(375, False), (1280, True)])
def test_time_off_is_asked_for_and_approved_and_a_holiday_closes(
    browser: Browser, server: Server, width: int, javascript: bool
) -> None:
    day = date.today() + timedelta(days=60 + width % 7)  # noqa: DTZ011 any day far off, another for each width
    with visiting(browser, server, width=width, javascript=javascript) as ana:
        signs_in(ana, "/staff/", THERAPIST)
        asks_for_time_off(ana, f"{day}")
        if javascript:
            is_clean(ana)
    with visiting(browser, server, width=width, javascript=javascript) as admin:
        signs_in(admin, "/admin/time-off")
        asked = admin.page.get_by_role("listitem").filter(has_text=f"A wedding {width}")
        admin.follows(asked.get_by_role("button", name="Approve"))
        expect(admin.page.get_by_role("heading", level=1)).to_contain_text("This changes")
        if javascript:
            is_clean(admin)
        admin.follows(admin.page.get_by_role("button", name="Save"))
        admin.opens("/admin/time-off")  # where visits are hit it leads to them
        expect(asked).to_contain_text("Approved")
        admin.presses("Closures")
        admin.presses("Public holidays")
        admin.reads("Public holidays")
        chosen = admin.page.get_by_role("checkbox").last
        name = admin.page.get_by_role("main").locator("label").last.inner_text().split(": ")[1].split(" (")[0]
        chosen.check()
        admin.presses("Save")
        if admin.page.locator(".hits").count():
            admin.presses("Save all the same")
            admin.presses("Closures")
        expect(admin.page.get_by_role("main")).to_contain_text(name)


@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_on_what_a_form_answers(browser: Browser, server: Server, width: int) -> None:
    with visiting(browser, server, width=width) as admin:
        signs_in(admin, "/admin/locations/new")
        admin.reads("New location")
        admin.presses("Save")
        expect(admin.page.get_by_role("alert")).to_be_visible()
        is_clean(admin)
        admin.opens("/admin/locations/1")
        chooses(admin, "Time zone", "America/New_York")
        admin.presses("Save")
        expect(admin.page.locator(".hits")).to_be_visible()
        is_clean(admin)
        admin.opens("/admin/therapists/1/edit")
        with visiting(browser, server, width=width) as other:
            signs_in(other, "/admin/therapists/1/edit")
            other.types("Letters after the name", f"PT {width}")
            other.presses("Save")
        admin.presses("Save")
        expect(admin.page.get_by_text("Somebody else changed this meanwhile")).to_be_visible()
        is_clean(admin)
        admin.opens("/admin/accounts/2")
        admin.presses("Make a link to set a password")
        admin.reads("Link for Dana Desk")
        is_clean(admin)
