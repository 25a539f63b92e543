"""Booking, viewing and cancelling over the JSON API, as another program sees it."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update
from werkzeug.test import TestResponse

from scheduler.clock import FixedClock
from scheduler.db import Base, reading, transaction
from scheduler.keys import Keyring
from scheduler.models import Appointment, AuditEvent, ExplainerVersion, IdempotencyKey, OutboxMessage, Patient, Slot
from scheduler.services import explainer
from scheduler.services.explainer import Wording
from tests.clinic import EXPLAINER, HOUR, Clinic, at, body, key, rows

API = "/api/v1"
# What no database decides is asked of one; the rest runs on both.
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
WEEK = timedelta(days=7)
REPLACED = Wording("2026-12-01", "en", "New words", "a test", [{"id": "a", "heading": "A", "html": "<p>A</p>"}])


def test_a_booked_visit_is_stored_and_shown(client: FlaskClient, clinic: Clinic) -> None:
    slot = client.get("/api/v1/slots?appointment_type=1&limit=1").get_json()["items"][0]
    booked = client.post("/api/v1/appointments", json=body(slot["id"]), headers=key())
    assert booked.status_code == 201
    assert booked.get_json()["status"] == "booked"
    assert {k: booked.get_json()[k] for k in ("start", "end", "location", "therapist", "appointment_type")} == {
        k: slot[k] for k in ("start", "end", "location", "therapist", "appointment_type")
    }
    token = booked.get_json()["token"]
    assert client.get(f"/api/v1/appointments/{token}").get_json() == booked.get_json()


def test_a_taken_time_is_refused_with_the_nearest_others(client: FlaskClient, clinic: Clinic) -> None:
    slot = client.get("/api/v1/slots?appointment_type=1&limit=1").get_json()["items"][0]
    client.post("/api/v1/appointments", json=body(slot["id"]), headers=key())
    refused = client.post("/api/v1/appointments", json=body(slot["id"]), headers=key())
    assert refused.status_code == 409
    assert refused.get_json()["type"].endswith("slot-taken")
    assert len(refused.get_json()["alternatives"]) == 3
    assert (
        client.post(
            "/api/v1/appointments", json=body(refused.get_json()["alternatives"][0]["id"]), headers=key()
        ).status_code
        == 201
    )


def test_a_cancelled_visit_is_on_offer_again(client: FlaskClient, clinic: Clinic) -> None:
    before = client.get("/api/v1/slots?appointment_type=1").get_json()
    booked = client.post("/api/v1/appointments", json=body(before["items"][0]["id"]), headers=key()).get_json()
    assert client.get("/api/v1/slots?appointment_type=1").get_json() != before
    for _ in range(2):
        cancelled = client.post(f"/api/v1/appointments/{booked['token']}/cancel", json={})
        assert (cancelled.status_code, cancelled.get_json()["status"]) == (200, "cancelled")
    assert client.get("/api/v1/slots?appointment_type=1").get_json() == before
    assert client.get(f"/api/v1/appointments/{booked['token']}").get_json()["status"] == "cancelled"


def slot_from(client: FlaskClient, instant: str, kind: int = 1) -> Any:  # noqa: ANN401 parsed JSON
    """The first start on offer from an instant on."""
    query = {"appointment_type": kind, "limit": 1, "from": instant}
    return client.get(f"{API}/slots", query_string=query).get_json()["items"][0]


def friday(client: FlaskClient) -> str:
    """A slot four days ahead: far enough for every reminder."""
    return str(slot_from(client, "2026-11-27T15:00:00Z")["id"])


def post(client: FlaskClient, request: object, headers: dict[str, str] | None = None) -> TestResponse:
    return client.post(f"{API}/appointments", json=request, headers=headers or key())


def booked(client: FlaskClient, **changes: Any) -> Any:  # noqa: ANN401 fields of the request; parsed JSON
    answer = post(client, body(changes.pop("slot", None) or friday(client), **changes))
    assert answer.status_code == 201, answer.get_json()
    return answer.get_json()


def stored(engine: Engine, table: Any) -> list[Any]:  # noqa: ANN401 a model
    with reading(engine) as session:
        return rows(session, table)


def everything(engine: Engine) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    with engine.connect() as connection:
        return {
            table.name: sorted(str(tuple(row)) for row in connection.execute(select(table)))
            for table in Base.metadata.sorted_tables
        }


def owed(engine: Engine) -> list[tuple[str, timedelta]]:
    """What is owed about the one visit, with the time from booking to when it is due."""
    with reading(engine) as session:
        found = session.execute(
            select(OutboxMessage.kind, OutboxMessage.due_at, Appointment.booked_at)
            .join(Appointment, Appointment.id == OutboxMessage.appointment_id)
            .where(OutboxMessage.status == "owed")
            .order_by(OutboxMessage.due_at)
        )
        return [(kind, due_at - booked_at) for kind, due_at, booked_at in found]


def test_a_repeated_request_books_once_whatever_its_spacing_and_order(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    request, same = body(friday(client), note="caf\u00e9"), key()
    first = post(client, request, same)
    reordered = {name: request[name] for name in reversed(request)}
    reordered["patient"] = dict(reversed(request["patient"].items()))
    for text in (json.dumps(request, indent=3), json.dumps(reordered, ensure_ascii=False, separators=(",", ":"))):
        again = client.post(f"{API}/appointments", data=text, content_type="application/json", headers=same)
        assert (again.status_code, again.get_json()) == (201, first.get_json())
    assert [len(stored(engine, table)) for table in (Appointment, Patient, AuditEvent, IdempotencyKey)] == [1] * 4


def test_a_key_with_another_body_is_refused_and_books_nothing(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    request, same = body(friday(client)), key()
    post(client, request, same)
    before = everything(engine)
    for other in (request | {"note": "x"}, body(slot_from(client, "2026-11-27T18:00:00Z")["id"])):
        refused = post(client, other, same)
        assert refused.status_code == 422
        assert [error["field"] for error in refused.get_json()["errors"]] == ["Idempotency-Key"]
    assert everything(engine) == before


def test_a_refused_request_keeps_no_key(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    taken, same = friday(client), key()
    booked(client, slot=taken)
    refusals = [body(taken), body("1-1-1"), body(friday(client), end="x"), body(friday(client), "999999999")]
    assert [post(client, request, same).status_code for request in refusals] == [409, 422, 422, 422]
    assert len(stored(engine, IdempotencyKey)) == 1
    assert post(client, body(friday(client)), same).status_code == 201


def test_a_repeat_after_the_cancellation_tells_of_the_cancelled_visit(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    request, same = body(friday(client)), key()
    first = post(client, request, same).get_json()
    client.post(f"{API}/appointments/{first['token']}/cancel", json={})
    again = post(client, request, same)
    assert (again.status_code, again.get_json()) == (201, first | {"status": "cancelled"})
    assert len(stored(engine, Appointment)) == 1


def test_a_repeat_after_the_visit_has_begun_is_still_that_visit(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    request, same = body(friday(client)), key()
    first = post(client, request, same)
    clock.at += timedelta(days=5)
    again = post(client, request, same)
    assert (again.status_code, again.get_json()) == (201, first.get_json())


def test_a_key_is_kept_for_seven_days_and_then_forgotten(
    client: FlaskClient, engine: Engine, clinic: Clinic, clock: FixedClock
) -> None:
    request, same = body(slot_from(client, "2026-12-08T15:00:00Z")["id"]), key()
    first = post(client, request, same).get_json()
    clock.at += WEEK
    assert post(client, request, same).get_json() == first
    clock.at += timedelta(seconds=1)
    assert post(client, request, same).status_code == 409  # as any second request for a taken time
    other = post(client, body(slot_from(client, "2026-12-09T15:00:00Z")["id"]), same)
    assert other.status_code == 201
    assert other.get_json()["id"] != first["id"]
    assert len(stored(engine, IdempotencyKey)) == 1


@on_sqlite
def test_an_unknown_hold_counts_as_none(client: FlaskClient, clinic: Clinic) -> None:
    taken = friday(client)
    assert booked(client, slot=taken, hold="no-such-hold")["status"] == "booked"
    assert post(client, body(taken, hold="no-such-hold")).status_code == 409


@on_sqlite
def test_end_therapist_and_location_come_from_the_slot_and_the_type(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    slot = friday(client)
    visit = booked(client, slot=slot, kind_id="2")
    assert (visit["start"], visit["end"]) == ("2026-11-27T09:00:00-06:00", "2026-11-27T09:45:00-06:00")
    assert (visit["therapist"]["id"], visit["location"]["id"], visit["appointment_type"]) == ("1", "1", "2")
    with reading(engine) as session:
        held = session.scalars(select(Slot.starts_at).where(Slot.appointment_id.is_not(None)).order_by(Slot.starts_at))
        assert held.all() == [at(visit["start"]) + timedelta(minutes=15 * n) for n in range(3)]


@on_sqlite
@pytest.mark.parametrize(("hours", "status"), [(0, 201), (23, 201), (24, 422), (100, 422)])
def test_a_replaced_explainer_is_accepted_for_a_day(
    client: FlaskClient, engine: Engine, clinic: Clinic, clock: FixedClock, hours: int, status: int
) -> None:
    slot = slot_from(client, "2026-12-08T15:00:00Z")["id"]
    clock.at += HOUR
    with transaction(engine) as session:
        explainer.publish(session, [REPLACED], now=clock.now())
    clock.at += hours * HOUR
    answer = post(client, body(slot))
    assert answer.status_code == status
    if status == 201:
        assert answer.get_json()["explainer_version"] == EXPLAINER
    else:
        assert [error["field"] for error in answer.get_json()["errors"]] == ["consent.explainer_version"]
        newest = {"explainer_version": REPLACED.version, "acknowledged": True}
        assert booked(client, slot=slot, consent=newest)["explainer_version"] == REPLACED.version


@on_sqlite
def test_the_language_of_the_explainer_that_was_shown_is_kept(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    booked(client, consent={"explainer_version": EXPLAINER, "language": "es", "acknowledged": True})
    with reading(engine) as session:
        shown = session.get_one(ExplainerVersion, rows(session, Appointment)[0].explainer_version_id)
        assert (shown.version, shown.language) == (EXPLAINER, "es")


@on_sqlite
def test_a_patient_who_was_not_shown_the_explainer_is_refused(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    refused = post(client, body(friday(client), consent={"explainer_version": EXPLAINER, "acknowledged": False}))
    assert refused.status_code == 422
    assert [error["field"] for error in refused.get_json()["errors"]] == ["consent.acknowledged"]
    assert stored(engine, Appointment) == []


def test_note_and_reason_are_sealed(client: FlaskClient, engine: Engine, clinic: Clinic, keys: Keyring) -> None:
    token = booked(client, note="my left knee\nhurts")["token"]
    client.post(f"{API}/appointments/{token}/cancel", json={"reason": "the swelling is gone"})
    raw = str(everything(engine))
    assert "knee" not in raw
    assert "swelling" not in raw
    visit = stored(engine, Appointment)[0]
    assert keys.open(visit.note_sealed) == "my left knee\nhurts"
    assert keys.open(visit.cancel_reason_sealed) == "the swelling is gone"


DAY = timedelta(days=1)
NOW = timedelta()


@on_sqlite
@pytest.mark.parametrize(
    ("start", "due"),
    [
        ("2026-11-27T09:00:00-06:00", [("reminder", 2 * DAY), ("reminder", 3 * DAY)]),
        ("2026-11-25T16:00:00-06:00", [("reminder", 31 * HOUR)]),  # 55 hours ahead: 48 hours before is in 7 hours
        ("2026-11-25T08:00:00-06:00", [("reminder", 23 * HOUR)]),
        ("2026-11-24T16:00:00-06:00", []),  # 31 hours ahead: 24 hours before is in 7 hours
        ("2026-11-23T10:00:00-06:00", []),
    ],
)
def test_a_visit_owes_its_confirmation_and_the_reminders_that_are_useful(
    client: FlaskClient, engine: Engine, clinic: Clinic, start: str, due: list[tuple[str, timedelta]]
) -> None:
    booked(client, slot=slot_from(client, start)["id"])
    assert owed(engine) == [("confirmation", NOW), *due]


@on_sqlite
def test_a_patient_who_wants_no_reminders_gets_the_confirmation_only(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    booked(client, reminders={"email": False})
    assert owed(engine) == [("confirmation", NOW)]


@on_sqlite
def test_a_patient_without_an_e_mail_address_is_owed_nothing(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    visit = booked(client, patient={"name": "Pat", "phone": "(312) 555-0142"}, reminders={"email": True, "sms": True})
    client.post(f"{API}/appointments/{visit['token']}/cancel", json={})
    assert stored(engine, OutboxMessage) == []
    assert stored(engine, Patient)[0].phone == "+13125550142"


def test_a_cancelled_visit_owes_word_of_that_once_and_nothing_else(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    token = booked(client)["token"]
    for _ in range(2):
        client.post(f"{API}/appointments/{token}/cancel", json={})
    assert owed(engine) == [("cancellation", NOW)]
    suppressed = [(m.kind, m.reason) for m in stored(engine, OutboxMessage) if m.status == "suppressed"]
    assert sorted(suppressed) == [("confirmation", "cancelled"), ("reminder", "cancelled"), ("reminder", "cancelled")]


def test_booking_and_cancelling_are_audited_once_without_the_patients_words(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    visit = booked(client, note="my left knee")
    for _ in range(2):
        client.post(f"{API}/appointments/{visit['token']}/cancel", json={"reason": "holiday"})
    events = sorted(stored(engine, AuditEvent), key=lambda event: event.action)
    ids = {event.entity_id for event in events}
    assert [(event.action, event.actor) for event in events] == [
        ("appointment.booked", "patient"),
        ("appointment.cancelled", "patient"),
    ]
    assert ids == {visit["id"].replace("-", "")}
    assert not any(word in str(event.detail) for event in events for word in ("Pat", "knee", "holiday", "example"))


def test_a_visit_that_has_begun_is_not_cancelled(
    client: FlaskClient, engine: Engine, clinic: Clinic, clock: FixedClock
) -> None:
    visit = booked(client)
    before = everything(engine)
    for late in (timedelta(), timedelta(days=3)):
        clock.at = at(visit["start"]) + late
        refused = client.post(f"{API}/appointments/{visit['token']}/cancel", json={})
        assert (refused.status_code, refused.content_type) == (409, "application/problem+json")
    assert everything(engine) == before
    assert client.get(f"{API}/appointments/{visit['token']}").get_json() == visit


@on_sqlite
def test_a_visit_can_be_cancelled_to_the_last_moment(client: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    visit = booked(client)
    clock.at = at(visit["start"]) - timedelta(seconds=1)
    assert client.post(f"{API}/appointments/{visit['token']}/cancel", json={}).get_json()["status"] == "cancelled"


def test_a_visit_that_staff_have_closed_is_not_cancelled(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    visit = booked(client)
    for status in ("arrived", "fulfilled", "noshow"):
        with transaction(engine) as session:
            session.execute(update(Appointment).values(status=status))
        refused = client.post(f"{API}/appointments/{visit['token']}/cancel", json={})
        assert refused.status_code == 409
        assert client.get(f"{API}/appointments/{visit['token']}").get_json() == visit | {"status": status}


def test_the_token_is_stored_nowhere(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    visit = booked(client)
    client.post(f"{API}/appointments/{visit['token']}/cancel", json={})
    assert visit["token"] not in str(everything(engine))


@on_sqlite
def test_a_token_of_another_case_or_length_opens_nothing(client: FlaskClient, clinic: Clinic) -> None:
    token = booked(client)["token"]
    others = (token.swapcase(), token[:-1], token + "=", token + "%00", "%20" + token)
    assert [client.get(f"{API}/appointments/{other}").status_code for other in others] == [404] * 5


@on_sqlite
def test_no_answer_names_the_patient_and_none_is_cached(client: FlaskClient, clinic: Clinic) -> None:
    patient = {"name": "Wilhelmina Quux", "email": "w.quux@example.com", "phone": "+1 312 555 0142"}
    request, same = body(friday(client), patient=patient | {"birth_date": "1984-02-29"}, note="knee"), key()
    visit = post(client, request, same)
    address = f"{API}/appointments/{visit.get_json()['token']}"
    answers = [visit, post(client, request, same), client.get(address), client.post(f"{address}/cancel", json={})]
    for answer in answers:
        text = answer.get_data(as_text=True).lower()
        assert not [word for word in ("quux", "wilhelmina", "@", "555", "1984", "knee") if word in text]
        assert answer.headers["Cache-Control"] == "no-store"
    assert visit.get_json()["manage_url"] == f"http://127.0.0.1:8000/appointments/{visit.get_json()['token']}"


def test_looking_changes_nothing(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    address = f"{API}/appointments/{booked(client)['token']}"
    before = everything(engine)
    for path in (address, f"{API}/slots?appointment_type=1", "/", "/metrics", "/readyz"):
        client.get(path)
        client.head(path)
    assert everything(engine) == before


def test_every_booking_adds_a_patient_of_its_own(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    for _ in range(2):
        booked(client)
    assert [patient.name for patient in stored(engine, Patient)] == ["Pat Doe"] * 2


LONGEST = {
    "name": "\U00020000" * 200,
    "email": "a" * 64 + "@" + ".".join(["b" * 61] * 3) + ".com",
    "phone": "+44 20 7946 0958",
    "birth_date": "1900-01-01",
}


@pytest.mark.parametrize("length", [8, 255])
def test_values_at_their_limits_are_stored_as_they_are(
    client: FlaskClient, engine: Engine, clinic: Clinic, keys: Keyring, length: int
) -> None:
    request = body(friday(client), patient=LONGEST, note="\U0001f9d1" * 500, hold="h" * 100)
    visit = post(client, request, {"Idempotency-Key": "~" * length})
    assert visit.status_code == 201
    cancelled = client.post(f"{API}/appointments/{visit.get_json()['token']}/cancel", json={"reason": "r" * 500})
    assert cancelled.status_code == 200
    patient = stored(engine, Patient)[0]
    assert (patient.name, patient.email, len(LONGEST["email"])) == (LONGEST["name"], LONGEST["email"], 254)
    assert (patient.phone, patient.birth_date) == ("+442079460958", datetime.fromisoformat("1900-01-01").date())
    assert keys.open(stored(engine, Appointment)[0].note_sealed) == request["note"]


ODD: list[tuple[dict[str, str], tuple[str, str | None]]] = [
    ({"name": "  Pat Doe ", "email": "Pat@EXAMPLE.com"}, ("Pat Doe", "Pat@example.com")),
    ({"name": "O'Brien; DROP TABLE", "email": "o'b@example.com"}, ("O'Brien; DROP TABLE", "o'b@example.com")),
    ({"name": "\u60a3\u8005", "email": "a@b\u00fccher.example.com"}, ("\u60a3\u8005", "a@xn--bcher-kva.example.com")),
    ({"name": "{{ 7 * 7 }}<b>%s", "phone": "312-555-0142"}, ("{{ 7 * 7 }}<b>%s", None)),
]


def test_odd_names_and_addresses_are_plain_text(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    for given, _ in ODD:
        booked(client, patient=given)
    patients = sorted(stored(engine, Patient), key=lambda patient: patient.id)
    assert [(patient.name, patient.email) for patient in patients] == [kept for _, kept in ODD]


def test_an_offset_that_the_policy_names_twice_is_owed_once(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    clinic.policy(reminders="email:24h, email:24h")
    last = clinic.offers()[-1]
    assert client.post("/api/v1/appointments", json=body(str(last.slot)), headers=key()).status_code == 201
    assert sorted(message.kind for message in stored(engine, OutboxMessage)) == ["confirmation", "reminder"]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", ["...", "=?utf-8?q?x=0aBcc:y@example.com?=", "\u200bPat", "Pat\u202eDoe"])
def test_a_name_that_is_none_is_refused(client: FlaskClient, clinic: Clinic, name: str) -> None:
    slot = str(clinic.offers()[0].slot)
    refused = client.post(
        "/api/v1/appointments", json=body(slot, patient={"name": name, "phone": "312-555-0142"}), headers=key()
    )
    assert refused.status_code == 422
    assert refused.get_json()["errors"][0]["field"] == "patient.name"
