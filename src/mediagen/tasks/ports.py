"""What the tasks room needs from below: a journal that keeps the truth, a dispatcher that wakes, a bus that tells.

Each is a protocol with one embedded implementation (SQLite, memory). A second one, for more than one machine, must
fit here and need no change in ``service``, ``registry``, ``runner``, ``pipelines`` or ``web``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from mediagen.core.events import Event
from mediagen.core.files import File, FileQuery
from mediagen.core.tasks import Task, TaskQuery


class Journal(Protocol):
    """The truth about tasks. Every call that writes is one transaction, durable when it returns."""

    async def insert(
        self, task: Task, *, files: Sequence[File] = (), key: str | None = None, fingerprint: str = ""
    ) -> str:
        """Add a task, with files when it was carried out already, in one transaction; gives its id.

        When a task was inserted under ``key`` before, nothing is written and the id of that one is given. A key is
        kept as long as its task.

        Raises:
            IdempotencyMismatch: the key came with another ``fingerprint``.
        """

    async def made(self, key: str, fingerprint: str) -> str | None:
        """The id of the task that was inserted under ``key``. Raises IdempotencyMismatch as ``insert`` does."""

    async def get(self, task_id: str) -> Task | None: ...

    async def query(self, query: TaskQuery) -> tuple[list[Task], bool]:
        """A page, and whether there are more."""

    async def save(self, task: Task, *, was: Task, files: Sequence[File] = ()) -> bool:
        """Write ``task`` if its row still is at ``was.version``, with the files that it made, in one transaction.

        False: somebody else moved it first, and nothing was written.
        """

    async def delete(self, task_id: str) -> None: ...

    async def live(self) -> list[Task]:
        """All tasks that have not ended, oldest first; read once at start."""

    async def purge(self, *, ended_before_iso: str, limit: int) -> int:
        """Delete ended tasks older than that; gives their number."""

    async def shrink(self, pages: int) -> int:
        """Give back to the disk at most so many pages that deleted rows have left; how many are still to go."""


class Files(Protocol):
    """Rows of files; the bytes are the store's."""

    async def get(self, file_id: str, *, owner: str | None = None) -> File | None:
        """The file, or None, also when it is another owner's; ``owner`` None: whosever it is."""

    async def query(self, query: FileQuery) -> tuple[list[File], bool]:
        """A page of files that are nobody's variants, and whether there are more."""

    async def insert(self, file: File, *, key: str | None = None, fingerprint: str = "") -> File:
        """Add a file; gives it, or the one that was added under ``key`` before, and then nothing is written.

        A key is kept as long as its file.

        Raises:
            IdempotencyMismatch: the key came with another ``fingerprint``.
        """

    async def delete(self, file_id: str) -> bool:
        """Whether there was such a file; there is none now. Raises Conflict while it has variants."""

    async def keys(self, task_id: str) -> list[str]: ...


class Dispatcher(Protocol):
    """Wakes work in order of priority, so many at once in a lane. A hint: it may repeat, the journal decides."""

    def enqueue(self, task_id: str, *, lane: str, priority: int) -> None: ...

    def reprioritise(self, task_id: str, priority: int) -> None: ...

    def revoke(self, task_id: str) -> None:
        """Forget a task that waits; one that runs is not touched."""

    def position(self, task_id: str) -> int | None:
        """How many wait before it in its lane; None when it does not wait."""

    @property
    def waiting(self) -> int: ...

    async def run(self, handle: Callable[[str], Awaitable[None]]) -> None:
        """Hand each task id to ``handle`` until cancelled; the handlers are cancelled with it and awaited."""


class EventBus(Protocol):
    """Tells what happened. Publishing never waits and never fails.

    ``listen`` calls a function inside ``publish`` and wakes nothing. ``since`` gives what came after a number, for
    readers that go at a pace of their own or come back: of the last facts all, and of each task the latest reading.
    Everybody is given the same ``Event`` object, so that the edge builds its frame once for all.
    """

    def publish(self, event: Event) -> None: ...

    def next_seq(self) -> int: ...

    @property
    def last_seq(self) -> int: ...

    @property
    def last_fact(self) -> int:
        """Number of the latest fact; before the first one, the number that this start began with."""

    def since(self, after: int, limit: int, *, settled: bool = False) -> list[Event] | None:
        """The oldest ``limit`` of the events with ``seq`` > ``after``; None when some facts may be missing.

        ``settled``: also readings after which came a fact of their task.
        """

    def listen(self, task_ids: Iterable[str] | None, callback: Callable[[Event], None]) -> Listening:
        """Call ``callback`` at each event of these tasks (None: of all). It must neither wait nor raise."""


class Listening(Protocol):
    """One listener's place at the bus."""

    def watch(self, task_id: str) -> None:
        """Be told of this task too."""

    def unwatch(self, task_id: str) -> None: ...

    def close(self) -> None:
        """No call after this one."""
