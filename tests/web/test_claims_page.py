"""The page of the public claims: what stands on the public page now, why, what mends it, and how it stood."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, update

from scheduler.clock import FixedClock
from scheduler.db import transaction
from scheduler.models import AccessSample, License, Location, Role, StateRule
from scheduler.worker import Worker
from tests.clinic import HOUR, Clinic
from tests.services.test_claim_words import sampled
from tests.services.test_queries import statements
from tests.web.pages import Element, look
from tests.web.staff import an_account, signed_in


@pytest.fixture
def admin(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))


def told(client: FlaskClient, language: str = "en") -> dict[str, Element]:
    page = look(client, "/admin/claims", language)
    assert page.status == 200
    return {one.one("h2").attributes["id"] or "": one for one in page.main.all("section")}


def whys(section: Element) -> list[tuple[str, list[str | None]]]:
    """What stands against a claim, with the pages that mend it."""
    rows = section.all("ul")[0].all("li") if section.all("ul") else []
    return [(row.all("span")[0].text, [link.attributes["href"] for link in row.all("a")]) for row in rows]


def test_a_claim_that_holds_stands_with_its_sentence_and_nothing_against_it(admin: FlaskClient) -> None:
    sections = told(admin)
    assert list(sections) == ["licensed", "everywhere", "within_goal"]
    for section in sections.values():
        assert section.one("p", class_="big").text == "Holds."
        assert whys(section) == []
        assert "No change of it was noted yet." in section.text
    assert sections["within_goal"].one("blockquote").text == "New patients are typically seen within 48 hours."


def test_what_stands_against_a_claim_leads_to_what_mends_it(admin: FlaskClient, clinic: Clinic) -> None:
    second = clinic.add_location("Chatham", state="WI")
    helper = clinic.add_therapist("Ben Brown", state="WI", kinds=("pt",))
    clinic.add_hours(helper, second)
    clinic.plan()
    sampled(clinic, 1, kept=89, of=100)
    found = told(admin)
    assert whys(found["licensed"]) == [
        ("Ben Brown has no valid license for Dry needling at Chatham.", [f"/admin/therapists/{helper}"])
    ]
    assert whys(found["everywhere"]) == [
        ("Chatham: nobody who works there now may needle there.", ["/admin/therapists"])
    ]
    assert whys(found["within_goal"]) == [
        (
            "Springfield: within the goal 89% of the last 28 days; the target is 90%.",
            ["/admin/access/levers?location=1"],
        )
    ]
    assert found["within_goal"].one("p", class_="big").text.startswith("Does not hold. The page says what does")
    assert "within two working days" in found["within_goal"].one("blockquote").text
    with transaction(clinic.engine) as session:
        session.execute(update(StateRule).where(StateRule.state == "WI").values(needling="forbidden"))
        session.execute(delete(AccessSample))
        session.add(clinic.license(helper, "dry_needling", "WI"))
    found = told(admin)
    assert whys(found["licensed"]) == [("Ben Brown cannot needle at Chatham: WI does not allow it.", ["/admin/rules"])]
    assert found["within_goal"].one("p", class_="big").text == "Holds."
    with transaction(clinic.engine) as session:
        session.execute(delete(StateRule).where(StateRule.state == "WI"))
    (why,) = whys(told(admin)["licensed"])
    assert why[1] == ["/admin/rules/new?state=WI"]
    assert look(admin, "/admin/rules/new?state=WI").status == 200


def test_the_history_has_one_line_for_each_change(admin: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    worker = Worker(clinic.engine, clock, None)  # type: ignore[arg-type] # this tick sends nothing
    worker.note_claims()
    second = clinic.add_location("Chatham")
    clock.at += HOUR / 6  # a session that is left alone for longer locks itself
    worker.note_claims()
    rows = [
        [cell.text for cell in row.walk() if cell.tag in {"th", "td"}] for row in told(admin)["everywhere"].all("tr")
    ]
    assert rows == [
        ["Since", "Told", "Why"],
        [
            "Monday, November 23, 2026, 9:10 AM Central Standard Time",
            "Does not hold.",
            "Chatham: nobody has hours there now.",
        ],
        ["Monday, November 23, 2026, 9:00 AM Central Standard Time", "Holds.", ""],
    ]
    with transaction(clinic.engine) as session:
        session.execute(update(Location).where(Location.id == second).values(active=False, name="Old Chatham"))
    assert "Old Chatham: nobody has hours there now." in told(admin)["everywhere"].text


def test_who_administers_one_place_sees_nobody_of_another(
    app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic, admin: FlaskClient
) -> None:
    second = clinic.add_location("Chatham")
    clinic.add_hours(clinic.add_therapist("Ben Brown", kinds=()), second)
    Worker(engine, clock, None).note_claims()  # type: ignore[arg-type] # this tick sends nothing
    here = an_account(engine, clock, Role.ADMIN, email="here@clinic.example", locations=[1])
    there = an_account(engine, clock, Role.ADMIN, email="there@clinic.example", locations=[second])
    away = told(signed_in(app, engine, clock, here))
    assert "1 thing more stands against it at other locations." in away["licensed"].text
    assert "Ben Brown" not in str([section.text for section in away.values()])
    near = told(signed_in(app, engine, clock, there))
    assert whys(near["licensed"])[0][0].startswith("Ben Brown has no valid license")
    with transaction(engine) as session:
        session.execute(delete(StateRule))
    (why,) = [one for one in whys(told(signed_in(app, engine, clock, there))["licensed"]) if "Ben" in one[0]]
    assert why[1] == []  # rules of states are for administrators of the whole clinic


def test_the_overview_leads_to_claims_that_do_not_hold(admin: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    worker = Worker(clinic.engine, clock, None)  # type: ignore[arg-type] # this tick sends nothing
    worker.note_claims()
    assert "Public claims" not in look(admin, "/admin/").main.text
    clinic.add_location("Chatham")
    clock.at += HOUR / 6
    worker.note_claims()
    assert "Public claims 2 claims do not hold" in look(admin, "/admin/").main.text


def test_the_page_speaks_spanish(admin: FlaskClient, clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(delete(License).where(License.kind == "dry_needling"))
    found = told(admin, "es")
    assert found["within_goal"].one("blockquote").text.startswith("Por lo general, atendemos a los pacientes nuevos")
    assert found["within_goal"].one("p", class_="big").text == "Se cumple."
    assert whys(found["licensed"])[0][0].startswith("Ana Abbott no tiene una licencia vigente para")


def test_the_page_asks_as_little_for_many_locations(admin: FlaskClient, clinic: Clinic, engine: Engine) -> None:
    counts = []
    for more in (1, 4):
        for number in range(more):
            place = clinic.add_location(f"Place {more} {number}")
            clinic.add_hours(clinic.add_therapist(f"T{more} {number}", kinds=("pt",)), place)
        told(admin)  # so that the terms are known
        with statements(engine) as seen:
            told(admin)
        counts.append(len(seen))
    assert counts[0] == counts[1]
