"""The page of reports: pictures beside tables of the same figures, files, filters, and who sees what."""

import csv
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from urllib.parse import urlencode

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update

from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.models import Appointment, Attempt, OutboxMessage, Role, Slot, Status, Therapist
from scheduler.services import reports
from scheduler.services.reports import Wanted
from scheduler.timeline import DAY
from tests.clinic import Clinic
from tests.services.test_queries import statements
from tests.web.pages import Element, parse
from tests.web.staff import an_account, signed_in
from tests.web.test_every_page import assert_harmless

FILES = ("utilization", "lead-time", "no-shows", "cancellations", "reminders")
FIGURES = {
    "By month", "By location", "By therapist", "Visits by how far ahead they were booked",
    "No-shows by how far ahead the visit was booked", "Canceled how long before the start", "Canceled by whom",
    "What became of the reminders",
}  # fmt: skip
SignIn = Callable[..., FlaskClient]


@pytest.fixture
def sign_in(app: APIFlask, engine: Engine, clock: FixedClock) -> SignIn:
    def as_role(role: Role = Role.ADMIN, locations: list[int] | None = None) -> FlaskClient:
        return signed_in(app, engine, clock, an_account(engine, clock, role, locations=locations))

    return as_role


@pytest.fixture
def busy(clinic: Clinic, engine: Engine, clock: FixedClock) -> Clinic:
    """Ten visits: one cancelled; of the others four came, one did not, and two nobody marked, now that it is Friday."""
    visits = [clinic.book(str(offer.slot)) for offer in clinic.offers()[:90:9]]
    clinic.cancel(visits[9].token)
    clock.at += 4 * DAY
    past = [visit.appointment.id for visit in visits[:9] if visit.appointment.starts_at < clock.at]
    assert len(past) >= 7
    with transaction(engine) as session:
        for ids, status in ((past[:4], Status.FULFILLED), (past[4:5], Status.NOSHOW)):
            session.execute(update(Appointment).where(Appointment.id.in_(ids)).values(status=status))
    return clinic


def page(client: FlaskClient, status: int = 200, **asked: str) -> Element:
    answer = client.get(f"/admin/reports?{urlencode(asked)}")
    assert answer.status_code == status
    assert answer.headers["Cache-Control"] == "no-store"
    return parse(answer.get_data(as_text=True))


def file(client: FlaskClient, name: str, **asked: str) -> list[dict[str, str]]:
    answer = client.get(f"/admin/reports/{name}.csv?{urlencode(asked)}")
    assert (answer.status_code, answer.mimetype) == (200, "text/csv")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}.csv"'
    assert answer.headers["Cache-Control"] == "no-store"
    return list(csv.DictReader(StringIO(answer.get_data().decode("utf-8-sig"), newline="")))


def table(tree: Element, name: str) -> list[list[str]]:
    (found,) = [one for one in tree.all("table") if one.one("caption").text == name]
    return [[cell.text for cell in row.all() if cell.tag in {"th", "td"}] for row in found.one("tbody").all("tr")]


def test_every_report_is_a_picture_and_a_table_of_the_same_figures(busy: Clinic, sign_in: SignIn) -> None:
    tree = page(sign_in())
    assert_harmless(tree, "reports")
    assert {one.one("caption").text for one in tree.all("table")} == FIGURES
    for figure in tree.all("div", class_="figure"):
        picture, rows = figure.one("svg"), table(tree, figure.one("caption").text)
        assert picture.attributes["role"] == "img"
        named = {id_: figure.one(id=picture.attributes[id_]).text for id_ in ("aria-labelledby", "aria-describedby")}
        assert figure.one("caption").text in named["aria-labelledby"]
        parts = [row for row in rows if row[0] != "Together"]
        told = [one.text for one in picture.all("text", class_="told")]
        assert told == [row[-1] for row in parts]
        assert all(f"{row[0]}: {row[-1]}" in named["aria-describedby"] for row in parts)
        lengths = [float(one.attributes["width"].rstrip("%")) for one in picture.all("rect", class_="part")]
        assert len(lengths) == len(parts)
        assert all(0 <= length <= 74 for length in lengths)


