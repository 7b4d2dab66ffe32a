"""Which provider serves which model."""

from __future__ import annotations

import difflib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from yarl import URL

from mediagen.core.errors import ProviderError, UnknownModel
from mediagen.media.image_decoder import DecodeLimits
from mediagen.net.http1.dialer import Dialer
from mediagen.net.settings import FetchSettings
from mediagen.net.trusted_origin import TrustedOrigin, trusted_dialer
from mediagen.providers.base import Making, Model, Provider, RunsOperations
from mediagen.providers.builtin.provider import Builtin
from mediagen.providers.calls.call_queue import CallQueue
from mediagen.providers.calls.circuit_breaker import CircuitState
from mediagen.providers.calls.endpoint import Endpoint, Patience
from mediagen.providers.calls.spending import Spending
from mediagen.providers.settings import BUILTIN, ProviderSettings, ProviderType
from mediagen.providers.vendors.fal import Fal
from mediagen.providers.vendors.google import Google
from mediagen.providers.vendors.minimax import MiniMax
from mediagen.providers.vendors.openai import OpenAI
from mediagen.providers.vendors.replicate import Replicate
from mediagen.providers.vendors.vendor import Vendor

VENDORS: Final[Mapping[str, type[Vendor]]] = {
    "openai": OpenAI,
    "minimax": MiniMax,
    "google": Google,
    "replicate": Replicate,
    "fal": Fal,
}
"""By ``providers.<name>.type``: a new vendor is one file and one line here."""

_NAMED_MODELS: Final = 5
_HOW_TO_ADD: Final = "a [providers.NAME] table in the configuration adds those of a provider"


@dataclass(frozen=True, slots=True)
class Offer:
    """A model by the name that callers use; ``model.id`` is what its provider calls it."""

    name: str
    provider: Provider
    model: Model
    response_format: Literal["both", "url", "b64_json"] = "both"
    """How its pictures are answered to callers that do not say how."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A provider, whose API it speaks, and whose turn it is to ask it; None: it may be asked as often as one likes."""

    provider: Provider
    type: ProviderType
    call_queue: CallQueue | None = None
    unsettled_seconds: float = 0.0
    """How long a job, or its result right after it is done, may be unknown."""


class Providers:
    """All that are configured, in the order of the settings, the built-in one last unless it is named there."""

    def __init__(self, offers: Sequence[Offer], configured: Sequence[Configured]) -> None:
        self.offers = tuple(offers)
        self.configured: Mapping[str, Configured] = {each.provider.name: each for each in configured}
        """By name."""
        self.spending = Spending()
        self._by_name: dict[str, Offer] = {}
        for offer in offers:
            self._by_name.setdefault(offer.name, offer)
        for offer in offers:
            self._by_name.setdefault(f"{offer.provider.name}/{offer.name}", offer)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.configured)

    @property
    def call_queues(self) -> Mapping[str, CallQueue]:
        """Of the providers that are not asked as often as one likes, by name."""
        return {name: each.call_queue for name, each in self.configured.items() if each.call_queue is not None}

    @property
    def circuits_open(self) -> int:
        """Providers that are not asked for now."""
        return sum(
            call_queue.circuit_breaker.state is not CircuitState.CLOSED for call_queue in self.call_queues.values()
        )

    def named(self, model: str) -> Offer | None:
        """The offer of that name or ``provider/model``, whatever it makes; None: there is none."""
        return self._by_name.get(model)

    def offer(self, model: str | None, making: Making) -> Offer:
        """Who makes it: the first provider with a model of that name (``provider/model`` names one), without a name the
        first that makes such a thing.

        Raises:
            UnknownModel
        """
        able = [offer for offer in self.offers if offer.model.makes(making)]
        if not model:
            if not able:
                raise UnknownModel(f"no configured model makes {making}s; {_HOW_TO_ADD}", param="model")
            return able[0]
        found = self._by_name.get(model)
        if found is not None and not found.model.makes(making):
            found = next((offer for offer in able if offer.name == model), None)
            if found is None:
                raise UnknownModel(f"the model {model[:100]!r} makes no {making}s{_known(able)}", param="model")
        if found is None:
            near = difflib.get_close_matches(model, [offer.name for offer in able], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownModel(f"there is no model {model[:100]!r}{hint}{_known(able)}", param="model")
        return found

    def unsettled_seconds(self, provider: str) -> float:
        """How long a job of that provider, or its result right after it is done, may be unknown to it."""
        return self.configured[provider].unsettled_seconds if provider in self.configured else 0.0

    def operations_of(self, provider: str) -> RunsOperations:
        """Who runs an operation that was saved. Raises ProviderError when it is not configured any more."""
        found: object = self.configured[provider].provider if provider in self.configured else None
        if not isinstance(found, RunsOperations):
            raise ProviderError(f"the provider {provider!r} is not configured any more", provider=provider)
        return found


def _known(able: Sequence[Offer]) -> str:
    """The rest of an error text: a few of the models that would do, and where others come from."""
    names = [offer.name for offer in able[:_NAMED_MODELS]]
    some = f"; there are {', '.join(names)}{' and others' if len(able) > len(names) else ''}" if names else ""
    return f"{some} (GET /v1/models lists all); {_HOW_TO_ADD}"


@asynccontextmanager
async def open_providers(
    settings: Mapping[str, ProviderSettings],
    fetch: FetchSettings,
    *,
    folder: Path | None = None,
    decode: DecodeLimits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Providers]:
    """Those that the settings name and enable, and the built-in one unless the settings say otherwise.

    ``folder`` is for temporary files of the built-in one, ``decode`` limits pictures that it is given; ``clock`` gives
    the seconds by which pauses are kept.
    """
    wanted = dict(settings)
    if not any(each.type == BUILTIN for each in wanted.values()):
        wanted.setdefault(BUILTIN, ProviderSettings(type=BUILTIN))
    async with AsyncExitStack() as stack:
        dialer = await stack.enter_async_context(trusted_dialer(fetch))
        offers: list[Offer] = []
        configured: list[Configured] = []
        for name, each in wanted.items():
            if not each.enabled:
                continue
            if each.type == BUILTIN:
                builtin = await stack.enter_async_context(
                    Builtin.open(name, folder=folder, parallel=each.parallel, decode=decode)
                )
                configured.append(Configured(builtin, each.type))
                offers += [Offer(model.id, builtin, model, each.response_format) for model in builtin.models]
            else:
                vendor = _vendor(name, each, dialer)
                configured.append(
                    Configured(
                        vendor, each.type, CallQueue(name, each.max_parallel, clock=clock), each.unsettled_seconds
                    )
                )
                names = each.named_models or {model.id: model.id for model in vendor.models}
                by_id = {model.id: model for model in vendor.models}
                offers += [
                    Offer(public, vendor, by_id[theirs], each.response_format) for public, theirs in names.items()
                ]
        yield Providers(offers, configured)


def _vendor(name: str, settings: ProviderSettings, dialer: Dialer) -> Vendor:
    vendor = VENDORS[settings.type]
    key = settings.api_key.get_secret_value()
    origin = TrustedOrigin(URL(settings.base_url or vendor.base_url), dialer, vendor.credentials(key) if key else {})
    endpoint = Endpoint(name, origin, Patience(settings.answer_seconds, settings.stall_seconds))
    return vendor(endpoint, settings)
