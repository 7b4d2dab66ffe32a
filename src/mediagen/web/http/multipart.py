"""A multipart body cut into its parts while it arrives (RFC 2046 section 5.1.1, RFC 7578).

Content is never joined or kept: it is received into the buffer of whoever reads it, the delimiter is searched there,
and only what may be the beginning of one waits for what follows. What stands outside content is read line by line.
"""

from __future__ import annotations

from typing import Final

from multidict import CIMultiDict

from mediagen.core.errors import InvalidRequest, TooLarge
from mediagen.net.content_disposition import decoded, find_filename, parse_parameters
from mediagen.streams.base import KIB, Source, try_read_from

_PIECE: Final = 256 * KIB
"""Bytes of content searched at a time: they are still in the processor's cache."""
_SMALL: Final = 512
"""Into less room than this nothing is received: a delimiter and its beginning must fit."""
_SCRATCH: Final = 16 * KIB
_MAX_LINE: Final = 8190
_MAX_BOUNDARY: Final = 70
_MAX_HEADERS: Final = 32


class Part:
    """A part of a body: its headers, and its content as a source. It must be read before the next one is asked for."""

    size: int | None = None

    def __init__(self, parts: Parts, headers: CIMultiDict[str]) -> None:
        self._parts = parts
        self.headers = headers
        parameters = parse_parameters(headers.get("Content-Disposition", ""))
        self.name = parameters.get("name")
        self.filename = find_filename(parameters)

    async def read_into(self, buffer: memoryview, /) -> int:
        return await self._parts.content_into(buffer)

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        return self._parts.take_content(buffer, within=within)


