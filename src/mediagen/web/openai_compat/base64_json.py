"""Writes JSON with media in it as base64, reading the media as it goes: memory stays flat whatever their size."""

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
"""Bytes encoded at a time. A multiple of three needs no padding between blocks; most images are one or two blocks, and
each block costs a switch to a thread."""
_MARK: Final = f"\x00{secrets.token_hex(8)}:"
"""Stands for base64 in a document; random, so that no client can send it."""


@dataclass(frozen=True, slots=True)
class Base64Content:
    """Content to encode: its size in bytes, and how to open it."""

    size: int
    open: Callable[[], AbstractAsyncContextManager[Source]]


def file_contents(files: Sequence[File], storage: Storage) -> list[Base64Content]:
    """The contents of files in the store."""
    return [Base64Content(file.bytes, partial(storage.open_source, file.key)) for file in files]


def placeholder(index: int) -> str:
    """The text that ``write`` replaces with the base64 of the content at that index."""
    return f"{_MARK}{index}"


async def write(document: Any, media: Sequence[Base64Content], response: web.StreamResponse) -> None:
    """Write the document as JSON, with base64 in place of its placeholders.

    Raises:
        NotFound, StorageUnavailable: the text is left incomplete.
    """
    await _write(_split(document, media), response)


async def respond(
    request: web.Request, document: Any, media: Sequence[Base64Content], headers: dict[str, str]
) -> web.StreamResponse:
    """Send the document as a response of known length."""
    pieces = _split(document, media)
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/json"
    response.charset = "utf-8"
    response.content_length = sum(
        len(piece) if isinstance(piece, bytes) else -(-piece.size // 3) * 4 for piece in pieces
    )
    await response.prepare(request)
    await _write(pieces, response)
    await response.write_eof()
    return response


async def _write(pieces: Sequence[bytes | Base64Content], response: web.StreamResponse) -> None:
    largest = max((piece.size for piece in pieces if not isinstance(piece, bytes)), default=0)
    buffer = memoryview(bytearray(min(_STEP, -(-largest // 3) * 3 or 3)))
    for piece in pieces:
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


def _split(document: Any, media: Sequence[Base64Content]) -> list[bytes | Base64Content]:
    """The JSON text, split at its placeholders."""
    first, *rest = json.dumps(repaired(document)).split(json.dumps(_MARK)[1:-1])
    pieces: list[bytes | Base64Content] = [first.encode()]
    for text in rest:
        index, quote, after = text.partition('"')
        pieces += [media[int(index)], (quote + after).encode()]
    return pieces
