"""Decodes one untrusted image with libvips, within bounds. Blocks.

Runs in a confined child (``decoder_process``). The checks here keep the cost of an ordinary image in proportion; the
child's own limits hold for any input.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any, Final

import pyvips

from mediagen.media import image_metadata

_LOADERS: Final = {
    "image/png": ("pngload_buffer", "VipsForeignLoadPng"),
    "image/jpeg": ("jpegload_buffer", "VipsForeignLoadJpeg"),
    "image/webp": ("webpload_buffer", "VipsForeignLoadWebp"),
    "image/gif": ("gifload_buffer", "VipsForeignLoadNsgif"),
}
_OPERATIONS: Final = (
    *(function for function, _ in _LOADERS.values()),
    *("thumbnail_image", "resize", "shrink", "shrinkv", "shrinkh", "reduce", "reducev", "reduceh", "affine", "crop"),
    *("extract_area", "extract_band", "copy", "autorot", "rot", "flip", "colourspace", "sRGB2scRGB", "premultiply"),
    *(
        "unpremultiply",
        "flatten",
        "cast",
        "bandjoin",
        "linear",
        "sequential",
        "linecache",
        "tilecache",
        "rawsave_buffer",
    ),
)

_SAMPLES: Final = {
    "image/jpeg": "/9j/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqmx5moq6T/2wBD"
    "ARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAAQABADASIAAhEBAxEB"
    "/8QAFQABAQAAAAAAAAAAAAAAAAAAAQD/xAAYEAEBAQEBAAAAAAAAAAAAAAABACERYf/EABQBAQAAAAAAAAAAAAAAAAAAAAD/xAAWEQEBAQAAAAAA"
    "AAAAAAAAAAAAARH/2gAMAwEAAhEDEQA/AHzsO5AKtKjshj//2Q==",
    "image/png": "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAACXBIWXMAAAPoAAAD6AG1e1JrAAAAEElEQVQoz2NgGAWjYBTA"
    "AAADEAABaJFtwwAAAABJRU5ErkJggg==",
    "image/webp": "UklGRiYAAABXRUJQVlA4IBoAAABQAQCdASoQABAAB0CWJZwAAAAAAG9dLoAAAA==",
}
"""Images of 16 by 16 pixels, in base64."""

_LYING: Final = 5
"""EXIF orientations from here on have width and height changed."""
_LARGE: Final = 16_000_000
"""Pixels above which a decoder that can make the image smaller is asked to."""


class Undecodable(Exception):
    """There is an image that we do not decode; the text is for its sender, the second one for the log."""

    def __init__(self, text: str, said: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.said = said


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that an image may have: pixels in all, and in one direction."""

    pixels: int
    side: int


def configure_vips() -> None:
    """Prepare libvips: no loaders but ours, one thread, nothing remembered."""
    pyvips.cache_set_max(0)
    pyvips.concurrency_set(1)
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for _, loader in _LOADERS.values():
        pyvips.operation_block_set(loader, False)
    for operation in _OPERATIONS:
        pyvips.Introspect.get(operation)  # what is made once for each, so that no child has to; it begins no thread


def warm_up() -> None:
    """Decode images of our own. Begins libvips' threads, so it is for a process that will not fork."""
    for media_type, text in _SAMPLES.items():
        decode_to_fill(memoryview(base64.b64decode(text)), media_type, 8, 8, Bounds(256, 16))


def decode_to_fill(data: memoryview, media_type: str, width: int, height: int, bounds: Bounds) -> bytes:
    """The image, turned upright, scaled and cut so that it fills the box: red, green and blue, row by row.

    Of several frames it is the first. Decoded row by row and made smaller on the way, so memory depends on the box,
    where the format lets it.

    Raises:
        Undecodable: it is broken, or beyond the bounds.
        MemoryError: it takes more than there is.
    """
    try:
        image, orientation = image_metadata.strip_metadata(data, media_type)
        pixels: bytes = _pipeline(image, media_type, orientation, (width, height), bounds).write_to_memory()
    except image_metadata.MetadataRefused as exc:
        raise Undecodable(f"the image cannot be decoded: {exc}") from None
    except pyvips.Error as exc:
        if "memory" in str(exc).lower():  # libvips', libpng's, libjpeg's and libnsgif's words for it all have it
            raise MemoryError(str(exc)) from None
        raise Undecodable("the image cannot be decoded: it is damaged", str(exc)[:200]) from None
    return pixels


def _pipeline(data: bytes, media_type: str, orientation: int, box: tuple[int, int], bounds: Bounds) -> Any:
    """What gives the pixels once they are asked for; nothing has been decoded but the head."""
    if orientation >= _LYING:
        box = (box[1], box[0])
    small = _cut(_opened(data, media_type, box, bounds), *box)
    small = small.thumbnail_image(box[0], height=box[1], crop="centre", size="both", no_rotate=True)
    if orientation != 1:
        small = small.copy_memory()  # rows come in their order alone, and are wanted in another one
        small.set_type(pyvips.GValue.gint_type, "orientation", orientation)
        small = small.autorot()
    upright = small.colourspace("srgb")
    if upright.hasalpha():
        upright = upright.flatten(background=[255, 255, 255])
    return upright.cast("uchar")


def _opened(data: bytes, media_type: str, box: tuple[int, int], bounds: Bounds) -> Any:
    """Its head is read, and its pixels will be as they are asked for. Raises Undecodable, pyvips.Error."""
    load = getattr(pyvips.Image, _LOADERS[media_type][0])
    image = load(data, access="sequential", fail_on="truncated")
    if max(image.width, image.height) > bounds.side:
        raise Undecodable(f"the image is wider or higher than {bounds.side} pixels (limits.image_side)")
    if image.width * image.height > bounds.pixels:
        raise Undecodable(f"the image has more than {bounds.pixels} pixels (limits.pixels)")
    smaller = min(image.width // (2 * box[0]), image.height // (2 * box[1]))
    if image.width * image.height > _LARGE and smaller > 1:
        if media_type == "image/jpeg":
            return load(data, access="sequential", fail_on="truncated", shrink=2 ** min(3, int(math.log2(smaller))))
        if media_type == "image/webp":
            return load(data, access="sequential", fail_on="truncated", scale=1 / smaller)
    return image


def _cut(image: Any, width: int, height: int) -> Any:
    """Without most of what the box will not show: or a strip, made as high as the box, would be millions wide."""
    widest, highest = 2 * math.ceil(image.height * width / height), 2 * math.ceil(image.width * height / width)
    if image.width > widest:
        return image.extract_area((image.width - widest) // 2, 0, widest, image.height)
    if image.height > highest:
        return image.extract_area(0, (image.height - highest) // 2, image.width, highest)
    return image
