"""A demo clinic that has been at work for two months: visits came, were missed and called off, reminders went."""

from datetime import datetime, timedelta
from random import Random

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session
from uuid6 import uuid7

from config import Settings
from scheduler import cli
from scheduler.clock import FixedClock
from scheduler.db import transaction
from scheduler.keys import Keyring
from scheduler.models import Appointment, Attempt, AuditEvent, OutboxMessage, Slot, Status
from scheduler.services import demo
from scheduler.services.demo import DemoClinic
from scheduler.timeline import DAY

LIVED = 60 * DAY
OUTCOMES = (*[Status.FULFILLED] * 8, Status.NOSHOW, Status.ARRIVED, Status.BOOKED)
CANCELLERS = ("patient", "patient", "account:2", "worker")
FATES = (
    *[("sent", None)] * 12,
    ("suppressed", "cancelled"),
    ("suppressed", "the visit has begun"),
    ("failed", "550 nobody here"),
    ("failed", "8 tries; the last: 451 later"),
)


def lived_in(engine: Engine, settings: Settings, *, now: datetime) -> None:
    """Fill an empty database with a clinic that began LIVED ago; always the same at the same moment."""
    began = now - LIVED
    cli.prepare(settings, engine, FixedClock(began))
    keys, chance = Keyring.of(settings.link_keys, settings.field_keys), Random(1)
    with transaction(engine) as session:
        clinic = DemoClinic(locations=3, therapists=6, days=100, booked=0.55)
        demo.fill(session, clinic, keys=keys, now=began, progress=lambda _done, _of: None)
        messages: list[OutboxMessage] = []
        for visit in session.scalars(select(Appointment).order_by(Appointment.starts_at, Appointment.id)):
            lead = chance.choice([0.3, 1, 2, 3, 6, 10, 13, 20, 40]) * DAY
            visit.booked_at = max(began - 30 * DAY, visit.starts_at - lead)
            if chance.random() < 0.12:
                _called_off(session, visit, chance, now)
            elif visit.starts_at < now:
                visit.status = chance.choice(OUTCOMES)
            messages += _reminder(visit, chance, now)
        session.add_all(messages)
        session.flush()
        session.add_all(_sent(message) for message in messages if message.status == "sent")


def _called_off(session: Session, visit: Appointment, chance: Random, now: datetime) -> None:
    visit.cancelled_at = min(now - chance.random() * DAY, visit.starts_at - chance.choice([0.02, 0.5, 1.5, 4, 9]) * DAY)
    visit.status = Status.CANCELLED
    session.flush()
    session.execute(update(Slot).where(Slot.appointment_id == visit.id).values(appointment_id=None, fit=1, fit_open=1))
    session.add(
        AuditEvent(
            happened_at=visit.cancelled_at,
            actor=chance.choice(CANCELLERS),
            action="appointment.cancelled",
            entity="appointment",
            entity_id=visit.id.hex,
            address="203.0.113.7",
            detail={},
        )
    )


def _reminder(visit: Appointment, chance: Random, now: datetime) -> list[OutboxMessage]:
    """The reminder of a visit, and what became of it; none for one that was called off in time."""
    due_at = visit.starts_at - DAY
    if due_at >= now and visit.status == Status.CANCELLED:
        return []
    fate, reason = ("owed", None) if due_at >= now else chance.choice(FATES)
    message = OutboxMessage(
        id=uuid7(),
        appointment_id=visit.id,
        kind="reminder",
        channel="email",
        offset_minutes=DAY // timedelta(minutes=1),
        visit_version=1,
        due_at=due_at,
        status=fate,
        reason=reason,
        sent_at=due_at if fate == "sent" else None,
        created_at=visit.booked_at,
    )
    return [message]


def _sent(message: OutboxMessage) -> Attempt:
    """The try that sent it."""
    at = message.due_at
    return Attempt(message_id=message.id, number=1, started_at=at, finished_at=at, outcome="sent")
