"""Take the documents' pictures: pages of a demo clinic, as a wide screen and a phone show them.

`make pictures` writes docs/pictures/; `python -m tests.pictures FOLDER LANGUAGE` writes every page and state, whole.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyotp
from playwright.sync_api import Browser, Page, StorageState, ViewportSize, sync_playwright
from rich.progress import track

from config import ROOT
from scheduler.services.demo import PASSWORD
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.server import serving

SCREENS: dict[str, ViewportSize] = {
    "wide": {"width": 1280, "height": 800},
    "phone": {"width": 375, "height": 812},
}
PATIENT = (
    "front", "explainer", "contact", "times", "mistakes", "details", "check", "booked", "taken", "cancel", "cancelled",
)  # fmt: skip
STAFF = {
    "therapist": {
        "day": "/staff/?view=day",
        "week": "/staff/?view=week",
        "licenses": "/staff/licenses",
        "feed": "/staff/calendar-feed",
        "account": "/staff/account/",
    },
    "desk": {
        "desk": "/staff/desk",
        "desk-times": "/staff/desk/book",
        "patients": "/staff/desk/patients?q=a",
        "calls": "/staff/desk/calls",
    },
    "admin": {
        "admin": "/admin/",
        "access": "/admin/access",
        "policy": "/admin/policy",
        "locations": "/admin/locations",
        "location": "/admin/locations/1",
        "types": "/admin/types",
        "type": "/admin/types/1",
        "rules": "/admin/rules",
        "new-rule": "/admin/rules/new",
        "therapists": "/admin/therapists",
        "therapist": "/admin/therapists/1",
        "hours": "/admin/therapists/1/hours/new",
        "license": "/admin/therapists/1/licenses/new",
        "accounts": "/admin/accounts",
        "an-account": "/admin/accounts/1",
        "moving-in": "/admin/moving-in",
        "import": "/admin/moving-in/visits",
        "reports": "/admin/reports",
        "audit": "/admin/audit",
    },
}
PAGES = (*PATIENT, *(name for pages in STAFF.values() for name in pages))
EVERY = [f"{name}-{screen}" for name in PAGES for screen in SCREENS]
IN_DOCUMENTS = [
    "front-wide", "times-phone", "details-wide", "booked-phone",
    "day-phone", "week-wide", "desk-wide", "therapist-wide", "moving-in-wide", "reports-wide",
]  # fmt: skip


def take(folder: Path, language: str, chosen: Sequence[str]) -> None:
    """Write the chosen NAME-SCREEN.png: what a visitor sees first for the documents, else the whole page."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as place,
        serving(f"sqlite:///{place}/clinic.db", Path(place)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        cookies = {who: _signed_in(browser, server.url, f"{who}@demo.example") for who in STAFF}
        for screen in SCREENS:
            walk = _walk(browser, screen, server.url, language, cookies)
            for name, page in track(walk, f"Pictures, {screen}", total=len(PAGES)):
                if f"{name}-{screen}" in chosen:
                    page.evaluate("scrollTo(0, 0)")
                    page.screenshot(path=folder / f"{name}-{screen}.png", full_page=chosen is EVERY)
        browser.close()


def _walk(
    browser: Browser, screen: str, url: str, language: str, cookies: dict[str, StorageState]
) -> Iterator[tuple[str, Page]]:
    """Open PAGES in their order, each person's with a browser of their own, saying each one's name when it is open."""
    with browser.new_context(viewport=SCREENS[screen], locale=language) as context:
        page = context.new_page()
        for name in _as_patient(page, url, language):
            yield name, page
    for who, pages in STAFF.items():
        with browser.new_context(viewport=SCREENS[screen], locale=language, storage_state=cookies[who]) as context:
            page = context.new_page()
            for name, path in pages.items():
                page.goto(url + path)
                yield name, page


def _signed_in(browser: Browser, url: str, email: str) -> StorageState:
    """The cookies of somebody who signed in by password, and with an app's code where the account needs one."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{url}/staff/sign-in")
        page.fill("[name=email]", email)
        page.fill("[name=password]", PASSWORD)
        page.locator("form:has([name=password]) button[type=submit]").click()
        if page.locator("form[action$=app]").count():
            app = pyotp.TOTP(page.locator("code").inner_text())
            page.fill("form[action$=app] [name=code]", app.now())
            page.locator("form[action$=app] button").click()
        page.wait_for_load_state()
        return context.storage_state()


def _as_patient(page: Page, url: str, language: str) -> Iterator[str]:
    """Go through PATIENT in their order, saying each one's name when it is open."""
    asked = f"?lang={language}"
    for name, path in (("front", "/"), ("explainer", "/explainer"), ("contact", "/contact"), ("times", "/book")):
        page.goto(f"{url}{path}{asked}")
        yield name
    page.locator(".times a").nth(5).click()
    page.locator("button[value=check]").click()
    yield "mistakes"
    page.goto(page.url)
    _type(page)
    yield "details"
    page.locator("button[value=check]").click()
    yield "check"
    page.locator("button[value=book]").click()
    page.wait_for_url("**/appointments/**")
    booked = page.url
    yield "booked"
    page.go_back()
    page.locator("[name=name]").evaluate("field => field.value = 'Sam Doe'")
    page.locator("button[value=book]").click()
    yield "taken"
    page.goto(booked)
    page.locator(".btn-outline-danger").click()
    yield "cancel"
    page.locator("button[type=submit]").click()
    yield "cancelled"


def _type(page: Page) -> None:
    page.fill("[name=name]", "Pat Doe")
    page.fill("[name=email]", "pat@example.com")
    page.fill("[name=note]", "My left shoulder, when I reach up")
    page.check("[name=acknowledged]")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [folder, language]:
            take(Path(folder), language, EVERY)
        case _:
            take(ROOT / "docs" / "pictures", "en", IN_DOCUMENTS)
