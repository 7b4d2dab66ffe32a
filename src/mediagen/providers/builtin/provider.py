"""Models ``builtin-poster`` and ``builtin-clip``. Fits ``MakesImages`` and ``RunsOperations``."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mediagen.core.errors import InvalidRequest, UnknownModel
from mediagen.media.image_decoder import DecodeLimits, ImageDecoder
from mediagen.media.thumbnails import to_vips
from mediagen.media.video import Frame
from mediagen.media.vips import VipsPool
from mediagen.providers.base import (
    About,
    Answer,
    Content,
    EffectiveOptions,
    ImageAbilities,
    ImageRequest,
    Input,
    Made,
    Making,
    Model,
    Operation,
    Phase,
    Request,
    Role,
    Size,
    Status,
    Usage,
    VideoAbilities,
    VideoRequest,
)
from mediagen.providers.builtin import clip as clips
from mediagen.providers.builtin import poster
from mediagen.providers.builtin.clip import Clip
from mediagen.providers.builtin.renders import FileSource, Renders
from mediagen.providers.capabilities import check
from mediagen.providers.effective_options import find_effective_options
from mediagen.streams.sources import ChunkSource

if TYPE_CHECKING:
    import pyvips

POSTER: Final = "builtin-poster"
CLIP: Final = "builtin-clip"
_IMAGE_SIZE: Final = Size(1024, 1024)
_VIDEO_SIZE: Final = Size(1280, 720)
_LEAST: Final = 64
_MOST: Final = 4096
_MOST_VIDEO_PIXELS: Final = 1920 * 1088
_SECONDS: Final = 4.0
_MAX_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.5
_MAX_PROMPT: Final = 2000
"""Characters that are looked at; they are saved with the operation."""

MODELS: Final = (
    Model(
        POSTER,
        images=ImageAbilities(
            max_n=10,
            formats=("png", "jpeg", "webp"),
            backgrounds=("opaque", "transparent"),
            max_inputs=1,
            partial_images=True,
        ),
        generative=False,
    ),
    Model(
        CLIP,
        videos=VideoAbilities(max_seconds=_MAX_SECONDS, cancel=True, percent=True),
        generative=False,
    ),
)


class Builtin:
    """The provider that is always there."""

    models = MODELS

    def __init__(self, name: str, pool: VipsPool, renders: Renders, decoder: ImageDecoder) -> None:
        self.name = name
        self._decoder = decoder
        self._pool = pool
        self._renders = renders

    @classmethod
    @asynccontextmanager
    async def open(
        cls, name: str, *, folder: Path | None, parallel: int = 1, decode: DecodeLimits | None = None
    ) -> AsyncIterator[Builtin]:
        """The provider, drawing inside the block. ``folder`` is for files without a name; None: the system's.

        ``decode``: limits of a picture that it is given.
        """
        pool = VipsPool()
        renders = Renders(pool, folder, parallel)
        decoder = ImageDecoder(decode)
        try:
            async with decoder.running(), renders.running():
                yield cls(name, pool, renders, decoder)
        finally:
            pool.close()

    def check(self, request: Request, roles: Sequence[Role] = (), /) -> None:
        """As ``Provider.check``."""
        model = next((model for model in self.models if model.id == request.model), None)
        if model is None:
            raise UnknownModel(f"there is no built-in model {request.model!r}", param="model")
        check(request, model, roles)
        if isinstance(request, ImageRequest):
            _image_size(request, edits=bool(roles))
            if roles:
                self._decoder.announce()
        else:
            _clip(request, roles)

    def effective_options(self, request: Request, /) -> EffectiveOptions:
        """As ``Provider.told``."""
        told = find_effective_options(request, _drawn_by)
        if "style" in request.extra:  # films have no such field; pictures may not have it here either
            told = replace(told, ignored=(*told.ignored, "style"))
        return told

    # -- pictures

    @asynccontextmanager
    async def generate(self, request: ImageRequest, /) -> AsyncIterator[Answer]:
        size = _image_size(request, edits=bool(request.inputs))
        reported = {
            "size": str(size),
            "output_format": request.output_format or "png",
            "background": request.background or "opaque",
            "generator": poster.MAKER,
        }
        about = About(Usage({"images": request.n}, cost_usd=0.0), reported)
        async with aclosing(self._pictures(request, size)) as pictures:
            yield Answer(pictures, about)

    async def _pictures(self, request: ImageRequest, size: Size) -> AsyncGenerator[Made]:
        media_type = f"image/{request.output_format or 'png'}"
        backdrop = to_vips(await self._decoded(request.inputs[0], size)) if request.inputs else None
        for index in range(request.n):
            for partial in range(request.partial_images or 0):
                data = await self._pool.run(_drawn, request, size, index, backdrop, coarse=8 >> partial)
                yield Content(_source(data), index, partial, media_type)
            data = await self._pool.run(_drawn, request, size, index, backdrop)
            yield Content(_source(data), index, None, media_type)

    async def _decoded(self, given: Input, size: Size) -> Frame:
        async with given.open() as source:
            return await self._decoder.decode_to_fill(source, given.size, *size, owner=given.owner)

    # -- films

    async def submit(self, request: Request, /) -> Operation:
        if isinstance(request, ImageRequest):
            raise InvalidRequest(f"{request.model} makes images in one call")
        film = _clip(request, [each.role for each in request.inputs])
        operation = Operation(self.name, request.model, Making.VIDEO, f"clip_{secrets.token_hex(12)}", _state(film))
        self._renders.begin(operation.id, film)
        return operation

    async def poll(self, operation: Operation, /) -> Status:
        """After a restart the film is begun again: it costs nothing, and comes out the same."""
        job = self._renders.begin(operation.id, _clip_of(operation))
        waits = job.phase is Phase.QUEUED
        return Status(
            job.phase,
            operation,
            percent=job.percent if job.phase is Phase.RUNNING else None,
            queue_position=self._renders.position(operation.id) if waits else None,
            poll_after=_POLL_SECONDS,
            error=job.error,
            usage=Usage({"seconds": job.clip.seconds}, cost_usd=0.0) if job.phase is Phase.COMPLETED else None,
        )

    @asynccontextmanager
    async def fetch(self, operation: Operation, /) -> AsyncIterator[Answer]:
        film = _clip_of(operation)
        about = About(reported={"size": str(film.size), "seconds": film.seconds, "generator": clips.MAKER})
        async with self._renders.reading(operation.id) as file, aclosing(_one(FileSource(file))) as results:
            yield Answer(results, about)

    async def cancel(self, operation: Operation, /) -> bool:
        self._renders.cancel(operation.id)
        return True


async def _one(source: FileSource) -> AsyncGenerator[Made]:
    yield Content(source, media_type="video/mp4")


def _source(data: bytes) -> ChunkSource:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return ChunkSource(chunks(), size=len(data))


def _drawn(
    request: ImageRequest, size: Size, index: int, backdrop: pyvips.Image | None = None, *, coarse: int = 0
) -> bytes:
    """One picture, encoded; ``coarse``: as if seen through blocks of so many hundredths of it. Blocks."""
    transparent = request.background == "transparent"
    image = poster.draw(
        request.prompt,
        size.width,
        size.height,
        seed=request.seed,
        index=index,
        transparent=transparent,
        backdrop=backdrop,
    )
    if coarse:
        block = max(2.0, min(size) * coarse / 100)
        image = image.resize(1 / block).resize(block, kernel="cubic").gravity("centre", *size, extend="copy")
    return _encoded(image, request)


def _encoded(image: pyvips.Image, request: ImageRequest) -> bytes:
    import pyvips

    quality = 90 if request.output_compression is None else max(1, request.output_compression)
    options: dict[str, Any] = {
        "png": {"compression": 6},
        "jpeg": {"Q": quality, "optimize_coding": True},
        "webp": {"Q": quality},
    }[request.output_format or "png"]
    image = image.copy()
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Software", poster.MAKER)
    suffix = {"jpeg": ".jpg", "webp": ".webp"}.get(request.output_format or "png", ".png")
    data: bytes = image.write_to_buffer(suffix, **options)
    return data


def _drawn_by(request: Request) -> dict[str, Any]:
    """What of a request is drawn by."""
    if not isinstance(request, ImageRequest):
        return {"size": str(request.size), "seconds": request.seconds, "fps": request.fps, "seed": request.seed}
    compressed = request.output_format in ("jpeg", "webp")
    return {
        "size": str(request.size),
        "background": request.background,
        "output_format": request.output_format,
        "output_compression": request.output_compression if compressed else None,
        "seed": request.seed,
    }


def _image_size(request: ImageRequest, *, edits: bool) -> Size:
    size = request.size or _IMAGE_SIZE
    if not (min(size) >= _LEAST and max(size) <= _MOST):
        raise InvalidRequest(f"{POSTER} draws {_LEAST} to {_MOST} pixels each way, not {size}", param="size")
    if request.background == "transparent" and request.output_format == "jpeg":
        raise InvalidRequest("JPEG has no transparent background", param="background")
    if edits and request.background == "transparent":
        raise InvalidRequest(f"{POSTER} puts an input image on an opaque background", param="background")
    return size


def _clip(request: VideoRequest, roles: Sequence[Role]) -> Clip:
    size, seconds = request.size or _VIDEO_SIZE, request.seconds if request.seconds is not None else _SECONDS
    if min(size) < _LEAST or size.width * size.height > _MOST_VIDEO_PIXELS or max(size) > _MOST:
        raise InvalidRequest(f"{CLIP} draws {_LEAST} pixels each way up to 1920x1080 in all, not {size}", param="size")
    if size.width % 2 or size.height % 2:
        raise InvalidRequest("a video needs an even width and height", param="size")
    if not 0.5 <= seconds <= _MAX_SECONDS:
        raise InvalidRequest(f"{CLIP} draws 0.5 to {_MAX_SECONDS:g} seconds", param="seconds")
    if not 1 <= (request.fps or clips.FPS) <= 60:
        raise InvalidRequest(f"{CLIP} draws 1 to 60 frames a second", param="fps")
    if roles or request.remix_of:
        raise InvalidRequest(f"{CLIP} draws from the prompt only and takes no images", param="input_reference")
    return Clip(request.prompt[:_MAX_PROMPT], size, seconds, request.fps or clips.FPS, request.seed)


def _state(film: Clip) -> dict[str, Any]:
    return {**asdict(film), "size": str(film.size)}


def _clip_of(operation: Operation) -> Clip:
    return Clip(**{**operation.state, "size": Size.parse(operation.state["size"])})
