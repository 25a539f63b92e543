"""Calendar files as times away: written by the library of calendars, and read against a small model."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from resource import RUSAGE_CHILDREN, getrusage
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar, Event

from scheduler.services import calendar_files
from scheduler.services.calendar_files import CPU_SECONDS, MOST_EVENTS, Away, Unreadable

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)  # nine in Chicago
ZONES = ("America/Chicago", "America/Denver", "Asia/Kathmandu", "UTC")
CHICAGO, DENVER, KATHMANDU, WORLD = map(ZoneInfo, ZONES)
HONOLULU = ZoneInfo("Pacific/Honolulu")
Wall = tuple[date, int, date, int]


def event(starts: date, ends: date | timedelta | None = None, **more: object) -> Event:
    one = Event()
    one.add("uid", more.pop("uid", "one"))
    one.add("dtstart", starts)
    if isinstance(ends, timedelta):
        one.add("duration", ends)
    elif ends is not None:
        one.add("dtend", ends)
    for name, value in more.items():
        one.add(name, value)
    return one


def file(*events: Event) -> bytes:
    calendar = Calendar()
    for one in events:
        calendar.add_component(one)
    calendar.add_missing_timezones()
    return bytes(calendar.to_ical())


def walls(*events: Event, zones: tuple[ZoneInfo, ...] = (CHICAGO,)) -> list[Wall]:
    return [wall(one) for one in calendar_files.read(file(*events), zones, now=NOW)]


def wall(one: Away) -> Wall:
    return one.starts_on, one.starts_minute, one.ends_on, one.ends_minute


def at(day: int, hour: int, minute: int = 0, zone: ZoneInfo | None = CHICAGO, month: int = 12) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=zone)


def on(day: int, month: int = 12) -> date:
    return date(2026, month, day)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        pytest.param([event(on(24), on(27))], [(on(24), 0, on(26), 1440)], id="whole days; the last is not in it"),
        pytest.param([event(on(24))], [(on(24), 0, on(24), 1440)], id="one day without an end"),
        pytest.param([event(at(1, 9), at(1, 10, 30))], [(on(1), 540, on(1), 630)], id="a part of a day"),
        pytest.param([event(at(1, 9, 5), at(1, 10, 20))], [(on(1), 540, on(1), 630)], id="whole quarter hours"),
        pytest.param([event(at(1, 22), at(2, 0))], [(on(1), 1320, on(1), 1440)], id="until midnight"),
        pytest.param([event(at(1, 9), timedelta(hours=2))], [(on(1), 540, on(1), 660)], id="a duration"),
        pytest.param([event(at(1, 9, zone=None), at(1, 10, zone=None))], [(on(1), 540, on(1), 600)], id="no zone"),
        pytest.param([event(at(1, 16, zone=WORLD), timedelta(hours=1))], [(on(1), 600, on(1), 660)], id="UTC"),
        pytest.param([event(on(22, 11), on(24, 11))], [(on(22, 11), 0, on(23, 11), 1440)], id="one that goes on"),
        pytest.param(
            [event(at(1, 9), at(1, 10), rrule={"freq": "weekly", "count": 3}, exdate=at(8, 9))],
            [(on(1), 540, on(1), 600), (on(15), 540, on(15), 600)],
            id="repeated, without one",
        ),
        pytest.param(
            [event(on(24), on(25), uid="a"), event(on(30), on(31), uid="b", status="CANCELLED")],
            [(on(24), 0, on(24), 1440)],
            id="one is cancelled",
        ),
        pytest.param(
            [event(on(24), on(25), uid="a", transp="OPAQUE"), event(on(30), on(31), uid="b", transp="TRANSPARENT")],
            [(on(24), 0, on(24), 1440)],
            id="one is shown as free",
        ),
        pytest.param([event(on(24), date(2027, 12, 25))], [(on(24), 0, date(2027, 12, 24), 1440)], id="a year"),
        pytest.param(
            [
                event(at(1, 9), at(1, 10), rrule={"freq": "daily", "count": 2}),
                event(at(5, 14), at(5, 15), **{"recurrence-id": at(2, 9)}),
            ],
            [(on(1), 540, on(1), 600), (on(5), 840, on(5), 900)],
            id="one of a series is moved",
        ),
    ],
)  # fmt: skip
def test_what_a_file_tells_is_what_the_wall_says(events: list[Event], told: list[Wall]) -> None:
    assert walls(*events) == told


def test_in_two_zones_it_is_from_the_earlier_clock_until_the_later() -> None:
    assert walls(event(at(1, 9), at(1, 10)), zones=(CHICAGO, DENVER)) == [(on(1), 480, on(1), 600)]
    assert walls(event(on(24), on(25)), zones=(CHICAGO, DENVER)) == [(on(24), 0, on(24), 1440)]


def test_a_series_without_an_end_is_read_for_a_year() -> None:
    found = walls(event(on(7, 9), rrule={"freq": "weekly"}))
    assert found[0][0] == date(2026, 11, 23)
    assert 52 <= len(found) <= 53


def test_the_same_event_has_the_same_name_and_another_another() -> None:
    one, two = event(on(24), on(25), uid="a"), event(on(24), on(25), uid="b")
    first, again = (calendar_files.read(file(one), [CHICAGO], now=NOW)[0].name for _ in range(2))
    assert first == again
    assert calendar_files.read(file(two), [CHICAGO], now=NOW)[0].name != first


def test_an_event_whose_end_moved_is_another() -> None:
    before, after = (calendar_files.read(file(event(on(24), end)), [CHICAGO], now=NOW)[0] for end in (on(27), on(31)))
    assert before.name != after.name


def test_events_without_a_name_of_their_own_are_told_apart_by_their_times() -> None:
    """The standard asks for a UID, and for one alone of each; not every program knows."""
    nameless = [event(on(24), end) for end in (on(25), on(25), on(27))]
    for one in nameless:
        del one["UID"]
    assert sorted(walls(*nameless)) == [(on(24), 0, on(24), 1440), (on(24), 0, on(26), 1440)]
    namesakes = [event(on(24), end) for end in (on(25), on(25), on(27))]
    assert sorted(walls(*namesakes)) == [(on(24), 0, on(24), 1440), (on(24), 0, on(26), 1440)]
    names = [one.name for one in calendar_files.read(file(*nameless, *namesakes), [CHICAGO], now=NOW)]
    assert len(names) == len(set(names))


def test_of_two_revisions_of_an_event_the_later_stands() -> None:
    revisions = [event(on(24), on(25), sequence=0), event(on(28), on(29), sequence=1)]
    assert walls(*revisions) == [(on(28), 0, on(28), 1440)]


@pytest.mark.parametrize(
    ("zones", "told"), [((CHICAGO,), []), ((CHICAGO, HONOLULU), [(on(22, 11), 0, on(22, 11), 1440)])]
)
def test_a_whole_day_is_over_when_it_is_over_on_the_last_clock(zones: tuple[ZoneInfo, ...], told: list[Wall]) -> None:
    """It is one in the morning of the 23rd in Chicago, and nine in the evening of the 22nd in Honolulu."""
    night = datetime(2026, 11, 23, 7, tzinfo=UTC)
    content = file(event(on(22, 11)), event(on(1), uid="later"))
    found = [wall(one) for one in calendar_files.read(content, zones, now=night)]
    assert found == [*told, (on(1), 0, on(1), 1440)]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (lambda: b"", "malformed"),
        (lambda: b"name,day\nAna,2026-12-24\n", "malformed"),
        (lambda: b"\xff\xfe\x00", "malformed"),
        (
            lambda: b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART:yesterday\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
            "malformed",
        ),
        (lambda: b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n", "malformed"),
        (file, "empty"),
        (lambda: file(event(on(20, 11), on(21, 11))), "empty"),
        (lambda: file(event(at(23, 7, month=11), at(23, 8, month=11))), "empty"),
        (lambda: file(event(at(1, 9), timedelta(0))), "empty"),
        (lambda: file(event(on(24), on(25), transp="TRANSPARENT")), "empty"),
        (lambda: file(event(on(24), on(25)), event(on(24), date(2036, 12, 24), uid="ten years")), "too-long"),
        (lambda: file(event(at(1, 9), timedelta(seconds=1), rrule={"freq": "secondly"})), "malformed"),
        (lambda: file(*(event(on(24), on(25), uid=str(n)) for n in range(MOST_EVENTS + 1))), "too-many"),
    ],
)
def test_a_file_that_tells_no_times_is_refused(content: Callable[[], bytes], code: str) -> None:
    with pytest.raises(Unreadable) as refused:
        calendar_files.read(content(), [CHICAGO], now=NOW)
    assert refused.value.code == code


@given(
    st.integers(2 * 24 * 60 * 60, 340 * 24 * 60 * 60).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    st.integers(1, 4 * 24 * 60 * 60).map(lambda seconds: timedelta(seconds=seconds)),
    st.sampled_from([CHICAGO, DENVER, KATHMANDU]),
)
def test_no_moment_of_an_event_is_left_out_and_no_quarter_hour_is_added(
    starts: datetime, length: timedelta, zone: ZoneInfo
) -> None:
    (told,) = walls(event(starts, starts + length), zones=(zone,))
    first, last = (moment.astimezone(zone).replace(tzinfo=None) for moment in (starts, starts + length))
    opens = datetime.combine(told[0], time()) + timedelta(minutes=told[1])
    closes = datetime.combine(told[2], time()) + timedelta(minutes=told[3])
    assert opens <= first < opens + timedelta(minutes=15)
    assert closes - timedelta(minutes=15) < last <= closes


@given(st.binary(max_size=300))
def test_bytes_at_random_are_refused_in_words(noise: bytes) -> None:
    for content in (noise, b"BEGIN:VCALENDAR\r\n" + noise, file(event(on(24))).replace(b"DTSTART", noise)):
        with suppress(Unreadable):
            calendar_files.read(content, [CHICAGO], now=NOW)


# --- by a process of its own


def series(rule: str, number: int) -> bytes:
    """As many series since 1970, each of its own name."""
    one = "BEGIN:VEVENT\r\nUID:{}\r\nDTSTART:19700101T090000Z\r\nDURATION:PT1H\r\nRRULE:{}\r\nEND:VEVENT\r\n"
    events = "".join(one.format(name, rule) for name in range(number))
    return f"BEGIN:VCALENDAR\r\n{events}END:VCALENDAR\r\n".encode()


def cpu_seconds(reads: Callable[[], object]) -> float:
    """How long the processes work that end in it."""
    before = getrusage(RUSAGE_CHILDREN)
    reads()
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(series("FREQ=DAILY", 65), id="6.5 KB"),
        pytest.param(series("FREQ=DAILY", 650), id="65 KB"),
        pytest.param(series("FREQ=DAILY", 2500), id="250 KB"),
        pytest.param(series("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", 60), id="a day that never comes"),
        pytest.param(
            series(f"FREQ=DAILY;BYSECOND={','.join(map(str, range(60)))};BYMINUTE=0,1,2,3,4", 5), id="seconds"
        ),
    ],
)
def test_no_file_takes_longer_than_a_few_seconds(content: bytes) -> None:
    assert len(content) <= 250_000

    def refused() -> None:
        with pytest.raises(Unreadable, match="too-many"):
            calendar_files.read_apart(content, [CHICAGO], now=NOW)

    assert cpu_seconds(refused) < CPU_SECONDS + 2  # and what a process needs to begin


def test_years_of_a_calendar_are_read_in_that_time() -> None:
    past = [event(at(1, 9) - timedelta(days=n), timedelta(hours=1), uid=f"past {n}") for n in range(11, 2211)]
    weekly = [
        event(datetime(2010, 1, 4 + n, 9, tzinfo=CHICAGO), timedelta(hours=1), uid=f"{n}", rrule={"freq": "weekly"})
        for n in range(5)
    ]
    content = file(*past, *weekly)
    assert len(content) > 200_000
    assert len(calendar_files.read_apart(content, [CHICAGO], now=NOW)) == pytest.approx(5 * 52, abs=5)


@pytest.mark.parametrize("zones", [(CHICAGO,), (CHICAGO, DENVER)])
def test_a_process_of_its_own_tells_the_same(zones: tuple[ZoneInfo, ...]) -> None:
    content = file(event(on(24), on(27)), event(at(1, 9), at(1, 10), uid="b", rrule={"freq": "weekly", "count": 9}))
    told = calendar_files.read(content, zones, now=NOW)
    assert len(told) == 10
    assert calendar_files.read_apart(content, zones, now=NOW) == told
    for other, code in ((file(), "empty"), (b"", "malformed")):
        with pytest.raises(Unreadable, match=code):
            calendar_files.read_apart(other, zones, now=NOW)


@pytest.mark.parametrize("zone", ["America", "A" * 5000])
def test_a_zone_whose_name_is_no_file_is_refused(zone: str) -> None:
    """A folder of the zones' files, and a name longer than a file's may be."""
    content = file(event(at(25, 9, zone=None), at(25, 10, zone=None)))
    for name in (b"DTSTART", b"DTEND"):
        content = content.replace(name, name + f";TZID={zone}".encode())
    with pytest.raises(Unreadable, match="malformed"):
        calendar_files.read_apart(content, [CHICAGO], now=NOW)
