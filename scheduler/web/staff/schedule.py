"""A therapist's day and week, one visit with all that staff may see of it, and what it is marked on its day."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from apiflask import APIBlueprint
from flask import Response, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from scheduler import words
from scheduler.db import reading, transaction
from scheduler.errors import Conflict, Invalid
from scheduler.models import Appointment, Role, Status
from scheduler.services import audit, letters, licensing, moves, override, practice, schedule, standby, visits
from scheduler.services.reasons import Reason
from scheduler.services.schedule import Absence, Day, Planned
from scheduler.services.standby import StandbyDay
from scheduler.timeline import DAY, local_date, zone_of
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.reasons import RULES
from scheduler.web.shared import kept_for
from scheduler.web.staff import asked, labels, seen
from scheduler.web.staff.access import EVERYBODY, allowed, browser, safe, staff
from scheduler.web.times import date_heading, hours_on, near, shown_visit

pages = APIBlueprint("schedule", __name__, url_prefix="/staff", enable_openapi=False)
VIEWS = {"day": 1, "week": 7}
SATURDAY = 5
SHOWN = "name, language, what hurts, needles"
ALL_SHOWN = "name, e-mail, phone, birth date, language, what hurts, needles, reason of cancelling"


@dataclass(frozen=True, slots=True)
class Line:
    """A visit with its times in words, and what it can be marked now."""

    visit: Planned
    hour: str
    until: str
    zone: str
    iso: str
    marks: list[Status]


@dataclass(frozen=True, slots=True)
class Against:
    """That a visit was booked against a rule: which, why, and by whom."""

    rule: str
    reason: str
    by: str


@pages.get("/")
@allowed(*EVERYBODY)
def day_or_week() -> BaseResponse:
    """One's own visits of a day or a week, today's unless the address names another."""
    if staff().therapist_id is not None:
        return calendar()
    if staff().role is not Role.THERAPIST:
        return redirect(f"{request.script_root}/staff/desk", 303)
    with reading(context().engine) as session:
        return make_response(render_template("staff/not_linked.html", clinic=practice.policy(session)))


@kept_for(browser)
def calendar() -> str:
    """Written once while nothing changes; that it was read is on record before it is shown."""
    therapist_id = staff().therapist_id or 0
    now, view, named = context().clock.now(), _view(), asked.day("day")
    with reading(context().engine) as session:
        clinic, today = schedule.home(session, therapist_id, now=now)
        day = named or today
        first = day if view == "day" else day - day.weekday() * DAY
        days = schedule.days(session, therapist_id, first, VIEWS[view], keys=context().keys)
        absences = schedule.absences(session, therapist_id, first, VIEWS[view])
        on_standby = standby.of_therapist(session, therapist_id, first, VIEWS[view])
    seen.note((visit.patient_id for of_day in days for visit in of_day.visits), SHOWN)
    if view == "week":
        days = [
            of_day
            for of_day in days
            if of_day.visits or on_standby.get(of_day.on) or of_day.on.weekday() < SATURDAY or of_day.on == today
        ]
    shown_days = [
        (of_day, near(of_day.on, today), date_heading(of_day.on, today), [_line(one, now) for one in of_day.visits])
        for of_day in days
    ]
    zones = {line.zone for *_, lines in shown_days for line in lines}
    return render_template(
        f"staff/{view}.html",
        clinic=clinic,
        days=shown_days,
        zone=zones.pop() if len(zones) == 1 else None,
        first=first,
        day=day,
        today=today,
        view=view,
        before=first - VIEWS[view] * DAY,
        after=first + VIEWS[view] * DAY,
        names=_names(days),
        away={of_day.on: [_away(one, of_day.on) for one in absences if one.touches(of_day.on)] for of_day in days},
        on_standby={day: [_on_standby(one) for one in found] for day, found in on_standby.items()},
        labels=labels,
        words=words,
    )


@pages.get("/visits/<uuid:visit_id>")
@allowed(*EVERYBODY)
def visit(visit_id: UUID) -> Response:
    """Everything of one visit."""
    with reading(context().engine) as session:
        found = asked.visit(session, visit_id)
    return _visit_page(found)


@pages.post("/visits/<uuid:visit_id>/mark")
@allowed(*EVERYBODY)
def mark(visit_id: UUID) -> BaseResponse:
    """Note that the patient arrived, was treated, or did not come."""
    status = _status()
    try:
        with transaction(context().engine) as session:
            found = asked.visit(session, visit_id)
            visits.mark(session, found, status, by=staff().actor, now=context().clock.now())
    except (visits.NotYet, visits.OtherStatus) as refusal:
        return _refused(visit_id, refusal)
    return _back(visit_id)


@pages.post("/visits/<uuid:visit_id>/undo")
@allowed(*EVERYBODY)
def undo(visit_id: UUID) -> BaseResponse:
    """Take a mark back."""
    status = _status()
    try:
        with transaction(context().engine) as session:
            found = asked.visit(session, visit_id)
            visits.undo(session, found, status, by=staff().actor, now=context().clock.now())
    except visits.OtherStatus as refusal:
        return _refused(visit_id, refusal)
    return _back(visit_id)


@pages.get("/licenses")
@allowed(*EVERYBODY)
def licences() -> str:
    """One's own licences: until when, and what each allows where."""
    therapist_id = staff().therapist_id
    with reading(context().engine) as session:
        if therapist_id is None:
            return render_template("staff/not_linked.html", clinic=practice.policy(session))
        clinic, today = schedule.home(session, therapist_id, now=context().clock.now())
        held = licensing.held_by(session, therapist_id, on=today)
    return render_template("staff/licenses.html", clinic=clinic, held=held, today=today, labels=labels, words=words)


