"""What was measured, beside the bench's own limits: a table for people, JSON for programs."""

import json
import os
import platform
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from config import ROOT
from tests.bench import calendars, cells, messages
from tests.bench.clinic import Build, Size
from tests.bench.load import Run

OUT = "BENCH_OUT"
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- make bench writes this table -->", "<!-- until here -->"


@dataclass(frozen=True, slots=True)
class Limit:
    """Lowest ratios to the bare page: `goal` is aimed at, below `floor` something is wrong.

    For what is `most`, they are the highest that what is measured may have to what it is compared with.
    """

    goal: float
    floor: float
    binding: bool = True
    most: bool = False

    def verdict(self, ratio: float) -> str:
        if ratio <= self.goal if self.most else ratio >= self.goal:
            return "held"
        if not self.binding:
            return "below"
        return "not held" if self.most or ratio < self.floor else "floor only"

    def __str__(self) -> str:
        if self.most:
            return f"≤ {self.goal:g}"
        return f"≥ {self.goal:.2f}" + (f", floor {self.floor:.2f}" if self.binding and self.floor < self.goal else "")


def _most(goal: float) -> Limit:
    return Limit(goal, goal, most=True)


SEARCH = Limit(goal=0.60, floor=0.45)
LIMITS = {
    **{f"slots, {minutes} min, {place}": SEARCH for minutes in (60, 30) for place in ("one location", "anywhere")},
    calendars.HUGE: _most(1.3),
    **{calendars.BUSY.format(place): _most(1.5) for place in ("one location", "anywhere")},
    calendars.FRAGMENTED.format("one location"): _most(2),
    calendars.FRAGMENTED.format("anywhere"): _most(6),
    calendars.FIRSTS: _most(3),
    calendars.FIGURES: _most(3),
    cells.MADE: _most(2),
    cells.AGAIN: _most(1),
    cells.WAIT: _most(1),
    "page of times": Limit(goal=0.40, floor=0.40),
    "week of a therapist": Limit(goal=0.30, floor=0.30),
    messages.ONE: Limit(goal=0.15, floor=0.15),
    messages.TWO: Limit(goal=1.5, floor=1.5),
    "book": Limit(goal=0.45, floor=0.45, binding=False),
}


@dataclass(slots=True)
class Line:
    """One thing measured at one number of clients, over all rounds."""

    server: str
    measure: str
    clients: int
    ratios: list[float] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def verdict(self) -> str:
        limit = LIMITS.get(self.measure)
        return limit.verdict(self.ratio) if limit else ""

    def as_json(self) -> dict[str, Any]:
        limit = LIMITS.get(self.measure)
        return {
            "server": self.server,
            "measure": self.measure,
            "clients": self.clients,
            "ratio": round(self.ratio, 3),
            "ratios": [round(ratio, 3) for ratio in self.ratios],
            "per_second": round(median(run.per_second for run in self.runs), 1),
            "p95_ms": round(median(run.p95_ms for run in self.runs), 2),
            "client_busy": round(median(run.client_busy for run in self.runs), 2),
            "goal": limit.goal if limit else None,
            "floor": limit.floor if limit else None,
            "binding": limit.binding if limit else False,
            "verdict": self.verdict,
        }


def _span(line: Line) -> str:
    """The median with the lowest and the highest, where there are several."""
    spread = f" ({min(line.ratios):.2f}–{max(line.ratios):.2f})" if len(line.ratios) > 1 else ""
    return f"{line.ratio:.2f}{spread}"


@dataclass(slots=True)
class Report:
    size: Size
    builds: dict[str, Build]
    rounds: int
    bare_bytes: int = 0
    lines: dict[tuple[str, str, int], Line] = field(default_factory=dict)

    def add(self, server: str, measure: str, clients: int, ratio: float, run: Run) -> None:
        line = self.lines.setdefault((server, measure, clients), Line(server, measure, clients))
        line.ratios.append(ratio)
        line.runs.append(run)

    def show(self) -> None:
        console = Console(width=None if os.isatty(1) else 120)
        console.print(self._table())
        for name, build in self.builds.items():
            console.print(
                f"{name}: demo made {build.cells:,} cells and {build.visits:,} visits in {build.seconds:.1f} s, "
                f"{build.cells_per_second:,.0f} cells made per second ({build.durability})",
                highlight=False,
            )
        busiest = max(median(run.client_busy for run in line.runs) for line in self.lines.values())
        console.print(f"The load generator used at most {busiest:.0%} of one processor (median of a line).")

    def _table(self) -> Table:
        table = Table(
            title=f"Ratio to the bare Flask page of {self.bare_bytes} bytes beside it, median of {self.rounds} rounds"
        )
        for heading in ("server", "measure"):
            table.add_column(heading, no_wrap=True)
        for heading in ("clients", "ratio", "from–to", "a second", "p95 ms", "goal"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("limits", no_wrap=True)
        for line in sorted(self.lines.values(), key=lambda line: line.clients):
            limit = LIMITS.get(line.measure)
            figures = line.as_json()
            table.add_row(
                line.server, line.measure, str(line.clients), f"{line.ratio:.2f}",
                f"{min(line.ratios):.2f}–{max(line.ratios):.2f}", str(figures["per_second"]), str(figures["p95_ms"]),
                str(limit or ""), line.verdict,
            )  # fmt: skip
        return table

    def document(self) -> None:
        """Write the table into docs/performance.md, between its marks."""
        rows = [
            f"| {line.server} | {line.measure} | {line.clients} | {_span(line)} | {LIMITS.get(line.measure, '')} | "
            f"{line.verdict} |"
            for line in self.lines.values()
        ]
        heading = ["| server | measure | clients | ratio | goal | |", "|---|---|---|---|---|---|"]
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCUMENT.write_text("\n".join([before + BEGIN, *heading, *rows, END + after]))

    def write(self) -> None:
        """Write the JSON where $BENCH_OUT says, if it says."""
        if not os.environ.get(OUT):
            return
        document = {
            "machine": {
                "processors": os.cpu_count(),
                "system": platform.system(),
                "python": platform.python_version(),
                "sqlite": sqlite3.sqlite_version,
            },
            "size": {"locations": self.size.locations, "therapists": self.size.therapists, "days": self.size.days},
            "bare_bytes": self.bare_bytes,
            "rounds": self.rounds,
            "builds": {
                name: {
                    "cells": build.cells,
                    "visits": build.visits,
                    "seconds": round(build.seconds, 2),
                    "cells_per_second": round(build.cells_per_second),
                    "durability": build.durability,
                }
                for name, build in self.builds.items()
            },
            "results": [line.as_json() for line in self.lines.values()],
        }
        Path(os.environ[OUT]).write_text(json.dumps(document, indent=2) + "\n")
