"""The limit that follows a service."""

from __future__ import annotations

import pytest

from mediagen.net.aimd import AimdLimit


def test_a_full_round_of_successes_raises_it_by_one_up_to_the_maximum() -> None:
    limit = AimdLimit(5)
    limit.halve()
    assert limit.limit == 2

    limits = []
    for _ in range(2 + 3 + 4 + 5):
        limit.succeed()
        limits.append(limit.limit)

    assert limits == [2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5]


@pytest.mark.parametrize(("calls", "halved"), [(None, 8), (16, 8), (6, 3), (40, 8), (1, 1)])
def test_it_halves_what_was_too_much(calls: int | None, halved: int) -> None:
    limit = AimdLimit(16)

    limit.halve(calls)

    assert limit.limit == halved


def test_it_never_falls_below_one_and_a_halving_begins_a_round_anew() -> None:
    limit = AimdLimit(4)
    limit.succeed()
    for _ in range(5):
        limit.halve()
    assert limit.limit == 1

    limit.succeed()
    limit.succeed()
    limit.halve()
    limit.succeed()

    assert limit.limit == 2


def test_there_is_room_below_the_limit() -> None:
    limit = AimdLimit(1)
    assert limit.has_room

    limit.begin()
    assert (limit.in_flight, limit.has_room) == (1, False)

    limit.end()
    assert limit.has_room
