"""The front desk's day, its patients, the visits that it calls off, and whom it calls since no message reaches them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from werkzeug.wrappers import Response as BaseResponse
from wtforms import BooleanField, TextAreaField

from scheduler import words
from scheduler.db import reading, transaction
from scheduler.errors import Conflict, Invalid, NotBookable, NotFound, VisitClosed
from scheduler.models import Appointment, Kind, Location, Status
from scheduler.services import booking, desk, practice, visits
from scheduler.services import patients as merging
from scheduler.services.desk import Call, FreeTime
from scheduler.timeline import DAY, local_date, zone_of
from scheduler.web.context import context
from scheduler.web.forms import NOTE_IF_ANY
from scheduler.web.language import language
from scheduler.web.staff import asked, labels, seen
from scheduler.web.staff.access import AT_THE_DESK, allowed, staff
from scheduler.web.staff.forms import StaffForm
from scheduler.web.times import day_heading, shown_visit

pages = APIBlueprint("desk", __name__, url_prefix="/staff/desk", enable_openapi=False)
ON_THE_DAY = "name, phone"
IN_A_LIST = "name, birth date, phone, e-mail, visits"
ALL_OF_ONE = "name, birth date, phone, e-mail, language, visits"
TO_CALL = "name, phone, e-mail, visit"


class CancelForm(StaffForm):
    reason = TextAreaField(
        _("Reason (optional)"),
        [NOTE_IF_ANY],
        description=_("Only the clinic's staff can read this."),
    )
    late = BooleanField(_("The patient called it off: count it as late"))
    told = BooleanField(_("The patient knows: they need no call about it"))


@dataclass(frozen=True, slots=True)
class Line:
    """A visit on the day, its times in words; `late` when it should have begun and nobody has come."""

    visit: Appointment
    hour: str
    until: str
    iso: str
    marks: list[Status]
    ahead: bool
    late: bool


@dataclass(frozen=True, slots=True)
class Stretch:
    """Free time in words."""

    from_: str
    until: str


@pages.get("", endpoint="today")
@allowed(*AT_THE_DESK)
def today() -> str:
    """A day at one location across therapists: who comes when to whom, and what is free."""
    now = context().clock.now()
    with reading(context().engine) as session:
        clinic, own = practice.policy(session), desk.locations(session, staff().locations)
        place = asked.place(own)
        if place is None:
            return render_template("staff/desk/nowhere.html", clinic=clinic)
        this_day = local_date(now, zone_of(place.time_zone))
        on = asked.day("day") or this_day
        appointments = desk.day(session, place, on)
        free = desk.free_times(session, place, on, now=now)
        calls = desk.calls_to_make(session, staff().locations, now=now)
    seen.note((one.patient_id for one in appointments), ON_THE_DAY)
    live = [one for one in appointments if one.status != Status.CANCELLED]
    return render_template(
        "staff/desk/today.html",
        clinic=clinic,
        own=own,
        place=place,
        on=on,
        today=this_day,
        before=on - DAY,
        after=on + DAY,
        heading=day_heading(on, this_day),
        zone=words.zone_name(now, place.time_zone, language()),
        clock=words.hour(now, place.time_zone, language()),
        lines=[_line(one, place, now) for one in live],
        canceled=[_line(one, place, now) for one in appointments if one.status == Status.CANCELLED],
        counts=_counts(live),
        now_at=_next(live, now),
        free=_free(free, place),
        calls=calls,
        labels=labels,
        phone=words.phone,
        names={one.patient.language: words.language_name(one.patient.language, language()) for one in live},
    )


@pages.get("/patients")
@allowed(*AT_THE_DESK)
def patients() -> str:
    """Patients by parts of a name, an e-mail address or a phone number; nobody while nothing is asked."""
    query = request.args.get("q", "").strip()
    with reading(context().engine) as session:
        clinic = practice.policy(session)
        found = desk.find_patients(session, query, staff().locations, after=asked.key("after"))
    seen.note((one.id for one in found.patients), IN_A_LIST)
    return render_template(
        "staff/desk/patients.html",
        clinic=clinic,
        query=query,
        found=found,
        now=context().clock.now(),
        words=words,
    )


@pages.get("/patients/<uuid:patient_id>")
@allowed(*AT_THE_DESK)
def patient(patient_id: UUID) -> BaseResponse:
    """How to reach a patient, and their visits at the locations that the account works for."""
    now = context().clock.now()
    with reading(context().engine) as session:
        clinic = practice.policy(session)
        try:
            found = desk.patient(session, patient_id, staff().locations)
        except NotFound:
            into = merging.require_there(session, patient_id, staff().locations)
            return redirect(url_for("desk.patient", patient_id=into.id), 303)
        theirs = desk.visits_of(session, patient_id, staff().locations)
        missed = desk.missed_by(session, patient_id, staff().locations)
        twins = merging.twins(session, found, staff().locations)
    seen.note([found.id, *(twin.patient.id for twin in twins)], ALL_OF_ONE)
    ahead = [one for one in reversed(theirs) if one.starts_at > now]
    page = render_template(
        "staff/desk/patient.html",
        clinic=clinic,
        patient=found,
        missed=missed,
        ahead=[(one, shown_visit(one, now)) for one in ahead],
        past=[(one, shown_visit(one, now)) for one in theirs if one.starts_at <= now],
        twins=twins,
        why=labels.ALIKE,
        labels=labels,
        words=words,
    )
    return make_response(page)


@pages.get("/visits/<uuid:visit_id>/cancel")
@allowed(*AT_THE_DESK)
def ask_cancel(visit_id: UUID) -> Response:
    """Ask before calling a visit off."""
    return _cancel_page(visit_id, CancelForm(formdata=None))


@pages.post("/visits/<uuid:visit_id>/cancel")
@allowed(*AT_THE_DESK)
def cancel(visit_id: UUID) -> BaseResponse:
    """Call a visit off for a patient; its time is free at once."""
    form, now, by = CancelForm(), context().clock.now(), staff().actor
    if not form.validate():
        return _cancel_page(visit_id, form, 422)
    try:
        with transaction(context().engine) as session:
            visit = desk.visit(session, visit_id, staff().locations)
            wish, keys = form.late.data, context().keys
            booking.call_off(session, visit, form.reason.data, by=by, keys=keys, now=now, for_patient=wish)
            if form.told.data:
                stands = desk.standing(visit)
                desk.tell(session, visit, stands, account_id=staff().account_id, by=by, now=now)
    except VisitClosed:
        return _cancel_page(visit_id, form, 409)
    flash(gettext("The visit is canceled: %(when)s. Its time is free again.", when=_when(visit)))
    return redirect(day_of(visit), 303)


@pages.post("/visits/<uuid:visit_id>/bring-back")
@allowed(*AT_THE_DESK)
def bring_back(visit_id: UUID) -> BaseResponse:
    """Take back that a visit was cancelled today; only if nobody has its time by now."""
    now, by = context().clock.now(), staff().actor
    try:
        with transaction(context().engine) as session:
            desk.bring_back(session, visit_id, staff().locations, by=by, keys=context().keys, now=now)
    except VisitClosed:
        flash(
            gettext("A cancellation can be taken back on its own day, before the visit would begin. Nothing was done.")
        )
    except NotBookable:
        flash(gettext("The time of this visit is taken by now, so it stays canceled. Book another time instead."))
    else:
        flash(gettext("The visit is booked again. The patient gets a new link where there is an e-mail address."))
    return redirect(url_for("schedule.visit", visit_id=visit_id), 303)


@pages.get("/calls")
@allowed(*AT_THE_DESK)
def calls() -> Response:
    """Messages that failed, and visits ahead that no message can tell of."""
    return _calls_page()


@pages.post("/visits/<uuid:visit_id>/told")
@allowed(*AT_THE_DESK)
def told(visit_id: UUID) -> BaseResponse:
    """Tick that a patient was told how their visit stands, or take the tick away."""
    ticked, now, by = request.form.get("told"), context().clock.now(), staff().actor
    try:
        with transaction(context().engine) as session:
            visit = desk.visit(session, visit_id, staff().locations)
            if ticked not in {"yes", "no"}:
                raise Invalid("told", "It is yes or no.")
            if ticked == "yes":
                stands = request.form.get("stands", "")
                desk.tell(session, visit, stands, account_id=staff().account_id, by=by, now=now)
            else:
                desk.untell(session, visit, by=by, now=now)
    except desk.ChangedMeanwhile as refusal:
        return _calls_page(refusal)
    return redirect(url_for("desk.calls"), 303)


@pages.post("/messages/<uuid:message_id>/try-again")
@allowed(*AT_THE_DESK)
def try_again(message_id: UUID) -> BaseResponse:
    """Owe a failed message anew."""
    now, keys = context().clock.now(), context().keys
    try:
        with transaction(context().engine) as session:
            desk.try_again(session, message_id, staff().locations, by=staff().actor, keys=keys, now=now)
    except Conflict as refusal:
        return _calls_page(refusal)
    flash(gettext("The message goes out again within the next minute. If it fails, it comes back to this page."))
    return redirect(url_for("desk.calls"), 303)


def day_of(visit: Appointment) -> str:
    """The page of a visit's day."""
    on = local_date(visit.starts_at, zone_of(visit.location.time_zone))
    return url_for("desk.today", location=visit.location_id, day=on)


