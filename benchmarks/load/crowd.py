"""Many readers who come at once: ``python -m benchmarks.load.crowd --port P --count N``.

Each follows all tasks, from its snapshot on, and keeps account of the facts it is told. Prints one line of JSON when
all have their snapshots. Then it reads the id of a task from its input, waits until everybody was told that it is
cancelled, and prints a second line: what was missing, repeated or out of order, and who was cut off. Frames are taken
apart by hand, see ``benchmarks.load.subscribers``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import time
from collections import Counter
from typing import Final, cast

import uvloop

from benchmarks.load.subscribers import CLOSE, HANDSHAKE, PING, PONG, TEXT, frame

SUBSCRIBE: Final = frame(TEXT, b'{"type": "subscribe", "tasks": "all"}')
STORM_SECONDS: Final = 120.0
TELLING_SECONDS: Final = 120.0
SNAPSHOT: Final = b'{"type":"snapshot","seq":'
FACT: Final = b'{"type":"task.status","seq":'
CANCELLED: Final = b'"status":"cancelled"'
READING: Final = b'{"type":"task.progress","seq":'


class Client(asyncio.Protocol):
    """One reader. ``facts``: how many it was told, and the sum of their numbers."""

    def __init__(self, port: int) -> None:
        self._hello = HANDSHAKE.format(port=port).encode()
        self._data = bytearray()
        self._upgraded = False
        self._transport: asyncio.Transport | None = None
        self._began = time.perf_counter()
        self.snapshot_seconds: float | None = None
        self.snapshot_bytes = 0
        self.snapshots = 0
        self.facts: list[int] = []
        self.seq = 0
        self.disordered = 0
        self.last_cancelled = b""
        self.lost: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._upgraded:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._data.startswith(b"HTTP/1.1 101"):
                sys.exit(f"handshake refused: {bytes(self._data[:200])!r}")
            del self._data[: end + 4]
            self._upgraded = True
            assert self._transport is not None
            self._transport.write(SUBSCRIBE)
        at, data = 0, bytes(self._data)
        while len(data) - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif size == 127:
                size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            if len(data) < start + size:
                break
            self._frame(data[at], data, start, size)
            at = start + size
        del self._data[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.lost or repr(exc)

    def _frame(self, opcode: int, data: bytes, at: int, size: int) -> None:
        if opcode == TEXT:
            self._message(data, at, size)
        elif opcode == PING and self._transport is not None:
            self._transport.write(frame(PONG, data[at : at + size]))
        elif opcode == CLOSE:
            self.lost = f"closed with {int.from_bytes(data[at : at + 2], 'big')}"

    def _message(self, data: bytes, at: int, size: int) -> None:
        fact = data.startswith(FACT, at)
        head = len(FACT) if fact else len(READING) if data.startswith(READING, at) else len(SNAPSHOT)
        start = at + head
        end = data.index(b",", start)
        seq = int(data[start:end])
        if data.startswith(SNAPSHOT, at):
            self.snapshots += 1
            self.snapshot_bytes = size
            self.snapshot_seconds = self.snapshot_seconds or time.perf_counter() - self._began
        elif seq <= self.seq:
            self.disordered += 1
        self.seq = seq
        if fact:
            self.facts.append(seq)
            name = data.index(b'"task_id":"', end) + 11
            if data.find(CANCELLED, name, at + size) > 0:
                self.last_cancelled = data[name : name + 37]


async def _told_of(task_id: bytes, clients: list[Client]) -> None:
    while any(client.lost is None and client.last_cancelled != task_id for client in clients):
        await asyncio.sleep(0.05)


async def measure(args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    clients = [Client(args.port) for _ in range(args.count)]
    for client in clients:
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", args.port))
        await loop.create_connection(lambda client=client: client, sock=sock)  # type: ignore[misc]
    async with asyncio.timeout(STORM_SECONDS):
        while any(client.snapshot_seconds is None and client.lost is None for client in clients):
            await asyncio.sleep(0.01)
    waited = sorted(client.snapshot_seconds or float("inf") for client in clients)
    ready = {
        "median_seconds": waited[len(waited) // 2],
        "longest_seconds": waited[-1],
        "bytes": max(client.snapshot_bytes for client in clients),
    }
    print(json.dumps(ready), flush=True)
    task_id = (await loop.run_in_executor(None, sys.stdin.readline)).strip().encode()
    began = time.perf_counter()
    try:
        async with asyncio.timeout(TELLING_SECONDS):
            await _told_of(task_id, clients)
    except TimeoutError:
        pass  # those who have not been told miss something, which the figures say
    late = time.perf_counter() - began
    since = max(client.facts[0] for client in clients if client.facts)
    everything = {seq for client in clients for seq in client.facts if seq >= since}
    living = [client for client in clients if client.lost is None]
    told = {
        "facts": len(everything),
        "missing": sum(len(everything.difference(client.facts)) for client in living),
        "repeated": sum(len(client.facts) - len(set(client.facts)) for client in clients),
        "disordered": sum(client.disordered for client in clients),
        "begun_anew": sum(client.snapshots - 1 for client in clients),
        "lost": len(clients) - len(living),
        "why": Counter(client.lost for client in clients if client.lost),
        "late_seconds": late,
    }
    print(json.dumps(told), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load.crowd", description="WebSocket readers of all tasks"
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=1000)
    uvloop.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
