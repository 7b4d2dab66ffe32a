"""The head of an HTTP/1 answer, and the framing of its body (RFC 9112 sections 4 to 6).

Pure. It takes what is unambiguous, as curl and browsers do, and refuses the rest by its name: bare line feeds, folded
lines, a space before the colon, odd names and an equal Content-Length twice are taken; two different lengths are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

from mediagen.core.errors import FetchRefused
from mediagen.streams.base import KIB

MAX_HEAD: Final = 64 * KIB
MAX_LINES: Final = 300
_STATUS_LINE: Final = re.compile(rb"HTTP/([0-9])\.([0-9])[ \t]+([0-9]{3})(?:[ \t]+([^\r\n]*))?", re.IGNORECASE)
_END: Final = re.compile(rb"\n\r?\n")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_SHOWN: Final = 60
"""Characters of an answer that are repeated in an error."""


@dataclass(frozen=True, slots=True)
class Head:
    """A status line and its fields, their values decoded as Latin-1. ``persistent``: the connection outlives it."""

    status: int
    reason: str
    headers: CIMultiDictProxy[str]
    persistent: bool = False


@dataclass(frozen=True, slots=True)
class Framing:
    """Where the body ends: after ``length`` bytes, with its last chunk, or else where the connection ends."""

    length: int | None = None
    chunked: bool = False

    @property
    def self_delimiting(self) -> bool:
        """Whether the body says itself where it ends."""
        return self.chunked or self.length is not None


def find_end_of_head(received: bytes | bytearray, start: int = 0) -> int | None:
    """Index behind the empty line that ends a head; None: it has not come. ``start``: where to look from."""
    found = _END.search(received, max(0, start - 3))
    return None if found is None else found.end()


def check_size(received: bytes | bytearray) -> None:
    """Raises FetchRefused when a head is too large, whether its end has come or not."""
    if len(received) > MAX_HEAD:
        raise FetchRefused(f"the head of the answer is longer than {MAX_HEAD // KIB} KiB")
    if received.count(b"\n") > MAX_LINES + 2:  # and the status line, and the empty line
        raise FetchRefused(f"the head of the answer has more than {MAX_LINES} lines")


def check_start(received: bytes | bytearray) -> None:
    """Raises FetchRefused as soon as the first bytes cannot be those of an answer."""
    if bytes(received[:5]).upper() != b"HTTP/"[: len(received)]:
        raise FetchRefused(f"the answer is not HTTP/1; it begins with {_shown(bytes(received[:16]))}")


def parse_head(head: bytes) -> Head:
    """The head in ``head``, which ends with its empty line.

    Raises:
        FetchRefused: it is none, or too large; the text says why.
    """
    check_start(head)
    check_size(head)
    lines = [line.removesuffix(b"\r") for line in head.split(b"\n")[:-2]]
    first = _STATUS_LINE.fullmatch(lines[0])
    if first is None:
        raise FetchRefused(f"the answer's status line cannot be read: {_shown(lines[0])}")
    if first[1] != b"1":
        raise FetchRefused(f"the answer is not HTTP/1; it begins with {_shown(lines[0])}")
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in _fields(lines[1:]):
        headers.add(name.decode("latin-1"), value.decode("latin-1"))
    reason = _printable((first[4] or b"").decode("latin-1"))
    return Head(int(first[3]), reason, CIMultiDictProxy(headers), _persistent(int(first[2]), headers))


def _persistent(minor: int, headers: CIMultiDict[str]) -> bool:
    """Whether more requests may follow over the connection (RFC 9112 section 9.3)."""
    options = {item.strip().lower() for value in headers.getall("Connection", []) for item in value.split(",")}
    return "close" not in options and (minor > 0 or "keep-alive" in options)


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        if b"\r" in line or b"\0" in line:
            raise FetchRefused(f"a line of the answer's head has a bare CR or a NUL: {_shown(line)}")
        if line[:1] in (b" ", b"\t"):
            if fields and (more := line.strip(b" \t")):  # RFC 9112 section 5.2; before the first field it says nothing
                name, value = fields[-1]
                fields[-1] = name, value + b" " + more if value else more
            continue
        name, colon, value = line.partition(b":")
        if colon and (name := name.strip(b" \t")):  # a line that names nothing says nothing
            fields.append((name, value.strip(b" \t")))
    return fields


def parse_framing(head: Head) -> Framing:
    """The framing of the body of an answer to a GET (RFC 9112 section 6.3).

    Raises:
        FetchRefused: it contradicts itself, or has a transfer coding that we do not take.
    """
    if head.status < 200 or head.status in (204, 304):
        return Framing(length=0)
    codings = _codings(head.headers.getall("Transfer-Encoding", []))
    for coding in codings:
        if coding != "chunked":
            raise FetchRefused(f"the answer has the transfer coding {_shown(coding.encode())}, which was not asked for")
    if codings:
        return Framing(chunked=True)  # it overrides a length; said twice it is meant once, as curl takes it
    return Framing(length=_length(head.headers.getall("Content-Length", [])))


def _codings(values: list[str]) -> list[str]:
    """Lower-case names of the transfer codings that change anything."""
    names = [item.partition(";")[0].strip().lower() for value in values for item in value.split(",")]
    return [name for name in names if name not in ("", "identity")]


def _length(values: list[str]) -> int | None:
    if not values:
        return None
    lengths = [item.strip() for value in values for item in value.split(",") if item.strip()]
    for length in lengths:
        if not _LENGTH.fullmatch(length):
            raise FetchRefused(f"the answer's Content-Length is no number: {_shown(length.encode())}")
    different = sorted({int(length) for length in lengths})
    if not different:
        raise FetchRefused("the answer's Content-Length is empty")
    if len(different) > 1:
        raise FetchRefused(f"the answer has two lengths, {different[0]} and {different[1]} bytes")
    return different[0]


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())[:_SHOWN].strip()


def _shown(data: bytes) -> str:
    return repr(data[:_SHOWN].decode("latin-1"))
