"""Asking from the page, what keeps programs from it, and answering from the staff's pages."""

from dataclasses import replace
from datetime import timedelta

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from werkzeug.test import TestResponse

from config import Settings
from scheduler.app import create_app
from scheduler.clock import FixedClock
from scheduler.db import reading
from scheduler.keys import Keyring
from scheduler.models import AuditEvent, ContactRequest, Role
from scheduler.services import limits
from tests.clinic import Clinic, rows
from tests.web.pages import look, parse
from tests.web.staff import an_account, csrf_token, signed_in

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
TYPED = {"to": "1", "name": "Pat Doe", "email": "pat@example.com", "message": "Are you open on Saturdays?"}
pytestmark = on_sqlite


def form(client: FlaskClient) -> dict[str, str]:
    page = look(client, "/contact").main
    return {"shown": page.one("input", name="shown").attributes["value"], **TYPED}


def asked(engine: Engine) -> list[ContactRequest]:
    with reading(engine) as session:
        return rows(session, ContactRequest)


def send(client: FlaskClient, clock: FixedClock, seconds: float = 10, **changes: str) -> TestResponse:
    """Open the form, wait, and send it."""
    typed = form(client) | changes
    clock.at += timedelta(seconds=seconds)
    return client.post("/contact", data=typed)


def test_a_question_is_taken_and_who_asked_is_thanked(
    client: FlaskClient, clinic: Clinic, clock: FixedClock, keys: Keyring
) -> None:
    answer = send(client, clock, to="1-1", message="Are you open?\r\nOn Saturdays?")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/contact?sent=mail")
    assert "your question is with us" in look(client, "/contact?sent=mail").main.text
    (one,) = asked(clinic.engine)
    assert (one.location_id, one.therapist_id, one.language) == (1, 1, "en")
    assert keys.open(one.message_sealed) == "Are you open?\nOn Saturdays?"


def test_the_language_of_the_page_is_that_of_the_question(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    typed = form(client)
    clock.at += timedelta(seconds=10)
    client.post("/contact?lang=es", data=typed)
    assert [one.language for one in asked(clinic.engine)] == ["es"]


def test_the_same_form_sent_twice_is_one_question_and_other_words_are_another(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    typed = form(client)
    clock.at += timedelta(seconds=10)
    for message in ("Hello?", "Hello?", "And parking?"):
        assert client.post("/contact", data=typed | {"message": message}).status_code == 303
    assert len(asked(clinic.engine)) == 2


@pytest.mark.parametrize(
    ("seconds", "changes"),
    [(0, {}), (2.5, {}), (12 * 3600 + 1, {}), (10, {"website": "https://x.example"}), (10, {"shown": "forged"})],
)
def test_what_a_program_sends_is_shown_again_and_goes_through_when_a_person_sends_it_anew(
    client: FlaskClient, clinic: Clinic, clock: FixedClock, seconds: float, changes: dict[str, str]
) -> None:
    answer = send(client, clock, seconds, **changes)
    assert answer.status_code == 422
    assert asked(clinic.engine) == []
    page = parse(answer.get_data(as_text=True))
    assert "Please send it again" in page.text
    assert page.one("textarea").text.strip() == TYPED["message"]
    assert page.one("input", name="website").attributes.get("value", "") == ""
    again = TYPED | {"shown": page.one("input", name="shown").attributes["value"]}
    assert client.post("/contact", data=again).status_code == 303
    assert len(asked(clinic.engine)) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ""}, "Write your name."),
        ({"name": "Pat\r\nBcc: evil@example.com"}, "Write your name."),
        ({"email": "pat@example.com\r\nBcc: evil@example.com"}, "Write an e-mail address like"),
        ({"email": "", "phone": ""}, "Write an e-mail address or a phone number"),
        ({"phone": "1"}, "Write a phone number with its area code"),
        ({"message": " "}, "Write your question."),
        ({"message": "x" * 501}, "Write plain text of at most 500 characters."),
        ({"message": "a\0b"}, "Write plain text of at most 500 characters."),
        *(({"to": to}, "Choose one of the list.") for to in ("", "9", "1-9", "x", "1-", "-1", "1-1-1")),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_stored(
    client: FlaskClient, clinic: Clinic, clock: FixedClock, changes: dict[str, str], said: str
) -> None:
    answer = send(client, clock, 10, **changes)
    assert answer.status_code == 422
    assert said in parse(answer.get_data(as_text=True)).one("div", class_="summary").text
    assert asked(clinic.engine) == []


def test_another_site_s_page_cannot_send_it(client: FlaskClient, clinic: Clinic) -> None:
    answer = client.post("/contact", data=form(client), headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_a_connection_that_asks_without_end_is_told_to_wait(
    settings: Settings, clinic: Clinic, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = create_app(replace(settings, rate_limits=True), clinic.engine, clock).test_client()
    monkeypatch.setattr(limits, "QUESTIONS_AN_HOUR", 1)
    assert send(client, clock).status_code == 303
    answer = send(client, clock)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert len(asked(clinic.engine)) == 1


def test_the_page_says_how_long_people_wait_while_that_is_true(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    true = "nobody who wrote to us has waited longer than 24 hours"
    send(client, clock)
    assert true in look(client, "/contact").main.text
    clock.at += timedelta(hours=24)
    assert true not in look(client, "/contact").main.text


def staff(app: APIFlask, clinic: Clinic, clock: FixedClock) -> FlaskClient:
    return signed_in(app, clinic.engine, clock, an_account(clinic.engine, clock, Role.FRONT_DESK, locations=[1]))


def test_staff_see_questions_with_their_age_and_answer_them(
    app: APIFlask, client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    send(client, clock)
    clock.at += timedelta(hours=23)
    send(client, clock, message="Where can I park?")
    clock.at += timedelta(hours=1)
    desk = staff(app, clinic, clock)
    page = look(desk, "/staff/questions").main
    assert [one.text for one in page.all("strong")] == ["Overdue: has waited 24 hours"]
    assert page.text.index("Saturdays") < page.text.index("Where can I park?")
    first, second = (one.id for one in asked(clinic.engine))
    token = {"csrf_token": csrf_token(desk)}
    assert desk.post(f"/staff/questions/{first}/answer", data=token | {"answer": " "}).status_code == 422
    assert desk.post(f"/staff/questions/{first}/answer", data=token | {"answer": "Yes."}).status_code == 303
    assert desk.post(f"/staff/questions/{second}/called", data=token).status_code == 303
    late = desk.post(f"/staff/questions/{first}/answer", data=token | {"answer": "No."})
    assert late.status_code == 409
    assert "answered this question meanwhile" in late.get_data(as_text=True)
    page = look(desk, "/staff/questions").main
    assert "Waiting for an answer (0)" in page.text
    assert "by e-mail" in page.text
    assert "by phone" in page.text


def test_whoever_reads_a_question_is_on_record(
    app: APIFlask, client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    send(client, clock)
    (one,) = asked(clinic.engine)
    desk = staff(app, clinic, clock)
    look(desk, "/staff/questions")
    look(desk, f"/staff/questions/{one.id}")
    with reading(clinic.engine) as session:
        looks = select(AuditEvent.entity_id).where(AuditEvent.action == "contact_request.read")
        assert session.scalars(looks).all() == [one.id.hex]
