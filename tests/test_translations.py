"""Every text for patients has its Spanish words, in the catalogue and in what the program reads."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from config import ROOT

SPANISH = ROOT / "scheduler" / "translations" / "es" / "LC_MESSAGES"
PLACEHOLDER = re.compile(r"%\(\w+\)s|%")
THE_SAME = "no"  # in both languages
MESSAGE_CALL = re.compile(r"\b(_|gettext|ngettext|pgettext)\(|\{% *trans\b")


def in_code() -> set[str]:
    """Every message that the code and the templates ask for, found as `make messages` finds them."""
    mappings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["babel"]["mappings"]
    methods = [(one["pattern"], one["method"]) for one in mappings]
    options = {
        one["pattern"]: {name: value for name, value in one.items() if name not in {"pattern", "method"}}
        for one in mappings
    }
    found: set[str] = set()
    for folder in ("scheduler", "templates"):
        here = [(pattern.removeprefix(f"{folder}/"), method) for pattern, method in methods]
        here_options = {pattern.removeprefix(f"{folder}/"): given for pattern, given in options.items()}
        for _, _, message, _, _ in extract_from_dir(ROOT / folder, here, here_options):
            found |= set(forms(message))
    return found


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    with (SPANISH / "messages.po").open("rb") as file:
        return read_po(file, locale="es")


def forms(text: str | Sequence[str | None] | None) -> list[str]:
    """A text, or its forms for one and for several."""
    return [text] if isinstance(text, str) else [one for one in text or () if one is not None]


def texts(catalog: Catalog) -> dict[str, str]:
    """Every text and form with its Spanish."""
    pairs = (zip(forms(message.id), forms(message.string), strict=True) for message in messages(catalog))
    return dict(chain.from_iterable(pairs))


def messages(catalog: Catalog) -> Iterator[Message]:
    """All but the header, whose id is empty."""
    return (message for message in catalog if message.id)


def test_every_text_is_in_the_catalogue_and_nothing_else_is(catalog: Catalog) -> None:
    asked_for = in_code()
    assert "Your physical therapy visit is booked." in asked_for
    assert "Reminder: physical therapy visit, %(when)s" in asked_for
    assert set(texts(catalog)) == asked_for, "`make messages` collects them; then write the Spanish"


def test_no_text_is_untranslated_doubtful_or_kept_from_earlier(catalog: Catalog) -> None:
    assert [message.id for message in messages(catalog) if not all(forms(message.string)) or message.fuzzy] == []
    assert not catalog.obsolete
    assert not catalog.fuzzy


def test_translations_have_the_placeholders_of_their_texts(catalog: Catalog) -> None:
    for text, spanish in texts(catalog).items():
        assert sorted(PLACEHOLDER.findall(spanish)) == sorted(PLACEHOLDER.findall(text)), text


def test_translations_are_no_copies(catalog: Catalog) -> None:
    assert [text for text, spanish in texts(catalog).items() if text == spanish and text.lower() != THE_SAME] == []


def test_translations_keep_blanks_and_endings(catalog: Catalog) -> None:
    """A text that ends in a colon or a full stop does so in Spanish."""
    for text, spanish in texts(catalog).items():
        assert spanish == spanish.strip()
        assert (spanish[-1] in ".:") == (text[-1] in ".:"), text


def test_the_program_reads_what_the_catalogue_says(catalog: Catalog) -> None:
    """The compiled file is made by `make`; an old one would show yesterday's words."""
    with (SPANISH / "messages.mo").open("rb") as file:
        compiled = read_mo(file)
    assert texts(compiled) == texts(catalog)


def test_no_text_stands_where_it_is_not_collected() -> None:
    """Only Python files of the program and HTML templates are searched for texts."""
    others = [path for path in (ROOT / "templates").rglob("*") if path.is_file() and path.suffix != ".html"]
    assert others
    assert [path for path in others if MESSAGE_CALL.search(read(path))] == []


def read(path: Path) -> str:
    return path.read_bytes().decode()
