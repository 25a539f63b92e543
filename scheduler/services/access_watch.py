"""Word to administrators when a miss of the access goal is foreseen, begins and ends: once each, and no storm.

A tick looks (`look`, a reading), then notes what has changed (`note`, a short write): what is told follows from the
state of the location, from the look, and from what was said that day, by the pure function `step`.
docs/access.md has the rules in words.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from zoneinfo import ZoneInfo

from sqlalchemy import select, true
from sqlalchemy.orm import Session

from scheduler.db import alone_with, insert_into
from scheduler.models import (
    AccessWatch,
    AccessWord,
    Account,
    AccountLocation,
    AppointmentType,
    Kind,
    Location,
    Reason,
    WorkingHours,
)
from scheduler.services import access_goal, access_hours, levers, notices
from scheduler.services.access_rules import FORESEEN, Cause, Miss
from scheduler.services.availability import Place
from scheduler.timeline import DAY, local_date, zone_of

BEGINS_AFTER = timedelta(minutes=30)  # so long readings must agree before a change of them counts
ENDS_AFTER = timedelta(hours=1)
WEEK = 7 * DAY
GRAVEST = (Kind.GOAL_MISSED, Kind.GOAL_FORESEEN, Kind.GOAL_KEPT)


@dataclass(frozen=True, slots=True)
class Latch:
    """Something that counts as so or not, since when, and since when the readings say the contrary."""

    on: bool
    since: datetime
    turning: datetime | None = None

    def after(self, reading: bool, now: datetime) -> "Latch":
        """Turned once readings have disagreed for long enough; it then counts as turned since the first of them."""
        if reading == self.on:
            return Latch(self.on, self.since)
        turning = self.turning or now
        if now - turning >= (BEGINS_AFTER if reading else ENDS_AFTER):
            return Latch(reading, turning)
        return Latch(self.on, self.since, turning)


@dataclass(frozen=True, slots=True)
class MissedAt:
    """A moment without a start within the goal, and why.

    `gap` is the local weekday (0 for Monday) of the start that a structural miss waits for: with it the weekly hours
    miss the goal every week.
    """

    at: datetime
    reason: Reason
    gap: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """How the goal stands at a location: missed now and why, misses foreseen, a name of the hours as they are."""

    location: Place
    goal_hours: int
    missed: MissedAt | None
    foreseen: Sequence[MissedAt]
    plan_sha256: str


@dataclass(frozen=True, slots=True)
class State:
    """A row of AccessWatch."""

    missed: Latch
    missed_told: bool
    foreseen: Latch
    foreseen_told: bool
    gaps_told: frozenset[str]


@dataclass(frozen=True, slots=True)
class Word:
    kind: Kind
    at: datetime
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Alert:
    """A line of a letter: what is told of where, of which moment, and for which reason; none where it is kept again."""

    kind: Kind
    location_id: int
    place: str
    time_zone: str
    goal_hours: int
    at: datetime
    reason: Reason | None


def missed_now(
    now: datetime, planned: Sequence[datetime], notice: timedelta, goal: timedelta, zone: ZoneInfo
) -> MissedAt:
    """Why no start is within reach of a moment: none is planned there, or those that are planned are gone."""
    if bisect_right(planned, now + goal) > bisect_left(planned, now + notice):
        return MissedAt(now, Reason.CAPACITY)
    return _without_hours(now, planned, goal, zone)


def told_ahead(misses: Iterable[Miss], planned: Sequence[datetime], goal: timedelta, zone: ZoneInfo) -> list[MissedAt]:
    """What is foreseen (`access_rules.foreseen`) with its reasons: each reason and gap once, the soonest first."""
    found: dict[tuple[Reason, int | None], MissedAt] = {}
    for miss in misses:
        at = miss.begins_at
        taken = miss.cause is Cause.CAPACITY
        named = MissedAt(at, Reason.CAPACITY) if taken else _without_hours(at, planned, goal, zone)
        found.setdefault((named.reason, named.gap), named)
    return list(found.values())


def _without_hours(at: datetime, planned: Sequence[datetime], goal: timedelta, zone: ZoneInfo) -> MissedAt:
    """A miss for want of hours: before which weekday's, or before none of the week after."""
    later = bisect_right(planned, at + goal)
    if later < len(planned) and planned[later] <= at + goal + WEEK:
        return MissedAt(at, Reason.STRUCTURAL, local_date(planned[later], zone).weekday())
    return MissedAt(at, Reason.NONE_OPEN)


