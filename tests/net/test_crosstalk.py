"""No byte of one download reaches another, whatever framings a keep-alive source mixes."""

from __future__ import annotations

import asyncio
import random
import ssl
from typing import Literal

import pytest

from mediagen.core.errors import FetchFailed
from mediagen.net.download import Fetcher
from tests.infra.content import content_bytes
from tests.infra.resource import Resource
from tests.infra.servers.source import SourceServer
from tests.net.conftest import OpenFetcher

DOWNLOADS = 250
AT_ONCE = 24
SIZES = (150_000, 200_000, 260_000, 400_000)
FRAMINGS: tuple[Literal["length", "chunked", "close"], ...] = ("length", "length", "length", "chunked", "close")


async def read_in_turns(fetcher: Fetcher, url: str, rng: random.Random, *, until: int | None = None) -> bytes:
    """The body, or its beginning, read in small steps with turns of the others between them."""
    out, buffer = bytearray(), memoryview(bytearray(rng.choice([5_000, 30_000, 100_000])))
    async with fetcher.open(url) as download:
        source = download.sequential()
        while count := await source.read_into(buffer):
            out += buffer[:count]
            if until is not None and len(out) >= until:
                break
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
    return bytes(out)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_hundreds_of_downloads_at_once_have_their_own_bytes(
    open_fetcher: OpenFetcher, source: SourceServer, tls_source: SourceServer, trusting: ssl.SSLContext, scheme: str
) -> None:
    served, tls = (source, None) if scheme == "http" else (tls_source, trusting)
    rng = random.Random(6)
    jobs: list[tuple[str, int, int]] = []
    for number in range(DOWNLOADS):
        size, framing = rng.choice(SIZES), rng.choice(FRAMINGS)
        resource = Resource(size=size, seed=number, framing=framing, ranges=rng.choice(["no", "yes"]))
        jobs.append((served.add(f"/{number}", resource), number, size))
    wrong: list[str] = []
    queue = iter(jobs)

    async def work(fetcher: Fetcher) -> None:
        for url, seed, size in queue:
            # some are left in the middle, as a cancelled task leaves them
            until = rng.randrange(1, size) if rng.random() < 0.1 else None
            try:
                got = await read_in_turns(fetcher, url, rng, until=until)
            except FetchFailed as exc:
                wrong.append(f"{url}: {exc!r}")
                continue
            whole = content_bytes(size, seed)
            if got != (whole if until is None else whole[: len(got)]):
                wrong.append(f"{url}: other bytes")

    async with open_fetcher(tls=tls, stall_seconds=30.0) as fetcher, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work(fetcher))

    assert wrong == []
