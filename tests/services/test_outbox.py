"""The outbox step by step: what a claim takes, what a try begins with, how each end is noted, who waits for whom."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier, Event
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session
from uuid6 import uuid7

from scheduler.clock import FixedClock
from scheduler.db import database_now, reading, transaction
from scheduler.keys import Keyring
from scheduler.models import (
    Account,
    Appointment,
    Attempt,
    Channel,
    ChannelState,
    ClinicPolicy,
    Fate,
    Kind,
    Location,
    OutboxMessage,
    Patient,
    Role,
    Status,
)
from scheduler.services import accounts, booking, letters, notices, outbox, verify
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from scheduler.services.booking import PatientDetails
from scheduler.services.letters import Letter, StaffLetter
from scheduler.services.outbox import BATCH, MOST_TRIES, TROUBLE, Lease, Try
from scheduler.timeline import DAY
from tests.clinic import HOUR, Clinic
from tests.conftest import MONDAY_MORNING
from tests.server import at_once

MINUTE = timedelta(minutes=1)
# What no database decides is asked of one; the rest runs on both.
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


class Outbox:
    """A clinic with one visit in nine days, whose messages each test owes as it needs; a transaction a step."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic, self.engine, self.keys = clinic, clinic.engine, clinic.keys
        self.visit = clinic.book(str(clinic.offers(from_=self.now + 9 * DAY, limit=1)[0].slot))
        with transaction(self.engine) as session:
            session.execute(update(OutboxMessage).values(status=Fate.SENT, sent_at=self.now))
        self.owed = 0

    @property
    def now(self) -> datetime:
        return self.clinic.clock.now()

    def owe(self, due: timedelta = -MINUTE, kind: Kind = Kind.REMINDER, **values: Any) -> UUID:  # noqa: ANN401 columns
        """One message more; reminders differ by their offset, news by their version."""
        self.owed += 1
        version = {"offset_minutes": self.owed} if kind == Kind.REMINDER else {"visit_version": 1 + self.owed}
        message = OutboxMessage(
            id=uuid7(),
            appointment_id=self.visit.appointment.id,
            kind=kind,
            channel=Channel.EMAIL,
            created_at=self.now,
            due_at=self.now + due,
            **({"visit_version": 1} | version | values),
        )
        with transaction(self.engine) as session:
            session.add(message)
        return message.id

    def claim(self, lease: Lease) -> list[UUID]:
        with transaction(self.engine) as session:
            return outbox.claim(session, lease, now=self.now)

    def begin(self, message_id: UUID, lease: Lease) -> Try | None:
        with transaction(self.engine) as session:
            return outbox.begin(session, message_id, lease, keys=self.keys, now=self.now)

    def begun(self, message_id: UUID, lease: Lease) -> Try:
        tried = self.begin(message_id, lease)
        assert tried is not None
        return tried

    def letter(self, message_id: UUID, lease: Lease) -> Letter:
        """What a message to a patient says when its try begins."""
        letter = self.begun(message_id, lease).letter
        assert isinstance(letter, Letter)
        return letter

    def sent(self, tried: Try) -> None:
        with transaction(self.engine) as session:
            outbox.sent(session, tried, now=self.now)

    def refused(self, tried: Try) -> None:
        with transaction(self.engine) as session:
            outbox.refused(session, tried, "550 no such user")

    def deferred(self, tried: Try) -> None:
        with transaction(self.engine) as session:
            outbox.deferred(session, tried, "451 later", now=self.now)

    def release(self, lease: Lease) -> None:
        with transaction(self.engine) as session:
            outbox.release(session, lease)

    def failing(self, *, down: bool = False) -> bool:
        with transaction(self.engine) as session:
            return outbox.failing(session, now=self.now, down=down)

    def working(self) -> None:
        with transaction(self.engine) as session:
            outbox.working(session, now=self.now)

    def change(self, message_id: UUID, **values: Any) -> None:  # noqa: ANN401 columns
        with transaction(self.engine) as session:
            session.execute(update(OutboxMessage).where(OutboxMessage.id == message_id).values(**values))

    def change_all(self, table: Any, **values: Any) -> None:  # noqa: ANN401 a model and its columns
        with transaction(self.engine) as session:
            session.execute(update(table).values(**values))

    def expire(self, lease: Lease) -> None:
        """Let a lease run out, on the database's own clock."""
        with transaction(self.engine) as session:
            of_lease = update(OutboxMessage).where(OutboxMessage.lease == lease.id)
            session.execute(of_lease.values(leased_until=database_now() - timedelta(seconds=1)))

    def message(self, message_id: UUID) -> OutboxMessage:
        with reading(self.engine) as session:
            return session.get_one(OutboxMessage, message_id)

    def fate(self, message_id: UUID) -> tuple[str, str | None]:
        found = self.message(message_id)
        return found.status, found.reason

    def attempts(self, message_id: UUID) -> list[tuple[int, str | None]]:
        """Every try of a message with its outcome, None for one that has no end."""
        of_message = select(Attempt.number, Attempt.outcome).where(Attempt.message_id == message_id)
        with reading(self.engine) as session:
            return [(number, outcome) for number, outcome in session.execute(of_message.order_by(Attempt.number))]

    def state(self) -> tuple[int, timedelta | None]:
        """Failures in a row, and how long the channel's pause is still to last."""
        with reading(self.engine) as session:
            state = session.get_one(ChannelState, Channel.EMAIL)
            return state.failures, None if state.paused_until is None else state.paused_until - self.now

    def moment_later(self, by: timedelta) -> None:
        assert isinstance(self.clinic.clock, FixedClock)
        self.clinic.clock.at += by


