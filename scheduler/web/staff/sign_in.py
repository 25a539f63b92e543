"""Signing in and out, setting the first password, and coming back to a session that locked itself."""

from typing import Any

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, request, session, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from flask_wtf.csrf import generate_csrf
from werkzeug.wrappers import Response as BaseResponse
from wtforms import EmailField, HiddenField, PasswordField, StringField
from wtforms.validators import DataRequired, Length

from scheduler.db import reading, transaction
from scheduler.errors import TooMany
from scheduler.models import Account
from scheduler.services import accounts, audit, practice, second_factor, sign_in
from scheduler.services.audit import Actor
from scheduler.services.sign_in import Known
from scheduler.web.context import context, now
from scheduler.web.limiting import network
from scheduler.web.problems import retry_later
from scheduler.web.staff import passkeys, proof
from scheduler.web.staff.access import (
    EVERYBODY,
    TOKEN,
    TYPED,
    allowed,
    current,
    is_open,
    locked,
    safe,
    strangers,
    take_long_forms,
)
from scheduler.web.staff.forms import NewPasswordForm, StaffForm

pages = APIBlueprint("sign_in", __name__, url_prefix="/staff", enable_openapi=False)
WRONG = _("This e-mail address and password do not belong together.")
OFFER = "offer"  # in the cookie: to offer a second factor once, after the first password was set


class SignInForm(StaffForm):
    email = EmailField(_("E-mail"), [DataRequired(_("Write your e-mail address.")), Length(max=254)])
    password = PasswordField(_("Password"), [DataRequired(_("Write your password.")), Length(max=accounts.LONGEST)])
    next = HiddenField()


class PasskeyForm(StaffForm):
    credential = HiddenField()
    next = HiddenField()


class CodeForm(StaffForm):
    code = StringField(
        _("Code"),
        [DataRequired(_("Write the code.")), Length(max=40)],
        description=_("The six digits that your app shows, or one of your printed recovery codes."),
    )
    next = HiddenField()


