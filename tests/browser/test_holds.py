"""A time is kept while its form is filled in: by the page's script, or by a button where there is none."""

import re
import time
from datetime import timedelta

import pytest
from playwright.sync_api import Locator, expect
from sqlalchemy import Engine, select, update

from scheduler.db import reading, transaction
from scheduler.models import Appointment, Hold, Status
from tests.browser.conftest import Visit
from tests.browser.visitor import NAME, Visitor

KEPT = {"en": re.compile(r"Kept for you until \d+:\d\d [AP]M"), "es": re.compile(r"Guardada para usted hasta las \d")}
APART = 16  # pixels, so that no finger means one and hits the other
LONGER = "Keep this time while I fill this in"


def status(patient: Visitor) -> Locator:
    return patient.page.get_by_role("status")


def token(patient: Visitor) -> str:
    return patient.page.locator("[name=hold]").input_value()


def seen_by_others(patient: Visitor, slot: str) -> bool:
    with patient.server.client() as client:
        query = {"appointment_type": "1", "limit": "200"}
        return slot in {item["id"] for item in client.get("/api/v1/slots", params=query).json()["items"]}


def kept(engine: Engine, slot: str) -> int:
    """How many holds there are of this very start."""
    therapist, place, _ = map(int, slot.split("-"))
    with reading(engine) as session:
        of_slot = (Appointment.therapist_id == therapist, Appointment.location_id == place)
        found = session.scalars(select(Appointment).join(Hold, Hold.appointment_id == Appointment.id).where(*of_slot))
        return len([one for one in found if slot.endswith(f"-{int(one.starts_at.timestamp()) // 900}")])


def run_out(engine: Engine) -> None:
    """Let every hold expire, as time would."""
    with transaction(engine) as session:
        held = update(Appointment).where(Appointment.status == Status.HELD)
        session.execute(held.values(expires_at=Appointment.booked_at + timedelta(milliseconds=1)))


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_page_keeps_its_time_by_itself(visit: Visit, demo_database: Engine, language: str) -> None:
    with visit(language=language) as patient:
        patient.reaches_details()
        slot = patient.slot()
        expect(status(patient)).to_have_text(KEPT[language])
        expect(status(patient)).to_have_attribute("role", "status")
        assert not seen_by_others(patient, slot)
        patient.introduces_themselves()
        patient.presses("Continue")
        patient.reads("Is this right?")
        expect(status(patient)).to_have_text(KEPT[language])
        assert kept(demo_database, slot) == 1
        patient.presses("Book this visit")
        patient.reads("Your visit is booked")
        assert kept(demo_database, slot) == 0


def test_a_reload_and_a_way_back_find_the_same_hold(visit: Visit, demo_database: Engine) -> None:
    with visit() as patient:
        patient.reaches_details()
        expect(status(patient)).to_have_text(KEPT["en"])
        slot, first = patient.slot(), token(patient)
        patient.page.reload()
        patient.reads("Your details")
        expect(status(patient)).to_have_text(KEPT["en"])
        assert (token(patient), kept(demo_database, slot)) == (first, 1)
        patient.page.goto(f"{patient.server.url}/book/{slot}")  # by a link that does not know of it
        patient.reads("Your details")
        expect(status(patient)).to_have_text(KEPT["en"])
        assert (token(patient), kept(demo_database, slot)) == (first, 1)
        patient.introduces_themselves()
        patient.presses("Continue")
        patient.page.reload()
        patient.presses("Book this visit")
        patient.reads("Your visit is booked")


def test_another_time_gives_the_first_one_up(visit: Visit, demo_database: Engine) -> None:
    with visit() as patient:
        patient.reaches_details()
        expect(status(patient)).to_have_text(KEPT["en"])
        first = patient.slot()
        patient.page.goto(f"{patient.server.url}/book")
        patient.follows(patient.page.locator(".times a").last)
        expect(status(patient)).to_have_text(KEPT["en"])
        second = patient.slot()
        assert (kept(demo_database, first), kept(demo_database, second)) == (0, 1)
        with patient.page.expect_request(lambda request: request.method == "DELETE"):
            patient.presses("another time")
        deadline = time.monotonic() + 10  # it is sent while the next page loads, and nobody waits for it
        while kept(demo_database, second) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert kept(demo_database, second) == 0


def test_a_hold_that_ran_out_is_renewed_by_one_press(visit: Visit, demo_database: Engine) -> None:
    with visit() as patient:
        patient.page.clock.install()
        patient.reaches_details()
        expect(status(patient)).to_have_text(KEPT["en"])
        patient.types("Your name", NAME)
        run_out(demo_database)
        patient.page.clock.fast_forward("11:00")
        expect(status(patient)).to_have_text("This time is no longer kept for you.")
        patient.control("Keep it again").click()
        expect(status(patient)).to_have_text(KEPT["en"])
        expect(patient.field("Your name")).to_have_value(NAME)
        assert kept(demo_database, patient.slot()) == 1


