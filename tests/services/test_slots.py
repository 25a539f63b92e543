"""The job that makes cells from weekly hours: what it adds, what it removes, what it leaves alone."""

import itertools
from datetime import date, timedelta
from zoneinfo import ZoneInfoNotFoundError

import pytest
from sqlalchemy import Engine, delete, func, select, text, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import AppointmentType, License, Slot, Therapist, WorkingHours
from scheduler.services import slots
from scheduler.services.slots import Changes
from scheduler.timeline import CELL
from tests.clinic import Clinic

CELLS_A_DAY = 9 * 4


def cells(engine: Engine, **where: object) -> list[Slot]:
    with reading(engine) as session:
        return list(session.scalars(select(Slot).filter_by(**where).order_by(Slot.starts_at)))


def test_a_calendar_is_planned_to_the_horizon_and_no_further(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    planned = cells(engine)
    assert planned[0].starts_at == clock.now()
    assert timedelta(days=90) <= planned[-1].starts_at - clock.now() <= timedelta(days=93)
    assert len({cell.starts_at for cell in planned}) == len(planned)
    assert len(clinic.offers()) > 0
    assert clinic.violations() == {}


def test_the_next_day_is_added_when_it_comes_within_reach(clinic: Clinic, clock: FixedClock, engine: Engine) -> None:
    clock.at += timedelta(days=7)
    assert clinic.plan() == Changes(added=5 * CELLS_A_DAY, removed=0)
    assert clinic.violations() == {}


def test_fewer_hours_remove_free_cells_and_leave_taken_ones(clinic: Clinic, engine: Engine) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot)).appointment
    with transaction(engine) as session:
        session.execute(delete(WorkingHours).where(WorkingHours.weekday == visit.starts_at.weekday()))
    changed = clinic.plan()
    assert changed.added == 0
    assert changed.removed > 0
    assert [cell.starts_at for cell in cells(engine, appointment_id=visit.id)] == [
        visit.starts_at + n * CELL for n in range(4)
    ]
    assert clinic.violations() == {}


def test_a_freed_time_that_left_the_plan_is_not_offered_again(clinic: Clinic, engine: Engine) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot))
    with transaction(engine) as session:
        session.execute(delete(WorkingHours))
    clinic.plan()
    clinic.cancel(visit.token)
    assert cells(engine) == []
    assert clinic.violations() == {}


def test_hours_at_two_locations_that_overlap_make_each_time_once(clinic: Clinic, engine: Engine) -> None:
    therapist_id = cells(engine)[0].therapist_id
    clinic.add_hours(therapist_id, clinic.add_location("Denver", "America/Denver", "CO"))
    with transaction(engine) as session:
        session.add_all(clinic.license(therapist_id, kind, "CO") for kind in ("pt", "dry_needling"))
    clinic.plan()
    planned = cells(engine)
    assert len({cell.starts_at for cell in planned}) == len(planned)
    assert len({cell.location_id for cell in planned}) == 2
    assert clinic.violations() == {}


def test_days_without_a_licence_get_no_cells(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(update(License).where(License.kind == "pt").values(valid_until=date(2026, 11, 25)))
    clinic.plan()
    assert {cell.starts_at.date() for cell in cells(engine)} == {date(2026, 11, day) for day in (23, 24, 25)}


def test_a_lapsed_needling_qualification_hides_only_visits_with_needling(clinic: Clinic, engine: Engine) -> None:
    before = len(clinic.offers("Evaluation"))
    with transaction(engine) as session:
        session.execute(update(License).where(License.kind == "dry_needling").values(valid_until=date(2026, 11, 24)))
    clinic.plan()
    assert len(clinic.offers("Evaluation")) == before
    assert {offer.slot.starts_at.date() for offer in clinic.offers("Needling")} == {
        date(2026, 11, 23),
        date(2026, 11, 24),
    }


def test_a_state_that_forbids_needling_from_a_day_on_hides_it_from_that_day(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(clinic.rule("IL", needling="forbidden", valid_from=date(2026, 11, 25)))
    clinic.plan()
    assert max(offer.slot.starts_at.date() for offer in clinic.offers("Needling")) == date(2026, 11, 24)


def test_a_therapist_who_left_offers_nothing(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(update(Therapist).values(active=False))
    clinic.plan()
    assert clinic.offers() == []


def test_fit_never_reaches_past_a_taken_cell_or_another_location(clinic: Clinic, engine: Engine) -> None:
    first = clinic.offers("Needling")[0].slot
    clinic.book(str(first), "Needling")
    with reading(engine) as session:
        assert slots.count_misfits(session) == 0
        held = session.scalar(select(func.count()).where(Slot.fit == 0, Slot.appointment_id.is_not(None)))
    assert held == 2
    assert first not in [offer.slot for offer in clinic.offers("Evaluation")]


def test_hours_around_the_clock_join_over_midnight(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(delete(WorkingHours))
        therapist_id, location_id = session.execute(select(Slot.therapist_id, Slot.location_id).limit(1)).one()
    clinic.add_hours(therapist_id, location_id, range(7), 0, 24 * 60)
    clinic.plan()
    planned = cells(engine)
    assert {after.starts_at - before.starts_at for before, after in itertools.pairwise(planned)} == {CELL}
    assert {cell.fit for cell in planned[:-3]} == {4}


def test_which_of_two_overlapping_hours_is_worked_does_not_depend_on_the_window(clinic: Clinic, engine: Engine) -> None:
    first, second = clinic.add_location("One"), clinic.add_location("Two")
    therapist_id = clinic.add_therapist("Both Places")
    clinic.add_hours(therapist_id, second, opens=8 * 60, closes=12 * 60)
    clinic.add_hours(therapist_id, first, opens=10 * 60, closes=14 * 60)
    clinic.plan()
    offered = [offer.slot for offer in clinic.offers(therapist_id=therapist_id)]
    eleven = next(slot for slot in offered if slot.location_id == second and slot.starts_at.hour == 17)
    clinic.cancel(clinic.book(str(eleven)).token)
    assert [offer.slot for offer in clinic.offers(therapist_id=therapist_id)] == offered
    assert clinic.violations() == {}


def test_a_longer_type_is_offered_once_the_worker_has_been_by(clinic: Clinic, engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(
            AppointmentType(
                name="Long", position=9, minutes=90, buffer_minutes=15, new_patient=False, includes_needling=False
            )
        )
    clinic.kinds["Long"] = 4
    assert clinic.offers("Long") == []
    clinic.plan()
    assert len(clinic.offers("Long")) > 0
    assert clinic.violations() == {}
    assert clinic.plan() == Changes()


def test_a_calendar_that_cannot_be_planned_stops_no_other(clinic: Clinic, engine: Engine, clock: FixedClock) -> None:
    bad, good = clinic.add_therapist("Lost In Space"), clinic.add_therapist("On Time")
    clinic.add_hours(bad, clinic.add_location("Nowhere"))
    clinic.add_hours(good, clinic.add_location("Somewhere"))
    with transaction(engine) as session:
        session.execute(text("UPDATE location SET time_zone = 'America/Nowhere' WHERE name = 'Nowhere'"))
    clinic.plan()
    assert cells(engine, therapist_id=bad) == []
    assert len(cells(engine, therapist_id=good)) > 0


def test_a_location_in_no_time_zone_is_refused(clinic: Clinic) -> None:
    with pytest.raises(ZoneInfoNotFoundError):
        clinic.add_location("Nowhere", "America/Nowhere")
