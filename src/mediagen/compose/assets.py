"""What a film is made of, brought into the form that the engine takes, and kept by what it was made from.

Images of strangers are decoded in confined children, videos and recordings by a confined FFmpeg. None of them is
handed to the engine as it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from mediagen.compose.cache import ContentCache, key_of
from mediagen.compose.drawing import flat, gradient
from mediagen.compose.encoding import normalise_arguments
from mediagen.compose.engine.motion import ROOM
from mediagen.compose.field_errors import error_at
from mediagen.compose.request import (
    ColorBackground,
    Composition,
    GradientBackground,
    ImageBackground,
    Motion,
    Style,
    VideoBackground,
    Voiceover,
)
from mediagen.compose.soundtrack import decode_recording
from mediagen.core.errors import UnsupportedMedia
from mediagen.core.files import CLAIM, TYPE_FROM, File, FileKind
from mediagen.media import ffmpeg
from mediagen.media.faststart import OpenRange
from mediagen.media.image_decoder import ImageDecoder
from mediagen.media.thumbnails import to_vips
from mediagen.media.video import Video
from mediagen.media.vips import VipsPool
from mediagen.storage.base import Storage

_VERSION: Final = 1
_IMAGES: Final = frozenset({FileKind.IMAGE})
_VIDEOS: Final = frozenset({FileKind.VIDEO})
_SOUNDS: Final = frozenset({FileKind.AUDIO, FileKind.VIDEO})
_MOST_RECORDING: Final = 3600.0
_CHUNK: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the caller's, or of the stock folder. ``identity``: changes with its content."""

    identity: str
    size: int
    media_type: str
    open: OpenRange


class Files(Protocol):
    """Rows of files, of one owner where there is one."""

    async def get(self, file_id: str, *, owner: str | None = None) -> File | None: ...


class Library:
    """The caller's files as assets."""

    def __init__(self, files: Files, storage: Storage) -> None:
        self._files = files
        self._storage = storage

    async def find(self, file_id: str, *, owner: str | None, kinds: frozenset[FileKind], field: str) -> Asset:
        """The asset that a file is. Raises InvalidRequest naming ``field``: there is none, or it is of another kind."""
        file = await self._files.get(file_id, owner=owner)
        if file is None:
            raise error_at(field, f"there is no file {file_id}")
        if file.kind not in kinds or file.metadata.get(TYPE_FROM) == CLAIM:
            names = " or ".join(sorted(str(kind) for kind in kinds))
            raise error_at(field, f"{file_id} is {file.media_type}; this field takes a file of kind {names}")
        checksum = f"{file.checksum.algorithm}:{file.checksum.value}"
        identity = f"{file.id}/{checksum}/{file.bytes}"
        return Asset(identity, file.bytes, file.media_type, partial(self._storage.open_source, file.key))


