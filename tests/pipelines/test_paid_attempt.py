"""Paid calls in turn: a burst that a vendor cannot take, a storm, a wait that is cancelled; and what the work took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from mediagen.core.errors import (
    MediagenError,
    OutcomeUnknown,
    ProviderError,
    ProviderRateLimited,
    ProviderUnavailable,
)
from mediagen.core.files import File
from mediagen.pipelines.images import ImagePipeline, ImageSpec
from mediagen.pipelines.inputs import InputLoader
from mediagen.pipelines.previews import Previews
from mediagen.pipelines.saving.placement import StoreContext
from mediagen.pipelines.saving.saver import Saver
from mediagen.pipelines.videos import VideoPipeline, VideoSpec
from mediagen.providers.calls.call_queue import PATIENCE, CallQueue, Ending
from mediagen.providers.calls.circuit_breaker import FAILURES, FIRST_PAUSE, CircuitState
from mediagen.providers.registry import Providers
from tests.infra.content import content_bytes
from tests.infra.servers.vendor import Say, VendorServer
from tests.net.conftest import OpenFetcher
from tests.pipelines.attempts import Attempt, files_below
from tests.providers.calls.clock import Clock
from tests.providers.vendor_servers import b64, opened

PNG = b"\x89PNG\r\n\x1a\n" + content_bytes(3000)
FILM = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + content_bytes(20_000)
PICTURES, FILMS = "/images/generations", "/videos"
PICTURE = Say({"created": 1, "data": [{"b64_json": b64(PNG)}], "usage": {"total_tokens": 16, "cost": 0.25}})
SLOW_DOWN = Say({"error": {"message": "slow down"}}, 429, {"retry-after-ms": "20"})
SICK = Say({"error": {"message": "we are sick"}}, 503)


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


class NoFiles:
    """A server that has none."""

    async def get(self, file_id: str, *, owner: str | None = None) -> File | None:
        return None


@dataclass
class Studio:
    """The recipes of pictures and films with one vendor."""

    providers: Providers
    saver: Saver
    inputs: InputLoader
    previews: Previews

    @property
    def call_queue(self) -> CallQueue:
        return self.providers.call_queues["vendor"]

    @property
    def state(self) -> CircuitState:
        return self.call_queue.circuit_breaker.state

    async def picture(self, attempt: Attempt | None = None, **spec: Any) -> dict[str, Any]:
        pipeline = ImagePipeline(self.providers, self.saver, self.inputs, self.previews)
        outcome = await pipeline.run(ImageSpec(**{"prompt": "a fox", "model": "m", **spec}), attempt or Attempt())
        outcome.release()
        return outcome.result

    async def film(self, attempt: Attempt | None = None, **spec: Any) -> dict[str, Any]:
        pipeline = VideoPipeline(self.providers, self.saver, self.inputs)
        outcome = await pipeline.run(VideoSpec(**{"prompt": "waves", "model": "m", **spec}), attempt or Attempt())
        outcome.release()
        return outcome.result

    async def pass_time(self, clock: Clock, seconds: float) -> None:
        clock.forward(seconds)
        self.call_queue.serve()
        await asyncio.sleep(0)


Open: TypeAlias = Callable[..., AbstractAsyncContextManager[Studio]]


@pytest.fixture
def studio(open_fetcher: OpenFetcher, store: StoreContext, vendor: VendorServer, tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opening(**settings: Any) -> AsyncIterator[Studio]:
        given = {"type": "openai", "engine": "generic", "models": ["m"], **settings}
        async with opened(vendor.url, **given) as providers, open_fetcher() as fetcher:
            inputs = InputLoader(NoFiles(), store.storage)
            studio = Studio(providers, Saver(fetcher, store, store.pool), inputs, Previews(tmp_path, max_bytes=1 << 20))
            yield studio
            assert all(
                call_queue.concurrency_limit.in_flight == call_queue.waiting == 0
                for call_queue in providers.call_queues.values()
            )

    return opening


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


# -- bursts


async def test_a_burst_that_the_vendor_cannot_take_is_made_all_the_same(studio: Open, vendor: VendorServer) -> None:
    vendor.on("POST", PICTURES, PICTURE)
    crowd = vendor.crowd("POST", PICTURES, 3, SLOW_DOWN)
    attempts = [Attempt(task_id=f"task_{number}") for number in range(40)]

    async with studio() as here, asyncio.TaskGroup() as group:
        made = [group.create_task(here.picture(attempt)) for attempt in attempts]

    assert [len(each.result()["files"]) for each in made] == [1] * 40
    assert crowd.taken == 40, "each is paid once"
    assert crowd.most_open <= 16
    assert crowd.refused < 60  # 13 + 5 + 1 until the limit is found, then one for each try of one more
    assert here.call_queue.endings == {Ending.DONE: 40, Ending.RATE_LIMITED: crowd.refused}
    assert here.call_queue.concurrency_limit.limit <= 8
    assert "waiting" in {reading.phase for attempt in attempts for reading in attempt.readings}


async def test_the_ceiling_holds_where_the_vendor_takes_all(studio: Open, vendor: VendorServer) -> None:
    vendor.on("POST", PICTURES, PICTURE)
    crowd = vendor.crowd("POST", PICTURES, 100, SLOW_DOWN)

    async with studio(max_parallel=2) as here, asyncio.TaskGroup() as group:
        for number in range(9):
            group.create_task(here.picture(Attempt(task_id=f"task_{number}")))

    assert (crowd.taken, crowd.most_open) == (9, 2)


async def test_the_jobs_of_films_wait_their_turn_and_not_for_the_films(studio: Open, vendor: VendorServer) -> None:
    vendor.on("POST", FILMS, Say({"id": "v", "status": "queued"}))
    vendor.on("GET", "/videos/v", Say({"id": "v", "status": "in_progress"}))
    async with studio(max_parallel=1) as here, asyncio.TaskGroup() as group:
        films = [group.create_task(here.film(Attempt(task_id=f"task_{number}"))) for number in range(3)]

        await until(lambda: len(vendor.calls("POST", FILMS)) == 3)  # although none of them is made yet

        vendor.on("GET", "/videos/v", Say({"id": "v", "status": "completed"}))
        vendor.on("GET", "/videos/v/content", Say(FILM, media_type="video/mp4"))
        assert not any(film.done() for film in films)
    assert len(vendor.calls("POST")) == 3


async def test_nobody_asks_before_the_time_that_the_vendor_named(studio: Open, vendor: VendorServer) -> None:
    vendor.on("POST", PICTURES, Say({"error": "later"}, 429, {"Retry-After": "1"}), PICTURE)
    attempt = Attempt()

    async with studio() as here:
        await here.picture(attempt)

    first, second = vendor.calls("POST")
    assert second.at - first.at >= 1.0
    assert [saved.get("submitting") for saved in attempt.saved[:3]] == [True, False, True]
    assert [reading.phase for reading in attempt.readings[:3]] == ["submitting", "waiting", "submitting"]


@pytest.mark.parametrize(("after", "left"), [(PATIENCE + 1, 1800.0), (30, 20.0)])
async def test_a_time_too_far_away_fails_at_once_and_says_when(
    studio: Open, vendor: VendorServer, after: float, left: float
) -> None:
    vendor.on("POST", PICTURES, Say({"error": "the quota of the day"}, 429, {"Retry-After": f"{after:g}"}))

    async with studio() as here:
        for _ in range(2):
            with pytest.raises(ProviderRateLimited, match="the quota of the day") as raised:
                await here.picture(Attempt(seconds_left=left))

            assert raised.value.retry_after == pytest.approx(after, abs=5)

    assert len(vendor.calls("POST")) == 1


async def test_a_vendor_that_never_takes_it_is_asked_a_few_times(studio: Open, vendor: VendorServer) -> None:
    vendor.on("POST", PICTURES, SLOW_DOWN)

    async with studio() as here:
        with pytest.raises(ProviderRateLimited, match="slow down"):
            await here.picture()

    assert len(vendor.calls("POST")) == 10


async def test_a_refusal_inside_an_answer_with_200_is_one_too(studio: Open, vendor: VendorServer) -> None:
    refusal = Say({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}})
    picture = Say({"data": {"image_base64": [b64(PNG)]}, "base_resp": {"status_code": 0}})
    vendor.on("POST", "/v1/image_generation", refusal, picture)

    async with studio(type="minimax", engine="openai", models=["image-01"]) as here:
        result = await here.picture(model="image-01")

    assert len(result["files"]) == 1
    assert here.call_queue.endings == {Ending.RATE_LIMITED: 1, Ending.DONE: 1}


# -- storms


async def test_a_storm_opens_the_circuit_and_one_call_closes_it(studio: Open, vendor: VendorServer) -> None:
    clock = Clock()
    vendor.on("POST", PICTURES, *[SICK] * 13, PICTURE)
    async with studio(clock=clock) as here, asyncio.TaskGroup() as group:
        made = [group.create_task(here.picture(Attempt(task_id=f"task_{number}"))) for number in range(12)]
        await until(lambda: here.call_queue.waiting == 12)
        assert here.state is CircuitState.OPEN

        clock.forward(FIRST_PAUSE)
        here.call_queue.serve()
        await until(lambda: here.call_queue.endings[Ending.UNAVAILABLE] == 13)
        assert len(vendor.calls("POST")) == 13, "one alone found out"
        assert here.call_queue.circuit_breaker.opens_in == 2 * FIRST_PAUSE
        await until(lambda: here.call_queue.waiting == 12)
        clock.forward(2 * FIRST_PAUSE)
        here.call_queue.serve()
        await until(lambda: all(each.done() for each in made))

    assert len(vendor.calls("POST")) == 13 + 12
    assert here.call_queue.endings == {Ending.UNAVAILABLE: 13, Ending.DONE: 12}
    assert here.providers.circuits_open == 0


async def test_while_it_is_open_for_long_new_calls_fail_at_once_and_running_jobs_go_on(
    studio: Open, vendor: VendorServer
) -> None:
    vendor.on("POST", FILMS, Say({"id": "v", "status": "queued"}))
    vendor.on("GET", "/videos/v", Say({"id": "v", "status": "in_progress"}))
    vendor.on("GET", "/videos/v/content", Say(FILM, media_type="video/mp4"))
    vendor.on("POST", PICTURES, Say({"error": {"message": "who are you?"}}, 401))
    async with studio() as here, asyncio.TaskGroup() as group:
        film = group.create_task(here.film())
        await until(lambda: bool(vendor.calls("GET")))
        with pytest.raises(ProviderError, match="key"):
            await here.picture()
        assert here.state is CircuitState.OPEN

        with pytest.raises(ProviderUnavailable, match="rejected this server's key") as raised:
            await here.picture()

        assert raised.value.retryable
        assert raised.value.retry_after == pytest.approx(60, abs=5)
        assert len(vendor.calls("POST", PICTURES)) == 1
        vendor.on("GET", "/videos/v", Say({"id": "v", "status": "completed"}))
        assert (await film)["operation"] == "v"


async def test_a_vendor_that_is_not_there_is_tried_a_few_times(studio: Open, vendor: VendorServer) -> None:
    clock = Clock()
    async with studio(clock=clock, base_url="http://127.0.0.1:1") as here, asyncio.TaskGroup() as group:
        made = group.create_task(refused(here))
        while not made.done():
            await here.pass_time(clock, 1.0)

    assert "no connection" in made.result().detail
    assert here.call_queue.endings == {Ending.UNAVAILABLE: FAILURES}


async def refused(here: Studio) -> ProviderUnavailable:
    with pytest.raises(ProviderUnavailable) as raised:
        await here.picture()
    return raised.value


# -- never twice, nothing left


@pytest.mark.parametrize("say", [Say(lost=True), Say("gone", 502), Say({"error": "within"}, 500)])
async def test_what_may_have_been_begun_is_never_asked_again(studio: Open, vendor: VendorServer, say: Say) -> None:
    vendor.on("POST", PICTURES, say, PICTURE)

    async with studio() as here:
        with pytest.raises(MediagenError):
            await here.picture()

    assert len(vendor.calls("POST")) == 1


async def test_a_crash_after_it_was_turned_away_asks_again_and_one_during_the_call_does_not(
    studio: Open, vendor: VendorServer
) -> None:
    vendor.on("POST", PICTURES, Say({"error": "later"}, 429, {"Retry-After": "100"}))
    attempt = Attempt()
    async with studio() as here, asyncio.TaskGroup() as group:
        waiting = group.create_task(here.picture(attempt))
        await until(lambda: here.call_queue.waiting == 1)
        waiting.cancel()
    vendor.on("POST", PICTURES, PICTURE)

    async with studio() as restarted:
        during = Attempt(resume=attempt.saved[0])
        with pytest.raises(OutcomeUnknown):
            await restarted.picture(during)
        assert len(vendor.calls("POST")) == 1
        result = await restarted.picture(attempt.after_crash())

    assert len(result["files"]) == 1
    assert len(vendor.calls("POST")) == 2


async def test_a_wait_that_is_cancelled_leaves_nothing(
    studio: Open, vendor: VendorServer, store: StoreContext, tmp_path: Any
) -> None:
    vendor.on("POST", PICTURES, PICTURE)
    vendor.crowd("POST", PICTURES, 1, SLOW_DOWN, seconds=0.3)
    first, second, third = [Attempt(task_id=f"task_{number}") for number in range(3)]
    async with studio(max_parallel=1) as here, asyncio.TaskGroup() as group:
        group.create_task(here.picture(first))
        await first.reaches(lambda attempt: bool(attempt.saved))
        waiting = group.create_task(here.picture(second))
        await second.reaches(lambda attempt: bool(attempt.readings))
        group.create_task(here.picture(third))
        await third.reaches(lambda attempt: bool(attempt.readings))

        assert store.quota.reserved == 0
        waiting.cancel()

    assert ([reading.phase for reading in second.readings], second.saved) == (["waiting"], [])
    assert len(vendor.calls("POST")) == 2
    assert len(files_below(tmp_path / "store")) == 2


# -- what it took

GOOGLE_USAGE = {"promptTokenCount": 5, "candidatesTokenCount": 1290, "totalTokenCount": 1295}


def openai_picture(vendor: VendorServer) -> Any:
    vendor.on("POST", PICTURES, PICTURE)
    return {"total_tokens": 16, "cost": 0.25}


def openai_film(vendor: VendorServer) -> Any:
    usage = {"total_duration_seconds": 4, "estimated_cost": 0.4}
    vendor.on("POST", FILMS, Say({"id": "v", "status": "queued"}))
    vendor.on("GET", "/videos/v", Say({"id": "v", "status": "completed", "usage": usage}))
    vendor.on("GET", "/videos/v/content", Say(FILM, media_type="video/mp4"))
    return usage


def minimax_picture(vendor: VendorServer) -> Any:
    vendor.on("POST", "/v1/image_generation", Say({"data": {"image_base64": [b64(PNG)]}}))
    return {"images": 1}


def minimax_film(vendor: VendorServer) -> Any:
    usage = {"total_seconds": 6, "input_seconds": 0, "output_seconds": 6, "input_image_count": 0}
    vendor.on("POST", "/v2/video_generation", Say({"task_id": "t"}))
    task = {"id": "t", "status": "succeeded", "usage": usage, "content": {"url": f"{vendor.url}/film.mp4"}}
    vendor.on("GET", "/v2/query/video_generation/t", Say({"task": task}))
    vendor.on("GET", "/film.mp4", Say(FILM, media_type="video/mp4"))
    return usage


def google_picture(vendor: VendorServer) -> Any:
    parts = [{"inlineData": {"mimeType": "image/png", "data": b64(PNG)}}]
    said = {"candidates": [{"content": {"parts": parts}}], "usageMetadata": GOOGLE_USAGE}
    vendor.on("POST", "/models/gemini-x:generateContent", Say(said))
    return GOOGLE_USAGE


def google_film(vendor: VendorServer) -> Any:
    usage = {"total_input_tokens": 3, "total_output_tokens": 40}
    steps = [{"content": [{"type": "video", "mime_type": "video/mp4", "data": b64(FILM)}]}]
    vendor.on("POST", "/interactions", Say({"id": "i", "status": "in_progress"}))
    vendor.on("GET", "/interactions/i", Say({"id": "i", "status": "completed", "steps": steps, "usage": usage}))
    return usage


def replicate_picture(vendor: VendorServer) -> Any:
    metrics = {"predict_time": 2.5}
    job = {"id": "p", "status": "succeeded", "output": [f"{vendor.url}/0.png"], "metrics": metrics}
    vendor.on("POST", "/models/a/b/predictions", Say({**job, "status": "starting", "output": None}))
    vendor.on("GET", "/predictions/p", Say(job))
    vendor.on("GET", "/0.png", Say(PNG, media_type="image/png"))
    return metrics


def fal_picture(vendor: VendorServer) -> Any:
    metrics = {"inference_time": 1.5}
    vendor.on("POST", "/a/b", Say({"request_id": "r"}))
    vendor.on("GET", "/a/b/requests/r/status", Say({"status": "COMPLETED", "metrics": metrics}))
    vendor.on("GET", "/a/b/requests/r", Say({"images": [{"url": f"{vendor.url}/0.png"}]}))
    vendor.on("GET", "/0.png", Say(PNG, media_type="image/png"))
    return metrics


@pytest.mark.parametrize(
    ("kind", "model", "film", "script", "cost", "used"),
    [
        ("openai", "m", False, openai_picture, 0.25, {}),
        ("openai", "m", True, openai_film, 0.4, {"media_seconds": 4}),
        ("minimax", "image-01", False, minimax_picture, None, {"images": 1}),
        ("minimax", "MiniMax-H3", True, minimax_film, None, {"media_seconds": 6}),
        ("google", "gemini-x", False, google_picture, None, {"input_tokens": 5, "output_tokens": 1290}),
        ("google", "interactions:x", True, google_film, None, {"input_tokens": 3, "output_tokens": 40}),
        ("replicate", "a/b", False, replicate_picture, None, {"compute_seconds": 2.5}),
        ("fal", "a/b", False, fal_picture, None, {"compute_seconds": 1.5}),
    ],
)
async def test_what_the_vendor_says_it_took_is_in_the_result_and_counted_once(
    studio: Open,
    vendor: VendorServer,
    kind: str,
    model: str,
    film: bool,
    script: Callable[[VendorServer], Any],
    cost: float | None,
    used: dict[str, float],
) -> None:
    usage = script(vendor)

    async with studio(type=kind, engine="generic" if kind == "openai" else "openai", models=[f"x={model}"]) as here:
        result = await (here.film if film else here.picture)(model="x")

    assert (result["usage"], result["cost_usd"]) == (usage, cost)
    spending = here.providers.spending
    assert spending.cost_usd == ({} if cost is None else {"vendor": cost})
    assert {unit: amount for (_, unit), amount in spending.used.items()} == used


async def test_what_a_film_took_that_failed_is_counted_and_told_in_the_log(studio: Open, vendor: VendorServer) -> None:
    failed = {"id": "p", "status": "failed", "error": "out of memory", "metrics": {"predict_time": 9.0}}
    vendor.on("POST", "/models/a/b/predictions", Say({"id": "p", "status": "starting"}))
    vendor.on("GET", "/predictions/p", Say(failed))

    async with studio(type="replicate", engine="openai", models=["x=a/b"]) as here:
        with pytest.raises(ProviderError, match="out of memory") as raised:
            await here.film(model="x")

    assert raised.value.context["usage"] == {"predict_time": 9.0}
    assert here.providers.spending.used == {("vendor", "compute_seconds"): 9.0}


async def test_the_built_in_one_needs_no_turn_and_costs_nothing(studio: Open) -> None:
    async with studio() as here:
        result = await here.picture(model="builtin-poster", size="64x64")

    assert (result["usage"], result["cost_usd"]) == ({"images": 1}, 0.0)
    assert "builtin" not in here.providers.call_queues
    assert here.providers.spending.cost_usd == {"builtin": 0.0}
