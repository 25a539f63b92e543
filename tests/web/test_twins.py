"""The pages on which staff see who is likely one person, and make one of two."""

import pytest
from apiflask import APIFlask

from scheduler.clock import FixedClock
from scheduler.models import Role
from tests.clinic import Clinic
from tests.services.test_patients import book, stored
from tests.web.pages import look
from tests.web.staff import an_account, csrf_token, signed_in

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def test_staff_see_twins_compare_them_and_make_one(app: APIFlask, clinic: Clinic, clock: FixedClock) -> None:
    book(clinic)
    book(clinic, name="Pat M. Doe", phone="+12175550142")
    older, newer = stored(clinic)
    desk = signed_in(app, clinic.engine, clock, an_account(clinic.engine, clock, Role.FRONT_DESK, locations=[1]))
    assert "nearly the same name (1)" in look(desk, "/staff/desk/twins").main.text
    page = look(desk, f"/staff/desk/patients/{older.id}").main
    assert "Likely the same person" in page.text
    where = f"/staff/desk/patients/{older.id}/merge/{newer.id}"
    form = look(desk, where).main
    proposed = {one.attributes["name"]: one.attributes["value"] for one in form.all("input", checked="")}
    own, theirs = str(older.id), str(newer.id)
    assert proposed == {"name": own, "email": own, "phone": theirs, "birth_date": theirs, "language": own}
    token = {"csrf_token": csrf_token(desk)}
    unreachable = token | {"phone": own, "email": "x"}
    assert desk.post(where, data=unreachable).status_code == 422
    assert desk.post(where, data=token | proposed).headers["Location"] == f"/staff/desk/patients/{own}"
    assert desk.post(where, data=token | proposed).status_code == 303
    assert [(one.name, one.phone) for one in stored(clinic)] == [("Pat Doe", "+12175550142")]
    for gone in (f"/staff/desk/patients/{theirs}", where):
        assert desk.get(gone).headers["Location"] == f"/staff/desk/patients/{own}"
    assert "Nobody." in look(desk, "/staff/desk/twins").main.text
