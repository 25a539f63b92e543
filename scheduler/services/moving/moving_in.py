"""Moving in from another program: a file is tried line by line first, then stored in one transaction.

Both ask the same question, so that what was shown is what happens, unless somebody books meanwhile: then the lines are
judged anew. The same file twice stores nothing twice.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from scheduler.errors import Conflict
from scheduler.keys import Keyring
from scheduler.models import AuditEvent, ClinicPolicy
from scheduler.services import audit, consequences
from scheduler.services.audit import Actor
from scheduler.services.moving import import_hours, import_people, import_visits
from scheduler.services.moving.import_lines import File, Line, Outcome, What

IMPORTED = "moving_in.imported"


@dataclass(frozen=True, slots=True)
class Tried:
    """What would become of a file, line by line."""

    what: What
    lines: tuple[Line, ...]

    def of(self, *outcomes: Outcome) -> list[Line]:
        return [line for line in self.lines if line.outcome in outcomes]

    @property
    def counts(self) -> Counter[Outcome]:
        return Counter(line.outcome for line in self.lines)


@dataclass(frozen=True, slots=True)
class Imported:
    """A file that was stored: when, and how many lines had which outcome."""

    what: What
    at: datetime
    counts: dict[str, int]


class NotAllGood(Conflict):
    """The whole file was wanted or nothing, and some lines cannot be stored."""


def dry_run(session: Session, file: File, *, now: datetime) -> Tried:
    """What would become of every line; stores nothing."""
    return Tried(file.what, tuple(_judged(session, file, now)))


def store(session: Session, file: File, *, whole: bool, by: Actor, keys: Keyring, now: datetime) -> Tried:
    """Store the lines that are good, by the calendar as it then stands; what became of each comes back.

    With `whole` all or nothing: raises NotAllGood when some line has a problem.
    """
    consequences.alone(session)  # two imports at once would each find nothing of the other's
    if file.what == What.VISITS:
        import_visits.lock(session)
    tried = dry_run(session, file, now=now)
    if whole and tried.of(Outcome.PROBLEM):
        raise NotAllGood("Some lines of this file cannot be stored, so nothing was.")
    new = [line.row for line in tried.of(Outcome.NEW)]
    match file.what:
        case What.THERAPISTS:
            import_people.store_therapists(session, new, by=by, now=now)
        case What.HOURS:
            import_hours.store_hours(session, new, by=by, now=now)
        case What.PATIENTS:
            import_people.store_patients(session, new, by=by, now=now)
        case What.VISITS:
            import_visits.store_visits(session, new, by=by, keys=keys, now=now)
    counts = {str(outcome): count for outcome, count in tried.counts.items()}
    policy = session.get_one(ClinicPolicy, 1)
    audit.record(session, IMPORTED, policy, by=by, now=now, what=file.what, counts=counts)
    return tried


def imported(session: Session) -> dict[What, Imported]:
    """The last file of each kind that stored something, as the record tells."""
    events = select(AuditEvent).where(AuditEvent.entity == ClinicPolicy.__tablename__, AuditEvent.action == IMPORTED)
    found: dict[What, Imported] = {}
    for event in session.scalars(events.order_by(AuditEvent.happened_at)):
        detail: dict[str, Any] = event.detail
        if detail["counts"].get(Outcome.NEW):
            found[What(detail["what"])] = Imported(What(detail["what"]), event.happened_at, detail["counts"])
    return found


def _judged(session: Session, file: File, now: datetime) -> Iterator[Line]:
    match file.what:
        case What.THERAPISTS:
            return import_people.therapist_lines(session, file)
        case What.HOURS:
            return import_hours.hours_lines(session, file, now=now)
        case What.PATIENTS:
            return import_people.patient_lines(session, file, now=now)
        case What.VISITS:
            return import_visits.visit_lines(session, file, now=now)
