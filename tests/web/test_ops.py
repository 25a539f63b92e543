"""What operators and programmers rely on: readiness, figures, the specification, headers, and logs that name nobody."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
import structlog
from apiflask import APIFlask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from prometheus_client.parser import text_string_to_metric_families
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from sqlalchemy import Engine, func, select, text
from werkzeug.test import TestResponse

import config
from scheduler import logs
from scheduler.app import LARGEST_BODY, create_app
from scheduler.clock import FixedClock, SystemClock
from scheduler.db import make_engine, transaction
from scheduler.models import Heartbeat, Slot
from scheduler.services import health
from scheduler.web import problems, requests
from tests.clinic import Clinic, body, key

API = "/api/v1"
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
PATIENT = {"name": "Wilhelmina Quux", "email": "w.quux@example.com", "phone": "+1 312 555 0142"}
PERSONAL = ("Wilhelmina", "Quux", "quux", "@", "555 0142", "5550142", "knee", "holiday")


def first_slot(client: FlaskClient) -> str:
    return str(client.get(f"{API}/slots?appointment_type=1&limit=1").get_json()["items"][0]["id"])


def ready(client: FlaskClient) -> tuple[int, str]:
    answer = client.get("/readyz")
    assert answer.content_type == "application/json"
    return answer.status_code, answer.get_json().get("reason", "")


@contextmanager
def served(settings: config.Settings, url: str, clock: FixedClock) -> Iterator[FlaskClient]:
    engine = make_engine(url)
    try:
        yield create_app(settings, engine, clock).test_client()
    finally:
        engine.dispose()


def beat(clinic: Clinic) -> None:
    with transaction(clinic.engine) as session:
        health.beat(session)


@on_sqlite
def test_a_process_that_is_up_says_so(client: FlaskClient) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})


def test_a_clinic_whose_worker_ticks_is_ready(client: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    beat(clinic)
    clock.at += timedelta(days=1)  # a heartbeat is measured on the database's clock
    assert ready(client) == (200, "")


def test_a_process_waits_two_minutes_for_the_first_tick(client: FlaskClient, clock: FixedClock) -> None:
    clock.at += timedelta(seconds=119)
    assert ready(client) == (200, "")
    clock.at += timedelta(seconds=2)
    status, reason = ready(client)
    assert status == 503
    assert "worker" in reason


@pytest.mark.parametrize(("seconds", "status"), [(100, 200), (125, 503), (86400, 503)])
def test_a_worker_may_be_silent_for_two_minutes(client: FlaskClient, engine: Engine, seconds: int, status: int) -> None:
    with transaction(engine) as session:
        session.add(Heartbeat(name="worker", beat_at=SystemClock().now() - timedelta(seconds=seconds)))
    assert ready(client)[0] == status


@pytest.mark.parametrize("change", ["DELETE FROM alembic_version", "UPDATE alembic_version SET version_num = 'older'"])
def test_a_schema_of_another_version_is_not_ready(client: FlaskClient, engine: Engine, change: str) -> None:
    with engine.begin() as connection:
        right = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(text(change))
    status, reason = ready(client)
    with engine.begin() as connection:  # on PostgreSQL other tests share the database
        connection.execute(text("DELETE FROM alembic_version"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:right)"), {"right": right})
    assert status == 503
    assert "schema" in reason
    assert ready(client) == (200, "")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("sqlite:////nowhere/at/all.db", "database"),
        ("sqlite:///{folder}/none.db", "schema"),
        ("postgresql+psycopg://nobody@127.0.0.1:1/nothing", "database"),
    ],
    ids=["no folder", "no file", "no server"],
)
def test_without_a_database_it_is_up_but_not_ready(
    settings: config.Settings, clock: FixedClock, tmp_path: Path, url: str, word: str
) -> None:
    with served(settings, url.format(folder=tmp_path), clock) as client:
        status, reason = ready(client)
        assert status == 503
        assert word in reason
        assert client.get("/healthz").status_code == 200


def figures(client: FlaskClient) -> dict[tuple[str, str], float]:
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.get_data(as_text=True)))
    assert all(family.type == "gauge" and family.documentation for family in families)
    return {(s.name, s.labels.get("status", "")): s.value for family in families for s in family.samples}


def test_the_figures_are_those_of_the_rows(client: FlaskClient, clinic: Clinic, clock: FixedClock) -> None:
    tokens = [
        client.post(f"{API}/appointments", json=body(first_slot(client)), headers=key()).get_json()["token"]
        for _ in range(3)
    ]
    client.post(f"{API}/appointments/{tokens[0]}/cancel", json={})
    client.post(f"{API}/holds", json={"slot": first_slot(client), "appointment_type": "1"})
    clock.at += timedelta(minutes=5)
    beat(clinic)
    told = figures(client)
    silence = told.pop(("scheduler_worker_silence_seconds", ""))
    with transaction(clinic.engine) as session:
        ahead = select(func.count()).select_from(Slot).where(Slot.appointment_id.is_(None), Slot.starts_at >= clock.at)
        free = session.execute(ahead).scalar_one()
    assert told == {
        ("scheduler_appointments", "booked"): 2,
        ("scheduler_appointments", "cancelled"): 1,
        ("scheduler_holds", ""): 1,
        ("scheduler_outbox_messages", "owed"): 3,  # two confirmations and the word of the cancellation
        ("scheduler_outbox_messages", "suppressed"): 1,
        ("scheduler_outbox_oldest_due_seconds", ""): 300,
        ("scheduler_mail_failures_in_a_row", ""): 0,
        ("scheduler_free_cells_ahead", ""): free,
    }
    assert 0 <= silence < 60


@on_sqlite
def test_an_empty_clinic_has_figures(client: FlaskClient) -> None:
    assert figures(client) == {
        ("scheduler_holds", ""): 0,
        ("scheduler_outbox_oldest_due_seconds", ""): 0,
        ("scheduler_mail_failures_in_a_row", ""): 0,
        ("scheduler_free_cells_ahead", ""): 0,
    }


@pytest.fixture
def spec(client: FlaskClient) -> Any:  # noqa: ANN401 parsed JSON
    answer = client.get("/api/openapi.json")
    assert answer.status_code == 200
    return json.loads(answer.get_data())


@on_sqlite
def test_the_specification_is_valid_openapi_3_1(spec: Any) -> None:  # noqa: ANN401 parsed JSON
    assert re.fullmatch(r"3\.1\.\d", spec["openapi"])
    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(spec)] == []
    for schema in spec["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


@on_sqlite
def test_every_reference_of_the_specification_leads_somewhere(spec: Any) -> None:  # noqa: ANN401 parsed JSON
    references = set(re.findall(r'"\$ref": ?"([^"]+)"', json.dumps(spec)))
    known = {f"#/components/schemas/{name}" for name in spec["components"]["schemas"]}
    assert references <= known


def api_operations(app: APIFlask) -> set[tuple[str, str]]:
    return {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(API)
    }


@on_sqlite
def test_the_specification_documents_every_operation_and_no_other(app: APIFlask, spec: Any) -> None:  # noqa: ANN401
    documented = {(path, method) for path, methods in spec["paths"].items() for method in methods}
    assert documented == api_operations(app)


@on_sqlite
def test_every_operation_documents_what_it_asks_and_how_it_refuses(spec: Any) -> None:  # noqa: ANN401 parsed JSON
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            statuses = set(operation["responses"])
            assert {"422", "503"} <= statuses, (path, method)
            assert ("404" in statuses) == ("{token}" in path)
            if method == "post":
                assert {"400", "409", "413", "415", "429"} <= statuses
                assert operation["requestBody"]["required"]
    booking = spec["paths"][f"{API}/appointments"]["post"]["parameters"]
    assert [(p["name"], p["in"], p["required"]) for p in booking] == [("Idempotency-Key", "header", True)]


@on_sqlite
def test_the_documentation_page_lists_every_operation_without_script(app: APIFlask, client: FlaskClient) -> None:
    page = client.get("/api/docs")
    shown = page.get_data(as_text=True)
    assert page.status_code == 200
    for path, method in api_operations(app):
        assert f"{method.upper()} {path}" in shown
    assert "<script" not in shown
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", shown)


CONFORMANCE = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
BOUNDED = hypothesis_settings(
    max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def test_generated_requests_find_no_failure_and_nothing_undocumented(
    settings: config.Settings, engine: Engine, clock: FixedClock, clinic: Clinic
) -> None:
    app = create_app(settings, engine, clock)
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app)
    asked = set()
    for path, method in api_operations(app):

        @BOUNDED
        @given(case=schema[path][method].as_strategy())
        def conforms(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(checks=CONFORMANCE)

        conforms()
        asked.add((path, method))
    assert asked == api_operations(app)


@pytest.fixture
def kinds_of_answers(
    settings: config.Settings, engine: Engine, clock: FixedClock, clinic: Clinic
) -> list[TestResponse]:
    """One answer of every kind that the application gives, errors that nobody foresaw included."""
    app = create_app(replace(settings, base_url="https://clinic.example.com"), engine, clock)
    for path in ("/broken", "/api/broken"):
        app.add_url_rule(path, path, view_func=_broken)
    client = app.test_client()
    slot = first_slot(client)
    visit = client.post(f"{API}/appointments", json=body(slot), headers=key())
    gets = ("/", "/nowhere", "/static/site.css", "/static/none", "/healthz", "/readyz", "/metrics", "/api/docs")
    more = ("/api/openapi.json", f"{API}/slots", f"{API}/locations", f"{API}/x", "/broken", "/api/broken")
    return [
        visit,
        *(client.get(path, buffered=True) for path in (*gets, *more)),
        client.head("/"),
        client.options(f"{API}/appointments"),
        client.post(f"{API}/locations"),
        client.post(f"{API}/appointments", json=body(slot), headers=key()),
        client.post(f"{API}/appointments", data="{", content_type="application/json"),
        client.post(f"{API}/appointments", data="x", content_type="text/plain"),
        client.post(f"{API}/appointments", data=b" " * (LARGEST_BODY + 1), content_type="application/json"),
    ]


def _broken() -> str:
    raise RuntimeError(PATIENT["name"])


@on_sqlite
def test_every_kind_of_answer_has_the_security_headers(kinds_of_answers: list[TestResponse]) -> None:
    statuses = {answer.status_code for answer in kinds_of_answers}
    assert statuses == {200, 201, 400, 404, 405, 409, 413, 415, 422, 500}
    for answer in kinds_of_answers:
        headers = answer.headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Strict-Transport-Security"].startswith("max-age=")
        assert re.fullmatch(r"[0-9a-f]{32}", headers["X-Request-Id"])
        assert "Set-Cookie" not in headers


@on_sqlite
def test_an_error_that_nobody_foresaw_tells_nothing_of_the_inside(kinds_of_answers: list[TestResponse]) -> None:
    broken = [answer for answer in kinds_of_answers if answer.status_code == 500]
    assert [answer.mimetype for answer in broken] == ["text/html", "application/problem+json"]
    for answer in broken:
        assert not re.search("Traceback|RuntimeError|Quux|scheduler/", answer.get_data(as_text=True))


@on_sqlite
def test_a_plain_address_is_not_told_to_stay_on_https(client: FlaskClient, clinic: Clinic) -> None:
    assert "Strict-Transport-Security" not in client.get("/").headers


@pytest.fixture
def logged(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Log as wsgi.py does for programs, but into a text; return what was logged, and whatever else was printed."""
    written = BytesIO()
    logs.configure(people=False)
    structlog.configure(logger_factory=structlog.BytesLoggerFactory(written), cache_logger_on_first_use=False)
    for module in (problems, requests):  # theirs may remember an earlier configuration
        monkeypatch.setattr(module, "log", structlog.get_logger())
    yield lambda: written.getvalue().decode() + "".join(capfd.readouterr())
    structlog.reset_defaults()


