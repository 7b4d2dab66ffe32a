"""The built-in provider: what it draws is decoded and looked at."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pyvips

from mediagen.core.errors import InvalidRequest, ProviderError, UnsupportedMedia
from mediagen.media import ffmpeg
from mediagen.providers.base import ImageRequest, Input, Operation, Phase, Size, VideoRequest
from mediagen.providers.builtin.designs import DESIGNS, Canvas, svg
from mediagen.providers.builtin.palettes import PALETTES, chance
from mediagen.providers.builtin.poster import headline
from mediagen.providers.builtin.provider import CLIP, POSTER, Builtin
from mediagen.streams.sources import ChunkSource
from tests.contracts.provider import Bench, ImageContract, VideoContract, settled, take
from tests.infra.process import descendants, need, open_descriptors
from tests.media.bombs import long_png, small_jpeg
from tests.media.decoders import becomes, decoding, stopped


class BuiltinBench(Bench):
    """There is no other side."""

    image_model = POSTER
    video_model = CLIP

    def __init__(self, provider: Builtin) -> None:
        self.provider = provider

    def ready_images(self, pictures: list[bytes]) -> None:
        pass

    def ready_video(self, film: bytes, *, words: list[str] | None = None) -> None:
        need("ffmpeg")

    @property
    def paid_calls(self) -> int:
        return 1


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Builtin]:
    async with Builtin.open("builtin", folder=tmp_path) as provider:
        yield provider
        assert not list(tmp_path.iterdir()), "files have no name"


class TestBuiltin(ImageContract, VideoContract):
    @pytest.fixture
    def bench(self, provider: Builtin) -> BuiltinBench:
        return BuiltinBench(provider)

    def film_request(self, bench: Bench, **changes: Any) -> VideoRequest:
        return super().film_request(bench, seconds=1.0, **changes)


async def draw(provider: Builtin, **changes: Any) -> list[pyvips.Image]:
    request = ImageRequest(model=POSTER, prompt="A red fox", size=Size(256, 192)).model_copy(update=changes)
    async with provider.generate(request) as answer:
        taken = await take(answer)
    assert answer.about.reported["generator"].endswith("no AI model")
    return [pyvips.Image.new_from_buffer(each.data, "") for each in taken]


@pytest.mark.parametrize(
    ("size", "format_", "loader"),
    [
        ("1024x1024", "png", "pngload_buffer"),
        ("1536x1024", "jpeg", "jpegload_buffer"),
        ("512x768", "webp", "webpload_buffer"),
        ("64x64", "png", "pngload_buffer"),
        ("2048x64", "jpeg", "jpegload_buffer"),
    ],
)
async def test_size_and_format_are_those_asked_for(provider: Builtin, size: str, format_: Any, loader: str) -> None:
    (image,) = await draw(provider, size=Size.parse(size), output_format=format_)

    assert f"{image.width}x{image.height}" == size
    assert image.get("vips-loader") == loader
    assert image.bands == 3
    assert "no AI model" in image.get("exif-ifd0-Software")
    assert image.stats()(3, 0)[0] > 5, "something is drawn"


async def test_a_transparent_ground_is_transparent(provider: Builtin) -> None:
    (image,) = await draw(provider, background="transparent", prompt="orbit star")

    assert image.hasalpha()
    assert image[3].min() == 0
    assert image[3].max() == 255


async def test_the_same_seed_gives_the_same_picture_and_each_of_many_is_another(provider: Builtin) -> None:
    first, second, third = await draw(provider, n=3, seed=5)
    again = (await draw(provider, n=3, seed=5))[0]

    assert (first - again).abs().max() == 0
    assert (first - second).abs().max() > 0
    assert (second - third).abs().max() > 0


async def test_earlier_states_come_first(provider: Builtin) -> None:
    request = ImageRequest(model=POSTER, prompt="A red fox", size=Size(128, 128), partial_images=2, n=2)

    async with provider.generate(request) as answer:
        order = [(each.index, each.partial) for each in await take(answer)]

    assert order == [(0, 0), (0, 1), (0, None), (1, 0), (1, 1), (1, None)]


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "<b>&amp;</span>",
        "x" * 30_000,
        "\x00\x07\u202eabc",
        "日本語 العربية 🦊",
        "%{localtime} ' \\ : ; [a]",
        "\ud800",
    ],
)
async def test_any_text_can_be_drawn(provider: Builtin, prompt: str) -> None:
    assert len(await draw(provider, prompt=prompt)) == 1


def given(data: bytes, owner: str | None = None) -> Input:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    @asynccontextmanager
    async def opened() -> AsyncIterator[ChunkSource]:
        yield ChunkSource(chunks())

    return Input("image", "image/png", len(data), opened, owner=owner)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif"])
async def test_a_picture_is_the_ground_of_the_poster(provider: Builtin, suffix: str) -> None:
    red = pyvips.Image.black(90, 60).linear(1, [200, 10, 10]).cast("uchar").copy(interpretation="srgb")

    (image,) = await draw(provider, inputs=(given(red.write_to_buffer(suffix)),))

    assert (image.width, image.height, image.bands) == (256, 192, 3)
    top = image.crop(0, 0, 256, 60)
    assert [abs(top[band].avg() - want) < 12 for band, want in enumerate([200, 10, 10])] == [True] * 3
    assert image.crop(0, 100, 256, 92).stats()(3, 0)[0] > 5  # and there is type on it


async def test_a_picture_stands_upright(provider: Builtin) -> None:
    ground = pyvips.Image.black(60, 90).linear(1, [200, 10, 10]).cast("uchar").copy(interpretation="srgb")
    lying = ground.draw_rect([10, 10, 200], 0, 0, 30, 90, fill=True)  # blue on the left, which turned is the top
    lying = lying.copy()
    lying.set_type(pyvips.GValue.gint_type, "orientation", 6)

    (image,) = await draw(provider, inputs=(given(lying.write_to_buffer(".jpg")),))

    assert image.crop(0, 0, 256, 30)[2].avg() > 150


async def test_pictures_of_one_owner_leave_room_for_others(provider: Builtin) -> None:
    long = long_png()
    async with asyncio.TaskGroup() as group:
        mine = [group.create_task(draw(provider, inputs=(given(long, "mine"),))) for _ in range(2)]
        held = await stopped(1)

        assert len(await draw(provider, inputs=(given(small_jpeg(), "yours"),))) == 1

        await becomes(lambda: decoding() == held, "the second picture of the first owner waits")
        for each in mine:
            each.cancel()


def bomb() -> bytes:
    """A PNG that says it has a hundred thousand times a hundred thousand pixels."""
    head = (100_000).to_bytes(4, "big") * 2 + b"\x08\x06\0\0\0"
    chunk = len(head).to_bytes(4, "big") + b"IHDR" + head + zlib.crc32(b"IHDR" + head).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        bomb(),
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        pyvips.Image.gaussnoise(200, 200).cast("uchar").write_to_buffer(".png")[:4000],
    ],
)
async def test_a_picture_that_cannot_be_decoded_is_refused(provider: Builtin, data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        await draw(provider, inputs=(given(data),))


def test_a_long_prompt_is_cut_at_a_word() -> None:
    assert headline("word " * 100) == ("word " * 32).strip() + "…"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"size": Size(63, 100)}, "size"),
        ({"size": Size(4097, 100)}, "size"),
        ({"background": "transparent", "output_format": "jpeg"}, "background"),
        ({"background": "transparent", "inputs": (given(b""),)}, "background"),
        ({"inputs": (given(b""), given(b""))}, "image"),
    ],
)
async def test_what_it_cannot_draw_is_said(provider: Builtin, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await draw(provider, **changes)

    assert refused.value.context["param"] == param


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"size": Size(321, 180)}, "size"),
        ({"size": Size(4096, 4096)}, "size"),
        ({"seconds": 0.4}, "seconds"),
        ({"seconds": 61.0}, "seconds"),
        ({"fps": 61}, "fps"),
    ],
)
async def test_what_it_cannot_film_is_said(provider: Builtin, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await provider.submit(VideoRequest(**{"model": CLIP, "prompt": "x", **changes}))

    assert refused.value.context["param"] == param


async def film(provider: Builtin, **changes: Any) -> bytes:
    need("ffmpeg", "ffprobe")
    asked = {
        "model": CLIP,
        "prompt": "it's 5:00 [in] 'a' \\ town; %{pts}",
        "size": Size(192, 108),
        "seconds": 2.0,
        **changes,
    }
    operation = await provider.submit(VideoRequest(**asked))
    status = await settled(provider, operation)
    assert status.error is None
    async with provider.fetch(operation) as answer:
        (taken,) = await take(answer)
    return taken.data


@pytest.mark.parametrize(("size", "seconds", "fps"), [("192x108", 2.0, None), ("108x192", 1.5, 30)])
async def test_a_film_has_its_size_length_and_rate(
    provider: Builtin, tmp_path: Path, size: str, seconds: float, fps: int | None
) -> None:
    data = await film(provider, size=Size.parse(size), seconds=seconds, fps=fps)

    path = tmp_path / "film.mp4"
    await asyncio.to_thread(path.write_bytes, data)
    told = await asyncio.to_thread(probe, path)
    await asyncio.to_thread(path.unlink)
    stream = told["streams"][0]
    assert (f"{stream['width']}x{stream['height']}", stream["codec_name"], stream["pix_fmt"]) == (
        size,
        "h264",
        "yuv420p",
    )
    assert float(told["format"]["duration"]) == pytest.approx(seconds, abs=0.05)
    assert stream["avg_frame_rate"] == f"{fps or 24}/1"
    assert "no AI model" in told["format"]["tags"]["comment"]
    assert data.index(b"moov") < data.index(b"mdat"), "plays before it is all there"


def probe(path: Path) -> Any:
    argv = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    return json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)


async def test_the_percentage_grows(provider: Builtin) -> None:
    need("ffmpeg")
    operation = await provider.submit(VideoRequest(model=CLIP, prompt="fox", seconds=6.0, size=Size(640, 360)))
    seen = []

    async with asyncio.timeout(50):
        while (status := await provider.poll(operation)).phase not in (Phase.COMPLETED, Phase.FAILED):
            seen.append(status.percent)
            await asyncio.sleep(0.05)

    numbers = [percent for percent in seen if percent is not None]
    assert numbers == sorted(numbers)
    assert numbers
    assert numbers[-1] > 0


async def ffmpegs() -> list[int]:
    """Those of this process, which may have other children: a store that tests share."""
    return [pid for pid in descendants(os.getpid()) if b"ffmpeg" in await asyncio.to_thread(command, pid)]


async def ffmpeg_runs() -> None:
    while not await ffmpegs():
        await asyncio.sleep(0.01)


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_cancel_ends_the_child(provider: Builtin) -> None:
    need("ffmpeg")
    operation = await provider.submit(VideoRequest(model=CLIP, prompt="fox", seconds=60.0))
    async with asyncio.timeout(20):
        await ffmpeg_runs()

    assert await provider.cancel(operation)

    async with asyncio.timeout(5):
        while await ffmpegs():
            await asyncio.sleep(0.01)
    status = await provider.poll(operation)
    assert (status.phase, status.error is not None) == (Phase.FAILED, True), "and it is not begun again"
    with pytest.raises(ProviderError):
        async with provider.fetch(operation):
            pass


async def test_the_end_of_the_provider_ends_the_child(tmp_path: Path) -> None:
    need("ffmpeg")

    async with Builtin.open("builtin", folder=tmp_path) as provider:
        await provider.submit(VideoRequest(model=CLIP, prompt="fox", seconds=60.0))
        async with asyncio.timeout(20):
            await ffmpeg_runs()

    assert not list(tmp_path.iterdir())


async def test_one_after_the_other(provider: Builtin) -> None:
    need("ffmpeg")
    first, second = [await provider.submit(VideoRequest(model=CLIP, prompt="fox", seconds=20.0)) for _ in range(2)]
    async with asyncio.timeout(20):
        while (await provider.poll(first)).phase is not Phase.RUNNING:
            await asyncio.sleep(0.01)

    waiting = await provider.poll(second)

    assert (waiting.phase, waiting.queue_position) == (Phase.QUEUED, 1)
    assert (await provider.poll(first)).queue_position is None


async def test_a_film_is_drawn_again_after_a_restart(provider: Builtin, tmp_path: Path) -> None:
    need("ffmpeg")
    async with Builtin.open("builtin", folder=tmp_path) as earlier:
        operation = await earlier.submit(VideoRequest(model=CLIP, prompt="fox", seconds=1.0, size=Size(128, 72)))

    status = await settled(provider, Operation.from_checkpoint(json.loads(json.dumps(operation.as_checkpoint()))))

    assert status.phase is Phase.COMPLETED


async def test_without_ffmpeg_films_fail_with_a_word_and_pictures_work(
    provider: Builtin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program, **_: None)
    ffmpeg.find_program.cache_clear()
    operation = await provider.submit(VideoRequest(model=CLIP, prompt="fox"))

    status = await settled(provider, operation)
    monkeypatch.undo()
    ffmpeg.find_program.cache_clear()

    assert status.error is not None
    assert "ffmpeg is not installed" in status.error.detail
    assert not status.error.retryable
    assert len(await draw(provider)) == 1


def test_type_is_set_on_a_machine_without_fonts() -> None:
    code = (
        "from mediagen.providers.builtin.poster import type_mask as m;"
        "a, b = m('illi', 40, 900), m('MWMW', 40, 900); print(b.width > 2 * a.width, b.avg() > 20)"
    )
    bare = {**os.environ, "FONTCONFIG_FILE": "/nowhere/fonts.conf", "HOME": "/nowhere"}

    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)

    assert done.stdout == "True True\n"


def test_every_design_and_palette_draws() -> None:
    for (_, design), palette in itertools.product(DESIGNS.items(), PALETTES):
        text = svg(Canvas(120, 80, palette, chance("x", 1, 0)), design)
        image = pyvips.Image.svgload_buffer(text.encode())
        assert (image.width, image.height) == (120, 80)
        assert image.flatten().stats()(3, 0)[0] > 1


async def test_a_film_that_is_given_up_at_any_moment_leaves_no_file_open(tmp_path: Path) -> None:
    need("ffmpeg")
    before = open_descriptors(os.getpid())
    for pause in (0.0, 0.0005, 0.001, 0.002, 0.005, 0.02):
        async with Builtin.open("builtin", folder=tmp_path) as provider:
            await provider.submit(VideoRequest(model=CLIP, prompt="fox", seconds=60.0))
            await asyncio.sleep(pause)
    gc.collect()  # what was not closed says so now, and warnings are errors

    assert open_descriptors(os.getpid()) <= before + 2
