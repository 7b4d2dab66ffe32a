"""A client of the public API: submit, follow over the WebSocket, cancel, delete."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp

from benchmarks.process import BenchmarkFailure

ENDED: Final = frozenset({"completed", "failed", "cancelled", "timed_out"})
DEADLINE: Final = 300.0


@dataclass(frozen=True, slots=True)
class Told:
    """A message of the feed about a task, and when it came (``time.perf_counter``)."""

    type: str
    task: dict[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Tasks that ended, in the order in which they were asked for, and how long all took as the client saw it.

    ``seconds`` begins just before the first request and ends when the last task is told to be completed.
    """

    tasks: list[dict[str, Any]]
    seconds: float


class Feed:
    """A WebSocket that follows all tasks."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def next(self) -> Told:
        """The next event about a task.

        Raises:
            BenchmarkFailure: the feed was closed.
        """
        while True:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise BenchmarkFailure(f"the feed was closed: {message.type.name}")
            told = json.loads(message.data)
            if told["type"] == "error":
                raise BenchmarkFailure(f"the feed refused: {told}")
            if "task" in told:
                return Told(told["type"], told["task"], time.perf_counter())


class Api:
    """Calls of one server at ``base``."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise BenchmarkFailure("the client is not open")
        return self._session

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One call; gives the answer's JSON.

        Raises:
            BenchmarkFailure: any status that is not 2xx.
        """
        async with self.session.request(method, self._base + path, json=body) as reply:
            text = await reply.text()
            if not reply.ok:
                raise BenchmarkFailure(f"{method} {path}: {reply.status} {text[:400]}")
        answer: dict[str, Any] = json.loads(text) if text else {}
        return answer

    @asynccontextmanager
    async def feed(self) -> AsyncIterator[Feed]:
        """A feed of all tasks, its snapshot already taken."""
        async with self.session.ws_connect(f"{self._base}/v1/ws", max_msg_size=0) as socket:
            await socket.send_json({"type": "subscribe", "tasks": "all"})
            snapshot = await socket.receive_json()
            if snapshot.get("type") != "snapshot":
                raise BenchmarkFailure(f"the feed does not begin with a snapshot: {str(snapshot)[:200]}")
            yield Feed(socket)

    async def submit(self, body: Mapping[str, Any]) -> str:
        """Id of a new ingest task."""
        return str((await self.call("POST", "/v1/ingest", body))["id"])

    async def ingest(self, bodies: Sequence[Mapping[str, Any]]) -> Ended:
        """Ingest all at once and wait for every end.

        Raises:
            BenchmarkFailure: one was refused, or did not complete.
        """
        async with self.feed() as feed:
            began = time.perf_counter()
            try:
                async with asyncio.TaskGroup() as group:
                    asked = [group.create_task(self.submit(body)) for body in bodies]
            except ExceptionGroup as failed:
                raise BenchmarkFailure(str(failed.exceptions[0])) from failed
            return await self.completed(feed, [one.result() for one in asked], began)

    async def completed(self, feed: Feed, ids: Sequence[str], began: float) -> Ended:
        """Wait until all of these tasks are completed.

        Raises:
            BenchmarkFailure: one ended otherwise, or they take too long.
        """
        ended: dict[str, dict[str, Any]] = {}
        at = began
        async with asyncio.timeout(DEADLINE):
            while len(ended) < len(ids):
                told = await feed.next()
                task = told.task
                if task["id"] in ids and task["status"] in ENDED:
                    if task["status"] != "completed":
                        raise BenchmarkFailure(f"task {task['status']}: {task['error']}")
                    ended[task["id"]] = task
                    at = told.at
        return Ended([ended[one] for one in ids], at - began)

    async def forget(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Delete ended tasks with what they made."""
        for task in tasks:
            await self.call("DELETE", f"/v1/tasks/{task['id']}?media=true")
