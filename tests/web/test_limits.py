"""How much one address may do, and what is said when the database cannot: 429 and 503, with nothing lost."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select
from werkzeug.test import TestResponse

import config
from scheduler import db
from scheduler.app import create_app
from scheduler.clock import FixedClock
from scheduler.db import Base, make_engine, reading, transaction
from scheduler.models import Appointment, BookingCount, Therapist
from scheduler.services import limits
from tests.clinic import Clinic, body, key, rows

API = "/api/v1"
HERE = "198.51.100.7"
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


@pytest.fixture
def limited(settings: config.Settings, engine: Engine, clock: FixedClock, clinic: Clinic) -> FlaskClient:
    """The clinic with its limits on."""
    return served(replace(settings, rate_limits=True), engine, clock)


def served(settings: config.Settings, engine: Engine, clock: FixedClock) -> FlaskClient:
    app = create_app(settings, engine, clock)
    app.testing = True
    return app.test_client()


@contextmanager
def another(url: str, settings: config.Settings, clock: FixedClock) -> Iterator[FlaskClient]:
    """The same clinic, served over an engine of its own."""
    engine = make_engine(url)
    try:
        yield served(settings, engine, clock)
    finally:
        engine.dispose()


def apart(client: FlaskClient, number: int) -> list[str]:
    """So many half hours that do not overlap."""
    items = client.get(f"{API}/slots?appointment_type=3&limit=200&from=2026-11-24").get_json()["items"]
    ids = [item["id"] for item in items if item["start"][14:16] in {"00", "30"}]
    assert len(ids) >= number
    return ids[:number]


def post(client: FlaskClient, slot: str, address: str = HERE, **headers: str) -> TestResponse:
    return client.post(
        f"{API}/appointments",
        json=body(slot, "3"),
        headers=key() | {name.replace("_", "-"): value for name, value in headers.items()},
        environ_overrides={"REMOTE_ADDR": address},
    )


def everything(engine: Engine) -> dict[str, list[str]]:
    with engine.connect() as connection:
        return {
            table.name: sorted(str(tuple(row)) for row in connection.execute(select(table)))
            for table in Base.metadata.sorted_tables
        }


def visits(engine: Engine) -> int:
    with reading(engine) as session:
        return session.execute(select(func.count()).select_from(Appointment)).scalar_one()


def assert_told_to_wait(answer: TestResponse, status: int, most: int) -> None:
    """A problem that says how many seconds to wait."""
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), answer.get_data()
    assert answer.get_json(force=True)["status"] == status
    assert 1 <= int(answer.headers["Retry-After"]) <= most


def test_the_31st_booking_of_an_hour_is_refused_and_leaves_no_trace(
    limited: FlaskClient, engine: Engine, clock: FixedClock
) -> None:
    slots = apart(limited, 34)
    clock.at += timedelta(minutes=20)
    assert [post(limited, slot).status_code for slot in slots[:30]] == [201] * 30
    before = everything(engine)
    assert_told_to_wait(post(limited, slots[30]), 429, 40 * 60 + 1)
    assert everything(engine) == before
    assert post(limited, slots[30], "198.51.100.8").status_code == 201
    clock.at += timedelta(minutes=40)
    assert post(limited, slots[31]).status_code == 201


@pytest.fixture
def two_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BOOKINGS_AN_HOUR", 2)


def test_only_what_was_booked_is_counted(limited: FlaskClient, engine: Engine, two_an_hour: None) -> None:
    first, second, third = apart(limited, 3)
    same = key()
    for _ in range(4):  # one booking and its repeats
        answer = limited.post(f"{API}/appointments", json=body(first, "3"), headers=same)
        assert answer.status_code == 201
    for _ in range(4):
        assert limited.post(f"{API}/appointments", json=body(first, "3"), headers=key()).status_code == 409
        assert limited.post(f"{API}/appointments", json=body("1-1-1", "3"), headers=key()).status_code == 422
    assert limited.post(f"{API}/appointments", json=body(second, "3"), headers=key()).status_code == 201
    assert limited.post(f"{API}/appointments", json=body(third, "3"), headers=key()).status_code == 429
    assert limited.post(f"{API}/appointments", json=body(first, "3"), headers=same).status_code == 201
    with reading(engine) as session:
        assert [count.booked for count in rows(session, BookingCount)] == [2]


def test_the_address_is_kept_as_a_keyed_hash_only(limited: FlaskClient, engine: Engine) -> None:
    post(limited, apart(limited, 1)[0])
    assert HERE not in str(everything(engine))


def test_a_forwarded_address_is_not_believed_without_a_trusted_proxy(limited: FlaskClient, two_an_hour: None) -> None:
    slots = apart(limited, 3)
    answers = [post(limited, slot, X_Forwarded_For=f"203.0.113.{n}") for n, slot in enumerate(slots)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]


def test_a_trusted_proxys_last_word_is_believed_and_no_earlier_one(
    settings: config.Settings, engine: Engine, clock: FixedClock, clinic: Clinic, two_an_hour: None
) -> None:
    client = served(replace(settings, rate_limits=True, trusted_proxies=1), engine, clock)
    slots = apart(client, 6)
    forged = [post(client, slot, X_Forwarded_For=f"192.0.2.{n}, 203.0.113.9") for n, slot in enumerate(slots[:3])]
    assert [answer.status_code for answer in forged] == [201, 201, 429]
    others = [post(client, slot, X_Forwarded_For=f"203.0.113.{n}") for n, slot in enumerate(slots[3:])]
    assert [answer.status_code for answer in others] == [201] * 3


@on_sqlite
def test_endless_attempts_are_braked_by_address(limited: FlaskClient, engine: Engine) -> None:
    def attempt(address: str) -> TestResponse:
        override = {"REMOTE_ADDR": address}
        return limited.post(f"{API}/appointments/unknown/cancel", json={}, environ_overrides=override)

    before = everything(engine)
    assert {attempt(HERE).status_code for _ in range(300)} == {404}
    assert_told_to_wait(attempt(HERE), 429, 60)
    assert attempt("198.51.100.8").status_code == 404
    assert limited.get(f"{API}/locations", environ_overrides={"REMOTE_ADDR": HERE}).status_code == 200
    assert everything(engine) == before


@on_sqlite
def test_with_limits_off_nothing_is_counted(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    assert [post(client, slot).status_code for slot in apart(client, 34)] == [201] * 34
    unknown = [client.post(f"{API}/appointments/unknown/cancel", json={}).status_code for _ in range(301)]
    assert set(unknown) == {404}
    with reading(engine) as session:
        assert rows(session, BookingCount) == []


@contextmanager
def another_writer(engine: Engine) -> Iterator[None]:
    """Hold SQLite's write lock, or the row of the therapist that a booking must lock."""
    if engine.dialect.name == "postgresql":
        with transaction(engine) as session:
            session.execute(select(Therapist).with_for_update()).all()
            yield
        return
    with closing(sqlite3.connect(str(engine.url.database), isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        yield


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines made from now on wait for a lock for a tenth of a second."""
    monkeypatch.setattr(db, "SQLITE_WAIT_SECONDS", 0.1)
    monkeypatch.setitem(db.POSTGRESQL, "options", "-c timezone=UTC -c lock_timeout=100ms")


def url_of(engine: Engine, **query: str) -> str:
    return engine.url.update_query_dict(query).render_as_string(hide_password=False)


def test_what_waits_too_long_for_a_writer_may_be_repeated_and_is_not_lost(
    settings: config.Settings, engine: Engine, clock: FixedClock, clinic: Clinic, impatient: None
) -> None:
    with another(url_of(engine), settings, clock) as client:
        first, second = apart(client, 2)
        token = post(client, first).get_json()["token"]
        same: Any = {"json": body(second, "3"), "headers": key()}
        before = everything(engine)
        with another_writer(engine):
            assert_told_to_wait(client.post(f"{API}/appointments", **same), 503, 60)
            assert_told_to_wait(client.post(f"{API}/appointments/{token}/cancel", json={}), 503, 60)
            assert client.get(f"{API}/slots?appointment_type=1").status_code == 200
            assert client.get(f"{API}/appointments/{token}").get_json()["status"] == "booked"
        assert everything(engine) == before
        assert client.post(f"{API}/appointments", **same).status_code == 201
        assert client.post(f"{API}/appointments/{token}/cancel", json={}).get_json()["status"] == "cancelled"
    assert visits(engine) == 2


@on_sqlite
def test_a_file_that_cannot_be_written_is_still_read(
    settings: config.Settings, engine: Engine, clock: FixedClock, clinic: Clinic
) -> None:
    with another(f"sqlite:///file:{engine.url.database}?mode=ro&uri=true", settings, clock) as client:
        slot = apart(client, 1)[0]
        before = everything(engine)
        assert_told_to_wait(post(client, slot), 503, 60)
        assert client.get("/").status_code == 200
    assert everything(engine) == before
    assert post(served(settings, engine, clock), slot).status_code == 201


@on_postgresql
def test_a_database_that_only_reads_books_later(
    settings: config.Settings, engine: Engine, clock: FixedClock, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = served(settings, engine, clock)
    slot = apart(usual, 1)[0]
    monkeypatch.setitem(db.POSTGRESQL, "options", "-c timezone=UTC -c default_transaction_read_only=on")
    with another(url_of(engine), settings, clock) as client:
        assert_told_to_wait(post(client, slot), 503, 60)
    assert post(usual, slot).status_code == 201


# "no tables" fails while an empty database, as SQLite makes in place of a lost file, is told as 500 (CONTRACT: never).
@pytest.mark.parametrize(
    "url",
    ["sqlite:////nowhere/at/all.db", "sqlite:///{folder}/empty.db", "postgresql+psycopg://nobody@127.0.0.1:1/nothing"],
    ids=["no folder", "no tables", "no server"],
)
def test_without_a_database_every_answer_says_when_to_come_back(
    settings: config.Settings, clock: FixedClock, tmp_path: Path, url: str
) -> None:
    with another(url.format(folder=tmp_path), settings, clock) as client:
        for answer in (
            client.get(f"{API}/slots?appointment_type=1"),
            client.get(f"{API}/locations"),
            client.get(f"{API}/appointments/unknown"),
            client.post(f"{API}/appointments", json=body("1-1-1"), headers=key()),
            client.post(f"{API}/appointments/unknown/cancel", json={}),
        ):
            assert_told_to_wait(answer, 503, 60)
        page = client.get("/")
        assert (page.status_code, page.mimetype) == (503, "text/html")
        assert int(page.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    "addresses",
    [
        ["203.0.113.9:1001", "203.0.113.9:1002", "203.0.113.9"],
        ["203.0.113.9", "::ffff:203.0.113.9", "::ffff:203.0.113.9"],
        ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:f::"],
    ],
)
def test_a_port_or_another_address_of_ones_own_network_is_no_other_caller(
    limited: FlaskClient, two_an_hour: None, addresses: list[str]
) -> None:
    slots = apart(limited, 4)
    answers = [post(limited, slot, address).status_code for slot, address in zip(slots, addresses, strict=False)]
    assert answers == [201, 201, 429]
    assert post(limited, slots[3], "2001:db8:1:3::1").status_code == 201
