"""Images of strangers, decoded by children: what comes back, what is refused, and what is left of it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pyvips

from mediagen.core.errors import DeadlineExceeded, SourceTruncated, UnsupportedMedia
from mediagen.media import image_decoder as images
from mediagen.media.image_decoder import DecodeLimits, ImageDecoder
from mediagen.media.thumbnails import to_vips
from tests.infra.process import Child
from tests.media import bombs
from tests.media.bombs import exif_with_orientation, jpeg_with_exif, png, png_chunk, small_jpeg
from tests.media.decoders import becomes, decoders, decoding, said_by, stopped
from tests.media.test_hostile import Given

MIB = 1 << 20


@pytest.fixture
async def decoder() -> AsyncIterator[ImageDecoder]:
    made = ImageDecoder()
    async with made.running():
        yield made
    assert await asyncio.to_thread(decoders) == []


async def decode(decoder: ImageDecoder, data: bytes, width: int = 64, height: int = 64) -> pyvips.Image:
    return to_vips(await decoder.decode_to_fill(Given(data), len(data), width, height))


def two_halves(width: int = 96, height: int = 64) -> pyvips.Image:
    """Red, and blue on the left."""
    red = pyvips.Image.black(width, height, bands=3).linear([1] * 3, [200, 10, 10]).cast("uchar")
    return red.copy(interpretation="srgb").draw_rect([10, 10, 200], 0, 0, width // 2, height, fill=True)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".png[interlace]", ".jpg[interlace]"])
async def test_a_image_fills_the_box(decoder: ImageDecoder, suffix: str) -> None:
    image = await decode(decoder, two_halves().write_to_buffer(suffix), 60, 40)

    assert (image.width, image.height, image.bands) == (60, 40, 3)
    assert image(5, 20)[2] > 150 > image(5, 20)[0]
    assert image(55, 20)[0] > 150 > image(55, 20)[2]


UPRIGHT: dict[int, tuple[int, int]] = {1: (2, 32), 3: (61, 32), 6: (32, 2), 8: (32, 61), 2: (61, 32)}
"""Where it is blue, by the orientation."""


@pytest.mark.parametrize("order", ["<", ">"])
async def test_a_image_stands_upright_although_its_exif_is_not_parsed(decoder: ImageDecoder, order: str) -> None:
    jpeg, as_png = (two_halves(64, 64).write_to_buffer(suffix) for suffix in (".jpg", ".png"))
    for orientation, blue in UPRIGHT.items():
        exif = exif_with_orientation(orientation, order)
        segment = b"Exif\0\0" + exif
        turned = jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]
        turned_png = as_png[:33] + png_chunk(b"eXIf", exif) + as_png[33:]
        for data in (turned, turned_png):
            image = await decode(decoder, data)
            assert image(*blue)[2] > 150, orientation


async def test_colours_go_through_the_profile_of_the_image(decoder: ImageDecoder) -> None:
    image = two_halves().icc_transform("p3", input_profile="srgb").write_to_buffer(".png", profile="p3")
    same = pyvips.Image.pngload_buffer(image)
    assert same.get_typeof("icc-profile-data") != 0

    image = await decode(decoder, image)

    plain = same.thumbnail_image(64, height=64, crop="centre").colourspace("srgb")
    assert (image - plain).abs().max() <= 2


@pytest.mark.parametrize(
    "bomb", [bombs.png_text, bombs.png_profile, bombs.nested_exif_jpeg, bombs.png_exif, bombs.webp_exif]
)
async def test_what_stands_beside_the_pixels_costs_nothing(decoder: ImageDecoder, bomb: Callable[[], bytes]) -> None:
    """Decoded by libvips as they are they take from seconds to minutes, or gigabytes."""
    before = cpu_of_children()

    image = await decode(decoder, bomb())

    assert (image.width, image.height) == (64, 64)
    await becomes(lambda: not decoding(), "the child has ended")
    assert cpu_of_children() - before < 2.0


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    mine = sum(sum(map(int, said_by(pid, "stat").split(")")[1].split()[11:15])) for pid in decoders()[:1])
    return used.ru_utime + used.ru_stime + mine / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("bomb", "why"),
    [
        (bombs.wide_png, "image_side"),
        (bombs.tall_png, "image_side"),
        (bombs.gif_large_canvas, "limits.pixels"),
        (lambda: png(20_000, 6_000), "limits.pixels"),
        (bombs.png_many_chunks, "too many pieces"),
        (lambda: png(8, 8, png_chunk(b"iCCP", b"icc\0\0" + bytes(5 * MIB))), "colour profile"),
        (lambda: png(64, 64)[:-40], "damaged"),
        (bombs.jpeg_many_scans, "damaged"),
        (bombs.tiff_tiles, "not PNG, JPEG, WebP or GIF"),
        (bombs.avif_grid, "not PNG, JPEG, WebP or GIF"),
        (bombs.svg, "not PNG, JPEG, WebP or GIF"),
        (lambda: b"", "not PNG, JPEG, WebP or GIF"),
    ],
)
async def test_what_goes_beyond_the_bounds_is_refused(
    decoder: ImageDecoder, bomb: Callable[[], bytes], why: str
) -> None:
    with pytest.raises(UnsupportedMedia, match=why) as refused:
        await decode(decoder, bomb())

    assert refused.value.context["param"] == "image"
    assert (await decode(decoder, small_jpeg())).width == 64  # and the next one is decoded


async def test_a_video_of_many_frames_is_its_first_frame(decoder: ImageDecoder) -> None:
    assert (await decode(decoder, bombs.gif_many_frames())).width == 64


BOTH_STRIPS: list[Callable[[], bytes]] = [bombs.wide_png, bombs.tall_png]


async def test_a_strip_is_cut_before_it_is_made_as_high_as_the_box() -> None:
    """As it is, it would be two and a half million pixels wide on the way."""
    decoder = ImageDecoder(DecodeLimits(side=1_000_000, memory=512 * MIB))
    async with decoder.running():
        for bomb in BOTH_STRIPS:
            assert (await decode(decoder, bomb(), 1024, 1024)).width == 1024


async def test_memory_has_an_end() -> None:
    decoder = ImageDecoder(DecodeLimits(memory=128 * MIB))
    async with decoder.running():
        for bomb in (bombs.interlaced_png, bombs.solid_webp):
            with pytest.raises(UnsupportedMedia, match="decode_memory"):
                await decode(decoder, bomb())
        assert (await decode(decoder, small_jpeg())).width == 64


async def test_the_limits_as_they_come_decode_the_largest_images(decoder: ImageDecoder) -> None:
    for image in (png(10_000, 10_000), bombs.long_png(), bombs.solid_webp()):
        assert (await decode(decoder, image)).width == 64


async def test_time_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_WALL", 60)  # however busy the machine is
    decoder = ImageDecoder(DecodeLimits(seconds=1))
    async with decoder.running():
        with pytest.raises(UnsupportedMedia, match="decode_seconds"):
            await decode(decoder, bombs.long_png(), 4096, 4096)
        assert (await decode(decoder, small_jpeg())).width == 64


class Stuck(Given):
    """Bytes that end in the middle, and go on never."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.waiting = asyncio.Event()

    async def read_into(self, buffer: memoryview, /) -> int:
        count = await super().read_into(buffer)
        if not count:
            self.waiting.set()
            await asyncio.Event().wait()
        return count


