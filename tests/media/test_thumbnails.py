"""Images of real videos: what is on them, and of which videos there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from mediagen.core.errors import DeadlineExceeded, StorageUnavailable, UnsupportedMedia
from mediagen.media import thumbnails
from mediagen.media.ffmpeg import VideoUnreadable
from mediagen.media.thumbnails import EncodedImage, make_spritesheet, make_thumbnail
from mediagen.media.video import BoundingBox, Frame
from mediagen.media.vips import VipsPool
from tests.media.videos import TYPES, Shelf, turned

Videos = Callable[[str], bytes]


def pixels(encoded: EncodedImage) -> Any:
    """The image decoded by libvips, once its format and size are as declared."""
    import pyvips

    image = pyvips.Image.new_from_buffer(encoded.data, "")
    loaders = {"image/webp": "webpload_buffer", "image/jpeg": "jpegload_buffer"}
    assert image.get("vips-loader") == loaders[encoded.media_type]
    assert (image.width, image.height, image.bands) == (encoded.width, encoded.height, 3)
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
async def test_a_thumbnail_has_the_shape_of_its_video(
    video: Videos, pool: VipsPool, name: str, size: tuple[int, int]
) -> None:
    shelf = Shelf(video(name))

    image = await make_thumbnail(await shelf.looked(type_of(name)), pool)

    assert (image.media_type, image.width, image.height) == ("image/webp", *size)
    assert pixels(image).deviate() > 20
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
    video: Videos, pool: VipsPool, name: str, across: int, down: int, tile: tuple[int, int]
) -> None:
    shelf = Shelf(video(name))

    image = await make_spritesheet(await shelf.looked(type_of(name)), pool)

    assert image.media_type == "image/jpeg"
    assert (image.width, image.height) == (across * tile[0], down * tile[1])
    pixels(image)
    assert shelf.open == 0


@pytest.mark.parametrize("name", ["greys.mp4", "no_length.mkv"])
async def test_the_frames_of_a_sheet_are_evenly_spaced(video: Videos, pool: VipsPool, name: str) -> None:
    """A video that gets lighter all the time, and one that does not say how long it is."""
    looked = await Shelf(video(name)).looked(type_of(name))
    assert (looked.seconds is None) == (name == "no_length.mkv")

    image = pixels(await make_spritesheet(looked, pool))

    tiles = [image.crop(at % 5 * 64, at // 5 * 64, 64, 64) for at in range(25)]
    if name == "greys.mp4":
        lights = [tile.avg() for tile in tiles]
        steps = [after - before for before, after in pairwise(lights)]
        assert 6 < min(steps) <= max(steps) < 13  # 4 seconds of 50 a second in 24 steps: over eight
    else:
        assert all((tiles[at] - tiles[at + 1]).abs().avg() > 0.5 for at in range(24))


async def test_of_a_long_video_key_frames_are_taken(
    video: Videos, pool: VipsPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediagen.media.video._EXACT_PIXELS", 1.0)

    image = await make_spritesheet(await Shelf(video("fragmented.mp4")).looked(), pool)

    assert (image.width, image.height) == (5 * 256, 144)  # every tenth of 50 frames


async def test_a_video_that_is_to_be_turned_is_shown_upright(video: Videos, pool: VipsPool) -> None:
    upright = await Shelf(video("halves.mp4")).looked()
    on_its_side = await Shelf(turned(video("halves.mp4"))).looked()

    before, after = pixels(await make_thumbnail(upright, pool)), pixels(await make_thumbnail(on_its_side, pool))
    sheet = await make_spritesheet(on_its_side, pool)

    assert (before.width, before.height, after.width, after.height) == (320, 90, 90, 320)
    assert (colour(before, 0.2, 0.5), colour(before, 0.8, 0.5)) == ("red", "blue")
    assert (colour(after, 0.5, 0.2), colour(after, 0.5, 0.8)) == ("red", "blue")
    assert (sheet.width, sheet.height) == (5 * 72, 256)


async def test_a_dark_beginning_is_passed_over(video: Videos, pool: VipsPool) -> None:
    assert pixels(await make_thumbnail(await Shelf(video("dark_first.mp4")).looked(), pool)).avg() > 60
    assert pixels(await make_thumbnail(await Shelf(video("dark.mp4")).looked(), pool)).avg() < 20


async def test_the_first_frame_is_enough_for_a_thumbnail(video: Videos, pool: VipsPool) -> None:
    """What comes after it is neither decoded nor fetched."""
    shelf = Shelf(video("plain.mp4") + (400 << 20).to_bytes(4, "big") + b"free" + bytes((400 << 20) - 8))
    looked = await shelf.looked()
    shelf.read = 0

    await make_thumbnail(looked, pool)

    assert shelf.read < 4 << 20


@pytest.mark.parametrize("make", [make_thumbnail, make_spritesheet])
@pytest.mark.parametrize(
    ("name", "said"),
    [("sound.mp4", "no video track"), ("cover.mp4", "no video track"), ("nothing", "no index"), ("text", "no index")],
)
async def test_what_has_no_frames_is_said_to_have_none(
    video: Videos, pool: VipsPool, make: Callable[..., Any], name: str, said: str
) -> None:
    data = {"nothing": b"", "text": b"It was a dark and stormy night. " * 400}.get(name) or (
        video(name) if "." in name else b""
    )

    with pytest.raises(UnsupportedMedia, match=said):
        await make(await Shelf(data).looked(), pool)


@pytest.mark.parametrize("media_type", ["image/gif", "video/mp2t", "application/vnd.apple.mpegurl", "video/ogg"])
async def test_other_formats_are_not_read(media_type: str) -> None:
    shelf = Shelf(b"anything")

    with pytest.raises(UnsupportedMedia, match="thumbnails can be made of"):
        await shelf.looked(media_type)

    assert shelf.read == 0


@pytest.mark.parametrize("name", ["plain.mp4", "index_last.mp4", "odd.webm", "wide.avi"])
async def test_a_video_that_was_cut_short_is_an_error_and_no_wait(video: Videos, pool: VipsPool, name: str) -> None:
    whole = video(name)
    shelf = Shelf(whole[: len(whole) * 6 // 10])

    if name == "index_last.mp4":
        with pytest.raises(UnsupportedMedia, match="truncated"):
            await shelf.looked(type_of(name))
        return
    looked = await shelf.looked(type_of(name))
    image = await make_thumbnail(looked, pool)
    assert image.width > 0
    if name == "plain.mp4":  # the others cannot tell an end from a cut
        with pytest.raises(VideoUnreadable, match="truncated"):
            await make_spritesheet(looked, pool)
    assert shelf.open == 0


@pytest.mark.parametrize("name", ["plain.mp4", "odd.webm", "wide.avi"])
@pytest.mark.parametrize("keep", [100, 700, 1500])
async def test_a_video_of_which_little_is_left_is_an_error(video: Videos, pool: VipsPool, name: str, keep: int) -> None:
    shelf = Shelf(video(name)[:keep])

    with pytest.raises(UnsupportedMedia):
        await make_thumbnail(await shelf.looked(type_of(name)), pool)


async def test_a_frame_of_too_many_pixels_is_refused_before_it_is_decoded(video: Videos, pool: VipsPool) -> None:
    data = video("plain.mp4")
    with pytest.raises(UnsupportedMedia, match=r"320x180 has more than 57599 pixels \(limits.pixels\)"):
        await Shelf(data).looked(max_pixels=320 * 180 - 1)

    place = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
    assert data[place : place + 4] == (320).to_bytes(2, "big") + (180).to_bytes(2, "big")
    lying = data[:place] + b"\0\x10\0\x10" + data[place + 4 :]
    looked = await Shelf(lying).looked(max_pixels=20_000)
    assert (looked.width, looked.height) == (16, 16)
    with pytest.raises(VideoUnreadable) as refused:
        await make_thumbnail(looked, pool)
    assert "pixels" in str(refused.value.context["said"]).lower() or "size" in str(refused.value.context["said"])


async def test_what_the_store_fails_with_is_raised(video: Videos, pool: VipsPool) -> None:
    shelf = Shelf(video("plain.mp4"))
    looked = await shelf.looked()

    def fails(read: int) -> None:
        raise StorageUnavailable("the store broke off")

    shelf.fails = fails
    with pytest.raises(StorageUnavailable, match="broke off"):
        await make_thumbnail(looked, pool)

    assert shelf.open == 0


async def test_a_video_that_does_not_come_is_not_waited_for(
    video: Videos, pool: VipsPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "_THUMBNAIL_SECONDS", 0.3)
    looked = await Shelf(video("plain.mp4")).looked()

    class Silent:
        size = None

        async def read_into(self, buffer: memoryview, /) -> int:
            await asyncio.sleep(60)
            return 0

    monkeypatch.setattr("mediagen.media.faststart.ReorderedSource.read_into", Silent.read_into)
    with pytest.raises(DeadlineExceeded):
        await make_thumbnail(looked, pool)


async def test_frames_are_as_large_as_the_box_allows_and_no_larger(video: Videos) -> None:
    looked = await Shelf(video("plain.mp4")).looked()

    async def first(frames: Any) -> Frame:
        async for frame in frames:
            return frame  # type: ignore[no-any-return]
        raise AssertionError

    sizes = [
        (frame.width, frame.height, len(frame.data))
        for box in (BoundingBox(4000, 4000), BoundingBox(100, 4000), BoundingBox(4000, 10), BoundingBox(1, 1))
        for frame in [await looked.read_frames(first, every=1.0, box=box, limit_seconds=30)]
    ]

    assert sizes == [(320, 180, 172_800), (100, 56, 16_800), (18, 10, 540), (1, 1, 3)]
