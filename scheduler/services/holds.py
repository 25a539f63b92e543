"""Starts kept for somebody while they book: claimed like a visit, for some minutes, without a word of who they are.

A hold is found again by its token, or by the start together with the name that a browser session gave itself
(docs/decisions/0011-holds.md). Whoever claims a therapist's time sweeps their expired holds first.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_urlsafe

from sqlalchemy import ColumnElement, Select, and_, delete, false, func, or_, select
from sqlalchemy.orm import Session
from uuid6 import uuid7

from scheduler.db import alone_with
from scheduler.errors import TooMany
from scheduler.keys import fingerprint
from scheduler.models import Appointment, Hold, Status
from scheduler.services import availability, licensing, slots
from scheduler.services.availability import Bookable, SlotName

HELD_BY_ONE_ADDRESS = 30  # a ward or a school behind one address stays below
HELD_BY_ONE_HOLDER = 3
HELD_ONE_IN = 4  # of a location's open starts within the goal
HIDDEN_ONE_IN = 2  # of them, by all that is held
TOKEN_BYTES = 24
FULL = "Too many times are held at this moment. You can book without holding one."


@dataclass(frozen=True, slots=True)
class HoldTime:
    """A wish to keep a start. `holder` is a browser session's random name for itself; `address` is hashed already.

    Without an address, or a holder, its limit is not asked. `instead` is the token of a hold that is given up for it.
    """

    slot_id: str
    appointment_type_id: int
    holder: str | None = None
    address: str | None = None
    instead: str | None = None


@dataclass(frozen=True, slots=True)
class Keeper:
    """What somebody shows to be who keeps a start: its token, the name of their browser session, or neither."""

    token: str | None = None
    holder: str | None = None

    def keeps(self, name: SlotName) -> ColumnElement[bool]:
        """Whether a hold is theirs: by its token whatever it is of, by their name if it is of this start."""
        by_token = Hold.token_sha256 == fingerprint(self.token) if self.token else false()
        by_name = Hold.holder_sha256 == fingerprint(self.holder) if self.holder else false()
        return and_(or_(by_token, by_name), or_(by_token, and_(*_of(name))))  # an index finds what the first half names


NOBODY = Keeper()
EXPIRES = Appointment.expires_at.is_not(None)  # the few rows of its index


@dataclass(frozen=True, slots=True)
class Held:
    """A start that is kept; only this answer knows the token."""

    token: str
    expires_at: datetime
    start: Bookable


def hold(session: Session, request: HoldTime, *, now: datetime) -> Held:
    """Keep a start that nobody else can then see or book, for as long as the clinic's policy says.

    The same holder asking for the same start keeps it anew, under another token, and by the rules as they are now.
    Raises Invalid for an unknown slot or type, a NotBookable as booking does, TooMany past a limit.
    """
    name = SlotName.parse(request.slot_id)
    _wait_for_others_who_count(session, request, name)
    take(session, request.slot_id, Keeper(request.instead, request.holder), now=now)
    start = availability.require_bookable(session, request.slot_id, request.appointment_type_id, now=now)
    needling = start.kind.includes_needling
    licensing.require_license(session, start.therapist.id, start.location.state, needling=needling, on=start.local_date)
    _require_few(session, request, now)
    token = token_urlsafe(TOKEN_BYTES)
    held = _row(start, now)
    slots.claim(session, held, release=availability.release(start.policy, now))
    session.add(held)
    session.flush()
    holder = fingerprint(request.holder) if request.holder else None
    session.add(
        Hold(
            appointment_id=held.id,
            token_sha256=fingerprint(token),
            address_hash=request.address,
            holder_sha256=holder,
        )
    )
    _require_few_at(session, start, now)
    return Held(token, now + _kept_for(start), start)


def find(
    session: Session, slot_id: str, appointment_type_id: int, keeper: Keeper, *, now: datetime
) -> Appointment | None:
    """The live hold of this very start for a visit of this type, if it is this keeper's."""
    name = SlotName.parse(slot_id)
    live = _holds().where(*_of(name), keeper.keeps(name), Appointment.expires_at > now)
    return session.scalars(live.where(Appointment.appointment_type_id == appointment_type_id)).first()


def take(
    session: Session, slot_id: str, keeper: Keeper, *, beside: Collection[int] = (), now: datetime
) -> Appointment | None:
    """Lock and sweep the therapist of a start to be claimed, and those `beside`; free what its keeper held.

    Returns the hold of this very start, which is no longer stored; a token's hold of another start is given up, for
    who books one has chosen. Raises Invalid for a text that no slot ever had.
    """
    name = SlotName.parse(slot_id)
    concerned = {name.therapist_id, *beside}
    freed = _freed(session, concerned, keeper.keeps(name) if keeper != NOBODY else None, now)
    return next((one for one in freed if _is_of(one, name)), None)


def release(session: Session, token: str, *, now: datetime) -> None:
    """Give a start up; nothing is to be done for a token that holds nothing any more, or never did."""
    _freed(session, set(), Hold.token_sha256 == fingerprint(token), now)


def sweep(session: Session, therapist_ids: Collection[int], *, now: datetime) -> None:
    """Lock these therapists and put what expired of their holds back on offer."""
    slots.lock(session, therapist_ids)
    expired = select(Appointment).where(Appointment.expires_at <= now, Appointment.therapist_id.in_(therapist_ids))
    for one in session.scalars(expired).all():
        _free(session, one, now)


