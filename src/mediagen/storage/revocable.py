"""A body that can be taken back from a request that nobody waits for any more."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mediagen.core.errors import StorageUnavailable
from mediagen.streams.base import Body, View


class RevocableBody:
    """Passes a body on until it is revoked; then its buffer may be used for something else."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._left = len(body)
        self._revoked: StorageUnavailable | None = None

    def revoke(self) -> bool:
        """Give no more bytes, and do not begin again. Whether all of them have been given already."""
        self._revoked = StorageUnavailable("the upload was given up")
        return self._left == 0

    def __len__(self) -> int:
        return len(self._body)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._body.seek(offset, whence)

    def tell(self) -> int:
        return self._body.tell()

    def read(self, size: int = -1, /) -> bytes:
        return self._body.read(size)

    @property
    def crc32(self) -> int:
        return self._body.crc32

    @property
    def failure(self) -> Exception | None:
        return self._revoked or self._body.failure

    async def __aiter__(self) -> AsyncIterator[View]:
        if self._revoked is not None:
            raise self._revoked
        self._left = len(self._body)
        async for chunk in self._body:
            self._left -= len(chunk)
            yield chunk
            if self._revoked is not None:
                raise self._revoked
