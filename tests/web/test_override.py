"""Booking against a rule at the desk: from the question why, with a reason, to the visit's page that tells of it."""

from datetime import UTC, datetime

import pytest
from apiflask import APIFlask
from sqlalchemy import Engine

from scheduler.clock import FixedClock
from scheduler.db import reading
from scheduler.models import Appointment, Override, Role
from tests.clinic import Clinic, rows
from tests.web.pages import Page
from tests.web.staff import an_account, signed_in
from tests.web.test_desk import NEW, FrontDesk

EVENING = datetime(2026, 11, 25, 0, 0, tzinfo=UTC)  # Tuesday, 6 PM in Chicago
WHY = "/staff/desk/why?location=1&type=1&therapist=1&at=2026-11-24T18:00"
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def desk(clinic: Clinic, app: APIFlask, engine: Engine, clock: FixedClock) -> FrontDesk:
    account = an_account(engine, clock, Role.FRONT_DESK, locations=[1])
    return FrontDesk(clinic, signed_in(app, engine, clock, account), account.id)


def details(desk: FrontDesk) -> Page:
    return desk.opens(WHY).follow("Book it all the same, with a reason").follow("New patient")


def test_a_visit_in_the_evening_is_booked_with_a_reason(desk: FrontDesk) -> None:
    page = details(desk)
    assert "The therapist has no working hours there then." in page.main.text
    page = page.press("Continue", **NEW, override="She flies at noon")
    assert "She flies at noon" in page.main.text
    page.press("Book this visit")
    with reading(desk.clinic.engine) as session:
        (visit,) = rows(session, Appointment)
    assert visit.starts_at == EVENING
    page = desk.opens(f"/staff/visits/{visit.id}")
    told = "Booked by override She flies at noon The therapist has no working hours there then. By Some front-desk"
    assert told in page.main.text
    assert "Booked against a rule" in page.main.text
    assert desk.clinic.violations() == {}


@on_sqlite
@pytest.mark.parametrize("reason", ["", "x" * 501])
def test_without_a_reason_nothing_is_booked(desk: FrontDesk, reason: str) -> None:
    page = details(desk).press("Continue", **NEW, override=reason)
    assert page.status == 422
    assert "override" in page.problems
    page = page.press("Continue", override="She flies at noon")
    assert page.heading == "Is this right?"  # and nothing that was typed is lost


@on_sqlite
def test_somebody_known_is_looked_for_on_the_same_way(desk: FrontDesk) -> None:
    desk.clinic.book(str(desk.clinic.offers()[0].slot))
    page = desk.opens(WHY).follow("Book it all the same, with a reason")
    (search,) = page.main.all("form", method="get")
    assert [one.attributes["value"] for one in search.all("input", name="anyhow")] == ["1"]
    page = desk.opens(f"{page.address}&q=Doe").follow("This is the one: Pat Doe")
    page.press("Continue", override="She flies at noon").press("Book this visit")
    with reading(desk.clinic.engine) as session:
        assert len(rows(session, Override)) == 1


@on_sqlite
def test_a_time_that_somebody_has_is_not_offered_for_it(desk: FrontDesk) -> None:
    desk.clinic.book(str(desk.clinic.offers()[0].slot))
    page = desk.opens("/staff/desk/why?location=1&type=1&therapist=1&at=2026-11-23T10:00")
    assert "all the same" not in page.main.text
    slot = desk.clinic.offers()[0].slot
    desk.clinic.book(str(slot))
    assert desk.opens(f"/staff/desk/book/{slot}?type=1&anyhow=1").status == 409


@on_sqlite
def test_without_the_word_for_it_the_rule_holds(desk: FrontDesk) -> None:
    address = details(desk).address
    assert desk.opens(address.replace("anyhow=1", "")).status == 404
    fields = NEW | {"language": "en", "override": "She flies at noon", "step": "book"}
    assert desk.posts(address.replace("anyhow=1", ""), **fields).status == 404
    with reading(desk.clinic.engine) as session:
        assert rows(session, Appointment) == []


@on_sqlite
def test_bad_input_is_never_an_error_of_ours(desk: FrontDesk) -> None:
    for slot in ("x", "9-1-1995040", "1-9-1995040", "1-1-1", "1-1-9999999"):
        assert desk.opens(f"/staff/desk/book/{slot}?type=1&anyhow=1").status in {404, 409}
