from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mediagen.core.errors import AttemptsExhausted, Conflict, IdempotencyMismatch, InvalidRequest, NotFound, QueueFull
from mediagen.core.files import new_id
from mediagen.core.tasks import TaskQuery, TaskStatus
from mediagen.tasks import service as service_module
from mediagen.tasks.settings import TasksSettings
from tests.contracts.journal import a_file
from tests.tasks.scripted import Spec, World, world

ONE_SLOT = TasksSettings(lanes={"ingest": 1}, max_queued=3)


async def test_a_submitted_task_is_durable_when_the_call_returns(tmp_path: Path) -> None:
    async with world(tmp_path, started=False) as server:
        task = await server.service.submit("scripted", Spec(note="x"), priority=7, timeout_seconds=5, owner="anna")

        assert await server.row(task.id) == task
        assert (task.status, task.priority, task.timeout_seconds, task.owner) == (TaskStatus.QUEUED, 7, 5, "anna")
        assert server.service.position(task) == 0


async def test_edits_that_do_not_fit_are_refused_with_their_fields(server: World) -> None:
    failed = await server.service.wait((await server.service.submit("scripted", Spec(do="fail"))).id)

    with pytest.raises(InvalidRequest) as refused:
        await server.service.retry(failed.id, {"do": "fly", "parts": "many", "more": 1})
    errors = refused.value.context["errors"]
    assert isinstance(errors, list)
    assert {error["field"] for error in errors} == {"do", "parts", "more"}
    assert "fly" not in str(refused.value)
    assert await server.row(failed.id) == failed


async def test_a_task_that_cannot_be_is_refused(server: World) -> None:
    for call in (
        server.service.submit("of no kind", Spec()),
        server.service.submit("scripted", Spec(), priority=101),
        server.service.submit("scripted", Spec(), timeout_seconds=0),
        server.service.submit("scripted", Spec(), timeout_seconds=1e9),
    ):
        with pytest.raises(InvalidRequest):
            await call
    assert await server.service.query(TaskQuery()) == ([], False)


async def test_a_full_queue_refuses_and_says_when_to_come_back(tmp_path: Path) -> None:
    async with world(tmp_path, settings=ONE_SLOT) as server:
        first = await server.service.submit("scripted", Spec(do="wait"))
        await server.pipeline.began()
        submits = [server.service.submit("scripted", Spec(do="wait")) for _ in range(10)]
        answers = await asyncio.gather(*submits, return_exceptions=True)

        refused = [answer for answer in answers if isinstance(answer, QueueFull)]
        assert len(refused) == 7
        assert all(answer.retry_after for answer in refused)
        await server.service.cancel(first.id)
        await server.pipeline.began(2)
        await server.service.submit("scripted", Spec())


async def test_a_submit_whose_caller_goes_is_carried_out_whole(server: World) -> None:
    submit = asyncio.get_running_loop().create_task(server.service.submit("scripted", Spec()))
    await asyncio.sleep(0)
    submit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submit

    seen = await server.pipeline.began()

    assert (await server.service.wait(seen.task_id)).status is TaskStatus.COMPLETED


async def test_a_client_that_lost_the_answer_asks_again_and_gets_the_same_task(server: World) -> None:
    submits = [server.service.submit("scripted", Spec(do="fail"), key="k", owner="anna") for _ in range(10)]
    (task_id,) = {task.id for task in await asyncio.gather(*submits)}
    ended = await server.service.wait(task_id)

    assert await server.service.submit("scripted", Spec(do="fail"), key="k", owner="anna") == ended
    assert len(server.pipeline.runs) == 1
    for request, priority, key in (
        ({"do": "succeed"}, 50, "k"),
        ({"do": "fail"}, 51, "k"),
        ({}, 50, ""),
        ({}, 50, "k" * 256),
    ):
        with pytest.raises(InvalidRequest):
            await server.service.submit("scripted", Spec(**request), priority=priority, key=key, owner="anna")
    other = await server.service.submit("scripted", Spec(do="succeed"), key="k", owner="bert")
    assert other.id != task_id
    await server.service.wait(other.id)


