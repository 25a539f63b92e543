"""What the drills share: a clinic with many patients, workers as processes, and what their mail server must show."""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from apiflask import APIFlask
from sqlalchemy import Engine, select
from structlog.testing import capture_logs

from config import ROOT, MailServer, Settings
from scheduler.channels import Parcel, Smtp
from scheduler.clock import Clock, FixedClock
from scheduler.db import reading
from scheduler.delivery import Delivery
from scheduler.keys import Keyring
from scheduler.mail import Mailer
from scheduler.models import Fate, OutboxMessage
from scheduler.services.availability import SlotName
from scheduler.services.booking import PatientDetails, Visit
from scheduler.timeline import CELL, DAY
from tests.clinic import Clinic
from tests.conftest import BACKENDS, MONDAY_MORNING
from tests.server import environment
from tests.sink import Log, Sink, Taken, sink_process, sinking

TIMEOUT_SECONDS = 1  # a lease lasts three times that: where workers die, their messages wait no longer
VISITS_FROM = MONDAY_MORNING + 3 * DAY
STARTS_A_DAY = DAY // CELL
SOON_SECONDS = 60
KINDS = (("Check", 15, True, False),)


def sizes(small: Sequence[Any], *full: Sequence[Any]) -> list[Any]:
    """The same drill small, with every test run, and in full, with `make drill`."""
    return [
        pytest.param(*small, id="small"),
        *(pytest.param(*size, id=f"full-{'-'.join(map(str, size))}", marks=pytest.mark.drill) for size in full),
    ]


def sqlite_small(small: Sequence[Any], *full: Sequence[Any]) -> list[Any]:
    """Like `sizes` with an engine before each: small on SQLite alone, in full on both; for what is alike on both."""
    return sizes(("sqlite", *small), *((backend, *size) for size in full for backend in BACKENDS))


def until(condition: Callable[[], object], seconds: float = SOON_SECONDS) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def tell(**figures: object) -> None:
    """Print a drill's figures; `pytest -rP` shows them."""
    sys.stdout.write(" ".join(f"{name}={value}" for name, value in figures.items()) + "\n")


@dataclass
class Town:
    """A clinic whose patients each have a visit, all on one day, three days ahead; the nth one's is `address(n)`."""

    clinic: Clinic
    visits: list[Visit] = field(default_factory=list)

    @classmethod
    def of(cls, clinic: Clinic, patients: int, *, remind: bool = False) -> "Town":
        clinic.policy(booking_horizon_days=5)
        clinic.add_kinds(KINDS)
        town = cls(clinic)
        town.add(patients, remind=remind)
        return town

    def add(self, patients: int, *, remind: bool = False) -> int:
        """Open a location around the clock and book a visit there for each of more patients; return its id."""
        location = self.clinic.add_location(f"Location {len(self.visits)}")
        for first in range(0, patients, STARTS_A_DAY):
            therapist = self.clinic.add_therapist(f"Therapist {len(self.visits)}")
            self.clinic.add_hours(therapist, location, weekdays=range(7), opens=0, closes=24 * 60)
            self.clinic.plan()
            for place in range(min(STARTS_A_DAY, patients - first)):
                start = SlotName(therapist, location, VISITS_FROM + place * CELL)
                self.visits.append(self.book(str(start), address(len(self.visits)), remind=remind))
        return location

    def book(self, slot_id: str, email: str, *, remind: bool) -> Visit:
        patient = PatientDetails("Pat Doe", email, None, None, "en", remind, False)
        return self.clinic.book(slot_id, "Check", patient=patient)

    @property
    def url(self) -> str:
        return self.clinic.engine.url.render_as_string(hide_password=False)

    def messages(self) -> list[OutboxMessage]:
        with reading(self.clinic.engine) as session:
            return list(session.scalars(select(OutboxMessage)))

    def fates(self) -> Counter[str]:
        return Counter(message.status for message in self.messages())

    def broken_rules(self) -> dict[str, int]:
        return self.clinic.violations()


def address(place: int) -> str:
    return f"p{place}@example.com"


def message_id(taken: Taken) -> UUID:
    return UUID(taken.message_id[1:].partition("@")[0])


def doubled(log: Log) -> int:
    """How many messages more than distinct ones were taken over."""
    taken = log.taken()
    return len(taken) - len({one.message_id for one in taken})


