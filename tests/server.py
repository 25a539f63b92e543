"""The real thing: `flask --app wsgi serve` and the other commands as processes of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from config import ROOT

KEYS = {
    "SECRET_KEY": "tests-only-0123456789-abcdefghijklmnopqrstuvwxyz",
    "LINK_KEYS": "tests-only-9876543210-zyxwvutsrqponmlkjihgfedcba",
    "FIELD_KEYS": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
}
START_SECONDS = 60


@dataclass
class Server:
    """A running server: its processes are all in one session, so that nothing of it outlives a test."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def kill(self) -> None:
        """End every process of it at once, as a power cut would."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def pids(self) -> list[int]:
        """The parent and all that descend from it (children live in process groups of their own)."""
        listing = subprocess.run(["ps", "-eo", "pid=,sid="], capture_output=True, text=True, check=True).stdout
        pairs = (line.split() for line in listing.splitlines())
        return [int(pid) for pid, sid in pairs if int(sid) == self.process.pid]

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=15)


def environment(database_url: str, **changes: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "RATE_LIMITS": "off", **KEYS, "DATABASE_URL": database_url, **changes}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(database_url: str, folder: Path, **changes: str) -> Iterator[Server]:
    """Serve this database on a free port until the block ends; wait until it is ready."""
    port = free_port()
    log = folder / f"server-{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "wsgi", "serve"],
            cwd=ROOT,
            env=environment(database_url, PORT=str(port), **changes),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        server.kill()


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{server.url}/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.05)
        if server.process.poll() is not None:
            break
    raise AssertionError(f"The server did not get ready:\n{server.log.read_text()}")


def command(database_url: str, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run one command of `flask --app wsgi` and return what it said."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *words],
        cwd=ROOT,
        env=environment(database_url, **changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
