"""JSON with stored files in it as base64, written while the files are read: memory stays flat whatever their size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import pybase64
from aiohttp import web

from mediagen.core.files import File
from mediagen.storage.base import Storage

_STEP: Final = 3 * 64 * 1024
"""Bytes encoded at a time: a multiple of three, so that the pieces join without padding between them."""
_MARK: Final = "\x00file:"
"""Stands for a file's base64 in a document; no text of ours holds a NUL."""


def mark(index: int) -> str:
    """What ``write`` replaces by the base64 of the file with that index."""
    return f"{_MARK}{index}"


def length_of(document: Any, files: Sequence[File]) -> int:
    """Bytes of the whole text."""
    return sum(
        len(text.encode()) if isinstance(text, str) else -(-text.bytes // 3) * 4 for text in _cut(document, files)
    )


async def write(document: Any, files: Sequence[File], storage: Storage, response: web.StreamResponse) -> None:
    """Write the document as JSON, with the base64 of files where they are marked.

    Raises:
        NotFound, StorageUnavailable: and the text is not whole.
    """
    buffer = memoryview(bytearray(_STEP))
    for text in _cut(document, files):
        if isinstance(text, str):
            await response.write(text.encode())
            continue
        async with storage.open_source(text.key) as source:
            filled = 0
            while count := await source.read_into(buffer[filled:]):
                filled += count
                if filled == _STEP:
                    await response.write(pybase64.b64encode(buffer))
                    filled = 0
        await response.write(pybase64.b64encode(buffer[:filled]))


async def respond(
    request: web.Request, document: Any, files: Sequence[File], storage: Storage, headers: dict[str, str]
) -> web.StreamResponse:
    """The document as an answer."""
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/json"
    response.charset = "utf-8"
    response.content_length = length_of(document, files)
    await response.prepare(request)
    await write(document, files, storage, response)
    await response.write_eof()
    return response


def _cut(document: Any, files: Sequence[File]) -> list[str | File]:
    """The text of the document, files standing for themselves."""
    first, *rest = json.dumps(document).split(json.dumps(_MARK)[1:-1])
    cut: list[str | File] = [first]
    for text in rest:
        index, quote, after = text.partition('"')
        cut += [files[int(index)], quote + after]
    return cut
