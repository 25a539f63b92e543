"""The access board says first whether the goal holds, then what new patients met and what is left."""

from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, update

from scheduler.clock import FixedClock
from scheduler.db import transaction
from scheduler.models import AccessSample, AppointmentType, Role
from scheduler.timeline import CELL, DAY
from tests.clinic import Clinic
from tests.services.test_queries import statements
from tests.web.pages import Element, look
from tests.web.staff import an_account, signed_in


@pytest.fixture
def admin(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))


def sampled(clinic: Clinic, kept: int, missed: int) -> None:
    """A history of quarter hours, 27 days old."""
    begins = clinic.clock.now().replace(minute=0, second=0, microsecond=0) - 27 * DAY
    with transaction(clinic.engine) as session:
        session.execute(delete(AccessSample))
        for number in range(kept + missed):
            hours = 20.0 if number < kept else 60.0
            session.add(
                AccessSample(
                    appointment_type_id=clinic.kinds["Evaluation"],
                    location_id=1,
                    quarter=begins + number * CELL,
                    next_available_hours=hours,
                    third_next_available_hours=hours,
                    goal_hours=48,
                    within_goal=hours <= 48,
                )
            )


def told(admin: FlaskClient, path: str = "/admin/access") -> dict[str, Element]:
    page = look(admin, path)
    assert page.status == 200
    return {one.one("h2").text: one for one in page.main.all("section")}


@pytest.mark.parametrize(
    ("kept", "missed", "verdict"),
    [
        (0, 0, "Holds now. Not yet measured for 7 days."),
        (90, 10, "Holds. 90% of the last 28 days; the target is 90%."),
        (899, 101, "Does not hold. 89.9% of the last 28 days; the target is 90%."),
    ],
)
def test_the_verdict_comes_first(admin: FlaskClient, clinic: Clinic, kept: int, missed: int, verdict: str) -> None:
    sampled(clinic, kept, missed)
    for name, section in told(admin).items():
        assert section.all("p")[0].text == verdict, name


def test_a_location_where_nothing_is_left_says_so(admin: FlaskClient, clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).values(notice_minutes=89 * 1440, horizon_days=1))
    section = told(admin)["Springfield"]
    assert [one.text for one in section.all("p")[:2]] == [
        "Does not hold now. Not yet measured for 7 days.",
        "Nothing can be booked.",
    ]
    assert {row.all("td")[1].text for row in section.all("tr")[1:]} == {"0"}


def test_what_new_patients_met_and_what_is_left(admin: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    before = told(admin)["Springfield"]
    assert "No new patient has booked in the last 28 days." in before.text
    far = next(one for one in clinic.offers() if one.slot.starts_at > clock.now() + timedelta(hours=60))
    for offer in (clinic.offers()[0], far):
        clinic.book(str(offer.slot))
    section = told(admin)["Springfield"]
    assert (
        "New patients who booked in the last 28 days: 2. Offered a start within 48 hours: 2. "
        "Took one: 1. Offered one and chose a later one: 1."
    ) in section.text
    rows = [[cell.text for cell in row.all("td")] for row in section.all("tr")[1:]]
    assert [row[1] for row in rows] == ["6", "9", "9", "8", "9", "0", "0", "41"]
    assert "At 0.1 new patients a day" in section.text


def test_one_sees_one_s_own_locations_and_any_kind_for_new_patients(
    app: Flask, admin: FlaskClient, clinic: Clinic, engine: Engine, clock: FixedClock
) -> None:
    denver = clinic.add_location("Denver", "America/Denver", "CO")
    theirs = signed_in(
        app, engine, clock, an_account(engine, clock, Role.ADMIN, email="denver@clinic.example", locations=[denver])
    )
    assert list(told(theirs)) == ["Anywhere", "Denver"]
    assert list(told(admin)) == ["Anywhere", "Denver", "Springfield"]
    with transaction(engine) as session:
        session.execute(update(AppointmentType).where(AppointmentType.name == "Needling").values(new_patient=True))
    number = clinic.kinds["Needling"]
    assert "Needling" in look(admin, f"/admin/access?type={number}").main.all("p")[0].text
    for unknown in ("99", "x", str(clinic.kinds["Follow-up"])):
        assert look(admin, f"/admin/access?type={unknown}").status == 404
    with transaction(engine) as session:
        session.execute(update(AppointmentType).values(new_patient=False))
    assert "no kind of visit for new patients yet" in look(admin, "/admin/access").main.text


def test_the_board_asks_as_little_for_many_locations(admin: FlaskClient, clinic: Clinic, engine: Engine) -> None:
    counts = []
    for more in (0, 4):
        for number in range(more):
            clinic.add_hours(clinic.add_therapist(f"T{number}"), clinic.add_location(f"Place {number}"))
        clinic.plan()
        look(admin, "/admin/access")  # so that the terms are known
        with statements(engine) as seen:
            look(admin, "/admin/access")
        counts.append(len(seen))
    assert counts[0] == counts[1]
