"""``mediagen clock``."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from mediagen.cli.operating import Place, operate
from mediagen.core.clock import Clock
from mediagen.db import clock_record as known_time
from mediagen.db.connection import Database
from mediagen.settings import Settings
from mediagen.web.ops.schemas import ClockView


def confirm(place: Place, *, as_json: bool) -> int:
    """Say that the clock of this machine is right; the exit status."""

    async def in_database(database: Database, _settings: Settings) -> BaseModel:
        clock = Clock(known=await known_time.last_known(database))
        await known_time.confirm(database, clock)
        return ClockView(now=clock.now())

    def show(answer: dict[str, Any]) -> None:
        print(json.dumps(answer) if as_json else f"it is {answer['now']}")

    return operate(place, ("POST", "/v1/clock/confirm", None), in_database, show)
