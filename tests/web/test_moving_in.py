"""The pages of moving in, as an administrator reads and presses them."""

import csv
from io import BytesIO, StringIO
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import (
    Account,
    Appointment,
    AuditEvent,
    ClinicPolicy,
    Fate,
    Kind,
    Location,
    OutboxMessage,
    Patient,
    Role,
    Therapist,
)
from scheduler.services import verify
from scheduler.services.moving.import_lines import Outcome, Trouble, What
from scheduler.services.opening import Step
from scheduler.web.admin import moving_words
from tests.clinic import Clinic, at, rows
from tests.web.pages import Element, Page, form_of, look
from tests.web.staff import an_account, csrf_token, signed_in

HOME = "/admin/moving-in"
FIELDS = (
    "csrf_token",
    "file",
    "step",
    "dates",
    "column-name",
    "column-patient",
    "column-start",
    "old-type",
    "new-type",
)
VISITS = (
    "Ref,Fecha,Hora,Terapeuta,Tipo,Paciente,Correo\n"
    "1,2026-11-24,9:05,Ana Abbott,Follow-up,Pat Doe,pat@example.com\n"
    "2,2026-11-24,9:20,Ana Abbott,Follow-up,<script>alert(1)</script>,roe@example.com\n"
)


@pytest.fixture
def admin(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))


def upload(client: FlaskClient, what: str, content: bytes | str, **more: str) -> Page:
    address = f"{HOME}/{what}"
    content = content.encode() if isinstance(content, str) else content
    data: dict[str, Any] = {
        "csrf_token": csrf_token(client, address),
        "file": FileStorage(BytesIO(content), "file.csv"),
        **more,
    }
    boundary, body = encode_multipart(data)  # in memory; the client's own way leaves a file open
    return opened(
        client, client.post(address, data=body, content_type=f"multipart/form-data; boundary={boundary}"), address
    )


def opened(client: FlaskClient, answer: Any, address: str) -> Page:  # noqa: ANN401 a test's answer
    if answer.status_code == 303:
        return look(client, answer.headers["Location"])
    return Page(client, answer, address)


def press(page: Page, button: str, **changes: str) -> Page:
    """Press one of several forms' buttons, found by all its words."""
    (form,) = [
        one for one in page.main.all("form", method="post") if button in [found.text for found in one.all("button")]
    ]
    around = Element("main", {}, [form])
    read = form_of(around, page.address)
    pressed = read.buttons[button]
    named = {pressed["name"]: pressed["value"]} if "name" in pressed else {}
    data = read.filled(**changes) | named
    target = urljoin(page.address, read.action)
    return opened(page.client, page.client.post(target, data=data), target)


def verified(engine: Engine, clock: FixedClock) -> int:
    with reading(engine) as session:
        return sum(one.violations for one in verify.verify(session, now=clock.now()))


def test_a_file_is_tried_line_by_line_and_stored_only_then(
    admin: FlaskClient, engine: Engine, clock: FixedClock
) -> None:
    page = upload(admin, "visits", VISITS)
    assert page.status == 200
    assert page.heading == "Try: Booked visits"
    assert "Will be stored: 1" in page.main.text
    assert "2026-11-24, 9:05" in page.main.text
    assert (
        "Date, or date and time: this time is taken: Tuesday, November 24, 9:05 AM–9:50 AM, Pat Doe (#2)"
        in page.main.text
    )
    assert "<script>alert" not in page.html
    with reading(engine) as session:
        assert rows(session, Appointment) == []
    done = press(page, "Store 1 line, leave out the rest")
    assert (done.status, done.heading) == (200, "Moving in")
    assert "1 line was stored. 1 was left out." in done.main.text
    assert "Is here already: 1" in upload(admin, "visits", VISITS).main.text
    assert verified(engine, clock) == 0


