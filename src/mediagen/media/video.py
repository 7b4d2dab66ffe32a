"""Looks into videos that somebody else made: what is in them, and frames of them.

The video comes through a pipe, whichever store it is in, so that FFmpeg needs neither a path nor a URL and may open
none: ``pipe`` is the only protocol it is given. The demuxer is the one of the type that the bytes have shown, since a
list of other files can pass for a video otherwise, and only decoders of videos are let in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, Self, TypeVar

from mediagen.core.errors import UnsupportedMedia
from mediagen.media import ffmpeg
from mediagen.media.faststart import OpenRange, Piece, ReorderedSource, plan_faststart

T = TypeVar("T")

_DEMUXERS: Final = {
    "video/mp4": ("mov", "mov,mp4,m4a,3gp,3g2,mj2"),
    "video/quicktime": ("mov", "mov,mp4,m4a,3gp,3g2,mj2"),
    "video/webm": ("matroska", "matroska,webm"),
    "video/x-matroska": ("matroska", "matroska,webm"),
    "video/x-msvideo": ("avi", "avi"),
}
"""FFmpeg's demuxer for each media type, and the name by which it is let in."""
_DECODERS: Final = "h264,hevc,av1,libdav1d,libaom-av1,vp8,vp9,libvpx,libvpx-vp9,mpeg4,mpeg2video,h263,mjpeg,prores"
_PROBE_SECONDS: Final = 30.0
_MOST_FACTS: Final = 65_536
"""Bytes of ffprobe's answer."""
_USUAL_RATE: Final = 30.0
_EXACT_PIXELS: Final = 1.7e9
"""Pixels of all frames up to which every frame is decoded, which takes some seconds: a minute of 1280x720. Beyond, key
frames alone are."""
_EXACT_BYTES: Final = 32 * 1024 * 1024
"""The same for videos that do not say how long they are."""


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """The most that an image may have, in pixels. A frame is made smaller to fit, never larger."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Frame:
    """Pixels as eight bits each of red, green and blue, row by row, upright and square."""

    width: int
    height: int
    data: bytes | bytearray = field(repr=False)


@dataclass(frozen=True, slots=True)
class Video:
    """A video that has been looked at.

    ``width`` and ``height`` are those of the coded frames; ``seconds`` and ``rate`` are what the video says, or None.
    """

    width: int
    height: int
    seconds: float | None
    rate: float | None
    size: int
    opens: OpenRange = field(repr=False)
    order: tuple[Piece, ...] = field(repr=False)
    demuxer: tuple[str, str]
    max_pixels: int

    @classmethod
    async def probe(cls, opens: OpenRange, *, size: int, media_type: str, max_pixels: int) -> Self:
        """Read what the video says of itself; nothing is decoded.

        Args:
            size: bytes of the video.
            media_type: what its first bytes have shown.
            max_pixels: more pixels of a frame are refused.

        Raises:
            UnsupportedMedia: it is no video that we read, or has no image, or too large a one.
            DeadlineExceeded, FfmpegMissing, and what ``opens`` raises.
        """
        demuxer = _DEMUXERS.get(media_type)
        if demuxer is None:
            raise UnsupportedMedia(
                f"thumbnails can be made of MP4, QuickTime, WebM, Matroska and AVI, not of {media_type}"
            )
        order = await plan_faststart(opens, size) if demuxer[0] == "mov" else (range(size),)
        asked = (
            *("-nofind_stream_info", *_input_options(demuxer), "-select_streams", "V"),
            *("-show_entries", "stream=width,height,avg_frame_rate,duration:format=duration"),
            *("-of", "json=c=1", "pipe:0"),
        )
        async with aclosing(ReorderedSource(opens, order)) as source:
            said = await ffmpeg.run_confined("ffprobe", asked, source, _read_json, limit_seconds=_PROBE_SECONDS)
        streams = said.get("streams") or []
        if not streams:
            raise UnsupportedMedia("the video has no video track")
        first = streams[0]
        width, height = int(first.get("width") or 0), int(first.get("height") or 0)
        if width * height > max_pixels:
            raise UnsupportedMedia(f"a frame of {width}x{height} has more than {max_pixels} pixels (limits.pixels)")
        seconds = _positive(first.get("duration")) or _positive((said.get("format") or {}).get("duration"))
        rate = _positive(first.get("avg_frame_rate"))
        return cls(width, height, seconds, rate, size, opens, order, demuxer, max_pixels)

    async def read_frames(
        self,
        take: Callable[[AsyncIterator[Frame]], Awaitable[T]],
        *,
        every: float,
        box: BoundingBox,
        limit_seconds: float,
    ) -> T:
        """What ``take`` makes of frames: the first of the video, and then the first of each ``every`` seconds.

        ``take`` may stop early, and no more is decoded then. Of long videos only key frames are looked at.

        Raises:
            VideoUnreadable: FFmpeg met an error before ``take`` had enough.
            DeadlineExceeded, and what ``take`` and the store raise.
        """
        fit = f"min(1,min({box.width}/(iw*sar),{box.height}/ih))"
        filters = (
            "setpts=PTS-STARTPTS",
            f"select='isnan(prev_selected_t)+gt(floor(t/{every:.6f}),floor(prev_selected_t/{every:.6f}))'",
            f"scale=w='max(1,round(iw*sar*{fit}))':h='max(1,round(ih*{fit}))':flags=area",
        )
        keys_only = () if self._is_short else ("-skip_frame", "nokey", "-discard:v", "nokey")
        arguments = (
            *("-nostdin", "-nostats", "-xerror", "-threads", "1", *keys_only, *_input_options(self.demuxer)),
            *("-codec_whitelist", _DECODERS, "-max_pixels", str(self.max_pixels), "-i", "pipe:0"),
            *("-map", "0:V:0", "-vf", ",".join(filters), "-fps_mode", "passthrough", "-pix_fmt", "rgb24"),
            *("-threads", "1", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"),
        )

        async def taken(output: asyncio.StreamReader) -> tuple[T, bool]:
            images = _PpmFrames(output, box)
            return await take(images), images.ended

        async with aclosing(ReorderedSource(self.opens, self.order)) as source:
            return await ffmpeg.run_confined("ffmpeg", arguments, source, taken, limit_seconds=limit_seconds)

    async def raw_frames(
        self,
        take: Callable[[asyncio.StreamReader], Awaitable[tuple[T, bool]]],
        *,
        width: int,
        height: int,
        fps: int,
        frames: int,
        start: float,
    ) -> T:
        """What ``take`` makes of ``frames`` frames from ``start`` seconds on, as raw planes of 4:2:0 BT.709.

        They fill ``width`` by ``height`` pixels, upright, cut at the sides. A shorter film stands still at its end.

        Raises:
            VideoUnreadable, DeadlineExceeded, and what ``take`` and the store raise.
        """
        seconds = frames / fps
        filters = (
            f"trim=start={start:.3f}",
            "setpts=PTS-STARTPTS",
            f"fps={fps}",
            f"scale=w={width}:h={height}:force_original_aspect_ratio=increase:flags=bicubic"
            ":out_color_matrix=bt709:out_range=tv",
            f"crop={width}:{height}",
            "setsar=1",
            f"tpad=stop_mode=clone:stop_duration={seconds:.3f}",
            "format=yuv420p",
        )
        arguments = (
            *("-nostdin", "-nostats", "-threads", "1", *_input_options(self.demuxer)),
            *("-codec_whitelist", _DECODERS, "-max_pixels", str(self.max_pixels), "-i", "pipe:0"),
            *("-map", "0:V:0", "-vf", ",".join(filters), "-frames:v", str(frames)),
            *("-threads", "1", "-f", "rawvideo", "pipe:1"),
        )
        limit = 60 + (start + seconds) * 10
        async with aclosing(ReorderedSource(self.opens, self.order)) as source:
            return await ffmpeg.run_confined("ffmpeg", arguments, source, take, limit_seconds=limit)

    @property
    def _is_short(self) -> bool:
        """Whether every frame is decoded."""
        if self.seconds is None:
            return self.size <= _EXACT_BYTES
        return self.seconds * (self.rate or _USUAL_RATE) * self.width * self.height <= _EXACT_PIXELS


def _input_options(demuxer: tuple[str, str]) -> tuple[str, ...]:
    """What may be opened: the pipe, as this format."""
    return ("-protocol_whitelist", "pipe", "-format_whitelist", demuxer[1], "-f", demuxer[0])


async def _read_json(output: asyncio.StreamReader) -> tuple[dict[str, Any], bool]:
    text = b""
    while chunk := await output.read(_MOST_FACTS):
        text += chunk
        if len(text) > _MOST_FACTS:
            raise UnsupportedMedia("the video's metadata is too long")
    try:
        said = json.loads(text or b"{}")
    except ValueError:
        said = {}  # ffprobe has failed half-way, and its exit says so
    return said, True


class _PpmFrames:
    """The frames of a row of PPM files, as FFmpeg writes them."""

    def __init__(self, output: asyncio.StreamReader, box: BoundingBox) -> None:
        self.ended = False
        self._output = output
        self._box = box

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        if await self._output.readline() == b"P6\n":
            width, height = map(int, (await self._output.readline()).split())
            await self._output.readline()
            if width > self._box.width or height > self._box.height:
                raise ffmpeg.VideoUnreadable("the video cannot be read", said=f"a frame of {width}x{height}")
            with contextlib.suppress(asyncio.IncompleteReadError):  # the child's exit says why
                return Frame(width, height, await self._output.readexactly(width * height * 3))
        self.ended = True
        raise StopAsyncIteration


def _positive(number: object) -> float | None:
    """A number above 0, or None for what is none."""
    try:
        value = float(Fraction(str(number)))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return value if value > 0 and math.isfinite(value) else None
