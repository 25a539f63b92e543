"""Calendars to search in that no demo has: a million cells, ten million, one almost full, one full of single gaps.

They are filled in SQL, and only to be searched: what is taken in them is taken by no visit that exists.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copyfile
from statistics import fmean, median
from typing import Any

from sqlalchemy import Connection, Engine, event, make_url, select, text

from config import driver_url
from scheduler.db import insert_into, make_engine, reading, transaction
from scheduler.models import AccessSample, Location
from scheduler.services import access_goal, access_requests, availability
from scheduler.services.availability import Find
from scheduler.timeline import CELL, cell_of
from tests import postgres
from tests.bench import cells
from tests.bench.clinic import Clinic, Database, Measure, searched
from tests.bench.load import Run

HUGE, BUSY = "p50, 10 million cells / 1 million", "busy / quiet, {}"
FRAGMENTED = "fragmented / quiet, {}"
FIRSTS = "first at each of 50 locations / bare driver"
FIGURES = "the goal's figures, 50 locations / bare driver"
MILLION, TEN_MILLIONS = (50, 600), (500, 6000)  # locations and therapists
BUSY_DAYS = 10
ASKED = 60
NOBODY = {"sqlite": "'" + "0" * 32 + "'", "postgresql": "'00000000-0000-0000-0000-000000000000'"}
CELL_NUMBER = {"sqlite": "(starts_at / 900000000)", "postgresql": "(EXTRACT(epoch FROM starts_at)::bigint / 900)"}
UNTIL = {"sqlite": "{} * 1000000", "postgresql": "to_timestamp({})"}
# The free cells of one of the first people again, for each of those who have none yet, where they work.
FILL = """
    INSERT INTO slot (therapist_id, starts_at, location_id, fit, needling, fit_open, protected)
    SELECT new.id, slot.starts_at, slot.location_id + {places} * (new.id % ({locations} / {places})), fit, needling,
        fit_open, protected
    FROM therapist new JOIN slot ON slot.therapist_id = 1 + new.id % {people}
    WHERE new.id > {done} AND appointment_id IS NULL ORDER BY new.id, slot.starts_at
