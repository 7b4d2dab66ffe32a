"""Takes string fields out of a JSON document while the document arrives (RFC 8259).

A parser that returns whole values would hold the field in memory, and the streaming parsers that we measured are
quadratic in the length of a string. This scanner only follows the nesting. The text of a wanted field comes out as it
arrives; the rest is kept, within bounds, and parsed by ``json`` at the end, so that a real parser checks it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, TypeAlias

from mediagen.core.errors import InvalidRequest, TooLarge
from mediagen.streams.base import MIB, View
from mediagen.streams.json import parser

Pointer: TypeAlias = tuple[str, ...]
"""Reference tokens of a JSON pointer (RFC 6901); an array index is its decimal text."""

_MAX_DEPTH: Final = 128
_MAX_KEY: Final = 4096
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}\[\],:]', re.DOTALL)
"""A whole string, or one character of structure; a quote alone begins a string that goes on in the next piece."""
_SKIPPED: Final = (b"\n", b"\r", b"\t")
"""Control characters that a decoder of base64 skips, although a string must not have them (RFC 8259 section 7)."""
_STRING_END: Final = re.compile(rb'["\\]')
_WHOLE_TEXT: Final = re.compile(rb'(?:[^"\\]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+', re.DOTALL)
"""Text of a string up to its end, or to an incomplete escape."""
_ESCAPE_BEGUN: Final = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?")
_HIGH_AT_END: Final = re.compile(rb"(?<!\\)(?:\\\\)*(\\u[Dd][89ABab][0-9A-Fa-f]{2})\Z")
_ESCAPE: Final = re.compile(
    rb"\\(?:u([Dd][89ABab][0-9A-Fa-f]{2}|[0-9A-Fa-f]{4})(?:(?<=u[Dd][89ABab]..)\\u([Dd][C-Fc-f][0-9A-Fa-f]{2}))?|(.))",
    re.DOTALL,
)
_SHORT_ESCAPES: Final = ((rb"\/", b"/"), (rb"\n", b"\n"), (rb"\r", b"\r"), (rb"\t", b"\t"))
_SHORT: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def parse_pointer(pointer: str) -> Pointer:
    """Tokens of ``/data/0/b64_json``.

    Raises:
        InvalidRequest: it does not begin with a slash.
    """
    if not pointer.startswith("/"):
        raise InvalidRequest(f"a JSON pointer begins with '/': {pointer!r} (RFC 6901)")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/"))


@dataclass(frozen=True, slots=True)
class Rules:
    """What a document may have beside its media: bytes and values.

    ``strict`` checks the rest as ``parser.parse`` does, which is for requests. A response that has been paid for is
    read as leniently as ``json`` reads it.
    """

    max_rest: int = 8 * MIB
    max_values: int = parser.MAX_FOREIGN_VALUES
    strict: bool = False


class _At(Enum):
    STRUCTURE = auto()
    KEY = auto()
    STRING = auto()
    FIELD = auto()


class JsonFieldScanner:
    """``feed`` the document in pieces of any size; it yields the unescaped text of every field that fits a pattern.

    In a pattern ``*`` stands for any token. The text of a field must be ASCII, as base64 is. ``feed`` is lazy: at each
    text ``begun`` says how many fields have begun, ``place`` where the present one is, and ``in_field`` whether it goes
    on. After ``finish``, ``document`` is the rest, parsed, with an empty string in place of each field.

    ``only_first``: take one field. If a later key of the same name replaces it, ``finish`` raises InvalidRequest.
    """

    def __init__(self, patterns: Sequence[Pointer], rules: Rules | None = None, *, only_first: bool = False) -> None:
        self.begun = 0
        self.place: Pointer = ()
        self.complete = False
        self.document: Any = None
        self._patterns = tuple(patterns)
        self._depth = max(map(len, self._patterns))
        self._only_first = only_first
        self._rules = rules or Rules()
        self._values = 0
        self._rest = bytearray()
        self._at = _At.STRUCTURE
        self._path: list[str | int] = []
        self._wants_key = False
        self._key = bytearray()
        self._escaped = False
        self._pending = b""

    @property
    def found(self) -> bool:
        return self.begun > 0

    @property
    def in_field(self) -> bool:
        """Whether text of a field comes next, which costs little; everything else is scanned token by token."""
        return self._at is _At.FIELD

    @property
    def between(self) -> bool:
        """Whether the next byte of the field is not the rest of an escape."""
        return not self._pending

    @property
    def rest(self) -> bytes:
        """The document so far, without the texts of the fields."""
        return bytes(self._rest)

    def feed(self, data: bytes | bytearray, end: int | None = None) -> Iterator[View]:
        """The text of fields in ``data[:end]``; the views are valid until the next call."""
        end = len(data) if end is None else end
        position = 0
        while position < end:
            if self._at is _At.FIELD:
                position, text = self._field(data, position, end)
                if text:
                    yield text
            elif self._at is _At.STRUCTURE:
                position = self._structure(data, position, end)
            else:
                position = self._string(data, position, end)

    def finish(self) -> None:
        """The document has ended.

        Raises:
            InvalidRequest: it is not a whole JSON document, or has the field twice.
        """
        if self._rules.strict:
            self.document = parser.parse(self._rest, max_values=self._rules.max_values)
        else:
            try:
                self.document = json.loads(self._rest.decode("utf-8-sig"))  # no other encoding: RFC 8259 section 8.1
            except ValueError as exc:
                raise InvalidRequest(f"not a complete JSON document: {exc}") from None
        if self._only_first and self.found and not self._is_still_there():
            raise InvalidRequest(f"the JSON document has the field {'/' + '/'.join(self.place)!r} twice")

    def _is_still_there(self) -> bool:
        """Whether no later key of the same name has replaced the field, or a value that contained it."""
        value = self.document
        for token in self.place:
            try:
                value = value[int(token)] if isinstance(value, list) else value[token]
            except (LookupError, TypeError, ValueError):
                return False
        return bool(value == "")

    def _keep(self, data: bytes | bytearray, start: int, end: int) -> None:
        if len(self._rest) + end - start > self._rules.max_rest:
            raise TooLarge(f"JSON larger than {self._rules.max_rest} bytes besides its media")
        self._rest += memoryview(data)[start:end]

    def _structure(self, data: bytes | bytearray, position: int, end: int) -> int:
        path = self._path
        start = position
        for token in _TOKEN.finditer(data, position, end):
            begin, position = token.span()
            match data[begin]:
                case 0x22:  # "
                    if not self._wants_key and self._is_field():
                        self._keep(data, start, begin + 1)
                        self._at = _At.FIELD
                        self._begin_field()
                        return begin + 1
                    if position - begin == 1:
                        self._keep(data, start, position)
                        self._at = _At.KEY if self._wants_key else _At.STRING
                        self._key.clear()
                        return position
                    if self._wants_key:
                        self._set_key(bytes(data[begin + 1 : position - 1]))
                case 0x7B:  # {
                    self._count()
                    self._open("")
                    self._wants_key = True
                case 0x5B:  # [
                    self._count()
                    self._open(0)
                    self._wants_key = False
                case 0x7D | 0x5D:  # } ]
                    if not path:
                        raise InvalidRequest("the JSON document has an unmatched closing bracket")
                    path.pop()
                    self._wants_key = False
                case 0x2C if path:  # ,
                    self._count()
                    last = path[-1]
                    if isinstance(last, int):
                        path[-1] = last + 1
                    else:
                        self._wants_key = True
                case 0x3A:  # :
                    self._wants_key = False
                case _:
                    pass
        self._keep(data, start, end)
        return end

    def _count(self) -> None:
        """Count one more value, as ``parser.has_more_values`` does."""
        self._values += 1
        if self._values > self._rules.max_values:
            raise InvalidRequest(f"the JSON document has more than {self._rules.max_values} values")

    def _open(self, token: str | int) -> None:
        if len(self._path) >= _MAX_DEPTH:
            raise InvalidRequest(f"JSON nested deeper than {_MAX_DEPTH}")
        self._path.append(token)

    def _is_field(self) -> bool:
        if self._only_first and self.found:
            return False
        return any(fits(self._path, pattern) for pattern in self._patterns)

    def _begin_field(self) -> None:
        self.complete = False
        self.begun += 1
        self.place = tuple(str(token) for token in self._path)

    def _string(self, data: bytes | bytearray, position: int, end: int) -> int:
        """Scan the rest of a key, or of a value that is not wanted, up to its closing quote."""
        start = position
        while position < end:
            if self._escaped:
                self._escaped = False
                position += 1
                continue
            match = _STRING_END.search(data, position, end)
            if match is None:
                position = end
                break
            position = match.end()
            if data[position - 1] == 0x5C:
                self._escaped = True
                continue
            self._keep(data, start, position)
            if self._at is _At.KEY:
                self._set_key(bytes(self._key) + bytes(data[start : position - 1]))
            self._at = _At.STRUCTURE
            return position
        self._keep(data, start, end)
        if self._at is _At.KEY:
            self._key += memoryview(data)[start:end]
            _check_key(self._key)
        return end

    def _set_key(self, key: bytes) -> None:
        _check_key(key)
        if not self._path:
            raise InvalidRequest("a JSON key outside an object")
        if len(self._path) > self._depth:
            return  # too deep to lead to a field
        try:
            self._path[-1] = str(json.loads(b'"' + key + b'"')) if b"\\" in key else key.decode()
        except ValueError as exc:
            raise InvalidRequest(f"a JSON key that is not a string: {exc}") from None

    def _field(self, data: bytes | bytearray, position: int, end: int) -> tuple[int, View]:
        quote = data.find(b'"', position, end)
        stop = end if quote < 0 else quote
        if self._pending or data.find(b"\\", position, stop) >= 0:
            return self._escaped_field(data, position, end)
        self._check_text(data, position, stop)
        text: View = memoryview(data)[position:stop]
        if quote < 0:
            return end, text
        self._end_field(data, quote)
        return quote + 1, text

    def _check_text(self, data: bytes | bytearray, start: int, end: int) -> None:
        if self._rules.strict and any(data.find(char, start, end) >= 0 for char in _SKIPPED):
            raise InvalidRequest("the JSON document has a control character inside a string, such as a line end")

    def _end_field(self, data: bytes | bytearray, quote: int) -> None:
        self._at = _At.STRUCTURE
        self.complete = True
        self._keep(data, quote, quote + 1)

    def _escaped_field(self, data: bytes | bytearray, position: int, end: int) -> tuple[int, View]:
        """As ``_field``, for text with escapes; an incomplete escape waits for the next piece."""
        before = len(self._pending)
        text = self._pending + bytes(memoryview(data)[position:end])
        self._pending = b""
        whole = _WHOLE_TEXT.match(text)
        stop = 0 if whole is None else whole.end()
        self._check_text(text, 0, stop)
        rest = text[stop : stop + 1]
        if rest == b'"':
            quote = position + stop - before
            self._end_field(data, quote)
            return quote + 1, _unescaped(text[:stop])
        if rest and not _ESCAPE_BEGUN.fullmatch(text, stop):
            raise InvalidRequest("a string contains an escape that JSON does not define")
        if (high := _HIGH_AT_END.search(text, max(0, stop - 64), stop)) is not None:
            stop = high.start(1)  # its other half may be in the next piece
        self._pending = text[stop:]
        return end, _unescaped(text[:stop])


def _unescaped(text: bytes) -> bytes:
    """The text of a JSON string (RFC 8259 section 7) as UTF-8; a half of a surrogate pair becomes a question mark."""
    if b"\\" not in text:
        return text
    if rb"\\" not in text:
        for escape, plain in _SHORT_ESCAPES:
            text = text.replace(escape, plain)
    return _ESCAPE.sub(_escaped_character, text) if b"\\" in text else text


def _escaped_character(found: re.Match[bytes]) -> bytes:
    if found[3] is not None:
        return _SHORT.get(found[3], found[3])
    units = int(found[1], 16).to_bytes(2, "big") + (int(found[2], 16).to_bytes(2, "big") if found[2] else b"")
    return units.decode("utf-16-be", "replace").encode().replace(b"\xef\xbf\xbd", b"?")


def fits(path: Sequence[str | int], pattern: Pointer) -> bool:
    """Whether the path matches the pattern."""
    return len(path) == len(pattern) and all(want in ("*", str(have)) for have, want in zip(path, pattern, strict=True))


def _check_key(key: bytes | bytearray) -> None:
    if len(key) > _MAX_KEY:
        raise InvalidRequest(f"a JSON key longer than {_MAX_KEY} bytes")
