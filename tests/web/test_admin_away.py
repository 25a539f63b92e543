"""The administrators' pages of closures, public holidays and time off."""

from datetime import date

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import AuditEvent, Closure, Role, TimeOff, TimeOffStatus
from scheduler.services import time_away
from scheduler.services.audit import Actor
from scheduler.services.time_away import OffDetails
from tests.clinic import Clinic
from tests.services.test_time_away import CHRISTMAS, booked, close, free, give, on
from tests.web.pages import Element, Page, after, form_of, look
from tests.web.staff import an_account, csrf_token, signed_in

EVE = date(2026, 12, 24)


@pytest.fixture
def admin(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))


@pytest.fixture
def of_denver(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    """An administrator of another place, at which Ana Abbott of Springfield works on Saturdays, and Ben always."""
    denver = clinic.add_location("Denver", "America/Denver", "IL")
    clinic.add_hours(1, denver, weekdays=[5])
    clinic.add_hours(clinic.add_therapist("Ben Becker"), denver, weekdays=[0, 1, 2, 3, 4])
    clinic.plan()
    return signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN, locations=[denver]))


def asked(clinic: Clinic, day: date = EVE, therapist: int = 1, note: str | None = None) -> int:
    with transaction(clinic.engine) as session:
        wish = OffDetails(day, 0, day, 24 * 60, note)
        return time_away.ask(session, therapist, wish, by=Actor("test"), now=clinic.clock.now()).id


def stands(engine: Engine, time_off_id: int) -> str:
    with reading(engine) as session:
        return session.get_one(TimeOff, time_off_id).status


def test_a_closure_is_entered_changed_and_taken_back(admin: FlaskClient, clinic: Clinic) -> None:
    form = look(admin, "/admin/").follow("Closures").follow("Add a closure")
    assert form.form.fields["places"] == "1"  # the only one there is
    page = form.press("Save", starts_on="2026-12-24", starts="12:00", ends_on="2026-12-25", reason="Christmas")
    told = [[cell.text for cell in row.all("td")] for row in page.main.all("tr")[1:]]
    assert told == [["0", "53"], ["0", "54"], ["0", "55"]]
    page = page.agrees()
    assert page.heading == "Closures"
    assert "Thursday, December 24, 2026, 12:00 PM to Friday, December 25, 2026 Springfield Christmas" in page.main.text
    assert on(free(clinic), EVE) == ["08:00–12:00"]
    edit = page.follow("Thursday, December 24, 2026, 12:00 PM to Friday, December 25, 2026")
    assert edit.heading == "Closure of Springfield"
    page = save(edit, starts="", ends="10:00", ends_on="2026-12-24").agrees()
    assert "Thursday, December 24, 2026, 12:00 AM to 10:00 AM Springfield" in page.main.text
    assert on(free(clinic), EVE) == ["10:00–17:00"]
    edit = page.follow("Thursday, December 24, 2026, 12:00 AM to 10:00 AM")
    (remove,) = [one for one in edit.tree.all("form") if one.attributes.get("action", "").endswith("/remove")]
    page = after(admin, remove.attributes["action"], {"csrf_token": csrf_token(admin)}).agrees()
    assert "None yet." in page.main.text
    assert on(free(clinic), EVE) == ["08:00–17:00"]
    assert clinic.violations() == {}


@pytest.mark.parametrize(
    ("typed", "field", "said"),
    [
        ({"places": None}, "places", "Choose at least one location."),
        ({"places": "7"}, "places", "Choose from the list."),
        ({"starts_on": ""}, "starts_on", "Write a day like 2026-11-23."),
        ({"starts_on": "2026-02-30"}, "starts_on", "Write a day like 2026-11-23."),
        ({"starts": "8 am"}, "starts", "Write a time like 09:00."),
        ({"ends": "09:10"}, "ends", "Times begin and end on the quarter hour, like 09:15."),
        ({"ends_on": "2026-12-23"}, "ends_on", "This is before it starts."),
        ({"ends_on": "2028-12-24"}, "ends_on", "This is longer than a year."),
        ({"starts_on": "2026-11-01", "ends_on": "2026-11-22"}, "ends_on", "This has passed."),
        ({"reason": " "}, "reason", "Say why, in at most 200 characters."),
        ({"reason": "x" * 201}, "reason", "Say why, in at most 200 characters."),
    ],
)
def test_what_is_wrong_is_told_at_its_field_and_nothing_is_stored(
    admin: FlaskClient, engine: Engine, typed: dict[str, str | None], field: str, said: str
) -> None:
    sound: dict[str, str | None] = {"starts_on": "2026-12-24", "ends_on": "2026-12-24", "reason": "Christmas"}
    page = look(admin, "/admin/closures/new").press("Save", **(sound | typed))
    assert (page.status, page.problems) == (422, {field: said})
    with reading(engine) as session:
        assert session.scalars(select(Closure)).all() == []


