"""A day whose kept-back times are let go can be booked at once, as was told, and stays so until that is taken back."""

import threading
from datetime import date, timedelta
from random import Random

import pytest
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotFound
from scheduler.models import AppointmentType, AuditEvent, LetGoDay, Lever, LeverUse, Location, Promise
from scheduler.services import letting_go, lever_uses
from scheduler.services.availability import SlotName
from scheduler.services.letting_go import KeptDay
from scheduler.timeline import CELL, DAY, local_date
from tests.clinic import HOUR, Clinic, rows
from tests.keeping import ADMIN, CHICAGO, GOAL, by_day, first_kept, kept, level_of, pin
from tests.server import at_once
from tests.services.test_queries import statements

THURSDAY = date(2026, 11, 26)  # the first day that has not begun to be released on Monday morning


def told(clinic: Clinic) -> list[KeptDay]:
    with reading(clinic.engine) as session:
        kind = session.get_one(AppointmentType, clinic.kinds["Evaluation"])
        return letting_go.days_ahead(session, kind, session.get_one(Location, 1), now=clinic.clock.now())


def let_go(clinic: Clinic, day: date = THURSDAY) -> list[LeverUse]:
    with transaction(clinic.engine) as session:
        found = letting_go.let_go(session, 1, day, Promise.KEPT, by=ADMIN, now=clinic.clock.now())
        return list(found)


def keep_again(clinic: Clinic, day: date = THURSDAY) -> None:
    with transaction(clinic.engine) as session:
        letting_go.keep_again(session, 1, day, by=ADMIN, now=clinic.clock.now())


def listed(clinic: Clinic) -> set[SlotName]:
    return {offer.slot for offer in clinic.offers(location_id=1, limit=10_000)}


def test_what_is_let_go_can_be_booked_at_once_and_no_tick_takes_it_back(clinic: Clinic, clock: FixedClock) -> None:
    clinic.protect()
    others = {key for key in kept(clinic.engine) if local_date(key[1], CHICAGO) != THURSDAY}
    slot = first_kept(clinic)
    assert slot not in listed(clinic)
    let_go(clinic)
    assert kept(clinic.engine) == others
    clinic.book(str(slot))
    for hours in (0, 1, 20):  # soon, and on the next day, when the number is decided anew
        clock.at += hours * HOUR
        clinic.protect()
        assert THURSDAY not in by_day(kept(clinic.engine))
    assert by_day(kept(clinic.engine)).keys() == by_day(others).keys()
    pin(clinic, 1)
    assert THURSDAY not in by_day(kept(clinic.engine))
    assert clinic.violations() == {}


@pytest.mark.parametrize("seed", range(4))
def test_what_is_told_is_what_search_gains(clinic: Clinic, clock: FixedClock, seed: int) -> None:
    """With visits of all lengths, two therapists and any moment; the starts that run into what was kept back, too."""
    chance = Random(seed)
    clinic.add_hours(clinic.add_therapist("Ben Becker", kinds=("pt",)), 1, range(6), 9 * 60, 14 * 60)
    clinic.plan()
    clock.at += timedelta(minutes=chance.randrange(0, 4000, 7))
    for _ in range(30):
        kind = chance.choice(("Evaluation", "Follow-up"))
        clinic.book(
            str(chance.choice(clinic.offers(kind, from_=clock.at + 36 * HOUR, to=clock.at + 8 * DAY)).slot), kind
        )
    clinic.protect()
    clock.at += timedelta(minutes=chance.randrange(0, 2000, 7))
    for _ in range(3):
        one, before, cells = chance.choice(told(clinic)), listed(clinic), kept(clinic.engine)
        opened = let_go(clinic, one.day)
        assert len(listed(clinic) - before) == one.starts > 0
        assert sum(use.cells for use in opened) == one.cells == len(cells - kept(clinic.engine))
        assert one.first == min(use.starts_at for use in opened)
        assert one.day not in [other.day for other in told(clinic)]
    assert clinic.violations() == {}


def test_nothing_is_gained_within_the_goal_s_hours(clinic: Clinic, clock: FixedClock) -> None:
    """A day that begins to be released is told of, and let go, from there on."""
    clinic.protect()
    slot = first_kept(clinic)
    clock.at = slot.starts_at + 3 * CELL - GOAL
    (day, *_) = told(clinic)
    assert (day.day, day.first > slot.starts_at) == (THURSDAY, True)
    (use,) = let_go(clinic)
    assert (use.starts_at, use.cells, day.cells) == (day.first, 4, 4)
    assert slot in listed(clinic)
    clock.at += 12 * HOUR
    with pytest.raises(Invalid):
        keep_again(clinic, THURSDAY + DAY)
    assert told(clinic)[0].day > THURSDAY


