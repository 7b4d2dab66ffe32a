"""The bytes of an object, received past aiohttp's parser where the answer's framing allows it (``net.client_body``)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from mediagen.core.errors import FetchFailed, SourceStalled, StorageUnavailable
from mediagen.net.client_body import BodyReader, open_body


class Nothing:
    """No bytes of an object."""

    size: int | None = 0

    async def read_into(self, buffer: memoryview, /) -> int:
        return 0


class S3Source:
    """The body of a GET; no read waits longer than ``seconds``, since nothing below says so."""

    def __init__(self, body: BodyReader, size: int | None, seconds: float) -> None:
        self.size = size
        self._body = body
        self._seconds = seconds
        self._done = 0

    async def read_into(self, buffer: memoryview, /) -> int:
        try:
            count = await self._body.read_into(buffer)
        except SourceStalled:
            raise StorageUnavailable(f"the store did not answer within {self._seconds:.0f} s") from None
        except FetchFailed as exc:
            raise StorageUnavailable("the store broke off", reason=exc.detail) from None
        self._done += count
        if not count and self.size is not None and self._done < self.size:
            raise StorageUnavailable(f"the store sent {self._done} of {self.size} bytes")
        return count


@asynccontextmanager
async def body_of(answer: dict[str, Any], size: int | None, seconds: float) -> AsyncIterator[S3Source]:
    """What a GetObject answered, of ``size`` bytes; left early, its connection is closed and no more is sent."""
    async with answer["Body"] as stream:
        response = stream._raw_stream  # noqa: SLF001 - the library's own reader copies every byte twice
        if not isinstance(response, aiohttp.ClientResponse):
            raise TypeError("the S3 library answers with another HTTP library")
        try:
            body = open_body(response, stall=seconds)
        except FetchFailed as exc:
            raise StorageUnavailable("the store broke off", reason=exc.detail) from None
        try:
            yield S3Source(body, size, seconds)
        finally:
            if response.content.is_eof():
                response.release()  # it came whole: the connection can be used again
            else:
                body.close()
