"""A WebSocket client that sees and sends single frames (RFC 6455 section 5.2), right ones and wrong ones."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, Final, Self

from tests.web.conftest import House

TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10


class RawSocket:
    """A client that sees and sends single frames, and reads when it is asked to."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, house: House, *, version: str = "1.1", receive: int | None = None) -> Self:
        sock = socket.socket()
        if receive is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        sock.setblocking(False)
        raw = cls(sock)
        await raw._loop.sock_connect(sock, ("127.0.0.1", house.instance.port))
        request = (
            f"GET /v1/ws HTTP/{version}\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        )
        await raw._loop.sock_sendall(sock, request.encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await raw.some(1)
        if not head.startswith(b"HTTP/1.1 101"):
            sock.close()
            raise AssertionError(head.partition(b"\r\n")[0].decode())
        return raw

    async def send(self, opcode: int, payload: bytes = b"", *, mask: bool = True) -> None:
        size = len(payload)
        head = bytes([0x80 | opcode, mask << 7 | min(size, 126)]) + (size.to_bytes(2) if size >= 126 else b"")
        await self._loop.sock_sendall(self._sock, head + bytes(4 * mask) + payload)  # masked with zeros

    async def say(self, message: dict[str, Any]) -> None:
        await self.send(TEXT, json.dumps(message).encode())

    async def some(self, most: int = 1 << 16) -> bytes:
        async with asyncio.timeout(10):
            return await self._loop.sock_recv(self._sock, most)

    async def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await self.some(size - len(data))
            if not more:
                raise EOFError(data)
            data += more
        return data

    async def frame(self, *, begun: int = 0) -> tuple[int, bytes]:
        """Opcode and payload of the next frame, of which ``begun`` bytes (0 or 1) were read already."""
        first = bytes([TEXT | 0x80]) if begun else await self.exactly(1)
        size = (await self.exactly(1))[0]
        if size >= 126:
            size = int.from_bytes(await self.exactly(2 if size == 126 else 8))
        return first[0] & 15, await self.exactly(size)

    def close(self) -> None:
        self._sock.close()
