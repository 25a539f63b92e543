"""The page of levers: named, with their effect and one button each, and the record of what was done."""

from datetime import date

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import AppointmentType, LeverUse, Location, Role, Slot, StandbyOpening
from scheduler.timeline import CELL, DAY
from tests.clinic import HOUR, Clinic
from tests.keeping import first_kept
from tests.web.pages import Element, Page, after, form_of, look
from tests.web.staff import an_account, csrf_token, signed_in

TUESDAY = date(2026, 11, 24)
LEVERS = "/admin/access/levers"


@pytest.fixture
def admin(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.ADMIN))


@pytest.fixture
def full(clinic: Clinic, clock: FixedClock) -> Clinic:
    """Springfield is booked out; Ana has Tuesday from 18 to 20 on standby, Ben of Chatham nearby is free on Tuesday."""
    near = clinic.add_location("Chatham")
    with transaction(clinic.engine) as session:
        session.execute(update(Location).values(area="Sangamon"))
    clinic.add_hours(1, 1, [1], 18 * 60, 20 * 60, standby=True)
    clinic.add_hours(clinic.add_therapist("Ben Becker"), near, [1], 9 * 60, 11 * 60)
    clinic.plan()
    while offers := clinic.offers(location_id=1, to=clock.now() + 48 * HOUR + CELL):
        clinic.book(str(offers[0].slot))
    return clinic


def sections(page: Page) -> dict[str, list[str]]:
    return {one.one("h2").text: [item.text for item in one.all("li")] for one in page.main.all("section")}


def button(page: Page, words: str) -> tuple[str, dict[str, str]]:
    """Where the form with this button goes, and what it sends."""
    form = next(one for one in page.main.all("form") if one.one("button").text.startswith(words))
    hidden: list[Element] = form.all("input")
    return form.attributes["action"], {one.attributes["name"]: one.attributes["value"] for one in hidden}


def press(admin: FlaskClient, page: Page, words: str) -> Page:
    return after(admin, *button(page, words))


def test_a_location_that_needs_nothing_says_so(admin: FlaskClient) -> None:
    page = look(admin, "/admin/access").follow("What can be done: Springfield")
    assert page.heading == "What can be done: Springfield"
    assert page.main.one("p", **{"class": "big"}).text == (
        "The goal is kept now, and at the pace of the last four weeks no bookings end that within 3 days."
    )
    assert list(sections(page)) == [
        "1. Offer other locations of the area first",
        "2. Let go of what is kept back, or keep back more",
        "3. Open standby hours",
        "4. Ask a therapist who does not work then",
        "What was done in the last 90 days",
    ]


def test_each_lever_is_named_with_its_effect(admin: FlaskClient, full: Clinic) -> None:
    page = look(admin, f"{LEVERS}?location=1")
    assert "The goal is missed now: all times within 48 hours are taken." in page.main.text
    found = list(sections(page).values())
    soonest = "Tuesday, November 24, 9:00 AM Central Standard Time"
    assert found[0] == [f"Chatham 5 starts, the soonest {soonest}: Ben Becker (5 starts) I offered it: Chatham"]
    assert found[1] == []
    assert found[2] == [
        "Ana Abbott Tuesday, November 24, 6:00 PM to 8:00 PM: 5 starts, 2 hours Open this day: Ana Abbott"
    ]
    assert found[3] == [
        "Ben Becker Monday, November 23, 9:00 AM to 11:00 AM: 1 start, 2 hours I asked: Ben Becker",
        "Ben Becker Wednesday, November 25, 9:00 AM to 11:00 AM: 1 start, 2 hours I asked: Ben Becker",
    ]
    assert found[4] == []


def test_what_is_kept_back_is_told_with_what_letting_go_would_open(admin: FlaskClient, clinic: Clinic) -> None:
    assert clinic.protect() > 0
    told, *_ = sections(look(admin, f"{LEVERS}?location=1"))["2. Let go of what is kept back, or keep back more"]
    assert told.startswith("Kept back 2 visits of each day. Letting go gives no start within the goal's hours")
    with reading(clinic.engine) as session:
        kept = select(func.count()).where(Slot.protected, Slot.starts_at > clinic.clock.now() + 48 * HOUR)
        visits = session.execute(kept).scalar_one() // 4
    assert f"It would open {visits} visits later on, from Thursday, November 26" in told
    page = look(admin, f"{LEVERS}?location=1").follow("Change or pin it")
    assert page.heading == "Kept back for short notice: Springfield"


