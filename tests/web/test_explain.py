"""The page and the command that say why a time is offered or is not."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from scheduler import cli
from scheduler.clock import FixedClock
from scheduler.models import Role
from tests.clinic import Clinic
from tests.services.test_time_away import CHRISTMAS, close
from tests.web.pages import look
from tests.web.staff import an_account, signed_in

WHY = "/staff/desk/why?location=1&therapist=1&type=1"


@pytest.fixture
def desk(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.FRONT_DESK))


def test_the_desk_is_told_why(desk: FlaskClient, clinic: Clinic) -> None:
    clinic.policy(booking_notice_minutes=24 * 60)
    close(clinic, CHRISTMAS)
    page = look(desk, "/staff/desk/book").follow("Why is a time offered, or not?")
    assert page.heading == "Why is a time offered, or not?"
    told = {
        "2026-12-25T09:00": "December 25, 2026, 9:00 AM Central Standard Time Online The location is closed then.",
        "2026-12-02T19:00": "The therapist has no working hours there then.",
        "2026-12-02T09:00": "Online This time can be booked now. At the desk This time can be booked now.",
        "2026-11-23T11:00": "Online It has begun, or is sooner than patients may book online.",
        "2026-12-02T16:45": "The hours end too early: with the time kept free after it, the visit would last until 5",
    }
    for at, words in told.items():
        assert words in look(desk, f"{WHY}&at={at}").main.text


@pytest.mark.parametrize(
    "wrong",
    ["at=tomorrow", "at=2026-12-02T09:05", "at=2026-12-02T09:00Z", "at=9999-12-31T09:00", "at=0001-01-01T00:00"],
)
def test_a_text_that_is_no_time_is_refused(desk: FlaskClient, wrong: str) -> None:
    assert desk.get(f"{WHY}&{wrong}").status_code == 422


@pytest.mark.parametrize("wrong", ["therapist=x", "type=99", "location=x", "type=99999999999"])
def test_what_there_is_not_is_refused(desk: FlaskClient, wrong: str) -> None:
    name = wrong.partition("=")[0]
    asked = {"location": "1", "therapist": "1", "type": "1", "at": "2026-12-02T09:00"} | {name: wrong.partition("=")[2]}
    assert desk.get("/staff/desk/why", query_string=asked).status_code in {404, 422}


def test_whoever_works_elsewhere_is_chosen_anew(desk: FlaskClient, clinic: Clinic) -> None:
    """The therapists of a location are known once it was chosen."""
    denver = clinic.add_location("Denver", "America/Denver", "IL")
    clinic.add_hours(clinic.add_therapist("Ben Becker"), denver)
    page = look(desk, f"/staff/desk/why?location={denver}&therapist=1&type=1&at=2026-12-02T09:00")
    assert page.status == 200
    assert "Choose who works at Denver." in page.main.text
    assert page.tree.one("input", name="at").attributes["value"] == "2026-12-02T09:00"
    assert "Ben Becker" in page.tree.one("select", name="therapist").text
    off = look(desk, f"{WHY}&at=2026-12-02T09:07")
    assert (off.status, off.problems["at"]) == (422, "Times begin on the quarter hour, like 09:15.")


def test_another_s_place_is_not_asked_about(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> None:
    denver = clinic.add_location("Denver", "America/Denver", "IL")
    desk = signed_in(app, engine, clock, an_account(engine, clock, Role.FRONT_DESK, locations=[denver]))
    assert desk.get(f"{WHY}&at=2026-12-02T09:00").status_code == 404


@pytest.mark.parametrize(
    ("at", "more", "code", "said"),
    [
        ("2026-12-02T09:00", [], 0, "offered: This time can be booked now.\n"),
        ("2026-11-23T09:00", [], 1, "too-soon: It has begun, or is sooner than patients may book online.\n"),
        ("2026-12-02T19:00", ["--staff"], 1, "outside-hours: The therapist has no working hours there then.\n"),
        ("2026-12-02T09:05", [], 1, "Error: at: Times begin on the quarter hour, like 09:15.\n"),
        ("2026-12-02T09:00", ["--therapist", "9"], 1, "Error: therapist: There is nothing with this number.\n"),
        ("2026-12-02T09:00", ["--location", "9"], 1, "Error: There is no such location.\n"),
    ],
)
def test_the_command_says_why(
    app: Flask,
    engine: Engine,
    clock: FixedClock,
    clinic: Clinic,
    at: str,
    more: list[str],
    code: int,
    said: str,
) -> None:
    command = cli._explain(app, engine, clock)
    asked = ["--type", "1", "--therapist", "1", "--location", "1", "--at", at, *more]
    result = app.test_cli_runner().invoke(command, asked)
    assert (result.exit_code, result.output) == (code, said)
