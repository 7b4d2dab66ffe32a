"""Reads requests that come as JSON or as a form: the same fields either way, media stored while they arrive.

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
from mediagen.pipelines.inputs import MAX_INPUTS, InputRef, RequestInputs, Shelf, is_reference
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
"""Of the name of a form's field: ``a[b][c]`` has two."""
_URL: Final = "image_url"
"""OpenAI's name for the URL in an object that stands for an image."""
_KEYS: Final = frozenset({_URL, "url", "file_id"})
_MAX_BESIDE: Final = 200
"""Characters of any other text in such an object; it is ignored."""
_OPEN: Final = frozenset({"metadata"})
"""Fields with keys of the caller's choice, which may be numbers."""
_MAX_INDEX: Final = 4
_HEAD: Final = 512
_NAME_HEAD: Final = 8
"""Characters that tell a URL or a file's id from base64."""


@dataclass(frozen=True, slots=True)
class InputField:
    """A field that may hold up to ``most`` images, as inputs of that role."""

    name: str
    role: Role
    most: int = 1

    @property
    def places(self) -> list[Pointer]:
        """Where its text can stand in a JSON document."""
        bases: list[Pointer] = [(self.name,), (self.name, "*")]
        return [place for base in bases for place in (base, (*base, _URL), (*base, _URL, "url"))]


class ParsedBody:
    """A body that was read: its ``fields``, and the inputs that stood in its input fields."""

    def __init__(self, fields: dict[str, Any], slots: Sequence[InputField], inputs: RequestInputs) -> None:
        self._given = [(slot, value) for slot in slots for value in _pop_values(fields, slot)]
        self.fields = fields
        self.inputs = inputs

    @property
    def roles(self) -> list[Role]:
        """What the inputs are for, before any of them is fetched."""
        return [slot.role for slot, _ in self._given]

    async def resolve_inputs(self) -> tuple[InputRef, ...]:
        """The inputs as stored files; those given by URL are fetched now.

        Raises:
            InvalidRequest, UnsupportedMedia, TooLarge, UrlNotAllowed, InputUnavailable, InvalidBase64, and their kin.
        """
        refs = []
        for slot, value in self._given:
            with _blame_field(slot.name):
                file = await _resolve(value, slot, self.inputs)
            refs.append(InputRef(role=slot.role, file_id=file.id))
        return tuple(refs)


