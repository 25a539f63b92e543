"""The background jobs: APScheduler is only the clock of this process; one tick is one service call a transaction.

Any number of workers may run: every step is safe twice and beside its twin.
"""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import sleep

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Engine

from scheduler.clock import Clock
from scheduler.db import reading, transaction
from scheduler.delivery import Delivery
from scheduler.errors import ClinicError
from scheduler.services import (
    access_goal,
    access_history,
    access_watch,
    booking,
    claim_ledger,
    claims,
    health,
    holds,
    levers,
    license_ends,
    limits,
    my_visits,
    planning,
    privacy,
    protection,
    questions,
    sign_in,
)
from scheduler.services.audit import Actor
from scheduler.services.planning import Due
from scheduler.services.slots import Changes

DELIVER_SECONDS = 2
ROUNDS = 3
HEARTBEAT_SECONDS = 15
SWEEP_SECONDS = 15  # so that a hold's time is back on offer well within a minute of its expiry
PLAN_SECONDS = 15 * 60
PAUSE_SECONDS = 0.002  # between two steps of the planner, so that whoever waits for the database gets it
PROTECT_SECONDS = 5 * 60
TIDY_SECONDS = 60 * 60
WARN_SECONDS = 60 * 60
ACCESS_SECONDS = 60  # so that a quarter hour is measured near its beginning; one tick in it writes
CLAIMS_SECONDS = 60
QUESTIONS_SECONDS = 60
WATCH_SECONDS = 5 * 60  # well within the half hour after which a miss counts
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
        self.protect()
        self.sweep_holds()
        self.open_standby()
        self.measure_access()
        self.note_claims()
        self.watch_access()
        self.warn_of_ends()
        self.remind_of_questions()
        self.tidy()
        self.beat()

    def beat(self) -> None:
        with transaction(self.engine) as session:
            health.beat(session)

    def deliver(self) -> None:
        self.delivery.deliver()

    def plan_slots(self) -> None:
        plan_slots(self.engine, self.clock)

    def protect(self) -> None:
        protect(self.engine, self.clock)

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
        with reading(self.engine) as session:
            rows = access_goal.samples(session, now=self.clock.now())
        if rows:
            with transaction(self.engine) as session:
                access_goal.record(session, rows)

    def note_claims(self) -> None:
        """Keep what is told of the public claims, whenever that changes; they are looked at without any lock."""
        now = self.clock.now()
        with reading(self.engine) as session:
            found = claim_ledger.standing(claims.present(session, now=now))
            changed = claim_ledger.changed(session, found, now=now)
        if changed:
            with transaction(self.engine) as session:
                claim_ledger.note(session, changed, now=now)

    def watch_access(self) -> None:
        """Owe word of misses of the access goal; to look takes longer than a booking should wait for."""
        now = self.clock.now()
        with reading(self.engine) as session:
            seen = access_watch.look(session, now=now)
        if seen is not None:
            with transaction(self.engine) as session:
                access_watch.note(session, *seen, now=now)

    def warn_of_ends(self) -> None:
        """Owe word of licences that end soon."""
        with transaction(self.engine) as session:
            license_ends.warn(session, now=self.clock.now())

    def remind_of_questions(self) -> None:
        """Owe staff word of questions that wait too long."""
        now = self.clock.now()
        with reading(self.engine) as session:
            overdue = questions.overdue(session, now=now)
        if overdue:
            with transaction(self.engine) as session:
                questions.remind(session, overdue, now=now)

    def tidy(self) -> None:
        """Forget what is only kept for a time: repeated requests' keys, counts, links to visits, samples of access.

        Patients who have not come for long too, where the clinic wants it. Days of access are kept for good, before
        their samples go.
        """
        with reading(self.engine) as session:
            days = access_history.days_over(session, now=self.clock.now())
        if days:
            with transaction(self.engine) as session:
                access_history.keep_days(session, days)
        with transaction(self.engine) as session:
            booking.forget_old_keys(session, now=self.clock.now())
            my_visits.forget_old(session, now=self.clock.now())
            limits.forget_old_counts(session, now=self.clock.now())
            access_goal.forget_old_samples(session, now=self.clock.now())
            sign_in.forget_old_tries(session, now=self.clock.now())
            privacy.forget_old_questions(session, now=self.clock.now())
        self._erase()

    def _erase(self) -> None:
        """Erase whom the clinic keeps no longer, each in a transaction of their own."""
        now = self.clock.now()
        with reading(self.engine) as session:
            due = privacy.due(session, now=now)
        for patient_id in due:
            with transaction(self.engine) as session:
                privacy.erase(session, patient_id, by=Actor("worker"), now=now)


def plan_slots(engine: Engine, clock: Clock) -> Changes:
    """Extend and mend every calendar, in transactions so short that no booking waits long."""
    with reading(engine) as session:
        due = planning.due(session, now=clock.now())
    changed = sum((_plan(engine, clock, calendars) for calendars in due), Changes())
    if changed != Changes():
        log.info("slots_planned", added=changed.added, removed=changed.removed)
    return changed


def _plan(engine: Engine, clock: Clock, calendars: Sequence[Due]) -> Changes:
    changed = Changes()
    try:
        with reading(engine) as session:
            calendars, steps = planning.steps(session, calendars, now=clock.now())
        for step in steps:
            with transaction(engine) as session:
                changed += planning.do(session, step, now=clock.now())
            sleep(PAUSE_SECONDS)
        with transaction(engine) as session:
            planning.note(session, calendars)
    except Exception:  # one calendar that cannot be planned must not stop the others
        if len(calendars) > 1:
            return sum((_plan(engine, clock, [one]) for one in calendars), changed)
        log.exception("calendar_not_planned", therapist_id=calendars[0].therapist_id)
    return changed


def protect(engine: Engine, clock: Clock) -> int:
    """Decide once a day how much each location keeps back for short notice, and keep that back; return the cells."""
    now = clock.now()
    with reading(engine) as session:
        said, astray = protection.suggestions(session, now=now), protection.astray(session, now=now)
    for location_id, suggestion in said.items():
        with transaction(engine) as session:
            protection.decide(session, location_id, suggestion, now=now)
    changed = 0
    for one in astray:
        with transaction(engine) as session:
            changed += protection.let_go(session, one, now=now)
        sleep(PAUSE_SECONDS)
    with reading(engine) as session:
        steps = protection.work(session, now=now)
    for step in steps:
        with transaction(engine) as session:
            changed += protection.keep_back(session, step, now=now)
        sleep(PAUSE_SECONDS)
    if changed:
        log.info("slots_protected", changed=changed)
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
        (worker.note_claims, CLAIMS_SECONDS, 1),
        (worker.watch_access, WATCH_SECONDS, 1),
        (worker.plan_slots, PLAN_SECONDS, 1),
        (worker.protect, PROTECT_SECONDS, 1),
        (worker.warn_of_ends, WARN_SECONDS, 1),
        (worker.remind_of_questions, QUESTIONS_SECONDS, 1),
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
