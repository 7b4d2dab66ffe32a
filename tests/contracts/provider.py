"""What every provider must do; a test class gives a ``Bench``: the provider, and how its other side is made to behave.

The vendors' other sides are servers on loopback that replay the documented shapes (``tests.infra.servers.vendor``).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pytest

from mediagen.core.errors import (
    ContentRefused,
    InvalidRequest,
    MediagenError,
    OutcomeUnknown,
    ProviderBudgetSpent,
    ProviderError,
    ProviderKeyRefused,
    ProviderRateLimited,
    ProviderUnavailable,
    UnknownModel,
)
from mediagen.net.download import Fetcher
from mediagen.net.session import guarded_session
from mediagen.net.settings import FetchSettings
from mediagen.providers.base import (
    Answer,
    Content,
    ImageRequest,
    Link,
    MakesImages,
    Making,
    Operation,
    Phase,
    RunsOperations,
    Size,
    Status,
    VideoRequest,
)
from mediagen.streams.formats.sniff import sniff
from mediagen.streams.sources import read_chunks

Fault: TypeAlias = Literal[
    "key", "budget", "rate", "model", "field", "content", "busy", "gateway", "lost", "html", "empty", "cut"
]
"""Of the call that begins paid work."""

FAULTS: dict[Fault, tuple[type[MediagenError], bool]] = {
    "key": (ProviderKeyRefused, False),
    "budget": (ProviderBudgetSpent, False),
    "rate": (ProviderRateLimited, True),
    "model": (UnknownModel, False),
    "field": (InvalidRequest, False),
    "content": (ContentRefused, False),
    "busy": (ProviderUnavailable, True),
    "gateway": (OutcomeUnknown, False),
    "lost": (OutcomeUnknown, False),
    "html": (ProviderError, False),
    "empty": (ProviderError, False),
    "cut": (OutcomeUnknown, False),
}
"""What each must become, and whether trying again can help."""

ALL_FAULTS: frozenset[Fault] = frozenset(FAULTS)


def spread(
    metafunc: pytest.Metafunc, *, image: frozenset[Fault] = frozenset(), film: frozenset[Fault] = frozenset()
) -> None:
    """A test for each fault that can happen."""
    faults = {"test_a_refusal_has_its_type": image, "test_a_refused_film_has_its_type": film}
    if (wanted := faults.get(metafunc.function.__name__)) is not None:
        metafunc.parametrize("fault", sorted(wanted))


@dataclass(slots=True)
class Taken:
    """A result, read whole."""

    index: int
    data: bytes
    partial: int | None = None
    link: Link | None = None


async def take(answer: Answer) -> list[Taken]:
    """All results, links downloaded as a recipe would."""
    settings = FetchSettings()
    found = []
    async with guarded_session(settings) as session:
        fetcher = Fetcher(session, settings)
        async for made in answer:
            if isinstance(made, Content):
                data = b"".join([chunk async for chunk in read_chunks(made.source)])
                found.append(Taken(made.index, data, made.partial))
            else:
                async with fetcher.open(made.url, trusted=made.trusted) as download:
                    data = b"".join([chunk async for chunk in read_chunks(download.sequential())])
                found.append(Taken(made.index, data, link=made))
    return found


class Bench(ABC):
    """A provider and its other side."""

    provider: Any
    image_model: str | None = None
    video_model: str | None = None

    def ready_images(self, pictures: list[bytes]) -> None:
        """The next call for pictures gives these."""
        raise NotImplementedError

    def ready_video(self, film: bytes, *, words: list[str] | None = None) -> None:
        """The next operation goes through its states and gives this."""
        raise NotImplementedError

    def break_images(self, fault: Fault) -> None:
        """The next call for pictures goes wrong."""
        raise NotImplementedError

    def break_submit(self, fault: Fault) -> None:
        """The next call for a film goes wrong."""
        raise NotImplementedError

    @property
    @abstractmethod
    def paid_calls(self) -> int:
        """How often paid work was asked for."""


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
FILM = b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 300


async def settled(provider: RunsOperations, operation: Operation, *, polls: int = 400) -> Status:
    """Poll until it has ended."""
    for _ in range(polls):
        status = await provider.poll(operation)
        operation = status.operation
        if status.phase in (Phase.COMPLETED, Phase.FAILED):
            return status
        assert status.error is None
        await asyncio.sleep(0.05)
    raise TimeoutError(f"still {status.phase}")


@asynccontextmanager
async def fetched(provider: RunsOperations, operation: Operation) -> AsyncIterator[Answer]:
    async with provider.fetch(operation) as answer:
        yield answer


class ProviderContract:
    """Inherit, and give ``bench``."""

    def test_it_says_what_it_can_do(self, bench: Bench) -> None:
        assert bench.provider.name
        for model in bench.provider.models:
            assert model.id
            assert model.images or model.videos
            if model.images and not model.images.by_operation:
                assert isinstance(bench.provider, MakesImages)
            if model.videos or (model.images and model.images.by_operation):
                assert isinstance(bench.provider, RunsOperations)

    async def test_an_operation_survives_being_saved(self, bench: Bench) -> None:
        operation = Operation("x", "m", Making.VIDEO, "id", {"a": [1]})

        assert Operation.from_checkpoint(operation.as_checkpoint()) == operation


class ImageContract(ProviderContract):
    """Of those that make pictures in one call."""

    def request(self, bench: Bench, **changes: Any) -> ImageRequest:
        assert bench.image_model is not None
        return ImageRequest(**{"model": bench.image_model, "prompt": "A red fox", **changes})

    def test_what_it_can_make_is_told_beforehand(self, bench: Bench) -> None:
        bench.provider.check(self.request(bench))

    async def test_a_picture_comes(self, bench: Bench) -> None:
        bench.ready_images([PNG])

        async with bench.provider.generate(self.request(bench)) as answer:
            (taken,) = await take(answer)

        assert taken.index == 0
        assert sniff(taken.data[:64]) == "image/png"
        assert bench.paid_calls == 1

    async def test_several_pictures_come_in_order(self, bench: Bench) -> None:
        bench.ready_images([PNG, PNG + b"2", PNG + b"3"])

        async with bench.provider.generate(self.request(bench, n=3)) as answer:
            taken = await take(answer)

        assert [each.index for each in taken] == [0, 1, 2]
        assert len({each.data for each in taken}) == 3

    async def test_a_result_that_nobody_takes_is_skipped(self, bench: Bench) -> None:
        bench.ready_images([PNG, PNG + b"2"])

        async with bench.provider.generate(self.request(bench, n=2)) as answer:
            indexes = [made.index async for made in answer]

        assert indexes == [0, 1]

    async def test_leaving_early_leaves_nothing(self, bench: Bench) -> None:
        bench.ready_images([PNG * 200, PNG])

        async with bench.provider.generate(self.request(bench, n=2)) as answer:
            async for made in answer:
                if isinstance(made, Content):
                    await made.source.read_into(memoryview(bytearray(10)))
                break


class ImageRefusals(ImageContract):
    """Of those with another side."""

    image_faults: frozenset[Fault] = ALL_FAULTS
    """Those that can happen to this provider."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        spread(metafunc, image=self.image_faults)

    async def test_a_refusal_has_its_type(self, bench: Bench, fault: Fault) -> None:
        bench.break_images(fault)
        error, retryable = FAULTS[fault]

        with pytest.raises(error) as raised:
            async with bench.provider.generate(self.request(bench)) as answer:
                await take(answer)

        assert raised.value.retryable is retryable
        assert "secret" not in raised.value.detail
        if fault == "rate":
            assert raised.value.retry_after == 7
        assert bench.paid_calls == 1, "nothing is tried again by itself"


