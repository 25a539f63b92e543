"""How the administrators' pages save: check, tell what it does to booked visits, save, and say so.

A page that is saved twice at once is refused with both values; what was typed is never lost.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse
from wtforms import Field, HiddenField

from scheduler import words
from scheduler.db import reading, transaction
from scheduler.errors import ClinicError, Invalid
from scheduler.models import ClinicPolicy
from scheduler.services import edits, practice
from scheduler.services.accounts import LastAdmin
from scheduler.services.consequences import NO_VISITS, UNSEEN, Hit, NotAgreed, Why
from scheduler.services.edits import ChangedMeanwhile
from scheduler.services.goal_changed import NewlyMissed
from scheduler.services.hours import HoursClash, Shift
from scheduler.services.time_away import Decided
from scheduler.timeline import DAY_MINUTES
from scheduler.web.context import context
from scheduler.web.fields import told
from scheduler.web.language import language
from scheduler.web.staff import seen
from scheduler.web.staff.access import staff
from scheduler.web.staff.forms import DetailsForm, StaffForm

MOST_SHOWN = 200  # of the visits that a change hits; the page of visits to move has all
MOST_MISSES = 10
UNTYPED = {"csrf_token", "agreed", "step"}
WHYS = {
    Why.THERAPIST_GONE: _("The therapist does not work here any more"),
    Why.LOCATION_CLOSED: _("The location is closed"),
    Why.NOT_LICENSED: _("Not licensed for it there on that day"),
    Why.CLOSED_THEN: _("The location is closed then"),
    Why.THERAPIST_OFF: _("The therapist is off then"),
    Why.OUTSIDE_HOURS: _("Outside the hours"),
    Why.NOT_OFFERED: _("This therapist or location does not offer it any more"),
    Why.KEEPS_LENGTH: _("Keeps the length that it was booked with"),
}


@dataclass(frozen=True, slots=True)
class Both:
    """A field that somebody else changed meanwhile: how it stands now, and what was typed."""

    label: str
    stored: str
    typed: str


@dataclass(frozen=True, slots=True)
class ShownHit:
    """A visit that no longer fits, in words; without a name at a place that the reader does not work for."""

    visit_id: UUID
    when: str
    patient: str
    therapist: str
    location: str
    why: str
    own: bool


@dataclass(frozen=True, slots=True)
class ShownMiss:
    """When a location would newly miss the goal, in words: the first times, and how many more there are."""

    told: str
    times: Sequence[str]
    more: int


@dataclass(frozen=True, slots=True)
class Deed:
    """A button below a form that does something else, at an address of its own."""

    words: str
    address: str
    explained: str = ""
    grave: bool = True


@dataclass(frozen=True, slots=True)
class Edit:
    """A page that shows a form: its heading, where it leads back to, what is said above, and what else can be done.

    `address` is where its form goes: to the page's own, unless one is named.
    """

    heading: str
    back: str
    about: Sequence[str] = ()
    deeds: Sequence[Deed] = ()
    address: str = ""

    def page(self, form: StaffForm, status: int = 200, *, both: Sequence[Both] = (), problem: str = "") -> Response:
        page = render_template("admin/edit.html", clinic=policy(), form=form, edit=self, both=both, problem=problem)
        return make_response(page, status)


def saved(
    form: StaffForm, edit: Edit, change: Callable[[Session], str], *, as_form: Callable[[Any], DetailsForm]
) -> BaseResponse:
    """Save what a form says and lead to where `change` says, or show the form again with what must be looked at.

    `as_form` makes the form that shows details, for what somebody else changed meanwhile.
    """
    if request.form.get("step") != "change" and not form.validate():
        return edit.page(form, 422)
    return done(form, edit, change, as_form=as_form)


def done(
    form: StaffForm, edit: Edit, change: Callable[[Session], str], *, as_form: Callable[[Any], DetailsForm]
) -> BaseResponse:
    """Do it and lead to where `change` says; `form` is shown when it cannot be done."""
    if request.form.get("step") == "change":
        return edit.page(form)
    try:
        with transaction(context().engine) as session:
            to = change(session)
    except (NotAgreed, ChangedMeanwhile, HoursClash, LastAdmin, Invalid) as refusal:
        return _told(form, edit, refusal, as_form)
    flash(gettext("Saved."))
    return redirect(to, 303)


def pressed(change: Callable[[Session], object], about: str, back: str) -> BaseResponse:
    """Do what a button alone says and lead back, also where it says why it cannot be done; `about` is what it does."""
    if request.form.get("step") == "change":
        return redirect(back, 303)
    try:
        with transaction(context().engine) as session:
            change(session)
    except NotAgreed as refusal:
        return _ask(refusal, about)
    except (Decided, Invalid) as refusal:
        flash(gettext(refusal.message if isinstance(refusal, Invalid) else str(refusal)))
        return redirect(back, 303)
    flash(gettext("Saved."))
    return redirect(after(back), 303)


def agreed() -> str:
    """What the reader agreed to: the visits that they were shown, if any."""
    return request.form.get("agreed", UNSEEN)


def after(page: str) -> str:
    """Where saving leads: to this page, or, whoever agreed that visits no longer fit, to them."""
    return page if agreed() in {UNSEEN, NO_VISITS} else url_for("clinic.visits_to_move")


def plain_date(day: date) -> str:
    return words.plain_date(day, language())


def now() -> datetime:
    return context().clock.now()


def policy() -> ClinicPolicy:
    with reading(context().engine) as session:
        return practice.policy(session)


def shown_hits(hits: Iterable[Hit]) -> list[ShownHit]:
    """Visits in words; that their patients were shown is noted."""
    told = list(hits)
    seen.note((hit.patient_id for hit in told if staff().works_at(hit.location_id)), "name, visit")
    return [_shown(hit) for hit in told]


def in_words(shift: Shift) -> str:
    """Hours, as in "Monday, 8:00 AM to 5:00 PM", or "Every 2 weeks: Monday, ..."."""
    if shift.every_weeks > 1:
        every_week = in_words(replace(shift, every_weeks=1))
        return str(gettext("Every %(weeks)d weeks: %(hours)s", weeks=shift.every_weeks, hours=every_week))
    opens, closes = words.wall_time(shift.opens_minute, language()), words.wall_time(shift.closes_minute, language())
    day = words.weekday(shift.weekday, language())
    if shift.closes_minute > DAY_MINUTES:
        return str(gettext("%(day)s, %(opens)s to %(closes)s on the next day", day=day, opens=opens, closes=closes))
    return str(gettext("%(day)s, %(opens)s to %(closes)s", day=day, opens=opens, closes=closes))


def _missed(newly: NewlyMissed) -> ShownMiss:
    """At most MOST_MISSES of the times in words."""
    told = gettext(
        "%(place)s would miss the goal of %(goal)d hours at times when it now keeps it, as bookings stand: "
        "for %(hours)s hours of the next four weeks",
        place=newly.location,
        goal=newly.goal_hours,
        hours=f"{newly.hours:.0f}",
    )
    times = [
        gettext(
            "From %(start)s to %(end)s",
            start=words.when(start, newly.time_zone, language()),
            end=words.when(end, newly.time_zone, language()),
        )
        for start, end in newly.times[:MOST_MISSES]
    ]
    return ShownMiss(str(told), times, len(newly.times) - len(times))


def _ask(refusal: NotAgreed, about: str) -> Response:
    """Tell what the change does to starts and to booked visits; whoever agrees sends the same form again."""
    hits = refusal.hits[:MOST_SHOWN]
    carried = [pair for pair in request.form.items(multi=True) if pair[0] not in UNTYPED]
    page = render_template(
        "admin/consequences.html",
        clinic=policy(),
        about=about,
        starts=refusal.starts,
        missed=[_missed(one) for one in refusal.missed],
        hits=shown_hits(hits),
        count=len(refusal.hits),
        kept_length=all(hit.why is Why.KEEPS_LENGTH for hit in refusal.hits),
        agreement=refusal.agreement,
        carried=carried,
    )
    return make_response(page)


def _both(form: StaffForm, stored: StaffForm) -> list[Both]:
    """Each field in which what was typed is not what is stored."""
    pairs = ((field, stored[field.name]) for field in form if field.name in stored and not _hidden(field))
    return [Both(str(typed.label.text), told(kept), told(typed)) for typed, kept in pairs if told(typed) != told(kept)]


def _hidden(field: Field) -> bool:
    return isinstance(field, HiddenField)


def _told(form: StaffForm, edit: Edit, refusal: ClinicError, as_form: Callable[[Any], DetailsForm]) -> Response:
    """Ask for an agreement, show both values, or say at its field what was refused."""
    match refusal:
        case NotAgreed():
            return _ask(refusal, edit.heading)
        case ChangedMeanwhile():
            form.seal.data = edits.seal_of(refusal.stored)  # whoever saves again has seen both
            return edit.page(form, 409, both=_both(form, as_form(refusal.stored)))
        case HoursClash():
            return _refused(form, edit, "opens" if "opens" in form else "time_zone", _clash(refusal), 422)
        case LastAdmin():
            return _refused(form, edit, "role", gettext("Somebody must stay who administers the whole clinic."), 409)
        case Invalid():
            return _refused(form, edit, refusal.field, gettext(refusal.message), 422)
        case _:
            raise refusal


def _refused(form: StaffForm, edit: Edit, name: str, message: str, status: int) -> Response:
    """Say at its field what was refused, or above a form that has none of this name."""
    if name in form:
        form[name].errors = [message]
        return edit.page(form, status)
    return edit.page(form, status, problem=message)


def _clash(clash: HoursClash) -> str:
    """Both places and times, and the first day on which they overlap."""
    return str(
        gettext(
            "%(therapist)s cannot be at two places at once: %(asked)s at %(place)s overlaps %(kept)s at %(other)s, "
            "first on %(day)s.",
            therapist=clash.asked.therapist,
            asked=in_words(clash.asked),
            place=clash.asked.location,
            kept=in_words(clash.kept),
            other=clash.kept.location,
            day=words.date_in_words(clash.first, language(), year=True),
        )
    )


def _shown(hit: Hit) -> ShownHit:
    own = staff().works_at(hit.location_id)
    return ShownHit(
        visit_id=hit.visit_id,
        when=words.when(hit.starts_at, hit.time_zone, language()),
        patient=hit.patient if own else gettext("a patient of another location"),
        therapist=hit.therapist,
        location=hit.location,
        why=str(WHYS[hit.why]),
        own=own,
    )
