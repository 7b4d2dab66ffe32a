"""FFmpeg as a child: it ends with whoever wanted it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mediagen.core.errors import DeadlineExceeded
from mediagen.media import ffmpeg, sandbox
from tests.infra.process import Child, descendants, need

FOREVER = ("-re", "-f", "lavfi", "-i", "color=s=64x64:r=10", "-f", "null", "-")

RUN = f"""
import asyncio
from mediagen.media import ffmpeg
asyncio.run(ffmpeg.run({FOREVER!r}, limit_seconds=60))
"""


def program(pid: int) -> str:
    """The name of what a process runs; empty when there is no such process."""
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name
    except OSError:
        return ""


def encoders(pid: int) -> list[int]:
    return [child for child in descendants(pid) if program(child) == "ffmpeg"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def encoding(pid: int) -> int:
    """The pid of FFmpeg below ``pid``, once it runs."""
    async with asyncio.timeout(20):
        while not (found := await asyncio.to_thread(encoders, pid)):
            await asyncio.sleep(0.02)
    return found[0]


async def ended(pid: int) -> None:
    async with asyncio.timeout(10):
        while await asyncio.to_thread(alive, pid):
            await asyncio.sleep(0.02)


async def test_it_tells_how_far_it_is_and_writes_into_a_file_without_a_name() -> None:
    need("ffmpeg")
    told: list[str] = []
    with tempfile.TemporaryFile() as video:
        descriptor = video.fileno()
        arguments = ["-f", "lavfi", "-i", "color=s=64x64:r=10:d=2", "-f", "mp4", "-y", f"/dev/fd/{descriptor}"]

        await ffmpeg.run(
            arguments, descriptors=[descriptor], limit_seconds=30, told=lambda block: told.append(block["progress"])
        )

        assert os.fstat(descriptor).st_size > 1000
        assert os.pread(descriptor, 8, 0)[4:] == b"ftyp"
    assert told[-1] == "end"


async def test_a_cancelled_caller_leaves_no_child() -> None:
    need("ffmpeg")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(ffmpeg.run(FOREVER, limit_seconds=60))
        await encoding(os.getpid())

        running.cancel()

    assert await asyncio.to_thread(encoders, os.getpid()) == []


async def test_a_killed_server_leaves_no_child(tmp_path: Path) -> None:
    need("ffmpeg", "setpriv")
    with Child([sys.executable, "-c", RUN], tmp_path / "log") as server:
        encoder = await encoding(server.pid)

        server.send(signal.SIGKILL)
        await server.exited(10)

        await ended(encoder)


@pytest.mark.parametrize("round_", range(6))
async def test_a_server_killed_while_it_starts_a_child_leaves_none(tmp_path: Path, round_: int) -> None:
    need("ffmpeg", "setpriv")
    with Child([sys.executable, "-c", RUN], tmp_path / "log") as server:
        async with asyncio.timeout(20):
            while not (children := await asyncio.to_thread(descendants, server.pid)):
                await asyncio.sleep(0)

        await asyncio.sleep(round_ * 0.004)
        server.send(signal.SIGKILL)
        await server.exited(10)

        for child in children:
            await ended(child)


def test_an_orphan_does_not_begin() -> None:
    words = [sys.executable, "-I", "-S", sandbox.__file__, "1", "0", "/bin/echo", "begun"]

    done = subprocess.run(words, capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (1, b"")


async def test_too_long_is_ended() -> None:
    need("ffmpeg")

    with pytest.raises(DeadlineExceeded):
        await ffmpeg.run(FOREVER, limit_seconds=0.5)

    assert await asyncio.to_thread(encoders, os.getpid()) == []


async def test_what_it_complains_of_is_for_the_log() -> None:
    need("ffmpeg")

    with pytest.raises(ffmpeg.EncodingFailed) as failed:
        await ffmpeg.run(["-i", "/nowhere", "-f", "null", "-"], limit_seconds=20)

    assert "/nowhere" not in failed.value.detail
    assert "/nowhere" in str(failed.value.context["said"])
