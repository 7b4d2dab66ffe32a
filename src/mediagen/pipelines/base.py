"""What a recipe is, and what it may ask of the room that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from mediagen.core.files import File
from mediagen.core.progress import Progress
from mediagen.streams.base import StoredPart


def _nothing_held() -> None:
    """The outcome holds nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pipeline made: the task's result (ids, never URLs) and the files that become rows together with it.

    ``release`` is called once they are rows, or discarded: until then the outcome holds its room in the store.
    """

    result: dict[str, Any]
    files: tuple[File, ...] = ()
    release: Callable[[], None] = field(default=_nothing_held, compare=False, repr=False)


class Ledger(Protocol):
    """What a running transfer must remember over a crash."""

    async def checkpoint(self, task_id: str, attempt: int, checkpoint: Mapping[str, Any]) -> None:
        """Replace the checkpoint of that attempt. Durable when it returns; ignored when the attempt is over."""

    async def record_part(self, task_id: str, attempt: int, part: StoredPart) -> None:
        """Add a stored part. Durable when it returns; writes of many transfers share one commit."""

    async def parts(self, task_id: str, attempt: int) -> list[StoredPart]: ...

    async def forget_parts(self, task_id: str) -> None: ...

    async def owe_abort(self, state: Mapping[str, Any]) -> int:
        """Remember something in the store that is to be removed later; the id of the debt, the same for the same."""

    async def owed_aborts(self, limit: int, *, after: int = 0) -> list[tuple[int, Mapping[str, Any]]]:
        """The oldest debts with ids above ``after``, each with its id."""

    async def looked(self, debt_id: int, *, more: int) -> int:
        """How often a debt was looked for, with ``more`` looks added; 0 when it is settled."""

    async def settle_abort(self, debt_id: int, *, owing: Sequence[Mapping[str, Any]] = ()) -> None:
        """Forget a debt, and owe others in its place, in one transaction."""


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
        """The server is shutting down: leave what a later start can go on from."""

    @property
    def seconds_left(self) -> float:
        """Until the time limit of the attempt ends it."""

    def report(self, progress: Progress, /) -> None:
        """Publish a reading; never waits."""

    async def checkpoint(self, checkpoint: Mapping[str, Any], /) -> None:
        """Save what a later run needs, before waiting for anything that can be lost.

        ``checkpoint["next"]``, if there is one, is what another attempt at the same request begins with.
        """

    async def record_part(self, part: StoredPart, /) -> None: ...

    async def parts(self) -> list[StoredPart]: ...


class Pipeline(Protocol):
    """A recipe for one kind of task. It raises typed errors and reports values; time is the runner's."""

    @property
    def kind(self) -> str: ...

    @property
    def lane(self) -> str: ...

    @property
    def spec(self) -> type[BaseModel]:
        """The model of the request."""

    async def run(self, spec: Any, run: Run, /) -> Outcome: ...

    async def abandon(self, checkpoint: Mapping[str, Any], /) -> None:
        """Remove what an attempt left that will never go on (its task was cancelled, failed or deleted)."""

    async def discard(self, outcome: Outcome, /) -> None:
        """Remove the objects of an outcome that lost against a cancel."""