def test_logs_of_a_visits_life_name_nobody(client: FlaskClient, clinic: Clinic, logged: Callable[[], str]) -> None:
    request, same = body(first_slot(client), patient=PATIENT, note="my left knee"), key()
    token = client.post(f"{API}/appointments", json=request, headers=same).get_json()["token"]
    client.post(f"{API}/appointments", json=request, headers=same)
    client.post(f"{API}/appointments", json=request, headers=key())
    client.post(f"{API}/appointments", json=request | {"patient": PATIENT | {"phone": "x", "e": "Quux"}}, headers=key())
    client.get(f"{API}/appointments/{token}")
    client.get(f"{API}/appointments/{token}?email=w.quux@example.com")
    client.post(f"{API}/appointments/{token}/cancel", json={"reason": "holiday"})
    client.get(f"/appointments/{token}")
    text_logged = logged()
    lines = [json.loads(line) for line in text_logged.splitlines()]
    assert [line["status"] for line in lines] == [200, 201, 201, 409, 422, 200, 422, 200, 200]
    assert not [word for word in (*PERSONAL, token, same["Idempotency-Key"]) if word in text_logged]
    assert {line["route"] for line in lines} == {
        *(f"{API}/slots", f"{API}/appointments", f"{API}/appointments/<token>", f"{API}/appointments/<token>/cancel"),
        "/appointments/<token>",
    }


