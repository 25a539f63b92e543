"""A clinic of two places that have nothing to do with each other: what is one's own, and what is another's."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import UUID

from apiflask import APIFlask
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from sqlalchemy.pool import NullPool
from werkzeug.routing import Rule

from config import Settings
from scheduler.app import create_app
from scheduler.clock import FixedClock
from scheduler.db import make_engine, reading, transaction
from scheduler.keys import Keyring
from scheduler.models import ContactRequest, License, OutboxMessage, Passkey, Role, WorkingHours
from scheduler.services import questions, time_away
from scheduler.services.audit import Actor
from scheduler.services.moving.import_lines import What
from scheduler.services.questions import Ask
from scheduler.services.time_away import ClosureDetails, OffDetails
from scheduler.web.staff import access
from tests.clinic import Clinic
from tests.conftest import MONDAY_MORNING
from tests.web.staff import an_account, csrf_token, signed_in

WHO = ("admin", "admin of one place", "front-desk", "therapist")

# The field of Half that an address names by this word; for one route, where the word is not enough, (endpoint, word).
IDS: dict[str | tuple[str, str], str] = {
    "visit_id": "visit",
    "patient_id": "patient",
    "message_id": "message",
    "location_id": "place",
    "therapist_id": "therapist",
    "license_id": "license",
    "hours_id": "hours",
    "account_id": "account",
    "type_id": "kind",
    "rule_id": "rule",
    "closure_id": "closure",
    "time_off_id": "time_off",
    "question_id": "question",
    "other_id": "other",
}
# What belongs to one account alone, whatever its role.
PERSONAL = {"passkey_id"}
# What an address names behind its question mark, with fields of Half.
QUERIES: dict[str, str] = {
    "desk.today": "location={place}",
    "desk_booking.times": "location={place}",
    "series.book": "type={kind}&therapist={therapist}&location={place}&first=2026-11-24&weeks=1&times=1&at=10:00",
    "levers.proposals": "location={place}",
    **{
        f"reports.{page}": "location={place}&therapist={therapist}"
        for page in ("overview", "utilization", "lead_time", "no_shows", "cancellations", "reminders")
    },
}
# A form that would do something, if the route were open to whoever sends it.
FORMS: dict[str, dict[str, str]] = {
    "schedule.mark": {"status": "arrived"},
    "schedule.undo": {"status": "arrived"},
    "calendar_feed.act": {"make": "y"},
    "people.add_license": {
        "kind_of_license": "pt",
        "state": "IL",
        "number": "1",
        "valid_from": "2026-11-23",
        "valid_until": "2027-11-23",
    },
    "people.add_hours": {
        "location_id": "1",
        "weekdays": "6",
        "opens": "09:00",
        "closes": "12:00",
        "valid_from": "2026-11-23",
    },
    "away.add_closure": {"places": "1", "reason": "Snow", "starts_on": "2026-11-28", "ends_on": "2026-11-28"},
    "away.close_on_holidays": {"days": "2026-12-25 Christmas Day"},
    "protection.save_level": {"pinned": "2", "least": "0", "most": "4"},
    "away.give_time_off": {"therapist_id": "1", "starts_on": "2026-11-28", "ends_on": "2026-11-28"},
    "levers.open_day": {"day": "2026-11-28"},
    "levers.close_day": {"day": "2026-11-28"},
    "levers.ask": {"day": "2026-11-28"},
    "levers.let_go": {"day": "2026-11-28"},
    "protection.keep_again": {"day": "2026-11-28"},
    "levers.offer": {"place": "1"},
    "questions.answer": {"answer": "Yes."},
    "time_off.ask": {"starts_on": "2026-11-28", "ends_on": "2026-11-28"},
    "desk.told": {"told": "yes", "stands": "1-booked"},
    "series.book": {"needling": "open", "on-2026-11-24": "1-1-1995040"},
    "desk_moves.move": {"slot": "1-1-1994944"},
    "desk_booking.book": {
        "step": "book",
        "name": "Pat Doe",
        "email": "pat@example.com",
        "language": "en",
        "needling": "open",
    },
}
# Routes for those who treat, whatever their role.
TREATING = {"calendar_feed.act", "time_off.ask", "time_off.ask_by_file", "time_off.withdraw"}
# Routes about the whole clinic: not for an admin of some places.
EVERYWHERE: set[str] = {
    "audit_log.search", "audit_log.download",
    "privacy.export", "privacy.on_paper", "privacy.ask_erase", "privacy.erase",
    "clinic.policy_page", "clinic.save_policy", "clinic.new_location", "clinic.add_location", "clinic.types",
    "clinic.new_type", "clinic.add_type", "clinic.type_", "clinic.save_type", "clinic.rules", "clinic.new_rule",
    "clinic.add_rule", "clinic.rule", "clinic.review_rule", "clinic.remove_rule",
    "moving_in.checklist", "moving_in.close_online", "moving_in.looked_through", "moving_in.open_online",
    "moving_in.start_reminders", "moving_in.test_message",
    *(f"moving_in.{page}" for what in What for page in (f"{what}_file", f"take_{what}", f"export_{what}")),
}  # fmt: skip


@dataclass
class Half:
    """One place with all that belongs to it, by the ids that addresses name."""

    place: int
    therapist: int
    visit: str
    patient: str
    slot: str
    message: str
    license: int
    hours: int
    account: int
    closure: int
    time_off: int
    question: str
    other: str
    kind: int = 1  # these two belong to the whole clinic
    rule: int = 1


@dataclass
class World:
    own: Half
    foreign: Half


@dataclass(frozen=True)
class Stage:
    app: APIFlask
    engine: Engine
    world: World
    cookies: dict[str, str]
    tokens: dict[str, str]
    personal: dict[str, dict[str, int]]
    restore: Callable[[], None]

    def client(self, who: str) -> FlaskClient:
        """A browser in which one of WHO is signed in, whatever was done in others."""
        client = self.app.test_client()
        client.set_cookie("staff", self.cookies[who])
        return client


def staged(settings: Settings, migrated: Path, folder: Path) -> Stage:
    """The two places with somebody of each role signed in, in a SQLite database of this folder."""
    path, kept = folder / "scheduler.db", folder / "kept.db"
    shutil.copy(migrated, path)
    engine, clock = make_engine(f"sqlite:///{path}", poolclass=NullPool), FixedClock(MONDAY_MORNING)
    clinic = Clinic(engine, clock, Keyring.of(settings.link_keys, settings.field_keys))
    app = create_app(settings, engine, clock)
    world = build(clinic, app)
    accounts = {
        "admin": an_account(engine, clock, Role.ADMIN),
        "admin of one place": an_account(
            engine, clock, Role.ADMIN, email="a@clinic.example", locations=[world.own.place]
        ),
        "front-desk": an_account(engine, clock, Role.FRONT_DESK, locations=[world.own.place]),
        "therapist": an_account(
            engine, clock, Role.THERAPIST, therapist_id=world.own.therapist, locations=[world.own.place]
        ),
    }
    clients = {who: signed_in(app, engine, clock, one) for who, one in accounts.items()}
    tokens = {who: csrf_token(client) for who, client in clients.items()}
    cookies = {who: client.get_cookie("staff").value for who, client in clients.items()}  # type: ignore[union-attr]
    personal = {who: own_things(engine, one.id) for who, one in accounts.items()}
    copy(path, kept)
    return Stage(app, engine, world, cookies, tokens, personal, lambda: copy(kept, path))


def copy(source: Path, target: Path) -> None:
    """As `flask backup` does it, with the database in use; tests need no fsync."""
    with closing(sqlite3.connect(source)) as from_, closing(sqlite3.connect(target)) as to:
        to.execute("PRAGMA synchronous = OFF")
        from_.backup(to)


def build(clinic: Clinic, app: Flask) -> World:
    clinic.policy(booking_horizon_days=14)  # fewer free times to copy and compare; no page shows more at once
    clinic.add_kinds()
    return World(_half(clinic, "Springfield", "Ana Abbott"), _half(clinic, "Chatham", "Ben Becker"))


def own_things(engine: Engine, account_id: int) -> dict[str, int]:
    """What only this account may touch, by the words of addresses."""
    with transaction(engine) as session:
        one = Passkey(
            account_id=account_id,
            credential_id=str(account_id).encode(),
            public_key=b"key",
            sign_count=0,
            name="my phone",
            created_at=MONDAY_MORNING,
        )
        session.add(one)
        session.flush()
        return {"passkey_id": one.id}


def _half(clinic: Clinic, place: str, therapist: str) -> Half:
    location_id = clinic.add_location(place)
    therapist_id = clinic.add_therapist(therapist)
    clinic.add_hours(therapist_id, location_id)
    clinic.plan()
    first, *_between, last, other = clinic.offers(location_id=location_id)
    visit = clinic.book(str(first.slot)).appointment
    account = an_account(
        clinic.engine, clinic.clock, Role.FRONT_DESK, email=f"{place.lower()}@clinic.example", locations=[location_id]
    )
    by, now, day = Actor("test"), clinic.clock.now(), date(2026, 11, 28)  # a Saturday, when nobody works
    with transaction(clinic.engine) as session:
        closed = ClosureDetails(day, 0, day, 24 * 60, "Snow")
        closure_id = time_away.close(session, [location_id], closed, agreed=None, by=by, now=now)[0].id
        time_off_id = time_away.ask(session, therapist_id, OffDetails(day, 0, day, 24 * 60), by=by, now=now).id
    question_id = a_question(clinic, to=(location_id, therapist_id))
    with reading(clinic.engine) as session:
        message = session.scalars(select(OutboxMessage.id).where(OutboxMessage.appointment_id == visit.id)).first()
        license_id = session.scalars(select(License.id).where(License.therapist_id == therapist_id)).first()
        hours_id = session.scalars(select(WorkingHours.id).where(WorkingHours.therapist_id == therapist_id)).first()
    return Half(
        place=location_id,
        therapist=therapist_id,
        visit=str(visit.id),
        patient=str(visit.patient_id),
        slot=str(last.slot),
        message=str(message),
        license=license_id or 0,
        hours=hours_id or 0,
        account=account.id,
        closure=closure_id,
        time_off=time_off_id,
        question=str(question_id),
        other=str(clinic.book(str(other.slot)).appointment.patient_id),
    )


def a_question(clinic: Clinic, to: tuple[int, int]) -> UUID:
    """Let somebody ask one of the therapists at a location."""
    request = Ask(str(to), "Pat Doe", "pat@example.com", None, "Are you open?", "en", *to)
    with transaction(clinic.engine) as session:
        questions.ask(session, request, keys=clinic.keys, now=clinic.clock.now())
        asked = select(ContactRequest.id).where(ContactRequest.location_id == to[0])
        return session.scalars(asked).one()


def staff_rules(app: Flask) -> list[Rule]:
    rules = (rule for rule in app.url_map.iter_rules() if rule.rule.startswith(access.STAFF_PATHS))
    return sorted((rule for rule in rules if not hasattr(app.view_functions[rule.endpoint], access.STRANGERS)), key=str)


def address(stage: Stage, rule: Rule, whose: str, who: str = "admin") -> str:
    """The route's address about what is one's own, or another's."""
    thing = getattr(stage.world, whose)
    path = rule.rule
    personal = stage.personal[who if whose == "own" else WHO[WHO.index(who) - 1]]
    for name in rule.arguments:
        converter = next(part for part in ("<int:", "<uuid:", "<") if f"{part}{name}>" in path)
        word = IDS.get((rule.endpoint, name)) or IDS.get(name)
        value = personal[name] if name in PERSONAL else getattr(thing, word or name)
        path = path.replace(f"{converter}{name}>", str(value))
    query = QUERIES.get(rule.endpoint)
    return f"{path}?{query.format(**vars(thing))}" if query else path
