"""What would bring the goal back at a location, by name and with its effect counted; and opening standby by rule.

Everything is counted from one reading of the rows (`Scene`): hours as planned, less what is taken, so that what is told
of a lever is what search offers once it is used. Nobody is ever booked twice: there is no lever of overbooking.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from scheduler.errors import Invalid
from scheduler.models import (
    Account,
    Appointment,
    AppointmentType,
    Lever,
    LeverUse,
    Location,
    Promise,
    Slot,
    Therapist,
    WorkingHours,
)
from scheduler.services import (
    access_requests,
    access_rules,
    audit,
    availability,
    consequences,
    hours,
    letting_go,
    licensing,
    practice,
    protection,
    slots,
    staffing,
    standby,
)
from scheduler.services.access_rules import FORESEEN, Cause, Miss
from scheduler.services.audit import Actor
from scheduler.services.availability import SlotName
from scheduler.services.hours import Shift
from scheduler.services.letting_go import KeptDay
from scheduler.services.licensing import Licences
from scheduler.services.planned import Away, planned_time
from scheduler.services.practice import Offering
from scheduler.services.protection import KeptAhead
from scheduler.services.standby import StandbyDay
from scheduler.services.windows import Times
from scheduler.timeline import (
    CELL,
    DAY,
    DAY_MINUTES,
    HOUR,
    Stretch,
    clipped,
    first_instant,
    local_date,
    next_cell,
    without,
    zone_of,
)

MOST_ASKED = 10
RULE = Actor("worker")


@dataclass(frozen=True, slots=True)
class Need:
    """How the goal stands at a location: what is missed now, or will be within access_rules.FORESEEN, as is foreseen.

    A miss that lies ahead counts where it is one of capacity; one that has begun, whatever its cause. `window` holds
    the first and the last start that the first miss wants, or that one wants now where none is missed. `gap` is the
    first miss ahead that the hours alone make, which is told and counts for nothing else.
    """

    promise: Promise
    misses: Sequence[Miss]
    window: Times
    gap: Miss | None = None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another location of the area: starts in the window, its `cells` quarter hours, and how many starts of whom."""

    location: Location
    soonest: datetime
    starts: int
    cells: int
    therapists: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Standby:
    """A day on standby that is not opened, with the starts in the window and the hours that opening it gives."""

    of: StandbyDay
    starts: int
    hours: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody who does not work on a day, when they usually would, and what that would give; how to reach them."""

    therapist_id: int
    therapist: str
    email: str | None
    day: date
    starts_at: datetime
    ends_at: datetime
    starts: int
    cells: int

    @property
    def hours(self) -> float:
        return self.cells * CELL / HOUR


@dataclass(frozen=True, slots=True)
class Levers:
    """What can be done for a location, in this order."""

    need: Need
    elsewhere: Sequence[Elsewhere]
    kept: KeptAhead
    release: Sequence[KeptDay]
    standby: Sequence[Standby]
    ask: Sequence[Ask]


@dataclass(frozen=True, slots=True)
class Scene:
    """The rows that levers depend on, read at one moment, for the kind of visit that the goal is about.

    `empty` is the time of everybody who may give such visits, with nothing booked and nothing more opened, `free` what
    is left of it; both without what lies before `now`. `standby` has every day on standby, opened or not, `offered`
    what its time would be if it alone were opened. A start counts from `notice` until `goal` after a moment.
    """

    now: datetime
    notice: timedelta
    goal: timedelta
    latest: datetime
    kind: AppointmentType
    places: Mapping[int, Location]
    offering: Offering
    shifts: Sequence[Shift]
    empty: Sequence[Stretch]
    free: Sequence[Stretch]
    standby: Sequence[StandbyDay]
    offered: Mapping[StandbyDay, Sequence[Stretch]]
    working: Mapping[int, Sequence[Times]]
    taken: Mapping[int, Sequence[Times]]
    paces: Mapping[int | None, float]

    def starts(self, stretches: Collection[Stretch]) -> list[SlotName]:
        """Where such a visit may start in this time, as search has it."""
        found = access_rules.empty_plan_starts(stretches, self.kind.cells, needling=self.kind.includes_needling)
        return [start for start in found if self.now + self.notice <= start.starts_at <= self.latest]

    def at(self, place_id: int, stretches: Collection[Stretch]) -> list[datetime]:
        return [start.starts_at for start in self.there(place_id, stretches)]

    def there(self, place_id: int, stretches: Collection[Stretch]) -> list[SlotName]:
        return self.starts([one for one in stretches if one.location_id == place_id])

    def gained(self, day: StandbyDay) -> list[datetime]:
        """The starts that opening a day would add, in order: those too that run across its edge."""
        mine = (day.shift.therapist_id, day.shift.location_id)
        kept = [one for one in self.free if (one.therapist_id, one.location_id) == mine]
        before = set(self.starts(kept))
        return [one.starts_at for one in self.starts([*kept, *self.offered[day]]) if one not in before]

    def need(self, place_id: int) -> Need:
        ahead = self.foreseen(place_id)
        counted = [miss for miss in ahead if miss.cause is Cause.CAPACITY or miss.begins_at <= self.now]
        first = counted[0].begins_at if counted else self.now
        promise = Promise.KEPT if not counted else Promise.MISSED if first <= self.now else Promise.FORESEEN
        gap = next((miss for miss in ahead if miss not in counted), None)
        return Need(promise, counted, (first + self.notice, min(first + self.goal, self.latest)), gap)

    def foreseen(self, place_id: int) -> list[Miss]:
        """What is missed and will be, at the pace of the last weeks: what letters tell, too."""
        return access_rules.foreseen(
            place_id,
            self.there(place_id, self.free),
            self.at(place_id, self.empty),
            self.kind.cells,
            pace=self.paces[place_id],
            now=self.now,
            notice=self.notice,
            goal=self.goal,
        )

    def misses(self, starts: Sequence[datetime], period: Times) -> list[Times]:
        return access_rules.misses(starts, period, notice=self.notice, goal=self.goal)


def proposed(
    session: Session, location_id: int, *, reach: frozenset[int] | None = None, now: datetime
) -> Levers | None:
    """What can be done for a location; None where the goal is not about it. As many queries at any size.

    Only therapists who work at places of one's `reach`, or nowhere yet, are proposed to be asked; None is everybody.
    """
    scene = read(session, true(), now=now)
    if scene is None or location_id not in scene.places:
        return None
    need = scene.need(location_id)
    return Levers(
        need,
        _elsewhere(scene, scene.places[location_id], need.window),
        protection.ahead(session, scene.kind, location_id, now=now),
        letting_go.days_ahead(session, scene.kind, scene.places[location_id], now=now),
        _standby(scene, location_id, need.window),
        _ask(session, scene, scene.places[location_id], need.window, reach),
    )


def read(session: Session, whose: ColumnElement[bool] | InstrumentedAttribute[bool], *, now: datetime) -> Scene | None:
    """Read what levers of these therapists depend on; None where no visit is for new patients."""
    policy, kind = practice.policy(session), practice.goal_type(practice.appointment_types(session))
    if kind is None:
        return None
    offering = practice.offering(session)
    earliest, latest = availability.bookable_within(policy, kind, now, by_staff=False)
    goal = min(timedelta(hours=policy.access_goal_hours), latest - now)
    end = now + FORESEEN + goal + 2 * DAY  # whole days, whatever the zone, and whatever runs past the last start
    shifts = hours.shifts(session, Therapist.active, Location.active, whose)
    everybody = {shift.therapist_id for shift in shifts}
    planned = planned_time(session, everybody, next_cell(now), end, all_standby=True)
    days = standby.days_of(session, shifts, since=next_cell(now), until=end)
    taken = _taken(session, everybody, now, end)
    unopened = defaultdict[tuple[int, int], list[Times]](list)
    for day in days:
        if not day.opened:
            unopened[day.shift.therapist_id, day.shift.location_id].append((day.starts_at, day.ends_at))
    worked = [rest for one in planned for rest in without(one, unopened[one.therapist_id, one.location_id])]
    given = [one for one in worked if offering.allows(kind.id, one.therapist_id, one.location_id)]
    return Scene(
        now=now,
        notice=earliest - now,
        goal=goal,
        latest=latest,
        kind=kind,
        places={place.id: place for place in practice.online_locations(session)},
        offering=offering,
        shifts=shifts,
        empty=given,
        free=_left(given, taken),
        standby=days,
        offered=_offered(planned, days, taken, offering, kind.id),
        working=_working(planned),
        taken=taken,
        paces=access_requests.paces(session, kind.id, now=now),
    )


def due(session: Session, *, now: datetime) -> list[tuple[StandbyDay, Promise]]:
    """Which days on standby the rule opens now: at most what brings the goal back where somebody allowed it."""
    ruled = select(WorkingHours.location_id).where(WorkingHours.opens_by_rule)
    ruled_places = set(session.scalars(ruled.distinct()))
    if not ruled_places:
        return []
    concerned = select(WorkingHours.therapist_id).where(WorkingHours.location_id.in_(ruled_places))
    scene = read(session, Therapist.id.in_(concerned), now=now)
    if scene is None:
        return []
    found, closed = [], _closed_again(session, now)
    for place_id in sorted(ruled_places & scene.places.keys()):
        need = scene.need(place_id)
        ruled_days = (day for day in _closed(scene, place_id) if day.shift.opens_by_rule and need.misses)
        days = [day for day in ruled_days if (day.shift.therapist_id, place_id, day.starts_at) not in closed]
        starts, gains = scene.at(place_id, scene.free), [scene.gained(day) for day in days]
        found += [(days[number], need.promise) for number in to_open(scene, need, starts, gains)]
    return found


def _closed_again(session: Session, now: datetime) -> set[tuple[int | None, int, datetime]]:
    """The days on standby that somebody closed after they were open: the rule leaves them so."""
    use = LeverUse
    closed = select(use.therapist_id, use.place_id, use.starts_at).where(
        use.lever == Lever.STANDBY, use.closed_at.is_not(None), use.ends_at > now - DAY
    )
    return {(therapist_id, place_id, starts_at) for therapist_id, place_id, starts_at in session.execute(closed)}


def open_due(session: Session, *, now: datetime) -> list[LeverUse]:
    """Open what is due. Whoever comes second at one moment finds nothing left to do."""
    consequences.alone(session)
    days = due(session, now=now)
    slots.lock(session, {day.shift.therapist_id for day, _ in days})
    return [standby.open_day(session, day.shift.id, day.day, promise, by=RULE, now=now) for day, promise in days]


def to_open(scene: Scene, need: Need, starts: Sequence[datetime], gains: Sequence[Sequence[datetime]]) -> list[int]:
    """Choose what to open, by number: few that together mend all of the misses that can be mended, none in vain.

    `gains` are the starts that each would add to `starts`. The first miss is mended first, by what mends most. Of a
    structural miss only the present moment is to be mended: more of it is no fault of what was booked. For patients who
    are only expected nothing is opened: what they will have taken counts as free.
    """
    wanted = [
        (miss.begins_at, miss.ends_at if miss.cause is Cause.CAPACITY else min(miss.ends_at, miss.begins_at + CELL))
        for miss in need.misses
    ]

    def left(chosen: Collection[int]) -> tuple[datetime, timedelta]:
        """When the first miss is then that is still wanted mended, and how much of them all."""
        period = (scene.now, scene.now + FORESEEN)
        offered = sorted([*starts, *(start for number in chosen for start in gains[number])])
        missed = [
            (max(begins, since), min(ends, until))
            for begins, ends in scene.misses(offered, period)
            for since, until in wanted
            if begins < until and since < ends
        ]
        return missed[0][0] if missed else period[1], sum((end - begin for begin, end in missed), timedelta())

    chosen: list[int] = []
    while True:
        rest = [number for number in range(len(gains)) if number not in chosen]
        best = max(rest, key=lambda number: _better(left([*chosen, number])), default=None)
        if best is None or left([*chosen, best])[1] >= left(chosen)[1]:
            break
        chosen.append(best)
    for number in tuple(chosen):
        others = [one for one in chosen if one != number]
        if left(others)[1] == left(chosen)[1]:
            chosen = others
    return chosen


def _better(left: tuple[datetime, timedelta]) -> tuple[datetime, timedelta]:
    return left[0], -left[1]


def promise_at(session: Session, location_id: int, *, now: datetime) -> Promise:
    """How the goal stands at a location, as the record of a use keeps it."""
    concerned = select(WorkingHours.therapist_id).where(WorkingHours.location_id == location_id)
    scene = read(session, Therapist.id.in_(concerned), now=now)
    return scene.need(location_id).promise if scene and location_id in scene.places else Promise.KEPT


def asked(
    session: Session,
    location_id: int,
    therapist_id: int,
    day: date,
    levers: Levers | None,
    *,
    by: Actor,
    now: datetime,
) -> LeverUse:
    """Note that somebody asked a therapist to work on a day, once. Raises Invalid for what was not proposed just now.

    To know what is proposed takes longer than a booking should wait for: so it is read before, without a lock.
    """
    consequences.alone(session)  # so that who presses twice at once is noted once
    named = (one for one in (levers.ask if levers else ()) if (one.therapist_id, one.day) == (therapist_id, day))
    ask = next(named, None)
    if levers is None or ask is None:
        raise Invalid("therapist", "This is not proposed any more.")
    same = select(LeverUse).where(
        LeverUse.location_id == location_id,
        LeverUse.lever == Lever.ASK,
        LeverUse.therapist_id == therapist_id,
        LeverUse.day == day,
    )
    use = LeverUse(
        lever=Lever.ASK,
        place_id=location_id,
        therapist_id=therapist_id,
        day=day,
        starts_at=ask.starts_at,
        ends_at=ask.ends_at,
        cells=ask.cells,
    )
    return session.scalars(same).first() or _noted(session, use, location_id, levers.need, by=by, now=now)


def offered(
    session: Session, location_id: int, place_id: int, levers: Levers | None, *, by: Actor, now: datetime
) -> LeverUse:
    """Note that somebody offered another location to a patient. Raises Invalid for what was not proposed just now."""
    place = next((one for one in (levers.elsewhere if levers else ()) if one.location.id == place_id), None)
    if levers is None or place is None:
        raise Invalid("place", "This is not proposed any more.")
    use = LeverUse(
        lever=Lever.ELSEWHERE,
        place_id=place_id,
        starts_at=place.soonest,
        ends_at=levers.need.window[1] + CELL,
        cells=place.cells,
    )
    return _noted(session, use, location_id, levers.need, by=by, now=now)


def _noted(session: Session, use: LeverUse, location_id: int, need: Need, *, by: Actor, now: datetime) -> LeverUse:
    use.location_id, use.promise, use.used_at, use.used_by = location_id, need.promise, now, by.name
    session.add(use)
    session.flush()
    audit.record(session, "lever_use.added", use, by=by, now=now, location_id=location_id, place_id=use.place_id)
    return use


# --- the levers one by one


def _elsewhere(scene: Scene, here: Location, window: Times) -> list[Elsewhere]:
    """The other locations of the area that have starts in the window, soonest first."""
    names, cells = {shift.therapist_id: shift.therapist for shift in scene.shifts}, scene.kind.cells
    free = defaultdict[int, list[Stretch]](list)
    for one in scene.free:
        free[one.location_id].append(one)
    found = []
    for place in scene.places.values():
        if place.id == here.id or not here.area or place.area != here.area:
            continue
        starts = [start for start in scene.starts(free[place.id]) if _within(start.starts_at, window)]
        if starts:
            covered = {(start.therapist_id, start.starts_at + n * CELL) for start in starts for n in range(cells)}
            therapists = Counter(names[start.therapist_id] for start in starts)
            found.append(Elsewhere(place, starts[0].starts_at, len(starts), len(covered), therapists))
    return sorted(found, key=lambda one: (one.soonest, one.location.name))


def _closed(scene: Scene, place_id: int) -> list[StandbyDay]:
    """The days on standby at a place that nobody has opened and whose therapist gives the kind of visit there."""
    return [day for day in scene.standby if day.shift.location_id == place_id and not day.opened]


def _standby(scene: Scene, place_id: int, window: Times) -> list[Standby]:
    """What opening each day alone would give; those that give a start in the window, most starts first."""
    found = []
    for day in _closed(scene, place_id):
        starts = sum(_within(start, window) for start in scene.gained(day))
        if starts:
            found.append(Standby(day, starts, sum(one.cells for one in scene.offered[day]) * CELL / HOUR))
    return sorted(found, key=lambda one: (-one.starts, one.of.starts_at, one.of.shift.therapist))


def _ask(session: Session, scene: Scene, here: Location, window: Times, reach: frozenset[int] | None) -> list[Ask]:
    """Who may give such visits here and does not work on a day of the window, MOST_ASKED at most.

    Those come first who have hours here, then those who would give most starts. They would work their usual stretch,
    until midnight at the latest. Whoever works anywhere on that day, has hours on standby, visits or time off is left
    out.
    """
    who = select(Therapist.id, Account.email).where(Therapist.active, staffing.works_at(reach))
    reached = who.outerjoin(Account, (Account.therapist_id == Therapist.id) & Account.active)
    people: dict[int, str | None] = dict(session.execute(reached).all())
    licences = licensing.licences_of(session, people.keys())
    away = Away.near(session, people.keys(), window[0], window[1] + DAY)
    own = defaultdict[int, list[Shift]](list)
    for shift in scene.shifts:
        if shift.therapist_id in people and scene.offering.allows(scene.kind.id, shift.therapist_id, here.id):
            own[shift.therapist_id].append(shift)
    zone = zone_of(here.time_zone)
    found = []
    day = local_date(window[0], zone)
    while day <= local_date(window[1], zone):
        for therapist_id, shifts in own.items():
            stretches = _if_asked(scene, here, therapist_id, shifts, day, licences, away)
            starts = sum(_within(start.starts_at, window) for start in scene.starts(stretches))
            if starts:
                cells = sum(one.cells for one in stretches)
                times = stretches[0].starts_at, stretches[-1].ends_at
                person = therapist_id, shifts[0].therapist, people[therapist_id]
                found.append(Ask(*person, day, *times, starts, cells))
        day += DAY
    here_too = {one for one, shifts in own.items() if any(shift.location_id == here.id for shift in shifts)}
    found.sort(key=lambda one: (one.therapist_id not in here_too, -one.starts, one.starts_at, one.therapist))
    return found[:MOST_ASKED]


def _if_asked(
    scene: Scene,
    here: Location,
    therapist_id: int,
    shifts: Sequence[Shift],
    day: date,
    licences: Licences,
    away: Away,
) -> list[Stretch]:
    """The time that somebody would give on a day in which they do not work; none where they may not, or are away."""
    zone = zone_of(here.time_zone)
    usual = _usual(shifts, here.id, day)
    if usual is None or not licences.may_treat(therapist_id, here.state, day):
        return []
    begins, ends = (first_instant(day, min(minute, DAY_MINUTES), zone) for minute in usual)
    whole_day = first_instant(day, 0, zone), first_instant(day + DAY, 0, zone)
    busy = [*scene.working.get(therapist_id, ()), *scene.taken.get(therapist_id, ())]
    off = away.absent(therapist_id, zone)
    if begins >= ends or any(_touch(one, whole_day) for one in busy) or any(_touch(one, (begins, ends)) for one in off):
        return []
    needling = licences.may_needle(therapist_id, here.state, day)
    asked_for = clipped(Stretch(therapist_id, here.id, begins, ends, needling), next_cell(scene.now), ends)
    return without(asked_for, away.closed(here.id, zone)) if asked_for is not None else []


def _usual(shifts: Sequence[Shift], place_id: int, day: date) -> tuple[int, int] | None:
    """From and to which minute somebody works on most weekdays, here if they ever do; the earliest of several."""
    holding = [
        one for one in shifts if not one.standby and one.valid_from <= day and day <= (one.valid_until or date.max)
    ]
    here = [shift for shift in holding if shift.location_id == place_id] or holding
    counted = Counter((shift.opens_minute, shift.closes_minute) for shift in here)
    return min(counted, key=lambda minutes: (-counted[minutes], minutes), default=None)


# --- reading


def _taken(session: Session, therapist_ids: Collection[int], start: datetime, end: datetime) -> dict[int, list[Times]]:
    """When these therapists have visits, on the grid; a form that somebody fills in is none yet. One query."""
    cells = (
        select(Slot.therapist_id, Slot.starts_at)
        .join(Appointment, Appointment.id == Slot.appointment_id)
        .where(
            Slot.therapist_id.in_(therapist_ids),
            Slot.starts_at >= start,
            Slot.starts_at < end,
            Slot.appointment_id.is_not(None),
            Appointment.expires_at.is_(None),
        )
    )
    by_therapist: dict[int, list[datetime]] = defaultdict(list)
    for therapist_id, starts_at in session.execute(cells.order_by(Slot.therapist_id, Slot.starts_at)):
        by_therapist[therapist_id].append(starts_at)
    return {therapist_id: access_rules.joined(starts) for therapist_id, starts in by_therapist.items()}


def _left(stretches: Collection[Stretch], taken: Mapping[int, Sequence[Times]]) -> list[Stretch]:
    return [rest for one in stretches for rest in without(one, taken.get(one.therapist_id, ()))]


def _offered(
    planned: Sequence[Stretch],
    days: Sequence[StandbyDay],
    taken: Mapping[int, Sequence[Times]],
    offering: Offering,
    kind_id: int,
) -> dict[StandbyDay, list[Stretch]]:
    """What each day on standby has free, opened: none where its therapist does not give such visits there."""
    by_post = defaultdict[tuple[int, int], list[Stretch]](list)
    for one in planned:
        by_post[one.therapist_id, one.location_id].append(one)
    return {
        day: _left(
            [
                part
                for one in by_post[day.shift.therapist_id, day.shift.location_id]
                if (part := clipped(one, day.starts_at, day.ends_at)) is not None
                and offering.allows(kind_id, one.therapist_id, one.location_id)
            ],
            taken,
        )
        for day in days
    }


def _working(planned: Sequence[Stretch]) -> dict[int, list[Times]]:
    found = defaultdict[int, list[Times]](list)
    for one in planned:
        found[one.therapist_id].append((one.starts_at, one.ends_at))
    return dict(found)


def _within(instant: datetime, window: Times) -> bool:
    return window[0] <= instant <= window[1]


def _touch(one: Times, other: Times) -> bool:
    return one[0] < other[1] and other[0] < one[1]
