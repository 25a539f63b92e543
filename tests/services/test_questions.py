"""Questions to the clinic, on both databases: stored and acknowledged, told to whom it concerns, answered once."""

from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import Engine, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid, NotFound, TooMany
from scheduler.models import (
    AccessQuestion,
    Account,
    Answered,
    AppointmentType,
    AuditEvent,
    ContactRequest,
    Fate,
    Kind,
    OutboxMessage,
    Role,
)
from scheduler.services import access_requests, letters, limits, outbox, questions
from scheduler.services.audit import Actor
from scheduler.services.letters import QuestionLetter, StaffLetter
from scheduler.services.questions import AnsweredAlready, Ask, Reader
from tests.clinic import HOUR, Clinic, rows
from tests.server import at_once
from tests.web.staff import an_account

ASK = Ask("a form", "Pat Doe", "pat@example.com", None, "Are you open on Saturdays?", "es", 1, None)
EVERYWHERE = Reader(None, None)
DAY = timedelta(hours=24)


def ask(clinic: Clinic, **changes: object) -> UUID:
    """Ask, and say which question it became: the newest."""
    with transaction(clinic.engine) as session:
        questions.ask(session, replace(ASK, **changes), keys=clinic.keys, now=clinic.clock.now())  # type: ignore[arg-type]
        session.flush()
        return rows(session, ContactRequest)[-1].id  # type: ignore[no-any-return]


def answer(clinic: Clinic, question_id: UUID, text: str | None, account: Account) -> None:
    with transaction(clinic.engine) as session:
        found = questions.question(session, question_id, EVERYWHERE)
        by = Actor.of(account.id, "192.0.2.7")
        questions.answer(session, found, text, account_id=account.id, by=by, keys=clinic.keys, now=clinic.clock.now())


def remind(clinic: Clinic) -> None:
    """What a worker's tick does."""
    with reading(clinic.engine) as session:
        overdue = questions.overdue(session, now=clinic.clock.now())
    with transaction(clinic.engine) as session:
        questions.remind(session, overdue, now=clinic.clock.now())


def told(clinic: Clinic, kind: Kind) -> list[int]:
    """Whom of the staff this was owed to, by account."""
    with reading(clinic.engine) as session:
        owed = select(OutboxMessage.account_id).where(OutboxMessage.kind == kind)
        return sorted(one for one in session.scalars(owed) if one is not None)


def letter(clinic: Clinic, kind: Kind) -> letters.AnyLetter | str:
    """What the one message of this kind would say now."""
    with transaction(clinic.engine) as session:
        message_id = session.scalars(select(OutboxMessage.id).where(OutboxMessage.kind == kind)).one()
        return letters.current(session, message_id, keys=clinic.keys, now=clinic.clock.now())


@pytest.fixture
def desk(engine: Engine, clock: FixedClock, clinic: Clinic) -> Account:
    return an_account(engine, clock, Role.FRONT_DESK, locations=[1])


def test_a_question_is_sealed_acknowledged_and_on_record(clinic: Clinic, desk: Account) -> None:
    asked = ask(clinic)
    with reading(clinic.engine) as session:
        (stored,) = rows(session, ContactRequest)
        assert "Saturdays" not in str(stored.message_sealed)
        assert clinic.keys.open(stored.message_sealed) == "Are you open on Saturdays?"
        (event,) = session.scalars(select(AuditEvent).where(AuditEvent.action == "contact_request.asked"))
        assert (event.actor, event.entity_id, event.detail) == ("patient", asked.hex, {})
    said = letter(clinic, Kind.QUESTION_RECEIVED)
    assert isinstance(said, QuestionLetter)
    assert (said.recipient, said.language, said.place, said.answer) == ("pat@example.com", "es", "Springfield", None)
    to_staff = letter(clinic, Kind.QUESTION_ASKED)
    assert isinstance(to_staff, StaffLetter)
    assert to_staff.recipient == desk.email


def test_the_same_form_is_one_question_and_other_words_are_another(clinic: Clinic) -> None:
    first = ask(clinic)
    assert ask(clinic) == first
    with reading(clinic.engine) as session:
        assert len(rows(session, ContactRequest)) == 1
        assert len(rows(session, OutboxMessage)) == 1
    assert ask(clinic, form_sha256="another") != first


def test_who_left_no_e_mail_address_is_owed_no_message(clinic: Clinic, desk: Account) -> None:
    asked = ask(clinic, email=None, phone="+12175550142")
    with reading(clinic.engine) as session:
        assert [one.kind for one in rows(session, OutboxMessage)] == [Kind.QUESTION_ASKED]
    with pytest.raises(Invalid):
        answer(clinic, asked, "Yes.", desk)


