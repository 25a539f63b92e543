"""Times in words: true on the wall of their zone, told apart in the night when clocks go back, never rounded up."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from scheduler import words
from scheduler.timeline import CELL, zone_of
from tests.clinic import at

ZONES = (
    *("America/New_York", "America/Chicago", "America/Denver", "America/Phoenix", "America/Los_Angeles"),
    *("America/Indiana/Indianapolis", "America/Anchorage", "Pacific/Honolulu", "America/Puerto_Rico", "Pacific/Guam"),
)
MONTHS = {
    "en": "January,February,March,April,May,June,July,August,September,October,November,December",
    "es": "enero,febrero,marzo,abril,mayo,junio,julio,agosto,septiembre,octubre,noviembre,diciembre",
}
WEEKDAYS = {
    "en": "Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday",
    "es": "lunes,martes,miércoles,jueves,viernes,sábado,domingo",
}
SPOKEN = {
    "en": re.compile(r"(\w+), (\w+) (\d+), (\d+), (\d+):(\d\d) ([AP]M) (\S.*)"),
    "es": re.compile(r"(\w+) (\d+) de (\w+) de (\d+), (\d+):(\d\d) ([ap])\. m\., (\S.*)"),
}
SECONDS = {
    "en": {"minute": 60, "hour": 3600, "day": 86400},
    "es": {"minuto": 60, "hora": 3600, "día": 86400},
}
AHEAD = {"en": re.compile(r"in (\d+) ([a-z]+?)s?"), "es": re.compile(r"dentro de (\d+) ([a-zí]+?)s?")}
bounded = hypothesis_settings(
    deadline=None, derandomize=True, database=None, max_examples=200, suppress_health_check=list(HealthCheck)
)
zones, languages = st.sampled_from(ZONES), st.sampled_from(sorted(words.LANGUAGES))
CHANGES = [
    datetime(2027, 3, 14, 6, tzinfo=UTC),
    datetime(2027, 11, 7, 4, tzinfo=UTC),
    datetime(2026, 11, 1, 4, tzinfo=UTC),
]
instants = st.one_of(
    st.datetimes(datetime(2026, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 it asks for naive ones
    st.builds(lambda change, cells: change + cells * CELL, st.sampled_from(CHANGES), st.integers(0, 60)),
)


def spoken(text: str, language: str) -> tuple[datetime, str, str]:
    """A time in words read back by plain means: the wall clock, the weekday's word, the zone's words."""
    found = SPOKEN[language].fullmatch(text)
    assert found, text
    weekday, one, other, year, hour, minute, half, zone = found.groups()
    month, day = (one, other) if language == "en" else (other, one)
    of_day = int(hour) % 12 + 12 * (half.lower().startswith("p"))
    wall = datetime(int(year), MONTHS[language].split(",").index(month) + 1, int(day), of_day, int(minute))  # noqa: DTZ001 a wall clock
    return wall, weekday, zone


@given(instant=instants, zone=zones, language=languages)
@bounded
def test_a_time_in_words_is_the_time_on_the_wall_of_its_zone(instant: datetime, zone: str, language: str) -> None:
    wall = instant.astimezone(zone_of(zone)).replace(tzinfo=None, second=0, microsecond=0, fold=0)
    told, weekday, named = spoken(words.when(instant, zone, language, year=True), language)
    assert told == wall
    assert weekday == WEEKDAYS[language].split(",")[wall.weekday()]
    assert named == words.zone_name(instant, zone, language)
    assert not re.search(r"GMT|UTC|[+\d]", named)


@given(instant=instants, zone=zones, language=languages)
@bounded
def test_the_whole_label_is_made_of_its_parts(instant: datetime, zone: str, language: str) -> None:
    whole = words.when(instant, zone, language)
    comma = "" if language == "en" else ","
    named = words.zone_name(instant, zone, language)
    assert whole == f"{words.day(instant, zone, language)}, {words.hour(instant, zone, language)}{comma} {named}"
    assert whole.isprintable()


@given(one=instants, other=instants, zone=zones, language=languages)
@example(one=at("2027-11-07T06:30+00:00"), other=at("2027-11-07T07:30+00:00"), zone="America/Chicago", language="en")
@example(one=at("2027-11-07T06:30+00:00"), other=at("2027-11-07T07:30+00:00"), zone="America/Chicago", language="es")
@bounded
def test_two_starts_of_one_place_are_never_told_in_the_same_words(
    one: datetime, other: datetime, zone: str, language: str
) -> None:
    labels = {words.when(start, zone, language, year=True) for start in (one, other)}
    minutes = {start.replace(second=0, microsecond=0) for start in (one, other)}
    assert len(labels) == len(minutes)


def test_on_a_page_no_line_ends_within_a_half_of_the_day() -> None:
    for hour, told in ((15, "9:00 a.\N{NO-BREAK SPACE}m."), (21, "3:00 p.\N{NO-BREAK SPACE}m.")):
        instant = datetime(2026, 11, 23, hour, tzinfo=UTC)
        assert words.unbroken(words.hour(instant, "America/Chicago", "es")) == told
    assert words.unbroken("9:00 AM") == "9:00 AM"


def test_a_length_is_short_where_there_is_little_room() -> None:
    assert {words.minutes(60, language) for language in words.LANGUAGES} == {"60 min"}


@given(now=instants, left=st.integers(0, 400 * 86400), language=languages)
@example(now=CHANGES[0], left=18 * 86400, language="en")  # once "in 3 weeks"
@example(now=CHANGES[0], left=80 * 86400, language="es")
@example(now=CHANGES[0], left=2 * 3600 - 1, language="en")
@example(now=CHANGES[0], left=48 * 3600 - 1, language="es")
@example(now=CHANGES[0], left=0, language="en")
@bounded
def test_a_distance_is_never_longer_than_it_is_nor_shorter_by_a_unit(now: datetime, left: int, language: str) -> None:
    text = words.distance(now + timedelta(seconds=left), now, language)
    found = AHEAD[language].fullmatch(text)
    assert found, text
    unit = SECONDS[language][found[2]]
    assert int(found[1]) * unit <= left < (int(found[1]) + 1) * unit
    assert unit == (60 if left < 2 * 3600 else 3600 if left < 48 * 3600 else 86400)


@pytest.mark.parametrize(
    ("left", "english", "spanish"),
    [
        (timedelta(minutes=1, seconds=59), "in 1 minute", "dentro de 1 minuto"),
        (timedelta(minutes=119, seconds=59), "in 119 minutes", "dentro de 119 minutos"),
        (timedelta(hours=2), "in 2 hours", "dentro de 2 horas"),
        (timedelta(hours=47, minutes=59), "in 47 hours", "dentro de 47 horas"),
        (timedelta(days=2), "in 2 days", "dentro de 2 días"),
        (timedelta(days=18, hours=23), "in 18 days", "dentro de 18 días"),
        (timedelta(days=90), "in 90 days", "dentro de 90 días"),
    ],
)
def test_a_distance_is_told_in_the_unit_that_people_use(left: timedelta, english: str, spanish: str) -> None:
    assert [words.distance(CHANGES[0] + left, CHANGES[0], language) for language in ("en", "es")] == [english, spanish]


@given(now=instants, left=st.integers(0, 100 * 96), zone=zones)
@bounded
def test_days_ahead_are_the_midnights_of_the_place_between(now: datetime, left: int, zone: str) -> None:
    then = now + left * CELL
    local_now, local_then = now.astimezone(zone_of(zone)), then.astimezone(zone_of(zone))
    days = {(now + n * CELL).astimezone(zone_of(zone)).date() for n in range(left)} | {local_then.date()}
    assert words.days_ahead(then, zone, now) == len(days | {local_now.date()}) - 1


def test_one_moment_is_today_in_one_place_and_tomorrow_in_another() -> None:
    now, start = at("2026-11-24T05:30:00+00:00"), at("2026-11-24T07:30:00+00:00")  # 0:30 and 2:30 in New York
    assert words.days_ahead(start, "America/New_York", now) == 0
    assert words.days_ahead(start, "America/Chicago", now) == 1


def test_a_night_of_23_hours_and_one_of_25_have_one_midnight() -> None:
    for evening, morning in [
        ("2027-03-13T22:00-06:00", "2027-03-14T08:00-05:00"),
        ("2027-11-06T22:00-05:00", "2027-11-07T08:00-06:00"),
    ]:
        assert words.days_ahead(at(morning), "America/Chicago", at(evening)) == 1
    assert words.distance(at("2027-03-14T08:00-05:00"), at("2027-03-13T22:00-06:00"), "en") == "in 9 hours"
    assert words.distance(at("2027-11-07T08:00-06:00"), at("2027-11-06T22:00-05:00"), "en") == "in 11 hours"


FOLDED = {
    "Zoë O’Brien-Núñez": "zoe obrien nunez",
    "  ŁUKASZ   Szymański ": "lukasz szymanski",
    "Øyvind Ærø": "oyvind aero",
    "Groß": "gross",
    "İbrahim Işık": "ibrahim isik",
    "Иван Й": "иван и",
    "d'Angelo": "dangelo",
    "": "",
}


def test_names_are_looked_for_without_accents_capitals_and_marks() -> None:
    assert {name: words.folded(name) for name in FOLDED} == FOLDED
    assert all(words.folded(name) == name for name in FOLDED.values())


NUMBERS = {"+12175550142": "(217) 555-0142", "+34911234567": "+34 911 23 45 67", "12": "12", "": "", "x": "x"}


def test_phone_numbers_are_written_as_people_write_them() -> None:
    found = {number: words.phone(number) for number in NUMBERS}
    assert found == NUMBERS