def test_columns_and_words_are_matched_on_the_page(admin: FlaskClient, engine: Engine) -> None:
    text = "A;B;C;D;E\nPat Doe;PT re-eval;AA;30/11/2026 2:30 PM;pat@example.com\n"
    page = upload(admin, "visits", text)
    assert "nothing is given" not in page.main.text
    assert page.main.text.count("Every line needs this.") == 4
    columns = {"column-patient": "0", "column-type": "1", "column-therapist": "2", "column-start": "3"}
    page = press(page, "Try again", **columns, **{"column-email": "4", "dates": "day"})
    assert "there is no therapist “AA”" in page.main.text
    form = page.form
    assert form.fields["column-start"] == "3"
    assert form.fields["dates"] == "day"
    page = press(page, "Try again", **{"new-type": "Follow-up", "new-therapist": "Ana Abbott"})
    assert "Will be stored: 1" in page.main.text
    press(page, "Store 1 line")
    with reading(engine) as session:
        (visit,) = rows(session, Appointment)
    assert visit.starts_at.isoformat() == "2026-11-30T20:30:00+00:00"


def test_a_time_that_goes_meanwhile_stores_nothing_of_the_file(admin: FlaskClient, clinic: Clinic) -> None:
    page = upload(admin, "visits", VISITS.partition("2,2026")[0])
    clinic.book(
        next(str(offer.slot) for offer in clinic.offers() if offer.slot.starts_at == at("2026-11-24T09:00-06:00"))
    )
    page = press(page, "Store 1 line")
    assert page.status == 409
    assert "Nothing was stored" in page.main.text
    assert "Pat Doe" in page.main.text
    with reading(clinic.engine) as session:
        assert len(rows(session, Appointment)) == 1
        reads = session.scalars(select(AuditEvent).where(AuditEvent.action == "patient.read")).all()
        (patient,) = rows(session, Patient)
    assert {event.entity_id for event in reads} == {patient.id.hex}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Choose a file"),
        (b"\n\n", "Choose a file"),
        (b'"' + b"x" * 200_000, "cannot be read"),
        (b"PK\x03\x04\x14\x00", "This is an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "This is an Excel workbook"),
        (b"a," * 300, "more than 200 columns"),
        (b"name\n" + b"x\n" * 20_001, "more than 20,000 lines"),
        (b"x" * 5_000_001, "larger than 5 MB"),
    ],
)
@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_what_is_no_table_is_told_so(admin: FlaskClient, content: bytes, said: str) -> None:
    page = upload(admin, "patients", content)
    assert page.status == 422
    assert said in page.main.text


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_what_is_carried_on_and_was_changed_is_refused_kindly(admin: FlaskClient) -> None:
    token = csrf_token(admin, f"{HOME}/visits")
    for carried in ("!!", "eJw=", "AAAA", "eJzLSM3JyQcABiwCFQ==" * 2, "\x00"):
        answer = admin.post(f"{HOME}/visits", data={"csrf_token": token, "file": carried, "step": "import-good"})
        assert answer.status_code == 422, carried


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_only_files_may_be_large_and_only_from_whoever_was_signed_in(admin: FlaskClient, client: FlaskClient) -> None:
    large = {"csrf_token": "x", "file": (BytesIO(b"x" * 100_000), "x.csv")}
    assert client.post(f"{HOME}/visits", data=large).status_code == 413
    large = {"csrf_token": csrf_token(admin), "current": "x" * 100_000}
    assert admin.post("/staff/account/password", data=large).status_code == 413
    large["csrf_token"] = csrf_token(admin)
    assert upload(admin, "patients", b"x" * 4_000_000).status != 413


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(What), st.binary(max_size=200), st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=9)))
def test_no_bytes_break_a_page_or_store_anything(
    admin: FlaskClient, engine: Engine, what: What, content: bytes, fields: dict[str, str]
) -> None:
    before = len(rows_of_all(engine))
    page = upload(admin, what, content)
    assert page.status in {200, 422}
    if page.status == 200:
        answer = admin.post(page.address, data=page.form.filled(step="check") | fields)
        assert answer.status_code in {200, 303, 400, 409, 422}
    assert len(rows_of_all(engine)) == before


def rows_of_all(engine: Engine) -> list[object]:
    with reading(engine) as session:
        return [one for table in (Appointment, Patient, OutboxMessage) for one in rows(session, table)]


