"""The circuit of a provider: closed, open, half open."""

from __future__ import annotations

import pytest

from mediagen.providers.calls.circuit_breaker import (
    ACCOUNT_PAUSE,
    FAILURES,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    CircuitBreaker,
    CircuitState,
)
from tests.providers.calls.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock)


def fail(circuit: CircuitBreaker, times: int = 1, *, account: bool = False) -> None:
    for _ in range(times):
        circuit.failed(circuit.begin(), "it is sick", account=account)


def state(circuit: CircuitBreaker) -> tuple[CircuitState, bool, float]:
    return circuit.state, circuit.admits, circuit.opens_in


def test_failures_in_a_row_open_it(circuit: CircuitBreaker) -> None:
    fail(circuit, FAILURES - 1)
    assert state(circuit) == (CircuitState.CLOSED, True, 0.0)
    circuit.answered(circuit.begin())
    fail(circuit, FAILURES - 1)
    assert state(circuit) == (CircuitState.CLOSED, True, 0.0)

    fail(circuit)

    assert state(circuit) == (CircuitState.OPEN, False, FIRST_PAUSE)
    assert circuit.reason == "it is sick"


def test_after_the_pause_one_call_finds_out(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit, FAILURES)
    opened = circuit.since
    clock.forward(FIRST_PAUSE)
    assert state(circuit) == (CircuitState.HALF_OPEN, True, 0.0)

    probe = circuit.begin()
    clock.forward(2.0)
    assert state(circuit) == (CircuitState.HALF_OPEN, False, 0.0)
    assert (circuit.found_out_for, circuit.since) == (2.0, opened)
    circuit.answered(probe)

    assert state(circuit) == (CircuitState.CLOSED, True, 0.0)
    assert (circuit.found_out_for, circuit.reason) == (None, None)
    assert circuit.since > opened


def test_a_call_that_finds_it_sick_doubles_the_pause(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit, FAILURES)
    opened, pauses = circuit.since, []
    for _ in range(8):
        pauses.append(circuit.opens_in)
        clock.forward(circuit.opens_in)
        fail(circuit)

    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]
    assert circuit.opens_in == LONGEST_PAUSE
    assert circuit.since == opened, "all the time"


def test_the_pause_is_short_again_once_it_was_well(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit, FAILURES)
    clock.forward(FIRST_PAUSE)
    fail(circuit)
    clock.forward(2 * FIRST_PAUSE)
    circuit.answered(circuit.begin())

    fail(circuit, FAILURES)

    assert circuit.opens_in == FIRST_PAUSE


def test_a_call_that_tells_nothing_leaves_it_to_the_next(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit, FAILURES)
    clock.forward(FIRST_PAUSE)

    circuit.ended(circuit.begin())

    assert state(circuit) == (CircuitState.HALF_OPEN, True, 0.0)


def test_calls_of_before_it_opened_neither_close_nor_lengthen_it(circuit: CircuitBreaker, clock: Clock) -> None:
    late = [circuit.begin() for _ in range(3)]
    fail(circuit, FAILURES)
    clock.forward(1.0)

    circuit.answered(late[0])
    circuit.failed(late[1], "late", account=False)
    assert state(circuit) == (CircuitState.OPEN, False, FIRST_PAUSE - 1)
    clock.forward(FIRST_PAUSE)
    circuit.begin()
    circuit.ended(late[2])

    assert not circuit.admits, "the one that finds out is still on its way"


def test_one_answer_that_the_account_is_refused_is_enough(circuit: CircuitBreaker) -> None:
    fail(circuit, account=True)

    assert state(circuit) == (CircuitState.OPEN, False, ACCOUNT_PAUSE)