@pytest.fixture
def box(engine: Engine, clock: FixedClock, keys: Keyring) -> Outbox:
    """With a calendar of one day, which is made at once."""
    return Outbox(Clinic.of_one_day(engine, clock, keys))


def lease(minutes: float = 1) -> Lease:
    return Lease(uuid7(), timedelta(minutes=minutes))


# --- what a claim takes


def test_a_claim_takes_what_is_due_and_nothing_else(box: Outbox) -> None:
    due = [box.owe(), box.owe(timedelta(0)), box.owe(-30 * DAY)]
    box.owe(timedelta(seconds=1))
    for status, more in (
        (Fate.SENT, {"sent_at": box.now}),
        (Fate.SUPPRESSED, {"reason": "cancelled"}),
        (Fate.FAILED, {"reason": "550"}),
    ):
        box.owe(status=status, **more)
    assert sorted(box.claim(lease())) == sorted(due)


@on_sqlite
def test_a_claim_takes_nothing_where_nothing_is_due(box: Outbox) -> None:
    assert box.claim(lease()) == []
    with reading(box.engine) as session:
        assert not outbox.anything_due(session, now=box.now)
    box.owe()
    with reading(box.engine) as session:
        assert outbox.anything_due(session, now=box.now)


def test_a_claim_takes_news_before_reminders_and_the_untried_before_the_tried(box: Outbox) -> None:
    late_reminder = box.owe(-2 * DAY)
    tried_reminder = box.owe(-3 * DAY, tries=1)
    reminder = box.owe(-HOUR)
    tried_news = box.owe(-HOUR, Kind.CONFIRMATION, tries=2)
    news = box.owe(-MINUTE, Kind.CONFIRMATION)
    cancellation = box.owe(-2 * MINUTE, Kind.CANCELLATION)
    assert box.claim(lease()) == [cancellation, news, tried_news, late_reminder, reminder, tried_reminder]


def test_a_claim_takes_a_batch_at_a_time_the_longest_due_first(box: Outbox) -> None:
    ids = [box.owe(-number * MINUTE) for number in range(2 * BATCH + 3, 0, -1)]
    taken = [box.claim(lease()) for _ in range(4)]
    assert taken == [ids[:BATCH], ids[BATCH : 2 * BATCH], ids[2 * BATCH :], []]


def test_a_claim_leaves_what_another_holds(box: Outbox) -> None:
    ids = [box.owe() for _ in range(3)]
    mine, other = lease(), lease()
    assert sorted(box.claim(mine)) == ids
    assert box.claim(other) == []
    assert box.claim(mine) == []  # not even its own again


def test_a_lease_runs_on_the_databases_clock(box: Outbox) -> None:
    """However far the application's own clock is off."""
    message_id = box.owe()
    with reading(box.engine) as session:
        before = session.execute(select(database_now())).scalar_one()
    assert box.claim(lease(minutes=2)) == [message_id]
    until = box.message(message_id).leased_until
    assert until is not None
    assert timedelta(0) <= until - before - 2 * MINUTE < MINUTE
    box.moment_later(5 * DAY)
    assert box.claim(lease()) == []


def test_a_lease_that_ran_out_makes_its_message_due_at_once(box: Outbox) -> None:
    """Its worker died: no backoff, though a try was counted."""
    message_id, dead, heir = box.owe(), lease(), lease()
    box.claim(dead)
    box.begun(message_id, dead)
    assert box.claim(heir) == []
    box.expire(dead)
    assert box.claim(heir) == [message_id]
    assert box.begun(message_id, heir).number == 2
    assert box.attempts(message_id) == [(1, None), (2, None)]


def test_two_claims_at_once_share_nothing(box: Outbox) -> None:
    ids = {box.owe() for _ in range(4 * BATCH)}

    def claim(_place: int, together: Barrier) -> list[UUID]:
        together.wait()
        taken: list[UUID] = []
        for _ in range(30):
            taken += box.claim(lease())
        return taken

    taken = [one for each in at_once(4, claim) for one in each]
    assert len(taken) == len(set(taken))
    assert set(taken) == ids


