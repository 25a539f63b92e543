"""Who may open what: every route of the staff's, for every role, for what is theirs and for what is another's.

The table of cases is made from the URL map: a route whose addresses this file cannot fill fails.
"""

from collections.abc import Iterator
from itertools import product

import pytest
from sqlalchemy import Engine, text
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from config import Settings
from scheduler.app import create_app
from scheduler.clock import FixedClock
from scheduler.db import Base
from scheduler.models import Role
from scheduler.web.staff import access, account
from tests.conftest import MONDAY_MORNING
from tests.web.staff import csrf_token
from tests.web.world import EVERYWHERE, FORMS, PERSONAL, QUERIES, TREATING, WHO, Stage, address, staff_rules, staged

SEEN = {"audit_event", "staff_session", "sign_in_attempt", "booking_count"}  # what a GET may add to (CONTRACT.md)


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    stage = staged(settings, request.getfixturevalue("migrated_sqlite"), tmp_path_factory.mktemp("access"))
    yield stage
    stage.engine.dispose()


def dump(engine: Engine, *, without: set[str] = SEEN) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table but these."""
    with engine.connect() as connection:
        return {
            name: [tuple(row) for row in connection.execute(text(f'SELECT * FROM "{name}"'))]
            for name in Base.metadata.tables
            if name not in without
        }


def ask(stage: Stage, who: str, method: str, path: str, endpoint: str = "") -> TestResponse:
    data = {"csrf_token": stage.tokens[who], **FORMS.get(endpoint, {})} if method == "POST" else None
    return stage.client(who).open(path, method=method, data=data)


def names_something(rule: Rule) -> bool:
    return bool(rule.arguments) or rule.endpoint in QUERIES


def test_every_route_for_every_role_about_ones_own_and_another_s(stage: Stage) -> None:
    leaks, seen = [], 0
    stage.restore()
    before = dump(stage.engine)
    for rule, who in product(staff_rules(stage.app), WHO):
        roles = getattr(stage.app.view_functions[rule.endpoint], access.ALLOWED).roles
        may = (Role.ADMIN if who.startswith("admin") else Role(who)) in roles
        if who == "admin of one place" and rule.endpoint in EVERYWHERE:
            may = False
        if rule.endpoint in TREATING and who != "therapist":
            may = False
        for method in sorted(set(rule.methods or ()) & {"GET", "POST"}):
            for whose in ("own", "foreign"):
                everything = (who == "admin" and not PERSONAL & rule.arguments) or not names_something(rule)
                open_to_them = may and (whose == "own" or everything)
                answer = ask(stage, who, method, address(stage, rule, whose, who), rule.endpoint)
                case = (
                    f"{method} {rule.rule} as {who}, {whose}: {answer.status_code} {answer.headers.get('Location', '')}"
                )
                seen += 1
                lost = "/staff/sign-in" in answer.headers.get("Location", "") and "sign-out" not in rule.rule
                if open_to_them == (answer.status_code == 404) or answer.status_code >= 500 or lost:
                    leaks.append(case)
                changed = not open_to_them and dump(stage.engine) != before
                if changed:
                    leaks.append(f"{case}, changed")
                if changed or (open_to_them and method == "POST"):  # looking changes nothing: the test after next
                    stage.restore()
    assert "\n".join(leaks) == ""
    assert seen >= len(staff_rules(stage.app)) * len(WHO) * 2


def test_what_a_page_is_for_says_who_may_open_it(stage: Stage) -> None:
    """The pages' own words are what the case before goes by; these are ours."""
    by_path = {"/admin": {Role.ADMIN}, "/staff/desk": {Role.ADMIN, Role.FRONT_DESK}, "/staff": set(Role)}
    for rule in staff_rules(stage.app):
        allowed = getattr(stage.app.view_functions[rule.endpoint], access.ALLOWED)
        expected = next(roles for path, roles in by_path.items() if rule.rule.startswith(path))
        assert (allowed.roles, allowed.everywhere) == (expected, rule.endpoint in EVERYWHERE), rule


def test_looking_changes_nothing(stage: Stage) -> None:
    stage.restore()
    before = dump(stage.engine)
    for rule, who in product(staff_rules(stage.app), WHO):
        if "GET" in (rule.methods or ()):
            ask(stage, who, "GET", address(stage, rule, "own", who))
            assert dump(stage.engine) == before, (rule, who)


def test_whoever_is_not_signed_in_is_led_to_the_sign_in(stage: Stage) -> None:
    for rule in staff_rules(stage.app):
        for method in sorted(set(rule.methods or ()) & {"GET", "POST"}):
            client = stage.app.test_client()
            data = {"csrf_token": csrf_token(client, "/staff/sign-in")}
            answer = client.open(address(stage, rule, "own"), method=method, data=data if method == "POST" else None)
            assert answer.status_code == 303, (rule, method)
            assert answer.headers["Location"].startswith("/staff/sign-in"), rule


def test_every_unsafe_route_that_reads_a_cookie_wants_a_token(stage: Stage) -> None:
    stage.restore()
    before, without = dump(stage.engine, without=set()), []
    client = stage.client("admin")
    for rule in stage.app.url_map.iter_rules():
        for method in sorted(set(rule.methods or ()) & {"POST", "PUT", "PATCH", "DELETE"}):
            blueprint = rule.endpoint.partition(".")[0]
            if blueprint in access.WITHOUT_COOKIE:
                without.append(blueprint)
                continue
            path = address(stage, rule, "own") if rule in staff_rules(stage.app) else rule.rule.replace("<token>", "x")
            assert client.open(path, method=method).status_code == 400, rule
            wrong = client.open(path, method=method, data={"csrf_token": "wrong"})
            assert wrong.status_code == 400, rule
            assert dump(stage.engine, without=set()) == before, rule
    assert set(without) == {"api", "patient", "visits", "moves", "my_visits"}


def test_routes_without_tokens_read_no_cookie(stage: Stage) -> None:
    """An answer that looked at the session says so in its Vary header."""
    for rule in stage.app.url_map.iter_rules():
        if rule.endpoint.partition(".")[0] in {*access.WITHOUT_COOKIE, "ops"}:
            path = rule.rule.replace("<token>", "x").replace("<slot>", "1-1-1").replace("<hold>", "x")
            for method in set(rule.methods or ()) & {"GET", "POST", "DELETE"}:
                answer = stage.client("admin").open(path, method=method)
                assert "Cookie" not in answer.headers.get("Vary", ""), rule


def test_a_page_that_names_no_role_keeps_the_application_from_starting(stage: Stage, settings: Settings) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(account.change_password, access.ALLOWED)
        with pytest.raises(RuntimeError, match="/staff/account/password"):
            create_app(settings, stage.engine, FixedClock(MONDAY_MORNING))
