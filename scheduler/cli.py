"""The commands of `flask --app wsgi`."""

import math
import signal
import sqlite3
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click
import orjson
from click.core import ParameterSource
from flask import Flask
from flask.cli import AppGroup
from flask_babel import force_locale
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from config import ROOT, Settings
from scheduler import accepted, schema, serve, words, worker
from scheduler.channels import Channel, Files, Smtp
from scheduler.clock import Clock, FixedClock
from scheduler.db import reading, transaction
from scheduler.delivery import Delivery
from scheduler.errors import ClinicError
from scheduler.keys import Keyring
from scheduler.mail import Mailer
from scheduler.models import Role
from scheduler.services import (
    access_goal,
    access_rules,
    accounts,
    demo,
    desk,
    edits,
    explainer,
    health,
    opening,
    practice,
    reasons,
    simulated_clinics,
    simulation,
    verify,
)
from scheduler.services.access_goal import Access, Standing
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.services.availability import SlotName
from scheduler.services.demo import DemoClinic
from scheduler.services.explainer import Wording
from scheduler.services.reasons import Question, Reason
from scheduler.services.simulated_clinics import Clinic, Terms
from scheduler.services.simulation import Demand
from scheduler.timeline import first_instant, zone_of
from scheduler.web import shapes
from scheduler.web.reasons import sentence

ID = click.IntRange(1, edits.LARGEST_ID)
SHARE = click.FloatRange(0, 1)
Value = TypeVar("Value")
# What a simulated year is told by; shares in percent.
SIMULATED = {"Goal kept %": "attained", "Offered %": "offered", "Third, hours": "third"}
VISITS = {"Idle": "idle", "No-shows": "absent", "Lost": "lost"}
WIDE = 120
IDLE = timedelta(seconds=worker.HEARTBEAT_SECONDS + 5)
YEARS = range(2000, 2200)
WORDINGS = ROOT / "templates" / "explainer"


