"""How a message leaves: handed to a mail server, or written to a file where there is none."""

import os
import re
import smtplib
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Protocol
from uuid import UUID

import structlog

from config import MailServer

LONGEST_SEND = 2.5  # times the timeout of one answer; the lease is three times it
DONE, NOT_NOW, SERVICE_CLOSING = 2, 4, 421
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
    """Not now: another try may go well."""


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
            handle, draft = tempfile.mkstemp(dir=self.folder, prefix=".")
            with os.fdopen(handle, "wb") as file:
                file.write(parcel.content)
            Path(draft).rename(self.folder / name)
        except OSError as error:
            raise Down(f"{self.folder} cannot be written: {error.strerror}") from error
        log.info("mail_written", file=name)

    def close(self) -> None:
        """Nothing stays open."""


class Smtp:
    """A mail server: one connection for as many messages as there are (RFC 5321)."""

    def __init__(self, server: MailServer, *, timeout_seconds: int, own_name: str) -> None:
        self.server = server
        self.timeout_seconds = timeout_seconds
        self.own_name = own_name
        self._client: smtplib.SMTP | None = None

    def open(self) -> None:
        if self._client is None:
            try:
                self._client = self._connected()
            except (OSError, smtplib.SMTPException) as error:
                raise Down(_told(error)) from error

    def send(self, parcel: Parcel) -> None:
        with self._cut_off_in_time():
            try:
                self._hand_over(parcel)
            except (OSError, smtplib.SMTPException) as error:
                self.close()
                raise Deferred(_told(error)) from error
            except NotDelivered:
                self._reset()
                raise

    def close(self) -> None:
        if self._client is not None:
            with suppress(OSError, smtplib.SMTPException):
                self._client.quit()
            self._client.close()
            self._client = None

    def _connected(self) -> smtplib.SMTP:
        server = self.server
        client = smtplib.SMTP(server.host, server.port, local_hostname=self.own_name, timeout=self.timeout_seconds)
        try:
            client.ehlo_or_helo_if_needed()
            if server.tls == "required" or (server.tls == "auto" and client.has_extn("starttls")):
                client.starttls(context=_encryption(checked=server.tls == "required"))
                client.ehlo_or_helo_if_needed()
            if server.user is not None and server.password is not None:
                client.login(server.user, server.password)
        except BaseException:
            client.close()
            raise
        return client

    def _hand_over(self, parcel: Parcel) -> None:
        code, reply = self._begin(parcel)
        if code // 100 != DONE:  # the sender is ours: never the patient's fault
            raise Deferred(f"{code} {_plain(reply)}")
        assert self._client is not None  # noqa: S101 _begin opened it
        _accepted(*self._client.rcpt(parcel.recipient))
        _accepted(*self._client.data(parcel.content))

    def _begin(self, parcel: Parcel) -> tuple[int, bytes]:
        """Name the sender; a server that has closed the connection meanwhile is asked once more."""
        code, reply = self._sender_named(parcel)
        if code == SERVICE_CLOSING:
            self.close()
            code, reply = self._sender_named(parcel)
        return code, reply

    def _sender_named(self, parcel: Parcel) -> tuple[int, bytes]:
        self.open()
        assert self._client is not None  # noqa: S101 open made it
        try:
            return self._client.mail(parcel.sender)
        except smtplib.SMTPServerDisconnected:
            return SERVICE_CLOSING, b"connection closed"

    def _reset(self) -> None:
        """Make the connection ready for the next message after a refusal, or give it up."""
        try:
            if self._client is None or self._client.rset()[0] // 100 != DONE:
                self.close()
        except (OSError, smtplib.SMTPException):
            self.close()

    @contextmanager
    def _cut_off_in_time(self) -> Iterator[None]:
        """End the connection from outside when a server is so slow that the lease would run out first."""
        timer = Timer(LONGEST_SEND * self.timeout_seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        client = self._client
        if client is not None and client.sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(client.sock, socket.SHUT_RDWR)


def _encryption(*, checked: bool) -> ssl.SSLContext:
    """With `auto` nothing could keep a stranger from hiding the offer, so its certificate proves nothing either."""
    context = ssl.create_default_context()
    if not checked:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _accepted(code: int, reply: bytes) -> None:
    """Return for 2xx. Only 55x speaks of this mail or address (RFC 5321, 4.2.1); all else may pass."""
    if code // 100 == DONE:
        return
    raise (Refused if code // 10 == 55 else Deferred)(f"{code} {_plain(reply)}")  # noqa: PLR2004


def _told(error: OSError | smtplib.SMTPException) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        reply = error.smtp_error
        return f"{error.smtp_code} {_plain(reply if isinstance(reply, bytes) else reply.encode())}"
    return _plain(f"{type(error).__name__}: {error}".encode())


def _plain(reply: bytes) -> str:
    """A server's words as one short printable line."""
    return re.sub(r"[^ -~]+", " ", reply.decode(errors="replace"))[:LONGEST_REASON]
