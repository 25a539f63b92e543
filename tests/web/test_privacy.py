"""The administrator's pages that hand over and erase what is kept of one patient."""

import pytest
from apiflask import APIFlask
from sqlalchemy import select

from scheduler.clock import FixedClock
from scheduler.db import reading
from scheduler.models import AuditEvent, Patient, Role
from scheduler.timeline import DAY
from tests.clinic import Clinic, rows
from tests.web.pages import look
from tests.web.staff import an_account, csrf_token, signed_in

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def test_an_administrator_hands_over_and_erases(app: APIFlask, clinic: Clinic, clock: FixedClock) -> None:
    visit = clinic.book(str(clinic.offers()[0].slot), note="my knee")
    patient_id = visit.appointment.patient_id
    admin = signed_in(app, clinic.engine, clock, an_account(clinic.engine, clock, Role.ADMIN))
    where = f"/admin/patients/{patient_id}"
    assert "Hand over or erase" in look(admin, f"/staff/desk/patients/{patient_id}").main.text
    file = admin.get(f"{where}/export")
    assert file.get_json()["visits"][0]["note"] == "my knee"
    assert file.headers["Content-Disposition"] == f'attachment; filename="patient-{patient_id}.json"'
    assert file.headers["Cache-Control"] == "no-store"
    assert "my knee" in look(admin, f"{where}/on-paper").main.text
    token = {"csrf_token": csrf_token(admin)}
    refused = admin.post(f"{where}/erase", data=token)
    assert (refused.status_code, "Cancel them first" in refused.get_data(as_text=True)) == (409, True)
    clock.at += DAY
    admin = signed_in(app, clinic.engine, clock, an_account(clinic.engine, clock, Role.ADMIN, email="b@clinic.example"))
    assert "Pat Doe" in look(admin, f"{where}/erase").main.text
    token = {"csrf_token": csrf_token(admin)}
    assert admin.post(f"{where}/erase", data=token).headers["Location"] == "/staff/desk/patients"
    with reading(clinic.engine) as session:
        assert [one.name for one in rows(session, Patient)] == ["erased"]
        fields = select(AuditEvent.detail).where(AuditEvent.action == "patient.read")
        assert {"fields": "all that is stored"} in session.scalars(fields).all()


def test_how_long_patients_are_kept_is_policy(app: APIFlask, clinic: Clinic, clock: FixedClock) -> None:
    admin = signed_in(app, clinic.engine, clock, an_account(clinic.engine, clock, Role.ADMIN))
    assert "Erase patients so many months after their last visit" in look(admin, "/admin/policy").main.text
    assert admin.get("/admin/patients/00000000-0000-0000-0000-000000000001/export").status_code == 404
