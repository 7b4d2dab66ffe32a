"""Saves the results of a paid call, in their order, and shows earlier states of images on the way."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import structlog

from mediagen.core.errors import InvalidRequest, OutcomeUnknown, ProviderError, TooLarge
from mediagen.pipelines.base import Outcome
from mediagen.pipelines.paid_checkpoint import PaidCheckpoint
from mediagen.pipelines.previews import Previews
from mediagen.pipelines.saving.saver import SaveOptions, Saver
from mediagen.providers.base import About, Answer, Content, EffectiveOptions, Link, Made

log = structlog.get_logger(__name__)


class ResultSaver:
    """Saves the results of one attempt. ``previews`` None: earlier states are skipped."""

    def __init__(
        self,
        task_id: str,
        checkpoint: PaidCheckpoint,
        saver: Saver,
        options: SaveOptions,
        previews: Previews | None = None,
    ) -> None:
        self._task_id = task_id
        self._checkpoint = checkpoint
        self._saver = saver
        self._options = options
        self._previews = previews

    async def save(self, answer: Answer) -> Outcome:
        """Save the results of an answer. If one fails, the attempt's clean-up removes those before it.

        Raises:
            ProviderError: a result is empty, or nothing that can be kept.
            FetchFailed, StorageUnavailable, StorageFull and their kin.
        """
        outcomes: list[Outcome] = []
        indexes: list[int] = []
        try:
            async for made in answer:
                if isinstance(made, Content) and made.partial is not None:
                    await self._show(made)
                    continue
                outcomes.append(await self._save_one(made))
                indexes.append(made.index)
                self._checkpoint.keep_transfer()
            await self._remove_withdrawn(outcomes, indexes, answer.about.withdrawn)
        except BaseException:
            for outcome in outcomes:
                outcome.release()
            raise
        return _join(outcomes)

    async def _show(self, content: Content) -> None:
        """Show an earlier state of an image. If it cannot be read, the image is not lost; its connection may be."""
        if self._previews is None:
            return
        try:
            await self._previews.show(self._task_id, content)
        except OutcomeUnknown:
            raise
        except ProviderError as exc:
            log.info("preview_dropped", reason=exc.detail)

    async def _remove_withdrawn(self, outcomes: list[Outcome], indexes: list[int], withdrawn: Collection[int]) -> None:
        """Remove what came and turned out to be no result."""
        for position in reversed(range(len(indexes))):
            if indexes[position] in withdrawn:
                await self._saver.discard(outcomes[position])
                outcomes.pop(position).release()
                self._checkpoint.forget_result(position)

    async def _save_one(self, made: Made) -> Outcome:
        run = self._checkpoint.transfer()
        try:
            if isinstance(made, Link):
                outcome = await self._saver.save_url(made.url, self._options, run, trusted=made.trusted)
            else:
                outcome = await self._saver.save_source(made.source, self._options, run, declared=made.media_type)
        except (InvalidRequest, TooLarge) as exc:  # nothing that the caller sent
            raise ProviderError(f"the provider's result cannot be stored: {exc.detail}", cause=exc.code) from None
        if not all(file.bytes for file in outcome.files):
            outcome.release()
            raise ProviderError("the provider gave an empty result")
        return outcome


def _join(outcomes: list[Outcome]) -> Outcome:
    """Several outcomes as one."""
    files = tuple(file for outcome in outcomes for file in outcome.files)

    def release() -> None:
        for outcome in outcomes:
            outcome.release()

    return Outcome({"files": [file.id for file in files]}, files, release)


def describe_result(about: About, told: EffectiveOptions) -> dict[str, Any]:
    """What a task's result says of an answer, and of what became of the options of its request."""
    said: dict[str, Any] = {
        "reported": dict(about.reported),
        "ignored": list(told.ignored),
        "adapted": {name: dict(instead) for name, instead in told.adapted.items()},
    }
    if about.usage is not None:
        said["usage"] = dict(about.usage.reported)
        said["cost_usd"] = about.usage.cost_usd
    return said
