"""Moving in, up to the first online booking: what is still to do, files from another program, and everything as files.

Between pages the form itself carries the file, so that nothing of it is stored before somebody says so.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext, ngettext
from werkzeug.wrappers import Response as BaseResponse

from scheduler import csv_cells, words
from scheduler.csv_cells import Table, Unreadable
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, SlotTaken
from scheduler.models import Role, WorkingHours
from scheduler.services import audit, hours, opening, practice, reminders
from scheduler.services.moving import import_lines, import_places, moving_in, moving_out
from scheduler.services.moving.import_lines import COLUMNS, MOST_LINES, Column, File, Line, Outcome, Trouble, What
from scheduler.services.moving.moving_in import NotAllGood, Tried
from scheduler.services.opening import LOOK_THROUGH, NotReady, Step
from scheduler.web.admin.moving_words import COLUMN_WORDS, KINDS, OUTCOMES, STEPS, TROUBLES, UNREADABLE
from scheduler.web.admin.saving import now, policy
from scheduler.web.context import context
from scheduler.web.downloads import csv_file
from scheduler.web.language import language
from scheduler.web.staff import seen
from scheduler.web.staff.access import allowed, staff, take_long_forms

pages = APIBlueprint("moving_in", __name__, url_prefix="/admin/moving-in", enable_openapi=False)
LARGEST_FILE = 5_000_000
PROBLEMS_SHOWN, OTHERS_SHOWN, WORDS_SHOWN, UNLICENSED_SHOWN = 300, 100, 40, 10
MEANINGS = {
    "therapist": Trouble.UNKNOWN_THERAPIST,
    "location": Trouble.UNKNOWN_LOCATION,
    "type": Trouble.UNKNOWN_TYPE,
}
# Where each step is done.
WHERE = {
    Step.POLICY: "clinic.policy_page",
    Step.EXPLAINER: "patient.explainer_page",
    Step.TYPE: "clinic.types",
    Step.ADDRESS: "clinic.locations",
    Step.STATE_RULE: "clinic.rules",
    Step.THERAPIST: "people.therapists",
}


@pages.url_value_preprocessor
def _larger(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """Let files through before anything reads the form."""
    take_long_forms()


@pages.get("")
@allowed(Role.ADMIN, everywhere=True)
def checklist() -> str:
    """What is done and what is not, and a button for each place that is ready."""
    with reading(context().engine) as database:
        clinic = practice.policy(database)
        standing = opening.checklist(database, staff().account_id, now=now())
        imported, zone = moving_in.imported(database), practice.zone(database)
    return render_template(
        "admin/moving_in.html",
        clinic=clinic,
        standing=standing,
        imported=imported,
        steps=STEPS,
        kinds=KINDS,
        outcomes=OUTCOMES,
        look_through=LOOK_THROUGH,
        where=_where,
        day_of=lambda instant: words.day(instant, zone, language()),
    )


@pages.post("/looked-through")
@allowed(Role.ADMIN, everywhere=True)
def looked_through() -> BaseResponse:
    """Note that somebody has looked through what only people can judge."""
    step = next((step for step in LOOK_THROUGH if step == request.form.get("step")), None)
    if step is None:
        raise Invalid("step", "There is no such step.")
    with transaction(context().engine) as database:
        opening.look_through(database, step, by=staff().actor, now=now())
    return redirect(url_for("moving_in.checklist"), 303)


@pages.post("/test-message")
@allowed(Role.ADMIN, everywhere=True)
def test_message() -> BaseResponse:
    with transaction(context().engine) as database:
        opening.send_test(database, staff().account_id, now=now())
    flash(gettext("A message is on its way to %(email)s.", email=staff().email))
    return redirect(url_for("moving_in.checklist"), 303)


@pages.post("/reminders")
@allowed(Role.ADMIN, everywhere=True)
def start_reminders() -> BaseResponse:
    """Say what beginning would come to; then tell the patients of imported visits what others are told."""
    if request.form.get("step") != "start":
        return _ask_to_start()
    with transaction(context().engine) as database:
        began = opening.start_reminders(database, by=staff().actor, now=now())
    if began is None:
        flash(gettext("Reminders had begun already."))
    else:
        flash(ngettext("Reminders begin: %(num)d is planned.", "Reminders begin: %(num)d are planned.", began.messages))
    return redirect(url_for("moving_in.checklist"), 303)


def _ask_to_start() -> Response:
    with reading(context().engine) as database:
        ahead, zone = reminders.imported_ahead(database, now=now()), practice.zone(database)
    first = words.when(ahead.first, zone, language()) if ahead.first else ""
    return make_response(render_template("admin/moving_reminders.html", clinic=policy(), ahead=ahead, first=first))


@pages.post("/locations/<int:location_id>/open")
@allowed(Role.ADMIN, everywhere=True)
def open_online(location_id: int) -> BaseResponse:
    try:
        with transaction(context().engine) as database:
            opening.open_online(database, location_id, by=staff().actor, now=now())
    except NotReady:
        flash(gettext("Something is still to do before patients can book there."))
        return make_response(checklist(), 409)
    flash(gettext("Patients can book there now."))
    return redirect(url_for("moving_in.checklist"), 303)


@pages.post("/locations/<int:location_id>/close")
@allowed(Role.ADMIN, everywhere=True)
def close_online(location_id: int) -> BaseResponse:
    with transaction(context().engine) as database:
        opening.close_online(database, location_id, by=staff().actor, now=now())
    flash(gettext("Only your staff can book there now. Visits that are booked stay."))
    return redirect(url_for("moving_in.checklist"), 303)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A file as its reader understands it, and as the form carries it on.

    `dates` is what somebody chose to come first in its dates, "day" or "month"; without it that is guessed.
    """

    file: File
    packed: str
    dates: str = ""


