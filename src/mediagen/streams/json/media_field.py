"""Media embedded in text: the base64 field of a JSON document that is still arriving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from mediagen.core.errors import InvalidRequest
from mediagen.streams.base import KIB, Source, View
from mediagen.streams.json.base64 import DataUriDecoder
from mediagen.streams.json.scanner import JsonFieldScanner, Pointer, Rules

_CHUNK: Final = 256 * KIB
_PIECE: Final = 16 * KIB
"""Bytes of structure after which the other tasks of the loop get their turn."""


class EmbeddedMedia:
    """Takes the bytes of one base64 field out of a JSON document; base64 alone or as a ``data:`` URI.

    ``chunks`` gives the decoded bytes as they come. Once it has ended: ``document`` is the rest of the JSON, with an
    empty string in the field's place, and ``media_type`` what a ``data:`` URI said.
    """

    def __init__(self, document: AsyncIterator[bytes], pointer: Pointer, rules: Rules | None = None) -> None:
        self._incoming = document
        self._scanner = JsonFieldScanner(pointer, rules)
        self._decoder = DataUriDecoder()
        self._pointer = pointer
        self._decoded = False

    @property
    def found(self) -> bool:
        return self._scanner.found

    @property
    def document(self) -> Any:
        return self._scanner.document

    @property
    def media_type(self) -> str | None:
        return self._decoder.media_type

    async def chunks(self, *, required: bool = True) -> AsyncIterator[View]:
        """The decoded bytes; none when the field is not there and not ``required``.

        Raises:
            InvalidBase64, InvalidRequest: and then nothing of what was given may be kept.
        """
        async for data in self._incoming:
            start = 0
            while start < len(data):
                size = _CHUNK if self._scanner.in_field else _PIECE
                piece = data[start : start + size]
                start += size
                for text in self._scanner.feed(piece):
                    if decoded := self._decoder.feed(text):
                        yield decoded
                if self._scanner.complete and not self._decoded:
                    self._decoded = True
                    if last := self._decoder.finish():
                        yield last
                await asyncio.sleep(0)
        self._scanner.finish()
        if required and not self._scanner.found:
            raise InvalidRequest(f"no text at {'/' + '/'.join(self._pointer)!r} in the JSON document")


async def chunks_of(source: Source) -> AsyncIterator[bytes]:
    """A source as an iterator of chunks."""
    scratch = memoryview(bytearray(min(_CHUNK, source.size or _CHUNK)))
    while count := await source.read_into(scratch):
        yield bytes(scratch[:count])
