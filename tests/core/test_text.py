"""Text that can be written, refused or repaired."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mediagen.core.errors import InvalidRequest
from mediagen.core.text import MAX_DEPTH, fault_in, refuse_invalid, repaired

HALF = "\ud800"


def nested(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value", [None, 1, 1.5, True, "", "ä", "😀", [1, "ä"], {"a": {"b": ["c"]}}, ("x",), nested(MAX_DEPTH - 1)]
)
def test_what_is_fit_stays_the_same_object(value: Any) -> None:
    assert fault_in(value) is None
    assert repaired(value) is value


@pytest.mark.parametrize(
    ("value", "where", "shown"),
    [
        (HALF, "", "\ufffd"),
        ("a\udcffb", "", "a\ufffdb"),
        ("\ude00\ud83d", "", "\ufffd\ufffd"),
        ({"a": {"b": HALF}, "c": 1}, "a.b", {"a": {"b": "\ufffd"}, "c": 1}),
        ([0, ["x", HALF]], "1.1", [0, ["x", "\ufffd"]]),
        ({f"a{HALF}": 1}, "a\ufffd", {"a\ufffd": 1}),
        ({"a": ({HALF: [HALF]},)}, "a.0.\ufffd", {"a": [{"\ufffd": ["\ufffd"]}]}),
    ],
)
def test_the_first_fault_is_named_and_all_are_repaired(value: Any, where: str, shown: Any) -> None:
    assert fault_in(value) == where
    assert repaired(value) == shown
    json.dumps(repaired(value), ensure_ascii=False).encode()


def test_what_is_nested_too_deeply_is_cut() -> None:
    cut = json.dumps(repaired(nested(5 * MAX_DEPTH)))

    assert cut.count("{") == MAX_DEPTH
    assert fault_in(nested(5 * MAX_DEPTH)) is not None


def test_a_refusal_names_the_field() -> None:
    with pytest.raises(InvalidRequest, match=r"request\.a\.0: the text is not valid Unicode") as raised:
        refuse_invalid({"a": [HALF]}, "request")

    assert raised.value.context["field"] == "request.a.0"
