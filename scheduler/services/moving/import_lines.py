"""What the lines of another program's files mean: columns by their titles, cells as values, what is wrong where."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from enum import StrEnum
from itertools import takewhile
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from scheduler import accepted
from scheduler.csv_cells import MOST_ROWS, Table
from scheduler.timeline import DAY_MINUTES
from scheduler.words import folded

TITLE = (
    "name", "patient", "last_name", "start", "time", "therapist", "weekday", "opens", "closes", "location",
    "email", "phone",
)  # fmt: skip
LONGEST_TITLE = 200
LONGEST_NAME, LONGEST_EMAIL, LONGEST_NOTE, LONGEST_PHONE = 200, 254, 500, 40
YEARS = range(2000, 2200)
GRID = 15
T = TypeVar("T")


class What(StrEnum):
    """What a file is about, in the order in which a clinic moves in."""

    THERAPISTS = "therapists"
    HOURS = "hours"
    PATIENTS = "patients"
    VISITS = "visits"


class Trouble(StrEnum):
    """What can be wrong with a cell or a line; pages have words for each."""

    MISSING = "missing"
    TOO_LONG = "too-long"
    NOT_PLAIN = "not-plain"
    EMAIL = "email"
    PHONE = "phone"
    DATE = "date"
    DAY_FIRST = "day-first"
    MONTH_FIRST = "month-first"
    TIME = "time"
    WEEKDAY = "weekday"
    LANGUAGE = "language"
    NUMBER = "number"
    NEEDLING = "needling"
    STANDBY = "standby"
    OFF_GRID = "off-grid"
    ORDER = "order"
    SKIPPED_HOUR = "skipped-hour"
    DOUBLE_HOUR = "double-hour"
    TOO_FAR = "too-far"
    UNKNOWN_THERAPIST = "unknown-therapist"
    UNKNOWN_LOCATION = "unknown-location"
    UNKNOWN_TYPE = "unknown-type"
    SEVERAL = "several"
    UNREACHABLE = "unreachable"
    NOT_LICENSED = "not-licensed"
    NO_NEEDLING = "no-needling"
    TAKEN = "taken"
    CLASH = "clash"
    TWICE = "twice"
    OTHERWISE = "otherwise"
    ACCOUNT = "account"
    MORE_CELLS = "more-cells"


class Outcome(StrEnum):
    """What would become of a line."""

    NEW = "new"
    KNOWN = "known"
    OVER = "over"
    CALLED_OFF = "called-off"
    PROBLEM = "problem"


# Each visit takes some 3 ms of the one transaction that stores them, and patients wait that long for their booking.
MOST_LINES = dict.fromkeys(What, MOST_ROWS) | {What.VISITS: 5_000}


@dataclass(frozen=True, slots=True)
class Column:
    """Something that a file may tell; `titles` are what programs call it, in English and Spanish, plainly written."""

    name: str
    titles: tuple[str, ...]
    needed: bool = False


NAME = ("name", "full name", "nombre", "nombre completo")
PATIENT = (
    "patient", "patient name", "client", "client name", "first name", "patient first name", "client first name",
    "paciente", "nombre del paciente", "cliente",
)  # fmt: skip
LAST_NAME = Column(
    "last_name",
    ("last name", "patient last name", "client last name", "surname", "family name", "apellido", "apellidos"),
)
EMAIL = Column("email", ("email", "e mail", "email address", "e mail address", "mail", "correo", "correo electronico"))
PHONE = Column(
    "phone",
    ("phone", "phone number", "mobile", "mobile phone", "cell", "telephone", "tel", "telefono", "movil", "celular"),
)
BIRTH_DATE = Column(
    "birth_date",
    (
        "birth date",
        "date of birth",
        "dob",
        "d o b",
        "birthday",
        "birthdate",
        "born",
        "fecha de nacimiento",
        "nacimiento",
    ),
)
THERAPIST = Column(
    "therapist", ("therapist", "provider", "clinician", "practitioner", "terapeuta", "fisioterapeuta", "profesional"),
    needed=True,
)  # fmt: skip
LOCATION = Column("location", ("location", "clinic", "site", "office", "sede", "clinica", "consultorio", "lugar"))
LANGUAGE = ("language", "languages", "preferred language", "idioma", "idiomas", "lengua")
COLUMNS: dict[What, tuple[Column, ...]] = {
    What.THERAPISTS: (
        Column("name", (*NAME, *THERAPIST.titles, "first name"), needed=True),
        LAST_NAME,
        Column("credentials", ("credentials", "degree", "degrees", "title", "credenciales", "titulo", "titulos")),
        Column("languages", LANGUAGE),
        EMAIL,
    ),
    What.HOURS: (
        THERAPIST,
        LOCATION,
        Column("weekday", ("weekday", "day", "day of week", "dia", "dia de la semana"), needed=True),
        Column("opens", ("opens", "from", "start", "start time", "begins", "desde", "inicio", "hora de inicio"),
            needed=True),
        Column("closes", ("closes", "to", "end", "end time", "until", "hasta", "fin", "hora de fin"), needed=True),
        Column("valid_from", ("valid from", "first day", "start date", "fecha de inicio", "primer dia")),
        Column("valid_until", ("valid until", "last day", "end date", "fecha de fin", "ultimo dia")),
        Column("every_weeks", ("every weeks", "every so many weeks", "weeks", "cada semanas", "cada tantas semanas")),
        Column("standby", ("standby", "on standby", "stand by", "en reserva", "reserva")),
    ),
    What.PATIENTS: (
        Column("name", (*NAME, *PATIENT), needed=True),
        LAST_NAME,
        EMAIL,
        PHONE,
        BIRTH_DATE,
        Column("language", LANGUAGE),
    ),
    What.VISITS: (
        Column("imported_as", ("id", "visit id", "appointment id", "appt id", "number", "appointment number",
            "appt number", "appt no", "visit number", "reference", "referencia", "numero")),
        Column("start", ("start", "date", "starts", "appointment date", "appt date", "visit date", "start date",
            "start date time", "date time", "fecha", "fecha y hora", "inicio", "fecha de la cita"), needed=True),
        Column("time", ("time", "start time", "appointment time", "appt time", "hora", "hora de inicio")),
        Column("end", ("end", "ends", "end time", "fin", "hora de fin")),
        Column("minutes", ("minutes", "mins", "min", "duration", "length", "duration minutes", "duracion", "minutos")),
        Column("buffer", ("buffer", "buffer minutes", "minutes after", "minutos despues")),
        THERAPIST,
        LOCATION,
        Column("type", ("type", "visit type", "appointment type", "appt type", "service", "reason", "tipo",
            "tipo de cita", "servicio"),
            needed=True),
        Column("patient", (*PATIENT, *NAME), needed=True),
        LAST_NAME,
        EMAIL,
        PHONE,
        BIRTH_DATE,
        Column("needling", ("needling", "needles", "dry needling", "agujas", "puncion seca")),
        Column("note", ("note", "notes", "comment", "comments", "nota", "notas", "comentarios", "what hurts")),
        Column("status", ("status", "state", "estado")),
    ),
}  # fmt: skip
DATES = {"birth_date", "start", "end", "valid_from", "valid_until"}  # the columns that hold dates


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a line out: in which column, what, and with whom or what it has to do.

    `patient_id` is that of a patient of ours whom `about` names.
    """

    column: str
    trouble: Trouble
    about: str = ""
    patient_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file and what would become of it; `row` is what to store, for one that is new."""

    number: int
    title: str
    outcome: Outcome
    problems: tuple[Problem, ...] = ()
    row: Any = None


@dataclass(frozen=True, slots=True)
class File:
    """A table, and how its reader understands it.

    `columns` says where each of ours stands; `meanings` what the old program's words for a therapist, a location or a
    kind of visit mean here; `day_first` whether 3/4 is the third of April.
    """

    what: What
    table: Table
    columns: Mapping[str, int]
    day_first: bool = False
    meanings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Unusable(ValueError):
    def __init__(self, trouble: Trouble, about: str = "") -> None:
        super().__init__(trouble)
        self.trouble, self.about = trouble, about


@dataclass(slots=True)
class Cells:
    """One line's cells by our names of them. What cannot be used is noted, and reads as None."""

    number: int
    given: Mapping[str, str]
    day_first: bool
    problems: list[Problem] = field(default_factory=list)

    def note(self, column: str, trouble: Trouble, about: str = "", patient_id: UUID | None = None) -> None:
        self.problems.append(Problem(column, trouble, about, patient_id))

    @property
    def title(self) -> str:
        """What of the line tells its reader which one it is."""
        told = (self.given.get(name, "") for name in TITLE)
        return ", ".join(filter(None, told))[:LONGEST_TITLE]

    def read(self, column: str, parse: Callable[[str], T]) -> T | None:
        """The value of a cell; None where it is empty or of no use."""
        text = self.given.get(column, "")
        if not text:
            return None
        try:
            return parse(text)
        except Unusable as error:
            self.note(column, error.trouble, error.about or text)
        return None

    def need(self, column: str, parse: Callable[[str], T]) -> T | None:
        if not self.given.get(column):
            self.note(column, Trouble.MISSING)
        return self.read(column, parse)

    def date(self, column: str) -> date | None:
        return self.read(column, lambda text: date_of(text, day_first=self.day_first))

    def name(self, column: str) -> str | None:
        """A person's name, of one column or of two."""
        first, last = self.need(column, name_of), self.read("last_name", name_of)
        whole = " ".join(filter(None, (first, last))) if last else in_order(first or "")
        if len(whole) > LONGEST_NAME:
            self.note(column, Trouble.TOO_LONG)
        return whole if first else None

    def line(self, row: Any, outcome: Outcome = Outcome.NEW) -> Line:  # noqa: ANN401 each kind has its own
        """The line, judged: whatever was noted keeps it out."""
        if self.problems:
            return Line(self.number, self.title, Outcome.PROBLEM, tuple(self.problems))
        return Line(self.number, self.title, outcome, row=row if outcome == Outcome.NEW else None)