def test_visits_then_are_listed_before_it_is_saved(admin: FlaskClient, clinic: Clinic, engine: Engine) -> None:
    booked(clinic, EVE)
    ask = look(admin, "/admin/closures/new").press(
        "Save", starts_on="2026-12-24", ends_on="2026-12-24", reason="Christmas"
    )
    assert ask.heading == "This changes 1 booked visit"
    assert "The location is closed then" in ask.main.text
    assert on(free(clinic), EVE) != []
    back = ask.press("Back to the form")
    assert (back.form.fields["reason"], back.form.fields["starts_on"]) == ("Christmas", "2026-12-24")
    page = ask.press("Save all the same")
    assert page.heading == "Visits to move"
    assert "The location is closed then" in page.main.text
    assert on(free(clinic), EVE) == []
    with reading(engine) as session:
        assert session.scalars(select(Closure)).one().reason == "Christmas"


def test_what_two_change_at_once_is_shown_with_both_values(admin: FlaskClient, clinic: Clinic) -> None:
    close(clinic)
    mine, theirs = (look(admin, "/admin/closures/1") for _ in range(2))
    save(theirs, reason="Yule")
    page = save(mine, reason="Snow")
    assert page.status == 409
    assert "Yule" in page.main.text
    assert save(page).heading == "Closures"


def test_holidays_of_the_states_are_offered_until_one_closes_on_them(
    admin: FlaskClient, clinic: Clinic, engine: Engine
) -> None:
    clinic.add_location("Tucson", "America/Phoenix", "AZ")
    page = look(admin, "/admin/closures").follow("Public holidays")
    assert "Thursday, November 26, 2026: Thanksgiving Day" in page.main.text
    assert "Friday, February 12, 2027: Lincoln's Birthday (Springfield)" in page.main.text
    assert "Monday, July 5, 2027: Independence Day (observed)" in page.main.text
    page = page.press("Save", days="2026-12-25 Christmas Day").agrees()
    assert [line.text for line in page.main.all("li")] == [
        f"Friday, December 25, 2026 {place} Christmas Day" for place in ("Springfield", "Tucson")
    ]
    assert on(free(clinic), date(2026, 12, 25)) == []
    assert "Christmas Day" not in look(admin, "/admin/closures/holidays").main.text
    assert look(admin, "/admin/closures/holidays").press("Save", days=None).problems == {
        "days": "Choose at least one day."
    }
    assert look(admin, "/admin/closures/holidays").press("Save", days="2026-12-25 Christmas Day").status == 422
    assert clinic.violations() == {}


def test_visits_on_a_holiday_are_listed_first(admin: FlaskClient, clinic: Clinic) -> None:
    booked(clinic, date(2026, 12, 25))
    ask = look(admin, "/admin/closures/holidays").press("Save", days="2026-12-25 Christmas Day")
    assert ask.heading == "This changes 1 booked visit"
    ask.press("Save all the same")
    assert on(free(clinic), date(2026, 12, 25)) == []


def save(page: Page, **changes: str) -> Page:
    """Send the first of a page's forms."""
    form = form_of(Element("#", {}, [page.main.all("form", method="post")[0]]), page.address)
    return after(page.client, form.action, form.filled(**changes))


def press(page: Page, client: FlaskClient, deed: str, time_off_id: int, **more: str) -> Page:
    (form,) = page.tree.all("form", action=f"/admin/time-off/{time_off_id}/{deed}")
    token = form.all("input", name="csrf_token")[0].attributes["value"]
    return after(client, form.attributes["action"], {"csrf_token": token} | more)


