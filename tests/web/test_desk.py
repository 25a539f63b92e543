"""The front desk's pages over HTTP: what they show, what they refuse, and that nothing typed is lost."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID, uuid4

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import (
    Appointment,
    AuditEvent,
    Fate,
    Kind,
    Location,
    OutboxMessage,
    Patient,
    Role,
    Status,
    TherapistLanguage,
    Told,
)
from scheduler.services.booking import PatientDetails
from tests.clinic import HOUR, Clinic, rows
from tests.services.test_queries import statements
from tests.web.pages import Element, Form, Page, after, form_of, look
from tests.web.staff import an_account, signed_in

NEW = {"name": "Zoë O’Brien", "email": "zoe@example.com", "note": "Left knee\n& <b>hip</b>", "needling": "none"}
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # what no database decides
UNREACHABLE = PatientDetails("Ulla Unreached", None, "+12175550142", None, "es", False, False)


@dataclass
class FrontDesk:
    """Somebody signed in at the front desk of location 1."""

    clinic: Clinic
    client: FlaskClient
    account_id: int

    def opens(self, path: str) -> Page:
        return look(self.client, path)

    def slot(self, kind: str = "Evaluation", ahead: timedelta = HOUR, **find: Any) -> str:  # noqa: ANN401
        find = {"location_id": 1, "from_": self.clinic.clock.now() + ahead} | find
        return str(self.clinic.offers(kind, by_staff=True, **find)[0].slot)

    def waits(self, clock: FixedClock, minutes: int) -> None:
        """Let time pass without ever being idle for long."""
        for passed in range(0, minutes, 10):
            clock.at += timedelta(minutes=min(10, minutes - passed))
            assert self.opens("/staff/account/").status == 200

    def posts(self, path: str, **fields: str) -> Page:
        return after(self.client, path, {"csrf_token": self.token(), **fields})

    def token(self) -> str:
        page = self.opens("/staff/account/")
        return str(page.tree.all("input", name="csrf_token")[0].attributes["value"])

    def books(self, slot: str | None = None, query: str = "type=1&new=1", **changes: str) -> Page:
        slot = slot or self.slot()
        page = self.opens(f"/staff/desk/book/{slot}?{query}")
        return page.press("Continue", **(NEW | changes)).press("Book this visit")


@pytest.fixture
def desk(clinic: Clinic, app: APIFlask, engine: Engine, clock: FixedClock) -> FrontDesk:
    account = an_account(engine, clock, Role.FRONT_DESK, locations=[1])
    return FrontDesk(clinic, signed_in(app, engine, clock, account), account.id)


@pytest.fixture
def denver(clinic: Clinic, app: APIFlask, engine: Engine, clock: FixedClock) -> FrontDesk:
    place = clinic.add_location("Denver", "America/Denver", "CO")
    clinic.add_hours(clinic.add_therapist("Cal Castillo", "CO"), place)
    clinic.plan()
    account = an_account(engine, clock, Role.FRONT_DESK, email="denver@clinic.example", locations=[place])
    return FrontDesk(clinic, signed_in(app, engine, clock, account), account.id)


def visits(clinic: Clinic) -> list[Appointment]:
    with reading(clinic.engine) as session:
        return sorted(rows(session, Appointment), key=lambda visit: visit.starts_at)


def patients(clinic: Clinic) -> list[Patient]:
    with reading(clinic.engine) as session:
        return rows(session, Patient)


def reads(clinic: Clinic) -> list[tuple[str, str]]:
    """Whom the audit says to have been shown, and to whom."""
    with reading(clinic.engine) as session:
        wanted = select(AuditEvent.entity_id, AuditEvent.actor).where(AuditEvent.action == "patient.read")
        return [(one.entity_id, one.actor) for one in session.execute(wanted.order_by(AuditEvent.id))]


def forms(page: Page) -> list[Form]:
    """Every POST form of a page, the header's aside."""
    return [form_of(Element("#", {}, [one]), page.address) for one in page.main.all("form", method="post")]


def row(page: Page, name: str) -> Element:
    (found,) = [one for one in page.main.all("tr") if name in one.text]
    return found


# --- the day


