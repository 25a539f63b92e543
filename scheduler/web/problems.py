"""Every error becomes an answer here: problem+json (RFC 9457) under /api, a page in the reader's language elsewhere."""

from typing import Any

import orjson
import structlog
from apiflask import APIFlask
from apiflask.exceptions import HTTPError
from flask import Response, render_template, request
from gunicorn.http.errors import NoMoreData, ParseException
from werkzeug.exceptions import BadRequest, HTTPException, TooManyRequests
from werkzeug.exceptions import NotFound as NoRoute

from scheduler.errors import ClinicError, Conflict, ConstraintViolated, Invalid, NotFound, TooMany, Unavailable
from scheduler.web import requests
from scheduler.web.limiting import ATTEMPTS_SECONDS

RETRY_SECONDS = 5
MOST_ERRORS, LONGEST_NAME = 20, 100  # an answer must not be many times as long as its request
TITLES = {
    "invalid": "Some values cannot be used",
    "not-found": "Not found",
    "unavailable": "Not possible right now",
    "too-many": "Too many requests",
    "conflict": "This contradicts what is stored",
    "visit-closed": "This visit can no longer be changed here",
    "slot-taken": "This time is taken",
    "protected": "This time is kept back for short notice",
    "slot-held": "Somebody is booking this time",
    "too-soon": "This time is too soon",
    "too-late": "This time is too far ahead",
    "not-licensed": "Not offered there on that day",
}
PLAIN = {"Extra inputs are not permitted": "is not a field of this request", "Field required": "is missing"}
NO_PAGE = "There is no page at this address."
log = structlog.get_logger()


def install(app: APIFlask) -> None:
    app.register_error_handler(ClinicError, clinic_error)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(HTTPError, validation_error)
    app.register_error_handler(ParseException, unreadable)
    app.register_error_handler(NoMoreData, unreadable)


def problem(status: int, code: str, detail: str, title: str | None = None, **more: Any) -> Response:  # noqa: ANN401
    """Answer with a problem; its `type` ends in the code, and leads to where the documentation explains it."""
    kind = f"/api/docs#{code}" if code in TITLES else "about:blank"  # RFC 9457: nothing beyond the status
    title = title or TITLES[code]
    if not request.path.startswith("/api/"):
        fields = [error["field"] for error in more.get("errors", ())]
        page = render_template("error.html", status=status, code=code, fields=fields)
        return Response(page, status, mimetype="text/html")
    body = {"type": kind, "title": title, "status": status, "detail": detail, **more}
    return Response(orjson.dumps(body), status, content_type="application/problem+json")


def invalid(*errors: tuple[str, str]) -> Response:
    told = [(field[:LONGEST_NAME], message) for field, message in errors[:MOST_ERRORS]]
    named = [{"field": field, "message": message} for field, message in told]
    return problem(422, "invalid", "; ".join(f"{field}: {message}" for field, message in told), errors=named)


def clinic_error(error: ClinicError) -> Response:
    match error:
        case Invalid():
            return invalid((error.field, error.message))
        case NotFound():
            return problem(404, "not-found", str(error))
        case TooMany():
            return retry_later(problem(429, "too-many", str(error)), error.retry_after)
        case Unavailable():
            log.warning("database_unavailable", reason=str(error))
            return retry_later(problem(503, "unavailable", "Please try again in a moment, or call us."), RETRY_SECONDS)
        case Conflict():
            if isinstance(error, ConstraintViolated):
                log.error("constraint_violated", constraint=error.name)
            return problem(409, error.code, str(error))
        case _:
            raise error


def http_error(error: HTTPException) -> Response:
    """Answer what Flask and Werkzeug refuse, and what nobody foresaw (logged with its traceback, told as 500)."""
    if isinstance(error, TooManyRequests):
        return clinic_error(TooMany("Too many requests from this connection.", retry_after=ATTEMPTS_SECONDS))
    status = error.code or 500
    requests.failed(getattr(error, "original_exception", None))
    code = error.name.lower().replace(" ", "-")
    detail = NO_PAGE if isinstance(error, NoRoute) else error.description or error.name
    answer = problem(status, code, detail, title=error.name)
    for name, value in error.get_headers():
        if name not in {"Content-Type", "Content-Length"}:
            answer.headers[name] = value
    return answer


def validation_error(error: HTTPError) -> Response:
    """Tell every field that a schema refused, by its dotted name in the request."""
    fields = next(iter(error.detail.values())) if isinstance(error.detail, dict) and error.detail else {}
    return invalid(*((field, _plain(message)) for field, messages in fields.items() for message in messages))


def unreadable(_error: Exception) -> Response:
    """Refuse a body whose chunks are none; gunicorn finds that out only while it is read."""
    return http_error(BadRequest("The body could not be read."))


def retry_later(answer: Response, seconds: int) -> Response:
    answer.headers["Retry-After"] = str(seconds)
    return answer


def _plain(message: str) -> str:
    return PLAIN.get(message, message.removeprefix("Value error, "))
