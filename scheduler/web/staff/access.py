"""Who may open which page of the staff's. Closed by default: a page that names no role does not exist.

The cookie carries a random token, signed; the database says whether it still opens anything. After 15 idle minutes a
session is locked: the page that was asked for waits behind a password or a passkey, with what was typed.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar, cast

from cachetools import LRUCache, cached
from flask import Flask, Response, current_app, g, make_response, redirect, render_template, request, session, url_for
from flask_babel import lazy_gettext as _
from flask_wtf import CSRFProtect
from sqlalchemy import Engine
from werkzeug.wrappers import Response as BaseResponse

from scheduler.db import reading, transaction
from scheduler.errors import NotFound
from scheduler.models import Appointment, Role
from scheduler.services import practice, sign_in
from scheduler.services.audit import Actor
from scheduler.services.sign_in import Known, Standing
from scheduler.web.context import context
from scheduler.web.limiting import network
from scheduler.web.requests import CONTENT_SECURITY_POLICY
from scheduler.web.shared import state_of_rows
from scheduler.web.staff import passkeys

STAFF_PATHS = ("/staff", "/admin")
TOKEN = "token"  # noqa: S105 the name of what the cookie carries
ALLOWED, STRANGERS = "allowed", "open_to_strangers"
EVERYBODY = tuple(Role)
AT_THE_DESK = (Role.ADMIN, Role.FRONT_DESK)
SECRET = re.compile("csrf|password|credential|code")  # fields that no page carries on
View = TypeVar("View", bound=Callable[..., Any])
SESSIONS_KEPT = 1024
csrf = CSRFProtect()
WITHOUT_COOKIE = ("api", "visits")  # their pages read none, so there is nothing that another site could misuse
OWN_SCHEDULE = "schedule.day_or_week"
# The menu, of which everybody sees the pages that they may open; their own schedule if they have one.
MENU: tuple[tuple[str, Any], ...] = (
    (OWN_SCHEDULE, _("My schedule")),
    ("desk.today", _("Front desk")),
    ("desk.patients", _("Patients")),
    ("desk.calls", _("Calls")),
    ("clinic.overview", _("Admin")),
    ("reports.overview", _("Reports")),
    ("audit_log.search", _("Audit")),
    ("account.overview", _("My account")),
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Who may open a page; `everywhere` asks for an account for all locations besides."""

    roles: frozenset[Role]
    everywhere: bool

    def lets_in(self, somebody: "SignedIn") -> bool:
        return somebody.role in self.roles and not (self.everywhere and somebody.locations is not None)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who asks for a page; `locations` is None for everywhere, `therapist_id` None for whoever does not treat."""

    account_id: int
    name: str
    email: str
    role: Role
    therapist_id: int | None
    locations: frozenset[int] | None
    token: str

    @property
    def actor(self) -> Actor:
        return Actor.of(self.account_id, network())

    def works_at(self, location_id: int) -> bool:
        return self.locations is None or location_id in self.locations

    def may_open(self, visit: Appointment) -> bool:
        """Whether a visit is theirs to see: their own, and to whoever is no therapist all at their locations."""
        at_theirs = self.role is not Role.THERAPIST and self.works_at(visit.location_id)
        return at_theirs or visit.therapist_id == self.therapist_id

    def require_location(self, location_id: int) -> None:
        """Raise NotFound for a location that this account does not work for."""
        if not self.works_at(location_id):
            raise NotFound("There is no such location.")


def allowed(*roles: Role, everywhere: bool = False) -> Callable[[View], View]:
    """Say who may open a page of the staff's; `everywhere` for what concerns the whole clinic."""

    def mark(view: View) -> View:
        setattr(view, ALLOWED, Allowed(frozenset(roles), everywhere))
        return view

    return mark


def strangers(view: View) -> View:
    """Mark a page of the staff's that somebody opens who is not signed in, such as the sign-in itself."""
    setattr(view, STRANGERS, True)
    return view


def staff() -> SignedIn:
    """Who asked for this page."""
    return cast("SignedIn", g.staff)


def browser() -> str | None:
    """A name of this browser's session, for pages kept for it; none while a word waits to be said once."""
    return None if "_flashes" in session else staff().token


def install(app: Flask, *, https: bool) -> None:
    """Guard every page under the staff's paths; call it when all routes are known. Raises for one without roles."""
    app.config.update(
        SESSION_COOKIE_NAME="staff",
        SESSION_COOKIE_SECURE=https,
        SESSION_COOKIE_SAMESITE="Lax",
        WTF_CSRF_TIME_LIMIT=None,  # it lives as long as the session
        WTF_CSRF_SSL_STRICT=False,  # it asks for a Referer, which our pages never send
    )
    csrf.init_app(app)
    for blueprint in WITHOUT_COOKIE:
        csrf.exempt(app.blueprints[blueprint])
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(STAFF_PATHS) and not _marked(app.view_functions[rule.endpoint]):
            raise RuntimeError(f"{rule.rule} says neither who may open it nor that strangers may.")
    app.before_request(_guard)
    app.after_request(_private)
    app.jinja_env.globals.update(menu=_menu, staff=staff, home=home)


