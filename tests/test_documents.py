"""Documents are tested against the code: what a reader is told exists, and what exists is told."""

import re
from pathlib import Path
from typing import Any

import pytest
import structlog
from apiflask import APIFlask

from config import ROOT

README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_setting_is_in_the_readme() -> None:
    names = set(re.findall(r'"([A-Z][A-Z_]{3,})"', (ROOT / "config.py").read_text()))
    assert len(names) >= 18
    assert {name for name in names if f"`{name}`" not in README} - {"FLASK_DEBUG"} == set()


def test_every_command_is_in_the_readme() -> None:
    import wsgi  # noqa: PLC0415 the composition root reads the environment when it is imported

    structlog.reset_defaults()  # it also set up the log, which other tests look into
    own = set(wsgi.app.cli.commands) - {"spec", "routes", "run", "shell", "limiter"}
    assert own == {"db", "demo", "serve", "worker", "access", "verify", "backup", "restore", "staff", "explain"}
    assert {name for name in own if f"`{name}" not in README} == set()


def test_every_target_of_the_makefile_has_a_line_of_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    assert {"run", "test", "check", "bench", "drill", "browser", "help"} <= set(targets)
    assert all(re.search(rf"^{target}:.*## \S", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_every_route_is_documented(app: APIFlask) -> None:
    told = "\n".join(document.read_text() for document in DOCUMENTS)
    spec: Any = app.spec
    for rule in app.url_map.iter_rules():
        known = re.sub(r"<(\w+)>", r"{\1}", rule.rule) in spec["paths"]
        assert known or f"`{rule.rule}`" in told or rule.endpoint in {"static", "bootstrap.static"}, rule.rule


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert target.startswith("http") or (document.parent / target).exists(), target