def overdue(session: Session, *, now: datetime) -> Sequence[int]:
    """Whose calendars have expired holds."""
    expired = select(Appointment.therapist_id).where(Appointment.expires_at <= now)
    return session.scalars(expired.distinct().order_by(Appointment.therapist_id)).all()


def give_way(session: Session, visits: Sequence[Appointment], *, now: datetime) -> None:
    """Free whatever is held where these visits, which were made elsewhere, take their cells. Lock the therapists."""
    held = _holds().where(Appointment.therapist_id.in_({visit.therapist_id for visit in visits}))
    for one in session.scalars(held).all():
        if any(_meet(one, visit) for visit in visits):
            _free(session, one, now)


def _meet(one: Appointment, other: Appointment) -> bool:
    same = one.therapist_id == other.therapist_id
    return same and one.slots_start < other.slots_end and other.slots_start < one.slots_end


def _holds() -> Select[Appointment]:
    return select(Appointment).join(Hold, Hold.appointment_id == Appointment.id).where(EXPIRES)


def _of(name: SlotName) -> tuple[ColumnElement[bool], ...]:
    return (
        Appointment.therapist_id == name.therapist_id,
        Appointment.location_id == name.location_id,
        Appointment.starts_at == name.starts_at,
    )


def _is_of(held: Appointment, name: SlotName) -> bool:
    return SlotName(held.therapist_id, held.location_id, held.starts_at) == name


def _freed(
    session: Session, therapist_ids: set[int], meant: ColumnElement[bool] | None, now: datetime
) -> list[Appointment]:
    """Lock these therapists and those of the live holds that are meant, sweep, and free and return those holds.

    What was found is asked for again under the locks: somebody else may have been faster.
    """
    if meant is None:
        sweep(session, therapist_ids, now=now)
        return []
    found = session.execute(_holds().where(meant).with_only_columns(Appointment.id, Appointment.therapist_id)).all()
    sweep(session, therapist_ids | {therapist_id for _, therapist_id in found}, now=now)
    still = select(Appointment).where(Appointment.id.in_([held_id for held_id, _ in found]), EXPIRES)
    live = list(session.scalars(still)) if found else []
    for one in live:
        _free(session, one, now)
    return live


def _free(session: Session, held: Appointment, now: datetime) -> None:
    slots.free(session, held, now=now)
    session.expunge(held)  # what it was is still asked of it
    session.execute(delete(Hold).where(Hold.appointment_id == held.id))
    session.execute(delete(Appointment).where(Appointment.id == held.id))


def _row(start: Bookable, now: datetime) -> Appointment:
    return Appointment(
        id=uuid7(),
        therapist_id=start.therapist.id,
        location_id=start.location.id,
        appointment_type_id=start.kind.id,
        starts_at=start.slot.starts_at,
        ends_at=start.ends_at,
        buffer_minutes=start.kind.buffer_minutes,
        status=Status.HELD,
        booked_at=now,
        expires_at=now + _kept_for(start),
    )


def _kept_for(start: Bookable) -> timedelta:
    return timedelta(minutes=start.policy.hold_minutes)


def _wait_for_others_who_count(session: Session, request: HoldTime, name: SlotName) -> None:
    """Be the only one who counts these holds until the end: first by holder, then by address, then by location."""
    holder = fingerprint(request.holder) if request.holder else None
    for counted in (holder, request.address):
        if counted is not None:
            alone_with(session, f"holds of {counted}")
    alone_with(session, f"holds at {name.location_id}")


def _require_few(session: Session, request: HoldTime, now: datetime) -> None:
    """Raise TooMany where the holder or the address keeps as many starts as one may."""
    limits: list[tuple[ColumnElement[bool], int]] = []
    if request.holder:
        limits.append((Hold.holder_sha256 == fingerprint(request.holder), HELD_BY_ONE_HOLDER))
    if request.address is not None:
        limits.append((Hold.address_hash == request.address, HELD_BY_ONE_ADDRESS))
    for whose, most in limits:
        held, first = _count(session, whose, Hold.appointment_id == Appointment.id, now=now)
        if first is not None and held >= most:
            raise _too_many(first, now)


def _require_few_at(session: Session, start: Bookable, now: datetime) -> None:
    """Raise TooMany where more than one in four of the location's open starts within the goal would be held.

    Nor may holds hide more than one in two of them: an hour that is held hides seven starts, and by their number alone
    a stranger could hide a small location's every time. Open are the starts that would be if nothing were held; starts
    beyond the goal take nothing from it. To be asked once the start is claimed, and counted with the others.
    """
    until = now + timedelta(hours=start.policy.access_goal_hours)
    if start.slot.starts_at > until:
        return
    here = and_(Appointment.location_id == start.location.id, Appointment.starts_at.between(now, until))
    held, first = _count(session, here, now=now)
    open_, offered = availability.open_starts(session, start, until, now=now)
    if held * HELD_ONE_IN > open_ or (open_ - offered) * HIDDEN_ONE_IN > open_:
        raise _too_many(first or now + _kept_for(start), now)


def _count(session: Session, *of: ColumnElement[bool], now: datetime) -> tuple[int, datetime | None]:
    """How many live holds there are, and when the first of them expires."""
    live = select(func.count(), func.min(Appointment.expires_at))
    held, first = session.execute(live.where(Appointment.expires_at > now, *of)).one()
    return held, first


def _too_many(first: datetime, now: datetime) -> TooMany:
    return TooMany(FULL, retry_after=int((first - now).total_seconds()) + 1)
