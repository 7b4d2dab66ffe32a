"""Answers as bytes. Whatever stands in a row can be written: what has no JSON is repaired, and the log tells of it."""

from __future__ import annotations

import json
from typing import Any

import structlog
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from mediagen.core.text import repaired

log = structlog.get_logger("mediagen.web")


def as_json(model: BaseModel) -> bytes:
    """``model`` as one line of JSON in UTF-8."""
    try:
        return model.model_dump_json().encode()
    except ValueError as exc:  # also pydantic's own: no UTF-8, or nested too deeply
        log.warning("answer_repaired", model=type(model).__name__, error=str(exc))
        return text_as_json(model.model_dump()).encode()


def text_as_json(value: Any) -> str:
    """A document that we made of what others said, as JSON."""
    return json.dumps(repaired(value), default=to_jsonable_python)
