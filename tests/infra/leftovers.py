"""What a test must not leave behind: tasks, child processes, temporary files."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.infra.process import descendants

GRACE = 2.0
"""Seconds for things that are ending already."""


@dataclass(slots=True)
class Shared:
    """Child processes and temporary files that belong to the whole run."""

    pids: set[int] = field(default_factory=set)
    paths: set[Path] = field(default_factory=set)


def _children(shared: Shared) -> set[int]:
    return {pid for pid in descendants(os.getpid()) if pid not in shared.pids}


def _files(shared: Shared) -> set[Path]:
    return {path for path in Path(tempfile.gettempdir()).iterdir() if path not in shared.paths}


@contextmanager
def nothing_left(shared: Shared) -> Iterator[None]:
    """Raise ``AssertionError`` when the block leaves a child process, or a new entry in the temporary folder."""
    children, files = _children(shared), _files(shared)
    yield
    end = time.monotonic() + GRACE
    while left := sorted(_children(shared) - children):
        if time.monotonic() > end:
            raise AssertionError(f"child processes left behind: {[_command(pid) for pid in left]}")
        time.sleep(0.01)
    if found := sorted(_files(shared) - files):
        raise AssertionError(f"temporary files left behind: {[path.name for path in found]}")


def _command(pid: int) -> str:
    try:
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode()}"
    except FileNotFoundError:
        return str(pid)


@asynccontextmanager
async def no_task_left() -> AsyncIterator[None]:
    """Raise ``AssertionError`` when tasks of the running loop outlive the block."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=GRACE)
    if left:
        raise AssertionError(f"tasks left behind: {[repr(task.get_coro()) for task in left]}")
