"""Booking a follow-up: times of the same therapist only, one booking however often it is sent, a kind no."""

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import Account, Appointment, AuditEvent, Kind, Needling, OutboxMessage, Role
from scheduler.services import verify
from scheduler.services.availability import SlotName
from scheduler.timeline import DAY
from tests.clinic import Clinic, rows
from tests.services.test_schedule import ANA, MONDAY, book_on
from tests.web.pages import Page, look
from tests.web.staff import an_account, csrf_token, signed_in

SPRINGFIELD = 1


@pytest.fixture
def ana(engine: Engine, clinic: Clinic, clock: FixedClock) -> Account:
    return an_account(engine, clock, Role.THERAPIST, therapist_id=ANA)


@pytest.fixture
def phone(app: Flask, engine: Engine, clock: FixedClock, ana: Account) -> FlaskClient:
    return signed_in(app, engine, clock, ana)


@pytest.fixture
def visit(clinic: Clinic) -> Appointment:
    booked: Appointment = book_on(clinic, MONDAY, kind="Evaluation", needling=Needling.NONE)
    return booked


def path(visit: Appointment) -> str:
    return f"/staff/visits/{visit.id}/follow-up"


def times(page: Page) -> list[SlotName]:
    """The starts that a page offers."""
    links = [link.attributes["href"] for one in page.main.all("ul", class_="times") for link in one.all("a")]
    return [SlotName.parse(parse_qs(urlsplit(link).query)["slot"][0]) for link in links]


def choose(client: FlaskClient, visit: Appointment, slot: SlotName, kind: int) -> Page:
    return look(client, f"{path(visit)}?type={kind}&slot={slot}")


def booked(clinic: Clinic) -> list[Appointment]:
    with reading(clinic.engine) as session:
        return sorted(rows(session, Appointment), key=lambda one: one.booked_at)


def test_a_follow_up_is_booked_for_the_same_patient_with_the_same_therapist(
    phone: FlaskClient, clinic: Clinic, clock: FixedClock, ana: Account, visit: Appointment
) -> None:
    page = look(phone, f"/staff/visits/{visit.id}").follow("Book a follow-up")
    assert page.heading == "Follow-up for Pat Doe"
    slot = times(page)[-1]
    check = choose(phone, visit, slot, clinic.kinds["Follow-up"])
    assert check.heading == "Book this follow-up?"
    assert "Follow-up, 45 minutes, with Ana Abbott" in check.main.text
    clock.at += timedelta(seconds=1)
    done = check.press("Book it")
    assert (done.status, done.heading) == (200, "Pat Doe")
    assert "The follow-up is booked." in done.main.text
    _, new = booked(clinic)
    assert (new.patient_id, new.therapist_id, new.needling) == (visit.patient_id, ANA, Needling.NONE)
    assert (new.starts_at, new.ends_at - new.starts_at) == (slot.starts_at, timedelta(minutes=45))
    assert new.explainer_version_id is None
    assert "Explainer Not shown" in done.main.text
    with reading(clinic.engine) as session:
        of_new = select(OutboxMessage.kind).where(OutboxMessage.appointment_id == new.id)
        assert Kind.CONFIRMATION in session.scalars(of_new).all()
        event = select(AuditEvent.actor).where(AuditEvent.entity_id == new.id.hex, AuditEvent.action.like("%.booked"))
        assert session.scalars(event).one() == f"account:{ana.id}"
        assert [f.rule for f in verify.verify(session, now=clock.now()) if f.violations] == []


def test_the_same_form_sent_twice_is_one_booking(phone: FlaskClient, clinic: Clinic, visit: Appointment) -> None:
    page = look(phone, path(visit))
    check = choose(phone, visit, times(page)[0], clinic.kinds["Follow-up"])
    first, again = check.press("Book it"), check.press("Book it")
    assert (first.address, again.address) == (first.address, first.address)
    assert len(booked(clinic)) == 2


def test_only_times_of_the_same_therapist_are_listed_and_taken(
    phone: FlaskClient, clinic: Clinic, visit: Appointment
) -> None:
    ben = clinic.add_therapist("Ben Brown")
    clinic.add_hours(ben, SPRINGFIELD, range(7))
    clinic.plan()
    offered = times(look(phone, path(visit)))
    assert {slot.therapist_id for slot in offered} == {ANA}
    bens = SlotName(ben, SPRINGFIELD, offered[0].starts_at)
    assert choose(phone, visit, bens, clinic.kinds["Follow-up"]).status == 404
    assert post(phone, visit, slot=str(bens), type=str(clinic.kinds["Follow-up"])).status_code == 404
    assert len(booked(clinic)) == 1


def post(client: FlaskClient, visit: Appointment, **form: str) -> Any:  # noqa: ANN401 an answer
    return client.post(path(visit), data={"csrf_token": csrf_token(client), "key": "0" * 32, **form})


