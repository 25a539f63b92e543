"""Moving a visit over HTTP: by its link's pages, by the API, and at the front desk."""

from datetime import timedelta

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import Appointment, AppointmentType, Kind, OutboxMessage, Role, Status
from scheduler.services import visits
from scheduler.services.booking import PatientDetails, Visit
from tests.clinic import Clinic, rows
from tests.web.pages import look
from tests.web.staff import an_account, signed_in
from tests.web.test_limits import everything

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
API = "/api/v1"


@pytest.fixture
def visit(clinic: Clinic) -> Visit:
    return clinic.book(str(clinic.offers()[8].slot))


def stored(clinic: Clinic, visit: Visit) -> Appointment:
    with reading(clinic.engine) as session:
        return visits.find(session, visit.appointment.id)


# --- the pages behind a link


@pytest.mark.parametrize("language", ["en", "es"])
def test_a_visit_is_moved_by_its_link_page_by_page(
    client: FlaskClient, clinic: Clinic, visit: Visit, language: str
) -> None:
    named = {
        "en": ("Move this visit", "Choose a new time", "Move your visit?", "Yes, move it", "Your visit is moved"),
        "es": ("Mover esta visita", "Elija una nueva hora", "¿Mover su visita?", "Sí, moverla", "Su visita se movió"),
    }
    move, choose, check, yes, done = named[language]
    times = look(client, f"/appointments/{visit.token}?lang={language}").follow(move)
    assert times.heading == choose
    wanted = str(clinic.offers()[40].slot)
    address = f"/appointments/{visit.token}/move/{wanted}"
    assert address in [a.attributes["href"].partition("?")[0] for a in times.main.all("a")]
    asked = look(client, f"{address}?lang={language}")
    assert asked.heading == check
    assert asked.press(yes).heading == done
    found = stored(clinic, visit)
    assert (str(clinic.offers()[40].slot) != wanted, found.visit_version) == (True, 2)
    assert clinic.violations() == {}


def test_the_times_are_those_of_the_same_therapist_and_place_unless_others_are_wished(
    client: FlaskClient, clinic: Clinic, visit: Visit
) -> None:
    other, place = clinic.add_therapist("Ben Boyd"), clinic.add_location("Chatham")
    clinic.add_hours(other, place)
    clinic.plan()

    def who(query: str) -> set[str]:
        found = look(client, f"/appointments/{visit.token}/move{query}").main.all("a")
        slots = (one.attributes["href"].rpartition("/")[2] for one in found if "/move/" in one.attributes["href"])
        return {slot.partition("-")[0] for slot in slots}

    assert who("") == {"1"}
    assert who("?location=&therapist=") == {"1", str(other)}
    assert who(f"?location={place}&therapist={other}") == {str(other)}
    assert who(f"?location=1&therapist={other}") == set()


def test_looking_at_a_move_changes_no_row(client: FlaskClient, clinic: Clinic, visit: Visit) -> None:
    """A mail scanner follows every link there is, several times."""
    slot = clinic.offers()[40].slot
    before = everything(clinic.engine)
    for method in ("GET", "HEAD", "OPTIONS") * 3:
        for under in ("", "/move", f"/move/{slot}", "/move?location=&therapist=", "/move/1-1-1"):
            assert client.open(f"/appointments/{visit.token}{under}", method=method).status_code < 500
    assert everything(clinic.engine) == before


def test_a_time_that_is_gone_leaves_the_visit_and_offers_others(
    client: FlaskClient, clinic: Clinic, visit: Visit
) -> None:
    wanted = str(clinic.offers()[40].slot)
    asked = look(client, f"/appointments/{visit.token}/move/{wanted}")
    clinic.book(wanted)
    before = everything(clinic.engine)
    gone = asked.press("Yes, move it")
    assert (gone.status, gone.heading) == (409, "Somebody was a moment faster")
    assert "Your visit stays as it is" in gone.main.text
    assert look(client, f"/appointments/{visit.token}/move/{wanted}").status == 409
    assert everything(clinic.engine) == before
    others = [a.attributes["href"] for a in gone.main.all("a", class_="btn")]
    assert len(others) == 3
    assert look(client, others[0]).press("Yes, move it").heading == "Your visit is moved"


