"""Moving a visit by its link: times of the same kind, one look at the new beside the old, and a button."""

from datetime import datetime

from apiflask import APIBlueprint
from flask import Response, make_response, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from scheduler import words
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotBookable, VisitClosed
from scheduler.models import Appointment, AppointmentType
from scheduler.services import availability, booking, practice
from scheduler.services import moves as moving
from scheduler.services.availability import Find, SlotName
from scheduler.services.moves import MoveVisit
from scheduler.web import links, wishes
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.limiting import counted_address
from scheduler.web.times import by_day, once, shown, shown_offer, shown_visit, whole_moments

pages = links.guarded(APIBlueprint("moves", __name__, url_prefix="/appointments/<token>/move", enable_openapi=False))
TIMES_ON_A_PAGE = 120
WEEKS_SHOWN = 5


@pages.get("")
def times(token: str) -> Response:
    """Other times of the same kind: with the same therapist at the same place, unless the address wishes others."""
    now = context().clock.now()
    with reading(context().engine) as session:
        visit = _to_come(session, token, now)
        if visit is None:
            return _too_late(session, token, now)
        clinic = practice.policy(session)
        find = Find(
            visit.appointment_type_id,
            location_id=_wished("location", visit.location_id),
            therapist_id=_wished("therapist", visit.therapist_id),
            language=wishes.spoken(),
            from_=wishes.day("from"),
            local=wishes.local_wish(),
            limit=TIMES_ON_A_PAGE,
            after=wishes.after(),
        )
        page, days = availability.search_with_days(session, find, WEEKS_SHOWN, now=now)
        offers, later = whole_moments(page)
        offering = practice.offering(session)
        kind_id = visit.appointment_type_id
        places = [place for place in practice.online_locations(session) if offering.at(kind_id, place.id)]
        people = [one for one in practice.active_therapists(session) if offering.by(kind_id, one.id)]
    return make_response(
        render_template(
            "patient/move_times.html",
            clinic=clinic,
            token=token,
            start=shown_visit(visit, now),
            find=find,
            places=places,
            people=people,
            parts=wishes.parts(),
            strip=wishes.strip(days),
            days=by_day(shown_offer(offer, now) for offer in once(offers)),
            later=later,
        )
    )


@pages.get("/<slot>")
def check(token: str, slot: str) -> Response:
    """The new time beside the old. Looking keeps no time: nothing is to be filled in, so nobody is slow here."""
    now = context().clock.now()
    try:
        with reading(context().engine) as session:
            visit = _to_come(session, token, now)
            if visit is None:
                return _too_late(session, token, now)
            clinic = practice.policy(session)
            start = availability.require_bookable(session, slot, visit.appointment_type_id, now=now)
    except NotBookable as refusal:
        return _taken(token, slot, refusal)
    page = render_template(
        "patient/move_check.html",
        clinic=clinic,
        token=token,
        slot=slot,
        visit=visit,
        before=shown_visit(visit, now),
        after=shown(start.slot, start.location, now),
        place=start.location,
        therapist=start.therapist.name,
        zone=words.zone_name(start.slot.starts_at, start.location.time_zone, language()),
    )
    return make_response(page)


@pages.post("/<slot>")
def move(token: str, slot: str) -> BaseResponse:
    """Move the visit; sent twice it is moved once."""
    now, keys = context().clock.now(), context().keys
    try:
        with transaction(context().engine) as session:
            moving.move(session, token, MoveVisit(slot, counted_address()), keys=keys, now=now)
    except NotBookable as refusal:
        return _taken(token, slot, refusal)
    except Invalid as error:
        SlotName.parse(slot)  # raises for a text that names no time; what does has left the plan since it was shown
        return _taken(token, slot, NotBookable(error.message))
    except VisitClosed:
        with reading(context().engine) as session:
            return _too_late(session, token, now, 409)
    return redirect(url_for("visits.manage", token=token, moved=1), 303)


@pages.context_processor
def _links() -> dict[str, object]:
    return {"onward": wishes.onward}


def _to_come(session: Session, token: str, now: datetime) -> Appointment | None:
    """The visit of a link if it can still be moved."""
    appointment = booking.view(session, token, keys=context().keys).appointment
    try:
        booking.require_ahead(appointment, now=now)
    except VisitClosed:
        return None
    return appointment if session.get_one(AppointmentType, appointment.appointment_type_id).active else None


def _wished(name: str, own: int) -> int | None:
    """What the address wishes; the visit's own where it says nothing, anything where it says so."""
    return wishes.number(name) if name in request.args else own


def _too_late(session: Session, token: str, now: datetime, status: int = 200) -> Response:
    visit = booking.view(session, token, keys=context().keys).appointment
    page = render_template(
        "patient/move_closed.html",
        clinic=practice.policy(session),
        token=token,
        start=shown_visit(visit, now),
        cancelled=visit.status == "cancelled",
    )
    return make_response(page, status)


def _taken(token: str, slot: str, refusal: NotBookable) -> Response:
    """Say that the time is gone, that the visit stays where it is, and which others there are."""
    now = context().clock.now()
    with reading(context().engine) as session:
        visit = booking.view(session, token, keys=context().keys).appointment
        clinic = practice.policy(session)
        offers = availability.alternatives(session, slot, visit.appointment_type_id, now=now)
    page = render_template(
        "patient/move_taken.html",
        clinic=clinic,
        code=refusal.code,
        token=token,
        before=shown_visit(visit, now),
        others=[shown_offer(offer, now) for offer in once(offers)],
    )
    return make_response(page, 409)
