"""The patients' pages: how soon and where, what dry needling is, how to reach us."""

from collections import defaultdict

from apiflask import APIBlueprint
from flask import Response, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from werkzeug.wrappers import Response as BaseResponse

from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.services import access_goal, access_rules, claims, explainer, practice, questions
from scheduler.services.access_goal import Access
from scheduler.web.contact_form import ContactForm
from scheduler.web.context import context
from scheduler.web.language import language
from scheduler.web.limiting import counted_address, refuse_other_sites
from scheduler.web.shared import shared
from scheduler.web.times import shown

patient = APIBlueprint("patient", __name__, enable_openapi=False)


@patient.get("/")
@shared
def front_page() -> str:
    """The soonest visit in plain words, then by area and location, and how the promise stands."""
    now = context().clock.now()
    with reading(context().engine) as session:
        clinic = practice.policy(session)
        kinds = practice.appointment_types(session)
        kind = practice.goal_type(kinds)
        access = access_goal.measure(session, now=now, appointment_type_id=kind.id) if kind else None
    places = [
        (at.location, [shown(slot, at.location, now) for slot in at.starts])
        for at in (access.locations if access else ())
    ]
    areas: dict[str, list[object]] = defaultdict(list)
    for place, starts in sorted(places, key=lambda one: (one[0].area, one[0].name)):
        areas[place.area].append((place, starts))
    every_start = (start for _, starts in places for start in starts)
    first = min(every_start, key=lambda start: start.slot.starts_at, default=None)
    return render_template(
        "patient/front.html",
        clinic=clinic,
        kind=kind,
        access=access,
        typically=access is not None and claims.typically_kept(access),
        share=_percent(_least_share(access)) if access else None,
        kinds=kinds,
        areas=areas,
        first=first,
    )


@patient.get("/explainer")
@shared
def explainer_page() -> str:
    """All of the treatment explainer, with the claims that are true now."""
    with reading(context().engine) as session:
        version = explainer.current(session, language())
        present = claims.present(session, now=context().clock.now())
    sections = explainer.sections(version, present)
    return render_template("patient/explainer.html", clinic=present.policy, version=version, sections=sections)


@patient.get("/contact")
def contact() -> Response:
    """Phones and addresses, and a form to write to us; each form is its own, so this page is kept for nobody."""
    form = ContactForm(formdata=None)
    form.show(context().keys, now=context().clock.now())
    return _contact_page(form)


@patient.post("/contact")
def write() -> BaseResponse:
    """Take a question, or show the form again with what was typed."""
    form, keys, now = ContactForm(), context().keys, context().clock.now()
    with reading(context().engine) as session:
        form.offer(questions.reachable(session))
    if not form.validate():
        return _contact_page(form, 422)
    if not form.comes_from_people(keys, now=now):
        form.show(keys, now=now)
        return _contact_page(form, 422, again=True)
    try:
        with transaction(context().engine) as session:
            request_ = form.ask(language=language(), address=counted_address())
            questions.ask(session, request_, keys=keys, now=now)
    except Invalid:  # whom they chose has left meanwhile
        form.to.errors = [gettext("Choose one of the list.")]
        return _contact_page(form, 422)
    return redirect(url_for("patient.contact", sent="mail" if form.email.data else "call"), 303)


def _contact_page(form: ContactForm, status: int = 200, *, again: bool = False) -> Response:
    with reading(context().engine) as session:
        form.offer(questions.reachable(session))
        page = render_template(
            "patient/contact.html",
            clinic=practice.policy(session),
            locations=practice.locations(session),
            form=form,
            again=again,
            sent=request.args.get("sent"),
            in_time=questions.promise_kept(session, now=context().clock.now()),
            hours=questions.PROMISED_HOURS,
        )
    return make_response(page, status, {"Cache-Control": "no-store"})


patient.before_request(refuse_other_sites)


def _least_share(access: Access) -> float | None:
    """What the clinic has kept that keeps the goal least: nobody can go to all of them."""
    return min((at.attainment_28d for at in access.locations if at.attainment_28d is not None), default=None)


def _percent(share: float | None) -> int | None:
    """A share in whole percent, cut."""
    return None if share is None else round(access_rules.cut(share, 2) * 100)
