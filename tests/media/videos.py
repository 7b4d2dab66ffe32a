"""Small real videos, made by FFmpeg and by the hands of strangers."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mediagen.media.video import Video
from mediagen.streams.base import Source
from tests.streams.formats.files import box

H264: Final = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
FIRST: Final = ("-movflags", "+faststart")
MP4: Final = (*H264, *FIRST)
SOUND: Final = ("-f", "lavfi", "-i", "sine=d=1")

RECIPES: Final[dict[str, tuple[str, ...]]] = {
    "plain.mp4": ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2", *MP4),
    "index_last.mp4": ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2", *H264),
    "with_sound.mov": ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=1", *SOUND, *H264, "-c:a", "aac"),
    "fragmented.mp4": (
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2"),
        *(*H264, "-g", "10", "-movflags", "frag_keyframe+empty_moov"),
    ),
    "one_frame.mp4": ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25", "-frames:v", "1", *MP4),
    "short.mp4": ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=0.2", *MP4),
    "odd.webm": ("-f", "lavfi", "-i", "testsrc=s=321x243:r=25:d=1", "-c:v", "libvpx", "-b:v", "300k"),
    "tall.mkv": ("-f", "lavfi", "-i", "testsrc2=s=90x3000:r=5:d=1", *H264),
    "wide.avi": ("-f", "lavfi", "-i", "testsrc2=s=2000x100:r=5:d=1", "-c:v", "mpeg4"),
    "anamorphic.mp4": ("-f", "lavfi", "-i", "testsrc2=s=160x180:r=25:d=1,setsar=2", *MP4),
    "halves.mp4": (
        *("-f", "lavfi", "-i", "color=red:s=160x90:r=5:d=1[a];color=blue:s=160x90:r=5:d=1[b];[a][b]hstack"),
        *MP4,
    ),
    "dark_first.mp4": (
        *("-f", "lavfi", "-i", "color=black:s=320x180:r=5:d=2[a];testsrc2=s=320x180:r=5:d=2[b];[a][b]concat"),
        *MP4,
    ),
    "dark.mp4": ("-f", "lavfi", "-i", "color=black:s=320x180:r=5:d=3", *MP4),
    "greys.mp4": (
        *("-f", "lavfi", "-i", "color=black:s=64x64:r=25:d=4,format=gray,geq=lum='20+T*50',format=yuv420p"),
        *("-c:v", "libx264", "-qp", "0", *FIRST),
    ),
    "no_length.mkv": ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=20", *H264, "-live", "1", "-f", "matroska"),
    "sound.mp4": (*SOUND, "-c:a", "aac"),
    "cover.mp4": (
        *(*SOUND, "-f", "lavfi", "-i", "testsrc2=s=64x64:r=1:d=1"),
        *("-map", "0", "-map", "1", "-c:a", "aac", "-c:v", "png", "-frames:v", "1", "-disposition:v", "attached_pic"),
    ),
}
TYPES: Final = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
}


def make(folder: Path, name: str) -> Path:
    """The video of that name; made once in a folder."""
    path = folder / name
    if not path.exists():
        half = folder / f"half_{name}"
        words = ("ffmpeg", "-v", "error", "-nostdin", "-y", *RECIPES[name], "-threads", "1", str(half))
        subprocess.run(words, check=True, timeout=60)
        half.rename(path)
    return path


def turned(video: bytes) -> bytes:
    """The same MP4, to be shown a quarter turned to the right (the matrix of ISO/IEC 14496-12 section 8.3.2)."""
    place = video.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    return video[:place] + matrix + video[place + 36 :]


def elsewhere(video: bytes, url: str) -> bytes:
    """The same MP4, whose index says that its media are at ``url`` (section 8.7.2)."""
    own = video.index(b"url \x00\x00\x00\x01") - 4
    there = box(b"url ", bytes(4) + url.encode() + b"\0")
    return _grown(video, own, there)


def _grown(video: bytes, place: int, there: bytes) -> bytes:
    """``there`` instead of the 12 bytes at ``place``; the boxes round it are made longer."""
    more = len(there) - 12
    changed = bytearray(video[:place] + there + video[place + 12 :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = video.index(name) - 4
        (length,) = struct.unpack(">I", video[at : at + 4])
        changed[at : at + 4] = struct.pack(">I", length + more)
    return bytes(changed)


@dataclass
class Shelf:
    """Opens stretches of one video, and counts. Fits ``media.order.Opens``."""

    video: bytes
    asked: list[range] = field(default_factory=list)
    read: int = 0
    open: int = 0
    fails: Callable[[int], None] = lambda _: None
    """Told how much was read before each read."""

    @asynccontextmanager
    async def __call__(self, *, offset: int = 0, length: int | None = None) -> AsyncIterator[Source]:
        end = len(self.video) if length is None else offset + length
        self.asked.append(range(offset, end))
        self.open += 1
        try:
            yield _Stretch(self, offset, min(end, len(self.video)))
        finally:
            self.open -= 1

    async def looked(self, media_type: str = "video/mp4", *, max_pixels: int = 50_000_000) -> Video:
        return await Video.probe(self, size=len(self.video), media_type=media_type, max_pixels=max_pixels)


class _Stretch:
    def __init__(self, shelf: Shelf, start: int, end: int) -> None:
        self.size: int | None = end - start
        self._shelf = shelf
        self._left = range(start, end)

    async def read_into(self, buffer: memoryview, /) -> int:
        self._shelf.fails(self._shelf.read)
        count = min(len(buffer), len(self._left), 65_536)
        buffer[:count] = self._shelf.video[self._left.start : self._left.start + count]
        self._left = self._left[count:]
        self._shelf.read += count
        return count