def test_word_goes_to_the_location_s_desk_and_to_the_therapist_who_is_asked(
    clinic: Clinic, clock: FixedClock, desk: Account
) -> None:
    other_place = clinic.add_location("Chatham")
    engine = clinic.engine
    an_account(engine, clock, Role.FRONT_DESK, email="c@clinic.example", locations=[other_place])
    everywhere = an_account(engine, clock, Role.FRONT_DESK, email="e@clinic.example")
    ana = an_account(engine, clock, Role.THERAPIST, therapist_id=1)
    an_account(engine, clock, Role.ADMIN)
    ask(clinic)
    assert told(clinic, Kind.QUESTION_ASKED) == [desk.id, everywhere.id]
    ask(clinic, therapist_id=1, form_sha256="another")
    assert told(clinic, Kind.QUESTION_ASKED) == sorted([desk.id, everywhere.id] * 2 + [ana.id])


def test_where_nobody_else_is_the_administrators_are_told(clinic: Clinic, clock: FixedClock) -> None:
    elsewhere = clinic.add_location("Chatham")
    an_account(clinic.engine, clock, Role.ADMIN, email="c@clinic.example", locations=[elsewhere])
    admin = an_account(clinic.engine, clock, Role.ADMIN)
    ask(clinic)
    assert told(clinic, Kind.QUESTION_ASKED) == [admin.id]


@pytest.mark.parametrize("to", [{"location_id": 9}, {"therapist_id": 9}, {"therapist_id": 2}])
def test_a_place_or_therapist_that_cannot_be_reached_is_refused(clinic: Clinic, to: dict[str, int]) -> None:
    clinic.add_therapist("Ben Brown")  # who has no hours at the location
    with pytest.raises(Invalid) as refused:
        ask(clinic, **to)
    assert refused.value.field == "to"


def test_everybody_sees_their_own_questions_only(clinic: Clinic) -> None:
    elsewhere, ben = clinic.add_location("Chatham"), clinic.add_therapist("Ben Brown")
    clinic.add_hours(ben, elsewhere)
    here = ask(clinic, therapist_id=1)
    there = ask(clinic, location_id=elsewhere, form_sha256="another")
    seen = {
        EVERYWHERE: [here, there],
        Reader(frozenset({1}), None): [here],
        Reader(frozenset({elsewhere}), None): [there],
        Reader(frozenset(), 1): [here],
        Reader(frozenset(), ben): [],
        Reader(frozenset(), None): [],
    }
    with reading(clinic.engine) as session:
        assert {one: [asked.id for asked in questions.waiting(session, one)] for one in seen} == seen
        with pytest.raises(NotFound):
            questions.question(session, there, Reader(frozenset({1}), 1))


def test_an_answer_is_mailed_kept_sealed_and_on_record(clinic: Clinic, desk: Account) -> None:
    asked = ask(clinic)
    answer(clinic, asked, "Yes, from 9 to 12.", desk)
    said = letter(clinic, Kind.QUESTION_ANSWERED)
    assert isinstance(said, QuestionLetter)
    assert said.answer == "Yes, from 9 to 12."
    with reading(clinic.engine) as session:
        assert questions.waiting(session, EVERYWHERE) == []
        ((found, who),) = questions.answered(session, EVERYWHERE)
        assert (found.answered_by, who, found.answered_how) == (desk.id, desk.name, Answered.EMAIL)
        assert b"from 9" not in (found.answer_sealed or b"")
        (event,) = session.scalars(select(AuditEvent).where(AuditEvent.action == "contact_request.answered"))
        assert (event.actor, event.detail) == (f"account:{desk.id}", {"how": "email"})
    assert letter(clinic, Kind.QUESTION_ASKED) == "the question was answered meanwhile"


def test_a_call_answers_too_and_mails_nothing(clinic: Clinic, desk: Account) -> None:
    answer(clinic, ask(clinic), None, desk)
    with reading(clinic.engine) as session:
        assert Kind.QUESTION_ANSWERED not in [one.kind for one in rows(session, OutboxMessage)]
        ((found, _who),) = questions.answered(session, EVERYWHERE)
        assert (found.answered_how, found.answer_sealed) == (Answered.PHONE, None)


def test_of_several_who_answer_at_once_one_wins_and_the_others_are_told(clinic: Clinic, desk: Account) -> None:
    asked = ask(clinic)

    def attempt(number: int, together: Barrier) -> str:
        together.wait()
        try:
            answer(clinic, asked, f"Answer {number}.", desk)
        except AnsweredAlready:
            return "told"
        return "won"

    assert sorted(at_once(4, attempt)) == ["told"] * 3 + ["won"]
    with reading(clinic.engine) as session:
        mailed = [one for one in rows(session, OutboxMessage) if one.kind == Kind.QUESTION_ANSWERED]
        assert len(mailed) == 1