def test_the_day_tells_who_comes_when_to_whom_for_what_and_how_to_reach_them(desk: FrontDesk) -> None:
    desk.clinic.book(desk.slot(), patient=UNREACHABLE)
    page = desk.opens("/staff/desk")
    assert page.status == 200
    assert page.heading == "Today, Monday, November 23 · Springfield"
    cells = [one.text for one in row(page, "Ulla").inside if isinstance(one, Element)]
    assert [cells[0], cells[2], cells[3], cells[4]] == [
        "10:00 AM – 11:00 AM",
        "Ana Abbott",
        "Evaluation",
        "(217) 555-0142",
    ]
    assert cells[1] == "Ulla Unreached Spanish"
    assert cells[5].startswith("Booked")
    assert "It is 9:00 AM" in page.main.text
    assert "9:00 AM – 10:00 AM, 11:00 AM – 5:00 PM" in page.main.one("dl", class_="free").text


def test_another_day_and_an_empty_one(desk: FrontDesk) -> None:
    page = desk.opens("/staff/desk?day=2026-11-22")
    assert page.heading == "Yesterday, Sunday, November 22 · Springfield"
    assert "No visits on this day." in page.main.text
    assert desk.opens("/staff/desk?day=2027-01-05").heading == "Tuesday, January 5, 2027 · Springfield"
    assert page.follow("›The day after").heading.startswith("Today, ")


def test_a_visit_is_marked_in_one_tap_and_back(desk: FrontDesk) -> None:
    desk.clinic.book(desk.slot())
    page = desk.opens("/staff/desk")
    (form,) = forms(page)
    page = after(desk.client, form.action, form.filled(status="arrived"))
    assert "Arrived" in row(page, "Pat Doe").one("span", class_="status").text
    assert visits(desk.clinic)[0].status == Status.ARRIVED


def test_who_should_be_here_and_is_not_stands_out(desk: FrontDesk, clock: FixedClock) -> None:
    desk.clinic.book(desk.slot())
    desk.waits(clock, 61)
    assert "Not here yet" in row(desk.opens("/staff/desk"), "Pat Doe").text


def test_locations_are_switched_where_there_are_several_and_remembered(
    desk: FrontDesk, denver: FrontDesk, app: APIFlask, engine: Engine, clock: FixedClock
) -> None:
    assert desk.opens("/staff/desk").main.all("select") == []
    boss = FrontDesk(
        desk.clinic, signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN, email="a@clinic.example")), 0
    )
    assert boss.opens("/staff/desk").heading.endswith("Denver")
    assert boss.opens("/staff/desk?location=1").heading.endswith("Springfield")
    assert boss.opens("/staff/desk").heading.endswith("Springfield")


def test_an_account_without_a_location_is_told_so(
    clinic: Clinic, app: APIFlask, engine: Engine, clock: FixedClock
) -> None:
    lost = signed_in(app, engine, clock, an_account(engine, clock, Role.FRONT_DESK, locations=[]))
    for path in ("/staff/desk", "/staff/desk/book"):
        page = look(lost, path)
        assert (page.status, "works for no location" in page.main.text) == (200, True)


# --- booking


def test_a_walk_in_is_booked_from_the_day_in_the_quarter_hour_that_runs(desk: FrontDesk, clock: FixedClock) -> None:
    clock.at += timedelta(minutes=10)
    page = desk.opens("/staff/desk").follow("Walk-in or booking")
    first = page.main.all("section", class_="moments")[0].one("ul").all("li")[0]
    assert first.text.startswith("9:00 AM now")
    page = look(desk.client, first.one("a").attributes["href"])
    assert page.heading == "Who comes?"
    page = page.follow("New patient").press("Continue", **NEW)
    assert page.heading == "Is this right?"
    assert "Not shown: the confirmation links to it" in page.main.text
    page = page.press("Book this visit")
    assert page.heading.startswith("Today, ")
    assert "It has begun, so no message is sent." in page.main.one("p", class_="said").text
    assert "Zoë O’Brien" in page.main.text
    (visit,) = visits(desk.clinic)
    assert (visit.explainer_version_id, visit.needling, visit.status) == (None, "none", Status.BOOKED)
    assert desk.clinic.keys.open(visit.note_sealed) == NEW["note"]
    assert desk.clinic.violations() == {}


