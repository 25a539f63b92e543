"""When places are closed and therapists are off: one range each, however long, by the clock on the wall there.

A closure, and time off once it is approved, takes its times off the calendar in its own transaction; visits that are
booked then stay booked and are listed. What has begun is history: it can only end.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from scheduler.errors import Conflict, Invalid
from scheduler.models import Closure, Location, Therapist, TimeOff, TimeOffStatus, WorkingHours
from scheduler.services import audit, calendar_files, consequences, edits, notices
from scheduler.services.audit import Actor
from scheduler.timeline import DAY, DAY_MINUTES, WallRange, instants_of, local_date, zone_of

LONGEST = calendar_files.LONGEST
BEGUN = "This has begun, so it can only end."
PASSED = "This has passed."


@dataclass(frozen=True, slots=True)
class ClosureDetails:
    """What of a closure can be changed; minutes count from local midnight, 24 * 60 is the end of a day."""

    starts_on: date
    starts_minute: int
    ends_on: date
    ends_minute: int
    reason: str


@dataclass(frozen=True, slots=True)
class Holiday:
    """A public holiday, and the places that keep it."""

    day: date
    name: str
    location_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OffDetails:
    """What of time off can be changed; the note is for the clinic's people."""

    starts_on: date
    starts_minute: int
    ends_on: date
    ends_minute: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """How many times of a calendar file were asked for, and how many had been before."""

    asked: int
    known: int


class Decided(Conflict):
    """Somebody has approved or declined this time off already."""

    code = "decided"


def close(
    session: Session,
    location_ids: Collection[int],
    details: ClosureDetails,
    *,
    agreed: str | None,
    by: Actor,
    now: datetime,
) -> list[Closure]:
    """Close places for a time. Raises NotFound, Invalid for a range out of order or past, NotAgreed."""
    consequences.alone(session)
    places = [edits.locked(session, Location, place) for place in sorted(set(location_ids))]
    for place in places:
        _require_ahead(details, zone_of(place.time_zone), now)
    return _closed(session, [(place.id, details) for place in places], agreed=agreed, by=by, now=now)


def close_on(
    session: Session, holidays_: Collection[Holiday], *, agreed: str | None, by: Actor, now: datetime
) -> list[Closure]:
    """Close for whole days the places that keep these holidays. Raises NotAgreed, for all of them at once."""
    consequences.alone(session)
    days = ((one, ClosureDetails(one.day, 0, one.day, DAY_MINUTES, one.name)) for one in holidays_)
    wanted = [(place, details) for one, details in days for place in one.location_ids]
    return _closed(session, wanted, agreed=agreed, by=by, now=now)


def change_closure(
    session: Session,
    closure_id: int,
    details: ClosureDetails,
    *,
    seal: str,
    agreed: str | None,
    by: Actor,
    now: datetime,
) -> None:
    """Change a closure. Raises NotFound, ChangedMeanwhile, Invalid (what has begun can only end), NotAgreed."""
    consequences.alone(session)
    closure = edits.locked(session, Closure, closure_id)
    before = edits.read_off(ClosureDetails, closure)
    edits.require_seen(before, seal)
    zone = zone_of(session.get_one(Location, closure.location_id).time_zone)
    _require_change(before, details, zone, now)
    concerned = consequences.therapists_at(session, [closure.location_id], now=now)
    with consequences.weighed(session, concerned, agreed=agreed, now=now):
        edits.write(closure, details)
    edits.note(session, "closure.changed", closure, before, details, by=by, now=now)


def open_again(session: Session, closure_id: int, *, agreed: str | None = None, by: Actor, now: datetime) -> None:
    """Take a closure back that has not begun; its times can be booked at once. Raises NotFound, Invalid, NotAgreed."""
    consequences.alone(session)
    closure = edits.locked(session, Closure, closure_id)
    _require_not_begun(closure, zone_of(session.get_one(Location, closure.location_id).time_zone), now)
    concerned = consequences.therapists_at(session, [closure.location_id], now=now)
    with consequences.weighed(session, concerned, agreed=agreed, now=now):
        details = edits.plain(edits.read_off(ClosureDetails, closure))
        audit.record(session, "closure.removed", closure, by=by, now=now, location_id=closure.location_id, **details)
        session.delete(closure)


def holidays_of(state: str, first: date, last: date) -> list[tuple[date, str]]:
    """The public holidays of a state from `first` to `last`, with the days on which they are observed, by day."""
    import holidays  # noqa: PLC0415 slow to import, and few need it

    years = range(first.year, last.year + 1)
    found = holidays.country_holidays("US", subdiv=state, years=years, observed=True, language="en_US")
    return sorted((day, name) for day, name in found.items() if first <= day <= last)


