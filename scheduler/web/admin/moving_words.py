"""What the pages of moving in call things: columns, kinds of file, steps, and what can be wrong."""

from typing import Any

from flask_babel import lazy_gettext as _

from scheduler.services.moving.import_lines import Outcome, Trouble, What
from scheduler.services.opening import Step

KINDS: dict[What, Any] = {
    What.THERAPISTS: _("Therapists"),
    What.HOURS: _("Working hours"),
    What.PATIENTS: _("Patients"),
    What.VISITS: _("Booked visits"),
}
COLUMN_WORDS: dict[str, Any] = {
    "name": _("Name, or first name"),
    "last_name": _("Last name"),
    "credentials": _("Credentials"),
    "languages": _("Languages"),
    "email": _("E-mail"),
    "phone": _("Phone"),
    "birth_date": _("Date of birth"),
    "language": _("Language"),
    "therapist": _("Therapist"),
    "location": _("Location"),
    "weekday": _("Weekday"),
    "opens": _("From"),
    "closes": _("To"),
    "valid_from": _("First day"),
    "valid_until": _("Last day"),
    "every_weeks": _("Every so many weeks"),
    "standby": _("Standby (yes, rule, no)"),
    "imported_as": _("Number in the old program"),
    "start": _("Date, or date and time"),
    "time": _("Time"),
    "end": _("End"),
    "minutes": _("Minutes"),
    "buffer": _("Minutes kept free after it"),
    "type": _("Kind of visit"),
    "patient": _("Patient, or first name"),
    "needling": _("Needles (yes, talk, no)"),
    "note": _("What hurts"),
    "status": _("Status in the old program"),
}
OUTCOMES: dict[Outcome, Any] = {
    Outcome.NEW: _("Will be stored"),
    Outcome.KNOWN: _("Is here already"),
    Outcome.OVER: _("Is over, left out"),
    Outcome.CALLED_OFF: _("Canceled there, left out"),
    Outcome.PROBLEM: _("Cannot be stored"),
}
STEPS: dict[Step, Any] = {
    Step.POLICY: _("Look through the clinic's policy: name, notice, reminders"),
    Step.EXPLAINER: _("Read what patients are told about dry needling"),
    Step.TYPE: _("Have at least one kind of visit"),
    Step.REMINDERS: _("Start reminders for imported visits"),
    Step.ADDRESS: _("Give it an address and a phone number"),
    Step.STATE_RULE: _("Enter what its state asks for"),
    Step.THERAPIST: _("Have a therapist with a license and working hours there"),
}
UNREADABLE: dict[str, Any] = {
    "empty": _("Choose a file that has a line of titles and lines below it."),
    "malformed": _("This file cannot be read as a table. Save it as CSV and choose it again."),
    "workbook": _("This is an Excel workbook: save it as CSV and send that."),
    "too-wide": _("This file has more than 200 columns."),
    "too-long": _("This file has more than %(lines)s lines. Split it."),
    "too-large": _("This file is larger than 5 MB. Split it."),
}
TROUBLES: dict[Trouble, Any] = {
    Trouble.MISSING: _("nothing is given"),
    Trouble.TOO_LONG: _("too long"),
    Trouble.NOT_PLAIN: _("has characters that cannot be used, or no letter"),
    Trouble.EMAIL: _("“%(about)s” is no e-mail address"),
    Trouble.PHONE: _("“%(about)s” is no phone number with its area code"),
    Trouble.DATE: _("“%(about)s” is no date such as 2026-11-30"),
    Trouble.DAY_FIRST: _("“%(about)s” has no such month. If days come first in this file, choose so above"),
    Trouble.MONTH_FIRST: _("“%(about)s” has no such month. If months come first in this file, choose so above"),
    Trouble.TIME: _("“%(about)s” has no time such as 14:30 or 2:30 PM"),
    Trouble.WEEKDAY: _("“%(about)s” is no day of the week"),
    Trouble.LANGUAGE: _("“%(about)s” is no language such as en or Spanish"),
    Trouble.NUMBER: _("“%(about)s” is no number that can be used here"),
    Trouble.NEEDLING: _("“%(about)s” is none of yes, talk and no"),
    Trouble.STANDBY: _("“%(about)s” is none of yes, rule and no"),
    Trouble.OFF_GRID: _("is not on a quarter of an hour"),
    Trouble.ORDER: _("the end is not after the start, or too long after it"),
    Trouble.SKIPPED_HOUR: _("the clocks skip this hour that night"),
    Trouble.DOUBLE_HOUR: _("this hour comes twice that night: write it with its offset, like 2026-11-01T01:30-05:00"),
    Trouble.TOO_FAR: _("is too far ahead"),
    Trouble.UNKNOWN_THERAPIST: _("there is no therapist “%(about)s”"),
    Trouble.UNKNOWN_LOCATION: _("there is no location “%(about)s”"),
    Trouble.UNKNOWN_TYPE: _("there is no kind of visit “%(about)s”"),
    Trouble.SEVERAL: _("there are several called “%(about)s”: tell more"),
    Trouble.UNREACHABLE: _("neither an e-mail address nor a phone number is known"),
    Trouble.NOT_LICENSED: _("has no license for %(about)s on that day"),
    Trouble.NO_NEEDLING: _("may not needle in %(about)s on that day"),
    Trouble.TAKEN: _("this time is taken: %(about)s"),
    Trouble.CLASH: _("overlaps other hours: %(about)s"),
    Trouble.TWICE: _("is in line %(about)s too"),
    Trouble.OTHERWISE: _("is here already, but on %(about)s: change it here"),
    Trouble.ACCOUNT: _("“%(about)s” has an account of another person, or a closed one"),
    Trouble.MORE_CELLS: _("the line has more cells than there are titles"),
}
