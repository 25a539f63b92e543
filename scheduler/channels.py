"""How a message leaves: handed to a mail server, or written to a file where there is none."""

import re
import smtplib
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from math import inf
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Protocol
from uuid import UUID

import structlog

from config import MailServer

LOOKS_A_TIMEOUT = 20
LONGEST_SEND = 2.5  # times the timeout of one answer; the lease is three times it
DONE, BUSY, REFUSES, SERVICE_CLOSING = 2, 45, 55, 421
LONGEST_REASON = 200
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message to one address; `message_id` is the same at every try, `content` the whole of it as it travels."""

    message_id: UUID
    sender: str
    recipient: str
    content: bytes


class NotDelivered(Exception):
    """The message was not, or perhaps not, taken over; the text says why, for staff."""


class Deferred(NotDelivered):
    """Not now: another try may go well. Several in a row speak against the channel, unless `of_channel` is false."""

    of_channel = True


class MailboxBusy(Deferred):
    """This mailbox cannot be written to now; that says nothing of any other."""

    of_channel = False


class Down(Deferred):
    """The channel itself cannot be used now, whatever the message."""


class Refused(NotDelivered):
    """Never: this message, or this address, is not accepted."""


class Channel(Protocol):
    """One way to people. A channel is used by one thread; close and open it as often as needed."""

    def open(self) -> None:
        """Be ready to send; raises Down."""

    def send(self, parcel: Parcel) -> None:
        """Hand one message over, in less time than a lease lasts; raises NotDelivered."""

    def close(self) -> None: ...


class Files:
    """Mail as files, for development: one for each message, the same one at every try."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Down(f"{self.folder} cannot be made: {error.strerror}") from error

    def send(self, parcel: Parcel) -> None:
        name = f"{parcel.message_id}.eml"
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".") as drafts:
                draft = Path(drafts) / name
                draft.write_bytes(parcel.content)
                draft.rename(self.folder / name)  # at once: nobody reads half of it
        except OSError as error:
            raise Down(f"{self.folder} cannot be written: {error.strerror}") from error
        log.info("mail_written", file=name)

    def close(self) -> None:
        """Nothing stays open."""


class _Client(smtplib.SMTP):
    """smtplib's client, to which an answer that broke off is none, and whose connection others may cut."""

    def __init__(self, host: str, *, local_hostname: str, timeout: float) -> None:
        super().__init__(local_hostname=local_hostname, timeout=timeout)
        self._host = host  # whose certificate is asked for

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _WholeLines(self.sock.makefile("rb"))
        return super().getreply()


class _WholeLines:
    """Reads lines, and takes one without its end for the end of all."""

    def __init__(self, file: BufferedReader) -> None:
        self.file = file
        self.close = file.close

    def readline(self, limit: int) -> bytes:
        line = self.file.readline(limit)
        return line if line.endswith(b"\n") or len(line) == limit else b""


