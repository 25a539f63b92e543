"""The first page, the explainer and the way to reach us: plain words, and never a claim that the rows do not bear."""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, insert, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.keys import Keyring
from scheduler.models import (
    AccessSample,
    AppointmentType,
    ClinicPolicy,
    License,
    Location,
    Slot,
    StateRule,
    Therapist,
    WorkingHours,
)
from scheduler.timeline import CELL, zone_of
from scheduler.web import patient
from tests.clinic import HOUR, Clinic, at
from tests.conftest import MONDAY_MORNING
from tests.services.test_access_goal import a_plan, build
from tests.services.test_explainer import TEXTS, cases, start_of
from tests.web.pages import Page, look, parse

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
QUARTER = timedelta(minutes=15)
KEPT = {
    "en": "We can typically see you within {} hours. Right now that holds at every one of our clinics.",
    "es": "Normalmente podemos atenderle en menos de {} horas. En este momento eso se cumple en todas",
}
NOT_KEPT = {"en": "Our goal is to see you within {} hours.", "es": "Nuestra meta es atenderle en menos de {} horas."}
NOW_KEPT = "Right now that holds at every one of our clinics."
MEASURED = (
    "In the last 28 days a visit within our goal was on offer at every one of our clinics at least {}% of the time."
)
TOO_NEW = "We have measured this for less than a week, so there is no figure yet for how often it holds."
ACCEPTED = (
    ("en", "en"),
    ("es", "es"),
    ("es-MX,en;q=0.1", "es"),
    ("en-GB,es;q=0.9", "en"),
    ("fr;q=0.9,es;q=0.5", "es"),
    ("es;q=0,en;q=0.1", "en"),
    ("de", "en"),
    ("*", "en"),
    ("", "en"),
    (";;q=,=;é,,q=x;es", "en"),
)
CLAIMS = ("licensed", "everywhere", "within_goal")