@on_postgresql
def test_a_claim_does_not_wait_for_what_another_transaction_has_locked(box: Outbox) -> None:
    locked, free = box.owe(-HOUR), box.owe()
    with transaction(box.engine) as session:
        session.execute(select(OutboxMessage).where(OutboxMessage.id == locked).with_for_update())
        assert box.claim(lease()) == [free]


def test_what_is_released_is_due_at_once(box: Outbox) -> None:
    ids, mine, other = [box.owe(), box.owe()], lease(), lease()
    held = box.owe(HOUR)
    box.claim(mine)
    box.release(other)
    assert box.claim(other) == []
    box.release(mine)
    assert sorted(box.claim(other)) == ids
    assert box.message(held).lease is None
    assert [box.message(one).tries for one in ids] == [0, 0]


# --- how a try begins


def begin_after(box: Outbox, change: Callable[[], object]) -> tuple[str, str | None]:
    """A message is claimed, then something changes, then it is to be sent: what became of it."""
    mine, message_id = lease(), box.owe()
    assert box.claim(mine) == [message_id]
    change()
    assert box.begin(message_id, mine) is None
    assert box.attempts(message_id) == []
    found = box.message(message_id)
    assert (found.tries, found.lease, found.leased_until) == (0, None, None)
    return found.status, found.reason


def test_a_try_begins_with_the_letter_and_is_counted(box: Outbox) -> None:
    message_id, mine = box.owe(), lease()
    box.claim(mine)
    tried = box.begun(message_id, mine)
    assert (tried.number, tried.lease) == (1, mine)
    assert tried.letter == Letter(
        message_id=message_id,
        kind=Kind.REMINDER,
        recipient="pat@example.com",
        language="en",
        clinic="Achieve Ortho Rehab",
        place="Springfield",
        address="1 Main Street",
        phone="+1 555 0100",
        time_zone="America/Chicago",
        visit_id=box.visit.appointment.id,
        starts_at=box.visit.appointment.starts_at,
        ends_at=box.visit.appointment.ends_at,
        sequence=0,
        token=box.visit.token,
    )
    assert box.message(message_id).tries == 1
    assert box.attempts(message_id) == [(1, None)]


def test_a_letter_is_as_the_rows_stand_when_its_try_begins(box: Outbox) -> None:
    message_id, mine = box.owe(), lease()
    box.claim(mine)
    box.change_all(Location, name="Shelbyville", address="2 Side Street", phone="+1 555 0199", time_zone="US/Eastern")
    box.change_all(Patient, email="new@example.com", language="es")
    box.change_all(ClinicPolicy, clinic_name="Renamed")
    letter = box.letter(message_id, mine)
    said = (letter.recipient, letter.language, letter.clinic, letter.place, letter.address, letter.phone)
    assert said == ("new@example.com", "es", "Renamed", "Shelbyville", "2 Side Street", "+1 555 0199")
    assert letter.time_zone == "US/Eastern"


def test_a_draft_is_what_a_try_would_say(box: Outbox) -> None:
    ids, mine = [box.owe(), box.owe()], lease()
    box.claim(mine)
    with reading(box.engine) as session:
        drafts = letters.drafts(session, ids, keys=box.keys)
        assert letters.drafts(session, [], keys=box.keys) == []
    assert {draft.message_id: draft for draft in drafts} == {one: box.begun(one, mine).letter for one in ids}


@on_sqlite
def test_a_letter_whose_key_was_retired_has_no_link(box: Outbox, keys: Keyring) -> None:
    message_id, mine = box.owe(), lease()
    box.claim(mine)
    box.keys = Keyring(("another-key",), keys.field_cipher)
    letter = box.begun(message_id, mine).letter
    assert isinstance(letter, Letter)
    assert letter.token is None


def test_a_visit_cancelled_meanwhile_is_not_written_about(box: Outbox) -> None:
    assert begin_after(box, lambda: box.clinic.cancel(box.visit.token)) == (Fate.SUPPRESSED, "cancelled")


@on_sqlite
def test_a_visit_cancelled_behind_the_outbox_is_not_written_about(box: Outbox) -> None:
    """Even if the cancel had not withdrawn the message."""
    cancelled = {"status": Status.CANCELLED, "cancelled_at": box.now}
    assert begin_after(box, lambda: box.change_all(Appointment, **cancelled)) == (Fate.SUPPRESSED, "cancelled")


@on_sqlite
def test_a_visit_moved_meanwhile_is_not_written_about(box: Outbox) -> None:
    assert begin_after(box, lambda: box.change_all(Appointment, visit_version=2)) == (Fate.SUPPRESSED, "moved")


