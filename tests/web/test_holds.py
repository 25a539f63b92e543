"""Holding a time over the API and on the pages, as strangers do it."""

from datetime import timedelta
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

import config
from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import Hold
from scheduler.services import holds
from scheduler.timeline import DAY
from scheduler.worker import SWEEP_SECONDS, Worker
from tests.clinic import Clinic, body, key, rows
from tests.web.pages import Page, look
from tests.web.test_booking_pages import BOOK, CONTINUE, GONE, PAT, first, stored
from tests.web.test_limits import HERE, assert_told_to_wait, limited

API = "/api/v1"
KEEP, LONGER = "Keep this time while I fill this in", "Keep it longer"
HELD = "Somebody is booking this time just now"
MINUTE = timedelta(minutes=1)
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
__all__ = ["limited"]


def hold(client: FlaskClient, slot: str, address: str = HERE, **more: str) -> TestResponse:
    wish = {"slot": slot, "appointment_type": "1", **more}
    return client.post(f"{API}/holds", json=wish, environ_overrides={"REMOTE_ADDR": address})


def book(client: FlaskClient, slot: str, **more: Any) -> TestResponse:  # noqa: ANN401 fields of the body
    return client.post(f"{API}/appointments", json=body(slot, **more), headers=key())


def offered(client: FlaskClient) -> list[str]:
    items = client.get(f"{API}/slots?appointment_type=1&limit=200").get_json()["items"]
    return [item["id"] for item in items]


def apart(client: FlaskClient, number: int) -> list[str]:
    """Starts of tomorrow and later that are not in each other's way."""
    items = client.get(f"{API}/slots?appointment_type=1&limit=200&from=2026-11-26").get_json()["items"]
    ids = [item["id"] for item in items if item["start"][14:16] == "00"]
    assert len(ids) >= number
    return ids[:number]


# --- the API


def test_a_held_time_is_its_keepers_until_it_expires(client: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    slot = first(clinic)
    answer = hold(client, slot)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert answer.get_json().keys() == {"hold", "expires_at"}
    assert answer.get_json()["expires_at"] == "2026-11-23T09:10:00-06:00"
    assert slot not in offered(client)
    for refused in (book(client, slot), hold(client, slot), book(client, slot, hold="unknown")):
        assert refused.status_code == 409
        assert refused.get_json()["type"].endswith("slot-held")
        assert [one["id"] for one in refused.get_json()["alternatives"]] == offered(client)[:3]
    assert book(client, slot, hold=answer.get_json()["hold"]).status_code == 201
    again = book(client, slot, hold=answer.get_json()["hold"])
    assert (again.status_code, again.get_json()["type"].rpartition("#")[2]) == (409, "slot-taken")


def test_the_same_request_with_a_hold_gives_the_same_visit_again(client: FlaskClient, clinic: Clinic) -> None:
    slot = first(clinic)
    wish: Any = {"json": body(slot, hold=hold(client, slot).get_json()["hold"]), "headers": key()}
    answers = [client.post(f"{API}/appointments", **wish) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.get_data() for answer in answers}) == len(stored(clinic)) == 1


def test_giving_up_is_answered_alike_whatever_there_was(client: FlaskClient, clinic: Clinic) -> None:
    before = offered(client)
    token = hold(client, before[0]).get_json()["hold"]
    for path in (token, token, "unknown", "%00", "a" * 500):
        answer = client.delete(f"{API}/holds/{path}")
        assert (answer.status_code, answer.get_data()) == (204, b"")
    assert offered(client) == before


@pytest.mark.parametrize(
    ("wish", "status", "field"),
    [
        ({"appointment_type": "1"}, 422, "slot"),
        ({"slot": "x", "appointment_type": "1"}, 422, "slot"),
        ({"slot": 1, "appointment_type": "1"}, 422, "slot"),
        ({"slot": "1-1-1", "appointment_type": "1"}, 422, "slot"),
        ({"slot": "1-1-1994945"}, 422, "appointment_type"),
        ({"slot": "1-1-1994945", "appointment_type": "99"}, 422, "appointment_type"),
        ({"slot": "1-1-1994945", "appointment_type": "1", "holder": "short"}, 422, "holder"),
        ({"slot": "1-1-1994945", "appointment_type": "1", "holder": "\x00" * 20}, 422, "holder"),
        ({"slot": "1-1-1994945", "appointment_type": "1", "name": "Pat"}, 422, "name"),
        ([], 400, None),
    ],
)
@on_sqlite
def test_a_wish_that_cannot_be_is_told_by_its_field(
    client: FlaskClient,
    clinic: Clinic,
    wish: Any,  # noqa: ANN401 whatever JSON is
    status: int,
    field: str | None,
) -> None:
    answer = client.post(f"{API}/holds", json=wish)
    assert answer.status_code == status
    assert field is None or [error["field"] for error in answer.get_json()["errors"]] == [field]


