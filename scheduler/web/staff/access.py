"""Who may open which page of the staff's. Closed by default: a page that names no role does not exist.

The cookie carries a random token, signed; the database says whether it still opens anything. After 15 idle minutes a
session is locked: the page that was asked for waits behind a password or a passkey, with what was typed.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

from cachetools import LRUCache, cached
from cryptography.fernet import InvalidToken
from flask import (
    Flask,
    Request,
    Response,
    current_app,
    g,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from flask_wtf import CSRFProtect
from sqlalchemy import Engine
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as BaseResponse

from scheduler.db import reading, transaction
from scheduler.errors import NotFound
from scheduler.models import Appointment, Role
from scheduler.services import practice, sign_in
from scheduler.services.audit import Actor
from scheduler.services.sign_in import Known, Standing
from scheduler.web.context import context, now
from scheduler.web.limiting import network
from scheduler.web.requests import CONTENT_SECURITY_POLICY
from scheduler.web.shared import state_of_rows
from scheduler.web.staff import passkeys

STAFF_PATHS, API_PATH = ("/staff", "/admin"), "/api/"
TOKEN = "token"  # noqa: S105 the name of what the cookie carries
ALLOWED, STRANGERS, PROVED = "allowed", "open_to_strangers", "proved_lately"
EVERYBODY = tuple(Role)
AT_THE_DESK = (Role.ADMIN, Role.FRONT_DESK)
SECRET = re.compile("csrf|password|credential|code|current|again")  # fields that no page carries on
TYPED = "unlock_typed"  # carries on all others, sealed: a locked page shows nobody what its owner typed
View = TypeVar("View", bound=Callable[..., Any])
SESSIONS_KEPT = 1024
LONGEST_FORM = 10_000_000  # bytes: a file of five million that cannot be packed, sealed while its page is locked
csrf = CSRFProtect()
WITHOUT_COOKIE = (
    "api",
    "patient",
    "visits",
    "moves",
    "my_visits",
)  # their pages read none, so there is nothing that another site could misuse
OWN_SCHEDULE = "schedule.day_or_week"
# The menu, of which everybody sees the pages that they may open; their own schedule if they have one.
MENU: tuple[tuple[str, Any], ...] = (
    (OWN_SCHEDULE, _("My schedule")),
    ("desk.today", _("Front desk")),
    ("desk.patients", _("Patients")),
    ("desk.calls", _("Calls")),
    ("questions.waiting", _("Questions")),
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


def proved_lately(view: View) -> View:
    """Mark a page that changes somebody's ways in: it asks again who they are, unless they have just shown it."""
    setattr(view, PROVED, True)
    return view


def staff() -> SignedIn:
    """Who asked for this page."""
    return cast("SignedIn", g.staff)


def browser() -> str | None:
    """A name of this browser's session, for pages kept for it; none while a word waits to be said once.

    It tells from where, since it is on record from where a page was read.
    """
    return None if "_flashes" in session else f"{staff().token} {network()}"


def take_long_forms() -> None:
    """Let long forms through, before anything reads them, of whoever has at least been signed in."""
    if session.get(TOKEN):
        request.max_content_length = request.max_form_memory_size = LONGEST_FORM


class Sessions(SecureCookieSessionInterface):
    """The staff's cookies, as Flask signs them, by a signer that is made once; the API has none, and none is read."""

    def __init__(self) -> None:
        self.signer: Any = None

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        return self.make_null_session(app) if request.path.startswith(API_PATH) else super().open_session(app, request)

    def get_signing_serializer(self, app: Flask) -> Any:  # noqa: ANN401 Flask's signature
        self.signer = self.signer or super().get_signing_serializer(app)
        return self.signer


def install(app: Flask, *, https: bool) -> None:
    """Guard every page under the staff's paths; call it when all routes are known. Raises for one without roles."""
    app.config.update(
        SESSION_COOKIE_NAME="staff",
        SESSION_COOKIE_SECURE=https,
        SESSION_COOKIE_SAMESITE="Lax",
        WTF_CSRF_TIME_LIMIT=None,  # it lives as long as the session
        WTF_CSRF_SSL_STRICT=False,  # it asks for a Referer, which our pages never send
    )
    app.session_interface = Sessions()
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
    if view is None or not request.path.startswith(STAFF_PATHS):
        return None
    token, known = current()
    answer = _stopped(view, known)
    if answer is not None or known is None or hasattr(view, STRANGERS):
        return answer
    g.staff = _signed_in(known, token)
    if request.form.get(TYPED):
        _typed_again(known)
    if not _lets_in(view):
        raise NotFound("There is no such page.")
    _note_seen(token, known)
    return None


