"""What every page for patients keeps, in every state: all of it in Spanish, nothing from elsewhere, nothing inline."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from werkzeug.test import TestResponse

from config import Settings
from scheduler.app import create_app
from scheduler.clock import FixedClock
from scheduler.db import make_engine, reading
from scheduler.keys import Keyring
from scheduler.models import AppointmentType, ClinicPolicy, Location, Therapist
from scheduler.words import LANGUAGES
from tests.clinic import Clinic
from tests.conftest import MONDAY_MORNING
from tests.web.pages import Element, look, on_this_site, parse
from tests.web.tour import DIRECTIONS, PERSON, SCENES, in_trouble

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
NO_WORDS = {"Qi", "min"}  # the same in both languages: a name, and the sign of a unit
FIELDS = {"slot", "type", "location", "therapist", "after"}  # as they stand in an address


@dataclass(frozen=True)
class Stage:
    """A clinic, a visitor of it, and every answer of a scene by its name, in each language."""

    engine: Engine
    client: FlaskClient
    pages: dict[str, dict[str, TestResponse]]


HOLDING = "/static/hold.js"  # the one script that patients' pages have, where a time is kept
NOBODY, OURSELVES = set[str](), {"'self'"}
STRICT = {
    "default-src": {"'none'"},
    "script-src": {"'self'"},
    "style-src": {"'self'"},
    "img-src": {"'self'", "data:"},
    "font-src": {"'self'"},
    "form-action": {"'self'"},
    "base-uri": {"'none'"},
    "frame-ancestors": {"'none'"},
}


@pytest.fixture(scope="module", params=SCENES)
def stage(
    request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Each scene once for all that is asked of its pages, which only look."""
    path = tmp_path_factory.mktemp("stage") / "scheduler.db"
    shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
    engine, clock = make_engine(f"sqlite:///{path}"), FixedClock(MONDAY_MORNING)
    clinic = Clinic.standard(engine, clock, Keyring.of(settings.link_keys, settings.field_keys))
    app = create_app(settings, engine, clock)
    stops = {name: (app, stop) for name, stop in SCENES[request.param](clinic, clock).items()}
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "open_clinic":
            stops |= in_trouble(settings, clinic, patch)
        answers = {name: {code: stop.ask(at, code) for code in LANGUAGES} for name, (at, stop) in stops.items()}
    assert {answer.mimetype for both in answers.values() for answer in both.values()} == {"text/html"}
    yield Stage(engine, app.test_client(), answers)
    engine.dispose()


def tree(answer: TestResponse) -> Element:
    return parse(answer.get_data(as_text=True))


def data(engine: Engine) -> set[str]:
    """What the clinic entered and the patient typed: no text of ours, so the same in every language."""
    with reading(engine) as session:
        policy = session.get_one(ClinicPolicy, 1)
        found = {policy.clinic_name, *LANGUAGES.values(), *PERSON.values(), DIRECTIONS}
        for place in session.scalars(select(Location)):
            found |= {place.name, place.area, place.address, place.phone}
        found |= set(session.scalars(select(Therapist.name))) | set(session.scalars(select(AppointmentType.name)))
    return found


def own_words(text: str, known: set[str]) -> str:
    """A text without the data in it; empty where no letter is left."""
    for one in sorted(known, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(one)}(?!\w)", "", text)
    return text.strip() if re.search(r"[^\W\d_]", text) else ""


def test_the_comparison_sees_a_text_that_stayed_english() -> None:
    assert own_words("All times in Springfield", {"Springfield"}) == "All times in"
    assert own_words("Springfield · 217", {"Springfield"}) == ""
    assert own_words("Springfields", {"Springfield"}) == "Springfields"


def test_every_text_is_another_in_spanish(stage: Stage) -> None:
    known = data(stage.engine) | NO_WORDS
    for name, answers in stage.pages.items():
        texts = {code: list(tree(answer).read_texts()) for code, answer in answers.items()}
        english = {own_words(one, known) for one in texts["en"]}
        untranslated = {own_words(one, known) for one in texts["es"]} & english - {""}
        told = {one for one in texts["es"] if set(re.findall(r"\w+", one)) <= FIELDS}
        assert untranslated - told == set(), name
        if not {"explainer", "short"} & {one.attributes.get("class") for one in tree(answers["en"]).all("section")}:
            assert len(texts["es"]) == len(texts["en"]), name
        assert {code: tree(answer).one("html").attributes["lang"] for code, answer in answers.items()} == {
            code: code for code in LANGUAGES
        }


def test_no_page_brings_or_runs_anything_inline_or_from_elsewhere(stage: Stage) -> None:
    for name, answers in stage.pages.items():
        for answer in answers.values():
            scripts = {one.attributes["src"].partition("?")[0] for one in tree(answer).all("script")}
            assert scripts <= {HOLDING}, name
            assert without(policy_of(answer), "connect-src") == STRICT, name
            assert policy_of(answer).get("connect-src", NOBODY) in (NOBODY, OURSELVES if scripts else NOBODY), name
            assert "Set-Cookie" not in answer.headers, name
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Accept-Language" in answer.headers["Vary"]
            assert_harmless(tree(answer), name)


def without(policy: dict[str, set[str]], word: str) -> dict[str, set[str]]:
    return {name: sources for name, sources in policy.items() if name != word}


def policy_of(answer: TestResponse) -> dict[str, set[str]]:
    parts = (part.split() for part in answer.headers["Content-Security-Policy"].split(";"))
    return {name: set(sources) for name, *sources in parts}


