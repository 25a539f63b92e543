"""What patients read: whole messages against golden files, true local times, nothing clinical, nothing injected.

The golden files hold each message decoded. `RENEW_GOLDEN=1 pytest tests/test_mail.py` writes them anew and fails all
the same: read the difference, then run again without it.
"""

import email
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from email import policy
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.utils import getaddresses, parsedate_to_datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from apiflask import APIFlask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from icalendar import Calendar, Event
from sqlalchemy import Engine, select, update

import config
from config import MailServer, Settings
from scheduler.app import create_app
from scheduler.channels import Parcel, Refused, Smtp
from scheduler.clock import FixedClock
from scheduler.db import make_engine, reading, transaction
from scheduler.delivery import Delivery
from scheduler.errors import NotFound
from scheduler.keys import Keyring
from scheduler.mail import Mailer
from scheduler.models import Account, Appointment, Channel, Fate, Kind, Location, OutboxMessage, Patient, Reason, Role
from scheduler.models.messaging import TO_STAFF, TO_WHO_ASKED
from scheduler.models.watch import WORDS
from scheduler.services import accounts, booking
from scheduler.services.access_watch import Alert
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.services.booking import PatientDetails, Visit
from scheduler.services.letters import AnyLetter, Letter, OneOfSeries, QuestionLetter, StaffLetter, VisitsLetter
from scheduler.services.license_ends import Ending
from scheduler.services.notices import Decision
from scheduler.services.questions import Asked
from tests.clinic import Clinic, at, body, key
from tests.server import free_port

GOLDEN = Path(__file__).parent / "golden"
NOW = at("2027-03-01T15:00:00+00:00")
HOUR = timedelta(hours=1)
SENDER = "appointments@clinic.example"
LINK = "https://clinic.example/appointments/"
HEADERS = (
    "Content-Type",
    "MIME-Version",
    "Subject",
    "From",
    "To",
    "Date",
    "Message-ID",
    "Content-Language",
    "Auto-Submitted",
)
ENCODED_BCC = "=?utf-8?q?x=0ABcc:evil@example.com?="
ENCODED_BCC_64 = "=?utf-8?b?eApCY2M6ZXZpbEBleGFtcGxlLmNvbQ==?="
BONES = "\U0001f9b4" * 200
HOSTILE = (
    "Clinic\nBcc: evil@example.com",
    "Clinic\r\nBcc: evil@example.com",
    "Clinic\rBcc: evil@example.com\r\n\r\nbody",
    "Clinic\0Bcc: evil@example.com",
    ENCODED_BCC,
    f"Café {ENCODED_BCC}",
    ENCODED_BCC_64,
    f'"{ENCODED_BCC_64}" <evil@example.com>',
    "=?=?utf-8?q?x?=",
    "Smith, Jones <evil@example.com>, and partners",
    'The "Best" Clinic \\ of them',
    "<evil@example.com>",
    "Clinic; (Springfield): evil@example.com;",
    "Clinic\u2028Bcc: evil@example.com\u2029Cc: evil@example.com",
    "Clinic\x85Bcc: evil@example.com\x0b\x0c\x1c\x1d\x1e",
    "Knochen & Gelenke \U0001f9b4\U0001f3e5",
    "\u202eclinic\u202c \u200fclinic\u200e \u2066clinic\u2069",
    "a" * 200,
    "é" * 200,
    BONES,
    "Clinic of Springfield " * 9,
    "Clínica de Ángel " * 11,
    "<img src=https://evil.example/x.png><script>alert(1)</script>",
    "'\"><a href='https://evil.example'>Your visit</a>",
    "{{ 7 * 7 }}{% raw %}",
    "%(clinic)s %s %%",
    "BEGIN:VEVENT\r\nUID:1\r\nEND:VEVENT",
    "a\\nb;c,d:e",
)
pieces = st.sampled_from(HOSTILE) | st.sampled_from(["\n", "\r", "\0", "=?", "?=", "=0A", ",", '"', "<", ">", ":", "@"])
names = st.lists(st.text(max_size=20) | pieces, min_size=1, max_size=6).map(lambda parts: "".join(parts)[:200] or "x")
few = hypothesis_settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def mail_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    environ = {"RATE_LIMITS": "off", "BASE_URL": "https://clinic.example"}
    return config.from_environment(environ, instance=tmp_path_factory.mktemp("instance"))


@pytest.fixture(scope="module")
def mailer(mail_settings: Settings) -> Iterator[Mailer]:
    """Writing mail asks no database anything, so this one is empty."""
    engine = make_engine("sqlite://")
    yield Mailer(create_app(mail_settings, engine, FixedClock(NOW)), mail_settings)
    engine.dispose()


def short(name: str) -> str:
    """A hostile name as part of a test's name."""
    return ascii(name)[1:40]


LETTER = Letter(
    message_id=UUID(int=1),
    kind=Kind.CONFIRMATION,
    recipient="pat@example.com",
    language="en",
    clinic="Achieve Ortho Rehab",
    place="Springfield",
    address="1 Main Street, Springfield, IL 62701",
    phone="+1 217 555 0100",
    time_zone="America/Chicago",
    visit_id=UUID(int=2),
    starts_at=at("2027-03-16T14:30:00+00:00"),
    ends_at=at("2027-03-16T15:30:00+00:00"),
    sequence=0,
    token="t0ken" * 8,
)


