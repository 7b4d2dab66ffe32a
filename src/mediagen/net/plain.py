"""The socket below a connection of plain TCP, for those who move many bytes over it."""

from __future__ import annotations

import asyncio
import select
import socket


def plain_socket(transport: asyncio.BaseTransport | None) -> socket.socket | None:
    """A second, non-blocking descriptor of the connection, the caller's to close; None when there is none to be had.

    None over TLS, whose bytes are made in the transport, and on an event loop that has transports of its own kind.
    Whoever reads or writes here must keep the transport from doing the same.
    """
    if not isinstance(transport, asyncio.Transport) or transport.get_extra_info("ssl_object") is not None:
        return None
    sock: socket.socket = transport.get_extra_info("socket").dup()
    sock.setblocking(False)
    return sock


def receive_now(sock: socket.socket, buffer: memoryview, *, within: float) -> int | None:
    """Bytes put into ``buffer``, 0 at the end of the connection; None: nothing came ``within`` seconds.

    Blocks for so long; call it in a thread. Raises OSError.
    """
    try:
        return sock.recv_into(buffer)
    except BlockingIOError:
        if not _comes(sock, select.POLLIN, within):
            return None
        return sock.recv_into(buffer)


def send_now(sock: socket.socket, view: memoryview, *, within: float) -> int:
    """How many bytes of ``view`` the socket took without a pause of more than ``within`` seconds.

    Blocks for so long; call it in a thread. Raises OSError.
    """
    sent = 0
    while sent < len(view):
        try:
            sent += sock.send(view[sent:])
        except BlockingIOError:
            if not _comes(sock, select.POLLOUT, within):
                break
    return sent


def _comes(sock: socket.socket, event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(sock, event)
    return bool(poll.poll(seconds * 1000))
