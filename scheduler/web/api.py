"""The JSON API, /api/v1: the contract with other programs."""

import re
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson
from apiflask import APIBlueprint
from flask import Response, request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotBookable
from scheduler.models import Location
from scheduler.services import access_goal, availability, booking, claims, explainer, holds, moves, practice
from scheduler.services.availability import OFFERS_KEPT, Find, Offer, SlotName
from scheduler.services.holds import HoldTime, Keeper
from scheduler.services.moves import MoveVisit
from scheduler.services.windows import LocalWish
from scheduler.web import problems, schemas, shapes
from scheduler.web.context import context
from scheduler.web.limiting import counted_address

KEY = re.compile(r"[\x20-\x7e]{8,255}")
api = APIBlueprint("api", __name__, url_prefix="/api/v1", tag="Booking")


@api.before_request
def _well_formed() -> None:
    """Refuse what no schema could name: another media type, a body that is no object, a query field given twice."""
    for field, values in request.args.lists():
        if len(values) > 1:
            raise Invalid(field, "is given more than once")
    if request.method == "POST":
        body = request.get_data()
        if request.content_length is None and len(body) >= (request.max_content_length or 0):
            raise RequestEntityTooLarge  # sent in chunks, it was only read up to the limit
        if body and not request.is_json:
            raise UnsupportedMediaType("Send JSON, with Content-Type: application/json.")
        if not isinstance(request.get_json(force=True, silent=True), dict):
            raise BadRequest("The body must be a JSON object, such as {}.")


@api.get("/locations")
@api.input(schemas.NoQuery, location="query", arg_name="_query")
@api.output(schemas.LocationList)
def locations(_query: schemas.NoQuery) -> Response:
    """Every location with its address, state and time zone."""
    with reading(context().engine) as session:
        return _json({"items": [_location(place) for place in practice.online_locations(session)]})


@api.get("/therapists")
@api.input(schemas.TherapistsQuery, location="query")
@api.output(schemas.TherapistList)
def therapists(query_data: schemas.TherapistsQuery) -> Response:
    """Every therapist, or those with hours at one location."""
    with reading(context().engine) as session:
        found = practice.therapists(session, query_data.location)
    return _json(
        {
            "items": [
                {
                    "id": str(therapist.id),
                    "name": therapist.name,
                    "credentials": therapist.credentials,
                    "languages": languages,
                    "location_ids": [str(location_id) for location_id in location_ids],
                }
                for therapist, languages, location_ids in found
            ]
        }
    )


@api.get("/appointment-types")
@api.input(schemas.NoQuery, location="query", arg_name="_query")
@api.output(schemas.AppointmentTypeList)
def appointment_types(_query: schemas.NoQuery) -> Response:
    """Every kind of visit, in the order to propose them. Anyone may book any of them."""
    with reading(context().engine) as session:
        kinds = practice.appointment_types(session)
    return _json(
        {
            "items": [
                {
                    "id": str(kind.id),
                    "name": kind.name,
                    "minutes": kind.minutes,
                    "new_patient": kind.new_patient,
                    "includes_needling": kind.includes_needling,
                }
                for kind in kinds
            ]
        }
    )


@api.get("/slots")
@api.input(schemas.SlotsQuery, location="query")
@api.output(schemas.SlotPage)
def slots(query_data: schemas.SlotsQuery) -> Response:
    """Starts that can be booked at this moment, soonest first."""
    find = Find(
        appointment_type_id=query_data.appointment_type,
        location_id=query_data.location,
        therapist_id=query_data.therapist,
        language=query_data.language,
        from_=query_data.from_,
        to=query_data.to,
        local=LocalWish(query_data.day_part, query_data.weekday),
        limit=query_data.limit,
        after=availability.parse_cursor(query_data.cursor) if query_data.cursor is not None else None,
    )
    page = availability.search(context().engine, find, now=context().clock.now())
    return _json({"items": [_offer(offer) for offer in page.offers], "next_cursor": page.next_cursor})


