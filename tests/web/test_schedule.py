"""A therapist's day and week, one visit and its marks: what is shown, to whom, and what is kept."""

import re
from datetime import UTC, date, datetime
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from config import Settings
from scheduler.channels import Files
from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.delivery import Delivery
from scheduler.mail import Mailer
from scheduler.models import Account, Appointment, AuditEvent, License, Needling, Role, Status
from scheduler.services import time_away
from scheduler.services.time_away import ClosureDetails, OffDetails
from scheduler.timeline import DAY
from tests.clinic import Clinic
from tests.services.test_hours import ADMIN
from tests.services.test_queries import statements
from tests.services.test_schedule import ANA, MONDAY, PAT, book_on
from tests.services.test_time_away import close, give
from tests.web.pages import Element, Page, look
from tests.web.staff import an_account, csrf_token, signed_in

TUESDAY = MONDAY + DAY
SPRINGFIELD = 1
NOBODY = UUID(int=7)
PAYLOAD = "<script>alert(1)</script>\"'>"


@pytest.fixture
def ana(engine: Engine, clinic: Clinic, clock: FixedClock) -> Account:
    return an_account(engine, clock, Role.THERAPIST, therapist_id=ANA)


@pytest.fixture
def phone(app: Flask, engine: Engine, clock: FixedClock, ana: Account) -> FlaskClient:
    """Ana's."""
    return signed_in(app, engine, clock, ana)


@pytest.fixture
def visit(clinic: Clinic) -> Appointment:
    """Ana's, of today."""
    booked: Appointment = book_on(clinic, MONDAY)
    return booked


def send(client: FlaskClient, path: str, **form: str) -> Any:  # noqa: ANN401 an answer
    return client.post(path, data={"csrf_token": csrf_token(client), **form})


def items(page: Page) -> list[Element]:
    inside = (one for visits in page.main.all("ul", class_="visits") for one in visits.inside)
    return [one for one in inside if isinstance(one, Element)]


def status_of(engine: Engine, visit: Appointment) -> str:
    with reading(engine) as session:
        return session.get_one(Appointment, visit.id).status


def reads(engine: Engine) -> list[tuple[str, str, str, str]]:
    with reading(engine) as session:
        rows = session.scalars(select(AuditEvent).where(AuditEvent.action.like("%.read")).order_by(AuditEvent.id))
        return [(row.actor, row.entity, row.entity_id, row.detail["fields"]) for row in rows]


def test_a_day_says_who_comes_when_where_and_what_to_prepare(phone: FlaskClient, clinic: Clinic, ana: Account) -> None:
    visit = book_on(clinic, MONDAY, kind="Evaluation", patient=PAT, note="My left <b>knee</b>", needling=Needling.NONE)
    page = look(phone, "/staff/")
    assert page.heading == "Today, Monday, November 23"
    assert "1 visit · Central Standard Time" in page.main.text
    (item,) = items(page)
    assert item.attributes["id"] == f"v{visit.id.hex}"
    for words in (
        "10:00 AM – 11:00 AM",
        "Pat Doe",
        "Evaluation",
        "Springfield",
        "New patient",
        "Needles: no",
        "Spanish",
        "What hurts: My left <b>knee</b>",
        "Booked",
    ):
        assert words in item.text, words
    assert [button.text for button in item.all("button")] == ["Arrived Pat Doe", "No-show Pat Doe"]
    assert "Not shown the explainer" not in item.text
    assert reads(clinic.engine) == [
        (f"account:{ana.id}", "patient", visit.patient_id.hex, "name, language, what hurts, needles")
    ]


def test_a_week_shows_its_days_and_leads_to_each(phone: FlaskClient, clinic: Clinic) -> None:
    for day in (MONDAY, MONDAY + 2 * DAY):
        book_on(clinic, day, note="My knee")
    page = look(phone, "/staff/?view=week")
    assert page.heading == "Week of Monday, November 23"
    assert [one.text for one in page.main.all("h2")] == [
        "Today, Monday, November 23",
        "Tomorrow, Tuesday, November 24",
        "Wednesday, November 25",
        "Thursday, November 26",
        "Friday, November 27",
    ]
    assert len(items(page)) == 2
    assert "2 visits" in page.main.text
    assert page.follow("Wednesday, November 25").heading == "Wednesday, November 25"


