"""A page that is written once for all is never older than the rows, the minute, its address or its language."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from pathlib import Path
from threading import Barrier

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from sqlalchemy import Engine, event, update

from config import Settings
from scheduler.app import create_app
from scheduler.clock import FixedClock
from scheduler.db import change_counter, make_engine, transaction
from scheduler.models import ClinicPolicy
from tests.clinic import HOUR, Clinic, at
from tests.conftest import MONDAY_MORNING

PAGES = ("/", "/book", "/explainer")
MICROSECOND = timedelta(microseconds=1)
anew = count()


def page(client: FlaskClient, path: str) -> str:
    return client.get(path).get_data(as_text=True)


def written_anew(client: FlaskClient, path: str) -> str:
    """The page at an address that nobody asked for before, told as if it were the other's."""
    unseen = f"unseen={next(anew)}"
    return page(client, f"{path}?{unseen}").replace(f"?{unseen}&amp;", "?").replace(f"&amp;{unseen}", "")


@pytest.fixture
def reads(engine: Engine) -> Callable[[], int]:
    """How many statements on rows ran since the last call."""
    seen: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM" in statement:
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)

    def since() -> int:
        found = len(seen)
        seen.clear()
        return found

    return since


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_written_once_while_nothing_changes(
    client: FlaskClient, clinic: Clinic, reads: Callable[[], int], path: str
) -> None:
    def is_read_again() -> bool:
        first, _ = page(client, path), reads()
        assert page(client, path) == first
        return reads() > 0

    tries = 1 if clinic.engine.name == "sqlite" else 50  # other tests' databases on PostgreSQL share its snapshot
    assert not all(is_read_again() for _ in range(tries))
    reads()
    clinic.policy(clinic_name="Another Name")
    page(client, path)
    assert reads() > 0


@pytest.mark.parametrize("path", PAGES)
def test_a_browser_that_has_the_page_is_only_told_so(client: FlaskClient, clinic: Clinic, path: str) -> None:
    first = client.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.get_data()) == (304, b"")
    clinic.policy(clinic_name="Another Name")
    changed = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert "Another Name" in changed.get_data(as_text=True)


@pytest.mark.parametrize("path", PAGES)
def test_a_write_of_another_process_is_seen_at_once(client: FlaskClient, clinic: Clinic, path: str) -> None:
    page(client, path)
    other = make_engine(clinic.engine.url.render_as_string(hide_password=False))
    with transaction(other) as session:
        session.execute(update(ClinicPolicy).values(clinic_name="Written Elsewhere"))
    other.dispose()
    assert "Written Elsewhere" in page(client, path)


def test_what_is_not_committed_changes_nothing(client: FlaskClient, clinic: Clinic, engine: Engine) -> None:
    before = page(client, "/")
    with transaction(engine) as session:
        session.execute(update(ClinicPolicy).values(clinic_name="Not Yet"))
        session.flush()
        assert page(client, "/") == before
    assert "Not Yet" in page(client, "/")


def test_a_booked_time_is_gone_from_the_page_and_back_after_the_cancel(client: FlaskClient, clinic: Clinic) -> None:
    first = str(clinic.offers()[0].slot)
    assert f"/book/{first}" in page(client, "/book")
    booked = clinic.book(first)
    assert f'/book/{first}"' not in page(client, "/book")
    clinic.cancel(booked.token)
    assert f"/book/{first}" in page(client, "/book")


def test_languages_and_filters_have_pages_of_their_own(client: FlaskClient, clinic: Clinic) -> None:
    english = page(client, "/book")
    assert client.get("/book", headers={"Accept-Language": "es"}).get_data(as_text=True) != english
    assert page(client, "/book?lang=es") != english
    assert page(client, "/book?type=2") != english
    assert page(client, "/book") == english


def test_a_mistaken_address_is_refused_each_time(client: FlaskClient, clinic: Clinic) -> None:
    assert [client.get("/book?location=99").status_code for _ in range(2)] == [422, 422]


MOMENTS = st.builds(
    lambda minutes, tiny: timedelta(minutes=minutes) + tiny * MICROSECOND,
    st.integers(0, 3 * 24 * 60),
    st.sampled_from([-1, 0, 1, 30_000_000]),
)