def guessed(what: What, header: Sequence[str]) -> dict[str, int]:
    """Where each of our columns seems to stand: under one of its titles, else under words that hold one."""
    plain = [plainly(title.replace("#", " number ")) for title in header]
    found: dict[str, int] = {}
    for alike in (lambda title, cell: title == cell, lambda title, cell: f" {title} " in f" {cell} "):
        for column in COLUMNS[what]:
            free = [at for at, cell in enumerate(plain) if cell and at not in found.values()]
            match = next((at for title in column.titles for at in free if alike(title, plain[at])), None)
            if column.name not in found and match is not None:
                found[column.name] = match
    return found


@dataclass(frozen=True, slots=True)
class DatesTold:
    """How many dates of a file can only have the day first, or only the month; `either` is one that can have both."""

    days_first: int
    months_first: int
    either: str

    @property
    def day_first(self) -> bool:
        """What most of those dates say that say anything."""
        return self.days_first > self.months_first

    @property
    def doubtful(self) -> bool:
        """Whether some date is read one way while nothing in the file, or as much as contradicts itself, says so."""
        return bool(self.either) and bool(self.days_first) == bool(self.months_first)


def dates_told(file: File) -> DatesTold:
    """What the dates in the columns of dates say of their order."""
    where = [at for name, at in file.columns.items() if name in DATES]
    cells = (row[at] for _, row in file.table.rows for at in where if at < len(row))
    dates = [found for cell in cells if (found := SLASHED.match(cell))]
    ways = [(found[0], _of_slashed(found, day_first=True), _of_slashed(found, day_first=False)) for found in dates]
    return DatesTold(
        days_first=sum(month is None and day is not None for _, day, month in ways),
        months_first=sum(day is None and month is not None for _, day, month in ways),
        either=next((text for text, day, month in ways if day and month and day != month), ""),
    )


