"""A vendor's API on loopback: scripted answers for each call, real bytes, faults of the wire; and what it was asked."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from http import HTTPStatus
from types import TracebackType
from typing import Any, TypeAlias

from tests.infra.servers.faults import HangUp
from tests.infra.servers.http_messages import Body, Head, read_head, send
from tests.infra.servers.journal import Journal
from tests.infra.servers.listener import Listener, LoopThread, send_reset


@dataclass(frozen=True, slots=True)
class Say:
    """An answer: a JSON value, text or bytes; and what goes wrong with it.

    ``lost``: the request is taken, the connection ends without an answer. ``cut``: so many bytes of the body come, then
    the connection breaks. ``deaf``: the body of the request is not read. ``silent``: nothing comes; ``stall``: nothing
    after so many bytes of the body; both until ``release``. ``last``: the connection is not used again, and
    ``Asked.taken`` tells when the other side has read the answer. ``endless``: the body is followed by this, again and
    again. ``pieces``: bytes of each write, so that pieces end
    anywhere. ``delay``: seconds before the answer, and again in the middle of it.
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    lost: bool = False
    cut: int | None = None
    deaf: bool = False
    silent: bool = False
    stall: int | None = None
    last: bool = False
    endless: bytes = b""
    pieces: int = 1 << 16
    delay: float = 0.0

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


@dataclass(slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes
    at: float = field(default_factory=time.monotonic)
    taken: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, list[bytes]]:
        """Fields of a form, files among them, by name."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        found: dict[str, list[bytes]] = {}
        for part in message_from_bytes(head + self.body).get_payload():
            assert not isinstance(part, str)
            name = str(part.get_param("name", header="content-disposition"))
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            found.setdefault(name, []).append(content)
        return found


@dataclass(slots=True)
class Crowd:
    """A call of which so many are taken at once, each for some seconds; more are refused."""

    at_once: int
    seconds: float
    refusal: Say
    inside: int = 0
    open: int = 0
    """Requests that wait for an answer, those that will be refused among them."""
    most_open: int = 0
    taken: int = 0
    refused: int = 0

    async def answer(self, usual: Say) -> Say:
        """After a moment, so that all that comes together is seen together."""
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if self.inside >= self.at_once:
                self.refused += 1
                await asyncio.sleep(0.01)
                return self.refusal
            self.inside += 1
            self.taken += 1
            try:
                await asyncio.sleep(self.seconds)
            finally:
                self.inside -= 1
            return usual
        finally:
            self.open -= 1


Answers: TypeAlias = Say | Callable[[Asked], Say]
"""An answer, or what makes one of what is asked."""


class VendorServer:
    """Runs inside ``with``. The last answer of a call is repeated."""

    def __init__(self) -> None:
        self._thread = LoopThread("vendor")
        self._listener = Listener(self._serve)
        self._script: list[tuple[str, re.Pattern[str], list[Answers]]] = []
        self._crowds: dict[tuple[str, str], Crowd] = {}
        self._go = asyncio.Event()
        self.asked: Journal[Asked] = Journal()

    def __enter__(self) -> VendorServer:
        self._thread.start()
        self._thread.run(self._listener.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._listener.close())
        self._thread.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.port}"

    def release(self) -> None:
        """What is silent or stalls goes on, and nothing is any more."""
        self._thread.call(self._go.set)

    def on(self, method: str, path: str, *answers: Answers) -> None:
        """Answer a method and a path (a pattern for all of it) so; in front of what was said before."""
        self._script.insert(0, (method, re.compile(path), list(answers)))

    def crowd(self, method: str, path: str, at_once: int, refusal: Say, *, seconds: float = 0.05) -> Crowd:
        """Let this call be made only so often at once."""
        return self._crowds.setdefault((method, path), Crowd(at_once, seconds, refusal))

    def calls(self, method: str, path: str = ".*") -> list[Asked]:
        """What was asked so far."""
        return [each for each in self.asked if each.method == method and re.fullmatch(path, each.path)]

    def _answer(self, method: str, path: str) -> Answers:
        for wanted, pattern, answers in self._script:
            if wanted == method and pattern.fullmatch(path):
                return answers.pop(0) if len(answers) > 1 else answers[0]
        return Say({"error": {"message": f"no {method} {path} in the script", "code": "not_scripted"}}, 404)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await read_head(reader)) is not None:
                path, _, query = head.target.partition("?")
                say = self._answer(head.method, path)
                deaf = isinstance(say, Say) and say.deaf
                body = b"" if deaf else b"".join([chunk async for chunk in Body.of_request(head, reader).payload()])
                asked = self.asked.append(Asked(head.method, path, query, head.headers(), body))
                if deaf:
                    await asyncio.Event().wait()
                say = say if isinstance(say, Say) else say(asked)
                if (crowd := self._crowds.get((head.method, path))) is not None:
                    say = await crowd.answer(say)
                await self._say(say, writer)
                if say.last:
                    asked.taken = not await reader.read()
                    self.asked.changed()
                if say.last or head.has_token("Connection", "close"):
                    break
        except HangUp as exc:
            if exc.reset:
                await send_reset(writer)

    async def _say(self, say: Say, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(say.delay)
        if say.silent:
            await self._go.wait()
        if say.lost:
            raise HangUp(reset=True)
        content = say.content
        head = Head(f"HTTP/1.1 {say.status} {HTTPStatus(say.status).phrase if say.status < 512 else 'Odd'}")
        head.fields = [("Content-Type", say.media_type), ("Content-Length", str(len(content))), *say.headers.items()]
        if say.last:
            head.set("Connection", "close")
        if say.endless:
            head.drop("Content-Length")
            head.set("Connection", "close")
        await send(writer, head.encode())
        if say.stall is not None:
            await _in_pieces(writer, content[: say.stall], say.pieces)
            await self._go.wait()
            content = content[say.stall :]
        middle = len(content) // 2 if say.delay else 0
        await _in_pieces(writer, content[:middle], say.pieces)
        await asyncio.sleep(say.delay)
        await _in_pieces(writer, content[middle : say.cut], say.pieces)
        while say.endless:
            await send(writer, say.endless)
        if say.cut is not None:
            raise HangUp(reset=True)


async def _in_pieces(writer: asyncio.StreamWriter, content: bytes, size: int) -> None:
    for start in range(0, len(content), size):
        await send(writer, content[start : start + size])
