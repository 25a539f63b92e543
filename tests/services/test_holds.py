"""Times kept while somebody books: exclusive, for some minutes, without a word of who keeps them."""

import re
import threading
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, func, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import ClinicError, Invalid, NotLicensed, SlotHeld, SlotTaken, TooMany, TooSoon
from scheduler.keys import Keyring, fingerprint
from scheduler.models import Appointment, AuditEvent, Hold, License, OutboxMessage, Patient, Slot, Status, WorkingHours
from scheduler.services import booking, consequences, health, holds, reports, slots
from scheduler.services.audit import Actor
from scheduler.services.availability import Offer
from scheduler.services.booking import BookForPatient
from scheduler.services.holds import Keeper
from scheduler.timeline import DAY
from tests.clinic import HOUR, Clinic, rows
from tests.server import at_once
from tests.services.test_queries import plans, statements

MINUTE = timedelta(minutes=1)
KEPT = timedelta(minutes=10)
PEOPLE = 8
EVERY = 10_000
DESK = Actor("desk")


def starts(clinic: Clinic, kind: str = "Evaluation") -> list[str]:
    """Starts one after the other, the soonest first, none of which is in another's way."""
    apart: list[Offer] = []
    for offer in clinic.offers(kind, limit=EVERY):
        if not apart or offer.slot.starts_at >= apart[-1].ends_at:
            apart.append(offer)
    return [str(offer.slot) for offer in apart]


def later(clinic: Clinic) -> str:
    """A start tomorrow, which no notice touches."""
    return str(clinic.offers(from_=clinic.clock.now() + DAY)[0].slot)


def offered(clinic: Clinic, kind: str = "Evaluation") -> list[str]:
    return [str(offer.slot) for offer in clinic.offers(kind, limit=EVERY)]


def held(clinic: Clinic) -> list[Appointment]:
    with reading(clinic.engine) as session:
        return list(session.scalars(select(Appointment).where(Appointment.status == Status.HELD)))


def sweep(clinic: Clinic) -> None:
    """What a tick of the worker does."""
    with reading(clinic.engine) as session:
        therapists = holds.overdue(session, now=clinic.clock.now())
    for therapist in therapists:
        with transaction(clinic.engine) as session:
            holds.sweep(session, [therapist], now=clinic.clock.now())


def by_staff(clinic: Clinic, slot: str) -> BookForPatient:
    request = clinic.request(slot)
    return BookForPatient(slot, clinic.kinds["Evaluation"], request.patient, request.needling, None, request.repeatable)


# --- one at a time


def test_a_held_time_is_seen_and_booked_by_nobody_else(clinic: Clinic) -> None:
    before = offered(clinic)
    kept = clinic.hold(before[0])
    assert kept.expires_at == clinic.clock.now() + KEPT
    assert offered(clinic) == before[4:]  # an evaluation takes four quarters, and none may begin in them
    for kind in ("Evaluation", "Needling"):
        with pytest.raises(SlotHeld):
            clinic.book(before[0], kind)
    with pytest.raises(SlotHeld):
        clinic.hold(before[3])
    with pytest.raises(SlotHeld), transaction(clinic.engine) as session:
        booking.book_for(session, by_staff(clinic, before[0]), by=DESK, keys=clinic.keys, now=clinic.clock.now())
    assert clinic.violations() == {}


def test_its_keeper_books_it_and_nothing_of_the_hold_is_left(clinic: Clinic) -> None:
    slot = offered(clinic)[0]
    kept = clinic.hold(slot, holder="h" * 16, address="hashed")
    visit = clinic.book(slot, keeper=Keeper(kept.token)).appointment
    assert (visit.status, visit.expires_at) == (Status.BOOKED, None)
    with reading(clinic.engine) as session:
        assert rows(session, Hold) == []
        assert [one.id for one in rows(session, Appointment)] == [visit.id]
    assert clinic.violations() == {}


