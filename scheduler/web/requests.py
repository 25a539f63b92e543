"""What happens around every request: security headers, and one log line that names the route, never its values."""

import time
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
QUIET = frozenset({"ops.healthz", "ops.readyz", "ops.metrics", "static"})
log = structlog.get_logger()


def install(app: Flask, *, https: bool) -> None:
    app.before_request(_begin)
    app.after_request(_finish)
    if https:
        app.after_request(_https_only)


def _begin() -> None:
    g.began, g.request_id = time.perf_counter(), uuid4().hex


def _finish(response: Response) -> Response:
    response.headers.extend(HEADERS, **{"X-Request-Id": g.request_id})
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    if request.endpoint not in QUIET:
        error = g.get("error")
        log.log(
            40 if response.status_code == 500 else 20,  # noqa: PLR2004 ERROR and INFO
            "request",
            method=request.method,
            route=request.url_rule.rule if request.url_rule else None,
            status=response.status_code,
            milliseconds=round((time.perf_counter() - g.began) * 1000, 1),
            request_id=g.request_id,
            exc_info=error,
        )
    return response


def _https_only(response: Response) -> Response:
    response.headers["Strict-Transport-Security"] = "max-age=31536000"
    return response
