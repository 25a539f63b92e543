"""What a change of hours, licences, people or places does to visits that are booked, and to the calendar.

Such a change is made in `weighed`: whoever makes it is told first which visits no longer fit and which starts come
and go, and nothing is stored before they agree. The visits stay booked, to be moved or cancelled by hand; free time
follows the change at once.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, literal_column, select, union
from sqlalchemy.orm import Session

from scheduler.db import alone_with
from scheduler.errors import Conflict
from scheduler.models import (
    Appointment,
    AppointmentType,
    Location,
    Override,
    Patient,
    Slot,
    Status,
    Therapist,
    WorkingHours,
)
from scheduler.services import goal_changed, licensing, practice, slots, starts_changed
from scheduler.services.goal_changed import NewlyMissed
from scheduler.services.licensing import Licences
from scheduler.services.planned import Away, planned_time
from scheduler.services.practice import Offering
from scheduler.services.starts_changed import StartsChanged
from scheduler.timeline import CELL, cell_of, local_date, next_cell, zone_of

THERAPISTS_A_CHUNK = 20
UNSEEN = ""  # what somebody has agreed to who is to be shown everything first
NO_VISITS = "no visits"  # what somebody agrees to where no visit is hit
Place = tuple[int, int]  # therapist and location
Time = tuple[datetime, datetime]


class Why(StrEnum):
    """Why a visit that is booked no longer fits, the gravest first."""

    THERAPIST_GONE = "therapist-gone"
    LOCATION_CLOSED = "location-closed"
    NOT_LICENSED = "not-licensed"
    CLOSED_THEN = "closed-then"
    THERAPIST_OFF = "therapist-off"
    OUTSIDE_HOURS = "outside-hours"
    NOT_OFFERED = "not-offered"
    KEEPS_LENGTH = "keeps-length"


GRAVEST = list(Why)
TOO_SHORT = "hours-too-short"  # what is outside the hours in its end only


@dataclass(frozen=True, slots=True)
class Imagined:
    """A visit that nobody has booked, with what a booked one is asked about."""

    therapist_id: int
    location_id: int
    appointment_type_id: int
    starts_at: datetime
    ends_at: datetime
    buffer_minutes: int
    includes_needling: bool
    therapist_active: bool
    location_active: bool
    state: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A visit that no longer fits, as it can be told after its transaction is gone."""

    visit_id: UUID
    patient_id: UUID
    patient: str
    therapist: str
    location_id: int
    location: str
    time_zone: str
    starts_at: datetime
    ends_at: datetime
    why: Why


class NotAgreed(Conflict):
    """A change has consequences that nobody has agreed to yet; `agreement` is what to say to agree.

    It names the visits that would no longer fit: what can be booked changes at any moment, by visits alone.
    """

    def __init__(self, hits: list[Hit], starts: Sequence[StartsChanged], missed: Sequence[NewlyMissed] = ()) -> None:
        fewer = "Other times can be booked after this." if starts else "The goal would be missed at other times."
        super().__init__("Booked visits would no longer fit." if hits else fewer)
        self.hits, self.starts, self.missed = hits, starts, missed

    @property
    def agreement(self) -> str:
        named = "".join(f"{hit.visit_id.hex} {hit.why};" for hit in self.hits)
        return sha256(named.encode()).hexdigest()[:32] if self.hits else NO_VISITS


@contextmanager
def weighed(session: Session, therapist_ids: Collection[int], *, agreed: str | None, now: datetime) -> Iterator[None]:
    """Change what the calendars of these therapists depend on; raise NotAgreed for what it does to visits and starts.

    It does not for who `agreed` to these very visits; who has UNSEEN it is told of starts and of the goal too, None of
    visits alone.
    All cells are brought in line in the same transaction: search offers nothing that the change took away. Call `alone`
    before reading what is to be changed.
    """
    slots.lock(session, therapist_ids)
    before = {hit.visit_id: GRAVEST.index(hit.why) for hit in unfit(session, therapist_ids, now=now)}
    places = goal_changed.where(session, therapist_ids) if agreed == UNSEEN else frozenset[int]()
    reached = goal_changed.reach(session, places, now=now)
    yield
    session.flush()
    after = unfit(session, therapist_ids, now=now)
    worse = [hit for hit in after if GRAVEST.index(hit.why) < before.get(hit.visit_id, len(GRAVEST))]
    if agreed == UNSEEN:
        starts = starts_changed.by_plan(session, therapist_ids, _end(session, now), now=now)
        missed = goal_changed.newly_missed(reached, goal_changed.reach(session, places, now=now))
        require_agreed(worse, agreed, starts, missed)
    else:
        require_agreed(worse, agreed)
        replan(session, therapist_ids, now=now)