def test_somebody_who_calls_is_found_and_booked_without_another_row(desk: FrontDesk) -> None:
    desk.books()
    page = desk.opens(f"/staff/desk/book/{desk.slot('Follow-up')}?type=2&q=obrien").follow(
        "This is the one: Zoë O’Brien"
    )
    assert page.heading == "Zoë O’Brien"
    assert page.form.fields["needling"] == "none"  # as they said the last time
    page = page.press("Continue", note="").press("Book this visit")
    assert "The confirmation is on its way by e-mail." in page.main.text
    assert len(patients(desk.clinic)) == 1
    assert [visit.appointment_type_id for visit in visits(desk.clinic)] == [1, 2]
    assert desk.clinic.violations() == {}


def test_who_is_looked_for_in_vain_need_not_be_typed_again(desk: FrontDesk) -> None:
    for query, field in (("Nora Newman", "name"), ("nora@example.com", "email"), ("217 555 0142", "phone")):
        page = desk.opens(f"/staff/desk/book/{desk.slot()}?type=1&q={quote(query)}")
        assert "Nobody was found." in page.main.text
        assert page.follow("New patient").form.fields[field] == query


def test_sending_a_form_twice_books_once(desk: FrontDesk) -> None:
    page = desk.opens(f"/staff/desk/book/{desk.slot()}?type=1&new=1").press("Continue", **NEW)
    for _ in range(2):
        assert page.press("Book this visit").status == 200
    assert len(visits(desk.clinic)) == 1


def test_what_was_typed_can_be_changed_and_nothing_of_it_is_lost(desk: FrontDesk) -> None:
    typed = NEW | {"phone": "217 555 0142", "birth_date": "1980-01-31", "language": "es"}
    page = desk.opens(f"/staff/desk/book/{desk.slot()}?type=1&new=1").press("Continue", **typed)
    page = page.press("Change something")
    fields = page.form.fields
    assert {name: fields[name] for name in typed} == typed | {"phone": "+12175550142"}
    page.press("Continue", name="Zoe Other").press("Book this visit")
    (patient,) = patients(desk.clinic)
    assert (patient.name, str(patient.birth_date), patient.language) == ("Zoe Other", "1980-01-31", "es")


BAD = {
    "name": [("name", ""), ("name", "x" * 201), ("name", "!!"), ("name", "a\0b")],
    "email": [("email", "nobody"), ("email", "x" * 250 + "@example.com")],
    "phone": [("phone", "12"), ("phone", "x" * 60)],
    "birth_date": [("birth_date", "yesterday"), ("birth_date", "1800-01-01"), ("birth_date", "2026-11-26")],
    "note": [("note", "x" * 501), ("note", "a\0b")],
    "needling": [("needling", "perhaps")],
    "language": [("language", "xx")],
}


@on_sqlite
@pytest.mark.parametrize(("field", "changes"), [(name, one) for name, cases in BAD.items() for one in cases], ids=str)
def test_bad_input_is_told_by_its_field_and_nothing_typed_is_lost(
    desk: FrontDesk, field: str, changes: tuple[str, str]
) -> None:
    typed = NEW | {"phone": "+12175550142"} | dict([changes])
    page = desk.opens(f"/staff/desk/book/{desk.slot()}?type=1&new=1").press("Continue", **typed)
    assert (page.status, list(page.problems)) == (422, [field])
    kept = page.form.fields
    assert {name: kept.get(name) for name in typed if name not in {field, "needling", "language"}} == {
        name: text for name, text in typed.items() if name not in {field, "needling", "language"}
    }
    assert visits(desk.clinic) == []


def test_somebody_new_can_be_reached_somehow(desk: FrontDesk) -> None:
    page = desk.opens(f"/staff/desk/book/{desk.slot()}?type=1&new=1").press("Continue", **(NEW | {"email": ""}))
    assert (page.status, page.problems) == (422, {"email": "Write an e-mail address or a phone number."})


def test_a_time_that_a_patient_is_booking_is_told_so(desk: FrontDesk) -> None:
    slot = desk.slot()
    page = desk.opens(f"/staff/desk/book/{slot}?type=1&new=1").press("Continue", **NEW)
    desk.clinic.hold(slot)
    page = page.press("Book this visit")
    assert (page.status, page.heading) == (409, "Somebody is booking this time just now")
    assert page.press(next(iter(page.form.buttons))).heading == "Is this right?"


