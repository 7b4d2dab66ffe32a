"""Between a transport and its protocol: who writes to the transport itself is told when it has room again.

aiohttp lets one coroutine wait for that. A feed with thousands of connections would need as many coroutines that wait;
a call is enough. All else is passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class ProtocolWrapper(asyncio.Protocol):
    """Puts itself before the protocol of ``transport``, for as long as the connection lasts.

    Args:
        drained: called when all that was written has left, once it had not.
        passes: what came from the peer is passed on while this says so.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        drained: Callable[[], None],
        passes: Callable[[bytes], bool] = lambda _data: True,
    ) -> None:
        inner = transport.get_protocol()
        if not isinstance(inner, asyncio.Protocol):
            raise TypeError(f"a transport with a protocol of streams is needed, not {type(inner).__name__}")
        self._inner = inner
        self._drained = drained
        self._passes = passes
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        if self._passes(data):
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
        self._drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
