"""What the end-to-end tests share."""

from __future__ import annotations

import random

import pytest

from tests.e2e.traffic import Traffic
from tests.infra.faultproxy import FaultProxyThread


@pytest.fixture
def traffic(fault_proxy: FaultProxyThread) -> Traffic:
    """What goes through the fault proxy to the store."""
    return Traffic(fault_proxy)


@pytest.fixture
def chance() -> random.Random:
    """Random moments; the seed is shown with a failed test."""
    seed = random.getrandbits(32)
    print(f"random moments: seed {seed}")
    return random.Random(seed)