class Parts:
    """The parts of a body, one after another.

    Args:
        boundary: as the ``Content-Type`` of the body says.
        max_lines: how many lines may stand outside content; each costs time of the event loop.
        max_rest: bytes that may stand outside content, what ``skip`` reads over among them.

    Raises from its reads:
        InvalidRequest: this is no multipart body, or its end is missing.
        TooLarge: more than ``max_rest`` bytes.
        Whatever ``source`` raises.
    """

    def __init__(self, source: Source, boundary: str, *, max_lines: int, max_rest: int) -> None:
        if not boundary or len(boundary) > _MAX_BOUNDARY:
            raise _no_form(f"a boundary has 1 to {_MAX_BOUNDARY} characters")
        self._source = source
        self._dashed = b"--" + boundary.encode("utf-8", "surrogateescape")
        self._delimiter = b"\r\n" + self._dashed
        self._max_lines = max_lines
        self._max_rest = max_rest
        self._lines_left = max_lines
        self._rest_left = max_rest
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._came = b""
        """Bytes that have come, from ``_at`` on not looked at yet."""
        self._at = 0
        self._held = b""
        """The end of what was searched, when a delimiter may begin there."""
        self._found = memoryview(b"")
        """Content for which there was too little room."""
        self._in_content = False
        self._begun = False
        self._ended = False

    async def next(self) -> Part | None:
        """The part after the last one, whose content must have been read; None: there is none."""
        if self._ended:
            return None
        if self._in_content:
            raise RuntimeError("the content of the last part has not been read")
        line = await self._line()
        if not self._begun:
            self._begun = True
            while line.rstrip() not in (self._dashed, self._dashed + b"--"):
                line = await self._line()
            line = line[len(self._dashed) :]
        # a delimiter is one in whatever line it begins, see the grammar: what follows shows whether it was meant
        if line.rstrip() == b"--":
            self._ended = True
            return None
        if line.rstrip():
            raise _no_form("there is something behind a boundary")
        part = Part(self, await self._headers())
        await self._ahead(len(self._delimiter))
        if self._came.startswith(self._dashed, self._at):  # no content, not even a line's end
            self._at += len(self._dashed)
        else:
            self._in_content = True
        return part

    async def skip(self) -> None:
        """Read over the content of the present part."""
        while count := await self.content_into(self._scratch):
            self._beside(count)

    async def finish(self) -> None:
        """Read over what follows the last part, which has no meaning."""
        self._beside(len(self._came) - self._at)
        self._came, self._at = b"", 0
        while count := await self._source.read_into(self._scratch):
            self._beside(count)

    async def content_into(self, buffer: memoryview) -> int:
        """As ``Source.read_into``, of the present part."""
        while True:
            if self._found:
                return self._give(buffer)
            if not self._in_content:
                return 0
            if len(buffer) < _SMALL:
                scratch = memoryview(bytearray(_SCRATCH))
                self._found = scratch[: await self._receive(scratch)]
            elif count := await self._receive(buffer[:_PIECE]):
                return count

    def take_content(self, buffer: memoryview, *, within: float) -> int:
        """As ``SupportsTryRead.try_read``, of the present part."""
        if not self._in_content or self._found or self._at < len(self._came) or len(buffer) < _SMALL:
            return 0
        held = len(self._held)
        count = try_read_from(self._source, buffer[held:_PIECE], within=within)
        return self._searched(buffer[: held + count]) if count else 0

    def _give(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._found))
        buffer[:count] = self._found[:count]
        self._found = self._found[count:]
        return count

    async def _receive(self, buffer: memoryview) -> int:
        """Content put into ``buffer``, perhaps none. Nothing is lost when the source fails or is cancelled."""
        held = len(self._held)
        if self._at < len(self._came):
            count = min(len(buffer) - held, len(self._came) - self._at)
            buffer[held : held + count] = self._came[self._at : self._at + count]
            self._at += count
        else:
            count = await self._source.read_into(buffer[held:])
            if not count:
                raise _no_form("it ends in the content of a part")
        return self._searched(buffer[: held + count])

    def _searched(self, view: memoryview) -> int:
        """How much of ``view`` is content for certain. Its first bytes are still to be filled with those held back."""
        view[: len(self._held)] = self._held
        data = view.tobytes()  # for only bytes can be searched; a copy within the cache
        end = data.find(self._delimiter)
        if end >= 0:
            self._came, self._at = data[end + len(self._delimiter) :] + self._came[self._at :], 0
            self._held = b""
            self._in_content = False
            return end
        tail = data[-len(self._delimiter) + 1 :]
        start = tail.find(b"\r")
        while start >= 0 and not self._delimiter.startswith(tail[start:]):
            start = tail.find(b"\r", start + 1)
        self._held = tail[start:] if start >= 0 else b""
        return len(data) - len(self._held)

    async def _headers(self) -> CIMultiDict[str]:
        headers: CIMultiDict[str] = CIMultiDict()
        while line := (await self._line()).rstrip(b"\r\n"):
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip() or len(headers) >= _MAX_HEADERS:
                raise _no_form("a part has headers that are none, or too many")
            headers.add(decoded(name), decoded(value.strip(b" \t")))
        return headers

    async def _line(self) -> bytes:
        """The next line with its end."""
        self._lines_left -= 1
        if self._lines_left < 0:
            raise InvalidRequest(f"the form has more than {self._max_lines} lines outside its file")
        searched = 0
        while (end := self._came.find(b"\n", self._at + searched) + 1) == 0:
            searched = len(self._came) - self._at
            if searched > _MAX_LINE:
                break
            if not await self._more():
                if not searched:
                    raise _no_form("its last boundary is missing")
                end = len(self._came)  # the very last boundary may be without one
                break
        if end == 0 or end - self._at > _MAX_LINE:
            raise _no_form(f"it has a line of more than {_MAX_LINE} bytes")
        line = self._came[self._at : end]
        self._beside(len(line))
        self._at = end
        return line

    async def _ahead(self, count: int) -> None:
        """Have ``count`` bytes at hand, fewer at the end."""
        while len(self._came) - self._at < count and await self._more():
            pass

    async def _more(self) -> bool:
        count = await self._source.read_into(self._scratch)
        self._came, self._at = self._came[self._at :] + self._scratch[:count].tobytes(), 0
        return count > 0

    def _beside(self, count: int) -> None:
        self._rest_left -= count
        if self._rest_left < 0:
            raise TooLarge(f"the form has more than {self._max_rest} bytes besides its file")


def _no_form(reason: str) -> InvalidRequest:
    return InvalidRequest(
        "the multipart/form-data body is incomplete: its boundary is not the announced one, or its end is missing",
        reason=reason,
    )