@on_sqlite
def test_a_visit_that_has_begun_is_not_written_about(box: Outbox) -> None:
    def begin_visit() -> None:
        box.moment_later(box.visit.appointment.starts_at - box.now)

    assert begin_after(box, begin_visit) == (Fate.SUPPRESSED, "the visit has begun")


@on_sqlite
def test_a_message_is_useful_until_the_very_start(box: Outbox) -> None:
    message_id, mine = box.owe(), lease()
    box.moment_later(box.visit.appointment.starts_at - box.now - timedelta(microseconds=1))
    box.claim(mine)
    assert box.begin(message_id, mine) is not None


@on_sqlite
@pytest.mark.parametrize("status", [Status.ARRIVED, Status.FULFILLED, Status.NOSHOW])
def test_a_patient_who_has_arrived_is_not_written_to(box: Outbox, status: Status) -> None:
    assert begin_after(box, lambda: box.change_all(Appointment, status=status)) == (
        Fate.SUPPRESSED,
        "the visit has begun",
    )


@on_sqlite
def test_a_patient_without_an_address_is_not_written_to(box: Outbox) -> None:
    def forget() -> None:
        box.change_all(Patient, email=None, phone="+13125550142")

    assert begin_after(box, forget) == (Fate.SUPPRESSED, "no e-mail address")


@on_sqlite
def test_a_patient_who_wants_no_reminders_gets_none_but_the_news(box: Outbox) -> None:
    def switch_off() -> None:
        box.change_all(Patient, remind_by_email=False)

    assert begin_after(box, switch_off) == (Fate.SUPPRESSED, "reminders are switched off")
    box.clinic.cancel(box.visit.token)
    (news,), mine = box.claim(lease()), lease()
    box.change(news, lease=mine.id)
    assert box.begin(news, mine) is not None


@on_sqlite
def test_a_word_of_a_cancellation_is_not_sent_for_a_visit_that_stands(box: Outbox) -> None:
    message_id, mine = box.owe(kind=Kind.CANCELLATION, visit_version=1), lease()
    box.claim(mine)
    assert box.begin(message_id, mine) is None
    assert box.fate(message_id) == (Fate.SUPPRESSED, "not cancelled any more")


def test_a_word_of_a_cancellation_is_sent(box: Outbox) -> None:
    box.clinic.cancel(box.visit.token)
    (message_id,), mine = owed(box), lease()
    assert box.claim(mine) == [message_id]
    letter = box.letter(message_id, mine)
    assert (letter.kind, letter.sequence) == (Kind.CANCELLATION, 1)


def owed(box: Outbox) -> list[UUID]:
    with reading(box.engine) as session:
        return list(session.scalars(select(OutboxMessage.id).where(OutboxMessage.status == Fate.OWED)))


def test_a_lost_lease_begins_nothing(box: Outbox) -> None:
    message_id, lost, heir = box.owe(), lease(), lease()
    box.claim(lost)
    box.expire(lost)
    box.claim(heir)
    assert box.begin(message_id, lost) is None
    found = box.message(message_id)
    assert (found.status, found.lease, found.tries) == (Fate.OWED, heir.id, 0)
    box.change_all(Appointment, visit_version=2)
    assert box.begin(message_id, lost) is None  # nor ends anything
    assert box.fate(message_id) == (Fate.OWED, None)


@on_sqlite
def test_a_lease_that_ran_out_and_that_nobody_took_still_begins(box: Outbox) -> None:
    message_id, mine = box.owe(), lease()
    box.claim(mine)
    box.expire(mine)
    assert box.begin(message_id, mine) is not None
    assert box.claim(lease()) == []  # since it was renewed


def test_a_message_over_which_workers_died_too_often_fails(box: Outbox) -> None:
    message_id = box.owe()
    for number in range(1, MOST_TRIES + 1):
        mine = lease()
        assert box.claim(mine) == [message_id]
        assert box.begun(message_id, mine).number == number
        box.expire(mine)
    last = lease()
    assert box.claim(last) == [message_id]
    assert box.begin(message_id, last) is None
    assert box.fate(message_id) == (Fate.FAILED, "every try broke off")
    assert box.claim(lease()) == []
    assert len(box.attempts(message_id)) == MOST_TRIES


# --- to the clinic's own people


@pytest.fixture
def ana(box: Outbox) -> int:
    """An account of one of the staff."""
    with transaction(box.engine) as session:
        new = AccountDetails("ana@example.com", "Ana Abbott", Role.THERAPIST, language="es")
        return accounts.add(session, new, by=Actor("account:99"), now=box.now).id


