"""The worker as a whole: its heart beats only while its scheduler lives, and beats on while a message hangs."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from apiflask import APIFlask
from apscheduler.schedulers.background import BackgroundScheduler
from click.testing import Result
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update

from config import MailServer, Settings
from scheduler import cli, worker
from scheduler.channels import Parcel
from scheduler.clock import FixedClock
from scheduler.db import database_now, reading, transaction
from scheduler.delivery import Delivery
from scheduler.errors import Unavailable
from scheduler.keys import Keyring
from scheduler.models import Fate, Heartbeat, Kind, OutboxMessage, Patient, Role, Slot
from scheduler.services import health, questions
from scheduler.services.questions import Ask
from scheduler.timeline import DAY
from scheduler.worker import Worker
from tests.clinic import Clinic
from tests.server import free_port
from tests.test_delivery import PlainWriter, Post, book, owe_to_staff
from tests.web.staff import an_account

TOO_LONG = health.SILENCE_ALLOWED + timedelta(seconds=1)
PATIENCE_SECONDS = 10
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def _quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "DELIVER_SECONDS", 0.2)
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.2)


@pytest.fixture
def small(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    """A clinic with the calendar of one day."""
    return Clinic.of_one_day(engine, clock, keys)


def worker_of(clinic: Clinic, connect: Callable[[], Post]) -> Worker:
    delivery = Delivery(clinic.engine, clinic.clock, clinic.keys, PlainWriter(), connect, 10)
    return Worker(clinic.engine, clinic.clock, delivery)


@contextmanager
def running(at_work: Worker) -> Iterator[threading.Thread]:
    """`run` in a thread: the signal that ends it is sent to that thread alone."""
    thread = threading.Thread(target=worker.run, args=(at_work,))
    thread.start()
    try:
        yield thread
    finally:
        assert thread.ident is not None
        signal.pthread_kill(thread.ident, signal.SIGTERM)
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


def stays(holds: Callable[[], bool], seconds: float = 1.0) -> bool:
    deadline = time.monotonic() + seconds
    while (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


def set_back(engine: Engine) -> None:
    """As if the last beat were too long ago."""
    with transaction(engine) as session:
        session.execute(update(Heartbeat).values(beat_at=database_now() - TOO_LONG))


def ready(client: FlaskClient) -> bool:
    answer = client.get("/readyz")
    assert answer.status_code == 200 or "worker" in answer.get_json()["reason"]
    return answer.status_code == 200


def has_beaten(engine: Engine) -> bool:
    with reading(engine) as session:
        return health.silence(session) is not None


# --- the heartbeat


@on_sqlite
def test_a_living_worker_makes_a_clinic_ready_again(small: Clinic, client: FlaskClient) -> None:
    with running(worker_of(small, Post)):
        assert eventually(lambda: has_beaten(small.engine))
        set_back(small.engine)
        assert eventually(lambda: ready(client))


@on_sqlite
def test_a_worker_whose_scheduler_died_lets_its_clinic_be_not_ready(
    small: Clinic, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process lives on, and still ends when it is told to."""
    dying = threading.Event()
    usual = BackgroundScheduler._process_jobs

    def process_jobs(scheduler: BackgroundScheduler) -> object:
        if dying.is_set():
            raise MemoryError
        return usual(scheduler)

    monkeypatch.setattr(BackgroundScheduler, "_process_jobs", process_jobs)
    monkeypatch.setattr(threading, "excepthook", lambda _how: None)  # it is meant to die
    with running(worker_of(small, Post)) as thread:
        assert eventually(lambda: has_beaten(small.engine))
        dying.set()
        assert eventually(lambda: not any(one.name == "APScheduler" for one in threading.enumerate()))
        time.sleep(0.3)  # a beat that had begun
        set_back(small.engine)
        assert stays(lambda: not ready(client))
        assert thread.is_alive()


@on_sqlite
def test_a_message_that_hangs_does_not_stop_the_heart_nor_the_other_messages(
    small: Clinic, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "DELIVER_SECONDS", 1)  # so that the first round has begun to hang when the next begins
    book(small, *[f"pat{number}" for number in range(12)])
    over = threading.Event()
    posts: list[Post] = []

    def hang(_parcel: Parcel) -> None:
        over.wait(2 * PATIENCE_SECONDS)

    def connect() -> Post:
        posts.append(Post() if posts else Post(before=hang))  # the first hangs, however late it begins
        return posts[-1]

    with running(worker_of(small, connect)):
        assert eventually(lambda: len(posts) == 2 and len(posts[1].taken) == 2)  # all but the batch that hangs
        set_back(small.engine)
        assert eventually(lambda: ready(client))
        assert posts[0].taken == []
        over.set()
        assert eventually(lambda: len(posts[0].taken) == 10)


