"""Server-sent events whose data may be huge, handed on while they arrive (HTML standard, section 9.2).

Lines end with LF, CR or CRLF. An event may have its data in several lines, which are joined by line feeds, and its name
before or after them; it ends with an empty line, and here also with the stream, since what it carries is paid.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from mediagen.core.errors import ProviderError
from mediagen.streams.base import MIB

_MAX_FIELD: Final = 1024
"""Bytes of a field that is no data; what is longer is passed over."""
_MAX_PASSED: Final = 64 * MIB
"""Bytes that are passed over in a row, without any data."""
_NAME_END: Final = re.compile(rb"[:\r\n]")
_BOM: Final = b"\xef\xbb\xbf"


class Event:
    """One event. Its ``data`` must be taken before the next event; what is left is skipped.

    ``name`` is that of the lines so far: all of them once the data have ended.
    """

    data: AsyncIterator[bytes]

    def __init__(self, name: str) -> None:
        self.name = name


class Events:
    """The events of a body, in pieces of any size. Comments, ids, times to reconnect and lines of no meaning are passed
    over."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._left = b""
        self._ended = False
        self._begun = False
        self._after_cr = False
        self._passed = 0

    async def events(self) -> AsyncGenerator[Event]:
        """All that have data; ``[DONE]``, which some send at the end, is none. Raises ProviderError for endless
        noise."""
        name = ""
        while (field := await self._field()) is not None:
            if field == b"event":
                name = await self._short_value()
            elif field == b"data" and not await self._is_mark():
                event = Event(name)
                event.data = self._data(event)
                self._passed = 0
                yield event
                async for _ in event.data:
                    pass
                name = ""
            elif field == b"":
                name = ""
            else:
                await self._short_value()

    async def _is_mark(self) -> bool:
        """Whether the line that follows ``data:`` carries nothing: it is empty, or the mark of the end."""
        await self._fill(8)
        value = self._left.removeprefix(b" ")
        return value.startswith(b"[DONE]") or not value or value[:1] in (b"\r", b"\n")

    async def _data(self, event: Event) -> AsyncIterator[bytes]:
        """The lines of data of one event, the rest of its other lines read on the way."""
        async for piece in self._rest_of_line():
            yield piece
        while (field := await self._field()) is not None:
            if field == b"":
                return
            if field == b"data":
                yield b"\n"
                async for piece in self._rest_of_line():
                    yield piece
            elif field == b"event":
                event.name = await self._short_value()
            else:
                await self._short_value()

    async def _field(self) -> bytes | None:
        """The name of the next line's field, its colon taken; empty for an empty line; None at the end.

        Of a line without a colon the name is all of it; of one that begins with it, a comment, a colon.
        """
        if not self._begun:
            await self._fill(3)
            self._left = self._left.removeprefix(_BOM)
            self._begun = True
        await self._skip_half_of_line_end()
        while (found := _NAME_END.search(self._left)) is None:
            if len(self._left) > _MAX_FIELD:
                return b"noise"
            if not await self._more():
                last, self._left = self._left, b""
                return last or None
        name, end = self._left[: found.start()], found[0]
        if end == b":":
            self._left = self._left[found.end() :]
            return name or b":"
        if not name:
            self._take_line_end(0)
            return b""
        self._left = self._left[found.start() :]
        return name

    async def _short_value(self) -> str:
        """The rest of the present line, as far as it is of use; without data in between there is an end to it."""
        line = b""
        async for piece in self._rest_of_line():
            line = (line + piece)[:_MAX_FIELD]
            self._passed += len(piece)
            if self._passed > _MAX_PASSED:
                raise ProviderError("the provider sent an event stream without events")
        return line.strip().decode("utf-8", "replace")

    async def _rest_of_line(self) -> AsyncIterator[bytes]:
        """The rest of the present line; its end is taken."""
        while True:
            if (end := _line_end(self._left)) >= 0:
                line = self._left[:end]
                self._take_line_end(end)
                if line:
                    yield line
                return
            piece, self._left = self._left, b""
            if piece:
                yield piece
            if not await self._more():
                return

    def _take_line_end(self, at: int) -> None:
        self._after_cr = self._left[at : at + 1] == b"\r"
        self._left = self._left[at + 1 :]

    async def _skip_half_of_line_end(self) -> None:
        """The line feed after a carriage return belongs to it, whenever it comes."""
        if not self._after_cr:
            return
        await self._fill(1)
        self._after_cr = False
        self._left = self._left.removeprefix(b"\n")

    async def _fill(self, count: int) -> None:
        """Have so many bytes, or all that the body still has; a line end is enough."""
        while len(self._left) < count and _line_end(self._left) < 0 and await self._more():
            pass

    async def _more(self) -> bool:
        if not self._ended:
            chunk = await anext(self._body, None)
            self._ended = chunk is None
            self._left += chunk or b""
        return not self._ended


def _line_end(data: bytes) -> int:
    """Where the first line ends; -1: not in this."""
    feed = data.find(b"\n")
    carriage = data.find(b"\r", 0, feed if feed >= 0 else len(data))
    return carriage if carriage >= 0 else feed
