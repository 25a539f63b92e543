"""Booking a follow-up with the same therapist: a kind of visit, a time, and one look at it before it is booked."""

from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse
from wtforms import HiddenField

from scheduler.db import reading, transaction
from scheduler.errors import NotBookable, NotFound
from scheduler.models import Appointment, AppointmentType, Needling
from scheduler.services import availability, booking, practice, schedule
from scheduler.services.availability import Find, Offer, SlotName
from scheduler.services.booking import BookForPatient
from scheduler.timeline import DAY, local_date, zone_of
from scheduler.web.context import context
from scheduler.web.forms import new_key, repeatable
from scheduler.web.staff import asked, seen
from scheduler.web.staff.access import EVERYBODY, allowed, staff
from scheduler.web.staff.forms import StaffForm
from scheduler.web.times import Shown, by_day, shown, shown_offer

pages = APIBlueprint("follow_up", __name__, url_prefix="/staff/visits/<uuid:visit_id>/follow-up", enable_openapi=False)
TIMES_ON_A_PAGE = 60
WEEKS = (0, 1, 2, 4)  # how far ahead of the visit people look


class ConfirmForm(StaffForm):
    """What is to be booked; the same form sent twice is one booking."""

    key = HiddenField()
    slot = HiddenField()
    type = HiddenField()


@dataclass(frozen=True, slots=True)
class Choice:
    """What the page of times is about: the visit that is followed up, the kind of the next, and times of it."""

    visit: Appointment
    kinds: list[AppointmentType]
    kind_id: int
    from_: date
    weeks: list[tuple[int, date]]
    starts: list[Shown]
    later: date | None


@pages.get("")
@allowed(*EVERYBODY)
def times(visit_id: UUID) -> Response:
    """The next free times of the visit's therapist, or, with one of them in the address, that one to be confirmed."""
    slot = request.args.get("slot")
    if slot is None:
        return _times(visit_id)
    try:
        return _confirm(visit_id, slot)
    except NotBookable:
        return _times(visit_id, taken=True)


@pages.post("")
@allowed(*EVERYBODY)
def book(visit_id: UUID) -> BaseResponse:
    form = ConfirmForm()
    if not form.validate():
        return _times(visit_id, status=422)
    now = context().clock.now()
    try:
        with transaction(context().engine) as session:
            visit = asked.visit(session, visit_id)
            command = _command(visit, form)
            booked = booking.book_for(session, command, by=staff().actor, keys=context().keys, now=now)
    except NotBookable:
        return _times(visit_id, taken=True)
    flash(gettext("The follow-up is booked."))
    return redirect(url_for("schedule.visit", visit_id=booked.appointment.id), 303)


def _command(visit: Appointment, form: ConfirmForm) -> BookForPatient:
    """The same form is the same booking; raises NotFound for a time of another therapist or elsewhere."""
    slot = _slot(visit, form.slot.data or "")
    whose = (str(visit.id), staff().account_id)
    return BookForPatient(
        slot_id=str(slot),
        appointment_type_id=asked.number("type", form.type.data or ""),
        patient=visit.patient_id,
        needling=Needling(visit.needling),
        note=None,
        repeatable=repeatable("follow-up", form.key.data, *whose, str(slot), form.type.data),
    )


def _slot(visit: Appointment, text: str) -> SlotName:
    """A time of the visit's own therapist, at a place where the reader may book."""
    slot = SlotName.parse(text)
    own = staff().therapist_id == slot.therapist_id
    if slot.therapist_id != visit.therapist_id or not (own or staff().works_at(slot.location_id)):
        raise NotFound("There is no such time.")
    return slot


def _kind_id(kinds: list[AppointmentType], visit: Appointment) -> int:
    """The kind that the address names, else the same again, or the first for people who have been here."""
    if request.args.get("type"):
        return asked.number("type", request.args["type"])
    returning = [kind for kind in kinds if not kind.new_patient] or kinds
    same = [kind for kind in returning if kind.id == visit.appointment_type_id]
    return next((kind.id for kind in same or returning), 0)


def _times(visit_id: UUID, *, taken: bool = False, status: int = 200) -> Response:
    now = context().clock.now()
    with reading(context().engine) as session:
        visit, clinic = asked.visit(session, visit_id), practice.policy(session)
        choice = _choice(session, visit)
    seen.note([visit.patient_id], "name")
    page = render_template(
        "staff/follow_up.html",
        clinic=clinic,
        choice=choice,
        visit=visit,
        days=by_day(choice.starts),
        now=now,
        taken=taken,
    )
    return make_response(page, 409 if taken else status)


def _choice(session: Session, visit: Appointment) -> Choice:
    now, kinds = context().clock.now(), list(practice.appointment_types(session))
    today = schedule.today(session, visit.therapist_id, now=now)
    kind_id, from_ = _kind_id(kinds, visit), max(today, asked.day("from") or today)
    find = Find(kind_id, therapist_id=visit.therapist_id, from_=from_, limit=TIMES_ON_A_PAGE, by_staff=True)
    found = availability.search(session, find, now=now) if kinds else availability.Page([], None)
    mine = [offer for offer in found.offers if _bookable_by_reader(offer)]
    day = local_date(visit.starts_at, zone_of(visit.location.time_zone))
    return Choice(
        visit=visit,
        kinds=kinds,
        kind_id=kind_id,
        from_=from_,
        weeks=[(weeks, max(today, day + weeks * timedelta(days=7))) for weeks in WEEKS],
        starts=[shown_offer(offer, now) for offer in mine],
        later=max(_day_of(found.offers[-1]), from_ + DAY) if found.next_cursor else None,
    )


def _day_of(offer: Offer) -> date:
    return local_date(offer.slot.starts_at, zone_of(offer.time_zone))


def _bookable_by_reader(offer: Offer) -> bool:
    return staff().therapist_id == offer.slot.therapist_id or staff().works_at(offer.slot.location_id)


def _confirm(visit_id: UUID, text: str) -> Response:
    now = context().clock.now()
    with reading(context().engine) as session:
        visit, clinic = asked.visit(session, visit_id), practice.policy(session)
        slot, kind_id = _slot(visit, text), _kind_id(list(practice.appointment_types(session)), visit)
        wanted = availability.require_bookable(session, str(slot), kind_id, now=now, by_staff=True)
    seen.note([visit.patient_id], "name")
    page = render_template(
        "staff/follow_up_check.html",
        clinic=clinic,
        visit=visit,
        kind=wanted.kind,
        start=shown(slot, wanted.location, now),
        form=ConfirmForm(data={"key": new_key(), "slot": str(slot), "type": str(kind_id)}),
    )
    return make_response(page)
