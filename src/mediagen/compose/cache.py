"""Files that can be made again, kept by a hash of all that went into them: voices, images, windows.

A file appears under its name only when it is whole. Together they stay below a number of bytes: those that nobody has
used for longest go first.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

_PART: Final = ".part"


def key_of(kind: str, **parts: Any) -> str:
    """The name of what is made of ``parts``, which must be plain JSON values; ``kind`` and a version belong to it."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


class ContentCache:
    """Files below ``folder``. ``max_bytes``: of all together; a file in use may stand above it for a while."""

    def __init__(self, folder: Path, max_bytes: int, *, now: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._now = now
        self._making: dict[str, asyncio.Lock] = {}

    def find(self, name: str) -> Path | None:
        """The file of this name, now used; None when there is none."""
        path = self.folder / name
        try:
            os.utime(path, (self._now(), self._now()))
        except FileNotFoundError:
            return None
        return path

    async def get(self, name: str, make: Callable[[Path], Awaitable[None]]) -> Path:
        """The file of this name, made by ``make`` at the path that it is given where it is not there yet.

        Two who ask at once make it once. Raises what ``make`` raises; nothing stays then.
        """
        lock = self._making.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                if (found := await asyncio.to_thread(self.find, name)) is not None:
                    return found
                async with self.partial(name) as part:
                    await make(part)
                    return await asyncio.to_thread(self.publish, part, name)
        finally:
            if not lock.locked():
                self._making.pop(name, None)

    async def note(self, name: str, value: Any) -> None:
        """Keep a JSON value beside the file of this name."""
        async with self.partial(f"{name}.json") as part:
            await asyncio.to_thread(part.write_text, json.dumps(value), "utf-8")
            await asyncio.to_thread(self.publish, part, f"{name}.json")

    async def noted(self, name: str) -> Any:
        """The JSON value beside the file of this name; None when there is none."""
        path = await asyncio.to_thread(self.find, f"{name}.json")
        return None if path is None else json.loads(await asyncio.to_thread(path.read_text, "utf-8"))

    @asynccontextmanager
    async def partial(self, name: str) -> AsyncIterator[Path]:
        """A path to write to; what is left there is removed."""
        await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
        stem, dot, suffix = name.partition(".")
        part = self.folder / f"{stem}.{uuid4().hex[:8]}{_PART}{dot}{suffix}"
        try:
            yield part
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)

    def publish(self, part: Path, name: str) -> Path:
        """Give a whole file its name. Blocks."""
        path = self.folder / name
        part.replace(path)
        return path

    def remove_unfinished(self) -> None:
        """Remove what a process that has ended left half-made. Blocks; nothing else may use the cache meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self.folder):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif _PART in entry.name:
                    _removed(entry.path, 0)

    def sweep(self) -> int:
        """Remove the files unused for longest until the rest fits; the bytes that were freed. Blocks."""
        freed, total, found = 0, 0, []
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self.folder):
                if not entry.is_file(follow_symlinks=False):
                    continue
                stat = entry.stat(follow_symlinks=False)
                if _PART in entry.name:
                    continue  # being made
                found.append((stat.st_mtime, stat.st_size, entry.path))
                total += stat.st_size
        for _, size, path in sorted(found):
            if total <= self._max_bytes:
                break
            freed += _removed(path, size)
            total -= size
        return freed


def _removed(path: str, size: int) -> int:
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
        return size
    return 0
