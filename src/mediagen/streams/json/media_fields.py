"""Media embedded in a JSON document as base64, decoded while the document arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

from mediagen.core.errors import InvalidRequest, TooLarge
from mediagen.streams.base import KIB, View
from mediagen.streams.json.base64 import DataUriDecoder
from mediagen.streams.json.scanner import JsonFieldScanner, Pointer, Rules

_CHUNK: Final = 256 * KIB
_PIECE: Final = 16 * KIB
"""Bytes of structure after which the other tasks of the event loop get their turn."""
_MAX_TEXT: Final = 16 * KIB
"""Characters of a field that is text, not media."""
_REFUSALS: Final = 2
"""Pieces of a field that do not decode as they are, after which no more are tried: it has escapes or spaces."""

_Event: TypeAlias = tuple[Literal["begin", "text", "decoded", "end"], View]
Decode: TypeAlias = Callable[[View], tuple[bytes, bytes] | None]


class MediaField:
    """One field. Read it with ``chunks`` or ``text``, once, before the next field is requested."""

    def __init__(self, owner: MediaFields, place: Pointer, start: bytes) -> None:
        self.place = place
        """Its path, each token as text: ``("data", "0", "b64_json")``."""
        self._start = start
        self._owner = owner
        self._decoder = DataUriDecoder()

    @property
    def media_type(self) -> str | None:
        """The type in a ``data:`` URI; known with the first chunk."""
        return self._decoder.media_type

    async def peek(self, count: int) -> bytes:
        """Its first ``count`` characters, fewer when it is shorter."""
        while len(self._start) < count and (text := await self._owner.next_text(self)) is not None:
            self._start += bytes(text)
        return self._start[:count]

    async def chunks(self) -> AsyncIterator[View]:
        """The decoded bytes. Raises InvalidBase64, InvalidRequest."""
        if self._start and (decoded := self._decoder.feed(self._start)):
            yield decoded
        while (piece := await self._owner.next_piece(self, self._decoder.feed_clean)) is not None:
            is_decoded, data = piece
            if not is_decoded:
                data = self._decoder.feed(data)
            if data:
                yield data
        if last := self._decoder.finish():
            yield last

    async def text(self) -> str:
        """The field as text. Raises TooLarge above 16 Ki characters, InvalidRequest when it is not UTF-8."""
        whole = bytearray()
        async for piece in self._texts():
            whole += piece
            if len(whole) > _MAX_TEXT:
                raise TooLarge(f"a text of more than {_MAX_TEXT} characters in place of a URL")
        try:
            return whole.decode()
        except UnicodeDecodeError:
            raise InvalidRequest("a text is not UTF-8") from None

    async def _texts(self) -> AsyncIterator[View]:
        if self._start:
            yield self._start
        while (text := await self._owner.next_text(self)) is not None:
            yield text


class MediaFields:
    """Takes the fields that fit ``patterns`` out of a JSON document; the arguments are those of ``JsonFieldScanner``.

    ``document`` is the rest, parsed, once ``fields`` has ended; ``rest`` is its text so far.
    """

    def __init__(
        self,
        document: AsyncIterator[bytes],
        patterns: Sequence[Pointer],
        rules: Rules | None = None,
        *,
        only_first: bool = False,
    ) -> None:
        self._scanner = JsonFieldScanner(patterns, rules, only_first=only_first)
        self._events = self._scan(document)
        self._present: MediaField | None = None
        self._decode: Decode | None = None

    @property
    def found(self) -> bool:
        """Whether a field has begun, be it an empty one."""
        return self._scanner.found

    @property
    def document(self) -> Any:
        return self._scanner.document

    @property
    def rest(self) -> bytes:
        return self._scanner.rest

    async def fields(self) -> AsyncIterator[MediaField]:
        """The fields, in document order; empty ones are left out. Raises InvalidRequest when the JSON is incomplete."""
        async for kind, text in self._events:
            if kind == "begin":
                field = self._present = MediaField(self, self._scanner.place, bytes(text))
                yield field
                while await self.next_text(field) is not None:
                    pass  # skip what was not read

    async def next_text(self, field: MediaField) -> View | None:
        """More text of the field; None at its end."""
        piece = await self.next_piece(field, None)
        return None if piece is None else piece[1]

    async def next_piece(self, field: MediaField, decode: Decode | None) -> tuple[bool, View] | None:
        """As ``next_text``, with False; or the result of ``decode``, with True.

        ``decode`` returns None for text that it cannot decode as it is. Text that it can decode has neither a quote nor
        an escape in it, so it need not be scanned for them.
        """
        if self._present is not field:
            return None
        self._decode = decode
        async for kind, data in self._events:
            if kind in ("text", "decoded"):
                return kind == "decoded", data
            break
        self._present = None
        return None

    async def aclose(self) -> None:
        """Stop reading."""
        self._present = None
        await self._events.aclose()

    async def _scan(self, document: AsyncIterator[bytes]) -> AsyncGenerator[_Event]:
        scanner = self._scanner
        begun, is_open = 0, False
        refused = 0
        async for data in document:
            start = 0
            while start < len(data):
                size = _CHUNK if scanner.in_field else _PIECE
                piece = data[start : start + size]
                start += size
                if is_open and self._decode is not None and scanner.between and refused < _REFUSALS:
                    if (decoded := self._decode(piece)) is not None:
                        for part in filter(None, decoded):
                            yield "decoded", part
                        await asyncio.sleep(0)
                        continue
                    refused += 1
                for text in scanner.feed(piece):
                    if scanner.begun != begun:
                        if is_open:
                            yield "end", b""
                        begun, is_open = scanner.begun, True
                        refused = 0
                        yield "begin", text
                    else:
                        yield "text", text
                    if not scanner.in_field:
                        is_open = False
                        yield "end", b""
                if is_open and not scanner.in_field:
                    is_open = False
                    yield "end", b""
                await asyncio.sleep(0)
        scanner.finish()
        if is_open:
            raise InvalidRequest("the JSON document ends inside a field")


class EmbeddedMedia:
    """The media of one field of a JSON document, in base64 or as a ``data:`` URI.

    Once ``chunks`` has ended, ``document`` is the rest of the JSON, with an empty string in place of the field.
    """

    def __init__(self, document: AsyncIterator[bytes], pointer: Pointer, rules: Rules | None = None) -> None:
        self._fields = MediaFields(document, [pointer], rules, only_first=True)
        self._pointer = pointer
        self._field: MediaField | None = None

    @property
    def found(self) -> bool:
        return self._fields.found

    @property
    def document(self) -> Any:
        return self._fields.document

    @property
    def media_type(self) -> str | None:
        """The type in a ``data:`` URI; known with the first chunk."""
        return None if self._field is None else self._field.media_type

    async def chunks(self, *, required: bool = True) -> AsyncIterator[View]:
        """The decoded bytes as they come. Without the field there are none, or, if it is ``required``, an error.

        Raises:
            InvalidBase64, InvalidRequest: none of the bytes so far may be kept.
        """
        try:
            async for field in self._fields.fields():
                self._field = field
                async for piece in field.chunks():
                    yield piece
        finally:
            await self._fields.aclose()
        if required and not self.found:
            raise InvalidRequest(f"no text at {'/' + '/'.join(self._pointer)!r} in the JSON document")
