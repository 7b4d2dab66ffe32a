"""The least that a feed can be: ``python -m benchmarks.servers.bare_feed --port P --bytes N``.

A server of bare asyncio that answers every WebSocket's first frame with one frame of N bytes, and every other request
with an empty 200. What a storm does to it, the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Final, cast

BACKLOG: Final = 2048
UPGRADED: Final = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._data = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._upgraded:
            self._transport.write(self._answer)
            self._answer = b""
            return
        self._data += data
        if not self._data.endswith(b"\r\n\r\n"):
            return
        self._upgraded = b"Upgrade: websocket" in self._data
        self._transport.write(UPGRADED if self._upgraded else OK)
        if not self._upgraded:
            self._transport.close()


async def serve(port: int, size: int) -> None:
    head = b'{"type":"snapshot","seq":1,"tasks":"'
    body = head + b"x" * (size - len(head) - 2) + b'"}'
    answer = b"\x81\x7f" + len(body).to_bytes(8) + body
    server = await asyncio.get_running_loop().create_server(lambda: Peer(answer), "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.servers.bare_feed", description="a bare feed, to compare with"
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    args = parser.parse_args()
    asyncio.run(serve(args.port, args.bytes))


if __name__ == "__main__":
    main()