OF_SERIES: dict[str, Any] = {
    "explainer_shown": False,
    "series": tuple(
        OneOfSeries(
            visit_id=UUID(int=2 + number),
            starts_at=LETTER.starts_at + number * timedelta(days=7),
            ends_at=LETTER.ends_at + number * timedelta(days=7),
            sequence=0,
            place=LETTER.place,
            address=LETTER.address,
            phone=LETTER.phone,
            time_zone=LETTER.time_zone,
            token=f"t0ken{number}" * 7,
        )
        for number in range(2)
    ),
}
VISITS_LETTER = VisitsLetter(
    message_id=UUID(int=4),
    kind=Kind.MY_VISITS,
    recipient="pat@example.com",
    language="en",
    clinic="Achieve Ortho Rehab",
    token="t0ken.of_a-link",  # noqa: S106 no secret
    minutes=60,
)
TO_PATIENTS = [kind for kind in Kind if kind not in {*TO_STAFF, *TO_WHO_ASKED, Kind.MY_VISITS}]
QUESTION_LETTERS = {
    kind: QuestionLetter(
        message_id=UUID(int=4),
        kind=kind,
        recipient="pat@example.com",
        language="en",
        clinic="Achieve Ortho Rehab",
        place="Springfield",
        phone="+1 217 555 0100",
        answer=answer,
    )
    for kind, answer in (
        (Kind.QUESTION_RECEIVED, None),
        (Kind.QUESTION_ANSWERED, "Yes, we are open on Saturdays.\n\nPlease bring your insurance card."),
    )
}
STAFF_LETTERS = {
    kind: StaffLetter(
        message_id=UUID(int=3),
        kind=kind,
        recipient="ana@clinic.example",
        language="en",
        clinic="Achieve Ortho Rehab",
        about=about,
        token=token,
    )
    for kind, about, token in (
        (Kind.SET_PASSWORD, "1", "t0ken.of_a-link"),
        (Kind.LOCKED_OUT, "2027-03-15T14:30", None),
        (Kind.DAY_CHANGED, "2027-03-16", None),
        (Kind.TEST, "", None),
        (Kind.ADDRESS_CHANGED, "old@clinic.example", None),
        (Kind.WAYS_IN_CHANGED, "2027-03-15T14:30", None),
        (Kind.LICENSE_ENDS, "1 2027-03-31 30", None),
        (Kind.TIME_OFF_DECIDED, "1", None),
        (Kind.QUESTION_ASKED, "0" * 32, None),
        (Kind.QUESTION_WAITS, "0" * 32, None),
        *((kind, "1 2027-03-16", None) for kind in WORDS),
    )
}
STAFF_LETTERS[Kind.LICENSE_ENDS] = replace(
    STAFF_LETTERS[Kind.LICENSE_ENDS], license=Ending("Ana Abbott", "dry_needling", "IL", date(2027, 3, 31), own=False)
)
APPROVED = Decision(date(2027, 3, 24), 12 * 60, date(2027, 3, 26), 24 * 60, approved=True)
STAFF_LETTERS[Kind.TIME_OFF_DECIDED] = replace(STAFF_LETTERS[Kind.TIME_OFF_DECIDED], decision=APPROVED)
MISSED = Alert(
    Kind.GOAL_MISSED, 1, "Springfield", "America/Chicago", 48, at("2027-03-16T14:30:00+00:00"), Reason.CAPACITY
)
FORESEEN = replace(MISSED, kind=Kind.GOAL_FORESEEN, location_id=2, place="Chatham", time_zone="America/New_York")
KEPT = replace(MISSED, kind=Kind.GOAL_KEPT, location_id=3, place="Decatur", reason=None)
# Each letter tells of its kind, and a graver one of others that come with it.
ALERTS = {Kind.GOAL_MISSED: (MISSED, FORESEEN, KEPT), Kind.GOAL_FORESEEN: (FORESEEN,), Kind.GOAL_KEPT: (KEPT,)}
for word, hours in ((Kind.QUESTION_ASKED, 0), (Kind.QUESTION_WAITS, 24)):
    STAFF_LETTERS[word] = replace(STAFF_LETTERS[word], question=Asked("Springfield", hours))
for word in WORDS:
    STAFF_LETTERS[word] = replace(STAFF_LETTERS[word], alerts=ALERTS[word])


def any_letter(kind: Kind, language: str = "en", **changes: Any) -> AnyLetter:  # noqa: ANN401 of any
    """A letter of any kind, to a patient, to one of the staff or to whoever asked for something."""
    if kind == Kind.MY_VISITS:
        return replace(VISITS_LETTER, language=language, **changes)
    if kind in TO_PATIENTS:
        return letter(kind=kind, language=language, **changes)
    if kind in TO_WHO_ASKED:
        return replace(QUESTION_LETTERS[kind], language=language, **changes)
    return replace(STAFF_LETTERS[kind], language=language, **changes)


def letter(**changes: Any) -> Letter:  # noqa: ANN401 fields of a letter
    """One visit's letter; it lasts an hour whenever it starts, and a cancellation comes later than what it cancels."""
    if "starts_at" in changes:
        changes.setdefault("ends_at", changes["starts_at"] + HOUR)
    if changes.get("kind") == Kind.CANCELLATION:
        changes.setdefault("sequence", 1)
    return replace(LETTER, **changes)


def parsed(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=policy.default)


def part(content: bytes, media_type: str) -> str:
    """One part of a message as its reader gets it."""
    found = [one for one in parsed(content).walk() if one.get_content_type() == media_type]
    assert len(found) == 1
    return bytes(found[0].get_payload(decode=True)).decode()


def text_of(content: bytes) -> str:
    return part(content, "text/plain")


def html_of(content: bytes) -> str:
    return part(content, "text/html")


def calendar_of(content: bytes) -> Calendar:
    calendar = Calendar.from_ical(part(content, "text/calendar"))
    assert isinstance(calendar, Calendar)
    return calendar


def event_of(content: bytes) -> Event:
    (event,) = calendar_of(content).events
    return event


def subject_of(content: bytes) -> str:
    return str(parsed(content)["Subject"])


def everything_in(content: bytes) -> str:
    """All that a message says, in every form: as it travels and decoded."""
    message = parsed(content)
    parts = [bytes(one.get_payload(decode=True)).decode().replace("\r\n ", "") for one in message.iter_parts()]
    return "\n".join([content.decode(), *(f"{name}: {value}" for name, value in message.items()), *parts])


# --- golden files


def unfolded(message: EmailMessage) -> Iterator[str]:
    for name, value in message.items():
        yield f"{name}: " + re.sub('boundary="[^"]+"', 'boundary="(random)"', str(value))


def shown(content: bytes) -> str:
    """A whole message for people: its headers decoded, then each part with its type."""
    message = parsed(content)
    texts = ["\n".join(unfolded(message)) + "\n"]
    for one in message.iter_parts():
        assert isinstance(one, EmailMessage)
        texts.append(
            "\n".join(f"=== {line}" for line in unfolded(one)) + "\n\n" + part(content, one.get_content_type())
        )
    return "\n".join(texts).replace("\r\n", "\n")


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_message_is_its_golden_file(mailer: Mailer, kind: Kind, language: str) -> None:
    require_golden(f"{kind}.{language}.txt", mailer.write(any_letter(kind, language), now=NOW))


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_one_message_of_a_series_is_its_golden_file(mailer: Mailer, language: str) -> None:
    parcel = mailer.write(replace(any_letter(Kind.CONFIRMATION, language), **OF_SERIES), now=NOW)
    require_plain(parcel.content)
    require_golden(f"series.{language}.txt", parcel)


def require_golden(name: str, parcel: Parcel) -> None:
    path, found = GOLDEN / name, shown(parcel.content)
    if os.environ.get("RENEW_GOLDEN") == "1":
        path.write_text(found, newline="\n")
        pytest.fail(f"{path.name} was written anew. Read the difference, then run without RENEW_GOLDEN.")
    wanted = path.read_bytes().decode() if path.exists() else "(there is no such file yet)"
    renewal = "RENEW_GOLDEN=1 .venv/bin/python -m pytest -n 0 tests/test_mail.py -k golden"
    assert found == wanted, f"This is no longer what {path.name} holds. If it is what you want: {renewal}"


