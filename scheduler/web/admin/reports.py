"""How the clinic does: each report as pictures beside their tables, and as a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from apiflask import APIBlueprint
from flask import Response, make_response, render_template, request
from flask_babel import lazy_gettext as _
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict
from wtforms import Form, SelectField
from wtforms.fields import SelectChoice

from scheduler import words
from scheduler.db import reading
from scheduler.errors import NotFound
from scheduler.models import ClinicPolicy, Location, Role
from scheduler.services import practice, reports
from scheduler.services.reports import UNMARKED, Wanted
from scheduler.web.admin import figures, report_files
from scheduler.web.admin.figures import Names
from scheduler.web.admin.report_files import Table
from scheduler.web.context import context
from scheduler.web.downloads import csv_file
from scheduler.web.language import language
from scheduler.web.staff.access import allowed, staff

pages = APIBlueprint("reports", __name__, url_prefix="/admin/reports", enable_openapi=False)
MONTHS_BEFORE, MONTHS_AHEAD = 36, 3  # to choose from
SHOWN_BEFORE, SHOWN_AHEAD = 5, 1  # unless asked otherwise
NOT_THERE = _("Choose one of these.")


class ReportForm(Form):  # type: ignore[misc] # WTForms has no types
    """What to report; it stands in the address, so it can be kept and sent on."""

    location = SelectField(_("Location"))
    therapist = SelectField(_("Therapist"))
    first = SelectField(_("First month"))
    last = SelectField(_("Last month"))


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for; `wanted` is None when that cannot be."""

    form: ReportForm
    clinic: ClinicPolicy
    names: Names
    wanted: Wanted | None


@pages.get("", endpoint="overview")
@allowed(Role.ADMIN)
def overview() -> Response:
    """Every report of the months and of whom the address asks for."""
    now = context().clock.now()
    with reading(context().engine) as session:
        asked = _asked(session)
        if asked.wanted is None:
            return _not_understood(asked)
        wanted = asked.wanted
        cells = reports.utilization(session, wanted)
        counts = reports.together(reports.visits(session, wanted, now=now))
        ahead = reports.ahead(one for lengths in reports.leads(session, wanted).values() for one in lengths)
        cancelled = reports.together(reports.cancellations(session, wanted))
        reminded = reports.together(reports.reminders(session, wanted))
    return make_response(
        render_template(
            "admin/reports.html",
            clinic=asked.clinic,
            form=asked.form,
            chosen=asked.form.data,
            nothing_planned=not cells,
            utilization=figures.utilization(cells, wanted, asked.names),
            lead_time=figures.lead_time(counts),
            ahead=ahead and (figures.days(ahead.median), figures.days(ahead.p90)),
            no_shows=figures.no_shows(counts),
            nothing_due=not reports.kept(counts).came_due,
            unmarked=sum(count for visit, count in counts.items() if visit.status == UNMARKED),
            cancellations=figures.cancellations(cancelled),
            cancelled=sum(cancelled.values()),
            cancelled_share=figures.percent(reports.share(sum(cancelled.values()), sum(counts.values()))),
            reminders=figures.reminders(reminded),
            reminded=sum(reminded.values()),
            twice=sum(count for one, count in reminded.items() if one.twice),
        )
    )


@pages.get("/utilization.csv")
@allowed(Role.ADMIN)
def utilization() -> Response:
    return _file("utilization", report_files.utilization)


@pages.get("/lead-time.csv")
@allowed(Role.ADMIN)
def lead_time() -> Response:
    return _file("lead-time", report_files.lead_time)


@pages.get("/no-shows.csv")
@allowed(Role.ADMIN)
def no_shows() -> Response:
    now = context().clock.now()
    return _file("no-shows", lambda session, wanted, names: report_files.no_shows(session, wanted, names, now))


@pages.get("/cancellations.csv")
@allowed(Role.ADMIN)
def cancellations() -> Response:
    return _file("cancellations", report_files.cancellations)


@pages.get("/reminders.csv")
@allowed(Role.ADMIN)
def reminders() -> Response:
    return _file("reminders", report_files.reminders)


def _file(name: str, table: Callable[[Session, Wanted, Names], Table]) -> Response:
    with reading(context().engine) as session:
        asked = _asked(session)
        if asked.wanted is None:
            return _not_understood(asked)
        header, rows = table(session, asked.wanted, asked.names)
    return csv_file(name, header, rows)


def _not_understood(asked: Asked) -> Response:
    return make_response(render_template("admin/reports.html", clinic=asked.clinic, form=asked.form), 422)


def _asked(session: Session) -> Asked:
    """Read the address; raise NotFound for a location or therapist that is not theirs to see."""
    clinic, places = practice.policy(session), reports.places(session, staff().locations)
    people = reports.therapists(session, places)
    names = Names.of(places, people)
    month = reports.this_month(places, context().clock.now())
    shown = {
        "first": f"{reports.month_after(month, -SHOWN_BEFORE):%Y-%m}",
        "last": f"{reports.month_after(month, SHOWN_AHEAD):%Y-%m}",
    }
    form = ReportForm(MultiDict({"location": "", "therapist": "", **shown, **request.args.to_dict()}))
    _offer(form, names, month)
    for field, known in ((form.location, names.places), (form.therapist, names.people)):
        if field.data.isdecimal() and field.data.isascii() and field.data not in map(str, known):
            raise NotFound("There is no such location or therapist.")
    return Asked(form, clinic, names, _wanted(form, places) if _is_sound(form) else None)


def _offer(form: ReportForm, names: Names, month: date) -> None:
    """What there is to choose from."""
    months = [reports.month_after(month, count) for count in range(MONTHS_AHEAD, -MONTHS_BEFORE - 1, -1)]
    in_words = [SelectChoice(f"{one:%Y-%m}", words.month_in_words(one, language())) for one in months]
    everybody = SelectChoice("", _("All"))
    form.location.choices = [everybody, *(SelectChoice(str(one), name) for one, name in names.places.items())]
    form.therapist.choices = [everybody, *(SelectChoice(str(one), name) for one, name in names.people.items())]
    form.first.choices = form.last.choices = in_words


def _is_sound(form: ReportForm) -> bool:
    known = form.validate()
    for field in form:
        if field.errors:
            field.errors = [NOT_THERE]
    if known and form.last.data < form.first.data:
        form.last.errors = [_("Choose a month that is not before the first.")]
        return False
    return bool(known)


def _wanted(form: ReportForm, places: Sequence[Location]) -> Wanted:
    location, therapist = form.location.data, form.therapist.data
    return Wanted(
        places=reports.require_place(places, int(location)) if location else places,
        first=date.fromisoformat(f"{form.first.data}-01"),
        last=date.fromisoformat(f"{form.last.data}-01"),
        therapist_id=int(therapist) if therapist else None,
    )
