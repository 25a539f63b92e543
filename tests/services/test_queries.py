"""How many statements a request runs at any size, and by which index they find their cells."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, event, select, text, update

from scheduler.clock import FixedClock
from scheduler.db import ask, transaction
from scheduler.keys import Keyring
from scheduler.models import (
    AppointmentType,
    AppointmentTypeLocation,
    AppointmentTypeTherapist,
    Location,
    Therapist,
    TherapistLanguage,
)
from scheduler.services import access_goal
from tests.clinic import Clinic, body, key

API = "/api/v1"
Statement = tuple[str, Any]
THERAPISTS = 20
LOCATIONS = 4
# One calendar stands for all: the cells of therapist 1 again for everybody else, spread over the locations.
COPY = """
    INSERT INTO slot (therapist_id, starts_at, location_id, fit, needling, fit_open)
    SELECT therapist.id, starts_at, 1 + therapist.id % :locations, fit, needling, fit
    FROM slot CROSS JOIN therapist WHERE therapist_id = 1 AND appointment_id IS NULL AND therapist.id > 1
"""
SEARCHES = (
    *("", "&location=1", "&therapist=1", "&language=en", "&location=1&language=en&limit=200", "&from=2026-11-24"),
    *("&from=2026-11-24&to=2026-11-26&location=1", "&from=2026-11-24T09:00:00Z", "&cursor=1990000-1"),
)
LOCAL_SEARCHES = (
    "&day_part=evening",
    "&weekday=tuesday,sunday&from=2026-11-24",
    "&day_part=morning&location=1&limit=200",
)
READS = ("locations", "therapists?location=1", "appointment-types", "explainer", "access", "access?appointment_type=3")
PAGES = (
    "/",
    "/book",
    "/book?day_part=morning&weekday=tuesday&from=2026-11-24",
    "/contact",
    "/explainer",
    *(f"{API}/{name}" for name in READS),
)


@pytest.fixture
def clinic(engine: Engine, clock: FixedClock, keys: Keyring) -> Clinic:
    """One therapist at one location, planned for one day ahead."""
    clinic = Clinic(engine, clock, keys)
    clinic.add_kinds()
    clinic.policy(booking_horizon_days=1)
    clinic.add_hours(clinic.add_therapist(), clinic.add_location(), range(7))
    clinic.plan()
    return clinic


def grow(clinic: Clinic) -> None:
    """Make it twenty therapists at four locations, sixty days ahead, with some visits; let the planner know."""
    clinic.policy(booking_horizon_days=60)
    clinic.plan()
    with transaction(clinic.engine) as session:
        session.add_all(
            Location(name=f"L{n}", area="A", address="-", state="IL", time_zone="America/Chicago", phone="-")
            for n in range(2, LOCATIONS + 1)
        )
        people = [Therapist(name=f"T{n}", credentials="PT", active=True) for n in range(2, THERAPISTS + 1)]
        session.add_all(people)
        session.flush()
        session.add_all(TherapistLanguage(therapist_id=person.id, language="en") for person in people)
        session.add_all(clinic.license(person.id, kind, "IL") for person in people for kind in ("pt", "dry_needling"))
        session.flush()
        session.execute(text(COPY), {"locations": LOCATIONS})
    for offer in {offer.slot.therapist_id: offer for offer in clinic.offers(limit=200)}.values():
        clinic.book(str(offer.slot))
    with clinic.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE" if clinic.engine.name == "sqlite" else "VACUUM ANALYZE")


@contextmanager
def statements(engine: Engine) -> Iterator[list[Statement]]:
    """Collect the statements that run meanwhile, as the driver gets them, with their parameters.

    All but that of a session of the staff's: it is asked only once anything changed, in other tests' databases too.
    """
    seen: list[Statement] = []

    def note(_c: object, _cursor: object, statement: str, parameters: object, _context: object, _many: object) -> None:
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", statement) and "staff_session" not in statement:
            seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def asked(engine: Engine, client: FlaskClient, path: str) -> list[Statement]:
    with statements(engine) as seen:
        answer = client.get(path)
    assert answer.status_code == 200, answer.get_data()
    return seen


def asked_again(engine: Engine, client: FlaskClient, path: str) -> list[Statement]:
    """The statements of a request whose terms have not changed since the one before it."""
    asked(engine, client, path)
    return asked(engine, client, path)


def of_booking(engine: Engine, client: FlaskClient) -> tuple[list[Statement], list[Statement], list[Statement]]:
    """The statements of booking the soonest time, of viewing the visit and of cancelling it."""
    slot = client.get(f"{API}/slots?appointment_type=1&limit=1&location=1").get_json()["items"][0]["id"]
    with statements(engine) as booking:
        booked = client.post(f"{API}/appointments", json=body(slot), headers=key())
    token = booked.get_json()["token"]
    with statements(engine) as viewing:
        client.get(f"{API}/appointments/{token}")
    with statements(engine) as cancelling:
        cancelled = client.post(f"{API}/appointments/{token}/cancel", json={})
    assert (booked.status_code, cancelled.status_code) == (201, 200)
    return booking, viewing, cancelling


def test_requests_run_as_many_statements_at_any_size(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    def counts() -> dict[str, int]:
        for kind in (1, 3):
            client.get(f"{API}/access?appointment_type={kind}")  # so that the terms are known
        steps = zip(("book", "view", "cancel"), of_booking(engine, client), strict=True)
        pages = {page: len(asked(engine, client, page)) for page in PAGES}
        finds = {find: f"{API}/slots?appointment_type=1{find}" for find in SEARCHES + LOCAL_SEARCHES}
        firsts = [len(asked(engine, client, path)) for path in finds.values()]
        assert max(firsts) == 2  # the terms have changed since the last time, or were never asked
        searches = {find: len(asked_again(engine, client, path)) for find, path in finds.items()}
        return {name: len(seen) for name, seen in steps} | pages | searches

    small = counts()
    grow(clinic)
    assert counts() == small
    assert {find: small[find] for find in SEARCHES} == dict.fromkeys(SEARCHES, 1)
    assert {find: small[find] for find in LOCAL_SEARCHES} == dict.fromkeys(LOCAL_SEARCHES, 2)
    assert small["view"] == 1
    assert min(small.values()) > 0  # no page was one that was kept, which asks nothing
    # The page of times asks of policy, types, terms, days, starts, places, people, who offers what, and languages.
    assert max(small[page] for page in PAGES if not page.endswith("explainer")) <= 9
    # The explainer's claims ask of policy, types, places, people, hours, licences, cells and four weeks of history.
    assert max(small["/explainer"], small[f"{API}/explainer"]) <= 12


def plans(engine: Engine, statement: Statement) -> list[str]:
    """How the database means to run a statement; on PostgreSQL prepared, for these values and for any."""
    sql, parameters = statement
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            rows = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + sql, parameters).all()
            return ["\n".join(str(row.detail) for row in rows)]
        return [
            _plan_prepared(connection, sql, parameters, mode) for mode in ("force_custom_plan", "force_generic_plan")
        ]


def _plan_prepared(connection: Connection, sql: str, parameters: dict[str, Any], mode: str) -> str:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
    numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", sql).replace("%%", "%")
    values = ", ".join(["%s"] * len(names))
    with psycopg.ClientCursor(driver) as cursor:
        cursor.execute(f"SET LOCAL plan_cache_mode = {mode}")
        cursor.execute("PREPARE captured AS " + numbered)
        cursor.execute(
            f"EXPLAIN EXECUTE captured({values})" if names else "EXPLAIN EXECUTE captured",
            [parameters[name] for name in names],
        )
        plan = "\n".join(str(row[0]) for row in cursor.fetchall())
        cursor.execute("DEALLOCATE captured")
    return plan


def over_slots(seen: list[Statement], verb: str = "SELECT") -> Statement:
    """The one statement that looks for, or takes, cells."""
    found = [s for s in seen if s[0].lstrip().startswith(verb) and re.search(r"(FROM|UPDATE) slot\b", s[0])]
    assert len(found) == 1, [statement for statement, _ in seen]
    return found[0]


def walks_whole(plan: str, table: str) -> bool:
    """Whether a plan reads a table from end to end."""
    return re.search(rf"\b(SCAN {table}\b(?! USING (COVERING )?INDEX)|Seq Scan on {table}\b)", plan) is not None


BOUNDS = ("", "&limit=200", "&from=2026-11-30T00:00:00Z&to=2026-12-02T00:00:00Z", "&cursor=1994800-3")
DATES = ("&from=2026-11-30", "&to=2026-12-02", "&from=2026-11-30&to=2026-12-02")
BY_BOUNDS = r"(USING COVERING INDEX|Index (Only )?Scan using) {index}\b.*\n?.*starts_at ?>"
SOUGHT = {
    "sqlite": r"slot USING COVERING INDEX {index} \(.*starts_at>\? AND starts_at<\?\)",
    "postgresql": r"Index (?:Only )?Scan using {index}\b.*\n.*starts_at >= walk",
}
INDEXES = {
    "&location=2": (BOUNDS, BY_BOUNDS.format(index="ix_slot_free_at")),
    "": (BOUNDS, BY_BOUNDS.format(index="ix_slot_free_two_anywhere")),
    "&therapist=7": (BOUNDS, r"\b(ix_slot_free_\w+|pk_slot|PRIMARY KEY)\b"),
    "&location=4": (DATES, r"\bix_slot_free_\w+\b.*\n?.*starts_at ?>"),
    "&limit=20": (DATES, r"\bix_slot_free_\w+\b.*\n?.*starts_at ?>"),
}


def test_a_search_walks_an_index_of_free_cells_within_its_bounds(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    grow(clinic)
    for place, (bounds, index) in INDEXES.items():
        for search in (kind + place + bound for kind in ("1", "3") for bound in bounds):
            seen = asked_again(engine, client, f"{API}/slots?appointment_type={search}")
            for plan in plans(engine, over_slots(seen)):
                assert re.search(index, plan), (search, plan)
                assert not walks_whole(plan, "slot"), (search, plan)


def test_a_visit_of_one_cell_walks_the_index_that_has_single_ones(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    grow(clinic)
    with transaction(engine) as session:
        session.execute(update(AppointmentType).where(AppointmentType.id == 1).values(minutes=15, buffer_minutes=0))
    for plan in plans(engine, over_slots(asked_again(engine, client, f"{API}/slots?appointment_type=1"))):
        assert re.search(BY_BOUNDS.format(index="ix_slot_free_anywhere"), plan), plan


def test_a_kind_that_only_some_offer_walks_the_same_indexes(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    grow(clinic)
    with transaction(engine) as session:
        session.add_all(AppointmentTypeTherapist(appointment_type_id=1, therapist_id=n) for n in (3, 6, 9, 12))
        session.add_all(AppointmentTypeLocation(appointment_type_id=1, location_id=n) for n in (2, 3))
    for place, index in (("", "ix_slot_free_two_anywhere"), ("&location=2", "ix_slot_free_at")):
        seen = asked_again(engine, client, f"{API}/slots?appointment_type=1{place}")
        assert len(seen) == 1
        for plan in plans(engine, over_slots(seen)):
            assert re.search(BY_BOUNDS.format(index=index), plan), plan
            assert not walks_whole(plan, "slot"), plan
    for plan in plans(engine, over_slots(asked_again(engine, client, f"{API}/access?appointment_type=1"))):
        assert re.search(r"(COVERING INDEX|Index Only Scan using) ix_slot_free_at", plan), plan
        assert not walks_whole(plan, "slot"), plan


LOCAL = ("&day_part=evening", "&weekday=saturday,sunday", "&day_part=morning&weekday=tuesday&from=2026-12-01")


def test_a_search_by_part_of_the_day_seeks_each_stretch_of_it(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    grow(clinic)
    with transaction(engine) as session:
        session.get_one(Location, 2).time_zone = "America/Denver"
    for place, index in (("", "ix_slot_free_two_anywhere"), ("&location=2", "ix_slot_free_at")):
        for local in LOCAL:
            seen = asked_again(engine, client, f"{API}/slots?appointment_type=1{place}{local}")
            assert len(seen) == 2
            (found,) = (one for one in seen if "walk" in one[0])
            for plan in plans(engine, found):
                assert re.search(SOUGHT[engine.name].format(index=index), plan), plan
                assert not walks_whole(plan, "slot"), plan


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@pytest.mark.parametrize("wished", ["", "&location=1", "&from=2026-11-24", "&day_part=morning"])
def test_postgresql_plans_a_search_once_and_not_for_each_question(
    client: FlaskClient, engine: Engine, clinic: Clinic, wished: str
) -> None:
    """It makes five plans for values that it knows, then keeps to one for all where that looks no dearer.

    For pages of 200 it looks dearer, and is planned anew: a tenth of what such a page costs.
    """
    grow(clinic)
    plans = "pg_prepared_statements WHERE statement LIKE '%slot.starts_at AS starts_at%'"
    counts = select(text("coalesce(sum(generic_plans), 0)::int"), text("coalesce(sum(custom_plans), 0)::int"))
    ((kept_before, anew_before),) = ask(engine, counts.select_from(text(plans)), {})
    for number in range(20):
        path = f"{API}/slots?appointment_type=1{wished}"
        assert client.get(path + f"&to=2026-12-{1 + number:02}").status_code == 200
    ((kept, anew),) = ask(engine, counts.select_from(text(plans)), {})
    assert kept - kept_before > anew - anew_before


def test_the_days_with_times_are_sought_one_by_one(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    grow(clinic)
    with transaction(engine) as session:
        session.get_one(Location, 2).time_zone = "America/Denver"
    for place in ("", "?location=2", "?day_part=evening", "?therapist=3", "?from=2026-12-20"):
        seen = [one for one in asked(engine, client, f"/book{place}") if "each_window" in one[0]]
        assert len(seen) == 1
        for plan in plans(engine, seen[0]):
            assert re.search(r"(ix_slot_free_\w+|pk_slot|USING PRIMARY KEY)\b.*\n?.*starts_at ?>", plan), plan
            assert not walks_whole(plan, "slot"), plan


OPENINGS = {
    "sqlite": (
        r"SEARCH slot_1 USING PRIMARY KEY \(therapist_id=\? AND starts_at=\?\)",
        r"COVERING INDEX ix_slot_free_at",
    ),
    # For few locations both orders cost the same to the thousandth, and the statistics of the day decide.
    "postgresql": (r"Limit .*\n.*Index Only Scan using ix_slot_free_(at|two_anywhere)\b.*\n?.*starts_at >=",),
}


def test_access_walks_each_locations_index_until_it_has_found_enough(
    client: FlaskClient, engine: Engine, clinic: Clinic
) -> None:
    grow(clinic)
    for kind in ("1", "3"):
        for plan in plans(engine, over_slots(asked_again(engine, client, f"{API}/access?appointment_type={kind}"))):
            assert all(re.search(part, plan) for part in OPENINGS[engine.name]), plan
            assert not walks_whole(plan, "slot"), plan


SHARES = (
    r"access_sample USING PRIMARY KEY \(appointment_type_id=\? AND location_id=\? AND quarter>\? AND quarter<\?\)",
    r"access_sample USING COVERING INDEX \w+ \(appointment_type_id=\? AND quarter>\? AND quarter<\?\)",
)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_share_of_history_reads_its_weeks_only(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    seen = [one for one in asked(engine, client, f"{API}/access") if "access_sample" in one[0]]
    assert len(seen) == 2
    for statement, part in zip(seen, SHARES, strict=True):
        assert [plan for plan in plans(engine, statement) if not re.search(part, plan)] == []


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_tick_finds_what_was_kept_and_what_is_old_by_their_index(
    engine: Engine, clinic: Clinic, clock: FixedClock
) -> None:
    with statements(engine) as seen:
        clinic.record_access()
        with transaction(engine) as session:
            access_goal.forget_old_samples(session, now=clock.now())
    looks = [one for one in seen if "access_sample" in one[0] and not one[0].startswith("INSERT")]
    assert [sql.split()[0] for sql, _ in looks] == ["SELECT", "DELETE"]
    for statement in looks:
        found = plans(engine, statement)
        assert all(
            re.search(r"COVERING INDEX \w+ \(appointment_type_id=\? AND quarter[=<]\?\)", plan) for plan in found
        )


def test_a_visits_life_finds_its_cells_by_their_key(client: FlaskClient, engine: Engine, clinic: Clinic) -> None:
    grow(clinic)
    life = of_booking(engine, client)
    of_one = [
        one for one in life[0] if "slot_1" not in one[0] and "LATERAL" not in one[0]
    ]  # not the soonest of each place
    for plan in (*plans(engine, over_slots(of_one, "UPDATE")), *plans(engine, over_slots(of_one))):
        assert re.search(r"\bpk_slot\b|USING PRIMARY KEY \(therapist_id=\? AND starts_at", plan), plan
    for statement in (one for step in life for one in step):
        if isinstance(statement[1], list) or "VALUES" in statement[0]:
            continue  # plain rows to insert: nothing is looked for
        for plan in plans(engine, statement):
            assert not walks_whole(plan, "slot"), (statement[0], plan)


def work(engine: Engine, statement: Statement) -> int:
    """How many hundreds of its machine's steps SQLite takes for a statement."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_progress_handler(step, 100)
        connection.exec_driver_sql(*statement).all()
        driver.set_progress_handler(None, 0)
    return steps


# Fails while a search reads every free cell between the first bookable moment and the `from`, date or cursor asked for:
# of two bounds below a column SQLite uses one for its index and tests the other row by row.
@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "far", ["&from=2027-01-15T00:00:00Z", "&cursor=1999500-3", "&from=2027-01-15", "&to=2027-01-15"]
)
def test_a_search_far_ahead_or_by_dates_is_as_little_work_as_the_soonest(
    client: FlaskClient, engine: Engine, clinic: Clinic, far: str
) -> None:
    grow(clinic)
    soonest, later = (
        work(engine, over_slots(asked_again(engine, client, f"{API}/slots?appointment_type=1{bound}")))
        for bound in ("", far)
    )
    assert 0 < later <= 3 * soonest
