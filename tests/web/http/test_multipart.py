"""Parts of a multipart body, however it is cut, read into whatever room there is, in the loop and in a thread."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.errors import InvalidRequest, TooLarge
from mediagen.streams.base import KIB, Source, try_read_from
from mediagen.streams.sources import ChunkSource
from mediagen.web.http.multipart import Part, Parts
from tests.contracts.source import SourceContract
from tests.infra.content import content_bytes
from tests.streams.json.splitting import split_at, splits

BOUNDARY = "frontier"
DELIMITER = f"\r\n--{BOUNDARY}".encode()


def part(content: bytes, name: str = "file") -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + content + b"\r\n"


def whole(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


class Pieces:
    """Bytes as they come: each piece by itself, to the loop and to a thread alike.

    ``waits_after`` so many reads it waits for ``go_on``.
    """

    size: int | None = None

    def __init__(self, pieces: Sequence[bytes], *, waits_after: int | None = None) -> None:
        self._pieces = [memoryview(piece) for piece in pieces if piece]
        self._waits_after = waits_after
        self.go_on = asyncio.Event()

    async def read_into(self, buffer: memoryview, /) -> int:
        if self._waits_after == 0:
            await self.go_on.wait()
        if self._waits_after is not None:
            self._waits_after -= 1
        return self.try_read(buffer, within=0)

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        if not self._pieces:
            return 0
        count = min(len(buffer), len(self._pieces[0]))
        buffer[:count] = self._pieces[0][:count]
        self._pieces[0] = self._pieces[0][count:]
        if not self._pieces[0]:
            del self._pieces[0]
        return count


def cut(source: Source, *, max_lines: int = 2000, max_rest: int = 100_000) -> Parts:
    return Parts(source, BOUNDARY, max_lines=max_lines, max_rest=max_rest)


async def content_of(part: Part, step: int = 64 * KIB, *, taking: bool = False) -> bytes:
    buffer, out = memoryview(bytearray(step)), bytearray()
    while True:
        while taking and (count := try_read_from(part, buffer, within=0)):
            out += buffer[:count]
        count = await part.read_into(buffer)
        if not count:
            return bytes(out)
        out += buffer[:count]


async def contents_of(source: Source, step: int = 64 * KIB, *, taking: bool = False) -> list[bytes]:
    parts, found = cut(source), []
    while (one := await parts.next()) is not None:
        found.append(await content_of(one, step, taking=taking))
    await parts.finish()
    return found


class TestPart(SourceContract):
    @asynccontextmanager
    async def opened(self, data: bytes) -> AsyncIterator[Source]:
        parts = cut(Pieces(split_at(whole(part(data)), range(0, len(data), 7777))))
        opened = await parts.next()
        assert opened is not None
        yield opened


NEAR = [
    b"",
    b"a",
    b"\r",
    b"\r\n",
    DELIMITER[:-1],
    DELIMITER[:-1] + b"\n",
    b"\r" + DELIMITER[:-1] + b"\r",
    b"\r\n-" + DELIMITER[2:-1] * 3,
    b"\n--" + BOUNDARY.encode(),
    b"--" + BOUNDARY[1:].encode(),
    b"\r" * 40,
    b"\r\n" * 20,
    b"\r\n--" * 20,
]


@pytest.mark.parametrize("content", NEAR, ids=range(len(NEAR)))
@pytest.mark.parametrize("taking", [False, True])
async def test_what_looks_like_a_boundary_at_every_border(content: bytes, taking: bool) -> None:
    body = whole(part(content), part(b"next", "other"))

    for border in range(len(body)):
        for step in (1, 600):
            pieces = Pieces(split_at(body, [border]))
            assert await contents_of(pieces, step, taking=taking) == [content, b"next"], (border, step)
    by_bytes = Pieces([body[at : at + 1] for at in range(len(body))])
    assert await contents_of(by_bytes, 600, taking=taking) == [content, b"next"]


@given(data=st.data(), taking=st.booleans(), step=st.sampled_from([1, 511, 512, 513, 5000, 1 << 20]))
async def test_any_content_in_any_pieces(data: st.DataObject, taking: bool, step: int) -> None:
    words = [b"\r", b"\n", b"-", b"--", BOUNDARY.encode(), DELIMITER[:-1], b"x" * 300, b"\0"]
    content = b"".join(data.draw(st.lists(st.sampled_from(words), max_size=30)))
    if DELIMITER in b"\r\n" + content:
        content = content.replace(BOUNDARY.encode(), b"frontie")

    found = await contents_of(Pieces(data.draw(splits(whole(part(content))))), step, taking=taking)

    assert found == [content]


@pytest.mark.parametrize(
    "content",
    [
        b"\r" * 3_000_000,
        b"\r\n--" * 600_000,
        (DELIMITER[:-1] + b"x") * 250_000,
        content_bytes(3_000_001),
        b"-" * 3_000_000,
    ],
    ids=["cr", "dashes", "near", "random", "all-dashes"],
)
@pytest.mark.parametrize("taking", [False, True])
async def test_large_contents_of_every_kind(content: bytes, taking: bool) -> None:
    dice = random.Random(5)
    body = whole(part(b"before", "other"), part(content), part(b"", "after"))
    pieces = split_at(body, sorted(dice.randrange(len(body)) for _ in range(30)))

    assert await contents_of(Pieces(pieces), 700_000, taking=taking) == [b"before", content, b""]


async def test_headers_lines_and_what_stands_around() -> None:
    body = (
        b"preamble\r\n--" + BOUNDARY.encode() + b"  \r\n"
        b'content-disposition: form-data; name="a"; filename="b; \xc3\xa4.bin"\nContent-Type:  text/x \r\n\r\n'
        b"one" + DELIMITER + b"\t\r\nX: y\r\n\r\n" + DELIMITER[2:] + b"--epilogue?\r\n"
    )
    parts = cut(ChunkSource(_chunks(body.replace(b"--epilogue?", b"--"), 3)))

    first = await parts.next()
    assert first is not None
    assert (first.name, first.filename, first.headers["content-type"]) == ("a", "b; ä.bin", "text/x")
    assert await content_of(first) == b"one"
    second = await parts.next()
    assert second is not None
    assert (second.name, second.filename, await content_of(second)) == (None, None, b"")
    assert await parts.next() is None
    assert await parts.next() is None

    with pytest.raises(InvalidRequest, match="body is incomplete"):  # something behind the last boundary
        await contents_of(ChunkSource(_chunks(body, 1000)))


async def test_the_last_line_may_be_without_an_end() -> None:
    assert await contents_of(Pieces([whole(part(b"a"))[:-2]])) == [b"a"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--frontier",
        b"--frontier\r\n",
        part(b"a"),
        part(b"a")[:-1],
        whole(part(b"a"))[:-4],
        whole(part(b"a")).replace(b"\r\n--frontier--", b"\r\n--frontiers--"),
        b"--frontier\r\nno header\r\n\r\n" + DELIMITER + b"--",
        b"--frontier\r\n folded: x\r\n\r\n" + DELIMITER + b"--",
        b"--frontier\r\n" + b"X: y\r\n" * 40 + b"\r\n" + DELIMITER + b"--",
        b"--frontier\r\nX: " + b"y" * 9000 + b"\r\n\r\n" + DELIMITER + b"--",
        b"--frontier\r\nX: " + b"y" * 100_000,
    ],
    ids=range(12),
)
@pytest.mark.parametrize("step", [1, 100_000])
async def test_what_is_no_multipart_body_is_said_to_be_none(body: bytes, step: int) -> None:
    with pytest.raises(InvalidRequest, match="body is incomplete"):
        await contents_of(ChunkSource(_chunks(body, step)))


@pytest.mark.parametrize("boundary", ["", "x" * 71])
async def test_a_boundary_has_its_limits(boundary: str) -> None:
    with pytest.raises(InvalidRequest, match="body is incomplete"):
        Parts(Pieces([]), boundary, max_lines=1, max_rest=1)


async def test_lines_and_bytes_outside_content_are_counted() -> None:
    body = whole(part(b"x" * 5000), part(b"y" * 100, "other")) + b"z" * 50
    beside = len(body) - 5000 - 2 * len(DELIMITER)

    async def read(max_lines: int, max_rest: int) -> None:
        parts = cut(Pieces([body]), max_lines=max_lines, max_rest=max_rest)
        first = await parts.next()
        assert first is not None
        assert len(await content_of(first)) == 5000
        assert await parts.next() is not None
        await parts.skip()
        assert await parts.next() is None
        await parts.finish()

    await read(7, beside)
    with pytest.raises(InvalidRequest, match="more than 6 lines"):
        await read(6, beside)
    with pytest.raises(TooLarge, match="besides its file"):
        await read(7, beside - 1)


async def test_a_part_that_was_not_read_is_in_the_way() -> None:
    parts = cut(Pieces([whole(part(b"a"), part(b"b"))]))
    await parts.next()

    with pytest.raises(RuntimeError, match="has not been read"):
        await parts.next()


async def test_nothing_is_lost_when_a_read_is_cancelled() -> None:
    """At whichever of its reads a body is given up for a while."""
    content = b"\r\n--front" * 12 + b"\r\n-"
    body = whole(part(content))
    pieces = [body[at : at + 9] for at in range(0, len(body), 9)]

    given_up = 0
    for number in range(8, len(pieces)):  # until there the part has not been opened
        source = Pieces(pieces, waits_after=number)
        parts = cut(source)
        one = await parts.next()
        assert one is not None
        buffer, out = memoryview(bytearray(600)), bytearray()

        async def read_all(one: Part = one, buffer: memoryview = buffer, out: bytearray = out) -> None:
            while count := await one.read_into(buffer):
                out += buffer[:count]

        try:
            async with asyncio.timeout(0):
                await read_all()
        except TimeoutError:
            given_up += 1
            source.go_on.set()
            await read_all()
        assert bytes(out) == content, number
    assert given_up > 10


async def _chunks(data: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        yield data[start : start + step]
