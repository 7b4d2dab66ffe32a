"""Several media embedded in one JSON document that is still arriving, each decoded on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

from mediagen.core.errors import InvalidRequest, TooLarge
from mediagen.streams.base import KIB, View
from mediagen.streams.json.base64 import DataUriDecoder
from mediagen.streams.json.scanner import JsonFieldsScanner, Pointer, Rules

_CHUNK: Final = 256 * KIB
_PIECE: Final = 16 * KIB
"""Bytes of structure after which the other tasks of the loop get their turn."""
_MAX_TEXT: Final = 16 * KIB
"""Characters of a field that is text and no media."""

_REFUSALS: Final = 2
"""Pieces of a field that do not decode as they are, after which no more are tried: it has escapes, or spaces."""

_Event: TypeAlias = tuple[Literal["begin", "text", "decoded", "end"], View]
Decode: TypeAlias = Callable[[View], tuple[bytes, bytes] | None]


class EmbeddedField:
    """One field. ``chunks`` or ``text`` takes it, once; before the next field is asked for."""

    def __init__(self, owner: EmbeddedFields, place: Pointer, start: bytes) -> None:
        self.place = place
        """Where it is, each token as text: ``("data", "0", "b64_json")``."""
        self._start = start
        self._owner = owner
        self._decoder = DataUriDecoder()

    @property
    def media_type(self) -> str | None:
        """What a ``data:`` URI says; known with the first chunk."""
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
        """The field as it stands. Raises TooLarge above 16 Ki characters, InvalidRequest when it is not UTF-8."""
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


class EmbeddedFields:
    """Takes all fields that fit ``patterns`` out of a JSON document; see ``JsonFieldsScanner``.

    ``document`` is the rest, parsed, once ``fields`` has ended; ``rest`` its text so far.
    """

    def __init__(self, document: AsyncIterator[bytes], patterns: Sequence[Pointer], rules: Rules | None = None) -> None:
        self._scanner = JsonFieldsScanner(patterns, rules)
        self._events = self._scan(document)
        self._present: EmbeddedField | None = None
        self._decode: Decode | None = None

    @property
    def document(self) -> Any:
        return self._scanner.document

    @property
    def rest(self) -> bytes:
        return self._scanner.rest

    async def fields(self) -> AsyncIterator[EmbeddedField]:
        """The fields in the order in which they come. Raises InvalidRequest when it is no whole JSON document."""
        async for kind, text in self._events:
            if kind == "begin":
                field = self._present = EmbeddedField(self, self._scanner.place, bytes(text))
                yield field
                while await self.next_text(field) is not None:
                    pass  # what nobody took

    async def next_text(self, field: EmbeddedField) -> View | None:
        """More of the present field; None at its end."""
        piece = await self.next_piece(field, None)
        return None if piece is None else piece[1]

    async def next_piece(self, field: EmbeddedField, decode: Decode | None) -> tuple[bool, View] | None:
        """As ``next_text``; or what ``decode`` makes of it, and True. It gives None for what is not text alone.

        What decodes has neither a quote nor an escape in it, so that it need not be searched for them.
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
