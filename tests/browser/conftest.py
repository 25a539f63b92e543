"""A real Chromium over a real server with the demo clinic, both shared by all tests of a worker."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, time, timedelta
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import Engine

from scheduler.db import make_engine
from tests.browser.visitor import Visitor, visiting
from tests.server import Server, serving

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# As root Chromium has no sandbox; in one process with its drawing it opens pages sooner; the rest keeps it from asking
# the internet for anything of its own.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--in-process-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SATURDAY = 5
DATABASE = "clinic.db"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="session")
def demo_server(demo_folder: Path) -> Iterator[Server]:
    """The first start that it offers is next Monday's: no start is lost, and no word changes, while a test reads it."""
    now = datetime.now(UTC)
    notice = str((next_saturday_noon(now) - now) // timedelta(minutes=1))
    with serving(f"sqlite:///{demo_folder / DATABASE}", demo_folder, BOOKING_NOTICE_MINUTES=notice) as server:
        yield server


def next_saturday_noon(now: datetime) -> datetime:
    """In UTC; no clinic is open from then on for a day and a half."""
    saturday = now.date() + timedelta(days=(SATURDAY - now.weekday()) % 7)
    noon = datetime.combine(saturday, time(12), UTC)
    return noon if noon > now else noon + timedelta(days=7)


@pytest.fixture(scope="session")
def demo_database(demo_server: Server, demo_folder: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{demo_folder / DATABASE}")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        message = "Chromium is not installed: `make browser` installs it"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


Visit = Callable[..., AbstractContextManager[Visitor]]


@pytest.fixture
def visit(browser: Browser, demo_server: Server) -> Visit:
    """Sit somebody down before the clinic's pages; see `visiting` for what can be said about them."""
    return partial(visiting, browser, demo_server)
