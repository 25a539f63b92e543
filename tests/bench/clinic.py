"""The scheduler under measure: a database filled by `demo`, the real server on it, and what is asked of it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, repeat
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx
import psycopg
from psycopg import sql
from sqlalchemy import func, select

from config import ROOT, driver_url
from scheduler.db import make_engine, reading
from scheduler.models import Appointment, Slot
from scheduler.services import demo
from tests import postgres
from tests.bench.bare import gunicorn
from tests.bench.load import Address, Run, WrongAnswer, load
from tests.server import environment, serving

SHOWN = 20
STEP_SECONDS, SEARCHED_SECONDS = 397, 5 * 24 * 60 * 60
VISITS_A_WEEK = 5  # the demo books a third of the time
STARTS_TO_BOOK = 3000
COMMAND_SECONDS = 600
DATABASE = "bench"
NOT_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")  # what tests.postgres turned off
Measure = Callable[[int, float], Run]


@dataclass(frozen=True, slots=True)
class Size:
    locations: int
    therapists: int
    days: int


@dataclass(frozen=True, slots=True)
class Build:
    """How a database was filled; `seconds` is the whole command `demo`, Python's start and all visits included."""

    cells: int
    visits: int
    seconds: float
    durability: str

    @property
    def cells_per_second(self) -> float:
        return self.cells / self.seconds


@dataclass(frozen=True, slots=True)
class Database:
    name: str
    url: str
    build: Build