def test_a_hold_says_nothing_of_who_keeps_it(clinic: Clinic) -> None:
    kept = clinic.hold(offered(clinic)[0], holder="a browser's name", address="hashed")
    with reading(clinic.engine) as session:
        (row,) = rows(session, Hold)
        assert (row.token_sha256, row.holder_sha256) == (fingerprint(kept.token), fingerprint("a browser's name"))
        assert [rows(session, table) for table in (Patient, OutboxMessage, AuditEvent)] == [[], [], []]
        (time,) = rows(session, Appointment)
        assert (time.patient_id, time.needling, time.note_sealed) == (None, None, None)
    assert len(kept.token) >= 128 / 6


def test_a_time_that_is_partly_booked_is_taken_whoever_holds_the_rest(clinic: Clinic) -> None:
    first, _, between, _, last = offered(clinic)[:5]
    clinic.hold(first)
    clinic.book(last, "Needling")
    for want in (clinic.book, clinic.hold):
        with pytest.raises(SlotTaken):
            want(between)


def test_a_released_time_is_back_at_once_and_released_again_changes_nothing(clinic: Clinic) -> None:
    before = offered(clinic)
    kept = clinic.hold(before[0])
    for _ in range(2):
        clinic.release(kept.token)
        assert offered(clinic) == before
    clinic.release("a token that never was")
    clinic.book(before[0])
    clinic.release(kept.token)
    assert clinic.violations() == {}


def test_an_expired_hold_is_swept_by_the_tick(clinic: Clinic, clock: FixedClock) -> None:
    slot = later(clinic)
    clinic.hold(slot)
    clock.at += KEPT - MINUTE
    sweep(clinic)
    assert len(held(clinic)) == 1
    clock.at += MINUTE
    sweep(clinic)
    assert held(clinic) == []
    assert slot in offered(clinic)
    assert clinic.violations() == {}


@pytest.mark.parametrize("how", ["booked", "by staff", "held"])
def test_any_claim_on_the_therapist_sweeps_first(clinic: Clinic, clock: FixedClock, how: str) -> None:
    """Search shows the time again only then; who asks for it has it at once."""
    slot = later(clinic)
    clinic.hold(slot)
    clock.at += KEPT
    assert slot not in offered(clinic)
    if how == "booked":
        clinic.book(slot)
    elif how == "held":
        clinic.hold(slot)
    else:
        with transaction(clinic.engine) as session:
            booking.book_for(session, by_staff(clinic, slot), by=DESK, keys=clinic.keys, now=clock.now())
    (stored,) = all_visits(clinic)
    assert stored.status == ("held" if how == "held" else "booked")
    assert clinic.violations() == {}


def all_visits(clinic: Clinic) -> list[Appointment]:
    with reading(clinic.engine) as session:
        return rows(session, Appointment)


@pytest.mark.parametrize("state", ["expired", "expired and swept", "released", "unknown"])
def test_a_hold_that_is_none_any_more_counts_as_none(clinic: Clinic, clock: FixedClock, state: str) -> None:
    slot = later(clinic)
    token = clinic.hold(slot).token if state != "unknown" else "unknown"
    if state == "released":
        clinic.release(token)
    if state.startswith("expired"):
        clock.at += KEPT
    if state.endswith("swept"):
        sweep(clinic)
    assert clinic.book(slot, keeper=Keeper(token)).appointment.status == Status.BOOKED
    with pytest.raises(SlotTaken):
        clinic.book(slot, keeper=Keeper(token))


def test_an_expired_hold_gives_no_right_over_who_holds_now(clinic: Clinic, clock: FixedClock) -> None:
    slot = later(clinic)
    first = clinic.hold(slot)
    clock.at += KEPT
    clinic.hold(slot)
    with pytest.raises(SlotHeld):
        clinic.book(slot, keeper=Keeper(first.token))
    clinic.release(first.token)
    assert len(held(clinic)) == 1


def test_who_books_another_time_gives_up_what_they_held(clinic: Clinic) -> None:
    """With another therapist too, whose calendar is locked beside the first."""
    other = clinic.add_therapist("Ben Brown")
    clinic.add_hours(other, 1)
    clinic.plan()
    theirs = str(clinic.offers(therapist_id=other)[0].slot)
    kept = clinic.hold(str(clinic.offers(therapist_id=1)[0].slot))
    clinic.book(theirs, keeper=Keeper(kept.token))
    assert held(clinic) == []
    assert clinic.violations() == {}


