"""Word that a licence ends: at each mark once, to whom it concerns, and not when another follows."""

from dataclasses import asdict, replace
from datetime import date, timedelta

import pytest
from sqlalchemy import Engine, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import Account, Fate, Kind, License, OutboxMessage, Role, Therapist, TimeOff, TimeOffStatus
from scheduler.services import letters, license_ends, time_away
from scheduler.services.audit import Actor
from scheduler.services.letters import StaffLetter
from scheduler.services.license_ends import Ending
from scheduler.services.notices import Decision
from scheduler.services.time_away import OffDetails
from tests.clinic import Clinic
from tests.web.staff import an_account

TODAY = date(2026, 11, 23)
DAY = timedelta(days=1)
Told = list[tuple[int | None, str | None]]


@pytest.fixture
def ana(engine: Engine, clock: FixedClock, clinic: Clinic) -> Account:
    return an_account(engine, clock, Role.THERAPIST, therapist_id=1)


@pytest.fixture
def admin(engine: Engine, clock: FixedClock, clinic: Clinic) -> Account:
    return an_account(engine, clock, Role.ADMIN)


def ends(clinic: Clinic, day: date, kind: str = "pt") -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(License).where(License.kind == kind).values(valid_until=day))


def warned(clinic: Clinic, *fates: Fate) -> Told:
    """Who is owed word of what, after the tick of the worker."""
    with transaction(clinic.engine) as session:
        license_ends.warn(session, now=clinic.clock.now())
    return owed(clinic, *fates)


def owed(clinic: Clinic, *fates: Fate) -> Told:
    words = select(OutboxMessage.account_id, OutboxMessage.about).where(
        OutboxMessage.kind == Kind.LICENSE_ENDS, OutboxMessage.status.in_(fates or [Fate.OWED])
    )
    with reading(clinic.engine) as session:
        return sorted((who, what) for who, what in session.execute(words))


