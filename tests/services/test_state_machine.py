"""Any sequence of what patients and administrators do, and of time, beside a model in plain Python.

Patients hold, book, move and cancel; hours, licences, closures, time off and opened standby change, and the clock
goes on, in any order.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, delete, select, text, update
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import Base, reading, transaction
from scheduler.errors import Invalid, NotBookable, TooMany, VisitClosed
from scheduler.keys import Keyring
from scheduler.models import (
    AppointmentType,
    ClinicPolicy,
    License,
    Needling,
    Patient,
    Promise,
    Slot,
    TimeOffStatus,
    WorkingHours,
)
from scheduler.services import (
    booking,
    consequences,
    edits,
    holds,
    moves,
    protection,
    slots,
    standby,
    time_away,
    verify,
)
from scheduler.services.audit import Actor
from scheduler.services.booking import BookSeries, Repeatable, SeriesRefused
from scheduler.services.consequences import Hit, NotAgreed
from scheduler.services.holds import Keeper
from scheduler.services.moves import MoveVisit
from scheduler.services.time_away import Decided
from tests import postgres
from tests.clinic import FAR_AHEAD, LONG_AGO, Clinic
from tests.services.plain_model import (
    DAYS,
    GOAL,
    HORIZON,
    LICENCES,
    LONGEST,
    NOTICE,
    PLACES,
    QUARTER,
    STANDBY,
    THERAPISTS,
    VISITS,
    Away,
    Booked,
    Day,
    Kept,
    Model,
    Start,
    next_quarter,
)
from tests.services.test_booking_by_staff import book_for, wish

ADMIN = Actor("account:1", "192.0.2.1")
KEPT = {"clinic_policy", "explainer_version"}
UNDELIVERED = "messages owed past the day of their visit"  # no worker delivers here, and the clock goes on for days
UNLICENSED = "visits ahead that the therapist is not licensed for"
BEGINNINGS = (
    datetime(2026, 11, 23, 14, 7, tzinfo=UTC),  # a Monday morning
    datetime(2026, 10, 30, 20, 0, tzinfo=UTC),  # two days before the clocks go back
    datetime(2027, 3, 12, 20, 30, tzinfo=UTC),  # two days before they go forward
)
# From when, in quarter hours after the midnight that began today, and how many: part days, days and nights, nothing.
SPANS = st.tuples(st.integers(-24, 2 * 96), st.one_of(st.integers(-1, 40), st.integers(40, 3 * 96)))
AGREES = st.sampled_from((True, True, True, False))
PICKS = st.integers(0, 200)
SOMEBODY, SOMEWHERE, ANYTHING = (st.sampled_from(tuple(all_)) for all_ in (THERAPISTS, PLACES, VISITS))


def doing(name: str, **drawn: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """A step of a life: one of its methods, and what it is called with."""
    return st.tuples(st.just(name), st.fixed_dictionaries(drawn))


class ClinicLife(RuleBasedStateMachine):
    """Does each thing to the clinic and to the model.

    All is one rule, since of several Hypothesis leaves some out of each life; in few lives most would never meet.
    """

    def __init__(self, engine: Engine, keys: Keyring, verified_every: int, outcomes: Counter[str]) -> None:
        super().__init__()
        self.clock = FixedClock(BEGINNINGS[0])
        self.clinic = Clinic(engine, self.clock, keys)
        self.model = Model(BEGINNINGS[0])
        self.outcomes = outcomes
        self.verified_every, self.steps = verified_every, 0

    @initialize(begins=st.sampled_from(BEGINNINGS), visits=st.lists(PICKS, min_size=3, max_size=6))
    def open_clinic(self, begins: datetime, visits: list[int]) -> None:
        self.clock.at, self.model = begins, Model(begins)
        empty(self.clinic.engine)
        self.clinic.policy(booking_horizon_days=HORIZON.days, access_goal_hours=GOAL // timedelta(hours=1))
        self._add_practice()
        with transaction(self.clinic.engine) as session:
            session.execute(update(AppointmentType).where(AppointmentType.minutes == 45).values(buffer_minutes=15))
            for therapist in THERAPISTS:
                session.add_all(Clinic.license(therapist, kind, "CO") for kind in LICENCES)
                for weekday in range(7):
                    self._set_day(session, therapist, weekday, DAYS[1 + (therapist + weekday) % (len(DAYS) - 1)])
        self._add_standby()
        self.clinic.plan()
        for number, pick in enumerate(visits):
            self.book(list(VISITS)[number % len(VISITS)], pick)

    def _add_practice(self) -> None:
        self.clinic.add_kinds()
        for place, (state, zone) in PLACES.items():
            assert self.clinic.add_location(state, zone.key, state) == place
            self.model.licensed_until.update({(t, kind, state): FAR_AHEAD for t in THERAPISTS for kind in LICENCES})
        for therapist in THERAPISTS:
            assert self.clinic.add_therapist(f"Therapist {therapist}") == therapist

    def _add_standby(self) -> None:
        place, opens, closes = STANDBY
        for therapist in THERAPISTS:
            self.clinic.add_hours(therapist, place, range(7), opens, closes, standby=True)
        with reading(self.clinic.engine) as session:
            rows = session.scalars(select(WorkingHours).where(WorkingHours.standby))
            self.standby = {(row.therapist_id, row.weekday): row.id for row in rows}

    def _set_day(self, session: Session, therapist: int, weekday: int, day: Day) -> None:
        self.model.week[therapist, weekday] = day
        of_day = (WorkingHours.therapist_id == therapist, WorkingHours.weekday == weekday, ~WorkingHours.standby)
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

    @rule(
        step=st.one_of(
            doing("book", kind=ANYTHING, pick=PICKS),
            doing("hold", kind=ANYTHING, pick=PICKS),
            doing("give_up", pick=PICKS),
            doing("book_what_is_held", pick=PICKS),
            doing(
                "book_what_is_not_offered",
                kind=ANYTHING,
                quarter=st.integers(-8, (HORIZON + LONGEST) // QUARTER),
                therapist=SOMEBODY,
                place=SOMEWHERE,
            ),
            doing("book_series", kind=ANYTHING, picks=st.lists(PICKS, min_size=2, max_size=4)),
            doing(
                "override",
                kind=ANYTHING,
                quarter=st.integers(0, HORIZON // QUARTER),
                therapist=SOMEBODY,
                place=SOMEWHERE,
            ),
            doing("cancel", pick=PICKS),
            doing("move", pick=PICKS, there=PICKS),
            doing("move_near", pick=PICKS, quarters=st.integers(-5, 5)),
            doing("change_hours", therapist=SOMEBODY, weekday=st.integers(0, 6), day=st.sampled_from(DAYS)),
            doing(
                "change_licence",
                therapist=SOMEBODY,
                kind=st.sampled_from(LICENCES),
                place=SOMEWHERE,
                days_left=st.one_of(st.none(), st.integers(-1, 3)),
            ),
            # Twice, so that visits are hit in some of few lives.
            *2
            * [
                doing("close", places=st.sets(SOMEWHERE, min_size=1), span=SPANS, agrees=AGREES),
                doing("take_time_off", therapist=SOMEBODY, span=SPANS, asked=st.booleans(), agrees=AGREES),
            ],
            doing("change_closure", pick=PICKS, span=SPANS, only_ends=st.booleans(), agrees=AGREES),
            doing(
                "decide",
                pick=PICKS,
                wish=st.sampled_from((TimeOffStatus.APPROVED, TimeOffStatus.DECLINED)),
                agrees=AGREES,
            ),
            doing("take_back", pick=PICKS),
            doing("keep_back", place=SOMEWHERE, level=st.one_of(st.none(), st.integers(0, 3))),
            doing("open_standby", therapist=SOMEBODY, days=st.integers(0, 3)),
            doing("close_standby", pick=PICKS, agrees=AGREES),
            doing("pass_time", minutes=st.sampled_from([0, 8, 15, 100, 7 * 60, 26 * 60]), sweeps=st.booleans()),
        )
    )
    def do(self, step: tuple[str, dict[str, Any]]) -> None:
        name, drawn = step
        getattr(self, name)(**drawn)
        before, after = self.model.kept, self._kept()
        wrong = [quarter for quarter in after - before if not self.model.may_be_kept(quarter)]
        assert wrong == [], (self.model.now, [self.model.is_planned(one) for one in wrong])
        assert name == "keep_back" or after <= before
        self.model.kept = after

    def book(self, kind: str, pick: int) -> None:
        offers = self.model.offers(kind, self.model.free())
        if offers:
            start = offers[pick % len(offers)]
            self.model.visits.append(Booked(start, kind, self.clinic.book(start.slot_id(), kind).token))
            self.model = self.model.swept(start.therapist)

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

    def give_up(self, pick: int) -> None:
        if not self.model.holds:
            return
        held = self.model.holds[pick % len(self.model.holds)]
        self.clinic.release(held.token)
        self.model = self.model.swept(held.start.therapist)
        self.model.holds = [one for one in self.model.holds if one is not held]

    def book_what_is_held(self, pick: int) -> None:
        """Whatever became of its hours and licences; while the hold lives, the notice counts from when it was made."""
        if not self.model.holds:
            return
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

    def book_series(self, kind: str, picks: list[int]) -> None:
        """Staff book several starts of one therapist: all, or none where two of them meet."""
        offers = self.model.offers(kind, self.model.free())
        if not offers:
            return
        therapist = offers[picks[0] % len(offers)].therapist
        own = [start for start in offers if start.therapist == therapist]
        visits = [Booked(start, kind, "") for start in dict.fromkeys(own[pick % len(own)] for pick in picks)]
        quarters = [one for visit in visits for one in visit.quarters()]
        with transaction(self.clinic.engine) as session:
            patient = session.scalars(select(Patient.id)).first()
        assert patient is not None
        ids = tuple(visit.start.slot_id() for visit in visits)
        wanted = BookSeries(
            ids, self.clinic.kinds[kind], patient, Needling.OPEN, None, Repeatable(uuid4().hex, uuid4().hex)
        )
        try:
            with transaction(self.clinic.engine) as session:
                booked = booking.book_series(session, wanted, by=ADMIN, keys=self.clinic.keys, now=self.model.now)
        except SeriesRefused:
            assert len({one.at for one in quarters}) < len(quarters)
            return
        assert len({one.at for one in quarters}) == len(quarters)
        self.outcomes["series"] += 1
        self.model = self.model.swept(therapist)
        self.model.visits += [replace(visit, token=one.token) for visit, one in zip(visits, booked, strict=True)]

    def override(self, kind: str, quarter: int, therapist: int, place: int) -> None:
        """Staff book against whatever rule there is, but for licences and what others have."""
        start = Start(next_quarter(self.model.now) + quarter * QUARTER, therapist, place)
        after, visit = self.model.swept(therapist), Booked(start, kind, "")
        meets = any((one.at, therapist) in after.taken() for one in visit.quarters())
        possible = not meets and after.licensed(start, needling=VISITS[kind][1])
        wanted = replace(wish(self.clinic, start.slot_id(), kind), override="she flies at noon")
        try:
            token = book_for(self.clinic, wanted).token
        except NotBookable:
            assert not possible
            return
        assert possible
        self.outcomes["against a rule"] += 1
        after.visits.append(replace(visit, token=token, known=after.gravest(visit)))
        self.model = after

    def cancel(self, pick: int) -> None:
        if not self.model.visits:
            return
        visit = self.model.visits[pick % len(self.model.visits)]
        if visit.start.at <= self.model.now and not visit.cancelled:
            with pytest.raises(VisitClosed):
                self.clinic.cancel(visit.token)
            return
        assert self.clinic.cancel(visit.token).appointment.status == "cancelled"
        visit.cancelled = True

    def move(self, pick: int, there: int) -> None:
        """To any start that is offered for its kind."""
        visit = self._to_come(pick)
        offers = self.model.offers(visit.kind, self.model.free()) if visit else []
        if visit and offers:
            self._move(visit, offers[there % len(offers)])

    def move_near(self, pick: int, quarters: int) -> None:
        """By some quarter hours, onto what is partly its own time, or anybody's, or nobody's."""
        visit = self._to_come(pick)
        if visit:
            self._move(visit, visit.start._replace(at=visit.start.at + quarters * QUARTER))

    def _to_come(self, pick: int) -> Booked | None:
        ahead = [one for one in self.model.visits if not one.cancelled and one.start.at > self.model.now]
        return ahead[pick % len(ahead)] if ahead else None

    def _move(self, visit: Booked, start: Start) -> None:
        if start == visit.start:
            return
        after = self.model.swept(start.therapist).swept(visit.start.therapist)
        after.visits = [one for one in after.visits if one is not visit]
        expected = after.bookable(start, visit.kind, after.free(), self.model.now + NOTICE)
        self.outcomes["moved" if expected else "not moved"] += 1
        try:
            with transaction(self.clinic.engine) as session:
                wish = MoveVisit(start.slot_id())
                moves.move(session, visit.token, wish, keys=self.clinic.keys, now=self.model.now)
        except (NotBookable, Invalid):
            assert not expected
            return
        assert expected
        visit.start = start
        after.visits.append(visit)
        self.model = after

    def change_hours(self, therapist: int, weekday: int, day: Day) -> None:
        with transaction(self.clinic.engine) as session:
            self._set_day(session, therapist, weekday, day)
            self._replan(session, therapist)

    def change_licence(self, therapist: int, kind: str, place: int, days_left: int | None) -> None:
        """Let a licence end so many days from now, or hold for good."""
        state, zone = PLACES[place]
        until = FAR_AHEAD if days_left is None else self.model.now.astimezone(zone).date() + timedelta(days=days_left)
        self.model.licensed_until[therapist, kind, state] = until
        held = (License.therapist_id == therapist, License.kind == kind, License.state == state)
        with transaction(self.clinic.engine) as session:
            session.execute(update(License).where(*held).values(valid_until=until))
            self._replan(session, therapist)

    def close(self, places: set[int], span: tuple[int, int], agrees: bool) -> None:
        closures = [Away(*self._times(span), place=place) for place in sorted(places)]

        def change(session: Session, agreed: str | None) -> None:
            details = closures[0].closure()
            rows = time_away.close(session, places, details, agreed=agreed, by=ADMIN, now=self.model.now)
            for closure, row in zip(closures, rows, strict=True):
                closure.row = row.id

        allowed = all(self.model.may_be(closure) for closure in closures)
        self._administer(change, self.model.with_away(*closures) if allowed else None, agrees=agrees)

    def change_closure(self, pick: int, span: tuple[int, int], only_ends: bool, agrees: bool) -> None:
        closures = self._some(TimeOffStatus.APPROVED, "place")
        if not closures:
            return
        closure = closures[pick % len(closures)]
        begins, ends = self._times(span)
        other = replace(closure, begins=closure.begins if only_ends else begins, ends=ends)

        def change(session: Session, agreed: str | None) -> None:
            seal = edits.seal_of(closure.closure())
            time_away.change_closure(
                session, closure.row, other.closure(), seal=seal, agreed=agreed, by=ADMIN, now=self.model.now
            )

        allowed = self.model.may_become(closure, other)
        self._administer(change, self.model.with_away(other, without=[closure]) if allowed else None, agrees=agrees)

    def take_time_off(self, therapist: int, span: tuple[int, int], asked: bool, agrees: bool) -> None:
        """A therapist asks for time off, or an administrator gives it."""
        absence = Away(
            *self._times(span), therapist=therapist, wish=TimeOffStatus.ASKED if asked else TimeOffStatus.APPROVED
        )

        def change(session: Session, agreed: str | None) -> None:
            if asked:
                row = time_away.ask(session, therapist, absence.off(), by=ADMIN, now=self.model.now)
            else:
                row = time_away.give(session, therapist, absence.off(), agreed=agreed, by=ADMIN, now=self.model.now)
            absence.row = row.id

        allowed = self.model.may_be(absence)
        self._administer(change, self.model.with_away(absence) if allowed else None, agrees=agrees)

    def decide(self, pick: int, wish: TimeOffStatus, agrees: bool) -> None:
        asked = self._some(TimeOffStatus.ASKED, "therapist")
        if not asked:
            return
        absence = asked[pick % len(asked)]

        def change(session: Session, agreed: str | None) -> None:
            time_away.decide(session, absence.row, wish, agreed=agreed, by=ADMIN, now=self.model.now)

        self._administer(change, self.model.with_away(replace(absence, wish=wish), without=[absence]), agrees=agrees)
        other = TimeOffStatus.DECLINED if wish == TimeOffStatus.APPROVED else TimeOffStatus.APPROVED
        if absence not in self.model.away:
            with pytest.raises(Decided), transaction(self.clinic.engine) as session:
                time_away.decide(session, absence.row, other, agreed=None, by=ADMIN, now=self.model.now)

    def take_back(self, pick: int) -> None:
        """A closure, or time off, that has not begun; a wish that nobody has decided, at any time."""
        if not self.model.away:
            return
        one = self.model.away[pick % len(self.model.away)]
        undo = time_away.open_again if one.place else time_away.withdraw

        def change(session: Session, _agreed: str | None) -> None:
            undo(session, one.row, by=ADMIN, now=self.model.now)

        begun = self.model.wall_of(one) >= one.begins
        allowed = one.wish == TimeOffStatus.ASKED or (one.wish == TimeOffStatus.APPROVED and not begun)
        self._administer(change, self.model.with_away(without=[one]) if allowed else None)

    def open_standby(self, therapist: int, days: int) -> None:
        day = self.model.now.astimezone(PLACES[STANDBY[0]][1]).date() + timedelta(days=days)
        hours_id, known = self.standby[therapist, day.weekday()], (therapist, day) in self.model.opened
        after = self.model.with_opened((therapist, day))
        possible = self.model.standby_ahead(therapist, day) and (known or self.model.gives(therapist, day))

        def change(session: Session, _agreed: str | None) -> None:
            standby.open_day(session, hours_id, day, Promise.KEPT, by=ADMIN, now=self.model.now)

        self._administer(change, after if possible else None)

    def close_standby(self, pick: int, agrees: bool) -> None:
        """What is over stays as it was."""
        if not self.model.opened:
            return
        therapist, day = sorted(self.model.opened)[pick % len(self.model.opened)]

        def change(session: Session, agreed: str | None) -> None:
            hours_id = self.standby[therapist, day.weekday()]
            standby.close_day(session, hours_id, day, agreed=agreed, by=ADMIN, now=self.model.now)

        ahead = self.model.standby_ahead(therapist, day)
        after = self.model.with_closed((therapist, day)) if ahead else None
        self._administer(change, after, agrees=agrees)

    def _some(self, wish: TimeOffStatus, what: str) -> list[Away]:
        return [one for one in self.model.away if one.wish == wish and getattr(one, what)]

    def _times(self, span: tuple[int, int]) -> tuple[datetime, datetime]:
        midnight = datetime.combine(self.model.now, time())
        begins, lasts = span
        return midnight + begins * QUARTER, midnight + (begins + lasts) * QUARTER

    def _administer(
        self, change: Callable[[Session, str | None], None], after: Model | None, *, agrees: bool = True
    ) -> None:
        """Do what an administrator does; it is refused where there is no model of afterwards.

        Who would hit visits is told of these very visits, and nothing is stored unless they agree.
        """
        if after is None:
            self.outcomes["refused"] += 1
            with pytest.raises(Invalid), transaction(self.clinic.engine) as session:
                change(session, None)
            return
        hit, agreement = self.model.hit_by(after), None
        if hit:
            with pytest.raises(NotAgreed) as refused, transaction(self.clinic.engine) as session:
                change(session, None)
            assert told(refused.value.hits) == hit
            agreement = refused.value.agreement
        self.outcomes["harmless" if not hit else "agreed" if agrees else "not agreed"] += 1
        if agrees or not hit:
            with transaction(self.clinic.engine) as session:
                change(session, agreement)
            self.model = after

    def keep_back(self, place: int, level: int | None) -> None:
        """An administrator pins a number, or lets the rule decide, and the worker follows."""
        with transaction(self.clinic.engine) as session:
            _, shown = protection.place_and_details(session, place)
            details = replace(shown, pinned=level)
            seal = edits.seal_of(shown)
            protection.change(session, place, details, seal=seal, by=ADMIN, now=self.model.now)
        self.outcomes["kept back"] += self.clinic.protect()
        assert self.clinic.protect() == 0

    def _kept(self) -> frozenset[Start]:
        with reading(self.clinic.engine) as session:
            cells = select(Slot.starts_at, Slot.therapist_id, Slot.location_id).where(Slot.protected)
            return frozenset(Start(*cell) for cell in session.execute(cells))

    def pass_time(self, minutes: int, sweeps: bool) -> None:
        """Time passes and the worker plans ahead, or sweeps what expired."""
        self.clock.at = self.model.now = self.model.now + timedelta(minutes=minutes)
        self.clinic.plan()
        if sweeps:
            self._sweep()

    def _sweep(self) -> None:
        with reading(self.clinic.engine) as session:
            therapists = holds.overdue(session, now=self.model.now)
        for therapist in therapists:
            with transaction(self.clinic.engine) as session:
                holds.sweep(session, [therapist], now=self.model.now)
        self.model = self.model.swept()

    @invariant()
    def search_lists_what_the_model_offers(self) -> None:
        free = self.model.free()
        for kind in VISITS:
            found = self.clinic.offers(kind, limit=1000)
            starts = [Start(o.slot.starts_at, o.slot.therapist_id, o.slot.location_id) for o in found]
            assert starts == self.model.offers(kind, free)

    @invariant()
    def no_rule_is_broken_and_no_visit_forgotten(self) -> None:
        """Lapsed licences break a rule; they, and all else that no longer fits, are what administrators are shown."""
        self.steps += 1
        if self.steps % self.verified_every:
            return
        unfit = self.model.unfit()
        with reading(self.clinic.engine) as session:
            assert told(consequences.unfit(session, now=self.model.now)) == unfit
            findings = verify.verify(session, now=self.model.now)
            broken = {found.rule: found.violations for found in findings if found.violations}
        broken.pop(UNDELIVERED, None)
        lapsed = list(unfit.values()).count("not-licensed")
        assert broken == ({UNLICENSED: lapsed} if lapsed else {})


def told(hits: Collection[Hit]) -> dict[Start, str]:
    """What administrators read of visits."""
    return {Start(hit.starts_at, int(hit.therapist.split()[-1]), hit.location_id): hit.why for hit in hits}


def empty(engine: Engine) -> None:
    """Take everything out but the policy and the explainer."""
    tables = [table.name for table in reversed(Base.metadata.sorted_tables) if table.name not in KEPT]
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            postgres.empty(connection, tables)
            return
        connection.execute(text("DROP TRIGGER IF EXISTS tr_audit_event_not_deleted"))
        connection.execute(
            text(
                "UPDATE slot SET appointment_id = NULL, fit = 1, fit_open = 1 - protected "
                "WHERE appointment_id IS NOT NULL"
            )
        )
        for table in tables:
            connection.execute(text(f"DELETE FROM {table}"))


@pytest.mark.parametrize(
    ("lives", "steps", "verified_every"),  # asking every rule takes as long as all the rest of a step
    [pytest.param(6, 14, 5, id="small"), pytest.param(60, 40, 1, id="full", marks=pytest.mark.drill)],
)
def test_whatever_happens_search_and_bookings_are_what_a_plain_model_says(
    engine: Engine, keys: Keyring, lives: int, steps: int, verified_every: int
) -> None:
    outcomes = Counter[str]()

    class Life(ClinicLife):
        def __init__(self) -> None:
            super().__init__(engine, keys, verified_every, outcomes)

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
    assert outcomes.keys() >= {"agreed", "refused", "moved"}, outcomes
    assert outcomes["kept back"] > 0, outcomes
    assert outcomes["against a rule"] > 0, outcomes
    assert outcomes["series"] > 0, outcomes
