"""Booked visits from another program: claimed as every booking is, told to nobody, imported once.

A visit has a name in the old program, or one made of what it is; `Appointment.imported_as` keeps it. Off the grid it
takes every cell that it touches, within the planned hours or not.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime
from hashlib import sha256
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid6 import uuid7

from scheduler import words
from scheduler.keys import Keyring
from scheduler.models import Appointment, AppointmentType, Location, Needling, Patient, Slot, Status, Therapist
from scheduler.services import audit, booking, holds, licensing, practice, reminders, slots
from scheduler.services.audit import Actor
from scheduler.services.availability import LONGEST_PLAN
from scheduler.services.licensing import Licences
from scheduler.services.moving import import_places
from scheduler.services.moving.import_lines import (
    CLOCK,
    GRID,
    Cells,
    File,
    Line,
    Outcome,
    Trouble,
    Unusable,
    instant_of,
    lines,
    note_of,
    plainly,
    text_of,
    whole_number,
)
from scheduler.services.moving.import_people import (
    NewPatient,
    Patients,
    Person,
    new_patient,
    read_person,
    store_patients,
)
from scheduler.services.moving.import_places import Named
from scheduler.timeline import CELL, DAY, MINUTE, cell_of, local_date, next_cell, zone_of
from scheduler.words import DEFAULT_LANGUAGE

LONGEST_VISIT, LONGEST_BUFFER = 12 * 60, 240  # minutes
LONGEST_OWN_NAME = 200
IDS_A_STATEMENT = 500
OUR_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CALLED_OFF = ("cancel", "no show", "noshow", "anulad", "deleted", "declined", "no asistio")
NEEDLES = {
    "open": Needling.OPEN, "yes": Needling.OPEN, "si": Needling.OPEN, "happy to": Needling.OPEN,
    "talk first": Needling.TALK_FIRST, "talk": Needling.TALK_FIRST, "maybe": Needling.TALK_FIRST,
    "none": Needling.NONE, "no": Needling.NONE, "no needles": Needling.NONE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewVisit:
    """A visit to be stored; `patient` is an id, or somebody who is new with it."""

    imported_as: str
    therapist_id: int
    location_id: int
    appointment_type_id: int
    starts_at: datetime
    ends_at: datetime
    buffer_minutes: int
    patient: UUID | NewPatient
    needling: Needling
    note: str | None


@dataclass(frozen=True, slots=True)
class _Taken:
    """Who has a cell: a line of this file, or a visit that is here already."""

    words: str
    patient_id: UUID | None


@dataclass(frozen=True, slots=True)
class _Time:
    """When a visit is, and the minutes after it that it keeps free."""

    starts_at: datetime
    ends_at: datetime
    buffer_minutes: int

    def cells(self) -> Iterator[datetime]:
        cell = cell_of(self.starts_at)
        while cell < next_cell(self.ends_at + self.buffer_minutes * MINUTE):
            yield cell
            cell += CELL


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A line that can be understood."""

    cells: Cells
    name: str
    person: Person
    therapist: Therapist
    location: Location
    kind: AppointmentType
    time: _Time
    imported_as: str


def visit_lines(session: Session, file: File, *, now: datetime) -> Iterator[Line]:
    """The lines, each held against what is here and against the lines before it.

    A line that tells only a name comes after those that tell more, wherever it stands: one of them may say who it is.
    """
    understood = _Reader(
        import_places.therapists(session), import_places.locations(session), import_places.types(session), now
    )
    read = [understood.line(cells) for cells in lines(file)]
    wanted = [one for one in read if isinstance(one, _Wanted)]
    calendar = _Calendar.of(session, wanted, now)
    judged = [calendar.judged(one) for one in sorted(wanted, key=lambda one: not one.person.reachable)]
    unusable = [one for one in read if isinstance(one, Line)]
    return iter(sorted(judged + unusable, key=lambda line: line.number))


def lock(session: Session) -> None:
    """Take every calendar, before reading what visits are held against."""
    slots.lock(session, slots.therapists(session))


