"""A client that sends bytes and shows bytes, so that a test sees the wire and no library's opinion of it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True)
class Seen:
    """All that came back on a connection until ``end``."""

    data: bytes
    end: Literal["fin", "rst", "silence"]
    seconds: float

    @property
    def status(self) -> int:
        """Of the first answer."""
        return int(self.data.split(b" ", 2)[1])

    @property
    def head(self) -> dict[str, str]:
        """Fields of the first answer by lower-case name."""
        lines = self.data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}

    @property
    def body(self) -> bytes:
        """Everything after the first head, framing and later answers included."""
        return self.data.partition(b"\r\n\r\n")[2]


class RawClient:
    """One TCP connection to loopback, from the address ``source`` (any of 127.0.0.0/8)."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, source: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection((host, port), timeout=10, source_address=(source, 0))

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self._socket.sendall(data)

    def get(self, target: str, *, method: str = "GET", close: bool = False, **headers: str) -> None:
        """Send a request without a body; underscores in names stand for hyphens."""
        fields = {"Host": "source", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if close:
            fields["Connection"] = "close"
        lines = [f"{method} {target} HTTP/1.1", *(f"{key}: {value}" for key, value in fields.items()), "", ""]
        self.send("\r\n".join(lines).encode())

    def read(self, *, upto: int = 1 << 62, quiet: float = 5.0) -> Seen:
        """What comes until the connection ends, ``upto`` bytes are there, or ``quiet`` seconds pass without a byte."""
        data, start = bytearray(), time.monotonic()
        end: Literal["fin", "rst", "silence"] = "silence"
        self._socket.settimeout(quiet)
        try:
            while len(data) < upto:
                chunk = self._socket.recv(1 << 18)
                if not chunk:
                    end = "fin"
                    break
                data += chunk
        except TimeoutError:
            end = "silence"
        except ConnectionResetError:
            end = "rst"
        return Seen(bytes(data), end, time.monotonic() - start)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


@contextlib.contextmanager
def connected(port: int, *, source: str = "127.0.0.1") -> Iterator[RawClient]:
    """A connection that is closed at the end."""
    client = RawClient(port, source=source)
    try:
        yield client
    finally:
        client.close()


def fetch(port: int, target: str, *, method: str = "GET", quiet: float = 5.0, **headers: str) -> Seen:
    """One request on a connection of its own, and all that came back."""
    with connected(port) as client:
        client.get(target, method=method, close=True, **headers)
        return client.read(quiet=quiet)
