"""Server-sent events whose data may be huge, handed on while they arrive (HTML standard, section 9.2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Final

from mediagen.core.errors import ProviderError

_MAX_FIELD: Final = 1024
"""Bytes of the lines that are no data."""


@dataclass(slots=True)
class Event:
    """One event. Its ``data`` must be taken before the next event; what is left is skipped."""

    name: str
    data: AsyncIterator[bytes]


class Events:
    """The events of a body, in pieces of any size. Comments, ids and times to reconnect are passed over."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._left = b""
        self._ended = False

    async def events(self) -> AsyncGenerator[Event]:
        """All of them; ``[DONE]``, which some send at the end, is none."""
        name = ""
        while (field := await self._field()) is not None:
            if field == b"event":
                name = (await self._rest_of_line()).strip().decode("utf-8", "replace")
            elif field == b"data":
                if (await self._peek(7)).lstrip(b" ").startswith(b"[DONE]"):
                    await self._rest_of_line()
                    continue
                event = Event(name, self._data())
                name = ""
                yield event
                async for _ in event.data:
                    pass
            elif field:
                await self._rest_of_line()

    async def _field(self) -> bytes | None:
        """The name of a line's field, its colon taken; empty for a line without one; None at the end."""
        while True:
            colon, end = self._left.find(b":"), self._left.find(b"\n")
            if end >= 0 and not 0 <= colon < end:
                self._left = self._left[end + 1 :]
                return b""
            if colon >= 0:
                field, self._left = self._left[:colon], self._left[colon + 1 :]
                return field or b"comment"
            if len(self._left) > _MAX_FIELD:
                raise ProviderError("the provider sent a stream of events with a line that has no end")
            if not await self._more():
                return None

    async def _rest_of_line(self) -> bytes:
        line = b""
        async for piece in self._data():
            line = (line + piece)[:_MAX_FIELD]
        return line

    async def _peek(self, count: int) -> bytes:
        while len(self._left) < count and b"\n" not in self._left and await self._more():
            pass
        return self._left[:count]

    async def _data(self) -> AsyncIterator[bytes]:
        """The rest of the present line."""
        while True:
            end = self._left.find(b"\n")
            if end >= 0:
                line, self._left = self._left[:end], self._left[end + 1 :]
                if line := line.rstrip(b"\r"):
                    yield line
                return
            piece, self._left = self._left, b""
            if piece:
                yield piece
            if not await self._more():
                return

    async def _more(self) -> bool:
        if not self._ended:
            chunk = await anext(self._body, None)
            self._ended = chunk is None
            self._left += chunk or b""
        return not self._ended
