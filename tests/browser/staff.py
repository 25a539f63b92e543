"""Somebody of the clinic's before a browser: an account, a day with visits, and the way in."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import Engine, select

from scheduler.db import transaction
from scheduler.keys import Keyring
from scheduler.models import Appointment, Location, Needling, Patient, Role, Status
from scheduler.services import accounts
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.timeline import DAY, first_instant, local_date, zone_of
from tests.browser.visitor import Visitor
from tests.server import KEYS
from tests.web.staff import PASSWORD, PASSWORD_HASH

HOURS = (9, 10, 11, 14)
NOTES = ("My left knee, since a fall on the stairs", None, "Shoulder; I cannot lift my arm above my head", None)
NEEDLES = (Needling.NONE, Needling.TALK_FIRST, Needling.OPEN, Needling.TALK_FIRST)


@dataclass(frozen=True)
class Day:
    """A therapist's account, and their visits of today in order: ids and patients' names."""

    email: str
    visits: list[tuple[UUID, str]]


def a_day(engine: Engine, therapist_id: int) -> Day:
    """Let four booked visits of a demo therapist be today, at full hours of their clinic, whatever the hour is now.

    What the demo has booked for today, and in the early morning it has, is put off for a year. No two have one name.
    """
    keys = Keyring.of([KEYS["LINK_KEYS"]], [KEYS["FIELD_KEYS"]])
    own = Appointment.therapist_id == therapist_id, Appointment.status == Status.BOOKED
    far = Appointment.starts_at > datetime.now(UTC) + 2 * DAY
    last = select(Appointment, Patient).join(Patient).where(*own, far).order_by(Appointment.starts_at.desc())
    with transaction(engine) as session:
        email = f"{uuid4().hex}@clinic.example"
        new = AccountDetails(email, "Some therapist", Role.THERAPIST, therapist_id=therapist_id)
        accounts.add(session, new, by=Actor("test"), now=datetime.now(UTC)).password_hash = PASSWORD_HASH
        visits = []
        near = Appointment.starts_at < datetime.now(UTC) + 2 * DAY
        for other in session.scalars(select(Appointment).where(Appointment.therapist_id == therapist_id, near)):
            other.starts_at, other.ends_at = other.starts_at + 365 * DAY, other.ends_at + 365 * DAY
        by_name = {patient.name: visit for visit, patient in session.execute(last.limit(40))}
        each = zip(list(by_name.items())[: len(HOURS)], HOURS, NOTES, NEEDLES, strict=True)
        for (name, visit), hour, note, needling in each:
            zone = zone_of(session.get_one(Location, visit.location_id).time_zone)
            start = first_instant(local_date(datetime.now(UTC), zone), hour * 60, zone)
            visit.starts_at, visit.ends_at = start, start + timedelta(minutes=45)
            visit.note_sealed, visit.needling = keys.seal(note), needling
            visits.append((visit.id, name))
        return Day(email, visits)


def signs_in(visitor: Visitor, email: str, to: str = "/staff/") -> None:
    """By the password, as whoever has no second factor does."""
    visitor.opens(to)
    visitor.types("E-mail", email)
    visitor.types("Password", PASSWORD)
    visitor.presses("Sign in")
