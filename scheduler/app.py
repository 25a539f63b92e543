"""create_app puts the web application together; it never touches the database."""

from collections.abc import Callable
from typing import Any

from apiflask import APIFlask
from flask.json.provider import JSONProvider
from sqlalchemy import Engine
from werkzeug.middleware.proxy_fix import ProxyFix

from config import ROOT, Settings
from scheduler.clock import Clock
from scheduler.keys import Keyring
from scheduler.web import assets, language, limiting, moves, my_visits, openapi, problems, requests
from scheduler.web.admin import access as access_board
from scheduler.web.admin import (
    audit_log,
    away,
    claims,
    clinic,
    levers,
    moving_in,
    people,
    privacy,
    protection,
    reports,
    setup,
)
from scheduler.web.api import api
from scheduler.web.context import Context
from scheduler.web.feeds import feeds
from scheduler.web.ops import ops
from scheduler.web.patient import patient
from scheduler.web.staff import (
    access,
    account,
    calendar_feed,
    desk,
    desk_booking,
    desk_moves,
    explain,
    follow_up,
    questions,
    schedule,
    series,
    sign_in,
    time_off,
    twins,
)
from scheduler.web.strict_json import StrictJson
from scheduler.web.visits import visits

LARGEST_BODY = 64 * 1024
DESCRIPTION = "Book physical-therapy visits. Errors are RFC 9457 problems; ids are opaque strings."
PAGES = (
    sign_in,
    account,
    schedule,
    follow_up,
    calendar_feed,
    time_off,
    desk,
    desk_booking,
    series,
    desk_moves,
    questions,
    twins,
    reports,
    access_board,
    claims,
    protection,
    levers,
    audit_log,
    clinic,
    people,
    away,
    explain,
    moving_in,
    privacy,
    setup,
)


class Application(APIFlask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: nothing here is asynchronous, and to look costs each request as much as its cookie."""
        return func

    def log_exception(self, _exc_info: object) -> None:
        """Nothing: the request's own log line tells it, and names the route where Flask's would name the token."""


def create_app(settings: Settings, engine: Engine, clock: Clock) -> APIFlask:
    app = _application(settings)
    https = settings.base_url.startswith("https://")
    language.install(app)
    assets.install(app)
    keys = Keyring.of(settings.link_keys, settings.field_keys)
    app.extensions["scheduler"] = Context(settings, engine, clock, keys, started_at=clock.now())
    requests.install(app, https=https)
    problems.install(app)
    for blueprint in (api, feeds, ops, patient, visits, moves.pages, my_visits.pages, *(page.pages for page in PAGES)):
        app.register_blueprint(blueprint)
    access.install(app, https=https)
    if settings.rate_limits:
        limiting.install(app)
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    return app


def _application(settings: Settings) -> Application:
    """The bare application: how it reads and writes, with nothing yet to answer."""
    app = Application(
        "scheduler",
        title="Physical-therapy scheduler",
        version="1",
        spec_path="/api/openapi.json",
        docs_path=None,
        json_errors=False,
        template_folder=str(ROOT / "templates"),
        static_folder=str(ROOT / "scheduler" / "web" / "static"),
    )
    provider: type[JSONProvider] = StrictJson
    app.json = provider(app)
    app.config.update(
        SECRET_KEY=settings.secret_key,
        MAX_CONTENT_LENGTH=LARGEST_BODY,
        MAX_FORM_MEMORY_SIZE=LARGEST_BODY,
        OPENAPI_VERSION="3.1.0",
        SERVERS=[{"url": settings.base_url}],  # else the first caller's Host header would stand there for everybody
        DESCRIPTION=DESCRIPTION,
        AUTO_VALIDATION_ERROR_RESPONSE=False,
        AUTO_404_RESPONSE=False,
    )
    app.spec_processor(openapi.describe)
    app.url_map.merge_slashes = False  # what is not a route is a 404, not a redirect
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    return app
