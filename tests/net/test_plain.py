from __future__ import annotations

import asyncio
import socket
import time

import pytest

from mediagen.net.plain import plain_socket, receive_now, send_now


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    here, there = socket.socketpair()
    here.setblocking(False)
    return here, there


async def test_the_socket_of_a_plain_connection_is_one_of_its_own(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    with there:
        _, writer = await asyncio.open_connection(sock=here)
        sock = plain_socket(writer.transport)
        assert sock is not None
        with sock:
            writer.transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert sock.send(b"still open") == 10
        assert there.recv(20) == b"still open"
    assert plain_socket(None) is None


def test_what_is_at_hand_is_received_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    buffer = memoryview(bytearray(10))
    with here, there:
        began = time.monotonic()
        assert receive_now(here, buffer, within=0.02) is None
        assert time.monotonic() - began >= 0.02
        there.send(b"abc")
        assert receive_now(here, buffer, within=20) == 3
        assert bytes(buffer[:3]) == b"abc"
        there.close()
        assert receive_now(here, buffer, within=20) == 0


def test_a_socket_takes_what_it_has_room_for(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    data = memoryview(bytes(1 << 24))
    with here, there:
        sent = send_now(here, data, within=0.01)
        assert 0 < sent < len(data)
        left = sent
        while left:
            left -= len(there.recv(left))
        assert send_now(here, data[:100], within=0.01) == 100
        there.close()
        with pytest.raises(OSError):
            send_now(here, data, within=0.01)
