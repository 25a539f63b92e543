"""The link to the visits of an address: who gets it, how often, how long it works, and what is forgotten."""

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import NotFound
from scheduler.models import Attempt, Fate, Kind, OutboxMessage, VisitsRequest
from scheduler.services import letters, my_visits
from scheduler.services.booking import PatientDetails, Visit
from scheduler.services.letters import VisitsLetter
from tests.clinic import HOUR, Clinic, rows

PAT = PatientDetails("Pat Doe", "Pat@example.com", None, None, "en", True, False)
MINUTE = timedelta(minutes=1)


def ask(clinic: Clinic, email: str = "pat@example.com", language: str = "en") -> VisitsLetter | str:
    """Ask, and let the worker look at what it would send."""
    told = {"address_hash": email.lower(), "language": language}
    with transaction(clinic.engine) as session:
        my_visits.ask(session, email, keys=clinic.keys, now=clinic.clock.now(), **told)
    with transaction(clinic.engine) as session:
        newest = select(OutboxMessage.id).where(OutboxMessage.kind == Kind.MY_VISITS).order_by(OutboxMessage.id.desc())
        message_id = session.scalars(newest.limit(1)).one()
        found = letters.current(session, message_id, keys=clinic.keys, now=clinic.clock.now())
        assert isinstance(found, VisitsLetter | str)
        return found


def opened(clinic: Clinic, token: str) -> list[Visit]:
    with reading(clinic.engine) as session:
        return my_visits.opened(session, token, keys=clinic.keys, now=clinic.clock.now())


def listed(clinic: Clinic) -> list[Visit]:
    letter = ask(clinic)
    assert isinstance(letter, VisitsLetter)
    return opened(clinic, letter.token)


def test_the_link_lists_what_is_to_come_of_an_address_however_it_is_written(clinic: Clinic) -> None:
    later, sooner = (clinic.book(str(clinic.offers()[n].slot), patient=PAT) for n in (60, 20))
    gone = clinic.book(str(clinic.offers()[90].slot), patient=PAT)
    clinic.cancel(gone.token)
    other = PatientDetails("Zelda", "zelda@example.com", None, None, "en", True, False)
    clinic.book(str(clinic.offers()[120].slot), patient=other)
    letter = ask(clinic, "PAT@example.com", "es")
    assert isinstance(letter, VisitsLetter)
    assert (letter.recipient, letter.language, letter.minutes) == ("PAT@example.com", "es", 60)
    assert [visit.token for visit in opened(clinic, letter.token)] == [sooner.token, later.token]


def test_what_has_begun_is_listed_no_more(clinic: Clinic, clock: FixedClock) -> None:
    soon = clinic.book(str(clinic.offers()[0].slot), patient=PAT)
    clinic.book(str(clinic.offers()[20].slot), patient=PAT)
    clock.at = soon.appointment.starts_at
    assert soon.token not in [visit.token for visit in listed(clinic)]


def test_an_address_without_visits_gets_no_mail(clinic: Clinic) -> None:
    clinic.book(str(clinic.offers()[0].slot), patient=PAT)
    assert ask(clinic, "nobody@example.com") == "no visits ahead"
    assert ask(clinic, "pat@example.com.evil.example") == "no visits ahead"


def test_a_link_works_for_an_hour_and_only_as_it_was_signed(clinic: Clinic, clock: FixedClock) -> None:
    clinic.book(str(clinic.offers()[40].slot), patient=PAT)
    letter = ask(clinic)
    assert isinstance(letter, VisitsLetter)
    others = (letter.token[:-1], letter.token + "x", "x", "", clinic.keys.sign("my-visits", uuid4().int))
    for wrong in (*others, clinic.keys.sign("set-password", 1), clinic.keys.sign("my-visits")):
        with pytest.raises(NotFound):
            opened(clinic, wrong)
    clock.at += HOUR - MINUTE
    assert len(opened(clinic, letter.token)) == 1
    clock.at += MINUTE
    with pytest.raises(NotFound):
        opened(clinic, letter.token)


def test_nobodys_mailbox_is_filled_by_others(clinic: Clinic, clock: FixedClock) -> None:
    clinic.book(str(clinic.offers()[100].slot), patient=PAT)
    told = [ask(clinic) for _ in range(my_visits.MOST_AN_HOUR + 2)]
    assert [isinstance(one, VisitsLetter) for one in told] == [True] * my_visits.MOST_AN_HOUR + [False] * 2
    assert told[-1] == "asked too often"
    clock.at += HOUR
    assert isinstance(ask(clinic), VisitsLetter)


def test_a_link_that_comes_too_late_does_not_go(clinic: Clinic, clock: FixedClock) -> None:
    clinic.book(str(clinic.offers()[60].slot), patient=PAT)
    ask(clinic)
    clock.at += HOUR
    with transaction(clinic.engine) as session:
        message_id = session.scalars(select(OutboxMessage.id).where(OutboxMessage.kind == Kind.MY_VISITS)).one()
        assert letters.current(session, message_id, keys=clinic.keys, now=clock.now()) == "asked too long ago"


def test_what_was_asked_is_sealed_and_forgotten_with_its_messages(clinic: Clinic, clock: FixedClock) -> None:
    clinic.book(str(clinic.offers()[60].slot), patient=PAT)
    ask(clinic)
    with transaction(clinic.engine) as session:
        (request,) = rows(session, VisitsRequest)
        assert b"pat" not in request.address_sealed
        message_id = session.scalars(select(OutboxMessage.id).where(OutboxMessage.kind == Kind.MY_VISITS)).one()
        session.add(Attempt(message_id=message_id, number=1, started_at=clock.now()))
    clock.at += my_visits.KEPT + MINUTE
    for fate, left in ((Fate.OWED, 1), (Fate.FAILED, 0)):
        with transaction(clinic.engine) as session:
            of_these = update(OutboxMessage).where(OutboxMessage.kind == Kind.MY_VISITS)
            session.execute(of_these.values(status=fate, reason="x"))
            my_visits.forget_old(session, now=clock.now())
        with reading(clinic.engine) as session:
            assert [len(rows(session, table)) for table in (VisitsRequest, Attempt)] == [left, left]
            assert (
                len(session.scalars(select(OutboxMessage.id).where(OutboxMessage.kind == Kind.MY_VISITS)).all()) == left
            )
