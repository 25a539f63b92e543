"""My visits: an address is asked for, a link goes to it and opens the list. No page says whether there are any."""

from apiflask import APIBlueprint
from flask import Response, make_response, redirect, render_template, request, url_for
from flask_babel import lazy_gettext as _
from werkzeug.wrappers import Response as BaseResponse
from wtforms import EmailField

from scheduler.db import reading, transaction
from scheduler.services import limits, practice
from scheduler.services import my_visits as listed
from scheduler.web import links
from scheduler.web.context import context
from scheduler.web.forms import AN_EMAIL, Form
from scheduler.web.language import language
from scheduler.web.limiting import counted_address, hashed
from scheduler.web.times import shown_visit

pages = links.guarded(APIBlueprint("my_visits", __name__, url_prefix="/my-visits", enable_openapi=False))


class AskForm(Form):
    class Meta:
        csrf = False

    email = EmailField(_("E-mail"), [AN_EMAIL], description=_("The address that you gave when you booked."))


@pages.get("")
def form() -> Response:
    """Ask for an address, or say that a link is on its way, if there is anything to list."""
    return _page(AskForm(formdata=None), asked="asked" in request.args)


@pages.post("")
def ask() -> BaseResponse:
    """Take the address down and answer at once: whether it has visits is only looked up when the message goes."""
    typed, now, address = AskForm(), context().clock.now(), counted_address()
    if not typed.validate():
        return _page(typed, status=422)
    email = typed.email.data
    with transaction(context().engine) as session:
        told = {"address_hash": hashed(f"visits of {email.lower()}"), "language": language()}
        listed.ask(session, email, keys=context().keys, now=now, **told)
        if address is not None:  # last, since it locks the address's row until the end
            limits.count_asking(session, address, now=now)
    return redirect(url_for("my_visits.form", asked=1), 303)


@pages.get("/<token>")
def visits(token: str) -> Response:
    """The coming visits of the address that the link was sent to, each with its own page."""
    now, keys = context().clock.now(), context().keys
    with reading(context().engine) as session:
        clinic = practice.policy(session)
        try:
            found = listed.opened(session, token, keys=keys, now=now)
        except listed.Expired:
            return make_response(render_template("patient/my_visits_expired.html", clinic=clinic))
    page = render_template(
        "patient/my_visits_list.html",
        clinic=clinic,
        visits=[(one, shown_visit(one.appointment, now)) for one in found],
    )
    return make_response(page)


def _page(typed: AskForm, *, asked: bool = False, status: int = 200) -> Response:
    with reading(context().engine) as session:
        page = render_template("patient/my_visits.html", clinic=practice.policy(session), form=typed, asked=asked)
    return make_response(page, status)
