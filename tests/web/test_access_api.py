"""GET /access: its shape, that it tells what /slots offers at that moment, and what it refuses."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, insert

from scheduler.clock import FixedClock
from scheduler.db import transaction
from scheduler.keys import Keyring
from scheduler.models import AccessSample, AppointmentType
from scheduler.web import schemas
from tests.clinic import Clinic, at, body, key
from tests.conftest import MONDAY_MORNING
from tests.services.test_queries import statements

API = "/api/v1"
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
STANDING = [
    "next_available_at",
    "next_available_hours",
    "third_next_available_hours",
    "within_goal",
    "attainment_28d",
]
NOTHING = {
    "next_available_at": None,
    "next_available_hours": None,
    "third_next_available_hours": None,
    "within_goal": False,
    "attainment_28d": None,
}


@pytest.fixture
def three_places(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    """Ana in Chicago and Ben in Mesa begin at the same moment; nobody works in Denver."""
    clinic = Clinic(engine, clock, keys)
    clinic.add_kinds()
    chicago, mesa = clinic.add_location(), clinic.add_location("Mesa", "America/Phoenix", "AZ")
    clinic.add_location("Denver", "America/Denver", "CO")
    clinic.add_hours(clinic.add_therapist(), chicago)
    clinic.add_hours(clinic.add_therapist("Ben Brown", "AZ"), mesa, opens=7 * 60)
    clinic.plan()
    return clinic


def access(client: FlaskClient, query: str = "") -> Any:  # noqa: ANN401 parsed JSON
    answer = client.get(f"{API}/access{query}")
    assert (answer.status_code, answer.content_type) == (200, "application/json"), answer.get_data()
    schemas.AccessOut.model_validate(answer.get_json())
    return answer.get_json()


def slots(client: FlaskClient, query: str) -> Any:  # noqa: ANN401 parsed JSON
    return client.get(f"{API}/slots?limit=3&{query}").get_json()["items"]


def standing(found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in STANDING}


def test_the_answer_has_the_shape_of_the_contract(client: FlaskClient, three_places: Clinic) -> None:
    answer = access(client)
    assert list(answer) == ["goal_hours", "target", "measured_at", "appointment_type", "overall", "locations"]
    assert list(answer["overall"]) == STANDING
    assert [list(place) for place in answer["locations"]] == [["id", "name", *STANDING]] * 3
    assert [(place["id"], place["name"]) for place in answer["locations"]] == [
        ("3", "Denver"),
        ("2", "Mesa"),
        ("1", "Springfield"),
    ]
    assert (answer["goal_hours"], answer["target"], answer["appointment_type"]) == (48, 0.9, "1")
    assert answer["measured_at"] == "2026-11-23T15:00:00+00:00"


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_it_tells_what_slots_offers_at_that_moment(
    client: FlaskClient, three_places: Clinic, clock: FixedClock, kind: int
) -> None:
    clock.at = MONDAY_MORNING + timedelta(hours=5, minutes=3, seconds=20.5)
    answer = access(client, f"?appointment_type={kind}")
    assert answer["appointment_type"] == str(kind)
    for found, query in [
        (answer["overall"], ""),
        *((place, f"&location={place['id']}") for place in answer["locations"]),
    ]:
        offered = slots(client, f"appointment_type={kind}{query}")
        starts = [at(item["start"]) for item in offered]
        hours = [round((start - at(answer["measured_at"])).total_seconds() / 3600, 2) for start in starts]
        assert standing(found) == NOTHING | (
            {
                "next_available_at": offered[0]["start"],
                "next_available_hours": hours[0],
                "third_next_available_hours": hours[2],
                "within_goal": hours[0] <= answer["goal_hours"],
            }
            if offered
            else {}
        )


def test_of_two_places_that_begin_together_it_names_the_one_that_slots_lists_first(
    client: FlaskClient, three_places: Clinic, clock: FixedClock
) -> None:
    for name in ("Cleo Cruz", "Dev Dunn", "Eve Ellis"):  # more at that moment than are read of one place
        three_places.add_hours(three_places.add_therapist(name), 1)
    three_places.plan()
    clock.at = MONDAY_MORNING + timedelta(hours=21)  # 6:00 in Chicago; Mesa opens at 7:00, which is 8:00 there
    overall, offered = access(client)["overall"], slots(client, "appointment_type=1")
    assert [item["start"][11:] for item in offered] == ["08:00:00-06:00", "07:00:00-07:00", "08:00:00-06:00"]
    assert overall["next_available_at"] == offered[0]["start"]
    assert overall["next_available_hours"] == overall["third_next_available_hours"] == 2.0


def test_a_booked_time_no_longer_counts_and_a_freed_one_counts_again(client: FlaskClient, clinic: Clinic) -> None:
    before = access(client)
    slot = slots(client, "appointment_type=1")[0]["id"]
    token = client.post(f"{API}/appointments", json=body(slot), headers=key()).get_json()["token"]
    booked = access(client)["overall"]
    assert (booked["next_available_hours"], booked["third_next_available_hours"]) == (2.0, 2.5)
    client.post(f"{API}/appointments/{token}/cancel", json={})
    assert access(client) == before


def test_the_goal_is_kept_up_to_its_very_hour(client: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    clinic.policy(access_goal_hours=2, booking_notice_minutes=120, access_target=0.875)
    answer = access(client)
    assert (answer["goal_hours"], answer["target"]) == (2, 0.875)
    assert (answer["overall"]["next_available_hours"], answer["overall"]["within_goal"]) == (2.0, True)
    clinic.policy(booking_notice_minutes=121)
    answer = access(client)
    assert (answer["overall"]["next_available_hours"], answer["overall"]["within_goal"]) == (2.25, False)


def test_times_are_told_in_the_offset_of_their_day_at_the_location(
    client: FlaskClient, engine: Engine, clock: FixedClock, keys: Keyring
) -> None:
    clinic = Clinic(engine, clock, keys)
    clinic.add_kinds()
    clock.at = datetime.fromisoformat("2027-03-13T22:00:00-05:00")
    place = clinic.add_location("Albany", "America/New_York", "NY")
    clinic.add_hours(clinic.add_therapist(state="NY"), place, range(7), opens=2 * 60, closes=5 * 60)
    clinic.plan()
    found = access(client)["overall"]  # 2:00 is skipped that night: the first start is 3:00, four hours later
    assert (found["next_available_at"], found["next_available_hours"]) == ("2027-03-14T03:00:00-04:00", 4.0)


def test_a_share_of_four_weeks_is_told_once_there_is_a_week_of_history(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    clinic.record_access()
    clinic.policy(access_goal_hours=1, booking_notice_minutes=90)
    clock.at += timedelta(minutes=15)
    clinic.record_access()
    assert access(client)["overall"]["attainment_28d"] is None
    clock.at = MONDAY_MORNING + timedelta(days=7)
    answer = access(client)
    assert [found["attainment_28d"] for found in (answer["overall"], *answer["locations"])] == [0.5, 0.5]
    assert access(client, "?appointment_type=3")["overall"]["attainment_28d"] is None


@on_sqlite
def test_a_clinic_without_locations_has_nothing_to_offer(client: FlaskClient, engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(AppointmentType(name="E", position=1, minutes=60, new_patient=True, includes_needling=False))
    answer = access(client)
    assert (answer["overall"], answer["locations"]) == (NOTHING, [])


REFUSED = [
    *("", "0", "-1", "01", "1.0", "x", "99", "999999999", "9" * 23, "1%0A", "%00", "%FF", "%D9%A3", "null"),
    *("1&appointment_type=1", "1&appointment_type=2"),
]


@on_sqlite
@pytest.mark.parametrize("value", REFUSED)
def test_a_type_that_does_not_exist_is_refused_by_its_name(client: FlaskClient, clinic: Clinic, value: str) -> None:
    answer = client.get(f"{API}/access?appointment_type={value}")
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert [error["field"] for error in answer.get_json()["errors"]] == ["appointment_type"]


@on_sqlite
def test_without_a_new_patient_type_the_type_must_be_named(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    with transaction(engine) as session:
        session.get_one(AppointmentType, 1).new_patient = False
    refused = client.get(f"{API}/access")
    assert (refused.status_code, refused.get_json()["errors"][0]["field"]) == (422, "appointment_type")
    assert access(client, "?appointment_type=1")["overall"]["within_goal"]


@on_sqlite
def test_asking_writes_nothing(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    with statements(engine) as seen:
        access(client)
    assert {sql.split()[0] for sql, _ in seen} == {"SELECT"}


@on_sqlite
def test_the_specification_explains_the_answer(client: FlaskClient, engine: Engine) -> None:
    spec = client.get("/api/openapi.json").get_json()
    operation = spec["paths"][f"{API}/access"]["get"]
    assert [(p["name"], p["in"], p["required"]) for p in operation["parameters"]] == [
        ("appointment_type", "query", False)
    ]
    assert {"200", "422", "503"} <= set(operation["responses"])
    assert re.search(
        r"two therapists at one moment as two", spec["components"]["schemas"]["AccessOut.StandingOut"]["description"]
    )


@on_sqlite
def test_a_share_of_one_and_of_none_are_told_as_such(client: FlaskClient, engine: Engine, three_places: Clinic) -> None:
    old = MONDAY_MORNING - timedelta(days=8)
    verdicts = {1: True, 2: False}
    with transaction(engine) as session:
        session.execute(
            insert(AccessSample),
            [
                {
                    "appointment_type_id": 1,
                    "location_id": place,
                    "quarter": old,
                    "next_available_hours": 48 if kept else 49,
                    "goal_hours": 48,
                    "within_goal": kept,
                }
                for place, kept in verdicts.items()
            ],
        )
    answer = access(client)
    shares = {place["name"]: place["attainment_28d"] for place in answer["locations"]}
    assert shares == {"Springfield": 1, "Mesa": 0, "Denver": None}
    assert answer["overall"]["attainment_28d"] == 1