@pages.url_value_preprocessor
def _longer(endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """What was typed goes through the lock, a file too."""
    if endpoint == "sign_in.unlock":
        take_long_forms()


@pages.get("/sign-in", endpoint="sign_in")
@strangers
def sign_in_page() -> Response:
    return _page("staff/sign_in.html", SignInForm(data={"next": safe(request.args.get("next"))}))


@pages.post("/sign-in")
@strangers
def sign_in_with_password() -> BaseResponse:
    """Let somebody in; who is unknown, and who is known with a wrong password, is told the same in the same time."""
    form = SignInForm()
    if not form.validate():
        return _page("staff/sign_in.html", form, 422)
    email = form.email.data.strip()
    try:
        account = proof.by_password(email, form.password.data)
    except TooMany as refusal:
        form.password.errors = [str(proof.TOO_OFTEN)]
        return retry_later(_page("staff/sign_in.html", form, 429), refusal.retry_after)
    if account is None:
        form.password.errors = [str(WRONG)]
        return _page("staff/sign_in.html", form, 422)
    return _let_in(account, safe(form.next.data), by_passkey=False)


@pages.post("/sign-in/passkey")
@strangers
def sign_in_with_passkey() -> BaseResponse:
    """Let in whoever signs with a passkey: that is something they have, and their finger or face."""
    form = PasskeyForm()
    account = proof.by_passkey(form.credential.data or "") if form.validate() else None
    if account is None:
        again = SignInForm(formdata=None, data={"next": safe(form.next.data)})
        again.password.errors = [gettext("The passkey was not accepted. Try again, or use your password.")]
        return _page("staff/sign_in.html", again, 422)
    return _let_in(account, safe(form.next.data), by_passkey=True)


@pages.post("/sign-out")
@strangers
def sign_out() -> BaseResponse:
    token, known = current()
    if known is not None:
        with transaction(context().engine) as database:
            sign_in.end(database, token)
            by = Actor.of(known.account.id, network())
            audit.record(database, "account.signed_out", known.account, by=by, now=now())
    session.clear()
    return redirect(url_for("sign_in.sign_in"), 303)


@pages.get("/second-factor", endpoint="second_factor")
@strangers
def second_factor_page() -> BaseResponse:
    """Ask for what somebody has beside their password."""
    _token, known = _half_in()
    if known is None:
        return redirect(url_for("sign_in.sign_in", next=safe(request.args.get("next"))), 303)
    with reading(context().engine) as database:
        enrolled = second_factor.has_one(database, known.account)
    if not enrolled:
        return redirect(url_for("account.offer", next=safe(request.args.get("next"))), 303)
    return _page("staff/second_factor.html", CodeForm(data={"next": safe(request.args.get("next"))}))


@pages.post("/second-factor")
@strangers
def second_factor_given() -> BaseResponse:
    token, known = _half_in()
    if known is None:
        return redirect(url_for("sign_in.sign_in"), 303)
    form = CodeForm()
    if not form.validate():
        return _page("staff/second_factor.html", form, 422)
    try:
        right = proof.by_code(known.account, form.code.data)
    except TooMany as refusal:
        form.code.errors = [str(proof.TOO_OFTEN)]
        return retry_later(_page("staff/second_factor.html", form, 429), refusal.retry_after)
    if not right:
        form.code.errors = [gettext("This code is wrong, or was used already.")]
        return _page("staff/second_factor.html", form, 422)
    with transaction(context().engine) as database:
        session[TOKEN] = sign_in.complete(database, token, now=now())
    return redirect(safe(form.next.data), 303)


@pages.get("/still-here")
@allowed(*EVERYBODY)
def still_here() -> Response:
    """Keep a session open while somebody types; the guard has noted that they were seen."""
    return Response(status=204)


@pages.get("/passkey-options")
@strangers
def passkey_options() -> Response:
    """What a passkey has to sign to open a page that locked itself."""
    return Response(passkeys.to_sign_in(), mimetype="application/json")


@pages.post("/unlock")
@strangers
def unlock() -> BaseResponse:
    """Open a session that locked itself, by password or passkey, and go on where it was with what was typed."""
    token, known = current()
    path = safe(request.form.get("unlock_path"))
    if known is None:
        return redirect(url_for("sign_in.sign_in", next=path), 303)
    account = known.account
    try:
        right = _shows_again(account, token)
    except TooMany:
        right, problem = False, str(proof.TOO_OFTEN)
    else:
        problem = gettext("That was not right. Try again.")
    if not right:
        typed = request.form.get(TYPED, "")
        return locked(known, path, request.form.get("unlock_method", "GET"), typed, problem=problem)
    with transaction(context().engine) as database:
        sign_in.see(database, token, proved=True, now=now())
    if request.accept_mimetypes.best == "application/json":
        return Response(status=204)
    return redirect(path, 307 if request.form.get("unlock_method") == "POST" else 303)


def _shows_again(account: Account, token: str) -> bool:
    """Whether this is the owner of the account, by password or passkey."""
    credential = request.form.get("unlock_credential")
    if credential:
        found = proof.by_passkey(credential)
    else:
        typed = request.form.get("unlock_password", "")[: accounts.LONGEST]
        found = proof.by_password(account.email, typed, session_token=token)
    return found is not None and found.id == account.id


@pages.get("/set-password/<token>")
@strangers
def set_password_page(token: str) -> Response:
    with reading(context().engine) as database:
        account = accounts.of_token(database, token, keys=context().keys, now=now())
    return _page("staff/set_password.html", NewPasswordForm(), account=account)


@pages.post("/set-password/<token>")
@strangers
def set_password(token: str) -> BaseResponse:
    """Set the first or a forgotten password; the link has done its work then."""
    form = NewPasswordForm()
    with reading(context().engine) as database:
        account = accounts.of_token(database, token, keys=context().keys, now=now())
    if not form.validate() or not form.is_good(account):
        return _page("staff/set_password.html", form, 422, account=account)
    password_hash = accounts.hashed(form.password.data)
    with transaction(context().engine) as database:
        account = accounts.of_token(database, token, keys=context().keys, now=now(), to_set=True)
        accounts.set_password(database, account, password_hash, by=Actor.of(account.id, network()), now=now())
        sign_in.forgive(database, [sign_in.tries_of_mail(account.email)])
    session.clear()
    session[OFFER] = True
    flash(gettext("Your password is set. Sign in with it now."))
    return redirect(url_for("sign_in.sign_in"), 303)


def _let_in(account: Account, path: str, *, by_passkey: bool) -> BaseResponse:
    """Begin a session; it opens pages at once unless a second factor is there or has to be made."""
    by = Actor.of(account.id, network())
    with transaction(context().engine) as database:
        full = by_passkey or not (account.needs_second_factor or second_factor.has_one(database, account))
        token = sign_in.begin(database, account, full=full, now=now())
        audit.record(database, "account.signed_in", account, by=by, now=now(), passkey=by_passkey)
    offer = session.get(OFFER)
    session.clear()  # nothing that was there before, such as another's token, goes on
    session[TOKEN] = token
    generate_csrf()  # now, so that pages that load side by side share it
    if not full:
        return redirect(url_for("sign_in.second_factor", next=path), 303)
    return redirect(url_for("account.offer", next=path) if offer and not by_passkey else path, 303)


def _half_in() -> tuple[str, Known | None]:
    """Whoever gave their password and has yet to show their second factor."""
    token, known = current()
    return token, known if known is not None and not known.full and is_open(known) else None


def _page(template: str, form: StaffForm, status: int = 200, **more: object) -> Response:
    with reading(context().engine) as database:
        clinic = practice.policy(database)
    page = render_template(template, clinic=clinic, form=form, options=passkeys.to_sign_in(), **more)
    return make_response(page, status)