@dataclass(slots=True)
class Clinic:
    """One running scheduler, its database and the requests that it is measured by."""

    name: str
    database_url: str
    url: str
    appointment_type: str = ""
    kinds: dict[int, str] = field(default_factory=dict)  # by minutes
    location: str = ""
    explainer: str = ""
    starts: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    cookie: str = ""
    shown: int = SHOWN
    unseen: Iterator[int] = field(default_factory=count)
    PLACES: ClassVar = ("one location", "anywhere")

    def look_round(self) -> None:
        """Learn what to search for."""
        with httpx.Client(base_url=f"{self.url}/api/v1", timeout=60) as client:
            self.kinds = {kind["minutes"]: kind["id"] for kind in client.get("/appointment-types").json()["items"]}
            self.location = client.get("/locations").json()["items"][0]["id"]

    def prepare(self) -> None:
        """Learn what to ask for, and choose starts to book that do not overlap."""
        self.look_round()
        self.appointment_type = self.kinds[60]
        with httpx.Client(base_url=f"{self.url}/api/v1", timeout=60) as client:
            self.explainer = client.get("/explainer").json()["version"]
            self.starts = _apart(_all_slots(client, self.appointment_type))
        self.cookie = _signed_in(self.url)

    @property
    def address(self) -> Address:
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 80)

    @property
    def measures(self) -> dict[str, Measure]:
        """Name → what is done with (clients, seconds); in this order, since cancelling needs what was booked."""
        return {
            "page of times": lambda clients, seconds: self._look(clients, seconds, repeat("")),
            "page of times, each anew": lambda clients, seconds: self._look(
                clients, seconds, map("?unseen={}".format, self.unseen)
            ),
            "week of a therapist": self._week,
            "book": self._book,
            "cancel": self._cancel,
        }

    def searches(self, minutes: int) -> dict[str, Measure]:
        """Searches for a visit of so many minutes, at one location and anywhere."""
        kind = {"appointment_type": self.kinds[minutes]}
        wishes = (kind | {"location": self.location}, kind)
        return {place: self._searching(wish) for place, wish in zip(self.PLACES, wishes, strict=True)}

    def _searching(self, wishes: dict[str, str]) -> Measure:
        return lambda clients, seconds: self._search(clients, seconds, **wishes)

    def searches_by_name(self) -> dict[str, Measure]:
        """All searches, by what they are called beside other measures."""
        return {
            f"slots, {minutes} min, {place}": search
            for minutes in (60, 30)
            for place, search in self.searches(minutes).items()
        }

    def answer_size(self) -> int:
        path = self._slots_path(appointment_type=self.kinds[60], location=self.location)
        return len(httpx.get(self.url + path).content)

    def _slots_path(self, **wishes: str) -> str:
        wishes = {"limit": str(SHOWN), **wishes}
        return "/api/v1/slots?" + "&".join(f"{name}={quote(value)}" for name, value in wishes.items())

    def _search(self, clients: int, seconds: float, **wishes: str) -> Run:
        """Search from one moment after the other of some days, so that no answer is one that was given before."""
        now = datetime.now(UTC).replace(microsecond=0)
        moments = (now + timedelta(seconds=number * STEP_SECONDS % SEARCHED_SECONDS) for number in self.unseen)
        requests = (get(self._slots_path(**wishes, **{"from": moment.isoformat()})) for moment in moments)
        run = load(self.address, requests, clients=clients, seconds=seconds)
        for body in set(run.bodies):
            items = json.loads(body)["items"]
            if len(items) != self.shown or any(
                item["location"]["id"] != wishes.get("location", item["location"]["id"]) for item in items
            ):
                raise WrongAnswer(f"{self.name}: not {self.shown} starts as asked for: {body[:500]!r}")
        return run

    def _look(self, clients: int, seconds: float, queries: Iterator[str]) -> Run:
        """Look at the page of times, at each of these queries once."""
        requests = (get(f"/book{query}") for query in queries)
        run = load(self.address, requests, clients=clients, seconds=seconds)
        for body in set(run.bodies):
            if body.count(b'href="/book/') < SHOWN:
                raise WrongAnswer(f"{self.name}: not {SHOWN} times on a page: {body[:500]!r}")
        return run

    def _week(self, clients: int, seconds: float) -> Run:
        """Look at a therapist's next week, in which the demo has booked some days."""
        day = datetime.now(UTC).date() + timedelta(days=7)
        request = get(f"/staff/?view=week&day={day}", f"Cookie: {self.cookie}\r\n")
        run = load(self.address, repeat(request), clients=clients, seconds=seconds)
        for body in set(run.bodies):
            if body.count(b'href="/staff/visits/') < VISITS_A_WEEK:
                raise WrongAnswer(f"{self.name}: not a week of visits on a page: {body[:500]!r}")
        return run

    def _book(self, clients: int, seconds: float) -> Run:
        requests = [self._booking(start) for start in self.starts]
        run = load(self.address, requests, clients=clients, seconds=seconds, expect=201)
        self.tokens = [json.loads(body)["token"] for body in run.bodies]
        return run

    def _cancel(self, clients: int, _seconds: float) -> Run:
        """Cancel all that was booked last, however long it takes, so that the next round finds the same calendar."""
        requests = [post(f"/api/v1/appointments/{token}/cancel", {}) for token in self.tokens]
        run = load(self.address, requests, clients=clients)
        if any(json.loads(body)["status"] != "cancelled" for body in run.bodies):
            raise WrongAnswer(f"{self.name}: a visit was not cancelled.")
        return run

    def _booking(self, start: str) -> bytes:
        body = {
            "slot": start,
            "appointment_type": self.appointment_type,
            "patient": {"name": "Bench Patient", "email": "bench@example.com"},
            "consent": {"explainer_version": self.explainer, "acknowledged": True},
        }
        return post("/api/v1/appointments", body, f"Idempotency-Key: {uuid4()}\r\n")


def get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n{headers}\r\n".encode()


def post(path: str, body: dict[str, Any], headers: str = "") -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def _signed_in(url: str) -> str:
    """The cookie of the demo's therapist."""
    with httpx.Client(base_url=url, timeout=60) as client:
        page = client.get("/staff/sign-in").text
        token = page.split('name="csrf_token"', 1)[1].split('value="', 1)[1].split('"', 1)[0]
        form = {"csrf_token": token, "email": "therapist@demo.example", "password": demo.PASSWORD}
        if client.post("/staff/sign-in", data=form).status_code != httpx.codes.SEE_OTHER:
            raise WrongAnswer("The demo's therapist could not sign in.")
        return f"staff={client.cookies['staff']}"


