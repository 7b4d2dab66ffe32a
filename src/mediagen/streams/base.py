"""The protocols of the streaming path.

Bytes go one way: source → counted, limited, sniffed, hashed → part → sink. Two lanes share these protocols:

* the **buffer lane** reads any ``Source`` into part buffers from a pool with one budget for the whole process, or
  through one small buffer where the sink keeps no parts;
* the **range lane** asks a ``RangeSource`` for each part separately: the body of a part is its download, nothing is
  buffered, parts run in parallel, and a failed part is repeated by reading its range again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

View: TypeAlias = bytes | bytearray | memoryview
"""Bytes-like with one byte per item, so that ``len`` counts bytes."""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class Source(Protocol):
    """Bytes from an opened resource, once and in order."""

    @property
    def size(self) -> int | None:
        """Length in bytes; None: unknown; 0: known to be empty."""

    async def read_into(self, buffer: memoryview, /) -> int:
        """Read at least one byte into ``buffer``; return how many, 0 at the end. Every failure is an exception."""


class SupportsTryRead(Protocol):
    """A source that a thread can read while it is quick."""

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        """Read what comes ``within`` seconds into ``buffer``; 0: nothing came, or only ``read_into`` can tell why.

        Called in a thread, while nothing else uses the source.
        """


def can_try_read(source: Source) -> bool:
    """Whether the source has ``SupportsTryRead.try_read``; isinstance of a protocol takes 20 microseconds."""
    return hasattr(source, "try_read")


def try_read_from(source: object, buffer: memoryview, *, within: float) -> int:
    """``SupportsTryRead.try_read`` of any source; 0 of one that does not have it."""
    try_read: Callable[..., int] | None = getattr(source, "try_read", None)
    return 0 if try_read is None else try_read(buffer, within=within)


async def fill(source: Source, buffer: memoryview) -> int:
    """Read until the buffer is full or the source ends; return how many bytes it has."""
    filled = 0
    while filled < len(buffer) and (count := await source.read_into(buffer[filled:])):
        filled += count
    return filled


class Target(Protocol):
    """Where the bytes of a body go: a socket or a file. A view belongs to the caller again when the call returns."""

    async def write(self, view: memoryview, /) -> None:
        """Write all of ``view``, however long that takes."""

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        """Write ``view`` until that would pause for ``within`` seconds; return how many bytes went, possibly 0.

        Called in a thread, while nothing else uses the target.
        """


class Body(Protocol):
    """The bytes of one part. A retry may write them again, from the first byte."""

    def __len__(self) -> int: ...

    async def write_to(self, target: Target, /) -> None:
        """Write all bytes to ``target``, from the first. ``crc32`` is that of the last call that completed."""

    def read_ahead(self, start: int, end: int, /) -> bytes:
        """These bytes alone, for a hash that is needed before they are sent. Raises RuntimeError: they come once."""

    @property
    def crc32(self) -> int: ...


Watch: TypeAlias = Callable[[int, memoryview], None]
"""Called from any thread with bytes that pass: the offset of the first one in the resource, and the bytes."""


class RangeSource(Protocol):
    """A resource of known length whose byte ranges can be requested again, guarded by its validator."""

    @property
    def size(self) -> int: ...

    def open_reader(self) -> RangeReader:
        """A reader with its own connection, which it does not open yet."""


class RangeReader(SupportsTryRead, Protocol):
    """Reads ranges one after another over one connection, and reconnects where it breaks."""

    def expect(self, start: int, end: int, /) -> None:
        """Announce that the bytes from ``start`` up to ``end`` will be read next, so that one request covers them."""

    async def seek(self, offset: int, /) -> None:
        """Continue at ``offset``. The open connection is kept if it is already there."""

    async def read_into(self, buffer: memoryview, /) -> int:
        """As ``Source.read_into``; never returns 0 before the end of the resource."""

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part that the store has acknowledged. ``token`` is what the store needs at the end (S3: the ETag)."""

    number: int
    size: int
    crc32: int
    token: str


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """A part as the store lists it: its length in bytes, and the token as in ``StoredPart``."""

    size: int
    token: str


class Sink(Protocol):
    """An open upload. Left without ``commit`` or ``detach`` it leaves nothing behind."""

    @property
    def part_size(self) -> int:
        """Bytes of every part but the last; constant during an upload (R2 requires it)."""

    @property
    def parts_in_flight(self) -> int:
        """How many parts may be sent at once."""

    @property
    def accepts_ranges(self) -> bool:
        """Whether parts may be bodies that cannot be read ahead (``RangeBody``)."""

    @property
    def accepts_stream(self) -> bool:
        """Whether ``put_whole`` accepts a one-shot body of any length, known or not, so that no part is buffered."""

    @property
    def chunk_size(self) -> int:
        """Preferred bytes of one write."""

    @property
    def state(self) -> Mapping[str, Any]:
        """What ``Storage.open_sink(resume=…)`` needs after a crash; can be written as JSON."""

    @property
    def stored(self) -> Mapping[int, PartReceipt]:
        """Parts, by number, that the store already had when the upload was resumed."""

    async def begin(self) -> None:
        """Begin an upload in parts; its ``state`` is complete afterwards. Not needed before ``put_whole``."""

    async def put_part(self, number: int, body: Body) -> StoredPart:
        """Store part ``number`` (from 1). Retries where that can help; a part sent twice replaces the first."""

    async def put_whole(self, body: Body) -> None:
        """Store an object in a single request, instead of ``begin`` and ``put_part``.

        The object must fit one part, unless the sink ``accepts_stream``; then ``body`` may have no length until it has
        been written.
        """

    @property
    def committed(self) -> bool:
        """The object is visible: after ``commit``, or already when a crashed run was resumed."""

    async def commit(self, parts: list[StoredPart], *, size: int, crc32: int) -> None:
        """Make the whole object visible under its final key.

        ``parts`` are in ascending order, and empty after ``put_whole``. Where the outcome is unknown, the sink looks
        for the object.

        Raises:
            StorageUnavailable: the object did not become visible.
        """

    def detach(self) -> None:
        """Keep what is stored for a later resume instead of removing it."""

    @property
    def left_behind(self) -> bool:
        """After the sink was left: cleaning up failed, and ``Storage.abort(state)`` is still to be done."""
