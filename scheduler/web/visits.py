"""Booking a visit page by page, and the page behind its link. Between pages the form itself carries what was typed."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from apiflask import APIBlueprint
from flask import Response, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from scheduler import calendars, words
from scheduler.calendars import Entry
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotBookable, TooMany
from scheduler.models import AppointmentType, ClinicPolicy, Location, Needling, Status, Therapist
from scheduler.services import availability, booking, explainer, holds, practice
from scheduler.services.availability import Find, Page
from scheduler.services.booking import BookVisit, PatientDetails
from scheduler.services.holds import HoldTime, Keeper
from scheduler.web import links, wishes
from scheduler.web.context import context
from scheduler.web.forms import BookingForm, new_key, repeatable
from scheduler.web.language import language
from scheduler.web.limiting import counted_address
from scheduler.web.requests import CONTENT_SECURITY_POLICY
from scheduler.web.shared import shared
from scheduler.web.times import Shown, by_day, once, shown, shown_offer, shown_visit, whole_moments
from scheduler.web.wishes import Choice

visits = links.guarded(APIBlueprint("visits", __name__, enable_openapi=False))
TIMES_ON_A_PAGE = 120
WEEKS_SHOWN = 5
NEWS = ("booked", "moved")  # what was just done, as the address of a visit's page says it
NOTHING = Page([], None)
T = TypeVar("T")
SHORT = "in-short"
REVIEW = "review"
KEEP, KEEP_ON = "keep", "keep-on"  # of the page with the form, and of the one that shows it again
CHANGE, TRANSLATE = "change", "translate"
MAY_FETCH = f"{CONTENT_SECURITY_POLICY}; connect-src 'self'"  # for the script that keeps a time


@visits.get("/book")
@shared
def times() -> str:
    """Times of the first new-patient type; what else is wished stands in the address, and works without a script."""
    now = context().clock.now()
    with reading(context().engine) as session:
        clinic, kinds = practice.policy(session), practice.appointment_types(session)
        find = Find(
            _kind_id(kinds),
            location_id=wishes.number("location"),
            therapist_id=wishes.number("therapist"),
            language=wishes.spoken(),
            from_=wishes.day("from"),
            local=wishes.local_wish(),
            limit=TIMES_ON_A_PAGE,
            after=wishes.after(),
        )
        page, days = availability.search_with_days(session, find, WEEKS_SHOWN, now=now) if kinds else (NOTHING, None)
        offers, later = whole_moments(page)
        choices = _choices(session, find, kinds)
    goal = next(
        (clinic.access_goal_hours for kind in kinds if kind.id == find.appointment_type_id and kind.new_patient), None
    )
    starts = [shown_offer(offer, now, goal_hours=goal) for offer in once(offers)]
    return render_template(
        "patient/times.html",
        clinic=clinic,
        find=find,
        choices=choices,
        named=wishes.names(find.local),
        strip=wishes.strip(days) if days else None,
        days=by_day(starts),
        within=goal if any(start.within for start in starts) else None,
        later=later,
    )


@visits.get("/book/<slot>")
def details(slot: str) -> Response:
    """Who comes, with the short explainer above. Looking keeps no time; the page's script or a button asks for that."""
    begun = {"key": new_key(), "hold": wishes.asked("hold"), "language": language()}
    form = BookingForm(data=begun | {"needling": Needling.TALK_FIRST.value})
    return _page("patient/details.html", slot, form)


@visits.post("/book/<slot>")
def book(slot: str) -> BaseResponse:
    """Keep the time, check what was typed, show it again to be looked over, or book: as the button pressed says.

    A form of ours was shown while its time was in the calendar: what is not there now has left the plan meanwhile.
    """
    form = BookingForm()
    try:
        return _stepped(slot, form)
    except Invalid as error:
        if error.field != "slot" or not form.was_shown():
            raise
        return _taken(slot, form, NotBookable.code)


def _stepped(slot: str, form: BookingForm) -> BaseResponse:
    step = request.form.get("step")
    if step == TRANSLATE:
        form.acknowledged.data = False  # what was shown in another language
    if step not in {CHANGE, TRANSLATE, "book"}:
        refusal = _keep(slot, form, anew=step in {KEEP, KEEP_ON})
        if refusal is not None:
            return _taken(slot, form, refusal.code)
    if step in {CHANGE, TRANSLATE, KEEP}:
        return _page("patient/details.html", slot, form)
    if not form.validate():
        return _page("patient/details.html", slot, form, status=422)
    return _booked(slot, form) if step == "book" else _page("patient/check.html", slot, form)


