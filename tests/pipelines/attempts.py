"""One attempt of a task and its ledger, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mediagen.core.progress import Progress
from mediagen.streams.base import StoredPart


@dataclass
class Attempt:
    """Fits ``pipelines.base.Run``. ``after_crash`` is the attempt as a restarted server takes it up."""

    resume: Mapping[str, Any] = field(default_factory=dict)
    stopping: bool = False
    seconds_left: float = 1800.0
    task_id: str = "task_1"
    attempt: int = 1
    owner: str | None = "somebody"
    readings: list[Progress] = field(default_factory=list)
    saved: list[Mapping[str, Any]] = field(default_factory=list)
    recorded: dict[int, StoredPart] = field(default_factory=dict)
    newly_recorded: list[int] = field(default_factory=list)
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self, progress: Progress, /) -> None:
        self.readings.append(progress)
        self.happened.set()

    async def checkpoint(self, checkpoint: Mapping[str, Any], /) -> None:
        await asyncio.sleep(0)
        self.saved.append(dict(checkpoint))
        self.happened.set()

    async def record_part(self, part: StoredPart, /) -> None:
        await asyncio.sleep(0)
        self.recorded[part.number] = part
        self.newly_recorded.append(part.number)
        self.happened.set()

    async def parts(self) -> list[StoredPart]:
        return [self.recorded[number] for number in sorted(self.recorded)]

    async def reaches(self, holds: Callable[[Attempt], bool]) -> None:
        """Wait for something to be reported, saved or recorded."""
        async with asyncio.timeout(10):
            while not holds(self):
                self.happened.clear()
                await self.happened.wait()

    def after_crash(self) -> Attempt:
        return Attempt(resume=self.saved[-1] if self.saved else {}, recorded=dict(self.recorded))


@dataclass
class Debts:
    """Fits ``pipelines.base.Ledger`` where a request is carried out without a task."""

    owed: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    count: int = 0

    async def owe_abort(self, state: Mapping[str, Any]) -> int:
        self.count += 1
        self.owed[self.count] = dict(state)
        return self.count

    async def owed_aborts(self, limit: int, *, after: int = 0) -> list[tuple[int, Mapping[str, Any]]]:
        return [debt for debt in self.owed.items() if debt[0] > after][:limit]

    async def looked(self, debt_id: int, *, more: int) -> int:
        raise AssertionError("nobody looks here")

    async def settle_abort(self, debt_id: int, *, owing: Sequence[Mapping[str, Any]] = ()) -> None:
        for state in owing:
            await self.owe_abort(state)
        self.owed.pop(debt_id, None)

    async def checkpoint(self, task_id: str, attempt: int, checkpoint: Mapping[str, Any]) -> None:
        raise AssertionError("there is no task yet")

    async def record_part(self, task_id: str, attempt: int, part: StoredPart) -> None:
        raise AssertionError("there is no task yet")

    async def parts(self, task_id: str, attempt: int) -> list[StoredPart]:
        raise AssertionError("there is no task yet")

    async def forget_parts(self, task_id: str) -> None:
        raise AssertionError("there is no task yet")


def files_below(folder: Path) -> list[str]:
    """Every file, unfinished ones among them."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
