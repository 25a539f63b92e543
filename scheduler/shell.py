"""What the commands share: what they accept, and how they say what went wrong."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

import click
from sqlalchemy.exc import OperationalError

from scheduler import schema
from scheduler.errors import ClinicError
from scheduler.services import edits, explainer

ID = click.IntRange(1, edits.LARGEST_ID)
YEARS = range(2000, 2200)
Value = TypeVar("Value")


def accepted_as(name: str, check: Callable[[str], Value], text: str) -> Value:
    try:
        return check(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=name) from error


def instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"--at {text!r} is no time; write it like 2026-11-23T09:00:00-06:00.") from error
    if moment.tzinfo is None:
        raise click.UsageError(f"--at {text!r} names no instant: add an offset, as in {text}-06:00.")
    if moment.year not in YEARS:
        raise click.UsageError(f"--at {text!r} lies too far away for a calendar.")
    return moment


@contextmanager
def spoken() -> Iterator[None]:
    """Say what went wrong as one sentence, without a traceback, for errors that the clinic's words know."""
    try:
        yield
    except (
        ClinicError,
        explainer.WordingChanged,
        schema.SchemaDamaged,
        schema.CommandError,
        sqlite3.DatabaseError,
    ) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error
    except OperationalError as error:
        raise click.ClickException(f"The database does not do this now: {error.orig}") from error
