"""A page that is written once for all is never older than the rows, the minute, its address or its language."""

from collections.abc import Callable
from datetime import timedelta
from itertools import count

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from sqlalchemy import Engine, event, update

from scheduler.clock import FixedClock
from scheduler.db import change_counter, make_engine, transaction
from scheduler.models import ClinicPolicy
from tests.clinic import HOUR, Clinic
from tests.conftest import MONDAY_MORNING

PAGES = ("/", "/book", "/explainer", "/contact")
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

    assert not all(is_read_again() for _ in range(50))  # other tests' databases on PostgreSQL share its snapshot
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
    seen = [change_counter(engine)]
    clinic.offers()
    assert change_counter(engine) == seen[0]
    for name in ("A", "B", "C"):
        clinic.policy(clinic_name=name)
        seen.append(change_counter(engine))
    assert len(set(seen)) == len(seen)
