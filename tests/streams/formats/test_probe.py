"""Width, height and duration, read while bytes pass."""

from __future__ import annotations

import random
import struct
import time

import pytest

from mediagen.streams.formats.dimensions import Dimensions
from mediagen.streams.formats.probe import HEAD_PARSERS, Probe, ProbedSource
from mediagen.streams.formats.sniff import SNIFF_BYTES, media_type_of
from mediagen.streams.sources import ChunkSource
from tests.infra.process import need
from tests.streams.formats.files import avif, box, gif, jpeg, mp4, png, webp
from tests.streams.formats.made import made
from tests.streams.json.splitting import split_at

FRAME = (96, 64)
KNOWN: dict[str, tuple[tuple[int, int] | None, float | None]] = {
    "video.mp4": (FRAME, 2.0),
    "first.mp4": (FRAME, 2.0),
    "fragments.mp4": (FRAME, None),
    "video.mov": (FRAME, 2.0),
    "video.3gp": (FRAME, 2.0),
    "sound.m4a": (None, 2.0),
    "video.webm": (FRAME, 2.0),
    "both.webm": (FRAME, 2.0),
    "sound.webm": (None, 2.0),
    "video.mkv": (FRAME, 2.0),
    "sound.mka": (None, 2.0),
    "pipe/video.webm": (FRAME, None),
    "pipe/live.mkv": (FRAME, None),
    "video.ogv": (FRAME, 2.0),
    "sound.ogg": (None, 2.0),
    "sound.opus": (None, 2.0),
    "sound.mp3": (None, 2.0),
    "sound.flac": (None, 2.0),
    "pipe/sound.flac": (None, None),
    "sound.wav": (None, 2.0),
    "long.wav": (None, 2.0),
    "pipe/sound.wav": (None, 2.0),
    "sound.aiff": (None, 2.0),
    "image.png": (FRAME, None),
    "image.jpg": (FRAME, None),
    "image.gif": (FRAME, None),
    "image.bmp": (FRAME, None),
    "image.webp": (FRAME, None),
    "lossless.webp": (FRAME, None),
    "moving.webp": (FRAME, None),
    "image.avif": (FRAME, None),
    "video.ts": (None, None),
    "image.tiff": (None, None),
}


def shape_of(media_type: str, pieces: list[tuple[int, bytes]], size: int) -> Dimensions:
    probe = Probe(media_type)
    for offset, piece in pieces:
        probe.feed(offset, piece)
    return probe.finish(size)


def in_pieces(data: bytes, dice: random.Random, most: int = 40) -> list[tuple[int, bytes]]:
    cuts = sorted(dice.randrange(len(data)) for _ in range(dice.randrange(most)))
    pieces, at = [], 0
    for piece in split_at(data, cuts):
        pieces.append((at, piece))
        at += len(piece)
    return pieces


@pytest.mark.parametrize("name", KNOWN)
def test_files_of_a_real_program(name: str) -> None:
    need("ffmpeg")
    data, dice = made(name), random.Random(name)
    media_type = media_type_of(data[:SNIFF_BYTES], filename=name)
    frame, seconds = KNOWN[name]

    first = min(3000, len(data))
    ways = [[(0, data)], [*((at, data[at : at + 1]) for at in range(first)), (first, data[first:])]]
    ways += [in_pieces(data, dice) for _ in range(10)]
    for pieces in ways:
        shape = shape_of(media_type, pieces, len(data))
        assert (shape.width, shape.height) == (frame or (None, None))
        assert shape.duration_seconds == (None if seconds is None else pytest.approx(seconds, abs=0.05))


