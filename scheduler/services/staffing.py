"""Who treats here and what they may do: therapists and their licences. Nobody is deleted: the visits name them."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime

from sqlalchemy import ColumnElement, and_, delete, or_, select, true
from sqlalchemy.orm import Session

from scheduler.errors import Invalid
from scheduler.models import Appointment, License, StateRule, Status, Therapist, TherapistLanguage, WorkingHours
from scheduler.services import audit, consequences, edits
from scheduler.services.audit import Actor
from scheduler.services.licensing import PT

Places = Collection[int] | None  # None is everywhere


@dataclass(frozen=True, slots=True)
class TherapistDetails:
    """What of a therapist can be changed; `languages` are ISO 639-1 codes in order."""

    name: str
    credentials: str
    languages: tuple[str, ...]
    active: bool = True


@dataclass(frozen=True, slots=True)
class LicenseDetails:
    """What of a licence can be changed; `kind` is `pt` or what a state's rule names."""

    kind: str
    state: str
    number: str
    valid_from: date
    valid_until: date
    evidence: str | None = None


def works_at(places: Places) -> ColumnElement[bool]:
    """Therapists who have hours at one of these places, or none at all yet."""
    anywhere = select(WorkingHours.therapist_id)
    if places is None:
        return true()
    return or_(Therapist.id.in_(anywhere.where(WorkingHours.location_id.in_(places))), Therapist.id.not_in(anywhere))


def works_only_at(places: Places) -> ColumnElement[bool]:
    """Therapists who have hours and visits at none but these places; they may have none yet."""
    if places is None:
        return true()
    visited = select(Appointment.therapist_id).where(Appointment.status != Status.HELD)
    return and_(
        Therapist.id.not_in(select(WorkingHours.therapist_id).where(WorkingHours.location_id.not_in(places))),
        Therapist.id.not_in(visited.where(Appointment.location_id.not_in(places))),
    )


def add_therapist(session: Session, details: TherapistDetails, *, by: Actor, now: datetime) -> Therapist:
    therapist = Therapist(name=details.name, credentials=details.credentials, active=details.active)
    session.add(therapist)
    session.flush()
    _speak(session, therapist, details)
    audit.record(session, "therapist.added", therapist, by=by, now=now, **edits.plain(details))
    return therapist


def change_therapist(
    session: Session,
    therapist_id: int,
    details: TherapistDetails,
    *,
    seal: str,
    agreed: str | None,
    by: Actor,
    now: datetime,
) -> None:
    """Change a therapist; one who is not active works nowhere. Raises NotFound, ChangedMeanwhile, NotAgreed."""
    consequences.alone(session)
    therapist = edits.locked(session, Therapist, therapist_id)
    before = therapist_details(session, therapist)
    edits.require_seen(before, seal)
    with consequences.weighed(session, [therapist_id], agreed=agreed, now=now):
        edits.write(therapist, details)
        _speak(session, therapist, details)
    edits.note(session, "therapist.changed", therapist, before, details, by=by, now=now)


def therapist_details(session: Session, therapist: Therapist) -> TherapistDetails:
    spoken = select(TherapistLanguage.language).where(TherapistLanguage.therapist_id == therapist.id)
    return edits.read_off(TherapistDetails, therapist, languages=tuple(sorted(session.scalars(spoken))))


def languages_of(session: Session, therapist_ids: Collection[int]) -> dict[int, list[str]]:
    """The languages of each therapist, in order."""
    spoken: dict[int, list[str]] = defaultdict(list)
    rows = select(TherapistLanguage).where(TherapistLanguage.therapist_id.in_(therapist_ids))
    for one in session.scalars(rows.order_by(TherapistLanguage.language)):
        spoken[one.therapist_id].append(one.language)
    return spoken


def add_license(
    session: Session,
    therapist_id: int,
    details: LicenseDetails,
    *,
    agreed: str | None = None,
    by: Actor,
    now: datetime,
) -> License:
    """Store a licence that nobody has verified yet; the times that it allows can be booked at once.

    Raises NotFound for an unknown therapist, Invalid for a licence that is stored already, NotAgreed.
    """
    consequences.alone(session)
    edits.locked(session, Therapist, therapist_id)
    _require_new(session, therapist_id, details, but=None)
    with consequences.weighed(session, [therapist_id], agreed=agreed, now=now):
        licence = License(therapist_id=therapist_id, **asdict(details))
        session.add(licence)
    audit.record(session, "license.added", licence, by=by, now=now, therapist_id=therapist_id, **edits.plain(details))
    return licence


def change_license(
    session: Session,
    license_id: int,
    details: LicenseDetails,
    *,
    seal: str,
    agreed: str | None,
    by: Actor,
    now: datetime,
) -> None:
    """Change a licence; but for its evidence that must be verified anew.

    Raises NotFound, ChangedMeanwhile, Invalid for one that is stored already, and NotAgreed.
    """
    consequences.alone(session)
    licence = edits.locked(session, License, license_id)
    before = license_details(licence)
    edits.require_seen(before, seal)
    _require_new(session, licence.therapist_id, details, but=license_id)
    with consequences.weighed(session, [licence.therapist_id], agreed=agreed, now=now):
        edits.write(licence, details)
        if replace(before, evidence=None) != replace(details, evidence=None):
            licence.verified_by = licence.verified_at = None
    edits.note(session, "license.changed", licence, before, details, by=by, now=now)


def verify_license(session: Session, license_id: int, *, seal: str, who: str, by: Actor, now: datetime) -> None:
    """Note that `who` compared a licence, as it was shown, with its source. Raises NotFound, ChangedMeanwhile."""
    licence = edits.locked(session, License, license_id)
    edits.require_seen(license_details(licence), seal)
    licence.verified_by, licence.verified_at = who, now
    audit.record(session, "license.verified", licence, by=by, now=now)


def license_details(licence: License) -> LicenseDetails:
    return edits.read_off(LicenseDetails, licence)


def license_kinds(session: Session) -> list[str]:
    """`pt` and every qualification that a state's rule names."""
    named = session.scalars(select(StateRule.qualification).where(StateRule.qualification.is_not(None)).distinct())
    return [PT, *sorted({kind for kind in named if kind and kind != PT})]


def _speak(session: Session, therapist: Therapist, details: TherapistDetails) -> None:
    session.execute(delete(TherapistLanguage).where(TherapistLanguage.therapist_id == therapist.id))
    spoken = sorted(set(details.languages))
    session.add_all(TherapistLanguage(therapist_id=therapist.id, language=language) for language in spoken)


def _require_new(session: Session, therapist_id: int, details: LicenseDetails, *, but: int | None) -> None:
    same = select(License.id).where(
        License.therapist_id == therapist_id,
        License.kind == details.kind,
        License.state == details.state,
        License.number == details.number,
    )
    if any(found != but for found in session.scalars(same)):
        raise Invalid("number", "This therapist has this license already.")