def _view() -> str:
    view = request.args.get("view", "day")
    if view not in VIEWS:
        raise Invalid("view", "It is day or week.")
    return view


def _status() -> Status:
    try:
        return Status(request.form.get("status", ""))
    except ValueError as error:
        raise Invalid("status", "There is no such status.") from error


def _line(planned: Planned, now: datetime) -> Line:
    at, until = ((instant, planned.time_zone, language()) for instant in (planned.starts_at, planned.ends_at))
    local = planned.starts_at.astimezone(zone_of(planned.time_zone))
    markable = visits.has_come(planned.starts_at, planned.time_zone, now=now)
    return Line(
        visit=planned,
        hour=words.hour(*at),
        until=words.hour(*until),
        zone=words.zone_name(*at),
        iso=local.isoformat(timespec="minutes"),
        marks=visits.following(planned.status) if markable else [],
    )


def _away(absence: Absence, day: date) -> str:
    """That one is off on a day, or that a place is closed; when, if not all day."""
    what = gettext("Off")
    if absence.place is not None:
        what = gettext("%(place)s is closed: %(reason)s", place=absence.place, reason=absence.reason)
    return ", ".join(filter(None, (what, hours_on(absence, day))))


def _on_standby(one: StandbyDay) -> str:
    """That one has hours on standby, and whether they are opened."""
    opens, closes = (
        words.wall_time(minute, language()) for minute in (one.shift.opens_minute, one.shift.closes_minute)
    )
    told = {"opens": opens, "closes": closes, "place": one.shift.location}
    if one.opened:
        return str(gettext("Standby, opened: %(opens)s to %(closes)s, %(place)s", **told))
    return str(gettext("Standby, not opened: %(opens)s to %(closes)s, %(place)s", **told))


def _names(days: list[Day]) -> dict[str, str]:
    """The languages of these patients, by their codes."""
    codes = {visit.language for of_day in days for visit in of_day.visits}
    return {code: words.language_name(code, language()) for code in codes}


def _visit_page(found: Appointment, refusal: Conflict | None = None) -> Response:
    """All of a visit that its reader may see, on record as read."""
    now, keys, place = context().clock.now(), context().keys, found.location
    with reading(context().engine) as session:
        clinic, history = practice.policy(session), visits.history(session, found)
        messages, against = visits.messages(session, found), _against(session, found)
    with transaction(context().engine) as session:
        audit.read(session, [found.patient, found], fields=ALL_SHOWN, by=staff().actor, now=now)
    own = found.therapist_id == staff().therapist_id
    page = render_template(
        "staff/visit.html",
        clinic=clinic,
        visit=found,
        day=local_date(found.starts_at, zone_of(place.time_zone)) if own else None,
        start=shown_visit(found, now),
        note=keys.open(found.note_sealed),
        reason=keys.open(found.cancel_reason_sealed),
        marks=visits.marks(found, now=now),
        can_bring_back=moves.can_bring_back(found, now=now),
        history=history,
        messages=messages,
        told_together=letters.TOLD_TOGETHER,
        against=against,
        refusal=refusal.code if refusal else None,
        labels=labels,
        words=words,
    )
    return make_response(page, 409 if refusal else 200)


def _against(session: Session, visit: Appointment) -> Against | None:
    """How staff booked a visit against a rule, if they did, in words."""
    found = override.of(session, visit)
    if found is None:
        return None
    used, name = found
    reason = context().keys.open(used.reason_sealed) or ""
    return Against(str(RULES[Reason(used.rule)]), reason, name or used.used_by)


def _refused(visit_id: UUID, refusal: Conflict) -> Response:
    """Say kindly why a visit was not marked, and show how it stands."""
    with reading(context().engine) as session:
        found = asked.visit(session, visit_id)
    return _visit_page(found, refusal)


def _back(visit_id: UUID) -> BaseResponse:
    """To the page on which the button was pressed."""
    return redirect(safe(request.form.get("next") or url_for("schedule.visit", visit_id=visit_id)), 303)