# --- ticks that fail


@on_sqlite
@pytest.mark.parametrize("error", [Unavailable("The database cannot be reached now."), ZeroDivisionError()])
def test_a_tick_that_fails_costs_one_tick(small: Clinic, error: Exception) -> None:
    book(small, "ann")
    post, failures = Post(), [error, error]

    def connect() -> Post:
        if failures:
            raise failures.pop()
        return post

    with running(worker_of(small, connect)):
        assert eventually(lambda: len(post.taken) == 1)
    assert failures == []


@on_sqlite
def test_a_database_that_was_away_costs_some_ticks(small: Clinic, tmp_path: Path) -> None:
    """Its file is gone for a second."""
    book(small, "ann")
    post = Post()
    path = Path(str(small.engine.url.database))
    away = tmp_path / "away"
    away.mkdir()
    files = [path, *path.parent.glob(f"{path.name}-*")]
    small.engine.dispose()
    for file in files:
        if file.exists():
            file.rename(away / file.name)
    with running(worker_of(small, lambda: post)):
        time.sleep(0.8)
        assert post.taken == []
        small.engine.dispose()
        for stray in path.parent.glob(f"{path.name}*"):  # what SQLite made in its place
            stray.unlink()
        for file in away.iterdir():
            file.rename(path.parent / file.name)
        small.engine.dispose()
        assert eventually(lambda: len(post.taken) == 1)


# --- its end


@on_sqlite
def test_a_stop_finishes_the_message_in_hand_and_gives_back_the_rest(small: Clinic) -> None:
    book(small, "ann", "bob", "eve")
    in_hand, go_on = threading.Event(), threading.Event()

    def wait(_parcel: Parcel) -> None:
        in_hand.set()
        go_on.wait(PATIENCE_SECONDS)

    post = Post(before=wait)
    with running(worker_of(small, lambda: post)) as thread:
        assert in_hand.wait(PATIENCE_SECONDS)
        assert thread.ident is not None
        signal.pthread_kill(thread.ident, signal.SIGTERM)
        time.sleep(0.3)
        assert thread.is_alive()
        go_on.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    with reading(small.engine) as session:
        found = select(OutboxMessage.status, OutboxMessage.lease).where(OutboxMessage.kind == Kind.CONFIRMATION)
        told = [tuple(row) for row in session.execute(found.order_by(OutboxMessage.id))]
    assert told == [(Fate.SENT, None), (Fate.OWED, None), (Fate.OWED, None)]
    assert post.recipients() == ["ann@example.com"]


# --- the ticks


def test_a_worker_that_is_set_up_has_planned_and_beaten(engine: Engine, clock: FixedClock, keys: Keyring) -> None:
    clinic = Clinic(engine, clock, keys)
    clinic.policy(booking_horizon_days=12)
    clinic.add_kinds()
    clinic.add_hours(clinic.add_therapist(), clinic.add_location(), weekdays=[3])
    at_work = worker_of(clinic, Post)
    for _ in range(2):  # twice is as good as once
        at_work.set_up()
        assert has_beaten(engine)
        with reading(engine) as session:
            assert len(session.scalars(select(Slot.starts_at)).all()) == 2 * 36


# --- the command


@dataclass
class Sink:
    recipients: list[str] = field(default_factory=list)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 aiosmtpd's
        self.recipients += envelope.rcpt_tos
        return "250 OK"


