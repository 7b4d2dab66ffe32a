"""The transfer of one result of an attempt that makes several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mediagen.core.progress import Progress
from mediagen.pipelines.base import Run
from mediagen.streams.base import StoredPart


class ResultRun:
    """An attempt as the transfer of one of its results sees it. Fits ``pipelines.base.Run``.

    The transfer's checkpoint becomes ``transfer`` of the attempt's, and its percentages
    become those from ``from_percent`` to 99.
    """

    def __init__(self, run: Run, saved: dict[str, Any], *, from_percent: int) -> None:
        self._run = run
        self._from_percent = from_percent
        self._saved = saved
        self.task_id = run.task_id
        self.attempt = run.attempt
        self.owner = run.owner
        self.resume: Mapping[str, Any] = saved.get("transfer") or {}

    @property
    def stopping(self) -> bool:
        return self._run.stopping

    @property
    def seconds_left(self) -> float:
        return self._run.seconds_left

    def report(self, progress: Progress, /) -> None:
        percent = progress.percent
        rest = 100 - self._from_percent
        shown = None if percent is None else min(99, self._from_percent + percent * rest // 100)
        self._run.report(replace(progress, percent=shown))

    async def checkpoint(self, checkpoint: Mapping[str, Any], /) -> None:
        self._saved["transfer"] = dict(checkpoint)
        await self._run.checkpoint(dict(self._saved))

    async def record_part(self, part: StoredPart, /) -> None:
        await self._run.record_part(part)

    async def parts(self) -> list[StoredPart]:
        return await self._run.parts()
