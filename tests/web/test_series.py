"""A plan of care on the desk's pages: wished, proposed, changed by hand, booked as one, or proposed anew."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from apiflask import APIFlask
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import Appointment, OutboxMessage, Patient, Role, Told
from scheduler.services.booking import PatientDetails
from tests.clinic import Clinic, rows
from tests.web.pages import Page
from tests.web.staff import an_account, signed_in
from tests.web.test_desk import FrontDesk

PLAN: dict[str, Any] = {"type": "2", "therapist": "1", "location": "0", "weeks": "3", "times": "2", "at": "10:00"}
UNREACHABLE = PatientDetails("Ulla Unreached", None, "+12175550142", None, "es", False, False)
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def desk(clinic: Clinic, app: APIFlask, engine: Engine, clock: FixedClock) -> FrontDesk:
    account = an_account(engine, clock, Role.FRONT_DESK, locations=[1])
    return FrontDesk(clinic, signed_in(app, engine, clock, account), account.id)


@pytest.fixture
def patient(clinic: Clinic) -> UUID:
    """Somebody who has a visit today, so that the desk may see them."""
    return clinic.book(str(clinic.offers()[0].slot)).appointment.patient_id


def address(patient: UUID, **changes: str) -> str:
    wished = PLAN | {"first": "2026-11-30"} | changes
    return f"/staff/desk/patients/{patient}/series?" + "&".join(f"{name}={text}" for name, text in wished.items())


def booked(clinic: Clinic) -> list[Appointment]:
    with reading(clinic.engine) as session:
        return sorted(rows(session, Appointment), key=lambda visit: visit.starts_at)


def selects(page: Page) -> list[str]:
    return [one.attributes["name"] for one in page.main.all("select") if one.attributes["name"].startswith("on-")]


def test_a_plan_is_wished_proposed_and_booked(desk: FrontDesk, patient: UUID) -> None:
    page = desk.opens(f"/staff/desk/patients/{patient}").follow("Book several visits")
    (wish,) = page.main.all("form", method="get")
    page = desk.opens(address(patient).replace(f"/staff/desk/patients/{patient}/series", wish.attributes["action"]))
    assert "6 visits are proposed" in page.main.text
    assert selects(page)[:2] == ["on-2026-11-30", "on-2026-12-03"]
    page = page.press("Book these visits", note="shoulder", needling="open")
    assert "6 visits are booked. One message tells the patient of all." in page.main.text
    visits = booked(desk.clinic)[1:]
    assert [f"{one.starts_at:%m-%d %H:%M}" for one in visits][:2] == ["11-30 16:00", "12-03 16:00"]
    assert {desk.clinic.keys.open(one.note_sealed) for one in visits} == {"shoulder"}
    assert desk.clinic.violations() == {}


@on_sqlite
def test_one_visit_is_left_out_and_another_takes_another_time(desk: FrontDesk, patient: UUID) -> None:
    page = desk.opens(address(patient, weeks="1"))
    (monday,) = [one for one in page.main.all("select") if one.attributes["name"] == "on-2026-11-30"]
    two = next(one.attributes["value"] for one in monday.all("option") if one.text == "2:00 PM")
    page.press("Book these visits", **{"on-2026-11-30": two, "on-2026-12-03": ""})
    assert [f"{one.starts_at:%m-%d %H:%M}" for one in booked(desk.clinic)[1:]] == ["11-30 20:00"]


@on_sqlite
def test_nothing_chosen_is_asked_again(desk: FrontDesk, patient: UUID) -> None:
    page = desk.opens(address(patient, weeks="1", times="1")).press("Book these visits", **{"on-2026-11-30": ""})
    assert page.status == 422
    assert "Choose a time for one visit at least." in page.main.text
    assert len(booked(desk.clinic)) == 1


def test_a_list_of_which_one_is_gone_books_none_and_is_proposed_anew(desk: FrontDesk, patient: UUID) -> None:
    page = desk.opens(address(patient))
    (slot,) = [
        one.slot
        for one in desk.clinic.offers("Follow-up", from_=datetime(2026, 11, 30, 16, tzinfo=UTC), by_staff=True)[:1]
    ]
    desk.clinic.book(str(slot), "Follow-up")
    page = page.press("Book these visits", note="shoulder", **{"on-2026-12-03": ""})
    assert page.status == 409
    assert "Monday, November 30, 10:00 AM Central Standard Time" in page.main.text
    assert "shoulder" in page.main.text
    assert len(booked(desk.clinic)) == 2
    page = page.press("Book these visits")
    assert "5 visits are booked." in page.main.text  # the day that was left out stays so
    assert desk.clinic.violations() == {}


@on_sqlite
def test_what_has_no_place_is_explained(desk: FrontDesk, patient: UUID) -> None:
    page = desk.opens(address(patient, weeks="1", times="2", weekdays="5") + "&weekdays=0")
    assert "One visit of the week from Monday, November 30 has no place:" in page.main.text
    assert "Saturday: The therapist has no working hours there then." in page.main.text


@on_sqlite
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weeks": "27"}, "Write a whole number from 1 to 26."),
        ({"times": "0"}, "Write a whole number from 1 to 5."),
        ({"first": "2026-11-01"}, "This day is over."),
        ({"first": "soon"}, "Write a day like 2026-11-23."),
        ({"at": "10:07"}, "quarter hour"),
        ({"therapist": "9"}, "Choose one of the list."),
        ({"type": "x"}, "Choose one of the list."),
        ({"weekdays": "0"}, "Choose as many days as visits a week, or none."),
        ({"weekdays": "7"}, "Choose from the list."),
    ],
)
def test_a_wish_that_cannot_be_is_told_at_its_field(
    desk: FrontDesk, patient: UUID, changes: dict[str, str], said: str
) -> None:
    page = desk.opens(address(patient, **changes))
    assert page.status == 422
    assert said in page.main.text


@on_sqlite
def test_bad_input_is_never_an_error_of_ours(desk: FrontDesk, patient: UUID) -> None:
    for fields in ({"on-2026-11-30": "x"}, {"on-2026-11-30": "9-9-1656396"}, {"on-x": "1-1-1"}):
        assert desk.posts(address(patient), needling="open", **fields).status == 404
    assert desk.posts(address(patient, type="9"), needling="open", **{"on-2026-11-30": "1-1-1656396"}).status == 404
    assert desk.opens(address(uuid4())).status == 404


@on_sqlite
def test_whom_no_message_reaches_can_be_told_at_once(desk: FrontDesk) -> None:
    ulla = desk.clinic.book(str(desk.clinic.offers()[0].slot), patient=UNREACHABLE).appointment.patient_id
    page = desk.opens(address(ulla, weeks="1")).press("Book these visits", told="y")
    assert "There is no e-mail address" in page.main.text
    with reading(desk.clinic.engine) as session:
        assert len(rows(session, Told)) == 2
        assert session.scalars(select(OutboxMessage.id)).all() == []


@on_sqlite
def test_the_form_sent_twice_is_one_series(desk: FrontDesk, patient: UUID) -> None:
    page = desk.opens(address(patient))
    for _ in range(2):
        page.press("Book these visits")
    assert len(booked(desk.clinic)) == 7


@on_sqlite
def test_it_begins_with_what_the_latest_visit_was_like(desk: FrontDesk, patient: UUID) -> None:
    page = desk.opens(f"/staff/desk/patients/{patient}/series")
    assert page.main.one("input", name="at").attributes["value"] == "10:00"
    assert page.main.one("option", value="2", selected="").text.startswith("Follow-up")
    with transaction(desk.clinic.engine) as session:
        assert session.get_one(Patient, patient).name in page.main.text