def test_a_time_that_left_the_plan_is_told_as_gone_and_a_text_that_is_none_as_unknown(
    client: FlaskClient, visit: Visit
) -> None:
    assert client.post(f"/appointments/{visit.token}/move/1-1-1999999").status_code == 409
    assert client.post(f"/appointments/{visit.token}/move/tomorrow").status_code == 422
    assert client.get(f"/appointments/{visit.token}/move/tomorrow").status_code == 422
    assert client.get(f"/appointments/{visit.token}/move?therapist=x").status_code == 422
    assert client.get("/appointments/unknown/move").status_code == 404
    assert client.post("/appointments/unknown/move/1-1-1").status_code == 404


@pytest.mark.parametrize("state", ["cancelled", "begun", "not offered"])
def test_a_visit_that_cannot_be_moved_says_so_and_what_to_do(
    client: FlaskClient, clinic: Clinic, clock: FixedClock, visit: Visit, state: str
) -> None:
    wanted = str(clinic.offers()[60].slot)
    if state == "cancelled":
        clinic.cancel(visit.token)
    if state == "begun":
        clock.at = visit.appointment.starts_at + timedelta(minutes=1)
    if state == "not offered":
        with transaction(clinic.engine) as session:
            session.execute(update(AppointmentType).values(active=False))
    before = everything(clinic.engine)
    for under in ("move", f"move/{wanted}"):
        page = look(client, f"/appointments/{visit.token}/{under}")
        assert page.heading == "This visit can no longer be moved here"
        next_step = "Find another time" if state == "cancelled" else "Call us"
        assert next_step in page.main.text
    assert client.post(f"/appointments/{visit.token}/move/{wanted}").status_code == 409
    assert everything(clinic.engine) == before


