"""Why a time is offered or is not: for whoever is asked by somebody on the phone."""

from dataclasses import dataclass
from datetime import datetime

from apiflask import APIBlueprint
from flask import Response, make_response, render_template, request
from flask_babel import gettext
from sqlalchemy.orm import Session

from scheduler import words
from scheduler.db import reading
from scheduler.errors import Invalid, NotBookable
from scheduler.models import Location
from scheduler.services import desk, override, practice, reasons
from scheduler.services.availability import SlotName
from scheduler.services.reasons import Question
from scheduler.timeline import first_instant, zone_of
from scheduler.web.context import context, now
from scheduler.web.language import language
from scheduler.web.reasons import sentence
from scheduler.web.staff import asked
from scheduler.web.staff.access import AT_THE_DESK, allowed, staff

pages = APIBlueprint("explain", __name__, url_prefix="/staff/desk/why", enable_openapi=False)
YEARS = range(2000, 2200)


@dataclass(frozen=True, slots=True)
class Answer:
    """A start in words, and why patients and why staff can or cannot book it.

    `anyhow` is the slot that staff can book with a reason, if it is against a rule that yields to one.
    """

    when: str
    patients: str
    staff: str
    anyhow: str | None


@pages.get("", endpoint="time")
@allowed(*AT_THE_DESK)
def time() -> Response:
    """What the address asks about, and the answer."""
    at, problem = _wall()
    with reading(context().engine) as session:
        clinic, own = practice.policy(session), desk.locations(session, staff().locations)
        place, kinds = asked.place(own), practice.appointment_types(session)
        if place is None or not kinds:
            return make_response(render_template("staff/desk/nowhere.html", clinic=clinic))
        people, kind_id, person_id = desk.therapists(session, place), asked.chosen("type"), asked.chosen("therapist")
        if person_id not in {person.id for person in people}:
            person_id = None  # of the location that was chosen before: theirs are listed now
        answer = None
        if at is not None and not problem and kind_id is not None and person_id is not None:
            answer = _answer(session, place, person_id, kind_id, at)
    page = render_template(
        "staff/desk/why.html", clinic=clinic, own=own, place=place, kinds=kinds, therapists=people,
        kind_id=kind_id or kinds[0].id, therapist_id=person_id, at=at, problem=problem, answer=answer,
    )  # fmt: skip
    return make_response(page, 422 if problem else 200)


def _answer(session: Session, place: Location, therapist_id: int, kind_id: int, wall: datetime) -> Answer:
    starts_at = first_instant(wall.date(), wall.hour * 60 + wall.minute, zone_of(place.time_zone))
    start = SlotName(therapist_id, place.id, starts_at)
    patients, desks = (
        sentence(reasons.why(session, Question(start, kind_id, by_staff), now=now()), place.time_zone)
        for by_staff in (False, True)
    )
    when = words.when(starts_at, place.time_zone, language(), year=True)
    return Answer(when, patients, desks, _yielding(session, start, kind_id))


def _yielding(session: Session, start: SlotName, kind_id: int) -> str | None:
    try:
        _bookable, rule = override.require(session, str(start), kind_id, now=now())
    except (NotBookable, Invalid):
        return None
    return str(start) if rule is not None else None


def _wall() -> tuple[datetime | None, str]:
    """The time on the wall that the address names, if any, and what is wrong with it; raises Invalid for no time."""
    text = request.args.get("at", "")
    if not text:
        return None, ""
    try:
        wall = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid("at", "Write it like 2026-11-23T09:00.") from error
    if wall.tzinfo is not None or wall.year not in YEARS:
        raise Invalid("at", "Write it like 2026-11-23T09:00.")
    off_the_grid = wall.minute % 15 or wall.second or wall.microsecond
    return wall, str(gettext("Times begin on the quarter hour, like 09:15.")) if off_the_grid else ""