STEPS = (
    ("/staff/", "Next ›", "Tomorrow, Tuesday, November 24"),
    ("/staff/", "‹ Previous", "Yesterday, Sunday, November 22"),
    ("/staff/?day=2027-03-01", "Today", "Today, Monday, November 23"),
    ("/staff/?day=2027-01-01", "Week", "Week of Monday, December 28"),
    ("/staff/?view=week", "Next ›", "Week of Monday, November 30"),
    ("/staff/?view=week&day=2026-11-29", "‹ Previous", "Week of Monday, November 16"),
    ("/staff/?view=week&day=2027-01-06", "Day", "Wednesday, January 6, 2027"),
    ("/staff/?view=week&day=2027-01-06", "This week", "Week of Monday, November 23"),
)
NO_DAYS = ("x", "2026-13-01", "0001-01-01", "9999-12-31", "20261123", "2026-W48-1", "%00", "-1", "1" * 3000)


def test_it_is_one_step_to_the_next_day_and_week(phone: FlaskClient) -> None:
    for address, words, heading in STEPS:
        assert look(phone, address).follow(words).heading == heading


@pytest.mark.parametrize("field", ["day", "view"])
def test_an_address_that_names_no_day_is_refused(phone: FlaskClient, field: str) -> None:
    for value in NO_DAYS:
        page = look(phone, f"/staff/?{field}={value}")
        assert page.status == 422, value
        assert f"What cannot be used: {field}" in page.main.text


def test_a_calendar_reaches_as_far_as_anybody_pages(phone: FlaskClient) -> None:
    for day in ("2000-01-01", "2199-12-31"):
        for view in ("day", "week"):
            assert look(phone, f"/staff/?day={day}&view={view}").status == 200


@pytest.mark.parametrize(
    ("sunday", "hours"), [(date(2027, 3, 14), ("Saturday", "Sunday")), (date(2026, 11, 1), ("Saturday", "Sunday"))]
)
def test_a_week_in_which_the_clocks_change_shows_local_hours(
    app: Flask, engine: Engine, clinic: Clinic, clock: FixedClock, sunday: date, hours: tuple[str, str]
) -> None:
    clinic.policy(booking_horizon_days=14)
    clinic.add_hours(ANA, SPRINGFIELD, [5, 6])
    clock.at = datetime.combine(sunday - 9 * DAY, datetime.min.time(), UTC)
    clinic.plan()
    for day in (sunday - DAY, sunday):
        book_on(clinic, day)
    ana = signed_in(app, engine, clock, an_account(engine, clock, Role.THERAPIST, therapist_id=ANA))
    page = look(ana, f"/staff/?view=week&day={sunday}")
    zones = ["Central Daylight Time", "Central Standard Time"]
    before, after = zones[::-1] if sunday.month == 3 else zones
    saturday, on_sunday = (item.text for item in items(page))
    for item, zone in ((saturday, before), (on_sunday, after)):
        assert item.startswith("8:00 AM – 8:45 AM")
        assert f"Springfield · {zone}" in item


def test_visits_of_another_zone_each_name_it(phone: FlaskClient, clinic: Clinic) -> None:
    denver = clinic.add_location("Denver", zone="America/Denver", state="CO")
    with transaction(clinic.engine) as session:
        session.add(clinic.license(ANA, "pt", "CO"))
    clinic.add_hours(ANA, denver, [0], opens=17 * 60, closes=20 * 60)
    clinic.plan()
    book_on(clinic, MONDAY)
    book_on(clinic, MONDAY, -1)
    here, there = (item.text for item in items(look(phone, "/staff/")))
    assert "Springfield · Central Standard Time" in here
    assert "Denver · Mountain Standard Time" in there


def test_a_cancelled_visit_stays_on_its_day_without_buttons(phone: FlaskClient, clinic: Clinic) -> None:
    gone = clinic.book(str(clinic.offers("Follow-up", from_=MONDAY)[0].slot), "Follow-up")
    clinic.cancel(gone.token)
    page = look(phone, "/staff/")
    (item,) = items(page)
    assert "Canceled" in item.text
    assert item.all("button") == []
    assert "0 visits" in page.main.text