def test_a_time_inside_the_notice_is_there_for_staff(
    phone: FlaskClient, clinic: Clinic, clock: FixedClock, visit: Appointment
) -> None:
    soonest = times(look(phone, path(visit)))[0]
    assert soonest.starts_at == clock.at < clinic.offers("Follow-up")[0].slot.starts_at
    assert choose(phone, visit, soonest, clinic.kinds["Follow-up"]).press("Book it").status == 200


def test_a_time_that_is_gone_is_told_kindly_with_others(phone: FlaskClient, clinic: Clinic, visit: Appointment) -> None:
    kind = clinic.kinds["Follow-up"]
    slot = SlotName.parse(str(clinic.offers("Follow-up")[3].slot))
    check = choose(phone, visit, slot, kind)
    clinic.book(str(slot), "Follow-up")
    for page in (check.press("Book it"), choose(phone, visit, slot, kind)):
        assert page.status == 409
        assert "This time was taken a moment ago. Nothing was booked." in page.main.text
        assert slot not in times(page)
        assert times(page)
    assert len(booked(clinic)) == 2


def test_times_can_be_asked_of_a_kind_from_a_day_on(phone: FlaskClient, clinic: Clinic, visit: Appointment) -> None:
    page = look(phone, f"{path(visit)}?type={clinic.kinds['Needling']}&from=2026-12-07")
    assert page.main.one("option", selected="").text == "Needling, 30 minutes"
    assert min(slot.starts_at for slot in times(page)).date() == MONDAY + 14 * DAY
    assert page.follow("In 1 week").main.all("h2")[0].text == "Monday, November 30"
    later = page.follow("More times, later")
    assert times(later)[-1].starts_at > times(page)[-1].starts_at
    assert look(phone, f"{path(visit)}?from=2020-01-01").main.all("h2")[0].text.startswith("Today")


def test_no_time_left_is_no_dead_end(phone: FlaskClient, clinic: Clinic, visit: Appointment) -> None:
    page = look(phone, f"{path(visit)}?from=2199-01-01")
    assert "There is no time left for this choice." in page.main.text
    assert page.follow("Back to the visit").heading == "Pat Doe"


def test_a_desk_of_some_locations_books_only_there(
    app: Flask, engine: Engine, clinic: Clinic, clock: FixedClock, visit: Appointment
) -> None:
    chatham = clinic.add_location("Chatham")
    clinic.add_hours(ANA, chatham, [5])
    clinic.plan()
    desk = signed_in(app, engine, clock, an_account(engine, clock, Role.FRONT_DESK, locations=[SPRINGFIELD]))
    (saturday, *_) = clinic.offers("Follow-up", location_id=chatham)
    page = look(desk, f"{path(visit)}?from=2026-11-28")
    assert {slot.location_id for slot in times(page)} == {SPRINGFIELD}
    assert post(desk, visit, slot=str(saturday.slot), type="2").status_code == 404
    ana = signed_in(app, engine, clock, an_account(engine, clock, Role.THERAPIST, therapist_id=ANA, locations=[1]))
    assert chatham in {slot.location_id for slot in times(look(ana, f"{path(visit)}?from=2026-11-28"))}


BAD = (
    {"type": "x"}, {"type": "0"}, {"type": "99999999"}, {"type": "9" * 30}, {"slot": "x"}, {"slot": "1-1-1"},
    {"slot": ""}, {"slot": "1-1-" + "9" * 30}, {"slot": "\x00"},
)  # fmt: skip


def test_what_cannot_be_booked_is_refused(phone: FlaskClient, clinic: Clinic, visit: Appointment) -> None:
    good = {"slot": str(clinic.offers("Follow-up")[0].slot), "type": str(clinic.kinds["Follow-up"])}
    for changes in BAD:
        assert post(phone, visit, **good | changes).status_code == 422, changes
        assert phone.get(path(visit), query_string=good | changes).status_code == 422, changes
    for day in ("x", "2026-02-30", "0001-01-01", "9999-12-31"):
        assert phone.get(path(visit), query_string={"from": day}).status_code == 422
    assert phone.post(path(visit), data=good).status_code == 400
    assert len(booked(clinic)) == 1


def test_only_others_who_book_today_owe_the_therapist_word_of_it(
    app: Flask, engine: Engine, phone: FlaskClient, clinic: Clinic, clock: FixedClock, visit: Appointment
) -> None:
    told = select(OutboxMessage.about).where(OutboxMessage.kind == Kind.DAY_CHANGED)
    with transaction(engine) as session:
        session.execute(delete(OutboxMessage).where(OutboxMessage.kind == Kind.DAY_CHANGED))
    desk = signed_in(app, engine, clock, an_account(engine, clock, Role.FRONT_DESK))
    owed = []
    for client in (phone, desk):
        soonest = times(look(client, path(visit)))[0]
        assert choose(client, visit, soonest, clinic.kinds["Follow-up"]).press("Book it").status == 200
        with reading(engine) as session:
            owed.append(session.scalars(told).all())
    assert owed == [[], ["2026-11-23"]]
