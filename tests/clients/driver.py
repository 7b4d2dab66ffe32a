"""Drives the ``openai`` package that this interpreter finds: a call as a line of JSON in, its outcome as a line out.

Started by ``tests/clients/client.py`` (which says what the lines hold) with the environment of one major version or
another; it imports nothing of ours. The client is used as it is published: its own hooks tell what went over the wire,
and its sleeps are noted on the way.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import time
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any, SupportsIndex

import openai

exchanges: list[dict[str, Any]] = []
slept: list[float] = []
_really_sleep = time.sleep


def _sleep(seconds: float | SupportsIndex, /) -> None:
    slept.append(float(seconds))
    _really_sleep(float(seconds))


def _asked(request: Any) -> None:
    headers = {name.lower(): value for name, value in request.headers.items()}
    exchanges.append({"method": request.method, "path": request.url.path, "headers": headers})


def _answered(response: Any) -> None:
    answer = {name.lower(): value for name, value in response.headers.items()}
    exchanges[-1] |= {"status": response.status_code, "answer": answer}


@lru_cache
def _client(base_url: str, api_key: str, max_retries: int) -> openai.OpenAI:
    hooks: dict[str, list[Any]] = {"request": [_asked], "response": [_answered]}
    transport = openai.DefaultHttpxClient(event_hooks=hooks)
    return openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=max_retries, timeout=30, http_client=transport)


def _given(value: Any) -> Any:
    """Files stand as ``{"$file": path}``, ``{"$bytes": base64}``, ``{"$bytesio": base64}``."""
    if isinstance(value, list):
        return [_given(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "$file" in value:
        return Path(value["$file"]).open("rb")
    if "$bytes" in value:
        return base64.b64decode(value["$bytes"])
    if "$bytesio" in value:
        return io.BytesIO(base64.b64decode(value["$bytesio"]))
    return {name: _given(each) for name, each in value.items()}


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _about(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _carry_out(wish: dict[str, Any], items: list[Any]) -> Any:
    """The value of the call; ``items`` takes those of an iteration, also of one that ends in an error."""
    client = _client(wish["base_url"], wish["api_key"], wish["max_retries"])
    if wish["call"] == "webhooks.unwrap":
        payload, headers, secret = wish["args"]
        return _plain(client.webhooks.unwrap(payload, headers, secret=secret))
    room, _, name = wish["call"].rpartition(".")
    place: Any = getattr(client, room) if room else client
    fields = {name: _given(value) for name, value in wish["fields"].items()}
    options = {"extra_headers": wish["headers"], "extra_body": wish["extra"]}
    options = {name: value for name, value in options.items() if value}
    if wish["take"] == "file":
        with getattr(place.with_streaming_response, name)(*wish["args"], **fields, **options) as response:
            response.stream_to_file(wish["to"])
        return _about(Path(wish["to"]).read_bytes())
    if name == "post":
        return place.post(*wish["args"], cast_to=object)
    value = getattr(place, name)(*wish["args"], **fields, **options)
    if wish["take"] == "bytes":
        return _about(value.read())
    if wish["take"] == "items":
        items.extend(_plain(each) for each in value)
        return items
    request_id = getattr(value, "_request_id", None)
    return {"request_id": request_id, **_plain(value)}


def outcome(wish: dict[str, Any]) -> dict[str, Any]:
    """What became of a call."""
    exchanges.clear()
    slept.clear()
    items: list[Any] = []
    done: dict[str, Any] = {"value": None, "error": None}
    try:
        done["value"] = _carry_out(wish, items)
    except (openai.OpenAIError, ValueError, TypeError) as exc:
        about = {name: getattr(exc, name, None) for name in ("code", "param", "type", "request_id")}
        done["value"] = items or None
        done["error"] = {
            "class": type(exc).__name__,
            "status": getattr(exc, "status_code", None),
            "message": str(exc),
            **about,
        }
    return {**done, "exchanges": exchanges, "slept": slept}


if __name__ == "__main__":
    time.sleep = _sleep
    warnings.simplefilter("ignore", DeprecationWarning)  # that one vendor stops making films; the interface stays
    print(json.dumps({"version": openai.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(outcome(json.loads(line))), flush=True)
