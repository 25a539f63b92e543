"""Mail handed over: to real servers in this process, well-behaved and not, and to files."""

import asyncio
import errno
import itertools
import re
import resource
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import takewhile
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from config import MailServer
from scheduler.channels import (
    LONGEST_REASON,
    LONGEST_SEND,
    Deferred,
    Down,
    Files,
    MailboxBusy,
    NotDelivered,
    Parcel,
    Refused,
    Smtp,
)
from tests.server import at_once, free_port

TIMEOUT_SECONDS = 1
SLACK_SECONDS = 1.5  # for a machine with other work
SENDER = "appointments@clinic.example"


def parcel(recipient: str = "pat@example.com", text: str = "Hello") -> Parcel:
    message_id = uuid4()
    content = f"Message-ID: <{message_id.hex}@clinic.example>\r\nTo: {recipient}\r\n\r\n{text}\r\n"
    return Parcel(message_id, SENDER, recipient, content.encode())


# --- a well-behaved server that says what it is told to


@dataclass
class Sink:
    """What a server was given, and what it answers: by recipient, or once for each in turn."""

    received: list[Envelope] = field(default_factory=list)
    connections: int = 0
    encrypted: list[bool] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)  # by step: MAIL, RCPT or DATA
    refuses: str = ""  # the one recipient that RCPT's answer is for; all if empty

    def connection_made(self) -> None:
        self.connections += 1

    async def handle_MAIL(  # noqa: N802 aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if "MAIL" not in self.said:
            envelope.mail_from = address
        return self.said.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802 aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if "RCPT" in self.said and self.refuses in {"", address}:
            return self.said["RCPT"]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 aiosmtpd's
        if "DATA" in self.said:
            return self.said["DATA"]
        self.received.append(envelope)
        self.encrypted.append(session.ssl is not None)
        return "250 OK"

    def contents(self) -> list[bytes]:
        return [envelope.content for envelope in self.received if isinstance(envelope.content, bytes)]


class _Server(SMTP):
    """Counts its connections, which aiosmtpd tells its handlers only after EHLO."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        first = self.transport is None  # STARTTLS makes the connection anew
        super().connection_made(transport)
        if first:
            self.event_handler.connection_made()


class _Controller(Controller):
    def factory(self) -> SMTP:
        return _Server(self.handler, **self.SMTP_kwargs)


@contextmanager
def serving(sink: Sink, port: int | None = None, **options: Any) -> Iterator[MailServer]:  # noqa: ANN401 aiosmtpd's
    """A mail server on loopback, without encryption unless its options say so."""
    controller = _Controller(sink, hostname="127.0.0.1", port=port or free_port(), ready_timeout=10, **options)
    controller.start()
    sink.connections = 0  # that of the controller itself, to see that it is up
    try:
        yield MailServer("127.0.0.1", controller.port, None, None, "off")
    finally:
        controller.stop()


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def server(sink: Sink) -> Iterator[MailServer]:
    with serving(sink) as server:
        yield server


@contextmanager
def connected(server: MailServer, timeout_seconds: int = 10) -> Iterator[Smtp]:
    smtp = Smtp(server, timeout_seconds=timeout_seconds, own_name="clinic.example")
    try:
        yield smtp
    finally:
        smtp.close()


def reason_of(smtp: Smtp, one: Parcel, kind: type[NotDelivered]) -> str:
    """Why a message was not taken, which must be exactly of this kind."""
    with pytest.raises(NotDelivered) as failure:
        smtp.send(one)
    assert failure.type is kind
    return str(failure.value)


def test_a_message_arrives_byte_for_byte_at_its_one_recipient(sink: Sink, server: MailServer) -> None:
    one = parcel(text="A line\r\n.\r\n..two dots\r\nFrom here\r\n=C3=A9")
    with connected(server) as smtp:
        smtp.open()
        smtp.send(one)
    (envelope,) = sink.received
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, ["pat@example.com"])
    assert sink.contents() == [one.content]


def test_many_messages_take_one_connection(sink: Sink, server: MailServer) -> None:
    parcels = [parcel() for _ in range(20)]
    with connected(server) as smtp:
        for one in parcels:
            smtp.open()
            smtp.send(one)
    assert sink.contents() == [one.content for one in parcels]
    assert sink.connections == 1


def test_a_refusal_costs_no_connection_and_no_other_message(sink: Sink, server: MailServer) -> None:
    sink.said, sink.refuses = {"RCPT": "550 5.1.1 no such user"}, "nobody@example.com"
    with connected(server) as smtp:
        smtp.send(parcel())
        assert reason_of(smtp, parcel("nobody@example.com"), Refused) == "550 5.1.1 no such user"
        smtp.send(parcel())
    assert (len(sink.received), sink.connections) == (2, 1)


@pytest.mark.parametrize(
    ("step", "answer", "kind"),
    [
        ("RCPT", "550 no such user", Refused),
        ("RCPT", "553 no such mailbox", Refused),
        ("RCPT", "450 greylisted", MailboxBusy),
        ("RCPT", "451 try again", MailboxBusy),
        ("RCPT", "452 mailbox full", MailboxBusy),
        ("RCPT", "421 closing", Deferred),
        ("RCPT", "503 bad sequence", Deferred),
        ("RCPT", "530 authentication required", Deferred),
        ("MAIL", "550 sender not allowed", Deferred),
        ("MAIL", "553 not yours", Deferred),
        ("MAIL", "530 authentication required", Deferred),
        ("MAIL", "451 try again", Deferred),
        ("MAIL", "421 closing", Deferred),
        ("DATA", "554 spam", Refused),
        ("DATA", "552 too large", Refused),
        ("DATA", "550 not wanted", Refused),
        ("DATA", "451 try again", Deferred),
        ("DATA", "421 closing", Deferred),
        ("DATA", "503 bad sequence", Deferred),
    ],
)
def test_an_answer_says_whose_fault_it_is(
    sink: Sink, server: MailServer, step: str, answer: str, kind: type[NotDelivered]
) -> None:
    """Afterwards the same channel hands over the next message."""
    sink.said = {step: answer}
    with connected(server) as smtp:
        assert reason_of(smtp, parcel(), kind) == answer
        sink.said = {}
        after = parcel()
        smtp.send(after)
    assert sink.contents() == [after.content]


@pytest.mark.parametrize(
    "answer",
    ["550 no\x00\x07\x1b[31m\x7fcontrols\tat all", "550-first\r\n550-second\r\n550 third", "550 ünïcödé \u202e", "550"],
    ids=["controls", "several lines", "unicode", "nothing"],
)
def test_a_reason_is_one_printable_line(sink: Sink, server: MailServer, answer: str) -> None:
    sink.said = {"RCPT": answer}
    with connected(server) as smtp:
        assert re.fullmatch("550 [ -~]*", reason_of(smtp, parcel(), Refused))


def test_a_long_reason_is_cut(sink: Sink, server: MailServer) -> None:
    sink.said = {"RCPT": "\r\n".join(["550-" + "x" * 400] * 50 + ["550 end"])}
    with connected(server) as smtp:
        assert len(reason_of(smtp, parcel(), Refused)) <= LONGEST_REASON + len("550 ")


# --- STARTTLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that only itself vouches for, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("certificate") / "server.pem"
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*plain))
    return path


@pytest.fixture
def encrypting(sink: Sink, certificate: Path) -> Iterator[MailServer]:
    """A server that offers STARTTLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(sink, tls_context=context) as server:
        yield server


def test_required_encryption_refuses_a_certificate_that_nobody_vouches_for(sink: Sink, encrypting: MailServer) -> None:
    with connected(replace(encrypting, tls="required")) as smtp, pytest.raises(Down, match="certificate"):
        smtp.open()
    assert sink.received == []


def test_required_encryption_takes_a_certificate_that_is_vouched_for(
    sink: Sink, encrypting: MailServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with connected(replace(encrypting, tls="required")) as smtp:
        smtp.send(parcel())
    assert sink.encrypted == [True]


def test_required_encryption_refuses_a_certificate_of_another_name(
    sink: Sink, encrypting: MailServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    other = replace(encrypting, tls="required", host="localhost")
    with connected(other) as smtp, pytest.raises(Down, match=r"certificate|Hostname"):
        smtp.open()
    assert sink.received == []


def test_required_encryption_refuses_a_server_without(sink: Sink, server: MailServer) -> None:
    with connected(replace(server, tls="required")) as smtp, pytest.raises(Down, match="STARTTLS"):
        smtp.open()
    assert sink.received == []


@pytest.mark.parametrize(("tls", "encrypted"), [("auto", True), ("off", False)])
def test_encryption_on_offer_is_taken_unless_switched_off(
    sink: Sink, encrypting: MailServer, tls: str, encrypted: bool
) -> None:
    with connected(replace(encrypting, tls=tls)) as smtp:
        smtp.send(parcel())
    assert sink.encrypted == [encrypted]


def test_automatic_encryption_goes_without_where_none_is_offered(sink: Sink, server: MailServer) -> None:
    with connected(replace(server, tls="auto")) as smtp:
        smtp.send(parcel())
    assert sink.encrypted == [False]


# --- signing in


RIGHT, WRONG = "correct horse", "battery staple"


def authenticator(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object) -> AuthResult:
    known = isinstance(given, LoginPassword) and (given.login, given.password) == (b"clinic", RIGHT.encode())
    return AuthResult(success=known, handled=False)


@pytest.fixture
def closed(sink: Sink) -> Iterator[MailServer]:
    """A server that takes mail only from those who sign in, and warns that it lets them do so in plain sight."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Requiring AUTH")
        with serving(sink, authenticator=authenticator, auth_required=True, auth_require_tls=False) as server:
            yield server


def test_the_right_password_opens_a_closed_server(sink: Sink, closed: MailServer) -> None:
    with connected(replace(closed, user="clinic", password=RIGHT)) as smtp:
        smtp.send(parcel())
    assert len(sink.received) == 1


def test_a_wrong_password_is_the_channels_fault(sink: Sink, closed: MailServer) -> None:
    for attempt in ("open", "send"):
        with connected(replace(closed, user="clinic", password=WRONG)) as smtp, pytest.raises(Down) as failure:
            smtp.open() if attempt == "open" else smtp.send(parcel())
        assert str(failure.value).startswith("535 ")
        assert WRONG not in str(failure.value)
    assert sink.received == []


def test_a_missing_password_is_no_patients_fault(sink: Sink, closed: MailServer) -> None:
    with connected(closed) as smtp:
        assert reason_of(smtp, parcel(), Deferred).startswith("530 ")
    assert sink.received == []


def test_a_password_for_a_server_that_knows_none_is_the_channels_fault(server: MailServer) -> None:
    with connected(replace(server, user="clinic", password=RIGHT)) as smtp, pytest.raises(Down):
        smtp.open()


# --- servers that misbehave

GREETING, EHLO, MAIL, RCPT, DATA, CONTENT = "greeting", "EHLO", "MAIL", "RCPT", "DATA", "content"
STEPS = (GREETING, EHLO, MAIL, RCPT, DATA, CONTENT)
Act = Callable[[socket.socket], None]


@dataclass
class Script:
    """A server in a thread, line by line: at one step, so many times, it does something else than answer."""

    step: str = ""
    act: Act | None = None
    times: int = 1_000_000
    received: list[bytes] = field(default_factory=list)
    connections: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def serve(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                self.connections += 1
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as lines:
            self._answer(connection, GREETING, b"220 hello")
            while line := lines.readline():
                word = line[:4].strip().upper().decode()
                self._answer(connection, word, b"354 go on" if word == DATA else b"250 OK")
                if word == DATA:
                    content = b"".join(takewhile(lambda line: line not in {b".\r\n", b""}, iter(lines.readline, None)))
                    self.received.append(content)
                    self._answer(connection, CONTENT, b"250 OK")
                if word == "QUIT":
                    return

    def _answer(self, connection: socket.socket, step: str, usual: bytes) -> None:
        if step == self.step and self.times > 0 and self.act is not None:
            self.times -= 1
            self.act(connection)
        else:
            connection.sendall(usual + b"\r\n")


@contextmanager
def scripted(script: Script) -> Iterator[MailServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=script.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield MailServer("127.0.0.1", listener.getsockname()[1], None, None, "off")
        finally:
            script._stopping.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def drop(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)
    raise OSError(errno.ECONNABORTED, "dropped")


def drip(connection: socket.socket) -> None:
    """One byte each 0.2 seconds, each within the timeout, of an answer that never ends."""
    for byte in itertools.cycle(b"250-wait\r\n"):
        connection.sendall(bytes([byte]))
        time.sleep(0.2)


def drip_for_a_while(connection: socket.socket) -> None:
    for byte in b"250-a while\r\n" * 2:
        connection.sendall(bytes([byte]))
        time.sleep(0.2)
    drop(connection)


def silence(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_drops_every_connection_is_told_as_a_failure(step: str) -> None:
    script = Script(step, drop)
    with scripted(script) as server, connected(server, TIMEOUT_SECONDS) as smtp:
        for _ in range(2):
            with pytest.raises(Deferred):
                smtp.send(parcel())
    assert len(script.received) == (2 if step == CONTENT else 0)


@pytest.mark.parametrize("step", STEPS)
def test_the_next_message_goes_after_a_drop(step: str) -> None:
    script = Script(step, drop, times=1)
    first, second = parcel(), parcel()
    with scripted(script) as server, connected(server, TIMEOUT_SECONDS) as smtp:
        with suppress(Deferred):
            smtp.send(first)
        smtp.send(second)
    taken = [first.content] * (step in {MAIL, CONTENT}) + [second.content]  # named again, or already there
    assert script.received == taken


def test_a_server_that_closed_the_connection_meanwhile_is_reconnected() -> None:
    """Nothing is lost and nothing is doubled, as often as it does so."""
    script = Script()
    parcels = [parcel() for _ in range(3)]
    with scripted(script) as server, connected(server, TIMEOUT_SECONDS) as smtp:
        for one in parcels:
            script.step, script.act, script.times = MAIL, drop, 1
            smtp.open()
            smtp.send(one)
    assert script.received == [one.content for one in parcels]
    assert script.connections == 4


def test_a_server_that_says_goodbye_between_messages_is_reconnected() -> None:
    """421 to MAIL FROM, as a server says that has waited too long."""

    def goodbye(connection: socket.socket) -> None:
        connection.sendall(b"421 idle for too long\r\n")
        drop(connection)

    script = Script(MAIL, goodbye, times=1)
    one = parcel()
    with scripted(script) as server, connected(server, TIMEOUT_SECONDS) as smtp:
        smtp.send(one)
    assert (script.received, script.connections) == ([one.content], 2)


def test_an_idle_connection_that_the_server_timed_out_is_reconnected(sink: Sink) -> None:
    with serving(sink, timeout=0.3) as server, connected(server) as smtp:
        parcels = [parcel(), parcel()]
        for one in parcels:
            smtp.open()
            smtp.send(one)
            time.sleep(0.8)
    assert sink.contents() == [one.content for one in parcels]
    assert sink.connections == 2


@dataclass
class Meeting:
    """A channel that meets a server of its own kind, and how long it lets that last."""

    step: str
    act: Act
    do: Callable[[Smtp], None]

    def seconds(self) -> float:
        with scripted(Script(self.step, self.act)) as server, connected(server, TIMEOUT_SECONDS) as smtp:
            began = time.monotonic()
            with suppress(Deferred):
                self.do(smtp)
            return time.monotonic() - began


def hand_over(smtp: Smtp) -> None:
    smtp.send(parcel())


def longest(meetings: list[Meeting]) -> float:
    """Each in a thread, all at once; how long the slowest took."""
    return max(at_once(len(meetings), lambda place, _: meetings[place].seconds()))


IN_TIME = LONGEST_SEND * TIMEOUT_SECONDS + SLACK_SECONDS


def test_a_server_that_drips_or_falls_silent_is_given_up() -> None:
    drips = [Meeting(step, drip, hand_over) for step in (MAIL, RCPT, DATA, CONTENT)]
    silences = [Meeting(step, silence, hand_over) for step in STEPS]
    assert longest([*drips, *silences, Meeting("QUIT", silence, Smtp.close)]) < IN_TIME


@pytest.mark.parametrize("part", [b"250", b"250 queued as 4", b"250-first line\r\n250", b"2222222222"])
def test_an_answer_that_broke_off_is_none(part: bytes) -> None:
    def break_off(connection: socket.socket) -> None:
        connection.sendall(part)
        drop(connection)

    with scripted(Script(CONTENT, break_off)) as server, connected(server, TIMEOUT_SECONDS) as smtp:
        assert reason_of(smtp, parcel(), Deferred)


def test_a_server_that_drips_while_one_connects_or_says_goodbye_is_cut_off() -> None:
    """It ends by itself after 5 seconds here, so that no thread outlives the test; in life it does not."""

    def connect(smtp: Smtp) -> None:
        smtp.open()

    def send_and_close(smtp: Smtp) -> None:
        smtp.send(parcel())
        smtp.close()

    meetings = [Meeting(step, drip_for_a_while, connect) for step in (GREETING, EHLO)]
    meetings += [Meeting(GREETING, drip_for_a_while, hand_over)]
    assert longest([*meetings, Meeting("QUIT", drip_for_a_while, send_and_close)]) < IN_TIME


@pytest.mark.parametrize(
    "greeting", [b"554 no service here", b"421 too busy", b"nonsense", b"HTTP/1.1 400 Bad Request"]
)
def test_a_server_that_does_not_want_to_talk_is_down(greeting: bytes) -> None:
    script = Script(GREETING, lambda connection: connection.sendall(greeting + b"\r\n"))
    with scripted(script) as server, connected(server, TIMEOUT_SECONDS) as smtp, pytest.raises(Down) as failure:
        smtp.open()
    assert re.fullmatch("[ -~]{1,204}", str(failure.value))


def test_a_server_that_sends_too_much_is_given_up() -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"2" * 1_000_000)

    with scripted(Script(RCPT, flood)) as server, connected(server, TIMEOUT_SECONDS) as smtp:
        assert len(reason_of(smtp, parcel(), Deferred)) <= 204


def test_a_server_that_is_not_there_is_down() -> None:
    nobody = MailServer("127.0.0.1", free_port(), None, None, "auto")
    with connected(nobody, TIMEOUT_SECONDS) as smtp:
        for attempt in (smtp.open, lambda: smtp.send(parcel())):
            with pytest.raises(Down, match="ConnectionRefusedError"):
                attempt()


def test_a_server_that_has_come_back_is_used_again(sink: Sink) -> None:
    port = free_port()
    with connected(MailServer("127.0.0.1", port, None, None, "off"), TIMEOUT_SECONDS) as smtp:
        with pytest.raises(Down):
            smtp.open()
        with serving(sink, port):
            smtp.open()
            smtp.send(parcel())
    assert len(sink.received) == 1


def test_a_channel_may_be_closed_and_opened_as_often_as_needed(sink: Sink, server: MailServer) -> None:
    with connected(server) as smtp:
        for _ in range(3):
            smtp.close()
            smtp.close()
            smtp.open()
            smtp.open()
            smtp.send(parcel())
    assert (len(sink.received), sink.connections) == (3, 3)


# --- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "instance" / "outbox"


def test_each_message_is_one_file_however_often_it_is_tried(folder: Path) -> None:
    files, first, second = Files(folder), parcel(), parcel()
    files.open()
    for one in (first, second, first, replace(first, content=b"newer")):
        files.send(one)
    files.close()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"{first.message_id}.eml": b"newer",
        f"{second.message_id}.eml": second.content,
    }


def test_a_file_is_never_seen_in_part(folder: Path) -> None:
    """Read over and over while it is written again and again, it is always one whole message."""
    files, one = Files(folder), parcel()
    wholes = {letter * 1_000_000 for letter in (b"a", b"b")}
    files.open()
    files.send(replace(one, content=min(wholes)))
    seen: set[bytes] = set()
    stopping = threading.Event()

    def read() -> None:
        while not stopping.is_set():
            seen.update(path.read_bytes() for path in folder.glob("*.eml"))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(25):
        for content in wholes:
            files.send(replace(one, content=content))
    stopping.set()
    reader.join()
    assert seen
    assert seen <= wholes


WRITE_ONE = """
import os, sys, pathlib, uuid
os.umask(0o077)
from scheduler.channels import Files, Parcel
files = Files(pathlib.Path(sys.argv[1]))
files.open()
files.send(Parcel(uuid.UUID(int=1), "a@example.com", "b@example.com", b"x"))
"""


def test_files_are_their_owners_alone(folder: Path) -> None:
    """In a process of its own, since the umask is the whole process's."""
    subprocess.run([sys.executable, "-c", WRITE_ONE, str(folder)], check=True, cwd=Path(__file__).parents[1])
    for path in (folder.parent, folder, folder / f"{UUID(int=1)}.eml"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_the_log_names_the_file_only(folder: Path) -> None:
    files, one = Files(folder), parcel("w.quux@example.com", "Wilhelmina")
    files.open()
    with capture_logs() as logged:
        files.send(one)
    assert logged == [{"event": "mail_written", "log_level": "info", "file": f"{one.message_id}.eml"}]


def test_a_folder_that_cannot_be_made_is_down(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "outbox"):
        with pytest.raises(Down, match="cannot be made"):
            Files(folder).open()


def test_a_folder_that_has_gone_is_down(folder: Path) -> None:
    files = Files(folder)
    files.open()
    folder.rmdir()
    with pytest.raises(Down, match="cannot be written"):
        files.send(parcel())


@contextmanager
def full_disk() -> Iterator[None]:
    """A limit on the size of files stands for the disk's end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_down_and_leaves_the_earlier_file_whole(folder: Path) -> None:
    files, one = Files(folder), parcel()
    files.open()
    files.send(one)
    with full_disk(), pytest.raises(Down, match="cannot be written"):
        files.send(replace(one, content=b"x" * 100_000))
    assert (folder / f"{one.message_id}.eml").read_bytes() == one.content


def test_a_full_disk_is_not_filled_further_with_drafts(folder: Path) -> None:
    files, one = Files(folder), parcel()
    files.open()
    with full_disk(), suppress(Down):
        files.send(replace(one, content=b"x" * 100_000))
    assert list(folder.iterdir()) == []
