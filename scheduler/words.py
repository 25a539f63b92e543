"""Times in words: in a language, on the wall clock of the location, the zone named. The server says it, no browser."""

import unicodedata
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from functools import cache, lru_cache
from typing import Literal

import phonenumbers
from babel import Locale, UnknownLocaleError, dates, units
from babel.core import get_global

from scheduler.timeline import DAY, DAY_MINUTES, WallRange, local_date, zone_of

LANGUAGES = {"en": "English", "es": "Español"}
DEFAULT_LANGUAGE = "en"
DAY_PATTERNS = {"en": "EEEE, MMMM d", "es": "EEEE d 'de' MMMM"}
DAY_AND_YEAR_PATTERNS = {"en": "EEEE, MMMM d, y", "es": "EEEE d 'de' MMMM 'de' y"}
RANGE_PATTERNS = {"en": "{} to {}", "es": "{} a {}"}
HOURS_OF_DAY_PATTERNS = {"en": "{}, {} to {}", "es": "{}, de {} a {}"}
HOUR_AND_ZONE_PATTERNS = {"en": "h:mm a zzzz", "es": "h:mm a, zzzz"}
UNITS: dict[timedelta, Literal["minute", "hour", "day"]] = {
    timedelta(minutes=1): "minute",
    timedelta(hours=1): "hour",
    DAY: "day",
}
# Letters that Unicode does not take apart, and the marks that people leave out when they type a name.
ALONE = str.maketrans({
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "þ": "th", "æ": "ae", "œ": "oe",
    **dict.fromkeys("'’‘ʼ`´", None),
    **dict.fromkeys("-‐‑‒–—", " "),
})  # fmt: skip
WORKING_DAYS = {"en": ("one working day", "{} working days"), "es": ("un día hábil", "{} días hábiles")}
NUMBERS = {  # from two on, as far as they are written out
    "en": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "es": ("dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez"),
}
NEVER = 10**9  # so many weeks, months or years make one, so that none is rounded to


def day(instant: datetime, zone: str, language: str, *, year: bool = False) -> str:
    """The day of the week and the date, as in "Monday, November 23"."""
    return _format(instant, zone, language, (DAY_AND_YEAR_PATTERNS if year else DAY_PATTERNS)[language])


@lru_cache(maxsize=1024)
def date_in_words(on: date, language: str, *, year: bool = False) -> str:
    """A date of somebody's calendar, as in "Monday, November 23"."""
    return _plain(dates.format_date(on, (DAY_AND_YEAR_PATTERNS if year else DAY_PATTERNS)[language], locale=language))


@lru_cache(maxsize=1024)
def plain_date(on: date, language: str) -> str:
    """A date far off, of which nobody asks the day of the week, as in "November 23, 2027"."""
    return _plain(dates.format_date(on, "long", locale=language))


def month_and_day(on: date, language: str) -> str:
    """A date whose year is not told, as in "March 4"."""
    return _plain(dates.format_skeleton("MMMMd", on, locale=language))


def plain_day(instant: datetime, zone: str, language: str) -> str:
    """The date at a location of an instant far off."""
    return plain_date(local_date(instant, zone_of(zone)), language)


@cache
def language_name(code: str, language: str) -> str:
    """What a language is called in another, as in "Spanish"; its code where nobody knows a name."""
    with suppress(ValueError, UnknownLocaleError):
        return Locale.parse(code).get_language_name(language) or code
    return code


def month_in_words(month: date, language: str) -> str:
    """A month of a calendar by one of its days, as in "November 2026"."""
    return _plain(dates.format_date(month, "LLLL y", locale=language))


def hour(instant: datetime, zone: str, language: str) -> str:
    """The time of day, as in "9:00 AM"."""
    return _format(instant, zone, language, "h:mm a")


