"""Booking at the front desk: for who stands there, and for who calls. Between pages the form carries what was typed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse
from wtforms import BooleanField, EmailField, HiddenField, RadioField, StringField, TelField, TextAreaField
from wtforms.fields import SelectChoice
from wtforms.widgets import DateInput

from scheduler import words
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotBookable, NotFound
from scheduler.models import AppointmentType, ClinicPolicy, Needling, Patient
from scheduler.services import availability, booking, desk, override, practice
from scheduler.services.availability import Bookable, Find, Offer, SlotName
from scheduler.services.booking import BookForPatient, PatientDetails
from scheduler.timeline import cell_of, local_date, zone_of
from scheduler.web import schemas, wishes
from scheduler.web.context import context
from scheduler.web.forms import (
    EMAIL_IF_ANY,
    NOTE_IF_ANY,
    PHONE_IF_ANY,
    Like,
    is_within_reach,
    language_field,
    new_key,
    repeatable,
)
from scheduler.web.language import language
from scheduler.web.reasons import sentence
from scheduler.web.staff import asked, labels, seen
from scheduler.web.staff.access import AT_THE_DESK, allowed, staff
from scheduler.web.staff.forms import StaffForm
from scheduler.web.times import Shown, shown, shown_offer, shown_visit

pages = APIBlueprint("desk_booking", __name__, url_prefix="/staff/desk/book", enable_openapi=False)
TIMES_ON_A_PAGE = 100
SHOWN = "name, birth date, phone, e-mail, visits"
ANYHOW = "anyhow"  # that the address names: to be booked against a rule, with a reason
CARRIED = ("type", "patient", "new", ANYHOW)  # what an address tells the next page of booking


class VisitForm(StaffForm):
    """What a visit is about, for a patient who is known."""

    key = HiddenField()
    note = TextAreaField(
        _("What hurts? (optional)"),
        [NOTE_IF_ANY],
    )
    needling = RadioField(
        _("Needles?"),
        choices=[SelectChoice(word.value, label) for word, label in labels.ABOUT_NEEDLES.items()],
        default=Needling.TALK_FIRST.value,
    )
    override = TextAreaField(
        _("Why is it booked all the same?"),
        [NOTE_IF_ANY],
        description=_("It is kept with the visit, with your name. Only the clinic's staff can read it."),
    )
    told = BooleanField(_("I have told the patient the time: they need no call about it"))

    def validate(self, extra_validators: Any = None) -> bool:  # noqa: ANN401 as WTForms has it
        """Nothing is booked against a rule without a reason."""
        sound: bool = super().validate(extra_validators)
        if ANYHOW in request.args and not self.override.data and not self.override.errors:
            self.override.errors = [gettext("Write a reason.")]
            sound = False
        return sound


class NewPatientForm(VisitForm):
    """Who comes, too."""

    name = StringField(_("Name"), [Like(schemas.Name, _("Write the patient's name."))])
    email = EmailField(
        _("E-mail"),
        [EMAIL_IF_ANY],
        description=_("For the confirmation and reminders. Without it, the visit is put on the call list."),
    )
    phone = TelField(_("Phone"), [PHONE_IF_ANY])
    birth_date = StringField(
        _("Birth date (optional)"),
        [Like(schemas.BirthDate, _("Write a day like 1980-01-31."), optional=True)],
        widget=DateInput(),
    )
    language = language_field()

    def validate(self, extra_validators: Any = None) -> bool:  # noqa: ANN401 as WTForms has it
        """Nobody is born tomorrow."""
        sound: bool = super().validate(extra_validators)
        sound = is_within_reach(self, _("Write an e-mail address or a phone number.")) and sound
        born = self.birth_date.data
        if born and not self.birth_date.errors and not booking.is_born(born, now=context().clock.now()):
            self.birth_date.errors = [gettext("This day has not come yet.")]
            sound = False
        return sound


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a step of booking is about; `patient` is None for somebody new, or not chosen yet.

    `against` says, in words, which rule it would be booked against, where staff wish so.
    """

    start: Shown
    bookable: Bookable
    patient: Patient | None
    against: str | None = None

    @property
    def kind(self) -> AppointmentType:
        return self.bookable.kind

    @property
    def clinic(self) -> ClinicPolicy:
        return self.bookable.policy


