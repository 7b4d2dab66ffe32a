"""How many requests a caller may make, and who counts as one caller."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from mediagen.core.errors import RateLimited
from mediagen.pipelines.settings import LimitsSettings
from mediagen.web.http.forwarded import Forwarded, network_of
from mediagen.web.middleware.rate_limit import RATE_HEADERS, Buckets, Rates
from mediagen.web.settings import ServerSettings
from tests.infra.rawclient import Seen, connected
from tests.web.conftest import House, Start


class Clock:
    """Time in the test's hands; seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_minute_and_fills_steadily() -> None:
    clock = Clock()
    buckets = Buckets(60, clock=clock)

    left = [buckets.take("a")[0].remaining for _ in range(60)]
    _, wait = buckets.take("a")

    assert left == list(range(59, -1, -1))
    assert wait == pytest.approx(1.0)
    clock.now += 1.0
    assert buckets.take("a")[1] == 0.0
    assert buckets.take("a")[1] > 0
    clock.now += 3600
    assert buckets.take("a")[0].remaining == 59


def test_one_caller_costs_another_nothing() -> None:
    buckets = Buckets(1, clock=Clock())

    assert [buckets.take(source)[1] > 0 for source in ("a", "a", "b", "b")] == [False, True, False, True]


def test_a_million_sources_take_no_more_room_than_the_last_ones() -> None:
    clock = Clock()
    buckets = Buckets(600, clock=clock, most=1000)

    for number in range(1_000_000):
        buckets.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")

    assert len(buckets) == 1000
    assert buckets.take("10.15.66.63")[0].remaining == 598  # the last one is remembered
    assert sys.getsizeof(buckets._full_at) < 200_000


def test_full_buckets_are_forgotten() -> None:
    clock = Clock()
    buckets = Buckets(600, clock=clock)
    for number in range(100):
        buckets.take(str(number))

    clock.now += 1
    for _ in range(100):
        buckets.take("new")

    assert len(buckets) == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_whom_we_count_as_one(address: str, network: str) -> None:
    assert network_of(address) == network


# -- over HTTP


async def statuses(house: House, count: int, **options: Any) -> list[int]:
    return [(await house.ask("GET", "/v1/tasks", **options))[0] for _ in range(count)]


async def test_one_request_too_many_is_told_when_to_come_back(start: Start) -> None:
    house = await start(limits={"requests_per_minute_per_ip": 3})

    assert await statuses(house, 3) == [200, 200, 200]
    status, problem, headers = await house.ask("GET", "/v1/tasks")

    assert (status, problem["code"], problem["retryable"]) == (429, "rate_limited", True)
    assert 0 < int(headers["Retry-After"]) <= 20
    assert [headers[name] for name in RATE_HEADERS] == ["3", "0", "60s"]


async def test_every_counted_answer_says_what_is_left(house: House) -> None:
    _, _, headers = await house.ask("GET", "/v1/tasks")

    assert [headers[name] for name in RATE_HEADERS] == ["600", "599", "1s"]


async def test_unknown_paths_foreign_names_and_pages_count_too(start: Start) -> None:
    house = await start(limits={"requests_per_minute_per_ip": 3})

    asked = [
        ("GET", "/nowhere", {}),
        ("GET", "/v1/tasks", {"Host": "evil.example"}),
        ("POST", "/v1/ingest", {"Origin": "https://evil.example"}),
        ("GET", "/v1/tasks", {}),
    ]

    answered = [(await house.ask(method, path, headers=headers))[0] for method, path, headers in asked]

    assert answered == [404, 403, 403, 429]


@pytest.mark.parametrize("base_path", ["", "/media"])
async def test_health_is_never_refused(start: Start, base_path: str) -> None:
    house = await start(limits={"requests_per_minute_per_ip": 1}, server={"base_path": base_path})

    asked = [(await house.ask("GET", path))[0] for path in ("/livez", "/readyz", "/healthz") * 2]

    assert asked == [200] * 6
    assert await statuses(house, 2) == [200, 429]


async def test_a_made_up_header_changes_nothing(start: Start) -> None:
    house = await start(limits={"requests_per_minute_per_ip": 2})

    answered = [
        (await house.ask("GET", "/v1/tasks", headers={"X-Forwarded-For": f"192.0.2.{number}"}))[0]
        for number in range(3)
    ]

    assert answered == [200, 200, 429]


async def test_behind_a_proxy_each_caller_has_a_limit_of_his_own(start: Start) -> None:
    house = await start(limits={"requests_per_minute_per_ip": 1}, server={"trusted_proxies": ["127.0.0.0/8"]})

    async def ask(forwarded: str) -> int:
        return (await house.ask("GET", "/v1/tasks", headers={"X-Forwarded-For": forwarded}))[0]

    assert [await ask("192.0.2.1"), await ask("192.0.2.1"), await ask("192.0.2.2")] == [200, 429, 200]
    # what the caller wrote himself stands before what the proxy added
    assert [await ask("203.0.113.5, 192.0.2.3"), await ask("203.0.113.6, 192.0.2.3")] == [200, 429]
    assert [await ask("2001:db8::1"), await ask("2001:db8::2"), await ask("2001:db8:0:1::1")] == [200, 429, 200]


async def test_a_feed_counts_once(start: Start) -> None:
    house = await start(limits={"requests_per_minute_per_ip": 2})

    async with house.client.ws_connect(f"{house.url}/v1/ws") as socket:
        for _ in range(10):
            await socket.send_json({"type": "ping"})
            assert (await socket.receive_json())["type"] == "pong"

    assert await statuses(house, 2) == [200, 429]


async def test_no_limit_means_none(start: Start) -> None:
    house = await start(limits={"requests_per_minute_per_ip": 0})

    assert await statuses(house, 30) == [200] * 30
    _, _, headers = await house.ask("GET", "/v1/tasks")
    assert not set(RATE_HEADERS) & {name.lower() for name in headers}


def _upload(port: int, head: str) -> Seen:
    with connected(port) as client:
        client.send(f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
        return client.read()


async def test_it_is_refused_before_its_body_is_invited(start: Start) -> None:
    house = await start(limits={"requests_per_minute_per_ip": 1})
    await statuses(house, 1)

    seen = await asyncio.to_thread(_upload, house.instance.port, "Expect: 100-continue\r\nContent-Length: 5000000")

    assert (seen.status, seen.end) == (429, "fin")
    assert b"100 Continue" not in seen.data
    assert seen.head["connection"] == "close"


# -- keys


class Asked(dict[Any, Any]):
    """As much of a request as the limit of a key looks at."""

    path = "/v1/tasks"


def test_a_key_has_a_limit_wherever_it_is_used() -> None:
    clock = Clock()
    forwarded = Forwarded(ServerSettings())
    rates = Rates(LimitsSettings(requests_per_minute=2), forwarded, base_path="", clock=clock)

    def ask(key_id: str) -> None:
        rates.check_key(Asked(), key_id)  # type: ignore[arg-type]

    ask("key_1")
    ask("key_1")
    ask("key_2")
    with pytest.raises(RateLimited) as refused:
        ask("key_1")

    assert refused.value.retry_after == pytest.approx(30)
    clock.now += 30
    ask("key_1")
