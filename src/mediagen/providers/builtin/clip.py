"""A film: clouds of colour that drift, the prompt as type, a hairline that tells how far it is.

The clouds are computed by FFmpeg on a tiny frame with twelve bits a channel and scaled up, which costs little and shows
no steps. Its expressions are made of numbers alone: the prompt reaches FFmpeg as pixels.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import ffmpeg

from mediagen.providers.base import Size
from mediagen.providers.builtin.designs import Canvas, svg, veil
from mediagen.providers.builtin.palettes import Palette, chance, channels, choose
from mediagen.providers.builtin.poster import type_of

if TYPE_CHECKING:
    import pyvips

MAKER: Final = "mediagen builtin-clip: drawn by rules, no AI model"
FPS: Final = 24
_TINY: Final = 40
"""Pixels of the longer side of the frame in which the clouds are computed."""
_BLOBS: Final = 5
_RAMP: Final = 0.7
"""Seconds in which the type appears, and goes."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What is to be drawn."""

    prompt: str
    size: Size
    seconds: float
    fps: int = FPS
    seed: int | None = None

    @property
    def frames(self) -> int:
        return max(1, round(self.seconds * self.fps))

    def palette_and_dice(self) -> tuple[Palette, random.Random]:
        dice = chance(self.prompt, self.seed, 0)
        return choose(self.prompt, dice), dice


def layer(clip: Clip) -> bytes:
    """The type on its veil, as raw RGBA of the film's size. Blocks."""
    import pyvips

    palette, dice = clip.palette_and_dice()
    canvas = Canvas(clip.size.width, clip.size.height, palette, dice, bare=True)
    image: pyvips.Image = pyvips.Image.svgload_buffer(
        svg(canvas, lambda canvas: veil(canvas, top=0.3, strength=0.82)).encode()
    )
    ink = channels(palette.ink)
    for mask, x, y, share in type_of(clip.prompt, canvas, number=dice.randrange(0x10000)):
        colour = mask.new_from_image(ink).copy(interpretation="srgb")
        image = image.composite2(colour.bandjoin((mask * share).cast("uchar")), "over", x=x, y=y)
    data: bytes = image.write_to_memory()
    return data


def arguments(clip: Clip, *, layer_file: str, film_file: str) -> list[str]:
    """FFmpeg's arguments; the two files are read and written where they say."""
    palette, dice = clip.palette_and_dice()
    size, seconds = clip.size, clip.frames / clip.fps
    rate = {"r": clip.fps}
    clouds = (
        ffmpeg.input(f"color=c=black:s={_tiny(size)}:r={clip.fps}", f="lavfi")
        .filter("format", "gbrp12")
        .filter("geq", **_clouds(palette, dice, size))
        .filter("format", "yuv444p12")
        .filter("scale", size.width, size.height, flags="bicubic", out_color_matrix="bt709", out_range="tv")
        .filter("format", "yuv420p")
    )
    still = ffmpeg.input(layer_file, f="rawvideo", pix_fmt="rgba", s=str(size), framerate=clip.fps)
    ramp = min(_RAMP, seconds / 4)
    words = (
        still.filter("format", "yuva420p")
        .filter("loop", loop=-1, size=1)
        .filter("setpts", "N/FRAME_RATE/TB")
        .filter("fade", t="in", st=0, d=f"{ramp:.3f}", alpha=1)
        .filter("fade", t="out", st=f"{seconds - ramp:.3f}", d=f"{ramp:.3f}", alpha=1)
    )
    thick = max(2, min(size) // 180 // 2 * 2)
    line = ffmpeg.input(f"color=c=0x{palette.ink[1:]}:s={size.width}x{thick}:r={clip.fps}", f="lavfi")
    film = ffmpeg.overlay(clouds, words, x=0, y=0, shortest=1)
    film = film.overlay(line, x=f"-w+w*(n+1)/{clip.frames}", y=size.height - thick, shortest=1)
    out = film.output(
        film_file,
        **{
            "c:v": "libx264",
            "color_range": "tv",
            "colorspace": "bt709",
            "color_primaries": "bt709",
            "color_trc": "bt709",
        },
        **{"frames:v": clip.frames, "metadata": f"comment={MAKER}", "map_metadata": -1},
        **rate,
        preset="superfast",
        crf=19,
        pix_fmt="yuv420p",
        movflags="+faststart",
        threads=2,
        f="mp4",
    )
    return list(out.overwrite_output().get_args())


def _tiny(size: Size) -> Size:
    scale = _TINY / max(size)
    return Size(max(8, round(size.width * scale / 2) * 2), max(8, round(size.height * scale / 2) * 2))


def _clouds(palette: Palette, dice: random.Random, size: Size) -> dict[str, str]:
    """Expressions of red, green and blue: colours mixed by their nearness to points that wander."""
    aspect = size.height / size.width
    weights, colours = [], [palette.ground, *palette.colours][:_BLOBS]
    for number in range(len(colours)):
        x, y = dice.uniform(0.1, 0.9), dice.uniform(0.0, 0.85)
        reach_x, reach_y = dice.uniform(0.15, 0.35), dice.uniform(0.12, 0.3)
        speed_x, speed_y = dice.uniform(0.25, 0.6), dice.uniform(0.2, 0.55)
        phase = dice.uniform(0, math.tau)
        dx = f"X/W-{x:.3f}-{reach_x:.3f}*sin({speed_x:.3f}*T+{phase:.3f})"
        dy = f"(Y/H-{y:.3f}-{reach_y:.3f}*cos({speed_y:.3f}*T+{phase:.3f}))*{aspect:.3f}"
        weights.append(f"st({number},1/pow(pow({dx},2)+pow({dy},2)+0.012,1.7))")
    total = "+".join(f"ld({number})" for number in range(len(colours)))
    planes = {}
    for plane, at in (("r", 0), ("g", 1), ("b", 2)):
        mixed = "+".join(f"ld({number})*{channels(colour)[at]}" for number, colour in enumerate(colours))
        planes[plane] = f"0*({'+'.join(weights)})+16.05*({mixed})/({total})"
    return planes
