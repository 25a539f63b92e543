"""Any file at all: nothing breaks, nothing is stored half, and what is written is read back as it was."""

import csv
from collections import Counter
from io import StringIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from scheduler.csv_cells import MOST_COLUMNS, Table, Unreadable, decoded, defused, encoded, read, restored
from scheduler.db import Base, reading, transaction
from scheduler.services.audit import Actor
from scheduler.services.moving import import_lines, moving_in, moving_out
from scheduler.services.moving.import_lines import COLUMNS, Column, File, Outcome, What
from tests.clinic import Clinic
from tests.services.test_moving_in import HEADER, VISIT, stored

ANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
# Cells that are nearly right, so that a file goes as far as it can.
NEARLY = st.sampled_from((
    "Ana Abbott", "Springfield", "Follow-up", "Needling", "2026-11-24", "24/11/2026", "2026-11-24T09:05-06:00", "9:05",
    "10:00 PM", "2027-03-14", "2:30", "45", "0", "-1", "15", "Pat Doe", "pat@example.com", "217 555 0142", "1/2/1980",
    "monday", "mié", "26:00", "en", "español", "cancelled", "", "  ", "=1+1", "'x", "\x00", "\ud7ff", "9" * 300,
    "0001-01-01", "9999-12-31", "9999-12-31T23:59-12:00", "0001-01-01T00:00+14:00", "２０２６-11-24", "²", "١٢:٣٠",
))  # fmt: skip
CELL = st.one_of(NEARLY, TEXT)
# What each column may well hold: few times and people, so that lines are in each other's way.
CLOCKS = st.builds("{}:{:02}".format, st.integers(8, 17), st.integers(0, 59))
RIGHT: dict[str, tuple[str, ...] | st.SearchStrategy[str]] = {
    "name": st.one_of(st.builds("{} Roe".format, st.integers(0, 99)), st.just("Ana Abbott")),
    "patient": ("Pat Doe", "Ann Roe", "pat doe"),
    "therapist": ("Ana Abbott", "ana abbott, PT"),
    "location": ("Springfield", ""),
    "type": ("Follow-up", "Needling", "Evaluation"),
    "start": st.one_of(
        st.builds("2026-11-{:02} {}".format, st.integers(19, 30), CLOCKS),
        st.builds("12/{}/26 {}".format, st.integers(1, 31), CLOCKS),
        st.just("2026-11-24T09:05-06:00"),
    ),
    "time": ("", "", "9:30 AM", "23:50"),
    "end": ("", "", "", "17:00", "2026-11-25 00:10"),
    "minutes": ("45", "1", "20 min", ""),
    "buffer": ("0", "15", "", "20"),
    "email": ("pat@example.com", "ann@example.com", ""),
    "phone": ("217 555 0142", ""),
    "birth_date": ("1/2/1980", "1980-01-02", ""),
    "imported_as": ("1", "2", "", "018f0000-0000-7000-8000-000000000000"),
    "weekday": ("Saturday", "domingo", "Mon", "mar", "wednesday"),
    "opens": st.builds("{}:{:02}".format, st.integers(0, 23), st.sampled_from((0, 15, 45))),
    "closes": st.builds("{}:{:02}".format, st.integers(1, 30), st.sampled_from((0, 30))),
    "valid_from": ("2026-11-01", "2027-01-01", ""),
    "valid_until": ("2026-12-31", ""),
    "languages": ("en, es", ""),
    "language": ("es", ""),
    "last_name": ("Roe", ""),
    "needling": ("yes", "no", ""),
    "note": ("=knee", "two\nlines", ""),
    "status": ("booked", "", "Cancelled"),
    "credentials": ("PT", ""),
}


def _right(column: Column) -> st.SearchStrategy[str]:
    right = RIGHT.get(column.name, CELL)
    return st.sampled_from(right) if isinstance(right, tuple) else right


@st.composite
def files(draw: st.DrawFn) -> tuple[What, str]:
    """A file with some of the titles and some others, with lines of any length, quoted or not."""
    what = draw(st.sampled_from(What))
    told = draw(st.lists(st.sampled_from(COLUMNS[what]), min_size=1, unique=True))
    told = [*(column for column in COLUMNS[what] if column.needed or column.name == "email"), *told]
    header = [column.titles[0] for column in told]
    header[-1] = draw(st.one_of(st.just(header[-1]), TEXT))
    cell = [_right(column) for column in told]
    lines = [
        [draw(st.sampled_from((*[right] * 19, CELL)).flatmap(lambda one: one)) for right in cell][
            : draw(st.sampled_from((99, 99, 99, 5)))
        ]
        for _ in range(draw(st.integers(0, 5)))
    ]
    written = StringIO()
    dialect = draw(st.sampled_from(("excel", "unix")))  # the one quotes what needs it, the other everything
    writer = csv.writer(written, dialect, delimiter=draw(st.sampled_from(",;\t")))
    writer.writerow(header)
    writer.writerows(lines)
    return what, written.getvalue()


def dump(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()
            for name in Base.metadata.tables
        }


