"""HTTP/1.1 messages as they are on the wire (RFC 9112), with nothing tidied up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

READ = 256 * 1024


@dataclass(slots=True)
class Head:
    """A start line and its fields, in their order and spelling."""

    start: str
    fields: list[tuple[str, str]] = field(default_factory=list)

    @property
    def method(self) -> str:
        """Of a request."""
        return self.start.split(" ", 2)[0]

    @property
    def target(self) -> str:
        """Of a request: path and query as they were sent."""
        return self.start.split(" ", 2)[1]

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.start.split(" ", 2)[1])

    def get(self, name: str) -> str | None:
        """The first value of a field, or None."""
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)

    def set(self, name: str, value: object) -> None:
        """Replace a field."""
        self.drop(name)
        self.fields.append((name, str(value)))

    def drop(self, name: str) -> None:
        """Remove a field."""
        self.fields = [(key, value) for key, value in self.fields if key.lower() != name.lower()]

    def has_token(self, name: str, token: str) -> bool:
        """Whether a comma-separated field names ``token``."""
        return token in [word.strip().lower() for word in (self.get(name) or "").split(",")]

    def encode(self) -> bytes:
        """As sent, with the empty line."""
        lines = [self.start, *(f"{key}: {value}" for key, value in self.fields), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def headers(self) -> dict[str, str]:
        """Fields by lower-case name; the last of a name counts."""
        return {key.lower(): value for key, value in self.fields}


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head, or None when the other side ended the connection between messages."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        if exc.partial:
            raise
        return None
    first, *rest = raw.decode("latin-1").split("\r\n")
    pairs = [line.partition(":") for line in rest if line]
    return Head(first, [(key.strip(), value.strip()) for key, _, value in pairs])


@dataclass(slots=True)
class Body:
    """How a message's body is framed, and its payload."""

    reader: asyncio.StreamReader
    chunked: bool = False
    length: int | None = 0
    """Bytes; None: until the connection ends."""
    trailer: bytes = b"\r\n"
    """What followed the last chunk."""

    @classmethod
    def of_request(cls, head: Head, reader: asyncio.StreamReader) -> Body:
        """The body that a request announces."""
        if head.has_token("Transfer-Encoding", "chunked"):
            return cls(reader, chunked=True)
        return cls(reader, length=int(head.get("Content-Length") or 0))

    @classmethod
    def of_answer(cls, head: Head, reader: asyncio.StreamReader, method: str) -> Body:
        """The body that an answer to ``method`` announces."""
        if method == "HEAD" or head.status in (204, 304):
            return cls(reader)
        if head.has_token("Transfer-Encoding", "chunked"):
            return cls(reader, chunked=True)
        length = head.get("Content-Length")
        return cls(reader, length=None if length is None else int(length))

    async def payload(self) -> AsyncIterator[bytes]:
        """Chunks of at most 256 KiB, without framing. Raises ``IncompleteReadError`` when the body ends early."""
        if self.chunked:
            async for chunk in self._chunks():
                yield chunk
        elif self.length is None:
            while chunk := await self.reader.read(READ):
                yield chunk
        else:
            async for chunk in self._exactly(self.length):
                yield chunk

    async def _exactly(self, left: int) -> AsyncIterator[bytes]:
        while left:
            chunk = await self.reader.read(min(left, READ))
            if not chunk:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(chunk)
            yield chunk

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            async for chunk in self._exactly(size):
                yield chunk
            await self.reader.readexactly(2)
        self.trailer = b""
        while not self.trailer.endswith(b"\r\n\r\n") and self.trailer != b"\r\n":
            self.trailer += await self.reader.readuntil(b"\r\n")


def framed(chunk: bytes) -> bytes:
    """``chunk`` in the chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write and wait until the other side has room again."""
    writer.write(data)
    await writer.drain()