class BodyParser:
    """Reads the bodies of requests that may hold media."""

    def __init__(self, uploads: RequestUploads, fetcher: Fetcher, shelf: Shelf, limits: BodyLimits) -> None:
        self._uploads = uploads
        self._fetcher = fetcher
        self._shelf = shelf
        self._limits = limits

    @asynccontextmanager
    async def parse(self, call: Call[Any, Any], slots: Sequence[InputField]) -> AsyncIterator[ParsedBody]:
        """The body, its media in the store. Unless the block claims them, they are removed at its end.

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
        ) as inputs:
            yield ParsedBody(await self._read(call.request, slots, inputs), slots, inputs)

    async def _read(self, request: web.Request, slots: Sequence[InputField], inputs: RequestInputs) -> dict[str, Any]:
        """The fields. Media stand in them as files, URLs and ids of files as text."""
        if not request.can_read_body:
            raise InvalidRequest("the body must be a JSON object or a form")
        media_type = request.headers.get("Content-Type", "")
        with incoming(request, self._limits) as body:
            if media_type.partition(";")[0].strip().lower() == "multipart/form-data":
                return await self._form(body, media_type, {slot.name: slot for slot in slots}, inputs)
            require_json(request)
            return await self._json(body, slots, inputs)

    async def _json(self, body: Incoming, slots: Sequence[InputField], inputs: RequestInputs) -> dict[str, Any]:
        most = self._limits.max_json_bytes
        if body.size is not None and body.size > most + MAX_INPUTS * self._uploads.max_bytes:
            raise TooLarge(f"the body has {body.size} bytes, more than this server accepts")
        places = [place for slot in slots for place in slot.places]
        found: list[tuple[Pointer, File | str]] = []
        rules = Rules(most, self._limits.max_json_values, strict=True)
        embedded = MediaFields(json_chunks(body), places, rules)
        try:
            async for field in embedded.fields():
                if len(field.place) > 1 and not field.place[-1].isdigit() and field.place[-1] not in _KEYS:
                    if len(await field.peek(_MAX_BESIDE + 1)) > _MAX_BESIDE:
                        raise _not_an_image(field.place[0])
                    found.append((field.place, await field.text()))  # "type", "detail" and the like beside the image
                elif is_reference(await field.peek(_NAME_HEAD)):
                    found.append((field.place, await field.text()))
                elif await field.peek(1):
                    with _blame_field(field.place[0]):
                        found.append((field.place, await inputs.receive_base64(field.chunks())))
        finally:
            await embedded.aclose()
        document = embedded.document
        if not isinstance(document, dict):
            raise InvalidRequest("the body must be a JSON object or a form")
        for place, value in found:
            _set_at(document, place, value)
        return document

    async def _form(
        self, body: Incoming, media_type: str, slots: Mapping[str, InputField], inputs: RequestInputs
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        parts = parts_of(body, media_type, max_rest=self._limits.max_json_bytes)
        count = 0
        while (part := await parts.next()) is not None:
            count += 1
            if count > _MAX_FIELDS:
                raise InvalidRequest(f"the form has more than {_MAX_FIELDS} fields")
            if not part.name:
                raise InvalidRequest("a part of the form has no name in its Content-Disposition")
            slot = slots.get(part.name.partition("[")[0])
            peeked = await _PeekedPart.of(part)
            if not part.filename:  # not a file by RFC 7578, but some clients send files like this
                if not peeked.start and part.filename is not None:
                    continue  # a file input of a browser's form that was left empty
                if slot is None or not peeked.is_content:
                    _set_form_field(
                        fields,
                        part.name,
                        await _read_text(part.name, peeked),
                        many=slot is not None and slot.most > 1,
                    )
                    continue
            if slot is None:
                raise UnsupportedMedia(f"{part.name[:60]}: this field takes no file", field=part.name[:60])
            with _blame_field(slot.name):
                file = await inputs.receive(
                    peeked,
                    filename=decode_form_filename(part.filename or ""),
                    declared=part.headers.get("Content-Type"),
                )
            _set_form_field(fields, part.name, file, many=slot.most > 1)
        await parts.finish()
        return {name: value if name in _OPEN else _to_lists(value) for name, value in fields.items()}


def _pop_values(fields: dict[str, Any], slot: InputField) -> list[Any]:
    """Remove the field, and list its values. Raises InvalidRequest: there are too many."""
    value = fields.pop(slot.name, None)
    values = [each for each in (value if isinstance(value, list) else [value]) if not _is_empty(each)]
    if len(values) > slot.most:
        raise InvalidRequest(f"{slot.name}: give at most {slot.most}", field=slot.name)
    return values


def _is_empty(value: Any) -> bool:
    """Whether a field was left empty: null, an empty text, or an object with nothing in it that we know."""
    if isinstance(value, dict):
        return all(_is_empty(value.get(word)) for word in (*_KEYS, "url"))
    return value is None or value == ""


@contextmanager
def _blame_field(field: str) -> Iterator[None]:
    """Let errors raised inside name that field, unless they name another one."""
    try:
        yield
    except InvalidRequest as exc:
        exc.context.setdefault("field", field)
        raise


async def _resolve(value: Any, slot: InputField, inputs: RequestInputs) -> File:
    if isinstance(value, File):
        return value
    if isinstance(value, str):
        return await inputs.resolve(value)
    if isinstance(value, dict):
        resolve = {name: each for name, each in value.items() if each is not None and name in _KEYS}
        url = resolve.get(_URL, resolve.get("url"))
        if isinstance(url, dict):  # as in messages of a chat
            url = url.get("url")
        if len(resolve) == 1 and isinstance(url, str | File):
            return await _resolve(url, slot, inputs)
        if len(resolve) == 1 and isinstance(file_id := resolve.get("file_id"), str):
            return await inputs.find(file_id)
    raise _not_an_image(slot.name)


def _not_an_image(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: give a file, a URL, a data: URI, or an object with either {_URL} or file_id", field=name
    )


class _PeekedPart:
    """A part of a form whose first bytes have been read; as a source it gives them again."""

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
        """Whether this is a file itself, not a URL or id of one: by the part's media type, then by the bytes."""
        declared = self._part.headers.get("Content-Type", "").partition("/")[0].strip().lower()
        if self.start and declared in {"image", "video"}:
            return not (is_reference(self.start[:_NAME_HEAD]) or self.start.startswith(b"data:"))
        try:
            # the last character may be cut
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


def _to_lists(value: Any) -> Any:
    """Turn ``{"0": a, "1": b}``, which ``name[0]`` and ``name[1]`` have become, into a list, at every level."""
    if not isinstance(value, dict):
        return value
    inner = {key: _to_lists(each) for key, each in value.items()}
    if not inner or not all(key.isdecimal() and len(key) <= _MAX_INDEX for key in inner):
        return inner
    return [inner[key] for key in sorted(inner, key=int)]


async def _read_text(name: str, part: Source) -> str:
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


def _set_form_field(fields: dict[str, Any], name: str, value: str | File, *, many: bool = False) -> None:
    """Set ``a[b][c]``, level by level. ``a[]`` adds to a list, and so does ``a`` when ``many`` are allowed."""
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


def _set_at(document: Any, place: Pointer, value: File | str) -> None:
    """Put a value where the document has an empty text for it."""
    for token in place[:-1]:
        document = document[int(token)] if isinstance(document, list) else document[token]
    last = place[-1]
    document[int(last) if isinstance(document, list) else last] = value
