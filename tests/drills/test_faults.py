"""A mail server, a row or a database in trouble: nothing is lost, others are not delayed, and all is soon caught up."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import Engine, delete, update

from scheduler.clock import FixedClock
from scheduler.db import make_engine, transaction
from scheduler.errors import ClinicError
from scheduler.models import Fate, Location, ManageLink, Patient
from scheduler.services.outbox import JITTER, LONGEST_WAIT, MOST_TRIES
from tests.clinic import HOUR, Clinic
from tests.drills.conftest import (
    Deliveries,
    Town,
    address,
    doubled,
    lost,
    said_and_done,
    sizes,
    sqlite_small,
    step,
    tell,
)
from tests.sink import Fault, Log, Sink

MINUTE = timedelta(minutes=1)
SOON = 5 * MINUTE
LATEST = LONGEST_WAIT * (1 + JITTER)  # one patient's own wait, when everybody else's mail goes through
CLOSING = Fault("greeting", "421 4.3.2 closing")
FOR_ALL = [Fault("closed"), CLOSING, Fault("rcpt"), Fault("data"), Fault("drop"), Fault("drop_taken")]
FOR_SOME = [Fault("rcpt"), Fault("data"), Fault("hang"), Fault("drop"), Fault("drop_taken")]
NEVER = [Fault("rcpt", "550 5.1.1 no such mailbox"), Fault("data", "554 5.6.0 not this")]
FULL = pytest.mark.drill
ON_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def named(fault: Fault) -> str:
    return f"{fault.what}-{fault.reply[:3]}"


def only(fault: Fault, *places: int) -> Fault:
    return Fault(fault.what, fault.reply, tuple(map(address, places)))


def arrived(sink: Sink) -> set[str]:
    return {one.recipients[0] for one in sink.log.taken()}


def assert_all_arrived(town: Town, sink: Sink, fault: Fault) -> None:
    """Every message was taken over, by tries enough and no more, and twice only where nobody could have known."""
    tries, patients = max(sink.log.tries().values()), len(town.visits)
    tell(fault=named(fault), patients=patients, fates=dict(town.fates()), most_tries=tries, doubled=doubled(sink.log))
    assert (town.fates(), lost(town, sink.log), town.broken_rules()) == ({Fate.SENT: patients}, set(), {})
    assert tries <= MOST_TRIES
    assert said_and_done(town, sink.log)
    assert doubled(sink.log) == 0 or fault.what == "drop_taken"


@pytest.mark.parametrize("fault", [*FOR_ALL, pytest.param(Fault("hang"), marks=FULL)], ids=named)
@pytest.mark.parametrize(("engine", "patients"), sqlite_small((20,), (200,)), indirect=["engine"])
def test_a_server_in_trouble_for_an_hour_is_caught_up_in_five_minutes(
    empty_clinic: Clinic, clock: FixedClock, sink: Sink, deliveries: Deliveries, patients: int, fault: Fault
) -> None:
    town, delivery = Town.of(empty_clinic, patients), deliveries(sink)
    sink.misbehave(fault)
    delivery.deliver()
    step(delivery, clock, HOUR, by=MINUTE)
    sink.misbehave()
    step(delivery, clock, SOON)
    assert_all_arrived(town, sink, fault)


@ON_SQLITE
def test_a_server_in_trouble_for_an_hour_while_one_message_is_owed_is_caught_up_in_five_minutes(
    empty_clinic: Clinic, clock: FixedClock, sink: Sink, deliveries: Deliveries
) -> None:
    town, delivery = Town.of(empty_clinic, 1), deliveries(sink)
    sink.misbehave(Fault("rcpt"))
    delivery.deliver()
    step(delivery, clock, HOUR)
    sink.misbehave()
    step(delivery, clock, SOON)
    assert town.fates() == {Fate.SENT: 1}
    assert max(sink.log.tries().values()) <= MOST_TRIES


@pytest.mark.parametrize("fault", FOR_SOME, ids=named)
@pytest.mark.parametrize(
    ("engine", "patients", "victims", "minutes"), sqlite_small((20, 1, 2), (200, 3, 60)), indirect=["engine"]
)
def test_a_fault_of_some_delays_nobody_else(
    empty_clinic: Clinic,
    clock: FixedClock,
    sink: Sink,
    deliveries: Deliveries,
    fault: Fault,
    patients: int,
    victims: int,
    minutes: int,
) -> None:
    town, delivery = Town.of(empty_clinic, patients), deliveries(sink)
    hit = range(3, 3 + 4 * victims, 4)
    sink.misbehave(only(fault, *hit))
    delivery.deliver()
    others = {address(place) for place in range(patients)} - {address(place) for place in hit}
    assert others <= arrived(sink)
    assert {sink.log.tries()[address(place)] for place in range(patients)} == {1}
    step(delivery, clock, minutes * MINUTE)
    sink.misbehave()
    step(delivery, clock, min(LATEST, max(SOON, minutes * MINUTE)))
    assert_all_arrived(town, sink, fault)


@ON_SQLITE
@pytest.mark.parametrize("fault", NEVER, ids=named)
def test_what_is_refused_for_good_is_tried_once_and_failed_with_the_servers_words(
    empty_clinic: Clinic, clock: FixedClock, sink: Sink, deliveries: Deliveries, fault: Fault
) -> None:
    town, delivery = Town.of(empty_clinic, 30), deliveries(sink)
    sink.misbehave(only(fault, *range(10)))
    delivery.deliver()
    assert arrived(sink) == {address(place) for place in range(10, 30)}
    step(delivery, clock, HOUR, by=5 * MINUTE)
    assert town.fates() == {Fate.SENT: 20, Fate.FAILED: 10}
    assert {one.reason for one in town.messages() if one.status == Fate.FAILED} == {fault.reply}
    assert set(sink.log.tries().values()) == {1}
    assert town.broken_rules() == {}


@ON_SQLITE
@pytest.mark.parametrize("victims", [12])
def test_many_mailboxes_that_are_full_delay_nobody_else(
    empty_clinic: Clinic, clock: FixedClock, sink: Sink, deliveries: Deliveries, victims: int
) -> None:
    town, delivery = Town.of(empty_clinic, 40), deliveries(sink)
    sink.misbehave(only(Fault("rcpt", "452 4.2.2 mailbox full"), *range(victims)))
    delivery.deliver()
    step(delivery, clock, SOON)
    assert town.fates() == {Fate.SENT: 40 - victims, Fate.OWED: victims}


@ON_SQLITE
def test_a_server_that_defers_every_first_try_is_caught_up_in_half_an_hour(
    empty_clinic: Clinic, clock: FixedClock, sink: Sink, deliveries: Deliveries
) -> None:
    town, delivery = Town.of(empty_clinic, 40), deliveries(sink)
    sink.misbehave(Fault("rcpt", "450 4.7.1 greylisted", first=1))
    delivery.deliver()
    step(delivery, clock, 30 * MINUTE, by=MINUTE)
    assert town.fates() == {Fate.SENT: 40}


@pytest.mark.parametrize(("engine", "patients"), sqlite_small((8,), (200,)), indirect=["engine"])
def test_a_slow_server_takes_every_message_once(
    empty_clinic: Clinic, sink: Sink, deliveries: Deliveries, patients: int
) -> None:
    town, delivery = Town.of(empty_clinic, patients), deliveries(sink)
    sink.misbehave(Fault("slow", seconds=0.03))
    delivery.deliver()
    assert town.fates() == {Fate.SENT: patients}
    assert len(sink.log.taken()) == patients
    assert town.broken_rules() == {}


@FULL
def test_a_server_slower_than_a_lease_doubles_nothing(
    empty_clinic: Clinic, clock: FixedClock, sink: Sink, deliveries: Deliveries
) -> None:
    town, delivery = Town.of(empty_clinic, 1), deliveries(sink)
    sink.misbehave(Fault("slow", seconds=0.9))  # each answer in time, all four of a message not
    delivery.deliver()
    assert town.fates() == {Fate.OWED: 1}
    sink.misbehave()
    step(delivery, clock, MINUTE)
    assert town.fates() == {Fate.SENT: 1}
    assert doubled(sink.log) == 0


@ON_SQLITE
def test_messages_that_cannot_be_written_stop_nobody_else(
    empty_clinic: Clinic, clock: FixedClock, sink: Sink, deliveries: Deliveries
) -> None:
    town, delivery = Town.of(empty_clinic, 2), deliveries(sink)
    broken_zone = town.add(6)
    town.add(20)
    with transaction(empty_clinic.engine) as session:
        unholdable = {address(0): "two words@example.com", address(1): "p1@example.com\nBcc: p1@evil.test"}
        for email, changed in unholdable.items():
            session.execute(update(Patient).where(Patient.email == email).values(email=changed))
        session.execute(update(Location).where(Location.id == broken_zone).values(time_zone="Mars/Olympus"))
    sink.misbehave(Fault("hang", only=(address(12),)))
    delivery.deliver()
    assert arrived(sink) == {address(place) for place in range(8, 28)} - {address(12)}
    sink.misbehave()
    with transaction(empty_clinic.engine) as session:
        session.execute(update(Location).where(Location.id == broken_zone).values(time_zone="America/Chicago"))
    step(delivery, clock, MINUTE)
    assert town.fates() == {Fate.SENT: 26, Fate.FAILED: 2}
    failed = {one.reason for one in town.messages() if one.status == Fate.FAILED}
    assert failed == {"the address cannot be written in a header"}
    assert set(sink.log.tries()) == arrived(sink)
    assert town.broken_rules() == {}


@ON_SQLITE
def test_a_visit_without_its_link_stops_nobody_else(empty_clinic: Clinic, sink: Sink, deliveries: Deliveries) -> None:
    town, delivery = Town.of(empty_clinic, 20), deliveries(sink)
    with transaction(empty_clinic.engine) as session:
        session.execute(delete(ManageLink).where(ManageLink.appointment_id == town.visits[0].appointment.id))
    delivery.deliver()
    assert town.fates() == {Fate.SENT: 20}
    assert town.broken_rules().keys() <= {"visits without a link"}


@contextmanager
def cut_off_again_and_again(engine: Engine, name: str, log: Log) -> Iterator[list[int]]:
    """End all sessions of an application whenever some more messages are being sent; yield the counts."""
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    cuts: list[int] = []
    done = threading.Event()
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"

    def cut() -> None:
        tries = 0
        with psycopg.connect(url, autocommit=True) as connection:
            while not done.wait(random.uniform(0.005, 0.02)):
                if log.tries().total() >= tries:
                    cuts.append(len(connection.execute(kill, [name]).fetchall()))
                    tries = log.tries().total() + random.randint(2, 15)

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        yield cuts
    finally:
        done.set()
        cutter.join()


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@pytest.mark.parametrize("patients", sizes((60,), (1000,)))
def test_a_database_that_ends_our_sessions_amid_sending_loses_and_doubles_nothing(
    empty_clinic: Clinic, sink: Sink, deliveries: Deliveries, patients: int
) -> None:
    town = Town.of(empty_clinic, patients)
    own_name = empty_clinic.engine.url.update_query_dict({"application_name": "cut-off"})
    cut_off = make_engine(own_name.render_as_string(hide_password=False))
    delivery = deliveries(sink, engine=cut_off)
    sink.misbehave(Fault("slow", seconds=0.003))
    failed, started = 0, time.monotonic()
    with cut_off_again_and_again(empty_clinic.engine, "cut-off", sink.log) as cuts:
        while town.fates()[Fate.OWED] and time.monotonic() < started + 200:
            try:
                delivery.deliver()
            except ClinicError:  # as the worker does
                failed += 1
    cut_off.dispose()
    tell(patients=patients, sessions_ended=sum(cuts), rounds_failed=failed, doubled=doubled(sink.log))
    assert sum(cuts) >= patients / 20
    assert (town.fates(), lost(town, sink.log), doubled(sink.log)) == ({Fate.SENT: patients}, set(), 0)
    assert said_and_done(town, sink.log)
    assert town.broken_rules() == {}
