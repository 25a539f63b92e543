"""Any sequence of what administrators do to hours, licences, therapists and places: the calendar follows each at once.

What is free is what is planned, what is taken stays, a refusal changes nothing, nobody is ever planned twice, and what
was told of starts gained and lost before it was saved is what became of search.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.keys import Keyring
from scheduler.models import (
    AppointmentType,
    Closure,
    License,
    Location,
    Slot,
    StateRule,
    Therapist,
    TimeOff,
    WorkingHours,
)
from scheduler.services import availability, consequences, edits, hours, practice, slots, staffing, time_away
from scheduler.services import clinic as changes
from scheduler.services.availability import Find, SlotName
from scheduler.services.clinic import LocationDetails, RuleDetails
from scheduler.services.consequences import NO_VISITS, UNSEEN, NotAgreed, Why
from scheduler.services.hours import HoursClash, HoursDetails
from scheduler.services.planned import planned_time
from scheduler.services.time_away import ClosureDetails, OffDetails
from scheduler.timeline import CELL, DAY, next_cell
from tests.clinic import Clinic
from tests.conftest import MONDAY_MORNING
from tests.services.test_hours import ADMIN
from tests.services.test_state_machine import UNLICENSED, empty

TODAY = date(2026, 11, 23)
HORIZON_DAYS = 9
ZONES = ("America/Chicago", "America/Denver", "America/New_York")
ALL = 100_000
Told = dict[str, tuple[int, int]]
Change = Callable[[Session, str | None, datetime], None]

places = st.sampled_from([1, 2])
therapists = st.sampled_from([1, 2])
days = st.integers(-1, 12).map(lambda n: TODAY + n * DAY)
ends = st.one_of(st.none(), days)
minutes = st.integers(24, 90).map(lambda quarters: quarters * 15)
named = st.sets(st.sampled_from([1, 2]), max_size=1).map(tuple)
lengths = st.integers(2, 40).map(lambda quarters: quarters * 15)


@dataclass(frozen=True)
class Step:
    """One thing that is done; what it is done to is picked from what is there then."""

    name: str
    change: Callable[[Session], Change]


def pick(session: Session, table: Any, number: int) -> Any:  # noqa: ANN401 a model, and its row
    """One of the rows that there are."""
    rows = session.scalars(select(table).order_by(table.id)).all()
    return rows[number % len(rows)] if rows else None


@st.composite
def adding(draw: st.DrawFn) -> Step:
    opens = draw(minutes)
    new = HoursDetails(opens, opens + draw(lengths), draw(days), draw(ends), draw(st.sampled_from([1, 1, 2, 3])))
    therapist, place, weekdays = draw(therapists), draw(places), draw(st.sets(st.integers(0, 6), min_size=1))

    def change(_session: Session) -> Change:
        return lambda session, agreed, now: void(
            hours.add(session, therapist, place, weekdays, new, agreed=agreed, by=ADMIN, now=now)
        )

    return Step("add hours", change)


@st.composite
def changing(draw: st.DrawFn) -> Step:
    number, opens, length = draw(st.integers(0, 30)), draw(minutes), draw(lengths)
    from_, until = draw(days), draw(ends)

    def change(session: Session) -> Change:
        row = pick(session, WorkingHours, number)
        if row is None:
            return nothing
        before = hours.details_of(row)
        new = replace(before, opens_minute=opens, closes_minute=opens + length, valid_from=from_, valid_until=until)
        new = new if number % 2 else replace(before, valid_until=until)
        seal = edits.seal_of(before)
        return lambda session, agreed, now: hours.change(
            session, row.id, new, seal=seal, agreed=agreed, by=ADMIN, now=now
        )

    return Step("change hours", change)


@st.composite
def removing(draw: st.DrawFn) -> Step:
    number = draw(st.integers(0, 30))

    def change(session: Session) -> Change:
        row = pick(session, WorkingHours, number)
        if row is None:
            return nothing
        return lambda session, agreed, now: hours.remove(session, row.id, agreed=agreed, by=ADMIN, now=now)

    return Step("remove hours", change)


@st.composite
def licensing(draw: st.DrawFn) -> Step:
    number, until = draw(st.integers(0, 30)), draw(days)

    def change(session: Session) -> Change:
        row = pick(session, License, number)
        before = staffing.license_details(row)
        new = replace(before, valid_until=max(until, before.valid_from))
        seal = edits.seal_of(before)
        return lambda session, agreed, now: staffing.change_license(
            session, row.id, new, seal=seal, agreed=agreed, by=ADMIN, now=now
        )

    return Step("change a licence", change)


@st.composite
def staying(draw: st.DrawFn) -> Step:
    therapist, active = draw(therapists), draw(st.booleans())

    def change(session: Session) -> Change:
        before = staffing.therapist_details(session, session.get_one(Therapist, therapist))
        new, seal = replace(before, active=active), edits.seal_of(before)
        return lambda session, agreed, now: staffing.change_therapist(
            session, therapist, new, seal=seal, agreed=agreed, by=ADMIN, now=now
        )

    return Step("change a therapist", change)


@st.composite
def housing(draw: st.DrawFn) -> Step:
    place, zone, active, state = (
        draw(places), draw(st.sampled_from(ZONES)), draw(st.booleans()), draw(st.sampled_from(("IL", "CO"))),
    )  # fmt: skip

    def change(session: Session) -> Change:
        before = edits.read_off(LocationDetails, session.get_one(Location, place))
        new, seal = replace(before, time_zone=zone, active=active, state=state), edits.seal_of(before)
        return lambda session, agreed, now: changes.change_location(
            session, place, new, seal=seal, agreed=agreed, by=ADMIN, now=now
        )

    return Step("change a place", change)


@st.composite
def ruling(draw: st.DrawFn) -> Step:
    needling = draw(st.sampled_from(("permitted", "silent", "forbidden")))
    qualification = draw(st.sampled_from((None, "dry_needling", "endorsement")))
    new = RuleDetails(draw(st.sampled_from(("IL", "CO"))), draw(days), needling, qualification, None, "test", TODAY)

    def change(_session: Session) -> Change:
        return lambda session, agreed, now: void(changes.add_rule(session, new, agreed=agreed, by=ADMIN, now=now))

    return Step("add a rule", change)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[date, int, date, int]:
    first, length = draw(days), draw(st.integers(0, 4))
    return first, draw(minutes) % 1440, first + length * DAY, draw(st.integers(1, 96)) * 15


@st.composite
def going_away(draw: st.DrawFn) -> Step:
    wall, place, therapist, closes = draw(ranges()), draw(places), draw(therapists), draw(st.booleans())

    def change(_session: Session) -> Change:
        if closes:
            return lambda session, agreed, now: void(
                time_away.close(session, [place], ClosureDetails(*wall, "Snow"), agreed=agreed, by=ADMIN, now=now)
            )
        return lambda session, agreed, now: void(
            time_away.give(session, therapist, OffDetails(*wall), agreed=agreed, by=ADMIN, now=now)
        )

    return Step("close a place" if closes else "give time off", change)


@st.composite
def coming_back(draw: st.DrawFn) -> Step:
    number, table = draw(st.integers(0, 30)), draw(st.sampled_from((Closure, TimeOff)))
    undo = time_away.open_again if table is Closure else time_away.withdraw

    def change(session: Session) -> Change:
        row = pick(session, table, number)
        if row is None:
            return nothing
        return lambda session, agreed, now: undo(session, row.id, agreed=agreed, by=ADMIN, now=now)

    return Step("take back", change)


@st.composite
def closing_otherwise(draw: st.DrawFn) -> Step:
    number, wall = draw(st.integers(0, 30)), draw(ranges())

    def change(session: Session) -> Change:
        row = pick(session, Closure, number)
        if row is None:
            return nothing
        seal = edits.seal_of(edits.read_off(ClosureDetails, row))
        new = ClosureDetails(*wall, row.reason)
        return lambda session, agreed, now: time_away.change_closure(
            session, row.id, new, seal=seal, agreed=agreed, by=ADMIN, now=now
        )

    return Step("change a closure", change)


@st.composite
def offering(draw: st.DrawFn) -> Step:
    kind, people, where = draw(st.integers(1, 3)), draw(named), draw(named)
    new: dict[str, Any] = {
        "minutes": draw(st.integers(1, 6)) * 15,
        "buffer_minutes": draw(st.integers(0, 2)) * 15,
        "includes_needling": draw(st.booleans()),
        "active": draw(st.integers(0, 5)) > 0,
        "notice_minutes": draw(st.sampled_from([None, 0, 600, 3000])),
        "horizon_days": draw(st.sampled_from([None, 1, 4])),
        "therapist_ids": people,
        "location_ids": where,
    }

    def change(session: Session) -> Change:
        before = changes.type_details(session, session.get_one(AppointmentType, kind))
        seal = edits.seal_of(before)
        return lambda session, agreed, now: changes.change_type(
            session, kind, replace(before, **new), seal=seal, agreed=agreed, by=ADMIN, now=now
        )

    return Step("change a kind of visit", change)


def nothing(_session: Session, _agreed: str | None, _now: datetime) -> None:
    """There is nothing to do it to."""


def void(_result: object) -> None:
    """Leave a result."""


STEPS = st.lists(
    st.one_of(
        adding(), adding(), changing(), changing(), removing(), licensing(), staying(), housing(), ruling(),
        going_away(), going_away(), coming_back(), closing_otherwise(), offering(), offering(),
    ),
    min_size=4,
    max_size=9,
)  # fmt: skip


def opened(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    """Two therapists with licences of two states, at two places in two zones, for nine days."""
    empty(engine)
    clinic = Clinic(engine, clock, keys)
    clock.at = MONDAY_MORNING
    clinic.policy(booking_horizon_days=HORIZON_DAYS)
    clinic.add_kinds()
    clinic.add_location("Springfield", "America/Chicago", "IL")
    clinic.add_location("Denver", "America/Denver", "CO")
    with transaction(engine) as session:
        for name in ("Ana Abbott", "Ben Becker"):
            person = clinic_therapist(session, name)
            session.add_all(
                Clinic.license(person, kind, state) for kind in ("pt", "dry_needling") for state in ("IL", "CO")
            )
    clinic.add_hours(1, 1, weekdays=range(7), opens=8 * 60, closes=12 * 60)
    clinic.add_hours(2, 2, weekdays=range(7), opens=20 * 60, closes=26 * 60)
    clinic.plan()
    for therapist in (1, 2):
        for kind, number in (("Needling", 3), ("Evaluation", 40)):
            clinic.book(str(clinic.offers(kind, therapist_id=therapist)[number].slot), kind)
    return clinic


def clinic_therapist(session: Session, name: str) -> int:
    person = Therapist(name=name, credentials="PT", active=True)
    session.add(person)
    session.flush()
    return person.id


def cells(engine: Engine, *, taken: bool) -> set[tuple[int, datetime, int]]:
    with reading(engine) as session:
        wanted = Slot.appointment_id.is_not(None) if taken else Slot.appointment_id.is_(None)
        return {(s.therapist_id, s.starts_at, s.location_id) for s in session.scalars(select(Slot).where(wanted))}


def planned(clinic: Clinic, end: datetime) -> set[tuple[int, datetime, int]]:
    now = clinic.clock.now()
    with reading(clinic.engine) as session:
        stretches = planned_time(session, [1, 2], next_cell(now), end)
    found = Counter(
        (stretch.therapist_id, stretch.starts_at + n * CELL, stretch.location_id)
        for stretch in stretches
        for n in range(stretch.cells)
    )
    assert all(count == 1 for count in found.values())
    return set(found)


def offered(clinic: Clinic) -> dict[str, set[SlotName]]:
    """Every start that search lists, by kind of visit."""
    with reading(clinic.engine) as session:
        kinds = practice.appointment_types(session)
        pages = {
            kind.name: availability.search(session, Find(kind.id, limit=ALL), now=clinic.clock.now()) for kind in kinds
        }
    return {name: {offer.slot for offer in page.offers} for name, page in pages.items()}


def difference(before: dict[str, set[SlotName]], after: dict[str, set[SlotName]]) -> Told:
    """How many starts came and went, by kind of visit."""
    pairs = {name: (before.get(name, set()), after.get(name, set())) for name in before | after}
    return {name: (len(new - old), len(old - new)) for name, (old, new) in pairs.items() if old != new}


def do(clinic: Clinic, step: Step) -> tuple[str, Told]:
    """Do one thing as an administrator does, agreeing to what it does; return what came of it, and what was told."""
    with reading(clinic.engine) as session:
        change = step.change(session)
    agreed, told = UNSEEN, {}
    for _ in range(2):
        try:
            with transaction(clinic.engine) as session:
                change(session, agreed, clinic.clock.now())
        except NotAgreed as refusal:
            agreed = refusal.agreement
            told = {starts.kind: (starts.gained, starts.lost) for starts in refusal.starts}
        except (Invalid, HoursClash):
            return "refused", {}
        else:
            break
    else:
        raise AssertionError("agreeing was not enough")
    return ("visits" if agreed not in {UNSEEN, NO_VISITS} else "starts" if agreed else "nothing"), told


def run(clinic: Clinic, steps: list[Step]) -> Counter[str]:
    taken, outcomes, end = cells(clinic.engine, taken=True), Counter[str](), end_of_plan(clinic)
    taken_times = {cell[:2] for cell in taken}
    for step in steps:
        before, offers = cells(clinic.engine, taken=False), offered(clinic)
        outcome, told = do(clinic, step)
        outcomes[outcome] += 1
        free = cells(clinic.engine, taken=False)
        assert free == {cell for cell in planned(clinic, end) if cell[:2] not in taken_times}, step.name
        assert cells(clinic.engine, taken=True) == taken, step.name
        assert outcome != "refused" or free == before, step.name
        assert told == difference(offers, offered(clinic)), step.name
        assert clinic.violations().keys() <= {UNLICENSED}, step.name
    assert clinic.plan() == slots.Changes()
    return outcomes


def end_of_plan(clinic: Clinic) -> datetime:
    with reading(clinic.engine) as session:
        return slots.horizon_end(practice.policy(session), clinic.clock.now())


@pytest.mark.parametrize(
    "sequences", [pytest.param(5, id="small"), pytest.param(150, id="full", marks=pytest.mark.drill)]
)
def test_the_calendar_follows_whatever_administrators_do(
    engine: Engine, clock: FixedClock, keys: Keyring, sequences: int
) -> None:
    outcomes = Counter[str]()

    @given(steps=STEPS)
    @settings(
        max_examples=sequences,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def live(steps: list[Step]) -> None:
        outcomes.update(run(opened(engine, clock, keys), steps))

    live()
    assert set(outcomes) == {"nothing", "starts", "visits", "refused"}, outcomes


def test_unlicensed_visits_are_those_that_the_list_names(clinic: Clinic, engine: Engine) -> None:
    """What `verify` counts and what administrators are shown are the same visits."""
    clinic.book(str(clinic.offers("Needling")[0].slot), "Needling")
    clinic.book(str(clinic.offers("Evaluation")[8].slot))
    with transaction(engine) as session:
        session.scalars(select(StateRule)).one().needling = "forbidden"
    with reading(engine) as session:
        hits = consequences.unfit(session, now=clinic.clock.now())
    assert [hit.why for hit in hits] == [Why.NOT_LICENSED]
    assert clinic.violations()[UNLICENSED] == 1
    assert hits[0].starts_at - clinic.clock.now() < timedelta(hours=2)