def test_a_day_is_let_go_by_one_press_and_kept_back_again(
    admin: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    clinic.protect()
    slot, day = first_kept(clinic), "Thursday, November 26"
    page = look(admin, f"{LEVERS}?location=1")
    proposed = sections(page)["2. Let go of what is kept back, or keep back more"][1]
    before = {offer.slot for offer in clinic.offers(limit=10_000)}
    page = press(admin, page, "Let go")
    gained = {offer.slot for offer in clinic.offers(limit=10_000)} - before
    assert proposed == f"{day} {len(gained)} starts, 2 hours Let go: {day}"
    assert slot in gained
    done = sections(page)["What was done in the last 90 days"]
    assert all(one.startswith("Let go of what was kept back, Ana Abbott, Springfield, " + day) for one in done)
    clinic.protect()
    page = look(admin, "/admin/access/protection")
    assert f"Nothing is kept back on {day}: let go by Some admin (admin@clinic.example), Monday" in page.main.text
    page = press(admin, page, "Keep the day back again")
    assert "Nothing is kept back on" not in page.main.text
    assert clinic.protect() > 0
    assert slot not in {offer.slot for offer in clinic.offers(limit=10_000)}
    taken_back = sections(look(admin, f"{LEVERS}?location=1"))["What was done in the last 90 days"][0]
    assert "kept back again Monday, November 23" in taken_back
    assert "Keep the day back again" not in taken_back


def test_standby_is_opened_by_one_click_and_closed_again(
    admin: FlaskClient, full: Clinic, engine: Engine, clock: FixedClock
) -> None:
    page = press(admin, look(admin, f"{LEVERS}?location=1"), "Open this day")
    assert "The goal is kept now" in page.main.text
    evening = clock.now() + 33 * HOUR
    assert [one.slot.starts_at for one in full.offers(location_id=1, from_=evening, to=evening + 4 * HOUR)] == [
        evening + n * CELL for n in range(5)
    ]
    full.book(str(full.offers(location_id=1, from_=evening)[0].slot))
    page = look(admin, f"{LEVERS}?location=1")
    (done,) = sections(page)["What was done in the last 90 days"]
    assert done.startswith("Opened standby hours, Ana Abbott, Springfield, Tuesday, November 24, 6:00 PM to 8:00 PM")
    assert "Put forward: 2 hours. Booked of it since: 1 visit, 1 hour." in done
    page = press(admin, page, "Close again")
    assert page.heading == "This changes 1 booked visit"
    page = page.press("Save all the same")
    assert page.heading == "Visits to move"
    with reading(engine) as session:
        assert session.scalars(select(StandbyOpening)).all() == []
    (done,) = sections(look(admin, f"{LEVERS}?location=1"))["What was done in the last 90 days"]
    assert "closed again Monday, November 23" in done
    assert "Close again" not in done
    assert full.violations() == {}


def test_who_was_asked_is_not_asked_again(admin: FlaskClient, full: Clinic, engine: Engine) -> None:
    page = press(admin, press(admin, look(admin, f"{LEVERS}?location=1"), "I asked"), "I offered it")
    asked, _other_day = sections(page)["4. Ask a therapist who does not work then"]
    assert "Asked Monday, November 23, 9:00 AM by" in asked
    with reading(engine) as session:
        assert sorted(session.scalars(select(LeverUse.lever))) == ["ask", "elsewhere"]


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("/standby/6/open", {"day": "soon"}, 422),
        ("/standby/6/open", {}, 422),
        ("/standby/6/close", {"day": "2026-02-30"}, 422),
        ("/standby/999/open", {"day": "2026-11-24"}, 404),
        ("/1/asked/1", {"day": ""}, 422),
        ("/1/offered", {"place": "x"}, 422),
        ("/99/offered", {"place": "1"}, 404),
        ("/1/let-go", {"day": "1"}, 422),
        ("/99/let-go", {"day": "2026-11-26"}, 404),
    ],
)
def test_what_is_forged_is_refused(
    admin: FlaskClient, full: Clinic, engine: Engine, path: str, sent: dict[str, str], status: int
) -> None:
    answer = admin.post(f"{LEVERS}{path}", data={"csrf_token": csrf_token(admin), **sent})
    assert answer.status_code == status
    with reading(engine) as session:
        assert session.scalars(select(LeverUse)).all() == []