def step(state: State, look: Look, said: Collection[Kind], *, now: datetime) -> tuple[State, list[Word]]:
    """The state after a look, and the words to be said; `said` are the kinds that were said on this local day.

    A gap that the weekly hours leave each week is told once. What may not be said today is said as soon as it may, if
    it is still so.
    """
    gaps, words = set(state.gaps_told), list[Word]()
    missed, missed_told = state.missed.after(look.missed is not None, now), state.missed_told
    if missed.on and not missed_told and look.missed is not None and Kind.GOAL_MISSED not in said:
        gap = _gap(Kind.GOAL_MISSED, look.missed)
        if gap not in gaps:
            words.append(Word(Kind.GOAL_MISSED, missed.since, look.missed.reason))
            missed_told, gaps = True, gaps | {gap} - {""}
    elif not missed.on and missed_told and Kind.GOAL_KEPT not in said:
        words.append(Word(Kind.GOAL_KEPT, missed.since, None))
        missed_told = False
    news = [one for one in look.foreseen if _gap(Kind.GOAL_FORESEEN, one) not in gaps]
    foreseen = state.foreseen.after(bool(news) and look.missed is None and not missed.on, now)
    foreseen_told = state.foreseen_told and foreseen.on
    unsaid = [one for one in news if not foreseen_told or one.gap is not None]
    if foreseen.on and foreseen.turning is None and unsaid and Kind.GOAL_FORESEEN not in said:
        words.append(Word(Kind.GOAL_FORESEEN, unsaid[0].at, unsaid[0].reason))
        foreseen_told = foreseen_told or unsaid[0].gap is None
        gaps |= {_gap(Kind.GOAL_FORESEEN, unsaid[0])} - {""}
    return State(missed, missed_told, foreseen, foreseen_told, frozenset(gaps)), words


def _gap(kind: Kind, miss: MissedAt) -> str:
    """The name of a gap that may have been told; empty for a miss that is none."""
    return "" if miss.gap is None else f"{kind} {miss.gap}"


def look(session: Session, *, now: datetime) -> tuple[AppointmentType, list[Look]] | None:
    """How the goal stands at each location that patients can book online; None without a visit for new patients.

    As many queries at any size; nothing is locked or written.
    """
    scene = levers.read(session, true(), now=now)
    if scene is None:
        return None
    access = access_goal.measure(session, now=now, appointment_type_id=scene.kind.id, history=False)
    until = now + FORESEEN + scene.goal + WEEK + DAY
    hours, plans, looks = access_hours.read(session, now, until).moments(scene.kind), _plans(session), []
    for at in access.locations:
        place, zone = at.location.id, zone_of(at.location.time_zone)
        planned = hours.get(place, ())
        missed = None if at.figures.within_goal else missed_now(now, planned, scene.notice, scene.goal, zone)
        ahead = told_ahead(scene.foreseen(place), planned, scene.goal, zone)
        looks.append(Look(at.location, access.goal_hours, missed, ahead, plans[place]))
    return scene.kind, looks


def _plans(session: Session) -> dict[int, str]:
    """A name of the weekly hours of each location, which is another one once they change."""
    row = WorkingHours
    times = row.weekday, row.opens_minute, row.closes_minute, row.every_weeks
    rules = *times, row.valid_from, row.valid_until, row.standby
    found = defaultdict[int, list[str]](list)
    for place, *hours in session.execute(select(row.location_id, row.therapist_id, *rules)):
        found[place].append(str(hours))
    named = {place: sha256("\n".join(sorted(hours)).encode()).hexdigest() for place, hours in found.items()}
    return defaultdict(str, named)


