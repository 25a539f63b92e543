"""axe, which checks what a program can check of WCAG and of good habits, finds nothing on any page in any state."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from sqlalchemy import Engine, select

from scheduler.db import transaction
from scheduler.keys import fingerprint
from scheduler.models import Appointment, ManageLink
from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor

PAGES = {
    "/": 200,
    "/book": 200,
    "/book?type=2&location=3": 200,
    "/book?day_part=afternoon&weekday=tuesday&weekday=friday": 200,
    "/book?from=2100-01-01&weekday=sunday": 200,  # further than anything can be booked, and no day has times
    "/book?type=1&location=1&therapist=2": 200,  # who does not work there: no time left
    "/explainer": 200,
    "/contact": 200,
    "/nothing-here": 404,
    "/appointments/nobody-has-this-link": 404,
    "/book?location=here": 422,
}
LANGUAGES_AND_WIDTHS = [("en", 1280), ("es", 360)]


@pytest.mark.parametrize(("language", "width"), LANGUAGES_AND_WIDTHS)
def test_axe_finds_nothing_on_any_page(visit: Visit, language: str, width: int) -> None:
    with visit(language=language, width=width) as patient:
        for path, status in PAGES.items():
            assert patient.opens(path).status == status
            assert found(patient) == {}, path


@pytest.mark.parametrize(("language", "width"), LANGUAGES_AND_WIDTHS)
def test_axe_finds_nothing_on_the_way_to_a_visit_and_out_of_it(visit: Visit, language: str, width: int) -> None:
    with visit(language=language, width=width) as patient:
        for reach in STEPS:
            reach(patient)
            assert found(patient) == {}, reach.__name__


@pytest.mark.parametrize(("language", "width"), LANGUAGES_AND_WIDTHS)
def test_axe_finds_nothing_once_a_visit_has_begun(
    visit: Visit, demo_database: Engine, language: str, width: int
) -> None:
    with visit(language=language, width=width) as patient:
        patient.reaches_confirmation()
        asks_to_cancel(patient)
        begin(demo_database, patient.token)
        patient.presses("Yes, cancel it")
        patient.sees_heading(patient.words("This is not possible any more"))
        assert found(patient) == {}
        patient.opens(f"/appointments/{patient.token}/cancel")
        patient.reads("Cancel this visit?")
        assert found(patient) == {}
        patient.presses("Back to the visit")
        patient.reads("Your visit")
        assert found(patient) == {}


@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_in_the_documentation_of_the_api(visit: Visit, width: int) -> None:
    with visit(width=width) as programmer:
        assert programmer.opens("/api/docs").status == 200
        assert found(programmer) == {}


def finds_the_time_gone(patient: Visitor) -> None:
    """Before anything was typed."""
    patient.opens("/")
    patient.is_beaten_to(patient.slot())
    patient.presses("Book this time")
    patient.reads("Somebody was a moment faster")


def makes_mistakes(patient: Visitor) -> None:
    patient.types("E-mail", "nobody")
    patient.types("Phone", "12")
    patient.presses("Continue")
    patient.reads("Your details")


def corrects_them(patient: Visitor) -> None:
    patient.types("Phone", "217 555 0142")
    patient.types("What hurts? (optional)", "My left knee")
    patient.introduces_themselves()
    patient.presses("Continue")
    patient.reads("Is this right?")


def is_too_late(patient: Visitor) -> None:
    patient.is_beaten_to(patient.slot())
    patient.presses("Book this visit")
    patient.reads("Somebody was a moment faster")


def takes_another_time(patient: Visitor) -> None:
    patient.follows(patient.page.locator(".stack button").first)
    patient.presses("Book this visit")
    patient.reads("Your visit is booked")


def comes_back_later(patient: Visitor) -> None:
    patient.opens(f"/appointments/{patient.token}")
    patient.reads("Your visit")


def asks_to_cancel(patient: Visitor) -> None:
    patient.presses("Cancel this visit")
    patient.reads("Cancel this visit?")


def cancels(patient: Visitor) -> None:
    patient.presses("Yes, cancel it")
    patient.reads("Your visit is canceled")


STEPS: tuple[Callable[[Visitor], None], ...] = (
    finds_the_time_gone,
    Visitor.reaches_details,
    makes_mistakes,
    corrects_them,
    is_too_late,
    takes_another_time,
    comes_back_later,
    asks_to_cancel,
    cancels,
)


def found(visitor: Visitor) -> dict[str, list[str]]:
    """What axe complains about: each rule with the elements that break it. The page must fit the screen, too.

    Every rule is asked of every element; axe only describes no elements that keep one, which took half of its time.
    """
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= visitor.width
    violations = Axe().run(visitor.page, options={"resultTypes": ["violations"]}).response["violations"]
    return {rule["id"]: [node["html"] for node in rule["nodes"]] for rule in violations}


def begin(engine: Engine, token: str) -> None:
    """Let a visit have begun two weeks ago."""
    with transaction(engine) as session:
        booked = select(ManageLink.appointment_id).where(ManageLink.token_sha256 == fingerprint(token))
        visit = session.get_one(Appointment, session.scalars(booked).one())
        visit.starts_at -= timedelta(days=14)
        visit.ends_at -= timedelta(days=14)