def lost(town: Town, log: Log) -> set[UUID]:
    """Messages that are neither taken over, nor withdrawn, nor failed with a reason: nobody would ever know."""
    arrived = {message_id(one) for one in log.taken()}
    ended = {Fate.SUPPRESSED, Fate.FAILED}
    return {one.id for one in town.messages() if one.id not in arrived and one.status not in ended}


def said_and_done(town: Town, log: Log) -> bool:
    """Whether the messages marked sent are exactly those that the mail server took over."""
    return {one.id for one in town.messages() if one.status == Fate.SENT} == {message_id(one) for one in log.taken()}


@dataclass
class Crew:
    """Worker processes over one database; none outlives `crew`."""

    town: Town
    sink: Sink
    folder: Path
    settings: Settings
    stack: ExitStack
    timeout_seconds: int
    alive: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, *words: str, at: datetime | None = MONDAY_MORNING) -> "subprocess.Popen[str]":
        clock = ["--at", at.isoformat()] if at is not None else []
        output = self.stack.enter_context((self.folder / f"worker-{uuid4().hex[:8]}.log").open("w"))
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "wsgi", "worker", *clock, *words],
            cwd=ROOT,
            env=environment(
                self.town.url,
                LINK_KEYS=",".join(self.settings.link_keys),
                SMTP_HOST="127.0.0.1",
                SMTP_PORT=str(self.sink.port),
                SMTP_TIMEOUT_SECONDS=str(self.timeout_seconds),
            ),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.alive.append(process)
        return process

    def kill_one(self) -> None:
        """End one at random, as a power cut would."""
        process = self.alive.pop(random.randrange(len(self.alive)))
        process.kill()
        process.wait()

    def kill(self) -> None:
        while self.alive:
            self.kill_one()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep the log of hours of failures out of the report: to print it takes longer than the drills."""
    with capture_logs():
        yield


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    """A mail server on a thread of this process."""
    with sinking(tmp_path / "sink.jsonl") as sink:
        yield sink


@pytest.fixture
def far_sink(tmp_path: Path) -> Iterator[Sink]:
    """A mail server as a process of its own."""
    with sink_process(tmp_path / "far-sink.jsonl") as sink:
        yield sink


@pytest.fixture
def empty_clinic(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    return Clinic(engine, clock, keys)


Crewing = Callable[..., Crew]


@pytest.fixture
def crewing(tmp_path: Path, settings: Settings) -> Iterator[Crewing]:
    """Make a crew without workers; when the test ends none of its workers lives."""
    crews: list[Crew] = []
    with ExitStack() as stack:

        def make(town: Town, sink: Sink, timeout_seconds: int = settings.smtp_timeout_seconds) -> Crew:
            crews.append(Crew(town, sink, tmp_path, settings, stack, timeout_seconds))
            return crews[-1]

        yield make
        for crew in crews:
            crew.kill()


Deliveries = Callable[..., Delivery]
Act = Callable[[], object]


def nothing() -> None:
    """What happens where nothing is meant to."""


@pytest.fixture
def deliveries(app: APIFlask, settings: Settings, engine: Engine, clock: FixedClock, keys: Keyring) -> Deliveries:
    """Make what a worker does, in this process, to a mail server of tests."""

    def make(
        sink: Sink, *, engine: Engine = engine, clock: Clock = clock, before: Act = nothing, after: Act = nothing
    ) -> Delivery:
        return Delivery(
            engine, clock, keys, Mailer(app, settings), lambda: Watched(sink, before, after), TIMEOUT_SECONDS
        )

    return make


class Watched(Smtp):
    """The way to a mail server of tests, with something that happens before or after each message."""

    def __init__(self, sink: Sink, before: Act, after: Act) -> None:
        server = MailServer("127.0.0.1", sink.port, None, None, "off")
        super().__init__(server, timeout_seconds=TIMEOUT_SECONDS, own_name="clinic.test")
        self.before, self.after = before, after

    def send(self, parcel: Parcel) -> None:
        self.before()
        super().send(parcel)
        self.after()


def step(delivery: Delivery, clock: FixedClock, length: timedelta, *, by: timedelta = timedelta(seconds=30)) -> None:
    """Let so much time pass on the Clock, with a round at each step."""
    end = clock.at + length
    while clock.at < end:
        clock.at += by
        delivery.deliver()
