"""Colours, and the chance that chooses among them: the same prompt and seed always give the same picture."""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Palette:
    """``ground`` is behind everything, ``ink`` reads well on it; ``colours`` go from near the ground to far from it."""

    name: str
    ground: str
    ink: str
    colours: tuple[str, str, str, str]
    words: frozenset[str] = frozenset()
    """Words of a prompt that call for it."""


def _palette(name: str, ground: str, ink: str, colours: str, words: str) -> Palette:
    first, second, third, fourth = colours.split()
    return Palette(name, ground, ink, (first, second, third, fourth), frozenset(words.split()))


PALETTES: Final = (
    _palette(
        "dusk", "#1a0f33", "#fff3e4", "#5b2a86 #d8407c #ff8d5c #ffd78a", "sunset dusk evening dawn sunrise romance"
    ),
    _palette(
        "ocean", "#04213a", "#f1fbff", "#0b5c8a #17a0b8 #86e0d3 #f6efd9", "sea ocean water lake river fish wave blue"
    ),
    _palette(
        "forest", "#0d261a", "#f6f3df", "#1f5d3a #5c9e57 #c8d96f #f3e2b3", "forest tree garden green leaf jungle plant"
    ),
    _palette(
        "ember", "#1d0a0c", "#fff0df", "#7d1522 #dd3c2a #ff8a3a #ffd067", "fire lava dragon hot red volcano autumn fox"
    ),
    _palette(
        "night", "#070a1e", "#eef0ff", "#1e2f7a #5450ea #a463ff #ff63c0", "night space star moon galaxy neon cyber city"
    ),
    _palette(
        "paper", "#f2ede4", "#171614", "#e9b44c #d9482b #457b9d #1d3557", "poster bauhaus swiss modern abstract minimal"
    ),
    _palette(
        "clay", "#f5e2c6", "#2a1711", "#e9a35e #c65d3b #2f5563 #8c2f1b", "desert sand dune canyon clay earth africa"
    ),
    _palette(
        "mint", "#e4f2ec", "#0f2b30", "#8fceb4 #f0a35b #0a6c5b #13353a", "spring tea fresh mint breakfast fruit kitchen"
    ),
    _palette(
        "rose", "#fbe8e6", "#3a1022", "#f5b7b1 #e8616f #8f2d56 #d8a24a", "rose love flower pink cherry blossom cat"
    ),
    _palette(
        "arctic",
        "#eaf1f7",
        "#0d2136",
        "#bcd7ea #6fa8d1 #ef7d57 #1f4e79",
        "snow ice winter mountain arctic alps cloud sky",
    ),
)


def chance(prompt: str, seed: int | None, index: int) -> random.Random:
    """A generator that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}\x00{index}\x00{prompt}".encode("utf-8", "replace")).digest()
    return random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - pictures, no secrets


def choose(prompt: str, dice: random.Random) -> Palette:
    """A palette that the prompt calls for by a word, else any."""
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    words |= {word.removesuffix("s") for word in words}
    called = [palette for palette in PALETTES if palette.words & words]
    return dice.choice(called or PALETTES)


def channels(colour: str) -> tuple[int, int, int]:
    """Red, green, blue of ``#rrggbb``, 0-255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def mix(first: str, second: str, share: float) -> str:
    """``first`` with ``share`` (0-1) of ``second`` in it."""
    pairs = zip(channels(first), channels(second), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)
