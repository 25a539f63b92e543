"""Why a time is offered or is not, in words."""

from flask_babel import lazy_gettext as _

from scheduler import words
from scheduler.services.reasons import Reason, Verdict
from scheduler.web.language import language

SENTENCES = {
    Reason.THERAPIST_GONE: _("The therapist does not work here any more."),
    Reason.LOCATION_CLOSED: _("This location is not in use any more."),
    Reason.NOT_LICENSED: _(
        "The therapist has no license for this kind of visit there on that day, or the state does not allow it."
    ),
    Reason.CLOSED_THEN: _("The location is closed then."),
    Reason.THERAPIST_OFF: _("The therapist is off then."),
    Reason.OUTSIDE_HOURS: _("The therapist has no working hours there then."),
    Reason.NOT_OFFERED: _("This kind of visit is not offered by this therapist, or not at this location."),
    Reason.HOURS_TOO_SHORT: _(
        "The hours end too early: with the time kept free after it, the visit would last until %(until)s."
    ),
    Reason.NOT_ONLINE: _("The location is not open for online booking; staff can book it."),
    Reason.TOO_SOON: _("It has begun, or is sooner than patients may book online."),
    Reason.TOO_LATE: _("It is further ahead than can be booked yet."),
    Reason.HELD: _("Somebody is booking it at this moment. It may be free again in some minutes."),
    Reason.TAKEN: _("Another visit has the time from %(taken_from)s until %(taken_until)s."),
    Reason.TAKEN_SOON: _("Too short: the visit would need it until %(until)s, and another begins at %(taken_from)s."),
    Reason.PROTECTED: _("It is kept back for short notice; it can be booked from %(opens_at)s on."),
    Reason.NOT_PLANNED: _("The calendar is not made that far ahead yet."),
    Reason.OFFERED: _("This time can be booked now."),
}
# The rules that staff may book against, of a visit that was: without the times of that moment.
RULES = {
    Reason.OUTSIDE_HOURS: SENTENCES[Reason.OUTSIDE_HOURS],
    Reason.HOURS_TOO_SHORT: _("It runs past the hours."),
    Reason.CLOSED_THEN: SENTENCES[Reason.CLOSED_THEN],
    Reason.THERAPIST_OFF: SENTENCES[Reason.THERAPIST_OFF],
    Reason.NOT_PLANNED: _("The calendar was not made that far ahead."),
    Reason.PROTECTED: _("It was kept back for short notice."),
}


def sentence(verdict: Verdict, zone: str) -> str:
    """The verdict by the clock of the location."""
    instants = {"until": verdict.needed_until, "taken_from": verdict.taken_from, "taken_until": verdict.taken_until}
    told = {name: words.hour(at, zone, language()) for name, at in instants.items() if at is not None}
    if verdict.opens_at is not None:
        told["opens_at"] = words.when(verdict.opens_at, zone, language())
    return str(SENTENCES[verdict.reason]) % told
