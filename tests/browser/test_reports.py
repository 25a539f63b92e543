"""Reports and the audit as an admin sees them: pictures beside their tables, on a phone and on a desk."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Locator, expect

from config import Settings
from scheduler.db import make_engine
from scheduler.services import demo
from tests.browser.test_axe import found
from tests.browser.visitor import Visitor, visiting
from tests.past import lived_in
from tests.server import Server, serving

WIDTHS = [1280, 375]
PICTURES = 8  # three of utilization, two of cancellations, one of each other report


@pytest.fixture(scope="module")
def lived_in_server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("past")
    url = f"sqlite:///{folder / 'clinic.db'}"
    engine = make_engine(url)
    lived_in(engine, settings, now=datetime.now(UTC))
    engine.dispose()
    with serving(url, folder) as server:
        yield server


@contextmanager
def admin(browser: Browser, server: Server, path: str, width: int, *, javascript: bool = True) -> Iterator[Visitor]:
    """An admin who came to this page by way of signing in."""
    with visiting(browser, server, width=width, javascript=javascript) as somebody:
        somebody.opens(path)
        somebody.types("E-mail", demo.PEOPLE[0][0])
        somebody.types("Password", demo.PASSWORD)
        somebody.presses("Sign in")
        yield somebody


@pytest.mark.parametrize("width", WIDTHS)
def test_every_picture_stands_beside_its_table_and_says_the_same(
    browser: Browser, lived_in_server: Server, width: int
) -> None:
    with admin(browser, lived_in_server, "/admin/reports", width) as somebody:
        somebody.reads("Reports")
        assert found(somebody) == {}
        figures = somebody.page.locator(".figure")
        expect(figures).to_have_count(PICTURES)
        for figure in figures.all():
            picture, table = figure.locator("svg"), figure.locator("table")
            assert_beside(picture, table, width)
            labels = table.locator("tbody tr:not(.sum) th").all_inner_texts()
            bars = picture.locator("text:not(.told):not(.scale)")
            assert bars.all_text_contents() == labels
            shares = table.locator("tbody tr:not(.sum) td:last-child").all_inner_texts()
            assert picture.locator(".told").all_text_contents() == shares
            expect(picture).to_have_role("img")
            expect(picture).to_have_accessible_name(f"{name_of(table)}. {figure.locator('figcaption').inner_text()}")


def name_of(table: Locator) -> str:
    return table.locator("caption").inner_text()


def assert_beside(picture: Locator, table: Locator, width: int) -> None:
    """On a desk both share a line, on a phone the table follows; the picture's texts lie within it."""
    one, other = picture.bounding_box(), table.bounding_box()
    assert one is not None
    assert other is not None
    if width >= 768:
        assert other["x"] >= one["x"] + one["width"]
        assert other["y"] < one["y"] + one["height"]
    else:
        assert other["y"] >= one["y"] + one["height"]
    bars_end = one["x"] + one["width"] * 0.75
    for text in picture.locator("text").all():
        box = text.bounding_box()
        assert box is not None
        assert one["x"] - 1 <= box["x"]
        assert box["x"] + box["width"] <= one["x"] + one["width"] + 1
        assert text.get_attribute("class") != "told" or box["x"] >= bars_end


@pytest.mark.parametrize("width", WIDTHS)
def test_months_and_places_are_chosen_without_a_script(browser: Browser, lived_in_server: Server, width: int) -> None:
    with admin(browser, lived_in_server, "/admin/reports", width, javascript=False) as somebody:
        place = somebody.field("Location").locator("option").nth(1).inner_text()
        somebody.field("Location").select_option(label=place)
        somebody.presses("Show")
        somebody.reads("Reports")
        table = somebody.page.get_by_role("table", name="By location")
        assert table.locator("tbody th").all_inner_texts() == [place]
        with somebody.page.expect_download() as downloading:
            somebody.page.get_by_role("link", name=re.compile("CSV.*Utilization")).click()
        lines = downloading.value.path().read_text("utf-8-sig").splitlines()
        assert {line.split(",")[0] for line in lines[1:]} == {place}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_audit_answers_who_did_what_to_a_visit(browser: Browser, lived_in_server: Server, width: int) -> None:
    with admin(browser, lived_in_server, "/admin/audit", width) as somebody:
        somebody.reads("Audit")
        assert found(somebody) == {}
        somebody.field("What").select_option(label="Visit: Canceled")
        somebody.types("Network address", "203.0.113.7")
        somebody.presses("Search")
        entries = somebody.page.locator(".deeds li")
        assert entries.count() == 50
        assert set(entries.locator("strong").all_inner_texts()) == {"Canceled"}
        newest = entries.locator("time").first.get_attribute("datetime")
        somebody.presses("Older")
        assert str(entries.locator("time").first.get_attribute("datetime")) < str(newest)
        somebody.follows(entries.first.get_by_role("link", name="All about it"))
        assert set(entries.locator("strong").all_inner_texts()) == {"Canceled", "Booked"}
        assert found(somebody) == {}
