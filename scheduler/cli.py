"""The commands of `flask --app wsgi`."""

import signal
import sqlite3
import sys
import tomllib
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import click
from flask import Flask
from flask.cli import AppGroup
from flask_babel import force_locale
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from config import ROOT, Settings
from scheduler import accepted, access_commands, schema, serve, words, worker
from scheduler.channels import Channel, Files, Smtp
from scheduler.clock import Clock, FixedClock
from scheduler.db import reading, transaction
from scheduler.delivery import Delivery
from scheduler.errors import ClinicError
from scheduler.keys import Keyring
from scheduler.mail import Mailer
from scheduler.models import Role
from scheduler.services import accounts, demo, desk, explainer, health, opening, practice, reasons, verify
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.services.availability import SlotName
from scheduler.services.demo import DemoClinic
from scheduler.services.explainer import Wording
from scheduler.services.reasons import Question, Reason
from scheduler.shell import ID, accepted_as, instant, spoken
from scheduler.timeline import first_instant, zone_of
from scheduler.web.reasons import sentence

IDLE = timedelta(seconds=worker.HEARTBEAT_SECONDS + 5)
WORDINGS = ROOT / "templates" / "explainer"


def install(app: Flask, settings: Settings, engine: Engine, clock: Clock) -> None:
    """Add every command to the app; each gets what it needs from here."""
    keys = Keyring.of(settings.link_keys, settings.field_keys)
    for command in (
        _database(settings, engine, clock),
        _demo(settings, engine, clock, keys),
        _worker(app, settings, engine, clock, keys),
        access_commands.access(settings, engine, clock),
        _staff(settings, engine, clock, keys),
        _explain(app, engine, clock),
        _verify(engine, clock),
        _backup(engine),
        _restore(engine),
        _serve(app, settings, engine, clock, keys),
    ):
        app.cli.add_command(command)


def prepare(settings: Settings, engine: Engine, clock: Clock) -> None:
    """Bring the schema to this code's version, with the policy's start and the explainer's newest wording."""
    with schema.alone(engine):
        schema.upgrade(engine)
        with transaction(engine) as session:
            practice.start_policy(session, settings.policy)
            explainer.publish(session, wordings(), now=clock.now())


def wordings() -> list[Wording]:
    """The explainer's texts from their files, one a version and language."""
    return [Wording(**tomllib.loads(path.read_text())) for path in sorted(WORDINGS.glob("*.toml"))]


def _database(settings: Settings, engine: Engine, clock: Clock) -> click.Group:
    group = AppGroup("db", help="The schema.")

    @group.command("upgrade")
    def upgrade() -> None:
        """Bring the schema to the newest version. Safe to run again, and from several processes at once."""
        with spoken():
            prepare(settings, engine, clock)
        click.echo("The schema is at the newest version.")

    @group.command("downgrade")
    @click.argument("revision", default="-1")
    def downgrade(revision: str) -> None:
        """Take the schema back to REVISION (one step by default; `base` drops everything)."""
        with spoken(), schema.alone(engine):
            schema.downgrade(engine, revision)
        click.echo(f"The schema was taken back: {revision}.")

    return group


