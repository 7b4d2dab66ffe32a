from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.errors import InvalidRequest
from mediagen.providers.calls import lenient_json as foreign
from mediagen.streams.json.parser import MAX_FOREIGN_VALUES, has_more_values, parse
from mediagen.streams.json.scanner import JsonFieldScanner, Rules

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text('",[]{}\\\\', max_size=8)
DOCUMENTS = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def values_in(document: Any) -> int:
    """Containers and what separates their members."""
    if isinstance(document, dict | list):
        inside = document.values() if isinstance(document, dict) else document
        return 1 + max(0, len(document) - 1) + sum(values_in(each) for each in inside)
    return 0


@given(DOCUMENTS, st.booleans())
def test_a_document_comes_out_as_it_is_and_its_values_are_counted(document: Any, ascii_only: bool) -> None:
    raw = json.dumps(document, ensure_ascii=ascii_only).encode()
    count = values_in(document)

    assert parse(raw) == document
    assert not has_more_values(raw, count)
    assert count == 0 or has_more_values(raw, count - 1)


@given(st.binary(max_size=60) | st.text('{}[]",:\\\\ud0a1 -.eNaI', max_size=60).map(str.encode))
def test_any_bytes_are_a_document_or_an_error_of_ours(raw: bytes) -> None:
    try:
        document = parse(raw)
    except InvalidRequest:
        return
    json.dumps(document, allow_nan=False).encode()
    json.dumps(document, ensure_ascii=False).encode()


@pytest.mark.parametrize("most", [10, 1000])
def test_a_string_of_commas_is_one_value(most: int) -> None:
    raw = json.dumps({"prompt": ", [{" * 100_000 + '"\\'}).encode()

    assert parse(raw, max_values=most)["prompt"].startswith(", [{,")
    assert has_more_values(raw[: -len('"}')], most) is False  # nor is one that does not end


def wide(count: int) -> bytes:
    return b'{"b64": "QUJD", "x": [' + b"1," * count + b"1]}"


def test_what_others_wrote_has_so_many_values_too() -> None:
    assert len(foreign.parsed(wide(MAX_FOREIGN_VALUES - 10))["x"]) == MAX_FOREIGN_VALUES - 9
    with pytest.raises(ValueError, match="values"):
        foreign.parsed(wide(MAX_FOREIGN_VALUES))


@pytest.mark.parametrize("step", [1000, 1 << 20])
@pytest.mark.parametrize("strict", [False, True])
def test_a_scanner_stops_at_the_value_that_is_too_many(step: int, strict: bool) -> None:
    raw = wide(5000)
    scanner = JsonFieldScanner([("b64",)], Rules(max_values=1000, strict=strict))
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
    with pytest.raises(InvalidRequest, match="more than 1000 values"):
        _ = [list(scanner.feed(piece)) for piece in pieces]

    enough = JsonFieldScanner([("b64",)], Rules(max_values=5010, strict=strict))
    list(enough.feed(raw))
    enough.finish()
    assert len(enough.document["x"]) == 5001
