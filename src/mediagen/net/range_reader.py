"""Reads byte ranges of a resource over HTTP, one connection at a time, re-opened where it broke.

A source may answer a range with fewer bytes than asked for: that is progress, and the rest is asked for. It may begin
earlier, to keep to its own blocks: the overlap is passed over. Everything else must agree (``net.resource``).
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from mediagen.core.errors import FetchFailed, RangesUnreliable, SourceChanged, SourceTruncated
from mediagen.net.http1.response_body import BodyReader
from mediagen.net.resource import ContentRange, Resource, WrongRange
from mediagen.net.retry import RetryPolicy
from mediagen.streams.base import KIB, MIB

_FORGIVEN_AFTER: Final = MIB
"""Bytes of progress after which earlier failures no longer count."""
_LEAST: Final = 4 * KIB
"""An answer that gives no more of what was asked for is a failure: a large file would take millions of them."""
_SLACK: Final = 64 * KIB
"""Bytes more that are asked of a source that gives less: some take the last byte of a range for the one after it."""
_MAX_OVERLAP: Final = 4 * MIB
"""Bytes that may be passed over of each answer while several connections are open."""
_END_SECONDS: Final = 5.0
"""How long an answer without a fitting length is watched for bytes that it should not have."""


class OpensRanges(Protocol):
    """What a reader needs of a ``Fetcher``."""

    @property
    def retry(self) -> RetryPolicy: ...

    async def open_range(
        self, resource: Resource, start: int, end: int | None
    ) -> tuple[BodyReader, ContentRange, Resource]:
        """The answer to a range, checked; ``end`` None: as far as the resource goes."""

    async def pause(self, failures: int, exc: FetchFailed) -> None: ...


class HttpRangeReader:
    """A ``streams.base.RangeReader`` over HTTP.

    Without a validator it may read on where an answer ended early, but not where one broke.

    Args:
        opened: an answer that has begun, at byte 0, and the part that it carries; ``head`` was read of it before.
        strict: takes only answers whose length says the same as their range. Parts that are read in parallel are
            recorded one by one; of a single connection nothing counts before its end, which ``_check_end`` looks at.
    """

    def __init__(
        self,
        fetcher: OpensRanges,
        resource: Resource,
        *,
        strict: bool,
        opened: tuple[BodyReader, ContentRange] | None = None,
        head: bytes = b"",
    ) -> None:
        if resource.size is None:
            raise ValueError("a range reader needs a length")
        self._fetcher = fetcher
        self._resource = resource
        self._size = resource.size
        self._strict = strict
        self._body: BodyReader | None
        self._body, self._part = opened or (None, ContentRange(0, 0, sized=True))
        self._head = head
        self._position = 0
        self._end = self._size
        self._attempts = fetcher.retry.attempts if resource.validator is not None else 1
        self._failures = 0
        self._progress = 0
        self._gives_less = opened is not None and self._part.end < self._size

    @property
    def sized(self) -> bool:
        """Whether the length of the open answer says the same as its range."""
        return self._part.sized

    def expect(self, start: int, end: int, /) -> None:
        self._end = min(end, self._size)

    async def seek(self, offset: int, /) -> None:
        if offset != self._position:
            self._drop()
            self._head = b""
            self._position = offset

    async def connect(self) -> None:
        """Open the connection now, without a second try: whether the source lets us have one more is told at once."""
        await self._open()

    async def read_into(self, buffer: memoryview, /) -> int:
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            self._head = self._head[count:]
            self._position += count
            return count
        if self._position >= self._size:
            return 0
        while True:
            try:
                return await self._read(buffer)
            except SourceChanged:
                self._drop()
                raise
            except FetchFailed as exc:
                attempts = self._fetcher.retry.attempts if self._body is None else self._attempts
                self._drop()
                self._failures += 1
                if not exc.retryable or self._failures >= attempts:
                    if isinstance(exc, WrongRange):
                        raise RangesUnreliable(exc.detail) from None
                    raise
                await self._fetcher.pause(self._failures, exc)

    async def _read(self, buffer: memoryview) -> int:
        if self._position >= self._stop:
            self._drop()  # a thread has read what the answer carried, or what was asked for
        if self._body is None:
            await self._open()
        assert self._body is not None
        count = await self._body.read_into(buffer[: self._stop - self._position])
        if count == 0:
            raise SourceTruncated(f"the answer ended at byte {self._position} of {self._size}")
        self._came(count)
        if self._position >= self._stop:
            await self._check_end()
            self._drop()
        return count

    async def _open(self) -> None:
        """Ask for what comes next, and pass over what the answer has before it."""
        end = self._end if self._position < self._end else self._size
        asked: int | None = end
        if self._gives_less:
            asked = None if end + _SLACK >= self._size else end + _SLACK
        self._body, self._part, self._resource = await self._fetcher.open_range(self._resource, self._position, asked)
        if self._strict and not self._part.sized:
            self._drop()
            raise RangesUnreliable("the source answered with a part of another length than its range has")
        given = min(self._part.end, end) - self._position
        self._end = end
        if given < end - self._position:
            self._gives_less = True
            if given < _LEAST:
                raise SourceTruncated(f"the source gave {given} bytes of {end - self._position} that were asked for")
        if overlap := self._position - self._part.start:
            await self._pass_over(overlap)

    async def _pass_over(self, count: int) -> None:
        if self._strict and count > _MAX_OVERLAP:
            self._drop()
            raise RangesUnreliable(f"the source answered with {count} bytes before the range asked for")
        assert self._body is not None
        scratch = memoryview(bytearray(min(count, 256 * KIB)))
        while count:
            read = await self._body.read_into(scratch[:count])
            if not read:
                raise SourceTruncated("the answer ended before the range asked for")
            count -= read

    async def _check_end(self) -> None:
        """Before the last bytes of an answer without a fitting length are given: that nothing follows them.

        Raises:
            RangesUnreliable: it was longer than its range, so nobody knows which bytes it held.
        """
        if self._part.sized or self._position < self._part.end or self._body is None:
            return
        try:
            async with asyncio.timeout(_END_SECONDS):
                more = await self._body.read_into(memoryview(bytearray(1)))
        except (FetchFailed, TimeoutError):  # its length was wrong, or its last chunk is missing; all bytes are there
            return
        if more:
            raise RangesUnreliable("the source sent more bytes than the range that it named")

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        room = self._stop - self._position
        if not self._part.sized:
            room -= 1  # the last byte is given once the end has been looked at
        if self._head or self._body is None or room <= 0:
            return 0
        count = self._body.try_read(buffer[:room], within=within)
        self._came(count)
        return count

    @property
    def _stop(self) -> int:
        """Where reading from the open answer ends."""
        return min(self._part.end, self._end)

    def _came(self, count: int) -> None:
        self._position += count
        self._progress += count
        if self._failures and self._progress >= _FORGIVEN_AFTER:
            self._failures = 0

    def _drop(self) -> None:
        self._progress = 0
        if self._body is not None:
            self._body.close()
            self._body = None

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        self._drop()

    def hand_over(self) -> tuple[BodyReader, ContentRange] | None:
        """The open answer and its part; from now on somebody else's."""
        body, self._body = self._body, None
        return None if body is None else (body, self._part)