@pytest.mark.parametrize(
    ("language", "approved", "said"),
    [
        ("en", True, "Your time off was approved: Wednesday, March 24, 2027, 12:00 PM to 5:00 PM"),
        ("en", False, "Your time off was declined: Wednesday, March 24, 2027, 12:00 PM to 5:00 PM"),
        ("es", True, "Se aprobaron sus días libres: miércoles 24 de marzo de 2027, de 12:00 p. m. a 5:00 p. m."),
        ("es", False, "No se aprobaron sus días libres: miércoles 24 de marzo de 2027, de 12:00 p. m. a 5:00 p. m."),
    ],
)
def test_a_decision_about_time_off_is_told_with_its_time(
    mailer: Mailer, language: str, approved: bool, said: str
) -> None:
    part_of_a_day = replace(APPROVED, ends_on=APPROVED.starts_on, ends_minute=17 * 60, approved=approved)
    content = mailer.write(any_letter(Kind.TIME_OFF_DECIDED, language, decision=part_of_a_day), now=NOW).content
    assert said in plain(text_of(content))
    assert said in plain(html_of(content))


@pytest.mark.parametrize("kind", [Kind.GOAL_FORESEEN, Kind.GOAL_MISSED])
@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (Reason.STRUCTURAL, "even with nothing booked, nobody is planned there in those hours."),
        (Reason.NONE_OPEN, "nobody is planned there in the week that follows."),
    ],
)
def test_a_miss_of_the_goal_is_told_with_its_reason_and_what_mends_it(
    mailer: Mailer, kind: Kind, reason: Reason, said: str
) -> None:
    content = mailer.write(any_letter(kind, alerts=[replace(MISSED, kind=kind, reason=reason)]), now=NOW).content
    assert f"The reason: {said}" in plain(text_of(content))
    require_harmless_html(html_of(content), [said], frozenset({"https://clinic.example/admin/therapists"}))


@pytest.mark.parametrize("language", ["en", "es"])
def test_a_letter_of_many_places_has_a_line_a_reason_and_a_lever_for_each(mailer: Mailer, language: str) -> None:
    alerts = [replace(MISSED, location_id=number, place=f"Place {number}") for number in range(1, 51)]
    content = mailer.write(any_letter(Kind.GOAL_MISSED, language, alerts=alerts), now=NOW).content
    text_, reason = text_of(content), "The reason: " if language == "en" else "El motivo: "
    links = [line for line in text_.splitlines() if line.startswith("https://clinic.example/admin/access/levers?")]
    assert links == [f"https://clinic.example/admin/access/levers?location={number}" for number in range(1, 51)]
    assert text_.count(reason) == 50
    assert [f"Place {number}:" in text_ for number in range(1, 51)] == [True] * 50


@pytest.mark.parametrize("name", HOSTILE, ids=short)
def test_no_name_of_a_place_harms_who_is_told_of_the_goal(mailer: Mailer, name: str) -> None:
    parcel = mailer.write(any_letter(Kind.GOAL_MISSED, alerts=[replace(MISSED, place=name), FORESEEN, KEPT]), now=NOW)
    require_sound(parcel, "ana@clinic.example", parts=["text/plain", "text/html"])
    require_harmless_html(html_of(parcel.content), [name], STAFF_LINKS[Kind.GOAL_MISSED])


def test_every_golden_file_belongs_to_a_message() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        f"{kind}.{to}.txt" for kind in [*Kind, "series"] for to in ("en", "es")
    }


# --- the frame


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_message_travels_as_short_plain_lines(mailer: Mailer, kind: Kind, language: str) -> None:
    """78 characters in headers, 998 anywhere (RFC 5322, 2.1.1)."""
    content = mailer.write(any_letter(kind, language), now=NOW).content
    require_plain(content)
    assert max(map(len, content.partition(b"\r\n\r\n")[0].split(b"\r\n"))) <= 78
    assert max(map(len, content.split(b"\r\n"))) <= 998


def require_plain(content: bytes) -> None:
    """ASCII, every line ended by CR and LF and by nothing else: mail servers disagree about what else ends one."""
    assert content.isascii()
    assert content.count(b"\n") == content.count(b"\r\n") == content.count(b"\r")


def test_a_language_without_texts_is_answered_in_english(mailer: Mailer) -> None:
    french = parsed(mailer.write(letter(language="fr"), now=NOW).content)
    assert french["Content-Language"] == "en"
    assert french["Subject"].startswith("Booked: ")


@pytest.mark.parametrize("starts_at", ["2027-03-14T05:00Z", "2027-07-01T14:00Z", "2027-12-31T23:00Z"])
def test_subjects_of_english_reminders_begin_with_reminder(mailer: Mailer, starts_at: str) -> None:
    content = mailer.write(letter(kind=Kind.REMINDER, starts_at=at(starts_at)), now=NOW).content
    assert subject_of(content).startswith("Reminder")


def test_a_message_id_is_stable_and_its_own(mailer: Mailer) -> None:
    ids = [
        [
            parsed(mailer.write(letter(message_id=one), now=NOW + wait).content)["Message-ID"]
            for wait in (0 * HOUR, HOUR)
        ]
        for one in (UUID(int=1), uuid4(), uuid4())
    ]
    assert all(first == again for first, again in ids)
    assert len({first for first, _ in ids}) == 3
    assert all(re.fullmatch(r"<[0-9a-f]{32}@clinic\.example>", first) for first, _ in ids)


def test_a_message_is_dated_by_the_clock_and_asks_for_no_automatic_answer(mailer: Mailer) -> None:
    message = parsed(mailer.write(letter(), now=NOW).content)
    assert parsedate_to_datetime(str(message["Date"])) == NOW
    assert message["Auto-Submitted"] == "auto-generated"


def test_a_cancellation_has_no_link_to_the_visit(mailer: Mailer) -> None:
    said = everything_in(mailer.write(letter(kind=Kind.CANCELLATION), now=NOW).content)
    assert LETTER.token is not None
    assert LETTER.token not in said


def test_a_message_whose_link_was_retired_goes_without_it(mailer: Mailer) -> None:
    content = mailer.write(letter(token=None), now=NOW).content
    assert "http" not in text_of(content)
    assert "None" not in everything_in(content)


# --- true local times

