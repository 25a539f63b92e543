"""Every rule of `flask verify`: each is broken on purpose, behind the constraints' back, and seen to be counted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, delete, func, select, text, update
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import insert_into, reading, transaction
from scheduler.keys import fingerprint
from scheduler.models import (
    Appointment,
    Attempt,
    AuditEvent,
    ExplainerVersion,
    Fate,
    Hold,
    IdempotencyKey,
    Kind,
    License,
    ManageLink,
    OutboxMessage,
    Slot,
    WorkingHours,
)
from scheduler.services import audit, verify
from scheduler.services.audit import PATIENT
from scheduler.services.booking import Visit
from scheduler.timeline import CELL, DAY
from tests.clinic import Clinic

OVERLAPS = "visits that overlap another visit of the same therapist"
LOST_SLOTS = "visits that do not hold exactly their own slots"
HALF = "holds that no token finds, and tokens of what is not held"
UNLICENSED = "visits ahead that the therapist is not licensed for"


@dataclass(frozen=True)
class Scene:
    """A clinic with two visits tomorrow, one after the other from the opening on, and a cancelled one before them.

    Far ahead a time is held, which no rule takes for a visit.
    """

    clinic: Clinic
    first: Visit
    second: Visit
    cancelled: Visit


@pytest.fixture
def scene(clinic: Clinic, clock: FixedClock) -> Scene:
    opening = clock.now() + DAY - timedelta(hours=1)
    starts = [offer.slot for offer in clinic.offers(from_=opening)[:9:4]]
    cancelled = clinic.book(str(starts[0]))
    clinic.cancel(cancelled.token)
    clinic.hold(str(clinic.offers()[-5].slot))
    return Scene(clinic, clinic.book(str(starts[1])), clinic.book(str(starts[2])), cancelled)


@contextmanager
def off_guard(engine: Engine) -> Iterator[Session]:
    """One transaction in which triggers and foreign keys do nothing; CHECKs and keys stay, as both are always on."""
    with Session(engine.execution_options(sqlite_begin="PRAGMA foreign_keys = OFF")) as session:
        _take_guards_away(session.connection())
        yield session
        session.commit()
        session.connection().invalidate()  # its foreign keys are off: not for reuse


def _take_guards_away(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        return
    triggers = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
    for trigger in triggers:
        connection.execute(text(f"DROP TRIGGER {trigger}"))


def overlap(session: Session, scene: Scene) -> None:
    """The second visit begins before the first has ended; it then holds other cells than its own, too."""
    visit = update(Appointment).where(Appointment.id == scene.second.appointment.id)
    session.execute(visit.values(starts_at=Appointment.starts_at - CELL))


def outgrow_slots(session: Session, scene: Scene) -> None:
    visit = update(Appointment).where(Appointment.id == scene.second.appointment.id)
    session.execute(visit.values(ends_at=Appointment.ends_at + CELL))


def shift_slots(session: Session, scene: Scene) -> None:
    """As many cells as the visit needs, but not those that it needs."""
    visit = update(Appointment).where(Appointment.id == scene.second.appointment.id)
    session.execute(visit.values(starts_at=Appointment.starts_at + CELL, ends_at=Appointment.ends_at + CELL))


def hold_on_when_cancelled(session: Session, scene: Scene) -> None:
    visit = scene.cancelled.appointment
    cells = update(Slot).where(Slot.starts_at >= visit.starts_at, Slot.starts_at < visit.ends_at)
    session.execute(cells.values(appointment_id=visit.id, fit=0, fit_open=0))


def lapse_unseen(session: Session, scene: Scene) -> None:
    """The licence ended before the visits; the free cells went with it, the visits are still there."""
    today = scene.clinic.clock.now().date()
    session.execute(update(License).where(License.kind == "pt").values(valid_until=today))
    unlicensed = Slot.starts_at > scene.cancelled.appointment.starts_at - CELL
    session.execute(delete(Slot).where(Slot.appointment_id.is_(None), unlicensed))


def offer_after_hours(session: Session, scene: Scene) -> None:
    session.execute(delete(WorkingHours).where(WorkingHours.weekday == 4))


def misjudge_fit(session: Session, scene: Scene) -> None:
    last = select(func.max(Slot.starts_at)).scalar_subquery()
    session.execute(update(Slot).where(Slot.starts_at == last).values(fit=2))


def misjudge_fit_open(session: Session, scene: Scene) -> None:
    last = select(func.max(Slot.starts_at)).scalar_subquery()
    session.execute(update(Slot).where(Slot.starts_at == last - 2 * CELL).values(fit_open=2))


def keep_back_without_counting(session: Session, scene: Scene) -> None:
    """The cell itself can be counted by its mark; that of the one before is not what it was."""
    last = select(func.max(Slot.starts_at)).scalar_subquery()
    session.execute(update(Slot).where(Slot.starts_at == last).values(protected=True, fit_open=0))


def lose_link(session: Session, scene: Scene) -> None:
    session.execute(delete(ManageLink).where(ManageLink.appointment_id == scene.first.appointment.id))


def lose_audit(session: Session, visit: Visit, action: str) -> None:
    row = (AuditEvent.entity_id == visit.appointment.id.hex, AuditEvent.action == action)
    session.execute(delete(AuditEvent).where(*row))


def orphan_key(session: Session, scene: Scene) -> None:
    visitless = {"appointment_id": uuid4(), "created_at": scene.clinic.clock.now()}
    session.execute(insert_into(session, IdempotencyKey).values(key="no visit", body_sha256="0" * 64, **visitless))


def lose_message(session: Session, visit: Visit, kind: Kind) -> None:
    message = (OutboxMessage.appointment_id == visit.appointment.id, OutboxMessage.kind == kind)
    session.execute(delete(OutboxMessage).where(*message))


def owe_still(session: Session, scene: Scene) -> None:
    _rewrite_confirmation(session, scene, status=Fate.OWED, reason=None)


def send_late(session: Session, scene: Scene) -> None:
    message = session.scalars(select(OutboxMessage).where(OutboxMessage.withdrawn_at.is_not(None))).first()
    assert message is not None
    assert message.withdrawn_at is not None
    began = message.withdrawn_at + timedelta(milliseconds=1)
    session.add(Attempt(message_id=message.id, number=1, started_at=began))


def owe_the_old(session: Session, scene: Scene) -> None:
    """A move that took back none of what was owed before."""
    visit = session.get_one(Appointment, scene.first.appointment.id)
    visit.visit_version = 2
    audit.record(session, "appointment.moved", visit, by=PATIENT, now=scene.clinic.clock.now())


def move_unseen(session: Session, scene: Scene) -> None:
    visit = session.get_one(Appointment, scene.first.appointment.id)
    visit.visit_version = 2
    of_first = update(OutboxMessage).where(OutboxMessage.appointment_id == visit.id)
    session.execute(of_first.values(visit_version=2))


def forget(session: Session, scene: Scene) -> None:
    scene.clinic.clock = FixedClock(scene.clinic.clock.now() + timedelta(days=30))


def send_without_a_try(session: Session, scene: Scene) -> None:
    of_first = OutboxMessage.appointment_id == scene.first.appointment.id
    confirmation = update(OutboxMessage).where(of_first, OutboxMessage.kind == Kind.CONFIRMATION)
    session.execute(confirmation.values(status=Fate.SENT, sent_at=scene.clinic.clock.now()))


def _rewrite_confirmation(session: Session, scene: Scene, **values: object) -> None:
    of_cancelled = OutboxMessage.appointment_id == scene.cancelled.appointment.id
    confirmation = update(OutboxMessage).where(of_cancelled, OutboxMessage.kind == Kind.CONFIRMATION)
    session.execute(confirmation.values(**values))


def write_local_time(session: Session, scene: Scene) -> None:
    session.execute(text("UPDATE patient SET created_at = '2026-11-23 09:00' WHERE id = (SELECT min(id) FROM patient)"))


def rewrite_explainer(session: Session, scene: Scene) -> None:
    one = select(func.min(ExplainerVersion.id)).scalar_subquery()
    session.execute(update(ExplainerVersion).where(ExplainerVersion.id == one).values(title="Nothing to worry about"))


def show_nothing(session: Session, scene: Scene) -> None:
    visit = update(Appointment).where(Appointment.id == scene.first.appointment.id)
    session.execute(visit.values(explainer_version_id=None))


def share_patient(session: Session, scene: Scene) -> None:
    visit = update(Appointment).where(Appointment.id == scene.second.appointment.id)
    session.execute(visit.values(patient_id=scene.first.appointment.patient_id))


def lose_token(session: Session, scene: Scene) -> None:
    kept = scene.clinic.hold(str(scene.clinic.offers()[-1].slot))
    session.execute(delete(Hold).where(Hold.token_sha256 == fingerprint(kept.token)))


def keep_a_token_of_a_visit(session: Session, scene: Scene) -> None:
    visit = {"appointment_id": scene.first.appointment.id, "token_sha256": "0" * 64}
    session.execute(insert_into(session, Hold).values(**visit))


Break = Callable[[Session, Scene], None]
# The rule, what breaks it, and every count that this must give.
CASES: list[tuple[Break, dict[str, int]]] = [
    (overlap, {OVERLAPS: 1, LOST_SLOTS: 1}),  # one cell holds one visit, so an overlap always shows in both
    (outgrow_slots, {LOST_SLOTS: 1}),
    (shift_slots, {LOST_SLOTS: 1}),
    (lose_token, {HALF: 1}),
    (keep_a_token_of_a_visit, {HALF: 1}),
    (hold_on_when_cancelled, {"slots held by a cancelled visit": 4}),
    (lapse_unseen, {UNLICENSED: 2}),
    (offer_after_hours, {"free slots ahead that are not in the plan": 13 * 36}),
    (misjudge_fit, {"free slots whose fit is not what a recount gives": 1}),
    (misjudge_fit_open, {"free slots whose fit is not what a recount gives": 1}),
    (keep_back_without_counting, {"free slots whose fit is not what a recount gives": 3}),
    (lose_link, {"visits without a link": 1}),
    (
        lambda session, scene: lose_audit(session, scene.first, "appointment.booked"),
        {"visits without an audit row of their booking": 1},
    ),
    (
        lambda session, scene: lose_audit(session, scene.cancelled, "appointment.cancelled"),
        {"cancelled visits without an audit row of it": 1},
    ),
    (orphan_key, {"idempotency keys without their visit": 1}),
    (
        lambda session, scene: lose_message(session, scene.first, Kind.CONFIRMATION),
        {"reachable visits that owe no confirmation": 1},
    ),
    (
        lambda session, scene: lose_message(session, scene.cancelled, Kind.CANCELLATION),
        {"cancelled visits that owe no word of it": 1},
    ),
    (owe_still, {"messages still owed for a cancelled visit": 1}),
    (owe_the_old, {"messages still owed for a visit as it was before a move": 1}),
    (move_unseen, {"moved visits without an audit row of it": 1}),
    (forget, {"messages owed past the day of their visit": 3}),
    (send_late, {"messages begun to be sent after they were withdrawn": 1}),
    (send_without_a_try, {"messages sent without a try that says so, or with several": 1}),
    (rewrite_explainer, {"explainer versions that no longer match their hash": 1}),
    (show_nothing, {"visits booked by patients who were shown nothing": 1}),
    (share_patient, {"patients shared by several public bookings": 1}),
]
ONLY_ON_SQLITE: list[tuple[Break, dict[str, int]]] = [(write_local_time, {"instants not stored as UTC": 1})]


def findings(clinic: Clinic) -> dict[str, int]:
    with reading(clinic.engine) as session:
        return {found.rule: found.violations for found in verify.verify(session, now=clinic.clock.now())}


def broken(clinic: Clinic) -> dict[str, int]:
    return {rule: violations for rule, violations in findings(clinic).items() if violations}


def test_a_clinic_with_visits_breaks_no_rule(scene: Scene) -> None:
    assert broken(scene.clinic) == {}


@pytest.mark.parametrize(("break_it", "counts"), CASES, ids=[next(iter(reversed(counts))) for _, counts in CASES])
def test_a_broken_rule_is_counted(engine: Engine, scene: Scene, break_it: Break, counts: dict[str, int]) -> None:
    with off_guard(engine) as session:
        break_it(session, scene)
    assert broken(scene.clinic) == counts


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("break_it", "counts"), ONLY_ON_SQLITE)
def test_a_broken_rule_is_counted_where_it_can_be_broken(
    engine: Engine, scene: Scene, break_it: Break, counts: dict[str, int]
) -> None:
    with off_guard(engine) as session:
        break_it(session, scene)
    assert broken(scene.clinic) == counts


def test_every_rule_has_a_case(clinic: Clinic) -> None:
    assert {rule for _, counts in CASES + ONLY_ON_SQLITE for rule in counts} == set(findings(clinic))


def test_every_broken_rule_is_told_at_once(engine: Engine, scene: Scene) -> None:
    with transaction(engine) as session:
        lose_link(session, scene)
        show_nothing(session, scene)
    assert broken(scene.clinic) == {
        "visits without a link": 1,
        "visits booked by patients who were shown nothing": 1,
    }