def test_what_the_tables_say_is_what_happened(busy: Clinic, engine: Engine, clock: FixedClock, sign_in: SignIn) -> None:
    tree = page(sign_in(), first="2026-11", last="2027-02")
    with reading(engine) as session:
        planned = len(session.scalars(select(Slot.starts_at)).all())
        missed = session.scalars(select(Appointment).where(Appointment.status == Status.NOSHOW)).one()
        begun = Appointment.status == Status.BOOKED, Appointment.starts_at <= clock.now()
        unmarked = len(session.scalars(select(Appointment.id).where(*begun)).all())
        reminders = len(session.scalars(select(OutboxMessage.id).where(OutboxMessage.kind == "reminder")).all())
    (place,) = table(tree, "By location")
    assert place[:2] == ["Springfield", f"{planned / 4:,.1f}".removesuffix(".0")]
    ahead = table(tree, "Visits by how far ahead they were booked")
    assert ahead[-1] == ["Together", "9", "100%"]
    no_shows = table(tree, "No-shows by how far ahead the visit was booked")
    assert no_shows[-1] == ["Together", "5", "1", "20%"]
    days = (missed.starts_at - missed.booked_at) // DAY
    assert next(row for row in no_shows if row[2] == "1")[0] == ("0–1 days" if days < 2 else "2–3 days")
    assert table(tree, "Canceled by whom") == [
        ["The patient, online", "1", "100%"],
        ["Staff", "0", "0%"],
        ["Together", "1", "100%"],
    ]
    assert "1 visit was canceled, 10% of all." in tree.text
    assert f"{unmarked} visit" in tree.text
    assert unmarked >= 2
    assert table(tree, "What became of the reminders")[-1][1] == str(reminders)
    assert "No reminder was sent twice." in tree.text


def test_files_sum_up_to_the_tables(busy: Clinic, sign_in: SignIn) -> None:
    client = sign_in()
    tree = page(client, first="2026-10", last="2027-02")
    files = {name: file(client, name, first="2026-10", last="2027-02") for name in FILES}
    assert all(rows and list(rows[0])[:3] == ["Location", "Therapist", "Month"] for rows in files.values())

    def total(name: str, column: str) -> str:
        return f"{sum(float(row[column]) for row in files[name]):,.1f}".removesuffix(".0")

    months = table(tree, "By month")
    assert months[-1][1:3] == [total("utilization", "Planned hours"), total("utilization", "Booked hours")]
    assert table(tree, "Visits by how far ahead they were booked")[-1][1] == total("lead-time", "Visits")
    assert table(tree, "No-shows by how far ahead the visit was booked")[-1][1:3] == [
        total("no-shows", "Came due"),
        total("no-shows", "No-shows"),
    ]
    assert table(tree, "Canceled by whom")[-1][1] == total("cancellations", "Canceled")
    assert table(tree, "What became of the reminders")[-1][1] == total("reminders", "How many")
    assert {row["Month"] for row in files["utilization"]} == {"2026-11", "2026-12", "2027-01", "2027-02"}


@pytest.mark.parametrize("name", FILES)
def test_no_cell_of_a_file_is_a_formula(busy: Clinic, engine: Engine, sign_in: SignIn, name: str) -> None:
    with transaction(engine) as session:
        session.execute(update(Therapist).values(name='=HYPERLINK("https://evil.test")'))
    rows = file(sign_in(), name, first="2026-10", last="2027-02")
    assert {row["Therapist"] for row in rows} == {'\'=HYPERLINK("https://evil.test")'}


def test_an_empty_clinic_is_told_kindly(engine: Engine, sign_in: SignIn) -> None:
    client = sign_in()
    tree = page(client)
    assert tree.all("svg") == []
    for words in (
        "No hours are planned in these months yet.",
        "No visits in these months yet.",
        "No visit came due in these months yet.",
        "No visit in these months was canceled.",
        "No reminder was owed for visits in these months.",
    ):
        assert words in tree.text
    assert {name: file(client, name) for name in FILES} == {name: [] for name in FILES}


def test_a_clinic_where_nothing_happened_yet_divides_nothing(clinic: Clinic, sign_in: SignIn) -> None:
    tree = page(sign_in())
    rows = table(tree, "By month")
    assert rows[0] == ["June 2026", "0", "0", "–"]
    assert rows[-1][-1] == "0%"
    assert "No visit came due" in tree.text


def test_reports_are_of_the_months_and_the_therapist_asked_for(busy: Clinic, engine: Engine, sign_in: SignIn) -> None:
    other = busy.add_therapist("Ben Brown")
    busy.add_hours(other, 1)
    busy.plan()
    client = sign_in()
    tree = page(client, therapist=str(other), first="2026-12", last="2026-12")
    assert [row[0] for row in table(tree, "By therapist")] == ["Ben Brown"]
    assert [row[0] for row in table(tree, "By month")] == ["December 2026"]
    assert "No visits in these months yet." in tree.text
    (chosen,) = tree.one("select", id="therapist").all("option", selected="")
    assert chosen.text == "Ben Brown"
    links = {one.attributes["href"] for one in tree.all("a") if ".csv" in one.attributes["href"]}
    assert len(links) == len(FILES)
    assert all(f"therapist={other}" in link and "first=2026-12" in link for link in links)
    with reading(engine) as session:
        month = reports.month_of(busy.clock.now().date())
        wanted = Wanted(reports.places(session, None), month, month, other)
        planned = sum(cells.planned for cells in reports.utilization(session, wanted).values())
    (november,) = file(client, "utilization", therapist=str(other), first="2026-11", last="2026-11")
    assert float(november["Planned hours"]) * 4 == planned


