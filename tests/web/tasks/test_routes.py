"""Routes of tasks: the object, its verbs, lists and bulk calls."""

from __future__ import annotations

import pytest

from mediagen.core.errors import FetchFailed
from mediagen.web.tasks import routes as task_routes
from tests.web.conftest import House, Start

UNKNOWN = "task_" + "0" * 32


async def test_a_task_is_accepted_with_its_place(house: House) -> None:
    status, task, headers = await house.ask(
        "POST", "/v1/ingest", json={"url": "http://example.com/a?X-Amz-Signature=abc&b=1", "priority": 70}
    )

    assert status == 202
    assert headers["Location"] == f"/v1/tasks/{task['id']}"
    assert headers["Retry-After"] == "1"
    assert task["object"] == "task"
    assert task["kind"] == "ingest"
    assert task["priority"] == 70
    assert "abc" not in task["request"]["url"]
    assert "b=1" in task["request"]["url"]
    assert task["links"]["self"] == f"/v1/tasks/{task['id']}"


async def test_a_running_task_says_how_far_it_is(house: House) -> None:
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    stage.report(42)

    _, task, _ = await house.ask("GET", f"/v1/tasks/{task_id}")

    assert (task["status"], task["phase"], task["progress"]) == ("running", "storing", 42)
    assert task["transfer"] == {"stage": "download", "bytes_done": 42, "bytes_total": 100, "bytes_per_second": 10.0}
    assert task["remaining_seconds"] == 5.8
    assert task["elapsed_seconds"] > 0
    assert (task["attempt"], task["max_attempts"], task["queue_position"], task["error"]) == (1, 3, None, None)


async def test_a_completed_task_shows_its_file(house: House) -> None:
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    stage.succeed(await house.pipeline.store(b"abc", task_id=task_id, media_type="text/plain", filename="a.txt"))

    task = await house.ended(task_id)

    file = task["result"]["file"]
    assert (task["status"], task["progress"], file["bytes"], file["task_id"]) == ("completed", 100, 3, task_id)
    async with house.client.get(file["url"]) as answer:
        assert await answer.read() == b"abc"


async def test_a_failed_task_says_why(house: House) -> None:
    task_id = await house.submit()
    (await house.pipeline.stage(task_id)).fail(FetchFailed("the source is gone"))

    task = await house.ended(task_id)

    assert task["status"] == "failed"
    assert task["error"] == {
        "code": "fetch_failed",
        "message": "the source is gone",
        "retryable": True,
        "attempt": 1,
        "detail": None,
        "retry_after": None,
    }
    assert task["links"]["retry"].endswith("/retry")


async def test_cancel_can_be_repeated_and_refuses_what_ended_otherwise(house: House) -> None:
    first, second = await house.submit(), await house.submit()
    await house.pipeline.stage(first)
    (await house.pipeline.stage(second)).succeed()
    await house.ended(second)

    statuses = [(await house.ask("POST", f"/v1/tasks/{first}/cancel"))[:2] for _ in range(2)]
    refused, problem, _ = await house.ask("POST", f"/v1/tasks/{second}/cancel")

    assert [(status, task["status"]) for status, task in statuses] == [(200, "cancelled")] * 2
    assert (refused, problem["code"]) == (409, "conflict")


async def test_retry_makes_a_new_attempt_of_an_edited_request(house: House) -> None:
    task_id = await house.submit()
    (await house.pipeline.stage(task_id)).fail(FetchFailed("no"))
    await house.ended(task_id)

    status, task, _ = await house.ask("POST", f"/v1/tasks/{task_id}/retry", json={"url": "http://example.com/b"})

    assert (status, task["attempt"], task["request"]["url"]) == (200, 2, "http://example.com/b")
    (await house.pipeline.stage(task_id, attempt=2)).succeed()
    assert (await house.ended(task_id))["status"] == "completed"


async def test_retry_refuses_a_running_task(house: House) -> None:
    task_id = await house.submit()
    await house.pipeline.stage(task_id)

    status, problem, _ = await house.ask("POST", f"/v1/tasks/{task_id}/retry")

    assert (status, problem["code"]) == (409, "conflict")


async def test_a_waiting_task_has_a_position_that_its_priority_changes(start: Start) -> None:
    house = await start(tasks={"lanes": {"ingest": 1}})
    running = await house.submit()
    await house.pipeline.stage(running)
    waiting = [await house.submit() for _ in range(3)]

    status, task, _ = await house.ask("PATCH", f"/v1/tasks/{waiting[2]}", json={"priority": 90})

    assert (status, task["priority"], task["queue_position"]) == (200, 90, 0)
    _, page, _ = await house.ask("GET", "/v1/tasks?status=queued&order=asc")
    assert [row["queue_position"] for row in page["data"]] == [1, 2, 0]


async def test_pages_follow_each_other(house: House) -> None:
    ids = [await house.submit() for _ in range(5)]
    seen: list[str] = []
    after = ""

    while True:
        _, page, _ = await house.ask("GET", f"/v1/tasks?limit=2&order=asc{after}")
        seen += [task["id"] for task in page["data"]]
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"

    assert seen == ids
    _, empty, _ = await house.ask("GET", "/v1/tasks?kind=video")
    assert empty == {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}


async def test_bulk_calls_give_each_task_its_outcome(house: House) -> None:
    running, done = await house.submit(), await house.submit()
    await house.pipeline.stage(running)
    (await house.pipeline.stage(done)).succeed()
    await house.ended(done)

    status, answer, _ = await house.ask("POST", "/v1/tasks/cancel", json={"ids": [running, done, UNKNOWN]})

    assert status == 200
    assert [(item["id"], item["ok"]) for item in answer["data"]] == [(running, True), (done, False), (UNKNOWN, False)]
    assert [item["error"] and item["error"]["code"] for item in answer["data"]] == [None, "conflict", "not_found"]


