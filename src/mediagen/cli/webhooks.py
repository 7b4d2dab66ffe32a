"""``mediagen webhooks``."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel

from mediagen.app.telling import signing_secrets
from mediagen.cli.operating import Place, operate
from mediagen.core.clock import Clock
from mediagen.db.clock_record import last_known
from mediagen.db.connection import Database
from mediagen.settings import Settings
from mediagen.web.api.routing import validate
from mediagen.web.webhooks import routes as verbs


def rotate(place: Place, *, overlap_hours: float, as_json: bool) -> int:
    """Make a new signing secret and print it, this once; the exit status."""
    asked = {"overlap_seconds": round(overlap_hours * 3600)}

    async def in_database(database: Database, settings: Settings) -> BaseModel:
        secrets = await signing_secrets(database, settings, Clock(known=await last_known(database)))
        return await verbs.rotate(secrets, validate(verbs.SecretRotation, asked))

    def show(answer: dict[str, Any]) -> None:
        print(json.dumps(answer) if as_json else answer["secret"])
        if not as_json:
            print("Give the secret to your receivers now: it cannot be shown again.", file=sys.stderr)

    return operate(place, ("POST", "/v1/webhooks/secret/rotate", asked), in_database, show)