@pytest.fixture
def sink() -> Iterator[tuple[Sink, MailServer]]:
    """A mail server, and where it is."""
    kept = Sink()
    controller = Controller(kept, hostname="127.0.0.1", port=free_port(), ready_timeout=PATIENCE_SECONDS)
    controller.start()
    yield kept, MailServer("127.0.0.1", controller.port, None, None, "off")
    controller.stop()


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """The command takes over the signals that end a process; here that process is the tests' own."""
    before = {number: signal.getsignal(number) for number in worker.STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run_command(app: APIFlask, settings: Settings, clinic: Clinic, *words: str) -> Result:
    cli.install(app, settings, clinic.engine, clinic.clock)
    result = app.test_cli_runner().invoke(args=["worker", *words])
    assert isinstance(result, Result)
    return result


@pytest.mark.usefixtures("_own_signals")
def test_a_worker_that_ran_once_has_nothing_left_to_do(
    app: APIFlask, settings: Settings, small: Clinic, sink: tuple[Sink, MailServer]
) -> None:
    kept, server = sink
    (visit, _) = book(small, "ann", "bob")
    now, day_before = small.clock.now(), visit.appointment.starts_at - DAY
    for at, sent in ((now, 2), (now, 2), (day_before, 5), (day_before, 5)):
        done = run_command(
            app, replace(settings, mail_server=server), small, "--once", "--at", at.astimezone().isoformat()
        )
        assert (done.exit_code, len(kept.recipients)) == (0, sent), done.output


@on_sqlite
@pytest.mark.usefixtures("_own_signals")
def test_a_worker_that_ran_once_has_written_to_staff(
    app: APIFlask, settings: Settings, small: Clinic, sink: tuple[Sink, MailServer]
) -> None:
    kept, server = sink
    owe_to_staff(small, "ana@example.com", Kind.SET_PASSWORD, Kind.LOCKED_OUT, Kind.DAY_CHANGED)
    for _ in range(2):
        done = run_command(app, replace(settings, mail_server=server), small, "--once")
        assert (done.exit_code, kept.recipients) == (0, ["ana@example.com"] * 3), done.output


@on_sqlite
@pytest.mark.usefixtures("_own_signals")
def test_word_of_a_missed_goal_arrives_at_the_administrator(
    app: APIFlask, settings: Settings, small: Clinic, sink: tuple[Sink, MailServer]
) -> None:
    """From the look of the watch to the mail server, since a letter that cannot be sent tells nobody."""
    kept, server = sink
    an_account(small.engine, small.clock, Role.ADMIN, email="admin@clinic.example")
    small.policy(booking_notice_minutes=5 * 24 * 60)
    began = small.clock.now()
    for minutes in (0, 31):
        at = (began + timedelta(minutes=minutes)).isoformat()
        done = run_command(app, replace(settings, mail_server=server), small, "--once", "--at", at)
        assert done.exit_code == 0, done.output
    assert kept.recipients == ["admin@clinic.example"]
    with reading(small.engine) as session:
        assert session.scalars(select(OutboxMessage.status)).all() == [Fate.SENT]


@on_sqlite
@pytest.mark.usefixtures("_own_signals")
def test_a_worker_without_a_mail_server_writes_files(
    app: APIFlask, settings: Settings, small: Clinic, tmp_path: Path
) -> None:
    book(small, "ann", "bob")
    for _ in range(2):
        assert run_command(app, replace(settings, instance=tmp_path), small, "--once").exit_code == 0
        assert len(list((tmp_path / "outbox").iterdir())) == 2


@on_sqlite
@pytest.mark.parametrize("words", [("--once", "--at"), ("--at",)])
def test_production_takes_no_other_time_than_the_real_one(
    app: APIFlask, settings: Settings, small: Clinic, words: tuple[str, ...]
) -> None:
    production = replace(settings, app_env="production")
    refused = run_command(app, production, small, *words, small.clock.now().isoformat())
    assert refused.exit_code == 2
    assert "production" in refused.output
    assert not has_beaten(small.engine)


# --- questions that wait, and patients who have not come for long


def test_a_tick_reminds_of_a_question_once_and_none_in_vain(small: Clinic, clock: FixedClock) -> None:
    at_work, account = worker_of(small, Post), an_account(small.engine, clock, Role.FRONT_DESK)
    with transaction(small.engine) as session:
        asked = Ask("a form", "Pat Doe", "pat@example.com", None, "Are you open?", "en", 1, None)
        questions.ask(session, asked, keys=small.keys, now=clock.now())
    for hours in (23, 1, 24):
        clock.at += timedelta(hours=hours)
        at_work.remind_of_questions()
        at_work.remind_of_questions()
    with reading(small.engine) as session:
        words = select(OutboxMessage.account_id).where(OutboxMessage.kind == Kind.QUESTION_WAITS)
        assert session.scalars(words).all() == [account.id]


def test_tidying_erases_whom_the_policy_keeps_no_longer(small: Clinic, clock: FixedClock) -> None:
    at_work = worker_of(small, Post)
    small.book(str(small.offers()[0].slot))
    clock.at += timedelta(days=800)
    for months, erased in ((None, False), (36, False), (24, True)):
        small.policy(retention_months=months)
        at_work.tidy()
        with reading(small.engine) as session:
            (patient,) = session.scalars(select(Patient))
            assert (patient.name == "erased", patient.erased_at is not None) == (erased, erased)
    assert small.violations() == {}
