"""Is a file whole? Asked only where an answer ended with its connection, of formats that say where they end.

Such an answer looks the same whether the server finished or died half-way. Where the framing proves the end (a length,
the last chunk, the end of a gzip stream) nobody asks: files without their end marker, or with lengths that their
program never filled in, are common, and whole. PNG, JPEG, GIF, RIFF, ISO media files (MP4), Matroska and others
carry their own end; what carries none cannot be judged.
"""

from __future__ import annotations

import re

from mediagen.core.errors import SourceTruncated
from mediagen.streams.base import Source, View, try_read_from
from mediagen.streams.formats.walks import WALKS, Step


class Completeness:
    """Watches bytes go by: ``feed`` them, then ask for the ``verdict``."""

    def __init__(self, media_type: str) -> None:
        make = WALKS.get(media_type)
        self._walk = None if make is None else make()
        self._step = Step() if self._walk is None else next(self._walk)
        self._taken = b""
        self._passed = 0
        self._verdict: bool | None = None

    @property
    def verdict(self) -> bool | None:
        """True: whole. False: cut short. None: this format does not tell."""
        return self._verdict if self._walk is None else self._step.ended

    def feed(self, chunk: View) -> None:
        view = memoryview(chunk)
        while self._walk is not None and view:
            step = self._step
            if step.skip:
                count = min(step.skip - self._passed, len(view))
                self._passed += count
                view = view[count:]
                if self._passed == step.skip:
                    self._advance(b"")
            elif step.marker is not None:
                view = self._seek(step.marker, view)
            else:
                count = min(step.take - len(self._taken), len(view))
                self._taken += bytes(view[:count])
                view = view[count:]
                if len(self._taken) == step.take:
                    self._advance(self._taken)

    def _seek(self, marker: re.Pattern[bytes], view: memoryview) -> memoryview:
        """What follows the marker; a first half of it at the end of a chunk is kept for the next one."""
        across = self._taken + bytes(view[:1])
        if marker.match(across):
            self._advance(across)
            return view[1:]
        if (found := marker.search(view)) is not None:
            self._advance(found[0])
            return view[found.end() :]
        self._taken = bytes(view[-1:])
        return view[:0]

    def _advance(self, data: bytes) -> None:
        assert self._walk is not None
        self._taken, self._passed = b"", 0
        try:
            self._step = self._walk.send(data)
            while not (self._step.take or self._step.skip or self._step.marker):  # nothing to pass over
                self._step = self._walk.send(b"")
        except StopIteration as end:
            self._walk, self._verdict = None, end.value


class CompleteSource:
    """A source of unknown length whose end is believed only when its format agrees."""

    def __init__(self, source: Source, media_type: str) -> None:
        self.size = source.size
        self._source = source
        self._watch = Completeness(media_type)

    async def read_into(self, buffer: memoryview, /) -> int:
        count = await self._source.read_into(buffer)
        if count:
            self._watch.feed(buffer[:count])
        elif self._watch.verdict is False:
            raise SourceTruncated("the source ended before the end of the file it was sending")
        return count

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        count = try_read_from(self._source, buffer, within=within)
        self._watch.feed(buffer[:count])
        return count
