"""What every page behind a link of an e-mail has in common."""

from apiflask import APIBlueprint
from flask import Response, make_response, render_template, request

from scheduler.db import reading
from scheduler.errors import LinkReplaced
from scheduler.services import practice
from scheduler.web.context import context
from scheduler.web.limiting import refuse_other_sites

BEHIND_LINKS = ("/appointments/", "/my-visits")
GONE = 410


def guarded(pages: APIBlueprint) -> APIBlueprint:
    """Pages for patients that read no cookie: closed to other sites' forms, and kept by no cache behind a link."""
    pages.before_request(refuse_other_sites)
    pages.after_request(_private)
    pages.register_error_handler(LinkReplaced, _replaced)
    return pages


def _private(answer: Response) -> Response:
    """What stands behind a link, a refusal too, is kept by no cache."""
    if request.path.startswith(BEHIND_LINKS):
        answer.headers["Cache-Control"] = "no-store"
    return answer


def _replaced(_error: LinkReplaced) -> Response:
    """An older link of a visit opens a page that says where the new one is; what it asks for is not done."""
    with reading(context().engine) as session:
        page = render_template("patient/replaced.html", clinic=practice.policy(session))
    return make_response(page, GONE if request.method == "POST" else 200)
