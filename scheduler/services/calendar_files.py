"""Calendar files (RFC 5545) as times away: when, and nothing else of what may be a private calendar.

A few lines can ask for more work than a day has seconds: series since 1970, rules that no day fits, zones whose clocks
change every second. So a stranger's file is read by a process of its own, whose time is up after CPU_SECONDS, and
nothing of the file outlives it. The library is imported where it is used: it would be a part of every start.
"""

import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime, time
from hashlib import sha256
from pathlib import Path
from signal import ITIMER_PROF, SIGPROF, setitimer
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from scheduler.timeline import DAY, DAY_MINUTES

if TYPE_CHECKING:
    from icalendar import Calendar, Event

AHEAD = LONGEST = 366 * DAY
CPU_SECONDS, PATIENCE = 2, 30  # seconds: of work, and on the clock of a machine that has much else to do
ROOT = Path(__file__).resolve().parents[2]
MOST_EVENTS = 500
QUARTER = 15
TOO_OFTEN = {"SECONDLY", "MINUTELY", "HOURLY"}


class Unreadable(Exception):
    """A file that tells no times away; `code` says why: malformed, empty, too-many or too-long."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


# What the libraries raise of files that are none; OSError for a zone that is a folder, or longer than a file's name.
BROKEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError, RecursionError)


@dataclass(frozen=True, slots=True)
class Away:
    """A time away as a file tells it, on the wall; `name` is the same whenever the file is read again."""

    name: str
    starts_on: date
    starts_minute: int
    ends_on: date
    ends_minute: int


def read_apart(content: bytes, zones: Collection[ZoneInfo], *, now: datetime) -> list[Away]:
    """What `read` tells, or its refusal, from a process of its own; too much work is too many times.

    It takes a while, so no transaction may wait for it. Raises Unreadable.
    """
    names = [zone.key for zone in zones]
    command = [sys.executable, "-m", "scheduler.services.calendar_files", now.isoformat(), *names]
    try:
        ended = subprocess.run(command, input=content, stdout=subprocess.PIPE, cwd=ROOT, timeout=PATIENCE, check=True)  # noqa: S603 our own
    except subprocess.TimeoutExpired as error:
        raise Unreadable("too-many") from error
    except subprocess.CalledProcessError as error:
        if error.returncode != -SIGPROF:
            raise
        raise Unreadable("too-many") from error
    answer = json.loads(ended.stdout)
    if "code" in answer:
        raise Unreadable(answer["code"])
    return [Away(**_dated(one)) for one in answer["told"]]


def _dated(one: dict[str, Any]) -> dict[str, Any]:
    return one | {name: date.fromisoformat(one[name]) for name in ("starts_on", "ends_on")}


def _answer(content: bytes, now: str, *zones: str) -> dict[str, Any]:
    try:
        told = read(content, [ZoneInfo(name) for name in zones], now=datetime.fromisoformat(now))
    except Unreadable as refusal:
        return {"code": refusal.code}
    return {"told": [asdict(one) for one in told]}


def read(content: bytes, zones: Collection[ZoneInfo], *, now: datetime) -> list[Away]:
    """The events of a calendar file that are not over, of the year from now on, soonest first.

    Repeated events are one for each time; cancelled ones, and those that are shown as free, are none. Whole days, and
    times without a zone, are what the wall says. Other times are told by the clocks of these zones, from the earliest
    until the latest that one of them shows, to whole quarter hours. Raises Unreadable, also for an event that is longer
    than anybody may ask for.
    """
    import recurring_ical_events  # noqa: PLC0415

    calendar = _calendar(content)
    try:
        found = recurring_ical_events.of(calendar).between(now - DAY, now + AHEAD)
        events = {one for event in found if _takes_time(event) for one in _away(event, zones, now)}
    except BROKEN as error:
        raise Unreadable("malformed") from error
    if not events:
        raise Unreadable("empty")
    if len(events) > MOST_EVENTS:
        raise Unreadable("too-many")
    if any(one.ends_on - one.starts_on > LONGEST for one in events):
        raise Unreadable("too-long")
    return sorted(events, key=lambda one: (one.starts_on, one.starts_minute, one.name))


def _calendar(content: bytes) -> "Calendar":
    from icalendar import Calendar  # noqa: PLC0415

    try:
        calendar = Calendar.from_ical(content)
        rules: list[Any] = [event["RRULE"] for event in calendar.walk("VEVENT") if "RRULE" in event]
        often = [rule for rule in rules if TOO_OFTEN & {*rule.get("FREQ", ())}]
    except BROKEN as error:
        raise Unreadable("malformed") from error
    if often:
        raise Unreadable("malformed")
    _tell_apart(calendar)
    return calendar


def _tell_apart(calendar: "Calendar") -> None:
    """Number all but the first event of one UID and revision: the library would keep one of them alone."""
    seen = set()
    for number, event in enumerate(calendar.walk("VEVENT")):
        revision = str(event.get("UID")), str(event.get("SEQUENCE", 0))
        if "RECURRENCE-ID" not in event:
            if revision in seen:
                event["UID"] = f"{event.get('UID', '')}\n{number}"
            seen.add(revision)


def _takes_time(event: "Event") -> bool:
    """Whether it takes place, and whoever looks at the calendar sees them busy then (RFC 5545, 3.8.1.11, 3.8.2.7)."""
    cancelled = str(event.get("STATUS", "")).upper() == "CANCELLED"
    return not cancelled and str(event.get("TRANSP", "")).upper() != "TRANSPARENT"


def _away(event: "Event", zones: Collection[ZoneInfo], now: datetime) -> Iterator[Away]:
    """What an event is on the wall; nothing for one that is over or takes no time."""
    starts, ends = event.start, event.end
    if not isinstance(starts, datetime) or not isinstance(ends, datetime):
        first, last = (starts, 0), (ends - DAY, DAY_MINUTES)
        over = datetime.combine(ends, time()) <= min(_walls(now, zones))
    else:
        first = min(_quarter(wall, up=False) for wall in _walls(starts, zones))
        last = max(_quarter(wall, up=True) for wall in _walls(ends, zones))
        over = max(_walls(ends, zones)) <= min(_walls(now, zones))
    if first < last and not over:
        uid, _, _ = str(event.get("UID", "")).partition("\n")
        told = f"{uid} {starts.isoformat()} {ends.isoformat()}"
        yield Away(sha256(told.encode()).hexdigest()[:32], *first, *last)


def _walls(at: datetime, zones: Collection[ZoneInfo]) -> list[datetime]:
    """What the clocks show at a moment; a time without a zone is shown by all."""
    return [
        at.replace(tzinfo=None) if at.tzinfo is None else at.astimezone(zone).replace(tzinfo=None) for zone in zones
    ]


def _quarter(wall: datetime, *, up: bool) -> tuple[date, int]:
    """The quarter hour that a time on the wall is in, or, going up, that it is not after.

    Going up, midnight is the end of the day before.
    """
    minutes = wall.hour * 60 + wall.minute
    if not up:
        return wall.date(), minutes // QUARTER * QUARTER
    quarters = -(-(minutes + (wall.second > 0)) // QUARTER)
    return (wall.date(), quarters * QUARTER) if quarters else (wall.date() - DAY, DAY_MINUTES)


if __name__ == "__main__":
    setitimer(ITIMER_PROF, CPU_SECONDS)
    json.dump(_answer(sys.stdin.buffer.read(), *sys.argv[1:]), sys.stdout, default=date.isoformat)
