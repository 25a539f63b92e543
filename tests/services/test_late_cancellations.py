"""Cancellations that come later than the clinic asks for, and who they count for."""

from datetime import timedelta

import pytest

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import Status
from scheduler.services import booking, desk, visits
from scheduler.services.audit import Actor
from scheduler.services.booking import Visit
from tests.clinic import HOUR, Clinic

DESK = Actor("account:7", "192.0.2.1")
SECOND = timedelta(seconds=1)


def missed(clinic: Clinic, visit: Visit, places: frozenset[int] | None = None) -> tuple[int, int]:
    with reading(clinic.engine) as session:
        counted = desk.missed_by(session, visit.appointment.patient_id, places)
        return counted.cancelled_late, counted.no_shows


@pytest.mark.parametrize(
    ("hours", "before", "late"),
    [(24, 24 * HOUR, False), (24, 24 * HOUR - SECOND, True), (2, 3 * HOUR, False), (2, HOUR, True), (0, SECOND, False)],
)
def test_what_a_patient_cancels_is_late_by_the_policy_of_that_moment(
    clinic: Clinic, clock: FixedClock, hours: int, before: timedelta, late: bool
) -> None:
    visit = clinic.book(str(clinic.offers()[100].slot))
    clinic.policy(cancel_notice_hours=hours)
    clock.at = visit.appointment.starts_at - before
    assert clinic.cancel(visit.token).appointment.cancelled_late is late
    clinic.policy(cancel_notice_hours=336)
    assert missed(clinic, visit) == (int(late), 0)
    assert clinic.cancel(visit.token).appointment.cancelled_late is late


@pytest.mark.parametrize("for_patient", [True, False])
def test_what_staff_call_off_is_late_only_where_the_patient_wished_it(clinic: Clinic, for_patient: bool) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot))
    with transaction(clinic.engine) as session:
        found = visits.find(session, visit.appointment.id)
        now = clinic.clock.now()
        booking.call_off(session, found, None, by=DESK, keys=clinic.keys, now=now, for_patient=for_patient)
    assert missed(clinic, visit) == (int(for_patient), 0)


def test_a_no_show_is_counted_until_it_is_taken_back(clinic: Clinic) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot))
    for act, count in ((visits.mark, 1), (visits.undo, 0)):
        with transaction(clinic.engine) as session:
            found = visits.find(session, visit.appointment.id)
            act(session, found, Status.NOSHOW, by=DESK, now=clinic.clock.now())
        assert missed(clinic, visit) == (0, count)
    assert missed(clinic, visit, frozenset({2})) == (0, 0)