def test_after_a_day_staff_is_reminded_once_however_many_workers_look(
    clinic: Clinic, clock: FixedClock, desk: Account
) -> None:
    admin = an_account(clinic.engine, clock, Role.ADMIN)
    ask(clinic)
    clock.at += DAY - timedelta(microseconds=1)
    remind(clinic)
    assert told(clinic, Kind.QUESTION_WAITS) == []
    clock.at += timedelta(microseconds=1)
    at_once(4, lambda _place, _together: remind(clinic))
    assert told(clinic, Kind.QUESTION_WAITS) == sorted([desk.id, admin.id])
    with transaction(clinic.engine) as session:
        for one in rows(session, OutboxMessage):  # sent, so that the key over what is owed keeps nothing away
            one.status, one.sent_at = Fate.SENT, clock.now()
    clock.at += DAY
    remind(clinic)
    assert len(told(clinic, Kind.QUESTION_WAITS)) == 2


def test_two_workers_who_saw_the_same_question_tell_of_it_once(
    clinic: Clinic, clock: FixedClock, desk: Account
) -> None:
    """Each looks before either writes, and the first one's message has gone when the second writes."""
    asked = ask(clinic)
    clock.at += DAY
    for _ in range(2):
        with transaction(clinic.engine) as session:
            questions.remind(session, [asked], now=clock.now())
            for one in rows(session, OutboxMessage):
                one.status, one.sent_at = Fate.SENT, clock.now()
    assert told(clinic, Kind.QUESTION_WAITS) == [desk.id]


def test_a_reminder_of_what_was_answered_meanwhile_does_not_go(
    clinic: Clinic, clock: FixedClock, desk: Account
) -> None:
    asked = ask(clinic)
    clock.at += DAY
    remind(clinic)
    said = letter(clinic, Kind.QUESTION_WAITS)
    assert isinstance(said, StaffLetter)
    assert said.question == questions.Asked("Springfield", 24)
    answer(clinic, asked, None, desk)
    assert letter(clinic, Kind.QUESTION_WAITS) == "the question was answered meanwhile"


def test_what_the_page_says_of_waiting_is_true(clinic: Clinic, clock: FixedClock, desk: Account) -> None:
    def kept() -> bool:
        with reading(clinic.engine) as session:
            return questions.promise_kept(session, now=clock.now())

    assert kept()
    asked = ask(clinic)
    clock.at += DAY - HOUR
    assert kept()
    clock.at += HOUR
    assert not kept()
    answer(clinic, asked, None, desk)
    assert kept()


def test_an_address_may_ask_so_often_an_hour_and_what_is_too_much_is_not_stored(
    clinic: Clinic, clock: FixedClock
) -> None:
    for number in range(limits.QUESTIONS_AN_HOUR):
        ask(clinic, form_sha256=f"{number}", address="a")
    with pytest.raises(TooMany) as refused:
        ask(clinic, form_sha256="one more", address="a")
    assert refused.value.retry_after == 3601  # the hour has just begun
    with reading(clinic.engine) as session:
        assert len(rows(session, ContactRequest)) == limits.QUESTIONS_AN_HOUR
    ask(clinic, form_sha256="of another", address="b")
    with transaction(clinic.engine) as session:
        limits.count_booking(session, "a", now=clock.now())  # bookings are counted by themselves
    clock.at += HOUR
    ask(clinic, form_sha256="one more", address="a")


def test_a_message_about_a_question_is_sent_like_any_other(clinic: Clinic) -> None:
    ask(clinic)
    lease = outbox.Lease(UUID(int=1), timedelta(seconds=30))
    with transaction(clinic.engine) as session:
        (message_id,) = outbox.claim(session, lease, now=clinic.clock.now())
        assert letters.drafts(session, [message_id], keys=clinic.keys) == []
        tried = outbox.begin(session, message_id, lease, keys=clinic.keys, now=clinic.clock.now())
        assert tried is not None
        outbox.sent(session, tried, now=clinic.clock.now())
    assert clinic.violations() == {}


def test_what_was_on_offer_is_kept_with_a_question_once_and_counted(clinic: Clinic, clock: FixedClock) -> None:
    kind, since = clinic.kinds["Evaluation"], clock.now() - HOUR
    elsewhere = clinic.add_location("Chatham")  # where nobody works
    first = clinic.offers()[0].slot.starts_at
    for form, place in (("a", 1), ("a", 1), ("b", elsewhere)):
        ask(clinic, form_sha256=form, location_id=place)
    with reading(clinic.engine) as session:
        here, there = sorted(rows(session, AccessQuestion), key=lambda one: one.location_id)
        assert here.here_hours == here.anywhere_hours == there.anywhere_hours == (first - clock.now()) / HOUR
        assert there.here_hours is None
        counted = access_requests.asked(session, kind, since=since, until=clock.now())
        assert counted == {
            1: access_requests.Asked(1, 1),
            elsewhere: access_requests.Asked(1, 0),
            None: access_requests.Asked(2, 2),
        }
        assert access_requests.asked(session, kind, since=clock.now(), until=clock.now() + HOUR) == {
            None: access_requests.Asked()
        }


def test_where_no_visit_is_for_new_patients_a_question_is_taken_all_the_same(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        session.execute(update(AppointmentType).values(new_patient=False))
    ask(clinic)
    with reading(clinic.engine) as session:
        assert rows(session, AccessQuestion) == []
