"""What a provider is, and the values that pass between it and a recipe.

A provider says what its models can do (``Model``), and offers one or both of two abilities:

    MakesImages      generate(request)  ─▶ Answer: results while they arrive
    RunsOperations   submit(request)    ─▶ Operation (to be saved) ─▶ poll ─▶ Status … ─▶ fetch ─▶ Answer; cancel

It neither retries, sleeps nor reports progress: that is its caller's. Its errors are typed; ``retryable`` says whether
the same call can help, and ``OutcomeUnknown`` that a paid call may have been carried out and must not be repeated.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from pydantic import Field

from mediagen.core.errors import InvalidRequest, MediagenError
from mediagen.net.trusted_origin import TrustedOrigin
from mediagen.providers.options import ImageOptions, VideoOptions
from mediagen.streams.base import Source

_SIZE: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class Size(NamedTuple):
    """Pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @classmethod
    def parse(cls, text: str) -> Size:
        """Of ``1024x768``. Raises InvalidRequest."""
        found = _SIZE.fullmatch(text)
        if found is None:
            raise InvalidRequest(f"a size is written as WIDTHxHEIGHT, not {text!r}", param="size")
        return cls(int(found[1]), int(found[2]))


class Making(StrEnum):
    """What a model makes."""

    IMAGE = "image"
    VIDEO = "video"


Role: TypeAlias = Literal["image", "mask", "first_frame", "last_frame", "reference"]


@dataclass(frozen=True, slots=True)
class Input:
    """A picture (or film) that comes with a request. Its bytes are read when they are sent, as often as asked."""

    role: Role
    media_type: str
    size: int
    """Bytes."""
    open: Callable[[], AbstractAsyncContextManager[Source]]
    filename: str = "input"
    owner: str | None = None
    """Whose request it is, so that owners can take turns; None: nobody's."""


class ImageRequest(ImageOptions[Size]):
    """An image request as a provider gets it. None: the provider's default; nothing is ``"auto"`` any more.

    ``model`` is the provider's own name. ``extra`` are fields that are not among the options; they are passed on.
    """

    model: str
    inputs: tuple[Input, ...] = ()
    """In order; a mask among them has that role."""
    extra: Mapping[str, Any] = Field(default_factory=dict)


class VideoRequest(VideoOptions[Size]):
    """A video request as a provider gets it, as ``ImageRequest``."""

    model: str
    inputs: tuple[Input, ...] = ()
    remix_of: str | None = None
    """Id of an earlier operation of the same provider."""
    extra: Mapping[str, Any] = Field(default_factory=dict)


Request: TypeAlias = ImageRequest | VideoRequest


@dataclass(frozen=True, slots=True)
class ImageAbilities:
    """What a model takes for pictures. An empty tuple: not known, or anything goes."""

    max_n: int = 1
    """Pictures of one call; more are several calls."""
    sizes: tuple[Size, ...] = ()
    formats: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    max_inputs: int = 0
    """Pictures to edit or to go by; 0: edits are not possible."""
    masks: bool = False
    partial_images: bool = False
    by_operation: bool = False
    """Made by ``RunsOperations``, else by ``MakesImages``."""


@dataclass(frozen=True, slots=True)
class VideoAbilities:
    """What a model takes for films, always by ``RunsOperations``. An empty tuple: not known, or anything goes."""

    sizes: tuple[Size, ...] = ()
    seconds: tuple[float, ...] = ()
    max_seconds: float | None = None
    inputs: frozenset[Role] = frozenset()
    remix: bool = False
    cancel: bool = False
    percent: bool = False
    """Whether ``Status.percent`` is ever known."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a provider."""

    id: str
    images: ImageAbilities | None = None
    videos: VideoAbilities | None = None
    generative: bool = True
    """False: drawn by rules, without a learned model."""

    def makes(self, making: Making) -> bool:
        return (self.images if making is Making.IMAGE else self.videos) is not None


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider says the work took."""

    reported: Mapping[str, Any]
    """As the provider put it: tokens, seconds, pictures."""
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A result that lies behind a URL, for ``Fetcher.open(link.url, trusted=link.trusted)``.

    403, 404 or 410 means that it has expired: of an operation, ``fetch`` again gives a fresh one.
    """

    url: str
    index: int = 0
    trusted: TrustedOrigin | None = None
    """The provider's own origin, where its key is needed too; None: an address like any other."""
    media_type: str | None = None
    revised_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A result that comes now. Its bytes must be taken before the next result is asked for; what is left is skipped."""

    source: Source
    index: int = 0
    partial: int | None = None
    """Number of an earlier state of the picture; None: the picture itself."""
    media_type: str | None = None


Made: TypeAlias = Link | Content


@dataclass(slots=True)
class About:
    """What an answer says beside its results; complete when they have ended. ``reported`` are fields worth echoing."""

    usage: Usage | None = None
    reported: dict[str, Any] = field(default_factory=dict)
    revised_prompts: dict[int, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    """Texts that stood where links were expected; a result they are not, but perhaps the reason for having none."""
    withdrawn: set[int] = field(default_factory=set)
    """Indexes of what came and turned out to be no result: drafts, inputs that are given back. It is not to be kept."""


@dataclass(frozen=True, slots=True)
class EffectiveOptions:
    """What a provider makes of a request, so that nobody has to guess."""

    ignored: tuple[str, ...] = ()
    """Fields of the request that this model has no word for."""
    adapted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields that it has other words for, and what it is asked for instead: ``{"size": {"aspectRatio": "16:9"}}``."""


