"""The commands of `flask --app wsgi access`: how the goal stands, and what a clinic's year would be like."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC
from typing import Any

import click
import orjson
from click.core import ParameterSource
from flask.cli import AppGroup
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from sqlalchemy import Engine

from config import Settings
from scheduler.clock import Clock
from scheduler.db import reading
from scheduler.services import (
    access_goal,
    access_requests,
    access_rules,
    protection,
    simulated_clinics,
    simulated_demand,
    simulation,
)
from scheduler.services.access_goal import WINDOW, Access, Standing
from scheduler.services.access_requests import Met
from scheduler.services.simulated_clinics import BookingTerms, Clinic
from scheduler.services.simulated_demand import History, Source
from scheduler.services.simulation import Demand
from scheduler.shell import ID, accepted_as, instant, spoken
from scheduler.timeline import zone_of
from scheduler.web import shapes

SHARE = click.FloatRange(0, 1)
# What a simulated year is told by; shares in percent.
SIMULATED = {"Goal kept %": "attained", "Offered %": "offered", "Third, hours": "third"}
VISITS = {"Idle": "idle", "No-shows": "absent", "Lost": "lost"}
WIDE = 120
# What is asked at a location, and where that is known from.
ASKED = {
    "visits": "{:.1f} visits an open day",
    "load": "visits for {:.0%} of the room",
    "soon": "{:.1%} want to come at once",
    "lead_days": "the others {:.1f} days beyond the goal",
    "no_shows": "{:.1%} no-shows",
    "cancelled": "{:.1%} called off",
}


@dataclass(frozen=True, slots=True)
class Played:
    """A location to be played through: who asks there, by which `sources`, and how many visits it really keeps back."""

    clinic: Clinic
    demand: Demand
    sources: dict[str, Source]
    history: History | None = None
    in_force: int | None = None
    on_paper: bool = False


def access(settings: Settings, engine: Engine, clock: Clock) -> click.Group:
    group = AppGroup("access", help="The goal: how soon a new patient can be seen.")
    group.add_command(_simulate(settings, engine, clock))

    @group.command("report")
    @click.option("--json", "as_json", is_flag=True, help="Print what GET /api/v1/access answers.")
    @click.option("--at", type=str, help="As of this time, such as 2026-11-25T10:00-06:00, by the calendar as it is.")
    def report(as_json: bool, at: str | None) -> None:
        """Say how the goal stands, overall and at each location."""
        now = instant(at) if at is not None else clock.now()
        with spoken(), reading(engine) as session:
            measured = access_goal.measure(session, now=now)
            met = access_requests.met(session, measured.appointment_type_id, since=now - WINDOW, until=now)
        if as_json:
            click.echo(orjson.dumps(shapes.access(measured), option=orjson.OPT_INDENT_2))
        else:
            _print_access(measured)
            _print_met(measured, met)

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


def _print_met(measured: Access, met: Mapping[int | None, Met]) -> None:
    """What new patients of 28 days were offered and took, where any booked."""
    each: dict[int | None, str] = {None: "Overall", **{at.location.id: at.location.name for at in measured.locations}}
    for place_id, name in each.items():
        found = met.get(place_id, Met())
        rates = (found.offer_rate, found.realised, found.later_rate)
        offered, took, later = ("-" if share is None else _cut(share) for share in rates)
        if found.booked:
            click.echo(
                f"{name}, 28 days: offered within {measured.goal_hours} hours {offered} of {found.booked} bookings; "
                f"took one {took}; offered sooner, chose later {later}"
            )


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
    return f"{access_rules.cut(share):.1%}"


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
        said = {name for name in ASKED if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
        usual = Demand(load or 0.9, soon, lead_days, no_shows, cancelled, visits)
        with spoken():
            found, terms = _simulated(settings, engine, clock, **clinic)
            at_each = _asked_at(engine, clock, found, terms, usual, said, on_paper=clinic["hours"] is not None)
            verdicts = [_played(one, terms, years, seed, levels) for one in at_each]
        if as_json:
            answers = [_as_json(one, verdict) for one, verdict in zip(at_each, verdicts, strict=True)]
            click.echo(orjson.dumps(answers, option=orjson.OPT_INDENT_2))
        else:
            _print_verdicts(at_each, verdicts, terms)

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
        with spoken():
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
) -> tuple[list[Clinic], BookingTerms]:
    """The locations that are meant, and how they book: on paper, or as the database has them."""
    if minutes is not None and minutes % 15:
        raise click.BadParameter("is no whole quarter hours.", param_hint="--minutes")
    if hours is not None:
        if location is not None:
            raise click.UsageError("--location is in the database: leave it or --hours out.")
        weekly = accepted_as("--hours", simulated_clinics.hours, hours)
        terms = simulated_clinics.terms_on_paper(settings.policy, minutes, notice)
        return [simulated_clinics.on_paper(weekly, therapists or 1, terms)], terms
    if therapists is not None:
        raise click.UsageError("--therapists goes with --hours: the database has its own.")
    with reading(engine) as session:
        return simulated_clinics.clinics(session, location, minutes, notice, now=clock.now())


def _asked_at(
    engine: Engine,
    clock: Clock,
    clinics: Sequence[Clinic],
    terms: BookingTerms,
    usual: Demand,
    said: Collection[str],
    *,
    on_paper: bool,
) -> list[Played]:
    """What each of these locations knows of its own demand and keeps back; on paper there is nothing to know."""
    if on_paper:
        return [Played(one, *simulated_demand.known(usual, said, None), on_paper=True) for one in clinics]
    with reading(engine) as session:
        histories = simulated_demand.histories(session, clinics, terms, now=clock.now())
        in_force = {place_id: row.level for place_id, row in protection.levels(session).items()}
    return [
        Played(clinic, *simulated_demand.known(usual, said, found), found, in_force.get(clinic.location_id))
        for clinic in clinics
        for found in [histories.get(clinic.location_id)]
    ]


def _played(one: Played, terms: BookingTerms, years: int, seed: int, levels: tuple[int, ...]) -> simulation.Verdict:
    columns = (TextColumn("{task.description}, years"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(escape(one.clinic.name), total=None)
        return simulation.compare(
            simulation.Calendar(one.clinic, terms),
            one.demand,
            years=years,
            seed=seed,
            levels=levels,
            in_force=one.in_force,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )


def _as_json(one: Played, verdict: simulation.Verdict) -> dict[str, Any]:
    demand = {name: {"value": getattr(one.demand, name), "from": source} for name, source in one.sources.items()}
    told = {field.name: getattr(verdict, field.name) for field in fields(verdict)}
    return told | {"demand": demand, "history": one.history}


def _asked(one: Played) -> Iterator[str]:
    """Who asks at a location, a line for each source."""
    days = f"from the last {one.history.days} days ({one.history.open_days} open)" if one.history else ""
    sources = {
        Source.HISTORY: days,
        Source.OPTION: "as asked for",
        Source.USUAL: "taken as usual, for want of history",
    }
    for source, where in sources.items():
        figures = [ASKED[name].format(getattr(one.demand, name)) for name, of in one.sources.items() if of is source]
        if figures:
            yield f"{one.clinic.name}, {where}: {', '.join(figures)}"


def _print_verdicts(played: Sequence[Played], verdicts: Sequence[simulation.Verdict], terms: BookingTerms) -> None:
    for one, verdict in zip(played, verdicts, strict=True):
        click.echo(
            f"{verdict.name}: room for {verdict.places:,} visits in a year of {verdict.open_days} open days; "
            f"with nothing booked the goal is kept {verdict.ceiling:.1%} of the time\n"
        )
        if not one.on_paper:
            click.echo("".join(f"{line}\n" for line in _asked(one)))
        titles = ("Kept back a day", *SIMULATED, *VISITS)
        columns = (Column(title, no_wrap=True, justify="right") for title in titles)
        table = Table(*columns, box=box.MARKDOWN)
        for tried in verdict.tried:
            marked = " (in force)" if tried.level == verdict.in_force else ""
            table.add_row(f"{tried.level}{marked}", *_simulated_figures(tried))
        Console(width=WIDE).print(table)
        click.echo(_advice(verdict, terms))


def _simulated_figures(tried: simulation.Tried) -> Iterator[str]:
    for name in SIMULATED.values():
        yield _within(tried.figures[name], ".1f", 1 if name == "third" else 100)
    for name in VISITS.values():
        yield _within(tried.figures[name], ",.0f")


def _within(estimate: simulation.Estimate | None, form: str, scale: int = 1) -> str:
    return "-" if estimate is None else f"{estimate.mean * scale:{form}} ± {estimate.within * scale:{form}}"


def _advice(verdict: simulation.Verdict, terms: BookingTerms) -> str:
    rule = f"The newsvendor rule says {verdict.rule}"
    chosen = next((tried for tried in verdict.tried if tried.level == verdict.recommended), None)
    if chosen is None:
        return f"{rule}. None of these numbers keeps the goal {terms.target:.1%} of the time."
    idle, lost = (_within(more, ",.0f") for more in (chosen.more_idle, chosen.more_lost))
    costs = f"{idle} more idle and {lost} more lost visits a year"
    return f"{rule}; the least of these that keeps the goal {terms.target:.1%} of the time is {chosen.level}: {costs}."


def _print_structural(answer: simulation.Structural, terms: BookingTerms) -> None:
    click.echo(
        f"{answer.name}: no start within {terms.goal_hours} hours {answer.share:.1%} of the time with nothing booked; "
        f"at most {answer.ceiling:.1%} of the measured quarter hours can keep the goal"
    )
    for gap in answer.often:
        click.echo(f"{gap.times:5d} times {gap.begins} to {gap.ends}")