async def test_a_repeat_is_answered_while_the_queue_is_full(tmp_path: Path) -> None:
    async with world(tmp_path, settings=ONE_SLOT) as server:
        submit = server.service.submit
        await submit("scripted", Spec(do="wait"))
        await server.pipeline.began()
        first = await submit("scripted", Spec(do="wait"), key="k")
        for _ in range(2):
            await submit("scripted", Spec(do="wait"))

        assert (await submit("scripted", Spec(do="wait"), key="k")).id == first.id
        with pytest.raises(IdempotencyMismatch):
            await submit("scripted", Spec(do="fail"), key="k")
        for other in ({"key": "new"}, {"key": "k", "owner": "anna"}, {}):
            with pytest.raises(QueueFull):
                await submit("scripted", Spec(do="wait"), **other)  # type: ignore[arg-type]


async def test_done_work_that_comes_again_is_not_recorded_again(server: World) -> None:
    first = await server.service.submit_done("scripted", {}, result={}, files=[], key="k", fingerprint="f")
    again = await server.service.submit_done(
        "scripted", {}, result={}, files=[a_file()], key="k", fingerprint="f", task_id=new_id("task")
    )

    assert again == first
    assert (await server.service.query(TaskQuery()))[0] == [first]


async def test_work_that_is_done_already_is_recorded_with_its_files(server: World) -> None:
    task_id = new_id("task")
    file = a_file(task_id=task_id)

    task = await server.service.submit_done(
        "scripted", {}, result={"file": file.id}, files=[file], task_id=task_id, owner="anna"
    )

    assert task.status is TaskStatus.COMPLETED
    assert await server.row(task_id) == task
    assert await server.files.get(file.id) == file
    assert server.statuses(task_id) == ["completed"]
    assert server.pipeline.runs == []


async def test_tasks_of_others_are_unknown(server: World) -> None:
    task = await server.service.submit("scripted", Spec(do="fail"), owner="anna")
    await server.service.wait(task.id, owner="anna")

    for owner, task_id in (("bert", task.id), ("anna", "task_unknown"), (None, "task_unknown")):
        for call in (
            server.service.get(task_id, owner=owner),
            server.service.cancel(task_id, owner=owner),
            server.service.retry(task_id, owner=owner),
            server.service.set_priority(task_id, 5, owner=owner),
            server.service.delete(task_id, owner=owner),
            server.service.wait(task_id, owner=owner),
        ):
            with pytest.raises(NotFound):
                await call
    assert (await server.service.get(task.id)).status is TaskStatus.FAILED


async def test_a_waiting_task_is_cancelled_at_once_and_never_runs(tmp_path: Path) -> None:
    async with world(tmp_path, settings=ONE_SLOT) as server:
        first = await server.service.submit("scripted", Spec(do="wait"))
        waiting = await server.service.submit("scripted", Spec())
        await server.pipeline.began()
        assert server.service.position(waiting) == 0

        ended = await server.service.cancel(waiting.id)

        assert ended.status is TaskStatus.CANCELLED
        assert server.dispatcher.waiting == 0
        assert server.service.position(ended) is None
        assert await server.service.cancel(waiting.id) == ended
        server.pipeline.release.set()
        await server.service.wait(first.id)
    assert len(server.pipeline.runs) == 1


async def test_a_completed_task_is_neither_cancelled_nor_tried_again(server: World) -> None:
    task = await server.service.submit("scripted", Spec())
    done = await server.service.wait(task.id)

    for call in (
        server.service.cancel(task.id),
        server.service.retry(task.id),
        server.service.set_priority(task.id, 1),
    ):
        with pytest.raises(Conflict):
            await call
    assert await server.service.get(task.id) == done


async def test_a_retry_is_a_new_attempt_with_the_edits(server: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "REPEAT_SECONDS", 0)
    task = await server.service.submit("scripted", Spec(do="fail", note="a", parts=1))
    await server.service.wait(task.id)

    again = await server.service.retry(task.id, {"note": "b", "parts": None})
    ended = await server.service.wait(task.id)

    assert (again.attempt, again.status, again.error, again.started_at) == (2, TaskStatus.QUEUED, None, None)
    assert ended.request == {"do": "fail", "note": "b"}
    assert ended.error is not None
    assert ended.error.attempt == 2
    with pytest.raises(InvalidRequest):
        await server.service.retry(task.id, {"parts": "many"})
    assert await server.service.get(task.id) == ended
    await server.service.retry(task.id, {"do": "fail", "error": "too_large"})
    await server.service.wait(task.id)
    with pytest.raises(AttemptsExhausted):
        await server.service.retry(task.id)