@api.get("/access")
@api.input(schemas.AccessQuery, location="query")
@api.output(schemas.AccessOut)
def access(query_data: schemas.AccessQuery) -> Response:
    """How soon a visit can start, overall and at each location, beside the clinic's goal."""
    with reading(context().engine) as session:
        measured = access_goal.measure(
            session, now=context().clock.now(), appointment_type_id=query_data.appointment_type
        )
    return _json(shapes.access(measured))


@api.get("/explainer")
@api.input(schemas.ExplainerQuery, location="query")
@api.output(schemas.ExplainerOut)
def current_explainer(query_data: schemas.ExplainerQuery) -> Response:
    """The treatment explainer that patients are to be shown before they book, with the claims that are true now."""
    with reading(context().engine) as session:
        shown = explainer.current(session, query_data.language)
        sections = explainer.sections(shown, claims.present(session, now=context().clock.now()))
    return _json({"version": shown.version, "language": shown.language, "title": shown.title, "sections": sections})


@api.post("/holds")
@api.input(schemas.NoQuery, location="query", arg_name="_query")
@api.input(schemas.HoldBody, location="json")
@api.output(schemas.HoldOut, status_code=201)
def hold(json_data: schemas.HoldBody, _query: schemas.NoQuery) -> Response:
    """Keep a start for some minutes: nobody else sees or books it. Past the limits (429) booking works without."""
    now = context().clock.now()
    wish = HoldTime(json_data.slot, json_data.appointment_type, json_data.holder, counted_address())
    try:
        with transaction(context().engine) as session:
            held = holds.hold(session, wish, now=now)
    except NotBookable as refusal:
        return _refused(refusal, json_data.slot, json_data.appointment_type, now)
    expires_at = shapes.local(held.expires_at, held.start.location.time_zone)
    return _unkept(_json({"hold": held.token, "expires_at": expires_at}, 201))


@api.delete("/holds/<hold>")
@api.input(schemas.NoQuery, location="query", arg_name="_query")
@api.output({}, status_code=204)
def release(hold: str, _query: schemas.NoQuery) -> Response:
    """Give a held start up; the answer is the same when it is gone already."""
    with transaction(context().engine) as session:
        holds.release(session, hold, now=context().clock.now())
    return _unkept(Response(status=204))


@api.post("/appointments")
@api.input(schemas.NoQuery, location="query", arg_name="_query")
@api.input(schemas.BookBody, location="json")
@api.output(schemas.VisitOut, status_code=201)
def book(json_data: schemas.BookBody, _query: schemas.NoQuery) -> Response:
    """Book a visit. The header Idempotency-Key (8 to 255 characters) makes a repeat of the request safe."""
    now, keys, engine = context().clock.now(), context().keys, context().engine
    try:
        with transaction(engine) as session:
            visit = booking.book(session, _command(json_data), keys=keys, now=now)
            return _visit(visit, status=201)
    except NotBookable as refusal:
        return _refused(refusal, json_data.slot, json_data.appointment_type, now)


@api.get("/appointments/<token>")
@api.input(schemas.NoQuery, location="query", arg_name="_query")
@api.output(schemas.VisitOut)
def view(token: str, _query: schemas.NoQuery) -> Response:
    """One visit as it stands."""
    with reading(context().engine) as session:
        return _visit(booking.view(session, token, keys=context().keys))


@api.post("/appointments/<token>/reschedule")
@api.input(schemas.NoQuery, location="query", arg_name="_query")
@api.input(schemas.MoveBody, location="json")
@api.output(schemas.VisitOut)
def reschedule(token: str, json_data: schemas.MoveBody, _query: schemas.NoQuery) -> Response:
    """Move a visit to another start of the same kind; who is too late for that keeps the old one."""
    now, keys, engine = context().clock.now(), context().keys, context().engine
    wish = MoveVisit(json_data.slot, counted_address(), Keeper(token=json_data.hold))
    try:
        with transaction(engine) as session:
            return _visit(moves.move(session, token, wish, keys=keys, now=now))
    except NotBookable as refusal:
        with reading(engine) as session:
            kind_id = booking.view(session, token, keys=keys).appointment.appointment_type_id
        return _refused(refusal, json_data.slot, kind_id, now)


