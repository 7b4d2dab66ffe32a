"""What the end-to-end tests share."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.clients.browser import Browser
from tests.clients.client import NAMES, Client
from tests.clients.house import ADMIN, House, held, housed
from tests.e2e.configuration import s3
from tests.e2e.traffic import Traffic
from tests.infra.leftovers import Shared
from tests.infra.process import need
from tests.infra.s3 import temporary_bucket
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.mediagen import Server
from tests.infra.servers.radosgw import RadosGW
from tests.infra.servers.vendor import VendorServer


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


@pytest.fixture(scope="session", params=NAMES)
def client(request: pytest.FixtureRequest, shared: Shared) -> Iterator[Client]:
    """A client that others wrote; each test that takes it is run with every one."""
    with Client(request.param, shared.pids) as client:
        yield client


@pytest.fixture(scope="session")
def ai(shared: Shared) -> Iterator[Client]:
    """The AI SDK."""
    with Client("ai", shared.pids) as client:
        yield client


@pytest.fixture(scope="session")
def litellm(shared: Shared) -> Iterator[Client]:
    """LiteLLM as a client."""
    with Client("litellm", shared.pids) as client:
        yield client


@pytest.fixture(scope="session")
def eventsource(shared: Shared) -> Iterator[Client]:
    """The ``eventsource`` package for JavaScript."""
    with Client("eventsource", shared.pids) as client:
        yield client


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Chromium with an empty profile."""
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Iterator[House]:
    """The server that those clients share."""
    need("ffmpeg")
    with housed(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="session")
def paced(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Iterator[House]:
    """A server that takes twenty requests a minute with one key."""
    settings = {"auth": {"required": True, "admin_key": ADMIN}, "limits": {"requests_per_minute": 20}}
    with VendorServer() as vendor, held(Server(tmp_path_factory.mktemp("paced"), settings)) as server:
        yield House(server, vendor)


@pytest.fixture(scope="session")
def bucket_house(tmp_path_factory: pytest.TempPathFactory, radosgw: RadosGW) -> Iterator[House]:
    """The same with its files in a bucket, on another port: redirects go to another origin."""
    need("ffmpeg")
    with (
        VendorServer() as vendor,
        held(temporary_bucket(radosgw)) as bucket,
        held(Server(tmp_path_factory.mktemp("bucket"), s3(bucket))) as server,
    ):
        yield House(server, vendor)
