"""The recipes with a real store on disk and a real source."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.files import File
from mediagen.net.download import Fetcher
from mediagen.pipelines.base import Outcome
from mediagen.pipelines.ingest import IngestPipeline, IngestSpec
from mediagen.pipelines.saving.placement import StoreContext
from mediagen.pipelines.saving.saver import Saver
from mediagen.pipelines.settings import LimitsSettings
from mediagen.storage.local.storage import LocalStorage
from mediagen.streams.base import MIB
from mediagen.streams.pool import BufferPool
from tests.net.conftest import OpenFetcher, open_fetcher, sockets_end
from tests.pipelines.attempts import Attempt, files_below

__all__ = ["open_fetcher", "sockets_end"]


@dataclass
class Recipe:
    """An ingest recipe and what it works with."""

    fetcher: Fetcher
    store: StoreContext
    folder: Path

    async def run(self, url: str, attempt: Attempt | None = None, **spec: Any) -> File:
        """Ingest ``url``; gives the file that it became."""
        outcome = await self.outcome(url, attempt or Attempt(), **spec)
        (file,) = outcome.files
        assert outcome.result == {"file": file.id}
        return file

    async def outcome(self, url: str, attempt: Attempt, **spec: Any) -> Outcome:
        return await self.pipeline.run(IngestSpec(url=url, **spec), attempt)

    @property
    def pipeline(self) -> IngestPipeline:
        return IngestPipeline(Saver(self.fetcher, self.store, self.store.pool))

    def limited(self, **limits: int) -> Recipe:
        """The same with other limits."""
        return replace(self, store=replace(self.store, limits=LimitsSettings(**limits)))

    def bytes_of(self, file: File) -> bytes:
        return (self.folder / file.key).read_bytes()

    @property
    def files(self) -> list[str]:
        return files_below(self.folder)


@pytest.fixture
def hashing() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
async def store(tmp_path: Path, hashing: ThreadPoolExecutor) -> AsyncIterator[StoreContext]:
    pool = BufferPool(16 * MIB)
    async with LocalStorage(tmp_path / "store") as storage:
        yield StoreContext(storage, pool, hashing, LimitsSettings(), "always")
        await storage.finishing.wait()
    assert pool.lent == 0


@pytest.fixture
async def recipe(open_fetcher: OpenFetcher, store: StoreContext, tmp_path: Path) -> AsyncIterator[Recipe]:
    async with open_fetcher() as fetcher:
        yield Recipe(fetcher, store, tmp_path / "store")
