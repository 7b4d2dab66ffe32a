"""The chunked transfer coding (RFC 9112 section 7.1), decoded where it lies.

A connection is read into the buffer of whoever wants the body, framing and all; ``decode`` moves the payload together
at the front of that buffer. So there is one system call a read, whatever the size of the chunks, and no other buffer.
"""

from __future__ import annotations

import re
from typing import Final

from mediagen.core.errors import FetchRefused
from mediagen.streams.base import KIB

_MAX_LINE: Final = 16 * KIB
"""Bytes of a chunk's line; extensions may follow its size."""
_GLANCE: Final = 64
_MOST_LINES: Final = 2000
"""Lines that are read in one call, in a few milliseconds."""
_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?", re.DOTALL)


class ChunkDecoder:
    """Takes a chunked body in pieces that may be cut anywhere. A line may end with a bare line feed, as curl takes it.

    The last chunk ends the body (RFC 9112 section 8). The trailer behind it is not waited for: its connection is not
    used again.
    """

    def __init__(self) -> None:
        self._left = 0
        self._line = bytearray()
        self._at_end_of_chunk = False
        self.ended = False

    def decode(self, data: memoryview) -> tuple[int, int]:
        """Move the payload of ``data`` to its front.

        Returns:
            Bytes of payload; bytes of ``data`` that were used. What is left then is for the next call: a body of tiny
            chunks must not hold up the event loop.

        Raises:
            FetchRefused: it is not the chunked coding.
        """
        filled = at = lines = 0
        while at < len(data) and not self.ended and lines < _MOST_LINES:
            if self._left:
                count = min(self._left, len(data) - at)
                if filled != at:
                    data[filled : filled + count] = data[at : at + count]
                filled += count
                at += count
                self._left -= count
                self._at_end_of_chunk = not self._left
            else:
                at = self._read_line(data, at)
                lines += 1
        return filled, len(data) if self.ended else at

    def _read_line(self, data: memoryview, at: int) -> int:
        """Go on with a line; the index behind what was read of it."""
        piece = bytes(data[at : at + _GLANCE])
        end = piece.find(b"\n")
        if end < 0 and len(data) - at > _GLANCE:
            piece = bytes(data[at : at + _MAX_LINE])
            end = piece.find(b"\n")
        taken = len(piece) if end < 0 else end + 1
        self._line += piece[:taken]
        if self._at_end_of_chunk and not b"\r\n".startswith(self._line) and self._line != b"\n":
            raise FetchRefused("a chunk of the answer is longer than its size says")
        if len(self._line) > _MAX_LINE:
            raise FetchRefused("the line of a chunk's size does not end")
        if end >= 0:
            line = bytes(self._line.rstrip(b"\r\n"))
            self._line.clear()
            if self._at_end_of_chunk:
                self._at_end_of_chunk = False
            else:
                self._begin(line)
        return at + taken

    def _begin(self, line: bytes) -> None:
        size = _SIZE.fullmatch(line)
        if size is None:
            raise FetchRefused(f"the size of a chunk cannot be read: {line[:40].decode('latin-1')!r}")
        self._left = int(size[1], 16)
        self.ended = not self._left
