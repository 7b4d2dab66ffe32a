"""A body that can be taken back from a request that nobody waits for any more."""

from __future__ import annotations

from mediagen.core.errors import StorageUnavailable
from mediagen.streams.base import Body, Target


class RevocableBody:
    """Passes a body on until it is revoked; then its buffer may be used for something else."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.left = len(body)
        """Bytes that the target does not have yet."""
        self._revoked: StorageUnavailable | None = None

    def revoke(self) -> bool:
        """Give no more bytes, and do not begin again. Whether all of them have been given already."""
        self._revoked = StorageUnavailable("the upload was abandoned")
        return self.left == 0

    def __len__(self) -> int:
        return len(self._body)

    def read_ahead(self, start: int, end: int, /) -> bytes:
        return self._body.read_ahead(start, end)

    @property
    def crc32(self) -> int:
        return self._body.crc32

    async def write_to(self, target: Target, /) -> None:
        self.check()
        self.left = len(self._body)
        await self._body.write_to(_RevocableTarget(target, self))

    def check(self) -> None:
        """Raises StorageUnavailable once it was revoked."""
        if self._revoked is not None:
            raise self._revoked


class _RevocableTarget:
    """A target that takes nothing more once its body was revoked."""

    def __init__(self, target: Target, body: RevocableBody) -> None:
        self._target = target
        self._body = body

    async def write(self, view: memoryview, /) -> None:
        self._body.check()
        await self._target.write(view)
        self._body.left -= len(view)  # only now is the view of no use any more
        self._body.check()

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        self._body.check()
        count = self._target.try_write(view, within=within)
        self._body.left -= count
        return count