class Answer:
    """Results in the order in which they come, each with its index, and what is said about them."""

    def __init__(self, results: AsyncIterator[Made], about: About) -> None:
        self._results = results
        self.about = about

    def __aiter__(self) -> AsyncIterator[Made]:
        return self._results


@dataclass(frozen=True, slots=True)
class Operation:
    """A job at a provider. Saved before it is waited for, so that it is paid once."""

    provider: str
    model: str
    making: Making
    id: str
    state: Mapping[str, Any] = field(default_factory=dict)
    """The provider's own business; JSON-able."""

    def as_checkpoint(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "model": self.model,
            "making": str(self.making),
            "id": self.id,
            "state": dict(self.state),
        }

    @classmethod
    def from_checkpoint(cls, saved: Mapping[str, Any]) -> Operation:
        return cls(saved["provider"], saved["model"], Making(saved["making"]), saved["id"], saved.get("state", {}))


class Phase(StrEnum):
    """How far an operation is."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Status:
    """One reading of an operation. ``error`` says why it failed; unknown is None."""

    phase: Phase
    operation: Operation
    """To be saved again when it differs from the one asked about."""
    percent: int | None = None
    """0-100."""
    queue_position: int | None = None
    poll_after: float | None = None
    """Seconds that the provider asks us to wait before the next question."""
    error: MediagenError | None = None
    usage: Usage | None = None


class Provider(Protocol):
    """Somebody who makes pictures or films; whoever also fits the protocols below can be asked to."""

    @property
    def name(self) -> str:
        """Of the settings."""

    @property
    def models(self) -> tuple[Model, ...]: ...

    def check(self, request: Request, roles: Sequence[Role] = (), /) -> None:
        """Whether this request, with inputs in these ``roles``, can be made at all, as far as can be told without
        asking; for the edge, before a task is stored. The inputs themselves are not looked at.

        Raises:
            InvalidRequest, UnknownModel: ``context["param"]`` names the field.
        """

    def effective_options(self, request: Request, /) -> EffectiveOptions:
        """What becomes of the fields of a request that ``check`` lets through."""


@runtime_checkable
class MakesImages(Protocol):
    """Pictures in one call."""

    def generate(self, request: ImageRequest, /) -> AbstractAsyncContextManager[Answer]:
        """Ask, and take the results while they arrive.

        Raises:
            InvalidRequest: the provider takes no such request; ``context["param"]`` names the field when known.
            ProviderUnavailable, ProviderRateLimited: nothing was begun.
            ContentRefused, ProviderKeyRefused, ProviderBudgetSpent, ProviderError: asking again does not help.
            OutcomeUnknown: also while the results are read; it may have been made and paid.
        """


@runtime_checkable
class RunsOperations(Protocol):
    """Pictures or films that take longer than a call."""

    async def submit(self, request: Request, /) -> Operation:
        """Begin. Raises as ``MakesImages.generate``."""

    async def poll(self, operation: Operation, /) -> Status:
        """Look. Raises ProviderUnavailable and its siblings, never for an operation that failed."""

    def fetch(self, operation: Operation, /) -> AbstractAsyncContextManager[Answer]:
        """The results of a completed operation; may be asked for again. Raises as ``poll``; ContentRefused when all
        results were withheld, ProviderError when there is nothing."""

    async def cancel(self, operation: Operation, /) -> bool:
        """Ask to stop. True: it stops, or has ended; False: the provider cannot, or does not promise it."""
