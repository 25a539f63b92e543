"""The private address of a calendar: one at a time, of which only the fingerprint is kept."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, select

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import NotFound
from scheduler.keys import fingerprint
from scheduler.models import Account, Appointment, AuditEvent, CalendarFeed, Role
from scheduler.services import accounts, feeds
from scheduler.services.audit import Actor
from scheduler.timeline import DAY
from tests.clinic import Clinic, rows
from tests.services.test_schedule import ANA, MONDAY, book_on
from tests.web.staff import an_account

BY = Actor("account:1")


@pytest.fixture
def ana(engine: Engine, clinic: Clinic, clock: FixedClock) -> Account:
    return an_account(engine, clock, Role.THERAPIST, therapist_id=ANA)


def make(clinic: Clinic, account: Account, *, detailed: bool = False) -> str:
    with transaction(clinic.engine) as session:
        return feeds.make(session, account.id, detailed=detailed, by=BY, now=clinic.clock.now())


def opened(clinic: Clinic, token: str) -> feeds.Feed:
    with reading(clinic.engine) as session:
        return feeds.opened(session, token, now=clinic.clock.now())


def test_an_address_opens_the_visits_of_its_owner_and_is_stored_nowhere(clinic: Clinic, ana: Account) -> None:
    visit = book_on(clinic, MONDAY)
    token = make(clinic, ana)
    feed = opened(clinic, token)
    assert [row.visit_id for row in feed.visits] == [visit.id]
    with reading(clinic.engine) as session:
        (row,) = rows(session, CalendarFeed)
        events = session.scalars(select(AuditEvent).where(AuditEvent.entity == "calendar_feed")).all()
    assert (row.token_sha256, row.detailed) == (fingerprint(token), False)
    assert [(event.action, event.detail) for event in events] == [("calendar_feed.made", {"detailed": False})]


def test_a_new_address_revokes_the_one_before(clinic: Clinic, ana: Account) -> None:
    old, new = make(clinic, ana), make(clinic, ana, detailed=True)
    with pytest.raises(NotFound):
        opened(clinic, old)
    assert opened(clinic, new).feed.detailed


def test_what_is_revoked_unknown_or_of_somebody_disabled_shows_nothing(
    clinic: Clinic, ana: Account, clock: FixedClock
) -> None:
    token = make(clinic, ana)
    for wrong in ("", "x", token[:-1], token + "x", token.upper(), "\udcff"):
        with pytest.raises(NotFound):
            opened(clinic, wrong)
    with transaction(clinic.engine) as session:
        feeds.revoke(session, ana.id, by=BY, now=clock.now())
        feeds.revoke(session, ana.id, by=BY, now=clock.now())
    with pytest.raises(NotFound):
        opened(clinic, token)
    token = make(clinic, ana)
    with transaction(clinic.engine) as session:
        accounts.disable(session, session.get_one(Account, ana.id), by=BY, now=clock.now())
    with pytest.raises(NotFound):
        opened(clinic, token)
    with reading(clinic.engine) as session:
        revoked = select(AuditEvent).where(AuditEvent.action == "calendar_feed.revoked")
        assert len(session.scalars(revoked).all()) == 1


def test_an_address_of_whoever_treats_nobody_shows_nothing(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    desk = an_account(engine, clock, Role.FRONT_DESK)
    token = make(clinic, desk)
    with pytest.raises(NotFound):
        opened(clinic, token)


def test_it_reaches_thirty_days_back_and_half_a_year_ahead(clinic: Clinic, ana: Account, clock: FixedClock) -> None:
    visit, token = book_on(clinic, MONDAY), make(clinic, ana)
    inside = (-30 * DAY, timedelta(), 180 * DAY - timedelta(seconds=1))
    outside = (-30 * DAY - timedelta(seconds=1), 180 * DAY)
    for moves, seen in ((inside, 1), (outside, 0)):
        for move in moves:
            with transaction(clinic.engine) as session:
                row = session.get_one(Appointment, visit.id)
                row.starts_at, row.ends_at = clock.at + move, clock.at + move + timedelta(minutes=45)
            assert len(opened(clinic, token).visits) == seen, move


def test_names_are_shown_or_hidden_by_its_owner_without_a_new_address(
    clinic: Clinic, ana: Account, clock: FixedClock
) -> None:
    with pytest.raises(NotFound), transaction(clinic.engine) as session:
        feeds.show(session, ana.id, detailed=True, by=BY, now=clock.now())
    token = make(clinic, ana)
    for detailed in (True, True, False):
        with transaction(clinic.engine) as session:
            feeds.show(session, ana.id, detailed=detailed, by=BY, now=clock.now())
        assert opened(clinic, token).feed.detailed == detailed
    with reading(clinic.engine) as session:
        changes = select(AuditEvent.detail).where(AuditEvent.action == "calendar_feed.changed")
        assert session.scalars(changes.order_by(AuditEvent.id)).all() == [{"detailed": True}, {"detailed": False}]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Pat Doe", "Pat"),
        ("Doe, Pat", "Pat"),
        ("Pat", "Pat"),
        ("  Ana  María  López ", "Ana"),
        ("Doe,", "Doe"),
        (",", ""),
        ("Núñez-Ortiz, José Luis", "José"),
    ],
)
def test_the_first_name_is_the_first_name(name: str, first: str) -> None:
    assert feeds.first_name(name) == first
