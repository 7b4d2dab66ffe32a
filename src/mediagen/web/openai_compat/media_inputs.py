"""Requests that come as JSON or as a form: the same fields either way, and the media in them stored while they come.

OpenAI's newer clients send every ``videos.create`` as a form; older ones and all others send JSON. Brackets in a name
(``metadata[a]``, ``input_reference[image_url]``) are levels. An ``InputField`` holds, in a form, a file; in a form
or JSON a URL, the id of a file, a ``data:`` URI or base64, alone or as ``{"image_url": …}``.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from aiohttp import web

from mediagen.core.errors import InvalidRequest, TooLarge, UnsupportedMedia
from mediagen.core.files import File
from mediagen.net.download import Fetcher
from mediagen.pipelines.inputs import MAX_INPUTS, InputRef, RequestInputs, Shelf, is_name
from mediagen.pipelines.saving.request_upload import RequestUploads
from mediagen.providers.base import Role
from mediagen.streams.base import KIB, Source
from mediagen.streams.json.media_fields import MediaFields
from mediagen.streams.json.scanner import Pointer, Rules
from mediagen.web.api.routing import Call
from mediagen.web.files.uploads import decode_form_filename
from mediagen.web.http.body import BodyLimits, json_chunks, require_json
from mediagen.web.http.body_source import Incoming, incoming
from mediagen.web.http.forms import parts_of
from mediagen.web.http.multipart import Part

_MAX_FIELDS: Final = 100
_MAX_VALUE: Final = 256 * KIB
_MAX_LEVELS: Final = 16
"""Of a field's name: ``a[b][c]`` has two."""
_URL: Final = "image_url"
"""What OpenAI's API calls the URL in an object that stands for a picture."""
_WORDS: Final = frozenset({_URL, "url", "file_id"})
_MAX_BESIDE: Final = 200
"""Characters of a text that stands beside a picture in an object, and says nothing to us."""
_OPEN: Final = frozenset({"metadata"})
"""Fields whose names inside are the caller's own, numbers among them."""
_MAX_INDEX: Final = 4
_HEAD: Final = 512
_NAME_HEAD: Final = 8
"""Characters that tell a name of content from content."""


@dataclass(frozen=True, slots=True)
class InputField:
    """A field that may hold pictures, ``most`` of them, for inputs of that role."""

    name: str
    role: Role
    most: int = 1

    @property
    def places(self) -> list[Pointer]:
        """Where its text can be in a document."""
        bases: list[Pointer] = [(self.name,), (self.name, "*")]
        return [place for base in bases for place in (base, (*base, _URL), (*base, _URL, "url"))]


class ParsedBody:
    """A body that was read: ``fields`` without those of slots, and the inputs that stand there."""

    def __init__(self, fields: dict[str, Any], slots: Sequence[InputField], request_inputs: RequestInputs) -> None:
        self._given = [(slot, value) for slot in slots for value in _values(fields, slot)]
        self.fields = fields
        self.request_inputs = request_inputs

    @property
    def roles(self) -> list[Role]:
        """What the inputs are for, before any of them is fetched."""
        return [slot.role for slot, _ in self._given]

    async def inputs(self) -> tuple[InputRef, ...]:
        """The inputs, which are files now; what was named by a URL is fetched.

        Raises:
            InvalidRequest, UnsupportedMedia, TooLarge, UrlNotAllowed, InputUnavailable, InvalidBase64, and their kin.
        """
        inputs = []
        for slot, value in self._given:
            with _named(slot.name):
                file = await _file(value, slot, self.request_inputs)
            inputs.append(InputRef(role=slot.role, file_id=file.id))
        return tuple(inputs)


