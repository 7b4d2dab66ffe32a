"""What is documented is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from mediagen.core.errors import MediagenError
from mediagen.web.api.routing import declarations
from mediagen.web.http.problems import status_of
from tests.web.middleware.test_errors import OWNERS, families

DOCS = Path(__file__).parents[3] / "docs"


def test_every_route_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `([A-Z]+) (/[^`?]*)`", (DOCS / "api.md").read_text(), re.MULTILINE))
    declared = {(route.method.split("|")[0], route.path) for owner in OWNERS for _, route in declarations(owner)}

    assert documented == declared


def test_every_error_is_documented_with_its_status() -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| (\d+) ", (DOCS / "errors.md").read_text(), re.MULTILINE))
    ours = [error for error in families(MediagenError) if error.__module__.startswith("mediagen.")]
    start_only = {"DatabaseDamaged", "SchemaTooNew"}
    said = {error.code: str(int(status_of(error))) for error in ours if error.__name__ not in start_only}

    assert said == documented


def test_what_the_threat_model_names_is_tested() -> None:
    tests = Path(__file__).parents[2]
    defined = {
        name
        for path in tests.rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "THREAT_MODEL.md").read_text()))

    assert len(named) > 30
    assert named <= defined, named - defined
