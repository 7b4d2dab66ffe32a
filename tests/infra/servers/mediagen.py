"""mediagen itself, as an operator starts it: a process of its own with a configuration file and a data folder."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.infra.process import Child, descendants, open_descriptors, resident_bytes
from tests.infra.servers.radosgw import free_ports

Settings = Mapping[str, Any]
"""Nested as in the configuration file: ``{"storage": {"backend": "s3", "s3": {"bucket": "b"}}}``."""


def to_toml(settings: Settings, table: str = "") -> str:
    """Settings as TOML; strings, numbers, booleans and lists of them are written as in JSON, which TOML takes."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    lines = [f"[{table}]"] if table and plain else []
    lines += [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for key, value in settings.items():
        if isinstance(value, Mapping):
            lines.append(to_toml(value, f"{table}.{key}" if table else key))
    return "\n".join(lines)


def merged(base: Settings, over: Settings) -> dict[str, Any]:
    """``base`` with the values of ``over``, table by table."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


class Server:
    """The server inside ``async with``, ready for requests. Unless ``settings`` differ, it may download from loopback,
    and one address may make any number of requests: a test asks without a pause.

    The same port and data folder are used by each restart. The log's end is in the error when the server fails to
    start, and on standard output (which pytest shows with a failed test) when the block is left by an exception.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings | None = None,
        *,
        env: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """``under``: a command that runs the server, such as ``prlimit --nofile=128``."""
        self.folder = folder
        self.data_dir = folder / "data"
        self.log = folder / "server.log"
        self.port = free_ports(1)[0]
        self._config = folder / "mediagen.toml"
        self._env = dict(env or {})
        self._under = tuple(under)
        self._child: Child | None = None
        self.configure(settings or {})

    def configure(self, settings: Settings) -> None:
        """Write the configuration that the next start reads."""
        base: Settings = {"data_dir": str(self.data_dir), "fetch": {"allow_cidrs": ["127.0.0.0/8"]}}
        base = merged(base, {"server": {"host": "127.0.0.1", "port": self.port}})
        base = merged(base, {"limits": {"requests_per_minute_per_ip": 0}})
        self._config.write_text(to_toml(merged(base, settings)) + "\n")

    @property
    def url(self) -> str:
        """Where the server answers, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def _running(self) -> Child:
        if self._child is None:
            raise RuntimeError("the server has not been started")
        return self._child

    @property
    def pid(self) -> int:
        """Of the server process."""
        return self._running.pid

    @property
    def children(self) -> list[int]:
        """Pids of the server's child processes."""
        return descendants(self.pid)

    @property
    def descriptors(self) -> int:
        """How many files and sockets the server has open."""
        return open_descriptors(self.pid)

    def resident_bytes(self, *, peak: bool = False) -> int:
        """Memory of the server process in RAM; with ``peak`` the most since it started."""
        return resident_bytes(self.pid, peak=peak)

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.kill()
            if exc is not None:
                print(f"--- {self.log}\n{self._child.tail()}")

    async def start(self, timeout: float = 60.0) -> None:
        """Start the process and wait until ``/readyz`` answers 200."""
        argv = [*self._under, sys.executable, "-m", "mediagen", "serve", "--config", self._config]
        self._child = Child([str(word) for word in argv], self.log, env=self._env, cwd=self.folder)
        await self.ready(timeout)

    async def ready(self, timeout: float = 30.0) -> None:
        """Wait until ``/readyz`` answers 200."""
        end = time.monotonic() + timeout
        while not await asyncio.to_thread(self._answers):
            self._running.check_running()
            if time.monotonic() > end:
                raise TimeoutError(f"not ready within {timeout:g} s\n{self._running.tail()}")
            await asyncio.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as exc:
            exc.close()
            return False
        except OSError:
            return False

    async def kill9(self) -> None:
        """SIGKILL to the server alone: its children are for the server's own arrangements to end."""
        self._running.send(signal.SIGKILL)
        await self._running.exited(10)

    async def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, and the exit status that follows."""
        self._running.send(signal.SIGTERM)
        return await self._running.exited(timeout)

    async def restart(self, timeout: float = 30.0) -> None:
        """Start again on the same data; a server that still runs is stopped with SIGTERM first."""
        if self._running.returncode is None:
            await self.stop(timeout)
        await self.start(timeout)
