"""A therapist's schedule: which visits, day by day on the wall clock of each visit's location."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import CompoundSelect, Row, Select, bindparam, func, null, select, union_all
from sqlalchemy.orm import Session

from scheduler.db import UtcDateTime
from scheduler.keys import Keyring
from scheduler.models import (
    Appointment,
    AppointmentType,
    ClinicPolicy,
    Closure,
    Location,
    Needling,
    Patient,
    Status,
    TimeOff,
    TimeOffStatus,
    WorkingHours,
)
from scheduler.timeline import DAY, MINUTE, local_date, zone_of

NOWHERE = "UTC"


@dataclass(frozen=True, slots=True)
class Planned:
    """One visit as its therapist prepares for it. `new_patient` follows from the kind of visit.

    `note` is what hurts, in the patient's words; `explained` whether they were shown the explainer.
    """

    visit_id: UUID
    patient_id: UUID
    name: str
    language: str
    kind: str
    new_patient: bool
    place: str
    time_zone: str
    starts_at: datetime
    ends_at: datetime
    status: Status
    needling: Needling
    note: str | None
    explained: bool

    @property
    def minutes(self) -> int:
        return (self.ends_at - self.starts_at) // MINUTE


@dataclass(frozen=True, slots=True)
class Day:
    """A day of somebody's calendar with its visits in order; `live` are those that were not cancelled."""

    on: date
    visits: Sequence[Planned]

    @property
    def live(self) -> int:
        return sum(visit.status != Status.CANCELLED for visit in self.visits)


@dataclass(frozen=True, slots=True)
class Absence:
    """When a therapist is off, or a place where they work is closed: `place` and `reason` are a closure's."""

    starts_on: date
    starts_minute: int
    ends_on: date
    ends_minute: int
    place: str | None
    reason: str | None

    def touches(self, day: date) -> bool:
        begins_by_then = (self.starts_on, self.starts_minute) < (day + DAY, 0)
        return begins_by_then and (day, 0) < (self.ends_on, self.ends_minute)


def home(session: Session, therapist_id: int, *, now: datetime) -> tuple[ClinicPolicy, date]:
    """The clinic, and the date where this therapist works most of their hours. One query."""
    policy, zone = session.execute(_with_policy(), {"therapist": therapist_id}).one()
    return policy, local_date(now, zone_of(zone or NOWHERE))


def today(session: Session, therapist_id: int, *, now: datetime) -> date:
    """The date where this therapist works most of their hours, as the wall calendar there has it."""
    return local_date(now, zone_of(home_zone(session, therapist_id)))


def home_zone(session: Session, therapist_id: int) -> str:
    """The time zone where this therapist has most hours; UTC while the clinic has no location."""
    return session.scalars(_home(), {"therapist": therapist_id}).first() or NOWHERE


def days(session: Session, therapist_id: int, first: date, count: int, *, keys: Keyring) -> list[Day]:
    """Return `count` days from `first` on with all visits of one therapist, the cancelled ones too. One query.

    A visit belongs to the day that it is at its location.
    """
    by_date: dict[date, list[Planned]] = defaultdict(list)
    last = first + (count - 1) * DAY
    midnight = datetime.combine(first, time(), UTC)
    for row in _rows(session, therapist_id, midnight - DAY, midnight + (count + 1) * DAY):
        on = local_date(row.starts_at, zone_of(row.time_zone))
        if first <= on <= last:
            by_date[on].append(_planned(row, keys))
    return [Day(on, by_date[on]) for on in (first + number * DAY for number in range(count))]


def absences(session: Session, therapist_id: int, first: date, count: int) -> list[Absence]:
    """The approved time off of one therapist and the closures where they have hours, near these days. One query."""
    values = {"therapist": therapist_id, "first": first, "last": first + (count - 1) * DAY}
    return [Absence(*row) for row in session.execute(_absences(), values)]


def live_between(session: Session, therapist_id: int, start: datetime, end: datetime) -> list[Row[Any]]:
    """The visits of one therapist that begin in [start, end) and were not cancelled, in order. One query."""
    return [row for row in _rows(session, therapist_id, start, end) if row.status != Status.CANCELLED]


def _rows(session: Session, therapist_id: int, start: datetime, end: datetime) -> Sequence[Row[Any]]:
    return session.execute(_visits(), {"therapist": therapist_id, "start": start, "end": end}).all()


def _planned(row: Row[Any], keys: Keyring) -> Planned:
    return Planned(
        visit_id=row.visit_id,
        patient_id=row.patient_id,
        name=row.patient,
        language=row.language,
        kind=row.kind,
        new_patient=row.new_patient,
        place=row.place,
        time_zone=row.time_zone,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        status=Status(row.status),
        needling=Needling(row.needling),
        note=keys.open(row.note_sealed),
        explained=row.explainer_version_id is not None,
    )


@cache
def _visits() -> Select[*tuple[Any, ...]]:
    """Plain rows: a day is opened between two patients, and objects take several times as long to make."""
    return (
        select(
            Appointment.id.label("visit_id"),
            Appointment.patient_id,
            Patient.name.label("patient"),
            Patient.language,
            AppointmentType.name.label("kind"),
            AppointmentType.new_patient,
            Location.name.label("place"),
            Location.address,
            Location.phone,
            Location.time_zone,
            Appointment.starts_at,
            Appointment.ends_at,
            Appointment.status,
            Appointment.needling,
            Appointment.note_sealed,
            Appointment.explainer_version_id,
            Appointment.visit_version,
        )
        .join(Patient, Patient.id == Appointment.patient_id)
        .join(Location, Location.id == Appointment.location_id)
        .join(AppointmentType, AppointmentType.id == Appointment.appointment_type_id)
        .where(
            Appointment.therapist_id == bindparam("therapist"),
            Appointment.starts_at >= bindparam("start", type_=UtcDateTime()),
            Appointment.starts_at < bindparam("end", type_=UtcDateTime()),
        )
        .order_by(Appointment.starts_at, Appointment.id)
    )


@cache
def _absences() -> CompoundSelect[*tuple[Any, ...]]:
    mine = select(WorkingHours.location_id).where(WorkingHours.therapist_id == bindparam("therapist"))
    closed = (
        select(Closure.starts_on, Closure.starts_minute, Closure.ends_on, Closure.ends_minute, Location.name,
            Closure.reason)
        .join(Location, Location.id == Closure.location_id)
        .where(Location.id.in_(mine), Closure.starts_on <= bindparam("last"), Closure.ends_on >= bindparam("first"))
    )  # fmt: skip
    off = select(
        TimeOff.starts_on, TimeOff.starts_minute, TimeOff.ends_on, TimeOff.ends_minute, null(), null()
    ).where(
        TimeOff.therapist_id == bindparam("therapist"), TimeOff.status == TimeOffStatus.APPROVED,
        TimeOff.starts_on <= bindparam("last"), TimeOff.ends_on >= bindparam("first"),
    )  # fmt: skip
    return union_all(closed, off).order_by("starts_on", "starts_minute")


@cache
def _home() -> Select[str]:
    worked = (WorkingHours.location_id == Location.id) & (WorkingHours.therapist_id == bindparam("therapist"))
    return (
        select(Location.time_zone)
        .outerjoin(WorkingHours, worked)
        .group_by(Location.id, Location.time_zone)
        .order_by(func.count(WorkingHours.id).desc(), Location.id)
        .limit(1)
    )


@cache
def _with_policy() -> Select[Any]:
    return select(ClinicPolicy, _home().scalar_subquery())
