"""Whether the software can keep its promises now: the workers' heartbeat, and the figures that operators watch."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scheduler.db import database_now, insert_into
from scheduler.models import Appointment, Channel, ChannelState, Fate, Heartbeat, OutboxMessage, Slot, Status

WORKER = "worker"
SILENCE_ALLOWED = timedelta(seconds=120)


def beat(session: Session) -> None:
    """Note that the workers' scheduler is alive, on the database's clock."""
    now = database_now()
    alive = insert_into(session, Heartbeat).values(name=WORKER, beat_at=now)
    session.execute(alive.on_conflict_do_update(index_elements=["name"], set_={"beat_at": now}))


def silence(session: Session) -> timedelta | None:
    """How long the workers have been silent, on the database's clock; None when there never was one."""
    row = session.execute(select(Heartbeat.beat_at, database_now()).where(Heartbeat.name == WORKER)).first()
    return None if row is None else row[1] - row[0]


def figures(session: Session, *, now: datetime) -> dict[tuple[str, str], float]:
    """Return what `/metrics` shows, as {(name, status label or ""): value}, counted from the rows at this moment."""
    counted: dict[tuple[str, str], float] = {}
    visits = select(Appointment.status, func.count()).where(Appointment.status != Status.HELD)
    for status, count in session.execute(visits.group_by(Appointment.status)):
        counted["appointments", status] = count
    held = select(func.count()).where(Appointment.expires_at.is_not(None))
    counted["holds", ""] = session.execute(held).scalar_one()
    for status, count in session.execute(select(OutboxMessage.status, func.count()).group_by(OutboxMessage.status)):
        counted["outbox_messages", status] = count
    due = select(func.min(OutboxMessage.due_at)).where(OutboxMessage.status == Fate.OWED, OutboxMessage.due_at <= now)
    oldest = session.execute(due).scalar_one_or_none()
    counted["outbox_oldest_due_seconds", ""] = (now - oldest).total_seconds() if oldest else 0.0
    mail = session.get(ChannelState, Channel.EMAIL)
    counted["mail_failures_in_a_row", ""] = mail.failures if mail is not None else 0
    free_ahead = select(func.count()).select_from(Slot).where(Slot.fit > 0, Slot.starts_at >= now)
    counted["free_cells_ahead", ""] = session.execute(free_ahead).scalar_one()
    quiet = silence(session)
    if quiet is not None:
        counted["worker_silence_seconds", ""] = quiet.total_seconds()
    return counted