class BodyParser:
    """Reads bodies with media in them."""

    def __init__(self, uploads: RequestUploads, fetcher: Fetcher, shelf: Shelf, limits: BodyLimits) -> None:
        self._uploads = uploads
        self._fetcher = fetcher
        self._shelf = shelf
        self._limits = limits

    @asynccontextmanager
    async def taken(self, call: Call[Any, Any], slots: Sequence[InputField]) -> AsyncIterator[ParsedBody]:
        """The body; media that came in it are in the store. Unless the block claims them they are removed after it.

        Raises:
            InvalidRequest: it is neither JSON nor a form, or a field is given twice.
            UnsupportedMedia, TooLarge, BodyStalled, InvalidBase64, StorageUnavailable
        """
        async with RequestInputs(
            self._uploads,
            self._fetcher,
            self._shelf,
            owner=call.caller.owner,
            sees=call.caller.sees,
            network=call.network,
        ) as request_inputs:
            yield ParsedBody(await self._read(call.request, slots, request_inputs), slots, request_inputs)

    async def _read(
        self, request: web.Request, slots: Sequence[InputField], request_inputs: RequestInputs
    ) -> dict[str, Any]:
        """The fields; media stand in them as files, their names as text."""
        if not request.can_read_body:
            raise InvalidRequest("the body must be a JSON object or a form")
        media_type = request.headers.get("Content-Type", "")
        with incoming(request, self._limits) as body:
            if media_type.partition(";")[0].strip().lower() == "multipart/form-data":
                return await self._form(body, media_type, {slot.name: slot for slot in slots}, request_inputs)
            require_json(request)
            return await self._json(body, slots, request_inputs)

    async def _json(self, body: Incoming, slots: Sequence[InputField], request_inputs: RequestInputs) -> dict[str, Any]:
        most = self._limits.max_json_bytes
        if body.size is not None and body.size > most + MAX_INPUTS * self._uploads.max_bytes:
            raise TooLarge(f"the body has {body.size} bytes, more than this server accepts")
        places = [place for slot in slots for place in slot.places]
        found: list[tuple[Pointer, File | str]] = []
        rules = Rules(most, self._limits.max_json_values, strict=True)
        embedded = MediaFields(json_chunks(body), places, rules)
        try:
            async for field in embedded.fields():
                if len(field.place) > 1 and not field.place[-1].isdigit() and field.place[-1] not in _WORDS:
                    if len(await field.peek(_MAX_BESIDE + 1)) > _MAX_BESIDE:
                        raise _no_picture(field.place[0])
                    found.append((field.place, await field.text()))  # "type", "detail" and the like beside the picture
                elif is_name(await field.peek(_NAME_HEAD)):
                    found.append((field.place, await field.text()))
                elif await field.peek(1):
                    with _named(field.place[0]):
                        found.append((field.place, await request_inputs.decoded(field.chunks())))
        finally:
            await embedded.aclose()
        document = embedded.document
        if not isinstance(document, dict):
            raise InvalidRequest("the body must be a JSON object or a form")
        for place, value in found:
            _set(document, place, value)
        return document

    async def _form(
        self, body: Incoming, media_type: str, slots: Mapping[str, InputField], request_inputs: RequestInputs
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        parts = parts_of(body, media_type, max_rest=self._limits.max_json_bytes)
        count = 0
        while (part := await parts.next()) is not None:
            count += 1
            if count > _MAX_FIELDS:
                raise InvalidRequest(f"the form has more than {_MAX_FIELDS} fields")
            if not part.name:
                raise InvalidRequest("every part of a form is a field with a name in its Content-Disposition")
            slot = slots.get(part.name.partition("[")[0])
            begun = await _Begun.of(part)
            if not part.filename:  # as RFC 7578 has it, that is no file; some clients send one so all the same
                if not begun.start and part.filename is not None:
                    continue  # an input of a browser's form that was left empty
                if slot is None or not begun.is_content:
                    _put(fields, part.name, await _text(part.name, begun), many=slot is not None and slot.most > 1)
                    continue
            if slot is None:
                raise UnsupportedMedia(f"{part.name[:60]}: this field takes no file", field=part.name[:60])
            with _named(slot.name):
                file = await request_inputs.take(
                    begun, filename=decode_form_filename(part.filename or ""), declared=part.headers.get("Content-Type")
                )
            _put(fields, part.name, file, many=slot.most > 1)
        await parts.finish()
        return {name: value if name in _OPEN else _listed(value) for name, value in fields.items()}


def _values(fields: dict[str, Any], slot: InputField) -> list[Any]:
    """Take the slot's field out; what stands there, one by one. Raises InvalidRequest."""
    value = fields.pop(slot.name, None)
    values = [each for each in (value if isinstance(value, list) else [value]) if not _is_empty(each)]
    if len(values) > slot.most:
        raise InvalidRequest(f"{slot.name}: at most {slot.most} is taken", field=slot.name)
    return values


def _is_empty(value: Any) -> bool:
    """Whether a field was left empty: null, no text, or an object that names nothing."""
    if isinstance(value, dict):
        return all(_is_empty(value.get(word)) for word in (*_WORDS, "url"))
    return value is None or value == ""


@contextmanager
def _named(field: str) -> Iterator[None]:
    """What is wrong inside is wrong with that field, unless it says another one."""
    try:
        yield
    except InvalidRequest as exc:
        exc.context.setdefault("field", field)
        raise


async def _file(value: Any, slot: InputField, request_inputs: RequestInputs) -> File:
    if isinstance(value, File):
        return value
    if isinstance(value, str):
        return await request_inputs.named(value)
    if isinstance(value, dict):
        named = {name: each for name, each in value.items() if each is not None and name in _WORDS}
        url = named.get(_URL, named.get("url"))
        if isinstance(url, dict):  # as in messages of a chat
            url = url.get("url")
        if len(named) == 1 and isinstance(url, str | File):
            return await _file(url, slot, request_inputs)
        if len(named) == 1 and isinstance(file_id := named.get("file_id"), str):
            return await request_inputs.existing(file_id)
    raise _no_picture(slot.name)


def _no_picture(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: give a file, a URL, a data: URI, or an object with either {_URL} or file_id", field=name
    )


class _Begun:
    """A part of a form of which the first bytes have been read; as a source it gives them again."""

    size: int | None = None

    def __init__(self, part: Part, start: bytes) -> None:
        self.start = start
        self._part = part
        self._left = memoryview(start)

    @classmethod
    async def of(cls, part: Part) -> Self:
        buffer = memoryview(bytearray(_HEAD))
        return cls(part, bytes(buffer[: await part.read_into(buffer)]))

    @property
    def is_content(self) -> bool:
        """Whether these are bytes of a file, and no text that names one: by what the part says, then by the bytes."""
        declared = self._part.headers.get("Content-Type", "").partition("/")[0].strip().lower()
        if self.start and declared in {"image", "video"}:
            return not (is_name(self.start[:_NAME_HEAD]) or self.start.startswith(b"data:"))
        try:
            # a character can be cut at the end
            codecs.getincrementaldecoder("utf-8")().decode(self.start)
        except UnicodeDecodeError:
            return True
        return b"\0" in self.start

    async def read_into(self, buffer: memoryview, /) -> int:
        if not self._left:
            return await self._part.read_into(buffer)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        return 0 if self._left else self._part.try_read(buffer, within=within)


def _listed(value: Any) -> Any:
    """``{"0": a, "1": b}``, which is what ``name[0]`` and ``name[1]`` have become, as a list; at every level."""
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(each) for key, each in value.items()}
    if not inner or not all(key.isdecimal() and len(key) <= _MAX_INDEX for key in inner):
        return inner
    return [inner[key] for key in sorted(inner, key=int)]


