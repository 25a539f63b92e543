"""Moving a visit for somebody: times of its kind at a location, one look at it, and who tells the patient."""

from datetime import timedelta
from uuid import UUID

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse
from wtforms import BooleanField, HiddenField

from scheduler import words
from scheduler.db import reading, transaction
from scheduler.errors import Conflict, Invalid, NotBookable, NotFound, VisitClosed
from scheduler.models import Appointment
from scheduler.services import availability, booking, desk, practice
from scheduler.services.availability import Bookable, Find, SlotName
from scheduler.timeline import local_date, zone_of
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.staff import asked, seen
from scheduler.web.staff.access import AT_THE_DESK, allowed, staff
from scheduler.web.staff.forms import StaffForm
from scheduler.web.times import by_day, shown, shown_offer, shown_visit

pages = APIBlueprint("desk_moves", __name__, url_prefix="/staff/desk/visits/<uuid:visit_id>/move", enable_openapi=False)
TIMES_ON_A_PAGE = 120
SHOWN = "name, phone"


class MoveForm(StaffForm):
    slot = HiddenField()
    told = BooleanField(_("The patient knows: they need no call about it"))


@pages.get("")
@allowed(*AT_THE_DESK)
def times(visit_id: UUID) -> Response:
    """Times that staff may book for this visit; with one of them in the address, that one to be confirmed."""
    slot = request.args.get("slot")
    try:
        return _times(visit_id) if slot is None else _check(visit_id, MoveForm(formdata=None, data={"slot": slot}))
    except (NotBookable, VisitClosed) as refusal:
        return _times(visit_id, refusal)


@pages.post("")
@allowed(*AT_THE_DESK)
def move(visit_id: UUID) -> BaseResponse:
    form, now, by = MoveForm(), context().clock.now(), staff().actor
    if not form.validate():
        return _check(visit_id, form, 422)
    try:
        with transaction(context().engine) as session:
            visit = desk.visit(session, visit_id, staff().locations)
            slot = _slot(form.slot.data or "")
            desk.move(session, visit, str(slot), staff().locations, by=by, keys=context().keys, now=now)
            if form.told.data:
                stands = desk.standing(visit)
                desk.tell(session, visit, stands, account_id=staff().account_id, by=by, now=now)
    except (NotBookable, VisitClosed) as refusal:
        return _times(visit_id, refusal)
    except Invalid as error:
        raise NotFound("There is no such time.") from error
    when = words.when(visit.starts_at, visit.location.time_zone, language())
    flash(gettext("The visit is moved: %(when)s. Its old time is free again.", when=when))
    return redirect(url_for("schedule.visit", visit_id=visit.id), 303)


def _slot(text: str) -> SlotName:
    """A start at a location of theirs; raises NotFound for any other text."""
    try:
        slot = SlotName.parse(text)
    except Invalid as error:
        raise NotFound("There is no such time.") from error
    staff().require_location(slot.location_id)
    return slot


def _times(visit_id: UUID, refusal: Conflict | None = None) -> Response:
    now = context().clock.now()
    with reading(context().engine) as session:
        clinic, visit = practice.policy(session), desk.visit(session, visit_id, staff().locations)
        own = desk.locations(session, staff().locations)
        place = next((one for one in own if one.id == asked.chosen("location")), visit.location)
        therapist_id = asked.chosen("therapist") if "therapist" in request.args else visit.therapist_id
        today = local_date(now, zone_of(place.time_zone))
        from_ = asked.day("from") or max(
            today, local_date(visit.starts_at, zone_of(place.time_zone)) - timedelta(days=1)
        )
        find = Find(
            visit.appointment_type_id,
            location_id=place.id,
            therapist_id=therapist_id,
            from_=from_,
            limit=TIMES_ON_A_PAGE,
            by_staff=True,
        )
        offers = availability.search(session, find, now=now).offers if visit.appointment_type.active else []
        therapists = desk.therapists(session, place)
    seen.note([visit.patient_id], SHOWN)
    page = render_template(
        "staff/desk/move.html",
        clinic=clinic,
        visit=visit,
        start=shown_visit(visit, now),
        own=own,
        place=place,
        therapists=therapists,
        find=find,
        from_=from_,
        days=by_day(shown_offer(offer, now) for offer in offers),
        refusal=refusal.code if refusal else None,
        can_move=_to_come(visit),
    )
    return make_response(page, 409 if refusal else 200)


def _to_come(visit: Appointment) -> bool:
    try:
        booking.require_ahead(visit, now=context().clock.now())
    except VisitClosed:
        return False
    return True


def _check(visit_id: UUID, form: MoveForm, status: int = 200) -> Response:
    now = context().clock.now()
    with reading(context().engine) as session:
        clinic, visit = practice.policy(session), desk.visit(session, visit_id, staff().locations)
        booking.require_ahead(visit, now=now)
        wanted = _bookable(session, visit, _slot(form.slot.data or ""))
    seen.note([visit.patient_id], SHOWN)
    page = render_template(
        "staff/desk/move_check.html",
        clinic=clinic,
        visit=visit,
        before=shown_visit(visit, now),
        after=shown(wanted.slot, wanted.location, now),
        therapist=wanted.therapist.name,
        form=form,
    )
    return make_response(page, status)


def _bookable(session: Session, visit: Appointment, slot: SlotName) -> Bookable:
    """The new start, by the rules that staff book by; raises NotFound for one that never was."""
    now = context().clock.now()
    try:
        return availability.require_bookable(session, str(slot), visit.appointment_type_id, now=now, by_staff=True)
    except Invalid as error:
        raise NotFound("There is no such time.") from error
