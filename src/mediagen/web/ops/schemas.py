"""Answers of the health routes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from mediagen.web.api.schemas import Said


class Live(Said):
    status: Literal["ok"] = "ok"


class CheckView(Said):
    ok: bool
    detail: str | None = None


class ClockView(Said):
    """The server's clock, once confirmed."""

    object: Literal["clock"] = "clock"
    now: datetime


class Readiness(Said):
    status: Literal["ok", "unavailable"]
    checks: dict[str, CheckView]


class LagView(Said):
    """How late the event loop was, in milliseconds."""

    last_milliseconds: float
    max_milliseconds: float = Field(description="the worst of the last minute")


class Health(Readiness):
    version: str
    uptime_seconds: float
    loop_lag: LagView
    tasks_live: int
    tasks_waiting: int
    feed_readers: int
    circuits_open: int = Field(description="providers that are paused after failures; the server still accepts work")
