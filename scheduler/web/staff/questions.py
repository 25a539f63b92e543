"""Questions to the clinic: what waits, with its age, and answering it by e-mail or noting a call."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, url_for
from flask_babel import gettext, ngettext
from flask_babel import lazy_gettext as _
from werkzeug.wrappers import Response as BaseResponse
from wtforms import TextAreaField

from scheduler import words
from scheduler.db import reading, transaction
from scheduler.models import ContactRequest, Role
from scheduler.services import audit, practice, questions
from scheduler.services.questions import AnsweredAlready, Reader
from scheduler.web import schemas
from scheduler.web.context import context
from scheduler.web.forms import Like
from scheduler.web.language import language
from scheduler.web.staff.access import EVERYBODY, allowed, staff
from scheduler.web.staff.forms import StaffForm

pages = APIBlueprint("questions", __name__, url_prefix="/staff/questions", enable_openapi=False)
SHOWN = "name, phone, e-mail, question"
HOUR = timedelta(hours=1)


class AnswerForm(StaffForm):
    answer = TextAreaField(
        _("Your answer"),
        [Like(schemas.Text, _("Write plain text of at most 500 characters."))],
        description=_(
            "It goes out as a plain e-mail, which others may read: no findings, no treatment. At most 500 characters."
        ),
    )

    def validate(self, extra_validators: object = None) -> bool:
        sound: bool = super().validate(extra_validators)
        if sound and not self.answer.data.strip():
            self.answer.errors = [gettext("Write your answer.")]
            return False
        return sound


@dataclass(frozen=True, slots=True)
class Line:
    """A question, what it says, when it came in words, and for how long it has waited."""

    question: ContactRequest
    message: str
    came: str
    age: str
    overdue: bool


@pages.get("", endpoint="waiting")
@allowed(*EVERYBODY)
def waiting() -> str:
    """What waits for an answer, the oldest first, and what was answered last."""
    now, reader = context().clock.now(), _reader()
    with reading(context().engine) as session:
        clinic = practice.policy(session)
        open_ = questions.waiting(session, reader)
        done = questions.answered(session, reader)
    _note_seen([*open_, *(one for one, _who in done)])
    return render_template(
        "staff/questions.html",
        clinic=clinic,
        waiting=[_line(one, now) for one in open_],
        answered=[(_line(one, now), who, context().keys.open(one.answer_sealed), _when(one)) for one, who in done],
        words=words,
    )


@pages.get("/<uuid:question_id>")
@allowed(*EVERYBODY)
def question(question_id: UUID) -> Response:
    """One question with the form to answer it."""
    return _page(question_id, AnswerForm(formdata=None))


@pages.post("/<uuid:question_id>/answer")
@allowed(*EVERYBODY)
def answer(question_id: UUID) -> BaseResponse:
    """Answer by e-mail."""
    form = AnswerForm()
    if not form.validate():
        return _page(question_id, form, 422)
    return _answered(question_id, form, form.answer.data)


@pages.post("/<uuid:question_id>/called")
@allowed(*EVERYBODY)
def called(question_id: UUID) -> BaseResponse:
    """Note that it was answered by phone."""
    return _answered(question_id, AnswerForm(formdata=None), None)


def _answered(question_id: UUID, form: AnswerForm, text: str | None) -> BaseResponse:
    now, by, keys = context().clock.now(), staff().actor, context().keys
    try:
        with transaction(context().engine) as session:
            found = questions.question(session, question_id, _reader())
            questions.answer(session, found, text, account_id=staff().account_id, by=by, keys=keys, now=now)
    except AnsweredAlready:
        return _page(question_id, form, 409, late=True)
    flash(
        gettext("It is noted as answered by phone.") if text is None else gettext("The answer is on its way by e-mail.")
    )
    return redirect(url_for("questions.waiting"), 303)


def _page(question_id: UUID, form: AnswerForm, status: int = 200, *, late: bool = False) -> Response:
    now = context().clock.now()
    with reading(context().engine) as session:
        clinic = practice.policy(session)
        found = questions.question(session, question_id, _reader())
    _note_seen([found])
    page = render_template(
        "staff/question.html", clinic=clinic, line=_line(found, now), form=form, late=late, words=words
    )
    return make_response(page, status)


def _reader() -> Reader:
    """Whose questions this account sees: to their locations, unless they only treat, and to themselves."""
    places = frozenset[int]() if staff().role is Role.THERAPIST else staff().locations
    return Reader(places, staff().therapist_id)


def _note_seen(shown: list[ContactRequest]) -> None:
    if shown:
        ids, now = [one.id for one in shown], context().clock.now()
        with transaction(context().engine) as session:
            audit.read_many(session, ContactRequest, ids, fields=SHOWN, by=staff().actor, now=now)


def _line(one: ContactRequest, now: datetime) -> Line:
    hours = (now - one.asked_at) // HOUR
    return Line(
        question=one,
        message=context().keys.open(one.message_sealed) or "",
        came=words.when(one.asked_at, one.location.time_zone, language()),
        age=ngettext("%(num)d hour", "%(num)d hours", hours) if hours else gettext("less than an hour"),
        overdue=questions.is_overdue(one, now=now),
    )


def _when(one: ContactRequest) -> str:
    return words.when(one.answered_at, one.location.time_zone, language()) if one.answered_at else ""
