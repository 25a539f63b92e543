"""What a search lists, in which order, and that it is what can be booked."""

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import transaction
from scheduler.keys import Keyring
from scheduler.models import License, Slot, StateRule, TherapistLanguage
from scheduler.services.availability import SlotName
from scheduler.timeline import zone_of
from scheduler.web import schemas
from tests.clinic import KINDS, LONG_AGO, Clinic, at, body, key

API = "/api/v1"
# What no database decides is asked of one; the rest runs on both.
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
WEEK = range(7)
Search = Callable[..., list[Any]]


@pytest.fixture
def search(client: FlaskClient) -> Search:
    """Ask /slots and return its items; `from_` stands for `from`."""

    def ask(kind: int = 1, limit: int = 200, **query: object) -> list[Any]:
        asked = {name.rstrip("_"): value for name, value in query.items()}
        answer = client.get(f"{API}/slots", query_string={"appointment_type": kind, "limit": limit, **asked})
        assert answer.status_code == 200, answer.get_json()
        schemas.SlotPage.model_validate(answer.get_json())
        return list(answer.get_json()["items"])

    return ask


@pytest.fixture
def empty(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    """A clinic with its kinds of visits and nothing else."""
    clinic = Clinic(engine, clock, keys)
    clinic.add_kinds()
    return clinic


@pytest.fixture
def two_places(empty: Clinic) -> Clinic:
    """Ana in Chicago, Ben and Cleo in Phoenix, which knows no summer time; Cleo speaks Spanish too."""
    places = empty.add_location(), empty.add_location("Mesa", "America/Phoenix", "AZ")
    people = empty.add_therapist(), empty.add_therapist("Ben Brown", "AZ"), empty.add_therapist("Cleo Cruz", "AZ")
    for person, place in zip(people, (places[0], places[1], places[1]), strict=True):
        empty.add_hours(person, place)
    with transaction(empty.engine) as session:
        session.add(TherapistLanguage(therapist_id=people[2], language="es"))
    empty.plan()
    return empty


def book(client: FlaskClient, slot_id: str, kind: int = 1) -> Any:  # noqa: ANN401 parsed JSON
    answer = client.post(f"{API}/appointments", json=body(slot_id, str(kind)), headers=key())
    assert answer.status_code == 201, answer.get_json()
    return answer.get_json()


def pages(client: FlaskClient, limit: int, between: Callable[[Any], None] = lambda _page: None) -> list[Any]:
    """Follow the cursor to the end over two days; `between` happens after each page."""
    query = {"appointment_type": 1, "limit": limit, "from": "2026-11-24", "to": "2026-11-26"}
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get(f"{API}/slots", query_string=query | cursor).get_json()
        assert len(page["items"]) <= limit
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}
        between(page)


def starts(items: list[Any]) -> list[str]:
    return [item["start"] for item in items]


def clock_times(items: list[Any]) -> list[str]:
    return [item["start"][11:16] for item in items]


def every_quarter(first: str, last: str) -> list[str]:
    minutes = [int(text[:2]) * 60 + int(text[3:]) for text in (first, last)]
    return [f"{m // 60:02}:{m % 60:02}" for m in range(minutes[0], minutes[1] + 1, 15)]


def test_times_of_a_part_of_the_day_and_of_weekdays_are_listed(search: Search, two_places: Clinic) -> None:
    days = {"from_": "2026-11-23", "to": "2026-11-28", "location": 1}
    every = search(**days)
    for part, (first, last) in {"morning": ("00", "12"), "afternoon": ("12", "17"), "evening": ("17", "24")}.items():
        there = [item for item in every if first <= item["start"][11:13] < last]
        assert search(**days, day_part=part) == there
    friday = search(weekday="friday", day_part="afternoon", to="2026-12-05")
    assert {item["start"][:10] for item in friday} == {"2026-11-27", "2026-12-04"}
    both = search(weekday="monday,friday", therapist=2, to="2026-12-05")
    assert {item["start"][:10] for item in both} == {"2026-11-23", "2026-11-27", "2026-11-30", "2026-12-04"}
    assert search(weekday="saturday,sunday") == []


