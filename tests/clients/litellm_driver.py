"""Drives LiteLLM as a client: ``image_generation``, ``image_edit`` and its functions for films.

It speaks through two HTTP libraries, each with a client of its own making: what they send is noted where they send it.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

import litellm
import openai

from tests.clients.wire import Wish, about, answered, asked, exchanges, given, plain, serve


def _watch(client: Any) -> None:
    send = client.send

    @functools.wraps(send)
    def watched(self: Any, request: Any, **options: Any) -> Any:
        asked(request)
        response = send(self, request, **options)
        answered(response)
        exchanges[-1]["redirected"] = bool(response.history)
        return response

    client.send = watched


def _carry_out(wish: Wish, items: list[Any]) -> Any:
    fields = {name: given(value) for name, value in wish["fields"].items()}
    options = {"extra_headers": wish["headers"], "extra_body": wish["extra"]}
    options = {name: value for name, value in options.items() if value}
    value = getattr(litellm, wish["call"])(
        *wish["args"],
        api_base=wish["base_url"],
        api_key=wish["api_key"],
        max_retries=wish["max_retries"],
        timeout=30,
        **fields,
        **options,
    )
    if wish["take"] == "bytes":
        return about(value)
    if wish["take"] == "items":
        items.extend(plain(each) for each in value)
        return items
    return plain(value)


def _told(exc: Exception) -> dict[str, Any]:
    body = getattr(exc, "body", None)
    error = body if isinstance(body, dict) else {}
    found = {name: getattr(exc, name, None) or error.get(name) for name in ("code", "param", "type")}
    headers = getattr(getattr(exc, "response", None), "headers", {})
    return {"status": getattr(exc, "status_code", None), **found, "request_id": headers.get("x-request-id")}


if __name__ == "__main__":
    for library in ("httpx", "httpx2"):
        _watch(import_module(library).Client)
    litellm.suppress_debug_info = True  # it prints advice where the driver's answers go
    version = import_module("importlib.metadata").version("litellm")
    serve(version, _carry_out, (openai.OpenAIError, ValueError, TypeError), _told)
