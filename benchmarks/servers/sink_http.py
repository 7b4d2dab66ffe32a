"""HTTP/1.1 for the discarding store: requests off a blocking socket, bodies thrown away inside the kernel."""

from __future__ import annotations

import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

CHUNK: Final = 1024 * 1024
HEAD_LIMIT: Final = 64 * 1024
Taker: TypeAlias = Callable[[memoryview], object]


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


class Wire:
    """One connection. ``rate`` limits how fast bodies are taken, in bytes a second (None: no limit)."""

    def __init__(self, sock: socket.socket, rate: float | None = None) -> None:
        self._sock = sock
        self._rate = rate
        self._ahead = bytearray()
        self._view = memoryview(bytearray(CHUNK))
        self._follows: tuple[Path, int, int] | None = None
        # on TCP, MSG_TRUNC drops the bytes without copying them (tcp(7)); a TLS body must be decrypted to be counted
        plain = not isinstance(sock, ssl.SSLSocket)
        self._discard = socket.MSG_TRUNC | socket.MSG_WAITALL if plain else 0

    def requests(self) -> Iterator[Request]:
        """Requests of this connection, until the client closes it."""
        while (head := self._head()) is not None:
            first, *lines = head.split("\r\n")
            method, target, _ = first.split(" ", 2)
            path, _, query = target.partition("?")
            fields = (line.partition(":") for line in lines)
            headers = {name.strip().lower(): value.strip() for name, _, value in fields}
            yield Request(
                method,
                urllib.parse.unquote(path),
                dict(urllib.parse.parse_qsl(query, keep_blank_values=True)),
                headers,
            )
            if headers.get("connection", "").lower() == "close":
                return

    def follow(self, path: Path, start: int, length: int) -> None:
        """These bytes of a file are the body of the answer that is sent next."""
        self._follows = (path, start, length)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)
        if self._follows is not None:
            (path, start, length), self._follows = self._follows, None
            with path.open("rb") as file:
                self._sock.sendfile(file, start, length)

    def body(self, request: Request, taker: Taker | None = None) -> int:
        """Read the body, hand it to ``taker`` or drop it, and give the number of payload bytes.

        The aws-chunked coding (Amazon S3, "SigV4 streaming") is taken off for a ``taker``, else only counted.
        """
        headers = request.headers
        if headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        began = time.monotonic()
        decoded = headers.get("x-amz-decoded-content-length")
        if decoded is not None and taker is not None:
            taker = _unframed(taker)
        if "chunked" in headers.get("transfer-encoding", ""):
            taken = self._pieces(taker, began)
        else:
            taken = self._take(int(headers.get("content-length", "0")), taker, began, 0)
        return int(decoded) if decoded is not None else taken

    def _head(self) -> str | None:
        while (end := self._ahead.find(b"\r\n\r\n")) < 0:
            data = self._sock.recv(65536)
            if not data or len(self._ahead) > HEAD_LIMIT:
                return None
            self._ahead += data
        head = bytes(self._ahead[:end]).decode("latin-1")
        del self._ahead[: end + 4]
        return head

    def _line(self) -> bytes:
        while (end := self._ahead.find(b"\r\n")) < 0:
            data = self._sock.recv(65536)
            if not data:
                raise ConnectionError("closed inside a chunked body")
            self._ahead += data
        line = bytes(self._ahead[:end])
        del self._ahead[: end + 2]
        return line

    def _pieces(self, taker: Taker | None, began: float) -> int:
        """A body in chunked coding (RFC 9112 section 7.1)."""
        total = 0
        while length := int(self._line().partition(b";")[0], 16):
            total += self._take(length, taker, began, total)
            self._line()
        while self._line():
            pass
        return total

    def _take(self, length: int, taker: Taker | None, began: float, before: int) -> int:
        left = length
        if self._ahead and left:
            have = min(len(self._ahead), left)
            if taker is not None:
                taker(memoryview(bytes(self._ahead[:have])))
            del self._ahead[:have]
            left -= have
        flags = self._discard if taker is None else 0
        while left:
            got = self._sock.recv_into(self._view, min(left, CHUNK), flags)
            if got <= 0:
                raise ConnectionError("closed inside a body")
            if taker is not None:
                taker(self._view[:got])
            left -= got
            self._pace(before + length - left, began)
        return length

    def _pace(self, taken: int, began: float) -> None:
        if self._rate is not None:
            early = taken / self._rate - (time.monotonic() - began)
            if early > 0.002:
                time.sleep(early)


def _unframed(taker: Taker) -> Taker:
    """Take the aws-chunked frames off: ``hex-size[;signature] CRLF data CRLF … 0 CRLF trailers``."""
    pending = bytearray()
    left = 0
    ended = False

    def feed(view: memoryview) -> None:
        nonlocal left, ended
        pending.extend(view)
        while pending and not ended:
            if left == 0:
                end = pending.find(b"\r\n")
                if end < 0:
                    return
                line = bytes(pending[:end])
                del pending[: end + 2]
                if line:  # an empty one is the end of the data before
                    left = int(line.partition(b";")[0], 16)
                    ended = left == 0
                continue
            taker(memoryview(bytes(pending[:left])))
            have = min(left, len(pending))
            del pending[:have]
            left -= have

    return feed
