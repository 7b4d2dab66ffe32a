"""Frames as planes: limited-range BT.709 (ITU-R BT.709-6), 4:2:0, as the encoder takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Plane: TypeAlias = NDArray[np.uint8]

_FROM_BGR: Final = np.array(
    [[0.0620, 0.6142, 0.1826, 16], [0.4392, -0.3386, -0.1006, 128], [-0.0403, -0.3989, 0.4392, 128]], np.float32
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame in one buffer of ``width * height * 3 / 2`` bytes; both sides are even. ``planes``: Y, U, V."""

    width: int
    height: int
    buffer: Plane
    planes: tuple[Plane, Plane, Plane]

    @classmethod
    def empty(cls, width: int, height: int) -> Frame:
        buffer = np.zeros(width * height * 3 // 2, np.uint8)
        luma, chroma = width * height, width * height // 4
        half = (height // 2, width // 2)
        return cls(
            width,
            height,
            buffer,
            (
                buffer[:luma].reshape(height, width),
                buffer[luma : luma + chroma].reshape(half),
                buffer[luma + chroma :].reshape(half),
            ),
        )

    def view(self) -> memoryview:
        """The bytes, as a pipe takes and gives them."""
        return memoryview(self.buffer.data)

    def copy_from(self, other: Frame) -> None:
        self.buffer[:] = other.buffer

    def fill(self, colour: tuple[int, int, int]) -> None:
        """``colour``: Y, U, V."""
        for plane, value in zip(self.planes, colour, strict=True):
            plane[:] = value


def planes_of(bgr: NDArray[np.uint8]) -> tuple[Plane, Plane, Plane]:
    """Y at full size, U and V at half size, of an image in OpenCV's order of channels."""
    converted = np.clip(cv2.transform(bgr.astype(np.float32), _FROM_BGR) + 0.5, 0, 255).astype(np.uint8)
    half = (bgr.shape[1] // 2, bgr.shape[0] // 2)
    chroma = [
        cv2.resize(np.ascontiguousarray(converted[:, :, at]), half, interpolation=cv2.INTER_AREA) for at in (1, 2)
    ]
    return np.ascontiguousarray(converted[:, :, 0]), cast("Plane", chroma[0]), cast("Plane", chroma[1])


def yuv_of(colour: str) -> tuple[int, int, int]:
    """Y, U, V of ``#rrggbb``."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    values = _FROM_BGR @ np.array([blue, green, red, 1], np.float32)
    y, u, v = (int(value + 0.5) for value in values)
    return y, u, v
