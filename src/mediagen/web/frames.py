"""How one message looks on the wire of a WebSocket and of an event stream. Pure functions, called once per message."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

_TEXT_FINAL: Final = 0x81
_LEN_7: Final = 126
_LEN_16: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Message:
    """Something to tell a reader. ``data`` is one line of JSON."""

    type: str
    seq: int
    data: bytes


Encoding: TypeAlias = Callable[[Message], bytes]


def websocket(message: Message) -> bytes:
    """One unmasked, unfragmented text frame, as servers send it (RFC 6455 section 5.2)."""
    size = len(message.data)
    if size < _LEN_7:
        head = struct.pack("!BB", _TEXT_FINAL, size)
    elif size < _LEN_16:
        head = struct.pack("!BBH", _TEXT_FINAL, _LEN_7, size)
    else:
        head = struct.pack("!BBQ", _TEXT_FINAL, _LEN_7 + 1, size)
    return head + message.data


def event_stream(message: Message) -> bytes:
    """One event of ``text/event-stream`` (HTML standard, section 9.2)."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (message.seq, message.type.encode(), message.data)


def chunked_event_stream(message: Message) -> bytes:
    """The same as one chunk of the chunked transfer coding (RFC 9112 section 7.1)."""
    return chunk(event_stream(message))


def chunk(data: bytes) -> bytes:
    """``data`` as one chunk of the chunked transfer coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)
