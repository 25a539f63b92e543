"""Every text of every row is a script, and no page runs it in a real browser, on the screen or on paper."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request
from werkzeug.serving import make_server

from config import Settings
from scheduler.clock import FixedClock
from scheduler.db import reading
from scheduler.keys import Keyring
from scheduler.models import Appointment
from scheduler.timeline import local_date, zone_of
from tests.clinic import Clinic
from tests.conftest import MONDAY_MORNING
from tests.web.test_payloads import PUBLIC, SCRIPT, poison
from tests.web.world import WHO, Stage, address, staff_rules, staged

TOLD_IF_RUN = "window.ran = () => { window.pwned = true; alert('pwned') }"
# What only a payload makes, and whether it ran.
TRACES = """() => ({
    made: [...document.querySelectorAll("script:not([src]), img[src*=pwned], [onerror], a[href^=javascript]")].length,
    ran: window.pwned === true,
})"""
NOTHING = {"made": 0, "ran": False}


class Watch:
    """What pages of this context did that no page of the clinic does."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.strange: list[str] = []
        self.origin = origin
        context.add_init_script(TOLD_IF_RUN)
        context.on("dialog", self._dismiss)
        context.on("request", self._note)

    def _dismiss(self, dialog: Dialog) -> None:
        self.strange.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def _note(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", "data:")):
            self.strange.append(f"request {request.url}")


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    stage = staged(settings, request.getfixturevalue("migrated_sqlite"), tmp_path_factory.mktemp("payloads"))
    yield stage
    stage.engine.dispose()


@pytest.fixture(scope="module")
def origin(stage: Stage) -> Iterator[str]:
    """The application itself, in this process: its clock and its cookies are the stage's; nothing is compressed."""

    def plain(environ: dict[str, Any], start: Any) -> Iterable[bytes]:  # noqa: ANN401 WSGI's own
        environ.pop("HTTP_ACCEPT_ENCODING", None)
        return stage.app(environ, start)

    server = make_server("127.0.0.1", 0, plain, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def looking(browser: Browser, origin: str, cookie: str = "") -> Iterator[tuple[Page, Watch]]:
    with browser.new_context() as context:
        if cookie:
            context.add_cookies([{"name": "staff", "value": cookie, "url": origin}])
        watch = Watch(context, origin)
        yield context.new_page(), watch


def pages_of_patients(stage: Stage, settings: Settings) -> list[str]:
    clinic = Clinic(stage.engine, FixedClock(MONDAY_MORNING), keys_of(settings), {"Evaluation": 1})
    first, second, *_ = clinic.offers()
    token = clinic.book(str(first.slot)).token
    return [*PUBLIC, f"/book/{second.slot}", f"/appointments/{token}", f"/appointments/{token}/cancel"]


def keys_of(settings: Settings) -> Keyring:
    return Keyring.of(settings.link_keys, settings.field_keys)


def pages_of_staff(stage: Stage) -> dict[str, list[str]]:
    """Every page that shows a payload, by who is the first of WHO to see it."""
    pages: dict[str, list[str]] = {who: [] for who in WHO}
    for rule in staff_rules(stage.app):
        for who in WHO if "GET" in (rule.methods or ()) else ():
            path = address(stage, rule, "own", who)
            answer = stage.client(who).get(path)
            if answer.status_code == 200 and answer.mimetype == "text/html" and b"ran()" in answer.data:
                pages[who].append(path)
                break
    return pages


def of_the_visit_s_day(stage: Stage) -> dict[str, list[str]]:
    """The pages that are made to be printed, full."""
    with reading(stage.engine) as session:
        visit = session.get_one(Appointment, UUID(stage.world.own.visit))
    day = local_date(visit.starts_at, zone_of("America/Chicago"))
    own = [f"/staff/?day={day}&view={view}" for view in ("day", "week")]
    return {"therapist": own, "front-desk": [f"/staff/desk?location={stage.world.own.place}&day={day}"]}


def test_no_page_runs_what_is_stored_on_the_screen_or_on_paper(
    browser: Browser, stage: Stage, origin: str, settings: Settings
) -> None:
    of_patients, printed = pages_of_patients(stage, settings), of_the_visit_s_day(stage)
    poison(stage.engine, keys_of(settings))
    of_staff, read, opened = pages_of_staff(stage), 0, 0
    for who, paths in (*of_staff.items(), *printed.items(), ("", of_patients)):
        with looking(browser, origin, stage.cookies.get(who, "")) as (page, watch):
            for path in paths:
                answer = page.goto(origin + path)
                assert answer is not None
                assert answer.status == 200, path
                assert page.evaluate(TRACES) == NOTHING, path
                read += SCRIPT in page.inner_text("body")
                opened += 1
                if paths is printed.get(who):
                    page.emulate_media(media="print")
                    assert page.evaluate(TRACES) == NOTHING, path
                    assert SCRIPT in page.locator("body").inner_text(), path
                    assert page.pdf().startswith(b"%PDF")
                    assert page.evaluate(TRACES) == NOTHING, path
            assert watch.strange == [], who
    assert opened > len(of_patients) + 40
    assert read > opened // 2


def test_a_page_that_does_not_escape_is_noticed(browser: Browser, origin: str) -> None:
    with looking(browser, origin) as (page, watch):
        page.route(f"{origin}/unsafe", lambda route: route.fulfill(content_type="text/html", body=f"<p>{SCRIPT}</p>"))
        page.route("http://pwned.test/", lambda route: route.abort())
        page.goto(f"{origin}/unsafe")
        assert page.evaluate(TRACES) == {"made": 3, "ran": True}
        assert set(watch.strange) == {"dialog pwned", "request http://pwned.test/"}
