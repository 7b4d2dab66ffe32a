"""How the server gets on with its providers, as its operator sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.infra.content import content_bytes
from tests.infra.servers.vendor import Say, VendorServer
from tests.providers.vendor_servers import KEY, b64
from tests.web.conftest import House, Start
from tests.web.ops.test_metrics import scrape

PATH = "/v1/images/generations"
PNG = b"\x89PNG\r\n\x1a\n" + content_bytes(3000)


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
async def paid(start: Start, vendor: VendorServer) -> House:
    own = {"type": "openai", "engine": "generic", "base_url": f"{vendor.url}/v1", "api_key": KEY, "models": ["m"]}
    return await start(real=True, providers={"paid": {**own, "max_parallel": 4}})


async def ask(house: House, **fields: Any) -> tuple[int, Any]:
    status, answer, _ = await house.ask("POST", PATH, json={"model": "m", "prompt": "A fox", **fields})
    return status, answer


async def listed(house: House) -> dict[str, Any]:
    status, page, _ = await house.ask("GET", "/v1/providers")
    assert (status, page["object"]) == (200, "list")
    return {each["name"]: each for each in page["data"]}


async def test_a_provider_that_works(paid: House, vendor: VendorServer) -> None:
    usage = {"input_tokens": 7, "output_tokens": 9, "cost": 0.02}
    vendor.on("POST", PATH, Say({"data": [{"b64_json": b64(PNG)}], "usage": usage}))
    for _ in range(2):
        assert (await ask(paid))[0] == 200

    providers, values = await listed(paid), await scrape(paid)

    assert list(providers) == ["paid", "builtin"]
    assert (providers["paid"]["type"], providers["paid"]["retry_after"]) == ("openai", None)
    assert datetime.fromisoformat(providers["paid"]["circuit"].pop("since"))
    assert providers["paid"]["circuit"] == {"state": "closed", "reason": None}
    calls = {"limit": 4, "ceiling": 4, "in_flight": 0, "waiting": 0, "pause_reason": None}
    assert providers["paid"]["calls"] == calls
    assert (providers["builtin"]["circuit"], providers["builtin"]["calls"]) == (None, None)
    for name, value in {
        "circuit_state{provider=paid}": 0,
        "limit{provider=paid}": 4,
        "in_flight{provider=paid}": 0,
        "waiting{provider=paid}": 0,
        "pause_seconds{provider=paid}": 0,
        "calls_total{outcome=done,provider=paid}": 2,
        "calls_total{outcome=rate_limited,provider=paid}": 0,
        "cost_usd_total{provider=paid}": 0.04,
        "usage_total{provider=paid,unit=input_tokens}": 14,
        "usage_total{provider=paid,unit=output_tokens}": 18,
    }.items():
        assert values[f"mediagen_provider_{name}"] == value, name


async def test_one_that_refuses_our_key_is_left_alone_and_the_server_takes_work(
    paid: House, vendor: VendorServer
) -> None:
    vendor.on("POST", PATH, Say({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401))
    await ask(paid)

    status, answer = await ask(paid)

    assert (status, answer["error"]["code"]) == (502, "provider_error")
    assert "rejected this server's key" in answer["error"]["message"]
    assert len(vendor.calls("POST")) == 1
    provider, values = (await listed(paid))["paid"], await scrape(paid)
    assert provider["circuit"]["state"] == "open"
    assert provider["circuit"]["reason"] == "paid rejected this server's key (401)"
    assert 50 < provider["retry_after"] <= 60
    assert KEY not in str(provider)
    assert vendor.url not in str(provider)
    assert values["mediagen_provider_circuit_state{provider=paid}"] == 2
    assert values["mediagen_provider_calls_total{outcome=key_refused,provider=paid}"] == 1
    assert values["mediagen_provider_calls_total{outcome=not_asked,provider=paid}"] == 1
    ready, health = [await paid.ask("GET", path) for path in ("/readyz", "/healthz")]
    assert (ready[0], health[0], health[1]["circuits_open"]) == (200, 200, 1)
    _, tasks, _ = await paid.ask("GET", "/v1/tasks")
    told = [task["error"]["retry_after"] for task in tasks["data"]]  # the newest first
    assert told[1] is None
    assert 50 < told[0] <= 60


async def test_one_that_wants_to_be_asked_later_is_waited_for(paid: House, vendor: VendorServer) -> None:
    vendor.on("POST", PATH, Say({"error": {"message": "slow down"}}, 429, {"Retry-After": "100"}))
    _, task, _ = await paid.ask("POST", f"{PATH}/async", json={"model": "m", "prompt": "A fox"})
    async with asyncio.timeout(10):
        while (await listed(paid))["paid"]["calls"]["waiting"] == 0:
            await asyncio.sleep(0.01)

    provider = (await listed(paid))["paid"]

    assert (provider["circuit"]["state"], provider["calls"]["limit"]) == ("closed", 2)
    assert provider["calls"]["pause_reason"] == "paid is rate limiting this server: slow down"
    assert 90 < provider["retry_after"] <= 100
    _, shown, _ = await paid.ask("GET", f"/v1/tasks/{task['id']}")
    assert (shown["status"], shown["phase"]) == ("running", "waiting")
    await paid.ask("POST", f"/v1/tasks/{task['id']}/cancel")
    assert (await paid.ended(task["id"]))["status"] == "cancelled"
    assert (await listed(paid))["paid"]["calls"]["waiting"] == 0
