"""Previews: earlier states of an image, shown to clients that watch it being made, and not kept.

A preview goes into an unnamed temporary file, which never outlives the process, and from there to each watcher; memory
stays flat. Without a watcher it is skipped.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import structlog

from mediagen.providers.base import Content
from mediagen.streams.base import KIB, Source
from mediagen.streams.sources import LimitedSource

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 8
"""Previews that wait for one watcher; beyond that the oldest are dropped."""
_BLOCK: Final = 256 * KIB


class Preview:
    """Preview ``number`` of the image with that ``index``."""

    def __init__(self, file: IO[bytes], size: int, index: int, number: int, readers: int) -> None:
        self.size = size
        self.index = index
        self.number = number
        self._file = file
        self._readers = readers

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Source]:
        """Its bytes."""
        yield _FileSource(self._file, self.size)

    def release(self) -> None:
        """One reader less. The last one deletes the bytes."""
        self._readers -= 1
        if not self._readers:
            self._file.close()


class PreviewWatcher:
    """The previews for one watcher."""

    def __init__(self) -> None:
        self._waiting: deque[Preview] = deque()
        self._came = asyncio.Event()

    def put(self, preview: Preview) -> None:
        self._waiting.append(preview)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft().release()
        self.wake()

    def wake(self) -> None:
        """Let ``wait`` return."""
        self._came.set()

    async def wait(self, seconds: float) -> None:
        """Wait for a preview, a ``wake``, or that many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._came.wait()
        self._came.clear()

    def pop(self) -> Preview | None:
        """The oldest waiting preview, if there is one. Call its ``release`` after use."""
        return self._waiting.popleft() if self._waiting else None


class Previews:
    """Passes previews to watchers. ``folder`` is for temporary files; ``max_bytes`` limits one preview."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._watches: dict[str, list[PreviewWatcher]] = {}

    @contextmanager
    def watch(self, task_id: str) -> Iterator[PreviewWatcher]:
        """Watch the previews of a task from now on."""
        watch = PreviewWatcher()
        watches = self._watches.setdefault(task_id, [])
        watches.append(watch)
        try:
            yield watch
        finally:
            watches.remove(watch)
            if not watches:
                self._watches.pop(task_id, None)
            while (left := watch.pop()) is not None:
                left.release()

    async def show(self, task_id: str, content: Content) -> None:
        """Pass a preview to the watchers. Raises what its source raises; on a full disk it is dropped."""
        if task_id not in self._watches:
            return
        file: IO[bytes] | None = await asyncio.to_thread(tempfile.TemporaryFile, dir=self._folder, buffering=0)
        try:
            assert file is not None
            size = await self._spool(LimitedSource(content.source, self._max_bytes), file)
            watches = self._watches.get(task_id, ())
            if size is None or not watches:
                return
            preview = Preview(file, size, content.index, content.partial or 0, len(watches))
            file = None
            for watch in watches:
                watch.put(preview)
        finally:
            if file is not None:
                file.close()

    async def _spool(self, source: Source, file: IO[bytes]) -> int | None:
        """The number of bytes written; None: the disk is full."""
        buffer = memoryview(bytearray(_BLOCK))
        size = 0
        while count := await source.read_into(buffer):
            try:
                await asyncio.to_thread(_write, file, buffer[:count])
            except OSError as exc:
                log.warning("preview_dropped", reason=str(exc))
                return None
            size += count
        return size


class _FileSource:
    """Reads a file from its beginning, independently of its other readers."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.size: int | None = size
        self._file = file
        self._at = 0

    async def read_into(self, buffer: memoryview, /) -> int:
        count = await asyncio.to_thread(os.preadv, self._file.fileno(), [buffer], self._at)
        self._at += count
        return count


def _write(file: IO[bytes], data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]