def _cancel_page(visit_id: UUID, form: CancelForm, status: int = 200) -> Response:
    now = context().clock.now()
    with reading(context().engine) as session:
        clinic, visit = practice.policy(session), desk.visit(session, visit_id, staff().locations)
    seen.note([visit.patient_id], ON_THE_DAY)
    page = render_template(
        "staff/desk/cancel.html",
        clinic=clinic,
        visit=visit,
        start=shown_visit(visit, now),
        back=day_of(visit),
        form=form,
        can_cancel=visit.status == Status.BOOKED and visit.starts_at > now,
        late=booking.is_late(visit.starts_at, clinic, now=now),
        phone=words.phone,
    )
    return make_response(page, status)


def _calls_page(refusal: Conflict | None = None) -> Response:
    now, places = context().clock.now(), staff().locations
    with reading(context().engine) as session:
        clinic = practice.policy(session)
        listed, failed = desk.calls(session, places, now=now), desk.failed_messages(session, places, now=now)
    about = [one.visit for one in listed] + [one.visit for one in failed]
    seen.note((one.patient_id for one in about), TO_CALL)
    page = render_template(
        "staff/desk/calls.html",
        clinic=clinic,
        to_call=[(one, shown_visit(one.visit, now), _why(one)) for one in listed if one.told is None],
        told=[(one, shown_visit(one.visit, now), _told_at(one)) for one in listed if one.told is not None],
        failed=[(one, shown_visit(one.visit, now), labels.KINDS[Kind(one.message.kind)]) for one in failed],
        most=desk.CALLS_A_PAGE,
        refusal=refusal.code if refusal else None,
        standing=desk.standing,
        words=words,
    )
    return make_response(page, 409 if refusal else 200)


