"""Whatever is stored, no page runs it: every text of every row is a script, and every page is looked at."""

from collections.abc import Iterator
from itertools import product

import pytest
from sqlalchemy import Engine, LargeBinary, String, text
from sqlalchemy.exc import IntegrityError

from config import Settings
from scheduler.db import Base
from scheduler.keys import Keyring
from tests.web.pages import parse
from tests.web.test_every_page import assert_harmless
from tests.web.world import WHO, Stage, address, staff_rules, staged

PICTURE = "<img src=//pwned.test onerror=ran()>"
SCRIPT = f"'\"><script>ran()</script>{PICTURE}<a href=javascript:ran()>{{{{7*7}}}}{{% raw %}}"
PUBLIC = ("/", "/book", "/explainer", "/contact")
SEALED = {"note_sealed", "cancel_reason_sealed", "message_sealed", "answer_sealed"}
KEPT = {"token_sha256", "key_id", "password_hash", "time_zone", "reminders"}  # else no page could be made at all


def poison(engine: Engine, keys: Keyring) -> set[str]:
    """Write the script into every text of every row that the schema lets it into; return those columns."""
    poisoned = set()
    for name, table in Base.metadata.tables.items():
        for column in table.columns:
            value: object = SCRIPT
            if isinstance(column.type, LargeBinary) and column.name in SEALED:
                value = keys.seal(SCRIPT)
            elif not isinstance(column.type, String) or column.name in KEPT or column.foreign_keys:
                continue
            unique = f" || {table.primary_key.columns[0].name}" if column.unique and value == SCRIPT else ""
            change = f'UPDATE "{name}" SET "{column.name}" = :value{unique}'
            try:
                with engine.begin() as connection:
                    if connection.execute(text(change), {"value": value}).rowcount:
                        poisoned.add(f"{name}.{column.name}")
            except IntegrityError:
                continue  # a text that only takes words of ours
    return poisoned


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    stage = staged(settings, request.getfixturevalue("migrated_sqlite"), tmp_path_factory.mktemp("payloads"))
    yield stage
    stage.engine.dispose()


def test_no_page_runs_what_is_stored(stage: Stage, settings: Settings) -> None:
    poisoned = poison(stage.engine, Keyring.of(settings.link_keys, settings.field_keys))
    assert {
        "location.name",
        "location.address",
        "therapist.name",
        "patient.name",
        "appointment.note_sealed",
    } <= poisoned
    shown, looked = 0, 0
    pages = [
        (who, address(stage, rule, "own", who))
        for rule, who in product(staff_rules(stage.app), WHO)
        if "GET" in (rule.methods or ())
    ]
    for who, path in [*pages, *(("admin", path) for path in PUBLIC)]:
        answer = stage.client(who).get(path)
        assert answer.status_code < 500, (who, path)
        if answer.mimetype == "text/html" and answer.status_code != 303:
            page = answer.get_data(as_text=True)
            assert "<script>ran" not in page, (who, path)
            assert PICTURE not in page, (who, path)
            assert_harmless(parse(page), path)
            shown += "ran()" in page
            looked += 1
    assert looked > len(PUBLIC)
    assert shown >= len(PUBLIC)
