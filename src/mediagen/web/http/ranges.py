"""Byte ranges of a request for a file (RFC 9110 section 14). Pure functions.

Nobody can ask for much more than the file: ranges that overlap or touch become one (section 15.3.7.2), and a request
for more than ``MAX_RANGES`` gets the whole file, as section 14.2 allows for what only a broken or hostile client does.
So what is sent is at most the file and 13 kB of heads.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mediagen.web.http.problems import RangeNotSatisfiable

MAX_RANGES: Final = 64
"""Ranges of one request."""

_UNIT: Final = re.compile(r"bytes=(?P<set>.*)", re.IGNORECASE | re.DOTALL)
_SPEC: Final = re.compile(r"(?P<first>[0-9]+)-(?P<last>[0-9]*)|-(?P<suffix>[0-9]+)")
_DIGITS: Final = 19
"""No file needs more digits than a 64-bit number; what has more is further than any end."""


def wanted_ranges(text: str | None, size: int) -> tuple[range, ...] | None:
    """The bytes that a ``Range`` header asks for, in the order in which to send them; None: all of them.

    Other units, what is malformed and what is too much are ignored (section 14.2). So is the end of an empty file,
    of which no ``Content-Range`` could tell.

    Raises:
        RangeNotSatisfiable: all of them begin behind the end.
    """
    match = _UNIT.fullmatch(text or "")
    if match is None:
        return None
    specs = [spec for one in match["set"].split(",") if (spec := one.strip(" \t"))]
    found = [_parse(spec, size) for spec in specs]
    if not found or None in found or len(found) > MAX_RANGES:
        return None
    satisfiable = [one for one in found if one]
    if satisfiable:
        return _joined(satisfiable)
    if not size and any(spec.startswith("-") and spec.strip("-0") for spec in specs):
        return None
    raise RangeNotSatisfiable(
        f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
    )


def _parse(spec: str, size: int) -> range | None:
    """One range within the file, empty when it lies outside; None when it is invalid (section 14.1.1)."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        return None
    if match["suffix"] is not None:
        return range(max(0, size - _number(match["suffix"])), size)
    first = _number(match["first"])
    if not match["last"]:
        return range(first, max(first, size))
    last = _number(match["last"])
    if last < first:
        return None
    return range(first, max(first, min(size, last + 1)))


def _number(digits: str) -> int:
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _DIGITS else 10**_DIGITS


def _joined(wanted: Sequence[range]) -> tuple[range, ...]:
    """The ranges, those made one that overlap or touch, in the order in which each was first asked for."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index].start)
    groups: list[tuple[int, range]] = []
    for index in order:
        one = wanted[index]
        if groups and one.start <= groups[-1][1].stop:
            rank, before = groups[-1]
            groups[-1] = (min(rank, index), range(before.start, max(before.stop, one.stop)))
        else:
            groups.append((index, one))
    return tuple(one for _, one in sorted(groups, key=lambda group: group[0]))


def content_range(part: range, size: int) -> str:
    """``Content-Range`` of these bytes (section 14.4)."""
    return f"bytes {part.start}-{part.stop - 1}/{size}"


@dataclass(frozen=True, slots=True)
class Multipart:
    """A body of type ``multipart/byteranges`` (section 14.6): each part with its head before it, and ``tail``."""

    parts: tuple[tuple[bytes, range], ...]
    tail: bytes
    content_type: str

    @classmethod
    def make(cls, wanted: Sequence[range], *, media_type: str, size: int) -> Multipart:
        """The body of these ranges of a file of ``size`` bytes, with a boundary that nobody can have put into it."""
        boundary = secrets.token_hex(16)
        heads = (
            f"{chr(13) + chr(10) if number else ''}--{boundary}\r\n"
            f"Content-Type: {media_type}\r\nContent-Range: {content_range(part, size)}\r\n\r\n"
            for number, part in enumerate(wanted)
        )
        return cls(
            tuple((head.encode(), part) for head, part in zip(heads, wanted, strict=True)),
            f"\r\n--{boundary}--\r\n".encode(),
            f"multipart/byteranges; boundary={boundary}",
        )

    @property
    def length(self) -> int:
        """Bytes of the whole body."""
        return sum(len(head) + len(part) for head, part in self.parts) + len(self.tail)
