"""Moves the bytes of a source into a sink. Two lanes, one result.

    buffer lane   source ─ fill, CRC ─▶ [part buffer from the pool] ─▶ SHA-256 in a thread ─▶ sink.put_part
      to a sink that accepts a stream:  sink.put_whole ─▶ StreamedBody.write_to ◀─ source, CRC and SHA-256 on the way
    range lane    N workers: sink.put_part ─▶ RangeBody.write_to ◀─ reader's range, CRC on the way, no part buffer

The lanes are ``buffer_lane`` and ``range_lane``; this module has what they share. Neither commits: the caller compares
sizes, then commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mediagen.core.errors import SourceTruncated, first_cause
from mediagen.streams.base import PartReceipt, Sink, StoredPart


@dataclass(frozen=True, slots=True)
class TransferResult:
    """Bytes moved, CRC-32 of the whole, SHA-256 where bytes came in order, and the parts to commit."""

    size: int
    crc32: int
    sha256: str | None
    parts: list[StoredPart]


def check_size(announced: int | None, received: int) -> None:
    if announced is not None and received != announced:
        raise SourceTruncated(f"got {received} of {announced} bytes")


@asynccontextmanager
async def first_error() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the error that came first instead of a group, so that callers can catch it by class."""
    own: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            try:
                yield group
            except Exception as exc:
                own = exc
                raise
    except BaseExceptionGroup as several:
        raise own or first_cause(several) from None


def still_stored(recorded: Sequence[StoredPart], sink: Sink) -> list[StoredPart]:
    """The recorded parts that the store still has, unchanged."""
    return [part for part in recorded if sink.stored.get(part.number) == PartReceipt(part.size, part.token)]