async def test_a_caller_that_goes_while_it_is_decoded_takes_the_child_along(decoder: ImageDecoder) -> None:
    image = bombs.long_png()
    async with asyncio.TaskGroup() as group:
        lost = group.create_task(decoder.decode_to_fill(Given(image), len(image), 4096, 4096))
        await becomes(lambda: bool(decoding()), "there is a child")
        lost.cancel()

    await becomes(lambda: not decoding(), "the child has ended")
    assert (await decode(decoder, small_jpeg())).width == 64


async def test_there_are_so_many_at_once() -> None:
    decoder = ImageDecoder(DecodeLimits(at_once=1))
    async with decoder.running(), asyncio.TaskGroup() as group:
        first = group.create_task(decode(decoder, bombs.long_png()))
        (held,) = await stopped(1)
        second = group.create_task(decode(decoder, png(64, 64)))
        done, _ = await asyncio.wait({second}, timeout=0.2)
        assert not done
        assert await asyncio.to_thread(decoding) == [held]
        first.cancel()
        assert (await second).width == 64


async def test_one_owner_leaves_a_place_to_others() -> None:
    decoder = ImageDecoder(DecodeLimits(at_once=2))
    image = bombs.long_png()
    async with decoder.running(), asyncio.TaskGroup() as group:
        mine = [
            group.create_task(decoder.decode_to_fill(Given(image), len(image), 64, 64, owner="mine")) for _ in range(3)
        ]
        await stopped(1)

        small = small_jpeg()
        assert (await decoder.decode_to_fill(Given(small), len(small), 64, 64, owner="yours")).width == 64

        assert not any(each.done() for each in mine)
        await becomes(lambda: len(decoding()) == 1, "the others of the first owner still wait")
        for each in mine:
            each.cancel()


async def test_a_image_that_is_still_being_read_holds_no_place() -> None:
    decoder = ImageDecoder(DecodeLimits(at_once=1))
    image = png(64, 64)
    slow = [Stuck(image[:-1]) for _ in range(3)]
    async with decoder.running(), asyncio.TaskGroup() as group:
        reading = [group.create_task(decoder.decode_to_fill(each, len(image), 64, 64)) for each in slow]
        for each in slow:
            await each.waiting.wait()
        assert (await decode(decoder, image)).width == 64
        for task in reading:
            task.cancel()


