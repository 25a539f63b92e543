"""Everything that a clinic would take with it, as tables that this program reads again."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import phonenumbers
from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler import accepted
from scheduler.csv_cells import Cell
from scheduler.db import Base
from scheduler.keys import Keyring
from scheduler.models import (
    Account,
    Appointment,
    AppointmentType,
    Location,
    Patient,
    Status,
    Therapist,
    TherapistLanguage,
)
from scheduler.services import hours
from scheduler.services.moving.import_lines import COLUMNS, WEEKDAYS, What, clock_of
from scheduler.timeline import zone_of

NOT_TOLD = {"last_name", "time", "minutes", "status"}  # which other columns tell


@dataclass(frozen=True, slots=True)
class Export:
    """A table, and the rows of patients that it shows, for the record."""

    header: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    shown: Sequence[Base] = ()


def export(session: Session, what: What, *, keys: Keyring, now: datetime) -> Export:
    """Who works here and when, who comes, and the visits still to come."""
    match what:
        case What.THERAPISTS:
            return _table(what, _therapists(session))
        case What.HOURS:
            return _table(what, _hours(session, now))
        case What.PATIENTS:
            known = select(Patient).where(Patient.erased_at.is_(None))
            patients = session.scalars(known.order_by(Patient.created_at, Patient.id)).all()
            return _table(what, [_patient(patient) for patient in patients], patients)
        case What.VISITS:
            return _visits(session, keys, now)


def _table(what: What, rows: Iterable[dict[str, Cell]], shown: Sequence[Base] = ()) -> Export:
    """Rows under the first title of each column that is told."""
    columns = [column for column in COLUMNS[what] if column.name not in NOT_TOLD]
    rows_told = [tuple(row.get(column.name) for column in columns) for row in rows]
    return Export(tuple(column.titles[0] for column in columns), rows_told, shown)


def _therapists(session: Session) -> list[dict[str, Cell]]:
    languages = defaultdict(list)
    for spoken in session.scalars(select(TherapistLanguage).order_by(TherapistLanguage.language)):
        languages[spoken.therapist_id].append(spoken.language)
    emails = {account.therapist_id: account.email for account in session.scalars(select(Account))}
    return [
        {
            "name": one.name,
            "credentials": one.credentials,
            "languages": ", ".join(languages[one.id]),
            "email": emails.get(one.id),
        }
        for one in session.scalars(select(Therapist).where(Therapist.active).order_by(Therapist.id))
    ]


def _hours(session: Session, now: datetime) -> list[dict[str, Cell]]:
    return [
        {
            "therapist": shift.therapist,
            "location": shift.location,
            "weekday": WEEKDAYS[shift.weekday][0],
            "opens": clock_of(shift.opens_minute),
            "closes": clock_of(shift.closes_minute),
            "valid_from": shift.valid_from.isoformat(),
            "valid_until": shift.valid_until.isoformat() if shift.valid_until else None,
            "every_weeks": shift.every_weeks,
            "standby": ("rule" if shift.opens_by_rule else "yes") if shift.standby else "no",
        }
        for shift in hours.shifts(session, Location.active, Therapist.active)
        if not shift.over(now)
    ]


def _patient(patient: Patient) -> dict[str, Cell]:
    return {
        "name": patient.name,
        "email": patient.email,
        "phone": dialled(patient.phone) if patient.phone else None,
        "birth_date": patient.birth_date.isoformat() if patient.birth_date else None,
        "language": patient.language,
    }


def dialled(phone: str) -> str:
    """A stored number as it is dialled in the United States: no plus, which a spreadsheet computes, and the same again.

    >>> dialled("+12175550142"), dialled("+493012345678")
    ('1 217 555 0142', '011 49 30 12345678')
    """
    number = phonenumbers.parse(phone)
    written = phonenumbers.format_out_of_country_calling_number(number, "US")
    digits = " ".join(re.findall(r"\d+", written))
    return digits if accepted.phone(digits) == phone else phone


def _visits(session: Session, keys: Keyring, now: datetime) -> Export:
    rows = session.execute(
        select(Appointment, Patient, Therapist.name, Location, AppointmentType.name)
        .join(Patient, Patient.id == Appointment.patient_id)
        .join(Therapist, Therapist.id == Appointment.therapist_id)
        .join(Location, Location.id == Appointment.location_id)
        .join(AppointmentType, AppointmentType.id == Appointment.appointment_type_id)
        .where(Appointment.status == Status.BOOKED, Appointment.ends_at > now)
        .order_by(Appointment.starts_at, Appointment.id)
    ).all()
    told = [
        {
            "imported_as": visit.imported_as or str(visit.id),
            "start": visit.starts_at.astimezone(zone_of(place.time_zone)).isoformat(timespec="minutes"),
            "end": visit.ends_at.astimezone(zone_of(place.time_zone)).isoformat(timespec="minutes"),
            "buffer": visit.buffer_minutes,
            "therapist": therapist,
            "location": place.name,
            "type": kind,
            "needling": str(visit.needling),
            "note": keys.open(visit.note_sealed),
            "patient": patient.name,
            **_patient(patient),
        }
        for visit, patient, therapist, place, kind in rows
    ]
    return _table(What.VISITS, told, list({patient.id: patient for _, patient, *_ in rows}.values()))
