"""Following one's schedule from a calendar program: the page about the link, and what is behind it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import icalendar
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import make_engine, reading, transaction
from scheduler.models import Account, Appointment, AuditEvent, CalendarFeed, Location, Role, Status
from scheduler.services import feeds
from scheduler.services.audit import Actor
from scheduler.timeline import DAY, zone_of
from tests.clinic import Clinic
from tests.server import serving
from tests.services.test_schedule import ANA, MONDAY, PAT, book_on
from tests.web.pages import Page, look
from tests.web.staff import an_account, csrf_token, signed_in

PAGE = "/staff/calendar-feed"
MINE = "My visits in my calendar"


@pytest.fixture
def ana(engine: Engine, clinic: Clinic, clock: FixedClock) -> Account:
    return an_account(engine, clock, Role.THERAPIST, therapist_id=ANA)


@pytest.fixture
def phone(app: Flask, engine: Engine, clock: FixedClock, ana: Account) -> FlaskClient:
    return signed_in(app, engine, clock, ana)


def press(client: FlaskClient, button: str, *, detailed: bool = False) -> Page:
    form = {"csrf_token": csrf_token(client), button: "y"} | ({"detailed": "y"} if detailed else {})
    answer = client.post(PAGE, data=form)
    return look(client, answer.headers["Location"]) if answer.status_code == 303 else Page(client, answer, PAGE)


def link_on(page: Page) -> str:
    return page.main.one("input", id="address").attributes["value"]


def make(client: FlaskClient, *, detailed: bool = False) -> str:
    """The path of a new link."""
    return urlsplit(link_on(press(client, "make", detailed=detailed))).path


def summaries(client: FlaskClient, path: str) -> list[str]:
    calendar = icalendar.Calendar.from_ical(client.get(path).get_data())
    return [str(event["SUMMARY"]) for event in calendar.events]


def test_the_page_says_that_calendars_refresh_late(phone: FlaskClient) -> None:
    page = look(phone, PAGE)
    assert page.heading == MINE
    assert "Calendar programs refresh late, often only once in several hours." in page.main.text


def test_a_link_is_shown_once_and_opens_the_schedule_for_whoever_has_it(
    phone: FlaskClient, client: FlaskClient, clinic: Clinic
) -> None:
    visit = book_on(clinic, MONDAY, patient=PAT, note="My knee")
    path = make(phone)
    again = look(phone, PAGE)
    assert path.split("/")[-1].removesuffix(".ics") not in again.html
    assert "Made on Monday, November 23, 2026. It shows no names." in again.main.text
    answer = client.get(path)
    assert answer.content_type == "text/calendar; charset=utf-8"
    assert (answer.headers["Cache-Control"], answer.headers["X-Robots-Tag"]) == ("private", "noindex")
    assert "Set-Cookie" not in answer.headers
    (event,) = icalendar.Calendar.from_ical(answer.get_data()).events
    assert (event.start, event.end) == (visit.starts_at, visit.ends_at)
    assert event["DTSTART"].params["TZID"] == "America/Chicago"
    assert str(event["URL"]).endswith(f"/staff/visits/{visit.id}")


def test_without_the_wish_for_names_nothing_tells_who_comes_or_why(phone: FlaskClient, clinic: Clinic) -> None:
    visit = book_on(clinic, MONDAY, kind="Needling", patient=PAT, note="My knee")
    path = make(phone)
    text = phone.get(path).get_data(as_text=True).replace("\r\n ", "")
    for word in ("Pat", "Doe", "pat@example.com", "knee", "eedl", "Follow", "Evaluation", visit.patient_id.hex):
        assert word not in text, word
    assert summaries(phone, path) == ["Physical therapy visit"]
    press(phone, "change", detailed=True)
    text = phone.get(path).get_data(as_text=True)
    assert summaries(phone, path) == ["Pat"]
    for word in ("Doe", "pat@example.com", "knee", "eedl"):
        assert word not in text, word
    press(phone, "change")
    assert summaries(phone, path) == ["Physical therapy visit"]


def test_names_that_are_read_are_on_record(phone: FlaskClient, clinic: Clinic, ana: Account) -> None:
    visit = book_on(clinic, MONDAY)
    plain, read = make(phone), select(AuditEvent).where(AuditEvent.action == "calendar_feed.read")
    phone.get(plain)
    with reading(clinic.engine) as session:
        assert session.scalars(read).all() == []
    phone.get(make(phone, detailed=True))
    with reading(clinic.engine) as session:
        (event,) = session.scalars(read).all()
        of_patients = session.scalars(select(AuditEvent).where(AuditEvent.action == "patient.read")).all()
    assert (event.actor, event.detail) == (f"account:{ana.id}", {"fields": "first names"})
    assert [(one.actor, one.entity_id) for one in of_patients] == [(f"account:{ana.id}", visit.patient_id.hex)]


def test_the_owner_s_language_is_spoken(phone: FlaskClient, clinic: Clinic, ana: Account) -> None:
    book_on(clinic, MONDAY)
    path = make(phone)
    with transaction(clinic.engine) as session:
        session.get_one(Account, ana.id).language = "es"
    assert summaries(phone, path) == ["Visita de fisioterapia"]


def test_a_cancelled_visit_is_left_out(phone: FlaskClient, clinic: Clinic) -> None:
    gone = clinic.book(str(clinic.offers("Follow-up")[0].slot), "Follow-up")
    clinic.cancel(gone.token)
    assert summaries(phone, make(phone)) == []


def test_a_link_that_is_revoked_replaced_or_guessed_is_not_there(phone: FlaskClient, clinic: Clinic) -> None:
    first = make(phone)
    second = make(phone)
    assert (phone.get(first).status_code, phone.get(second).status_code) == (404, 200)
    assert "The link is revoked" in press(phone, "revoke").main.text
    for path in (second, "/feeds/x.ics", f"/feeds/{'a' * 5000}.ics", "/feeds/%ff.ics", "/feeds/.ics"):
        answer = phone.get(path)
        assert (answer.status_code, b"VEVENT" in answer.data) == (404, False), path
    assert "There is no link yet." in look(phone, PAGE).main.text


def test_a_form_that_is_not_ours_makes_nothing(phone: FlaskClient, clinic: Clinic) -> None:
    assert phone.post(PAGE, data={"make": "y"}).status_code == 400
    assert press(phone, "change", detailed=True).status == 404
    with reading(clinic.engine) as session:
        assert session.scalars(select(CalendarFeed)).all() == []


def test_whoever_treats_nobody_makes_no_link(app: Flask, engine: Engine, clinic: Clinic, clock: FixedClock) -> None:
    desk = signed_in(app, engine, clock, an_account(engine, clock, Role.FRONT_DESK))
    assert press(desk, "make").status == 404


def test_no_log_line_names_the_link(phone: FlaskClient, clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(phone)
    phone.get(path)
    said = "".join(capsys.readouterr())
    assert "/feeds/<token>.ics" in said
    assert path not in said


KHAL, VDIRSYNCER = shutil.which("khal"), shutil.which("vdirsyncer")
SUBSCRIBE = """
[general]
status_path = "{folder}/status/"
[pair visits]
a = "here"
b = "there"
collections = null
[storage here]
type = "filesystem"
path = "{folder}/calendar"
fileext = ".ics"
[storage there]
type = "http"
url = "{url}"
"""
SHOW = """
[calendars]
[[visits]]
path = {folder}/calendar
[locale]
local_timezone = {zone}
default_timezone = {zone}
timeformat = %H:%M
dateformat = %Y-%m-%d
longdateformat = %Y-%m-%d
datetimeformat = %Y-%m-%d %H:%M
longdatetimeformat = %Y-%m-%d %H:%M
[sqlite]
path = {folder}/khal.db
"""


def test_a_calendar_program_follows_the_schedule_until_the_link_is_revoked(tmp_path: Path) -> None:
    """Programs that share no code with ours, over HTTP from a running server, on the clinic's and on another clock."""
    if KHAL is None or VDIRSYNCER is None:
        message = "khal and vdirsyncer are not installed: `make browser` installs them"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    database = f"sqlite:///{tmp_path / 'clinic.db'}"
    with serving(database, tmp_path) as server:
        engine = make_engine(database)
        token, expected = a_feed(engine)
        url = f"{server.url}/feeds/{token}.ics"
        assert synchronized(tmp_path, url).returncode == 0
        for zone in ("America/Chicago", "Europe/Madrid"):
            assert shown(tmp_path, zone) == expected(zone)
        with transaction(engine) as session:
            feed = session.scalars(select(CalendarFeed)).one()
            feeds.revoke(session, feed.account_id, by=Actor("test"), now=feed.created_at)
        shutil.rmtree(tmp_path / "calendar")
        shutil.rmtree(tmp_path / "status")
        assert synchronized(tmp_path, url).returncode != 0
        assert list((tmp_path / "calendar").glob("*")) == []
        assert token not in server.log.read_text()
        engine.dispose()