@pytest.mark.parametrize("name", ["video.mp4", "video.webm", "sound.wav", "sound.flac", "sound.mp3", "sound.opus"])
def test_parts_in_parallel_tell_as_much_where_the_head_is_known(name: str) -> None:
    """Four parts, their pieces in any order; of each part in order, some of them twice."""
    need("ffmpeg")
    data, dice = made(name), random.Random(name)
    media_type = media_type_of(data[:SNIFF_BYTES], filename=name)
    step = len(data) // 4 + 1
    for _ in range(20):
        waiting = [
            [(at + offset, piece) for offset, piece in in_pieces(data[at : at + step], dice)]
            for at in range(0, len(data), step)
        ]
        pieces = [(0, data[:SNIFF_BYTES])]
        while any(waiting):
            part = dice.choice([part for part in waiting if part])
            pieces.append(part.pop(0))
            if dice.random() < 0.1:
                pieces.append(pieces[-1])

        shape = shape_of(media_type, pieces, len(data))

        assert (shape.width, shape.height) == (KNOWN[name][0] or (None, None))
        assert shape.duration_seconds == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(
    ("media_type", "data", "frame"),
    [
        ("image/png", png(), (1, 1)),
        ("image/jpeg", jpeg(thumbnail=True), (8, 8)),
        ("image/gif", gif(), (1, 1)),
        ("image/jpeg", b"\xff\xd8\xff\xff\xff\xe0\0\x04ab\xff\x01\xff\xc2\0\x0b\x08\1\0\2\0\1\1\x11\0", (512, 256)),
        ("image/bmp", b"BM" + bytes(12) + struct.pack("<IHH", 12, 7, 9) + bytes(9), (7, 9)),
        ("image/bmp", b"BM" + bytes(12) + struct.pack("<Iii", 40, 7, -9) + bytes(9), (7, 9)),
        ("image/webp", webp(), (None, None)),
        ("image/avif", avif(), (None, None)),
        ("video/mp4", mp4(), (None, None)),
    ],
)
def test_images_made_by_hand(media_type: str, data: bytes, frame: tuple[int, int]) -> None:
    shape = shape_of(media_type, [(0, data)], len(data))

    assert (shape.width, shape.height) == frame


def test_the_primary_item_of_several_gives_the_extent() -> None:
    def ispe(width: int, height: int) -> bytes:
        return box(b"ispe", bytes(4) + struct.pack(">II", width, height))

    pitm = box(b"pitm", bytes(4) + struct.pack(">H", 2))
    ipma = box(b"ipma", bytes(4) + struct.pack(">I", 2) + b"\0\1\1\x81" + b"\0\2\2\x02\x83")
    properties = box(b"ipco", ispe(512, 512) + box(b"irot", b"\1") + ispe(400, 300)) + ipma
    meta = box(b"meta", bytes(4) + pitm + box(b"iprp", properties))
    data = box(b"ftyp", b"heic\0\0\0\0mif1") + meta + box(b"mdat", bytes(9))

    shape = shape_of("image/heic", [(0, data)], len(data))
    assert (shape.width, shape.height) == (400, 300)


@pytest.mark.parametrize("media_type", HEAD_PARSERS)
def test_any_bytes_end_in_something_and_soon(media_type: str) -> None:
    dice = random.Random(media_type)
    began = time.process_time()
    for _ in range(30):
        whole = bytearray(dice.choice([png(), jpeg(), gif(), webp(), mp4(), avif(), dice.randbytes(500)]) * 20)
        for _ in range(dice.randrange(20)):
            whole[dice.randrange(len(whole))] = dice.choice([0, 1, 255, dice.randrange(256)])
        shape = shape_of(media_type, in_pieces(bytes(whole), dice), len(whole))
        assert (shape.width is None) is (shape.height is None)

    assert time.process_time() - began < 5.0


@pytest.mark.parametrize(
    ("media_type", "hostile"),
    [
        ("video/mp4", box(b"free") * 200_000),
        ("video/mp4", box(b"ftyp") + box(b"moov", box(b"trak") * 100_000)),
        ("image/jpeg", b"\xff\xd8" + b"\xff\x01" * 400_000),
        ("image/jpeg", b"\xff\xd8" + b"\xff" * 800_000),
        ("audio/mpeg", b"ID3\4\0\0\0\0\0\0" * 80_000),
        ("audio/wav", b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 100_000),
        ("video/webm", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff" + b"\xec\x80" * 400_000),
        ("video/webm", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff\x16\x54\xae\x6b\x0f\xff\xff\xff" + bytes(800_000)),
    ],
)
def test_a_hostile_head_costs_little(media_type: str, hostile: bytes) -> None:
    began = time.process_time()

    shape_of(media_type, [(0, hostile)], len(hostile))

    assert time.process_time() - began < 2.0


async def test_a_source_is_watched_while_it_is_read() -> None:
    async def pieces() -> object:
        for at in range(0, len(png()), 10):
            yield png()[at : at + 10]

    probe = Probe("image/png")
    source, buffer = ProbedSource(ChunkSource(pieces()), probe), memoryview(bytearray(7))  # type: ignore[arg-type]
    while await source.read_into(buffer):
        pass

    assert probe.idle
    assert probe.finish(len(png())).width == 1
