"""Files out of HTML forms (multipart/form-data, RFC 7578), streamed by aiohttp's own reader of multipart bodies.

That reader has no limits of its own in seconds, bytes or lines; it gets them by what it reads from (``_Arriving``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final, cast

from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from mediagen.core.errors import InvalidRequest, TooLarge
from mediagen.streams.base import KIB, MIB
from mediagen.web.bodies import BodyLimits, Pace, invite
from mediagen.web.problems import EncodedBody

FIELD: Final = "file"
_CHUNK: Final = 256 * KIB
_READ_AHEAD: Final = MIB
"""Bytes that the reader may have taken in and not given out yet."""
_MAX_PARTS: Final = 100
_MAX_LINES: Final = 2000
"""Lines outside content: boundaries, headers, what stands before the first boundary. Each costs time of the loop."""
_PLAIN: Final = frozenset({"", "binary", "8bit", "7bit"})


class _Arriving:
    """What ``MultipartReader`` asks of a ``StreamReader``, over the body of a request, with limits.

    Raises from its reads:
        TooLarge: more than ``max_rest`` bytes came that are no file content.
        InvalidRequest: too many lines, or the body broke off.
        BodyStalled
    """

    def __init__(self, request: web.Request, limits: BodyLimits, *, max_rest: int) -> None:
        self._content = request.content
        self._pace = Pace(limits)
        self._max_rest = max_rest
        self._allowed = max_rest + _READ_AHEAD
        self._lines = 0
        self._back = b""

    def at_eof(self) -> bool:
        return not self._back and self._content.at_eof()

    def unread_data(self, data: bytes) -> None:
        """Give bytes back, to be read again."""
        self._back = data + self._back

    async def read(self, count: int = -1) -> bytes:
        if self._back:
            data, self._back = (self._back, b"") if count < 0 else (self._back[:count], self._back[count:])
            return data
        return self._counted(await self._pace.wait(self._content.read(count)))

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        self._lines += 1
        if self._lines > _MAX_LINES:
            raise InvalidRequest(f"the form has more than {_MAX_LINES} lines outside its file")
        if (end := self._back.find(b"\n") + 1) > 0:
            line, self._back = self._back[:end], self._back[end:]
            return line
        line, self._back = self._back, b""
        more = self._content.readline(max_line_length=max_line_length)
        return line + self._counted(await self._pace.wait(more))

    def allow(self, count: int) -> None:
        """So many bytes of what came were content of the file."""
        self._allowed += count

    def _counted(self, data: bytes) -> bytes:
        if data:
            self._pace.count(len(data))
        self._allowed -= len(data)
        if self._allowed < 0:
            raise TooLarge(f"the form has more than {self._max_rest} bytes beside its file")
        return data


class Form:
    """A form that arrives. Its one file is in the field ``file``; other fields are read over.

    ``max_rest``: bytes that it may have beside the file.
    """

    def __init__(self, request: web.Request, limits: BodyLimits, *, max_rest: int) -> None:
        self._request = request
        self._body = _Arriving(request, limits, max_rest=max_rest)
        self._parts = 0
        with _understood():
            # it is given all that it uses of a StreamReader
            self._reader = MultipartReader(request.headers, cast(StreamReader, self._body))

    async def file(self) -> FormFile:
        """The file; its content is still to come.

        Raises:
            InvalidRequest: the form has no such field, or is no form.
            TooLarge, BodyStalled, EncodedBody
        """
        await invite(self._request)
        while (part := await self._next()) is not None:
            if part.name == FIELD:
                _check_plain(part)
                return FormFile(part, self._chunks(part))
            await self._skip(part)
        raise InvalidRequest(f"the form has no field {FIELD!r}", field=FIELD)

    async def _chunks(self, part: BodyPartReader) -> AsyncIterator[bytes]:
        """The content of the file. The form is read to its end before the content ends: it may be wrong until then."""
        size = 0
        while not part.at_eof():
            chunk = await self._read(part)
            if chunk:
                size += len(chunk)
                self._body.allow(len(chunk))
                yield chunk
        if not size and part.filename == "":
            raise InvalidRequest("no file was chosen", field=FIELD)  # what browsers send then
        while (other := await self._next()) is not None:
            if other.name == FIELD:
                raise InvalidRequest(f"the form has more than one field {FIELD!r}", field=FIELD)
            await self._skip(other)
        while not self._body.at_eof():
            await self._body.read(_CHUNK)

    async def _next(self) -> BodyPartReader | None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise InvalidRequest(f"the form has more than {_MAX_PARTS} fields")
        with _understood():
            part = await self._reader.next()
            if part is None:
                return None
            if not part.headers:
                raise ValueError("the body ends where a part should begin")
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise InvalidRequest("every part of a form is a field with a name in its Content-Disposition")
        return part

    async def _skip(self, part: BodyPartReader) -> None:
        if part.filename:
            raise InvalidRequest(f"only the field {FIELD!r} may hold a file", field=FIELD)
        while not part.at_eof():
            await self._read(part)

    async def _read(self, part: BodyPartReader) -> bytes:
        with _understood():
            return await part.read_chunk(_CHUNK)


class FormFile:
    """The file of a form: what the form says of it, and ``chunks``, its content as it comes."""

    def __init__(self, part: BodyPartReader, chunks: AsyncIterator[bytes]) -> None:
        self.filename = part.filename or ""
        self.media_type = part.headers.get("Content-Type")
        self.chunks = chunks


@contextmanager
def _understood() -> Iterator[None]:
    """Say InvalidRequest for everything by which aiohttp tells that a body is not what it should be."""
    try:
        yield
    except (ValueError, AssertionError, RuntimeError, HttpProcessingError, Warning) as exc:
        raise InvalidRequest(
            "this is no whole multipart/form-data body: its boundary is not the announced one, or its end is missing",
            reason=str(exc)[:200],
        ) from exc


def _check_plain(part: BodyPartReader) -> None:
    """Raise EncodedBody for content that would have to be unpacked or decoded (RFC 7578 section 4.7)."""
    for name in ("Content-Transfer-Encoding", "Content-Encoding"):
        coding = part.headers.get(name, "").strip().lower()
        if coding not in _PLAIN and coding != "identity":
            raise EncodedBody(f"send the file without {name} (this one has {coding[:40]!r})")
