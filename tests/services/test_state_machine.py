"""Any sequence of holds, bookings, cancellations, changes of hours and licences, and time, beside a model in Python.

The model knows no cells, no `fit` and no plan that is kept: what is free is worked out anew from hours and licences.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, delete, text, update
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import Base, reading, transaction
from scheduler.errors import Invalid, NotBookable, TooMany, VisitClosed
from scheduler.keys import Keyring
from scheduler.models import AppointmentType, ClinicPolicy, License, WorkingHours
from scheduler.services import holds, slots, verify
from scheduler.services.availability import SlotName
from scheduler.services.holds import Keeper
from tests import postgres
from tests.clinic import FAR_AHEAD, LONG_AGO, Clinic

QUARTER = timedelta(minutes=15)
LONGEST = timedelta(minutes=60)
HORIZON = timedelta(days=3)
NOTICE = timedelta(minutes=60)
KEPT = {"clinic_policy", "explainer_version"}
LICENCES = ("pt", "dry_needling")
UNDELIVERED = "messages owed past the day of their visit"  # no worker delivers here, and the clock goes on for days
UNLICENSED = "visits ahead that the therapist is not licensed for"
CHICAGO, DENVER = 1, 2
PLACES = {CHICAGO: ("IL", ZoneInfo("America/Chicago")), DENVER: ("CO", ZoneInfo("America/Denver"))}
THERAPISTS = (1, 2)
# Quarters that a visit takes, with the buffer after a follow-up, and whether it includes needling.
VISITS = {"Evaluation": (4, False), "Follow-up": (4, False), "Needling": (2, True)}
# Days' work as (location, opens, closes). Noon in Chicago is eleven in Denver: one day changes place without a break.
Day = tuple[tuple[int, int, int], ...]
DAYS: tuple[Day, ...] = (
    (),
    ((CHICAGO, 9 * 60, 13 * 60),),
    ((CHICAGO, 8 * 60, 12 * 60), (DENVER, 11 * 60, 14 * 60)),
    ((DENVER, 7 * 60, 8 * 60 + 45), (CHICAGO, 13 * 60, 15 * 60)),
    ((DENVER, 22 * 60, 26 * 60),),
)
BEGINNINGS = (
    datetime(2026, 11, 23, 14, 7, tzinfo=UTC),  # a Monday morning
    datetime(2026, 10, 30, 20, 0, tzinfo=UTC),  # two days before the clocks go back
    datetime(2027, 3, 12, 20, 30, tzinfo=UTC),  # two days before they go forward
)


def next_quarter(instant: datetime) -> datetime:
    return instant + (datetime.min.replace(tzinfo=UTC) - instant) % QUARTER


class Start(NamedTuple):
    """In the order in which search lists starts."""

    at: datetime
    therapist: int
    location: int

    def slot_id(self) -> str:
        return str(SlotName(self.therapist, self.location, self.at))


@dataclass
class Booked:
    start: Start
    kind: str
    token: str
    cancelled: bool = False

    def quarters(self) -> set[Start]:
        return {self.start._replace(at=self.start.at + i * QUARTER) for i in range(VISITS[self.kind][0])}


@dataclass
class Kept:
    """A start that is held, until somebody books or frees it or it is swept, which is some time after its expiry."""

    start: Start
    kind: str
    token: str
    since: datetime
    until: datetime

    def quarters(self) -> set[Start]:
        return {self.start._replace(at=self.start.at + i * QUARTER) for i in range(VISITS[self.kind][0])}


@dataclass
class Model:
    """What the clinic should offer, by the words of the contract."""

    now: datetime
    week: dict[tuple[int, int], Day] = field(default_factory=dict)  # by therapist, weekday
    licensed_until: dict[tuple[int, str, str], date] = field(default_factory=dict)  # by therapist, kind, state
    visits: list[Booked] = field(default_factory=list)
    holds: list[Kept] = field(default_factory=list)

    def swept(self, therapist: int | None = None) -> "Model":
        """The same after somebody has swept a therapist's holds, or all."""
        left = [one for one in self.holds if one.until > self.now or therapist not in {None, one.start.therapist}]
        return replace(self, holds=left)

    def licensed(self, start: Start, *, needling: bool) -> bool:
        state, zone = PLACES[start.location]
        kinds = LICENCES if needling else LICENCES[:1]
        day = start.at.astimezone(zone).date()
        return all(day <= self.licensed_until[start.therapist, kind, state] for kind in kinds)

    def works(self, start: Start) -> bool:
        """Whether a shift of that local day, or one that runs on from the day before, covers this quarter."""
        wall = start.at.astimezone(PLACES[start.location][1])
        minute = wall.hour * 60 + wall.minute
        today = self.week.get((start.therapist, wall.weekday()), ())
        yesterday = self.week.get((start.therapist, (wall.weekday() - 1) % 7), ())
        shifts = [(shift, minute) for shift in today] + [(shift, minute + 24 * 60) for shift in yesterday]
        return any(place == start.location and opens <= at < closes for (place, opens, closes), at in shifts)

    def planned(self) -> set[Start]:
        """Every quarter ahead that somebody works, as far as any visit that may be booked now can reach."""
        first, reach = next_quarter(self.now), HORIZON + LONGEST
        ahead = (first + i * QUARTER for i in range(reach // QUARTER + 1))
        quarters = (Start(at, therapist, place) for at in ahead for therapist in THERAPISTS for place in PLACES)
        return {quarter for quarter in quarters if self.works(quarter) and self.licensed(quarter, needling=False)}

    def taken_starts(self) -> set[Start]:
        visits = {start for visit in self.visits if not visit.cancelled for start in visit.quarters()}
        return visits | {start for one in self.holds for start in one.quarters()}

    def taken(self) -> set[tuple[datetime, int]]:
        return {(start.at, start.therapist) for start in self.taken_starts()}

    def offers(self, kind: str, free: set[Start]) -> list[Start]:
        return sorted(start for start in free if self.bookable(start, kind, free, self.now + NOTICE))

    def bookable(self, start: Start, kind: str, free: set[Start], earliest: datetime) -> bool:
        quarters, needling = VISITS[kind]
        return (
            earliest <= start.at <= self.now + HORIZON
            and all(start._replace(at=start.at + i * QUARTER) in free for i in range(quarters))
            and (not needling or self.licensed(start, needling=True))
        )

    def free(self) -> set[Start]:
        taken = self.taken()
        return {start for start in self.planned() if (start.at, start.therapist) not in taken}

    def unlicensed(self) -> int:
        ahead = (visit for visit in self.visits if not visit.cancelled and visit.start.at >= self.now)
        return sum(not self.licensed(visit.start, needling=VISITS[visit.kind][1]) for visit in ahead)


class ClinicLife(RuleBasedStateMachine):
    """Does each thing to the clinic and to the model."""

    def __init__(self, engine: Engine, keys: Keyring) -> None:
        super().__init__()
        self.clock = FixedClock(BEGINNINGS[0])
        self.clinic = Clinic(engine, self.clock, keys)
        self.model = Model(BEGINNINGS[0])

    @initialize(begins=st.sampled_from(BEGINNINGS))
    def open_clinic(self, begins: datetime) -> None:
        self.clock.at, self.model = begins, Model(begins)
        empty(self.clinic.engine)
        self.clinic.policy(booking_horizon_days=HORIZON.days)
        self._add_practice()
        with transaction(self.clinic.engine) as session:
            session.execute(update(AppointmentType).where(AppointmentType.minutes == 45).values(buffer_minutes=15))
            for therapist in THERAPISTS:
                session.add_all(Clinic.license(therapist, kind, "CO") for kind in LICENCES)
                for weekday in range(7):
                    self._set_day(session, therapist, weekday, DAYS[1 + (therapist + weekday) % 4])
        self.clinic.plan()

    def _add_practice(self) -> None:
        self.clinic.add_kinds()
        for place, (state, zone) in PLACES.items():
            assert self.clinic.add_location(state, zone.key, state) == place
            self.model.licensed_until.update({(t, kind, state): FAR_AHEAD for t in THERAPISTS for kind in LICENCES})
        for therapist in THERAPISTS:
            assert self.clinic.add_therapist(f"Therapist {therapist}") == therapist

    def _set_day(self, session: Session, therapist: int, weekday: int, day: Day) -> None:
        self.model.week[therapist, weekday] = day
        of_day = (WorkingHours.therapist_id == therapist, WorkingHours.weekday == weekday)
        session.execute(delete(WorkingHours).where(*of_day))
        session.add_all(
            WorkingHours(
                therapist_id=therapist,
                location_id=place,
                weekday=weekday,
                opens_minute=opens,
                closes_minute=closes,
                valid_from=LONG_AGO,
            )
            for place, opens, closes in day
        )

    def _replan(self, session: Session, therapist: int) -> None:
        """What every change of hours or licences does in its own transaction."""
        session.flush()
        slots.lock(session, [therapist])
        end = slots.horizon_end(session.get_one(ClinicPolicy, 1), self.model.now)
        slots.replan(session, [therapist], self.model.now, end, now=self.model.now)

    @rule(kind=st.sampled_from(list(VISITS)), pick=st.integers(0, 200))
    def book(self, kind: str, pick: int) -> None:
        offers = self.model.offers(kind, self.model.free())
        if offers:
            start = offers[pick % len(offers)]
            self.model.visits.append(Booked(start, kind, self.clinic.book(start.slot_id(), kind).token))
            self.model = self.model.swept(start.therapist)

    @rule(kind=st.sampled_from(list(VISITS)), pick=st.integers(0, 200))
    def hold(self, kind: str, pick: int) -> None:
        offers = self.model.offers(kind, self.model.free())
        if offers:
            start = offers[pick % len(offers)]
            try:
                kept = self.clinic.hold(start.slot_id(), kind)
            except TooMany:  # a quarter of the place's open starts is held: when that is so is asked elsewhere
                return
            self.model = self.model.swept(start.therapist)
            self.model.holds.append(Kept(start, kind, kept.token, self.model.now, kept.expires_at))

    @precondition(lambda self: self.model.holds)
    @rule(pick=st.integers(0, 50))
    def give_up(self, pick: int) -> None:
        held = self.model.holds[pick % len(self.model.holds)]
        self.clinic.release(held.token)
        self.model = self.model.swept(held.start.therapist)
        self.model.holds = [one for one in self.model.holds if one is not held]

    @precondition(lambda self: self.model.holds)
    @rule(pick=st.integers(0, 50))
    def book_what_is_held(self, pick: int) -> None:
        """Whatever became of its hours and licences; while the hold lives, the notice counts from when it was made."""
        held = self.model.holds[pick % len(self.model.holds)]
        after = self.model.swept(held.start.therapist)
        earliest = self.model.now + NOTICE
        if held in after.holds:
            after.holds.remove(held)
            earliest = max(self.model.now, held.since + NOTICE)
        expected = after.bookable(held.start, held.kind, after.free(), earliest)
        try:
            token = self.clinic.book(held.start.slot_id(), held.kind, keeper=Keeper(held.token)).token
        except (NotBookable, Invalid):
            assert not expected
            return
        assert expected
        after.visits.append(Booked(held.start, held.kind, token))
        self.model = after

    @rule()
    def sweep(self) -> None:
        """The worker's tick."""
        with reading(self.clinic.engine) as session:
            therapists = holds.overdue(session, now=self.model.now)
        for therapist in therapists:
            with transaction(self.clinic.engine) as session:
                holds.sweep(session, [therapist], now=self.model.now)
        self.model = self.model.swept()

    @rule(
        kind=st.sampled_from(list(VISITS)),
        quarter=st.integers(-8, (HORIZON + LONGEST) // QUARTER),
        therapist=st.sampled_from(THERAPISTS),
        place=st.sampled_from(list(PLACES)),
    )
    def book_what_is_not_offered(self, kind: str, quarter: int, therapist: int, place: int) -> None:
        start = Start(next_quarter(self.model.now) + quarter * QUARTER, therapist, place)
        model = self.model.swept(therapist)  # for such a time nothing is stored, but what expired is in nobody's way
        free = model.free()
        if start in model.offers(kind, free):
            return
        with pytest.raises((NotBookable, Invalid)) as refused:
            self.clinic.book(start.slot_id(), kind)
        if quarter >= 0:  # what has begun may still be known or never have been
            known = start in free or start in model.taken_starts()
            assert isinstance(refused.value, NotBookable) == known

    @precondition(lambda self: self.model.visits)
    @rule(pick=st.integers(0, 50))
    def cancel(self, pick: int) -> None:
        visit = self.model.visits[pick % len(self.model.visits)]
        if visit.start.at <= self.model.now and not visit.cancelled:
            with pytest.raises(VisitClosed):
                self.clinic.cancel(visit.token)
            return
        assert self.clinic.cancel(visit.token).appointment.status == "cancelled"
        visit.cancelled = True

    @rule(therapist=st.sampled_from(THERAPISTS), weekday=st.integers(0, 6), day=st.sampled_from(DAYS))
    def change_hours(self, therapist: int, weekday: int, day: Day) -> None:
        with transaction(self.clinic.engine) as session:
            self._set_day(session, therapist, weekday, day)
            self._replan(session, therapist)

    @rule(
        therapist=st.sampled_from(THERAPISTS),
        kind=st.sampled_from(LICENCES),
        place=st.sampled_from(list(PLACES)),
        days_left=st.one_of(st.none(), st.integers(-1, 3)),
    )
    def change_licence(self, therapist: int, kind: str, place: int, days_left: int | None) -> None:
        """Let a licence end so many days from now, or hold for good."""
        state, zone = PLACES[place]
        until = FAR_AHEAD if days_left is None else self.model.now.astimezone(zone).date() + timedelta(days=days_left)
        self.model.licensed_until[therapist, kind, state] = until
        held = (License.therapist_id == therapist, License.kind == kind, License.state == state)
        with transaction(self.clinic.engine) as session:
            session.execute(update(License).where(*held).values(valid_until=until))
            self._replan(session, therapist)

    @rule(minutes=st.sampled_from([8, 15, 100, 7 * 60, 26 * 60]))
    def pass_time(self, minutes: int) -> None:
        """Time passes and the worker plans ahead."""
        self.clock.at = self.model.now = self.model.now + timedelta(minutes=minutes)
        self.clinic.plan()

    @invariant()
    def search_lists_what_the_model_offers(self) -> None:
        free = self.model.free()
        for kind in VISITS:
            found = self.clinic.offers(kind, limit=1000)
            starts = [Start(o.slot.starts_at, o.slot.therapist_id, o.slot.location_id) for o in found]
            assert starts == self.model.offers(kind, free)

    @invariant()
    def no_rule_is_broken_but_by_licences_that_lapsed(self) -> None:
        with reading(self.clinic.engine) as session:
            findings = verify.verify(session, now=self.model.now)
            broken = {found.rule: found.violations for found in findings if found.violations}
        broken.pop(UNDELIVERED, None)
        lapsed = self.model.unlicensed()
        assert broken == ({UNLICENSED: lapsed} if lapsed else {})


def empty(engine: Engine) -> None:
    """Take everything out but the policy and the explainer."""
    tables = [table.name for table in reversed(Base.metadata.sorted_tables) if table.name not in KEPT]
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            postgres.empty(connection, tables)
            return
        connection.execute(text("DROP TRIGGER IF EXISTS tr_audit_event_not_deleted"))
        connection.execute(text("UPDATE slot SET appointment_id = NULL, fit = 1 WHERE appointment_id IS NOT NULL"))
        for table in tables:
            connection.execute(text(f"DELETE FROM {table}"))


@pytest.mark.parametrize(
    ("lives", "steps"),
    [pytest.param(4, 20, id="small"), pytest.param(60, 40, id="full", marks=pytest.mark.drill)],
)
def test_whatever_happens_search_and_bookings_are_what_a_plain_model_says(
    engine: Engine, keys: Keyring, lives: int, steps: int
) -> None:
    class Life(ClinicLife):
        def __init__(self) -> None:
            super().__init__(engine, keys)

    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=lives,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
