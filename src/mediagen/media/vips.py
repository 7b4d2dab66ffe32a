"""libvips in a small pool of its own: it blocks, and it is quick with few threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

import structlog

from mediagen.core.errors import MediagenError

log = structlog.get_logger(__name__)

_THREADS: Final = 2

P = ParamSpec("P")
T = TypeVar("T")


class ImageProcessingFailed(MediagenError):
    """libvips could not do it; its words are in the context."""


class VipsPool:
    """Runs functions that use libvips. Left with ``close``."""

    def __init__(self, threads: int = _THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="vips", initializer=_configure)

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result. It runs to its end even when its caller is cancelled: there is no way to stop it.

        Raises:
            ImageProcessingFailed, and what the function raises.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: _call(function, *args, **kwargs))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _configure() -> None:
    import pyvips

    pyvips.cache_set_max(0)  # nothing is drawn twice, and what is kept costs memory


def _call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    import pyvips

    try:
        return function(*args, **kwargs)
    except pyvips.Error as exc:
        log.warning("vips_failed", said=str(exc)[:1000])
        raise ImageProcessingFailed(
            "the image could not be made; the server's log has the reason", said=str(exc)[:1000]
        ) from None