CLOCK_CASES = [
    # Spring forward in Chicago: 01:59 is followed by 03:00.
    ("America/Chicago", "2027-03-14T07:59Z", "Sunday, March 14, 2027, 1:59 AM Central Standard Time"),
    ("America/Chicago", "2027-03-14T08:00Z", "Sunday, March 14, 2027, 3:00 AM Central Daylight Time"),
    ("America/Chicago", "2027-03-13T23:30Z", "Saturday, March 13, 2027, 5:30 PM Central Standard Time"),
    ("America/Chicago", "2027-03-14T22:30Z", "Sunday, March 14, 2027, 5:30 PM Central Daylight Time"),
    # Fall back: 01:30 comes twice.
    ("America/Chicago", "2027-11-07T06:30Z", "Sunday, November 7, 2027, 1:30 AM Central Daylight Time"),
    ("America/Chicago", "2027-11-07T07:30Z", "Sunday, November 7, 2027, 1:30 AM Central Standard Time"),
    ("America/Chicago", "2027-11-06T22:30Z", "Saturday, November 6, 2027, 5:30 PM Central Daylight Time"),
    ("America/New_York", "2027-03-14T06:59Z", "Sunday, March 14, 2027, 1:59 AM Eastern Standard Time"),
    ("America/New_York", "2027-03-14T07:00Z", "Sunday, March 14, 2027, 3:00 AM Eastern Daylight Time"),
    ("America/Los_Angeles", "2027-11-07T08:59Z", "Sunday, November 7, 2027, 1:59 AM Pacific Daylight Time"),
    ("America/Los_Angeles", "2027-11-07T09:00Z", "Sunday, November 7, 2027, 1:00 AM Pacific Standard Time"),
    # The day at the clinic, not in UTC, and both twelves.
    ("America/Chicago", "2027-07-02T04:59Z", "Thursday, July 1, 2027, 11:59 PM Central Daylight Time"),
    ("America/Chicago", "2027-07-02T05:00Z", "Friday, July 2, 2027, 12:00 AM Central Daylight Time"),
    ("America/Chicago", "2027-07-02T17:00Z", "Friday, July 2, 2027, 12:00 PM Central Daylight Time"),
    # No daylight time, or at another hour than the neighbours.
    ("America/Phoenix", "2027-03-14T16:00Z", "Sunday, March 14, 2027, 9:00 AM Mountain Standard Time"),
    ("America/Phoenix", "2027-07-01T16:00Z", "Thursday, July 1, 2027, 9:00 AM Mountain Standard Time"),
    ("America/Denver", "2027-07-01T16:00Z", "Thursday, July 1, 2027, 10:00 AM Mountain Daylight Time"),
    ("Pacific/Honolulu", "2027-07-02T05:00Z", "Thursday, July 1, 2027, 7:00 PM Hawaii-Aleutian Standard Time"),
    ("America/Adak", "2027-07-02T05:00Z", "Thursday, July 1, 2027, 8:00 PM Hawaii-Aleutian Daylight Time"),
    ("America/Puerto_Rico", "2027-07-01T13:00Z", "Thursday, July 1, 2027, 9:00 AM Atlantic Standard Time"),
    # Half and quarter hours.
    ("America/St_Johns", "2027-07-01T12:00Z", "Thursday, July 1, 2027, 9:30 AM Newfoundland Daylight Time"),
    ("Australia/Lord_Howe", "2027-07-01T00:00Z", "Thursday, July 1, 2027, 10:30 AM Lord Howe Standard Time"),
    ("Australia/Lord_Howe", "2027-12-01T00:00Z", "Wednesday, December 1, 2027, 11:00 AM Lord Howe Daylight Time"),
    ("Australia/Adelaide", "2027-07-01T01:00Z", "Thursday, July 1, 2027, 10:30 AM Australian Central Standard Time"),
]
SPANISH_CASES = [
    ("America/Chicago", "2027-03-14T08:00Z", "domingo 14 de marzo de 2027, 3:00 a. m., hora de verano central"),
    ("America/Chicago", "2027-11-07T06:30Z", "domingo 7 de noviembre de 2027, 1:30 a. m., hora de verano central"),
    ("America/Chicago", "2027-11-07T07:30Z", "domingo 7 de noviembre de 2027, 1:30 a. m., hora estándar central"),
    (
        "America/Phoenix",
        "2027-07-01T22:15Z",
        "jueves 1 de julio de 2027, 3:15 p. m., hora estándar de las Montañas Rocosas",
    ),
]
AMERICAN_ZONES = [
    "America/New_York",
    "America/Detroit",
    "America/Kentucky/Monticello",
    "America/Indiana/Tell_City",
    "America/Chicago",
    "America/Menominee",
    "America/North_Dakota/Center",
    "America/Denver",
    "America/Boise",
    "America/Phoenix",
    "America/Los_Angeles",
    "America/Anchorage",
    "America/Juneau",
    "America/Metlakatla",
    "America/Nome",
    "America/Adak",
    "Pacific/Honolulu",
    "America/Puerto_Rico",
    "America/St_Thomas",
    "Pacific/Guam",
    "Pacific/Saipan",
    "Pacific/Pago_Pago",
    "US/Eastern",
]
instants = st.datetimes(datetime(2026, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 its own rule
zones = st.sampled_from([*AMERICAN_ZONES, "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"])


@pytest.mark.parametrize(("zone", "instant", "words"), CLOCK_CASES, ids=[words for _, _, words in CLOCK_CASES])
@pytest.mark.parametrize("kind", TO_PATIENTS)
def test_a_message_says_the_clinics_own_day_and_hour(
    mailer: Mailer, kind: Kind, zone: str, instant: str, words: str
) -> None:
    content = mailer.write(letter(kind=kind, time_zone=zone, starts_at=at(instant)), now=NOW).content
    assert f"When: {words}\n" in text_of(content).replace("\r\n", "\n")
    assert f">{words}<" in html_of(content)
    day, year, hour = re.fullmatch(r"(.+), (\d{4}), (\S+ [AP]M) .+", words).groups()  # type: ignore[union-attr]
    assert subject_of(content).endswith(f"{day}, {hour}"), year


@pytest.mark.parametrize(("zone", "instant", "words"), SPANISH_CASES, ids=[words for _, _, words in SPANISH_CASES])
def test_a_spanish_message_says_the_clinics_own_day_and_hour(
    mailer: Mailer, zone: str, instant: str, words: str
) -> None:
    content = mailer.write(letter(language="es", time_zone=zone, starts_at=at(instant)), now=NOW).content
    assert f"Cuándo: {words}\n" in text_of(content).replace("\r\n", "\n")
    assert f">{words}<" in html_of(content)


@pytest.mark.parametrize(
    "zone",
    [*AMERICAN_ZONES, "America/Indiana/Indianapolis", "America/Kentucky/Louisville", "Asia/Kolkata"],
)
@pytest.mark.parametrize("language", ["en", "es"])
def test_a_zone_has_a_name_for_people(mailer: Mailer, zone: str, language: str) -> None:
    for instant in ("2027-01-15T18:00Z", "2027-07-15T18:00Z"):
        changes = {"language": language, "time_zone": zone, "starts_at": at(instant)}
        when = text_of(mailer.write(letter(**changes), now=NOW).content).splitlines()[2]
        assert re.search(r"(Time|, hora .+)$", when)
        assert not re.search(r"GMT|UTC|\?|[Uu]nknown|desconocid", when)


@few
@given(starts_at=instants, zone=zones, wait=st.timedeltas(timedelta(0), timedelta(days=3)))
def test_no_message_says_tomorrow_and_each_says_its_hour(
    mailer: Mailer, starts_at: datetime, zone: str, wait: timedelta
) -> None:
    """Read back from the words, the start is the one on the clinic's wall."""
    content = mailer.write(
        letter(kind=Kind.REMINDER, time_zone=zone, starts_at=starts_at), now=starts_at - wait
    ).content
    said = everything_in(content)
    assert not re.search(r"\b(tomorrow|today|tonight|yesterday|hoy|in \d+ hours)\b", said, re.IGNORECASE)
    when = re.search(r"When: \w+, (\w+ \d+, \d{4}, \d+:\d\d [AP]M) ", text_of(content))
    assert when is not None
    wall = starts_at.astimezone(ZoneInfo(zone)).replace(tzinfo=None, second=0, microsecond=0)
    assert datetime.strptime(when[1], "%B %d, %Y, %I:%M %p") == wall  # noqa: DTZ007 a wall clock has no zone


# --- the calendar


def test_a_calendar_asks_for_the_visit_and_takes_it_back(mailer: Mailer) -> None:
    for kind, method, status in (
        (Kind.CONFIRMATION, "REQUEST", "CONFIRMED"),
        (Kind.REMINDER, "REQUEST", "CONFIRMED"),
        (Kind.CANCELLATION, "CANCEL", "CANCELLED"),
    ):
        content = mailer.write(letter(kind=kind), now=NOW).content
        (calendar_part,) = [one for one in parsed(content).walk() if one.get_content_type() == "text/calendar"]
        assert calendar_part.get_param("method") == method
        assert calendar_of(content)["METHOD"] == method
        assert event_of(content)["STATUS"] == status
        assert event_of(content)["ATTENDEE"] == "mailto:pat@example.com"
        assert event_of(content)["ORGANIZER"] == f"mailto:{SENDER}"
        assert event_of(content).DTSTAMP == NOW


def test_all_messages_of_a_visit_are_of_one_entry_in_the_calendar(mailer: Mailer) -> None:
    def uid(**changes: Any) -> str:  # noqa: ANN401 fields of a letter
        return str(event_of(mailer.write(letter(**changes), now=NOW).content)["UID"])

    of_one = {uid(kind=kind, message_id=uuid4(), language=to) for kind in TO_PATIENTS for to in ("en", "es")}
    assert len(of_one | {uid(starts_at=LETTER.starts_at + HOUR, place="Shelbyville")}) == 1
    assert uid(visit_id=uuid4()) not in of_one


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_visits_entries_supersede_each_other_in_order(clinic: Clinic, clock: FixedClock, mailer: Mailer) -> None:
    """Booked, moved twice, cancelled: every change is newer than all before it."""
    visit = clinic.book(str(clinic.offers()[-1].slot))
    said = [recorded_now(clinic, clock, mailer)]
    for version in (2, 3):
        with transaction(clinic.engine) as session:
            session.execute(update(Appointment).values(visit_version=version))
            session.add(OutboxMessage(**confirmation_of(visit, version, clock.now())))
        said.append(recorded_now(clinic, clock, mailer))
    clinic.cancel(visit.token)
    said.append(recorded_now(clinic, clock, mailer))
    events = [event_of(parcel.content) for (parcel,) in said]
    assert [event.sequence for event in events] == [0, 2, 4, 5]
    assert len({event["UID"] for event in events}) == 1


def confirmation_of(visit: Visit, version: int, now: datetime) -> dict[str, Any]:
    of = {"appointment_id": visit.appointment.id, "kind": Kind.CONFIRMATION, "channel": Channel.EMAIL}
    return of | {"visit_version": version, "due_at": now, "created_at": now}


@few
@given(starts_at=instants, zone=zones)
def test_a_calendars_instants_are_the_visits(mailer: Mailer, starts_at: datetime, zone: str) -> None:
    starts_at = starts_at.replace(second=0, microsecond=0)
    event = event_of(mailer.write(letter(time_zone=zone, starts_at=starts_at), now=NOW).content)
    assert (event.start, event.end) == (starts_at, starts_at + HOUR)


@pytest.mark.parametrize("instant", ["2027-11-07T06:30Z", "2027-11-07T07:00Z", "2027-11-07T07:30Z"])
def test_a_calendars_instants_are_the_visits_in_the_hour_that_comes_twice(mailer: Mailer, instant: str) -> None:
    event = event_of(mailer.write(letter(starts_at=at(instant)), now=NOW).content)
    assert (event.start, event.end) == (at(instant), at(instant) + HOUR)


def test_a_calendar_needs_no_rules_of_a_zone(mailer: Mailer) -> None:
    """In UTC nothing is left to a program's own idea of a zone."""
    calendar = calendar_of(mailer.write(LETTER, now=NOW).content)
    (event,) = calendar.events
    assert (calendar.timezones, event["DTSTART"].params, event["DTEND"].params) == ([], {}, {})
    assert b"DTSTART:20270316T143000Z" in calendar.to_ical()


# --- nothing clinical

CANARIES = [
    "dry",
    "needle",
    "needles",
    "needling",
    "acupuncture",
    "trigger",
    "myofascial",
    "punción",
    "seca",
    "agujas",
    "aguja",
    "acupuntura",
    "pain",
    "dolor",
    "chronic",
    "evaluation",
    "evaluación",
    "treatment",
    "tratamiento",
    "diagnosis",
    "diagnóstico",
    "injury",
    "lesión",
    "therapist",
    "Wilhelmina",
    "Quux",
    "knee",
    "rodilla",
    "follow-up",
    "session",
    "sesión",
]
CANARY = re.compile(r"(?<![\w])(" + "|".join(map(re.escape, CANARIES)) + r")(?![\w])", re.IGNORECASE)


@dataclass
class Recorder:
    """A way to people that keeps what it is given."""

    parcels: list[Parcel] = field(default_factory=list)

    def open(self) -> None: ...

    def send(self, parcel: Parcel) -> None:
        self.parcels.append(parcel)

    def close(self) -> None: ...


def recorded(clinic: Clinic, clock: FixedClock, writer: Mailer) -> list[Parcel]:
    """Everything that the clinic sends now and in the next month."""
    recorder = Recorder()
    for _ in range(30):
        Delivery(clinic.engine, clock, clinic.keys, writer, lambda: recorder, 10).deliver()
        clock.at += timedelta(days=1)
    return recorder.parcels


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("language", ["en", "es"])
def test_no_message_says_anything_clinical_or_names_the_patient(
    engine: Engine, clock: FixedClock, keys: Keyring, mailer: Mailer, language: str
) -> None:
    clinic = Clinic(engine, clock, keys)
    clinic.add_kinds(((f"A{' '.join(CANARIES)}"[:200], 30, True, True),))
    location, therapist = clinic.add_location(), clinic.add_therapist("Wilhelmina Quux, acupuncture and punción seca")
    clinic.add_hours(therapist, location)
    clinic.plan()
    (kind,) = clinic.kinds
    patient = PatientDetails("Wilhelmina Quux", "pat@example.com", "+13125550142", None, language, True, False)
    days = [offer for offer in clinic.offers(kind) if offer.slot.starts_at > clock.at + timedelta(days=3)]
    visits = [
        clinic.book(str(offer.slot), kind, patient=patient, note="dolor: dry needling of the knee, chronic pain")
        for offer in days[:12:4]
    ]
    before = recorded_now(clinic, clock, mailer)
    with transaction(engine) as session:
        booking.cancel(session, visits[0].token, "too much pain, no needles", keys=keys, now=clock.now())
    parcels = before + recorded(clinic, clock, mailer)
    kinds = [subject_of(parcel.content).split(":")[0] for parcel in parcels]
    assert sorted(kinds) == sorted(
        ["Booked"] * 3 + ["Canceled"] + ["Reminder"] * 4
        if language == "en"
        else ["Reservada"] * 3 + ["Cancelada"] + ["Recordatorio"] * 4
    )
    for parcel in parcels:
        said = everything_in(parcel.content)
        assert CANARY.findall(said) == []
        assert "5550142" not in said


def recorded_now(clinic: Clinic, clock: FixedClock, writer: Mailer) -> list[Parcel]:
    recorder = Recorder()
    Delivery(clinic.engine, clock, clinic.keys, writer, lambda: recorder, 10).deliver()
    return recorder.parcels


def test_the_canary_would_sing() -> None:
    """The control: what the list looks for would be found in a text like those that others send."""
    assert CANARY.findall("Your dry needling session (punción seca) with W. Quux") == [
        "dry",
        "needling",
        "session",
        "punción",
        "seca",
        "Quux",
    ]


# --- where to read what a patient was not shown

EXPLAINER = "https://clinic.example/explainer"


@pytest.mark.parametrize(("language", "address"), [("en", EXPLAINER), ("es", f"{EXPLAINER}?lang=es")])
def test_a_confirmation_says_where_to_read_what_was_not_shown_and_names_no_treatment(
    mailer: Mailer, language: str, address: str
) -> None:
    content = mailer.write(letter(language=language, explainer_shown=False), now=NOW).content
    assert address in text_of(content).split()
    assert f'href="{address}"' in html_of(content)
    assert CANARY.findall(everything_in(content)) == []
    if language == "en":
        assert "Before your visit, please read:" in text_of(content)


def test_no_other_message_sends_anybody_to_read(mailer: Mailer) -> None:
    others = [letter(), letter(explainer_shown=False, kind=Kind.REMINDER)]
    others.append(letter(explainer_shown=False, kind=Kind.CANCELLATION))
    for other in others:
        assert EXPLAINER not in everything_in(mailer.write(other, now=NOW).content)


# --- to the clinic's own people


@pytest.fixture
def ana(clinic: Clinic) -> int:
    """The account of the clinic's therapist."""
    with transaction(clinic.engine) as session:
        new = AccountDetails("ana@clinic.example", "Ana Abbott", Role.THERAPIST, therapist_id=1)
        return accounts.add(session, new, by=Actor("account:99"), now=clinic.clock.now()).id


def to_staff(parcels: list[Parcel]) -> list[bytes]:
    return [parcel.content for parcel in parcels if parcel.recipient == "ana@clinic.example"]


@pytest.mark.usefixtures("ana")
def test_a_therapist_is_told_of_a_changed_day_and_of_nobodys_visit(
    clinic: Clinic, clock: FixedClock, mailer: Mailer
) -> None:
    patient = PatientDetails("Wilhelmina Quux", "pat@example.com", "+13125550142", None, "en", True, False)
    visit = clinic.book(str(clinic.offers()[0].slot), patient=patient, note="dolor: dry needling of the knee")
    booked = to_staff(recorded_now(clinic, clock, mailer))
    clinic.cancel(visit.token)
    cancelled = to_staff(recorded_now(clinic, clock, mailer))
    for (content,) in (booked, cancelled):
        assert subject_of(content) == "Your day changed"
        assert "Monday, November 23" in text_of(content)
        assert "https://clinic.example/staff/?day=2026-11-23" in text_of(content)
        said = everything_in(content)
        assert CANARY.findall(said) == []
        for word in ("pat@", "5550142", visit.token, visit.appointment.id.hex, str(visit.appointment.id), "10:00"):
            assert word not in said


def test_a_changed_day_is_told_in_its_readers_language(mailer: Mailer) -> None:
    spanish = parsed(mailer.write(any_letter(Kind.DAY_CHANGED, "es"), now=NOW).content)
    assert spanish["Content-Language"] == "es"
    assert "martes 16 de marzo" in text_of(spanish.as_bytes())


def test_a_link_to_set_a_password_opens_its_account_once(
    clinic: Clinic, clock: FixedClock, keys: Keyring, mailer: Mailer, ana: int
) -> None:
    token = invited(clinic, clock, mailer, ana)
    with transaction(clinic.engine) as session:
        account = accounts.of_token(session, token, keys=keys, now=clock.now() + timedelta(days=3))
        assert account.id == ana
        accounts.set_password(session, account, "a hash", by=Actor("account:1"), now=clock.now())
    require_dead(clinic, token, keys, clock.now())


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_link_to_set_a_password_dies_with_its_time_and_with_its_account(
    clinic: Clinic, clock: FixedClock, keys: Keyring, mailer: Mailer, ana: int
) -> None:
    token = invited(clinic, clock, mailer, ana)
    require_dead(clinic, token, keys, clock.now() + timedelta(days=3, seconds=1))
    for other in (f"{token}x", token[1:], "", "x" * 2000, "é", keys.sign("unsubscribe", ana, 1, 2**40)):
        require_dead(clinic, other, keys, clock.now())
    with transaction(clinic.engine) as session:
        accounts.disable(session, session.get_one(Account, ana), by=Actor("account:1"), now=clock.now())
    require_dead(clinic, token, keys, clock.now())


def invited(clinic: Clinic, clock: FixedClock, mailer: Mailer, account_id: int) -> str:
    """The token that is in the mail to somebody invited, the same in each of its forms."""
    with transaction(clinic.engine) as session:
        accounts.invite(session, session.get_one(Account, account_id), now=clock.now())
    (content,) = to_staff(recorded_now(clinic, clock, mailer))
    links = re.compile(r"https://clinic\.example/staff/set-password/([\w.-]+)")
    (token,) = links.findall(text_of(content))
    assert links.findall(html_of(content)) == [token]
    return str(token)


def require_dead(clinic: Clinic, token: str, keys: Keyring, now: datetime) -> None:
    with reading(clinic.engine) as session, pytest.raises(NotFound):
        accounts.of_token(session, token, keys=keys, now=now)


# --- injection


VISIT_PARTS = ["text/plain", "text/html", "text/calendar"]


def require_sound(parcel: Parcel, recipient: str, parts: list[str] = VISIT_PARTS) -> None:
    """The bytes, read again both ways, have our headers once each, one recipient and our sender."""
    newer = parsed(parcel.content)
    older: Message = email.message_from_bytes(parcel.content)
    for message in (newer, older):
        assert sorted(message.keys()) == sorted(HEADERS)
        assert message.get_content_type() == "multipart/alternative"
        assert [one.get_content_type() for one in message.walk()][1:] == parts
        assert not any(one.defects for one in message.walk())
    assert [one.addr_spec for one in newer["To"].addresses] == [recipient]
    assert [one.addr_spec for one in newer["From"].addresses] == [SENDER]
    assert [address for _, address in getaddresses([one_line(older["To"])])] == [recipient]
    assert [address for _, address in getaddresses([one_line(older["From"])])] == [SENDER]
    assert newer["To"].defects == newer["From"].defects == newer["Subject"].defects == ()
    assert (parcel.sender, parcel.recipient) == (SENDER, recipient)
    require_plain(parcel.content)


def one_line(header: str) -> str:
    """A header unfolded (RFC 5322, 2.2.3), which the older parser leaves to its callers."""
    return re.sub(r"\r?\n(?=[ \t])", "", header)


def display_names(content: bytes) -> set[str]:
    """The sender's name as the newer parser, and as the older, give it."""
    older = email.message_from_bytes(content)["From"]
    raw = getaddresses([one_line(older)])[0][0]
    return {parsed(content)["From"].addresses[0].display_name, str(make_header(decode_header(raw)))}


@pytest.mark.parametrize("name", HOSTILE, ids=short)
@pytest.mark.parametrize("field_name", ["clinic", "place", "address", "phone"])
def test_no_name_adds_a_header_or_a_recipient(mailer: Mailer, field_name: str, name: str) -> None:
    for kind in (Kind.CONFIRMATION, Kind.CANCELLATION):
        require_sound(mailer.write(letter(kind=kind, **{field_name: name}), now=NOW), LETTER.recipient)


@pytest.mark.parametrize("field_name", ["clinic", "place", "address", "phone"])
def test_no_nul_travels(mailer: Mailer, field_name: str) -> None:
    assert b"\0" not in mailer.write(letter(**{field_name: "Clinic\0Springfield"}), now=NOW).content


@few
@given(clinic=names, place=names, address=names, phone=names)
@example(clinic=ENCODED_BCC, place=ENCODED_BCC_64, address="\r\n.\r\nQUIT\r\n", phone="\0")
def test_no_names_add_a_header_or_a_recipient(
    mailer: Mailer, clinic: str, place: str, address: str, phone: str
) -> None:
    changes = {"clinic": clinic, "place": place, "address": address, "phone": phone}
    parcel = mailer.write(letter(**changes), now=NOW)
    require_sound(parcel, LETTER.recipient)
    require_harmless_html(html_of(parcel.content), [clinic, f"{place}, {address}", phone])
    assert len(calendar_of(parcel.content).events) == 1
    assert str(event_of(parcel.content)["UID"]) == f"{LETTER.visit_id.hex}@clinic.example"


@pytest.mark.parametrize(
    "name",
    [
        "Smith, Jones & Partners",
        'The "Best" Clinic \\ of them',
        "Clinic <evil@example.com>",
        "Clinic (Springfield)",
        "Fisioterapia Ángel Núñez",
        'Núñez, "Ángel" <evil@example.com>',
        "骨科康复",
        "\U0001f9b4 Bones",
    ],
)
def test_a_clinics_name_is_read_as_it_was_written(mailer: Mailer, name: str) -> None:
    content = mailer.write(letter(clinic=name), now=NOW).content
    assert display_names(content) == {name}
    assert f"{name} sends this" in text_of(content)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != BONES])