def test_what_a_therapist_asks_for_is_approved_or_declined(admin: FlaskClient, clinic: Clinic, engine: Engine) -> None:
    wedding, whim = asked(clinic, note="A wedding"), asked(clinic, date(2026, 12, 28))
    overview = look(admin, "/admin/")
    assert "2 times that somebody asked for" in overview.main.text
    page = look(admin, "/admin/time-off")
    assert "Ana Abbott Thursday, December 24, 2026 Note: A wedding" in page.main.text
    page = press(page, admin, "approve", wedding).agrees()
    assert "Ana Abbott Thursday, December 24, 2026 Approved. Note: A wedding" in page.main.text
    page = press(page, admin, "decline", whim)
    assert [stands(engine, one) for one in (wedding, whim)] == [TimeOffStatus.APPROVED, TimeOffStatus.DECLINED]
    assert on(free(clinic), EVE) == []
    assert on(free(clinic), date(2026, 12, 28)) == ["08:00–17:00"]
    late = after(admin, f"/admin/time-off/{whim}/approve", {"csrf_token": csrf_token(admin)})
    assert "Somebody has decided this already." in late.main.text
    press(late, admin, "remove", wedding).agrees()
    assert on(free(clinic), EVE) == ["08:00–17:00"]
    with reading(engine) as session:
        actions = session.scalars(select(AuditEvent.action).where(AuditEvent.actor.startswith("account:")))
        assert [one for one in actions if one.startswith("time_off")] == [
            "time_off.approved", "time_off.declined", "time_off.withdrawn",
        ]  # fmt: skip
    assert clinic.violations() == {}


def test_approving_lists_the_visits_that_are_booked_then(admin: FlaskClient, clinic: Clinic, engine: Engine) -> None:
    booked(clinic, EVE)
    wish = asked(clinic)
    ask = press(look(admin, "/admin/time-off"), admin, "approve", wish)
    assert ask.heading == "This changes 1 booked visit"
    assert "The therapist is off then" in ask.main.text
    assert stands(engine, wish) == TimeOffStatus.ASKED
    assert ask.press("Back to the form").heading == "Time off"
    ask.press("Save all the same")
    assert stands(engine, wish) == TimeOffStatus.APPROVED


def test_what_has_begun_is_not_taken_back(app: Flask, engine: Engine, clinic: Clinic, clock: FixedClock) -> None:
    give(clinic, OffDetails(date(2026, 11, 24), 0, date(2026, 11, 27), 24 * 60))
    clock.at = clock.at.replace(day=25)
    admin = signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))
    page = press(look(admin, "/admin/time-off"), admin, "remove", 1)
    assert "This has begun, so it can only end." in page.main.text
    assert on(free(clinic), date(2026, 11, 26)) == []


def test_an_administrator_gives_time_off(admin: FlaskClient, clinic: Clinic) -> None:
    page = (
        look(admin, "/admin/time-off")
        .follow("Give time off")
        .press("Save", therapist_id="1", starts_on="2026-12-24", ends_on="2027-01-13", note="Leave")
        .agrees()
    )
    assert (
        "Ana Abbott Thursday, December 24, 2026 to Wednesday, January 13, 2027 Approved. Note: Leave" in page.main.text
    )
    assert on(free(clinic), date(2027, 1, 13)) == []
    assert on(free(clinic), date(2027, 1, 14)) == ["08:00–17:00"]


def test_of_some_places_one_decides_what_concerns_no_other(of_denver: FlaskClient, clinic: Clinic) -> None:
    shared, own = asked(clinic, therapist=1), asked(clinic, therapist=2)
    close(clinic, CHRISTMAS, places=[1])
    page = look(of_denver, "/admin/time-off")
    assert "an administrator of the whole clinic decides" in page.main.text
    assert page.tree.all("form", action=f"/admin/time-off/{shared}/approve") == []
    press(page, of_denver, "approve", own)
    form = {
        "csrf_token": csrf_token(of_denver),
        "therapist_id": "1",
        "starts_on": "2026-12-28",
        "ends_on": "2026-12-28",
    }
    assert after(of_denver, "/admin/time-off/new", form).status == 422
    assert look(of_denver, "/admin/closures").main.all("li")[0].text == "None yet."
    offered = look(of_denver, "/admin/closures/new")
    assert [one.attributes["value"] for one in offered.main.all("input", name="places")] == ["2"]
