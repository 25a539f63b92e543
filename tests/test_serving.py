"""The server as a whole: start, demo, readiness, end; and the other commands as processes."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import product
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update

import config
from scheduler import cli, schema
from scheduler.clock import FixedClock
from scheduler.db import database_now, make_engine, reading, transaction
from scheduler.models import Appointment, Heartbeat
from scheduler.services import health
from tests.clinic import body, key
from tests.server import Server, command, free_port, serving, starting, wait_until_ready

END_SECONDS = 10
START_SECONDS = 10
PRODUCTION = {"APP_ENV": "production", "BASE_URL": "https://clinic.test", "SMTP_HOST": "localhost"}


@pytest.fixture(scope="module")
def small_clinic(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a little demo clinic, to be copied or shared: the full demo takes seconds to make."""
    path = tmp_path_factory.mktemp("small") / "clinic.db"
    shutil.copy(migrated_sqlite, path)
    size = ("--locations", "6", "--therapists", "7", "--days", "10", "--booked", "0.5")
    assert command(f"sqlite:///{path}", "demo", *size).returncode == 0
    return path


@pytest.fixture
def running(small_clinic: Path, tmp_path: Path) -> Iterator[Server]:
    with serving(f"sqlite:///{small_clinic}", tmp_path) as server:
        yield server


def test_a_fresh_server_serves_a_demo_clinic_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/clinic.db", tmp_path) as server:
        assert server.log.read_text().splitlines()[-1] == f"Open {server.url}"
        with server.client() as client:
            assert len(client.get("/api/v1/locations").json()["items"]) == 4
            assert len(client.get("/api/v1/therapists").json()["items"]) == 12
            assert client.get("/").status_code == 200
        assert len(server.pids()) >= 4
        assert server.stop() == 0
        assert server.pids() == []


def test_a_second_start_is_quick_and_opens_its_port_when_ready(small_clinic: Path, tmp_path: Path) -> None:
    """Below 3 s on a quiet machine, which this one may not be: so its own work, in processor time, is held to that.

    Neighbours slow a processor down too; a slow start is slow each time, so the quickest of three has to hold.
    """
    worked, took = [float(START_SECONDS)], [float(START_SECONDS)]
    while (min(worked) >= 3 or min(took) >= START_SECONDS) and len(worked) <= 3:
        began = time.monotonic()
        with starting(f"sqlite:///{small_clinic}", tmp_path, free_port()) as server:
            wait_until_ready(server)  # no connection until the first answer, which says "ready"
            took.append(time.monotonic() - began)
            worked.append(processor_seconds(server.process.pid))
        print(f"A second start took {took[-1]:.1f} s, {worked[-1]:.0f} s of a processor")  # noqa: T201 seen with -rP
    assert min(worked) < 3
    assert min(took) < START_SECONDS


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_server_stops_when_asked(small_clinic: Path, tmp_path: Path, asked: signal.Signals) -> None:
    with serving(f"sqlite:///{small_clinic}", tmp_path) as server:
        server.process.send_signal(asked)
        assert server.process.wait(END_SECONDS) == 0
        assert server.pids() == []


def test_further_signals_change_nothing_while_a_server_stops(running: Server) -> None:
    with stuck_request(running):
        for asked in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            running.process.send_signal(asked)
            time.sleep(0.5)
        assert running.process.wait(END_SECONDS - 2) == 0
    assert running.pids() == []


def processor_seconds(pid: int) -> float:
    """What a process has computed so far; `ps` says it as [[dd-]hh:]mm:ss."""
    told = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    minutes, seconds = told.strip().split(":")[-2:]
    return 60 * float(minutes) + float(seconds)


