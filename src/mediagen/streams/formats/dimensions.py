"""Width, height and duration of a file, and the protocol of the parsers that find them.

A parser is a generator: it yields the bytes that it needs, receives them, and fills in ``Dimensions``. Width and height
are those of the coded pixels, before any rotation or scaling that a player applies.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, TypeAlias

from mediagen.streams.base import KIB

_MAX_SIDE: Final = 1 << 20
_MAX_SECONDS: Final = 10 * 366 * 86_400.0
"""More is a head that nobody filled in."""


@dataclass(slots=True)
class Dimensions:
    """Pixels and seconds; None: not known. ``size`` in bytes is known at the end."""

    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    size: int = 0

    def set_size(self, width: int, height: int) -> None:
        if 0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE:
            self.width, self.height = width, height

    def set_duration(self, units: float, per_second: float) -> None:
        if units > 0 and per_second > 0 and units / per_second <= _MAX_SECONDS:
            self.duration_seconds = round(units / per_second, 3)


@dataclass(frozen=True, slots=True)
class ByteRequest:
    """``count`` bytes at ``offset``; or, with ``tail``, as many of the last bytes of the file as were seen."""

    offset: int
    count: int
    tail: bool = False


HeadParser: TypeAlias = Generator[ByteRequest, bytes, None]
TAIL: Final = ByteRequest(0, 64 * KIB, tail=True)
SIZE: Final = ByteRequest(0, 0, tail=True)
"""Nothing more, but to be asked once the size is known."""


def be(data: bytes) -> int:
    """A number, most significant byte first."""
    return int.from_bytes(data, "big")


def le(data: bytes) -> int:
    """A number, least significant byte first."""
    return int.from_bytes(data, "little")


def box_at(at: int) -> Generator[ByteRequest, bytes, tuple[int, bytes, int]]:
    """Size, name and length of the head of the box at ``at``; a size of 0 reaches to the end of the file."""
    head = yield ByteRequest(at, 8)
    size, name = be(head[:4]), head[4:]
    if size == 1:
        return be((yield ByteRequest(at + 8, 8))), name, 16
    return size, name, 8
