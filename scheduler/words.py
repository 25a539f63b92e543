"""Times in words: in a language, on the wall clock of the location, the zone named. The server says it, no browser."""

from datetime import datetime
from functools import cache

from babel import dates
from babel.core import get_global

from scheduler.timeline import zone_of

LANGUAGES = ("en", "es")
DEFAULT_LANGUAGE = "en"
DAY_PATTERNS = {"en": "EEEE, MMMM d", "es": "EEEE d 'de' MMMM"}
WHEN_PATTERNS = {"en": "EEEE, MMMM d, y, h:mm a zzzz", "es": "EEEE d 'de' MMMM 'de' y, h:mm a, zzzz"}


def day(instant: datetime, zone: str, language: str) -> str:
    """The day of the week and the date, as in "Monday, November 23"."""
    return _format(instant, zone, language, DAY_PATTERNS[language])


def hour(instant: datetime, zone: str, language: str) -> str:
    """The time of day, as in "9:00 AM"."""
    return _format(instant, zone, language, "h:mm a")


def when(instant: datetime, zone: str, language: str) -> str:
    """All of a time, as in "Monday, November 23, 2026, 9:00 AM Central Standard Time"."""
    return _format(instant, zone, language, WHEN_PATTERNS[language])


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


def _plain(text: str) -> str:
    """With plain blanks, which every header, phone and search understands."""
    return " ".join(text.split())