def test_a_time_that_is_gone_meanwhile_is_told_kindly_and_nothing_typed_is_lost(desk: FrontDesk) -> None:
    slot = desk.slot()
    page = desk.opens(f"/staff/desk/book/{slot}?type=1&new=1").press("Continue", **NEW)
    desk.clinic.book(slot)
    page = page.press("Book this visit")
    assert (page.status, page.heading) == (409, "Somebody was a moment faster")
    others = list(page.form.buttons)
    assert others[0] == "Today, Monday, November 23, 11:00 AM Central Standard Time · Ana Abbott"
    page = page.press(others[0])
    assert page.heading == "Is this right?"
    assert {name: page.form.fields[name] for name in NEW} == NEW
    page.press("Book this visit")
    assert sorted(one.name for one in patients(desk.clinic)) == ["Pat Doe", "Zoë O’Brien"]
    assert desk.clinic.violations() == {}


def test_a_time_that_is_gone_before_anything_was_typed(desk: FrontDesk) -> None:
    slot = desk.slot()
    desk.clinic.book(slot)
    for query in ("type=1", "type=1&new=1"):
        page = desk.opens(f"/staff/desk/book/{slot}?{query}")
        assert page.status == 409
        assert [one for one in page.links() if "/staff/desk/book/" in one]


def test_a_patient_without_an_address_is_on_the_call_list_unless_they_were_told(desk: FrontDesk) -> None:
    desk.books(email="", phone="217 555 0142")
    assert "1 call to make" in desk.opens("/staff/desk").main.text
    page = desk.opens(f"/staff/desk/book/{desk.slot()}?type=1&new=1")
    page = page.press("Continue", **(NEW | {"email": "", "phone": "217 555 0143", "name": "Tom Told"}))
    page.press("Book this visit", told="y")
    calls = desk.opens("/staff/desk/calls").main.text
    assert "To call (1)" in calls
    assert "Told (1)" in calls
    assert "Told by Some front-desk" in calls


def test_times_are_those_of_one_location_kind_therapist_and_day(desk: FrontDesk) -> None:
    ben = desk.clinic.add_therapist("Ben Becker")
    desk.clinic.add_hours(ben, 1)
    desk.clinic.plan()
    page = desk.opens(f"/staff/desk/book?type=2&therapist={ben}&from=2026-11-25")
    assert page.main.all("section", class_="moments")[0].one("h2").text == "Wednesday, November 25"
    people = {one.text.rpartition(", ")[2] for one in page.main.all("a") if "/desk/book/" in one.attributes["href"]}
    assert people == {"Springfield, Ben Becker".rpartition(", ")[2]}
    both = desk.opens("/staff/desk/book?type=2&from=2026-11-25")
    first = both.main.all("section", class_="moments")[0].one("ul").all("li")[0]
    assert [one.text.rpartition(", ")[2] for one in first.all("a")] == ["Ana Abbott", "Ben Becker"]
    later = both.follow("More times, later")
    assert later.status == 200
    seen = {one for page in (both, later) for one in page.links() if "/desk/book/" in one}
    assert len(seen) == sum(len({one for one in page.links() if "/desk/book/" in one}) for page in (both, later))


@on_sqlite
def test_times_with_who_speaks_a_language_are_found(desk: FrontDesk) -> None:
    assert not desk.opens("/staff/desk/book").main.all("select", id="language")  # all speak but one
    ben = desk.clinic.add_therapist("Ben Brown")
    desk.clinic.add_hours(ben, 1)
    with transaction(desk.clinic.engine) as session:
        session.add(TherapistLanguage(therapist_id=ben, language="es"))
    desk.clinic.plan()
    page = desk.opens("/staff/desk/book?language=es")
    for shown in (page, page.follow("More times, later")):
        options = shown.main.one("select", id="language").all("option")
        assert [one.text for one in options if "selected" in one.attributes] == ["Spanish"]
        starts = [link for link in shown.links() if "/desk/book/" in link]
        assert {link.rpartition("/")[2].split("-")[0] for link in starts} == {str(ben)}
    assert desk.opens("/staff/desk/book?language=spanish").status == 422


def test_staff_see_times_where_patients_cannot_book(desk: FrontDesk) -> None:
    with transaction(desk.clinic.engine) as session:
        session.execute(update(Location).values(online=False))
    assert desk.opens("/staff/desk/book").main.all("section", class_="moments")


# --- calling off


