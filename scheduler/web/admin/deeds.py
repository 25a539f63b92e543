"""What audit rows say, in plain words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from flask import current_app, url_for
from flask_babel import lazy_gettext as _
from werkzeug.routing import BuildError

from scheduler import words
from scheduler.models import AuditEvent
from scheduler.services.audit_log import Record
from scheduler.timeline import zone_of
from scheduler.web.admin.moving_words import KINDS
from scheduler.web.language import language

# The second part of an action.
VERBS: dict[str, Any] = {
    "added": _("Added"),
    "app_added": _("Added an app that shows codes"),
    "app_removed": _("Removed the app that shows codes"),
    "answered": _("Answered it"),
    "approved": _("Approved"),
    "arrived": _("Marked as arrived"),
    "asked": _("Asked the clinic"),
    "booked": _("Booked"),
    "brought_back": _("Undid the cancellation"),
    "cancelled": _("Canceled"),
    "changed": _("Changed"),
    "closed": _("Closed"),
    "code_refused": _("Wrong code at sign-in"),
    "code_taken": _("Right code at sign-in"),
    "decided": _("Decided by the rule"),
    "declined": _("Declined"),
    "disabled": _("Disabled"),
    "enabled": _("Enabled again"),
    "erased": _("Erased"),
    "fulfilled": _("Marked as done"),
    "imported": _("Moved in"),
    "invited": _("Made a link to set a password"),
    "locked": _("Locked out"),
    "looked_through": _("Looked through"),
    "made": _("Made"),
    "mark_undone": _("Took the mark back"),
    "moved": _("Moved"),
    "merged": _("Made one with another"),
    "merged_away": _("Became another's"),
    "noshow": _("Marked as no-show"),
    "paper_codes_made": _("Made recovery codes"),
    "passkey_added": _("Added a passkey"),
    "passkey_removed": _("Removed a passkey"),
    "opened": _("Opened"),
    "let_go": _("Let go of a day"),
    "kept_again": _("Kept a day back again"),
    "overridden": _("Booked against a rule"),
    "password_set": _("Set the password"),
    "read": _("Looked at"),
    "reminders_started": _("Started the reminders"),
    "removed": _("Removed"),
    "reviewed": _("Reviewed"),
    "revoked": _("Revoked"),
    "second_factor_reset": _("Reset the second factor"),
    "signed_in": _("Signed in"),
    "signed_out": _("Signed out"),
    "signed_out_everywhere": _("Signed out everywhere"),
    "told": _("Told the patient"),
    "tried_again": _("Tried to send again"),
    "unlocked": _("Unlocked"),
    "untold": _("Took back that the patient was told"),
    "verified": _("Verified"),
    "withdrawn": _("Taken back"),
    "wrong_password": _("Wrong password at sign-in"),
}
RECORDS: dict[str, Any] = {
    "account": _("Account"),
    "appointment": _("Visit"),
    "appointment_type": _("Kind of visit"),
    "audit_event": _("This record"),
    "calendar_feed": _("Calendar link"),
    "clinic_policy": _("Clinic's policy"),
    "closure": _("Closure"),
    "contact_request": _("Question"),
    "lever_use": _("Lever for the goal"),
    "license": _("License"),
    "location": _("Location"),
    "moving_in": _("Import"),
    "outbox_message": _("Message"),
    "patient": _("Patient"),
    "protection_level": _("Kept back for short notice"),
    "state_rule": _("State rule"),
    "therapist": _("Therapist"),
    "time_off": _("Time off"),
    "working_hours": _("Working hours"),
}
YES, NO, NONE = _("yes"), _("no"), _("none")
# What notes are called, where their names are not plain words.
NOTES: dict[str, Any] = {
    "opens_minute": _("From"),
    "closes_minute": _("To"),
    "starts_on": _("First day"),
    "starts_minute": _("From"),
    "ends_on": _("Last day"),
    "ends_minute": _("To"),
    "valid_from": _("First day"),
    "valid_until": _("Last day"),
    "weekday": _("Weekday"),
    "every_weeks": _("Every so many weeks"),
    "least": _("Floor"),
    "most": _("Ceiling"),
    "pinned": _("Pinned"),
    "level": _("Visits a day"),
    "day": _("Day"),
    "place_id": _("Where"),
    "counts": _("Lines"),
    "what": _("File"),
}
# How values are told that are not plain words.
VALUES: dict[str, Callable[[Any], object]] = {
    "opens_minute": lambda minutes: words.wall_time(minutes, language()),
    "closes_minute": lambda minutes: words.wall_time(minutes, language()),
    "starts_minute": lambda minutes: words.wall_time(minutes, language()),
    "ends_minute": lambda minutes: words.wall_time(minutes, language()),
    "starts_on": lambda day: words.plain_date(date.fromisoformat(day), language()),
    "ends_on": lambda day: words.plain_date(date.fromisoformat(day), language()),
    "day": lambda day: words.plain_date(date.fromisoformat(day), language()),
    "valid_from": lambda day: words.plain_date(date.fromisoformat(day), language()),
    "valid_until": lambda day: words.plain_date(date.fromisoformat(day), language()),
    "weekday": lambda number: words.weekday(number, language()),
    "what": lambda kind: KINDS.get(kind, kind),
}
COUNTED: dict[str, Any] = {
    "new": _("stored"),
    "known": _("here already"),
    "over": _("over"),
    "called-off": _("canceled there"),
    "problem": _("left out"),
}
# Who is nobody's account.
OTHERS: dict[str, Any] = {
    "patient": _("A patient, online"),
    "stranger": _("Somebody not signed in"),
    "worker": _("The program itself"),
    "shell": _("A command on the server"),
    "setup": _("The first setup"),
    "demo": _("The demonstration"),
}
# Where a record has a page: its endpoint, what that calls the id, and what the id is.
PAGES: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "appointment": ("schedule.visit", "visit_id", UUID),
    "patient": ("desk.patient", "patient_id", UUID),
    "contact_request": ("questions.question", "question_id", UUID),
    "location": ("clinic.location", "location_id", int),
    "therapist": ("people.therapist", "therapist_id", int),
    "account": ("people.account", "account_id", int),
    "closure": ("away.closure", "closure_id", int),
    "license": ("people.license_", "license_id", int),
    "appointment_type": ("clinic.type_", "type_id", int),
    "protection_level": ("protection.level", "location_id", int),
}


@dataclass(frozen=True, slots=True)
class Deed:
    """One audit row in words: when with its zone, who, what to which record and fields, from where.

    `iso` is the instant as programs read it; `page` the record's page, where it has one.
    """

    day: str
    zone: str
    hour: str
    iso: str
    who: str
    what: str
    kind: str
    record: Record
    fields: str
    address: str
    page: str | None

    @property
    def short_id(self) -> str:
        """The end of the id: of visits and patients the beginning is alike for all of one day."""
        return self.record.id[-8:]


def told(event: AuditEvent, names: Mapping[str, str], zone: str) -> Deed:
    at = (event.happened_at, zone, language())
    record = Record(event.entity, event.entity_id)
    return Deed(
        day=words.day(*at, year=True),
        zone=words.zone_name(*at),
        hour=words.hour(*at),
        iso=event.happened_at.astimezone(zone_of(zone)).isoformat(timespec="seconds"),
        who=who(event.actor, names),
        what=action(event.action),
        kind=kind(event.entity),
        record=record,
        fields=_fields(event.detail),
        address=event.address or "",
        page=_page(record),
    )


def who(actor: str, names: Mapping[str, str]) -> str:
    return str(names.get(actor) or OTHERS.get(actor) or actor)


def action(name: str) -> str:
    verb = name.rpartition(".")[2]
    return str(VERBS.get(verb) or verb.replace("_", " "))


def action_of_kind(name: str) -> str:
    """An action with what it was done to."""
    entity, dot, _verb = name.rpartition(".")
    return f"{kind(entity)}: {action(name)}" if dot else action(name)


def kind(entity: str) -> str:
    return str(RECORDS.get(entity) or entity.replace("_", " "))


def _fields(detail: dict[str, Any]) -> str:
    """The names of the fields, then what else is noted, each with its name."""
    noted = [
        f"{NOTES.get(name) or name.replace('_', ' ')}: {_value(name, value)}"
        for name, value in detail.items()
        if name != "fields"
    ]
    return "; ".join(filter(None, [_value("fields", detail.get("fields", "")), *noted]))


def _value(name: str, value: object) -> str:
    """What was noted under a name: before and after are told one after the other."""
    if isinstance(value, list):
        return ", ".join(_value(name, one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{COUNTED.get(key) or key} {_value('', one)}" for key, one in value.items())
    if value is None or isinstance(value, bool):
        return str({None: NONE, True: YES, False: NO}[value])
    return str(VALUES.get(name, str)(value))


def _page(record: Record) -> str | None:
    """The address of the record's page, if it has one; an id that no row could have leads nowhere."""
    endpoint, name, id_of = PAGES.get(record.entity, ("", "", str))
    if endpoint not in current_app.view_functions:
        return None
    try:
        values: dict[str, Any] = {name: id_of(record.id)}
        return url_for(endpoint, **values)
    except (ValueError, BuildError):
        return None
