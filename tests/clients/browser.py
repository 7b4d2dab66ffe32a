"""Debian's Chromium, and what scripts of a page see: driven by the DevTools protocol over a WebSocket."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from tests.infra.process import Child, need

PROGRAM = "chromium"
START_SECONDS = 60.0
END_SECONDS = 30.0
ANSWER_SECONDS = 90.0
_QUIET = (
    "--disable-background-networking",  # nothing goes to the vendor of the browser
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
)


class PageError(Exception):
    """A script of the page threw, or the browser refused a command."""


class Page:
    """A tab; its scripts have the origin of its address."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def command(self, method: str, **params: Any) -> Any:
        """The result of a command of the DevTools protocol. Raises ``PageError``."""
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(ANSWER_SECONDS):
            async for frame in self._socket:
                said = json.loads(frame.data)
                if said.get("id") == number:
                    if "error" in said:
                        raise PageError(said["error"])
                    return said["result"]
        raise PageError("the tab was closed")

    async def opened(self, address: str) -> None:
        """Load a page, with its scripts."""
        await self.command("Page.enable")
        if "errorText" in (gone := await self.command("Page.navigate", url=address)):
            raise PageError(gone["errorText"])
        loaded = "new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        await self.command("Runtime.evaluate", expression=loaded, awaitPromise=True)

    async def call(self, function: str, *args: Any) -> Any:
        """What a function of the page gives, awaited. Raises ``PageError`` with what it throws."""
        words = ", ".join(json.dumps(argument) for argument in args)
        done = await self.command(
            "Runtime.evaluate", expression=f"{function}({words})", awaitPromise=True, returnByValue=True
        )
        if (thrown := done.get("exceptionDetails")) is not None:
            raise PageError(thrown.get("exception", {}).get("description") or thrown["text"])
        return done["result"].get("value")


class Browser:
    """Inside ``with``, with an empty profile. Skips (with CI=true: fails) when it is not installed."""

    def __init__(self) -> None:
        self._child: Child | None = None

    def __enter__(self) -> Browser:
        need(PROGRAM)
        # a socket is made in there, whose path may have 107 characters: a test's own folder is too deep
        self._home = tempfile.TemporaryDirectory(prefix="browser-", dir="/tmp")
        self._folder = Path(self._home.name)
        # as root it does not start inside its sandbox; what it loads here is ours
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        argv = [PROGRAM, "--headless", "--remote-debugging-port=0", f"--user-data-dir={self._folder}"]
        env = {"TMPDIR": str(self._folder)}
        self._child = Child([*argv, *_QUIET, *sandbox, "about:blank"], self._folder / "log", env=env)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child is not None
        self._child.send(signal.SIGTERM)
        try:
            self._child.wait(END_SECONDS)
        finally:
            self._child.kill()
            self._home.cleanup()

    async def _port(self) -> int:
        """Where it takes commands; it writes that down when it does."""
        assert self._child is not None
        file = self._folder / "DevToolsActivePort"
        async with asyncio.timeout(START_SECONDS):
            while not (file.exists() and (lines := file.read_text().split())):
                self._child.check_running()
                await asyncio.sleep(0.05)
        return int(lines[0])

    @asynccontextmanager
    async def page(self, address: str) -> AsyncIterator[Page]:
        """A new tab with the page at ``address``."""
        at = f"http://127.0.0.1:{await self._port()}/json"
        async with aiohttp.ClientSession() as session:
            async with session.put(f"{at}/new?about:blank") as answer:
                tab = await answer.json(content_type=None)
            try:
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    await page.opened(address)
                    yield page
            finally:
                async with session.get(f"{at}/close/{tab['id']}"):
                    pass
