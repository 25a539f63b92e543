"""No template for patients holds a word that the catalogue of translations does not."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Environment

from config import ROOT
from tests.web.pages import READ_ATTRIBUTES

TRANSLATED = sorted(
    path for pattern in ("base.html", "error.html", "patient/*.html") for path in (ROOT / "templates").glob(pattern)
)
LETTER = re.compile(r"[^\W\d_]")


def without_code(source: str) -> str:
    """A template with a blank in place of every expression, statement and comment."""
    tokens = Environment(trim_blocks=True, lstrip_blocks=True, autoescape=True).lex(source)
    return "".join(value if kind == "data" else " " for _, kind, value in tokens)


def literal(html: str) -> Iterator[str]:
    """Text and readable attributes that stand in a template as they are; half a tag is tried as a whole."""
    yield from re.split(r"<[^>]*>", html, flags=re.DOTALL)
    for tag in re.findall(r"<[^>]*>", html, flags=re.DOTALL):
        for attribute in READ_ATTRIBUTES:
            yield from re.findall(rf'\s{attribute}="([^"]*)"', tag)


def test_the_scan_of_templates_sees_what_is_literal() -> None:
    seen = '<p title="Hello">{{ _("Well") }} said {% if x %}<b aria-label="{{ y }}">{% endif %}</p>'
    assert [one.strip() for one in literal(without_code(seen)) if LETTER.search(one)] == ["said", "Hello"]


@pytest.mark.parametrize("path", TRANSLATED, ids=lambda path: path.name)
def test_no_template_holds_a_word_outside_of_the_catalogue(path: Path) -> None:
    found = literal(without_code(path.read_text()))
    assert [one.strip() for one in found if LETTER.search(one)] == []


def test_every_template_for_patients_is_looked_at() -> None:
    assert {path.name for path in TRANSLATED} >= {
        "front.html",
        "times.html",
        "details.html",
        "visit.html",
        "error.html",
    }
