"""Tables as CSV files (RFC 4180): written so that a spreadsheet shows and never computes, read however they come."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

Cell = str | int | float | None

# What a spreadsheet takes for the start of a formula, wide forms and blanks before it included, and what may hide one
# (OWASP, "CSV Injection"). Quotation marks do not help: they are gone before the cell is read.
# A cell that has an apostrophe before such a start gets another, so that `restored` gives back what was there.
FORMULA = re.compile(r"'*(\s*[=+\-@＝＋－＠]|[\t\r\n])")
# The same where a program that parts cells by semicolons or tabs sees a cell begin in the midst of one of ours.
FORMULA_WITHIN = r"""(?=(?:["']|[^\S\t\r\n])*[=+\-@＝＋－＠])"""
BEGINS_WITHIN = re.compile(r"(?<=[;\t\r\n])" + FORMULA_WITHIN)
DEFUSED_WITHIN = re.compile(r"(?<=[;\t\r\n])'" + FORMULA_WITHIN)
BYTE_ORDER_MARK = "\ufeff"  # without it Excel takes the accents of names for other letters
DELIMITERS = ",;\t"
MOST_COLUMNS, MOST_ROWS = 200, 20_000
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # how the files of Excel begin, the newer and the older
QUOTED = re.compile(r'"(?:[^"]|"")*"')


class Unreadable(Exception):
    """A file that is no table of ours; `code` says why: empty, malformed, workbook, too-wide or too-long."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Table:
    """What a file holds: the first line's cells, and those of each further line with the number of the line."""

    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def defused(cell: Cell) -> Cell:
    """The cell with an apostrophe before what a spreadsheet would compute; numbers stay numbers."""
    if not isinstance(cell, str):
        return cell
    return ("'" if FORMULA.match(cell) else "") + BEGINS_WITHIN.sub("'", cell)


def written(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A header and rows of as many cells as text: lines end with CRLF, None is an empty cell."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([defused(cell) for cell in header])
    writer.writerows([defused(cell) for cell in row] for row in rows)
    return text.getvalue()


def encoded(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """The same as the bytes of a file: UTF-8 with a byte order mark (read it as `utf-8-sig`)."""
    return (BYTE_ORDER_MARK + written(header, rows)).encode()


def restored(cell: str) -> str:
    """What a cell held before it was defused."""
    whole = DEFUSED_WITHIN.sub("", cell)
    return whole[1:] if whole.startswith("'") and FORMULA.match(whole) else whole


def decoded(file: bytes) -> str:
    """A file's text: UTF-8, what Excel calls Unicode, else Windows-1252, in which every byte means something.

    Raises Unreadable for a workbook.
    """
    if file.startswith(WORKBOOKS):
        raise Unreadable("workbook")
    encoding = "utf-16" if file.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return file.decode(encoding)
    except UnicodeDecodeError:
        return file.decode("cp1252", "replace")


def read(text: str, most_rows: int = MOST_ROWS) -> Table:
    """A table with a header, its cells restored and without blanks around them; raises Unreadable.

    The cells are parted by commas, semicolons or tabs, whichever the first line has most of. Empty lines are left out.
    """
    lines = _lines(text.removeprefix(BYTE_ORDER_MARK))
    _, header = next(lines, (0, ()))
    if not header:
        raise Unreadable("empty")
    if len(header) > MOST_COLUMNS:
        raise Unreadable("too-wide")
    rows: list[tuple[int, tuple[str, ...]]] = []
    for row in lines:
        if len(rows) == most_rows:
            raise Unreadable("too-long")
        rows.append(row)
    return Table(header, tuple(rows))


def _lines(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The lines that hold anything, each with the number that an editor shows where it begins."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=_delimiter(text))
    begins = 1
    try:
        for cells in reader:
            stripped = tuple(restored(cell.strip()).strip() for cell in cells)
            if any(stripped):
                yield begins, stripped
            begins = reader.line_num + 1
    except csv.Error as error:
        raise Unreadable("malformed") from error


def _delimiter(text: str) -> str:
    first = QUOTED.sub("", text[:20_000].lstrip()).partition("\n")[0]
    return max(DELIMITERS, key=first.count)
