"""Backgrounds as SVG, made by rules and chance. Nothing of a prompt's text gets into them.

A design draws on a canvas of any shape.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from mediagen.providers.builtin.palettes import Palette, channels, mix


@dataclass(frozen=True, slots=True)
class Canvas:
    """Pixels, colours and chance. ``bare``: no ground is painted, so that it stays transparent."""

    width: int
    height: int
    palette: Palette
    dice: random.Random
    bare: bool = False
    type_top: int | None = None
    """Where the type begins; None: there is none."""

    @property
    def light(self) -> bool:
        """Whether the ground is a light one."""
        return sum(channels(self.palette.ground)) > 3 * 140

    @property
    def unit(self) -> float:
        """A hundredth of the shorter side."""
        return min(self.width, self.height) / 100

    @property
    def ground(self) -> str:
        return "" if self.bare else f'<rect width="100%" height="100%" fill="{self.palette.ground}"/>'


Design: TypeAlias = Callable[[Canvas], str]


def svg(canvas: Canvas, design: Design) -> str:
    """A whole SVG document."""
    size = f'width="{canvas.width}" height="{canvas.height}" viewBox="0 0 {canvas.width} {canvas.height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{design(canvas)}</svg>'


def _gradient(name: str, stops: list[tuple[float, str, float]], *, kind: str = "linear", turn: str = "0 0 0 1") -> str:
    x1, y1, x2, y2 = turn.split()
    where = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"' if kind == "linear" else ""
    inner = "".join(f'<stop offset="{at}" stop-color="{colour}" stop-opacity="{o}"/>' for at, colour, o in stops)
    return f'<defs><{kind}Gradient id="{name}" {where}>{inner}</{kind}Gradient></defs>'


def horizon(canvas: Canvas) -> str:
    """A low sun over ridges that fade with distance."""
    w, h, u, dice = canvas.width, canvas.height, canvas.unit, canvas.dice
    near, second, third, far = canvas.palette.colours
    ground = canvas.palette.ground
    sky = [
        (0.0, mix(ground, near, 0.35), 1.0),
        (0.42, mix(near, second, 0.75), 1.0),
        (0.68, third, 1.0),
        (0.85, far, 1.0),
    ]
    if canvas.light:
        sky = [(0.0, mix(ground, near, 0.85), 1.0), (0.45, mix(ground, near, 0.35), 1.0), (1.0, ground, 1.0)]
    parts = [] if canvas.bare else [_gradient("sky", sky), '<rect width="100%" height="100%" fill="url(#sky)"/>']
    x, y, r = w * dice.uniform(0.3, 0.72), h * dice.uniform(0.28, 0.38), u * dice.uniform(13, 19)
    shine = mix(second, "#ffffff", 0.1) if canvas.light else mix(far, "#ffffff", 0.45)
    glow = [(0.0, shine, 0.75), (0.35, shine, 0.28), (1.0, shine, 0.0)]
    parts.append(_gradient("glow", glow, kind="radial"))
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r * 3:.1f}" fill="url(#glow)"/>')
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{shine}"/>')
    layers = 6
    for layer in range(layers):
        share = layer / (layers - 1)
        base = h * (0.5 + 0.36 * share)
        colour = mix(mix(third, second, 0.55), ground, 0.12 + 0.88 * share)
        parts.append(f'<path d="{_ridge(canvas, base, u * (13 - 6 * share))}" fill="{colour}"/>')
    return "".join(parts)


def _ridge(canvas: Canvas, base: float, rise: float) -> str:
    w, h, dice = canvas.width, canvas.height, canvas.dice
    waves = [
        (rise / (2**k), dice.uniform(0.8, 1.6) * 2**k, dice.uniform(0, math.tau), dice.uniform(0.0, 1.0))
        for k in range(5)
    ]
    points = []
    for step in range(161):
        t = step / 160
        # sharp above, round below: the fold of a sine makes a ridge out of a wave
        y = base - sum(a * (1 - abs(math.sin(math.pi * f * t + p)) * (1 + s)) for a, f, p, s in waves) * 0.6
        points.append(f"{w * t:.1f} {y:.1f}")
    return f"M0 {h} L{' L'.join(points)} L{w} {h} Z"


def waves(canvas: Canvas) -> str:
    """Ribbons of waves, one before the other."""
    w, h, u, dice = canvas.width, canvas.height, canvas.unit, canvas.dice
    colours = canvas.palette.colours
    parts = [canvas.ground]
    count = 13
    phase, drift = dice.uniform(0, math.tau), dice.uniform(0.25, 0.5) * dice.choice((-1, 1))
    length = dice.uniform(0.9, 1.5)
    for band in range(count):
        share = band / (count - 1)
        index = share * (len(colours) - 1)
        low = min(int(index), len(colours) - 2)
        tint = mix(colours[::-1][low], colours[::-1][low + 1], index - low)
        tint = mix(tint, canvas.palette.ground, max(0.0, share - 0.55) * 2.1)
        middle = h * (0.16 + 0.78 * share**1.15)
        swing = u * (9 - 3.5 * share)
        points = []
        for step in range(121):
            t = step / 120
            angle = math.tau * length * t + phase + band * drift
            y = middle + swing * (math.sin(angle) + 0.35 * math.sin(2.1 * angle + band))
            points.append(f"{w * t:.1f} {y:.1f}")
        name = f"w{band}"
        edge = [
            (0.0, mix(tint, "#ffffff", 0.22), 1.0),
            (0.35, tint, 1.0),
            (1.0, mix(tint, canvas.palette.ground, 0.4), 1.0),
        ]
        parts.append(_gradient(name, edge))
        parts.append(f'<path d="M0 {h} L{" L".join(points)} L{w} {h} Z" fill="url(#{name})"/>')
    return "".join(parts)


def orbits(canvas: Canvas) -> str:
    """Rings about a centre off the middle, with small bodies on them."""
    w, h, u, dice = canvas.width, canvas.height, canvas.unit, canvas.dice
    palette = canvas.palette
    cx, cy = w * dice.uniform(0.6, 0.8), h * dice.uniform(0.26, 0.38)
    parts = [canvas.ground]
    glow = [(0.0, palette.colours[1], 0.55), (0.5, palette.colours[0], 0.22), (1.0, palette.ground, 0.0)]
    parts.append(_gradient("glow", glow, kind="radial"))
    parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{u * 85:.1f}" fill="url(#glow)"/>')
    radius = u * 17
    while radius < math.hypot(w, h):
        thick = u * dice.choice((0.22, 0.22, 0.35, 0.8, 2.6))
        colour = mix(palette.ground, dice.choice(palette.colours), dice.uniform(0.45, 0.95))
        around = math.tau * radius
        arc = dice.uniform(0.25, 0.95) * around
        turn = dice.uniform(0, 360)
        parts.append(
            f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}" fill="none" stroke="{colour}" '
            f'stroke-width="{thick:.2f}" stroke-linecap="round" stroke-dasharray="{arc:.1f} {around - arc:.1f}" '
            f'transform="rotate({turn:.1f} {cx:.1f} {cy:.1f})"/>'
        )
        if dice.random() < 0.55:
            angle, size = dice.uniform(0, math.tau), u * dice.uniform(0.9, 2.8)
            x, y = cx + radius * math.cos(angle), cy + radius * math.sin(angle)
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" fill="{dice.choice(palette.colours[1:])}"/>'
            )
        radius += u * dice.uniform(2.6, 6.5)
    body = [(0.0, mix(palette.colours[3], "#ffffff", 0.35), 1.0), (1.0, palette.colours[2], 1.0)]
    parts.append(_gradient("body", body, turn="0.2 0 0.8 1"))
    parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{u * 12:.1f}" fill="url(#body)"/>')
    return "".join(parts)


def tiles(canvas: Canvas) -> str:
    """Quarter circles, halves and discs on a grid."""
    w, h, dice, palette = canvas.width, canvas.height, canvas.dice, canvas.palette
    room = h if canvas.type_top is None else max(h * 0.2, canvas.type_top - 4 * canvas.unit)
    # whole tiles across, and as little left over below them as goes
    least = math.ceil(w / (room / 2))
    across = min(range(least, least + 6), key=lambda count: room % (w / count) / room + 0.01 * abs(count - 6))
    side = w / across
    rows = math.floor(room / side) if canvas.type_top is not None else math.ceil(room / side)
    parts = [canvas.ground]
    colours = [*palette.colours, palette.ink]
    for row in range(rows):
        for column in range(across):
            back, front = dice.sample(colours, 2)
            back = palette.ground if dice.random() < 0.3 else back
            parts.append(_tile(column * side, row * side, side, back, front, dice, bare=canvas.bare))
    return "".join(parts)


def _tile(x: float, y: float, s: float, back: str, front: str, dice: random.Random, *, bare: bool) -> str:
    shape = dice.choice(("quarter", "quarter", "quarter", "half", "disc", "ring", "leaf", "plain"))
    turn = dice.choice((0, 90, 180, 270))
    ring = f'fill="none" stroke="{front}" stroke-width="{s * 0.16}"'
    drawn = {
        "quarter": f'<path d="M0 0 H{s} A{s} {s} 0 0 1 0 {s} Z" fill="{front}"/>',
        "half": f'<path d="M0 0 A{s / 2} {s / 2} 0 0 0 {s} 0 Z" fill="{front}"/>',
        "disc": f'<circle cx="{s / 2}" cy="{s / 2}" r="{s * 0.32}" fill="{front}"/>',
        "ring": f'<circle cx="{s / 2}" cy="{s / 2}" r="{s * 0.3}" {ring}/>',
        "leaf": f'<path d="M0 0 A{s} {s} 0 0 1 {s} {s} A{s} {s} 0 0 1 0 0 Z" fill="{front}"/>',
        "plain": "",
    }[shape]
    # half a pixel over the edge, or hairlines show between tiles
    ground = "" if bare else f'<rect width="{s + 0.5}" height="{s + 0.5}" fill="{back}"/>'
    place = f"translate({x:.2f} {y:.2f}) rotate({turn} {s / 2:.2f} {s / 2:.2f})"
    return f'<g transform="{place}">{ground}{drawn}</g>'


def mesh(canvas: Canvas) -> str:
    """Soft clouds of colour."""
    w, h, dice, palette = canvas.width, canvas.height, canvas.dice, canvas.palette
    parts = [canvas.ground]
    far = math.hypot(w, h)
    for number in range(9):
        colour = palette.colours[number % 4]
        x, y, r = w * dice.uniform(-0.05, 1.05), h * dice.uniform(-0.1, 0.8), far * dice.uniform(0.28, 0.5)
        stops = [(0.0, colour, 0.95), (0.35, colour, 0.6), (0.7, colour, 0.16), (1.0, colour, 0.0)]
        parts.append(_gradient(f"m{number}", stops, kind="radial"))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="url(#m{number})"/>')
    return "".join(parts)


DESIGNS: Final[dict[str, Design]] = {"horizon": horizon, "waves": waves, "orbits": orbits, "tiles": tiles, "mesh": mesh}
_CALLED_FOR: Final = {
    "horizon": "mountain mountains hill hills desert canyon sunset sunrise landscape valley alps",
    "waves": "sea ocean wave waves water river music sound dune dunes",
    "orbits": "space star stars planet planets moon galaxy orbit atom science universe",
    "tiles": "poster pattern tile tiles bauhaus abstract city house houses geometric",
}


def choose_design(prompt: str, dice: random.Random) -> str:
    """The name of a design that the prompt calls for by a word, else any."""
    words = set(prompt.lower().split())
    called = [name for name, wanted in _CALLED_FOR.items() if words & set(wanted.split())]
    return dice.choice(called or list(DESIGNS))


def veil(canvas: Canvas, *, top: float, strength: float) -> str:
    """A veil of the ground's colour that grows from ``top`` (0-1 of the height) down, for type to stand on."""
    ground = canvas.palette.ground
    stops = [(0.0, ground, 0.0), (0.45, ground, strength * 0.8), (1.0, ground, strength)]
    y = canvas.height * top
    rect = f'<rect y="{y:.1f}" width="{canvas.width}" height="{canvas.height - y:.1f}" fill="url(#veil)"/>'
    return _gradient("veil", stops) + rect
