"""A plan of care for a known patient: what is wished, what is proposed for it, and the list booked as one."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext, ngettext
from flask_babel import lazy_gettext as _
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse
from wtforms.fields import SelectChoice

from scheduler import words
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotFound
from scheduler.models import Appointment, AppointmentType, Location, Needling, Patient, Therapist
from scheduler.services import booking, desk, practice, series
from scheduler.services.availability import Offer, SlotName
from scheduler.services.booking import BookSeries, SeriesRefused
from scheduler.services.reasons import Reason
from scheduler.services.series import MOST_A_WEEK, MOST_WEEKS, Gap, Plan, Proposal, Proposed, Unplaced
from scheduler.timeline import local_date, zone_of
from scheduler.web.context import context, now
from scheduler.web.fields import Clock, Day, OneOf, Ticks, Whole, time_of
from scheduler.web.forms import new_key, repeatable
from scheduler.web.language import language
from scheduler.web.reasons import SENTENCES
from scheduler.web.staff import seen
from scheduler.web.staff.access import AT_THE_DESK, allowed, staff
from scheduler.web.staff.desk_booking import SHOWN, VisitForm
from scheduler.web.staff.forms import StaffForm
from scheduler.web.wishes import SUNDAY_FIRST

pages = APIBlueprint(
    "series", __name__, url_prefix="/staff/desk/patients/<uuid:patient_id>/series", enable_openapi=False
)
ANYWHERE = 0
CHOICE = "on-"  # a field for each day, with the start to be booked on it, or nothing
WHY = SENTENCES | {
    Reason.TAKEN: _("All its times are taken."),
    Reason.PROTECTED: _("What is free is kept back for short notice."),
    Reason.HOURS_TOO_SHORT: _("The hours are too short for this visit."),
    Reason.TOO_SOON: _("It is over."),
    Unplaced.HAS_VISIT: _("The patient has another visit that day."),
    Unplaced.TOO_NEAR: _("Its time is less than 12 hours from another visit of the list."),
}


class PlanForm(StaffForm):
    """What is wished, as the address tells it."""

    class Meta:
        csrf = False  # it asks, and changes nothing

        def wrap_formdata(self, _form: object, _formdata: object) -> Any:  # noqa: ANN401 as WTForms has it
            return request.args if "weeks" in request.args else None

    type = OneOf(_("Kind of visit"), coerce=int)
    therapist = OneOf(_("Therapist"), coerce=int)
    location = OneOf(_("Location"), coerce=int)
    first = Day(_("First day"))
    weeks = Whole(_("For how many weeks"), 1, MOST_WEEKS)
    times = Whole(_("Visits a week"), 1, MOST_A_WEEK)
    at = Clock(_("Near this time of day"))
    weekdays = Ticks(_("Only on these days (optional)"), coerce=int)

    def validate(self, extra_validators: Any = None) -> bool:  # noqa: ANN401 as WTForms has it
        sound: bool = super().validate(extra_validators)
        if sound and self.weekdays.data and len(self.weekdays.data) < self.times.data:
            self.weekdays.errors = [gettext("Choose as many days as visits a week, or none.")]
            sound = False
        if sound and self.first.data < local_date(now(), zone_of("UTC")) - timedelta(days=1):
            self.first.errors = [gettext("This day is over.")]
            sound = False
        return sound

    def plan(self) -> Plan:
        """What was wished, once it is valid."""
        return Plan(
            appointment_type_id=self.type.data,
            therapist_id=self.therapist.data,
            location_id=self.location.data or None,
            first=self.first.data,
            weeks=self.weeks.data,
            times_a_week=self.times.data,
            minute=self.at.minutes,
            weekdays=frozenset(self.weekdays.data or ()),
        )


@dataclass(frozen=True, slots=True)
class Around:
    """What the page is about, and what its form chooses from."""

    patient: Patient
    latest: Appointment | None
    kinds: Sequence[AppointmentType]
    places: Sequence[Location]
    people: Sequence[Therapist]


@dataclass(frozen=True, slots=True)
class Visit:
    """A proposal in words: the day, its field, and its times, each with the start and whether it is chosen."""

    day: str
    field: str
    times: list[tuple[str, str, bool]]


@dataclass(frozen=True, slots=True)
class Missing:
    """A gap in words: how many visits, in which week, and why, with the days of each reason."""

    text: str
    why: list[tuple[str, str]]


@pages.get("", endpoint="plan")
@allowed(*AT_THE_DESK)
def plan(patient_id: UUID) -> Response:
    """What is wished and, once it is, what is proposed."""
    return _page(patient_id, VisitForm(formdata=None, data={"key": new_key(), "needling": Needling.TALK_FIRST.value}))


@pages.post("", endpoint="book")
@allowed(*AT_THE_DESK)
def book(patient_id: UUID) -> BaseResponse:
    """Book the list that was accepted, all of it or nothing."""
    form, chosen = VisitForm(), _chosen()
    slot_ids = tuple(slot_id for _day, slot_id in sorted(chosen.items()) if slot_id)
    if not form.validate() or not slot_ids:
        return _page(patient_id, form, chosen=chosen, nothing=not slot_ids, status=422)
    at, by = now(), staff().actor
    try:
        with transaction(context().engine) as session:
            patient = desk.patient(session, patient_id, staff().locations)
            command = _command(session, patient_id, slot_ids, form)
            booked = [
                one.appointment for one in booking.book_series(session, command, by=by, keys=context().keys, now=at)
            ]
            if form.told.data:
                for one in booked:
                    desk.tell(session, one, desk.standing(one), account_id=staff().account_id, by=by, now=at)
    except SeriesRefused as refusal:
        form.key.data = new_key()
        return _page(patient_id, form, chosen=chosen, refused=refusal, status=409)
    except Invalid as error:
        raise NotFound("There is no such time.") from error
    said = ngettext("One visit is booked.", "%(num)d visits are booked.", len(booked))
    told = gettext("One message tells the patient of all.") if patient.email else _no_message()
    flash(f"{said} {told}")
    return redirect(url_for("desk.patient", patient_id=patient_id), 303)


def _no_message() -> str:
    return str(gettext("There is no e-mail address, so no message is sent."))


def _chosen() -> dict[str, str]:
    """What was chosen of each day, by the day as the form writes it."""
    return {name.removeprefix(CHOICE): text for name, text in request.form.items() if name.startswith(CHOICE)}


def _days(chosen: Mapping[str, str]) -> set[date]:
    """The days that were chosen for, or left out; what is no day was nobody's choice."""
    found = set()
    for text in chosen:
        with suppress(ValueError):
            found.add(date.fromisoformat(text))
    return found