def test_a_refused_booking_leaves_the_hold_as_it_was(clinic: Clinic) -> None:
    first, second = starts(clinic)[:2]
    clinic.book(second)
    kept = clinic.hold(first)
    with pytest.raises(SlotTaken):
        clinic.book(second, keeper=Keeper(kept.token))
    assert len(held(clinic)) == 1
    clinic.book(first, keeper=Keeper(kept.token))


def test_a_held_time_may_be_booked_shorter_or_as_far_as_there_is_room(clinic: Clinic) -> None:
    slot = offered(clinic)[0]
    kept = clinic.hold(slot, "Needling")
    assert clinic.book(slot, "Evaluation", keeper=Keeper(kept.token)).appointment.status == "booked"
    other = starts(clinic)[0]
    kept = clinic.hold(other, "Evaluation")
    clinic.book(other, "Needling", keeper=Keeper(kept.token))
    assert clinic.violations() == {}


def test_a_time_held_before_the_notice_passed_can_be_booked_while_it_is_held(clinic: Clinic, clock: FixedClock) -> None:
    first = clinic.offers()[0].slot
    clock.at = first.starts_at - HOUR
    kept = clinic.hold(str(first))
    clock.at += KEPT - MINUTE
    with pytest.raises(TooSoon):
        clinic.book(str(first))
    with pytest.raises(TooSoon):
        clinic.hold(str(first))
    assert clinic.book(str(first), keeper=Keeper(kept.token)).appointment.starts_at == first.starts_at


def test_a_visit_that_would_have_begun_is_too_soon_though_it_is_held(clinic: Clinic, clock: FixedClock) -> None:
    clinic.policy(booking_notice_minutes=0)
    first = clinic.offers()[0].slot
    clock.at = first.starts_at - MINUTE
    kept = clinic.hold(str(first))
    clock.at += 2 * MINUTE
    with pytest.raises(TooSoon):
        clinic.book(str(first), keeper=Keeper(kept.token))
    clock.at += KEPT
    sweep(clinic)
    assert clinic.violations() == {}


def test_a_time_held_too_late_is_too_soon_once_the_hold_is_over(clinic: Clinic, clock: FixedClock) -> None:
    first = clinic.offers()[0].slot
    clock.at = first.starts_at - HOUR
    kept = clinic.hold(str(first))
    clock.at += KEPT
    with pytest.raises(TooSoon):
        clinic.book(str(first), keeper=Keeper(kept.token))


@pytest.mark.parametrize(("slot", "kind"), [("x", 1), ("1-1-1", 1), ("9-9-1989000", 1), ("1-1-1989000", 9)])
def test_what_never_was_cannot_be_held(clinic: Clinic, slot: str, kind: int) -> None:
    with pytest.raises(Invalid), transaction(clinic.engine) as session:
        holds.hold(session, holds.HoldTime(slot, kind), now=clinic.clock.now())


def test_a_time_without_its_licence_is_not_held(clinic: Clinic) -> None:
    """The cells still say yes; the licences themselves are asked."""
    with transaction(clinic.engine) as session:
        session.execute(update(License).where(License.kind == "pt").values(valid_until=date(2026, 11, 22)))
    with pytest.raises(NotLicensed):
        clinic.hold(offered(clinic)[0])
    assert held(clinic) == []


# --- the same browser session


def test_the_same_holder_keeps_the_same_time_anew(clinic: Clinic, clock: FixedClock) -> None:
    slot = later(clinic)
    first = clinic.hold(slot, holder="h" * 16)
    clock.at += KEPT - MINUTE
    second = clinic.hold(slot, holder="h" * 16)
    assert second.expires_at == clock.now() + KEPT
    assert len(held(clinic)) == 1
    with pytest.raises(SlotHeld):
        clinic.book(slot, keeper=Keeper(first.token))
    clinic.book(slot, keeper=Keeper(second.token))


