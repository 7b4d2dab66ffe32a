"""``mediagen ingest`` and ``mediagen tasks``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from mediagen.cli.address import server_address
from mediagen.cli.client import KEY_VARIABLE, CannotReach, Client, Refused
from mediagen.cli.progress import Display, display, line, size

OK: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2
_EXIT: Final[Mapping[str, int]] = {"completed": OK, "failed": FAILED, "cancelled": 3, "timed_out": 4}
_RECONNECTS: Final = 60
_RECONNECT_SECONDS: Final = 1.0


def ingest(server: str | None, request: Mapping[str, Any], *, wait: bool, as_json: bool) -> int:
    """Submit, and with ``wait`` follow; the exit status."""

    def work(client: Client) -> int:
        body = {name: value for name, value in request.items() if value is not None}
        task = client.call("POST", "/v1/ingest", body)
        if wait:
            return follow(client, task, as_json=as_json)
        print(json.dumps(task) if as_json else task["id"])
        return OK

    return talk(server, work)


def watch(server: str | None, task_id: str, *, as_json: bool) -> int:
    """Follow a task to its end; the exit status."""
    return talk(server, lambda client: follow(client, client.call("GET", f"/v1/tasks/{task_id}"), as_json=as_json))


def list_tasks(server: str | None, *, status: str | None, kind: str | None, limit: int, as_json: bool) -> int:
    """Print a page of tasks, the newest first."""

    def work(client: Client) -> int:
        page = client.call("GET", "/v1/tasks", query={"status": status, "kind": kind, "limit": limit})
        for task in page["data"]:
            print(json.dumps(task) if as_json else f"{task['created_at'][:19]}  {task['kind']:<8}  {line(task)}")
        if page["has_more"] and not as_json:
            print(f"(more: --limit, or GET /v1/tasks?after={page['last_id']})", file=sys.stderr)
        return OK

    return talk(server, work)


def bulk(server: str | None, verb: str, task_ids: list[str], *, as_json: bool) -> int:
    """Cancel or retry tasks, each with its own outcome."""

    def work(client: Client) -> int:
        items = client.call("POST", f"/v1/tasks/{verb}", {"ids": task_ids})["data"]
        for item in items:
            if as_json:
                print(json.dumps(item))
            elif item["ok"]:
                print(line(item["task"]))
            else:
                print(f"{item['id']}  {item['error']['code']}: {item['error']['message']}", file=sys.stderr)
        return OK if all(item["ok"] for item in items) else FAILED

    return talk(server, work)


def talk(server: str | None, work: Callable[[Client], int]) -> int:
    try:
        return work(Client(server_address(server)))
    except CannotReach as exc:
        print(f"mediagen: {exc}", file=sys.stderr)
    except Refused as exc:
        hint = f" (for this command: {KEY_VARIABLE}=mg_…)" if exc.status == HTTPStatus.UNAUTHORIZED else ""
        print(f"mediagen: {exc.code}: {exc}{hint}", file=sys.stderr)
    except KeyboardInterrupt:
        print("mediagen: left; the task goes on", file=sys.stderr)
        return 130
    return UNUSABLE


def follow(client: Client, task: dict[str, Any], *, as_json: bool) -> int:
    """Show the task until it has ended, over restarts of the server."""
    with display(as_json=as_json) as shown:
        shown.show(task)
        task = _last(client, task, shown)
    if not as_json:
        _conclude(task)
    return _EXIT.get(task["status"], FAILED)


def _last(client: Client, task: dict[str, Any], shown: Display) -> dict[str, Any]:
    after: int | None = None
    failures = 0
    while task["status"] not in _EXIT:
        try:
            for seq, kind, data in client.events(task["id"], after):
                after, failures = seq, 0
                news = data["tasks"][0] if kind == "snapshot" and data["tasks"] else data.get("task")
                if news is not None and news != task:
                    task = news
                    shown.show(task)
            task = client.call("GET", f"/v1/tasks/{task['id']}")
        except CannotReach:
            failures += 1
            if failures > _RECONNECTS:
                raise
            time.sleep(_RECONNECT_SECONDS)
    return task


def _conclude(task: dict[str, Any]) -> None:
    result = task["result"] or {}
    file = result.get("file")
    if task["status"] == "completed" and isinstance(file, dict) and "url" in file:
        print(f"{file['filename']}  {size(file['bytes'])}  {file['media_type']}  {file['url']}")
    elif task["error"]:
        print(f"mediagen: {task['status']}: {task['error']['message']}", file=sys.stderr)
