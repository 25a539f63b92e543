"""All that is kept of one patient: as JSON, on paper, and erasing it."""

from uuid import UUID

import orjson
from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, url_for
from flask_babel import gettext
from werkzeug.wrappers import Response as BaseResponse

from scheduler.db import reading, transaction
from scheduler.models import Patient, Role
from scheduler.services import desk, practice, privacy
from scheduler.services.privacy import VisitsAhead
from scheduler.web.context import context
from scheduler.web.staff import seen
from scheduler.web.staff.access import allowed, staff

pages = APIBlueprint("privacy", __name__, url_prefix="/admin/patients", enable_openapi=False)
EVERYTHING = "all that is stored"


@pages.get("/<uuid:patient_id>/export")
@allowed(Role.ADMIN, everywhere=True)
def export(patient_id: UUID) -> Response:
    """Everything as a file of JSON."""
    with reading(context().engine) as session:
        found = privacy.export(session, patient_id, keys=context().keys)
    seen.note([patient_id], EVERYTHING)
    answer = Response(orjson.dumps(found, option=orjson.OPT_INDENT_2), mimetype="application/json")
    answer.headers["Content-Disposition"] = f'attachment; filename="patient-{patient_id}.json"'
    return answer


@pages.get("/<uuid:patient_id>/on-paper")
@allowed(Role.ADMIN, everywhere=True)
def on_paper(patient_id: UUID) -> str:
    """The same as a page that can be printed."""
    with reading(context().engine) as session:
        clinic, found = practice.policy(session), privacy.export(session, patient_id, keys=context().keys)
    seen.note([patient_id], EVERYTHING)
    return render_template("admin/on_paper.html", clinic=clinic, found=found, patient_id=patient_id)


@pages.get("/<uuid:patient_id>/erase")
@allowed(Role.ADMIN, everywhere=True)
def ask_erase(patient_id: UUID) -> Response:
    """Ask before a patient is forgotten for good."""
    return _erase_page(patient_id)


@pages.post("/<uuid:patient_id>/erase")
@allowed(Role.ADMIN, everywhere=True)
def erase(patient_id: UUID) -> BaseResponse:
    try:
        with transaction(context().engine) as session:
            privacy.erase(session, patient_id, by=staff().actor, now=context().clock.now())
    except VisitsAhead:
        return _erase_page(patient_id, refused=True)
    flash(gettext("The patient is erased. Their visits stay in the statistics, without a name."))
    return redirect(url_for("desk.patients"), 303)


def _erase_page(patient_id: UUID, *, refused: bool = False) -> Response:
    with reading(context().engine) as session:
        clinic, patient = practice.policy(session), desk.patient(session, patient_id, None)
    _note(patient)
    page = render_template("admin/erase.html", clinic=clinic, patient=patient, refused=refused)
    return make_response(page, 409 if refused else 200)


def _note(patient: Patient) -> None:
    seen.note([patient.id], "name")