def alone(session: Session) -> None:
    """Wait until nobody else changes what calendars depend on: such changes are rare, and each looks at many rows."""
    alone_with(session, "what calendars depend on")


def require_agreed(
    hits: list[Hit], agreed: str | None, starts: Sequence[StartsChanged] = (), missed: Sequence[NewlyMissed] = ()
) -> None:
    """Raise NotAgreed for starts that change, for a goal that is missed, and for visits that nobody agreed to."""
    refusal = NotAgreed(hits, starts, missed)
    if starts or missed or (hits and refusal.agreement != agreed):
        raise refusal


def replan(session: Session, therapist_ids: Collection[int], *, now: datetime) -> None:
    """Bring all cells ahead of locked therapists in line with hours and licences, as far as there are any.

    One therapist and a few weeks at a time: ten therapists' three months at once took ten times as long.
    """
    until = _end(session, now)
    for therapist_id in sorted(therapist_ids):
        for window in slots.work_ahead(session, therapist_id, until=until, now=now):
            slots.replan(session, [therapist_id], *window, now=now)


def _end(session: Session, now: datetime) -> datetime:
    """Where the calendar ends: with the horizon, or with the last free cell where that was further once."""
    free = select(Slot.starts_at).where(Slot.fit > literal_column("0")).order_by(Slot.starts_at.desc())
    last = session.scalars(free.limit(1)).first() or now
    return max(slots.horizon_end(practice.policy(session), now), last + CELL)


def refit(session: Session) -> None:
    """Recount every free cell, those that have passed too: the longest visit is another one now."""
    first, last = session.execute(select(func.min(Slot.starts_at), func.max(Slot.starts_at))).one()
    everybody = slots.therapists(session)
    slots.lock(session, everybody)
    for chunk in range(0, len(everybody), THERAPISTS_A_CHUNK):
        if first is not None:
            slots.refit(session, everybody[chunk : chunk + THERAPISTS_A_CHUNK], first, last + CELL)


def unfit(
    session: Session, therapist_ids: Collection[int] | None = None, *, now: datetime, until: datetime | None = None
) -> list[Hit]:
    """The visits ahead, soonest first, that hours, licences, people, places and kinds as they stand do not allow.

    Of these therapists, or of all; of all that are ahead, or that begin before `until`. As many queries at any size.
    """
    visits = _ahead(session, therapist_ids, now, until)
    if not visits:
        return []
    concerned = {visit.therapist_id for visit in visits}
    licences = licensing.licences_of(session, concerned)
    until = max(visit.ends_at + timedelta(minutes=visit.buffer_minutes) for visit in visits) + CELL
    since = min(visit.starts_at for visit in visits) - CELL
    planned, away = _planned(session, concerned, since, until), Away.near(session, concerned, since, until)
    offering = practice.offering(session)
    reasons = ((visit, _why(visit, licences, planned, away) or _unoffered(visit, offering)) for visit in visits)
    return [_hit(visit, why) for visit, why in reasons if why is not None and visit.overridden not in _known(why)]


def _known(why: Why) -> frozenset[str]:
    """The rules by whose names staff booked against this very one, knowing it (`Override`)."""
    return frozenset({why, TOO_SHORT} if why is Why.OUTSIDE_HOURS else {why})


def misfit(session: Session, visit: Imagined) -> Why | None:
    """Why a visit that nobody has booked would not fit, by what is asked of those that are; None when it would."""
    return misfits(session, [visit])[0]


def misfits(session: Session, visits: Sequence[Imagined]) -> list[Why | None]:
    """The same of several visits, in their order. As many queries at any number."""
    if not visits:
        return []
    end = max(visit.ends_at + timedelta(minutes=visit.buffer_minutes) for visit in visits) + CELL
    concerned, since = {visit.therapist_id for visit in visits}, min(visit.starts_at for visit in visits) - CELL
    planned, away = _planned(session, concerned, since, end), Away.near(session, concerned, since, end)
    licences, offering = licensing.licences_of(session, concerned), practice.offering(session)
    return [_why(visit, licences, planned, away) or _unoffered(visit, offering) for visit in visits]


def of_type(session: Session, kind_id: int, *, now: datetime) -> list[Hit]:
    """The visits ahead of one kind, which keep the length that they were booked with."""
    of_kind = _visits(now).where(Appointment.appointment_type_id == kind_id)
    return [_hit(visit, Why.KEEPS_LENGTH) for visit in session.execute(of_kind)]


