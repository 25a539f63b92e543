"""A new installation: the link that it prints, the first administrator, and the command that lets others in."""

import re
import threading
from pathlib import Path

import httpx
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from config import Settings, driver_url
from scheduler import cli
from scheduler.clock import FixedClock
from scheduler.db import make_engine, reading, transaction
from scheduler.keys import Keyring
from scheduler.models import Account, AccountLocation, AuditEvent, Location, Role
from scheduler.services import accounts, opening
from scheduler.services.accounts import AccountDetails
from scheduler.services.audit import Actor
from tests import postgres
from tests.clinic import Clinic, rows
from tests.conftest import BACKENDS, worker_name
from tests.server import Server, at_once, command, serving
from tests.test_serving import PRODUCTION
from tests.web.pages import Page, look
from tests.web.staff import PASSWORD

LINK = re.compile(r"Set up your clinic \(the link works once\): (https?://[^/]+)(/setup/\S+)")
OWNER = {"name": "Olive Owner", "email": "owner@clinic.example", "password": PASSWORD, "again": PASSWORD}


@pytest.fixture(params=BACKENDS)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return postgres.fresh_database(f"start_{worker_name()}")


@pytest.fixture
def setup_path(keys: Keyring) -> str:
    return f"/setup/{opening.setup_token(keys)}"