def store_visits(session: Session, new: Sequence[NewVisit], *, by: Actor, keys: Keyring, now: datetime) -> None:
    """Claim the cells of visits and store what every visit has; raises SlotTaken. The therapists must be locked."""
    people = {one.patient.id: one.patient for one in new if isinstance(one.patient, NewPatient)}
    store_patients(session, people.values(), by=by, now=now)
    visits = [_appointment(one, keys, now) for one in new]
    session.add_all(visits)
    session.flush()
    holds.give_way(session, visits, now=now)
    slots.claim_anyhow(session, visits)
    reminders.plan_imported(session, visits, practice.policy(session), now=now)
    for visit in visits:
        booking.add_link(session, visit, keys)
        audit.record(session, "appointment.booked", visit, by=by, now=now, imported=True)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Understands lines by the clinic's own names."""

    therapists: Named[Therapist]
    locations: Named[Location]
    types: Named[AppointmentType]
    now: datetime

    def line(self, cells: Cells) -> _Wanted | Line:
        if plainly(cells.given.get("status", "")).startswith(CALLED_OFF):
            return Line(cells.number, cells.title, Outcome.CALLED_OFF)
        therapist, kind = cells.need("therapist", self.therapists), cells.need("type", self.types)
        location = cells.read("location", self.locations) or self.locations.only
        if location is None and not cells.given.get("location"):
            cells.note("location", Trouble.MISSING)
        name, person = read_person(cells, "patient", now=self.now)
        time = _time(cells, location, kind) if location is not None and kind is not None else None
        own_name = cells.read("imported_as", text_of(LONGEST_OWN_NAME))
        for column, parse in (("note", note_of), ("needling", needling_of)):
            cells.read(column, parse)
        if therapist is None or location is None or kind is None or time is None or cells.problems:
            return cells.line(None)
        imported_as = own_name or _made_name(therapist, location, time, person)
        return _Wanted(cells, name, person, therapist, location, kind, time, imported_as)


@dataclass(frozen=True, slots=True)
class _Calendar:
    """All that the lines are held against, as it stands; the file's own visits join it line by line."""

    licences: Licences
    patients: Patients
    known: dict[str, datetime]
    taken: dict[tuple[int, datetime], _Taken]
    now: datetime
    new_people: dict[UUID, NewPatient] = field(default_factory=dict)
    line_of: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, session: Session, wanted: Sequence[_Wanted], now: datetime) -> "_Calendar":
        concerned = {one.therapist.id for one in wanted}
        return cls(
            licences=licensing.licences_of(session, concerned),
            patients=Patients.all(session),
            known=_known(session, [one.imported_as for one in wanted]),
            taken=_taken(session, concerned, now),
            now=now,
        )

    def judged(self, one: _Wanted) -> Line:
        """What becomes of a visit; one that is good takes its cells here too."""
        cells, known = one.cells, self.known.get(one.imported_as)
        earlier = self.line_of.setdefault(one.imported_as, cells.number)
        if known is not None:
            if known != one.time.starts_at:
                cells.note("start", Trouble.OTHERWISE, words.when(known, one.location.time_zone, DEFAULT_LANGUAGE))
            return cells.line(None, Outcome.KNOWN)
        if one.time.ends_at <= self.now:
            return cells.line(None, Outcome.OVER)
        if earlier != cells.number:
            cells.note("imported_as" if cells.given.get("imported_as") else "start", Trouble.TWICE, str(earlier))
        self._require_free(one)
        patient = self._patient(one)
        if cells.problems or patient is None:
            return cells.line(None)
        about = _Taken(f"{_words(one.time, one.location)}, {one.name} (#{cells.number})", None)
        self.taken.update({(one.therapist.id, cell): about for cell in one.time.cells()})
        return cells.line(_new(one, patient))

    def _require_free(self, one: _Wanted) -> None:
        """Note why this visit cannot be: too far ahead, no licence that day, or somebody else's time."""
        cells, zone = one.cells, zone_of(one.location.time_zone)
        if one.time.starts_at > self.now + LONGEST_PLAN:
            cells.note("start", Trouble.TOO_FAR)
        whose = (one.therapist.id, one.location.state, local_date(one.time.starts_at, zone))
        if not self.licences.may_treat(*whose):
            cells.note("therapist", Trouble.NOT_LICENSED, one.location.state)
        elif one.kind.includes_needling and not self.licences.may_needle(*whose):
            cells.note("type", Trouble.NO_NEEDLING, one.location.state)
        taken = (self.taken.get((one.therapist.id, cell)) for cell in one.time.cells())
        first = next(filter(None, taken), None)
        if first is not None:
            cells.note("start", Trouble.TAKEN, first.words, first.patient_id)

    def _patient(self, one: _Wanted) -> UUID | NewPatient | None:
        """Who comes: somebody who is here or came with an earlier line, or somebody new who can be reached."""
        alike = self.patients.like(one.person)
        if len(alike) > 1:
            one.cells.note("patient", Trouble.SEVERAL, one.name)
            return None
        if alike:
            return self.new_people.get(alike[0], alike[0])
        if not one.person.reachable:
            one.cells.note("email", Trouble.UNREACHABLE)
            return None
        patient = new_patient(one.name, one.person, DEFAULT_LANGUAGE)
        if not one.cells.problems:
            self.new_people[patient.id] = patient
            self.patients.add(one.person, patient.id)
        return patient


