"""Width, height and duration of a file, read from its heads while its bytes pass: never by a second reading.

Bytes may come in any order and from any thread, as parallel ranges do. A reading asks for a few bytes at a place; when
they have passed before it knew that it would want them, it knows no more, and nobody is any the worse.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from mediagen.streams.base import KIB, Source, View, try_read_from
from mediagen.streams.formats import audio_heads, image_heads, video_heads
from mediagen.streams.formats.dimensions import ByteRequest, Dimensions, HeadParser

_MAX_WANT: Final = 256 * KIB
"""Bytes that are kept at once; no reading needs more."""
_RECENT: Final = 256
_MAX_WANTS: Final = 20_000
"""Questions that a reading may ask of one file: a hostile one would ask for ever."""


HEAD_PARSERS: Final[dict[str, Callable[[Dimensions], HeadParser]]] = {
    "image/png": image_heads.png,
    "image/gif": image_heads.gif,
    "image/bmp": image_heads.bmp,
    "image/webp": image_heads.webp,
    "image/jpeg": image_heads.jpeg,
    **dict.fromkeys(("image/avif", "image/heic", "image/heif"), image_heads.heif),
    **dict.fromkeys(("video/mp4", "video/quicktime", "audio/mp4"), video_heads.mp4),
    **dict.fromkeys(("video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska"), video_heads.matroska),
    "audio/wav": audio_heads.wav,
    "audio/aiff": audio_heads.aiff,
    "audio/flac": audio_heads.flac,
    "audio/mpeg": audio_heads.mp3,
    **dict.fromkeys(("audio/ogg", "video/ogg"), audio_heads.ogg),
}
"""Readings by media type, as ``streams.sniff`` names them."""


class Probe:
    """Watches the bytes of a file of known media type. ``feed`` them as they come, then ``finish``."""

    def __init__(self, media_type: str) -> None:
        make = HEAD_PARSERS.get(media_type)
        self._lock = threading.Lock()
        self._shape = Dimensions()
        self._reading = None if make is None else make(self._shape)
        self._want = ByteRequest(0, 0)
        self._wants = 0
        self._taken = bytearray()
        self._next = -1
        """Where the byte is that is waited for; negative: for none."""
        self._recent = b""
        """The bytes before ``_recent_end`` that were taken last: a reading may look at them again."""
        self._recent_end = -1
        self._tail = _Tail()
        if self._reading is not None:
            self._step(None)

    @property
    def idle(self) -> bool:
        """Whether nothing that still comes can tell more."""
        return self._reading is None

    def feed(self, offset: int, view: View) -> None:
        """These bytes, which stand at ``offset`` of the file, have passed. Any thread."""
        if self._reading is None:
            return
        if self._want.tail:
            if self._want.count:
                with self._lock:
                    self._tail.feed(offset, view)
        elif offset <= self._next < offset + len(view):
            with self._lock:
                self._feed(offset, memoryview(view))

    def finish(self, size: int) -> Dimensions:
        """What is known of a file of ``size`` bytes."""
        with self._lock:
            self._shape.size = size
            if self._reading is not None and self._want.tail:
                self._step(self._tail.of(size))
            self._reading = None
            return self._shape

    def _feed(self, offset: int, view: memoryview) -> None:
        while self._reading is not None and not self._want.tail and offset <= self._next < offset + len(view):
            start = self._next - offset
            piece = bytes(view[start : start + self._want.count - len(self._taken)])
            self._remember(piece)
            self._taken += piece
            self._next += len(piece)
            if len(self._taken) == self._want.count:
                self._step(bytes(self._taken))
        if self._reading is not None and self._want.tail and self._want.count:
            self._tail.feed(offset, view)

    def _remember(self, piece: bytes) -> None:
        before = self._recent if self._recent_end == self._next else b""
        self._recent = (before + piece)[-_RECENT:]
        self._recent_end = self._next + len(piece)

    def _step(self, data: bytes | None) -> None:
        """Give the reading what it asked for, and see what it asks for next."""
        while self._reading is not None:
            try:
                self._want = next(self._reading) if data is None else self._reading.send(data)
            except StopIteration:
                self._reading = None
                return
            self._wants += 1
            want = self._want
            if self._wants > _MAX_WANTS or want.count > _MAX_WANT or (want.count < 1 and not want.tail):
                self._reading = None
                return
            self._taken.clear()
            self._next = -1 if want.tail else want.offset
            back = self._recent_end - want.offset
            if want.tail or not 0 < back <= len(self._recent):
                return
            self._taken += self._recent[-back:][: want.count]
            self._next += len(self._taken)
            if len(self._taken) < want.count:
                return
            data = bytes(self._taken)


class _Tail:
    """The last bytes of a file that comes in order."""

    _KEPT: Final = 64 * KIB

    def __init__(self) -> None:
        self._end = 0
        self._kept = b""

    def feed(self, offset: int, view: View) -> None:
        if offset != self._end:  # of parallel ranges the furthest piece
            if offset < self._end:
                return
            self._kept = b""
        self._end = offset + len(view)
        last = bytes(view[-self._KEPT :])
        self._kept = last if len(last) == self._KEPT else (self._kept + last)[-self._KEPT :]

    def of(self, size: int) -> bytes:
        """As much of the end as was seen; nothing unless the very last byte was."""
        return self._kept if self._end == size else b""


class ProbedSource:
    """A source whose bytes are watched while they pass."""

    def __init__(self, source: Source, probe: Probe) -> None:
        self.size = source.size
        self._source = source
        self._probe = probe
        self._offset = 0

    async def read_into(self, buffer: memoryview, /) -> int:
        return self._passed(buffer, await self._source.read_into(buffer))

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        return self._passed(buffer, try_read_from(self._source, buffer, within=within))

    def _passed(self, buffer: memoryview, count: int) -> int:
        if count and not self._probe.idle:
            self._probe.feed(self._offset, buffer[:count])
        self._offset += count
        return count
