"""The engine's processes: modules of ``compose.engine``, run when nothing else wants the processor."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AbstractAsyncContextManager

from mediagen.media import ffmpeg


def start_module(module: str, *words: str, stdin: int) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """``python -m mediagen.compose.engine.MODULE``, ended with its group when the block is left.

    It finds what this process has found: an editable install and a checkout in PYTHONPATH are not on its own path.
    """
    return ffmpeg.start(
        sys.executable,
        ("-m", f"mediagen.compose.engine.{module}", *words),
        stdin=stdin,
        idle=True,
        environment={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
