"""What providers report, in few units."""

from __future__ import annotations

from typing import Any

import pytest

from mediagen.providers.base import Usage
from mediagen.providers.calls.spending import Spending, amount_of


@pytest.mark.parametrize(
    ("reported", "units"),
    [
        ({"input_tokens": 7, "output_tokens": 9, "total_tokens": 16}, {"input_tokens": 7, "output_tokens": 9}),
        ({"promptTokenCount": 5, "candidatesTokenCount": 1290}, {"input_tokens": 5, "output_tokens": 1290}),
        ({"input_tokens": 7, "prompt_tokens": 7}, {"input_tokens": 7}),
        ({"predict_time": 2.5, "total_time": 3.0}, {"compute_seconds": 2.5}),
        ({"inference_time": 1.5}, {"compute_seconds": 1.5}),
        ({"total_seconds": 6, "input_seconds": 0, "output_seconds": 6}, {"media_seconds": 6}),
        ({"images": 2}, {"images": 2}),
        ({"images": True, "input_tokens": "7", "predict_time": float("nan"), "seconds": -1, "x": 10**400}, {}),
    ],
)
def test_units_are_few(reported: dict[str, Any], units: dict[str, float]) -> None:
    spending = Spending()

    spending.note("paid", Usage(reported))

    assert {unit: amount for (_, unit), amount in spending.used.items()} == units
    assert spending.cost_usd == {}


def test_costs_add_up_by_provider() -> None:
    spending = Spending()

    for provider, cost in (("a", 0.25), ("b", 1.0), ("a", 0.5), ("a", None)):
        spending.note(provider, Usage({}, cost_usd=cost))

    assert spending.cost_usd == {"a": 0.75, "b": 1.0}


@pytest.mark.parametrize("value", [None, True, "1", float("inf"), float("nan"), -0.1, 10**400, {}])
def test_what_is_no_amount_is_none(value: object) -> None:
    assert amount_of(value) is None