def test_no_name_makes_a_line_too_long_to_travel(mailer: Mailer, name: str) -> None:
    """998 characters (RFC 5322, 2.1.1): mail servers may refuse or break longer ones."""
    content = mailer.write(letter(clinic=name, place=name, address=name, phone=name), now=NOW).content
    assert max(map(len, content.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "name", ["Clínica de Fisioterapia y Rehabilitación Ortopédica San José de la Montaña", BONES], ids=ascii
)
def test_a_long_name_in_another_script_is_split_as_the_standard_asks(mailer: Mailer, name: str) -> None:
    """An encoded word is at most 75 characters (RFC 2047, 2)."""
    content = mailer.write(letter(clinic=name), now=NOW).content
    words = re.findall(r"=\?utf-8\?[bq]\?[^?]*\?=", content.decode(), re.IGNORECASE)
    assert max(map(len, words)) <= 75


@pytest.mark.parametrize(
    "address",
    [
        "pat@example.com\nBcc: evil@example.com",
        "pat@example.com\r\nBcc: evil@example.com",
        "pat@example.com\r",
        "pat@example.com\0",
        "pat@example.com, evil@example.com",
        "pat@example.com;evil@example.com",
        "pat@example.com evil@example.com",
        "Pat <pat@example.com>",
        "<pat@example.com>",
        '"pat doe"@example.com',
        '"pat\n"@example.com',
        "pat@example.com@example.com",
        "pat@[127.0.0.1]",
        f"{ENCODED_BCC}@example.com",
        f"{ENCODED_BCC_64}@example.com",
        "a=?b@example.com",
        "pät@example.com",
        "pat@exämple.com",
        "pat@example.com\u2028",
        "pat\u202e@example.com",
        "pat(comment)@example.com",
        "pat",
        "@example.com",
        "pat@",
        "",
        " pat@example.com",
    ],
    ids=short,
)
def test_an_address_that_no_header_can_hold_is_refused(mailer: Mailer, address: str) -> None:
    with pytest.raises(Refused):
        mailer.write(letter(recipient=address), now=NOW)


@pytest.mark.parametrize(
    "address",
    ["o'neil+visits@example.com", "a=b@example.com", "{x}|y~z@example.com", f"{'a' * 64}@{'b.' * 93}com", "?=@x.org"],
)
def test_an_unusual_address_is_written_to(mailer: Mailer, address: str) -> None:
    require_sound(mailer.write(letter(recipient=address), now=NOW), address)


@few
@given(address=names | st.emails() | st.emails().map(lambda one: one + "\nBcc: evil@example.com"))
def test_an_address_is_written_as_it_is_or_refused(mailer: Mailer, address: str) -> None:
    try:
        parcel = mailer.write(letter(recipient=address), now=NOW)
    except Refused:
        return
    require_sound(parcel, address)


# --- the HTML


class _Tags(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


OUR_TAGS = {"html", "head", "meta", "title", "style", "body", "p", "table", "tr", "th", "td", "strong", "a"}
OUR_ATTRIBUTES = {"lang", "charset", "name", "content", "style", "class", "role", "scope", "href"}


VISIT_LINKS = frozenset({f"{LINK}{LETTER.token}", "https://clinic.example/"})
STAFF_LINKS = {
    Kind.SET_PASSWORD: frozenset({"https://clinic.example/staff/set-password/t0ken.of_a-link"}),
    Kind.LOCKED_OUT: frozenset[str](),
    Kind.DAY_CHANGED: frozenset({"https://clinic.example/staff/?day=2027-03-16"}),
    Kind.TEST: frozenset({"https://clinic.example/admin/moving-in"}),
    Kind.ADDRESS_CHANGED: frozenset[str](),
    Kind.WAYS_IN_CHANGED: frozenset({"https://clinic.example/staff/account/"}),
    Kind.LICENSE_ENDS: frozenset({"https://clinic.example/admin/visits-to-move"}),
    Kind.TIME_OFF_DECIDED: frozenset({"https://clinic.example/staff/time-off"}),
    Kind.GOAL_FORESEEN: frozenset({"https://clinic.example/admin/access/levers?location=2"}),
    Kind.GOAL_MISSED: frozenset(
        f"https://clinic.example/admin/access{more}" for more in ("/levers?location=1", "/levers?location=2", "")
    ),
    Kind.GOAL_KEPT: frozenset({"https://clinic.example/admin/access"}),
    **dict.fromkeys((Kind.QUESTION_ASKED, Kind.QUESTION_WAITS), frozenset({"https://clinic.example/staff/questions"})),
}


def require_harmless_html(html: str, texts: list[str], links: frozenset[str] = VISIT_LINKS) -> None:
    """Only our tags, no link but one of these, nothing loaded from anywhere; each text is there as text."""
    page = _Tags()
    page.feed(html)
    page.close()
    assert {tag for tag, _ in page.tags} <= OUR_TAGS
    assert {name for _, attributes in page.tags for name in attributes} <= OUR_ATTRIBUTES
    followed = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert len(followed) == (bool(links) if links <= VISIT_LINKS else len(links))
    for _, attributes in page.tags:
        assert attributes.get("href") in links | {None}
    styles = [attributes.get("style") or "" for _, attributes in page.tags]
    styles += re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert not re.search(r"url|@import|expression|/\*", " ".join(styles), re.IGNORECASE)
    for text in texts:  # what no mail may hold (RFC 5322, 3.5 and RFC 2045, 2.7) is left out
        sendable = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "", text)
        assert plain(sendable) in plain(page.text)


def plain(text: str) -> str:
    """Without what HTML gives no meaning: line ends, runs of blanks, and NUL, which every parser replaces."""
    return " ".join(re.sub("[\0\ufffd]", " ", text).split())


@pytest.mark.parametrize("name", HOSTILE, ids=short)
def test_html_is_ours_alone(mailer: Mailer, name: str) -> None:
    for kind in TO_PATIENTS:
        hostile = letter(kind=kind, clinic=name, place=name, address=name, phone=name)
        require_harmless_html(html_of(mailer.write(hostile, now=NOW).content), [name])


@pytest.mark.parametrize("name", HOSTILE, ids=short)
@pytest.mark.parametrize("kind", TO_STAFF)
def test_no_name_of_a_clinic_harms_its_own_people(mailer: Mailer, kind: Kind, name: str) -> None:
    parcel = mailer.write(any_letter(kind, clinic=name), now=NOW)
    require_sound(parcel, "ana@clinic.example", parts=["text/plain", "text/html"])
    require_harmless_html(html_of(parcel.content), [name], STAFF_LINKS[kind])


@pytest.mark.parametrize("name", HOSTILE, ids=short)
def test_no_name_of_a_clinic_harms_whoever_asked_for_their_visits(mailer: Mailer, name: str) -> None:
    parcel = mailer.write(any_letter(Kind.MY_VISITS, clinic=name), now=NOW)
    require_sound(parcel, "pat@example.com", parts=["text/plain", "text/html"])
    link = "https://clinic.example/my-visits/t0ken.of_a-link"
    require_harmless_html(html_of(parcel.content), [name], frozenset({link}))
    assert "needl" not in everything_in(parcel.content).replace(name, "")


@pytest.mark.parametrize("kind", TO_WHO_ASKED)
@pytest.mark.parametrize("name", HOSTILE, ids=short)
def test_nothing_in_a_message_about_a_question_harms_who_asked(mailer: Mailer, kind: Kind, name: str) -> None:
    asked = any_letter(kind, clinic=name, place=name)
    assert isinstance(asked, QuestionLetter)
    parcel = mailer.write(replace(asked, answer=name) if kind == Kind.QUESTION_ANSWERED else asked, now=NOW)
    require_sound(parcel, "pat@example.com", parts=["text/plain", "text/html"])
    require_harmless_html(html_of(parcel.content), [name], frozenset())


@pytest.mark.parametrize("address", ["pat@example.com, evil@example.com", "a\nBcc: evil@example.com", ENCODED_BCC])
def test_no_address_of_who_asked_adds_a_recipient(mailer: Mailer, address: str) -> None:
    with pytest.raises(Refused):
        mailer.write(any_letter(Kind.QUESTION_RECEIVED, recipient=address), now=NOW)


@pytest.mark.parametrize("address", ["ana@clinic.example, evil@example.com", "a\nBcc: evil@example.com", ENCODED_BCC])
def test_no_address_of_staff_adds_a_recipient(mailer: Mailer, address: str) -> None:
    with pytest.raises(Refused):
        mailer.write(any_letter(Kind.DAY_CHANGED, recipient=address), now=NOW)


# --- from the API to a mail server


@dataclass
class Sink:
    """What a mail server was given."""

    envelopes: list[Envelope] = field(default_factory=list)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 aiosmtpd's
        self.envelopes.append(envelope)
        return "250 OK"


@pytest.fixture
def sink() -> Iterator[tuple[Sink, int]]:
    """A mail server and its port."""
    kept = Sink()
    controller = Controller(kept, hostname="127.0.0.1", port=free_port(), ready_timeout=10)
    controller.start()
    yield kept, controller.port
    controller.stop()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_what_the_api_takes_goes_to_one_recipient(
    client: FlaskClient,
    app: APIFlask,
    settings: Settings,
    clinic: Clinic,
    clock: FixedClock,
    sink: tuple[Sink, int],
) -> None:
    """Names and addresses that patients could send, and names that an administrator could have given the clinic."""
    kept, port = sink
    clinic.policy(clinic_name=HOSTILE[7])
    with transaction(clinic.engine) as session:
        session.execute(update(Location).values(name=HOSTILE[1], address=HOSTILE[4], phone=HOSTILE[12]))
    patients = [{"name": name, "email": "pat@example.com"} for name in HOSTILE]
    patients += [{"name": "Pat", "email": email.format(name)} for name in HOSTILE for email in ("{}@example.com", "{}")]
    patients += [
        {"name": "Pat", "email": f"{one}@example.com"} for one in ("o'neil+x", "a=b", "a?=b", "{x}|y", "a" * 64)
    ]
    patients += [{"name": "Pat", "email": one} for one in ("pat@münchen.example", "pät@example.com", "pat@xn--a.com")]
    slots = iter(offer.slot for offer in clinic.offers())
    slot = next(slots)
    taken = 0
    for patient in patients:
        answer = client.post("/api/v1/appointments", json=body(str(slot), patient=patient), headers=key())
        assert answer.status_code in {201, 422}, patient
        if answer.status_code == 201:
            taken += 1
            last = slot
            slot = next(one for one in slots if one.starts_at >= last.starts_at + HOUR)
    assert taken >= 20
    server = MailServer("127.0.0.1", port, None, None, "off")
    smtp = Smtp(server, timeout_seconds=10, own_name="clinic.example")
    delivery = Delivery(clinic.engine, clock, clinic.keys, Mailer(app, settings), lambda: smtp, 10)
    delivery.deliver()
    with reading(clinic.engine) as session:
        addresses = sorted(filter(None, session.scalars(select(Patient.email))))
        fates = set(session.scalars(select(OutboxMessage.status).where(OutboxMessage.kind == Kind.CONFIRMATION)))
    assert fates == {Fate.SENT}
    assert sorted(one.rcpt_tos[0] for one in kept.envelopes) == addresses
    for envelope in kept.envelopes:
        assert isinstance(envelope.content, bytes)
        message = parsed(envelope.content)
        assert sorted(message.keys()) == sorted(HEADERS)
        assert [[one.addr_spec for one in message["To"].addresses]] == [envelope.rcpt_tos]
