"""What is documented is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from mediagen.core.errors import MediagenError
from mediagen.web.problems import status_of
from mediagen.web.routing import declarations
from tests.web.test_edge import OWNERS, families

DOCS = Path(__file__).parents[2] / "docs"


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
