"""The discarding store as a running process, and what it tells about itself."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.process import Child
from benchmarks.servers.source import Source, free_port, until_open


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Counters since they were last cleared, and what is open now."""

    requests: dict[str, int]
    open_uploads: int
    open_parts: int
    most_connections: int
    objects: dict[str, tuple[int, str | None]]
    aborted_at: float | None


class Store:
    """``benchmarks.servers.sink`` on a free port. ``remote``: answer delay in ms, MB/s per connection."""

    def __init__(
        self,
        root: Path,
        *,
        remote: tuple[float, float] | None = None,
        keep: bool = False,
        gives: Path | None = None,
        tls: Source | None = None,
    ) -> None:
        self._root = root
        self._port = free_port()
        self._tls = tls
        argv = [sys.executable, "-m", "benchmarks.servers.sink", "--port", str(self._port)]
        if remote is not None:
            argv += ["--latency-ms", str(remote[0]), "--conn-mbps", str(remote[1])]
        if keep:
            argv += ["--keep", str(root / "kept")]
        if gives is not None:
            argv += ["--give", str(gives)]
        if tls is not None:
            argv += ["--certificate", str(tls.certificate), "--key", str(tls.key)]
        self._keep = keep
        self._child = Child(argv, log=root / f"sink-{self._port}.log")

    async def __aenter__(self) -> Self:
        if self._keep:
            (self._root / "kept").mkdir(exist_ok=True)
        await self._child.__aenter__()
        await until_open(self._port, self._child, "the store")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._child.__aexit__(*exc)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._child.pid

    async def stats(self, *, clear: bool = False) -> StoreStats:
        told = await asyncio.to_thread(self._ask, "?clear=1" if clear else "")
        return StoreStats(
            requests=told["requests"],
            open_uploads=told["open_uploads"],
            open_parts=told["open_parts"],
            most_connections=told["most_connections"],
            objects={path: (size, sha256) for path, (size, sha256) in told["objects"].items()},
            aborted_at=told["aborted_at"],
        )

    def _ask(self, query: str) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=str(self._tls.certificate)) if self._tls else None
        with urllib.request.urlopen(f"{self.url}/_stats{query}", context=context, timeout=10) as reply:
            told: dict[str, Any] = json.load(reply)
        return told
