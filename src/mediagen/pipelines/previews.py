"""Earlier states of a picture, shown to those who watch it being made. They are no results: nobody keeps them.

A state goes into a temporary file without a name, which ends with the process whatever happens, and from there to each
watcher; memory stays flat. Without a watcher it is passed over.
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
"""States that wait for one watcher; the oldest are left out."""
_BLOCK: Final = 256 * KIB


class Preview:
    """A state of the picture with that index; ``number`` counts its states."""

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

    def done(self) -> None:
        """One reader less; after the last one the bytes are gone."""
        self._readers -= 1
        if not self._readers:
            self._file.close()


class PreviewWatcher:
    """What one watcher is shown."""

    def __init__(self) -> None:
        self._waiting: deque[Preview] = deque()
        self._came = asyncio.Event()

    def put(self, preview: Preview) -> None:
        self._waiting.append(preview)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft().done()
        self.wake()

    def wake(self) -> None:
        """Let ``wait`` return."""
        self._came.set()

    async def wait(self, seconds: float) -> None:
        """Until a state comes, or somebody wakes, but no longer than that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._came.wait()
        self._came.clear()

    def take(self) -> Preview | None:
        """The oldest state that waits, if there is one; ``done`` is to be called after use."""
        return self._waiting.popleft() if self._waiting else None


class Previews:
    """Brings states to watchers. ``folder`` is for temporary files; ``max_bytes`` of one state."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._watches: dict[str, list[PreviewWatcher]] = {}

    @contextmanager
    def watch(self, task_id: str) -> Iterator[PreviewWatcher]:
        """The states of that task's pictures from now on."""
        watch = PreviewWatcher()
        watches = self._watches.setdefault(task_id, [])
        watches.append(watch)
        try:
            yield watch
        finally:
            watches.remove(watch)
            if not watches:
                self._watches.pop(task_id, None)
            while (left := watch.take()) is not None:
                left.done()

    async def show(self, task_id: str, content: Content) -> None:
        """Show a state to whoever watches. Raises what its source raises; a full disk costs the state alone."""
        if task_id not in self._watches:
            return
        file: IO[bytes] | None = await asyncio.to_thread(tempfile.TemporaryFile, dir=self._folder, buffering=0)
        try:
            assert file is not None
            size = await self._spooled(LimitedSource(content.source, self._max_bytes), file)
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

    async def _spooled(self, source: Source, file: IO[bytes]) -> int | None:
        """Bytes written; None: there is no room for them."""
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
    """A file from its beginning, however many read it."""

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
