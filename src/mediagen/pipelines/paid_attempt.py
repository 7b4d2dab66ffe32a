"""What the recipes of pictures and films share: work at a provider, paid once, and its results brought into the store.

The checkpoint of such an attempt:

    submitting   a paid call is about to be made; without an ``operation`` its outcome is unknown after a crash. False
                 again: it was turned away, nothing was begun, and it may be made anew
    operation    the job at the provider (``Operation.as_checkpoint``)
    over         that job has ended: there is nothing to cancel
    next         that job has made it: another attempt fetches the results, and pays for nothing
    kept         plans of results that are stored but not yet rows
    transfer     plan of the result that is being stored
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, TypeVar

import structlog

from mediagen.core.errors import (
    FetchRefused,
    InvalidRequest,
    MediagenError,
    OutcomeUnknown,
    ProviderError,
    ProviderRateLimited,
    StorageFull,
    TooLarge,
)
from mediagen.core.files import FileKind
from mediagen.core.progress import Progress
from mediagen.pipelines.base import Outcome, Run
from mediagen.pipelines.poll_deadline import NOT_YET, PollDeadline
from mediagen.pipelines.previews import Previews
from mediagen.pipelines.saving.saver import SaveOptions, Saver
from mediagen.pipelines.saving.wait_for_space import RETRY_SECONDS, may_have_room
from mediagen.providers.base import (
    About,
    Answer,
    Content,
    ImageRequest,
    Link,
    Made,
    MakesImages,
    Operation,
    Phase,
    Request,
    RunsOperations,
    Status,
    Told,
    Usage,
)
from mediagen.providers.calls.call_queue import turned_away
from mediagen.providers.registry import Providers
from mediagen.streams.base import StoredPart

log = structlog.get_logger(__name__)

T = TypeVar("T")

_RATE_LIMITED_ASKS: Final = 10
"""How often an attempt asks a provider that wants to be asked later; ten find its limit from the largest ceiling."""
_UNAVAILABLE_ASKS: Final = 5
"""How often it asks one that cannot be reached or is overloaded."""

_EXPIRED: Final = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.GONE})
_FETCHES: Final = 3
"""How often results are asked for, each time with fresh links."""
_FIRST_POLL: Final = 0.25
_LAST_POLL: Final = 5.0
_MAKING_PERCENT: Final = 90
"""Of a hundred, what is done when the provider is done; the rest is bringing it here."""


class PaidAttempt:
    """One attempt. ``generative`` False: it costs nothing and may be done again as often as need be."""

    def __init__(
        self,
        run: Run,
        providers: Providers,
        saver: Saver,
        *,
        generative: bool,
        previews: Previews | None = None,
    ) -> None:
        self._previews = previews
        self._run = run
        self._providers = providers
        self._saver = saver.waiting_for_room() if generative else saver
        self._generative = generative
        self._saved: dict[str, Any] = dict(run.resume)
        self._outcomes: list[Outcome] = []

    @property
    def operation(self) -> Operation | None:
        """The job that an earlier run of this attempt began."""
        saved = self._saved.get("operation")
        return None if saved is None else Operation.from_checkpoint(saved)

    async def submit(self, runner: RunsOperations, name: str, request: Request) -> Operation:
        """The job of a paid call to the provider of that name, saved before anything else is waited for.

        Raises:
            OutcomeUnknown: also when an earlier run was about to make this call: nobody knows what became of it.
        """

        async def call() -> Operation:
            operation = await runner.submit(request)
            await self._save(operation=operation.as_checkpoint())
            return operation

        return await self._asked(name, call)

    async def generate(
        self, maker: MakesImages, name: str, request: ImageRequest, wanted: SaveOptions
    ) -> tuple[Outcome, About]:
        """The results of a paid call that gives them at once, stored. Raises as ``submit``."""

        async def call() -> tuple[Outcome, About]:
            async with maker.generate(request) as answer:
                try:
                    outcome = await self.save_results(answer, wanted)
                except MediagenError as exc:
                    self._spent(name, answer.about.usage, exc)
                    raise
                self._spent(name, answer.about.usage)
                return outcome, answer.about

        return await self._asked(name, call)

    async def _asked(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a paid call when it is our turn, and again when it was turned away before anything was begun."""
        if self._saved.get("submitting") and self._generative:
            raise OutcomeUnknown(
                "the server stopped while the provider was asked; it may have been made and paid: look at the "
                "provider's account before trying again"
            )
        turns = self._providers.turns.get(name)
        if turns is None:
            await self._before_submit()
            return await call()
        place, asks = turns.place(), 0
        while True:
            turn = await turns.turn(place, self._run.seconds_left, lambda: self._run.report(Progress("waiting")))
            try:
                with turn:
                    await self._before_submit()
                    return await call()
            except ProviderError as exc:
                asks += 1
                most = _RATE_LIMITED_ASKS if isinstance(exc, ProviderRateLimited) else _UNAVAILABLE_ASKS
                stored = self._saved.get("kept") or self._saved.get("transfer")
                if asks >= most or stored or not turned_away(exc):
                    raise
                log.info("paid_call_turned_away", provider=name, asks=asks, reason=exc.detail)
            await self._save(submitting=False)

    async def _before_submit(self) -> None:
        """Say that a paid call is about to be made."""
        await self._drop_kept()
        self._run.report(Progress("submitting"))
        await self._save(submitting=True)

    def _spent(self, name: str, usage: Usage | None, exc: MediagenError | None = None) -> None:
        """Count what the provider says the work took; of work that failed the log tells it too."""
        if usage is None:
            return
        self._providers.spending.note(name, usage)
        if exc is not None:
            exc.context.update(usage=dict(usage.reported), cost_usd=usage.cost_usd)

    async def poll_until_completed(self, runner: RunsOperations, operation: Operation) -> Status:
        """The last reading of a job that has completed. Raises what it failed with.

        A job that is lost sight of is not stopped: it may be made all the same. Another attempt looks for it again.
        """
        looks, deadline = 0, self._poll_deadline(operation)
        while True:
            try:
                status = await runner.poll(operation)
            except ProviderError as exc:
                try:
                    await deadline.wait(exc)
                except ProviderError:
                    lost = {"operation": operation.as_checkpoint(), "over": True}
                    await self._save(**lost, next=lost)
                    raise
                continue
            deadline.reset()
            if status.operation != operation:
                operation = status.operation
                await self._save(operation=operation.as_checkpoint())
            if status.phase is Phase.COMPLETED:
                made = {"operation": operation.as_checkpoint(), "over": True}
                await self._save(**made, next=made)
            if status.phase is Phase.FAILED:
                await self._save(over=True)
            if status.phase is Phase.FAILED:
                error = status.error or ProviderError("the provider says that it failed, and not why")
                self._spent(operation.provider, status.usage, error)
                raise error
            if status.phase is Phase.COMPLETED:
                self._spent(operation.provider, status.usage)
                return status
            waiting = status.phase is Phase.QUEUED
            percent = None if status.percent is None else status.percent * _MAKING_PERCENT // 100
            self._run.report(Progress("waiting" if waiting else "generating", percent))
            await asyncio.sleep(status.poll_after or min(_LAST_POLL, _FIRST_POLL * 1.4**looks))
            looks += 1

    def _poll_deadline(self, operation: Operation) -> PollDeadline:
        return PollDeadline(self._run, self._providers.unsettled_seconds(operation.provider))

    async def fetch(self, runner: RunsOperations, status: Status, wanted: SaveOptions) -> tuple[Outcome, About]:
        """The results of a completed job, stored; asked for again when their links have expired, or nothing came.

        What the work took stands in the last reading of the job, or comes with its results.
        """
        if self._saved.get("kept"):  # an earlier run stored some of several: they are stored anew, all in one go
            await self._drop_kept()
        expired, deadline = 0, self._poll_deadline(status.operation)
        while True:
            try:
                async with runner.fetch(status.operation) as answer:
                    outcome, about = await self.save_results(answer, wanted), answer.about
            except FetchRefused as exc:
                if exc.context.get("status") in NOT_YET:
                    await deadline.wait(exc)
                    await self._drop_kept()
                    continue
                expired += 1
                if exc.context.get("status") not in _EXPIRED or expired == _FETCHES:
                    raise
                log.info("link_fetched_anew", fetches=expired, status=exc.context.get("status"))
            except StorageFull as exc:  # of a store that cannot wait in the middle of an upload
                if not self._generative or not may_have_room(exc):
                    raise
                log.warning("upload_waits_for_room", reason=exc.detail)
                await asyncio.sleep(RETRY_SECONDS)
            except ProviderError as exc:
                await deadline.wait(exc)
            else:
                if status.usage is None:
                    self._spent(status.operation.provider, about.usage)
                about.usage = about.usage or status.usage
                return outcome, about
            await self._drop_kept()

    async def save_results(self, answer: Answer, wanted: SaveOptions) -> Outcome:
        """The results of an answer, stored in their order. What was stored before one failed is removed."""
        indexes: list[int] = []
        try:
            async for made in answer:
                if isinstance(made, Content) and made.partial is not None:
                    await self._show(made)
                    continue
                indexes.append(made.index)
                self._outcomes.append(await self._save_result(made, wanted))
                # saved with the plan of the next one; until then the last plan says as much
                self._saved["kept"] = [*self._saved.get("kept", ()), self._saved.pop("transfer", {})]
            await self._drop_withdrawn(indexes, answer.about.withdrawn)
        except BaseException:
            await self._let_go()
            raise
        return self.outcome()

    async def _show(self, made: Content) -> None:
        """Show an earlier state of a picture. One that cannot be read costs no picture, a broken connection may."""
        if self._previews is None:
            return
        try:
            await self._previews.show(self._run.task_id, made)
        except OutcomeUnknown:
            raise
        except ProviderError as exc:
            log.info("preview_dropped", reason=exc.detail)

    async def _drop_withdrawn(self, indexes: list[int], withdrawn: Collection[int]) -> None:
        """Remove what came and turned out to be no result."""
        for position in reversed(range(len(indexes))):
            if indexes[position] in withdrawn:
                await self._saver.discard(self._outcomes[position])
                self._outcomes.pop(position).release()
                del self._saved["kept"][position]

    def outcome(self) -> Outcome:
        """All that was stored so far, in one."""
        outcomes = tuple(self._outcomes)
        files = tuple(file for outcome in outcomes for file in outcome.files)

        def release() -> None:
            for outcome in outcomes:
                outcome.release()

        return Outcome({"files": [file.id for file in files]}, files, release)

    async def _save_result(self, made: Made, wanted: SaveOptions) -> Outcome:
        run = _Within(self._run, self._saved)
        try:
            if isinstance(made, Link):
                saver = self._saver.trusting(made.trusted)
                outcome = await saver.save_url(made.url, wanted, run)
            else:
                outcome = await self._saver.save_source(made.source, wanted, run, declared=made.media_type)
        except (InvalidRequest, TooLarge) as exc:  # nothing that the caller sent
            raise ProviderError(f"what the provider made cannot be kept: {exc.detail}", cause=exc.code) from None
        if not all(file.bytes for file in outcome.files):
            outcome.release()
            raise ProviderError("the provider gave a result without a byte in it")
        return outcome

    async def _save(self, **fields: Any) -> None:
        self._saved.update(fields)
        await self._run.checkpoint(dict(self._saved))

    async def _drop_kept(self) -> None:
        """Remove what an earlier run stored: it is made, or fetched, again."""
        await self._saver.remove(self._saved)
        kept = self._saved.pop("kept", None)
        if self._saved.pop("transfer", None) is not None or kept:
            await self._run.checkpoint(dict(self._saved))

    async def _let_go(self) -> None:
        """Give back the room of what will be removed with the attempt."""
        for outcome in self._outcomes:
            outcome.release()
        self._outcomes.clear()