def _upload_page(what: What) -> Callable[[], str]:
    @allowed(Role.ADMIN, everywhere=True)
    def view() -> str:
        """Choose a file."""
        return _upload(what)

    return view


def _take_page(what: What) -> Callable[[], BaseResponse]:
    @allowed(Role.ADMIN, everywhere=True)
    def view() -> BaseResponse:
        """Try a file, or store it: as the button that was pressed says."""
        try:
            sent = _sent(what)
        except Unreadable as error:
            problem = str(UNREADABLE[error.code]) % {"lines": f"{MOST_LINES[what]:,}"}
            return make_response(_upload(what, problem), 422)
        step = request.form.get("step", "")
        asked = _doubt(sent)
        if step in {"import-all", "import-good"} and asked in {"", request.form.get("asked")}:
            return _store(sent, whole=step == "import-all")
        if step == "list":
            return _list(sent)
        return _check(sent)

    return view


def _export_page(what: What) -> Callable[[], BaseResponse]:
    @allowed(Role.ADMIN, everywhere=True)
    def view() -> BaseResponse:
        """All that is here, as a file that no spreadsheet computes and that can be read again."""
        with reading(context().engine) as database:
            table = moving_out.export(database, what, keys=context().keys, now=now())
        with transaction(context().engine) as database:
            fields = ", ".join(table.header)
            audit.read(database, table.shown, fields=fields, by=staff().actor, now=now())
        return csv_file(what, table.header, table.rows)

    return view


for _kind in What:
    pages.add_url_rule(f"/{_kind}", f"{_kind}_file", _upload_page(_kind), methods=["GET"])
    pages.add_url_rule(f"/{_kind}", f"take_{_kind}", _take_page(_kind), methods=["POST"])
    pages.add_url_rule(f"/{_kind}.csv", f"export_{_kind}", _export_page(_kind), methods=["GET"])


def _where(step: Step) -> str | None:
    return url_for(WHERE[step]) if step in WHERE else None


def _upload(what: What, problem: str = "") -> str:
    return render_template(
        "admin/moving_file.html",
        clinic=policy(),
        what=what,
        kinds=KINDS,
        columns=COLUMNS[what],
        words=COLUMN_WORDS,
        problem=problem,
        largest=LARGEST_FILE // 1_000_000,
    )