@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no-javascript"])
def test_a_hold_that_ran_out_unseen_is_no_mistake(visit: Visit, demo_database: Engine, javascript: bool) -> None:
    with visit(javascript=javascript) as patient:
        patient.reaches_check()
        run_out(demo_database)
        patient.presses("Book this visit")
        patient.reads("Your visit is booked")


@pytest.mark.parametrize("language", ["en", "es"])
def test_without_a_script_a_button_keeps_the_time_and_loses_nothing(
    visit: Visit, demo_database: Engine, language: str
) -> None:
    with visit(language=language, javascript=False) as patient:
        patient.reaches_details()
        slot = patient.slot()
        assert kept(demo_database, slot) == 0  # looking keeps nothing
        patient.types("Your name", NAME)
        patient.presses(LONGER)
        patient.reads("Your details")
        expect(status(patient)).to_have_text(KEPT[language])
        expect(patient.page.locator(".summary")).to_have_count(0)
        expect(patient.field("Your name")).to_have_value(NAME)
        assert kept(demo_database, slot) == 1
        patient.page.reload()
        expect(status(patient)).to_have_text(KEPT[language])
        assert kept(demo_database, slot) == 1
        patient.introduces_themselves()
        patient.presses("Continue")
        patient.presses("Book this visit")
        patient.reads("Your visit is booked")


@pytest.mark.parametrize("width", [375, 1280])
def test_without_a_script_to_keep_it_longer_stands_apart_from_what_else_is_pressed(visit: Visit, width: int) -> None:
    with visit(width=width, javascript=False) as patient:
        patient.reaches_details()
        patient.presses(LONGER)
        assert between(patient.control("Keep it longer"), patient.page.get_by_text("Your name", exact=True)) >= APART
        patient.introduces_themselves()
        patient.presses("Continue")
        assert between(patient.control("Keep it longer"), patient.control("Book this visit")) >= APART


def between(upper: Locator, lower: Locator) -> float:
    """So many pixels."""
    above, below = upper.bounding_box(), lower.bounding_box()
    assert above is not None
    assert below is not None
    return below["y"] - above["y"] - above["height"]


@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no-javascript"])
def test_the_zone_of_the_end_is_named(visit: Visit, javascript: bool) -> None:
    with visit(language="es", javascript=javascript) as patient:
        patient.reaches_details()
        if not javascript:
            patient.presses(LONGER)
        expect(status(patient)).to_have_text(
            re.compile(r"hasta las \d+:\d\d\s[ap]\.\s?m\., hora (estándar|de verano) ")
        )


@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no-javascript"])
def test_after_a_mistake_the_language_is_chosen_and_enter_goes_on(visit: Visit, javascript: bool) -> None:
    with visit(javascript=javascript) as patient:
        patient.reaches_details()
        patient.types("Your name", NAME)
        patient.presses("Continue")
        patient.reads("Your details")
        patient.follows(patient.page.get_by_role("button", name="Español"))
        patient.language = "es"
        patient.reads("Your details")
        expect(patient.field("Your name")).to_have_value(NAME)
        patient.types("E-mail", patient.email)
        patient.ticks()
        with patient.page.expect_navigation():
            patient.field("E-mail").press("Enter")
        patient.reads("Is this right?")


def test_without_a_script_to_go_on_keeps_the_time(visit: Visit, demo_database: Engine) -> None:
    with visit(javascript=False) as patient:
        patient.reaches_details()
        slot = patient.slot()
        patient.presses("Continue")
        expect(patient.page.get_by_role("alert")).to_be_visible()
        assert kept(demo_database, slot) == 1
        patient.introduces_themselves()
        patient.presses("Continue")
        patient.reads("Is this right?")
        expect(status(patient)).to_have_text(KEPT["en"])


def test_enter_in_a_field_goes_on(visit: Visit) -> None:
    with visit() as patient:
        patient.reaches_details()
        patient.introduces_themselves()
        with patient.page.expect_navigation():
            patient.field("E-mail").press("Enter")
        patient.reads("Is this right?")


def test_a_time_that_somebody_else_keeps_is_told_and_others_are_offered(visit: Visit) -> None:
    with visit() as first, visit() as second:
        first.reaches_details()
        expect(status(first)).to_have_text(KEPT["en"])
        second.opens(f"/book/{first.slot()}")
        second.reads("Somebody is booking this time just now")
        second.follows(second.page.locator("main .stack a").first)
        second.reads("Your details")
        expect(status(second)).to_have_text(KEPT["en"])
