"""How slowly a body may come: one rule for JSON, files and forms."""

from __future__ import annotations

import asyncio

import pytest

from mediagen.web.http.body import BodyLimits, Pace
from mediagen.web.http.problems import BodyStalled
from tests.web.conftest import House, Start
from tests.web.files.test_uploads import FORM, form, nothing_is_left, part
from tests.web.middleware.test_rate_limit import Clock

SLOW = {"body_idle_seconds": 0.4, "body_minimum_bytes_per_second": 2000}
BODIES = {
    "json": ("/v1/tasks/cancel", "application/json", b'{"ids": ["' + b"x" * 5000),
    "ingest": ("/v1/ingest", "application/json", b'{"data": "' + b"QUJD" * 2000),
    "raw": ("/v1/files", "application/octet-stream", bytes(5000)),
    "form": ("/v1/files", FORM["Content-Type"], form(part(bytes(5000)))),
    "form that never begins": ("/v1/files", FORM["Content-Type"], b"\r\n" * 2000),
}


async def _send(house: House, name: str, piece: int, spacing: float) -> bytes:
    """The head of the answer to a body of this kind that comes in such pieces."""
    path, media_type, body = BODIES[name]
    reader, writer = await asyncio.open_connection("127.0.0.1", house.instance.port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode())
    answer = asyncio.get_running_loop().create_task(reader.readuntil(b"\r\n\r\n"))
    for start in range(0, len(body), piece):
        writer.write(body[start : start + piece])
        await asyncio.sleep(spacing)
        if answer.done():
            break
    try:
        return await answer
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("name", list(BODIES))
async def test_a_body_that_drips_ends_with_408(start: Start, name: str) -> None:
    house = await start(server=SLOW)

    async with asyncio.timeout(10):
        answer = await _send(house, name, 2, 0.02)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close\r\n" in answer
    await nothing_is_left(house)


@pytest.mark.parametrize("name", ["raw", "form"])
async def test_a_body_that_is_merely_slow_is_taken(start: Start, name: str) -> None:
    house = await start(server={**SLOW, "body_minimum_bytes_per_second": 500})

    answer = await _send(house, name, 200, 0.02)

    assert answer.startswith(b"HTTP/1.1 201 ")


async def test_zero_is_no_limit(start: Start) -> None:
    house = await start(server={**SLOW, "body_minimum_bytes_per_second": 0})

    answer = await _send(house, "raw", 100, 0.02)

    assert answer.startswith(b"HTTP/1.1 201 ")


async def test_only_waiting_for_the_client_counts() -> None:
    clock = Clock()
    pace = Pace(BodyLimits(1000, 30.0, 100), clock=clock)

    async def read(seconds: float) -> None:
        clock.now += seconds

    for _ in range(10):
        await pace.wait(read(1))
        pace.count(100)
        clock.now += 3600  # our store takes its time
    await pace.wait(read(20))
    pace.count(2000)
    await pace.wait(read(29))
    pace.count(2000)
    await pace.wait(read(1))
    with pytest.raises(BodyStalled) as slow:
        pace.count(999)

    assert "100 bytes a second" in slow.value.detail
