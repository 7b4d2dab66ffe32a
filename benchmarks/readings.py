"""Readings, rounds that take turns, medians and pairwise ratios.

A machine that other jobs share moves by a factor of two within minutes. So the contenders of a table take turns,
A B C A B C, and a ratio is the median of the ratios inside each round, never a quotient of two medians.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured run. Seconds are wall time; growth is peak minus resident memory just before, in MB."""

    seconds: float
    cpu: float | None = None
    growth_mb: float | None = None
    extra: Mapping[str, float] = field(default_factory=dict)


Contender: TypeAlias = Callable[[], Awaitable[Reading]]
Rounds: TypeAlias = dict[str, list[Reading]]


async def interleave(contenders: Mapping[str, Contender], rounds: int) -> tuple[dict[str, Reading], Rounds]:
    """Run all in turn, one warm-up round and then ``rounds`` that count; gives both."""
    warm = {name: await run() for name, run in contenders.items()}
    return warm, await in_turn(contenders, rounds)


async def in_turn(contenders: Mapping[str, Contender], rounds: int) -> Rounds:
    """Run all in turn, ``rounds`` times."""
    taken: Rounds = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            taken[name].append(await run())
    return taken


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def median_of(readings: Sequence[Reading], what: Callable[[Reading], float | None]) -> float | None:
    """Median of a figure that not every contender has; None when none has it."""
    values = [value for value in map(what, readings) if value is not None]
    return statistics.median(values) if values else None


def worst_of(readings: Sequence[Reading], what: Callable[[Reading], float | None]) -> float | None:
    values = [value for value in map(what, readings) if value is not None]
    return max(values) if values else None


def ratio(rounds: Rounds, name: str, base: str) -> float:
    """Median over the rounds of wall time of ``name`` over that of ``base`` in the same round."""
    pairs = zip(rounds[name], rounds[base], strict=True)
    return statistics.median(one.seconds / other.seconds for one, other in pairs)
