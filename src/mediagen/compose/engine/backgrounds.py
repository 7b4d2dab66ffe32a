"""What fills the frame of a scene: a still image with a moving view, or the frames of a video."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final, Protocol, cast

import cv2
import numpy as np

from mediagen.compose.engine.motion import view_at
from mediagen.compose.engine.planes import Frame, Plane, planes_of
from mediagen.compose.request import Motion

_LUMA_STEPS: Final = 4
"""Places between two pixels where the view can begin: rounding moves luma by an eighth of a pixel at most."""
_CHROMA_STEPS: Final = 2


class Background(Protocol):
    """Frames of one scene. ``draw`` is asked for frames in order."""

    def draw(self, number: int, out: Frame) -> None: ...

    def close(self) -> None: ...


class Still:
    """A still image, kept enlarged so that the view can begin between its pixels. ``frames``: the scene's length."""

    def __init__(self, path: Path, motion: Motion, frames: int, fps: int) -> None:
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"not an image: {path.name}")
        self._motion = motion
        self._frames = max(1, frames)
        self._seconds = frames / fps
        luma, *chroma = planes_of(cast("Plane", bgr))
        if motion is not Motion.NONE:
            luma = _enlarged(luma, _LUMA_STEPS)
            chroma = [_enlarged(plane, _CHROMA_STEPS) for plane in chroma]
        self._planes = (luma, *chroma)
        self._drawn: Frame | None = None

    def draw(self, number: int, out: Frame) -> None:
        if self._motion is Motion.NONE and self._drawn is not None:
            out.copy_from(self._drawn)
            return
        view = view_at(self._motion, number / self._frames, self._seconds)
        for source, plane in zip(self._planes, out.planes, strict=True):
            height, width = plane.shape
            across, down = source.shape[1] * view.size / width, source.shape[0] * view.size / height
            left = min(round(source.shape[1] * view.x), source.shape[1] - math.floor(across * width))
            top = min(round(source.shape[0] * view.y), source.shape[0] - math.floor(down * height))
            seen = source[top : top + math.ceil(down * height) + 1, left : left + math.ceil(across * width) + 1]
            # the exact factor, not the rounded size of ``seen``, decides which of its pixels are read
            scaled = cv2.resize(seen, None, fx=1 / across, fy=1 / down, interpolation=cv2.INTER_LINEAR)
            plane[:] = _covering(scaled, height, width)
        if self._motion is Motion.NONE:
            self._drawn = Frame.empty(out.width, out.height)
            self._drawn.copy_from(out)

    def close(self) -> None:
        """Nothing is open."""


class Clip:
    """Frames of a video as raw planes, which another process writes into a pipe; ``first`` is the first that comes."""

    def __init__(self, path: Path, first: int, width: int, height: int) -> None:
        self._pipe = path.open("rb", buffering=0)
        self._next = first
        self._frame = Frame.empty(width, height)

    def draw(self, number: int, out: Frame) -> None:
        while self._next <= number:
            view = self._frame.view()
            filled = 0
            while filled < len(view):
                count = self._pipe.readinto(view[filled:])
                if not count:
                    raise ValueError(f"the video ends {number - self._next + 1} frames early")
                filled += count
            self._next += 1
        out.copy_from(self._frame)

    def close(self) -> None:
        self._pipe.close()


def _enlarged(plane: Plane, steps: int) -> Plane:
    return cast("Plane", cv2.resize(plane, None, fx=steps, fy=steps, interpolation=cv2.INTER_CUBIC))


def _covering(scaled: Any, height: int, width: int) -> Any:
    """``scaled`` cut to the plane; a row or column that rounding left out is repeated."""
    below, right = max(0, height - scaled.shape[0]), max(0, width - scaled.shape[1])
    if below or right:
        scaled = np.pad(scaled, ((0, below), (0, right)), mode="edge")
    return scaled[:height, :width]
