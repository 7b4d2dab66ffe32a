"""What the doctor asks of the store: to take an object, give it back, and forget it; and what time it is there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from mediagen.app.stores import open_storage
from mediagen.cli.machine import Finding
from mediagen.core.errors import MediagenError, StorageFull, StorageUnavailable
from mediagen.core.files import new_id
from mediagen.settings import Settings
from mediagen.storage.base import Storage, TellsTime
from mediagen.streams.parts import BufferBody

TRIP_SECONDS: Final = 30.0
"""How long opening the store and the whole trip may take."""

_BYTES: Final = 4096
_NOTICEABLE: Final = timedelta(seconds=30)
_REFUSED: Final = timedelta(minutes=15)
"""From here on signatures are refused (Amazon S3, RequestTimeTooSkewed)."""


async def store_findings(settings: Settings) -> list[Finding]:
    """What was found of the store that ``settings`` name; nothing is left in it."""
    return [finding async for finding in _look(settings)]


async def _look(settings: Settings) -> AsyncIterator[Finding]:
    store = settings.storage
    where = f"bucket {store.s3.bucket} at {store.s3.endpoint_url or 'Amazon S3'}" if store.backend == "s3" else "local"
    now: datetime | None = None
    try:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(TRIP_SECONDS):
                storage = await open_storage(settings, stack)
                await storage.check()
                await _round_trip(storage)
                now = await storage.now() if isinstance(storage, TellsTime) else None
    except TimeoutError:
        said = f"{where}: no end within {TRIP_SECONDS:g} s"
        yield Finding("store", "fail", said, "see whether this machine reaches storage.s3.endpoint_url")
        return
    except StorageFull as exc:
        yield Finding("store", "fail", f"{where}: {exc.detail}", "make room, or lower storage.reserve_bytes")
        return
    except (MediagenError, OSError) as exc:
        advice = "see the settings under storage, and the rights of the credentials or of the folder"
        yield Finding("store", "fail", f"{where}: {exc}", advice)
        return
    yield Finding("store", "ok", f"{where}: wrote, read and deleted {_BYTES} bytes")
    if now is not None:
        yield clock(datetime.now(UTC) - now)


async def _round_trip(storage: Storage) -> None:
    """Raises MediagenError where it fails; the object is removed in any case."""
    token = new_id("doctor")
    key = f"assets/files/{token}"
    try:
        await _write_and_read(storage, key, token)
    except BaseException:
        with suppress(MediagenError):
            await storage.delete(key)
        raise
    await storage.delete(key)
    if await storage.head(key) is not None:
        raise StorageUnavailable(f"{key} is still there after it was deleted")


async def _write_and_read(storage: Storage, key: str, token: str) -> None:
    data = secrets.token_bytes(_BYTES)
    body = BufferBody(memoryview(data))
    async with storage.open_sink(key, media_type="application/octet-stream", token=token, size=len(data)) as sink:
        await sink.put_whole(body)
        await sink.commit([], size=len(data), crc32=body.crc32)
    read = bytearray()
    buffer = memoryview(bytearray(_BYTES))
    async with storage.open_source(key) as source:
        while count := await source.read_into(buffer):
            read += buffer[:count]
    if read != data:
        raise StorageUnavailable("the store gave other bytes than it was given")


def clock(ahead: timedelta) -> Finding:
    """A verdict on how far the clock of this machine is ahead of the store's (whole seconds are known)."""
    seconds = round(ahead.total_seconds())
    said = f"{abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} the store's" if seconds else "as the store's"
    if abs(ahead) >= _REFUSED:
        return Finding("clock", "fail", said, "set the clock (NTP): the store refuses such signatures")
    if abs(ahead) >= _NOTICEABLE:
        return Finding("clock", "warn", said, "set the clock (NTP): links expire too early or too late")
    return Finding("clock", "ok", said)