async def test_a_child_waits_for_the_next_image(decoder: ImageDecoder) -> None:
    """Forked, confined and warm before the image is there."""
    decoder.announce()
    await becomes(lambda: len(decoders()) == 3, "there are the process and its children")
    waiting = set(await asyncio.to_thread(decoders))

    async with asyncio.TaskGroup() as group:
        lost = group.create_task(decode(decoder, bombs.long_png()))
        (child,) = await stopped(1)
        assert child in waiting
        assert "Seccomp:\t2" in said_by(child, "status")
        lost.cancel()
    await becomes(lambda: not decoding(), "the child has ended")


async def test_children_that_ended_while_they_waited_harm_no_image(decoder: ImageDecoder) -> None:
    decoder.announce()
    await becomes(lambda: len(decoders()) == 3, "there are the process and its children")
    nursery, *waiting = sorted(await asyncio.to_thread(decoders))
    for pid in waiting:
        os.kill(pid, signal.SIGKILL)
    await becomes(lambda: not any(Path(f"/proc/{pid}").exists() for pid in waiting), "they have ended")

    assert (await decode(decoder, small_jpeg())).width == 64
    assert nursery in decoders()


async def test_after_the_process_has_ended_there_is_another(decoder: ImageDecoder) -> None:
    await decode(decoder, small_jpeg())
    nursery = min(await asyncio.to_thread(decoders))
    os.kill(nursery, signal.SIGKILL)
    await becomes(lambda: nursery not in decoders(), "it has ended")

    assert (await decode(decoder, small_jpeg())).width == 64


async def test_a_child_that_crashes_breaks_nothing(decoder: ImageDecoder) -> None:
    """As when its decoder is made to."""

    async def crash() -> None:
        await becomes(lambda: bool(decoding()), "there is a child")
        os.kill((await asyncio.to_thread(decoding))[0], signal.SIGSEGV)

    async with asyncio.TaskGroup() as group:
        group.create_task(crash())
        with pytest.raises(UnsupportedMedia, match="damaged"):
            await decode(decoder, bombs.long_png())
    assert (await decode(decoder, small_jpeg())).width == 64


async def test_a_image_that_is_shorter_than_it_was_is_said_to_be_so(decoder: ImageDecoder) -> None:
    image = png(64, 64)
    with pytest.raises(SourceTruncated):
        await decoder.decode_to_fill(Given(image[:-1]), len(image), 64, 64)


WORDS = """
import asyncio, sys
from mediagen.media.image_decoder import ImageDecoder
from tests.media.test_hostile import Given
from tests.media.bombs import long_png

async def main():
    decoder = ImageDecoder()
    async with decoder.running():
        image = long_png()
        await decoder.decode_to_fill(Given(image), len(image), 64, 64)

asyncio.run(main())
"""


async def test_a_killed_server_leaves_none(tmp_path: Path) -> None:
    import sys

    program = tmp_path / "server.py"
    program.write_text(WORDS)
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with Child([sys.executable, program], tmp_path / "log", env=env) as server:
        await becomes(lambda: bool(decoding(server.pid)), "there are the process and its children")
        left = await asyncio.to_thread(decoders, server.pid)
        server.send(signal.SIGKILL)
        await server.exited(10)
        await becomes(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), "all have ended")


CHILD = """
import json, os, socket, sys
from mediagen.media import sandbox

sandbox.confine(256 << 20, seconds=5)
told = {}
for name, attempt in {
    "open": lambda: open("/etc/passwd"),
    "own": lambda: open(sandbox.__file__),
    "list": lambda: os.listdir("/"),
    "write": lambda: open("/tmp/x", "w"),
    "socket": lambda: socket.socket(),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "kill": lambda: os.kill(os.getppid(), 0),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "memory": lambda: bytearray(512 << 20),
    "pidfd": lambda: os.pidfd_open(os.getppid()),
}.items():
    try:
        attempt()
        told[name] = "done"
    except (OSError, MemoryError) as exc:
        told[name] = type(exc).__name__
os.write(1, json.dumps(told).encode())
"""


async def test_a_confined_process_has_nothing_but_what_it_holds() -> None:
    import json
    import sys

    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, stdout=asyncio.subprocess.PIPE)
    said, _ = await child.communicate()

    told = json.loads(said)
    assert told.pop("memory") == "MemoryError"
    assert set(told.values()) == {"PermissionError"}, told


async def test_a_machine_that_is_too_busy_says_so(decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_WALL", 0.001)
    image = bombs.solid_webp()

    with pytest.raises(DeadlineExceeded):
        await decode(decoder, image)

    await becomes(lambda: not decoding(), "the child has ended")


async def test_descriptors_are_given_back(decoder: ImageDecoder) -> None:
    await decode(decoder, small_jpeg())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        await decode(decoder, jpeg_with_exif(exif_with_orientation(3)))
        with pytest.raises(UnsupportedMedia):
            await decode(decoder, b"\x89PNG\r\n\x1a\nx")

    assert len(os.listdir("/proc/self/fd")) == before