class Smtp:
    """A mail server: one connection for as many messages as there are (RFC 5321)."""

    def __init__(self, server: MailServer, *, timeout_seconds: int, own_name: str) -> None:
        self.server = server
        self.timeout_seconds = timeout_seconds
        self.own_name = own_name
        self._client: smtplib.SMTP | None = None
        self._out_of_time = False
        self._deadline = inf

    def open(self) -> None:
        with self._cut_off_in_time():
            self._connect()

    def send(self, parcel: Parcel) -> None:
        with self._cut_off_in_time():
            try:
                self._hand_over(parcel)
            except (OSError, smtplib.SMTPException) as error:
                self._leave()
                raise Deferred(_told(error)) from error
            except NotDelivered:
                self._reset()
                raise

    def close(self) -> None:
        with self._cut_off_in_time():
            self._leave()

    def _connect(self) -> None:
        if self._client is not None:
            return
        server = self.server
        self._client = client = _Client(server.host, local_hostname=self.own_name, timeout=self.timeout_seconds)
        Thread(target=self._watch, args=(client,), daemon=True).start()
        try:
            code, reply = client.connect(server.host, server.port)
            if code // 100 != DONE:
                raise smtplib.SMTPConnectError(code, reply)
            client.ehlo_or_helo_if_needed()
            if server.tls == "required" or (server.tls == "auto" and client.has_extn("starttls")):
                client.starttls(context=_encryption(checked=server.tls == "required"))
                client.ehlo_or_helo_if_needed()
            if server.user is not None and server.password is not None:
                client.login(server.user, server.password)
        except (OSError, smtplib.SMTPException) as error:
            client.close()
            self._client = None
            raise Down(_told(error)) from error

    def _leave(self) -> None:
        if self._client is not None:
            with suppress(OSError, smtplib.SMTPException):
                self._client.quit()
            self._client.close()
            self._client = None

    def _hand_over(self, parcel: Parcel) -> None:
        code, reply = self._begin(parcel)
        if code // 100 != DONE:  # the sender is ours: never the patient's fault
            raise Deferred(f"{code} {_plain(reply)}")
        assert self._client is not None  # noqa: S101 _begin opened it
        _require_accepted(*self._client.rcpt(parcel.recipient), otherwise=MailboxBusy)
        _require_accepted(*self._client.data(parcel.content), otherwise=Deferred)

    def _begin(self, parcel: Parcel) -> tuple[int, bytes]:
        """Name the sender; a server that has closed the connection meanwhile is asked once more."""
        code, reply = self._sender_named(parcel)
        if code == SERVICE_CLOSING and not self._out_of_time:
            self._leave()
            code, reply = self._sender_named(parcel)
        return code, reply

    def _sender_named(self, parcel: Parcel) -> tuple[int, bytes]:
        self._connect()
        assert self._client is not None  # noqa: S101 _connect made it
        try:
            return self._client.mail(parcel.sender)
        except smtplib.SMTPServerDisconnected:
            return SERVICE_CLOSING, b"connection closed"

    def _reset(self) -> None:
        """Make the connection ready for the next message after a refusal, or give it up."""
        try:
            if self._client is None or self._client.rset()[0] // 100 != DONE:
                self._leave()
        except (OSError, smtplib.SMTPException):
            self._leave()

    @contextmanager
    def _cut_off_in_time(self) -> Iterator[None]:
        """End the connection from outside when a server is so slow that the lease would run out first."""
        self._deadline, self._out_of_time = monotonic() + LONGEST_SEND * self.timeout_seconds, False
        try:
            yield
        finally:
            self._deadline = inf

    def _watch(self, client: _Client) -> None:
        """Cut a connection off at the deadline, as long as it is this one; a thread for each message costs more."""
        while self._client is client:
            if monotonic() > self._deadline and client.sock is not None:
                self._out_of_time = True
                with suppress(OSError):
                    socket.socket.shutdown(client.sock, socket.SHUT_RDWR)
            sleep(self.timeout_seconds / LOOKS_A_TIMEOUT)


def _encryption(*, checked: bool) -> ssl.SSLContext:
    """With `auto` nothing could keep a stranger from hiding the offer, so its certificate proves nothing either."""
    context = ssl.create_default_context()
    if not checked:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _require_accepted(code: int, reply: bytes, *, otherwise: type[Deferred]) -> None:
    """Return for 2xx. Only 55x speaks of this mail or address for good (RFC 5321, 4.2.1); all else may pass."""
    if code // 100 == DONE:
        return
    kind = Refused if code // 10 == REFUSES else otherwise if code // 10 == BUSY else Deferred
    raise kind(f"{code} {_plain(reply)}")


def _told(error: OSError | smtplib.SMTPException) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        reply = error.smtp_error
        return f"{error.smtp_code} {_plain(reply if isinstance(reply, bytes) else reply.encode())}"
    return _plain(f"{type(error).__name__}: {error}".encode())


def _plain(reply: bytes) -> str:
    """A server's words as one short printable line."""
    return re.sub(r"[^ -~]+", " ", reply.decode(errors="replace"))[:LONGEST_REASON]
