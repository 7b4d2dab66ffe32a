"""Fixtures for all tests; what they give is described in tests/infra/README.md."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
import structlog
from blockbuster import BlockBuster, blockbuster_ctx

from tests.infra.leftovers import Shared, no_task_left, nothing_left
from tests.infra.s3 import Bucket, temporary_bucket
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.radosgw import RadosGW
from tests.infra.servers.source import SourceServer

# The one profile of property tests. A busy machine is no fault of the code, so how long an example takes is not judged.
hypothesis.settings.register_profile("mediagen", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("mediagen")

# A logger that has kept an earlier configuration would be out of reach of ``capture_logs``: in tests none is kept.
_configure = structlog.configure
structlog.configure = lambda **given: _configure(**{**given, "cache_logger_on_first_use": False})

# Functions of libraries that may block the loop for a moment, by file and name.
MAY_BLOCK = {
    # reads AWS's configuration files and the description of the service; happens once, at start-up
    "aiobotocore/session.py": {"_create_client"},
}


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """What belongs to the whole run; meanwhile temporary files go to a folder of this run alone."""
    folder = tmp_path_factory.mktemp("t", numbered=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("TMPDIR", str(folder))
        yield Shared()


@pytest.fixture(scope="session")
def radosgw(shared: Shared) -> Iterator[RadosGW]:
    """The S3 store of this run, over http and TLS."""
    with RadosGW() as store:
        shared.pids.update(store.pids)
        shared.paths.add(store.folder)
        yield store


@pytest.fixture(autouse=True)
def leftovers(shared: Shared, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a child process, a temporary file or (with a loop) a task behind."""
    if request.node.get_closest_marker("asyncio") is not None:
        request.getfixturevalue("tasks_end")
    with nothing_left(shared):
        yield


@pytest.fixture
async def tasks_end() -> AsyncIterator[None]:
    """Fails a test that leaves a task behind."""
    async with no_task_left():
        yield


@pytest.fixture(autouse=True)
def loop_never_blocks() -> Iterator[BlockBuster]:
    """Fails a test in which code of mediagen makes a blocking call on an event loop."""
    with blockbuster_ctx("mediagen") as blockbuster:
        for function in blockbuster.functions.values():
            for file, names in MAY_BLOCK.items():
                function.can_block_in(file, names)
        yield blockbuster


@pytest.fixture
async def bucket(radosgw: RadosGW) -> AsyncIterator[Bucket]:
    """A new, empty bucket."""
    async with temporary_bucket(radosgw) as made:
        yield made


@pytest.fixture
def source() -> Iterator[SourceServer]:
    """A scripted HTTP source on 127.0.0.1."""
    with SourceServer() as server:
        yield server


@pytest.fixture
def fault_proxy(radosgw: RadosGW) -> Iterator[FaultProxyThread]:
    """A fault proxy in front of the S3 store's http endpoint."""
    with FaultProxyThread("127.0.0.1", radosgw.port) as proxy:
        yield proxy
