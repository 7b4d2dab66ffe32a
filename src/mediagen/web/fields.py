"""Requests that come as JSON or as a form: the same fields either way.

OpenAI's newer clients send every ``videos.create`` as a form, older ones and everybody else JSON. Fields in brackets
(``metadata[a]``, ``input_reference[image_url]``) are levels.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from mediagen.core.errors import InvalidRequest, TooLarge, UnsupportedMedia
from mediagen.streams.base import KIB
from mediagen.web.bodies import BodyLimits, read_json
from mediagen.web.forms import parts_of
from mediagen.web.incoming import incoming

_MAX_FIELDS: Final = 100
_MAX_VALUE: Final = 256 * KIB


async def read_fields(request: web.Request, limits: BodyLimits) -> dict[str, Any]:
    """The fields of the body.

    Raises:
        InvalidRequest: it is neither, or a field is given twice.
        UnsupportedMedia: the form holds a file, which this call does not take.
        TooLarge, BodyStalled
    """
    media_type = request.headers.get("Content-Type", "")
    if media_type.partition(";")[0].strip().lower() != "multipart/form-data":
        document = await read_json(request, limits) if request.can_read_body else None
        if not isinstance(document, dict):
            raise InvalidRequest("the body must be a JSON object or a form")
        return document
    fields: dict[str, Any] = {}
    with incoming(request, limits) as body:
        parts = parts_of(body, media_type, max_rest=limits.max_json_bytes)
        count = 0
        while (part := await parts.next()) is not None:
            count += 1
            if count > _MAX_FIELDS:
                raise InvalidRequest(f"the form has more than {_MAX_FIELDS} fields")
            if not part.name:
                raise InvalidRequest("every part of a form is a field with a name in its Content-Disposition")
            if part.filename is not None:
                raise UnsupportedMedia(f"{part.name[:60]}: this call takes no files here", field=part.name[:60])
            _put(fields, part.name, await _text(part.name, part))
        await parts.finish()
    return fields


async def _text(name: str, part: Any) -> str:
    buffer = memoryview(bytearray(_MAX_VALUE + 1))
    filled = 0
    while count := await part.read_into(buffer[filled:]):
        filled += count
        if filled > _MAX_VALUE:
            raise TooLarge(f"{name[:60]} has more than {_MAX_VALUE} bytes", field=name[:60])
    try:
        return bytes(buffer[:filled]).decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name[:60]} is not UTF-8", field=name[:60]) from None


def _put(fields: dict[str, Any], name: str, value: str) -> None:
    """Set ``a[b][c]`` in its levels; ``a[]`` adds to a list."""
    first, *levels = name.replace("]", "").split("[")
    place: Any = fields
    key = first
    for level in levels:
        if level == "":
            held = place.setdefault(key, [])
            if not isinstance(held, list):
                raise InvalidRequest(f"{name[:60]} is given in two ways", field=name[:60])
            held.append(value)
            return
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise InvalidRequest(f"{name[:60]} is given in two ways", field=name[:60])
        key = level
    if key in place:
        raise InvalidRequest(f"{name[:60]} is given twice", field=name[:60])
    place[key] = value
