"""JSON that a provider wrote, made fit to be kept and handed on.

What JSON does not have, but writers put into it all the same (NaN, Infinity), and numbers that are beyond a double
become None; halves of surrogate pairs, which no UTF-8 can hold, become question marks. A paid result is not thrown away
for what stands beside it: null, or a value of another type, where an object, a list or a text should be, reads as an
empty one (``as_object``, ``as_list``, ``as_text``).
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from mediagen.streams.json.parser import MAX_FOREIGN_VALUES, has_more_values

_MOST: Final = 1 << 64
"""Seeds go up to here."""


def parsed(body: bytes | bytearray) -> Any:
    """The value of a whole document.

    Raises:
        ValueError: it is none, is nested too deeply, or has so many values that parsing it would stop the server.
    """
    if has_more_values(body, MAX_FOREIGN_VALUES):
        raise ValueError(f"it has more than {MAX_FOREIGN_VALUES} values")
    try:
        return plain(json.loads(body))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def plain(value: Any) -> Any:
    """A parsed value, made fit. As deeply nested as Python's stack allows, else RecursionError."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if -_MOST < value < _MOST else None
    return value


def as_object(value: object) -> dict[str, Any]:
    """``value`` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """``value`` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """``value`` if it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def as_whole(value: object) -> int | None:
    """``value`` if it is a whole number, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_id(value: object) -> str | None:
    """The id of a job, which some write as a number; None where there is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.strip() else None
