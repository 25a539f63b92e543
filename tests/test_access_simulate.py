"""`access simulate`: what it prints, as text and as JSON, what it refuses, and that it changes nothing."""

import json
import shlex

import pytest
from apiflask import APIFlask
from click.testing import Result
from sqlalchemy import Engine, func, select

import config
from config import ROOT
from scheduler import cli
from scheduler.clock import FixedClock
from scheduler.db import Base, reading
from tests.clinic import Clinic
from tests.services.test_simulated_demand import live

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
DOCUMENT = (ROOT / "docs" / "access.md").read_text()
QUICK = ("--hours", "Mon 8-12, Thu 8-12", "--years", "3", "--soon", "0")  # nobody at short notice: the rule says 0


@pytest.fixture
def app(app: APIFlask, settings: config.Settings, engine: Engine, clock: FixedClock) -> APIFlask:
    cli.install(app, settings, engine, clock)
    return app


def simulate(app: APIFlask, *words: str) -> Result:
    return app.test_cli_runner().invoke(args=["access", "simulate", *words])


def told(app: APIFlask, *words: str) -> str:
    result = simulate(app, *words)
    assert result.exit_code == 0, result.output
    return result.stdout


@on_sqlite
def test_policies_are_told_side_by_side(app: APIFlask) -> None:
    first, *lines = [line for line in told(app, *QUICK, "--protect", "1").splitlines() if line.strip()]
    room = "On paper: room for 416 visits in a year of 104 open days"
    assert first == f"{room}; with nothing booked the goal is kept 59.8% of the time"
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    head, _, *rows = table
    assert head == ["Kept back a day", "Goal kept %", "Offered %", "Third, hours", "Idle", "No-shows", "Lost"]
    assert [row[0] for row in rows] == ["0", "1"]
    told_with = {title: " ± " in cell for row in rows for title, cell in zip(head[1:], row[1:], strict=True)}
    assert [title for title, within in told_with.items() if not within] == ["Offered %"]
    assert lines[-1] == "The newsvendor rule says 0. None of these numbers keeps the goal 90.0% of the time."


@on_sqlite
def test_the_json_has_every_figure_and_the_years_on_standard_error(app: APIFlask) -> None:
    result = simulate(app, *QUICK, "--json")
    (verdict,) = json.loads(result.stdout)
    assert {name: verdict[name] for name in ("name", "places", "open_days", "recommended")} == {
        "name": "On paper",
        "places": 416,
        "open_days": 104,
        "recommended": None,
    }
    none = verdict["tried"][0]
    assert (none["level"], none["more_lost"]) == (0, {"mean": 0.0, "within": 0.0})
    assert set(none["figures"]) == {"attained", "full", "offered", "third", "booked", "idle", "absent", "lost"}
    assert none["figures"]["offered"] is None
    assert 0 < none["figures"]["attained"]["mean"] < verdict["ceiling"]
    assert "years" in result.stderr


def test_the_clinic_in_the_database_is_played_and_left_alone(app: APIFlask, clinic: Clinic) -> None:
    def everything() -> dict[str, int]:
        with reading(clinic.engine) as session:
            tables = Base.metadata.sorted_tables
            return {table.name: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables}

    before = everything()
    verdicts = json.loads(told(app, "--years", "3", "--soon", "0", "--minutes", "180", "--json"))
    assert [(verdict["name"], verdict["open_days"]) for verdict in verdicts] == [("Springfield", 260)]
    assert verdicts[0]["places"] == 260 * 3
    (hours,) = json.loads(told(app, "structural", "--json"))
    assert (hours["name"], len(hours["gaps"]), round(hours["share"], 3)) == ("Springfield", 52, 0.101)
    assert everything() == before


@on_sqlite
def test_the_clinics_own_history_and_what_it_keeps_back_are_played_and_told(app: APIFlask, clinic: Clinic) -> None:
    live(clinic)
    clinic.protect()  # by the rule and the same weeks: one visit a day
    words = ("--years", "3", "--minutes", "180", "--no-shows", "0.2", "--protect", "0")
    first, lived, asked, *lines = [line for line in told(app, *words).splitlines() if line]
    assert first.startswith("Springfield: room for 780 visits")
    assert lines[-1].startswith("The newsvendor rule says")
    assert lived == (
        "Springfield, from the last 91 days (66 open): 1.1 visits an open day, 48.6% want to come at once, "
        "the others 7.2 days beyond the goal, 4.8% called off"
    )
    assert asked == "Springfield, as asked for: 20.0% no-shows"
    levels = [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:]
    assert [level for level in levels if "in force" in level] == ["1 (in force)"]
    (verdict,) = json.loads(told(app, *words, "--load", "0.5", "--soon", "0", "--json"))
    figures = {name: (round(one["value"], 3), one["from"]) for name, one in verdict["demand"].items()}
    assert figures == {
        "load": (0.5, "option"),
        "soon": (0.0, "option"),
        "lead_days": (7.212, "history"),
        "no_shows": (0.2, "option"),
        "cancelled": (0.048, "history"),
    }
    assert (verdict["in_force"], verdict["history"]["open_days"]) == (1, 66)
    assert 1 in [tried["level"] for tried in verdict["tried"]]