@lru_cache(maxsize=1024)
def wall_time(minutes: int, language: str) -> str:
    """A time on the wall by its minutes since some midnight, as in "9:00 AM"."""
    return _plain(dates.format_time(time(minutes // 60 % 24, minutes % 60), "h:mm a", locale=language))


def range_in_words(wall: WallRange, language: str) -> str:
    """As in "Thursday, December 24, 2026, 12:00 PM to Friday, December 25, 2026"; whole days have no hours."""
    first, last = (date_in_words(day, language, year=True) for day in (wall.starts_on, wall.ends_on))
    starts = wall_time(wall.starts_minute, language) if wall.starts_minute else ""
    ends = wall_time(wall.ends_minute, language) if wall.ends_minute < DAY_MINUTES else ""
    if wall.starts_on != wall.ends_on:
        return RANGE_PATTERNS[language].format(
            *(", ".join(filter(None, end)) for end in ((first, starts), (last, ends)))
        )
    if not starts and not ends:
        return first
    midnight = wall_time(0, language)
    return HOURS_OF_DAY_PATTERNS[language].format(first, starts or midnight, ends or midnight)


@cache
def minutes(number: int, language: str) -> str:
    """A length where there is little room, as in "60 min"."""
    return _plain(units.format_unit(number, "duration-minute", length="short", locale=language))


@cache
def working_days(number: int, language: str) -> str:
    """So many days on which a place is open, as in "two working days"."""
    one, more = WORKING_DAYS[language]
    written = dict(enumerate(NUMBERS[language], start=2))
    return one if number == 1 else more.format(written.get(number, number))


@cache
def weekday(number: int, language: str) -> str:
    """The name of a day of the week, 0 for Monday."""
    return str(dates.get_day_names(locale=language)[number])


@cache
def weekday_short(number: int, language: str) -> str:
    """As little of a day of the week as a column of a calendar has room for."""
    return str(dates.get_day_names("abbreviated", locale=language)[number])


@lru_cache(maxsize=1024)
def short_date(on: date, language: str) -> str:
    """A date where there is little room, as in "Mar 4"."""
    return _plain(dates.format_skeleton("MMMd", on, locale=language))


def zone_name(instant: datetime, zone: str, language: str) -> str:
    """What the clock is called there at that moment, as in "Central Standard Time"."""
    return _format(instant, zone, language, "zzzz")


def when(instant: datetime, zone: str, language: str, *, year: bool = False) -> str:
    """The one label of a time, as in "Monday, November 23, 9:00 AM Central Standard Time"."""
    hour_and_zone = _format(instant, zone, language, HOUR_AND_ZONE_PATTERNS[language])
    return f"{day(instant, zone, language, year=year)}, {hour_and_zone}"


def days_ahead(instant: datetime, zone: str, now: datetime) -> int:
    """How many midnights of the location lie between now and then: 0 today, 1 tomorrow."""
    return (local_date(instant, zone_of(zone)) - local_date(now, zone_of(zone))) // DAY


def distance(instant: datetime, now: datetime, language: str) -> str:
    """How far ahead, as in "in 17 hours": minutes below two hours, hours below two days.

    Days from then on, and no weeks; what is left over is never rounded up.
    """
    left = instant - now
    unit = max(unit for unit in UNITS if unit == min(UNITS) or left >= 2 * unit)
    whole, name = left // unit * unit, UNITS[unit]
    return _plain(dates.format_timedelta(whole, granularity=name, threshold=NEVER, add_direction=True, locale=language))


@lru_cache(maxsize=1024)
def phone(number: str) -> str:
    """A stored number as people write it: "(217) 555-0142", and those of other countries with theirs."""
    try:
        found = phonenumbers.parse(number, "US")
    except phonenumbers.NumberParseException:
        return number
    at_home = found.country_code == 1
    form = phonenumbers.PhoneNumberFormat.NATIONAL if at_home else phonenumbers.PhoneNumberFormat.INTERNATIONAL
    return phonenumbers.format_number(found, form)


def folded(name: str) -> str:
    """A name as it is looked for: small, without accents and apostrophes, hyphens as blanks.

    >>> folded("Zoë O’Brien-Núñez")
    'zoe obrien nunez'
    """
    small = name.casefold()
    if not small.isascii():
        parts = unicodedata.normalize("NFKD", small)
        small = "".join(part for part in parts if not unicodedata.combining(part)).casefold()
    return _plain(small.translate(ALONE))


@lru_cache(maxsize=8192)  # many patients look at the same times
def _format(instant: datetime, zone: str, language: str, pattern: str) -> str:
    own = instant.astimezone(zone_of(zone))
    alike = (instant.astimezone(zone_of(other)) for other in _alike(zone))
    shown = next((other for other in alike if (other.utcoffset(), other.dst()) == (own.utcoffset(), own.dst())), own)
    return _plain(dates.format_datetime(shown, pattern, tzinfo=shown.tzinfo, locale=language))


@cache
def _alike(zone: str) -> tuple[str, ...]:
    """Zones of the same name to people, for one that Babel's tables do not know by its present name: Indianapolis."""
    names, aliases = get_global("meta_zones"), get_global("zone_aliases")
    if zone in names:
        return ()
    name = next((names[older] for older, newer in aliases.items() if newer == zone and older in names), None)
    return tuple(other for other in sorted(names) if names[other] == name and other not in aliases)


def unbroken(text: str) -> str:
    """The same for a page, where no line shall end within "a. m."."""
    return text.replace(". m.", ".\N{NO-BREAK SPACE}m.")


def _plain(text: str) -> str:
    """With plain blanks, which every header, phone and search understands."""
    return " ".join(text.split())
