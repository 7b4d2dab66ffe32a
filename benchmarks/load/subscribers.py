"""Many WebSocket clients in one process: ``python -m benchmarks.load.subscribers --port P --task ID``.

Each follows the same task. A share of them never reads after the handshake and has a tiny receive buffer, as a
laptop that was closed. Prints one line of JSON when all are connected, and one with the latencies at the end.

A message is stamped by the server itself: ``started_at`` plus ``elapsed_seconds`` of its task, to the millisecond, is
when it was made. Frames are taken apart by hand (RFC 6455 section 5.2): a client library would measure itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
import time
from datetime import datetime
from typing import Final, cast

import uvloop

HANDSHAKE: Final = (
    "GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK: Final = b"\0\0\0\0"
"""A mask that changes nothing; clients must mask."""
TEXT, PING, PONG, CLOSE = 0x81, 0x89, 0x8A, 0x88
CONNECTING_AT_ONCE: Final = 100
TINY_BUFFER: Final = 2304
CONNECT_SECONDS: Final = 60.0


def frame(opcode: int, payload: bytes) -> bytes:
    """A frame as clients send it."""
    size = len(payload)
    head = bytes((opcode, 0x80 | size)) if size < 126 else bytes((opcode, 0x80 | 126)) + size.to_bytes(2, "big")
    return head + MASK + payload


class Tally:
    """What all clients of this process saw."""

    def __init__(self) -> None:
        self.measuring = False
        self.started: float | None = None
        self.following = 0
        self.closed = 0
        self.received = 0
        self.latencies: list[float] = []
        self.seqs: set[bytes] = set()

    def message(self, data: bytes, *, sample: bool) -> None:
        now = time.time()
        if not self.measuring or not data.startswith(b'{"type":"task.progress"'):
            return
        self.received += 1
        if not sample:
            return
        if self.started is None:
            started = json.loads(data)["task"]["started_at"]
            self.started = datetime.fromisoformat(started).timestamp()
        at = data.index(b'"elapsed_seconds":') + 18
        made = self.started + float(data[at : data.index(b",", at)])
        self.latencies.append(now - made)
        at = data.index(b'"seq":') + 6
        self.seqs.add(data[at : data.index(b",", at)])


class Client(asyncio.Protocol):
    """One subscriber."""

    def __init__(self, tally: Tally, task_id: str, port: int, *, dead: bool, sampled: bool) -> None:
        self._tally = tally
        self._sampled = sampled
        self._subscribe = frame(TEXT, json.dumps({"type": "subscribe", "tasks": [task_id]}).encode())
        self._hello = HANDSHAKE.format(port=port).encode()
        self._pending = b""
        self._upgraded = False
        self._transport: asyncio.Transport | None = None
        self.dead = dead
        self.count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it
        self._transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        data = self._pending + data
        if not self._upgraded:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._pending = head
                return
            self._begin(head)
        while len(data) >= 2:
            size, start = data[1] & 0x7F, 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(data[2:10], "big"), 10
            if len(data) < start + size:
                break
            self._frame(data[0], data[start : start + size])
            data = data[start + size :]
        self._pending = data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.dead:
            self._tally.closed += 1

    def _begin(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 101"):
            sys.exit(f"handshake refused: {head[:200]!r}")
        assert self._transport is not None
        self._upgraded = True
        self._transport.write(self._subscribe)
        self._tally.following += 1
        if self.dead:
            self._transport.pause_reading()

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == PING and self._transport is not None:
            self._transport.write(frame(PONG, payload))
        elif opcode == TEXT:
            before = self._tally.received
            self._tally.message(payload, sample=self._sampled)
            self.count += self._tally.received - before


async def connect(clients: list[Client], port: int) -> None:
    """Connect all, so many at a time."""
    loop = asyncio.get_running_loop()
    slots = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def one(client: Client) -> None:
        async with slots:
            sock = socket.socket()
            sock.setblocking(False)
            if client.dead:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TINY_BUFFER)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.create_connection(lambda: client, sock=sock)

    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(one(client))


async def measure(args: argparse.Namespace) -> None:
    tally = Tally()
    dead = set(random.sample(range(args.count), round(args.count * args.dead)))
    clients = [
        Client(tally, args.task, args.port, dead=number in dead, sampled=number % 4 == 0)
        for number in range(args.count)
    ]
    began = time.perf_counter()
    async with asyncio.timeout(CONNECT_SECONDS):
        await connect(clients, args.port)
        while tally.following < args.count:
            await asyncio.sleep(0.05)
    print(json.dumps({"connected": tally.following, "seconds": time.perf_counter() - began}), flush=True)
    await asyncio.sleep(args.settle)
    tally.measuring = True
    cpu = time.process_time()
    await asyncio.sleep(args.seconds)
    tally.measuring = False
    cpu = time.process_time() - cpu
    reading = [client.count for client in clients if not client.dead]
    latencies = sorted(tally.latencies)

    def quantile(share: float) -> float:
        return latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000 if latencies else float("inf")

    told = {
        "p50_ms": quantile(0.5),
        "p99_ms": quantile(0.99),
        "max_ms": quantile(1.0),
        "per_client_second": sum(reading) / len(reading) / args.seconds,
        "published_second": len(tally.seqs) / args.seconds,
        "starved": sum(1 for count in reading if count < args.seconds),
        "closed": tally.closed,
        "cpu": cpu / args.seconds,
    }
    print(json.dumps(told), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.subscribers", description="WebSocket subscribers")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--dead", type=float, default=0.02, help="share of clients that never read")
    parser.add_argument(
        "--settle", type=float, default=1.0, help="seconds between the last connection and the measurement"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of the measurement")
    uvloop.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
