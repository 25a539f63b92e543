"""A real mail server for tests, which writes down what it takes over and misbehaves on demand.

It runs in a thread (`sinking`) or as a process of its own (`sink_process`, `python -m tests.sink LOG`), on loopback.
Its log has one JSON line an event, each written by one call before the answer leaves: nothing is lost with a process.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.header import decode_header, make_header
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from aiosmtpd.smtp import SMTP, Envelope, Session

from config import ROOT

ANSWER_SECONDS = 10
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong, with the messages of these recipients only if any are named.

    closed: nobody listens · greeting, rcpt, data: `reply` is the answer there · hang: no answer after DATA · drop: the
    connection ends before the 250 · drop_taken: likewise, but the message is taken over · slow: `seconds` before each
    answer. With `first` it strikes only the first so many tries of a recipient.
    """

    what: Literal["closed", "greeting", "rcpt", "data", "hang", "drop", "drop_taken", "slow"]
    reply: str = "451 4.3.0 try again later"
    only: tuple[str, ...] = ()
    seconds: float = 0
    first: int | None = None

    def strikes(self, recipient: str, tries: int) -> bool:
        return (not self.only or recipient in self.only) and (self.first is None or tries <= self.first)


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that was taken over. `begun` is the time of MAIL FROM, `at` that of the 250, in seconds since 1970.

    `tries` counts the RCPTs for its recipient so far, refused ones included.
    """

    begun: float
    at: float
    recipients: tuple[str, ...]
    message_id: str
    subject: str
    size: int
    tries: int


@dataclass(frozen=True, slots=True)
class Log:
    """What the server has seen, readable while it runs and after it was killed."""

    path: Path

    def taken(self) -> list[Taken]:
        found = (event["taken"] for event in self._events() if "taken" in event)
        return [Taken(**{**one, "recipients": tuple(one["recipients"])}) for one in found]

    def tries(self) -> Counter[str]:
        """How often each recipient was named, refused or not."""
        return Counter(event["tried"] for event in self._events() if "tried" in event)

    def _events(self) -> list[dict[str, Any]]:
        text = self.path.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class Sink(Protocol):
    """A running server, wherever it runs."""

    port: int
    log: Log

    def misbehave(self, *faults: Fault) -> None:
        """Replace all faults by these; they hold from the return on."""


class _Conversation(SMTP):
    """One connection; every answer passes `push`."""

    begun = 0.0
    pending: Taken | None = None
    ended: asyncio.Event

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.ended = asyncio.Event()
        self.event_handler.open[self] = transport
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.event_handler.open.pop(self, None)
        super().connection_lost(error)
        self.ended.set()

    async def push(self, status: str | bytes) -> None:
        answer = status if isinstance(status, bytes) else status.encode()
        slow = self.event_handler.fault("slow")
        if slow:
            await asyncio.sleep(slow.seconds)
        greeting = self.event_handler.fault("greeting") if answer.startswith(b"220 ") else None
        if self.pending and answer.startswith(b"250"):
            self.event_handler.note_taken(self.pending)
        self.pending = None
        await super().push(greeting.reply.encode() if greeting else answer)
        if greeting and self.transport is not None:
            self.transport.close()


class _Handler:
    """aiosmtpd's hooks, shared by all conversations of a server."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.faults: tuple[Fault, ...] = ()
        self.tries: Counter[str] = Counter()
        self.open: dict[_Conversation, asyncio.BaseTransport] = {}

    def note(self, event: dict[str, Any]) -> None:
        os.write(self.file, f"{json.dumps(event)}\n".encode())

    def note_taken(self, taken: Taken) -> None:
        self.note({"taken": {**asdict(taken), "at": time.time()}})

    def fault(self, what: str, recipient: str = "") -> Fault | None:
        tries = self.tries[recipient]
        return next((one for one in self.faults if one.what == what and one.strikes(recipient, tries)), None)

    async def handle_MAIL(  # noqa: N802 aiosmtpd finds it by this name
        self, server: _Conversation, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        server.begun = time.time()
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: _Conversation, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.tries[address] += 1
        self.note({"tried": address, "at": time.time()})
        fault = self.fault("rcpt", address)
        if fault:
            return fault.reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: _Conversation, _session: Session, envelope: Envelope
    ) -> str:
        recipient = envelope.rcpt_tos[0]
        taken = _read(envelope, server.begun, self.tries[recipient])
        if self.fault("hang", recipient):
            await asyncio.Event().wait()  # until the client is gone, which cancels this
        if self.fault("drop_taken", recipient):
            self.note_taken(taken)
        if (self.fault("drop", recipient) or self.fault("drop_taken", recipient)) and server.transport is not None:
            server.transport.close()
            await asyncio.Event().wait()
        fault = self.fault("data", recipient)
        if fault:
            return fault.reply
        server.pending = taken
        return "250 OK"