def _known(session: Session, names: Sequence[str]) -> dict[str, datetime]:
    """When the visits are that are here already, by their names in the old program, or by ours as exports have it."""
    told = select(Appointment.imported_as, Appointment.starts_at).where(Appointment.imported_as.is_not(None))
    known = {str(name): starts_at for name, starts_at in session.execute(told)}
    ours = {UUID(name): name for name in names if OUR_ID.fullmatch(name)}
    in_order = list(ours)
    for first in range(0, len(in_order), IDS_A_STATEMENT):
        some = in_order[first : first + IDS_A_STATEMENT]
        found = select(Appointment.id, Appointment.starts_at).where(Appointment.id.in_(some))
        known |= {ours[visit_id]: starts_at for visit_id, starts_at in session.execute(found)}
    return known


def _taken(session: Session, therapist_ids: Collection[int], now: datetime) -> dict[tuple[int, datetime], _Taken]:
    """Whose the taken cells of these therapists are, from yesterday on."""
    held = (
        select(Slot.therapist_id, Slot.starts_at, Appointment, Location, Patient)
        .join(Appointment, Appointment.id == Slot.appointment_id)
        .join(Location, Location.id == Appointment.location_id)
        .join(Patient, Patient.id == Appointment.patient_id)
        .where(Slot.therapist_id.in_(therapist_ids), Slot.starts_at >= now - DAY)
    )
    return {
        (therapist_id, cell): _Taken(f"{_words(visit, place)}, {place.name}, {patient.name}", patient.id)
        for therapist_id, cell, visit, place, patient in session.execute(held)
    }


def _time(cells: Cells, location: Location, kind: AppointmentType) -> _Time | None:
    """When a visit is: its end as the file tells it, by a time or by minutes, else after the minutes of its kind."""
    zone = zone_of(location.time_zone)
    clock = cells.given.get("time", "")
    start = cells.need("start", lambda text: instant_of(text, clock, zone, day_first=cells.day_first))
    minutes = cells.read("minutes", whole_number(1, LONGEST_VISIT)) or kind.minutes
    buffer = cells.read("buffer", whole_number(0, LONGEST_BUFFER))
    buffer = kind.buffer_minutes if buffer is None else buffer
    if buffer % GRID:
        cells.note("buffer", Trouble.OFF_GRID)
    if start is None:
        return None
    end = cells.read("end", lambda text: _end(text, start, zone, day_first=cells.day_first))
    if end is not None and not start < end <= start + LONGEST_VISIT * MINUTE:
        cells.note("end", Trouble.ORDER)
    return _Time(start, end or start + minutes * MINUTE, buffer)


def _end(text: str, start: datetime, zone: ZoneInfo, *, day_first: bool) -> datetime:
    """A time of the day on which the visit starts, or a day and a time."""
    if not CLOCK.fullmatch(text):
        return instant_of(text, "", zone, day_first=day_first)
    return instant_of(local_date(start, zone).isoformat(), text, zone, day_first=day_first)


def needling_of(text: str) -> Needling:
    wish = NEEDLES.get(plainly(text))
    if wish is None:
        raise Unusable(Trouble.NEEDLING)
    return wish


def _made_name(therapist: Therapist, location: Location, time: _Time, person: Person) -> str:
    """A name for a visit that has none: the same for the same file, another for any other visit."""
    told = (therapist.id, location.id, time.starts_at.isoformat(), *(str(one) for one in astuple(person)))
    return "sha256:" + sha256(json.dumps(told).encode()).hexdigest()


def _words(time: _Time | Appointment, location: Location) -> str:
    at = (location.time_zone, DEFAULT_LANGUAGE)
    return f"{words.day(time.starts_at, *at)}, {words.hour(time.starts_at, *at)}–{words.hour(time.ends_at, *at)}"


def _new(one: _Wanted, patient: UUID | NewPatient) -> NewVisit:
    return NewVisit(
        imported_as=one.imported_as,
        therapist_id=one.therapist.id,
        location_id=one.location.id,
        appointment_type_id=one.kind.id,
        starts_at=one.time.starts_at,
        ends_at=one.time.ends_at,
        buffer_minutes=one.time.buffer_minutes,
        patient=patient,
        needling=one.cells.read("needling", needling_of) or Needling.TALK_FIRST,
        note=one.cells.read("note", note_of),
    )


def _appointment(one: NewVisit, keys: Keyring, now: datetime) -> Appointment:
    return Appointment(
        id=uuid7(),
        patient_id=one.patient.id if isinstance(one.patient, NewPatient) else one.patient,
        therapist_id=one.therapist_id,
        location_id=one.location_id,
        appointment_type_id=one.appointment_type_id,
        starts_at=one.starts_at,
        ends_at=one.ends_at,
        buffer_minutes=one.buffer_minutes,
        status=Status.BOOKED,
        needling=one.needling,
        note_sealed=keys.seal(one.note),
        visit_version=1,
        link_generation=1,
        booked_at=now,
        imported_as=one.imported_as,
    )
