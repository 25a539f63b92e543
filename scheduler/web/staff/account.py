"""One's own account: password, passkeys, the phone's app, codes on paper, and where one is signed in."""

from collections.abc import Callable

import segno
from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, request, session, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse
from wtforms import HiddenField, PasswordField, StringField
from wtforms.validators import DataRequired, Length

from scheduler.db import reading, transaction
from scheduler.errors import Conflict, Invalid, TooMany
from scheduler.models import Account
from scheduler.services import accounts, audit, feeds, practice, second_factor, sign_in
from scheduler.services.audit import Actor
from scheduler.web.context import context, now
from scheduler.web.limiting import network
from scheduler.web.problems import retry_later
from scheduler.web.staff import passkeys, proof
from scheduler.web.staff.access import (
    EVERYBODY,
    TOKEN,
    allowed,
    current,
    is_open,
    proved_lately,
    safe,
    staff,
    strangers,
)
from scheduler.web.staff.forms import NewPasswordForm, StaffForm

pages = APIBlueprint("account", __name__, url_prefix="/staff/account", enable_openapi=False)
SECRET = "app_secret"  # noqa: S105 in the cookie, until the app has shown its first code


class AppForm(StaffForm):
    code = StringField(_("Code"), [DataRequired(_("Write the six digits that your app shows.")), Length(max=20)])
    next = HiddenField()


class PasskeyForm(StaffForm):
    name = StringField(
        _("Name of this passkey"),
        [DataRequired(_("Give it a name.")), Length(max=100)],
        description=_("Such as: my phone."),
    )
    credential = HiddenField()
    next = HiddenField()


class PasswordForm(NewPasswordForm):
    current = PasswordField(_("Your password now"), [DataRequired(_("Write the password that you have now."))])


@pages.get("/", endpoint="overview")
@allowed(*EVERYBODY)
def overview() -> Response:
    """One's ways in, to change or take away."""
    return _overview(PasswordForm(formdata=None))


@pages.post("/password")
@allowed(*EVERYBODY)
def change_password() -> BaseResponse:
    """Change the password of whoever knows the one before; every other place is signed out."""
    form = PasswordForm()
    with reading(context().engine) as database:
        account = database.get_one(Account, staff().account_id)
    if not form.validate() or not form.is_good(account):
        return _overview(form, 422)
    try:
        known = proof.by_password(account.email, form.current.data, session_token=staff().token)
    except TooMany as refusal:
        form.current.errors = [str(proof.TOO_OFTEN)]
        return retry_later(_overview(form, 429), refusal.retry_after)
    if known is None:
        form.current.errors = [gettext("This is not your password.")]
        return _overview(form, 422)
    password_hash = accounts.hashed(form.password.data)
    with transaction(context().engine) as database:
        account = database.get_one(Account, account.id)
        accounts.set_password(database, account, password_hash, by=staff().actor, now=now())
        session[TOKEN] = sign_in.begin(database, account, full=True, now=now())
    flash(gettext("Your password is changed. Other browsers are signed out."))
    return redirect(url_for("account.overview"), 303)


@pages.post("/sign-out-everywhere")
@allowed(*EVERYBODY)
def sign_out_everywhere() -> BaseResponse:
    with transaction(context().engine) as database:
        account = database.get_one(Account, staff().account_id)
        accounts.sign_out_everywhere(database, account)
        feeds.revoke(database, account.id, by=staff().actor, now=now())
        audit.record(database, "account.signed_out_everywhere", account, by=staff().actor, now=now())
    session.clear()
    return redirect(url_for("sign_in.sign_in"), 303)


@pages.get("/second-factor")
@strangers
@proved_lately
def offer() -> BaseResponse:
    """Offer a passkey or an app; to whoever must have a second factor it is the only page."""
    _token, account = _enrolling()
    return _offer(account) if account is not None else _to_sign_in()


@pages.post("/passkey")
@strangers
@proved_lately
def add_passkey() -> BaseResponse:
    token, account = _enrolling()
    if account is None:
        return _to_sign_in()
    form = PasskeyForm()
    challenge = passkeys.asked() if form.validate() else None
    verified = passkeys.added(form.credential.data or "", challenge) if challenge else None
    if challenge is not None and verified is not None:
        with transaction(context().engine) as database:
            if second_factor.take_challenge(database, challenge, now=now()):
                own, by = database.get_one(Account, account.id), Actor.of(account.id, network())
                second_factor.add_passkey(database, own, form.name.data, verified, by=by, now=now())
                return _enrolled(database, token, own, safe(form.next.data))
    form.name.errors = form.name.errors or [gettext("The passkey could not be made. Try again.")]
    return _offer(account, 422, passkey=form)