def _stopped(view: object, known: Known | None) -> BaseResponse | None:
    """What somebody must do before this page: sign in, unlock, give a second factor, or show again who they are."""
    if hasattr(view, PROVED) and known is not None and is_open(known) and not known.proved_lately(now()):
        return _locked(known, gettext("Before you change how you sign in, show that it is still you."))
    if hasattr(view, STRANGERS):
        return None
    if known is None:
        return redirect(url_for("sign_in.sign_in", next=here()), 303)
    if not is_open(known):
        return _locked(known)
    if not known.full:
        return redirect(url_for("sign_in.second_factor", next=here()), 303)
    return None


def _locked(known: Known, reason: str | None = None) -> Response:
    """Lock this very page."""
    typed = request.form.get(TYPED) or sealed(known, request.form.items(multi=True))
    return locked(known, request.full_path.rstrip("?"), request.method, typed, reason=reason)


def sealed(known: Known, typed: Iterable[tuple[str, str]]) -> str:
    """What was typed, for its owner's eyes: nothing where there is nothing."""
    carried = [pair for pair in typed if not SECRET.search(pair[0]) and not pair[0].startswith("unlock_")]
    return (context().keys.seal(json.dumps([known.account.id, carried])) or b"").decode() if carried else ""


def _typed_again(known: Known) -> None:
    """Take from a form that was carried through the lock what its owner had typed before."""
    try:
        whose, typed = json.loads(context().keys.open(request.form[TYPED].encode()) or "[0, []]")
    except InvalidToken as error:
        raise BadRequest("This form is not ours.") from error
    if whose == known.account.id:
        request.form = ImmutableMultiDict([(str(name), str(value)) for name, value in typed])


def current() -> tuple[str, Known | None]:
    """The token of this browser, and who is behind it; None once the session is over."""
    token = str(session.get(TOKEN) or "")
    known = _known(context().engine, state_of_rows(), token) if token else None
    over = known is None or known.standing(now()) is Standing.OVER
    return token, None if over else known


def is_open(known: Known) -> bool:
    """Whether somebody works in this session, and did not leave it alone."""
    return known.standing(now()) is Standing.OPEN


@cached(LRUCache(SESSIONS_KEPT), lock=Lock())
def _known(engine: Engine, _state: str, token: str) -> Known | None:
    """Read once for as long as nothing in the database changes: no ended session outlives its end."""
    with reading(engine) as database:
        return sign_in.known(database, token)


def here() -> str:
    """This page's address, to come back to; without what was looked for, which may be somebody's name."""
    if request.method != "GET":
        return home()
    asked = [(name, value) for name, value in request.args.items(multi=True) if name != "q"]
    return request.script_root + request.path + (f"?{urlencode(asked)}" if asked else "")


def home() -> str:
    """The first page of whoever is signed in."""
    return f"{request.script_root}/staff/"


def safe(path: str | None) -> str:
    """A page of our staff's to go on with; the first one for an address that is anything else."""
    own = path is not None and path.startswith(STAFF_PATHS) and not re.search(r"\\|\.\.", path) and path.isprintable()
    return path if own and path is not None else home()


def locked(
    known: Known, path: str, method: str, typed: str, *, problem: str | None = None, reason: str | None = None
) -> Response:
    """Ask whether it is still they; what was typed waits in the form that asks, sealed."""
    with reading(context().engine) as database:
        clinic = practice.policy(database)
    page = render_template(
        "staff/locked.html",
        clinic=clinic,
        account=known.account,
        typed=typed,
        path=path,
        method=method,
        problem=problem,
        reason=reason,
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
    if now() - known.seen_at >= sign_in.SEEN_EVERY:
        with transaction(context().engine) as database:
            sign_in.see(database, token, now=now())


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
