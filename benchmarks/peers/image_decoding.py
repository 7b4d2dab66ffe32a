"""A process that times decoders of pictures: ``python -m benchmarks.peers.image_decoding --folder DIR --rounds N``.

Makes the pictures in DIR, then takes turns: each is decoded by ``ImageDecoder``, as the server does it, and by a
process of its own that is warm, does the same with libvips and confines nothing (``--direct``), timed by its own clock.
Both have the bytes in memory, and give pixels of 1024x1024. Prints a line of JSON: seconds of each turn by picture, and
of the first picture of new decoders.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyvips

from mediagen.media.image_decoder import ImageDecoder

SIDE: Final = 1024
FIRSTS: Final = 5
FIRST: Final = "JPEG 1024x1024"
PICTURES: Final[dict[str, Callable[[], bytes]]] = {
    FIRST: lambda: bytes(_photo(1024, 1024).jpegsave_buffer(Q=85)),
    "PNG 1600x1200": lambda: bytes(_photo(1600, 1200).pngsave_buffer()),
    "WebP 2048x1536": lambda: bytes(_photo(2048, 1536).webpsave_buffer(Q=80)),
    "JPEG 4000x3000": lambda: bytes(_photo(4000, 3000).jpegsave_buffer(Q=90)),
}
_LOADERS: Final = {"JPEG": "jpegload_buffer", "PNG": "pngload_buffer", "WebP": "webpload_buffer"}


def _photo(width: int, height: int) -> Any:
    """Clouds with the noise of a sensor: it compresses as photographs do."""
    clouds = [pyvips.Image.perlin(width, height, cell_size=width // 6, seed=band) for band in range(3)]
    image = clouds[0].bandjoin(clouds[1:]).linear(100, 128)
    noisy = image + pyvips.Image.gaussnoise(width, height, sigma=6, mean=0, seed=1)
    return noisy.cast("uchar").copy(interpretation="srgb")


class _Given:
    """Bytes as a source."""

    def __init__(self, data: bytes) -> None:
        self.size: int | None = len(data)
        self._left = memoryview(data)

    async def read_into(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def direct(folder: Path) -> None:
    """Decode the pictures that are named, a line each, and print the seconds."""
    pyvips.cache_set_max(0)
    for line in sys.stdin:
        name = line.strip()
        data = (folder / name).read_bytes()
        began = time.perf_counter()
        load = getattr(pyvips.Image, _LOADERS[name.split()[0]])
        image = load(data, access="sequential", fail_on="truncated")
        small = image.thumbnail_image(SIDE, height=SIDE, crop="centre", size="both", no_rotate=True).copy_memory()
        small.autorot().colourspace("srgb").cast("uchar").copy_memory()
        print(time.perf_counter() - began, flush=True)


async def _decoded(decoder: ImageDecoder, data: bytes) -> float:
    began = time.perf_counter()
    frame = await decoder.decode_to_fill(_Given(data), len(data), SIDE, SIDE)
    seconds = time.perf_counter() - began
    if len(frame.data) != SIDE * SIDE * 3:
        raise SystemExit(f"{len(frame.data)} bytes of pixels came")
    return seconds


async def _turns(folder: Path, pictures: dict[str, bytes], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of the confined child and of the warm process, in turns; the first three do not count."""
    argv = [sys.executable, "-m", "benchmarks.peers.image_decoding", "--folder", str(folder), "--direct"]
    other = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert other.stdin is not None
    assert other.stdout is not None
    told: dict[str, list[tuple[float, float]]] = {name: [] for name in pictures}
    decoder = ImageDecoder()
    async with decoder.running():
        for turn in range(rounds + 3):
            for name, data in pictures.items():
                other.stdin.write(f"{name}\n".encode())
                there = float(await other.stdout.readline())
                here = await _decoded(decoder, data)
                if turn >= 3:
                    told[name].append((here, there))
    other.stdin.close()
    await other.wait()
    return told


async def _firsts(data: bytes) -> list[float]:
    """Seconds of the first picture of new decoders, that nothing announced."""
    found = []
    for _ in range(FIRSTS):
        decoder = ImageDecoder()
        async with decoder.running():
            found.append(await _decoded(decoder, data))
    return found


async def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """What is printed."""
    pictures = {name: make() for name, make in PICTURES.items()}
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    turns = await _turns(folder, pictures, rounds)
    sizes = {name: len(data) for name, data in pictures.items()}
    return {"sizes": sizes, "rounds": turns, "firsts": await _firsts(pictures[FIRST])}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.image_decoding")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--direct", action="store_true")
    args = parser.parse_args()
    if args.direct:
        direct(args.folder)
    else:
        print(json.dumps(asyncio.run(measure(args.folder, args.rounds))))


if __name__ == "__main__":
    main()