def test_a_visit_is_canceled_by_phone_after_asking(desk: FrontDesk) -> None:
    desk.clinic.book(desk.slot())
    page = desk.opens("/staff/desk").follow("Cancel: 10:00 AM, Pat Doe")
    assert page.heading == "Cancel this visit?"
    assert visits(desk.clinic)[0].status == Status.BOOKED
    page = page.press("Yes, cancel it", reason="Has the flu")
    assert "Its time is free again." in page.main.text
    assert "1 canceled visit" in page.main.text
    (visit,) = visits(desk.clinic)
    assert visit.status == Status.CANCELLED
    assert desk.clinic.keys.open(visit.cancel_reason_sealed) == "Has the flu"
    assert desk.opens(f"/staff/desk/visits/{visit.id}/cancel").main.text.find("canceled already") > 0
    assert desk.clinic.violations() == {}


def test_a_reason_that_cannot_be_stored_is_told_and_kept(desk: FrontDesk) -> None:
    visit = desk.clinic.book(desk.slot()).appointment
    page = desk.opens(f"/staff/desk/visits/{visit.id}/cancel").press("Yes, cancel it", reason="x" * 501)
    assert (page.status, list(page.problems), page.form.fields["reason"]) == (422, ["reason"], "x" * 501)


def test_a_visit_that_has_begun_is_not_canceled(desk: FrontDesk, clock: FixedClock) -> None:
    desk.clinic.book(desk.slot())
    page = desk.opens("/staff/desk").follow("Cancel: 10:00 AM, Pat Doe")
    desk.waits(clock, 61)
    page = desk.posts(urlsplit(page.address).path)
    assert page.status == 409
    assert "has begun or is over" in page.main.text
    assert visits(desk.clinic)[0].status == Status.BOOKED


# --- patients


def test_patients_are_found_and_each_who_is_shown_is_audited(desk: FrontDesk) -> None:
    desk.books()
    before = len(reads(desk.clinic))
    page = desk.opens("/staff/desk/patients?q=OBRIEN+zoe")
    assert "Zoë O’Brien" in page.main.text
    assert "Visit ahead: November 23, 2026, Springfield" in page.main.text
    (patient,) = patients(desk.clinic)
    assert reads(desk.clinic)[before:] == [(patient.id.hex, f"account:{desk.account_id}")]
    page = page.follow("Zoë O’Brien")
    assert "zoe@example.com" in page.main.text
    assert len(reads(desk.clinic)) == before + 2
    page = page.follow("Book a visit")
    assert "For Zoë O’Brien" in page.main.text
    chosen = next(one for one in page.links() if "/desk/book/" in one)
    assert look(desk.client, chosen).heading == "Zoë O’Brien"


@on_sqlite
@pytest.mark.parametrize("asked", ["%", "_", "'", "\"'); --", "🦴", "x" * 500, "zoe%", "<script>alert(1)</script>"])
def test_hostile_words_find_nobody_and_are_shown_as_they_are(desk: FrontDesk, asked: str) -> None:
    desk.books()
    page = desk.opens(f"/staff/desk/patients?q={quote(asked)}")
    assert page.status == 200
    assert "zoe@example.com" not in page.main.text
    assert page.tree.all("script", src="") == []
    assert page.main.one("input", name="q").attributes["value"] == asked


def test_more_patients_than_a_page_holds(desk: FrontDesk) -> None:
    for number in range(25):
        details = PatientDetails(f"Same Name {number}", "same@example.com", None, None, "en", True, False)
        desk.clinic.book(desk.slot("Needling"), "Needling", patient=details)
    page = desk.opens("/staff/desk/patients?q=same")
    more = page.follow("More patients")
    assert [len(one.main.one("ul", class_="people").all("li")) for one in (page, more)] == [20, 5]
    assert not [one for one in more.tree.all("a") if one.text == "More patients"]


# --- calls


def fail(desk: FrontDesk, kind: Kind = Kind.CONFIRMATION, reason: str = "550 no <b>such</b> user") -> UUID:
    with transaction(desk.clinic.engine) as session:
        message = session.scalars(select(OutboxMessage).where(OutboxMessage.kind == kind)).first()
        assert message is not None
        message.status, message.reason = Fate.FAILED, reason
        return message.id


def test_a_call_is_ticked_and_unticked(desk: FrontDesk) -> None:
    desk.clinic.book(desk.slot(), patient=UNREACHABLE)
    page = desk.opens("/staff/desk/calls")
    assert ("Ulla Unreached" in page.main.text, "No e-mail address" in page.main.text) == (True, True)
    page = press(page, "Told")
    assert "To call (0)" in page.main.text
    page = press(page, "Undo")
    assert "To call (1)" in page.main.text