def note(session: Session, kind: AppointmentType, looks: Iterable[Look], *, now: datetime) -> None:
    """Keep the state of each location, and owe those who administer it what is to be told, in one transaction.

    Whoever is told of several locations at one moment gets one letter.

    One worker at a time: the next one finds what was told. The key of AccessWord lets one word of a kind a day be said
    even so.
    """
    alone_with(session, "watch of the access goal")
    rows = session.scalars(select(AccessWatch).where(AccessWatch.appointment_type_id == kind.id))
    watched = {row.location_id: row for row in rows}
    said, told = _said(session, now), defaultdict[int, set[Kind]](set)
    for one in looks:
        row = watched.get(one.location.id) or _unwatched(session, kind.id, one, now)
        day = local_date(now, zone_of(one.location.time_zone))
        gaps = frozenset(row.gaps_told) if row.plan_sha256 == one.plan_sha256 else frozenset[str]()
        before = State(
            Latch(row.missed, row.missed_since, row.missed_turning),
            row.missed_told,
            Latch(row.foreseen, row.foreseen_since, row.foreseen_turning),
            row.foreseen_told,
            gaps,
        )
        state, words = step(before, one, said[one.location.id, day], now=now)
        _keep(row, state, one.plan_sha256)
        told[one.location.id] |= {word.kind for word in words if _say(session, one, word, day, now)}
    _owe(session, {place: kinds for place, kinds in told.items() if kinds}, now)


def _said(session: Session, now: datetime) -> dict[tuple[int, date], set[Kind]]:
    """The kinds of words said at each location on each local day that it may be now."""
    said = defaultdict[tuple[int, date], set[Kind]](set)
    for word in session.scalars(select(AccessWord).where(AccessWord.day >= now.date() - DAY)):
        said[word.location_id, word.day].add(Kind(word.kind))
    return said


def _unwatched(session: Session, kind_id: int, look: Look, now: datetime) -> AccessWatch:
    """The first state of a location: kept, and nothing told."""
    row = AccessWatch(
        appointment_type_id=kind_id,
        location_id=look.location.id,
        missed=False,
        missed_since=now,
        missed_told=False,
        foreseen=False,
        foreseen_since=now,
        foreseen_told=False,
        plan_sha256=look.plan_sha256,
        gaps_told=[],
    )
    session.add(row)
    return row


def _keep(row: AccessWatch, state: State, plan_sha256: str) -> None:
    row.missed, row.missed_since, row.missed_turning = state.missed.on, state.missed.since, state.missed.turning
    row.missed_told, row.foreseen_told = state.missed_told, state.foreseen_told
    foreseen = state.foreseen
    row.foreseen, row.foreseen_since, row.foreseen_turning = foreseen.on, foreseen.since, foreseen.turning
    row.plan_sha256, row.gaps_told = plan_sha256, sorted(state.gaps_told)


def _say(session: Session, look: Look, word: Word, day: date, now: datetime) -> bool:
    """Say a word of a location, unless one of this kind was said there this day; return whether it was said."""
    new = insert_into(session, AccessWord).values(
        location_id=look.location.id,
        kind=word.kind,
        day=day,
        at=word.at,
        reason=word.reason,
        goal_hours=look.goal_hours,
        said_at=now,
    )
    return session.execute(new.on_conflict_do_nothing().returning(AccessWord.kind)).first() is not None


def _owe(session: Session, told: Mapping[int, Collection[Kind]], now: datetime) -> None:
    """Owe each administrator one letter of all that was said just now of their locations, named by its gravest word."""
    if not told:
        return
    concerned = select(Account.id, Account.everywhere, AccountLocation.location_id).outerjoin(AccountLocation)
    theirs = defaultdict[int, set[Kind]](set)
    there = concerned.where(Account.active, notices.administers(list(told)))
    for account_id, everywhere, place_id in session.execute(there):
        places = told.values() if everywhere else [told.get(place_id, ())]
        theirs[account_id].update(*places)
    for account_id, kinds in sorted(theirs.items()):
        notices.owe(session, account_id, min(kinds, key=GRAVEST.index), now.isoformat(), now=now)


def told(session: Session, about: str, account: Account) -> tuple[Alert, ...]:
    """What was said at the moment that a letter is about, of what its reader administers: the gravest first."""
    words = select(AccessWord, Location).join(Location, Location.id == AccessWord.location_id)
    if not account.everywhere:
        own = select(AccountLocation.location_id).where(AccountLocation.account_id == account.id)
        words = words.where(Location.id.in_(own))
    found = [
        Alert(
            Kind(word.kind),
            place.id,
            place.name,
            place.time_zone,
            word.goal_hours,
            word.at,
            Reason(word.reason) if word.reason else None,
        )
        for word, place in session.execute(words.where(AccessWord.said_at == datetime.fromisoformat(about)))
    ]
    return tuple(sorted(found, key=lambda one: (GRAVEST.index(one.kind), one.place, one.location_id)))
