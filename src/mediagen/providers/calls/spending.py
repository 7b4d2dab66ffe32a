"""What the providers say that their work took and cost, added up since the start."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from mediagen.providers.base import Usage

UNITS: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": ("input_tokens", "promptTokenCount", "total_input_tokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "candidatesTokenCount", "total_output_tokens", "completion_tokens"),
    "compute_seconds": ("predict_time", "inference_time", "inference_time_s"),
    "media_seconds": ("total_seconds", "output_seconds", "seconds", "total_duration_seconds"),
    "images": ("images", "image_count"),
}
"""Units by the vendors' names for them. Of several in one report the first counts: gateways say the same twice."""


class Spending:
    """By provider; names are those of the settings, so there are only so many."""

    def __init__(self) -> None:
        self.cost_usd: dict[str, float] = defaultdict(float)
        self.used: dict[tuple[str, str], float] = defaultdict(float)
        """By provider and unit."""

    def note(self, provider: str, usage: Usage) -> None:
        """Add what one piece of work took."""
        if usage.cost_usd is not None:
            self.cost_usd[provider] += usage.cost_usd
        for unit, names in UNITS.items():
            amount = next((found for name in names if (found := amount_of(usage.reported.get(name))) is not None), None)
            if amount is not None:
                self.used[provider, unit] += amount


def amount_of(value: object) -> float | None:
    """A vendor's number, if it is one that can be added up."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        amount = float(value)
    except OverflowError:
        return None
    return amount if math.isfinite(amount) and amount >= 0 else None
