"""The interfaces between pipelines and the task runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from mediagen.core.files import File
from mediagen.core.progress import Progress
from mediagen.streams.base import StoredPart


def _nothing_held() -> None:
    """For an outcome without reserved space."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a pipeline (ids, never URLs), and the files that become rows in the same transaction.

    ``release`` is called once they are rows, or discarded: until then the outcome holds reserved space in the store.
    """

    result: dict[str, Any]
    files: tuple[File, ...] = ()
    release: Callable[[], None] = field(default=_nothing_held, compare=False, repr=False)


class Ledger(Protocol):
    """Durable records of transfers, which survive a crash."""

    async def checkpoint(self, task_id: str, attempt: int, checkpoint: Mapping[str, Any]) -> None:
        """Replace the checkpoint of that attempt. Durable when it returns; ignored when the attempt is over."""

    async def record_part(self, task_id: str, attempt: int, part: StoredPart) -> None:
        """Add a stored part. Durable when it returns; writes of many transfers share one commit."""

    async def parts(self, task_id: str, attempt: int) -> list[StoredPart]: ...

    async def forget_parts(self, task_id: str) -> None: ...

    async def owe_abort(self, state: Mapping[str, Any]) -> int:
        """Record a cleanup: something to remove from the store later. The same state gives the same id."""

    async def owed_aborts(self, limit: int, *, after: int = 0) -> list[tuple[int, Mapping[str, Any]]]:
        """The oldest recorded cleanups with ids above ``after``, each with its id."""

    async def looked(self, debt_id: int, *, more: int) -> int:
        """Add ``more`` to the number of times that a cleanup was tried, and return it; 0: it is settled."""

    async def settle_abort(self, debt_id: int, *, owing: Sequence[Mapping[str, Any]] = ()) -> None:
        """Drop a recorded cleanup, and record others in its place, in one transaction."""


class Run(Protocol):
    """One attempt of one task, as its pipeline sees it."""

    @property
    def task_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def owner(self) -> str | None: ...

    @property
    def resume(self) -> Mapping[str, Any]:
        """What an earlier run of this attempt saved before the server stopped; empty when there is none."""

    @property
    def stopping(self) -> bool:
        """Whether the server is shutting down: leave what a later start can resume."""

    @property
    def seconds_left(self) -> float:
        """Seconds until the attempt reaches its time limit."""

    def report(self, progress: Progress, /) -> None:
        """Publish progress; never waits."""

    async def checkpoint(self, checkpoint: Mapping[str, Any], /) -> None:
        """Save what a later run needs, before waiting for anything that can be lost.

        ``checkpoint["next"]``, if there is one, is the checkpoint that another attempt at the same request begins with.
        """

    async def record_part(self, part: StoredPart, /) -> None: ...

    async def parts(self) -> list[StoredPart]: ...


class Pipeline(Protocol):
    """Carries out one kind of task. It raises typed errors and reports progress; time limits are the runner's."""

    @property
    def kind(self) -> str: ...

    @property
    def lane(self) -> str: ...

    @property
    def spec(self) -> type[BaseModel]:
        """The model of the stored request."""

    async def run(self, spec: Any, run: Run, /) -> Outcome: ...

    async def abandon(self, checkpoint: Mapping[str, Any], /) -> None:
        """Remove what an attempt left that will not be resumed (its task was cancelled, failed or deleted)."""

    async def discard(self, outcome: Outcome, /) -> None:
        """Remove the objects of an outcome whose task was cancelled meanwhile."""
