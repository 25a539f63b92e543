"""What a change does to the starts that can be booked: how many of each kind of visit are gained, and how many lost.

They are counted as notice and horizon let patients find them, at places that are not open online too.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from scheduler.db import MICROSECOND
from scheduler.models import AppointmentType
from scheduler.services import availability, availability_sql, practice, slots
from scheduler.services.availability import Find, SlotName
from scheduler.services.availability_sql import Shape
from scheduler.timeline import CELL

ALL = 100_000  # more starts than a therapist has in a window


@dataclass(frozen=True, slots=True)
class StartsChanged:
    """Starts of one kind of visit, by its name, that a change gains and loses."""

    kind: str
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a kind of visit is offered; no therapist is everybody, no location everywhere."""

    cells: int
    needling: bool
    earliest: datetime
    latest: datetime
    therapist_ids: Collection[int]
    location_ids: Collection[int]

    def offered(self, therapist_id: int, location_id: int) -> bool:
        by_them = not self.therapist_ids or therapist_id in self.therapist_ids
        return by_them and (not self.location_ids or location_id in self.location_ids)

    @property
    def shape(self) -> Shape:
        """Without limits: `offered` knows those that a change takes away, which the database forgets."""
        return Shape(self.cells, self.needling, frozenset())


def by_plan(session: Session, therapist_ids: Collection[int], until: datetime, *, now: datetime) -> list[StartsChanged]:
    """Bring the cells of locked therapists in line with the plan, and tell of each kind of visit what that does.

    Only windows in which cells differ are looked at, of one therapist at a time.
    """
    kinds = practice.appointment_types(session)
    gained, lost = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
    for therapist_id in sorted(therapist_ids):
        for window in slots.work_ahead(session, therapist_id, until=until, now=now):
            before = {kind: _starts(session, kind, therapist_id, window, now) for kind in kinds}
            slots.replan(session, [therapist_id], *window, now=now)
            for kind in kinds:
                after = _starts(session, kind, therapist_id, window, now)
                gained[kind] += len(after - before[kind])
                lost[kind] += len(before[kind] - after)
    changed = (StartsChanged(kind.name, gained[kind], lost[kind]) for kind in kinds)
    return [change for change in changed if change.gained or change.lost]


def by_terms(session: Session, kind: str, before: Terms | None, after: Terms | None) -> list[StartsChanged]:
    """Tell what other terms do to a kind of visit; None when it is not offered. One query.

    `fit` must count as many cells as the longer of both has.
    """
    gained = lost = 0
    values: dict[str, datetime] = {}
    for name, terms in (("before", before), ("after", after)):
        if terms is not None:
            values |= {f"{name}_earliest": terms.earliest, f"{name}_latest": terms.latest}
    statement = availability_sql.compared(before and before.shape, after and after.shape)
    for therapist_id, location_id, starts_before, starts_after, both in session.execute(statement, values):
        was = starts_before if before and before.offered(therapist_id, location_id) else 0
        will_be = starts_after if after and after.offered(therapist_id, location_id) else 0
        kept = both if was and will_be else 0
        gained, lost = gained + will_be - kept, lost + was - kept
    return [StartsChanged(kind, gained, lost)] if gained or lost else []


def _starts(
    session: Session, kind: AppointmentType, therapist_id: int, window: tuple[datetime, datetime], now: datetime
) -> set[SlotName]:
    """The starts that a change of the window's cells can touch: those too whose visit would run into it."""
    earliest, latest = availability.bookable_within(practice.policy(session), kind, now, by_staff=False)
    start, end = max(earliest, window[0] - kind.cells * CELL), min(latest + MICROSECOND, window[1])
    if start >= end:
        return set()
    find = Find(kind.id, therapist_id=therapist_id, from_=start, to=end, limit=ALL, by_staff=True)
    return {offer.slot for offer in availability.search(session, find, now=now).offers}