def test_an_empty_day_says_so(phone: FlaskClient) -> None:
    assert "No visits on this day." in look(phone, "/staff/?day=2026-11-28").main.text


@pytest.mark.parametrize("role", [Role.FRONT_DESK, Role.ADMIN])
def test_whoever_treats_nobody_is_led_to_the_front_desk(
    app: Flask, engine: Engine, clinic: Clinic, clock: FixedClock, role: Role
) -> None:
    answer = signed_in(app, engine, clock, an_account(engine, clock, role)).get("/staff/")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/staff/desk")


def test_an_admin_who_treats_has_a_schedule(
    app: Flask, engine: Engine, clinic: Clinic, clock: FixedClock, visit: Appointment
) -> None:
    admin = signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN, therapist_id=ANA))
    assert len(items(look(admin, "/staff/"))) == 1


@pytest.mark.parametrize("path", ["/staff/", "/staff/licenses", "/staff/calendar-feed"])
def test_a_therapist_who_is_not_linked_yet_reads_what_to_do(
    app: Flask, engine: Engine, clinic: Clinic, clock: FixedClock, path: str
) -> None:
    page = look(signed_in(app, engine, clock, an_account(engine, clock, Role.THERAPIST)), path)
    assert (page.status, page.heading) == (200, "No schedule yet")


def test_closures_and_time_off_stand_on_their_days(phone: FlaskClient, clinic: Clinic) -> None:
    """Those of one's own places, and one's own; what was asked for and not approved is not off yet."""
    friday, elsewhere = MONDAY + 4 * DAY, clinic.add_location("Denver", "America/Denver", "CO")
    close(clinic, ClosureDetails(MONDAY + DAY, 12 * 60, MONDAY + 2 * DAY, 10 * 60, "Water <main>"))
    close(clinic, ClosureDetails(MONDAY, 0, friday, 24 * 60, "Renovation"), places=[elsewhere])
    give(clinic, OffDetails(MONDAY + 2 * DAY, 13 * 60, MONDAY + 3 * DAY, 24 * 60, "Wedding"), therapist=ANA)
    with transaction(clinic.engine) as session:
        time_away.ask(session, ANA, OffDetails(friday, 0, friday, 1440), by=ADMIN, now=clinic.clock.now())
    days = look(phone, f"/staff/?view=week&day={MONDAY}").main.all("section")
    assert [[one.text for one in day.all("p", class_="away")] for day in days] == [
        [],
        ["Springfield is closed: Water <main>, 12:00 PM to 12:00 AM"],
        ["Springfield is closed: Water <main>, 12:00 AM to 10:00 AM", "Off, 1:00 PM to 12:00 AM"],
        ["Off"],
        [],
    ]
    assert "Wedding" not in look(phone, f"/staff/?day={MONDAY + 3 * DAY}").html
    assert "Off" in look(phone, f"/staff/?day={MONDAY + 3 * DAY}").main.text


def test_a_page_asks_as_little_full_as_empty(phone: FlaskClient, clinic: Clinic) -> None:
    """Beside the session's own query and the record of what was read."""
    counts = []
    for fill in (0, 12):
        for _ in range(fill):
            book_on(clinic, TUESDAY, kind="Needling", note="It hurts")
        for view in ("day", "week"):
            with statements(clinic.engine) as seen:
                page = look(phone, f"/staff/?view={view}&day={TUESDAY}")
            asked = [sql for sql, _ in seen if "audit_event" not in sql]
            counts.append((len(items(page)), len(asked)))
            assert len(seen) - len(asked) <= 3
    assert counts == [(0, 4), (0, 4), (12, 4), (12, 4)]


def test_a_page_that_was_kept_is_on_record_from_each_network_it_is_read_from(
    phone: FlaskClient, clinic: Clinic, visit: Appointment
) -> None:
    addresses = ("192.0.2.1", "198.51.100.7", "192.0.2.1")
    for address in addresses:
        page = phone.get(f"/staff/?view=week&day={MONDAY}", environ_base={"REMOTE_ADDR": address})
        assert page.status_code == 200
    with reading(clinic.engine) as session:
        read = select(AuditEvent.address).where(AuditEvent.entity_id == visit.patient_id.hex)
        assert sorted(map(str, session.scalars(read.where(AuditEvent.action == "patient.read")))) == [
            "192.0.2.1", "198.51.100.7",
        ]  # fmt: skip


