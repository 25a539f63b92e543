"""Who did what, and who looked at whom: the record of it, to search. Every search is put on record too."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from ipaddress import ip_address
from itertools import groupby
from operator import attrgetter
from typing import Any

from apiflask import APIBlueprint
from flask import Response, make_response, render_template, request
from flask_babel import lazy_gettext as _
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict
from wtforms import DateField, Field, Form, SelectField, StringField
from wtforms.fields import SelectChoice
from wtforms.validators import Optional, StopValidation

from scheduler.csv_cells import Cell
from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.models import AuditEvent, ClinicPolicy, Role
from scheduler.services import audit, audit_log, practice
from scheduler.services.audit_log import CHANGES, LOOKS, Find, Moment, Record
from scheduler.timeline import DAY, first_instant, zone_of
from scheduler.web.admin import deeds
from scheduler.web.context import context
from scheduler.web.downloads import csv_file
from scheduler.web.staff.access import allowed, staff

pages = APIBlueprint("audit_log", __name__, url_prefix="/admin/audit", enable_openapi=False)
MOST_ROWS = 10_000  # in one file
ACTOR = re.compile(r"[a-z]{1,20}(:[1-9][0-9]{0,8})?")
ACTION = re.compile(r"[a-z_]{1,40}(\.[a-z_]{1,40})?")
ADDRESS = re.compile(r"[0-9a-fA-F:.]{2,45}")  # and no zone of an IPv6 address, which may be any text
CENTURIES = range(2000, 2200)


class SearchForm(Form):  # type: ignore[misc] # WTForms has no types
    """What to look for; it stands in the address."""

    actor = SelectField(_("Who"), validate_choice=False)
    action = SelectField(_("What"), validate_choice=False)
    record = StringField(
        _("Which record"), description=_("Such as appointment:ID. “All about it” below fills this in.")
    )
    since = DateField(_("From day"), [Optional()])
    until = DateField(_("To day"), [Optional()])
    address = StringField(_("Network address"))

    def validate_actor(self, field: Field) -> None:
        _like(field, ACTOR)

    def validate_action(self, field: Field) -> None:
        _like(field, ACTION)

    def validate_record(self, field: Field) -> None:
        field.data = (field.data or "").strip()
        if field.data:
            try:
                Record.parse(field.data)
            except Invalid as error:
                raise StopValidation(str(_("Write it like appointment:ID."))) from error

    def validate_address(self, field: Field) -> None:
        field.data = (field.data or "").strip()
        if field.data:
            try:
                field.data = str(ip_address(field.data if ADDRESS.fullmatch(field.data) else ""))
            except ValueError as error:
                raise StopValidation(str(_("Write an address like 203.0.113.7."))) from error

    def validate_since(self, field: Field) -> None:
        _near(field)

    def validate_until(self, field: Field) -> None:
        _near(field)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for; `find` is None when that cannot be."""

    form: SearchForm
    clinic: ClinicPolicy
    names: Mapping[str, str]
    zone: str
    find: Find | None


@pages.get("", endpoint="search")
@allowed(Role.ADMIN, everywhere=True)
def search() -> Response:
    """The newest of what was looked for, by day."""
    with reading(context().engine) as session:
        asked = _asked(session)
        if asked.find is None:
            return _page(asked, 422)
        found, later = audit_log.search(session, asked.find)
        patient = audit_log.patient_of(session, asked.find.record)
    _note(asked.find)
    told = [deeds.told(event, asked.names, asked.zone) for event in found]
    days = [(*day, list(of_day)) for day, of_day in groupby(told, attrgetter("day", "zone"))]
    return _page(asked, days=days, later=later, patient=patient, most=MOST_ROWS)


@pages.get("/events.csv")
@allowed(Role.ADMIN, everywhere=True)
def download() -> Response:
    """The newest MOST_ROWS of what was looked for, ids and all."""
    with reading(context().engine) as session:
        asked = _asked(session)
        if asked.find is None:
            return _page(asked, 422)
        found, _later = audit_log.search(session, replace(asked.find, after=None, limit=MOST_ROWS))
    _note(asked.find)
    header = ["When", "Who", "Actor", "What", "Action", "Record", "Fields", "Network address"]
    return csv_file("audit", header, (_cells(event, asked) for event in found))


def _cells(event: AuditEvent, asked: Asked) -> tuple[Cell, ...]:
    deed = deeds.told(event, asked.names, asked.zone)
    return (deed.iso, deed.who, event.actor, deed.what, event.action, str(deed.record), deed.fields, deed.address)


def _note(find: Find) -> None:
    with transaction(context().engine) as session:
        audit.searched(session, find.in_words(), by=staff().actor, now=context().clock.now())


def _page(asked: Asked, status: int = 200, **found: Any) -> Response:  # noqa: ANN401 what the template shows
    chosen = {name: value for name, value in request.args.items() if name in asked.form and value}
    page = render_template("admin/audit.html", clinic=asked.clinic, form=asked.form, chosen=chosen, **found)
    return make_response(page, status)


def _asked(session: Session) -> Asked:
    names, zone = audit_log.accounts(session), practice.zone(session)
    form = SearchForm(MultiDict({"actor": "", "action": "", **request.args.to_dict()}))
    _offer(form, names, audit_log.actions(session))
    sound = form.validate()
    for name in ("since", "until"):
        if form[name].errors:
            form[name].errors = [_("Choose a day.")]
    if sound and form.since.data and form.until.data and form.until.data < form.since.data:
        form.until.errors = [_("Choose a day that is not before the first.")]
        sound = False
    return Asked(form, practice.policy(session), names, zone, _find(form, zone) if sound else None)


def _offer(form: SearchForm, names: Mapping[str, str], actions: Iterable[str]) -> None:
    """Who and what there is to choose from; what only an address names stays chosen."""
    people = {"": _("Everybody")} | dict(names) | deeds.OTHERS
    deeds_done = {"": _("Everything"), LOOKS: _("Everything looked at"), CHANGES: _("Everything done")}
    deeds_done |= {action: deeds.action_of_kind(action) for action in actions}
    for field, known in ((form.actor, people), (form.action, deeds_done)):
        known.setdefault(field.data, field.data)
        field.choices = [SelectChoice(value, label) for value, label in known.items()]


def _find(form: SearchForm, zone: str) -> Find:
    def midnight(day: date | None, more: int = 0) -> datetime | None:
        return first_instant(day + more * DAY, 0, zone_of(zone)) if day else None

    after = request.args.get("after")
    return Find(
        actor=form.actor.data or None,
        action=form.action.data or None,
        record=Record.parse(form.record.data) if form.record.data else None,
        since=midnight(form.since.data),
        until=midnight(form.until.data, 1),
        address=form.address.data or None,
        after=Moment.parse(after) if after else None,
    )


def _like(field: Field, pattern: re.Pattern[str]) -> None:
    if field.data and not pattern.fullmatch(field.data):
        raise StopValidation(str(_("Choose one of these.")))


def _near(field: Field) -> None:
    if field.data and field.data.year not in CENTURIES:
        raise StopValidation(str(_("Choose a day.")))
