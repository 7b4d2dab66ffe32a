"""Values as they stand in rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mediagen.core.errors import InvalidRequest


def time_text(moment: datetime) -> str:
    """UTC with microseconds, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def optional_time(moment: datetime | None) -> str | None:
    return None if moment is None else time_text(moment)


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


def json_text(value: Mapping[str, Any], *, canonical: bool = False) -> str:
    """JSON in ASCII, because a lone surrogate in a client's text has no UTF-8.

    ``canonical``: equal values give equal text.

    Raises:
        InvalidRequest: NaN or infinity, which JSON does not have.
    """
    try:
        return json.dumps(value, separators=(",", ":"), sort_keys=canonical, allow_nan=False)
    except ValueError as exc:
        raise InvalidRequest("numbers must be finite") from exc


def json_of(text: str) -> dict[str, Any]:
    """The object of a row; an empty one when another program left something else there."""
    value = json.loads(text)
    return value if isinstance(value, dict) else {}
