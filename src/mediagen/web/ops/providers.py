"""``/v1/providers``: how the server gets on with each provider. No key, no address."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from mediagen.core.keys import Scope
from mediagen.providers.calls.circuit_breaker import CircuitState
from mediagen.providers.registry import Configured, Providers
from mediagen.providers.settings import ProviderType
from mediagen.web.api.routing import Call, Empty, route
from mediagen.web.api.schemas import Said


class CircuitView(Said):
    """The circuit breaker. ``open``: no calls for now; ``half_open``: one call tests the provider."""

    state: CircuitState
    since: datetime = Field(description="when it last closed, or opened after being closed")
    reason: str | None = Field(description="the last failure; null while closed")


class CallsView(Said):
    """Paid calls to the provider."""

    limit: int = Field(description="most calls in flight at present")
    ceiling: int = Field(description="most calls in flight ever: `providers.<name>.max_parallel`")
    in_flight: int
    waiting: int = Field(description="attempts waiting for their turn")
    pause_reason: str | None = Field(description="why the provider asked for the present pause; null: there is none")


class ProviderView(Said):
    """A provider."""

    name: str
    object: Literal["provider"] = "provider"
    type: ProviderType
    circuit: CircuitView | None = Field(description="null for the built-in provider, which always works")
    calls: CallsView | None = Field(description="null for the built-in provider, which has no limit")
    retry_after: float | None = Field(description="seconds until paid calls may start; null: they may start now")


class ProviderList(Said):
    object: Literal["list"] = "list"
    data: list[ProviderView]


class ProviderRoutes:
    """``/v1/providers``."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    @route("GET", "/v1/providers", "List providers and their state", answer=ProviderList, needs=Scope.METRICS)
    async def list_providers(self, _call: Call[Empty, Empty]) -> ProviderList:
        return ProviderList(data=[provider_view(each) for each in self._providers.configured.values()])


def provider_view(configured: Configured) -> ProviderView:
    """A provider as it is shown."""
    name, call_queue = configured.provider.name, configured.call_queue
    if call_queue is None:
        return ProviderView(name=name, type=configured.type, circuit=None, calls=None, retry_after=None)
    circuit, limiter = call_queue.circuit_breaker, call_queue.concurrency_limit
    return ProviderView(
        name=name,
        type=configured.type,
        circuit=CircuitView(state=circuit.state, since=circuit.since, reason=circuit.reason),
        calls=CallsView(
            limit=limiter.limit,
            ceiling=limiter.ceiling,
            in_flight=limiter.in_flight,
            waiting=call_queue.waiting,
            pause_reason=limiter.reason if limiter.opens_in else None,
        ),
        retry_after=round(call_queue.opens_in, 1) or None,
    )
