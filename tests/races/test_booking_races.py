"""Many patients at one moment, over HTTP, against the real server: two web processes, a worker, both databases."""

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import func, select

import config
from scheduler import cli
from scheduler.clock import SystemClock
from scheduler.db import make_engine, reading
from scheduler.keys import Keyring
from scheduler.models import Appointment, IdempotencyKey
from tests import postgres
from tests.clinic import Clinic, body
from tests.conftest import BACKENDS, worker_name
from tests.server import Server, at_once, command, serving

PATIENTS = 64
STREAMS = 8
KINDS = (
    ("Evaluation", 60, True, False),
    ("Follow-up", 45, False, False),
    ("Needling", 30, False, True),
    ("Check", 15, False, False),
)
THERAPISTS = (
    "one time",
    "overlapping times",
    "one request",
    "a held time",
    "a limit",
)  # each test races for a calendar of its own
VISITS_A_KILL = 100

Json = dict[str, Any]


def sizes(small: int, full: int) -> list[Any]:
    """The same drill twice: small with every test run, full with `make drill`."""
    return [pytest.param(small, id="small"), pytest.param(full, id="full", marks=pytest.mark.drill)]


@dataclass(frozen=True)
class Practice:
    """A clinic that never closes, on a database of its own."""

    url: str
    clinic: Clinic
    therapists: dict[str, int]

    def count(self, table: type[Appointment | IdempotencyKey]) -> int:
        with reading(self.clinic.engine) as session:
            return session.execute(select(func.count()).select_from(table)).scalar_one()

    def violations(self) -> dict[str, int]:
        return self.clinic.violations()


@pytest.fixture(scope="module")
def open_practice(settings: config.Settings) -> Iterator[Callable[[str, Path], Practice]]:
    """Make a practice on a fresh database of a backend; `folder` holds what belongs to it."""
    made: list[Practice] = []

    def make(backend: str, folder: Path) -> Practice:
        url = f"sqlite:///{folder}/clinic.db"
        if backend == "postgresql":
            url = config.driver_url(postgres.fresh_database(f"races_{len(made)}_{worker_name()}"))
        engine, clock = make_engine(url), SystemClock()
        cli.prepare(settings, engine, clock)
        clinic = Clinic(engine, clock, Keyring.of(settings.link_keys, settings.field_keys))
        clinic.policy(booking_horizon_days=10)
        clinic.add_kinds(KINDS)
        location = clinic.add_location()
        therapists = {name: clinic.add_therapist(name) for name in THERAPISTS}
        for therapist in therapists.values():
            clinic.add_hours(therapist, location, weekdays=range(7), opens=0, closes=24 * 60)
        clinic.plan()
        made.append(Practice(url, clinic, therapists))
        return made[-1]

    yield make
    for practice in made:
        practice.clinic.engine.dispose()


@pytest.fixture(scope="module", params=BACKENDS)
def practice(
    request: pytest.FixtureRequest,
    open_practice: Callable[[str, Path], Practice],
    tmp_path_factory: pytest.TempPathFactory,
) -> Practice:
    return open_practice(request.param, tmp_path_factory.mktemp("practice"))


