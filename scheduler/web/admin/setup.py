"""The link that a new installation prints: it makes the first administrator, and is of no use from then on."""

from typing import Any

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, session, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from werkzeug.wrappers import Response as BaseResponse
from wtforms import EmailField, StringField

from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.models import Account, Role
from scheduler.services import accounts, opening, practice
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.web import schemas
from scheduler.web.context import context
from scheduler.web.forms import AN_EMAIL, Like
from scheduler.web.language import language
from scheduler.web.limiting import network
from scheduler.web.staff.forms import NewPasswordForm

pages = APIBlueprint("setup", __name__, url_prefix="/setup", enable_openapi=False)


class SetupForm(NewPasswordForm):
    name = StringField(_("Your name"), [Like(schemas.Name, _("Write your name."))])
    email = EmailField(
        _("E-mail"),
        [AN_EMAIL],
        description=_("You sign in with it."),
    )

    def __init__(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 as WTForms has it
        """In the order of the page, which is the order of its mistakes too."""
        super().__init__(*args, **more)
        for last in ("password", "again"):
            self._fields[last] = self._fields.pop(last)


@pages.get("/<token>")
def setup_page(token: str) -> Response:
    with reading(context().engine) as database:
        opening.require_setup(database, token, keys=context().keys)
    return _page(SetupForm())


@pages.post("/<token>")
def set_up(token: str) -> BaseResponse:
    """Make the first administrator, and lead to the sign-in."""
    form = SetupForm()
    with reading(context().engine) as database:
        opening.require_setup(database, token, keys=context().keys)
    if not form.validate() or not form.is_good(Account(email=form.email.data, name=form.name.data)):
        return _page(form, 422)
    new = AccountDetails(form.email.data, form.name.data, Role.ADMIN, language=language())
    password_hash = accounts.hashed(form.password.data)
    by, now = Actor(opening.SETUP, network()), context().clock.now()
    try:
        with transaction(context().engine) as database:
            opening.add_first_admin(database, token, new, password_hash, by=by, keys=context().keys, now=now)
    except Invalid as refusal:
        form.email.errors = [gettext(refusal.message)]
        return _page(form, 422)
    session.clear()
    flash(gettext("Your account is made. Sign in with it now."))
    return redirect(url_for("sign_in.sign_in", next=url_for("moving_in.checklist")), 303)


@pages.after_request
def _private(answer: Response) -> Response:
    """The link is a secret: what stands behind it is kept by no cache."""
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _page(form: SetupForm, status: int = 200) -> Response:
    with reading(context().engine) as database:
        clinic = practice.policy(database)
    return make_response(render_template("admin/setup.html", clinic=clinic, form=form), status)