@on_sqlite
def test_another_sites_page_cannot_move_a_visit(client: FlaskClient, clinic: Clinic, visit: Visit) -> None:
    address = f"/appointments/{visit.token}/move/{clinic.offers()[40].slot}"
    assert client.post(address, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get(address).headers["Cache-Control"] == "no-store"


# --- the API


def reschedule(client: FlaskClient, token: str, **body: object) -> tuple[int, dict[str, object]]:
    answer = client.post(f"{API}/appointments/{token}/reschedule", json=body)
    return answer.status_code, answer.get_json()


def test_a_program_moves_a_visit_and_may_say_so_twice(client: FlaskClient, clinic: Clinic, visit: Visit) -> None:
    wanted = str(clinic.offers()[40].slot)
    first = reschedule(client, visit.token, slot=wanted)
    assert first == (200, client.get(f"{API}/appointments/{visit.token}").get_json())
    before = everything(clinic.engine)
    assert reschedule(client, visit.token, slot=wanted) == first
    assert everything(clinic.engine) == before


def test_a_program_that_is_too_late_is_told_with_alternatives(
    client: FlaskClient, clinic: Clinic, visit: Visit
) -> None:
    wanted = str(clinic.offers()[40].slot)
    clinic.book(wanted)
    before = everything(clinic.engine)
    status, problem = reschedule(client, visit.token, slot=wanted)
    assert (status, str(problem["type"]).rpartition("#")[2]) == (409, "slot-taken")
    listed = client.get(f"{API}/slots", query_string={"appointment_type": 1, "limit": 200}).get_json()["items"]
    assert len(problem["alternatives"]) == 3  # type: ignore[arg-type] # a list
    assert all(one in listed for one in problem["alternatives"])  # type: ignore[attr-defined]
    assert everything(clinic.engine) == before


def test_a_program_cannot_move_what_is_over_or_unknown(client: FlaskClient, clinic: Clinic, visit: Visit) -> None:
    wanted = str(clinic.offers()[40].slot)
    assert reschedule(client, "unknown", slot=wanted)[0] == 404
    for wrong in ({"slot": "x"}, {"slot": 1}, {}, {"slot": wanted, "therapist": "1"}, {"slot": "1-1-1999999"}):
        status, problem = reschedule(client, visit.token, **wrong)
        assert (status, len(problem["errors"])) == (422, 1), wrong  # type: ignore[arg-type]
    clinic.cancel(visit.token)
    status, problem = reschedule(client, visit.token, slot=wanted)
    assert (status, str(problem["type"]).rpartition("#")[2]) == (409, "visit-closed")


def test_a_program_shows_the_hold_that_it_has(client: FlaskClient, clinic: Clinic, visit: Visit) -> None:
    wanted = str(clinic.offers()[40].slot)
    hold = client.post(f"{API}/holds", json={"slot": wanted, "appointment_type": "1"}).get_json()["hold"]
    assert reschedule(client, visit.token, slot=wanted)[0] == 409
    assert reschedule(client, visit.token, slot=wanted, hold=hold)[0] == 200
    assert clinic.violations() == {}


# --- the front desk


@pytest.fixture
def desk(app: APIFlask, clinic: Clinic, clock: FixedClock) -> FlaskClient:
    return signed_in(app, clinic.engine, clock, an_account(clinic.engine, clock, Role.FRONT_DESK, locations=[1]))


def test_the_desk_moves_a_visit_and_the_old_link_says_that_a_new_one_was_sent(
    client: FlaskClient, desk: FlaskClient, clinic: Clinic, visit: Visit
) -> None:
    wanted = str(clinic.offers()[40].slot)
    times = look(desk, f"/staff/visits/{visit.appointment.id}").follow("Move this visit")
    assert times.heading == "Move the visit of Pat Doe"
    asked = look(desk, f"/staff/desk/visits/{visit.appointment.id}/move?slot={wanted}")
    assert "a new link" in asked.main.text
    done = asked.press("Move it")
    assert "The visit is moved" in done.main.text
    assert "Moved" in done.main.text
    assert (stored(clinic, visit).link_generation, stored(clinic, visit).visit_version) == (2, 2)
    for under in ("", "/cancel", "/move", f"/move/{wanted}", "/visit.ics"):
        old = look(client, f"/appointments/{visit.token}{under}")
        assert (old.status, old.heading) == (200, "We sent you a new link")
    before = everything(clinic.engine)
    assert client.post(f"/appointments/{visit.token}/cancel").status_code == 410
    assert client.post(f"/appointments/{visit.token}/move/{wanted}").status_code == 410
    assert client.get(f"{API}/appointments/{visit.token}").status_code == 404
    assert client.post(f"{API}/appointments/{visit.token}/cancel", json={}).status_code == 404
    assert everything(clinic.engine) == before
    with reading(clinic.engine) as session:
        owed = [one.kind for one in rows(session, OutboxMessage) if one.status == "owed" and one.offset_minutes == 0]
    assert owed == [Kind.MOVED]


def test_the_desk_is_told_of_a_time_that_is_gone(desk: FlaskClient, clinic: Clinic, visit: Visit) -> None:
    wanted, address = str(clinic.offers()[40].slot), f"/staff/desk/visits/{visit.appointment.id}/move"
    asked = look(desk, f"{address}?slot={wanted}")
    clinic.book(wanted)
    gone = asked.press("Move it")
    assert (gone.status, "The visit stays where it is." in gone.main.text) == (409, True)
    assert look(desk, f"{address}?slot={wanted}").status == 409
    assert desk.get(f"{address}?slot=1-1-1").status_code == 404
    assert desk.get(f"{address}?slot=x").status_code == 404
    clinic.cancel(visit.token)
    assert look(desk, f"{address}?slot={clinic.offers()[60].slot}").status == 409
    assert stored(clinic, visit).status == Status.CANCELLED


def test_the_desk_ticks_that_somebody_without_an_address_knows_of_the_move(desk: FlaskClient, clinic: Clinic) -> None:
    by_phone = PatientDetails("Pat Doe", None, "+1 312 555 0142", None, "en", False, False)
    visit, wanted = clinic.book(str(clinic.offers()[8].slot), patient=by_phone), str(clinic.offers()[40].slot)
    asked = look(desk, f"/staff/desk/visits/{visit.appointment.id}/move?slot={wanted}")
    asked.press("Move it", told="y")
    assert [one.text for one in look(desk, "/staff/desk/calls").main.all("h3")] == []
    assert stored(clinic, visit).link_generation == 1


def test_a_therapist_and_another_places_desk_move_nothing(
    app: APIFlask, clinic: Clinic, clock: FixedClock, visit: Visit
) -> None:
    elsewhere = clinic.add_location("Chatham")
    accounts = (
        an_account(clinic.engine, clock, Role.THERAPIST, therapist_id=1, email="t@clinic.example"),
        an_account(clinic.engine, clock, Role.FRONT_DESK, locations=[elsewhere], email="d@clinic.example"),
    )
    for account in accounts:
        browser = signed_in(app, clinic.engine, clock, account)
        assert browser.get(f"/staff/desk/visits/{visit.appointment.id}/move").status_code == 404


# --- what the clinic asks of whoever cannot come


NOTICE = "please move or cancel your visit at least 24 hours before it begins"
LATE = "the clinic notes it as a late cancellation"


def test_the_policy_is_said_before_booking_and_before_cancelling(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    far, near = clinic.book(str(clinic.offers()[100].slot)), clinic.book(str(clinic.offers()[0].slot))
    details, cancel = f"/book/{clinic.offers()[40].slot}", f"/appointments/{far.token}/cancel"
    assert all(NOTICE in look(client, address).main.text for address in (details, cancel))
    assert LATE not in look(client, cancel).main.text
    assert LATE in look(client, f"/appointments/{near.token}/cancel").main.text
    clinic.policy(cancel_notice_hours=0)
    for address in (details, cancel, f"/appointments/{near.token}/cancel"):
        assert "the clinic notes it" not in look(client, address).main.text


def test_the_desk_says_whether_the_patient_called_off_late_and_sees_how_often(
    desk: FlaskClient, clinic: Clinic, visit: Visit
) -> None:
    patient = f"/staff/desk/patients/{visit.appointment.patient_id}"
    assert "late cancellation" not in look(desk, patient).main.text
    address = f"/staff/desk/visits/{visit.appointment.id}/cancel"
    look(desk, address).press("Yes, cancel it", late="y")
    assert "1 late cancellation, 0 no-shows" in look(desk, patient).main.text
    assert "Canceled, late" in look(desk, f"/staff/visits/{visit.appointment.id}").main.text
    far = clinic.book(str(clinic.offers()[100].slot))
    assert "count it as late" not in look(desk, f"/staff/desk/visits/{far.appointment.id}/cancel").main.text


def test_a_cancelled_visits_link_says_so_and_where_to_book_and_revives_nothing(
    client: FlaskClient, clinic: Clinic, visit: Visit
) -> None:
    clinic.cancel(visit.token)
    before = everything(clinic.engine)
    page = look(client, f"/appointments/{visit.token}")
    assert page.heading == "Your visit is canceled"
    assert [a.text for a in page.main.all("a", class_="btn")] == ["Find another time"]
    assert page.main.all("form") == []
    wanted = clinic.offers()[40].slot
    client.post(f"/appointments/{visit.token}/cancel")
    client.post(f"/appointments/{visit.token}/move/{wanted}")
    client.get(f"/appointments/{visit.token}/visit.ics")
    reschedule(client, visit.token, slot=str(wanted))
    assert everything(clinic.engine) == before


def test_the_desk_takes_a_cancellation_back_if_the_time_is_still_free(
    client: FlaskClient, desk: FlaskClient, clinic: Clinic, visit: Visit
) -> None:
    page = f"/staff/visits/{visit.appointment.id}"
    assert "Undo the cancellation" not in look(desk, page).main.text
    clinic.cancel(visit.token)
    back = look(desk, page).press("Undo the cancellation")
    assert "The visit is booked again." in back.main.text
    assert "Cancellation undone" in back.main.text
    assert look(client, f"/appointments/{visit.token}").heading == "We sent you a new link"
    again = clinic.book(str(clinic.offers()[40].slot))
    asked = look(desk, f"/staff/visits/{again.appointment.id}")
    clinic.cancel(again.token)
    asked = look(desk, f"/staff/visits/{again.appointment.id}")
    clinic.book(f"1-1-{int(again.appointment.starts_at.timestamp()) // 900}")
    assert "stays canceled" in asked.press("Undo the cancellation").main.text
    assert stored(clinic, again).status == Status.CANCELLED
    assert clinic.violations() == {}