def _command(session: Session, patient_id: UUID, slot_ids: tuple[str, ...], form: VisitForm) -> BookSeries:
    """The same form with the same choices is one booking; raises NotFound for a start at a foreign place."""
    for slot_id in slot_ids:
        staff().require_location(SlotName.parse(slot_id).location_id)
    kind_id = request.args.get("type", "")
    if kind_id not in {str(kind.id) for kind in practice.appointment_types(session)}:
        raise Invalid("type", "There is nothing with this number.")
    typed = (form.note.data, form.needling.data, form.told.data)
    return BookSeries(
        slot_ids=slot_ids,
        appointment_type_id=int(kind_id),
        patient=patient_id,
        needling=Needling(form.needling.data),
        note=form.note.data,
        repeatable=repeatable("series", form.key.data, staff().account_id, str(patient_id), kind_id, slot_ids, *typed),
    )


def _page(
    patient_id: UUID,
    form: VisitForm,
    *,
    chosen: Mapping[str, str] | None = None,
    refused: SeriesRefused | None = None,
    nothing: bool = False,
    status: int = 200,
) -> Response:
    """The page: what is wished, and what is proposed for it now, with what was `chosen` of it as far as it stands."""
    at = now()
    with reading(context().engine) as session:
        clinic, around = practice.policy(session), _around(session, patient_id)
        wish = _wish(around, at)
        asked = "weeks" in request.args
        valid = asked and wish.validate()
        proposed = None
        if valid:
            settled, places = _days(chosen or {}), staff().locations
            proposed = series.propose(session, wish.plan(), patient_id, places, now=at, settled=settled)
    seen.note([patient_id], SHOWN)
    several = len(around.places) > 1
    page = render_template(
        "staff/desk/series.html",
        clinic=clinic,
        patient=around.patient,
        wish=wish,
        form=form,
        visits=_visits(proposed, chosen or {}, several=several) if proposed else [],
        missing=[_missing(gap) for gap in proposed.gaps] if proposed else [],
        asked=valid,
        gone=[_when(slot_id, around.places) for slot_id in refused.refused] if refused else [],
        nothing=nothing,
        able=bool(around.kinds and around.people),
    )
    return make_response(page, 422 if asked and not valid else status)


