"""What happens when something goes wrong: nothing that was typed is lost, and nothing is booked twice."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, func, select

from scheduler.db import reading
from scheduler.models import Appointment, Patient
from tests.browser.conftest import Visit
from tests.browser.visitor import ACKNOWLEDGED, NAME, Visitor

NOTE = "My left knee,\nwhen I climb stairs"
TYPED = {"Your name": NAME, "Phone": "+1 217 555 0142", "What hurts? (optional)": NOTE}
MISTAKES = {
    "Your name": "Write your name.",
    "E-mail": "Write an e-mail address or a phone number, so that we can reach you.",
    ACKNOWLEDGED: "Please read the short text above and tick this box.",
}


@pytest.mark.parametrize("javascript", [True, False], ids=["javascript", "no-javascript"])
@pytest.mark.parametrize("language", ["en", "es"])
def test_an_empty_form_is_refused_and_says_at_each_field_what_is_missing(
    visit: Visit, language: str, javascript: bool
) -> None:
    with visit(language=language, javascript=javascript) as patient:
        patient.reaches_details()
        with patient.page.expect_response(lambda answer: answer.request.is_navigation_request()) as answer:
            patient.presses("Continue")
        assert answer.value.status == 422
        patient.reads("Your details")
        assert patient.page.title().startswith(patient.words("Mistake:"))
        summary = patient.page.get_by_role("alert")
        expect(summary.get_by_role("link")).to_have_text([patient.words(text) for text in MISTAKES.values()])
        for label, mistake in MISTAKES.items():
            field = patient.field(label)
            expect(field).to_have_attribute("aria-invalid", "true")
            assert patient.words(mistake) in description(patient.page, field.get_attribute("aria-describedby") or "")
            summary.get_by_role("link", name=patient.words(mistake)).click()
            expect(field).to_be_focused()


def test_what_is_not_wrong_is_not_marked(visit: Visit) -> None:
    with visit() as patient:
        patient.reaches_details()
        patient.types("Your name", NAME)
        patient.types("E-mail", "nobody")
        patient.ticks()
        patient.presses("Continue")
        expect(patient.page.locator("[aria-invalid]")).to_have_count(1)
        expect(patient.field("E-mail")).to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize("language", ["en", "es"])
def test_a_mistake_loses_nothing_that_was_typed(visit: Visit, language: str) -> None:
    with visit(language=language) as patient:
        patient.reaches_details()
        fills_in_everything(patient)
        patient.types("E-mail", "nobody@")
        patient.presses("Continue")
        expect(patient.page.get_by_role("alert")).to_be_visible()
        assert_all_is_there(patient, email="nobody@")


@pytest.mark.parametrize("language", ["en", "es"])
def test_changing_something_keeps_all_that_was_typed(visit: Visit, language: str) -> None:
    with visit(language=language) as patient:
        patient.reaches_details()
        fills_in_everything(patient)
        patient.presses("Continue")
        patient.reads("Is this right?")
        patient.presses("Change something")
        patient.reads("Your details")
        expect(patient.page.get_by_role("alert")).to_have_count(0)
        assert_all_is_there(patient, email=patient.email)
        patient.types("Your name", "Alex Other")
        patient.presses("Continue")
        patient.presses("Book this visit")
        patient.reads("Your visit is booked")


def test_a_phone_number_is_enough(visit: Visit) -> None:
    with visit() as patient:
        patient.reaches_details()
        patient.types("Your name", NAME)
        patient.types("Phone", "217 555 0142")
        patient.ticks()
        patient.presses("Continue")
        patient.presses("Book this visit")
        patient.reads("Your visit is booked")


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("step", ["Continue", "Book this visit"])
def test_of_a_time_that_was_taken_meanwhile_another_is_one_press_away(
    visit: Visit, demo_database: Engine, step: str, language: str
) -> None:
    with visit(language=language) as patient:
        patient.reaches_details()
        gone = patient.slot()
        fills_in_everything(patient)
        if step == "Book this visit":
            patient.presses("Continue")
            patient.reads("Is this right?")
        patient.is_beaten_to(gone)
        patient.presses(step)
        patient.reads("Somebody was a moment faster")
        other = patient.page.locator("main form button").first
        label = other.inner_text()
        patient.follows(other)
        patient.reads("Is this right?")
        assert patient.time() == label
        assert patient.slot() != gone
        for text in (NAME, patient.email, "+12175550142"):
            expect(patient.page.locator(".facts")).to_contain_text(text)
        patient.presses("Change something")
        assert_all_is_there(patient, email=patient.email)
        patient.presses("Continue")
        patient.presses("Book this visit")
        patient.reads("Your visit is booked")
        assert patient.time() == label
        assert visits_of(demo_database, patient) == 1


def test_a_time_that_is_gone_before_anything_is_typed_has_others_beside_it(visit: Visit) -> None:
    with visit() as patient:
        patient.opens("/")
        gone = patient.slot()
        patient.is_beaten_to(gone)
        patient.presses("Book this time")
        patient.reads("Somebody was a moment faster")
        patient.follows(patient.page.locator(".stack a").first)
        patient.reads("Your details")
        assert patient.slot() != gone


def presses_twice(patient: Visitor) -> None:
    patient.control("Book this visit").dblclick()


def submits_in_two_tabs(patient: Visitor) -> None:
    patient.page.locator("form").evaluate("form => { form.target = '_blank' }")
    addresses = {booked_in_a_new_tab(patient), booked_in_a_new_tab(patient)}
    assert len(addresses) == 1
    patient.page.goto(addresses.pop())


def booked_in_a_new_tab(patient: Visitor) -> str:
    with patient.page.expect_popup() as tab:
        patient.control("Book this visit").click()
    expect(tab.value.get_by_role("heading", level=1)).to_have_text("Your visit is booked")
    return str(tab.value.url)


def goes_back_and_books_again(patient: Visitor) -> None:
    patient.presses("Book this visit")
    patient.reads("Your visit is booked")
    patient.page.go_back()
    patient.reads("Is this right?")
    patient.presses("Book this visit")


@pytest.mark.parametrize("submit", [presses_twice, submits_in_two_tabs, goes_back_and_books_again])
def test_the_last_step_books_once_however_often_it_is_sent(
    visit: Visit, demo_database: Engine, submit: Callable[[Visitor], None]
) -> None:
    with visit() as patient:
        patient.reaches_check()
        submit(patient)
        patient.reads("Your visit is booked")
        assert visits_of(demo_database, patient) == 1


def test_asking_to_cancel_and_keeping_it_changes_nothing(visit: Visit) -> None:
    with visit() as patient:
        patient.reaches_confirmation()
        patient.presses("Cancel this visit")
        patient.presses("No, keep it")
        patient.reads("Your visit")
        assert patient.visit()["status"] == "booked"


def test_the_page_of_a_visit_names_nobody(visit: Visit) -> None:
    with visit() as patient:
        patient.reaches_confirmation()
        text = patient.page.content()
        assert NAME not in text
        assert patient.email not in text


def fills_in_everything(patient: Visitor) -> None:
    for label, text in TYPED.items():
        patient.types(label, text)
    patient.types("E-mail", patient.email)
    patient.field("No needles").check()
    patient.field("Language of our messages").select_option({"en": "es", "es": "en"}[patient.language])
    patient.ticks()


def assert_all_is_there(patient: Visitor, *, email: str) -> None:
    for label, text in TYPED.items():
        assert patient.field(label).input_value() in {text, "+12175550142"}
    expect(patient.field("E-mail")).to_have_value(email)
    expect(patient.field("No needles")).to_be_checked()
    expect(patient.field("Language of our messages")).to_have_value({"en": "es", "es": "en"}[patient.language])
    expect(patient.field(ACKNOWLEDGED)).to_be_checked()


def description(page: Page, ids: str) -> str:
    """What a screen reader says of a field beyond its label."""
    return " ".join(page.locator(f"[id='{one}']").inner_text() for one in ids.split())


def visits_of(engine: Engine, patient: Visitor) -> int:
    with reading(engine) as session:
        booked = select(func.count()).select_from(Appointment).join(Patient, Appointment.patient_id == Patient.id)
        return session.scalars(booked.where(Patient.email == patient.email)).one()
