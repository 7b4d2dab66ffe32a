"""The guards that watch every test see what they are for."""

from __future__ import annotations

import asyncio
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError

import mediagen
from tests.conftest import MAY_BLOCK
from tests.infra.leftovers import Shared, no_task_left, nothing_left
from tests.infra.process import Child


def written_in(file: str, source: str) -> Callable[[], Any]:
    """The function ``run`` of ``source``, as if it stood in ``file``."""
    names: dict[str, Any] = {"time": time}
    exec(compile(source, file, "exec"), names)
    function: Callable[[], Any] = names["run"]
    return function


SLEEP = "def run(): time.sleep(0.001)"


async def test_our_code_may_not_block_the_loop() -> None:
    blocks = written_in(str(Path(mediagen.__file__).with_name("invented.py")), SLEEP)

    with pytest.raises(BlockingError):
        blocks()
    await asyncio.to_thread(blocks)


async def test_tests_may_block_their_own_loop() -> None:
    written_in(__file__, SLEEP)()


@pytest.mark.parametrize("file", MAY_BLOCK)
def test_exceptions_name_functions_that_exist(file: str) -> None:
    """An exception for something that a library no longer has would hide what replaced it."""
    stdlib, site = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    (path,) = [path for path in (stdlib / file, site / file) if path.exists()]
    text = path.read_text()

    assert [name for name in MAY_BLOCK[file] if f"def {name}(" not in text] == []


async def test_leftovers_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.infra.leftovers.GRACE", 0.05)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shared = Shared()

    with pytest.raises(AssertionError, match=r"temporary files.*forgotten"), nothing_left(shared):
        (tmp_path / "forgotten").touch()
    child: Child | None = None
    with pytest.raises(AssertionError, match="child processes"), nothing_left(shared):
        child = Child(["sleep", "60"], tmp_path / "forgotten")
    assert child is not None
    child.kill()
    async with asyncio.TaskGroup() as group:
        with pytest.raises(AssertionError, match="tasks left"):
            async with no_task_left():
                task = group.create_task(asyncio.Event().wait())
        task.cancel()