def sent(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        ended = {"status": Fate.SENT, "sent_at": clinic.clock.now()}
        session.execute(update(OutboxMessage).values(**ended))


def letter(clinic: Clinic, account: Account) -> StaffLetter | str:
    """What the message to this account would say now."""
    with transaction(clinic.engine) as session:
        wanted = OutboxMessage.account_id == account.id, OutboxMessage.kind == Kind.LICENSE_ENDS
        message_id = session.scalars(select(OutboxMessage.id).where(*wanted)).one()
        found = letters.current(session, message_id, keys=clinic.keys, now=clinic.clock.now())
        assert not isinstance(found, letters.Letter | letters.VisitsLetter | letters.QuestionLetter)
        return found


@pytest.mark.parametrize(
    ("left", "mark"), [(61, None), (60, 60), (31, 60), (30, 30), (8, 30), (7, 7), (0, 7), (-1, None)]
)
def test_word_goes_to_its_owner_and_to_administrators_at_each_mark(
    clinic: Clinic, ana: Account, admin: Account, left: int, mark: int | None
) -> None:
    ends(clinic, TODAY + left * DAY)
    about = f"1 {TODAY + left * DAY} {mark}"
    assert warned(clinic) == ([] if mark is None else [(ana.id, about), (admin.id, about)])


def test_each_mark_is_told_once_however_often_the_worker_ticks(
    clinic: Clinic, clock: FixedClock, admin: Account
) -> None:
    end = TODAY + 35 * DAY
    ends(clinic, end)
    for day in range(37):
        clock.at += DAY if day else 0 * DAY
        for _ in range(2):
            warned(clinic)
            sent(clinic)
    assert owed(clinic, Fate.SENT) == [(admin.id, f"1 {end} {mark}") for mark in (30, 60, 7)]


def test_a_worker_that_was_down_tells_the_last_mark_alone(clinic: Clinic, admin: Account) -> None:
    ends(clinic, TODAY + 5 * DAY)
    assert warned(clinic) == [(admin.id, f"1 {TODAY + 5 * DAY} 7")]


def test_a_licence_that_another_follows_ends_without_a_word(clinic: Clinic, admin: Account) -> None:
    ends(clinic, TODAY + 20 * DAY)
    with transaction(clinic.engine) as session:
        session.add(Clinic.license(1, "pt", "IL"))
    assert warned(clinic) == []


def test_who_is_gone_gets_no_word_and_of_whom_none_is_told(
    clinic: Clinic, clock: FixedClock, ana: Account, admin: Account
) -> None:
    ends(clinic, TODAY + 20 * DAY)
    with transaction(clinic.engine) as session:
        session.get_one(Account, ana.id).active = False
    assert [who for who, _ in warned(clinic)] == [admin.id]
    sent(clinic)
    with transaction(clinic.engine) as session:
        session.get_one(Therapist, 1).active = False
    clock.at += 14 * DAY
    assert warned(clinic) == []


def test_an_administrator_of_some_places_is_told_of_who_works_there(
    clinic: Clinic, engine: Engine, clock: FixedClock
) -> None:
    denver = clinic.add_location("Denver", "America/Denver", "IL")
    near = an_account(engine, clock, Role.ADMIN, email="near@clinic.example", locations=[1])
    an_account(engine, clock, Role.ADMIN, email="far@clinic.example", locations=[denver])
    an_account(engine, clock, Role.FRONT_DESK, email="desk@clinic.example")
    ends(clinic, TODAY + 20 * DAY)
    assert [who for who, _ in warned(clinic)] == [near.id]


def test_the_letter_says_whose_it_is_and_is_not_sent_when_it_was_renewed(
    clinic: Clinic, ana: Account, admin: Account
) -> None:
    end = TODAY + 20 * DAY
    ends(clinic, end)
    warned(clinic)
    for account, own in ((ana, True), (admin, False)):
        found = letter(clinic, account)
        assert isinstance(found, StaffLetter)
        assert found.license == Ending("Ana Abbott", "pt", "IL", end, own)
    ends(clinic, end + 365 * DAY)
    assert letter(clinic, admin) == "the license was renewed meanwhile"


def test_who_asked_for_time_off_is_told_when_others_decide(clinic: Clinic, ana: Account, admin: Account) -> None:
    for day, by in ((TODAY + DAY, admin), (TODAY + 2 * DAY, ana)):
        with transaction(clinic.engine) as session:
            actor, now = Actor.of(by.id, "192.0.2.1"), clinic.clock.now()
            asked = time_away.ask(session, 1, OffDetails(day, 0, day, 24 * 60), by=actor, now=now)
            time_away.decide(session, asked.id, TimeOffStatus.DECLINED, agreed=None, by=actor, now=now)
    words = select(OutboxMessage.account_id, OutboxMessage.about)
    with reading(clinic.engine) as session:
        told = session.execute(words.where(OutboxMessage.kind == Kind.TIME_OFF_DECIDED)).all()
    assert [tuple(row) for row in told] == [(ana.id, "1")]


def test_a_decision_is_told_as_it_stands_and_not_when_it_was_taken_back(
    clinic: Clinic, ana: Account, admin: Account
) -> None:
    by, now = Actor.of(admin.id, "192.0.2.1"), clinic.clock.now()
    asked = OffDetails(TODAY + DAY, 9 * 60, TODAY + 2 * DAY, 24 * 60, "A wedding")
    with transaction(clinic.engine) as session:
        own = time_away.ask(session, 1, asked, by=by, now=now)
        time_away.decide(session, own.id, TimeOffStatus.APPROVED, agreed=None, by=by, now=now)
    approved = Decision(asked.starts_on, 9 * 60, asked.ends_on, 24 * 60, approved=True)
    assert decision(clinic, ana) == approved
    reopened = {"status": TimeOffStatus.ASKED}
    for change, stands in (
        ({"status": TimeOffStatus.DECLINED}, replace(approved, approved=False)),
        ({"status": TimeOffStatus.APPROVED, "ends_on": TODAY + 3 * DAY}, replace(approved, ends_on=TODAY + 3 * DAY)),
        (reopened, None),
    ):
        with transaction(clinic.engine) as session:
            session.execute(update(TimeOff).values(**change))
        assert decision(clinic, ana) == stands
    with transaction(clinic.engine) as session:
        time_away.withdraw(session, own.id, by=by, now=now)
    assert decision(clinic, ana) is None


def test_of_time_off_that_is_gone_nothing_of_anothers_is_told(
    clinic: Clinic, ana: Account, admin: Account, engine: Engine
) -> None:
    """Not even if its number were given again."""
    by, now = Actor.of(admin.id, "192.0.2.1"), clinic.clock.now()
    other = clinic.add_therapist("Ben Baker")
    details = OffDetails(TODAY + DAY, 0, TODAY + DAY, 24 * 60)
    with transaction(engine) as session:
        own = time_away.ask(session, 1, details, by=by, now=now)
        time_away.decide(session, own.id, TimeOffStatus.APPROVED, agreed=None, by=by, now=now)
        time_away.withdraw(session, own.id, by=by, now=now)
        session.flush()
        session.add(
            TimeOff(id=own.id, therapist_id=other, status=TimeOffStatus.APPROVED, asked_at=now, **asdict(details))
        )
    assert decision(clinic, ana) is None


def decision(clinic: Clinic, account: Account) -> Decision | None:
    """What the message to this account would tell of a decision now; None where it is not sent."""
    with transaction(clinic.engine) as session:
        wanted = OutboxMessage.account_id == account.id, OutboxMessage.kind == Kind.TIME_OFF_DECIDED
        message_id = session.scalars(select(OutboxMessage.id).where(*wanted)).one()
        found = letters.current(session, message_id, keys=clinic.keys, now=clinic.clock.now())
    if isinstance(found, str):
        assert found == "the time off was taken back or changed meanwhile"
        return None
    assert isinstance(found, StaffLetter)
    return found.decision