def _booked(slot: str, form: BookingForm) -> BaseResponse:
    try:
        with transaction(context().engine) as session:
            command = _command(slot, _kind_id(practice.appointment_types(session)), form)
            visit = booking.book(session, command, keys=context().keys, now=context().clock.now())
    except NotBookable as refusal:
        return _taken(slot, form, refusal.code)
    except explainer.NotShownNow:
        form.read_again()
        return _page("patient/details.html", slot, form, status=422)
    return redirect(url_for("visits.manage", token=visit.token, booked=1), 303)


@visits.get("/appointments/<token>")
def manage(token: str) -> str:
    """One visit as it stands; whoever has the link sees time and place, and nothing of the patient."""
    return _visit_page("patient/visit.html", token)


@visits.get("/appointments/<token>/cancel")
def ask_cancel(token: str) -> str:
    """Ask before cancelling: links are followed by programs too, so a GET changes nothing."""
    return _visit_page("patient/cancel.html", token)


@visits.post("/appointments/<token>/cancel")
def cancel(token: str) -> BaseResponse:
    with transaction(context().engine) as session:
        booking.cancel(session, token, None, keys=context().keys, now=context().clock.now())
    return redirect(url_for("visits.manage", token=token), 303)


@visits.get("/appointments/<token>/visit.ics")
def calendar(token: str) -> BaseResponse:
    """The visit for the patient's own calendar; one that is cancelled belongs in none."""
    with reading(context().engine) as session:
        visit, clinic = booking.view(session, token, keys=context().keys), practice.policy(session)
    appointment = visit.appointment
    if appointment.status == Status.CANCELLED:
        return redirect(url_for("visits.manage", token=token), 303)
    place = appointment.location
    entry = Entry(
        visit_id=appointment.id,
        sender=context().settings.mail_from,
        sequence=calendars.sequence(appointment.visit_version),
        starts_at=appointment.starts_at,
        ends_at=appointment.ends_at,
        summary=gettext("Physical therapy visit"),
        clinic=clinic.clinic_name,
        place=place.name,
        address=place.address,
        phone=place.phone,
    )
    answer = Response(calendars.write(entry, None, now=context().clock.now()), mimetype="text/calendar")
    answer.headers["Content-Disposition"] = 'attachment; filename="visit.ics"'
    return answer


@visits.context_processor
def _links() -> dict[str, object]:
    return {"onward": wishes.onward}


def _kind_id(kinds: Sequence[AppointmentType]) -> int:
    """The kind of visit that the address names, else the first for new patients, else the first."""
    asked = wishes.number("type")
    if asked is not None and asked not in {kind.id for kind in kinds}:
        raise Invalid("type", wishes.UNKNOWN)
    proposed = practice.goal_type(kinds) or next(iter(kinds), None)
    return asked or (proposed.id if proposed else 0)


@dataclass(frozen=True, slots=True)
class _Choices:
    """What there is to choose among, each as (those that offer the kind of visit, the others) where that may differ.

    `made` says in words what is chosen, `not_there` which of it never offers the kind.
    """

    kinds: Sequence[AppointmentType]
    kind: str
    locations: tuple[list[Location], list[Location]]
    therapists: tuple[list[Therapist], list[Therapist]]
    languages: Sequence[Choice]
    parts: Sequence[Choice]
    weekdays: Sequence[Choice]
    made: list[str]
    not_there: list[Location | Therapist]


def _choices(session: Session, find: Find, kinds: Sequence[AppointmentType]) -> _Choices:
    offering, kind_id = practice.offering(session), find.appointment_type_id
    places, people = practice.online_locations(session), practice.active_therapists(session)
    languages = wishes.languages(practice.languages(session), find.language)
    parts, weekdays = wishes.parts(), wishes.weekdays()
    looked_for: list[tuple[Sequence[Any], Container[object]]] = [
        (kinds, {kind_id} if request.args.get("type") else ()),
        (places, {find.location_id}),
        (people, {find.therapist_id}),
        (languages, {find.language}),
        (parts, {find.local.part}),
        (weekdays, wishes.names(find.local)),
    ]
    locations = _split(places, lambda place: offering.at(kind_id, place.id))
    therapists = _split(people, lambda therapist: offering.by(kind_id, therapist.id))
    never: list[tuple[Sequence[Location | Therapist], int | None]] = [
        (locations[1], find.location_id),
        (therapists[1], find.therapist_id),
    ]
    return _Choices(
        kinds,
        next((kind.name for kind in kinds if kind.id == kind_id), ""),
        locations,
        therapists,
        languages,
        parts,
        weekdays,
        made=[one.name for things, ids in looked_for for one in things if one.id in ids],
        not_there=[one for things, wanted in never for one in things if one.id == wanted],
    )