@on_sqlite
def test_only_the_type_is_required_and_twenty_are_listed(client: FlaskClient, clinic: Clinic) -> None:
    answer = client.get(f"{API}/slots?appointment_type=1").get_json()
    assert len(answer["items"]) == 20
    assert answer["items"][0]["start"] == "2026-11-23T10:00:00-06:00"  # an hour's notice from 9:00 on


def test_the_soonest_is_first_across_locations_then_by_therapist(search: Search, two_places: Clinic) -> None:
    found = [(at(item["start"]), int(item["therapist"]["id"])) for item in search()]
    assert found == sorted(set(found))
    assert {therapist for _, therapist in found} == {1, 2, 3}


@on_sqlite
def test_visits_of_each_length_start_on_every_quarter_that_leaves_them_time(search: Search, clinic: Clinic) -> None:
    for kind, last in ((1, "16:00"), (2, "16:15"), (3, "16:30")):
        found = search(kind, from_="2026-11-24", to="2026-11-25")
        assert clock_times(found) == every_quarter("08:00", last)
        assert {at(item["end"]) - at(item["start"]) for item in found} == {timedelta(minutes=KINDS[kind - 1][1])}


def test_a_booked_visit_hides_the_starts_that_would_overlap_it(
    search: Search, client: FlaskClient, clinic: Clinic
) -> None:
    before = search(from_="2026-11-24", to="2026-11-25")
    book(client, before[8]["id"])  # 10:00 to 11:00
    hidden = set(every_quarter("09:15", "10:45"))
    assert search(from_="2026-11-24", to="2026-11-25") == [
        item for item in before if item["start"][11:16] not in hidden
    ]


def test_the_end_excludes_the_buffer_and_the_next_visit_waits_for_it(
    search: Search, client: FlaskClient, engine: Engine, clock: FixedClock, keys: Keyring
) -> None:
    clinic = Clinic(engine, clock, keys)
    clinic.add_kinds(buffer_minutes=15)
    clinic.add_hours(clinic.add_therapist(), clinic.add_location())
    clinic.plan()
    day = search(from_="2026-11-24", to="2026-11-25")
    assert clock_times(day) == every_quarter("08:00", "15:45")
    assert (day[0]["start"], day[0]["end"]) == ("2026-11-24T08:00:00-06:00", "2026-11-24T09:00:00-06:00")
    booked = book(client, day[0]["id"])
    assert booked["end"] == day[0]["end"]
    assert clock_times(search(from_="2026-11-24", to="2026-11-25"))[0] == "09:15"


def test_dates_are_midnights_of_each_location(search: Search, empty: Clinic, clock: FixedClock) -> None:
    clock.at = at("2026-10-30T12:00:00+00:00")
    for zone, state in (("America/Chicago", "IL"), ("America/Phoenix", "AZ")):
        empty.add_hours(empty.add_therapist(state=state), empty.add_location(zone, zone, state), WEEK, 0, 24 * 60)
    empty.plan()
    found = search(3, from_="2026-11-01", to="2026-11-02", location=1)
    assert (found[0]["start"], found[-1]["start"]) == ("2026-11-01T00:00:00-05:00", "2026-11-01T23:45:00-06:00")
    assert len(found) == 25 * 4  # Chicago's clock goes back that day, Phoenix' does not
    assert len(search(3, from_="2026-11-01", to="2026-11-02", location=2)) == 24 * 4
    anywhere = search(3, from_="2026-11-01", to="2026-11-02")
    assert [item["start"][:10] for item in anywhere] == ["2026-11-01"] * (25 + 24) * 4
    assert starts(anywhere)[0] == "2026-11-01T00:00:00-05:00"


