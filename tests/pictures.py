"""Take the README's pictures: the main pages of a demo clinic, as a wide screen and a phone show them.

`make pictures` writes docs/pictures/; `python -m tests.pictures FOLDER LANGUAGE` writes every page and state, whole.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright
from rich.progress import track

from config import ROOT
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.server import serving

SCREENS: dict[str, ViewportSize] = {
    "wide": {"width": 1280, "height": 800},
    "phone": {"width": 375, "height": 812},
}
README = ("front", "times", "details", "booked")
PAGES = (*README, "explainer", "contact", "mistakes", "check", "taken", "cancel", "cancelled")


def take(folder: Path, language: str, chosen: Sequence[str]) -> None:
    """Write NAME-SCREEN.png of each chosen page: what a visitor sees first for the README, else the whole page."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as place,
        serving(f"sqlite:///{place}/clinic.db", Path(place)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for screen, size in SCREENS.items():
            with browser.new_context(viewport=size) as context:
                page = context.new_page()
                for name in track(_walk(page, server.url, language), f"Pictures, {screen}", total=len(PAGES)):
                    if name in chosen:
                        page.evaluate("scrollTo(0, 0)")
                        page.screenshot(path=folder / f"{name}-{screen}.png", full_page=chosen is PAGES)
        browser.close()


def _walk(page: Page, url: str, language: str) -> Iterator[str]:
    """Go through PAGES in their order as a patient does, saying each one's name when it is open."""
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
            take(Path(folder), language, PAGES)
        case _:
            take(ROOT / "docs" / "pictures", "en", README)
