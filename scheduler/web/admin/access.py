"""The access board: how the 48-hour goal stands at each location, what new patients met, and what is left to book."""

from collections.abc import Sequence
from dataclasses import dataclass

from apiflask import APIBlueprint
from flask import render_template, request
from flask_babel import gettext

from scheduler import words
from scheduler.db import reading
from scheduler.errors import NotFound
from scheduler.models import AppointmentType, ClinicPolicy, Role
from scheduler.services import access_goal, access_requests, outlook, practice
from scheduler.services.access_goal import WINDOW, AtLocation, Standing
from scheduler.services.access_requests import Met
from scheduler.services.outlook import Outlook
from scheduler.web.admin import figures
from scheduler.web.admin.saving import now
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.staff.access import allowed, staff
from scheduler.web.times import day_heading

pages = APIBlueprint("access", __name__, url_prefix="/admin/access", enable_openapi=False)


@dataclass(frozen=True, slots=True)
class Shown:
    """How the goal stands somewhere, in words: the verdict first."""

    name: str
    verdict: str
    soonest: str
    patients: str
    outlook: Outlook | None
    lasts: str


@pages.get("")
@allowed(Role.ADMIN)
def board() -> str:
    """One kind of visit for new patients at each of one's own locations; the clinic as a whole first."""
    at = now()
    with reading(context().engine) as session:
        clinic, kinds = practice.policy(session), practice.new_patient_types(session)
        kind = _kind(kinds)
        if kind is None:
            return render_template("admin/access.html", clinic=clinic, kinds=kinds, kind=None, shown=[])
        access = access_goal.measure(session, now=at, appointment_type_id=kind.id)
        met = access_requests.met(session, kind.id, since=at - WINDOW, until=at)
        ahead = {one.location.id: one for one in outlook.ahead(session, kind.id, now=at)}
    overall = _shown(gettext("Anywhere"), access.overall, met[None], None, clinic)
    own = [place for place in access.locations if staff().works_at(place.location.id)]
    return render_template(
        "admin/access.html",
        clinic=clinic,
        kinds=kinds,
        kind=kind,
        shown=[overall, *(_at(place, met, ahead.get(place.location.id), clinic) for place in own)],
        target=figures.percent(clinic.access_target),
        day_heading=day_heading,
    )


def _kind(kinds: Sequence[AppointmentType]) -> AppointmentType | None:
    """The kind that the address names, else the one that the goal is about."""
    named = request.args.get("type")
    if named is None:
        return practice.goal_type(kinds)
    found = next((kind for kind in kinds if str(kind.id) == named), None)
    if found is None:
        raise NotFound("There is no such kind of visit for new patients.")
    return found


def _at(place: AtLocation, met: dict[int | None, Met], ahead: Outlook | None, clinic: ClinicPolicy) -> Shown:
    return _shown(place.location.name, place, met.get(place.location.id, Met()), ahead, clinic)


def _shown(name: str, standing: Standing, met: Met, ahead: Outlook | None, clinic: ClinicPolicy) -> Shown:
    return Shown(name, _verdict(standing, clinic), _soonest(standing), _patients(met, clinic), ahead, _lasts(ahead))


def _verdict(standing: Standing, clinic: ClinicPolicy) -> str:
    """One sentence: whether it holds, by the last four weeks; by this moment before there is a week of history."""
    share = standing.attainment_28d
    if share is None:
        if standing.figures.within_goal:
            return str(gettext("Holds now. Not yet measured for 7 days."))
        return str(gettext("Does not hold now. Not yet measured for 7 days."))
    told = {"share": figures.percent(share), "target": figures.percent(clinic.access_target)}
    if share >= clinic.access_target:
        return str(gettext("Holds. %(share)s of the last 28 days; the target is %(target)s.", **told))
    return str(gettext("Does not hold. %(share)s of the last 28 days; the target is %(target)s.", **told))


def _soonest(standing: Standing) -> str:
    found = standing.figures
    if found.next_available_at is None or found.next_available_hours is None or standing.time_zone is None:
        return str(gettext("Nothing can be booked."))
    when = words.when(found.next_available_at, standing.time_zone, language())
    hours = figures.number(found.next_available_hours)
    if found.third_next_available_hours is None:
        return str(gettext("Next available in %(hours)s hours: %(when)s.", hours=hours, when=when))
    third = figures.number(found.third_next_available_hours)
    return str(
        gettext(
            "Next available in %(hours)s hours: %(when)s. Third next available in %(third)s hours.",
            hours=hours,
            when=when,
            third=third,
        )
    )


def _patients(met: Met, clinic: ClinicPolicy) -> str:
    """What new patients of four weeks were offered and took."""
    if not met.booked:
        return str(gettext("No new patient has booked in the last 28 days."))
    return str(
        gettext(
            "New patients who booked in the last 28 days: %(booked)d. "
            "Offered a start within %(hours)d hours: %(offered)d. Took one: %(took)d. "
            "Offered one and chose a later one: %(later)d.",
            booked=met.booked,
            offered=met.offered,
            hours=clinic.access_goal_hours,
            took=met.took,
            later=met.took_later,
        )
    )


def _lasts(ahead: Outlook | None) -> str:
    if ahead is None or ahead.lasts is None:
        return ""
    return str(
        gettext(
            "At %(a_day)s new patients a day, as in the last 28 days, that lasts %(days)s days.",
            a_day=figures.number(ahead.a_day),
            days=figures.number(ahead.lasts),
        )
    )
