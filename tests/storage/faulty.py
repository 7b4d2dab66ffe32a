"""Which requests of an upload a fault strikes, and uploads to strike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from mediagen.core.errors import (
    first_cause,
)
from mediagen.storage.s3.storage import S3Storage
from mediagen.streams.base import StoredPart
from mediagen.streams.range_lane import move_ranges
from tests.contracts.uploads import (
    ABOUT,
    KEY,
    BytesSource,
    Readings,
    buffered,
)
from tests.infra.s3 import Bucket
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.radosgw import RadosGW
from tests.storage.places import S3_PART, S3Place, s3_place
from tests.streams.targets import THREADS

SIZE: Final = S3_PART + 1001

# by method and target: which request of an upload a fault strikes
CREATE: Final = ("POST", r"\?uploads")
PART: Final = ("PUT", r"partNumber=1\b")
COMPLETE: Final = ("POST", r"\?uploadId=")
WHOLE: Final = ("PUT", r"file_0123\.mp4$")
ABORT: Final = ("DELETE", r"\?uploadId=")
PARTS: Final = ("GET", r"\?.*uploadId=")
UPLOADS: Final = ("GET", r"\?.*uploads")
HEAD: Final = ("HEAD", r"file_0123\.mp4")

# deadlines of a request: the answer's, and for its bytes almost nothing
IMPATIENT: Final[dict[str, Any]] = {"answer_seconds": 1.0, "minimum_bytes_per_second": 1 << 30, "attempts": 2}


@asynccontextmanager
async def impatient(radosgw: RadosGW, bucket: Bucket, proxy: FaultProxyThread) -> AsyncIterator[S3Place]:
    async with s3_place(radosgw, bucket, endpoint_url=proxy.url, **IMPATIENT) as place:
        yield place


async def cleared(place: S3Place, proxy: FaultProxyThread) -> None:
    """Everything as at the beginning."""
    proxy.clear()
    await place.bucket.empty()


def struck(proxy: FaultProxyThread) -> int:
    """How many requests a fault has met."""
    return sum(entry.fault is not None for entry in proxy.log)


async def through_ranges(storage: S3Storage, data: bytes, *, readings: Readings | None = None) -> None:
    """Everything through the range lane, committed."""
    readings = readings or Readings(len(data))

    async def record(part: StoredPart) -> None:
        assert part.size > 0

    async with storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
        await sink.begin()
        try:
            moved = await move_ranges(
                BytesSource(data),
                sink,
                readers=[],
                meter=readings.meter,
                done=[],
                record=record,
                workers=2,
                threads=THREADS,
            )
        except ExceptionGroup as exc:
            raise first_cause(exc) from exc
        await sink.commit(moved.parts, size=moved.size, crc32=moved.crc32)


async def through_buffers(storage: S3Storage, data: bytes) -> None:
    async with storage.open_sink(KEY, **ABOUT, size=len(data)) as sink:
        await buffered(sink, data)
