"""Programs of these tests in processes of their own."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.infra.process import need

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def child(module: str, *arguments: str | Path) -> AsyncIterator[Process]:
    """``python -m module``, its output in a pipe; killed with SIGKILL at the end, whatever it does."""
    need("setpriv")
    process = await asyncio.create_subprocess_exec(
        "setpriv",
        "--pdeathsig",
        "KILL",
        sys.executable,
        "-m",
        module,
        *map(str, arguments),
        cwd=ROOT,
        stdout=PIPE,
        limit=1 << 20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        assert process.stdout is not None
        await process.stdout.read()
        await process.wait()
