"""What would bring the goal back at a location, each lever with its effect and a button; and what was done before."""

from dataclasses import dataclass
from datetime import datetime

from apiflask import APIBlueprint
from flask import render_template, request, url_for
from flask_babel import gettext, ngettext
from flask_babel import lazy_gettext as _
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from scheduler import words
from scheduler.db import reading
from scheduler.errors import NotFound
from scheduler.models import Lever, Location, Promise, Role, WorkingHours
from scheduler.services import edits, letting_go, lever_uses, levers, practice, standby
from scheduler.services.access_rules import FORESEEN, Cause
from scheduler.services.letting_go import KeptDay
from scheduler.services.lever_uses import Use
from scheduler.services.levers import Ask, Elsewhere, Levers, Need, Standby
from scheduler.services.protection import KeptAhead
from scheduler.timeline import CELL, DAY, HOUR
from scheduler.web.admin import figures
from scheduler.web.admin.deeds import OTHERS
from scheduler.web.admin.saving import agreed, now, policy, pressed
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.staff import asked
from scheduler.web.staff.access import allowed, staff

pages = APIBlueprint("levers", __name__, url_prefix="/admin/access/levers", enable_openapi=False)
USED = {
    Lever.ELSEWHERE: _("Offered another location"),
    Lever.RELEASE: _("Let go of what was kept back"),
    Lever.STANDBY: _("Opened standby hours"),
    Lever.ASK: _("Asked a therapist"),
}
TROUBLES = (  # what services refuse, to be translated
    _("These hours are not on standby."),
    _("These hours are not worked on this day."),
    _("This day has passed."),
    _("This day is not open."),
    _("Nothing could be booked then: it is over, closed, taken, or the therapist may not work."),
    _("This is not proposed any more."),
    _("Nothing is kept back on this day that cannot be booked already."),
    _("This day was not let go."),
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A lever in words, and what its button sends where, or where a link leads; no button for what was done already."""

    name: str
    told: str
    button: str
    address: str
    sends: dict[str, str] | None = None
    done: str = ""


@dataclass(frozen=True, slots=True)
class ShownUse:
    """What was done, in words; `closes` is the button that takes it back: its words, where it leads, of which day."""

    when: str
    what: str
    who: str
    hours: str
    booked: str
    closes: tuple[str, str, str] | None


@pages.get("")
@allowed(Role.ADMIN)
def proposals() -> str:
    """One of one's own locations: how it stands, what can be done, and what was done."""
    at = now()
    with reading(context().engine) as session:
        own = [place for place in practice.online_locations(session) if staff().works_at(place.id)]
        here = _chosen(own)
        found = levers.proposed(session, here.id, reach=staff().locations, now=at) if here else None
        uses = lever_uses.of_location(session, here.id, now=at) if here else []
    clinic = policy()
    return render_template(
        "admin/levers.html",
        clinic=clinic,
        own=own,
        here=here,
        standing=_standing(found.need, here, clinic.access_goal_hours) if found and here else [],
        proposals=_worded(found, here, uses) if found and here else [],
        uses=[_shown(use) for use in uses],
        shown_days=lever_uses.SHOWN // DAY,
    )


@pages.post("/standby/<int:hours_id>/open")
@allowed(Role.ADMIN)
def open_day(hours_id: int) -> BaseResponse:
    """Open a day of standby hours: its times can be booked at once."""
    place_id, day = _place_of(hours_id), asked.day_sent()

    with reading(context().engine) as session:
        promise = levers.promise_at(session, place_id, now=now())

    def change(session: Session) -> None:
        standby.open_day(session, hours_id, day, promise, by=staff().actor, now=now())

    return pressed(change, gettext("Open standby hours"), _back(place_id))


@pages.post("/standby/<int:hours_id>/close")
@allowed(Role.ADMIN)
def close_day(hours_id: int) -> BaseResponse:
    """Take a day that is open off the calendar again; whoever closes it is told first what that does."""
    place_id, day = _place_of(hours_id), asked.day_sent()

    def change(session: Session) -> None:
        standby.close_day(session, hours_id, day, agreed=agreed(), by=staff().actor, now=now())

    return pressed(change, gettext("Close standby hours"), _back(place_id))


@pages.post("/<int:location_id>/let-go")
@allowed(Role.ADMIN)
def let_go(location_id: int) -> BaseResponse:
    """Let go of what a location keeps back on a day: it can be booked at once."""
    _require_own(location_id)
    day = asked.day_sent()

    with reading(context().engine) as session:
        promise = levers.promise_at(session, location_id, now=now())

    def change(session: Session) -> None:
        letting_go.let_go(session, location_id, day, promise, by=staff().actor, now=now())

    return pressed(change, gettext("Let go of what is kept back"), _back(location_id))


@pages.post("/<int:location_id>/asked/<int:therapist_id>")
@allowed(Role.ADMIN)
def ask(location_id: int, therapist_id: int) -> BaseResponse:
    """Note that one asked a therapist to work on a day."""
    _require_own(location_id)
    day = asked.day_sent()

    found = _proposed(location_id)

    def change(session: Session) -> None:
        levers.asked(session, location_id, therapist_id, day, found, by=staff().actor, now=now())

    return pressed(change, gettext("Ask a therapist"), _back(location_id))


@pages.post("/<int:location_id>/offered")
@allowed(Role.ADMIN)
def offer(location_id: int) -> BaseResponse:
    """Note that one offered another location to a patient."""
    _require_own(location_id)
    place_id = asked.number("place", request.form.get("place", ""))

    found = _proposed(location_id)

    def change(session: Session) -> None:
        levers.offered(session, location_id, place_id, found, by=staff().actor, now=now())

    return pressed(change, gettext("Offer another location"), _back(location_id))


def _proposed(location_id: int) -> Levers | None:
    with reading(context().engine) as session:
        return levers.proposed(session, location_id, reach=staff().locations, now=now())


# --- what an address names


def _chosen(own: list[Location]) -> Location | None:
    """The location that the address names, else the first of one's own; raises NotFound for another's."""
    named = request.args.get("location")
    if named is None:
        return own[0] if own else None
    found = next((place for place in own if str(place.id) == named), None)
    if found is None:
        raise NotFound("There is no such location.")
    return found


def _require_own(location_id: int) -> None:
    with reading(context().engine) as session:
        edits.found(session, Location, location_id)
    staff().require_location(location_id)


def _place_of(hours_id: int) -> int:
    """Where these hours are; raises NotFound for hours at a location that is not one's own."""
    with reading(context().engine) as session:
        place_id = edits.found(session, WorkingHours, hours_id).location_id
    staff().require_location(place_id)
    return place_id


def _back(location_id: int) -> str:
    return url_for("levers.proposals", location=location_id)


# --- in words


def _standing(need: Need, here: Location, goal_hours: int) -> list[str]:
    """How the goal stands there, why, and which starts count."""
    told = {"hours": goal_hours, "days": FORESEEN // DAY}
    if need.promise is Promise.KEPT:
        verdict = gettext(
            "The goal is kept now, and at the pace of the last four weeks no bookings end that within %(days)d days.",
            **told,
        )
    elif need.promise is Promise.FORESEEN:
        when = words.when(need.misses[0].begins_at, here.time_zone, language())
        verdict = gettext(
            "The goal will be missed from %(when)s on: at the pace of the last four weeks all times are taken then.",
            when=when,
        )
    elif need.misses[0].cause is Cause.CAPACITY:
        verdict = gettext("The goal is missed now: all times within %(hours)d hours are taken.", **told)
    else:
        verdict = gettext("The goal is missed now: nobody works within %(hours)d hours.", **told)
    first, last = (words.when(instant, here.time_zone, language()) for instant in need.window)
    gap = []
    if need.gap is not None:
        when = words.when(need.gap.begins_at, here.time_zone, language())
        gap = [gettext("From %(when)s on nobody works within %(hours)d hours, whatever is booked.", when=when, **told)]
    return [verdict, *gap, gettext("Counted below: starts from %(first)s to %(last)s.", first=first, last=last)]


def _worded(found: Levers, here: Location, uses: list[Use]) -> list[tuple[str, str, list[Proposal]]]:
    """The levers in their order: a heading, what is said when there is none, and each by name."""
    asked_before = {(use.row.therapist_id, use.row.day): use for use in uses if use.row.lever == Lever.ASK}
    return [
        (
            gettext("Offer other locations of the area first"),
            gettext("No other location of the area has a start then."),
            [_elsewhere(one, here) for one in found.elsewhere],
        ),
        (
            gettext("Let go of what is kept back, or keep back more"),
            gettext("Nothing is kept back here that could not be booked now."),
            [
                *([_kept(found.kept, here)] if found.kept.visits or found.kept.level else []),
                *(_release(one, here) for one in found.release),
            ],
        ),
        (
            gettext("Open standby hours"),
            gettext("No hours on standby would give a start then."),
            [_standby(one, here) for one in found.standby],
        ),
        (
            gettext("Ask a therapist who does not work then"),
            gettext("Nobody who may give such visits here is free then."),
            [_ask(one, here, asked_before.get((one.therapist_id, one.day))) for one in found.ask],
        ),
    ]


def _starts(number: int) -> str:
    return str(ngettext("%(num)d start", "%(num)d starts", number))


def _elsewhere(one: Elsewhere, here: Location) -> Proposal:
    whose = ", ".join(f"{name} ({_starts(count)})" for name, count in sorted(one.therapists.items()))
    soonest = words.when(one.soonest, one.location.time_zone, language())
    told = gettext("%(starts)s, the soonest %(when)s: %(whose)s", starts=_starts(one.starts), when=soonest, whose=whose)
    address = url_for("levers.offer", location_id=here.id)
    return Proposal(one.location.name, told, gettext("I offered it"), address, {"place": str(one.location.id)})


def _kept(kept: KeptAhead, here: Location) -> Proposal:
    """Within the goal's hours nothing is kept back any more: letting go brings the goal back on no day."""
    told = [
        ngettext("%(num)d visit of each day.", "%(num)d visits of each day.", kept.level),
        gettext("Letting go gives no start within the goal's hours, where all can be booked already."),
    ]
    if kept.first is not None:
        when = words.when(kept.first, here.time_zone, language())
        told.append(
            ngettext(
                "It would open %(num)d visit later on: %(when)s.",
                "It would open %(num)d visits later on, from %(when)s.",
                kept.visits,
                when=when,
            )
        )
    told.append(gettext("Keeping back more leaves more to those who need a visit soon."))
    address = url_for("protection.level", location_id=here.id)
    return Proposal(gettext("Kept back"), " ".join(told), gettext("Change or pin it"), address)


def _release(one: KeptDay, here: Location) -> Proposal:
    """A day that keeps something back."""
    name = words.date_in_words(one.day, language())
    told = f"{_starts(one.starts)}, {_hours(one.cells * CELL / HOUR)}"
    address = url_for("levers.let_go", location_id=here.id)
    return Proposal(name, told, gettext("Let go"), address, {"day": one.day.isoformat()})


def _standby(one: Standby, here: Location) -> Proposal:
    address = url_for("levers.open_day", hours_id=one.of.shift.id)
    told = _gives(_times(one.of.starts_at, one.of.ends_at, here), one.starts, one.hours)
    return Proposal(one.of.shift.therapist, told, gettext("Open this day"), address, {"day": one.of.day.isoformat()})


def _ask(one: Ask, here: Location, before: Use | None) -> Proposal:
    told = _gives(_times(one.starts_at, one.ends_at, here), one.starts, one.hours)
    address = url_for("levers.ask", location_id=here.id, therapist_id=one.therapist_id)
    done = ""
    if before is not None:
        when = _when(before.row.used_at, here)
        done = gettext("Asked %(when)s by %(who)s", when=when, who=_who(before))
    name = f"{one.therapist}, {one.email}" if one.email else one.therapist
    return Proposal(name, told, gettext("I asked"), address, {"day": one.day.isoformat()}, done)


def _gives(times: str, starts: int, hours: float) -> str:
    return f"{times}: {_starts(starts)}, {_hours(hours)}"


def _hours(hours: float) -> str:
    told = {"hours": figures.number(hours)}
    return str(ngettext("%(hours)s hour", "%(hours)s hours", 1 if hours == 1 else 2, **told))


def _times(starts_at: datetime, ends_at: datetime, place: Location) -> str:
    begins, ends = _when(starts_at, place), words.hour(ends_at, place.time_zone, language())
    return str(gettext("%(begins)s to %(ends)s", begins=begins, ends=ends))


def _when(instant: datetime, place: Location) -> str:
    """Day and hour where the clock of a place hangs; the page names its zone above."""
    zone = place.time_zone
    return f"{words.day(instant, zone, language())}, {words.hour(instant, zone, language())}"


def _shown(use: Use) -> ShownUse:
    row, place = use.row, use.place
    what = [str(USED[Lever(row.lever)]), *filter(None, (use.therapist,)), place.name]
    if use.therapist is not None:
        what.append(_times(row.starts_at, row.ends_at, place))
    if row.closed_at is not None:
        closed = _when(row.closed_at, place)
        back = gettext("kept back again %(when)s", when=closed)
        what.append(back if row.lever == Lever.RELEASE else gettext("closed again %(when)s", when=closed))
    visits = ngettext("%(num)d visit", "%(num)d visits", use.visits)
    closes = None
    if use.hours_id is not None and use.day is not None:
        closes = gettext("Close again"), url_for("levers.close_day", hours_id=use.hours_id), use.day.isoformat()
    elif use.day is not None:
        address = url_for("protection.keep_again", location_id=row.location_id)
        closes = gettext("Keep the day back again"), address, use.day.isoformat()
    return ShownUse(
        when=_when(row.used_at, place),
        what=", ".join(what),
        who=_who(use),
        hours=_hours(use.hours),
        booked=f"{visits}, {_hours(use.booked_hours)}",
        closes=closes,
    )


def _who(use: Use) -> str:
    return use.who or str(OTHERS.get(use.row.used_by, use.row.used_by))
