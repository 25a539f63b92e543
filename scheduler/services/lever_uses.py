"""The record of what was done to keep the goal: who used which lever when, and what of it was booked since."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from scheduler.models import Account, Appointment, Lever, LeverUse, Location, StandbyOpening, Status, Therapist
from scheduler.services import audit
from scheduler.timeline import CELL, DAY, HOUR

SHOWN = 90 * DAY
NOT_VISITS = (Status.CANCELLED, Status.HELD)


@dataclass(frozen=True, slots=True)
class Use:
    """One use: its row, who by name (None for no account), where and whom, and what was booked of its times since.

    `visits` begin in its times, were booked after it and are not cancelled; `booked_hours` is what they take. Of
    standby hours that are open and not over, `hours_id` and `day` say what would be closed; of a day that was let go
    and is not over, `day` alone what would be kept back again.
    """

    row: LeverUse
    who: str | None
    place: Location
    therapist: str | None
    visits: int
    booked_hours: float
    hours_id: int | None
    day: date | None

    @property
    def hours(self) -> float:
        return self.row.cells * CELL / HOUR


def of_location(session: Session, location_id: int, *, now: datetime) -> list[Use]:
    """What was done for a location in the last SHOWN, newest first. Three queries at any size."""
    place = aliased(Location)
    found = session.execute(
        select(LeverUse, place, Therapist.name, StandbyOpening.working_hours_id)
        .join(place, place.id == LeverUse.place_id)
        .outerjoin(Therapist, Therapist.id == LeverUse.therapist_id)
        .outerjoin(StandbyOpening, StandbyOpening.lever_use_id == LeverUse.id)
        .where(LeverUse.location_id == location_id, LeverUse.used_at >= now - SHOWN)
        .order_by(LeverUse.used_at.desc(), LeverUse.id.desc())
    ).all()
    names = {audit.name_of(number): name for number, name in session.execute(select(Account.id, Account.name))}
    taken = _taken(session, location_id, now - SHOWN)
    return [
        Use(
            row,
            names.get(row.used_by),
            where,
            therapist,
            len(taken[row.id]),
            sum(taken[row.id], timedelta()) / HOUR,
            *(_closing(row, hours_id) if row.ends_at > now else (None, None)),
        )
        for row, where, therapist, hours_id in found
    ]


def _closing(row: LeverUse, hours_id: int | None) -> tuple[int | None, date | None]:
    """What of a use can be taken back."""
    let_go = row.lever == Lever.RELEASE and row.closed_at is None
    return (hours_id, row.day) if let_go or hours_id is not None else (None, None)


def _taken(session: Session, location_id: int, since: datetime) -> Mapping[int, Sequence[timedelta]]:
    """How long each visit is, with its buffer, that was booked in the times of each use since it was made."""
    visits = (
        select(LeverUse.id, Appointment.starts_at, Appointment.ends_at, Appointment.buffer_minutes)
        .join(
            Appointment,
            (Appointment.location_id == LeverUse.place_id)
            & (Appointment.starts_at >= LeverUse.starts_at)
            & (Appointment.starts_at < LeverUse.ends_at)
            & (Appointment.booked_at >= LeverUse.used_at)
            & (LeverUse.therapist_id.is_(None) | (Appointment.therapist_id == LeverUse.therapist_id)),
        )
        .where(LeverUse.location_id == location_id, LeverUse.used_at >= since, Appointment.status.not_in(NOT_VISITS))
    )
    found: dict[int, list[timedelta]] = defaultdict(list)
    for use_id, starts_at, ends_at, buffer_minutes in session.execute(visits):
        found[use_id].append(ends_at - starts_at + timedelta(minutes=buffer_minutes))
    return found
