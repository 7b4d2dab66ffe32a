"""The words of the streaming path.

A byte walks one way: source → counted, limited, sniffed, hashed → part → sink. Two lanes share these words:

* the **buffer lane** pulls any ``Source`` into part buffers taken from a pool with one budget for the whole process,
  or through one small buffer where a sink needs no part again;
* the **range lane** asks a ``RangeSource`` for each part by itself: the part's body is the download, nothing is
  buffered, parts run in parallel, a failed part is replayed by reading its range again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

View: TypeAlias = bytes | bytearray | memoryview
"""Bytes-like with one byte an item, so that ``len`` means bytes."""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class Source(Protocol):
    """Bytes that come once, in order, from an opened resource."""

    @property
    def size(self) -> int | None:
        """Length in bytes; None: not known; 0: known to be empty."""

    async def read_into(self, buffer: memoryview, /) -> int:
        """Put at least one byte into ``buffer`` and give their number; 0 is the end, every failure is an exception."""


@runtime_checkable
class SupportsTryRead(Protocol):
    """A source that a thread can read from while it is quick."""

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        """What comes ``within`` seconds, put into ``buffer``; 0: nothing, or what only ``read_into`` can tell.

        Called in a thread, while nobody else uses the source.
        """


async def fill(source: Source, buffer: memoryview) -> int:
    """Read until the buffer is full or the source ends; how many bytes there are."""
    filled = 0
    while filled < len(buffer) and (count := await source.read_into(buffer[filled:])):
        filled += count
    return filled


def try_read_from(source: object, buffer: memoryview, *, within: float) -> int:
    """``SupportsTryRead.try_read`` of a source that may have no such thing."""
    try_read: Callable[..., int] | None = getattr(
        source, "try_read", None
    )  # isinstance of a protocol takes 20 microseconds
    return 0 if try_read is None else try_read(buffer, within=within)


class Target(Protocol):
    """Where the bytes of a body go: a socket, a file. A view is the caller's own again when the call returns."""

    async def write(self, view: memoryview, /) -> None:
        """Take all of ``view``, waiting as long as that takes."""

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        """Take ``view`` from the beginning, as far as goes without a pause of ``within`` seconds; gives bytes, maybe 0.

        Called in a thread, while nobody else uses the target.
        """


class Body(Protocol):
    """The bytes of one part, replayable from its start as often as a retry wants."""

    def __len__(self) -> int: ...

    async def write_to(self, target: Target, /) -> None:
        """Give all bytes to ``target``, from the first. ``crc32`` is that of the last time that came to its end."""

    def read_ahead(self, start: int, end: int, /) -> bytes:
        """These bytes by themselves, for what must be hashed before it is sent. Raises RuntimeError: they come once."""

    @property
    def crc32(self) -> int: ...


Watch: TypeAlias = Callable[[int, memoryview], None]
"""Sees bytes that pass: where in the resource the first of them stands, and the bytes. Called from any thread."""


class RangeSource(Protocol):
    """A resource of known length whose every byte range can be asked for again, guarded by its validator."""

    @property
    def size(self) -> int: ...

    def open_reader(self) -> RangeReader:
        """A reader with a connection of its own; opens nothing yet."""


class RangeReader(SupportsTryRead, Protocol):
    """Reads ranges one after another over one connection, re-opened where it broke."""

    def expect(self, start: int, end: int, /) -> None:
        """The bytes from ``start`` up to ``end`` will be read next; one connection can serve them all."""

    async def seek(self, offset: int, /) -> None:
        """The next byte read is the one at ``offset``; the present connection is kept when it stands there already."""

    async def read_into(self, buffer: memoryview, /) -> int:
        """As ``Source.read_into``; never gives 0 before the end of the resource."""

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
    """What a store says of a part that it has: bytes, and the token as in ``StoredPart``."""

    size: int
    token: str


class Sink(Protocol):
    """An open upload. Left without ``commit`` or ``detach`` it leaves nothing behind."""

    @property
    def part_size(self) -> int:
        """Bytes of every part but the last; constant while the upload lives (R2 demands it)."""

    @property
    def parts_in_flight(self) -> int:
        """How many parts may be on their way at once."""

    @property
    def accepts_ranges(self) -> bool:
        """Whether parts may be bodies that cannot be read ahead (``RangeBody``)."""

    @property
    def accepts_stream(self) -> bool:
        """Whether ``put_whole`` pours a body once and takes any length, known or not: no part has to be kept for it."""

    @property
    def chunk_size(self) -> int:
        """Bytes that the store likes to be given at a time."""

    @property
    def state(self) -> Mapping[str, Any]:
        """What ``Storage.open_sink(resume=…)`` needs to go on after a crash; JSON-able."""

    @property
    def stored(self) -> Mapping[int, PartReceipt]:
        """Parts by number that the store already had when the upload was resumed."""

    async def begin(self) -> None:
        """Announce an upload in parts; its ``state`` is complete afterwards. Not needed before ``put_whole``."""

    async def put_part(self, number: int, body: Body) -> StoredPart:
        """Store part ``number`` (from 1). Retries what a retry can help; a part sent twice replaces the first."""

    async def put_whole(self, body: Body) -> None:
        """Store an object in a single request, instead of ``begin`` and ``put_part``: one that fits one part, or any
        where the sink ``accepts_stream``; then ``body`` may learn its length only while it is poured."""

    @property
    def committed(self) -> bool:
        """The object is visible: after ``commit``, or found so when a crashed run was resumed."""

    async def commit(self, parts: list[StoredPart], *, size: int, crc32: int) -> None:
        """Make the object visible, whole and under its final key.

        ``parts`` in ascending order, empty after ``put_whole``. Settles an unknown outcome by looking at the object.

        Raises:
            StorageUnavailable: it did not become visible.
        """

    def detach(self) -> None:
        """Leave what is stored for a later resume instead of removing it."""

    @property
    def left_behind(self) -> bool:
        """After the sink was left: it had to be removed and could not be; ``Storage.abort(state)`` is still owed."""
