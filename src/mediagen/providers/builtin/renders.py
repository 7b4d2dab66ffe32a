"""Films being drawn: a small vendor of our own, with a queue, percentages and results that are kept for a while.

A film rests in a file without a name, so that nothing stays behind whatever happens to the process.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from mediagen.core.errors import MediagenError, ProviderError, ProviderRateLimited
from mediagen.media import ffmpeg
from mediagen.media.vips import VipsPool
from mediagen.providers.base import Phase
from mediagen.providers.builtin.clip import Clip, arguments, layer

log = structlog.get_logger(__name__)

_KEPT_SECONDS: Final = 900.0
"""How long a finished film waits to be fetched."""
_MAX_JOBS: Final = 200


@dataclass(slots=True)
class Job:
    """One film. ``file`` is open while there is something in it."""

    clip: Clip
    phase: Phase = Phase.QUEUED
    percent: int | None = None
    error: MediagenError | None = None
    file: BinaryIO | None = None
    ended: float | None = None
    readers: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Renders:
    """Draws so many films at once, in order."""

    def __init__(self, pool: VipsPool, folder: Path | None, parallel: int) -> None:
        self._pool = pool
        self._folder = folder
        self._slots = asyncio.Semaphore(parallel)
        self._jobs: dict[str, Job] = {}
        self._cancelled: deque[str] = deque(maxlen=1000)
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Films are drawn inside the block; what is unfinished at its end is given up."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None
                for job_id in list(self._jobs):
                    self.drop(job_id)

    def begin(self, job_id: str, clip: Clip) -> Job:
        """The job of that id, begun unless it is there already.

        Raises:
            ProviderRateLimited: too many wait.
        """
        self._forget_old()
        if (job := self._jobs.get(job_id)) is not None:
            return job
        if job_id in self._cancelled:
            return Job(clip, Phase.FAILED, error=ProviderError("the video was cancelled"))
        if self._group is None or len(self._jobs) >= _MAX_JOBS:
            raise ProviderRateLimited(f"more than {_MAX_JOBS} videos are waiting to be drawn", retry_after=30.0)
        job = self._jobs[job_id] = Job(clip)
        job.task = self._group.create_task(self._render(job))
        return job

    def position(self, job_id: str) -> int:
        """How many are before it."""
        ahead = 0
        for other_id, job in self._jobs.items():
            if other_id == job_id:
                break
            ahead += job.phase in (Phase.QUEUED, Phase.RUNNING)
        return ahead

    def cancel(self, job_id: str) -> None:
        """Stop it for good."""
        self._cancelled.append(job_id)
        self.drop(job_id)

    def drop(self, job_id: str) -> None:
        """Stop it, and forget what it made."""
        job = self._jobs.pop(job_id, None)
        if job is not None:
            if job.task is not None:
                job.task.cancel()
            if job.readers == 0:
                _close(job)

    @asynccontextmanager
    async def reading(self, job_id: str) -> AsyncIterator[BinaryIO]:
        """The film of a completed job. Raises ProviderError when there is none."""
        job = self._jobs.get(job_id)
        if job is None or job.file is None or job.phase is not Phase.COMPLETED:
            raise ProviderError("the film no longer exists")
        job.readers += 1
        try:
            yield job.file
        finally:
            job.readers -= 1
            if job.readers == 0 and self._jobs.get(job_id) is not job:
                _close(job)

    def _forget_old(self) -> None:
        now = time.monotonic()
        for job_id, job in list(self._jobs.items()):
            if job.ended is not None and job.readers == 0 and now - job.ended > _KEPT_SECONDS:
                self.drop(job_id)

    async def _render(self, job: Job) -> None:
        try:
            async with self._slots:
                job.phase = Phase.RUNNING
                job.file = await self._opened()
                await self._draw(job, job.file)
                job.phase = Phase.COMPLETED
        except MediagenError as exc:
            job.phase, job.error = Phase.FAILED, exc
        except Exception:
            log.exception("clip_crashed")
            job.phase, job.error = (
                Phase.FAILED,
                MediagenError("the video could not be drawn; the server's log has the reason"),
            )
        finally:
            job.ended = time.monotonic()
            if job.phase is not Phase.COMPLETED:
                _close(job)

    async def _draw(self, job: Job, film: BinaryIO) -> None:
        clip = job.clip
        still = await self._opened()
        try:
            raw = await self._pool.run(layer, clip)
            await asyncio.to_thread(_write, still, raw)
            del raw

            def told(block: Mapping[str, str]) -> None:
                frame = block.get("frame", "")
                job.percent = min(99, int(frame) * 100 // clip.frames) if frame.isdigit() else None

            await ffmpeg.run(
                arguments(clip, layer_file=_name(still), film_file=_name(film)),
                descriptors=(still.fileno(), film.fileno()),
                limit_seconds=120 + 30 * clip.seconds * clip.size.width * clip.size.height / (1280 * 720),
                told=told,
            )
        finally:
            still.close()

    async def _opened(self) -> BinaryIO:
        """A new file without a name. A caller that is cancelled meanwhile waits until there is something to close."""
        opening = asyncio.get_running_loop().run_in_executor(None, self._new_file)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait({opening})
            if opening.exception() is None:
                opening.result().close()
            raise

    def _new_file(self) -> BinaryIO:
        return tempfile.TemporaryFile(dir=self._folder, buffering=0)


def _name(file: BinaryIO) -> str:
    """By what a child opens a descriptor that it was given; faststart opens the film a second time."""
    return f"/dev/fd/{file.fileno()}"


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _close(job: Job) -> None:
    if job.file is not None:
        job.file.close()
        job.file = None


class FileSource:
    """An open file from its beginning, read in threads. Fits ``streams.base.Source`` and ``SupportsTryRead``."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._position = 0
        self.size: int | None = os.fstat(self._descriptor).st_size

    async def read_into(self, buffer: memoryview, /) -> int:
        return await asyncio.to_thread(self.try_read, buffer, within=0.0)

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count