@on_sqlite
def test_without_history_what_is_taken_is_told(app: APIFlask, clinic: Clinic) -> None:
    """Before the worker has decided anything nothing is in force."""
    printed = told(app, "--years", "3", "--soon", "0", "--minutes", "180")
    assert "Springfield, as asked for: 0.0% want to come at once\n" in printed
    usual = "visits for 90% of the room, the others 10.0 days beyond the goal, 10.0% no-shows, 10.0% called off"
    assert f"Springfield, taken as usual, for want of history: {usual}\n" in printed
    assert "from the last" not in printed
    assert "in force" not in printed


@on_sqlite
def test_on_paper_the_defaults_stand_whatever_the_clinic_lived(app: APIFlask, clinic: Clinic) -> None:
    live(clinic)
    clinic.protect()
    (verdict,) = json.loads(told(app, *QUICK, "--json"))
    assert {name: one["from"] for name, one in verdict["demand"].items()} == {
        "load": "usual",
        "soon": "option",
        "lead_days": "usual",
        "no_shows": "usual",
        "cancelled": "usual",
    }
    assert (verdict["history"], verdict["in_force"]) == (None, None)


@on_sqlite
def test_the_hours_alone_are_told_with_when_they_miss(app: APIFlask) -> None:
    share = "On paper: no start within 48 hours 8.8% of the time with nothing booked"
    assert told(app, "structural", "--hours", "Mon-Fri 8-18", "--minutes", "45", "--notice", "0").splitlines() == [
        f"{share}; at most 91.4% of the measured quarter hours can keep the goal",
        "   50 times Fri 17:15 to Sat 08:00",
        "    1 times Fri 17:15 to Sat 07:00",
        "    1 times Fri 17:15 to Sat 09:00",
    ]
    saturday = ("structural", "--hours", "Mon-Sat 8-18", "--minutes", "45", "--notice", "120")
    assert told(app, *saturday).startswith("On paper: no start within 48 hours 0.0% of the time")


@on_sqlite
def test_the_queue_is_told_exactly_and_by_chance(app: APIFlask) -> None:
    exact, chance = told(app, "queue", "--visits", "8", "--load", "0.95").splitlines()
    assert exact == "8 visits a day at load 0.95: seen the same or the next day 73.55%"
    assert chance.startswith("By chance: 7")
    answer = json.loads(told(app, "queue", "--visits", "8", "--load", "0.9", "--json"))
    assert round(answer["exact"], 4) == 0.9295
    assert abs(answer["by_chance"]["mean"] - answer["exact"]) < answer["by_chance"]["within"]


@on_sqlite
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--hours", "Mon 18-8"), "--hours"),
        (("--hours", "always"), "--hours"),
        (("--hours", "Mon 8-18", "--location", "1"), "--location"),
        (("--therapists", "2"), "--therapists"),
        (("--minutes", "50"), "--minutes"),
        (("--load", "0"), "--load"),
        (("--load", "0.9", "--visits", "8"), "--visits"),
        (("--soon", "1.5"), "--soon"),
        (("--cancelled", "1"), "--cancelled"),
        (("--years", "2"), "--years"),
        (("--protect", "-1"), "--protect"),
        (("--seed", "one"), "--seed"),
        (("--minutes", "45", "structural"), "structural"),
        (("structural", "--notice", "-1"), "--notice"),
        (("structural", "--hours", "Mon 8:05-9"), "--hours"),
        (("queue", "--visits", "8", "--load", "1"), "--load"),
        (("queue", "--load", "0.5"), "--visits"),
    ],
)
def test_what_cannot_be_simulated_is_refused_by_its_name(app: APIFlask, words: tuple[str, ...], named: str) -> None:
    result = simulate(app, *words)
    assert result.exit_code == 2
    assert named in result.stderr.splitlines()[-1]


@on_sqlite
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--location", "99"), "no such location"),
        (("--hours", "Mon-Fri 8-9", "--minutes", "90"), "no time for such a visit"),
        (("structural", "--hours", "Mon-Fri 8-9", "--minutes", "90"), "no time for such a visit"),
    ],
)
def test_a_clinic_without_what_is_asked_for_is_told_so(
    app: APIFlask, clinic: Clinic, words: tuple[str, ...], reason: str
) -> None:
    result = simulate(app, *words)
    assert result.exit_code == 1
    assert reason in result.stderr


@on_sqlite
def test_an_empty_clinic_is_told_so_without_a_traceback(app: APIFlask) -> None:
    result = simulate(app)
    assert (result.exit_code, "new-patient type" in result.stderr) == (1, True)


# --- the document says what the commands print


@on_sqlite
@pytest.mark.drill
def test_the_table_of_the_document_is_what_its_command_prints(app: APIFlask) -> None:
    command = "--hours" + DOCUMENT.split("access simulate --hours", 1)[1].splitlines()[0]
    printed = DOCUMENT.split("prints\n", 1)[1].split("\n## ", 1)[0]
    assert printed.split() == told(app, *shlex.split(command)).split()