class Preparer:
    """Prepares assets for frames of one size."""

    def __init__(
        self, cache: ContentCache, library: Library, decoder: ImageDecoder, pool: VipsPool, *, max_pixels: int
    ) -> None:
        self._cache = cache
        self._library = library
        self._decoder = decoder
        self._pool = pool
        self._max_pixels = max_pixels

    async def check(self, request: Composition, *, owner: str | None) -> None:
        """Raise InvalidRequest naming the field of a file that does not exist, or is of another kind."""
        for index, scene in enumerate(request.scenes):
            field = f"scenes[{index}]"
            if isinstance(scene.background, ImageBackground):
                await self._library.find(
                    scene.background.file_id, owner=owner, kinds=_IMAGES, field=f"{field}.background.file_id"
                )
            if isinstance(scene.background, VideoBackground):
                await self._library.find(
                    scene.background.file_id, owner=owner, kinds=_VIDEOS, field=f"{field}.background.file_id"
                )
            if isinstance(scene.voiceover, Voiceover) and scene.voiceover.file_id is not None:
                await self._library.find(
                    scene.voiceover.file_id, owner=owner, kinds=_SOUNDS, field=f"{field}.voiceover.file_id"
                )
        if request.music is not None:
            await self._library.find(request.music.file_id, owner=owner, kinds=_SOUNDS, field="music.file_id")

    async def still(
        self,
        background: ColorBackground | GradientBackground | ImageBackground,
        style: Style,
        size: tuple[int, int],
        *,
        owner: str | None,
        field: str,
    ) -> Path:
        """An image that fills the frame, larger where the view moves. Raises InvalidRequest naming ``field``."""
        motion = Motion.NONE if isinstance(background, ColorBackground) else background.motion
        width, height = (_even(side * (ROOM if motion is not Motion.NONE else 1)) for side in size)
        if isinstance(background, ImageBackground):
            return await self._decoded(background, width, height, owner=owner, field=field)
        if isinstance(background, ColorBackground):
            colours = [background.color or style.background]
        else:
            colours = background.colors or [style.background, style.accent]
        name = key_of("drawn", version=_VERSION, colours=colours, size=[width, height])

        async def make(part: Path) -> None:
            await self._pool.run(_draw, colours, width, height, part)

        return await self._cache.get(f"{name}.png", make)

    async def _decoded(
        self, background: ImageBackground, width: int, height: int, *, owner: str | None, field: str
    ) -> Path:
        asset = await self._library.find(background.file_id, owner=owner, kinds=_IMAGES, field=f"{field}.file_id")
        name = key_of("image", version=_VERSION, asset=asset.identity, size=[width, height])

        async def make(part: Path) -> None:
            async with asset.open() as source:
                frame = await self._decoder.decode_to_fill(source, asset.size, width, height, owner=owner)
            await self._pool.run(lambda: to_vips(frame).write_to_file(f"{part}[compression=1]"))

        with _named(field):
            return await self._cache.get(f"{name}.png", make)

    async def clip(
        self,
        background: VideoBackground,
        size: tuple[int, int],
        fps: int,
        frames: int,
        *,
        owner: str | None,
        field: str,
    ) -> Path:
        """A video of exactly ``frames`` frames that fills the frame. Raises InvalidRequest naming ``field``."""
        asset = await self._library.find(background.file_id, owner=owner, kinds=_VIDEOS, field=f"{field}.file_id")
        name = key_of(
            "clip", version=_VERSION, asset=asset.identity, size=[*size], fps=fps, frames=frames, start=background.start
        )

        async def make(part: Path) -> None:
            video = await Video.probe(
                asset.open, size=asset.size, media_type=asset.media_type, max_pixels=self._max_pixels
            )
            await _normalise(video, part, size=size, fps=fps, frames=frames, start=background.start)

        with _named(field):
            return await self._cache.get(f"{name}.mp4", make)

    async def recording(self, file_id: str, *, owner: str | None, field: str) -> Path:
        """The sound of a file, in the form of the mix. Raises InvalidRequest naming ``field``."""
        asset = await self._library.find(file_id, owner=owner, kinds=_SOUNDS, field=field)
        name = key_of("recording", version=_VERSION, asset=asset.identity)

        async def make(part: Path) -> None:
            async with asset.open() as source:
                await decode_recording(source, part, seconds=_MOST_RECORDING)
            if (await asyncio.to_thread(part.stat)).st_size == 0:
                raise UnsupportedMedia("there is no sound in this file")

        with _named(field):
            return await self._cache.get(f"{name}.pcm", make)


def _draw(colours: list[str], width: int, height: int, part: Path) -> None:
    image = flat(colours[0], width, height) if len(colours) == 1 else gradient(colours, width, height)
    image.write_to_file(f"{part}[compression=1]")


async def _normalise(video: Video, part: Path, *, size: tuple[int, int], fps: int, frames: int, start: float) -> None:
    """Encode the film's frames into ``part``; a film that ends early is seen from its last frame on as a still."""
    width, height = size
    arguments = normalise_arguments(str(part), width=width, height=height, fps=fps, frames=frames)

    async def encode(output: asyncio.StreamReader) -> tuple[int, bool]:
        written, ended = 0, False
        async with ffmpeg.start_encoder(arguments) as encoder:
            if encoder.stdin is None:
                raise RuntimeError("the encoder has no pipe")
            while chunk := await output.read(_CHUNK):
                encoder.stdin.write(chunk)
                await encoder.stdin.drain()
                written += len(chunk)
            ended = True
            encoder.stdin.close()
            said = b"" if encoder.stderr is None else await encoder.stderr.read()
            if await encoder.wait() != 0:
                raise ffmpeg.EncodingFailed(
                    "the video could not be prepared", said=said[-2000:].decode("utf-8", "replace")
                )
        return written, ended

    written = await video.raw_frames(encode, width=width, height=height, fps=fps, frames=frames, start=start)
    if written < width * height * 3 // 2 * frames:
        raise UnsupportedMedia(f"there are no frames after {start:g} s in this video")


@contextmanager
def _named(field: str) -> Iterator[None]:
    """Say of which field a file is at fault."""
    try:
        yield
    except UnsupportedMedia as exc:
        raise error_at(field, exc.detail, UnsupportedMedia) from None


def _even(side: float) -> int:
    return round(side / 2) * 2