def holidays_ahead(session: Session, location_ids: Collection[int], *, now: datetime) -> list[Holiday]:
    """The public holidays of a year from now, by day: those of each place's state, where it is not closed all day yet.

    A holiday that several states keep is one. Two queries.
    """
    places = session.scalars(select(Location).where(Location.id.in_(location_ids), Location.active)).all()
    closed = closures(session, location_ids, since=now.date() - DAY)
    open_at: dict[tuple[date, str], list[int]] = defaultdict(list)
    for place in sorted(places, key=lambda place: place.id):
        tomorrow = local_date(now, zone_of(place.time_zone)) + DAY
        for day, name in holidays_of(place.state, tomorrow, tomorrow + LONGEST - DAY):
            if not any(_covers(one, day) for one in closed if one.location_id == place.id):
                open_at[day, name].append(place.id)
    return [Holiday(day, name, tuple(ids)) for (day, name), ids in sorted(open_at.items())]


def ask(session: Session, therapist_id: int, details: OffDetails, *, by: Actor, now: datetime) -> TimeOff:
    """Ask for time off; nothing of the calendar follows until it is approved. Raises NotFound, Invalid."""
    edits.found(session, Therapist, therapist_id)
    _require_ahead(details, _latest_zone(session, therapist_id, now), now)
    return _stored(session, therapist_id, details, TimeOffStatus.ASKED, None, by=by, now=now)


def ask_by_file(
    session: Session, therapist_id: int, told: Collection[calendar_files.Away], *, by: Actor, now: datetime
) -> Read:
    """Ask for every time that a calendar file tells by the clocks of `zones_of`, read before the transaction.

    One that was asked for, whatever became of it, is not asked for again. Raises NotFound.
    """
    edits.locked(session, Therapist, therapist_id)
    kept = set(session.scalars(select(TimeOff.imported_as).where(TimeOff.therapist_id == therapist_id)))
    new = [one for one in told if one.name not in kept]
    for one in new:
        details = OffDetails(one.starts_on, one.starts_minute, one.ends_on, one.ends_minute)
        _stored(session, therapist_id, details, TimeOffStatus.ASKED, one.name, by=by, now=now)
    return Read(len(new), len(told) - len(new))


def give(
    session: Session, therapist_id: int, details: OffDetails, *, agreed: str | None, by: Actor, now: datetime
) -> TimeOff:
    """Give a therapist time off at once. Raises NotFound, Invalid, NotAgreed."""
    consequences.alone(session)
    edits.locked(session, Therapist, therapist_id)
    _require_ahead(details, _latest_zone(session, therapist_id, now), now)
    with consequences.weighed(session, [therapist_id], agreed=agreed, now=now):
        return _stored(session, therapist_id, details, TimeOffStatus.APPROVED, None, by=by, now=now)


def decide(
    session: Session, time_off_id: int, status: TimeOffStatus, *, agreed: str | None, by: Actor, now: datetime
) -> TimeOff:
    """Approve or decline what was asked for. Raises NotFound, Decided when somebody did otherwise, NotAgreed."""
    consequences.alone(session)
    absence = edits.locked(session, TimeOff, time_off_id)
    if absence.status == status:
        return absence
    if absence.status != TimeOffStatus.ASKED:
        raise Decided("Somebody has decided this already.")
    with consequences.weighed(session, [absence.therapist_id], agreed=agreed, now=now):
        absence.status = status
    audit.record(session, f"time_off.{status}", absence, by=by, now=now, therapist_id=absence.therapist_id)
    notices.time_off_decided(session, absence, by=by, now=now)
    return absence


def change_time_off(
    session: Session,
    time_off_id: int,
    details: OffDetails,
    *,
    seal: str,
    agreed: str | None,
    by: Actor,
    now: datetime,
) -> None:
    """Change approved time off: whoever is back early can be booked again at once.

    Raises NotFound, ChangedMeanwhile, Invalid (what has begun can only end, and what is not approved is not changed),
    NotAgreed.
    """
    consequences.alone(session)
    absence = edits.locked(session, TimeOff, time_off_id)
    before = edits.read_off(OffDetails, absence)
    edits.require_seen(before, seal)
    if absence.status != TimeOffStatus.APPROVED:
        raise Invalid("ends_on", "Only time off that is approved can be changed.")
    _require_change(before, details, _latest_zone(session, absence.therapist_id, now), now)
    with consequences.weighed(session, [absence.therapist_id], agreed=agreed, now=now):
        edits.write(absence, details)
    edits.note(session, "time_off.changed", absence, before, details, by=by, now=now)


def withdraw(session: Session, time_off_id: int, *, agreed: str | None = None, by: Actor, now: datetime) -> None:
    """Take back time off that has not begun, whether it was decided or not; its times can be booked at once.

    Raises NotFound, Invalid for what has begun, NotAgreed.
    """
    consequences.alone(session)
    absence = edits.locked(session, TimeOff, time_off_id)
    if absence.status == TimeOffStatus.DECLINED:
        raise Invalid("ends_on", "This was declined, so there is nothing to take back.")
    if absence.status == TimeOffStatus.APPROVED:
        _require_not_begun(absence, _latest_zone(session, absence.therapist_id, now), now)
    with consequences.weighed(session, [absence.therapist_id], agreed=agreed, now=now):
        whose = {"therapist_id": absence.therapist_id, "status": absence.status}
        details = edits.plain(edits.read_off(OffDetails, absence))
        audit.record(session, "time_off.withdrawn", absence, by=by, now=now, **whose, **details)
        session.delete(absence)