"""


def fill(database_url: str, locations: int, therapists: int, *, places: int, people: int) -> None:
    """Let so many people work at so many places: those who have no cells get those of the first `people`."""
    cells.grow(database_url, locations, therapists)
    with _filling(database_url) as connection:
        done = connection.execute(text("SELECT max(therapist_id) FROM slot")).scalar_one()
        values = {"places": places, "people": people, "locations": locations, "done": done}
        connection.execute(text(FILL.format(**values)))


def take(database_url: str, taken: str) -> None:
    """Take the cells that are so; what is left stands alone."""
    with _filling(database_url) as connection:
        dialect = connection.dialect.name
        end = UNTIL[dialect].format(int((datetime.now(UTC) + timedelta(days=BUSY_DAYS)).timestamp()))
        where = taken.format(cell=CELL_NUMBER[dialect], end=end)
        take = f"CASE WHEN {where} THEN {NOBODY[dialect]} END"
        if dialect == "postgresql":
            take = f"CAST({take} AS uuid)"
        near = "true" if "{end}" not in taken else f"starts_at < {end}"
        connection.execute(
            text(
                f"UPDATE slot SET appointment_id = {take}, fit = CASE WHEN {where} THEN 0 ELSE 1 END, "
                f"fit_open = CASE WHEN {where} THEN 0 ELSE 1 END, protected = false "
                f"WHERE appointment_id IS NULL AND {near}"
            )
        )


TAKEN_BUSY = "starts_at < {end} AND (therapist_id * 7919 + {cell}) % 1000 <> 0"
TAKEN_EVERY_OTHER = "{cell} % 2 = 0"


@contextmanager
def _filling(database_url: str) -> Iterator[Connection]:
    """A connection to which a cell may be taken by nobody who exists; the database knows its rows anew afterwards."""
    engine = make_engine(driver_url(database_url))
    sqlite = engine.dialect.name == "sqlite"
    begin = engine.execution_options(sqlite_begin="PRAGMA foreign_keys = OFF")
    with begin.connect() as connection:
        connection.exec_driver_sql("BEGIN" if sqlite else "SET session_replication_role = replica")
        if not sqlite:
            connection.exec_driver_sql("SET statement_timeout = 0")
        yield connection
        connection.commit()
        connection.invalidate()
    if not sqlite:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.exec_driver_sql("VACUUM ANALYZE slot")
            connection.invalidate()
    engine.dispose()


@contextmanager
def copied(database: Database, name: str, folder: Path) -> Iterator[Database]:
    """The same database again, until the block ends; nobody may be connected to the first."""
    path = make_url(database.url).database
    if database.name == "SQLite":
        engine = make_engine(database.url)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        engine.dispose()
        copy = folder / f"{name}.db"
        copyfile(str(path), copy)
        yield replace(database, url=f"sqlite:///{copy}")
        for file in folder.glob(f"{name}.db*"):
            file.unlink()
    else:
        yield replace(database, url=postgres.fresh_database(f"bench_{name}", template=str(path)))
        postgres.drop(f"bench_{name}")


@dataclass(frozen=True, slots=True)
class Compared:
    """What takes how many times as long as what else: functions that do it for some seconds and tell how often."""

    name: str
    one: Measure
    other: Measure


def compare(compared: Compared, rounds: int, seconds: float) -> Iterator[tuple[float, Run]]:
    """Each round, the one between two turns of the other: how many times as long it takes."""
    compared.other(1, seconds), compared.one(1, seconds)
    for _ in range(rounds):
        before, run, after = compared.other(1, seconds), compared.one(1, seconds), compared.other(1, seconds)
        yield fmean((before.per_second, after.per_second)) / run.per_second, run


@contextmanager
def over_http(database: Database, folder: Path, workers: int) -> Iterator[tuple[Clinic, list[Compared]]]:
    """The clinic as it is; and what is compared with it: one where almost all is taken, one of single gaps."""
    with copied(database, "busy", folder) as busy, copied(database, "fragmented", folder) as fragmented:
        take(busy.url, TAKEN_BUSY)
        take(fragmented.url, TAKEN_EVERY_OTHER)
        with (
            searched(database, workers) as quiet,
            searched(busy, workers) as full,
            searched(fragmented, workers) as gaps,
        ):
            gaps.shown = 0  # nowhere four cells follow each other
            searches = {name: there.searches(60) for name, there in ((BUSY, full), (FRAGMENTED, gaps))}
            yield (
                quiet,
                [
                    Compared(name.format(where), there[where], quiet.searches(60)[where])
                    for name, there in searches.items()
                    for where in Clinic.PLACES
                ],
            )


@contextmanager
def in_process(database: Database) -> Iterator[list[Compared]]:
    """The first start at each location, and all figures of the goal, beside the same statements by the driver alone."""
    engine = make_engine(driver_url(database.url))
    _keep_samples(engine)
    asked: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, sql, values, *_: asked.append((sql, values)))
    now = datetime.now(UTC)

    def firsts() -> None:
        availability.soonest(engine, 1, 1, now=now)

    def figures() -> None:
        with reading(engine) as session:
            access_goal.measure(session, now=now, appointment_type_id=1)
            access_requests.met(session, 1, since=now - access_goal.WINDOW, until=now)

    connection = engine.raw_connection()
    driver: Any = connection.dbapi_connection

    def alone(act: Callable[[], None]) -> Callable[[], None]:
        """The statements of something, once the terms are known."""
        act()
        asked.clear()
        act()
        own = [one for one in asked if one[0].startswith("SELECT")]

        def bare() -> None:
            for one in own:
                driver.execute(*one).fetchall()

        return bare

    compared = [(name, act, alone(act)) for name, act in ((FIRSTS, firsts), (FIGURES, figures))]
    yield [Compared(name, _often(act), _often(bare)) for name, act, bare in compared]
    connection.close()
    engine.dispose()


def _keep_samples(engine: Engine) -> None:
    """Four weeks of quarter hours at every location, measured all the time."""
    quarter = cell_of(datetime.now(UTC))
    with transaction(engine) as session:
        rows = [
            {
                "appointment_type_id": 1,
                "location_id": place,
                "quarter": quarter - number * CELL,
                "next_available_hours": 1.0 + number % 60,
                "third_next_available_hours": None,
                "goal_hours": 48,
                "within_goal": number % 60 < 48,
                "possible": True,
                "within_open_days": True,
            }
            for place in session.scalars(select(Location.id))
            for number in range(access_goal.WINDOW // CELL)
        ]
        session.execute(insert_into(session, AccessSample).on_conflict_do_nothing(), rows)


@contextmanager
def in_ten_millions(database: Database, folder: Path) -> Iterator[list[Compared]]:
    """A search among ten million cells, beside one among a million: the median of many, each for another day."""
    with copied(database, "huge", folder) as huge:
        fill(huge.url, *TEN_MILLIONS, places=4, people=12)
        engines = [make_engine(driver_url(one.url)) for one in (huge, database)]
        yield [Compared(HUGE, *(_median_search(engine) for engine in engines))]
        for engine in engines:
            engine.dispose()


def _often(act: Callable[[], None]) -> Measure:
    def measure(_clients: int, seconds: float) -> Run:
        began, done = time.perf_counter(), 0
        while time.perf_counter() < began + seconds:
            act()
            done += 1
        return Run(done / (time.perf_counter() - began), 0.0, 0.0, [])

    return measure


def _median_search(engine: Engine) -> Measure:
    def measure(_clients: int, _seconds: float) -> Run:
        took, now = [], datetime.now(UTC)
        for number in range(ASKED):
            find = Find(1, location_id=1 + number % 4, from_=now + timedelta(hours=number))
            began = time.perf_counter()
            availability.search(engine, find, now=now)
            took.append(time.perf_counter() - began)
        return Run(1 / median(took), 0.0, 0.0, [])

    return measure
