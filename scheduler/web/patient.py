"""The patients' pages."""

from apiflask import APIBlueprint
from flask import render_template

from scheduler.db import reading
from scheduler.services import availability, practice
from scheduler.services.availability import Find
from scheduler.timeline import zone_of
from scheduler.web.context import context

patient = APIBlueprint("patient", __name__, enable_openapi=False)
TIMES_SHOWN = 12


@patient.get("/")
def front_page() -> str:
    """The soonest times of the first new-patient type, in each location's own time."""
    with reading(context().engine) as session:
        kinds = practice.appointment_types(session)
        kind = next((kind for kind in kinds if kind.new_patient), None)
        find = Find(kind.id, limit=TIMES_SHOWN) if kind is not None else None
        page = availability.search(session, find, now=context().clock.now()) if find is not None else None
        locations = practice.locations(session)
        clinic = practice.policy(session)
    times = (
        [(offer, offer.slot.starts_at.astimezone(zone_of(offer.time_zone))) for offer in page.offers] if page else []
    )
    return render_template("patient/front.html", clinic=clinic, kind=kind, times=times, locations=locations)
