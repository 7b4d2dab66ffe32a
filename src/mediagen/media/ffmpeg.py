"""FFmpeg as a child process: found once, bounded in time, never outliving us.

Files are handed over as open descriptors, so that nothing has a name and a kill leaves nothing. What the child says on
its error output is kept short and goes to the log, not to clients.

``run`` encodes our own material. ``run_confined`` reads untrusted input, and its child is confined.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Final, TypeVar

import structlog

from mediagen.core.errors import DeadlineExceeded, MediagenError, Unavailable, UnsupportedMedia, first_cause
from mediagen.media import sandbox
from mediagen.streams.base import GIB, KIB, Source

log = structlog.get_logger(__name__)
T = TypeVar("T")

_MAX_SAID: Final = 4096
"""Characters of the child's last words that are kept."""
_END_SECONDS: Final = 5.0
_CHUNK: Final = 256 * KIB
_READER_MEMORY: Final = 2 * GIB
"""Bytes of address space of a child that reads: a video of 8192x4320 takes half of it."""


class EncodingFailed(MediagenError):
    """FFmpeg ended with an error; its last words are in the context."""


class VideoUnreadable(UnsupportedMedia):
    """FFmpeg cannot read it; its last words are in the context."""


class FfmpegMissing(Unavailable):
    """FFmpeg is not installed."""

    retryable = False


@cache
def find_program(program: str = "ffmpeg") -> str:
    """The path of ``ffmpeg`` or ``ffprobe``. Raises FfmpegMissing."""
    found = shutil.which(program)
    if found is None:
        raise FfmpegMissing(
            f"{program} is not installed on this server, but videos need it (Debian: apt install ffmpeg)"
        )
    return found


async def _find(program: str) -> str:
    return await asyncio.get_running_loop().run_in_executor(None, find_program, program)


@asynccontextmanager
async def start(
    path: str,
    words: Sequence[str],
    *,
    stdin: int,
    stdout: int = asyncio.subprocess.PIPE,
    descriptors: Sequence[int] = (),
    memory: int = 0,
    idle: bool = False,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child that runs the program at ``path``, and is ended with its group when the block is left.

    ``memory``: above 0 confines the child (``sandbox``). ``idle``: it runs only when no other process wants the
    processor (SCHED_IDLE, sched(7)), so the event loop keeps its latency under a long render.
    """
    sandboxed = (sys.executable, "-I", "-S", sandbox.__file__, str(os.getpid()), str(memory), path)
    process = await asyncio.create_subprocess_exec(
        *sandboxed,
        *words,
        stdin=stdin,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=tuple(descriptors),
        start_new_session=True,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **(environment or {})},
        cwd="/",
    )
    if idle and hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
    try:
        yield process
    finally:
        await _end(process)


async def run(
    arguments: Sequence[str],
    *,
    descriptors: Sequence[int] = (),
    limit_seconds: float,
    told: Callable[[Mapping[str, str]], None] | None = None,
    idle: bool = False,
) -> str:
    """Run FFmpeg to its end; gives its last words. ``arguments`` follow the program's name; no shell sees them.

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
    path = await _find("ffmpeg")
    async with start(
        path, (*fixed, *arguments), stdin=asyncio.subprocess.DEVNULL, descriptors=descriptors, idle=idle
    ) as process:
        try:
            async with asyncio.timeout(limit_seconds), asyncio.TaskGroup() as group:
                said = group.create_task(_last_words(process))
                group.create_task(_progress(process, told))
                code = await process.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"FFmpeg did not finish within {limit_seconds:g} s") from None
    if code != 0:
        words = said.result()
        log.warning("ffmpeg_failed", code=code, said=words)
        raise EncodingFailed(
            "the video could not be encoded; the server's log has FFmpeg's reason", code=code, said=words
        )
    return said.result()


@asynccontextmanager
async def start_encoder(arguments: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """FFmpeg with a pipe as its input, for encoding what is ours. It is ended when the block is left."""
    words = ("-hide_banner", "-loglevel", "error", "-nostats", *arguments)
    async with start(await _find("ffmpeg"), words, stdin=asyncio.subprocess.PIPE, idle=True) as process:
        yield process


async def run_confined(
    program: str,
    arguments: Sequence[str],
    video: Source,
    take: Callable[[asyncio.StreamReader], Awaitable[tuple[T, bool]]],
    *,
    limit_seconds: float,
) -> T:
    """What ``take`` makes of the output of ``ffmpeg`` or ``ffprobe``, to which ``video`` is given as ``pipe:0``.

    The child is confined (``sandbox``). ``take`` also says whether it read to the end of the output. If it had enough
    before, the child is ended, whatever would have become of it, and no more of the video is asked for.

    Raises:
        FfmpegMissing, DeadlineExceeded, what ``video`` and ``take`` raise.
        VideoUnreadable: the output has ended, and the child with an error.
    """
    fixed = ("-hide_banner", "-loglevel", "error")
    code: int | None = 0
    path = await _find(program)
    async with start(path, (*fixed, *arguments), stdin=asyncio.subprocess.PIPE, memory=_READER_MEMORY) as process:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(limit_seconds), asyncio.TaskGroup() as group:
                said = group.create_task(_last_words(process))
                feeding = group.create_task(_feed(process, video))
                taken, to_the_end = await take(process.stdout)
                if to_the_end:
                    code = await process.wait()
                feeding.cancel()
                _kill(process)
        except TimeoutError:
            raise DeadlineExceeded(f"the video could not be read within {limit_seconds:g} s") from None
        except BaseExceptionGroup as failed:
            raise first_cause(failed) from failed
    if code != 0:
        words = said.result()
        log.warning("film_unreadable", program=program, code=code, said=words)
        raise VideoUnreadable(
            "the video cannot be read: it is damaged, truncated or not a video", code=code, said=words
        )
    return taken


async def _feed(process: asyncio.subprocess.Process, video: Source) -> None:
    """Write the video to the child, no faster than it reads, until one of them has ended."""
    assert process.stdin is not None
    buffer = memoryview(bytearray(_CHUNK))
    try:
        while count := await video.read_into(buffer):
            process.stdin.write(bytes(buffer[:count]))
            await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return  # it has seen enough
    process.stdin.close()


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


def _kill(process: asyncio.subprocess.Process) -> None:
    """End the group, if it still runs."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the group if it still runs, and take its exit."""
    if process.stdin is not None:
        process.stdin.close()
    _kill(process)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            # read to the end: a child whose pipe nobody reads is not seen to end, and the pipe stays open
            await process.communicate()
