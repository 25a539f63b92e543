"""Workers as processes of their own that are killed, stopped and told a wrong time, while patients cancel."""

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from config import Settings
from scheduler import cli, delivery
from scheduler.clock import FixedClock, SystemClock
from scheduler.db import make_engine
from scheduler.keys import Keyring
from scheduler.models import Fate, Kind
from scheduler.services import letters, outbox
from scheduler.services.outbox import BATCH, Lease, Try
from scheduler.timeline import DAY
from tests.clinic import HOUR, Clinic, body, key
from tests.conftest import MONDAY_MORNING
from tests.drills.conftest import (
    SOON_SECONDS,
    TIMEOUT_SECONDS,
    VISITS_FROM,
    Crew,
    Crewing,
    Deliveries,
    Town,
    address,
    doubled,
    lost,
    message_id,
    said_and_done,
    sizes,
    sqlite_small,
    tell,
    until,
)
from tests.server import at_once, serving
from tests.sink import Fault, Log, Sink, Taken

STOP_SECONDS = 10
EVE = VISITS_FROM - timedelta(minutes=1)  # every reminder is due, no visit has begun


@pytest.mark.parametrize(
    ("patients", "workers", "kills"), sizes((30, 2, 2), (1000, 2, 30), (1000, 4, 30), (1000, 4, 0))
)
def test_workers_killed_amid_sending_lose_nothing_and_double_no_more_than_the_kills(
    empty_clinic: Clinic, far_sink: Sink, crewing: Crewing, patients: int, workers: int, kills: int
) -> None:
    town = Town.of(empty_clinic, patients)
    crew = crewing(town, far_sink, TIMEOUT_SECONDS) if kills else crewing(town, far_sink)
    far_sink.misbehave(Fault("slow", seconds=0.01))
    for _ in range(workers):
        crew.start()
    for moment in sorted(random.sample(range(1, patients * 9 // 10), kills)):
        until(partial(has_taken, far_sink.log, moment))
        time.sleep(random.uniform(0, 0.05))  # any moment of a send, not always just after one
        crew.kill_one()
        crew.start()
    until(lambda: not town.fates()[Fate.OWED], seconds=SOON_SECONDS + patients)
    crew.kill()
    tell(patients=patients, workers=workers, kills=kills, doubled=doubled(far_sink.log))
    assert (town.fates(), lost(town, far_sink.log), town.broken_rules()) == ({Fate.SENT: patients}, set(), {})
    assert doubled(far_sink.log) <= kills
    assert said_and_done(town, far_sink.log)
    assert len({(one.message_id, *one.recipients) for one in far_sink.log.taken()}) == patients


class Killed(BaseException):
    """The worker's end; nothing handles it."""


def die_at(place: int) -> Callable[[], None]:
    """End the worker with its so-manieth message in hand, before the server has it."""
    places = count(1)

    def die() -> None:
        if next(places) == place:
            raise Killed

    return die


def marked_first(session: Session, message_id: UUID, lease: Lease, *, keys: Keyring, now: datetime) -> Try | None:
    """Begin as those do who mark a message before they send it."""
    tried = BEGIN(session, message_id, lease, keys=keys, now=now)
    if tried is not None:
        outbox.sent(session, tried, now=now)
    return tried


BEGIN = outbox.begin


@pytest.mark.parametrize("lost_ones", [0, 1], ids=["marked after", "marked first"])
def test_marking_before_sending_would_lose_what_a_killed_worker_had_in_hand(
    empty_clinic: Clinic,
    sink: Sink,
    deliveries: Deliveries,
    monkeypatch: pytest.MonkeyPatch,
    lost_ones: int,
) -> None:
    town = Town.of(empty_clinic, 20)
    monkeypatch.setattr(outbox, "begin", marked_first if lost_ones else BEGIN)
    with pytest.raises(Killed):
        deliveries(sink, before=die_at(5)).deliver()
    monkeypatch.undo()
    deliveries(sink).deliver()
    assert len(lost_to_patients(town, sink.log)) == lost_ones
    assert doubled(sink.log) == 0


def lost_to_patients(town: Town, log: Log) -> set[UUID]:
    """Messages that no patient got."""
    return {one.id for one in town.messages()} - {message_id(one) for one in log.taken()}


@pytest.mark.parametrize("lease_timeouts", [delivery.LEASE_TIMEOUTS, 0])
def test_a_lease_shorter_than_a_send_would_double_messages(
    empty_clinic: Clinic,
    sink: Sink,
    deliveries: Deliveries,
    monkeypatch: pytest.MonkeyPatch,
    lease_timeouts: int,
) -> None:
    town = Town.of(empty_clinic, BATCH + 2)
    monkeypatch.setattr(delivery, "LEASE_TIMEOUTS", lease_timeouts)
    others = iter([deliveries(sink)])

    def meanwhile() -> None:
        for other in others:
            other.deliver()

    deliveries(sink, before=meanwhile).deliver()
    assert doubled(sink.log) == (0 if lease_timeouts else 1)
    assert lost(town, sink.log) == set()


def kinds_taken(town: Town, log: Log) -> list[tuple[UUID, str, Taken]]:
    """The visit and the kind of each message that was taken over."""
    owed = {one.id: one for one in town.messages()}
    found = ((owed[message_id(one)], one) for one in log.taken())
    return [(message.appointment_id, message.kind, one) for message, one in found if message.appointment_id is not None]


def stale(town: Town, log: Log, cancelled: dict[UUID, float]) -> list[float]:
    """By how many seconds sends of what was no longer true began after the cancel was stored."""
    return [
        one.begun - cancelled[visit]
        for visit, kind, one in kinds_taken(town, log)
        if kind != Kind.CANCELLATION and one.begun > cancelled.get(visit, one.begun)
    ]


@pytest.mark.parametrize(("patients", "workers"), sizes((30, 2), (400, 2), (400, 4)))
def test_no_message_leaves_after_its_visit_was_cancelled(
    empty_clinic: Clinic, clock: FixedClock, far_sink: Sink, crewing: Crewing, patients: int, workers: int
) -> None:
    town = Town.of(empty_clinic, patients, remind=True)
    clock.at = EVE
    crew = crewing(town, far_sink)
    far_sink.misbehave(Fault("slow", seconds=0.005))
    for _ in range(workers):
        crew.start(at=clock.at)
    until(far_sink.log.taken)
    cancelled: dict[UUID, float] = {}

    def cancel(place: int) -> None:
        visit = town.visits[place]
        empty_clinic.cancel(visit.token)
        cancelled[visit.appointment.id] = time.time()

    with ThreadPoolExecutor(2) as patients_at_once:
        list(patients_at_once.map(cancel, random.sample(range(patients), patients // 2)))
    until(lambda: not town.fates()[Fate.OWED], seconds=SOON_SECONDS + patients)
    crew.kill()
    late = stale(town, far_sink.log, cancelled)
    tell(patients=patients, workers=workers, cancelled=len(cancelled), stale=late, fates=dict(town.fates()))
    assert town.fates()[Fate.SUPPRESSED] > 0
    assert late == []
    told = Counter(visit for visit, kind, _ in kinds_taken(town, far_sink.log) if kind == Kind.CANCELLATION)
    assert told == dict.fromkeys(cancelled, 1)
    assert (doubled(far_sink.log), lost(town, far_sink.log), town.broken_rules()) == (0, set(), {})


def begun_blindly(session: Session, message_id: UUID, lease: Lease, *, keys: Keyring, now: datetime) -> Try:
    """Begin to send what was true when the batch was claimed."""
    return Try(letters.drafts(session, [message_id], keys=keys)[0], 1, lease)


@pytest.mark.parametrize("too_late", [0, BATCH - 1], ids=["read again", "not read again"])
def test_not_reading_a_visit_again_would_send_what_is_no_longer_true(
    empty_clinic: Clinic, sink: Sink, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch, too_late: int
) -> None:
    town = Town.of(empty_clinic, BATCH)
    cancelled: dict[UUID, float] = {}

    def cancel_all() -> None:
        for visit in town.visits[len(cancelled) :]:
            empty_clinic.cancel(visit.token)
            cancelled[visit.appointment.id] = time.time()

    if too_late:
        monkeypatch.setattr(outbox, "begin", begun_blindly)
    deliveries(sink, after=cancel_all).deliver()
    assert len(stale(town, sink.log, cancelled)) == too_late


SHIFTS = [timedelta(hours=-26), timedelta(minutes=-5), timedelta(minutes=5), timedelta(hours=26)]


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
@pytest.mark.parametrize(("engine", "patients", "hours"), sqlite_small((8, 12), (96, 2)), indirect=["engine"])
def test_a_worker_whose_clock_is_wrong_doubles_nothing(
    empty_clinic: Clinic,
    clock: FixedClock,
    sink: Sink,
    deliveries: Deliveries,
    patients: int,
    hours: int,
    shift: timedelta,
) -> None:
    town, wrong_clock = Town.of(empty_clinic, patients, remind=True), FixedClock(clock.at + shift)
    pair = [deliveries(sink), deliveries(sink, clock=wrong_clock)]
    sink.misbehave(Fault("rcpt", only=(address(2), address(5)), first=2))
    while clock.at < VISITS_FROM + DAY:
        at_once(2, lambda place, _together: pair[place].deliver())
        clock.at += hours * HOUR
        wrong_clock.at = clock.at + shift
    named = Counter((one.appointment_id, one.kind, one.offset_minutes) for one in town.messages())
    tell(shift=shift, patients=patients, fates=dict(town.fates()), doubled=doubled(sink.log))
    assert set(named.values()) == {1}
    assert (doubled(sink.log), lost(town, sink.log), town.broken_rules()) == (0, set(), {})
    assert town.fates() == {Fate.SENT: 3 * patients}


@pytest.mark.drill
@pytest.mark.parametrize("shift", SHIFTS, ids=str)
@pytest.mark.parametrize(("patients", "times"), [(96, 4)])
def test_a_worker_killed_beside_one_whose_clock_is_wrong_doubles_no_more_than_was_in_hand(
    empty_clinic: Clinic,
    clock: FixedClock,
    far_sink: Sink,
    crewing: Crewing,
    patients: int,
    times: int,
    shift: timedelta,
) -> None:
    town = Town.of(empty_clinic, patients, remind=True)
    crew = crewing(town, far_sink, TIMEOUT_SECONDS)
    far_sink.misbehave(Fault("slow", seconds=0.01))
    for turn in range(times):
        clock.at = MONDAY_MORNING + turn * 9 * HOUR
        before = len(far_sink.log.taken())
        crew.start("--once", at=clock.at + shift)
        crew.start("--once", at=clock.at)
        until(partial(has_taken, far_sink.log, before + 1, crew))
        crew.kill_one()
        until(partial(all_ended, crew))
        crew.kill()
    clock.at = EVE
    until(lambda: settled(crew, town, clock), seconds=SOON_SECONDS)
    tell(shift=shift, patients=patients, kills=times, fates=dict(town.fates()), doubled=doubled(far_sink.log))
    assert doubled(far_sink.log) <= times
    assert (town.fates(), lost(town, far_sink.log), town.broken_rules()) == ({Fate.SENT: 3 * patients}, set(), {})


def has_taken(log: Log, messages: int, crew: Crew | None = None) -> bool:
    """Whether the server took over so many, or all of the crew has ended."""
    return len(log.taken()) >= messages or (crew is not None and all_ended(crew))


def all_ended(crew: Crew) -> bool:
    return all(process.poll() is not None for process in crew.alive)


def settled(crew: Crew, town: Town, clock: FixedClock) -> bool:
    """Whether nothing is owed any more; a worker that ticks on sends what a dead one's lease has kept."""
    if not crew.alive:
        crew.start(at=clock.at)
    return not town.fates()[Fate.OWED]


@pytest.mark.parametrize(("engine", "patients"), sqlite_small((30,), (300,)), indirect=["engine"])
def test_a_worker_told_to_stop_finishes_the_message_in_hand_and_gives_back_the_others(
    empty_clinic: Clinic, far_sink: Sink, crewing: Crewing, deliveries: Deliveries, patients: int
) -> None:
    town = Town.of(empty_clinic, patients)
    far_sink.misbehave(Fault("slow", seconds=0.2))
    process = crewing(town, far_sink).start()
    until(far_sink.log.tries)
    assert sum(one.lease is not None for one in town.messages()) >= BATCH - 1
    told = time.monotonic()
    process.terminate()
    assert process.wait(STOP_SECONDS) == 0
    took = time.monotonic() - told
    in_hand = sum(far_sink.log.tries().values())
    tell(patients=patients, stopped_after=round(took, 2), sent=town.fates()[Fate.SENT], tried=in_hand)
    assert said_and_done(town, far_sink.log)
    assert in_hand == len(far_sink.log.taken()) < patients
    assert not any(one.lease or one.leased_until for one in town.messages())
    far_sink.misbehave()
    deliveries(far_sink).deliver()
    assert (town.fates(), doubled(far_sink.log), town.broken_rules()) == ({Fate.SENT: patients}, 0, {})


def test_a_confirmation_leaves_within_ten_seconds_of_a_booking(
    tmp_path: Path, settings: Settings, keys: Keyring, far_sink: Sink
) -> None:
    url = f"sqlite:///{tmp_path}/clinic.db"
    engine, clock = make_engine(url), SystemClock()
    cli.prepare(settings, engine, clock)
    clinic = Clinic.standard(engine, clock, keys)
    start = clinic.offers()[0]
    mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(far_sink.port)}
    with serving(url, tmp_path, **mail) as server, server.client() as client:
        booked = client.post("/api/v1/appointments", json=body(str(start.slot)), headers=key())
        booked_at = time.time()
        assert booked.status_code == 201
        until(far_sink.log.taken, seconds=10)
    engine.dispose()
    (confirmation,) = far_sink.log.taken()
    tell(seconds=round(confirmation.at - booked_at, 2))
    assert confirmation.recipients == ("pat@example.com",)
    assert confirmation.subject.startswith("Booked")
    assert confirmation.at < booked_at + 10