def test_no_title_names_a_patient(phone: FlaskClient, clinic: Clinic) -> None:
    """Titles stay in a browser's history and tabs, where `no-store` does not reach."""
    visit = book_on(clinic, MONDAY, patient=PAT)
    for path in (f"/staff/visits/{visit.id}", f"/staff/visits/{visit.id}/follow-up"):
        text = phone.get(path).get_data(as_text=True)
        assert ("Pat Doe" in text, "Pat Doe" in text.split("<title>")[1].split("</title>")[0]) == (True, False)


def test_a_visit_shows_everything_and_is_on_record_as_read(
    phone: FlaskClient, clinic: Clinic, clock: FixedClock, ana: Account
) -> None:
    visit = book_on(clinic, MONDAY, patient=PAT, note="My knee\nsince May")
    page = look(phone, f"/staff/visits/{visit.id}")
    assert page.heading == "Pat Doe"
    for words in ("pat@example.com", "My knee since May", "Shown: version 2026-11-24, English", "Returning", "Spanish"):
        assert words in page.main.text, words
    assert "Today, Monday, November 23, 10:00 AM Central Standard Time, Springfield" in page.main.text
    assert "Confirmation: will be sent" in page.main.text
    assert "Booked, by the patient" in page.main.text
    read = [(entity, entity_id) for _, entity, entity_id, _ in reads(clinic.engine)]
    assert read == [("patient", visit.patient_id.hex), ("appointment", visit.id.hex)]


def test_a_cancelled_visit_gives_its_reason(phone: FlaskClient, clinic: Clinic, visit: Appointment) -> None:
    with transaction(clinic.engine) as session:
        row = session.get_one(Appointment, visit.id)
        row.status, row.cancelled_at = Status.CANCELLED, clinic.clock.now()
        row.cancel_reason_sealed = clinic.keys.seal("Feeling <better>")
    page = look(phone, f"/staff/visits/{visit.id}")
    assert "Feeling <better>" in page.main.text
    assert "Feeling <better>" not in page.html


def test_one_tap_marks_and_one_takes_it_back(phone: FlaskClient, clinic: Clinic, ana: Account) -> None:
    visit = book_on(clinic, MONDAY)
    page = look(phone, "/staff/")
    for button, status in (("Arrived", "arrived"), ("Done", "fulfilled")):
        answer = press(phone, page, button)
        assert answer.headers["Location"] == f"/staff/?day=2026-11-23#v{visit.id.hex}"
        assert status_of(clinic.engine, visit) == status
        page = look(phone, "/staff/")
    for status in ("arrived", "booked"):
        press(phone, page, "Undo")
        assert status_of(clinic.engine, visit) == status
        page = look(phone, "/staff/")
    press(phone, page, "No-show")
    assert status_of(clinic.engine, visit) == "noshow"
    told = look(phone, f"/staff/visits/{visit.id}").main.text
    for words in (f"Marked: Arrived, {ana.name}", f"Mark undone: Booked, {ana.name}", f"Marked: No-show, {ana.name}"):
        assert words in told, words
    assert clinic.violations() == {}


def press(client: FlaskClient, page: Page, word: str) -> Any:  # noqa: ANN401 an answer
    """Press the first button that begins with this word, as a browser sends its form."""
    for form in page.main.all("form"):
        for button in form.all("button"):
            if button.text.startswith(word):
                fields = {one.attributes["name"]: one.attributes["value"] for one in form.all("input")}
                pressed = {button.attributes["name"]: button.attributes["value"]}
                answer = client.post(form.attributes["action"], data=fields | pressed)
                assert answer.status_code == 303, answer.get_data(as_text=True)
                return answer
    raise AssertionError(word)


