"""What the pages for engineers say of the source is true: rooms, their order, files, broad excepts, links."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mediagen"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
WITHOUT_A_PAGE = {"__main__", "process", "settings", "log", "allocator", "server"}
"""Single modules, described with the room that starts them."""
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").rglob("README.md"))
    if "node_modules" not in page.parts
)


def layers(container: str) -> list[set[str]]:
    """The rooms of ``container`` in the order of its import contract, the highest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = (
        each for each in project["tool"]["importlinter"]["contracts"] if each.get("containers") == [container]
    )
    return [set(layer.split(" | ")) for layer in contract["layers"]]


@pytest.mark.parametrize("container", ["mediagen", "mediagen.web"])
def test_the_order_of_the_rooms_is_that_of_the_import_contract(container: str) -> None:
    lines = [
        [set(layer.split(" | ")) for layer in line.split(" > ")]
        for line in re.findall(r"^`(.+ > .+)`$", ARCHITECTURE, re.MULTILINE)
    ]

    assert layers(container) in lines


@pytest.mark.parametrize(("container", "folder"), [("mediagen", "rooms"), ("mediagen.web", "rooms/web")])
def test_every_room_has_a_row_and_a_page(container: str, folder: str) -> None:
    rows = set(re.findall(rf"^\| \[(\w+)\]\({folder}/\1\.md\) \| ", ARCHITECTURE, re.MULTILINE))

    assert rows == set().union(*layers(container)) - WITHOUT_A_PAGE
    assert [room for room in rows if not (ROOT / "docs" / folder / f"{room}.md").is_file()] == []


def test_the_files_that_the_architecture_names_exist() -> None:
    named = set(re.findall(r"`((?:src|docs)/[^`]+)`", ARCHITECTURE))

    assert len(named) > 40
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_broad_excepts_are_those_that_contributing_lists() -> None:
    _, _, rest = CONTRIBUTING.partition("A test holds this list:")
    listed = set(re.findall(r"`([\w/]+\.py)`", rest.partition("\n- ")[0]))
    swallowing = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for handler in ast.walk(ast.parse(path.read_text()))
        if isinstance(handler, ast.ExceptHandler) and is_broad(handler) and not raises(handler)
    }

    assert listed == swallowing


def is_broad(handler: ast.ExceptHandler) -> bool:
    """It catches everything."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD) for kind in kinds)


BROAD = {"Exception", "BaseException"}


def raises(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for statement in handler.body for node in ast.walk(statement))


def anchors(page: Path) -> Iterator[str]:
    """The anchors that GitHub gives to the headings of a page."""
    for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        target, _, anchor = link.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(link)

    assert broken == []
