from __future__ import annotations

import random
import struct
from collections.abc import AsyncIterator

import pytest

from mediagen.core.errors import SourceTruncated
from mediagen.streams.formats.completeness import Completeness, CompleteSource
from mediagen.streams.formats.sniff import SNIFF_BYTES, media_type_of
from mediagen.streams.sources import ChunkSource
from tests.infra.process import need
from tests.streams.formats.files import avif, box, fragmented_mp4, gif, jpeg, mp4, png, riff, webp
from tests.streams.formats.made import RECIPES, made
from tests.streams.json.splitting import split_at


def unfilled(riff_size: int, data_size: int) -> bytes:
    """A WAV whose program could not fill in its lengths."""
    form = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 24_000, 48_000, 2, 16)
    return b"RIFF" + struct.pack("<I", riff_size) + form + b"data" + struct.pack("<I", data_size) + bytes(999)


WHOLE = {
    "png": ("image/png", png()),
    "png with a comment": ("image/png", png(text=b"IEND\xaeB`\x82 is how a PNG ends")),
    "jpeg": ("image/jpeg", jpeg()),
    "jpeg with a thumbnail": ("image/jpeg", jpeg(thumbnail=True)),
    "progressive jpeg": ("image/jpeg", jpeg(scans=3)),
    "gif": ("image/gif", gif()),
    "gif of one frame": ("image/gif", gif(frames=1, comment=b"")),
    "webp": ("image/webp", webp()),
    "wav": ("audio/wav", riff(b"WAVE", b"fmt " + bytes(99))),
    "mp4": ("video/mp4", mp4()),
    "mp4 with its index last": ("video/mp4", mp4(moov_first=False)),
    "mp4 with a wide box": ("video/mp4", mp4(wide=True)),
    "mov": ("video/quicktime", mp4(moov_first=False, wide=True)),
    "avif": ("image/avif", avif()),
    "fragmented mp4": ("video/mp4", fragmented_mp4()),
}
ENOUGH = {
    # the padding of the last chunk may be missing
    "wav": {len(WHOLE["wav"][1]) - 1},
}
UNDECIDED = {
    # where these end, nothing shows that more had been meant to follow
    "avif": {len(avif()) - len(box(b"mdat", b"pixels"))},
    "fragmented mp4": {
        len(fragmented_mp4(fragments=1, index=False)),
        len(fragmented_mp4(fragments=2, index=False)),
    },
}


def verdict(media_type: str, pieces: list[bytes]) -> bool | None:
    watch = Completeness(media_type)
    for piece in pieces:
        watch.feed(piece)
    return watch.verdict


def any_split(data: bytes, seed: int) -> list[bytes]:
    dice = random.Random(seed)
    return split_at(data, [dice.randrange(len(data) + 1) for _ in range(dice.randrange(6))])


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_is_whole_at_its_end_and_nowhere_before(name: str) -> None:
    media_type, data = WHOLE[name]

    assert verdict(media_type, [data]) is True
    assert verdict(media_type, [data[at : at + 1] for at in range(len(data))]) is True
    for end in range(len(data)):
        wanted = None if end in UNDECIDED.get(name, ()) else end in ENOUGH.get(name, ())
        assert verdict(media_type, [data[:end]]) is wanted, f"cut at {end} of {len(data)}"
        assert verdict(media_type, any_split(data[:end], end)) is wanted, f"cut at {end} of {len(data)}"


@pytest.mark.parametrize("name", [name for name in WHOLE if "mp4" not in name and name not in ("mov", "avif")])
@pytest.mark.parametrize(
    "trailer", [b"\x00", b"\n", b"\x00" * 16, b"Samsung" * 20_000, mp4(), png(), b"\xff\xd8\xff\xe0", b"RIF"]
)
def test_what_a_program_appends_does_not_make_a_file_look_cut(name: str, trailer: bytes) -> None:
    media_type, data = WHOLE[name]

    assert verdict(media_type, [data + trailer]) is True
    assert verdict(media_type, any_split(data + trailer, 1)) is True


@pytest.mark.parametrize(
    "trailer", [box(b"free"), box(b"uuid", bytes(16)), bytes(64), b"\x00\x00\x00\x00mdat", b"\x00\x00\x00\x08\xffabc"]
)
def test_more_boxes_or_padding_after_a_video_do_not_make_it_look_cut(trailer: bytes) -> None:
    assert verdict("video/mp4", [mp4(extra=trailer)]) is not False


@pytest.mark.parametrize("end", [1, 4, 7, 9])
def test_a_video_cut_in_a_box_after_the_necessary_ones_is_cut(end: int) -> None:
    assert verdict("video/mp4", [mp4(extra=box(b"uuid", bytes(16))[:end])]) is False