def press(page: Page, beginning: str) -> Page:
    """Press the one button of the page whose words begin so."""
    ((form, words),) = [
        (form, words) for form in forms(page) for words in form.buttons if words.lstrip("☐☑ ").startswith(beginning)
    ]
    button = form.buttons[words]
    chosen = {button["name"]: button["value"]} if "name" in button else {}
    return after(page.client, form.action, form.filled() | chosen)


def test_a_failed_message_is_shown_with_its_reason_and_owed_anew(desk: FrontDesk) -> None:
    desk.clinic.book(desk.slot())
    message_id = fail(desk)
    page = desk.opens("/staff/desk/calls")
    assert "Confirmation to pat@example.com: 550 no <b>such</b> user" in page.main.text
    assert "To call (1)" in page.main.text
    page = press(page, "Try again")
    assert "Messages that failed (0)" in page.main.text
    with reading(desk.clinic.engine) as session:
        assert session.get_one(OutboxMessage, message_id).status == Fate.OWED
    assert desk.clinic.violations() == {}


def test_what_changed_meanwhile_is_told_and_nothing_is_done(desk: FrontDesk) -> None:
    desk.clinic.book(desk.slot(), patient=UNREACHABLE)
    desk.clinic.book(desk.slot())
    message_id = fail(desk)
    page = desk.opens("/staff/desk/calls")
    with transaction(desk.clinic.engine) as session:
        session.execute(update(Appointment).values(visit_version=2))
    answer = press(page, "Told: Ulla")
    assert (answer.status, "changed meanwhile" in answer.main.text) == (409, True)
    again = desk.posts(f"/staff/desk/messages/{message_id}/try-again")
    assert (again.status, "changed meanwhile" in again.main.text) == (409, True)
    with reading(desk.clinic.engine) as session:
        assert rows(session, Told) == []


# --- foreign things, bad addresses, other people


def test_what_is_foreign_is_not_found_and_unchanged(desk: FrontDesk, denver: FrontDesk) -> None:
    booked = desk.clinic.book(desk.slot(), patient=UNREACHABLE).appointment
    desk.clinic.book(desk.slot())
    message_id = fail(desk)
    slot = desk.slot()
    before = reads(desk.clinic)
    gets = [
        "/staff/desk?location=1",
        "/staff/desk/book?location=1",
        f"/staff/desk/book/{slot}?type=1",
        f"/staff/desk/book/{slot}?type=1&new=1",
        f"/staff/desk/book/{denver.slot(location_id=2)}?type=1&patient={booked.patient_id}",
        f"/staff/desk/book?patient={booked.patient_id}",
        f"/staff/desk/visits/{booked.id}/cancel",
        f"/staff/desk/patients/{booked.patient_id}",
        f"/staff/desk/patients/{uuid4()}",
        f"/staff/desk/visits/{uuid4()}/cancel",
        "/staff/desk/book/nowhere",
        "/staff/desk/book/999-2-1994800?type=1",
        f"/staff/desk/patients?q=x&after={uuid4()}",
    ]
    assert {path: denver.client.get(path).status_code for path in gets} == dict.fromkeys(gets, 404)
    posts: dict[str, dict[str, str]] = {
        f"/staff/desk/visits/{booked.id}/cancel": {},
        f"/staff/desk/visits/{booked.id}/told": {"told": "yes", "stands": "1-booked"},
        f"/staff/desk/messages/{message_id}/try-again": {},
        f"/staff/desk/book/{slot}?type=1&new=1": {**NEW, "language": "en", "step": "book"},
        f"/staff/desk/book/{denver.slot(location_id=2)}?type=1&patient={booked.patient_id}": {
            "needling": "open",
            "step": "book",
        },
    }
    answers = {
        path: denver.client.post(path, data={"csrf_token": denver.token(), **data}) for path, data in posts.items()
    }
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(posts, 404)
    assert [one.status for one in visits(desk.clinic)] == [Status.BOOKED] * 2
    assert reads(desk.clinic) == before
    with reading(desk.clinic.engine) as session:
        assert rows(session, Told) == []
        assert session.get_one(OutboxMessage, message_id).status == Fate.FAILED


