"""The real thing: `flask --app wsgi serve` and the other commands as processes of their own."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

from config import ROOT

KEYS = {
    "SECRET_KEY": "tests-only-0123456789-abcdefghijklmnopqrstuvwxyz",
    "LINK_KEYS": "tests-only-9876543210-zyxwvutsrqponmlkjihgfedcba",
    "FIELD_KEYS": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
}
START_SECONDS = 60
TOGETHER_SECONDS = 60
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loopback needs no certificates; loading them takes long
T = TypeVar("T")


@dataclass
class Server:
    """A running server: its processes are all in one session, so that nothing of it outlives a test."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, verify=PLAIN, trust_env=False)

    def kill(self) -> None:
        """End every process of it at once, as a power cut would."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def pids(self) -> list[int]:
        """The parent and all that descend from it (children live in process groups of their own)."""
        return list(self.parents())

    def parents(self) -> dict[int, int]:
        """Every process of it that is alive, with its parent; one that ended and is not yet reaped is not alive."""
        columns = ["ps", "-eo", "pid=,ppid=,sid=,stat="]
        listing = subprocess.run(columns, capture_output=True, text=True, check=True).stdout
        lines = (line.split() for line in listing.splitlines())
        return {
            int(pid): int(parent)
            for pid, parent, session, state in lines
            if int(session) == self.process.pid and not state.startswith("Z")
        }

    def children(self) -> tuple[int, int]:
        """The parent's two children: the web server, which has processes of its own, and the worker, which has none."""
        parents = self.parents()
        first, second = (pid for pid, parent in parents.items() if parent == self.process.pid)
        return (first, second) if first in parents.values() else (second, first)

    def survivors(self, seconds: float) -> list[int]:
        """What is left of it after all had so long to end."""
        deadline = time.monotonic() + seconds
        while (left := self.pids()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=15)


def environment(database_url: str, **changes: str) -> dict[str, str]:
    """The environment of a process of its own; unless a test names another, its mail server is one that is never up."""
    no_mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": "9"}
    given = {"PATH": os.environ["PATH"], "RATE_LIMITS": "off", **KEYS, **no_mail, "DATABASE_URL": database_url}
    return given | changes


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(database_url: str, folder: Path, **changes: str) -> Iterator[Server]:
    """Serve this database on a free port until the block ends; wait until it is ready."""
    with starting(database_url, folder, free_port(), **changes) as server:
        wait_until_ready(server)
        yield server


@contextmanager
def starting(database_url: str, folder: Path, port: int, **changes: str) -> Iterator[Server]:
    """Start a server on this port and do not wait for it; nothing of it outlives the block."""
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
        yield server
    finally:
        server.kill()


def wait_until_ready(server: Server) -> None:
    """Wait until the server says that it can book; its very first answer must say so."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            answer = httpx.get(f"{server.url}/readyz", verify=PLAIN, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.02)
            continue
        assert answer.status_code == httpx.codes.OK, answer.text
        return
    raise AssertionError(f"The server did not get ready:\n{server.log.read_text()}")


def at_once(number: int, act: Callable[[int, threading.Barrier], T]) -> list[T]:
    """Let `number` threads act together: each gets its place and the barrier at which it waits for all others."""
    together = threading.Barrier(number, timeout=TOGETHER_SECONDS)
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(lambda place: act(place, together), range(number)))


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