@contextmanager
def stuck_request(server: Server) -> Iterator[None]:
    """A client that sends half a request and then nothing, so that to stop takes a while."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
        connection.sendall(b"POST /api/v1/appointments HTTP/1.1\r\nHost: clinic\r\nContent-Length: 100\r\n\r\n{")
        time.sleep(0.5)
        yield


def test_nothing_survives_a_parent_that_was_killed(running: Server) -> None:
    running.process.kill()
    assert running.process.wait() == -signal.SIGKILL
    assert running.survivors(END_SECONDS) == []


@pytest.mark.parametrize("child", ["web server", "worker"])
def test_the_whole_ends_with_an_error_when_a_part_dies(running: Server, child: str) -> None:
    web_server, worker = running.children()
    os.kill(web_server if child == "web server" else worker, signal.SIGKILL)
    assert running.process.wait(END_SECONDS) != 0
    assert running.survivors(END_SECONDS) == []


def test_a_server_whose_port_is_taken_says_so_and_ends(small_clinic: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with starting(f"sqlite:///{small_clinic}", tmp_path, port) as server:
            assert server.process.wait(30) != 0
            assert server.pids() == []
            assert "in use" in server.log.read_text()
            assert "Open" not in server.log.read_text()


def reason_not_ready(client: FlaskClient) -> str:
    """Why the server is not ready; empty when it is."""
    answer = client.get("/readyz")
    assert answer.status_code == (503 if "reason" in answer.get_json() else 200)
    return str(answer.get_json().get("reason", ""))


def test_a_server_is_not_ready_when_no_worker_ever_ticked(client: FlaskClient, clock: FixedClock) -> None:
    clock.at += health.SILENCE_ALLOWED
    assert reason_not_ready(client) == ""
    clock.at += timedelta(seconds=1)
    assert "worker" in reason_not_ready(client)


def test_a_server_is_not_ready_when_the_worker_fell_silent(client: FlaskClient, engine: Engine) -> None:
    with transaction(engine) as session:
        health.beat(session)
    assert reason_not_ready(client) == ""
    with transaction(engine) as session:
        session.execute(update(Heartbeat).values(beat_at=database_now() - timedelta(seconds=121)))
    assert "worker" in reason_not_ready(client)


def test_a_server_is_not_ready_when_the_schema_is_another(
    client: FlaskClient, engine: Engine, settings: config.Settings, clock: FixedClock
) -> None:
    try:
        schema.downgrade(engine, "-1")
        assert "schema" in reason_not_ready(client)
    finally:
        cli.prepare(settings, engine, clock)
    assert reason_not_ready(client) == ""


def test_a_worker_does_once_what_is_due_and_exits(small_clinic: Path) -> None:
    assert command(f"sqlite:///{small_clinic}", "worker", "--once").returncode == 0


@pytest.mark.parametrize(
    ("at", "environment", "reason"),
    [
        ("2026-11-23T09:00:00-06:00", PRODUCTION, "production"),
        ("2026-11-23T09:00:00", {}, "offset"),
    ],
)
def test_a_worker_refuses_a_time_that_it_must_not_take(
    small_clinic: Path, at: str, environment: dict[str, str], reason: str
) -> None:
    refused = command(f"sqlite:///{small_clinic}", "worker", "--once", "--at", at, **environment)
    assert refused.returncode == 2
    assert reason in refused.stderr


def test_a_demo_of_any_size_breaks_no_rule(small_clinic: Path) -> None:
    verified = command(f"sqlite:///{small_clinic}", "verify")
    assert (verified.returncode, verified.stderr) == (0, "")
    assert {line.split()[0] for line in verified.stdout.splitlines()} == {"0"}


def test_a_demo_is_refused_where_a_clinic_is(small_clinic: Path) -> None:
    before = visits_in(small_clinic)
    refused = command(f"sqlite:///{small_clinic}", "demo", "--locations", "1", "--therapists", "1", "--days", "1")
    assert refused.returncode == 1
    assert "holds a clinic already" in refused.stderr
    assert visits_in(small_clinic) == before


def visits_in(path: Path) -> set[UUID]:
    engine = make_engine(f"sqlite:///{path}")
    with reading(engine) as session:
        visits = set(session.scalars(select(Appointment.id)))
    engine.dispose()
    return visits


def test_a_backup_amid_bookings_holds_every_visit_acknowledged_before(
    small_clinic: Path, running: Server, tmp_path: Path
) -> None:
    copy, restored = tmp_path / "copy.db", tmp_path / "restored.db"
    with bookings(running) as acknowledged:
        before = set(acknowledged)
        assert command(f"sqlite:///{small_clinic}", "backup", str(copy)).returncode == 0
        during = len(acknowledged) - len(before)
    assert during > 0
    assert command(f"sqlite:///{restored}", "restore", str(copy)).returncode == 0
    assert before <= visits_in(restored) <= visits_in(small_clinic)
    assert command(f"sqlite:///{restored}", "verify").returncode == 0


@contextmanager
def bookings(server: Server) -> Iterator[list[UUID]]:
    """Two clients that book one time after another until the block ends; what was acknowledged so far."""
    acknowledged: list[UUID] = []
    ended, several = threading.Event(), threading.Semaphore(0)

    def book(start: str) -> None:
        if not ended.is_set():
            booked = client.post("/api/v1/appointments", json=body(start, "3"), headers=key())
            assert booked.status_code in {201, 409}, booked.text
            if booked.status_code == httpx.codes.CREATED:
                acknowledged.append(UUID(booked.json()["id"]))
                several.release()

    with server.client() as client, ThreadPoolExecutor(2) as clients:
        found = client.get("/api/v1/slots", params={"appointment_type": "3", "limit": "200"}).json()["items"]
        more = client.get("/api/v1/slots", params={"appointment_type": "3", "from": found[-1]["start"], "limit": "200"})
        waiting = clients.map(book, [start["id"] for start in found + more.json()["items"]])
        assert all(several.acquire(timeout=60) for _ in range(10))
        try:
            yield acknowledged
        finally:
            ended.set()
        list(waiting)


@pytest.mark.parametrize("content", [b"", b"no database at all"])
def test_restoring_what_is_no_backup_changes_nothing(small_clinic: Path, tmp_path: Path, content: bytes) -> None:
    clinic, wrong = tmp_path / "clinic.db", tmp_path / "wrong.db"
    shutil.copy(small_clinic, clinic)
    wrong.write_bytes(content)
    before = visits_in(clinic)
    refused = command(f"sqlite:///{clinic}", "restore", str(wrong))
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ")
    assert visits_in(clinic) == before


def test_what_a_restore_replaces_is_kept_and_private(small_clinic: Path, tmp_path: Path) -> None:
    clinic, copy = tmp_path / "clinic.db", tmp_path / "copy.db"
    assert command(f"sqlite:///{small_clinic}", "backup", str(copy)).returncode == 0
    assert command(f"sqlite:///{clinic}", "db", "upgrade").returncode == 0
    assert command(f"sqlite:///{clinic}", "restore", str(copy)).returncode == 0
    assert visits_in(clinic) == visits_in(copy)
    assert visits_in(tmp_path / "clinic.db.before-restore") == set()
    assert {path.stat().st_mode & 0o077 for path in (clinic, copy, tmp_path / "clinic.db.before-restore")} == {0}


def test_a_database_that_is_down_is_told_in_one_sentence() -> None:
    told = command("postgresql://nobody@127.0.0.1:1/none", "db", "upgrade")
    assert told.returncode == 1
    assert "Traceback" not in told.stderr


TO_LIVE_TOKENS = {
    "/api/v1/appointments/A-LIVE-TOKEN/cancel": "application/json",
    "/appointments/A-LIVE-TOKEN/cancel": "application/x-www-form-urlencoded",
    "/book/1-1-1": "application/x-www-form-urlencoded",
}


def test_a_body_in_broken_chunks_is_refused_and_its_token_stays_out_of_the_log(running: Server) -> None:
    for (path, kind), chunks in product(TO_LIVE_TOKENS.items(), (b"ZZ\r\n", b"5\r\nname=\r\nQQ\r\n")):
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])), timeout=10) as connection:
            connection.sendall(head.encode() + chunks)
            assert re.match(rb"HTTP/1.1 40[04]", connection.recv(100)), (path, chunks)
        assert "A-LIVE-TOKEN" not in running.log.read_text(), (path, chunks)


def test_a_restore_under_a_working_server_is_refused(running: Server, small_clinic: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    assert command(f"sqlite:///{small_clinic}", "backup", str(copy)).returncode == 0
    refused = command(f"sqlite:///{small_clinic}", "restore", str(copy))
    assert refused.returncode == 1
    assert "stop all of it" in refused.stderr
