"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mediagen.core import errors

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
MAX_LINES = 600

MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in (SOURCE / "mediagen").rglob("*.py")
)
PYTHON_FILES = sorted(path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
LOCKS = sorted(ROOT.glob("requirements*.lock"))
CLIENTS = ROOT / "tests" / "clients"
CLIENT_LOCKS = sorted(CLIENTS.glob("*.lock"))
"""Of environments of their own, which need not agree with ours or each other."""


# Loads what others wrote once, then each module of ours first and alone in a fork of that interpreter.
IMPORT_EACH = """
import importlib, os, sys
import aiobotocore.session, aiohttp.web, aiosqlite, ffmpeg, pydantic_settings, rich.progress, structlog, typer
import prometheus_client, pyvips
running = {}
def one_ends():
    pid, status = os.wait()
    if status:
        print(running[pid])
    del running[pid]
for module in sys.argv[1:]:
    if len(running) == os.cpu_count():
        one_ends()
    pid = os.fork()
    if pid == 0:
        importlib.import_module(module)
        os._exit(0)
    running[pid] = module
while running:
    one_ends()
"""


@pytest.mark.timeout(240)
def test_every_module_imports_alone() -> None:
    argv = [sys.executable, "-W", "error", "-c", IMPORT_EACH, *MODULES]

    done = subprocess.run(argv, capture_output=True, text=True, timeout=230)

    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in PYTHON_FILES}

    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_a_file_of_the_source_above_400_lines_says_why() -> None:
    long = [path for path in (SOURCE / "mediagen").rglob("*.py") if len(path.read_text().splitlines()) > 400]

    unexplained = [
        str(path) for path in long if "400 lines" not in (ast.get_docstring(ast.parse(path.read_text())) or "")
    ]

    assert unexplained == []


def test_no_folder_has_more_than_20_files() -> None:
    folders = {
        path.parent for folder in ("src", "tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.*")
    }
    counts = {
        str(folder.relative_to(ROOT)): sum(path.is_file() for path in folder.iterdir())
        for folder in folders
        if not {"__pycache__", "results"} & set(folder.parts)
    }

    assert {folder: count for folder, count in counts.items() if count > 20} == {}


def test_every_room_has_a_row_and_a_page() -> None:
    rooms = {path.parent.name for path in (SOURCE / "mediagen").glob("*/__init__.py")}
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    inside_web = {path.parent.name for path in (SOURCE / "mediagen" / "web").glob("*/__init__.py")}

    assert set(re.findall(r"^\| \[(\w+)\]\(rooms/\w+\.md\)", architecture, re.MULTILINE)) == rooms
    assert {path.stem for path in (ROOT / "docs" / "rooms").glob("*.md")} == rooms
    assert {path.stem for path in (ROOT / "docs" / "rooms" / "web").glob("*.md")} == inside_web


def test_the_architecture_page_says_the_layers_that_are_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    web = (ROOT / "docs" / "rooms" / "web.md").read_text()

    layers = {
        contract["containers"][0]: " > ".join(contract["layers"]) for contract in contracts if "layers" in contract
    }
    assert f"`{layers['mediagen']}`" in architecture
    assert f"`{layers['mediagen.web']}`" in web


def test_no_drawer_without_a_noun() -> None:
    drawers = {"util", "utils", "helper", "helpers", "common", "misc", "manager"}

    assert [path for path in PYTHON_FILES if drawers & {path.stem, path.parent.name}] == []


def test_every_module_says_what_it_is_for() -> None:
    modules = list(SOURCE.rglob("*.py"))

    assert [str(path) for path in modules if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_rooms_keep_their_borders() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout


def test_locks_carry_hashes_and_name_no_host() -> None:
    assert [lock.name for lock in LOCKS] == [
        "requirements-bench.lock",
        "requirements-build.lock",
        "requirements-dev.lock",
        "requirements.lock",
    ]
    assert [lock.stem for lock in CLIENT_LOCKS] == ["litellm", "node", "openai2"]
    for lock in (*LOCKS, *CLIENT_LOCKS):
        text = lock.read_text()
        assert "://" not in text
        assert not re.search(r"^\s*--(index-url|extra-index-url|find-links|trusted-host)", text, re.MULTILINE)
        pins = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
        assert pins
        assert [pin.splitlines()[0] for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_the_lock_of_javascript_carries_hashes_and_names_no_host() -> None:
    text = (CLIENTS / "node" / "package-lock.json").read_text()
    wanted = json.loads((CLIENTS / "node" / "package.json").read_text())["dependencies"]
    packages = json.loads(text)["packages"]

    assert "://" not in text
    assert packages.pop("")["dependencies"] == wanted
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted


def _normal(requirement: str) -> str:
    """The name in a requirement (PEP 503)."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_locks_hold_every_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {
        "tests/clients/litellm.lock": project["dependency-groups"]["client-litellm"],
        "tests/clients/node.lock": project["dependency-groups"]["client-node"],
        "tests/clients/openai2.lock": project["dependency-groups"]["client-openai2"],
        "requirements-build.lock": project["build-system"]["requires"],
        "requirements.lock": project["project"]["dependencies"],
        "requirements-dev.lock": project["dependency-groups"]["dev"],
        "requirements-bench.lock": project["dependency-groups"]["bench"],
    }

    for name, requirements in wanted.items():
        pinned = {_normal(line) for line in (ROOT / name).read_text().splitlines() if "==" in line}
        assert {_normal(requirement) for requirement in requirements} - pinned == set(), f"run make lock: {name}"


def test_locks_agree_with_each_other() -> None:
    pins: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE):
            pins.setdefault(_normal(name), set()).add(version)

    assert {name: versions for name, versions in pins.items() if len(versions) > 1} == {}


def test_error_codes_are_stable_words_of_one_family() -> None:
    """A code names one class and what inherits it: two unrelated errors with one code could not be told apart."""
    owners: dict[str, type[errors.MediagenError]] = {}
    todo: list[type[errors.MediagenError]] = [errors.MediagenError]
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        assert cls.__doc__
        if "code" in vars(cls):
            assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", cls.code)
            assert cls.code not in owners, f"{cls.__name__} and {owners[cls.code].__name__} share a code"
            owners[cls.code] = cls


def test_the_readme_names_the_two_verbs() -> None:
    readme = (ROOT / "README.md").read_text()

    assert "make serve" in readme
    assert "make test" in readme


def test_make_alone_lists_the_verbs() -> None:
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    verbs = {line.split()[0] for line in done.stdout.splitlines()}

    assert {"install", "serve", "check", "test", "e2e", "bench", "clean"} <= verbs
