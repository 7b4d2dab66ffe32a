"""Objects on local disk: written beside, synced, then linked into place, so that nobody ever sees a half."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import structlog

from mediagen.core.errors import (
    MediagenError,
    NotFound,
    StorageFull,
    StorageUnavailable,
    UploadLost,
)
from mediagen.core.owned_tasks import Finishing
from mediagen.storage.base import StoredObject
from mediagen.storage.local import disk
from mediagen.storage.object_keys import check_key, check_token, is_token
from mediagen.streams.base import MIB, Body, PartReceipt, Sink, Source, StoredPart

log = structlog.get_logger()
T = TypeVar("T")

_UPLOADS: Final = ".uploads"
_PART: Final = 8 * MIB
"""Small parts cost a row each, and a crash costs little."""
_THREADS: Final = 4
_ROOM_SECONDS: Final = 1.0
"""After which a full disk is tried again by an upload that waits for room."""


class LocalStorage:
    """A folder of objects. Disk calls run in a small pool of threads of its own."""

    name = "local"
    accepts_ranges = True
    acts_late = False

    def __init__(self, root: Path, *, reserve: int = 0) -> None:
        self._root = root
        self._uploads = root / _UPLOADS
        self._reserve = reserve
        self._stack = AsyncExitStack()
        self.finishing = Finishing()

    async def __aenter__(self) -> Self:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk")
        self._stack.push_async_callback(asyncio.to_thread, self._pool.shutdown)  # it waits for what still writes
        await self.run(disk.make_folder, self._uploads)
        self._stack.push_async_callback(self.finishing.wait)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """A blocking call in the store's own threads, its errors in our words."""
        with disk.translate_errors():
            return await asyncio.get_running_loop().run_in_executor(self._pool, call, *args)

    def path_of(self, key: str) -> str:
        """Absolute path of an object. Raises ValueError for a key that is not one of ours."""
        return str(self._root / check_key(key))

    @asynccontextmanager
    async def open_sink(
        self,
        key: str,
        *,
        media_type: str,
        token: str,
        size: int | None,
        filename: str = "",
        parallel: bool = False,
        resume: Mapping[str, Any] | None = None,
        recorded: Sequence[StoredPart] = (),
    ) -> AsyncIterator[Sink]:
        part_path = str(self._uploads / f"{check_token(token)}.part")
        sink = LocalSink(self, self.path_of(key), part_path, key, token, size)
        try:
            present = 0 if resume is None else await sink.resume(resume, recorded)
            await self.ensure_room(None if size is None else size - present)
            sink.detached = False
            yield sink
        finally:
            if not sink.committed:  # a cancel here would come after the commit, and its caller not hear of the object
                await self.finishing.see_through(sink.close())

    async def ensure_room(self, size: int | None) -> None:
        try:
            usage = await self.run(shutil.disk_usage, self._root)
        except NotFound:
            raise StorageUnavailable("the folder of the store is gone") from None
        if usage.free < max(0, size or 0) + self._reserve:
            raise StorageFull(f"no room for {size or 'more'} bytes: {usage.free} free, {self._reserve} kept in reserve")

    @asynccontextmanager
    async def open_source(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[Source]:
        source = _LocalSource(self, self.path_of(key), offset, length)
        try:
            await source.open()
            yield source
        finally:
            await self.finishing.see_through(source.close())

    async def head(self, key: str) -> StoredObject | None:
        try:
            found = await self.run(os.lstat, self.path_of(key))
        except NotFound:
            return None
        return StoredObject(key, found.st_size, {}) if stat.S_ISREG(found.st_mode) else None

    async def delete(self, key: str) -> None:
        await self.run(disk.unlink, self.path_of(key))

    async def abort(self, state: Mapping[str, Any]) -> None:
        check_key(str(state["key"]))
        token = str(state.get("token", ""))
        if is_token(token):
            await self.run(disk.unlink, str(self._uploads / f"{token}.part"))

    async def remove(self, state: Mapping[str, Any]) -> None:
        await self.abort(state)
        await self.delete(str(state["key"]))

    def in_doubt(self, key: str) -> bool:
        return False

    async def sweep(self, keep: Sequence[Mapping[str, Any]]) -> int:
        kept = {f"{state.get('token')}.part" for state in keep}
        return await self.run(disk.sweep, self._uploads, kept)

    def hurry(self, seconds: float) -> None:
        """Nothing here waits for others."""

    async def check(self) -> None:
        await self.ensure_room(0)


class LocalSink:
    """An upload in a temporary file of the same file system. Parts land at their offsets, in any order."""

    accepts_ranges = True
    accepts_stream = True
    part_size = _PART
    parts_in_flight = 4
    chunk_size = disk.CHUNK

    def __init__(
        self,
        storage: LocalStorage,
        path: str,
        part_path: str,
        key: str,
        token: str,
        size: int | None,
    ) -> None:
        self._storage = storage
        self._path = path
        self._part_path = part_path
        self._size = size
        self._fd: int | None = None
        self._writing = threading.Lock()
        """The kernel lets one write into a file at a time, and who waits there for his turn burns a processor."""
        self._calls = Finishing()
        self.detached = False
        self.waits_for_room = False
        self._published = False
        self.state: dict[str, Any] = {"key": key, "token": token, "part_size": self.part_size}
        self.stored: dict[int, PartReceipt] = {}
        self.committed = False
        self.left_behind = False

    async def resume(self, state: Mapping[str, Any], recorded: Sequence[StoredPart]) -> int:
        """Take up the file of an earlier run; of its recorded parts only those count whose bytes are really there.

        Gives the bytes that the file takes on the disk. It stays detached until there is room for the
        rest: what stops a resume leaves the file for the next one.
        """
        self.part_size = int(state["part_size"])
        self.state = dict(state)
        self.detached = True
        try:
            await self._calls.see_through(self._open(0))
        except NotFound:
            found = await self._storage.head(str(state["key"]))
            if found is None or self._size not in (None, found.size):
                raise UploadLost("the unfinished file of the earlier run is gone") from None
            self.committed = True  # the crash came between the link and the row
            return found.size or 0
        for part in recorded:
            offset = (part.number - 1) * self.part_size
            if await self._on_file(disk.crc32_of, offset, part.size) == part.crc32:
                self.stored[part.number] = PartReceipt(part.size, part.token)
        return (await self._on_file(os.fstat)).st_blocks * 512

    async def begin(self) -> None:
        if self._fd is None:
            try:
                await self._with_room(lambda: self._calls.see_through(self._open(os.O_CREAT | os.O_EXCL)))
            except NotFound:
                raise StorageUnavailable("the folder of the store is gone") from None

    async def _open(self, flags: int) -> None:
        self._fd = await self._storage.run(disk.open_for_write, self._part_path, flags)

    async def write(self, view: memoryview, offset: int) -> None:
        await self._with_room(lambda: self._calls.see_through(self._storage.run(self.write_now, view, offset)))

    def write_now(self, view: memoryview, offset: int) -> None:
        """The same in a thread of the caller's, who keeps the sink open for so long."""
        if self._fd is None:
            raise RuntimeError("begin the upload before its parts")
        with disk.translate_errors(), self._writing:
            disk.write_all(self._fd, view, offset)

    async def _with_room(self, call: Callable[[], Awaitable[None]]) -> None:
        """Make a call that can be repeated as it is; again and again on a full disk when this upload waits for room."""
        failures = 0
        while True:
            try:
                return await call()
            except StorageFull as exc:
                if not self.waits_for_room:
                    raise
                failures += 1
                (log.warning if failures == 1 else log.debug)(
                    "upload_waits_for_room", reason=exc.detail, key=self.state["key"], failures=failures
                )
                await asyncio.sleep(_ROOM_SECONDS)

    async def _on_file(self, call: Callable[..., T], *args: Any) -> T:
        """A call on the file in a thread. A cancelled caller goes at once; the file is closed only after the thread."""
        if self._fd is None:
            raise RuntimeError("begin the upload before its parts")
        return await self._calls.see_through(self._storage.run(call, self._fd, *args))

    async def put_part(self, number: int, body: Body) -> StoredPart:
        await body.write_to(_FileTarget(self, (number - 1) * self.part_size))
        return StoredPart(number, len(body), body.crc32, f"{body.crc32:08x}")

    async def put_whole(self, body: Body) -> None:
        await self.begin()
        await self.put_part(1, body)

    async def commit(self, parts: list[StoredPart], *, size: int, crc32: int) -> None:
        if self.committed:
            return
        written = (await self._on_file(os.fstat)).st_size
        if written != size:
            raise StorageUnavailable(f"the file has {written} bytes instead of {size}")
        try:
            if self.waits_for_room:
                await self._on_file(os.fsync)  # not to be repeated: what a failed one has lost stays lost
            await self._with_room(lambda: self._calls.see_through(self._publish()))
        except NotFound:
            raise UploadLost("the unfinished file is gone") from None
        self.committed = True

    async def _publish(self) -> None:
        await self._storage.run(disk.publish, self._fd, self._part_path, self._path)
        self._published = True
        if self._fd is not None:
            fd, self._fd = self._fd, None
            await self._storage.run(os.close, fd)

    def detach(self) -> None:
        self.detached = True

    async def close(self) -> None:
        """Close the file, and remove what is not to stay: what cannot be removed is said in ``left_behind``."""
        await self._calls.wait()
        if self._fd is None and not self._published:
            return
        fd, self._fd = self._fd, None
        try:
            if fd is not None:
                await self._storage.run(os.close, fd)
            if not self.committed and not self.detached:
                await self._storage.run(disk.unlink, self._part_path)
                if self._published:  # a commit that was cancelled went on to its end
                    await self._storage.run(disk.unlink, self._path)
        except MediagenError as exc:
            self.left_behind = not self.committed and not self.detached
            log.warning("upload_left_behind", reason=exc.detail, key=self.state["key"])


class _FileTarget:
    """One part's place in the file."""

    def __init__(self, sink: LocalSink, offset: int) -> None:
        self._sink = sink
        self._offset = offset

    async def write(self, view: memoryview, /) -> None:
        await self._sink.write(view, self._offset)
        self._offset += len(view)

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        try:
            self._sink.write_now(view, self._offset)
        except StorageFull:
            if not self._sink.waits_for_room:
                raise
            return 0  # the event loop puts it, and waits
        self._offset += len(view)
        return len(view)


class _LocalSource:
    size = 0

    def __init__(self, storage: LocalStorage, path: str, offset: int, length: int | None) -> None:
        self._storage = storage
        self._path = path
        self._offset = offset
        self._length = length
        self._calls = Finishing()
        self._fd: int | None = None

    async def open(self) -> None:
        await self._calls.see_through(self._open())

    async def _open(self) -> None:
        self._fd, size = await self._storage.run(disk.open_existing, self._path)
        left = max(0, size - self._offset)
        self.size = left if self._length is None else min(left, self._length)
        self._end = self._offset + self.size

    async def read_into(self, buffer: memoryview, /) -> int:
        wanted = min(len(buffer), disk.CHUNK, self._end - self._offset)
        if wanted <= 0:
            return 0
        # not straight into the buffer: when the reader is cancelled it is somebody else's before the thread is through
        data = await self._calls.see_through(self._storage.run(os.pread, self._fd, wanted, self._offset))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)

    async def close(self) -> None:
        await self._calls.wait()
        if self._fd is not None:
            fd, self._fd = self._fd, None
            await self._storage.run(os.close, fd)
