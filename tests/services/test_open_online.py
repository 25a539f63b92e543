"""What is open online and what is not: patients find and book the one, staff both; what is not active nobody."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.keys import Keyring
from scheduler.models import AppointmentType, Location
from scheduler.services import access_goal, availability, practice
from scheduler.services.availability import Offer
from tests.clinic import Clinic, body, key
from tests.services.test_queries import statements

API = "/api/v1"
HERE, THERE = 1, 2
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def clinic(engine: Any, clock: FixedClock, keys: Keyring) -> Clinic:  # noqa: ANN401 as the usual one
    """Ana at one place, Ben at another, on the same days."""
    clinic = Clinic(engine, clock, keys)
    clinic.policy(booking_horizon_days=12)
    clinic.add_kinds()
    for name, place in (("Ana Abbott", "Springfield"), ("Ben Brown", "Peoria")):
        clinic.add_hours(clinic.add_therapist(name), clinic.add_location(place), weekdays=[3])
    clinic.plan()
    return clinic


def close(clinic: Clinic, place: int = THERE, **flags: bool) -> None:
    """Close a place to patients, or as `flags` say."""
    with transaction(clinic.engine) as session:
        session.execute(update(Location).where(Location.id == place).values(**(flags or {"online": False})))


def places(offers: list[Offer]) -> set[int]:
    return {offer.slot.location_id for offer in offers}


def offer_there(clinic: Clinic) -> str:
    return str(clinic.offers(location_id=THERE, by_staff=True)[0].slot)


CLOSED = pytest.mark.parametrize("flags", [{"online": False}, {"active": False}], ids=["not online", "not active"])


# --- places: search


@CLOSED
def test_patients_find_no_time_at_a_place_that_is_closed_to_them(clinic: Clinic, flags: dict[str, bool]) -> None:
    assert places(clinic.offers()) == {HERE, THERE}
    close(clinic, **flags)
    assert places(clinic.offers()) == {HERE}
    assert clinic.offers(location_id=THERE) == []
    assert clinic.offers(therapist_id=2) == []


def test_staff_find_times_at_a_place_that_is_not_online(clinic: Clinic) -> None:
    before = clinic.offers(by_staff=True)
    close(clinic)
    assert clinic.offers(by_staff=True) == before
    assert places(clinic.offers(by_staff=True, location_id=THERE)) == {THERE}


def test_a_place_that_is_not_active_loses_its_cells_and_gets_them_back(clinic: Clinic) -> None:
    before = clinic.offers(by_staff=True)
    close(clinic, active=False)
    clinic.plan()
    assert places(clinic.offers(by_staff=True)) == {HERE}
    assert clinic.violations() == {}
    close(clinic, active=True)
    clinic.plan()
    assert clinic.offers(by_staff=True) == before


def test_a_place_that_opens_is_found_at_once(clinic: Clinic) -> None:
    before = clinic.offers()
    close(clinic)
    close(clinic, online=True)
    assert clinic.offers() == before


@on_sqlite
def test_no_page_of_a_search_is_cut_short_by_a_closed_place(clinic: Clinic) -> None:
    close(clinic, HERE)
    with reading(clinic.engine) as session:
        find = availability.Find(clinic.kinds["Evaluation"], limit=5)
        page = availability.search(session, find, now=clinic.clock.now())
    assert len(page.offers) == 5
    assert page.next_cursor is not None


@on_sqlite
def test_a_search_asks_as_many_questions_whatever_is_closed(clinic: Clinic) -> None:
    with statements(clinic.engine) as all_open:
        clinic.offers()
    close(clinic)
    with statements(clinic.engine) as one_closed:
        clinic.offers()
    assert len(one_closed) == len(all_open) == 2


# --- places: what patients see


def slots(client: FlaskClient, **query: object) -> list[Any]:
    answer = client.get(f"{API}/slots", query_string={"appointment_type": 1, "limit": 200, **query})
    assert answer.status_code == 200
    return list(answer.get_json()["items"])


@CLOSED
def test_a_closed_place_is_offered_nowhere(clinic: Clinic, client: FlaskClient, flags: dict[str, bool]) -> None:
    assert {slot["location"]["id"] for slot in slots(client)} == {"1", "2"}
    close(clinic, **flags)
    assert {slot["location"]["id"] for slot in slots(client)} == {"1"}
    assert slots(client, location=THERE) == []
    assert [place["id"] for place in client.get(f"{API}/locations").get_json()["items"]] == ["1"]
    access = client.get(f"{API}/access").get_json()
    assert [place["id"] for place in access["locations"]] == ["1"]
    therapists = client.get(f"{API}/therapists").get_json()["items"]
    assert {one["name"]: one["location_ids"] for one in therapists} == {"Ana Abbott": ["1"], "Ben Brown": []}
    assert client.get(f"{API}/therapists?location=2").get_json()["items"] == []
    for page in ("/", "/book", "/book?location=2", "/book?therapist=2"):
        assert "Peoria" not in client.get(page).get_data(as_text=True), page


@CLOSED
def test_a_time_at_a_closed_place_is_an_unknown_one(
    clinic: Clinic, client: FlaskClient, flags: dict[str, bool]
) -> None:
    slot = offer_there(clinic)
    close(clinic, **flags)
    answer = client.post(f"{API}/appointments", json=body(slot), headers=key())
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == ["slot"]
    assert client.get(f"/book/{slot}").status_code == 422
    with pytest.raises(Invalid):
        clinic.book(slot)


def test_the_goal_is_measured_at_open_places_only(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(Location).where(Location.id == HERE).values(online=False))
    with reading(clinic.engine) as session:
        measured = access_goal.measure(session, now=clinic.clock.now())
    assert [at.location.id for at in measured.locations] == [THERE]
    assert measured.overall.figures.next_available_at == clinic.offers()[0].slot.starts_at


def test_a_clinic_that_is_closed_online_offers_nothing_and_says_so(clinic: Clinic, client: FlaskClient) -> None:
    close(clinic, HERE)
    close(clinic)
    assert slots(client) == []
    access = client.get(f"{API}/access").get_json()
    assert (access["locations"], access["overall"]["within_goal"]) == ([], False)
    for page in ("/", "/book"):
        assert client.get(page).status_code == 200


def test_other_times_than_a_taken_one_are_at_open_places(clinic: Clinic, client: FlaskClient) -> None:
    slot = str(clinic.offers(location_id=HERE)[0].slot)
    close(clinic)
    clinic.book(slot)
    answer = client.post(f"{API}/appointments", json=body(slot), headers=key())
    assert answer.status_code == 409
    assert {other["location"]["id"] for other in answer.get_json()["alternatives"]} == {"1"}


def test_a_visit_at_a_place_that_was_closed_stands(clinic: Clinic, client: FlaskClient) -> None:
    visit = clinic.book(offer_there(clinic))
    close(clinic)
    assert client.get(f"{API}/appointments/{visit.token}").get_json()["status"] == "booked"
    assert "Peoria" in client.get(f"/appointments/{visit.token}").get_data(as_text=True)
    assert client.post(f"{API}/appointments/{visit.token}/cancel", json={}).get_json()["status"] == "cancelled"


# --- types


def retire(clinic: Clinic, kind: str) -> str:
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).where(AppointmentType.name == kind).values(active=False))
    return str(clinic.kinds[kind])


def test_a_type_that_is_not_active_is_an_unknown_one(clinic: Clinic, client: FlaskClient) -> None:
    slot = str(clinic.offers()[0].slot)
    kind = retire(clinic, "Evaluation")
    assert kind not in {one["id"] for one in client.get(f"{API}/appointment-types").get_json()["items"]}
    for path in (f"{API}/slots?appointment_type={kind}", f"{API}/access?appointment_type={kind}"):
        answer = client.get(path)
        assert (answer.status_code, answer.get_json()["errors"][0]["field"]) == (422, "appointment_type")
    answer = client.post(f"{API}/appointments", json=body(slot, kind), headers=key())
    assert (answer.status_code, answer.get_json()["errors"][0]["field"]) == (422, "appointment_type")
    assert client.get(f"/book?type={kind}").status_code == 422
    with pytest.raises(Invalid):
        clinic.offers(by_staff=True)


def test_visits_of_a_type_that_is_not_active_stay_what_they_are(clinic: Clinic, client: FlaskClient) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot))
    kind = retire(clinic, "Evaluation")
    assert client.get(f"{API}/appointments/{visit.token}").get_json()["appointment_type"] == kind
    assert client.get(f"/appointments/{visit.token}").status_code == 200
    assert client.post(f"{API}/appointments/{visit.token}/cancel", json={}).status_code == 200
    assert clinic.violations() == {}


@on_sqlite
def test_the_goal_is_about_active_types_only(clinic: Clinic, client: FlaskClient) -> None:
    """The clinic's only new-patient type is gone: then the goal is about nothing."""
    retire(clinic, "Evaluation")
    with reading(clinic.engine) as session:
        assert practice.new_patient_types(session) == []
        with pytest.raises(Invalid):
            access_goal.measure(session, now=clinic.clock.now())
    clinic.record_access()
    assert client.get("/").status_code == 200
    assert client.get("/book").status_code == 200


@on_sqlite
def test_times_come_back_with_the_place_at_any_later_moment(clinic: Clinic, clock: FixedClock) -> None:
    close(clinic)
    clock.at += timedelta(days=1)
    close(clinic, online=True)
    assert places(clinic.offers()) == {HERE, THERE}
