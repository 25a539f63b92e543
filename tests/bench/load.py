"""The load generator: one process, one loop over raw keep-alive connections, each with one request under way.

It shares the machine's processors with the servers, so each run says how busy it was.
"""

import re
import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Address = tuple[str, int]
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nConnection: close\r\n", re.IGNORECASE)
STUCK_SECONDS = 60


class WrongAnswer(Exception):
    """A server answered with another status than it should, or not what was asked for."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one slice of load gave. `bodies` are all answers, also those that came after the time was up."""

    per_second: float
    p95_ms: float
    client_busy: float  # share of the time in which the load generator itself used a processor
    bodies: list[bytes]


def load(
    address: Address, requests: Iterable[bytes], *, clients: int, seconds: float = float("inf"), expect: int = 200
) -> Run:
    """Send the requests, as many at a time as there are clients, until the time is up or none is left.

    What is under way then is waited for, but not counted. Raises WrongAnswer for any other status than `expect`.
    """
    crowd = _Crowd(address, iter(requests), str(expect).encode())
    try:
        return crowd.run(clients, seconds)
    finally:
        crowd.close()


@dataclass(eq=False, slots=True)
class _Client:
    socket: socket.socket
    sent_at: float = 0.0
    received: bytes = b""

    def answer(self) -> tuple[bytes, bytes] | None:
        """Read what has come; return head and body once they are complete."""
        chunk = self.socket.recv(1 << 18)
        if not chunk:
            raise WrongAnswer(f"The server closed a connection in the middle of an answer: {self.received!r}")
        self.received += chunk
        head, gap, body = self.received.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n") if gap else None
        return (head + b"\r\n", body) if length and len(body) >= int(length[1]) else None


@dataclass(slots=True)
class _Crowd:
    address: Address
    requests: Iterator[bytes]
    expect: bytes
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    bodies: list[bytes] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    stopped_at: float | None = None

    def run(self, clients: int, seconds: float) -> Run:
        crowd = [self._connect() for _ in range(clients)]
        began, busy = time.perf_counter(), time.process_time()
        for client in crowd:
            self._next(client, began + seconds)
        while self.selector.get_map():
            ready = self.selector.select(STUCK_SECONDS)
            if not ready:
                raise WrongAnswer(f"No answer within {STUCK_SECONDS} s.")
            for key, _ in ready:
                self._read(key.data, began + seconds)
        end = self.stopped_at or time.perf_counter()
        waits = sorted(self.waits) or [0.0]
        return Run(
            per_second=len(self.waits) / (end - began),
            p95_ms=waits[int(len(waits) * 0.95)] * 1000,
            client_busy=(time.process_time() - busy) / (time.perf_counter() - began),
            bodies=self.bodies,
        )

    def close(self) -> None:
        for key in list(self.selector.get_map().values()):
            key.data.socket.close()
        self.selector.close()

    def _connect(self) -> _Client:
        connection = socket.create_connection(self.address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = _Client(connection)
        self.selector.register(connection, selectors.EVENT_READ, client)
        return client

    def _leave(self, client: _Client) -> None:
        self.selector.unregister(client.socket)
        client.socket.close()

    def _next(self, client: _Client, deadline: float) -> None:
        now = time.perf_counter()
        request = next(self.requests, None) if now < deadline else None
        if request is None:
            self.stopped_at = self.stopped_at or now
            self._leave(client)
            return
        client.received, client.sent_at = b"", now
        client.socket.sendall(request)

    def _read(self, client: _Client, deadline: float) -> None:
        answer = client.answer()
        if answer is None:
            return
        head, body = answer
        if head[9:12] != self.expect:
            raise WrongAnswer(f"Expected {self.expect.decode()}: {head!r} {body[:500]!r}")
        self.bodies.append(body)
        if self.stopped_at is None:
            self.waits.append(time.perf_counter() - client.sent_at)
        if CLOSES.search(head):
            self._leave(client)
            client = self._connect()
        self._next(client, deadline)
