"""Booking, viewing and cancelling over the JSON API, as another program sees it."""

from flask.testing import FlaskClient

from tests.clinic import Clinic, body, key


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
