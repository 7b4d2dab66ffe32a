"""The checkpoint of an attempt that pays a provider:

submitting   a paid call is about to be made; after a crash without an ``operation`` its outcome is unknown. False
             again: the provider rejected the call before starting work, so it may be repeated
operation    the job at the provider (``Operation.as_checkpoint``)
over         that job has ended: there is nothing to cancel
next         that job has completed: another attempt fetches its results, and pays nothing
kept         placements of results that are stored but not yet rows
transfer     placement of the result that is being stored
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog

from mediagen.core.errors import MediagenError, ProviderRateLimited
from mediagen.pipelines.base import Run
from mediagen.pipelines.saving.result_run import ResultRun
from mediagen.pipelines.saving.saver import Saver
from mediagen.providers.base import Operation
from mediagen.providers.registry import Providers

log = structlog.get_logger(__name__)

MAKING_PERCENT: Final = 90
"""Percent of the progress when the provider is done; the rest is saving the results."""


class PaidCheckpoint:
    """The checkpoint of one attempt. What is changed is durable when the call returns, unless it says otherwise."""

    def __init__(self, run: Run, saver: Saver) -> None:
        self._run = run
        self._saver = saver
        self._saved: dict[str, Any] = dict(run.resume)

    @property
    def operation(self) -> Operation | None:
        """The job at the provider."""
        saved = self._saved.get("operation")
        return None if saved is None else Operation.from_checkpoint(saved)

    @property
    def is_submitting(self) -> bool:
        """Whether a paid call was about to be made."""
        return bool(self._saved.get("submitting"))

    @property
    def has_kept_results(self) -> bool:
        """Whether a result is stored."""
        return bool(self._saved.get("kept"))

    @property
    def has_results(self) -> bool:
        """Whether a result is stored, or being stored."""
        return self.has_kept_results or bool(self._saved.get("transfer"))

    async def save(self, **fields: Any) -> None:
        self._saved.update(fields)
        await self._run.checkpoint(dict(self._saved))

    def transfer(self) -> Run:
        """The attempt as the transfer of one result sees it."""
        return ResultRun(self._run, self._saved, from_percent=MAKING_PERCENT)

    def keep_transfer(self) -> None:
        """The result of the transfer is stored. The next change records this; until then ``transfer`` names it."""
        self._saved["kept"] = [*self._saved.get("kept", ()), self._saved.pop("transfer", {})]

    def forget_result(self, position: int) -> None:
        """The stored result at that position was removed. Recorded with the next change."""
        del self._saved["kept"][position]

    async def drop_results(self) -> None:
        """Remove the results that are stored: they are made, or fetched, again."""
        await self._saver.remove(self._saved)
        kept = self._saved.pop("kept", None)
        if self._saved.pop("transfer", None) is not None or kept:
            await self._run.checkpoint(dict(self._saved))


async def abandon(checkpoint: Mapping[str, Any], providers: Providers, saver: Saver) -> None:
    """Remove what an attempt with this checkpoint left, here and at the provider.

    Raises:
        MediagenError: a later try may help.
    """
    await saver.remove(checkpoint)
    saved = checkpoint.get("operation")
    if saved is None or checkpoint.get("over"):
        return
    operation = Operation.from_checkpoint(saved)
    try:
        stops = await providers.operations_of(operation.provider).cancel(operation)
    except ProviderRateLimited:
        raise
    except MediagenError as exc:
        if exc.retryable:
            raise
        log.warning("operation_not_cancelled", provider=operation.provider, reason=exc.detail)
    else:
        log.info("operation_cancelled", provider=operation.provider, stops=stops)
