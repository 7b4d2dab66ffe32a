"""One attempt at work that a provider is paid for: called once, waited for, its results saved."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeVar

import structlog

from mediagen.core.errors import (
    FetchRefused,
    MediagenError,
    OutcomeUnknown,
    ProviderError,
    ProviderRateLimited,
    StorageFull,
)
from mediagen.core.files import FileKind
from mediagen.core.progress import Progress
from mediagen.pipelines.base import Outcome, Run
from mediagen.pipelines.paid_checkpoint import MAKING_PERCENT, PaidCheckpoint
from mediagen.pipelines.paid_results import ResultSaver
from mediagen.pipelines.poll_deadline import NOT_YET, PollDeadline
from mediagen.pipelines.previews import Previews
from mediagen.pipelines.saving.saver import SaveOptions, Saver
from mediagen.pipelines.saving.wait_for_space import RETRY_SECONDS, may_have_space
from mediagen.providers.base import (
    About,
    ImageRequest,
    MakesImages,
    Operation,
    Phase,
    Request,
    RunsOperations,
    Status,
    Usage,
)
from mediagen.providers.calls.call_queue import is_rejected_before_start
from mediagen.providers.registry import Providers

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


class PaidAttempt:
    """One attempt, whose results are of one ``kind``.

    ``generative`` False: the work costs nothing and may be repeated. Otherwise a full store is waited for.
    """

    def __init__(
        self,
        run: Run,
        providers: Providers,
        saver: Saver,
        kind: FileKind,
        *,
        generative: bool,
        previews: Previews | None = None,
    ) -> None:
        self._run = run
        self._providers = providers
        self._generative = generative
        self._checkpoint = PaidCheckpoint(run, saver)
        options = SaveOptions(kind, waits_for_space=generative)
        self._results = ResultSaver(run.task_id, self._checkpoint, saver, options, previews)

    @property
    def operation(self) -> Operation | None:
        """The job that an earlier run of this attempt began."""
        return self._checkpoint.operation

    async def submit(self, runner: RunsOperations, name: str, request: Request) -> Operation:
        """Begin a job by a paid call to the provider of that name. It is recorded before anything else is waited for.

        Raises:
            OutcomeUnknown: also when an earlier run was about to make this call: nobody knows what became of it.
        """

        async def call() -> Operation:
            operation = await runner.submit(request)
            await self._checkpoint.save(operation=operation.as_checkpoint())
            return operation

        return await self._call(name, call)

    async def generate(self, maker: MakesImages, name: str, request: ImageRequest) -> tuple[Outcome, About]:
        """Make a paid call that gives its results at once, and save them. Raises as ``submit``."""

        async def call() -> tuple[Outcome, About]:
            async with maker.generate(request) as answer:
                try:
                    outcome = await self._results.save(answer)
                except MediagenError as exc:
                    self._note_usage(name, answer.about.usage, exc)
                    raise
                self._note_usage(name, answer.about.usage)
                return outcome, answer.about

        return await self._call(name, call)

    async def _call(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a paid call when it is our turn, and again while the provider rejects it before starting work."""
        if self._checkpoint.is_submitting and self._generative:
            raise OutcomeUnknown(
                "the server stopped during a paid call, which may have been carried out: check the provider's "
                "account before you retry"
            )
        call_queue = self._providers.call_queues.get(name)
        if call_queue is None:
            await self._before_submit()
            return await call()
        place, asks = call_queue.place(), 0
        while True:
            permit = await call_queue.acquire(
                place, self._run.seconds_left, lambda: self._run.report(Progress("waiting"))
            )
            try:
                with permit:
                    await self._before_submit()
                    return await call()
            except ProviderError as exc:
                asks += 1
                most = _RATE_LIMITED_ASKS if isinstance(exc, ProviderRateLimited) else _UNAVAILABLE_ASKS
                if asks >= most or self._checkpoint.has_results or not is_rejected_before_start(exc):
                    raise
                log.info("paid_call_turned_away", provider=name, asks=asks, reason=exc.detail)
            await self._checkpoint.save(submitting=False)

    async def _before_submit(self) -> None:
        """Record that a paid call is about to be made."""
        await self._checkpoint.drop_results()
        self._run.report(Progress("submitting"))
        await self._checkpoint.save(submitting=True)

    def _note_usage(self, name: str, usage: Usage | None, exc: MediagenError | None = None) -> None:
        """Count what the provider says the work took; ``exc`` carries it to the log when the work failed."""
        if usage is None:
            return
        self._providers.spending.note(name, usage)
        if exc is not None:
            exc.context.update(usage=dict(usage.reported), cost_usd=usage.cost_usd)

    async def poll_until_completed(self, runner: RunsOperations, operation: Operation) -> Status:
        """The last reading of a job that has completed. Raises what it failed with.

        A job that cannot be polled any more is not cancelled: it may complete all the same. Another attempt polls it.
        """
        polls, deadline = 0, self._poll_deadline(operation)
        while True:
            try:
                status = await runner.poll(operation)
            except ProviderError as exc:
                try:
                    await deadline.wait(exc)
                except ProviderError:
                    await self._hand_on(operation)
                    raise
                continue
            deadline.reset()
            if status.operation != operation:
                operation = status.operation
                await self._checkpoint.save(operation=operation.as_checkpoint())
            if status.phase is Phase.COMPLETED:
                await self._hand_on(operation)
                self._note_usage(operation.provider, status.usage)
                return status
            if status.phase is Phase.FAILED:
                await self._checkpoint.save(over=True)
                error = status.error or ProviderError("the provider reports a failure without a reason")
                self._note_usage(operation.provider, status.usage, error)
                raise error
            phase = "waiting" if status.phase is Phase.QUEUED else "generating"
            percent = None if status.percent is None else status.percent * MAKING_PERCENT // 100
            self._run.report(Progress(phase, percent))
            await asyncio.sleep(status.poll_after or min(_LAST_POLL, _FIRST_POLL * 1.4**polls))
            polls += 1

    async def _hand_on(self, operation: Operation) -> None:
        """Record that another attempt goes on with this job, and that it is not to be cancelled."""
        job = {"operation": operation.as_checkpoint(), "over": True}
        await self._checkpoint.save(**job, next=job)

    def _poll_deadline(self, operation: Operation) -> PollDeadline:
        return PollDeadline(self._run, self._providers.unsettled_seconds(operation.provider))

    async def fetch(self, runner: RunsOperations, status: Status) -> tuple[Outcome, About]:
        """Save the results of a completed job. They are asked for again when links have expired, or nothing came.

        The usage stands in the last reading of the job, or comes with its results.
        """
        if self._checkpoint.has_kept_results:  # an earlier run stored some of several: all are stored anew
            await self._checkpoint.drop_results()
        expired, deadline = 0, self._poll_deadline(status.operation)
        while True:
            try:
                async with runner.fetch(status.operation) as answer:
                    outcome, about = await self._results.save(answer), answer.about
            except FetchRefused as exc:
                if exc.context.get("status") in NOT_YET:
                    await deadline.wait(exc)
                    await self._checkpoint.drop_results()
                    continue
                expired += 1
                if exc.context.get("status") not in _EXPIRED or expired == _FETCHES:
                    raise
                log.info("link_fetched_anew", fetches=expired, status=exc.context.get("status"))
            except StorageFull as exc:  # of a store that cannot wait in the middle of an upload
                if not self._generative or not may_have_space(exc):
                    raise
                log.warning("upload_waits_for_room", reason=exc.detail)
                await asyncio.sleep(RETRY_SECONDS)
            except ProviderError as exc:
                await deadline.wait(exc)
            else:
                if status.usage is None:
                    self._note_usage(status.operation.provider, about.usage)
                about.usage = about.usage or status.usage
                return outcome, about
            await self._checkpoint.drop_results()
