"""The access board says first whether the goal holds, then what new patients met and what is left."""

from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, update

from scheduler.clock import FixedClock
from scheduler.db import transaction
from scheduler.models import AccessSample, AppointmentType, Location, Role
from scheduler.timeline import CELL, DAY
from tests.clinic import Clinic
from tests.services.test_queries import statements
from tests.web.pages import Element, look
from tests.web.staff import an_account, signed_in

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def admin(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))


KEPT, TAKEN, CLOSED = (20.0, True, True), (60.0, True, True), (60.0, False, True)  # hours, possible, by open days
UNKNOWN = (60.0, None, None)
Sampled = tuple[float, bool | None, bool | None]


def sampled(clinic: Clinic, *parts: tuple[int, Sampled], location_id: int = 1) -> None:
    """A history of quarter hours that follow each other, 27 days old."""
    begins = clinic.clock.now().replace(minute=0, second=0, microsecond=0) - 27 * DAY
    each = [part for count, part in parts for _ in range(count)]
    with transaction(clinic.engine) as session:
        session.execute(delete(AccessSample).where(AccessSample.location_id == location_id))
        for number, (hours, possible, open_days) in enumerate(each):
            session.add(
                AccessSample(
                    appointment_type_id=clinic.kinds["Evaluation"],
                    location_id=location_id,
                    quarter=begins + number * CELL,
                    next_available_hours=hours,
                    third_next_available_hours=hours,
                    goal_hours=48,
                    within_goal=hours <= 48,
                    possible=possible,
                    within_open_days=open_days,
                )
            )


def told(admin: FlaskClient, path: str = "/admin/access") -> dict[str, Element]:
    page = look(admin, path)
    assert page.status == 200
    return {one.one("h2").text: one for one in page.main.all("section")}


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ((), "Holds now. Not yet measured for 7 days."),
        (((96, KEPT), (1, TAKEN), (3, CLOSED)), "Holds. 96% of the last 28 days; the ceiling is 97%."),
        (((90, KEPT), (10, TAKEN)), "Holds. 90% of the last 28 days; the ceiling is 100%."),
        (((899, KEPT), (101, TAKEN)), "Does not hold. 89.9% of the last 28 days; the ceiling is 100%."),
        (((1799, KEPT), (201, CLOSED)), "Does not hold. 89.9% of the last 28 days; the ceiling is 89.9%."),
        (((90, KEPT), (10, UNKNOWN)), "Holds. 90% of the last 28 days; the target is 90%."),
        (((80, KEPT), (10, TAKEN), (10, UNKNOWN)), "Does not hold. 80% of the last 28 days; the target is 90%."),
    ],
)
@on_sqlite
def test_the_verdict_comes_first(
    admin: FlaskClient, clinic: Clinic, parts: tuple[tuple[int, Sampled], ...], verdict: str
) -> None:
    sampled(clinic, *parts)
    for name, section in told(admin).items():
        assert section.all("p")[0].text == verdict, name


def test_it_is_told_when_the_goal_was_missed_why_and_how_long(admin: FlaskClient, clinic: Clinic) -> None:
    sampled(clinic, (80, KEPT), (12, CLOSED), (3, KEPT), (6, TAKEN), (2, KEPT), (2, TAKEN), (5, UNKNOWN))
    on = "Wednesday, October 28"
    for name, section in told(admin).items():
        assert [one.text for one in section.all("li")] == [
            f"No hours in reach: 3 hours, once: from {on}, 6:00 AM to {on}, 9:00 AM.",
            f"All times taken: 2 hours, 2 times; the longest from {on}, 9:45 AM to {on}, 11:15 AM.",
            f"Cause not recorded: 1.25 hours, once: from {on}, 12:15 PM to {on}, 1:30 PM.",
        ], name
        rows = section.one("table", class_="missed").all("tr")[1:]
        assert [[cell.text for cell in row.all("td")][1:] for row in rows] == [
            ["1.25", "Cause not recorded"],
            ["0.5", "All times taken"],
            ["1.5", "All times taken"],
            ["3", "No hours in reach"],
        ]


