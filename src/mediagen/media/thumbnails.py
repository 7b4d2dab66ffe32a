"""Images that stand for a video: one frame of it, and a sheet of many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mediagen.media.ffmpeg import VideoUnreadable
from mediagen.media.video import BoundingBox, Frame, Video
from mediagen.media.vips import VipsPool

if TYPE_CHECKING:
    import pyvips

THUMBNAIL: Final = BoundingBox(512, 1024)
TILE: Final = BoundingBox(256, 256)
COLUMNS: Final = 5
TILES: Final = 25

_LOOKED_AT_SECONDS: Final = 10.0
_EVERY_SECONDS: Final = 0.5
_DARK: Final = 32
"""Below this luma a pixel is black to the eye."""
_LIT_SHARE: Final = 0.02
_FLAT: Final = 4.0
"""A frame whose lumas deviate less from their mean shows nothing."""
_THUMBNAIL_SECONDS: Final = 45.0
_SHEET_SECONDS: Final = 120.0
_UNKNOWN_STEP: Final = 0.5
_SHORTEST_STEP: Final = 0.001


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as a file."""

    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int


async def make_thumbnail(video: Video, pool: VipsPool) -> EncodedImage:
    """The first frame that shows something, as WebP; of those of the first ten seconds the liveliest when none does.

    Raises:
        UnsupportedMedia: there is no frame, or none can be decoded.
        DeadlineExceeded, ImageProcessingFailed, and what the store raises.
    """

    async def choose(frames: AsyncIterator[Frame]) -> Frame | None:
        best: Frame | None = None
        most = -1.0
        seen = 0
        async for frame in frames:
            seen += 1
            shows, liveliness = await pool.run(_judge, frame)
            if shows:
                return frame
            if liveliness > most:
                best, most = frame, liveliness
            if seen > _LOOKED_AT_SECONDS / _EVERY_SECONDS:
                break
        return best

    chosen = await video.read_frames(choose, every=_EVERY_SECONDS, box=THUMBNAIL, limit_seconds=_THUMBNAIL_SECONDS)
    if chosen is None:
        raise VideoUnreadable("the video has no frames")
    return await pool.run(_encode_webp, chosen)


async def make_spritesheet(video: Video, pool: VipsPool) -> EncodedImage:
    """Frames at even distances, in rows of five, as JPEG; at most 25, fewer where the video has fewer.

    Raises:
        as ``make_thumbnail``; also when the video breaks off.
    """

    async def collect(frames: AsyncIterator[Frame]) -> list[Frame]:
        """Of more than are wanted, which comes of a video that does not know its length, every second one goes."""
        kept: list[Frame] = []
        number, step = 0, 1
        async for frame in frames:
            if number % step == 0:
                kept.append(frame)
            number += 1
            if len(kept) == 2 * TILES:
                kept, step = kept[::2], step * 2
        return kept

    every = _UNKNOWN_STEP if video.seconds is None else max(video.seconds / TILES, _SHORTEST_STEP)
    kept = await video.read_frames(collect, every=every, box=TILE, limit_seconds=_SHEET_SECONDS)
    if not kept:
        raise VideoUnreadable("the video has no frames")
    if len(kept) > TILES:
        kept = [kept[number * len(kept) // TILES] for number in range(TILES)]
    return await pool.run(_encode_sheet, kept)


def to_vips(frame: Frame) -> pyvips.Image:
    """The frame for libvips; its pixels are not copied."""
    import pyvips

    return pyvips.Image.new_from_memory(frame.data, frame.width, frame.height, 3, "uchar").copy(interpretation="srgb")


def _judge(frame: Frame) -> tuple[bool, float]:
    """Whether it shows something, and how far its lumas are from being one. Blocks."""
    luma = to_vips(frame).colourspace("b-w")
    lit = (luma > _DARK).avg() / 255
    liveliness: float = luma.deviate() if frame.width * frame.height > 1 else 0.0
    return lit >= _LIT_SHARE and liveliness >= _FLAT, liveliness


def _encode_webp(frame: Frame) -> EncodedImage:
    return EncodedImage(to_vips(frame).webpsave_buffer(Q=80), "image/webp", frame.width, frame.height)


def _encode_sheet(frames: Sequence[Frame]) -> EncodedImage:
    import pyvips

    tiles = [to_vips(frame) for frame in frames]
    sheet = pyvips.Image.arrayjoin(tiles, across=min(COLUMNS, len(tiles)), halign="centre", valign="centre")
    return EncodedImage(sheet.jpegsave_buffer(Q=80, optimize_coding=True), "image/jpeg", sheet.width, sheet.height)
