"""`make bench`: search and booking beside a bare Flask page, in the same minutes on the same machine.

Only the ratios mean anything: each is taken against the bare page measured just before and just after it, and the
median of all rounds stands. Exit code 1 for a wrong answer or a violated invariant, never for a slow one.
"""

import argparse
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise, product, repeat
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, track

from tests.bench import calendars, cells, messages
from tests.bench.bare import serving_bare
from tests.bench.calendars import Compared
from tests.bench.clinic import Clinic, Database, Measure, Size, get, postgresql, run_command, served, sqlite
from tests.bench.load import Address, Run, WrongAnswer, load
from tests.bench.report import Report

ARGUMENTS = "BENCH_ARGS"
SIZE = Size(locations=4, therapists=12, days=90)
WEB_WORKERS = 2
CLIENTS = (1, 8)
DATABASES = {"sqlite": sqlite, "postgresql": postgresql}
SYNC = ("bare page", "sync workers")
console = Console(stderr=True)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end with the bench
    options = _options()
    size = Size(options.locations, options.therapists, options.days)
    try:
        with tempfile.TemporaryDirectory(prefix="scheduler-bench-") as folder, ExitStack() as running:
            report = _bench(options, size, Path(folder), running)
    except WrongAnswer as error:
        console.print(f"[bold red]Wrong:[/] {error}", highlight=False, soft_wrap=True)
        return 1
    report.show()
    report.write()
    if options.document:
        report.document()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    for part in ("locations", "therapists", "days"):
        parser.add_argument(f"--{part}", type=int, default=getattr(SIZE, part), help="of the demo")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one slice of load")
    parser.add_argument("--database", choices=DATABASES, action="append", help="only this one")
    parser.add_argument(
        "--huge", action="store_true", help="search among ten million cells, too; filling takes minutes"
    )
    parser.add_argument("--document", action="store_true", help="write the table into docs/performance.md")
    return parser.parse_args(sys.argv[1:] or shlex.split(os.environ.get(ARGUMENTS, "")))


def _bench(options: argparse.Namespace, size: Size, folder: Path, running: ExitStack) -> Report:
    databases = []
    for name in options.database or DATABASES:
        with console.status(f"{name}: filling a database"):
            databases.append(running.enter_context(DATABASES[name](size, folder)))
    report = Report(size, {database.name: database.build for database in databases}, options.rounds)
    with ExitStack() as serving:
        _requests(options, report, [serving.enter_context(served(one, folder, WEB_WORKERS)) for one in databases])
    for database in databases:  # no server works beside what is measured here
        _messages(report, database, options.rounds)
        _cells(report, database, folder)
        with console.status(f"{database.name}: counting violations of the invariants"):
            run_command(database.url, "verify")
    with ExitStack() as serving:
        _searches(options, report, databases, folder, serving)
    return report


def _requests(options: argparse.Namespace, report: Report, clinics: list[Clinic]) -> None:
    report.bare_bytes = clinics[0].answer_size()
    with (
        serving_bare(report.bare_bytes, "gthread", WEB_WORKERS) as bare,
        serving_bare(report.bare_bytes, "sync", WEB_WORKERS) as sync,
    ):
        measures = {(clinic.name, name): measure for clinic in clinics for name, measure in clinic.measures.items()}
        _rounds(options, report, _page(bare), {SYNC: _page(sync)} | measures)


def _searches(
    options: argparse.Namespace, report: Report, databases: list[Database], folder: Path, running: ExitStack
) -> None:
    """Search among a million cells: beside the bare page, and in other calendars beside this one."""
    compared: list[tuple[str, Compared]] = []
    measures: dict[tuple[str, str], Measure] = {}
    for small in databases:
        with console.status(f"{small.name}: filling calendars of a million cells"):
            database = running.enter_context(calendars.copied(small, "million", folder))
            calendars.fill(database.url, *calendars.MILLION, places=options.locations, people=options.therapists)
            if options.huge:
                huge = running.enter_context(calendars.in_ten_millions(database, folder))
                compared += [(small.name, one) for one in huge]
            firsts = calendars.in_process(database)
            clinic, others = running.enter_context(calendars.over_http(database, folder, WEB_WORKERS))
            compared += [(small.name, one) for one in [*running.enter_context(firsts), *others]]
            measures |= {(small.name, name): search for name, search in clinic.searches_by_name().items()}
    bare = running.enter_context(serving_bare(report.bare_bytes, "gthread", WEB_WORKERS))
    _rounds(options, report, _page(bare), measures)
    for name, one in track(compared, description="other calendars", console=console):
        for ratio, run in calendars.compare(one, options.rounds, options.seconds):
            report.add(name, one.name, 1, ratio, run)


def _cells(report: Report, database: Database, folder: Path) -> None:
    with console.status(f"{database.name}: planning"), calendars.copied(database, "planned", folder) as copy:
        cells.grow(copy.url)
        for measure, (ratio, run) in cells.measure(database.name, copy.url).items():
            report.add(database.name, measure, 1, ratio, run)


def _messages(report: Report, database: Database, rounds: int) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for _ in progress.track(range(rounds), description=f"{database.name}: messages"):
            for measure, (ratio, run) in messages.measure(database.url).items():
                report.add(database.name, measure, 1, ratio, run)


def _page(address: Address) -> Measure:
    def measure(clients: int, seconds: float) -> Run:
        return load(address, repeat(get("/")), clients=clients, seconds=seconds)

    return measure


def _rounds(
    options: argparse.Namespace, report: Report, bare: Measure, measures: dict[tuple[str, str], Measure]
) -> None:
    """Measure everything in every round, at each number of clients; the first round only warms up."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("warming up", total=(1 + options.rounds) * len(CLIENTS) * len(measures))
        for number, clients in product(range(1 + options.rounds), CLIENTS):
            if number:
                progress.update(bar, description=f"round {number}, {clients} clients")
            runs = _beside(bare, measures, clients, options.seconds, lambda: progress.advance(bar))
            for (server, measure), (ratio, run) in runs.items() if number else ():
                report.add(server, measure, clients, ratio, run)


def _beside(
    bare: Measure,
    measures: dict[tuple[str, str], Measure],
    clients: int,
    seconds: float,
    advance: Callable[[], None],
) -> dict[tuple[str, str], tuple[float, Run]]:
    """Measure each with the bare page before and after it; return its ratio to the mean of those two."""
    bares, runs = [bare(clients, seconds)], []
    for measure in measures.values():
        runs.append(measure(clients, seconds))
        bares.append(bare(clients, seconds))
        advance()
    around = [fmean((before.per_second, after.per_second)) for before, after in pairwise(bares)]
    return {name: (run.per_second / page, run) for name, run, page in zip(measures, runs, around, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
