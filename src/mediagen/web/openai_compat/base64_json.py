"""JSON with media in it as base64, written while the media are read: memory stays flat whatever their size."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pybase64
from aiohttp import web

from mediagen.core.errors import StorageUnavailable
from mediagen.core.files import File
from mediagen.core.text import repaired
from mediagen.storage.base import Storage
from mediagen.streams.base import Source, fill

_STEP: Final = 3 * 512 * 1024
"""Bytes encoded at a time: a multiple of three, so that the pieces join without padding between them. Most pictures
are one or two of them, and each is a turn of a thread."""
_MARK: Final = f"\x00{secrets.token_hex(8)}:"
"""Stands for base64 in a document; nobody outside knows it."""


@dataclass(frozen=True, slots=True)
class Base64Content:
    """Bytes that can be read: how many, and how."""

    size: int
    open: Callable[[], AbstractAsyncContextManager[Source]]


def open_stored(files: Sequence[File], storage: Storage) -> list[Base64Content]:
    """Files in the store."""
    return [Base64Content(file.bytes, partial(storage.open_source, file.key)) for file in files]


def placeholder(index: int) -> str:
    """What ``write`` replaces by the base64 of the medium with that index."""
    return f"{_MARK}{index}"


async def write(document: Any, media: Sequence[Base64Content], response: web.StreamResponse) -> None:
    """Write the document as JSON, with the base64 of media where they are marked.

    Raises:
        NotFound, StorageUnavailable: and the text is not whole.
    """
    await _write(_cut(document, media), response)


async def respond(
    request: web.Request, document: Any, media: Sequence[Base64Content], headers: dict[str, str]
) -> web.StreamResponse:
    """The document as an answer."""
    cut = _cut(document, media)
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/json"
    response.charset = "utf-8"
    response.content_length = sum(len(piece) if isinstance(piece, bytes) else -(-piece.size // 3) * 4 for piece in cut)
    await response.prepare(request)
    await _write(cut, response)
    await response.write_eof()
    return response


async def _write(cut: Sequence[bytes | Base64Content], response: web.StreamResponse) -> None:
    largest = max((piece.size for piece in cut if not isinstance(piece, bytes)), default=0)
    buffer = memoryview(bytearray(min(_STEP, -(-largest // 3) * 3 or 3)))
    for piece in cut:
        if isinstance(piece, bytes):
            await response.write(piece)
            continue
        left = piece.size
        async with piece.open() as source:
            while left:
                block = buffer[: min(left, len(buffer))]
                if await fill(source, block) < len(block):
                    raise StorageUnavailable("a stored image is shorter than recorded")
                left -= len(block)
                await response.write(pybase64.b64encode(block))


def _cut(document: Any, media: Sequence[Base64Content]) -> list[bytes | Base64Content]:
    """The text of the document, media standing for themselves."""
    first, *rest = json.dumps(repaired(document)).split(json.dumps(_MARK)[1:-1])
    cut: list[bytes | Base64Content] = [first.encode()]
    for text in rest:
        index, quote, after = text.partition('"')
        cut += [media[int(index)], (quote + after).encode()]
    return cut