def _why(call: Call) -> str:
    """Why no message tells a patient of their visit."""
    if call.visit.patient.email is None:
        return str(gettext("No e-mail address"))
    if call.visit.status == Status.CANCELLED:
        return str(gettext("The message that it is canceled could not be sent"))
    return str(gettext("The confirmation could not be sent"))


def _told_at(call: Call) -> str:
    zone = call.visit.location.time_zone
    return words.when(call.told.told_at, zone, language()) if call.told is not None else ""


def _line(visit: Appointment, place: Location, now: datetime) -> Line:
    at, until = ((instant, place.time_zone, language()) for instant in (visit.starts_at, visit.ends_at))
    return Line(
        visit=visit,
        hour=words.hour(*at),
        until=words.hour(*until),
        iso=visit.starts_at.astimezone(zone_of(place.time_zone)).isoformat(timespec="minutes"),
        marks=visits.marks(visit, now=now),
        ahead=visit.starts_at > now,
        late=visit.status == Status.BOOKED and visit.starts_at <= now,
    )


def _counts(live: Sequence[Appointment]) -> list[tuple[str, int]]:
    """How many visits there are of each status, in the order in which a visit goes through them."""
    counted = Counter(Status(one.status) for one in live)
    return [(status, counted[status]) for status in labels.STATUSES if counted[status]]


def _next(live: Sequence[Appointment], now: datetime) -> UUID | None:
    """The first visit that is not over yet, where others come before it."""
    ahead = [one.id for one in live if one.ends_at > now]
    return ahead[0] if ahead and len(ahead) < len(live) else None


def _free(times: Sequence[FreeTime], place: Location) -> list[tuple[int, str, list[Stretch]]]:
    """Free time in words, by therapist."""
    by_therapist = groupby(times, key=lambda time: (time.therapist.id, time.therapist.name))
    return [
        (
            therapist_id,
            name,
            [
                Stretch(*(words.hour(end, place.time_zone, language()) for end in (time.starts_at, time.ends_at)))
                for time in theirs
            ],
        )
        for (therapist_id, name), theirs in by_therapist
    ]


def _when(visit: Appointment) -> str:
    return words.when(visit.starts_at, visit.location.time_zone, language())
