"""The public claims: what the page says of each now, what stands against it and would mend it, and how it stood."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apiflask import APIBlueprint
from flask import render_template, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler import words
from scheduler.db import reading
from scheduler.models import ClaimChange, ClinicPolicy, ExplainerVersion, Location, Role, Saying, Therapist
from scheduler.services import claim_ledger, claims, explainer, practice
from scheduler.services.claims import Breach, Present, Verdict, What
from scheduler.services.licensing import Allows
from scheduler.web.admin import figures
from scheduler.web.admin.forms import license_name
from scheduler.web.admin.saving import now
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.staff.access import allowed, staff

pages = APIBlueprint("claims", __name__, url_prefix="/admin/claims", enable_openapi=False)
CHANGES_SHOWN = 20
NAMES = {
    "licensed": _("Every therapist is licensed for dry needling"),
    "everywhere": _("Dry needling is offered at every location"),
    "within_goal": _("New patients are typically seen within %(hours)s hours"),
}
STANDS = {
    Saying.HOLDS: _("Holds."),
    Saying.WORKING_DAYS: _("Does not hold. The page says what does: within that many working days."),
    Saying.SOONEST: _("Does not hold. The page says the soonest time."),
    Saying.FAILS: _("Does not hold."),
}
WHY: dict[str, Any] = {
    What.NOBODY: _("Nobody treats patients here yet."),
    What.UNLICENSED: _("%(who)s has no valid license for %(what)s at %(place)s."),
    Allows.NO_RULE: _("%(who)s cannot needle at %(place)s: what %(state)s asks for has not been entered."),
    Allows.FORBIDDEN: _("%(who)s cannot needle at %(place)s: %(state)s does not allow it."),
    What.NO_PLACE: _("There is no location yet."),
    What.NO_NEEDLING_KIND: _("No kind of visit includes dry needling."),
    What.NOBODY_WORKS: _("%(place)s: nobody has hours there now."),
    What.NOBODY_LICENSED: _("%(place)s: nobody who works there now may needle there."),
    What.NOBODY_OFFERS: _("%(place)s: nobody who may needle there gives a visit that includes it."),
    What.NO_NEW_PATIENT_KIND: _("No kind of visit is for new patients."),
    What.NOT_ONLINE: _("Patients can book no location online."),
    What.BELOW_TARGET: _("%(place)s: within the goal %(share)s of the last 28 days; the target is %(target)s."),
    What.TOO_LATE: _("%(place)s: the soonest start is in %(hours)s hours; not yet measured for 7 days."),
    What.NOTHING_FREE: _("%(place)s: no start can be booked; not yet measured for 7 days."),
}
ANYWHERE = _("any location")
ADD_HOURS, ADD_LICENSE = _("Give somebody hours there"), _("Enter the license")
# What mends it: its words, its page, and whether that is for administrators of the whole clinic only.
MENDS: dict[str, tuple[Any, str, bool]] = {
    What.NOBODY: (_("Enter who treats"), "people.therapists", False),
    What.UNLICENSED: (ADD_LICENSE, "people.therapist", False),
    Allows.NO_RULE: (_("Enter the rule of the state"), "clinic.new_rule", True),
    Allows.FORBIDDEN: (_("Look the rule of the state up"), "clinic.rules", True),
    What.NO_PLACE: (_("Enter a location"), "clinic.locations", False),
    What.NO_NEEDLING_KIND: (_("Enter a kind of visit that includes it"), "clinic.types", True),
    What.NOBODY_WORKS: (ADD_HOURS, "people.therapists", False),
    What.NOBODY_LICENSED: (
        _("Give somebody hours there who may needle, or enter a license"),
        "people.therapists",
        False,
    ),
    What.NOBODY_OFFERS: (_("Let somebody there give such a visit"), "clinic.types", True),
    What.NO_NEW_PATIENT_KIND: (_("Enter a kind of visit for new patients"), "clinic.types", True),
    What.NOT_ONLINE: (_("Open a location for online booking"), "moving_in.checklist", True),
    What.BELOW_TARGET: (_("See what can be done there"), "levers.proposals", False),
    What.TOO_LATE: (_("See what can be done there"), "levers.proposals", False),
    What.NOTHING_FREE: (_("See what can be done there"), "levers.proposals", False),
}


@dataclass(frozen=True, slots=True)
class Named:
    """Therapists and locations by their ids, those that are gone too."""

    people: Mapping[int, str]
    places: Mapping[int, Location]


@dataclass(frozen=True, slots=True)
class Why:
    """One thing that stands against a claim, and what mends it; no `page` where its reader may not open it."""

    told: str
    mend: str
    page: str | None


@dataclass(frozen=True, slots=True)
class Change:
    since: str
    stands: str
    whys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Shown:
    """A claim: `sentence` is what the public page says now, `elsewhere` how much is against it at others' locations."""

    id: str
    name: str
    stands: str
    holds: bool
    sentence: str | None
    whys: Sequence[Why]
    elsewhere: int
    changes: Sequence[Change]