@bounded(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(moments=st.lists(MOMENTS, min_size=2, max_size=6))
def test_time_alone_makes_no_page_old(
    client: FlaskClient, clinic: Clinic, clock: FixedClock, moments: list[timedelta]
) -> None:
    for moment in sorted(moments):
        for tiny in (0, 1, 2):
            clock.at = MONDAY_MORNING + moment + tiny * MICROSECOND
            assert starts(page(client, "/book")) == starts(written_anew(client, "/book"))
            assert page(client, "/explainer") == written_anew(client, "/explainer")


def test_the_first_page_changes_with_the_first_microsecond_that_is_too_late(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    soonest = clinic.offers()[0].slot
    clock.at = soonest.starts_at - HOUR  # an hour's notice
    assert f"/book/{soonest}" in page(client, "/")
    clock.at += MICROSECOND
    assert f"/book/{soonest}" not in page(client, "/")


def starts(text: str) -> list[str]:
    return [part.partition('"')[0].partition("?")[0] for part in text.split('href="/book/')[1:]]


def test_the_counter_stays_while_only_reading_and_changes_with_every_commit(engine: Engine, clinic: Clinic) -> None:
    def stays() -> bool:
        before = change_counter(engine)
        clinic.offers()
        return change_counter(engine) == before

    tries = 1 if engine.name == "sqlite" else 50  # other tests' databases on PostgreSQL share its snapshot
    assert any(stays() for _ in range(tries))
    seen = [change_counter(engine)]
    for name in ("A", "B", "C"):
        clinic.policy(clinic_name=name)
        seen.append(change_counter(engine))
    assert len(set(seen)) == len(seen)


def test_threads_that_ask_first_at_different_moments_are_told_of_the_same_state(
    client: FlaskClient, clinic: Clinic, engine: Engine
) -> None:
    """SQLite counts changes for each connection from where that began."""
    first = str(clinic.offers()[0].slot)
    assert f'/book/{first}"' in page(client, "/book")
    clinic.book(first)
    clinic.policy(clinic_name="Another Name")
    with ThreadPoolExecutor(4) as threads:
        pages = list(threads.map(lambda _: page(client.application.test_client(), "/book"), range(8)))
    assert {f'/book/{first}"' in one for one in pages} == {False}
    assert all("Another Name" in one for one in pages)
    counters = [change_counter(engine)]
    with ThreadPoolExecutor(1) as thread:
        counters += [thread.submit(change_counter, engine).result()]
        clinic.policy(clinic_name="Again Another")
        counters += [thread.submit(change_counter, engine).result()]
    assert counters[2] not in counters[:2]


@pytest.mark.parametrize("path", PAGES)
def test_of_those_who_ask_at_the_same_moment_one_writes_the_page(
    client: FlaskClient, clinic: Clinic, reads: Callable[[], int], path: str
) -> None:
    """Else a page that many look at is written by all of them at once after every booking."""
    page(client, f"{path}?alone=1")
    alone, together = reads(), 0
    for number in range(5):  # other tests' databases on PostgreSQL share its snapshot
        start = Barrier(4)

        def ask(_: int, start: Barrier = start, number: int = number) -> str:
            start.wait()
            return page(client.application.test_client(), f"{path}?together={number}")

        with ThreadPoolExecutor(4) as threads:
            assert len(set(threads.map(ask, range(4)))) == 1
        together = reads()
        if together <= alone:
            return
    pytest.fail(f"{together} statements where one page takes {alone}")


def test_an_answer_that_threads_share_is_never_older_than_their_question(engine: Engine, clinic: Clinic) -> None:
    """Each thread notes what it committed itself in the state that it asks for after that."""

    def changed_and_asked(number: int) -> bool:
        before = change_counter(engine)
        clinic.policy(clinic_name=f"Name {number}")
        return change_counter(engine) != before

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(changed_and_asked, range(80)))


def test_a_connection_that_was_cut_is_replaced_and_told_from_the_one_before(clinic: Clinic, engine: Engine) -> None:
    seen = {change_counter(engine)}
    for name in ("A", "B", "C"):
        clinic.policy(clinic_name=name)
        engine.dispose()
        seen.add(change_counter(engine))
    assert len(seen) == 4


def test_a_question_about_the_headers_alone_changes_nothing_for_others(client: FlaskClient, clinic: Clinic) -> None:
    client.head("/?head=1")
    assert "Español" in page(client, "/?head=1")


@pytest.mark.parametrize("path", PAGES)
def test_a_database_that_is_away_is_told_as_such(
    settings: Settings, clock: FixedClock, path: str, tmp_path: Path
) -> None:
    for url in ("postgresql+psycopg://nobody@127.0.0.1:9/nothing", f"sqlite:///{tmp_path}/no/such/folder.db"):
        answer = create_app(settings, make_engine(url), clock).test_client().get(path)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_page_and_program_tell_the_same_verdict_in_every_second(
    client: FlaskClient, clinic: Clinic, clock: FixedClock
) -> None:
    """Hours are rounded to two decimals, so the verdict turns 18 seconds before a whole minute."""
    clinic.policy(access_goal_hours=2, booking_notice_minutes=60)
    morning = at("2026-11-24T14:00:00+00:00")  # 8:00 in Chicago, when work begins
    told = set()
    for second in range(-62, 3):
        clock.at = morning - 2 * HOUR + timedelta(seconds=second)
        within = client.get("/api/v1/access").get_json()["overall"]["within_goal"]
        assert ("We can typically see you" in page(client, "/")) == within, second
        told.add(within)
    assert told == {False, True}