def test_an_address_is_limited_where_the_clinic_limits(
    limited: FlaskClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "HELD_BY_ONE_ADDRESS", 2)
    slots = apart(limited, 4)
    assert [hold(limited, slot).status_code for slot in slots[:2]] == [201, 201]
    assert_told_to_wait(hold(limited, slots[2]), 429, 10 * 60 + 1)
    assert hold(limited, slots[2], "198.51.100.9").status_code == 201
    assert book(limited, slots[3]).status_code == 201
    with reading(engine) as session:
        assert HERE not in str([vars(one) for one in rows(session, Hold)])


@on_sqlite
def test_an_address_is_not_limited_where_the_clinic_does_not(
    client: FlaskClient, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "HELD_BY_ONE_ADDRESS", 2)
    assert [hold(client, slot).status_code for slot in apart(client, 4)] == [201] * 4
    with reading(clinic.engine) as session:
        assert {one.address_hash for one in rows(session, Hold)} == {None}


def test_a_browser_session_that_names_itself_holds_three(client: FlaskClient, clinic: Clinic) -> None:
    slots = apart(client, 5)
    name = "0123456789abcdef"
    assert [hold(client, slot, holder=name).status_code for slot in slots[:3]] == [201] * 3
    assert_told_to_wait(hold(client, slots[3], holder=name), 429, 10 * 60 + 1)
    assert hold(client, slots[3], holder=name[::-1]).status_code == 201
    assert book(client, slots[4]).status_code == 201


@on_sqlite
def test_tokens_stand_in_no_log(client: FlaskClient, clinic: Clinic) -> None:
    with capture_logs() as logs:
        slot = first(clinic)
        token = hold(client, slot, holder="a-browser-session-name").get_json()["hold"]
        look(client, f"/book/{slot}?hold={token}")
        client.delete(f"{API}/holds/{token}")
    assert len(logs) == 3
    assert token not in str(logs)
    assert "a-browser-session-name" not in str(logs)