@pages.post("/app")
@strangers
@proved_lately
def add_app() -> BaseResponse:
    token, account = _enrolling()
    if account is None:
        return _to_sign_in()
    form = AppForm()
    if not form.validate():
        return _offer(account, 422, app=form)
    secret, code = _secret(), form.code.data.replace(" ", "")
    try:
        with transaction(context().engine) as database:
            own = database.get_one(Account, account.id)
            keys = context().keys
            second_factor.keep_secret(database, own, secret, code, by=Actor.of(own.id, network()), keys=keys, now=now())
            answer = _enrolled(database, token, own, safe(form.next.data))
    except Invalid:
        form.code.errors = [gettext("This is not the code that your app shows now. Is the clock of your phone right?")]
        return _offer(account, 422, app=form)
    session.pop(SECRET, None)
    return answer


@pages.post("/app/remove")
@allowed(*EVERYBODY)
@proved_lately
def remove_app() -> BaseResponse:
    def remove(database: Session, account: Account) -> None:
        second_factor.forget_app(database, account, by=staff().actor, now=now())

    return _removed(remove)


@pages.post("/passkey/<int:passkey_id>/remove")
@allowed(*EVERYBODY)
@proved_lately
def remove_passkey(passkey_id: int) -> BaseResponse:
    def remove(database: Session, account: Account) -> None:
        second_factor.remove_passkey(database, account, passkey_id, by=staff().actor, now=now())

    return _removed(remove)


@pages.post("/paper-codes")
@allowed(*EVERYBODY)
@proved_lately
def new_paper_codes() -> Response:
    """Make new codes; they stand on this one page only."""
    with transaction(context().engine) as database:
        account = database.get_one(Account, staff().account_id)
        codes = second_factor.new_paper_codes(database, account, by=staff().actor, now=now())
        return _paper(database, codes, url_for("account.overview"))


def _removed(remove: Callable[[Session, Account], None]) -> BaseResponse:
    """Take a way in away, unless it is the last that the account must have."""
    try:
        with transaction(context().engine) as database:
            remove(database, database.get_one(Account, staff().account_id))
    except Conflict:
        flash(gettext("Your account needs a second factor: add another before you remove the last."))
    return redirect(url_for("account.overview"), 303)


def _overview(form: PasswordForm, status: int = 200) -> Response:
    with reading(context().engine) as database:
        account = database.get_one(Account, staff().account_id)
        page = render_template(
            "staff/account.html",
            clinic=practice.policy(database),
            account=account,
            form=form,
            own_passkeys=second_factor.passkeys(database, account),
            paper_codes=second_factor.paper_codes_left(database, account),
            remove=StaffForm(formdata=None),
        )
    return make_response(page, status)


def _enrolling() -> tuple[str, Account | None]:
    """Whoever may add a second factor: signed in fully, or by password where there is none yet."""
    token, known = current()
    if known is None or not is_open(known):
        return token, None
    with reading(context().engine) as database:
        enrolled = second_factor.has_one(database, known.account)
    return token, known.account if known.full or not enrolled else None


def _offer(
    account: Account, status: int = 200, *, app: AppForm | None = None, passkey: PasskeyForm | None = None
) -> Response:
    to = safe(request.form.get("next") or request.args.get("next"))
    secret = _secret()
    with reading(context().engine) as database:
        clinic = practice.policy(database)
        there = list(second_factor.passkeys(database, account))
    picture = segno.make(second_factor.address_of(secret, account, clinic.clinic_name), micro=False)
    page = render_template(
        "staff/offer.html",
        clinic=clinic,
        account=account,
        app=app or AppForm(formdata=None, data={"next": to}),
        passkey=passkey or PasskeyForm(formdata=None, data={"next": to}),
        options=passkeys.to_add(account, clinic.clinic_name, there),
        picture=picture.svg_data_uri(scale=5, border=2),
        secret=secret,
        to=to,
    )
    return make_response(page, status)


def _secret() -> str:
    """The app's secret until it has shown its first code: in the cookie, where nobody can read it."""
    if SECRET not in session:
        session[SECRET] = (context().keys.seal(second_factor.new_secret()) or b"").decode()
    return context().keys.open(session[SECRET].encode()) or ""


def _enrolled(database: Session, token: str, account: Account, path: str) -> BaseResponse:
    """Open all pages to a session whose owner has just made a second factor; give codes on paper with the first."""
    session[TOKEN] = sign_in.complete(database, token, now=now())
    if second_factor.paper_codes_left(database, account):
        return redirect(path, 303)
    codes = second_factor.new_paper_codes(database, account, by=Actor.of(account.id, network()), now=now())
    return _paper(database, codes, path)


def _paper(database: Session, codes: list[str], path: str) -> Response:
    return make_response(
        render_template("staff/paper_codes.html", clinic=practice.policy(database), codes=codes, to=path)
    )


def _to_sign_in() -> BaseResponse:
    return redirect(url_for("sign_in.sign_in", next=safe(request.args.get("next"))), 303)
