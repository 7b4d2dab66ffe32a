"""The server as a process: signals, the limit of open files, the time that a stop may take."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import structlog

from mediagen.app.instance import Instance, running
from mediagen.settings import Settings

_LOG: Final = structlog.get_logger(__name__)


async def serve(settings: Settings, ready: Callable[[Instance], None]) -> int:
    """Run until SIGTERM or SIGINT; the exit status. A second signal ends the process at once.

    ``ready`` is called when the first request can come.
    """
    _raise_open_files()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def ask_to_stop() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)  # the next one ends the process at once
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop)
    async with AsyncExitStack() as stack:
        ready(await stack.enter_async_context(running(settings)))
        await stop.wait()
        try:
            async with asyncio.timeout(settings.server.drain_seconds):
                await stack.aclose()
        except TimeoutError:
            _LOG.warning("stop_took_too_long", seconds=settings.server.drain_seconds)
            return 1
    return 0


def _raise_open_files() -> None:
    """Let the process open as many sockets and files as the system allows; shells often allow only 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
