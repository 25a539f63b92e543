"""What a change does to the starts that can be booked: how many of each kind of visit are gained, and how many lost.

They are counted as notice and horizon let patients find them, at places that are not open online too.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import literal_column, select
from sqlalchemy.orm import Session

from scheduler.models import Slot
from scheduler.services import availability, availability_sql, practice, slots
from scheduler.services.availability_sql import Shape
from scheduler.timeline import CELL

Cell = tuple[int, datetime, int, bool, int]  # location, start, fit, needling, fit_open


@dataclass(frozen=True, slots=True)
class StartsChanged:
    """Starts of one kind of visit, by its name, that a change gains and loses."""

    kind: str
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class KindTerms:
    """On which terms a kind of visit is offered; no therapist is everybody, no location everywhere."""

    cells: int
    needling: bool
    earliest: datetime
    latest: datetime
    release: datetime
    therapist_ids: Collection[int]
    location_ids: Collection[int]

    def offered(self, therapist_id: int, location_id: int) -> bool:
        by_them = not self.therapist_ids or therapist_id in self.therapist_ids
        return by_them and (not self.location_ids or location_id in self.location_ids)

    def starts(self, therapist_id: int, cells: Iterable[Cell]) -> set[tuple[int, datetime]]:
        """Of some free cells of a therapist those where a visit may start: what `availability_sql.rules` asks."""
        return {
            (location_id, starts_at)
            for location_id, starts_at, fit, needling, fit_open in cells
            if fit >= self.cells
            and (starts_at <= self.release or fit_open >= self.cells)
            and self.earliest <= starts_at <= self.latest
            and (needling or not self.needling)
            and self.offered(therapist_id, location_id)
        }

    @property
    def shape(self) -> Shape:
        """Without limits: `offered` knows those that a change takes away, which the database forgets."""
        return Shape(self.cells, self.needling, frozenset())


def by_plan(session: Session, therapist_ids: Collection[int], until: datetime, *, now: datetime) -> list[StartsChanged]:
    """Bring the cells of locked therapists in line with the plan, and tell of each kind of visit what that does.

    Only windows in which cells differ are looked at, of one therapist at a time; free cells are read once before and
    once after, for all kinds.
    """
    kinds = _kinds(session, now)
    gained, lost = Counter[str](), Counter[str]()
    for therapist_id in sorted(therapist_ids):
        for window in slots.work_ahead(session, therapist_id, until=until, now=now):
            before = _free(session, therapist_id, window)
            slots.replan(session, [therapist_id], *window, now=now)
            after = _free(session, therapist_id, window)
            for name, terms in kinds.items():
                old, new = (terms.starts(therapist_id, cells) for cells in (before, after))
                gained[name] += len(new - old)
                lost[name] += len(old - new)
    return [StartsChanged(name, gained[name], lost[name]) for name in kinds if gained[name] or lost[name]]


def by_terms(session: Session, kind: str, before: KindTerms | None, after: KindTerms | None) -> list[StartsChanged]:
    """Tell what other terms do to a kind of visit; None when it is not offered. One query.

    `fit` must count as many cells as the longer of both has.
    """
    gained = lost = 0
    values: dict[str, datetime] = {}
    for name, terms in (("before", before), ("after", after)):
        if terms is not None:
            values |= {f"{name}_earliest": terms.earliest, f"{name}_latest": terms.latest, "release": terms.release}
    statement = availability_sql.compared(before and before.shape, after and after.shape)
    for therapist_id, location_id, starts_before, starts_after, both in session.execute(statement, values):
        was = starts_before if before and before.offered(therapist_id, location_id) else 0
        will_be = starts_after if after and after.offered(therapist_id, location_id) else 0
        kept = both if was and will_be else 0
        gained, lost = gained + will_be - kept, lost + was - kept
    return [StartsChanged(kind, gained, lost)] if gained or lost else []


def _kinds(session: Session, now: datetime) -> dict[str, KindTerms]:
    """The terms of every kind of visit by its name, in the clinic's order."""
    policy, offering = practice.policy(session), practice.offering(session)
    return {
        kind.name: KindTerms(
            kind.cells,
            kind.includes_needling,
            *availability.bookable_within(policy, kind, now, by_staff=False),
            availability.release(policy, now),
            offering.people.get(kind.id, ()),
            offering.places.get(kind.id, ()),
        )
        for kind in practice.appointment_types(session)
    }


def _free(session: Session, therapist_id: int, window: tuple[datetime, datetime]) -> Sequence[Cell]:
    """The free cells that a change of the window's cells can touch: those too from which a visit would run into it."""
    cells = select(Slot.location_id, Slot.starts_at, Slot.fit, Slot.needling, Slot.fit_open).where(
        Slot.fit > literal_column("0"),
        Slot.therapist_id == therapist_id,
        Slot.starts_at >= window[0] - slots.longest_visit(session) * CELL,
        Slot.starts_at < window[1],
    )
    return session.execute(cells).all()
