"""Whether frames of a WebSocket client are masked, as they must be (RFC 6455 section 5.1); aiohttp takes any."""

from __future__ import annotations

from typing import Final

_MASKED: Final = 0x80
_HEAD: Final = 2
_MASK: Final = 4
_EXTENDED: Final = {126: 2, 127: 8}


class MaskCheck:
    """Follows the frames in a stream of bytes, however it is cut."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._masked = True

    def passes(self, data: bytes) -> bool:
        """Whether every frame that has begun so far is masked. Once one was not, nothing passes any more."""
        at = 0
        while self._masked and at < len(data):
            if self._left:
                taken = min(self._left, len(data) - at)
                self._left -= taken
                at += taken
                continue
            wanted = self._wanted() - len(self._head)
            self._head += data[at : at + wanted]
            at += wanted
            if len(self._head) >= _HEAD and not self._head[1] & _MASKED:
                self._masked = False
            elif len(self._head) >= _HEAD and len(self._head) == self._wanted():
                size = self._head[1] & ~_MASKED
                extended = self._head[_HEAD : _HEAD + _EXTENDED.get(size, 0)]
                self._left = _MASK + (int.from_bytes(extended) if extended else size)
                self._head = b""
        return self._masked

    def _wanted(self) -> int:
        """Bytes up to the mask, as far as they are known."""
        return _HEAD if len(self._head) < _HEAD else _HEAD + _EXTENDED.get(self._head[1] & ~_MASKED, 0)