def owe_to(box: Outbox, account_id: int, kind: Kind = Kind.DAY_CHANGED, about: str = "2026-11-23") -> UUID:
    with transaction(box.engine) as session:
        notices.owe(session, account_id, kind, about, now=box.now)
    (message_id,) = owed(box)
    return message_id


def test_a_message_to_staff_goes_as_any_other(box: Outbox, ana: int) -> None:
    message_id, mine = owe_to(box, ana), lease()
    assert box.claim(mine) == [message_id]
    tried = box.begun(message_id, mine)
    assert tried.letter == StaffLetter(
        message_id=message_id,
        kind=Kind.DAY_CHANGED,
        recipient="ana@example.com",
        language="es",
        clinic="Achieve Ortho Rehab",
        about="2026-11-23",
        token=None,
    )
    box.sent(tried)
    assert box.fate(message_id) == (Fate.SENT, None)
    assert box.attempts(message_id) == [(1, "sent")]
    assert box.claim(lease()) == []


@on_sqlite
def test_word_of_a_new_address_goes_to_the_old_one(box: Outbox, ana: int) -> None:
    message_id, mine = owe_to(box, ana, Kind.ADDRESS_CHANGED, "old@example.com"), lease()
    box.claim(mine)
    letter = box.begun(message_id, mine).letter
    assert (letter.kind, letter.recipient) == (Kind.ADDRESS_CHANGED, "old@example.com")


@on_sqlite
def test_a_message_to_staff_waits_and_fails_as_any_other(box: Outbox, ana: int) -> None:
    message_id, mine = owe_to(box, ana), lease()
    box.claim(mine)
    box.deferred(box.begun(message_id, mine))
    assert box.claim(lease()) == []
    box.moment_later(HOUR)
    assert box.claim(mine) == [message_id]
    box.refused(box.begun(message_id, mine))
    assert box.fate(message_id) == (Fate.FAILED, "550 no such user")
    assert box.attempts(message_id) == [(1, "451 later"), (2, "550 no such user")]


@on_sqlite
def test_a_message_to_staff_goes_with_the_news_and_before_reminders(box: Outbox, ana: int) -> None:
    message_id = owe_to(box, ana)
    reminder, news = box.owe(-DAY), box.owe(kind=Kind.CONFIRMATION)
    assert box.claim(lease()) == [news, message_id, reminder]


def test_a_disabled_account_is_not_written_to(box: Outbox, ana: int) -> None:
    message_id, mine = owe_to(box, ana), lease()
    box.claim(mine)
    box.change_all(Account, active=False)
    assert box.begin(message_id, mine) is None
    assert box.fate(message_id) == (Fate.SUPPRESSED, "the account is disabled")
    assert box.attempts(message_id) == []


@on_sqlite
def test_a_message_to_staff_is_as_the_rows_stand_when_its_try_begins(box: Outbox, ana: int) -> None:
    message_id, mine = owe_to(box, ana, Kind.SET_PASSWORD, "1"), lease()
    box.claim(mine)
    box.change_all(Account, email="new@example.com", language="en")
    box.change_all(ClinicPolicy, clinic_name="Renamed")
    letter = box.begun(message_id, mine).letter
    assert isinstance(letter, StaffLetter)
    assert (letter.recipient, letter.language, letter.clinic) == ("new@example.com", "en", "Renamed")
    assert letter.token is not None
    with reading(box.engine) as session:
        assert accounts.of_token(session, letter.token, keys=box.keys, now=box.now).id == ana


@on_sqlite
def test_an_invitation_is_withdrawn_once_the_password_was_set(box: Outbox, ana: int) -> None:
    message_id, mine = owe_to(box, ana, Kind.SET_PASSWORD, "1"), lease()
    box.claim(mine)
    box.change_all(Account, generation=2)
    assert box.begin(message_id, mine) is None


@on_sqlite
def test_a_lost_lease_begins_no_message_to_staff(box: Outbox, ana: int) -> None:
    message_id, lost, heir = owe_to(box, ana), lease(), lease()
    box.claim(lost)
    box.expire(lost)
    box.claim(heir)
    assert box.begin(message_id, lost) is None
    assert box.begin(message_id, heir) is not None


@on_sqlite
def test_only_messages_to_patients_are_drafted(box: Outbox, ana: int) -> None:
    to_staff = owe_to(box, ana)
    to_patient = box.owe()
    with reading(box.engine) as session:
        drafts = letters.drafts(session, [to_staff, to_patient], keys=box.keys)
    assert [draft.message_id for draft in drafts] == [to_patient]


# --- how a try ends


def test_a_sent_message_is_never_due_again(box: Outbox) -> None:
    message_id, mine = box.owe(), lease()
    box.claim(mine)
    box.sent(box.begun(message_id, mine))
    found = box.message(message_id)
    assert (found.status, found.sent_at, found.lease, found.retry_at) == (Fate.SENT, box.now, None, None)
    assert box.attempts(message_id) == [(1, "sent")]
    box.moment_later(2 * DAY)
    assert box.claim(lease()) == []


