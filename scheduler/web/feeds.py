"""What calendar programs fetch: a therapist's visits behind a private address. Without it, nobody is let in here."""

from apiflask import APIBlueprint
from flask import Response, url_for
from flask_babel import force_locale, gettext

from scheduler import calendars
from scheduler.calendars import Entry
from scheduler.db import reading, transaction
from scheduler.models import Patient
from scheduler.services import audit, practice
from scheduler.services import feeds as following
from scheduler.services.audit import Actor
from scheduler.services.feeds import Feed
from scheduler.timeline import DAY
from scheduler.web.context import context
from scheduler.web.limiting import network

feeds = APIBlueprint("feeds", __name__, enable_openapi=False)


@feeds.get("/feeds/<token>.ics")
def calendar(token: str) -> Response:
    """Times and places of visits; first names only where the owner wishes it, which is then on record as read."""
    now = context().clock.now()
    with reading(context().engine) as session:
        feed, clinic = following.opened(session, token, now=now), practice.policy(session)
    with force_locale(feed.account.language):
        name = gettext("Visits, %(clinic)s", clinic=clinic.clinic_name)
        text = calendars.write_all(_entries(feed, clinic.clinic_name), name, now=now)
    if feed.feed.detailed:
        by = Actor.of(feed.account.id, network())
        with transaction(context().engine) as session:
            audit.read(session, [feed.feed], fields="first names", by=by, now=now)
            patients = {row.patient_id for row in feed.visits}
            audit.read_many(session, Patient, patients, fields="first name", by=by, now=now, same_look=DAY)
    answer = Response(text, content_type="text/calendar; charset=utf-8")
    answer.headers["Cache-Control"] = "private"
    answer.headers["X-Robots-Tag"] = "noindex"
    return answer


def _entries(feed: Feed, clinic: str) -> list[Entry]:
    settings = context().settings
    return [
        Entry(
            visit_id=row.visit_id,
            sender=settings.mail_from,
            sequence=calendars.sequence(row.visit_version),
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            summary=following.first_name(row.patient) if feed.feed.detailed else gettext("Physical therapy visit"),
            clinic=clinic,
            place=row.place,
            address=row.address,
            phone=row.phone,
            time_zone=row.time_zone,
            url=settings.base_url + url_for("schedule.visit", visit_id=row.visit_id),
        )
        for row in feed.visits
    ]