def a_feed(engine: Engine) -> tuple[str, Callable[[str], list[str]]]:
    """A link to the schedule of a demo therapist, with visits around the night in which the clocks change.

    And what a clock of some zone should show: start and end of every visit.
    """
    with transaction(engine) as session:
        account = session.scalars(select(Account).where(Account.therapist_id.is_not(None))).one()
        own = Appointment.therapist_id == account.therapist_id, Appointment.status == Status.BOOKED
        visits = session.scalars(select(Appointment).where(*own).order_by(Appointment.starts_at)).all()
        now = visits[0].booked_at + 31 * DAY  # the demo books a month ahead at most
        night = night_of_change(session.get_one(Location, visits[0].location_id).time_zone, now)
        for number, visit in enumerate(visits[-24:]):
            visit.starts_at = night + number * timedelta(minutes=15)
            visit.ends_at = visit.starts_at + timedelta(minutes=15)
        gone = visits[0]
        gone.status, gone.cancelled_at = Status.CANCELLED, gone.booked_at
        token = feeds.make(session, account.id, detailed=False, by=Actor("test"), now=now)
        ends = sorted((visit.starts_at, visit.ends_at) for visit in visits if visit.status == Status.BOOKED)

    def expected(zone: str) -> list[str]:
        written = (
            [instant.astimezone(zone_of(zone)).strftime("%Y-%m-%d %H:%M") for instant in visit] for visit in ends
        )
        return [" to ".join(both) for both in written]

    return token, expected


def night_of_change(zone: str, now: Any) -> Any:  # noqa: ANN401 instants
    """Midnight (UTC) of the next day on which a zone's clocks change."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    while (day + DAY).astimezone(zone_of(zone)).utcoffset() == day.astimezone(zone_of(zone)).utcoffset():
        day += DAY
    return day


def synchronized(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Let vdirsyncer subscribe, or look again."""
    (folder / "calendar").mkdir(exist_ok=True)
    config = folder / "vdirsyncer.ini"
    config.write_text(SUBSCRIBE.format(folder=folder, url=url))
    run(folder, str(VDIRSYNCER), "-c", str(config), "discover")
    return run(folder, str(VDIRSYNCER), "-c", str(config), "sync")


def shown(folder: Path, zone: str) -> list[str]:
    """What khal shows of the calendar on a clock of this zone."""
    config = folder / "khal.ini"
    config.write_text(SHOW.format(folder=folder, zone=zone))
    words = ("list", "--once", "--day-format", "", "--format", "{start} to {end}", "2020-01-01", "7300d")
    answer = run(folder, str(KHAL), "-c", str(config), *words)
    assert answer.returncode == 0, answer.stderr
    return [line for line in answer.stdout.splitlines() if line]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8", "NO_PROXY": "*"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
