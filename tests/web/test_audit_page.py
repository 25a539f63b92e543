"""The page of the record: who did what, who looked at whom; found by everything that is known of it."""

import csv
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from urllib.parse import urlencode

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select

from config import ROOT
from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import AuditEvent, Role
from scheduler.services import audit
from scheduler.services.audit import Actor
from scheduler.timeline import DAY
from scheduler.web.admin import deeds
from tests.clinic import HOUR, Clinic
from tests.services.test_queries import statements
from tests.web.pages import Element, parse
from tests.web.staff import an_account, signed_in
from tests.web.test_every_page import assert_harmless

PATH = "/admin/audit"
FILE = f"{PATH}/events.csv"
LATER = timedelta(minutes=10)
DESK = Actor("account:2", "203.0.113.7")


@pytest.fixture
def admin(app: APIFlask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))


@pytest.fixture
def looked_at(engine: Engine, clinic: Clinic, clock: FixedClock, admin: FlaskClient) -> tuple[str, str]:
    """A visit that the front desk looked at ten minutes after its patient booked it; its id and the patient's."""
    an_account(engine, clock, Role.FRONT_DESK)
    visit = clinic.book(str(clinic.offers()[0].slot)).appointment
    clock.at += LATER
    with transaction(engine) as session:
        audit.read(session, [visit], fields="name, phone", by=DESK, now=clock.now())
    return visit.id.hex, visit.patient_id.hex


def page(client: FlaskClient, status: int = 200, /, **asked: str) -> Element:
    answer = client.get(f"{PATH}?{urlencode(asked)}")
    assert answer.status_code == status
    return parse(answer.get_data(as_text=True))


def told(tree: Element) -> list[str]:
    return [one.text for one in tree.one("main").all("li") if one.all("time")]


def test_who_looked_at_a_visit_is_told_in_plain_words(admin: FlaskClient, looked_at: tuple[str, str]) -> None:
    visit, patient = looked_at
    tree = page(admin, record=f"appointment:{visit}")
    looked, booked = told(tree)
    assert looked == (
        f"9:10 AM Some front-desk (front-desk@clinic.example) Looked at · Visit {visit[-8:]} · name, phone"
        f" from 203.0.113.7 All about it: Visit {visit[-8:]}"
    )
    assert booked.startswith(f"9:00 AM A patient, online Booked · Visit {visit[-8:]}")
    assert [one.text for one in tree.one("main").all("h2")] == ["Monday, November 23, 2026 · Central Standard Time"]
    assert tree.all("time")[0].attributes["datetime"] == "2026-11-23T09:10:00-06:00"
    assert f"{PATH}?record=patient:{patient}" in {one.attributes["href"] for one in tree.all("a")}
    assert_harmless(tree, PATH)


def test_a_visit_is_found_by_its_id_with_strokes_too(admin: FlaskClient, looked_at: tuple[str, str]) -> None:
    visit, _ = looked_at
    strokes = f"{visit[:8]}-{visit[8:12]}-{visit[12:16]}-{visit[16:20]}-{visit[20:]}"
    assert len(told(page(admin, record=f" appointment:{strokes} "))) == 2


def test_a_record_leads_to_its_page(app: APIFlask, admin: FlaskClient, looked_at: tuple[str, str]) -> None:
    visit, _ = looked_at
    (link,) = {
        one.attributes["href"]
        for one in page(admin, record=f"appointment:{visit}").all("a")
        if "/staff/visits/" in one.attributes["href"]
    }
    assert link.replace("-", "").endswith(visit)
    assert admin.get(link).status_code == 200


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"actor": "account:2"}, {"Looked at"}),
        ({"actor": "patient"}, {"Booked"}),
        ({"actor": "worker"}, set()),
        ({"action": "looks", "actor": "account:2"}, {"Looked at"}),
        ({"action": "changes", "actor": "patient"}, {"Booked"}),
        ({"action": "appointment.booked"}, {"Booked"}),
        ({"address": "203.0.113.7"}, {"Looked at"}),
        ({"address": "2001:DB8:0::1"}, set()),
        ({"since": "2026-11-23", "until": "2026-11-23", "actor": "account:2"}, {"Looked at"}),
        ({"since": "2026-11-24"}, set()),
        ({"until": "2026-11-22"}, set()),
        ({"actor": "account:2", "action": "appointment.booked"}, set()),
    ],
)
def test_what_is_asked_for_is_found(
    admin: FlaskClient, looked_at: tuple[str, str], asked: dict[str, str], found: set[str]
) -> None:
    tree = page(admin, **asked)
    assert {one.text for one in tree.all("strong")} == found
    assert ("Nothing like this is on record." in tree.text) == (not found)
    kept = tree.one("form", action=PATH)
    for name, value in asked.items():
        if name in {"actor", "action"}:
            (chosen,) = kept.one("select", id=name).all("option", selected="")
            assert chosen.attributes["value"] == value
        else:
            assert kept.one("input", id=name).attributes["value"] == value.lower().replace(":0::", "::")