def therapists_at(session: Session, location_ids: Collection[int], *, now: datetime) -> set[int]:
    """Who has hours at these places, and so cells, or visits ahead."""
    working = select(WorkingHours.therapist_id).where(WorkingHours.location_id.in_(location_ids))
    booked = select(Appointment.therapist_id).where(
        Appointment.location_id.in_(location_ids), Appointment.starts_at >= now, Appointment.status == Status.BOOKED
    )
    return set(session.scalars(union(working, booked)))


def _ahead(
    session: Session, therapist_ids: Collection[int] | None, now: datetime, until: datetime | None
) -> list[Row[Any]]:
    visits = _visits(now)
    if until is not None:
        visits = visits.where(Appointment.starts_at < until)
    if therapist_ids is not None:
        visits = visits.where(Appointment.therapist_id.in_(therapist_ids))
    return list(session.execute(visits))


def _visits(now: datetime) -> Select[*tuple[Any, ...]]:
    return (
        select(
            Appointment.id,
            Appointment.therapist_id,
            Appointment.location_id,
            Appointment.patient_id,
            Appointment.appointment_type_id,
            Appointment.starts_at,
            Appointment.ends_at,
            Appointment.buffer_minutes,
            AppointmentType.includes_needling,
            Patient.name.label("patient"),
            Therapist.name.label("therapist"),
            Therapist.active.label("therapist_active"),
            Location.name.label("location"),
            Location.active.label("location_active"),
            Location.state,
            Location.time_zone,
            Override.rule.label("overridden"),
        )
        .join(AppointmentType, AppointmentType.id == Appointment.appointment_type_id)
        .join(Patient, Patient.id == Appointment.patient_id)
        .join(Therapist, Therapist.id == Appointment.therapist_id)
        .join(Location, Location.id == Appointment.location_id)
        .outerjoin(Override, (Override.appointment_id == Appointment.id) & (Appointment.visit_version == 1))
        .where(Appointment.status == Status.BOOKED, Appointment.starts_at >= now)
        .order_by(Appointment.starts_at, Appointment.id)
    )


def _planned(
    session: Session, therapist_ids: Collection[int], start: datetime, end: datetime
) -> dict[Place, list[Time]]:
    """Who works where and when, as the plan has it, with stretches that touch made one."""
    planned: dict[Place, list[Time]] = defaultdict(list)
    for stretch in planned_time(session, therapist_ids, start, end):
        times = planned[stretch.therapist_id, stretch.location_id]
        begun = times.pop()[0] if times and times[-1][1] == stretch.starts_at else stretch.starts_at
        times.append((begun, stretch.ends_at))
    return planned


def _why(visit: Row[Any] | Imagined, licences: Licences, planned: dict[Place, list[Time]], away: Away) -> Why | None:
    zone = zone_of(visit.time_zone)
    day = local_date(visit.starts_at, zone)
    licensed = licences.may_needle if visit.includes_needling else licences.may_treat
    if not visit.therapist_active:
        return Why.THERAPIST_GONE
    if not visit.location_active:
        return Why.LOCATION_CLOSED
    if not licensed(visit.therapist_id, visit.state, day):
        return Why.NOT_LICENSED
    start, end = cell_of(visit.starts_at), next_cell(visit.ends_at + timedelta(minutes=visit.buffer_minutes))
    if _touch(away.closed(visit.location_id, zone), start, end):
        return Why.CLOSED_THEN
    if _touch(away.absent(visit.therapist_id, zone), start, end):
        return Why.THERAPIST_OFF
    times = planned[visit.therapist_id, visit.location_id]
    at = bisect_right(times, start, key=lambda time: time[0]) - 1
    return None if at >= 0 and end <= times[at][1] else Why.OUTSIDE_HOURS


def _unoffered(visit: Row[Any] | Imagined, offering: Offering) -> Why | None:
    allowed = offering.allows(visit.appointment_type_id, visit.therapist_id, visit.location_id)
    return None if allowed else Why.NOT_OFFERED


def _touch(times: list[Time], start: datetime, end: datetime) -> bool:
    return any(begins < end and start < ends for begins, ends in times)


def _hit(visit: Row[Any], why: Why) -> Hit:
    return Hit(
        visit_id=visit.id,
        patient_id=visit.patient_id,
        patient=visit.patient,
        therapist=visit.therapist,
        location_id=visit.location_id,
        location=visit.location,
        time_zone=visit.time_zone,
        starts_at=visit.starts_at,
        ends_at=visit.ends_at,
        why=why,
    )
