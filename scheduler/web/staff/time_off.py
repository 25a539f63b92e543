"""A therapist's own time off: asked for here, by hand or by a calendar file, and decided by an administrator."""

from typing import Any

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext, ngettext
from flask_babel import lazy_gettext as _
from werkzeug.wrappers import Response as BaseResponse

from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotFound
from scheduler.models import TimeOff, TimeOffStatus
from scheduler.services import calendar_files, edits, practice, schedule, time_away
from scheduler.services.calendar_files import Unreadable
from scheduler.services.consequences import UNSEEN, NotAgreed
from scheduler.web.context import context, now
from scheduler.web.staff.access import EVERYBODY, allowed, staff, take_long_forms
from scheduler.web.staff.forms import OffForm, StaffForm
from scheduler.web.times import range_in_words

pages = APIBlueprint("time_off", __name__, url_prefix="/staff/time-off", enable_openapi=False)
LARGEST_FILE = 250_000
STATUSES = {
    TimeOffStatus.ASKED: _("Not decided yet"),
    TimeOffStatus.APPROVED: _("Approved"),
    TimeOffStatus.DECLINED: _("Declined"),
}
UNREADABLE = {
    "missing": _("Choose a file first."),
    "too-large": _("This file is larger than 250 KB. Export only the months ahead."),
    "malformed": _("This is no calendar file that can be read. Export it as iCalendar, with the ending .ics."),
    "empty": _("There is nothing in this file that lies ahead within a year. What is shown as free is left out."),
    "too-long": _("There is an event in this file that is longer than a year. Leave it out."),
    "too-many": _("There are more than 500 times in this file. Export only those when you are away."),
}


@pages.url_value_preprocessor
def _larger(endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """Let a calendar file through before anything reads its form."""
    if endpoint == "time_off.ask_by_file":
        take_long_forms()


@pages.get("")
@allowed(*EVERYBODY)
def overview() -> Response:
    """What one asked for and what became of it, and the form to ask."""
    return _page(OffForm(formdata=None))


@pages.post("")
@allowed(*EVERYBODY)
def ask() -> BaseResponse:
    form, own_id = OffForm(), _own_id()
    if not form.validate():
        return _page(form, 422)
    try:
        with transaction(context().engine) as session:
            time_away.ask(session, own_id, form.details(), by=staff().actor, now=now())
    except Invalid as refusal:
        form[refusal.field].errors = [gettext(refusal.message)]
        return _page(form, 422)
    flash(gettext("Asked. An administrator decides."))
    return redirect(url_for("time_off.overview"), 303)


@pages.post("/calendar")
@allowed(*EVERYBODY)
def ask_by_file() -> BaseResponse:
    own_id = _own_id()
    if not StaffForm().validate():
        return _page(OffForm(formdata=None), 422)
    try:
        content = _uploaded()
        with reading(context().engine) as session:
            zones = time_away.zones_of(session, own_id)
        told = calendar_files.read_apart(content, zones, now=now())
    except Unreadable as refusal:
        return _page(OffForm(formdata=None), 422, problem=str(UNREADABLE[refusal.code]))
    with transaction(context().engine) as session:
        read = time_away.ask_by_file(session, own_id, told, by=staff().actor, now=now())
    said = [
        ngettext(
            "Asked for %(num)d time. An administrator decides.",
            "Asked for %(num)d times. An administrator decides.",
            read.asked,
        )
    ]
    if read.known:
        said.append(ngettext("%(num)d was here already.", "%(num)d were here already.", read.known))
    flash(" ".join(said))
    return redirect(url_for("time_off.overview"), 303)


@pages.post("/<int:time_off_id>/withdraw")
@allowed(*EVERYBODY)
def withdraw(time_off_id: int) -> BaseResponse:
    """Work after all, unless it has begun; what that opens is shown before."""
    with reading(context().engine) as session:
        absence, clinic = edits.found(session, TimeOff, time_off_id), practice.policy(session)
    if absence.therapist_id != _own_id():
        raise NotFound(edits.NOTHING)
    try:
        with transaction(context().engine) as session:
            agreed = request.form.get("agreed", UNSEEN)
            time_away.withdraw(session, time_off_id, agreed=agreed, by=staff().actor, now=now())
        flash(gettext("Taken back."))
    except NotAgreed as refusal:
        page = render_template(
            "staff/time_off_back.html", clinic=clinic, absence=absence, starts=refusal.starts,
            agreement=refusal.agreement, in_words=range_in_words,
        )  # fmt: skip
        return make_response(page)
    except Invalid as refusal:
        flash(gettext(refusal.message))
    return redirect(url_for("time_off.overview"), 303)


def _own_id() -> int:
    therapist_id = staff().therapist_id
    if therapist_id is None:
        raise NotFound("Only whoever treats has time off here.")
    return therapist_id


def _uploaded() -> bytes:
    upload = request.files.get("file")
    if upload is None or not upload.filename:
        raise Unreadable("missing")
    with upload.stream as stream:
        content: bytes = stream.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise Unreadable("too-large")
    return content


def _page(form: OffForm, status: int = 200, *, problem: str = "") -> Response:
    therapist_id = staff().therapist_id
    with reading(context().engine) as session:
        if therapist_id is None:
            return make_response(render_template("staff/not_linked.html", clinic=practice.policy(session)))
        clinic, today = schedule.home(session, therapist_id, now=now())
        own = time_away.time_off_of(session, [therapist_id], since=today)
    page = render_template(
        "staff/time_off.html", clinic=clinic, form=form, own=own, problem=problem, statuses=STATUSES,
        in_words=range_in_words, declined=TimeOffStatus.DECLINED,
    )  # fmt: skip
    return make_response(page, status)