def _around(session: Session, patient_id: UUID) -> Around:
    places = staff().locations
    patient = desk.patient(session, patient_id, places)
    visits = desk.visits_of(session, patient_id, places)
    return Around(
        patient,
        visits[0] if visits else None,
        practice.appointment_types(session),
        desk.locations(session, places),
        series.therapists(session, places),
    )


def _wish(around: Around, at: datetime) -> PlanForm:
    """The form of the plan: as the address has it, else like the patient's latest visit."""
    latest = around.latest
    returning = next((kind.id for kind in around.kinds if not kind.new_patient), None)
    zone = latest.location.time_zone if latest else next((place.time_zone for place in around.places), "UTC")
    data: dict[str, Any] = {
        "type": returning,
        "location": ANYWHERE,
        "first": local_date(at, zone_of(zone)) + timedelta(days=1),
        "weeks": 6,
        "times": 2,
        "at": time_of(10 * 60),
    }
    if latest is not None:
        wall = latest.starts_at.astimezone(zone_of(zone))
        minute = (wall.hour * 60 + wall.minute) // 15 * 15
        data |= {"therapist": latest.therapist_id, "location": latest.location_id, "at": time_of(minute)}
    form = PlanForm(data=data)
    form.type.choices = [SelectChoice(kind.id, kind.name) for kind in around.kinds]
    form.therapist.choices = [SelectChoice(one.id, one.name) for one in around.people]
    places = [SelectChoice(place.id, place.name) for place in around.places]
    form.location.choices = [SelectChoice(ANYWHERE, gettext("Any")), *places]
    form.weekdays.choices = [SelectChoice(number, words.weekday(number, language())) for number in SUNDAY_FIRST]
    return form


def _visits(proposed: Proposed, chosen: Mapping[str, str], *, several: bool) -> list[Visit]:
    return [_visit(one, chosen, several=several) for one in proposed.visits]


def _visit(proposal: Proposal, chosen: Mapping[str, str], *, several: bool) -> Visit:
    """One proposal, with what was chosen of its day where that can still be had."""
    on = series.day_of(proposal.start)
    starts = {str(one.slot): one for one in proposal.of_day}
    picked = chosen.get(on.isoformat(), str(proposal.start.slot))
    if picked and picked not in starts:
        picked = str(proposal.start.slot)
    times = [(slot_id, _hour(one, several=several), slot_id == picked) for slot_id, one in starts.items()]
    not_then = ("", str(gettext("No visit on this day")), not picked)
    return Visit(words.date_in_words(on, language()), f"{CHOICE}{on.isoformat()}", [*times, not_then])


def _hour(start: Offer, *, several: bool) -> str:
    hour = words.hour(start.slot.starts_at, start.time_zone, language())
    return f"{hour}, {start.location_name}" if several else hour


def _missing(gap: Gap) -> Missing:
    text = ngettext(
        "One visit of the week from %(day)s has no place:",
        "%(num)d visits of the week from %(day)s have no place:",
        gap.missing,
        day=words.date_in_words(gap.week, language()),
    )
    by_reason: dict[str, list[date]] = {}
    for day, why in gap.why.items():
        by_reason.setdefault(str(WHY[why]), []).append(day)
    return Missing(
        text,
        [
            (", ".join(words.weekday(day.weekday(), language()) for day in days), sentence)
            for sentence, days in by_reason.items()
        ],
    )


def _when(slot_id: str, places: Sequence[Location]) -> str:
    """A start that is gone, on the clock of its place."""
    name = SlotName.parse(slot_id)
    zone = next((place.time_zone for place in places if place.id == name.location_id), "UTC")
    return words.when(name.starts_at, zone, language())
