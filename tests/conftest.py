"""What tests share: both databases built by the real migrations, a clock that stands still, an app, its client."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import settings as hypothesis_settings
from jinja2 import FileSystemBytecodeCache
from sqlalchemy import Engine

import config
from scheduler import cli
from scheduler.app import create_app
from scheduler.clock import FixedClock
from scheduler.db import Base, make_engine
from scheduler.keys import Keyring
from scheduler.services import accounts
from scheduler.web.context import Context
from tests import postgres
from tests.clinic import Clinic
from tests.stores import Postgresql, Sqlite, Store, StoreT

MONDAY_MORNING = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)  # 9:00 in Chicago
LEFT_TO_DRILL = pytest.StashKey[int]()
BACKENDS = ("sqlite", "postgresql")
MIGRATED, STANDARD = "migrated", "standard"  # the states that a test may begin with


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers of pytest-xdist inherit the server from their parent
        postgres.ensure_server()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The full drills run by `make drill` only."""
    if config.option.markexpr:
        return
    drills = [item for item in items if item.get_closest_marker("drill")]
    config.stash[LEFT_TO_DRILL] = len(drills)
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_to_drill"] = len(drills)
    items[:] = [item for item in items if item not in drills]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 pytest-xdist's own class
    """Every worker of pytest-xdist collects the same tests; one of their counts is the count."""
    node.config.stash[LEFT_TO_DRILL] = getattr(node, "workeroutput", {}).get("left_to_drill", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:  # noqa: ANN401 pytest's own class
    """Say what did not run."""
    skipped = len(terminalreporter.stats.get("skipped", []))
    left = config.stash.get(LEFT_TO_DRILL, 0)
    if left:
        terminalreporter.write_line(f"NOT RUN HERE: {left} drills at full size (make drill runs them)")
    if skipped:
        terminalreporter.write_line(f"NOT RUN HERE: {skipped} tests, for the reasons above", red=True, bold=True)


# How long an example takes says more of a machine's other work than of the code.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")
accounts.hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # slow by intent where it is real


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> config.Settings:
    instance = tmp_path_factory.mktemp("instance")
    return config.from_environment({"RATE_LIMITS": "off"}, instance=instance)


@pytest.fixture(scope="session", autouse=True)
def templates_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    Flask.jinja_options = {"bytecode_cache": FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))}


@pytest.fixture
def keys(settings: config.Settings) -> Keyring:
    return Keyring.of(settings.link_keys, settings.field_keys)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(MONDAY_MORNING)


@pytest.fixture(scope="session")
def migrated_sqlite(settings: config.Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "migrated.db"
    engine = make_engine(f"sqlite:///{path}")
    cli.prepare(settings, engine, FixedClock(MONDAY_MORNING))
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def migrated_postgresql(settings: config.Settings) -> Iterator[Engine]:
    engine = make_engine(config.driver_url(postgres.fresh_database(f"test_{worker_name()}")))
    cli.prepare(settings, engine, FixedClock(MONDAY_MORNING))
    yield engine
    engine.dispose()


def worker_name() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "alone")


@pytest.fixture(scope="session")
def sqlite_store(settings: config.Settings, migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Sqlite:
    path = tmp_path_factory.mktemp("database") / "scheduler.db"
    shutil.copy(migrated_sqlite, path)
    return filled(Sqlite(make_engine(f"sqlite:///{path}")), settings)


@pytest.fixture(scope="session")
def postgresql_store(settings: config.Settings, migrated_postgresql: Engine) -> Postgresql:
    with migrated_postgresql.begin() as connection:  # others may have used it before
        postgres.empty(connection, (table.name for table in Base.metadata.sorted_tables))
    cli.prepare(settings, migrated_postgresql, FixedClock(MONDAY_MORNING))
    return filled(Postgresql(migrated_postgresql), settings)


def filled(store: StoreT, settings: config.Settings) -> StoreT:
    """Keep the states that tests begin with: made once a process by the clinic's own code, copied for each test."""
    store.keep(MIGRATED)
    Clinic.standard(store.engine, FixedClock(MONDAY_MORNING), Keyring.of(settings.link_keys, settings.field_keys))
    store.keep(STANDARD)
    return store


@pytest.fixture(params=BACKENDS)
def engine(request: pytest.FixtureRequest, clock: FixedClock) -> Iterator[Engine]:
    """A migrated database with the clinic's first policy and the explainer, on each of both in turn.

    It has no other row, unless the test asks for `clinic`: then it is the standing one's from the start.
    """
    store: Store = request.getfixturevalue(f"{request.param}_store")
    store.restore(STANDARD if standing.__name__ in request.fixturenames else MIGRATED)
    with store.lent() as engine:
        yield engine


@pytest.fixture
def standing(clock: FixedClock) -> None:
    """Nothing but a word to `engine`: what stands was planned at this moment."""
    assert clock.now() == MONDAY_MORNING


@pytest.fixture
def clinic(engine: Engine, clock: FixedClock, keys: Keyring, standing: None) -> Clinic:
    """A small clinic with one licensed therapist in Chicago, planned ahead."""
    return Clinic.standing(engine, clock, keys)


@pytest.fixture(scope="session")
def application(settings: config.Settings) -> APIFlask:
    app = create_app(settings, make_engine("sqlite://"), FixedClock(MONDAY_MORNING))
    app.testing = True
    return app


@pytest.fixture
def app(application: APIFlask, settings: config.Settings, engine: Engine, clock: FixedClock, keys: Keyring) -> APIFlask:
    """The one of this process, as create_app makes it, with this test's database and clock."""
    application.extensions["scheduler"] = Context(settings, engine, clock, keys, started_at=clock.now())
    return application


@pytest.fixture
def client(app: APIFlask) -> FlaskClient:
    return app.test_client()