def _marked(view: object) -> bool:
    return hasattr(view, ALLOWED) or hasattr(view, STRANGERS)


def _guard() -> BaseResponse | None:
    view = current_app.view_functions.get(request.endpoint or "")
    if view is None or not request.path.startswith(STAFF_PATHS) or hasattr(view, STRANGERS):
        return None
    token, known = current()
    if known is None:
        return redirect(url_for("sign_in.sign_in", next=here()), 303)
    if not is_open(known):
        return locked(known, request.full_path.rstrip("?"), request.method, list(request.form.items(multi=True)))
    if not known.full:
        return redirect(url_for("sign_in.second_factor", next=here()), 303)
    g.staff = _signed_in(known, token)
    if not _lets_in(view):
        raise NotFound("There is no such page.")
    _note_seen(token, known)
    return None


def current() -> tuple[str, Known | None]:
    """The token of this browser, and who is behind it; None once the session is over."""
    token = str(session.get(TOKEN) or "")
    known = _known(context().engine, state_of_rows(), token) if token else None
    over = known is None or known.standing(context().clock.now()) is Standing.OVER
    return token, None if over else known


def is_open(known: Known) -> bool:
    """Whether somebody works in this session, and did not leave it alone."""
    return known.standing(context().clock.now()) is Standing.OPEN


@cached(LRUCache(SESSIONS_KEPT), lock=Lock())
def _known(engine: Engine, _state: str, token: str) -> Known | None:
    """Read once for as long as nothing in the database changes: no ended session outlives its end."""
    with reading(engine) as database:
        return sign_in.known(database, token)


def here() -> str:
    """This page's address, to come back to."""
    return request.full_path.rstrip("?") if request.method == "GET" else home()


def home() -> str:
    """The first page of whoever is signed in."""
    return f"{request.script_root}/staff/"


def safe(path: str | None) -> str:
    """A page of our staff's to go on with; the first one for an address that is anything else."""
    own = path is not None and path.startswith(STAFF_PATHS) and "\\" not in path and path.isprintable()
    return path if own and path is not None else home()


def locked(
    known: Known, path: str, method: str, typed: Sequence[tuple[str, str]], problem: str | None = None
) -> Response:
    """Ask whether it is still they; what was typed waits in the form that asks, but for what no page carries on."""
    carried = [pair for pair in typed if not SECRET.search(pair[0])]
    with reading(context().engine) as database:
        clinic = practice.policy(database)
    page = render_template(
        "staff/locked.html",
        clinic=clinic,
        account=known.account,
        carried=carried,
        path=path,
        method=method,
        problem=problem,
        options=passkeys.to_sign_in(),
    )
    return make_response(page, 403)


def _signed_in(known: Known, token: str) -> SignedIn:
    account = known.account
    return SignedIn(
        account_id=account.id,
        name=account.name,
        email=account.email,
        role=Role(account.role),
        therapist_id=account.therapist_id,
        locations=known.locations,
        token=token,
    )


def _note_seen(token: str, known: Known) -> None:
    """Note that somebody is at work, at most once a minute: it is a write for every page otherwise."""
    now = context().clock.now()
    if now - known.seen_at >= sign_in.SEEN_EVERY:
        with transaction(context().engine) as database:
            sign_in.see(database, token, now=now)


def _menu() -> list[tuple[str, str, bool]]:
    """What of the menu this account may open: address, name, and whether it is this page."""
    hidden = None if staff().role is Role.THERAPIST or staff().therapist_id is not None else OWN_SCHEDULE
    shown = ((page, name) for page, name in MENU if page != hidden)
    open_to_me = ((page, name) for page, name in shown if _lets_in(current_app.view_functions[page]))
    return [(url_for(page), str(name), request.endpoint == page) for page, name in open_to_me]


def _lets_in(view: object) -> bool:
    return cast("Allowed", getattr(view, ALLOWED)).lets_in(staff())


def _private(response: Response) -> Response:
    """What staff see is kept by no cache; their pages may ask our server whether a session is still open."""
    if request.path.startswith(STAFF_PATHS):
        response.headers["Cache-Control"] = "no-store"
        response.headers["Content-Security-Policy"] = f"{CONTENT_SECURITY_POLICY}; connect-src 'self'"
    return response