def lines(file: File) -> list[Cells]:
    """The file's lines as cells under our names."""
    width = len(file.table.header)
    result = []
    for number, row in file.table.rows:
        given = {name: row[at] for name, at in file.columns.items() if at < len(row)}
        for name, meanings in file.meanings.items():
            given[name] = meanings.get(given.get(name, ""), given.get(name, ""))
        cells = Cells(number, given, file.day_first)
        if any(row[width:]):
            cells.note("", Trouble.MORE_CELLS)
        result.append(cells)
    return result


def plainly(text: str) -> str:
    """Words without case, accents and marks, so that titles and names can be compared."""
    return " ".join(re.findall(r"[^\W_]+", folded(text)))


def text_of(longest: int) -> Callable[[str], str]:
    """One line of plain text."""

    def parse(text: str) -> str:
        if len(text) > longest:
            raise Unusable(Trouble.TOO_LONG)
        return _accepted(accepted.one_line, " ".join(text.split()), Trouble.NOT_PLAIN)

    return parse


def note_of(text: str) -> str:
    if len(text) > LONGEST_NOTE:
        raise Unusable(Trouble.TOO_LONG)
    return _accepted(accepted.plain_text, text.replace("\r\n", "\n"), Trouble.NOT_PLAIN)


def name_of(text: str) -> str:
    return _accepted(accepted.name, text_of(LONGEST_NAME)(text), Trouble.NOT_PLAIN)


