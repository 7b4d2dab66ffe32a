"""What a server saw, readable from any thread while it goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Journal(Generic[T]):
    """Entries in order of arrival. The server alters its entries as bytes pass and says so with ``changed``."""

    def __init__(self) -> None:
        self._entries: list[T] = []
        self._condition = threading.Condition()

    def append(self, entry: T) -> T:
        """Add ``entry`` and return it."""
        with self._condition:
            self._entries.append(entry)
            self._condition.notify_all()
        return entry

    def changed(self) -> None:
        """Wake those who wait: an entry has changed."""
        with self._condition:
            self._condition.notify_all()

    def clear(self) -> None:
        """Forget all entries."""
        with self._condition:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return iter(self._entries.copy())

    def __getitem__(self, index: int) -> T:
        return self._entries[index]

    def wait(self, holds: Callable[[list[T]], bool], timeout: float = 10.0) -> None:
        """Block until ``holds(entries)``; raises ``TimeoutError`` after ``timeout`` seconds."""
        with self._condition:
            if not self._condition.wait_for(lambda: holds(self._entries), timeout):
                raise TimeoutError(f"not within {timeout:g} s; entries: {self._entries}")

    async def reaches(self, holds: Callable[[list[T]], bool], timeout: float = 10.0) -> None:
        """``wait`` for a test that has a loop to keep running."""
        await asyncio.to_thread(self.wait, holds, timeout)
