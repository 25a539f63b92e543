"""Patients who are likely one person: the list, both side by side, and making one of two."""

from dataclasses import dataclass
from uuid import UUID

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from werkzeug.wrappers import Response as BaseResponse

from scheduler import words
from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.models import Patient
from scheduler.services import desk, patients, practice
from scheduler.services.patients import CHOSEN, CannotMerge
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.staff import labels, seen
from scheduler.web.staff.access import AT_THE_DESK, allowed, staff

pages = APIBlueprint("twins", __name__, url_prefix="/staff/desk", enable_openapi=False)
SHOWN = "name, birth date, phone, e-mail, visits"
NAMES = {
    "name": _("Name"),
    "email": _("E-mail"),
    "phone": _("Phone"),
    "birth_date": _("Born"),
    "language": _("Language"),
}


@dataclass(frozen=True, slots=True)
class Field:
    """What both rows say of one thing: (whose row, in words, whether it is proposed to stay)."""

    name: str
    title: str
    either: list[tuple[UUID, str, bool]]


@pages.get("/twins", endpoint="likely")
@allowed(*AT_THE_DESK)
def likely() -> str:
    """Pairs that are likely one person, by why."""
    with reading(context().engine) as session:
        clinic = practice.policy(session)
        pairs = patients.all_twins(session, staff().locations)
    seen.note({one.id: None for pair in pairs for one in (pair.older, pair.newer)}, SHOWN)
    return render_template(
        "staff/desk/twins.html", clinic=clinic, by_reason=patients.by_reason(pairs), why=labels.ALIKE, words=words
    )


@pages.get("/patients/<uuid:patient_id>/merge/<uuid:other_id>")
@allowed(*AT_THE_DESK)
def compare(patient_id: UUID, other_id: UUID) -> BaseResponse:
    """Both side by side: what stays of each, and how many visits come together."""
    with reading(context().engine) as session:
        into = patients.merged_into(session, other_id)
    if into is not None:
        return redirect(url_for("desk.patient", patient_id=into), 303)
    return _page(patient_id, other_id)


@pages.post("/patients/<uuid:patient_id>/merge/<uuid:other_id>")
@allowed(*AT_THE_DESK)
def merge(patient_id: UUID, other_id: UUID) -> BaseResponse:
    """Make one of both."""
    now, by = context().clock.now(), staff().actor
    try:
        take = {name: UUID(request.form[name]) for name in CHOSEN if name in request.form}
    except ValueError as error:
        raise Invalid("take", "Choose one of the two.") from error
    try:
        with transaction(context().engine) as session:
            kept = patients.merge(session, patient_id, other_id, staff().locations, take=take, by=by, now=now)
    except CannotMerge:
        return _page(patient_id, other_id, refused=True)
    flash(gettext("They are one patient now, with all visits."))
    return redirect(url_for("desk.patient", patient_id=kept.id), 303)


def _page(patient_id: UUID, other_id: UUID, *, refused: bool = False) -> Response:
    with reading(context().engine) as session:
        clinic = practice.policy(session)
        kept, other = patients.pair(session, patient_id, other_id, staff().locations)
        visits = {one.id: len(desk.visits_of(session, one.id, staff().locations)) for one in (kept, other)}
    seen.note(visits, SHOWN)
    page = render_template(
        "staff/desk/merge.html",
        clinic=clinic,
        kept=kept,
        other=other,
        visits=visits,
        fields=[_field(name, kept, other) for name in CHOSEN],
        refused=refused,
    )
    return make_response(page, 409 if refused else 200)


def _field(name: str, kept: Patient, other: Patient) -> Field:
    """The kept row's value is proposed, unless it has none."""
    proposed = kept if getattr(kept, name) is not None else other
    return Field(name, str(NAMES[name]), [(one.id, _in_words(name, one), one is proposed) for one in (kept, other)])


def _in_words(name: str, one: Patient) -> str:
    value = getattr(one, name)
    if value is None:
        return str(gettext("none"))
    match name:
        case "birth_date":
            return words.plain_date(value, language())
        case "phone":
            return words.phone(value)
        case "language":
            return words.language_name(value, language())
        case _:
            return str(value)
