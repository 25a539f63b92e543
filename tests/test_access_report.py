"""`access report`: the goal as it stands, as a table and as the JSON that the API answers."""

import json
from datetime import timedelta

import pytest
from apiflask import APIFlask
from click.testing import Result
from flask.testing import FlaskClient
from sqlalchemy import Engine

import config
from scheduler import cli
from scheduler.clock import FixedClock
from tests.clinic import Clinic
from tests.conftest import MONDAY_MORNING

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def app(app: APIFlask, settings: config.Settings, engine: Engine, clock: FixedClock) -> APIFlask:
    cli.install(app, settings, engine, clock)
    return app


def report(app: APIFlask, *words: str) -> Result:
    return app.test_cli_runner().invoke(args=["access", "report", *words])


def cells(told: Result) -> list[list[str]]:
    """The rows of the table, below its head."""
    assert told.exit_code == 0, told.output
    rows = [line.split("│")[1:-1] for line in told.output.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in row] for row in rows]


def test_the_table_tells_overall_and_each_location(app: APIFlask, clinic: Clinic) -> None:
    clinic.add_location("Mesa [East]", "America/Phoenix", "AZ")
    told = report(app)
    first, second, *_ = told.output.splitlines()
    assert first == "Evaluation, Mon 2026-11-23 15:00:00 UTC"
    assert second == "Goal: a start within 48 hours, 90.0% of the time"
    figures = ["Mon 2026-11-23 10:00 CST", "1.00", "1.50", "yes", "-"]
    assert cells(told) == [
        ["Overall", *figures],
        ["Mesa [East]", "none", "-", "-", "no", "-"],
        ["Springfield", *figures],
    ]


@on_sqlite
def test_a_share_is_cut_rather_than_rounded_up(app: APIFlask, clinic: Clinic, clock: FixedClock) -> None:
    for quarter, goal in enumerate((1, 48, 48)):
        clinic.policy(access_goal_hours=goal, booking_notice_minutes=90)
        clock.at = MONDAY_MORNING + quarter * timedelta(minutes=15)
        clinic.record_access()
    clock.at += timedelta(days=7)
    told = report(app)
    assert [row[-1] for row in cells(told)] == ["66.6%", "66.6%"]
    assert told.output.splitlines()[-2:] == [
        f"{name}, 28 days: with nothing booked 66.6%; "
        "missed 0.25 hours without hours in reach, 0.0 hours with all times taken"
        for name in ("Overall", "Springfield")
    ]


def test_what_new_patients_were_offered_and_took_is_told_where_any_booked(app: APIFlask, clinic: Clinic) -> None:
    clinic.add_location("Mesa", "America/Phoenix", "AZ")
    offers = clinic.offers()
    for offer in (offers[0], offers[8], offers[-1]):
        clinic.book(str(offer.slot))
    met = "28 days: offered within 48 hours 100.0% of 3 bookings; took one 66.6%; offered sooner, chose later 33.3%"
    assert report(app).output.splitlines()[-2:] == [f"Overall, {met}", f"Springfield, {met}"]


def test_the_json_is_what_the_api_answers(app: APIFlask, client: FlaskClient, clinic: Clinic) -> None:
    told = report(app, "--json")
    assert told.exit_code == 0
    assert json.loads(told.output) == client.get("/api/v1/access").get_json()


def test_another_time_is_measured_as_if_it_were_now(
    app: APIFlask, client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    told = json.loads(report(app, "--json", "--at", "2026-11-27T16:30:00-06:00").output)
    assert told["overall"]["next_available_at"] == "2026-11-30T08:00:00-06:00"
    assert (told["overall"]["next_available_hours"], told["overall"]["within_goal"]) == (63.5, False)
    assert told["measured_at"] == "2026-11-27T22:30:00+00:00"
    clock.at = MONDAY_MORNING + timedelta(days=4, hours=7, minutes=30)
    assert client.get("/api/v1/access").get_json() == told


@on_sqlite
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--at", "noon"), "no time"),
        (("--at", "2026-11-27T16:30"), "offset"),
        (("--at", "9999-12-31T23:59-06:00"), "too far"),
        (("--at", "0001-01-01T00:00+14:00"), "too far"),
    ],
)
def test_a_time_that_is_none_is_refused(app: APIFlask, clinic: Clinic, words: tuple[str, ...], reason: str) -> None:
    told = report(app, *words)
    assert told.exit_code == 2
    assert reason in told.output


@on_sqlite
def test_a_clinic_without_types_is_told_so_without_a_traceback(app: APIFlask) -> None:
    told = report(app)
    assert told.exit_code == 1
    assert "new-patient type" in told.output