@pytest.fixture(scope="module")
def server(practice: Practice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all races of a database: it takes seconds to start, and each race has its own therapist."""
    with serving(practice.url, tmp_path_factory.mktemp("server"), WEB_WORKERS="2") as server:
        yield server


def free_starts(server: Server, practice: Practice, therapist: str, wanted: int) -> list[Json]:
    """The soonest starts of an evaluation with this therapist, page after page."""
    query = {"appointment_type": practice.clinic.kinds["Evaluation"], "therapist": practice.therapists[therapist]}
    found: list[Json] = []
    with server.client() as client:
        page: Json = {"next_cursor": None}
        while len(found) < wanted:
            cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
            page = client.get("/api/v1/slots", params={**query, "limit": 200, **cursor}).json()
            found += page["items"]
    return found[:wanted]


def post(client: httpx.Client, request: Json, key: str) -> httpx.Response:
    return client.post("/api/v1/appointments", json=request, headers={"Idempotency-Key": key})


def race(server: Server, requests: Sequence[tuple[Json, str]]) -> list[httpx.Response]:
    """Send each request from a thread of its own, over a connection that stands already, all at the same moment."""
    assert len(requests) == PATIENTS
    return all_at_once(server, lambda client, place: post(client, *requests[place]))


def outcomes(replies: Sequence[httpx.Response]) -> list[tuple[int, str]]:
    """Status and the code of the refusal of each reply, in order."""
    return sorted((reply.status_code, reply.json().get("type", "#").partition("#")[2]) for reply in replies)


def kind_id(practice: Practice, name: str) -> str:
    return str(practice.clinic.kinds[name])


@pytest.mark.parametrize("rounds", sizes(3, 100))
def test_of_64_patients_who_want_one_time_one_gets_it(server: Server, practice: Practice, rounds: int) -> None:
    for start in free_starts(server, practice, "one time", rounds * 4)[::4]:
        wanted = body(start["id"], kind_id(practice, "Evaluation"))
        replies = race(server, [(wanted, uuid4().hex) for _ in range(PATIENTS)])
        assert outcomes(replies) == [(201, "")] + [(409, "slot-taken")] * (PATIENTS - 1)
    assert practice.violations() == {}


@pytest.mark.parametrize("rounds", sizes(2, 100))
def test_visits_of_any_length_that_win_a_race_never_overlap(server: Server, practice: Practice, rounds: int) -> None:
    starts = free_starts(server, practice, "overlapping times", rounds * 8)
    kinds = [kind_id(practice, name) for name in ("Evaluation", "Follow-up", "Needling")]
    for first in range(0, len(starts), 8):
        wanted = [body(start["id"], kind) for start in starts[first : first + 4] for kind in kinds]
        replies = race(server, [(wanted[place % len(wanted)], uuid4().hex) for place in range(PATIENTS)])
        assert set(outcomes(replies)) == {(201, ""), (409, "slot-taken")}
        won = sorted(span(reply.json()) for reply in replies if reply.status_code == 201)
        assert all(earlier[1] <= later[0] for earlier, later in pairwise(won))
    assert command(practice.url, "verify").returncode == 0


@pytest.mark.parametrize("rounds", sizes(2, 50))
def test_of_64_who_hold_or_book_one_time_one_has_it(server: Server, practice: Practice, rounds: int) -> None:
    for start in free_starts(server, practice, "a held time", rounds * 4)[::4]:
        kind = kind_id(practice, "Evaluation")

        def wish(client: httpx.Client, place: int, slot: str = start["id"], kind: str = kind) -> httpx.Response:
            if place % 2:
                return post(client, body(slot, kind), uuid4().hex)
            return client.post("/api/v1/holds", json={"slot": slot, "appointment_type": kind})

        replies = all_at_once(server, wish)
        told = outcomes(replies)
        assert told[0] == (201, "")
        (winner,) = [reply.json() for reply in replies if reply.status_code == 201]
        assert set(told[1:]) == {(409, "slot-held" if "hold" in winner else "slot-taken")}
        if "hold" in winner:
            with server.client() as client:
                booked = post(client, body(start["id"], kind, hold=winner["hold"]), uuid4().hex)
            assert booked.status_code == 201
    assert practice.violations() == {}


@pytest.mark.parametrize("rounds", sizes(1, 20))
def test_of_64_wishes_of_one_browser_session_three_are_held(server: Server, practice: Practice, rounds: int) -> None:
    starts = free_starts(server, practice, "a limit", PATIENTS * 4)[::4]
    for _ in range(rounds):
        holder = uuid4().hex

        def wish(client: httpx.Client, place: int, holder: str = holder) -> httpx.Response:
            asked = {"slot": starts[place]["id"], "appointment_type": kind_id(practice, "Evaluation"), "holder": holder}
            return client.post("/api/v1/holds", json=asked)

        replies = all_at_once(server, wish)
        assert sorted(reply.status_code for reply in replies) == [201] * 3 + [429] * (PATIENTS - 3)
        with server.client() as client:
            for reply in replies:
                if reply.status_code == 201:
                    assert client.delete(f"/api/v1/holds/{reply.json()['hold']}").status_code == 204
    assert practice.violations() == {}


def all_at_once(server: Server, wish: Callable[[httpx.Client, int], httpx.Response]) -> list[httpx.Response]:
    """Let everybody send a wish of their own at the same moment, over a connection that stands already."""

    def somebody(place: int, together: threading.Barrier) -> httpx.Response:
        with server.client() as client:
            client.get("/healthz")
            together.wait()
            return wish(client, place)

    return at_once(PATIENTS, somebody)


def span(visit: Json) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(visit["start"]), datetime.fromisoformat(visit["end"])


@pytest.mark.parametrize("rounds", sizes(2, 50))
def test_64_equal_requests_at_once_are_one_visit(server: Server, practice: Practice, rounds: int) -> None:
    for start in free_starts(server, practice, "one request", rounds * 4)[::4]:
        stored = practice.count(Appointment)
        wanted, key = body(start["id"], kind_id(practice, "Evaluation")), uuid4().hex
        replies = race(server, [(wanted, key)] * PATIENTS)
        assert {(reply.status_code, reply.text) for reply in replies} == {(201, replies[0].text)}
        assert practice.count(Appointment) == stored + 1
        with server.client() as client:
            refused = post(client, {**wanted, "note": "another request"}, key)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert practice.violations() == {}


@dataclass
class Booking:
    """A request with its key, and the reply that was acknowledged before the server died, if any."""

    request: Json
    key: str
    acknowledged: httpx.Response | None = None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kills", sizes(1, 20))
def test_a_server_killed_amid_bookings_loses_none_and_doubles_none(
    open_practice: Callable[[str, Path], Practice], tmp_path: Path, backend: str, kills: int
) -> None:
    practice = open_practice(backend, tmp_path)
    asked: list[Booking] = []
    for _ in range(kills):
        with serving(practice.url, tmp_path, BASE_URL="http://clinic.test") as server:
            repeat(server, asked[-VISITS_A_KILL:])
            bookings = short_visits(server, practice)
            book_until_killed(server, bookings, random.randrange(20, VISITS_A_KILL // 2))
        assert {booking.acknowledged is None for booking in bookings} == {True, False}
        asked += bookings
    with serving(practice.url, tmp_path, BASE_URL="http://clinic.test") as server:
        visits = repeat(server, asked)
    assert len(set(visits)) == practice.count(Appointment) == practice.count(IdempotencyKey) == len(asked)
    assert command(practice.url, "verify").returncode == 0


def short_visits(server: Server, practice: Practice) -> list[Booking]:
    """Requests for many starts of a quarter of an hour, so that none of them is in another's way."""
    kind = kind_id(practice, "Check")
    with server.client() as client:
        found = client.get("/api/v1/slots", params={"appointment_type": kind, "limit": VISITS_A_KILL}).json()
    return [Booking(body(start["id"], kind), uuid4().hex) for start in found["items"]]


def book_until_killed(server: Server, bookings: Sequence[Booking], kill_after: int) -> None:
    """Send them in several streams, kill the whole server after so many replies, and keep each reply."""
    waiting, replied = deque(bookings), threading.Semaphore(0)

    def stream() -> None:
        with server.client() as client, suppress(httpx.TransportError, IndexError):
            while True:
                booking = waiting.popleft()
                booking.acknowledged = post(client, booking.request, booking.key)
                replied.release()

    with ThreadPoolExecutor(STREAMS) as streams:
        for _ in range(STREAMS):
            streams.submit(stream)
        for _ in range(kill_after):
            assert replied.acquire(timeout=60)
        server.kill()


def repeat(server: Server, bookings: Sequence[Booking]) -> list[str]:
    """Send every request again with its key; each must give one visit, and the one that was acknowledged before."""
    visits = []
    with server.client() as client:
        for booking in bookings:
            reply = post(client, booking.request, booking.key)
            assert reply.status_code == 201, reply.text
            assert booking.acknowledged is None or booking.acknowledged.json() == reply.json()
            visits.append(reply.json()["id"])
    return visits