def test_a_mark_that_came_too_late_is_refused_kindly(phone: FlaskClient, clinic: Clinic, visit: Appointment) -> None:
    send(phone, f"/staff/visits/{visit.id}/mark", status="noshow")
    late = send(phone, f"/staff/visits/{visit.id}/mark", status="arrived")
    assert late.status_code == 409
    assert "Somebody changed this visit meanwhile" in late.get_data(as_text=True)
    assert status_of(clinic.engine, visit) == "noshow"
    assert send(phone, f"/staff/visits/{visit.id}/undo", status="arrived").status_code == 409


def test_a_visit_of_a_later_day_cannot_be_marked_yet(phone: FlaskClient, clinic: Clinic) -> None:
    visit = book_on(clinic, TUESDAY)
    (item,) = items(look(phone, f"/staff/?day={TUESDAY}"))
    assert item.all("button") == []
    answer = send(phone, f"/staff/visits/{visit.id}/mark", status="arrived")
    assert answer.status_code == 409
    assert "from its own day on" in answer.get_data(as_text=True)
    assert status_of(clinic.engine, visit) == "booked"


@pytest.mark.parametrize("verb", ["mark", "undo"])
def test_a_status_that_is_none_is_refused(phone: FlaskClient, clinic: Clinic, visit: Appointment, verb: str) -> None:
    for status in ("", "x", "ARRIVED", "é\x00", "1" * 5000):
        assert send(phone, f"/staff/visits/{visit.id}/{verb}", status=status).status_code == 422
    assert status_of(clinic.engine, visit) == "booked"


@pytest.mark.parametrize("status", ["booked", "cancelled"])
def test_a_mark_neither_cancels_nor_revives(
    phone: FlaskClient, clinic: Clinic, visit: Appointment, status: str
) -> None:
    other = {"booked": Status.NOSHOW, "cancelled": Status.BOOKED}[status]
    with transaction(clinic.engine) as session:
        session.get_one(Appointment, visit.id).status = other
    assert send(phone, f"/staff/visits/{visit.id}/mark", status=status).status_code == 409
    assert status_of(clinic.engine, visit) == other


def test_a_mark_needs_our_own_form(phone: FlaskClient, clinic: Clinic, visit: Appointment) -> None:
    for verb in ("mark", "undo"):
        path = f"/staff/visits/{visit.id}/{verb}"
        assert phone.post(path, data={"status": "arrived"}).status_code == 400
        assert phone.get(path).status_code == 405
    assert status_of(clinic.engine, visit) == "booked"


def test_a_button_leads_back_to_our_own_pages_only(phone: FlaskClient, clinic: Clinic, visit: Appointment) -> None:
    for to in ("https://evil.test/", "//evil.test", "/\\evil.test", "javascript:alert(1)", "/book"):
        answer = send(phone, f"/staff/visits/{visit.id}/mark", status="arrived", next=to)
        assert answer.headers["Location"] == "/staff/"


def test_what_is_not_theirs_is_not_there_and_stays_unchanged(
    app: Flask, engine: Engine, clinic: Clinic, clock: FixedClock, visit: Appointment
) -> None:
    chatham = clinic.add_location("Chatham")
    ben = clinic.add_therapist("Ben Brown")
    strangers = [
        an_account(engine, clock, Role.THERAPIST, therapist_id=ben, email="ben@clinic.example"),
        an_account(engine, clock, Role.THERAPIST, email="new@clinic.example"),
        an_account(engine, clock, Role.FRONT_DESK, locations=[chatham]),
        an_account(engine, clock, Role.ADMIN, locations=[chatham], therapist_id=None),
    ]
    for account in strangers:
        client = signed_in(app, engine, clock, account)
        for visit_id in (visit.id, NOBODY):
            path = f"/staff/visits/{visit_id}"
            assert [client.get(path).status_code, client.get(f"{path}/follow-up").status_code] == [404, 404]
            for verb, status in (("mark", "arrived"), ("undo", "arrived"), ("follow-up", "")):
                assert send(client, f"{path}/{verb}", status=status).status_code == 404
    assert status_of(engine, visit) == "booked"
    assert reads(engine) == []


def test_the_front_desk_opens_and_marks_visits_of_its_locations(
    app: Flask, engine: Engine, clinic: Clinic, clock: FixedClock, visit: Appointment
) -> None:
    desk = signed_in(app, engine, clock, an_account(engine, clock, Role.FRONT_DESK, locations=[SPRINGFIELD]))
    assert look(desk, f"/staff/visits/{visit.id}").heading == "Pat Doe"
    assert send(desk, f"/staff/visits/{visit.id}/mark", status="arrived").status_code == 303
    assert status_of(engine, visit) == "arrived"