def test_a_day_is_let_go_once_and_taken_back_once(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    clinic.protect()
    first, before = let_go(clinic), kept(engine)
    assert [use.id for use in let_go(clinic)] == [use.id for use in first]
    with reading(engine) as session:
        assert letting_go.days_let_go(session, now=clock.now())[1][0].day == THURSDAY
        assert letting_go.days_let_go(session, now=clock.now() + 4 * DAY) == {}
    keep_again(clinic)
    clinic.protect()
    assert by_day(kept(engine))[THURSDAY] == 2 * 4
    assert before < kept(engine)
    with pytest.raises(Invalid):
        keep_again(clinic)
    let_go(clinic)
    with reading(engine) as session:
        uses = rows(session, LeverUse)
        assert [(use.lever, use.day, use.closed_at is None) for use in uses] == [
            ("release", THURSDAY, number >= len(first)) for number in range(len(uses))
        ]
        told_ = [event.action for event in rows(session, AuditEvent) if event.entity == "protection_level"]
    assert told_[-3:] == ["protection_level.let_go", "protection_level.kept_again", "protection_level.let_go"]
    assert level_of(clinic).level == 2


def test_what_cannot_be_let_go_is_refused(clinic: Clinic) -> None:
    with pytest.raises(Invalid, match="day"):
        let_go(clinic)
    clinic.protect()
    with pytest.raises(Invalid, match="day"):
        let_go(clinic, THURSDAY - DAY)
    with pytest.raises(NotFound), transaction(clinic.engine) as session:
        letting_go.let_go(session, 99, THURSDAY, Promise.KEPT, by=ADMIN, now=clinic.clock.now())
    with reading(clinic.engine) as session:
        assert rows(session, LeverUse) == rows(session, LetGoDay) == []


def test_the_record_counts_what_was_booked_of_what_was_let_go(clinic: Clinic, engine: Engine) -> None:
    clinic.protect()
    slot, opened = first_kept(clinic), let_go(clinic)
    clinic.book(str(slot))
    clinic.book(str(clinic.offers()[0].slot))  # another day
    with reading(engine) as session:
        uses = lever_uses.of_location(session, 1, now=clinic.clock.now())
    assert sorted((use.row.starts_at, use.visits, use.hours) for use in uses) == sorted(
        (one.starts_at, int(one.starts_at == slot.starts_at), one.cells * CELL / HOUR) for one in opened
    )
    assert {(use.row.lever, use.hours_id, use.day) for use in uses} == {(Lever.RELEASE, None, THURSDAY)}
    keep_again(clinic)
    with reading(engine) as session:
        uses = lever_uses.of_location(session, 1, now=clinic.clock.now())
    assert {use.day for use in uses} == {None}


def test_of_several_who_let_go_of_a_day_one_does_and_the_worker_takes_nothing_back(
    clinic: Clinic, engine: Engine
) -> None:
    clinic.protect()
    expected = len([key for key in kept(engine) if local_date(key[1], CHICAGO) == THURSDAY])

    def act(place: int, together: threading.Barrier) -> str:
        together.wait()
        if place:
            return str(sum(use.cells for use in let_go(clinic)))
        clinic.protect()
        return "kept"

    assert sorted(at_once(4, act)) == [str(expected)] * 3 + ["kept"]
    clinic.protect()
    assert THURSDAY not in by_day(kept(engine))
    with reading(engine) as session:
        assert len(session.scalars(select(LetGoDay)).all()) == 1
        assert sum(session.scalars(select(LeverUse.cells)).all()) == expected
    assert clinic.violations() == {}


def test_what_is_told_is_asked_with_as_little_for_many_days(clinic: Clinic) -> None:
    counts = []
    for name in ("Ben Becker", "Cleo Cruz"):
        clinic.add_hours(clinic.add_therapist(name), 1, range(7))
        clinic.plan()
        pin(clinic, 4)
        with statements(clinic.engine) as seen:
            assert told(clinic)
        counts.append(len(seen))
    assert counts[0] == counts[1]