class _Within:
    """The attempt as the transfer of one result sees it: its checkpoint is a part of the whole."""

    def __init__(self, run: Run, saved: dict[str, Any]) -> None:
        self._run = run
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
        rest = 100 - _MAKING_PERCENT
        shown = None if percent is None else min(99, _MAKING_PERCENT + percent * rest // 100)
        self._run.report(replace(progress, percent=shown))

    async def checkpoint(self, checkpoint: Mapping[str, Any], /) -> None:
        self._saved["transfer"] = dict(checkpoint)
        await self._run.checkpoint(dict(self._saved))

    async def record_part(self, part: StoredPart, /) -> None:
        await self._run.record_part(part)

    async def parts(self) -> list[StoredPart]:
        return await self._run.parts()


async def abandon(checkpoint: Mapping[str, Any], providers: Providers, saver: Saver) -> None:
    """Remove what such an attempt left, here and at the provider. Raises what may be worth another try."""
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


def describe_result(about: About, told: Told) -> dict[str, Any]:
    """What a task's result says of an answer, and of what became of the wishes of its request."""
    said: dict[str, Any] = {
        "reported": dict(about.reported),
        "ignored": list(told.ignored),
        "adapted": {name: dict(instead) for name, instead in told.adapted.items()},
    }
    if about.usage is not None:
        said["usage"] = dict(about.usage.reported)
        said["cost_usd"] = about.usage.cost_usd
    return said


VIDEO: Final = SaveOptions(FileKind.VIDEO)
IMAGE: Final = SaveOptions(FileKind.IMAGE)