def test_a_holder_books_what_they_hold_without_its_token(clinic: Clinic) -> None:
    first, second = starts(clinic)[:2]
    clinic.hold(first, holder="h" * 16)
    clinic.hold(second, holder="h" * 16)
    with pytest.raises(SlotHeld):
        clinic.book(first, keeper=Keeper(holder="i" * 16))
    clinic.book(first, keeper=Keeper(holder="h" * 16))
    assert len(held(clinic)) == 1  # the other one's token was not named


def test_only_its_keeper_finds_a_hold(clinic: Clinic, clock: FixedClock) -> None:
    first, second = (str(one.slot) for one in clinic.offers(from_=clock.now() + DAY)[:5:4])
    kept = clinic.hold(first, holder="h" * 16)
    found = {
        (slot, keeper): finds(clinic, slot, keeper)
        for slot in (first, second)
        for keeper in (Keeper(kept.token), Keeper(holder="h" * 16), Keeper("x", "y"), holds.NOBODY)
    }
    assert [of for of, is_found in found.items() if is_found] == [
        (first, Keeper(kept.token)),
        (first, Keeper(holder="h" * 16)),
    ]
    assert not finds(clinic, first, Keeper(kept.token), "Follow-up")
    clock.at += KEPT
    assert not finds(clinic, first, Keeper(kept.token))


def finds(clinic: Clinic, slot: str, keeper: Keeper, kind: str = "Evaluation") -> bool:
    with reading(clinic.engine) as session:
        return holds.find(session, slot, clinic.kinds[kind], keeper, now=clinic.clock.now()) is not None


# --- limits


def refused(clinic: Clinic, slot: str, kind: str = "Evaluation", **who: str) -> int:
    """Seconds after which a hold may be tried again."""
    with pytest.raises(TooMany) as too_many:
        clinic.hold(slot, kind, **who)
    return too_many.value.retry_after


def test_a_browser_session_holds_three(clinic: Clinic, clock: FixedClock) -> None:
    first, *more = starts(clinic)[8:13]
    kept = clinic.hold(first, holder="h" * 16)
    clock.at += MINUTE
    for slot in more[:2]:
        clinic.hold(slot, holder="h" * 16)
    assert refused(clinic, more[2], holder="h" * 16) == 9 * 60 + 1
    clinic.hold(more[2], holder="i" * 16)
    clinic.hold(more[0], holder="h" * 16)  # kept anew, it is no more than it was
    clinic.release(kept.token)
    clinic.hold(more[3], holder="h" * 16)
    assert len(held(clinic)) == 4


def test_an_address_holds_thirty(clinic: Clinic, clock: FixedClock) -> None:
    ahead = starts(clinic)[30:70]
    for slot in ahead[:30]:
        clinic.hold(slot, address="here")
    assert refused(clinic, ahead[30], address="here") == 10 * 60 + 1
    clinic.hold(ahead[30], address="there")
    clinic.hold(ahead[31])
    clock.at += KEPT
    clinic.hold(ahead[32], address="here")  # what has expired counts no longer, though nobody swept it
    clinic.book(ahead[33], address="here")


def open_within_goal(clinic: Clinic, kind: str = "Evaluation") -> list[str]:
    goal = clinic.clock.now() + 48 * HOUR
    return [str(offer.slot) for offer in clinic.offers(kind) if offer.slot.starts_at <= goal]


@pytest.mark.parametrize("kind", ["Evaluation", "Needling"])
def test_of_a_locations_open_starts_within_the_goal_a_quarter_may_be_held(clinic: Clinic, kind: str) -> None:
    open_ = len(open_within_goal(clinic, kind))
    assert open_ > 60
    clinic.policy(hold_minutes=60)
    cells = {"Evaluation": 4, "Needling": 2}[kind]
    held_now = 0
    while held_now < 40:
        left = open_within_goal(
            clinic, kind
        )  # the first of them lies beside what is held, and hides its own cells only
        if (held_now + 1) * 4 > open_ or (open_ - len(left) + cells) * 2 > open_:
            assert refused(clinic, left[0], kind) == 60 * 60 + 1
            break
        clinic.hold(left[0], kind)
        held_now += 1
    assert held_now == {"Evaluation": 8, "Needling": 16}[kind]
    beyond = str(clinic.offers(kind, from_=clinic.clock.now() + 49 * HOUR)[0].slot)
    clinic.hold(beyond, kind)  # what lies beyond the goal takes nothing from it
    assert clinic.violations() == {}


