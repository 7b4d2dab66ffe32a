"""The part of a still image that is seen at a moment of its scene. Pure arithmetic, in shares of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mediagen.compose.request import Motion

ROOM: Final = 1.15
"""How much larger than the frame an image is kept that moves."""
_PER_SECOND: Final = 0.012
_LEAST: Final = 0.03


@dataclass(frozen=True, slots=True)
class View:
    """A rectangle: ``x`` and ``y`` of its corner and its ``size``, as shares of the image."""

    x: float
    y: float
    size: float


def view_at(motion: Motion, moment: float, seconds: float) -> View:
    """What is seen at ``moment`` (0 to 1) of a scene that lasts ``seconds``; short scenes move less."""
    if motion is Motion.NONE:
        return View(0.0, 0.0, 1.0)
    way = min(1 - 1 / ROOM, _LEAST + _PER_SECOND * seconds)
    if motion in (Motion.ZOOM_IN, Motion.ZOOM_OUT):
        moment = moment if motion is Motion.ZOOM_IN else 1 - moment
        size = 1 - way * moment
        return View((1 - size) / 2, (1 - size) / 2, size)
    size = 1 - way
    along = way * (moment if motion in (Motion.PAN_RIGHT, Motion.PAN_DOWN) else 1 - moment)
    across = way / 2
    if motion in (Motion.PAN_LEFT, Motion.PAN_RIGHT):
        return View(along, across, size)
    return View(across, along, size)
