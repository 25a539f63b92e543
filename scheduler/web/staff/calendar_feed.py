"""A private link by which one's own calendar program follows the schedule: made, shown once, revoked."""

from apiflask import APIBlueprint
from flask import Response, flash, make_response, redirect, render_template, url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse
from wtforms import BooleanField, SubmitField

from scheduler.db import reading, transaction
from scheduler.errors import NotFound
from scheduler.services import feeds, practice, schedule
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.staff.access import EVERYBODY, allowed, staff
from scheduler.web.staff.forms import StaffForm
from scheduler.words import day as day_in_words

pages = APIBlueprint("calendar_feed", __name__, url_prefix="/staff/calendar-feed", enable_openapi=False)


class FeedForm(StaffForm):
    detailed = BooleanField(_("Show patients' first names in my calendar"))
    make = SubmitField(_("Make a link"))
    change = SubmitField(_("Change"))
    revoke = SubmitField(_("Revoke the link"))


@pages.get("")
@allowed(*EVERYBODY)
def overview() -> Response:
    """Whether there is a link, and how calendars treat it."""
    return _page()


@pages.post("")
@allowed(*EVERYBODY)
def act() -> BaseResponse:
    """Make a link, change what it shows, or revoke it: as the button that was pressed says."""
    form = FeedForm()
    if not form.validate():
        return _page(status=422)
    if staff().therapist_id is None:
        raise NotFound("Only whoever treats has visits to follow.")
    own, by, now = staff().account_id, staff().actor, context().clock.now()
    token = None
    with transaction(context().engine) as session:
        if form.make.data:
            token = feeds.make(session, own, detailed=form.detailed.data, by=by, now=now)
        elif form.revoke.data:
            feeds.revoke(session, own, by=by, now=now)
        else:
            feeds.show(session, own, detailed=form.detailed.data, by=by, now=now)
    if token is not None:  # shown by this very answer: it is stored nowhere, so no later page could
        return _page(address=f"{context().settings.base_url}{url_for('feeds.calendar', token=token)}")
    flash(gettext("The link is revoked: it shows nothing any more.") if form.revoke.data else gettext("Changed."))
    return redirect(url_for("calendar_feed.overview"), 303)


def _page(address: str | None = None, status: int = 200) -> Response:
    with reading(context().engine) as session:
        page = _written(session, address)
    return make_response(page, status)


def _written(session: Session, address: str | None) -> str:
    clinic, therapist_id = practice.policy(session), staff().therapist_id
    if therapist_id is None:
        return render_template("staff/not_linked.html", clinic=clinic)
    feed = feeds.of_account(session, staff().account_id)
    zone = schedule.home_zone(session, therapist_id)
    return render_template(
        "staff/calendar_feed.html",
        clinic=clinic,
        feed=feed,
        made_on=day_in_words(feed.created_at, zone, language(), year=True) if feed else None,
        address=address,
        form=FeedForm(formdata=None, data={"detailed": feed.detailed if feed else False}),
    )