def _all_slots(client: httpx.Client, appointment_type: str) -> Iterator[dict[str, Any]]:
    """Starts from tomorrow on, so that none becomes too soon while the bench runs."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    query = {"appointment_type": appointment_type, "from": tomorrow, "limit": "200"}
    while "cursor" not in query or query["cursor"]:
        page = client.get("/slots", params=query).raise_for_status().json()
        yield from page["items"]
        query["cursor"] = page["next_cursor"]


def _apart(slots: Iterator[dict[str, Any]]) -> list[str]:
    """Ids of the soonest starts such that booking one takes no cell of another."""
    chosen: list[str] = []
    busy_until: dict[str, datetime] = {}
    for slot in slots:
        therapist, start = slot["therapist"]["id"], datetime.fromisoformat(slot["start"])
        if therapist not in busy_until or start >= busy_until[therapist]:
            chosen.append(slot["id"])
            busy_until[therapist] = datetime.fromisoformat(slot["end"])
        if len(chosen) == STARTS_TO_BOOK:
            break
    return chosen


@contextmanager
def sqlite(size: Size, folder: Path) -> Iterator[Database]:
    yield _filled("SQLite", f"sqlite:///{folder / 'bench.db'}", "synchronous=FULL", size)


@contextmanager
def postgresql(size: Size, folder: Path) -> Iterator[Database]:
    """On the tests' server, but as durable as a real one; a server that somebody else set up stays as it is."""
    own = not os.environ.get(postgres.URL)
    postgres.ensure_server()
    with psycopg.connect(os.environ[postgres.URL], autocommit=True) as connection:
        for setting in NOT_DURABLE if own else ():
            connection.execute(sql.SQL("ALTER SYSTEM RESET ") + sql.SQL(setting))
        if own:
            connection.execute("SELECT pg_reload_conf()")
    try:
        url = postgres.fresh_database(DATABASE)
        with psycopg.connect(url) as connection:
            settings = [(name, _setting(connection, name)) for name in ("fsync", "synchronous_commit")]
        yield _filled("PostgreSQL", url, ", ".join(f"{name}={value}" for name, value in settings), size)
    finally:
        postgres.drop(DATABASE)


def _setting(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    return str(row[0]) if row else "?"


def _filled(name: str, url: str, durability: str, size: Size) -> Database:
    run_command(url, "db", "upgrade")
    began = time.perf_counter()
    run_command(
        url,
        "demo",
        *(word for part in ("locations", "therapists", "days") for word in (f"--{part}", str(getattr(size, part)))),
    )
    seconds = time.perf_counter() - began
    return Database(name, url, Build(*_counts(url), seconds, durability))


@contextmanager
def served(database: Database, folder: Path, workers: int) -> Iterator[Clinic]:
    with serving(database.url, folder, WEB_WORKERS=str(workers), RATE_LIMITS="off") as server:
        clinic = Clinic(database.name, database.url, server.url)
        clinic.prepare()
        yield clinic


@contextmanager
def searched(database: Database, workers: int) -> Iterator[Clinic]:
    """The clinic served without its worker, which would plan its calendar anew: only to be searched."""
    env = environment(database.url, WEB_WORKERS=str(workers))
    with gunicorn("wsgi:app", env, "gthread", workers) as (host, port):
        clinic = Clinic(database.name, database.url, f"http://{host}:{port}")
        clinic.look_round()
        yield clinic


def _counts(url: str) -> tuple[int, int]:
    """Cells and visits in the database."""
    engine = make_engine(driver_url(url))
    with reading(engine) as session:
        tables = (select(func.count()).select_from(table).scalar_subquery() for table in (Slot, Appointment))
        cells, visits = session.execute(select(*tables)).one()
    engine.dispose()
    return cells, visits


def run_command(url: str, *words: str) -> str:
    """Run one of our commands, however long; return what it said, raise with it when it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *words],
        cwd=ROOT, env=environment(url), capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise WrongAnswer(f"`{' '.join(words)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout
