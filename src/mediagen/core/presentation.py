"""How stored bytes are presented to a browser: type, disposition, cache life.

One rule for our own answers, for presigned links and for the object in the bucket itself, whose own URL (or a CDN's)
knows nothing of our headers. What is shown in a page is on a list of raster images, video and audio; everything else
could hold a script (HTML, SVG, XML, PDF and whatever comes next) and is only ever an attachment of no type.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

PLAIN_BYTES: Final = "application/octet-stream"
OBJECT_CACHE: Final = "public, max-age=86400, immutable"
"""``Cache-Control`` of an object: its key is used once, so its bytes never change. A day, since files are deleted."""

_SHOWN: Final = frozenset(
    {
        *(f"image/{name}" for name in ("png", "jpeg", "gif", "webp", "avif", "bmp", "heic", "heif")),
        *(f"video/{name}" for name in ("mp4", "webm", "ogg", "quicktime", "x-matroska", "x-msvideo", "mpeg", "mp2t")),
        *(f"audio/{name}" for name in ("mpeg", "ogg", "flac", "wav", "mp4", "aac", "webm", "x-matroska")),
    }
)
_NOT_PLAIN: Final = re.compile(r'[^ -~]|["\\%]')
"""What a quoted file name had better not contain (RFC 6266, appendix D)."""


def may_be_shown(media_type: str) -> bool:
    """Whether a browser may show it in a page: it is on the list of what cannot hold a script."""
    return media_type in _SHOWN


def served_type(media_type: str) -> str:
    """The ``Content-Type`` to send for a file of ``media_type``."""
    return media_type if may_be_shown(media_type) else PLAIN_BYTES


def disposition(filename: str, *, attachment: bool) -> str:
    """``Content-Disposition`` with the name in both forms of RFC 6266; folders in it are dropped, none is left out."""
    kind = "attachment" if attachment else "inline"
    name = filename.rpartition("/")[2]
    if not name:
        return kind
    plain = _NOT_PLAIN.sub("_", name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
