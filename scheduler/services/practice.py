"""The practice as its visitors see it: policy, locations, therapists, appointment types."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime

from sqlalchemy import func, literal, select, union_all
from sqlalchemy.orm import Session

from config import PolicyStart
from scheduler.errors import Invalid
from scheduler.models import (
    AppointmentType,
    AppointmentTypeLocation,
    AppointmentTypeTherapist,
    ClinicPolicy,
    Location,
    Therapist,
    TherapistLanguage,
    WorkingHours,
)
from scheduler.timeline import local_date, zone_of


@dataclass(frozen=True, slots=True)
class Offering:
    """Which therapists and which locations offer a kind of visit, by its id. All offer one that is not named."""

    people: dict[int, set[int]]
    places: dict[int, set[int]]

    def by(self, kind_id: int, therapist_id: int) -> bool:
        return therapist_id in self.people.get(kind_id, {therapist_id})

    def at(self, kind_id: int, location_id: int) -> bool:
        return location_id in self.places.get(kind_id, {location_id})

    def allows(self, kind_id: int, therapist_id: int, location_id: int) -> bool:
        return self.by(kind_id, therapist_id) and self.at(kind_id, location_id)


def policy(session: Session) -> ClinicPolicy:
    return session.execute(select(ClinicPolicy)).scalar_one()


def start_policy(session: Session, start: PolicyStart) -> None:
    """Give a new clinic its first policy; an existing one is never touched."""
    if session.get(ClinicPolicy, 1) is None:
        session.add(ClinicPolicy(id=1, **asdict(start)))


def locations(session: Session) -> Sequence[Location]:
    """Where the clinic works, by name."""
    return session.scalars(select(Location).where(Location.active).order_by(Location.name)).all()


def zone(session: Session) -> str:
    """The time zone that most locations share: what is told in it concerns the whole clinic."""
    places = select(Location.time_zone).group_by(Location.time_zone)
    return session.scalars(places.order_by(func.count().desc(), Location.time_zone).limit(1)).first() or "UTC"


def today(session: Session, *, now: datetime) -> date:
    """The day that it is at most locations."""
    return local_date(now, zone_of(zone(session)))


def online_locations(session: Session) -> Sequence[Location]:
    """Where patients may book for themselves, by name."""
    return [place for place in locations(session) if place.online]


def appointment_types(session: Session) -> Sequence[AppointmentType]:
    """The kinds of visit that are offered, in the clinic's order."""
    return session.scalars(
        select(AppointmentType).where(AppointmentType.active).order_by(AppointmentType.position)
    ).all()


def offering(session: Session) -> Offering:
    """Who offers what where, for whoever asks of many visits; search asks of one kind (`availability`). One query."""
    people, places = AppointmentTypeTherapist, AppointmentTypeLocation
    rows = union_all(
        select(literal(True), people.appointment_type_id, people.therapist_id),
        select(literal(False), places.appointment_type_id, places.location_id),
    )
    found = Offering(defaultdict(set), defaultdict(set))
    for of_people, kind_id, named in session.execute(rows):
        (found.people if of_people else found.places)[kind_id].add(named)
    return Offering(dict(found.people), dict(found.places))


def new_patient_types(session: Session) -> Sequence[AppointmentType]:
    """The kinds of visit that the access goal is about."""
    return [kind for kind in appointment_types(session) if kind.new_patient]


def goal_type(kinds: Iterable[AppointmentType]) -> AppointmentType | None:
    """The first new-patient type: what the clinic means by its goal, and what new visitors are shown times of."""
    return next((kind for kind in kinds if kind.new_patient), None)


def active_therapists(session: Session) -> Sequence[Therapist]:
    return session.scalars(select(Therapist).where(Therapist.active).order_by(Therapist.name)).all()


def languages(session: Session) -> Sequence[str]:
    """What the clinic's therapists speak, as codes of two letters."""
    spoken = select(TherapistLanguage.language).join(Therapist, Therapist.id == TherapistLanguage.therapist_id)
    return session.scalars(spoken.where(Therapist.active).distinct()).all()


def therapists(session: Session, location_id: int | None = None) -> list[tuple[Therapist, list[str], list[int]]]:
    """Return active therapists by name, each with languages and the ids of the places open online where they work."""
    if location_id is not None and session.get(Location, location_id) is None:
        raise Invalid("location", "There is no location with this id.")
    languages, places = defaultdict(list), defaultdict(list)
    for therapist_id, language in session.execute(select(TherapistLanguage.therapist_id, TherapistLanguage.language)):
        languages[therapist_id].append(language)
    hours = select(WorkingHours.therapist_id, WorkingHours.location_id).distinct()
    online = (Location.online, Location.active)
    for therapist_id, place in session.execute(
        hours.join(Location, Location.id == WorkingHours.location_id).where(*online)
    ):
        places[therapist_id].append(place)
    return [
        (therapist, sorted(languages[therapist.id]), sorted(places[therapist.id]))
        for therapist in active_therapists(session)
        if location_id is None or location_id in places[therapist.id]
    ]
