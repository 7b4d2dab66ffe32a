"""Request bodies with pictures in them, read while they are sent: a form, or JSON with ``data:`` URIs.

Each knows its length beforehand, for servers that take no chunked body.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mediagen.core.errors import InvalidRequest, MediagenError, SourceTruncated
from mediagen.providers.base import ImageRequest, Input, Request, Role
from mediagen.streams.base import KIB, Source, fill

_CHUNK: Final = 192 * KIB
"""A multiple of 3, so that base64 of the pieces is that of the whole."""
_ESCAPES: Final = ((b"\r", b"%0D"), (b"\n", b"%0A"), (b'"', b"%22"), (b"\0", b"%00"))
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")


@dataclass(frozen=True, slots=True)
class InBase64:
    """The bytes of an input as base64 text; with ``as_uri`` behind ``data:<type>;base64,``."""

    input: Input
    as_uri: bool = True

    @property
    def head(self) -> bytes:
        return f"data:{self.input.media_type};base64,".encode() if self.as_uri else b""

    @property
    def length(self) -> int:
        return len(self.head) + (self.input.size + 2) // 3 * 4


_Piece: TypeAlias = bytes | Input | InBase64


class Body:
    """What is sent, in pieces. ``failure`` is what reading an input raised."""

    def __init__(self, pieces: Sequence[_Piece], media_type: str) -> None:
        self._pieces = tuple(pieces)
        self.media_type = media_type
        self.length = sum(_length(piece) for piece in self._pieces)
        self.failure: MediagenError | None = None
        self._opened = AsyncExitStack()

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Type": self.media_type, "Content-Length": str(self.length)}

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            encoded = isinstance(piece, InBase64)
            if isinstance(piece, InBase64):
                yield piece.head
                piece = piece.input
            left = piece.size
            try:
                source = await self._opened.enter_async_context(piece.open())
                while left:
                    block = await _block(source, min(_CHUNK, left), piece.filename)
                    left -= len(block)
                    yield base64.b64encode(block) if encoded else block
            except MediagenError as exc:
                self.failure = exc
                raise
            await self._opened.aclose()

    async def aclose(self) -> None:
        """Close what is open."""
        await self._opened.aclose()


async def _block(source: Source, size: int, filename: str) -> bytes:
    block = bytearray(size)
    if await fill(source, memoryview(block)) < size:
        raise SourceTruncated(f"the input {filename!r} is shorter than when it was stored")
    return bytes(block)


def _length(piece: _Piece) -> int:
    if isinstance(piece, bytes):
        return len(piece)
    return piece.size if isinstance(piece, Input) else piece.length


def json_body(document: Mapping[str, Any]) -> Body:
    """``document`` as JSON; each ``InBase64`` in it becomes a string."""
    mark = secrets.token_hex(16)
    found: list[InBase64] = []

    def hold(value: object) -> str:
        if not isinstance(value, InBase64):
            raise TypeError(f"{type(value).__name__} is not JSON")
        found.append(value)
        return mark

    text = json.dumps(document, default=hold, ensure_ascii=False, separators=(",", ":"))
    parts = _encoded(text).split(mark.encode())
    pieces: list[_Piece] = [parts[0]]
    for value, part in zip(found, parts[1:], strict=True):
        pieces += [value, part]
    return Body(pieces, "application/json")


def input_fields(
    request: Request, roles: Sequence[Role], own: Mapping[Role, str], single: str, several: str | None
) -> list[str]:
    """The field for each input, by ``roles``: ``own`` has those of some roles, all others share one.

    ``single`` is the field that takes one image, ``several`` the one that takes a list; None: the model has none.

    Raises:
        InvalidRequest: more images than a field takes; none of them is left out in silence.
    """
    fields = [own.get(role) or several or single for role in roles]
    for field in fields:
        if field != several and fields.count(field) > 1:
            raise _too_many(request, field)
    return fields


def in_fields(
    request: Request, own: Mapping[Role, str], single: str, several: str | None
) -> dict[str, InBase64 | list[InBase64]]:
    """The inputs of a request by fields. Arguments and errors as of ``input_fields``."""
    names = input_fields(request, [each.role for each in request.inputs], own, single, several)
    named = list(zip(names, map(InBase64, request.inputs), strict=True))
    fields: dict[str, InBase64 | list[InBase64]] = {name: each for name, each in named if name != several}
    listed = [each for name, each in named if name == several]
    return {**fields, several: listed} if several is not None and listed else fields


def _too_many(request: Request, field: str) -> InvalidRequest:
    of_films = not isinstance(request, ImageRequest)
    param = "input_reference" if of_films else "mask" if field.startswith("mask") else "image"
    return InvalidRequest(
        f"{request.model} takes one image as {field}, as far as is known; if it takes several, name the field for "
        "them in picture_fields of the provider's settings",
        param=param,
    )


def form_body(fields: Mapping[str, object], files: Sequence[tuple[str, Input]] = ()) -> Body:
    """A form (RFC 7578): fields as text, None left out, booleans as ``true`` and ``false``; then the files.

    Quotes and line ends in names are escaped as browsers do (HTML standard, multipart form data), so that a name cannot
    write headers of its own. Raises InvalidRequest for text that no UTF-8 can hold.
    """
    boundary = secrets.token_hex(16)
    pieces: list[_Piece] = []
    for name, value in fields.items():
        if value is not None:
            text = json.dumps(value) if isinstance(value, bool | dict | list) else str(value)
            pieces.append(_part(boundary, _encoded(name), b"") + _encoded(text, name) + b"\r\n")
    for name, file in files:
        filename = "".join(char for char in file.filename if char.isalnum() or char in "._-") or "input"
        media_type = file.media_type if _MEDIA_TYPE.fullmatch(file.media_type) else "application/octet-stream"
        about = b'; filename="' + _encoded(filename) + b'"\r\nContent-Type: ' + media_type.encode()
        pieces += [_part(boundary, _encoded(name), about), file, b"\r\n"]
    return Body([*pieces, f"--{boundary}--\r\n".encode()], f"multipart/form-data; boundary={boundary}")


def _part(boundary: str, name: bytes, about: bytes) -> bytes:
    """The head of a part."""
    for char, escape in _ESCAPES:
        name = name.replace(char, escape)
    return f"--{boundary}\r\n".encode() + b'Content-Disposition: form-data; name="' + name + b'"' + about + b"\r\n\r\n"


def _encoded(text: str, field: str | None = None) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "a text contains half of a surrogate pair, which is not valid Unicode", param=field
        ) from None
