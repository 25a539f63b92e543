"""The administrators' pages of the clinic: policy, locations, kinds of visit, state rules, and what needs a look."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import AppointmentType, AuditEvent, ClinicPolicy, License, Location, Role, StateRule
from scheduler.timeline import DAY
from tests.clinic import Clinic
from tests.services.test_queries import statements
from tests.web.pages import after, look
from tests.web.staff import an_account, signed_in


@pytest.fixture
def admin(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))


def stored(engine: Engine, table: Any) -> list[dict[str, object]]:  # noqa: ANN401 a model
    with reading(engine) as session:
        rows = session.scalars(select(table).order_by(*table.__mapper__.primary_key)).all()
        return [{column.name: getattr(row, column.name) for column in table.__table__.columns} for row in rows]


DALLAS = {
    "name": "Dallas",
    "area": "Dallas",
    "address": "5 Elm Street",
    "state": "TX",
    "time_zone": "America/Chicago",
    "phone": "+1 (214) 555-0100",
    "directions": "Second floor",
}


def test_a_location_is_added_and_changed_and_opens_to_patients_by_no_form(admin: FlaskClient, engine: Engine) -> None:
    page = look(admin, "/admin/").follow("Locations").follow("Add a location").press("Save", **DALLAS)
    assert page.heading == "Locations"
    assert "Saved." in page.main.text
    new = stored(engine, Location)[-1]
    assert new == {"id": 2, "active": True, **DALLAS, "online": False}
    edit = page.follow("Dallas")
    sent = edit.form.filled(phone="214 555 0199") | {"online": "y"}
    edited = after(admin, "/admin/locations/2", sent)
    assert "Not open for online booking" in edited.main.text
    assert stored(engine, Location)[-1] == new | {"phone": "214 555 0199"}


def test_a_kind_of_visit_is_added_where_it_shall_stand(admin: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    form = look(admin, "/admin/types").follow("Add a kind of visit")
    page = form.press("Save", name="Short check", minutes="15", buffer_minutes="15", place="1").agrees()
    assert page.heading == "Kinds of visit"
    rows = sorted(stored(engine, AppointmentType), key=lambda row: str(row["position"]))
    assert [row["name"] for row in rows] == ["Short check", "Evaluation", "Follow-up", "Needling"]
    assert rows[0] | {"minutes": 15, "buffer_minutes": 15, "includes_needling": False, "active": True} == rows[0]
    assert clinic.violations() == {}
    hidden = page.follow("Short check").press("Save", active=None).agrees()
    assert "Not offered" in hidden.main.text


def test_a_kind_of_visit_has_terms_of_its_own(admin: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    clinic.add_hours(clinic.add_therapist("Ben Becker"), 1)
    clinic.plan()
    visit = clinic.book(str(clinic.offers(therapist_id=1)[0].slot)).appointment
    own = {"notice_minutes": "120", "horizon_days": "7", "everybody": None, "therapist_ids": "2"}
    asked = look(admin, "/admin/types/1").press("Save", **own, everywhere=None, location_ids="1")
    assert (asked.status, asked.heading) == (200, "This changes 1 booked visit")
    assert "This therapist or location does not offer it any more" in asked.main.text
    back = asked.press("Back to the form")
    assert {name: back.form.fields.get(name) for name in own} == own
    assert asked.press("Save all the same").heading == "Kinds of visit"
    form = look(admin, "/admin/types/1").form
    assert {name: form.fields.get(name) for name in own} == own
    assert {offer.slot.therapist_id for offer in clinic.offers()} == {2}
    assert str(visit.id) in look(admin, "/admin/visits-to-move").html
    wide = {"notice_minutes": "", "horizon_days": "", "everybody": "y", "everywhere": "y"}
    both = look(admin, "/admin/types/1").press("Save", **wide)
    assert set(both.problems.values()) == {"Choose all, or some by name, not both."}
    both.press("Save", therapist_ids=None, location_ids=None).agrees()
    row = stored(engine, AppointmentType)[0]
    assert (row["notice_minutes"], row["horizon_days"]) == (None, None)
    assert {offer.slot.therapist_id for offer in clinic.offers()} == {1, 2}


def test_a_rule_is_added_reviewed_and_taken_back(admin: FlaskClient, engine: Engine, clock: FixedClock) -> None:
    form = look(admin, "/admin/rules").follow("Add a rule")
    begins = (clock.now() + 30 * DAY).date().isoformat()
    page = form.press(
        "Save", state="IL", valid_from=begins, qualification="Dry-needling course", source="A statute",
        training_hours="54", review_on="2027-06-01",
    ).agrees()  # fmt: skip
    assert page.heading == "State rules"
    new = stored(engine, StateRule)[-1]
    assert new | {"qualification": "dry_needling_course", "training_hours": 54, "needling": "permitted"} == new
    (address,) = [link for link in page.links() if re.fullmatch("/admin/rules/[2-9]", link)]
    rule = look(admin, address)
    token = rule.tree.all("input", name="csrf_token")[0].attributes["value"]
    seal = rule.tree.one("input", name="seal").attributes["value"]
    reviewed = {"csrf_token": token, "seal": seal, "source": "The board's page", "review_on": "2028-01-01"}
    assert admin.post(address, data=reviewed).status_code == 303
    assert stored(engine, StateRule)[-1]["source"] == "The board's page"
    assert after(admin, f"{address}/remove", {"csrf_token": token}).agrees().heading == "State rules"
    assert len(stored(engine, StateRule)) == 1
    assert admin.post("/admin/rules/1/remove", data={"csrf_token": token}).status_code == 422
    assert len(stored(engine, StateRule)) == 1


def test_the_policy_is_changed(admin: FlaskClient, engine: Engine) -> None:
    page = look(admin, "/admin/policy")
    assert page.form.fields["target"] == "90"
    page = page.press("Save", access_goal_hours="24", target="75", reminders="email:24h")
    assert page.heading == "This changes when the goal is kept"
    assert "Springfield would miss the goal of 24 hours at times when it now keeps it" in page.main.text
    assert "Nothing is saved yet. No booked visit is affected." in page.main.text
    assert stored(engine, ClinicPolicy)[0]["access_goal_hours"] == 48
    page = page.agrees()
    assert page.form.fields["access_goal_hours"] == "24"
    (policy,) = stored(engine, ClinicPolicy)
    assert policy | {"access_goal_hours": 24, "access_target": 0.75, "reminders": "email:24h"} == policy


def test_a_kind_that_would_newly_miss_the_goal_says_when_in_the_words_of_the_policy(admin: FlaskClient) -> None:
    asked = look(admin, "/admin/types/1").press("Save", notice_minutes="2400")
    assert asked.heading == "This changes what can be booked"
    assert "Springfield would miss the goal of 48 hours at times when it now keeps it" in asked.main.text
    assert "From Thursday, November 26" in asked.main.text


GOOD: dict[str, dict[str, str]] = {
    "/admin/locations/new": DALLAS,
    "/admin/locations/1": {},
    "/admin/types/new": {"name": "Short check", "minutes": "15"},
    "/admin/types/1": {},
    "/admin/rules/new": {"state": "TX", "source": "A statute"},
    "/admin/policy": {},
}
LONG = "x" * 2001
BAD: list[tuple[str, Mapping[str, str | None], str]] = [
    *(
        ("/admin/locations/new", {"name": value}, "name")
        for value in ("", "  ", "x" * 201, "...", "a\tb", "Springfield")
    ),
    ("/admin/locations/new", {"area": ""}, "area"),
    ("/admin/locations/new", {"address": ""}, "address"),
    ("/admin/locations/new", {"state": ""}, "state"),
    ("/admin/locations/new", {"state": "XX"}, "state"),
    ("/admin/locations/new", {"time_zone": ""}, "time_zone"),
    ("/admin/locations/new", {"time_zone": "Mars/Olympus"}, "time_zone"),
    ("/admin/locations/new", {"time_zone": "US/Central"}, "time_zone"),
    ("/admin/locations/new", {"phone": ""}, "phone"),
    ("/admin/locations/new", {"phone": "call us"}, "phone"),
    ("/admin/locations/new", {"phone": "+1 555 0100\n<b>"}, "phone"),
    ("/admin/locations/new", {"directions": LONG}, "directions"),
    ("/admin/locations/new", {"directions": "a\0b"}, "directions"),
    ("/admin/locations/1", {"name": ""}, "name"),
    ("/admin/locations/1", {"time_zone": None}, "time_zone"),
    ("/admin/types/new", {"name": ""}, "name"),
    ("/admin/types/new", {"name": "Evaluation"}, "name"),
    *(("/admin/types/new", {"minutes": value}, "minutes") for value in ("", "0", "20", "495", "-15", "1e2", "١٥", "x")),
    ("/admin/types/new", {"buffer_minutes": "7"}, "buffer_minutes"),
    ("/admin/types/new", {"buffer_minutes": "255"}, "buffer_minutes"),
    ("/admin/types/new", {"place": "0"}, "place"),
    ("/admin/types/1", {"minutes": "61"}, "minutes"),
    *(("/admin/types/1", {"notice_minutes": value}, "notice_minutes") for value in ("-1", "20161", "soon")),
    *(("/admin/types/1", {"horizon_days": value}, "horizon_days") for value in ("0", "91", "731", "x")),
    ("/admin/types/1", {"everybody": None}, "therapist_ids"),
    ("/admin/types/1", {"everybody": None, "therapist_ids": "9"}, "therapist_ids"),
    ("/admin/types/1", {"everywhere": None}, "location_ids"),
    ("/admin/types/new", {"everywhere": None, "location_ids": "x"}, "location_ids"),
    ("/admin/types/1", {"name": "Needling"}, "name"),
    ("/admin/rules/new", {"state": ""}, "state"),
    ("/admin/rules/new", {"state": "IL", "valid_from": "2019-01-01"}, "valid_from"),
    ("/admin/rules/new", {"state": "IL", "valid_from": "2026-11-22"}, "valid_from"),
    *(
        ("/admin/rules/new", {"valid_from": value}, "valid_from")
        for value in ("", "tomorrow", "2026-02-30", "1999-12-31", "2200-01-01", "23.11.2026")
    ),
    ("/admin/rules/new", {"needling": "maybe"}, "needling"),
    ("/admin/rules/new", {"needling": None}, "needling"),
    ("/admin/rules/new", {"qualification": "<b>"}, "qualification"),
    ("/admin/rules/new", {"training_hours": "many"}, "training_hours"),
    ("/admin/rules/new", {"training_hours": "-1"}, "training_hours"),
    ("/admin/rules/new", {"source": ""}, "source"),
    ("/admin/rules/new", {"review_on": ""}, "review_on"),
    ("/admin/policy", {"clinic_name": ""}, "clinic_name"),
    ("/admin/policy", {"access_goal_hours": "0"}, "access_goal_hours"),
    ("/admin/policy", {"access_goal_hours": "721"}, "access_goal_hours"),
    ("/admin/policy", {"target": "0"}, "target"),
    ("/admin/policy", {"target": "101"}, "target"),
    ("/admin/policy", {"booking_notice_minutes": "20161"}, "booking_notice_minutes"),
    ("/admin/policy", {"booking_horizon_days": "731"}, "booking_horizon_days"),
    ("/admin/policy", {"hold_minutes": "0"}, "hold_minutes"),
    *(("/admin/policy", {"cancel_notice_hours": hours}, "cancel_notice_hours") for hours in ("", "-1", "337", "x")),
    ("/admin/policy", {"reminders": "daily"}, "reminders"),
    ("/admin/policy", {"reminders": "email:48h\n"[:-1] + ",x"}, "reminders"),
]
CHOSEN = {"state", "time_zone", "needling", "therapist_ids", "location_ids"}  # a list does not show what is not in it
TABLES = (Location, AppointmentType, StateRule, ClinicPolicy, AuditEvent)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("address", sorted(GOOD))
def test_what_cannot_be_used_is_named_and_nothing_is_stored_or_lost(
    admin: FlaskClient, engine: Engine, address: str
) -> None:
    before = [stored(engine, table) for table in TABLES]
    for changes, field in [(changes, field) for path, changes, field in BAD if path == address]:
        sent: dict[str, str | None] = {**GOOD[address], **changes}
        page = look(admin, address).press("Save", **sent)
        assert page.status == 422, changes
        assert list(page.problems) == [field], changes
        assert page.main.one("a", href=f"#{field}").text == page.problems[field]
        typed = {name: value for name, value in sent.items() if name not in CHOSEN and "\0" not in str(value)}
        assert {name: page.form.fields.get(name) for name in typed} == typed
    assert [stored(engine, table) for table in TABLES] == before


def test_several_mistakes_are_told_at_once(admin: FlaskClient) -> None:
    page = look(admin, "/admin/locations/new").press("Save", name="", phone="", state="")
    assert set(page.problems) == {"name", "phone", "state", "area", "address"}


def test_a_change_that_hits_visits_lists_them_first(
    admin: FlaskClient, engine: Engine, clinic: Clinic, clock: FixedClock
) -> None:
    visit = clinic.book(str(clinic.offers(from_=(clock.now() + DAY).date())[0].slot)).appointment
    asked = look(admin, "/admin/locations/1").press("Save", time_zone="America/Denver", area="Sangamon")
    assert (asked.status, asked.heading) == (200, "This changes 1 booked visit")
    (row,) = asked.main.one("ul", class_="hits").all("li")
    assert f"/staff/visits/{visit.id}" in [link.attributes["href"] for link in row.all("a")]
    for words in (
        "Pat Doe",
        "Ana Abbott",
        "Springfield",
        "Tuesday, November 24, 7:00 AM Mountain",
        "Outside the hours",
    ):
        assert words in row.text
    assert stored(engine, Location)[0]["time_zone"] == "America/Chicago"
    back = asked.press("Back to the form")
    assert (back.form.fields["time_zone"], back.form.fields["area"]) == ("America/Denver", "Sangamon")
    done = asked.press("Save all the same")
    assert done.heading == "Visits to move"
    assert "Pat Doe" in done.main.text
    assert stored(engine, Location)[0]["time_zone"] == "America/Denver"
    assert clinic.violations() == {}


def test_whoever_is_shown_patients_is_noted(admin: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot)).appointment
    look(admin, "/admin/locations/1").press("Save", active=None)
    reads = [row for row in stored(engine, AuditEvent) if row["action"] == "patient.read"]
    assert [(row["entity_id"], row["actor"], row["detail"]) for row in reads] == [
        (visit.patient_id.hex, "account:1", {"fields": "name, visit"})
    ]


def test_two_administrators_cannot_overwrite_each_other(admin: FlaskClient, engine: Engine) -> None:
    first, second = (look(admin, "/admin/locations/1") for _ in range(2))
    assert first.press("Save", area="Sangamon", phone="217 555 0111").status == 200
    refused = second.press("Save", area="Logan")
    assert refused.status == 409
    rows = [
        [cell.text for cell in row.walk() if cell.tag in {"th", "td"}] for row in refused.main.one("tbody").all("tr")
    ]
    assert rows == [["Area", "Sangamon", "Logan"], ["Phone", "217 555 0111", "+1 555 0100"]]
    assert stored(engine, Location)[0]["area"] == "Sangamon"
    assert refused.form.fields["area"] == "Logan"
    assert refused.press("Save").status == 200
    assert stored(engine, Location)[0]["area"] == "Logan"


@pytest.mark.parametrize(
    ("address", "change"),
    [
        ("/admin/types/1", {"name": "First visit"}),
        ("/admin/policy", {"target": "80"}),
        ("/admin/rules/1", {"source": "x1"}),
    ],
)
def test_every_form_is_refused_after_somebody_else_s(admin: FlaskClient, address: str, change: dict[str, str]) -> None:
    first, second = (look(admin, address) for _ in range(2))
    assert first.press("Save", **change).status == 200
    again = second.press("Save")
    assert again.status == 409
    assert "Somebody else changed this meanwhile" in again.main.text


def test_a_clock_that_makes_somebody_work_twice_at_once_is_refused_naming_both(
    admin: FlaskClient, clinic: Clinic
) -> None:
    denver = clinic.add_location("Denver", "America/Denver")
    clinic.add_hours(1, denver, weekdays=[0], opens=16 * 60, closes=18 * 60)
    page = look(admin, f"/admin/locations/{denver}").press("Save", time_zone="America/Chicago")
    assert page.status == 422
    for words in ("Ana Abbott", "Denver", "Springfield", "Monday, 4:00 PM to 6:00 PM", "Monday, 8:00 AM to 5:00 PM"):
        assert words in page.problems["time_zone"]


def test_the_overview_tells_what_needs_attention(admin: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    with transaction(engine) as session:
        session.get_one(Location, 1).online = False
        session.get_one(StateRule, 1).review_on = (clinic.clock.now() + timedelta(days=3)).date()
    page = look(admin, "/admin/")
    for words in ("Springfield Not open for online booking", "Rule of IL", "by November 26, 2026", "2 licenses"):
        assert words in page.main.text
    assert page.follow("Rule of IL").heading == "Rule of IL"


def test_hours_without_a_licence_and_visits_that_do_not_fit_need_attention(
    admin: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    """Those of the next week are counted; the list has them all."""
    later = (clinic.clock.now() + timedelta(days=8)).date()
    for offers in (clinic.offers(), clinic.offers(from_=later)):
        clinic.book(str(offers[0].slot))
    with transaction(engine) as session:
        session.execute(delete(License).where(License.kind == "pt"))
    page = look(admin, "/admin/")
    assert "Ana Abbott No license for IL: nothing can be booked in the hours there" in page.main.text
    assert "1 booked visit of the next 7 days does not fit" in page.main.text
    to_move = look(admin, "/admin/visits-to-move").main.text
    assert "Cancel each and book it anew." in to_move
    assert to_move.count("with Ana Abbott") == 2


@pytest.mark.parametrize(
    "path", ["/admin/", "/admin/locations", "/admin/types", "/admin/rules", "/admin/visits-to-move"]
)
def test_pages_take_as_many_queries_at_any_size(admin: FlaskClient, engine: Engine, clinic: Clinic, path: str) -> None:
    counts: list[int] = []
    more: Callable[[int], object] = lambda n: clinic.add_hours(  # noqa: E731 said where it is used
        clinic.add_therapist(f"Therapist {n}"), clinic.add_location(f"Place {n}", state="CO")
    )
    for size in range(2):
        admin.get(path)
        with statements(engine) as sent:
            admin.get(path)
        counts.append(len(sent))
        more(size)
        more(size + 10)
    assert counts[0] == counts[1]


def test_an_administrator_of_one_place_sees_and_changes_that_one_only(
    app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic
) -> None:
    clinic.add_location("Denver", "America/Denver", "CO")
    account = an_account(engine, clock, Role.ADMIN, locations=[1])
    client = signed_in(app, engine, clock, account)
    page = look(client, "/admin/locations")
    assert "Denver" not in page.main.text
    assert page.follow("Springfield").press("Save", area="Sangamon").status == 200
    for path in ("/admin/locations/2", "/admin/locations/new", "/admin/types", "/admin/rules", "/admin/policy"):
        assert client.get(path).status_code == 404, path
    overview = look(client, "/admin/")
    assert not {"/admin/types", "/admin/rules", "/admin/policy"} & set(overview.links())


@pytest.mark.parametrize(
    ("path", "marked"),
    [
        ("/admin/", [("Overview", "page")]),
        ("/admin/locations", [("Locations", "page")]),
        ("/admin/locations/1", [("Locations", "true")]),
        ("/admin/moving-in/hours", [("Moving in", "true")]),
    ],
)
def test_the_section_that_one_is_in_is_marked(admin: FlaskClient, path: str, marked: list[tuple[str, str]]) -> None:
    links = look(admin, path).main.one("nav", class_="sections").all("a")
    found = [(link.text, link.attributes.get("aria-current")) for link in links]
    assert [pair for pair in found if pair[1] is not None] == marked


@pytest.mark.parametrize("path", ["/admin/locations/{}", "/admin/types/{}", "/admin/rules/{}"])
def test_what_is_not_there_is_not_found(admin: FlaskClient, path: str) -> None:
    for number in ("0", "9", "2147483648", "9" * 23):
        assert admin.get(path.format(number)).status_code == 404
    assert admin.get(path.format("-1")).status_code == 404


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_new_location_starts_with_the_clinics_clock_and_a_state_is_told_once(
    admin: FlaskClient, engine: Engine
) -> None:
    assert look(admin, "/admin/locations/new").form.fields["time_zone"] == "America/Chicago"
    assert "1 Main Street, IL, America/Chicago" in look(admin, "/admin/locations").main.text
    with transaction(engine) as session:
        session.get_one(Location, 1).address = "1 Main Street, Springfield, IL 62701"
    assert "Springfield, IL 62701, America/Chicago" in look(admin, "/admin/locations").main.text