class Browser:
    """Keeps cookies although they are for https only, as behind the proxy that production stands behind."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.cookie = ""

    def open(self, method: str, path: str, data: dict[str, str] | None = None) -> httpx.Response:
        with self.server.client() as client:
            answer = client.request(method, path, data=data, headers={"Cookie": self.cookie})
        for told in answer.headers.get_list("set-cookie"):
            self.cookie = told.partition(";")[0]
        return answer

    def token(self, path: str) -> str:
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self.open("GET", path).text)
        assert found is not None, path
        return found[1]


def printed_link(server: Server) -> tuple[str, str]:
    found = LINK.search(server.log.read_text())
    assert found is not None, server.log.read_text()
    return found[1], found[2]


def test_an_empty_production_database_starts_without_a_demo_and_prints_a_link_that_works_once(
    empty_database: str, tmp_path: Path
) -> None:
    with serving(empty_database, tmp_path, **PRODUCTION) as server:
        assert LINK.match(server.log.read_text().splitlines()[-2])
        assert server.log.read_text().splitlines()[-1].startswith("Open ")
        base, path = printed_link(server)
        assert base == PRODUCTION["BASE_URL"]
        browsers = [Browser(server), Browser(server)]
        assert browsers[0].open("GET", "/api/v1/locations").json() == {"items": []}
        assert browsers[0].open("GET", "/").status_code == 200
        tokens = [browser.token(path) for browser in browsers]

        def make(place: int, together: threading.Barrier) -> int:
            data = OWNER | {"email": f"owner{place}@clinic.example", "csrf_token": tokens[place]}
            together.wait()
            return browsers[place].open("POST", path, data).status_code

        assert sorted(at_once(2, make)) == [303, 404]
        assert browsers[0].open("GET", path).status_code == 404
        assert server.stop() == 0
    engine = make_engine(driver_url(empty_database))
    with reading(engine) as session:
        (owner,) = rows(session, Account)
        assert (owner.role, owner.everywhere, owner.needs_second_factor) == (Role.ADMIN, True, True)
        assert rows(session, Location) == []
    engine.dispose()
    with serving(empty_database, tmp_path, **PRODUCTION) as server:
        assert LINK.search(server.log.read_text()) is None
        browser = Browser(server)
        form = {"csrf_token": browser.token("/staff/sign-in"), "email": owner.email, "password": PASSWORD}
        assert browser.open("POST", "/staff/sign-in", form).headers["Location"].startswith("/staff/second-factor")


def test_whoever_has_the_link_becomes_the_administrator(client: FlaskClient, engine: Engine, setup_path: str) -> None:
    page = look(client, setup_path)
    assert page.heading == "Set up your clinic"
    done = client.post(setup_path, data=page.form.filled(**OWNER))
    assert (done.status_code, done.headers["Location"]) == (303, "/staff/sign-in?next=/admin/moving-in")
    assert look(client, done.headers["Location"]).heading == "Sign in"
    with reading(engine) as session:
        (owner,) = rows(session, Account)
        assert accounts.matches(PASSWORD, owner.password_hash)
        assert {event.actor for event in rows(session, AuditEvent)} == {"setup"}
    assert client.get(setup_path).status_code == 404
    assert client.get(setup_path).headers["Cache-Control"] == "no-store"


BAD = {
    "name": ("", " ", "x" * 201, "\u202e"),
    "email": ("", "owner", "owner@", "a" * 250 + "@x.example"),
    "password": ("", "short", "password1234", "owner@clinic.example", "x" * 201),
    "again": ("", "something else of mine"),
}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_what_cannot_be_an_administrator_is_told_at_its_field(
    client: FlaskClient, engine: Engine, setup_path: str, field: str, value: str
) -> None:
    both = {"again": value} if field == "password" else {}
    page = look(client, setup_path)
    answer = Page(client, client.post(setup_path, data=page.form.filled(**OWNER | {field: value} | both)), setup_path)
    assert answer.status == 422
    assert field in answer.problems
    with reading(engine) as session:
        assert rows(session, Account) == []


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_any_other_link_leads_nowhere(client: FlaskClient, setup_path: str, keys: Keyring) -> None:
    others = ("x", setup_path[7:-1], keys.sign("set-password", 1), setup_path[7:] + "x", "%00", "ñ")
    for other in others:
        assert client.get(f"/setup/{other}").status_code == 404, other


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_front_desk_alone_still_needs_an_administrator(
    client: FlaskClient, engine: Engine, clock: FixedClock, setup_path: str
) -> None:
    with transaction(engine) as session:
        accounts.add(session, AccountDetails("desk@c.example", "Desk", Role.FRONT_DESK), by=Actor("x"), now=clock.now())
    page = look(client, setup_path)
    refused = page.press("Make my account", **{**OWNER, "email": "Desk@c.example"})
    assert (refused.status, list(refused.problems)) == (422, ["email"])
    assert refused.form.fields["name"] == OWNER["name"]


@pytest.fixture
def clinic_url(engine: Engine, clinic: Clinic) -> str:
    return engine.url.render_as_string(hide_password=False)


def test_staff_add_prints_a_link_to_set_a_password(
    client: FlaskClient, engine: Engine, clinic_url: str, clock: FixedClock
) -> None:
    said = command(
        clinic_url, "staff", "add", "Ana@Clinic.example", "--role", "therapist", "--therapist", "1", "--location", "1"
    )
    assert said.returncode == 0, said.stderr
    assert re.fullmatch(r"http://127\.0\.0\.1:8000/staff/set-password/\S+\n", said.stdout)
    with reading(engine) as session:
        account = session.scalars(select(Account)).one()
        assert (account.email, account.name, account.role) == ("ana@clinic.example", "Ana", Role.THERAPIST)
        assert (account.therapist_id, account.everywhere, account.password_hash) == (1, False, None)
        assert session.scalars(select(AccountLocation.location_id)).all() == [1]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_staff_add_says_what_it_cannot_do(
    app: APIFlask, clinic: Clinic, settings: Settings, engine: Engine, clock: FixedClock
) -> None:
    cli.install(app, settings, engine, clock)
    runner = app.test_cli_runner()
    for words, said in (
        (("nobody", "--role", "admin"), "is no e-mail address"),
        (("a@c.example", "--role", "boss"), "boss"),
        (("a@c.example",), "--role"),
        (("a@c.example", "--role", "therapist", "--therapist", "99"), "no therapist with the id 99"),
        (("a@c.example", "--role", "front-desk", "--location", "99"), "no location with the id 99"),
    ):
        answer = runner.invoke(args=["staff", "add", *words])
        assert isinstance(answer.exception, SystemExit)  # told, not a traceback
        assert answer.exit_code != 0
        assert said in answer.stderr
    assert "--therapist" in runner.invoke(args=["staff", "add", "--help"]).stdout
    with reading(engine) as session:
        assert rows(session, Account) == []
