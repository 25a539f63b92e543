"""Log lines are JSON for programs and structlog's own words for people; neither tells the values of variables."""

import json
import re
from collections.abc import Iterator
from io import BytesIO, StringIO

import pytest
import structlog

from scheduler import logs

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def written(*, people: bool) -> str:
    """What a visit that cannot be booked leaves in the log."""
    logs.configure(people=people)
    text, data = StringIO(), BytesIO()
    factory = structlog.PrintLoggerFactory(text) if people else structlog.BytesLoggerFactory(data)
    structlog.configure(logger_factory=factory, cache_logger_on_first_use=False)
    patient = "Pat Doe"
    try:
        len(patient) / 0
    except ZeroDivisionError as error:
        structlog.get_logger().error("request", route="/book/<slot>", status=500, exc_info=error)
    structlog.get_logger().debug("not told")
    return text.getvalue() if people else data.getvalue().decode()


def test_programs_read_one_json_document_a_line() -> None:
    (line,) = written(people=False).splitlines()
    told = json.loads(line)
    assert told.pop("timestamp").endswith("Z")
    assert told.pop("exception").endswith("ZeroDivisionError: division by zero")
    assert told == {"event": "request", "level": "error", "route": "/book/<slot>", "status": 500}


def test_people_read_a_line_and_the_trace_below() -> None:
    line, *trace = COLOURS.sub("", written(people=True)).splitlines()
    assert re.fullmatch(r"\S+Z \[error +\] request +route=/book/<slot> status=500", line)
    assert (trace[0], trace[-1]) == ("Traceback (most recent call last):", "ZeroDivisionError: division by zero")


@pytest.mark.parametrize("people", [True, False])
def test_no_trace_tells_the_values_of_variables(people: bool) -> None:
    assert "Pat Doe" not in written(people=people)
