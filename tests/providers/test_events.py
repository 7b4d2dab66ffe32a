"""Server-sent events, whatever the pieces that they come in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagen.core.errors import ProviderError
from mediagen.providers.events import Events

STREAM = (
    b': a comment\n\nevent: one\r\ndata: {"a": 1}\r\n\r\nid: 7\nretry: 100\nnothing\n\ndata:{}\n\n'
    b"event:three\ndata: " + b"x" * 3000 + b"\n\ndata: [DONE]\n\n"
)


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(data: bytes, size: int) -> list[tuple[str, bytes]]:
    return [
        (event.name, b"".join([chunk async for chunk in event.data]).strip())
        async for event in Events(pieces(data, size)).events()
    ]


@settings(max_examples=50)
@given(size=st.integers(1, 4000))
async def test_events_come_out_whole(size: int) -> None:
    assert await read(STREAM, size) == [("one", b'{"a": 1}'), ("", b"{}"), ("three", b"x" * 3000)]


async def test_what_nobody_takes_is_skipped() -> None:
    assert [event.name async for event in Events(pieces(STREAM, 10)).events()] == ["one", "", "three"]


async def test_a_stream_that_ends_anywhere_ends() -> None:
    for end in range(len(STREAM) - 2990, 60, -7):
        await read(STREAM[:end], 13)


async def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(ProviderError):
        await read(b"x" * 100_000, 1000)
