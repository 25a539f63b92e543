"""How the public claims stood over time: one row for each change of what is told.

Only a record: what is told of a claim is asked of present rows each time; the overview counts from here.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scheduler.db import insert_into
from scheduler.models import ClaimChange
from scheduler.services import claims
from scheduler.services.claims import Present, Verdict


def standing(present: Present) -> dict[str, Verdict]:
    """How every claim stands."""
    return {claim_id: claims.judged(claim_id, present) for claim_id in claims.RULES}


def changed(session: Session, found: Mapping[str, Verdict], *, now: datetime) -> dict[str, Verdict]:
    """The claims of which something else is told than by their last row; none that a later look has overtaken."""
    return _changed(_last(session), found, now)


def note(session: Session, found: Mapping[str, Verdict], *, now: datetime) -> None:
    """Keep what has changed since the last row of each claim.

    Any number of workers may do so at once: the next number is one's, and the others change nothing.
    """
    last = _last(session)
    rows = [
        {
            "claim": claim_id,
            "number": last[claim_id].number + 1 if claim_id in last else 1,
            "since": now,
            "says": verdict.says,
            "breaches": [breach.as_data() for breach in verdict.breaches],
        }
        for claim_id, verdict in _changed(last, found, now).items()
    ]
    if rows:
        session.execute(insert_into(session, ClaimChange).on_conflict_do_nothing(), rows)


def history(session: Session, most: int) -> dict[str, list[ClaimChange]]:
    """The last changes of each claim, the newest first, so many at most. One query."""
    number = func.row_number().over(partition_by=ClaimChange.claim, order_by=ClaimChange.number.desc()).label("place")
    newest = select(ClaimChange.claim, ClaimChange.number, number).subquery()
    rows = (
        select(ClaimChange)
        .join(newest, (newest.c.claim == ClaimChange.claim) & (newest.c.number == ClaimChange.number))
        .where(newest.c.place <= most)
        .order_by(ClaimChange.claim, ClaimChange.number.desc())
    )
    found = defaultdict[str, list[ClaimChange]](list)
    for change in session.scalars(rows):
        found[change.claim].append(change)
    return dict(found)


def _changed(last: Mapping[str, ClaimChange], found: Mapping[str, Verdict], now: datetime) -> dict[str, Verdict]:
    return {
        claim_id: verdict
        for claim_id, verdict in found.items()
        if claim_id not in last or (last[claim_id].says != verdict.says and last[claim_id].since < now)
    }


def _last(session: Session) -> dict[str, ClaimChange]:
    return {claim_id: rows[0] for claim_id, rows in history(session, 1).items()}