def _split(things: Sequence[T], offers: Callable[[T], bool]) -> tuple[list[T], list[T]]:
    return [one for one in things if offers(one)], [one for one in things if not offers(one)]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a step of booking is about: the start, the kind of visit, and the explainer that is shown with it."""

    start: Shown
    kind: AppointmentType
    clinic: ClinicPolicy
    therapist: str
    version: str
    sections: list[dict[str, str]]
    time_zone: str
    zone: str
    kept: timedelta | None
    kept_until: str


def _wanted(slot: str, keeper: Keeper) -> _Wanted:
    """Raise Invalid for a slot that never was, NotBookable for one that cannot be had now by who may keep it."""
    now = context().clock.now()
    with reading(context().engine) as session:
        kind_id = _kind_id(practice.appointment_types(session))
        held = holds.find(session, slot, kind_id, keeper, now=now)
        bookable = availability.require_bookable(session, slot, kind_id, now=now, held=held)
        version = explainer.current(session, language())
        short = [section for section in version.sections if section["id"] in {SHORT, REVIEW}]
    zone, until = bookable.location.time_zone, held.expires_at if held else None
    return _Wanted(
        shown(bookable.slot, bookable.location, now),
        bookable.kind,
        bookable.policy,
        bookable.therapist.name,
        version.version,
        short,
        zone,
        words.zone_name(now, zone, language()),
        until - now if until else None,
        words.unbroken(words.hour(until, zone, language())) if until else "",
    )


def _keep(slot: str, form: BookingForm, *, anew: bool) -> NotBookable | None:
    """Keep the time for who fills in the form, unless they do already; what they kept before is given up.

    Returns why it cannot be had. Past the limits nothing is kept, and booking goes on without; so it does for a form
    that lost its key, as nobody could be told to keep it.
    """
    now, keeper, kept = context().clock.now(), form.keeper(), None
    if keeper.holder is None:
        return None
    try:
        with transaction(context().engine) as session:
            kind_id = _kind_id(practice.appointment_types(session))
            kept = holds.find(session, slot, kind_id, keeper, now=now)
            if kept is None or anew:
                wish = HoldTime(slot, kind_id, keeper.holder, counted_address(), instead=keeper.token)
                form.hold.data = holds.hold(session, wish, now=now).token
    except TooMany:
        return None
    except NotBookable as refusal:
        return None if kept is not None else refusal  # it stays theirs as long as it was
    return None


def _page(template: str, slot: str, form: BookingForm, status: int = 200) -> Response:
    """A step of booking this slot; a time that is gone is told kindly, whichever step it is."""
    try:
        wanted = _wanted(slot, form.keeper())
    except NotBookable as refusal:
        return _taken(slot, form, refusal.code)
    if not form.acknowledged.data:
        form.explainer_version.data = wanted.version  # what they are shown now is what they tick
    if wanted.kept is None:
        form.hold.data = ""
    page = render_template(template, wanted=wanted, clinic=wanted.clinic, form=form, slot=slot)
    return make_response(page, status, {"Content-Security-Policy": MAY_FETCH})


def _taken(slot: str, form: BookingForm, code: str) -> Response:
    """Say that the time is gone and offer the nearest others; the form carries on what was typed."""
    now = context().clock.now()
    with reading(context().engine) as session:
        clinic = practice.policy(session)
        offers = availability.alternatives(session, slot, _kind_id(practice.appointment_types(session)), now=now)
        others = [shown_offer(offer, now) for offer in once(offers)]
    page = render_template("patient/taken.html", clinic=clinic, code=code, others=others, form=form, slot=slot)
    return make_response(page, 409)


def _command(slot: str, kind_id: int, form: BookingForm) -> BookVisit:
    """What was typed as the request that the API makes too. The same form with the same words is one booking."""
    patient = PatientDetails(
        name=form.name.data,
        email=form.email.data,
        phone=form.phone.data,
        birth_date=None,
        language=form.language.data,
        remind_by_email=form.email.data is not None,
        remind_by_sms=False,
    )
    return BookVisit(
        slot_id=slot,
        appointment_type_id=kind_id,
        patient=patient,
        explainer_version=form.explainer_version.data,
        explainer_language=language(),
        needling=Needling(form.needling.data),
        note=form.note.data,
        repeatable=repeatable("page", form.key.data, slot, request.args.get("type"), *form.typed()),
        address=counted_address(),
        keeper=form.keeper(),
    )


def _visit_page(template: str, token: str) -> str:
    now = context().clock.now()
    with reading(context().engine) as session:
        visit = booking.view(session, token, keys=context().keys)
        clinic = practice.policy(session)
    appointment = visit.appointment
    return render_template(
        template,
        clinic=clinic,
        visit=appointment,
        place=appointment.location,
        start=shown_visit(appointment, now),
        token=token,
        news=next((news for news in NEWS if news in request.args), None),
        late=booking.is_late(appointment.starts_at, clinic, now=now),
        can_change=appointment.status == Status.BOOKED and appointment.starts_at > now,
    )