async def _text(name: str, part: Source) -> str:
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


def _put(fields: dict[str, Any], name: str, value: str | File, *, many: bool = False) -> None:
    """Set ``a[b][c]`` in its levels; ``a[]`` adds to a list, and so does ``a`` when there may be ``many``."""
    first, *levels = name.replace("]", "").split("[")
    if len(levels) > _MAX_LEVELS:
        raise InvalidRequest(f"{name[:60]} has more than {_MAX_LEVELS} levels", field=name[:60])
    place: Any = fields
    key = first
    for level in levels or ([""] if many else []):
        if level == "":
            held = place.setdefault(key, [])
            if not isinstance(held, list):
                raise InvalidRequest(f"{name[:60]} is given in two forms", field=name[:60])
            held.append(value)
            return
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise InvalidRequest(f"{name[:60]} is given in two forms", field=name[:60])
        key = level
    if key in place:
        raise InvalidRequest(f"{name[:60]} is given twice", field=name[:60])
    place[key] = value


def _set(document: Any, place: Pointer, value: File | str) -> None:
    """Put a value where the document has an empty text in its place."""
    for token in place[:-1]:
        document = document[int(token)] if isinstance(document, list) else document[token]
    last = place[-1]
    document[int(last) if isinstance(document, list) else last] = value
