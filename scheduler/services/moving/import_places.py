"""Whom and what an old program's words mean here: therapists, locations, kinds of visit, by their names."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.models import AppointmentType, Location, Therapist
from scheduler.services import practice
from scheduler.services.moving.import_lines import Trouble, Unusable, in_order, plainly

N = TypeVar("N", Therapist, Location, AppointmentType)


@dataclass(frozen=True, slots=True)
class Named(Generic[N]):
    """Rows by their names as they are compared; `unknown` is what to say of a name that nobody has.

    `spoken` gives a name's parts their order.
    """

    rows: dict[str, list[N]]
    unknown: Trouble
    spoken: Callable[[str], str] = str

    @classmethod
    def of(cls, rows: Iterable[N], unknown: Trouble, spoken: Callable[[str], str] = str) -> "Named[N]":
        by_name: dict[str, list[N]] = defaultdict(list)
        for row in rows:
            by_name[plainly(spoken(row.name))].append(row)
        return cls(dict(by_name), unknown, spoken)

    def __call__(self, text: str) -> N:
        """The one with this name, also where something such as a degree follows it after a comma."""
        spoken = self.spoken(text)
        for name in (spoken, spoken.partition(",")[0]):
            found = self.rows.get(plainly(name), [])
            if len(found) > 1:
                raise Unusable(Trouble.SEVERAL)
            if found:
                return found[0]
        raise Unusable(self.unknown)

    @property
    def only(self) -> N | None:
        """The one that is meant where none is named."""
        alike = [row for rows in self.rows.values() for row in rows]
        return alike[0] if len(alike) == 1 else None


def therapists(session: Session) -> Named[Therapist]:
    return Named.of(practice.active_therapists(session), Trouble.UNKNOWN_THERAPIST, in_order)


def locations(session: Session) -> Named[Location]:
    return Named.of(practice.locations(session), Trouble.UNKNOWN_LOCATION)


def types(session: Session) -> Named[AppointmentType]:
    """Those too that are not offered any more: visits of them may still be ahead."""
    return Named.of(session.scalars(select(AppointmentType)), Trouble.UNKNOWN_TYPE)
