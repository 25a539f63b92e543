"""Which messages the clinic's own people are owed. None names a patient: they say what to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.orm import Session

from scheduler.db import insert_into
from scheduler.models import (
    Account,
    AccountLocation,
    Appointment,
    Channel,
    Kind,
    OutboxMessage,
    Role,
    TimeOff,
    TimeOffStatus,
)
from scheduler.services import audit
from scheduler.services.audit import Actor
from scheduler.timeline import cell_of, local_date, zone_of

SOON = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about time off, in the words of a letter: when, and yes or no; never its note."""

    starts_on: date
    starts_minute: int
    ends_on: date
    ends_minute: int
    approved: bool


def day_changed(session: Session, appointment: Appointment, *, by: Actor, now: datetime) -> None:
    """Owe the visit's therapist word that their day changed, when it begins within 24 hours and others changed it.

    A walk-in may begin in the quarter hour that is running.
    """
    if cell_of(now) <= appointment.starts_at < now + SOON:
        day = local_date(appointment.starts_at, zone_of(appointment.location.time_zone))
        _owe_therapist(session, appointment.therapist_id, Kind.DAY_CHANGED, day.isoformat(), by=by, now=now)


def standby_changed(session: Session, therapist_id: int, day: date, *, by: Actor, now: datetime) -> None:
    """Owe a therapist word that others, or the rule, opened a day of their hours on standby or closed it again."""
    _owe_therapist(session, therapist_id, Kind.DAY_CHANGED, day.isoformat(), by=by, now=now)


def time_off_decided(session: Session, absence: TimeOff, *, by: Actor, now: datetime) -> None:
    """Owe a therapist word that others decided about what they asked for."""
    _owe_therapist(session, absence.therapist_id, Kind.TIME_OFF_DECIDED, str(absence.id), by=by, now=now)


def decision_stands(session: Session, about: str, account: Account) -> Decision | None:
    """The decision that a message is about, as it stands; None where it was taken back or is to be decided anew.

    SQLite gives the number of what is gone to what comes next, which may be another's.
    """
    absence = session.get(TimeOff, int(about))
    if absence is None or absence.therapist_id != account.therapist_id or absence.status == TimeOffStatus.ASKED:
        return None
    when = absence.starts_on, absence.starts_minute, absence.ends_on, absence.ends_minute
    return Decision(*when, approved=absence.status == TimeOffStatus.APPROVED)


def administers(place_ids: Sequence[int] | Select[int]) -> ColumnElement[bool]:
    """Whether an account administers the whole clinic, or one of these places."""
    near = select(AccountLocation.account_id).where(AccountLocation.location_id.in_(place_ids))
    return (Account.role == Role.ADMIN) & or_(Account.everywhere, Account.id.in_(near))


def _owe_therapist(session: Session, therapist_id: int, kind: Kind, about: str, *, by: Actor, now: datetime) -> None:
    """Owe a therapist who has an account word of what others did."""
    account = session.scalars(select(Account).where(Account.therapist_id == therapist_id, Account.active)).one_or_none()
    if account is not None and by.name != audit.name_of(account.id):
        owe(session, account.id, kind, about, now=now)


def owe(session: Session, account_id: int, kind: Kind, about: str, *, now: datetime) -> None:
    """Owe one of the staff a message, unless it is owed already and will tell of this too when it goes."""
    new = insert_into(session, OutboxMessage).values(
        account_id=account_id,
        kind=kind,
        channel=Channel.EMAIL,
        offset_minutes=0,
        about=about,
        due_at=now,
        created_at=now,
    )
    session.execute(new.on_conflict_do_nothing())