async def test_bulk_retry_by_status(house: House) -> None:
    ids = [await house.submit() for _ in range(3)]
    for task_id in ids:
        (await house.pipeline.stage(task_id)).fail(FetchFailed("no"))
        await house.ended(task_id)

    _, answer, _ = await house.ask("POST", "/v1/tasks/retry", json={"status": "failed"})

    assert [(item["id"], item["ok"], item["task"]["attempt"]) for item in answer["data"]] == [
        (task_id, True, 2) for task_id in ids
    ]
    assert answer["has_more"] is False


async def failed(house: House, count: int) -> list[str]:
    """So many tasks that failed, the oldest first."""
    ids: list[str] = []
    for _ in range(count):
        ids.append(await house.submit())
        (await house.pipeline.stage(ids[-1])).fail(FetchFailed("no"))
        await house.ended(ids[-1])
    return ids


async def test_what_has_no_attempt_left_hides_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_routes, "MAX_BULK", 2)
    house = await start(tasks={"max_attempts": 2})
    exhausted = await failed(house, 4)
    for task_id in exhausted:
        await house.ask("POST", f"/v1/tasks/{task_id}/retry")
        (await house.pipeline.stage(task_id, attempt=2)).fail(FetchFailed("no"))
        await house.ended(task_id)
    fresh = await failed(house, 5)

    seen: list[str] = []
    body, more = {"status": "failed"}, True
    while more:
        status, answer, _ = await house.ask("POST", "/v1/tasks/retry", json=body)
        assert status == 200
        seen += [item["id"] for item in answer["data"]]
        more, body = answer["has_more"], body | {"after": answer["last_id"]}

    assert seen == fresh


async def test_a_full_queue_ends_a_call_where_the_next_one_goes_on(start: Start) -> None:
    house = await start(tasks={"max_queued": 3, "lanes": {"ingest": 1}})
    ids = await failed(house, 6)
    blocker = await house.submit()
    await house.pipeline.stage(blocker)

    _, answer, _ = await house.ask("POST", "/v1/tasks/retry", json={"status": "failed"})
    again, problem, headers = await house.ask("POST", "/v1/tasks/retry", json={"status": "failed"})

    assert ([item["id"] for item in answer["data"]], answer["has_more"]) == (ids[:3], True)
    assert all(item["ok"] for item in answer["data"])
    assert (again, problem["code"], int(headers["Retry-After"]) > 0) == (429, "queue_full", True)
    await house.ask("POST", "/v1/tasks/cancel", json={"status": "queued"})
    _, answer, _ = await house.ask("POST", "/v1/tasks/retry", json={"status": "failed", "after": ids[2]})
    assert ([item["id"] for item in answer["data"]], answer["has_more"]) == (ids[3:], False)


@pytest.mark.parametrize(
    ("verb", "status"), [("retry", "queued"), ("retry", "completed"), ("cancel", "failed"), ("cancel", "completed")]
)
async def test_a_verb_that_can_do_nothing_for_a_status_does_nothing(house: House, verb: str, status: str) -> None:
    await failed(house, 1)

    assert (await house.ask("POST", f"/v1/tasks/{verb}", json={"status": status}))[1] == {
        "object": "list",
        "data": [],
        "has_more": False,
        "last_id": None,
    }


async def test_a_cursor_goes_with_a_status(house: House) -> None:
    (task_id,) = await failed(house, 1)

    for body in ({"ids": [task_id], "after": task_id}, {"after": task_id}, {"status": "failed", "after": "x"}):
        assert (await house.ask("POST", "/v1/tasks/retry", json=body))[0] == 400


async def test_a_deleted_task_is_gone_and_with_media_its_file(house: House) -> None:
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    early, _, _ = await house.ask("DELETE", f"/v1/tasks/{task_id}?media=true")
    outcome = await house.pipeline.store(b"abc", task_id=task_id, media_type="text/plain", filename="a.txt")
    stage.succeed(outcome)
    await house.ended(task_id)

    status, answer, _ = await house.ask("DELETE", f"/v1/tasks/{task_id}?media=true")

    assert (early, status, answer["deleted"]) == (409, 200, True)
    assert (await house.ask("GET", f"/v1/tasks/{task_id}"))[0] == 404
    assert (await house.ask("GET", f"/v1/files/{outcome.files[0].id}"))[0] == 404
    assert await house.instance.storage.head(outcome.files[0].key) is None


async def test_a_deleted_task_leaves_its_file(house: House) -> None:
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    outcome = await house.pipeline.store(b"abc", task_id=task_id, media_type="text/plain", filename="a.txt")
    stage.succeed(outcome)
    await house.ended(task_id)

    await house.ask("DELETE", f"/v1/tasks/{task_id}")

    assert (await house.ask("GET", f"/v1/files/{outcome.files[0].id}"))[0] == 200


async def test_a_full_queue_says_when_to_come_back(start: Start) -> None:
    house = await start(tasks={"lanes": {"ingest": 1}, "max_queued": 1})
    await house.pipeline.stage(await house.submit())
    await house.submit()

    status, problem, headers = await house.ask("POST", "/v1/ingest", json={"url": "http://example.com/"})

    assert (status, problem["code"], problem["retryable"]) == (429, "queue_full", True)
    assert int(headers["Retry-After"]) > 0
