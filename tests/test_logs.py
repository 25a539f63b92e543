"""Log lines for people look as structlog words them."""

from typing import Any

import pytest
import structlog

from scheduler.logs import plain_line

EVENTS: list[dict[str, Any]] = [
    {
        "event": "request",
        "method": "GET",
        "route": "/api/v1/slots",
        "status": 200,
        "milliseconds": 1.2,
    },
    {"event": "tick_failed", "error": 'it is "gone"', "tick": "beat"},
    {"event": "words", "empty": "", "many": "a\nb", "equal": "a=b", "none": None, "list": [1, "b"], "it": "it's"},
    {"event": "a_name_that_is_longer_than_thirty_letters_are", "a": "ñ"},
    {"event": "nothing_more"},
]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("level", ["info", "warning", "critical"])
def test_a_line_is_what_structlog_would_have_written(event: dict[str, Any], level: str) -> None:
    told = {"timestamp": "2026-11-23T15:00:00.000000Z", "level": level, **event}
    theirs = structlog.dev.ConsoleRenderer(colors=False)(None, level, dict(told))
    assert plain_line(None, level, dict(told)) == theirs.rstrip()


def test_a_trace_follows_its_line() -> None:
    told = {"timestamp": "t", "level": "error", "event": "request", "exception": "Traceback: it broke"}
    assert plain_line(None, "error", told).endswith("request\nTraceback: it broke")
