"""Errors that say which field of a script is at fault."""

from __future__ import annotations

from typing import TypeVar

from mediagen.core.errors import InvalidRequest

ErrorT = TypeVar("ErrorT", bound=InvalidRequest)


def error_at(field: str, text: str, kind: type[ErrorT] = InvalidRequest) -> ErrorT:  # type: ignore[assignment]
    """An error about ``field``, such as ``scenes[3].background.file_id``."""
    return kind(f"{field}: {text}", field=field, errors=[{"field": field, "message": text}])