def test_an_expired_hold_is_swept_by_the_workers_tick_within_a_minute(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    slot = str(clinic.offers(from_=clock.now() + DAY)[0].slot)
    hold(client, slot)
    worker = Worker(clinic.engine, clock, None)  # type: ignore[arg-type] # this tick sends nothing
    for _ in range(10 * 60 // SWEEP_SECONDS):
        assert slot not in offered(client)
        worker.sweep_holds()
        clock.at += timedelta(seconds=SWEEP_SECONDS)
    assert SWEEP_SECONDS <= 30
    worker.sweep_holds()
    assert slot in offered(client)
    with reading(clinic.engine) as session:
        assert rows(session, Hold) == []


# --- pages without a script


def details(client: FlaskClient, slot: str, **query: str) -> Page:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return look(client, f"/book/{slot}?{asked}")


def kept(page: Page) -> str:
    return page.main.one("p", role="status").text


def test_looking_keeps_no_time(client: FlaskClient, clinic: Clinic) -> None:
    page = details(client, first(clinic))
    assert (kept(page), page.form.fields["hold"]) == ("", "")
    with reading(clinic.engine) as session:
        assert rows(session, Hold) == []


def test_a_button_keeps_the_time_and_takes_what_is_typed_so_far(client: FlaskClient, clinic: Clinic) -> None:
    slot = first(clinic)
    page = details(client, slot).press(KEEP, name="Pat", email="pat@")
    assert (page.status, page.heading, page.problems) == (200, "Your details", {})
    assert kept(page) == "Kept for you until 9:10 AM, Central Standard Time"
    assert {"name": "Pat", "email": "pat@"}.items() <= page.form.fields.items()
    assert slot not in offered(client)
    check = page.press(CONTINUE, **PAT)
    assert check.form.fields["hold"] == page.form.fields["hold"]
    assert check.press(BOOK).heading == "Your visit is booked"


def test_keeping_longer_begins_anew(client: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    slot = str(clinic.offers(from_=clock.now() + DAY)[0].slot)
    page = details(client, slot).press(KEEP)
    clock.at += 5 * MINUTE
    longer = page.press(LONGER)
    assert kept(longer) == "Kept for you until 9:15 AM, Central Standard Time"
    check = longer.press(CONTINUE, **PAT)
    clock.at += 5 * MINUTE
    assert kept(check.press(LONGER)) == "Kept for you until 9:20 AM, Central Standard Time"
    with reading(clinic.engine) as session:
        assert len(rows(session, Hold)) == 1


def test_within_the_notice_a_time_stays_kept_as_long_as_it_was(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    clock.at = clinic.offers()[0].slot.starts_at - timedelta(hours=1)
    page = details(client, first(clinic)).press(KEEP)
    clock.at += MINUTE
    longer = page.press(LONGER)
    assert (longer.heading, kept(longer)) == ("Your details", kept(page))
    assert longer.press(CONTINUE, **PAT).press(BOOK).heading == "Your visit is booked"


def test_the_same_form_sent_again_finds_its_time_without_the_token(client: FlaskClient, clinic: Clinic) -> None:
    """A reload of an answer to a form sends what was sent before, and a page from before knows no token."""
    page = details(client, first(clinic))
    address, data = page.sent(CONTINUE, **PAT)
    for _ in range(2):
        answer = Page(client, client.post(address, data=data), address)
        assert (answer.heading, kept(answer)) == ("Is this right?", "Kept for you until 9:10 AM, Central Standard Time")
    with reading(clinic.engine) as session:
        assert len(rows(session, Hold)) == 1
    booked = client.post(address, data=data | {"step": "book"})
    assert booked.status_code == 303
    with reading(clinic.engine) as session:
        assert rows(session, Hold) == []


def test_the_address_of_a_page_may_say_which_hold_it_is_about(client: FlaskClient, clinic: Clinic) -> None:
    slot = first(clinic)
    token = hold(client, slot).get_json()["hold"]
    page = details(client, slot, hold=token)
    assert (page.heading, page.form.fields["hold"]) == ("Your details", token)
    assert kept(page) == "Kept for you until 9:10 AM, Central Standard Time"
    for wrong in ("unknown", "%00", "", "a" * 500):
        assert (details(client, slot, hold=wrong).status, details(client, slot, hold=wrong).heading) == (409, HELD)
    assert details(client, slot, hold=f"{token}&hold=x").status == 422


def test_another_persons_time_is_told_and_others_are_offered(client: FlaskClient, clinic: Clinic) -> None:
    slot = first(clinic)
    mine = details(client, slot)
    hold(client, slot)
    gone = mine.press(CONTINUE, **PAT)
    assert (gone.status, gone.heading) == (409, HELD)
    other = gone.press(next(iter(gone.form.buttons)))
    assert other.press(BOOK).heading == "Your visit is booked"


def test_another_time_gives_up_the_first(client: FlaskClient, clinic: Clinic) -> None:
    slot = first(clinic)
    check = details(client, slot).press(CONTINUE, **PAT)
    other = str(clinic.offers()[-1].slot)
    address, data = check.sent(BOOK)
    again = Page(client, client.post(address.replace(slot, other), data=data | {"step": "check"}), address)
    assert again.heading == "Is this right?"
    assert offered(client)[0] == slot
    with reading(clinic.engine) as session:
        assert len(rows(session, Hold)) == 1


@pytest.mark.parametrize("swept", [True, False])
def test_a_hold_that_ran_out_loses_nothing(client: FlaskClient, clinic: Clinic, clock: FixedClock, swept: bool) -> None:
    slot = str(clinic.offers(from_=clock.now() + DAY)[0].slot)
    check = details(client, slot).press(CONTINUE, **PAT)
    clock.at += 10 * MINUTE
    if swept:
        with transaction(clinic.engine) as session:
            holds.sweep(session, [1], now=clock.now())
    back = check.press("Change something")
    assert (back.heading, kept(back), back.form.fields["hold"]) == ("Your details", "", "")
    assert back.form.fields["name"] == PAT["name"]
    assert check.press(BOOK).heading == "Your visit is booked"


def test_a_time_lost_after_the_hold_ran_out_offers_others(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    slot = str(clinic.offers(from_=clock.now() + DAY)[0].slot)
    check = details(client, slot).press(CONTINUE, **PAT)
    clock.at += 10 * MINUTE
    clinic.book(slot)
    gone = check.press(BOOK)
    assert (gone.status, gone.heading) == (409, GONE)
    assert gone.form.fields["name"] == PAT["name"]


def test_past_the_limits_booking_goes_on_without_a_word(
    client: FlaskClient, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "HELD_ONE_IN", 10_000)
    page = details(client, first(clinic)).press(KEEP)
    assert (page.status, kept(page), page.problems) == (200, "", {})
    check = page.press(CONTINUE, **PAT)
    assert (check.status, kept(check)) == (200, "")
    assert check.press(BOOK).heading == "Your visit is booked"


@on_sqlite
def test_the_specification_tells_of_holds(client: FlaskClient) -> None:
    paths = client.get("/api/openapi.json").get_json()["paths"]
    assert set(paths[f"{API}/holds"]["post"]["responses"]) >= {"201", "400", "409", "413", "415", "422", "429", "503"}
    assert set(paths[f"{API}/holds/{{hold}}"]["delete"]["responses"]) >= {"204", "429", "503"}


@on_sqlite
def test_endless_attempts_to_give_up_are_braked(app: APIFlask, settings: config.Settings, limited: FlaskClient) -> None:
    answers = [limited.delete(f"{API}/holds/x", environ_overrides={"REMOTE_ADDR": HERE}) for _ in range(301)]
    assert [answer.status_code for answer in answers[:300]] == [204] * 300
    assert_told_to_wait(answers[300], 429, 60)
