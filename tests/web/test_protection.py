"""Times kept back for short notice, met from outside: by the API, by a page, by a forged request; and their page."""

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading
from scheduler.models import Appointment, Role, Status
from scheduler.services import protection
from scheduler.services.availability import SlotName
from tests.clinic import Clinic, body, key
from tests.keeping import GOAL, INSTANT, first_kept, level_of
from tests.web.pages import after, look
from tests.web.staff import an_account, csrf_token, signed_in

API = "/api/v1"
PAGE = "/admin/access/protection"
PAT = {"name": "Pat Doe", "email": "pat@example.com", "acknowledged": "y"}


@pytest.fixture
def slot(clinic: Clinic, clock: FixedClock) -> str:
    """A time that is kept back, the moment before it is released."""
    clinic.protect()
    name = first_kept(clinic)
    clock.at = name.starts_at - GOAL - INSTANT
    return str(name)


@pytest.fixture
def admin(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))


def test_the_api_offers_and_books_it_at_48_hours_sharp(client: FlaskClient, slot: str, clock: FixedClock) -> None:
    def listed() -> bool:
        items = client.get(f"{API}/slots?appointment_type=1&limit=200").get_json()["items"]
        return slot in [item["id"] for item in items]

    wishes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("holds", {"slot": slot, "appointment_type": "1"}),
        ("appointments", body(slot)),
    )
    assert not listed()
    for path, wish in wishes:
        refused = client.post(f"{API}/{path}", json=wish, headers=key())
        problem = refused.get_json()
        assert (refused.status_code, problem["type"]) == (409, "/api/docs#protected")
        assert len(problem["alternatives"]) == 3
        assert slot not in [item["id"] for item in problem["alternatives"]]
    clock.at += INSTANT
    assert listed()
    held = client.post(f"{API}/holds", json=wishes[0][1]).get_json()["hold"]
    assert client.post(f"{API}/appointments", json=body(slot, hold=held), headers=key()).status_code == 201


def test_a_page_says_that_it_waits_and_offers_others(client: FlaskClient, slot: str, clock: FixedClock) -> None:
    """Who writes the address by hand, or sends a form of their own, gets no further than who chooses a time."""
    page = look(client, f"/book/{slot}")
    assert (page.status, page.heading) == (409, "This time cannot be booked yet")
    assert "in the last 48 hours before it begins" in page.main.text
    assert f"/book/{slot}" not in str(client.get("/book?location=1").get_data(as_text=True))
    clock.at += INSTANT
    assert look(client, f"/book/{slot}").status == 200


def test_a_page_books_it_at_48_hours_sharp(client: FlaskClient, slot: str, clinic: Clinic, clock: FixedClock) -> None:
    """The moment before, the filled form of another time is refused when it is sent for this one."""
    other = str(clinic.offers()[0].slot)
    address, sent = look(client, f"/book/{other}").press("Continue", **PAT).sent("Book this visit")
    assert other in address
    refused = after(client, address.replace(other, slot), sent)
    assert (refused.status, refused.heading) == (409, "This time cannot be booked yet")
    clock.at += INSTANT
    check = look(client, f"/book/{slot}").press("Continue", **PAT)
    assert check.press("Book this visit").heading == "Your visit is booked"
    with reading(clinic.engine) as session:
        (visit,) = session.scalars(select(Appointment).where(Appointment.status == Status.BOOKED))
        assert SlotName(visit.therapist_id, visit.location_id, visit.starts_at) == SlotName.parse(slot)
        assert visit.starts_at - visit.booked_at == GOAL


def test_the_desk_is_told_when_it_opens(app: Flask, engine: Engine, clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    name = first_kept(clinic)
    desk = signed_in(app, engine, clock, an_account(engine, clock, Role.FRONT_DESK))
    at = (name.starts_at - timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M")  # Chicago in winter
    told = look(desk, f"/staff/desk/why?location=1&therapist=1&type=1&at={at}").main.text
    assert told.count("It is kept back for short notice; it can be booked from") == 2
    assert look(desk, f"/staff/desk/book/{name}").heading == "This time cannot be booked yet"


def test_the_page_shows_the_number_and_why(admin: FlaskClient, clinic: Clinic) -> None:
    assert "Nothing is kept back yet" in look(admin, PAGE).main.text
    clinic.protect()
    page = look(admin, "/admin/access").follow("Kept back for short notice")
    told = page.main.one("section").text
    assert "Springfield 2 visits a day, since November 23, 2026" in told
    assert "Follows the rule" in told
    assert "The rule suggests 3. By the usual number" in told
    assert "Floor: 0. Ceiling: 4." in told


def test_an_administrator_pins_a_number_and_unpins_it(admin: FlaskClient, clinic: Clinic) -> None:
    clinic.protect()
    page = look(admin, PAGE).follow("Change or pin it: Springfield")
    done = page.press("Save", pinned="1")
    assert "1 visit a day" in done.main.text
    assert "Pinned by Some admin (admin@clinic.example) on November 23, 2026" in done.main.text
    assert level_of(clinic).level == 1
    back = done.follow("Change or pin it: Springfield").press("Save", pinned="")
    assert "Follows the rule" in back.main.text


@pytest.mark.parametrize(("day", "status"), [("2026-11-26", 200), ("soon", 422)])
def test_a_day_that_was_not_let_go_cannot_be_taken_back(admin: FlaskClient, day: str, status: int) -> None:
    page = after(admin, f"{PAGE}/1/keep-again", {"csrf_token": csrf_token(admin), "day": day})
    assert page.status == status
    assert ("This day was not let go." in page.tree.text) == (status == 200)


@pytest.mark.parametrize(
    ("typed", "field"), [({"pinned": "101"}, "pinned"), ({"least": "-1"}, "least"), ({"least": "9"}, "least")]
)
def test_a_number_that_cannot_be_is_refused_at_its_field(
    admin: FlaskClient, clinic: Clinic, typed: dict[str, str], field: str
) -> None:
    page = look(admin, f"{PAGE}/1").press("Save", **typed)
    assert (page.status, list(page.problems)) == (422, [field])
    with reading(clinic.engine) as session:
        assert protection.levels(session) == {}
