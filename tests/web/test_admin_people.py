"""The administrators' pages of people: therapists, licences, hours, accounts."""

import re
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import transaction
from scheduler.models import (
    Account,
    AuditEvent,
    Kind,
    License,
    OutboxMessage,
    Role,
    StaffSession,
    StateRule,
    Therapist,
    WorkingHours,
)
from tests.clinic import Clinic
from tests.services.test_hours import days_offered
from tests.services.test_queries import statements
from tests.web.pages import Page, after, look
from tests.web.staff import PASSWORD, an_account, csrf_token, signed_in
from tests.web.test_admin_clinic import stored

MONDAY = "2026-11-23"


@pytest.fixture
def admin(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))


@pytest.fixture
def of_springfield(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    """An administrator of one place, beside whom there is another place with its own people."""
    denver = clinic.add_location("Denver", "America/Denver", "IL")
    for name, place in (("Ben Becker", denver), ("Carla Dunn", denver)):
        clinic.add_hours(clinic.add_therapist(name), place, weekdays=[5])
    clinic.add_hours(3, 1, weekdays=[0])
    an_account(engine, clock, Role.FRONT_DESK, email="denver@clinic.example", locations=[denver])
    an_account(engine, clock, Role.FRONT_DESK, email="both@clinic.example", locations=[1, denver])
    an_account(engine, clock, Role.FRONT_DESK, email="everywhere@clinic.example")
    account = an_account(engine, clock, Role.ADMIN, locations=[1])
    return signed_in(app, engine, clock, account)


def send(client: FlaskClient, path: str, **data: Any) -> Page:  # noqa: ANN401 fields of a form
    """Send a form with several values of one name, which a page's form here cannot hold."""
    return after(client, path, {"csrf_token": csrf_token(client), **data})


def hours_of(weekdays: list[str], **changes: str) -> dict[str, Any]:
    return {
        "opens": "09:00",
        "closes": "12:00",
        "valid_from": MONDAY,
        "valid_until": "",
        "location_id": "1",
        "weekdays": weekdays,
        **changes,
    }


def test_a_therapist_is_added_with_licence_and_hours_and_can_be_booked(
    admin: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    page = look(admin, "/admin/therapists").follow("Add a therapist")
    page = page.press("Save", name="Zoe Young", credentials="PT, OCS")
    assert page.heading == "Zoe Young, PT, OCS"
    licence = page.follow("Add a license")
    assert licence.form.fields["kind_of_license"] == "pt"
    page = licence.press("Save", state="IL", number="070.1", valid_until="2028-12-31")
    assert "Physical therapy, IL, 070.1" in page.main.text
    page = send(admin, "/admin/therapists/2/hours/new", **hours_of(["5", "6"])).agrees()
    assert (page.status, page.heading) == (200, "Zoe Young, PT, OCS")
    for words in ("Saturday, 9:00 AM to 12:00 PM Springfield from November 23, 2026", "Sunday, 9:00 AM"):
        assert words in page.main.text
    assert {weekday for _, weekday in days_offered(clinic, therapist_id=2)} == {5, 6}
    assert clinic.violations() == {}


def test_a_licence_is_verified_by_whoever_looked(admin: FlaskClient, engine: Engine, clock: FixedClock) -> None:
    page = look(admin, "/admin/therapists/1")
    form = next(one for one in page.main.all("form") if one.attributes["action"] == "/admin/licenses/1/verify")
    seal = form.one("input", name="seal").attributes["value"]
    verified = send(admin, "/admin/licenses/1/verify", seal=seal)
    assert "Verified by Some admin on November 23, 2026" in verified.main.text
    row = stored(engine, License)[0]
    assert (row["verified_by"], row["verified_at"]) == ("Some admin", clock.now())
    look(admin, "/admin/licenses/1").press("Save", number="changed")
    assert stored(engine, License)[0]["verified_by"] is None
    refused = send(admin, "/admin/licenses/1/verify", seal=seal)
    assert refused.status == 409
    assert stored(engine, License)[0]["verified_by"] is None


def test_days_are_those_of_the_clinic_s_own_calendar(
    app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic
) -> None:
    """In the evening in Chicago it is tomorrow in UTC already: a licence holds to the end of its last day."""
    clock.at = datetime(2026, 12, 1, 1, tzinfo=UTC)
    account = an_account(engine, clock, Role.ADMIN)
    admin = signed_in(app, engine, clock, account)
    with transaction(engine) as session:
        first, second = session.scalars(select(License).order_by(License.id))
        first.valid_until = second.valid_until = date(2026, 11, 30)
        session.scalars(select(StateRule)).one().review_on = date(2026, 12, 1)
        first.verified_at, first.verified_by = clock.now(), "Fay Front"
    page = look(admin, "/admin/therapists/1").main.text
    assert "Verified by Fay Front on November 30, 2026" in page
    assert "Ended" not in page
    overview = look(admin, "/admin/").main.text
    assert "ends on November 30, 2026" in overview
    assert "1 license that nobody has verified" in overview
    assert "(due)" not in look(admin, "/admin/rules").main.text
    for path in ("/admin/therapists/1/licenses/new", "/admin/rules/new"):
        assert look(admin, path).form.fields["valid_from"] == "2026-11-30", path
    clock.at = datetime(2026, 12, 1, 7, tzinfo=UTC)
    admin = signed_in(app, engine, clock, account)
    assert "Ended" in look(admin, "/admin/therapists/1").main.text
    assert "ended on November 30, 2026" in look(admin, "/admin/").main.text
    assert "(due)" in look(admin, "/admin/rules").main.text


def test_a_licence_is_shortened_only_after_its_visits_were_shown(
    admin: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    clinic.book(str(clinic.offers()[0].slot))
    asked = look(admin, "/admin/licenses/1").press("Save", valid_until="2026-11-22")
    assert (asked.status, asked.heading) == (200, "This changes 1 booked visit")
    for words in ("Pat Doe", "Not licensed for it there on that day"):
        assert words in asked.main.text
    assert str(stored(engine, License)[0]["valid_until"]) == "2099-12-31"
    done = asked.press("Save all the same")
    assert done.heading == "Visits to move"
    assert str(stored(engine, License)[0]["valid_until"]) == "2026-11-22"


def test_a_therapist_who_leaves_keeps_their_visits(admin: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    clinic.book(str(clinic.offers()[0].slot))
    page = look(admin, "/admin/therapists/1/edit")
    assert page.form.fields["languages"] == "en"
    asked = page.press("Save", active=None)
    assert "The therapist does not work here any more" in asked.main.text
    assert asked.press("Save all the same").heading == "Visits to move"
    assert stored(engine, Therapist)[0]["active"] is False
    assert clinic.offers() == []
    assert "Does not work here any more" in look(admin, "/admin/therapists").main.text


def test_hours_are_changed_from_a_day_on_and_ended(admin: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    page = look(admin, "/admin/hours/1")
    assert page.form.fields | {"opens": "08:00", "closes": "17:00", "valid_from": MONDAY, "valid_until": ""} == (
        page.form.fields
    )
    page.press("Save", opens="10:00", valid_from="2026-12-07").agrees()
    old, new = (row for row in stored(engine, WorkingHours) if row["weekday"] == 0)
    assert (str(old["valid_until"]), str(new["valid_from"]), new["opens_minute"]) == ("2026-12-06", "2026-12-07", 600)
    look(admin, "/admin/hours/2").press("Save", valid_until="2026-12-31").agrees()
    assert str(stored(engine, WorkingHours)[1]["valid_until"]) == "2026-12-31"
    assert send(admin, f"/admin/hours/{new['id']}/remove").agrees().status == 200
    assert len(stored(engine, WorkingHours)) == 5
    assert send(admin, "/admin/hours/2/remove").status == 422
    assert len(stored(engine, WorkingHours)) == 5
    assert clinic.violations() == {}


def test_hours_without_a_licence_are_stored_and_warned_of(admin: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    denver = clinic.add_location("Denver", "America/Denver", "CO")
    page = send(admin, "/admin/therapists/1/hours/new", **hours_of(["5"], location_id=str(denver)))
    assert "No license for CO: nothing can be booked in the hours there until there is one" in page.tree.text
    assert len(stored(engine, WorkingHours)) == 6
    assert "No license" not in look(admin, "/admin/hours/1").press("Save").tree.text


def test_hours_that_run_past_midnight_are_asked_for(admin: FlaskClient, engine: Engine) -> None:
    night = hours_of(["5"], opens="22:00", closes="02:00")
    refused = send(admin, "/admin/therapists/1/hours/new", **night)
    assert (refused.status, list(refused.problems)) == (422, ["closes"])
    done = send(admin, "/admin/therapists/1/hours/new", **night, past_midnight="y").agrees()
    assert "Saturday, 10:00 PM to 2:00 AM on the next day" in done.main.text
    assert stored(engine, WorkingHours)[-1]["closes_minute"] == 26 * 60
    last = stored(engine, WorkingHours)[-1]["id"]
    assert "checked" in look(admin, f"/admin/hours/{last}").tree.one("input", name="past_midnight").attributes
    evening = hours_of(["6"], opens="20:00", closes="00:00")
    to_midnight = send(admin, "/admin/therapists/1/hours/new", **evening).agrees()
    assert "Sunday, 8:00 PM to 12:00 AM" in to_midnight.main.text
    assert stored(engine, WorkingHours)[-1]["closes_minute"] == 24 * 60


def test_hours_at_two_places_at_once_are_refused_naming_both(
    admin: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    denver = clinic.add_location("Denver", "America/Denver")
    clash = hours_of(["0"], opens="15:45", closes="18:00", location_id=str(denver))
    page = send(admin, "/admin/therapists/1/hours/new", **clash)
    assert page.status == 422
    for words in (
        "Ana Abbott", "Monday, 3:45 PM to 6:00 PM at Denver", "Monday, 8:00 AM to 5:00 PM at Springfield",
        "Monday, November 23, 2026",
    ):  # fmt: skip
        assert words in page.problems["opens"]
    assert (page.form.fields["opens"], page.form.fields["closes"]) == ("15:45", "18:00")
    assert len(stored(engine, WorkingHours)) == 5


def test_hours_somebody_else_changed_are_shown_beside_ones_own(admin: FlaskClient, engine: Engine) -> None:
    first, second = (look(admin, "/admin/hours/1") for _ in range(2))
    first.press("Save", valid_until="2027-01-31").agrees()
    refused = second.press("Save", valid_until="2027-06-30")
    assert refused.status == 409
    assert "Last day (optional) January 31, 2027 June 30, 2027" in refused.main.text.replace("  ", " ")
    assert refused.press("Save").agrees().heading == "Ana Abbott, PT, DPT"
    assert str(stored(engine, WorkingHours)[0]["valid_until"]) == "2027-06-30"


BAD: dict[str, list[tuple[dict[str, Any], str]]] = {
    "/admin/therapists/new": [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"credentials": ""}, "credentials"),
        ({"languages": []}, "languages"),
        ({"languages": ["xx"]}, "languages"),
        ({"languages": ["en", "<b>"]}, "languages"),
    ],
    "/admin/therapists/1/licenses/new": [
        ({"kind_of_license": "magic"}, "kind_of_license"),
        ({"state": ""}, "state"),
        ({"state": "ZZ"}, "state"),
        ({"number": ""}, "number"),
        ({"valid_from": "yesterday"}, "valid_from"),
        ({"valid_from": "0001-01-01"}, "valid_from"),
        ({"valid_until": ""}, "valid_until"),
        ({"valid_until": "2020-01-01"}, "valid_until"),
        ({"evidence": "x" * 501}, "evidence"),
    ],
    "/admin/therapists/1/hours/new": [
        ({"location_id": "99"}, "location_id"),
        ({"location_id": "1; DROP"}, "location_id"),
        ({"weekdays": []}, "weekdays"),
        ({"weekdays": ["7"]}, "weekdays"),
        ({"weekdays": ["x"]}, "weekdays"),
        ({"opens": ""}, "opens"),
        ({"opens": "9"}, "opens"),
        ({"opens": "25:00"}, "opens"),
        ({"opens": "09:07"}, "opens"),
        ({"closes": "09:00"}, "closes"),
        ({"closes": "08:00"}, "closes"),
        ({"closes": "12:00", "past_midnight": "y"}, "closes"),
        ({"valid_from": ""}, "valid_from"),
        ({"valid_from": "2026-13-01"}, "valid_from"),
        ({"valid_until": "2026-11-22"}, "valid_until"),
        ({"valid_until": "soon"}, "valid_until"),
    ],
    "/admin/hours/1": [
        ({"opens": "10:00", "valid_from": "2026-11-22"}, "valid_from"),
        ({"opens": "10:00", "valid_until": "2026-11-22"}, "valid_until"),
        ({"valid_until": "2026-11-01"}, "valid_until"),
    ],
    "/admin/accounts/new": [
        ({"name": ""}, "name"),
        ({"email": ""}, "email"),
        ({"email": "nobody"}, "email"),
        ({"email": "admin@clinic.example"}, "email"),
        ({"email": "ADMIN@clinic.example"}, "email"),
        ({"role": "owner"}, "role"),
        ({"role": []}, "role"),
        ({"language": "xx"}, "language"),
        ({"everywhere": []}, "location_ids"),
        ({"everywhere": [], "location_ids": ["99"]}, "location_ids"),
        ({"therapist_id": "99"}, "therapist_id"),
        ({"role": "therapist"}, "therapist_id"),
    ],
}
GOOD: dict[str, dict[str, Any]] = {
    "/admin/therapists/new": {"name": "Zoe Young", "credentials": "PT", "languages": ["en"]},
    "/admin/therapists/1/licenses/new": {
        "kind_of_license": "pt",
        "state": "IL",
        "number": "1",
        "valid_from": MONDAY,
        "valid_until": "2028-12-31",
    },
    "/admin/therapists/1/hours/new": hours_of(["5"]),
    "/admin/hours/1": {"opens": "08:00", "closes": "17:00", "valid_from": MONDAY, "valid_until": ""},
    "/admin/accounts/new": {
        "name": "New Person",
        "email": "new@clinic.example",
        "role": "front-desk",
        "language": "en",
        "everywhere": "y",
        "therapist_id": "0",
    },
}
TABLES = (Therapist, License, WorkingHours, Account, AuditEvent, OutboxMessage)
CHOSEN = {"state", "kind_of_license", "location_id", "weekdays", "languages", "role", "location_ids", "therapist_id"}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("address", sorted(BAD))
def test_what_cannot_be_used_is_named_and_nothing_is_stored_or_lost(
    admin: FlaskClient, engine: Engine, address: str
) -> None:
    before = [stored(engine, table) for table in TABLES]
    seals = look(admin, address).tree.all("input", name="seal")
    seal = seals[0].attributes["value"]
    for changes, field in BAD[address]:
        sent = {**GOOD[address], **changes}
        page = send(admin, address, seal=seal, **sent)
        assert (page.status, list(page.problems)) == (422, [field]), changes
        assert page.main.one("a", href=f"#{field}").text == page.problems[field]
        typed = {name: value for name, value in sent.items() if name not in CHOSEN | {"language"} and value != []}
        assert {name: page.form.fields.get(name) for name in typed} == typed, changes
    assert [stored(engine, table) for table in TABLES] == before


def test_whoever_is_let_in_gets_a_link_by_mail_that_is_shown_once(
    admin: FlaskClient, app: Flask, engine: Engine, clock: FixedClock
) -> None:
    page = look(admin, "/admin/accounts").follow("Add an account")
    sent = page.press("Save", name="Nora New", email="Nora@clinic.example", role="front-desk")
    assert (sent.status, sent.heading) == (200, "Link for Nora New")
    link = sent.main.one("code").text
    new = stored(engine, Account)[-1]
    assert (
        new | {"email": "nora@clinic.example", "role": "front-desk", "everywhere": True, "password_hash": None} == new
    )
    owed = stored(engine, OutboxMessage)
    assert [(row["kind"], row["account_id"]) for row in owed] == [(Kind.SET_PASSWORD, new["id"])]
    accounts = look(admin, "/admin/accounts")
    assert "Has not set a password yet" in accounts.main.text
    assert link not in accounts.html + look(admin, f"/admin/accounts/{new['id']}").html
    assert not [row for row in stored(engine, AuditEvent) if urlsplit(link).path.split("/")[-1] in str(row["detail"])]
    nora = app.test_client()
    own = look(nora, urlsplit(link).path)
    own.press("Set password", password=PASSWORD + " x", again=PASSWORD + " x")
    assert stored(engine, Account)[-1]["password_hash"] is not None
    assert nora.get(urlsplit(link).path).status_code == 404


def test_an_address_is_corrected_on_the_account_s_page(
    admin: FlaskClient, app: Flask, engine: Engine, clock: FixedClock
) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK, email="tpyo@clinic.example")
    theirs = signed_in(app, engine, clock, desk)
    path = f"/admin/accounts/{desk.id}"
    seal = look(admin, path).tree.all("input", name="seal")[0].attributes["value"]
    data = {"name": desk.name, "language": "en", "role": "front-desk", "everywhere": "y", "therapist_id": "0"}
    taken = send(admin, path, seal=seal, email="Admin@clinic.example", **data)
    assert taken.problems == {"email": "Somebody has an account with this address already."}
    assert send(admin, path, seal=seal, email="Typo@clinic.example", **data).status == 200
    assert stored(engine, Account)[-1]["email"] == "typo@clinic.example"
    assert theirs.get("/staff/account/").status_code == 303
    assert [(row["kind"], row["about"]) for row in stored(engine, OutboxMessage)] == [
        (Kind.ADDRESS_CHANGED, "tpyo@clinic.example")
    ]


def test_a_lost_second_factor_is_reset_by_another(
    admin: FlaskClient, app: Flask, engine: Engine, clock: FixedClock
) -> None:
    other = an_account(engine, clock, Role.ADMIN, email="other@clinic.example", second_factor=True)
    theirs = signed_in(app, engine, clock, other)
    with transaction(engine) as session:
        session.get_one(Account, other.id).totp_sealed = b"sealed"
    assert "Make sure that it is really them who asks." in look(admin, f"/admin/accounts/{other.id}").main.text
    assert send(admin, f"/admin/accounts/{other.id}/reset-second-factor").heading == other.name
    assert stored(engine, Account)[-1]["totp_sealed"] is None
    assert theirs.get("/staff/account/").status_code == 303


def test_one_s_own_second_factor_is_changed_on_one_s_own_page_only(admin: FlaskClient, engine: Engine) -> None:
    before = stored(engine, Account)
    assert "Reset the second factor" not in look(admin, "/admin/accounts/1").main.text
    assert send(admin, "/admin/accounts/1/reset-second-factor").status == 404
    assert stored(engine, Account) == before
    assert len(stored(engine, StaffSession)) == 1


def test_a_new_link_ends_the_one_before(admin: FlaskClient, app: Flask, engine: Engine, clock: FixedClock) -> None:
    an_account(engine, clock, Role.FRONT_DESK)
    links = [urlsplit(send(admin, "/admin/accounts/2/link").main.one("code").text).path for _ in range(2)]
    assert [app.test_client().get(link).status_code for link in links] == [404, 200]


def test_whoever_is_disabled_is_out_at_once_and_can_be_let_in_again(
    admin: FlaskClient, app: Flask, engine: Engine, clock: FixedClock
) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK)
    theirs = signed_in(app, engine, clock, desk)
    assert theirs.get("/staff/account/").status_code == 200
    assert "Disabled" in send(admin, f"/admin/accounts/{desk.id}/disable").main.text
    assert theirs.get("/staff/account/").status_code == 303
    assert len(stored(engine, StaffSession)) == 1
    assert send(admin, f"/admin/accounts/{desk.id}/link").heading == desk.name  # no link for whoever is out
    assert "Disabled" not in send(admin, f"/admin/accounts/{desk.id}/enable").main.text
    assert stored(engine, Account)[1]["active"] is True


@pytest.mark.parametrize("how", ["disable", "demote", "confine"])
def test_the_last_administrator_can_neither_be_disabled_nor_demoted(
    admin: FlaskClient, engine: Engine, how: str
) -> None:
    before = stored(engine, Account)
    page = look(admin, "/admin/accounts/1")
    seal = page.tree.all("input", name="seal")[0].attributes["value"]
    data = {
        "email": "admin@clinic.example",
        "name": "Some admin",
        "language": "en",
        "role": "admin",
        "everywhere": "y",
        "therapist_id": "0",
    }
    match how:
        case "disable":
            refused = send(admin, "/admin/accounts/1/disable")
        case "demote":
            refused = send(admin, "/admin/accounts/1", seal=seal, **data | {"role": "front-desk"})
        case _:
            refused = send(admin, "/admin/accounts/1", seal=seal, **{**data, "everywhere": [], "location_ids": ["1"]})
    assert refused.status == 409
    assert "Somebody must stay who administers the whole clinic." in refused.main.text
    assert stored(engine, Account) == before


def test_role_and_places_of_an_account_change(admin: FlaskClient, engine: Engine, clock: FixedClock) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK)
    page = look(admin, f"/admin/accounts/{desk.id}")
    seal = page.tree.all("input", name="seal")[0].attributes["value"]
    data = {
        "email": desk.email,
        "name": "Dora Desk",
        "language": "es",
        "role": "admin",
        "location_ids": ["1"],
        "therapist_id": "1",
    }
    assert send(admin, f"/admin/accounts/{desk.id}", seal=seal, **data).status == 200
    row = stored(engine, Account)[1]
    assert row | {"name": "Dora Desk", "role": "admin", "everywhere": False, "therapist_id": 1} == row
    assert row["needs_second_factor"] is True
    again = send(admin, f"/admin/accounts/{desk.id}", seal=seal, **data)
    assert again.status == 409
    assert "desk@" not in str([event["detail"] for event in stored(engine, AuditEvent)])


def test_who_has_to_show_more_from_now_on_signs_in_anew(
    app: Flask, admin: FlaskClient, engine: Engine, clock: FixedClock
) -> None:
    """A session that a password alone opened must not open what asks for more."""
    desk = an_account(engine, clock, Role.FRONT_DESK)
    at_work = signed_in(app, engine, clock, desk)
    seal = look(admin, f"/admin/accounts/{desk.id}").tree.all("input", name="seal")[0].attributes["value"]
    data = {"email": desk.email, "name": desk.name, "language": "en", "role": "admin", "everywhere": "y"}
    assert send(admin, f"/admin/accounts/{desk.id}", seal=seal, **data, therapist_id="0").status == 200
    assert at_work.get("/admin/policy").status_code == 303
    assert at_work.get("/staff/account/").status_code == 303


def test_no_account_leads_an_administrator_of_one_place_to_another(
    of_springfield: FlaskClient, engine: Engine, clock: FixedClock
) -> None:
    """Carla works at both: she is not one's own to choose, nor is her account, even if named for one place only."""
    carla = an_account(engine, clock, Role.THERAPIST, locations=[1], therapist_id=3)
    assert "Carla Dunn" not in look(of_springfield, "/admin/accounts/new").main.text
    new = {**GOOD["/admin/accounts/new"], "role": "admin", "therapist_id": "3"}
    refused = send(of_springfield, "/admin/accounts/new", **new, location_ids=["1"])
    assert list(refused.problems) == ["therapist_id"]
    assert of_springfield.get(f"/admin/accounts/{carla.id}").status_code == 404
    for deed in DEEDS:
        assert send(of_springfield, f"/admin/accounts/{carla.id}/{deed}").status == 404
    assert carla.email not in look(of_springfield, "/admin/accounts").main.text
    ana = an_account(engine, clock, Role.THERAPIST, email="ana@clinic.example", locations=[1], therapist_id=1)
    assert of_springfield.get(f"/admin/accounts/{ana.id}").status_code == 200


OWN = ["/admin/therapists/1", "/admin/therapists/1/edit", "/admin/licenses/1", "/admin/hours/1", "/admin/therapists/3"]
FOREIGN = [
    "/admin/therapists/2", "/admin/therapists/2/edit", "/admin/therapists/3/edit", "/admin/therapists/2/hours/new",
    "/admin/therapists/2/licenses/new", "/admin/therapists/3/licenses/new", "/admin/licenses/3", "/admin/licenses/5",
    "/admin/hours/6", "/admin/accounts/1", "/admin/accounts/2", "/admin/accounts/3",
]  # fmt: skip


def test_an_administrator_of_one_place_sees_its_people_only(of_springfield: FlaskClient) -> None:
    page = look(of_springfield, "/admin/therapists")
    assert ("Ana Abbott" in page.main.text, "Carla Dunn" in page.main.text) == (True, True)  # she works there too
    assert "Ben Becker" not in page.main.text
    for path in OWN:
        assert of_springfield.get(path).status_code == 200, path
    for path in FOREIGN:
        assert of_springfield.get(path).status_code == 404, path
    listed = look(of_springfield, "/admin/accounts").main.text
    assert re.findall(r"[a-z-]+@clinic.example", listed) == ["admin@clinic.example"]


DEEDS = ("disable", "enable", "link", "reset-second-factor")


def test_what_is_another_s_stays_unchanged(of_springfield: FlaskClient, engine: Engine) -> None:
    before = [stored(engine, table) for table in TABLES]
    deeds = ["/admin/licenses/3/verify", "/admin/hours/6/remove"]
    deeds += [f"/admin/accounts/{n}/{deed}" for n in (1, 2, 3) for deed in DEEDS]
    data = {**GOOD["/admin/accounts/new"], **GOOD["/admin/hours/1"], **GOOD["/admin/therapists/1/licenses/new"]}
    for path in [*(path for path in FOREIGN if path != "/admin/therapists/2"), *deeds]:
        assert send(of_springfield, path, **data).status == 404, path
    assert [stored(engine, table) for table in TABLES] == before


def test_an_administrator_of_one_place_gives_no_more_than_they_have(
    of_springfield: FlaskClient, engine: Engine
) -> None:
    new = {**GOOD["/admin/accounts/new"], "role": "admin"}
    before = stored(engine, Account)
    assert list(send(of_springfield, "/admin/accounts/new", **new).problems) == ["location_ids"]
    foreign = send(of_springfield, "/admin/accounts/new", **new, location_ids=["1", "2"])
    assert list(foreign.problems) == ["location_ids"]
    assert list(
        send(of_springfield, "/admin/accounts/new", **{**new, "therapist_id": "2"}, location_ids=["1"]).problems
    ) == ["therapist_id"]
    hours = send(of_springfield, "/admin/therapists/1/hours/new", **hours_of(["6"], location_id="2"))
    assert list(hours.problems) == ["location_id"]
    assert stored(engine, Account) == before
    assert send(of_springfield, "/admin/accounts/new", **new, location_ids=["1"]).status == 200
    assert stored(engine, Account)[-1]["everywhere"] is False


@pytest.mark.parametrize("path", ["/admin/therapists", "/admin/therapists/1", "/admin/accounts", "/admin/accounts/1"])
def test_pages_take_as_many_queries_at_any_size(
    admin: FlaskClient, engine: Engine, clock: FixedClock, clinic: Clinic, path: str
) -> None:
    counts = []
    for size in range(2):
        admin.get(path)
        with statements(engine) as sent:
            admin.get(path)
        counts.append(len(sent))
        for number in range(2):
            therapist = clinic.add_therapist(f"Therapist {size} {number}")
            clinic.add_hours(therapist, clinic.add_location(f"Place {size} {number}"))
            email = f"t{therapist}@clinic.example"
            an_account(engine, clock, Role.THERAPIST, email=email, therapist_id=therapist, locations=[1])
    assert counts[0] == counts[1]


@pytest.mark.parametrize("path", ["therapists/{}", "therapists/{}/edit", "licenses/{}", "hours/{}", "accounts/{}"])
def test_what_is_not_there_is_not_found(admin: FlaskClient, path: str) -> None:
    for number in ("0", "99", "2147483648", "9" * 23):
        assert admin.get(f"/admin/{path.format(number)}").status_code == 404


@pytest.mark.parametrize("role", [Role.FRONT_DESK, Role.THERAPIST])
def test_only_administrators_administer(
    app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic, role: Role
) -> None:
    with transaction(engine) as session:
        assert session.get(Account, 1) is None
    client = signed_in(app, engine, clock, an_account(engine, clock, role, therapist_id=1))
    for path in ("/admin/", "/admin/therapists", "/admin/accounts", "/admin/policy", "/admin/locations/1"):
        assert client.get(path).status_code == 404