@ANY
@given(files())
def test_any_file_is_judged_line_by_line_and_stored_soundly(clinic: Clinic, file: tuple[What, str]) -> None:
    what, content = file
    before = dump(clinic.engine)
    try:
        table = read(content)
    except Unreadable:
        return
    asked = File(what, table, import_lines.guessed(what, table.header))
    asked = File(what, table, asked.columns, day_first=import_lines.dates_told(asked).day_first)
    with reading(clinic.engine) as session:
        tried = moving_in.dry_run(session, asked, now=clinic.clock.now())
    assert dump(clinic.engine) == before
    assert [line.number for line in tried.lines] == [number for number, _ in table.rows]
    assert all(bool(line.problems) == (line.outcome == Outcome.PROBLEM) for line in tried.lines)
    with transaction(clinic.engine) as session:
        done = moving_in.store(session, asked, whole=False, by=Actor("x"), keys=clinic.keys, now=clinic.clock.now())
    assert done.counts == tried.counts
    with reading(clinic.engine) as session:
        again = moving_in.dry_run(session, asked, now=clinic.clock.now())
    assert again.counts[Outcome.NEW] == 0
    assert again.counts[Outcome.KNOWN] >= done.counts[Outcome.NEW]
    assert clinic.violations() == {}


def test_a_file_about_good_visits_is_among_them(clinic: Clinic) -> None:
    """So that the test above does not only try what is refused."""
    lines = [VISIT.replace("A1", f"V{n}").replace("9:00", f"{9 + n}:{7 * n:02}") for n in range(6)]
    assert stored(clinic, What.VISITS, HEADER + "".join(lines)).counts == Counter({Outcome.NEW: 6})
    assert clinic.violations() == {}


@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_told_to_be_none(content: bytes) -> None:
    try:
        table = read(decoded(content))
    except Unreadable:
        return
    assert isinstance(table, Table)
    assert 0 < len(table.header) <= MOST_COLUMNS


@given(TEXT)
def test_a_defused_cell_is_restored(cell: str) -> None:
    assert restored(str(defused(cell))) == cell
    assert restored(str(defused(f"'{cell}"))) == f"'{cell}"
    assert str(defused(cell)).lstrip()[:1] not in set("=+-@＝＋－＠")


PLAIN = st.text(
    st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="\u3164"), min_size=1, max_size=8
)


@given(st.lists(st.tuples(PLAIN, PLAIN), max_size=5))
def test_a_written_table_reads_as_it_was(rows: list[tuple[str, str]]) -> None:
    table = read(decoded(encoded(["a", "b"], rows)))
    kept = [tuple(cell.strip() for cell in row) for row in rows]
    assert [cells for _, cells in table.rows] == [row for row in kept if any(row)]


@pytest.mark.parametrize(
    ("content", "first"),
    [
        ("Núñez".encode(), "Núñez"),
        ("\ufeffNúñez".encode(), "Núñez"),
        ("Núñez".encode("cp1252"), "Núñez"),
        ("Núñez".encode("utf-16"), "Núñez"),
        (b"\x81\x8d", "\ufffd\ufffd"),
        (b'"a;b";c;d,e\n', "a;b"),
        (b"a\tb;c\td\n", "a"),
        (b"a,b\r1,2\r", "a"),
    ],
)
def test_files_come_in_many_forms(content: bytes, first: str) -> None:
    assert read(decoded(content)).header[0] == first


def test_lines_have_the_numbers_that_an_editor_shows() -> None:
    table = read('a,b\r\n\r\n"two\nlines",x\r\n,\r\nlast,y\r\n')
    assert table.rows == ((3, ("two\nlines", "x")), (6, ("last", "y")))


NAMES = ("Pat Doe", "=cmd", "'t Hooft", "+Ann", "O'Brien, Jr.", "“Q”", "-", "@x y", "Núñez\u00a0X", '"q"')


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_all_that_is_exported_moves_into_another_clinic_as_it_was(clinic: Clinic) -> None:
    """By way of removing it here: who, when and where are then as in the file, and so is the next export."""
    names = [name for name in NAMES if any(letter.isalnum() for letter in name)]
    clinic.add_hours(1, 1, [5], 9 * 60, 12 * 60, standby=True)
    clinic.add_hours(1, 1, [6], 9 * 60, 12 * 60, standby=True, opens_by_rule=True)
    header = "id,start,minutes,therapist,type,patient,email,note,needling,buffer,dob\n"
    content = StringIO()
    writer = csv.writer(content)
    for number, name in enumerate(names):
        start = f"2026-11-{24 + number % 3} {9 + number % 7}:{5 * (number % 3):02}"
        row = (f"=x{number}", start, 25, "Ana Abbott", "Follow-up", name, f"p{number}@example.com", "'=a\nb", "no", 15)
        writer.writerow([*(defused(cell) for cell in row), "1/2/1980"])
    result = stored(clinic, What.VISITS, header + content.getvalue(), whole=True)
    assert result.counts == Counter({Outcome.NEW: len(names)})
    with transaction(clinic.engine) as session:
        before = {what: moving_out.export(session, what, keys=clinic.keys, now=clinic.clock.now()) for what in What}
        for table in ("slot", "outbox_message", "manage_link", "appointment", "patient", "working_hours"):
            session.execute(text("DROP TRIGGER IF EXISTS tr_slot_taken_kept"))
            session.execute(text(f"DELETE FROM {table}"))
    clinic.plan()
    for what in What:
        stored(clinic, what, decoded(encoded(before[what].header, before[what].rows)), whole=True)
    with reading(clinic.engine) as session:
        after = {what: moving_out.export(session, what, keys=clinic.keys, now=clinic.clock.now()) for what in What}
    for what in What:
        assert (after[what].header, sorted(after[what].rows)) == (before[what].header, sorted(before[what].rows)), what