def _read(envelope: Envelope, begun: float, tries: int) -> Taken:
    content = envelope.original_content or b""
    headers = BytesHeaderParser().parsebytes(content)
    subject = str(make_header(decode_header(headers["Subject"] or "")))
    message_id = str(headers["Message-ID"])
    return Taken(begun, 0, tuple(map(str, envelope.rcpt_tos)), message_id, subject, len(content), tries)


class ThreadSink:
    """The server on a thread of this process; `port` 0 takes a free one."""

    def __init__(self, path: Path, port: int = 0) -> None:
        self.log, self.port = Log(path), port
        self._handler = _Handler(path)
        self._loop = asyncio.new_event_loop()
        self._listener: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._await(self._listen())

    def misbehave(self, *faults: Fault) -> None:
        self._await(self._change(faults))

    def stop(self) -> None:
        self._await(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_SECONDS)
        self._loop.close()
        os.close(self._handler.file)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_SECONDS)

    async def _change(self, faults: tuple[Fault, ...]) -> None:
        self._handler.faults = faults
        if any(fault.what == "closed" for fault in faults):
            await self._close()
        elif self._listener is None:
            await self._listen()

    async def _listen(self) -> None:
        def converse() -> _Conversation:
            return _Conversation(self._handler, hostname="sink.test", loop=self._loop)

        self._listener = await self._loop.create_server(converse, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        """Let nobody in, and put out who is in."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        conversations = dict(self._handler.open)
        for conversation, transport in conversations.items():
            transport.close()
            await conversation.ended.wait()
        await asyncio.sleep(0)  # so that what was cancelled has ended


class ProcessSink:
    """The server as a process of its own, told on its standard input what to do wrong."""

    def __init__(self, process: "subprocess.Popen[str]", log: Log) -> None:
        self.process, self.log = process, log
        self.port = int(self._answer()["port"])

    def misbehave(self, *faults: Fault) -> None:
        assert self.process.stdin is not None
        print(json.dumps([asdict(fault) for fault in faults]), file=self.process.stdin, flush=True)
        assert self._answer() == {"faults": len(faults)}

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@contextmanager
def sinking(path: Path) -> Iterator[Sink]:
    """Run the server on a thread until the block ends."""
    sink = ThreadSink(path)
    try:
        yield sink
    finally:
        sink.stop()


@contextmanager
def sink_process(path: Path) -> Iterator[Sink]:
    """Run the server as a process until the block ends; without its parent it ends by itself."""
    path.touch()
    words = [sys.executable, "-m", "tests.sink", str(path)]
    process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield ProcessSink(process, Log(path))
        finally:
            process.kill()


def main(path: str, port: str = "0") -> None:
    """Say on which port this listens, then take one JSON list of faults a line until the input ends."""
    sink = ThreadSink(Path(path), int(port))
    _say({"port": sink.port})
    for line in sys.stdin:
        faults = [Fault(**{**given, "only": tuple(given["only"])}) for given in json.loads(line)]
        sink.misbehave(*faults)
        _say({"faults": len(faults)})
    sink.stop()


def _say(answer: dict[str, int]) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