@pages.get("", endpoint="times")
@allowed(*AT_THE_DESK)
def times() -> Response:
    """The soonest times at one location, from the quarter hour that is running on."""
    now = context().clock.now()
    with reading(context().engine) as session:
        clinic, own = practice.policy(session), desk.locations(session, staff().locations)
        place, kinds = asked.place(own), practice.appointment_types(session)
        if place is None or not kinds:
            return make_response(render_template("staff/desk/nowhere.html", clinic=clinic))
        patient = _patient(session)
        find = Find(
            _kind_id(kinds, known=patient is not None),
            location_id=place.id,
            therapist_id=asked.chosen("therapist"),
            language=wishes.spoken(),
            from_=asked.day("from"),
            local=wishes.local_wish(),
            after=_after(),
            limit=TIMES_ON_A_PAGE,
            by_staff=True,
        )
        found = availability.search(session, find, now=now)
        therapists, spoken = desk.therapists(session, place), practice.languages(session)
    seen.note([patient.id] if patient else [], SHOWN)
    today = local_date(now, zone_of(place.time_zone))
    page = render_template(
        "staff/desk/times.html",
        clinic=clinic,
        own=own,
        place=place,
        kinds=kinds,
        therapists=therapists,
        spoken=wishes.languages(spoken, find.language),
        find=find,
        parts=wishes.parts(),
        weekdays=wishes.weekdays(),
        named=wishes.names(find.local),
        from_=find.from_ or today,
        today=today,
        patient=patient,
        days=_by_day(found.offers, now),
        zone=words.zone_name(now, place.time_zone, language()),
        later=found.next_cursor,
        now=now,
    )
    return make_response(page)


@pages.get("/<slot>")
@allowed(*AT_THE_DESK)
def who(slot: str) -> Response:
    """Who comes: somebody known, whom to look for, or somebody new."""
    query = request.args.get("q", "").strip()
    if asked.key("patient") is not None or "new" in request.args:
        return _step("staff/desk/details.html", slot, _first_form(query))
    now = context().clock.now()
    with reading(context().engine) as session:
        try:
            wanted = _wanted(session, slot)
        except NotBookable as refusal:
            return _taken(slot, None, refusal)
        found = desk.find_patients(session, query, staff().locations, after=asked.key("after"))
    seen.note((one.id for one in found.patients), SHOWN)
    page = render_template(
        "staff/desk/who.html", clinic=wanted.clinic, wanted=wanted, slot=slot, query=query, found=found, now=now,
        words=words, carried=_carried(),
    )  # fmt: skip
    return make_response(page)


@pages.post("/<slot>")
@allowed(*AT_THE_DESK)
def book(slot: str) -> BaseResponse:
    """Check what was typed, show it again to be looked over, or book: as the button that was pressed says."""
    form = VisitForm() if asked.key("patient") is not None else NewPatientForm()
    step = request.form.get("step")
    if step == "change":
        return _step("staff/desk/details.html", slot, form)
    if not form.validate():
        return _step("staff/desk/details.html", slot, form, status=422)
    if step != "book":
        return _step("staff/desk/check.html", slot, form)
    now, by = context().clock.now(), staff().actor
    try:
        with transaction(context().engine) as session:
            command = _command(slot, _kind_id(practice.appointment_types(session), known=False), form)
            visit = desk.book(session, command, staff().locations, by=by, keys=context().keys, now=now).appointment
            patient = session.get_one(Patient, visit.patient_id)
            if form.told.data:
                stands = desk.standing(visit)
                desk.tell(session, visit, stands, account_id=staff().account_id, by=by, now=now)
    except NotBookable as refusal:
        return _taken(slot, form, refusal)
    except Invalid as error:
        raise NotFound("There is no such time.") from error
    start = shown_visit(visit, now)
    flash(gettext("The visit is booked: %(when)s.", when=start.label) + " " + _what_next(patient, visit.starts_at, now))
    on = local_date(visit.starts_at, zone_of(visit.location.time_zone))
    return redirect(url_for("desk.today", location=visit.location_id, day=on), 303)


def _what_next(patient: Patient, starts_at: datetime, now: datetime) -> str:
    if starts_at <= now:
        return str(gettext("It has begun, so no message is sent."))
    if patient.email is None:
        return str(gettext("There is no e-mail address, so no message is sent."))
    return str(gettext("The confirmation is on its way by e-mail."))


def _kind_id(kinds: Sequence[AppointmentType], *, known: bool) -> int:
    """The kind of visit that the address names, else the first that fits somebody known, or new."""
    wanted = asked.chosen("type")
    if wanted is not None and wanted not in {kind.id for kind in kinds}:
        raise Invalid("type", "There is nothing with this number.")
    proposed = next((kind for kind in kinds if kind.new_patient is not known), kinds[0])
    return wanted or proposed.id


def _after() -> tuple[datetime, int] | None:
    text = request.args.get("after", "")
    try:
        return availability.parse_cursor(text) if text else None
    except Invalid as error:
        raise Invalid("after", error.message) from error


def _patient(session: Session) -> Patient | None:
    """The patient whom the address names, if any; NotFound for a foreign one."""
    wanted = asked.key("patient")
    return None if wanted is None else desk.patient(session, wanted, staff().locations)


