"""Random clinics against a small model in plain Python: what search lists is what the model says, and can be booked.

The model knows days and minutes on a wall, sets of quarter hours, and nothing of the program's own calendar. Its week
has no change of the clocks: those are in tests/test_timeline.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, update

from scheduler.clock import FixedClock
from scheduler.db import transaction
from scheduler.errors import Invalid, NotBookable, TooMany
from scheduler.keys import Keyring
from scheduler.models import License
from scheduler.services import booking, holds, practice, time_away, verify
from scheduler.services.availability import SlotName
from scheduler.services.holds import HoldTime
from scheduler.services.time_away import ClosureDetails, OffDetails
from scheduler.timeline import CELL
from tests.clinic import LONG_AGO, Clinic
from tests.services.test_hours import ADMIN
from tests.services.test_state_machine import empty
from tests.services.test_type_limits import limit

ONE_DAY = timedelta(days=1)
MONDAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HORIZON = 3
NEAR_ZONES = (("America/Chicago", "America/Phoenix"), ("America/Phoenix", "America/Chicago"), ("Asia/Kathmandu",) * 2)
BOOKED, HELD = 6, 2


@dataclass
class Model:
    """What was entered, as it was entered."""

    zones: dict[int, ZoneInfo] = field(default_factory=dict)
    hours: list[tuple[int, int, int, int, int, date, int]] = field(default_factory=list)
    away: list[tuple[str, int, date, int, date, int]] = field(default_factory=list)  # "place" or "person", and its id
    until: dict[tuple[int, str], date] = field(default_factory=dict)  # the last day of a licence
    kinds: dict[str, tuple[int, bool, int, int, set[int], set[int]]] = field(default_factory=dict)
    taken: set[tuple[int, datetime]] = field(default_factory=set)

    def cells(self) -> set[SlotName]:
        """The quarter hours that somebody works in, taken ones too."""
        return {
            SlotName(person, place, cell)
            for person, place, weekday, opens, closes, first, every in self.hours
            for day in (MONDAY - ONE_DAY + number * ONE_DAY for number in range(HORIZON + 4))
            if day.weekday() == weekday and day >= first and self.weeks(first, day) % every == 0
            for cell in self.walk(place, day, opens, closes)
            if not self.is_away(person, place, cell) and self.holds(person, "pt", place, cell)
        }

    @staticmethod
    def weeks(first: date, day: date) -> int:
        return ((day - day.weekday() * ONE_DAY) - (first - first.weekday() * ONE_DAY)).days // 7

    def walk(self, place: int, day: date, opens: int, closes: int) -> Iterator[datetime]:
        midnight = datetime.combine(day, time(), self.zones[place])
        for minute in range(opens, closes, 15):
            yield (midnight + timedelta(minutes=minute)).astimezone(UTC)

    def wall(self, place: int, cell: datetime) -> tuple[date, int]:
        local = cell.astimezone(self.zones[place])
        return local.date(), local.hour * 60 + local.minute

    def is_away(self, person: int, place: int, cell: datetime) -> bool:
        at = self.wall(place, cell)
        return any(
            (first, opens) <= at < (last, closes) and number == (place if what == "place" else person)
            for what, number, first, opens, last, closes in self.away
        )

    def holds(self, person: int, licence: str, place: int, cell: datetime) -> bool:
        return self.wall(place, cell)[0] <= self.until.get((person, licence), date.min)

    def offered(self, kind: str) -> set[SlotName]:
        minutes, needling, notice, days, people, places = self.kinds[kind]
        free = {cell for cell in self.cells() if (cell.therapist_id, cell.starts_at) not in self.taken}
        return {
            cell
            for cell in free
            if NOW + timedelta(minutes=notice) <= cell.starts_at <= NOW + days * ONE_DAY
            and (not people or cell.therapist_id in people)
            and (not places or cell.location_id in places)
            and (not needling or self.holds(cell.therapist_id, "dry_needling", cell.location_id, cell.starts_at))
            and all(
                SlotName(cell.therapist_id, cell.location_id, cell.starts_at + number * CELL) in free
                for number in range(minutes // 15)
            )
        }


def enter(clinic: Clinic, chance: Random) -> Model:
    """Make a clinic at random: two places, three people at both, their licences, what is away, who offers what."""
    model = Model()
    clinic.policy(booking_horizon_days=HORIZON, booking_notice_minutes=chance.choice((0, 60, 600)))
    for name, zone in zip(("Springfield", "Denver"), chance.choice(NEAR_ZONES), strict=True):
        model.zones[clinic.add_location(name, zone, "IL")] = ZoneInfo(zone)
    kinds = (("Short", 15, False), ("Long", 60, False), ("Needling", 30, True))
    buffer = chance.choice((0, 0, 15))
    clinic.add_kinds(tuple((name, minutes, False, needling) for name, minutes, needling in kinds), buffer)
    for name in ("Ana", "Ben", "Cleo"):
        enter_person(clinic, model, clinic.add_therapist(name), chance)
    for name, minutes, needling in kinds:
        enter_kind(clinic, model, (name, minutes + buffer, needling), chance)
    for _ in range(chance.randrange(4)):
        enter_away(clinic, model, chance)
    return model


def enter_person(clinic: Clinic, model: Model, person: int, chance: Random) -> None:
    """Mornings at one place, afternoons or nights at the other: apart, though their clocks differ by an hour."""
    first, second = chance.sample(sorted(model.zones), 2)
    for place, earliest, longest in (
        (first, 4 * 60, 24),
        (second, 12 * 60, 54),
    ):
        weekdays = {day for day in range(7) if chance.random() < 0.8}
        begins = earliest + chance.randrange(8) * 15
        ends = begins + chance.randrange(1, longest - 8) * 15
        every, since = chance.choice((1, 1, 2)), chance.choice((LONG_AGO, MONDAY - 7 * ONE_DAY, MONDAY + ONE_DAY))
        clinic.add_hours(person, place, sorted(weekdays), begins, ends, every_weeks=every, valid_from=since)
        model.hours += [(person, place, day, begins, ends, since, every) for day in weekdays]
    for kind in ("pt", "dry_needling"):
        last = chance.choice((date(2099, 1, 1), date(2099, 1, 1), MONDAY + ONE_DAY, MONDAY - ONE_DAY))
        model.until[person, kind] = last
        with transaction(clinic.engine) as session:
            whose = License.therapist_id == person, License.kind == kind
            session.execute(update(License).where(*whose).values(valid_until=last))


def enter_kind(clinic: Clinic, model: Model, kind: tuple[str, int, bool], chance: Random) -> None:
    name, minutes, needling = kind
    notice, days = chance.choice((None, 0, 300)), chance.choice((None, 1, 2))
    people = set(chance.sample((1, 2, 3), 2)) if chance.random() < 0.3 else set()
    places = {chance.choice((1, 2))} if chance.random() < 0.3 else set()
    limit(clinic, name, people, places, notice_minutes=notice, horizon_days=days)
    with transaction(clinic.engine) as session:
        clinic_notice = practice.policy(session).booking_notice_minutes
    model.kinds[name] = (
        minutes,
        needling,
        clinic_notice if notice is None else notice,
        days or HORIZON,
        people,
        places,
    )


def enter_away(clinic: Clinic, model: Model, chance: Random) -> None:
    first = MONDAY + chance.randrange(HORIZON + 1) * ONE_DAY
    wall = first, chance.randrange(96) * 15, first + chance.randrange(1, 3) * ONE_DAY, chance.randrange(1, 97) * 15
    what, number = chance.choice((("place", chance.choice((1, 2))), ("person", chance.choice((1, 2, 3)))))
    with transaction(clinic.engine) as session:
        now = clinic.clock.now()
        if what == "place":
            time_away.close(session, [number], ClosureDetails(*wall, "Snow"), agreed=None, by=ADMIN, now=now)
        else:
            time_away.give(session, number, OffDetails(*wall), agreed=None, by=ADMIN, now=now)
    model.away.append((what, number, *wall))


def listed(clinic: Clinic, kind: str) -> set[SlotName]:
    return {offer.slot for offer in clinic.offers(kind, limit=100_000)}


def fill(clinic: Clinic, model: Model, chance: Random) -> None:
    """Book some times and hold others; both are gone from the model then."""
    for number in range(BOOKED + HELD):
        kind = chance.choice(sorted(model.kinds))
        offers = sorted(listed(clinic, kind), key=str)
        if not offers:
            continue
        slot = chance.choice(offers)
        if number < BOOKED:
            clinic.book(str(slot), kind)
        else:
            with transaction(clinic.engine) as session:
                wish = HoldTime(str(slot), clinic.kinds[kind])
                try:
                    holds.hold(session, wish, now=clinic.clock.now())
                except TooMany:
                    continue
        cells = model.kinds[kind][0] // 15
        model.taken |= {(slot.therapist_id, slot.starts_at + cell * CELL) for cell in range(cells)}


def can_be_booked(clinic: Clinic, slot: SlotName, kind: str) -> bool:
    """Whether booking takes it, in a transaction that is taken back."""
    try:
        with transaction(clinic.engine) as session:
            booking.book(session, clinic.request(str(slot), kind), keys=clinic.keys, now=clinic.clock.now())
            session.rollback()
    except (NotBookable, Invalid):
        return False
    return True


@pytest.mark.parametrize(
    ("clinics", "tried"),  # on each of two databases, none of them twice; starts of a kind, offered and refused
    [pytest.param(3, 12, id="small"), pytest.param(5_000, 3, id="full", marks=pytest.mark.drill)],
)
def test_what_is_listed_is_what_the_model_says_and_what_can_be_booked(
    engine: Engine, clock: FixedClock, keys: Keyring, clinics: int, tried: int
) -> None:
    seen = 0
    for seed in range(clinics):
        chance = Random(f"{engine.dialect.name} {seed}")
        empty(engine)
        clock.at = NOW
        clinic = Clinic(engine, clock, keys)
        model = enter(clinic, chance)
        clinic.plan()
        fill(clinic, model, chance)
        for kind in model.kinds:
            offered = listed(clinic, kind)
            assert offered == model.offered(kind), (seed, kind)
            refused = sorted(model.cells() - offered, key=str)
            for slots, bookable in ((sorted(offered, key=str), True), (refused, False)):
                for slot in chance.sample(slots, min(tried, len(slots))):
                    assert can_be_booked(clinic, slot, kind) is bookable, (seed, kind, slot)
            seen += len(offered)
        with transaction(engine) as session:
            assert {finding.violations for finding in verify.verify(session, now=NOW)} == {0}, seed
    assert seen > clinics * 20
