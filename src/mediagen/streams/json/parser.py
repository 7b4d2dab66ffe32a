"""JSON that strangers wrote (RFC 8259), parsed whole: strictly, and never for long.

The standard library's parser holds the interpreter from a document's first byte to its last, in any thread. Its time
depends on how many values there are, hardly on bytes, so values are counted before it begins.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from mediagen.core.errors import InvalidRequest

MAX_VALUES: Final = 20_000
"""Members and items of a request: they take 20 ms. The largest call that we know of, a bulk one, has a thousand."""
MAX_FOREIGN_VALUES: Final = 100_000
"""The same of a provider's or a source's document."""
MAX_DEPTH: Final = 64
_MAX_DIGITS: Final = 1000
"""Characters of a number; a double is written in full with 767."""

_STRUCTURE: Final = b",[{"
_COUNTED: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)|[,\[{]', re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def has_more_values(data: bytes | bytearray, most: int) -> bool:
    """Whether a document has more than ``most`` values; what stands in strings is not counted.

    Quick: it looks no further than that, and not at all closely where there are fewer commas and brackets anyway.
    """
    if sum(data.count(char) for char in _STRUCTURE) <= most:
        return False
    found = 0
    for token in _COUNTED.finditer(data):
        found += data[token.start()] != 0x22
        if found > most:
            return True
    return False


def parse(data: bytes | bytearray, *, what: str = "the body", max_values: int = MAX_VALUES) -> Any:
    """The value of a document.

    Refused are, beside what is no JSON: NaN and infinities, numbers beyond a double or of more than a thousand
    characters, names that come twice in an object, halves of surrogate pairs, deep nesting and very many values.

    Raises:
        InvalidRequest: the text begins with ``what``.
    """
    if has_more_values(data, max_values):
        raise InvalidRequest(f"{what} has more than {max_values} values")

    def refused(why: str) -> InvalidRequest:
        return InvalidRequest(f"{what} is not JSON: {why}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise InvalidRequest(f"{what} names a field twice")
        return members

    def no_constant(name: str) -> object:
        raise refused(f"{name} is no JSON number")

    def integer(text: str) -> int:
        if len(text) > _MAX_DIGITS:
            raise InvalidRequest(f"{what} has a number of more than {_MAX_DIGITS} digits")
        return int(text)

    def real(text: str) -> float:
        if len(text) > _MAX_DIGITS:
            raise InvalidRequest(f"{what} has a number of more than {_MAX_DIGITS} digits")
        if not math.isfinite(value := float(text)):
            raise InvalidRequest(f"{what} has a number that is too large: {text[:40]}")
        return value

    try:
        text = data.decode("utf-8-sig")  # no other encoding: RFC 8259 section 8.1
    except UnicodeDecodeError:
        raise InvalidRequest(f"{what} is not UTF-8") from None
    try:
        document = json.loads(
            text, object_pairs_hook=unique, parse_constant=no_constant, parse_int=integer, parse_float=real
        )
    except json.JSONDecodeError as exc:
        raise refused(f"{exc.msg} at line {exc.lineno}, column {exc.colno}") from None
    except RecursionError:
        raise InvalidRequest(f"{what} is nested deeper than {MAX_DEPTH} levels") from None
    _check(document, what, MAX_DEPTH)
    return document


def _check(value: object, what: str, levels: int) -> None:
    if isinstance(value, str):
        if not value.isascii() and _SURROGATE.search(value):
            raise InvalidRequest(f"{what} has half of a surrogate pair, which is not a character")
    elif isinstance(value, dict | list):
        if not levels:
            raise InvalidRequest(f"{what} is nested deeper than {MAX_DEPTH} levels")
        for item in value:
            _check(item, what, levels - 1)
        if isinstance(value, dict):
            for item in value.values():
                _check(item, what, levels - 1)