@pytest.mark.parametrize("what", list(What))
def test_an_export_can_be_imported_again(admin: FlaskClient, clinic: Clinic, what: What) -> None:
    clinic.book(str(clinic.offers()[0].slot), note="=cmd()")
    press(upload(admin, "visits", VISITS), "Store 1 line, leave out the rest")
    answer = admin.get(f"{HOME}/{what}.csv")
    assert answer.mimetype == "text/csv"
    lines = len(list(csv.reader(StringIO(answer.data.decode("utf-8-sig"))))) - 1
    assert lines >= 1
    assert "'=cmd()" in answer.text or what != What.VISITS
    page = upload(admin, what, answer.data)
    assert f"Is here already: {lines}" in page.main.text
    assert "Will be stored" not in page.main.text


def test_an_export_is_a_read_of_every_patient_in_it(admin: FlaskClient, clinic: Clinic) -> None:
    clinic.book(str(clinic.offers()[0].slot))
    admin.get(f"{HOME}/patients.csv")
    with reading(clinic.engine) as session:
        (event,) = session.scalars(select(AuditEvent).where(AuditEvent.action == "patient.read")).all()
    assert event.detail == {"fields": "name, email, phone, birth date, language"}
    assert event.address == "127.0.0.1"


def test_a_new_clinic_is_led_to_its_first_open_location(admin: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    with transaction(engine) as session:
        place = session.scalars(select(Location)).one()
        place.online, place.phone = False, " "
    page = look(admin, HOME)
    steps = [str(moving_words.STEPS[step]) for step in (Step.POLICY, Step.EXPLAINER, Step.ADDRESS)]
    assert f"Before patients can book here: {'; '.join(steps)}" in page.main.text
    assert "Open online booking" not in page.main.text
    token = csrf_token(admin)
    assert admin.post(f"{HOME}/locations/1/open", data={"csrf_token": token}).status_code == 409
    for _ in range(2):
        page = press(page, next(one.text for one in page.main.all("button") if one.text.startswith("I have read it")))
    assert f"Before patients can book here: {steps[2]}" in page.main.text
    with transaction(engine) as session:
        session.scalars(select(Location)).one().phone = "+1 217 555 0100"
    page = press(look(admin, HOME), "Open online booking Springfield")
    assert "Patients can book there now." in page.main.text
    assert clinic.offers()
    page = press(page, "Close online booking Springfield")
    assert "Everything is ready." in page.main.text
    for number in ("9", "2147483648", "9" * 23):
        for act in ("open", "close"):
            answer = admin.post(f"{HOME}/locations/{number}/{act}", data={"csrf_token": token})
            assert answer.status_code == 404, (number, act)
    with reading(engine) as session:
        actions = [event.action for event in rows(session, AuditEvent) if event.actor.startswith("account:")]
    assert actions == [
        "clinic_policy.looked_through", "explainer_version.looked_through", "location.changed", "location.changed",
    ]  # fmt: skip


def test_reminders_are_started_once(admin: FlaskClient, engine: Engine) -> None:
    press(upload(admin, "visits", VISITS), "Store 1 line, leave out the rest")
    page = look(admin, HOME)
    assert "1 imported visit is ahead." in page.main.text
    page = press(page, "Start reminders")
    assert "Patients who get messages: 1" in page.main.text
    assert "Reminders in all: 1" in page.main.text
    assert "The first goes out: Monday, November 23, 9:05 AM Central Standard Time" in page.main.text
    with reading(engine) as session:
        assert session.get_one(ClinicPolicy, 1).imported_reminded_at is None
        assert not [one for one in rows(session, OutboxMessage) if one.status == Fate.OWED]
    page = press(page, "Start reminders")
    assert "Reminders begin: 1 is planned." in page.main.text
    assert "Started on Monday, November 23." in page.main.text
    answer = admin.post(f"{HOME}/reminders", data={"csrf_token": csrf_token(admin), "step": "start"})
    assert answer.status_code == 303
    with reading(engine) as session:
        assert len([one for one in rows(session, OutboxMessage) if one.status == Fate.OWED]) == 1
        assert session.get_one(ClinicPolicy, 1).imported_reminded_at is not None


def test_a_test_message_is_owed_once_until_it_is_sent(admin: FlaskClient, engine: Engine) -> None:
    page = press(look(admin, HOME), "Send it")
    assert "It is on its way." in page.main.text
    press(page, "Send it")
    with reading(engine) as session:
        (message,) = rows(session, OutboxMessage)
    assert (message.kind, message.status) == (Kind.TEST, Fate.OWED)


def test_an_administrator_of_some_places_finds_no_such_page(
    app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic
) -> None:
    account = an_account(engine, clock, Role.ADMIN, locations=[1])
    assert signed_in(app, engine, clock, account).get(HOME).status_code == 404


def test_every_trouble_and_outcome_has_its_words(app: Flask) -> None:
    assert moving_words.TROUBLES.keys() == set(Trouble)
    assert moving_words.OUTCOMES.keys() == set(Outcome)
    assert moving_words.STEPS.keys() == set(Step)
    with app.test_request_context("/"):
        for words in moving_words.TROUBLES.values():
            assert "%" not in str(words) % {"about": "x"}


def test_lists_cost_as_many_queries_at_any_size(admin: FlaskClient, engine: Engine) -> None:
    names = ["name\n" + "".join(f"T {n}\n" for n in range(size)) for size in (2, 40)]
    pages = [upload(admin, "therapists", text).main.text for text in names]
    assert "Will be stored: 2" in pages[0]
    assert "Will be stored: 40" in pages[1]
    with reading(engine) as session:
        assert len(rows(session, Therapist)) == 1
        assert len(rows(session, Account)) == 1


def test_imported_hours_without_a_licence_are_stored_and_warned_of(admin: FlaskClient, clinic: Clinic) -> None:
    clinic.add_location("Denver", "America/Denver", "CO")
    text = "therapist,location,day,from,to\nAna Abbott,Denver,Saturday,9:00,12:00\n"
    page = press(upload(admin, "hours", text), "Store 1 line")
    assert "nothing can be booked in the hours of: Ana Abbott (CO)" in page.tree.text


def test_the_order_of_dates_is_guessed_anew_until_somebody_chooses_it(admin: FlaskClient, engine: Engine) -> None:
    page = upload(admin, "patients", "name,phone,B\nPat Doe,217 555 0142,03/04/1975\nAnn Roe,217 555 0143,25/12/1980\n")
    page = press(page, "Try again", **{"column-birth_date": "2"})
    assert "Will be stored: 2" in page.main.text
    assert "is that right?" not in page.main.text
    page = press(page, "Try again", dates="month")
    assert "“25/12/1980” has no such month. If days come first in this file, choose so above" in page.main.text
    press(press(page, "Try again", dates=""), "Store 2 lines")
    with reading(engine) as session:
        assert {str(one.birth_date) for one in rows(session, Patient)} == {"1975-04-03", "1980-12-25"}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_dates_that_can_be_read_both_ways_are_asked_about(admin: FlaskClient) -> None:
    page = upload(admin, "patients", "name,phone,dob\nPat Doe,217 555 0142,03/04/1975\n")
    assert "03/04/1975 is read as March 4: is that right?" in page.main.text
    assert "is that right?" not in press(page, "Try again", dates="month").main.text
    assert "Dates such as" not in upload(admin, "therapists", "name\nPat Doe\n").main.text


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_nothing_is_stored_before_doubtful_dates_were_asked_about(admin: FlaskClient, engine: Engine) -> None:
    page = upload(admin, "patients", "name,phone,B\nPat Doe,217 555 0142,03/04/1975\n")
    page = press(page, "Store 1 line", **{"column-birth_date": "2"})
    assert "03/04/1975 is read as March 4: is that right?" in page.main.text
    with reading(engine) as session:
        assert rows(session, Patient) == []
    assert "1 line was stored." in press(page, "Store 1 line").main.text