@on_sqlite
def test_the_hour_that_comes_twice_is_offered_twice_and_written_apart(
    search: Search, empty: Clinic, clock: FixedClock
) -> None:
    clock.at = at("2026-10-30T12:00:00+00:00")
    empty.add_hours(empty.add_therapist(), empty.add_location(), WEEK, 0, 24 * 60)
    empty.plan()
    found = starts(search(3, from_="2026-11-01T06:00:00+00:00", to="2026-11-01T08:00:00+00:00"))
    first = [f"2026-11-01T01:{minute:02}:00-05:00" for minute in (0, 15, 30, 45)]
    assert found == first + [start.replace("-05:00", "-06:00") for start in first]


@on_sqlite
def test_the_hour_that_is_skipped_is_not_offered(search: Search, empty: Clinic, clock: FixedClock) -> None:
    clock.at = at("2027-03-12T12:00:00+00:00")
    empty.add_hours(empty.add_therapist(), empty.add_location(), WEEK, 0, 24 * 60)
    empty.plan()
    found = search(3, from_="2027-03-14", to="2027-03-15")
    assert len(found) == 23 * 4
    assert starts(found)[7:9] == ["2027-03-14T01:45:00-06:00", "2027-03-14T03:00:00-05:00"]


INSTANTS = [
    ("2026-11-24T09:00:00-06:00", "2026-11-24T10:00:00-06:00"),
    ("2026-11-24T15:00:00+00:00", "2026-11-24T16:00:00+00:00"),
    ("2026-11-24T15:00:00Z", "2026-11-24T16:00:00Z"),
    ("2026-11-24T20:30:00+05:30", "2026-11-25T01:00:00+09:00"),
    ("2026-11-24T08:45:00.000001-06:00", "2026-11-24T09:45:00.000001-06:00"),
]


def test_from_is_inclusive_and_to_is_exclusive_at_any_offset(search: Search, clinic: Clinic) -> None:
    found = [clock_times(search(from_=from_, to=to)) for from_, to in INSTANTS]
    assert found == [["09:00", "09:15", "09:30", "09:45"]] * len(INSTANTS)


@on_sqlite
def test_a_date_and_an_instant_may_bound_one_search(search: Search, clinic: Clinic) -> None:
    assert clock_times(search(from_="2026-11-24", to="2026-11-24T14:30:00Z")) == ["08:00", "08:15"]


@on_sqlite
def test_a_search_that_nothing_fits_is_empty_and_has_no_next_page(client: FlaskClient, clinic: Clinic) -> None:
    nothing = ("from=2026-11-24&to=2026-11-24", "from=2026-11-25&to=2026-11-24", "from=2100-01-01", "to=2001-01-01")
    found = [client.get(f"{API}/slots?appointment_type=1&{query}").get_json() for query in (*nothing, "language=fr")]
    assert found == [{"items": [], "next_cursor": None}] * 5


FILTERS: list[tuple[dict[str, object], set[str]]] = [
    ({}, {"1", "2", "3"}),
    ({"location": 1}, {"1"}),
    ({"location": 2}, {"2", "3"}),
    ({"therapist": 2}, {"2"}),
    ({"location": 2, "therapist": 3}, {"3"}),
    ({"location": 1, "therapist": 3}, set()),
    ({"language": "es"}, {"3"}),
    ({"language": "en"}, {"1", "2", "3"}),
    ({"language": "es", "location": 1}, set()),
    ({"language": "es", "therapist": 2}, set()),
]


def test_filters_narrow_a_search_and_lose_nothing(search: Search, two_places: Clinic) -> None:
    day = {"from_": "2026-11-24", "to": "2026-11-25"}
    whole = search(**day)
    for query, therapists in FILTERS:
        expected = [item for item in whole if item["therapist"]["id"] in therapists]
        assert {item["therapist"]["id"] for item in expected} == therapists
        assert search(**day, **query) == expected, query


