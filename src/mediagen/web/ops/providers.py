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
    """Whether it is asked: ``open``: not for now, ``half_open``: one call finds out."""

    state: CircuitState
    since: datetime = Field(description="when it closed, or opened after it had been closed")
    reason: str | None = Field(description="the last failure; null while it is closed")


class CallsView(Said):
    """Paid calls."""

    limit: int = Field(description="in flight at most, for now")
    ceiling: int = Field(description="providers.<name>.max_parallel")
    in_flight: int
    waiting: int = Field(description="attempts that wait for their turn")
    pause_reason: str | None = Field(description="why none is begun for now, when the provider asked for that")


class ProviderView(Said):
    """A provider."""

    name: str
    object: Literal["provider"] = "provider"
    type: ProviderType
    circuit: CircuitView | None = Field(description="null: the built-in one, which always works")
    calls: CallsView | None = Field(description="null: the built-in one, which takes all")
    retry_after: float | None = Field(description="seconds in which no paid call is begun; null: they are")


class ProviderList(Said):
    object: Literal["list"] = "list"
    data: list[ProviderView]


class ProviderRoutes:
    """``/v1/providers``."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    @route("GET", "/v1/providers", "How the providers are", answer=ProviderList, needs=Scope.METRICS)
    async def list_providers(self, _call: Call[Empty, Empty]) -> ProviderList:
        return ProviderList(data=[view_of(each) for each in self._providers.configured.values()])


def view_of(configured: Configured) -> ProviderView:
    """A provider as it is shown."""
    name, turns = configured.provider.name, configured.turns
    if turns is None:
        return ProviderView(name=name, type=configured.type, circuit=None, calls=None, retry_after=None)
    circuit, limiter = turns.circuit, turns.limiter
    return ProviderView(
        name=name,
        type=configured.type,
        circuit=CircuitView(state=circuit.state, since=circuit.since, reason=circuit.reason),
        calls=CallsView(
            limit=limiter.limit,
            ceiling=limiter.ceiling,
            in_flight=limiter.in_flight,
            waiting=turns.waiting,
            pause_reason=limiter.reason if limiter.opens_in else None,
        ),
        retry_after=round(turns.opens_in, 1) or None,
    )
