"""Every page for patients in every state that it has, asked for in a language."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from apiflask import APIFlask
from sqlalchemy import select, text, update
from werkzeug.test import TestResponse

from config import Settings
from scheduler.app import LARGEST_BODY, create_app
from scheduler.clock import FixedClock
from scheduler.db import make_engine, reading, transaction
from scheduler.models import Location, VisitsRequest
from scheduler.services import limits, moves, my_visits, visits
from scheduler.services.audit import Actor
from tests.clinic import EXPLAINER, Clinic

KEY = "0" * 32  # in each language the same form: what it holds is its own
PERSON = {"name": "Pat Doe", "email": "pat@example.com", "phone": "+12175550142", "note": "9-1-1"}
SOUND = {
    **PERSON,
    "language": "es",
    "needling": "open",
    "acknowledged": "y",
    "explainer_version": EXPLAINER,
    "key": KEY,
}
ASKED = {"name": "Pat Doe", "email": "pat@example.com", "message": "9-1-1", "to": "1"}
WRONG = {"name": "!", "email": "@", "phone": "1", "note": "9" * 501, "needling": "0", "language": "0"}
DIRECTIONS = "42, 2.º"
ENTERED = (
    "calendar_plan",
    "slot",
    "working_hours",
    "license",
    "therapist_language",
    "therapist",
    "location",
    "appointment_type",
)


@dataclass(frozen=True)
class Stop:
    """One page of the tour: what is asked, and which answer it is about."""

    path: str
    status: int = 200
    form: Mapping[str, str] | None = None
    method: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, app: APIFlask, language: str) -> TestResponse:
        method = self.method or ("GET" if self.form is None else "POST")
        headers = {"Accept-Language": language}
        answer = app.test_client().open(self.path, method=method, data=self.form, headers=headers, **self.more)
        assert answer.status_code == self.status, (self, answer.get_data(as_text=True)[:2000])
        return answer


Scene = Callable[[Clinic, FixedClock], dict[str, Stop]]


def open_clinic(clinic: Clinic, clock: FixedClock) -> dict[str, Stop]:
    """A working day: a visit that has begun, one that is booked, one that was cancelled, a place without times."""
    clinic.add_location("Chatham")
    idle = clinic.add_therapist("Ben Brown")
    with transaction(clinic.engine) as session:
        session.execute(update(Location).values(directions=DIRECTIONS))
    begun = clinic.book(str(clinic.offers()[0].slot)).token
    taken = str(clinic.offers()[10].slot)
    booked = clinic.book(taken).token
    cancelled = clinic.book(str(clinic.offers()[-1].slot)).token
    clinic.cancel(cancelled)
    clock.at += timedelta(hours=1, minutes=10)
    free, soon = str(clinic.offers()[0].slot), str(clinic.offers()[0].slot).rpartition("-")
    too_soon = f"{soon[0]}-{int(soon[2]) - 3}"
    kept = str(clinic.offers()[190].slot)  # held by those who fill in the form: no other page names it
    elsewhere = str(clinic.offers()[100].slot)
    clinic.book(elsewhere)
    moved, there = clinic.book(str(clinic.offers()[120].slot)), str(clinic.offers()[150].slot)
    replaced = moved.token
    with transaction(clinic.engine) as session:
        email, now = PERSON["email"], clock.now()
        my_visits.ask(session, email, address_hash="x", language="en", keys=clinic.keys, now=now)
    with reading(clinic.engine) as session:
        listed = my_visits.token(session.scalars(select(VisitsRequest)).one(), clinic.keys)
    with transaction(clinic.engine) as session:
        visit = visits.find(session, moved.appointment.id)
        moves.move_for(session, visit, there, by=Actor("test"), keys=clinic.keys, now=clock.now())
    return {
        "front": Stop("/"),
        "explainer": Stop("/explainer"),
        "contact": Stop("/contact"),
        "times": Stop("/book"),
        "times of a kind": Stop("/book?type=3&location=1&therapist=1"),
        "later times": Stop(f"/book?after={clinic.offers()[50].slot}"),
        "times at a time of day": Stop("/book?day_part=afternoon&weekday=friday&weekday=tuesday&from=2026-12-01"),
        "no times": Stop(f"/book?therapist={idle}"),
        "details": Stop(f"/book/{free}"),
        "check": Stop(f"/book/{kept}", form=SOUND | {"step": "check"}),
        "check, the other choices": Stop(
            f"/book/{kept}", form=SOUND | {"step": "check", "needling": "none", "language": "en"}
        ),
        "change": Stop(f"/book/{kept}", form=SOUND | {"step": "change"}),
        "nothing filled in": Stop(f"/book/{kept}", 422, {"step": "check", "key": KEY}),
        "all filled in wrong": Stop(f"/book/{kept}", 422, WRONG | {"step": "check", "key": KEY}),
        "another explainer": Stop(f"/book/{kept}", 422, SOUND | {"step": "book", "explainer_version": "1999-01-01"}),
        "taken": Stop(f"/book/{taken}", 409),
        "taken meanwhile": Stop(f"/book/{taken}", 409, SOUND | {"step": "book"}),
        "too soon": Stop(f"/book/{too_soon}", 409),
        "booked just now": Stop(f"/appointments/{booked}?booked=1"),
        "booked": Stop(f"/appointments/{booked}"),
        "cancelled": Stop(f"/appointments/{cancelled}"),
        "moved just now": Stop(f"/appointments/{booked}?moved=1"),
        "a new time?": Stop(f"/appointments/{booked}/move"),
        "a new time anywhere?": Stop(f"/appointments/{booked}/move?location=&therapist="),
        "no new time": Stop(f"/appointments/{booked}/move?therapist={idle}"),
        "move?": Stop(f"/appointments/{booked}/move/{free}"),
        "the new time is taken": Stop(f"/appointments/{booked}/move/{elsewhere}", 409),
        "the new time was taken meanwhile": Stop(f"/appointments/{booked}/move/{elsewhere}", 409, {}),
        "move a cancelled one?": Stop(f"/appointments/{cancelled}/move"),
        "move what has begun?": Stop(f"/appointments/{begun}/move"),
        "move what has begun": Stop(f"/appointments/{begun}/move/{free}", 409, {}),
        "my visits": Stop("/my-visits"),
        "my visits, asked": Stop("/my-visits?asked=1"),
        "my visits, no address": Stop("/my-visits", 422, {"email": "@"}),
        "my visits, expired": Stop(f"/my-visits/{clinic.keys.sign('my-visits', 1)}"),
        "my visits, listed": Stop(f"/my-visits/{listed}"),
        "an older link": Stop(f"/appointments/{replaced}"),
        "an older link cancels nothing": Stop(f"/appointments/{replaced}/cancel", 410, {}),
        "begun": Stop(f"/appointments/{begun}"),
        "cancel?": Stop(f"/appointments/{booked}/cancel"),
        "cancel a cancelled one?": Stop(f"/appointments/{cancelled}/cancel"),
        "cancel what has begun?": Stop(f"/appointments/{begun}/cancel"),
        "cancel what has begun": Stop(f"/appointments/{begun}/cancel", 409, {}),
        "no such visit": Stop("/appointments/x", 404),
        "no such page": Stop("/nothing-here", 404),
        "no such method": Stop("/explainer", 405, {}),
        "nothing asked": Stop("/contact", 422, {"step": "send"}),
        "asked all wrong": Stop("/contact", 422, WRONG | {"to": "0", "message": "9" * 501}),
        "asked by a program": Stop("/contact", 422, ASKED),
        "asked": Stop("/contact?sent=mail"),
        "asked, to be called": Stop("/contact?sent=call"),
        "bad filter": Stop("/book?location=x", 422),
        "bad time of day": Stop("/book?day_part=x", 422),
        "bad filter, twice": Stop("/book?type=1&type=2", 422),
        "bad slot": Stop("/book/1-1-1", 422),
        "too much": Stop(f"/book/{free}", 413, {"note": "9" * LARGEST_BODY}),
    }


def broken_promise(clinic: Clinic, clock: FixedClock) -> dict[str, Stop]:
    clinic.add_location("Chatham")
    for _ in range(8):
        clinic.record_access()
        clock.at += timedelta(days=1)
        clinic.plan()
    with transaction(clinic.engine) as session:
        session.execute(text("UPDATE therapist SET active = (1 = 0)"))
    clinic.add_therapist("Ben Brown", kinds=())
    return {"front": Stop("/"), "explainer": Stop("/explainer")}


def nothing_left(clinic: Clinic, clock: FixedClock) -> dict[str, Stop]:
    slot = str(clinic.offers()[-1].slot)
    with transaction(clinic.engine) as session:
        session.execute(text("UPDATE slot SET fit = 1, fit_open = 1 WHERE appointment_id IS NULL"))
    return {
        "front": Stop("/"),
        "times": Stop("/book"),
        "taken": Stop(f"/book/{slot}", 409),
        "taken meanwhile": Stop(f"/book/{slot}", 409, SOUND | {"step": "book"}),
    }


def nothing_entered(clinic: Clinic, clock: FixedClock) -> dict[str, Stop]:
    with transaction(clinic.engine) as session:
        for table in ENTERED:
            session.execute(text(f"DELETE FROM {table}"))
    return {address: Stop(address) for address in ("/", "/book", "/contact", "/explainer")}


SCENES: dict[str, Scene] = {one.__name__: one for one in (open_clinic, broken_promise, nothing_left, nothing_entered)}


def in_trouble(settings: Settings, clinic: Clinic, monkeypatch: Any) -> dict[str, tuple[APIFlask, Stop]]:  # noqa: ANN401 pytest's
    """The pages of 429, 500 and 503, each with the application that gives it."""
    limited = create_app(replace(settings, rate_limits=True), clinic.engine, clinic.clock)
    monkeypatch.setattr(limits, "BOOKINGS_AN_HOUR", 0)
    broken = create_app(settings, clinic.engine, clinic.clock)

    def breaks() -> str:
        raise RuntimeError("nobody foresaw this")

    broken.view_functions["patient.contact"] = breaks
    away = create_app(settings, make_engine(f"sqlite:///{clinic.engine.url.database}/no/such.db"), clinic.clock)
    return {
        "429": (limited, Stop(f"/book/{clinic.offers()[0].slot}", 429, SOUND | {"step": "book"})),
        "500": (broken, Stop("/contact", 500)),
        "503": (away, Stop("/contact", 503)),
    }