@api.post("/appointments/<token>/cancel")
@api.input(schemas.NoQuery, location="query", arg_name="_query")
@api.input(schemas.CancelBody, location="json")
@api.output(schemas.VisitOut)
def cancel(token: str, json_data: schemas.CancelBody, _query: schemas.NoQuery) -> Response:
    """Cancel a visit and free its time at once; cancelling again changes nothing."""
    now, keys = context().clock.now(), context().keys
    with transaction(context().engine) as session:
        return _visit(booking.cancel(session, token, json_data.reason, keys=keys, now=now))


def _refused(refusal: NotBookable, slot: str, kind_id: int, now: datetime) -> Response:
    """Say why a known start cannot be had, and which others can."""
    with reading(context().engine) as session:
        others = availability.alternatives(session, slot, kind_id, now=now)
    return problems.problem(409, refusal.code, str(refusal), alternatives=[_offer(offer) for offer in others])


def _unkept(answer: Response) -> Response:
    """What holds a token is kept by no cache."""
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _command(body: schemas.BookBody) -> booking.BookVisit:
    patient = booking.PatientDetails(
        name=body.patient.name,
        email=body.patient.email,
        phone=body.patient.phone,
        birth_date=body.patient.birth_date,
        language=body.language,
        remind_by_email=body.reminders.email,
        remind_by_sms=body.reminders.sms,
    )
    return booking.BookVisit(
        slot_id=body.slot,
        appointment_type_id=body.appointment_type,
        patient=patient,
        explainer_version=body.consent.explainer_version,
        explainer_language=body.consent.language,
        needling=body.needling,
        note=body.note,
        repeatable=_repeatable(),
        address=counted_address(),
        keeper=Keeper(token=body.hold),
    )


def _repeatable() -> booking.Repeatable:
    """The request's key and the hash of its body as parsed: spacing and the order of fields make no difference."""
    key = request.headers.get("Idempotency-Key", "")
    if not KEY.fullmatch(key):
        raise Invalid("Idempotency-Key", "give this header 8 to 255 printable characters, new for each booking")
    body = orjson.dumps(request.get_json(force=True), option=orjson.OPT_SORT_KEYS)
    return booking.Repeatable(key, sha256(body).hexdigest())


def _visit(visit: booking.Visit, status: int = 200) -> Response:
    """The same object from every verb; whoever has the link sees no name, address or answer in it."""
    appointment, token = visit.appointment, visit.token
    shown = appointment.explainer_version
    body = {
        "id": str(appointment.id),
        "status": appointment.status,
        "start": shapes.local(appointment.starts_at, appointment.location.time_zone),
        "end": shapes.local(appointment.ends_at, appointment.location.time_zone),
        "location": _place(appointment.location),
        "therapist": {"id": str(appointment.therapist_id), "name": appointment.therapist.name},
        "appointment_type": str(appointment.appointment_type_id),
        "explainer_version": shown.version if shown else None,
        "token": token,
        "manage_url": f"{context().settings.base_url}/appointments/{token}",
    }
    return _unkept(_json(body, status))


@lru_cache(maxsize=OFFERS_KEPT)
def _offer(offer: Offer) -> orjson.Fragment:
    """An offer in JSON, written once however often it is found: nothing but the offer itself says how it reads."""
    slot: SlotName = offer.slot
    written = {
        "id": str(slot),
        "start": shapes.local(slot.starts_at, offer.time_zone),
        "end": shapes.local(offer.ends_at, offer.time_zone),
        "location": {"id": str(slot.location_id), "name": offer.location_name, "time_zone": offer.time_zone},
        "therapist": {"id": str(slot.therapist_id), "name": offer.therapist_name},
        "appointment_type": str(offer.appointment_type_id),
    }
    return orjson.Fragment(orjson.dumps(written))


def _location(place: Location) -> dict[str, str]:
    fields = ("name", "area", "address", "state", "time_zone", "phone")
    return {"id": str(place.id)} | {field: getattr(place, field) for field in fields}


def _place(place: Location) -> dict[str, str]:
    return {"id": str(place.id), "name": place.name, "time_zone": place.time_zone}


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, mimetype="application/json")