def test_an_admin_of_one_location_sees_its_figures_only(busy: Clinic, sign_in: SignIn) -> None:
    other = busy.add_location("Chatham")
    busy.add_hours(busy.add_therapist("Ben Brown"), other)
    busy.plan()
    client = sign_in(Role.ADMIN, [other])
    tree = page(client)
    assert "Springfield" not in tree.text
    assert "Ana Abbott" not in tree.text
    assert [row[0] for row in table(tree, "By location")] == ["Chatham"]
    assert "No visits in these months yet." in tree.text
    assert {row["Location"] for row in file(client, "utilization")} == {"Chatham"}
    assert file(client, "no-shows") == []
    for asked in ("location=1", "therapist=1"):
        for path in ("", *(f"/{name}.csv" for name in FILES)):
            assert client.get(f"/admin/reports{path}?{asked}").status_code == 404


@pytest.mark.parametrize("role", [Role.FRONT_DESK, Role.THERAPIST])
def test_nobody_but_admins_sees_reports(clinic: Clinic, sign_in: SignIn, role: Role) -> None:
    client = sign_in(role)
    for path in ("", *(f"/{name}.csv" for name in FILES)):
        assert client.get(f"/admin/reports{path}").status_code == 404


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"location": "x"}, "location"),
        ({"location": "-1"}, "location"),
        ({"location": "1;DROP TABLE slot"}, "location"),
        ({"therapist": "\x00"}, "therapist"),
        ({"therapist": "²"}, "therapist"),
        ({"first": "2026-13"}, "first"),
        ({"first": "0000-00"}, "first"),
        ({"last": "9999-12"}, "last"),
        ({"last": "<script>"}, "last"),
        ({"first": "2026-12", "last": "2026-11"}, "last"),
    ],
)
def test_what_cannot_be_asked_is_told_at_its_field(
    clinic: Clinic, sign_in: SignIn, asked: dict[str, str], field: str
) -> None:
    client = sign_in()
    tree = page(client, 422, **asked)
    assert [one.attributes["href"] for one in tree.one("div", class_="summary").all("a")] == [f"#{field}"]
    assert tree.one("select", id=field).attributes["aria-invalid"] == "true"
    assert_harmless(tree, field)
    assert client.get(f"/admin/reports/utilization.csv?{urlencode(asked)}").status_code == 422


@pytest.mark.parametrize("asked", ["location=99", "therapist=99", "location=" + "9" * 400])
def test_what_is_not_there_is_not_found(clinic: Clinic, sign_in: SignIn, asked: str) -> None:
    assert sign_in().get(f"/admin/reports?{asked}").status_code == 404


def test_the_page_asks_as_often_at_any_size(busy: Clinic, engine: Engine, sign_in: SignIn) -> None:
    client = sign_in()

    def asked() -> dict[str, int]:
        counts = {}
        for path in ("/admin/reports", *(f"/admin/reports/{name}.csv" for name in FILES)):
            client.get(path)
            with statements(engine) as seen:
                assert client.get(path).status_code == 200
            counts[path] = len(seen)
        return counts

    small = asked()
    for name, zone in (("Denver", "America/Denver"), ("Phoenix", "America/Phoenix")):
        busy.add_hours(busy.add_therapist(name), busy.add_location(name, zone))
    busy.plan()
    for offer in busy.offers()[:40:4]:
        busy.book(str(offer.slot))
    assert asked() == small
    assert small["/admin/reports"] <= 12


def test_a_reminder_that_may_have_gone_twice_is_told(busy: Clinic, engine: Engine, sign_in: SignIn) -> None:
    with transaction(engine) as session:
        message = session.scalars(select(OutboxMessage).where(OutboxMessage.kind == "reminder")).first()
        assert message is not None
        message.status, message.sent_at, message.reason = "sent", message.due_at, None
        soon = message.due_at + timedelta(seconds=30)
        session.add(Attempt(message_id=message.id, number=1, started_at=message.due_at))
        session.add(Attempt(message_id=message.id, number=2, started_at=soon, finished_at=soon, outcome="sent"))
    client = sign_in()
    assert "1 reminder may have been sent twice." in page(client).text
    assert sum(int(row["Of these perhaps sent twice"]) for row in file(client, "reminders")) == 1
