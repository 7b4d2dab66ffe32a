"""TLS over a non-blocking socket, encrypted and decrypted in memory (RFC 8446).

``ssl.SSLSocket`` asks the kernel for each record of at most 16 KiB, when it reads twice. Here OpenSSL works on memory
buffers of many records, and one system call moves what lies in them.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from typing import Final, cast

from mediagen.net.http1.raw_socket import send_all, wait_ready
from mediagen.streams.base import KIB

_MOST: Final = 256 * KIB
"""Bytes encrypted or received at a time: enough for one system call. OpenSSL's buffers keep room for as many."""
_LEAST: Final = 64 * KIB
_NOTHING: Final = memoryview(b"")


class TlsSocket:
    """One connection over TLS, to be used like a non-blocking socket (``raw_socket.ByteSocket``).

    One may send while another receives, each in any thread: OpenSSL bears one caller at a time, since both directions
    share one state (a key update that is received changes the keys of what is sent), so a lock goes round each of its
    calls. No system call waits under the lock. The order of records is that of the one sender.

    Takes over ``sock``, which must be non-blocking. An end of TCP without TLS's closing alert is ``ssl.SSLEOFError``.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._lock = threading.Lock()
        self._unsent = _NOTHING
        self._encrypted = 0
        self._error: ssl.SSLError | None = None

    async def do_handshake(self) -> None:
        """Agree on keys, and verify whom the certificate names. Raises OSError, ``ssl.SSLError`` among them."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await send_all(self._sock, self._outgoing.read())
                try:
                    self._receive(_LEAST)
                except BlockingIOError:
                    await wait_ready(self._sock, select.POLLIN)
            except ssl.SSLError:
                with suppress(OSError):
                    self._sock.send(self._outgoing.read())  # the alert that tells the other side why
                raise
            else:
                await send_all(self._sock, self._outgoing.read())
                return

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, data: memoryview, /) -> int:
        """How many bytes of ``data`` the kernel has taken, encrypted.

        Raises:
            BlockingIOError: the kernel has no room for all of what was encrypted. The next call must begin with the
                same bytes, since they are on their way; it counts them once the last of them is gone.
        """
        with self._lock:
            if not self._unsent:
                self._encrypted = self._tls.write(data[:_MOST]) if data else 0
                self._unsent = memoryview(self._outgoing.read())
            encrypted = self._encrypted
        if len(data) < encrypted:
            raise ValueError("other bytes than those that are on their way")
        self._flush()
        return encrypted

    def recv_into(self, buffer: memoryview, /) -> int:
        """Bytes put into ``buffer``, of several records when they are at hand; 0 at the end that TLS has announced.

        Raises:
            BlockingIOError: nothing is at hand.
        """
        filled = 0
        with self._lock:
            while filled < len(buffer) and self._error is None:
                try:
                    count = cast("int", self._tls.read(len(buffer) - filled, buffer[filled:]))
                except ssl.SSLWantReadError:
                    self._speak()
                    try:
                        self._receive(min(max(len(buffer) - filled, _LEAST), _MOST))
                    except BlockingIOError:
                        if filled:
                            break
                        raise
                except ssl.SSLZeroReturnError:
                    break
                except ssl.SSLError as exc:
                    self._error = exc  # what came before it is good
                else:
                    if not count:
                        break
                    filled += count
        if not filled and self._error is not None:
            raise self._error
        return filled

    def close(self) -> None:
        self._sock.close()

    def _flush(self) -> None:
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]

    def _speak(self) -> None:
        """Send what TLS itself has to say, as that it does not renegotiate; a sender under way takes it along."""
        if self._outgoing.pending and not self._unsent:
            self._encrypted, self._unsent = 0, memoryview(self._outgoing.read())
            with suppress(OSError):  # the next sender is told
                self._flush()

    def _receive(self, most: int) -> None:
        """Take encrypted bytes from the kernel. Raises BlockingIOError when there are none."""
        if received := self._sock.recv(most):
            self._incoming.write(received)
        else:
            self._incoming.write_eof()
