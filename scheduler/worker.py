"""The background jobs: APScheduler is only the clock of this process; one tick is one service call a transaction.

Any number of workers may run: every step is safe twice and beside its twin.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Engine

from scheduler.clock import Clock
from scheduler.db import reading, transaction
from scheduler.delivery import Delivery
from scheduler.errors import ClinicError
from scheduler.services import access_goal, booking, health, holds, levers, license_ends, limits, sign_in, slots

DELIVER_SECONDS = 2
ROUNDS = 3
HEARTBEAT_SECONDS = 15
SWEEP_SECONDS = 15  # so that a hold's time is back on offer well within a minute of its expiry
PLAN_SECONDS = 15 * 60
TIDY_SECONDS = 60 * 60
WARN_SECONDS = 60 * 60
ACCESS_SECONDS = 60  # so that a quarter hour is measured near its beginning; one tick in it writes
STANDBY_SECONDS = 60  # a promise that is missed is mended within a minute, where standby hours can
STOPS = {signal.SIGTERM, signal.SIGINT}
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Worker:
    """The ticks over one database. Each may be called at any time; what is done already stays done."""

    engine: Engine
    clock: Clock
    delivery: Delivery

    def set_up(self) -> None:
        """Do once what must have been done before anybody may book."""
        self.plan_slots()
        self.sweep_holds()
        self.open_standby()
        self.measure_access()
        self.warn_of_ends()
        self.tidy()
        self.beat()

    def beat(self) -> None:
        with transaction(self.engine) as session:
            health.beat(session)

    def deliver(self) -> None:
        self.delivery.deliver()

    def plan_slots(self) -> None:
        plan_slots(self.engine, self.clock)

    def sweep_holds(self) -> None:
        """Put the times of expired holds back on offer, one calendar a transaction."""
        now = self.clock.now()
        with reading(self.engine) as session:
            therapist_ids = holds.overdue(session, now=now)
        for therapist_id in therapist_ids:
            with transaction(self.engine) as session:
                holds.sweep(session, [therapist_id], now=now)

    def open_standby(self) -> None:
        """Open hours on standby that the goal needs, where the clinic lets them open by themselves."""
        now = self.clock.now()
        with reading(self.engine) as session:
            due = levers.due(session, now=now)
        if due:
            with transaction(self.engine) as session:
                levers.open_due(session, now=now)

    def measure_access(self) -> None:
        """Keep how the access goal stands, once each quarter hour whoever is first."""
        with transaction(self.engine) as session:
            access_goal.record(session, now=self.clock.now())

    def warn_of_ends(self) -> None:
        """Owe word of licences that end soon."""
        with transaction(self.engine) as session:
            license_ends.warn(session, now=self.clock.now())

    def tidy(self) -> None:
        """Forget what is only kept for a time: keys of repeated requests, counts of bookings, samples of access."""
        with transaction(self.engine) as session:
            booking.forget_old_keys(session, now=self.clock.now())
            limits.forget_old_counts(session, now=self.clock.now())
            access_goal.forget_old_samples(session, now=self.clock.now())
            sign_in.forget_old_tries(session, now=self.clock.now())


def plan_slots(engine: Engine, clock: Clock) -> slots.Changes:
    """Extend and mend every calendar, in transactions so short that no booking waits long."""
    with reading(engine) as session:
        therapist_ids = slots.therapists(session)
    changed = slots.Changes()
    for therapist_id in therapist_ids:
        try:
            changed += _plan(engine, clock, therapist_id)
        except Exception:  # one calendar that cannot be planned must not stop the others
            log.exception("calendar_not_planned", therapist_id=therapist_id)
    if changed != slots.Changes():
        log.info("slots_planned", added=changed.added, removed=changed.removed)
    return changed


def _plan(engine: Engine, clock: Clock, therapist_id: int) -> slots.Changes:
    now = clock.now()
    with reading(engine) as session:
        windows = slots.work_ahead(session, therapist_id, now=now)
    changed = slots.Changes()
    for window in windows:
        with transaction(engine) as session:
            changed += slots.plan_ahead(session, therapist_id, window, now=now)
    return changed


def run(worker: Worker) -> None:
    """Tick until SIGTERM or SIGINT; the message in hand is finished, a second signal changes nothing."""
    # A late tick still runs, and several late ones run once; nothing here depends on a tick's exact time.
    defaults = {"coalesce": True, "misfire_grace_time": None}
    executors = {"default": ThreadPoolExecutor(ROUNDS + 4)}
    scheduler = BackgroundScheduler(executors=executors, job_defaults=defaults, timezone="UTC")
    # A mail server that hangs over one message holds up its round only: the next tick begins another.
    for tick, seconds, at_once in (
        (worker.deliver, DELIVER_SECONDS, ROUNDS),
        (worker.beat, HEARTBEAT_SECONDS, 1),
        (worker.sweep_holds, SWEEP_SECONDS, 1),
        (worker.open_standby, STANDBY_SECONDS, 1),
        (worker.measure_access, ACCESS_SECONDS, 1),
        (worker.plan_slots, PLAN_SECONDS, 1),
        (worker.warn_of_ends, WARN_SECONDS, 1),
        (worker.tidy, TIDY_SECONDS, 1),
    ):
        scheduler.add_job(_surviving(tick), "interval", seconds=seconds, id=tick.__name__, max_instances=at_once)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # threads inherit this: only the wait below sees the signals
    scheduler.start()
    signal.sigwait(STOPS)
    worker.delivery.stopping.set()
    scheduler.shutdown(wait=True)


def finish_before_stopping(worker: Worker) -> None:
    """From now on let a signal end this process after the message in hand."""
    for number in STOPS:
        signal.signal(number, lambda *_: worker.delivery.stopping.set())


def _surviving(tick: Callable[[], object]) -> Callable[[], None]:
    """Let a database that is away for a while cost one tick, not the worker."""

    def attempt() -> None:
        try:
            tick()
        except ClinicError as error:
            log.warning("tick_failed", tick=tick.__name__, error=str(error))

    return attempt
