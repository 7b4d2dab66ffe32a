"""The public API as a client sees it: nothing of mediagen is imported here."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, TypedDict

import aiohttp


class Transfer(TypedDict):
    """Bytes on the move."""

    stage: Literal["download", "upload"]
    bytes_done: int
    bytes_total: int | None
    bytes_per_second: float


class Failure(TypedDict):
    """Why an attempt ended badly."""

    code: str
    message: str
    retryable: bool
    attempt: int
    detail: str | None


class File(TypedDict):
    """A stored file; the fields that the tests look at."""

    id: str
    filename: str
    bytes: int
    media_type: str
    kind: str
    sha256: str | None
    checksum: dict[str, str]
    url: str
    task_id: str | None


class Task(TypedDict):
    """A task; the fields that the tests look at."""

    id: str
    kind: str
    status: Literal["queued", "running", "completed", "failed", "cancelled", "timed_out"]
    phase: str | None
    progress: int | None
    transfer: Transfer | None
    attempt: int
    max_attempts: int
    priority: int
    queue_position: int | None
    created_at: str
    started_at: str | None
    ended_at: str | None
    request: dict[str, Any]
    result: dict[str, Any] | None
    error: Failure | None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the feed, and when it came (seconds of the loop's clock)."""

    type: str
    seq: int
    data: dict[str, Any]
    at: float

    @property
    def task(self) -> Task:
        """The task that an event tells of; of a snapshot the first one."""
        task: Task = self.data["tasks"][0] if self.type == "snapshot" else self.data["task"]
        return task


class Refused(Exception):
    """An answer that is no success, with its ``application/problem+json``."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem}")
        self.status = status
        self.code = str(problem.get("code"))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Content:
    """What a download of a file gave."""

    size: int
    sha256: str
    crc32: int


class Socket:
    """A reader of the WebSocket feed."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def subscribe(self, tasks: list[str] | Literal["all"], *, after: int | None = None) -> None:
        """Ask for tasks; a snapshot follows."""
        message: dict[str, Any] = {"type": "subscribe", "tasks": tasks}
        await self._socket.send_json(message if after is None else {**message, "after": after})

    async def __aiter__(self) -> AsyncIterator[Message]:
        async for frame in self._socket:
            assert frame.type is aiohttp.WSMsgType.TEXT, frame
            data = json.loads(frame.data)
            yield Message(data["type"], data["seq"], data, asyncio.get_running_loop().time())

    @property
    def close_code(self) -> int | None:
        """Why the server ended it; None while it is open, 1006 when the connection just broke."""
        return self._socket.close_code


class Api:
    """The server at ``url``, inside ``async with``. Each call opens a connection: the server may be a new one."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def __aenter__(self) -> Api:
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        limits = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
        self.session = aiohttp.ClientSession(self.url, connector=connector, timeout=limits)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of a success. Raises ``Refused``."""
        async with self.session.request(method, path, **options) as answer:
            document = await answer.json(content_type=None)
            if answer.status >= 400:
                raise Refused(answer.status, document)
            return document

    async def ingest(self, url: str, **fields: Any) -> Task:
        """A task that brings ``url`` into the store."""
        task: Task = await self.call("POST", "/v1/ingest", json={"url": url, **fields})
        return task

    async def task(self, task_id: str) -> Task:
        """The task now."""
        task: Task = await self.call("GET", f"/v1/tasks/{task_id}")
        return task

    async def tasks(self, **query: Any) -> list[Task]:
        """The newest tasks."""
        page: list[Task] = (await self.call("GET", "/v1/tasks", params={"limit": 100, **query}))["data"]
        return page

    async def files(self) -> list[File]:
        """The newest files."""
        page: list[File] = (await self.call("GET", "/v1/files", params={"limit": 100}))["data"]
        return page

    async def cancel(self, task_id: str) -> Task:
        """The task after a cancel."""
        task: Task = await self.call("POST", f"/v1/tasks/{task_id}/cancel")
        return task

    async def retry(self, task_id: str, **edits: Any) -> Task:
        """The task with a new attempt."""
        task: Task = await self.call("POST", f"/v1/tasks/{task_id}/retry", **({"json": edits} if edits else {}))
        return task

    async def events(self, task_id: str, *, after: int | None = None) -> AsyncIterator[Message]:
        """The events of a task until the server ends the stream."""
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        async with self.session.get(f"/v1/tasks/{task_id}/events", headers=headers) as answer:
            if answer.status != 200:
                raise Refused(answer.status, await answer.json(content_type=None))
            fields: dict[str, str] = {}
            async for raw in answer.content:
                if line := raw.decode().rstrip("\n"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    now = asyncio.get_running_loop().time()
                    yield Message(fields["event"], int(fields["id"]), json.loads(fields["data"]), now)
                    fields = {}

    async def until(self, task_id: str, *statuses: str, seconds: float = 60) -> Task:
        """The task once it has one of these states, told by its events."""
        async with asyncio.timeout(seconds):
            async for message in self.events(task_id):
                if message.task["status"] in statuses:
                    return message.task
        task = await self.task(task_id)
        raise AssertionError(f"the task ended as {task['status']}: {task['error']}")

    async def ended(self, task_id: str, *, seconds: float = 60) -> Task:
        """The task once it has ended, told by its events."""
        return await self.until(task_id, "completed", "failed", "cancelled", "timed_out", seconds=seconds)

    async def completed(self, task_id: str, *, seconds: float = 60) -> File:
        """The file of a task that must complete."""
        task = await self.ended(task_id, seconds=seconds)
        assert task["status"] == "completed", task
        assert task["result"] is not None
        file: File = task["result"]["file"]
        return file

    async def content(self, file: File) -> Content:
        """The bytes of a file, as anybody gets them."""
        digest, crc, size = hashlib.sha256(), 0, 0
        async with self.session.get(f"/v1/files/{file['id']}/content") as answer:
            assert answer.status == 200, answer
            async for chunk in answer.content.iter_chunked(1 << 20):
                digest.update(chunk)
                crc = zlib.crc32(chunk, crc)
                size += len(chunk)
        return Content(size, digest.hexdigest(), crc)

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[Socket]:
        """A WebSocket to the feed."""
        async with self.session.ws_connect("/v1/ws", max_msg_size=0) as socket:
            yield Socket(socket)
