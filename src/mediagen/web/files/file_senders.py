"""Where the bytes of a file come from when we send them ourselves: the disk, or a store behind us."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from io import FileIO
from typing import Final, Protocol

import structlog

from mediagen.core.errors import MediagenError, NotFound, StorageUnavailable, Unavailable
from mediagen.core.files import File
from mediagen.storage.base import HasLocalPaths, Storage
from mediagen.streams.base import KIB, Source
from mediagen.web.http.response_writer import ResponseWriter

MAX_STREAMS: Final = 128
"""Files on their way through us from the store. Each holds a connection to it, of which uploads need some too."""
_BUFFER: Final = 512 * KIB
_FAILURES: Final = 3
"""How often in a row the store may break off without a byte in between."""
_BUSY_SECONDS: Final = 5

_LOG: Final = structlog.get_logger("mediagen.web")


class OpenFile(Protocol):
    """The bytes of a file that is there."""

    async def send(self, wanted: range, reader: ResponseWriter, /) -> None:
        """Send these bytes. Raises ConnectionResetError as ``ResponseWriter`` does, and what reading fails with."""


class FileSender(Protocol):
    """A way to send files."""

    def open(self, file: File, first: range | None, /) -> AbstractAsyncContextManager[OpenFile]:
        """The bytes of ``file``, of which ``first`` will be sent first; None: nothing will be, it must just be there.

        Raises:
            NotFound: they are gone.
            MediagenError: what is there has not the size that the row promises.
            StorageUnavailable, Unavailable
        """


class DiskSender:
    """Files that the kernel sends by itself."""

    def __init__(self, store: HasLocalPaths, threads: Executor) -> None:
        self._store = store
        self._threads = threads

    @asynccontextmanager
    async def open(self, file: File, _first: range | None, /) -> AsyncIterator[OpenFile]:
        handle = await asyncio.to_thread(_open, self._store.path_of(file.key), file)
        try:
            yield _DiskFile(handle, self._threads)
        finally:
            await asyncio.to_thread(handle.close)


class _DiskFile:
    def __init__(self, handle: FileIO, threads: Executor) -> None:
        self._handle = handle
        self._threads = threads

    async def send(self, wanted: range, reader: ResponseWriter, /) -> None:
        await reader.send_file(self._handle, wanted, self._threads)


class StoreSender:
    """Files that come through us from a store: no more of them is in memory than is on its way."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.streams = 0

    @asynccontextmanager
    async def open(self, file: File, first: range | None, /) -> AsyncIterator[OpenFile]:
        if self.streams >= MAX_STREAMS:
            raise Unavailable(
                f"{MAX_STREAMS} files are already being streamed from the store", retry_after=_BUSY_SECONDS
            )
        self.streams += 1
        try:
            async with aclosing(_StoredFile(self._storage, file)) as opened:
                if first is None:
                    await opened.look()
                else:
                    await opened.seek(first)
                yield opened
        finally:
            self.streams -= 1


class _StoredFile:
    """A file in the store, read by one GET for each range; one that breaks is made again from where it broke."""

    def __init__(self, storage: Storage, file: File) -> None:
        self._storage = storage
        self._file = file
        self._buffer = memoryview(bytearray(_BUFFER))
        self._stack = AsyncExitStack()
        self._source: Source | None = None
        self._ahead = range(0)
        """What the present GET still has to give."""

    async def look(self) -> None:
        """Whether it is there, without reading it."""
        found = await self._storage.head(self._file.key)
        if found is None:
            raise _gone(self._file)
        _check_size(self._file, self._file.bytes, found.size)

    async def seek(self, wanted: range) -> Source:
        """Ask for these bytes; what was asked for before is let go."""
        await self.aclose()
        whole = len(wanted) == self._file.bytes
        span = {} if whole else {"offset": wanted.start, "length": len(wanted)}
        try:
            source = await self._stack.enter_async_context(self._storage.open_source(self._file.key, **span))
        except NotFound:
            raise _gone(self._file) from None
        _check_size(self._file, len(wanted), source.size)
        self._source, self._ahead = source, wanted
        return source

    async def send(self, wanted: range, reader: ResponseWriter, /) -> None:
        async with reader.watched():
            left, failures = wanted, 0
            while left:
                try:
                    source = self._source
                    if source is None or self._ahead != left:
                        source = await self.seek(left)
                    count = await self._read(source, len(left))
                except StorageUnavailable as exc:
                    failures += 1
                    if not exc.retryable or failures > _FAILURES:
                        raise
                    _LOG.info("stream_resumed", file_id=self._file.id, offset=left.start, reason=exc.detail)
                    await self.aclose()
                    continue
                failures = 0
                left = self._ahead = left[count:]
                await reader.write(self._buffer[:count])

    async def _read(self, source: Source, left: int) -> int:
        count = await source.read_into(self._buffer[:left])
        if not count:
            raise StorageUnavailable(f"the store's response was {left} bytes short")
        return count

    async def aclose(self) -> None:
        """Let go of the GET; the store is not left to send what nobody takes."""
        self._source = None
        await self._stack.aclose()


def _gone(file: File) -> NotFound:
    return NotFound(f"the bytes of {file.id} are gone")


def _check_size(file: File, expected: int, found: int | None) -> None:
    """Raises MediagenError. A store that does not say the size (None) is believed: the row knows it."""
    if found is not None and found != expected:
        raise MediagenError(
            "a stored file does not have its recorded size", file_id=file.id, expected=expected, found=found
        )


def _open(path: str, file: File) -> FileIO:
    """The open file; never through a link, and only with the size that the row promises. Blocks."""
    try:
        handle = FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    except FileNotFoundError:
        raise _gone(file) from None
    try:
        _check_size(file, file.bytes, os.fstat(handle.fileno()).st_size)
    except MediagenError:
        handle.close()
        raise
    return handle
