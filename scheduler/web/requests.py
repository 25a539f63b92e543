"""What happens around every request: security headers, and one log line that names the route, never its values."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from flask import Flask, Request, request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
POLICY = "Content-Security-Policy"
HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
]
HTTPS_ONLY = ("Strict-Transport-Security", "max-age=31536000")
QUIET = frozenset({"ops.healthz", "ops.readyz", "ops.metrics", "static"})
REQUEST, ERROR = "werkzeug.request", "scheduler.error"  # in the environment: where Flask leaves what it read, and ours
log = structlog.get_logger()


def install(app: Flask, *, https: bool) -> None:
    app.wsgi_app = Observed(app.wsgi_app, [*HEADERS, *([HTTPS_ONLY] if https else [])])  # type: ignore[method-assign]


def failed(error: object) -> None:
    """Let the line of this request tell the trace of an error that nobody foresaw."""
    request.environ[ERROR] = error


class Observed:
    """The application with its headers and its log line; around Flask, whose own hooks would cost a search a sixth."""

    def __init__(self, app: "WSGIApplication", headers: list[tuple[str, str]]) -> None:
        self.app = app
        self.headers = headers

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        began, request_id = time.perf_counter(), uuid4().hex

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:  # noqa: ANN401 the server's
            _write(environ, int(status[:3]), round((time.perf_counter() - began) * 1000, 1), request_id)
            own = [] if any(name == POLICY for name, _ in headers) else [(POLICY, CONTENT_SECURITY_POLICY)]
            return start_response(status, [*headers, *self.headers, *own, ("X-Request-Id", request_id)], *error)

        return self.app(environ, start)


def _write(environ: "WSGIEnvironment", status: int, milliseconds: float, request_id: str) -> None:
    asked: Request = environ[REQUEST]
    if asked.endpoint in QUIET:
        return
    (log.error if status == 500 else log.info)(  # noqa: PLR2004
        "request",
        method=asked.method,
        route=asked.url_rule.rule if asked.url_rule else None,
        status=status,
        milliseconds=milliseconds,
        request_id=request_id,
        exc_info=environ.get(ERROR),
    )
