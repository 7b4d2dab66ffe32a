"""A sink in memory: small, whole, and scripted to fail as stores do."""

from __future__ import annotations

import asyncio
import hashlib
import random
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mediagen.core.errors import StorageUnavailable
from mediagen.streams.base import KIB, Body, PartReceipt, StoredPart
from tests.streams.targets import Gathering


@dataclass
class MemorySink:
    """Fits ``streams.base.Sink``. Parts may be of any size here, so that tests are quick."""

    part_size: int = 256 * KIB
    parts_in_flight: int = 4
    accepts_ranges: bool = True
    accepts_stream: bool = False
    chunk_size: int = 64 * KIB
    stored: dict[int, PartReceipt] = field(default_factory=dict)
    committed: bool = False
    left_behind: bool = False
    replays: Mapping[int, int] = field(default_factory=dict)
    """By part (0: the whole object): how often its body is read and thrown away before it is stored."""
    refusals: set[int] = field(default_factory=set)
    """Parts (0: the whole object) that are refused after their body was read; -1 stands for ``begin``."""
    turns: random.Random | None = None
    """Every chunk takes a number of turns of the loop, drawn from here."""
    gate: asyncio.Event | None = None
    """Parts wait for it before they are acknowledged."""
    parts: dict[int, bytes] = field(default_factory=dict)
    whole: bytes | None = None
    begun: bool = False
    running: int = 0
    most_running: int = 0

    @property
    def state(self) -> Mapping[str, Any]:
        return {"begun": self.begun}

    @property
    def content(self) -> bytes:
        """What the store would show after a commit."""
        return self.whole if self.whole is not None else b"".join(self.parts[number] for number in sorted(self.parts))

    def had(self, number: int, data: bytes) -> StoredPart:
        """Put a part there as an earlier run did; gives what that run recorded."""
        part = StoredPart(number, len(data), zlib.crc32(data), _token(data))
        self.parts[number] = data
        self.stored[number] = PartReceipt(part.size, part.token)
        return part

    async def begin(self) -> None:
        await self._pause()
        if -1 in self.refusals:
            raise StorageUnavailable("no upload")
        self.begun = True

    async def put_part(self, number: int, body: Body) -> StoredPart:
        assert self.begun, "a part before the upload"
        data = await self._take(number, body)
        self.parts[number] = data
        assert body.crc32 == zlib.crc32(data)
        return StoredPart(number, len(body), body.crc32, _token(data))

    async def put_whole(self, body: Body) -> None:
        self.whole = await self._take(0, body)
        self.committed = True

    async def commit(self, parts: Sequence[StoredPart], *, size: int, crc32: int) -> None:
        assert [part.number for part in parts] == sorted(self.parts)
        assert (size, crc32) == (len(self.content), zlib.crc32(self.content))
        self.committed = True

    def detach(self) -> None:
        """Nothing to leave: the parts are in this object."""

    async def _take(self, number: int, body: Body) -> bytes:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            data = b""
            for _ in range(self.replays.get(number, 0) + 1):
                data = await self._read(body)
            if self.gate is not None:
                await self.gate.wait()
            if number in self.refusals:
                raise StorageUnavailable(f"part {number} refused")
            assert len(data) == len(body)
            return data
        finally:
            self.running -= 1

    async def _read(self, body: Body) -> bytes:
        target = _Slow(self._pause)
        await body.write_to(target)
        return target.content

    async def _pause(self) -> None:
        for _ in range(self.turns.randrange(4) if self.turns is not None else 0):
            await asyncio.sleep(0)


class _Slow(Gathering):
    """Takes its turns after every piece."""

    def __init__(self, pause: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._pause = pause

    async def write(self, view: memoryview, /) -> None:
        self.pieces.append(bytes(view))
        await self._pause()


def _token(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