def test_where_hardly_a_start_is_left_none_is_held_and_booking_goes_on(clinic: Clinic) -> None:
    only_three = slice(None, -3)
    for slot in open_within_goal(clinic, "Needling")[only_three]:
        if slot in offered(clinic, "Needling"):
            clinic.book(slot, "Needling")
    left = open_within_goal(clinic, "Needling")
    assert 0 < len(left) < 4
    with pytest.raises(TooMany):
        clinic.hold(left[0], "Needling")
    clinic.book(left[0], "Needling")


def test_another_locations_starts_do_not_count(clinic: Clinic) -> None:
    """One with a single day of hours beyond the goal has none within it to hold, and none to lose."""
    other = clinic.add_location("Peoria")
    clinic.add_hours(clinic.add_therapist("Ben Brown"), other, weekdays=[0], opens=12 * 60, closes=17 * 60)
    clinic.plan()
    there = [str(offer.slot) for offer in clinic.offers(location_id=other)]
    assert len(there) >= 5
    clinic.hold(there[0])
    clinic.hold(there[4])
    with pytest.raises(TooMany):
        clinic.hold(there[8])


# --- what else reads and writes calendars


def test_hours_that_are_taken_away_while_a_time_is_held_do_not_come_back(clinic: Clinic, clock: FixedClock) -> None:
    kept = clinic.hold(later(clinic))
    with transaction(clinic.engine) as session:
        slots.lock(session, [1])
        session.execute(update(WorkingHours).values(valid_until=clock.now().date() - DAY))
        consequences.replan(session, [1], now=clock.now())
    assert clinic.violations() == {}
    clinic.release(kept.token)
    with reading(clinic.engine) as session:
        ahead = select(func.count()).select_from(Slot).where(Slot.starts_at > clock.now())
        assert session.execute(ahead).scalar_one() == 0
    assert clinic.violations() == {}


def test_a_change_of_the_calendar_hits_no_hold(clinic: Clinic, clock: FixedClock) -> None:
    clinic.hold(later(clinic))
    with transaction(clinic.engine) as session, consequences.weighed(session, [1], agreed=None, now=clock.now()):
        session.execute(update(WorkingHours).values(valid_until=clock.now().date() - DAY))
    with reading(clinic.engine) as session:
        assert consequences.unfit(session, now=clock.now()) == []


def test_a_hold_is_no_visit_of_a_report(clinic: Clinic, clock: FixedClock) -> None:
    clinic.book(starts(clinic)[0])
    before = report(clinic)
    clinic.hold(starts(clinic)[0])
    assert report(clinic) == before
    with reading(clinic.engine) as session:
        told = health.figures(session, now=clock.now())
    assert (told["appointments", "booked"], told["holds", ""]) == (1, 1)
    assert ("appointments", "held") not in told


def report(clinic: Clinic) -> list[object]:
    month = clinic.clock.now().date().replace(day=1)
    with reading(clinic.engine) as session:
        wanted = reports.Wanted(reports.places(session, None), month, month)
        return [
            reports.visits(session, wanted, now=clinic.clock.now()),
            reports.leads(session, wanted),
            {where: cells.taken for where, cells in reports.utilization(session, wanted).items()},
        ]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_what_holding_and_sweeping_ask_is_found_by_indices(clinic: Clinic) -> None:
    """However many visits and cells there are; PostgreSQL reads tables as small as these whole."""
    with statements(clinic.engine) as seen:
        kept = clinic.hold(later(clinic), holder="h" * 16)
        clinic.book(later(clinic), keeper=Keeper(kept.token, "h" * 16))
        sweep(clinic)
    asked = [one for one in seen if one[0].startswith("SELECT") and "expires_at" in one[0].partition("FROM")[2]]
    assert len(asked) >= 5
    for one in asked:
        (plan,) = plans(clinic.engine, one)
        assert not re.search(
            r"SCAN (appointment|slot|hold)\b(?! USING)|\(therapist_id=\?\)|\(location_id=\?\)", plan
        ), plan


