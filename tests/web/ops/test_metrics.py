"""Figures for Prometheus: they say what happened, in labels whose number is bounded."""

from __future__ import annotations

import time
from base64 import b64encode
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mediagen.core.errors import NotFound
from mediagen.core.events import Event, EventType
from mediagen.core.tasks import Task, TaskError, TaskStatus
from mediagen.web.middleware.request_counts import Traffic
from mediagen.web.ops.task_counts import TaskCounts
from tests.web.conftest import House, Start
from tests.web.scripted import Scripted

NOW = datetime.now(UTC)
ENDED = Task("task_1", "ingest", "ingest", TaskStatus.COMPLETED, {}, NOW, NOW)


async def scrape(house: House) -> Counter[str]:
    """Values by name and labels, as they are written."""
    async with house.client.get(house.url + "/metrics") as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        text = await answer.text()
    values: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            assert sample.name.startswith("mediagen_")
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            values[f"{sample.name}{{{labels}}}"] = sample.value  # type: ignore[assignment]
    return values


async def test_tasks_are_counted_by_lane_state_and_outcome(house: House) -> None:
    done, broken, _running = [await house.submit() for _ in range(3)]
    (await house.pipeline.stage(done)).succeed()
    (await house.pipeline.stage(broken)).fail(NotFound("gone"))
    await house.ended(done)
    await house.ended(broken)

    values = await scrape(house)

    assert values["mediagen_tasks_ended_total{code=none,kind=ingest,status=completed}"] == 1
    assert values["mediagen_tasks_ended_total{code=not_found,kind=ingest,status=failed}"] == 1
    assert values["mediagen_tasks{lane=ingest,state=running}"] == 1
    assert values["mediagen_tasks{lane=ingest,state=queued}"] == values["mediagen_queue_depth{}"] == 0
    assert values["mediagen_lane_slots{lane=ingest}"] == 4


async def test_what_waits_is_the_queue_depth(start: Start) -> None:
    house = await start(tasks={"lanes": {"ingest": 1}})
    first = await house.submit()
    await house.pipeline.stage(first)
    for _ in range(2):
        await house.submit()

    values = await scrape(house)

    assert values["mediagen_tasks{lane=ingest,state=queued}"] == values["mediagen_queue_depth{}"] == 2


async def test_bytes_of_a_body_are_counted(start: Start) -> None:
    house = await start(real=True)
    await house.ask("POST", "/v1/ingest", json={"data": b64encode(b"x" * 3000).decode()})

    values = await scrape(house)

    assert values["mediagen_received_bytes_total{}"] == values["mediagen_stored_bytes_total{}"] == 3000
    assert values["mediagen_buffer_lent_bytes{}"] == 0
    assert values["mediagen_buffer_budget_bytes{}"] > 0


async def test_requests_are_counted_by_template(house: House) -> None:
    for path in ("/v1/tasks/task_1", "/v1/tasks/task_2", "/wp-login.php", "/../etc/passwd", "/v1/tasks?limit=0"):
        await house.ask("GET", path)
    await house.ask("TRACE", "/v1/tasks")

    values = await scrape(house)

    requests = {name: value for name, value in values.items() if name.startswith("mediagen_http_requests_total")}
    assert requests == {
        "mediagen_http_requests_total{method=GET,route=/v1/tasks/{id},status=4xx}": 2,
        "mediagen_http_requests_total{method=GET,route=unmatched,status=4xx}": 2,
        "mediagen_http_requests_total{method=GET,route=/v1/tasks,status=4xx}": 1,
        "mediagen_http_requests_total{method=other,route=unmatched,status=4xx}": 1,
    }
    assert values["mediagen_http_request_duration_seconds_count{method=GET,route=/v1/tasks/{id}}"] == 2
    assert values["mediagen_http_request_duration_seconds_bucket{le=+Inf,method=GET,route=/v1/tasks/{id}}"] == 2


async def test_what_monitors_ask_and_feeds_are_counted_and_not_timed(house: House) -> None:
    await house.ask("GET", "/readyz")
    await scrape(house)
    async with house.client.ws_connect(house.url + "/v1/ws") as socket:
        await socket.send_json({"type": "ping"})
        await socket.receive_json()
        assert (await scrape(house))["mediagen_feed_readers{}"] == 1

    values = await scrape(house)

    assert values["mediagen_http_requests_total{method=GET,route=/metrics,status=2xx}"] == 2
    assert values["mediagen_http_requests_total{method=GET,route=/readyz,status=2xx}"] == 1
    assert [name for name in values if "duration" in name] == []


async def test_the_state_of_the_server_is_told(house: House) -> None:
    await house.ask("GET", "/readyz")

    values = await scrape(house)

    assert values["mediagen_check_ok{check=database}"] == values["mediagen_check_ok{check=storage}"] == 1
    assert values["mediagen_process_resident_memory_bytes{}"] > 1_000_000
    assert values["mediagen_process_open_fds{}"] > 3
    assert {"mediagen_event_loop_lag_seconds{}", "mediagen_event_loop_lag_max_seconds{}"} <= set(values)


async def test_two_servers_do_not_share_their_figures(start: Start) -> None:
    first = await start()
    await first.ask("GET", "/v1/files")
    await first.stop()

    second = await start()

    assert not any("/v1/files" in name for name in await scrape(second))


def test_a_kind_or_code_of_another_release_shares_a_label() -> None:
    outcomes = TaskCounts([Scripted.kind])
    error = TaskError("gone_in_2.0", "", retryable=False, attempt=1)

    for task in (
        ENDED,
        replace(ENDED, kind="ancient"),
        replace(ENDED, status=TaskStatus.FAILED, error=error),
        replace(ENDED, status=TaskStatus.RUNNING),
    ):
        outcomes.told(Event(1, EventType.STATUS, task))
    outcomes.told(Event(2, EventType.DELETED, ENDED))

    assert outcomes.ended == {
        ("ingest", "completed", "none"): 1,
        ("other", "completed", "none"): 1,
        ("ingest", "failed", "other"): 1,
    }


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.0011, 59.9, 60.0, 1e6])
def test_a_duration_falls_into_one_bucket(seconds: float) -> None:
    traffic = Traffic(base_path="")

    traffic.count("/x", "GET", 200, seconds)

    (timing,) = traffic.timings.values()
    assert (sum(timing.buckets), timing.total) == (1, seconds)


def test_counting_costs_microseconds() -> None:
    traffic = Traffic(base_path="")
    rounds = 10_000

    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(rounds):
            traffic.count("/x", "GET", 200, 0.01)
        best = min(best, time.perf_counter() - began)

    assert best / rounds < 50e-6  # two on an idle machine
