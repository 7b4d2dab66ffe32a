"""Behind proxies: who calls and by which name is what the proxy itself says, never what its caller wrote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from mediagen.web.http.forwarded import Forwarded
from mediagen.web.http.problems import Forbidden
from mediagen.web.middleware.origin_checks import OriginChecks
from mediagen.web.settings import ServerSettings
from tests.infra.rawclient import connected
from tests.infra.servers.proxies import Proxy, proxied
from tests.web.conftest import House, Start, stored

PROXIES: tuple[Proxy, ...] = ("haproxy", "nginx", "apache")
PROXY = {"trusted_proxies": ["127.0.0.1"]}
CALLER = "127.0.0.2"
"""The proxy is called from here: an address that is not trusted."""


def _ask(port: int, target: str, lines: tuple[str, ...]) -> tuple[int, Any]:
    with connected(port, source=CALLER) as client:
        client.send("\r\n".join([f"GET {target} HTTP/1.1", *lines, "Connection: close", "", ""]).encode())
        seen = client.read()
        return seen.status, seen.body


async def ask(port: int, *lines: str, target: str = "/v1/tasks") -> tuple[int, Any]:
    """Status and body of a request with these lines in its head."""
    return await asyncio.to_thread(_ask, port, target, lines)


@pytest.mark.parametrize("kind", PROXIES)
async def test_an_invented_address_does_not_evade_limits(start: Start, tmp_path: Path, kind: Proxy) -> None:
    house = await start(limits={"requests_per_minute_per_ip": 2}, server=PROXY)

    async with proxied(kind, house.instance.port, tmp_path / "proxy") as port:
        seen = []
        for number in range(3):
            invented = (f"X-Forwarded-For: 192.0.2.{number}", f"X-Forwarded-For: 198.51.100.{number}")
            seen.append((await ask(port, "Host: localhost", f"Forwarded: for=192.0.2.{number}", *invented))[0])

    assert seen == [200, 200, 429]


@pytest.mark.parametrize("kind", PROXIES)
async def test_an_invented_host_does_not_pass_allowed_hosts(start: Start, tmp_path: Path, kind: Proxy) -> None:
    house = await start(server={**PROXY, "allowed_hosts": ["media.example"]})

    async with proxied(kind, house.instance.port, tmp_path / "proxy") as port:
        honest, _ = await ask(port, "Host: media.example")
        invented, _ = await ask(port, "Host: evil.example", "X-Forwarded-Host: media.example")
        forwarded, _ = await ask(port, "Host: evil.example", "Forwarded: host=media.example")
        both, _ = await ask(port, "Host: media.example", "X-Forwarded-Host: evil.example")

    assert (honest, invented, forwarded, both) == (200, 403, 403, 200)


@pytest.mark.parametrize("kind", PROXIES)
async def test_links_name_what_the_proxy_was_called(start: Start, tmp_path: Path, kind: Proxy) -> None:
    house = await start(server={**PROXY, "allowed_hosts": ["media.example"]})
    file = await _file(house)

    async with proxied(kind, house.instance.port, tmp_path / "proxy", scheme="https") as port:
        invented = ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: http")
        _, body = await ask(port, "Host: media.example", *invented, target=f"/v1/files/{file}")

    assert json.loads(body)["url"].startswith(f"https://media.example/media/{file}?")


async def _file(house: House) -> str:
    house.client.headers["Host"] = "media.example"
    return (await stored(house)).id


def request(*headers: tuple[str, str], peer: str = "10.0.0.1", host: str = "inside") -> Any:
    """A request as it reaches us from ``peer``."""
    fields = CIMultiDict([("Host", host), *headers])
    made = make_mocked_request("GET", "/v1/tasks", fields)
    return made.clone(remote=peer)


def given(**settings: Any) -> ServerSettings:
    return ServerSettings(**{"host": "0.0.0.0", "trusted_proxies": ["10.0.0.0/8", "fd00::/8"]} | settings)


def forwarded(**settings: Any) -> Forwarded:
    return Forwarded(given(**settings))


@pytest.mark.parametrize(
    ("lines", "peer", "client"),
    [
        (["192.0.2.1"], "10.0.0.1", "192.0.2.1"),
        (["192.0.2.1"], "203.0.113.9", "203.0.113.9"),  # nobody whom we trust
        (["192.0.2.1", "198.51.100.1"], "10.0.0.1", "198.51.100.1"),
        (["192.0.2.1, 198.51.100.1", "10.0.0.7"], "10.0.0.1", "198.51.100.1"),
        (["198.51.100.1", "10.0.0.7, 10.0.0.8", "10.1.1.1"], "10.0.0.1", "198.51.100.1"),
        (["10.0.0.7", "10.0.0.8"], "10.0.0.1", "10.0.0.7"),
        (["192.0.2.1, unknown"], "10.0.0.1", "10.0.0.1"),
        (["192.0.2.1", "", "10.0.0.9"], "10.0.0.1", "10.0.0.9"),
        ([], "10.0.0.1", "10.0.0.1"),
        (["198.51.100.1:5678"], "10.0.0.1", "198.51.100.1"),
        (["[2001:db8::7]:443"], "10.0.0.1", "2001:db8::7"),
        (["2001:db8::7"], "fd00::1", "2001:db8::7"),
        (["198.51.100.1"], "::ffff:10.0.0.1", "198.51.100.1"),  # a socket for both families says it so
        (["192.0.2.1", "::ffff:198.51.100.1"], "10.0.0.1", "198.51.100.1"),
    ],
)
def test_the_client_is_the_last_one_that_is_no_proxy(lines: list[str], peer: str, client: str) -> None:
    assert forwarded().client(request(*(("X-Forwarded-For", line) for line in lines), peer=peer)) == client


@pytest.mark.parametrize(
    ("headers", "peer", "base"),
    [
        ([("X-Forwarded-Host", "a.example"), ("X-Forwarded-Proto", "https")], "10.0.0.1", "https://a.example"),
        ([("X-Forwarded-Host", "a.example"), ("X-Forwarded-Proto", "https")], "192.0.2.1", "http://inside"),
        ([("X-Forwarded-Host", "evil"), ("X-Forwarded-Host", "a.example")], "10.0.0.1", "http://a.example"),
        ([("X-Forwarded-Host", "evil, a.example:81")], "10.0.0.1", "http://a.example:81"),
        ([("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https")], "10.0.0.1", "https://inside"),
        ([("X-Forwarded-Proto", "wss")], "10.0.0.1", "https://inside"),
        ([("X-Forwarded-Proto", "javascript")], "10.0.0.1", "http://inside"),
        ([("Forwarded", "for=192.0.2.1;host=a.example;proto=https")], "10.0.0.1", "http://inside"),
    ],
)
def test_name_and_scheme_are_the_last_proxys(headers: list[tuple[str, str]], peer: str, base: str) -> None:
    assert forwarded().base(request(*headers, peer=peer)) == base


@pytest.mark.parametrize(
    ("settings", "headers", "passes"),
    [
        ({}, {"X-Forwarded-Host": "any.example"}, True),
        ({}, {"X-Forwarded-Host": "a.example/path"}, False),
        ({}, {"X-Forwarded-Host": "user@a.example"}, False),
        ({"allowed_hosts": ["a.example"]}, {"X-Forwarded-Host": "a.example/"}, False),
        ({"allowed_hosts": ["a.example"]}, {"X-Forwarded-Host": "A.example.:443"}, True),
        # links are made by public_url, but the name that was called is looked at all the same
        ({"allowed_hosts": ["a.example"], "public_url": "https://p.example"}, {"X-Forwarded-Host": "evil"}, False),
        ({"allowed_hosts": ["a.example"], "public_url": "https://p.example"}, {"X-Forwarded-Host": "p.example"}, True),
        ({"public_url": "https://p.example", "host": "127.0.0.1"}, {}, True),
    ],
)
def test_the_name_that_the_proxy_was_called_is_judged(
    settings: dict[str, Any], headers: Mapping[str, str], passes: bool
) -> None:
    with nullcontext() if passes else pytest.raises(Forbidden):
        OriginChecks(given(**settings), forwarded(**settings)).check_host(request(*headers.items()))
