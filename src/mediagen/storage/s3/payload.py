"""The body of a request to the store, as the libraries below and our own connections (``upload``) want it."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from aiohttp import Payload
from aiohttp.abc import AbstractStreamWriter

from mediagen.streams.base import KIB, Body, Target
from mediagen.streams.parts import BufferBody
from mediagen.streams.turnstile import Turnstile

_PIECE: Final = 64 * KIB
"""Bytes given to a transport at a time: each of its layers keeps a copy."""


class BodyPayload(Payload):
    """A body as the two libraries below want it: botocore a seekable file of known length, aiohttp a ``Payload``.

    Each write begins anew at the first byte. ``waited`` adds up the seconds for which it has waited for its source.
    Its last piece passes the ``turnstile``: answers come one by one when requests end one by one, and each takes a
    millisecond or two.
    """

    _autoclose = True

    def __init__(self, body: Body, turnstile: Turnstile | None = None) -> None:
        super().__init__(None, content_type="application/octet-stream")
        self._body = body
        self._turnstile = turnstile or Turnstile()
        self._size = len(body)
        self._offset = 0
        self._clock = asyncio.get_running_loop().time
        self._waited = 0.0
        self._since: float | None = None
        self.given = False
        """The store may have all of it: the last piece was handed on, or begun to be."""
        self.failure: Exception | None = None
        """What stopped the body on its source's side; aiohttp hides it behind an error of the connection."""

    @property
    def waited(self) -> float:
        return self._waited + (0.0 if self._since is None else self._clock() - self._since)

    def release(self) -> None:
        """Let go of the body: the libraries keep requests, and what hangs on them, until the garbage is collected."""
        self._body = _EMPTY

    # what botocore asks

    def __len__(self) -> int:
        return len(self._body)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._offset = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: len(self._body)}[whence]
        return self._offset

    def tell(self) -> int:
        return self._offset

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._body) if size is None or size < 0 else self._offset + size
        data = self._body.read_ahead(self._offset, end)
        self._offset += len(data)
        return data

    # what aiohttp asks

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a streamed body has no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._consumed = True  # or aiohttp would send it again by itself, which nobody counts
        await self.write_to(_ToWriter(writer))

    async def write_to(self, target: Target, /) -> None:
        """Give the body to ``target``, from its first byte."""
        self._since = self._clock()
        try:
            await self._body.write_to(_Timed(target, self))
        except OSError:
            raise  # the target's: the store is to blame
        except Exception as exc:
            self.failure = exc
            raise
        finally:
            self.arrived()

    async def ends(self) -> None:
        """The last piece is about to go."""
        await self._turnstile.pass_through()

    def arrived(self) -> None:
        """Bytes have come from their source."""
        if self._since is not None:
            self._waited += self._clock() - self._since
            self._since = None

    def handed_on(self) -> None:
        """The store has them."""
        self._since = self._clock()


class _Timed:
    """Tells a payload how far it is."""

    def __init__(self, target: Target, payload: BodyPayload) -> None:
        self._target = target
        self._payload = payload
        self._left = len(payload)

    async def write(self, view: memoryview, /) -> None:
        self._payload.arrived()
        self._left -= len(view)
        if self._left == 0:
            await self._payload.ends()
            self._payload.given = True
        await self._target.write(view)
        self._payload.handed_on()

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        count = self._target.try_write(view, within=within)
        self._left -= count
        self._payload.given = self._left == 0
        return count


class _ToWriter:
    """Through aiohttp's transport, behind a proxy."""

    def __init__(self, writer: AbstractStreamWriter) -> None:
        self._writer = writer

    async def write(self, view: memoryview, /) -> None:
        for start in range(0, len(view), _PIECE):
            # a copy of its own: the transport may keep what it could not send, and the view is used again
            await self._writer.write(bytes(view[start : start + _PIECE]))

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        return 0


_EMPTY: Final = BufferBody(memoryview(b""))
