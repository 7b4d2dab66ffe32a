"""What every case is given: the work folder, the source, stores, servers and how often to measure."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.report import Report
from benchmarks.servers.mediagen import Server
from benchmarks.servers.source import Source
from benchmarks.servers.store import Store


@dataclass(frozen=True, slots=True)
class Bench:
    """A run of the benchmarks. ``work`` is best in memory; ``disk`` is a folder on a real disk."""

    work: Path
    disk: Path
    source: Source
    quick: bool
    given_rounds: int | None

    def rounds(self, usual: int) -> int:
        """Rounds that count: as asked for, else ``usual``, and few when it has to be quick."""
        return self.given_rounds or (min(2, usual) if self.quick else usual)

    def mib(self, usual: int) -> int:
        """Size of the object of a case in MiB; a quarter of the usual one when it has to be quick."""
        return usual // 4 if self.quick else usual

    def store(
        self,
        *,
        remote: tuple[float, float] | None = None,
        keep: bool = False,
        gives: Path | None = None,
        tls: bool = False,
    ) -> Store:
        return Store(self.work, remote=remote, keep=keep, gives=gives, tls=self.source if tls else None)

    def server(
        self, store: Store | None = None, *, tls: bool = False, settings: Mapping[str, Any] | None = None
    ) -> Server:
        return Server(self.work, store=store, certificate=self.source.certificate if tls else None, settings=settings)


Case: TypeAlias = Callable[[Bench], Awaitable[Report]]


@asynccontextmanager
async def opened(work: Path | None, disk: Path | None, *, quick: bool, rounds: int | None) -> AsyncIterator[Bench]:
    """A bench with its source running; its folders are removed when left.

    The work folder lies in shared memory where there is some: then software is measured, not a disk.
    """
    memory = Path("/dev/shm")
    parent = work or (memory if memory.is_dir() else Path(tempfile.gettempdir()))
    with (
        tempfile.TemporaryDirectory(prefix="mediagen-bench-", dir=parent) as root,
        tempfile.TemporaryDirectory(prefix="mediagen-bench-", dir=disk) as on_disk,
    ):
        async with Source(Path(root) / "source") as source:
            yield Bench(Path(root), Path(on_disk), source, quick, rounds)