def _sent(what: What) -> _Sent:
    """The file that a form sends, fresh or carried on; raises Unreadable."""
    carried = request.form.get("file")
    text = _unpacked(carried) if carried else _uploaded()
    table = csv_cells.read(text, MOST_LINES[what])
    if not carried:
        return _sent_of(File(what, table, import_lines.guessed(what, table.header)), _packed(text))
    columns = {column.name: at for column in COLUMNS[what] if (at := _column(column, table)) is not None}
    meanings = {name: _meaning(name) for name in MEANINGS}
    return _sent_of(File(what, table, columns, meanings=meanings), carried, request.form.get("dates", ""))


def _sent_of(file: File, packed: str, dates: str = "") -> _Sent:
    """A file with the order of its dates: the chosen one, else what its columns of dates say as they now are."""
    chosen = dates if dates in {"day", "month"} else ""
    day_first = chosen == "day" if chosen else import_lines.dates_told(file).day_first
    return _Sent(replace(file, day_first=day_first), packed, chosen)


def _doubt(sent: _Sent) -> str:
    """What to ask of dates that are read one way though nobody chose that and the file does not tell; else ""."""
    told = import_lines.dates_told(sent.file)
    if sent.dates or not told.doubtful:
        return ""
    read_as = words.month_and_day(import_lines.date_of(told.either, day_first=sent.file.day_first), language())
    if told.days_first:
        ask = gettext(
            "Some dates of this file have the day first, others the month. %(date)s is read as %(day)s: is that right?",
            date=told.either,
            day=read_as,
        )
    else:
        ask = gettext("%(date)s is read as %(day)s: is that right?", date=told.either, day=read_as)
    return f"{ask} {gettext('If not, choose below what comes first, and try again.')}"


def _uploaded() -> str:
    upload = request.files.get("file")
    if upload is None:
        raise Unreadable("empty")
    with upload.stream as stream:
        content = stream.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise Unreadable("too-large")
    return csv_cells.decoded(content)


def _packed(text: str) -> str:
    return b64encode(zlib.compress(text.encode("utf-8"))).decode()


def _unpacked(carried: str) -> str:
    """The text that a page carried on; raises Unreadable for one that is none of ours."""
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(b64decode(carried, validate=True), 2 * LARGEST_FILE)
        if not unpacking.eof:
            raise Unreadable("malformed")
        return content.decode()
    except (ValueError, zlib.error) as error:
        raise Unreadable("malformed") from error


def _column(column: Column, table: Table) -> int | None:
    """Where the form says that a column of ours stands; None for nowhere."""
    said = request.form.get(f"column-{column.name}", "")
    at = int(said) if said.isascii() and said.isdigit() and len(said) < len(str(csv_cells.MOST_COLUMNS)) + 1 else -1
    return at if 0 <= at < len(table.header) else None


def _meaning(name: str) -> dict[str, str]:
    pairs = zip(request.form.getlist(f"old-{name}"), request.form.getlist(f"new-{name}"), strict=False)
    return {old: new for old, new in pairs if new}


def _check(sent: _Sent, *, status: int = 200, notice: str = "") -> Response:
    """What would become of each line, and what the old program's words mean here."""
    with reading(context().engine) as database:
        clinic, tried = practice.policy(database), moving_in.dry_run(database, sent.file, now=now())
        ours = {name: _names(named) for name, named in _named(database).items()}
    absent = [column.name for column in COLUMNS[tried.what] if column.needed and column.name not in sent.file.columns]
    bad = [line for line in map(_without(absent), tried.of(Outcome.PROBLEM)) if line.problems]
    rest = [line for line in tried.lines if line.outcome != Outcome.PROBLEM]
    _note_read(bad[:PROBLEMS_SHOWN])
    page = render_template(
        "admin/moving_check.html",
        clinic=clinic,
        sent=sent,
        what=tried.what,
        kinds=KINDS,
        columns=COLUMNS[tried.what],
        words=COLUMN_WORDS,
        counts=tried.counts,
        outcomes=OUTCOMES,
        bad=bad[:PROBLEMS_SHOWN],
        more_bad=max(len(bad) - PROBLEMS_SHOWN, 0),
        rest=rest[:OTHERS_SHOWN],
        more=max(len(rest) - OTHERS_SHOWN, 0),
        told=_told,
        unknown=_unknown(tried, sent.file),
        ours=ours,
        notice=notice,
        absent=absent,
        has_dates=any(column.name in import_lines.DATES for column in COLUMNS[tried.what]),
        doubt=_doubt(sent),
    )
    return make_response(page, status)


