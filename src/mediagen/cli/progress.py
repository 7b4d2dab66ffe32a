"""Showing how a task goes: a bar on a terminal, plain lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

_LINE_SECONDS: Final = 5.0
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


class Display(Protocol):
    """Shows a task each time that there is news of it."""

    def show(self, task: dict[str, Any]) -> None: ...


@contextmanager
def display(*, as_json: bool) -> Iterator[Display]:
    """The display that fits where the output goes."""
    if as_json:
        yield JsonLines()
    elif sys.stderr.isatty():
        with bar() as shown:
            yield shown
    else:
        yield PlainLines()


class JsonLines:
    """Every change as one line."""

    def show(self, task: dict[str, Any]) -> None:
        print(json.dumps(task), flush=True)


class PlainLines:
    """A line when the status changes, and every few seconds while bytes move."""

    def __init__(self) -> None:
        self._status = ""
        self._printed = 0.0

    def show(self, task: dict[str, Any]) -> None:
        now = time.monotonic()
        if task["status"] != self._status or now - self._printed >= _LINE_SECONDS:
            self._status, self._printed = task["status"], now
            print(line(task), file=sys.stderr, flush=True)


@contextmanager
def bar() -> Iterator[Display]:
    """A live bar on standard error."""
    from rich.console import Console  # imported here: only a terminal needs it
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        row = progress.add_task("queued", total=None)

        class Bar:
            def show(self, task: dict[str, Any]) -> None:
                transfer = task.get("transfer") or {}
                description = task["phase"] or task["status"]
                progress.update(
                    row,
                    description=description,
                    completed=transfer.get("bytes_done"),
                    total=transfer.get("bytes_total"),
                )

        yield Bar()


def line(task: dict[str, Any]) -> str:
    """A task in one line of text."""
    parts = [task["id"], task["phase"] or task["status"]]
    if task["progress"] is not None and task["status"] == "running":
        parts.append(f"{task['progress']} %")
    if transfer := task.get("transfer"):
        total = transfer["bytes_total"]
        parts.append(f"{size(transfer['bytes_done'])} of {size(total) if total is not None else 'unknown'}")
        parts.append(f"{size(transfer['bytes_per_second'])}/s")
    if task["error"]:
        parts.append(f"{task['error']['code']}: {task['error']['message']}")
    return "  ".join(parts)


def size(count: float) -> str:
    """Bytes for people."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"
