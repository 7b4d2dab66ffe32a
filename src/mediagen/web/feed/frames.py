"""How one message looks on the wire of a WebSocket and of an event stream. Pure functions, called once per message."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

_FINAL: Final = 0x80
_TEXT_FINAL: Final = 0x81
_LEN_7: Final = 126
_LEN_16: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class FeedMessage:
    """Something to tell a reader. ``parts`` together are one line of JSON; what many readers are told is one object."""

    type: str
    seq: int
    parts: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes of the JSON."""
        return sum(map(len, self.parts))


FrameEncoder: TypeAlias = Callable[[FeedMessage], tuple[bytes, ...]]
"""Gives what goes over the wire in pieces, so that large shared parts are not copied for each reader."""


def websocket(message: FeedMessage) -> tuple[bytes, ...]:
    """One unmasked, unfragmented text frame, as servers send it (RFC 6455 section 5.2)."""
    return (_head(_TEXT_FINAL, message.size), *message.parts)


def websocket_control(opcode: int, payload: bytes) -> bytes:
    """A control frame (RFC 6455 section 5.5). ``payload``: at most 125 bytes."""
    return _head(_FINAL | opcode, len(payload)) + payload


def event_stream(message: FeedMessage) -> tuple[bytes, ...]:
    """One event of ``text/event-stream`` (HTML standard, section 9.2)."""
    return (b"id: %d\nevent: %s\ndata: " % (message.seq, message.type.encode()), *message.parts, b"\n\n")


def chunked_event_stream(message: FeedMessage) -> tuple[bytes, ...]:
    """The same as one chunk of the chunked transfer coding (RFC 9112 section 7.1)."""
    parts = event_stream(message)
    return (b"%x\r\n" % sum(map(len, parts)), *parts, b"\r\n")


def chunk(data: bytes) -> bytes:
    """``data`` as one chunk of the chunked transfer coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def _head(first: int, size: int) -> bytes:
    if size < _LEN_7:
        return struct.pack("!BB", first, size)
    if size < _LEN_16:
        return struct.pack("!BBH", first, _LEN_7, size)
    return struct.pack("!BBQ", first, _LEN_7 + 1, size)