def test_a_day_is_the_clinics_own(admin: FlaskClient, engine: Engine, clock: FixedClock, clinic: Clinic) -> None:
    evening = clock.now().replace(hour=5, minute=30) + DAY  # 11:30 at night in Chicago, before it is the 24th
    with transaction(engine) as session:
        session.add(
            AuditEvent(
                happened_at=evening,
                actor="worker",
                action="location.changed",
                entity="location",
                entity_id="1",
                detail={},
            )
        )
    assert len(told(page(admin, actor="worker", since="2026-11-23", until="2026-11-23"))) == 1
    assert told(page(admin, actor="worker", since="2026-11-24")) == []


def test_to_search_is_on_record_as_well(admin: FlaskClient, looked_at: tuple[str, str]) -> None:
    page(admin, record=f"appointment:{looked_at[0]}", action="looks")
    newest = told(page(admin))[0]
    assert "Some admin (admin@clinic.example) Looked at · This record search" in newest
    assert f"action: looks; record: appointment:{looked_at[0]}" in newest
    assert "from 127.0.0.1" in newest


def test_a_search_that_cannot_be_made_is_no_look(admin: FlaskClient, engine: Engine) -> None:
    page(admin, 422, since="x")
    with reading(engine) as session:
        searched = select(func.count()).where(AuditEvent.action == "audit_event.read")
        assert session.execute(searched).scalar_one() == 0


def test_pages_follow_each_other_to_the_very_first_event(admin: FlaskClient, engine: Engine, clock: FixedClock) -> None:
    with transaction(engine) as session:
        session.add_all(
            AuditEvent(
                happened_at=clock.now() - (number // 3) * HOUR,
                actor="worker",
                action="location.changed",
                entity="location",
                entity_id=str(number),
                detail={},
            )
            for number in range(120)
        )
    seen: list[str] = []
    tree = page(admin, actor="worker")
    for _ in range(3):
        seen += [one.text for one in tree.one("main").all("code")]
        older = [one for one in tree.all("a") if one.text == "Older"]
        if not older:
            break
        assert "actor=worker" in older[0].attributes["href"]
        tree = parse(admin.get(older[0].attributes["href"]).get_data(as_text=True))
    assert sorted(seen, key=int) == [str(number) for number in range(120)]
    assert [int(one) // 3 for one in seen] == [number // 3 for number in range(120)]


def test_the_file_has_every_column_and_whole_ids(admin: FlaskClient, looked_at: tuple[str, str]) -> None:
    visit, _ = looked_at
    answer = admin.get(f"{FILE}?record=appointment:{visit}")
    assert (answer.status_code, answer.mimetype) == (200, "text/csv")
    rows = list(csv.DictReader(StringIO(answer.get_data().decode("utf-8-sig"), newline="")))
    assert rows[0] == {
        "When": "2026-11-23T09:10:00-06:00",
        "Who": "Some front-desk (front-desk@clinic.example)",
        "Actor": "account:2",
        "What": "Looked at",
        "Action": "appointment.read",
        "Record": f"appointment:{visit}",
        "Fields": "name, phone",
        "Network address": "203.0.113.7",
    }
    assert len(rows) == 2
    assert "record: appointment:" in told(page(admin))[0]


def test_no_cell_of_the_file_is_a_formula(admin: FlaskClient, engine: Engine, clock: FixedClock) -> None:
    formula = '=HYPERLINK("https://evil.test")'
    with transaction(engine) as session:
        session.add(
            AuditEvent(
                happened_at=clock.now(),
                actor=formula,
                action=formula,
                entity=formula,
                entity_id="1",
                address=formula,
                detail={"fields": formula},
            )
        )
    rows = list(csv.reader(StringIO(admin.get(FILE).get_data().decode("utf-8-sig"), newline="")))
    cells = [cell for row in rows for cell in row if "HYPERLINK" in cell]
    assert len(cells) == 6
    assert all(cell.startswith("'=") for cell in cells)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"actor": "<script>ran()</script>"}, "actor"),
        ({"actor": "account:0"}, "actor"),
        ({"actor": "account:9999999999999999999999"}, "actor"),
        ({"action": "x" * 500}, "action"),
        ({"action": "%' OR 1=1 --"}, "action"),
        ({"record": "appointment"}, "record"),
        ({"record": "\x00"}, "record"),
        ({"record": "appointment:\x00"}, "record"),
        ({"since": "yesterday"}, "since"),
        ({"since": "0001-01-01"}, "since"),
        ({"until": "9999-12-31"}, "until"),
        ({"since": "2026-11-24", "until": "2026-11-23"}, "until"),
        ({"address": "203.0.113"}, "address"),
        ({"address": "fe80::1%" + "a" * 300 + "\x00"}, "address"),
    ],
)
def test_what_cannot_be_asked_is_told_at_its_field(admin: FlaskClient, asked: dict[str, str], field: str) -> None:
    tree = page(admin, 422, **asked)
    assert [one.attributes["href"] for one in tree.one("div", class_="summary").all("a")] == [f"#{field}"]
    assert_harmless(tree, field)
    assert admin.get(f"{FILE}?{urlencode(asked)}").status_code == 422


