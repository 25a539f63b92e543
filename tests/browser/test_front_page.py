"""The front page as a visitor sees it."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.server import Server

pytestmark = pytest.mark.browser
TIME = re.compile(r"[A-Z][a-z]+day, [A-Z][a-z]+ \d{1,2}, \d{1,2}:\d\d [AP]M [A-Z]{2,4}")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("javascript", [True, False])
def test_the_soonest_times_are_readable_at_any_width_without_javascript(
    browser: Browser, demo_server: Server, width: int, javascript: bool
) -> None:
    with browser.new_context(viewport={"width": width, "height": 800}, java_script_enabled=javascript) as context:
        page = context.new_page()
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(demo_server.url)
        times = page.locator(".times time").all_inner_texts()
        assert len(times) == 12
        assert all(TIME.fullmatch(time) for time in times)
        assert all(url.startswith(demo_server.url) for url in requested)
        if javascript:
            assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", ["/", "/api/docs", "/nothing-here"])
def test_axe_finds_nothing(browser: Browser, demo_server: Server, path: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(demo_server.url + path)
        assert Axe().run(page).response["violations"] == []