@on_sqlite
@pytest.mark.parametrize("failure", ["RAISE(ABORT, 'a rule')", "no_such_function()"])
def test_logs_of_a_booking_that_the_database_refuses_name_nobody(
    settings: config.Settings,
    engine: Engine,
    clock: FixedClock,
    clinic: Clinic,
    logged: Callable[[], str],
    failure: str,
) -> None:
    client = create_app(settings, engine, clock).test_client()
    slot = first_slot(client)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TRIGGER refuse AFTER INSERT ON patient BEGIN SELECT {failure}; END"))
    answer = client.post(f"{API}/appointments", json=body(slot, patient=PATIENT, note="knee"), headers=key())
    assert answer.status_code in {409, 500, 503}
    assert not [word for word in PERSONAL if word in logged()]


@on_postgresql
def test_logs_of_an_error_that_nobody_foresaw_hold_no_parameters(
    settings: config.Settings, engine: Engine, clock: FixedClock, clinic: Clinic, logged: Callable[[], str]
) -> None:
    client = create_app(settings, engine, clock).test_client()
    slot = first_slot(client)
    refuse = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1 / 0; RETURN NEW; END'",
        "CREATE TRIGGER refuse BEFORE INSERT ON patient FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    with engine.begin() as connection:
        for statement in refuse:
            connection.execute(text(statement))
    answer = client.post(f"{API}/appointments", json=body(slot, patient=PATIENT, note="knee"), headers=key())
    with engine.begin() as connection:
        connection.execute(text("DROP FUNCTION refuse() CASCADE"))
    told = logged()
    assert answer.status_code == 500
    assert "Traceback" in told
    assert not [word for word in PERSONAL if word in told]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_strangers_host_never_enters_the_specification(app: APIFlask) -> None:
    told = app.test_client().get("/api/openapi.json", headers={"Host": "evil.example"}).get_data(as_text=True)
    assert "evil.example" not in told
