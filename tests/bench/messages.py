"""Messages a second beside the mail server's own limit: real templates, real SMTP, workers as processes of their own.

The mail server here does nothing but take. Its limit is what one connection gets through it that has every message at
hand, of the same length, measured just before and just after the workers.
"""

import asyncio
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import fmean

from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import delete, func, select, update

from config import ROOT, driver_url
from scheduler import cli
from scheduler.db import make_engine, reading, transaction
from scheduler.keys import Keyring
from scheduler.models import Appointment, Attempt, ChannelState, Fate, Kind, OutboxMessage, Status
from tests.bench.load import Run, WrongAnswer
from tests.server import environment, free_port

ONE, TWO = "messages / mail server's limit", "messages, 2 workers / 1"
MESSAGES, WARM = 400, 20
LENGTH = 4_500  # bytes of a message as the workers send it; a wrong answer if it is not about that


class _Taker:
    """A mail server that takes everything and remembers only how much it was."""

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 aiosmtpd's
        content = envelope.content or b""
        return f"250 {len(content)} bytes"


def measure(database_url: str) -> dict[str, tuple[float, Run]]:
    """Let one worker send what is owed, then two; return the share of the limit, and two beside one, with the rates."""
    with _mail_server() as port:
        before = _limit(port)
        one = _sent_per_second(database_url, port, workers=1)
        limit = fmean((before, _limit(port)))
        two = _sent_per_second(database_url, port, workers=2)
        again = _sent_per_second(database_url, port, workers=1)
    return {ONE: (one / limit, _run(one)), TWO: (two / fmean((one, again)), _run(two))}


def _run(per_second: float) -> Run:
    return Run(per_second=per_second, p95_ms=0.0, client_busy=0.0, bodies=[])


def _limit(port: int) -> float:
    """Messages a second through one connection that has nothing else to do."""
    message = b"Subject: limit\r\n\r\n" + (b"x" * 70 + b"\r\n") * (LENGTH // 72)
    with smtplib.SMTP("127.0.0.1", port, local_hostname="bench") as client:
        client.ehlo()
        began = time.perf_counter()
        for _ in range(MESSAGES):
            client.mail("bench@example.com")
            client.rcpt("patient@example.com")
            client.data(message)
        return MESSAGES / (time.perf_counter() - began)


def _sent_per_second(database_url: str, port: int, workers: int) -> float:
    _owe(database_url, WARM * workers)
    with ExitStack() as running:
        senders = [running.enter_context(_sender(database_url, port)) for _ in range(workers)]
        _owe(database_url, MESSAGES)
        began = time.perf_counter()
        for sender in senders:
            _tell(sender)
        for sender in senders:
            sender.wait(timeout=600)
        seconds = time.perf_counter() - began
    if _left(database_url):
        raise WrongAnswer("Messages that were owed were not sent.")
    return MESSAGES / seconds


@contextmanager
def _sender(database_url: str, port: int) -> Iterator["subprocess.Popen[str]"]:
    """A worker that has sent a little already, and waits for a line to send the rest."""
    env = environment(database_url, SMTP_HOST="127.0.0.1", SMTP_PORT=str(port))
    with _role("send", env) as process:
        yield process


@contextmanager
def _mail_server() -> Iterator[int]:
    port = free_port()
    with _role("take", environment("sqlite:///unused.db"), str(port)):
        yield port


@contextmanager
def _role(role: str, env: dict[str, str], *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """This module as a process of its own, once it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.messages", role, *arguments],
        cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise WrongAnswer(f"The process to {role} messages did not start.")
        yield process
    finally:
        process.kill()
        process.communicate()


def _tell(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _owe(database_url: str, number: int) -> None:
    """Make so many confirmations of visits ahead owed, as if they had just been booked."""
    engine = make_engine(driver_url(database_url))
    with transaction(engine) as session:
        ahead = (
            select(OutboxMessage.id)
            .join(Appointment, Appointment.id == OutboxMessage.appointment_id)
            .where(OutboxMessage.kind == Kind.CONFIRMATION, Appointment.status == Status.BOOKED)
            .order_by(Appointment.starts_at.desc())
            .limit(number)
        )
        everything = update(OutboxMessage).where(OutboxMessage.status == Fate.OWED)
        session.execute(everything.values(status=Fate.SUPPRESSED, reason="bench"))
        session.execute(delete(ChannelState))
        ids = list(session.scalars(ahead))
        if len(ids) < number:
            raise WrongAnswer(f"The demo has only {len(ids)} visits to send messages about.")
        session.execute(delete(Attempt).where(Attempt.message_id.in_(ids)))
        owed = {"status": Fate.OWED, "reason": None, "sent_at": None, "tries": 0, "retry_at": None}
        session.execute(update(OutboxMessage).where(OutboxMessage.id.in_(ids)).values(owed))
    engine.dispose()


def _left(database_url: str) -> int:
    engine = make_engine(driver_url(database_url))
    with reading(engine) as session:
        found = session.execute(select(func.count()).where(OutboxMessage.status == Fate.OWED)).scalar_one()
    engine.dispose()
    return found


def _take(port: int) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(_Taker(), hostname="bench"), "127.0.0.1", port)
        _ready()
        await server.serve_forever()

    asyncio.run(serve())


def _send() -> None:
    import wsgi  # noqa: PLC0415 the composition root reads the environment when it is imported

    keys = Keyring.of(wsgi.settings.link_keys, wsgi.settings.field_keys)
    at_work = cli.at_work_on(wsgi.app, wsgi.settings, wsgi.engine, wsgi.clock, keys)
    at_work.deliver()
    _ready()
    sys.stdin.readline()
    at_work.deliver()


def _ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _take(int(sys.argv[2])) if sys.argv[1] == "take" else _send()
