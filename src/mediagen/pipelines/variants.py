"""Thumbnails and spritesheets of stored videos, made at the first request and kept as files that belong to the video.

Requests for the same variant share its work, which goes on when the client has gone. A permanent failure is remembered
for a while, so that an unreadable video is not decoded at every request.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Final, Literal, Protocol, TypeAlias

import structlog

from mediagen.core.errors import Conflict, DeadlineExceeded, MediagenError, NotFound, Unavailable, UnsupportedMedia
from mediagen.core.files import CLAIM, TYPE_FROM, File, FileKind, new_id
from mediagen.media import thumbnails
from mediagen.media.thumbnails import EncodedImage
from mediagen.media.video import Video
from mediagen.media.vips import VipsPool
from mediagen.pipelines.saving.placement import Placement, StoreContext
from mediagen.pipelines.saving.request_upload import RequestUploads
from mediagen.streams.formats.sniff import extension_of
from mediagen.streams.sources import ChunkSource

log = structlog.get_logger(__name__)

VariantName: TypeAlias = Literal["thumbnail", "spritesheet"]
_Key: TypeAlias = tuple[str, str]

_RENDERERS: Final[Mapping[VariantName, Callable[[Video, VipsPool], Awaitable[EncodedImage]]]] = {
    "thumbnail": thumbnails.make_thumbnail,
    "spritesheet": thumbnails.make_spritesheet,
}
FOLDER: Final = "thumbnails"

_REMEMBERED: Final = 1000
_REMEMBERED_SECONDS: Final = 600.0


class Rows(Protocol):
    """The rows of files, as ``tasks.ports.Files`` has them."""

    async def get(self, file_id: str, *, owner: str | None = None) -> File | None: ...

    async def insert(self, file: File, *, key: str | None = None, fingerprint: str = "") -> File: ...


@dataclass(frozen=True, slots=True)
class VariantLimits:
    """How many variants are made at once, how many more may wait, and how many seconds a caller waits."""

    at_once: int = 2
    waiting: int = 32
    seconds: float = 60.0
    retry_after: float = 5.0


class Variants:
    """Finds and makes the variants of videos, inside ``running``."""

    def __init__(
        self, store: StoreContext, uploads: RequestUploads, files: Rows, limits: VariantLimits | None = None
    ) -> None:
        self._storage = store.storage
        self._max_pixels = store.limits.pixels
        self._uploads = uploads
        self._files = files
        self._limits = limits or VariantLimits()
        self._slots = asyncio.Semaphore(self._limits.at_once)
        self._pool = VipsPool(self._limits.at_once)
        self._group: asyncio.TaskGroup | None = None
        self._works: set[asyncio.Task[None]] = set()
        self._making: dict[_Key, asyncio.Future[File]] = {}
        self._failed: OrderedDict[_Key, tuple[float, UnsupportedMedia | DeadlineExceeded]] = OrderedDict()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make variants inside the block; unfinished work is cancelled at its end."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    yield
                finally:
                    self._group = None
                    for work in self._works:
                        work.cancel()
        finally:
            self._pool.close()

    async def get_or_create(self, video: File, name: VariantName) -> File:
        """The variant of a video; it is made if there is none yet.

        Raises:
            UnsupportedMedia: the video cannot be decoded.
            Unavailable: too many are waiting, or this one takes longer; its work goes on, so ask again.
            NotFound: the video was deleted.
            StorageUnavailable, StorageFull, DeadlineExceeded, FfmpegMissing.
        """
        for variant in video.variants:
            if variant.variant == name:
                return variant
        key = (video.id, name)
        self._raise_recent_failure(key)
        making = self._making.get(key) or self._start(key, name)
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await asyncio.shield(making)
        except TimeoutError:
            raise Unavailable(f"the {name} is still being made", retry_after=self._limits.retry_after) from None

    def _raise_recent_failure(self, key: _Key) -> None:
        since, failure = self._failed.get(key, (0.0, None))
        if failure is not None and time.monotonic() - since < _REMEMBERED_SECONDS:
            raise type(failure)(failure.detail, **failure.context)

    def _start(self, key: _Key, name: VariantName) -> asyncio.Future[File]:
        if self._group is None or len(self._making) >= self._limits.at_once + self._limits.waiting:
            raise Unavailable(
                "too many thumbnails and sprite sheets are waiting to be made", retry_after=self._limits.retry_after
            )
        making = self._making[key] = asyncio.get_running_loop().create_future()
        making.add_done_callback(lambda done: done.exception())  # the client may have gone
        work = self._group.create_task(self._run(key, name, making))
        self._works.add(work)
        work.add_done_callback(partial(self._end, key, making))
        return making

    async def _run(self, key: _Key, name: VariantName, making: asyncio.Future[File]) -> None:
        try:
            async with self._slots:
                making.set_result(await self._create(key[0], name))
        except (UnsupportedMedia, DeadlineExceeded) as exc:  # the video will be the same next time
            making.set_exception(exc)
            self._failed[key] = (time.monotonic(), exc)
            if len(self._failed) > _REMEMBERED:
                self._failed.popitem(last=False)
        except MediagenError as exc:
            making.set_exception(exc)
        except Exception:
            log.exception("variant_crashed", film=key[0], variant=name)
            making.set_exception(MediagenError("the image could not be made; the server's log has the reason"))

    def _end(self, key: _Key, making: asyncio.Future[File], work: asyncio.Task[None]) -> None:
        """Also called for work that was cancelled, perhaps before it began."""
        self._works.discard(work)
        del self._making[key]
        if not making.done():
            making.set_exception(Unavailable("the server is stopping", retry_after=self._limits.retry_after))

    async def _create(self, video_id: str, name: VariantName) -> File:
        video = await self._files.get(video_id)
        if video is None:
            raise NotFound("the video was deleted")
        for variant in video.variants:
            if variant.variant == name:  # made since the request looked
                return variant
        if video.metadata.get(TYPE_FROM) == CLAIM:
            raise UnsupportedMedia("the file is not a video, although its declared type says so")
        opens = partial(self._storage.open_source, video.key)
        probed = await Video.probe(opens, size=video.bytes, media_type=video.media_type, max_pixels=self._max_pixels)
        image = await _RENDERERS[name](probed, self._pool)
        placement = _place_variant(video, name, image)
        source = ChunkSource(_chunks_of(image.data), size=len(image.data))
        try:
            async with self._uploads.save(placement, source, owner=video.owner) as pending:
                file = await self._files.insert(
                    replace(pending.file, variant_of=video.id, variant=name, width=image.width, height=image.height)
                )
                pending.claim()
                return file
        except Conflict:
            raise NotFound("the video was deleted in the meantime") from None


def _place_variant(video: File, name: VariantName, image: EncodedImage) -> Placement:
    """A new key, so that the leftovers of a crash are never taken for this image."""
    file_id, extension = new_id("file"), extension_of(image.media_type)
    return Placement(
        file_id=file_id,
        key=f"{FOLDER}/{file_id}{extension}",
        filename=f"{PurePosixPath(video.filename).stem}-{name}{extension}",
        media_type=image.media_type,
        kind=FileKind.IMAGE,
    )


async def _chunks_of(data: bytes) -> AsyncIterator[bytes]:
    yield data
