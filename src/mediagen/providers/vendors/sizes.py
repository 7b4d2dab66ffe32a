"""Sizes in the words of vendors: ratios and resolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mediagen.core.errors import InvalidRequest
from mediagen.providers.base import Size


def ratio_of(size: Size, ratios: Sequence[str]) -> str:
    """The nearest of ``ratios`` (``16:9``)."""

    def distance(ratio: str) -> float:
        across, down = ratio.split(":")
        return abs(math.log(size.width / size.height) - math.log(int(across) / int(down)))

    return min(ratios, key=distance)


def resolution_of(size: Size, names: dict[int, str], model: str) -> str:
    """The name of the resolution with that shorter side in pixels. Raises InvalidRequest, naming those there are."""
    name = names.get(min(size))
    if name is None:
        known = ", ".join(f"{side} ({name})" for side, name in names.items())
        raise InvalidRequest(f"{model} makes videos whose shorter side is {known} pixels, not {size}", param="size")
    return name


def whole_seconds(seconds: float | None) -> int | None:
    """Raises InvalidRequest for a fraction."""
    if seconds is not None and seconds != int(seconds):
        raise InvalidRequest("this model takes whole seconds", param="seconds")
    return None if seconds is None else int(seconds)
