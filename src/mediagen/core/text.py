"""Text that can leave the server again: Unicode that has a UTF-8 (no halves of surrogate pairs).

JSON may write ``"\\ud800"`` (RFC 8259 section 8.2), and bytes of a header that are no UTF-8 come as such halves too.
What callers send is refused, what providers say is repaired, before either enters a row; what a row has all the same
is repaired when it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mediagen.core.errors import InvalidRequest

MAX_DEPTH: Final = 100
"""Levels of a value that are kept; writers of JSON stop somewhere above."""
NOT_UNICODE: Final = "is not valid Unicode: it has half of a surrogate pair"
_CUT: Final = "[deeply nested]"


def is_valid(text: str) -> bool:
    """Whether ``text`` has a UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def repaired_text(text: str) -> str:
    """``text`` with U+FFFD in the place of what has no UTF-8."""
    if is_valid(text):
        return text
    return "".join(char if is_valid(char) else "\N{REPLACEMENT CHARACTER}" for char in text)


def repaired(value: Any, depth: int = 0) -> Any:
    """A JSON value as it can be written, cut below ``MAX_DEPTH`` levels; the same object when nothing is wrong."""
    if isinstance(value, str):
        return repaired_text(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth >= MAX_DEPTH:
        return _CUT
    if isinstance(value, Mapping):
        items = [(repaired(name, depth + 1), repaired(item, depth + 1)) for name, item in value.items()]
        same = all(pair[0] is name and pair[1] is value[name] for pair, name in zip(items, value, strict=True))
        return value if same else dict(items)
    several = [repaired(item, depth + 1) for item in value]
    return value if all(new is old for new, old in zip(several, value, strict=True)) else several


def fault_in(value: Any, depth: int = 0) -> str | None:
    """Where in a JSON value the first text without a UTF-8 is, levels joined by dots; "" for ``value`` itself.

    None: nowhere. A name is told by where it stands, for it cannot be written itself.
    """
    if isinstance(value, str):
        return None if is_valid(value) else ""
    if not isinstance(value, Mapping | list | tuple):
        return None
    if depth >= MAX_DEPTH:
        return ""
    named = value.items() if isinstance(value, Mapping) else ((str(index), item) for index, item in enumerate(value))
    for name, item in named:
        if not is_valid(str(name)):
            return repaired_text(str(name))
        if (below := fault_in(item, depth + 1)) is not None:
            return f"{name}.{below}" if below else str(name)
    return None


def refuse_invalid(value: Any, field: str | None = None) -> None:
    """Raise InvalidRequest, naming the field, unless all text in ``value`` has a UTF-8.

    ``field``: the name of ``value`` itself.
    """
    fault = fault_in(value)
    if fault is None:
        return
    where = ".".join(part for part in (field, fault) if part) or None
    said = f"{where[:200]}: the text {NOT_UNICODE}" if where else f"the text {NOT_UNICODE}"
    raise InvalidRequest(said, field=where[:200] if where else None)
