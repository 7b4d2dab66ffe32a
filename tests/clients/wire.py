"""What the drivers for Python share: a call as a line of JSON in, its outcome as a line out.

``client.py`` says what the lines hold. The drivers run in the environments of others: they import nothing of ours but
this.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, SupportsIndex

Wish = dict[str, Any]

exchanges: list[dict[str, Any]] = []
slept: list[float] = []
_really_sleep = time.sleep


def _sleep(seconds: float | SupportsIndex, /) -> None:
    slept.append(float(seconds))
    _really_sleep(float(seconds))


def asked(request: Any) -> None:
    """Note a request, of httpx or of what took its place."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    path, query = request.url.path, request.url.query.decode()
    exchanges.append({"method": request.method, "path": path, "query": query, "headers": headers})


def answered(response: Any) -> None:
    """Note the answer to the last request."""
    answer = {name.lower(): value for name, value in response.headers.items()}
    exchanges[-1] |= {"status": response.status_code, "answer": answer}


def given(value: Any) -> Any:
    """Files stand as ``{"$file": path}``, ``{"$bytes": base64}``, ``{"$bytesio": base64}``."""
    if isinstance(value, list):
        return [given(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "$file" in value:
        return Path(value["$file"]).open("rb")
    if "$bytes" in value:
        return base64.b64decode(value["$bytes"])
    if "$bytesio" in value:
        return io.BytesIO(base64.b64decode(value["$bytesio"]))
    return {name: given(each) for name, each in value.items()}


def plain(value: Any) -> Any:
    """A model of pydantic as JSON holds it; anything else as it is."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def about(content: bytes) -> dict[str, Any]:
    """Size and digest."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _outcome(
    wish: Wish,
    carry_out: Callable[[Wish, list[Any]], Any],
    errors: tuple[type[Exception], ...],
    told: Callable[[Any], dict[str, Any]],
) -> dict[str, Any]:
    exchanges.clear()
    slept.clear()
    items: list[Any] = []
    done: dict[str, Any] = {"value": None, "error": None}
    try:
        done["value"] = carry_out(wish, items)
    except errors as exc:
        done["value"] = items or None
        done["error"] = {"class": type(exc).__name__, "message": str(exc), **told(exc)}
    return {**done, "exchanges": exchanges, "slept": slept}


def serve(
    version: str,
    carry_out: Callable[[Wish, list[Any]], Any],
    errors: tuple[type[Exception], ...],
    told: Callable[[Any], dict[str, Any]],
) -> None:
    """Make calls until there are no more.

    ``carry_out`` gives the value of a call; its second argument takes the items of an iteration, also of one that ends
    in an error. ``told``: status, code, param, type and request_id of one of ``errors``.
    """
    time.sleep = _sleep
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_outcome(json.loads(line), carry_out, errors, told)), flush=True)
