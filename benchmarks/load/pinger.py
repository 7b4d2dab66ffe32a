"""How long the event loop of a server lets a client wait, seen from outside.

A message that asks for an answer goes over a WebSocket of its own a hundred times a second. Its way there and back is
an upper bound of the stall that it met: it includes what the machine's scheduler and this process add.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from benchmarks.process import BenchmarkFailure

SPACING = 0.01


class Pinger:
    """The longest wait so far, in ms."""

    def __init__(self) -> None:
        self.worst_ms = 0.0

    async def run(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Ask until cancelled."""
        while True:
            asked = time.perf_counter()
            await socket.send_str('{"type":"ping"}')
            answer = await socket.receive()
            if answer.type is not aiohttp.WSMsgType.TEXT:
                raise BenchmarkFailure(f"the server closed a socket: {answer.type.name}")
            waited = time.perf_counter() - asked
            self.worst_ms = max(self.worst_ms, waited * 1000)
            await asyncio.sleep(max(0.0, SPACING - waited))


@asynccontextmanager
async def pinging(session: aiohttp.ClientSession, base: str) -> AsyncIterator[Pinger]:
    """A pinger that runs while the context is open."""
    pinger = Pinger()
    async with session.ws_connect(f"{base}/v1/ws") as socket, asyncio.TaskGroup() as group:
        running = group.create_task(pinger.run(socket))
        yield pinger
        running.cancel()
