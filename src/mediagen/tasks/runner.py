"""Runs pipelines: the one place where an exception becomes a state, and where time is kept.

An attempt ends by what its pipeline gives or raises, by its time limit, by a user's cancel, or by the shutdown. The
last two are told apart: a cancelled task is cancelled for good, one that the shutdown stops goes back to the queue
and the next start goes on with it. Clean-up is bounded in every case: what a pipeline does not manage in time after
it was cancelled goes on by itself for a while, and what the attempt left in the store is owed (``tasks.debts``).
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import structlog

from mediagen.core.clock import Clock
from mediagen.core.errors import Conflict, NotFound
from mediagen.core.tasks import Task, TaskError, TaskStatus
from mediagen.pipelines.base import Ledger, Outcome, Pipeline
from mediagen.storage.base import Storage
from mediagen.tasks.attempt import AttemptRun, until_done
from mediagen.tasks.cleanups import CleanUps
from mediagen.tasks.deferred_cleanup import Debts
from mediagen.tasks.outcomes import cancel_of, cancelled, poisoned, timed_out, unknown_kind, verdict_of
from mediagen.tasks.ports import Dispatcher, Files
from mediagen.tasks.registry import Registry
from mediagen.tasks.requests import validated
from mediagen.tasks.settings import TasksSettings

log = structlog.get_logger(__name__)

UNWIND_SECONDS: Final = 0.6
"""How long a cancelled pipeline may clean up before its task is ended without it."""
ABANDON_SECONDS: Final = 0.3
"""How long the removal of what an attempt left may hold up the end of its task; then it is owed."""
STOP_SECONDS: Final = 5.0
"""How long a pipeline may take to leave things resumable at shutdown."""
MAX_CLAIMS: Final = 5
DELETIONS_SECONDS: Final = 5.0
"""How long a start waits until deletions that a kill interrupted are finished; then they go on beside it."""


class Halt(enum.Enum):
    """Why an attempt was stopped from outside."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"


class Attempt:
    """An attempt that this process has taken on."""

    def __init__(self) -> None:
        self.halted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.run: AttemptRun | None = None

    def halt(self) -> None:
        if not self.halted.done():
            self.halted.set_result(None)


