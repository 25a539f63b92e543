"""What an administrator should look at: what ends soon, what is due, what failed, what is not open yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scheduler.models import (
    Appointment,
    Fate,
    License,
    Location,
    OutboxMessage,
    StateRule,
    Therapist,
)
from scheduler.services import staffing
from scheduler.services.staffing import Places
from scheduler.timeline import DAY

ENDS_SOON = 60 * DAY
DUE_SOON = 30 * DAY
FAILED_SINCE = 30 * DAY


@dataclass(frozen=True, slots=True)
class Attention:
    """`ending` are licences without one that goes on; a rule that is due is the newest of its state."""

    ending: list[tuple[License, Therapist]]
    unverified: int
    rules_due: list[StateRule]
    states_without_rule: list[str]
    failed_messages: int
    not_open: list[Location]

    def __bool__(self) -> bool:
        lists = (self.ending, self.rules_due, self.states_without_rule, self.not_open)
        return bool(self.unverified or self.failed_messages or any(lists))


def needed(session: Session, places: Places, *, now: datetime) -> Attention:
    """Of the whole clinic, or of some places and those who work there. Six queries at any size."""
    held = session.execute(
        select(License, Therapist)
        .join(Therapist, Therapist.id == License.therapist_id)
        .where(Therapist.active, staffing.works_at(places))
        .order_by(License.valid_until, Therapist.name, License.id)
    ).all()
    locations = session.scalars(select(Location).order_by(Location.name)).all()
    own = [place for place in locations if places is None or place.id in places]
    states = {place.state for place in own if place.active}
    newest = {rule.state: rule for rule in session.scalars(select(StateRule).order_by(StateRule.valid_from))}
    due = (newest[state] for state in sorted(states & newest.keys()))
    return Attention(
        ending=_ending([(licence, therapist) for licence, therapist in held], now),
        unverified=sum(licence.verified_at is None for licence, _ in held if licence.valid_until >= now.date()),
        rules_due=[rule for rule in due if rule.review_on <= (now + DUE_SOON).date()],
        states_without_rule=sorted(states - newest.keys()),
        failed_messages=_failed(session, places, now),
        not_open=[place for place in own if not place.open_online],
    )


def _ending(held: Sequence[tuple[License, Therapist]], now: datetime) -> list[tuple[License, Therapist]]:
    """Licences that end soon or have ended within a year, and are the last of their kind."""
    last: dict[tuple[int, str, str], tuple[License, Therapist]] = {}
    for licence, therapist in held:  # in the order of their ends
        last[licence.therapist_id, licence.kind, licence.state] = (licence, therapist)
    soon, long_ago = (now + ENDS_SOON).date(), (now - timedelta(days=365)).date()
    return [(licence, therapist) for licence, therapist in last.values() if long_ago < licence.valid_until <= soon]


def _failed(session: Session, places: Places, now: datetime) -> int:
    """Messages of the last weeks that failed; those to the staff count for the whole clinic only."""
    failed = select(func.count(OutboxMessage.id)).where(
        OutboxMessage.status == Fate.FAILED, OutboxMessage.due_at >= now - FAILED_SINCE
    )
    if places is not None:
        visit = Appointment.id == OutboxMessage.appointment_id
        failed = failed.join(Appointment, visit).where(Appointment.location_id.in_(places))
    return session.execute(failed).scalar_one()
