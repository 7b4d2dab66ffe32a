"""A receiver of webhooks that does what a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from tests.infra.resource import Answer
from tests.infra.servers.faults import HangUp
from tests.infra.servers.http_messages import Body, Head, read_head, send
from tests.infra.servers.listener import Listener, send_reset

Reply = Answer | Literal["hang", "reset", "stall"]
"""``hang``: no answer until ``Receiver.release``; ``stall``: 200, a little of its body, and then the same."""

TAKEN = Answer(200, {}, b"thanks")


@dataclass(frozen=True, slots=True)
class Event:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


@dataclass(slots=True)
class _Place:
    replies: deque[Reply] = field(default_factory=deque)
    always: Reply = TAKEN
    running: int = 0
    most: int = 0


class Receiver:
    """Listens on a free loopback port inside ``async with``. What was not told otherwise is answered 200."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._listener = Listener(self._serve, host=host)
        self._host = host
        self._places: dict[str, _Place] = {}
        self._changed = asyncio.Condition()
        self._released = asyncio.Event()
        self.events: list[Event] = []
        """All requests, as they came."""

    async def __aenter__(self) -> Receiver:
        await self._listener.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._listener.close()

    @property
    def port(self) -> int:
        return self._listener.port

    def url(self, path: str = "/hook") -> str:
        return f"http://{self._host}:{self.port}{path}"

    def replies(self, *replies: Reply, path: str = "/hook", always: Reply = TAKEN) -> str:
        """Answer like this at ``path``, in order, and then ``always``; gives its URL."""
        self._places[path] = _Place(deque(replies), always)
        return self.url(path)

    def at(self, path: str = "/hook") -> list[Event]:
        """What came to ``path``."""
        return [event for event in self.events if event.path == path]

    def most_at_once(self, path: str = "/hook") -> int:
        """How many requests were open at ``path`` at the same time."""
        return self._place(path).most

    def release(self) -> None:
        """Let hanging answers go on, with 200."""
        self._released.set()

    async def reaches(self, holds: Callable[[], bool], timeout: float = 20) -> None:
        """Wait until that is true; looked at whenever a request comes or is answered."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(holds)

    def _place(self, path: str) -> _Place:
        return self._places.setdefault(path, _Place())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await read_head(reader)) is not None:
                body = b"".join([chunk async for chunk in Body.of_request(head, reader).payload()])
                path = head.target
                place = self._place(path)
                self.events.append(Event(path, head.headers(), body))
                place.running += 1
                place.most = max(place.most, place.running)
                await self._tell()
                try:
                    await self._reply(place.replies.popleft() if place.replies else place.always, writer)
                finally:
                    place.running -= 1
                    await self._tell()
        except HangUp:
            await send_reset(writer)

    async def _reply(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        if reply == "reset":
            raise HangUp(reset=True)
        if reply == "hang":
            await self._released.wait()
            reply = TAKEN
        if reply == "stall":
            await send(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nso far")
            await self._released.wait()
            raise HangUp(reset=True)
        head = Head(f"HTTP/1.1 {reply.status} Said", list(reply.headers.items()))
        head.set("Content-Length", len(reply.body))
        await send(writer, head.encode() + reply.body)
