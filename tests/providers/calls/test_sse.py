"""Server-sent events, whatever the pieces that they come in (HTML standard, section 9.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagen.core.errors import ProviderError
from mediagen.providers.calls import sse as module
from mediagen.providers.calls.sse import Events

LONG = b"x" * 3000
STREAM = (
    b'\xef\xbb\xbf: a comment\n\nevent: one\ndata: {"a": 1}\n\nid: 7\nretry: 100\nnothing\n\ndata:{}\n\n'
    b"event: gone\n\ndata\n\ndata:\n\ndata: \n\n" + LONG + b"\n:" + LONG + b"\n\n"
    b"event:three\ndata: " + LONG + b'\n\ndata: {"two":\ndata\n: between\ndata: "lines"}\nevent: behind\n\n'
    b"event: four\nid: 8\ndata: 4\n\ndata: [DONE]\n\ndata: last"
)
EVENTS = [
    ("one", b'{"a": 1}'),
    ("", b"{}"),
    ("three", LONG),
    ("behind", b'{"two":\n\n "lines"}'),
    ("four", b"4"),
    ("", b"last"),
]


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(data: bytes, size: int) -> list[tuple[str, bytes]]:
    found = []
    async for event in Events(pieces(data, size)).events():
        text = b"".join([chunk async for chunk in event.data]).strip()
        found.append((event.name, text))
    return found


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@settings(max_examples=50)
@given(size=st.integers(1, 4000))
async def test_events_come_out_whole(end: bytes, size: int) -> None:
    assert await read(STREAM.replace(b"\n", end), size) == EVENTS


async def test_what_nobody_takes_is_skipped() -> None:
    names = [event.name async for event in Events(pieces(STREAM, 10)).events()]

    assert names == ["one", "", "three", "", "four", ""]  # a name behind its data is known once they are read


async def test_a_stream_that_ends_anywhere_ends() -> None:
    for end in range(len(STREAM) - 6100, 60, -7):
        await read(STREAM[:end], 13)


async def test_noise_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_PASSED", 50_000)

    with pytest.raises(ProviderError, match="without events"):
        await read(b"x" * 100_000, 1000)
    assert await read((b"x" * 40_000 + b"\n\ndata: 1\n\n") * 5, 1000) == [("", b"1")] * 5
