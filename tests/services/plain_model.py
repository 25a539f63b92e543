"""What a clinic of two places should offer, worked out in plain Python from what was entered.

It knows no cells, no `fit` and no plan that is kept: what is free is worked out anew, by looking at the clock on the
wall of each place, quarter hour by quarter hour. It asks nothing of the program's own calendar.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from scheduler.models import TimeOffStatus
from scheduler.services.availability import SlotName
from scheduler.services.time_away import ClosureDetails, OffDetails

QUARTER = timedelta(minutes=15)
LONGEST = timedelta(minutes=60)
HORIZON = timedelta(days=3)
NOTICE = timedelta(minutes=60)
GOAL = timedelta(hours=24)
LICENCES = ("pt", "dry_needling")
CHICAGO, DENVER = 1, 2
PLACES = {CHICAGO: ("IL", ZoneInfo("America/Chicago")), DENVER: ("CO", ZoneInfo("America/Denver"))}
THERAPISTS = (1, 2)
# Quarters that a visit takes, with the buffer after a follow-up, and whether it includes needling.
VISITS = {"Evaluation": (4, False), "Follow-up": (4, False), "Needling": (2, True)}
# Why a visit that is booked no longer fits, the gravest first.
GRAVEST = ("not-licensed", "closed-then", "therapist-off", "outside-hours")
# Days' work as (location, opens, closes). Noon in Chicago is eleven in Denver: one day changes place without a break.
# Two nights end within the hour that clocks skip in spring, or show twice in autumn.
Day = tuple[tuple[int, int, int], ...]
DAYS: tuple[Day, ...] = (
    (),
    ((CHICAGO, 9 * 60, 13 * 60),),
    ((CHICAGO, 8 * 60, 12 * 60), (DENVER, 11 * 60, 14 * 60)),
    ((DENVER, 7 * 60, 8 * 60 + 45), (CHICAGO, 13 * 60, 15 * 60)),
    ((DENVER, 22 * 60, 26 * 60 + 30),),
    ((CHICAGO, 10 * 60, 11 * 60), (CHICAGO, 23 * 60, 25 * 60 + 30)),
)


# On every weekday each therapist has these hours on standby: they join the afternoon of the fourth of DAYS.
STANDBY = (CHICAGO, 15 * 60, 18 * 60)


def next_quarter(instant: datetime) -> datetime:
    return instant + (datetime.min.replace(tzinfo=UTC) - instant) % QUARTER


@lru_cache(maxsize=100_000)
def shown(instant: datetime, place: int) -> datetime:
    """The latest time that the clock there has shown by then: what comes twice has been shown the first time."""
    zone = PLACES[place][1]
    return max((instant - back * QUARTER).astimezone(zone).replace(tzinfo=None) for back in range(5))


def minute_of(wall: datetime) -> int:
    return wall.hour * 60 + wall.minute


class Start(NamedTuple):
    """In the order in which search lists starts."""

    at: datetime
    therapist: int
    location: int

    def slot_id(self) -> str:
        return str(SlotName(self.therapist, self.location, self.at))


@dataclass
class Booked:
    start: Start
    kind: str
    token: str
    cancelled: bool = False
    known: str = ""  # why it did not fit when staff booked it all the same

    def quarters(self) -> set[Start]:
        return {self.start._replace(at=self.start.at + i * QUARTER) for i in range(VISITS[self.kind][0])}


@dataclass
class Kept:
    """A start that is held, until somebody books or frees it or it is swept, which is some time after its expiry."""

    start: Start
    kind: str
    token: str
    since: datetime
    until: datetime

    def quarters(self) -> set[Start]:
        return {self.start._replace(at=self.start.at + i * QUARTER) for i in range(VISITS[self.kind][0])}


@dataclass
class Away:
    """A closure of a place, or time off of a therapist, from one time on a wall to another, on whatever wall."""

    begins: datetime
    ends: datetime
    place: int | None = None
    therapist: int | None = None
    wish: TimeOffStatus = TimeOffStatus.APPROVED
    row: int = 0  # its number in the database

    def covers(self, start: Start) -> bool:
        whose = self.place == start.location or self.therapist == start.therapist
        return (
            whose and self.wish == TimeOffStatus.APPROVED and self.begins <= shown(start.at, start.location) < self.ends
        )

    def columns(self) -> tuple[date, int, date, int]:
        """As a form has them: what lasts until midnight ends at 24:00."""
        last = self.ends - QUARTER
        return self.begins.date(), minute_of(self.begins), last.date(), minute_of(last) + 15

    def closure(self) -> ClosureDetails:
        return ClosureDetails(*self.columns(), "Snow")

    def off(self) -> OffDetails:
        return OffDetails(*self.columns())


@dataclass
class Model:
    """What the clinic should offer, by the words of the contract."""

    now: datetime
    week: dict[tuple[int, int], Day] = field(default_factory=dict)  # by therapist, weekday
    licensed_until: dict[tuple[int, str, str], date] = field(default_factory=dict)  # by therapist, kind, state
    visits: list[Booked] = field(default_factory=list)
    holds: list[Kept] = field(default_factory=list)
    away: list[Away] = field(default_factory=list)
    kept: frozenset[Start] = frozenset()  # quarters kept back for short notice
    opened: frozenset[tuple[int, date]] = frozenset()  # days on which therapists' standby was opened

    def swept(self, therapist: int | None = None) -> "Model":
        """The same after somebody has swept a therapist's holds, or all."""
        left = [one for one in self.holds if one.until > self.now or therapist not in {None, one.start.therapist}]
        return replace(self, holds=left)

    def licensed(self, start: Start, *, needling: bool) -> bool:
        state, zone = PLACES[start.location]
        kinds = LICENCES if needling else LICENCES[:1]
        day = start.at.astimezone(zone).date()
        return all(day <= self.licensed_until[start.therapist, kind, state] for kind in kinds)

    def works(self, start: Start) -> bool:
        """Whether a shift of that local day, or one that runs on from the day before, covers this quarter."""
        wall = shown(start.at, start.location)
        minute = minute_of(wall)
        today = self.week.get((start.therapist, wall.weekday()), ())
        yesterday = self.week.get((start.therapist, (wall.weekday() - 1) % 7), ())
        if (start.therapist, wall.date()) in self.opened:
            today = (*today, STANDBY)
        shifts = [(shift, minute) for shift in today] + [(shift, minute + 24 * 60) for shift in yesterday]
        return any(place == start.location and opens <= at < closes for (place, opens, closes), at in shifts)

    def with_opened(self, *days: tuple[int, date]) -> "Model":
        return replace(self, opened=self.opened | {*days})

    def with_closed(self, *days: tuple[int, date]) -> "Model":
        return replace(self, opened=self.opened - {*days})

    def standby_ahead(self, therapist: int, day: date) -> list[Start]:
        """The quarters of a day on standby that are ahead."""
        place, opens, closes = STANDBY
        begins = datetime.combine(day, datetime.min.time(), PLACES[place][1]) + timedelta(minutes=opens)
        first = begins.astimezone(UTC)
        quarters = (Start(first + i * QUARTER, therapist, place) for i in range((closes - opens) // 15))
        return [quarter for quarter in quarters if quarter.at + QUARTER > self.now]

    def gives(self, therapist: int, day: date) -> bool:
        """Whether opening a day on standby makes any whole quarter free."""
        after, taken = self.with_opened((therapist, day)), self.taken()
        ahead = (quarter for quarter in self.standby_ahead(therapist, day) if quarter.at >= self.now)
        return any(after.is_planned(quarter) and (quarter.at, therapist) not in taken for quarter in ahead)

    def is_away(self, start: Start) -> bool:
        return any(one.covers(start) for one in self.away)

    def is_planned(self, start: Start) -> bool:
        return self.works(start) and self.licensed(start, needling=False) and not self.is_away(start)

    def planned(self) -> set[Start]:
        """Every quarter ahead that somebody works, as far as any visit that may be booked now can reach."""
        first, reach = next_quarter(self.now), HORIZON + LONGEST
        ahead = (first + i * QUARTER for i in range(reach // QUARTER + 1))
        quarters = (Start(at, therapist, place) for at in ahead for therapist in THERAPISTS for place in PLACES)
        return {quarter for quarter in quarters if self.is_planned(quarter)}

    def taken_starts(self) -> set[Start]:
        visits = {start for visit in self.visits if not visit.cancelled for start in visit.quarters()}
        return visits | {start for one in self.holds for start in one.quarters()}

    def taken(self) -> set[tuple[datetime, int]]:
        return {(start.at, start.therapist) for start in self.taken_starts()}

    def offers(self, kind: str, free: set[Start]) -> list[Start]:
        return sorted(start for start in free if self.bookable(start, kind, free, self.now + NOTICE))

    def bookable(self, start: Start, kind: str, free: set[Start], earliest: datetime) -> bool:
        quarters, needling = VISITS[kind]
        return (
            earliest <= start.at <= self.now + HORIZON
            and all(start._replace(at=start.at + i * QUARTER) in free for i in range(quarters))
            and (start.at <= self.now + GOAL or self.kept.isdisjoint(self.of_visit(start, kind)))
            and (not needling or self.licensed(start, needling=True))
        )

    def of_visit(self, start: Start, kind: str) -> set[Start]:
        return {start._replace(at=start.at + i * QUARTER) for i in range(VISITS[kind][0])}

    def may_be_kept(self, quarter: Start) -> bool:
        """Days that have begun to be released stay as they are, and so does what somebody has."""
        zone = PLACES[quarter.location][1]
        release = self.now + GOAL
        free = self.is_planned(quarter) and (quarter.at, quarter.therapist) not in self.taken()
        return free and quarter.at.astimezone(zone).date() > release.astimezone(zone).date()

    def free(self) -> set[Start]:
        taken = self.taken()
        return {start for start in self.planned() if (start.at, start.therapist) not in taken}

    def unfit(self) -> dict[Start, str]:
        """The visits ahead that no longer fit, each with its gravest reason."""
        ahead = (visit for visit in self.visits if not visit.cancelled and visit.start.at >= self.now)
        reasons = {visit.start: (self.gravest(visit), visit.known) for visit in ahead}
        return {start: why for start, (why, known) in reasons.items() if why not in {"", known}}

    def gravest(self, visit: Booked) -> str:
        """The gravest reason why a visit does not fit; none for one that does."""
        return min(self.reasons(visit), key=GRAVEST.index, default="")

    def reasons(self, visit: Booked) -> set[str]:
        quarters = visit.quarters()
        away = [one for one in self.away if any(one.covers(quarter) for quarter in quarters)]
        found = {"closed-then" if one.place else "therapist-off" for one in away}
        if not self.licensed(visit.start, needling=VISITS[visit.kind][1]):
            found.add("not-licensed")
        if not all(self.is_planned(quarter) for quarter in quarters):
            found.add("outside-hours")
        return found

    def hit_by(self, after: "Model") -> dict[Start, str]:
        """The visits that would fit worse than they do."""
        before = self.unfit()
        return {
            start: why
            for start, why in after.unfit().items()
            if start not in before or GRAVEST.index(why) < GRAVEST.index(before[start])
        }

    def wall_of(self, one: Away) -> datetime:
        """What the clock shows by which this begins and ends: for a therapist of several zones, the one that is last.

        Everybody has hours on standby somewhere.
        """
        if one.place:
            return shown(self.now, one.place)
        own = {place for (who, _), day in self.week.items() if who == one.therapist for place, *_ in day} | {STANDBY[0]}
        return min(shown(self.now, place) for place in own)

    def may_be(self, one: Away) -> bool:
        """What is entered has an end that is after its beginning, and ahead."""
        return one.begins < one.ends and self.wall_of(one) < one.ends

    def may_become(self, one: Away, other: Away) -> bool:
        """What is over stays as it was, and what has begun can only end."""
        wall = self.wall_of(one)
        return wall < one.ends and (wall < one.begins or one.begins == other.begins) and self.may_be(other)

    def with_away(self, *added: Away, without: Collection[Away] = ()) -> "Model":
        left = [one for one in self.away if not any(one is other for other in without)]
        return replace(self, away=[*left, *added])