class VideoContract(ProviderContract):
    """Of those that make films."""

    def film_request(self, bench: Bench, **changes: Any) -> VideoRequest:
        assert bench.video_model is not None
        return VideoRequest(
            **{"model": bench.video_model, "prompt": "A red fox", "seconds": 6.0, "size": Size(320, 180), **changes}
        )

    def test_what_it_can_film_is_told_beforehand(self, bench: Bench) -> None:
        bench.provider.check(self.film_request(bench))

    async def test_a_film_comes(self, bench: Bench) -> None:
        bench.ready_video(FILM)

        operation = await bench.provider.submit(self.film_request(bench))
        saved = Operation.from_checkpoint(operation.as_checkpoint())
        status = await settled(bench.provider, saved)
        async with bench.provider.fetch(status.operation) as answer:
            (taken,) = await take(answer)

        assert status.phase is Phase.COMPLETED
        assert sniff(taken.data[:64]) == "video/mp4"
        assert bench.paid_calls == 1

    async def test_a_film_can_be_fetched_again(self, bench: Bench) -> None:
        bench.ready_video(FILM)
        operation = await bench.provider.submit(self.film_request(bench))
        status = await settled(bench.provider, operation)

        data = []
        for _ in range(2):
            async with bench.provider.fetch(status.operation) as answer:
                data += [taken.data for taken in await take(answer)]

        assert data[0] == data[1]
        assert bench.paid_calls == 1


class VideoRefusals(VideoContract):
    """Of those with another side."""

    film_faults: frozenset[Fault] = ALL_FAULTS - {"cut"}
    """Those that can happen to this provider."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        spread(metafunc, film=self.film_faults, image=getattr(self, "image_faults", frozenset()))

    async def test_a_refused_film_has_its_type(self, bench: Bench, fault: Fault) -> None:
        bench.break_submit(fault)
        error, retryable = FAULTS[fault]

        with pytest.raises(error) as raised:
            await bench.provider.submit(self.film_request(bench))

        assert raised.value.retryable is retryable
        assert bench.paid_calls == 1