@pages.get("")
@allowed(Role.ADMIN)
def page() -> str:
    """Every claim; of what stands against it, what concerns one's own locations."""
    with reading(context().engine) as session:
        present = claims.present(session, now=now())
        found = claim_ledger.standing(present)
        history = claim_ledger.history(session, CHANGES_SHOWN)
        version = explainer.current(session, language())
        zone = practice.zone(session)
        named = _named(session, found.values(), history.values())
    sentences = _sentences(version, present)
    shown = [
        _shown(claim_id, verdict, sentences.get(claim_id), history.get(claim_id, ()), named, present.policy, zone)
        for claim_id, verdict in found.items()
    ]
    return render_template("admin/claims.html", clinic=present.policy, shown=shown)


def _sentences(version: ExplainerVersion, present: Present) -> dict[str, str]:
    """What the public page says of each claim now, as HTML of the clinic's own text."""
    told: dict[str, str] = {}
    for section in version.sections:
        told |= explainer.told(section, present, version.language)
    return told


def _named(session: Session, verdicts: Iterable[Verdict], history: Iterable[Sequence[ClaimChange]]) -> Named:
    places = {place.id: place for place in session.scalars(select(Location))}
    breaches = [breach for verdict in verdicts for breach in verdict.breaches]
    breaches += [Breach.of(data) for changes in history for change in changes for data in change.breaches]
    ids = {breach.therapist_id for breach in breaches if breach.therapist_id is not None}
    people = session.scalars(select(Therapist).where(Therapist.id.in_(ids)))
    return Named({person.id: person.name for person in people}, places)


def _shown(
    claim_id: str,
    verdict: Verdict,
    sentence: str | None,
    history: Sequence[ClaimChange],
    named: Named,
    clinic: ClinicPolicy,
    zone: str,
) -> Shown:
    own = [breach for breach in verdict.breaches if _concerns(breach)]
    return Shown(
        id=claim_id,
        name=str(NAMES[claim_id]) % {"hours": clinic.access_goal_hours},
        stands=str(STANDS[verdict.says]),
        holds=verdict.holds,
        sentence=sentence,
        whys=[_why(breach, named) for breach in own],
        elsewhere=len(verdict.breaches) - len(own),
        changes=[_change(change, named, zone) for change in history],
    )


def _concerns(breach: Breach) -> bool:
    """Whether a reader may see whom and what it names: at their own locations, or nobody."""
    if staff().locations is None or (breach.location_id is None and breach.therapist_id is None):
        return True
    return breach.location_id is not None and staff().works_at(breach.location_id)


def _change(change: ClaimChange, named: Named, zone: str) -> Change:
    breaches = [Breach.of(data) for data in change.breaches]
    return Change(
        words.when(change.since, zone, language(), year=True),
        str(STANDS[Saying(change.says)]),
        [_told(breach, named) for breach in breaches if _concerns(breach)],
    )


def _why(breach: Breach, named: Named) -> Why:
    mend, endpoint, everywhere = MENDS[_key(breach)]
    place = named.places.get(breach.location_id or 0)
    values: dict[str, Any] = {}
    if endpoint == "people.therapist":
        values = {"therapist_id": breach.therapist_id}
    elif endpoint == "levers.proposals":
        values = {"location": breach.location_id}
    elif endpoint == "clinic.new_rule" and place is not None:
        values = {"state": place.state}
    page = None if everywhere and staff().locations is not None else url_for(endpoint, **values)
    return Why(_told(breach, named), str(mend), page)


def _told(breach: Breach, named: Named) -> str:
    place = named.places.get(breach.location_id or 0)
    return str(WHY[_key(breach)]) % {
        "who": named.people.get(breach.therapist_id or 0, ""),
        "place": place.name if place is not None else str(ANYWHERE),
        "state": place.state if place is not None else str(gettext("the state")),
        "what": license_name(breach.lacking or ""),
        "share": figures.percent_of_goal(breach.share),
        "target": figures.percent(breach.target) if breach.what == What.BELOW_TARGET else "",
        "hours": figures.number(breach.hours or 0),
    }


def _key(breach: Breach) -> str:
    """The word for what stands against a claim: of a missing license why, where none would help."""
    return breach.lacking if breach.lacking in {Allows.NO_RULE, Allows.FORBIDDEN} else breach.what