def _demo(settings: Settings, engine: Engine, clock: Clock, keys: Keyring) -> click.Command:
    @click.command("demo")
    @click.option("--locations", type=click.IntRange(1, 500), default=4, show_default=True, help="Places.")
    @click.option("--therapists", type=click.IntRange(1, 5000), default=12, show_default=True, help="People.")
    @click.option("--days", type=click.IntRange(1, 730), default=90, show_default=True, help="How far to plan ahead.")
    @click.option("--booked", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Share taken.")
    @click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same clinic.")
    def command(locations: int, therapists: int, days: int, booked: float, seed: int) -> None:
        """Fill an empty database with an invented clinic; not in production."""
        if settings.production:
            raise click.UsageError("The demo's therapists are invented: production must not show them to patients.")
        _fill(engine, clock, keys, DemoClinic(locations, therapists, days, booked, seed))

    return command


def _fill(engine: Engine, clock: Clock, keys: Keyring, clinic: DemoClinic) -> None:
    columns = (TextColumn("Demo clinic, therapists"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, spoken():
        bar = progress.add_task("", total=clinic.therapists)
        with transaction(engine) as session:
            demo.fill(
                session,
                clinic,
                keys=keys,
                now=clock.now(),
                progress=lambda done, _all: progress.update(bar, completed=done),
            )


def at_work_on(app: Flask, settings: Settings, engine: Engine, clock: Clock, keys: Keyring) -> worker.Worker:
    """A worker with its way to the patients: the mail server, or files where there is none."""

    def connect() -> Channel:
        if settings.mail_server is None:
            return Files(settings.instance / "outbox")
        own_name = settings.mail_from.partition("@")[2]
        return Smtp(settings.mail_server, timeout_seconds=settings.smtp_timeout_seconds, own_name=own_name)

    writer = Mailer(app, settings)
    delivery = Delivery(engine, clock, keys, writer, connect, settings.smtp_timeout_seconds)
    return worker.Worker(engine, clock, delivery)


def _worker(app: Flask, settings: Settings, engine: Engine, clock: Clock, keys: Keyring) -> click.Command:
    @click.command("worker")
    @click.option("--once", is_flag=True, help="Do all that is due, then exit.")
    @click.option("--at", type=str, help="Pretend it is this time, as in 2026-11-25T10:00-06:00; for trials.")
    def command(once: bool, at: str | None) -> None:
        """Run the background jobs."""
        if at is not None and settings.production:
            raise click.UsageError("--at is for tests and trials; production always uses the real time.")
        at_work = at_work_on(app, settings, engine, FixedClock(instant(at)) if at is not None else clock, keys)
        with spoken():
            at_work.set_up()
            if once:
                worker.finish_before_stopping(at_work)
                at_work.deliver()
        if not once:
            worker.run(at_work)

    return command


def _explain(app: Flask, engine: Engine, clock: Clock) -> click.Command:
    @click.command("explain")
    @click.option("--type", "kind_id", type=ID, required=True, help="The kind of visit's id.")
    @click.option("--therapist", "therapist_id", type=ID, required=True, help="The therapist's id.")
    @click.option("--location", "location_id", type=ID, required=True, help="The location's id.")
    @click.option("--at", type=click.DateTime(["%Y-%m-%dT%H:%M"]), required=True, help="On the location's clock.")
    @click.option("--staff", "by_staff", is_flag=True, help="Ask for staff, who book inside the notice too.")
    def command(kind_id: int, therapist_id: int, location_id: int, at: datetime, by_staff: bool) -> None:
        """Say why a time is offered, or why not; exit 1 for one that is not."""
        with spoken(), reading(engine) as session:
            place = desk.location(session, location_id, None)
            starts_at = first_instant(at.date(), at.hour * 60 + at.minute, zone_of(place.time_zone))
            start = SlotName(therapist_id, location_id, starts_at)
            verdict = reasons.why(session, Question(start, kind_id, by_staff), now=clock.now())
        with app.app_context(), force_locale(words.DEFAULT_LANGUAGE):
            click.echo(f"{verdict.reason}: {sentence(verdict, place.time_zone)}")
        sys.exit(verdict.reason is not Reason.OFFERED)

    return command


def _verify(engine: Engine, clock: Clock) -> click.Command:
    @click.command("verify")
    def command() -> None:
        """Count violations of every invariant; exit 1 if any is not 0."""
        total = 0
        with spoken(), reading(engine) as session:
            for finding in verify.verify(session, now=clock.now()):
                click.echo(f"{finding.violations:7d}  {finding.rule}")
                total += finding.violations
        sys.exit(1 if total else 0)

    return command


def _backup(engine: Engine) -> click.Command:
    @click.command("backup")
    @click.argument("file", type=click.Path(path_type=Path))
    def command(file: Path) -> None:
        """Write a consistent copy of a SQLite database to FILE, while it is in use."""
        source = _sqlite_path(engine)
        if file.exists():
            raise click.UsageError(f"{file} exists already; name a new file.")
        try:
            with spoken():
                file.touch(exist_ok=False)  # never through a link that somebody else put there
                _copy(source, file)
        except click.ClickException:
            file.unlink(missing_ok=True)
            raise
        click.echo(f"Copied to {file}.")

    return command


def _restore(engine: Engine) -> click.Command:
    @click.command("restore")
    @click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
    def command(file: Path) -> None:
        """Replace the SQLite database by the copy in FILE; what was there is kept beside it. Stop the server first."""
        target = _sqlite_path(engine)
        _require_idle(engine, target)
        kept = target.with_name(target.name + ".before-restore")
        with schema.alone(engine), spoken():
            _require_backup(file)
            if target.exists():
                _copy(target, kept)
            _copy(file, target)
        click.echo(f"Restored from {file}. What was there before is in {kept}.")

    return command


def _serve(app: Flask, settings: Settings, engine: Engine, clock: Clock, keys: Keyring) -> click.Command:
    @click.command("serve")
    def command() -> None:
        """Set up, then run web server and worker in the foreground: what `make run` does."""
        for number in (signal.SIGTERM, signal.SIGINT):  # until the parent waits for them: to stop is no failure
            signal.signal(number, lambda *_: sys.exit(0))
        at_work = at_work_on(app, settings, engine, clock, keys)
        try:
            serve.require_free_port(settings)
        except OSError as error:
            message = f"Cannot listen on {settings.address} ({error}). Choose another port: PORT=8001 make run"
            raise click.ClickException(message) from error
        with spoken():
            prepare(settings, engine, clock)
            with schema.alone(engine):
                with reading(engine) as session:
                    empty = demo.is_empty(session)
                if empty and not settings.production:
                    _fill(engine, clock, keys, DemoClinic())
            at_work.set_up()
            hints = _hints(settings, engine, keys)
        engine.dispose()  # no connection is shared across a fork
        sys.exit(serve.serve(app, settings, lambda: worker.run(at_work), hints=hints))

    return command


def _hints(settings: Settings, engine: Engine, keys: Keyring) -> list[str]:
    """How to sign in to the demo, or how to begin where nobody can sign in yet.

    Production must not start with accounts whose password everybody knows.
    """
    with reading(engine) as session:
        known, first = demo.sign_ins(session), opening.needs_admin(session)
    if known and settings.production:
        raise click.ClickException(
            f"This database has the demo's accounts ({', '.join(known)}): begin with an empty one."
        )
    if first:
        return [f"Set up your clinic (the link works once): {settings.base_url}/setup/{opening.setup_token(keys)}"]
    return [f"Staff sign-in: {settings.base_url}/staff/ as {email} with {demo.PASSWORD}" for email in known]


def _staff(settings: Settings, engine: Engine, clock: Clock, keys: Keyring) -> click.Group:
    group = AppGroup("staff", help="The clinic's people.")

    @group.command("add")
    @click.argument("email")
    @click.option("--role", type=click.Choice([str(role) for role in Role]), required=True, help="What they may do.")
    @click.option("--name", help="Their name; without it, the part of the address before the @.")
    @click.option("--therapist", type=int, help="The id of the therapist they are.")
    @click.option("--location", "locations", type=int, multiple=True, help="Ids of where they work; without it, all.")
    def add(email: str, role: str, name: str | None, therapist: int | None, locations: tuple[int, ...]) -> None:
        """Let somebody in: print a link, good once and for three days, on which they set their password."""
        with spoken():
            new = AccountDetails(
                email=accepted_as("EMAIL", accepted.email, email),
                name=accepted_as("--name", accepted.name, name or email.partition("@")[0]),
                role=Role(role),
                everywhere=not locations,
                location_ids=sorted(set(locations)),
                therapist_id=therapist,
            )
            with transaction(engine) as session:
                opening.require_known(session, new)
                account = accounts.add(session, new, by=Actor("shell"), now=clock.now())
            token = accounts.password_token(account, keys=keys, now=clock.now())
        click.echo(f"{settings.base_url}/staff/set-password/{token}")

    return group


def _sqlite_path(engine: Engine) -> Path:
    if engine.dialect.name != "sqlite" or not engine.url.database:
        raise click.UsageError("This is for SQLite only; for PostgreSQL use pg_dump and pg_restore.")
    return Path(engine.url.database)


def _require_idle(engine: Engine, target: Path) -> None:
    """Refuse to replace a database that a worker has used just now."""
    if not target.exists():
        return
    try:
        with reading(engine) as session:
            quiet = health.silence(session)
    except ClinicError:
        return  # what cannot be read may be replaced
    if quiet is not None and quiet < IDLE:
        raise click.ClickException(
            f"A worker used this database {quiet.seconds} s ago: stop all of it, wait {IDLE.seconds} s, try again."
        )


def _require_backup(file: Path) -> None:
    """Raise sqlite3.DatabaseError unless FILE is a sound database of this program."""
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
        sound = connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not sound or not {"alembic_version", "appointment"} <= tables:
        raise sqlite3.DatabaseError(f"{file} is no backup of this program; nothing was changed.")


def _copy(source: Path, target: Path) -> None:
    """Copy by SQLite's backup API: a plain copy of the file misses what stands in the write-ahead log.

    The target is written in one transaction: a failure leaves it as it was.
    """
    if not source.exists():
        raise click.UsageError(f"There is no database at {source}.")
    with closing(sqlite3.connect(source)) as from_, closing(sqlite3.connect(target)) as to:
        from_.backup(to)
