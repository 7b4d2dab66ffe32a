"""The client that takes a file: written to, with a limit on how long it may take nothing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import FileIO
from typing import Final

from aiohttp import web

from mediagen.core.errors import first_cause
from mediagen.streams.base import KIB, MIB

MIN_SLICE: Final = 256 * KIB
"""Bytes that a reader is given at a time until it has shown to be quick."""
_MAX_SLICE: Final = 2 * MIB
_QUICK_SECONDS: Final = 1.0
_WATCH_SECONDS: Final = 0.5


class Reader:
    """One client and its answer, whose head has been sent.

    Every call raises ConnectionResetError when the client went away, and when it took nothing of a slice within
    ``stall_seconds``: then the connection has been cut, for a half must not look like a whole.
    """

    def __init__(self, request: web.Request, response: web.StreamResponse, *, stall_seconds: float) -> None:
        self._request = request
        self._response = response
        self._stall_seconds = stall_seconds

    async def write(self, data: bytes) -> None:
        """Send ``data``, at most a slice; returns when the kernel has taken (nearly) all of it."""
        async with self._limit():
            await self._response.write(data)

    async def send_file(self, handle: FileIO, wanted: range) -> None:
        """Send these bytes of a file, by the kernel where the event loop can.

        Slices grow for quick readers and shrink for slow ones, so that the limit is one of standing still.
        """
        at, size = wanted.start, MIN_SLICE
        while at < wanted.stop:
            length = min(size, wanted.stop - at)
            began = time.monotonic()
            async with self._limit() as transport:
                try:
                    sent = await asyncio.get_running_loop().sendfile(transport, handle, at, length)
                except NotImplementedError:  # a loop without it, such as uvloop
                    sent = await self._copy(handle, at, length)
            if not sent:
                transport.abort()
                raise ConnectionResetError("the file became shorter while it was sent")
            at += sent
            size = min(_MAX_SLICE, size * 2) if time.monotonic() - began < _QUICK_SECONDS else MIN_SLICE

    async def finish(self) -> None:
        """End the answer, when what was written has left us: an end that nobody takes must not stay in memory."""
        async with self._limit() as transport:
            transport.set_write_buffer_limits(high=0)
            try:
                await self._response.write_eof()
                await self._request.writer.drain()
            finally:
                transport.set_write_buffer_limits()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Leave the block when the client goes away, also while the block waits for something else than the client."""
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._until_gone())
                yield
                watch.cancel()
        except BaseExceptionGroup as failures:
            raise first_cause(failures) from None

    async def _until_gone(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)  # the framework tells a handler of it only when it writes
            self._transport()

    def _transport(self) -> asyncio.Transport:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the reader went away")
        return transport

    @asynccontextmanager
    async def _limit(self) -> AsyncIterator[asyncio.Transport]:
        transport = self._transport()
        limit = asyncio.timeout(self._stall_seconds)
        try:
            async with limit:
                yield transport
        except TimeoutError:
            if not limit.expired():
                raise
            transport.abort()
            raise ConnectionResetError(f"the reader took nothing for {self._stall_seconds:g} s") from None

    async def _copy(self, handle: FileIO, at: int, length: int) -> int:
        data = await asyncio.to_thread(os.pread, handle.fileno(), length, at)
        await self._response.write(data)
        return len(data)