BAD_ADDRESSES = {
    "/staff/desk?day=tomorrow": "day",
    "/staff/desk?day=2026-02-30": "day",
    "/staff/desk?day=0001-01-01": "day",
    "/staff/desk?location=here": "location",
    "/staff/desk/book?type=99": "type",
    "/staff/desk/book?type=x": "type",
    "/staff/desk/book?therapist=99": "therapist",
    "/staff/desk/book?from=soon": "from",
    "/staff/desk/book?after=x": "after",
    "/staff/desk/book?day_part=noon": "day_part",
    "/staff/desk/book?weekday=someday": "weekday",
    "/staff/desk/book?patient=x": "patient",
    "/staff/desk/patients?q=x&after=x": "after",
}


def test_an_address_that_makes_no_sense_is_told_by_its_field(desk: FrontDesk) -> None:
    found = {path: desk.opens(path) for path in BAD_ADDRESSES}
    assert {path: page.status for path, page in found.items()} == dict.fromkeys(BAD_ADDRESSES, 422)
    assert all(BAD_ADDRESSES[path] in page.main.text for path, page in found.items())


def test_therapists_have_no_front_desk(clinic: Clinic, app: APIFlask, engine: Engine, clock: FixedClock) -> None:
    own = signed_in(app, engine, clock, an_account(engine, clock, Role.THERAPIST, therapist_id=1))
    for path in ("/staff/desk", "/staff/desk/book", "/staff/desk/patients", "/staff/desk/calls"):
        assert own.get(path).status_code == 404


def test_a_post_without_its_token_does_nothing(desk: FrontDesk) -> None:
    booked = desk.clinic.book(desk.slot()).appointment
    for path in (
        f"/staff/desk/visits/{booked.id}/cancel",
        f"/staff/desk/visits/{booked.id}/told",
        f"/staff/desk/messages/{uuid4()}/try-again",
        f"/staff/desk/book/{desk.slot()}?type=1&new=1",
    ):
        assert desk.client.post(path, data={**NEW, "language": "en", "step": "book"}).status_code == 400
    assert [one.status for one in visits(desk.clinic)] == [Status.BOOKED]


# --- at any size, and in every field


def test_the_pages_run_as_many_statements_at_any_size(desk: FrontDesk, engine: Engine) -> None:
    first = desk.clinic.book(desk.slot(), patient=UNREACHABLE).appointment
    paths = {
        "/staff/desk": 10,
        "/staff/desk/patients?q=e": 10,
        "/staff/desk/calls": 10,
        "/staff/desk/book": 12,
        f"/staff/desk/patients/{first.patient_id}": 10,
    }

    def counts() -> dict[str, int]:
        found = {}
        for path in paths:
            desk.opens("/staff/account/")  # who is signed in is known from here on
            with statements(engine) as seen:
                assert desk.client.get(path).status_code == 200
            found[path] = len(seen)
        return found

    counts()  # whom somebody has just looked at is not put on record anew
    small = counts()
    for name in ("Ben Becker", "Cy Cole"):
        desk.clinic.add_hours(desk.clinic.add_therapist(name), 1)
    desk.clinic.plan()
    for number in range(10):
        details = PatientDetails(f"Pete {number}", None, "+12175550142", None, "en", False, False)
        desk.clinic.book(desk.slot("Needling"), "Needling", patient=details)
    counts()
    assert counts() == small
    assert {path: count for path, count in small.items() if count > paths[path]} == {}


SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 1234 * 1000 }}"


def test_scripts_in_every_field_are_words(desk: FrontDesk) -> None:
    details = PatientDetails(SCRIPT, None, "+12175550142", None, "en", False, False)
    desk.clinic.book(desk.slot(), patient=details, note=SCRIPT)
    (patient,), (visit,) = patients(desk.clinic), visits(desk.clinic)
    for path in (
        "/staff/desk",
        "/staff/desk/calls",
        "/staff/desk/patients?q=script",
        f"/staff/desk/patients?q={quote(SCRIPT)}",
        f"/staff/desk/patients/{patient.id}",
        f"/staff/desk/visits/{visit.id}/cancel",
        f"/staff/desk/book?patient={patient.id}",
        f"/staff/desk/book/{desk.slot()}?type=1&patient={patient.id}",
        f"/staff/desk/book/{desk.slot()}?type=1&q={quote(SCRIPT)}",
    ):
        page = desk.opens(path)
        assert page.status == 200
        assert re.search(r"<script>alert|<img src=x|1234000", page.html) is None, path
        assert page.main.all("script") == []
