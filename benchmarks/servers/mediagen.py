"""The server under test: ``python -m mediagen serve`` with a configuration of its own, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.api import Api, Ended
from benchmarks.load.pinger import pinging
from benchmarks.peers.contenders import clean_environment
from benchmarks.process import BenchmarkFailure, Child, Watch
from benchmarks.process import run as command
from benchmarks.readings import Contender, Reading
from benchmarks.servers.source import free_port, until_open
from benchmarks.servers.store import Store

START_SECONDS: Final = 30.0
BUCKET: Final = "bench"


def toml(values: Mapping[str, Any], place: str = "") -> str:
    """``values`` as TOML: plain values first, then tables."""

    def plain(value: object) -> str:
        match value:
            case bool():
                return str(value).lower()
            case str():
                return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
            case list():
                return "[" + ", ".join(plain(item) for item in value) + "]"
            case _:
                return str(value)

    lines = [f"{name} = {plain(value)}" for name, value in values.items() if not isinstance(value, dict)]
    for name, table in values.items():
        if isinstance(table, dict):
            path = f"{place}{name}"
            lines += ["", f"[{path}]", toml(table, f"{path}.")]
    return "\n".join(lines)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``, table by table."""
    result = dict(base)
    for name, value in over.items():
        result[name] = _merged(base.get(name, {}), value) if isinstance(value, Mapping) else value
    return result


class Server:
    """A running server. ``store`` None: local disk below its data directory.

    Everything is at its default but where it listens, that it may fetch from the loopback network, that one address may
    make any number of requests, that the ingest lane lets 32 transfers run at once, and that it measures the lag of its
    event loop every 10 ms.
    """

    def __init__(
        self,
        root: Path,
        *,
        store: Store | None = None,
        certificate: Path | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="server-", dir=root))
        self.data_dir = self._home / "data"
        self._port = free_port()
        self.base = f"http://127.0.0.1:{self._port}"
        self.api = Api(self.base)
        self._store = store
        config: dict[str, Any] = {
            "data_dir": str(self.data_dir),
            "server": {"host": "127.0.0.1", "port": self._port, "lag_interval_seconds": 0.01},
            "fetch": {"allow_cidrs": ["127.0.0.0/8"]},
            "limits": {"requests_per_minute_per_ip": 0},
            "tasks": {"lanes": {"ingest": 32}},
            "storage": {"backend": "local"},
        }
        if store is not None:
            config["storage"] = {
                "backend": "s3",
                "s3": {
                    "bucket": BUCKET,
                    "endpoint_url": store.url,
                    "region": "us-east-1",
                    "access_key_id": "bench",
                    "secret_access_key": "bench-secret",
                    **({"ca_file": str(certificate)} if certificate is not None else {}),
                },
            }
        config = _merged(config, settings or {})
        file = self._config = self._home / "mediagen.toml"
        file.write_text(toml(config) + "\n")
        env = clean_environment()
        if certificate is not None:
            env["SSL_CERT_FILE"] = str(certificate)
        argv = [sys.executable, "-m", "mediagen", "serve", "--config", str(file)]
        self._child = Child(argv, log=self._home / "server.log", env=env)

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int:
        return self._child.pid

    async def __aenter__(self) -> Self:
        await self._child.__aenter__()
        try:
            await until_open(self._port, self._child, "mediagen serve", START_SECONDS)
            await self.api.__aenter__()
            await self._until_ready()
        except BaseException:
            await self._child.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.api.__aexit__(*exc)
        await self._child.__aexit__(*exc)

    async def _until_ready(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            while True:
                async with self.api.session.get(f"{self.base}/readyz") as reply:
                    if reply.status == 200:
                        return
                if not self._child.alive:
                    raise BenchmarkFailure(f"mediagen serve ended: {self._child.tail()}")
                await asyncio.sleep(0.05)

    async def key(self) -> str:
        """A new key, made as an operator makes it."""
        argv = [sys.executable, "-m", "mediagen", "keys", "create", "bench", "--json", "--config", str(self._config)]
        return str(json.loads((await command(argv, env=clean_environment())).stdout)["key"])

    async def health(self) -> dict[str, Any]:
        return await self.api.call("GET", "/healthz")

    async def stall_ms(self) -> float:
        """The longest that the event loop was late, over the last minute, as the server measured it itself."""
        return float((await self.health())["loop_lag"]["max_milliseconds"])

    def files(self) -> set[str]:
        """Files below the data directory, those of the database left out."""
        found = (path.relative_to(self.data_dir) for path in self.data_dir.rglob("*") if path.is_file())
        return {str(path) for path in found if ".sqlite" not in path.name and ".db" not in path.name}

    def transfers(self, bodies: Sequence[Mapping[str, Any]], *, size: int) -> Contender:
        """All of ``bodies`` ingested at once, as a contender. ``size``: bytes that every file must have."""
        return lambda: self.measured(lambda: self.api.ingest(bodies), size=size)

    async def measured(self, run: Callable[[], Awaitable[Ended]], *, size: int) -> Reading:
        """Measure ``run``; check and delete what it made."""
        watch = Watch(self.pid)
        ended = await run()
        usage = watch.stop()
        await self._check(ended, size)
        await self.api.forget(ended.tasks)
        told = {"task_seconds": max(float(task["elapsed_seconds"]) for task in ended.tasks)}
        return Reading(ended.seconds, usage.cpu, usage.growth_mb, told)

    async def stalls(self, run: Callable[[], Awaitable[Ended]], times: int) -> list[float]:
        """The longest stall of the event loop in ms during each of ``times`` runs, which are not measured otherwise.

        Two upper bounds, of which the smaller one counts: a ping waits for the machine's scheduler too, and the
        server's own ticker remembers the minute before.
        """
        found: list[float] = []
        for _ in range(times):
            async with pinging(self.api.session, self.base) as pinger:
                ended = await run()
            found.append(min(pinger.worst_ms, await self.stall_ms()))
            await self.api.forget(ended.tasks)
        return found

    async def _check(self, ended: Ended, size: int) -> None:
        for task in ended.tasks:
            found = task["result"]["file"]["bytes"]
            if found != size:
                raise BenchmarkFailure(f"stored {found} of {size} bytes")
        if self._store is not None:
            stats = await self._store.stats()
            if stats.open_uploads:
                raise BenchmarkFailure(f"{stats.open_uploads} uploads were left open")
