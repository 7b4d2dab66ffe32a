"""Pictures of stored films, made when they are first asked for and kept as files that belong to their film.

Whoever asks for one that is being made waits for the same work; what went wrong for good is remembered for a while, so
that a film that cannot be read is not read at every request. The work is nobody's request: it goes on when the one who
asked has gone, and the next one finds it done.
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

_MAKERS: Final[Mapping[VariantName, Callable[[Video, VipsPool], Awaitable[EncodedImage]]]] = {
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
    """How much is done at once: so many pictures are made, so many wait, and so long a caller does."""

    at_once: int = 2
    waiting: int = 32
    seconds: float = 60.0
    retry_after: float = 5.0


class Variants:
    """Makes and finds the pictures of films. Works inside ``running``."""

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
        """Pictures are made inside the block; what is unfinished at its end is given up."""
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

    async def of(self, film: File, name: VariantName) -> File:
        """The picture of a film, made if there is none yet.

        Raises:
            UnsupportedMedia: no picture can be made of it.
            Unavailable: too many wait, or this one is not done yet; it goes on, and can be asked for again.
            NotFound: the film or its bytes are gone.
            StorageUnavailable, StorageFull, DeadlineExceeded, FfmpegMissing.
        """
        for variant in film.variants:
            if variant.variant == name:
                return variant
        key = (film.id, name)
        self._raise_remembered(key)
        making = self._making.get(key) or self._start(key, name)
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await asyncio.shield(making)
        except TimeoutError:
            raise Unavailable(f"the {name} is still being made", retry_after=self._limits.retry_after) from None

    def _raise_remembered(self, key: _Key) -> None:
        since, failure = self._failed.get(key, (0.0, None))
        if failure is not None and time.monotonic() - since < _REMEMBERED_SECONDS:
            raise type(failure)(failure.detail, **failure.context)

    def _start(self, key: _Key, name: VariantName) -> asyncio.Future[File]:
        if self._group is None or len(self._making) >= self._limits.at_once + self._limits.waiting:
            raise Unavailable(
                "too many thumbnails and sprite sheets are waiting to be made", retry_after=self._limits.retry_after
            )
        making = self._making[key] = asyncio.get_running_loop().create_future()
        making.add_done_callback(lambda done: done.exception())  # whoever asked may have gone
        work = self._group.create_task(self._carry_out(key, name, making))
        self._works.add(work)
        work.add_done_callback(partial(self._ended, key, making))
        return making

    async def _carry_out(self, key: _Key, name: VariantName, making: asyncio.Future[File]) -> None:
        try:
            async with self._slots:
                making.set_result(await self._made(key[0], name))
        except (UnsupportedMedia, DeadlineExceeded) as exc:  # the film will be the same the next time
            making.set_exception(exc)
            self._failed[key] = (time.monotonic(), exc)
            if len(self._failed) > _REMEMBERED:
                self._failed.popitem(last=False)
        except MediagenError as exc:
            making.set_exception(exc)
        except Exception:
            log.exception("variant_crashed", film=key[0], variant=name)
            making.set_exception(MediagenError("the image could not be made; the server's log has the reason"))

    def _ended(self, key: _Key, making: asyncio.Future[File], work: asyncio.Task[None]) -> None:
        """Also of work that was cancelled, maybe before it began."""
        self._works.discard(work)
        del self._making[key]
        if not making.done():
            making.set_exception(Unavailable("the server stops", retry_after=self._limits.retry_after))

    async def _made(self, film_id: str, name: VariantName) -> File:
        film = await self._files.get(film_id)
        if film is None:
            raise NotFound("the video was deleted")
        for variant in film.variants:
            if variant.variant == name:  # made since the caller looked
                return variant
        if film.metadata.get(TYPE_FROM) == CLAIM:
            raise UnsupportedMedia("the file is not a video, although its declared type says so")
        opens = partial(self._storage.open_source, film.key)
        looked = await Video.probe(opens, size=film.bytes, media_type=film.media_type, max_pixels=self._max_pixels)
        picture = await _MAKERS[name](looked, self._pool)
        placement = _place_variant(film, name, picture)
        source = ChunkSource(_once(picture.data), size=len(picture.data))
        try:
            async with self._uploads.save(placement, source, owner=film.owner) as pending:
                file = await self._files.insert(
                    replace(pending.file, variant_of=film.id, variant=name, width=picture.width, height=picture.height)
                )
                pending.claim()
                return file
        except Conflict:
            raise NotFound("the video was deleted in the meantime") from None


def _place_variant(film: File, name: VariantName, picture: EncodedImage) -> Placement:
    """Where the picture will be: under a name of its own, so that what a crash left is never taken for another one."""
    file_id, extension = new_id("file"), extension_of(picture.media_type)
    return Placement(
        file_id=file_id,
        key=f"{FOLDER}/{file_id}{extension}",
        filename=f"{PurePosixPath(film.filename).stem}-{name}{extension}",
        media_type=picture.media_type,
        kind=FileKind.IMAGE,
    )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
