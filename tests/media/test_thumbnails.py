"""Pictures of real films: what is on them, and of which films there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from mediagen.core.errors import DeadlineExceeded, StorageUnavailable, UnsupportedMedia
from mediagen.media import thumbnails as stills
from mediagen.media.ffmpeg import VideoUnreadable
from mediagen.media.thumbnails import Picture, spritesheet, thumbnail
from mediagen.media.video import BoundingBox, Frame
from mediagen.media.vips import VipsPool
from tests.media.films import TYPES, Shelf, turned

Films = Callable[[str], bytes]


def pixels(picture: Picture) -> Any:
    """The picture as libvips reads it, of the type and size that it says."""
    import pyvips

    image = pyvips.Image.new_from_buffer(picture.data, "")
    loaders = {"image/webp": "webpload_buffer", "image/jpeg": "jpegload_buffer"}
    assert image.get("vips-loader") == loaders[picture.media_type]
    assert (image.width, image.height, image.bands) == (picture.width, picture.height, 3)
    return image


def colour(image: Any, x: float, y: float) -> str:
    red, green, blue = image(int(image.width * x), int(image.height * y))
    if max(red, green, blue) < 60:
        return "black"
    return "red" if red > 150 > blue else "blue" if blue > 150 > red else f"{red} {green} {blue}"


def type_of(name: str) -> str:
    return TYPES["." + name.partition(".")[2]]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("plain.mp4", (320, 180)),
        ("index_last.mp4", (320, 180)),
        ("with_sound.mov", (320, 180)),
        ("fragmented.mp4", (320, 180)),
        ("one_frame.mp4", (320, 180)),
        ("short.mp4", (320, 180)),
        ("odd.webm", (321, 243)),
        ("anamorphic.mp4", (320, 180)),
        ("tall.mkv", (31, 1024)),
        ("wide.avi", (512, 26)),
        ("no_length.mkv", (64, 64)),
    ],
)
async def test_a_thumbnail_has_the_shape_of_its_film(
    film: Films, pool: VipsPool, name: str, size: tuple[int, int]
) -> None:
    shelf = Shelf(film(name))

    picture = await thumbnail(await shelf.looked(type_of(name)), pool)

    assert (picture.media_type, picture.width, picture.height) == ("image/webp", *size)
    assert pixels(picture).deviate() > 20
    assert shelf.open == 0


@pytest.mark.parametrize(
    ("name", "across", "down", "tile"),
    [
        ("plain.mp4", 5, 5, (256, 144)),
        ("index_last.mp4", 5, 5, (256, 144)),
        ("fragmented.mp4", 5, 5, (256, 144)),
        ("odd.webm", 5, 5, (256, 194)),
        ("one_frame.mp4", 1, 1, (256, 144)),
        ("short.mp4", 5, 1, (256, 144)),
        ("tall.mkv", 5, 1, (8, 256)),
        ("no_length.mkv", 5, 5, (64, 64)),
    ],
)
async def test_a_sheet_has_as_many_frames_as_there_are(
    film: Films, pool: VipsPool, name: str, across: int, down: int, tile: tuple[int, int]
) -> None:
    shelf = Shelf(film(name))

    picture = await spritesheet(await shelf.looked(type_of(name)), pool)

    assert picture.media_type == "image/jpeg"
    assert (picture.width, picture.height) == (across * tile[0], down * tile[1])
    pixels(picture)
    assert shelf.open == 0


@pytest.mark.parametrize("name", ["greys.mp4", "no_length.mkv"])
async def test_the_frames_of_a_sheet_are_evenly_spaced(film: Films, pool: VipsPool, name: str) -> None:
    """A film that gets lighter all the time, and one that does not say how long it is."""
    looked = await Shelf(film(name)).looked(type_of(name))
    assert (looked.seconds is None) == (name == "no_length.mkv")

    image = pixels(await spritesheet(looked, pool))

    tiles = [image.crop(at % 5 * 64, at // 5 * 64, 64, 64) for at in range(25)]
    if name == "greys.mp4":
        lights = [tile.avg() for tile in tiles]
        steps = [after - before for before, after in pairwise(lights)]
        assert 6 < min(steps) <= max(steps) < 13  # 4 seconds of 50 a second in 24 steps: over eight
    else:
        assert all((tiles[at] - tiles[at + 1]).abs().avg() > 0.5 for at in range(24))


async def test_of_a_long_film_key_frames_are_taken(
    film: Films, pool: VipsPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediagen.media.video._EXACT_PIXELS", 1.0)

    picture = await spritesheet(await Shelf(film("fragmented.mp4")).looked(), pool)

    assert (picture.width, picture.height) == (5 * 256, 144)  # every tenth of 50 frames


async def test_a_film_that_is_to_be_turned_is_shown_upright(film: Films, pool: VipsPool) -> None:
    upright = await Shelf(film("halves.mp4")).looked()
    on_its_side = await Shelf(turned(film("halves.mp4"))).looked()

    before, after = pixels(await thumbnail(upright, pool)), pixels(await thumbnail(on_its_side, pool))
    sheet = await spritesheet(on_its_side, pool)

    assert (before.width, before.height, after.width, after.height) == (320, 90, 90, 320)
    assert (colour(before, 0.2, 0.5), colour(before, 0.8, 0.5)) == ("red", "blue")
    assert (colour(after, 0.5, 0.2), colour(after, 0.5, 0.8)) == ("red", "blue")
    assert (sheet.width, sheet.height) == (5 * 72, 256)


async def test_a_dark_beginning_is_passed_over(film: Films, pool: VipsPool) -> None:
    assert pixels(await thumbnail(await Shelf(film("dark_first.mp4")).looked(), pool)).avg() > 60
    assert pixels(await thumbnail(await Shelf(film("dark.mp4")).looked(), pool)).avg() < 20


async def test_the_first_frame_is_enough_for_a_thumbnail(film: Films, pool: VipsPool) -> None:
    """What comes after it is neither decoded nor fetched."""
    shelf = Shelf(film("plain.mp4") + (400 << 20).to_bytes(4, "big") + b"free" + bytes((400 << 20) - 8))
    looked = await shelf.looked()
    shelf.read = 0

    await thumbnail(looked, pool)

    assert shelf.read < 4 << 20


@pytest.mark.parametrize("make", [thumbnail, spritesheet])
@pytest.mark.parametrize(
    ("name", "said"),
    [("sound.mp4", "no picture"), ("cover.mp4", "no picture"), ("nothing", "no index"), ("text", "no index")],
)
async def test_what_has_no_frames_is_said_to_have_none(
    film: Films, pool: VipsPool, make: Callable[..., Any], name: str, said: str
) -> None:
    data = {"nothing": b"", "text": b"It was a dark and stormy night. " * 400}.get(name) or (
        film(name) if "." in name else b""
    )

    with pytest.raises(UnsupportedMedia, match=said):
        await make(await Shelf(data).looked(), pool)


@pytest.mark.parametrize("media_type", ["image/gif", "video/mp2t", "application/vnd.apple.mpegurl", "video/ogg"])
async def test_other_formats_are_not_read(media_type: str) -> None:
    shelf = Shelf(b"anything")

    with pytest.raises(UnsupportedMedia, match="pictures are made of"):
        await shelf.looked(media_type)

    assert shelf.read == 0


@pytest.mark.parametrize("name", ["plain.mp4", "index_last.mp4", "odd.webm", "wide.avi"])
async def test_a_film_that_was_cut_short_is_an_error_and_no_wait(film: Films, pool: VipsPool, name: str) -> None:
    whole = film(name)
    shelf = Shelf(whole[: len(whole) * 6 // 10])

    if name == "index_last.mp4":
        with pytest.raises(UnsupportedMedia, match="cut short"):
            await shelf.looked(type_of(name))
        return
    looked = await shelf.looked(type_of(name))
    picture = await thumbnail(looked, pool)
    assert picture.width > 0
    if name == "plain.mp4":  # the others cannot tell an end from a cut
        with pytest.raises(VideoUnreadable, match="cut short"):
            await spritesheet(looked, pool)
    assert shelf.open == 0


@pytest.mark.parametrize("name", ["plain.mp4", "odd.webm", "wide.avi"])
@pytest.mark.parametrize("keep", [100, 700, 1500])
async def test_a_film_of_which_little_is_left_is_an_error(film: Films, pool: VipsPool, name: str, keep: int) -> None:
    shelf = Shelf(film(name)[:keep])

    with pytest.raises(UnsupportedMedia):
        await thumbnail(await shelf.looked(type_of(name)), pool)


async def test_a_frame_of_too_many_pixels_is_refused_before_it_is_decoded(film: Films, pool: VipsPool) -> None:
    data = film("plain.mp4")
    with pytest.raises(UnsupportedMedia, match=r"320x180 has more than 57599 pixels \(limits.pixels\)"):
        await Shelf(data).looked(max_pixels=320 * 180 - 1)

    place = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
    assert data[place : place + 4] == (320).to_bytes(2, "big") + (180).to_bytes(2, "big")
    lying = data[:place] + b"\0\x10\0\x10" + data[place + 4 :]
    looked = await Shelf(lying).looked(max_pixels=20_000)
    assert (looked.width, looked.height) == (16, 16)
    with pytest.raises(VideoUnreadable) as refused:
        await thumbnail(looked, pool)
    assert "pixels" in str(refused.value.context["said"]).lower() or "size" in str(refused.value.context["said"])


async def test_what_the_store_fails_with_is_raised(film: Films, pool: VipsPool) -> None:
    shelf = Shelf(film("plain.mp4"))
    looked = await shelf.looked()

    def fails(read: int) -> None:
        raise StorageUnavailable("the store broke off")

    shelf.fails = fails
    with pytest.raises(StorageUnavailable, match="broke off"):
        await thumbnail(looked, pool)

    assert shelf.open == 0


async def test_a_film_that_does_not_come_is_not_waited_for(
    film: Films, pool: VipsPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stills, "_THUMBNAIL_SECONDS", 0.3)
    looked = await Shelf(film("plain.mp4")).looked()

    class Silent:
        size = None

        async def read_into(self, buffer: memoryview, /) -> int:
            await asyncio.sleep(60)
            return 0

    monkeypatch.setattr("mediagen.media.faststart.ReorderedSource.read_into", Silent.read_into)
    with pytest.raises(DeadlineExceeded):
        await thumbnail(looked, pool)


async def test_frames_are_as_large_as_the_box_allows_and_no_larger(film: Films) -> None:
    looked = await Shelf(film("plain.mp4")).looked()

    async def first(frames: Any) -> Frame:
        async for frame in frames:
            return frame  # type: ignore[no-any-return]
        raise AssertionError

    sizes = [
        (frame.width, frame.height, len(frame.data))
        for box in (BoundingBox(4000, 4000), BoundingBox(100, 4000), BoundingBox(4000, 10), BoundingBox(1, 1))
        for frame in [await looked.frames(first, every=1.0, box=box, limit_seconds=30)]
    ]

    assert sizes == [(320, 180, 172_800), (100, 56, 16_800), (18, 10, 540), (1, 1, 3)]