def test_pages_join_to_the_whole_list_at_every_limit(search: Search, client: FlaskClient, two_places: Clinic) -> None:
    whole = search(from_="2026-11-24", to="2026-11-26")
    assert len(whole) == 3 * 2 * 33
    for limit in (4, 7, 66, 198, 200):
        assert pages(client, limit) == whole, limit


def test_pages_repeat_nothing_and_lose_nothing_free_while_others_book(
    search: Search, client: FlaskClient, two_places: Clinic
) -> None:
    whole = search(from_="2026-11-24", to="2026-11-26")

    def book_the_last(page: Any) -> None:  # noqa: ANN401 parsed JSON
        client.post(f"{API}/appointments", json=body(page["items"][-1]["id"]), headers=key())

    found = [item["id"] for item in pages(client, 7, book_the_last)]
    assert len(found) == len(set(found))
    still_free = {item["id"] for item in search(from_="2026-11-24", to="2026-11-26")}
    assert still_free <= set(found) <= {item["id"] for item in whole}
    assert len(still_free) < len(whole)


@on_sqlite
def test_times_are_written_in_the_offset_of_their_location(search: Search, two_places: Clinic) -> None:
    found = search()
    written = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")
    for item in found:
        zone = zone_of(item["location"]["time_zone"])
        for text in (item["start"], item["end"]):
            assert written.fullmatch(text)
            assert at(text).utcoffset() == at(text).astimezone(zone).utcoffset()
    assert {item["start"][-6:] for item in found} == {"-06:00", "-07:00"}


def test_a_slot_has_one_id_for_every_type(search: Search, clinic: Clinic) -> None:
    ids = [{item["start"]: item["id"] for item in search(kind)} for kind in (1, 2, 3)]
    common = set(ids[0]) & set(ids[1]) & set(ids[2])
    assert len(common) > 100
    assert all(ids[0][start] == ids[1][start] == ids[2][start] for start in common)


def test_a_slot_keeps_its_id_through_booking_cancelling_and_planning(
    search: Search, client: FlaskClient, clinic: Clinic
) -> None:
    before = search()
    for kind in (3, 1):
        token = book(client, before[0]["id"], kind)["token"]
        client.post(f"{API}/appointments/{token}/cancel", json={})
        clinic.plan()
    assert search() == before


def test_every_time_of_a_page_can_be_booked_by_anyone(search: Search, client: FlaskClient, two_places: Clinic) -> None:
    for kind in (1, 2, 3):
        for item in search(kind, limit=12, from_="2026-11-24T22:00:00Z"):
            booked = book(client, item["id"], kind)
            assert {name: booked[name] for name in item if name != "id"} == {n: item[n] for n in item if n != "id"}
            client.post(f"{API}/appointments/{booked['token']}/cancel", json={})