def test_a_message_that_was_taken_over_is_sent_though_its_lease_was_lost(box: Outbox) -> None:
    message_id, slow, heir = box.owe(), lease(), lease()
    box.claim(slow)
    tried = box.begun(message_id, slow)
    box.expire(slow)
    box.claim(heir)
    box.sent(tried)
    assert box.fate(message_id) == (Fate.SENT, None)
    assert box.message(message_id).lease is None
    assert box.begin(message_id, heir) is None  # so it is not doubled
    assert box.fate(message_id) == (Fate.SENT, None)


def test_a_message_that_was_taken_over_is_sent_though_its_visit_was_cancelled_meanwhile(box: Outbox) -> None:
    message_id, mine = box.owe(), lease()
    box.claim(mine)
    tried = box.begun(message_id, mine)
    box.clinic.cancel(box.visit.token)
    assert box.fate(message_id) == (Fate.SUPPRESSED, "cancelled")
    box.sent(tried)
    assert box.fate(message_id) == (Fate.SENT, None)
    with reading(box.engine) as session:  # and it began before it was withdrawn, so that no rule is broken
        found = {found.rule: found.violations for found in verify.verify(session, now=box.now)}
    assert found["messages begun to be sent after they were withdrawn"] == 0


@on_sqlite
def test_a_message_is_sent_at_the_first_time_that_it_was(box: Outbox) -> None:
    message_id, slow, heir = box.owe(), lease(), lease()
    box.claim(slow)
    first = box.begun(message_id, slow)
    box.expire(slow)
    box.claim(heir)
    second = box.begun(message_id, heir)
    box.sent(second)
    at_first = box.now
    box.moment_later(MINUTE)
    box.sent(first)
    assert box.message(message_id).sent_at == at_first
    assert box.attempts(message_id) == [(1, "sent"), (2, "sent")]


def test_a_refused_message_has_failed(box: Outbox) -> None:
    message_id, mine = box.owe(), lease()
    box.claim(mine)
    box.refused(box.begun(message_id, mine))
    assert box.fate(message_id) == (Fate.FAILED, "550 no such user")
    assert box.attempts(message_id) == [(1, "550 no such user")]
    assert box.claim(lease()) == []


def test_a_deferred_message_waits_and_is_tried_again(box: Outbox) -> None:
    message_id, mine = box.owe(), lease()
    box.claim(mine)
    box.deferred(box.begun(message_id, mine))
    assert box.attempts(message_id) == [(1, "451 later")]
    box.moment_later(timedelta(seconds=29))
    assert box.claim(lease()) == []
    box.moment_later(timedelta(seconds=7))
    again = lease()
    assert box.claim(again) == [message_id]
    assert box.begun(message_id, again).number == 2


@pytest.mark.parametrize("end", [Outbox.refused, Outbox.deferred])
def test_a_failure_ends_nothing_for_who_has_it_now(box: Outbox, end: Callable[[Outbox, Try], None]) -> None:
    message_id, slow, heir = box.owe(), lease(), lease()
    box.claim(slow)
    tried = box.begun(message_id, slow)
    box.expire(slow)
    box.claim(heir)
    end(box, tried)
    found = box.message(message_id)
    assert (found.status, found.lease, found.retry_at) == (Fate.OWED, heir.id, None)
    assert box.attempts(message_id)[0][1] is not None


@pytest.mark.parametrize("end", [Outbox.refused, Outbox.deferred])
def test_a_failure_changes_nothing_for_a_visit_cancelled_meanwhile(
    box: Outbox, end: Callable[[Outbox, Try], None]
) -> None:
    message_id, mine = box.owe(), lease()
    box.claim(mine)
    tried = box.begun(message_id, mine)
    box.clinic.cancel(box.visit.token)
    end(box, tried)
    assert box.fate(message_id) == (Fate.SUPPRESSED, "cancelled")


@on_sqlite
def test_the_last_of_eight_tries_fails_the_message_after_more_than_an_hour(box: Outbox) -> None:
    message_id, began = box.owe(), box.now
    for number in range(1, MOST_TRIES + 1):
        mine = lease()
        retry_at = box.message(message_id).retry_at
        box.moment_later(timedelta(0) if retry_at is None else retry_at - box.now)
        assert box.claim(mine) == [message_id]
        tried = box.begun(message_id, mine)
        assert tried.number == number
        box.deferred(tried)
    assert HOUR < box.now - began < 2 * HOUR
    assert box.fate(message_id) == (Fate.FAILED, "8 tries; the last: 451 later")
    assert all(str(outcome).endswith("451 later") for _, outcome in box.attempts(message_id))


# --- backoff