def assert_harmless(page: Element, name: str) -> None:
    for one in page.walk():
        assert one.tag not in {"style", "iframe", "object", "embed", "base"}, name
        assert one.tag != "script" or (one.attributes.get("src") and not one.text), name
        assert not [word for word in one.attributes if word == "style" or word.startswith("on")], (name, one)
        for attribute in ("href", "src", "action", "formaction", "srcset", "poster", "data"):
            assert on_this_site(one.attributes.get(attribute, "")), (name, one)


def test_every_page_is_sound_html_with_names_for_what_it_shows(stage: Stage) -> None:
    for name, answers in stage.pages.items():
        for answer in answers.values():
            page = tree(answer)
            ids = [one.attributes["id"] for one in page.walk() if "id" in one.attributes]
            assert len(ids) == len(set(ids)), (name, ids)
            assert len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) == 1, name
            assert page.one("title").text
            assert page.one("h1").text
            pointed = {
                target
                for one in page.walk()
                for attribute in ("aria-describedby", "aria-labelledby", "for")
                for target in one.attributes.get(attribute, "").split()
            }
            pointed |= {link[1:] for one in page.all("a") if (link := one.attributes["href"]).startswith("#")}
            assert pointed <= set(ids), (name, pointed - set(ids))
            assert all(one.text for tag in ("a", "button", "label", "h2", "h3") for one in page.all(tag)), name


def test_every_link_leads_somewhere(stage: Stage) -> None:
    links = {
        one.attributes["href"]
        for answers in stage.pages.values()
        for answer in answers.values()
        for one in tree(answer).all("a")
        if one.attributes["href"].startswith("/")
    }
    times = sorted(link for link in links if link.startswith("/book/"))
    for link in sorted(links - set(times)) + times[::40]:
        assert stage.client.get(link).status_code in {200, 409}, link


def test_the_other_language_is_one_link_away_on_the_same_page(stage: Stage) -> None:
    for name, answers in stage.pages.items():
        english = tree(answers["en"])
        for link in english.all("a", rel="alternate"):
            there = stage.client.get(link.attributes["href"])
            assert there.status_code == answers["en"].status_code, name
            words = {
                "en": list(tree(answers["es"]).one("main").read_texts()),
                "es": list(tree(there).one("main").read_texts()),
            }
            assert words["en"] == words["es"], name
            kept = [one.attributes["href"] for one in tree(there).all("a") if one.attributes["href"].startswith("/")]
            assert all("lang=" in one for one in kept), name
        if answers["en"].request.method == "GET" and answers["en"].status_code == 200:
            assert len(english.all("a", rel="alternate")) == len(LANGUAGES) - 1, name


TEXTS = st.one_of(st.sampled_from(["es", "en", "ES", "es-MX", "", "xx", "../es", "\x00", "<b>", "a" * 3000]), st.text())
WORDS = ["lang", "endpoint", "_external", "_scheme", "_anchor", "_method", "slot", "token", "self", "values", "lang[]"]


@on_sqlite
def test_no_language_and_no_word_in_an_address_breaks_a_page(client: FlaskClient, clinic: Clinic) -> None:
    clinic.policy(booking_horizon_days=1)
    token = clinic.book(str(clinic.offers()[0].slot)).token
    slot = clinic.offers()[0].slot
    addresses = ["/", "/explainer", "/contact", "/book", f"/book/{slot}", f"/appointments/{token}", "/nothing"]

    @given(
        address=st.sampled_from(addresses),
        pairs=st.lists(st.tuples(st.one_of(st.sampled_from(WORDS), st.text()), TEXTS), max_size=4),
        accepted=st.one_of(
            st.sampled_from(["es", "en;q=0, es;q=1", "*", "xx", ";;,q=", "es" * 2000]), st.text("es-,;q=.0*")
        ),
    )
    @example(address="/", pairs=[("endpoint", "x")], accepted="en")
    @example(address="/", pairs=[("_external", "1"), ("_scheme", "javascript")], accepted="en")
    @example(address="/", pairs=[("_scheme", "x")], accepted="en")
    @example(address="/", pairs=[("lang", "es"), ("lang", "en")], accepted="en")
    @hypothesis_settings(
        max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def holds(address: str, pairs: list[tuple[str, str]], accepted: str) -> None:
        page = look(client, f"{address}?{urlencode(pairs)}", accepted)
        assert page.status in {200, 404, 422}
        assert page.tree.one("html").attributes["lang"] in LANGUAGES
        for one in page.tree.all("a", rel="alternate"):
            there = urlsplit(one.attributes["href"])
            assert (there.scheme, there.netloc, there.path, there.fragment) == ("", "", address, "")
        assert_harmless(page.tree, address)

    holds()


@on_sqlite
def test_what_else_an_address_says_is_kept_with_the_language(client: FlaskClient, clinic: Clinic) -> None:
    (link,) = look(client, "/book?type=2&location=1&lang=en").tree.all("a", rel="alternate")
    assert link.attributes["href"] == "/book?type=2&location=1&lang=es"


@on_sqlite
def test_the_pages_of_programs_run_nothing_inline_either(client: FlaskClient, clinic: Clinic) -> None:
    answer = client.get("/api/docs")
    assert policy_of(answer) == STRICT
    assert "Set-Cookie" not in answer.headers
    assert_harmless(tree(answer), "docs")
