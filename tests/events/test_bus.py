from __future__ import annotations

import pytest

from mediagen.events.bus import MemoryBus
from tests.contracts.event_bus import EventBusContract


class TestMemoryBus(EventBusContract):
    @pytest.fixture
    def bus(self) -> MemoryBus:
        return MemoryBus(3, remembered=8)


def test_numbers_of_a_later_start_are_higher() -> None:
    early, late = MemoryBus(7), MemoryBus(8)
    for _ in range(10_000):
        early.next_seq()

    assert early.next_seq() < late.next_seq() < 2**53


@pytest.mark.parametrize("boot", [-1, 2**21])
def test_a_boot_that_does_not_fit_is_refused(boot: int) -> None:
    with pytest.raises(ValueError):
        MemoryBus(boot)


def test_leaving_forgets_the_listener() -> None:
    bus = MemoryBus(1)
    one, everything = bus.listen({"task_one", "task_two"}, print), bus.listen(None, print)
    assert bus.listeners == 2

    one.close()
    everything.close()

    assert bus.listeners == 0