BASES = [30 * 2**number for number in range(6)] + [1740] * 10  # seconds


@given(tries=st.integers(1, len(BASES)))
def test_a_wait_is_its_base_or_up_to_a_fiftieth_longer(tries: int) -> None:
    base = timedelta(seconds=BASES[tries - 1])
    assert base <= outbox.wait_after(tries) <= 1.02 * base


@given(late=st.lists(st.integers(0, 60), min_size=MOST_TRIES - 1, max_size=MOST_TRIES - 1))
def test_eight_tries_outlast_an_hour_by_five_minutes_at_most_though_each_comes_a_minute_late(late: list[int]) -> None:
    now = MONDAY_MORNING
    planned_for: datetime | None = None
    for tries, seconds in enumerate(late, start=1):
        planned_for = outbox.next_try(tries, planned_for, now=now)
        now = planned_for + timedelta(seconds=seconds)
    assert HOUR < now - MONDAY_MORNING <= HOUR + timedelta(minutes=5)


@given(tries=st.integers(1, MOST_TRIES), late=st.integers(0, 10_000))
def test_a_try_that_came_late_still_leaves_most_of_a_wait(tries: int, late: int) -> None:
    base = timedelta(seconds=BASES[tries - 1])
    now = MONDAY_MORNING + timedelta(seconds=late)
    then = outbox.next_try(tries, MONDAY_MORNING, now=now)
    assert then - now >= 0.74 * base


def test_waits_are_not_all_alike() -> None:
    assert len({outbox.wait_after(3) for _ in range(20)}) > 10


@given(failures=st.integers(TROUBLE, 10_000))
def test_pauses_double_up_to_four_minutes(failures: int) -> None:
    expected = min(15 * 2 ** min(failures - TROUBLE, 20), 240)
    assert outbox.pause_after(failures) == timedelta(seconds=expected)


# --- a channel in trouble


def test_a_channel_is_in_trouble_after_five_failures_in_a_row(box: Outbox) -> None:
    assert [box.failing() for _ in range(TROUBLE)] == [False, False, False, False, True]
    assert box.state() == (TROUBLE, timedelta(seconds=15))


@on_sqlite
def test_a_success_between_failures_begins_the_count_anew(box: Outbox) -> None:
    for _ in range(3):
        assert [box.failing() for _ in range(TROUBLE - 1)] == [False] * (TROUBLE - 1)
        box.working()
    assert box.state() == (0, None)


@on_sqlite
def test_a_channel_that_is_down_pauses_at_once(box: Outbox) -> None:
    assert box.failing(down=True)
    assert box.state() == (TROUBLE, timedelta(seconds=15))


@on_sqlite
def test_pauses_grow_with_every_failure_up_to_four_minutes(box: Outbox) -> None:
    pauses = []
    for _ in range(7):
        box.failing(down=True)
        pauses.append(box.state()[1])
    assert pauses == [timedelta(seconds=seconds) for seconds in (15, 30, 60, 120, 240, 240, 240)]


def test_nothing_is_claimed_in_a_pause_and_one_message_after_it(box: Outbox) -> None:
    for _ in range(3):
        box.owe()
    box.failing(down=True)
    box.moment_later(timedelta(seconds=14))
    assert box.claim(lease()) == []
    box.moment_later(timedelta(seconds=1))
    probe = lease()
    assert len(box.claim(probe)) == 1
    box.working()
    assert len(box.claim(lease())) == 2


def test_a_recovery_makes_what_waits_due_at_once(box: Outbox) -> None:
    waiting = [box.owe(retry_at=box.now + wait) for wait in (MINUTE, 20 * MINUTE)]
    ended = box.owe(status=Fate.FAILED, reason="550")
    for _ in range(TROUBLE):
        box.failing()
    box.working()
    assert sorted(box.claim(lease())) == sorted(waiting)
    assert box.fate(ended) == (Fate.FAILED, "550")


@on_sqlite
def test_a_success_without_trouble_leaves_waits_alone(box: Outbox) -> None:
    """One greylisted address says nothing of the server."""
    message_id = box.owe(retry_at=box.now + MINUTE)
    for _ in range(TROUBLE - 1):
        box.failing()
    box.working()
    assert box.claim(lease()) == []
    assert box.message(message_id).retry_at == box.now + MINUTE


@on_sqlite
def test_a_channel_that_never_failed_works(box: Outbox) -> None:
    box.working()
    box.owe()
    assert len(box.claim(lease())) == 1


def test_a_wait_or_pause_that_a_wrong_clock_set_is_none(box: Outbox) -> None:
    longest = outbox.LONGEST_WAIT * (1 + outbox.JITTER)
    real = box.owe(retry_at=box.now + longest)
    wrong = [box.owe(retry_at=box.now + longest + MINUTE), box.owe(retry_at=box.now + 365 * DAY)]
    box.failing(down=True)
    box.change_all(ChannelState, paused_until=box.now + 30 * DAY, failures=0)
    assert sorted(box.claim(lease())) == wrong
    assert box.message(real).lease is None


