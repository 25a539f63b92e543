"""The page behind a visit's link: time and place and nothing of the patient; only a press of a button changes it."""

from datetime import timedelta
from email import message_from_bytes

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from icalendar import Calendar, Event
from sqlalchemy import Engine, select, update
from werkzeug.test import TestResponse

from config import Settings
from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.mail import Mailer
from scheduler.models import Appointment, Location, OutboxMessage
from scheduler.services import letters
from scheduler.services.booking import PatientDetails
from tests.clinic import Clinic
from tests.web.pages import Page, after, look
from tests.web.test_limits import everything

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
ZELDA = PatientDetails("Zelda Quux", "zelda@example.org", "+12175550142", None, "en", True, False)
NOTE = "Zwiebelfisch in the knee"
NEVER_TOLD = ("Zelda", "Quux", "zelda", "example.org", "2175550142", "555 0142", "Zwiebel", "talk_first", "Needles")
LABEL = "Today, Monday, November 23, 10:00 AM Central Standard Time"
UNDER = ("", "?booked=1", "/cancel", "/visit.ics")
BEGUN = "This visit has begun or is over. To change anything, please call the clinic."


@pytest.fixture
def token(clinic: Clinic) -> str:
    with transaction(clinic.engine) as session:
        session.execute(update(Location).values(directions="Second door.\nBring loose clothes & a list."))
    return clinic.book(str(clinic.offers(limit=1)[0].slot), patient=ZELDA, note=NOTE).token


def answers(client: FlaskClient, token: str, method: str = "GET") -> list[TestResponse]:
    return [client.open(f"/appointments/{token}{under}", method=method) for under in UNDER]


def event_of(answer: TestResponse) -> Event:
    (event,) = Calendar.from_ical(answer.get_data(as_text=True)).events
    assert isinstance(event, Event)
    return event


def bring_to(state: str, clinic: Clinic, clock: FixedClock, token: str) -> None:
    if state == "cancelled":
        clinic.cancel(token)
    if state == "begun":
        clock.at += timedelta(hours=1)


def test_the_page_of_a_visit_says_when_where_and_with_whom(client: FlaskClient, token: str) -> None:
    page = look(client, f"/appointments/{token}")
    assert (page.status, page.heading) == (200, "Your visit")
    facts = {name.text: told.text for name, told in zip(page.main.all("dt"), page.main.all("dd"), strict=True)}
    assert facts == {
        "When": f"{LABEL}, Springfield",
        "Where": "Springfield, 1 Main Street",
        "With": "Ana Abbott",
        "Phone": "+1 555 0100",
    }
    assert page.main.one("p", class_="lines").text == "Second door. Bring loose clothes & a list."
    assert look(client, f"/appointments/{token}?booked=1").heading == "Your visit is booked"


@pytest.mark.parametrize("state", ["booked", "cancelled", "begun"])
def test_nothing_behind_a_link_tells_of_the_patient(
    client: FlaskClient, clinic: Clinic, clock: FixedClock, token: str, state: str
) -> None:
    bring_to(state, clinic, clock, token)
    found = [*answers(client, token), client.post(f"/appointments/{token}/cancel")]
    for answer in found:
        everything_sent = answer.get_data(as_text=True) + str(answer.headers)
        assert [word for word in NEVER_TOLD if word in everything_sent] == []


@pytest.mark.parametrize("state", ["booked", "cancelled", "begun", "unknown"])
@on_sqlite
def test_what_stands_behind_a_link_is_kept_by_nobody_and_told_to_nobody(
    client: FlaskClient, clinic: Clinic, clock: FixedClock, token: str, state: str
) -> None:
    bring_to(state, clinic, clock, token)
    asked = "no-such-token" if state == "unknown" else token
    found = [*answers(client, asked), *answers(client, asked, "HEAD"), client.post(f"/appointments/{asked}/cancel")]
    assert {answer.status_code for answer in found} <= {200, 303, 404, 409}
    assert {answer.headers["Cache-Control"] for answer in found} == {"no-store"}
    assert {answer.headers["Referrer-Policy"] for answer in found} == {"no-referrer"}


@pytest.mark.parametrize("state", ["booked", "cancelled", "begun"])
def test_looking_changes_no_row(client: FlaskClient, clinic: Clinic, clock: FixedClock, token: str, state: str) -> None:
    """Whoever previews links, a mail scanner or a browser, must not cancel a visit."""
    bring_to(state, clinic, clock, token)
    slot = clinic.offers(limit=1)[0].slot
    others = ("/", "/book", "/book?type=2", f"/book/{slot}", "/book/1-1-1", "/contact", "/explainer", "/nothing")
    before = everything(clinic.engine)
    for method in ("GET", "HEAD", "OPTIONS"):
        answers(client, token, method)
        for address in others:
            assert client.open(address, method=method).status_code < 500
    assert everything(clinic.engine) == before


WRONG = ["x", "a" * 43, "a" * 5000, "%00", "%FF", "..", "' OR 1=1", "é", "0"]


@on_sqlite
def test_a_wrong_link_opens_nothing(client: FlaskClient, clinic: Clinic, token: str) -> None:
    before = everything(clinic.engine)
    for wrong in (*WRONG, token[:-1], token + "x", token.swapcase(), f"{token}%0A", f"%20{token}"):
        assert [answer.status_code for answer in answers(client, wrong)] == [404] * 4, wrong
        assert client.post(f"/appointments/{wrong}/cancel").status_code == 404
        assert look(client, f"/appointments/{wrong}").heading == "There is nothing at this address"
    assert everything(clinic.engine) == before