@pytest.mark.parametrize(
    ("path", "sent", "said"),
    [
        ("/standby/6/open", {"day": str(TUESDAY + DAY)}, "These hours are not worked on this day."),
        ("/standby/1/open", {"day": str(TUESDAY)}, "These hours are not on standby."),
        ("/standby/6/close", {"day": str(TUESDAY)}, "This day is not open."),
        ("/1/asked/1", {"day": str(TUESDAY)}, "This is not proposed any more."),
        ("/1/offered", {"place": "1"}, "This is not proposed any more."),
        ("/1/let-go", {"day": str(TUESDAY)}, "Nothing is kept back on this day that cannot be booked already."),
    ],
)
def test_what_cannot_be_done_any_more_is_said(
    admin: FlaskClient, full: Clinic, path: str, sent: dict[str, str], said: str
) -> None:
    page = after(admin, f"{LEVERS}{path}", {"csrf_token": csrf_token(admin), **sent})
    assert said in page.tree.text


def test_only_one_s_own_locations_have_levers(
    app: Flask, full: Clinic, engine: Engine, clock: FixedClock, admin: FlaskClient
) -> None:
    theirs = signed_in(
        app, engine, clock, an_account(engine, clock, Role.ADMIN, email="chatham@clinic.example", locations=[2])
    )
    assert look(theirs, LEVERS).heading == "What can be done: Chatham"
    for address in ("1", "99", "x", ""):
        assert look(theirs, f"{LEVERS}?location={address}").status == 404
    with transaction(engine) as session:
        session.execute(update(Location).where(Location.id == 2).values(online=False))
        session.execute(update(AppointmentType).values(new_patient=False))
    assert "None of your locations can be booked online" in look(theirs, LEVERS).main.text
    assert "no kind of visit for new patients yet" in look(admin, LEVERS).main.text


def test_hours_are_put_on_standby_in_their_form(admin: FlaskClient, clinic: Clinic) -> None:
    page = look(admin, "/admin/therapists/1").follow("Add hours")
    typed = {"weekdays": "5", "opens": "09:00", "closes": "12:00", "opens_by_rule": "y"}
    page = page.press("Save", **typed)
    assert page.problems == {"opens_by_rule": "Only hours on standby can open by themselves."}
    page = page.press("Save", **typed, standby="y")
    assert "Saturday, 9:00 AM to 12:00 PM Springfield" in page.main.text
    assert "On standby, opens by rule" in page.main.text
    edit = page.follow("Saturday, 9:00 AM to 12:00 PM")
    form = form_of(Element("#", {}, [edit.main.all("form", method="post")[0]]), edit.address)
    page = after(admin, form.action, form.filled(opens_by_rule=None))
    assert "On standby" in page.main.text
    assert "On standby, opens by rule" not in page.main.text


def test_a_therapist_s_own_week_tells_standby_from_what_is_worked(
    app: Flask, admin: FlaskClient, full: Clinic, engine: Engine, clock: FixedClock
) -> None:
    own = signed_in(
        app, engine, clock, an_account(engine, clock, Role.THERAPIST, email="ana@clinic.example", therapist_id=1)
    )
    for view in ("day", "week"):
        address = f"/staff/?view={view}&day={TUESDAY}"
        assert "Standby, not opened: 6:00 PM to 8:00 PM, Springfield" in look(own, address).main.text
    press(admin, look(admin, f"{LEVERS}?location=1"), "Open this day")
    assert "Standby, opened: 6:00 PM to 8:00 PM, Springfield" in look(own, f"/staff/?view=week&day={TUESDAY}").main.text