@on_sqlite
def test_a_pause_in_the_past_is_none(box: Outbox) -> None:
    message_id = box.owe()
    box.failing(down=True)
    box.change_all(ChannelState, paused_until=box.now - 30 * DAY)
    assert box.claim(lease()) == [message_id]


# --- who waits for whom


@on_postgresql
def test_a_try_waits_for_a_cancel_under_way_and_then_sends_nothing(box: Outbox) -> None:
    message_id, mine = box.owe(), lease()
    box.claim(mine)
    with ThreadPoolExecutor(1) as threads:
        with transaction(box.engine) as session:
            cancel_in(session, box)
            tried = threads.submit(box.begin, message_id, mine)
            time.sleep(0.3)
            assert not tried.done()
        assert tried.result(10) is None
    assert box.fate(message_id) == (Fate.SUPPRESSED, "cancelled")
    assert box.attempts(message_id) == []


def cancel_in(session: Session, box: Outbox) -> None:
    booking.cancel(session, box.visit.token, None, keys=box.keys, now=box.now)


@on_postgresql
def test_a_cancel_waits_for_a_try_that_is_beginning(box: Outbox) -> None:
    """So that either the send began before the cancel was stored, or it never begins."""
    message_id, mine = box.owe(), lease()
    box.claim(mine)
    with ThreadPoolExecutor(1) as threads:
        with transaction(box.engine) as session:
            assert outbox.begin(session, message_id, mine, keys=box.keys, now=box.now) is not None
            cancelled = threads.submit(box.clinic.cancel, box.visit.token)
            time.sleep(0.3)
            assert not cancelled.done()
        cancelled.result(10)
    assert box.attempts(message_id) == [(1, None)]


@on_postgresql
def test_two_tries_of_one_visit_do_not_wait_for_each_other(box: Outbox) -> None:
    first, second = box.owe(), box.owe()
    mine = lease()
    box.claim(mine)
    with ThreadPoolExecutor(1) as threads, transaction(box.engine) as session:
        assert outbox.begin(session, first, mine, keys=box.keys, now=box.now) is not None
        assert threads.submit(box.begin, second, mine).result(5) is not None


@on_postgresql
def test_cancelling_and_sending_together_never_deadlock(clinic: Clinic, clock: FixedClock) -> None:
    """Patients cancel while workers claim, begin, note and release; a deadlock would raise in one of them."""
    starts = [offer.slot for offer in clinic.offers()][::4][:24]
    visits = [clinic.book(str(slot), patient=patient(number)) for number, slot in enumerate(starts)]
    over, workers = Event(), 3

    def act(place: int, together: Barrier) -> int:
        together.wait()
        if place < workers:
            return work(clinic, over)
        try:
            for visit in visits[place - workers :: 2]:
                clinic.cancel(visit.token)
        finally:
            if place == workers:
                over.set()
        return 0

    assert sum(at_once(workers + 2, act)) > 0
    with reading(clinic.engine) as session:
        broken = [found.rule for found in verify.verify(session, now=clock.now()) if found.violations]
        doubled = session.execute(
            select(func.count()).select_from(Attempt).where(Attempt.outcome == Fate.SENT).group_by(Attempt.message_id)
        )
        assert {count for (count,) in doubled} <= {1}
    assert broken == []


def patient(number: int) -> PatientDetails:
    return PatientDetails(f"Pat {number}", f"pat{number}@example.com", None, None, "en", True, False)


def work(clinic: Clinic, over: Event) -> int:
    """Claim, begin half of it, note all sorts of ends, give the rest back; return how many were begun."""
    begun, now, chance = 0, clinic.clock.now(), random.Random(1)
    while not over.is_set():
        mine = lease()
        with transaction(clinic.engine) as session:
            claimed = outbox.claim(session, mine, now=now)
        for message_id in claimed[::2]:
            with transaction(clinic.engine) as session:
                tried = outbox.begin(session, message_id, mine, keys=clinic.keys, now=now)
            if tried is not None:
                begun += 1
                with transaction(clinic.engine) as session:
                    note(session, tried, now, chance)
        with transaction(clinic.engine) as session:
            outbox.release(session, mine)
    return begun


def note(session: Session, tried: Try, now: datetime, chance: random.Random) -> None:
    if chance.random() < 0.5:
        outbox.sent(session, tried, now=now)
        outbox.working(session, now=now)
    else:
        outbox.deferred(session, tried, "451 later", now=now)
        outbox.failing(session, now=now - HOUR, down=chance.random() < 0.3)
