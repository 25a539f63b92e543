"""The visits of an e-mail address, by a link that goes to that address only.

Who asks is told the same whether the address has visits or not, and nothing is looked up for it: that is done when the
message is to go, and one that would list nothing does not go.
"""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session
from uuid6 import uuid7

from scheduler.errors import NotFound
from scheduler.keys import Keyring
from scheduler.models import Attempt, Channel, Fate, Kind, OutboxMessage, VisitsRequest
from scheduler.services import booking
from scheduler.services.booking import Visit

LINK_LASTS = timedelta(hours=1)
KEPT = timedelta(days=2)
MOST_AN_HOUR = 3  # to one address: whoever asks in another's name fills no mailbox
PURPOSE = "my-visits"


class Expired(NotFound):
    """A link of ours that works no more."""


def ask(session: Session, email: str, *, address_hash: str, language: str, keys: Keyring, now: datetime) -> None:
    """Owe an address a link to its visits, whether it has any or not."""
    sealed = keys.seal(email)
    assert sealed is not None  # noqa: S101 for the type checker: there is a text
    request = VisitsRequest(
        id=uuid7(), address_sealed=sealed, address_hash=address_hash, language=language, asked_at=now
    )
    session.add(request)
    session.flush()
    session.add(
        OutboxMessage(
            visits_request_id=request.id, kind=Kind.MY_VISITS, channel=Channel.EMAIL, due_at=now, created_at=now
        )
    )


def obsolete(session: Session, request: VisitsRequest, *, keys: Keyring, now: datetime) -> str | None:
    """Why a link must not go any more, if so."""
    if now >= request.asked_at + LINK_LASTS:
        return "asked too long ago"
    lately = (VisitsRequest.asked_at > request.asked_at - LINK_LASTS, VisitsRequest.asked_at <= request.asked_at)
    same = select(func.count()).where(VisitsRequest.address_hash == request.address_hash, *lately)
    if session.execute(same.where(VisitsRequest.id <= request.id)).scalar_one() > MOST_AN_HOUR:
        return "asked too often"
    return None if booking.ahead_of(session, address(request, keys), keys=keys, now=now) else "no visits ahead"


def address(request: VisitsRequest, keys: Keyring) -> str:
    """Where the link goes."""
    return keys.open(request.address_sealed) or ""


def token(request: VisitsRequest, keys: Keyring) -> str:
    """What opens the list, as long as `LINK_LASTS` from when it was asked for."""
    return keys.sign(PURPOSE, request.id.int)


def opened(session: Session, link: str, *, keys: Keyring, now: datetime) -> list[Visit]:
    """The visits to come of the address that a link was sent to; NotFound for one that is not ours, Expired after."""
    signed = keys.signed(PURPOSE, link)
    if not signed:
        raise NotFound("There is no such link.")
    request = session.get(VisitsRequest, UUID(int=signed[0]))
    if request is None or not request.asked_at <= now < request.asked_at + LINK_LASTS:
        raise Expired("This link has expired.")
    return booking.ahead_of(session, address(request, keys), keys=keys, now=now)


def forget_old(session: Session, *, now: datetime) -> None:
    """Forget what was asked for, with its messages that have ended and the tries to send them."""
    old = select(VisitsRequest.id).where(VisitsRequest.asked_at < now - KEPT)
    messages = select(OutboxMessage.id).where(
        OutboxMessage.visits_request_id.in_(old), OutboxMessage.status != Fate.OWED
    )
    session.execute(delete(Attempt).where(Attempt.message_id.in_(messages)))
    ended = OutboxMessage.visits_request_id.in_(old), OutboxMessage.status != Fate.OWED
    session.execute(delete(OutboxMessage).where(*ended))
    owed = select(OutboxMessage.visits_request_id).where(OutboxMessage.visits_request_id.is_not(None))
    session.execute(delete(VisitsRequest).where(VisitsRequest.id.in_(old), VisitsRequest.id.not_in(owed)))
