"""``Content-Disposition`` as servers and clients really send it (RFC 6266, 8187, 2231, 7578; else as browsers read it).

Each parameter is read by itself, so that one that is broken loses no other: values may be quoted or not, with spaces
and quotes in them, in UTF-8 or Latin-1, percent-encoded, or words of RFC 2047.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header
from typing import Final
from urllib.parse import unquote_to_bytes

_MAX_VALUE: Final = 8192
_NAME: Final = re.compile(r"[;\s]*([^=;\s\"]+)\s*(=)?\s*")
_QUOTED: Final = re.compile(r'"((?:\\["\\]|[^"]|"(?!\s*(?:;|\Z)))*+)"\s*(?:;|\Z)')
"""A quote ends a value where a semicolon or nothing follows it; others belong to the value."""
_ESCAPED: Final = re.compile(r'\\(["\\])')
"""A backslash before anything else is a letter, as in the path of a Windows file."""
_PERCENT: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_NO_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PIECE: Final = re.compile(r"(.+?)\*([0-9]{1,3})(\*?)")


def parse_parameters(text: str) -> dict[str, str]:
    """The parameters by lower-case name, as they stand; of several of one name the first."""
    text = text[:_MAX_VALUE]
    found: dict[str, str] = {}
    at = 0
    while (match := _NAME.match(text, at)) is not None:
        at = match.end()
        if not match[2]:  # the type, or a word without a value
            at = _end_of(text, at)
            continue
        if (quoted := _QUOTED.match(text, at)) is not None:
            given, at = _ESCAPED.sub(r"\1", quoted[1]), quoted.end()
        else:
            end = _end_of(text, at)
            given, at = text[at:end].strip().removeprefix('"'), end
        found.setdefault(match[1].lower(), given)
    return found


def _end_of(text: str, start: int) -> int:
    end = text.find(";", start)
    return len(text) if end < 0 else end


def find_filename(parameters: Mapping[str, str]) -> str | None:
    """The file name: that of ``filename*`` if it is right, then of its pieces (RFC 2231), then ``filename``, then that
    of ``filename*`` as far as it can be read."""
    extended = parameters.get("filename*", "")
    name = None if _NO_PERCENT.search(extended) else _extended(extended)
    if not name and (name := _of_pieces(parameters)) is None:
        name = parameters.get("filename")
    return _extended(extended) if name is None else name


def parse_filename(value: str) -> str | None:
    """The file name in the header of an answer; percent-encoding and encoded words are undone, as browsers do.

    ``value`` holds the raw bytes of the header, decoded as Latin-1 or as UTF-8 with surrogates.
    """
    parameters = parse_parameters(text_of(value[:_MAX_VALUE]))
    name = find_filename(parameters)
    if name is None or name != parameters.get("filename"):
        return name
    if name.startswith("=?") and name.endswith("?="):
        return _encoded_words(name)
    if name.isascii() and _PERCENT.search(name):
        try:
            return unquote_to_bytes(name).decode()
        except UnicodeDecodeError:
            return name
    return name


def text_of(value: str) -> str:
    """The text of a header's raw bytes: UTF-8 where they are that, else Windows-1252, which is Latin-1 and more."""
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "surrogateescape" if _only_escapes(value) else "replace")
    return decoded(raw)


def decoded(raw: bytes) -> str:
    """Bytes of a name as text; there is always one."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        try:
            return raw.decode("cp1252")
        except UnicodeDecodeError:
            return raw.decode("latin-1")


def _only_escapes(value: str) -> bool:
    """Whether its lone surrogates stand for bytes, so that they can be turned back."""
    return all(not "\ud800" <= char <= "\udfff" or "\udc80" <= char <= "\udcff" for char in value)


def _extended(value: str) -> str | None:
    """``charset'language'percent-encoded`` (RFC 8187); None when it is empty or cannot be read."""
    if not value:
        return None
    charset, first, rest = value.partition("'")
    _, second, encoded = rest.partition("'")
    if not first or not second:
        charset, encoded = "utf-8", value
    raw = unquote_to_bytes(encoded.strip().strip('"'))
    for name in (charset.strip().lower() or "utf-8", "utf-8"):
        try:
            return raw.decode(name)
        except (UnicodeDecodeError, LookupError, ValueError):
            continue
    return None


def _of_pieces(parameters: Mapping[str, str]) -> str | None:
    """``filename*0``, ``filename*1*`` and so on, joined."""
    pieces: dict[int, tuple[str, bool]] = {}
    for name, value in parameters.items():
        match = _PIECE.fullmatch(name)
        if match is not None and match[1] == "filename":
            pieces[int(match[2])] = (value, bool(match[3]))
    if 0 not in pieces:
        return None
    charset, raw = "utf-8", bytearray()
    for number in range(len(pieces)):
        if number not in pieces:
            break
        value, encoded = pieces[number]
        if encoded and number == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        raw += unquote_to_bytes(value) if encoded else value.encode("utf-8", "replace")
    try:
        return raw.decode(charset or "utf-8")
    except (UnicodeDecodeError, LookupError, ValueError):
        return decoded(bytes(raw))


def _encoded_words(name: str) -> str:
    """``=?UTF-8?B?…?=`` as text (RFC 2047), which mail libraries write into HTTP as well."""
    try:
        return "".join(
            piece if isinstance(piece, str) else piece.decode(charset or "ascii")
            for piece, charset in decode_header(name)
        )
    except (HeaderParseError, LookupError, ValueError):
        return name
