"""The names that a store takes. All are made by us; whatever else comes in is somebody else's doing."""

from __future__ import annotations

import re
from typing import Final

_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")


def is_token(text: str) -> bool:
    """Whether ``text`` could be a token of ours."""
    return _TOKEN.fullmatch(text) is not None


def check_key(key: str) -> str:
    """``key``: relative, ``/``-separated, no piece that begins with a dot.

    Neither a file system nor a URL can read anything else into it. Raises ValueError for any other.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a key of this store: {key!r}")
    return key


def check_token(token: str) -> str:
    """``token``, usable as a file name and as metadata of an object. Raises ValueError for any other."""
    if not is_token(token):
        raise ValueError("a token is 8 to 64 letters, digits, dashes and underscores")
    return token
