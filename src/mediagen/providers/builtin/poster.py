"""A poster: a design, a veil, the prompt as type. Blocks; for a thread of ``media.pictures``."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mediagen.core.errors import Unavailable
from mediagen.providers.builtin.designs import DESIGNS, Canvas, choose_design, svg, veil
from mediagen.providers.builtin.palettes import Palette, chance, channels, choose

if TYPE_CHECKING:
    import pyvips

MAKER: Final = "mediagen builtin-poster: drawn by rules, no AI model"
_MAX_WORDS: Final = 160
_FONT: Final = "Manrope"
_NARROWEST: Final = 7.0
"""Points below which type is left out rather than made unreadable."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufff0-\uffff\ud800-\udfff]+")


def headline(prompt: str) -> str:
    """What of a prompt stands on a poster: its first 160 characters, cut at a word."""
    text = " ".join(_CONTROL.sub(" ", prompt).split())
    if len(text) <= _MAX_WORDS:
        return text
    return text[:_MAX_WORDS].rsplit(" ", 1)[0].rstrip(" ,;:.-") + "…"


@cache
def _font_file(weight: str) -> str:
    spec = find_spec("font_manrope")
    if spec is None or spec.origin is None:
        raise Unavailable("the fonts of the built-in provider are not installed")
    return str(Path(spec.origin).with_name("files") / f"Manrope-{weight}.ttf")


def type_mask(
    text: str, points: float, width: int, *, weight: str = "ExtraBold", spacing: float = -0.02
) -> pyvips.Image:
    """``text`` set to lines of at most ``width`` pixels: one band, 255 where there is ink."""
    import pyvips

    # Pango reads markup: what comes from outside is escaped, and never part of a font's or a file's name
    tracking = round(points * spacing * 1024)
    markup = f'<span line_height="0.86" letter_spacing="{tracking}">{html.escape(text)}</span>'
    return pyvips.Image.text(
        markup,
        font=f"{_FONT} {weight} {points:.1f}",
        fontfile=_font_file(weight),
        width=width,
        wrap="word-char",
        dpi=72,
    )


def fitted(text: str, width: int, height: int, largest: float) -> pyvips.Image | None:
    """``text`` as large as the box and ``largest`` points allow; None when it would be too small to read."""
    points = largest
    while points >= _NARROWEST:
        mask = type_mask(text, points, width)
        if mask.height <= height and mask.width <= width:
            return mask
        points *= 0.88
    return None


def draw(
    prompt: str,
    width: int,
    height: int,
    *,
    seed: int | None,
    index: int,
    transparent: bool,
    backdrop: pyvips.Image | None = None,
) -> pyvips.Image:
    """The poster as an image of three bands, four when ``transparent``; ``backdrop``: in the place of a design."""
    dice = chance(prompt, seed, index)
    palette = choose(prompt, dice)
    name = choose_design(prompt, dice)
    canvas = Canvas(width, height, palette, dice, bare=transparent)
    lines = type_of(prompt, canvas, number=dice.randrange(0x10000))
    canvas = replace(canvas, type_top=min((y for _, _, y, _ in lines), default=None))
    image = _background(canvas, name, transparent=transparent) if backdrop is None else _veiled(canvas, backdrop)
    for mask, x, y, share in lines:
        image = _ink(image, mask, x, y, palette, share)
    if transparent:
        return image
    return _grained(image.flatten(), width, height, seed=dice.getrandbits(31))


def _background(canvas: Canvas, name: str, *, transparent: bool) -> Any:
    import pyvips

    text = svg(canvas, DESIGNS[name])
    if not transparent and name != "tiles":
        text = text.replace("</svg>", veil(canvas, top=0.38, strength=0.94) + "</svg>")
    return pyvips.Image.svgload_buffer(text.encode())


def _veiled(canvas: Canvas, backdrop: Any) -> Any:
    import pyvips

    layer = pyvips.Image.svgload_buffer(svg(canvas, lambda canvas: veil(canvas, top=0.38, strength=0.94)).encode())
    return backdrop.composite2(layer, "over")


def type_of(prompt: str, canvas: Canvas, number: int) -> list[tuple[Any, int, int, float]]:
    """Masks with their places and their share of ink: the headline above the foot."""
    unit, width, height = canvas.unit, canvas.width, canvas.height
    margin = round(unit * 7)
    room = max(1, width - 2 * margin)
    placed: list[tuple[Any, int, int, float]] = []
    bottom = height - margin
    if unit * 1.9 >= _NARROWEST:
        foot = type_mask(
            f"DRAWN BY RULE · NO AI MODEL · {number:04X}", unit * 1.9, room, weight="SemiBold", spacing=0.14
        )
        placed.append((foot, margin, bottom - foot.height, 0.72))
        bottom -= foot.height + round(unit * 4)
    title = headline(prompt)
    box = round(min(height * 0.46, bottom - margin))
    if title and box > 0 and (mask := fitted(title, room, box, largest=unit * 15)) is not None:
        placed.append((mask, margin, bottom - mask.height, 1.0))
    return placed


def _ink(image: Any, mask: Any, x: int, y: int, palette: Palette, share: float) -> Any:
    colour = mask.new_from_image(channels(palette.ink)).copy(interpretation="srgb")
    layer = colour.bandjoin((mask * share).cast("uchar"))
    return image.composite2(layer, "over", x=x, y=y)


def _grained(image: Any, width: int, height: int, *, seed: int) -> Any:
    """With a little film grain, which hides the steps of long gradients."""
    import pyvips

    grain = pyvips.Image.gaussnoise(width, height, sigma=2.2, mean=0, seed=seed)
    return (image + grain).cast("uchar").copy(interpretation="srgb")
