"""Images that stand over or behind the frames: captions, overlays, gradients. Drawn by libvips; blocks.

Text reaches Pango escaped, as a markup's content, and never as part of a file's or font's name.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mediagen.compose.captions import Card
from mediagen.compose.fonts import Face
from mediagen.compose.request import Overlay, Position, Style

if TYPE_CHECKING:
    import pyvips

MARGIN: Final = 0.055
"""Of the shorter side: nothing that is to be read stands nearer to the frame's edge."""
CAPTION_FLOOR: Final = 0.09
"""Of the height: where captions stand, above the controls of players."""
_CAPTION_SIZE: Final = 0.046
_SIZES: Final = {"title": 0.105, "subtitle": 0.056, "label": 0.036, "quote": 0.066}
_WIDTHS: Final = {"title": 0.86, "subtitle": 0.8, "label": 0.6, "quote": 0.74}
_LINE: Final = 1.18
_LEAST_POINTS: Final = 9.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """An image and where its upper left corner stands in the frame."""

    image: Any
    x: int
    y: int

    def save(self, path: Path) -> None:
        """As PNG, whatever the path's suffix."""
        path.write_bytes(self.image.write_to_buffer(".png", compression=1))


class Painter:
    """Draws for frames of one size in one style."""

    def __init__(self, width: int, height: int, style: Style, bold: Face, regular: Face) -> None:
        self._width, self._height = width, height
        self._style = style
        self._bold, self._regular = bold, regular
        self._short = min(width, height)
        # a tall frame is narrow: its type is set by the width, a wide frame's by the height
        self._points = max(_LEAST_POINTS, _CAPTION_SIZE * min(height, width * 1.15))

    def fits(self, line: str) -> bool:
        """Whether a caption line is narrow enough."""
        return bool(_text(html.escape(line), self._bold, self._points).width <= self._caption_width)

    @property
    def _caption_width(self) -> int:
        return round(self._width * (0.8 if self._width > self._height else 0.86))

    def caption(self, card: Card, look: str, spoken: int | None = None) -> Drawn:
        """A card at the foot of the frame. ``look``: box, outline or word; ``spoken``: the word that is being said."""
        accent = self._style.accent
        number, lines = 0, []
        for line in card.lines:
            words = []
            for word in line:
                text = html.escape(word.text)
                words.append(f'<span foreground="{accent}">{text}</span>' if number == spoken else text)
                number += 1
            lines.append(" ".join(words))
        block = _text("\n".join(lines), self._bold, self._points, colour=self._style.text, align="centre")
        block = self._on_lines(block, len(lines))
        if look == "box":
            pad_x, pad_y = round(self._points * 0.7), round(self._points * 0.42)
            image = _boxed(block, pad_x, pad_y, radius=self._points * 0.38, opacity=0.62)
        else:
            image = _outlined(block, max(2, round(self._points / 11)))
        x = (self._width - image.width) // 2
        y = round(self._height * (1 - CAPTION_FLOOR)) - image.height
        return Drawn(image, x, max(0, y))

    def _on_lines(self, block: Any, lines: int) -> Any:
        """``block`` in a box as high as any text of so many lines: libvips cuts text to its ink, and captions would
        jump with their descenders."""
        usual = _text("\n".join(["\u00c1g"] * lines), self._bold, self._points)
        top = max(0, block.yoffset - usual.yoffset)
        return block.embed(0, top, block.width, max(usual.height, top + block.height))

    def overlay(self, overlay: Overlay) -> Drawn:
        """A title, subtitle, label or quote at its position, as large as fits."""
        room = self._width - 2 * round(self._short * MARGIN)
        width = min(room, round(self._width * _WIDTHS[overlay.style]))
        points = _SIZES[overlay.style] * min(self._height, self._width)
        face = self._regular if overlay.style in ("subtitle", "quote") else self._bold
        text = html.escape(f"“{overlay.text}”" if overlay.style == "quote" else overlay.text)
        align = (
            "centre"
            if overlay.position.value in ("top", "center", "bottom")
            else ("high" if overlay.position.value.endswith("right") else "low")
        )
        while True:
            block = _text(text, face, points, colour=self._style.text, width=width, align=align)
            if (block.width <= width and block.height <= self._height * 0.5) or points <= _LEAST_POINTS:
                break
            points *= 0.92
        if overlay.style == "label":
            image = _boxed(block, round(points * 0.8), round(points * 0.4), radius=points * 0.9, opacity=0.55)
        else:
            image = _shadowed(block, max(2, round(points / 9)))
        return Drawn(image, *self._place(overlay.position, image.width, image.height))

    def _place(self, position: Position, width: int, height: int) -> tuple[int, int]:
        margin = round(self._short * MARGIN)
        name = position.value
        x = (self._width - width) // 2
        if name.endswith("left"):
            x = margin
        elif name.endswith("right"):
            x = self._width - margin - width
        y = (self._height - height) // 2
        if name.startswith("top"):
            y = margin
        elif name.startswith("bottom"):
            y = round(self._height * (1 - 3.2 * CAPTION_FLOOR)) - height
        return max(0, x), max(0, y)