SUFFIXES = {"Jr", "Sr", "JR", "SR", "jr", "sr", "II", "III", "IV"}
DEGREES = {
    "PT", "DPT", "MPT", "MSPT", "BSPT", "PTA", "OT", "OTD", "OTR", "OTR/L", "COTA", "MD", "DO", "DC", "RN", "NP",
    "PhD", "PHD", "EdD", "ScD", "DSc", "MS", "MSc", "BS", "BSc", "ATC", "LAT", "CSCS", "OCS", "SCS", "GCS", "NCS",
    "WCS", "PCS", "ECS", "CHT", "LMT", "LAc", "CMPT", "COMT", "FAAOMPT",
}  # fmt: skip
LIKE_A_DEGREE = re.compile(r"[A-Z][A-Z0-9./-]{1,9}")


def in_order(name: str) -> str:
    """A name as it is spoken: "Doe, Pat" is Pat Doe, while what follows in "Ana Abbott, PT" or "Sam Doe, Jr." stays.

    Capitals alone make no degree where all is in capitals, or where one word stands before the comma: "DOE, PAT".
    """
    last, *rest = [part.strip() for part in name.split(",") if part.strip()] or [name]
    bare = name.isupper() or " " not in last
    given = [part for part in rest if not all(_follows(word, bare=bare) for word in part.split())]
    if len(given) != 1 or not any(map(str.isalpha, given[0])):
        return name
    words = given[0].split()
    degrees = list(reversed(list(takewhile(lambda word: _follows(word, bare=True), reversed(words)))))
    spoken = " ".join([*words[: len(words) - len(degrees)], last])
    return ", ".join([spoken, *degrees, *(part for part in rest if part != given[0])])


def _follows(word: str, *, bare: bool) -> bool:
    """Whether a word is what follows a name: a suffix or a degree."""
    known = word.replace(".", "") in SUFFIXES | DEGREES
    return known or (not bare and LIKE_A_DEGREE.fullmatch(word) is not None)


def name_key(name: str) -> str:
    """A person's name as it is compared."""
    return plainly(in_order(name))


def email_of(text: str) -> str:
    if len(text) > LONGEST_EMAIL:
        raise Unusable(Trouble.TOO_LONG)
    return _accepted(accepted.email, _accepted(accepted.one_line, text, Trouble.EMAIL), Trouble.EMAIL)


def phone_of(text: str) -> str:
    if len(text) > LONGEST_PHONE:
        raise Unusable(Trouble.TOO_LONG)
    return _accepted(accepted.phone, _accepted(accepted.one_line, text, Trouble.PHONE), Trouble.PHONE)


LANGUAGES = {
    "english": "en", "ingles": "en", "spanish": "es", "espanol": "es", "french": "fr", "frances": "fr",
    "german": "de", "aleman": "de", "portuguese": "pt", "portugues": "pt", "polish": "pl", "polaco": "pl",
    "chinese": "zh", "chino": "zh", "arabic": "ar", "arabe": "ar", "russian": "ru", "ruso": "ru",
    "vietnamese": "vi", "korean": "ko", "tagalog": "tl", "hindi": "hi", "italian": "it", "italiano": "it",
}  # fmt: skip


def language_of(text: str) -> str:
    """An ISO 639-1 code, or a language by its name."""
    plain = plainly(text)
    code = LANGUAGES.get(plain, plain)
    if not re.fullmatch("[a-z]{2}", code):
        raise Unusable(Trouble.LANGUAGE)
    return code


def languages_of(text: str) -> tuple[str, ...]:
    return tuple(sorted({language_of(part) for part in re.split(r"[,;/|+&]|\by\b|\band\b", text) if part.strip()}))


ISO_DATE = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})")
SLASHED = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d{2})(?!\d)")


def date_of(text: str, *, day_first: bool) -> date:
    """2026-11-30, 11/30/2026 or, with the day first, 30/11/2026; one that is a date the other way round is told so."""
    iso, slashed = ISO_DATE.fullmatch(text), SLASHED.fullmatch(text)
    if slashed:
        found = _of_slashed(slashed, day_first=day_first)
        if found is None and _of_slashed(slashed, day_first=not day_first):
            raise Unusable(Trouble.MONTH_FIRST if day_first else Trouble.DAY_FIRST)
    else:
        found = _date(*map(int, iso.groups())) if iso else None
    if found is None:
        raise Unusable(Trouble.DATE)
    return found


def _of_slashed(slashed: re.Match[str], *, day_first: bool) -> date | None:
    one, other, year = map(int, slashed.groups())
    day, month = (one, other) if day_first else (other, one)
    century = 2000 if len(slashed[3]) == 2 else 0  # noqa: PLR2004 a year of two digits
    return _date(year + century, month, day)


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def birth_date_of(text: str, *, day_first: bool, today: date) -> date:
    """A year of two digits is the last such year that has begun."""
    born = date_of(text, day_first=day_first)
    found = SLASHED.fullmatch(text)
    if found and len(found[3]) == 2 and born > today:  # noqa: PLR2004 a year of two digits
        born = date_of(f"{text[: -len(found[3])]}{born.year - 100}", day_first=day_first)
    if born > today:
        raise Unusable(Trouble.DATE)
    return _accepted(accepted.birth_date, born, Trouble.DATE)