class TaskRunner:
    """Takes tasks from the dispatcher and carries them out. ``async with`` recovers, runs, and stops."""

    def __init__(
        self,
        registry: Registry,
        dispatcher: Dispatcher,
        ledger: Ledger,
        files: Files,
        pipelines: Iterable[Pipeline],
        settings: TasksSettings,
        *,
        storage: Storage | None = None,
        boot: int = 0,
        stop_seconds: float = STOP_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        """``storage`` is where pipelines keep files, if they do; ``boot`` numbers this start.

        ``stop_seconds``: how long pipelines may take at shutdown, and what lingers after them.
        """
        self._stop_seconds = stop_seconds
        self._clock = clock or Clock()
        self.pipelines: Mapping[str, Pipeline] = {pipeline.kind: pipeline for pipeline in pipelines}
        self.debts = Debts(registry, ledger, files, self.pipelines, storage, boot)
        self._registry = registry
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._settings = settings
        self._attempts: dict[str, Attempt] = {}
        self._clean_ups = CleanUps()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._main: asyncio.Task[None] | None = None

    # -- life

    async def __aenter__(self) -> Self:
        await self.recover()
        await self._clean_ups.within(self.debts.finish_deletions(), DELETIONS_SECONDS, "deletions")
        self._main = asyncio.get_running_loop().create_task(self._run())
        self._main.add_done_callback(self._died)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def running(self) -> int:
        """Attempts that are being carried out."""
        return len(self._attempts)

    @property
    def healthy(self) -> bool:
        """It takes tasks from the dispatcher (for readiness)."""
        return self._main is not None and not self._main.done() and not self._draining

    async def drain(self, seconds: float) -> None:
        """Begin nothing new, and wait up to ``seconds`` for what runs."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.info("drain_ended_early", running=self.running)

    async def stop(self) -> None:
        """Send what runs back to the queue, resumable, and wait for clean-ups; bounded by some seconds."""
        self._draining = True
        for attempt in self._attempts.values():
            if attempt.run is not None:
                attempt.run.stopping = True
        if self._main is not None:
            self._main.cancel()
            await asyncio.wait({self._main})
        await self._clean_ups.finish(self._stop_seconds)
        await self._registry.aclose()

    async def recover(self) -> None:
        """Take up what an earlier start left: nothing accepted is lost, nothing cancelled comes back."""
        for task in await self._registry.load():
            with structlog.contextvars.bound_contextvars(task_id=task.id):
                recovered = await self._recover(task)
            if recovered is task:  # it was queued and still is
                self._dispatcher.enqueue(task.id, lane=task.lane, priority=task.priority)

    async def _recover(self, task: Task) -> Task:
        if task.cancel_requested:
            log.info("task_recovered", status="cancelled")
            return await self._give_up(task, TaskStatus.CANCELLED, cancelled(task))
        if task.status is not TaskStatus.RUNNING:
            return task
        claims = task.claims + 1
        if claims >= MAX_CLAIMS:
            log.error("task_poisoned", claims=claims)
            return await self._give_up(task, TaskStatus.FAILED, poisoned(task, claims))
        log.info("task_recovered", status="queued", claims=claims)
        return await self._registry.move(task.id, TaskStatus.QUEUED, claims=claims)

    async def _give_up(self, task: Task, status: TaskStatus, error: TaskError) -> Task:
        if task.checkpoint:
            await self.debts.owe(task, task.checkpoint)
        ended = await self._registry.end(task, status, error=error)
        self.debts.settle_soon()
        return ended

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._dispatcher.run(self._handle))
            loops.create_task(self.debts.settle_forever())

    def _died(self, main: asyncio.Task[None]) -> None:
        if not main.cancelled() and (exc := main.exception()) is not None:
            log.critical("runner_died", exc_info=exc)

    # -- cancelling

    async def cancel(self, task: Task) -> Task:
        """Ask that ``task`` ends as cancelled. The row says so before this returns; the end of a running one follows.

        Raises:
            Conflict: it ended otherwise.
        """
        if task.status is TaskStatus.QUEUED and task.checkpoint:  # stopped and not yet taken up again
            await self.debts.owe(task, task.checkpoint)

        after = await self._registry.change(task.id, lambda was: cancel_of(was, self._clock.now()))
        if after.ended:
            self.debts.settle_soon()
        elif (attempt := self._attempts.get(task.id)) is not None:
            attempt.halt()
        else:  # it runs by its row alone: nothing will end it but this
            return await self._registry.end(after, TaskStatus.CANCELLED, error=cancelled(after))
        return after

    # -- one attempt

    async def _handle(self, task_id: str) -> None:
        if self._draining:
            return  # its row says queued: the next start takes it up
        attempt = Attempt()
        self._attempts[task_id] = attempt
        self._idle.clear()
        try:
            with structlog.contextvars.bound_contextvars(task_id=task_id):
                task = await self._claim(task_id)
                if task is not None:
                    await self._carry_out(task, attempt)
        except Exception:  # a fault of ours in ending this task must not end the others
            log.exception("task_not_ended")  # its row says running: the next start takes it up
        finally:
            del self._attempts[task_id]
            if not self._attempts:
                self._idle.set()

    async def _claim(self, task_id: str) -> Task | None:
        """The task, running now; None when it does not wait any more."""
        now = self._clock.now()

        def next_of(was: Task) -> Task:
            return was.to(TaskStatus.RUNNING, now=now, started_at=was.started_at or now)

        try:
            return await until_done(lambda: self._registry.change(task_id, next_of))
        except (Conflict, NotFound):
            return None

    async def _carry_out(self, task: Task, attempt: Attempt) -> None:
        log.info("task_started", kind=task.kind, attempt=task.attempt, claims=task.claims)
        pipeline = self.pipelines.get(task.kind)
        if pipeline is None:
            error = unknown_kind(task)
            await until_done(lambda: self._registry.end(task, TaskStatus.FAILED, error=error))
            return
        run = attempt.run = AttemptRun(task, self._registry, self._ledger, self.debts)
        work = self._clean_ups.start(perform(pipeline, task, run))
        halt: Halt | None = None
        try:
            either: set[asyncio.Future[Any]] = {work, attempt.halted}
            await asyncio.wait(either, timeout=task.timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                halt = Halt.CANCEL if attempt.halted.done() else Halt.TIMEOUT
                await self._unwind(work, UNWIND_SECONDS)
        except asyncio.CancelledError:
            run.stopping = True
            if not work.done() and halt is None:
                halt = Halt.SHUTDOWN
            await self._unwind(work, self._stop_seconds)
            await self._conclude(task, pipeline, run, work, halt)
            raise
        concluding = self._clean_ups.start(self._conclude(task, pipeline, run, work, halt))
        try:
            await asyncio.shield(concluding)
        except asyncio.CancelledError:
            await asyncio.wait({concluding}, timeout=self._stop_seconds)
            raise

    async def _unwind(self, work: asyncio.Task[Outcome], seconds: float) -> None:
        """Cancel the pipeline and let it clean up; it goes on by itself when that takes longer than ``seconds``."""
        if work.done():
            return
        work.cancel()
        await asyncio.wait({work}, timeout=seconds)
        if not work.done():
            self._clean_ups.linger(work, "pipeline")

    async def _conclude(
        self, task: Task, pipeline: Pipeline, run: AttemptRun, work: asyncio.Task[Outcome], halt: Halt | None
    ) -> None:
        if work.done() and not work.cancelled() and work.exception() is None:
            outcome = work.result()
            try:
                await self._complete(task, pipeline, run, outcome)
            finally:
                outcome.release()
            return
        if halt is Halt.SHUTDOWN:
            await self._put_back(task, pipeline, run)
            return
        if halt is Halt.CANCEL:
            status, error = TaskStatus.CANCELLED, cancelled(task)
        elif halt is Halt.TIMEOUT:
            status, error = TaskStatus.TIMED_OUT, timed_out(task)
        else:
            status, error = verdict_of(task, None if work.cancelled() else work.exception())
        await self._end_badly(task, pipeline, run, status, error)

    async def _complete(self, task: Task, pipeline: Pipeline, run: AttemptRun, outcome: Outcome) -> None:
        try:
            owes = await until_done(lambda: self.debts.look_later(task, run.checkpoint_now, becomes=True))
            await until_done(
                lambda: self._registry.end(task, TaskStatus.COMPLETED, files=outcome.files, result=outcome.result)
            )
        except Exception as exc:  # noqa: BLE001 - a cancel came first, or what it made is no row: nothing of it may stay
            if await self._is_completed(task):  # a write was durable although the disk reported an error
                return
            await self._clean_ups.within(pipeline.discard(outcome), ABANDON_SECONDS, "discard")
            await self._end_badly(task, pipeline, run, *verdict_of(task, exc))
        else:
            if owes:
                self.debts.settle_soon()
            log.info("task_completed", attempt=task.attempt)

    async def _is_completed(self, task: Task) -> bool:
        try:
            now = await until_done(lambda: self._registry.get(task.id))
        except NotFound:
            return False
        return now.status is TaskStatus.COMPLETED and now.attempt == task.attempt

    async def _put_back(self, task: Task, pipeline: Pipeline, run: AttemptRun) -> None:
        def check(was: Task) -> None:
            if was.cancel_requested:
                raise Conflict("a cancel was requested", task_id=task.id)

        try:
            await until_done(lambda: self._registry.move(task.id, TaskStatus.QUEUED, check=check))
            log.info("task_put_back")
        except (Conflict, NotFound):
            await self._end_badly(task, pipeline, run, TaskStatus.CANCELLED, cancelled(task))

    async def _end_badly(
        self, task: Task, pipeline: Pipeline, run: AttemptRun, status: TaskStatus, error: TaskError
    ) -> None:
        """End the attempt, after what it left in the store is gone or owed."""
        left = run.checkpoint_now
        if left and not await self._clean_ups.within(pipeline.abandon(left), ABANDON_SECONDS, "abandon"):
            await until_done(lambda: self.debts.owe(task, left))
        await until_done(lambda: self.debts.look_later(task, left))
        again = left.get("next") if error.retryable else None
        try:
            await until_done(lambda: self._registry.end(task, status, error=error, checkpoint=again))
        except (Conflict, NotFound):
            # a cancel came while we cleaned up: that is the end it gets
            try:
                await until_done(lambda: self._registry.end(task, TaskStatus.CANCELLED, error=cancelled(task)))
            except (Conflict, NotFound):
                log.warning("task_ended_elsewhere")
                return
        self.debts.settle_soon()
        log.info("task_ended", status=status.value, code=error.code, attempt=task.attempt)


async def perform(pipeline: Pipeline, task: Task, run: AttemptRun) -> Outcome:
    """The whole request validated again, then the pipeline."""
    return await pipeline.run(validated(pipeline, task.request), run)
