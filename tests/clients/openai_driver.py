"""Drives the ``openai`` package that this interpreter finds, one major version or another.

The client is used as it is published: its own hooks tell what went over the wire.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import openai

from tests.clients.wire import Wish, about, answered, asked, given, plain, serve


@lru_cache
def _client(base_url: str, api_key: str, max_retries: int) -> openai.OpenAI:
    hooks: dict[str, list[Any]] = {"request": [asked], "response": [answered]}
    transport = openai.DefaultHttpxClient(event_hooks=hooks)
    return openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=max_retries, timeout=30, http_client=transport)


def _carry_out(wish: Wish, items: list[Any]) -> Any:
    client = _client(wish["base_url"], wish["api_key"], wish["max_retries"])
    if wish["call"] == "webhooks.unwrap":
        payload, headers, secret = wish["args"]
        return plain(client.webhooks.unwrap(payload, headers, secret=secret))
    room, _, name = wish["call"].rpartition(".")
    place: Any = getattr(client, room) if room else client
    fields = {name: given(value) for name, value in wish["fields"].items()}
    options = {"extra_headers": wish["headers"], "extra_body": wish["extra"]}
    options = {name: value for name, value in options.items() if value}
    if wish["take"] == "file":
        with getattr(place.with_streaming_response, name)(*wish["args"], **fields, **options) as response:
            response.stream_to_file(wish["to"])
        return about(Path(wish["to"]).read_bytes())
    if name == "post":
        return place.post(*wish["args"], cast_to=object)
    value = getattr(place, name)(*wish["args"], **fields, **options)
    if wish["take"] == "bytes":
        return about(value.read())
    if wish["take"] == "items":
        items.extend(plain(each) for each in value)
        return items
    request_id = getattr(value, "_request_id", None)
    return {"request_id": request_id, **plain(value)}


def _told(exc: Exception) -> dict[str, Any]:
    about = {name: getattr(exc, name, None) for name in ("code", "param", "type", "request_id")}
    return {"status": getattr(exc, "status_code", None), **about}


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # that one vendor stops making films; the interface stays
    serve(openai.__version__, _carry_out, (openai.OpenAIError, ValueError, TypeError), _told)
