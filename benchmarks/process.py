"""Child processes and what Linux tells about them: processor time, resident memory, its peak."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
STOP_SECONDS: Final = 30.0


class BenchmarkFailure(Exception):
    """A run that gives no figure: a process died, an answer was wrong, a deadline passed."""


def cpu_seconds(pid: int) -> float:
    """Processor seconds, user and system, that all threads of ``pid`` used so far; resolution 10 ms (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def memory_mb(pid: int, field: str) -> float:
    """A memory line of ``/proc/PID/status`` (``VmRSS``, ``VmHWM``) in MB of 1,000,000 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise BenchmarkFailure(f"process {pid} has no {field}")


def reset_peak(pid: int) -> None:
    """Set the peak (VmHWM) of ``pid`` to its present resident size (proc(5), clear_refs, value 5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used between ``Watch.start`` and ``Watch.stop``."""

    seconds: float
    cpu: float
    growth_mb: float


class Watch:
    """Measures a running process over a span: wall time, processor time, peak minus resident memory at the start."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        reset_peak(pid)
        self._resident = memory_mb(pid, "VmRSS")
        self._cpu = cpu_seconds(pid)
        self._began = time.perf_counter()

    def stop(self) -> Usage:
        seconds = time.perf_counter() - self._began
        return Usage(
            seconds,
            cpu_seconds(self._pid) - self._cpu,
            max(0.0, memory_mb(self._pid, "VmHWM") - self._resident),
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended well: its wall and processor time and what it printed."""

    seconds: float
    cpu: float
    stdout: str


def _run(argv: Sequence[str], env: Mapping[str, str] | None, timeout: float) -> Finished:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    try:
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as exc:
        raise BenchmarkFailure(f"{argv[0]}: no end after {timeout:g} s") from exc
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise BenchmarkFailure(f"{' '.join(argv[:4])}: status {done.returncode}: {done.stderr[-600:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Finished(seconds, cpu, done.stdout)


async def run(argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 180.0) -> Finished:
    """Run a command to its end; its processor time is exact while no other child ends meanwhile."""
    return await asyncio.to_thread(_run, argv, env, timeout)


class Child:
    """A long-running child process with its log in a file; leaving the context stops it."""

    def __init__(self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self._argv = list(argv)
        self._log = log
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env, start_new_session=True
            )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BenchmarkFailure(f"{self._argv[0]} was not started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tail(self) -> str:
        """The last lines of its log, to explain a failure."""
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""

    def stop(self) -> None:
        """Ask it to end, insist after half a minute, and collect it."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