@pytest.fixture
def bare(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    return Clinic(engine, clock, keys)


def promise(page: Page) -> str:
    return page.main.one("p", class_="promise").text


def places(page: Page) -> dict[str, list[str]]:
    """What each location's line says, by its heading in the list of areas."""
    return {line.one("strong").text: [one.text for one in line.all("div")] for line in page.main.all("li")}


# --- the soonest visit


def test_the_soonest_visit_stands_in_plain_words(client: FlaskClient, clinic: Clinic) -> None:
    page = look(client, "/")
    assert (page.status, page.heading) == (200, "How soon can we see you?")
    soonest = page.main.one("p", class_="big")
    assert soonest.text == "Today, Monday, November 23, 10:00 AM Central Standard Time, Springfield · in 60 minutes"
    assert soonest.one("time").attributes["datetime"] == "2026-11-23T10:00-06:00"
    book = page.follow("Book this time")
    assert (book.status, book.heading) == (200, "Your details")
    assert str(clinic.offers(limit=1)[0].slot) in book.address


@on_sqlite
def test_the_day_is_today_or_tomorrow_on_the_calendar_of_the_place(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    for now, words in (
        ("2026-11-23T15:00:00+00:00", "Today, Monday, November 23, 10:00"),
        ("2026-11-24T02:00:00+00:00", "Tomorrow, Tuesday, November 24, 8:00"),
        ("2026-11-28T02:00:00+00:00", "Monday, November 30, 8:00"),  # a Friday evening
        ("2027-01-01T05:30:00+00:00", "Tomorrow, Friday, January 1, 8:00"),
    ):
        clock.at = at(now)
        clinic.plan()
        told = look(client, "/").main.one("p", class_="big").one("time").text
        assert told == f"{words} AM Central Standard Time, Springfield"


def test_what_is_soonest_is_what_search_lists_first(client: FlaskClient, clinic: Clinic) -> None:
    second = clinic.add_location("Mesa", "America/Phoenix", "AZ")
    clinic.add_hours(clinic.add_therapist("Ben Brown", "AZ"), second, opens=7 * 60)
    clinic.plan()
    for _ in range(6):
        first = clinic.offers(limit=1)[0]
        page = look(client, "/")
        shown = page.main.one("p", class_="big").one("time")
        assert at(shown.attributes["datetime"]) == first.slot.starts_at
        for place, name in ((1, "Springfield"), (second, "Mesa")):
            there = clinic.offers(location_id=place, limit=1)[0]
            line = next(one for one in page.main.all("li") if one.one("strong").text == name)
            assert at(line.one("time").attributes["datetime"]) == there.slot.starts_at
        clinic.book(str(first.slot))


def test_locations_stand_by_area_and_say_where_nothing_can_be_booked(client: FlaskClient, clinic: Clinic) -> None:
    clinic.add_location("Chatham")
    with transaction(clinic.engine) as session:
        session.execute(update(Location).values(area="Sangamon County"))
        session.execute(update(Location).where(Location.name == "Chatham").values(phone="+1 555 0199"))
    page = look(client, "/")
    assert [one.text for one in page.main.all("h3")] == ["Sangamon County"]
    assert places(page) == {
        "Chatham": [
            "Chatham 1 Main Street",
            "No time online; please call +1 555 0199 All times in Chatham",
        ],
        "Springfield": [
            "Springfield 1 Main Street",
            "Today, Monday, November 23, 10:00 AM Central Standard Time in 60 minutes All times in Springfield",
        ],
    }
    assert (
        page.follow("All times in Chatham").main.one("p", class_="big").text == "There is no time left for this choice."
    )


def test_a_clinic_with_nothing_entered_has_its_pages_all_the_same(bare: Clinic, client: FlaskClient) -> None:
    for address in ("/", "/book", "/contact", "/explainer"):
        assert look(client, address).status == 200
    page = look(client, "/")
    assert page.main.one("p", class_="big").text.startswith("No visit can be booked online at the moment.")
    assert promise(page).startswith(NOT_KEPT["en"].format(48))
    assert page.follow("Schedule an appointment").status == 200
    bare.add_kinds()
    assert promise(look(client, "/")).endswith(TOO_NEW)
    assert look(client, "/book").main.one("p", class_="big").text == "There is no time left for this choice."


@on_sqlite
def test_without_a_visit_for_new_patients_nothing_is_promised(client: FlaskClient, clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).values(new_patient=False))
    page = look(client, "/")
    assert promise(page).startswith(NOT_KEPT["en"].format(48))
    assert [one.status for one in (page, page.follow("Schedule an appointment"))] == [200, 200]


# --- the promise, by its ledger


def full(clinic: Clinic) -> None:
    while (soonest := clinic.offers(limit=1)[0].slot).starts_at <= clinic.clock.now() + 48 * HOUR:
        clinic.book(str(soonest))


def closed_place(clinic: Clinic) -> None:
    clinic.add_location("Chatham")


def long_notice(clinic: Clinic) -> None:
    clinic.policy(booking_notice_minutes=49 * 60)


@pytest.mark.parametrize("breach", [full, closed_place, long_notice])
def test_the_promise_stands_only_while_every_location_keeps_it(
    client: FlaskClient, clinic: Clinic, breach: Callable[[Clinic], None]
) -> None:
    for language in ("en", "es"):
        assert promise(look(client, "/", language)).startswith(KEPT[language].format(48))
    breach(clinic)
    for language in ("en", "es"):
        assert promise(look(client, "/", language)).startswith(NOT_KEPT[language].format(48))


@on_sqlite
def test_the_promise_names_the_clinics_own_goal(client: FlaskClient, clinic: Clinic) -> None:
    clinic.policy(access_goal_hours=24)
    assert promise(look(client, "/")).startswith(KEPT["en"].format(24))
    clinic.policy(access_goal_hours=1, booking_notice_minutes=0)
    for _ in range(2):
        clinic.book(str(clinic.offers(limit=1)[0].slot))
    assert promise(look(client, "/")).startswith(NOT_KEPT["en"].format(1))


def measured(clinic: Clinic, days: int, kept: int, of: int, *, at: int = 1) -> None:
    """A history that reaches so many days back, in which `kept` of `of` quarter hours kept the goal."""
    begun = MONDAY_MORNING - timedelta(days=days)
    rows = [
        {
            "appointment_type_id": clinic.kinds["Evaluation"],
            "location_id": at,
            "quarter": begun + number * QUARTER,
            "next_available_hours": 1.0 if number < kept else 49.0,
            "third_next_available_hours": None,
            "goal_hours": 48,
            "within_goal": number < kept,
        }
        for number in range(of)
    ]
    with transaction(clinic.engine) as session:
        session.execute(delete(AccessSample).where(AccessSample.location_id == at))
        session.execute(insert(AccessSample), rows)


@on_sqlite
def test_the_measured_share_is_one_line_rounded_down(client: FlaskClient, clinic: Clinic) -> None:
    spanish = "dentro de nuestra meta en cada una de nuestras clínicas al menos el {}% del tiempo."
    for kept, of, percent in ((1, 1, 100), (999, 1000, 99), (2, 3, 66), (0, 5, 0), (29, 100, 29), (57, 100, 57)):
        measured(clinic, 20, kept, of)
        typical = KEPT["en"] if percent >= 90 else f"{NOT_KEPT['en']} {NOW_KEPT}"
        assert promise(look(client, "/")) == f"{typical.format(48)} {MEASURED.format(percent)}"
        assert promise(look(client, "/", "es")).endswith(spanish.format(percent))


@on_sqlite
def test_the_share_is_that_of_the_clinic_that_keeps_the_goal_least(client: FlaskClient, clinic: Clinic) -> None:
    """That somewhere in three states there was a time helps nobody who asks at one of them."""
    other = clinic.add_location("Far away")
    clinic.add_hours(clinic.add_therapist("Ben Brown"), other)
    clinic.plan()
    measured(clinic, 20, 95, 100)
    measured(clinic, 20, 70, 100, at=other)
    assert promise(look(client, "/")).endswith(MEASURED.format(70))


@on_sqlite
def test_without_a_kind_for_new_patients_the_front_page_denies_no_time(client: FlaskClient, clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).values(new_patient=False))
    page = look(client, "/")
    assert page.main.one("p", class_="big").text == "Choose what you come for, and see when there is a time."


