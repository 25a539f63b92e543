"""Tables as files to keep."""

from collections.abc import Iterable, Sequence

from flask import Response

from scheduler import csv_cells
from scheduler.csv_cells import Cell


def csv_file(name: str, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Response:
    """The answer that a browser keeps as the file `name`.csv; no cache keeps it."""
    answer = Response(csv_cells.encoded(header, rows), mimetype="text/csv")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    answer.headers["Cache-Control"] = "no-store"
    return answer