def _store(sent: _Sent, *, whole: bool) -> BaseResponse:
    try:
        with transaction(context().engine) as database:
            tried = moving_in.store(database, sent.file, whole=whole, by=staff().actor, keys=context().keys, now=now())
    except (NotAllGood, SlotTaken):
        return _check(sent, status=409, notice=gettext("Nothing was stored: meanwhile something has changed."))
    counts = tried.counts
    known, left_out = counts[Outcome.KNOWN], sum(counts.values()) - counts[Outcome.NEW] - counts[Outcome.KNOWN]
    said = [ngettext("%(num)d line was stored.", "%(num)d lines were stored.", counts[Outcome.NEW])]
    said += [ngettext("%(num)d was here already.", "%(num)d were here already.", known)] if known else []
    said += [ngettext("%(num)d was left out.", "%(num)d were left out.", left_out)] if left_out else []
    flash(" ".join(said))
    if tried.what == What.HOURS:
        _warn_of_unlicensed(tried)
    return redirect(url_for("moving_in.checklist"), 303)


def _warn_of_unlicensed(tried: Tried) -> None:
    """Say whose hours need a licence first; of many some, as the overview lists them all."""
    whose = WorkingHours.therapist_id.in_({line.row.therapist_id for line in tried.of(Outcome.NEW)})
    with reading(context().engine) as database:
        lacking = [f"{one.therapist} ({one.state})" for one in hours.unlicensed(database, whose, now=now())]
    if lacking:
        some = lacking[:UNLICENSED_SHOWN] + ["…"] * (len(lacking) > UNLICENSED_SHOWN)
        flash(gettext("No license yet, so nothing can be booked in the hours of: %(whose)s", whose=", ".join(some)))


def _list(sent: _Sent) -> BaseResponse:
    """Every line with what would become of it, to be mended in a spreadsheet."""
    with reading(context().engine) as database:
        tried = moving_in.dry_run(database, sent.file, now=now())
    _note_read(tried.lines)
    rows = [(line.number, line.title, str(OUTCOMES[line.outcome]), "; ".join(_told(line))) for line in tried.lines]
    return csv_file(
        f"{tried.what}-tried", [gettext("Line"), gettext("What"), gettext("What happens"), gettext("Why")], rows
    )


def _named(database: Any) -> dict[str, import_places.Named[Any]]:  # noqa: ANN401 a session; rows of three kinds
    return {
        "therapist": import_places.therapists(database),
        "location": import_places.locations(database),
        "type": import_places.types(database),
    }


def _names(named: import_places.Named[Any]) -> list[str]:
    return sorted(row.name for rows in named.rows.values() for row in rows)


def _unknown(tried: Tried, file: File) -> dict[str, dict[str, str]]:
    """The words that mean nothing here yet, and those that were given a meaning, with that."""
    found: dict[str, dict[str, str]] = {name: dict(file.meanings.get(name, {})) for name in MEANINGS}
    for line in tried.of(Outcome.PROBLEM):
        for problem in line.problems:
            if MEANINGS.get(problem.column) == problem.trouble and len(found[problem.column]) < WORDS_SHOWN:
                found[problem.column].setdefault(problem.about, "")
    return {name: meanings for name, meanings in found.items() if meanings}


def _told(line: Line) -> list[str]:
    """What is wrong with a line, each with its column."""
    return [
        ": ".join(
            filter(
                None,
                (
                    str(COLUMN_WORDS.get(problem.column, "")),
                    str(TROUBLES[problem.trouble]) % {"about": problem.about},
                ),
            )
        )
        for problem in line.problems
    ]


def _without(absent: list[str]) -> Callable[[Line], Line]:
    """Lines without what is wrong with all of them: that the file has no such column, which the page says once."""
    return lambda line: replace(line, problems=tuple(one for one in line.problems if one.column not in absent))


def _note_read(lines: Iterable[Line]) -> None:
    """Note whose visits were named as being in the way."""
    named = {problem.patient_id for line in lines for problem in line.problems if problem.patient_id is not None}
    seen.note(named, "name, visit")
