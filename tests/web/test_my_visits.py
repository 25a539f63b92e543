"""My visits over HTTP: one answer whoever asks, and a list that names nobody."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, select

from scheduler.clock import FixedClock
from scheduler.db import reading
from scheduler.keys import Keyring
from scheduler.models import Kind, OutboxMessage, VisitsRequest
from scheduler.services import limits, my_visits
from scheduler.services.booking import PatientDetails, Visit
from tests.clinic import HOUR, Clinic, rows
from tests.web.pages import look
from tests.web.test_limits import everything

ZELDA = PatientDetails("Zelda Quux", "zelda@example.org", "+12175550142", None, "en", True, False)


@pytest.fixture
def visit(clinic: Clinic) -> Visit:
    return clinic.book(str(clinic.offers()[8].slot), "Needling", patient=ZELDA)


def link(clinic: Clinic, keys: Keyring) -> str:
    with reading(clinic.engine) as session:
        return f"/my-visits/{my_visits.token(rows(session, VisitsRequest)[-1], keys)}"


def test_an_address_is_asked_for_and_its_link_lists_its_visits(
    client: FlaskClient, clinic: Clinic, keys: Keyring, visit: Visit
) -> None:
    asked = look(client, "/my-visits").press("Send me the link", email="Zelda@example.org")
    assert (asked.status, asked.heading) == (200, "Look in your mailbox")
    page = look(client, link(clinic, keys))
    assert (page.heading, len(page.main.all("li"))) == ("My visits", 1)
    assert (
        page.follow("Open: Today, Monday, November 23, 12:00 PM Central Standard Time, Springfield").heading
        == "Your visit"
    )
    assert [word for word in ("Zelda", "Quux", "zelda", "eedling", "2175550142") if word in page.main.text] == []


def test_known_and_unknown_addresses_are_answered_alike_by_the_same_statements(
    client: FlaskClient, clinic: Clinic, visit: Visit
) -> None:
    told = []
    for email in ("zelda@example.org", "nobody@example.org"):
        asked: list[str] = []
        count = lambda *args, into=asked: into.append(str(args[2]))  # noqa: E731 as the event calls it
        event.listen(clinic.engine, "before_cursor_execute", count)
        answer = client.post("/my-visits", data={"email": email})
        event.remove(clinic.engine, "before_cursor_execute", count)
        told.append((answer.status_code, answer.location, answer.get_data(), asked))
    assert told[0] == told[1]
    assert told[0][:2] == (303, "/my-visits?asked=1")
    with reading(clinic.engine) as session:
        assert len(session.scalars(select(OutboxMessage).where(OutboxMessage.kind == Kind.MY_VISITS)).all()) == 2


def test_looking_changes_no_row(client: FlaskClient, clinic: Clinic, keys: Keyring, visit: Visit) -> None:
    client.post("/my-visits", data={"email": "zelda@example.org"})
    before = everything(clinic.engine)
    for address in ("/my-visits", "/my-visits?asked=1", "/my-visits/x", link(clinic, keys)):
        for method in ("GET", "HEAD") * 3:
            answer = client.open(address, method=method)
            assert answer.headers["Cache-Control"] == "no-store"
    assert everything(clinic.engine) == before


def test_a_link_that_expired_says_how_to_get_another(
    client: FlaskClient, clinic: Clinic, clock: FixedClock, keys: Keyring, visit: Visit
) -> None:
    client.post("/my-visits", data={"email": "zelda@example.org"})
    clock.at += HOUR
    page = look(client, link(clinic, keys))
    assert (page.status, page.heading) == (200, "This link has expired")
    assert client.get("/my-visits/x").status_code == 404
    assert page.follow("Send me a new link").heading == "My visits"


@pytest.mark.parametrize("wrong", ["", "zelda", "a@b", "a b@example.org", "z@example.org\nBcc: x@example.org"])
def test_what_is_no_address_is_told_and_nothing_is_kept(client: FlaskClient, clinic: Clinic, wrong: str) -> None:
    before = everything(clinic.engine)
    page = look(client, "/my-visits").press("Send me the link", email=wrong)
    assert (page.status, "Write an e-mail address" in page.main.text) == (422, True)
    assert everything(clinic.engine) == before


def test_another_sites_page_cannot_ask(client: FlaskClient, clinic: Clinic) -> None:
    answer = client.post("/my-visits", data={"email": "z@example.org"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_one_connection_asks_for_few_links_only(
    clinic: Clinic, clock: FixedClock, monkeypatch: pytest.MonkeyPatch, client: FlaskClient
) -> None:
    monkeypatch.setattr("scheduler.web.my_visits.counted_address", lambda: "a")
    told = [
        client.post("/my-visits", data={"email": f"{number}@example.org"}).status_code
        for number in range(limits.ASKED_AN_HOUR + 1)
    ]
    assert told == [303] * limits.ASKED_AN_HOUR + [429]
    with reading(clinic.engine) as session:
        assert len(rows(session, VisitsRequest)) == limits.ASKED_AN_HOUR
