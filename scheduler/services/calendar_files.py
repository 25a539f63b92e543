"""Calendar files (RFC 5545) as times away: when, and nothing else of what may be a private calendar.

The library is imported where it is used: it would be a part of every start.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from scheduler.timeline import DAY

if TYPE_CHECKING:
    from icalendar import Calendar, Event

AHEAD = 366 * DAY
MOST_EVENTS = 500
QUARTER, MIDNIGHT = 15, 24 * 60
TOO_OFTEN = {"SECONDLY", "MINUTELY", "HOURLY"}


class Unreadable(Exception):
    """A file that tells no times away; `code` says why: malformed, empty or too-many."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Away:
    """A time away as a file tells it, on the wall; `name` is the same whenever the file is read again."""

    name: str
    starts_on: date
    starts_minute: int
    ends_on: date
    ends_minute: int


def read(content: bytes, zones: Collection[ZoneInfo], *, now: datetime) -> list[Away]:
    """The events of a calendar file that are not over, of the year from now on, soonest first.

    Repeated events are one for each time; cancelled ones are none. Whole days, and times without a zone, are what the
    wall says. Other times are told by the clocks of these zones, from the earliest until the latest that one of them
    shows, to whole quarter hours. Raises Unreadable.
    """
    import recurring_ical_events  # noqa: PLC0415

    calendar = _calendar(content)
    try:
        found = recurring_ical_events.of(calendar).between(now - DAY, now + AHEAD)
        events = [one for event in found if not _is_cancelled(event) for one in _away(event, zones, now)]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise Unreadable("malformed") from error
    if not events:
        raise Unreadable("empty")
    if len(events) > MOST_EVENTS:
        raise Unreadable("too-many")
    return sorted(set(events), key=lambda one: (one.starts_on, one.starts_minute, one.name))


def _calendar(content: bytes) -> "Calendar":
    from icalendar import Calendar  # noqa: PLC0415

    try:
        calendar = Calendar.from_ical(content)
        rules: list[Any] = [event["RRULE"] for event in calendar.walk("VEVENT") if "RRULE" in event]
        often = [rule for rule in rules if TOO_OFTEN & {*rule.get("FREQ", ())}]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise Unreadable("malformed") from error
    if often:
        raise Unreadable("malformed")
    return calendar


def _is_cancelled(event: "Event") -> bool:
    return str(event.get("STATUS", "")).upper() == "CANCELLED"


def _away(event: "Event", zones: Collection[ZoneInfo], now: datetime) -> Iterator[Away]:
    """What an event is on the wall; nothing for one that is over or takes no time."""
    starts, ends = event.start, event.end
    if not isinstance(starts, datetime) or not isinstance(ends, datetime):
        first, last = (starts, 0), (ends - DAY, MIDNIGHT)
        over = datetime.combine(ends, time(), UTC) <= now - DAY
    else:
        first = min(_quarter(wall, up=False) for wall in _walls(starts, zones))
        last = max(_quarter(wall, up=True) for wall in _walls(ends, zones))
        over = max(_walls(ends, zones)) <= min(_walls(now, zones))
    if first < last and not over:
        told = f"{event.get('UID', '')} {starts.isoformat()}"
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
    return (wall.date(), quarters * QUARTER) if quarters else (wall.date() - DAY, MIDNIGHT)
