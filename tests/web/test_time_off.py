"""A therapist's page of their own time off."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from io import BytesIO
from time import monotonic, sleep

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import Role, Therapist, TimeOff, TimeOffStatus
from scheduler.services import edits, time_away
from scheduler.services.audit import Actor
from scheduler.services.time_away import OffDetails
from tests.clinic import Clinic
from tests.services.test_calendar_files import event, file, series
from tests.services.test_time_away import free, on
from tests.web.pages import Page, look
from tests.web.staff import an_account, csrf_token, signed_in

EVE = date(2026, 12, 24)


@pytest.fixture
def ana(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    return signed_in(app, engine, clock, an_account(engine, clock, Role.THERAPIST, therapist_id=1))


def upload(client: FlaskClient, content: bytes, name: str = "away.ics") -> Page:
    form = {"csrf_token": csrf_token(client), "file": (BytesIO(content), name)}
    answer = client.post("/staff/time-off/calendar", data=form, content_type="multipart/form-data")
    if answer.status_code == 303:
        return look(client, answer.headers["Location"])
    return Page(client, answer, "/staff/time-off")


def kept(engine: Engine) -> list[tuple[date, date, str]]:
    with reading(engine) as session:
        rows = session.scalars(select(TimeOff).order_by(TimeOff.starts_on))
        return [(row.starts_on, row.ends_on, row.status) for row in rows]


def asking(page: Page) -> dict[str, str]:
    """What the form to ask carries."""
    return {"csrf_token": page.tree.all("input", name="csrf_token")[0].attributes["value"]}


def ask(client: FlaskClient, **typed: str) -> Page:
    data = asking(look(client, "/staff/time-off")) | typed
    answer = client.post("/staff/time-off", data=data)
    if answer.status_code == 303:
        return look(client, answer.headers["Location"])
    return Page(client, answer, "/staff/time-off")


def test_time_off_is_asked_for_and_taken_back(ana: FlaskClient, clinic: Clinic, engine: Engine) -> None:
    assert "None yet." in look(ana, "/staff/").follow("My time off").main.text
    page = ask(ana, starts_on="2026-12-24", ends_on="2026-12-27", note="A wedding")
    assert "Asked. An administrator decides." in page.main.text
    assert "Thursday, December 24, 2026 to Sunday, December 27, 2026 Not decided yet. Note: A wedding" in page.main.text
    assert on(free(clinic), EVE) == ["08:00–17:00"]
    answer = ana.post("/staff/time-off/1/withdraw", data=asking(page))
    assert answer.status_code == 303
    assert kept(engine) == []
    assert "Taken back." in look(ana, "/staff/time-off").main.text


def test_what_was_decided_is_told(ana: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    for day, wish in ((EVE, TimeOffStatus.APPROVED), (date(2026, 12, 28), TimeOffStatus.DECLINED)):
        with transaction(clinic.engine) as session:
            details, by = OffDetails(day, 0, day, 24 * 60), Actor("test")
            asked = time_away.ask(session, 1, details, by=by, now=clock.now())
            time_away.decide(session, asked.id, wish, agreed=None, by=by, now=clock.now())
    page = look(ana, "/staff/time-off")
    assert "December 24, 2026 Approved" in page.main.text
    assert "December 28, 2026 Declined" in page.main.text
    assert len(page.tree.all("form", action="/staff/time-off/1/withdraw")) == 1
    assert page.tree.all("form", action="/staff/time-off/2/withdraw") == []


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"starts_on": "", "ends_on": "2026-12-24"}, "starts_on"),
        ({"starts_on": "2026-12-24", "ends_on": "2026-12-23"}, "ends_on"),
        ({"starts_on": "2026-12-24", "ends_on": "2026-12-24", "starts": "17:00", "ends": "09:00"}, "ends_on"),
        ({"starts_on": "2026-12-24", "ends_on": "2026-12-24", "note": "x" * 201}, "note"),
        ({"starts_on": "2020-12-24", "ends_on": "2020-12-24"}, "ends_on"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(
    ana: FlaskClient, engine: Engine, typed: dict[str, str], field: str
) -> None:
    page = ask(ana, **typed)
    assert (page.status, set(page.problems)) == (422, {field})
    assert kept(engine) == []


def test_a_calendar_file_is_asked_for_once_and_nothing_but_its_times_is_kept(
    ana: FlaskClient, clinic: Clinic, engine: Engine
) -> None:
    content = file(
        event(EVE, date(2026, 12, 27), uid="a", summary="Surgery"),
        event(date(2027, 1, 4), date(2027, 1, 5), uid="b", description="Private"),
    )
    page = upload(ana, content)
    assert "Asked for 2 times. An administrator decides." in page.main.text
    again = [(EVE, date(2026, 12, 26), "asked"), (date(2027, 1, 4), date(2027, 1, 4), "asked")]
    assert kept(engine) == again
    assert not {"Surgery", "Private"} & set(page.main.text.split())
    page = upload(ana, content)
    assert "2 were here already." in page.main.text
    assert kept(engine) == again
    assert on(free(clinic), EVE) == ["08:00–17:00"]


def test_an_event_whose_end_moved_is_asked_for_anew(ana: FlaskClient, clinic: Clinic, engine: Engine) -> None:
    upload(ana, file(event(EVE, date(2026, 12, 27))))
    page = upload(ana, file(event(EVE, date(2027, 1, 3))))
    assert "Asked for 1 time. An administrator decides." in page.main.text
    assert [ends for _, ends, _ in kept(engine)] == [date(2026, 12, 26), date(2027, 1, 2)]


def test_events_without_a_name_of_their_own_are_asked_for(ana: FlaskClient, clinic: Clinic, engine: Engine) -> None:
    events = [event(EVE, end) for end in (date(2026, 12, 25), date(2026, 12, 25), date(2026, 12, 27))]
    for one in events:
        del one["UID"]
    assert "Asked for 2 times." in upload(ana, file(*events)).main.text
    assert sorted(ends for _, ends, _ in kept(engine)) == [EVE, date(2026, 12, 26)]


def test_while_a_file_is_read_the_calendar_is_free(ana: FlaskClient, clinic: Clinic, engine: Engine) -> None:
    """It takes two seconds to refuse this one; whoever books locks the therapist as this does."""
    waits: list[float] = []
    began = monotonic()
    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(upload, ana, series("FREQ=DAILY", 65))
        while not refused.done():
            asked = monotonic()
            with transaction(engine) as session:
                edits.locked(session, Therapist, 1).name = f"Ana Abbott {len(waits)}"
            waits.append(monotonic() - asked)
            sleep(0.02)
    took = monotonic() - began
    assert "There are more than 500 times in this file." in refused.result().problems["file"]
    assert took > 2
    assert max(waits) < took / 2


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "", "Choose a file first."),
        (b"", "empty.ics", "This is no calendar file that can be read."),
        (b"name,day\n", "days.csv", "This is no calendar file that can be read."),
        (file(), "none.ics", "There is nothing in this file that lies ahead within a year."),
        (
            file(event(EVE, date(2036, 12, 24))),
            "decade.ics",
            "There is an event in this file that is longer than a year.",
        ),
        (b"x" * 250_001, "large.ics", "This file is larger than 250 KB."),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_words(
    ana: FlaskClient, engine: Engine, content: bytes, name: str, said: str
) -> None:
    page = upload(ana, content, name)
    assert page.status == 422
    assert said in page.problems["file"]
    assert kept(engine) == []


def test_who_treats_nobody_has_no_time_off_here(app: Flask, engine: Engine, clock: FixedClock, clinic: Clinic) -> None:
    desk = signed_in(app, engine, clock, an_account(engine, clock, Role.FRONT_DESK))
    assert "Ask for time off" not in look(desk, "/staff/time-off").main.text
    days = {"starts_on": "2026-12-24", "ends_on": "2026-12-24"}
    assert desk.post("/staff/time-off", data=days | {"csrf_token": csrf_token(desk)}).status_code == 404
