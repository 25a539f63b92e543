"""What staff read for the words that are stored."""

from flask_babel import lazy_gettext as _

from scheduler.models import Fate, Kind, Needling, Status
from scheduler.services.licensing import Allows, Validity
from scheduler.services.patients import Alike

STATUSES = {
    Status.BOOKED: _("Booked"),
    Status.ARRIVED: _("Arrived"),
    Status.FULFILLED: _("Done"),
    Status.CANCELLED: _("Canceled"),
    Status.NOSHOW: _("No-show"),
}
NEEDLES = {
    Needling.OPEN: _("Needles: yes"),
    Needling.TALK_FIRST: _("Needles: talk first"),
    Needling.NONE: _("Needles: no"),
}
ABOUT_NEEDLES = {
    Needling.OPEN: _("Yes"),
    Needling.TALK_FIRST: _("Talk first"),
    Needling.NONE: _("No"),
}
KINDS = {
    Kind.CONFIRMATION: _("Confirmation"),
    Kind.REMINDER: _("Reminder"),
    Kind.CANCELLATION: _("Word that it is canceled"),
    Kind.MOVED: _("Word of the new time"),
}
FATES = {
    Fate.OWED: _("will be sent"),
    Fate.SENT: _("sent"),
    Fate.SUPPRESSED: _("not sent"),
    Fate.FAILED: _("could not be sent"),
}
DEEDS = {
    "appointment.booked": _("Booked"),
    "appointment.overridden": _("Booked against a rule"),
    "appointment.cancelled": _("Canceled"),
    "appointment.moved": _("Moved"),
    "appointment.brought_back": _("Cancellation undone"),
    "appointment.marked": _("Marked"),
    "appointment.mark_undone": _("Mark undone"),
}
ALLOWS = {
    Allows.VISITS: _("Physical therapy visits"),
    Allows.NEEDLING_TOO: _("Physical therapy visits, with dry needling"),
    Allows.NEEDLING: _("Dry needling, beside a license for physical therapy"),
    Allows.FORBIDDEN: _("Nothing: this state does not allow dry needling by physical therapists"),
    Allows.NO_RULE: _("Nothing yet: the rule of this state has not been entered"),
    Allows.NOT_ASKED_FOR: _("Nothing more: the rule of this state does not ask for it"),
}
ALIKE = {
    Alike.NAME_AND_BIRTH: _("The same name and birth date"),
    Alike.EMAIL_AND_NAME: _("The same e-mail address and nearly the same name"),
    Alike.PHONE: _("The same phone number"),
}
VALIDITIES = {
    Validity.NOT_YET: _("Not valid yet"),
    Validity.VALID: _("Valid"),
    Validity.ENDS_SOON: _("Ends soon"),
    Validity.ENDED: _("Ended"),
}