NASTY = st.one_of(
    st.sampled_from(["", "\x00", "account:1", "appointment:" + "z" * 32, "appointment:" + "-" * 36, "\ud7ff", "9" * 400,
                     "2026-11-23", "2026-02-30", "::1", "1-" + "0" * 32, "9" * 17 + "-" + "f" * 32, "%", "patient:1"]),
    st.text(),
)  # fmt: skip
NAMES = st.sampled_from(
    ["actor", "action", "record", "since", "until", "address", "after", "lang", "csrf_token", "self"]
)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)  # the one that refuses more texts
def test_nothing_that_is_asked_breaks_the_search(admin: FlaskClient) -> None:
    @given(pairs=st.lists(st.tuples(NAMES, NASTY), max_size=5))
    @hypothesis_settings(
        max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def holds(pairs: list[tuple[str, str]]) -> None:
        for path in (PATH, FILE):
            assert admin.get(f"{path}?{urlencode(pairs)}").status_code in {200, 422}

    holds()


def test_only_admins_of_the_whole_clinic_see_the_record(
    app: APIFlask, engine: Engine, clock: FixedClock, clinic: Clinic
) -> None:
    of_one_place = an_account(engine, clock, Role.ADMIN, locations=[1])
    others = [an_account(engine, clock, role) for role in (Role.FRONT_DESK, Role.THERAPIST)]
    for account in (of_one_place, *others):
        client = signed_in(app, engine, clock, account)
        assert {client.get(path).status_code for path in (PATH, FILE)} == {404}
        assert PATH not in client.get("/staff/account/").get_data(as_text=True)


def test_the_page_asks_as_often_at_any_size(
    admin: FlaskClient, engine: Engine, clock: FixedClock, looked_at: tuple[str, str]
) -> None:
    def asked() -> list[int]:
        counts = []
        for path in (PATH, f"{PATH}?record=appointment:{looked_at[0]}", f"{PATH}?actor=account:2", FILE):
            with statements(engine) as seen:
                assert admin.get(path).status_code == 200
            counts.append(len(seen))
        return counts

    admin.get(PATH)
    small = asked()
    for number in range(30):
        an_account(engine, clock, Role.FRONT_DESK, email=f"desk{number}@clinic.example")
    assert asked() == small
    assert max(small) <= 10


def test_every_action_and_record_has_plain_words() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "scheduler").rglob("*.py"))
    noted = re.findall(r'"([a-z_]+)\.([a-z_]+)", *[a-z_.]+,(?: by=|\n? *by=)', source)
    noted += re.findall(r'audit\.record\(\s*[a-z]+,\s*"([a-z_]+)\.([a-z_]+)"', source)
    assert ("appointment", "booked") in noted
    assert {entity for entity, _ in noted} - set(deeds.RECORDS) == set()
    assert {verb for _, verb in noted} - set(deeds.VERBS) == set()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("noted", "said"),
    [
        ({"what": "hours", "counts": {"new": 3, "problem": 1}}, "File: Working hours; Lines: stored 3, left out 1"),
        ({"weekday": 2, "opens_minute": 480, "valid_until": None}, "Weekday: Wednesday; From: 8:00 AM; Last day: none"),
        (
            {"valid_until": [None, "2027-01-31"], "active": [True, False]},
            "Last day: none, January 31, 2027; active: yes, no",
        ),
        ({"fields": "name, phone", "buffer_minutes": [0, 15]}, "name, phone; buffer minutes: 0, 15"),
    ],
)
def test_what_was_noted_is_told_in_words(app: APIFlask, noted: dict[str, object], said: str) -> None:
    event = AuditEvent(
        happened_at=datetime(2026, 11, 23, tzinfo=UTC),
        actor="worker",
        action="x.y",
        entity="x",
        entity_id="1",
        detail=noted,
    )
    with app.test_request_context("/"):
        assert deeds.told(event, {}, "America/Chicago").fields == said
