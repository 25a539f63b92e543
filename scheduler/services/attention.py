"""What an administrator should look at: what ends soon, what is due, what failed, what is not open yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scheduler.models import (
    Appointment,
    Fate,
    License,
    Location,
    OutboxMessage,
    Saying,
    StateRule,
    Therapist,
    TimeOff,
    TimeOffStatus,
    WorkingHours,
)
from scheduler.services import claim_ledger, consequences, hours, licensing, practice, staffing
from scheduler.services.hours import Unlicensed
from scheduler.services.staffing import Places
from scheduler.timeline import DAY

ENDS_SOON, ENDED_LATELY = 60 * DAY, 365 * DAY
DUE_SOON = 30 * DAY
FAILED_SINCE = 30 * DAY
UNFIT_WITHIN = 7 * DAY


@dataclass(frozen=True, slots=True)
class Attention:
    """`ending` are licences without one that goes on; a rule that is due is the newest of its state.

    `unfit` counts the visits of the next days that hours, licences, people and places as they now stand do not allow:
    to weigh all that are ahead takes too long for a page that opens the day. `asked` is time off to be decided.
    `claims_broken` counts the public claims that did not hold when a worker last looked.
    """

    ending: list[tuple[License, Therapist]]
    unverified: int
    rules_due: list[StateRule]
    states_without_rule: list[str]
    failed_messages: int
    not_open: list[Location]
    unlicensed: list[Unlicensed]
    unfit: int
    asked: int
    claims_broken: int

    def __bool__(self) -> bool:
        lists = (self.ending, self.rules_due, self.states_without_rule, self.not_open, self.unlicensed)
        counts = (self.unverified, self.failed_messages, self.unfit, self.asked, self.claims_broken)
        return any(counts) or any(lists)


def needed(session: Session, places: Places, *, now: datetime) -> Attention:
    """Of the whole clinic, or of some places and those who work there. As many queries at any size."""
    today = practice.today(session, now=now)
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
        ending=_ending([(licence, therapist) for licence, therapist in held], today),
        unverified=sum(not licence.verified for licence, _ in held if licence.valid_until >= today),
        rules_due=[rule for rule in due if rule.review_on <= today + DUE_SOON],
        states_without_rule=sorted(states - newest.keys()),
        failed_messages=_failed(session, places, now),
        not_open=[place for place in own if place.active and not place.online],
        unlicensed=hours.unlicensed(session, WorkingHours.location_id.in_([place.id for place in own]), now=now),
        unfit=_unfit(session, places, now),
        asked=_asked(session, places, today),
        claims_broken=sum(rows[0].says != Saying.HOLDS for rows in claim_ledger.history(session, 1).values()),
    )


def _ending(held: Sequence[tuple[License, Therapist]], today: date) -> list[tuple[License, Therapist]]:
    """Licences that end soon or have ended lately, and are the last of their kind."""
    near = (today - ENDED_LATELY, today + ENDS_SOON)
    last = licensing.unfollowed(held)
    return [(licence, therapist) for licence, therapist in last if near[0] < licence.valid_until <= near[1]]


def _unfit(session: Session, places: Places, now: datetime) -> int:
    soon = consequences.unfit(session, now=now, until=now + UNFIT_WITHIN)
    return sum(places is None or hit.location_id in places for hit in soon)


def _asked(session: Session, places: Places, today: date) -> int:
    """Time off that is not over and not decided, of whoever works at none but these places."""
    waiting = TimeOff.status == TimeOffStatus.ASKED, TimeOff.ends_on >= today, staffing.works_only_at(places)
    count = select(func.count(TimeOff.id)).join(Therapist, Therapist.id == TimeOff.therapist_id)
    return session.execute(count.where(*waiting)).scalar_one()


def _failed(session: Session, places: Places, now: datetime) -> int:
    """Messages of the last weeks that failed; those to the staff count for the whole clinic only."""
    failed = select(func.count(OutboxMessage.id)).where(
        OutboxMessage.status == Fate.FAILED, OutboxMessage.due_at >= now - FAILED_SINCE
    )
    if places is not None:
        visit = Appointment.id == OutboxMessage.appointment_id
        failed = failed.join(Appointment, visit).where(Appointment.location_id.in_(places))
    return session.execute(failed).scalar_one()