# --- at one moment


def outcome(of: Callable[[], object]) -> str:
    try:
        of()
    except ClinicError as error:
        return type(error).__name__
    return "done"


def test_of_many_who_hold_one_time_at_once_one_has_it(clinic: Clinic) -> None:
    slot = later(clinic)

    def somebody(_place: int, together: threading.Barrier) -> str:
        together.wait()
        return outcome(lambda: clinic.hold(slot))

    assert Counter(at_once(PEOPLE, somebody)) == {"done": 1, "SlotHeld": PEOPLE - 1}
    assert clinic.violations() == {}


def test_of_many_who_hold_and_book_one_time_at_once_one_has_it(clinic: Clinic) -> None:
    slot = later(clinic)

    def somebody(place: int, together: threading.Barrier) -> str:
        together.wait()
        return outcome((lambda: clinic.hold(slot)) if place % 2 else lambda: clinic.book(slot))

    found = Counter(at_once(PEOPLE, somebody))
    assert found["done"] == 1
    assert set(found) in ({"done", "SlotHeld"}, {"done", "SlotTaken"})
    assert clinic.violations() == {}


@pytest.mark.parametrize(
    ("who", "most"),
    [({"holder": "h" * 16}, 3), ({"address": "here"}, 2), ({}, PEOPLE * 2 // 4)],
    ids=["holder", "address", "quarter"],
)
def test_limits_hold_when_all_ask_at_once(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, who: dict[str, str], most: int
) -> None:
    """At a place with a start for each of them today and tomorrow, and so with a quarter of those to hold."""
    monkeypatch.setattr(holds, "HELD_BY_ONE_ADDRESS", 2)
    assert race_for_holds(clinic, calendars_of_their_own(clinic, clinic.add_location("Peoria")), who) == most


def test_the_race_for_the_limit_is_real_without_its_lock(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """On SQLite every writer is alone, lock or not."""
    wanted = calendars_of_their_own(clinic, 1)[:PEOPLE]
    monkeypatch.setattr(holds, "alone_with", lambda _session, _name: None)
    counted = threading.Barrier(PEOPLE)
    after_counting = holds._require_few

    def count_together(*of: object) -> None:
        after_counting(*of)  # type: ignore[arg-type]
        if clinic.engine.dialect.name == "postgresql":
            counted.wait(timeout=30)

    monkeypatch.setattr(holds, "_require_few", count_together)
    kept = race_for_holds(clinic, wanted, {"holder": "h" * 16})
    assert kept == (PEOPLE if clinic.engine.dialect.name == "postgresql" else 3)


def calendars_of_their_own(clinic: Clinic, place: int) -> list[str]:
    """A start today and one tomorrow with each of several therapists, so that no calendar's lock keeps anybody back."""
    clinic.policy(booking_horizon_days=2)
    new = [clinic.add_therapist(f"Therapist {number}") for number in range(PEOPLE)]
    for therapist in new:
        clinic.add_hours(therapist, place, opens=15 * 60, closes=16 * 60)
    clinic.plan()
    found = [str(offer.slot) for offer in clinic.offers() if offer.slot.therapist_id in new]
    assert len(found) == 2 * PEOPLE
    return found


def race_for_holds(clinic: Clinic, wanted: list[str], who: dict[str, str]) -> int:
    """Let as many people each hold another of these times at one moment, and count those who could."""

    def somebody(place: int, together: threading.Barrier) -> str:
        together.wait()
        return outcome(lambda: clinic.hold(wanted[place], **who))

    found = Counter(at_once(len(wanted), somebody))
    assert set(found) <= {"done", "TooMany"}
    assert len(held(clinic)) == found["done"]
    assert clinic.violations() == {}
    return found["done"]


# --- in any order


class Keeping(RuleBasedStateMachine):
    """Holds, releases, bookings, cancellations, time and sweeps, beside sets of quarters in plain Python."""

    def __init__(self, clinic: Clinic, clock: FixedClock) -> None:
        super().__init__()
        self.clinic, self.clock = clinic, clock
        self.wanted = [str(offer.slot) for offer in clinic.offers(from_=clock.now() + DAY)][:12]
        self.kept: list[tuple[str, str, datetime]] = []  # slot, token, until
        self.visits: list[tuple[str, str]] = []  # slot, link

    def quarters(self, slot: str) -> set[int]:
        place = int(slot.rpartition("-")[2])
        return set(range(place, place + 4))

    def live(self) -> list[tuple[str, str, datetime]]:
        return [one for one in self.kept if one[2] > self.clock.at]

    def in_the_way(self, slot: str, *, of: str | None = None) -> str:
        taken = set().union(*(self.quarters(visit) for visit, _ in self.visits))
        held_now = set().union(*(self.quarters(one) for one, token, _ in self.live() if token != of))
        if self.quarters(slot) & taken:
            return "SlotTaken"
        return "SlotHeld" if self.quarters(slot) & held_now else "done"

    def expects(self, slot: str, *, of: str | None = None) -> str:
        return self.in_the_way(slot, of=of)

    @rule(pick=st.integers(0, 11))
    def hold(self, pick: int) -> None:
        slot = self.wanted[pick]
        expected, got = self.expects(slot), "done"
        try:
            kept = self.clinic.hold(slot)
            self.kept.append((slot, kept.token, kept.expires_at))
        except (SlotHeld, SlotTaken) as refusal:
            got = type(refusal).__name__
        assert got == expected

    @rule(pick=st.integers(0, 11), hold=st.integers(0, 20))
    def book(self, pick: int, hold: int) -> None:
        """With one of the holds there ever were, of whatever time."""
        slot = self.wanted[pick]
        token = self.kept[hold % len(self.kept)][1] if self.kept else None
        expected, got = self.expects(slot, of=token), "done"
        try:
            visit = self.clinic.book(slot, keeper=Keeper(token))
            self.visits.append((slot, visit.token))
            self.kept = [one for one in self.kept if one[1] != token]
        except (SlotHeld, SlotTaken) as refusal:
            got = type(refusal).__name__
        assert got == expected

    @precondition(lambda self: self.kept)
    @rule(pick=st.integers(0, 20))
    def release(self, pick: int) -> None:
        self.clinic.release(self.kept.pop(pick % len(self.kept))[1])

    @precondition(lambda self: self.visits)
    @rule(pick=st.integers(0, 20))
    def cancel(self, pick: int) -> None:
        self.clinic.cancel(self.visits.pop(pick % len(self.visits))[1])

    @rule(minutes=st.sampled_from([1, 5, 10]))
    def pass_time(self, minutes: int) -> None:
        self.clock.at += minutes * MINUTE

    @rule()
    def sweep(self) -> None:
        sweep(self.clinic)
        assert all(one.expires_at is not None and one.expires_at > self.clock.at for one in held(self.clinic))

    @invariant()
    def nothing_is_broken_and_nothing_held_is_offered(self) -> None:
        assert self.clinic.violations() == {}
        found = set(offered(self.clinic))
        for slot in self.wanted:
            assert slot not in found or self.in_the_way(slot) == "done"


@pytest.mark.parametrize("lives", [pytest.param(1, id="small"), pytest.param(25, id="full", marks=pytest.mark.drill)])
def test_whatever_happens_to_holds_calendars_stay_sound(
    clinic: Clinic, clock: FixedClock, engine: Engine, keys: Keyring, lives: int
) -> None:
    """Each life goes on in the calendar that the one before left."""

    class Life(Keeping):
        def __init__(self) -> None:
            super().__init__(clinic, clock)

    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=lives,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
