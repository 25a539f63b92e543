"""The access board: how the 48-hour goal stands at each location, what new patients met, and what is left to book."""

from collections.abc import Sequence
from dataclasses import dataclass

from apiflask import APIBlueprint
from flask import render_template, request
from flask_babel import gettext, ngettext

from scheduler import words
from scheduler.db import reading
from scheduler.errors import NotFound
from scheduler.models import AppointmentType, ClinicPolicy, Role
from scheduler.services import access_goal, access_history, access_requests, outlook, practice
from scheduler.services.access_goal import WINDOW, AtLocation, Standing
from scheduler.services.access_history import History
from scheduler.services.access_requests import Met
from scheduler.services.outlook import Outlook
from scheduler.timeline import zone_of
from scheduler.web.admin import access_figures, figures
from scheduler.web.admin.access_figures import Misses, Picture
from scheduler.web.admin.saving import now
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.staff.access import allowed, staff
from scheduler.web.times import day_heading

pages = APIBlueprint("access", __name__, url_prefix="/admin/access", enable_openapi=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of one place, or of all of them."""

    standing: Standing
    met: Met
    history: History
    outlook: Outlook | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """How the goal stands somewhere, in words: the verdict first. `id` names it among the places of a page."""

    id: str
    location_id: int | None
    name: str
    verdict: str
    told: Sequence[str]
    picture: Picture
    misses: Misses
    measured: bool
    outlook: Outlook | None
    lasts: str
    met: Sequence[Sequence[str]]


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
        places = [place.location for place in access.locations]
        zone = zone_of(places[0].time_zone if places else "UTC")
        past = access_history.histories(session, kind.id, places, zone, now=at)
    overall = _shown(None, gettext("Anywhere"), Seen(access.overall, met[None], past[None]), clinic)
    own = [place for place in access.locations if staff().works_at(place.location.id)]
    zones = {place.time_zone for place in places}
    return render_template(
        "admin/access.html",
        clinic=clinic,
        kinds=kinds,
        kind=kind,
        shown=[overall, *(_at(place, met, past, ahead, clinic) for place in own)],
        clock_of=places[0].name if len(zones) > 1 else None,
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


def _at(
    place: AtLocation,
    met: dict[int | None, Met],
    past: dict[int | None, History],
    ahead: dict[int, Outlook],
    clinic: ClinicPolicy,
) -> Shown:
    number = place.location.id
    seen = Seen(place, met.get(number, Met()), past[number], ahead.get(number))
    return _shown(number, place.location.name, seen, clinic)


def _shown(location_id: int | None, name: str, seen: Seen, clinic: ClinicPolicy) -> Shown:
    standing, target = seen.standing, clinic.access_target
    told = (
        access_figures.ceiling_told(standing, target),
        _soonest(standing),
        access_figures.open_days(standing, clinic.access_goal_hours),
        _patients(seen.met, clinic),
    )
    return Shown(
        id=f"place-{location_id or 'any'}",
        location_id=location_id,
        name=name,
        verdict=access_figures.verdict(standing, target),
        told=[sentence for sentence in told if sentence],
        picture=access_figures.picture(seen.history, target),
        misses=access_figures.misses(seen.history),
        measured=standing.weeks.measured > 0,
        outlook=seen.outlook,
        lasts=_lasts(seen.outlook),
        met=_met_rows(seen.met, clinic),
    )


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
        return str(gettext("No booking of a new patient was noted in the last 28 days."))
    return str(
        ngettext(
            "New patients of the last 28 days: "
            "offered a start within %(hours)d hours: %(offered)s of %(num)d booking. "
            "Took one: %(took)s. Offered one and chose a later one: %(later)s.",
            "New patients of the last 28 days: "
            "offered a start within %(hours)d hours: %(offered)s of %(num)d bookings. "
            "Took one: %(took)s. Offered one and chose a later one: %(later)s.",
            met.booked,
            hours=clinic.access_goal_hours,
            offered=figures.percent_of_goal(met.offer_rate),
            took=figures.percent_of_goal(met.realised),
            later=figures.percent_of_goal(met.later_rate),
        )
    )


def _met_rows(met: Met, clinic: ClinicPolicy) -> list[tuple[str, str, str]]:
    """The same as a table: what, how many bookings, which share of all; nothing without bookings."""
    if not met.booked:
        return []
    hours = clinic.access_goal_hours
    rows = (
        (gettext("Offered a start within %(hours)d hours", hours=hours), met.offered, met.offer_rate),
        (gettext("Took a start within %(hours)d hours", hours=hours), met.took, met.realised),
        (gettext("Offered one and chose a later one"), met.took_later, met.later_rate),
    )
    told = [(what, figures.number(count), figures.percent_of_goal(share)) for what, count, share in rows]
    return [*told, (gettext("All bookings"), figures.number(met.booked), "")]


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