CLOCK = re.compile(r"(\d{1,2})(?:[:.h](\d{2}))?(?::(\d{2})(?:\.\d+)?)?\s*(?:([ap])\.?\s*m\.?)?", re.IGNORECASE)
NOON = 12


def minutes_of(text: str) -> int:
    """Minutes after midnight of 14:30, 2:30 PM or 26:00, which is two in the next night; seconds have to be zero."""
    found = CLOCK.fullmatch(text)
    if found is None or (found[2] is None and found[4] is None) or int(found[3] or 0):
        raise Unusable(Trouble.TIME)
    hours, minutes = int(found[1]), int(found[2] or 0)
    if found[4]:
        if not 1 <= hours <= NOON:
            raise Unusable(Trouble.TIME)
        hours = hours % NOON + (NOON if found[4].lower() == "p" else 0)
    if minutes > 59 or hours * 60 + minutes > 2 * DAY_MINUTES:  # noqa: PLR2004 of an hour
        raise Unusable(Trouble.TIME)
    return hours * 60 + minutes


def clock_of(minutes: int) -> str:
    """The inverse of `minutes_of`."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


WEEKDAYS = (
    ("monday", "lunes"), ("tuesday", "martes"), ("wednesday", "miercoles"), ("thursday", "jueves"),
    ("friday", "viernes"), ("saturday", "sabado"), ("sunday", "domingo"),
)  # fmt: skip
SHORTEST_WEEKDAY = 3


def weekday_of(text: str) -> int:
    """0 is Monday: by its English or Spanish name, of which three letters are enough."""
    plain = plainly(text)
    for number, names in enumerate(WEEKDAYS):
        if len(plain) >= SHORTEST_WEEKDAY and any(name.startswith(plain) for name in names):
            return number
    raise Unusable(Trouble.WEEKDAY)


def standby_of(text: str) -> tuple[bool, bool]:
    """Whether hours are on standby, and whether they open by rule; in English or Spanish.

    >>> standby_of("No"), standby_of("yes"), standby_of("Rule")
    ((False, False), (True, False), (True, True))
    """
    for words, meant in ((("no",), (False, False)), (("yes", "si"), (True, False)), (("rule", "regla"), (True, True))):
        if plainly(text) in words:
            return meant
    raise Unusable(Trouble.STANDBY)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        found = re.fullmatch(r"(\d{1,4})(?:\.0+)?\s*(?:m|min|mins|minutes|minutos)?\.?", text, re.IGNORECASE)
        if found is None or not least <= int(found[1]) <= most:
            raise Unusable(Trouble.NUMBER)
        return int(found[1])

    return parse


DAY_AND_CLOCK = re.compile(r"(\S+?)(?:T|,?\s+)(\d.*)", re.IGNORECASE)


def instant_of(day: str, clock: str, zone: ZoneInfo, *, day_first: bool) -> datetime:
    """When a visit begins, on the location's clock unless an offset is given.

    Raises Unusable for an hour that the clock skips that night, and for one that comes twice without its offset.
    """
    if not clock:
        exact = _with_offset(day)
        if exact is not None:
            return exact
        parts = DAY_AND_CLOCK.fullmatch(day)
        day, clock = (parts[1], parts[2]) if parts else (day, "")
    if not clock:
        raise Unusable(Trouble.TIME)
    minutes = minutes_of(clock)
    if minutes >= DAY_MINUTES:
        raise Unusable(Trouble.TIME)
    on = date_of(day, day_first=day_first)
    if on.year not in YEARS:
        raise Unusable(Trouble.DATE)
    wall = datetime.combine(on, time(minutes // 60, minutes % 60))
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return first
    raise Unusable(Trouble.DOUBLE_HOUR if first < second else Trouble.SKIPPED_HOUR)


def _with_offset(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    if instant.tzinfo is None:
        return None
    if instant.year not in YEARS:
        raise Unusable(Trouble.DATE)
    if instant.second or instant.microsecond or instant.utcoffset() is None:
        raise Unusable(Trouble.TIME)
    return instant.astimezone(UTC)


def _accepted(check: Callable[[Any], T], value: object, trouble: Trouble) -> T:
    try:
        return check(value)
    except Unusable:
        raise
    except ValueError as error:
        raise Unusable(trouble) from error