def _carried(**more: object) -> dict[str, object]:
    return {name: request.args[name] for name in CARRIED if request.args.get(name)} | more


def _wanted(session: Session, slot: str) -> Wanted:
    """Raise NotFound for a slot that is nowhere or foreign, NotBookable for one that cannot be had now."""
    now = context().clock.now()
    kind_id = _kind_id(practice.appointment_types(session), known=False)
    try:
        name = SlotName.parse(slot)
        staff().require_location(name.location_id)
        if ANYHOW in request.args:
            bookable, verdict = override.require(session, slot, kind_id, now=now)
        else:
            bookable, verdict = availability.require_bookable(session, slot, kind_id, now=now, by_staff=True), None
    except Invalid as error:
        raise NotFound("There is no such time.") from error
    against = sentence(verdict, bookable.location.time_zone) if verdict else None
    return Wanted(shown(bookable.slot, bookable.location, now), bookable, _patient(session), against)


def _first_form(query: str) -> VisitForm:
    """A form to begin with; what was looked for in vain need not be typed again."""
    data = {"key": new_key(), "needling": Needling.TALK_FIRST.value, "language": words.DEFAULT_LANGUAGE}
    patient_id = asked.key("patient")
    if patient_id is not None:
        with reading(context().engine) as session:
            earlier = desk.visits_of(session, patient_id, staff().locations)
        if earlier:
            data["needling"] = earlier[0].needling
        return VisitForm(formdata=None, data=data)
    field = "email" if "@" in query else "name" if any(sign.isalpha() for sign in query) else "phone"
    return NewPatientForm(formdata=None, data=data | {field: query})


def _step(template: str, slot: str, form: VisitForm, status: int = 200) -> Response:
    """A step of booking this slot; a time that is gone is told kindly, whichever step it is."""
    with reading(context().engine) as session:
        try:
            wanted = _wanted(session, slot)
        except NotBookable as refusal:
            return _taken(slot, form if request.method == "POST" else None, refusal)
    seen.note([wanted.patient.id] if wanted.patient else [], SHOWN)
    page = render_template(
        template, clinic=wanted.clinic, wanted=wanted, form=form, slot=slot, carried=_carried(), phone=words.phone
    )
    return make_response(page, status)


def _taken(slot: str, form: VisitForm | None, refusal: NotBookable) -> Response:
    """Say that the time is gone and offer others at the same location; the form carries on what was typed."""
    now = context().clock.now()
    with reading(context().engine) as session:
        clinic = practice.policy(session)
        kind_id = _kind_id(practice.appointment_types(session), known=False)
        offers = desk.other_times(session, slot, kind_id, now=now)
    page = render_template(
        "staff/desk/taken.html",
        clinic=clinic,
        code=refusal.code,
        others=[(offer, shown_offer(offer, now)) for offer in offers],
        form=form,
        carried=_carried(),
        location=SlotName.parse(slot).location_id,
    )
    return make_response(page, 409)


def _command(slot: str, kind_id: int, form: VisitForm) -> BookForPatient:
    """What was typed as a request. The same form with the same words is one booking."""
    patient_id = asked.key("patient")
    typed = [field.data for field in form if field.name not in {"key", "csrf_token"}]
    whose = (staff().account_id, slot, kind_id, str(patient_id))
    return BookForPatient(
        slot_id=slot,
        appointment_type_id=kind_id,
        patient=patient_id or _details(form),
        needling=Needling(form.needling.data),
        note=form.note.data,
        repeatable=repeatable("desk", form.key.data, *whose, *typed),
        override=form.override.data if ANYHOW in request.args else None,
    )


def _details(form: VisitForm) -> PatientDetails:
    assert isinstance(form, NewPatientForm)  # noqa: S101 for the type checker: without a patient it is
    return PatientDetails(
        name=form.name.data,
        email=form.email.data,
        phone=form.phone.data,
        birth_date=form.birth_date.data,
        language=form.language.data,
        remind_by_email=form.email.data is not None,
        remind_by_sms=False,
    )


def _by_day(offers: Sequence[Offer], now: datetime) -> list[tuple[str, list[tuple[Shown, list[Offer], bool]]]]:
    """Starts of one location by day and hour: (day, [(the moment, who is free then, whether it is running)])."""
    days = []
    for _day, of_day in groupby(offers, key=lambda offer: local_date(offer.slot.starts_at, zone_of(offer.time_zone))):
        moments = []
        for starts_at, at in groupby(of_day, key=lambda offer: offer.slot.starts_at):
            free = list(at)
            moments.append((shown_offer(free[0], now), free, starts_at <= cell_of(now)))
        first = moments[0][0]
        days.append((", ".join(filter(None, (first.soon, first.day))), moments))
    return days
