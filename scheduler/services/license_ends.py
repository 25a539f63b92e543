"""Word that a licence ends: 60, 30 and 7 days before, to its owner and to whoever administers where they work."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from scheduler.db import alone_with
from scheduler.models import Account, Kind, License, OutboxMessage, Therapist, WorkingHours
from scheduler.services import licensing, notices, practice

MARKS = (7, 30, 60)  # days


@dataclass(frozen=True, slots=True)
class Ending:
    """A licence that ends, in the words of a letter; `own` says that its reader holds it."""

    therapist: str
    kind: str
    state: str
    on: date
    own: bool


def warn(session: Session, *, now: datetime) -> None:
    """Owe word of each licence that has come to a mark and that no other follows at once, once for each mark.

    A mark that came while no worker ran is told late; of several that came the last alone.
    """
    alone_with(session, "word of licences that end")
    today = practice.today(session, now=now)
    told = set(
        session.execute(
            select(OutboxMessage.account_id, OutboxMessage.about).where(OutboxMessage.kind == Kind.LICENSE_ENDS)
        )
    )
    for licence, therapist in _ending(session):
        mark = next((mark for mark in MARKS if 0 <= (licence.valid_until - today).days <= mark), None)
        if mark is None:
            continue
        about = f"{licence.id} {licence.valid_until} {mark}"
        for account_id in _concerned(session, therapist.id):
            if (account_id, about) not in told:
                notices.owe(session, account_id, Kind.LICENSE_ENDS, about, now=now)


def stands(session: Session, about: str, account: Account) -> Ending | None:
    """The licence that a message is about; None when it was changed or followed by another since."""
    licence_id, until, _ = about.split()
    for licence, therapist in _ending(session):
        if licence.id == int(licence_id) and licence.valid_until == date.fromisoformat(until):
            own = account.therapist_id == therapist.id
            return Ending(therapist.name, licence.kind, licence.state, licence.valid_until, own)
    return None


def _ending(session: Session) -> list[tuple[License, Therapist]]:
    held = (
        select(License, Therapist)
        .join(Therapist, Therapist.id == License.therapist_id)
        .where(Therapist.active)
        .order_by(License.valid_until, License.id)
    )
    return licensing.unfollowed([(licence, therapist) for licence, therapist in session.execute(held)])


def _concerned(session: Session, therapist_id: int) -> Iterable[int]:
    """The accounts of a therapist, and of administrators of the whole clinic or of a place where they work."""
    works_at = select(WorkingHours.location_id).where(WorkingHours.therapist_id == therapist_id)
    concerned = or_(Account.therapist_id == therapist_id, notices.administers(works_at))
    return session.scalars(select(Account.id).where(Account.active, concerned)).all()
