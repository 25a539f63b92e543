"""Cells by the hundred thousand: how long the planner takes to make them, and what it lets bookings wait meanwhile.

The clinic is grown in SQL out of the demo's: its people and places again, under new names, with hours and licences.
Then the real planner makes the cells, in a process of its own, beside a plain INSERT of the same rows into a table with
the same indices.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from random import Random

from sqlalchemy import Connection, Engine, func, inspect, select, text

from config import ROOT, driver_url
from scheduler.clock import SystemClock
from scheduler.db import Base, make_engine, reading, transaction
from scheduler.models import (
    License,
    Location,
    Slot,
    Therapist,
    TherapistLanguage,
    WorkingHours,
)
from scheduler.services import slots
from scheduler.worker import plan_slots
from tests.bench.load import Run, WrongAnswer
from tests.server import environment

MADE, AGAIN = "cells made / plain INSERT", "second run, for a million cells / limit"
WAIT = "longest wait of a booking meanwhile / 50 ms"
SECOND_RUN_SECONDS = {"SQLite": 1.0, "PostgreSQL": 2.0}
WAIT_SECONDS = 0.05
LOOK_EVERY = 0.01
LOCATIONS, THERAPISTS = 48, 440  # a million cells
MILLION = 1_000_000
# What a clone has of another's: all its columns but these.
CLONED = "INSERT INTO {table} ({own}, {columns}) SELECT {values}, {columns} FROM {table} WHERE {where}"


def grow(database_url: str, locations: int = LOCATIONS, therapists: int = THERAPISTS) -> None:
    """Make as many places and people as that out of the demo's; nobody new has a cell yet."""
    engine = make_engine(driver_url(database_url))
    with engine.begin() as connection:
        places = _count(connection, Location)
        people = _count(connection, Therapist)
        for new in range(places + 1, locations + 1):
            _clone(connection, Location, {"id": new, "name": f"'Location {new}'"}, f"id = {1 + (new - 1) % places}")
        for new in range(people + 1, therapists + 1):
            like = 1 + new % people
            _clone(connection, Therapist, {"id": new, "name": f"'Therapist {new}'"}, f"id = {like}")
            for table in (License, TherapistLanguage):
                _clone(connection, table, {"therapist_id": new}, f"therapist_id = {like}")
            # Its places are those that were cloned from the other's: another state would ask for another licence.
            place = f"location_id + {places} * {new % (locations // places)}"
            _clone(connection, WorkingHours, {"therapist_id": new, "location_id": place}, f"therapist_id = {like}")
    engine.dispose()


def measure(server: str, database_url: str) -> dict[str, tuple[float, Run]]:
    """Let the planner make what is missing, then look again; raise WrongAnswer where it then changes anything."""
    engine = make_engine(driver_url(database_url))
    before = _number_of_cells(engine)
    seconds, waits = _planned(engine, database_url)
    made = _number_of_cells(engine) - before
    again, _ = _planned(engine, database_url)
    if _number_of_cells(engine) != before + made:
        raise WrongAnswer("The planner made cells twice.")
    plain = _plain_insert(engine)
    engine.dispose()
    found = {
        MADE: (seconds / made) / plain,
        AGAIN: again / (before + made) * MILLION / SECOND_RUN_SECONDS[server],
        WAIT: max(waits, default=0.0) / WAIT_SECONDS,
    }
    return {name: (ratio, Run(made / seconds, 0.0, 0.0, [])) for name, ratio in found.items()}


def _planned(engine: Engine, database_url: str) -> tuple[float, list[float]]:
    """The seconds that the planner takes, and those that somebody waits who wants a therapist's calendar meanwhile."""
    command = [sys.executable, "-m", "tests.bench.cells", driver_url(database_url)]
    planner = subprocess.Popen(command, cwd=ROOT, env=environment(database_url), stdout=subprocess.PIPE, text=True)
    waits, chance = [], Random(1)
    with reading(engine) as session:
        people = slots.therapists(session)
    try:
        assert planner.stdout is not None
        planner.stdout.readline()  # it begins
        while planner.poll() is None:
            began = time.perf_counter()
            with transaction(engine) as session:
                slots.lock(session, [chance.choice(people)])
                waits.append(time.perf_counter() - began)
            time.sleep(LOOK_EVERY)
        return float(planner.stdout.read().split()[-1]), waits  # after what was logged
    finally:
        planner.kill()
        planner.communicate()


def _plain_insert(engine: Engine) -> float:
    """The seconds for a cell to be copied into a table with the same indices, in the order of its key."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            made = connection.exec_driver_sql(
                "SELECT sql FROM sqlite_master WHERE tbl_name = 'slot' AND type <> 'trigger'"
            )
            for (statement,) in made.all():
                if statement:
                    plain = statement.replace(" ix_slot_", " ix_plain_slot_").replace(
                        "CREATE TABLE slot", "CREATE TABLE plain_slot"
                    )
                    plain = plain.replace('CREATE TABLE "slot"', "CREATE TABLE plain_slot").replace(
                        " ON slot ", " ON plain_slot "
                    )
                    connection.exec_driver_sql(plain)
        else:
            connection.exec_driver_sql("CREATE TABLE plain_slot (LIKE slot INCLUDING ALL)")
    columns = ", ".join(column.name for column in inspect(Slot).columns if column.name != "appointment_id")
    free = f"SELECT {columns} FROM slot WHERE appointment_id IS NULL ORDER BY therapist_id, starts_at"
    began = time.perf_counter()
    with engine.begin() as connection:
        copied = connection.exec_driver_sql(f"INSERT INTO plain_slot ({columns}) {free}").rowcount
    seconds = time.perf_counter() - began
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE plain_slot")
    return seconds / copied


def _clone(connection: Connection, table: type[Base], own: Mapping[str, object], where: str) -> None:
    """Insert the rows of a table that are `where` again, with columns of their `own`, each in words of SQL."""
    taken = {*own, "id"}
    columns = ", ".join(f'"{column.name}"' for column in inspect(table).columns if column.name not in taken)
    statement = CLONED.format(
        table=table.__tablename__,
        own=", ".join(own),
        columns=columns,
        values=", ".join(map(str, own.values())),
        where=where,
    )
    connection.execute(text(statement.replace(", )", ")").replace(",  FROM", " FROM")))


def _count(connection: Connection, table: type[Base]) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _number_of_cells(engine: Engine) -> int:
    with engine.connect() as connection:
        return _count(connection, Slot)


def _plan(url: str) -> None:
    """Plan everybody's calendar once; say when it begins, and how many seconds it took."""
    engine = make_engine(url)
    with reading(engine) as session:
        session.execute(select(1))
    print("begins", flush=True)  # noqa: T201
    began = time.perf_counter()
    plan_slots(engine, SystemClock())
    print(time.perf_counter() - began, flush=True)  # noqa: T201


if __name__ == "__main__":
    _plan(sys.argv[1])
