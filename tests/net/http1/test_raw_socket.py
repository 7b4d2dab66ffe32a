from __future__ import annotations

import asyncio
import socket
import struct
import time

import pytest

from mediagen.net.http1.raw_socket import SocketReader, duplicate_socket, try_receive, try_send


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    here, there = socket.socketpair()
    here.setblocking(False)
    return here, there


async def test_the_socket_of_a_plain_connection_is_one_of_its_own(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    with there:
        _, writer = await asyncio.open_connection(sock=here)
        sock = duplicate_socket(writer.transport)
        assert sock is not None
        with sock:
            writer.transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert sock.send(b"still open") == 10
        assert there.recv(20) == b"still open"
    assert duplicate_socket(None) is None


def test_what_is_at_hand_is_received_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    buffer = memoryview(bytearray(10))
    with here, there:
        began = time.monotonic()
        assert try_receive(here, buffer, within=0.02) is None
        assert time.monotonic() - began >= 0.02
        there.send(b"abc")
        assert try_receive(here, buffer, within=20) == 3
        assert bytes(buffer[:3]) == b"abc"
        there.close()
        assert try_receive(here, buffer, within=20) == 0


async def test_a_reader_gives_what_came_before_the_end_and_before_an_error() -> None:
    async def ended(*, reset: bool) -> SocketReader:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            here = socket.create_connection(listening.getsockname())
            there, _ = listening.accept()
        here.setblocking(False)
        reader, buffer = SocketReader(here), memoryview(bytearray(100))
        there.send(b"abc")
        assert await reader.read_into(buffer) == 3
        with pytest.raises(TimeoutError):
            await reader.read_into(buffer, stall=0.01)
        assert reader.try_read(buffer, within=0.01) == 0
        there.send(b"de")
        assert await reader.read_into(buffer[:1]) == 1
        assert reader.try_read(buffer, within=20) == 1
        if reset:
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        return reader

    buffer = memoryview(bytearray(100))
    for in_thread_first in (False, True):
        reader = await ended(reset=False)
        assert not in_thread_first or reader.try_read(buffer, within=20) == 0
        assert [await reader.read_into(buffer), await reader.read_into(buffer), reader.try_read(buffer, within=9)] == [
            0
        ] * 3
        reader.close()

        reader = await ended(reset=True)
        assert not in_thread_first or reader.try_read(buffer, within=20) == 0
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                await reader.read_into(buffer)
        assert reader.try_read(buffer, within=9) == 0
        reader.close()


def test_a_socket_takes_what_it_has_room_for(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    data = memoryview(bytes(1 << 24))
    with here, there:
        sent = try_send(here, data, within=0.01)
        assert 0 < sent < len(data)
        left = sent
        while left:
            left -= len(there.recv(left))
        assert try_send(here, data[:100], within=0.01) == 100
        there.close()
        with pytest.raises(OSError):
            try_send(here, data, within=0.01)


async def test_a_read_that_waits_ends_when_its_reader_is_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    """The number of a closed descriptor is soon that of another connection, which must not be disturbed."""
    here, there = pair
    buffer = memoryview(bytearray(10))
    with there:
        reader, fd = SocketReader(here), here.fileno()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_aborted(reader))
            await asyncio.sleep(0.01)
            reader.close()
            others = socket.socketpair()
            with others[0], others[1]:
                others[0].setblocking(False)
                assert others[0].fileno() == fd
                second = SocketReader(others[0])
                next_read = group.create_task(second.read_into(buffer))
                assert await waiting
                others[1].send(b"its own")
                assert await next_read == 7
                second.close()
    with pytest.raises(OSError):
        await reader.read_into(buffer)
    reader.close()


async def _aborted(reader: SocketReader) -> bool:
    with pytest.raises(ConnectionAbortedError):
        await reader.read_into(memoryview(bytearray(10)))
    return True