def gradient(colours: list[str], width: int, height: int, *, seed: int = 0) -> pyvips.Image:
    """Colours blended smoothly over the frame, with a grain that hides the steps of eight bits. Three bands."""
    import pyvips

    stops = [_channels(colour) for colour in colours]
    across = pyvips.Image.xyz(width, height)
    # a slanted line through the frame: 0 in one corner, 1 in the opposite
    share = (across[0] / width * 0.55 + across[1] / height * 0.45).cast("float")
    blended = share.new_from_image(list(map(float, stops[0])))
    for index in range(1, len(stops)):
        begin, length = (index - 1) / (len(stops) - 1), 1 / (len(stops) - 1)
        weight = (share - begin) / length
        weight = (weight > 0).ifthenelse(weight, 0)
        weight = (weight < 1).ifthenelse(weight, 1)
        weight = weight * weight * (weight * -2 + 3)
        blended = blended * (weight * -1 + 1) + weight.new_from_image(list(map(float, stops[index]))) * weight
    grain = pyvips.Image.gaussnoise(width, height, sigma=1.3, mean=0, seed=seed)
    return (blended + grain).cast("uchar").copy(interpretation="srgb")


def flat(colour: str, width: int, height: int) -> pyvips.Image:
    """One colour. Three bands."""
    import pyvips

    return pyvips.Image.black(width, height).new_from_image(_channels(colour)).copy(interpretation="srgb")


def _text(
    markup: str, face: Face, points: float, *, colour: str | None = None, width: int | None = None, align: str = "low"
) -> Any:
    """Text as RGBA when ``colour`` is given, else as one band."""
    import pyvips

    options: dict[str, Any] = {
        "font": f"{face.family} {points:.1f}",
        "fontfile": str(face.file),
        "dpi": 72,
        "align": align,
    }
    if width is not None:
        options |= {"width": width, "wrap": "word-char"}
    body = f'<span line_height="{_LINE}" letter_spacing="{round(points * -0.01 * 1024)}">{markup}</span>'
    if colour is None:
        return pyvips.Image.text(body, **options)
    return pyvips.Image.text(f'<span foreground="{colour}">{body}</span>', rgba=True, **options)


def _boxed(block: Any, pad_x: int, pad_y: int, *, radius: float, opacity: float) -> Any:
    """``block`` on a dark box with round corners."""
    import pyvips

    width, height = block.width + 2 * pad_x, block.height + 2 * pad_y
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<rect width="{width}" height="{height}" rx="{radius:.1f}" fill="#000" fill-opacity="{opacity}"/></svg>'
    )
    box = pyvips.Image.svgload_buffer(svg.encode())
    return box.composite2(block, "over", x=pad_x, y=pad_y)


def _outlined(block: Any, thickness: int) -> Any:
    """``block`` with a dark edge that keeps it readable over anything."""
    import pyvips

    pad = thickness * 2
    alpha = block[3].embed(pad, pad, block.width + 2 * pad, block.height + 2 * pad)
    mask = pyvips.Image.mask_ideal(3, 3, 0.0) if thickness < 1 else _disc(thickness)
    edge = alpha.dilate(mask) if alpha.format == "uchar" else alpha.cast("uchar").dilate(mask)
    edge = edge.gaussblur(0.8)
    black = edge.new_from_image([0, 0, 0]).copy(interpretation="srgb").bandjoin((edge * 0.92).cast("uchar"))
    return black.composite2(block, "over", x=pad, y=pad)


def _disc(radius: int) -> Any:
    import pyvips

    size = 2 * radius + 1
    rows = [
        [255 if (x - radius) ** 2 + (y - radius) ** 2 <= radius * radius + 1 else 128 for x in range(size)]
        for y in range(size)
    ]
    return pyvips.Image.new_from_array(rows)


def _shadowed(block: Any, radius: int) -> Any:
    """``block`` with a soft shadow, for type that stands on a picture."""
    pad = radius * 3
    alpha = block[3].embed(pad, pad, block.width + 2 * pad, block.height + 2 * pad)
    shade = (alpha.gaussblur(radius) * 0.6).cast("uchar")
    black = shade.new_from_image([0, 0, 0]).copy(interpretation="srgb").bandjoin(shade)
    return black.composite2(block, "over", x=pad, y=pad)


def _channels(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