def test_exactly_the_listed_cells_of_a_day_can_be_booked(
    search: Search, client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    book(client, search(2, from_="2026-11-24T17:00:00Z")[0]["id"], 2)
    tuesday = {"from_": "2026-11-24", "to": "2026-11-25"}
    listed = {item["id"] for item in search(**tuesday)}
    with transaction(engine) as session:
        day = Slot.starts_at.between(at("2026-11-24T06:00:00Z"), at("2026-11-25T06:00:00Z"))
        cells = [str(SlotName(1, 1, start)) for start in session.scalars(select(Slot.starts_at).where(day)).all()]
    bookable = set()
    for cell in cells:
        answer = client.post(f"{API}/appointments", json=body(cell), headers=key())
        if answer.status_code == 201:
            bookable.add(cell)
            client.post(f"{API}/appointments/{answer.get_json()['token']}/cancel", json={})
    assert len(cells) == 36
    assert bookable == listed


def with_therapist(clinic: Clinic, *licences: License, rule: StateRule | None = None) -> None:
    """Ana in Chicago around the clock, with a physical therapist's licence and the rest as given."""
    location = clinic.add_location(state="IL")
    with transaction(clinic.engine) as session:
        session.delete(session.scalars(select(StateRule)).one())
        session.flush()
        session.add_all([rule] if rule else [])
    therapist = clinic.add_therapist(kinds=())
    clinic.add_hours(therapist, location, WEEK, 0, 24 * 60)
    with transaction(clinic.engine) as session:
        session.add_all(licences)
    clinic.plan()


def licence(kind: str, until: date = date(2099, 1, 1), from_: date = LONG_AGO, state: str = "IL") -> License:
    return Clinic.license(1, kind, state, from_, until)


@on_sqlite
@pytest.mark.parametrize(
    ("rule", "qualified", "needling"),
    [
        (Clinic.rule("IL"), True, True),
        (Clinic.rule("IL"), False, False),
        (Clinic.rule("IL", "silent"), True, True),
        (Clinic.rule("IL", "forbidden"), True, False),
        (Clinic.rule("AZ"), True, False),
        (None, True, False),
        (Clinic.rule("IL", valid_from=date(2027, 6, 1)), True, False),
    ],
    ids=["permitted", "unqualified", "silent", "forbidden", "elsewhere", "no rule", "rule to come"],
)
def test_needling_is_listed_only_where_rule_and_qualification_allow_it(
    search: Search, empty: Clinic, rule: StateRule | None, *, qualified: bool, needling: bool
) -> None:
    copy = Clinic.rule(rule.state, rule.needling, rule.valid_from) if rule else None
    with_therapist(empty, licence("pt"), *([licence("dry_needling")] if qualified else []), rule=copy)
    assert bool(search(3)) == needling
    assert search(1)


@on_sqlite
def test_needling_needs_no_qualification_where_the_rule_names_none(search: Search, empty: Clinic) -> None:
    rule = Clinic.rule("IL")
    rule.qualification = None
    with_therapist(empty, licence("pt"), rule=rule)
    assert search(3)


def test_needling_ends_with_the_last_local_day_of_the_qualification(search: Search, empty: Clinic) -> None:
    with_therapist(empty, licence("pt"), licence("dry_needling", date(2026, 11, 25)), rule=Clinic.rule("IL"))
    assert starts(search(3, from_="2026-11-25"))[-1] == "2026-11-25T23:45:00-06:00"
    assert starts(search(1, from_="2026-11-26"))[0] == "2026-11-26T00:00:00-06:00"


@on_sqlite
def test_needling_begins_with_the_first_local_day_of_the_rule(search: Search, empty: Clinic) -> None:
    with_therapist(empty, licence("pt"), licence("dry_needling"), rule=Clinic.rule("IL", valid_from=date(2026, 11, 26)))
    assert starts(search(3))[0] == "2026-11-26T00:00:00-06:00"


def test_nothing_is_listed_from_the_local_day_on_that_the_licence_has_lapsed(search: Search, empty: Clinic) -> None:
    with_therapist(empty, licence("pt", date(2026, 11, 25)), licence("dry_needling"), rule=Clinic.rule("IL"))
    last = {kind: starts(search(kind, from_="2026-11-25"))[-1] for kind in (1, 2, 3)}
    assert last == {1: "2026-11-25T23:00:00-06:00", 2: "2026-11-25T23:15:00-06:00", 3: "2026-11-25T23:30:00-06:00"}


@on_sqlite
def test_nothing_is_listed_without_a_licence_of_the_state(search: Search, empty: Clinic) -> None:
    with_therapist(empty, licence("pt", state="AZ"), licence("dry_needling", state="IL"), rule=Clinic.rule("IL"))
    assert [search(kind) for kind in (1, 2, 3)] == [[], [], []]


@on_sqlite
def test_a_needling_visit_is_refused_where_it_is_not_listed(client: FlaskClient, empty: Clinic, search: Search) -> None:
    with_therapist(empty, licence("pt"), rule=Clinic.rule("IL"))
    slot = search(1)[0]["id"]
    refused = client.post(f"{API}/appointments", json=body(slot, "3"), headers=key())
    assert refused.status_code == 409
    assert refused.get_json()["type"].endswith("not-licensed")
    assert refused.get_json()["alternatives"] == []


@on_sqlite
def test_times_move_with_the_notice_and_the_horizon(search: Search, clinic: Clinic, clock: FixedClock) -> None:
    clinic.policy(booking_notice_minutes=0, booking_horizon_days=1)
    clinic.plan()
    assert starts(search())[0] == "2026-11-23T09:00:00-06:00"
    assert starts(search())[-1] == "2026-11-24T09:00:00-06:00"
    clock.at += timedelta(minutes=1)
    assert starts(search())[0] == "2026-11-23T09:15:00-06:00"


@on_sqlite
def test_locations_are_told_with_all_that_a_patient_needs(client: FlaskClient, two_places: Clinic) -> None:
    answer = client.get(f"{API}/locations").get_json()
    schemas.LocationList.model_validate(answer)
    assert {tuple(item) for item in answer["items"]} == {tuple(schemas.LocationOut.model_fields)}
    assert [(item["id"], item["time_zone"], item["state"]) for item in answer["items"]] == [
        ("2", "America/Phoenix", "AZ"),
        ("1", "America/Chicago", "IL"),
    ]


@on_sqlite
def test_therapists_are_told_with_languages_and_locations(client: FlaskClient, two_places: Clinic) -> None:
    answer = client.get(f"{API}/therapists").get_json()
    schemas.TherapistList.model_validate(answer)
    assert answer["items"][2] == {
        "id": "3",
        "name": "Cleo Cruz",
        "credentials": "PT, DPT",
        "languages": ["en", "es"],
        "location_ids": ["2"],
    }
    at_one = client.get(f"{API}/therapists?location=1").get_json()
    assert at_one == {"items": [item for item in answer["items"] if item["location_ids"] == ["1"]]}


@on_sqlite
def test_appointment_types_stand_in_their_fixed_order(client: FlaskClient, clinic: Clinic) -> None:
    answer = client.get(f"{API}/appointment-types").get_json()
    schemas.AppointmentTypeList.model_validate(answer)
    assert answer["items"] == [
        {"id": str(n), "name": name, "minutes": minutes, "new_patient": new, "includes_needling": needling}
        for n, (name, minutes, new, needling) in enumerate(KINDS, 1)
    ]


@on_sqlite
def test_the_explainer_is_told_in_each_of_its_languages(client: FlaskClient, clinic: Clinic) -> None:
    for query, language in (("", "en"), ("?language=en", "en"), ("?language=es", "es")):
        answer = client.get(f"{API}/explainer{query}").get_json()
        schemas.ExplainerOut.model_validate(answer)
        assert answer["language"] == language
        assert {tuple(section) for section in answer["sections"]} == {("id", "heading", "html")}


@on_sqlite
def test_a_visit_and_a_refusal_have_their_documented_shapes(
    client: FlaskClient, search: Search, clinic: Clinic
) -> None:
    slot = search()[0]["id"]
    booked = book(client, slot)
    refused = client.post(f"{API}/appointments", json=body(slot), headers=key()).get_json()
    schemas.Problem.model_validate(refused)
    assert [set(item) for item in refused["alternatives"]] == [set(search()[0])] * 3
    for answer in (
        booked,
        client.get(f"{API}/appointments/{booked['token']}").get_json(),
        client.post(f"{API}/appointments/{booked['token']}/cancel", json={}).get_json(),
    ):
        schemas.VisitOut.model_validate(answer)
        assert datetime.fromisoformat(answer["start"]).tzinfo is not None
