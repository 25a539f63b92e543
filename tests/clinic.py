"""A clinic for tests, built row by row, and the requests that patients make of it."""

from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, inspect, select
from sqlalchemy.orm import Session

from scheduler.clock import Clock
from scheduler.db import reading, transaction
from scheduler.keys import Keyring
from scheduler.models import (
    AppointmentType,
    ClinicPolicy,
    License,
    Location,
    Needling,
    StateRule,
    Therapist,
    TherapistLanguage,
    WorkingHours,
)
from scheduler.services import access_goal, availability, booking, holds, slots, verify
from scheduler.services.availability import Find, Offer
from scheduler.services.booking import BookVisit, PatientDetails, Repeatable, Visit
from scheduler.services.holds import Held, HoldTime
from scheduler.worker import plan_slots, protect

LONG_AGO = date(2020, 1, 1)
FAR_AHEAD = date(2099, 12, 31)
EXPLAINER = "2026-11-24"
WEEKDAYS = range(5)
# Evaluation, follow-up, needling: 60, 45 and 30 minutes as in the demo.
KINDS = (("Evaluation", 60, True, False), ("Follow-up", 45, False, False), ("Needling", 30, False, True))


@dataclass
class Clinic:
    """Builds rows and speaks for patients; each method is one transaction."""

    engine: Engine
    clock: Clock
    keys: Keyring
    kinds: dict[str, int] = field(default_factory=dict)

    @classmethod
    def standard(cls, engine: Engine, clock: Clock, keys: Keyring) -> "Clinic":
        clinic = cls(engine, clock, keys)
        clinic.add_kinds()
        location = clinic.add_location()
        therapist = clinic.add_therapist()
        clinic.add_hours(therapist, location)
        clinic.plan()
        return clinic

    @classmethod
    def standing(cls, engine: Engine, clock: Clock, keys: Keyring) -> "Clinic":
        """That which `standard` made in this database before."""
        clinic = cls(engine, clock, keys)
        with reading(engine) as session:
            clinic.kinds = {kind.name: kind.id for kind in session.scalars(select(AppointmentType))}
        assert clinic.kinds == {name: number for number, (name, *_) in enumerate(KINDS, start=1)}
        return clinic

    @classmethod
    def of_one_day(cls, engine: Engine, clock: Clock, keys: Keyring) -> "Clinic":
        """With a calendar of one day, which is made at once."""
        clinic = cls(engine, clock, keys)
        clinic.policy(booking_horizon_days=12)
        clinic.add_kinds()
        clinic.add_hours(clinic.add_therapist(), clinic.add_location(), weekdays=[3])
        clinic.plan()
        return clinic

    def add_kinds(self, kinds: tuple[tuple[str, int, bool, bool], ...] = KINDS, buffer_minutes: int = 0) -> None:
        with transaction(self.engine) as session:
            for position, (name, minutes, new_patient, needling) in enumerate(kinds, start=1):
                kind = AppointmentType(
                    name=name,
                    position=position,
                    minutes=minutes,
                    buffer_minutes=buffer_minutes,
                    new_patient=new_patient,
                    includes_needling=needling,
                )
                session.add(kind)
                session.flush()
                self.kinds[name] = kind.id

    def add_location(self, name: str = "Springfield", zone: str = "America/Chicago", state: str = "IL") -> int:
        with transaction(self.engine) as session:
            location = Location(
                name=name, area=name, address="1 Main Street", state=state, time_zone=zone, phone="+1 555 0100"
            )
            session.add(location)
            if session.scalars(select(StateRule).where(StateRule.state == state)).first() is None:
                session.add(self.rule(state))
            session.flush()
            return location.id

    @staticmethod
    def rule(state: str, needling: str = "permitted", valid_from: date = LONG_AGO) -> StateRule:
        return StateRule(
            state=state,
            valid_from=valid_from,
            needling=needling,
            qualification="dry_needling",
            source="test",
            review_on=FAR_AHEAD,
        )

    def add_therapist(
        self, name: str = "Ana Abbott", state: str = "IL", kinds: tuple[str, ...] = ("pt", "dry_needling")
    ) -> int:
        with transaction(self.engine) as session:
            therapist = Therapist(name=name, credentials="PT, DPT", active=True)
            session.add(therapist)
            session.flush()
            session.add(TherapistLanguage(therapist_id=therapist.id, language="en"))
            session.add_all(self.license(therapist.id, kind, state) for kind in kinds)
            return therapist.id

    @staticmethod
    def license(
        therapist_id: int, kind: str, state: str, valid_from: date = LONG_AGO, valid_until: date = FAR_AHEAD
    ) -> License:
        return License(
            therapist_id=therapist_id,
            kind=kind,
            state=state,
            number=f"{kind}-{uuid4().hex[:8]}",
            valid_from=valid_from,
            valid_until=valid_until,
        )

    def add_hours(
        self,
        therapist_id: int,
        location_id: int,
        weekdays: Any = WEEKDAYS,  # noqa: ANN401 any iterable of 0..6
        opens: int = 8 * 60,
        closes: int = 17 * 60,
        **more: Any,  # noqa: ANN401 other columns
    ) -> None:
        with transaction(self.engine) as session:
            session.add_all(
                WorkingHours(
                    therapist_id=therapist_id,
                    location_id=location_id,
                    weekday=weekday,
                    opens_minute=opens,
                    closes_minute=closes,
                    **{"valid_from": LONG_AGO} | more,
                )
                for weekday in weekdays
            )

    def policy(self, **values: Any) -> None:  # noqa: ANN401 columns of the policy
        with transaction(self.engine) as session:
            for name, value in values.items():
                setattr(session.get_one(ClinicPolicy, 1), name, value)

    def plan(self) -> slots.Changes:
        """Let the worker plan every calendar."""
        return plan_slots(self.engine, self.clock)

    def protect(self) -> int:
        """Let the worker keep times back for short notice; how many cells that changed."""
        return protect(self.engine, self.clock)

    def offers(self, kind: str = "Evaluation", **find: Any) -> list[Offer]:  # noqa: ANN401 fields of Find
        with reading(self.engine) as session:
            wanted = replace(Find(self.kinds[kind], limit=200), **find)
            return availability.search(session, wanted, now=self.clock.now()).offers

    def request(self, slot_id: str, kind: str = "Evaluation", **changes: Any) -> BookVisit:  # noqa: ANN401 its fields
        request = BookVisit(
            slot_id=slot_id,
            appointment_type_id=self.kinds[kind],
            patient=PatientDetails("Pat Doe", "pat@example.com", None, None, "en", True, False),
            explainer_version=EXPLAINER,
            explainer_language="en",
            needling=Needling.TALK_FIRST,
            note=None,
            repeatable=Repeatable(uuid4().hex, uuid4().hex * 2),
        )
        return replace(request, **changes)

    def book(self, slot_id: str, kind: str = "Evaluation", **changes: Any) -> Visit:  # noqa: ANN401
        with transaction(self.engine) as session:
            return booking.book(session, self.request(slot_id, kind, **changes), keys=self.keys, now=self.clock.now())

    def hold(self, slot_id: str, kind: str = "Evaluation", **who: str) -> Held:
        """Keep a start; `who` may name the holder and the address."""
        with transaction(self.engine) as session:
            return holds.hold(session, HoldTime(slot_id, self.kinds[kind], **who), now=self.clock.now())

    def release(self, token: str) -> None:
        with transaction(self.engine) as session:
            holds.release(session, token, now=self.clock.now())

    def violations(self) -> dict[str, int]:
        """How often each invariant is broken, of those that are."""
        with reading(self.engine) as session:
            found = verify.verify(session, now=self.clock.now())
            return {one.rule: one.violations for one in found if one.violations}

    def cancel(self, token: str) -> Visit:
        with transaction(self.engine) as session:
            return booking.cancel(session, token, None, keys=self.keys, now=self.clock.now())

    def record_access(self) -> None:
        """What a worker's tick does."""
        with reading(self.engine) as session:
            rows = access_goal.samples(session, now=self.clock.now())
        if rows:
            with transaction(self.engine) as session:
                access_goal.record(session, rows)


def body(slot_id: str, kind_id: str = "1", **changes: Any) -> dict[str, Any]:  # noqa: ANN401 fields of the request
    """A request of the JSON API that books this slot."""
    return {
        "slot": slot_id,
        "appointment_type": kind_id,
        "patient": {"name": "Pat Doe", "email": "pat@example.com"},
        "consent": {"explainer_version": EXPLAINER, "acknowledged": True},
        **changes,
    }


def key() -> dict[str, str]:
    """A new Idempotency-Key header."""
    return {"Idempotency-Key": uuid4().hex}


def rows(session: Session, table: Any) -> list[Any]:  # noqa: ANN401 a model
    """All of a table, in the order of its key: the order in which rows were made, where they are numbered."""
    return list(session.scalars(select(table).order_by(*inspect(table).primary_key)).all())


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


HOUR = timedelta(hours=1)
