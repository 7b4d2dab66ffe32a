from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.errors import FetchFailed, InvalidRequest, UrlNotAllowed
from mediagen.net.requests import get
from mediagen.net.session import guarded_session, system_lookup
from mediagen.net.settings import FetchSettings
from tests.infra.resource import Answer, Resource, redirect_to
from tests.infra.servers.source import SourceServer

SETTINGS = FetchSettings(allow_cidrs=(ip_network("127.0.0.2/32"),), connect_seconds=2, first_byte_seconds=2)
NAMES: dict[str, list[str]] = {
    "forbidden.test": ["127.0.0.1"],
    "forbidden6.test": ["::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "mixed.test": ["127.0.0.1", "127.0.0.2", "::1", "127.0.0.3"],
    "allowed.test": ["127.0.0.2"],
    "many.test": ["127.0.0.1"] * 16 + ["127.0.0.2"] * 984,
    "crowd.test": ["127.0.0.2"] * 1000,
    "metadata.google.internal": ["169.254.169.254"],
    "localhost": ["127.0.0.1", "::1"],
}


class Names:
    """A resolver without a network: the names above, and literals in every spelling that the C library reads."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = dict(NAMES)

    def __call__(self, host: str, port: int, family: int) -> list[tuple[Any, Any, int, str, Any]]:
        self.asked.append(host)
        found = self.answers.get(host.lower().removesuffix("."), [host])
        return [
            answer
            for address in found
            for answer in socket.getaddrinfo(
                address, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_NUMERICHOST
            )
        ]


class Canaries:
    """Listeners on one port of addresses that must not be reached."""

    def __init__(self) -> None:
        self.port = 0
        self.sung: list[str] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Canaries]:
        async with AsyncExitStack() as stack:
            for host in ("127.0.0.1", "127.0.0.3", "::1"):

                def sing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str = host) -> None:
                    self.sung.append(host)
                    writer.close()

                server = await asyncio.start_server(sing, host, self.port)
                self.port = server.sockets[0].getsockname()[1]
                await stack.enter_async_context(server)
            yield self


@pytest.fixture
async def canaries() -> AsyncIterator[Canaries]:
    async with Canaries().listening() as all_of_them:
        yield all_of_them
        assert all_of_them.sung == []


@pytest.fixture
def allowed_source() -> Iterator[SourceServer]:
    """On the only address that may be reached."""
    with SourceServer("127.0.0.2") as server:
        yield server


async def status_of(url: str, *, names: Names | None = None, settings: FetchSettings = SETTINGS) -> int:
    async with guarded_session(settings, lookup=names or Names()) as session:
        response = await get(session, url, settings, {})
        status = response.status
        response.close()
        return status


SPELLINGS = [
    "127.0.0.1",
    "127.0.0.3",
    "127.1",
    "127.0.1",
    "0",
    "0.0.0.0",
    "2130706433",
    "0x7f000001",
    "0x7F.1",
    "0x7f.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "0000000177.0.0.1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fc00::1]",
    "[ff02::1]",
    "169.254.169.254",
    "[fd00:ec2::254]",
    "metadata.google.internal",
    "10.0.0.5",
    "255.255.255.255",
    "localhost",
    "LOCALHOST",
    "LocalHost.",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "127\u30020\u30020\u30021",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
    "localho\u017ft",
    "\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54",
    "forbidden.test",
    "forbidden6.test",
    "mapped.test",
    "many.test",
]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_a_forbidden_address_is_reached(host: str, canaries: Canaries) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await status_of(f"http://{host}:{canaries.port}/")

    # the answer tells nothing of what is behind
    assert not re.search(r"127|::1|0x7f|localhost|169\.254", refused.value.detail)


@pytest.mark.parametrize("host", ["256.0.0.1", "4294967296", "0x100000000", "127.0.0.1.1", "127.0.0.0x1g", "1.2.3.4.5"])
async def test_numbers_that_are_no_address_reach_nothing(host: str, canaries: Canaries) -> None:
    with pytest.raises((InvalidRequest, FetchFailed)):
        await status_of(f"http://{host}:{canaries.port}/")


@pytest.mark.parametrize("host", ["127.0.0.2", "allowed.test", "ALLOWED.test.", "crowd.test", "[::ffff:127.0.0.2]"])
async def test_what_is_allowed_is_reached(host: str, allowed_source: SourceServer, canaries: Canaries) -> None:
    allowed_source.add("/film", Resource(size=5))

    if host.startswith("["):  # a mapped address is allowed, yet this listener hears IPv4 alone
        with pytest.raises(FetchFailed):
            await status_of(f"http://{host}:1/film")
        return
    assert await status_of(f"http://{host}:{allowed_source.port}/film") == 200


async def test_of_mixed_answers_only_the_allowed_one_is_reached(canaries: Canaries) -> None:
    with SourceServer("127.0.0.2") as server:
        server.add("/film", Resource(size=5))
        async with Canaries().listening() as others:  # the forbidden answers listen too, on another port
            with pytest.raises(FetchFailed):
                await status_of(f"http://mixed.test:{others.port}/film")
            assert others.sung == []
        assert await status_of(f"http://mixed.test:{server.port}/film") == 200


async def test_a_name_that_changes_its_answer_is_judged_anew(allowed_source: SourceServer, canaries: Canaries) -> None:
    allowed_source.add("/film", Resource(size=5))
    names = Names()
    names.answers["rebind.test"] = ["127.0.0.2"]

    assert await status_of(f"http://rebind.test:{allowed_source.port}/film", names=names) == 200
    names.answers["rebind.test"] = ["127.0.0.1"]
    with pytest.raises(UrlNotAllowed):
        await status_of(f"http://rebind.test:{canaries.port}/film", names=names)

    assert names.asked == ["rebind.test", "rebind.test"]


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.1:{port}/",
        "//127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://0x7f.1:{port}/",
        "http://forbidden.test:{port}/x",
        "http://127.0.0.3:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
    ],
)
async def test_a_redirect_to_a_forbidden_address_is_not_followed(
    to: str, allowed_source: SourceServer, canaries: Canaries
) -> None:
    for status in (301, 302, 303, 307, 308):
        url = allowed_source.add(f"/{status}", Resource(always=redirect_to(to.format(port=canaries.port), status)))

        with pytest.raises(UrlNotAllowed):
            await status_of(url)

        assert len(allowed_source.requests(f"/{status}")) == 1


@pytest.mark.parametrize(
    "to",
    [
        "file:///etc/passwd",
        "data:text/plain,hello",
        "gopher://127.0.0.1/",
        "ftp://127.0.0.2/",
        "http://user@127.0.0.2/",
        "http://127.0.0.2\\@127.0.0.1/",
        "http://127.0.0.2:0/",
        "http://[::1",
        "http://",
        "http://a..b/",
        "http://127.0.0.2:99999/",
        "http://127.0.0.2/a b",
    ],
)
async def test_a_redirect_to_what_is_no_plain_url_is_not_followed(to: str, allowed_source: SourceServer) -> None:
    url = allowed_source.add("/jump", Resource(always=redirect_to(to)))

    with pytest.raises((InvalidRequest, FetchFailed)):
        await status_of(url)


async def test_a_refresh_header_is_no_redirect(allowed_source: SourceServer, canaries: Canaries) -> None:
    refresh = Answer(200, {"Refresh": f"0; url=http://127.0.0.1:{canaries.port}/"})

    assert await status_of(allowed_source.add("/page", Resource(always=refresh))) == 200


async def test_a_proxy_of_the_environment_is_not_used(
    allowed_source: SourceServer, canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canaries.port}")

    assert await status_of(allowed_source.add("/film", Resource(size=5))) == 200


async def test_a_request_says_little_and_keeps_no_cookies(allowed_source: SourceServer) -> None:
    url = allowed_source.add("/film", Resource(always=redirect_to("/next", Set_Cookie="a=b")))
    allowed_source.add("/next", Resource(size=5, headers={"Set-Cookie": "c=d"}))

    async with guarded_session(SETTINGS, lookup=Names()) as session:
        for _ in range(2):
            (await get(session, url, SETTINGS, {"Range": "bytes=0-"})).close()

    for request in allowed_source.log:
        assert set(request.headers) - {"cookie"} == {"host", "accept", "accept-encoding", "user-agent", "range"}
        assert request.headers["accept-encoding"] == "identity"
    assert [request.headers.get("cookie") for request in allowed_source.log] == [None, "a=b"] * 2


async def test_a_name_of_the_system_is_looked_up_and_judged(canaries: Canaries) -> None:
    with pytest.raises(UrlNotAllowed):
        async with guarded_session(SETTINGS) as session:
            await get(session, f"http://localhost:{canaries.port}/", SETTINGS, {})
    assert {answer[4][0] for answer in system_lookup("localhost", 80, socket.AF_UNSPEC)} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
async def test_a_name_that_cannot_be_resolved_is_a_failure_of_the_source(error: Exception) -> None:
    def fails(host: str, port: int, family: int) -> list[Any]:
        raise error

    with pytest.raises(FetchFailed):
        async with guarded_session(SETTINGS, lookup=fails) as session:
            await get(session, "http://example.test/", SETTINGS, {})


async def test_a_name_without_answers_is_a_failure_of_the_source() -> None:
    with pytest.raises(FetchFailed):
        async with guarded_session(SETTINGS, lookup=lambda host, port, family: []) as session:
            await get(session, "http://example.test/", SETTINGS, {})


def test_outgoing_sessions_are_made_in_one_place() -> None:
    root = Path(__file__).parents[2] / "src" / "mediagen"

    makers = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(
            r"ClientSession\(|TCPConnector\(|(?:create|open|start)_connection\(|sock_connect\(|urlopen\(",
            path.read_text(),
        )
    }

    assert makers - {"net/session.py", "net/http1/dialer.py"} <= {path for path in makers if path.startswith("cli/")}
    assert {"net/session.py", "net/http1/dialer.py"} <= makers


def test_nothing_reads_past_a_library_that_pools_its_connections() -> None:
    """A second descriptor of a library's connection is for those who have come to the server."""
    root = Path(__file__).parents[2] / "src" / "mediagen"

    users = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"duplicate_socket\(|set_protocol\(|get_extra_info\(\"socket\"", path.read_text())
    }

    assert {user for user in users if not user.startswith("web/")} == {"net/http1/raw_socket.py"}
