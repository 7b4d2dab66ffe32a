"""What every source, and every source of ranges, must do: an implementation says how it is opened, and inherits."""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager

import pytest

from mediagen.streams.base import KIB, RangeReader, RangeSource, Source
from tests.infra.content import content_bytes

SIZES = [0, 1, 4096, 300_000]


class SourceContract:
    """Inherit, and give ``opened``."""

    knows_its_size = False
    """Whether an opened source says how long it is."""

    def opened(self, data: bytes) -> AbstractAsyncContextManager[Source]:
        """A source that gives ``data``."""
        raise NotImplementedError

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("step", [1, 1000, 64 * KIB, 1 << 20])
    async def test_all_bytes_come_in_order_into_buffers_of_any_size(self, size: int, step: int) -> None:
        data, out = content_bytes(size, 3)[: 3000 if step == 1 else size], bytearray()
        buffer = memoryview(bytearray(step))

        async with self.opened(data) as source:
            assert source.size == (len(data) if self.knows_its_size else None)
            while count := await source.read_into(buffer):
                assert 0 < count <= step
                out += buffer[:count]
            for _ in range(3):
                assert await source.read_into(buffer) == 0  # the end stays the end

        assert bytes(out) == data

    async def test_nothing_beyond_the_bytes_given_is_touched(self) -> None:
        data, buffer = content_bytes(50_000, 4), bytearray(b"\xaa" * 100_000)

        async with self.opened(data) as source:
            count = await source.read_into(memoryview(buffer)[:20_000])

        assert buffer[:count] == data[:count]
        assert buffer[20_000:] == b"\xaa" * 80_000

    async def test_the_size_of_the_buffer_may_change(self) -> None:
        data, out, dice = content_bytes(200_000, 5), bytearray(), random.Random(1)

        async with self.opened(data) as source:
            while True:
                buffer = memoryview(bytearray(dice.choice([1, 10, 5000, 100_000])))
                count = await source.read_into(buffer)
                if count == 0:
                    break
                out += buffer[:count]

        assert bytes(out) == data

    async def test_a_source_may_be_left_at_any_time(self) -> None:
        async with self.opened(content_bytes(300_000, 6)):
            pass
        async with self.opened(content_bytes(300_000, 6)) as source:
            await source.read_into(memoryview(bytearray(10)))


class RangeSourceContract:
    """Inherit, and give ``opened``."""

    def opened(self, data: bytes) -> AbstractAsyncContextManager[RangeSource]:
        """A source of ranges of ``data``."""
        raise NotImplementedError

    async def read(self, reader: RangeReader, offset: int, length: int) -> bytes:
        out = bytearray(length)
        await reader.seek(offset)
        done = 0
        while done < length:
            count = await reader.read_into(memoryview(out)[done:])
            assert 0 < count <= length - done
            done += count
        return bytes(out)

    async def test_ranges_in_any_order(self) -> None:
        data, dice = content_bytes(3_000_000, 7), random.Random(2)

        async with self.opened(data) as source:
            assert source.size == len(data)
            reader = source.open_reader()
            for _ in range(12):
                start = dice.randrange(len(data))
                end = dice.randrange(start, len(data)) + 1
                reader.expect(start, end)
                assert await self.read(reader, start, end - start) == data[start:end]
            await reader.aclose()

    async def test_a_range_left_in_the_middle_and_read_again(self) -> None:
        data = content_bytes(1_000_000, 8)

        async with self.opened(data) as source:
            reader = source.open_reader()
            reader.expect(100, 900_000)
            for length in (10, 100_000, 50, 899_900):
                assert await self.read(reader, 100, length) == data[100 : 100 + length]
            await reader.aclose()

    async def test_more_than_was_expected_may_be_read(self) -> None:
        data = content_bytes(1_000_000, 8)

        async with self.opened(data) as source:
            reader = source.open_reader()
            reader.expect(0, 1000)
            assert await self.read(reader, 0, len(data)) == data
            await reader.aclose()

    async def test_readers_do_not_disturb_each_other(self) -> None:
        data = content_bytes(1_000_000, 9)

        async with self.opened(data) as source:
            readers = [source.open_reader() for _ in range(3)]
            for offset in range(0, 900_000, 100_000):
                for number, reader in enumerate(readers):
                    at = offset + number
                    assert await self.read(reader, at, 50_000) == data[at : at + 50_000]
            for reader in readers:
                await reader.aclose()

    async def test_a_reader_may_be_closed_without_a_read_and_twice(self) -> None:
        async with self.opened(b"abc") as source:
            reader = source.open_reader()
            await reader.aclose()
            await reader.aclose()
