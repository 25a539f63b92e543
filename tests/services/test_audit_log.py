"""Searching the record: what is found, in which order, page by page, and at what cost."""

from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, insert, text
from uuid6 import uuid7

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.models import AuditEvent, Role
from scheduler.services import audit, audit_log, practice
from scheduler.services.audit import Actor
from scheduler.services.audit_log import CHANGES, LOOKS, Find, Moment, Record
from scheduler.timeline import DAY
from tests.clinic import Clinic
from tests.conftest import MONDAY_MORNING
from tests.services.test_queries import plans, statements, walks_whole
from tests.web.staff import an_account

MANY = 100_000
ACTORS = ("patient", "worker", *(f"account:{number}" for number in range(1, 9)))
ACTIONS = ("appointment.read", "patient.read", "appointment.booked", "appointment.cancelled", "location.changed")
ADDRESSES = (None, "203.0.113.7", "2001:db8::1")


def events(count: int, since: datetime = MONDAY_MORNING, seed: int = 1) -> list[dict[str, Any]]:
    """So many audit rows of a month, several at each moment."""
    chance = Random(seed)
    return [
        {
            "id": UUID(int=chance.getrandbits(128)),
            "happened_at": since - timedelta(seconds=chance.randrange(min(count // 2 + 1, 30 * 86400))),
            "actor": chance.choice(ACTORS),
            "action": chance.choice(ACTIONS),
            "entity": chance.choice(["appointment", "patient"]),
            "entity_id": f"{chance.randrange(max(count // 20, 3)):032x}",
            "address": chance.choice(ADDRESSES),
            "detail": {"fields": "name"},
        }
        for _ in range(count)
    ]


# A hundred thousand rows of some eleven days, made by the database itself.
FILL = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :many)
    INSERT INTO audit_event (id, happened_at, actor, action, entity, entity_id, address, detail)
    SELECT {id}, {moment}, 'account:' || i % 9,
        CASE WHEN i % 5 = 0 THEN 'appointment.cancelled' ELSE 'appointment.read' END,
        CASE WHEN i % 2 = 0 THEN 'appointment' ELSE 'patient' END, {entity_id},
        CASE WHEN i % 3 = 0 THEN '2001:db8::1' END, '{{}}'
    FROM n
"""
OF_DIALECT = {
    "sqlite": {
        "id": "printf('%032x', i)",
        "moment": "1795446000000000 - (i / 3) * 30000000",
        "entity_id": "printf('%032x', i % 5000)",
    },
    "postgresql": {
        "id": "CAST(lpad(to_hex(i), 32, '0') AS uuid)",
        "moment": "to_timestamp(1795446000 - (i / 3) * 30)",
        "entity_id": "lpad(to_hex(i % 5000), 32, '0')",
    },
}


def store(engine: Engine, rows: list[dict[str, Any]]) -> None:
    with transaction(engine) as session:
        session.execute(insert(AuditEvent), rows)


WISHES: dict[str, Find] = {
    "everything": Find(),
    "an account": Find(actor="account:3"),
    "patients": Find(actor="patient"),
    "an action": Find(action="appointment.cancelled"),
    "looks": Find(action=LOOKS),
    "changes": Find(action=CHANGES),
    "a record": Find(record=Record("patient", f"{1:032x}")),
    "looks at a record": Find(record=Record("appointment", f"{2:032x}"), action="appointment.read"),
    "a day": Find(since=MONDAY_MORNING - timedelta(minutes=1), until=MONDAY_MORNING),
    "an address": Find(address="2001:db8::1"),
    "nobody": Find(actor="account:99"),
    "all at once": Find("account:1", LOOKS, None, MONDAY_MORNING - DAY, MONDAY_MORNING, "203.0.113.7"),
}


def plainly(rows: list[dict[str, Any]], find: Find) -> list[UUID]:
    """What a search has to find, by hand."""

    def fits(row: dict[str, Any]) -> bool:
        looked = row["action"].endswith(".read")
        by_action = {None: True, LOOKS: looked, CHANGES: not looked}.get(find.action, row["action"] == find.action)
        return bool(
            by_action
            and find.actor in {None, row["actor"]}
            and find.record in {None, Record(row["entity"], row["entity_id"])}
            and (find.since is None or row["happened_at"] >= find.since)
            and (find.until is None or row["happened_at"] < find.until)
            and find.address in {None, row["address"]}
        )

    ordered = sorted(filter(fits, rows), key=lambda row: (row["happened_at"], row["id"].hex), reverse=True)
    return [row["id"] for row in ordered]


def test_every_search_finds_what_fits_newest_first_page_by_page(engine: Engine) -> None:
    rows = events(300)
    store(engine, rows)
    for name, find in WISHES.items():
        found, after = [], None
        with reading(engine) as session:
            while True:
                wanted = Find(find.actor, find.action, find.record, find.since, find.until, find.address, after, 7)
                page, after = audit_log.search(session, wanted)
                assert len(page) <= 7
                found += [event.id for event in page]
                if after is None:
                    break
                after = Moment.parse(str(after))
        assert found == plainly(rows, find), name


def test_a_search_is_one_query_by_an_index_among_very_many(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(FILL.format(**OF_DIALECT[engine.name])), {"many": MANY})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE audit_event")
    last = Moment(MONDAY_MORNING - DAY / 8, UUID(int=0))
    for name, find in WISHES.items():
        for after in (None, last):
            wanted = Find(find.actor, find.action, find.record, find.since, find.until, find.address, after)
            with statements(engine) as seen, reading(engine) as session:
                audit_log.search(session, wanted)
            assert len(seen) == 1, name
            for plan in plans(engine, seen[0])[:1]:  # as it is run for these values
                assert not walks_whole(plan, "audit_event"), (name, plan)
                assert "ix_audit_event" in plan, (name, plan)


def test_the_actions_on_record_are_found_step_by_step(engine: Engine) -> None:
    with reading(engine) as session:
        before = audit_log.actions(session)
    store(engine, events(50))
    with statements(engine) as seen, reading(engine) as session:
        assert audit_log.actions(session) == sorted({*before, *ACTIONS})
    assert len(seen) == 1


def test_to_search_is_on_record_with_what_was_searched(engine: Engine) -> None:
    find = Find(
        "account:1", LOOKS, Record("patient", "7"), MONDAY_MORNING, None, "203.0.113.7", Moment(MONDAY_MORNING, uuid7())
    )
    with transaction(engine) as session:
        audit.searched(session, find.in_words(), by=Actor("account:2", "203.0.113.9"), now=MONDAY_MORNING)
    with reading(engine) as session:
        (event,), _ = audit_log.search(session, Find(actor="account:2"))
    assert (event.action, event.entity, event.address) == ("audit_event.read", "audit_event", "203.0.113.9")
    assert event.detail == {
        "actor": "account:1",
        "action": "looks",
        "record": "patient:7",
        "address": "203.0.113.7",
        "since": MONDAY_MORNING.isoformat(),
    }


@pytest.mark.parametrize(
    "written",
    ["", "appointment", "appointment:", ":1", "Appointment:1", "appointment:1 OR 1=1", "a:\x00", "a:<b>",
     "x" * 41 + ":1", "a:" + "1" * 81, "appointment:1\n"],
)  # fmt: skip
def test_what_names_no_record_is_refused(written: str) -> None:
    with pytest.raises(Invalid):
        Record.parse(written)


def test_a_record_is_named_with_or_without_the_strokes_of_its_id() -> None:
    one = UUID("019adf3a-0000-7000-8000-0000000000ff")
    assert Record.parse(f"appointment:{one}") == Record.parse(f"appointment:{one.hex}")
    assert str(Record.parse(f"appointment:{one}")) == f"appointment:{one.hex}"
    assert Record.parse("account_location:1-2").id == "1-2"
    assert Record.parse("a:" + "z" * 32).id == "z" * 32


@pytest.mark.parametrize("written", ["", "1", "1-2", "9" * 18 + "-" + "0" * 32, "1-" + "g" * 32, "-1-" + "0" * 32])
def test_what_ends_no_page_is_refused(written: str) -> None:
    with pytest.raises(Invalid):
        Moment.parse(written)


def test_times_are_told_in_the_zone_of_most_locations(engine: Engine, clinic: Clinic) -> None:
    with reading(engine) as session:
        assert practice.zone(session) == "America/Chicago"
    for number in range(2):
        clinic.add_location(f"Denver {number}", "America/Denver", "CO")
    with reading(engine) as session:
        assert practice.zone(session) == "America/Denver"
    with transaction(engine) as session:
        session.execute(text("UPDATE location SET time_zone = 'America/Phoenix' WHERE name = 'Denver 0'"))
    with reading(engine) as session:
        assert practice.zone(session) == "America/Chicago"  # as many of each: the first by name


def test_a_visit_leads_to_its_patient(engine: Engine, clinic: Clinic, clock: FixedClock) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot)).appointment
    account = an_account(engine, clock, Role.ADMIN)
    with reading(engine) as session:
        found = audit_log.patient_of(session, Record("appointment", visit.id.hex))
        assert found == Record("patient", visit.patient_id.hex)
        for other in (
            None,
            Record("patient", visit.id.hex),
            Record("appointment", uuid7().hex),
            Record("appointment", "1"),
        ):
            assert audit_log.patient_of(session, other) is None
        assert audit_log.patient_of(session, Record("appointment", "z" * 32)) is None
        names = audit_log.accounts(session)
    assert names == {f"account:{account.id}": "Some admin (admin@clinic.example)"}