async def test_rapid_repeats_of_retry_make_one_attempt(server: World) -> None:
    task = await server.service.submit("scripted", Spec(do="fail"))
    await server.service.wait(task.id)

    answers = await asyncio.gather(*(server.service.retry(task.id) for _ in range(50)))
    answers += [await server.service.retry(task.id) for _ in range(3)]  # one after the other, the attempt ended or not

    assert {answer.attempt for answer in answers} == {2}
    assert (await server.service.wait(task.id)).attempt == 2
    assert len(server.pipeline.runs) == 2


async def test_a_retry_waits_like_any_other_task(tmp_path: Path) -> None:
    async with world(tmp_path, settings=ONE_SLOT) as server:
        failed = await server.service.submit("scripted", Spec(do="fail"))
        await server.service.wait(failed.id)
        blocking = await server.service.submit("scripted", Spec(do="wait"))
        await server.pipeline.began(2)
        for _ in range(3):
            await server.service.submit("scripted", Spec(do="wait"))

        with pytest.raises(QueueFull):
            await server.service.retry(failed.id)

        assert (await server.service.get(failed.id)).status is TaskStatus.FAILED
        server.pipeline.release.set()
        await server.service.wait(blocking.id)


async def test_retries_at_the_same_time_fill_the_queue_and_no_more(tmp_path: Path) -> None:
    async with world(tmp_path, settings=ONE_SLOT) as server:
        ids = []
        for _ in range(6):
            ids.append((await server.service.submit("scripted", Spec(do="fail"))).id)
            await server.service.wait(ids[-1])
        await server.service.submit("scripted", Spec(do="wait"))
        await server.pipeline.began(7)

        answers = await asyncio.gather(*map(server.service.retry, ids), return_exceptions=True)

        assert [isinstance(answer, QueueFull) for answer in answers] == [False] * 3 + [True] * 3


async def test_priority_moves_a_waiting_task_and_is_kept(tmp_path: Path) -> None:
    async with world(tmp_path, settings=ONE_SLOT) as server:
        await server.service.submit("scripted", Spec(do="wait"))
        await server.pipeline.began()
        first, second = [await server.service.submit("scripted", Spec()) for _ in range(2)]

        moved = await server.service.set_priority(second.id, 80)

        assert moved.priority == 80
        assert await server.service.set_priority(second.id, 80) == moved
        assert [server.service.position(task) for task in (second, first)] == [0, 1]
        assert (await server.row(second.id)).priority == 80
        with pytest.raises(InvalidRequest):
            await server.service.set_priority(second.id, -1)
        server.pipeline.release.set()
        await server.service.wait(first.id)
    assert [seen.task_id for seen in server.pipeline.runs[1:]] == [second.id, first.id]


async def test_only_ended_tasks_are_deleted(server: World) -> None:
    task = await server.service.submit("scripted", Spec(do="wait", files=1))
    await server.pipeline.began()
    with pytest.raises(Conflict):
        await server.service.delete(task.id)
    server.pipeline.release.set()
    done = await server.service.wait(task.id)
    assert done.result is not None

    await server.service.delete(task.id)

    with pytest.raises(NotFound):
        await server.service.get(task.id)
    assert server.told[-1].type == "task.deleted"
    assert await server.files.get(done.result["files"][0]) is not None


async def test_a_page_shows_the_latest_readings(server: World) -> None:
    task = await server.service.submit("scripted", Spec(do="wait", readings=[5, 40]))
    await server.pipeline.began()

    (shown,), more = await server.service.query(TaskQuery(status=TaskStatus.RUNNING))

    assert (shown.id, more) == (task.id, False)
    assert shown.progress is not None
    assert shown.progress.percent == 40
    server.pipeline.release.set()
    assert (await server.service.wait(task.id)).progress is None
