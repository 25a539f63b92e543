"""Somebody before a browser, who acts by what is written on the page, in their language."""

import gettext
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Response, expect

from scheduler.web.language import TRANSLATIONS
from tests.clinic import body, key
from tests.server import Server

PATIENCE_MILLISECONDS = 30_000  # nothing takes that long; a machine with other work may keep a page waiting
NAME = "Alex O’Brien-Núñez"
expect.set_options(timeout=PATIENCE_MILLISECONDS)
ACKNOWLEDGED = "I was shown what dry needling is. This is not consent to treatment."


@dataclass
class Visitor:
    """`actions` counts what they did by hand: each click, field typed and tick."""

    page: Page
    server: Server
    language: str
    width: int
    email: str = field(default_factory=lambda: f"{uuid4().hex}@example.com")
    actions: int = 0

    def words(self, english: str) -> str:
        """A text of the pages in the visitor's language."""
        return gettext.translation("messages", TRANSLATIONS, [self.language], fallback=True).gettext(english)

    def opens(self, path: str) -> Response:
        answer = self.page.goto(self.server.url + path)
        assert answer is not None
        return answer

    def control(self, english: str) -> Locator:
        """The link or button of this name."""
        name = self.words(english)
        link = self.page.get_by_role("link", name=name, exact=True)
        return link.or_(self.page.get_by_role("button", name=name, exact=True)).first

    def presses(self, english: str) -> None:
        """Press what leads to another page, and wait for that page."""
        self.actions += 1
        self.follows(self.control(english))

    def follows(self, control: Locator) -> None:
        """Click a link or send a form; what is asked of the page from here on is asked of the one that comes."""
        with self.page.expect_navigation():
            control.click()

    def types(self, english: str, text: str) -> None:
        self.actions += 1
        self.field(english).fill(text)

    def ticks(self) -> None:
        self.actions += 1
        self.field(ACKNOWLEDGED).check()

    def field(self, english: str) -> Locator:
        return self.page.get_by_label(self.words(english), exact=True)

    def introduces_themselves(self) -> None:
        """The least that the clinic wants to know."""
        self.types("Your name", NAME)
        self.types("E-mail", self.email)
        self.ticks()

    def reads(self, english: str) -> None:
        """The page has this heading, in the visitor's language, and nothing of it lies beside the screen."""
        self.sees_heading(self.words(english))

    def sees_heading(self, heading: str) -> None:
        expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)
        assert self.page.locator("html").get_attribute("lang") == self.language
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.width

    def time(self) -> str:
        """The first time that the page names."""
        return self.page.locator("main time").first.inner_text()

    def slot(self) -> str:
        """The start that the first link to a time leads to, or that this page is about."""
        address = urlsplit(self.page.url).path
        if not address.startswith("/book/"):
            address = self.page.locator('main a[href^="/book/"]').first.get_attribute("href") or ""
        found = re.match(r"/book/([^/?]+)", address)
        assert found is not None, address
        return found[1]

    def is_beaten_to(self, slot: str) -> None:
        """Somebody else books this time over the API, once what this page holds of it is over."""
        with self.server.client() as client:
            if self.page.locator("[name=hold]").count():
                expect(self.page.get_by_role("status")).not_to_be_empty()
                client.delete(f"/api/v1/holds/{self.page.locator('[name=hold]').input_value()}")
            answer = client.post("/api/v1/appointments", json=body(slot), headers=key())
        assert answer.status_code == 201, answer.text

    def reaches_details(self) -> None:
        self.opens("/")
        self.presses("Book this time")
        self.reads("Your details")

    def reaches_check(self) -> None:
        self.reaches_details()
        self.introduces_themselves()
        self.presses("Continue")
        self.reads("Is this right?")

    def reaches_confirmation(self) -> None:
        self.reaches_check()
        self.presses("Book this visit")
        self.reads("Your visit is booked")

    @property
    def token(self) -> str:
        """That of the visit on this page."""
        return urlsplit(self.page.url).path.split("/")[2]

    def explainer_title(self) -> str:
        """As the API tells it, in the visitor's language."""
        with self.server.client() as client:
            return str(client.get("/api/v1/explainer", params={"language": self.language}).json()["title"])

    def visit(self) -> Any:  # noqa: ANN401 JSON
        """The visit on this page, as the API tells it."""
        with self.server.client() as client:
            return client.get(f"/api/v1/appointments/{self.token}").json()


@contextmanager
def visiting(
    browser: Browser,
    server: Server,
    *,
    language: str = "en",
    accepts: str | None = None,
    width: int = 1280,
    javascript: bool = True,
    zone: str = "America/New_York",
) -> Iterator[Visitor]:
    """A visitor whose pages shall be in `language`, since the browser prefers it or sends `accepts` as Accept-Language.

    Whatever they do, nothing may be asked of another server, and nothing may want what the pages' own policy forbids.
    """
    preference: dict[str, Any] = {"locale": f"{language}-US"}
    if accepts is not None:
        preference = {"extra_http_headers": {"Accept-Language": accepts}}
    with browser.new_context(
        viewport={"width": width, "height": 800},
        java_script_enabled=javascript,
        timezone_id=zone,
        reduced_motion="reduce",  # nothing has to wait for a page to have scrolled
        **preference,
    ) as context:
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        strange = _strangers(context, server)
        yield Visitor(context.new_page(), server, language, width)
        assert strange == []


def _strangers(context: BrowserContext, server: Server) -> list[str]:
    """What is asked of others from now on, and complaints about the policy; the list fills while the visitor acts."""
    strange: list[str] = []

    def note_address(url: str) -> None:
        if not url.startswith((f"{server.url}/", "data:")):
            strange.append(url)

    def note_complaint(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            strange.append(message.text)

    context.on("request", lambda request: note_address(request.url))
    context.on("console", note_complaint)
    return strange
