"""From the first page to a booked visit and out of it again, by hand and by keyboard."""

import re
from datetime import datetime
from typing import Any

import icalendar
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.visitor import ACKNOWLEDGED, NAME, Visitor

MOST_TABS = 200
MOST_ACTIONS = 8
FOCUSED = """() => {
  const focused = document.activeElement;
  const box = focused.getBoundingClientRect();
  const style = getComputedStyle(focused);
  return {
    name: (focused.labels?.[0] ?? focused).innerText.trim(),
    outline: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth),
    on_screen: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    in_main: focused.closest('main') !== null,
    in_page: focused !== document.body,
  };
}"""


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no-javascript"])
def test_a_visit_is_booked_and_canceled(visit: Visit, width: int, language: str, javascript: bool) -> None:
    with visit(width=width, language=language, javascript=javascript) as patient:
        patient.opens("/")
        patient.reads("How soon can we see you?")
        patient.presses("Dry needling")
        patient.sees_heading(patient.explainer_title())
        patient.presses("Schedule an appointment")
        patient.reads("Choose a time")
        patient.follows(patient.page.locator(".times a").first)
        patient.reads("Your details")
        patient.introduces_themselves()
        patient.presses("Continue")
        patient.reads("Is this right?")
        expect(patient.page.locator("main")).to_contain_text(NAME)
        patient.presses("Book this visit")
        patient.reads("Your visit is booked")
        patient.presses("Cancel this visit")
        patient.reads("Cancel this visit?")
        patient.presses("Yes, cancel it")
        patient.reads("Your visit is canceled")
        assert patient.visit()["status"] == "cancelled"


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_language_chosen_on_a_page_stays_until_the_visit_is_booked(visit: Visit, language: str) -> None:
    with visit(language=language, accepts={"en": "es", "es": "en"}[language]) as patient:
        patient.opens("/contact")
        patient.follows(patient.page.get_by_role("link", name={"en": "English", "es": "Español"}[language]))
        patient.reads("Contact us")
        patient.presses("Book")
        patient.reads("Choose a time")
        patient.page.locator("summary").click()
        patient.presses("Show times")
        patient.reads("Choose a time")
        patient.follows(patient.page.locator(".times a").first)
        patient.introduces_themselves()
        patient.presses("Continue")
        patient.presses("Change something")
        patient.presses("Continue")
        patient.presses("Book this visit")
        patient.reads("Your visit is booked")


def test_few_actions_lead_from_the_first_page_to_the_booked_visit(visit: Visit) -> None:
    with visit() as patient:
        patient.reaches_confirmation()
        assert patient.actions <= MOST_ACTIONS


def test_the_page_of_a_booked_visit_hands_out_its_calendar_entry(visit: Visit) -> None:
    with visit() as patient:
        patient.reaches_confirmation()
        with patient.page.expect_download() as download:
            patient.control("Add to calendar").click()
        event = icalendar.Calendar.from_ical(download.value.path().read_bytes()).events[0]
        booked = patient.visit()
        ends = [datetime.fromisoformat(booked[end]) for end in ("start", "end")]
        assert [event.start, event.end] == ends
        assert patient.email not in event.to_ical().decode()


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_keyboard_alone_books_and_cancels(visit: Visit, language: str) -> None:
    with visit(language=language) as patient:
        patient.opens("/")
        goes(patient, "Dry needling")
        goes(patient, "Schedule an appointment")
        patient.reads("Choose a time")
        follows_by_keyboard(patient.page, r"\d+:\d\d .*")
        patient.reads("Your details")
        fills_in_by_keyboard(patient)
        goes(patient, "Continue")
        patient.reads("Is this right?")
        expect(patient.page.locator("main")).to_contain_text(patient.words("No needles"))
        goes(patient, "Book this visit")
        patient.reads("Your visit is booked")
        goes(patient, "Cancel this visit")
        goes(patient, "Yes, cancel it")
        patient.reads("Your visit is canceled")


def test_the_skip_link_leads_past_the_navigation(visit: Visit) -> None:
    with visit() as patient:
        patient.opens("/")
        assert tab(patient.page)["name"] == "Skip to content"
        patient.page.keyboard.press("Enter")
        after = tab(patient.page)
        assert (after["in_main"], after["name"]) == (True, "Book this time")


def fills_in_by_keyboard(patient: Visitor) -> None:
    page = patient.page
    for label, text in (("Your name", NAME), ("E-mail", patient.email), ("What hurts? (optional)", "My left knee")):
        tabs_to(page, re.escape(patient.words(label)))
        page.keyboard.type(text)
    tabs_to(page, re.escape(patient.words("Talk to me first")))
    page.keyboard.press("ArrowDown")
    tabs_to(page, re.escape(patient.words(ACKNOWLEDGED)))
    page.keyboard.press("Space")


def goes(patient: Visitor, english: str) -> None:
    """Tab to what has this name and press Enter."""
    follows_by_keyboard(patient.page, re.escape(patient.words(english)))


def follows_by_keyboard(page: Page, name: str, key: str = "Enter") -> None:
    """Tab to what has a name like this, press the key, and wait for the page that it leads to."""
    tabs_to(page, name)
    with page.expect_navigation():
        page.keyboard.press(key)


def tabs_to(page: Page, name: str) -> None:
    """Press Tab until something of this name has the focus; all on the way must show that they have it."""
    seen = []
    for _ in range(MOST_TABS):
        focused = tab(page)
        seen.append(focused["name"])
        if re.fullmatch(name, focused["name"], re.DOTALL) and focused["in_page"]:
            return
    raise AssertionError(f"Tab never reached {name}, only {seen}")


def tab(page: Page) -> dict[str, Any]:
    """Press Tab; say what has the focus now, which must show it."""
    page.keyboard.press("Tab")
    focused: dict[str, Any] = page.evaluate(FOCUSED)
    if focused["in_page"]:  # between the last element and the first nothing has the focus
        assert focused["outline"] >= 2, focused
        assert focused["on_screen"], focused
    return focused