@on_sqlite
def test_hours_that_cannot_keep_the_goal_are_said_to(admin: FlaskClient, clinic: Clinic) -> None:
    sampled(clinic, (80, KEPT), (8, TAKEN), (12, CLOSED))
    for section in told(admin).values():
        assert section.all("p")[1].text.startswith(
            "The hours alone keep it from holding: with nothing booked it would be 88%"
        )
        assert "If only open days counted, within 2 working days: 100% of the last 28 days." in section.text
    sampled(clinic, (80, KEPT), (20, TAKEN))
    assert "The hours alone" not in told(admin)["Springfield"].text


@on_sqlite
def test_a_clinic_with_no_place_open_online_has_a_board(admin: FlaskClient, engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(update(Location).values(online=False))
    (anywhere,) = told(admin).values()
    assert [one.text for one in anywhere.all("p")[:2]] == [
        "Does not hold now. Not yet measured for 7 days.",
        "Nothing can be booked.",
    ]
    assert anywhere.one("desc").text == "Nothing was measured."


@on_sqlite
def test_a_goal_that_was_never_missed_is_said_to(admin: FlaskClient, clinic: Clinic) -> None:
    sampled(clinic, (100, KEPT))
    for section in told(admin).values():
        assert "In the last 28 days no miss of the goal was measured." in section.text
        assert section.all("li") == []


def test_the_days_are_a_picture_and_a_table_of_the_same_numbers(admin: FlaskClient, clinic: Clinic) -> None:
    sampled(clinic, (96, KEPT), (24, CLOSED), (24, TAKEN), (48, KEPT))
    section = told(admin)["Springfield"]
    svg = section.one("svg", aria_describedby="place-1-desc")
    table = section.all("table")[0]
    rows = {row.one("th").text: [cell.text for cell in row.all("td")] for row in table.all("tr")[1:]}
    assert len(rows) == 28
    assert rows["Tuesday, October 27"] == ["100%", "100%", "100%"]
    assert rows["Wednesday, October 28"] == ["50%", "75%", "100%"]
    assert rows["Monday, November 23"] == ["–", "–", "–"]
    told_days = {day: cells[0] for day, cells in reversed(rows.items()) if cells[0] != "–"}
    assert section.one("desc").text == "; ".join(f"{day}: {kept}" for day, kept in told_days.items())
    parts = svg.all("rect", class_="part")
    assert len(parts) == len(told_days)
    assert {round(float(one.attributes["height"])) for one in parts} >= {96, 48}


def test_a_location_where_nothing_is_left_says_so(admin: FlaskClient, clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).values(notice_minutes=89 * 1440, horizon_days=1))
    section = told(admin)["Springfield"]
    assert [one.text for one in section.all("p")[:2]] == [
        "Does not hold now. Not yet measured for 7 days.",
        "Nothing can be booked.",
    ]
    assert {row.all("td")[1].text for row in section.all("table")[-1].all("tr")[1:]} == {"0"}


def test_what_new_patients_met_and_what_is_left(admin: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    before = told(admin)["Springfield"]
    assert "No booking of a new patient was noted in the last 28 days." in before.text
    far = next(one for one in clinic.offers() if one.slot.starts_at > clock.now() + timedelta(hours=60))
    for offer in (clinic.offers()[0], far):
        clinic.book(str(offer.slot))
    section = told(admin)["Springfield"]
    assert (
        "New patients of the last 28 days: offered a start within 48 hours: 100% of 2 bookings. "
        "Took one: 50%. Offered one and chose a later one: 50%."
    ) in section.text
    rows = [[cell.text for cell in row.all("td")] for row in section.all("table")[-1].all("tr")[1:]]
    assert [row[1] for row in rows] == ["6", "9", "9", "8", "9", "0", "0", "41"]
    assert "At 0.1 new patients a day" in section.text


def test_what_new_patients_met_is_a_table_whose_shares_are_cut(admin: FlaskClient, clinic: Clinic) -> None:
    for place in told(admin).values():
        assert not place.all("table", class_="met")
    sooner, later = clinic.offers()[:2], clinic.offers()[-1]
    for offer in (*sooner[:1], *clinic.offers()[8:9], later):
        clinic.book(str(offer.slot))
    for name, place in told(admin).items():
        rows = {
            row.one("th").text: [c.text for c in row.all("td")]
            for row in place.one("table", class_="met").all("tr")[1:]
        }
        assert rows == {
            "Offered a start within 48 hours": ["3", "100%"],
            "Took a start within 48 hours": ["2", "66.6%"],
            "Offered one and chose a later one": ["1", "33.3%"],
            "All bookings": ["3", ""],
        }, name


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
