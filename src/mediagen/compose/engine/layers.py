"""Images with an alpha channel over the frames: captions, overlays, a logo."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast

import cv2
import numpy as np

from mediagen.compose.engine.planes import Frame, planes_of

_SCALE: Final = 256


class Layer:
    """An RGBA image at an even place, from frame ``start`` to ``end`` of the film; it fades in and out in frames.

    Premultiplied colour and inverse alpha are kept as integers, so a layer costs two multiplications a pixel.
    """

    def __init__(
        self, path: Path, x: int, y: int, *, start: int, end: int, fade_in: int = 0, fade_out: int = 0
    ) -> None:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim != 3 or image.shape[2] != 4:
            raise ValueError(f"not an image with an alpha channel: {path.name}")
        image = _even(image)
        alpha = image[:, :, 3].astype(np.float32) / 255
        half = cv2.resize(alpha, (alpha.shape[1] // 2, alpha.shape[0] // 2), interpolation=cv2.INTER_AREA)
        self._x, self._y = x // 2 * 2, y // 2 * 2
        self.start, self.end = start, end
        self._fade_in, self._fade_out = fade_in, fade_out
        self._colours = [
            (plane.astype(np.float32), share)
            for plane, share in zip(planes_of(np.ascontiguousarray(image[:, :, :3])), (alpha, half, half), strict=True)
        ]
        self._strength = -1
        self._drawn: list[tuple[Any, Any]] = []

    def draw(self, number: int, out: Frame) -> None:
        """Over frame ``number`` of the film."""
        if not self.start <= number < self.end:
            return
        strength = self._strength_at(number)
        if strength <= 0:
            return
        if strength != self._strength:
            self._strength = strength
            self._drawn = [
                (
                    np.round(colour * share * (strength / _SCALE)).astype(np.uint8),
                    np.round(_SCALE - share * strength).astype(np.uint16),
                )
                for colour, share in self._colours
            ]
        for index, ((colour, kept), plane) in enumerate(zip(self._drawn, out.planes, strict=True)):
            step = 1 if index == 0 else 2
            x, y = self._x // step, self._y // step
            under = plane[max(0, y) : y + colour.shape[0], max(0, x) : x + colour.shape[1]]
            cut = (slice(max(0, -y), max(0, -y) + under.shape[0]), slice(max(0, -x), max(0, -x) + under.shape[1]))
            under[:] = colour[cut] + ((under * kept[cut]) >> 8).astype(np.uint8)

    def _strength_at(self, number: int) -> int:
        share = 1.0
        if self._fade_in:
            share = min(share, (number - self.start + 1) / self._fade_in)
        if self._fade_out:
            share = min(share, (self.end - number) / self._fade_out)
        return round(_SCALE * min(1.0, share))


def _even(image: Any) -> Any:
    """With both sides even: a transparent row or column more where needed."""
    height, width = image.shape[:2]
    return cast("Any", np.pad(image, ((0, height % 2), (0, width % 2), (0, 0))))
