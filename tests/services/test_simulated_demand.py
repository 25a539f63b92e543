"""What the simulator reads off a location's own weeks: against weeks that are known, and where they say too little."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert
from uuid6 import uuid7

from scheduler.db import reading, transaction
from scheduler.models import AccessRequest, Appointment, Patient, Slot
from scheduler.services import simulated_clinics, simulated_demand
from scheduler.services.simulated_clinics import BookingTerms
from scheduler.services.simulated_demand import History, Source, Visit
from scheduler.services.simulation import Demand
from scheduler.timeline import CELL, DAY, HOUR, first_instant
from tests.clinic import Clinic
from tests.services.test_queries import statements

CHICAGO = ZoneInfo("America/Chicago")
TERMS = BookingTerms(goal_hours=48, target=0.9, notice_minutes=60, horizon_days=90, cells=4)
USUAL = Demand(load=0.9, soon=0.15, lead_days=10, no_shows=0.1, cancelled=0.1)
FIRST, TODAY = date(2026, 8, 24), date(2026, 11, 23)  # both Mondays, 91 days apart
PERIOD = (first_instant(FIRST, 0, CHICAGO), first_instant(TODAY, 0, CHICAGO))
# Each weekday: one who comes at once (on Mondays they do not come), one booked a week before with a buffer, a short one
# 12 days before that nobody marked, and one five days before, when that was the soonest there was. On Mondays one more
# that was called off.
WEEKDAY = (
    {"hour": 13, "minutes": 60, "lead": HOUR, "status": "fulfilled"},
    {"hour": 14, "minutes": 45, "buffer": 15, "lead": 7 * DAY, "status": "fulfilled"},
    {"hour": 15, "minutes": 30, "lead": 12 * DAY, "status": "booked"},
    {"hour": 16, "minutes": 60, "lead": 5 * DAY, "status": "arrived", "offered": 5 * DAY},
)
MONDAY = (
    {"hour": 13, "minutes": 60, "lead": HOUR, "status": "noshow"},
    *WEEKDAY[1:],
    {"hour": 17, "minutes": 60, "lead": 3 * DAY, "status": "cancelled", "offered": 2 * DAY},
)
# By hand. Of what was booked in the period: 65 at once, 60 five days before, which was the soonest, and later than they
# had to 60 by five days beyond the goal, 55 by ten, 12 by one, 5 of the weeks ahead by 18.
KNOWN = History(
    days=91,
    open_days=66,  # 65 weekdays and a Saturday that nobody wanted
    visits=65 * (4 + 4 + 2 + 4) / 4 / 66,
    soon=125 / 257,
    lead_days=(60 * 5 + 55 * 10 + 12 * 1 + 5 * 18) / 132,
    no_shows=13 / 195,
    cancelled=13 / 273,
)


def visits(days: int = 91) -> Iterator[dict[str, Any]]:
    """The visits of the last so many days, of one long before them, and of the weeks ahead."""
    yield {"on": date(2026, 8, 3), "hour": 13, "minutes": 60, "lead": DAY, "status": "noshow"}
    for on in (TODAY - number * DAY for number in range(days, 0, -1)):
        of_day = () if on.weekday() > 4 else WEEKDAY if on.weekday() else MONDAY
        yield from ({"on": on, **one} for one in of_day)
    ahead = (date(2026, 12, 7) + number * DAY for number in range(5))
    yield from ({"on": on, "hour": 13, "minutes": 60, "lead": 20 * DAY, "status": "booked"} for on in ahead)


def live(clinic: Clinic, place_id: int = 1, days: int = 91) -> None:
    """Store these visits, and beside them a free Saturday, a visit that moved in, and a time that is kept."""
    saturday, sunday = datetime(2026, 10, 10, 15, tzinfo=UTC), datetime(2026, 10, 11, 15, tzinfo=UTC)
    moved_in = {"on": date(2026, 12, 8), "hour": 18, "minutes": 60, "lead": 30 * DAY, "status": "booked"}
    held = {"on": sunday.date(), "hour": 15, "minutes": 60, "lead": HOUR, "status": "held", "expires_at": sunday}
    whom = clinic.add_therapist(f"Somebody at {place_id}")
    cell = {"therapist_id": whom, "starts_at": saturday, "fit": 1, "fit_open": 1, "needling": False, "protected": False}
    who = {"id": uuid7(), "name": "Pat", "email": "pat@example.com", "language": "en", "created_at": saturday}
    remind = {"remind_by_email": True, "remind_by_sms": False}
    every = [row(one, place_id, whom, who["id"]) for one in (*visits(days), moved_in, held)]
    every[-2]["imported_as"] = f"17 at {place_id}"
    every[-1] |= {"patient_id": None, "needling": None}
    noted = [request(one) for one in every if one["offered"] is not None]
    with transaction(clinic.engine) as session:
        session.execute(insert(Patient), [who | remind])
        session.execute(insert(Slot), [cell | {"location_id": place_id}])
        session.execute(insert(Appointment), [{name: one[name] for name in one if name != "offered"} for one in every])
        session.execute(insert(AccessRequest), noted)


def row(one: dict[str, Any], place_id: int, whom: int, patient: Any) -> dict[str, Any]:  # noqa: ANN401 an id
    start = datetime(one["on"].year, one["on"].month, one["on"].day, one["hour"], tzinfo=UTC)
    booked_at = start - one["lead"]
    return {
        "id": uuid7(),
        "patient_id": patient,
        "therapist_id": whom,
        "location_id": place_id,
        "appointment_type_id": 1,
        "starts_at": start,
        "ends_at": start + timedelta(minutes=one["minutes"]),
        "buffer_minutes": one.get("buffer", 0),
        "status": one["status"],
        "needling": "open",
        "booked_at": booked_at,
        "cancelled_at": booked_at if one["status"] == "cancelled" else None,
        "expires_at": one.get("expires_at"),
        "imported_as": None,
        "offered": one.get("offered"),
    }


def request(one: dict[str, Any]) -> dict[str, Any]:
    """What was on offer as this visit was booked."""
    here = one["offered"] / HOUR
    taken = (one["starts_at"] - one["booked_at"]) / HOUR
    ids = {name: one[name] for name in ("appointment_type_id", "location_id")}
    hours = {"here_hours": here, "anywhere_hours": 1.0, "taken_hours": taken, "goal_hours": 48}
    return {"appointment_id": one["id"], "asked_at": one["booked_at"], **ids, **hours}


def read(clinic: Clinic) -> dict[int, History]:
    with reading(clinic.engine) as session:
        clinics, terms = simulated_clinics.clinics(session, None, None, None, now=clinic.clock.now())
        return simulated_demand.histories(session, clinics, terms, now=clinic.clock.now())


@pytest.mark.parametrize(
    ("days", "found"),
    [
        (91, KNOWN),
        (27, History(91, 20, visits=19 * 14 / 4 / 20)),  # days enough to count visits, too few visits for their shares
        (26, History(91, 19)),
    ],
)
def test_a_known_history_gives_its_numbers_and_a_short_one_none(clinic: Clinic, days: int, found: History) -> None:
    live(clinic, days=days)
    assert read(clinic) == {1: found}


def test_a_location_that_nobody_has_booked_at_has_no_history(clinic: Clinic) -> None:
    clinic.add_location("Uptown")
    live(clinic)
    assert read(clinic).keys() == {1}


def test_days_before_the_first_booking_say_nothing(clinic: Clinic) -> None:
    """Booked first on the first of October: 53 days later the weeks from the second on are what there is."""
    with transaction(clinic.engine) as session:
        free = datetime(2026, 9, 14, 15, tzinfo=UTC)
        session.add_all(
            Slot(therapist_id=1, location_id=1, starts_at=free + n * DAY, fit=1, fit_open=1, needling=False)
            for n in range(70)
        )
    start = {"on": date(2026, 10, 5), "hour": 13, "minutes": 60, "lead": 4 * DAY, "status": "fulfilled"}
    with transaction(clinic.engine) as session:
        patient = Patient(
            name="Pat", email="pat@example.com", language="en", remind_by_email=True, remind_by_sms=False,
            created_at=free,
        )  # fmt: skip
        session.add(patient)
        session.flush()
        visit = row(start, 1, 1, patient.id)
        del visit["offered"]
        session.add(Appointment(**visit))
    assert read(clinic) == {1: History(52, 52, visits=1 / 52)}


def test_many_locations_take_as_many_statements(clinic: Clinic) -> None:
    counts = []
    for number in range(2):
        live(clinic, clinic.add_location(f"Place {number}"))
        with reading(clinic.engine) as session:
            now = clinic.clock.now()
            clinics, terms = simulated_clinics.clinics(session, None, None, None, now=now)
            with statements(clinic.engine) as seen:
                found = simulated_demand.histories(session, clinics, terms, now=now)
        assert set(found.values()) == {KNOWN}
        counts.append((len(found), len(seen)))
    assert counts == [(1, 3), (2, 3)]


# --- the arithmetic


def a_visit(number: int, **changes: Any) -> Visit:  # noqa: ANN401 fields of Visit
    """One of as many visits as are wanted, a day apart: an hour, booked ten days before, and kept."""
    start = PERIOD[0] + number % 91 * DAY + 15 * HOUR
    visit = Visit(start, 4, "fulfilled", PERIOD[0] + number % 91 * DAY, 10 * DAY, None)
    return visit._replace(**changes)


def of(found: list[Visit]) -> History:
    clinic = simulated_clinics.on_paper(simulated_clinics.hours("Mon 8-18"), 1, TERMS)
    return simulated_demand.history(clinic, found, [], PERIOD, TERMS)


@pytest.mark.parametrize(("count", "enough"), [(99, False), (100, True)])
def test_a_share_needs_a_hundred_visits(count: int, enough: bool) -> None:
    found = of([a_visit(number, status="noshow" if number % 2 else "fulfilled") for number in range(count)])
    assert (found.no_shows, found.lead_days) == ((0.5, 8.0) if enough else (None, None))
    assert (found.cancelled, found.soon) == ((0.0, 0.0) if enough else (None, None))
    assert found.visits == pytest.approx(count / 91)


def test_what_is_cut_is_what_the_simulator_can_draw() -> None:
    """Hardly beyond the goal, and all but called off."""
    nearly = 2 * DAY + timedelta(minutes=1)
    found = of([a_visit(n, taken=nearly, status="cancelled" if n >= 40 else "booked") for n in range(1000)])
    assert (found.lead_days, found.cancelled) == (0.1, 0.9)
    assert found.no_shows is None  # nobody was marked


def test_the_clocks_that_change_cost_no_day() -> None:
    assert of([a_visit(number) for number in range(91)]).days == 91
    assert (PERIOD[1] - PERIOD[0]) / HOUR == 91 * 24 + 1


@pytest.mark.parametrize(
    ("taken", "offered", "soon"),
    [
        (2 * DAY, None, True),
        (2 * DAY + CELL, None, False),
        (5 * DAY, 5 * DAY, True),
        (5 * DAY, DAY, False),
        (-HOUR, None, True),
        (None, None, False),
    ],
)
def test_who_takes_the_soonest_there_is_wanted_to_come_at_once(
    taken: timedelta | None, offered: timedelta | None, soon: bool
) -> None:
    assert a_visit(1, taken=taken, offered=offered).is_soon(2 * DAY) is soon


# --- what counts


def test_history_counts_where_it_speaks_and_the_usual_where_it_is_silent() -> None:
    demand, sources = simulated_demand.known(USUAL, set(), replace(KNOWN, no_shows=None, lead_days=None))
    assert (demand.load, demand.visits, demand.soon, demand.cancelled) == (
        0.9,
        KNOWN.visits,
        KNOWN.soon,
        KNOWN.cancelled,
    )
    assert (demand.lead_days, demand.no_shows) == (USUAL.lead_days, USUAL.no_shows)
    assert sources == {
        "visits": Source.HISTORY,
        "soon": Source.HISTORY,
        "lead_days": Source.USUAL,
        "no_shows": Source.USUAL,
        "cancelled": Source.HISTORY,
    }


@pytest.mark.parametrize("found", [None, History(40, 19)])
def test_without_history_all_is_as_usual(found: History | None) -> None:
    demand, sources = simulated_demand.known(USUAL, set(), found)
    assert demand == USUAL
    assert sources == dict.fromkeys(("load", "soon", "lead_days", "no_shows", "cancelled"), Source.USUAL)


@pytest.mark.parametrize("name", ["load", "visits"])
def test_what_is_asked_for_wins(name: str) -> None:
    """Load and visits say the same: whichever is asked for, history does not say the other."""
    asked = replace(USUAL, **{name: 1.5}, soon=0.4)
    demand, sources = simulated_demand.known(asked, {name, "soon"}, KNOWN)
    assert (demand.load, demand.visits) == ((1.5, None) if name == "load" else (0.9, 1.5))
    assert (demand.soon, demand.no_shows) == (0.4, KNOWN.no_shows)
    assert {which for which, source in sources.items() if source is Source.OPTION} == {name, "soon"}
    assert {which for which, source in sources.items() if source is Source.HISTORY} == {
        "lead_days",
        "no_shows",
        "cancelled",
    }