def install(app: Flask, settings: Settings, engine: Engine, clock: Clock) -> None:
    """Add every command to the app; each gets what it needs from here."""
    keys = Keyring.of(settings.link_keys, settings.field_keys)
    for command in (
        _database(settings, engine, clock),
        _demo(settings, engine, clock, keys),
        _worker(app, settings, engine, clock, keys),
        _access(settings, engine, clock),
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
        with _spoken():
            prepare(settings, engine, clock)
        click.echo("The schema is at the newest version.")

    @group.command("downgrade")
    @click.argument("revision", default="-1")
    def downgrade(revision: str) -> None:
        """Take the schema back to REVISION (one step by default; `base` drops everything)."""
        with _spoken(), schema.alone(engine):
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
    with Progress(*columns, console=Console(stderr=True)) as progress, _spoken():
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
        at_work = at_work_on(app, settings, engine, FixedClock(_instant(at)) if at is not None else clock, keys)
        with _spoken():
            at_work.set_up()
            if once:
                worker.finish_before_stopping(at_work)
                at_work.deliver()
        if not once:
            worker.run(at_work)

    return command


def _access(settings: Settings, engine: Engine, clock: Clock) -> click.Group:
    group = AppGroup("access", help="The goal: how soon a new patient can be seen.")
    group.add_command(_simulate(settings, engine, clock))

    @group.command("report")
    @click.option("--json", "as_json", is_flag=True, help="Print what GET /api/v1/access answers.")
    @click.option("--at", type=str, help="As of this time, such as 2026-11-25T10:00-06:00, by the calendar as it is.")
    def report(as_json: bool, at: str | None) -> None:
        """Say how the goal stands, overall and at each location."""
        now = _instant(at) if at is not None else clock.now()
        with _spoken(), reading(engine) as session:
            measured = access_goal.measure(session, now=now)
        if as_json:
            click.echo(orjson.dumps(shapes.access(measured), option=orjson.OPT_INDENT_2))
        else:
            _print_access(measured)

    return group


def _print_access(measured: Access) -> None:
    titles = ("Next start", "Hours", "Third", "In goal", "28 days")
    table = Table("Location", *(Column(title, no_wrap=True) for title in titles))
    table.add_row("Overall", *_figures(measured.overall), end_section=True)
    for at in measured.locations:
        table.add_row(escape(at.location.name), *_figures(at))
    moment = measured.measured_at.astimezone(UTC)
    click.echo(f"{measured.appointment_type_name}, {moment:%a %Y-%m-%d %H:%M:%S} UTC")
    click.echo(f"Goal: a start within {measured.goal_hours} hours, {measured.target:.1%} of the time")
    Console().print(table)
    each = {"Overall": measured.overall, **{at.location.name: at for at in measured.locations}}
    for name, standing in each.items():
        weeks = standing.weeks
        if weeks.ceiling is not None:
            told = f"{weeks.without_hours} hours without hours in reach, {weeks.taken} hours with all times taken"
            click.echo(f"{name}, 28 days: with nothing booked {_cut(weeks.ceiling)}; missed {told}")


def _figures(standing: Standing) -> tuple[str, ...]:
    found, zone, share = standing.figures, standing.time_zone, standing.attainment_28d
    start = found.next_available_at.astimezone(zone_of(zone)) if found.next_available_at and zone else None
    hours = (found.next_available_hours, found.third_next_available_hours)
    return (
        f"{start:%a %Y-%m-%d %H:%M %Z}" if start else "none",
        *("-" if number is None else f"{number:.2f}" for number in hours),
        "yes" if found.within_goal else "no",
        "-" if share is None else _cut(share),
    )


def _cut(share: float) -> str:
    """In percent, cut, so that nothing short of a goal shows it."""
    return f"{math.floor(share * 1000) / 10}%"


def _of_a_clinic(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which clinic is meant: the one in the database, or one on paper."""
    quarters = click.IntRange(15, 720)
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON; shares are 0 to 1."),
        click.option("--notice", type=click.IntRange(0, 10_000), help="Minutes; without it, as the clinic books."),
        click.option("--minutes", type=quarters, help="Of a visit with its buffer; without it, the goal's, or 60."),
        click.option("--therapists", type=click.IntRange(1, 50), help="With --hours: how many; 1 without it."),
        click.option("--hours", help='Instead of the database: a location such as "Mon-Fri 8-18, Sat 8:30-12".'),
        click.option("--location", type=ID, help="Only the location with this id."),
    ):
        command = option(command)
    return command


def _simulate(settings: Settings, engine: Engine, clock: Clock) -> click.Group:
    @click.group("simulate", invoke_without_command=True, context_settings={"show_default": True})
    @_of_a_clinic
    @click.option(
        "--load",
        type=click.FloatRange(0.01, 3),
        help="Visits wanted and kept, of all there is room for; 0.9 without it.",
    )
    @click.option("--visits", type=click.FloatRange(0.01, 5000), help="Instead of --load: such visits an open day.")
    @click.option("--soon", type=SHARE, default=access_rules.USUAL_SHARE, help="The share that wants to come at once.")
    @click.option("--lead-days", type=click.FloatRange(0.1, 90), default=10, help="The others' wait beyond the goal.")
    @click.option("--no-shows", type=SHARE, default=0.10, help="The share that does not come.")
    @click.option("--cancelled", type=click.FloatRange(0, 0.9), default=0.10, help="The share called off in time.")
    @click.option("--protect", "levels", type=click.IntRange(0, 999), multiple=True, help="Visits to keep back a day.")
    @click.option("--years", type=click.IntRange(3, 200), default=10, help="How many to play through.")
    @click.option("--seed", type=int, default=1, help="The same seed gives the same years.")
    @click.pass_context
    def command(
        context: click.Context,
        /,
        load: float | None,
        visits: float | None,
        soon: float,
        lead_days: float,
        no_shows: float,
        cancelled: float,
        levels: tuple[int, ...],
        years: int,
        seed: int,
        as_json: bool,
        **clinic: Any,  # noqa: ANN401 the options of _of_a_clinic
    ) -> None:
        """Play years through: what keeping visits back for short notice gains and costs. Changes nothing."""
        if context.invoked_subcommand is not None:
            _require_own_options(context)
            return
        if load is not None and visits is not None:
            raise click.UsageError("--load and --visits say the same: give one of them.")
        with _spoken():
            found, terms = _simulated(settings, engine, clock, **clinic)
            demand = simulation.Demand(load or 0.9, soon, lead_days, no_shows, cancelled, visits)
            verdicts = [_played(one, terms, demand, years, seed, levels) for one in found]
        if as_json:
            click.echo(orjson.dumps(verdicts, option=orjson.OPT_INDENT_2))
        else:
            _print_verdicts(verdicts, terms)

    command.add_command(_structural(settings, engine, clock))
    command.add_command(_queue())
    return command


def _require_own_options(context: click.Context) -> None:
    """Refuse options before the name of a command that would never see them."""
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if given:
        raise click.UsageError(f"Options of {context.invoked_subcommand} go behind its name.")


def _structural(settings: Settings, engine: Engine, clock: Clock) -> click.Command:
    @click.command("structural")
    @_of_a_clinic
    def command(as_json: bool, **clinic: Any) -> None:  # noqa: ANN401 the options of _of_a_clinic
        """Say when the hours alone leave no start within the goal, with nothing booked."""
        with _spoken():
            found, terms = _simulated(settings, engine, clock, **clinic)
            answers = [simulation.structural(one, terms) for one in found]
        if as_json:
            click.echo(orjson.dumps(answers, option=orjson.OPT_INDENT_2))
        else:
            for answer in answers:
                _print_structural(answer, terms)

    return command


def _queue() -> click.Command:
    @click.command("queue")
    @click.option("--visits", type=click.IntRange(1, 200), required=True, help="The room of a day.")
    @click.option("--load", type=click.FloatRange(0, 0.99), required=True, help="Demand, of that room.")
    @click.option("--seed", type=int, default=1, help="The same seed gives the same days.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON; shares are 0 to 1.")
    def command(visits: int, load: float, seed: int, as_json: bool) -> None:
        """Say how many are seen the same or the next day if everybody takes the first room: exactly, and by chance."""
        exact, chance = access_rules.same_or_next_day(visits, load), simulation.queue(visits, load, seed=seed)
        if as_json:
            click.echo(orjson.dumps({"exact": exact, "by_chance": chance}, option=orjson.OPT_INDENT_2))
        else:
            click.echo(f"{visits} visits a day at load {load:g}: seen the same or the next day {exact:.2%}")
            click.echo(
                f"By chance: {chance.mean:.2%} ± {chance.within:.2%} ({simulation.QUEUE_CONFIDENCE:.0%} confidence)"
            )

    return command


def _simulated(
    settings: Settings,
    engine: Engine,
    clock: Clock,
    *,
    hours: str | None,
    location: int | None,
    therapists: int | None,
    minutes: int | None,
    notice: int | None,
) -> tuple[list[Clinic], Terms]:
    """The locations that are meant, and how they book: on paper, or as the database has them."""
    if minutes is not None and minutes % 15:
        raise click.BadParameter("is no whole quarter hours.", param_hint="--minutes")
    if hours is not None:
        if location is not None:
            raise click.UsageError("--location is in the database: leave it or --hours out.")
        weekly = _accepted("--hours", simulated_clinics.hours, hours)
        terms = simulated_clinics.terms_on_paper(settings.policy, minutes, notice)
        return [simulated_clinics.on_paper(weekly, therapists or 1, terms)], terms
    if therapists is not None:
        raise click.UsageError("--therapists goes with --hours: the database has its own.")
    with reading(engine) as session:
        return simulated_clinics.clinics(session, location, minutes, notice, now=clock.now())


def _played(
    clinic: Clinic, terms: Terms, demand: Demand, years: int, seed: int, levels: tuple[int, ...]
) -> simulation.Verdict:
    columns = (TextColumn("{task.description}, years"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(escape(clinic.name), total=None)
        return simulation.compare(
            simulation.Calendar(clinic, terms),
            demand,
            years=years,
            seed=seed,
            levels=levels,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )


def _print_verdicts(verdicts: Sequence[simulation.Verdict], terms: Terms) -> None:
    for verdict in verdicts:
        click.echo(
            f"{verdict.name}: room for {verdict.places:,} visits in a year of {verdict.open_days} open days; "
            f"with nothing booked the goal is kept {verdict.ceiling:.1%} of the time\n"
        )
        titles = ("Kept back a day", *SIMULATED, *VISITS)
        columns = (Column(title, no_wrap=True, justify="right") for title in titles)
        table = Table(*columns, box=box.MARKDOWN)
        for tried in verdict.tried:
            table.add_row(str(tried.level), *_simulated_figures(tried))
        Console(width=WIDE).print(table)
        click.echo(_advice(verdict, terms))


def _simulated_figures(tried: simulation.Tried) -> Iterator[str]:
    for name in SIMULATED.values():
        yield _within(tried.figures[name], ".1f", 1 if name == "third" else 100)
    for name in VISITS.values():
        yield _within(tried.figures[name], ",.0f")


def _within(estimate: simulation.Estimate | None, form: str, scale: int = 1) -> str:
    return "-" if estimate is None else f"{estimate.mean * scale:{form}} ± {estimate.within * scale:{form}}"


def _advice(verdict: simulation.Verdict, terms: Terms) -> str:
    rule = f"The newsvendor rule says {verdict.rule}"
    chosen = next((tried for tried in verdict.tried if tried.level == verdict.recommended), None)
    if chosen is None:
        return f"{rule}. None of these numbers keeps the goal {terms.target:.1%} of the time."
    idle, lost = (_within(more, ",.0f") for more in (chosen.more_idle, chosen.more_lost))
    costs = f"{idle} more idle and {lost} more lost visits a year"
    return f"{rule}; the least of these that keeps the goal {terms.target:.1%} of the time is {chosen.level}: {costs}."


def _print_structural(answer: simulation.Structural, terms: Terms) -> None:
    click.echo(
        f"{answer.name}: no start within {terms.goal_hours} hours {answer.share:.1%} of the time with nothing booked; "
        f"at most {answer.ceiling:.1%} of the measured quarter hours can keep the goal"
    )
    for gap in answer.often:
        click.echo(f"{gap.times:5d} times {gap.begins} to {gap.ends}")


def _explain(app: Flask, engine: Engine, clock: Clock) -> click.Command:
    @click.command("explain")
    @click.option("--type", "kind_id", type=ID, required=True, help="The kind of visit's id.")
    @click.option("--therapist", "therapist_id", type=ID, required=True, help="The therapist's id.")
    @click.option("--location", "location_id", type=ID, required=True, help="The location's id.")
    @click.option("--at", type=click.DateTime(["%Y-%m-%dT%H:%M"]), required=True, help="On the location's clock.")
    @click.option("--staff", "by_staff", is_flag=True, help="Ask for staff, who book inside the notice too.")
    def command(kind_id: int, therapist_id: int, location_id: int, at: datetime, by_staff: bool) -> None:
        """Say why a time is offered, or why not; exit 1 for one that is not."""
        with _spoken(), reading(engine) as session:
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
        with _spoken(), reading(engine) as session:
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
            with _spoken():
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
        with schema.alone(engine), _spoken():
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
        with _spoken():
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
        with _spoken():
            new = AccountDetails(
                email=_accepted("EMAIL", accepted.email, email),
                name=_accepted("--name", accepted.name, name or email.partition("@")[0]),
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


def _accepted(name: str, check: Callable[[str], Value], text: str) -> Value:
    try:
        return check(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=name) from error


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


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"--at {text!r} is no time; write it like 2026-11-23T09:00:00-06:00.") from error
    if instant.tzinfo is None:
        raise click.UsageError(f"--at {text!r} names no instant: add an offset, as in {text}-06:00.")
    if instant.year not in YEARS:
        raise click.UsageError(f"--at {text!r} lies too far away for a calendar.")
    return instant


@contextmanager
def _spoken() -> Iterator[None]:
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
