"""Listening sockets on loopback whose connections have an owner, and a loop of their own to serve them."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# two reads of 256 KiB: enough to keep a transfer going, little enough that a slow reader is felt by the sender
BUFFER = 512 * 1024


class Listener:
    """Runs ``serve`` for each connection to a free port of ``host``; ``close`` ends them all."""

    def __init__(self, serve: Serve, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._serve = serve
        self._host = host
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._closing = False
        self.port = 0

    async def open(self) -> None:
        """Listen; afterwards ``port`` is known."""
        self._server = await asyncio.start_server(
            self._connected, self._host, 0, limit=BUFFER, ssl=self._tls, backlog=512
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task")
        self._tasks.add(task)
        # what drain() has passed is the kernel's, so counts are true; 1 and not 0, with which asyncio's TLS transport
        # pauses its writer at every second write although nothing waits, and drain() may hang
        writer.transport.set_write_buffer_limits(high=1, low=0)
        try:
            await self._serve(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the other side went away, which is its right
        except asyncio.CancelledError:
            if not self._closing:  # by ``close``: asyncio's streams would report a cancelled task as a fault
                raise
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is None:
            return
        self._closing = True
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.sleep(0)  # aborted transports close their sockets in the next turn of the loop


async def send_reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST in place of FIN, once the other side's kernel has what was written."""
    sock = writer.get_extra_info("socket")
    await _delivered(sock.fileno())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _delivered(descriptor: int) -> None:
    """Wait until the send queue is empty (``tcp(7)``, SIOCOUTQ), for two seconds at most.

    RST throws the queue away, and nothing tells that it has emptied; a reader that has stopped would leave it full.
    """
    for _ in range(200):
        if struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0] == 0:
            return
        await asyncio.sleep(0.01)


class LoopThread:
    """An event loop in a thread, so that a server goes on while the test's own loop is busy or absent."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = 10.0) -> T:
        """The result of ``coroutine``, run on this loop and awaited from another thread."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(timeout)

    def call(self, function: Callable[[], object]) -> None:
        """Have ``function`` called on this loop soon."""
        self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """End the loop and the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
