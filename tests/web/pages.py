"""Pages as their readers get them: the words, the links, and forms that are filled in and sent as a browser would."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})
UNSEEN = frozenset({"script", "style", "template"})
READ_ATTRIBUTES = ("title", "aria-label", "alt", "placeholder")


@dataclass
class Element:
    """A part of a page; `inside` are its elements and texts in order."""

    tag: str
    attributes: dict[str, str]
    inside: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All words in it, as they are read out."""
        return " ".join("".join(self._pieces()).split())

    def _pieces(self) -> Iterator[str]:
        for one in self.inside:
            yield from [one] if isinstance(one, str) else one._pieces()

    def all(self, tag: str | None = None, **attributes: str) -> list["Element"]:
        """The elements inside that have this tag and these attributes; `class_` asks for one of the classes."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [one for one in self.walk() if tag in {None, one.tag} and all(one.has(*pair) for pair in wanted.items())]

    def one(self, tag: str | None = None, **attributes: str) -> "Element":
        (found,) = self.all(tag, **attributes)
        return found

    def has(self, name: str, value: str) -> bool:
        own = self.attributes.get(name)
        return own == value or (name == "class" and value in (own or "").split())

    def walk(self) -> Iterator["Element"]:
        for one in self.inside:
            if isinstance(one, Element):
                yield one
                yield from one.walk()

    def read_texts(self) -> Iterator[str]:
        """Every text that people read or hear, the title and attributes too, without what is only blank."""
        if self.tag in UNSEEN:
            return
        yield from (self.attributes[name] for name in READ_ATTRIBUTES if self.attributes.get(name))
        if self.tag == "input" and self.attributes.get("type") in {"submit", "button"}:
            yield self.attributes.get("value", "")
        for one in self.inside:
            if isinstance(one, Element):
                yield from one.read_texts()
            elif one.strip():
                yield " ".join(one.split())


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("#page", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> says one thing twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes what is not open"

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def parse(html: str) -> Element:
    """The tree of a page; every element must be closed, and in order."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert [one.tag for one in builder.open] == ["#page"]
    return builder.open[0]


@dataclass
class Form:
    """A form as its reader fills it in: what stands in its fields, and its buttons by their words."""

    action: str
    fields: dict[str, str]
    buttons: dict[str, dict[str, str]]

    def filled(self, **changes: str | None) -> dict[str, str]:
        """What would be sent; None is a field that is not sent."""
        return {name: value for name, value in {**self.fields, **changes}.items() if value is not None}


def form_of(element: Element, address: str) -> Form:
    """The one POST form of a page, as a browser reads it."""
    form = element.one("form", method="post")
    fields: dict[str, str] = {}
    for one in form.walk():
        name, kind = one.attributes.get("name"), one.attributes.get("type", "text")
        if name is None or one.tag == "button":
            continue
        if one.tag == "select":
            (chosen,) = [option for option in one.all("option") if "selected" in option.attributes] or one.all(
                "option"
            )[:1]
            fields[name] = chosen.attributes["value"]
        elif one.tag == "textarea":
            written = "".join(piece for piece in one.inside if isinstance(piece, str)).replace("\r\n", "\n")
            fields[name] = written.removeprefix("\n")  # as HTML has it
        elif kind not in {"checkbox", "radio"} or "checked" in one.attributes:
            fields[name] = one.attributes.get("value", "on")
    buttons = {one.text: one.attributes for one in form.all("button")}
    return Form(urljoin(address, form.attributes.get("action", "")), fields, buttons)


@dataclass
class Page:
    """An answer that is a page, and what a reader can do from there."""

    client: FlaskClient
    answer: TestResponse
    address: str

    def __post_init__(self) -> None:
        assert self.answer.mimetype == "text/html", self.answer.headers
        self.html = self.answer.get_data(as_text=True)
        self.tree = parse(self.html)

    @property
    def status(self) -> int:
        return self.answer.status_code

    @property
    def main(self) -> Element:
        return self.tree.one("main")

    @property
    def heading(self) -> str:
        return self.tree.one("h1").text

    @property
    def form(self) -> Form:
        return form_of(self.main, self.address)

    @property
    def problems(self) -> dict[str, str]:
        """What the page says is wrong, by the id of the field."""
        return {one.attributes["id"].removesuffix("-error"): one.text for one in self.main.all("p", class_="problem")}

    def links(self) -> list[str]:
        return [one.attributes["href"] for one in self.tree.all("a")]

    def follow(self, words: str) -> "Page":
        """Follow the one link with these words."""
        found = [one for one in self.tree.all("a") if one.text == words]
        assert len(found) == 1, (words, [one.text for one in self.tree.all("a")])
        return look(self.client, urljoin(self.address, found[0].attributes["href"]))

    def press(self, button: str, **changes: str | None) -> "Page":
        """Fill in, press a button, and follow where the answer leads."""
        return after(self.client, *self.sent(button, **changes))

    def in_language(self, name: str) -> "Page":
        """Press the button that turns an answer to a form into another language, with what is filled in."""
        (button,) = [one.attributes for one in self.tree.one("nav").all("button") if one.text == name]
        assert button["form"] == self.main.one("form", method="post").attributes["id"]
        return after(self.client, button["formaction"], self.form.fields | {button["name"]: button["value"]})

    def agrees(self) -> "Page":
        """Save, having read which starts come and go, or when the goal is kept; no visit is hit."""
        assert self.heading in {"This changes what can be booked", "This changes when the goal is kept"}, self.heading
        carried = defaultdict(list)
        for one in self.main.one("form", method="post").all("input"):
            carried[one.attributes["name"]].append(one.attributes["value"])
        return after(self.client, self.form.action, carried)

    def sent(self, button: str, **changes: str | None) -> tuple[str, dict[str, str]]:
        """Where pressing a button sends what is filled in, and what."""
        form = self.form
        pressed = form.buttons[button]
        value = {pressed["name"]: pressed["value"]} if "name" in pressed else {}
        return urljoin(self.address, pressed.get("formaction", form.action)), form.filled(**changes) | value


def look(client: FlaskClient, address: str, language: str = "en", **more: Any) -> Page:  # noqa: ANN401 the client's own
    """Open an address with a browser that names this language."""
    return Page(client, client.get(address, headers={"Accept-Language": language}, **more), address)


def after(client: FlaskClient, address: str, data: Mapping[str, str | list[str]]) -> Page:
    """Send a form and open the page that the answer leads to."""
    answer = client.post(address, data=data)
    if answer.status_code == 303:
        return look(client, answer.headers["Location"])
    return Page(client, answer, address)


def on_this_site(address: str) -> bool:
    """Whether an address loads from or leads to nowhere else, or to a telephone or a mailbox."""
    parts = urlsplit(address)
    return (not parts.scheme and not parts.netloc) or parts.scheme in {"tel", "mailto"}
