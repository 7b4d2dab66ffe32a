"""``mediagen compose``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mediagen.cli.client import CannotReach, Client
from mediagen.cli.script import ScriptUnreadable, read_script
from mediagen.cli.tasks import FAILED, OK, UNUSABLE, follow, talk


def compose(server: str | None, script: Path, *, out: Path | None, wait: bool, plan: bool, as_json: bool) -> int:
    """Submit a script, and with ``wait`` follow it and save the film as ``out``; the exit status."""
    try:
        request = read_script(script)
    except ScriptUnreadable as exc:
        print(f"mediagen: {exc}", file=sys.stderr)
        return UNUSABLE

    def work(client: Client) -> int:
        if plan:
            print(json.dumps(client.call("POST", "/v1/compositions/plan", request), indent=None if as_json else 2))
            return OK
        task = client.call("POST", "/v1/compositions", request)
        if not wait:
            print(json.dumps(task) if as_json else task["id"])
            return OK
        status = follow(client, task, as_json=as_json)
        if status == OK and out is not None:
            return _save(client, str(task["id"]), out)
        return status

    return talk(server, work)


def _save(client: Client, task_id: str, out: Path) -> int:
    """Download the film of a completed task. Half of one never gets the name ``out``."""
    task: dict[str, Any] = client.call("GET", f"/v1/tasks/{task_id}")
    part = out.with_name(f"{out.name}.part")
    try:
        with part.open("wb") as file:
            client.download(f"/v1/files/{task['result']['file']['id']}/content", file)
        part.replace(out)
    except OSError as exc:
        print(f"mediagen: {out}: {exc.strerror}", file=sys.stderr)
        return FAILED
    except CannotReach:
        part.unlink(missing_ok=True)
        raise
    for warning in task["result"]["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"saved {out}", file=sys.stderr)
    return OK
