"""FFmpeg as a child process: found once, bounded in time, never outliving us.

Files are handed over as open descriptors, so that nothing has a name and a kill leaves nothing. What the child says on
its error output is kept short and goes to the log, not to clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final

import structlog

from mediagen.core.errors import DeadlineExceeded, MediagenError, Unavailable
from mediagen.media import leash

log = structlog.get_logger(__name__)

_MAX_SAID: Final = 4096
"""Characters of the child's last words that are kept."""
_END_SECONDS: Final = 5.0


class EncodingFailed(MediagenError):
    """FFmpeg ended with an error; its last words are in the context."""


class FfmpegMissing(Unavailable):
    """FFmpeg is not installed."""

    retryable = False


@cache
def find(program: str = "ffmpeg") -> str:
    """The path of ``ffmpeg`` or ``ffprobe``. Raises FfmpegMissing."""
    found = shutil.which(program)
    if found is None:
        raise FfmpegMissing(
            f"{program} is not installed on this server, and films need it (Debian: apt install ffmpeg)"
        )
    return found


def _leashed(program: str) -> tuple[str, ...]:
    """Words that start ``program`` so that it dies with us."""
    return (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), program)


async def run(
    arguments: Sequence[str],
    *,
    descriptors: Sequence[int] = (),
    limit_seconds: float,
    told: Callable[[Mapping[str, str]], None] | None = None,
) -> None:
    """Run FFmpeg to its end. ``arguments`` are those after the program's name; no shell sees them.

    ``told`` gets each block of ``-progress`` as it comes, for example ``{"frame": "12", "out_time_us": "400000"}``.

    Raises:
        FfmpegMissing, EncodingFailed, DeadlineExceeded.
    """
    fixed = (
        "-hide_banner",
        "-nostdin",
        "-loglevel",
        "error",
        "-nostats",
        "-stats_period",
        "0.2",
        "-progress",
        "pipe:1",
    )
    loop = asyncio.get_running_loop()
    program = await loop.run_in_executor(None, find)
    process = await asyncio.create_subprocess_exec(
        *_leashed(program),
        *fixed,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=tuple(descriptors),
        start_new_session=True,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        cwd="/",
    )
    try:
        async with asyncio.timeout(limit_seconds), asyncio.TaskGroup() as group:
            said = group.create_task(_last_words(process))
            group.create_task(_progress(process, told))
            code = await process.wait()
    except TimeoutError:
        raise DeadlineExceeded(f"FFmpeg did not end within {limit_seconds:g} s") from None
    finally:
        await _end(process)
    if code != 0:
        words = said.result()
        log.warning("ffmpeg_failed", code=code, said=words)
        raise EncodingFailed("the film could not be encoded; the log has FFmpeg's reason", code=code, said=words)


async def _progress(process: asyncio.subprocess.Process, told: Callable[[Mapping[str, str]], None] | None) -> None:
    assert process.stdout is not None
    block: dict[str, str] = {}
    async for line in process.stdout:
        name, _, value = line.decode("utf-8", "replace").strip().partition("=")
        block[name] = value.strip()
        if name == "progress":
            if told is not None:
                told(block)
            block = {}


async def _last_words(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said = b""
    while chunk := await process.stderr.read(_MAX_SAID):
        said = (said + chunk)[-_MAX_SAID:]
    return said.decode("utf-8", "replace").strip()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the group if it still runs, and take its exit."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            # read to the end: a child whose pipe nobody reads is not seen to end
            await process.communicate()
