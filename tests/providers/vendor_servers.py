"""Vendors' adapters as the server opens them, talking to a scripted API on loopback."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mediagen.net.settings import FetchSettings
from mediagen.providers.base import Input, Role
from mediagen.providers.registry import Providers, open_providers
from mediagen.providers.settings import ProviderSettings
from mediagen.streams.base import Source
from mediagen.streams.sources import ChunkSource
from tests.contracts.provider import Fault
from tests.infra.servers.vendor import Say

KEY = "sk-secret-1234567890"


@asynccontextmanager
async def opened(url: str, *, clock: Callable[[], float] = time.monotonic, **settings: Any) -> AsyncIterator[Providers]:
    """All providers, among them ``vendor`` with these settings; loopback is not allowed for anybody else."""
    asked = ProviderSettings(
        **{"base_url": url, "api_key": KEY, "answer_seconds": 5.0, "stall_seconds": 5.0, **settings}
    )
    async with open_providers({"vendor": asked}, FetchSettings(), clock=clock) as providers:
        yield providers


@asynccontextmanager
async def vendor(url: str, **settings: Any) -> AsyncIterator[Any]:
    """The one provider of these settings."""
    async with opened(url, **settings) as providers:
        yield next(offer.provider for offer in providers.offers if offer.provider.name == "vendor")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def an_input(data: bytes, *, role: Role = "image", media_type: str = "image/png", filename: str = "in.png") -> Input:
    """An input whose bytes can be read as often as asked."""

    @asynccontextmanager
    async def reader() -> AsyncIterator[Source]:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 1000):
                yield data[start : start + 1000]

        yield ChunkSource(chunks(), size=len(data))

    return Input(role, media_type, len(data), reader, filename)


def plain_fault(fault: Fault) -> Say:
    """A fault of a REST API that answers errors in OpenAI's shape (its API reference, error codes)."""

    def said(status: int, message: str, code: str | None, kind: str, param: str | None = None, **headers: str) -> Say:
        error = {"message": message, "type": kind, "param": param, "code": code}
        return Say({"error": error}, status, {name.replace("_", "-"): value for name, value in headers.items()})

    invalid = "invalid_request_error"
    match fault:
        case "key":
            return said(401, f"Incorrect API key provided: {KEY}.", "invalid_api_key", invalid)
        case "budget":
            return said(
                429, "You exceeded your current quota, check your billing.", "insufficient_quota", "insufficient_quota"
            )
        case "rate":
            return said(429, "Rate limit reached for images", "rate_limit_exceeded", "requests", Retry_After="7")
        case "model":
            return said(404, "The model `x` does not exist", "model_not_found", invalid)
        case "field":
            return said(400, "Invalid size", "invalid_value", invalid, "size")
        case "content":
            return said(
                400,
                "Your request was rejected by the safety system.",
                "moderation_blocked",
                "image_generation_user_error",
            )
        case "busy":
            return said(503, "The server is overloaded", None, "server_error")
        case "gateway":
            return Say("<html>504</html>", 504, media_type="text/html")
        case "lost":
            return Say(lost=True)
        case "html":
            return Say("<!doctype html><p>hello", media_type="text/html")
        case "empty":
            return Say({})
        case "cut":
            return Say({"data": [{"b64_json": b64(bytes(50_000))}]}, cut=30_000)