def closures(session: Session, location_ids: Collection[int] | None, *, since: date) -> Sequence[Closure]:
    """The closures of these places, or of all, that are not over on a day, soonest first."""
    wanted: list[ColumnElement[bool]] = [Closure.ends_on >= since]
    if location_ids is not None:
        wanted.append(Closure.location_id.in_(location_ids))
    return session.scalars(select(Closure).where(*wanted).order_by(Closure.starts_on, Closure.id)).all()


def time_off_of(session: Session, therapist_ids: Collection[int] | None, *, since: date) -> Sequence[TimeOff]:
    """The time off of these therapists, or of all, that is not over on a day, soonest first; declined too."""
    wanted: list[ColumnElement[bool]] = [TimeOff.ends_on >= since]
    if therapist_ids is not None:
        wanted.append(TimeOff.therapist_id.in_(therapist_ids))
    return session.scalars(select(TimeOff).where(*wanted).order_by(TimeOff.starts_on, TimeOff.id)).all()


def _closed(
    session: Session,
    wanted: Collection[tuple[int, ClosureDetails]],
    *,
    agreed: str | None,
    by: Actor,
    now: datetime,
) -> list[Closure]:
    """Store closures, each of one place, weighed together."""
    concerned = consequences.therapists_at(session, [place for place, _ in wanted], now=now)
    with consequences.weighed(session, concerned, agreed=agreed, now=now):
        added = [Closure(location_id=place, **asdict(details)) for place, details in wanted]
        session.add_all(added)
    for closure, (place, details) in zip(added, wanted, strict=True):
        audit.record(session, "closure.added", closure, by=by, now=now, location_id=place, **edits.plain(details))
    return added


def _covers(closure: Closure, day: date) -> bool:
    begun = (closure.starts_on, closure.starts_minute) <= (day, 0)
    return begun and (closure.ends_on, closure.ends_minute) >= (day, DAY_MINUTES)


def _stored(
    session: Session,
    therapist_id: int,
    details: OffDetails,
    status: TimeOffStatus,
    imported_as: str | None,
    *,
    by: Actor,
    now: datetime,
) -> TimeOff:
    absence = TimeOff(
        therapist_id=therapist_id, status=status, imported_as=imported_as, asked_at=now, **asdict(details)
    )
    session.add(absence)
    session.flush()
    whose = {"therapist_id": therapist_id, "status": status}
    audit.record(session, "time_off.added", absence, by=by, now=now, **whose, **edits.plain(details))
    return absence


def _require_ahead(wall: WallRange, zone: ZoneInfo, now: datetime) -> None:
    """Raise Invalid for a range that is out of order, over, or longer than anybody means."""
    starts, ends = (wall.starts_on, wall.starts_minute), (wall.ends_on, wall.ends_minute)
    if ends <= starts:
        raise Invalid("ends_on", "This is before it starts.")
    if wall.ends_on - wall.starts_on > LONGEST:
        raise Invalid("ends_on", "This is longer than a year.")
    if instants_of(wall, zone)[1] <= now:
        raise Invalid("ends_on", PASSED)


def _require_change(before: WallRange, after: WallRange, zone: ZoneInfo, now: datetime) -> None:
    """Raise Invalid for what would change what has been."""
    began, ended = instants_of(before, zone)
    if ended <= now:
        raise Invalid("ends_on", PASSED)
    if began <= now and (after.starts_on, after.starts_minute) != (before.starts_on, before.starts_minute):
        raise Invalid("starts_on", BEGUN)
    _require_ahead(after, zone, now)


def _require_not_begun(wall: WallRange, zone: ZoneInfo, now: datetime) -> None:
    if instants_of(wall, zone)[0] <= now:
        raise Invalid("ends_on", BEGUN)


def _latest_zone(session: Session, therapist_id: int, now: datetime) -> ZoneInfo:
    """The zone whose clock is furthest behind, where a therapist works: there a day is over last."""
    return min(zones_of(session, therapist_id), key=lambda zone: now.astimezone(zone).replace(tzinfo=None))


def zones_of(session: Session, therapist_id: int) -> list[ZoneInfo]:
    """The zones of the places where a therapist works; of all places, for who has no hours yet."""
    zones = select(Location.time_zone).join(WorkingHours, WorkingHours.location_id == Location.id)
    own = session.scalars(zones.where(WorkingHours.therapist_id == therapist_id).distinct()).all()
    named = own or session.scalars(select(Location.time_zone).distinct()).all() or ["UTC"]
    return [zone_of(name) for name in named]
