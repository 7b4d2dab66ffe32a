"""Somebody's picture, decoded with care: formats that are expected, no more pixels than are allowed. Blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mediagen.core.errors import UnsupportedMedia
from mediagen.streams.sniff import sniff

if TYPE_CHECKING:
    import pyvips

_LYING: Final = 5
"""EXIF orientations from here on have width and height changed."""
_LOADERS: Final = {
    "image/png": "pngload_buffer",
    "image/jpeg": "jpegload_buffer",
    "image/webp": "webpload_buffer",
    "image/gif": "gifload_buffer",
}


def covering(data: bytes, width: int, height: int, max_pixels: int) -> pyvips.Image:
    """The picture, turned upright, scaled and cut so that it fills the box: three bands of sRGB.

    Decoded row by row and made smaller on the way, so memory depends on the box. Raises UnsupportedMedia for anything
    but PNG, JPEG, WebP and GIF, for what is broken, and for more than ``max_pixels``.
    """
    import pyvips

    loader = _LOADERS.get(sniff(data[:64]) or "")
    if loader is None:
        raise UnsupportedMedia("the picture is neither PNG, JPEG, WebP nor GIF", param="image")
    try:
        image = getattr(pyvips.Image, loader)(data, access="sequential", fail_on="truncated")
        if image.width * image.height > max_pixels:
            raise UnsupportedMedia(f"the picture has more than {max_pixels} pixels", param="image")
        lies = image.get_typeof("orientation") != 0 and image.get("orientation") >= _LYING
        box = (height, width) if lies else (width, height)
        small = image.thumbnail_image(box[0], height=box[1], crop="centre", size="both", no_rotate=True).copy_memory()
        upright = small.autorot().colourspace("srgb")
        if upright.hasalpha():
            upright = upright.flatten(background=[255, 255, 255])
        return upright.cast("uchar").copy_memory()
    except pyvips.Error as exc:
        raise UnsupportedMedia(
            "the picture cannot be decoded: it is broken", param="image", said=str(exc)[:200]
        ) from None
