"""The patients' pages: how soon and where, what dry needling is, how to reach us."""

from collections import defaultdict

from apiflask import APIBlueprint
from flask import render_template

from scheduler.db import reading
from scheduler.services import access_goal, access_rules, claims, explainer, practice
from scheduler.services.access_goal import Access
from scheduler.web.context import context
from scheduler.web.language import language
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
@shared
def contact() -> str:
    with reading(context().engine) as session:
        return render_template(
            "patient/contact.html", clinic=practice.policy(session), locations=practice.locations(session)
        )


def _least_share(access: Access) -> float | None:
    """What the clinic has kept that keeps the goal least: nobody can go to all of them."""
    return min((at.attainment_28d for at in access.locations if at.attainment_28d is not None), default=None)


def _percent(share: float | None) -> int | None:
    """A share in whole percent, cut."""
    return None if share is None else round(access_rules.cut(share, 2) * 100)