def test_an_address_that_names_no_visit_is_not_there(phone: FlaskClient) -> None:
    for visit_id in ("1", "x", "../x", "%00", str(uuid4())[:-1], "0" * 5000):
        assert phone.get(f"/staff/visits/{visit_id}").status_code == 404


def test_what_patients_typed_runs_nowhere(phone: FlaskClient, clinic: Clinic) -> None:
    patient = PAT.__class__(PAYLOAD, None, "+12175550142", None, "en", False, False)
    visit = book_on(clinic, MONDAY, patient=patient, note=PAYLOAD)
    for path in ("/staff/", "/staff/?view=week", f"/staff/visits/{visit.id}", f"/staff/visits/{visit.id}/follow-up"):
        page = look(phone, path)
        assert PAYLOAD in page.main.text.replace("Follow-up for ", ""), path
        assert PAYLOAD not in page.html
        assert [one.attributes.get("src") for one in page.tree.all("script") if not one.attributes.get("src")] == []


def test_reading_changes_nothing_but_the_record(phone: FlaskClient, clinic: Clinic, visit: Appointment) -> None:
    paths = ("/staff/", "/staff/?view=week", f"/staff/visits/{visit.id}", f"/staff/visits/{visit.id}/follow-up")
    for path in (*paths, "/staff/licenses", "/staff/calendar-feed"):
        with statements(clinic.engine) as seen:
            assert phone.get(path).status_code == 200
        written = {sql.split()[2] for sql, _ in seen if not sql.lstrip().startswith(("SELECT", "WITH"))}
        assert written <= {"audit_event"}, path


def test_licences_say_what_they_allow_and_warn_before_they_end(phone: FlaskClient, clinic: Clinic) -> None:
    page = look(phone, "/staff/licenses")
    assert [one.text for one in page.main.all("h2")] == ["IL: Physical therapy", "IL: dry needling"]
    assert "Dry needling, beside a license for physical therapy" in page.main.text
    assert page.main.all("div", class_="summary") == []
    with transaction(clinic.engine) as session:
        own = session.scalars(select(License).order_by(License.id)).all()
        own[0].valid_until, own[1].valid_until = MONDAY + 60 * DAY, MONDAY - DAY
    warned = look(phone, "/staff/licenses").main.one("div", class_="summary").text
    assert "ends in 60 days." in warned
    assert "this license has ended." in warned


def test_a_mail_about_a_changed_day_leads_to_that_day(
    app: Flask, settings: Settings, phone: FlaskClient, clinic: Clinic, clock: FixedClock, tmp_path: Path
) -> None:
    """From the booking by somebody else to the page behind the link."""
    own = book_on(clinic, MONDAY)
    tomorrow = clinic.book(str(clinic.offers("Follow-up", from_=TUESDAY)[0].slot), "Follow-up")
    mailer = Mailer(app, settings)
    Delivery(clinic.engine, clock, clinic.keys, mailer, lambda: Files(tmp_path), 10).deliver()
    mails = [message_from_bytes(file.read_bytes()) for file in tmp_path.glob("*.eml")]
    told = [mail for mail in mails if mail["To"] == "therapist@clinic.example"]
    texts = [words_of(part) for mail in told for part in mail.walk() if part.get_content_type() == "text/plain"]
    links = sorted(found[0] for text in texts for found in re.finditer(r"/staff/\S*", text))
    assert links == ["/staff/?day=2026-11-23", "/staff/?day=2026-11-24"]
    assert "Pat" not in "".join(texts)
    for link, heading, visit in (
        (links[0], "Today, Monday, November 23", own),
        (links[1], "Tomorrow, Tuesday, November 24", tomorrow.appointment),
    ):
        page = look(phone, link)
        assert page.heading == heading
        assert [item.attributes["id"] for item in items(page)] == [f"v{visit.id.hex}"]


def words_of(part: Message) -> str:
    content: Any = part.get_payload(decode=True)
    return str(content.decode())
