"""Child processes that cannot outlive the test run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import pytest

_SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"


def need(*programs: str) -> None:
    """Skip the test when a program is not installed; fail it where CI=true, so that green means that it ran."""
    missing = [program for program in programs if shutil.which(program, path=_SEARCH) is None]
    if missing:
        lack(", ".join(missing))


def lack(what: str) -> NoReturn:
    """End the test as ``need`` does."""
    words = f"{what} not installed: see 'make test' in the Makefile"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(words)
    pytest.skip(words)


class Child:
    """A program in its own session. It dies with the thread that started it (``prctl(2)``, PR_SET_PDEATHSIG)."""

    def __init__(
        self, argv: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.argv = [str(word) for word in argv]
        self.log = log
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**os.environ, "PATH": _SEARCH, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Of the program, which also leads its session and process group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status; minus the signal's number; None while it runs."""
        return self._process.poll()

    def send(self, number: int) -> None:
        """Signal the program alone."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the whole group, also when the program itself has ended already."""
        with contextlib.suppress(ProcessLookupError):  # the group may be gone
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, timeout: float) -> int:
        """The exit status. Raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds."""
        return self._process.wait(timeout)

    async def exited(self, timeout: float) -> int:
        """The exit status, awaited. Raises ``TimeoutError`` after ``timeout`` seconds."""
        if (code := self.returncode) is not None:
            return code
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        descriptor = os.pidfd_open(self.pid)
        loop.add_reader(descriptor, ended.set)
        try:
            async with asyncio.timeout(timeout):
                await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return self._process.wait()

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def check_running(self) -> None:
        """Raise ``RuntimeError`` with the end of the log when the program has ended."""
        if self.returncode is not None:
            raise RuntimeError(f"{self.argv[0]} ended with {self.returncode}\n{self.tail()}")

    def wait_http(self, url: str, timeout: float = 60.0) -> None:
        """Block until ``url`` answers with any status."""
        end = time.monotonic() + timeout
        while True:
            self.check_running()
            try:
                with urllib.request.urlopen(url, timeout=2):
                    return
            except urllib.error.HTTPError as exc:
                exc.close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise TimeoutError(f"{url} silent for {timeout:g} s\n{self.tail()}") from None
            time.sleep(0.02)


def descendants(pid: int) -> list[int]:
    """Pids of the children of ``pid``, and of theirs."""
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []  # it ended meanwhile
    for task in tasks:
        try:
            children = [int(word) for word in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that ended meanwhile
        for child in children:
            found += [child, *descendants(child)]
    return found


def resident_bytes(pid: int, *, peak: bool = False) -> int:
    """Memory that a process has in RAM (VmRSS), or the most that it ever had (VmHWM)."""
    name = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def open_descriptors(pid: int) -> int:
    """How many files, sockets and pipes a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