@on_sqlite
def test_typically_is_by_four_weeks_and_right_now_is_by_this_moment(client: FlaskClient, clinic: Clinic) -> None:
    measured(clinic, 20, 95, 100)
    full(clinic)
    told = promise(look(client, "/"))
    assert told.startswith("We can typically see you within 48 hours. Right now we cannot offer that at every clinic.")


def test_every_whole_share_is_told_as_it_is() -> None:
    """Binary fractions make 28.999… of 0.29 * 100, and a page that says 28."""
    assert [patient._percent(n / 100) for n in range(101)] == list(range(101))
    assert all(patient._percent(kept / of) == kept * 100 // of for of in range(1, 120) for kept in range(of + 1))
    assert all(patient._percent(kept / 2688) == kept * 100 // 2688 for kept in range(2689))


def test_a_share_is_told_from_a_week_of_history_on(client: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    clinic.policy(access_goal_hours=24)
    for _ in range(8):
        assert promise(look(client, "/")).endswith(TOO_NEW) == (clock.at < MONDAY_MORNING + timedelta(days=7))
        clinic.record_access()
        clock.at += timedelta(days=1)
        clinic.plan()
    assert promise(look(client, "/")).endswith(MEASURED.format(87))  # all but the Saturday: 7 of 8


# --- no page claims what the rows deny


def spoil(clinic: Clinic, seed: int) -> None:
    """Change what claims hang on in one of the ways that rows can change; then let the worker plan again."""
    chance = Random(f"spoil {seed}")
    with transaction(clinic.engine) as session:
        for therapist in session.scalars(select(Therapist)):
            therapist.active = chance.random() < 0.8
        for rule in session.scalars(select(StateRule)):
            rule.needling = chance.choice(("permitted", "permitted", "silent", "forbidden"))
            rule.qualification = chance.choice(("dry_needling", "dry_needling", None, "endorsement"))
        if chance.random() < 0.1:
            session.execute(delete(StateRule))
        if chance.random() < 0.1:
            session.execute(update(AppointmentType).values(includes_needling=False))
        if chance.random() < 0.1:
            session.execute(update(AppointmentType).values(new_patient=False))
        if chance.random() < 0.2:
            tomorrow = (clinic.clock.now() + timedelta(days=1)).date()
            session.execute(update(WorkingHours).where(WorkingHours.weekday < 3).values(valid_from=tomorrow))
    clinic.plan()


class Rows:
    """Everything that claims are about, read plainly, and each claim decided row by row."""

    def __init__(self, clinic: Clinic) -> None:
        self.now = clinic.clock.now()
        with reading(clinic.engine) as session:
            session.expire_on_commit = False
            self.policy = session.get_one(ClinicPolicy, 1)
            self.kinds = self._all(session, AppointmentType)
            self.places = {place.id: place for place in self._all(session, Location)}
            self.therapists = [one for one in self._all(session, Therapist) if one.active]
            self.hours = self._all(session, WorkingHours)
            self.licences = self._all(session, License)
            self.rules = self._all(session, StateRule)
            self.cells = {(one.therapist_id, one.starts_at): one for one in self._all(session, Slot)}
            session.expunge_all()

    @staticmethod
    def _all(session: Any, table: Any) -> Any:  # noqa: ANN401 a model's rows
        return session.scalars(select(table)).all()

    def licensed(self) -> bool:
        return bool(self.therapists) and all(self._fit_for_the_claim(one.id) for one in self.therapists)

    def everywhere(self) -> bool:
        return (
            any(kind.includes_needling for kind in self.kinds)
            and bool(self.places)
            and all(
                any(place in self._posts(one.id) and self._may_needle(one.id, place) for one in self.therapists)
                for place in self.places
            )
        )

    def within_goal(self) -> bool:
        kinds = sorted((kind for kind in self.kinds if kind.new_patient), key=lambda kind: kind.position)
        return bool(kinds and self.places) and all(self._soon(kinds[0], place) for place in self.places)

    def _fit_for_the_claim(self, therapist: int) -> bool:
        posts = self._posts(therapist)
        return (all if posts else any)(self._may_needle(therapist, place) for place in posts or self.places)

    def _today(self, place: int) -> Any:  # noqa: ANN401 a date
        return self.now.astimezone(zone_of(self.places[place].time_zone)).date()

    def _posts(self, therapist: int) -> set[int]:
        return {
            one.location_id
            for one in self.hours
            if one.therapist_id == therapist
            and one.valid_from <= self._today(one.location_id)
            and (one.valid_until is None or self._today(one.location_id) <= one.valid_until)
        }

    def _may_needle(self, therapist: int, place: int) -> bool:
        state, today = self.places[place].state, self._today(place)
        own = {
            one.kind
            for one in self.licences
            if (one.therapist_id, one.state) == (therapist, state) and one.valid_from <= today <= one.valid_until
        }
        begun = [rule for rule in self.rules if rule.state == state and rule.valid_from <= today]
        rule = max(begun, key=lambda one: one.valid_from, default=None)
        return rule is not None and rule.needling != "forbidden" and {"pt", rule.qualification or "pt"} <= own

    def _soon(self, kind: AppointmentType, place: int) -> bool:
        second = self.now.replace(microsecond=0)
        return any(
            self._free(therapist, start, kind.cells, place)
            and self.now + timedelta(minutes=self.policy.booking_notice_minutes) <= start
            and start <= self.now + timedelta(days=self.policy.booking_horizon_days)
            and round((start - second) / HOUR, 2) <= self.policy.access_goal_hours
            for therapist, start in self.cells
        )

    def _free(self, therapist: int, start: datetime, cells: int, place: int) -> bool:
        wanted = [self.cells.get((therapist, start + number * CELL)) for number in range(cells)]
        return all(cell and cell.appointment_id is None and cell.location_id == place for cell in wanted)


def claims_told(client: FlaskClient, language: str, goal: int) -> dict[str, bool]:
    """Which claims the explainer's page makes; each must stand there in exactly one of its sentences."""
    page = look(client, "/explainer", language).main.text
    told = {}
    for section in TEXTS[language].sections:
        for claim in section.get("claims", ()):
            filled = {case: parse(words.replace("{hours}", str(goal))).text for case, words in cases(claim).items()}
            sentences = {case: start_of(words) for case, words in filled.items()}
            said = [case for case, sentence in sentences.items() if sentence in page]
            assert len(said) == 1, (claim["id"], page)
            told[claim["id"]] = said == ["holds"]
    return told


def test_no_page_makes_a_claim_that_the_rows_deny(
    engine: Engine, clock: FixedClock, keys: Keyring, client: FlaskClient
) -> None:
    seen = set()
    for seed in range(40 if engine.dialect.name == "sqlite" else 10):
        plan, clinic = a_plan(seed), Clinic(engine, clock, keys)
        build(clinic, clock, plan)
        spoil(clinic, seed)
        rows = Rows(clinic)
        true = {"licensed": rows.licensed(), "everywhere": rows.everywhere(), "within_goal": rows.within_goal()}
        for language in ("en", "es"):
            assert claims_told(client, language, plan.goal_hours) == true, (seed, language)
            front = promise(look(client, "/", language))
            assert front.startswith((KEPT if true["within_goal"] else NOT_KEPT)[language].format(plan.goal_hours)), seed
        seen |= set(true.items())
    if engine.dialect.name == "sqlite":
        assert seen == {(claim, holds) for claim in CLAIMS for holds in (True, False)}  # so that all was asked


# --- the explainer and how to reach us


@pytest.mark.parametrize("language", ["en", "es"])
@on_sqlite
def test_the_explainer_page_holds_all_of_its_text(client: FlaskClient, clinic: Clinic, language: str) -> None:
    page, wording = look(client, "/explainer", language), TEXTS[language]
    assert page.heading == wording.title
    for section in wording.sections:
        shown = page.main.one("section", aria_labelledby=section["id"])
        assert shown.one("h2").text == section["heading"]
        assert parse(section["html"]).text in shown.text
    assert wording.version in page.main.text


@on_sqlite
def test_the_contact_page_names_every_location_with_its_phone(client: FlaskClient, clinic: Clinic) -> None:
    clinic.add_location("Mesa", "America/Phoenix", "AZ")
    page = look(client, "/contact")
    assert set(places(page)) == {"Mesa", "Springfield"}
    assert [one.attributes["href"] for one in page.main.all("a") if one.text == "+1 555 0100"] == ["tel:+15550100"] * 2
    assert page.follow("All times in Springfield").heading == "Choose a time"


# --- the language


@on_sqlite
@pytest.mark.parametrize(("accepts", "language"), ACCEPTED)
def test_pages_are_in_the_language_that_the_browser_prefers(
    client: FlaskClient, clinic: Clinic, accepts: str, language: str
) -> None:
    for path in ("/", "/book", "/explainer", "/contact", "/nothing-here", "/book?location=here"):
        page = look(client, path, accepts)
        assert page.tree.one("html").attributes["lang"] == language
        assert {"en": "Skip to content", "es": "Ir al contenido"}[language] in {one.text for one in page.tree.all("a")}