def test_cancelling_by_its_button_frees_the_time_at_once(client: FlaskClient, clinic: Clinic, token: str) -> None:
    soonest = clinic.offers(limit=1)[0].slot.starts_at
    asked = look(client, f"/appointments/{token}").follow("Cancel this visit")
    assert (asked.heading, asked.main.one("p", class_="chosen").text) == ("Cancel this visit?", f"{LABEL}, Springfield")
    assert asked.follow("No, keep it").heading == "Your visit"
    cancelled = asked.press("Yes, cancel it")
    assert cancelled.heading == "Your visit is canceled"
    assert clinic.offers(limit=1)[0].slot.starts_at < soonest
    assert look(client, "/").main.one("p", class_="big").text.startswith(LABEL)
    assert cancelled.follow("Find another time").heading == "Choose a time"


def test_cancelling_again_changes_nothing(client: FlaskClient, clinic: Clinic, clock: FixedClock, token: str) -> None:
    asked = look(client, f"/appointments/{token}/cancel")
    asked.press("Yes, cancel it")
    before = everything(clinic.engine)
    assert asked.press("Yes, cancel it").heading == "Your visit is canceled"
    page = look(client, f"/appointments/{token}/cancel")
    assert page.main.all("form") == []
    assert page.follow("Back to the visit").heading == "Your visit is canceled"
    clock.at += timedelta(days=2)
    assert asked.press("Yes, cancel it").heading == "Your visit is canceled"
    assert everything(clinic.engine) == before


def test_a_visit_that_has_begun_is_changed_by_telephone_only(
    client: FlaskClient, clinic: Clinic, clock: FixedClock, token: str
) -> None:
    asked = look(client, f"/appointments/{token}/cancel")
    clock.at += timedelta(minutes=59, seconds=59)
    assert look(client, f"/appointments/{token}/cancel").main.all("form")
    clock.at += timedelta(seconds=1)
    before = everything(clinic.engine)
    page = look(client, f"/appointments/{token}")
    assert page.main.all("p")[-1].text == BEGUN
    assert "Cancel this visit" not in page.main.text
    assert "can no longer be canceled" in look(client, f"/appointments/{token}/cancel").main.text
    refused = asked.press("Yes, cancel it")
    assert (refused.status, refused.heading) == (409, "This is not possible any more")
    assert BEGUN in refused.main.text
    assert everything(clinic.engine) == before


def test_the_calendar_has_the_name_that_the_mail_has(
    app: APIFlask, settings: Settings, clinic: Clinic, clock: FixedClock, token: str
) -> None:
    with reading(clinic.engine) as session:
        ids = session.scalars(select(OutboxMessage.id)).all()
        (letter, *_) = letters.drafts(session, ids, keys=clinic.keys)
    message = message_from_bytes(Mailer(app, settings).write(letter, now=clock.now()).content)
    (part,) = [one for one in message.walk() if one.get_content_type() == "text/calendar"]
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    (mailed,) = Calendar.from_ical(payload.decode()).events
    client = app.test_client()
    first = event_of(client.get(f"/appointments/{token}/visit.ics"))
    clock.at += timedelta(minutes=30)
    second = event_of(client.get(f"/appointments/{token}/visit.ics"))
    assert first["UID"] == second["UID"] == mailed["UID"]
    for name in ("DTSTART", "DTEND", "SEQUENCE", "LOCATION"):
        assert first[name].to_ical() == mailed[name].to_ical()


@pytest.mark.parametrize(("language", "summary"), [("en", "Physical therapy visit"), ("es", "Visita de fisioterapia")])
@on_sqlite
def test_the_calendar_holds_no_link_and_no_name(client: FlaskClient, token: str, language: str, summary: str) -> None:
    answer = client.get(f"/appointments/{token}/visit.ics?lang={language}")
    unfolded = answer.get_data(as_text=True).replace("\r\n ", "")
    assert answer.mimetype == "text/calendar"
    assert 'filename="visit.ics"' in answer.headers["Content-Disposition"]
    assert "http" not in unfolded
    assert token not in unfolded
    event = event_of(answer)
    assert (event["SUMMARY"], event["LOCATION"]) == (summary, "Springfield, 1 Main Street")
    assert (event.start.isoformat(), event.end.isoformat()) == (
        "2026-11-23T16:00:00+00:00",
        "2026-11-23T17:00:00+00:00",
    )


@on_sqlite
def test_a_cancelled_visit_is_in_no_calendar(client: FlaskClient, clinic: Clinic, token: str) -> None:
    clinic.cancel(token)
    answer = client.get(f"/appointments/{token}/visit.ics")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/appointments/{token}")


@on_sqlite
def test_the_language_is_kept_through_a_cancellation(client: FlaskClient, clinic: Clinic, token: str) -> None:
    page = look(client, f"/appointments/{token}?lang=es").follow("Cancelar esta visita")
    assert page.press("Sí, cancelarla").tree.one("html").attributes["lang"] == "es"


@on_sqlite
def test_a_form_of_another_site_brings_no_cookie_to_misuse(client: FlaskClient, engine: Engine, token: str) -> None:
    """Without the token nobody can cancel; with it no cookie is needed, so there is nothing to forge."""
    page = after(client, f"/appointments/{token}/cancel", {})
    assert isinstance(page, Page)
    assert "Set-Cookie" not in page.answer.headers
    with reading(engine) as session:
        assert session.scalars(select(Appointment.status)).all() == ["cancelled"]
