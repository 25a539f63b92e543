"""Word of a miss of the goal: foreseen, begun, ended; once each, to whom it concerns, and never a storm."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import (
    AccessWatch,
    AccessWord,
    Account,
    AccountLocation,
    AppointmentType,
    Closure,
    Kind,
    License,
    Location,
    OutboxMessage,
    Reason,
    Role,
)
from scheduler.services import access_requests, access_rules, access_watch, letters
from scheduler.services.access_watch import Alert, Latch, Look, MissedAt, State, step
from scheduler.services.availability import Place, SlotName
from scheduler.services.letters import StaffLetter
from scheduler.timeline import DAY, zone_of
from scheduler.worker import Worker
from tests.clinic import HOUR, Clinic, at
from tests.services.test_queries import statements
from tests.web.staff import an_account

MINUTE = timedelta(minutes=1)
NOW = at("2026-11-23T15:00:00+00:00")  # Monday, 9:00 in Chicago
CHICAGO = zone_of("America/Chicago")
NOTICE, GOAL = HOUR, 48 * HOUR
PLACE = Place(1, "Springfield", "", "America/Chicago", "", "")
FULL, WEEKEND = MissedAt(NOW, Reason.CAPACITY), MissedAt(NOW, Reason.STRUCTURAL, 0)
KEPT = State(Latch(False, NOW), False, Latch(False, NOW), False, frozenset())
Said = list[tuple[str, int]]


# --- a state and a look: what is said


def told(
    readings: list[tuple[MissedAt | None, list[MissedAt]]], every: timedelta = 10 * MINUTE, since: datetime = NOW
) -> Said:
    """What is said of looks that follow each other, and at which of them; at most one of a kind a local day."""
    state, said = KEPT, dict[date, set[Kind]]()
    found = []
    for number, (missed, foreseen) in enumerate(readings):
        now = since + number * every
        of_day = said.setdefault(now.astimezone(CHICAGO).date(), set())
        state, words = step(state, Look(PLACE, 48, missed, foreseen, "plan"), of_day, now=now)
        for word in words:
            assert word.kind not in of_day
            of_day.add(word.kind)
            found.append((str(word.kind.value), number))
    return found


def missed(count: int, miss: MissedAt = FULL) -> list[tuple[MissedAt | None, list[MissedAt]]]:
    return [(miss, [])] * count


def kept(count: int, *foreseen: MissedAt) -> list[tuple[MissedAt | None, list[MissedAt]]]:
    return [(None, list(foreseen))] * count


def test_a_miss_begins_after_half_an_hour_and_ends_after_an_hour() -> None:
    looks = kept(2) + missed(12) + kept(20)
    assert told(looks) == [("goal-missed", 2 + 3), ("goal-kept", 14 + 6)]


def test_what_flaps_around_the_threshold_says_nothing_or_one_thing() -> None:
    assert told((missed(3) + kept(1)) * 30) == []
    assert told(missed(4) + (kept(6) + missed(1)) * 15) == [("goal-missed", 3)]


def test_whatever_is_read_one_word_of_a_kind_is_said_a_day_and_in_turn() -> None:
    chance = Random(7)
    for _ in range(20):
        looks = [one for _ in range(60) for one in (missed, kept)[chance.randrange(2)](chance.randrange(1, 12))]
        kinds = [kind for kind, _ in told(looks)]  # that none is said twice a day is asserted there
        assert kinds == (["goal-missed", "goal-kept"] * len(kinds))[: len(kinds)]


def test_the_second_miss_of_a_day_is_told_the_next_day_if_it_lasts() -> None:
    """What may not be told today is not lost: nobody believes that the goal is kept while it is not."""
    morning = missed(4) + kept(7)
    midnight = 15 * 6  # 15 hours of looks, from nine in the morning
    lasting = morning + missed(midnight + 12 - len(morning))
    assert told(lasting) == [("goal-missed", 3), ("goal-kept", 10), ("goal-missed", midnight)]
    over = morning + missed(20) + kept(midnight + 12 - len(morning) - 20)
    assert told(over) == [("goal-missed", 3), ("goal-kept", 10)]


def test_a_gap_of_every_week_is_told_once() -> None:
    weekend = missed(15, WEEKEND) + kept(7 * 24 - 15)
    assert told(weekend * 5, every=HOUR) == [("goal-missed", 1), ("goal-kept", 16)]
    holiday = replace(WEEKEND, gap=1)  # until Tuesday: another gap
    after = weekend * 2 + missed(39, holiday) + kept(7 * 24 - 39)
    assert [at for kind, at in told(after, every=HOUR) if kind == "goal-missed"] == [1, 2 * 7 * 24 + 1]


def test_a_gap_that_was_told_is_told_when_it_goes_on_because_all_is_taken() -> None:
    first = missed(15, WEEKEND) + kept(7 * 24 - 15)
    second = missed(15, WEEKEND) + missed(10, FULL) + kept(10)
    said = told(first + second, every=HOUR)
    assert said == [("goal-missed", 1), ("goal-kept", 16), ("goal-missed", 7 * 24 + 15), ("goal-kept", 7 * 24 + 26)]


def test_what_is_foreseen_is_told_once_until_it_was_clear_for_an_hour() -> None:
    soon = replace(FULL, at=NOW + DAY)
    assert told(kept(2) + kept(50, soon)) == [("goal-foreseen", 5)]
    assert told(kept(3, soon) + kept(5)) == []
    twice = kept(10, soon) + kept(8) + kept(150, soon)
    assert told(twice) == [("goal-foreseen", 3), ("goal-foreseen", 15 * 6)]  # the second on the next day
    flapping = kept(10, soon) + (kept(5) + kept(1, soon)) * 40
    assert told(flapping) == [("goal-foreseen", 3)]


def test_a_foreseen_gap_of_every_week_is_told_once_and_hides_nothing_else() -> None:
    gap, full = replace(WEEKEND, at=NOW + DAY), replace(FULL, at=NOW + 2 * DAY)
    assert told(kept(200, gap)) == [("goal-foreseen", 3)]
    both = kept(10, gap) + kept(200, gap, full)
    assert told(both) == [("goal-foreseen", 3), ("goal-foreseen", 90)]


def test_during_a_miss_none_is_foreseen() -> None:
    looks: list[tuple[MissedAt | None, list[MissedAt]]] = [(FULL, [replace(FULL, at=NOW + DAY)])]
    assert told(looks * 50) == [("goal-missed", 3)]


# --- what is to come: what is foreseen


def starts(*days: int, opens: int = 8, hours: int = 10) -> list[datetime]:
    """Hour-long visits on days from this Monday on, in Chicago."""
    midnight = at("2026-11-23T06:00:00+00:00")
    return [midnight + day * DAY + (opens + hour) * HOUR for day in days for hour in range(hours)]


def foreseen(planned: list[datetime], free: list[datetime], pace: float = 0, now: datetime = NOW) -> list[MissedAt]:
    """Of hour-long visits of which one therapist each has room."""
    starts = [SlotName(number, 1, start) for number, start in enumerate(free) if start >= now + NOTICE]
    reach = {"notice": NOTICE, "goal": GOAL}
    misses = access_rules.foreseen(1, starts, planned, 4, pace=pace, now=now, **reach)
    return access_watch.told_ahead(misses, planned, GOAL, CHICAGO)


WEEKDAYS = starts(*range(5), *range(7, 12))


def test_with_room_for_all_nothing_is_foreseen() -> None:
    assert foreseen(WEEKDAYS, WEEKDAYS) == []
    assert foreseen(WEEKDAYS, WEEKDAYS, pace=9) == []


def test_a_weekend_without_hours_is_foreseen_as_the_gap_before_monday() -> None:
    wednesday = NOW + 2 * DAY
    (miss,) = foreseen(WEEKDAYS, WEEKDAYS, now=wednesday)
    assert (miss.reason, miss.gap) == (Reason.STRUCTURAL, 0)
    assert miss.at == at("2026-11-27T22:00:00+00:00")  # Friday 16:00: from then on the last start is too near


def test_days_that_are_booked_out_are_foreseen() -> None:
    free = [start for start in WEEKDAYS if not starts(2)[0] <= start <= starts(4)[-1]]  # Wednesday to Friday
    misses = foreseen(WEEKDAYS, free)
    assert (misses[0].reason, misses[0].gap) == (Reason.CAPACITY, None)
    assert misses[0].at == starts(1)[-1] - HOUR  # once the last of Tuesday is too near


def test_the_pace_says_when_what_is_left_runs_out() -> None:
    free = [start for start in WEEKDAYS if start >= starts(2)[0]][::4]  # five until Friday evening, two or three a day
    assert foreseen(WEEKDAYS, free) == []
    (miss,) = foreseen(WEEKDAYS, free, pace=5)
    assert miss.reason == Reason.CAPACITY
    assert foreseen(WEEKDAYS, free, pace=8)[0].at < miss.at


def test_what_is_foreseen_does_not_recede_with_the_clock() -> None:
    """A letter and the page that it leads to, some minutes later, tell of the same moment."""
    free = [start for start in WEEKDAYS if start >= starts(2)[0]][::4]
    looks = [foreseen(WEEKDAYS, free, pace=5, now=NOW + minutes * MINUTE) for minutes in range(0, 150, 10)]
    assert len({look[0].at for look in looks}) == 1


def test_without_hours_in_the_week_ahead_none_is_open() -> None:
    assert {miss.reason for miss in foreseen([], [])} == {Reason.NONE_OPEN}
    assert {miss.reason for miss in foreseen(starts(20), [])} == {Reason.NONE_OPEN}


# --- a clinic


@pytest.fixture
def admin(engine: Engine, clock: FixedClock, clinic: Clinic) -> Account:
    return an_account(engine, clock, Role.ADMIN)


def looked(clinic: Clinic) -> list[Look]:
    with reading(clinic.engine) as session:
        seen = access_watch.look(session, now=clinic.clock.now())
    assert seen is not None
    return seen[1]


def ticks(clinic: Clinic, clock: FixedClock, *minutes: int) -> list[tuple[int | None, str, str | None]]:
    """Let the worker look now and after so many minutes each; return who is owed which word of what."""
    for wait in (0, *minutes):
        clock.at += wait * MINUTE
        Worker(clinic.engine, clock, None).watch_access()  # type: ignore[arg-type] # this tick sends nothing
    kinds = [Kind.GOAL_FORESEEN, Kind.GOAL_MISSED, Kind.GOAL_KEPT]
    words = select(OutboxMessage.account_id, OutboxMessage.kind, OutboxMessage.about)
    with reading(clinic.engine) as session:
        return sorted(
            (who, kind, what) for who, kind, what in session.execute(words.where(OutboxMessage.kind.in_(kinds)))
        )


def change(clinic: Clinic, statement: Any) -> None:  # noqa: ANN401 any statement
    with transaction(clinic.engine) as session:
        session.execute(statement)


def close_until_wednesday(clinic: Clinic) -> None:
    days = {"starts_on": date(2026, 11, 23), "ends_on": date(2026, 11, 25), "starts_minute": 0, "ends_minute": 1440}
    with transaction(clinic.engine) as session:
        session.add(Closure(location_id=1, reason="Snow", **days))


def notice(clinic: Clinic, days: int) -> None:
    clinic.policy(booking_notice_minutes=days * 1440)


def test_a_clinic_with_room_is_told_nothing(clinic: Clinic, clock: FixedClock, admin: Account) -> None:
    assert ticks(clinic, clock, 31, 61) == []
    (look,) = looked(clinic)
    assert (look.missed, look.foreseen, look.goal_hours) == (None, [], 48)


def test_a_miss_is_told_when_it_begins_and_ends_with_its_reason(
    clinic: Clinic, clock: FixedClock, admin: Account
) -> None:
    notice(clinic, 3)
    begun = clock.at
    assert ticks(clinic, clock) == []
    assert ticks(clinic, clock, 31) == [missed := (admin.id, "goal-missed", clock.at.isoformat())]
    assert ticks(clinic, clock, 5) == [missed]
    with transaction(clinic.engine) as session:
        message_id = session.scalars(select(OutboxMessage.id)).one()
        found = letters.current(session, message_id, keys=clinic.keys, now=clock.at)
    assert isinstance(found, StaffLetter)
    assert found.alerts == (Alert(Kind.GOAL_MISSED, 1, "Springfield", "America/Chicago", 48, begun, Reason.STRUCTURAL),)
    notice(clinic, 0)
    assert ticks(clinic, clock, 61) == [(admin.id, "goal-kept", clock.at.isoformat()), missed]
    with reading(clinic.engine) as session:
        (word,) = session.scalars(select(AccessWord).where(AccessWord.kind == Kind.GOAL_KEPT))
        assert (word.reason, word.at, word.said_at) == (None, clock.at - 61 * MINUTE, clock.at)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("taken", Reason.CAPACITY),
        ("closed", Reason.STRUCTURAL),
        ("no licence", Reason.NONE_OPEN),
    ],
)
def test_why_the_goal_is_missed(clinic: Clinic, spoil: str, reason: Reason) -> None:
    if spoil == "taken":
        while (offer := clinic.offers(limit=1)[0]).slot.starts_at <= clinic.clock.now() + 48 * HOUR:
            clinic.book(str(offer.slot))
    if spoil == "closed":
        close_until_wednesday(clinic)
    if spoil == "no licence":
        change(clinic, delete(License))
    clinic.plan()
    (look,) = looked(clinic)
    assert look.missed is not None
    assert look.missed.reason == reason
    assert look.missed.gap == (3 if reason == Reason.STRUCTURAL else None)  # nothing until Thursday


def test_the_pace_of_four_weeks_is_that_of_new_patients(
    clinic: Clinic, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers = [offer for offer in clinic.offers() if offer.slot.starts_at >= clock.at + 24 * HOUR]
    clinic.book(str(offers[0].slot), "Follow-up")
    clinic.book(str(offers[9].slot))
    (look,) = looked(clinic)
    assert look.foreseen == []
    monkeypatch.setattr(access_requests, "PACE_DAYS", 1 / 40)  # as if forty had booked a day
    (look,) = looked(clinic)
    assert [miss.reason for miss in look.foreseen] == [Reason.CAPACITY]


def test_word_goes_to_who_administers_the_location_or_all(
    clinic: Clinic, clock: FixedClock, admin: Account, engine: Engine
) -> None:
    far = clinic.add_location("Denver", "America/Denver", "IL")
    clinic.add_hours(clinic.add_therapist("Ben Brown"), far, weekdays=range(7))
    clinic.plan()
    near = an_account(engine, clock, Role.ADMIN, email="near@clinic.example", locations=[1])
    an_account(engine, clock, Role.ADMIN, email="far@clinic.example", locations=[far])
    an_account(engine, clock, Role.FRONT_DESK, email="desk@clinic.example")
    gone = an_account(engine, clock, Role.ADMIN, email="gone@clinic.example")
    change(clinic, update(Account).where(Account.id == gone.id).values(active=False))
    close_until_wednesday(clinic)
    clinic.plan()
    assert [who for who, _, _ in ticks(clinic, clock, 31)] == [admin.id, near.id]


def alerts(clinic: Clinic) -> list[tuple[int | None, str, list[tuple[str, str]]]]:
    """What each letter that is owed tells of which place."""
    found = []
    with transaction(clinic.engine) as session:
        for row in session.scalars(select(OutboxMessage).where(OutboxMessage.account_id.is_not(None))):
            letter = letters.current(session, row.id, keys=clinic.keys, now=clinic.clock.now())
            assert isinstance(letter, StaffLetter)
            found.append((row.account_id, row.kind, [(alert.place, alert.kind.value) for alert in letter.alerts]))
    return sorted(found)


def test_a_holiday_at_many_places_is_one_letter_a_person(
    clinic: Clinic, clock: FixedClock, admin: Account, engine: Engine
) -> None:
    places = [clinic.add_location(f"Place {number:02}") for number in range(49)]
    for place in places:
        clinic.add_hours(clinic.add_therapist(f"T{place}"), place)
    near = an_account(engine, clock, Role.ADMIN, email="near@clinic.example", locations=[1, places[0]])
    days = {"starts_on": date(2026, 11, 23), "ends_on": date(2026, 11, 25), "starts_minute": 0, "ends_minute": 1440}
    with transaction(engine) as session:
        session.add_all(Closure(location_id=place, reason="Holiday", **days) for place in (1, *places))
    clinic.plan()
    assert [(who, kind) for who, kind, _ in ticks(clinic, clock, 31, 5, 5)] == [
        (admin.id, "goal-missed"),
        (near.id, "goal-missed"),
    ]
    names = [*(f"Place {number:02}" for number in range(49)), "Springfield"]
    assert alerts(clinic) == [
        (admin.id, "goal-missed", [(name, "goal-missed") for name in names]),
        (near.id, "goal-missed", [("Place 00", "goal-missed"), ("Springfield", "goal-missed")]),
    ]


def test_what_begins_and_ends_together_is_one_letter_by_its_gravest_word(
    clinic: Clinic, clock: FixedClock, admin: Account, engine: Engine
) -> None:
    other = clinic.add_location("Chatham")
    clinic.add_hours(clinic.add_therapist("Ben Brown"), other)
    clinic.plan()
    near = an_account(engine, clock, Role.ADMIN, email="near@clinic.example", locations=[1])
    plain = looked(clinic)

    def note(*missed: int) -> None:
        looks = [replace(one, missed=FULL if one.location.id in missed else None, foreseen=[]) for one in plain]
        with transaction(engine) as session:
            access_watch.note(session, session.get_one(AppointmentType, 1), looks, now=clock.at)

    for minutes, missed in ((0, [1]), (31, [1]), (1, [other]), (61, [other])):
        clock.at += minutes * MINUTE
        note(*missed)
    assert alerts(clinic) == [
        (admin.id, "goal-missed", [("Chatham", "goal-missed"), ("Springfield", "goal-kept")]),
        (admin.id, "goal-missed", [("Springfield", "goal-missed")]),
        (near.id, "goal-kept", [("Springfield", "goal-kept")]),
        (near.id, "goal-missed", [("Springfield", "goal-missed")]),
    ]
    change(clinic, delete(AccountLocation).where(AccountLocation.account_id == near.id))
    with transaction(engine) as session:
        (first,) = session.scalars(select(OutboxMessage.id).where(OutboxMessage.kind == Kind.GOAL_KEPT))
        told = letters.current(session, first, keys=clinic.keys, now=clock.at)
    assert told == "nothing was said of the goal there"


def test_a_gap_is_told_again_once_the_hours_have_changed(clinic: Clinic, clock: FixedClock, admin: Account) -> None:
    """The weekend is foreseen on Wednesday; on the next Wednesdays it is no news until somebody works other hours."""
    counts = []
    clock.at = at("2026-11-25T15:00:00+00:00")
    for week in range(4):
        if week == 2:
            clinic.add_hours(clinic.add_therapist("Ben Brown"), 1, weekdays=[1])
        clinic.plan()
        ticks(clinic, clock, 31)
        with reading(clinic.engine) as session:
            counts.append(len(session.scalars(select(AccessWord)).all()))
        clock.at += 7 * DAY - 31 * MINUTE
    assert counts == [1, 1, 2, 2]


def test_a_location_that_is_not_open_and_a_clinic_without_a_goal_are_not_watched(
    clinic: Clinic, clock: FixedClock, admin: Account
) -> None:
    closed = clinic.add_location("Chatham")
    change(clinic, update(Location).where(Location.id == closed).values(online=False))
    assert ticks(clinic, clock, 31) == []
    with reading(clinic.engine) as session:
        assert session.scalars(select(AccessWatch.location_id)).all() == [1]
    change(clinic, update(AppointmentType).values(new_patient=False))
    with reading(clinic.engine) as session:
        assert access_watch.look(session, now=clock.at) is None
    assert ticks(clinic, clock, 31) == []


def test_looking_asks_as_little_for_many_locations(clinic: Clinic, engine: Engine) -> None:
    counts = []
    for more in (0, 4):
        for number in range(more):
            clinic.add_hours(clinic.add_therapist(f"T{number}"), clinic.add_location(f"Place {number}"))
        clinic.plan()
        looked(clinic)  # so that the terms are known
        with statements(engine) as seen:
            looked(clinic)
        counts.append(len(seen))
    assert counts[0] == counts[1]
