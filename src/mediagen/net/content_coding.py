"""``Content-Encoding`` of an answer: the codings that have to be undone, and none that encodes nothing.

The field is a list (RFC 9110 section 8.4). Stores and frameworks put all sorts of words into it that stand for no
coding: ``aws-chunked`` (the framing of an upload), character sets, ``binary``, ``none``, ``base64`` for bytes that are
none. Only words that name a known compression are believed to encode something.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

_ENCODE: Final = frozenset(
    {"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip"}
    | {"bzip2", "x-bzip2", "bz2", "x-bzip", "xz", "x-xz", "lzma", "lz4", "snappy", "sdch", "aes128gcm"}
)
"""The registry of IANA, and codings that are in use without being registered."""
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_GZIPPED_NAMES: Final = frozenset({".gz", ".tgz", ".taz", ".gzip", ".emz", ".wmz", ".vgz"})
_GZIPPED_TYPES: Final = frozenset(
    {
        "application/gzip",
        "application/x-gzip",
        "application/x-gtar",
        "application/x-tgz",
        "application/x-gtar-compressed",
    }
)


def parse_content_coding(headers: CIMultiDictProxy[str] | CIMultiDict[str]) -> str | None:
    """The coding of the body in lower case, several with commas between; None: the bytes are as they are."""
    words = [
        word.strip().strip('"').lower() for line in headers.getall("Content-Encoding", ()) for word in line.split(",")
    ]
    return ", ".join(word for word in words if word in _ENCODE) or None


def is_file_format(coding: str | None, media_type: str | None, filename: str) -> bool:
    """Whether a coding may be the file's own: what is named ``.tar.gz`` is meant to be kept as gzip.

    Web servers that label files by their extensions send ``Content-Encoding: x-gzip`` with such a file as it lies on
    their disk.
    """
    if coding not in _GZIP:
        return False
    claimed = (media_type or "").partition(";")[0].strip().lower()
    return claimed in _GZIPPED_TYPES or PurePosixPath(filename.lower()).suffix in _GZIPPED_NAMES