def test_a_long_avi_is_several_riff_files() -> None:
    data = riff(b"AVI ", bytes(50)) + riff(b"AVIX", bytes(50))

    assert verdict("video/x-msvideo", [data]) is True
    assert verdict("video/x-msvideo", [data[:-1]]) is False
    assert verdict("video/x-msvideo", [data + b"JUNK"]) is True
    assert verdict("video/x-msvideo", [data + b"JU"]) is True


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("application/octet-stream", b"abc"),
        ("video/webm", b"\x1a\x45\xdf\xa3\xff" + bytes(99)),
        ("audio/wav", unfilled(36 + 0x7FFFFFFF, 0x7FFFFFFF)),
        ("audio/wav", unfilled(0x7FFFF024, 0x7FFFF000)),
        ("audio/wav", unfilled(2_000_000_036, 2_000_000_000)),
        ("audio/wav", unfilled(0x80000024, 0x80000000)),
        ("audio/wav", unfilled(5_000, 0xFFFFFFFF)),
        ("image/bmp", b"BM" + bytes(99)),
        ("audio/ogg", b"nothing of Ogg, whatever was declared"),
        ("text/html", b"<html>"),
        ("audio/wav", b"RIFF\x00\x00\x00\x00WAVE" + bytes(50)),
        ("audio/wav", b"RIFF\xff\xff\xff\xffWAVE" + bytes(50)),
        ("video/mp4", box(b"ftyp", b"isom") + b"\x00\x00\x00\x00mdat" + bytes(999)),
        ("image/png", b"no image, whatever was declared"),
        ("image/jpeg", b"no image, whatever was declared"),
        ("image/gif", b"no image, whatever was declared"),
        ("image/webp", b"no image, whatever was declared"),
        ("video/mp4", b"no video, whatever was declared"),
    ],
)
def test_no_verdict_where_a_file_does_not_tell(media_type: str, data: bytes) -> None:
    assert verdict(media_type, [data]) is None


@pytest.mark.parametrize("media_type", sorted({media_type for media_type, _ in WHOLE.values()}))
def test_any_bytes_have_a_verdict(media_type: str) -> None:
    dice = random.Random(7)
    for _, data in WHOLE.values():
        for _ in range(20):
            broken = bytearray(data)
            for _ in range(dice.randrange(4)):
                broken[dice.randrange(len(broken))] = dice.randrange(256)
            assert verdict(media_type, [bytes(broken)]) in (True, False, None)


LIVE = {"video.flv", "pipe/video.flv", "pipe/video.webm", "pipe/video.mkv", "pipe/live.mkv"}
"""Between two of their elements these may end, or not."""
SAYS_NOTHING = {
    *(
        "video.ts",
        "video.m2ts",
        "video.mpg",
        "video.mxf",
        "video.rm",
        "video.ivf",
        "sound.mp3",
        "sound.flac",
        "sound.w64",
    ),
    *("sound.aac", "sound.ac3", "image.tiff", "image.jxl"),
    *("pipe/sound.wav", "pipe/sound.aiff", "pipe/sound.caf", "pipe/sound.au", "pipe/sound.flac", "pipe/video.wmv"),
    "pipe/video.avi",
}


@pytest.mark.parametrize("name", RECIPES)
def test_files_of_a_real_program_are_whole_at_their_end_and_nowhere_before(name: str) -> None:
    need("ffmpeg")
    data = made(name)
    media_type = media_type_of(data[:SNIFF_BYTES], filename=name)
    dice = random.Random(name)

    whole = verdict(media_type, any_split(data, 1))
    cut = {verdict(media_type, [data[: dice.randrange(20, len(data) - 1)]]) for _ in range(40)}

    if name in SAYS_NOTHING:
        assert (whole, cut - {False}) == (None, {None})
    elif name in LIVE:
        assert whole is None
        assert cut <= {False, None}
        assert False in cut
    else:
        assert whole is True
        pages = "fragments" in name or name.endswith((".ogv", ".ogg", ".opus"))  # between two of them nothing shows
        assert cut <= ({False, None} if pages else {False})


@pytest.mark.parametrize("second", [12, 40, 124])
@pytest.mark.parametrize("file_size", [0, 5, 999_999])
def test_a_bitmap_has_the_rows_that_it_says_whatever_its_length(second: int, file_size: int) -> None:
    width, height, offset = 3, 2, 14 + second
    size = struct.pack("<HH", width, height) if second == 12 else struct.pack("<ii", width, -height)
    head = struct.pack("<2sIII", b"BM", file_size, 0, offset) + struct.pack("<I", second) + size
    head += struct.pack("<HH", 1, 24)
    data = head.ljust(offset, b"\0") + bytes(12 * height)

    assert verdict("image/bmp", [data]) is True
    assert all(verdict("image/bmp", [data[:end]]) is False for end in range(len(data)))


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_a_source_is_believed_when_its_file_is_whole() -> None:
    whole, buffer = (
        CompleteSource(ChunkSource(chunks(png()[:30], png()[30:])), "image/png"),
        memoryview(bytearray(1000)),
    )
    assert [await whole.read_into(buffer), await whole.read_into(buffer)] == [30, len(png()) - 30]
    assert await whole.read_into(buffer) == 0

    cut = CompleteSource(ChunkSource(chunks(png()[:-1])), "image/png")
    await cut.read_into(buffer)
    with pytest.raises(SourceTruncated):
        await cut.read_into(buffer)
