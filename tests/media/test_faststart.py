"""An MP4 whose index comes last, put in an order that a pipe can be read in."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path

import pytest

from mediagen.core.errors import UnsupportedMedia
from mediagen.media.faststart import ReorderedSource, plan_faststart
from mediagen.streams.base import Source
from tests.media.videos import Shelf
from tests.streams.formats.files import box

FTYP = box(b"ftyp", b"isom\0\0\2\0isom")
MEDIA = bytes(range(1, 101))


def moov(*places: int, wide: bool = False, folders: tuple[bytes, ...] = (b"stbl", b"minf", b"mdia", b"trak")) -> bytes:
    """An index with a table of places (ISO/IEC 14496-12 section 8.7.5)."""
    table = struct.pack(f">II{len(places)}{'Q' if wide else 'I'}", 0, len(places), *places)
    inner = box(b"stsd", bytes(9)) + box(b"co64" if wide else b"stco", table)
    for name in folders:
        inner = box(name, inner)
    return box(b"moov", box(b"mvhd", bytes(100)) + inner)


def places_of(video: bytes, *, wide: bool = False) -> tuple[int, ...]:
    at = video.index(b"co64" if wide else b"stco") + 8
    (count,) = struct.unpack(">I", video[at : at + 4])
    return struct.unpack(f">{count}{'Q' if wide else 'I'}", video[at + 4 : at + 4 + count * (8 if wide else 4)])


async def ordered(video: bytes) -> bytes:
    shelf = Shelf(video)
    order = await plan_faststart(shelf, len(video))
    data = b""
    buffer = memoryview(bytearray(1000))
    async with aclosing(ReorderedSource(shelf, order)) as source:
        while count := await source.read_into(buffer):
            data += buffer[:count]
        assert source.size == len(data)
    assert shelf.open == 0
    return data


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("long", [False, True])
async def test_places_point_to_the_same_bytes_again(wide: bool, long: bool) -> None:
    free, tail = box(b"free", b"1234"), box(b"udta", b"last")
    before = len(FTYP + free)
    mdat = box(b"mdat", MEDIA, wide=long)
    start = before + len(mdat) - len(MEDIA)
    places = (3, start, start + 50, start + 99)  # the first lies before the media, and stays
    index = moov(*places, wide=wide)
    video = FTYP + free + mdat + index + tail

    data = await ordered(video)

    assert data[:before] == FTYP + free
    assert data.endswith(mdat + tail)
    assert len(data) == len(video)
    moved = places_of(data, wide=wide)
    assert [data[place] for place in moved] == [video[place] for place in places]
    assert moved[0] == 3


async def test_what_is_in_order_is_left_as_it_is() -> None:
    video = FTYP + moov(1, 2) + box(b"mdat", MEDIA)
    shelf = Shelf(video)

    assert await plan_faststart(shelf, len(video)) == (range(len(video)),)
    assert len(shelf.asked) == 1


async def test_media_are_not_read_to_find_the_index() -> None:
    video = FTYP + box(b"mdat", bytes(5_000_000)) + moov(100)
    shelf = Shelf(video)

    await plan_faststart(shelf, len(video))

    assert shelf.read < 10_000


@pytest.mark.parametrize(
    "video",
    [
        b"",
        FTYP,
        FTYP + box(b"mdat", MEDIA),
        (FTYP + box(b"mdat", MEDIA) + moov(5))[:-1],
        (FTYP + moov(5) + box(b"mdat", MEDIA))[:60],
        FTYP + struct.pack(">I4s", 0, b"mdat") + MEDIA,  # to the end of the file
        FTYP + struct.pack(">I4s", 3, b"free") + MEDIA,
        FTYP + struct.pack(">I4sQ", 1, b"free", 7) + MEDIA,
        FTYP + struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1) + MEDIA,
        box(b"free") * 2000 + moov(1),
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    ],
    ids=range(11),
)
async def test_without_a_whole_index_it_is_no_video(video: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="no index"):
        await plan_faststart(Shelf(video), len(video))


async def test_a_huge_index_is_not_read() -> None:
    size = 70 << 20
    video = FTYP + box(b"mdat", MEDIA) + struct.pack(">I4s", size, b"moov")
    shelf = Shelf(video)

    with pytest.raises(UnsupportedMedia, match="index has"):
        await plan_faststart(shelf, len(video) + size)

    assert shelf.read < 10_000


async def test_a_place_that_would_not_fit_any_more_is_said() -> None:
    index = moov(2**32 - 10)
    head = FTYP + struct.pack(">I4sQ", 1, b"mdat", 2**32)
    end = len(FTYP) + 2**32

    first, last = Shelf(head), Shelf(index)

    def opens(*, offset: int = 0, length: int | None = None) -> AbstractAsyncContextManager[Source]:
        """A video of over 4 GiB, whose middle is not there."""
        return first(offset=offset, length=length) if offset < end else last(offset=offset - end, length=length)

    with pytest.raises(UnsupportedMedia, match="4 GiB"):
        await plan_faststart(opens, end + len(index))


@pytest.mark.parametrize("wrong", range(5))
async def test_an_index_that_is_broken_inside_breaks_nothing_here(wrong: int) -> None:
    index = bytearray(moov(60, 70))
    at = index.index((b"trak", b"stbl", b"stco", b"mvhd", b"stsd")[wrong]) - 4
    index[at : at + 4] = struct.pack(">I", (2**31, 0, 9, 1, 7)[wrong])
    video = FTYP + box(b"mdat", MEDIA) + bytes(index)

    assert len(await ordered(video)) == len(video)


@pytest.mark.parametrize("name", ["index_last.mp4", "with_sound.mov"])
async def test_ffmpeg_finds_the_same_frames(video: Callable[[str], bytes], tmp_path: Path, name: str) -> None:
    whole, piped = tmp_path / "whole", tmp_path / "piped"
    whole.write_bytes(video(name))
    piped.write_bytes(await ordered(video(name)))
    assert video(name).index(b"moov") > video(name).index(b"mdat")

    sums = [
        subprocess.run(
            f"ffmpeg -v error -i {source} -map 0 -f framemd5 -", shell=True, capture_output=True, check=True, timeout=30
        ).stdout
        for source in (str(whole), f"pipe:0 < {piped}")
    ]

    assert sums[0] == sums[1]
    assert sums[0].count(b"\n") > 25
