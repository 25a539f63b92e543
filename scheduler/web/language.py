"""The language of a page: the one asked for in its address, else the best that the browser names. No cookie."""

from typing import Any
from urllib.parse import quote, urlencode

from flask import Flask, Response, has_request_context, request
from flask_babel import Babel, get_locale

from config import ROOT
from scheduler import words
from scheduler.words import DEFAULT_LANGUAGE, LANGUAGES

TRANSLATIONS = ROOT / "scheduler" / "translations"
ASKED = "lang"
NO_PAGES = {"api", "feeds", "ops", "static", "bootstrap"}  # blueprints, and files


def install(app: Flask) -> None:
    if not list(TRANSLATIONS.glob("*/LC_MESSAGES/*.mo")):
        raise RuntimeError("The translations are not compiled: `make run` does it, or `pybabel compile`.")
    Babel(app, default_translation_directories=str(TRANSLATIONS), locale_selector=_chosen)
    app.url_defaults(_kept)
    app.after_request(_varies)
    app.jinja_env.globals.update(language=language, other_languages=other_languages, minutes=_minutes)


def language() -> str:
    """The language of this page, as two letters."""
    return str(get_locale().language)


def other_languages(*, posted: bool = False) -> dict[str, str]:
    """The address of this page in each other language, by the language's own name.

    None for an answer to a POST, unless it is asked for: what is sent there anew says what was `posted`.
    """
    if request.endpoint is None or not (posted or request.method in {"GET", "HEAD"}):
        return {}
    # The visitor's own words are added as text: as arguments of url_for some of them would be instructions.
    here = quote(request.script_root + request.path)
    asked = [pair for pair in request.args.items(multi=True) if pair[0] != ASKED]
    return {
        name: f"{here}?{urlencode([*asked, (ASKED, code)])}" for code, name in LANGUAGES.items() if code != language()
    }


def _minutes(number: int) -> str:
    return words.minutes(number, language())


def _chosen() -> str:
    if not has_request_context():
        return DEFAULT_LANGUAGE
    return _asked() or _preferred()


def _asked() -> str | None:
    asked = request.args.get(ASKED)
    return asked if asked in LANGUAGES else None


def _preferred() -> str:
    """The best that the browser names of our languages, of whatever country: es-MX is Spanish."""
    named = (tag.partition("-")[0].lower() for tag, quality in request.accept_languages if quality > 0)
    return next((code for code in named if code in LANGUAGES), DEFAULT_LANGUAGE)


def _kept(endpoint: str, values: dict[str, Any]) -> None:
    """Keep the language that was asked for on the way from page to page."""
    if has_request_context() and endpoint.partition(".")[0] not in NO_PAGES and _asked() is not None:
        values.setdefault(ASKED, _asked())


def _varies(response: Response) -> Response:
    if response.mimetype == "text/html":
        response.vary.add("Accept-Language")
    return response
